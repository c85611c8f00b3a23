//! Days and times in UTC, without a time zone and without a clock.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::calendar;

/// Seconds of a day; UTC as computers keep it has no leap seconds.
const DAY_S: u64 = 24 * 60 * 60;
/// The months as the access logs of web servers write them.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A day in the Gregorian calendar; shown as `2026-11-21`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date {
    year: i64,
    month: u8,
    day: u8,
}

/// A second in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second {
    date: Date,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// The day of a moment; one before 1970 counts as its first day.
    pub(super) fn of(moment: SystemTime) -> Self {
        Self::from_days(since_1970(moment).as_secs() / DAY_S)
    }

    /// The day that `text` names as `2026-11-21`, if there is such a day from 1970 on.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let is_shaped = bytes.len() == 10
            && bytes.iter().enumerate().all(|(place, byte)| match place {
                4 | 7 => *byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_shaped {
            return None;
        }
        let date = Self {
            year: text[..4].parse().ok()?,
            month: text[5..7].parse().ok()?,
            day: text[8..].parse().ok()?,
        };
        // A day that does not exist is another one after a round trip.
        let days = u64::try_from(date.days()).ok()?;
        (Self::from_days(days) == date).then_some(date)
    }

    /// How many days this day is after another; negative before it.
    pub(super) fn days_since(self, other: Self) -> i64 {
        self.days() - other.days()
    }

    fn from_days(days: u64) -> Self {
        let (year, month, day) = calendar::date(days.min(i64::MAX as u64 / 2) as i64);
        Self { year, month: month as u8, day: day as u8 }
    }

    /// Days since 1970-01-01.
    fn days(self) -> i64 {
        calendar::day_number(self.year, i64::from(self.month), i64::from(self.day))
    }
}

impl Second {
    /// The second that begins so many seconds after 1970 began.
    pub(super) fn from_unix(seconds: u64) -> Self {
        let of_day = seconds % DAY_S;
        Self {
            date: Date::from_days(seconds / DAY_S),
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }

    /// As RFC 3339 writes it, but for the fraction and the zone: `2026-11-21T16:16:00`.
    pub(super) fn in_iso(self) -> String {
        format!("{}T{:02}:{:02}:{:02}", self.date, self.hour, self.minute, self.second)
    }

    /// As the access logs of web servers write it: `21/Nov/2026:16:16:00 +0000`.
    pub(super) fn in_common_log(self) -> String {
        let Date { year, month, day } = self.date;
        let month = MONTHS[usize::from(month) - 1];
        format!("{day:02}/{month}/{year:04}:{:02}:{:02}:{:02} +0000", self.hour, self.minute, self.second)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// The time since 1970 began; none of it before.
pub(super) fn since_1970(moment: SystemTime) -> Duration {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unix: u64, iso: &str, common: &str) {
        let second = Second::from_unix(unix);
        assert_eq!(second.in_iso(), iso);
        assert_eq!(second.in_common_log(), common);
        let date = Date::of(SystemTime::UNIX_EPOCH + Duration::from_secs(unix));
        assert_eq!(date.to_string(), iso[..10]);
        assert_eq!(Date::parse(&iso[..10]), Some(date));
    }

    #[test]
    fn a_moment_is_written_as_logs_write_it() {
        // Source of the expected values: GNU date, `date -u -d @N`.
        check(0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00 +0000");
        check(951_782_399, "2000-02-28T23:59:59", "28/Feb/2000:23:59:59 +0000");
        check(951_782_400, "2000-02-29T00:00:00", "29/Feb/2000:00:00:00 +0000");
        check(951_868_800, "2000-03-01T00:00:00", "01/Mar/2000:00:00:00 +0000");
        check(1_795_277_760, "2026-11-21T16:16:00", "21/Nov/2026:16:16:00 +0000");
        check(4_107_542_400, "2100-03-01T00:00:00", "01/Mar/2100:00:00:00 +0000");
    }

    #[test]
    fn every_day_of_a_thousand_years_follows_the_one_before() {
        let mut last = Date::from_days(0);
        for days in 1..365_250 {
            let date = Date::from_days(days);
            assert_eq!(date.days(), days as i64);
            assert!(date > last && date.days_since(last) == 1, "{date} after {last}");
            last = date;
        }
    }

    #[test]
    fn what_is_no_day_is_not_read_as_one() {
        for text in ["", "2026-1-1", "2026-13-01", "2026-00-01", "2026-02-30", "2025-02-29", "1969-12-31"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
        for text in ["2026-11-2é", "+026-11-21", "2026-11-211", "2026/11/21", "ééééé"] {
            assert_eq!(Date::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_clock_before_1970_is_at_its_beginning() {
        assert_eq!(Date::of(SystemTime::UNIX_EPOCH - Duration::from_secs(1)).to_string(), "1970-01-01");
    }
}
