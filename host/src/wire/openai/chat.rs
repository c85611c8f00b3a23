//! OpenAI's chat completions between their own words and the hub.
//!
//! Read tolerantly, because many servers and clients copy the API, each with something of its own; written strictly, as
//! OpenAI's own clients expect it.

use crate::chat::{Action, Field, Row, Usage};
use crate::wire::Endpoint;

mod chunks;
mod error;
mod events;
mod part;
mod reply;
mod request;

pub use chunks::EventEncoder;
pub use error::{decode_error, encode_error};
pub use events::EventDecoder;
pub use reply::{decode_reply, encode_reply};
pub use request::{decode_request, encode_request};

/// What requests of this surface cannot say, and what is done about it.
///
/// Who is asked may be OpenAI or any server that copies it; what only some of these know counts as what cannot be said.
pub const TABLE: &[Row] = &[
    row(Field::Developer, Action::Approximate, "as `system`, which every server knows"),
    row(Field::Audio, Action::Refuse, "sound has to be sent as data"),
    row(Field::File, Action::Approximate, "a document of plain text is sent as text"),
    row(Field::FileUrl, Action::Refuse, "send the document's data instead of its URL"),
    row(Field::FileId, Action::Refuse, "an upload is known to its own vendor only, send its data"),
    row(Field::ContentKind, Action::Refuse, "only the client's vendor can read it; send its text"),
    row(Field::Thinking, Action::Drop, "earlier thinking is left out, unless the upstream has signed it"),
    row(
        Field::ToolResultMedia,
        Action::Approximate,
        "pictures and documents follow in a message of the user's",
    ),
    row(Field::ToolResultError, Action::Drop, "the text of the result says it"),
    row(Field::CacheControl, Action::Drop, "upstreams of this kind cache by themselves"),
    row(Field::VendorTool, Action::Refuse, "the tool is run by another vendor"),
    row(Field::ToolChoiceAmong, Action::Approximate, "only these tools are sent"),
    row(Field::TopK, Action::Drop, "OpenAI's own models are asked without, everybody else's with it"),
    row(Field::StopCount, Action::Refuse, "OpenAI's own models take 4 at most"),
    row(
        Field::Reasoning,
        Action::Approximate,
        "a number of tokens as the nearest effort, `high` if it is the model's choice; none is left to the model",
    ),
    row(Field::Modalities, Action::Refuse, "answers are texts"),
    row(Field::Metadata, Action::Drop, "OpenAI takes labels only for answers that it stores"),
    row(Field::ServiceTier, Action::Drop, "a class that OpenAI does not know is left out"),
    row(Field::StoredConversation, Action::Refuse, "send the whole conversation"),
    row(Field::Unknown, Action::Drop, "left out"),
];

const fn row(field: Field, action: Action, how: &'static str) -> Row {
    Row { field, action, how }
}

/// Writes tokens in the words of the endpoint's answers.
///
/// Source: OpenAI API reference, "Chat completion object", `usage`; OpenRouter, "Usage Accounting", for
/// `cache_write_tokens`; seen 2026-11.
pub(super) fn usage_json(endpoint: Endpoint, usage: Usage) -> String {
    let (prompt, completion) = match endpoint {
        Endpoint::Responses => ("input", "output"),
        _ => ("prompt", "completion"),
    };
    let Usage { input, output, cached, cache_written, reasoning, is_estimated } = usage;
    let total = usage.total();
    let written =
        if cache_written == 0 { String::new() } else { format!(",\"cache_write_tokens\":{cache_written}") };
    let estimated = if is_estimated { ",\"estimated\":true" } else { "" };
    format!(
        "{{\"{prompt}_tokens\":{input},\"{completion}_tokens\":{output},\"total_tokens\":{total},\
         \"{prompt}_tokens_details\":{{\"cached_tokens\":{cached}{written}}},\
         \"{completion}_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}{estimated}}}"
    )
}

#[cfg(test)]
mod tests;
