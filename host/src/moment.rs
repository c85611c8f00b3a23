//! Moments as microseconds since 1970 in UTC, and the words an operator has for them.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::calendar::{date as date_of, day_number};

/// Microseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
const DAY: i64 = 86_400 * SECOND;

/// The microseconds of a clock's time.
pub(crate) fn of(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Reads a moment: RFC 3339 (`2026-11-21T16:16:00Z`, with a space too, without an offset in UTC), a date, or how long
/// ago (`90s`, `15m`, `2h`, `7d`, `4w`).
///
/// A date is a day, everything else a moment without length; none if it is none of these.
pub(crate) fn parse(text: &str, now: i64) -> Option<Range<i64>> {
    if let Some(ago) = parse_ago(text) {
        let moment = now.saturating_sub(ago);
        return Some(moment..moment);
    }
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) =
        (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let days = day_number(year, month, day);
    // What is no date comes out as another one.
    if parts.next().is_some() || year < 1970 || date_of(days) != (year, month, day) {
        return None;
    }
    let midnight = days * DAY;
    match time {
        None => Some(midnight..midnight + DAY),
        Some(time) => {
            let moment = midnight + parse_time(time)?;
            Some(moment..moment)
        }
    }
}

fn parse_ago(text: &str) -> Option<i64> {
    let at = text.len().checked_sub(1)?;
    let unit = match text.as_bytes()[at] {
        b's' => SECOND,
        b'm' => 60 * SECOND,
        b'h' => 3600 * SECOND,
        b'd' => DAY,
        b'w' => 7 * DAY,
        _ => return None,
    };
    let count = text.get(..at)?;
    // Nine digits of weeks are more than all time there is.
    if !(1..=9).contains(&count.len()) || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    count.parse::<i64>().ok()?.checked_mul(unit)
}

/// Hours, minutes and seconds with an offset. Source: RFC 3339, section 5.6; seconds may be absent.
fn parse_time(text: &str) -> Option<i64> {
    let (clock, offset) = match text.find(['Z', 'z', '+', '-']) {
        None => (text, 0),
        Some(at) => (&text[..at], parse_offset(&text[at..])?),
    };
    let (clock, fraction) = match clock.split_once('.') {
        None => (clock, 0),
        Some((clock, digits)) => (clock, parse_fraction(digits)?),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = parts.next().map_or(Some(0), |second| number(second, 2))?;
    // A leap second counts as the next one's beginning.
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second) * SECOND + fraction - offset)
}

fn parse_offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) * SECOND)
}

fn parse_fraction(digits: &str) -> Option<i64> {
    if !(1..=9).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: i64 = format!("{digits:0<9}").parse().ok()?;
    Some(nanoseconds / 1000)
}

/// A number of so many digits and nothing else.
fn number(text: &str, digits: usize) -> Option<i64> {
    let is_plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_795_277_760 * SECOND; // 2026-11-21 16:16:00

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(
            parse(text, NOW).map(|moment| moment.start),
            expected.map(|seconds| seconds * SECOND),
            "{text}"
        );
    }

    #[test]
    fn a_moment_is_a_date_a_time_or_how_long_ago() {
        check("1970-01-01", Some(0));
        check("2000-02-29", Some(951_782_400));
        check("2026-11-21", Some(1_795_219_200));
        for same in [
            "2026-11-21T16:16:00Z",
            "2026-11-21t16:16:00z",
            "2026-11-21 16:16:00",
            "2026-11-21 16:16",
            "2026-11-21T17:16:00+01:00",
            "2026-11-21T08:46:00.000000-07:30",
            "0s",
        ] {
            check(same, Some(NOW / SECOND));
        }
        check("15m", Some(NOW / SECOND - 900));
        check("2h", Some(NOW / SECOND - 7200));
        check("7d", Some(NOW / SECOND - 7 * 86_400));
        check("1w", Some(NOW / SECOND - 7 * 86_400));
        assert_eq!(parse("1970-01-01T00:00:00.123456Z", NOW), Some(123_456..123_456));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            " ",
            "m",
            "yesterday",
            "-5m",
            "5 m",
            "5M",
            "1.5h",
            "1234567890s",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-00",
            "2026-11-31",
            "26-11-21",
            "2026-11-21T",
            "2026-11-21T24:00",
            "2026-11-21T10:60",
            "2026-11-21T10:00:61",
            "2026-11-21T10:00:00.",
            "2026-11-21T10:00:00+1",
            "2026-11-21T10:00:00+25:00",
            "2026-11-21-01",
            "２０26-11-21",
            "1969-12-31",
            "2026-11-21T10:00:00ZZ",
            "é",
            "5é",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_date_is_a_whole_day() {
        let day = parse("2026-11-21", NOW).unwrap();
        assert_eq!(day.end - day.start, 86_400 * SECOND);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}", clock in "[0-9TZ:.+ -]{0,32}") {
            for text in [text, clock] {
                let _ = parse(&text, NOW);
            }
        }
    }
}
