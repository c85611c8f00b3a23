//! Which choices of a streamed answer have begun and which have come to their end.
//!
//! Most events are forwarded without a look, and the first event of a choice may be one of these. So a choice is
//! recognised in an event's bytes: nearly always the event begins, up to the choice's index, like those before it.

use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::wire::openai::view::View;

/// How many choices of one answer are told apart; OpenAI's own bound of `n`. Further ones go through as they are.
pub(in crate::wire) const CHOICES_MAX: usize = 128;

/// The choices that have been in events so far.
#[derive(Debug, Default)]
pub(super) struct Choices {
    /// One bit for each index.
    begun: u128,
    /// One bit for each index.
    ended: u128,
    opening: Option<Opening>,
}

/// How the events of the first choice begin: what stands around its index, and where.
#[derive(Debug)]
struct Opening {
    at: usize,
    bytes: Bytes,
}

pub(super) static INDEX: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"index\""));

impl Choices {
    /// Notes the choices of an event that was read.
    pub(super) fn watch(&mut self, view: &View<'_>) {
        for choice in &view.choices {
            // No bit for an index over the bound.
            let bit =
                u32::try_from(choice.index).ok().and_then(|index| 1_u128.checked_shl(index)).unwrap_or(0);
            self.begun |= bit;
            if choice.finish_reason.is_some() {
                self.ended |= bit;
            }
        }
    }

    /// Keeps how an event with one choice begins; `data` stands at `data_at` in the frame.
    pub(super) fn learn(&mut self, view: &View<'_>, data: &Bytes, data_at: usize) {
        let (None, [_], Some(range)) = (&self.opening, &view.choices[..], &view.choices_range) else {
            return;
        };
        let choice = &data[range.clone()];
        let Some(index_at) = INDEX.find(choice) else { return };
        // Only the choice's own index, no tool call's.
        if choice[..index_at].iter().filter(|byte| **byte == b'{').count() != 1 {
            return;
        }
        let after = &choice[index_at + INDEX.needle().len()..];
        let Some(digits_end) = after.iter().position(|byte| matches!(byte, b',' | b'}')) else { return };
        let start = range.start.saturating_sub("\"choices\":".len());
        let end = range.start + index_at + INDEX.needle().len() + digits_end + 1;
        self.opening = Some(Opening { at: data_at + start, bytes: data.slice(start..end) });
    }

    /// Whether a frame may have the first event of a choice. `finish_reasons` is how many members of that name it
    /// has; each choice has one, but some upstreams write them only at the end.
    pub(super) fn may_begin(&self, raw: &[u8], finish_reasons: usize) -> bool {
        let is_usual =
            |opening: &Opening| raw.get(opening.at..).is_some_and(|raw| raw.starts_with(&opening.bytes));
        if finish_reasons == 1 && self.opening.as_ref().is_some_and(is_usual) {
            return false;
        }
        let mut indexes = indexes(raw).peekable();
        match indexes.peek() {
            Some(_) => !indexes.all(|index| index.is_some_and(|index| self.begun >> index & 1 == 1)),
            // Choices without an index are numbered by their place.
            None => finish_reasons > 1 || (finish_reasons == 1 && self.begun & 1 == 0),
        }
    }

    /// Whether every choice that has begun has ended.
    pub(super) fn are_ended(&self) -> bool {
        self.begun == self.ended
    }
}

/// Reads every index in a frame, those of tool calls too; none for what is no number under the bound.
fn indexes(raw: &[u8]) -> impl Iterator<Item = Option<u32>> {
    INDEX.find_iter(raw).map(|at| {
        let rest = raw[at + INDEX.needle().len()..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let index: u32 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        ((index as usize) < CHOICES_MAX && matches!(rest.get(digits), Some(b',' | b'}' | b' ')))
            .then_some(index)
    })
}
