"""What the SDK makes of refusals: its own exceptions, with a code to act on."""

import json
import os

import openai


def call(word, key):
    client = openai.OpenAI(base_url=os.environ["SDK_BASE_URL"], api_key=key, max_retries=0)
    try:
        client.models.list()
    except openai.APIStatusError as error:
        print(word, json.dumps([type(error).__name__, error.status_code, error.code]), flush=True)


call("missing", os.environ["SDK_ALICE"])
call("nobody", "sk-no-token-of-keystead")
