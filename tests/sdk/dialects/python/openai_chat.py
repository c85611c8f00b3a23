"""OpenAI's client, chat completions."""

import json

import openai
from pydantic import BaseModel

from scenarios import RARE, WEATHER

STOPS = {"stop": "stop", "length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}


class Place(BaseModel):
    city: str
    degrees: int


class Client:
    errors = openai.OpenAIError, openai.APIError

    def __init__(self, url, prefix):
        self.sdk = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-caller", max_retries=0)
        self.prefix = prefix

    def can(self, scenario):
        return scenario not in RARE or scenario == "embeddings"

    def session(self, story, is_stream, **options):
        return Session(self, self.prefix + story, is_stream, options)

    def told(self, error):
        return told(error)

    def parsed(self, story):
        answer = self.sdk.chat.completions.parse(
            model=self.prefix + story, messages=[{"role": "user", "content": "hi"}], response_format=Place
        )
        with self.sdk.chat.completions.stream(
            model=self.prefix + story, messages=[{"role": "user", "content": "hi"}], response_format=Place
        ) as stream:
            streamed = stream.get_final_completion()
        return [found.choices[0].message.parsed.model_dump() for found in (answer, streamed)]

    def orphan(self):
        self.sdk.chat.completions.create(
            model=self.prefix + "plain",
            messages=[{"role": "user", "content": "hi"}, {"role": "tool", "tool_call_id": "call_9", "content": "20"}],
        )

    def embeddings(self, story):
        one = self.sdk.embeddings.create(model=self.prefix + story, input="a")
        two = self.sdk.embeddings.create(model=self.prefix + story, input=["a", "b"], encoding_format="float")
        return {"one": [item.embedding for item in one.data], "two": [item.embedding for item in two.data]}

    def models(self):
        return sorted(model.id for model in self.sdk.models.list())


def told(error):
    # A stream that failed after its head has no status of its own.
    status = getattr(error, "status_code", None)
    retry = error.response.headers.get("retry-after") if status else None
    message = getattr(error, "message", "") if status else ""
    return {"class": type(error).__name__, "status": status, "retry_after": retry, "says": said(message)}


def said(message):
    return "as you wish" if "as you wish" in message else None


class Session:
    def __init__(self, client, model, is_stream, options):
        self.client, self.model, self.is_stream = client, model, is_stream
        self.history = []
        for text in options.get("system", []):
            self.history.append({"role": "system", "content": text})
        for text in options.get("developer", []):
            self.history.append({"role": "developer", "content": text})
        self.arguments = {name: options[name] for name in ("max_tokens", "temperature", "top_p", "stop") if name in options}
        if options.get("thinking"):
            self.arguments["reasoning_effort"] = "low"
        if options.get("tools"):
            function = {"name": "weather", "description": "Tells the weather.", "parameters": WEATHER, "strict": True}
            self.arguments["tools"] = [{"type": "function", "function": function}]
        choice = options.get("choice")
        if choice:
            named = {"type": "function", "function": {"name": choice.removeprefix("named:")}}
            self.arguments["tool_choice"] = named if choice.startswith("named:") else choice
        if "parallel" in options:
            self.arguments["parallel_tool_calls"] = options["parallel"]

    def say(self, parts):
        content = parts if isinstance(parts, str) else [part(*part_) for part_ in parts]
        self.history.append({"role": "user", "content": content})
        return self.ask()

    def outcomes(self, outcomes):
        for number, outcome in outcomes:
            self.history.append({"role": "tool", "tool_call_id": self.ids[number], "content": json.dumps(outcome)})
        return self.ask()

    def ask(self):
        create = self.client.sdk.chat.completions
        arguments = {"model": self.model, "messages": self.history, **self.arguments}
        if self.is_stream:
            answer = self.streamed(create.stream(**arguments, stream_options={"include_usage": True}))
        else:
            answer = create.create(**arguments)
        assert len(answer.choices) == 1, answer
        message = answer.choices[0].message
        self.history.append(as_param(message))
        self.ids = [call.id for call in message.tool_calls or []]
        usage = answer.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage
        inside, outside = usage.prompt_tokens_details, usage.completion_tokens_details
        return {
            "text": message.content or "",
            "thinking": getattr(message, "reasoning_content", None) or "",
            "calls": [
                {"id": call.id, "name": call.function.name, "arguments": json.loads(call.function.arguments)}
                for call in message.tool_calls or []
            ],
            "stop": STOPS[answer.choices[0].finish_reason],
            "usage": [
                usage.prompt_tokens,
                usage.completion_tokens,
                (inside and inside.cached_tokens) or 0,
                (outside and outside.reasoning_tokens) or 0,
            ],
            "model": answer.model,
        }

    def streamed(self, manager):
        try:
            with manager as stream:
                return stream.get_final_completion()
        except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError) as error:
            # What was cut off is an answer all the same.
            return error.completion


def part(kind, value):
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{value}"}}
    return {"type": "text", "text": value}


def as_param(message):
    """The message as its user gives it back, without what only the helper for streams adds."""
    param = message.model_dump(mode="json", exclude_unset=True)
    param.pop("parsed", None)
    for call in param.get("tool_calls") or []:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    return {name: value for name, value in param.items() if value is not None}
