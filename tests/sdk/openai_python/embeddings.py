"""Embeddings in both encodings; the SDK asks for base64 unless told otherwise."""

from openai import OpenAI

client = OpenAI(max_retries=0)

for encoding in {}, {"encoding_format": "float"}:
    for given, count in ("a", 1), (["a", "b"], 2), ([[1, 2], [3]], 2):
        answer = client.embeddings.create(model="embed", input=given, **encoding)
        assert [item.embedding for item in answer.data] == [[0.25, -0.5]] * count, answer

answer = client.embeddings.create(model="embed", input="a", encoding_format="base64")
assert answer.data[0].embedding == "AACAPgAAAL8=", answer
