//! Who may call: the keys that a configuration knows, and the tokens of others that it trusts.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::secret::Secret;
use super::{Glob, Networks, Quota};
use crate::wire::Endpoint;

/// The gateway's own keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// What hashes are made with: `server.key_secret`, or what `witgate.key` beside the audit holds; none where there is
    /// no key yet.
    pub secret: Option<Secret>,
    /// All of them: those of the configuration, then those of `keys_file`.
    pub all: Arc<[Key]>,
    /// Where further ones are kept.
    pub file: Option<PathBuf>,
}

/// One key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// All that is kept of the key itself.
    pub hash: KeyHash,
    /// What whoever has it may do.
    pub account: Arc<Account>,
}

/// What the configuration says of a caller that it knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// The key's name; `jwt:` and the caller's name for a token.
    pub name: Arc<str>,
    /// Whom it belongs to.
    pub tenant: Option<Arc<str>>,
    /// The models it may use, by the names that clients use; none listed means all.
    pub models: Vec<Glob>,
    /// The endpoints it may use; none listed means all.
    pub endpoints: Vec<Endpoint>,
    /// The upstreams that may answer it, by their names; none listed means all.
    pub upstreams: Vec<Arc<str>>,
    /// Whether it may use paths that nobody knows. Default false.
    pub may_pass_through: bool,
    /// The first moment at which it is no longer good; none means never.
    pub expires: Option<SystemTime>,
    /// Where it may be used from; none listed means anywhere.
    pub allow_ips: Networks,
    /// How much it may use, if that is said of it: its own bounds over those of `limits`. Otherwise it is bounded as
    /// everybody is.
    pub quota: Option<Quota>,
}

impl Account {
    /// Whether it may use a model, by the name that clients use.
    pub fn may_use_model(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|glob| glob.matches(model))
    }

    /// Whether it may use an endpoint; one model's entry goes with the list of models.
    pub fn may_use_endpoint(&self, endpoint: Endpoint) -> bool {
        let whole = if endpoint == Endpoint::Model { Endpoint::Models } else { endpoint };
        self.endpoints.is_empty() || self.endpoints.contains(&endpoint) || self.endpoints.contains(&whole)
    }

    /// Whether an upstream of this name may answer it.
    pub fn may_use_upstream(&self, name: &str) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|upstream| **upstream == *name)
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }

    /// Whether it may be used from an address.
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        self.allow_ips.is_empty() || self.allow_ips.contains(address)
    }
}

/// HMAC-SHA256 of a key under the gateway's secret.
///
/// Equality takes the same time wherever two of them differ.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// What stands before the digits.
    pub const PREFIX: &str = "hmac-sha256:";

    /// Wraps the bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads `hmac-sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(Self::PREFIX)?.as_bytes();
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        comparisons::count();
        self.0.iter().zip(other.0).fold(0, |all, (left, right)| all | (left ^ right)) == 0
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(Self::PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How often this thread has compared hashes: what a look-up costs must not depend on how many keys there are.
#[cfg(test)]
pub(crate) mod comparisons {
    use std::cell::Cell;

    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count() {
        COUNT.set(COUNT.get() + 1);
    }

    /// How often so far.
    pub(crate) fn so_far() -> u64 {
        COUNT.get()
    }
}

/// The tokens (RFC 7519) of others that are taken for keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Jwt {
    /// Who must have issued them; none means anybody who has the key.
    pub issuer: Option<String>,
    /// Whom they must be meant for, one of these; none means anybody.
    pub audiences: Vec<String>,
    /// What they may be signed with.
    pub keys: Arc<[JwtKey]>,
    /// The file of these, if it is one.
    pub jwks: Option<PathBuf>,
    /// Where a token says what.
    pub claims: JwtClaims,
    /// How far the issuer's clock may be from this one. Default 60 s.
    pub leeway: Duration,
}

/// A key that tokens are signed with.
#[derive(Clone, Debug, PartialEq)]
pub struct JwtKey {
    /// Its `kid`.
    pub id: Option<String>,
    /// The key itself, which decides on the algorithm.
    pub kind: JwtKeyKind,
}

/// A key by its algorithm.
#[derive(Clone, PartialEq)]
pub enum JwtKeyKind {
    /// HS256.
    Hmac(Vec<u8>),
    /// RS256: modulus and exponent, the most significant byte first.
    Rsa(Vec<u8>, Vec<u8>),
}

impl JwtKeyKind {
    /// The fewest bytes of a secret. Source: RFC 7518, section 3.2.
    pub const HMAC_BYTES_MIN: usize = 32;
    /// The fewest bytes of a modulus. Source: RFC 7518, section 3.3.
    pub const MODULUS_BYTES_MIN: usize = 256;
}

impl fmt::Debug for JwtKeyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Hmac(_) => "HS256",
            Self::Rsa(..) => "RS256",
        })
    }
}

/// The names of the claims that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtClaims {
    /// The caller's name. Default `sub`.
    pub caller: String,
    /// The caller's tenant. Default `tenant`.
    pub tenant: String,
    /// The models that the caller may use, a list of patterns. Default `models`.
    pub models: String,
}

impl Default for JwtClaims {
    fn default() -> Self {
        Self { caller: "sub".to_owned(), tenant: "tenant".to_owned(), models: "models".to_owned() }
    }
}
