//! Whole answers, both ways, and what they have in common with the chunks of streamed ones.

use std::borrow::Cow;

use bytes::Bytes;

use crate::chat::{
    ApiError, Choice, Content, Extra, Part, Reply, Signature, Source, StopReason, TokenLogprob, Usage,
};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::json::{Cursor, Writer, cursor, quote};

use super::citations::{self, Found, Grounding};
use super::error;
use super::parts::{self, Calls};
use super::usage;

/// How many answers one request may have.
pub(super) const CHOICES_MAX: usize = 128;

/// A whole answer, or a chunk of one.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) model: Option<Cow<'a, str>>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) usage: Option<Usage>,
    /// Why the prompt was not answered.
    pub(super) blocked: Option<String>,
    pub(super) error: Option<ApiError>,
}

/// An answer of those that were asked for, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Candidate {
    pub(super) index: u32,
    pub(super) parts: Vec<Part>,
    /// Where in `parts` begins what each of Google's parts says.
    starts: Vec<usize>,
    pub(super) stop: Option<StopReason>,
    pub(super) logprobs: Vec<TokenLogprob>,
    pub(super) found: Vec<Found>,
}

/// Google's word for a reason.
pub(super) fn finish_reason(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Stop | StopReason::ToolCalls => "STOP",
        StopReason::Length => "MAX_TOKENS",
        StopReason::ContentFilter => "SAFETY",
        StopReason::Other => "OTHER",
    }
}

/// What a person reads when the prompt was blocked.
pub(super) fn refusal(reason: &str) -> String {
    format!("the upstream did not answer this prompt: {reason}")
}

impl<'a> Answer<'a> {
    /// Reads a whole answer or a chunk.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] when it is not of the shape.
    pub(super) fn read(body: &'a [u8], calls: &mut Calls) -> Result<Self> {
        let mut answer = Self::default();
        let read = cursor::read(body, |value| value.members(|name, value| answer.member(name, value, calls)));
        read.map_err(|error| {
            let message = format!("the upstream's answer is not valid: {}", error.message);
            Error::new(ErrorKind::UpstreamInvalid, message)
        })?;
        Ok(answer)
    }

    fn member(&mut self, name: &str, value: &mut Cursor<'a, '_>, calls: &mut Calls) -> Result<()> {
        match name {
            "candidates" => value.elements(|value| {
                if self.candidates.len() == CHOICES_MAX {
                    return Err(value.invalid(format!("there are more than {CHOICES_MAX} candidates")));
                }
                let number = self.candidates.len();
                let candidate = candidate(value, u32::try_from(number).unwrap_or(u32::MAX), calls)?;
                self.candidates.push(candidate);
                Ok(())
            })?,
            "usageMetadata" => self.usage = Some(usage::read(value)?),
            "modelVersion" => self.model = Some(value.text()?),
            "responseId" => self.id = Some(value.text()?),
            "promptFeedback" => self.blocked = blocked(value)?,
            "error" => self.error = Some(error::of_stream(value)?),
            _ => {}
        }
        Ok(())
    }
}

/// Why the prompt was blocked; none if it was not.
fn blocked(value: &mut Cursor<'_, '_>) -> Result<Option<String>> {
    let (mut reason, mut message) = (None, None);
    value.members(|name, value| {
        match name {
            "blockReason" => reason = Some(value.text()?.into_owned()),
            "blockReasonMessage" => message = Some(value.text()?.into_owned()),
            _ => {}
        }
        Ok(())
    })?;
    let reason = reason.filter(|reason| !reason.is_empty() && !reason.ends_with("_UNSPECIFIED"));
    Ok(reason.map(|reason| match message {
        Some(message) => format!("{reason}: {message}"),
        None => reason,
    }))
}

fn candidate(value: &mut Cursor<'_, '_>, number: u32, calls: &mut Calls) -> Result<Candidate> {
    let mut candidate = Candidate { index: number, ..Candidate::default() };
    value.members(|name, value| {
        match name {
            "index" => {
                let index = u32::try_from(value.count()?).ok();
                candidate.index = index.ok_or_else(|| value.must_be("the number of a candidate"))?;
            }
            "content" => candidate.content(value, calls)?,
            "finishReason" => candidate.stop = StopReason::of_gemini(&value.text()?),
            "logprobsResult" => candidate.logprobs = logprobs(value)?,
            "groundingMetadata" => citations::read_grounding(value, &mut candidate.found)?,
            "citationMetadata" => citations::read_repeated(value, &mut candidate.found)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(candidate)
}

impl Candidate {
    fn content(&mut self, value: &mut Cursor<'_, '_>, calls: &mut Calls) -> Result<()> {
        value.members(|name, value| match name {
            "parts" => value.one_or_more(|value| {
                self.starts.push(self.parts.len());
                parts::read(value, calls, &mut self.parts)?;
                // An empty text says nothing; Google ends streams with one.
                if matches!(self.parts.last(), Some(Part { content: Content::Text { text, .. }, .. }) if text.is_empty()) {
                    self.parts.pop();
                }
                Ok(())
            }),
            _ => Ok(()),
        })
    }

    /// Puts what was found to the texts it is about.
    fn cite(&mut self) {
        for found in std::mem::take(&mut self.found) {
            let start = self.starts.get(found.part).copied().unwrap_or(0);
            let is_text = |part: &&mut Part| matches!(part.content, Content::Text { .. });
            let Some(part) = self.parts.iter_mut().skip(start).find(is_text) else { continue };
            if let Content::Text { text, citations } = &mut part.content {
                citations.push(found.within(text));
            }
        }
    }

    fn into_choice(mut self) -> Choice {
        self.cite();
        let calls = self.parts.iter().any(|part| matches!(part.content, Content::ToolCall { .. }));
        Choice {
            index: self.index,
            stop: self.stop.map(|stop| stop.with_calls(calls)),
            parts: self.parts,
            stop_sequence: None,
            logprobs: self.logprobs,
            extra: Extra::default(),
        }
    }
}

fn logprobs(value: &mut Cursor<'_, '_>) -> Result<Vec<TokenLogprob>> {
    let (mut chosen, mut tops) = (Vec::new(), Vec::new());
    value.members(|name, value| match name {
        "chosenCandidates" => value.elements(|value| {
            chosen.push(token(value)?);
            Ok(())
        }),
        "topCandidates" => value.elements(|value| {
            let mut top = Vec::new();
            value.members(|name, value| match name {
                "candidates" => value.elements(|value| {
                    top.push(token(value)?);
                    Ok(())
                }),
                _ => Ok(()),
            })?;
            tops.push(top);
            Ok(())
        }),
        _ => Ok(()),
    })?;
    let mut tops = tops.into_iter();
    let tokens = chosen.into_iter().map(|(token, logprob)| {
        let top = tops.next().unwrap_or_default();
        TokenLogprob { token, logprob, top }
    });
    Ok(tokens.collect())
}

fn token(value: &mut Cursor<'_, '_>) -> Result<(String, f64)> {
    let (mut token, mut logprob) = (String::new(), 0.0);
    value.members(|name, value| {
        match name {
            "token" => token = value.text()?.into_owned(),
            "logProbability" => logprob = value.number()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((token, logprob))
}

/// Reads a whole answer.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is none.
pub fn decode_reply(body: &[u8], id: &str) -> Result<Reply> {
    let answer = Answer::read(body, &mut Calls::of_answer(id))?;
    if let Some(error) = answer.error {
        let message = format!("the upstream answered with an error: {}", error.message);
        return Err(Error::new(ErrorKind::UpstreamInvalid, message));
    }
    if answer.candidates.is_empty() && answer.blocked.is_none() && answer.usage.is_none() {
        let message = "the upstream's answer has no `candidates`";
        return Err(Error::new(ErrorKind::UpstreamInvalid, message));
    }
    let mut choices: Vec<_> = answer.candidates.into_iter().map(Candidate::into_choice).collect();
    if let Some(reason) = answer.blocked.filter(|_| choices.is_empty()) {
        choices.push(Choice {
            parts: vec![Part::new(Content::Refusal(refusal(&reason)))],
            stop: Some(StopReason::ContentFilter),
            ..Choice::default()
        });
    }
    Ok(Reply {
        surface: Surface::Gemini,
        id: answer.id.unwrap_or_default().into_owned(),
        model: answer.model.unwrap_or_default().into_owned(),
        created_unix_s: None,
        choices,
        usage: answer.usage,
        extra: Extra::default(),
    })
}

/// Writes a whole answer.
pub fn encode_reply(reply: &Reply, asked: &Asked) -> Bytes {
    let mut answer = Writer::default();
    let candidates = answer.member("candidates");
    for (index, choice) in reply.choices.iter().enumerate() {
        candidates.push(if index == 0 { b'[' } else { b',' });
        candidates.append(&mut write_choice(choice, reply.surface));
    }
    candidates.extend_from_slice(if reply.choices.is_empty() { b"[]" } else { b"]" });
    if let Some(usage) = reply.usage {
        answer.member("usageMetadata").append(&mut usage::write(usage));
    }
    answer.string("modelVersion", &asked.model);
    answer.string("responseId", if reply.id.is_empty() { &asked.id } else { &reply.id });
    answer.finish().into()
}

fn write_choice(choice: &Choice, surface: Surface) -> Vec<u8> {
    let (mut parts, mut grounding, mut count) = (Vec::new(), Grounding::default(), 0);
    for part in &choice.parts {
        let start = parts.len();
        if start > 0 {
            parts.push(b',');
        }
        if !write_part(&part.content, surface, &mut parts) {
            parts.truncate(start);
            continue;
        }
        if let Content::Text { text, citations } = &part.content {
            citations.iter().for_each(|citation| grounding.add(citation, text, 0, count));
        }
        count += 1;
    }
    if parts.is_empty() {
        // Google's clients take a content without parts for no answer.
        parts::write_text("", false, None, &mut parts);
    }
    let mut candidate = Writer::default();
    let content = candidate.member("content");
    content.extend_from_slice(br#"{"parts":["#);
    content.append(&mut parts);
    content.extend_from_slice(br#"],"role":"model"}"#);
    if let Some(stop) = choice.stop {
        candidate.string("finishReason", finish_reason(stop));
    }
    candidate.plain("index", choice.index);
    if let Some(mut grounding) = grounding.finish() {
        candidate.member("groundingMetadata").append(&mut grounding);
    }
    if !choice.logprobs.is_empty() {
        candidate.member("logprobsResult").append(&mut write_logprobs(&choice.logprobs));
    }
    candidate.finish()
}

/// Writes a part of an answer; false if Google has no words for it.
pub(super) fn write_part(content: &Content, surface: Surface, out: &mut Vec<u8>) -> bool {
    match content {
        Content::Text { text, .. } | Content::Refusal(text) => parts::write_text(text, false, None, out),
        Content::Thinking { text, signature } => write_thinking(text, signature.as_ref(), out),
        Content::RedactedThinking(data) => parts::write_redacted(data, out),
        Content::ToolCall { id, name, arguments, signature } => {
            parts::write_call(id, name, arguments, signature.as_ref(), out);
        }
        Content::Image { source, .. } | Content::Audio { source } | Content::File { source, .. } => {
            return write_media(source, out);
        }
        Content::Other(json) if surface == Surface::Gemini => out.extend_from_slice(json.get().as_bytes()),
        Content::Other(_) | Content::ToolResult { .. } => return false,
    }
    true
}

/// Google's own signatures of what follows stand with a text that is no thought.
pub(super) fn write_thinking(text: &str, signature: Option<&Signature>, out: &mut Vec<u8>) {
    let is_of_next =
        text.is_empty() && signature.is_some_and(|signature| signature.surface == Surface::Gemini);
    parts::write_text(text, !is_of_next, signature, out);
}

fn write_media(source: &Source, out: &mut Vec<u8>) -> bool {
    match source {
        Source::Data { media_type, base64 } => parts::write_data(media_type, base64, out),
        Source::Url { url, media_type } => {
            let media_type = media_type.as_deref().or_else(|| parts::media_type_of(url));
            parts::write_url(media_type.unwrap_or("application/octet-stream"), url, out);
        }
        Source::Text(text) => parts::write_text(text, false, None, out),
        Source::Id(_) => return false,
    }
    true
}

/// Writes `logprobsResult`.
pub(super) fn write_logprobs(tokens: &[TokenLogprob]) -> Vec<u8> {
    let (mut chosen, mut tops) = (Vec::new(), Vec::new());
    for (index, TokenLogprob { token, logprob, top }) in tokens.iter().enumerate() {
        let separator = if index == 0 { b'[' } else { b',' };
        chosen.push(separator);
        write_token(token, *logprob, &mut chosen);
        tops.push(separator);
        tops.extend_from_slice(br#"{"candidates":["#);
        for (index, (token, logprob)) in top.iter().enumerate() {
            if index > 0 {
                tops.push(b',');
            }
            write_token(token, *logprob, &mut tops);
        }
        tops.extend_from_slice(b"]}");
    }
    chosen.push(b']');
    tops.push(b']');
    let mut result = Writer::default();
    result.member("topCandidates").append(&mut tops);
    result.member("chosenCandidates").append(&mut chosen);
    result.finish()
}

fn write_token(token: &str, logprob: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"token":"#);
    quote(token, out);
    // JSON has no infinity, which is how some upstreams write a probability of 0.
    let logprob = if logprob.is_finite() { logprob } else { f64::MIN };
    out.extend_from_slice(format!(r#","logProbability":{logprob}}}"#).as_bytes());
}

#[cfg(test)]
mod tests;
