//! What of an exchange is kept for its record: the client's headers, the request, and the answer as the client is sent it.

use std::sync::Arc;

use bytes::Bytes;
use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::budget::Share;
use crate::chat::Usage;
use crate::config::secret::is_credential;
use crate::headers::Kind;
use crate::percent;
use crate::wire::openai::assemble::Assembly;
use crate::wire::usage::{self, Estimate};
use crate::wire::{Endpoint, json};

/// What stands for a value that must not be kept.
const HIDDEN: &str = "***";
/// A shorter secret is not looked for in other headers, in bytes: it would be found everywhere.
const SECRET_BYTES_MIN: usize = 8;
/// Room for the headers of most requests, in bytes.
const HEADERS_BYTES_USUAL: usize = 512;

/// What is held of a body to estimate its tokens where it is kept for nothing else, in bytes.
const COUNTED_BYTES_MAX: usize = 1 << 20;

/// The bodies and headers of an exchange, up to a bound.
pub(crate) struct Recording {
    /// The request's headers as a JSON object, without their secrets.
    pub(crate) headers: String,
    /// The request, or what can be said of one that is passed on while it arrives; none if there was none.
    pub(crate) request: Option<Bytes>,
    /// Whether the request is cut.
    pub(crate) is_request_cut: bool,
    /// The answer.
    pub(crate) answer: Answer,
    /// Whether the answer is cut.
    pub(crate) is_answer_cut: bool,
    bytes_max: usize,
    /// Whether bodies are for the record; else they are held until their tokens have been counted.
    keeps_bodies: bool,
    /// Bytes of the answer that are kept in pieces.
    held: usize,
    /// The bytes of the request that are held in memory.
    share: Option<Arc<Share>>,
}

/// An answer, as it is kept.
pub(crate) enum Answer {
    /// None yet, or none that may be kept.
    None,
    /// Text, in the pieces that were sent.
    Whole(Vec<Bytes>),
    /// A stream, as the whole answer that it amounts to.
    Events(Box<Assembly>),
    /// Bytes of this type, of which only the number is kept.
    Other(String),
}

impl Recording {
    /// Begins with the headers of a request. `bytes_max` bounds what is kept of a body; none keeps no bodies, but they are
    /// held, up to a bound, until [`Self::forgo_bodies`].
    pub(crate) fn begin(headers: &HeaderMap, redact: &[HeaderName], bytes_max: Option<usize>) -> Self {
        Self {
            headers: without_secrets(headers, redact),
            request: None,
            is_request_cut: false,
            answer: Answer::None,
            is_answer_cut: false,
            bytes_max: bytes_max.unwrap_or(COUNTED_BYTES_MAX),
            keeps_bodies: bytes_max.is_some(),
            held: 0,
            share: None,
        }
    }

    /// Keeps the request. A part of it is copied, so that the rest can go.
    pub(crate) fn note_request(&mut self, body: &Bytes) {
        self.is_request_cut = body.len() > self.bytes_max;
        self.request = Some(if self.is_request_cut {
            Bytes::copy_from_slice(&body[..self.bytes_max])
        } else {
            body.clone()
        });
    }

    /// Has the request's bytes count as held for as long as they are kept.
    pub(crate) fn hold(&mut self, share: &Arc<Share>) {
        let Some(request) = &self.request else { return };
        self.share =
            Some(if self.is_request_cut { Arc::new(share.another(request.len())) } else { share.clone() });
    }

    /// Keeps what is known of a request that is passed on while it arrives.
    pub(crate) fn describe_request(&mut self, content_type: &str, model: Option<&str>) {
        if self.keeps_bodies {
            let description = serde_json::json!({ "content_type": content_type, "model": model });
            self.request = Some(description.to_string().into());
        }
    }

    /// Gets ready for an endpoint's answer with these headers.
    pub(crate) fn begin_answer(&mut self, endpoint: Option<Endpoint>, headers: &HeaderMap) {
        if !self.keeps_bodies && !endpoint.is_some_and(Endpoint::has_text) {
            return;
        }
        let content_type =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        self.answer = match (Kind::of(headers), endpoint) {
            (Kind::EventStream, Some(endpoint)) => {
                Answer::Events(Box::new(Assembly::new(endpoint, self.bytes_max)))
            }
            (Kind::Other, _) if !is_text(content_type) => Answer::Other(content_type.to_owned()),
            _ => Answer::Whole(Vec::new()),
        };
    }

    /// Keeps what of the answer is sent now.
    pub(crate) fn note_sent(&mut self, bytes: &Bytes) {
        match &mut self.answer {
            Answer::None | Answer::Other(_) => {}
            Answer::Events(assembly) => assembly.push(bytes),
            Answer::Whole(pieces) => {
                let room = self.bytes_max.saturating_sub(self.held);
                self.is_answer_cut |= bytes.len() > room;
                let kept = bytes.len().min(room);
                if kept == bytes.len() {
                    pieces.push(bytes.clone());
                } else if kept > 0 {
                    pieces.push(Bytes::copy_from_slice(&bytes[..kept]));
                }
                self.held += kept;
            }
        }
    }

    /// The tokens by the length of the texts, for when nobody has counted them.
    pub(crate) fn estimate(&mut self) -> Usage {
        let (mut input, mut output) = (Estimate::default(), Estimate::default());
        if let Some(request) = &self.request {
            input.add_request(request);
            // A text that is cut in its middle cannot be read.
            if self.is_request_cut && input.tokens() == 0 {
                input.add_bytes(request.len() as u64);
            }
        }
        match &mut self.answer {
            Answer::None | Answer::Other(_) => {}
            Answer::Events(assembly) => output = assembly.estimate(),
            Answer::Whole(pieces) => output.add_answer(&pieces.concat()),
        }
        usage::estimate(input, output)
    }

    /// Lets go of the bodies if they are not for the record. Their tokens have been counted.
    pub(crate) fn forgo_bodies(&mut self) {
        if !self.keeps_bodies {
            (self.request, self.is_request_cut) = (None, false);
            (self.answer, self.is_answer_cut) = (Answer::None, false);
            self.share = None;
        }
    }

    /// Makes one text of the answer; `usage` is told where a stream did not tell it.
    pub(crate) fn settle(&mut self, usage: Option<Usage>) {
        self.answer = match std::mem::replace(&mut self.answer, Answer::None) {
            Answer::Events(assembly) => {
                let assembled = assembly.finish(usage);
                self.is_answer_cut |= assembled.is_cut;
                Answer::Whole(vec![assembled.body.into()])
            }
            Answer::Whole(pieces) if pieces.len() > 1 => Answer::Whole(vec![pieces.concat().into()]),
            settled => settled,
        };
    }

    /// The memory it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let answer = match &self.answer {
            Answer::None => 0,
            Answer::Whole(pieces) => pieces.iter().map(|piece| piece.len() + size_of::<Bytes>()).sum(),
            Answer::Events(assembly) => assembly.held_bytes(),
            Answer::Other(content_type) => content_type.len(),
        };
        self.headers.len() + self.request.as_ref().map_or(0, Bytes::len) + answer
    }
}

/// Whether bytes of a type, other than JSON and events, can be read by people.
fn is_text(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(&*essence, "" | "application/x-ndjson" | "application/jsonl" | "application/xml")
}

/// A request's path and query as they may be kept.
pub(crate) fn target(uri: &Uri) -> String {
    let path = uri.path();
    let Some(query) = uri.query() else { return path.to_owned() };
    let shown = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret_parameter(name) => format!("{name}={HIDDEN}"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

/// Whether a parameter of a query is a key, by its name, which may be percent-encoded.
fn is_secret_parameter(name: &str) -> bool {
    let name = percent::decoded(name).to_ascii_lowercase();
    is_secret(&name) || is_secret(&name.replace('_', "-"))
}

/// Whether a header's or a parameter's name says that its value is a secret.
fn is_secret(name: &str) -> bool {
    name == "key" || name == "auth" || is_credential(name)
}

/// The headers as a JSON object, several of one name as a list. A secret that stands in its own header is hidden in the
/// others, too.
fn without_secrets(headers: &HeaderMap, redact: &[HeaderName]) -> String {
    let is_hidden = |name: &HeaderName| is_secret(name.as_str()) || redact.contains(name);
    let secrets: Vec<&[u8]> = headers
        .iter()
        .filter(|(name, _)| is_hidden(name))
        .filter_map(|(_, value)| value.as_bytes().rsplit(|byte| *byte == b' ').next())
        .filter(|secret| secret.len() >= SECRET_BYTES_MIN)
        .collect();
    let may_be_kept = |name: &HeaderName, value: &[u8]| {
        !is_hidden(name)
            && !is_authorization(value)
            && !secrets.iter().any(|secret| memchr::memmem::find(value, secret).is_some())
    };
    let mut json = Vec::with_capacity(HEADERS_BYTES_USUAL);
    let quote = |name: &HeaderName, value: &HeaderValue, json: &mut Vec<u8>| {
        let bytes = value.as_bytes();
        let shown = if may_be_kept(name, bytes) { String::from_utf8_lossy(bytes) } else { HIDDEN.into() };
        json::quote(&shown, json);
    };
    for name in headers.keys() {
        json.push(if json.is_empty() { b'{' } else { b',' });
        json::quote(name.as_str(), &mut json);
        json.push(b':');
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        let mut rest = values.peekable();
        let is_list = rest.peek().is_some();
        json.extend(is_list.then_some(b'['));
        for (place, value) in first.into_iter().chain(rest).enumerate() {
            json.extend((place > 0).then_some(b','));
            quote(name, value, &mut json);
        }
        json.extend(is_list.then_some(b']'));
    }
    if json.is_empty() {
        json.push(b'{');
    }
    json.push(b'}');
    String::from_utf8(json).expect("quoted text and punctuation are UTF-8")
}

/// Whether a value is the credential of some scheme, in whichever header it stands.
fn is_authorization(value: &[u8]) -> bool {
    let begins = |scheme: &str| {
        value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    };
    begins("bearer ") || begins("basic ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_headers(pairs: &[(&'static str, &str)], expected: &str) {
        let headers: HeaderMap = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        assert_eq!(without_secrets(&headers, &[HeaderName::from_static("x-inner")]), expected);
    }

    #[test]
    fn secrets_are_hidden_wherever_they_stand() {
        // parity: 147
        check_headers(&[], "{}");
        check_headers(&[("accept", "*/*"), ("a", "\"q\"")], r#"{"accept":"*/*","a":"\"q\""}"#);
        check_headers(&[("authorization", "Bearer sk-1")], r#"{"authorization":"***"}"#);
        check_headers(&[("x-api-key", "abc"), ("cookie", "a=b")], r#"{"x-api-key":"***","cookie":"***"}"#);
        check_headers(
            &[("x-goog-api-key", "abc"), ("api-key", "d")],
            r#"{"x-goog-api-key":"***","api-key":"***"}"#,
        );
        check_headers(&[("apikey", "abc"), ("token", "d")], r#"{"apikey":"***","token":"***"}"#);
        check_headers(&[("x-inner", "1"), ("x-inner", "2")], r#"{"x-inner":["***","***"]}"#);
        check_headers(&[("x-other", "bearer abc"), ("x", "Basic YTpi")], r#"{"x-other":"***","x":"***"}"#);
        check_headers(
            &[("authorization", "Bearer sk-12345678"), ("x", "a sk-12345678 b"), ("y", "sk-1")],
            r#"{"authorization":"***","x":"***","y":"sk-1"}"#,
        );
    }

    #[test]
    fn a_key_in_the_query_is_hidden() {
        // parity: 147
        for (uri, expected) in [
            ("/v1/models", "/v1/models"),
            ("/v1/models?a=1&key=k&b", "/v1/models?a=1&key=***&b"),
            ("/v1/models?%6Bey=k", "/v1/models?%6Bey=***"),
            ("/v1/models?api_key=k&x-token=t", "/v1/models?api_key=***&x-token=***"),
            ("/v1/models?monkey=1&key", "/v1/models?monkey=1&key"),
            ("/v1/models?apikey=a&Password=b&auth=c&a=d", "/v1/models?apikey=***&Password=***&auth=***&a=d"),
        ] {
            assert_eq!(target(&Uri::from_static(uri)), expected);
        }
    }

    #[test]
    fn bodies_are_kept_up_to_their_bound() {
        let mut recording = Recording::begin(&HeaderMap::new(), &[], Some(4));
        recording.note_request(&Bytes::from_static(b"12345"));
        assert_eq!((recording.request.as_deref(), recording.is_request_cut), (Some(&b"1234"[..]), true));
        let text = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        recording.begin_answer(None, &text);
        for piece in ["ab", "cde", "f"] {
            recording.note_sent(&Bytes::from_static(piece.as_bytes()));
        }
        let Answer::Whole(pieces) = &recording.answer else { panic!("text is kept") };
        assert_eq!((pieces.concat(), recording.is_answer_cut), (b"abcd".to_vec(), true));
    }

    #[test]
    fn what_people_can_read_is_kept() {
        for (content_type, is_kept) in [
            ("text/html; charset=utf-8", true),
            ("application/problem+json", true),
            ("application/x-ndjson", true),
            ("", true),
            ("audio/mpeg", false),
            ("application/octet-stream", false),
        ] {
            let mut recording = Recording::begin(&HeaderMap::new(), &[], Some(4));
            let value = HeaderValue::from_static(content_type);
            recording.begin_answer(None, &HeaderMap::from_iter([(header::CONTENT_TYPE, value)]));
            assert_eq!(matches!(recording.answer, Answer::Whole(_)), is_kept, "{content_type}");
        }
    }

    #[test]
    fn without_bodies_they_are_held_until_they_are_counted() {
        let mut recording = Recording::begin(&HeaderMap::new(), &[], None);
        let request = r#"{"messages":[{"role":"user","content":"12345678"}]}"#;
        recording.note_request(&Bytes::from_static(request.as_bytes()));
        recording.describe_request("a/b", None);
        recording.begin_answer(None, &HeaderMap::new());
        assert!(matches!(recording.answer, Answer::None), "what has no tokens is not held");
        let stream =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
        recording.begin_answer(Some(Endpoint::ChatCompletions), &stream);
        let event = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"1234\"}}]}\n\n";
        for _ in 0..30 {
            recording.note_sent(&Bytes::from_static(event.as_bytes()));
        }
        let Usage { input, output, .. } = recording.estimate();
        assert_eq!((input, output), (2, 30));
        recording.forgo_bodies();
        assert!(recording.request.is_none() && matches!(recording.answer, Answer::None));
    }
}
