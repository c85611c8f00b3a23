//! How many retries and failovers the gateway may make, so that they cannot turn an outage into a flood.
//!
//! They are counted against the first attempts of the last seconds, for each set of upstreams that models go to first, so
//! that the outage of one takes nothing from the others. A few are always allowed, because a share of hardly anything is
//! nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The seconds that are looked back on.
const SECONDS: u64 = 10;
/// The retries and failovers that are always allowed, over these seconds.
const ALWAYS: u64 = 10 * SECONDS;

/// The sets of upstreams that are told apart; of more, some are counted together.
const POTS: usize = 64;

/// The attempts of the last seconds.
pub(crate) struct Retries {
    since: Instant,
    pots: Box<[(Window, Window)]>,
    refused: AtomicU64,
}

/// Where the attempts of one set of upstreams are counted: the first ones, and the further ones.
#[derive(Clone, Copy, Default)]
pub(crate) struct Pot(usize);

impl Pot {
    /// That of these upstreams.
    pub(crate) fn of(upstreams: &[usize]) -> Self {
        // FNV-1a, over whole numbers: nobody outside chooses them.
        let add = |hash: u64, upstream: &usize| (hash ^ *upstream as u64).wrapping_mul(0x0100_0000_01b3);
        let hash = upstreams.iter().fold(0xcbf2_9ce4_8422_2325, add);
        Self(hash as usize % POTS)
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            pots: (0..POTS).map(|_| Default::default()).collect(),
            refused: AtomicU64::new(0),
        }
    }
}

impl Retries {
    /// Counts an attempt, and says whether it may be made: the first of an exchange always, a further one while all those
    /// are not more than `budget` of the first ones. 1 means no bound.
    pub(crate) fn allow(&self, pot: Pot, is_first: bool, budget: f64) -> bool {
        if budget >= 1.0 {
            return true;
        }
        self.allow_at(self.since.elapsed(), pot, is_first, budget)
    }

    /// The further attempts that were not made.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn allow_at(&self, now: Duration, pot: Pot, is_first: bool, budget: f64) -> bool {
        let second = now.as_secs();
        let (first, further) = &self.pots[pot.0];
        if is_first {
            first.add(second);
            return true;
        }
        let allowed = ALWAYS + (first.sum(second) as f64 * budget) as u64;
        let is_allowed = further.sum(second) < allowed;
        if is_allowed {
            further.add(second);
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
        let pot = Pot::default();
        (0..first).for_each(|_| assert!(retries.allow_at(now, pot, true, budget)));
        (0..asked).filter(|_| retries.allow_at(now, pot, false, budget)).count() as u64
    }

    #[test]
    fn what_others_use_up_is_theirs() {
        let retries = Retries::default();
        let (one, other) = (Pot::of(&[0, 1]), Pot::of(&[2, 3]));
        let now = Duration::ZERO;
        assert!((0..2 * ALWAYS).any(|_| !retries.allow_at(now, one, false, 0.0)));
        assert!((0..ALWAYS).all(|_| retries.allow_at(now, other, false, 0.0)));
        assert!(!retries.allow_at(now, other, false, 0.0));
    }

    #[test]
    fn small_sets_of_upstreams_are_mostly_told_apart() {
        let sets = (0..8).flat_map(|one| (one..8).map(move |two| [one, two]));
        let pots: std::collections::HashSet<usize> = sets.map(|set| Pot::of(&set).0).collect();
        assert!(pots.len() >= 18, "{}", pots.len());
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
        assert!((0..10 * ALWAYS).all(|_| retries.allow(Pot::default(), false, 1.0)));
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
