//! The connections that a listener holds: how many there may be, which of them are idle, and who has to leave when all
//! places are taken and somebody new comes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use crate::compression::Compressed;
use crate::error::Source as Cause;
use crate::stream::Body;

/// How long those that were asked to leave may take before others are asked.
const LEAVE_PAUSE: Duration = Duration::from_millis(50);
/// The share of all places that is cleared at once, so that a flood does not have all connections looked at for each of
/// its own.
const CLEARED_SHARE: usize = 64;

/// The places of a listener.
pub(super) struct Seats {
    permits: Arc<Semaphore>,
    taken: Mutex<Taken>,
    opened: Instant,
}

#[derive(Default)]
struct Taken {
    next: u64,
    by_number: HashMap<u64, Occupied>,
}

struct Occupied {
    seat: Arc<Seat>,
    /// Gone once it has been asked to leave.
    leave: Option<oneshot::Sender<()>>,
}

/// What is known of one connection.
pub(super) struct Seat {
    /// Requests of it that are not over.
    running: AtomicU32,
    /// When the last of them was over, or the connection began: milliseconds since the listener opened.
    idle_since_ms: AtomicU64,
    /// Whether it has had a request.
    pub(super) has_begun: AtomicBool,
    /// Whether it speaks HTTP/2, in which bytes without a request mean little.
    pub(super) is_http2: AtomicBool,
    opened: Instant,
}

/// A place that is taken until this is dropped.
pub(super) struct Taking {
    pub(super) seat: Arc<Seat>,
    /// Resolves when the place is needed for somebody else.
    pub(super) leave: oneshot::Receiver<()>,
    number: u64,
    seats: Arc<Seats>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    /// So many places, none of them taken.
    pub(super) fn new(count: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS))),
            taken: Mutex::default(),
            opened: Instant::now(),
        }
    }

    /// Takes a place; if there is none, asks those to leave that have been idle longest, and waits.
    pub(super) async fn take(self: &Arc<Self>) -> Taking {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => self.make_room().await,
        };
        let seat = Arc::new(Seat {
            running: AtomicU32::new(0),
            idle_since_ms: AtomicU64::new(self.now_ms()),
            has_begun: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            opened: self.opened,
        });
        let (sender, leave) = oneshot::channel();
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.next += 1;
        let number = taken.next;
        taken.by_number.insert(number, Occupied { seat: seat.clone(), leave: Some(sender) });
        drop(taken);
        Taking { seat, leave, number, seats: self.clone(), _permit: permit }
    }

    async fn make_room(&self) -> OwnedSemaphorePermit {
        loop {
            self.clear();
            let waiting = self.permits.clone().acquire_owned();
            if let Ok(permit) = tokio::time::timeout(LEAVE_PAUSE, waiting).await {
                return permit.expect("nobody closes the semaphore");
            }
        }
    }

    /// Asks some to leave: those that are idle, the longest first.
    fn clear(&self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.by_number.len().div_ceil(CLEARED_SHARE);
        let mut idle: Vec<(u64, &mut Occupied)> = taken
            .by_number
            .values_mut()
            .filter(|occupied| occupied.leave.is_some() && !occupied.seat.is_busy())
            .map(|occupied| (occupied.seat.idle_since_ms.load(Ordering::Relaxed), occupied))
            .collect();
        idle.sort_unstable_by_key(|(since_ms, _)| *since_ms);
        for (_, occupied) in idle.into_iter().take(count) {
            // Who has just left hears nothing.
            let _ = occupied.leave.take().map(|leave| leave.send(()));
        }
    }

    fn now_ms(&self) -> u64 {
        milliseconds_since(self.opened)
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
    }
}

impl Seat {
    /// Whether a request of it runs.
    pub(super) fn is_busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// A request begins, and lasts until this is dropped.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> Running {
        self.running.fetch_add(1, Ordering::Relaxed);
        if !self.has_begun.load(Ordering::Relaxed) {
            self.is_http2.store(is_http2, Ordering::Relaxed);
            self.has_begun.store(true, Ordering::Relaxed);
        }
        Running(self.clone())
    }
}

/// A request that is not over.
pub(super) struct Running(Arc<Seat>);

impl Drop for Running {
    fn drop(&mut self) {
        let seat = &self.0;
        // Before it is seen to be idle.
        seat.idle_since_ms.store(milliseconds_since(seat.opened), Ordering::Relaxed);
        seat.running.fetch_sub(1, Ordering::Release);
    }
}

fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The body of an answer; its request runs until it is gone.
pub(super) struct SeatedBody {
    body: Compressed<Body>,
    _running: Running,
}

impl SeatedBody {
    /// The body of the answer to a request.
    pub(super) fn new(body: Compressed<Body>, running: Running) -> Self {
        Self { body, _running: running }
    }
}

impl hyper::body::Body for SeatedBody {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_been_idle_longest_makes_room() {
        let seats = Arc::new(Seats::new(3));
        let mut takings = Vec::new();
        for _ in 0..3 {
            takings.push(seats.take().await);
            // Idleness is counted in milliseconds.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let busy = takings[0].seat.begin(false);
        drop(takings[1].seat.begin(false));
        // The first is busy, the second has just been busy: the third is the one.
        let mut third = takings.pop().unwrap();
        let (fourth, ()) = tokio::join!(seats.take(), async {
            (&mut third.leave).await.unwrap();
            assert!(takings.iter_mut().all(|taking| taking.leave.try_recv().is_err()));
            drop(third);
        });
        drop((busy, fourth));
    }

    #[tokio::test]
    async fn who_is_busy_stays_and_the_new_one_waits() {
        let seats = Arc::new(Seats::new(1));
        let mut only = seats.take().await;
        let busy = only.seat.begin(true);
        seats.clear();
        assert!(only.leave.try_recv().is_err());
        drop(busy);
        let ((), second) = tokio::join!(
            async {
                (&mut only.leave).await.unwrap();
                drop(only);
            },
            seats.take()
        );
        drop(second);
        assert!(seats.taken.lock().unwrap().by_number.is_empty());
    }
}
