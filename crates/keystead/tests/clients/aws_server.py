"""moto as AWS with authentication: a user is made with the free calls, and then none is free."""

import json
import os
import sys

# Exactly the calls below. Read when moto is imported.
FREE = 5
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(FREE)

import boto3
from botocore.config import Config
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://127.0.0.1:{port}"
iam = boto3.client(
    "iam",
    endpoint_url=url,
    region_name="us-east-1",
    aws_access_key_id="free",
    aws_secret_access_key="free",
    config=Config(retries={"max_attempts": 0}),
)
iam.create_user(UserName="backend")
everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
iam.put_user_policy(UserName="backend", PolicyName="all", PolicyDocument=json.dumps(everything))
trust = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}]}
role = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=json.dumps(trust))["Role"]
iam.put_role_policy(RoleName="reader", PolicyName="all", PolicyDocument=json.dumps(everything))
key = iam.create_access_key(UserName="backend")["AccessKey"]
print(
    json.dumps(
        {
            "url": url,
            "access_key_id": key["AccessKeyId"],
            "secret_access_key": key["SecretAccessKey"],
            "role": role["Arn"],
        }
    ),
    flush=True,
)
sys.stdin.read()
