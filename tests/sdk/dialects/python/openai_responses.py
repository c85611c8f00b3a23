"""OpenAI's client, Responses."""

import json

import openai

from openai_chat import Client as ChatClient, Place
from scenarios import RARE, WEATHER


class Client(ChatClient):
    def can(self, scenario):
        # The API has no stop words.
        return scenario not in RARE and scenario not in ("word", "models")

    def session(self, story, is_stream, **options):
        return Session(self, self.prefix + story, is_stream, options)

    def parsed(self, story):
        answer = self.sdk.responses.parse(model=self.prefix + story, input="hi", text_format=Place)
        with self.sdk.responses.stream(model=self.prefix + story, input="hi", text_format=Place) as stream:
            streamed = stream.get_final_response()
        return [found.output_parsed.model_dump() for found in (answer, streamed)]

    def orphan(self):
        output = {"type": "function_call_output", "call_id": "call_9", "output": "20"}
        self.sdk.responses.create(model=self.prefix + "plain", input=[{"role": "user", "content": "hi"}, output])


class Failed(openai.OpenAIError):
    """An event says that the answer failed."""


class Session:
    def __init__(self, client, model, is_stream, options):
        self.client, self.model, self.is_stream = client, model, is_stream
        self.history = []
        self.arguments = {name: options[name] for name in ("temperature", "top_p") if name in options}
        if "max_tokens" in options:
            self.arguments["max_output_tokens"] = options["max_tokens"]
        system = list(options.get("system", []))
        if system:
            self.arguments["instructions"] = system.pop(0)
        for role, texts in ("system", system), ("developer", options.get("developer", [])):
            for text in texts:
                self.history.append({"role": role, "content": text})
        if options.get("thinking"):
            self.arguments["reasoning"] = {"effort": "low", "summary": "auto"}
            self.arguments["include"] = ["reasoning.encrypted_content"]
            self.arguments["store"] = False
        if options.get("tools"):
            tool = {"name": "weather", "description": "Tells the weather.", "parameters": WEATHER, "strict": True}
            self.arguments["tools"] = [{"type": "function", **tool}]
        choice = options.get("choice")
        if choice:
            named = {"type": "function", "name": choice.removeprefix("named:")}
            self.arguments["tool_choice"] = named if choice.startswith("named:") else choice
        if "parallel" in options:
            self.arguments["parallel_tool_calls"] = options["parallel"]

    def say(self, parts):
        content = parts if isinstance(parts, str) else [part(*part_) for part_ in parts]
        self.history.append({"role": "user", "content": content})
        return self.ask()

    def outcomes(self, outcomes):
        for number, outcome in outcomes:
            output = {"type": "function_call_output", "call_id": self.ids[number], "output": json.dumps(outcome)}
            self.history.append(output)
        return self.ask()

    def ask(self):
        arguments = {"model": self.model, "input": self.history, **self.arguments}
        create = self.client.sdk.responses.create
        answer = self.streamed(create(**arguments, stream=True)) if self.is_stream else create(**arguments)
        calls, thoughts = [], []
        for item in answer.output:
            if item.type == "function_call":
                calls.append({"id": item.call_id, "name": item.name, "arguments": json.loads(item.arguments)})
            elif item.type == "reasoning":
                thoughts += [summary.text for summary in item.summary]
        self.history += [item.model_dump(mode="json", exclude_none=True) for item in answer.output]
        self.ids = [call["id"] for call in calls]
        reason = answer.incomplete_details and answer.incomplete_details.reason
        assert answer.status == ("incomplete" if reason else "completed"), answer
        stop = {"max_output_tokens": "length", "content_filter": "content_filter", None: "stop"}[reason]
        usage = answer.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens, usage
        return {
            "text": answer.output_text,
            "thinking": "".join(thoughts),
            "calls": calls,
            "stop": "tool_calls" if calls else stop,
            "usage": [
                usage.input_tokens,
                usage.output_tokens,
                usage.input_tokens_details.cached_tokens,
                usage.output_tokens_details.reasoning_tokens,
            ],
            "model": answer.model,
        }

    def streamed(self, stream):
        """The answer that the stream ends with; what was told before it is the same."""
        items, texts, summaries, arguments, answer, numbers = [], {}, {}, {}, None, []
        for event in stream:
            numbers.append(event.sequence_number)
            kind = event.type
            if kind == "error":
                raise Failed(event.message)
            if kind == "response.failed":
                raise Failed(event.response.error.message)
            if kind == "response.output_item.done":
                items.append((event.output_index, event.item))
            for name, found in (
                ("response.output_text.delta", texts),
                ("response.reasoning_summary_text.delta", summaries),
                ("response.function_call_arguments.delta", arguments),
            ):
                if kind == name:
                    found[event.output_index] = found.get(event.output_index, "") + event.delta
            if kind in ("response.completed", "response.incomplete"):
                answer = event.response
        if answer is None:
            raise Failed("the stream ended before its answer did")
        assert numbers == list(range(len(numbers))), numbers
        assert [item for _, item in sorted(items, key=lambda pair: pair[0])] == answer.output, (items, answer.output)
        for index, item in enumerate(answer.output):
            if item.type == "message":
                assert texts.get(index, "") == "".join(part.text for part in item.content), (texts, item)
            elif item.type == "function_call":
                assert arguments.get(index, "") == item.arguments, (arguments, item)
            elif item.type == "reasoning":
                assert summaries.get(index, "") == "".join(part.text for part in item.summary), (summaries, item)
        return answer


def part(kind, value):
    if kind == "image":
        return {"type": "input_image", "image_url": f"data:image/png;base64,{value}", "detail": "auto"}
    return {"type": "input_text", "text": value}
