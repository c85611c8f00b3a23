//! Regular expressions for the patterns of an operator's own: the usual syntax, leftmost-longest matches, and an answer
//! that no engine for whole texts gives: whether text that has not come yet could still make a match.
//!
//! Why not a crate: the smallest that says so makes the component four times as large, and its compiler runs for each
//! exchange, since each has an instance of its own. This one has no tables, and reads a pattern in microseconds.

mod parse;
mod program;

use crate::window::{Miss, Window};
use program::Program;
pub(crate) use program::Threads;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Regex {
    program: Program,
    starts: program::Starts,
    /// The characters of the endless repetition that the expression begins with, if it does.
    leading: Option<program::Class>,
}

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// Says what of it is wrong, or not supported, and where.
    pub(crate) fn new(expression: &str) -> Result<Self, String> {
        let tree = parse::parse(expression)?;
        let leading = tree.leading().cloned();
        let program = Program::compile(&tree)?;
        let starts = program.starts();
        if starts.has_empty_match() {
            return Err("it matches the empty text".to_owned());
        }
        Ok(Self { program, starts, leading })
    }

    /// Says whether a match may begin with the byte, the first of a character.
    pub(crate) fn may_start(&self, byte: u8) -> bool {
        self.starts.contains(byte)
    }

    /// Says whether an attempt behind this character can be saved, the attempt in front of it having failed: what begins
    /// with `\w+` matches from the start of a word or not at all. It keeps long runs from costing their square.
    pub(crate) fn is_inside_run(&self, before: char) -> bool {
        self.leading.as_ref().is_some_and(|class| class.contains(before))
    }

    /// Returns the length of the longest match that begins where the window does, behind the character `before`.
    /// Afterwards `threads` stands at the end of the window, ready to [`Self::go_on`].
    ///
    /// # Errors
    ///
    /// `Never` if none begins there, `Undecided` if text that has not come yet could make one or make it longer.
    pub(crate) fn find(
        &self,
        before: Option<char>,
        window: Window<'_>,
        threads: &mut Threads,
    ) -> Result<usize, Miss> {
        self.program.find(before, window, threads)
    }

    /// Takes a further character; whether the expression can go on with it.
    pub(crate) fn go_on(&self, character: char, threads: &mut Threads) -> bool {
        self.program.go_on(character, threads)
    }
}

#[cfg(test)]
mod tests;
