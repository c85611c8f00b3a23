//! The model's name in an answer: a client reads the one it asked for, whatever the upstream calls it.
//!
//! Only where the configuration maps names is an answer looked into for this; one splice an event, and none in most of
//! Anthropic's and of the Responses API's, whose first and last events name it.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::wire::document::Document;
use crate::wire::json::{Kind, Scanner, quote};
use crate::wire::sse::{self, Decoder, EVENT_BYTES_MAX, Frame};
use crate::wire::{Dialect, Endpoint};

/// Puts the client's name for the model into an answer in the dialect of its client.
#[derive(Debug)]
pub struct Rename {
    endpoint: Endpoint,
    /// As JSON.
    name: String,
    frames: Decoder,
}

static MODEL: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"model"));

impl Rename {
    /// For the answer of an endpoint to a client that calls the model so.
    pub fn new(endpoint: Endpoint, model: &str) -> Self {
        let mut name = Vec::with_capacity(model.len() + 2);
        quote(model, &mut name);
        let name = String::from_utf8(name).expect("a quoted text is text");
        Self { endpoint, name, frames: Decoder::new(2 * EVENT_BYTES_MAX) }
    }

    /// A whole answer with the client's name in it.
    pub fn whole(&self, body: Bytes) -> Bytes {
        let place = ["/", self.member()].concat();
        self.renamed(&body, &[&place]).unwrap_or(body)
    }

    /// The beginning of a whole answer that is too long to be held, with the client's name in it if the model stands there.
    pub fn beginning(&self, first: Bytes) -> Bytes {
        let mut place = None;
        let mut scanner = Scanner::new(&first);
        // It breaks off somewhere, and may be no JSON at all: what was read before that counts.
        let _ = scanner.object(|scanner, key| {
            let is_name = key.is(self.member()) && scanner.peek()? == Kind::String;
            let value = scanner.skip()?;
            if is_name {
                place = Some(value);
            }
            Ok(())
        });
        match place {
            Some(value) => [&first[..value.start], self.name.as_bytes(), &first[value.end..]].concat().into(),
            None => first,
        }
    }

    /// Where a whole answer names the model.
    fn member(&self) -> &'static str {
        if self.endpoint.dialect() == Dialect::Gemini { "modelVersion" } else { "model" }
    }

    /// Takes bytes of a stream, cut anywhere, and appends them with the client's name in them.
    pub fn push_all(&mut self, pieces: impl Iterator<Item = Bytes>, out: &mut Vec<Bytes>) {
        for piece in pieces {
            self.frames.push(piece);
            // What is larger than an event may be has been refused before.
            while let Ok(Some(frame)) = self.frames.next_frame() {
                out.push(self.frame(frame));
            }
        }
    }

    /// Appends what is left.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        out.extend(self.frames.finish().map(|frame| self.frame(frame)));
    }

    fn frame(&self, frame: Frame) -> Bytes {
        if MODEL.find(&frame.raw).is_none() {
            return frame.raw;
        }
        let fields = frame.fields();
        let places: &[&str] = match self.endpoint {
            Endpoint::Messages => &["/message/model"],
            Endpoint::Responses => &["/response/model"],
            Endpoint::GenerateContent => &["/modelVersion"],
            _ => &["/model"],
        };
        let Some(renamed) = fields.data.as_ref().and_then(|data| self.renamed(data, places)) else {
            return frame.raw;
        };
        match fields.data_range {
            Some(range) => [&frame.raw[..range.start], &renamed[..], &frame.raw[range.end..]].concat().into(),
            None => sse::encode(fields.event_name(), &renamed),
        }
    }

    /// The document with the name in it; none where it has none, or this one.
    fn renamed(&self, bytes: &Bytes, places: &[&str]) -> Option<Bytes> {
        let mut document = Document::new(bytes.clone()).ok()?;
        let place = places.iter().find(|place| {
            let told = document.get(place).ok().flatten();
            told.is_some_and(|told| told.starts_with('"') && told != self.name)
        })?;
        document.set(place, &self.name).ok()?;
        Some(document.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(endpoint: Endpoint, stream: &str, expected: &str) {
        for cut in 0..=stream.len() {
            let mut rename = Rename::new(endpoint, "m\"1");
            let (first, second) = stream.as_bytes().split_at(cut);
            let mut out = Vec::new();
            rename.push_all([first, second].into_iter().map(Bytes::copy_from_slice), &mut out);
            rename.finish(&mut out);
            assert_eq!(String::from_utf8_lossy(&out.concat()), expected, "cut at {cut}");
        }
    }

    // parity: 110
    #[test]
    fn the_client_reads_the_name_it_asked_for() {
        check(
            Endpoint::ChatCompletions,
            "data: {\"id\":1, \"model\" : \"there\",\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\"\"}}]}\n\n: x\n\ndata: [DONE]\n\n",
            "data: {\"id\":1, \"model\" : \"m\\\"1\",\"choices\":[{\"delta\":{\"content\":\"\\\"model\\\"\"}}]}\n\n: x\n\ndata: [DONE]\n\n",
        );
        check(
            Endpoint::Messages,
            "event: message_start\ndata: {\"message\":{\"model\":\"there\"}}\n\nevent: ping\ndata: {\"model\":\"x\"}\n\n",
            "event: message_start\ndata: {\"message\":{\"model\":\"m\\\"1\"}}\n\nevent: ping\ndata: {\"model\":\"x\"}\n\n",
        );
        check(
            Endpoint::GenerateContent,
            "data: {\"modelVersion\":\"there\"}",
            "data: {\"modelVersion\":\"m\\\"1\"}",
        );
        let whole = |endpoint, body: &'static str| Rename::new(endpoint, "m").whole(Bytes::from(body));
        assert_eq!(whole(Endpoint::Responses, r#"{"model":"there", "x":1.0}"#), r#"{"model":"m", "x":1.0}"#);
        assert_eq!(whole(Endpoint::ChatCompletions, r#"{"model":null}"#), r#"{"model":null}"#);
    }

    #[test]
    fn a_beginning_is_renamed_where_the_name_stands_in_it() {
        let rename = Rename::new(Endpoint::Embeddings, "m");
        for (first, expected) in [
            (r#"{ "model" : "there", "data":[{"model":"x"},"#, r#"{ "model" : "m", "data":[{"model":"x"},"#),
            (r#"{"data":[{"model":"x"}],"model":"th"#, r#"{"data":[{"model":"x"}],"model":"th"#),
            (r#"{"model":null,"data":[1"#, r#"{"model":null,"data":[1"#),
            (r#"[{"model":"there"}"#, r#"[{"model":"there"}"#),
            ("<html>", "<html>"),
        ] {
            assert_eq!(rename.beginning(Bytes::from(first)), expected, "{first}");
        }
        let cut = &"{\"model\":\"there\",\"x\":\"é".as_bytes()[..22];
        let expected = [&b"{\"model\":\"m\""[..], &cut[16..]].concat();
        assert_eq!(rename.beginning(Bytes::copy_from_slice(cut)), expected);
    }

    proptest! {
        #[test]
        fn anything_comes_through(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rename = Rename::new(Endpoint::ChatCompletions, "m");
            rename.push_all([Bytes::from(bytes.clone())].into_iter(), &mut Vec::new());
            rename.finish(&mut Vec::new());
            rename.beginning(bytes.clone().into());
            rename.whole(bytes.into());
        }
    }
}
