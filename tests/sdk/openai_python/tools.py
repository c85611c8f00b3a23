"""Tool calls, several in parallel, whole and streamed."""

import json

from openai import OpenAI

client = OpenAI(max_retries=0)
messages = [{"role": "user", "content": "weather in Paris and Oslo?"}]
parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
tools = [{"type": "function", "function": {"name": "weather", "parameters": parameters}}]

answer = client.chat.completions.create(model="tools", messages=messages, tools=tools)
calls = answer.choices[0].message.tool_calls
assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Oslo"], calls
assert answer.choices[0].finish_reason == "tool_calls"

with client.chat.completions.stream(model="tools", messages=messages, tools=tools) as stream:
    for _ in stream:
        pass
    final = stream.get_final_completion()
calls = final.choices[0].message.tool_calls
assert [call.id for call in calls] == ["call_0", "call_1"], calls
assert [json.loads(call.function.arguments)["city"] for call in calls] == ["Paris", "Oslo"], calls

# The conversation goes on with the results.
messages += [
    {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}} for call in calls]},
    *({"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls),
]
assert client.chat.completions.create(model="chat", messages=messages).choices[0].message.content
