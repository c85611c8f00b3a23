"""Chat and completions: whole and streamed, the way the SDK's own examples do it."""

from openai import OpenAI

client = OpenAI(max_retries=0)
messages = [{"role": "user", "content": "hi"}]

answer = client.chat.completions.create(model="chat", messages=messages, temperature=0.7, seed=2**53 + 1)
assert answer.choices[0].message.content == "Hello, wörld", answer
assert answer.usage.total_tokens == 5

# Code in the field reads choices[0] of every chunk; none may come without a choice unless usage was asked for.
chunks = list(client.chat.completions.create(model="chat", messages=messages, stream=True))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello, wörld", chunks
assert all(chunk.usage is None for chunk in chunks)
assert chunks[-1].choices[0].finish_reason == "stop"

chunks = list(
    client.chat.completions.create(
        model="chat", messages=messages, stream=True, stream_options={"include_usage": True}
    )
)
assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 7, chunks[-1]

with client.chat.completions.stream(model="chat-alias", messages=messages) as stream:
    texts = [event.delta for event in stream if event.type == "content.delta"]
    assert "".join(texts) == "Hello, wörld", texts

for prompt, expected in ("a", '"a"'), (["a", "b"], '["a","b"]'), ([1, 2], "[1,2]"), ([[1], [2]], "[[1],[2]]"):
    answer = client.completions.create(model="text", prompt=prompt)
    assert answer.choices[0].text == expected, answer

raw = client.chat.completions.with_raw_response.create(model="chat", messages=messages)
assert raw.headers["x-request-id"]
assert raw.headers["x-witgate-upstream"] == "one"
assert raw.parse().choices[0].message.content == "Hello, wörld"
