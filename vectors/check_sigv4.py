"""Signs the requests of vectors/sigv4/requests.json with botocore, and compares.

    pip install botocore && python3 vectors/check_sigv4.py vectors/sigv4/requests.json [--write]
"""

import datetime
import json
import sys

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials


def sign(case):
    when = datetime.datetime.strptime(case["time"], "%Y%m%dT%H%M%SZ")
    botocore.auth.get_current_datetime = lambda *_: when
    url = f"https://{case['host']}{case['path']}"
    if case["query"]:
        url += "?" + case["query"]
    request = AWSRequest(case["method"], url, headers=dict(case["headers"]), data=case["body"] or b"")
    request.headers["Host"] = case["host"]
    key = Credentials(case["access_key_id"], case["secret_access_key"], case.get("session_token"))
    s3 = case["service"] == "s3"
    signer = botocore.auth.S3SigV4Auth if s3 else botocore.auth.SigV4Auth
    if s3:
        request.context["client_config"] = Config(s3={"payload_signing_enabled": case["body"] is not None})
    signer(key, case["service"], case["region"]).add_auth(request)
    names = ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"]
    return {name: request.headers[name] for name in names if name in request.headers}


def main(path, *flags):
    with open(path) as file:
        cases = json.load(file)
    wrong = 0
    for case in cases:
        signed = sign(case)
        if "--write" in flags:
            case["signed"] = signed
        elif case["signed"] != signed:
            wrong += 1
            print(case["comment"], case["signed"], signed, sep="\n  ")
    if "--write" in flags:
        with open(path, "w") as file:
            json.dump(cases, file, indent=2, ensure_ascii=False)
            file.write("\n")
    print(f"{len(cases)} requests, {wrong} signed differently")
    sys.exit(wrong > 0)


main(*sys.argv[1:])
