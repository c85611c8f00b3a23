//! What of a prompt is hashed.
//!
//! An anchor is the part of a conversation that does not change while the conversation grows, so that it stays where
//! its KV cache is.

use std::borrow::Cow;
use std::fmt;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::route::Keying;

/// The hash that places a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Anchor(u64);

/// The version of the hashing, from which every anchor begins.
///
/// A change of anything here or in `rendezvous` moves every conversation of every installation once; the golden
/// vectors in the tests are there to make that a decision.
pub const VERSION: u64 = 1;

/// The characters of a message that `voting` hashes, as the earlier systems did.
const VOTING_CHARS: usize = 64;

impl Anchor {
    /// Hashes what the conversation's KV cache begins with; none when that is empty.
    pub fn of_prefix(keying: Keying<'_>, pieces: &[Cow<'_, [u8]>]) -> Option<Self> {
        let is_empty = pieces.iter().all(|piece| piece.is_empty());
        (!is_empty).then(|| Self(pieces.iter().fold(Self::salt(keying), |seed, piece| link(seed, piece))))
    }

    /// Hashes the first 64 characters of one message, for `voting`; none when the message is empty.
    pub fn of_message(keying: Keying<'_>, text: &str) -> Option<Self> {
        let end = text.char_indices().nth(VOTING_CHARS).map_or(text.len(), |(end, _)| end);
        (end > 0).then(|| Self(link(Self::salt(keying), &text.as_bytes()[..end])))
    }

    /// Takes a random number for requests that have nothing to be recognised by.
    pub fn drawn(draw: u64) -> Self {
        Self(draw)
    }

    /// The number itself.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// What anchors of this tenant and model begin with.
    pub(super) fn salt(keying: Keying<'_>) -> u64 {
        link(link(VERSION, keying.tenant.as_bytes()), keying.model.as_bytes())
    }
}

/// Hashes one more piece onto `seed`.
///
/// The chain keeps pieces apart, like a length in front of each would, and needs no hashing state: xxh3 runs once
/// over every piece where it lies in the client's body.
fn link(seed: u64, piece: &[u8]) -> u64 {
    xxh3_64_with_seed(piece, seed)
}

/// Hashes a set of upstreams onto `seed`; not a part of any anchor.
pub(super) fn link_indexes(seed: u64, indexes: &[usize]) -> u64 {
    indexes.iter().fold(seed, |seed, index| link(seed, &index.to_le_bytes()))
}

impl fmt::Display for Anchor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}
