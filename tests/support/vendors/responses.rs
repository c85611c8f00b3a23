//! OpenAI's Responses: what they require, and how they answer.
//!
//! Source: the types of OpenAI's Python client and the API reference, seen 2026-11.

use serde_json::{Value, json};

use super::chat::{arguments, check_head, error, link, read_choice, read_function, read_schema};
use super::strict::{Node, Read, Refusal, body};
use super::{Asked, CACHED, Fault, INPUT, OPENAI_ENCRYPTED, OUTPUT, Part, Stop, Story, end};
use crate::Received;
use crate::upstream::reply::Reply;

const MEMBERS: [&str; 26] = [
    "model",
    "input",
    "instructions",
    "include",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
    "background",
    "prompt_cache_retention",
    "context_management",
];

pub(super) fn answer(request: &Received) -> Read<Reply> {
    check_head(request)?;
    let body = body(request)?;
    let asked = read(&Node::root(&body))?;
    let story = Story::told(&asked)?;
    Ok(if asked.is_stream { stream(&asked, &story) } else { whole(&asked, &story) })
}

fn read(root: &Node<'_>) -> Read<Asked> {
    root.only(&MEMBERS)?;
    let mut asked = Asked { model: root.word("model")?, hides_thinking: true, ..Asked::default() };
    asked.is_stream = root.at("stream").map_or(Ok(false), |stream| stream.flag())?;
    if let Some(instructions) = root.at("instructions") {
        asked.system.push(instructions.words()?.to_owned());
    }
    for tool in root.at("tools").map_or(Ok(Vec::new()), |tools| tools.items())? {
        tool.only(&["type", "name", "description", "parameters", "strict"])?;
        tool.need("type")?.one_of(&["function"])?;
        read_function(&tool, &mut asked)?;
    }
    if let Some(choice) = root.at("tool_choice") {
        let named = choice.at("name").map(|name| Ok(name.words()?.to_owned())).transpose()?;
        read_choice(&choice, named, &mut asked)?;
    }
    settings(root, &mut asked)?;
    let input = root.need("input")?;
    if input.value.is_string() {
        asked.say(false, Part::Text(input.words()?.to_owned()));
        return Ok(asked);
    }
    let mut open: Vec<String> = Vec::new();
    for item in input.some_items()? {
        read_item(&item, &mut asked, &mut open)?;
    }
    if open.is_empty() { Ok(asked) } else { Err(input.wrong("No tool output found for a function call.")) }
}

fn settings(root: &Node<'_>, asked: &mut Asked) -> Read<()> {
    for (name, most) in [("temperature", 2.0), ("top_p", 1.0)] {
        if let Some(number) = root.at(name) {
            asked.set(name, number.number(0.0, most)?);
        }
    }
    if let Some(most) = root.at("max_output_tokens") {
        asked.set("max_tokens", most.count(16)?);
    }
    if let Some(parallel) = root.at("parallel_tool_calls")
        && !parallel.flag()?
    {
        asked.set("parallel", false);
    }
    if let Some(user) = root.at("user") {
        asked.set("user", user.text()?);
    }
    if let Some(reasoning) = root.at("reasoning") {
        reasoning.only(&["effort", "summary", "generate_summary", "context"])?;
        if let Some(effort) = reasoning.at("effort") {
            asked.set("effort", effort.one_of(&["none", "minimal", "low", "medium", "high", "xhigh"])?);
        }
    }
    let Some(text) = root.at("text") else { return Ok(()) };
    text.only(&["format", "verbosity"])?;
    let Some(format) = text.at("format") else { return Ok(()) };
    match format.need("type")?.one_of(&["text", "json_object", "json_schema"])? {
        "json_object" => asked.is_json = true,
        "json_schema" => {
            format.only(&["type", "name", "description", "schema", "strict"])?;
            read_schema(&format, asked)?;
        }
        _ => {}
    }
    Ok(())
}

fn read_item(item: &Node<'_>, asked: &mut Asked, open: &mut Vec<String>) -> Read<()> {
    let kind = item.at("type").map_or(Ok("message"), |kind| kind.text())?;
    match kind {
        "message" => {
            item.only(&["type", "role", "content", "id", "status", "phase"])?;
            let role = item.need("role")?.one_of(&["system", "developer", "user", "assistant"])?;
            let content = item.need("content")?;
            let parts = if content.value.is_string() {
                vec![Part::Text(content.text()?.to_owned())]
            } else {
                content.items()?.iter().map(part_of).collect::<Read<_>>()?
            };
            for part in parts {
                match role {
                    "system" | "developer" => asked.system.push(part.words()),
                    role => asked.say(role == "assistant", part),
                }
            }
        }
        "reasoning" => {
            item.only(&["type", "id", "summary", "content", "encrypted_content", "status"])?;
            item.need("summary")?.items()?;
            if let Some(encrypted) = item.at("encrypted_content")
                && encrypted.text()? != OPENAI_ENCRYPTED
            {
                return Err(encrypted.wrong("could not be verified"));
            }
            asked.say(true, Part::Redacted(String::new()));
        }
        "function_call" => {
            item.only(&["type", "id", "call_id", "name", "arguments", "status"])?;
            let id = item.word("call_id")?;
            open.push(id.clone());
            let (name, arguments) = (item.word("name")?, arguments(item)?);
            asked.say(true, Part::Call { id: Some(id), name, arguments, signature: None });
        }
        "function_call_output" => {
            item.only(&["type", "id", "call_id", "output", "status"])?;
            let id = item.word("call_id")?;
            let place = open.iter().position(|known| *known == id);
            let place = place.ok_or_else(|| item.wrong("No tool call found for function call output."))?;
            open.remove(place);
            let output = item.need("output")?;
            let content = if output.value.is_string() {
                vec![Part::Text(output.text()?.to_owned())]
            } else {
                output.items()?.iter().map(part_of).collect::<Read<_>>()?
            };
            asked.say(false, Part::Outcome { id: Some(id), name: None, content, is_error: false });
        }
        _ => return Err(item.wrong(&format!("an item of type `{kind}` is not permitted here"))),
    }
    Ok(())
}

fn part_of(part: &Node<'_>) -> Read<Part> {
    match part.need("type")?.one_of(&["input_text", "output_text", "refusal", "input_image", "input_file"])? {
        "input_image" => {
            part.only(&["type", "image_url", "detail", "file_id"])?;
            link(&part.need("image_url")?)
        }
        "input_file" => {
            part.only(&["type", "file_data", "file_url", "file_id", "filename"])?;
            link(&part.need("file_data")?)
        }
        "refusal" => Ok(Part::Text(part.word("refusal")?)),
        _ => {
            part.only(&["type", "text", "annotations", "logprobs"])?;
            Ok(Part::Text(part.need("text")?.text()?.to_owned()))
        }
    }
}

/// The items of the answer as they stand whole.
fn items(story: &Story) -> Vec<Value> {
    story.parts.iter().enumerate().map(|(place, part)| item_of(place, part)).collect()
}

fn item_of(place: usize, part: &Part) -> Value {
    match part {
        Part::Text(text) => json!({"type": "message", "id": format!("msg_{place}"), "status": "completed",
            "role": "assistant", "content": [text_part(text)]}),
        Part::Call { id, name, arguments, .. } => {
            json!({"type": "function_call", "id": format!("fc_{place}"),
            "call_id": format!("call_{}", id.as_deref().unwrap_or_default()), "name": name,
            "arguments": arguments.to_string(), "status": "completed"})
        }
        Part::Thinking { text, .. } => json!({"type": "reasoning", "id": format!("rs_{place}"),
            "summary": [{"type": "summary_text", "text": text}], "encrypted_content": OPENAI_ENCRYPTED}),
        _ => json!({"type": "reasoning", "id": format!("rs_{place}"), "summary": [],
            "encrypted_content": OPENAI_ENCRYPTED}),
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn response(asked: &Asked, story: &Story, output: &[Value], is_over: bool) -> Value {
    let reason = match story.stop {
        Stop::Length => Some("max_output_tokens"),
        Stop::Refused => Some("content_filter"),
        _ => None,
    };
    let status = match (is_over, reason) {
        (false, _) => "in_progress",
        (true, Some(_)) => "incomplete",
        (true, None) => "completed",
    };
    let details = reason.filter(|_| is_over).map(|reason| json!({"reason": reason}));
    let usage = is_over.then(|| {
        json!({"input_tokens": INPUT, "output_tokens": OUTPUT, "total_tokens": INPUT + OUTPUT,
            "input_tokens_details": {"cached_tokens": CACHED, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": story.reasoning()}})
    });
    json!({"id": "resp_67ccd2bed1ec8190", "object": "response", "created_at": 1_795_000_000, "status": status,
        "error": null, "incomplete_details": details, "instructions": null, "max_output_tokens": null,
        "model": asked.model, "output": output, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": false, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "usage": usage, "user": null, "metadata": {}})
}

fn failed() -> Refusal {
    Refusal { status: 503, path: None, message: "The engine is currently overloaded".to_owned() }
}

fn whole(asked: &Asked, story: &Story) -> Reply {
    if story.fault == Some(Fault::Told) {
        return error(&failed());
    }
    Reply::json(200, response(asked, story, &items(story), true).to_string())
}

/// Writes events with their numbers.
struct Events {
    reply: Reply,
    number: u32,
}

impl Events {
    fn send(&mut self, kind: &str, mut data: Value) {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.number);
        self.number += 1;
        let empty = Reply::new(200);
        let reply = std::mem::replace(&mut self.reply, empty);
        self.reply = reply.body(format!("event: {kind}\ndata: {data}\n\n"));
    }
}

fn stream(asked: &Asked, story: &Story) -> Reply {
    let reply = Reply::new(200).header("content-type", "text/event-stream; charset=utf-8").chunked();
    let mut events = Events { reply, number: 0 };
    for kind in ["response.created", "response.in_progress"] {
        events.send(kind, json!({"response": response(asked, story, &[], false)}));
    }
    for (place, part) in story.parts.iter().enumerate() {
        stream_item(&mut events, place, part, story.fault);
    }
    if story.fault.is_none() {
        let whole = response(asked, story, &items(story), true);
        let kind = if whole["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        events.send(kind, json!({"response": whole}));
    }
    let number = events.number;
    end(events.reply, story.fault, |reply| {
        let data = json!({"type": "error", "code": "server_error", "message": failed().message, "param": null,
            "sequence_number": number});
        reply.body(format!("event: error\ndata: {data}\n\n"))
    })
}

fn stream_item(events: &mut Events, place: usize, part: &Part, fault: Option<Fault>) {
    let whole = item_of(place, part);
    let mut begun = whole.clone();
    let id = whole["id"].clone();
    let at = |more: Value| {
        let mut data = json!({"item_id": id, "output_index": place});
        for (name, value) in more.as_object().into_iter().flatten() {
            data[name] = value.clone();
        }
        data
    };
    for (name, empty) in [("content", json!([])), ("arguments", json!("")), ("summary", json!([]))] {
        if begun.get(name).is_some() {
            begun[name] = empty;
        }
    }
    if begun.get("status").is_some() {
        begun["status"] = json!("in_progress");
    }
    events.send("response.output_item.added", json!({"output_index": place, "item": begun}));
    match part {
        Part::Text(text) => {
            events
                .send("response.content_part.added", at(json!({"content_index": 0, "part": text_part("")})));
            for piece in Story::pieces(text) {
                let delta = json!({"content_index": 0, "delta": piece, "logprobs": []});
                events.send("response.output_text.delta", at(delta));
            }
            if fault.is_some() {
                return;
            }
            let done = json!({"content_index": 0, "text": text, "logprobs": []});
            events.send("response.output_text.done", at(done));
            events
                .send("response.content_part.done", at(json!({"content_index": 0, "part": text_part(text)})));
        }
        Part::Thinking { text, .. } => {
            let part = |text: &str| json!({"type": "summary_text", "text": text});
            let added = json!({"summary_index": 0, "part": part("")});
            events.send("response.reasoning_summary_part.added", at(added));
            for piece in Story::pieces(text) {
                let delta = json!({"summary_index": 0, "delta": piece});
                events.send("response.reasoning_summary_text.delta", at(delta));
            }
            let done = json!({"summary_index": 0, "text": text});
            events.send("response.reasoning_summary_text.done", at(done));
            let done = json!({"summary_index": 0, "part": part(text)});
            events.send("response.reasoning_summary_part.done", at(done));
        }
        Part::Call { name, arguments, .. } => {
            for piece in Story::pieces(&arguments.to_string()) {
                events.send("response.function_call_arguments.delta", at(json!({"delta": piece})));
            }
            let done = json!({"name": name, "arguments": arguments.to_string()});
            events.send("response.function_call_arguments.done", at(done));
        }
        _ => {}
    }
    events.send("response.output_item.done", json!({"output_index": place, "item": whole}));
}
