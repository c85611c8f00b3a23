//! How much of each limit all gateways together have used.
//!
//! Each meter is one hash: the number of a slot, and what was counted in it. A set of claims is one script, so that
//! gateways that claim at the same time get what one gateway would.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{RedisResult, Script};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::limit::ledger::now_ms;
use crate::limit::meter::{Claim, Keeper, Refused, Span, Standing, Taken};
use crate::shared::connection::{Condition, Connection, Unavailable};
use crate::shared::script;

/// Corrections that wait to be looked at, and meters whose corrections wait to be sent, also while the server is lost;
/// what is more is dropped and counted.
const WAITING_MAX: usize = 10_000;
/// Corrections that are sent as one step.
const BATCH_MAX: usize = 100;
/// How often what waits is looked through for what does not count any more, in milliseconds.
const PRUNE_INTERVAL_MS: u64 = 1000;
/// The largest number that scripts count exactly. Source: Lua 5.1, whose numbers are doubles.
const EXACT_MAX: u64 = 1 << 53;
/// A day in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// Where the server keeps which life of it this is.
const LIFE_KEY: &str = "witgate:life";

static CLAIM: LazyLock<Script> = LazyLock::new(|| script::new(include_str!("claim.lua")));
static CORRECT: LazyLock<Script> = LazyLock::new(|| script::new(include_str!("correct.lua")));

/// How much has been used.
pub(crate) struct Counts {
    connection: Arc<Connection>,
    corrections: Corrections,
}

/// The way to the task that sends corrections.
#[derive(Clone)]
struct Corrections {
    outgoing: mpsc::Sender<Outgoing>,
    dropped: Arc<AtomicU64>,
}

/// What the task that sends corrections is given.
enum Outgoing {
    Correction(Place, Correction),
    /// Everything before this has been tried.
    Flush(oneshot::Sender<()>),
}

/// Where something was counted: the meter, the slot, and the life of the server; none where the server did not count it.
type Place = (Arc<str>, u64, Option<u64>);

/// So much was used of a meter where so much was claimed.
struct Correction {
    span: Span,
    /// A moment of the slot.
    at_ms: u64,
    claimed: u64,
    used: u64,
}

/// Claims that the server has granted. Whoever was granted them may have left, or have stopped waiting: dropped before it
/// is taken, it gives them back.
struct Grant {
    taken: Option<Taken>,
    claims: Vec<Claim>,
    corrections: Corrections,
}

/// Corrections that are to be sent. Those of one place are one, so that however long the server is lost there are no more
/// of them than places.
#[derive(Default)]
struct Unsent {
    corrections: HashMap<Place, Correction>,
    flushed: Vec<oneshot::Sender<()>>,
    pruned_ms: u64,
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
        let (outgoing, news) = mpsc::channel(WAITING_MAX);
        let corrections = Corrections { outgoing, dropped: Arc::default() };
        tasks.spawn(send_corrections(connection.clone(), news, corrections.dropped.clone()));
        Self { connection, corrections }
    }

    /// Counts all of the claims or none, by the server's clock. A claim without an amount asks only.
    ///
    /// Takes at most the time of one step; see [`Connection::run`]. What is granted later than that, or when the future has
    /// been dropped, is given back.
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
        let mut call = CLAIM.prepare_invoke();
        call.key(LIFE_KEY).arg(script::time(now_ms));
        for Claim { meter, amount } in claims {
            let Slots { length, depth } = Slots::from(meter.span);
            call.key(key(&meter.id));
            call.arg((*amount).min(EXACT_MAX)).arg(meter.bound.min(EXACT_MAX)).arg(length).arg(depth);
        }
        let (claims, corrections) = (claims.to_vec(), self.corrections.clone());
        let read = move |answer: RedisResult<Vec<u64>>| match answer {
            Ok(answer) => Ok(read(&answer, &claims)
                .map(|decided| decided.map(|taken| Grant { taken: Some(taken), claims, corrections }))),
            Err(error) => {
                // The server may have counted them all the same, and nobody will know.
                if error.is_io_error() || error.is_unrecoverable_error() {
                    corrections.drop_some(claims.len());
                }
                Err(error)
            }
        };
        let decided = self.connection.run_to_end(call, read).await?.ok_or(Unavailable::NoAnswer)?;
        Ok(decided.map(Grant::take))
    }

    /// Says how much was really used of a claim that this keeper has counted, in the slot of `at_ms`; what was not counted
    /// by the server, or by one that has lost it since, is counted now. Does not wait.
    ///
    /// While the server is lost corrections wait, for a bounded number of meters. One that is sent and not answered is not
    /// sent again: it may have been counted.
    pub(crate) fn correct(&self, claim: &Claim, keeper: Keeper, at_ms: u64, amount: u64) {
        self.corrections.correct(claim, keeper, at_ms, amount);
    }

    /// Corrections that were given up, and claims of which it is not known whether they were counted.
    pub(crate) fn dropped(&self) -> u64 {
        self.corrections.dropped.load(Ordering::Relaxed)
    }

    /// Waits until every correction so far has been sent; for ever while the server is lost.
    pub(super) async fn flush(&self) {
        let (sent, done) = oneshot::channel();
        if self.corrections.outgoing.send(Outgoing::Flush(sent)).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl Corrections {
    fn correct(&self, claim: &Claim, keeper: Keeper, at_ms: u64, used: u64) {
        let (claimed, life) = match keeper {
            Keeper::Local => (0, None),
            Keeper::Shared(life) => (claim.amount, Some(life)),
        };
        if used == claimed {
            return;
        }
        let span = claim.meter.span;
        let place = (claim.meter.id.clone(), span.slot(at_ms), life);
        let correction = Correction { span, at_ms, claimed, used };
        if self.outgoing.try_send(Outgoing::Correction(place, correction)).is_err() {
            self.drop_some(1);
        }
    }

    fn drop_some(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Grant {
    fn take(mut self) -> Taken {
        self.taken.take().expect("it is taken once, here")
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else { return };
        for claim in &self.claims {
            self.corrections.correct(claim, taken.keeper, taken.at_ms, 0);
        }
    }
}

impl Unsent {
    /// Notes what is to be sent; whether there was room for it.
    fn note(&mut self, outgoing: Outgoing) -> bool {
        let (place, correction) = match outgoing {
            Outgoing::Correction(place, correction) => (place, correction),
            Outgoing::Flush(done) => {
                self.flushed.push(done);
                return true;
            }
        };
        if let Some(known) = self.corrections.get_mut(&place) {
            known.claimed = known.claimed.saturating_add(correction.claimed);
            known.used = known.used.saturating_add(correction.used);
            return true;
        }
        if self.corrections.len() >= WAITING_MAX {
            self.prune(now_ms());
        }
        let has_room = self.corrections.len() < WAITING_MAX;
        if has_room {
            self.corrections.insert(place, correction);
        }
        has_room
    }

    /// Forgets what does not count any more, now and then.
    fn prune(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.pruned_ms) >= PRUNE_INTERVAL_MS {
            self.pruned_ms = now_ms;
            self.corrections.retain(|(_, slot, _), correction| correction.span.end_ms(*slot) > now_ms);
        }
    }

    /// Takes some to be sent as one step.
    fn batch(&mut self) -> Vec<(Place, Correction)> {
        let places: Vec<Place> = self.corrections.keys().take(BATCH_MAX).cloned().collect();
        places.into_iter().filter_map(|place| self.corrections.remove_entry(&place)).collect()
    }

    /// Lets those know who wait until all has been sent.
    fn tell_if_empty(&mut self) {
        if self.corrections.is_empty() {
            for done in self.flushed.drain(..) {
                // Whoever does not wait any more need not know.
                let _ = done.send(());
            }
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
    let (&[refused, at_ms, life], rest) = answer.split_first_chunk()?;
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
            .then(|| Ok(Taken { keeper: Keeper::Shared(life), at_ms, standings: standings.collect() }));
    }
    let index = usize::try_from(refused).ok()? - 1;
    let &[left, resets, wait] = rest else { return None };
    let standing = standing(claims.get(index)?, left, resets);
    Some(Err(Refused { index, standing, wait: Duration::from_millis(wait) }))
}

/// Sends corrections in batches while the server can be reached; ends with `Counts`.
async fn send_corrections(
    connection: Arc<Connection>,
    mut news: mpsc::Receiver<Outgoing>,
    dropped: Arc<AtomicU64>,
) {
    let mut changes = connection.changes();
    let (mut heard, mut unsent) = (Vec::with_capacity(BATCH_MAX), Unsent::default());
    loop {
        let connected = async {
            // The sender is the connection's own, so that this cannot fail.
            let _ = changes.wait_for(|condition| *condition == Condition::Connected).await;
        };
        tokio::select! {
            count = news.recv_many(&mut heard, BATCH_MAX) => {
                if count == 0 {
                    return;
                }
                let lost = heard.drain(..).filter_map(|one| (!unsent.note(one)).then_some(())).count();
                dropped.fetch_add(lost as u64, Ordering::Relaxed);
            }
            () = connected, if !unsent.corrections.is_empty() => {
                let batch = unsent.batch();
                if send(&connection, &batch, dropped.clone()).await == Err(Unavailable::Lost) {
                    unsent.corrections.extend(batch);
                    let _ = changes.changed().await;
                }
            }
        }
        unsent.tell_if_empty();
    }
}

/// Sends corrections as one step; they are dropped if they are not answered well even late.
async fn send(
    connection: &Connection,
    batch: &[(Place, Correction)],
    dropped: Arc<AtomicU64>,
) -> Result<u64, Unavailable> {
    let exact = |count: u64| i64::try_from(count.min(EXACT_MAX)).unwrap_or(i64::MAX);
    let mut call = CORRECT.prepare_invoke();
    call.key(LIFE_KEY).arg(script::time(None));
    for ((id, _, life), Correction { span, at_ms, claimed, used }) in batch {
        let (claimed, used) = (exact(*claimed), exact(*used));
        let Slots { length, depth } = Slots::from(*span);
        call.key(key(id)).arg(*at_ms).arg(life.unwrap_or(0)).arg(used - claimed).arg(used);
        call.arg(length).arg(depth);
    }
    let count = batch.len() as u64;
    let read = move |answer: RedisResult<u64>| {
        answer.inspect_err(|_| {
            dropped.fetch_add(count, Ordering::Relaxed);
        })
    };
    connection.run_to_end(call, read).await
}
