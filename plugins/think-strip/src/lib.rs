//! Removes `<think>…</think>` from the start of an answer's content, of a stream or a whole answer alike.
//!
//! The host lets it go (`detach`) as soon as every choice of the answer is past its thinking.

mod strip;

use std::cell::RefCell;
use std::collections::BTreeMap;

use strip::Stripper;
use witgate_sdk::{
    Action, Call, Channel, Finish, GuestTransformer, Lifecycle, Opened, Span, StreamText, TextBatch,
    Transformer, Verdict, Wake,
};

struct ThinkStrip;

witgate_sdk::export!(ThinkStrip);

impl Lifecycle for ThinkStrip {
    fn init(config: String) -> Result<(), String> {
        let config: String = config.split_whitespace().collect();
        match config.as_str() {
            "" | "null" | "{}" | r#"{"mode":"strip"}"# => Ok(()),
            _ => Err("`config` must be empty or `mode: strip`".to_owned()),
        }
    }
}

impl StreamText for ThinkStrip {
    type Transformer = Answer;

    fn open(call: &Call) -> Option<Opened> {
        let answer = Answer { choices_expected: choices_expected(call), choices: RefCell::default() };
        Some(Opened {
            handle: Transformer::new(answer),
            wake: Wake::EveryBatch,
            channels: vec![Channel::Content],
        })
    }
}

/// How many choices the client asked for, in OpenAI's or Gemini's words.
fn choices_expected(call: &Call) -> usize {
    let pointers = ["/n", "/generationConfig/candidateCount", "/generation_config/candidate_count"];
    let counts = call.get_many(&pointers.map(str::to_owned));
    counts.into_iter().flatten().find_map(|json| json.trim().parse().ok()).unwrap_or(1)
}

/// One answer on its way to the client.
struct Answer {
    choices_expected: usize,
    choices: RefCell<BTreeMap<u32, Stripper>>,
}

impl GuestTransformer for Answer {
    fn push(&self, batch: TextBatch) -> Verdict {
        let mut choices = self.choices.borrow_mut();
        let stripped = strip_batch(&mut choices, &batch);
        let is_done = choices.len() >= self.choices_expected && choices.values().all(Stripper::is_done);
        let action = match (is_same(&stripped, &batch), is_done) {
            (true, true) => Action::Detach,
            (true, false) => Action::Unchanged,
            (false, true) => Action::DetachWith(stripped),
            (false, false) => Action::Replace(stripped),
        };
        Verdict { action, wake: None }
    }

    fn finish(&self, _: Finish) -> Verdict {
        let rest = remaining(&mut self.choices.borrow_mut());
        let action = if rest.spans.is_empty() { Action::Unchanged } else { Action::Replace(rest) };
        Verdict { action, wake: None }
    }
}

/// Strips each content span by its choice. Every span stays, empty if need be, so that it keeps its event.
fn strip_batch(choices: &mut BTreeMap<u32, Stripper>, batch: &TextBatch) -> TextBatch {
    let mut text = String::with_capacity(batch.text.len());
    let mut spans = Vec::with_capacity(batch.spans.len());
    let mut rest = batch.text.as_str();
    for span in &batch.spans {
        let (piece, after) = rest.split_at(span.len as usize);
        rest = after;
        let start = text.len();
        match span.channel {
            Channel::Content => choices.entry(span.choice).or_default().push(piece, &mut text),
            Channel::Reasoning | Channel::Refusal | Channel::ToolArguments => text.push_str(piece),
        }
        spans.push(Span { len: (text.len() - start) as u32, ..*span });
    }
    TextBatch { text, spans }
}

/// Says whether every span kept its text. Equal text alone is not enough: it may have moved from one choice to another.
fn is_same(a: &TextBatch, b: &TextBatch) -> bool {
    a.text == b.text && a.spans.iter().map(|span| span.len).eq(b.spans.iter().map(|span| span.len))
}

/// What the choices still hold back when the answer ends: one span each, none for a choice that holds nothing.
fn remaining(choices: &mut BTreeMap<u32, Stripper>) -> TextBatch {
    let mut text = String::new();
    let mut spans = Vec::new();
    for (&choice, stripper) in choices {
        let start = text.len();
        stripper.finish(&mut text);
        if text.len() > start {
            let len = (text.len() - start) as u32;
            spans.push(Span { choice, sub_index: 0, channel: Channel::Content, len });
        }
    }
    TextBatch { text, spans }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(pieces: &[(u32, Channel, &str)]) -> TextBatch {
        let spans = pieces
            .iter()
            .map(|&(choice, channel, text)| Span { choice, sub_index: 0, channel, len: text.len() as u32 })
            .collect();
        TextBatch { text: pieces.iter().map(|piece| piece.2).collect(), spans }
    }

    #[test]
    fn choices_are_stripped_apart_and_only_their_content() {
        let mut choices = BTreeMap::new();
        let pieces = [
            (0, Channel::Content, "<think>a"),
            (1, Channel::Content, "b"),
            (0, Channel::Reasoning, "<think>"),
        ];
        let stripped = strip_batch(&mut choices, &batch(&pieces));
        assert_eq!(stripped.text, "b<think>");
        assert_eq!(stripped.spans.iter().map(|span| span.len).collect::<Vec<_>>(), [0, 1, 7]);
    }

    #[test]
    fn text_that_moved_between_choices_is_a_change() {
        let mut choices = BTreeMap::new();
        strip_batch(&mut choices, &batch(&[(0, Channel::Content, "<")]));
        let next = batch(&[(0, Channel::Content, "<"), (1, Channel::Content, "<")]);
        let stripped = strip_batch(&mut choices, &next);
        assert_eq!(stripped.text, next.text);
        assert!(!is_same(&stripped, &next));
    }

    #[test]
    fn the_end_releases_what_each_choice_held_back() {
        let mut choices = BTreeMap::new();
        strip_batch(&mut choices, &batch(&[(0, Channel::Content, "<thi"), (1, Channel::Content, "a")]));
        let rest = remaining(&mut choices);
        assert_eq!((rest.text.as_str(), rest.spans.len(), rest.spans[0].choice), ("<thi", 1, 0));
    }
}
