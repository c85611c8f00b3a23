//! What is to be sent, to whichever upstream takes it, and as each of them gets it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri};

use crate::auth::Caller;
use crate::budget::Share;
use crate::config::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::headers;
use crate::percent;
use crate::plugin::call::Facts;
use crate::plugin::chain::View;
use crate::upstream::dispatch::Edits;
use crate::upstream::translation::{Translation, Words, edits};
use crate::upstream::{RequestBody, Rest, Upstream, credential_header, state_version, too_slow};
use crate::wire::convert::{Asked, EffortBudgets, other};
use crate::wire::document::Document;
use crate::wire::openai::stream::Rules;
use crate::wire::rename::Rename;
use crate::wire::request;
use crate::wire::usage::Estimate;
use crate::wire::{Dialect, Endpoint};

/// What is to be sent, to whichever upstream.
pub(crate) struct Job {
    /// The client's method.
    pub(crate) method: Method,
    /// The endpoint; none for a path that is passed on unknown.
    pub(crate) endpoint: Option<Endpoint>,
    /// The path below the base URL of an upstream that speaks the client's dialect; where the model is in the path, as the
    /// client named it there.
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
    /// The model as the client named it, whatever plugins made of that.
    pub(crate) known_as: Arc<str>,
    /// The exchange, in letters and digits.
    pub(crate) id: Arc<str>,
    /// When it began, in seconds since 1970.
    pub(crate) created_unix_s: u64,
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
        let mut view = View::new(facts.clone(), self.model.clone(), headers, document);
        if let Payload::Json(request) = &self.payload {
            view.original = Some(request.clone());
        }
        view
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

    /// Where an upstream is asked; none if its dialect has nothing like what the client asks for. For a path that is passed
    /// on unknown that is no endpoint at all.
    pub(super) fn endpoint_at(&self, upstream: &Upstream) -> Option<Option<Endpoint>> {
        let Some(endpoint) = self.endpoint else { return Some(None) };
        let settings = &upstream.settings;
        let there = endpoint.at(settings.dialect, settings.has_responses)?;
        // Only what is in memory as JSON can be put into other words.
        (there == endpoint || matches!(self.payload, Payload::Json(_))).then_some(Some(there))
    }

    /// The answer to a request for a count of tokens where no upstream can count: an estimate.
    pub(super) fn own_count(&self) -> Option<Bytes> {
        let client = self.endpoint.filter(|endpoint| endpoint.is_count())?;
        let Payload::Json(request) = &self.payload else { return None };
        let mut estimate = Estimate::default();
        estimate.add_request(request.body());
        Some(other::count(client, estimate.tokens()))
    }

    /// What a client is told whose request an upstream's dialect has nothing like.
    pub(super) fn unserved(&self, upstream: &Upstream) -> Error {
        let (endpoint, dialect) =
            (self.endpoint.map_or("-", Endpoint::label), upstream.settings.dialect.label());
        let message =
            format!("the upstreams of `{}` speak {dialect}, which has nothing like `{endpoint}`", self.model);
        Error::new(ErrorKind::InvalidRequest, message)
    }

    /// The request in the words of an upstream that does not speak the client's; none for one that does.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` when the request makes no sense, `Inexpressible` when the upstream's dialect has no words for it.
    pub(super) fn translation(
        &self,
        upstream: &Upstream,
        model: &str,
        budgets: EffortBudgets,
    ) -> Result<Option<Translation>> {
        let (Some(client), Payload::Json(request)) = (self.endpoint, &self.payload) else { return Ok(None) };
        let there = self.endpoint_at(upstream).flatten().unwrap_or(client);
        if there == client {
            return Ok(None);
        }
        let words =
            Words { model: upstream.settings.model_there_of(model), budgets, asked: self.asked(request) };
        Translation::new(client, request, there, upstream, words).map(Some)
    }

    fn asked(&self, request: &request::Request) -> Asked {
        Asked {
            model: self.known_as.clone(),
            id: self.id.clone(),
            created_unix_s: self.created_unix_s,
            asks_usage: request.asks_usage(),
            request: request.body().clone(),
        }
    }

    fn body(&self, upstream: &Upstream, model: &str, translation: Option<&Translation>) -> RequestBody {
        let known_as = upstream.settings.model_there_of(model);
        let alias = (known_as != &*self.model).then_some(known_as);
        match &self.payload {
            Payload::Json(request) => {
                let request = translation.map_or(request, |translation| &translation.request);
                RequestBody::from_segments(request.encode(&edits(upstream, alias)))
            }
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

    /// Where the request goes: the path of the base URL, the endpoint's below it, and the client's query if the upstream
    /// speaks its dialect.
    pub(super) fn address(
        &self,
        upstream: &Upstream,
        model: &str,
        translation: Option<&Translation>,
    ) -> Result<Uri> {
        let there = translation.map(|translation| translation.endpoint).or(self.endpoint);
        let is_stream = self.is_stream();
        let path = match there.and_then(|there| Some((there, self.gemini_method(there, is_stream)?))) {
            Some((there, method)) => {
                let model = percent::encoded(upstream.settings.model_there_of(model));
                Cow::Owned(format!("{}{model}:{method}", there.upstream_path()))
            }
            None => {
                translation.map_or(Cow::Borrowed(&*self.path), |there| there.endpoint.upstream_path().into())
            }
        };
        let query = match translation {
            None => self.query.as_deref(),
            Some(translation) if translation.endpoint == Endpoint::GenerateContent && is_stream => {
                Some("alt=sse")
            }
            Some(_) => None,
        };
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        let address = [&upstream.base_path, &*path, mark, query].concat();
        let too_long = |_| Error::new(ErrorKind::InvalidRequest, "the path is too long to be passed on");
        PathAndQuery::try_from(address).map(Uri::from).map_err(too_long)
    }

    /// What stands behind the model in the path of one of Google's endpoints.
    fn gemini_method(&self, there: Endpoint, is_stream: bool) -> Option<&'static str> {
        let in_path = match &self.payload {
            Payload::Json(request) => request.in_path(),
            Payload::Form { .. } | Payload::Opaque { .. } => None,
        };
        // A stream without events is one all the same for an upstream that is asked as the client asks. What plugins have
        // to see it is asked for in one piece: they look for an answer, and would find nothing in a list of its parts.
        let is_array = in_path.is_some_and(|in_path| in_path.is_array);
        let is_same = self.endpoint == Some(there) && !self.holds_answer;
        there.gemini_method(is_stream || is_array && is_same)
    }

    /// Whether the client wants a list with the answer in it.
    pub(crate) fn wants_list(&self) -> bool {
        let Payload::Json(request) = &self.payload else { return false };
        request.in_path().is_some_and(|in_path| in_path.is_array)
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
        edits: &Edits<'_>,
    ) -> Request<RequestBody> {
        let mut request = Request::new(self.body(upstream, model, edits.translation));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = address;
        let mut headers = self.headers.clone();
        headers.insert(header::HOST, upstream.host.clone());
        if self.endpoint.is_some_and(Endpoint::is_inspected) {
            // An answer that has to be read is cheapest to read as it is.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let dialect = upstream.settings.dialect;
        if edits.translation.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let others = Dialect::ALL.into_iter().filter(|other| *other != dialect);
            others.for_each(|other| headers::strip(&mut headers, |name| other.owns_header(name)));
        }
        state_version(dialect, &mut headers);
        if let Some((name, credential)) = self.credential(upstream, has_keys, edits.credential) {
            headers.insert(name, credential);
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
        edits: &Edits<'_>,
    ) -> (HeaderMap, Option<Bytes>) {
        let (head, body) = self.request(upstream, model, address, has_keys, edits).into_parts();
        (head.headers, matches!(self.payload, Payload::Json(_)).then(|| body.into_bytes()))
    }

    /// The upstream's own key, and its header; the caller's only where there is none and the configuration lets it through.
    fn credential(
        &self,
        upstream: &Upstream,
        has_keys: bool,
        own: Option<&HeaderValue>,
    ) -> Option<(HeaderName, HeaderValue)> {
        let dialect = upstream.settings.dialect;
        let header = credential_header(dialect);
        if let Some(own) = own {
            return Some((header, own.clone()));
        }
        let key = self.callers_key(upstream, has_keys).filter(|_| !has_configured_credential(upstream))?;
        let (header, written_as) = match self.caller.bearer_of {
            // As it came: a token is no key.
            Some(of) if of == dialect => (header::AUTHORIZATION, Dialect::OpenAi),
            _ => (header, dialect),
        };
        Some((header, super::credential(written_as, key).ok()?))
    }

    fn callers_key(&self, upstream: &Upstream, has_keys: bool) -> Option<&Secret> {
        let forwards = upstream.settings.forwards_caller_key || !has_keys;
        self.caller.credential.as_ref().filter(|_| forwards)
    }

    /// Whether an upstream is asked with the caller's key, so that what it says of the key is said of this caller alone.
    pub(super) fn lends_its_key(&self, upstream: &Upstream, has_keys: bool) -> bool {
        let has_own = has_configured_credential(upstream) || upstream.credential().is_some();
        !has_own && self.callers_key(upstream, has_keys).is_some()
    }

    /// What puts the client's name for the model into an answer; none where the upstream was asked by that.
    pub(super) fn rename(&self, upstream: &Upstream, model: &str) -> Option<Rename> {
        let endpoint = self.endpoint.filter(|endpoint| endpoint.is_inspected())?;
        let is_known = self.known_as.is_empty() || upstream.settings.model_there_of(model) == &*self.known_as;
        (!is_known).then(|| Rename::new(endpoint, &self.known_as))
    }

    /// What has to be done to an answer of this upstream.
    pub(super) fn rules(&self, upstream: &Upstream, translation: Option<&Translation>) -> Option<Rules> {
        let endpoint = translation.map(|translation| translation.endpoint).or(self.endpoint);
        let endpoint = endpoint.filter(|endpoint| endpoint.is_inspected())?;
        let hides_usage = match &self.payload {
            Payload::Json(request) => {
                // Whoever converts it needs it, and knows who asked.
                translation.is_none() && upstream.settings.include_usage && !request.asks_usage()
            }
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

/// Whether an operator has written a credential into the `headers` of an upstream: then no other one is sent beside it.
fn has_configured_credential(upstream: &Upstream) -> bool {
    let carrier = credential_header(upstream.settings.dialect);
    upstream.settings.headers.iter().any(|(name, _)| *name == carrier || *name == header::AUTHORIZATION)
}
