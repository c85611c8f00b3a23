//! A request in the words of an upstream that does not speak the client's, and its answer in the client's.

use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::chat::Field;
use crate::config;
use crate::error::{Error, ErrorKind, Result};
use crate::upstream::Upstream;
use crate::wire::convert::{self, Asked, EffortBudgets, StreamConverter, Terms, UNKNOWN_NAMES_MAX, other};
use crate::wire::openai::answer::Answer;
use crate::wire::openai::frame;
use crate::wire::request::{self, Edits, InPath, Request};
use crate::wire::{Dialect, Endpoint, Surface};

/// The most tokens of an answer where the upstream must be told and neither the request nor the configuration says.
///
/// Source: the default of an earlier converter that users come from.
const MAX_TOKENS_DEFAULT: u64 = 32_000;

/// The status of Anthropic's own for a service that has too much to do.
///
/// Source: Anthropic, API reference, "Errors", seen 2026-11.
const OVERLOADED: u16 = 529;

/// Names what of a request the upstream's dialect could not say, so that it was left out or said otherwise.
const X_DROPPED: HeaderName = HeaderName::from_static("x-witgate-dropped");

/// A request in an upstream's words, and what its answer is put into the client's words with.
#[derive(Debug)]
pub(crate) struct Translation {
    /// Where the upstream is asked.
    pub(super) endpoint: Endpoint,
    /// What it is asked.
    pub(super) request: Request,
    /// What could not be said, and was left out or said otherwise.
    losses: Vec<Field>,
    /// The names of what only the client knows.
    unknown: Vec<String>,
    client: Endpoint,
    asked: Asked,
}

/// What a translation needs to know beside the two endpoints.
pub(super) struct Words<'a> {
    /// The model's name at the upstream.
    pub(super) model: &'a str,
    /// What efforts stand for.
    pub(super) budgets: EffortBudgets,
    /// What the answer is written with.
    pub(super) asked: Asked,
}

impl Translation {
    pub(super) fn new(
        client: Endpoint,
        request: &Request,
        endpoint: Endpoint,
        upstream: &Upstream,
        words: Words<'_>,
    ) -> Result<Self> {
        let settings = &upstream.settings;
        let max_tokens_default = settings.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT);
        let mut terms = Terms {
            client: surface_of(client),
            target: surface_of(endpoint),
            upstream: &settings.name,
            max_tokens_default,
            budgets: words.budgets,
            losses: Vec::new(),
            unknown: Vec::new(),
        };
        let body = match (client.surface(), endpoint.surface()) {
            (Some(surface), Some(_)) => {
                let mut chat = convert::decode_request(surface, request)?;
                words.model.clone_into(&mut chat.model);
                convert::encode_request(&chat, &mut terms)?
            }
            _ => other::request(client, request, endpoint, words.model, &mut terms)?,
        };
        let (losses, unknown) = (terms.losses, terms.unknown);
        let in_path = endpoint.gemini_method(false).map(|_| InPath {
            model: words.model.to_owned(),
            is_stream: request.is_stream(),
            is_array: false,
        });
        let made = request::decode(endpoint, body, in_path)
            .map_err(|error| Error::new(ErrorKind::Internal, error.message))?;
        Ok(Self { endpoint, request: made, losses, unknown, client, asked: words.asked })
    }

    /// Says in an answer's headers what of the request could not be said.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let surface = surface_of(self.client);
        // What only clients know is told by its own names; there may be more than are kept, or none that can be told.
        let is_told =
            |field: &Field| *field != Field::Unknown || !(1..UNKNOWN_NAMES_MAX).contains(&self.unknown.len());
        let fields = self.losses.iter().filter(|field| is_told(field));
        let fields = fields.filter_map(|field| field.name(surface));
        let mut names: Vec<&str> = Vec::with_capacity(self.losses.len());
        for name in fields.chain(self.unknown.iter().map(String::as_str)) {
            // Several things may be said by one field.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if !names.is_empty() {
            let names = HeaderValue::try_from(names.join(", ")).expect("names of fields are plain text");
            headers.insert(X_DROPPED, names);
        }
    }

    /// What puts the stream of an answer into the client's words; none for what has no streams.
    pub(super) fn stream(&self) -> Option<Box<StreamConverter>> {
        let (upstream, client) = (self.endpoint.surface()?, self.client.surface()?);
        Some(Box::new(StreamConverter::new(upstream, client, &self.asked)))
    }

    /// A whole answer in the client's words.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it is not of the shape that the upstream's dialect has.
    pub(super) fn whole(&self, answer: Answer) -> Result<Answer> {
        let body = answer.body();
        let body = match (self.endpoint.surface(), self.client.surface()) {
            (Some(upstream), Some(client)) => {
                let reply = convert::decode_reply(upstream, &body, &self.asked.id)?;
                convert::encode_reply(client, &reply, &self.asked)
            }
            _ => other::reply(self.endpoint, &body, self.client, &self.asked)?,
        };
        Ok(Answer { segments: vec![body], facts: answer.facts })
    }

    /// The stream that a whole answer in the client's words would have been.
    pub(super) fn events_of(&self, answer: &Answer) -> Option<Bytes> {
        frame::events(self.client, &answer.body(), self.asked.asks_usage)
    }

    /// An error that the upstream answered with, in the client's words, and with a status that its vendor has.
    pub(super) fn failure(&self, status: StatusCode, body: &[u8]) -> (StatusCode, Bytes) {
        let error = convert::decode_error(self.endpoint.dialect(), status, body);
        let is_foreign = status.as_u16() == OVERLOADED && self.client.dialect() != Dialect::Anthropic;
        let status = if is_foreign { StatusCode::SERVICE_UNAVAILABLE } else { status };
        (status, convert::encode_error(self.client.dialect(), &error))
    }
}

/// The surface whose table holds for an endpoint: its own, or that of its dialect.
fn surface_of(endpoint: Endpoint) -> Surface {
    endpoint.surface().unwrap_or_else(|| match endpoint.dialect() {
        Dialect::OpenAi => Surface::Chat,
        Dialect::Anthropic => Surface::Messages,
        Dialect::Gemini => Surface::Gemini,
    })
}

/// What an operator wants changed in requests to an upstream.
pub(super) fn edits<'a>(upstream: &'a Upstream, model: Option<&'a str>) -> Edits<'a> {
    let config::Upstream { stop, max_tokens, extra_body, include_usage, clean, .. } = &upstream.settings;
    Edits { model, stop, max_tokens: *max_tokens, extra_body, include_usage: *include_usage, clean: *clean }
}
