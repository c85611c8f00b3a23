//! A client's request, read.

use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::chat::{
    ChatRequest, Content, Effort, Extra, Format, Function, Level, Message, Part, Raw, Reasoning, Role, Tool,
    ToolChoice,
};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::anthropic::messages::block;
use crate::wire::anthropic::object::{Members, missing, within, wrong};
use crate::wire::json::Writer;

/// The names of the tools by the ids of the calls that were seen.
type Calls = HashMap<String, String>;

/// Reads a request, of an answer or of its count of tokens.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let invalid = |message| Error::new(ErrorKind::InvalidRequest, message);
    let text = std::str::from_utf8(body).map_err(|_| invalid("the body is not UTF-8"))?;
    let mut members = Members::read(text).ok_or_else(|| invalid("the body must be a JSON object"))?;
    let mut request = ChatRequest::new(Surface::Messages, members.string("model")?.unwrap_or_default());
    if let Some(system) = members.take("system") {
        request.messages.push(Message::new(Role::System, instructions("system", system)?));
    }
    read_messages(&mut members, &mut request.messages)?;
    request.tools = read_tools(&mut members)?;
    (request.tool_choice, request.parallel_tool_calls) = read_tool_choice(&mut members)?;
    request.max_tokens = members.count("max_tokens")?;
    request.temperature = members.float("temperature")?;
    request.top_p = members.float("top_p")?;
    request.top_k = members.count("top_k")?;
    request.stop = read_stop(&mut members)?;
    let (effort, format, config) = read_output_config(&mut members)?;
    request.format = format;
    request.reasoning = read_thinking(&mut members, effort)?;
    (request.user, request.metadata) = read_metadata(&mut members)?;
    request.service_tier = members.string("service_tier")?;
    request.is_stream = members.boolean("stream")?.unwrap_or_default();
    // Streams of this surface always end with their usage.
    request.asks_usage = true;
    request.extra = members.rest();
    if !config.0.is_empty() {
        request.extra.0.push(("output_config".to_owned(), object_of(&config)));
    }
    Ok(request)
}

fn read_messages(members: &mut Members<'_>, messages: &mut Vec<Message>) -> Result<()> {
    let list = members.list("messages")?.ok_or_else(|| missing("messages"))?;
    let mut calls = Calls::new();
    for (at, message) in list.into_iter().enumerate() {
        read_message(message, messages, &mut calls)
            .map_err(|error| within(format!("messages[{at}]"), error))?;
    }
    Ok(())
}

fn read_message(message: &RawValue, messages: &mut Vec<Message>, calls: &mut Calls) -> Result<()> {
    let Some(mut members) = Members::read(message.get()) else {
        return Err(Error::invalid("", "a message must be an object with `role` and `content`"));
    };
    let role = members.required_string("role")?;
    let content = members.take("content").ok_or_else(|| missing("content"))?;
    match role.as_str() {
        "user" => user(block::read_content("content", content)?, members.rest(), messages, calls),
        "assistant" => {
            let parts = assistant(block::read_content("content", content)?, calls)?;
            messages.push(Message { extra: members.rest(), ..Message::new(Role::Assistant, parts) });
            Ok(())
        }
        "system" => {
            let parts = instructions("content", content)?;
            messages.push(Message { extra: members.rest(), ..Message::new(Role::System, parts) });
            Ok(())
        }
        _ => {
            Err(Error::invalid("role", format!("unknown role `{role}`; use `user`, `assistant` or `system`")))
        }
    }
}

/// Results come first, in a message of their own; what was said with them follows.
fn user(mut parts: Vec<Part>, extra: Extra, messages: &mut Vec<Message>, calls: &Calls) -> Result<()> {
    for (at, part) in parts.iter_mut().enumerate() {
        match &mut part.content {
            Content::ToolResult { id, name, .. } => {
                *name = Some(calls.get(id).cloned().ok_or_else(|| without_call(at, id))?);
            }
            Content::ToolCall { .. } => {
                let message = "`tool_use` stands in messages of the role `assistant` only";
                return Err(Error::invalid(format!("content[{at}].type"), message));
            }
            _ => {}
        }
    }
    let is_result = |part: &Part| matches!(part.content, Content::ToolResult { .. });
    let (results, said): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_result);
    if results.is_empty() {
        messages.push(Message { extra, ..Message::new(Role::User, said) });
        return Ok(());
    }
    messages.push(Message { extra, ..Message::new(Role::Tool, results) });
    if !said.is_empty() {
        messages.push(Message::new(Role::User, said));
    }
    Ok(())
}

fn without_call(at: usize, id: &str) -> Error {
    let message = format!(
        "`{id}` is the id of no `tool_use` in an earlier message; a result follows the message with its call"
    );
    Error::invalid(format!("content[{at}].tool_use_id"), message)
}

/// Notes the calls, and gives them the signatures that this surface's clients hold for them: a thinking block of another
/// vendor's without a text, right before the call.
fn assistant(parts: Vec<Part>, calls: &mut Calls) -> Result<Vec<Part>> {
    let mut kept: Vec<Part> = Vec::with_capacity(parts.len());
    for (at, mut part) in parts.into_iter().enumerate() {
        match &mut part.content {
            Content::ToolCall { id, name, signature, .. } => {
                calls.insert(id.clone(), name.clone());
                let last = kept.pop_if(|last| is_foreign_signature(&last.content));
                if let Some(Part { content: Content::Thinking { signature: own, .. }, .. }) = last {
                    *signature = own;
                }
            }
            Content::ToolResult { .. } => {
                let message = "`tool_result` stands in messages of the role `user` only";
                return Err(Error::invalid(format!("content[{at}].type"), message));
            }
            _ => {}
        }
        kept.push(part);
    }
    Ok(kept)
}

fn is_foreign_signature(content: &Content) -> bool {
    let Content::Thinking { text, signature: Some(signature) } = content else { return false };
    text.is_empty() && signature.surface != Surface::Messages
}

fn instructions(name: &'static str, value: &RawValue) -> Result<Vec<Part>> {
    let parts = block::read_content(name, value)?;
    match parts.iter().position(|part| !matches!(part.content, Content::Text { .. })) {
        Some(at) => {
            Err(Error::invalid(format!("{name}[{at}].type"), "instructions are of the type `text` only"))
        }
        None => Ok(parts),
    }
}

fn read_tools(members: &mut Members<'_>) -> Result<Vec<Tool>> {
    let tools = members.list("tools")?.unwrap_or_default().into_iter().enumerate();
    tools.map(|(at, tool)| read_tool(tool).map_err(|error| within(format!("tools[{at}]"), error))).collect()
}

fn read_tool(tool: &RawValue) -> Result<Tool> {
    let Some(mut members) = Members::read(tool.get()) else {
        return Err(Error::invalid("", "a tool must be an object"));
    };
    if let Some(kind) = members.string("type")?.filter(|kind| kind != "custom") {
        return Ok(Tool::Other { kind, json: Raw::of(&tool) });
    }
    let parameters = members.take("input_schema").ok_or_else(|| missing("input_schema"))?;
    if !parameters.get().starts_with('{') {
        return Err(wrong("input_schema", "a JSON Schema, an object"));
    }
    Ok(Tool::Function(Function {
        name: members.required_string("name")?,
        description: members.string("description")?,
        parameters: Some(Raw::of(&parameters)),
        strict: members.boolean("strict")?,
        cache: members.cache_control()?,
        extra: members.rest(),
    }))
}

fn read_tool_choice(members: &mut Members<'_>) -> Result<(Option<ToolChoice>, Option<bool>)> {
    let Some(mut choice) = members.object("tool_choice")? else { return Ok((None, None)) };
    let mut read = || -> Result<(Option<ToolChoice>, Option<bool>)> {
        let tool_choice = match choice.required_string("type")?.as_str() {
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            "tool" => ToolChoice::Named(choice.required_string("name")?),
            _ => return Err(wrong("type", "`auto`, `any`, `tool` or `none`")),
        };
        let is_serial = choice.boolean("disable_parallel_tool_use")?;
        Ok((Some(tool_choice), is_serial.map(|is_serial| !is_serial)))
    };
    read().map_err(|error| within("tool_choice", error))
}

fn read_stop(members: &mut Members<'_>) -> Result<Vec<String>> {
    let Some(stop) = members.take("stop_sequences") else { return Ok(Vec::new()) };
    serde_json::from_str(stop.get()).map_err(|_| wrong("stop_sequences", "a list of strings"))
}

/// Reads how much effort is wanted, the form of the answer, and what else there is.
fn read_output_config(members: &mut Members<'_>) -> Result<(Option<Effort>, Option<Format>, Extra)> {
    // The name it had in the beta.
    let beta = members.object("output_format")?;
    let Some(mut config) = members.object("output_config")? else {
        let format = beta.map(read_format).transpose().map_err(|error| within("output_format", error))?;
        return Ok((None, format.flatten(), Extra::default()));
    };
    let read = || -> Result<(Option<Effort>, Option<Format>)> {
        let effort = config.string("effort")?.map(|effort| read_effort(&effort)).transpose()?;
        let format = match config.object("format")?.or(beta) {
            Some(format) => read_format(format).map_err(|error| within("format", error))?,
            None => None,
        };
        Ok((effort, format))
    };
    let (effort, format) = read().map_err(|error| within("output_config", error))?;
    Ok((effort, format, config.rest()))
}

fn read_effort(effort: &str) -> Result<Effort> {
    match effort {
        "low" => Ok(Effort::Low),
        "medium" => Ok(Effort::Medium),
        "high" => Ok(Effort::High),
        "xhigh" | "max" => Ok(Effort::Max),
        _ => Err(wrong("effort", "`low`, `medium`, `high`, `xhigh` or `max`")),
    }
}

fn read_format(mut format: Members<'_>) -> Result<Option<Format>> {
    if format.required_string("type")? != "json_schema" {
        return Err(wrong("type", "`json_schema`"));
    }
    let schema = format.take("schema").ok_or_else(|| missing("schema"))?;
    if !schema.get().starts_with('{') {
        return Err(wrong("schema", "a JSON Schema, an object"));
    }
    Ok(Some(Format::Schema { name: None, description: None, schema: Raw::of(&schema), strict: None }))
}

fn read_thinking(members: &mut Members<'_>, effort: Option<Effort>) -> Result<Option<Reasoning>> {
    let by_effort = effort.map(Level::Effort);
    let Some(mut thinking) = members.object("thinking")? else {
        return Ok(by_effort.map(|level| Reasoning { level, is_shown: None }));
    };
    let mut read = || -> Result<Option<Reasoning>> {
        let level = match thinking.required_string("type")?.as_str() {
            "disabled" => Level::Off,
            "enabled" => {
                Level::Budget(thinking.count("budget_tokens")?.ok_or_else(|| missing("budget_tokens"))?)
            }
            "adaptive" => by_effort.unwrap_or(Level::Dynamic),
            "between_tools" => by_effort.unwrap_or(Level::Effort(Effort::Minimal)),
            _ => return Err(wrong("type", "`enabled`, `disabled`, `adaptive` or `between_tools`")),
        };
        let is_shown = thinking.string("display")?.map(|display| display != "omitted");
        Ok(Some(Reasoning { level, is_shown }))
    };
    read().map_err(|error| within("thinking", error))
}

/// Reads whom the client asks for, and the labels if there are more than that one.
fn read_metadata(members: &mut Members<'_>) -> Result<(Option<String>, Option<Raw>)> {
    let Some(value) = members.take("metadata") else { return Ok((None, None)) };
    let mut metadata = Members::read(value.get()).ok_or_else(|| wrong("metadata", "an object"))?;
    let user = metadata.string("user_id").map_err(|error| within("metadata", error))?;
    let has_labels = !metadata.rest().0.is_empty();
    Ok((user, has_labels.then(|| Raw::of(&value))))
}

fn object_of(extra: &Extra) -> Raw {
    let mut json = Vec::new();
    let mut writer = Writer::new(&mut json);
    writer.extra(extra);
    writer.finish();
    let json = String::from_utf8(json).expect("it is written from texts");
    Raw::new(json).expect("a written object is JSON")
}
