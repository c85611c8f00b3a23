//! The thread that writes: it takes what waits, in batches, and does not give up whatever happens to the file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::audit::Shared;
use crate::audit::backlog::{self, Backlog};
use crate::audit::database::Failure;
use crate::audit::queue::{BATCH_ROWS, Entry, Item};
use crate::audit::retention;
use crate::audit::store::Store;

/// The pause after the first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The longest pause while the gateway waits to end.
const PAUSE_AT_END_MAX: Duration = Duration::from_millis(100);

/// How often the bounds of the files are looked after.
const CHORES_INTERVAL: Duration = Duration::from_secs(3600);
/// How soon again if that failed.
const CHORES_RETRY: Duration = Duration::from_secs(60);

/// What the thread has.
pub(super) struct Writer {
    shared: Arc<Shared>,
    store: Store,
    backlog: Backlog,
    /// What is being written, in the order of its numbers.
    batch: Vec<Entry>,
    /// How many of it to try at once: fewer while a bad row is looked for.
    rows_max: usize,
    trouble: Option<Trouble>,
    /// Whether it was said that rows cannot be put aside.
    is_loss_told: bool,
    chores_due: Instant,
    bytes_until_chores: u64,
    clock: fn() -> SystemTime,
}

/// Why nothing is written for now.
struct Trouble {
    since: Instant,
    pause: Duration,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, store: Store, clock: fn() -> SystemTime) -> Self {
        Self {
            shared,
            store,
            backlog: Backlog::default(),
            batch: Vec::with_capacity(BATCH_ROWS),
            rows_max: BATCH_ROWS,
            trouble: None,
            is_loss_told: false,
            chores_due: Instant::now(),
            bytes_until_chores: 0,
            clock,
        }
    }

    /// Writes until the queue is abandoned.
    pub(super) fn run(mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => self.recover_from_panic(),
            }
        }
    }

    /// One batch, or a pause, and what else is due; says whether to go on.
    fn turn(&mut self) -> bool {
        let shared = self.shared.clone();
        let queue = &shared.queue;
        if self.batch.is_empty() {
            let rest = self.rest();
            queue.take(&mut self.batch, rest);
            settle(&mut self.batch);
            if !queue.is_over() {
                self.backlog.take(&mut self.batch);
                queue.left(self.batch.len());
            }
            self.batch.sort_by_key(|entry| entry.item.number());
        }
        if !(queue.end().is_last() && self.put_aside()) {
            if let Err(failure) = self.write() {
                let pause = self.begin_trouble(&failure);
                queue.pause(pause);
                return !queue.is_abandoned();
            }
            self.end_trouble();
            self.backlog.note_written();
        }
        if Instant::now() >= self.chores_due && !queue.end().is_last() {
            self.chores();
        }
        self.store.tidy(&shared.settings.load());
        if queue.is_over() && queue.depth().rows == 0 {
            self.store.close();
            queue.note_flushed();
            return !queue.is_abandoned();
        }
        true
    }

    /// How long there is nothing to do unless something comes.
    fn rest(&self) -> Duration {
        if !self.backlog.is_empty() {
            return Duration::ZERO;
        }
        let chores = self.chores_due.saturating_duration_since(Instant::now());
        chores.min(self.store.rest_max())
    }

    /// Writes the batch; what is left of it then is to be tried again.
    fn write(&mut self) -> Result<(), Failure> {
        let settings = self.shared.settings.load_full();
        while let Some(first) = self.batch.first() {
            let period = self.store.period(&settings, self.shared.queue.end(), first.item.number());
            let is_of_it = |entry: &&Entry| period.contains(entry.item.number());
            let count = self.batch.iter().take(self.rows_max).take_while(is_of_it).count().max(1);
            let (batch, store, now) = (&self.batch[..count], &mut self.store, (self.clock)());
            // A panic is a row's fault as long as no single row panics.
            let written = catch_unwind(AssertUnwindSafe(|| store.write(&settings, &period, now, batch)));
            match written.unwrap_or_else(|_| {
                self.store.forget();
                Err(Failure::Row("the writer panicked".to_owned()))
            }) {
                Ok(()) => self.done(count),
                Err(Failure::Row(reason)) if count == 1 => self.give_up(&reason),
                Err(Failure::Row(_)) => self.rows_max = count / 2,
                Err(failure) => return Err(failure),
            }
            self.note_files();
        }
        self.rows_max = BATCH_ROWS;
        Ok(())
    }

    /// So many of the batch are written.
    fn done(&mut self, count: usize) {
        let written = self.batch.drain(..count);
        let (rows, bytes) = written
            .fold((0, 0), |(rows, bytes), entry| (rows + u64::from(entry.is_row()), bytes + entry.bytes()));
        self.shared.counters.written.fetch_add(rows, Relaxed);
        self.shared.queue.left(self.batch.len());
        self.bytes_until_chores = self.bytes_until_chores.saturating_sub(bytes);
        if self.bytes_until_chores == 0 {
            self.chores_due = Instant::now();
        }
    }

    /// The first of the batch cannot be written, whatever the state of the file.
    fn give_up(&mut self, reason: &str) {
        let entry = self.batch.remove(0);
        let id = entry.item.row().map_or("-", |row| row.identity().0);
        error!(id, number = entry.item.number(), reason, "a row of the audit cannot be written and is lost");
        self.shared.counters.lost.fetch_add(1, Relaxed);
        self.shared.queue.left(self.batch.len());
    }

    /// Puts everything that is not written into a file for the next start. Says whether that is done.
    fn put_aside(&mut self) -> bool {
        let shared = self.shared.clone();
        loop {
            let known = self.batch.len();
            shared.queue.take(&mut self.batch, Duration::ZERO);
            if self.batch.len() == known {
                break;
            }
            settle(&mut self.batch[known..]);
        }
        shared.queue.left(self.batch.len());
        match backlog::put_aside(&shared.settings.load().path, &self.batch) {
            Ok(file) => {
                if let Some(file) = file {
                    let is_new = |entry: &&Entry| entry.is_row() && !entry.is_of_backlog();
                    let rows = self.batch.iter().filter(is_new).count();
                    let file = file.display().to_string();
                    warn!(rows, file, "the audit could not be written; the next start takes these rows up");
                }
                self.batch.clear();
                // What came from there stays there.
                self.backlog.forget();
                shared.queue.left(0);
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_loss_told, true) {
                    error!(reason = %error, "rows of the audit cannot be put aside for the next start, either");
                }
                false
            }
        }
    }

    /// Notes why nothing can be written, and says how long to wait before the next try.
    fn begin_trouble(&mut self, failure: &Failure) -> Duration {
        let shared = &self.shared;
        shared.counters.failures.fetch_add(1, Relaxed);
        shared.set_retrying(Some(failure.reason()));
        let trouble = self.trouble.get_or_insert_with(|| {
            let place = super::place(&shared.settings.load());
            warn!(place, reason = %failure, "the audit cannot be written; its rows are kept and tried again");
            Trouble { since: Instant::now(), pause: PAUSE_MIN / 2 }
        });
        trouble.pause = (trouble.pause * 2).min(PAUSE_MAX);
        if shared.queue.is_over() { trouble.pause.min(PAUSE_AT_END_MAX) } else { trouble.pause }
    }

    fn end_trouble(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        self.shared.set_retrying(None);
        let rows = self.shared.queue.depth().rows;
        let dropped = self.shared.counters.dropped.load(Relaxed);
        warn!(seconds = trouble.since.elapsed().as_secs(), rows, dropped, "the audit is written again");
    }

    /// Closes the file if its time is over, and removes what is too old or too much.
    fn chores(&mut self) {
        let settings = self.shared.settings.load_full();
        if !settings.is_enabled {
            self.chores_due = Instant::now() + CHORES_INTERVAL;
            return;
        }
        self.backlog.look(&settings.path);
        let now = (self.clock)();
        let done = self.store.keep_bounds(&settings, self.shared.queue.end(), now);
        self.note_files();
        let wait = match done {
            Ok(true) => Duration::ZERO,
            Ok(false) => CHORES_INTERVAL,
            Err(failure) => {
                warn!(reason = %failure, "the audit cannot be kept within its bounds for now");
                self.store.forget();
                CHORES_RETRY
            }
        };
        self.chores_due = Instant::now() + wait;
        self.bytes_until_chores = retention::look_after(&settings);
    }

    fn note_files(&mut self) {
        let events = self.store.file_events();
        self.shared.counters.rotations.fetch_add(events.rotations, Relaxed);
        self.shared.counters.quarantined.fetch_add(events.quarantined, Relaxed);
    }

    /// Goes on after a defect of this thread, without what it was working on.
    fn recover_from_panic(&mut self) {
        let lost = self.batch.iter().filter(|entry| entry.is_row()).count() as u64;
        error!(rows = lost, "the audit's writer panicked; it goes on without the rows it had in hand");
        self.shared.counters.lost.fetch_add(lost, Relaxed);
        self.batch.clear();
        self.backlog.forget();
        self.shared.queue.left(0);
        self.store.forget();
        self.chores_due = Instant::now() + CHORES_RETRY;
        info!("the audit's writer goes on");
    }
}

/// Does what was left to this thread to do for each row.
fn settle(entries: &mut [Entry]) {
    for entry in entries {
        if let Item::Row(record) = &mut entry.item
            && catch_unwind(AssertUnwindSafe(|| record.settle())).is_err()
        {
            let id = record.request_id.to_str().unwrap_or("-");
            error!(id, number = record.number, "the answer of a row of the audit panicked and is missing");
        }
    }
}
