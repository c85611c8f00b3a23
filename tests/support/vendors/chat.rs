//! OpenAI's chat completions and embeddings: what they require, and how they answer.
//!
//! Source: the types of OpenAI's Python client and the API reference, seen 2026-11. Thinking is told as `reasoning_content`, as
//! the servers do that copy OpenAI; those take `top_k`, too.

use serde_json::{Value, json};

use super::strict::{Node, Read, Refusal, body, without};
use super::{Asked, CACHED, Fault, INPUT, OUTPUT, Part, Stop, Story, end};
use crate::Received;
use crate::upstream::reply::Reply;

const MEMBERS: [&str; 34] = [
    "messages",
    "model",
    "audio",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
    "top_k",
    "prompt_cache_retention",
];

pub(super) fn answer(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let body = body(request)?;
    let asked = read(&Node::root(&body))?;
    let story = Story::told(&asked)?;
    Ok(if asked.is_stream { stream(&asked, &story) } else { whole(&asked, &story) })
}

pub(super) fn embeddings(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let body = body(request)?;
    let root = Node::root(&body);
    root.only(&["model", "input", "encoding_format", "dimensions", "user"])?;
    let input = root.need("input")?;
    let count = if input.value.is_string() { 1 } else { input.some_items()?.len() };
    let format =
        root.at("encoding_format").map_or(Ok("float"), |format| format.one_of(&["float", "base64"]))?;
    root.at("dimensions").map_or(Ok(0), |number| number.count(1))?;
    // 0.25 and -0.5 as little-endian floats.
    let vector = if format == "base64" { json!("AACAPgAAAL8=") } else { json!([0.25, -0.5]) };
    let data: Vec<Value> =
        (0..count).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
    let usage = json!({"prompt_tokens": INPUT, "total_tokens": INPUT});
    let list = json!({"object": "list", "data": data, "model": root.word("model")?, "usage": usage});
    Ok(Reply::json(200, list.to_string()))
}

pub(super) fn models(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let model =
        |id: &str| json!({"id": id, "object": "model", "created": 1_686_935_002, "owned_by": "openai"});
    let list = json!({"object": "list", "data": [model("gpt.plain"), model("gpt.think")]});
    Ok(Reply::json(200, list.to_string()))
}

pub(super) fn error(refusal: &Refusal) -> Reply {
    let (kind, code) = match refusal.status {
        400 | 405 => ("invalid_request_error", Value::Null),
        401 => ("invalid_request_error", json!("invalid_api_key")),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        _ => ("server_error", Value::Null),
    };
    let error = json!({"message": refusal.message, "type": kind, "param": refusal.path, "code": code});
    let reply = Reply::json(refusal.status, json!({"error": error}).to_string());
    let reply = reply.header("x-request-id", "req_0123456789abcdef");
    if refusal.status == 429 { reply.header("retry-after", "7") } else { reply }
}

pub(super) fn check_head(request: &Received) -> Read<()> {
    without(request, &["x-api-key", "x-goog-api-key", "anthropic-version", "anthropic-beta"])?;
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match bearer {
        Some(key) if !key.is_empty() => Ok(()),
        _ => Err(Refusal::unauthorized("You didn't provide an API key.")),
    }
}

fn read(root: &Node<'_>) -> Read<Asked> {
    root.only(&MEMBERS)?;
    let mut asked = Asked { model: root.word("model")?, ..Asked::default() };
    asked.is_stream = root.at("stream").map_or(Ok(false), |stream| stream.flag())?;
    if let Some(options) = root.at("stream_options") {
        if !asked.is_stream {
            return Err(options.wrong("is only allowed when `stream` is enabled"));
        }
        options.only(&["include_usage", "include_obfuscation"])?;
        asked.asks_usage = options.at("include_usage").map_or(Ok(false), |flag| flag.flag())?;
    }
    settings(root, &mut asked)?;
    for tool in root.at("tools").map_or(Ok(Vec::new()), |tools| tools.some_items())? {
        tool.only(&["type", "function"])?;
        tool.need("type")?.one_of(&["function"])?;
        let function = tool.need("function")?;
        function.only(&["name", "description", "parameters", "strict"])?;
        read_function(&function, &mut asked)?;
    }
    if let Some(choice) = root.at("tool_choice") {
        let named = choice.at("function").map(|function| function.word("name")).transpose()?;
        read_choice(&choice, named, &mut asked)?;
    }
    if let Some(format) = root.at("response_format") {
        match format.need("type")?.one_of(&["text", "json_object", "json_schema"])? {
            "json_object" => asked.is_json = true,
            "json_schema" => {
                format.only(&["type", "json_schema"])?;
                let schema = format.need("json_schema")?;
                schema.only(&["name", "description", "schema", "strict"])?;
                read_schema(&schema, &mut asked)?;
            }
            _ => {}
        }
    }
    messages(&root.need("messages")?, &mut asked)?;
    Ok(asked)
}

/// A function among the tools.
pub(super) fn read_function(function: &Node<'_>, asked: &mut Asked) -> Read<()> {
    let parameters = function.at("parameters").map(|schema| schema.object().cloned()).transpose()?;
    if function.value["strict"] == true {
        let schema = function.need("parameters")?;
        closed(&schema)?;
    }
    asked.tools.push(json!({
        "name": function.need("name")?.name(64, "")?,
        "description": function.at("description").map(|text| text.text()).transpose()?,
        "parameters": parameters,
    }));
    Ok(())
}

/// Which tools are to be called.
pub(super) fn read_choice(choice: &Node<'_>, named: Option<String>, asked: &mut Asked) -> Read<()> {
    if asked.tools.is_empty() {
        return Err(choice.wrong("is only allowed when `tools` are specified"));
    }
    match named {
        Some(name) if !asked.tools.iter().any(|tool| tool["name"] == name) => {
            return Err(choice.wrong("names no tool of `tools`"));
        }
        Some(name) => asked.set("tool_choice", format!("named:{name}")),
        None => {
            let word = choice.one_of(&["auto", "none", "required"])?;
            if word != "auto" {
                asked.set("tool_choice", word);
            }
        }
    }
    Ok(())
}

/// A schema for the answer.
pub(super) fn read_schema(schema: &Node<'_>, asked: &mut Asked) -> Read<()> {
    schema.need("name")?.name(64, "")?;
    let given = schema.need("schema")?;
    given.object()?;
    if schema.value["strict"] == true {
        closed(&given)?;
    }
    asked.schema = Some(given.value.clone());
    Ok(())
}

/// Strict schemas say that there is nothing else in their objects, and that everything has to be there.
fn closed(schema: &Node<'_>) -> Read<()> {
    let properties = schema.value["properties"].as_object();
    if schema.value["type"] == "object" {
        if schema.value["additionalProperties"] != false {
            return Err(schema.wrong("`additionalProperties` is required to be supplied and to be false"));
        }
        let required = schema.value["required"].as_array().map_or(0, Vec::len);
        if required != properties.map_or(0, serde_json::Map::len) {
            return Err(schema.wrong("`required` is required to include every key in properties"));
        }
    }
    for (name, value) in properties.into_iter().flatten() {
        closed(&Node { value, path: format!("{}.properties.{name}", schema.path) })?;
    }
    Ok(())
}

fn settings(root: &Node<'_>, asked: &mut Asked) -> Read<()> {
    for (name, least, most) in [
        ("temperature", 0.0, 2.0),
        ("top_p", 0.0, 1.0),
        ("presence_penalty", -2.0, 2.0),
        ("frequency_penalty", -2.0, 2.0),
    ] {
        if let Some(number) = root.at(name) {
            asked.set(name, number.number(least, most)?);
        }
    }
    for name in ["seed", "n", "top_k", "top_logprobs"] {
        if let Some(number) = root.at(name) {
            asked.set(name, number.count(0)?);
        }
    }
    let (old, new) = (root.at("max_tokens"), root.at("max_completion_tokens"));
    if let (Some(old), Some(_)) = (&old, &new) {
        return Err(old.wrong("is not supported together with `max_completion_tokens`"));
    }
    if let Some(most) = old.or(new) {
        asked.set("max_tokens", most.count(1)?);
    }
    if let Some(stop) = root.at("stop") {
        let words = if stop.value.is_string() { vec![stop.clone()] } else { stop.some_items()? };
        if words.len() > 4 {
            return Err(stop.wrong("must not be more than 4"));
        }
        asked.set("stop", words.iter().map(|word| Ok(word.words()?.to_owned())).collect::<Read<Vec<_>>>()?);
    }
    if let Some(effort) = root.at("reasoning_effort") {
        asked.set("effort", effort.one_of(&["none", "minimal", "low", "medium", "high", "xhigh"])?);
    }
    if let Some(parallel) = root.at("parallel_tool_calls") {
        if root.at("tools").is_none() {
            return Err(parallel.wrong("is only allowed when `tools` are specified"));
        }
        if !parallel.flag()? {
            asked.set("parallel", false);
        }
    }
    if let Some(user) = root.at("user") {
        asked.set("user", user.text()?);
    }
    Ok(())
}

fn messages(list: &Node<'_>, asked: &mut Asked) -> Read<()> {
    let mut open: Vec<String> = Vec::new();
    for message in list.some_items()? {
        let role = message.need("role")?.one_of(&["system", "developer", "user", "assistant", "tool"])?;
        if role != "tool" && !open.is_empty() {
            return Err(
                message.wrong("an assistant message with `tool_calls` must be followed by tool messages")
            );
        }
        match role {
            "system" | "developer" => {
                message.only(&["role", "content", "name"])?;
                for part in content(&message.need("content")?, &["text"])? {
                    asked.system.push(part.words());
                }
            }
            "user" => {
                message.only(&["role", "content", "name"])?;
                for part in content(&message.need("content")?, &["text", "image_url", "input_audio", "file"])?
                {
                    asked.say(false, part);
                }
            }
            "assistant" => {
                message.only(&[
                    "role",
                    "content",
                    "name",
                    "tool_calls",
                    "refusal",
                    "audio",
                    "annotations",
                    "reasoning_content",
                ])?;
                open = assistant(&message, asked)?;
            }
            _ => {
                message.only(&["role", "content", "tool_call_id"])?;
                let id = message.word("tool_call_id")?;
                let place = open.iter().position(|known| *known == id).ok_or_else(|| {
                    message.wrong("messages with role `tool` must be a response to a preceding message with `tool_calls`")
                })?;
                open.remove(place);
                let content = content(&message.need("content")?, &["text"])?;
                asked.say(false, Part::Outcome { id: Some(id), name: None, content, is_error: false });
            }
        }
    }
    if open.is_empty() { Ok(()) } else { Err(list.wrong("tool calls have no response messages")) }
}

fn assistant(message: &Node<'_>, asked: &mut Asked) -> Read<Vec<String>> {
    let calls = message.at("tool_calls").map_or(Ok(Vec::new()), |calls| calls.some_items())?;
    match message.at("content") {
        Some(text) => {
            for part in content(&text, &["text", "refusal"])? {
                asked.say(true, part);
            }
        }
        None if calls.is_empty() && message.at("refusal").is_none() => {
            return Err(message.wrong("`content` is required unless `tool_calls` is specified"));
        }
        None => {}
    }
    let mut ids = Vec::new();
    for call in calls {
        // Some servers hold what Google's models need back there.
        call.only(&["id", "type", "function"])?;
        call.need("type")?.one_of(&["function"])?;
        let function = call.need("function")?;
        function.only(&["name", "arguments"])?;
        let id = call.word("id")?;
        asked.say(
            true,
            Part::Call {
                id: Some(id.clone()),
                name: function.need("name")?.name(64, "")?.to_owned(),
                arguments: arguments(&function)?,
                signature: None,
            },
        );
        ids.push(id);
    }
    Ok(ids)
}

/// The arguments of a call, which are JSON in a string.
pub(super) fn arguments(function: &Node<'_>) -> Read<Value> {
    let text = function.need("arguments")?;
    serde_json::from_str(text.text()?).map_err(|error| text.wrong(&error.to_string()))
}

fn content(content: &Node<'_>, kinds: &[&str]) -> Read<Vec<Part>> {
    if content.value.is_string() {
        return Ok(vec![Part::Text(content.text()?.to_owned())]);
    }
    let parts = content.some_items()?;
    parts
        .iter()
        .map(|part| {
            let kind = part.need("type")?.one_of(kinds)?;
            part.only(&["type", kind])?;
            let inner = part.need(kind)?;
            match kind {
                "image_url" => {
                    inner.only(&["url", "detail"])?;
                    link(&inner.need("url")?)
                }
                "input_audio" => {
                    inner.only(&["data", "format"])?;
                    let format = inner.need("format")?.one_of(&["wav", "mp3"])?;
                    let base64 = inner.need("data")?.base64()?.to_owned();
                    Ok(Part::Data { media_type: format!("audio/{format}"), base64 })
                }
                "file" => {
                    inner.only(&["file_data", "file_id", "filename"])?;
                    link(&inner.need("file_data")?)
                }
                _ => Ok(Part::Text(inner.text()?.to_owned())),
            }
        })
        .collect()
}

/// A URL, or data in one.
pub(super) fn link(url: &Node<'_>) -> Read<Part> {
    let text = url.words()?;
    if let Some(data) = text.strip_prefix("data:") {
        let (media_type, base64) =
            data.split_once(";base64,").ok_or_else(|| url.wrong("must be a data URL with base64"))?;
        let base64 = Node { value: &json!(base64), path: url.path.clone() }.base64().map(str::to_owned)?;
        return Ok(Part::Data { media_type: media_type.to_owned(), base64 });
    }
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(Part::Link(text.to_owned()));
    }
    Err(url.wrong("must be a URL"))
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::Done | Stop::Word(_) => "stop",
        Stop::Length => "length",
        Stop::Calls => "tool_calls",
        Stop::Refused => "content_filter",
    }
}

fn usage(story: &Story) -> Value {
    json!({"prompt_tokens": INPUT, "completion_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
        "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": story.reasoning(), "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}})
}

fn failed() -> Refusal {
    Refusal { status: 503, path: None, message: "The engine is currently overloaded".to_owned() }
}

fn whole(asked: &Asked, story: &Story) -> Reply {
    if story.fault == Some(Fault::Told) {
        return error(&failed());
    }
    let mut message = json!({"role": "assistant", "content": null, "refusal": null, "annotations": []});
    let mut calls = Vec::new();
    for part in &story.parts {
        match part {
            Part::Text(text) => message["content"] = json!(text),
            Part::Thinking { text, .. } => message["reasoning_content"] = json!(text),
            Part::Call { id, name, arguments, .. } => calls.push(json!({
                "id": call_id(id), "type": "function",
                "function": {"name": name, "arguments": arguments.to_string()},
            })),
            _ => {}
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = json!(calls);
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null,
        "finish_reason": finish_reason(&story.stop)});
    let answer = json!({"id": "chatcmpl-BpTxQ2vN8", "object": "chat.completion", "created": 1_795_000_000,
        "model": asked.model, "choices": [choice], "usage": usage(story), "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb"});
    Reply::json(200, answer.to_string())
}

fn call_id(id: &Option<String>) -> String {
    format!("call_{}", id.as_deref().unwrap_or_default())
}

fn stream(asked: &Asked, story: &Story) -> Reply {
    let chunk = |delta: Value, finish: Option<&str>| {
        let mut chunk = json!({"id": "chatcmpl-BpTxQ2vN8", "object": "chat.completion.chunk",
            "created": 1_795_000_000, "model": asked.model, "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]});
        if asked.asks_usage {
            chunk["usage"] = Value::Null;
        }
        chunk.to_string()
    };
    let start = chunk(json!({"role": "assistant", "content": "", "refusal": null}), None);
    let mut reply = Reply::stream([start]);
    let mut index = 0;
    for part in &story.parts {
        match part {
            Part::Text(text) | Part::Thinking { text, .. } => {
                let name = if matches!(part, Part::Text(_)) { "content" } else { "reasoning_content" };
                for piece in Story::pieces(text) {
                    reply = reply.event(&chunk(json!({name: piece}), None));
                }
            }
            Part::Call { id, name, arguments, .. } => {
                let call = json!({"index": index, "id": call_id(id), "type": "function",
                    "function": {"name": name, "arguments": ""}});
                reply = reply.event(&chunk(json!({"tool_calls": [call]}), None));
                for piece in Story::pieces(&arguments.to_string()) {
                    let call = json!({"index": index, "function": {"arguments": piece}});
                    reply = reply.event(&chunk(json!({"tool_calls": [call]}), None));
                }
                index += 1;
            }
            _ => {}
        }
    }
    if story.fault.is_none() {
        reply = reply.event(&chunk(json!({}), Some(finish_reason(&story.stop))));
        if asked.asks_usage {
            let last = json!({"id": "chatcmpl-BpTxQ2vN8", "object": "chat.completion.chunk",
                "created": 1_795_000_000, "model": asked.model, "choices": [], "usage": usage(story)});
            reply = reply.event(&last.to_string());
        }
        reply = reply.event("[DONE]");
    }
    end(reply, story.fault, |reply| {
        let error = json!({"message": failed().message, "type": "server_error", "param": null, "code": null});
        reply.event(&json!({"error": error}).to_string())
    })
}
