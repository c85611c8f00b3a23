//! Weighted rendezvous hashing: every upstream draws a number from the anchor, the smallest per weight wins.
//!
//! The score is an exponential variate with the weight as its rate, and the smallest of such variates is each one's
//! with a probability of its weight over the sum of weights. So shares follow the weights exactly, an upstream that
//! comes or goes moves only its own share, and without the winner the rest stand as they would have stood anyway.
//! Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables" (2005), the logarithmic method.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::route::anchor::Anchor;

/// Scores the upstream `name`, whose `weight` is above zero, for a conversation; the smallest score wins.
pub fn score(anchor: Anchor, name: &str, weight: u32) -> f64 {
    -uniform(xxh3_64_with_seed(name.as_bytes(), anchor.bits())).ln() / f64::from(weight)
}

/// Maps a hash to the open interval from 0 to 1, with all the bits a double holds.
fn uniform(hash: u64) -> f64 {
    ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}
