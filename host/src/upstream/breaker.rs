//! The circuit breaker: who fails again and again is left alone for a while, then asked once, then trusted again.
//!
//! What it is and does is a pure machine over instants that are passed in; around it are a lock, a word that lets the
//! healthy pass without it, and the word to others. A breaker is asked for leave before an attempt and told what came of
//! it. Leave that is dropped without a word, because the client left, is given back: the next one may probe.

mod machine;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::config;
use crate::upstream::breaker::machine::Machine;

pub(crate) use crate::upstream::breaker::machine::{Condition, Ticket};

/// What the gateway tells others of an upstream's breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The upstream's name.
    pub(crate) upstream: Arc<str>,
    /// For how long it is left alone from now on; none when it is trusted again.
    pub(crate) opened_for: Option<Duration>,
}

/// One breaker. It belongs to an upstream, or to one key of it.
pub(crate) struct Breaker {
    machine: Mutex<Machine>,
    /// The machine's word for those that need not look at it: see [`Machine::word`].
    word: AtomicU64,
    trips: AtomicU64,
    changes: OnceLock<broadcast::Sender<Change>>,
}

/// Leave for one attempt. Dropped without a word about it, it is as if it had never been given.
pub(crate) struct Pass<'a> {
    breaker: &'a Breaker,
    ticket: Ticket,
}

/// A breaker as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Closed, half open or open.
    pub(crate) condition: Condition,
    /// The failures in a row, while it is closed.
    pub(crate) failures: u32,
    /// How long it stays open; zero unless it is.
    pub(crate) opens_in: Duration,
    /// How often it opened.
    pub(crate) trips: u64,
}

impl Default for Breaker {
    fn default() -> Self {
        let machine = Machine::default();
        let word = AtomicU64::new(machine.word());
        Self { machine: Mutex::new(machine), word, trips: AtomicU64::new(0), changes: OnceLock::new() }
    }
}

impl Breaker {
    /// Asks for leave to make an attempt.
    ///
    /// # Errors
    ///
    /// When to ask again, at the earliest.
    pub(crate) fn ask(&self, settings: &config::Breaker) -> Result<Pass<'_>, Instant> {
        let ticket = match Ticket::of_word(self.word.load(Ordering::Acquire)) {
            _ if !settings.is_on() => Ticket::VOID,
            Some(ticket) => ticket,
            None => {
                let now = Instant::now();
                self.change(|machine| machine.ask(now))?
            }
        };
        Ok(Pass { breaker: self, ticket })
    }

    /// Leave for who has nobody else to ask: given though the upstream rests, but not if it failed. What comes of it
    /// changes nothing.
    pub(crate) fn ask_nevertheless(&self) -> Option<Pass<'_>> {
        self.lock().is_resting().then_some(Pass { breaker: self, ticket: Ticket::VOID })
    }

    /// The leave of a stream that had [begun](Pass::begun), at its end.
    pub(crate) fn resume(&self, ticket: Ticket) -> Pass<'_> {
        Pass { breaker: self, ticket }
    }

    /// Takes the word of somebody who shares the upstream, such as another gateway, that it is down for so long; at most
    /// as long as a cool-down may be.
    ///
    /// It is not passed on: who hears a hint must not repeat it.
    pub(crate) fn hint(&self, lasting: Duration, settings: &config::Breaker) {
        if settings.is_on() {
            let now = Instant::now();
            let until = now + lasting.min(settings.cooldown_max);
            self.change(|machine| machine.hint(now, until));
        }
    }

    /// Takes a health check that went well: it need not wait any longer.
    pub(crate) fn checked_well(&self, upstream: &Arc<str>) {
        if self.change(Machine::checked_well) {
            tracing::info!(upstream = &**upstream, "a health check closed the breaker");
            self.tell(upstream, None);
        }
    }

    /// Takes so many health checks in a row that did not.
    pub(crate) fn checked_badly(&self, upstream: &Arc<str>, settings: &config::Breaker) {
        let now = Instant::now();
        if let Some(rest) = self.change(|machine| machine.checked_badly(now, settings)) {
            self.opened(upstream, rest, "health checks failed, the breaker opens");
        }
    }

    /// How it stands.
    pub(crate) fn standing(&self, settings: &config::Breaker) -> Standing {
        let now = Instant::now();
        let machine = self.lock();
        let (condition, opens_in) =
            if settings.is_on() { machine.condition(now) } else { (Condition::Closed, Duration::ZERO) };
        let trips = self.trips.load(Ordering::Relaxed);
        Standing { condition, failures: machine.failures(), opens_in, trips }
    }

    /// Tells everything that others should know to this channel from now on; the first one that is given stays.
    pub(crate) fn tell_to(&self, changes: &broadcast::Sender<Change>) {
        self.changes.get_or_init(|| changes.clone());
    }

    fn tell(&self, upstream: &Arc<str>, opened_for: Option<Duration>) {
        if let Some(changes) = self.changes.get() {
            // Nobody may be listening.
            let _ = changes.send(Change { upstream: upstream.clone(), opened_for });
        }
    }

    fn opened(&self, upstream: &Arc<str>, rest: Duration, message: &'static str) {
        self.trips.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(upstream = &**upstream, rest_ms = rest.as_millis() as u64, "{message}");
        self.tell(upstream, Some(rest));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.lock();
        let result = change(&mut machine);
        self.word.store(machine.word(), Ordering::Release);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("no code panics while it holds this lock")
    }
}

impl Pass<'_> {
    /// The upstream answered, whatever it said.
    pub(crate) fn succeeded(self, upstream: &Arc<str>) {
        // What is closed and has nothing to forget stays as it is.
        let is_calm = || Ticket::of_word(self.breaker.word.load(Ordering::Acquire)) == Some(self.ticket);
        if self.ticket == Ticket::VOID || is_calm() {
            return;
        }
        if self.breaker.change(|machine| machine.succeeded(self.ticket)) {
            tracing::info!(upstream = &**upstream, "the breaker closes");
            self.breaker.tell(upstream, None);
        }
    }

    /// The upstream began a stream, of which nobody knows yet how it ends; that is told to what is resumed with the
    /// ticket. A probe has its answer with the beginning: a stream may go on for hours.
    pub(crate) fn begun(self, upstream: &Arc<str>) -> Option<Ticket> {
        let ticket = self.ticket;
        if ticket.is_probe() {
            self.succeeded(upstream);
            return None;
        }
        (ticket != Ticket::VOID).then_some(ticket)
    }

    /// The upstream failed.
    pub(crate) fn failed(self, upstream: &Arc<str>, settings: &config::Breaker) {
        let now = Instant::now();
        if let Some(rest) = self.breaker.change(|machine| machine.failed(self.ticket, now, settings)) {
            self.breaker.opened(upstream, rest, "the upstream failed again and again, its breaker opens");
        }
    }

    /// The upstream wants to be left alone: for `wait` if it says how long, as after a failure otherwise, and never
    /// longer than a cool-down may be. `message` is what the log says of it.
    pub(crate) fn refused(
        self,
        upstream: &Arc<str>,
        wait: Option<Duration>,
        settings: &config::Breaker,
        message: &'static str,
    ) {
        let now = Instant::now();
        let wait = wait.map(|wait| wait.min(settings.cooldown_max));
        if let Some(rest) = self.breaker.change(|machine| machine.refused(self.ticket, now, wait, settings)) {
            self.breaker.opened(upstream, rest, message);
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // What was told has changed the ticket's epoch, unless there was no probe to give back.
        if self.ticket.is_probe() {
            self.breaker.change(|machine| machine.give_back(self.ticket));
        }
    }
}
