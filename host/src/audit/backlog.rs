//! Rows that could not be written before the gateway ended: they lie in files of JSON lines beside the audit's, which the
//! next start takes up.
//!
//! A file is removed when all of its rows are written, so that a row may be written twice, but never less than once; the
//! store leaves alone what it has. A file has its name only when it is whole.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::audit::cells::{Cell, Leftover};
use crate::audit::database;
use crate::audit::period;
use crate::audit::queue::{Entry, Item};

/// The most that is taken up at once, so that new rows need not wait for long.
const ENTRIES_MAX: usize = 256;
const BYTES_MAX: u64 = 8 << 20;

/// Who may read a file: it holds what people say to models.
const FILE_MODE: u32 = 0o600;

/// What a file's name has between that of the audit's file and its number.
const MARK: &str = ".unwritten-";
const EXTENSION: &str = ".jsonl";
/// What the name of a file that is not whole yet ends with, and of one with lines that cannot be understood.
const PART: &str = ".part";
const DAMAGED: &str = ".damaged";

/// Files with rows that are not written yet, oldest first.
#[derive(Default)]
pub(super) struct Backlog {
    files: VecDeque<PathBuf>,
    open: Option<Open>,
}

/// A file of which some is taken up.
struct Open {
    path: PathBuf,
    lines: BufReader<File>,
    is_read: bool,
    is_damaged: bool,
}

/// What stands in a line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line<'line> {
    /// The columns of an exchange and of its attempts.
    Row { exchange: Vec<Cell<'line>>, attempts: Vec<Vec<Cell<'line>>> },
    /// Labels of an exchange that was recorded before.
    Labels { number: i64, labels: Vec<(String, String)> },
}

impl Backlog {
    /// Looks for files beside the audit's.
    pub(super) fn look(&mut self, live: &Path) {
        match files(live) {
            Ok(files) => {
                let is_open = |path: &PathBuf| self.open.as_ref().is_some_and(|open| open.path == *path);
                self.files = files.into_iter().filter(|path| !is_open(path)).collect();
            }
            Err(error) => {
                let folder = live.parent().unwrap_or(live).display().to_string();
                warn!(folder, reason = %error, "it cannot be seen whether rows of the audit are to be taken up");
            }
        }
    }

    /// Whether there is nothing to take up.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_none() && self.files.is_empty()
    }

    /// Takes up some rows.
    pub(super) fn take(&mut self, entries: &mut Vec<Entry>) {
        while self.open.is_none() {
            let Some(path) = self.files.pop_front() else { return };
            match File::open(&path) {
                Ok(file) => {
                    info!(file = %path.display(), "rows of the audit that could not be written are taken up");
                    let lines = BufReader::new(file);
                    self.open = Some(Open { path, lines, is_read: false, is_damaged: false });
                }
                // Another gateway may have been first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    error!(file = %path.display(), reason = %error, "rows of the audit cannot be taken up; the next start tries again");
                }
            }
        }
        if let Some(open) = &mut self.open
            && let Err(error) = open.take(entries)
        {
            error!(file = %open.path.display(), reason = %error, "rows of the audit cannot be taken up; the next start tries again");
            self.open = None;
        }
    }

    /// All that was taken is written.
    pub(super) fn note_written(&mut self) {
        let Some(open) = self.open.take_if(|open| open.is_read) else { return };
        let done = if open.is_damaged {
            std::fs::rename(&open.path, with_suffix(&open.path, DAMAGED))
        } else {
            std::fs::remove_file(&open.path)
        };
        match done {
            // Another gateway may have been first.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(file = %open.path.display(), reason = %error, "a file whose rows are in the audit cannot be removed");
            }
            _ => info!(file = %open.path.display(), "the rows that could not be written are in the audit"),
        }
    }

    /// Does not go on with what it has taken; the file stays.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }
}

impl Open {
    fn take(&mut self, entries: &mut Vec<Entry>) -> io::Result<()> {
        let (mut count, mut bytes, mut line) = (0, 0, Vec::new());
        while count < ENTRIES_MAX && bytes < BYTES_MAX && !self.is_read {
            line.clear();
            if self.lines.read_until(b'\n', &mut line)? == 0 {
                self.is_read = true;
            } else if let Some(item) = parse(&line) {
                let entry = Entry::of_backlog(item);
                (count, bytes) = (count + 1, bytes + entry.bytes());
                entries.push(entry);
            } else {
                self.is_damaged = true;
                error!(file = %self.path.display(), "a row that was put aside cannot be understood; its file is kept");
            }
        }
        Ok(())
    }
}

fn parse(line: &[u8]) -> Option<Item> {
    Some(match serde_json::from_slice(line).ok()? {
        Line::Row { exchange, attempts } => Item::Leftover(Box::new(Leftover::new(exchange, attempts)?)),
        Line::Labels { number, labels } => Item::Labels { number, labels },
    })
}

/// Puts entries into a new file beside the audit's, unless they came from one. Returns where they are; none if there is
/// nothing to put there.
///
/// # Errors
/// What the system says; there is no file then.
pub(super) fn put_aside(live: &Path, entries: &[Entry]) -> io::Result<Option<PathBuf>> {
    let mut fresh = entries.iter().filter(|entry| !entry.is_of_backlog()).peekable();
    let Some(first) = fresh.peek() else { return Ok(None) };
    let path = name(live, first.item.number());
    let part = with_suffix(&path, PART);
    database::make_folder(&path).map_err(|failure| io::Error::other(failure.to_string()))?;
    let written = write(&part, fresh).and_then(|()| {
        // What is there under this name is another process's.
        if path.exists() { Err(io::ErrorKind::AlreadyExists.into()) } else { std::fs::rename(&part, &path) }
    });
    if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::AlreadyExists) {
        // Another try begins anew.
        let _ = std::fs::remove_file(&part);
    }
    written.map(|()| Some(path))
}

fn write<'entry>(part: &Path, entries: impl Iterator<Item = &'entry Entry>) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(part)?;
    let mut lines = BufWriter::new(file);
    for entry in entries {
        let line = match &entry.item {
            Item::Labels { number, labels } => Line::Labels { number: *number, labels: labels.clone() },
            row => {
                let Some(row) = row.row() else { continue };
                let attempts = row.attempts().map(Vec::from).collect();
                Line::Row { exchange: row.exchange().into(), attempts }
            }
        };
        serde_json::to_writer(&mut lines, &line)?;
        lines.write_all(b"\n")?;
    }
    lines.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The files beside the audit's, oldest first.
fn files(live: &Path) -> io::Result<VecDeque<PathBuf>> {
    let folder = live.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = match std::fs::read_dir(folder.unwrap_or_else(|| Path::new("."))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        entries => entries?,
    };
    let (stem, _) = period::name_parts(live);
    let mut files = Vec::new();
    for entry in entries {
        let file = entry?.file_name();
        let number = file.to_str().and_then(|file| {
            file.strip_prefix(&stem)?.strip_prefix(MARK)?.strip_suffix(EXTENSION)?.parse::<i64>().ok()
        });
        files.extend(number.map(|number| (number, live.with_file_name(file))));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

/// The name of a file whose first row has this number.
fn name(live: &Path, number: i64) -> PathBuf {
    let (stem, _) = period::name_parts(live);
    live.with_file_name(format!("{stem}{MARK}{number}{EXTENSION}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cell: Cell<'static>) {
        let line = Line::Row { exchange: vec![cell.clone()], attempts: vec![vec![cell.clone()]] };
        let text = serde_json::to_vec(&line).unwrap();
        let Line::Row { exchange, attempts } = serde_json::from_slice(&text).unwrap() else { panic!() };
        assert_eq!((&exchange[..], &attempts[0][..]), (&[cell.clone()][..], &[cell][..]));
    }

    #[test]
    fn a_cell_comes_back_as_it_was() {
        check(Cell::Null);
        check(true.into());
        check(i64::MAX.into());
        check(i64::MIN.into());
        check(1500.0.into());
        check((0.1 + 0.2).into());
        check(f64::MAX.into());
        check("".into());
        check("null".into());
        check("[1]\n\0é".into());
    }

    #[test]
    fn what_is_no_row_is_not_taken_for_one() {
        for line in [
            "",
            "{",
            "{}",
            r#"{"row":{"exchange":[],"attempts":[]}}"#,
            r#"{"row":{"exchange":[1],"attempts":[]}}"#,
        ] {
            assert!(parse(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn files_are_found_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let live = folder.path().join("record.db");
        for number in [10, 9, 11] {
            std::fs::write(name(&live, number), "").unwrap();
        }
        for other in ["record.unwritten-1.jsonl.part", "record.unwritten-x.jsonl", "other.unwritten-1.jsonl"]
        {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(files(&live).unwrap(), [9, 10, 11].map(|number| name(&live, number)));
        assert!(files(Path::new("/nowhere/record.db")).unwrap().is_empty());
    }
}
