//! What is to be sent, to whichever upstream takes it, and as each of them gets it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

use crate::auth::Caller;
use crate::budget::Share;
use crate::config::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::plugin::call::Facts;
use crate::plugin::chain::View;
use crate::upstream::{RequestBody, Rest, Upstream, too_slow};
use crate::wire::Endpoint;
use crate::wire::document::Document;
use crate::wire::openai::stream::Rules;
use crate::wire::request::{self, Edits};

/// What is to be sent, to whichever upstream.
pub(crate) struct Job {
    /// The client's method.
    pub(crate) method: Method,
    /// The endpoint; none for a path that is passed on unknown.
    pub(crate) endpoint: Option<Endpoint>,
    /// The path below an upstream's base URL.
    pub(crate) path: Cow<'static, str>,
    /// The query, without credentials.
    pub(crate) query: Option<String>,
    /// The client's headers, without credentials and what concerns one connection only.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) payload: Payload,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The model as the client named it; empty for a path that is passed on.
    pub(crate) model: Arc<str>,
    /// Whether a plugin has to see a whole answer before the client does.
    pub(crate) holds_answer: bool,
    /// The bytes it holds in memory.
    pub(crate) _share: Arc<Share>,
}

/// The body of a request, in the form that lets it be edited and sent again.
pub(crate) enum Payload {
    /// A JSON document.
    Json(request::Request),
    /// A multipart form: what was read of it, where in that the model's name is, and what is still to come.
    Form { head: Bytes, model: Option<Range<usize>>, rest: Option<Rest>, len: Option<u64> },
    /// Bytes nobody looks into.
    Opaque { rest: Option<Rest>, len: Option<u64> },
}

impl Job {
    /// Lends the request to plugins, until [`take_back`](Self::take_back).
    pub(crate) fn lend(&mut self, facts: &Arc<Facts>) -> View {
        let document = match &self.payload {
            Payload::Json(request) => Some(Document::trusted(request.body().clone())),
            Payload::Form { .. } | Payload::Opaque { .. } => None,
        };
        let headers = std::mem::take(&mut self.headers);
        View::new(facts.clone(), self.model.clone(), headers, document)
    }

    /// Takes the request back, with the plugins' edits.
    pub(crate) fn take_back(&mut self, view: View) {
        self.headers = view.headers;
        if let Some(request) = view.request {
            self.model = Arc::from(request.model());
            self.payload = Payload::Json(request);
        }
    }

    /// Whether everything that has to be sent is still there.
    pub(super) fn is_whole(&self) -> bool {
        match &self.payload {
            Payload::Json(_) => true,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => {
                rest.as_ref().is_none_or(Rest::is_whole)
            }
        }
    }

    /// Whether all of it is in memory, so that it can be sent to two upstreams at once.
    pub(super) fn is_in_memory(&self) -> bool {
        match &self.payload {
            Payload::Json(_) => true,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => rest.is_none(),
        }
    }

    /// Whether it asks for a stream, as far as that shows in the request.
    pub(super) fn is_stream(&self) -> bool {
        matches!(&self.payload, Payload::Json(request) if request.is_stream())
    }

    fn body(&self, upstream: &Upstream, model: &str) -> RequestBody {
        let settings = &upstream.settings;
        let known_as =
            settings.models.iter().find(|(name, _)| name == model).map_or(model, |(_, there)| there);
        let alias = (known_as != &*self.model).then_some(known_as);
        match &self.payload {
            Payload::Json(request) => RequestBody::from_segments(request.encode(&Edits {
                model: alias,
                stop: &settings.stop,
                max_tokens: settings.max_tokens,
                extra_body: &settings.extra_body,
                include_usage: settings.include_usage,
                clean: settings.clean,
            })),
            Payload::Form { head, model, rest, len } => {
                let (segments, growth) = match (alias, model) {
                    (Some(alias), Some(range)) => {
                        let new = Bytes::copy_from_slice(alias.as_bytes());
                        let growth = new.len() as i64 - range.len() as i64;
                        (vec![head.slice(..range.start), new, head.slice(range.end..)], growth)
                    }
                    _ => (vec![head.clone()], 0),
                };
                match rest {
                    None => RequestBody::from_segments(segments),
                    Some(rest) => {
                        let len = len.and_then(|len| len.checked_add_signed(growth));
                        RequestBody::streaming(segments, rest.clone(), len)
                    }
                }
            }
            Payload::Opaque { rest: None, .. } => RequestBody::default(),
            Payload::Opaque { rest: Some(rest), len } => RequestBody::streaming([], rest.clone(), *len),
        }
    }

    /// Where the request goes: the path of the base URL, the client's below it, and the client's query.
    pub(super) fn address(&self, upstream: &Upstream) -> Result<Uri> {
        let (mark, query) = self.query.as_deref().map_or(("", ""), |query| ("?", query));
        let address = [&upstream.base_path, &*self.path, mark, query].concat();
        let too_long = |_| Error::new(ErrorKind::InvalidRequest, "the path is too long to be passed on");
        PathAndQuery::try_from(address).map(Uri::from).map_err(too_long)
    }

    /// What the client did wrong while its body was passed on.
    pub(super) fn take_fault(&self) -> Option<Error> {
        match &self.payload {
            Payload::Json(_) => None,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => rest.as_ref()?.take_fault(),
        }
    }

    /// What the client does wrong if it is waited for now: it sends too slowly.
    pub(super) fn slowness(&self) -> Option<Error> {
        match &self.payload {
            Payload::Json(_) => None,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => {
                rest.as_ref().filter(|rest| rest.is_awaited()).map(|_| too_slow())
            }
        }
    }

    pub(super) fn request(
        &self,
        upstream: &Upstream,
        model: &str,
        address: Uri,
        has_keys: bool,
        own: Option<&HeaderValue>,
    ) -> Request<RequestBody> {
        let mut request = Request::new(self.body(upstream, model));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = address;
        let mut headers = self.headers.clone();
        headers.insert(header::HOST, upstream.host.clone());
        if self.endpoint.is_some_and(Endpoint::is_inspected) {
            // An answer that has to be read is cheapest to read as it is.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(credential) = self.credential(upstream, has_keys, own) {
            headers.insert(header::AUTHORIZATION, credential);
        }
        for (name, value) in &upstream.settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        *request.headers_mut() = headers;
        request
    }

    /// The headers for an upstream, and the body if it is in memory as JSON.
    pub(super) fn whole_request(
        &self,
        upstream: &Upstream,
        model: &str,
        address: Uri,
        has_keys: bool,
        own: Option<&HeaderValue>,
    ) -> (HeaderMap, Option<Bytes>) {
        let (head, body) = self.request(upstream, model, address, has_keys, own).into_parts();
        (head.headers, matches!(self.payload, Payload::Json(_)).then(|| body.into_bytes()))
    }

    /// The upstream's own key; the caller's only where there is none and the configuration lets it through.
    fn credential(
        &self,
        upstream: &Upstream,
        has_keys: bool,
        own: Option<&HeaderValue>,
    ) -> Option<HeaderValue> {
        own.cloned().or_else(|| self.callers_key(upstream, has_keys).and_then(|key| super::bearer(key).ok()))
    }

    fn callers_key(&self, upstream: &Upstream, has_keys: bool) -> Option<&Secret> {
        let forwards = upstream.settings.forwards_caller_key || !has_keys;
        self.caller.credential.as_ref().filter(|_| forwards)
    }

    /// Whether an upstream is asked with the caller's key, so that what it says of the key is said of this caller alone.
    pub(super) fn lends_its_key(&self, upstream: &Upstream, has_keys: bool) -> bool {
        let is_configured = upstream.settings.headers.iter().any(|(name, _)| *name == header::AUTHORIZATION);
        let has_own = is_configured || upstream.credential().is_some();
        !has_own && self.callers_key(upstream, has_keys).is_some()
    }

    /// What has to be done to an answer of this upstream.
    pub(super) fn rules(&self, upstream: &Upstream) -> Option<Rules> {
        let endpoint = self.endpoint.filter(|endpoint| endpoint.is_inspected())?;
        let hides_usage = match &self.payload {
            Payload::Json(request) => upstream.settings.include_usage && !request.asks_usage(),
            _ => false,
        };
        Some(Rules {
            endpoint,
            hides_usage,
            special_prefix: upstream.settings.special_prefix.clone(),
            thinking: upstream.settings.thinking_format,
        })
    }
}
