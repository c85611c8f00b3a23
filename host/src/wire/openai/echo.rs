//! What the echo upstream says besides chats: requests of any endpoint read whole, and answers of the completions API.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::chat::{StopReason, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json::{Writer, object};
use crate::wire::openai::chat::usage_json;
use crate::wire::sse;

/// Reads any request whole, as the type that holds what is asked of it.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] when the body is not JSON or does not fit the type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // The reader works in place.
    simd_json::serde::from_slice(&mut body.to_vec())
        .map_err(|error| Error::new(ErrorKind::InvalidRequest, error.to_string()))
}

/// The options of a stream.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct StreamOptions {
    /// Whether the stream is to end with its usage.
    pub include_usage: Option<bool>,
}

/// Writes one answer of the completions API, whole or event by event.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The answer's `id`.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// When the answer was made, in seconds since 1970.
    pub created_unix_s: u64,
}

impl Completion {
    /// Writes a piece of the text with this index.
    pub fn text(&self, index: usize, text: &str) -> Bytes {
        self.event(|members| members.list("choices", [text], |text, out| choice(index, text, None, out)))
    }

    /// Writes why the text with this index ended.
    pub fn finish(&self, index: usize, reason: StopReason) -> Bytes {
        self.event(|members| {
            members.list("choices", [reason], |reason, out| choice(index, "", Some(reason), out))
        })
    }

    /// Writes what the answer cost.
    pub fn usage(&self, usage: Usage) -> Bytes {
        self.event(|members| {
            members.raw("choices", "[]");
            members.raw("usage", &usage_json(Endpoint::Completions, usage));
        })
    }

    /// Writes what ends a stream.
    pub fn done(&self) -> Bytes {
        Bytes::from_static(b"data: [DONE]\n\n")
    }

    /// Writes a whole answer with one choice for each text.
    pub fn reply(&self, texts: &[String], reason: StopReason, usage: Usage) -> Bytes {
        let body = self.body(|members| {
            members.list("choices", texts.iter().enumerate(), |(index, text), out| {
                choice(index, text, Some(reason), out);
            });
            members.raw("usage", &usage_json(Endpoint::Completions, usage));
        });
        body.into()
    }

    fn event(&self, write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) -> Bytes {
        sse::encode(None, &self.body(write))
    }

    fn body(&self, write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) -> Vec<u8> {
        let mut body = Vec::with_capacity(256);
        object(&mut body, |members| {
            members.string("id", &self.id);
            members.string("object", "text_completion");
            members.plain("created", self.created_unix_s);
            members.string("model", &self.model);
            write(members);
        });
        body
    }
}

fn choice(index: usize, text: &str, reason: Option<StopReason>, out: &mut Vec<u8>) {
    object(out, |members| {
        members.plain("index", index);
        members.string("text", text);
        members.raw("logprobs", "null");
        match reason {
            Some(reason) => members.string("finish_reason", reason.openai_name()),
            None => members.raw("finish_reason", "null"),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::openai::view::View;

    fn completion() -> Completion {
        Completion { id: "i\"d".into(), model: "m".into(), created_unix_s: 7 }
    }

    #[track_caller]
    fn check_event(bytes: &Bytes, expected: &str) {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.contains(expected), "{text}");
        let data = text.strip_prefix("data: ").unwrap().trim_end();
        serde_json::from_str::<serde_json::Value>(data).unwrap();
    }

    #[test]
    fn events_are_written_in_openais_words() {
        check_event(
            &completion().text(0, "a\n"),
            r#""index":0,"text":"a\n","logprobs":null,"finish_reason":null"#,
        );
        check_event(
            &completion().finish(1, StopReason::Length),
            r#""index":1,"text":"","logprobs":null,"finish_reason":"length""#,
        );
        check_event(&completion().usage(Usage::default()), r#""choices":[],"usage":{"#);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let usage = Usage { input: 1, output: 2, cached: 3, reasoning: 4, ..Usage::default() };
        let body = completion().reply(&["a\"".into(), "b".into()], StopReason::ToolCalls, usage);
        let view = View::of(&body).unwrap();
        assert_eq!((view.usage, view.choices.len()), (Some(usage), 2));
        assert_eq!(view.choices[1].finish_reason, Some(StopReason::ToolCalls));
    }
}
