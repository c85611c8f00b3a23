//! Whole answers of the Responses API.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Choice, Content, Extra, Reply, StopReason, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::convert::Asked;
use crate::wire::json::{Members, quote};
use crate::wire::openai::responses::encoder::Arguments;
use crate::wire::openai::responses::output::{Item, Status, items, separate, write_on_one_line};
use crate::wire::openai::responses::parts;
use crate::wire::{Surface, usage};

/// Writes a whole answer. There is only one on this surface; of several the first is written.
///
/// Source: OpenAI API reference, "The response object", and the type `Response` of its clients, seen 2026-11.
pub fn encode_reply(reply: &Reply, asked: &Asked) -> Bytes {
    let nothing = Choice::default();
    let choice = reply.choices.first().unwrap_or(&nothing);
    let envelope = Envelope::new(&reply.id, reply.created_unix_s, asked);
    let mut out = Vec::with_capacity(1024);
    envelope.write_end(&items(choice, reply.surface), choice.stop, reply.usage, &mut out);
    out.into()
}

/// The item that was cut off when the answer was: the last one, unless that is a call whose arguments are whole.
pub(super) fn cut(items: &[Item<'_>], stop: Option<StopReason>) -> Option<usize> {
    let is_cut = Status::after(stop) == Status::Incomplete;
    let last = items.len().checked_sub(1).filter(|_| is_cut)?;
    let is_whole = matches!(&items[last], Item::Call { arguments, .. } if Arguments::of(arguments).is_whole);
    (!is_whole).then_some(last)
}

/// Everything of a response object that is the same from its first event to its last: it is written in four of them.
#[derive(Debug)]
pub(super) struct Envelope {
    /// What no other exchange has, for ids.
    pub(super) exchange: String,
    /// The members before `status`.
    head: Vec<u8>,
    /// The members after `output`, without `usage`.
    tail: Vec<u8>,
}

impl Envelope {
    /// Writes them down. `id` is the upstream's, `created_unix_s` too.
    pub(super) fn new(id: &str, created_unix_s: Option<u64>, asked: &Asked) -> Self {
        let mut head = br#"{"id":"#.to_vec();
        match id.starts_with(ID_PREFIX) {
            true => quote(id, &mut head),
            // Clients tell by the prefix what an id is of.
            false => quote(&format!("{ID_PREFIX}{}", asked.id), &mut head),
        }
        let created = created_unix_s.unwrap_or(asked.created_unix_s);
        head.extend_from_slice(format!(r#","object":"response","created_at":{created},"model":"#).as_bytes());
        quote(&asked.model, &mut head);
        let mut tail = Vec::with_capacity(512);
        Repeated::of(&asked.request).write(&mut tail);
        Self { exchange: asked.id.to_string(), head, tail }
    }

    /// Writes the object as it is before there is anything in it.
    pub(super) fn write_begun(&self, out: &mut Vec<u8>) {
        self.write(Status::InProgress, "null", None, out, |_| ());
    }

    /// Writes the object of an answer that is over.
    pub(super) fn write_end(
        &self,
        items: &[Item<'_>],
        stop: Option<StopReason>,
        usage: Option<Usage>,
        out: &mut Vec<u8>,
    ) {
        let status = Status::after(stop);
        let details = match stop {
            Some(StopReason::Length) => r#"{"reason":"max_output_tokens"}"#,
            Some(StopReason::ContentFilter) => r#"{"reason":"content_filter"}"#,
            Some(StopReason::Stop | StopReason::ToolCalls | StopReason::Other) | None => "null",
        };
        let cut = cut(items, stop);
        self.write(status, details, usage, out, |out| {
            let mut count = 0;
            for (index, item) in items.iter().enumerate() {
                separate(&mut count, out);
                let status = if cut == Some(index) { Status::Incomplete } else { Status::Completed };
                item.write(&self.exchange, index, status, out);
            }
        });
    }

    fn write(
        &self,
        status: Status,
        incomplete_details: &str,
        usage: Option<Usage>,
        out: &mut Vec<u8>,
        output: impl FnOnce(&mut Vec<u8>),
    ) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(br#","status":""#);
        out.extend_from_slice(status.word().as_bytes());
        out.extend_from_slice(br#"","error":null,"incomplete_details":"#);
        out.extend_from_slice(incomplete_details.as_bytes());
        out.extend_from_slice(br#","output":["#);
        output(out);
        out.push(b']');
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(br#","usage":"#);
        match usage {
            Some(usage) => write_usage(usage, out),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
    }
}

/// What ids of response objects begin with.
const ID_PREFIX: &str = "resp_";

fn write_usage(usage: Usage, out: &mut Vec<u8>) {
    let Usage { input, output, cached, cache_written, reasoning, .. } = usage;
    let total = usage.total();
    out.extend_from_slice(
        format!(
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cache_write_tokens":{cache_written},"cached_tokens":{cached}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":{reasoning}}},"total_tokens":{total}}}"#
        )
        .as_bytes(),
    );
}

/// What an answer repeats of its request, as it stood there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Repeated<'a> {
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    parallel_tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_cache_key: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    safety_identifier: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    top_logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    top_p: Option<&'a RawValue>,
    #[serde(borrow)]
    truncation: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
}

impl<'a> Repeated<'a> {
    /// Reads a request. One that was made by other means than a client's body has nothing to repeat.
    fn of(request: &'a [u8]) -> Self {
        serde_json::from_slice(request).unwrap_or_default()
    }

    /// Writes the members, with the defaults of the API where the request has none.
    fn write(&self, out: &mut Vec<u8>) {
        let members = [
            ("instructions", self.instructions, "null"),
            ("max_output_tokens", self.max_output_tokens, "null"),
            ("max_tool_calls", self.max_tool_calls, "null"),
            ("metadata", self.metadata, "{}"),
            ("parallel_tool_calls", self.parallel_tool_calls, "true"),
            ("prompt_cache_key", self.prompt_cache_key, "null"),
            ("reasoning", self.reasoning, r#"{"effort":null,"summary":null}"#),
            ("safety_identifier", self.safety_identifier, "null"),
            ("service_tier", self.service_tier, r#""default""#),
            ("temperature", self.temperature, "1.0"),
            ("tool_choice", self.tool_choice, r#""auto""#),
            ("tools", self.tools, "[]"),
            ("top_logprobs", self.top_logprobs, "0"),
            ("top_p", self.top_p, "1.0"),
            ("truncation", self.truncation, r#""disabled""#),
            ("user", self.user, "null"),
        ];
        out.extend_from_slice(br#","background":false,"previous_response_id":null,"store":false"#);
        for (name, said, default) in members {
            out.extend_from_slice(format!(r#","{name}":"#).as_bytes());
            write_on_one_line(said.map_or(default, RawValue::get), out);
        }
        self.write_text(out);
    }

    /// Writes `text`, which always has a `format` in answers.
    fn write_text(&self, out: &mut Vec<u8>) {
        let text = self.text.and_then(|text| Members::of(text.get())).unwrap_or_default();
        out.extend_from_slice(br#","text":{"format":"#);
        write_on_one_line(text.get("format").unwrap_or(r#"{"type":"text"}"#), out);
        out.extend_from_slice(br#","verbosity":"#);
        write_on_one_line(text.get("verbosity").unwrap_or(r#""medium""#), out);
        out.push(b'}');
    }
}

/// Reads a whole answer.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is not a response object, or one of an answer that failed.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let invalid = |message: &str| Error::new(ErrorKind::UpstreamInvalid, message);
    let json = std::str::from_utf8(body).map_err(|_| invalid("the upstream's answer is not UTF-8"))?;
    let reply = Members::of(json).ok_or_else(|| invalid("the upstream's answer is not a JSON object"))?;
    if reply.get("error").is_some() {
        return Err(invalid("the upstream's answer is that it failed"));
    }
    if !reply.get("output").is_some_and(|output| output.starts_with('[')) {
        return Err(invalid("the upstream's answer has no `output`"));
    }
    let mut choice = Choice::default();
    for item in reply.list("output") {
        parts::read(item, &mut choice.parts);
        choice.logprobs.extend(logprobs(item));
    }
    let calls = choice.parts.iter().any(|part| matches!(part.content, Content::ToolCall { .. }));
    choice.stop = Some(stop(&reply, calls));
    Ok(Reply {
        surface: Surface::Responses,
        id: reply.text("id").map_or_else(|| format!("{ID_PREFIX}{id}"), |id| id.into_owned()),
        model: reply.text("model").unwrap_or_default().into_owned(),
        created_unix_s: reply.count("created_at"),
        choices: vec![choice],
        usage: usage::of(body),
        extra: Extra::default(),
    })
}

fn logprobs(item: &str) -> Vec<crate::chat::TokenLogprob> {
    let parts = Members::of(item).map(|item| item.list("content")).unwrap_or_default().into_iter();
    let tokens = parts.filter_map(|part| Some(parts::logprobs(Members::of(part)?.get("logprobs")?)));
    tokens.flatten().collect()
}

/// Why an answer ended, by its response object and whether it calls tools.
pub(super) fn stop(response: &Members<'_>, calls: bool) -> StopReason {
    let details = response.object("incomplete_details").unwrap_or_default();
    match details.text("reason").as_deref() {
        Some("max_output_tokens") => StopReason::Length,
        Some("content_filter") => StopReason::ContentFilter,
        Some(_) => StopReason::Other,
        None if response.text("status").as_deref() == Some("incomplete") => StopReason::Other,
        None if calls => StopReason::ToolCalls,
        None => StopReason::Stop,
    }
}
