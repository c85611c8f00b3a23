//! What has no surface of its own: counts of tokens, by way of the hub, and embeddings.

use bytes::Bytes;

use crate::chat::{ChatRequest, Field};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::anthropic::messages;
use crate::wire::convert::embeddings::{self, Inputs};
use crate::wire::convert::{Asked, Terms};
use crate::wire::gemini::content;
use crate::wire::json::{Scanner, Writer, cursor};
use crate::wire::request::Request;
use crate::wire::{Endpoint, Surface};

/// What Anthropic's count takes of a request; it refuses the rest.
///
/// Source: Anthropic API reference, "Count tokens in a Message", seen 2026-11.
const COUNTED: [&str; 9] = [
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "mcp_servers",
];

/// Writes the request of `client` as one of `upstream`, as [`Endpoint::at`] pairs them. `model` is its name there, which Google's
/// requests have in their bodies, too, with `models/` before it.
///
/// Source: Google, Gemini API reference, "EmbedContentRequest": it must be the model of the path; seen 2026-11.
///
/// # Errors
/// As [`decode_request`](super::decode_request) and [`Terms::cannot`].
pub fn request(
    client: Endpoint,
    request: &Request,
    upstream: Endpoint,
    model: &str,
    terms: &mut Terms<'_>,
) -> Result<Bytes> {
    let body = &request.body()[..];
    match (client, upstream) {
        (Endpoint::CountMessageTokens, Endpoint::CountContentTokens) => {
            (terms.client, terms.target) = (Surface::Messages, Surface::Gemini);
            let chat = ChatRequest { model: model.to_owned(), ..messages::decode_request(body)? };
            Ok(content_count(model, &content::encode_request(&chat, terms)?))
        }
        (Endpoint::CountContentTokens, Endpoint::CountMessageTokens) => {
            (terms.client, terms.target) = (Surface::Gemini, Surface::Messages);
            let chat = ChatRequest { model: model.to_owned(), ..counted_content(body)? };
            Ok(message_count(&messages::encode_request(&chat, terms)?))
        }
        (Endpoint::EmbedContent, Endpoint::Embeddings) => {
            Ok(Inputs::of_content(body)?.for_openai(model, terms))
        }
        (Endpoint::BatchEmbedContents, Endpoint::Embeddings) => {
            Ok(Inputs::of_contents(body)?.for_openai(model, terms))
        }
        (Endpoint::Embeddings, Endpoint::BatchEmbedContents) => {
            Ok(Inputs::of_openai(body)?.for_contents(model, terms))
        }
        _ => Err(unpaired(client, upstream)),
    }
}

/// Writes the answer of `upstream` as one of `client`.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when it is not of the endpoint's shape.
pub fn reply(upstream: Endpoint, body: &[u8], client: Endpoint, asked: &Asked) -> Result<Bytes> {
    match (upstream, client) {
        (
            Endpoint::CountContentTokens | Endpoint::CountMessageTokens,
            Endpoint::CountContentTokens | Endpoint::CountMessageTokens,
        ) => Ok(count(client, counted(body)?)),
        (Endpoint::Embeddings, Endpoint::EmbedContent) => embeddings::for_content(body),
        (Endpoint::Embeddings, Endpoint::BatchEmbedContents) => embeddings::for_contents(body),
        (Endpoint::BatchEmbedContents, Endpoint::Embeddings) => embeddings::for_openai(body, asked),
        _ => Err(unpaired(client, upstream)),
    }
}

/// Writes a count of tokens for a client; as Anthropic's for endpoints that count none.
pub fn count(client: Endpoint, tokens: u64) -> Bytes {
    let name = if client == Endpoint::CountContentTokens { "totalTokens" } else { "input_tokens" };
    let mut count = Writer::default();
    count.plain(name, tokens);
    count.finish().into()
}

fn unpaired(client: Endpoint, upstream: Endpoint) -> Error {
    let message = format!("requests of {} are not converted to {}", client.label(), upstream.label());
    Error::new(ErrorKind::Internal, message)
}

/// Google counts more than contents only in a whole request, which has to name its model.
fn content_count(model: &str, request: &[u8]) -> Bytes {
    let mut whole = Writer::default();
    whole.object("generateContentRequest", |inner| {
        inner.string("model", &format!("models/{model}"));
        inner.members_of(std::str::from_utf8(request).unwrap_or_default());
    });
    whole.finish().into()
}

/// Reads what Google is to count: contents, or a whole request.
fn counted_content(body: &[u8]) -> Result<ChatRequest> {
    let mut inner = None;
    cursor::read(body, |value| {
        value.members(|name, value| {
            if name == "generateContentRequest" {
                inner = Some(value.json()?);
            }
            Ok(())
        })
    })?;
    content::decode_request(inner.map_or(body, str::as_bytes))
}

/// Leaves out what Anthropic does not take for a count.
fn message_count(request: &[u8]) -> Bytes {
    let mut counted = Writer::default();
    let read = Scanner::new(request).object(|scanner, name| {
        let range = scanner.skip()?;
        let name = name.decode();
        if COUNTED.contains(&&*name) {
            counted.member(&name).extend_from_slice(scanner.slice(range).as_bytes());
        }
        Ok(())
    });
    debug_assert!(read.is_ok(), "it was written here");
    counted.finish().into()
}

/// Reads a count of either vendor's.
fn counted(body: &[u8]) -> Result<u64> {
    let mut tokens = None;
    let read = cursor::read(body, |value| {
        value.members(|name, value| {
            if matches!(name, "totalTokens" | "inputTokens") {
                tokens = Some(value.count()?);
            }
            Ok(())
        })
    });
    let invalid = |reason: &str| {
        let message = format!("the upstream's count of tokens is not valid: {reason}");
        Error::new(ErrorKind::UpstreamInvalid, message)
    };
    read.map_err(|error| invalid(&error.message))?;
    tokens.ok_or_else(|| invalid("it has no number"))
}

/// Notes what the embeddings of the other dialect have no word for.
pub(super) fn left_out(terms: &mut Terms<'_>, field: Field) {
    if !terms.losses.contains(&field) {
        terms.losses.push(field);
    }
}

#[cfg(test)]
mod tests;
