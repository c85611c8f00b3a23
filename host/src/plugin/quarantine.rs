//! Keeps a plugin that breaks again and again from being called, and finds out when it is well.
//!
//! A plugin is admitted to an exchange as a whole, so that what is begun on the way in is ended on the way out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugin::fault::FaultKind;

/// Faults are counted over this time.
const WINDOW: Duration = Duration::from_secs(30);
/// So many faults in a window quarantine a plugin, if they are also a large enough part of its exchanges.
const FAULTS_MIN: u64 = 5;
/// One in so many exchanges has to be a fault.
const FAULTY_PART: u64 = 5;
/// So many failed starts one after another quarantine it, whatever the rest.
const STARTS_FAILED_MAX: u32 = 3;
/// The first pause; it doubles with each further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// So many good probes one after another end the quarantine.
const PROBES_GOOD: u32 = 3;

/// Whether a plugin is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As it should be.
    Healthy,
    /// It is not called.
    Quarantined,
    /// One exchange at a time finds out whether it is well.
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

/// Whether a plugin takes part in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It does.
    Yes,
    /// It does, and what becomes of it decides; [`Quarantine::end_probe`] is due.
    Probe,
    /// It does not.
    No,
}

/// The state of one plugin; a new version begins anew.
#[derive(Default)]
pub(crate) struct Quarantine {
    /// Whether there is anything to remember; otherwise an exchange costs one look at this and one count.
    is_troubled: AtomicBool,
    admitted: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// When the window began, and how many exchanges there had been then.
    window: Option<(Instant, u64)>,
    faults: u64,
    starts_failed: u32,
    /// The end of the pause, while quarantined.
    until: Option<Instant>,
    /// How many pauses there were since it was last well.
    pauses: u32,
    is_probed: bool,
    probes_good: u32,
}

impl Quarantine {
    /// Asks whether the plugin takes part in an exchange.
    pub(crate) fn admits(&self, now: Instant) -> Admission {
        if self.is_troubled.load(Ordering::Acquire) {
            let mut state = self.state();
            match state.until {
                None => {
                    let is_over = state.window.is_none_or(|(began, _)| now - began > WINDOW);
                    if is_over && state.starts_failed == 0 {
                        *state = State::default();
                        self.is_troubled.store(false, Ordering::Release);
                    }
                }
                Some(until) if now < until || state.is_probed => return Admission::No,
                Some(_) => {
                    state.is_probed = true;
                    return Admission::Probe;
                }
            }
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Admission::Yes
    }

    /// The plugin was started.
    pub(crate) fn note_start(&self) {
        if self.is_troubled.load(Ordering::Acquire) {
            self.state().starts_failed = 0;
        }
    }

    /// The exchange that was a probe is over; whether the plugin was called and never broke, or was not called at all.
    pub(crate) fn end_probe(&self, was_good: Option<bool>) {
        let mut state = self.state();
        if !std::mem::take(&mut state.is_probed) {
            return;
        }
        match was_good {
            Some(true) => state.probes_good += 1,
            Some(false) => state.probes_good = 0,
            None => {}
        }
        if state.probes_good >= PROBES_GOOD {
            *state = State::default();
            self.is_troubled.store(false, Ordering::Release);
        }
    }

    /// A call broke; says for how long the plugin is quarantined if it is from now on.
    pub(crate) fn note_fault(&self, kind: FaultKind, now: Instant) -> Option<Duration> {
        self.is_troubled.store(true, Ordering::Release);
        let admitted = self.admitted.load(Ordering::Relaxed);
        let mut state = self.state();
        if let Some(until) = state.until {
            // What an exchange does that began before is no news; a probe that breaks is.
            return (state.is_probed && now >= until).then(|| state.pause(now));
        }
        state.starts_failed = if kind == FaultKind::Init { state.starts_failed + 1 } else { 0 };
        let (began, admitted_before) = match state.window {
            Some((began, before)) if now - began <= WINDOW => (began, before),
            _ => {
                state.faults = 0;
                (now, admitted.saturating_sub(1))
            }
        };
        state.window = Some((began, admitted_before));
        state.faults += 1;
        let is_frequent = state.faults >= FAULTS_MIN
            && state.faults * FAULTY_PART >= admitted.saturating_sub(admitted_before);
        (is_frequent || state.starts_failed >= STARTS_FAILED_MAX).then(|| state.pause(now))
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

impl State {
    /// Begins the next pause.
    fn pause(&mut self, now: Instant) -> Duration {
        let pause = PAUSE.saturating_mul(1 << self.pauses.min(10)).min(PAUSE_MAX);
        let is_probed = self.is_probed;
        *self = Self { until: Some(now + pause), pauses: self.pauses + 1, is_probed, ..Self::default() };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs an exchange and says whether the plugin took part.
    fn exchange(quarantine: &Quarantine, now: Instant, is_good: bool) -> bool {
        let admission = quarantine.admits(now);
        if admission != Admission::No && !is_good {
            quarantine.note_fault(FaultKind::Trap, now);
        }
        if admission == Admission::Probe {
            quarantine.end_probe(Some(is_good));
        }
        admission != Admission::No
    }

    fn quarantined(now: Instant) -> Quarantine {
        let quarantine = Quarantine::default();
        for _ in 0..FAULTS_MIN {
            assert!(exchange(&quarantine, now, false));
        }
        assert_eq!(quarantine.condition(now), Condition::Quarantined);
        quarantine
    }

    #[test]
    fn a_plugin_that_always_breaks_is_paused_for_longer_and_longer() {
        let mut now = Instant::now();
        let quarantine = quarantined(now);
        for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
            assert!(!exchange(&quarantine, now + Duration::from_secs(pause - 1), false));
            now += Duration::from_secs(pause);
            assert_eq!(quarantine.condition(now), Condition::Probing);
            assert!(exchange(&quarantine, now, false), "a probe after {pause} s");
            assert_eq!(quarantine.condition(now), Condition::Quarantined);
        }
    }

    #[test]
    fn a_plugin_that_is_well_again_comes_back() {
        let start = Instant::now();
        let quarantine = quarantined(start);
        let now = start + PAUSE;
        for _ in 0..PROBES_GOOD {
            assert_eq!(quarantine.condition(now), Condition::Probing);
            assert!(exchange(&quarantine, now, true));
        }
        assert_eq!(quarantine.condition(now), Condition::Healthy);
        assert!((0..100).all(|_| exchange(&quarantine, now, true)));
    }

    #[test]
    fn one_exchange_probes_at_a_time_and_what_began_before_does_not_count() {
        let start = Instant::now();
        let quarantine = quarantined(start);
        let now = start + PAUSE;
        assert_eq!(quarantine.admits(now), Admission::Probe);
        assert_eq!(quarantine.admits(now), Admission::No);
        // A client left before the plugin was called.
        quarantine.end_probe(None);
        assert_eq!(quarantine.admits(now), Admission::Probe);
        quarantine.end_probe(Some(true));
        assert_eq!(quarantine.note_fault(FaultKind::Trap, now), None);
        assert_eq!(quarantine.condition(now), Condition::Probing);
    }

    #[test]
    fn rare_faults_do_no_harm() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        for n in 0..1000 {
            assert!(exchange(&quarantine, now, n % 10 != 0), "exchange {n}");
        }
        let quarantine = Quarantine::default();
        for n in 0..100_u64 {
            let later = now + WINDOW * 2 * n as u32;
            assert!(exchange(&quarantine, later, false), "fault {n}, long after the one before");
        }
    }

    #[test]
    fn starts_that_fail_one_after_another_are_enough() {
        let quarantine = Quarantine::default();
        let now = Instant::now();
        for _ in 0..1000 {
            exchange(&quarantine, now, true);
        }
        for n in 1..=STARTS_FAILED_MAX {
            quarantine.admits(now);
            let pause = quarantine.note_fault(FaultKind::Init, now);
            assert_eq!(pause.is_some(), n == STARTS_FAILED_MAX);
        }
        let quarantine = Quarantine::default();
        for n in 0..100 {
            exchange(&quarantine, now, true);
            exchange(&quarantine, now, true);
            quarantine.admits(now);
            if n % 10 == 0 {
                assert_eq!(quarantine.note_fault(FaultKind::Init, now), None);
                quarantine.note_start();
            }
        }
    }
}
