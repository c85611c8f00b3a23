//! The files of the log: one a day and kind, cut at a size, kept for some days.
//!
//! `info.2026-11-21.log` is the file that is written to on that day, in UTC. When the next line would make it too large
//! it becomes `info.2026-11-21.log.1`, the one after that `.2`, and so on: the higher, the later. Days that are over the
//! bound are removed at the start and before the first line of a day, of whatever kind; what has another name is never touched. A file that somebody
//! removed or renamed is made again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::calendar::Date;
use crate::config;

/// Who may read them: they hold addresses and what was asked for, so not everybody.
const MODE: u32 = 0o640;

/// Which file a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Exchanges that went well.
    Info,
    /// Exchanges that did not.
    Error,
    /// What the gateway itself says.
    System,
}

/// The folder and what is open in it.
pub(super) struct Files {
    folder: PathBuf,
    limits: Limits,
    /// The day on which the days that are over were removed last.
    pruned: Date,
    open: [Option<Open>; Kind::ALL.len()],
}

/// How large files get and how long they stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The most bytes of a file; only a single line may be longer.
    bytes_max: u64,
    /// For how many days each kind is kept, the current one included; 0 keeps all.
    days_kept: [u32; Kind::ALL.len()],
}

struct Open {
    file: File,
    date: Date,
    len: u64,
    /// Device and inode, by which a file is known whatever its name.
    identity: (u64, u64),
}

impl Kind {
    const ALL: [Self; 3] = [Self::Info, Self::Error, Self::System];

    fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Error => "error",
            Self::System => "system",
        }
    }

    fn file_name(self, date: Date) -> String {
        format!("{}.{date}.log", self.name())
    }
}

impl Limits {
    /// As the configuration says.
    pub(super) fn of(settings: &config::Log) -> Self {
        let keep = settings.keep;
        let bytes_max = if settings.size_max == 0 { u64::MAX } else { settings.size_max };
        Self { bytes_max, days_kept: [keep.info, keep.error, keep.system] }
    }
}

impl Files {
    /// Makes the folder if need be, finds out whether it can be written to, and removes what is too old.
    ///
    /// # Errors
    ///
    /// The folder or a file in it cannot be made.
    pub(super) fn open(folder: &Path, limits: Limits, now: SystemTime) -> io::Result<Self> {
        let today = Date::of(now);
        let mut files = Self { folder: folder.to_owned(), limits, pruned: today, open: [const { None }; 3] };
        // There is always something for this one.
        files.ready(Kind::System, today)?;
        files.prune(today);
        Ok(files)
    }

    /// Sets other limits from now on.
    pub(super) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Adds lines to the file of the day, and begins another one where it would get too large.
    ///
    /// # Errors
    ///
    /// The file cannot be made or written; a part of the lines may be in it.
    pub(super) fn write(&mut self, kind: Kind, mut lines: &[u8], now: SystemTime) -> io::Result<()> {
        let today = Date::of(now);
        if self.pruned != today {
            self.prune(today);
        }
        while !lines.is_empty() {
            let bytes_max = self.limits.bytes_max;
            let open = self.ready(kind, today)?;
            let room = usize::try_from(bytes_max.saturating_sub(open.len)).unwrap_or(usize::MAX);
            let len = match lines.get(..room) {
                None => lines.len(),
                Some(fitting) => match memchr::memrchr(b'\n', fitting) {
                    Some(end) => end + 1,
                    None if open.len > 0 => {
                        self.set_aside(kind)?;
                        continue;
                    }
                    // A line that no file has room for has one for itself.
                    None => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
                },
            };
            let (now, later) = lines.split_at(len);
            let written = open.file.write_all(now);
            open.len += now.len() as u64;
            if written.is_err() {
                // How much of it arrived is not known.
                self.open[kind as usize] = None;
                return written;
            }
            lines = later;
        }
        Ok(())
    }

    /// The file of the day, opened if it is not or if it is gone.
    fn ready(&mut self, kind: Kind, today: Date) -> io::Result<&mut Open> {
        let path = self.folder.join(kind.file_name(today));
        let known = self.open[kind as usize].as_ref();
        let is_there = known.is_some_and(|open| {
            open.date == today && fs::metadata(&path).is_ok_and(|found| identity(&found) == open.identity)
        });
        if !is_there {
            self.open[kind as usize] = Some(Open::new(&path, today)?);
        }
        Ok(self.open[kind as usize].as_mut().expect("it is open or has just been opened"))
    }

    /// Gives the full file of the day its number.
    fn set_aside(&mut self, kind: Kind) -> io::Result<()> {
        let Some(full) = self.open[kind as usize].take() else { return Ok(()) };
        let name = kind.file_name(full.date);
        let numbers = self.numbered(kind).filter(|(date, _, _)| *date == full.date);
        let next = numbers.map(|(_, number, _)| number).max().unwrap_or(0) + 1;
        match fs::rename(self.folder.join(&name), self.folder.join(format!("{name}.{next}"))) {
            // Somebody else was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed,
        }
    }

    /// Removes the files of days that are over, those of kinds that nothing is written to any more as well.
    fn prune(&mut self, today: Date) {
        self.pruned = today;
        Kind::ALL.into_iter().for_each(|kind| self.prune_kind(kind, today));
    }

    /// One that cannot be removed stays until the next day.
    fn prune_kind(&self, kind: Kind, today: Date) {
        let days_kept = i64::from(self.limits.days_kept[kind as usize]);
        if days_kept == 0 {
            return;
        }
        let over = self.numbered(kind).filter(|(date, _, _)| today.days_since(*date) >= days_kept);
        for (_, _, path) in over {
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a log file that is too old cannot be removed");
            }
        }
    }

    /// The files of a kind: their days, their numbers (0 for the one that was written to last) and their paths.
    fn numbered(&self, kind: Kind) -> impl Iterator<Item = (Date, u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name();
            let (date, number) = parse(kind, name.to_str()?)?;
            Some((date, number, entry.path()))
        })
    }
}

impl Open {
    fn new(path: &Path, date: Date) -> io::Result<Self> {
        let open = || OpenOptions::new().append(true).create(true).mode(MODE).open(path);
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), fs::create_dir_all)?;
                open()?
            }
            opened => opened?,
        };
        let found = file.metadata()?;
        Ok(Self { file, date, len: found.len(), identity: identity(&found) })
    }
}

fn identity(found: &fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Reads the name of one of our files of a kind: its day and its number.
fn parse(kind: Kind, name: &str) -> Option<(Date, u64)> {
    let (date, rest) = name.strip_prefix(kind.name())?.strip_prefix('.')?.split_once(".log")?;
    let number = match rest.strip_prefix('.') {
        None if rest.is_empty() => 0,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        _ => return None,
    };
    Some((Date::parse(date)?, number))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_262_400)
    }

    fn files(folder: &TempDir, bytes_max: u64, days_kept: [u32; 3]) -> Files {
        Files::open(folder.path(), Limits { bytes_max, days_kept }, noon()).unwrap()
    }

    /// Every file of the folder and what it holds, the empty ones left out.
    fn found(folder: &TempDir) -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let all = entries.map(|entry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        });
        all.filter(|(_, text)| !text.is_empty()).collect()
    }

    #[track_caller]
    fn check(folder: &TempDir, expected: &[(&str, &str)]) {
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        assert_eq!(found(folder), expected);
    }

    // parity: 151
    #[test]
    fn each_kind_has_a_file_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder, 1000, [0; 3]);
        files.write(Kind::Info, b"a\n", noon()).unwrap();
        files.write(Kind::Error, b"b\n", noon()).unwrap();
        files.write(Kind::Info, b"c\n", noon() + DAY / 2 - Duration::from_millis(1)).unwrap();
        files.write(Kind::Info, b"d\n", noon() + DAY / 2).unwrap();
        files.write(Kind::System, b"e\n", noon() + DAY).unwrap();
        check(
            &folder,
            &[
                ("info.2026-11-21.log", "a\nc\n"),
                ("error.2026-11-21.log", "b\n"),
                ("info.2026-11-22.log", "d\n"),
                ("system.2026-11-22.log", "e\n"),
            ],
        );
        let mode = fs::metadata(folder.path().join("info.2026-11-21.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !MODE, 0, "not for everybody");
    }

    // parity: 151
    #[test]
    fn a_full_file_is_set_aside_between_two_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder, 6, [0; 3]);
        files.write(Kind::Info, b"11\n22\n33\n", noon()).unwrap();
        check(&folder, &[("info.2026-11-21.log.1", "11\n22\n"), ("info.2026-11-21.log", "33\n")]);
        files.write(Kind::Info, b"a long line\n4\n", noon()).unwrap();
        check(
            &folder,
            &[
                ("info.2026-11-21.log.1", "11\n22\n"),
                ("info.2026-11-21.log.2", "33\n"),
                ("info.2026-11-21.log.3", "a long line\n"),
                ("info.2026-11-21.log", "4\n"),
            ],
        );
    }

    #[test]
    fn what_a_run_before_wrote_is_counted_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        files(&folder, 6, [0; 3]).write(Kind::Info, b"11\n22\n", noon()).unwrap();
        files(&folder, 6, [0; 3]).write(Kind::Info, b"33\n", noon()).unwrap();
        check(&folder, &[("info.2026-11-21.log.1", "11\n22\n"), ("info.2026-11-21.log", "33\n")]);
    }

    // parity: 151
    #[test]
    fn days_that_are_over_are_removed_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "info.2026-11-19.log",
            "info.2026-11-19.log.12",
            "info.2026-11-20.log",
            "error.2026-11-19.log",
            "system.2026-11-19.log",
            "info.2026-11-19.log.gz",
            "info.2026-11-19.log.1.gz",
            "info.2026-13-19.log",
            "info.log",
            "xinfo.2026-11-19.log",
            "notes.txt",
        ];
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut files = files(&folder, 1000, [2, 4, 0]);
        let left = |folder: &TempDir| found(folder).into_keys().collect::<Vec<_>>();
        let mut expected: Vec<&str> = names[2..].to_vec();
        expected.sort_unstable();
        assert_eq!(left(&folder), expected);
        files.write(Kind::Info, b"a\n", noon()).unwrap();
        files.write(Kind::Error, b"a\n", noon()).unwrap();
        files.write(Kind::Info, b"a\n", noon() + DAY).unwrap();
        files.write(Kind::Error, b"a\n", noon() + 2 * DAY).unwrap();
        let now = left(&folder);
        assert!(!now.contains(&"info.2026-11-20.log".to_owned()), "{now:?}");
        assert!(now.contains(&"info.2026-11-22.log".to_owned()), "{now:?}");
        assert!(!now.contains(&"error.2026-11-19.log".to_owned()), "{now:?}");
        assert!(now.contains(&"system.2026-11-19.log".to_owned()), "0 keeps all: {now:?}");
    }

    #[test]
    fn a_kind_without_lines_is_not_kept_for_longer() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder, 1000, [0, 2, 0]);
        files.write(Kind::Error, b"a\n", noon()).unwrap();
        files.write(Kind::System, b"a\n", noon() + DAY).unwrap();
        assert!(found(&folder).contains_key("error.2026-11-21.log"));
        files.write(Kind::System, b"a\n", noon() + 2 * DAY).unwrap();
        let left: Vec<String> = found(&folder).into_keys().collect();
        assert_eq!(left, ["system.2026-11-22.log", "system.2026-11-23.log"]);
    }

    #[test]
    fn a_file_that_was_removed_or_renamed_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(&folder, 1000, [0; 3]);
        let path = folder.path().join("info.2026-11-21.log");
        files.write(Kind::Info, b"a\n", noon()).unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        files.write(Kind::Info, b"b\n", noon()).unwrap();
        fs::remove_file(&path).unwrap();
        files.write(Kind::Info, b"c\n", noon()).unwrap();
        check(&folder, &[("moved", "a\n"), ("info.2026-11-21.log", "c\n")]);
        fs::remove_dir_all(folder.path()).unwrap();
        files.write(Kind::Info, b"d\n", noon()).unwrap();
        check(&folder, &[("info.2026-11-21.log", "d\n")]);
    }

    #[test]
    fn a_folder_that_cannot_be_is_said_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let limits = Limits { bytes_max: 1, days_kept: [0; 3] };
        assert!(Files::open(&file, limits, noon()).is_err());
        assert!(Files::open(&file.join("below"), limits, noon()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_lost_or_torn(
            lines in proptest::collection::vec("[a-z]{0,9}\n", 1..40),
            bytes_max in 1_u64..30,
            cuts in proptest::collection::vec(1_usize..8, 1..10),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut files = files(&folder, bytes_max, [0; 3]);
            let (mut rest, mut cuts) = (&lines[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                files.write(Kind::Error, batch.concat().as_bytes(), noon()).unwrap();
                rest = later;
            }
            let mut all: Vec<_> = found(&folder).into_iter().collect();
            all.sort_by_key(|(name, _)| match parse(Kind::Error, name) {
                Some((_, 0)) => u64::MAX,
                parsed => parsed.unwrap().1,
            });
            for (_, text) in &all {
                let is_one_line = text.lines().count() == 1;
                proptest::prop_assert!(text.len() as u64 <= bytes_max || is_one_line, "{all:?}");
            }
            let texts: String = all.into_iter().map(|(_, text)| text).collect();
            proptest::prop_assert_eq!(texts, lines.concat());
        }
    }
}
