//! A JSON value of a request or an answer, and where it stands, for messages.
//!
//! Google's servers read names in camelCase and in snake_case, take numbers in quotes and take null for absent; so is read
//! here. Source: Protocol Buffers documentation, "ProtoJSON Format", seen 2026-11.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner, SyntaxError};

/// A value, not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a, 'p> {
    json: &'a str,
    place: Place<'p>,
}

/// Where a value stands in its document; written only when something is wrong there.
#[derive(Clone, Copy, Debug)]
struct Place<'p> {
    above: Option<&'p Self>,
    step: Step<'p>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'p> {
    Document,
    Member(&'p str),
    Element(usize),
}

impl<'a, 'p> Value<'a, 'p> {
    /// A whole document.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it is not UTF-8.
    pub fn document(body: &'a [u8]) -> Result<Self> {
        let json = simdutf8::basic::from_utf8(body)
            .map_err(|_| Error::new(ErrorKind::InvalidRequest, "the document is not valid UTF-8"))?;
        Ok(Self { json, place: Place { above: None, step: Step::Document } })
    }

    /// The JSON text.
    pub fn json(&self) -> &'a str {
        self.json
    }

    /// What it is; none if it is nothing at all.
    pub fn kind(&self) -> Option<Kind> {
        Scanner::new(self.json.as_bytes()).peek().ok()
    }

    /// Reads the members of an object one after another, by their names in camelCase; those that are null are left out.
    ///
    /// # Errors
    /// It is not an object, or `member` failed.
    pub fn members(&self, mut member: impl FnMut(&str, Value<'a, '_>) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        let mut scanner = Scanner::new(self.json.as_bytes());
        let read = scanner
            .object(|scanner, name| {
                let kind = scanner.peek()?;
                let range = scanner.skip()?;
                if outcome.is_ok() && kind != Kind::Null {
                    let name = camel(name.decode());
                    let place = Place { above: Some(&self.place), step: Step::Member(&name) };
                    outcome = member(&name, Value { json: scanner.slice(range), place });
                }
                Ok(())
            })
            .and_then(|()| scanner.end());
        read.map_err(|error| self.wrong("an object", error))?;
        outcome
    }

    /// Reads the elements of a list one after another.
    ///
    /// # Errors
    /// It is not a list, or `element` failed.
    pub fn elements(&self, mut element: impl FnMut(Value<'a, '_>) -> Result<()>) -> Result<()> {
        let mut outcome = Ok(());
        let mut index = 0;
        let mut scanner = Scanner::new(self.json.as_bytes());
        let read = scanner
            .array(|scanner| {
                let range = scanner.skip()?;
                if outcome.is_ok() {
                    let place = Place { above: Some(&self.place), step: Step::Element(index) };
                    outcome = element(Value { json: scanner.slice(range), place });
                }
                index += 1;
                Ok(())
            })
            .and_then(|()| scanner.end());
        read.map_err(|error| self.wrong("a list", error))?;
        outcome
    }

    /// Reads the elements of a list, or the value itself as the only one.
    ///
    /// # Errors
    /// `element` failed.
    pub fn one_or_more(&self, mut element: impl FnMut(Value<'a, '_>) -> Result<()>) -> Result<()> {
        if self.kind() == Some(Kind::Array) { self.elements(element) } else { element(*self) }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<Cow<'a, str>> {
        let mut scanner = Scanner::new(self.json.as_bytes());
        let text = scanner.string().map_err(|error| self.wrong("a string", error))?;
        Ok(text.decode())
    }

    /// Reads a list of strings, or one of them.
    ///
    /// # Errors
    /// It is neither.
    pub fn texts(&self) -> Result<Vec<String>> {
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
    pub fn number(&self) -> Result<f64> {
        self.digits()
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .ok_or_else(|| self.must_be("a number"))
    }

    /// Reads a whole number; `12.0` is one.
    ///
    /// # Errors
    /// It is none.
    pub fn integer(&self) -> Result<i64> {
        // The cast saturates, and what has a fraction is not equal.
        let whole = |number: f64| Some(number as i64).filter(|integer| *integer as f64 == number);
        let integer = self.digits().parse().ok().or_else(|| self.number().ok().and_then(whole));
        integer.ok_or_else(|| self.must_be("a whole number"))
    }

    /// Reads a whole number that is not below zero.
    ///
    /// # Errors
    /// It is none.
    pub fn count(&self) -> Result<u64> {
        let count = self.integer().ok().and_then(|integer| u64::try_from(integer).ok());
        count.ok_or_else(|| self.must_be("a whole number of at least 0"))
    }

    /// Reads a truth value.
    ///
    /// # Errors
    /// It is none.
    pub fn flag(&self) -> Result<bool> {
        match self.json {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.must_be("true or false")),
        }
    }

    /// An error about this value, which its text calls by its place.
    pub fn must_be(&self, what: &str) -> Error {
        let place = self.place.to_string();
        let message = format!("`{place}` must be {what}");
        Error::invalid(place, message)
    }

    /// An error about this value, in these words.
    pub fn invalid(&self, message: impl Into<String>) -> Error {
        Error::invalid(self.place.to_string(), message)
    }

    /// Where it stands, as in `contents[0].role`.
    pub fn place(&self) -> String {
        self.place.to_string()
    }

    /// The digits of a number, with or without quotes.
    fn digits(&self) -> &'a str {
        self.json.trim_matches('"')
    }

    /// The document is broken here, or this is of another type.
    fn wrong(&self, expected: &str, error: SyntaxError) -> Error {
        let mut scanner = Scanner::new(self.json.as_bytes());
        if scanner.skip().and_then(|_| scanner.end()).is_ok() {
            return self.must_be(expected);
        }
        Error::new(ErrorKind::InvalidRequest, format!("the document is not valid JSON: {}", error.reason))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let above = self.above.filter(|above| !matches!(above.step, Step::Document));
        match (above, self.step) {
            (_, Step::Document) => formatter.write_str("the document"),
            (None, Step::Member(name)) => formatter.write_str(name),
            (None, Step::Element(index)) => write!(formatter, "[{index}]"),
            (Some(above), Step::Member(name)) => write!(formatter, "{above}.{name}"),
            (Some(above), Step::Element(index)) => write!(formatter, "{above}[{index}]"),
        }
    }
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
        let document = Value::document(br#"{"a_b":1,"systemInstruction":2,"top_k":3,"gone":null}"#).unwrap();
        document
            .members(|name, _| {
                names.push(name.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(names, ["aB", "systemInstruction", "topK"]);
    }

    #[test]
    fn a_wrong_value_is_called_by_its_place() {
        let document = Value::document(br#"{"a":[{"b":1},{"b":[]}]}"#).unwrap();
        let read = document
            .members(|_, list| list.elements(|element| element.members(|_, value| value.number().map(drop))));
        let error = read.unwrap_err();
        assert_eq!((&*error.message, error.param.as_deref()), ("`a[1].b` must be a number", Some("a[1].b")));
    }

    #[track_caller]
    fn check_integer(json: &str, expected: Option<i64>) {
        let document = Value::document(json.as_bytes()).unwrap();
        assert_eq!(document.integer().ok(), expected, "{json}");
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
