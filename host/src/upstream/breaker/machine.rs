//! What a breaker is and does, without a clock or a lock.

use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// When to ask again while somebody else's probe is on its way: nobody knows how long that takes.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// The word for how a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Everybody passes.
    Closed,
    /// One may pass, or has, and what comes of it decides.
    HalfOpen,
    /// Nobody passes.
    Open,
}

impl Condition {
    /// All of them.
    pub(crate) const NAMES: [&str; 3] = ["closed", "half_open", "open"];

    /// The word for it in metrics and on the admin listener.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Which phase leave was given in, and whether it was for the one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    epoch: u64,
    is_probe: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open {
        until: Instant,
        cause: Cause,
    },
    /// A probe is on its way; what was there before is kept for the case that it comes back without an answer.
    Probing {
        before: Instant,
        cause: Cause,
    },
}

/// Why it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It failed, or somebody else found that it does.
    Failing,
    /// It answered that it wants to be left alone. A health check knows nothing about that.
    Resting,
}

/// The states of a breaker.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    phase: Phase,
    /// Failures in a row, while it is closed.
    failures: u32,
    /// How often it opened because of failures since it was closed last.
    openings: u32,
    /// Counts the changes of phase, so that what began before one has no say after it.
    epoch: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self { phase: Phase::Closed, failures: 0, openings: 0, epoch: 0 }
    }
}

impl Ticket {
    /// Leave where there is no breaker: it is of no phase.
    pub(super) const VOID: Self = Self { epoch: u64::MAX, is_probe: false };

    /// Leave by the word alone, where it says that all may pass and nothing has to be forgotten.
    pub(super) fn of_word(word: u64) -> Option<Self> {
        (word & 1 == 1).then_some(Self { epoch: word >> 1, is_probe: false })
    }

    /// Whether it is the one probe.
    pub(super) fn is_probe(self) -> bool {
        self.is_probe
    }
}

impl Machine {
    /// The epoch, and in the lowest bit whether it is closed without a failure to remember.
    pub(super) fn word(&self) -> u64 {
        let is_calm = self.phase == Phase::Closed && self.failures == 0;
        self.epoch << 1 | u64::from(is_calm)
    }

    /// Gives leave, or says when to ask again.
    pub(super) fn ask(&mut self, now: Instant) -> Result<Ticket, Instant> {
        match self.phase {
            Phase::Closed => Ok(Ticket { epoch: self.epoch, is_probe: false }),
            Phase::Open { until, .. } if now < until => Err(until),
            Phase::Open { until, cause } => {
                self.enter(Phase::Probing { before: until, cause });
                Ok(Ticket { epoch: self.epoch, is_probe: true })
            }
            Phase::Probing { .. } => Err(now + PROBE_WAIT),
        }
    }

    /// Whether it is left alone because it asked for that, and not because it failed.
    pub(super) fn is_resting(&self) -> bool {
        matches!(
            self.phase,
            Phase::Open { cause: Cause::Resting, .. } | Phase::Probing { cause: Cause::Resting, .. }
        )
    }

    /// An attempt succeeded; true if that closes it.
    pub(super) fn succeeded(&mut self, ticket: Ticket) -> bool {
        if ticket.epoch != self.epoch {
            return false;
        }
        self.failures = 0;
        if self.phase == Phase::Closed {
            return false;
        }
        self.close();
        true
    }

    /// An attempt failed; says for how long it opens, if it does.
    pub(super) fn failed(
        &mut self,
        ticket: Ticket,
        now: Instant,
        settings: &config::Breaker,
    ) -> Option<Duration> {
        if ticket.epoch != self.epoch {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.phase == Phase::Closed && self.failures < settings.failures {
            return None;
        }
        Some(self.trip(now, settings))
    }

    /// An attempt was answered with the wish to be left alone; says for how long that opens it.
    pub(super) fn refused(
        &mut self,
        ticket: Ticket,
        now: Instant,
        wait: Option<Duration>,
        settings: &config::Breaker,
    ) -> Option<Duration> {
        if ticket.epoch != self.epoch {
            return None;
        }
        match wait {
            None => {
                let rest = self.trip(now, settings);
                if let Phase::Open { cause, .. } = &mut self.phase {
                    *cause = Cause::Resting;
                }
                Some(rest)
            }
            Some(wait) => {
                self.enter(Phase::Open { until: now + wait, cause: Cause::Resting });
                Some(wait)
            }
        }
    }

    /// Leave was given for nothing; the next one may probe.
    pub(super) fn give_back(&mut self, ticket: Ticket) {
        if let Phase::Probing { before, cause } = self.phase
            && ticket.epoch == self.epoch
        {
            self.enter(Phase::Open { until: before, cause });
        }
    }

    /// Somebody else says that it is down until then.
    pub(super) fn hint(&mut self, now: Instant, until: Instant) {
        match &mut self.phase {
            _ if until <= now => {}
            Phase::Closed => self.enter(Phase::Open { until, cause: Cause::Failing }),
            Phase::Open { until: own, .. } => *own = until.max(*own),
            // The probe will know better than somebody who did not ask as lately.
            Phase::Probing { .. } => {}
        }
    }

    /// A health check went well; true if that closes it.
    pub(super) fn checked_well(&mut self) -> bool {
        let is_failing = match self.phase {
            Phase::Open { cause, .. } | Phase::Probing { cause, .. } => cause == Cause::Failing,
            Phase::Closed => false,
        };
        if is_failing {
            self.close();
        }
        is_failing
    }

    /// Health checks went badly; says for how long it opens if it was closed. It stays open while they go on.
    pub(super) fn checked_badly(&mut self, now: Instant, settings: &config::Breaker) -> Option<Duration> {
        match &mut self.phase {
            Phase::Closed => Some(self.trip(now, settings)),
            Phase::Open { until, .. } => {
                *until = (*until).max(now + settings.cooldown_after(1));
                None
            }
            Phase::Probing { .. } => None,
        }
    }

    /// How it stands, and how long it stays open.
    pub(super) fn condition(&self, now: Instant) -> (Condition, Duration) {
        match self.phase {
            Phase::Closed => (Condition::Closed, Duration::ZERO),
            Phase::Open { until, .. } if now < until => (Condition::Open, until - now),
            Phase::Open { .. } | Phase::Probing { .. } => (Condition::HalfOpen, Duration::ZERO),
        }
    }

    /// The failures in a row, while it is closed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    fn trip(&mut self, now: Instant, settings: &config::Breaker) -> Duration {
        self.openings = self.openings.saturating_add(1);
        let rest = settings.cooldown_after(self.openings);
        self.enter(Phase::Open { until: now + rest, cause: Cause::Failing });
        rest
    }

    fn close(&mut self) {
        self.openings = 0;
        self.enter(Phase::Closed);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.failures = 0;
        self.epoch += 1;
    }
}
