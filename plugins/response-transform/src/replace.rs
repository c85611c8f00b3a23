//! Literal texts and what takes their place, however the answer is cut into pieces.

use std::rc::Rc;

/// One text that is looked for, never empty.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Literal {
    pub(crate) find: String,
    pub(crate) replace: String,
}

/// The texts to look for. The leftmost wins; of several at one place, the one listed first.
pub(crate) struct Literals {
    list: Vec<Literal>,
    /// Whether a text begins with this byte.
    is_first: [bool; 256],
}

impl Literals {
    pub(crate) fn new(list: Vec<Literal>) -> Self {
        let mut is_first = [false; 256];
        for byte in list.iter().filter_map(|literal| literal.find.bytes().next()) {
            is_first[usize::from(byte)] = true;
        }
        Self { list, is_first }
    }

    /// Replaces what is found in a text. Returns how much of it is settled: the rest may be the beginning of something,
    /// unless this is the end.
    fn run(&self, text: &str, is_end: bool, mut out: impl FnMut(&str)) -> usize {
        let bytes = text.as_bytes();
        let (mut copied, mut at) = (0, 0);
        while let Some(offset) = bytes[at..].iter().position(|byte| self.is_first[usize::from(*byte)]) {
            at += offset;
            match self.look(&bytes[at..], is_end) {
                Found::Literal(literal) => {
                    out(&text[copied..at]);
                    out(&literal.replace);
                    at += literal.find.len();
                    copied = at;
                }
                Found::Nothing => at += 1,
                Found::Beginning => {
                    out(&text[copied..at]);
                    return at;
                }
            }
        }
        out(&text[copied..]);
        text.len()
    }

    fn look(&self, text: &[u8], is_end: bool) -> Found<'_> {
        for literal in &self.list {
            let find = literal.find.as_bytes();
            if text.starts_with(find) {
                return Found::Literal(literal);
            }
            if !is_end && find.starts_with(text) {
                return Found::Beginning;
            }
        }
        Found::Nothing
    }
}

/// What a text begins with.
enum Found<'a> {
    Literal(&'a Literal),
    /// All of it may be the beginning of a literal that is to win here.
    Beginning,
    Nothing,
}

/// Replaces literals in one run of text that arrives in pieces. It holds back less than the longest literal.
pub(crate) struct Replacer {
    literals: Rc<Literals>,
    held: String,
}

impl Replacer {
    pub(crate) fn new(literals: Rc<Literals>) -> Self {
        Self { literals, held: String::new() }
    }

    /// Says whether text is held back.
    pub(crate) fn holds_text(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes a piece and gives out what is settled.
    pub(crate) fn take(&mut self, text: &str, out: impl FnMut(&str)) {
        if self.held.is_empty() {
            let settled = self.literals.run(text, false, out);
            self.held.push_str(&text[settled..]);
        } else {
            self.held.push_str(text);
            let settled = self.literals.run(&self.held, false, out);
            self.held.drain(..settled);
        }
    }

    /// Gives out what was held back.
    pub(crate) fn end(&mut self, out: impl FnMut(&str)) {
        let held = std::mem::take(&mut self.held);
        self.literals.run(&held, true, out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replacer(pairs: &[(&str, &str)]) -> Replacer {
        let literal =
            |&(find, replace): &(&str, &str)| Literal { find: find.to_owned(), replace: replace.to_owned() };
        Replacer::new(Rc::new(Literals::new(pairs.iter().map(literal).collect())))
    }

    fn replaced<'a>(pairs: &[(&str, &str)], pieces: impl IntoIterator<Item = &'a str>) -> String {
        let mut replacer = replacer(pairs);
        let mut out = String::new();
        for piece in pieces {
            replacer.take(piece, |text| out.push_str(text));
        }
        replacer.end(|text| out.push_str(text));
        out
    }

    /// Whole, by character, and cut at every two places.
    #[track_caller]
    fn check(pairs: &[(&str, &str)], text: &str, expected: &str) {
        assert_eq!(replaced(pairs, [text]), expected);
        assert_eq!(replaced(pairs, text.split("").collect::<Vec<_>>()), expected);
        let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for &first in &cuts {
            for &second in cuts.iter().filter(|second| **second >= first) {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(replaced(pairs, pieces), expected, "{pieces:?}");
            }
        }
    }

    #[test]
    fn a_literal_is_replaced_wherever_it_is_cut() {
        check(&[("OpenAI", "ACME")], "by OpenAI. OpenA OpenAI", "by ACME. OpenA ACME");
        check(&[("é", "e")], "café, é", "cafe, e");
        check(&[("aab", "x")], "aaab aab", "ax x");
        check(&[("ab", "")], "aabb", "ab");
        check(&[("a", "aa")], "aba", "aabaa");
        check(&[], "abc", "abc");
    }

    #[test]
    fn the_leftmost_wins_and_then_the_first_of_the_list() {
        check(&[("abc", "1"), ("ab", "2")], "abcab", "12");
        check(&[("ab", "2"), ("abc", "1")], "abcab", "2c2");
        check(&[("bcd", "1"), ("abc", "2")], "abcd", "2d");
        check(&[("abcd", "1"), ("bc", "2")], "abcx abc", "a2x a2");
    }

    #[test]
    fn no_more_is_held_back_than_may_be_a_beginning() {
        let mut replacer = replacer(&[("<end>", "")]);
        let mut out = String::new();
        replacer.take("a <b <en", |text| out.push_str(text));
        assert_eq!(out, "a <b ");
        replacer.take("t", |text| out.push_str(text));
        assert_eq!(out, "a <b <ent");
    }

    proptest! {
        #[test]
        fn pieces_are_no_matter(
            pairs in prop::collection::vec(("[ab]{1,4}", "[xa]{0,2}"), 0..4),
            pieces in prop::collection::vec("[abc]{0,5}", 0..6),
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(find, replace)| (find.as_str(), replace.as_str())).collect();
            let whole = pieces.concat();
            prop_assert_eq!(replaced(&pairs, pieces.iter().map(String::as_str)), replaced(&pairs, [whole.as_str()]));
        }
    }
}
