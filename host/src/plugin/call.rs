//! The exchange as one hook sees it: what it may read, and what it has edited.
//!
//! It is moved into the store for the time of a hook and taken out again after. What the hook edits is noted, so that a
//! fault leaves everything as it was.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::chat::Usage;
use crate::config::secret::Secret;
use crate::exchange::Tags;
use crate::headers;
use crate::wire::Endpoint;
use crate::wire::document::Document;

/// The most bytes of notes a plugin keeps for one exchange, keys included.
const ATTRS_BYTES_MAX: usize = 64 << 10;
/// How many bytes a hook can add to a document beyond twice what it had.
const DOCUMENT_ADDED_MAX: usize = 4 << 20;
/// The most bytes of all headers that a plugin can leave behind.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// The most headers a plugin can leave behind.
const HEADERS_MAX: usize = 256;

/// What a hook is told that can edit nothing.
const READ_ONLY: &str = "nothing can be edited in this hook";

/// What does not change during an exchange.
pub(crate) struct Facts {
    /// The exchange's id.
    pub(crate) id: String,
    /// The caller's tenant.
    pub(crate) tenant: Option<Arc<str>>,
    /// The endpoint; none for a path nobody knows.
    pub(crate) endpoint: Option<Endpoint>,
    /// Whether the client asked for a stream.
    pub(crate) is_stream: bool,
    /// When it began.
    pub(crate) started: Instant,
    /// The caller's credential; only plugins that are granted it see it.
    pub(crate) credential: Option<Secret>,
}

impl Facts {
    /// The endpoint's name.
    pub(crate) fn operation(&self) -> &'static str {
        self.endpoint.map_or("passthrough", Endpoint::label)
    }
}

/// Notes of one plugin for its later hooks.
#[derive(Clone, Default)]
pub(crate) struct Attrs(Vec<(String, Vec<u8>)>);

impl Attrs {
    pub(crate) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    }

    /// Leaves a note; one that is over the bound is dropped.
    pub(crate) fn set(&mut self, key: String, value: Vec<u8>) {
        self.0.retain(|(known, _)| *known != key);
        let used: usize = self.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        if used + key.len() + value.len() <= ATTRS_BYTES_MAX {
            self.0.push((key, value));
        }
    }
}

/// The exchange as one hook sees it.
pub(crate) struct Call {
    pub(crate) facts: Arc<Facts>,
    pub(crate) model: Arc<str>,
    pub(crate) attempt: u32,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) headers: HeaderMap,
    pub(crate) document: Option<Document>,
    /// Whose words the document is in; none for a path nobody knows.
    pub(crate) endpoint: Option<Endpoint>,
    /// Whether the document is a request, so that it has messages.
    pub(crate) has_messages: bool,
    pub(crate) usage: Option<Usage>,
    pub(crate) attrs: Attrs,
    pub(crate) tags: Tags,
    /// Whether the hook may only look.
    pub(crate) is_read_only: bool,
    /// Whether the plugin may see and set credentials.
    pub(crate) shows_credentials: bool,
    /// What the headers were before the first edit.
    headers_before: Option<HeaderMap>,
    /// What the document was before the first edit.
    document_before: Option<Document>,
}

/// What of a call a hook has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edited {
    pub(crate) headers: bool,
    pub(crate) document: bool,
}

impl Call {
    pub(crate) fn new(
        facts: Arc<Facts>,
        model: Arc<str>,
        headers: HeaderMap,
        document: Option<Document>,
    ) -> Self {
        Self {
            endpoint: facts.endpoint,
            facts,
            model,
            attempt: 0,
            upstream: None,
            headers,
            document,
            has_messages: true,
            usage: None,
            attrs: Attrs::default(),
            tags: Tags::default(),
            is_read_only: false,
            shows_credentials: false,
            headers_before: None,
            document_before: None,
        }
    }

    /// Whether the document was changed since the last commit.
    pub(crate) fn has_edited_document(&self) -> bool {
        self.document_before.is_some()
    }

    /// What was changed, and from now on is how it is.
    pub(crate) fn commit(&mut self) -> Edited {
        Edited {
            headers: self.headers_before.take().is_some(),
            document: self.document_before.take().is_some(),
        }
    }

    /// Takes every edit back.
    pub(crate) fn roll_back(&mut self) {
        if let Some(before) = self.headers_before.take() {
            self.headers = before;
        }
        if let Some(before) = self.document_before.take() {
            self.document = Some(before);
        }
        self.tags = Tags::default();
    }

    /// The value of a header the plugin may see.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let name = HeaderName::try_from(name).ok()?;
        if is_credential(&name) {
            if !self.shows_credentials {
                return None;
            }
            if name == header::AUTHORIZATION && !self.headers.contains_key(&name) {
                return self.facts.credential.as_ref().map(|key| format!("Bearer {}", key.expose()));
            }
        }
        self.headers.get(name)?.to_str().ok().map(str::to_owned)
    }

    /// All headers the plugin may see.
    pub(crate) fn visible_headers(&self) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = self
            .headers
            .iter()
            .filter(|(name, _)| self.shows_credentials || !is_credential(name))
            .filter_map(|(name, value)| {
                let value = std::str::from_utf8(value.as_bytes()).ok()?;
                Some((name.as_str().to_owned(), value.to_owned()))
            })
            .collect();
        if self.shows_credentials
            && let Some(value) =
                self.header("authorization").filter(|_| !self.headers.contains_key("authorization"))
        {
            all.push(("authorization".to_owned(), value));
        }
        all
    }

    /// Sets a header.
    ///
    /// # Errors
    ///
    /// What is wrong with name or value.
    pub(crate) fn set_header(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = self.editable(name)?;
        let value = HeaderValue::try_from(value).map_err(|_| {
            format!("the value of the header `{name}` has characters that no header can carry")
        })?;
        let size: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size + name.as_str().len() + value.len() > HEADER_BYTES_MAX {
            return Err(format!("the headers would have more than {HEADER_BYTES_MAX} bytes"));
        }
        let headers = self.edit_headers();
        if headers.len() >= HEADERS_MAX && !headers.contains_key(&name) {
            return Err(format!("there are {HEADERS_MAX} headers, the most there can be"));
        }
        headers.insert(name, value);
        Ok(())
    }

    /// Removes a header.
    ///
    /// # Errors
    ///
    /// What is wrong with the name.
    pub(crate) fn remove_header(&mut self, name: &str) -> Result<(), String> {
        let name = self.editable(name)?;
        if self.headers.contains_key(&name) {
            self.edit_headers().remove(name);
        }
        Ok(())
    }

    fn editable(&self, name: &str) -> Result<HeaderName, String> {
        if self.is_read_only {
            return Err(READ_ONLY.to_owned());
        }
        let name = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
        if headers::is_reserved(&name) {
            return Err(format!("the header `{name}` is the gateway's own"));
        }
        if is_credential(&name) && !self.shows_credentials {
            return Err(format!("the header `{name}` needs the grant `allow: {{ credentials: true }}`"));
        }
        Ok(name)
    }

    fn edit_headers(&mut self) -> &mut HeaderMap {
        if self.headers_before.is_none() {
            self.headers_before = Some(self.headers.clone());
        }
        &mut self.headers
    }

    /// The JSON text at a pointer of the document.
    pub(crate) fn value(&self, pointer: &str) -> Option<String> {
        self.document.as_ref()?.get(pointer).ok().flatten().map(str::to_owned)
    }

    /// Edits the conversation.
    ///
    /// # Errors
    ///
    /// What the edit says, or that there is no conversation.
    pub(crate) fn edit_messages(
        &mut self,
        edit: impl FnOnce(Endpoint, &mut Document) -> Result<(), String>,
    ) -> Result<(), String> {
        let endpoint = self.endpoint.filter(|_| self.has_messages).ok_or("there are no messages here")?;
        edit(endpoint, self.edit_document()?)
    }

    /// The document, to be edited.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn edit_document(&mut self) -> Result<&mut Document, String> {
        if self.is_read_only {
            return Err(READ_ONLY.to_owned());
        }
        let document = self.document.as_mut().ok_or("there is no JSON document here")?;
        let before = self.document_before.get_or_insert_with(|| document.clone());
        let bytes_max = before.bytes().len() * 2 + DOCUMENT_ADDED_MAX;
        if document.bytes().len() > bytes_max {
            return Err(format!("the document has grown to more than {bytes_max} bytes"));
        }
        Ok(document)
    }
}

/// Whether a header carries a credential, in either direction.
fn is_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "proxy-authorization"
            | "x-api-key"
            | "x-goog-api-key"
            | "api-key"
            | "cookie"
            | "set-cookie"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let facts = Facts {
            id: "1".to_owned(),
            tenant: None,
            endpoint: Some(Endpoint::ChatCompletions),
            is_stream: false,
            started: Instant::now(),
            credential: Some(Secret::new("sk-1")),
        };
        let headers = HeaderMap::from_iter([
            (HeaderName::from_static("x-a"), HeaderValue::from_static("1")),
            (header::SET_COOKIE, HeaderValue::from_static("s=1")),
        ]);
        let document = Document::new(bytes::Bytes::from_static(br#"{"a":1}"#)).unwrap();
        Call::new(Arc::new(facts), "m".into(), headers, Some(document))
    }

    #[test]
    fn a_fault_leaves_everything_as_it_was() {
        let mut call = call();
        call.set_header("x-a", "2").unwrap();
        call.remove_header("X-A").unwrap();
        call.edit_document().unwrap().set("/a", "2").unwrap();
        call.tags.set("k".to_owned(), "v".to_owned());
        call.roll_back();
        assert_eq!(call.header("x-a").as_deref(), Some("1"));
        assert_eq!(call.document.as_ref().unwrap().get("/a"), Ok(Some("1")));
        assert_eq!(call.tags.iter().count(), 0);
        assert_eq!(call.commit(), Edited::default());
    }

    #[test]
    fn what_was_edited_is_known() {
        let mut call = call();
        call.remove_header("x-b").unwrap();
        assert_eq!(call.commit(), Edited::default());
        call.set_header("x-b", "1").unwrap();
        assert_eq!(call.commit(), Edited { headers: true, document: false });
        call.edit_document().unwrap().set("/b", "1").unwrap();
        assert_eq!(call.commit(), Edited { headers: false, document: true });
    }

    #[test]
    fn credentials_are_seen_and_set_only_where_they_are_granted() {
        let mut call = call();
        for name in ["authorization", "Set-Cookie", "x-api-key", "cookie"] {
            assert_eq!(call.header(name), None, "{name}");
            assert!(call.set_header(name, "1").unwrap_err().contains("credentials"), "{name}");
        }
        assert_eq!(call.visible_headers(), [("x-a".to_owned(), "1".to_owned())]);
        call.shows_credentials = true;
        assert_eq!(call.header("authorization").as_deref(), Some("Bearer sk-1"));
        assert_eq!(call.visible_headers().len(), 3);
        call.set_header("authorization", "Bearer x").unwrap();
        assert_eq!(call.header("authorization").as_deref(), Some("Bearer x"));
    }

    #[test]
    fn a_header_that_cannot_be_is_told() {
        let mut call = call();
        for (name, value) in
            [("a b", "1"), ("", "1"), ("x-a", "1\n2"), ("content-length", "3"), ("host", "a")]
        {
            assert!(call.set_header(name, value).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn notes_are_bounded() {
        let mut attrs = Attrs::default();
        attrs.set("a".to_owned(), vec![0; ATTRS_BYTES_MAX]);
        assert_eq!(attrs.get("a"), None);
        attrs.set("a".to_owned(), vec![1]);
        attrs.set("a".to_owned(), vec![2]);
        assert_eq!(attrs.get("a"), Some(vec![2]));
    }
}
