"""Anthropic's client."""

import json

import anthropic
import httpx2
from pydantic import BaseModel

from openai_chat import said
from scenarios import WEATHER

STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class Place(BaseModel):
    city: str
    degrees: int


class Client:
    errors = anthropic.AnthropicError, httpx2.HTTPError

    def __init__(self, url, prefix):
        self.sdk = anthropic.Anthropic(base_url=url, api_key="sk-caller", max_retries=0)
        self.prefix = prefix

    def can(self, scenario):
        return scenario not in ("embeddings", "chat")

    def session(self, story, is_stream, **options):
        return Session(self, self.prefix + story, is_stream, options)

    def told(self, error):
        status = getattr(error, "status_code", None)
        # An error in a stream has the status of its head.
        is_told = status not in (None, 200)
        retry = error.response.headers.get("retry-after") if is_told else None
        kind = getattr(error, "type", None)
        message = getattr(error, "api_message", None) or ""
        name = type(error).__name__
        return {"class": name, "status": status, "type": kind, "retry_after": retry, "says": said(message)}

    def parsed(self, story):
        arguments = {"model": self.prefix + story, "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
        answer = self.sdk.messages.parse(**arguments, output_format=Place)
        with self.sdk.messages.stream(**arguments, output_format=Place) as stream:
            streamed = stream.get_final_message()
        return [found.parsed_output.model_dump() for found in (answer, streamed)]

    def orphan(self):
        result = {"type": "tool_result", "tool_use_id": "toolu_9", "content": "20"}
        self.sdk.messages.create(
            model=self.prefix + "plain", max_tokens=100, messages=[{"role": "user", "content": [result]}]
        )

    def count(self, story):
        messages = [{"role": "user", "content": "hi"}]
        return self.sdk.messages.count_tokens(model=self.prefix + story, messages=messages, system="Be brief.").input_tokens

    def models(self):
        return sorted(model.id for model in self.sdk.models.list())


class Session:
    def __init__(self, client, model, is_stream, options):
        self.client, self.model, self.is_stream = client, model, is_stream
        self.history = []
        self.arguments = {"max_tokens": options.get("max_tokens", 4000)}
        sampling = {name: options[name] for name in ("temperature", "top_p") if name in options}
        if sampling:
            # The client has no words for them any more; the API has.
            self.arguments["extra_body"] = sampling
        if "stop" in options:
            self.arguments["stop_sequences"] = options["stop"]
        system = options.get("system", []) + options.get("developer", [])
        if system:
            self.arguments["system"] = [{"type": "text", "text": text} for text in system]
        if options.get("thinking"):
            self.arguments["thinking"] = {"type": "enabled", "budget_tokens": 2000}
        if options.get("tools"):
            tool = {"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER}
            self.arguments["tools"] = [tool]
        choice = options.get("choice")
        if choice:
            kinds = {"auto": "auto", "none": "none", "required": "any"}
            named = {"type": "tool", "name": choice.removeprefix("named:")}
            self.arguments["tool_choice"] = named if choice.startswith("named:") else {"type": kinds[choice]}
        if "parallel" in options:
            self.arguments["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": not options["parallel"]}

    def say(self, parts):
        content = parts if isinstance(parts, str) else [part(*part_) for part_ in parts]
        self.history.append({"role": "user", "content": content})
        return self.ask()

    def outcomes(self, outcomes):
        results = [
            {"type": "tool_result", "tool_use_id": self.ids[number], "content": json.dumps(outcome)}
            for number, outcome in outcomes
        ]
        self.history.append({"role": "user", "content": results})
        return self.ask()

    def ask(self):
        arguments = {"model": self.model, "messages": self.history, **self.arguments}
        if self.is_stream:
            with self.client.sdk.messages.stream(**arguments) as stream:
                answer = stream.get_final_message()
        else:
            answer = self.client.sdk.messages.create(**arguments)
        assert answer.type == "message" and answer.role == "assistant" and answer.id.startswith("msg_"), answer
        self.history.append({"role": "assistant", "content": answer.content})
        blocks = answer.content
        calls = [
            {"id": block.id, "name": block.name, "arguments": block.input} for block in blocks if block.type == "tool_use"
        ]
        self.ids = [call["id"] for call in calls]
        usage = answer.usage
        cached, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
        details = usage.output_tokens_details
        return {
            "text": "".join(block.text for block in blocks if block.type == "text"),
            "thinking": "".join(block.thinking for block in blocks if block.type == "thinking"),
            "calls": calls,
            "stop": STOPS[answer.stop_reason],
            "usage": [
                usage.input_tokens + cached + written,
                usage.output_tokens,
                cached,
                (details and details.thinking_tokens) or 0,
            ],
            "model": answer.model,
            **({"word": answer.stop_sequence} if answer.stop_sequence else {}),
        }


def part(kind, value):
    if kind == "image":
        return {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": value}}
    return {"type": "text", "text": value}
