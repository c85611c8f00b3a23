//! Secrets that services hand out: keys known by their beginning, bearer credentials, and JSON web tokens.

use crate::window::{Miss, Window};

/// How the key of a service looks.
struct Key {
    prefix: &'static str,
    /// What follows the prefix.
    class: fn(u8) -> bool,
    /// How many bytes at least.
    len_min: usize,
}

/// Keys by their prefix; none of them begins another.
///
/// Source: the services' own pages and the patterns of GitHub's secret scanning, as seen 2025-11.
const KEYS: [Key; 27] = [
    // OpenAI, Anthropic, DeepSeek, OpenRouter and others.
    Key { prefix: "sk-", class: is_base64url, len_min: 20 },
    Key { prefix: "xai-", class: is_alphanumeric, len_min: 20 },
    Key { prefix: "gsk_", class: is_alphanumeric, len_min: 20 },
    Key { prefix: "hf_", class: is_alphanumeric, len_min: 30 },
    Key { prefix: "AIza", class: is_base64url, len_min: 35 },
    // GitHub and GitLab.
    Key { prefix: "ghp_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "gho_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "ghu_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "ghs_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "ghr_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "github_pat_", class: is_base64url, len_min: 22 },
    Key { prefix: "glpat-", class: is_base64url, len_min: 20 },
    // Amazon.
    Key { prefix: "AKIA", class: is_upper, len_min: 16 },
    Key { prefix: "ASIA", class: is_upper, len_min: 16 },
    // Slack.
    Key { prefix: "xoxa-", class: is_base64url, len_min: 10 },
    Key { prefix: "xoxb-", class: is_base64url, len_min: 10 },
    Key { prefix: "xoxp-", class: is_base64url, len_min: 10 },
    Key { prefix: "xoxr-", class: is_base64url, len_min: 10 },
    Key { prefix: "xoxs-", class: is_base64url, len_min: 10 },
    Key { prefix: "xapp-", class: is_base64url, len_min: 10 },
    // Stripe.
    Key { prefix: "sk_live_", class: is_alphanumeric, len_min: 16 },
    Key { prefix: "sk_test_", class: is_alphanumeric, len_min: 16 },
    Key { prefix: "rk_live_", class: is_alphanumeric, len_min: 16 },
    Key { prefix: "rk_test_", class: is_alphanumeric, len_min: 16 },
    Key { prefix: "whsec_", class: is_alphanumeric, len_min: 16 },
    // Registries.
    Key { prefix: "npm_", class: is_alphanumeric, len_min: 36 },
    Key { prefix: "pypi-", class: is_base64url, len_min: 40 },
];

const BEARER: &str = "bearer ";
const BEARER_BYTES_MIN: usize = 16;

/// Says whether a key or bearer credential may begin with the byte.
pub(super) const fn starts_key(byte: u8) -> bool {
    let mut at = 0;
    while at < KEYS.len() {
        if KEYS[at].prefix.as_bytes()[0] == byte {
            return true;
        }
        at += 1;
    }
    matches!(byte, b'b' | b'B')
}

pub(super) fn find_key(window: Window<'_>) -> Result<usize, Miss> {
    if window.text().as_bytes()[0].eq_ignore_ascii_case(&b'b') {
        return find_secret(window, BEARER.len(), BEARER_BYTES_MIN, is_token68, |byte, at| {
            byte.eq_ignore_ascii_case(&BEARER.as_bytes()[at])
        });
    }
    for key in &KEYS {
        let prefix = key.prefix.as_bytes();
        match find_secret(window, prefix.len(), key.len_min, key.class, |byte, at| byte == prefix[at]) {
            Err(Miss::Never) => {}
            decided => return decided,
        }
    }
    Err(Miss::Never)
}

/// Finds a prefix and at least `len_min` bytes of a class with a digit among them, which a name in words has not.
fn find_secret(
    window: Window<'_>,
    prefix_len: usize,
    len_min: usize,
    class: fn(u8) -> bool,
    is_prefix: impl Fn(u8, usize) -> bool,
) -> Result<usize, Miss> {
    for at in 0..prefix_len {
        if !window.at(at)?.is_some_and(|byte| is_prefix(byte, at)) {
            return Err(Miss::Never);
        }
    }
    let to = end_of_sentence(window, window.run(prefix_len, usize::MAX, class)?);
    let secret = window.text().as_bytes().get(prefix_len..to).unwrap_or_default();
    let is_secret = secret.len() >= len_min && secret.iter().any(u8::is_ascii_digit);
    if is_secret { Ok(to) } else { Err(Miss::Never) }
}

/// A token may have points inside; the last ones end a sentence, unless it goes on beyond the window.
fn end_of_sentence(window: Window<'_>, mut to: usize) -> usize {
    while !window.is_cut_at(to) && to > 0 && window.text().as_bytes()[to - 1] == b'.' {
        to -= 1;
    }
    to
}

/// Finds two parts that begin as JSON objects do, and the signature if there is one.
///
/// Source: RFC 7519 section 3, RFC 7515 section 7.1. Encrypted tokens (RFC 7516) are not found.
pub(super) fn find_jwt(window: Window<'_>) -> Result<usize, Miss> {
    let header = object(window, 0)?;
    if window.at(header)? != Some(b'.') {
        return Err(Miss::Never);
    }
    let claims = object(window, header + 1)?;
    if window.at(claims)? != Some(b'.') {
        return Ok(claims);
    }
    let signature = window.run(claims + 1, usize::MAX, is_base64url)?;
    let is_empty = signature == claims + 1 && !window.is_cut_at(signature);
    Ok(if is_empty { claims } else { signature })
}

/// Reads one part that is a JSON object: `{"` in base64url.
fn object(window: Window<'_>, from: usize) -> Result<usize, Miss> {
    for (at, expected) in b"eyJ".iter().enumerate() {
        if window.at(from + at)? != Some(*expected) {
            return Err(Miss::Never);
        }
    }
    window.run(from, usize::MAX, is_base64url)
}

/// Says whether a token that is longer than a window may go on with the byte. A full stop behind such a token goes with it.
pub(crate) fn goes_on(byte: u8) -> bool {
    is_token68(byte)
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit()
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Source: RFC 9110 section 11.2.
fn is_token68(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'=')
}
