//! A JSON object as it is written, member after member.

use crate::chat::Raw;
use crate::wire::json::quote;

/// A JSON object as it is written.
#[derive(Debug, Default)]
pub struct Object(Vec<u8>);

impl Object {
    /// Begins a member; its value is to be appended.
    pub fn member(&mut self, name: &str) -> &mut Vec<u8> {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        quote(name, &mut self.0);
        self.0.push(b':');
        &mut self.0
    }

    /// A text.
    pub fn text(&mut self, name: &str, text: &str) {
        quote(text, self.member(name));
    }

    /// A list of texts.
    pub fn texts(&mut self, name: &str, texts: &[String]) {
        let out = self.member(name);
        for (index, text) in texts.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            quote(text, out);
        }
        out.extend_from_slice(if texts.is_empty() { b"[]" } else { b"]" });
    }

    /// A number or a truth value.
    pub fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        let out = self.member(name);
        out.extend_from_slice(value.to_string().as_bytes());
    }

    /// JSON as it is.
    pub fn raw(&mut self, name: &str, json: &Raw) {
        self.member(name).extend_from_slice(json.get().as_bytes());
    }

    /// The members of another object, given as JSON.
    pub fn rest(&mut self, object: &str) {
        let members = object.trim().strip_prefix('{').and_then(|json| json.strip_suffix('}'));
        if let Some(members) = members.filter(|members| !members.trim().is_empty()) {
            self.0.push(if self.0.is_empty() { b'{' } else { b',' });
            self.0.extend_from_slice(members.as_bytes());
        }
    }

    /// Whether it has no member yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole object.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(if self.0.is_empty() { b"{}" } else { b"}" });
        self.0
    }

    /// The whole object, if it has any member.
    pub fn into_raw(self) -> Option<Raw> {
        if self.is_empty() {
            return None;
        }
        String::from_utf8(self.finish()).ok().and_then(Raw::new)
    }
}
