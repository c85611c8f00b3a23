//! A JSON document that is read in one pass, with the place of what is wrong in it.
//!
//! It is the faster of two readers, for documents whose members can be read as they come;
//! [`Object`](super::Object) is for those where one member says how the others are to be read.
//!
//! Google's servers read names in camelCase and in snake_case, take numbers in quotes and take null for absent; so is read
//! here. Source: Protocol Buffers documentation, "ProtoJSON Format", seen 2026-11.

use std::borrow::Cow;

use super::place::Place;
use super::{Kind, Scanner, SyntaxError};
use crate::error::{Error, ErrorKind, Result};

/// A value that is about to be read, once; what is left of it is passed over.
#[derive(Debug)]
pub struct Cursor<'a, 's> {
    scanner: &'s mut Scanner<'a>,
    start: usize,
    place: Place<'s>,
}

/// Reads a whole document.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] if it is not JSON, or `read` failed.
pub fn read<'a, T>(body: &'a [u8], read: impl FnOnce(&mut Cursor<'a, '_>) -> Result<T>) -> Result<T> {
    let mut scanner = Scanner::new(body);
    let place = Place::Document;
    let outcome = (|| {
        scanner.peek().map_err(broken)?;
        let start = scanner.position();
        let mut value = Cursor { scanner: &mut scanner, start, place };
        let outcome = read(&mut value)?;
        value.pass().map_err(broken)?;
        Ok(outcome)
    })()?;
    scanner.end().map_err(broken)?;
    Ok(outcome)
}

/// The document is no JSON.
fn broken(error: SyntaxError) -> Error {
    Error::new(ErrorKind::InvalidRequest, format!("the document is not valid JSON: {}", error.reason))
}

impl<'a> Cursor<'a, '_> {
    /// Reads it as JSON text.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&mut self) -> Result<&'a str> {
        let range = self.scanner.skip().map_err(broken)?;
        Ok(self.scanner.slice(range))
    }

    /// The JSON text of what was read of it.
    pub fn was(&self) -> &'a str {
        self.scanner.slice(self.start..self.scanner.position())
    }

    /// What it is; none if it is nothing at all.
    pub fn kind(&mut self) -> Option<Kind> {
        self.scanner.peek().ok()
    }

    /// Reads the members of an object one after another, by their names in camelCase; those that are null are left out.
    ///
    /// # Errors
    /// It is not an object, or `member` failed.
    pub fn members(&mut self, mut member: impl FnMut(&str, &mut Cursor<'a, '_>) -> Result<()>) -> Result<()> {
        if self.kind() != Some(Kind::Object) {
            return Err(self.must_be("an object"));
        }
        let mut failure = None;
        let place = &self.place;
        let read = self.scanner.object(|scanner, name| {
            let is_null = scanner.peek()? == Kind::Null;
            let name = camel(name.decode());
            let place = Place::Member(place, &name);
            let mut value = Cursor { start: scanner.position(), scanner, place };
            if is_null {
                return value.pass();
            }
            match member(&name, &mut value) {
                Ok(()) => value.pass(),
                Err(error) => Err(value.stop(&mut failure, error)),
            }
        });
        outcome(read, failure)
    }

    /// Reads the elements of a list one after another.
    ///
    /// # Errors
    /// It is not a list, or `element` failed.
    pub fn elements(&mut self, mut element: impl FnMut(&mut Cursor<'a, '_>) -> Result<()>) -> Result<()> {
        if self.kind() != Some(Kind::Array) {
            return Err(self.must_be("a list"));
        }
        let (mut failure, mut index) = (None, 0);
        let place = &self.place;
        let read = self.scanner.array(|scanner| {
            scanner.peek()?;
            let place = Place::Element(place, index);
            index += 1;
            let mut value = Cursor { start: scanner.position(), scanner, place };
            match element(&mut value) {
                Ok(()) => value.pass(),
                Err(error) => Err(value.stop(&mut failure, error)),
            }
        });
        outcome(read, failure)
    }

    /// Reads the elements of a list, or the value itself as the only one.
    ///
    /// # Errors
    /// `element` failed.
    pub fn one_or_more(&mut self, mut element: impl FnMut(&mut Cursor<'a, '_>) -> Result<()>) -> Result<()> {
        if self.kind() == Some(Kind::Array) { self.elements(element) } else { element(self) }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&mut self) -> Result<Cow<'a, str>> {
        if self.kind() != Some(Kind::String) {
            return Err(self.must_be("a string"));
        }
        Ok(self.scanner.string().map_err(broken)?.decode())
    }

    /// Reads a list of strings, or one of them.
    ///
    /// # Errors
    /// It is neither.
    pub fn texts(&mut self) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        self.one_or_more(|value| {
            texts.push(value.text()?.into_owned());
            Ok(())
        })?;
        Ok(texts)
    }

    /// Reads a number, which may stand in quotes.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&mut self) -> Result<f64> {
        number_of(self.digits()?).ok_or_else(|| self.must_be("a number"))
    }

    /// Reads a whole number; `12.0` is one.
    ///
    /// # Errors
    /// It is none.
    pub fn integer(&mut self) -> Result<i64> {
        integer_of(self.digits()?).ok_or_else(|| self.must_be("a whole number"))
    }

    /// Reads a whole number that is not below zero.
    ///
    /// # Errors
    /// It is none.
    pub fn count(&mut self) -> Result<u64> {
        let count = integer_of(self.digits()?).and_then(|integer| u64::try_from(integer).ok());
        count.ok_or_else(|| self.must_be("a whole number of at least 0"))
    }

    /// Reads a truth value.
    ///
    /// # Errors
    /// It is none.
    pub fn flag(&mut self) -> Result<bool> {
        match self.json()? {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    /// An error about this value, which its text calls by its place.
    pub fn must_be(&self, what: &str) -> Error {
        let place = self.place();
        let message = format!("`{place}` must be {what}");
        Error::invalid(place, message)
    }

    /// An error about this value, in these words.
    pub fn invalid(&self, message: impl Into<String>) -> Error {
        Error::invalid(self.place(), message)
    }

    /// Where it stands, as in `contents[0].role`.
    pub fn place(&self) -> String {
        match self.place {
            Place::Document => "the document".to_owned(),
            place => place.to_string(),
        }
    }

    /// The digits of a number, with or without quotes.
    fn digits(&mut self) -> Result<&'a str> {
        Ok(self.json()?.trim_matches('"'))
    }

    /// Passes over it, if it was not read.
    fn pass(&mut self) -> Result<(), SyntaxError> {
        if self.scanner.position() == self.start { self.scanner.skip().map(drop) } else { Ok(()) }
    }

    /// Ends the reading of what this stands in, because of an error that is told there.
    #[cold]
    fn stop(&self, failure: &mut Option<Error>, error: Error) -> SyntaxError {
        *failure = Some(error);
        SyntaxError { offset: self.scanner.position(), reason: "" }
    }
}

/// What became of a list or an object: an error of what stands in it goes before what the scanner says.
fn outcome(read: Result<(), SyntaxError>, failure: Option<Error>) -> Result<()> {
    match failure {
        Some(error) => Err(error),
        None => read.map_err(broken),
    }
}

fn number_of(digits: &str) -> Option<f64> {
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

fn integer_of(digits: &str) -> Option<i64> {
    // The cast saturates, and what has a fraction is not equal.
    let whole = |number: f64| Some(number as i64).filter(|integer| *integer as f64 == number);
    digits.parse().ok().or_else(|| number_of(digits).and_then(whole))
}

/// A name in camelCase, however it is written.
fn camel(name: Cow<'_, str>) -> Cow<'_, str> {
    if !name.contains('_') {
        return name;
    }
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    Cow::Owned(camel)
}

/// JSON text without the white space between its tokens. What is not JSON comes back in some form, too.
pub fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find(['"', ' ', '\n', '\r', '\t']) {
        compact.push_str(&rest[..at]);
        if rest.as_bytes()[at] == b'"' {
            let end = end_of_string(&rest[at..]);
            compact.push_str(&rest[at..at + end]);
            rest = &rest[at + end..];
        } else {
            rest = &rest[at + 1..];
        }
    }
    compact.push_str(rest);
    compact
}

/// How long the string is that a text begins with, its quotes included.
fn end_of_string(text: &str) -> usize {
    let mut at = 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.as_bytes().get(at..).unwrap_or_default()) {
        at += found;
        if text.as_bytes()[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_both_ways_of_writing() {
        let mut names = Vec::new();
        read(br#"{"a_b":1,"systemInstruction":2,"top_k":3,"gone":null}"#, |document| {
            document.members(|name, _| {
                names.push(name.to_owned());
                Ok(())
            })
        })
        .unwrap();
        assert_eq!(names, ["aB", "systemInstruction", "topK"]);
    }

    #[test]
    fn a_wrong_value_is_called_by_its_place() {
        let error = read(br#"{"a":[{"b":1},{"b":[]}]}"#, |document| {
            document.members(|_, list| {
                list.elements(|element| element.members(|_, value| value.number().map(drop)))
            })
        })
        .unwrap_err();
        assert_eq!((&*error.message, error.param.as_deref()), ("`a[1].b` must be a number", Some("a[1].b")));
    }

    #[track_caller]
    fn check_integer(json: &str, expected: Option<i64>) {
        assert_eq!(read(json.as_bytes(), |value| value.integer()).ok(), expected, "{json}");
    }

    #[test]
    fn whole_numbers_may_be_quoted_and_have_a_point() {
        check_integer("-1", Some(-1));
        check_integer(r#""12""#, Some(12));
        check_integer("12.0", Some(12));
        check_integer("12.5", None);
        check_integer("true", None);
        check_integer("9223372036854775807", Some(i64::MAX));
    }

    #[test]
    fn white_space_goes_only_between_tokens() {
        assert_eq!(compact("{ \"a b\" :\n [1, \"c \\\" d\"] }"), r#"{"a b":[1,"c \" d"]}"#);
        assert_eq!(compact("\"\\"), "\"\\");
    }
}
