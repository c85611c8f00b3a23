//! Social security numbers of the United States, with their hyphens; without them they are any number of nine digits.

use crate::window::{Miss, Window, end_of_word};

/// Source: Social Security Administration, "Social Security Number Randomization": never 000, 666 or 900 to 999 in front,
/// no group of zeros.
pub(super) fn find(window: Window<'_>) -> Result<usize, Miss> {
    let area = digits(window, 0, 3)?;
    hyphen(window, 3)?;
    let group = digits(window, 4, 2)?;
    hyphen(window, 6)?;
    let serial = digits(window, 7, 4)?;
    let next = window.at(11)?;
    end_of_word(next)?;
    let goes_on = next == Some(b'-') && window.at(12)?.is_some_and(|byte| byte.is_ascii_digit());
    let is_issued = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    if goes_on || !is_issued { Err(Miss::Never) } else { Ok(11) }
}

fn digits(window: Window<'_>, from: usize, len: usize) -> Result<u16, Miss> {
    let to = window.run(from, len, |byte| byte.is_ascii_digit())?;
    if to - from < len {
        return Err(Miss::Never);
    }
    window.text()[from..to].parse().map_err(|_| Miss::Never)
}

fn hyphen(window: Window<'_>, at: usize) -> Result<(), Miss> {
    if window.at(at)? == Some(b'-') { Ok(()) } else { Err(Miss::Never) }
}
