//! Anthropic's count of a request's tokens.

use bytes::Bytes;
use serde::Deserialize;

use crate::chat::ChatRequest;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::anthropic::messages;
use crate::wire::convert::Terms;
use crate::wire::json::{Members, Writer};

/// What a request to count has of a request for an answer; anything else is refused there.
///
/// Source: Anthropic, API reference, "Count tokens in a Message", seen 2026-11.
const MEMBERS: [&str; 10] = [
    "model",
    "system",
    "messages",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "speed",
    "user_profile_id",
];

/// Writes a request to count what a request for an answer would cost.
///
/// # Errors
/// As [`messages::encode_request`].
pub fn encode_request(request: &ChatRequest, terms: &mut Terms<'_>) -> Result<Bytes> {
    let whole = messages::encode_request(request, terms)?;
    let text = std::str::from_utf8(&whole).expect("it was written from texts");
    let members = Members::of(text).expect("it was written as an object");
    let mut out = Vec::with_capacity(whole.len());
    let mut writer = Writer::new(&mut out);
    for name in MEMBERS {
        if let Some(value) = members.get(name) {
            writer.raw(name, value);
        }
    }
    writer.finish();
    Ok(out.into())
}

/// Reads a count.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is none.
pub fn decode_reply(body: &[u8]) -> Result<u64> {
    #[derive(Deserialize)]
    struct Count {
        input_tokens: u64,
    }
    let count: Count = serde_json::from_slice(body).map_err(|error| {
        let message = "the upstream's count of tokens is not valid";
        Error::new(ErrorKind::UpstreamInvalid, message).with_source(error)
    })?;
    Ok(count.input_tokens)
}

/// Writes a count.
pub fn encode_reply(input_tokens: u64) -> Bytes {
    format!(r#"{{"input_tokens":{input_tokens}}}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Surface;
    use crate::wire::convert::EffortBudgets;

    #[test]
    fn a_request_to_count_has_nothing_that_only_answers_need() {
        let body = br#"{"model":"m","max_tokens":5,"temperature":1,"system":"s","messages":[{"role":"user","content":"a"}],"stream":true}"#;
        let request = messages::decode_request(body).unwrap();
        let mut terms = Terms {
            client: Surface::Messages,
            target: Surface::Messages,
            upstream: "u",
            max_tokens_default: 1,
            budgets: EffortBudgets::default(),
            losses: Vec::new(),
            unknown: Vec::new(),
        };
        let written = encode_request(&request, &mut terms).unwrap();
        let expected = r#"{"model":"m","system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
        assert_eq!(written, expected);
    }

    #[test]
    fn a_count_is_read_as_it_is_written() {
        assert_eq!(decode_reply(&encode_reply(7)).unwrap(), 7);
        assert_eq!(decode_reply(br#"{"input_tokens":8,"more":{}}"#).unwrap(), 8);
        for body in ["", "{}", r#"{"input_tokens":-1}"#] {
            assert_eq!(decode_reply(body.as_bytes()).unwrap_err().kind, ErrorKind::UpstreamInvalid);
        }
    }
}
