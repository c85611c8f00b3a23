//! Tells thinking from answer in one text, however it is cut. Knows nothing of plugins.

use std::rc::Rc;

/// How much white space may precede the tag. More is taken for the answer itself, so that little is ever held back.
const BLANK_BYTES_MAX: usize = 256;

/// How much thinking is held back where only its end tells that it was thinking. See [`Rules::unclosed`].
const HELD_BYTES_MAX: usize = 256 * 1024;

/// What counts as thinking.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The pairs; no opening tag begins with another, and no closing tag with another.
    pub(crate) tags: Vec<(String, String)>,
    /// Whether thinking may also stand in the middle of the answer.
    pub(crate) anywhere: bool,
    /// Whether an answer that does not begin with a tag begins inside thinking.
    pub(crate) unopened: bool,
    /// What thinking that is opened and never closes turns out to be.
    pub(crate) unclosed: Unclosed,
    /// The same for thinking that is neither opened nor closed.
    pub(crate) neither: Unclosed,
    /// Whether white space between the beginning, thinking and answer goes.
    pub(crate) trim: bool,
}

/// What thinking without an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclosed {
    /// Thinking: it is told as it comes.
    Thinking,
    /// The answer: it is held back until it closes, up to a bound.
    Answer,
}

/// A stretch of the text, in order; together they are the text without its tags and trimmed white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Answer(&'a str),
    Thinking(&'a str),
}

/// Takes one answer apart, piece by piece.
pub(crate) struct Splitter {
    rules: Rc<Rules>,
    place: Place,
    /// Text that the next piece decides about.
    held: String,
    /// How much of it has no closing tag; longer text need not be searched again.
    searched: usize,
    /// The white space and the tag in front of `held`, should they turn out to be answer.
    opening: String,
    /// Whether the answer has not begun.
    is_at_start: bool,
}

/// Where in the answer the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before the first tag.
    Start,
    /// Behind the opening tag of this pair; without one where the template swallowed it.
    Thinking { pair: Option<usize>, unclosed: Unclosed },
    /// Behind thinking, before the answer.
    AfterThinking,
    /// In the answer, where thinking may still come.
    Answer,
    /// In the answer, and nothing else comes.
    Done,
}

impl Splitter {
    pub(crate) fn new(rules: Rc<Rules>) -> Self {
        Self {
            rules,
            place: Place::Start,
            held: String::new(),
            searched: 0,
            opening: String::new(),
            is_at_start: true,
        }
    }

    /// Takes text, and gives what is decided of it and of what was held back.
    pub(crate) fn push(&mut self, text: &str, to: &mut impl FnMut(Piece<'_>)) {
        self.held.push_str(text);
        while self.advance(to) {}
    }

    /// Gives what was held back: the answer has ended.
    pub(crate) fn finish(&mut self, to: &mut impl FnMut(Piece<'_>)) {
        match self.place {
            Place::Thinking { unclosed: Unclosed::Thinking, .. } => to(Piece::Thinking(&self.held)),
            _ => {
                to(Piece::Answer(&self.opening));
                to(Piece::Answer(&self.held));
            }
        }
    }

    /// Says whether all further text is the answer's.
    pub(crate) fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Says whether text changes nothing unless an opening tag begins in it.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_done() || (self.place == Place::Answer && self.held.is_empty())
    }

    /// Takes what is held as far as the place goes; whether the next place has to look at the rest.
    fn advance(&mut self, to: &mut impl FnMut(Piece<'_>)) -> bool {
        match self.place {
            Place::Start => self.leave_start(to),
            Place::Thinking { pair, unclosed: Unclosed::Thinking } => self.think(pair, to),
            Place::Thinking { pair, unclosed: Unclosed::Answer } => self.think_unsure(pair, to),
            Place::AfterThinking => self.leave_blanks(),
            Place::Answer => self.answer(to),
            Place::Done => {
                to(Piece::Answer(&self.held));
                self.held = String::new();
                false
            }
        }
    }

    fn leave_start(&mut self, to: &mut impl FnMut(Piece<'_>)) -> bool {
        let trimmed = self.held.trim_start();
        let blanks = self.held.len() - trimmed.len();
        if blanks <= BLANK_BYTES_MAX {
            if let Some(pair) = self.pair_opened_by(trimmed) {
                if !self.rules.trim {
                    to(Piece::Answer(&self.held[..blanks]));
                    self.held.drain(..blanks);
                }
                let blanks = if self.rules.trim { blanks } else { 0 };
                self.open(pair, blanks + self.rules.tags[pair].0.len());
                return true;
            }
            if self.may_open(trimmed) {
                return false;
            }
        }
        if self.rules.unopened {
            self.place = Place::Thinking { pair: None, unclosed: self.rules.neither };
        } else {
            self.begin_answer();
        }
        true
    }

    /// Tells thinking as it comes, all but what may be the beginning of the closing tag.
    fn think(&mut self, pair: Option<usize>, to: &mut impl FnMut(Piece<'_>)) -> bool {
        let (at, found) = find(&self.held, self.rules.closing(pair));
        to(Piece::Thinking(&self.held[..at]));
        self.held.drain(..at);
        found.is_some_and(|len| self.close(len))
    }

    /// Holds thinking back until it closes.
    fn think_unsure(&mut self, pair: Option<usize>, to: &mut impl FnMut(Piece<'_>)) -> bool {
        let (at, found) = find(&self.held[self.searched..], self.rules.closing(pair));
        let at = self.searched + at;
        if at > HELD_BYTES_MAX {
            self.decide(pair, to);
            return true;
        }
        self.searched = at;
        let Some(len) = found else { return false };
        to(Piece::Thinking(&self.held[..at]));
        self.held.drain(..at);
        self.close(len)
    }

    /// Gives up waiting for the closing tag: what was opened is thinking then, what was not is the answer.
    fn decide(&mut self, pair: Option<usize>, to: &mut impl FnMut(Piece<'_>)) {
        self.searched = 0;
        if pair.is_some() {
            self.opening.clear();
            self.place = Place::Thinking { pair, unclosed: Unclosed::Thinking };
        } else {
            to(Piece::Answer(&self.held));
            self.held.clear();
            self.begin_answer();
        }
    }

    /// Drops white space, and looks for further thinking if it may come.
    fn leave_blanks(&mut self) -> bool {
        let blanks = self.held.len() - self.held.trim_start().len();
        self.held.drain(..blanks);
        if self.held.is_empty() {
            return false;
        }
        if self.rules.anywhere {
            if let Some(pair) = self.pair_opened_by(&self.held) {
                self.open(pair, self.rules.tags[pair].0.len());
                return true;
            }
            if self.may_open(&self.held) {
                return false;
            }
        }
        self.begin_answer();
        true
    }

    fn answer(&mut self, to: &mut impl FnMut(Piece<'_>)) -> bool {
        let (at, found) = find(&self.held, self.rules.opening());
        to(Piece::Answer(&self.held[..at]));
        self.held.drain(..at);
        let Some(len) = found else { return false };
        let pair = self.pair_opened_by(&self.held).expect("an opening tag was found there");
        self.open(pair, len);
        true
    }

    fn begin_answer(&mut self) {
        self.is_at_start = false;
        self.place = if self.rules.anywhere { Place::Answer } else { Place::Done };
    }

    /// Enters thinking, whose tag ends at `len`.
    fn open(&mut self, pair: usize, len: usize) {
        let unclosed = self.rules.unclosed;
        if unclosed == Unclosed::Answer {
            self.opening.push_str(&self.held[..len]);
        }
        self.held.drain(..len);
        self.place = Place::Thinking { pair: Some(pair), unclosed };
    }

    /// Leaves thinking, whose tag has `len` bytes. Returns true.
    fn close(&mut self, len: usize) -> bool {
        self.held.drain(..len);
        self.searched = 0;
        self.opening.clear();
        if self.rules.trim && self.is_at_start {
            self.place = Place::AfterThinking;
        } else {
            self.begin_answer();
        }
        true
    }

    fn pair_opened_by(&self, text: &str) -> Option<usize> {
        self.rules.opening().position(|tag| text.starts_with(tag))
    }

    fn may_open(&self, text: &str) -> bool {
        self.rules.opening().any(|tag| tag.starts_with(text))
    }
}

impl Rules {
    /// The tags that open thinking.
    pub(crate) fn opening(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(|(open, _)| open.as_str())
    }

    /// The tags that close thinking of this pair, or of any.
    fn closing(&self, pair: Option<usize>) -> impl Iterator<Item = &str> {
        let pairs = pair.map_or(self.tags.as_slice(), |pair| std::slice::from_ref(&self.tags[pair]));
        pairs.iter().map(|(_, close)| close.as_str())
    }
}

/// Returns where the first of the tags begins, and its length if all of it is there; the end of the text if none does.
fn find<'a>(text: &str, tags: impl Iterator<Item = &'a str>) -> (usize, Option<usize>) {
    let mut first = (text.len(), None);
    for tag in tags {
        let found = match text.find(tag) {
            Some(at) => (at, Some(tag.len())),
            None => (text.len() - cut_len(text, tag), None),
        };
        if found.0 < first.0 {
            first = found;
        }
    }
    first
}

/// Returns how many bytes at the end of the text the tag begins with.
fn cut_len(text: &str, tag: &str) -> usize {
    let longest = text.len().min(tag.len() - 1);
    (1..=longest).rev().find(|&len| text.as_bytes().ends_with(&tag.as_bytes()[..len])).unwrap_or(0)
}

#[cfg(test)]
mod tests;
