//! How the audit stays within its bounds: rows by age, files by size. A bounded part of it at a time, so that new rows
//! never wait for old ones.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use tracing::{info, warn};

use crate::audit::database::{self, Failure};
use crate::audit::files::Files;
use crate::audit::period::{Closed, closed_files, first_number};
use crate::config;

/// Rows that are deleted at once.
const ROWS_MAX: u32 = 256;

/// Pages that are given back to the system at once.
const PAGES_MAX: u32 = 1000;

/// Free pages are given back if the file has more than one in so many; otherwise new rows take them.
const FREE_SHARE: u64 = 4;

/// The part of `size_max` that is kept free for what is written until the next look: one in so many.
const RESERVE_SHARE: u64 = 16;

/// After so many bytes of rows it is time for another look.
pub(super) fn look_after(settings: &config::Audit) -> u64 {
    match settings.size_max {
        0 => u64::MAX,
        bytes => (bytes / RESERVE_SHARE / 2).clamp(64 << 10, 64 << 20),
    }
}

/// Removes a part of what is too old or too much; says whether there is more.
///
/// # Errors
/// `Blocked` or `Corrupt`.
pub(super) fn enforce(files: &mut Files, settings: &config::Audit, now: SystemTime) -> Result<bool, Failure> {
    if settings.retention.is_zero() && settings.size_max == 0 {
        return Ok(false);
    }
    remove_closed(files, settings, now);
    let Some(database) = files.database_of_now() else { return Ok(false) };
    let connection = database.connection();
    let mut more = false;
    if let Some(cutoff) = cutoff(settings.retention, now) {
        more |= delete(connection, first_number(cutoff))?;
    }
    if settings.size_max > 0 && Pages::of(connection)?.used_bytes() > target(settings) {
        more |= delete(connection, i64::MAX)?;
    }
    let pages = Pages::of(connection)?;
    let is_over = settings.size_max > 0 && pages.bytes() > target(settings) && pages.free > 0;
    if is_over || (pages.free > u64::from(PAGES_MAX) && pages.free * FREE_SHARE > pages.count) {
        give_back(connection)?;
        more = true;
    }
    if settings.size_max > 0 && !more {
        database.checkpoint()?;
    }
    Ok(more)
}

/// The time before which rows are too old.
fn cutoff(retention: Duration, now: SystemTime) -> Option<SystemTime> {
    (!retention.is_zero()).then(|| now.checked_sub(retention)).flatten()
}

/// The bytes that all files together have after a look.
fn target(settings: &config::Audit) -> u64 {
    settings.size_max - settings.size_max / RESERVE_SHARE
}

/// Removes the closed files that are too old, and while all together are too large the oldest.
fn remove_closed(files: &mut Files, settings: &config::Audit, now: SystemTime) {
    let closed = closed_files(&settings.path).unwrap_or_else(|error| {
        warn!(file = %settings.path.display(), %error, "the folder of the audit cannot be listed");
        Vec::new()
    });
    // Without the live file's log, which is large for as long as somebody reads: no closed file pays for that.
    let mut sum = std::fs::metadata(&settings.path).map_or(0, |metadata| metadata.len())
        + closed.iter().map(|file| database::bytes(&file.path)).sum::<u64>();
    let cutoff = cutoff(settings.retention, now);
    for Closed { path, period } in closed {
        let is_old = cutoff.is_some_and(|cutoff| period.is_over(cutoff));
        let is_too_much = settings.size_max > 0 && sum > target(settings);
        if is_old || is_too_much {
            files.close_late();
            sum -= remove(&path);
        }
    }
}

/// Removes a closed file if it is ours; returns the bytes that are free now.
fn remove(path: &Path) -> u64 {
    let bytes = database::bytes(path);
    if !database::is_ours(path) {
        warn!(file = %path.display(), "the file has a name of the audit's, but is not removed, since it is not ours");
        return 0;
    }
    match database::remove(path) {
        Ok(()) => {
            info!(file = %path.display(), bytes, "a file of the audit was removed, as `retention` or `size_max` says");
            bytes
        }
        Err(error) => {
            warn!(file = %path.display(), %error, "a file of the audit cannot be removed");
            0
        }
    }
}

/// Deletes the oldest rows below a number, up to a bound; says whether there are more.
fn delete(connection: &Connection, below: i64) -> Result<bool, Failure> {
    let (last, count): (Option<i64>, u32) = connection.query_row(
        "SELECT max(id), count(*) FROM (SELECT id FROM exchanges WHERE id < ?1 ORDER BY id LIMIT ?2)",
        (below, ROWS_MAX),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let Some(last) = last else { return Ok(false) };
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM exchanges WHERE id <= ?1", [last])?;
    transaction.execute("DELETE FROM attempts WHERE exchange <= ?1", [last])?;
    transaction.commit()?;
    Ok(count == ROWS_MAX)
}

/// Gives free pages back to the system, up to a bound.
fn give_back(connection: &Connection) -> Result<(), Failure> {
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_MAX})"))?;
    let mut rows = statement.query([])?;
    // Each step gives back one page.
    while rows.next()?.is_some() {}
    Ok(())
}

/// How a file is filled.
struct Pages {
    count: u64,
    free: u64,
    page_bytes: u64,
}

impl Pages {
    fn of(connection: &Connection) -> Result<Self, Failure> {
        let get = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, u32>(0)).map(u64::from);
        Ok(Self {
            count: get("PRAGMA page_count")?,
            free: get("PRAGMA freelist_count")?,
            page_bytes: get("PRAGMA page_size")?,
        })
    }

    fn bytes(&self) -> u64 {
        self.count * self.page_bytes
    }

    fn used_bytes(&self) -> u64 {
        (self.count - self.free) * self.page_bytes
    }
}
