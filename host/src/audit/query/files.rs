//! The files of an audit, opened so that neither the gateway that writes them nor the files notice.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use tokio_util::sync::CancellationToken;

use crate::audit::period::{Closed, closed_files};
use crate::audit::schema;

/// How long a lock is waited for, which a writer holds only while it opens or closes a file; so long nothing stops it.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// How often a file is read again that was moved or opened by a writer meanwhile.
const TRIES_MAX: usize = 8;
/// How many steps of SQLite's machine lie between two looks at whether to go on: few enough that those which search long
/// texts take no second together.
const STEPS_BETWEEN_LOOKS: i32 = 100;

/// One of the files.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    /// Where it is.
    pub(super) path: &'a Path,
    /// Ends what is read of it, once it is cancelled.
    pub(super) stop: Option<&'a CancellationToken>,
}

/// Finds the closed files beside a live one, the newest period first.
///
/// # Errors
///
/// A message when the folder cannot be read; one that is not there has none.
pub(super) fn closed(live: &Path) -> Result<Vec<Closed>, String> {
    let files = closed_files(live).map_err(|error| format!("the folder of {}", unreadable(live, &error)))?;
    Ok(files.into_iter().rev().collect())
}

/// Reads a file in one transaction; none if it is not there or has no tables yet.
///
/// A file that a writer has open is read beside it. One that nobody has open, which is what a closed file is, is read as
/// it stands, without a lock and without a trace, and again if it has changed meanwhile.
///
/// # Errors
///
/// A message for the operator: the file is no audit, or cannot be read, or `stop` was cancelled.
pub(super) fn read<T>(
    file: File<'_>,
    work: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, String> {
    let path = file.path;
    let mut tries = 1;
    loop {
        if file.stop.is_some_and(CancellationToken::is_cancelled) {
            return Err(stopped(path));
        }
        let Some(before) = Stamp::of(path)? else { return Ok(None) };
        let outcome = read_once(file, before.has_log, &work);
        let after = Stamp::of(path)?;
        let is_same = match after {
            Some(after) if before.has_log => after.inode == before.inode,
            after => after == Some(before),
        };
        if is_same || tries == TRIES_MAX {
            return outcome;
        }
        tries += 1;
    }
}

fn read_once<T>(
    file: File<'_>,
    has_log: bool,
    work: impl Fn(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, String> {
    let path = file.path;
    let said = |error: rusqlite::Error| problem(path, has_log, &error);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(uri(path, has_log).map_err(|error| unreadable(path, &error))?, flags)
            .map_err(said)?;
    connection.busy_timeout(BUSY_MAX).map_err(said)?;
    if let Some(stop) = file.stop.cloned() {
        let is_over = move || stop.is_cancelled();
        connection.progress_handler(STEPS_BETWEEN_LOOKS, Some(is_over)).map_err(said)?;
    }
    connection.execute_batch("BEGIN").map_err(said)?;
    match contents(&connection).map_err(said)? {
        Contents::Audit => work(&connection).map(Some).map_err(said),
        Contents::Nothing => Ok(None),
        Contents::Newer(version) => Err(format!(
            "`{}` was written by a newer witgate (schema {version}): read it with that",
            path.display()
        )),
        Contents::Earlier => Err(format!(
            "`{}` is the audit of an earlier system: it has only the table `records`, which is not read here; any \
             SQLite client shows it",
            path.display()
        )),
        Contents::Foreign => {
            Err(format!("`{}` is a database, but no audit: it has no table `exchanges`", path.display()))
        }
    }
}

/// What a database is.
enum Contents {
    /// One of ours.
    Audit,
    /// One of ours, with tables that are not known here.
    Newer(i64),
    /// Nothing yet: a writer has just made it.
    Nothing,
    /// What GPT_API wrote.
    Earlier,
    /// Something else.
    Foreign,
}

fn contents(connection: &Connection) -> rusqlite::Result<Contents> {
    let has = |name: &str| {
        let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?";
        connection.query_row(sql, [name], |_| Ok(())).optional().map(|row| row.is_some())
    };
    if has("exchanges")? {
        let sql = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'schema'";
        let version =
            if has("meta")? { connection.query_row(sql, [], |row| row.get(0)).optional()? } else { None };
        return Ok(match version {
            Some(version) if version > schema::VERSION => Contents::Newer(version),
            _ => Contents::Audit,
        });
    }
    if has("records")? {
        return Ok(Contents::Earlier);
    }
    let count: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(if count == 0 { Contents::Nothing } else { Contents::Foreign })
}

fn problem(path: &Path, has_log: bool, error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => stopped(path),
        Some(ErrorCode::NotADatabase) => format!("`{}` is no SQLite database", path.display()),
        Some(ErrorCode::CannotOpen) if has_log => format!(
            "`{}` cannot be opened: a gateway that ended hard has left rows in `{0}-wal`; run this as the user of the \
             gateway, or start the gateway once",
            path.display()
        ),
        _ => unreadable(path, error),
    }
}

fn stopped(path: &Path) -> String {
    format!("reading `{}` was stopped", path.display())
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}` cannot be read: {error}", path.display())
}

/// The name of a file as SQLite takes it. Source: sqlite.org/uri.html.
fn uri(path: &Path, has_log: bool) -> io::Result<String> {
    let mut uri = "file:".to_owned();
    for byte in std::path::absolute(path)?.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    // Without a log beside it nobody has it open, and all there is stands in the file itself.
    uri.push_str(if has_log { "?mode=ro" } else { "?mode=ro&immutable=1" });
    Ok(uri)
}

/// What tells whether a file was touched.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    len: u64,
    modified: Option<SystemTime>,
    /// Whether a write-ahead log lies beside it.
    has_log: bool,
}

impl Stamp {
    fn of(path: &Path) -> Result<Option<Self>, String> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(error) => return Err(unreadable(path, &error)),
        };
        if !metadata.is_file() {
            return Err(format!("`{}` is not a file", path.display()));
        }
        Ok(Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: metadata.modified().ok(),
            has_log: fs::exists(log).unwrap_or(true),
        }))
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_hold_anything() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a b?c#d%20&e=é");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("record.db");
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE exchanges (id INTEGER PRIMARY KEY)").unwrap();
        drop(connection);
        let count = read(File { path: &path, stop: None }, |connection| {
            connection.query_row("SELECT count(*) FROM exchanges", [], |row| row.get::<_, i64>(0))
        });
        assert_eq!(count, Ok(Some(0)));
    }

    #[test]
    fn what_nobody_waits_for_is_not_read_to_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.db");
        schema::create(&Connection::open(&path).unwrap()).unwrap();
        let stop = CancellationToken::new();
        let file = File { path: &path, stop: Some(&stop) };
        let outcome = read(file, |connection| {
            // From here on nothing else could end it.
            stop.cancel();
            let endless =
                "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n";
            connection.query_row(endless, [], |row| row.get::<_, i64>(0))
        });
        let message = format!("reading `{}` was stopped", path.display());
        assert_eq!(outcome, Err(message.clone()));
        assert_eq!(read(file, |_| Ok(())), Err(message), "nor begun");
    }
}
