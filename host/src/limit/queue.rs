//! Places, and the queue before them: how many requests run at once in the gateway and at each upstream, and who waits.
//!
//! A place is counted without a lock; the queue's lock is taken only where somebody waits. While somebody waits for a
//! place, nobody who comes later takes it: a place that becomes free goes to the next who can use it, as [`line`] says.

mod line;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::queue::line::{Line, Ticket};
use crate::metrics::histogram::{self, Histogram, Tally};

pub(crate) use crate::limit::queue::line::Caller;

/// How long the gateway asks a client to wait that it has no place for.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many may run at once somewhere, and how many do.
///
/// All orders are sequentially consistent: whoever begins to wait counts itself in `waiting` before it looks at `taken`
/// for the last time, and whoever gives a place back looks at `waiting` after it, so that one of both sees the other.
#[derive(Default)]
pub(crate) struct Places {
    /// Zero means no bound.
    bound: AtomicUsize,
    taken: AtomicUsize,
    /// Changed only under the queue's lock.
    waiting: AtomicUsize,
    /// Where it is waited for them; known as soon as somebody has waited.
    queue: OnceLock<Weak<Queue>>,
}

/// One place, until it is dropped.
pub(crate) struct Place(Arc<Places>);

/// Who waits for places, over all upstreams and callers.
pub(crate) struct Queue {
    /// The places of the whole gateway.
    total: Arc<Places>,
    line: Mutex<Line<Waiter>>,
    /// The most that may wait, as the configuration says it.
    len_max: AtomicUsize,
    hashes: RandomState,
    /// What is counted for each of [`Before`].
    counts: [Counts; 2],
}

/// What it is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// A place in the gateway.
    Gateway,
    /// A place at any of the upstreams that could answer.
    Upstream,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With a place.
    Admitted,
    /// It took longer than `queue_timeout`.
    Late,
    /// Another caller, who had fewer in the queue, needed the room.
    Displaced,
    /// The client left.
    Left,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Full,
    Late,
}

/// What is counted of those that want a place and find none.
struct Counts {
    waiting: AtomicUsize,
    refused: [AtomicU64; 2],
    waits: [Histogram; Ending::ALL.len()],
}

/// Somebody in the line, as the others see it.
struct Waiter {
    places: Vec<Arc<Places>>,
    tell: oneshot::Sender<Told>,
}

enum Told {
    /// Which of the places that were wanted.
    Place(usize, Place),
    Displaced,
}

/// Somebody in the line, as it sees itself; leaves the line when it is dropped.
struct Spot<'a> {
    queue: &'a Arc<Queue>,
    before: Before,
    ticket: Ticket,
    since: Instant,
    ending: Ending,
}

impl Places {
    /// Takes a place, unless all are taken or somebody waits for one.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            return None;
        }
        self.take()
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many there are; zero means no bound.
    pub(crate) fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    /// How many wait for one.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sets how many there are; zero means no bound. Those that are taken stay so, even if they are more.
    pub(crate) fn set_bound(self: &Arc<Self>, bound: usize) {
        self.bound.store(bound, Ordering::SeqCst);
        self.offer();
    }

    fn take(self: &Arc<Self>) -> Option<Place> {
        let bound = self.bound.load(Ordering::SeqCst);
        if bound == 0 {
            self.taken.fetch_add(1, Ordering::SeqCst);
        } else {
            let more = |taken: usize| (taken < bound).then_some(taken + 1);
            self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        }
        Some(Place(self.clone()))
    }

    /// Lets those that wait have what is free.
    fn offer(self: &Arc<Self>) {
        if self.waiting.load(Ordering::SeqCst) > 0
            && let Some(queue) = self.queue.get().and_then(Weak::upgrade)
        {
            queue.serve(self);
        }
    }

    /// What stands for them in the line. It is nobody else's while a waiter holds them.
    fn resource(self: &Arc<Self>) -> line::Resource {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        self.0.offer();
    }
}

impl Queue {
    /// An empty one, that lets nobody wait and has no bound until [`Self::configure`] says otherwise.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            total: Arc::default(),
            line: Mutex::default(),
            len_max: AtomicUsize::new(0),
            hashes: RandomState::new(),
            counts: [Counts::new(), Counts::new()],
        })
    }

    /// Takes the bounds of a configuration, at the start and at every reload. Nobody who waits has to go.
    pub(crate) fn configure(&self, limits: &Limits) {
        self.len_max.store(limits.queue, Ordering::Relaxed);
        self.total.set_bound(limits.total.in_flight);
    }

    /// The places of the whole gateway.
    pub(crate) fn total(&self) -> &Places {
        &self.total
    }

    /// The most that may wait.
    pub(crate) fn len_max(&self) -> usize {
        self.len_max.load(Ordering::Relaxed)
    }

    /// How many wait.
    pub(crate) fn waiting(&self, before: Before) -> usize {
        self.counts[before as usize].waiting.load(Ordering::Relaxed)
    }

    /// How many were refused, and why.
    pub(crate) fn refused(&self, before: Before) -> [(&'static str, u64); 2] {
        let count =
            |refusal: Refusal| self.counts[before as usize].refused[refusal as usize].load(Ordering::Relaxed);
        [("queue_full", count(Refusal::Full)), ("queue_timeout", count(Refusal::Late))]
    }

    /// How long they waited, by how that ended.
    pub(crate) fn waits(&self, before: Before) -> [(&'static str, Tally); 4] {
        Ending::ALL
            .map(|ending| (ending.label(), self.counts[before as usize].waits[ending as usize].tally()))
    }

    /// What stands in the line for a party, by its name.
    pub(crate) fn caller(&self, party: &str) -> Caller {
        Caller(self.hashes.hash_one(party))
    }

    /// A place in the gateway, unless all are taken or somebody waits for one.
    pub(crate) fn enter(&self) -> Option<Place> {
        self.total.enter()
    }

    /// A place in the gateway, as soon as there is one; see [`Self::wait`].
    ///
    /// # Errors
    ///
    /// `Overloaded` when the queue is full or the wait took too long.
    pub(crate) async fn admit(self: &Arc<Self>, caller: Caller, limits: &Limits) -> Result<Place> {
        self.wait(Before::Gateway, vec![self.total.clone()], caller, limits).await.map(|(_, place)| place)
    }

    /// The first place of any of these that becomes free, and which of them it is one of.
    ///
    /// Dropping the future gives up the wait; a place that was handed over in that moment goes to the next.
    ///
    /// # Errors
    ///
    /// `Overloaded` when the queue is full or the wait took too long.
    pub(crate) async fn wait(
        self: &Arc<Self>,
        before: Before,
        wanted: Vec<Arc<Places>>,
        caller: Caller,
        limits: &Limits,
    ) -> Result<(usize, Place)> {
        let refuse = |refusal: Refusal| {
            self.counts[before as usize].refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
            refusal.error(before, limits)
        };
        let (tell, mut told) = oneshot::channel();
        let waiter = Waiter { places: wanted, tell };
        let ticket = self.join(waiter, caller, limits.queue).ok_or_else(|| refuse(Refusal::Full))?;
        let mut spot = Spot::new(self, before, ticket);
        let heard = match timeout_at(spot.since + limits.queue_timeout, &mut told).await {
            Ok(heard) => heard.ok(),
            Err(_) => {
                self.leave(ticket);
                // Places are handed over under the lock: what was given in this moment is here by now.
                told.try_recv().ok()
            }
        };
        match heard {
            Some(Told::Place(index, place)) => {
                spot.ending = Ending::Admitted;
                Ok((index, place))
            }
            Some(Told::Displaced) => {
                spot.ending = Ending::Displaced;
                Err(refuse(Refusal::Full))
            }
            None => {
                spot.ending = Ending::Late;
                Err(refuse(Refusal::Late))
            }
        }
    }

    /// Stands in the line; none if there is no room.
    fn join(self: &Arc<Self>, waiter: Waiter, caller: Caller, len_max: usize) -> Option<Ticket> {
        if len_max == 0 {
            return None;
        }
        let places = waiter.places.clone();
        let wants = places.iter().map(Places::resource).collect();
        let mut unclaimed = Vec::new();
        let mut line = self.lock();
        let joined = line.join(caller, wants, waiter, len_max).ok()?;
        for places in &places {
            places.queue.get_or_init(|| Arc::downgrade(self));
            places.waiting.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(displaced) = joined.displaced {
            displaced.stop();
            // It may have left in this moment.
            let _ = displaced.tell.send(Told::Displaced);
        }
        // What became free since it was looked for is not offered again.
        for places in &places {
            hand_out(&mut line, places, &mut unclaimed);
        }
        // Places that are given back take the lock.
        drop(line);
        Some(joined.ticket)
    }

    fn leave(&self, ticket: Ticket) {
        if let Some(waiter) = self.lock().leave(ticket) {
            waiter.stop();
        }
    }

    fn serve(&self, places: &Arc<Places>) {
        let mut unclaimed = Vec::new();
        let mut line = self.lock();
        hand_out(&mut line, places, &mut unclaimed);
        drop(line);
    }

    fn lock(&self) -> MutexGuard<'_, Line<Waiter>> {
        self.line.lock().expect("no code panics while it holds this lock")
    }
}

/// Gives what is free to those that wait for it. What somebody did not take who has just left goes to `unclaimed`, to be
/// dropped without the lock, which offers it again.
fn hand_out(line: &mut Line<Waiter>, places: &Arc<Places>, unclaimed: &mut Vec<Place>) {
    while line.waits_for(places.resource())
        && let Some(place) = places.take()
    {
        let Some(waiter) = line.next(places.resource()) else { return unclaimed.push(place) };
        waiter.stop();
        let index = waiter.places.iter().position(|wanted| Arc::ptr_eq(wanted, places)).unwrap_or_default();
        if let Err(Told::Place(_, place)) = waiter.tell.send(Told::Place(index, place)) {
            unclaimed.push(place);
        }
    }
}

impl Waiter {
    /// It is out of the line.
    fn stop(&self) {
        for places in &self.places {
            places.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl<'a> Spot<'a> {
    fn new(queue: &'a Arc<Queue>, before: Before, ticket: Ticket) -> Self {
        queue.counts[before as usize].waiting.fetch_add(1, Ordering::Relaxed);
        Self { queue, before, ticket, since: Instant::now(), ending: Ending::Left }
    }
}

impl Drop for Spot<'_> {
    fn drop(&mut self) {
        if self.ending == Ending::Left {
            self.queue.leave(self.ticket);
        }
        let counts = &self.queue.counts[self.before as usize];
        counts.waiting.fetch_sub(1, Ordering::Relaxed);
        counts.waits[self.ending as usize].time(self.since.elapsed());
    }
}

impl Before {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Gateway, Self::Upstream];

    /// The word for it in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Upstream => "upstream",
        }
    }
}

impl Ending {
    const ALL: [Self; 4] = [Self::Admitted, Self::Late, Self::Displaced, Self::Left];

    fn label(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Late => "timeout",
            Self::Displaced => "displaced",
            Self::Left => "left",
        }
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            refused: Default::default(),
            waits: Ending::ALL.map(|_| Histogram::new(&histogram::DURATION)),
        }
    }
}

impl Refusal {
    fn error(self, before: Before, limits: &Limits) -> Error {
        let place = match before {
            Before::Gateway => "the gateway is full",
            Before::Upstream => "every upstream for this model is full",
        };
        let message = match self {
            Self::Full if limits.queue == 0 => format!("{place}, try again"),
            Self::Full => format!("{place} and as many requests wait as may, try again"),
            Self::Late => {
                format!("{place} and no place became free in {:?}, try again", limits.queue_timeout)
            }
        };
        Error::new(ErrorKind::Overloaded, message).with_retry_after(RETRY_AFTER)
    }
}

#[cfg(test)]
mod tests;
