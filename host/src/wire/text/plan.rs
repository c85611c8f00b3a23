//! Where a changed text goes: which of the spans that came takes which of the spans that are to be there now.

use std::collections::HashMap;
use std::ops::Range;

use crate::chat::{Channel, Lane, TextBatch};
use crate::wire::text::reader::Slot;

/// What becomes of the slots of a batch; ranges are those of the changed text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The text of each slot, empty for one that loses its text.
    pub(super) texts: Vec<Range<usize>>,
    /// Text that no slot takes, in order.
    pub(super) extras: Vec<Extra>,
}

/// Text that needs an event of its own.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extra {
    pub(super) lane: Lane,
    pub(super) text: Range<usize>,
    /// The number of the event it stands before.
    pub(super) before: usize,
}

/// What the last span of the walk became.
enum Last {
    Slot(usize),
    Extra,
}

impl Plan {
    /// Gives each changed span to its own slot if there are as many, of the same lanes, in the same order. Otherwise each
    /// goes to the next slot of its lane behind the last one that was taken (arguments: of their call), and if there is
    /// none, with the text before it or into an event of its own.
    pub(super) fn of(slots: &[Slot], changed: &TextBatch) -> Self {
        let is_same = slots.len() == changed.spans.len()
            && slots.iter().zip(&changed.spans).all(|(slot, span)| slot.lane == span.lane());
        if is_same {
            return Self { texts: changed.ranges().map(|(_, range)| range).collect(), extras: Vec::new() };
        }
        Self::walk(slots, changed)
    }

    fn walk(slots: &[Slot], changed: &TextBatch) -> Self {
        let mut by_lane: Vec<(Lane, usize)> = slots.iter().map(|slot| slot.lane).zip(0..).collect();
        by_lane.sort_unstable();
        let mut plan = Self { texts: vec![0..0; slots.len()], extras: Vec::new() };
        let mut cursor = 0;
        let mut last: Option<(Lane, Last)> = None;
        // Arguments stay with their call, wherever other text goes.
        let mut calls: HashMap<Lane, usize> = HashMap::new();
        for (lane, range) in changed.ranges().filter(|(_, range)| !range.is_empty()) {
            let is_call = lane.channel == Channel::ToolArguments;
            let from = if is_call { calls.entry(lane).or_default() } else { &mut cursor };
            let next = by_lane.get(by_lane.partition_point(|entry| *entry < (lane, *from)));
            if let Some((_, slot)) = next.filter(|(known, _)| *known == lane) {
                plan.texts[*slot] = range;
                *from = slot + 1;
                last = Some((lane, Last::Slot(*slot)));
                continue;
            }
            // Spans stand back to back, so text of the same lane only makes the range longer.
            match &last {
                Some((before, Last::Slot(slot))) if *before == lane => plan.texts[*slot].end = range.end,
                Some((before, Last::Extra)) if *before == lane => {
                    plan.extras.last_mut().expect("it was pushed with `last`").text.end = range.end;
                }
                _ => {
                    let before = match from.checked_sub(1) {
                        Some(slot) => slots[slot].event + 1,
                        None => slots.first().map_or(0, |slot| slot.event),
                    };
                    plan.extras.push(Extra { lane, text: range, before });
                    last = Some((lane, Last::Extra));
                }
            }
        }
        plan.extras.sort_by_key(|extra| extra.before);
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    /// Lanes are letters: `a` is the content of choice 0, `A` its reasoning, and so on; digits are the calls of choice 0.
    /// One slot for each event.
    fn lane(letter: char) -> Lane {
        if let Some(call) = letter.to_digit(10) {
            return Lane { choice: 0, sub_index: call, channel: Channel::ToolArguments };
        }
        let channel = if letter.is_ascii_uppercase() { Channel::Reasoning } else { Channel::Content };
        Lane { choice: letter.to_ascii_lowercase() as u32 - 'a' as u32, sub_index: 0, channel }
    }

    /// `changed` is spans such as `a1` for the text 1 in lane a; `expected` is what each event becomes, and `+` before
    /// an extra.
    #[track_caller]
    fn check(slots: &str, changed: &str, expected: &str) {
        let slot = |(event, letter)| Slot {
            lane: lane(letter),
            event,
            text: json::Span::plain(0..0),
            twin: None,
            is_json: false,
        };
        let slots: Vec<Slot> = slots.chars().enumerate().map(slot).collect();
        let mut batch = TextBatch::default();
        for span in changed.split_whitespace() {
            batch.push(lane(span.chars().next().unwrap()), &span[1..]);
        }
        let plan = Plan::of(&slots, &batch);
        let mut shown = Vec::new();
        for event in 0..=slots.len() {
            for extra in plan.extras.iter().filter(|extra| extra.before == event) {
                shown.push(format!("+{}", &batch.text[extra.text.clone()]));
            }
            shown.extend(plan.texts.get(event).map(|range| format!("[{}]", &batch.text[range.clone()])));
        }
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn every_span_finds_its_event() {
        check("aab", "a1 a b2", "[1] [] [2]");
        check("aab", "a1", "[1] [] []");
        check("aab", "", "[] [] []");
        check("aab", "b2 a1", "[] [] [2] +1");
        check("aa", "a1 a2 a3", "[1] [23]");
        check("aa", "A1 A2", "+12 [] []");
        check("aa", "A1 a2 A3 a4", "+1 [2] +3 [4]");
        check("a", "a1 A2 a3", "[1] +2 +3");
        check("ab", "b1 b2", "[] [12]");
        check("", "a1 a2 b3", "+12 +3");
        check("a11A", "Ax 1y 1z", "[] [y] [z] [x]");
        check("a11A", "Ax 1y Az", "[] [y] [] [x] +z");
        check("1a", "a1 11 a2", "[1] [1] +2");
    }
}
