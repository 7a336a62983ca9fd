"""The OpenAI SDK as its users use it: a base URL, a key, three kinds of call. Then it waits."""

import gc
import json
import os
import sys

from openai import OpenAI

tenant = os.environ["SDK_TENANT"]
client = OpenAI(
    base_url=os.environ["SDK_BASE_URL"],
    api_key=os.environ["SDK_KEY"],
    # Only a key that is good for several tenants has to name one.
    default_headers={"Keystead-Tenant": tenant} if tenant else None,
    max_retries=0,
)
messages = [{"role": "user", "content": "Hello"}]


def say(word, value):
    print(word, json.dumps(value), flush=True)


def words(chunk):
    return chunk.choices[0].delta.content or ""


say("models", [model.id for model in client.models.list()])
whole = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
say("whole", whole.choices[0].message.content)
stream = client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True)
say("streamed", "".join(words(chunk) for chunk in stream))
stream = client.chat.completions.create(model="gated", messages=messages, stream=True)
first = next(stream)
say("first", words(first))
say("last", words(first) + "".join(words(chunk) for chunk in stream))
held = [repr(client), repr(vars(client)), repr(dict(os.environ)), repr(sys.argv), repr(whole)]
held += [text for text in gc.get_objects() if isinstance(text, str)]
say("holds", held)
sys.stdin.read()
