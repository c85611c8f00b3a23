//! Google's generateContent between its own words and the hub.
//!
//! Source: Gemini API reference, "Generating content", and the types of Google's own clients; seen 2026-11.

mod citations;
mod config;
mod error;
mod events;
mod parts;
mod reply;
mod request;
mod tools;
mod usage;

pub use error::{decode_error, encode_error, retry_delay};
pub use events::{EventDecoder, EventEncoder};
pub use parts::{is_foreign_signature, read_all as read_parts};
pub use reply::{decode_reply, encode_reply};
pub use request::{decode_request, encode_request};

use crate::chat::{Action, Field, Row};

/// What requests of this surface cannot say, and what is done about it.
pub const TABLE: &[Row] = &[
    row(Field::SystemInside, Action::Approximate, "said before the conversation, in order"),
    row(Field::Developer, Action::Approximate, "said as system instructions"),
    row(Field::MessageName, Action::Drop, "speakers have no names"),
    row(
        Field::ImageUrl,
        Action::Refuse,
        "the URL's ending does not tell the type of the picture; send it as data",
    ),
    row(Field::ImageDetail, Action::Drop, "the model looks as closely as it does"),
    row(
        Field::FileUrl,
        Action::Refuse,
        "the URL's ending does not tell the type of the document; send it as data",
    ),
    row(Field::FileId, Action::Refuse, "the upload is at another vendor; send the document as data"),
    row(
        Field::Thinking,
        Action::Approximate,
        "a plain thought; what only another vendor can read is left out",
    ),
    row(Field::CacheControl, Action::Drop, "the cache needs no marks"),
    row(Field::VendorTool, Action::Refuse, "the tool is run by another vendor; declare a function"),
    row(Field::ToolStrict, Action::Drop, "calls follow the schema as well as the model does"),
    row(Field::ParallelToolCalls, Action::Drop, "the model may call several tools at once"),
    row(Field::Seed, Action::Approximate, "the lower 32 bits of it"),
    row(Field::LogitBias, Action::Refuse, "tokens have other numbers here"),
    row(Field::StopCount, Action::Refuse, "there may be 5 at most"),
    row(Field::User, Action::Drop, "nobody asks for whom"),
    row(Field::Metadata, Action::Drop, "labels have narrower rules here"),
    row(Field::ServiceTier, Action::Drop, "there is no such class"),
    row(
        Field::StoredConversation,
        Action::Refuse,
        "the conversation is kept by another vendor; send all of it",
    ),
    row(Field::Unknown, Action::Drop, "left out"),
];

const fn row(field: Field, action: Action, how: &'static str) -> Row {
    Row { field, action, how }
}
