//! What the client has been sent of each text of a response, which later events repeat.

use std::collections::HashMap;
use std::ops::Range;

use bytes::Bytes;

use crate::chat::Lane;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json;
use crate::wire::text::event::splice;
use crate::wire::text::response::{Piece, ResponseReading};

use crate::wire::openai::view::Edit;
use crate::wire::sse::Frame;

/// How many bytes of text of one response are kept: 8 MiB. Its last event, which repeats all of it, is bounded lower.
pub const RESPONSE_TEXT_BYTES_MAX: usize = 8 << 20;

/// How many texts of one response are told apart.
const LANES_MAX: usize = 4096;

/// The texts of a response.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Lane, Sent>,
    bytes: usize,
}

/// One text as the client gets it.
#[derive(Debug, Default)]
struct Sent {
    text: String,
    /// Whether that was ever not what came.
    is_changed: bool,
    /// What came, and what was sent: the same once a plugin has sent all it withheld and changed nothing else.
    came_and_sent: [Digest; 2],
    template: Option<Template>,
}

/// Tells two texts apart without keeping them: FNV-1a and the length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest {
    hash: u64,
    bytes: usize,
}

/// A delta, to make others from.
#[derive(Debug)]
struct Template {
    raw: Vec<u8>,
    /// What has to be written anew: the text, the number, and what is said about the tokens of the text.
    text: Range<usize>,
    sequence: Option<Range<usize>>,
    logprobs: Option<Range<usize>>,
    /// The number of the last delta that came.
    number: u64,
}

impl Lanes {
    /// Whether text of a lane has come.
    pub(super) fn has(&self, lane: Lane) -> bool {
        self.lanes.contains_key(&lane)
    }

    /// Notes an event with text.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] for more than [`RESPONSE_TEXT_BYTES_MAX`], and for texts without end.
    pub(super) fn watch(
        &mut self,
        frame: &Frame,
        data_at: Option<usize>,
        reading: &ResponseReading,
    ) -> Result<()> {
        for piece in &reading.pieces {
            let sent = self.lanes.entry(piece.lane).or_default();
            if !reading.is_delta {
                continue;
            }
            self.bytes += piece.text.range().len();
            match &mut sent.template {
                Some(template) => template.number = reading.number().unwrap_or(template.number),
                None => sent.template = data_at.map(|at| Template::of(frame, at, piece, reading)),
            }
        }
        if self.bytes > RESPONSE_TEXT_BYTES_MAX || self.lanes.len() > LANES_MAX {
            return Err(Error::new(
                ErrorKind::UpstreamInvalid,
                "the upstream sent more text than a response has",
            ));
        }
        Ok(())
    }

    /// Notes text that came, and that a plugin has seen.
    pub(super) fn came(&mut self, lane: Lane, text: &str) {
        self.lanes.entry(lane).or_default().came_and_sent[0].add(text);
    }

    /// Notes text that the client gets.
    pub(super) fn sent(&mut self, lane: Lane, text: &str) {
        let sent = self.lanes.entry(lane).or_default();
        sent.text.push_str(text);
        sent.came_and_sent[1].add(text);
    }

    /// Whether the client has got what came of a lane, so that nothing of it is withheld.
    pub(super) fn is_even(&self, lane: Lane) -> bool {
        self.lanes.get(&lane).is_none_or(|sent| sent.came_and_sent[0] == sent.came_and_sent[1])
    }

    /// Notes that the text of a lane is not what came.
    pub(super) fn mark(&mut self, lane: Lane) {
        self.lanes.entry(lane).or_default().is_changed = true;
    }

    /// Whether the client has got text that is not what came, which later events must not repeat.
    pub(super) fn are_changed(&self) -> bool {
        self.lanes.values().any(|sent| sent.is_changed)
    }

    /// Writes an event with this text; none if no delta of the lane has come.
    pub(super) fn event(&self, lane: Lane, text: &str) -> Option<Bytes> {
        Some(self.lanes.get(&lane)?.template.as_ref()?.event(text))
    }

    /// Writes what has to be done for an event to repeat what the client got.
    pub(super) fn edits(&self, data: &[u8], repeats: &[Piece]) -> Vec<Edit> {
        let mut edits = Vec::new();
        for piece in repeats {
            let sent = self.lanes.get(&piece.lane).filter(|sent| sent.is_changed);
            if let Some(sent) = sent.filter(|sent| piece.text.decode(data) != sent.text) {
                let mut text = Vec::with_capacity(sent.text.len());
                json::escape(&sent.text, &mut text);
                edits.push(Edit { range: piece.text.range(), text });
            }
        }
        edits
    }
}

impl Digest {
    pub(super) fn add(&mut self, text: &str) {
        const PRIME: u64 = 0x0100_0000_01b3;
        self.hash =
            text.bytes().fold(self.hash, |hash, byte| (hash ^ u64::from(byte) ^ 0x80).wrapping_mul(PRIME));
        self.bytes += text.len();
    }
}

impl ResponseReading {
    fn number(&self) -> Option<u64> {
        self.sequence.as_ref().map(|(_, number)| *number)
    }
}

impl Template {
    fn of(frame: &Frame, at: usize, piece: &Piece, reading: &ResponseReading) -> Self {
        let place = |range: Range<usize>| at + range.start..at + range.end;
        Self {
            raw: frame.raw.to_vec(),
            text: place(piece.text.range()),
            sequence: reading.sequence.clone().map(|(range, _)| place(range)),
            logprobs: reading.logprobs.clone().map(place),
            number: reading.number().unwrap_or(0),
        }
    }

    fn event(&self, text: &str) -> Bytes {
        let mut escaped = Vec::with_capacity(text.len());
        json::escape(text, &mut escaped);
        let number = self.number.to_string().into_bytes();
        let edits = [
            Some((&self.text, escaped)),
            self.sequence.as_ref().map(|range| (range, number)),
            self.logprobs.as_ref().map(|range| (range, b"[]".to_vec())),
        ];
        let edits = edits.into_iter().flatten().map(|(range, text)| Edit { range: range.clone(), text });
        splice(&self.raw, 0, edits.collect()).into()
    }
}
