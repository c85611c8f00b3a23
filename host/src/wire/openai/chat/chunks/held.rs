//! What of a streamed answer is sent in one piece.
//!
//! OpenAI's clients know how to put together the lists of a stream that OpenAI has, and no others: those for Python want an
//! `index` in every element of a list, and those for JavaScript keep of a list they do not know only what came last. So
//! the blocks of thinking are sent together, before the first thing that is none, and all annotations at the end.
//!
//! Source: the stream helpers of OpenAI's clients for Python (3.54) and JavaScript (6.49), seen 2026-11.

use crate::chat::{Citation, Signature};
use crate::wire::json::list;
use crate::wire::openai::chat::{part, reply};

/// How much of a choice is held, in bytes: ten times the longest thinking of a model. What is more is left out.
const HELD_BYTES_MAX: usize = 4 << 20;

/// What an element of a list counts for besides its texts, in bytes.
const ELEMENT_BYTES: usize = 64;

/// What is held of one choice.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: usize,
    /// The thinking since the last block.
    thinking: String,
    /// Whether some of that was too much; it cannot be proved any more.
    is_cut: bool,
    /// The blocks since they were last sent, as they are written, and how many were sent before.
    blocks: Vec<Vec<u8>>,
    blocks_sent: usize,
    /// Whether one of the blocks can be proved; plain thinking needs none.
    is_signed: bool,
    annotations: Vec<Annotation>,
    /// How many characters of text there are, and how many were before the current part.
    chars: u64,
    part_start: u64,
    /// Whether the next text begins a part.
    is_part_over: bool,
}

/// Where a piece of the text is from.
#[derive(Debug)]
struct Annotation {
    citation: Citation,
    /// Where its part begins and ends, in characters; the end of one that goes on is not known.
    start: u64,
    end: Option<u64>,
}

impl Held {
    /// Counts what is to be held; false if it is too much.
    fn holds(&mut self, bytes: usize) -> bool {
        let held = self.bytes.saturating_add(bytes);
        let holds = held <= HELD_BYTES_MAX;
        self.bytes = if holds { held } else { self.bytes };
        holds
    }

    /// A piece of the text.
    pub(super) fn text(&mut self, text: &str) {
        if std::mem::take(&mut self.is_part_over) {
            self.end_annotations();
            self.part_start = self.chars;
        }
        self.chars += text.chars().count() as u64;
    }

    /// The part is complete.
    pub(super) fn end_part(&mut self) {
        self.is_part_over = true;
        self.end_thinking();
    }

    /// A piece of the thinking.
    pub(super) fn think(&mut self, text: &str) {
        self.is_part_over = true;
        if self.holds(text.len()) {
            self.thinking.push_str(text);
        } else {
            self.is_cut = true;
        }
    }

    /// Ends a block that nothing proves.
    fn end_thinking(&mut self) {
        let (text, is_cut) = (std::mem::take(&mut self.thinking), std::mem::take(&mut self.is_cut));
        if !text.is_empty() && !is_cut {
            self.block(|index, out| part::write_thinking_block(&text, None, Some(index), out));
        }
    }

    /// Ends a block with what proves it.
    pub(super) fn sign(&mut self, signature: &Signature) {
        self.is_part_over = true;
        let (text, is_cut) = (std::mem::take(&mut self.thinking), std::mem::take(&mut self.is_cut));
        if !is_cut && self.holds(signature.value.len()) {
            self.is_signed = true;
            self.block(|index, out| part::write_thinking_block(&text, Some(signature), Some(index), out));
        }
    }

    /// A block that only its vendor can read.
    pub(super) fn redacted(&mut self, data: &Signature) {
        self.end_part();
        if self.holds(data.value.len()) {
            self.is_signed = true;
            self.block(|index, out| part::write_redacted_block(data, Some(index), out));
        }
    }

    fn block(&mut self, write: impl FnOnce(usize, &mut Vec<u8>)) {
        if self.holds(ELEMENT_BYTES) {
            let mut block = Vec::new();
            write(self.blocks_sent + self.blocks.len(), &mut block);
            self.blocks.push(block);
        }
    }

    /// Whether there is thinking that has to be seen to before anything else is said.
    pub(super) fn has_thinking(&self) -> bool {
        !self.thinking.is_empty() || !self.blocks.is_empty() || self.is_cut
    }

    /// Takes the blocks, as a list; none if there are none that somebody could prove.
    pub(super) fn take_blocks(&mut self) -> Option<Vec<u8>> {
        self.end_thinking();
        let blocks = std::mem::take(&mut self.blocks);
        if !std::mem::take(&mut self.is_signed) {
            return None;
        }
        self.blocks_sent += blocks.len();
        let mut json = Vec::new();
        list(&mut json, blocks, |block, out| out.extend_from_slice(&block));
        Some(json)
    }

    /// Where the text of the current part is from.
    pub(super) fn cite(&mut self, citation: &Citation) {
        let Citation { url, title, quoted, range, .. } = citation;
        let bytes: usize = [url, title, quoted].into_iter().flatten().map(String::len).sum();
        if url.is_some() && self.holds(bytes + ELEMENT_BYTES) {
            let (url, title, quoted) = (url.clone(), title.clone(), quoted.clone());
            let citation = Citation { url, title, quoted, range: *range, original: None };
            self.annotations.push(Annotation { citation, start: self.part_start, end: None });
        }
    }

    fn end_annotations(&mut self) {
        let open = self.annotations.iter_mut().rev().take_while(|annotation| annotation.end.is_none());
        open.for_each(|annotation| annotation.end = Some(self.chars));
    }

    /// Takes the annotations, as a list; none if there are none.
    pub(super) fn take_annotations(&mut self) -> Option<Vec<u8>> {
        self.end_annotations();
        let annotations = std::mem::take(&mut self.annotations);
        if annotations.is_empty() {
            return None;
        }
        let mut json = Vec::new();
        list(&mut json, annotations.iter().enumerate(), |(index, annotation), out| {
            let Annotation { citation, start, end } = annotation;
            reply::write_citation(citation, *start..end.unwrap_or(*start), Some(index), out);
        });
        Some(json)
    }
}
