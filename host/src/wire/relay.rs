//! The way of a streamed answer from the upstream's bytes to the client's.
//!
//! Where both sides speak the same, the filter lets the very bytes through. Where they do not, what the filter lets through
//! goes by way of the hub; the filter watches the upstream's own words in both cases.

use bytes::Bytes;

use crate::chat::ApiError;
use crate::config::ErrorCompat;
use crate::error::{Error, Result};
use crate::wire::convert::StreamConverter;
use crate::wire::openai::stream::{Ending, Filter, Opening, Rules, Seen};
use crate::wire::{Dialect, error_event};

/// The way of one streamed answer.
#[derive(Debug)]
pub struct Relay {
    filter: Filter,
    converter: Option<Box<StreamConverter>>,
    /// What the filter let through, on its way to the converter.
    passed: Vec<Bytes>,
}

impl Relay {
    /// The way of an answer that `rules` hold for, whose client speaks another dialect if there is a converter.
    pub fn new(rules: Rules, converter: Option<Box<StreamConverter>>) -> Self {
        Self { filter: Filter::new(rules), converter, passed: Vec::new() }
    }

    /// What the upstream's answer has said so far.
    pub fn seen(&self) -> &Seen {
        self.filter.seen()
    }

    /// How the upstream's stream begins, as far as it has come.
    pub fn opening(&self) -> &Opening {
        self.filter.opening()
    }

    /// Takes bytes as they came from upstream, and appends what the client is sent.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`](crate::error::ErrorKind::UpstreamInvalid) for an event that is too large or, where it
    /// has to be converted, makes no sense; what came before it is in `out`.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) -> Result<()> {
        let Some(converter) = &mut self.converter else { return self.filter.push(chunk, out) };
        let filtered = self.filter.push(chunk, &mut self.passed);
        let converted = converter.push_all(self.passed.drain(..), out);
        converted.and(filtered)
    }

    /// The upstream ended the stream in an orderly way: appends what is left, and the end if the answer had come to it.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> Ending {
        let Some(converter) = &mut self.converter else { return self.filter.finish(out) };
        let ending = self.filter.finish(&mut self.passed);
        if converter.push_all(self.passed.drain(..), out).is_err() {
            return Ending::Truncated;
        }
        if ending == Ending::Complete {
            converter.finish(out);
        }
        ending
    }

    /// Delivers an event without its blank line, where the upstream has ended its stream.
    pub fn finish_frame(&mut self, out: &mut Vec<Bytes>) {
        let Some(converter) = &mut self.converter else {
            self.filter.finish_frame(out);
            return;
        };
        self.filter.finish_frame(&mut self.passed);
        // What cannot be read is told when the stream is finished.
        let _ = converter.push_all(self.passed.drain(..), out);
    }

    /// What tells the client that the rest is missing; empty if it has been told already.
    pub fn error_event(&mut self, error: &Error, dialect: Dialect, compat: ErrorCompat) -> Bytes {
        match &mut self.converter {
            Some(converter) => converter.fail(ApiError::of(error)),
            None => error_event(dialect, error, compat),
        }
    }
}
