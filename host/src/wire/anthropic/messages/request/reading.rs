//! A client's request, read.

use std::collections::HashMap;

use crate::chat::{
    ChatRequest, Content, Effort, Extra, Format, Function, Level, Message, Part, Raw, Reasoning, Role, Tool,
    ToolChoice,
};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::anthropic::messages::block;
use crate::wire::json::{Kind, Object, Value, Writer};

/// The names of the tools by the ids of the calls that were seen.
type Calls = HashMap<String, String>;

/// Reads a request, of an answer or of its count of tokens.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let members = &Value::document(body)?.object()?;
    let mut request = ChatRequest::new(Surface::Messages, members.string("model")?.unwrap_or_default());
    if let Some(system) = members.get("system") {
        request.messages.push(Message::new(Role::System, instructions(&system)?));
    }
    read_messages(members, &mut request.messages)?;
    request.tools = read_tools(members)?;
    (request.tool_choice, request.parallel_tool_calls) = read_tool_choice(members)?;
    request.max_tokens = members.count("max_tokens")?;
    request.temperature = members.number("temperature")?;
    request.top_p = members.number("top_p")?;
    request.top_k = members.count("top_k")?;
    request.stop = read_stop(members)?;
    let (effort, format, config) = read_output_config(members)?;
    request.format = format;
    request.reasoning = read_thinking(members, effort)?;
    (request.user, request.metadata) = read_metadata(members)?;
    request.service_tier = members.string("service_tier")?;
    request.is_stream = members.boolean("stream")?.unwrap_or_default();
    // Streams of this surface always end with their usage.
    request.asks_usage = true;
    request.extra = members.rest(&[]);
    if !config.0.is_empty() {
        request.extra.0.push(("output_config".to_owned(), object_of(&config)));
    }
    Ok(request)
}

fn read_messages(members: &Object<'_, '_>, messages: &mut Vec<Message>) -> Result<()> {
    let mut calls = Calls::new();
    members.need("messages")?.each(|message| read_message(message, messages, &mut calls)).map(drop)
}

fn read_message(message: &Value<'_, '_>, messages: &mut Vec<Message>, calls: &mut Calls) -> Result<()> {
    if message.kind() != Kind::Object {
        return Err(message.invalid("a message must be an object with `role` and `content`"));
    }
    let members = &message.object()?;
    let role = members.need("role")?;
    let content = &members.need("content")?;
    let (role, parts) = match &*role.text()? {
        "user" => return user(content, members, messages, calls),
        "assistant" => (Role::Assistant, assistant(content, calls)?),
        "system" => (Role::System, instructions(content)?),
        other => {
            return Err(role.invalid(format!("unknown role `{other}`; use `user`, `assistant` or `system`")));
        }
    };
    messages.push(Message { extra: members.rest(&[]), ..Message::new(role, parts) });
    Ok(())
}

/// Results come first, in a message of their own; what was said with them follows.
fn user(
    content: &Value<'_, '_>,
    members: &Object<'_, '_>,
    messages: &mut Vec<Message>,
    calls: &Calls,
) -> Result<()> {
    let mut parts = block::read_content(content)?;
    let extra = members.rest(&[]);
    for (at, part) in parts.iter_mut().enumerate() {
        match &mut part.content {
            Content::ToolResult { id, name, .. } => {
                *name = Some(calls.get(id).cloned().ok_or_else(|| without_call(content, at, id))?);
            }
            Content::ToolCall { .. } => {
                let message = "`tool_use` stands in messages of the role `assistant` only";
                return Err(content.invalid_at(at, "type", message));
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

fn without_call(content: &Value<'_, '_>, at: usize, id: &str) -> Error {
    let message = format!(
        "`{id}` is the id of no `tool_use` in an earlier message; a result follows the message with its call"
    );
    content.invalid_at(at, "tool_use_id", message)
}

/// Notes the calls, and gives them the signatures that this surface's clients hold for them: a thinking block of another
/// vendor's without a text, right before the call.
fn assistant(content: &Value<'_, '_>, calls: &mut Calls) -> Result<Vec<Part>> {
    let parts = block::read_content(content)?;
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
                return Err(content.invalid_at(at, "type", message));
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

fn instructions(content: &Value<'_, '_>) -> Result<Vec<Part>> {
    let parts = block::read_content(content)?;
    match parts.iter().position(|part| !matches!(part.content, Content::Text { .. })) {
        Some(at) => Err(content.invalid_at(at, "type", "instructions are of the type `text` only")),
        None => Ok(parts),
    }
}

fn read_tools(members: &Object<'_, '_>) -> Result<Vec<Tool>> {
    members.list("tools")?.iter().map(read_tool).collect()
}

fn read_tool(tool: &Value<'_, '_>) -> Result<Tool> {
    let members = tool.object()?;
    if let Some(kind) = members.string("type")?.filter(|kind| kind != "custom") {
        return Ok(Tool::Other { kind, json: tool.raw()? });
    }
    Ok(Tool::Function(Function {
        name: members.need("name")?.string()?,
        description: members.string("description")?,
        parameters: Some(schema(&members, "input_schema")?),
        strict: members.boolean("strict")?,
        cache: cache::read(&members)?,
        extra: members.rest(&[]),
    }))
}

fn read_tool_choice(members: &Object<'_, '_>) -> Result<(Option<ToolChoice>, Option<bool>)> {
    let Some(choice) = members.object("tool_choice")? else { return Ok((None, None)) };
    let tool_choice = match &*choice.need("type")?.text()? {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.need("name")?.string()?),
        _ => return Err(choice.error_at("type", "must be `auto`, `any`, `tool` or `none`")),
    };
    let is_serial = choice.boolean("disable_parallel_tool_use")?;
    Ok((Some(tool_choice), is_serial.map(|is_serial| !is_serial)))
}

fn read_stop(members: &Object<'_, '_>) -> Result<Vec<String>> {
    members.list("stop_sequences")?.iter().map(Value::string).collect()
}

/// Reads how much effort is wanted, the form of the answer, and what else there is.
fn read_output_config(members: &Object<'_, '_>) -> Result<(Option<Effort>, Option<Format>, Extra)> {
    // The name it had in the beta.
    let beta = members.object("output_format")?;
    let Some(config) = members.object("output_config")? else {
        return Ok((None, beta.map(|format| read_format(&format)).transpose()?, Extra::default()));
    };
    let effort = config.get("effort").map(|effort| read_effort(&effort)).transpose()?;
    let format = config.object("format")?.or(beta).map(|format| read_format(&format)).transpose()?;
    Ok((effort, format, config.rest(&[])))
}

fn read_effort(effort: &Value<'_, '_>) -> Result<Effort> {
    match &*effort.text()? {
        "low" => Ok(Effort::Low),
        "medium" => Ok(Effort::Medium),
        "high" => Ok(Effort::High),
        "xhigh" | "max" => Ok(Effort::Max),
        _ => Err(effort.error("must be `low`, `medium`, `high`, `xhigh` or `max`")),
    }
}

fn read_format(format: &Object<'_, '_>) -> Result<Format> {
    if format.need("type")?.text()? != "json_schema" {
        return Err(format.error_at("type", "must be `json_schema`"));
    }
    Ok(Format::Schema { name: None, description: None, schema: schema(format, "schema")?, strict: None })
}

fn schema(members: &Object<'_, '_>, name: &str) -> Result<Raw> {
    let schema = members.need(name)?;
    if schema.kind() == Kind::Object {
        schema.raw()
    } else {
        Err(schema.error("must be a JSON Schema, an object"))
    }
}

fn read_thinking(members: &Object<'_, '_>, effort: Option<Effort>) -> Result<Option<Reasoning>> {
    let by_effort = effort.map(Level::Effort);
    let Some(thinking) = members.object("thinking")? else {
        return Ok(by_effort.map(|level| Reasoning { level, is_shown: None }));
    };
    let level = match &*thinking.need("type")?.text()? {
        "disabled" => Level::Off,
        "enabled" => Level::Budget(thinking.need("budget_tokens")?.count()?),
        "adaptive" => by_effort.unwrap_or(Level::Dynamic),
        "between_tools" => by_effort.unwrap_or(Level::Effort(Effort::Minimal)),
        _ => {
            let types = "must be `enabled`, `disabled`, `adaptive` or `between_tools`";
            return Err(thinking.error_at("type", types));
        }
    };
    let is_shown = thinking.text("display")?.map(|display| display != "omitted");
    Ok(Some(Reasoning { level, is_shown }))
}

/// Reads whom the client asks for, and the labels if there are more than that one.
fn read_metadata(members: &Object<'_, '_>) -> Result<(Option<String>, Option<Raw>)> {
    let Some(value) = members.get("metadata") else { return Ok((None, None)) };
    let metadata = value.object()?;
    let user = metadata.string("user_id")?;
    let has_labels = !metadata.rest(&[]).0.is_empty();
    Ok((user, has_labels.then(|| value.raw()).transpose()?))
}

fn object_of(extra: &Extra) -> Raw {
    let mut json = Vec::new();
    let mut writer = Writer::new(&mut json);
    writer.extra(extra);
    writer.finish();
    let json = String::from_utf8(json).expect("it is written from texts");
    Raw::new(json).expect("a written object is JSON")
}
