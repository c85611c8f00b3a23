//! The call in flight, played by the kit.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde_json::Value;

use super::{document, messages};
use crate::{Message, Usage};

/// The call in flight, lent for the length of one hook call.
///
/// Headers and document are those of the request as the client sent it; in on-upstream-request those that go to the
/// upstream, in its dialect; in on-response those of the answer. Edits count when the hook returns, and only then.
///
/// Natively it is played by `testkit`.
pub struct Call {
    pub(super) exchange: RefCell<Exchange>,
}

/// What the kit knows of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exchange {
    pub(super) id: String,
    pub(super) tenant: Option<String>,
    pub(super) operation: String,
    pub(super) attempt: u32,
    pub(super) upstream: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) shows_credentials: bool,
    pub(super) document: Option<Value>,
    pub(super) attributes: BTreeMap<String, Vec<u8>>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) usage: Option<Usage>,
    pub(super) elapsed_us: u64,
    /// Whether the document is the answer's; its `model` is not the exchange's then.
    pub(super) is_answer: bool,
    pub(super) model: String,
    pub(super) is_stream: bool,
}

impl Exchange {
    /// The beginning of a chat; the request follows.
    pub(super) fn new() -> Self {
        Self {
            id: "test".to_owned(),
            tenant: None,
            operation: "chat.completions".to_owned(),
            attempt: 0,
            upstream: None,
            headers: Vec::new(),
            shows_credentials: false,
            document: None,
            attributes: BTreeMap::new(),
            tags: BTreeMap::new(),
            usage: None,
            elapsed_us: 0,
            is_answer: false,
            model: String::new(),
            is_stream: false,
        }
    }
}

/// Names that are the host's own: framing, connection, and what identifies the exchange.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "server-timing",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Names that carry credentials, which hooks do not see.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "cookie",
    "set-cookie",
];

impl Call {
    /// Returns the exchange's id, the client's `x-request-id` if it sent a sane one.
    pub fn id(&self) -> String {
        self.exchange.borrow().id.clone()
    }

    /// Returns the caller's tenant.
    pub fn tenant(&self) -> Option<String> {
        self.exchange.borrow().tenant.clone()
    }

    /// Returns `chat.completions`, `completions`, `responses`, `embeddings`, …; `passthrough` for a path nobody knows.
    pub fn operation(&self) -> String {
        self.exchange.borrow().operation.clone()
    }

    /// Returns the model as the client named it, or as a plugin did since; in on-upstream-request the one the upstream is
    /// asked for.
    pub fn model(&self) -> String {
        self.exchange.borrow().model.clone()
    }

    /// Says whether the client asked for a stream.
    pub fn is_stream(&self) -> bool {
        self.exchange.borrow().is_stream
    }

    /// Returns the number of the attempt, from 1; 0 before the first.
    pub fn attempt(&self) -> u32 {
        self.exchange.borrow().attempt
    }

    /// Returns the upstream's name, once there is one.
    pub fn upstream(&self) -> Option<String> {
        self.exchange.borrow().upstream.clone()
    }

    /// Returns the first header of this name in any spelling. Credentials are hidden unless the operator grants them.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all headers, in order, names in lowercase; values that are no UTF-8 are left out.
    pub fn headers(&self) -> Vec<(String, String)> {
        let exchange = self.exchange.borrow();
        let is_shown = |name: &str| exchange.shows_credentials || !CREDENTIALS.contains(&name);
        exchange.headers.iter().filter(|(name, _)| is_shown(name)).cloned().collect()
    }

    /// Replaces all headers of this name by one.
    ///
    /// # Errors
    ///
    /// Says what is wrong with name or value, or that the host reserves the name.
    pub fn set_header(&self, name: &str, value: &str) -> Result<(), String> {
        let name = self.editable(name, value)?;
        let headers = &mut self.exchange.borrow_mut().headers;
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value.to_owned()));
        Ok(())
    }

    /// Removes all headers of this name.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the name, or that the host reserves it.
    pub fn remove_header(&self, name: &str) -> Result<(), String> {
        let name = self.editable(name, "")?;
        self.exchange.borrow_mut().headers.retain(|(known, _)| *known != name);
        Ok(())
    }

    /// Returns the whole JSON document as the host would send it now; empty when there is none (forms, streams, opaque
    /// bodies).
    pub fn body(&self) -> Vec<u8> {
        self.exchange
            .borrow()
            .document
            .as_ref()
            .map(|document| document.to_string().into_bytes())
            .unwrap_or_default()
    }

    /// Returns the length of that in bytes.
    pub fn body_len(&self) -> u64 {
        self.body().len() as u64
    }

    /// Replaces the document.
    ///
    /// # Errors
    ///
    /// Says where it is no JSON.
    pub fn replace_body(&self, json: &[u8]) -> Result<(), String> {
        let document =
            serde_json::from_slice(json).map_err(|error| format!("the document is no JSON: {error}"))?;
        self.edit(|place| {
            *place = document;
            Ok(())
        })
    }

    /// Returns the value at a JSON Pointer (RFC 6901) of the document, as JSON text; `None` if there is no such value.
    /// Reading one field copies that field and nothing else.
    pub fn get(&self, pointer: &str) -> Option<String> {
        document::get(self.exchange.borrow().document.as_ref()?, pointer).map(Value::to_string)
    }

    /// Returns several values at once.
    pub fn get_many(&self, pointers: &[String]) -> Vec<Option<String>> {
        pointers.iter().map(|pointer| self.get(pointer)).collect()
    }

    /// Sets the value at a JSON Pointer to JSON text. Parents that are missing are made as objects; `-` after an array
    /// appends.
    ///
    /// # Errors
    ///
    /// Says what is wrong with pointer or text.
    pub fn set(&self, pointer: &str, json: &str) -> Result<(), String> {
        let value = serde_json::from_str(json)
            .map_err(|error| format!("`{pointer}`: the value is no JSON: {error}"))?;
        self.edit(|place| document::set(place, pointer, value))
    }

    /// Removes the value at a JSON Pointer, and returns whether there was one.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the pointer.
    pub fn remove(&self, pointer: &str) -> Result<bool, String> {
        self.edit(|place| document::remove(place, pointer))
    }

    /// Returns a note that an earlier hook of this plugin left in this exchange, even in another instance.
    pub fn attr(&self, key: &str) -> Option<Vec<u8>> {
        self.exchange.borrow().attributes.get(key).cloned()
    }

    /// Leaves a note for the later hooks of this plugin in this exchange.
    pub fn set_attr(&self, key: &str, value: &[u8]) {
        self.exchange.borrow_mut().attributes.insert(key.to_owned(), value.to_owned());
    }

    /// Labels the exchange, for the access log, the audit and traces. The last value of a key counts.
    pub fn tag(&self, key: &str, value: &str) {
        self.exchange.borrow_mut().tags.insert(key.to_owned(), value.to_owned());
    }

    /// Returns the conversation in the gateway's own terms; empty where the operation has none. A prompt counts as one
    /// `user` message.
    pub fn messages(&self) -> Vec<Message> {
        let exchange = self.exchange.borrow();
        let document = exchange.document.as_ref().filter(|_| !exchange.is_answer);
        document.map(|document| messages::read(&exchange.operation, document)).unwrap_or_default()
    }

    /// Replaces the text of a message; what of it is not text stays.
    ///
    /// # Errors
    ///
    /// Says that there is no such message.
    pub fn set_message(&self, index: u32, text: &str) -> Result<(), String> {
        self.edit_messages(|operation, place| messages::replace(operation, place, index, text))
    }

    /// Inserts a message before the one at `index`; at the number of messages it appends.
    ///
    /// # Errors
    ///
    /// Says that there is no such place, or no conversation.
    pub fn insert_message(&self, index: u32, role: &str, text: &str) -> Result<(), String> {
        self.edit_messages(|operation, place| messages::insert(operation, place, index, role, text))
    }

    /// Removes a message.
    ///
    /// # Errors
    ///
    /// Says that there is no such message.
    pub fn remove_message(&self, index: u32) -> Result<(), String> {
        self.edit_messages(|operation, place| messages::remove(operation, place, index))
    }

    /// Returns the tokens, once the upstream has said them.
    pub fn usage(&self) -> Option<Usage> {
        self.exchange.borrow().usage
    }

    /// Returns the microseconds since the exchange began.
    pub fn elapsed_us(&self) -> u64 {
        self.exchange.borrow().elapsed_us
    }

    /// Changes the conversation, which only requests have.
    fn edit_messages(
        &self,
        change: impl FnOnce(&str, &mut Value) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.exchange.borrow().is_answer {
            return Err("there are no messages here".to_owned());
        }
        let operation = self.operation();
        self.edit(|document| change(&operation, document))
    }

    /// Returns the name of a header that the plugin may set or remove.
    fn editable(&self, name: &str, value: &str) -> Result<String, String> {
        let name = check_header(name, value)?;
        if is_reserved(&name) {
            return Err(format!("the header `{name}` is the gateway's own"));
        }
        if CREDENTIALS.contains(&name.as_str()) && !self.exchange.borrow().shows_credentials {
            return Err(format!("the header `{name}` needs the grant `allow: {{ credentials: true }}`"));
        }
        Ok(name)
    }

    fn edit<R>(&self, change: impl FnOnce(&mut Value) -> Result<R, String>) -> Result<R, String> {
        let mut exchange = self.exchange.borrow_mut();
        let document = exchange.document.as_mut().ok_or("there is no JSON document here")?;
        let mut edited = document.clone();
        let result = change(&mut edited)?;
        *document = edited;
        Ok(result)
    }
}

impl Exchange {
    /// Makes the edits of a hook those that the next one sees; an edited request may name another model.
    pub(super) fn commit(&mut self) {
        let model = self.document.as_ref().and_then(|document| document.get("model")?.as_str());
        if let (Some(model), false) = (model, self.is_answer) {
            self.model = model.to_owned();
        }
    }
}

/// Checks name and value, and returns the name in lowercase.
pub(super) fn check_header(name: &str, value: &str) -> Result<String, String> {
    let lower = name.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("`{}` is no name of a header", name.escape_debug()));
    }
    if value.bytes().any(|byte| byte != b'\t' && (byte < b' ' || byte == 0x7f)) {
        return Err(format!("the value of the header `{lower}` has characters that no header can carry"));
    }
    Ok(lower)
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.starts_with("x-witgate-")
}
