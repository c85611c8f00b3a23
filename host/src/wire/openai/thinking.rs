//! Where the thinking of an answer goes: think tags, `reasoning` or `reasoning_content`, from any of them to any other.
//!
//! Works on JSON string text as it stands between its quotes, so that nothing is decoded and written anew: escapes,
//! even halves of surrogate pairs that an upstream cut apart, reach the client as they came. A converter gets one
//! choice of an answer in any number of pieces, and what it gives does not depend on how the answer was cut.

use std::sync::Arc;

use memchr::memchr2;

use crate::config::ThinkingFormat;

const OPEN_TAG: &[u8] = b"<think>";
const CLOSE_TAG: &[u8] = b"</think>";

/// JSON string text of one choice, thinking and answer apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// The thinking.
    pub thinking: Vec<u8>,
    /// The answer proper; with [`ThinkingFormat::ThinkTag`] it holds the tagged thinking, too.
    pub answer: Vec<u8>,
}

/// Converts one choice of an answer.
///
/// A field has precedence over tags: once the choice has had text in a thinking field, tags in its content are text.
/// [`ThinkingFormat::Strip`] removes both.
#[derive(Debug)]
pub struct Converter {
    format: ThinkingFormat,
    /// JSON string text that is still to be put before the first content.
    prefix: Option<Arc<[u8]>>,
    splitter: Splitter,
    has_field: bool,
    /// Whether a think tag of ours is open in the content.
    is_tag_open: bool,
}

impl Converter {
    /// Makes a converter for one choice. `prefix` is JSON string text put before the first content that is not empty.
    pub fn new(format: ThinkingFormat, prefix: Option<Arc<[u8]>>) -> Self {
        Self { format, prefix, splitter: Splitter::default(), has_field: false, is_tag_open: false }
    }

    /// Takes the next piece of the thinking field and of the content, either of which may be empty.
    ///
    /// With [`ThinkingFormat::Passthrough`] the thinking field stays where it is and is not in the parts.
    pub fn push(&mut self, thinking: &[u8], content: &[u8], parts: &mut Parts) {
        if !thinking.is_empty() {
            self.push_thinking(thinking, parts);
        }
        if content.is_empty() {
            return;
        }
        self.close_tag(parts);
        if let Some(prefix) = self.prefix.take() {
            self.push_content(&prefix, parts);
        }
        self.push_content(content, parts);
    }

    /// The choice is at its end: gives what was held back and closes an open tag.
    pub fn finish(&mut self, parts: &mut Parts) {
        self.close_tag(parts);
        self.splitter.finish(self.format, parts);
    }

    /// Whether from now on content without thinking goes through as it is.
    pub fn is_settled(&self) -> bool {
        let splits = match self.format {
            ThinkingFormat::Passthrough | ThinkingFormat::ThinkTag => false,
            ThinkingFormat::Reasoning | ThinkingFormat::ReasoningContent => !self.has_field,
            ThinkingFormat::Strip => true,
        };
        self.prefix.is_none() && !self.is_tag_open && (!splits || self.splitter.place == Place::Answer)
    }

    fn push_thinking(&mut self, text: &[u8], parts: &mut Parts) {
        match self.format {
            ThinkingFormat::Passthrough | ThinkingFormat::Strip => {}
            ThinkingFormat::Reasoning | ThinkingFormat::ReasoningContent => {
                if !std::mem::replace(&mut self.has_field, true) {
                    self.splitter.finish(self.format, parts);
                }
                parts.thinking.extend_from_slice(text);
            }
            ThinkingFormat::ThinkTag => {
                if !std::mem::replace(&mut self.is_tag_open, true) {
                    parts.answer.extend_from_slice(OPEN_TAG);
                }
                parts.answer.extend_from_slice(text);
            }
        }
    }

    fn push_content(&mut self, text: &[u8], parts: &mut Parts) {
        match self.format {
            ThinkingFormat::Strip => self.splitter.push(text, self.format, parts),
            ThinkingFormat::Reasoning | ThinkingFormat::ReasoningContent if !self.has_field => {
                self.splitter.push(text, self.format, parts);
            }
            _ => parts.answer.extend_from_slice(text),
        }
    }

    fn close_tag(&mut self, parts: &mut Parts) {
        if std::mem::take(&mut self.is_tag_open) {
            parts.answer.extend_from_slice(CLOSE_TAG);
        }
    }
}

impl Parts {
    fn push_thinking(&mut self, text: &[u8], format: ThinkingFormat) {
        if format != ThinkingFormat::Strip {
            self.thinking.extend_from_slice(text);
        }
    }
}

/// Finds the think block at the start of a content, whatever the pieces are in which it arrives.
///
/// Only a tag with nothing but white space before it opens one: later ones may be what the answer is about. A tag
/// that is never closed makes all of the rest thinking. White space goes out at once, so that never more than an
/// unfinished tag is held back.
#[derive(Debug, Default)]
struct Splitter {
    place: Place,
    /// The beginning of what may become a tag, as it was received.
    held: Vec<u8>,
    /// How many characters of the tag `held` is.
    matched: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    Thinking,
    Answer,
}

impl Splitter {
    fn push(&mut self, text: &[u8], format: ThinkingFormat, parts: &mut Parts) {
        let mut rest = text;
        while !rest.is_empty() {
            rest = match self.place {
                Place::Start => self.start(rest, parts),
                Place::Thinking => self.think(rest, format, parts),
                Place::Answer => {
                    parts.answer.extend_from_slice(rest);
                    return;
                }
            };
        }
    }

    fn finish(&mut self, format: ThinkingFormat, parts: &mut Parts) {
        match self.place {
            Place::Thinking => parts.push_thinking(&self.held, format),
            Place::Start | Place::Answer => parts.answer.extend_from_slice(&self.held),
        }
        *self = Self { place: Place::Answer, ..Self::default() };
    }

    /// Takes one character at the start of the content.
    fn start<'a>(&mut self, text: &'a [u8], parts: &mut Parts) -> &'a [u8] {
        let (character, len) = character(text);
        let (taken, rest) = text.split_at(len);
        if character == Some(OPEN_TAG[self.matched]) {
            self.hold(taken, OPEN_TAG, Place::Thinking);
            return rest;
        }
        if self.matched == 0 && character.is_some_and(|character| character.is_ascii_whitespace()) {
            parts.answer.extend_from_slice(taken);
            return rest;
        }
        parts.answer.append(&mut self.held);
        *self = Self { place: Place::Answer, ..Self::default() };
        text
    }

    /// Takes thinking up to the next character that may belong to the closing tag, or one character of the tag.
    fn think<'a>(&mut self, text: &'a [u8], format: ThinkingFormat, parts: &mut Parts) -> &'a [u8] {
        if self.matched == 0 {
            let plain = memchr2(b'<', b'\\', text).unwrap_or(text.len());
            if plain > 0 {
                parts.push_thinking(&text[..plain], format);
                return &text[plain..];
            }
        }
        let (character, len) = character(text);
        let (taken, rest) = text.split_at(len);
        if character == Some(CLOSE_TAG[self.matched]) {
            self.hold(taken, CLOSE_TAG, Place::Answer);
            return rest;
        }
        if self.matched == 0 {
            parts.push_thinking(taken, format);
            return rest;
        }
        // A tag's first character stands nowhere else in it, so a match can begin again only at this character.
        parts.push_thinking(&self.held, format);
        self.held.clear();
        self.matched = 0;
        text
    }

    fn hold(&mut self, taken: &[u8], tag: &[u8], then: Place) {
        self.held.extend_from_slice(taken);
        self.matched += 1;
        if self.matched == tag.len() {
            *self = Self { place: then, ..Self::default() };
        }
    }
}

/// Reads the first character of JSON string text: which one it is if it is ASCII, and how many bytes it takes.
/// Some encoders escape `<` and `>`, some `/`.
fn character(text: &[u8]) -> (Option<u8>, usize) {
    match text {
        [b'\\', b'u', hex @ ..] if hex.len() >= 4 => {
            let code = std::str::from_utf8(&hex[..4]).ok().and_then(|hex| u32::from_str_radix(hex, 16).ok());
            (code.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii), 6)
        }
        [b'\\', letter, ..] => {
            let character = match letter {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'f' => b'\x0c',
                b'b' => b'\x08',
                other => *other,
            };
            (Some(character), 2)
        }
        [first, ..] => (first.is_ascii().then_some(*first), 1),
        [] => (None, 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGETS: [ThinkingFormat; 4] = [
        ThinkingFormat::ThinkTag,
        ThinkingFormat::Reasoning,
        ThinkingFormat::ReasoningContent,
        ThinkingFormat::Strip,
    ];

    /// The thinking comes in one piece before the content, the content in the given pieces.
    fn convert(format: ThinkingFormat, prefix: &str, thinking: &str, content: &[&str]) -> (String, String) {
        let prefix = (!prefix.is_empty()).then(|| Arc::from(prefix.as_bytes()));
        let mut converter = Converter::new(format, prefix);
        let mut parts = Parts::default();
        converter.push(thinking.as_bytes(), b"", &mut parts);
        for piece in content {
            converter.push(b"", piece.as_bytes(), &mut parts);
        }
        converter.finish(&mut parts);
        (String::from_utf8(parts.thinking).unwrap(), String::from_utf8(parts.answer).unwrap())
    }

    /// Every cut of the content in two, and into single characters, gives the same.
    #[track_caller]
    fn check(format: ThinkingFormat, prefix: &str, thinking: &str, content: &str, expected: (&str, &str)) {
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        assert_eq!(convert(format, prefix, thinking, &[content]), expected);
        if content.contains('\\') {
            // An escape is never cut: each piece is a JSON string of its own.
            return;
        }
        for at in (0..=content.len()).filter(|at| content.is_char_boundary(*at)) {
            assert_eq!(
                convert(format, prefix, thinking, &[&content[..at], &content[at..]]),
                expected,
                "at {at}"
            );
        }
        let single: Vec<&str> = content.split_inclusive(|_: char| true).collect();
        assert_eq!(convert(format, prefix, thinking, &single), expected, "split everywhere");
    }

    #[test]
    fn a_think_block_moves_to_the_field_at_every_split() {
        // parity: 85
        let check = |content: &str, thinking: &str, answer: &str| {
            check(ThinkingFormat::Reasoning, "", "", content, (thinking, answer));
            check(ThinkingFormat::ReasoningContent, "", "", content, (thinking, answer));
            check(ThinkingFormat::Strip, "", "", content, ("", answer));
        };
        check("<think>a</think>b", "a", "b");
        check("<think></think>b", "", "b");
        check("\n <think>a</think>b", "a", "\n b");
        check("<think>a<b</thin</think>c", "a<b</thin", "c");
        check("<think>a<</think>b", "a<", "b");
        check("<think>1 < 2 </ x\u{e9}</think>\u{e9}", "1 < 2 </ x\u{e9}", "\u{e9}");
        check("<think>a</think>b <think>c</think>", "a", "b <think>c</think>");
        check("<think>never closed", "never closed", "");
        check("<think>cut in the tag</thi", "cut in the tag</thi", "");
        check("<thi", "", "<thi");
        check("<thinker>a", "", "<thinker>a");
        check("<<think>a</think>", "", "<<think>a</think>");
        check("say <think>a</think>", "", "say <think>a</think>");
        check("a</think>b", "", "a</think>b");
        check("", "", "");
    }

    #[test]
    fn tags_are_found_in_escaped_text_and_escapes_stay() {
        let check = |content: &str, thinking: &str, answer: &str| {
            check(ThinkingFormat::Reasoning, "", "", content, (thinking, answer));
        };
        check(r"\u003cthink\u003ea\n\u003C/think\u003E\u00e9", r"a\n", r"\u00e9");
        check(r"\n\t<think>\u003c\ud83d<\/think>\ude00", r"\u003c\ud83d", r"\n\t\ude00");
        check(r"\u003cthin", "", r"\u003cthin");
        check(r#"\"<think>"#, "", r#"\"<think>"#);
    }

    #[test]
    fn a_field_has_precedence_over_tags() {
        check(ThinkingFormat::Reasoning, "", "f", "<think>a</think>b", ("f", "<think>a</think>b"));
        check(ThinkingFormat::ThinkTag, "", "f", "b", ("", "<think>f</think>b"));
        check(ThinkingFormat::ThinkTag, "", "f", "", ("", "<think>f</think>"));
        check(ThinkingFormat::ThinkTag, "", "", "<think>a</think>b", ("", "<think>a</think>b"));
        check(ThinkingFormat::Strip, "", "f", "<think>a</think>b", ("", "b"));
    }

    #[test]
    fn a_prefix_makes_unopened_thinking_visible() {
        check(ThinkingFormat::Reasoning, "<think>", "", "a</think>b", ("a", "b"));
        check(ThinkingFormat::Strip, "<think>", "", "a</think>b", ("", "b"));
        check(ThinkingFormat::Passthrough, "<think>", "", "a</think>b", ("", "<think>a</think>b"));
        check(ThinkingFormat::ThinkTag, "<think>", "", "a</think>b", ("", "<think>a</think>b"));
        check(ThinkingFormat::Reasoning, "<think>", "", "", ("", ""));
    }

    #[test]
    fn no_more_than_an_unfinished_tag_is_held_back() {
        let mut converter = Converter::new(ThinkingFormat::Reasoning, None);
        let mut sent = 0;
        for (at, character) in "  <think>ab</thin <</think>c<d".chars().enumerate() {
            let mut parts = Parts::default();
            converter.push(b"", &[character as u8], &mut parts);
            sent += parts.thinking.len() + parts.answer.len();
            let consumed_tags = converter.splitter.place as usize * OPEN_TAG.len();
            assert!(at + 1 - sent <= consumed_tags + CLOSE_TAG.len(), "at {at}");
            assert!(converter.splitter.held.len() < CLOSE_TAG.len());
        }
    }

    proptest! {
        #[test]
        fn any_cut_of_any_text_gives_the_same(
            pieces in prop::collection::vec(
                prop::sample::select(vec!["<think>", "</think>", "<", "</", "think>", " ", r"\n", r"\u003c", "x", "\u{e9}"]),
                0..16,
            ),
            thinking in prop::sample::select(vec!["", "f"]),
            prefix in prop::sample::select(vec!["", "<think>", "<thi"]),
        ) {
            for format in TARGETS {
                let whole = convert(format, prefix, thinking, &[&pieces.concat()]);
                prop_assert_eq!(convert(format, prefix, thinking, &pieces), whole);
            }
        }

        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
            for format in TARGETS {
                let mut parts = Parts::default();
                let mut converter = Converter::new(format, None);
                converter.push(&text, &text, &mut parts);
                converter.finish(&mut parts);
            }
        }
    }
}
