//! When a key ends: a date or a time of RFC 3339, as seconds since 1970.

const DAY_SECONDS: i64 = 86_400;

/// Reads `2027-01-31`, whose last second still counts, or a time such as `2027-01-31T18:00:00+01:00`, which does not;
/// returns the first second in which the key is no longer good. Fractions of a second are cut off.
///
/// Source: RFC 3339, section 5.6.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let midnight = days(bytes.get(..10)?)? * DAY_SECONDS;
    let [separator, time @ ..] = &bytes[10..] else { return Some(midnight + DAY_SECONDS) };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = time else { return None };
    let hour = number(&[*h1, *h2], 23)?;
    let minute = number(&[*m1, *m2], 59)?;
    let second = number(&[*s1, *s2], 60)?;
    Some(midnight + hour * 3600 + minute * 60 + second - offset(after_fraction(rest)?)?)
}

/// Days since 1970 of `YYYY-MM-DD`.
fn days(date: &[u8]) -> Option<i64> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let year = number(&[*y1, *y2, *y3, *y4], 9999)?;
    let month = number(&[*m1, *m2], 12)?;
    let day = number(&[*d1, *d2], 31)?;
    if month == 0 || day == 0 || day > month_days(year, month) {
        return None;
    }
    // The year begins in March here, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn after_fraction(rest: &[u8]) -> Option<&[u8]> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some(rest) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (len > 0).then(|| &digits[len..])
}

/// Seconds east of Greenwich.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2], 23)? * 3600 + number(&[*m1, *m2], 59)? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn number(digits: &[u8], max: i64) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        value = value * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    (value <= max).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: Option<i64>) {
        assert_eq!(parse(text), seconds, "{text}");
    }

    #[test]
    fn a_date_lasts_to_its_end() {
        check("1970-01-01", Some(86_400));
        check("1969-12-31", Some(0));
        check("2000-02-29", Some(951_868_800));
        check("2024-02-29", Some(1_709_251_200));
        check("2026-12-31", Some(1_798_761_600));
    }

    #[test]
    fn a_time_ends_at_once() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-12-31T23:59:60Z", Some(1_798_761_600));
        check("2026-12-31t12:00:00.123z", Some(1_798_718_400));
        check("2026-12-31 12:00:00+01:00", Some(1_798_714_800));
        check("2026-12-31T12:00:00-01:30", Some(1_798_723_800));
    }

    #[test]
    fn anything_else_is_refused() {
        let dates = "|2026|2026-1-1|2026-00-10|2026-13-01|2026-02-29|1900-02-29|2026-04-31|2026-12-31x|31.12.2026|+026-12-31";
        let times =
            "T|T12:00|T12:00:00|T24:00:00Z|T12:60:00Z|T12:00:00.Z|T12:00:00+0100|T12:00:00Zx|T12:00:00é";
        let times = times.split('|').map(|time| format!("2026-12-31{time}"));
        for text in dates.split('|').map(str::to_owned).chain(times) {
            let text = text.as_str();
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn days_follow_each_other(year in 1_i64..9999, month in 1_i64..=12, day in 1_i64..=31) {
            let date = |year: i64, month: i64, day: i64| parse(&format!("{year:04}-{month:02}-{day:02}"));
            let Some(end) = date(year, month, day) else {
                prop_assert!(day > 28);
                return Ok(());
            };
            let next = date(year, month, day + 1).or_else(|| date(year, month + 1, 1)).or_else(|| date(year + 1, 1, 1));
            prop_assert_eq!(next, Some(end + DAY_SECONDS));
        }

        #[test]
        fn nothing_panics(text in "[0-9TZ:.+é -]{0,30}") {
            let _ = parse(&text);
        }
    }
}
