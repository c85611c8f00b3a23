//! Standard output and what may go there.

use std::borrow::Cow;
use std::io::{self, BufWriter, ErrorKind, Write};

use console::Term;

/// Why a command ended before it was done.
#[derive(Debug)]
pub(super) enum End {
    /// Nobody reads the output any more.
    Gone,
    /// Something went wrong.
    Failed(String),
    /// The arguments make no sense.
    Misused(String),
}

impl From<String> for End {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Gone,
            _ => Self::Failed(format!("standard output: {error}")),
        }
    }
}

/// Standard output, in large pieces.
pub(super) struct Output {
    stream: BufWriter<io::Stdout>,
    /// Columns of the terminal, if it is one.
    pub(super) width: Option<usize>,
}

impl Output {
    pub(super) fn new() -> Self {
        let term = Term::stdout();
        let width = term.is_term().then(|| term.size().1.into());
        Self { stream: BufWriter::new(io::stdout()), width }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Whether a character could command a terminal, or show a text as another one.
///
/// Source: ECMA-48 for the control characters; Unicode Standard Annex 9 for those that turn the direction round.
fn is_treacherous(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as a terminal may have it: what could command it is shown as an escape; lines and tabs stay.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_treacherous(character) && !matches!(character, '\n' | '\t'))
}

/// The same in one line.
pub(super) fn visible_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_treacherous)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// JSON text as a terminal may have it: it stays the same JSON. JSON itself escapes the control characters of ASCII but
/// one.
pub(super) fn visible_json(json: &str) -> Cow<'_, str> {
    if !json.contains(is_treacherous) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_treacherous(character) && !matches!(character, '\n' | '\t' | '\r') {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Bytes that come in pieces, as a terminal may have them.
#[derive(Default)]
pub(super) struct VisibleStream {
    /// The beginning of a character whose end is to come.
    held: Vec<u8>,
}

impl VisibleStream {
    /// What can be shown with this piece.
    pub(super) fn push(&mut self, piece: &[u8]) -> String {
        self.held.extend_from_slice(piece);
        let whole = match str::from_utf8(&self.held) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.held.len(),
        };
        // An earlier mistake hides a character that is cut at the end; it is shown as a mistake, too.
        let text = String::from_utf8_lossy(&self.held[..whole]).replace("\r\n", "\n");
        self.held.drain(..whole);
        visible(&text).into_owned()
    }

    /// What is left at the end.
    pub(super) fn finish(self) -> String {
        visible(&String::from_utf8_lossy(&self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_command_a_terminal_is_shown() {
        assert_eq!(visible("a\u{1b}[2Jb\u{7}\u{9b}31m\r\u{7f}"), "a\\u{1b}[2Jb\\u{7}\\u{9b}31m\\r\\u{7f}");
        assert_eq!(visible("a\n\tb é 漢 👩‍👩‍👧"), "a\n\tb é 漢 👩‍👩‍👧");
        assert_eq!(visible("abc\u{202e}fed\u{2066}"), "abc\\u{202e}fed\\u{2066}");
        assert_eq!(visible_line("a\n\tb"), "a\\n\\tb");
        assert_eq!(visible_json("{\"a\":\"\u{9b}\u{7f}é\"}"), "{\"a\":\"\\u009b\\u007fé\"}");
    }

    proptest! {
        #[test]
        fn no_split_lets_a_command_through(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0..60_usize) {
            let at = at.min(bytes.len());
            let mut stream = VisibleStream::default();
            let mut shown = stream.push(&bytes[..at]);
            shown.push_str(&stream.push(&bytes[at..]));
            shown.push_str(&stream.finish());
            prop_assert!(!shown.contains(|character| is_treacherous(character) && !matches!(character, '\n' | '\t')));
        }

        #[test]
        fn a_text_is_the_same_however_it_is_split(text in "\\PC{0,20}", at in 0..60_usize) {
            let at = at.min(text.len());
            let mut stream = VisibleStream::default();
            let mut shown = stream.push(&text.as_bytes()[..at]);
            shown.push_str(&stream.push(&text.as_bytes()[at..]));
            shown.push_str(&stream.finish());
            prop_assert_eq!(shown, visible(&text).into_owned());
        }
    }
}
