//! The patterns that are built in: written by hand over bytes, since each knows where it may begin and how long it is.

mod address;
mod card;
mod email;
mod iban;
mod phone;
mod ssn;
mod token;

use crate::window::{Miss, Window};
pub(crate) use token::goes_on;

/// A pattern that is built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Pattern {
    Email,
    Card,
    Iban,
    Phone,
    Ipv4,
    Ipv6,
    ApiKey,
    Jwt,
    UsSsn,
}

impl Pattern {
    /// All of them, in the order in which the first of equally long matches wins.
    pub(crate) const ALL: [Self; 9] = [
        Self::Email,
        Self::Card,
        Self::Iban,
        Self::Phone,
        Self::Ipv4,
        Self::Ipv6,
        Self::ApiKey,
        Self::Jwt,
        Self::UsSsn,
    ];

    /// Returns the name it has in configurations, replacements and tags.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Card => "card",
            Self::Iban => "iban",
            Self::Phone => "phone",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::ApiKey => "api-key",
            Self::Jwt => "jwt",
            Self::UsSsn => "us-ssn",
        }
    }

    /// Returns the length of the match that begins where the window does.
    ///
    /// # Errors
    ///
    /// `Never` if none begins there, `Undecided` if that depends on text that has not come yet.
    pub(crate) fn find(self, window: Window<'_>) -> Result<usize, Miss> {
        match self {
            Self::Email => email::find(window),
            Self::Card => card::find(window),
            Self::Iban => iban::find(window),
            Self::Phone => phone::find(window),
            Self::Ipv4 => address::find_v4(window),
            Self::Ipv6 => address::find_v6(window),
            Self::ApiKey => token::find_key(window),
            Self::Jwt => token::find_jwt(window),
            Self::UsSsn => ssn::find(window),
        }
    }

    const fn starts_with(self, byte: u8) -> bool {
        match self {
            Self::Email => email::is_local(byte),
            Self::Card => matches!(byte, b'2'..=b'6'),
            Self::Iban => byte.is_ascii_alphabetic(),
            Self::Phone => byte.is_ascii_digit() || matches!(byte, b'+' | b'('),
            Self::Ipv4 | Self::UsSsn => byte.is_ascii_digit(),
            Self::Ipv6 => byte.is_ascii_hexdigit() || byte == b':',
            Self::ApiKey => token::starts_key(byte),
            Self::Jwt => byte == b'e',
        }
    }

    /// Says whether a match may begin behind this byte: inside a longer word or number it may not.
    const fn may_follow(self, byte: u8) -> bool {
        let is_word = crate::window::is_word(byte);
        match self {
            Self::Email => !email::is_local(byte),
            Self::Iban => !is_word,
            Self::Card | Self::Ipv4 => !is_word && byte != b'.',
            Self::Phone => !is_word && !matches!(byte, b'+' | b'-' | b'.'),
            Self::Ipv6 => !is_word && !matches!(byte, b':' | b'.'),
            Self::ApiKey | Self::Jwt | Self::UsSsn => !is_word && byte != b'-',
        }
    }
}

/// A set of patterns, asked for every byte of a text: two loads from tables made at compile time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Patterns(u16);

impl Patterns {
    /// Adds one; whether it was absent.
    pub(crate) fn insert(&mut self, pattern: Pattern) -> bool {
        let before = self.0;
        self.0 |= 1 << pattern as u8;
        before != self.0
    }

    /// Returns those of the set that may match from `byte` on, behind the byte `before`.
    pub(crate) fn starting(self, byte: u8, before: u8) -> Self {
        Self(self.0 & STARTS[usize::from(byte)] & FOLLOWS[usize::from(before)])
    }

    /// Says whether there is none.
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns those of the set, in order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Pattern> {
        Pattern::ALL.into_iter().filter(move |&pattern| self.0 & (1 << pattern as u8) != 0)
    }
}

static STARTS: [u16; 256] = table(true);
static FOLLOWS: [u16; 256] = table(false);

const fn table(is_starts: bool) -> [u16; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut at = 0;
        while at < Pattern::ALL.len() {
            let pattern = Pattern::ALL[at];
            let holds =
                if is_starts { pattern.starts_with(byte as u8) } else { pattern.may_follow(byte as u8) };
            if holds {
                table[byte] |= 1 << pattern as u8;
            }
            at += 1;
        }
        byte += 1;
    }
    table
}
