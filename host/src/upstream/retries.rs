//! How many retries and failovers the gateway as a whole may make, so that they cannot turn an outage into a flood.
//!
//! They are counted against the first attempts of the last seconds. A few are always allowed, because a share of hardly
//! anything is nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The seconds that are looked back on.
const SECONDS: u64 = 10;
/// The retries and failovers that are always allowed, over these seconds.
const ALWAYS: u64 = 10 * SECONDS;

/// The attempts of the last seconds.
pub(crate) struct Retries {
    since: Instant,
    first: Window,
    further: Window,
    refused: AtomicU64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            first: Window::default(),
            further: Window::default(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Retries {
    /// Counts an attempt, and says whether it may be made: the first of an exchange always, a further one while all those
    /// are not more than `budget` of the first ones. 1 means no bound.
    pub(crate) fn allow(&self, is_first: bool, budget: f64) -> bool {
        if budget >= 1.0 {
            return true;
        }
        self.allow_at(self.since.elapsed(), is_first, budget)
    }

    /// The further attempts that were not made.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn allow_at(&self, now: Duration, is_first: bool, budget: f64) -> bool {
        let second = now.as_secs();
        if is_first {
            self.first.add(second);
            return true;
        }
        let allowed = ALWAYS + (self.first.sum(second) as f64 * budget) as u64;
        let is_allowed = self.further.sum(second) < allowed;
        if is_allowed {
            self.further.add(second);
        } else {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        is_allowed
    }
}

/// Counts by second, of the last [`SECONDS`]. Each slot holds its second in the upper half and its count in the lower.
#[derive(Default)]
struct Window([AtomicU64; SECONDS as usize]);

impl Window {
    fn add(&self, second: u64) {
        let counted = |slot: u64| {
            let count = if slot >> 32 == second { slot & COUNT_MAX } else { 0 };
            Some(second << 32 | (count + 1).min(COUNT_MAX))
        };
        // It always counts.
        let _ =
            self.0[(second % SECONDS) as usize].fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted);
    }

    fn sum(&self, second: u64) -> u64 {
        let count = |slot: &AtomicU64| {
            let slot = slot.load(Ordering::Relaxed);
            if second.saturating_sub(slot >> 32) < SECONDS { slot & COUNT_MAX } else { 0 }
        };
        self.0.iter().map(count).sum()
    }
}

/// The most that a slot counts.
const COUNT_MAX: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// How many of `asked` further attempts are allowed at a second, after so many first ones.
    fn allowed(retries: &Retries, second: u64, first: u64, asked: u64, budget: f64) -> u64 {
        let now = Duration::from_secs(second);
        (0..first).for_each(|_| assert!(retries.allow_at(now, true, budget)));
        (0..asked).filter(|_| retries.allow_at(now, false, budget)).count() as u64
    }

    #[test]
    fn a_few_are_always_allowed() {
        let retries = Retries::default();
        assert_eq!(allowed(&retries, 0, 0, 1000, 0.0), ALWAYS);
        assert_eq!(retries.refused(), 1000 - ALWAYS);
    }

    #[test]
    fn more_are_a_part_of_the_first_attempts() {
        let retries = Retries::default();
        assert_eq!(allowed(&retries, 0, 1000, 1000, 0.2), ALWAYS + 200);
        assert_eq!(allowed(&retries, 1, 0, 10, 0.2), 0);
        assert_eq!(allowed(&retries, 1, 100, 1000, 0.2), 20);
    }

    #[test]
    fn what_is_long_ago_does_not_count() {
        let retries = Retries::default();
        assert_eq!(allowed(&retries, 3, 1000, 1000, 0.5), ALWAYS + 500);
        assert_eq!(allowed(&retries, 3 + SECONDS - 1, 0, 1, 0.5), 0);
        assert_eq!(allowed(&retries, 3 + SECONDS, 0, 1000, 0.5), ALWAYS);
    }

    #[test]
    fn all_means_no_bound() {
        let retries = Retries::default();
        assert!((0..10 * ALWAYS).all(|_| retries.allow(false, 1.0)));
    }

    proptest! {
        #[test]
        fn further_attempts_never_exceed_their_part(
            steps in proptest::collection::vec((0_u64..4, 0_u64..300, 0_u64..300), 1..40),
            budget in 0.0..0.9_f64,
        ) {
            let retries = Retries::default();
            let mut second = 0;
            let mut history: Vec<(u64, u64, u64)> = Vec::new();
            for (pause, first, asked) in steps {
                second += pause;
                let allowed = allowed(&retries, second, first, asked, budget);
                history.push((second, first, allowed));
                let recent = history.iter().filter(|(at, ..)| second - at < SECONDS);
                let (first, further) = recent.fold((0, 0), |(a, b), (_, first, further)| (a + first, b + further));
                // Those allowed when there were more first attempts may still be in the window.
                let most = history.iter().map(|(_, first, _)| first).sum::<u64>();
                prop_assert!(further <= ALWAYS + (most as f64 * budget) as u64);
                if allowed < asked {
                    prop_assert!(further >= ALWAYS + (first as f64 * budget) as u64);
                }
            }
        }
    }
}
