//! A request, written for an upstream.
//!
//! The upstream is OpenAI or one of the many servers that copy it, and it is not known which: what all of them take is
//! written, and nothing that OpenAI itself would refuse unless the client asks for it.

use std::borrow::Cow;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use crate::chat::{
    ChatRequest, Content, Effort, Extra, Field, Format, Function, Level, Message, Part, Reasoning, Role,
    Source, Tool, ToolChoice,
};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, Terms};
use crate::wire::json::quote;
use crate::wire::openai::chat::part;
use crate::wire::openai::chat::writer::{Members, list, object};

/// How long the id of a call may be.
///
/// Source: OpenAI's API, "string too long. Expected a string with maximum length 40", seen 2026-11.
const CALL_ID_BYTES_MAX: usize = 40;

/// The name of a schema that has none, which OpenAI requires.
const SCHEMA_NAME: &str = "response";

/// The content of a result that is a picture or a document.
const SHOWN_BELOW: &str = "The result follows in the next message of the user's.";

/// Members of the Responses API that the chat API has under the same names.
const SHARED: [&str; 2] = ["prompt_cache_key", "prompt_cache_retention"];

/// Members that stand for a conversation or a prompt kept by the vendor: without them the answer would be another.
const STORED: [&str; 5] = ["previous_response_id", "conversation", "prompt", "container", "cachedContent"];

/// Writes a request. `model` names it in the words of the upstream, if these are known already: OpenAI's newer models want
/// another member for the most tokens than everybody else takes.
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
    let effort = request.reasoning.map(|reasoning| effort(reasoning, terms)).transpose()?;
    let mut out = Vec::with_capacity(messages.len() + 1024);
    object(&mut out, |members| {
        members.string("model", &request.model);
        members.with("messages", |out| out.extend_from_slice(&messages));
        tools.write(members);
        members.plain_if("parallel_tool_calls", request.parallel_tool_calls.filter(|_| tools.has_any()));
        members.plain_if(max_tokens_name(request), request.max_tokens);
        sampling(request, members);
        members.string_if("reasoning_effort", effort);
        if let Some(format) = &request.format {
            members.object("response_format", |members| response_format(format, members));
        }
        members.string_if("verbosity", request.verbosity.as_deref());
        members.string_if("user", request.user.as_deref());
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
fn max_tokens_name(request: &ChatRequest) -> &'static str {
    let asks_reasoning = request.reasoning.is_some_and(|reasoning| reasoning.level != Level::Off);
    if asks_reasoning || is_of_openai(&request.model) { "max_completion_tokens" } else { "max_tokens" }
}

fn is_of_openai(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    let is_numbered = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    name.starts_with("chatgpt-")
        || name.strip_prefix("gpt-").is_some_and(is_numbered)
        || name.strip_prefix('o').is_some_and(is_numbered)
}

fn sampling(request: &ChatRequest, members: &mut Members<'_>) {
    members.plain_if("temperature", request.temperature);
    members.plain_if("top_p", request.top_p);
    members.plain_if("top_k", request.top_k);
    if !request.stop.is_empty() {
        members.list("stop", &request.stop, |word, out| quote(word, out));
    }
    members.plain_if("seed", request.seed);
    members.plain_if("n", request.n);
    members.plain_if("presence_penalty", request.presence_penalty);
    members.plain_if("frequency_penalty", request.frequency_penalty);
    // OpenAI refuses the number without the wish.
    members.plain_if("logprobs", request.logprobs.or(request.top_logprobs.map(|_| true)));
    members.plain_if("top_logprobs", request.top_logprobs);
    if let Some(bias) = &request.logit_bias {
        members.raw("logit_bias", bias.get());
    }
}

/// The word for an amount of thinking.
fn effort(reasoning: Reasoning, terms: &mut Terms<'_>) -> Result<&'static str> {
    let effort = match reasoning.level {
        Level::Off | Level::Budget(0) => return Ok("none"),
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
    Ok(match effort {
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Max => "xhigh",
    })
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

fn response_format(format: &Format, members: &mut Members<'_>) {
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
            terms.cannot(Field::Unknown)?;
        }
    }
    Ok(kept)
}

/// The tools that are told of, and which are to be called.
struct Tools<'r> {
    functions: Vec<&'r Function>,
    others: Vec<&'r str>,
    choice: Option<Cow<'r, ToolChoice>>,
}

impl<'r> Tools<'r> {
    fn of(request: &'r ChatRequest, terms: &mut Terms<'_>) -> Result<Self> {
        let mut tools = Self { functions: Vec::new(), others: Vec::new(), choice: None };
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
            let choice = if *is_required { ToolChoice::Required } else { ToolChoice::Auto };
            tools.choice = Some(Cow::Owned(choice));
        }
        Ok(tools)
    }

    fn has_any(&self) -> bool {
        !self.functions.is_empty() || !self.others.is_empty()
    }

    /// OpenAI refuses an empty list, and a choice where there is none.
    fn write(&mut self, members: &mut Members<'_>) {
        if !self.has_any() {
            return;
        }
        members.with("tools", |out| {
            let functions = self.functions.iter().map(|function| function_json(function));
            let others = self.others.iter().map(|json| json.as_bytes().to_vec());
            list(out, functions.chain(others), |json, out| out.extend_from_slice(&json));
        });
        if let Some(choice) = &self.choice {
            members.with("tool_choice", |out| tool_choice(choice, out));
        }
    }
}

fn function_json(function: &Function) -> Vec<u8> {
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
            members.extra(&function.extra);
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

/// The messages written so far.
struct Messages {
    surface: Surface,
    out: Vec<u8>,
    /// Pictures and documents of results, each as a part, until all results that came together are written.
    media: Vec<Vec<u8>>,
}

impl Messages {
    fn new(surface: Surface) -> Self {
        Self { surface, out: b"[".to_vec(), media: Vec::new() }
    }

    fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.out.push(b']');
        self.out
    }

    fn push(&mut self, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        if message.role != Role::Tool {
            self.flush();
        }
        match message.role {
            Role::System => self.said("system", message, terms),
            Role::Developer => {
                terms.cannot(Field::Developer)?;
                self.said("system", message, terms)
            }
            Role::User => self.said("user", message, terms),
            Role::Assistant => self.answered(message, terms),
            Role::Tool => message.parts.iter().try_for_each(|part| self.returned(part, terms)),
        }
    }

    fn message(&mut self, role: &str, write: impl FnOnce(&mut Members<'_>)) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        object(&mut self.out, |members| {
            members.string("role", role);
            write(members);
        });
    }

    fn said(&mut self, role: &str, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        let content = self.content(&message.parts, terms)?;
        let extra = self.extra(&message.extra, terms)?;
        self.message(role, |members| {
            members.with("content", |out| content.write(out));
            members.string_if("name", message.name.as_deref());
            members.extra(&extra);
        });
        Ok(())
    }

    fn answered(&mut self, message: &Message, terms: &mut Terms<'_>) -> Result<()> {
        let mut said = Vec::new();
        let (mut blocks, mut calls) = (Vec::new(), Vec::new());
        let mut refusal: Option<String> = None;
        for part in &message.parts {
            match &part.content {
                Content::ToolCall { id, name, arguments, signature } => {
                    // An upstream of this kind has signed it only if it said so itself.
                    let own = signature.as_ref().filter(|signature| signature.surface == Surface::Chat);
                    let own = own.map(|signature| &*signature.value);
                    let mut call = Vec::new();
                    part::write_call(id, name, arguments, own, None, &mut call);
                    calls.push(call);
                }
                Content::Thinking { signature: Some(signature), .. }
                | Content::RedactedThinking(signature)
                    if signature.surface == Surface::Chat =>
                {
                    blocks.push(part::thinking_block(&part.content));
                }
                Content::Thinking { .. } | Content::RedactedThinking(_) => terms.cannot(Field::Thinking)?,
                Content::Refusal(text) => refusal.get_or_insert_default().push_str(text),
                Content::Other(json) if self.surface == Surface::Chat && is_call(json.get()) => {
                    calls.push(json.get().as_bytes().to_vec());
                }
                Content::Text { .. } | Content::Other(_) => said.push(part),
                // No server takes these from the model; they are its own, and it has seen them.
                Content::Image { .. }
                | Content::Audio { .. }
                | Content::File { .. }
                | Content::ToolResult { .. } => terms.cannot(Field::Unknown)?,
            }
        }
        let content = self.content(said, terms)?;
        let extra = self.extra(&message.extra, terms)?;
        self.message("assistant", |members| {
            if content.is_empty() && (!calls.is_empty() || refusal.is_some()) {
                members.raw("content", "null");
            } else {
                members.with("content", |out| content.write(out));
            }
            members.string_if("refusal", refusal.as_deref());
            members.string_if("name", message.name.as_deref());
            if !blocks.is_empty() {
                members.list("thinking_blocks", blocks, |block, out| out.extend_from_slice(&block));
            }
            if !calls.is_empty() {
                members.list("tool_calls", calls, |call, out| out.extend_from_slice(&call));
            }
            members.extra(&extra);
        });
        Ok(())
    }

    fn returned(&mut self, part: &Part, terms: &mut Terms<'_>) -> Result<()> {
        let Content::ToolResult { id, name, content, is_error } = &part.content else {
            return terms.cannot(Field::Unknown);
        };
        if *is_error {
            terms.cannot(Field::ToolResultError)?;
        }
        if part.cache.is_some() {
            terms.cannot(Field::CacheControl)?;
        }
        let (media, said): (Vec<&Part>, Vec<&Part>) = content.iter().partition(|part| {
            matches!(part.content, Content::Image { .. } | Content::Audio { .. } | Content::File { .. })
        });
        if !media.is_empty() {
            terms.cannot(Field::ToolResultMedia)?;
            let shown = self.content(media, terms)?;
            self.media.extend(shown.0);
        }
        let mut said = self.content(said, terms)?;
        if said.is_empty() && !self.media.is_empty() {
            said = Written(vec![part::text(SHOWN_BELOW)]);
        }
        let extra = self.extra(&part.extra, terms)?;
        self.message("tool", |members| {
            members.string("tool_call_id", &call_id(id));
            members.string_if("name", name.as_deref());
            members.with("content", |out| said.write(out));
            members.extra(&extra);
        });
        Ok(())
    }

    /// Shows the pictures and documents of results, which tool messages cannot hold, behind them.
    fn flush(&mut self) {
        let media = std::mem::take(&mut self.media);
        if !media.is_empty() {
            self.message("user", |members| members.with("content", |out| Written(media).write(out)));
        }
    }

    fn extra(&self, extra: &Extra, terms: &mut Terms<'_>) -> Result<Extra> {
        if self.surface == Surface::Chat || extra.0.is_empty() {
            return Ok(extra.clone());
        }
        terms.cannot(Field::Unknown)?;
        Ok(Extra::default())
    }

    fn content<'m>(
        &self,
        parts: impl IntoIterator<Item = &'m Part>,
        terms: &mut Terms<'_>,
    ) -> Result<Written> {
        let mut written = Vec::new();
        for part in parts {
            if part.cache.is_some() {
                terms.cannot(Field::CacheControl)?;
            }
            let extra = self.extra(&part.extra, terms)?;
            match self.part(&part.content, terms)? {
                Some(mut json) if !extra.0.is_empty() => {
                    json.pop();
                    for (name, value) in &extra.0 {
                        json.push(b',');
                        quote(name, &mut json);
                        json.push(b':');
                        json.extend_from_slice(value.get().as_bytes());
                    }
                    json.push(b'}');
                    written.push(json);
                }
                json => written.extend(json),
            }
        }
        Ok(Written(written))
    }

    /// A part of a message; none if it is left out.
    fn part(&self, content: &Content, terms: &mut Terms<'_>) -> Result<Option<Vec<u8>>> {
        let source = match content {
            Content::Text { text, .. } => return Ok(Some(part::text(text))),
            Content::Refusal(text) => return Ok(Some(part::text(text))),
            Content::Image { source, .. } | Content::Audio { source } | Content::File { source, .. } => {
                source
            }
            Content::Other(json) if self.surface == Surface::Chat => {
                return Ok(Some(json.get().as_bytes().to_vec()));
            }
            Content::Thinking { .. } | Content::RedactedThinking(_) => {
                return terms.cannot(Field::Thinking).map(|()| None);
            }
            Content::Other(_) | Content::ToolCall { .. } | Content::ToolResult { .. } => {
                return terms.cannot(Field::Unknown).map(|()| None);
            }
        };
        if let Source::Text(text) = source {
            terms.cannot(Field::File)?;
            return Ok(Some(part::text(text)));
        }
        let is_id = matches!(source, Source::Id(_));
        let is_of_openai = matches!(self.surface, Surface::Chat | Surface::Responses);
        match content {
            // Uploads are known to their vendor alone, and pictures by id to the Responses API.
            Content::Image { .. } | Content::Audio { .. } if is_id => terms.cannot(Field::FileId)?,
            Content::File { .. } if is_id && !is_of_openai => terms.cannot(Field::FileId)?,
            Content::Audio { source: Source::Url { .. } } => terms.cannot(Field::Audio)?,
            Content::File { source: Source::Url { media_type, .. }, .. }
                if !part::is_video(media_type.as_deref()) =>
            {
                terms.cannot(Field::FileUrl)?;
            }
            _ => {}
        }
        Ok(part::media(content))
    }
}

/// The parts of a message, as they are written.
struct Written(Vec<Vec<u8>>);

impl Written {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes one plain text as a string, as every server takes it, and everything else as a list.
    fn write(&self, out: &mut Vec<u8>) {
        match &self.0[..] {
            [] => quote("", out),
            [only] => match part::only_text(only) {
                Some(text) => out.extend_from_slice(text),
                None => list(out, &self.0, |part, out| out.extend_from_slice(part)),
            },
            parts => list(out, parts, |part, out| out.extend_from_slice(part)),
        }
    }
}

/// Whether what rode along is a call, of a custom tool.
fn is_call(json: &str) -> bool {
    json.contains("\"custom\"")
}

/// The id of a call as OpenAI takes it: a longer one becomes one that depends on it alone, so that calls and results still
/// find each other.
pub(in crate::wire::openai) fn call_id(id: &str) -> Cow<'_, str> {
    if id.len() <= CALL_ID_BYTES_MAX {
        return Cow::Borrowed(id);
    }
    Cow::Owned(format!("call_{:032x}", xxh3_128(id.as_bytes())))
}
