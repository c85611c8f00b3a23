//! A request, written for an upstream.
//!
//! The upstream is OpenAI or one of the many servers that copy it, and it is not known which: what all of them take is
//! written, and nothing that OpenAI itself would refuse unless the client asks for it.

use std::borrow::Cow;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::chat::{ChatRequest, Effort, Extra, Field, Format, Function, Level, Reasoning, Tool, ToolChoice};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, Terms};
use crate::wire::json::{Writer, object, quote};

mod messages;

use messages::Messages;
pub(in crate::wire::openai::chat) use messages::call_id;

/// The name of a schema that has none, which OpenAI requires.
const SCHEMA_NAME: &str = "response";

/// How many words may end an answer of OpenAI's own models.
///
/// Source: OpenAI API reference, "Create chat completion", `stop`, seen 2026-11.
const STOP_MAX: usize = 4;

/// How long the name of whom a client asks for may be, in bytes.
///
/// Source: bifrost's issue 1000 for OpenAI, which takes less than the routers to it, seen 2026-11.
const USER_BYTES_MAX: usize = 64;

/// Members of the Responses API that the chat API has under the same names.
const SHARED: [&str; 2] = ["prompt_cache_key", "prompt_cache_retention"];

/// Members that stand for a conversation or a prompt kept by the vendor: without them the answer would be another.
const STORED: [&str; 5] = ["previous_response_id", "conversation", "prompt", "container", "cachedContent"];

/// Writes a request. Its `model` is best the upstream's name for it, if that is known already: OpenAI's models want another
/// member for the most tokens than everybody else takes.
///
/// # Errors
/// As [`Terms::cannot`]; and [`ErrorKind::InvalidRequest`](crate::error::ErrorKind::InvalidRequest) when there are no
/// messages.
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let mut messages = Messages::new(request.surface);
    for message in &request.messages {
        messages.push(message, terms)?;
    }
    let messages = messages.finish();
    if messages == b"[]" {
        return Err(Error::invalid("messages", "`messages` says nothing; add a message of the role `user`"));
    }
    let mut tools = Tools::of(request, terms)?;
    let extra = extra(request, terms)?;
    let service_tier = service_tier(request, terms)?;
    if request.metadata.is_some() && request.surface != Surface::Chat {
        terms.cannot(Field::Metadata)?;
    }
    let effort = effort(request, terms)?;
    let top_k = top_k(request, terms)?;
    check_stop(request, terms)?;
    let mut out = Vec::with_capacity(messages.len() + 1024);
    object(&mut out, |members| {
        members.string("model", &request.model);
        members.member("messages").extend_from_slice(&messages);
        tools.write(members);
        members.plain_if("parallel_tool_calls", request.parallel_tool_calls.filter(|_| tools.has_any()));
        members.plain_if(max_tokens_name(request, effort), request.max_tokens);
        members.plain_if("top_k", top_k);
        sampling(request, members);
        members.string_if("reasoning_effort", effort);
        if let Some(format) = &request.format {
            members.object("response_format", |members| response_format(format, members));
        }
        members.string_if("verbosity", request.verbosity.as_deref());
        members.string_if("user", request.user.as_deref().map(user).as_deref());
        if let (Some(metadata), Surface::Chat) = (&request.metadata, request.surface) {
            members.raw("metadata", metadata.get());
        }
        members.string_if("service_tier", service_tier);
        if request.is_stream {
            // The gateway wants to know what an answer cost, even where the client does not.
            members.plain("stream", true);
            members.object("stream_options", |members| members.plain("include_usage", true));
        }
        members.extra(&extra);
    });
    Ok(out.into())
}

/// The member for the most tokens of an answer.
///
/// OpenAI's reasoning models refuse `max_tokens`, and all its models take `max_completion_tokens`; of the servers that copy
/// it, all take the former, but by no means all the latter. So it goes by the model's name, and by whether reasoning is
/// asked for, which OpenAI's other models refuse anyway.
///
/// Source: OpenAI API reference, "Create chat completion", `max_tokens`; DeepSeek's, Mistral's and Ollama's, which have
/// only that; all seen 2026-11.
fn max_tokens_name(request: &ChatRequest, effort: Option<&str>) -> &'static str {
    let asks_reasoning = effort.is_some_and(|effort| effort != "none");
    if asks_reasoning || is_of_openai(&request.model) { "max_completion_tokens" } else { "max_tokens" }
}

fn is_of_openai(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    // A fine-tuned model's name is that of what it was made from, with more behind it.
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let is_numbered = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    name.starts_with("chatgpt-")
        || name.strip_prefix("gpt-").is_some_and(is_numbered)
        || name.strip_prefix('o').is_some_and(is_numbered)
}

/// How many tokens are drawn from. The servers that copy OpenAI take it; OpenAI itself refuses the member.
fn top_k(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Option<u64>> {
    if request.top_k.is_some() && request.surface != Surface::Chat && is_of_openai(&request.model) {
        terms.cannot(Field::TopK)?;
        return Ok(None);
    }
    Ok(request.top_k)
}

fn check_stop(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<()> {
    let is_over = request.stop.len() > STOP_MAX && is_of_openai(&request.model);
    if is_over { terms.cannot(Field::StopCount) } else { Ok(()) }
}

fn sampling(request: &ChatRequest, members: &mut Writer<&mut Vec<u8>>) {
    members.plain_if("temperature", request.temperature);
    members.plain_if("top_p", request.top_p);
    if !request.stop.is_empty() {
        members.list("stop", &request.stop, |word, out| quote(word, out));
    }
    members.plain_if("seed", request.seed);
    members.plain_if("n", request.n);
    members.plain_if("presence_penalty", request.presence_penalty);
    members.plain_if("frequency_penalty", request.frequency_penalty);
    // OpenAI refuses the number without the wish.
    members.plain_if("logprobs", request.logprobs.or_else(|| request.top_logprobs.map(|_| true)));
    members.plain_if("top_logprobs", request.top_logprobs);
    if let Some(bias) = &request.logit_bias {
        members.raw("logit_bias", bias.get());
    }
}

/// The word for an amount of thinking. Only newer models of OpenAI's know one for none, and the others refuse it, so that it
/// is left to the client to say it; and what a model finds right is what OpenAI's models do unasked.
///
/// Source: OpenAI's API, "'reasoning_effort' does not support 'none' with this model", seen 2026-11.
fn effort(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Option<&'static str>> {
    let Some(Reasoning { level, .. }) = request.reasoning else { return Ok(None) };
    let is_of_openai = matches!(request.surface, Surface::Chat | Surface::Responses);
    let effort = match level {
        Level::Off if is_of_openai => return Ok(Some("none")),
        Level::Dynamic if is_of_openai => return Ok(None),
        Level::Off | Level::Budget(0) => return terms.cannot(Field::Reasoning).map(|()| None),
        Level::Effort(effort) => effort,
        Level::Dynamic => {
            terms.cannot(Field::Reasoning)?;
            Effort::High
        }
        Level::Budget(tokens) => {
            terms.cannot(Field::Reasoning)?;
            effort_of(tokens, terms.budgets)
        }
    };
    Ok(Some(match effort {
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "xhigh",
    }))
}

fn effort_of(tokens: u64, budgets: EffortBudgets) -> Effort {
    if tokens <= budgets.low {
        Effort::Low
    } else if tokens <= budgets.high {
        Effort::Medium
    } else {
        Effort::High
    }
}

/// Whom a client asks for; a longer name becomes one that depends on it alone, as that is all it is for.
fn user(name: &str) -> Cow<'_, str> {
    if name.len() <= USER_BYTES_MAX {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("user_{:032x}", xxh3_128(name.as_bytes())))
}

/// The class of service; Anthropic's and Google's words for the usual one are not OpenAI's.
fn service_tier<'r>(request: &'r ChatRequest, terms: &mut Terms<'_>) -> Result<Option<&'r str>> {
    let Some(tier) = request.service_tier.as_deref() else { return Ok(None) };
    if matches!(request.surface, Surface::Chat | Surface::Responses) {
        return Ok(Some(tier));
    }
    let word = match tier.to_ascii_lowercase().trim_start_matches("service_tier_") {
        "auto" => "auto",
        "standard" | "standard_only" => "default",
        "flex" => "flex",
        "priority" => "priority",
        _ => {
            terms.cannot(Field::ServiceTier)?;
            return Ok(None);
        }
    };
    Ok(Some(word))
}

fn response_format(format: &Format, members: &mut Writer<&mut Vec<u8>>) {
    let (name, description, schema, strict) = match format {
        Format::Text => return members.string("type", "text"),
        Format::Json => return members.string("type", "json_object"),
        Format::Schema { name, description, schema, strict } => (name, description, schema, strict),
    };
    members.string("type", "json_schema");
    members.object("json_schema", |members| {
        members.string("name", name.as_deref().unwrap_or(SCHEMA_NAME));
        members.string_if("description", description.as_deref());
        members.raw("schema", schema.get());
        members.plain_if("strict", *strict);
    });
}

/// What rides along: everything of a chat request, and what another surface shares.
fn extra(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Extra> {
    if request.surface == Surface::Chat {
        return Ok(request.extra.clone());
    }
    let mut kept = Extra::default();
    for (name, value) in &request.extra.0 {
        let is_null = value.get() == "null";
        if STORED.contains(&name.as_str()) && !is_null {
            terms.cannot(Field::StoredConversation)?;
        } else if request.surface == Surface::Responses && SHARED.contains(&name.as_str()) {
            kept.0.push((name.clone(), value.clone()));
        } else if !is_null {
            terms.unknown([name.as_str()])?;
        }
    }
    Ok(kept)
}

/// The tools that are told of, and which are to be called.
struct Tools<'r> {
    surface: Surface,
    functions: Vec<&'r Function>,
    others: Vec<&'r str>,
    choice: Option<Cow<'r, ToolChoice>>,
}

impl<'r> Tools<'r> {
    fn of(request: &'r ChatRequest, terms: &mut Terms<'_>) -> Result<Self> {
        let mut tools =
            Self { surface: request.surface, functions: Vec::new(), others: Vec::new(), choice: None };
        for tool in &request.tools {
            match tool {
                Tool::Function(function) => {
                    if function.cache.is_some() {
                        terms.cannot(Field::CacheControl)?;
                    }
                    tools.functions.push(function);
                }
                Tool::Other { json, .. } if request.surface == Surface::Chat => tools.others.push(json.get()),
                Tool::Other { .. } => terms.cannot(Field::VendorTool)?,
            }
        }
        tools.choice = request.tool_choice.as_ref().map(Cow::Borrowed);
        if let (Some(ToolChoice::Among { names, is_required }), true) =
            (&request.tool_choice, request.surface != Surface::Chat)
        {
            // Only OpenAI itself knows `allowed_tools`.
            terms.cannot(Field::ToolChoiceAmong)?;
            tools.functions.retain(|function| names.contains(&function.name));
            if *is_required && tools.functions.is_empty() {
                let message = "`tool_choice` requires a call of a tool that is not among `tools`";
                return Err(Error::invalid("tool_choice", message));
            }
            let choice = if *is_required { ToolChoice::Required } else { ToolChoice::Auto };
            tools.choice = Some(Cow::Owned(choice));
        }
        Ok(tools)
    }

    fn has_any(&self) -> bool {
        !self.functions.is_empty() || !self.others.is_empty()
    }

    /// OpenAI refuses an empty list, and a choice where there is none.
    fn write(&mut self, members: &mut Writer<&mut Vec<u8>>) {
        if !self.has_any() {
            return;
        }
        let functions = self.functions.iter().map(|function| function_json(function, self.surface));
        let others = self.others.iter().map(|json| json.as_bytes().to_vec());
        members.list("tools", functions.chain(others), |json, out| out.extend_from_slice(&json));
        if let Some(choice) = &self.choice {
            tool_choice(choice, members.member("tool_choice"));
        }
    }
}

fn function_json(function: &Function, surface: Surface) -> Vec<u8> {
    let mut json = Vec::with_capacity(256);
    object(&mut json, |members| {
        members.string("type", "function");
        members.object("function", |members| {
            members.string("name", &function.name);
            members.string_if("description", function.description.as_deref());
            if let Some(parameters) = &function.parameters {
                members.raw("parameters", parameters.get());
            }
            members.plain_if("strict", function.strict);
            if surface == Surface::Chat {
                members.extra(&function.extra);
            }
        });
    });
    json
}

fn tool_choice(choice: &ToolChoice, out: &mut Vec<u8>) {
    let function = |name: &str, out: &mut Vec<u8>| {
        object(out, |members| {
            members.string("type", "function");
            members.object("function", |members| members.string("name", name));
        });
    };
    match choice {
        ToolChoice::Auto => quote("auto", out),
        ToolChoice::None => quote("none", out),
        ToolChoice::Required => quote("required", out),
        ToolChoice::Named(name) => function(name, out),
        ToolChoice::Among { names, is_required } => object(out, |members| {
            members.string("type", "allowed_tools");
            members.object("allowed_tools", |members| {
                members.string("mode", if *is_required { "required" } else { "auto" });
                members.list("tools", names, |name, out| function(name, out));
            });
        }),
    }
}
