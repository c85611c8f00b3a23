//! Numbers of payment cards: the first digits of the big networks, 13 to 19 digits in one of the usual groupings, and the
//! check digit.

use crate::window::{Miss, Window, is_word};

const DIGITS_MAX: usize = 19;
const GROUPS_MAX: usize = 5;

pub(super) fn find(window: Window<'_>) -> Result<usize, Miss> {
    let mut digits = Vec::with_capacity(DIGITS_MAX);
    let mut groups = Vec::with_capacity(GROUPS_MAX);
    let mut separator = None;
    let mut end = Err(Miss::Never);
    let mut from = 0;
    loop {
        // One digit more than fits shows that the number goes on.
        let to = window.run(from, DIGITS_MAX + 1 - digits.len(), |byte| byte.is_ascii_digit())?;
        digits.extend_from_slice(&window.text().as_bytes()[from..to]);
        groups.push(to - from);
        let (is_whole, may_go_on) = layout(&groups);
        let next = window.at(to)?;
        if is_whole && !next.is_some_and(is_word) && is_issued(&digits) && has_check_digit(&digits) {
            end = Ok(to);
        }
        if !may_go_on || !matches!(next, Some(b' ' | b'-')) || (separator.is_some() && separator != next) {
            return end;
        }
        separator = next;
        from = to + 1;
    }
}

/// Says of the lengths of the groups so far whether they are a whole number, and whether further groups may follow.
fn layout(groups: &[usize]) -> (bool, bool) {
    match groups {
        [13..=DIGITS_MAX] | [4, 6, 4 | 5] | [4, 4, 4, 1..=3] | [4, 4, 4, 4, 1..=3] => (true, false),
        [4, 4, 4, 4] => (true, true),
        [4] | [4, 4 | 6] | [4, 4, 4] => (false, true),
        _ => (false, false),
    }
}

/// Says whether a network issues such numbers: American Express, Diners, JCB (3), Visa (4), Mastercard (5 and 2221 to
/// 2720), Discover, UnionPay, Maestro (6).
///
/// Source: ISO/IEC 7812-1, and the ranges the networks publish.
fn is_issued(digits: &[u8]) -> bool {
    match digits[0] {
        b'2' => (b"2221".as_slice()..=b"2720").contains(&&digits[..4]),
        first => matches!(first, b'3'..=b'6'),
    }
}

/// Source: ISO/IEC 7812-1 annex B (Luhn).
fn has_check_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let value = u32::from(digit - b'0') << (at % 2);
            if value > 9 { value - 9 } else { value }
        })
        .sum();
    sum.is_multiple_of(10)
}
