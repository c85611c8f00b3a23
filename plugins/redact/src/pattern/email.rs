//! E-mail addresses as they are written in practice: dotted words, `@`, and a domain name with a top level.
//!
//! Not found: quoted local parts, addresses at IP literals, letters outside ASCII.

use crate::window::{Miss, Window};

/// Source: RFC 5321 section 4.5.3.1 (local part 64, domain 255), RFC 1035 section 2.3.4 (label 63).
const LOCAL_BYTES_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 255;
const LABEL_BYTES_MAX: usize = 63;

/// The longest top level of letters is shorter; a longer word is none.
const TOP_BYTES_MAX: usize = 24;

/// Says whether a byte may begin a local part. Dots and signs may, so that nothing of one stays in front of the match.
pub(super) const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

pub(super) fn find(window: Window<'_>) -> Result<usize, Miss> {
    // An apostrophe belongs to a name (`o'brien@…`) but not to the quotes around an address.
    let at = window.run(0, LOCAL_BYTES_MAX, |byte| is_local(byte) || byte == b'\'')?;
    if at == 0 || window.at(at)? != Some(b'@') {
        return Err(Miss::Never);
    }
    let domain = at + 1;
    let mut end = Err(Miss::Never);
    let mut from = domain;
    while from - domain < DOMAIN_BYTES_MAX {
        let to = label(window, from)?;
        if to == from {
            break;
        }
        if from > domain {
            end = top(&window.text().as_bytes()[from..to]).map(|len| from + len).or(end);
        }
        if window.at(to)? != Some(b'.') {
            break;
        }
        from = to + 1;
    }
    end
}

/// Returns where the label ends that begins at `from`; hyphens at its ends are not part of it.
fn label(window: Window<'_>, from: usize) -> Result<usize, Miss> {
    if window.at(from)? == Some(b'-') {
        return Ok(from);
    }
    let mut to = window.run(from, LABEL_BYTES_MAX, |byte| byte.is_ascii_alphanumeric() || byte == b'-')?;
    while to > from && window.text().as_bytes()[to - 1] == b'-' {
        to -= 1;
    }
    Ok(to)
}

/// Returns how many bytes of a label are a top level: its letters, or all of it when it is an encoded name.
fn top(label: &[u8]) -> Result<usize, Miss> {
    if label.starts_with(b"xn--") {
        return Ok(label.len());
    }
    let letters = label.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let is_top =
        (2..=TOP_BYTES_MAX).contains(&letters) && !label.get(letters).is_some_and(u8::is_ascii_digit);
    if is_top { Ok(letters) } else { Err(Miss::Never) }
}
