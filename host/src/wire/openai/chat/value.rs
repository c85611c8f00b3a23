//! The JSON of a request, read step by step so that whatever is wrong is told with its place.

use std::borrow::Cow;
use std::fmt;

use crate::chat::{Extra, Raw};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner};

/// Where in the request a value stands; written as `messages[3].content`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'p> {
    Root,
    Member(&'p Self, &'p str),
    Element(&'p Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Member(Path::Root, name) => formatter.write_str(name),
            Self::Member(parent, name) => write!(formatter, "{parent}.{name}"),
            Self::Element(parent, index) => write!(formatter, "{parent}[{index}]"),
        }
    }
}

/// A value that has been checked to be JSON, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a, 'p> {
    json: &'a str,
    path: Path<'p>,
}

/// An object, read into its members.
#[derive(Clone, Debug)]
pub(super) struct Object<'a, 'p> {
    members: Vec<(Cow<'a, str>, &'a str)>,
    path: Path<'p>,
}

impl<'a, 'p> Value<'a, 'p> {
    /// Reads a whole request.
    pub(super) fn document(body: &'a [u8]) -> Result<Value<'a, 'static>> {
        let mut scanner = Scanner::new(body);
        let range = scanner.skip().and_then(|range| scanner.end().map(|()| range));
        let range = range.map_err(|error| {
            let (line, column) = error.position(body);
            let message = format!("request is not JSON: {} at line {line} column {column}", error.reason);
            Error::new(ErrorKind::InvalidRequest, message)
        })?;
        Ok(Value { json: scanner.slice(range), path: Path::Root })
    }

    /// Its text as it came.
    pub(super) fn raw(&self) -> Raw {
        Raw::new(self.json).expect("it has been checked to be JSON")
    }

    /// An error about it.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        self.path.error(message)
    }

    /// What it is.
    pub(super) fn kind(&self) -> Kind {
        Scanner::new(self.json.as_bytes()).peek().unwrap_or(Kind::Null)
    }

    /// The string that it has to be.
    pub(super) fn string(&self) -> Result<Cow<'a, str>> {
        let text = Scanner::new(self.json.as_bytes()).string();
        text.map(|text| text.decode()).map_err(|_| self.error("must be a string"))
    }

    /// The truth value that it has to be.
    pub(super) fn boolean(&self) -> Result<bool> {
        match self.json {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.error("must be true or false")),
        }
    }

    /// The count that it has to be; some clients write `12.0`.
    pub(super) fn count(&self) -> Result<u64> {
        let count = Scanner::new(self.json.as_bytes()).count().ok().flatten();
        count.ok_or_else(|| self.error("must be a whole number, 0 or more"))
    }

    /// The whole number that it has to be.
    pub(super) fn integer(&self) -> Result<i64> {
        self.json.parse().map_err(|_| self.error("must be a whole number"))
    }

    /// The number that it has to be.
    pub(super) fn number(&self) -> Result<f64> {
        let number = Some(self.kind()).filter(|kind| *kind == Kind::Number);
        let number = number.and_then(|_| self.json.parse::<f64>().ok()).filter(|number| number.is_finite());
        number.ok_or_else(|| self.error("must be a number"))
    }

    /// The object that it has to be.
    pub(super) fn object(&self) -> Result<Object<'a, 'p>> {
        let mut members = Vec::new();
        let read = Scanner::new(self.json.as_bytes()).object(|scanner, name| {
            let range = scanner.skip()?;
            members.push((name.decode(), scanner.slice(range)));
            Ok(())
        });
        read.map_err(|_| self.error("must be an object"))?;
        Ok(Object { members, path: self.path })
    }

    /// Reads each element of the list that it has to be.
    pub(super) fn each<T>(&self, mut read: impl FnMut(&Value<'a, '_>) -> Result<T>) -> Result<Vec<T>> {
        let mut elements = Vec::new();
        let scanned = Scanner::new(self.json.as_bytes()).array(|scanner| {
            let range = scanner.skip()?;
            elements.push(scanner.slice(range));
            Ok(())
        });
        scanned.map_err(|_| self.error("must be a list"))?;
        let elements = elements.into_iter().enumerate();
        elements.map(|(index, json)| read(&Value { json, path: Path::Element(&self.path, index) })).collect()
    }
}

impl<'a> Object<'a, '_> {
    /// An error about it.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        self.path.error(message)
    }

    /// An error about a member of it, which may not be there.
    pub(super) fn error_at(&self, name: &str, message: impl Into<String>) -> Error {
        Path::Member(&self.path, name).error(message)
    }

    /// A member that is there and not null; the last one of those of a name, as all parsers have it.
    pub(super) fn get<'s>(&'s self, name: &'s str) -> Option<Value<'a, 's>> {
        let (_, json) = self.members.iter().rfind(|(known, _)| known == name)?;
        (*json != "null").then_some(Value { json, path: Path::Member(&self.path, name) })
    }

    /// A member that has to be there.
    pub(super) fn need<'s>(&'s self, name: &'s str) -> Result<Value<'a, 's>> {
        self.get(name).ok_or_else(|| self.error_at(name, "is missing"))
    }

    /// A string, if the member is there.
    pub(super) fn string(&self, name: &str) -> Result<Option<String>> {
        self.get(name).map(|value| value.string().map(Cow::into_owned)).transpose()
    }

    /// A count, if the member is there.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>> {
        self.get(name).map(|value| value.count()).transpose()
    }

    /// A number, if the member is there.
    pub(super) fn number(&self, name: &str) -> Result<Option<f64>> {
        self.get(name).map(|value| value.number()).transpose()
    }

    /// A truth value, if the member is there.
    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.get(name).map(|value| value.boolean()).transpose()
    }

    /// The members that are not among those that have been read. What is null says nothing.
    pub(super) fn extra(&self, read: &[&str]) -> Extra {
        let others =
            self.members.iter().filter(|(name, json)| !read.contains(&name.as_ref()) && *json != "null");
        let raw = |json: &str| Raw::new(json).expect("it has been checked to be JSON");
        Extra(others.map(|(name, json)| (name.clone().into_owned(), raw(json))).collect())
    }
}

impl Path<'_> {
    fn error(&self, message: impl Into<String>) -> Error {
        match self {
            Self::Root => Error::new(ErrorKind::InvalidRequest, format!("request {}", message.into())),
            _ => {
                let place = self.to_string();
                let message = format!("`{place}` {}", message.into());
                Error::invalid(place, message)
            }
        }
    }
}
