//! A memory of the plugin's own that outlives its instances; needs `allow.kv`, which bounds its bytes.
//!
//! ```
//! use std::time::Duration;
//! use witgate_sdk::{Call, Flow, OnRequest, Rejection, kv};
//!
//! /// Lets each tenant ask ten times a minute.
//! struct Calm;
//!
//! impl OnRequest for Calm {
//!     fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
//!         let tenant = call.tenant().unwrap_or_default();
//!         match kv::add(&tenant, 1, Some(Duration::from_secs(60)))? {
//!             ..=10 => Ok(Flow::Next),
//!             _ => Err(Rejection::new(429, "too_many_requests", "ten a minute is enough")),
//!         }
//!     }
//! }
//! # impl witgate_sdk::Plugin for Calm {
//! #     type Config = ();
//! #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
//! # }
//! ```

use std::fmt;
use std::time::Duration;

#[cfg(not(target_family = "wasm"))]
use crate::testkit::host::kv as host;
#[cfg(target_family = "wasm")]
use crate::wit::witgate::plugin::kv as host;

use crate::Rejection;
use crate::wit::witgate::plugin::kv::Error as HostError;

/// Why it did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The operator does not grant it.
    Denied,
    /// Keys and values together would be over the grant.
    TooLarge,
    /// The store cannot be reached.
    Unavailable(String),
    /// Something else, in words.
    Other(String),
}

/// Returns the value of a key; `None` when it was never set, was deleted, or its time is over.
///
/// # Errors
///
/// See [`Error`].
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(host::get(key)?)
}

/// Sets a value, for a time or, with `None`, for ever.
///
/// # Errors
///
/// See [`Error`].
pub fn set(key: &str, value: impl AsRef<[u8]>, time_to_live: Option<Duration>) -> Result<(), Error> {
    Ok(host::set(key, value.as_ref(), time_to_live.map(milliseconds))?)
}

/// Deletes a key; it need not exist.
///
/// # Errors
///
/// See [`Error`].
pub fn delete(key: &str) -> Result<(), Error> {
    Ok(host::delete(key)?)
}

/// Adds to a number, atomically, and returns the sum; a new key begins at 0 and takes the time to live, an old one
/// keeps its own.
///
/// # Errors
///
/// See [`Error`]; a value that is no number is [`Error::Other`].
pub fn add(key: &str, delta: i64, time_to_live: Option<Duration>) -> Result<i64, Error> {
    Ok(host::add(key, delta, time_to_live.map(milliseconds))?)
}

/// Sets a value if the key has the expected one (`None`: if it does not exist), and returns whether it did.
///
/// # Errors
///
/// See [`Error`].
pub fn compare_and_set(key: &str, expected: Option<&[u8]>, value: impl AsRef<[u8]>) -> Result<bool, Error> {
    Ok(host::compare_and_set(key, expected, value.as_ref())?)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Denied => Self::Denied,
            HostError::TooLarge => Self::TooLarge,
            HostError::Unavailable(reason) => Self::Unavailable(reason),
            HostError::Other(reason) => Self::Other(reason),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied => f.write_str("kv is not granted: add `allow.kv`"),
            Self::TooLarge => f.write_str("kv is full: raise `allow.kv`"),
            Self::Unavailable(reason) => write!(f, "kv cannot be reached: {reason}"),
            Self::Other(reason) => write!(f, "kv: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::from(error.to_string())
    }
}

/// For [`Plugin::new`](crate::Plugin::new).
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.to_string()
    }
}
