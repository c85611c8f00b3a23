//! Who waits for which places, in a fair order.
//!
//! The callers that wait for the same places take turns, and what one caller asked first is served first. Who waits for
//! several places stands in the line before each of them and leaves all with the first that is given. When the line is
//! full, the caller with the most in it makes room for callers with fewer: nobody can keep others out by asking more.
//!
//! Pure: it knows no place, no clock and no task. Every step takes a time that grows with the logarithm of its length.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Who counts as one caller, by a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Caller(pub(super) u64);

/// What is waited for.
pub(super) type Resource = usize;

/// A number that no other who waits has; later ones have a higher one.
pub(super) type Ticket = u64;

/// Those that wait.
pub(super) struct Line<W> {
    waiting: BTreeMap<Ticket, Waiting<W>>,
    turns: HashMap<Resource, Turns>,
    by_caller: HashMap<Caller, BTreeSet<Ticket>>,
    /// How many of each caller wait, to find the one with the most.
    by_count: BTreeSet<(usize, Caller)>,
    next: Ticket,
}

struct Waiting<W> {
    caller: Caller,
    wants: Vec<Resource>,
    waiter: W,
}

/// The callers that wait for one resource.
#[derive(Default)]
struct Turns {
    order: BTreeMap<u64, Caller>,
    callers: HashMap<Caller, Own>,
    next: u64,
}

/// What one caller has in one resource's line.
struct Own {
    turn: u64,
    tickets: BTreeSet<Ticket>,
}

/// Somebody stands in the line now.
#[derive(Debug)]
pub(super) struct Joined<W> {
    /// To leave it again.
    pub(super) ticket: Ticket,
    /// Who had to go for it.
    pub(super) displaced: Option<W>,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            turns: HashMap::new(),
            by_caller: HashMap::new(),
            by_count: BTreeSet::new(),
            next: 0,
        }
    }
}

impl<W> Line<W> {
    /// Stands at the end of the line before each of `wants`.
    ///
    /// # Errors
    ///
    /// Gives the waiter back when `len_max` wait already and no caller has more of them than this one would have.
    pub(super) fn join(
        &mut self,
        caller: Caller,
        wants: Vec<Resource>,
        waiter: W,
        len_max: usize,
    ) -> Result<Joined<W>, W> {
        let mut displaced = None;
        if self.waiting.len() >= len_max {
            let Some(last) = self.last_of_the_heaviest(caller).filter(|_| len_max > 0) else {
                return Err(waiter);
            };
            displaced = self.leave(last);
        }
        let ticket = self.next;
        self.next += 1;
        for resource in &wants {
            self.turns.entry(*resource).or_default().join(caller, ticket);
        }
        let own = self.by_caller.entry(caller).or_default();
        self.by_count.remove(&(own.len(), caller));
        own.insert(ticket);
        self.by_count.insert((own.len(), caller));
        self.waiting.insert(ticket, Waiting { caller, wants, waiter });
        Ok(Joined { ticket, displaced })
    }

    /// Whether anybody waits for a resource.
    pub(super) fn waits_for(&self, resource: Resource) -> bool {
        self.turns.contains_key(&resource)
    }

    /// Takes out whoever is next for a resource, if anybody waits for it.
    pub(super) fn next(&mut self, resource: Resource) -> Option<W> {
        let ticket = self.turns.get_mut(&resource)?.next_ticket()?;
        self.leave(ticket)
    }

    /// Takes out somebody who does not want to wait any more; none if that one is out already.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let Waiting { caller, wants, waiter } = self.waiting.remove(&ticket)?;
        for resource in wants {
            let Some(turns) = self.turns.get_mut(&resource) else { continue };
            turns.leave(caller, ticket);
            if turns.callers.is_empty() {
                self.turns.remove(&resource);
            }
        }
        if let Some(own) = self.by_caller.get_mut(&caller) {
            self.by_count.remove(&(own.len(), caller));
            own.remove(&ticket);
            if own.is_empty() {
                self.by_caller.remove(&caller);
            } else {
                self.by_count.insert((own.len(), caller));
            }
        }
        Some(waiter)
    }

    /// What the caller with the most asked last, if that one would still have as many as `caller` then.
    fn last_of_the_heaviest(&self, caller: Caller) -> Option<Ticket> {
        let (most, heaviest) = self.by_count.last()?;
        let own = self.by_caller.get(&caller).map_or(0, BTreeSet::len);
        (*most > own + 1).then(|| self.by_caller.get(heaviest)?.last().copied()).flatten()
    }
}

impl Turns {
    fn join(&mut self, caller: Caller, ticket: Ticket) {
        let (order, next) = (&mut self.order, &mut self.next);
        let own = self.callers.entry(caller).or_insert_with(|| {
            let turn = *next;
            *next += 1;
            order.insert(turn, caller);
            Own { turn, tickets: BTreeSet::new() }
        });
        own.tickets.insert(ticket);
    }

    /// The first ticket of the caller whose turn it is; the next turn is another caller's.
    fn next_ticket(&mut self) -> Option<Ticket> {
        let (_, caller) = self.order.pop_first()?;
        let own = self.callers.get_mut(&caller)?;
        own.turn = self.next;
        self.next += 1;
        self.order.insert(own.turn, caller);
        own.tickets.first().copied()
    }

    fn leave(&mut self, caller: Caller, ticket: Ticket) {
        let Some(own) = self.callers.get_mut(&caller) else { return };
        own.tickets.remove(&ticket);
        if own.tickets.is_empty() {
            self.order.remove(&own.turn);
            self.callers.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a line.
    #[derive(Clone, Debug)]
    enum Step {
        /// A caller waits for these resources.
        Join(u64, Vec<Resource>),
        /// A place of this resource is free.
        Next(Resource),
        /// Whoever has this ticket leaves.
        Leave(Ticket),
    }

    /// Lets callers join one line in the order of `joins`, then says who is served in which order.
    #[track_caller]
    fn check(joins: &[u64], len_max: usize, served: &[(u64, usize)]) {
        let mut line = Line::default();
        for (place, caller) in joins.iter().enumerate() {
            let _ = line.join(Caller(*caller), vec![0], (*caller, place), len_max);
        }
        let order: Vec<(u64, usize)> = std::iter::from_fn(|| line.next(0)).collect();
        assert_eq!(order, served, "{joins:?}");
        assert!(line.turns.is_empty() && line.by_caller.is_empty() && line.by_count.is_empty());
    }

    // parity: 131
    #[test]
    fn one_caller_is_served_in_the_order_it_asked() {
        check(&[], 9, &[]);
        check(&[1, 1, 1], 9, &[(1, 0), (1, 1), (1, 2)]);
        check(&[1, 1, 1], 2, &[(1, 0), (1, 1)]);
        check(&[1, 1, 1], 0, &[]);
    }

    // parity: 131
    #[test]
    fn callers_take_turns() {
        check(&[1, 2, 1, 2], 9, &[(1, 0), (2, 1), (1, 2), (2, 3)]);
        check(&[1, 1, 1, 1, 2], 9, &[(1, 0), (2, 4), (1, 1), (1, 2), (1, 3)]);
        check(&[1, 1, 2, 2, 3], 9, &[(1, 0), (2, 2), (3, 4), (1, 1), (2, 3)]);
    }

    // parity: 131
    #[test]
    fn who_has_the_most_in_a_full_line_makes_room() {
        check(&[1, 1, 1, 1, 2], 4, &[(1, 0), (2, 4), (1, 1), (1, 2)]);
        check(&[1, 1, 1, 1, 2, 2, 2], 4, &[(1, 0), (2, 4), (1, 1), (2, 5)]);
        check(&[1, 1, 2, 2, 3], 4, &[(1, 0), (2, 2), (3, 4), (1, 1)]);
        check(&[1, 2, 3, 4, 5], 4, &[(1, 0), (2, 1), (3, 2), (4, 3)]);
    }

    #[test]
    fn who_waits_for_several_is_served_once() {
        let mut line = Line::default();
        line.join(Caller(1), vec![0, 1], "both", 9).unwrap();
        line.join(Caller(1), vec![1], "second", 9).unwrap();
        assert_eq!(line.next(1), Some("both"));
        assert_eq!((line.next(0), line.next(1), line.next(1)), (None, Some("second"), None));
    }

    #[test]
    fn who_leaves_is_served_no_more() {
        let mut line = Line::default();
        let first = line.join(Caller(1), vec![0], "first", 9).unwrap().ticket;
        line.join(Caller(1), vec![0], "second", 9).unwrap();
        assert_eq!((line.leave(first), line.leave(first)), (Some("first"), None));
        assert_eq!((line.next(0), line.next(0)), (Some("second"), None));
    }

    #[test]
    fn a_caller_with_one_waits_for_no_more_than_one_of_each_other() {
        let mut line = Line::default();
        for number in 0..1000 {
            line.join(Caller(number % 10), vec![0], number % 10, 10_000).unwrap();
        }
        line.join(Caller(99), vec![0], 99, 10_000).unwrap();
        let place = std::iter::from_fn(|| line.next(0)).position(|caller| caller == 99);
        assert_eq!(place, Some(10));
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..4_u64, prop::collection::vec(0..3_usize, 1..4)).prop_map(|(who, wants)| Step::Join(who, wants)),
            3 => (0..3_usize).prop_map(Step::Next),
            2 => (0..60_u64).prop_map(Step::Leave),
        ];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        // parity: 131
        #[test]
        fn nobody_is_lost_served_twice_or_let_in_beyond_the_bound(steps in steps(), len_max in 0..8_usize) {
            let mut line = Line::default();
            // Who should be in it, by ticket: the caller and what it wants.
            let mut inside: BTreeMap<Ticket, (u64, Vec<Resource>)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Join(caller, wants) => {
                        let number = line.next;
                        match line.join(Caller(caller), wants.clone(), number, len_max) {
                            Ok(Joined { ticket, displaced }) => {
                                prop_assert_eq!(ticket, number);
                                if let Some(gone) = displaced {
                                    let (heaviest, _) = inside.remove(&gone).expect("it was inside");
                                    prop_assert_ne!(heaviest, caller);
                                }
                                inside.insert(number, (caller, wants));
                            }
                            Err(given_back) => {
                                prop_assert_eq!(given_back, number);
                                prop_assert_eq!(inside.len(), len_max);
                            }
                        }
                    }
                    Step::Next(resource) => {
                        let wanted = inside.iter().any(|(_, (_, wants))| wants.contains(&resource));
                        let served = line.next(resource);
                        prop_assert_eq!(served.is_some(), wanted);
                        if let Some(number) = served {
                            let (caller, wants) = inside.remove(&number).expect("it was inside");
                            prop_assert!(wants.contains(&resource));
                            let is_first = inside
                                .iter()
                                .all(|(other, (who, wants))| *who != caller || !wants.contains(&resource) || *other > number);
                            prop_assert!(is_first, "a caller's own are served in order");
                        }
                    }
                    Step::Leave(ticket) => {
                        prop_assert_eq!(line.leave(ticket).is_some(), inside.remove(&ticket).is_some());
                    }
                }
                prop_assert!(inside.len() <= len_max);
                prop_assert_eq!(line.waiting.len(), inside.len());
                prop_assert_eq!(line.by_count.iter().map(|(count, _)| count).sum::<usize>(), inside.len());
            }
            for resource in 0..3 {
                while let Some(number) = line.next(resource) {
                    prop_assert!(inside.remove(&number).is_some());
                }
            }
            prop_assert!(inside.is_empty() && line.turns.is_empty() && line.by_caller.is_empty());
        }

        // parity: 131
        #[test]
        fn no_caller_is_served_twice_while_another_waits_for_its_turn(joins in prop::collection::vec(0..5_u64, 0..60)) {
            let mut line = Line::default();
            for caller in &joins {
                line.join(Caller(*caller), vec![0], *caller, 100).expect("there is room");
            }
            let served: Vec<u64> = std::iter::from_fn(|| line.next(0)).collect();
            for (place, caller) in served.iter().enumerate() {
                // Between two turns of a caller everybody has one who is still served later.
                let next = served[place + 1..].iter().position(|other| other == caller);
                let between = &served[place + 1..place + 1 + next.unwrap_or(0)];
                let later: BTreeSet<u64> = served[place + 1..].iter().copied().filter(|other| other != caller).collect();
                prop_assert!(next.is_none() || later.iter().all(|other| between.contains(other)));
            }
        }
    }
}
