//! What waits to be written: how much of it there may be, who waits for room, and how the writer is woken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::audit::cells::{Leftover, Row};
use crate::audit::end::End;
use crate::audit::record::Record;
use crate::config;

/// The most rows of one transaction.
pub(super) const BATCH_ROWS: usize = 512;

/// How long the writer waits for more rows after the first.
pub(super) const BATCH_INTERVAL: Duration = Duration::from_millis(5);

/// Rows that nobody asked for room for, since their exchanges were refused before they would have, may be so many times
/// what the queue may hold; then they are dropped, or a flood of bad requests would fill the memory.
const UNASKED_FACTOR: u64 = 2;

/// Rows on their way to the writer.
pub(super) struct Queue {
    rows: AtomicUsize,
    bytes: AtomicU64,
    waiting: Mutex<Waiting>,
    /// The writer may have something to do.
    arrival: Condvar,
    /// Somebody gave up a place.
    room: Notify,
    /// The writer has nothing left and has closed its files.
    flushed: Notify,
    /// Once it has begun the writer does not wait for more rows.
    end: End,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// How many are being written.
    writing: usize,
    /// Since when the oldest of those has waited.
    writing_since: Option<Instant>,
    /// The writer is to be woken by the next entry.
    is_asleep: bool,
    /// The writer had nothing left and has closed its files.
    is_flushed: bool,
    /// Nobody will put anything here any more.
    is_abandoned: bool,
}

/// One row's place in the queue, given back when dropped.
pub(crate) struct Place {
    queue: Arc<Queue>,
    bytes: u64,
}

/// Something to be written, and the place it takes.
pub(super) struct Entry {
    pub(super) item: Item,
    /// None for what an earlier process left: the writer takes no more of that than it has in hand.
    place: Option<Place>,
    bytes: u64,
    arrived: Instant,
}

/// What is to be written.
pub(super) enum Item {
    /// An exchange that is over.
    Row(Box<Record>),
    /// One that could not be written when its gateway ended.
    Leftover(Box<Leftover>),
    /// Labels that were given to one later.
    Labels {
        /// Its number.
        number: i64,
        /// Names and values.
        labels: Vec<(String, String)>,
    },
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// Entries that are not written yet.
    pub(super) rows: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// How long the oldest has waited.
    pub(super) lag: Duration,
}

impl Queue {
    /// An empty one.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            rows: AtomicUsize::new(0),
            bytes: AtomicU64::new(0),
            waiting: Mutex::default(),
            arrival: Condvar::new(),
            room: Notify::new(),
            flushed: Notify::new(),
            end: End::default(),
        })
    }

    /// A place, if there is room for one more.
    pub(super) fn enter(self: &Arc<Self>, settings: &config::Audit) -> Option<Place> {
        self.enter_within(settings.queue, settings.queue_bytes)
    }

    /// A place for a row that must not be lost although nobody asked for room before.
    pub(super) fn squeeze_in(self: &Arc<Self>, settings: &config::Audit) -> Option<Place> {
        let rows_max = settings.queue.saturating_mul(UNASKED_FACTOR as usize);
        self.enter_within(rows_max, settings.queue_bytes.saturating_mul(UNASKED_FACTOR))
    }

    fn enter_within(self: &Arc<Self>, rows_max: usize, bytes_max: u64) -> Option<Place> {
        if self.bytes.load(Ordering::Relaxed) >= bytes_max {
            return None;
        }
        if self.rows.fetch_add(1, Ordering::Relaxed) >= rows_max {
            self.rows.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { queue: self.clone(), bytes: 0 })
    }

    /// A place as soon as there is room. Dropping the future gives up the wait.
    pub(super) async fn wait(self: &Arc<Self>, settings: impl Fn() -> Arc<config::Audit>) -> Place {
        loop {
            let room = self.room.notified();
            if let Some(place) = self.enter(&settings()) {
                // Several places may have become free at once, and only one waiter was told.
                self.room.notify_one();
                return place;
            }
            room.await;
        }
    }

    /// Puts an entry at the end.
    pub(super) fn push(&self, item: Item, mut place: Place) {
        let bytes = item.bytes();
        place.weigh(bytes);
        let entry = Entry { item, place: Some(place), bytes, arrived: Instant::now() };
        let mut waiting = self.waiting();
        waiting.entries.push_back(entry);
        waiting.is_flushed = false;
        let is_batch = waiting.entries.len() == BATCH_ROWS;
        let wakes = std::mem::take(&mut waiting.is_asleep) || is_batch;
        drop(waiting);
        if wakes {
            self.arrival.notify_one();
        }
    }

    /// Moves a batch of what is there to `entries`, after the first of it has waited for more. Comes back with nothing
    /// after `time_max`, or when the writer is to look after something else.
    pub(super) fn take(&self, entries: &mut Vec<Entry>, time_max: Duration) {
        let mut waiting = self.waiting();
        let must_flush = |waiting: &Waiting| self.is_over() && !waiting.is_flushed;
        if waiting.entries.is_empty() && !must_flush(&waiting) {
            waiting.is_asleep = true;
            waiting = self.sleep(waiting, time_max, |waiting| waiting.is_asleep);
            waiting.is_asleep = false;
        }
        if !waiting.entries.is_empty() {
            let collects = |waiting: &mut Waiting| waiting.entries.len() < BATCH_ROWS && !self.is_over();
            waiting = self.sleep(waiting, BATCH_INTERVAL, collects);
        }
        let count = waiting.entries.len().min(BATCH_ROWS);
        entries.extend(waiting.entries.drain(..count));
        waiting.writing = count;
        waiting.writing_since = entries.first().map(|entry| entry.arrived);
    }

    /// Waits before another try; comes back early when all is to be flushed.
    pub(super) fn pause(&self, time: Duration) {
        let was_over = self.is_over();
        let waiting = self.waiting();
        let pauses = |waiting: &mut Waiting| !waiting.is_abandoned && self.is_over() == was_over;
        drop(self.sleep(waiting, time, pauses));
    }

    fn sleep<'queue>(
        &self,
        waiting: MutexGuard<'queue, Waiting>,
        time: Duration,
        while_true: impl FnMut(&mut Waiting) -> bool,
    ) -> MutexGuard<'queue, Waiting> {
        let slept = self.arrival.wait_timeout_while(waiting, time, while_true);
        slept.unwrap_or_else(PoisonError::into_inner).0
    }

    /// So many of what was taken are still to be written.
    pub(super) fn left(&self, entries: usize) {
        let mut waiting = self.waiting();
        waiting.writing = entries;
        if entries == 0 {
            waiting.writing_since = None;
        }
    }

    /// How much waits, and since when.
    pub(super) fn depth(&self) -> Depth {
        let waiting = self.waiting();
        let since = waiting.writing_since.or_else(|| waiting.entries.front().map(|entry| entry.arrived));
        Depth {
            rows: (waiting.entries.len() + waiting.writing) as u64,
            bytes: self.bytes.load(Ordering::Relaxed),
            lag: since.map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }

    /// Has the writer write what there is without waiting for more, and close its files when there is nothing left.
    pub(super) fn finish(&self) {
        self.end.begin();
        self.nudge();
    }

    /// Has the writer write what there is, once, and end.
    pub(super) fn abandon(&self) {
        self.end.begin();
        self.waiting().is_abandoned = true;
        self.nudge();
    }

    /// Has the writer look whether anything has changed.
    pub(super) fn nudge(&self) {
        self.waiting().is_asleep = false;
        self.arrival.notify_one();
    }

    /// Whether all is to be flushed.
    pub(super) fn is_over(&self) -> bool {
        self.end.has_begun()
    }

    /// The end of the gateway, for who has to hurry then.
    pub(super) fn end(&self) -> &End {
        &self.end
    }

    /// Whether nobody will put anything here.
    pub(super) fn is_abandoned(&self) -> bool {
        self.waiting().is_abandoned
    }

    /// The writer has closed its files; says so unless something has come meanwhile.
    pub(super) fn note_flushed(&self) {
        let mut waiting = self.waiting();
        waiting.is_flushed = waiting.entries.is_empty() && waiting.writing == 0;
        drop(waiting);
        self.flushed.notify_waiters();
    }

    /// Waits until the writer has nothing left and has closed its files.
    pub(super) async fn flushed(&self) {
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            if self.waiting().is_flushed {
                return;
            }
            flushed.await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What stands here has so many bytes.
    fn weigh(&mut self, bytes: u64) {
        self.queue.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.queue.rows.fetch_sub(1, Ordering::Relaxed);
        self.queue.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.queue.room.notify_one();
    }
}

impl Entry {
    /// What it takes in memory, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether it is an exchange.
    pub(super) fn is_row(&self) -> bool {
        self.item.row().is_some()
    }

    /// What an earlier process left.
    pub(super) fn of_backlog(item: Item) -> Self {
        let bytes = item.bytes();
        Self { item, place: None, bytes, arrived: Instant::now() }
    }

    /// Whether an earlier process left it.
    pub(super) fn is_of_backlog(&self) -> bool {
        self.place.is_none()
    }
}

impl Item {
    /// The number of the exchange it is about.
    pub(super) fn number(&self) -> i64 {
        match self {
            Self::Row(record) => record.number,
            Self::Leftover(leftover) => leftover.number(),
            Self::Labels { number, .. } => *number,
        }
    }

    /// What becomes a row, if that is it.
    pub(super) fn row(&self) -> Option<Row<'_>> {
        match self {
            Self::Row(record) => Some(Row::Fresh(record)),
            Self::Leftover(leftover) => Some(Row::Leftover(leftover)),
            Self::Labels { .. } => None,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Row(record) => record.bytes(),
            Self::Leftover(leftover) => leftover.bytes(),
            Self::Labels { labels, .. } => {
                labels.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
            }
        }
    }
}
