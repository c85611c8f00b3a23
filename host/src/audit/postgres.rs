//! The audit in PostgreSQL.
//!
//! Rows come through the same queue as those of a file, and one connection writes them, each batch in one statement. A
//! batch whose fate is unknown, since the connection broke, is written again: what is there already is left alone, so
//! that every row is there once. Several gateways may write to one database.

mod insert;
mod reader;
mod retention;
mod schema;
mod session;

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::debug;

use crate::audit::database::Failure;
use crate::audit::end::End;
use crate::audit::postgres::insert::{Moved, Statements};
use crate::audit::postgres::session::Session;
use crate::audit::queue::Entry;
use crate::config;

pub(crate) use reader::Reader;

/// The bytes of rows that are sent at once; a row that has more is sent alone.
const BATCH_BYTES: u64 = 8 << 20;

/// How long the server may take for a batch, and how many bytes more it has to take in each second.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// How soon a connection that the server has closed is known to be: what fails later is trouble.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// The server gives up a lock by itself before the gateway does, which may not be able to tell it to.
const LOCK_TIME: &str = "SET lock_timeout = '25s'";

/// A database that takes the rows.
pub(super) struct Postgres {
    place: config::Postgres,
    end: End,
    open: Option<Open>,
    moved: Moved,
}

/// A connection that can be written to.
struct Open {
    session: Session,
    statements: Statements,
}

impl Postgres {
    /// One that is not connected yet.
    pub(super) fn new(place: &config::Postgres, end: &End) -> Self {
        Self { place: place.clone(), end: end.clone(), open: None, moved: Moved::default() }
    }

    /// Where it is.
    pub(super) fn place(&self) -> &config::Postgres {
        &self.place
    }

    /// Connects, unless that has been done, and makes the tables or brings them up to date.
    ///
    /// # Errors
    /// `Foreign` if the server says no for good, else `Blocked`.
    pub(super) fn open(&mut self) -> Result<(), Failure> {
        self.opened().map(drop)
    }

    fn opened(&mut self) -> Result<&mut Open, Failure> {
        let open = match self.open.take() {
            Some(open) if !open.session.is_closed() => open,
            _ => Open::new(&self.place, &self.end)?,
        };
        Ok(self.open.insert(open))
    }

    /// Writes all of these, or those before the one that cannot be written.
    ///
    /// # Errors
    /// `Row` if it is because of one of them, else `Blocked` or `Foreign`; the connection is closed then.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let mut rest = entries;
        while !rest.is_empty() {
            let (batch, further) = rest.split_at(batch_len(rest));
            self.write_batch(batch)?;
            rest = further;
        }
        Ok(())
    }

    /// The server may have closed a connection that was not in use: that shows only now, and is nobody's trouble.
    fn write_batch(&mut self, batch: &[Entry]) -> Result<(), Failure> {
        let (had_connection, begun) = (self.open.is_some(), Instant::now());
        match self.try_batch(batch) {
            Err(Failure::Blocked(reason)) if had_connection && begun.elapsed() < CLOSED_WITHIN => {
                debug!(reason, "the connection to the audit's database is made anew");
                self.try_batch(batch)
            }
            done => done,
        }
    }

    fn try_batch(&mut self, batch: &[Entry]) -> Result<(), Failure> {
        let bytes: u64 = batch.iter().map(Entry::bytes).sum();
        let time_max = WRITE_TIME_MAX + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN);
        self.opened()?;
        let Self { open: Some(Open { session, statements }), moved, .. } = self else {
            return Err(Failure::Blocked("there is no connection".to_owned()));
        };
        let written = session.run(time_max, async |client| statements.write(client, batch, moved).await);
        if !matches!(written, Ok(()) | Err(Failure::Row(_))) {
            self.forget();
        }
        written
    }

    /// Removes a part of what is too old; says whether there is more.
    ///
    /// # Errors
    /// `Foreign` or `Blocked`.
    pub(super) fn enforce(&mut self, retention: Duration, now: SystemTime) -> Result<bool, Failure> {
        let cutoff = if retention.is_zero() { None } else { now.checked_sub(retention) };
        let Some(cutoff) = cutoff else { return Ok(false) };
        let session = &mut self.opened()?.session;
        session.run(WRITE_TIME_MAX, async |client| retention::delete(client, cutoff).await)
    }

    /// Ends the connection in an orderly way.
    pub(super) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            open.session.close();
        }
    }

    /// Ends the connection as it is.
    pub(super) fn forget(&mut self) {
        self.open = None;
    }
}

impl Open {
    fn new(place: &config::Postgres, end: &End) -> Result<Self, Failure> {
        let mut session = Session::open(place, end)?;
        session.run(WRITE_TIME_MAX, async |client| client.batch_execute(LOCK_TIME).await)?;
        session.run(WRITE_TIME_MAX, async |client| schema::prepare(client).await)?;
        let statements = session.run(WRITE_TIME_MAX, async |client| Statements::prepare(client).await)?;
        Ok(Self { session, statements })
    }
}

/// How many entries are sent at once.
fn batch_len(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.bytes();
        bytes <= BATCH_BYTES
    };
    entries.iter().take_while(fits).count().max(1)
}
