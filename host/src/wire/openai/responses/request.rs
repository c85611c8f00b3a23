//! Requests of the Responses API, read into the hub.

use crate::chat::{
    ChatRequest, Effort, Format, Function, Level, Message, Part, Raw, Reasoning, Role, Tool, ToolChoice,
};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::json::{Kind, Object, Value};
use crate::wire::openai::responses::input;

/// Members that name something which OpenAI keeps for the client.
const KEPT: [&str; 3] = ["previous_response_id", "conversation", "prompt"];

/// Members that say only how the answer is handed over or kept. An upstream that is asked in other words does neither.
const HANDED_OVER: [&str; 4] = ["stream", "stream_options", "store", "background"];

/// What `include` says of the probabilities of tokens; nothing else that it can say is in the gateway's power.
const INCLUDE_LOGPROBS: &str = "message.output_text.logprobs";

/// Reads a request.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`](crate::error::ErrorKind::InvalidRequest), which names the field: a wrong type, an unknown
/// role, a result without its call, a picture that is neither a URL nor data, and whatever only OpenAI has, because it
/// keeps it: earlier answers, conversations, prompts, answers in the background.
///
/// Source: OpenAI API reference, "Create a model response", and the types of its clients, seen 2026-11.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let document = Value::document(body)?;
    let fields = &document.object()?;
    refuse_kept(fields)?;
    let mut request = ChatRequest::new(Surface::Responses, fields.string("model")?.unwrap_or_default());
    request.is_stream = fields.boolean("stream")?.unwrap_or_default();
    // Every stream of this surface ends with the whole answer, and that has its usage.
    request.asks_usage = true;
    request.messages.extend(fields.string("instructions")?.map(instructions));
    conversation(fields, &mut request.messages)?;
    for value in fields.list("tools")? {
        request.tools.push(tool(&value)?);
    }
    request.tool_choice = tool_choice(fields)?;
    request.parallel_tool_calls = fields.boolean("parallel_tool_calls")?;
    request.max_tokens = fields.count("max_output_tokens")?;
    request.temperature = fields.number("temperature")?;
    request.top_p = fields.number("top_p")?;
    (request.logprobs, request.top_logprobs) = logprobs(fields)?;
    request.reasoning = reasoning(fields)?;
    (request.format, request.verbosity) = text(fields)?;
    let (safety_identifier, user) = (fields.string("safety_identifier")?, fields.string("user")?);
    request.user = user.or(safety_identifier);
    request.metadata = fields.raw_object("metadata")?;
    request.service_tier = fields.string("service_tier")?;
    // `disabled` is what every other vendor does.
    if fields.string("truncation")?.as_deref() == Some("auto") {
        request.extra.0.push(("truncation".to_owned(), Raw::of(&"auto")));
    }
    request.extra.0.extend(fields.rest(&HANDED_OVER).0);
    Ok(request)
}

fn refuse_kept(fields: &Object<'_, '_>) -> Result<()> {
    for name in KEPT {
        if fields.has(name) {
            let what = "cannot be used here, the upstream keeps no conversations; send everything in `input`";
            return Err(fields.error_at(name, what));
        }
    }
    if fields.boolean("background")? == Some(true) {
        let what = "must be false, the upstream keeps no conversations and answers at once";
        return Err(fields.error_at("background", what));
    }
    Ok(())
}

fn instructions(text: String) -> Message {
    Message::new(Role::System, vec![Part::text(text)])
}

fn conversation(fields: &Object<'_, '_>, messages: &mut Vec<Message>) -> Result<()> {
    let input = fields.need("input")?;
    match input.kind() {
        Kind::String => messages.push(Message::new(Role::User, vec![Part::text(input.text()?)])),
        Kind::Array => input::read(&input, messages)?,
        _ => return Err(input.error("must be a string or a list")),
    }
    if messages.is_empty() {
        return Err(fields.error_at("input", "is empty, send at least one item"));
    }
    Ok(())
}

fn tool(value: &Value<'_, '_>) -> Result<Tool> {
    let fields = value.object()?;
    let kind = fields.need("type")?.string()?;
    if kind != "function" {
        return Ok(Tool::Other { kind, json: value.raw()? });
    }
    Ok(Tool::Function(Function {
        name: fields.need("name")?.string()?,
        description: fields.string("description")?,
        parameters: fields.raw_object("parameters")?,
        strict: fields.boolean("strict")?,
        cache: None,
        extra: fields.rest(&[]),
    }))
}

fn tool_choice(fields: &Object<'_, '_>) -> Result<Option<ToolChoice>> {
    let Some(value) = fields.get("tool_choice") else { return Ok(None) };
    if value.kind() == Kind::String {
        return match &*value.text()? {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(value.error("must be `auto`, `none`, `required` or an object")),
        };
    }
    let choice = &value.object()?;
    match &*choice.need("type")?.string()? {
        "function" => Ok(Some(ToolChoice::Named(choice.need("name")?.string()?))),
        "allowed_tools" => allowed_tools(choice).map(Some),
        other => {
            let what = format!("is `{other}`, which the upstream has no tool for; name a function");
            Err(choice.error_at("type", &what))
        }
    }
}

fn allowed_tools(choice: &Object<'_, '_>) -> Result<ToolChoice> {
    let is_required = match choice.string("mode")?.as_deref() {
        Some("required") => true,
        Some("auto") | None => false,
        Some(_) => return Err(choice.error_at("mode", "must be `auto` or `required`")),
    };
    let mut names = Vec::new();
    for value in choice.list("tools")? {
        let tool = value.object()?;
        // Tools of the vendor's are left out of the list of tools too.
        if tool.need("type")?.string()? == "function" {
            names.push(tool.need("name")?.string()?);
        }
    }
    Ok(ToolChoice::Among { names, is_required })
}

/// Whether probabilities are wanted, and of how many alternatives.
fn logprobs(fields: &Object<'_, '_>) -> Result<(Option<bool>, Option<u64>)> {
    let mut is_wanted = false;
    for included in fields.list("include")? {
        is_wanted |= included.text()? == INCLUDE_LOGPROBS;
    }
    let top = fields.count("top_logprobs")?.filter(|top| *top > 0);
    is_wanted |= top.is_some();
    Ok((is_wanted.then_some(true), top))
}

fn reasoning(fields: &Object<'_, '_>) -> Result<Option<Reasoning>> {
    let Some(reasoning) = fields.object("reasoning")? else { return Ok(None) };
    let (older, newer) = (reasoning.string("generate_summary")?, reasoning.string("summary")?);
    let is_shown = newer.or(older).map(|_| true);
    let level = match reasoning.string("effort")?.as_deref() {
        Some("none") => Level::Off,
        Some("minimal") => Level::Effort(Effort::Minimal),
        Some("low") => Level::Effort(Effort::Low),
        Some("medium") => Level::Effort(Effort::Medium),
        Some("high") => Level::Effort(Effort::High),
        Some("xhigh" | "max") => Level::Effort(Effort::Max),
        Some(_) => {
            let what = "must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";
            return Err(reasoning.error_at("effort", what));
        }
        // Who wants to see the thinking wants some.
        None if is_shown.is_some() => Level::Dynamic,
        None => return Ok(None),
    };
    Ok(Some(Reasoning { level, is_shown }))
}

/// The form of the answer and how many words it is to have.
fn text(fields: &Object<'_, '_>) -> Result<(Option<Format>, Option<String>)> {
    let Some(text) = fields.object("text")? else { return Ok((None, None)) };
    let verbosity = text.string("verbosity")?;
    let format = text.object("format")?.map(|fields| format(&fields)).transpose()?;
    Ok((format, verbosity))
}

fn format(fields: &Object<'_, '_>) -> Result<Format> {
    match &*fields.need("type")?.string()? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            let name = fields.string("name")?;
            let schema = fields.raw_object("schema")?;
            let schema = schema.ok_or_else(|| fields.error_at("schema", "is missing"))?;
            let (description, strict) = (fields.string("description")?, fields.boolean("strict")?);
            Ok(Format::Schema { name, description, schema, strict })
        }
        _ => Err(fields.error_at("type", "must be `text`, `json_object` or `json_schema`")),
    }
}
