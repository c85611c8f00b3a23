"""Google's client."""

import base64

import httpx2
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from openai_chat import said
from scenarios import WEATHER

STOPS = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "PROHIBITED_CONTENT": "content_filter"}


class Place(BaseModel):
    city: str
    degrees: int


def weather(city: str, days: int) -> dict:
    """Tells the weather."""
    return {"degrees": len(city)}


class Client:
    errors = errors.APIError, httpx2.HTTPError, ValueError

    def __init__(self, url, prefix):
        options = types.HttpOptions(base_url=url, retry_options=types.HttpRetryOptions(attempts=1))
        self.sdk = genai.Client(api_key="sk-caller", http_options=options)
        self.prefix = prefix

    def can(self, scenario):
        return True

    def session(self, story, is_stream, **options):
        return Session(self, self.prefix + story, is_stream, options)

    def told(self, error):
        status, kind = getattr(error, "code", None), getattr(error, "status", None)
        response = getattr(error, "response", None)
        retry = response.headers.get("retry-after") if response is not None and status == 429 else None
        message = getattr(error, "message", None) or ""
        name = type(error).__name__
        return {"class": name, "status": status, "type": kind, "retry_after": retry, "says": said(message)}

    def parsed(self, story):
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Place)
        answer = self.sdk.models.generate_content(model=self.prefix + story, contents="hi", config=config)
        chunks = self.sdk.models.generate_content_stream(model=self.prefix + story, contents="hi", config=config)
        streamed = Place.model_validate_json("".join(chunk.text or "" for chunk in chunks))
        return [answer.parsed.model_dump(), streamed.model_dump()]

    def orphan(self):
        part = types.Part.from_function_response(name="weather", response={"degrees": 20})
        contents = [types.Content(role="user", parts=[part])]
        self.sdk.models.generate_content(model=self.prefix + "plain", contents=contents)

    def count(self, story):
        return self.sdk.models.count_tokens(model=self.prefix + story, contents="hi").total_tokens

    def embeddings(self, story):
        embed = self.sdk.models.embed_content
        one, two = embed(model=self.prefix + story, contents="a"), embed(model=self.prefix + story, contents=["a", "b"])
        return {name: [item.values for item in answer.embeddings] for name, answer in (("one", one), ("two", two))}

    def models(self):
        return sorted(model.name for model in self.sdk.models.list())

    def chat(self, story):
        """The SDK calls the functions by itself, and keeps the history."""

        def talk(is_stream):
            chat = self.sdk.chats.create(model=self.prefix + story, config=types.GenerateContentConfig(tools=[weather]))
            if not is_stream:
                return [chat.send_message("hi").text, chat.send_message("thanks").text]
            return [
                "".join(
                    part.text or ""
                    for chunk in chat.send_message_stream(text)
                    for part in (chunk.candidates[0].content.parts or [])
                )
                for text in ("hi", "thanks")
            ]

        return {"whole": talk(False), "stream": talk(True)}


class Session:
    def __init__(self, client, model, is_stream, options):
        self.client, self.model, self.is_stream = client, model, is_stream
        self.history = []
        config = {name: options[name] for name in ("temperature", "top_p") if name in options}
        if "max_tokens" in options:
            config["max_output_tokens"] = options["max_tokens"]
        if "stop" in options:
            config["stop_sequences"] = options["stop"]
        system = options.get("system", []) + options.get("developer", [])
        if system:
            config["system_instruction"] = [types.Part.from_text(text=text) for text in system]
        if options.get("thinking"):
            config["thinking_config"] = types.ThinkingConfig(include_thoughts=True, thinking_budget=2000)
        if options.get("tools"):
            function = types.FunctionDeclaration(
                name="weather", description="Tells the weather.", parameters_json_schema=WEATHER
            )
            config["tools"] = [types.Tool(function_declarations=[function])]
        choice = options.get("choice")
        if choice:
            named = choice.startswith("named:")
            mode = "ANY" if named else {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice]
            names = [choice.removeprefix("named:")] if named else None
            calling = types.FunctionCallingConfig(mode=mode, allowed_function_names=names)
            config["tool_config"] = types.ToolConfig(function_calling_config=calling)
        config["automatic_function_calling"] = types.AutomaticFunctionCallingConfig(disable=True)
        self.config = types.GenerateContentConfig(**config)

    def say(self, parts):
        parts = [types.Part.from_text(text=parts)] if isinstance(parts, str) else [part(*part_) for part_ in parts]
        return self.ask(types.Content(role="user", parts=parts))

    def outcomes(self, outcomes):
        parts = []
        # The client has no ids where the upstream gives none: then the order tells.
        has_ids = all(call.id for call in self.calls)
        for number, outcome in outcomes if has_ids else sorted(outcomes, key=lambda pair: pair[0]):
            call = self.calls[number]
            response = types.FunctionResponse(id=call.id, name=call.name, response=outcome)
            parts.append(types.Part(function_response=response))
        return self.ask(types.Content(role="user", parts=parts))

    def ask(self, content):
        self.history.append(content)
        arguments = {"model": self.model, "contents": self.history, "config": self.config}
        models = self.client.sdk.models
        if self.is_stream:
            chunks = list(models.generate_content_stream(**arguments))
        else:
            chunks = [models.generate_content(**arguments)]
        parts, finish = [], None
        for chunk in chunks:
            candidate = chunk.candidates[0]
            parts += (candidate.content and candidate.content.parts) or []
            finish = finish or candidate.finish_reason
        self.history.append(types.Content(role="model", parts=parts))
        self.calls = [part.function_call for part in parts if part.function_call]
        # Without a finish the stream is no whole answer.
        if finish is None:
            raise ValueError("the stream ended before its answer did")
        usage = chunks[-1].usage_metadata
        thoughts = usage.thoughts_token_count or 0
        output = (usage.candidates_token_count or 0) + thoughts
        assert usage.total_token_count == usage.prompt_token_count + output, usage
        return {
            "text": "".join(part.text for part in parts if part.text and not part.thought),
            "thinking": "".join(part.text for part in parts if part.text and part.thought),
            "calls": [
                {"id": call.id or f"#{place}", "name": call.name, "arguments": call.args}
                for place, call in enumerate(self.calls)
            ],
            "stop": "tool_calls" if self.calls else STOPS[finish.value],
            "usage": [usage.prompt_token_count, output, usage.cached_content_token_count or 0, thoughts],
            "model": chunks[-1].model_version,
        }


def part(kind, value):
    if kind == "image":
        return types.Part.from_bytes(data=base64.b64decode(value), mime_type="image/png")
    return types.Part.from_text(text=value)
