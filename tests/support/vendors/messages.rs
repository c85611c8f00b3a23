//! Anthropic's Messages: what it requires, and how it answers.
//!
//! Source: the types of Anthropic's Python client and the API reference, "Messages" and "Errors", seen 2026-11. Stricter than the
//! vendor in one thing: it would join neighbours of one role, and servers that copy it refuse them.

use serde_json::{Value, json};

use super::strict::{Node, Read, Refusal, body, without};
use super::{
    ANTHROPIC_REDACTED, ANTHROPIC_SIGNATURE, Asked, CACHED, COUNTED, Fault, INPUT, OUTPUT, Part, Stop, Story,
    end,
};
use crate::Received;
use crate::upstream::reply::Reply;

const COUNTED_MEMBERS: [&str; 9] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
];
const FURTHER_MEMBERS: [&str; 11] = [
    "max_tokens",
    "stream",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "service_tier",
    "container",
    "inference_geo",
    "context_management",
];

pub(super) fn answer(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let body = body(request)?;
    let root = Node::root(&body);
    let asked = read(&root, true)?;
    let story = Story::told(&asked)?;
    Ok(if asked.is_stream { stream(&asked, &story) } else { whole(&asked, &story) })
}

pub(super) fn count(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let body = body(request)?;
    read(&Node::root(&body), false)?;
    Ok(Reply::json(200, json!({"input_tokens": COUNTED}).to_string()))
}

pub(super) fn models(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let model = |id: &str| {
        json!({"type": "model", "id": id, "display_name": id, "created_at": "2026-02-04T00:00:00Z",
            "lifecycle": "active"})
    };
    let data = [model("claude.plain"), model("claude.think")];
    let list =
        json!({"data": data, "has_more": false, "first_id": "claude.plain", "last_id": "claude.think"});
    Ok(Reply::json(200, list.to_string()))
}

pub(super) fn error(refusal: &Refusal) -> Reply {
    let kind = match refusal.status {
        400 | 405 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    let error = json!({"type": kind, "message": refusal.message});
    let reply = Reply::json(
        refusal.status,
        json!({"type": "error", "error": error, "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}).to_string(),
    );
    let reply = reply.header("request-id", "req_011CSHoEeqs5C35K2UUqR7Fy");
    if refusal.status == 429 { reply.header("retry-after", "7") } else { reply }
}

fn check_head(request: &Received) -> Read<()> {
    without(request, &["x-goog-api-key"])?;
    // The vendor's newer clients send their key as a bearer's; both at once is nobody's.
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match (request.header("x-api-key"), bearer) {
        (Some(key), None) | (None, Some(key)) if !key.is_empty() => {}
        _ => return Err(Refusal::unauthorized("x-api-key header is required")),
    }
    match request.header("anthropic-version") {
        Some("2023-06-01" | "2026-10-21") => Ok(()),
        _ => Err(Refusal::new("anthropic-version", "header is required")),
    }
}

fn read(root: &Node<'_>, is_message: bool) -> Read<Asked> {
    let further: &[&str] = if is_message { &FURTHER_MEMBERS } else { &[] };
    root.only(&[&COUNTED_MEMBERS, further].concat())?;
    let mut asked = Asked { model: root.word("model")?, hides_thinking: true, ..Asked::default() };
    if is_message {
        let max_tokens = root.need("max_tokens")?.count(1)?;
        asked.set("max_tokens", max_tokens);
        asked.is_stream = root.at("stream").map_or(Ok(false), |stream| stream.flag())?;
    }
    if let Some(system) = root.at("system") {
        asked.system = if system.value.is_string() {
            vec![system.words()?.to_owned()]
        } else {
            system.items()?.iter().map(text_block).collect::<Read<_>>()?
        };
    }
    if let Some(cache) = root.at("cache_control") {
        cache_control(&cache)?;
        asked.set("cached", true);
    }
    tools(root, &mut asked)?;
    settings(root, &mut asked)?;
    messages(&root.need("messages")?, &mut asked)?;
    // "When thinking is enabled, a final assistant message must start with a thinking block" if it goes on with results.
    let is_thinking = asked.settings.contains_key("thinking");
    if let ([.., calls, _], true) = (&asked.turns[..], is_thinking) {
        let has_calls = calls.parts.iter().any(|part| matches!(part, Part::Call { .. }));
        if has_calls && !matches!(calls.parts[0], Part::Thinking { .. } | Part::Redacted(_)) {
            return Err(Refusal::new(
                "messages",
                "expected `thinking` or `redacted_thinking`, but found `tool_use`",
            ));
        }
    }
    Ok(asked)
}

fn cache_control(node: &Node<'_>) -> Read<()> {
    node.only(&["type", "ttl"])?;
    node.need("type")?.one_of(&["ephemeral"])?;
    node.at("ttl").map_or(Ok(()), |ttl| ttl.one_of(&["5m", "1h"]).map(drop))
}

fn text_block(node: &Node<'_>) -> Read<String> {
    node.only(&["type", "text", "cache_control", "citations"])?;
    node.need("type")?.one_of(&["text"])?;
    node.at("cache_control").map_or(Ok(()), |cache| cache_control(&cache))?;
    let text = node.word("text")?;
    if text.trim().is_empty() {
        return Err(node.wrong("text content blocks must contain non-whitespace text"));
    }
    Ok(text)
}

fn tools(root: &Node<'_>, asked: &mut Asked) -> Read<()> {
    for tool in root.at("tools").map_or(Ok(Vec::new()), |tools| tools.items())? {
        tool.only(&[
            "type",
            "name",
            "description",
            "input_schema",
            "strict",
            "cache_control",
            "input_examples",
            "eager_input_streaming",
        ])?;
        tool.at("type").map_or(Ok("custom"), |kind| kind.one_of(&["custom"]))?;
        tool.at("cache_control").map_or(Ok(()), |cache| cache_control(&cache))?;
        let schema = tool.need("input_schema")?;
        schema.need("type")?.one_of(&["object"])?;
        asked.tools.push(json!({
            "name": tool.need("name")?.name(128, "")?,
            "description": tool.at("description").map(|text| text.text()).transpose()?,
            "parameters": schema.object()?,
        }));
    }
    let Some(choice) = root.at("tool_choice") else { return Ok(()) };
    if asked.tools.is_empty() {
        return Err(choice.wrong("may only be specified while providing `tools`"));
    }
    let kind = choice.need("type")?.one_of(&["auto", "any", "tool", "none"])?;
    match kind {
        "tool" => choice.only(&["type", "name", "disable_parallel_tool_use"])?,
        "none" => choice.only(&["type"])?,
        _ => choice.only(&["type", "disable_parallel_tool_use"])?,
    }
    match kind {
        "any" => asked.set("tool_choice", "required"),
        "tool" => {
            let name = choice.word("name")?;
            if !asked.tools.iter().any(|tool| tool["name"] == name) {
                return Err(choice.wrong("names no tool of `tools`"));
            }
            asked.set("tool_choice", format!("named:{name}"));
        }
        "none" => asked.set("tool_choice", "none"),
        _ => {}
    }
    if let Some(alone) = choice.at("disable_parallel_tool_use")
        && alone.flag()?
    {
        asked.set("parallel", false);
    }
    Ok(())
}

fn settings(root: &Node<'_>, asked: &mut Asked) -> Read<()> {
    for (name, most) in [("temperature", 1.0), ("top_p", 1.0)] {
        if let Some(number) = root.at(name) {
            asked.set(name, number.number(0.0, most)?);
        }
    }
    if let Some(number) = root.at("top_k") {
        asked.set("top_k", number.count(0)?);
    }
    if let Some(stop) = root.at("stop_sequences") {
        let words =
            stop.items()?.iter().map(|word| Ok(word.words()?.to_owned())).collect::<Read<Vec<_>>>()?;
        if words.iter().any(|word| word.trim().is_empty()) {
            return Err(stop.wrong("each stop sequence must contain non-whitespace"));
        }
        asked.set("stop", words);
    }
    if let Some(metadata) = root.at("metadata") {
        metadata.only(&["user_id"])?;
        if let Some(user) = metadata.at("user_id") {
            asked.set("user", user.text()?);
        }
    }
    if let Some(tier) = root.at("service_tier") {
        tier.one_of(&["auto", "standard_only"])?;
    }
    if let Some(output) = root.at("output_config") {
        output.only(&["effort", "format"])?;
        if let Some(effort) = output.at("effort") {
            asked.set("effort", effort.one_of(&["low", "medium", "high", "xhigh", "max"])?);
        }
        if let Some(format) = output.at("format") {
            format.only(&["type", "schema"])?;
            format.need("type")?.one_of(&["json_schema"])?;
            let schema = format.need("schema")?;
            closed(&schema)?;
            asked.schema = Some(schema.value.clone());
        }
    }
    let Some(thinking) = root.at("thinking") else { return Ok(()) };
    match thinking.need("type")?.one_of(&["enabled", "disabled", "adaptive", "between_tools"])? {
        "enabled" => {
            thinking.only(&["type", "budget_tokens", "display"])?;
            let budget = thinking.need("budget_tokens")?.count(1024)?;
            if asked.settings.get("max_tokens").is_some_and(|most| most.as_u64() <= Some(budget)) {
                return Err(thinking.wrong("`max_tokens` must be greater than `thinking.budget_tokens`"));
            }
            asked.set("thinking", budget);
        }
        "adaptive" => {
            thinking.only(&["type", "display"])?;
            asked.set("thinking", "adaptive");
        }
        _ => return thinking.only(&["type"]),
    }
    if asked.settings.get("temperature").is_some_and(|temperature| temperature != &json!(1.0)) {
        return Err(Refusal::new("temperature", "may only be set to 1 when thinking is enabled"));
    }
    let is_forced = asked.settings.get("tool_choice").is_some_and(|choice| choice != "none");
    if is_forced || asked.settings.contains_key("top_k") {
        return Err(Refusal::new("thinking", "may not be enabled when tool use is forced or `top_k` is set"));
    }
    Ok(())
}

/// Objects of an answer's schema have to say that there is nothing else in them.
fn closed(schema: &Node<'_>) -> Read<()> {
    if schema.value["type"] == "object" && schema.value["additionalProperties"] != false {
        return Err(schema.wrong("for `object` type, `additionalProperties` must be explicitly set to false"));
    }
    let properties = schema.value["properties"].as_object().into_iter().flatten();
    for (name, value) in properties {
        closed(&Node { value, path: format!("{}.properties.{name}", schema.path) })?;
    }
    match schema.value.get("items") {
        Some(value) => closed(&Node { value, path: format!("{}.items", schema.path) }),
        None => Ok(()),
    }
}

fn messages(list: &Node<'_>, asked: &mut Asked) -> Read<()> {
    let mut open: Vec<String> = Vec::new();
    for (place, message) in list.some_items()?.iter().enumerate() {
        message.only(&["role", "content"])?;
        let role = message.need("role")?.one_of(&["user", "assistant"])?;
        let is_model = role == "assistant";
        if is_model != (place % 2 == 1) {
            return Err(message.wrong("roles must alternate, and the first one must be `user`"));
        }
        let content = message.need("content")?;
        if content.value.is_string() {
            asked.say(is_model, Part::Text(content.words()?.to_owned()));
        } else {
            for block in content.some_items()? {
                let part = content_block(&block, is_model)?;
                match &part {
                    Part::Outcome { id: Some(id), .. } => {
                        let known = open.iter().position(|known| known == id);
                        let known = known
                            .ok_or_else(|| block.wrong("unexpected `tool_use_id` without its `tool_use`"))?;
                        open.remove(known);
                    }
                    _ if !is_model && !open.is_empty() => {
                        return Err(block.wrong("`tool_use` ids were found without `tool_result` blocks"));
                    }
                    _ => {}
                }
                asked.say(is_model, part);
            }
        }
        if !is_model && !open.is_empty() {
            return Err(message.wrong("`tool_use` ids were found without `tool_result` blocks"));
        }
        let calls = asked.turns.last().into_iter().flat_map(|turn| &turn.parts);
        open = calls
            .filter_map(|part| if let Part::Call { id, .. } = part { id.clone() } else { None })
            .collect();
    }
    Ok(())
}

fn content_block(block: &Node<'_>, is_model: bool) -> Read<Part> {
    let kind = block.need("type")?.text()?;
    if let Some(cache) = block.at("cache_control") {
        cache_control(&cache)?;
    }
    match (kind, is_model) {
        ("text", _) => Ok(Part::Text(text_block(block)?)),
        ("image", false) => {
            block.only(&["type", "source", "cache_control"])?;
            let pictures = ["image/jpeg", "image/png", "image/gif", "image/webp"];
            source(&block.need("source")?, &pictures)
        }
        ("document", false) => {
            block.only(&["type", "source", "title", "context", "citations", "cache_control"])?;
            source(&block.need("source")?, &["application/pdf"])
        }
        ("tool_result", false) => {
            block.only(&["type", "tool_use_id", "content", "is_error", "cache_control"])?;
            let content = match block.at("content") {
                None => Vec::new(),
                Some(text) if text.value.is_string() => vec![Part::Text(text.text()?.to_owned())],
                Some(list) => {
                    list.items()?.iter().map(|block| content_block(block, false)).collect::<Read<_>>()?
                }
            };
            let is_error = block.at("is_error").map_or(Ok(false), |flag| flag.flag())?;
            Ok(Part::Outcome { id: Some(block.word("tool_use_id")?), name: None, content, is_error })
        }
        ("tool_use", true) => {
            block.only(&["type", "id", "name", "input", "cache_control", "caller"])?;
            Ok(Part::Call {
                id: Some(block.need("id")?.name(200, "")?.to_owned()),
                name: block.need("name")?.name(128, "")?.to_owned(),
                arguments: block.need("input")?.object()?.clone(),
                signature: None,
            })
        }
        ("thinking", true) => {
            block.only(&["type", "thinking", "signature"])?;
            let signature = block.word("signature")?;
            if signature != ANTHROPIC_SIGNATURE {
                return Err(block.wrong("invalid `signature` in `thinking` block"));
            }
            Ok(Part::Thinking {
                text: block.need("thinking")?.text()?.to_owned(),
                signature: Some(signature),
            })
        }
        ("redacted_thinking", true) => {
            block.only(&["type", "data"])?;
            let data = block.word("data")?;
            if data != ANTHROPIC_REDACTED {
                return Err(block.wrong("invalid `data` in `redacted_thinking` block"));
            }
            Ok(Part::Redacted(data))
        }
        _ => Err(block.wrong(&format!("a block of type `{kind}` is not permitted here"))),
    }
}

fn source(source: &Node<'_>, types: &[&str]) -> Read<Part> {
    match source.need("type")?.one_of(&["base64", "url", "text"])? {
        "url" => {
            source.only(&["type", "url"])?;
            Ok(Part::Link(source.word("url")?))
        }
        "text" => {
            source.only(&["type", "media_type", "data"])?;
            source.need("media_type")?.one_of(&["text/plain"])?;
            Ok(Part::Text(source.word("data")?))
        }
        _ => {
            source.only(&["type", "media_type", "data"])?;
            Ok(Part::Data {
                media_type: source.need("media_type")?.one_of(types)?.to_owned(),
                base64: source.need("data")?.base64()?.to_owned(),
            })
        }
    }
}

fn stop_reason(stop: &Stop) -> (&'static str, Option<&str>) {
    match stop {
        Stop::Done => ("end_turn", None),
        Stop::Length => ("max_tokens", None),
        Stop::Word(word) => ("stop_sequence", Some(word)),
        Stop::Calls => ("tool_use", None),
        Stop::Refused => ("refusal", None),
    }
}

fn usage(output: u64) -> Value {
    json!({"input_tokens": INPUT - CACHED, "cache_creation_input_tokens": 0, "cache_read_input_tokens": CACHED,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output, "service_tier": "standard"})
}

/// The block as it stands whole, and the same as a stream begins it.
fn block_of(part: &Part) -> (Value, Value) {
    match part {
        Part::Text(text) => (json!({"type": "text", "text": text}), json!({"type": "text", "text": ""})),
        Part::Thinking { text, .. } => (
            json!({"type": "thinking", "thinking": text, "signature": ANTHROPIC_SIGNATURE}),
            json!({"type": "thinking", "thinking": "", "signature": ""}),
        ),
        Part::Call { id, name, arguments, .. } => {
            let id = format!("toolu_0{}", id.as_deref().unwrap_or_default());
            (
                json!({"type": "tool_use", "id": id, "name": name, "input": arguments}),
                json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
            )
        }
        _ => {
            let block = json!({"type": "redacted_thinking", "data": ANTHROPIC_REDACTED});
            (block.clone(), block)
        }
    }
}

fn whole(asked: &Asked, story: &Story) -> Reply {
    if story.fault == Some(Fault::Told) {
        return error(&Refusal { status: 529, path: None, message: "Overloaded".to_owned() });
    }
    let content: Vec<Value> = story.parts.iter().map(|part| block_of(part).0).collect();
    let (stop_reason, stop_sequence) = stop_reason(&story.stop);
    let mut usage = usage(OUTPUT);
    usage["output_tokens_details"] = json!({"thinking_tokens": story.reasoning()});
    let message = json!({"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant",
        "model": asked.model, "content": content, "stop_reason": stop_reason, "stop_sequence": stop_sequence,
        "usage": usage});
    Reply::json(200, message.to_string()).header("request-id", "req_011CSHoEeqs5C35K2UUqR7Fy")
}

fn stream(asked: &Asked, story: &Story) -> Reply {
    let empty = Reply::new(200).header("content-type", "text/event-stream; charset=utf-8").chunked();
    let start = json!({"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant",
        "model": asked.model, "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage(1)});
    let mut reply = event(empty, &json!({"type": "message_start", "message": start}));
    for (index, part) in story.parts.iter().enumerate() {
        let (_, block) = block_of(part);
        reply = event(reply, &json!({"type": "content_block_start", "index": index, "content_block": block}));
        if index == 0 {
            reply = event(reply, &json!({"type": "ping"}));
        }
        for delta in deltas(part) {
            reply = event(reply, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        if story.fault.is_none() {
            reply = event(reply, &json!({"type": "content_block_stop", "index": index}));
        }
    }
    if story.fault.is_none() {
        let (stop_reason, stop_sequence) = stop_reason(&story.stop);
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        let usage = json!({"output_tokens": OUTPUT,
            "output_tokens_details": {"thinking_tokens": story.reasoning()}});
        reply = event(reply, &json!({"type": "message_delta", "delta": delta, "usage": usage}));
        reply = event(reply, &json!({"type": "message_stop"}));
    }
    end(reply, story.fault, |reply| {
        let error = json!({"type": "overloaded_error", "message": "Overloaded"});
        event(reply, &json!({"type": "error", "error": error}))
    })
}

fn deltas(part: &Part) -> Vec<Value> {
    match part {
        Part::Text(text) => Story::pieces(text)
            .into_iter()
            .map(|piece| json!({"type": "text_delta", "text": piece}))
            .collect(),
        Part::Thinking { text, .. } => {
            let texts = Story::pieces(text)
                .into_iter()
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}));
            let signature = json!({"type": "signature_delta", "signature": ANTHROPIC_SIGNATURE});
            texts.chain([signature]).collect()
        }
        Part::Call { arguments, .. } => {
            // The first one is always empty.
            let pieces = [String::new()].into_iter().chain(Story::pieces(&arguments.to_string()));
            pieces.map(|piece| json!({"type": "input_json_delta", "partial_json": piece})).collect()
        }
        _ => Vec::new(),
    }
}

fn event(reply: Reply, data: &Value) -> Reply {
    let name = data["type"].as_str().unwrap_or_default();
    reply.body(format!("event: {name}\ndata: {data}\n\n"))
}
