//! Replaces what the rules find in one text, however it is cut. Knows nothing of plugins.

use std::rc::Rc;

use crate::pattern::{Pattern, Patterns, goes_on};
use crate::regex::{Regex, Threads};
use crate::window::{Miss, Window};

/// What is looked for.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) patterns: Patterns,
    pub(crate) customs: Vec<Custom>,
}

/// A pattern of the operator's own.
#[derive(Debug)]
pub(crate) struct Custom {
    pub(crate) name: String,
    pub(crate) regex: Regex,
}

/// A rule, by its place: the patterns that are built in, then the customs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Pattern(Pattern),
    Custom(usize),
}

/// What becomes of a piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// It stays.
    Text(&'a str),
    /// It was a match, which is not shown.
    Match(Rule),
}

impl Rules {
    /// Returns the name a rule has in replacements, tags and messages.
    pub(crate) fn name(&self, rule: Rule) -> &str {
        match rule {
            Rule::Pattern(pattern) => pattern.name(),
            Rule::Custom(at) => &self.customs[at].name,
        }
    }
}

/// Finds matches in one text, piece by piece: the leftmost, of those the longest, of those the first rule's.
///
/// Text is held back from where a match may begin until it is known whether it does, never more than
/// [`crate::window::WINDOW_BYTES_MAX`] bytes. The result is the same whatever the pieces are.
pub(crate) struct Masker {
    rules: Rc<Rules>,
    /// Text from the beginning of a possible match.
    held: String,
    /// The character in front of the text to come, none at the very beginning.
    before: Option<char>,
    /// Whether a match ended there.
    is_behind_match: bool,
    /// A match longer than the window, which may still go on.
    overlong: Option<Rule>,
    threads: Threads,
}

impl Masker {
    pub(crate) fn new(rules: Rc<Rules>) -> Self {
        Self {
            rules,
            held: String::new(),
            before: None,
            is_behind_match: false,
            overlong: None,
            threads: Threads::default(),
        }
    }

    /// Takes text, and gives what is decided of it and of what was held back.
    pub(crate) fn push(&mut self, text: &str, to: &mut impl FnMut(Piece<'_>)) {
        if self.held.is_empty() {
            let done = self.scan(text, false, to);
            self.held.push_str(&text[done..]);
            return;
        }
        self.held.push_str(text);
        let mut held = std::mem::take(&mut self.held);
        let done = self.scan(&held, false, to);
        held.drain(..done);
        self.held = held;
    }

    /// Decides about what was held back: no more text comes.
    pub(crate) fn finish(&mut self, to: &mut impl FnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        self.scan(&held, true, to);
    }

    /// Returns up to where the text is decided.
    fn scan(&mut self, text: &str, is_over: bool, to: &mut impl FnMut(Piece<'_>)) -> usize {
        let mut kept = self.skip_overlong(text);
        let mut at = kept;
        while self.overlong.is_none() {
            let (candidate, patterns) = self.candidate(text, at);
            self.pass(&text[at..candidate]);
            if candidate == text.len() {
                break;
            }
            let window = Window::new(&text[candidate..], is_over);
            match self.judge(patterns, window) {
                Err(Miss::Undecided) => {
                    to(Piece::Text(&text[kept..candidate]));
                    return candidate;
                }
                Err(Miss::Never) => {
                    let first = window.text().chars().next().map_or(0, char::len_utf8);
                    at = candidate + first;
                    self.pass(&text[candidate..at]);
                }
                Ok((len, rule)) => {
                    let before = self.before;
                    to(Piece::Text(&text[kept..candidate]));
                    to(Piece::Match(rule));
                    at = candidate + len;
                    self.pass(&text[candidate..at]);
                    self.is_behind_match = true;
                    if window.is_cut_at(len) {
                        self.begin_overlong(rule, before, window);
                    }
                    at += self.skip_overlong(&text[at..]);
                    kept = at;
                }
            }
        }
        to(Piece::Text(&text[kept..]));
        text.len()
    }

    /// Notes what the text to come stands behind.
    fn pass(&mut self, text: &str) {
        if let Some(last) = text.chars().next_back() {
            self.before = Some(last);
            self.is_behind_match = false;
        }
    }

    /// Returns the next place from `from` on where a match may begin, and of which patterns; or the end.
    fn candidate(&self, text: &str, from: usize) -> (usize, Patterns) {
        let mut before = self.before.filter(char::is_ascii).map_or(u8::MAX, |character| character as u8);
        for (at, &byte) in text.as_bytes().iter().enumerate().skip(from) {
            let patterns = self.rules.patterns.starting(byte, before);
            if !patterns.is_empty() || (text.is_char_boundary(at) && self.may_start_custom(byte)) {
                return (at, patterns);
            }
            before = byte;
        }
        (text.len(), Patterns::default())
    }

    fn may_start_custom(&self, byte: u8) -> bool {
        self.rules.customs.iter().any(|custom| custom.regex.may_start(byte))
    }

    /// Returns the longest match that begins where the window does, and whose it is.
    fn judge(&mut self, patterns: Patterns, window: Window<'_>) -> Result<(usize, Rule), Miss> {
        let mut longest: Result<(usize, Rule), Miss> = Err(Miss::Never);
        let mut note = |found: Result<usize, Miss>, rule: Rule| match found {
            Err(Miss::Never) => Ok(()),
            Err(Miss::Undecided) => Err(Miss::Undecided),
            Ok(len) => {
                if longest.is_err() || longest.is_ok_and(|(other, _)| len > other) {
                    longest = Ok((len, rule));
                }
                Ok(())
            }
        };
        for pattern in patterns.iter() {
            note(pattern.find(window), Rule::Pattern(pattern))?;
        }
        for (at, custom) in self.rules.customs.iter().enumerate() {
            let is_saved = !self.is_behind_match
                && self.before.is_some_and(|character| custom.regex.is_inside_run(character));
            if !is_saved && custom.regex.may_start(window.text().as_bytes()[0]) {
                note(custom.regex.find(self.before, window, &mut self.threads), Rule::Custom(at))?;
            }
        }
        longest
    }

    fn begin_overlong(&mut self, rule: Rule, before: Option<char>, window: Window<'_>) {
        if let Rule::Custom(at) = rule {
            // Another expression may have run since.
            let _ = self.rules.customs[at].regex.find(before, window, &mut self.threads);
        }
        self.overlong = Some(rule);
    }

    /// Returns where the rest of a match ends that is longer than a window, and forgets it if it does end.
    fn skip_overlong(&mut self, text: &str) -> usize {
        let end = match self.overlong {
            None => return 0,
            Some(Rule::Pattern(_)) => text.bytes().position(|byte| !goes_on(byte)),
            Some(Rule::Custom(at)) => {
                let regex = &self.rules.customs[at].regex;
                text.char_indices()
                    .find(|&(_, character)| !regex.go_on(character, &mut self.threads))
                    .map(|(at, _)| at)
            }
        };
        if end.is_some() {
            self.overlong = None;
        }
        let end = end.unwrap_or(text.len());
        self.pass(&text[..end]);
        self.is_behind_match = true;
        end
    }
}

#[cfg(test)]
mod tests;
