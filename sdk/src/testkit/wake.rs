//! When a sleeping stream is called.

use crate::{Span, TextBatch, Wake};

/// A stream's wish, and the text that is held back because a literal may begin in it.
pub(super) struct Sleep {
    wake: Wake,
    held: TextBatch,
}

impl Sleep {
    pub(super) fn new(wake: Wake) -> Self {
        Self { wake, held: TextBatch::empty() }
    }

    /// Takes a batch; returns the text that passes untouched, and what the stream is called with.
    pub(super) fn look(&mut self, batch: TextBatch) -> (TextBatch, Option<TextBatch>) {
        let literals = match &self.wake {
            Wake::EveryBatch => return (TextBatch::empty(), Some(batch)),
            Wake::AtFinish => return (batch, None),
            Wake::OnLiteral(literals) => literals,
        };
        let batch = joined(std::mem::replace(&mut self.held, TextBatch::empty()), &batch);
        let lanes = lanes(&batch);
        let wakes = |literal: &String| lanes.iter().any(|lane| lane.text.contains(literal.as_str()));
        if literals.is_empty() || literals.iter().any(wakes) {
            return (TextBatch::empty(), Some(batch));
        }
        let begins = lanes.iter().filter_map(|lane| lane.span_of(lane.beginning_of_any(literals)?));
        let first_held = begins.min().unwrap_or(batch.spans.len());
        let (passes, held) = split(&batch, first_held);
        self.held = held;
        (passes, None)
    }

    /// The text has ended: what was held back passes.
    pub(super) fn end(&mut self) -> TextBatch {
        std::mem::replace(&mut self.held, TextBatch::empty())
    }
}

/// The text of one choice, channel and tool call.
struct Lane {
    place: Span,
    text: String,
    /// The number of each of its spans in the batch, and where in `text` it begins.
    spans: Vec<(usize, usize)>,
}

impl Lane {
    /// Where the longest end of the text begins that is the beginning of a literal.
    fn beginning_of_any(&self, literals: &[String]) -> Option<usize> {
        let mut starts = self.text.char_indices().map(|(at, _)| at);
        starts.find(|&at| literals.iter().any(|literal| literal.starts_with(&self.text[at..])))
    }

    fn span_of(&self, at: usize) -> Option<usize> {
        self.spans.iter().rev().find(|&&(_, start)| start <= at).map(|&(number, _)| number)
    }
}

fn lanes(batch: &TextBatch) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for (number, (span, text)) in batch.pieces().enumerate() {
        let place = Span { len: 0, ..*span };
        let index = lanes.iter().position(|lane| lane.place == place).unwrap_or_else(|| {
            lanes.push(Lane { place, text: String::new(), spans: Vec::new() });
            lanes.len() - 1
        });
        let lane = &mut lanes[index];
        lane.spans.push((number, lane.text.len()));
        lane.text.push_str(text);
    }
    lanes
}

fn joined(mut batch: TextBatch, more: &TextBatch) -> TextBatch {
    batch.text.push_str(&more.text);
    batch.spans.extend_from_slice(&more.spans);
    batch
}

fn split(batch: &TextBatch, at: usize) -> (TextBatch, TextBatch) {
    let (mut before, mut after) = (TextBatch::empty(), TextBatch::empty());
    for (number, (span, text)) in batch.pieces().enumerate() {
        let side = if number < at { &mut before } else { &mut after };
        side.push(span.choice, span.sub_index, span.channel, text);
    }
    (before, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Channel;
    use crate::testkit::batch;

    /// Checks, for pieces of content that come one by one, what passes and what wakes, e.g. `pass a`, `wake b`.
    #[track_caller]
    fn check(literals: &[&str], pieces: &[&str], expected: &[&str]) {
        let mut sleep = Sleep::new(Wake::on(literals.iter().copied()));
        let mut found = Vec::new();
        for piece in pieces {
            let (passes, wakes) = sleep.look(batch(&[(0, Channel::Content, 0, piece)]));
            found.extend((!passes.text.is_empty()).then(|| format!("pass {}", passes.text)));
            found.extend(wakes.map(|batch| format!("wake {}", batch.text)));
        }
        let end = sleep.end();
        found.extend((!end.text.is_empty()).then(|| format!("pass {}", end.text)));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_literal_wakes_whole_or_split() {
        check(&["<a>"], &["x", "y<a>z"], &["pass x", "wake y<a>z"]);
        check(&["<a>"], &["x<", "a", ">y"], &["wake x<a>y"]);
        check(&["<a>"], &["x<", "b"], &["pass x<b"]);
        check(&["<a>"], &["x<"], &["pass x<"]);
        check(&["<<a"], &["<", "<", "<", "a"], &["pass <", "wake <<a"]);
        check(&["日本"], &["日", "本"], &["wake 日本"]);
        check(&[], &["x"], &["wake x"]);
    }

    #[test]
    fn a_literal_does_not_span_choices() {
        let mut sleep = Sleep::new(Wake::on(["ab"]));
        let (passes, wakes) =
            sleep.look(batch(&[(0, Channel::Content, 0, "a"), (1, Channel::Content, 0, "b")]));
        assert_eq!((passes.text.as_str(), wakes), ("", None));
        assert_eq!(sleep.end().text, "ab");
    }
}
