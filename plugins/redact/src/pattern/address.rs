//! Addresses of the internet protocol, version 4 and 6. Ports and lengths of networks behind them stay.

use crate::window::{Miss, Window, end_of_word, is_word};

/// Finds four numbers up to 255. A version with four parts looks the same and is masked too, unless it begins with `v`.
pub(super) fn find_v4(window: Window<'_>) -> Result<usize, Miss> {
    let mut from = 0;
    for part in 0..4 {
        if part > 0 {
            if window.at(from)? != Some(b'.') {
                return Err(Miss::Never);
            }
            from += 1;
        }
        let to = window.run(from, 3, |byte| byte.is_ascii_digit())?;
        if window.text()[from..to].parse::<u8>().is_err() {
            return Err(Miss::Never);
        }
        from = to;
    }
    let next = window.at(from)?;
    end_of_word(next)?;
    if next == Some(b'.') && window.at(from + 1)?.is_some_and(is_word) {
        return Err(Miss::Never);
    }
    Ok(from)
}

/// Finds eight groups, or fewer with `::` among them; the last two may be a version 4 address.
///
/// Where `::` leaves only one or two groups, one must have a digit: `face::cafe` is rather a path in a program.
///
/// Source: RFC 4291 section 2.2.
pub(super) fn find_v6(window: Window<'_>) -> Result<usize, Miss> {
    let mut groups = 0;
    let mut has_gap = false;
    let mut at = 0;
    if window.at(0)? == Some(b':') {
        if window.at(1)? != Some(b':') {
            return Err(Miss::Never);
        }
        has_gap = true;
        at = 2;
    }
    while groups < 8 {
        let to = window.run(at, 5, |byte| byte.is_ascii_hexdigit())?;
        match to - at {
            0 => break,
            1..=4 => {}
            _ => return Err(Miss::Never),
        }
        if groups <= 6 && (groups == 6 || has_gap) && window.at(to)? == Some(b'.') {
            match find_v4(window.skip(at)) {
                Ok(len) => {
                    groups += 2;
                    at += len;
                    break;
                }
                Err(Miss::Undecided) => return Err(Miss::Undecided),
                Err(Miss::Never) => {}
            }
        }
        groups += 1;
        at = to;
        if window.at(at)? != Some(b':') {
            break;
        }
        match window.at(at + 1)? {
            Some(b':') if !has_gap => {
                has_gap = true;
                at += 2;
            }
            Some(byte) if byte.is_ascii_hexdigit() && groups < 8 => at += 1,
            _ => break,
        }
    }
    let next = window.at(at)?;
    end_of_word(next)?;
    let goes_on = next == Some(b':') && window.at(at + 1)?.is_some_and(|byte| byte == b':' || is_word(byte));
    let is_whole = if has_gap { (1..=7).contains(&groups) } else { groups == 8 };
    let has_digit = window.text().as_bytes()[..at].iter().any(u8::is_ascii_digit);
    if goes_on || !is_whole || (groups < 3 && !has_digit) { Err(Miss::Never) } else { Ok(at) }
}
