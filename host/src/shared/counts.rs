//! How much of each limit all gateways together have used.
//!
//! Each meter is one hash: the number of a slot, and what was counted in it. A set of claims is one script, so that
//! gateways that claim at the same time get what one gateway would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Script;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::limit::meter::{Claim, Keeper, Refused, Span, Standing, Taken};
use crate::shared::connection::{Connection, Unavailable};
use crate::shared::script;

/// Corrections that wait to be sent, also while the server is lost; what is more is dropped and counted.
const WAITING_MAX: usize = 10_000;
/// Corrections that are sent as one step.
const BATCH_MAX: usize = 100;
/// The largest number that scripts count exactly. Source: Lua 5.1, whose numbers are doubles.
const EXACT_MAX: u64 = 1 << 53;
/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// How much has been used.
pub(crate) struct Counts {
    connection: Arc<Connection>,
    claim: Script,
    outgoing: mpsc::Sender<Outgoing>,
    dropped: Arc<AtomicU64>,
}

/// What the task that sends corrections is given.
enum Outgoing {
    Correction(Correction),
    /// Everything before this has been tried.
    Flush(oneshot::Sender<()>),
}

/// So much more or less was used of a meter than was claimed.
struct Correction {
    key: String,
    at_ms: u64,
    difference: i64,
    slots: Slots,
}

/// How a span is divided, as the scripts know it.
#[derive(Clone, Copy)]
struct Slots {
    /// In milliseconds; 0 stands for calendar months.
    length: u64,
    /// How many before the current one count.
    depth: u64,
}

impl Counts {
    /// Counts by this connection; the task that sends corrections is added to `tasks`.
    pub(super) fn new(connection: Arc<Connection>, tasks: &mut JoinSet<()>) -> Self {
        let (outgoing, waiting) = mpsc::channel(WAITING_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        tasks.spawn(send_corrections(connection.clone(), waiting, dropped.clone()));
        Self { connection, claim: script::new(include_str!("claim.lua")), outgoing, dropped }
    }

    /// Counts all of the claims or none, by the server's clock. A claim without an amount asks only.
    ///
    /// Takes at most the time of one step; see [`Connection::run`].
    ///
    /// # Errors
    ///
    /// Outer: there is no answer. Inner: there is no room for one of the claims.
    pub(crate) async fn claim(&self, claims: &[Claim]) -> Result<Result<Taken, Refused>, Unavailable> {
        self.claim_at(claims, None).await
    }

    /// The same, at a time of the caller's choice.
    pub(super) async fn claim_at(
        &self,
        claims: &[Claim],
        now_ms: Option<u64>,
    ) -> Result<Result<Taken, Refused>, Unavailable> {
        let mut call = self.claim.prepare_invoke();
        call.arg(script::time(now_ms));
        for Claim { meter, amount } in claims {
            let Slots { length, depth } = Slots::from(meter.span);
            call.key(key(&meter.id));
            call.arg((*amount).min(EXACT_MAX)).arg(meter.bound.min(EXACT_MAX)).arg(length).arg(depth);
        }
        let answer: Vec<u64> = self.connection.run(&call).await?;
        read(&answer, claims).ok_or(Unavailable::NoAnswer)
    }

    /// Says how much was really used of a claim that was taken `at_ms`. Does not wait.
    ///
    /// While the server is lost corrections wait, a bounded number of them. One that is sent and not answered is not sent
    /// again: it may have been counted.
    pub(crate) fn correct(&self, claim: &Claim, at_ms: u64, amount: u64) {
        let exact = |count: u64| i64::try_from(count.min(EXACT_MAX)).unwrap_or(i64::MAX);
        let difference = exact(amount) - exact(claim.amount);
        if difference == 0 {
            return;
        }
        let slots = Slots::from(claim.meter.span);
        let correction = Correction { key: key(&claim.meter.id), at_ms, difference, slots };
        if self.outgoing.try_send(Outgoing::Correction(correction)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Corrections that were given up.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every correction so far has been sent; for ever while the server is lost.
    pub(super) async fn flush(&self) {
        let (sent, done) = oneshot::channel();
        if self.outgoing.send(Outgoing::Flush(sent)).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl From<Span> for Slots {
    fn from(span: Span) -> Self {
        match span {
            Span::Window(length) => {
                let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                Self { length: ms.div_ceil(Span::SLOTS).clamp(1, EXACT_MAX), depth: Span::SLOTS }
            }
            Span::Day => Self { length: DAY_MS, depth: 0 },
            Span::Month => Self { length: 0, depth: 0 },
        }
    }
}

fn key(id: &str) -> String {
    format!("witgate:count:{id}")
}

/// Reads the script's answer; none if it is not what the script gives.
fn read(answer: &[u64], claims: &[Claim]) -> Option<Result<Taken, Refused>> {
    let (&[refused, at_ms], rest) = answer.split_first_chunk()?;
    let standing = |claim: &Claim, left: u64, resets: u64| Standing {
        bound: claim.meter.bound,
        left,
        resets_in: Duration::from_millis(resets),
    };
    if refused == 0 {
        let (pairs, []) = rest.as_chunks::<2>() else { return None };
        let standings =
            claims.iter().zip(pairs).map(|(claim, &[left, resets])| standing(claim, left, resets));
        return (pairs.len() == claims.len())
            .then(|| Ok(Taken { keeper: Keeper::Shared, at_ms, standings: standings.collect() }));
    }
    let index = usize::try_from(refused).ok()? - 1;
    let &[left, resets, wait] = rest else { return None };
    let standing = standing(claims.get(index)?, left, resets);
    Some(Err(Refused { index, standing, wait: Duration::from_millis(wait) }))
}

/// Sends corrections in batches while the server can be reached; ends with `Counts`.
async fn send_corrections(
    connection: Arc<Connection>,
    mut waiting: mpsc::Receiver<Outgoing>,
    dropped: Arc<AtomicU64>,
) {
    let correct = script::new(include_str!("correct.lua"));
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut call = correct.prepare_invoke();
        call.arg(script::time(None));
        let mut corrections = 0;
        let mut flushed = Vec::new();
        for outgoing in batch.drain(..) {
            match outgoing {
                Outgoing::Correction(Correction { key, at_ms, difference, slots }) => {
                    call.key(key).arg(at_ms).arg(difference).arg(slots.length).arg(slots.depth);
                    corrections += 1;
                }
                Outgoing::Flush(done) => flushed.push(done),
            }
        }
        if corrections > 0 && connection.run_when_connected::<u64>(&call).await.is_err() {
            dropped.fetch_add(corrections, Ordering::Relaxed);
        }
        for done in flushed {
            // Whoever does not wait any more need not know.
            let _ = done.send(());
        }
    }
}
