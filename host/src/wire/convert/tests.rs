//! What holds for every pair of surfaces.

mod golden;
mod grammar;
mod properties;
mod tables;
mod whole;

use bytes::Bytes;

use crate::wire::convert::{Asked, EffortBudgets, Terms};
use crate::wire::request::{self, InPath, Request};
use crate::wire::{Endpoint, Surface};

/// The surfaces that upstreams are asked on by conversion.
const UPSTREAMS: [Surface; 3] = [Surface::Chat, Surface::Messages, Surface::Gemini];

/// What the client of every case asked for.
fn asked() -> Asked {
    Asked {
        model: "alias".into(),
        id: "id1".into(),
        created_unix_s: 1_700_000_001,
        asks_usage: true,
        request: Bytes::new(),
    }
}

pub(super) fn terms(client: Surface, target: Surface) -> Terms<'static> {
    Terms {
        client,
        target,
        upstream: "up",
        max_tokens_default: 32000,
        budgets: EffortBudgets::default(),
        losses: Vec::new(),
        unknown: Vec::new(),
    }
}

fn endpoint(surface: Surface) -> Endpoint {
    match surface {
        Surface::Chat => Endpoint::ChatCompletions,
        Surface::Responses => Endpoint::Responses,
        Surface::Messages => Endpoint::Messages,
        Surface::Gemini => Endpoint::GenerateContent,
    }
}

/// A request of a client's.
#[track_caller]
pub(super) fn request_of(client: Surface, body: Bytes) -> Request {
    let path = InPath::of("alias:streamGenerateContent", Some("alt=sse"));
    request::decode(endpoint(client), body, path).unwrap()
}
