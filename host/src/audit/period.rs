//! The calendar of the audit: what time a row's number says, and which file that time belongs to. All in UTC.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calendar::{date, day_number};
use crate::config::Rotation;

/// How many numbers there are for each microsecond.
const NUMBERS_PER_US: i64 = 1024;
const US_PER_SECOND: i64 = 1_000_000;
const US_PER_DAY: i64 = 86_400 * US_PER_SECOND;

/// The numbers of rows that belong into one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    /// The digits of the file's name: `202611` for a month, `20261121` for a day, 0 for all time.
    digits: u32,
    /// The first number.
    first: i64,
    /// The first number after it.
    end: i64,
}

impl Period {
    /// The period that a row of this number belongs to.
    pub(super) fn of(number: i64, rotation: Rotation) -> Self {
        let day = number.div_euclid(NUMBERS_PER_US).div_euclid(US_PER_DAY);
        let (year, month, day_of_month) = date(day);
        let months = year * 100 + month;
        match rotation {
            Rotation::Never => Self { digits: 0, first: i64::MIN, end: i64::MAX },
            Rotation::Daily => Self::between(months * 100 + day_of_month, day, day + 1),
            Rotation::Monthly => {
                Self::between(months, day_number(year, month, 1), day_number(year, month + 1, 1))
            }
        }
    }

    /// The period with these digits in its name, if they are a month or a day.
    fn named(digits: &str) -> Option<Self> {
        if !matches!(digits.len(), 6 | 8) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let part = |range: std::ops::Range<usize>| digits[range].parse().ok();
        let (year, month): (i64, i64) = (part(0..4)?, part(4..6)?);
        let (rotation, day) =
            if digits.len() == 8 { (Rotation::Daily, part(6..8)?) } else { (Rotation::Monthly, 1) };
        let period = Self::of(day_number(year, month, day) * US_PER_DAY * NUMBERS_PER_US, rotation);
        // What is no date comes out as another one.
        (period.digits.to_string() == digits).then_some(period)
    }

    fn between(digits: i64, first_day: i64, end_day: i64) -> Self {
        let number = |day: i64| day.saturating_mul(US_PER_DAY).saturating_mul(NUMBERS_PER_US);
        let digits = u32::try_from(digits).unwrap_or_default();
        Self { digits, first: number(first_day), end: number(end_day) }
    }

    /// The first number after it.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// Whether a row of this number belongs to it.
    pub(super) fn contains(&self, number: i64) -> bool {
        (self.first..self.end).contains(&number)
    }

    /// Whether it is over before another one begins.
    pub(super) fn is_before(&self, other: &Self) -> bool {
        self.end <= other.first
    }

    /// Whether it is over at a time.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        self.end <= first_number(now)
    }

    /// What the file says of it: the digits of its name, or `all`.
    pub(super) fn word(&self) -> String {
        if self.digits == 0 { "all".to_owned() } else { self.digits.to_string() }
    }

    /// The name of its closed file beside the live one: `record_202611.db`, the second one `record_202611_2.db`.
    pub(super) fn file(&self, live: &Path, copy: u32) -> PathBuf {
        let (stem, extension) = name_parts(live);
        let suffix = if copy > 1 { format!("_{copy}") } else { String::new() };
        live.with_file_name(format!("{stem}_{}{suffix}{extension}", self.word()))
    }
}

/// A file of a period that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What its name says. A file that was begun under another `rotate` may have older rows, never newer ones.
    pub(super) period: Period,
}

/// The closed files beside a live one, oldest first; a folder that is not there has none.
///
/// # Errors
/// What the system says of a folder that cannot be listed.
pub(super) fn closed_files(live: &Path) -> io::Result<Vec<Closed>> {
    let folder = live.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = match std::fs::read_dir(folder.unwrap_or_else(|| Path::new("."))) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        if let Some((period, copy)) = name.to_str().and_then(|name| closed_name(live, name)) {
            files.push((copy, Closed { path: live.with_file_name(&name), period }));
        }
    }
    files.sort_by_key(|(copy, file)| (file.period.end, *copy));
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// The period and the number of the copy that a file's name says, if it is one beside `live`: `record_202611.db`,
/// `record_20261121_2.db`.
fn closed_name(live: &Path, name: &str) -> Option<(Period, u32)> {
    let (stem, extension) = name_parts(live);
    let middle = name.strip_prefix(&stem)?.strip_prefix('_')?.strip_suffix(&extension)?;
    let (digits, copy) = middle.split_once('_').unwrap_or((middle, "1"));
    let is_number = copy.bytes().all(|byte| byte.is_ascii_digit());
    Some((Period::named(digits)?, copy.parse().ok().filter(|_| is_number)?))
}

/// The two parts of a file's name: before the dot of its extension, and from there on.
pub(super) fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = text(path.extension());
    (text(path.file_stem()), if extension.is_empty() { extension } else { format!(".{extension}") })
}

/// The lowest number that an exchange which begins at a time can have.
pub(super) fn first_number(time: SystemTime) -> i64 {
    let us = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    i64::try_from(us * NUMBERS_PER_US as u128).unwrap_or(i64::MAX)
}

/// The time that a number says, as `2026-11-21 16:16:00.123456`.
pub(super) fn started(number: i64) -> [u8; 26] {
    let us = number.div_euclid(NUMBERS_PER_US);
    let (year, month, day) = date(us.div_euclid(US_PER_DAY));
    let time = us.rem_euclid(US_PER_DAY);
    let (seconds, fraction) = (time / US_PER_SECOND, time % US_PER_SECOND);
    let mut text = *b"0000-00-00 00:00:00.000000";
    let mut put = |mut value: i64, range: std::ops::Range<usize>| {
        for place in text[range].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(year, 0..4);
    put(month, 5..7);
    put(day, 8..10);
    put(seconds / 3600, 11..13);
    put(seconds / 60 % 60, 14..16);
    put(seconds % 60, 17..19);
    put(fraction, 20..26);
    text
}

/// The lowest number of a time that is written as [`started`] writes it, or of its date alone.
#[cfg(test)]
pub(super) fn number_at(text: &str) -> i64 {
    let part = |range: std::ops::Range<usize>| text.get(range).map_or(0, |digits| digits.parse().unwrap());
    let day = day_number(part(0..4), part(5..7), part(8..10));
    let seconds = (part(11..13) * 60 + part(14..16)) * 60 + part(17..19);
    ((day * 86_400 + seconds) * US_PER_SECOND + part(20..26)) * NUMBERS_PER_US
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(time: &str, month: &str, day: &str) {
        let number = number_at(time);
        assert_eq!(str::from_utf8(&started(number)), Ok(time));
        assert_eq!(Period::of(number, Rotation::Monthly).word(), month, "{time}");
        assert_eq!(Period::of(number, Rotation::Daily).word(), day, "{time}");
        assert_eq!(Period::of(number, Rotation::Never).word(), "all", "{time}");
    }

    #[test]
    fn a_row_belongs_to_the_month_and_day_of_its_start() {
        // parity: 145
        check("1970-01-01 00:00:00.000000", "197001", "19700101");
        check("2024-02-29 23:59:59.999999", "202402", "20240229");
        check("2024-03-01 00:00:00.000000", "202403", "20240301");
        check("2026-11-21 16:16:00.123456", "202611", "20261121");
        check("2026-12-31 23:59:59.999999", "202612", "20261231");
        check("2027-01-01 00:00:00.000000", "202701", "20270101");
        check("2100-02-28 12:00:00.000001", "210002", "21000228");
    }

    #[test]
    fn the_date_command_agrees() {
        assert_eq!(number_at("2026-11-21 16:16:00"), 1_795_277_760 * 1_000_000 * 1024);
        assert_eq!(number_at("2000-03-01"), 951_868_800 * 1_000_000 * 1024);
    }

    #[track_caller]
    fn check_name(live: &str, name: &str, expected: bool) {
        assert_eq!(closed_name(Path::new(live), name).is_some(), expected, "{name} beside {live}");
    }

    #[test]
    fn only_names_of_the_scheme_are_closed_files() {
        for name in ["record_202611.db", "record_202611_2.db", "record_20261121.db", "record_20261121_17.db"]
        {
            check_name("data/record.db", name, true);
            check_name("data/other.db", name, false);
        }
        for name in [
            "record.db",
            "record_.db",
            "record_202613.db",
            "record_202600.db",
            "record_20261131.db",
            "record_202611",
            "record_202611.db-wal",
            "record_202611_.db",
            "record_202611_x.db",
            "record_202611_+2.db",
            "record_2026.db",
            "record_2026112.db",
            "record_all.db",
            "record-202611.db",
            "xrecord_202611.db",
            "record_202611_2_3.db",
            "record_202611.sqlite",
            "record_202611db",
            "record.corrupt-1.db",
            "record_é2026.db",
        ] {
            check_name("data/record.db", name, false);
        }
        check_name("record", "record_202611", true);
        check_name("record", "record_202611.db", false);
    }

    #[test]
    fn closed_files_are_listed_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("record.db");
        let closed = [
            "record_202609.db",
            "record_202610.db",
            "record_202610_2.db",
            "record_202610_10.db",
            "record_20261101.db",
        ];
        for name in closed.iter().rev().chain(&["record.db", "record_2026.db"]) {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<PathBuf> = closed_files(&live).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(found, closed.map(|name| folder.path().join(name)));
        assert_eq!(closed_files(Path::new("/nowhere/record.db")).unwrap(), []);
        assert_eq!(closed_files(&live.join("record.db")).unwrap(), []);
    }

    #[test]
    fn a_closed_file_is_named_after_the_live_one() {
        let month = Period::of(number_at("2026-11-21"), Rotation::Monthly);
        for (live, copy, closed) in [
            ("data/record.db", 1, "data/record_202611.db"),
            ("record.db", 2, "record_202611_2.db"),
            ("/a/audit", 1, "/a/audit_202611"),
        ] {
            assert_eq!(month.file(Path::new(live), copy), Path::new(closed));
        }
    }

    #[test]
    fn a_month_is_over_when_the_next_one_begins() {
        let month = Period::of(number_at("2026-11-21"), Rotation::Monthly);
        let end = UNIX_EPOCH + Duration::from_secs(1_796_083_200); // 2026-12-01
        assert!(month.is_over(end) && !month.is_over(end - Duration::from_micros(1)));
        assert!(month.is_before(&Period::of(first_number(end), Rotation::Monthly)));
    }

    proptest! {
        #[test]
        fn days_come_out_as_they_went_in(day in -1_000_000..3_000_000_i64) {
            let (year, month, day_of_month) = date(day);
            prop_assert_eq!(day_number(year, month, day_of_month), day);
        }

        #[test]
        fn periods_leave_no_gap(number: i64) {
            for rotation in [Rotation::Daily, Rotation::Monthly] {
                let period = Period::of(number, rotation);
                // The very ends of the range are cut off.
                prop_assert!(period.contains(number) || period.end == i64::MAX || period.first == i64::MIN);
                prop_assert!(Period::of(period.end, rotation).first == period.end || period.end == i64::MAX);
            }
            started(number);
        }

        #[test]
        fn no_name_panics(digits in "\\PC{0,9}", name in "record_\\PC{0,12}") {
            Period::named(&digits);
            closed_name(Path::new("record.db"), &name);
        }
    }
}
