//! The SHA-256 hash of a key: what the configuration holds instead of the key.

use std::hint::black_box;

use sha2::{Digest as _, Sha256};

/// The hash of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    /// Hashes a key as `sha256sum` does.
    pub(crate) fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads the 64 hexadecimal digits that `sha256sum` prints.
    pub(crate) fn parse(hex: &str) -> Option<Self> {
        let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
        let mut digest = [0; 32];
        if pairs.len() != digest.len() {
            return None;
        }
        for (byte, &[high, low]) in digest.iter_mut().zip(pairs) {
            *byte = digit(high)? << 4 | digit(low)?;
        }
        Some(Self(digest))
    }

    /// Compares in a time that does not tell where two hashes differ.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
        differing == 0
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
