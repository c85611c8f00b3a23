//! The members of a JSON object, in the order in which they came and as they were written.

use std::borrow::Cow;

use crate::chat::{Extra, Raw};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::Scanner;

/// The members of an object. What has the wrong type is none, as befits answers; [`Fields`] minds it.
#[derive(Debug, Default)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a str)>);

impl<'a> Members<'a> {
    /// Reads an object; none if the text is another thing.
    pub(super) fn of(json: &'a str) -> Option<Self> {
        let mut members = Vec::with_capacity(8);
        let mut scanner = Scanner::new(json.as_bytes());
        scanner
            .object(|scanner, name| {
                let range = scanner.skip()?;
                members.push((name.decode(), scanner.slice(range)));
                Ok(())
            })
            .ok()?;
        scanner.end().ok()?;
        Some(Self(members))
    }

    /// The JSON text of a member; of several of the name the last, as most readers have it. Null is none.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.0.iter().rfind(|(key, _)| key == name)?;
        Some(found.1).filter(|json| *json != "null")
    }

    /// The same, and it is no longer in the rest.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        let mut json = None;
        while let Some(place) = self.0.iter().position(|(key, _)| key == name) {
            json = Some(self.0.remove(place).1);
        }
        json.filter(|json| *json != "null")
    }

    /// A member that is a string.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        string(self.get(name)?)
    }

    /// A member that is a count.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        count(self.get(name)?)
    }

    /// A member that is an object.
    pub(super) fn object(&self, name: &str) -> Option<Self> {
        Self::of(self.get(name)?)
    }

    /// The elements of a member that is an array; none if it is not.
    pub(super) fn list(&self, name: &str) -> Vec<&'a str> {
        self.get(name).and_then(list).unwrap_or_default()
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> Extra {
        let raw = |(name, json): (Cow<'a, str>, &str)| Some((name.into_owned(), Raw::new(json)?));
        Extra(self.0.into_iter().filter_map(raw).collect())
    }
}

/// The string that a JSON text is.
pub(super) fn string(json: &str) -> Option<Cow<'_, str>> {
    Scanner::new(json.as_bytes()).string().ok().map(|text| text.decode())
}

fn count(json: &str) -> Option<u64> {
    Scanner::new(json.as_bytes()).count().ok().flatten()
}

/// The elements of the array that a JSON text is.
pub(super) fn list(json: &str) -> Option<Vec<&str>> {
    let mut elements = Vec::new();
    let mut scanner = Scanner::new(json.as_bytes());
    scanner
        .array(|scanner| {
            let range = scanner.skip()?;
            elements.push(scanner.slice(range));
            Ok(())
        })
        .ok()?;
    Some(elements)
}

/// The members of an object in a request: what has the wrong type is an error that names the place.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    at: String,
    members: Members<'a>,
}

impl<'a> Fields<'a> {
    /// Reads the body of a request.
    pub(super) fn of_body(body: &'a [u8]) -> Result<Self> {
        let invalid = |message: &str| Error::new(ErrorKind::InvalidRequest, message);
        let json = std::str::from_utf8(body).map_err(|_| invalid("body is not UTF-8"))?;
        let members = Members::of(json).ok_or_else(|| invalid("body must be a JSON object"))?;
        Ok(Self { at: String::new(), members })
    }

    /// Reads the object at a place in the request, for example `input[2]`.
    pub(super) fn of(at: String, json: &'a str) -> Result<Self> {
        match Members::of(json) {
            Some(members) => Ok(Self { at, members }),
            None => Err(wrong(at, "an object")),
        }
    }

    /// Where a member stands in the request.
    pub(super) fn place(&self, name: &str) -> String {
        if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) }
    }

    /// Takes a member as it was written; null is none, here and below.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a str> {
        self.members.take(name)
    }

    /// Whether there is such a member.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.get(name).is_some()
    }

    /// Takes a string.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>> {
        self.typed(name, "a string", |json| string(json).map(Cow::into_owned))
    }

    /// Takes a string that must be there.
    pub(super) fn required_text(&mut self, name: &str) -> Result<String> {
        let text = self.text(name)?;
        text.ok_or_else(|| self.missing(name))
    }

    /// Takes a boolean.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        self.typed(name, "a boolean", |json| json.parse().ok())
    }

    /// Takes a count.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>> {
        self.typed(name, "a whole number from 0", count)
    }

    /// Takes a number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>> {
        self.typed(name, "a number", |json| serde_json::from_str(json).ok())
    }

    /// Takes an array, each element with its place.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<(String, &'a str)>> {
        let place = self.place(name);
        let elements = self.typed(name, "an array", list)?.unwrap_or_default();
        let placed = |(index, json)| (format!("{place}[{index}]"), json);
        Ok(elements.into_iter().enumerate().map(placed).collect())
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>> {
        let place = self.place(name);
        self.take(name).map(|json| Self::of(place, json)).transpose()
    }

    /// Takes an object as it was written.
    pub(super) fn raw_object(&mut self, name: &str) -> Result<Option<Raw>> {
        self.typed(name, "an object", |json| json.starts_with('{').then(|| Raw::new(json))?)
    }

    /// What nobody has taken.
    pub(super) fn rest(self) -> Extra {
        self.members.rest()
    }

    /// The error that a member is missing.
    pub(super) fn missing(&self, name: &str) -> Error {
        let place = self.place(name);
        let message = format!("`{place}` is missing");
        Error::invalid(place, message)
    }

    /// The error that a member, of which `what` says what is wrong, is not right.
    pub(super) fn invalid(&self, name: &str, what: &str) -> Error {
        let place = self.place(name);
        let message = format!("`{place}` {what}");
        Error::invalid(place, message)
    }

    fn typed<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(json) = self.take(name) else { return Ok(None) };
        read(json).map(Some).ok_or_else(|| wrong(self.place(name), expected))
    }
}

/// The error that what stands at a place is of another type than expected.
pub(super) fn wrong(place: String, expected: &str) -> Error {
    let message = format!("`{place}` must be {expected}");
    Error::invalid(place, message)
}
