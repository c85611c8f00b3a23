//! The record of every exchange, in SQLite or PostgreSQL.
//!
//! An exchange that ends hands its facts to a queue and is done; one thread writes them in batches. Whether there is
//! room in the queue is asked before an exchange is dispatched (`on_full: block`), so that ending one never waits.
//! What is queued is lost only if the process is killed: whatever happens to the file or the server, rows are kept and
//! tried again, and what is not written at the end is put aside for the next start.

mod backlog;
mod cells;
mod database;
mod end;
mod files;
mod insert;
mod period;
mod postgres;
pub(crate) mod query;
mod queue;
mod record;
mod retention;
mod schema;
mod store;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};
use tokio::time::Instant;
use tracing::warn;

use crate::audit::end::End;
use crate::audit::queue::{Item, Queue};
use crate::audit::record::Record;
use crate::audit::store::Store;
use crate::audit::writer::Writer;
use crate::config::{self, OnFull};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::Exchange;

pub(crate) use queue::Place;

/// How long a new exchange waits for room in the queue.
const ADMIT_MAX: Duration = Duration::from_secs(5);

/// How long the writer may take to give up a file that is not the one of the settings any more.
const GIVEN_UP_WITHIN: Duration = Duration::from_millis(500);

/// How long the writer may take at the end to put aside what it cannot write.
const PUT_ASIDE_TIME_MAX: Duration = Duration::from_secs(5);

/// How often it is said that rows are dropped.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(1);

/// The audit of a process.
pub(crate) struct Audit {
    shared: Arc<Shared>,
    is_running: Mutex<bool>,
    drops_told: Mutex<Option<Instant>>,
}

/// What the audit and its writer share.
struct Shared {
    settings: ArcSwap<config::Audit>,
    queue: Arc<Queue>,
    counters: Counters,
    retrying: Mutex<Option<String>>,
}

/// Since the start.
#[derive(Default)]
struct Counters {
    written: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
    rotations: AtomicU64,
    quarantined: AtomicU64,
}

/// How the audit is doing; what is counted is counted since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Whether exchanges are recorded.
    pub(crate) is_on: bool,
    /// Rows that wait to be written.
    pub(crate) queued: u64,
    /// The bytes they take in memory.
    pub(crate) queued_bytes: u64,
    /// How long the oldest has waited.
    pub(crate) lag: Duration,
    /// Rows that were written.
    pub(crate) written: u64,
    /// Rows that were dropped, because the queue was full.
    pub(crate) dropped: u64,
    /// Rows that could not be written whatever the state of the file.
    pub(crate) lost: u64,
    /// Tries to write a batch that failed.
    pub(crate) failures: u64,
    /// Files that were closed because their time was over.
    pub(crate) rotations: u64,
    /// Damaged files that were put aside.
    pub(crate) quarantined: u64,
    /// Why nothing can be written for now.
    pub(crate) retrying: Option<String>,
    /// The live file, or the database without its password.
    pub(crate) place: String,
}

impl Audit {
    /// One that records nothing.
    pub(crate) fn off() -> Self {
        Self::with(&config::Audit { is_enabled: false, ..config::Audit::default() })
    }

    /// Opens the file or the database and starts its writer, if the settings ask for that.
    ///
    /// # Errors
    /// Why the file cannot be used and what to change, in words. With `on_full: drop` only if it is somebody else's or in
    /// use: anything else may pass, and is tried again. A database, with either, only if its server says no for good.
    pub(crate) fn start(settings: &config::Audit) -> Result<Self, String> {
        Self::start_with(settings, SystemTime::now)
    }

    fn start_with(settings: &config::Audit, clock: fn() -> SystemTime) -> Result<Self, String> {
        let audit = Self::with(settings);
        if !settings.is_enabled {
            return Ok(audit);
        }
        let store = open(settings, audit.shared.queue.end())?;
        audit.spawn(store, clock)?;
        Ok(audit)
    }

    fn with(settings: &config::Audit) -> Self {
        let shared = Shared {
            settings: ArcSwap::from_pointee(settings.clone()),
            queue: Queue::new(),
            counters: Counters::default(),
            retrying: Mutex::default(),
        };
        Self { shared: Arc::new(shared), is_running: Mutex::new(false), drops_told: Mutex::default() }
    }

    /// Starts the writer unless it runs.
    fn spawn(&self, store: Store, clock: fn() -> SystemTime) -> Result<(), String> {
        let mut is_running = self.is_running.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_running {
            let writer = Writer::new(self.shared.clone(), store, clock);
            let spawned = thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run());
            spawned.map_err(|error| format!("the audit's writer cannot be started: {error}"))?;
            *is_running = true;
        }
        Ok(())
    }

    /// Takes over other settings, for what ends from now on. Opens the file if it is another one, so that it may wait.
    ///
    /// # Errors
    /// Why the file cannot be used, as at the [`start`](Self::start); the settings stay as they were.
    pub(crate) fn configure(&self, settings: &config::Audit) -> Result<(), String> {
        if settings.is_enabled {
            self.check(settings)?;
            self.spawn(Store::default(), SystemTime::now)?;
        }
        self.shared.settings.store(Arc::new(settings.clone()));
        self.shared.queue.nudge();
        Ok(())
    }

    /// Sees whether a file or a database that is not in use yet can be used.
    fn check(&self, settings: &config::Audit) -> Result<(), String> {
        let before = self.settings();
        if before.is_enabled && is_same_place(&before, settings) {
            return Ok(());
        }
        // It may be the one that was used before: the writer is about to give it up.
        let start = Instant::now();
        loop {
            match open(settings, self.shared.queue.end()) {
                Err(_) if settings.postgres.is_none() && start.elapsed() < GIVEN_UP_WITHIN => {
                    thread::sleep(GIVEN_UP_WITHIN / 50)
                }
                // The writer opens it again when there is something to write.
                opened => return opened.map(drop),
            }
        }
    }

    /// Whether exchanges are recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.settings().is_enabled
    }

    /// The settings of now.
    pub(crate) fn settings(&self) -> Guard<Arc<config::Audit>> {
        self.shared.settings.load()
    }

    /// Asks for room for the row of a new exchange; none if it needs no place. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// `Overloaded` if there is no room in time.
    pub(crate) async fn admit(&self) -> Result<Option<Place>> {
        let settings = self.settings();
        if !settings.is_enabled || settings.on_full == OnFull::Drop {
            return Ok(None);
        }
        if let Some(place) = self.shared.queue.enter(&settings) {
            return Ok(Some(place));
        }
        drop(settings);
        // Hardly ever needed, and large.
        Box::pin(self.wait_for_room(ADMIT_MAX)).await.map(Some)
    }

    async fn wait_for_room(&self, time_max: Duration) -> Result<Place> {
        let settings = || self.shared.settings.load_full();
        tokio::time::timeout(time_max, self.shared.queue.wait(settings)).await.map_err(|_| {
            Error::new(ErrorKind::Overloaded, "the audit cannot keep up; try again later")
                .with_retry_after(ADMIT_MAX)
        })
    }

    /// Records an exchange that is over, in the place it was admitted to, if it was. Never waits.
    pub(crate) fn record(&self, exchange: &mut Exchange) {
        let place = exchange.place.take();
        // What is not for the record has no recording.
        if self.is_on() && exchange.recording.is_some() {
            self.put(Item::Row(Box::new(Record::of(exchange))), place);
        }
    }

    /// Adds labels to an exchange that has been recorded; those of an exchange that is not known are ignored.
    pub(crate) fn add_labels(&self, number: i64, labels: Vec<(String, String)>) {
        if self.is_on() && !labels.is_empty() {
            self.put(Item::Labels { number, labels }, None);
        }
    }

    fn put(&self, item: Item, place: Option<Place>) {
        let queue = &self.shared.queue;
        let place = place.or_else(|| {
            let settings = self.settings();
            match settings.on_full {
                OnFull::Drop => queue.enter(&settings),
                OnFull::Block => queue.squeeze_in(&settings),
            }
        });
        match place {
            Some(place) => queue.push(item, place),
            None => self.note_dropped(),
        }
    }

    fn note_dropped(&self) {
        let dropped = self.shared.counters.dropped.fetch_add(1, Relaxed) + 1;
        let mut told = self.drops_told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= DROPS_TOLD_EVERY) {
            *told = Some(Instant::now());
            warn!(dropped, "the audit's queue is full; rows are dropped");
        }
    }

    /// Has everything written and the file closed, at the end of the process; what is not written after `time_max` is put
    /// into a file for the next start. Returns how many rows could not be put there, either.
    pub(crate) async fn flush(&self, time_max: Duration) -> u64 {
        let queue = &self.shared.queue;
        queue.finish();
        if *self.is_running.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whether it was in time shows in what is left.
            if tokio::time::timeout(time_max, queue.flushed()).await.is_err() {
                queue.end().call_last();
                let _ = tokio::time::timeout(PUT_ASIDE_TIME_MAX, queue.flushed()).await;
            }
        }
        queue.depth().rows
    }

    /// How it is doing.
    pub(crate) fn state(&self) -> State {
        let depth = self.shared.queue.depth();
        let counters = &self.shared.counters;
        let settings = self.settings();
        State {
            is_on: settings.is_enabled,
            queued: depth.rows,
            queued_bytes: depth.bytes,
            lag: depth.lag,
            written: counters.written.load(Relaxed),
            dropped: counters.dropped.load(Relaxed),
            lost: counters.lost.load(Relaxed),
            failures: counters.failures.load(Relaxed),
            rotations: counters.rotations.load(Relaxed),
            quarantined: counters.quarantined.load(Relaxed),
            retrying: self.shared.retrying.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            place: place(&settings),
        }
    }
}

/// Opens what the settings name. A connection is driven on a thread of its own: this one may be a runtime's.
fn open(settings: &config::Audit, end: &End) -> Result<Store, String> {
    if settings.postgres.is_none() {
        return Store::open(settings, end);
    }
    let opened = thread::scope(|scope| scope.spawn(|| Store::open(settings, end)).join());
    opened.unwrap_or_else(|_| Err("the audit's database cannot be opened: that panicked".to_owned()))
}

/// The live file or the database, as it may be shown.
pub(crate) fn place(settings: &config::Audit) -> String {
    match &settings.postgres {
        Some(database) => database.to_string(),
        None => settings.path.display().to_string(),
    }
}

/// Whether settings name the same file or database.
fn is_same_place(one: &config::Audit, other: &config::Audit) -> bool {
    match (&one.postgres, &other.postgres) {
        (None, None) => is_same_file(&one.path, &other.path),
        (one, other) => one == other,
    }
}

/// Whether two names lead to one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    one == other
        || std::fs::canonicalize(one)
            .is_ok_and(|one| std::fs::canonicalize(other).is_ok_and(|other| one == other))
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.shared.queue.abandon();
    }
}

impl Shared {
    fn set_retrying(&self, reason: Option<&str>) {
        *self.retrying.lock().unwrap_or_else(PoisonError::into_inner) = reason.map(str::to_owned);
    }
}
