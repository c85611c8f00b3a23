"""Refuses requests that mention a blocked word, and puts a notice on every answer.

A class is named as its interface in camel case. A case of a variant is a class `Variant_Case`, an `option` without a value
`None`; a function that returns a `result` raises `Err` with its error.
"""

import json

from componentize_py_types import Err
from wit_world.exports import on_request, on_response
from wit_world.imports.exchange import Call
from wit_world.imports.types import Rejection

# Set by `init`. Every exchange has an instance of its own, so nothing here is shared between two of them.
blocked: list[str] = []
notice: str = ""


class Lifecycle:
    def init(self, config: str) -> None:
        global blocked, notice
        blocked, notice = read(json.loads(config))


class OnRequest:
    def handle(self, call: Call) -> on_request.Outcome:
        for message in call.messages():
            text = message.text.casefold()
            word = next((word for word in blocked if word in text), None)
            if word is not None:
                call.tag("blocked", word)
                reason = f"message {message.index} mentions `{word}`"
                return on_request.Outcome_Reject(Rejection(400, "content_policy_violation", reason, []))
        return on_request.Outcome_Next()


class OnResponse:
    def handle(self, call: Call, status: int) -> on_response.Outcome:
        call.set_header("x-notice", notice)
        # A stream has no document yet.
        if status == 200 and call.body_len() > 0:
            call.set("/notice", json.dumps(notice))
        return on_response.Outcome_Next()


def read(config: object) -> tuple[list[str], str]:
    if not isinstance(config, dict):
        raise Err("`config` must be a mapping")
    unknown = next((name for name in config if name not in ("blocked", "notice")), None)
    if unknown is not None:
        raise Err(f"`{unknown}` is no setting; there are `blocked` and `notice`")
    words = config.get("blocked", [])
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise Err("`blocked` must be a list of words")
    text = config.get("notice")
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise Err("`notice` must be a line of printable ASCII, for it becomes a header")
    return [word.casefold() for word in words], text
