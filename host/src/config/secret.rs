//! A value that is never shown.

use std::fmt;

/// A key, token or password: it can be sent, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, to be sent or compared, never to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this value, in a time that tells only whether the lengths differ.
    pub fn is_same_as(&self, given: &str) -> bool {
        let (own, given) = (self.0.as_bytes(), given.as_bytes());
        own.len() == given.len()
            && own.iter().zip(given).fold(0, |all, (left, right)| all | (left ^ right)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// Whether a header's name, or a name like that, says that its value is a credential.
pub fn is_credential(name: &str) -> bool {
    const WORDS: [&[u8]; 5] = [b"key", b"token", b"secret", b"auth", b"password"];
    const WHOLE: [&str; 7] = ["authorization", "cookie", "apikey", "token", "secret", "password", "passwd"];
    let bytes = name.as_bytes();
    let has_word = |at: usize| {
        WORDS
            .iter()
            .any(|word| bytes[at..].get(..word.len()).is_some_and(|part| part.eq_ignore_ascii_case(word)))
    };
    WHOLE.iter().any(|known| name.eq_ignore_ascii_case(known))
        || bytes.contains(&b'-') && (0..bytes.len()).any(has_word)
}
