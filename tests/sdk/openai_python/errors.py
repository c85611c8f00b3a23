"""Every failure arrives as the SDK's own class, and its retries work."""

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
messages = [{"role": "user", "content": "hi"}]


def raised(kind, **arguments):
    try:
        client.chat.completions.create(**{"model": "chat", "messages": messages, **arguments})
    except openai.APIError as error:
        assert type(error) is kind, f"{error!r} is no {kind}"
        return error
    raise AssertionError(f"{kind} was expected")


for status, kind in {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
    500: openai.InternalServerError,
}.items():
    for stream in False, True:
        error = raised(kind, model=f"error-{status}", stream=stream)
        assert error.status_code == status
        assert error.body["message"] == "as you wish", error.body
        assert error.response.headers["x-upstream-said"] == "so"

# The gateway's own refusals.
error = raised(openai.NotFoundError, model="nobody")
assert error.code == "model_not_found" and error.request_id, error.body
error = raised(openai.BadRequestError, messages=[])
assert error.param == "messages", error.body
error = raised(openai.BadRequestError, extra_body={"stop": 5})
assert error.param == "stop", error.body

# A stream that breaks raises instead of ending well.
text = ""
try:
    for chunk in client.chat.completions.create(model="broken", messages=messages, stream=True):
        text += chunk.choices[0].delta.content or ""
    raise AssertionError("a cut stream is no success")
except openai.APIError as error:
    assert text == "half" and error.message, error

try:
    client.with_options(timeout=0.3).chat.completions.create(model="slow", messages=messages)
    raise AssertionError("a time-out was expected")
except openai.APITimeoutError:
    pass

# 429 and then 503 with the pause that the upstream names: the third try succeeds.
answer = client.with_options(max_retries=2).chat.completions.create(model="flaky", messages=messages, user="python")
assert answer.choices[0].message.content == "try 3", answer
try:
    client.with_options(max_retries=1).chat.completions.create(model="flaky", messages=messages, user="python-2")
    raise AssertionError("two tries are not enough")
except openai.InternalServerError as error:
    assert error.status_code == 503
