//! What the behaviour tests share: a gateway to run, an upstream to script, a client to ask with.
//!
//! Everything here waits on conditions with a deadline and none of it sleeps for luck. The client and the tests are
//! blocking on purpose: a test reads top to bottom as what a client does.

pub mod audit;
pub mod client;
pub mod gateway;
pub mod http2;
pub mod postgres;
pub mod redis;
pub mod refusing;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tool;
pub mod upstream;
pub mod vendors;

use std::time::Duration;

pub use crate::client::{Answer, Connection, Request};
pub use crate::gateway::Gateway;
pub use crate::refusing::Refusing;
pub use crate::upstream::reply::{Gate, Reply};
pub use crate::upstream::{Received, Upstream};
pub use crate::vendors::Vendor;

/// How long anything may take before a test gives up; generous, because test machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks every few milliseconds until `look` has found something.
///
/// # Panics
/// When nothing was found within [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// Looks every few milliseconds until `look` has found something that is known to take long.
///
/// # Panics
/// When nothing was found within `patience`; `what` says what was waited for.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The monotonic clock.
pub fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}
