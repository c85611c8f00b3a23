//! A request for an upstream, written.

mod content;
mod schema;
mod thinking;

use std::borrow::Cow;

use bytes::Bytes;

use crate::chat::{ChatRequest, Content, Field, Format, Function, Raw, Role, Tool, ToolChoice};
use crate::error::{Error, Result};
use crate::wire::Surface;
use crate::wire::anthropic::cache;
use crate::wire::anthropic::messages::{block, model};
use crate::wire::convert::Terms;
use crate::wire::json::{Members, Writer};

use content::{Blocks, Turns, write_text};
use thinking::Thinking;

/// What asks for a JSON object, where no schema is given.
pub(super) const JSON_INSTRUCTION: &str =
    "Answer with one JSON object and nothing else: no text around it and no code fence.";

/// What asks for a call, where a model cannot be made to.
const CALL_INSTRUCTION: &str = "Answer with a call of a tool.";

/// The schema of a tool without arguments.
const NO_ARGUMENTS: &str = r#"{"type":"object","properties":{}}"#;

/// From which version on models take no sampling parameters.
///
/// Source: `@ai-sdk/anthropic` 4, `getModelCapabilities`, seen 2026-11.
const WITHOUT_SAMPLING: (u32, u32) = (4, 7);

/// Writes a request. Where models differ, the version in the model's name decides; one without is taken for an older one.
///
/// # Errors
/// As [`Terms::cannot`]; and [`ErrorKind::InvalidRequest`](crate::error::ErrorKind::InvalidRequest) when there are no
/// messages.
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let is_own = request.surface == Surface::Messages;
    check(request, terms)?;
    let mut system = Blocks::default();
    let turns = read_turns(request, &mut system, terms)?;
    let thinking = thinking::decide(request, &turns, terms)?;
    let mut out = Vec::with_capacity(2048);
    let mut writer = Writer::new(&mut out);
    writer.string("model", &request.model);
    writer.plain("max_tokens", thinking.max_tokens);
    if !system.is_empty() {
        system.write(writer.member("system"));
    }
    turns.write(writer.member("messages"));
    write_tools(request, &mut writer, terms)?;
    thinking.write(&mut writer);
    write_output_config(request, &thinking, &mut writer, terms)?;
    write_sampling(request, &thinking, &mut writer, terms)?;
    write_stop(request, &mut writer, terms)?;
    write_labels(request, &mut writer, terms)?;
    if request.is_stream {
        writer.plain("stream", true);
    }
    if is_own {
        let rest = request.extra.0.iter().filter(|(name, _)| name != "output_config");
        rest.for_each(|(name, value)| writer.raw(name, value.get()));
    }
    writer.finish();
    Ok(out.into())
}

/// Does about what this surface has no words for what the table says.
fn check(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<()> {
    let is_own = request.surface == Surface::Messages;
    let has = |names: &[&str]| request.extra.0.iter().any(|(name, _)| names.contains(&name.as_str()));
    let is_stored = match request.surface {
        Surface::Responses => has(&["previous_response_id", "conversation"]),
        Surface::Gemini => has(&["cachedContent", "cached_content"]),
        Surface::Chat | Surface::Messages => false,
    };
    let nonzero = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    let lacks = [
        (Field::N, request.n.is_some_and(|n| n > 1)),
        (Field::Logprobs, request.logprobs == Some(true)),
        (Field::LogitBias, request.logit_bias.as_ref().is_some_and(|bias| !is_empty_object(bias.get()))),
        (Field::StoredConversation, is_stored),
        (Field::Seed, request.seed.is_some()),
        (Field::PresencePenalty, nonzero(request.presence_penalty)),
        (Field::FrequencyPenalty, nonzero(request.frequency_penalty)),
    ];
    lacks.into_iter().filter(|(_, lacks)| *lacks).try_for_each(|(field, _)| terms.cannot(field))?;
    terms.unknown(request.verbosity.as_ref().map(|_| "verbosity"))?;
    if is_own { Ok(()) } else { terms.unknown_extra(&request.extra) }
}

fn is_empty_object(json: &str) -> bool {
    Members::of(json).is_some_and(|members| members.rest(&[]).0.is_empty())
}

/// Reads the conversation into this surface's turns, and the instructions into `system`.
fn read_turns(request: &ChatRequest, system: &mut Blocks, terms: &mut Terms<'_>) -> Result<Turns> {
    let mut turns = Turns::new(request.surface);
    let is_instruction = |role: Role| matches!(role, Role::System | Role::Developer);
    let last = request.messages.iter().rposition(|message| !is_instruction(message.role));
    for (at, message) in request.messages.iter().enumerate() {
        if message.name.is_some() {
            terms.cannot(Field::MessageName)?;
        }
        if message.role == Role::Developer {
            terms.cannot(Field::Developer)?;
        }
        if !is_instruction(message.role) {
            turns.push(message, last == Some(at), terms)?;
            continue;
        }
        if !turns.is_empty() {
            terms.cannot(Field::SystemInside)?;
        }
        for part in &message.parts {
            match &part.content {
                Content::Text { .. } => write_text(part, request.surface, system),
                _ => {
                    return Err(Error::invalid(
                        format!("messages[{at}].content"),
                        "instructions are text only",
                    ));
                }
            }
        }
    }
    if matches!(request.format, Some(Format::Json)) {
        terms.cannot(Field::JsonObject)?;
        system.text(JSON_INSTRUCTION);
    }
    if turns.is_empty() && system.is_empty() {
        return Err(Error::invalid("messages", "`messages` says nothing; add a message of the role `user`"));
    }
    if let Some(schema) = told_schema(request) {
        terms.cannot(Field::JsonSchema)?;
        system.text(&format!("{JSON_INSTRUCTION} It follows this JSON Schema: {}", schema.get()));
    }
    if is_asked_to_call(request) {
        terms.cannot(Field::ToolRequired)?;
        system.text(CALL_INSTRUCTION);
    }
    // Nothing but instructions: they are what is asked.
    if last.is_none() {
        terms.cannot(Field::SystemInside)?;
        turns.ask(std::mem::take(system));
    }
    turns.begin_with_user();
    Ok(turns)
}

/// The schema of the answer, where the model has to be told it in words.
fn told_schema(request: &ChatRequest) -> Option<&Raw> {
    match &request.format {
        Some(Format::Schema { schema, .. })
            if request.surface != Surface::Messages && !model::takes_schemas(&request.model) =>
        {
            Some(schema)
        }
        _ => None,
    }
}

/// Whether a tool must be called, and the model refuses to be told so other than in words.
fn is_asked_to_call(request: &ChatRequest) -> bool {
    let is_required = matches!(
        request.tool_choice,
        Some(ToolChoice::Required | ToolChoice::Named(_) | ToolChoice::Among { is_required: true, .. })
    );
    let is_refused = request.surface != Surface::Messages && model::refuses_required_tools(&request.model);
    is_required && is_refused && !request.tools.is_empty()
}

/// The tools that may be called. Where only some of them may, the others are not sent.
fn allowed(request: &ChatRequest) -> Vec<&Tool> {
    let among = match &request.tool_choice {
        Some(ToolChoice::Among { names, .. }) => Some(names.as_slice()),
        Some(ToolChoice::Named(name)) if is_asked_to_call(request) => Some(std::slice::from_ref(name)),
        _ => None,
    };
    let is_allowed = |tool: &&Tool| match (among, tool) {
        (Some(names), Tool::Function(function)) => names.contains(&function.name),
        _ => true,
    };
    request.tools.iter().filter(is_allowed).collect()
}

fn write_tools(
    request: &ChatRequest,
    writer: &mut Writer<&mut Vec<u8>>,
    terms: &mut Terms<'_>,
) -> Result<()> {
    if matches!(request.tool_choice, Some(ToolChoice::Among { .. })) {
        terms.cannot(Field::ToolChoiceAmong)?;
    }
    let is_own = request.surface == Surface::Messages;
    let tools = allowed(request);
    if tools.is_empty() {
        return Ok(());
    }
    let mut list = Blocks::default();
    for tool in tools {
        match tool {
            Tool::Function(function) => write_function(function, is_own, list.next()),
            Tool::Other { json, .. } if is_own => list.next().extend_from_slice(json.get().as_bytes()),
            Tool::Other { .. } => terms.cannot(Field::VendorTool)?,
        }
    }
    list.write(writer.member("tools"));
    write_tool_choice(request, writer);
    Ok(())
}

fn write_function(function: &Function, is_own: bool, out: &mut Vec<u8>) {
    let mut writer = Writer::new(out);
    writer.string("name", &function.name);
    if let Some(description) = &function.description {
        writer.string("description", description);
    }
    let parameters = function.parameters.as_ref().map_or(NO_ARGUMENTS, |parameters| parameters.get());
    writer.raw("input_schema", &input_schema(parameters));
    if let Some(strict) = function.strict {
        writer.plain("strict", strict);
    }
    cache::write(function.cache.as_ref(), &mut writer);
    if is_own {
        writer.extra(&function.extra);
    }
    writer.finish();
}

/// A schema of arguments with the `type` that it must have here.
fn input_schema(parameters: &str) -> Cow<'_, str> {
    let Some(members) = Members::of(parameters) else { return Cow::Borrowed(NO_ARGUMENTS) };
    if members.get("type").is_some() {
        return Cow::Borrowed(parameters);
    }
    let mut out = Vec::with_capacity(parameters.len() + 20);
    let mut writer = Writer::new(&mut out);
    writer.string("type", "object");
    writer.extra(&members.rest(&[]));
    writer.finish();
    Cow::Owned(String::from_utf8(out).expect("it is written from texts"))
}

fn write_tool_choice(request: &ChatRequest, writer: &mut Writer<&mut Vec<u8>>) {
    let is_serial = request.parallel_tool_calls.map(|is_parallel| !is_parallel);
    let (kind, name) = match &request.tool_choice {
        _ if is_asked_to_call(request) => ("auto", None),
        None if is_serial == Some(true) => ("auto", None),
        None => return,
        Some(ToolChoice::Auto | ToolChoice::Among { is_required: false, .. }) => ("auto", None),
        Some(ToolChoice::Required | ToolChoice::Among { is_required: true, .. }) => ("any", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Named(name)) => ("tool", Some(name)),
    };
    let mut choice = Writer::new(writer.member("tool_choice"));
    choice.string("type", kind);
    if let Some(name) = name {
        choice.string("name", name);
    }
    if let Some(is_serial) = is_serial.filter(|_| kind != "none") {
        choice.plain("disable_parallel_tool_use", is_serial);
    }
    choice.finish();
}

fn write_output_config(
    request: &ChatRequest,
    thinking: &Thinking,
    writer: &mut Writer<&mut Vec<u8>>,
    terms: &mut Terms<'_>,
) -> Result<()> {
    let schema = match &request.format {
        Some(Format::Schema { schema, .. }) if told_schema(request).is_none() => Some(schema),
        _ => None,
    };
    let is_own = request.surface == Surface::Messages;
    let kept = request.extra.0.iter().find(|(name, _)| is_own && name == "output_config");
    if schema.is_none() && thinking.effort.is_none() && kept.is_none() {
        return Ok(());
    }
    let mut config = Writer::new(writer.member("output_config"));
    if let Some(effort) = thinking.effort {
        config.string("effort", effort);
    }
    if let Some(schema) = schema {
        let mut format = block::begin("json_schema", config.member("format"));
        // Clients of this surface know what it takes.
        if is_own {
            format.raw("schema", schema.get());
        } else {
            let mut taken = Vec::new();
            schema::write(schema.get(), &mut taken);
            if !is_same(schema.get().as_bytes(), &taken) {
                terms.cannot(Field::JsonSchema)?;
            }
            format.member("schema").extend_from_slice(&taken);
        }
        format.finish();
    }
    if let Some(kept) = kept.and_then(|(_, kept)| Members::of(kept.get())) {
        config.extra(&kept.rest(&[]));
    }
    config.finish();
    Ok(())
}

/// Whether two JSON texts say the same, in whatever order.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let read = |json| serde_json::from_slice::<serde_json::Value>(json).ok();
    read(one) == read(other)
}

/// Writes how tokens are drawn, as far as the model takes it.
///
/// Source: Anthropic, "Extended thinking", "Feature compatibility"; "Migration guide"; seen 2026-11.
fn write_sampling(
    request: &ChatRequest,
    thinking: &Thinking,
    writer: &mut Writer<&mut Vec<u8>>,
    terms: &mut Terms<'_>,
) -> Result<()> {
    let version = model::version(&request.model);
    let is_free = !thinking.is_on && version.is_none_or(|version| version < WITHOUT_SAMPLING);
    match request.temperature {
        Some(temperature) if is_free => {
            if !(0.0..=1.0).contains(&temperature) {
                terms.cannot(Field::Temperature)?;
            }
            writer.float("temperature", temperature.clamp(0.0, 1.0));
        }
        // 1 is what is drawn with anyway.
        Some(temperature) if temperature != 1.0 => terms.cannot(Field::Temperature)?,
        _ => {}
    }
    let is_single = request.temperature.is_some() && version.is_some();
    match request.top_p {
        Some(top_p) if is_free && !is_single => writer.float("top_p", top_p.clamp(0.0, 1.0)),
        // And so is 1.
        Some(top_p) if top_p < 1.0 => terms.cannot(Field::TopP)?,
        _ => {}
    }
    match request.top_k {
        Some(top_k) if is_free => writer.plain("top_k", top_k),
        Some(_) => terms.cannot(Field::TopK)?,
        None => {}
    }
    Ok(())
}

fn write_stop(request: &ChatRequest, writer: &mut Writer<&mut Vec<u8>>, terms: &mut Terms<'_>) -> Result<()> {
    let (blank, words): (Vec<_>, Vec<_>) = request.stop.iter().partition(|stop| stop.trim().is_empty());
    if !blank.is_empty() {
        terms.cannot(Field::Stop)?;
    }
    if !words.is_empty() {
        serde_json::to_writer(writer.member("stop_sequences"), &words)
            .expect("writing to memory cannot fail");
    }
    Ok(())
}

fn write_labels(
    request: &ChatRequest,
    writer: &mut Writer<&mut Vec<u8>>,
    terms: &mut Terms<'_>,
) -> Result<()> {
    let is_own = request.surface == Surface::Messages;
    match (&request.metadata, &request.user) {
        (Some(metadata), _) if is_own => writer.raw("metadata", metadata.get()),
        (metadata, user) => {
            if metadata.is_some() {
                terms.cannot(Field::Metadata)?;
            }
            if let Some(user) = user {
                let mut metadata = Writer::new(writer.member("metadata"));
                metadata.string("user_id", user);
                metadata.finish();
            }
        }
    }
    match request.service_tier.as_deref() {
        Some(tier) if is_own || tier == "auto" => writer.string("service_tier", tier),
        Some("default") => writer.string("service_tier", "standard_only"),
        Some(_) => terms.cannot(Field::ServiceTier)?,
        None => {}
    }
    Ok(())
}
