//! The SHA-256 hash of a key: what the configuration holds instead of the key.

use std::hint::black_box;

use sha2::{Digest as _, Sha256};

/// The hash of a key, as four words: they are compared faster than bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest([u64; 4]);

impl Digest {
    /// Hashes a key as `sha256sum` does.
    pub(crate) fn of(key: &str) -> Self {
        Self::from_bytes(Sha256::digest(key).into())
    }

    /// Reads the 64 hexadecimal digits that `sha256sum` prints.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self::from_bytes(bytes))
    }

    /// Compares in a time that does not tell where two hashes differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |bits, (a, b)| black_box(bits | (a ^ b))) == 0
    }

    /// The words, for what may take any time.
    pub(crate) fn words(&self) -> [u64; 4] {
        self.0
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self(words)
    }
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_has_the_hash_that_sha256sum_prints() {
        // Source: FIPS 180-2, appendix B.1.
        assert!(Digest::of("abc").is(&Digest::parse(ABC).unwrap()));
        assert!(Digest::of("abc").is(&Digest::parse(&ABC.to_uppercase()).unwrap()));
    }

    #[test]
    fn one_bit_is_a_difference() {
        for at in 0..ABC.len() {
            let mut hex = ABC.as_bytes().to_owned();
            hex[at] = if hex[at] == b'0' { b'1' } else { b'0' };
            let other = Digest::parse(std::str::from_utf8(&hex).unwrap()).unwrap();
            assert!(!Digest::of("abc").is(&other));
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "abc", &ABC[1..], &format!("{ABC}0"), &ABC.replace('b', "g"), &"é".repeat(32)] {
            assert!(Digest::parse(text).is_none(), "{text}");
        }
    }
}
