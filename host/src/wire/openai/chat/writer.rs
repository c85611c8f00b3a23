//! JSON written by hand, member by member.

use std::fmt::Display;
use std::io::Write as _;

use crate::chat::Extra;
use crate::wire::json::quote;

/// An object that is being written.
pub(in crate::wire::openai) struct Members<'o> {
    out: &'o mut Vec<u8>,
    is_first: bool,
}

/// Writes an object.
pub(in crate::wire::openai) fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Members<'_>)) {
    out.push(b'{');
    write(&mut Members { out, is_first: true });
    out.push(b'}');
}

/// Writes a list, each element by `write`.
pub(in crate::wire::openai) fn list<T>(
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

/// Writes a number.
pub(in crate::wire::openai) fn number(number: impl Display, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("a vector takes everything");
}

impl Members<'_> {
    /// A member, whose value is written by `write`.
    pub(in crate::wire::openai) fn with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        quote(name, self.out);
        self.out.push(b':');
        write(self.out);
    }

    /// A string.
    pub(in crate::wire::openai) fn string(&mut self, name: &str, text: &str) {
        self.with(name, |out| quote(text, out));
    }

    /// A string, if there is one.
    pub(in crate::wire::openai) fn string_if(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.string(name, text);
        }
    }

    /// JSON text.
    pub(in crate::wire::openai) fn raw(&mut self, name: &str, json: &str) {
        self.with(name, |out| out.extend_from_slice(json.as_bytes()));
    }

    /// A number or a truth value.
    pub(in crate::wire::openai) fn plain(&mut self, name: &str, value: impl Display) {
        self.with(name, |out| number(value, out));
    }

    /// A number or a truth value, if there is one.
    pub(in crate::wire::openai) fn plain_if(&mut self, name: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.plain(name, value);
        }
    }

    /// An object.
    pub(in crate::wire::openai) fn object(&mut self, name: &str, write: impl FnOnce(&mut Members<'_>)) {
        self.with(name, |out| object(out, write));
    }

    /// A list.
    pub(in crate::wire::openai) fn list<T>(
        &mut self,
        name: &str,
        elements: impl IntoIterator<Item = T>,
        write: impl FnMut(T, &mut Vec<u8>),
    ) {
        self.with(name, |out| list(out, elements, write));
    }

    /// Members that rode along.
    pub(in crate::wire::openai) fn extra(&mut self, extra: &Extra) {
        extra.0.iter().for_each(|(name, value)| self.raw(name, value.get()));
    }
}
