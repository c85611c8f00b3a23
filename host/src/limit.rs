//! How much callers may use: requests and tokens in windows, budgets, places, and the queues before them.

pub(crate) mod meter;
pub(crate) mod queue;
