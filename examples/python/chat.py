"""A question and its answer, whole and as a stream: the SDK as it is, with another `base_url`."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("WITGATE_URL", "http://localhost:8000/v1"),
    # One of the gateway's own keys, where it has any; the upstreams' keys stay in the gateway.
    api_key=os.environ.get("WITGATE_KEY", "none"),
)
model = os.environ.get("MODEL", "echo")
question = [{"role": "user", "content": "hello out there"}]

answer = client.chat.completions.create(model=model, messages=question)
print(answer.choices[0].message.content)

stream = client.chat.completions.create(
    model=model, messages=question, stream=True, stream_options={"include_usage": True}
)
for chunk in stream:
    # The last chunk has the usage and no choice.
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    elif chunk.usage:
        print(f"\n{chunk.usage.total_tokens} tokens")
