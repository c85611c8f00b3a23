//! A lossless reader of JSON: it checks a document in one pass and says where in the bytes things stand.
//!
//! It builds no tree and copies nothing; whoever edits a document splices the ranges it was told. Numbers stay the
//! text they are, names may repeat, their order is kept. Where JSON is read whole, simd-json does it; that reader
//! keeps no offsets, which is why this one exists.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;
use wide::u8x16;

pub use self::cursor::{Cursor, compact};
pub use self::members::{Members, elements};
pub use self::object::{Object, Value};
pub use self::writer::{Writer, list, object, plain};

pub mod cursor;
mod members;
mod object;
mod place;
mod writer;

/// How many arrays and objects may be open inside each other.
pub const DEPTH_MAX: u32 = 128;

/// Walks over one JSON document.
///
/// Every value must be consumed once, in order: by [`object`](Self::object), [`array`](Self::array),
/// [`string`](Self::string) or [`skip`](Self::skip). After an error the scanner is of no more use.
#[derive(Debug)]
pub struct Scanner<'a> {
    /// The document up to the first byte that is not UTF-8.
    text: &'a str,
    /// Whether there is such a byte: then the end of `text` is an error.
    is_cut: bool,
    position: usize,
    depth: u32,
}

/// What a value is, known from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// `-1.5e3`
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// A JSON string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    raw: &'a str,
    start: usize,
    escapes: Escapes,
}

/// A [`Text`] that does not borrow its document.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: usize,
    end: usize,
    escapes: Escapes,
}

/// Which escapes a string uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Escapes {
    None,
    /// Only those that every serialiser writes alike: `\n`, `\"` and the like.
    Short,
    /// Also `\u…` or `\/`, which serialisers are free to use or not.
    Free,
}

/// Where and why a document is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// In bytes from the document's start.
    pub offset: usize,
    /// Lowercase, fit for a message to the client.
    pub reason: &'static str,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Scanner<'a> {
    /// Starts before the first value of `bytes`, which may be anything.
    pub fn new(bytes: &'a [u8]) -> Self {
        match simdutf8::basic::from_utf8(bytes) {
            Ok(text) => Self { text, is_cut: false, position: 0, depth: 0 },
            Err(_) => Self { text: valid_prefix(bytes), is_cut: true, position: 0, depth: 0 },
        }
    }

    /// Starts before the first value of a text.
    pub fn over(text: &'a str) -> Self {
        Self { text, is_cut: false, position: 0, depth: 0 }
    }

    /// Starts like [`new`](Self::new), as if `depth` arrays and objects were open around the text.
    pub fn inside(bytes: &'a [u8], depth: u32) -> Self {
        Self { depth, ..Self::new(bytes) }
    }

    /// Where the scanner stands, in bytes from the document's start.
    pub fn position(&self) -> usize {
        self.position
    }

    /// What is still to be read.
    pub fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    /// Returns the text of a range that the scanner has given.
    pub fn slice(&self, range: Range<usize>) -> &'a str {
        &self.text[range]
    }

    /// Skips white space and tells what the next value is, without consuming it.
    ///
    /// # Errors
    ///
    /// No value begins here.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind> {
        self.skip_space();
        match self.byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.unexpected("expected a value")),
        }
    }

    /// Consumes an object; `member` is given each name and must consume the value that follows.
    ///
    /// # Errors
    ///
    /// The next value is not an object, is malformed or nested too deeply, or `member` failed.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Text<'a>) -> Result<()>) -> Result<()> {
        self.skip_space();
        self.expect(b'{', "expected an object")?;
        self.enter()?;
        self.skip_space();
        if !self.eat(b'}') {
            loop {
                let name = self.name()?;
                member(self, name)?;
                self.skip_space();
                if !self.eat(b',') {
                    break;
                }
                self.skip_space();
            }
            self.expect(b'}', "expected `,` or `}`")?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Consumes an array; `element` is called before each element and must consume it.
    ///
    /// # Errors
    ///
    /// The next value is not an array, is malformed or nested too deeply, or `element` failed.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.skip_space();
        self.expect(b'[', "expected an array")?;
        self.enter()?;
        self.skip_space();
        if !self.eat(b']') {
            loop {
                element(self)?;
                self.skip_space();
                if !self.eat(b',') {
                    break;
                }
            }
            self.expect(b']', "expected `,` or `]`")?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Consumes a string.
    ///
    /// # Errors
    ///
    /// The next value is not a string, is not closed, or has a raw control character or an unknown escape.
    pub fn string(&mut self) -> Result<Text<'a>> {
        self.skip_space();
        self.expect(b'"', "expected a string")?;
        self.rest_of_string()
    }

    /// Consumes any value and returns its range, from its first byte to its last.
    ///
    /// # Errors
    ///
    /// The value is malformed or nested too deeply.
    pub fn skip(&mut self) -> Result<Range<usize>> {
        let kind = self.peek()?;
        let start = self.position;
        match kind {
            Kind::Object | Kind::Array => self.skip_tree()?,
            _ => self.skip_scalar(kind)?,
        }
        Ok(start..self.position)
    }

    /// Consumes any value; `member` is called as by [`object`](Self::object) if it is an object.
    ///
    /// # Errors
    ///
    /// The value is malformed or nested too deeply, or `member` failed.
    pub fn members(&mut self, member: impl FnMut(&mut Self, Text<'a>) -> Result<()>) -> Result<()> {
        match self.peek()? {
            Kind::Object => self.object(member),
            _ => self.skip().map(drop),
        }
    }

    /// Consumes any value and returns it if it is a count. Some upstreams write `12.0`; what is below zero or no
    /// number is none.
    ///
    /// # Errors
    ///
    /// The value is malformed or nested too deeply.
    pub fn count(&mut self) -> Result<Option<u64>> {
        let value = self.skip()?;
        let text = self.slice(value);
        Ok(text.parse().ok().or_else(|| {
            // The cast saturates; what is not a number at all failed to parse.
            text.parse::<f64>().ok().filter(|number| *number >= 0.0).map(|number| number as u64)
        }))
    }

    /// Checks that only white space is left.
    ///
    /// # Errors
    ///
    /// Something else follows.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.position < self.text.len() || self.is_cut {
            return Err(self.unexpected("unexpected text after the end of the document"));
        }
        Ok(())
    }

    /// Consumes an array or object without a stack of calls: one bit for each open one says which it is.
    fn skip_tree(&mut self) -> Result<()> {
        let mut is_object: u128 = 0;
        let outside = self.depth;
        loop {
            let kind = self.peek()?;
            if matches!(kind, Kind::Object | Kind::Array) {
                self.position += 1;
                self.enter()?;
                is_object = is_object << 1 | u128::from(kind == Kind::Object);
                self.skip_space();
                if !self.eat(closing(is_object)) {
                    if kind == Kind::Object {
                        self.name()?;
                    }
                    continue;
                }
                is_object >>= 1;
                self.depth -= 1;
            } else {
                self.skip_scalar(kind)?;
            }
            while self.depth > outside {
                self.skip_space();
                if self.eat(b',') {
                    if is_object & 1 == 1 {
                        self.skip_space();
                        self.name()?;
                    }
                    break;
                }
                let reason = if is_object & 1 == 1 { "expected `,` or `}`" } else { "expected `,` or `]`" };
                self.expect(closing(is_object), reason)?;
                is_object >>= 1;
                self.depth -= 1;
            }
            if self.depth == outside {
                return Ok(());
            }
        }
    }

    fn skip_scalar(&mut self, kind: Kind) -> Result<()> {
        match kind {
            Kind::String => {
                self.position += 1;
                self.rest_of_string().map(drop)
            }
            Kind::True => self.literal("true"),
            Kind::False => self.literal("false"),
            Kind::Null => self.literal("null"),
            Kind::Number | Kind::Object | Kind::Array => self.number(),
        }
    }

    fn literal(&mut self, word: &'static str) -> Result<()> {
        if !self.text.as_bytes()[self.position..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("expected a value"));
        }
        self.position += word.len();
        Ok(())
    }

    /// Source: RFC 8259, section 6.
    fn number(&mut self) -> Result<()> {
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<()> {
        let rest = &self.text.as_bytes()[self.position..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.position += count;
        if count == 0 { Err(self.unexpected("expected a digit")) } else { Ok(()) }
    }

    /// Consumes an object's name and the colon after it.
    #[inline]
    fn name(&mut self) -> Result<Text<'a>> {
        self.expect(b'"', "expected a name in double quotes")?;
        let name = self.rest_of_string()?;
        self.skip_space();
        self.expect(b':', "expected `:`")?;
        Ok(name)
    }

    /// Consumes a string whose opening quote is consumed already.
    #[inline]
    fn rest_of_string(&mut self) -> Result<Text<'a>> {
        let bytes = self.text.as_bytes();
        let start = self.position;
        let mut escapes = Escapes::None;
        // Not `self.position`: each step would wait for the store of the one before.
        let mut at = start;
        let mut plain_from = start;
        loop {
            let specials = specials_at(bytes, at);
            if specials == 0 {
                at += BLOCK_BYTES;
                if at - plain_from > SHORT_BYTES {
                    at = skip_plain(bytes, at);
                }
                continue;
            }
            at += specials.trailing_zeros() as usize;
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => match escape_at(bytes, at) {
                    Ok((kind, length)) => {
                        escapes = escapes.max(kind);
                        at += length;
                        plain_from = at;
                    }
                    Err(reason) => return Err(SyntaxError { offset: at, reason }),
                },
                Some(_) => return Err(SyntaxError { offset: at, reason: CONTROL }),
                None => return Err(self.unclosed()),
            }
        }
        self.position = at + 1;
        Ok(Text { raw: &self.text[start..at], start, escapes })
    }

    #[cold]
    fn unclosed(&mut self) -> SyntaxError {
        self.position = self.text.len();
        self.unexpected("expected a closing quote")
    }

    #[inline]
    fn enter(&mut self) -> Result<()> {
        if self.depth == DEPTH_MAX {
            return Err(self.error("nested too deeply"));
        }
        self.depth += 1;
        Ok(())
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.position += 1;
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let is_there = self.byte() == Some(byte);
        self.position += usize::from(is_there);
        is_there
    }

    #[inline]
    fn expect(&mut self, byte: u8, reason: &'static str) -> Result<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(reason)) }
    }

    /// Makes an error about what stands here instead of what should; at the end that is the end.
    #[cold]
    fn unexpected(&self, reason: &'static str) -> SyntaxError {
        if self.position < self.text.len() {
            self.error(reason)
        } else if self.is_cut {
            self.error("invalid UTF-8")
        } else {
            self.error("unexpected end of the document")
        }
    }

    #[cold]
    fn error(&self, reason: &'static str) -> SyntaxError {
        SyntaxError { offset: self.position, reason }
    }
}

impl<'a> Text<'a> {
    /// The string as written, escapes unresolved.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Lets go of the document.
    pub fn span(&self) -> Span {
        Span { start: self.start, end: self.start + self.raw.len(), escapes: self.escapes }
    }

    /// Where the string stands in the document, without its quotes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.raw.len()
    }

    /// Whether the string means `plain`.
    #[inline]
    pub fn is(&self, plain: &str) -> bool {
        match self.escapes {
            Escapes::None => self.raw == plain,
            Escapes::Short | Escapes::Free => self.decode() == plain,
        }
    }

    /// Returns the string it means. Half a surrogate pair becomes U+FFFD.
    pub fn decode(&self) -> Cow<'a, str> {
        match self.escapes {
            Escapes::None => Cow::Borrowed(self.raw),
            Escapes::Short | Escapes::Free => Cow::Owned(unescape(self.raw)),
        }
    }

    /// Returns the string with no more escapes than needed, so that two serialisers' spellings of one text are
    /// the same bytes. Borrowed unless it has a `\u…` or `\/`.
    pub fn canonical(&self) -> Cow<'a, [u8]> {
        match self.escapes {
            Escapes::None | Escapes::Short => Cow::Borrowed(self.raw.as_bytes()),
            Escapes::Free => {
                let mut into = Vec::with_capacity(self.raw.len());
                escape(&unescape(self.raw), &mut into);
                Cow::Owned(into)
            }
        }
    }
}

impl Span {
    /// Makes a span of any range, as if it were a string without escapes.
    pub fn plain(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end, escapes: Escapes::None }
    }

    /// Where it stands in its document, without quotes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The same of a document that has `by` bytes before the one it was read from.
    pub fn shifted(self, by: usize) -> Self {
        Self { start: self.start + by, end: self.end + by, ..self }
    }

    /// Whether it means `plain`; `document` is the one it was read from.
    pub fn is(&self, document: &[u8], plain: &str) -> bool {
        match self.escapes {
            Escapes::None => document[self.range()] == *plain.as_bytes(),
            Escapes::Short | Escapes::Free => self.decode(document) == plain,
        }
    }

    /// Returns what it means; `document` is the one it was read from.
    pub fn decode<'a>(&self, document: &'a [u8]) -> Cow<'a, str> {
        self.text(document).decode()
    }

    /// Returns it as [`Text::canonical`] does; `document` is the one it was read from.
    pub fn canonical<'a>(&self, document: &'a [u8]) -> Cow<'a, [u8]> {
        match self.escapes {
            Escapes::None | Escapes::Short => Cow::Borrowed(&document[self.range()]),
            Escapes::Free => self.text(document).canonical(),
        }
    }

    fn text<'a>(&self, document: &'a [u8]) -> Text<'a> {
        let raw = simdutf8::basic::from_utf8(&document[self.range()]).expect("the scanner has read it");
        Text { raw, start: self.start, escapes: self.escapes }
    }
}

impl SyntaxError {
    /// Returns line and column of the error in `bytes`, both from 1, columns in characters.
    pub fn position(&self, bytes: &[u8]) -> (usize, usize) {
        let before = &bytes[..self.offset.min(bytes.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        // A character's bytes after its first have the form 10xxxxxx.
        let column = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count() + 1;
        (line, column)
    }
}

/// Writes `text` as a JSON string with its quotes.
pub fn quote(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    escape(text, into);
    into.push(b'"');
}

/// Writes `text` as it stands between the quotes of a JSON string, with no more escapes than needed.
pub fn escape(text: &str, into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        into.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            0x08 => into.extend_from_slice(b"\\b"),
            0x0C => into.extend_from_slice(b"\\f"),
            byte @ 0..0x20 => {
                into.extend_from_slice(b"\\u00");
                into.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            byte => into.extend_from_slice(&[b'\\', byte]),
        }
        rest = &rest[at + 1..];
    }
    into.extend_from_slice(rest);
}

/// Resolves the escapes of a checked string.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (character, length) = match rest.as_bytes()[at + 1] {
            b'n' => ('\n', 2),
            b't' => ('\t', 2),
            b'r' => ('\r', 2),
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{C}', 2),
            b'u' => unescape_unit(&rest[at..]),
            other => (char::from(other), 2),
        };
        text.push(character);
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    text
}

/// Resolves the `\u…` that `raw` begins with, together with the second half of its pair when that follows.
fn unescape_unit(raw: &str) -> (char, usize) {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(0).unwrap_or(0xD800);
    match char::decode_utf16([first, unit(6).unwrap_or(0)]).next() {
        Some(Ok(character)) => (character, 6 * character.len_utf16()),
        _ => (char::REPLACEMENT_CHARACTER, 6),
    }
}

fn closing(is_object: u128) -> u8 {
    if is_object & 1 == 1 { b'}' } else { b']' }
}

const CONTROL: &str = "control character in a string, write it as an escape";

/// How many bytes are looked at in one step.
const BLOCK_BYTES: usize = 16;

/// A text without anything special in so many bytes is likely to go on like that: an image in base64, for example.
const SHORT_BYTES: usize = 256;

/// Returns where, from `at` on, the first special byte stands; or else the length of `bytes`.
///
/// Two passes, but over wide vectors; they take longer to start than most strings take in blocks.
#[inline(never)]
fn skip_plain(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let length = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    at + if has_control(&rest[..length]) { control_free(rest) } else { length }
}

/// Looks at every byte, without a way out half way: so the compiler makes it a loop over vectors.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(u8::MAX, |lowest, byte| lowest.min(*byte)) < 0x20
}

#[cold]
fn control_free(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| **byte >= 0x20).count()
}

/// Returns which of the bytes from `at` on are special, as one bit for each of a block.
///
/// Behind the end of `bytes` it sees zeros. These are special, so that whoever looks for the end of a string stops.
#[inline]
fn specials_at(bytes: &[u8], at: usize) -> u32 {
    let rest = &bytes[at..];
    match rest.first_chunk() {
        Some(block) => specials(*block),
        None => last_specials(rest),
    }
}

#[inline(never)]
fn last_specials(rest: &[u8]) -> u32 {
    let mut block = [0; BLOCK_BYTES];
    block[..rest.len()].copy_from_slice(rest);
    specials(block)
}

/// Special is what ends the plain part of a string: quotes, backslashes, control characters.
#[inline]
fn specials(block: [u8; BLOCK_BYTES]) -> u32 {
    let block = u8x16::new(block);
    // SSE2 compares only signed bytes, but a byte that is its own minimum with another is no greater.
    let is_control = block.min(u8x16::splat(0x1F)).simd_eq(block);
    (is_control | block.simd_eq(u8x16::splat(b'"')) | block.simd_eq(u8x16::splat(b'\\'))).to_bitmask()
}

/// Returns kind and length of the escape that begins at `at`.
///
/// One half of a surrogate pair alone is let through: Python's `json.dumps` writes it for half a character cut from
/// a text, and to refuse it would lose a request that upstreams accept.
#[inline]
fn escape_at(bytes: &[u8], at: usize) -> std::result::Result<(Escapes, usize), &'static str> {
    match bytes.get(at + 1) {
        Some(b'n' | b'"' | b'\\' | b't' | b'r' | b'b' | b'f') => Ok((Escapes::Short, 2)),
        Some(b'/') => Ok((Escapes::Free, 2)),
        Some(b'u') => match bytes[at + 2..].first_chunk::<4>() {
            // `&` and not `&&`: four lookups are cheaper than four branches.
            Some(digits) if digits.iter().fold(true, |all, byte| all & byte.is_ascii_hexdigit()) => {
                Ok((Escapes::Free, 6))
            }
            _ => Err("expected four hexadecimal digits after `\\u`"),
        },
        _ => Err("unknown escape in a string"),
    }
}

#[cold]
fn valid_prefix(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to there"),
    }
}

#[cfg(test)]
pub(in crate::wire) mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Reads a whole document by `skip`.
    fn validate(bytes: &[u8]) -> Result<Range<usize>> {
        let mut scanner = Scanner::new(bytes);
        let range = scanner.skip()?;
        scanner.end()?;
        Ok(range)
    }

    /// Reads a whole document through the callbacks.
    fn walk(scanner: &mut Scanner<'_>) -> Result<()> {
        match scanner.peek()? {
            Kind::Object => scanner.object(|scanner, _| walk(scanner)),
            Kind::Array => scanner.array(walk),
            Kind::String => scanner.string().map(drop),
            _ => scanner.skip().map(drop),
        }
    }

    #[track_caller]
    fn check(document: &str, expected: std::result::Result<(), (usize, &str)>) {
        let found = validate(document.as_bytes()).map(drop);
        assert_eq!(found.map_err(|error| (error.offset, error.reason)), expected, "{document}");
        let mut scanner = Scanner::new(document.as_bytes());
        let walked = walk(&mut scanner).and_then(|()| scanner.end());
        assert_eq!(walked, found, "the callbacks see it otherwise: {document}");
    }

    #[test]
    fn a_document_is_read_or_refused_where_it_breaks() {
        let end = "unexpected end of the document";
        for valid in [
            "0",
            "-0",
            "0.70",
            "1e-7",
            "1E+7",
            "9007199254740993",
            "1e999",
            "\"\"",
            "true",
            "false",
            " null\r\n\t",
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[1,2]",
            "[[],{}]",
            r#"{"a":{"b":[1,{"c":null}]},"a":2}"#,
            r#""\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\""#,
            r#""\ud83d""#,
            "\"é😀\u{7f}\"",
        ] {
            check(valid, Ok(()));
        }
        check("", Err((0, end)));
        check("  ", Err((2, end)));
        check("{", Err((1, end)));
        check(r#"{"a""#, Err((4, end)));
        check(r#"{"a":"#, Err((5, end)));
        check(r#"{"a":1"#, Err((6, end)));
        check("\"abc", Err((4, end)));
        check("\"abc\\", Err((4, "unknown escape in a string")));
        check(r#"{"a":1,}"#, Err((7, "expected a name in double quotes")));
        check(r#"{a:1}"#, Err((1, "expected a name in double quotes")));
        check(r#"{"a" 1}"#, Err((5, "expected `:`")));
        check(r#"{"a":1 "b":2}"#, Err((7, "expected `,` or `}`")));
        check("[1 2]", Err((3, "expected `,` or `]`")));
        check("[1,]", Err((3, "expected a value")));
        check("[1}", Err((2, "expected `,` or `]`")));
        check("nul", Err((0, "expected a value")));
        check("NaN", Err((0, "expected a value")));
        check("01", Err((1, "unexpected text after the end of the document")));
        check("-", Err((1, end)));
        check("1.", Err((2, end)));
        check("1.x", Err((2, "expected a digit")));
        check("1e+]", Err((3, "expected a digit")));
        check(".5", Err((0, "expected a value")));
        check("+1", Err((0, "expected a value")));
        check("1 2", Err((2, "unexpected text after the end of the document")));
        check("\"a\nb\"", Err((2, "control character in a string, write it as an escape")));
        check("\"a\nb", Err((2, "control character in a string, write it as an escape")));
        check(r#""\x""#, Err((1, "unknown escape in a string")));
        check(r#""\u12g4""#, Err((1, "expected four hexadecimal digits after `\\u`")));
    }

    #[test]
    fn invalid_utf8_is_named_where_it_stands() {
        let error = validate(b"[\"ab\xFFc\"]").unwrap_err();
        assert_eq!(error, SyntaxError { offset: 4, reason: "invalid UTF-8" });
        let error = validate(b"[1] \xFF").unwrap_err();
        assert_eq!(error, SyntaxError { offset: 4, reason: "invalid UTF-8" });
    }

    #[test]
    fn depth_is_bounded() {
        let depth = DEPTH_MAX as usize;
        check(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)), Ok(()));
        check(
            &format!("{}{}", "[".repeat(depth + 1), "]".repeat(depth + 1)),
            Err((129, "nested too deeply")),
        );
        check(&r#"{"a":"#.repeat(depth + 1), Err((5 * depth + 1, "nested too deeply")));
    }

    #[test]
    fn a_position_has_line_and_column() {
        let position = |text: &str, offset| SyntaxError { offset, reason: "" }.position(text.as_bytes());
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("ab\ncd", 4), (2, 2));
        assert_eq!(position("é\n\"é\" x", 8), (2, 5));
        assert_eq!(position("ab\n", 3), (2, 1));
    }

    #[track_caller]
    fn check_text(literal: &str, decoded: &str, canonical: &str) {
        let text = Scanner::new(literal.as_bytes()).string().unwrap();
        assert_eq!(text.decode(), decoded);
        assert!(text.is(decoded));
        assert!(!text.is("something else"));
        assert_eq!(&*text.canonical(), canonical.as_bytes());
        assert_eq!(&literal[text.range()], text.raw());
    }

    #[test]
    fn a_text_is_decoded_and_made_canonical() {
        check_text(r#""plain""#, "plain", "plain");
        check_text(r#""a\nb\"""#, "a\nb\"", r#"a\nb\""#);
        check_text(r#""caf\u00e9 \/ \u000a""#, "café / \n", r"café / \n");
        check_text(r#""\ud83d\ude00""#, "😀", "😀");
        check_text(
            r#""\ud83d.\ude00\ud83d\u0041""#,
            "\u{fffd}.\u{fffd}\u{fffd}A",
            "\u{fffd}.\u{fffd}\u{fffd}A",
        );
        check_text(r#""\u0000\u001F""#, "\0\u{1f}", r"\u0000\u001f");
    }

    /// Documents with the oddities of hand-written ones: white space, odd numbers, escapes, repeated names.
    pub(in crate::wire) fn document() -> impl Strategy<Value = String> {
        let space = || prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just("\r\n\t")];
        let string = prop_oneof![
            "\"[a-zé😀 ]{0,12}\"",
            r#""(\\[nrtbf"/\\]|\\u00[0-9a-fA-F]{2}|\\ud83d\\ude00|\\udc00|[a-z]){0,6}""#,
        ];
        let number = "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?";
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("false".to_owned()),
            number,
            string.clone(),
        ];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let array = (space(), prop::collection::vec((inner.clone(), space()), 0..6)).prop_map(
                |(space, items)| {
                    let items: Vec<_> =
                        items.into_iter().map(|(item, space)| format!("{space}{item}{space}")).collect();
                    format!("[{space}{}]", items.join(","))
                },
            );
            let members = prop::collection::vec((string.clone(), inner, space()), 0..6);
            let object = (space(), members).prop_map(|(space, members)| {
                let members: Vec<_> = members
                    .into_iter()
                    .map(|(name, value, space)| format!("{space}{name}{space}:{space}{value}{space}"))
                    .collect();
                format!("{{{space}{}}}", members.join(","))
            });
            prop_oneof![array, object]
        })
    }

    /// serde_json's opinion, without its conversion of numbers and half surrogates.
    fn is_valid(bytes: &[u8]) -> bool {
        std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    }

    proptest! {
        #[test]
        fn valid_documents_are_read(document in document()) {
            prop_assert_eq!(validate(document.as_bytes()).map(|_| ()), Ok(()));
            let mut scanner = Scanner::new(document.as_bytes());
            prop_assert_eq!(walk(&mut scanner).and_then(|()| scanner.end()), Ok(()));
        }

        #[test]
        fn mutated_documents_are_judged_as_serde_json_does(
            document in document(),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), prop::sample::select(
                b"{}[]\",:\\0123456789.eE+-tfnu \n\x00\x1f\x80\xc3\xff".to_vec())), 1..4),
        ) {
            let mut bytes = document.into_bytes();
            for (index, is_insertion, byte) in edits {
                let at = index.index(bytes.len() + 1);
                if is_insertion || at == bytes.len() { bytes.insert(at, byte) } else { bytes[at] = byte }
            }
            prop_assert_eq!(validate(&bytes).is_ok(), is_valid(&bytes), "{}", String::from_utf8_lossy(&bytes));
            let mut scanner = Scanner::new(&bytes);
            let walked = walk(&mut scanner).and_then(|()| scanner.end());
            prop_assert_eq!(walked, validate(&bytes).map(drop));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Err(error) = validate(&bytes) {
                error.position(&bytes);
            }
        }

        #[test]
        fn special_bytes_are_found(bytes in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(vec![0, b'!', b'"', b'#', b'[', b'\\', b']', 0x7F, 0x80, 0xA2, 0xDC, 0xFF]),
        ], 0..24)) {
            let is_special = |byte: u8| matches!(byte, 0..0x20 | b'"' | b'\\');
            let bit = |at: usize| u32::from(bytes.get(at).is_none_or(|byte| is_special(*byte))) << at;
            prop_assert_eq!(specials_at(&bytes, 0), (0..BLOCK_BYTES).map(bit).sum::<u32>());
        }

        #[test]
        fn the_end_of_a_long_string_is_found(
            lengths in prop::collection::vec(0..600_usize, 1..4),
            last in prop::sample::select(vec!["\"", "\\x", "\n", ""]),
        ) {
            let plain: Vec<String> = lengths.iter().map(|length| "a".repeat(*length)).collect();
            let text = format!("\"{}{last}{{", plain.join("\\n"));
            let mut scanner = Scanner::new(text.as_bytes());
            let end = text.len() - last.len() - 1;
            let expected = match last {
                "\"" => Ok(1..end),
                "\\x" => Err(SyntaxError { offset: end, reason: "unknown escape in a string" }),
                "\n" => Err(SyntaxError { offset: end, reason: CONTROL }),
                _ => Err(SyntaxError { offset: end + 1, reason: "unexpected end of the document" }),
            };
            prop_assert_eq!(scanner.string().map(|text| text.range()), expected);
        }

        #[test]
        fn spans_read_again_are_the_same(document in document()) {
            fn collect(scanner: &mut Scanner<'_>, base: usize, spans: &mut Vec<Range<usize>>) -> Result<()> {
                let mut take = |scanner: &mut Scanner<'_>| {
                    let range = scanner.skip()?;
                    spans.push(base + range.start..base + range.end);
                    Ok(())
                };
                match scanner.peek()? {
                    Kind::Object => scanner.object(|scanner, _| take(scanner)),
                    Kind::Array => scanner.array(take),
                    _ => take(scanner),
                }
            }
            let mut spans = Vec::new();
            collect(&mut Scanner::new(document.as_bytes()), 0, &mut spans).unwrap();
            for span in spans {
                prop_assert_eq!(validate(document[span.clone()].as_bytes()), Ok(0..span.len()));
            }
        }

        #[test]
        fn a_quoted_text_reads_back(text in any::<String>()) {
            let mut literal = Vec::new();
            quote(&text, &mut literal);
            let read = Scanner::new(&literal).string().unwrap();
            prop_assert_eq!(read.decode(), &*text);
            prop_assert_eq!(&*read.canonical(), read.raw().as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&literal).unwrap(), text);
        }

        #[test]
        fn two_serialisers_texts_are_one_canonical_text(text in any::<String>()) {
            // As Python's `json.dumps` does by default.
            let ascii: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let mut literal = Vec::new();
            quote(&text, &mut literal);
            let ascii = format!("\"{ascii}\"");
            let one = Scanner::new(ascii.as_bytes()).string().unwrap().canonical().into_owned();
            prop_assert_eq!(one, Scanner::new(&literal).string().unwrap().canonical().into_owned());
        }
    }
}
