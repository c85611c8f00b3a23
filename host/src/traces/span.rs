//! What a span says of an exchange or an attempt.
//!
//! Source: OpenTelemetry, "Semantic conventions for generative client AI spans" (Development, as of 1.41: operations,
//! provider, model, usage, finish reasons, time to the first chunk) and "Semantic conventions for HTTP spans" (stable:
//! method, status, address, `error.type`). What they have no name for begins with `witgate.`. Prompts and answers, which the
//! conventions leave to an opt-in, are never part of a span. `gen_ai.response.model` is not either: it is the model that
//! answered, by its exact name, and nobody looks for that in answers.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{Sent, Trace};
use crate::chat::StopReason;
use crate::config::Target;
use crate::error::{Blame, ErrorKind};
use crate::exchange::{Attempt, Exchange, Outcome};
use crate::wire::Dialect;

/// Whose dialect a client or an upstream speaks, by the name in the conventions.
fn provider(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::OpenAi => "openai",
        Dialect::Anthropic => "anthropic",
        Dialect::Gemini => "gcp.gemini",
    }
}

/// The longest text of a span, in bytes; what is longer is cut. Clients choose most of them, and thousands of spans wait
/// where a collector is slow.
const TEXT_BYTES_MAX: usize = 1024;
/// What stands where something was cut.
const CUT: &str = "…";

/// The spans of an exchange: its own first, then one for each attempt.
pub(super) fn spans(exchange: &Exchange, trace: &Trace, scope: &InstrumentationScope) -> Vec<SpanData> {
    let mut spans = Vec::with_capacity(1 + trace.sent.len());
    let elapsed = exchange.elapsed();
    let make =
        |id, parent, is_remote, span_kind, began: Duration, ended: Duration, described: Described| SpanData {
            span_context: SpanContext::new(trace.id, id, TraceFlags::SAMPLED, false, trace.state.clone()),
            parent_span_id: parent,
            parent_span_is_remote: is_remote,
            span_kind,
            name: described.name,
            start_time: at(exchange, began),
            end_time: at(exchange, ended),
            attributes: described.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: described.status,
            instrumentation_scope: scope.clone(),
        };
    let parent = trace.parent.unwrap_or(SpanId::INVALID);
    let own = describe(exchange);
    spans.push(make(
        trace.span,
        parent,
        trace.parent.is_some(),
        SpanKind::Server,
        Duration::ZERO,
        elapsed,
        own,
    ));
    let count = exchange.attempts.len();
    for (place, (attempt, sent)) in exchange.attempts.iter().zip(&trace.sent).enumerate() {
        // The answer that the client is sent comes to its end with the exchange.
        let is_answer = place + 1 == count && attempt.status.is_some();
        let ended = if is_answer { elapsed } else { attempt.began + attempt.took };
        let described = describe_attempt(exchange, attempt, sent, place + 1);
        spans.push(make(sent.span, trace.span, false, SpanKind::Client, attempt.began, ended, described));
    }
    spans
}

struct Described {
    name: Cow<'static, str>,
    attributes: Vec<KeyValue>,
    status: Status,
}

fn at(exchange: &Exchange, after: Duration) -> SystemTime {
    exchange.started_at + after
}

/// What the conventions call what an endpoint does; none for what they have no word for.
fn operation(endpoint: &str) -> Option<&'static str> {
    match endpoint {
        "chat.completions" | "responses" | "anthropic.messages" => Some("chat"),
        "gemini.generate_content" => Some("generate_content"),
        "text_completion" => Some("text_completion"),
        "embeddings" | "gemini.embed_content" | "gemini.batch_embed_contents" => Some("embeddings"),
        _ => None,
    }
}

fn name(exchange: &Exchange, model: Option<&str>) -> Cow<'static, str> {
    match (operation(exchange.endpoint), model) {
        (Some(operation), Some(model)) => bounded(&format!("{operation} {model}")).into(),
        (Some(operation), None) => operation.into(),
        // Never the path as it was sent: there are as many as clients can think of.
        (None, _) => bounded(&format!("{} {}", exchange.method, exchange.endpoint)).into(),
    }
}

fn describe(exchange: &Exchange) -> Described {
    let mut attributes = Vec::with_capacity(24);
    let mut add = |key: &'static str, value: Value| attributes.push(KeyValue::new(key, value));
    generative(exchange, exchange.dialect, exchange.model.as_deref(), &mut add);
    if let Some(attempt) = exchange.attempts.last().filter(|attempt| attempt.status.is_some()) {
        add("witgate.upstream", attempt.upstream.clone().into());
    }
    if let Some(usage) = exchange.usage {
        add("gen_ai.usage.input_tokens", number(usage.input));
        add("gen_ai.usage.output_tokens", number(usage.output));
        add("gen_ai.usage.cache_read.input_tokens", number(usage.cached));
        add("gen_ai.usage.reasoning.output_tokens", number(usage.reasoning));
    }
    if let Some(finish) = exchange.finish {
        add(
            "gen_ai.response.finish_reasons",
            Value::Array(Array::String(vec![StringValue::from(word(finish))])),
        );
    }
    if let Some(time) = exchange.first_token {
        add("gen_ai.response.time_to_first_chunk", time.as_secs_f64().into());
    }
    add("http.request.method", text(exchange.method.as_str()));
    add("url.path", text(exchange.target.split('?').next().unwrap_or_default()));
    add("client.address", text(&exchange.client.to_string()));
    if let Some(Ok(agent)) = exchange.user_agent.as_ref().map(|value| value.to_str()) {
        add("user_agent.original", text(agent));
    }
    if let Some(status) = exchange.status {
        add("http.response.status_code", i64::from(status.as_u16()).into());
    }
    add("witgate.request_id", text(exchange.id.to_str().unwrap_or_default()));
    add("witgate.outcome", exchange.outcome_word().into());
    add("witgate.attempts", number(exchange.attempts.len() as u64));
    let who = [("witgate.key", &exchange.key), ("witgate.tenant", &exchange.tenant)];
    for (key, value) in who.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))) {
        add(key, text(value));
    }
    if let Some(caller) = &exchange.caller {
        add("witgate.caller", text(caller));
    }
    let (error, status) = how_it_ended(exchange);
    if let Some(error) = error {
        add("error.type", text(&error));
    }
    for (name, took) in exchange.plugins() {
        attributes.push(KeyValue::new(format!("witgate.plugin.{name}.duration"), took.as_secs_f64()));
    }
    Described { name: name(exchange, exchange.model.as_deref()), attributes, status }
}

/// What went wrong, and whether it is this side's fault: what a client does wrong leaves the status of a server's span
/// unset.
fn how_it_ended(exchange: &Exchange) -> (Option<String>, Status) {
    let status = exchange.status.filter(|status| status.is_client_error() || status.is_server_error());
    match exchange.outcome() {
        Outcome::Failed(error) => {
            let is_clients = error.kind.blame() == Blame::Client;
            let status = if is_clients { Status::Unset } else { Status::error(bounded(&error.message)) };
            (Some(error.kind.code().to_owned()), status)
        }
        Outcome::Cancelled => (Some(ErrorKind::Cancelled.code().to_owned()), Status::Unset),
        Outcome::Complete => match status {
            Some(status) if status.is_server_error() => (Some(status.as_str().to_owned()), Status::error("")),
            Some(status) => (Some(status.as_str().to_owned()), Status::Unset),
            None => (None, Status::Unset),
        },
    }
}

fn describe_attempt(exchange: &Exchange, attempt: &Attempt, sent: &Sent, number_of: usize) -> Described {
    let mut attributes = Vec::with_capacity(12);
    let mut add = |key: &'static str, value: Value| attributes.push(KeyValue::new(key, value));
    let model = (!attempt.model.is_empty()).then_some(&*attempt.model);
    generative(exchange, sent.upstream.settings.dialect, model, &mut add);
    if let Target::Http(base) = &sent.upstream.settings.target
        && let Some(host) = base.host()
    {
        let default = if base.scheme_str() == Some("https") { 443 } else { 80 };
        add("server.address", text(host));
        add("server.port", i64::from(base.port_u16().unwrap_or(default)).into());
    }
    add("http.request.method", text(exchange.method.as_str()));
    add("witgate.upstream", attempt.upstream.clone().into());
    add("witgate.attempt", number(number_of as u64));
    let mut status = Status::Unset;
    let mut error = None;
    if let Some(code) = attempt.status {
        add("http.response.status_code", i64::from(code.as_u16()).into());
        if code.is_client_error() || code.is_server_error() {
            error = Some(code.as_str().to_owned());
            status = Status::error("");
        }
    } else if let Some(failure) = &attempt.error {
        error = Some(failure.kind.code().to_owned());
        status = Status::error(bounded(&failure.message));
    } else {
        error = Some(ErrorKind::Cancelled.code().to_owned());
    }
    if let Some(error) = error {
        add("error.type", text(&error));
    }
    Described { name: name(exchange, model), attributes, status }
}

/// What an exchange and its attempts have in common.
fn generative(
    exchange: &Exchange,
    dialect: Dialect,
    model: Option<&str>,
    add: &mut impl FnMut(&'static str, Value),
) {
    let Some(operation) = operation(exchange.endpoint) else { return };
    add("gen_ai.operation.name", operation.into());
    add("gen_ai.provider.name", provider(dialect).into());
    if let Some(model) = model {
        add("gen_ai.request.model", text(model));
    }
    if exchange.is_stream {
        add("gen_ai.request.stream", true.into());
    }
}

fn text(value: &str) -> Value {
    bounded(value).into()
}

fn bounded(text: &str) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text.to_owned();
    }
    format!("{}{CUT}", &text[..text.floor_char_boundary(TEXT_BYTES_MAX - CUT.len())])
}

fn number(value: u64) -> Value {
    i64::try_from(value).unwrap_or(i64::MAX).into()
}

/// A reason as the dialect words it.
fn word(finish: StopReason) -> &'static str {
    match finish {
        StopReason::Stop => "stop",
        StopReason::Length => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::ContentFilter => "content_filter",
        StopReason::Other => "other",
    }
}
