//! The text a pattern looks at: from where a match may begin to as far as it may look now.

/// The most text a pattern looks at, in bytes, and so the most that is ever held back.
///
/// A match that needs more to be recognised is not found. One that is found and still goes on at the bound is masked
/// to its end.
pub(crate) const WINDOW_BYTES_MAX: usize = 512;

/// Text from the first character of a possible match.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    text: &'a str,
    edge: Edge,
}

/// What is behind the last character of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Text that has not come yet.
    Open,
    /// Text beyond the bound.
    Cut,
    /// Nothing, the text is over.
    End,
}

/// Why there is no match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The text cannot become one.
    Never,
    /// It depends on text that has not come yet.
    Undecided,
}

impl<'a> Window<'a> {
    /// Looks at `text`, at most the bound of it. `is_over` says that no more text comes.
    pub(crate) fn new(text: &'a str, is_over: bool) -> Self {
        if text.len() >= WINDOW_BYTES_MAX {
            let text = &text[..text.floor_char_boundary(WINDOW_BYTES_MAX)];
            return Self { text, edge: Edge::Cut };
        }
        Self { text, edge: if is_over { Edge::End } else { Edge::Open } }
    }

    /// Looks at the same text from byte `from` on, which begins a character.
    pub(crate) fn skip(self, from: usize) -> Self {
        Self { text: &self.text[from..], ..self }
    }

    /// Returns what can be seen.
    pub(crate) fn text(self) -> &'a str {
        self.text
    }

    /// Returns what is behind it.
    pub(crate) fn edge(self) -> Edge {
        self.edge
    }

    /// Says whether the bound is at `at`, and text behind it.
    pub(crate) fn is_cut_at(self, at: usize) -> bool {
        self.edge == Edge::Cut && at == self.text.len()
    }

    /// Returns the byte at `at`; none where the text ends.
    ///
    /// # Errors
    ///
    /// `Undecided` where the text has not come yet. A pattern that reads by this function alone therefore decides
    /// the same whatever pieces the text comes in.
    pub(crate) fn at(self, at: usize) -> Result<Option<u8>, Miss> {
        match self.text.as_bytes().get(at) {
            Some(byte) => Ok(Some(*byte)),
            None if self.edge == Edge::Open => Err(Miss::Undecided),
            None => Ok(None),
        }
    }

    /// Returns where the run of at most `max` bytes of a class ends that begins at `from`.
    ///
    /// # Errors
    ///
    /// `Undecided` as for [`Self::at`].
    pub(crate) fn run(self, from: usize, max: usize, class: impl Fn(u8) -> bool) -> Result<usize, Miss> {
        let mut to = from;
        while to - from < max && self.at(to)?.is_some_and(&class) {
            to += 1;
        }
        Ok(to)
    }
}

/// Says whether a byte is part of an ASCII word.
pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Passes if a match may end before `next`: a word may not go on.
///
/// # Errors
///
/// `Never` if it goes on.
pub(crate) fn end_of_word(next: Option<u8>) -> Result<(), Miss> {
    if next.is_some_and(is_word) { Err(Miss::Never) } else { Ok(()) }
}
