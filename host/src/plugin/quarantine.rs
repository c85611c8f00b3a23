//! Keeps a plugin that breaks again and again from being called, and finds out when it is well.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugin::fault::FaultKind;

/// Faults are counted over this time.
const WINDOW: Duration = Duration::from_secs(30);
/// So many faults in a window quarantine a plugin, if they are also a large enough part of its calls.
const FAULTS_MIN: u64 = 5;
/// One in so many calls has to be a fault.
const FAULTY_PART: u64 = 5;
/// So many failed starts one after another quarantine it, whatever the rest.
const STARTS_FAILED_MAX: u32 = 3;
/// The first pause; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// One in so many calls may probe a plugin whose pause is over.
const PROBE_EVERY: u64 = 20;
/// So many good probes one after another end the quarantine.
const PROBES_GOOD: u32 = 10;

/// Whether a plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As it should be.
    Healthy,
    /// It is not called.
    Quarantined,
    /// Some calls find out whether it is well.
    Probing,
}

impl Condition {
    /// The name on `/admin/plugins`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Quarantined => "quarantined",
            Self::Probing => "probing",
        }
    }
}

/// The state of one plugin; a new version begins anew.
#[derive(Default)]
pub(crate) struct Quarantine {
    /// Whether there is nothing to remember: then a call costs one look at this and one count.
    is_troubled: AtomicBool,
    calls: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the window began, and how many calls there had been then.
    window: Option<(Instant, u64)>,
    faults: u64,
    starts_failed: u32,
    /// The end of the pause, while quarantined.
    until: Option<Instant>,
    /// How many pauses there were since it was last well.
    pauses: u32,
    probes_asked: u64,
    probes_good: u32,
}

impl Quarantine {
    /// Whether a call may be made now; counts it.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if !self.is_troubled.load(Ordering::Acquire) {
            return true;
        }
        let mut state = self.state();
        match state.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                state.probes_asked += 1;
                state.probes_asked % PROBE_EVERY == 1
            }
        }
    }

    /// A call returned.
    pub(crate) fn note_good(&self) {
        if !self.is_troubled.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        state.starts_failed = 0;
        if state.until.is_some() {
            state.probes_good += 1;
            if state.probes_good >= PROBES_GOOD {
                *state = State::default();
                self.is_troubled.store(false, Ordering::Release);
            }
        }
    }

    /// A call broke; says for how long the plugin is quarantined if it is now.
    pub(crate) fn note_fault(&self, kind: FaultKind, now: Instant) -> Option<Duration> {
        self.is_troubled.store(true, Ordering::Release);
        let calls = self.calls.load(Ordering::Relaxed);
        let mut state = self.state();
        state.starts_failed = if kind == FaultKind::Init { state.starts_failed + 1 } else { 0 };
        let (began, calls_before) = match state.window {
            Some((began, before)) if now - began <= WINDOW => (began, before),
            _ => {
                state.faults = 0;
                (now, calls.saturating_sub(1))
            }
        };
        state.window = Some((began, calls_before));
        state.faults += 1;
        let is_frequent =
            state.faults >= FAULTS_MIN && state.faults * FAULTY_PART >= calls.saturating_sub(calls_before);
        let has_failed_probe = state.until.is_some_and(|until| now >= until);
        let is_new = state.until.is_none() && (is_frequent || state.starts_failed >= STARTS_FAILED_MAX);
        if !is_new && !has_failed_probe {
            return None;
        }
        let pause = PAUSE.saturating_mul(1 << state.pauses.min(10)).min(PAUSE_MAX);
        *state = State { until: Some(now + pause), pauses: state.pauses + 1, ..State::default() };
        Some(pause)
    }

    /// How it is.
    pub(crate) fn condition(&self, now: Instant) -> Condition {
        match self.state().until {
            None => Condition::Healthy,
            Some(until) if now < until => Condition::Quarantined,
            Some(_) => Condition::Probing,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a call and says whether it was admitted.
    fn call(quarantine: &Quarantine, now: Instant, is_good: bool) -> bool {
        if !quarantine.admits(now) {
            return false;
        }
        if is_good {
            quarantine.note_good();
        } else {
            quarantine.note_fault(FaultKind::Trap, now);
        }
        true
    }

    #[test]
    fn a_plugin_that_always_breaks_is_paused_for_longer_and_longer() {
        let quarantine = Quarantine::default();
        let mut now = Instant::now();
        for _ in 0..FAULTS_MIN {
            assert!(call(&quarantine, now, false));
        }
        assert_eq!(quarantine.condition(now), Condition::Quarantined);
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert!(!call(&quarantine, now + Duration::from_secs(pause - 1), false));
            now += Duration::from_secs(pause);
            assert_eq!(quarantine.condition(now), Condition::Probing);
            assert!(call(&quarantine, now, false), "a probe after {pause} s");
            assert_eq!(quarantine.condition(now), Condition::Quarantined);
        }
    }

    #[test]
    fn a_plugin_that_is_well_again_comes_back() {
        let quarantine = Quarantine::default();
        let start = Instant::now();
        for _ in 0..FAULTS_MIN {
            call(&quarantine, start, false);
        }
        let now = start + PAUSE;
        let admitted =
            (0..=PROBE_EVERY * u64::from(PROBES_GOOD - 1)).filter(|_| call(&quarantine, now, true)).count();
        assert_eq!(admitted as u32, PROBES_GOOD);
        assert_eq!(quarantine.condition(now), Condition::Healthy);
        assert!((0..100).all(|_| call(&quarantine, now, true)));
    }

    #[test]
    fn rare_faults_do_no_harm() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        for n in 0..1000 {
            assert!(call(&quarantine, now, n % 10 != 0), "call {n}");
        }
        let quarantine = Quarantine::default();
        for n in 0..100_u64 {
            assert!(
                call(&quarantine, now + WINDOW * 2 * n as u32, false),
                "fault {n}, long after the one before"
            );
        }
    }

    #[test]
    fn starts_that_fail_one_after_another_are_enough() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        for _ in 0..1000 {
            call(&quarantine, now, true);
        }
        for n in 1..=STARTS_FAILED_MAX {
            quarantine.admits(now);
            let pause = quarantine.note_fault(FaultKind::Init, now);
            assert_eq!(pause.is_some(), n == STARTS_FAILED_MAX);
        }
    }
}
