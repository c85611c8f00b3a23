//! When a plugin that waits for certain texts has to be called, and what has to wait until that is known.
//!
//! It looks at batches only and knows no plugin. A literal is found wherever it is cut: text that may be the beginning of
//! one is held back by whoever has the events, and comes again at the front of the next batch.

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memmem::Finder;

use crate::chat::{Lane, Span, TextBatch};

/// How many literals one plugin may wait for.
pub const LITERALS_MAX: usize = 64;

/// How long a literal may be, in bytes.
pub const LITERAL_BYTES_MAX: usize = 256;

/// How many spans are held for what may be the beginning of a literal; beyond it the plugin is called.
pub const HELD_SPANS_MAX: usize = 1024;

/// How many bytes of text are held for what may be the beginning of a literal; beyond it the plugin is called.
pub const HELD_TEXT_BYTES_MAX: usize = 64 << 10;

/// How many lanes may end in the beginning of a literal; beyond it the plugin is called for every batch.
const LANES_MAX: usize = 1024;

/// When a plugin is called.
#[derive(Clone, Debug)]
pub enum Wake {
    /// For every batch.
    EveryBatch,
    /// For the batches that have a literal or a part of one.
    OnLiteral(Literals),
    /// Not before the end.
    AtFinish,
}

/// The texts a plugin waits for: at least one, and none of them empty.
#[derive(Clone, Debug)]
pub struct Literals(Vec<Finder<'static>>);

/// Decides for one plugin and one answer.
#[derive(Debug)]
pub struct Waker {
    wake: Wake,
    /// What the plugin was told last of a lane, if that is the beginning of a literal.
    told: HashMap<Lane, String>,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The plugin is called, with the batch or as much of it as goes on.
    Wake,
    /// The batch passes without the plugin.
    Pass,
    /// From this span on the batch waits and comes again; what is before it passes without the plugin. Where that cannot
    /// be, because the text was changed already, the plugin is called.
    Hold(usize),
}

impl Wake {
    /// Makes the wake for a plugin's literals. None at all, or one that is empty, is found in every batch.
    ///
    /// # Errors
    /// Too many literals, or one that is too long, in words.
    pub fn on_literals<T: AsRef<str>>(literals: &[T]) -> Result<Self, &'static str> {
        if literals.len() > LITERALS_MAX {
            return Err("a plugin waits for more than 64 literals");
        }
        if literals.iter().any(|literal| literal.as_ref().len() > LITERAL_BYTES_MAX) {
            return Err("a plugin waits for a literal of more than 256 bytes");
        }
        if literals.iter().any(|literal| literal.as_ref().is_empty()) || literals.is_empty() {
            return Ok(Self::EveryBatch);
        }
        let finder = |literal: &T| Finder::new(literal.as_ref()).into_owned();
        Ok(Self::OnLiteral(Literals(literals.iter().map(finder).collect())))
    }
}

impl Waker {
    /// Starts before the first batch.
    pub fn new(wake: Wake) -> Self {
        Self { wake, told: HashMap::new() }
    }

    /// Waits for something else from the next batch on.
    pub fn set(&mut self, wake: Wake) {
        *self = Self::new(wake);
    }

    /// Decides about a batch. Nothing is held of a choice of which `is_settled` says that no more text is expected.
    ///
    /// Whatever is decided holds for the beginning of the batch, too, if the rest is held for another plugin. When it is
    /// done, [`tell`](Self::tell) or [`pass`](Self::pass) is next, with what really went on.
    pub fn look(&self, batch: &TextBatch, is_settled: impl Fn(u32) -> bool) -> Look {
        let literals = match &self.wake {
            Wake::EveryBatch => return Look::Wake,
            Wake::AtFinish => return Look::Pass,
            Wake::OnLiteral(_) if self.told.len() > LANES_MAX => return Look::Wake,
            Wake::OnLiteral(literals) => literals,
        };
        let mut from = batch.spans.len();
        let mut is_found = false;
        each_lane(batch, |lane, text, spans| {
            let (text, told) = self.continued(lane, text);
            is_found = is_found || literals.are_in(text.as_bytes(), told);
            if !is_found && !is_settled(lane.choice) {
                from = from.min(first_span(batch, spans, literals.tail(text.as_bytes())));
            }
        });
        let held = &batch.spans[from..];
        let held_bytes: u64 = held.iter().map(|span| u64::from(span.len)).sum();
        match from {
            _ if is_found || held.len() > HELD_SPANS_MAX => Look::Wake,
            _ if held_bytes > HELD_TEXT_BYTES_MAX as u64 => Look::Wake,
            _ if held.is_empty() => Look::Pass,
            _ => Look::Hold(from),
        }
    }

    /// Notes that the plugin is called with a batch, so that the rest of a literal finds it, too.
    pub fn tell(&mut self, batch: &TextBatch) {
        let Wake::OnLiteral(literals) = &self.wake else { return };
        let mut tails = Vec::new();
        each_lane(batch, |lane, text, _| {
            let (text, _) = self.continued(lane, text);
            let tail = literals.tail(text.as_bytes());
            // A literal is text, so its beginning begins with a character; its end here is the end of a text.
            tails.push((lane, text.get(text.len() - tail..).unwrap_or_default().to_owned()));
        });
        for (lane, tail) in tails {
            if tail.is_empty() {
                self.told.remove(&lane);
            } else {
                self.told.insert(lane, tail);
            }
        }
    }

    /// Notes that a batch passes without the plugin.
    pub fn pass(&mut self, batch: &TextBatch) {
        if !self.told.is_empty() {
            for span in batch.spans.iter().filter(|span| span.len > 0) {
                self.told.remove(&span.lane());
            }
        }
    }

    /// The text of a lane with what the plugin was told before, and how many bytes that is.
    fn continued<'t>(&self, lane: Lane, text: Cow<'t, str>) -> (Cow<'t, str>, usize) {
        match self.told.get(&lane) {
            Some(told) => (Cow::Owned(format!("{told}{text}")), told.len()),
            None => (text, 0),
        }
    }
}

impl Literals {
    /// Whether one is in a text and ends behind its first `told` bytes.
    fn are_in(&self, text: &[u8], told: usize) -> bool {
        self.0.iter().any(|literal| {
            let start = told.saturating_sub(literal.needle().len() - 1);
            literal.find(&text[start..]).is_some()
        })
    }

    /// How many bytes at the end of a text may be the beginning of a literal.
    fn tail(&self, text: &[u8]) -> usize {
        self.0.iter().map(|literal| tail(literal.needle(), text)).max().unwrap_or(0)
    }
}

/// The length of the longest end of a text that is the beginning of a literal, but not all of it.
fn tail(literal: &[u8], text: &[u8]) -> usize {
    let window = &text[text.len() - text.len().min(literal.len() - 1)..];
    memchr::memchr_iter(literal[0], window)
        .find(|at| literal.starts_with(&window[*at..]))
        .map_or(0, |at| window.len() - at)
}

/// The span in which the last `tail` bytes of a lane begin; the number of all spans if there are none.
fn first_span(batch: &TextBatch, spans: Spans<'_>, mut tail: usize) -> usize {
    let mut first = batch.spans.len();
    for span in spans.rev() {
        if tail == 0 {
            break;
        }
        let len = batch.spans[span].len as usize;
        if len > 0 {
            first = span;
            tail = tail.saturating_sub(len);
        }
    }
    first
}

/// The numbers of a lane's spans.
#[derive(Clone, Copy)]
enum Spans<'a> {
    /// So many: all of the batch.
    All(usize),
    Some(&'a [usize]),
}

impl Spans<'_> {
    /// The last first.
    fn rev(self) -> impl Iterator<Item = usize> {
        let count = match self {
            Self::All(count) => count,
            Self::Some(spans) => spans.len(),
        };
        (0..count).rev().map(move |at| match self {
            Self::All(_) => at,
            Self::Some(spans) => spans[at],
        })
    }
}

/// Gives the text of each lane, with its spans. Nearly always there is one lane, and nothing to copy.
fn each_lane(batch: &TextBatch, mut visit: impl FnMut(Lane, Cow<'_, str>, Spans<'_>)) {
    let Some(first) = batch.spans.first().map(Span::lane) else { return };
    if batch.spans.iter().all(|span| span.lane() == first) {
        visit(first, Cow::Borrowed(&batch.text), Spans::All(batch.spans.len()));
        return;
    }
    let mut order: Vec<usize> = (0..batch.spans.len()).collect();
    let texts: Vec<&str> = batch.pieces().map(|(_, text)| text).collect();
    order.sort_by_key(|span| batch.spans[*span].lane());
    for spans in order.chunk_by(|one, other| batch.spans[*one].lane() == batch.spans[*other].lane()) {
        let text: String = spans.iter().map(|span| texts[*span]).collect();
        visit(batch.spans[spans[0]].lane(), Cow::Owned(text), Spans::Some(spans));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chat::Channel;

    fn lane(choice: u32) -> Lane {
        Lane { choice, sub_index: 0, channel: Channel::Content }
    }

    fn batch(spans: &[(u32, String)]) -> TextBatch {
        let mut batch = TextBatch::default();
        spans.iter().for_each(|(choice, text)| batch.push(lane(*choice), text));
        batch
    }

    fn waker(literals: &[&str]) -> Waker {
        Waker::new(Wake::on_literals(literals).unwrap())
    }

    /// Each batch is spans such as `0ab` for the text ab of choice 0, and then what the waker says of it; what is held
    /// is put before the next batch here, too.
    #[track_caller]
    fn check(literals: &[&str], batches: &[(&str, Look)]) {
        let mut waker = waker(literals);
        let mut held: Vec<(u32, String)> = Vec::new();
        for (spans, expected) in batches {
            let span = |span: &str| (span[..1].parse().unwrap(), span[1..].to_owned());
            held.extend(spans.split_whitespace().map(span));
            assert_eq!(waker.look(&batch(&held), |choice| choice == 9), *expected, "{spans}");
            let from = if let Look::Hold(from) = expected { *from } else { held.len() };
            let gone: Vec<_> = held.drain(..from).collect();
            if *expected == Look::Wake { waker.tell(&batch(&gone)) } else { waker.pass(&batch(&gone)) }
        }
    }

    #[test]
    fn a_literal_wakes_wherever_it_is_cut() {
        use Look::{Hold, Pass, Wake};
        check(&["<t>"], &[("0ab", Pass), ("0a<t>b", Wake), ("0<t>", Wake), ("0<t", Hold(0)), ("0x", Pass)]);
        check(&["<t>"], &[("0ab 0c< 0t", Hold(1)), ("0>", Wake), ("0x", Pass)]);
        check(&["<t>"], &[("0<", Hold(0)), ("0t", Hold(0)), ("0>", Wake)]);
        check(&["<t>"], &[("0< 1<", Hold(0)), ("0x 1t", Hold(1)), ("1>", Wake)]);
        check(&["<t>"], &[("0< 1t>", Hold(0)), ("1<t>", Wake)]);
        check(&["<t>"], &[("9<t", Pass), ("9>", Pass), ("9<t>", Wake)]);
        check(&["é"], &[("0é", Wake), ("0e", Pass)]);
        check(&["ab", "bcd"], &[("0b", Hold(0)), ("0c", Hold(0)), ("0x", Pass), ("0xab", Wake)]);
        // The plugin has got the beginning already.
        check(&["<t>"], &[("0<t><t", Wake), ("0>", Wake), ("0>", Pass)]);
        check(&["<t>"], &[("0<t><", Wake), ("0t", Hold(0)), ("0>", Wake)]);
        check(&["<t>"], &[("0<t><", Wake), ("0t", Hold(0)), ("0x", Pass), ("0>", Pass)]);
        check(&["aaa", "a"], &[("0aa", Wake), ("0b", Pass), ("0a", Wake), ("0a", Wake)]);
    }

    #[test]
    fn nothing_to_wait_for_is_every_batch() {
        check(&[], &[("0a", Look::Wake)]);
        check(&["x", ""], &[("0a", Look::Wake)]);
        assert_eq!(Waker::new(Wake::AtFinish).look(&batch(&[(0, "x".into())]), |_| false), Look::Pass);
    }

    #[test]
    fn literals_are_bounded() {
        assert!(Wake::on_literals(&["x"; LITERALS_MAX]).is_ok());
        assert!(Wake::on_literals(&["x"; LITERALS_MAX + 1]).is_err());
        assert!(Wake::on_literals(&["x".repeat(LITERAL_BYTES_MAX)]).is_ok());
        assert!(Wake::on_literals(&["x".repeat(LITERAL_BYTES_MAX + 1)]).is_err());
    }

    #[test]
    fn what_is_held_is_bounded() {
        let look = |spans: Vec<(u32, String)>| waker(&["<t>"]).look(&batch(&spans), |_| false);
        let of = |count: usize, text: &str| {
            let mut spans = vec![(0, "<".to_owned())];
            spans.extend((1..count).map(|_| (1, text.to_owned())));
            spans
        };
        assert_eq!(look(of(HELD_SPANS_MAX, "x")), Look::Hold(0));
        assert_eq!(look(of(HELD_SPANS_MAX + 1, "x")), Look::Wake);
        assert_eq!(look(of(2, &"x".repeat(HELD_TEXT_BYTES_MAX - 1))), Look::Hold(0));
        assert_eq!(look(of(2, &"x".repeat(HELD_TEXT_BYTES_MAX))), Look::Wake);
    }

    #[test]
    fn lanes_without_end_wake_for_ever() {
        let mut waker = waker(&["<t>"]);
        let many: Vec<(u32, String)> =
            (0..=LANES_MAX as u32).map(|choice| (choice, "<t><".to_owned())).collect();
        waker.tell(&batch(&many));
        assert_eq!(waker.look(&batch(&[(0, "x".into())]), |_| false), Look::Wake);
    }

    #[test]
    fn a_new_wake_forgets_the_old() {
        let mut waker = waker(&["<t>"]);
        waker.tell(&batch(&[(0, "<t><t".into())]));
        waker.set(Wake::on_literals(&["<t>"]).unwrap());
        assert_eq!(waker.look(&batch(&[(0, ">".into())]), |_| false), Look::Pass);
    }

    proptest! {
        #[test]
        fn a_plugin_gets_every_literal_whole_and_nothing_without_one(
            spans in prop::collection::vec(
                // Of each batch: whether it cannot be held, and from where on another plugin holds it.
                (0..2_u32, "[abé]{0,4}", any::<bool>(), prop::bool::weighted(0.2), prop_oneof![Just(99_usize), 0..4_usize]),
                0..24,
            ),
            literals in prop::collection::vec("[abé]{1,4}", 1..4),
        ) {
            let mut waker = Waker::new(Wake::on_literals(&literals).unwrap());
            let mut waiting: Vec<(u32, String)> = Vec::new();
            // The text of each lane, and of each of its bytes whether the plugin got it.
            let mut lanes = [(String::new(), Vec::new()), (String::new(), Vec::new())];
            let mut is_any = false;
            let last = spans.len();
            for (number, (choice, text, ends_batch, cannot_hold, other)) in
                spans.into_iter().chain([(0, String::new(), true, false, 99)]).enumerate()
            {
                waiting.push((choice, text));
                if !ends_batch {
                    continue;
                }
                let look = waker.look(&batch(&waiting), |_| number == last);
                let from = match look {
                    Look::Hold(from) if !cannot_hold => from,
                    _ => waiting.len(),
                };
                let gone: Vec<_> = waiting.drain(..if cannot_hold { from } else { from.min(other) }).collect();
                let is_told = look == Look::Wake || (cannot_hold && look != Look::Pass);
                is_any |= cannot_hold && is_told;
                if is_told { waker.tell(&batch(&gone)) } else { waker.pass(&batch(&gone)) }
                for (choice, text) in gone {
                    let (all, told) = &mut lanes[choice as usize];
                    told.extend(std::iter::repeat_n(is_told, text.len()));
                    all.push_str(&text);
                }
            }
            prop_assert!(waiting.is_empty());
            for (text, told) in &lanes {
                for literal in &literals {
                    for at in (0..text.len()).filter(|at| text.as_bytes()[*at..].starts_with(literal.as_bytes())) {
                        is_any = true;
                        prop_assert!(told[at..at + literal.len()].iter().all(|told| *told), "{} in {}", literal, text);
                    }
                }
            }
            prop_assert!(is_any || lanes.iter().all(|(_, told)| told.iter().all(|told| !told)));
        }
    }
}
