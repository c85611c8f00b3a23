//! The way of a streamed answer from the upstream's bytes to the client's.
//!
//! Where both sides speak the same, the filter lets the very bytes through, but for the model's name where that is mapped. Where
//! they do not, what the filter lets through goes by way of the hub; it watches the upstream's own words in both cases.

use bytes::Bytes;

use crate::chat::ApiError;
use crate::config::ErrorCompat;
use crate::error::{Error, Result};
use crate::wire::Audience;
use crate::wire::convert::StreamConverter;
use crate::wire::openai::stream::{Ending, Filter, Opening, Rules, Seen};
use crate::wire::rename::Rename;

/// The way of one streamed answer.
#[derive(Debug)]
pub struct Relay {
    filter: Filter,
    change: Change,
    /// What the filter let through, on its way to the change.
    passed: Vec<Bytes>,
    /// Whether something could not be put into the client's words: what comes after it cannot make the answer whole.
    is_broken: bool,
}

/// What happens to a stream behind the filter.
#[derive(Debug)]
pub enum Change {
    /// Nothing.
    None,
    /// The client's name for the model is put into it.
    Rename(Box<Rename>),
    /// It is put into the client's words.
    Convert(Box<StreamConverter>),
}

impl Relay {
    /// The way of an answer that `rules` hold for.
    pub fn new(rules: Rules, change: Change) -> Self {
        Self { filter: Filter::new(rules), change, passed: Vec::new(), is_broken: false }
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
        if matches!(self.change, Change::None) {
            return self.filter.push(chunk, out);
        }
        let filtered = self.filter.push(chunk, &mut self.passed);
        self.pass(out).and(filtered)
    }

    /// Has what the filter let through changed.
    fn pass(&mut self, out: &mut Vec<Bytes>) -> Result<()> {
        match &mut self.change {
            Change::None => out.append(&mut self.passed),
            Change::Rename(rename) => rename.push_all(self.passed.drain(..), out),
            Change::Convert(_) if self.is_broken => self.passed.clear(),
            Change::Convert(converter) => {
                let converted = converter.push_all(self.passed.drain(..), out);
                self.is_broken = converted.is_err();
                return converted;
            }
        }
        Ok(())
    }

    /// The upstream ended the stream in an orderly way: appends what is left, and the end if the answer had come to it.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) -> Ending {
        let ending = self.filter.finish(&mut self.passed);
        if self.pass(out).is_err() || self.is_broken {
            return Ending::Truncated;
        }
        match &mut self.change {
            Change::Rename(rename) => rename.finish(out),
            Change::Convert(converter) if ending == Ending::Complete => converter.finish(out),
            Change::None | Change::Convert(_) => {}
        }
        ending
    }

    /// Delivers an event without its blank line, where the upstream has ended its stream.
    pub fn finish_frame(&mut self, out: &mut Vec<Bytes>) {
        self.filter.finish_frame(&mut self.passed);
        // What could not be read is told when the stream is finished.
        let _ = self.pass(out);
    }

    /// What tells the client that the rest is missing; empty if it has been told already.
    pub fn error_event(&mut self, error: &Error, audience: Audience) -> Bytes {
        match &mut self.change {
            Change::Convert(converter) if converter.is_over() => Bytes::new(),
            // Errors of the earlier system's shape are no business of a dialect's.
            Change::Convert(converter) if audience.compat == ErrorCompat::OpenAi => {
                converter.fail(ApiError::of(error))
            }
            Change::Convert(_) | Change::None | Change::Rename(_) => {
                audience.event(error, self.filter.seen().events)
            }
        }
    }
}
