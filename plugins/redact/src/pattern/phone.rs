//! Telephone numbers, with caution, since most groups of digits are none: international ones with their `+`, and those of
//! North America in their usual punctuation.

use crate::window::{Miss, Window, end_of_word, is_word};

/// Source: ITU-T E.164 section 6 (at most 15 digits). Fewer than nine are no whole number in nearly all countries.
const DIGITS_MIN: usize = 9;
const DIGITS_MAX: usize = 15;

pub(super) fn find(window: Window<'_>) -> Result<usize, Miss> {
    match window.at(0)? {
        Some(b'+') => find_international(window),
        _ => find_american(window),
    }
}

fn find_international(window: Window<'_>) -> Result<usize, Miss> {
    if !matches!(window.at(1)?, Some(b'1'..=b'9')) {
        return Err(Miss::Never);
    }
    let mut end = Err(Miss::Never);
    let mut digits = 0;
    let (mut points, mut separators) = (0, 0);
    let mut from = 1;
    loop {
        let to = window.run(from, DIGITS_MAX + 1 - digits, |byte| byte.is_ascii_digit())?;
        digits += to - from;
        let next = window.at(to)?;
        if to == from || digits > DIGITS_MAX {
            return end;
        }
        // One point alone is that of a fraction.
        let is_fraction = points == 1 && separators == 1;
        if digits >= DIGITS_MIN && !is_fraction && !next.is_some_and(is_word) {
            end = Ok(to);
        }
        from = separator(window, to)?;
        if from == to {
            return end;
        }
        separators += 1;
        points += usize::from(next == Some(b'.'));
    }
}

/// Returns where the next group may begin: behind a closing bracket, one separator and an opening bracket, all optional.
fn separator(window: Window<'_>, mut at: usize) -> Result<usize, Miss> {
    for part in [b")".as_slice(), b" -./", b"("] {
        if window.at(at)?.is_some_and(|byte| part.contains(&byte)) {
            at += 1;
        }
    }
    Ok(at)
}

/// Finds `415-555-2671`, `415.555.2671` and `(415) 555-2671`, each also behind `1` and a separator.
fn find_american(window: Window<'_>) -> Result<usize, Miss> {
    let mut area = 0;
    if window.at(0)? == Some(b'1') {
        let is_prefix = matches!(window.at(1)?, Some(b'-' | b'.' | b' '));
        area = if is_prefix { 2 } else { return Err(Miss::Never) };
    }
    let (exchange, separator) = if window.at(area)? == Some(b'(') {
        let to = group(window, area + 1, 3)?;
        expect(window, to, b")")?;
        let at = to + 1 + usize::from(window.at(to + 1)? == Some(b' '));
        (at, b"- .".as_slice())
    } else {
        let to = group(window, area, 3)?;
        let found = expect(window, to, b"-.")?;
        (to + 1, if found == b'-' { b"-".as_slice() } else { b"." })
    };
    let line = group(window, exchange, 3)?;
    expect(window, line, separator)?;
    let to = window.run(line + 1, 4, |byte| byte.is_ascii_digit())?;
    let next = window.at(to)?;
    end_of_word(next)?;
    let goes_on =
        matches!(next, Some(b'-' | b'.')) && window.at(to + 1)?.is_some_and(|byte| byte.is_ascii_digit());
    if to - line < 5 || goes_on { Err(Miss::Never) } else { Ok(to) }
}

/// Reads a group of digits of the North American plan, which begins with 2 to 9.
fn group(window: Window<'_>, from: usize, len: usize) -> Result<usize, Miss> {
    let to = window.run(from, len, |byte| byte.is_ascii_digit())?;
    let is_group = to - from == len && window.text().as_bytes()[from] >= b'2';
    if is_group { Ok(to) } else { Err(Miss::Never) }
}

fn expect(window: Window<'_>, at: usize, bytes: &[u8]) -> Result<u8, Miss> {
    window.at(at)?.filter(|byte| bytes.contains(byte)).ok_or(Miss::Never)
}
