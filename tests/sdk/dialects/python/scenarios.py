"""What is asked of every client, in words that all of them have.

A client gives answers as objects of `text`, `thinking`, `calls`, `stop`, `word`, `usage` and `model`; its sessions hold the
history as the SDK's own objects, the way its users do.
"""

import json

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer"},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}


def both(ask):
    """The same asked whole and streamed: one answer if it is the same."""
    whole, stream = ask(False), ask(True)
    return {"both": whole} if whole == stream else {"whole": whole, "stream": stream}


def ask(client, story, text="hi", **options):
    return both(lambda is_stream: client.session(story, is_stream, **options).say(text))


def text(client):
    return ask(client, "plain")


def think(client):
    return ask(client, "think", thinking=True)


def redacted(client):
    """Hidden thinking is kept by the client and given back."""

    def talk(is_stream):
        session = client.session("redacted", is_stream, thinking=True)
        first = session.say("hi")
        return {"first": first, "second": session.say("and now?")}

    return both(talk)


def length(client):
    return ask(client, "length", max_tokens=20)


def word(client):
    return ask(client, "word", stop=["END"])


def refused(client):
    return ask(client, "refused")


def alias(client):
    return ask(client, "alias")


def round_trip(client, story, **options):
    def talk(is_stream):
        session = client.session(story, is_stream, tools=True, **options)
        first = session.say("What is the weather in Paris and Málaga?")
        ids = [call.pop("id") for call in first["calls"]]
        first["ids"] = "distinct" if len(set(ids)) == len(ids) and all(ids) else ids
        # In the other order than they were asked in: only the ids tell them apart.
        second = session.outcomes([(1, {"degrees": 25}), (0, {"degrees": 20})])
        return {"first": first, "second": second, "third": session.say("Thanks")["text"]}

    return both(talk)


def tools(client):
    return round_trip(client, "tools")


def think_tools(client):
    return round_trip(client, "think-tools", thinking=True)


def described(client, **options):
    """What the upstream has understood, in its own words."""
    answer = client.session("describe", False, **options).say("hi")
    # Who has to call a tool says it there.
    return answer["calls"][0]["arguments"] if answer["calls"] else json.loads(answer["text"])


def image(client):
    session = client.session("describe", False)
    return json.loads(session.say([("text", "What is this?"), ("image", PICTURE)])["text"])["turns"]


def system(client):
    said = described(client, system=["Be brief.", "Speak French."], developer=["Never lie."])
    return {"system": said["system"], "turns": said["turns"]}


def settings(client):
    said = described(client, max_tokens=2000, temperature=0.5, top_p=0.9, stop=["END", "STOP"])
    return {name: said.get(name) for name in ("max_tokens", "temperature", "top_p", "stop")}


def tool_choice(client):
    said = {}
    for choice in "auto", "none", "required", "named:weather":
        found = described(client, tools=True, choice=choice)
        said[choice] = found.get("tool_choice", "auto")
        said["tools"] = found["tools"]
    said["alone"] = described(client, tools=True, parallel=False).get("parallel", True)
    return said


def schema(client):
    """What the SDK's own helper makes of it."""
    return client.parsed("schema")


def errors(client):
    said = {}
    for status in 400, 401, 403, 404, 429, 500, 503, 529:
        for is_stream in False, True:
            name = f"{status} streamed" if is_stream else f"{status}"
            try:
                client.session(f"error-{status}", is_stream).say("hi")
                said[name] = "no error"
            except client.errors as error:
                said[name] = client.told(error)
        if said[f"{status}"] == said[f"{status} streamed"]:
            del said[f"{status} streamed"]
    return said


def broken(client):
    """A stream that the upstream ends with an error, or that is cut, is no whole answer."""
    said = {}
    for story in "broken", "cut":
        try:
            client.session(story, True).say("hi")
            said[story] = "no error"
        except client.errors as error:
            said[story] = client.told(error)["class"]
    return said


def orphan(client):
    """The result of a call that nobody made."""
    try:
        client.orphan()
        return "no error"
    except client.errors as error:
        return client.told(error)


def count(client):
    return client.count("plain")


def embeddings(client):
    try:
        return client.embeddings("plain")
    except client.errors:
        return "refused"


def models(client):
    return client.models()


def chat(client):
    return client.chat("tools")


ALL = {
    name.replace("_", "-"): scenario
    for name, scenario in list(globals().items())
    if callable(scenario) and name not in ("both", "ask", "round_trip", "described")
}
# What only some clients have.
RARE = {"count", "embeddings", "chat"}
