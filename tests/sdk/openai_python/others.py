"""Responses, models, moderations, and a path that only the default upstream knows."""

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)

answer = client.responses.create(model="respond", input="hi")
assert answer.output_text == "Hello", answer
events = list(client.responses.create(model="respond", input="hi", stream=True))
assert [event.type for event in events] == ["response.created", "response.output_text.delta", "response.completed"]
assert events[-1].response.usage.total_tokens == 2

ids = [model.id for model in client.models.list()]
assert "chat" in ids and "text" in ids and "unrelated" not in ids, ids
assert client.models.retrieve("chat").id == "chat"
try:
    client.models.retrieve("nobody")
    raise AssertionError("there is no such model")
except openai.NotFoundError:
    pass

assert client.moderations.create(model="chat", input="hi").results == []
assert list(client.files.list()) == []
