//! The JSON of a request, read step by step so that whatever is wrong is told with its place.

use std::borrow::Cow;

use super::members::{Members, count, elements, text};
use super::place::Place;
use super::{Kind, Scanner};
use crate::chat::{Extra, Raw};
use crate::error::{Error, ErrorKind, Result};

/// A value of a document, and where it stands there.
#[derive(Clone, Copy, Debug)]
pub struct Value<'a, 'p> {
    /// JSON, from its first byte to its last.
    json: &'a str,
    place: Place<'p>,
}

/// The members of an object, and where it stands. What has the wrong type is an error.
#[derive(Clone, Debug, Default)]
pub struct Object<'a, 'p> {
    members: Members<'a>,
    place: Place<'p>,
}

impl<'a, 'p> Value<'a, 'p> {
    /// Checks that a whole request is JSON.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with line and column if it is not.
    pub fn document(body: &'a [u8]) -> Result<Value<'a, 'static>> {
        let mut scanner = Scanner::new(body);
        let range = scanner.skip().and_then(|range| scanner.end().map(|()| range));
        let range = range.map_err(|error| {
            let (line, column) = error.position(body);
            let message = format!("request is not JSON: {} at line {line} column {column}", error.reason);
            Error::new(ErrorKind::InvalidRequest, message)
        })?;
        Ok(Value::of(scanner.slice(range)))
    }

    /// Takes over JSON that was checked elsewhere, as a document of its own.
    pub fn of(json: &'a str) -> Value<'a, 'static> {
        Value { json, place: Place::Document }
    }

    /// Its text as it came.
    pub fn json(&self) -> &'a str {
        self.json
    }

    /// The same, to be kept.
    ///
    /// # Errors
    /// It was not checked and is no JSON.
    pub fn raw(&self) -> Result<Raw> {
        Raw::new(self.json).ok_or_else(|| self.error("must be valid JSON"))
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        Scanner::over(self.json).peek().unwrap_or(Kind::Null)
    }

    /// An error about it, which goes on after its name: `must be …`.
    pub fn error(&self, message: impl AsRef<str>) -> Error {
        self.place.error(message.as_ref())
    }

    /// An error about it, in these words.
    pub fn invalid(&self, message: impl Into<String>) -> Error {
        Error::invalid(self.place.to_string(), message)
    }

    /// An error about a member of an element of it, in these words.
    pub fn invalid_at(&self, index: usize, name: &str, message: impl Into<String>) -> Error {
        let element = Place::Element(&self.place, index);
        Error::invalid(Place::Member(&element, name).to_string(), message)
    }

    /// The text that it has to be.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<Cow<'a, str>> {
        text(self.json).ok_or_else(|| self.error("must be a string"))
    }

    /// The same as a text of its own.
    ///
    /// # Errors
    /// It is none.
    pub fn string(&self) -> Result<String> {
        self.text().map(Cow::into_owned)
    }

    /// The truth value that it has to be.
    ///
    /// # Errors
    /// It is none.
    pub fn boolean(&self) -> Result<bool> {
        self.json.parse().map_err(|_| self.error("must be true or false"))
    }

    /// The count that it has to be; some write `12.0`.
    ///
    /// # Errors
    /// It is none.
    pub fn count(&self) -> Result<u64> {
        count(self.json).ok_or_else(|| self.error("must be a whole number, 0 or more"))
    }

    /// The whole number that it has to be.
    ///
    /// # Errors
    /// It is none.
    pub fn integer(&self) -> Result<i64> {
        self.json.parse().map_err(|_| self.error("must be a whole number"))
    }

    /// The number that it has to be.
    ///
    /// # Errors
    /// It is none, or too large for one.
    pub fn number(&self) -> Result<f64> {
        let number = Some(self.json).filter(|_| self.kind() == Kind::Number);
        let number = number.and_then(|json| json.parse::<f64>().ok()).filter(|number| number.is_finite());
        number.ok_or_else(|| self.error("must be a number"))
    }

    /// The object that it has to be.
    ///
    /// # Errors
    /// It is none.
    pub fn object(&self) -> Result<Object<'a, 'p>> {
        let members = Members::of(self.json).ok_or_else(|| self.error("must be an object"))?;
        Ok(Object { members, place: self.place })
    }

    /// The JSON of the object that it has to be.
    ///
    /// # Errors
    /// It is none.
    pub fn raw_object(&self) -> Result<Raw> {
        if self.kind() == Kind::Object { self.raw() } else { Err(self.error("must be an object")) }
    }

    /// Reads each element of the list that it has to be.
    ///
    /// # Errors
    /// It is none, or `read` failed.
    pub fn each<T>(&self, mut read: impl FnMut(&Value<'a, '_>) -> Result<T>) -> Result<Vec<T>> {
        let elements = elements(self.json).ok_or_else(|| self.error("must be a list"))?;
        let elements = elements.into_iter().enumerate();
        elements
            .map(|(index, json)| read(&Value { json, place: Place::Element(&self.place, index) }))
            .collect()
    }
}

impl<'a> Object<'a, '_> {
    /// An error about it, which goes on after its name: `must be …`.
    pub fn error(&self, message: impl AsRef<str>) -> Error {
        self.place.error(message.as_ref())
    }

    /// An error about a member of it, which may not be there.
    pub fn error_at(&self, name: &str, message: impl AsRef<str>) -> Error {
        Place::Member(&self.place, name).error(message.as_ref())
    }

    /// An error about a member of it, in these words.
    pub fn invalid_at(&self, name: &str, message: impl Into<String>) -> Error {
        Error::invalid(Place::Member(&self.place, name).to_string(), message)
    }

    /// Whether a member is there; it stays among the rest.
    pub fn has(&self, name: &str) -> bool {
        self.members.has(name)
    }

    /// A member that is there.
    pub fn get<'s>(&'s self, name: &'s str) -> Option<Value<'a, 's>> {
        let json = self.members.get(name)?;
        Some(Value { json, place: Place::Member(&self.place, name) })
    }

    /// A member that has to be there.
    ///
    /// # Errors
    /// It is not.
    pub fn need<'s>(&'s self, name: &'s str) -> Result<Value<'a, 's>> {
        self.get(name).ok_or_else(|| self.error_at(name, "is missing"))
    }

    /// A text, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>> {
        self.get(name).map(|value| value.text()).transpose()
    }

    /// The same as a text of its own.
    ///
    /// # Errors
    /// It is none.
    pub fn string(&self, name: &str) -> Result<Option<String>> {
        self.get(name).map(|value| value.string()).transpose()
    }

    /// A count, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn count(&self, name: &str) -> Result<Option<u64>> {
        self.get(name).map(|value| value.count()).transpose()
    }

    /// A number, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, name: &str) -> Result<Option<f64>> {
        self.get(name).map(|value| value.number()).transpose()
    }

    /// A truth value, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>> {
        self.get(name).map(|value| value.boolean()).transpose()
    }

    /// An object, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn object<'s>(&'s self, name: &'s str) -> Result<Option<Object<'a, 's>>> {
        self.get(name).map(|value| value.object()).transpose()
    }

    /// The JSON of an object, if the member is there.
    ///
    /// # Errors
    /// It is none.
    pub fn raw_object(&self, name: &str) -> Result<Option<Raw>> {
        self.get(name).map(|value| value.raw_object()).transpose()
    }

    /// The elements of a list; none if the member is not there.
    ///
    /// # Errors
    /// It is no list.
    pub fn list<'s>(&'s self, name: &'s str) -> Result<Vec<Value<'a, 's>>> {
        let Some(list) = self.get(name) else { return Ok(Vec::new()) };
        let elements =
            elements(list.json).ok_or_else(|| list.error("must be a list"))?.into_iter().enumerate();
        let place = |index| Place::ElementOf(&self.place, name, index);
        Ok(elements.map(|(index, json)| Value { json, place: place(index) }).collect())
    }

    /// The members that nobody has asked for and that are not of these names.
    pub fn rest(&self, but: &[&str]) -> Extra {
        self.members.rest(but)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_error<T>(result: Result<T>, param: &str, message: &str) {
        let error = result.err().unwrap();
        assert_eq!((error.param.as_deref().unwrap_or(""), &*error.message), (param, message));
    }

    #[test]
    fn errors_name_the_place() {
        let document = Value::document(br#"{"a":[{"b":{"c":1}}]}"#).unwrap().object().unwrap();
        let b = document.list("a").unwrap()[0].object().unwrap();
        let inner = b.object("b").unwrap().unwrap();
        check_error(inner.text("c"), "a[0].b.c", "`a[0].b.c` must be a string");
        check_error(inner.need("d"), "a[0].b.d", "`a[0].b.d` is missing");
        check_error(Value::of("1").object(), "", "request must be an object");
        check_error(
            document.need("a").unwrap().each(|value| value.count()),
            "a[0]",
            "`a[0]` must be a whole number, 0 or more",
        );
    }
}
