//! A request of the chat API, read.
//!
//! Source: OpenAI API reference, "Create chat completion"; OpenRouter, "Prompt Caching" and "Reasoning Tokens", for
//! `cache_control` and `reasoning`; LiteLLM, "Reasoning content", for `thinking` and `thinking_blocks`; all seen 2026-11.

use crate::chat::{
    CacheControl, ChatRequest, Effort, Extra, Format, Function, Level, Raw, Reasoning, Tool, ToolChoice,
};
use crate::error::Result;
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::json::{Kind, Object, Value};

mod message;
mod part;
mod written;

pub(super) use written::call_id;
pub use written::encode_request;

/// The members of a request that the hub has words for.
const KNOWN: [&str; 31] = [
    "model",
    "messages",
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "stop",
    "seed",
    "n",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "reasoning",
    "thinking",
    "response_format",
    "verbosity",
    "user",
    "metadata",
    "service_tier",
    "stream",
    "stream_options",
    "safety_identifier",
];

/// Reads a request.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`](crate::error::ErrorKind::InvalidRequest) with the field: a wrong type, an unknown role, a
/// result without its call, a picture that is neither a URL nor data.
pub fn decode_request(body: &[u8]) -> Result<ChatRequest> {
    let document = Value::document(body)?;
    let request = document.object()?;
    let mut chat = ChatRequest::new(Surface::Chat, request.need("model")?.string()?);
    chat.messages = message::messages(&request.need("messages")?)?;
    chat.tools = tools(&request)?;
    chat.tool_choice = tool_choice(&request)?;
    chat.parallel_tool_calls = request.boolean("parallel_tool_calls")?;
    chat.max_tokens = request.count("max_completion_tokens")?.or(request.count("max_tokens")?);
    sampling(&request, &mut chat)?;
    chat.reasoning = reasoning(&request)?;
    chat.format = format(&request)?;
    chat.verbosity = request.string("verbosity")?;
    chat.user = request.string("user")?.or(request.string("safety_identifier")?);
    chat.metadata = request.raw_object("metadata")?;
    chat.service_tier = request.string("service_tier")?;
    chat.is_stream = request.boolean("stream")?.unwrap_or(false);
    if let Some(options) = request.get("stream_options") {
        chat.asks_usage = options.object()?.boolean("include_usage")?.unwrap_or(false);
    }
    chat.extra = request.rest(&KNOWN);
    Ok(chat)
}

/// How tokens are drawn.
fn sampling(request: &Object<'_, '_>, chat: &mut ChatRequest) -> Result<()> {
    chat.temperature = request.number("temperature")?;
    chat.top_p = request.number("top_p")?;
    // vLLM's and llama.cpp's word for no limit is below zero.
    chat.top_k = match request.get("top_k") {
        Some(value) if value.integer().is_ok_and(|count| count < 0) => None,
        Some(value) => Some(value.count()?),
        None => None,
    };
    chat.stop = match request.get("stop") {
        None => Vec::new(),
        Some(value) if value.kind() == Kind::String => vec![value.string()?],
        Some(value) if value.kind() == Kind::Array => value.each(|word| word.string())?,
        Some(value) => return Err(value.error("must be a string or a list of strings")),
    };
    chat.seed = request.get("seed").map(|value| value.integer()).transpose()?;
    chat.n = request.count("n")?;
    chat.presence_penalty = request.number("presence_penalty")?;
    chat.frequency_penalty = request.number("frequency_penalty")?;
    chat.logprobs = request.boolean("logprobs")?;
    chat.top_logprobs = request.count("top_logprobs")?;
    chat.logit_bias = request.raw_object("logit_bias")?;
    Ok(())
}

/// The tools, and the functions of the time before there were others.
fn tools(request: &Object<'_, '_>) -> Result<Vec<Tool>> {
    let mut tools = match request.get("tools") {
        Some(list) => list.each(tool)?,
        None => Vec::new(),
    };
    if let Some(list) = request.get("functions") {
        tools.extend(list.each(|value| Ok(Tool::Function(function(&value.object()?, None)?)))?);
    }
    Ok(tools)
}

fn tool(value: &Value<'_, '_>) -> Result<Tool> {
    let tool = value.object()?;
    let kind = tool.string("type")?;
    match kind.as_deref() {
        Some("function") | None => {
            let cache = cache::read(&tool)?;
            Ok(Tool::Function(function(&tool.need("function")?.object()?, cache)?))
        }
        Some(kind) => Ok(Tool::Other { kind: kind.to_owned(), json: value.raw()? }),
    }
}

fn function(function: &Object<'_, '_>, cache: Option<CacheControl>) -> Result<Function> {
    let parameters = function.get("parameters");
    Ok(Function {
        name: function.need("name")?.string()?,
        description: function.string("description")?,
        parameters: parameters.map(|value| value.raw_object()).transpose()?,
        strict: function.boolean("strict")?,
        cache,
        extra: function.rest(&["name", "description", "parameters", "strict"]),
    })
}

fn tool_choice(request: &Object<'_, '_>) -> Result<Option<ToolChoice>> {
    const WORDS: &str = "must be `none`, `auto`, `required`, or an object that names a tool";
    let Some(choice) = request.get("tool_choice").or_else(|| request.get("function_call")) else {
        return Ok(None);
    };
    if choice.kind() == Kind::String {
        return match &*choice.string()? {
            "none" => Ok(Some(ToolChoice::None)),
            "auto" => Ok(Some(ToolChoice::Auto)),
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            _ => Err(choice.error(WORDS)),
        };
    }
    let object = choice.object()?;
    match object.string("type")?.as_deref() {
        Some("allowed_tools") => {
            let allowed = object.need("allowed_tools")?.object()?;
            let names = allowed.need("tools")?.each(|tool| named(&tool.object()?))?;
            let is_required = allowed.string("mode")?.as_deref() == Some("required");
            Ok(Some(ToolChoice::Among { names, is_required }))
        }
        // Without a type it is the `function_call` of old.
        _ => named(&object).map(|name| Some(ToolChoice::Named(name))),
    }
}

/// The name in `{"type": "function", "function": {"name": …}}`, or in the same of a custom tool, or in `{"name": …}`.
fn named(tool: &Object<'_, '_>) -> Result<String> {
    let inner = tool.get("function").or_else(|| tool.get("custom"));
    let name = match inner {
        Some(inner) => inner.object()?.need("name")?.string()?,
        None => tool.need("name")?.string()?,
    };
    Ok(name)
}

/// The amount of thinking, by the most exact of the words that clients have for it.
fn reasoning(request: &Object<'_, '_>) -> Result<Option<Reasoning>> {
    if let Some(thinking) = request.get("thinking") {
        return litellm_thinking(&thinking.object()?, request).map(Some);
    }
    if let Some(reasoning) = request.get("reasoning") {
        return openrouter_reasoning(&reasoning.object()?, request);
    }
    let level = effort(request.get("reasoning_effort"))?;
    Ok(level.map(|level| Reasoning { level, is_shown: None }))
}

/// Anthropic's member, as users of LiteLLM send it.
fn litellm_thinking(thinking: &Object<'_, '_>, request: &Object<'_, '_>) -> Result<Reasoning> {
    let level = match &*thinking.need("type")?.string()? {
        "disabled" => Level::Off,
        "adaptive" => effort(request.get("reasoning_effort"))?.unwrap_or(Level::Dynamic),
        "enabled" => match thinking.count("budget_tokens")? {
            Some(tokens) => Level::Budget(tokens),
            None => effort(request.get("reasoning_effort"))?.unwrap_or(Level::Dynamic),
        },
        _ => return Err(thinking.error_at("type", "must be `enabled`, `adaptive` or `disabled`")),
    };
    Ok(Reasoning { level, is_shown: None })
}

/// OpenRouter's member.
fn openrouter_reasoning(reasoning: &Object<'_, '_>, request: &Object<'_, '_>) -> Result<Option<Reasoning>> {
    let is_shown = reasoning.boolean("exclude")?.map(|is_hidden| !is_hidden);
    let level = match (reasoning.boolean("enabled")?, reasoning.count("max_tokens")?) {
        (Some(false), _) => Some(Level::Off),
        (_, Some(tokens)) => Some(Level::Budget(tokens)),
        (is_enabled, None) => {
            let word = effort(reasoning.get("effort"))?;
            word.or(effort(request.get("reasoning_effort"))?).or_else(|| is_enabled.map(|_| Level::Dynamic))
        }
    };
    Ok(level.map(|level| Reasoning { level, is_shown }))
}

fn effort(word: Option<Value<'_, '_>>) -> Result<Option<Level>> {
    let Some(word) = word else { return Ok(None) };
    let effort = match &*word.string()? {
        "none" => return Ok(Some(Level::Off)),
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" | "max" => Effort::Max,
        _ => {
            let words = "must be one of `none`, `minimal`, `low`, `medium`, `high`, `xhigh` and `max`";
            return Err(word.error(words));
        }
    };
    Ok(Some(Level::Effort(effort)))
}

fn format(request: &Object<'_, '_>) -> Result<Option<Format>> {
    let Some(value) = request.get("response_format") else { return Ok(None) };
    let format = value.object()?;
    match &*format.need("type")?.string()? {
        "text" => Ok(Some(Format::Text)),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => schema(&format.need("json_schema")?.object()?).map(Some),
        _ => Err(format.error_at("type", "must be `text`, `json_object` or `json_schema`")),
    }
}

fn schema(format: &Object<'_, '_>) -> Result<Format> {
    let schema = match format.get("schema") {
        Some(schema) => schema.raw_object()?,
        None => Raw::of(&serde_json::Map::new()),
    };
    Ok(Format::Schema {
        name: format.string("name")?,
        description: format.string("description")?,
        schema,
        strict: format.boolean("strict")?,
    })
}

/// The members of a part of a message that are not among those that have been read.
fn extra_of(part: &Object<'_, '_>, read: &[&str]) -> Extra {
    part.rest(&[&["type", "cache_control"], read].concat())
}
