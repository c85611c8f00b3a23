"""Holds the description of the admin listener against OpenAPI, and the gateway's answers against the description.

usage: check.py ADMIN_URL TOKEN
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

URL, TOKEN = sys.argv[1], sys.argv[2]

# What stands in a path for a name, and what is posted, by operation.
NAMES = {"adjustUpstream": ["echo", "two%2Fspare"]}
BODIES = {
    "adjustUpstream": [{"enabled": False, "weight": 3}, {"enabled": None, "weight": None}],
    "explainRequest": [
        {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
        {"model": "nobody takes this", "prompt": "hi"},
        {"model": "m", "input": "hi"},
    ],
}
# Queries besides the examples of the parameters.
QUERIES = {
    "explainText": [{"model": "m"}, {"model": "nobody takes this", "text": "hi", "tenant": "t"}],
    "exchanges": [{}, {"limit": "1"}, {"outcome": "complete", "label": "a:b"}],
}
# Requests that are refused, and with what.
REFUSED = [
    ("GET", "/admin/config?colour=red", None, 400),
    ("GET", "/admin/explain", None, 400),
    ("POST", "/admin/upstreams/echo", {"colour": "red"}, 400),
    ("POST", "/admin/upstreams/nobody", {"enabled": True}, 404),
    ("GET", "/admin/audit?colour=red", None, 400),
    ("GET", "/admin/audit/nothing", None, 404),
]


def ask(method, target, body=None, token=TOKEN):
    """Sends a request; gives status, content type and body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + target, data, method=method)
    request.add_header("content-type", "application/json")
    if token:
        request.add_header("authorization", "Bearer " + token)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def resolve(description, node):
    """Follows a reference inside the description."""
    while "$ref" in node:
        target = description
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = target
    return node


def check(description, what, operation, status, content_type, body):
    """Holds one answer against what the description says of that status."""
    assert str(status) in operation["responses"], f"{what}: status {status} is not described: {body[:300]}"
    response = resolve(description, operation["responses"][str(status)])
    if not response.get("content"):
        assert body == b"", f"{what}: {status} has a body"
        return
    assert content_type in response["content"], f"{what}: {status} comes as {content_type}"
    if content_type == "application/json":
        schema = {**response["content"][content_type]["schema"], "components": description["components"]}
        problems = list(Draft202012Validator(schema).iter_errors(json.loads(body)))
        shown = [f"{problem.json_path}: {problem.message}" for problem in problems]
        assert not problems, f"{what}: " + "; ".join(shown[:5])


def queries(operation_id, parameters):
    """The queries an operation is asked with: the examples together, and those of the table."""
    examples = {
        parameter["name"]: parameter["example"]
        for parameter in parameters
        if parameter["in"] == "query" and "example" in parameter
    }
    return [examples, *QUERIES.get(operation_id, [])]


def exchanges():
    """Numbers of recorded exchanges, if any are."""
    _, _, body = ask("GET", "/admin/audit")
    return [exchange["id"] for exchange in json.loads(body).get("exchanges", [])]


def main():
    status, _, body = ask("GET", "/admin/openapi.json")
    assert status == 200, body
    description = json.loads(body)
    OpenAPIV31SpecValidator(description).validate()
    NAMES["exchange"] = exchanges()[:3] if "/admin/audit" in description["paths"] else []
    asked = 0
    for path, item in description["paths"].items():
        for method, operation in item.items():
            operation_id, method = operation["operationId"], method.upper()
            names = NAMES.get(operation_id, [""] if "{" not in path else [])
            for name in names:
                target = path.split("{")[0] + name
                for query in queries(operation_id, operation.get("parameters", [])):
                    text = "?" + urllib.parse.urlencode(query) if query else ""
                    for body in BODIES.get(operation_id, [{} if method == "POST" else None]):
                        what = f"{method} {target}{text}"
                        answer = ask(method, target + text, body)
                        assert answer[0] == 200, f"{what}: {answer}"
                        check(description, what, operation, *answer)
                        asked += 1
            if TOKEN and operation.get("security") != []:
                what = f"{method} {path} without the token"
                answer = ask(method, path.replace("{", "").replace("}", ""), {}, token=None)
                assert answer[0] == 401, f"{what}: {answer}"
                check(description, what, operation, *answer)
    for method, target, body, status in REFUSED:
        path = target.split("?")[0]
        known = [known for known in description["paths"] if path == known or known.endswith("}") and path.startswith(known.split("{")[0])]
        answer = ask(method, target, body)
        assert answer[0] == status, f"{method} {target}: {answer}"
        check(description, f"{method} {target}", description["paths"][known[0]][method.lower()], *answer)
    print(f"{asked} answers are as they are described")


main()
