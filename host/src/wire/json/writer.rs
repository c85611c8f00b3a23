//! JSON written by hand, member by member.

use std::borrow::BorrowMut;
use std::fmt::Display;
use std::io::Write as _;

use super::quote;
use crate::chat::{Extra, Raw};

/// An object that is being written, into bytes that are its own or that it borrows.
#[derive(Debug)]
pub struct Writer<O = Vec<u8>> {
    out: O,
    is_empty: bool,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl<O: BorrowMut<Vec<u8>>> Writer<O> {
    /// Begins an object.
    pub fn new(mut out: O) -> Self {
        out.borrow_mut().push(b'{');
        Self { out, is_empty: true }
    }

    /// Begins a member, the value of which the caller appends.
    pub fn member(&mut self, name: &str) -> &mut Vec<u8> {
        let out = self.next();
        quote(name, out);
        out.push(b':');
        out
    }

    /// Writes a text.
    pub fn string(&mut self, name: &str, text: &str) {
        quote(text, self.member(name));
    }

    /// Writes a text, if there is one.
    pub fn string_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.string(name, text);
        }
    }

    /// Writes a list of texts.
    pub fn strings(&mut self, name: &str, texts: &[String]) {
        self.list(name, texts, |text, out| quote(text, out));
    }

    /// Writes JSON text.
    pub fn raw(&mut self, name: &str, json: &str) {
        self.member(name).extend_from_slice(json.as_bytes());
    }

    /// Writes a finite number or a truth value.
    pub fn plain(&mut self, name: &str, value: impl Display) {
        plain(value, self.member(name));
    }

    /// Writes a finite number or a truth value, if there is one.
    pub fn plain_if(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(name, value);
        }
    }

    /// Writes a number that keeps its point where it is whole; null if it is not finite.
    pub fn float(&mut self, name: &str, float: f64) {
        self.raw(name, Raw::of(&float).get());
    }

    /// Writes an object.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) {
        object(self.member(name), write);
    }

    /// Writes a list, each element by `write`.
    pub fn list<T>(
        &mut self,
        name: &str,
        elements: impl IntoIterator<Item = T>,
        write: impl FnMut(T, &mut Vec<u8>),
    ) {
        list(self.member(name), elements, write);
    }

    /// Writes members that rode along.
    pub fn extra(&mut self, extra: &Extra) {
        extra.0.iter().for_each(|(name, value)| self.raw(name, value.get()));
    }

    /// Writes the members of another object, given as JSON text.
    pub fn members_of(&mut self, object: &str) {
        let members = object.trim().strip_prefix('{').and_then(|json| json.strip_suffix('}'));
        if let Some(members) = members.filter(|members| !members.trim().is_empty()) {
            self.next().extend_from_slice(members.as_bytes());
        }
    }

    /// Whether it has no member yet.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Ends the object, and gives back what it was written into.
    pub fn finish(mut self) -> O {
        self.out.borrow_mut().push(b'}');
        self.out
    }

    /// Parts a member from the one before it.
    fn next(&mut self) -> &mut Vec<u8> {
        let out = self.out.borrow_mut();
        if !std::mem::take(&mut self.is_empty) {
            out.push(b',');
        }
        out
    }
}

impl Writer {
    /// The whole object, if it has any member.
    pub fn into_raw(self) -> Option<Raw> {
        if self.is_empty {
            return None;
        }
        String::from_utf8(self.finish()).ok().and_then(Raw::new)
    }
}

/// Writes an object.
pub fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Writer<&mut Vec<u8>>)) {
    let mut writer = Writer::new(out);
    write(&mut writer);
    writer.finish();
}

/// Writes a list, each element by `write`.
pub fn list<T>(
    out: &mut Vec<u8>,
    elements: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(element, out);
    }
    out.push(b']');
}

/// Writes a finite number or a truth value.
pub fn plain(value: impl Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(write: impl FnOnce(&mut Writer), expected: &str) {
        let mut writer = Writer::default();
        write(&mut writer);
        assert_eq!(String::from_utf8(writer.finish()).unwrap(), expected);
    }

    #[test]
    fn members_are_parted_by_commas() {
        check(|_| {}, "{}");
        check(|writer| writer.string("a\"", "\n"), r#"{"a\"":"\n"}"#);
        check(|writer| writer.strings("a", &[]), r#"{"a":[]}"#);
        check(|writer| writer.strings("a", &["b".into(), "c".into()]), r#"{"a":["b","c"]}"#);
        check(|writer| writer.object("a", |inner| inner.plain("b", true)), r#"{"a":{"b":true}}"#);
        check(
            |writer| {
                writer.members_of(" { } ");
                writer.members_of(r#"{"a":1,"b":2}"#);
                writer.float("c", 1.0);
                writer.plain_if("d", Some(2));
                writer.plain_if("e", None::<u64>);
            },
            r#"{"a":1,"b":2,"c":1.0,"d":2}"#,
        );
    }

    #[test]
    fn an_object_without_members_is_no_raw_value() {
        assert!(Writer::default().into_raw().is_none());
    }
}
