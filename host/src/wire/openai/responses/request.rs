//! Requests of the Responses API, read into the hub.

use crate::chat::{
    ChatRequest, Effort, Format, Function, Level, Message, Part, Raw, Reasoning, Role, Tool, ToolChoice,
};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::openai::responses::input;
use crate::wire::openai::responses::members::{Fields, string, wrong};

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
    let mut fields = Fields::of_body(body)?;
    refuse_kept(&mut fields)?;
    let mut request = ChatRequest::new(Surface::Responses, fields.text("model")?.unwrap_or_default());
    request.is_stream = fields.flag("stream")?.unwrap_or_default();
    // Every stream of this surface ends with the whole answer, and that has its usage.
    request.asks_usage = true;
    request.messages.extend(fields.text("instructions")?.map(instructions));
    conversation(&mut fields, &mut request.messages)?;
    for (at, json) in fields.list("tools")? {
        request.tools.push(tool(at, json)?);
    }
    request.tool_choice = tool_choice(&mut fields)?;
    request.parallel_tool_calls = fields.flag("parallel_tool_calls")?;
    request.max_tokens = fields.count("max_output_tokens")?;
    request.temperature = fields.number("temperature")?;
    request.top_p = fields.number("top_p")?;
    (request.logprobs, request.top_logprobs) = logprobs(&mut fields)?;
    request.reasoning = reasoning(&mut fields)?;
    (request.format, request.verbosity) = text(&mut fields)?;
    let (safety_identifier, user) = (fields.text("safety_identifier")?, fields.text("user")?);
    request.user = user.or(safety_identifier);
    request.metadata = fields.raw_object("metadata")?;
    request.service_tier = fields.text("service_tier")?;
    // `disabled` is what every other vendor does.
    if fields.text("truncation")?.as_deref() == Some("auto") {
        request.extra.0.push(("truncation".to_owned(), Raw::of(&"auto")));
    }
    // The chat API has it as a member of its own.
    for name in HANDED_OVER {
        fields.take(name);
    }
    request.extra.0.extend(fields.rest().0);
    Ok(request)
}

fn refuse_kept(fields: &mut Fields<'_>) -> Result<()> {
    for name in KEPT {
        if fields.has(name) {
            let what = "cannot be used here, the upstream keeps no conversations; send everything in `input`";
            return Err(fields.invalid(name, what));
        }
        fields.take(name);
    }
    if fields.flag("background")? == Some(true) {
        let what = "must be false, the upstream keeps no conversations and answers at once";
        return Err(fields.invalid("background", what));
    }
    Ok(())
}

fn instructions(text: String) -> Message {
    Message::new(Role::System, vec![Part::text(text)])
}

fn conversation(fields: &mut Fields<'_>, messages: &mut Vec<Message>) -> Result<()> {
    match fields.take("input") {
        Some(json) if json.starts_with('"') => {
            let text = string(json).unwrap_or_default();
            messages.push(Message::new(Role::User, vec![Part::text(text)]));
        }
        Some(json) if json.starts_with('[') => input::read(json, messages)?,
        Some(_) => return Err(wrong("input".to_owned(), "a string or an array")),
        None => return Err(fields.missing("input")),
    }
    if messages.is_empty() {
        return Err(fields.invalid("input", "is empty, send at least one item"));
    }
    Ok(())
}

fn tool(at: String, json: &str) -> Result<Tool> {
    let mut fields = Fields::of(at, json)?;
    let kind = fields.required_text("type")?;
    if kind != "function" {
        let json = Raw::new(json).ok_or_else(|| fields.invalid("type", "is in what is not JSON"))?;
        return Ok(Tool::Other { kind, json });
    }
    Ok(Tool::Function(Function {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters: fields.raw_object("parameters")?,
        strict: fields.flag("strict")?,
        cache: None,
        extra: fields.rest(),
    }))
}

fn tool_choice(fields: &mut Fields<'_>) -> Result<Option<ToolChoice>> {
    let Some(json) = fields.take("tool_choice") else { return Ok(None) };
    if let Some(word) = string(json) {
        return match &*word {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            "required" => Ok(Some(ToolChoice::Required)),
            _ => Err(fields.invalid("tool_choice", "must be `auto`, `none`, `required` or an object")),
        };
    }
    let mut choice = Fields::of("tool_choice".to_owned(), json)?;
    match &*choice.required_text("type")? {
        "function" => Ok(Some(ToolChoice::Named(choice.required_text("name")?))),
        "allowed_tools" => allowed_tools(&mut choice).map(Some),
        other => {
            let what = format!("is `{other}`, which the upstream has no tool for; name a function");
            Err(choice.invalid("type", &what))
        }
    }
}

fn allowed_tools(choice: &mut Fields<'_>) -> Result<ToolChoice> {
    let is_required = match choice.text("mode")?.as_deref() {
        Some("required") => true,
        Some("auto") | None => false,
        Some(_) => return Err(choice.invalid("mode", "must be `auto` or `required`")),
    };
    let mut names = Vec::new();
    for (at, json) in choice.list("tools")? {
        let mut tool = Fields::of(at, json)?;
        // Tools of the vendor's are left out of the list of tools too.
        if tool.required_text("type")? == "function" {
            names.push(tool.required_text("name")?);
        }
    }
    Ok(ToolChoice::Among { names, is_required })
}

/// Whether probabilities are wanted, and of how many alternatives.
fn logprobs(fields: &mut Fields<'_>) -> Result<(Option<bool>, Option<u64>)> {
    let mut is_wanted = false;
    for (at, json) in fields.list("include")? {
        let included = string(json).ok_or_else(|| wrong(at, "a string"))?;
        is_wanted |= included == INCLUDE_LOGPROBS;
    }
    let top = fields.count("top_logprobs")?.filter(|top| *top > 0);
    is_wanted |= top.is_some();
    Ok((is_wanted.then_some(true), top))
}

fn reasoning(fields: &mut Fields<'_>) -> Result<Option<Reasoning>> {
    let Some(mut reasoning) = fields.object("reasoning")? else { return Ok(None) };
    let (older, newer) = (reasoning.text("generate_summary")?, reasoning.text("summary")?);
    let is_shown = newer.or(older).map(|_| true);
    let level = match reasoning.text("effort")?.as_deref() {
        Some("none") => Level::Off,
        Some("minimal") => Level::Effort(Effort::Minimal),
        Some("low") => Level::Effort(Effort::Low),
        Some("medium") => Level::Effort(Effort::Medium),
        Some("high") => Level::Effort(Effort::High),
        Some("xhigh" | "max") => Level::Effort(Effort::Max),
        Some(_) => {
            let what = "must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`";
            return Err(reasoning.invalid("effort", what));
        }
        // Who wants to see the thinking wants some.
        None if is_shown.is_some() => Level::Dynamic,
        None => return Ok(None),
    };
    Ok(Some(Reasoning { level, is_shown }))
}

/// The form of the answer and how many words it is to have.
fn text(fields: &mut Fields<'_>) -> Result<(Option<Format>, Option<String>)> {
    let Some(mut text) = fields.object("text")? else { return Ok((None, None)) };
    let verbosity = text.text("verbosity")?;
    let format = text.object("format")?.map(format).transpose()?;
    Ok((format, verbosity))
}

fn format(mut fields: Fields<'_>) -> Result<Format> {
    match &*fields.required_text("type")? {
        "text" => Ok(Format::Text),
        "json_object" => Ok(Format::Json),
        "json_schema" => {
            let name = fields.text("name")?;
            let schema = fields.raw_object("schema")?;
            let schema = schema.ok_or_else(|| fields.missing("schema"))?;
            let (description, strict) = (fields.text("description")?, fields.flag("strict")?);
            Ok(Format::Schema { name, description, schema, strict })
        }
        _ => Err(fields.invalid("type", "must be `text`, `json_object` or `json_schema`")),
    }
}
