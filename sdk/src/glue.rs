//! What [`export!`](crate::export) and the derive of [`Config`](crate::Config) expand to. Not an API.

use crate::Config;

#[cfg(target_family = "wasm")]
pub use crate::component::{Component, Placed};

#[cfg(feature = "json")]
pub use crate::config::read::parse;

/// A piece of a text that is joined at compile time.
pub enum Part {
    /// Text.
    Text(&'static str),
    /// Other pieces.
    Nested(&'static [Self]),
}

/// Returns the pieces of a configuration's schema, a JSON object.
pub const fn schema<C: Config>() -> &'static [Part] {
    const { &[Part::Text("{"), Part::Nested(C::SHAPE), Part::Nested(C::DESCRIPTION), Part::Text("}")] }
}

/// Returns the length of a text in bytes.
pub const fn len(parts: &[Part]) -> usize {
    let mut len = 0;
    let mut i = 0;
    while i < parts.len() {
        len += match parts[i] {
            Part::Text(text) => text.len(),
            Part::Nested(parts) => self::len(parts),
        };
        i += 1;
    }
    len
}

/// Joins a text of `N` bytes.
pub const fn flat<const N: usize>(parts: &[Part]) -> [u8; N] {
    let mut bytes = [0; N];
    let end = write(parts, &mut bytes, 0);
    assert!(end == N, "`N` is the length of the text");
    bytes
}

const fn write(parts: &[Part], bytes: &mut [u8], mut at: usize) -> usize {
    let mut i = 0;
    while i < parts.len() {
        match parts[i] {
            Part::Text(text) => {
                let (_, rest) = bytes.split_at_mut(at);
                let (place, _) = rest.split_at_mut(text.len());
                place.copy_from_slice(text.as_bytes());
                at += text.len();
            }
            Part::Nested(parts) => at = write(parts, bytes, at),
        }
        i += 1;
    }
    at
}

/// Says what to switch on.
#[cfg(not(feature = "json"))]
pub fn parse<T>(_: &str) -> Result<T, String> {
    const { panic!("a configuration other than `()` needs the feature `json` of `witgate-sdk`") }
}
