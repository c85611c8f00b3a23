//! One open audit file.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::audit::insert::Statements;
use crate::audit::period::Period;
use crate::audit::queue::Entry;
use crate::audit::schema::{self, Owner};

/// How long another process may hold the file before the writer gives way and tries again later.
const BUSY_MAX: Duration = Duration::from_secs(1);

/// Pages of the write-ahead log after which they are copied into the file. The larger, the more rows share the copy of
/// a page of the index; the log has this many pages on disk.
const LOG_PAGES: u32 = 1000;

/// What the write-ahead log may take on disk once it is empty again, in bytes: while somebody reads it grows without
/// bound.
const LOG_BYTES_KEPT: u64 = 64 << 20;

/// Memory for pages, in KiB.
const CACHE_KIB: u32 = 8192;

/// Who may read a file that is made: it holds what people say to models.
const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// What SQLite has beside a file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Why something could not be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Something around the file is not as it should be, and may be again: no space, no permission, locked.
    Blocked(String),
    /// The file is damaged.
    Corrupt(String),
    /// The file is somebody else's, or in use by another gateway.
    Foreign(String),
    /// It is one of the rows.
    Row(String),
}

/// An open file. Dropping it closes it, which copies the write-ahead log into it.
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    identity: (u64, u64),
}

impl Database {
    /// Opens a file, and makes it and its folder if there is none.
    ///
    /// # Errors
    /// All but `Row`.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        make_folder(path)?;
        make_file(path)?;
        // One thread alone has it, which spares a lock at each step.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_MAX)?;
        if schema::owner(&connection)? == Owner::Nobody {
            schema::create(&connection)?;
        }
        // Where there is no shared memory this says `delete`: slower, but it works.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = {LOG_PAGES}; \
             PRAGMA journal_size_limit = {LOG_BYTES_KEPT}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY; PRAGMA foreign_keys = OFF"
        ))?;
        let identity = identity(path).ok_or_else(|| Failure::Blocked("the file was removed".to_owned()))?;
        Ok(Self { connection, path: path.to_owned(), identity })
    }

    /// Writes all of these or none.
    ///
    /// # Errors
    /// `Row` if it is because of one of them, else any other.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut statements = Statements::prepare(&transaction)?;
            for entry in entries {
                statements.write(entry)?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Says in the file which period it is for.
    ///
    /// # Errors
    /// `Blocked` or `Corrupt`.
    pub(super) fn mark(&self, period: &Period) -> Result<(), Failure> {
        let sql = "INSERT INTO meta VALUES ('period', ?1) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.connection.execute(sql, [period.word()])?;
        Ok(())
    }

    /// The number of its newest row.
    ///
    /// # Errors
    /// `Blocked` or `Corrupt`.
    pub(super) fn newest(&self) -> Result<Option<i64>, Failure> {
        Ok(self.connection.query_row("SELECT max(id) FROM exchanges", [], |row| row.get(0))?)
    }

    /// Whether the path still leads to it.
    pub(super) fn is_in_place(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// For who keeps it within its bounds.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Copies the write-ahead log into the file and makes it empty, as far as readers let it.
    ///
    /// # Errors
    /// `Blocked` or `Corrupt`.
    pub(super) fn checkpoint(&self) -> Result<(), Failure> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }

    /// Closes it, with everything in the file that readers let be copied there.
    ///
    /// # Errors
    /// `Blocked` or `Corrupt`.
    pub(super) fn close(self) -> Result<(), Failure> {
        self.checkpoint()?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

impl Failure {
    /// Whether it will not pass by itself.
    pub(super) fn is_lasting(&self) -> bool {
        matches!(self, Self::Foreign(_))
    }

    /// Why, in words.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Blocked(reason) | Self::Corrupt(reason) | Self::Foreign(reason) | Self::Row(reason) => {
                reason
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let reason = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(reason),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Self::Row(reason)
            }
            Some(_) => Self::Blocked(reason),
            // What was never given to SQLite.
            None => Self::Row(reason),
        }
    }
}

/// Moves a file and what SQLite has beside it. A reader that has it open goes on reading it.
///
/// # Errors
/// What the system says.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // The log goes first: without it a file is old, but a file's log beside another file would be wrong.
    for companion in COMPANIONS {
        match std::fs::rename(beside(from, companion), beside(to, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(from, to)
}

/// Removes a file and what SQLite has beside it.
///
/// # Errors
/// What the system says.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    for companion in COMPANIONS {
        match std::fs::remove_file(beside(path, companion)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The bytes of a file and of what SQLite has beside it.
pub(super) fn bytes(path: &Path) -> u64 {
    let len = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    len(path) + COMPANIONS.iter().map(|companion| len(&beside(path, companion))).sum::<u64>()
}

/// Whether nothing has this name, nor would its log.
pub(super) fn is_free(path: &Path) -> bool {
    let is_there = |path: &Path| std::fs::symlink_metadata(path).is_ok();
    !is_there(path) && !COMPANIONS.iter().any(|companion| is_there(&beside(path, companion)))
}

/// Whether a write-ahead log lies beside a file that nobody writes to any more: a reader had it open when it was closed.
pub(super) fn has_log(path: &Path) -> bool {
    beside(path, "-wal").exists()
}

/// Whether a file is an audit that this version may change or remove.
pub(super) fn is_ours(path: &Path) -> bool {
    let read = || -> Result<Owner, Failure> {
        schema::owner(&Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
    };
    read() == Ok(Owner::Ours)
}

fn beside(path: &Path, companion: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(companion);
    name.into()
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Makes the folder of a file if there is none.
///
/// # Errors
/// `Blocked`.
pub(super) fn make_folder(path: &Path) -> Result<(), Failure> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    else {
        return Ok(());
    };
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder).map_err(|error| {
        Failure::Blocked(format!("the folder `{}` cannot be made: {error}", folder.display()))
    })
}

/// Makes an empty file if there is none, so that its mode is ours.
fn make_file(path: &Path) -> Result<(), Failure> {
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Failure::Blocked(error.to_string())),
    }
}
