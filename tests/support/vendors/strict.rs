//! Reads a request as strictly as the vendors do: what is not known is refused.

use serde_json::Value;

use crate::Received;

/// Why a request is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The member that is wrong.
    pub path: Option<String>,
    /// What a person reads.
    pub message: String,
}

pub(super) type Read<T> = Result<T, Refusal>;

impl Refusal {
    /// A member is wrong.
    pub fn new(path: &str, message: &str) -> Self {
        Self { status: 400, path: Some(path.to_owned()), message: format!("{path}: {message}") }
    }

    /// The caller is not known.
    pub fn unauthorized(message: &str) -> Self {
        Self { status: 401, path: None, message: message.to_owned() }
    }

    /// There is no such path.
    pub fn not_found(path: &str) -> Self {
        Self { status: 404, path: None, message: format!("there is no {path}") }
    }
}

/// The body of a request, if it is JSON and says so.
pub(super) fn body(request: &Received) -> Read<Value> {
    if request.method != "POST" {
        return Err(Refusal { status: 405, ..Refusal::new("method", "must be POST") });
    }
    if !request.header("content-type").is_some_and(|value| value.starts_with("application/json")) {
        return Err(Refusal::new("content-type", "must be application/json"));
    }
    serde_json::from_slice(&request.body).map_err(|error| Refusal::new("body", &error.to_string()))
}

/// Refuses a request with a header that is for another vendor: that would be a leak.
pub(super) fn without(request: &Received, headers: &[&str]) -> Read<()> {
    match headers.iter().find(|name| request.header(name).is_some()) {
        Some(name) => Err(Refusal::new(name, "is a header of another vendor's")),
        None => Ok(()),
    }
}

/// A value of a request, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node<'a> {
    pub(super) value: &'a Value,
    pub(super) path: String,
}

impl<'a> Node<'a> {
    /// The whole of it.
    pub(super) fn root(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    /// A refusal of this value.
    pub(super) fn wrong(&self, message: &str) -> Refusal {
        Refusal::new(if self.path.is_empty() { "body" } else { &self.path }, message)
    }

    fn below(&self, name: &str, value: &'a Value) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { value, path }
    }

    /// Refuses what is no object, and members that are not among these.
    pub(super) fn only(&self, names: &[&str]) -> Read<()> {
        let object = self.value.as_object().ok_or_else(|| self.wrong("must be an object"))?;
        match object.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            Some((name, value)) => Err(self.below(name, value).wrong("extra members are not permitted")),
            None => Ok(()),
        }
    }

    /// A member; null is as good as none.
    pub(super) fn at(&self, name: &str) -> Option<Self> {
        self.value.get(name).filter(|value| !value.is_null()).map(|value| self.below(name, value))
    }

    /// A member that has to be there.
    pub(super) fn need(&self, name: &str) -> Read<Self> {
        self.at(name).ok_or_else(|| self.below(name, self.value).wrong("field required"))
    }

    /// A text.
    pub(super) fn text(&self) -> Read<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong("must be a string"))
    }

    /// A text that is not empty.
    pub(super) fn words(&self) -> Read<&'a str> {
        Some(self.text()?).filter(|text| !text.is_empty()).ok_or_else(|| self.wrong("must not be empty"))
    }

    /// A text of a member, which has to be there.
    pub(super) fn word(&self, name: &str) -> Read<String> {
        Ok(self.need(name)?.words()?.to_owned())
    }

    /// One of these words.
    pub(super) fn one_of(&self, words: &[&str]) -> Read<&'a str> {
        let word = self.text()?;
        if words.contains(&word) { Ok(word) } else { Err(self.wrong(&format!("must be one of {words:?}"))) }
    }

    /// A number within bounds.
    pub(super) fn number(&self, least: f64, most: f64) -> Read<f64> {
        let number = self.value.as_f64().ok_or_else(|| self.wrong("must be a number"))?;
        let is_within = (least..=most).contains(&number);
        if is_within { Ok(number) } else { Err(self.wrong(&format!("must be between {least} and {most}"))) }
    }

    /// A whole number that is not below `least`.
    pub(super) fn count(&self, least: u64) -> Read<u64> {
        let number = self.value.as_u64().ok_or_else(|| self.wrong("must be an integer"))?;
        if number >= least { Ok(number) } else { Err(self.wrong(&format!("must be {least} or more"))) }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Read<bool> {
        self.value.as_bool().ok_or_else(|| self.wrong("must be a boolean"))
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Read<Vec<Self>> {
        let items = self.value.as_array().ok_or_else(|| self.wrong("must be a list"))?;
        Ok(items.iter().enumerate().map(|(place, item)| self.below(&place.to_string(), item)).collect())
    }

    /// The items of a list that has some.
    pub(super) fn some_items(&self) -> Read<Vec<Self>> {
        Some(self.items()?).filter(|items| !items.is_empty()).ok_or_else(|| self.wrong("must not be empty"))
    }

    /// An object.
    pub(super) fn object(&self) -> Read<&'a Value> {
        if self.value.is_object() { Ok(self.value) } else { Err(self.wrong("must be an object")) }
    }

    /// A name of letters, digits, `_` and `-`, and what else is allowed.
    pub(super) fn name(&self, length_max: usize, others: &str) -> Read<&'a str> {
        let name = self.words()?;
        let is_known =
            |letter: char| letter.is_ascii_alphanumeric() || "_-".contains(letter) || others.contains(letter);
        if name.len() <= length_max && name.chars().all(is_known) {
            Ok(name)
        } else {
            Err(self.wrong("must be a name"))
        }
    }

    /// Base64 that is not empty.
    pub(super) fn base64(&self) -> Read<&'a str> {
        let text = self.words()?;
        if is_base64(text) { Ok(text) } else { Err(self.wrong("must be base64")) }
    }

    /// The same, which may be of the alphabet for URLs; it comes in the other one.
    pub(super) fn base64_of_any_alphabet(&self) -> Read<String> {
        let text = self.words()?.replace('-', "+").replace('_', "/");
        if is_base64(&text) { Ok(text) } else { Err(self.wrong("must be base64")) }
    }
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}
