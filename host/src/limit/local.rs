//! The counts of this process.
//!
//! One lock is held for the few look-ups of a claim; whatever goes through many counts does it a shard at a time and lets
//! others in between. A count that is empty is forgotten when its shard has to grow, so that callers who come once and
//! never again do not add up.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::limit::meter::{Claim, Keeper, Meter, Refused, Span, Standing, Taken};

/// The most meters that are counted. Beyond them those are forgotten that would be empty soonest.
pub(crate) const METERS_MAX: usize = 1 << 19;
/// Into how many parts the meters are divided.
const SHARDS: usize = 64;
/// A shard of fewer meters is not looked through for empty ones.
const PRUNE_MIN: usize = 64;
/// A shard that is full gives up one in so many of its meters.
const GIVEN_UP: usize = 16;

/// What has been counted in this process.
pub(crate) struct Local {
    shards: Mutex<Vec<Shard>>,
    hasher: RandomState,
    /// Whether anything was counted since the last look.
    has_changed: AtomicBool,
}

/// A part of the counts.
struct Shard {
    counts: HashMap<Arc<str>, Count>,
    /// At how many counts it is looked through for empty ones.
    prune_at: usize,
}

/// What has been counted for one meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// What is counted together.
    pub(crate) span: Span,
    /// The bound of the last claim; 0 where there has been none since the start.
    pub(crate) bound: u64,
    /// All slots together.
    pub(crate) used: u64,
    /// The slots with something in them and how much that is, in their order. There are never more than the
    /// [`Span::SLOTS`] whole ones and the current one, and as many again where the clock went back.
    slots: VecDeque<(u64, u64)>,
}

impl Local {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Shard { counts: HashMap::new(), prune_at: PRUNE_MIN }).collect();
        Self { shards: Mutex::new(shards), hasher: RandomState::new(), has_changed: AtomicBool::new(false) }
    }

    /// Counts all of the claims or none of them, at this moment in milliseconds since 1970. No two of them may be of the
    /// same meter.
    ///
    /// # Errors
    ///
    /// The claim for which there is no room for the longest time.
    pub(crate) fn claim(&self, claims: &[Claim], now_ms: u64) -> Result<Taken, Refused> {
        let mut shards = self.shards();
        if let Some(refused) = self.refused(&mut shards, claims, now_ms, |_| true) {
            return Err(refused);
        }
        let add = |claim: &Claim| shards[self.shard(&claim.meter.id)].add(claim, now_ms);
        let standings = claims.iter().map(add).collect();
        self.has_changed.store(true, Ordering::Relaxed);
        Ok(Taken { at_ms: now_ms, keeper: Keeper::Local, standings })
    }

    /// The claim on a budget of a day or a month for which there is no room for the longest time, if there is any.
    pub(crate) fn used_up(&self, claims: &[Claim], now_ms: u64) -> Option<Refused> {
        let is_budget = |span: Span| matches!(span, Span::Day | Span::Month);
        if !claims.iter().any(|claim| is_budget(claim.meter.span)) {
            return None;
        }
        self.refused(&mut self.shards(), claims, now_ms, is_budget)
    }

    /// The claim for which there is no room for the longest time, of those on meters of certain spans.
    fn refused(
        &self,
        shards: &mut [Shard],
        claims: &[Claim],
        now_ms: u64,
        counts: impl Fn(Span) -> bool,
    ) -> Option<Refused> {
        let mut worst: Option<Refused> = None;
        for (index, claim) in claims.iter().enumerate().filter(|(_, claim)| counts(claim.meter.span)) {
            let shard = &mut shards[self.shard(&claim.meter.id)];
            let Some((standing, wait)) = shard.wait(claim, now_ms) else { continue };
            if worst.is_none_or(|worst| worst.wait < wait) {
                worst = Some(Refused { index, standing, wait });
            }
        }
        worst
    }

    /// Counts claims that were granted elsewhere.
    pub(crate) fn count(&self, claims: &[Claim], now_ms: u64) {
        let mut shards = self.shards();
        for claim in claims {
            shards[self.shard(&claim.meter.id)].add(claim, now_ms);
        }
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Replaces what a claim has counted by another amount, in the slot of `at_ms`.
    pub(crate) fn correct(&self, claim: &Claim, at_ms: u64, amount: u64) {
        if amount == claim.amount {
            return;
        }
        let mut shards = self.shards();
        shards[self.shard(&claim.meter.id)].correct(claim, at_ms, amount);
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// How meters stand.
    pub(crate) fn standings(&self, claims: &[Claim], now_ms: u64) -> Vec<Standing> {
        let mut shards = self.shards();
        let mut standing = |claim: &Claim| {
            let count = shards[self.shard(&claim.meter.id)].counts.get_mut(&*claim.meter.id);
            count.map_or_else(|| empty(&claim.meter), |count| count.at(now_ms).standing(&claim.meter, now_ms))
        };
        claims.iter().map(&mut standing).collect()
    }

    /// How many meters there are, some of which may be empty by now.
    pub(crate) fn len(&self) -> usize {
        self.shards().iter().map(|shard| shard.counts.len()).sum()
    }

    /// Everything that is counted at this moment, but for what changes while it is looked at.
    pub(crate) fn counted(&self, now_ms: u64) -> Vec<(Arc<str>, Count)> {
        let mut all = Vec::new();
        for place in 0..SHARDS {
            let shard = &mut self.shards()[place];
            shard.prune(now_ms);
            all.extend(shard.counts.iter().map(|(id, count)| (id.clone(), count.clone())));
        }
        all
    }

    /// Takes over what was counted before, where nothing has been counted yet.
    pub(crate) fn restore(&self, counts: Vec<(Arc<str>, Count)>, now_ms: u64) {
        let mut shards = self.shards();
        for (id, mut count) in counts {
            let shard = &mut shards[self.shard(&id)];
            if !count.at(now_ms).slots.is_empty() {
                shard.make_room(now_ms);
                shard.counts.entry(id).or_insert(count);
            }
        }
    }

    /// Whether anything was counted since the last [`Self::take_changed`].
    pub(crate) fn is_changed(&self) -> bool {
        self.has_changed.load(Ordering::Relaxed)
    }

    /// Whether anything was counted since this was asked last.
    pub(crate) fn take_changed(&self) -> bool {
        self.has_changed.swap(false, Ordering::Relaxed)
    }

    /// What was counted is to be looked at again.
    pub(crate) fn mark_changed(&self) {
        self.has_changed.store(true, Ordering::Relaxed);
    }

    fn shard(&self, id: &str) -> usize {
        (self.hasher.hash_one(id) % SHARDS as u64) as usize
    }

    fn shards(&self) -> MutexGuard<'_, Vec<Shard>> {
        self.shards.lock().expect("no code panics while it holds this lock")
    }
}

impl Shard {
    /// How a claim's meter stands, and how long until there is room; none if there is.
    fn wait(&mut self, claim: &Claim, now_ms: u64) -> Option<(Standing, Duration)> {
        let meter = &claim.meter;
        match self.counts.get_mut(&*meter.id) {
            Some(count) => {
                let count = count.at(now_ms);
                let wait = count.wait(claim, now_ms)?;
                Some((count.standing(meter, now_ms), wait))
            }
            None if claim.amount > meter.bound => Some((empty(meter), whole(meter.span, now_ms))),
            None => None,
        }
    }

    fn add(&mut self, claim: &Claim, now_ms: u64) -> Standing {
        let meter = &claim.meter;
        if claim.amount == 0 && !self.counts.contains_key(&*meter.id) {
            return empty(meter);
        }
        let count = self.count(meter, now_ms).at(now_ms);
        count.bound = meter.bound;
        count.change(meter.span.slot(now_ms), |amount| amount.saturating_add(claim.amount));
        count.standing(meter, now_ms)
    }

    fn correct(&mut self, claim: &Claim, at_ms: u64, amount: u64) {
        let slot = claim.meter.span.slot(at_ms);
        let change = |counted: u64| counted.saturating_add(amount).saturating_sub(claim.amount);
        match self.counts.get_mut(&*claim.meter.id) {
            Some(count) => count.change(slot, change),
            None if amount > claim.amount => self.count(&claim.meter, at_ms).change(slot, change),
            None => {}
        }
    }

    /// The count of a meter, which is made if there is none.
    fn count(&mut self, meter: &Meter, now_ms: u64) -> &mut Count {
        if !self.counts.contains_key(&*meter.id) {
            self.make_room(now_ms);
        }
        match self.counts.entry(meter.id.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Count::new(meter.span, meter.bound)),
        }
    }

    /// Sees to it that there is room for one more.
    fn make_room(&mut self, now_ms: u64) {
        if self.counts.len() < self.prune_at {
            return;
        }
        self.prune(now_ms);
        if self.counts.len() >= METERS_MAX / SHARDS {
            self.give_up();
        }
        self.prune_at = (self.counts.len() * 2).clamp(PRUNE_MIN, METERS_MAX / SHARDS);
    }

    /// Forgets what is empty.
    fn prune(&mut self, now_ms: u64) {
        self.counts.retain(|_, count| !count.at(now_ms).slots.is_empty());
    }

    /// Forgets those that would be empty soonest.
    fn give_up(&mut self) {
        let mut ends: Vec<u64> = self.counts.values().map(Count::end_ms).collect();
        let few = ends.len() / GIVEN_UP;
        let (_, last, _) = ends.select_nth_unstable(few);
        let last = *last;
        let mut left = few + 1;
        self.counts.retain(|_, count| {
            let goes = left > 0 && count.end_ms() <= last;
            left -= usize::from(goes);
            !goes
        });
    }
}

impl Count {
    /// Nothing counted.
    fn new(span: Span, bound: u64) -> Self {
        Self { span, bound, used: 0, slots: VecDeque::new() }
    }

    /// What was counted in these slots.
    pub(crate) fn with_slots(span: Span, slots: &[(u64, u64)]) -> Self {
        let mut count = Self::new(span, 0);
        for (slot, amount) in slots.iter().take(2 * Span::SLOTS as usize) {
            count.change(*slot, |counted| counted.saturating_add(*amount));
        }
        count
    }

    /// The slots with something in them, in their order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.slots.iter().copied()
    }

    /// How long until all of it is gone if nothing more is counted.
    pub(crate) fn resets_in(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.end_ms().saturating_sub(now_ms))
    }

    /// The same without what does not count any more, and without slots so far ahead that only a clock which was wrong
    /// can have been there.
    fn at(&mut self, now_ms: u64) -> &mut Self {
        while self.slots.front().is_some_and(|(slot, _)| self.span.end_ms(*slot) <= now_ms) {
            self.slots.pop_front();
        }
        let ahead_max = self.span.slot(now_ms).saturating_add(Span::SLOTS);
        while self.slots.back().is_some_and(|(slot, _)| *slot > ahead_max) {
            self.slots.pop_back();
        }
        self.used = self.slots.iter().fold(0, |sum: u64, (_, amount)| sum.saturating_add(*amount));
        self
    }

    /// How long until there is room for a claim; none if there is.
    fn wait(&self, claim: &Claim, now_ms: u64) -> Option<Duration> {
        // Who only asks needs room for one more.
        let wanted = claim.amount.max(1);
        let mut used = self.used;
        if used.saturating_add(wanted) <= claim.meter.bound {
            return None;
        }
        for (slot, amount) in &self.slots {
            used -= (*amount).min(used);
            if used.saturating_add(wanted) <= claim.meter.bound {
                return Some(Duration::from_millis(self.span.end_ms(*slot).saturating_sub(now_ms)));
            }
        }
        Some(whole(self.span, now_ms))
    }

    fn standing(&self, meter: &Meter, now_ms: u64) -> Standing {
        Standing {
            bound: meter.bound,
            left: meter.bound.saturating_sub(self.used),
            resets_in: self.resets_in(now_ms),
        }
    }

    fn end_ms(&self) -> u64 {
        self.slots.back().map_or(0, |(slot, _)| self.span.end_ms(*slot))
    }

    /// Changes the amount of a slot; what is empty then has none.
    fn change(&mut self, slot: u64, change: impl FnOnce(u64) -> u64) {
        let place = self.slots.partition_point(|(known, _)| *known < slot);
        let is_known = self.slots.get(place).is_some_and(|(known, _)| *known == slot);
        let before = if is_known { self.slots[place].1 } else { 0 };
        let after = change(before);
        match (is_known, after) {
            (true, 0) => drop(self.slots.remove(place)),
            (true, after) => self.slots[place].1 = after,
            (false, 0) => {}
            (false, after) => self.slots.insert(place, (slot, after)),
        }
        self.used = self.used.saturating_sub(before).saturating_add(after);
    }
}

/// How a meter stands of which nothing is used.
fn empty(meter: &Meter) -> Standing {
    Standing { bound: meter.bound, left: meter.bound, resets_in: Duration::ZERO }
}

/// How long what is counted now would count.
fn whole(span: Span, now_ms: u64) -> Duration {
    Duration::from_millis(span.end_ms(span.slot(now_ms)).saturating_sub(now_ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Span = Span::Window(Duration::from_secs(60));

    fn claim(id: &str, span: Span, bound: u64, amount: u64) -> Claim {
        Claim { meter: Meter { id: id.into(), bound, span }, amount }
    }

    fn one(amount: u64) -> [Claim; 1] {
        [claim("a", MINUTE, 10, amount)]
    }

    /// What is left after the claims, one after the other: the amount, when in ms, and whether it is counted.
    #[track_caller]
    fn check(span: Span, bound: u64, claims: &[(u64, u64, bool)], left: u64) {
        let local = Local::new();
        let mut last = 0;
        for (amount, at_ms, is_taken) in claims {
            let taken = local.claim(&[claim("a", span, bound, *amount)], *at_ms);
            assert_eq!(taken.is_ok(), *is_taken, "{amount} at {at_ms}: {taken:?}");
            last = *at_ms;
        }
        assert_eq!(local.standings(&[claim("a", span, bound, 0)], last)[0].left, left);
    }

    #[test]
    fn as_many_as_the_bound_are_taken() {
        check(MINUTE, 3, &[(1, 0, true), (1, 0, true), (1, 0, true), (1, 0, false)], 0);
        check(MINUTE, 10, &[(10, 0, true), (1, 60_999, false), (1, 61_000, true)], 9);
        check(MINUTE, 10, &[(5, 0, true), (5, 30_000, true), (6, 61_000, false), (5, 61_000, true)], 0);
        check(MINUTE, 10, &[(11, 0, false)], 10);
        check(MINUTE, 10, &[(0, 0, true), (10, 0, true), (0, 0, false)], 0);
        check(Span::Day, 10, &[(10, 86_399_999, true), (1, 86_399_999, false), (1, 86_400_000, true)], 9);
        check(Span::Month, 10, &[(10, 0, true), (1, 2_678_399_999, false), (10, 2_678_400_000, true)], 0);
        check(Span::Window(Duration::from_millis(1)), 1, &[(1, 0, true), (1, 60, false), (1, 61, true)], 0);
    }

    #[test]
    fn a_clock_that_goes_back_neither_frees_nor_blocks() {
        check(MINUTE, 10, &[(10, 100_000, true), (1, 99_000, false), (1, 50_000, false)], 0);
        // An hour back: what was counted there is of a clock that was wrong.
        check(MINUTE, 10, &[(10, 3_600_000, true), (10, 0, true)], 0);
    }

    #[test]
    fn a_refusal_says_which_and_for_how_long() {
        let local = Local::new();
        let both = |first, second| [claim("a", MINUTE, 10, first), claim("b", Span::Day, 5, second)];
        local.claim(&both(4, 1), 0).unwrap();
        local.claim(&both(4, 1), 2_000).unwrap();
        let refused = local.claim(&both(6, 0), 3_000).unwrap_err();
        assert_eq!((refused.index, refused.wait), (0, Duration::from_secs(58)));
        assert_eq!((refused.standing.left, refused.standing.resets_in), (2, Duration::from_secs(60)));
        let refused = local.claim(&both(6, 4), 3_000).unwrap_err();
        assert_eq!((refused.index, refused.standing.bound), (1, 5));
        assert_eq!(refused.wait, Duration::from_secs(86_397));
        let taken = local.claim(&both(2, 3), 3_000).unwrap();
        assert_eq!(taken.at_ms, 3_000);
        assert_eq!(taken.standings.iter().map(|standing| standing.left).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn a_correction_changes_what_its_claim_counted() {
        let local = Local::new();
        let left = || local.standings(&one(0), 5_000)[0].left;
        let taken = local.claim(&one(8), 5_000).unwrap();
        local.correct(&one(8)[0], taken.at_ms, 3);
        assert_eq!(left(), 7);
        local.correct(&one(3)[0], taken.at_ms, 12);
        assert_eq!(left(), 0);
        assert!(local.claim(&one(1), 5_000).is_err(), "more was used than there is");
        local.correct(&one(12)[0], taken.at_ms, 0);
        assert_eq!(left(), 10);
        local.correct(&one(12)[0], taken.at_ms, 0);
        assert_eq!(left(), 10, "it does not go below zero");
        // Of a slot that has ended long ago.
        local.correct(&one(0)[0], 1_000, 9);
        assert!(local.claim(&one(10), 90_000).is_ok());
    }

    #[test]
    fn a_hundred_thousand_addresses_do_not_stay() {
        // parity: 129
        let local = Local::new();
        for number in 0..100_000 {
            // A thousand new ones each second: after a minute the first ones have left.
            let claims =
                [claim(&format!("ip:{number}/requests/10s"), Span::Window(Duration::from_secs(10)), 5, 1)];
            local.claim(&claims, number).unwrap();
        }
        // Within the window there were at most 10,167 of them; shards grow to twice what they hold.
        assert!(local.len() < 25_000, "{}", local.len());
        assert_eq!(local.counted(1_000_000).len(), 0);
        assert_eq!(local.len(), 0);
    }

    #[test]
    fn meters_are_bounded_and_budgets_stay_longest() {
        let local = Local::new();
        local.claim(&[claim("budget", Span::Month, 5, 1)], 0).unwrap();
        for number in 0..METERS_MAX + METERS_MAX / 4 {
            local.claim(&[claim(&number.to_string(), MINUTE, 5, 1)], 0).unwrap();
        }
        assert!(local.len() <= METERS_MAX, "{}", local.len());
        assert!(local.len() > METERS_MAX / 2, "{}", local.len());
        assert_eq!(local.standings(&[claim("budget", Span::Month, 5, 0)], 0)[0].left, 4);
    }

    #[test]
    fn what_was_counted_is_taken_over() {
        let before = Local::new();
        assert!(!before.take_changed());
        before.claim(&one(4), 1_000).unwrap();
        before.claim(&one(3), 2_000).unwrap();
        assert!(before.take_changed() && !before.take_changed());
        let counts: Vec<_> = before
            .counted(2_000)
            .into_iter()
            .map(|(id, count)| {
                let slots: Vec<(u64, u64)> = count.slots().collect();
                (id, Count::with_slots(count.span, &slots))
            })
            .collect();
        let after = Local::new();
        after.restore(counts.clone(), 3_000);
        assert_eq!(after.standings(&one(0), 3_000)[0].left, 3);
        let late = Local::new();
        late.restore(counts, 62_500);
        assert_eq!(late.standings(&one(0), 62_500)[0].left, 7);
    }

    proptest! {
        /// Whatever is claimed when, no window of the length holds more than the bound.
        #[test]
        fn no_window_holds_more_than_the_bound(
            length in 1_u64..5_000,
            bound in 1_u64..20,
            steps in prop::collection::vec((0_u64..400, 0_u64..8), 1..120),
        ) {
            let span = Span::Window(Duration::from_millis(length));
            let (local, mut now, mut taken) = (Local::new(), 0, Vec::new());
            for (pause, amount) in steps {
                now += pause;
                let got = local.claim(&[claim("a", span, bound, amount)], now);
                if got.is_ok() {
                    taken.push((now, amount));
                }
                let in_window = taken.iter().filter(|(at, _)| now - at < length);
                let sum: u64 = in_window.map(|(_, amount)| amount).sum();
                prop_assert!(sum <= bound, "{sum} of {bound} at {now}: {taken:?}");
                if let Err(refused) = got {
                    // There is room when it says so, and no sooner.
                    let later = Local::new();
                    later.restore(local.counted(now), now);
                    let wait = u64::try_from(refused.wait.as_millis()).unwrap();
                    let again = [claim("a", span, bound, amount)];
                    prop_assert!(wait > 0 && later.claim(&again, now + wait - 1).is_err());
                    prop_assert_eq!(later.claim(&again, now + wait).is_ok(), amount <= bound);
                }
            }
        }

        /// A refused claim changes nothing, and no correction makes room that was not taken.
        #[test]
        fn a_refused_claim_changes_nothing(
            steps in prop::collection::vec((0_u64..30_000, prop::collection::vec(0_u64..9, 3), 0_u64..12), 1..60),
        ) {
            let (local, mut now) = (Local::new(), 0);
            let spans = [MINUTE, Span::Window(Duration::from_secs(5)), Span::Day];
            for (pause, amounts, actual) in steps {
                now += pause;
                let claims: Vec<Claim> = amounts
                    .iter()
                    .zip(spans)
                    .map(|(amount, span)| claim(&span.label(), span, 12, *amount))
                    .collect();
                let before = local.standings(&claims, now);
                match local.claim(&claims, now) {
                    Err(refused) => {
                        prop_assert_eq!(&local.standings(&claims, now), &before);
                        prop_assert_eq!(before[refused.index], refused.standing);
                        prop_assert!(refused.standing.left < claims[refused.index].amount.max(1));
                    }
                    Ok(taken) => {
                        for ((claim, before), after) in claims.iter().zip(&before).zip(&taken.standings) {
                            prop_assert_eq!(before.left - claim.amount, after.left);
                            local.correct(claim, taken.at_ms, actual);
                        }
                        let after = local.standings(&claims, now);
                        for (before, after) in before.iter().zip(&after) {
                            prop_assert_eq!(after.left, before.left.saturating_sub(actual));
                        }
                    }
                }
            }
        }
    }
}
