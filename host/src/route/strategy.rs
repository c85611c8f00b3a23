//! The six ways to order candidates, all of them inside tiers.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::chat::Prompt;
use crate::route::anchor::Anchor;
use crate::route::rendezvous;
use crate::route::{Keying, Routes};

/// Candidates in the order in which they are to be tried; yields their indexes.
///
/// It looks for the smallest that is left at every step: nearly every request needs the first only, and to sort a
/// thousand for it would cost more than all the rest of routing.
#[derive(Clone, Debug)]
pub struct Ranking {
    choices: Vec<Choice>,
}

/// One candidate and why it stands where it stands: by tier, then standing, then score, then configuration order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// The upstream's index.
    pub upstream: usize,
    /// Its tier; a candidate of a later tier is tried when all of the earlier ones have failed.
    pub tier: u32,
    /// What the strategy counts, smallest first: minus the votes in bytes (`voting`), exchanges in flight per weight
    /// (`least_in_flight`), minus the credit (`round_robin`); 0 elsewhere.
    pub standing: f64,
    /// The rendezvous score of the anchor, real or drawn; 0 where none is taken.
    pub score: f64,
}

impl Ranking {
    /// All that is left, in order, with what put it there.
    pub fn into_choices(mut self) -> Vec<Choice> {
        self.choices.sort_unstable_by(Choice::order);
        self.choices
    }
}

impl Iterator for Ranking {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let first = smallest(&self.choices)?;
        Some(self.choices.swap_remove(first).upstream)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.choices.len(), Some(self.choices.len()))
    }
}

impl ExactSizeIterator for Ranking {}

impl Choice {
    fn order(&self, other: &Self) -> Ordering {
        self.tier
            .cmp(&other.tier)
            .then_with(|| self.standing.total_cmp(&other.standing))
            .then_with(|| self.score.total_cmp(&other.score))
            .then_with(|| self.upstream.cmp(&other.upstream))
    }
}

/// The position of the choice that goes first.
fn smallest(choices: &[Choice]) -> Option<usize> {
    let positions = choices.iter().enumerate();
    positions.min_by(|(_, one), (_, other)| one.order(other)).map(|(position, _)| position)
}

/// Where the rotation of one model stands. A table is a tier that somebody sits in.
pub(super) struct Turn {
    /// The candidates, in their order.
    seats: Vec<Seat>,
    /// What each table is paid in a turn: the sum of its weights.
    paid: Vec<i64>,
    /// Scratch of one turn: each table's richest seat and its credit.
    richest: Vec<Option<(usize, i64)>>,
}

/// One candidate's place in a rotation.
struct Seat {
    table: usize,
    weight: i64,
    credit: i64,
}

impl Routes {
    /// `failover`: configuration order.
    pub(super) fn in_order(&self, candidates: &[usize]) -> Ranking {
        let choice = |&upstream: &usize| {
            let (tier, _) = self.standing(upstream);
            Choice { upstream, tier, standing: 0.0, score: 0.0 }
        };
        Ranking { choices: candidates.iter().map(choice).collect() }
    }

    /// `deterministic`, and `random` when the anchor is a drawn one: the order is then a weighted draw without
    /// replacement, and there is one kind of order to understand and to test.
    pub(super) fn by_score(&self, candidates: &[usize], anchor: Anchor) -> Ranking {
        let choice = |&upstream: &usize| {
            let (tier, _) = self.standing(upstream);
            Choice { upstream, tier, standing: 0.0, score: self.score(upstream, anchor) }
        };
        Ranking { choices: candidates.iter().map(choice).collect() }
    }

    fn score(&self, upstream: usize, anchor: Anchor) -> f64 {
        let (_, weight) = self.standing(upstream);
        rendezvous::score(anchor, &self.members[upstream].name, weight)
    }

    /// `voting`: each user message elects an upstream by its first 64 characters and gives it its length in bytes.
    ///
    /// The scores of the whole prefix stay and order the candidates nobody elected; the earlier systems took
    /// the alphabet there, which sent every failover to one upstream.
    pub(super) fn vote(&self, ranking: &mut Ranking, keying: Keying<'_>, prompt: &Prompt<'_>) {
        let first_tier = ranking.choices.iter().map(|choice| choice.tier).min();
        for text in prompt.users.iter().take(VOTES_MAX) {
            let Some(anchor) = Anchor::of_message(keying, text) else { continue };
            let electable = ranking.choices.iter_mut().filter(|choice| Some(choice.tier) == first_tier);
            let scored = electable.map(|choice| (self.score(choice.upstream, anchor), choice));
            if let Some((_, elected)) = scored.min_by(|(one, _), (other, _)| one.total_cmp(other)) {
                elected.standing -= text.len() as f64;
            }
        }
    }

    /// `least_in_flight`: fewest running exchanges per weight; equal ones share by weight.
    pub(super) fn count_in_flight(&self, ranking: &mut Ranking, in_flight: impl Fn(usize) -> usize) {
        for choice in &mut ranking.choices {
            let (_, weight) = self.standing(choice.upstream);
            choice.standing = in_flight(choice.upstream) as f64 / f64::from(weight);
        }
    }

    /// `round_robin`: takes the next turn of a rotation. Every tier rotates, so that a later one shares evenly
    /// when it is needed.
    ///
    /// Each turn pays every candidate its weight, the richest goes first and pays back what all were paid: over a sum
    /// of weights each has had exactly its share, as evenly apart as can be (nginx's smooth weighted round robin).
    pub(super) fn take_turn(&self, candidates: &[usize], turn: &mut Turn) -> Ranking {
        let mut ranking = self.in_order(candidates);
        turn.richest.fill(None);
        for (position, choice) in ranking.choices.iter_mut().enumerate() {
            let seat = &mut turn.seats[position];
            seat.credit += seat.weight;
            choice.standing = -(seat.credit as f64);
            let (credit, richest) = (seat.credit, &mut turn.richest[seat.table]);
            if richest.is_none_or(|(_, highest)| credit > highest) {
                *richest = Some((position, credit));
            }
        }
        for (table, richest) in turn.richest.iter().enumerate() {
            if let Some((position, _)) = richest {
                turn.seats[*position].credit -= turn.paid[table];
            }
        }
        ranking
    }

    /// Makes the rotation of a model that was not seen before, at a place given by `draw`: many models that are
    /// asked for once each shall not all go to the same upstream.
    pub(super) fn first_turn(&self, candidates: &[usize], draw: u64) -> Turn {
        let mut turn = Turn::new(candidates.iter().map(|&upstream| self.standing(upstream)));
        let first =
            candidates.iter().zip(&turn.seats).min_by_key(|&(&upstream, _)| self.standing(upstream).0);
        let period = first.map_or(1, |(_, seat)| turn.paid[seat.table].unsigned_abs());
        for _ in 0..draw % period.clamp(1, TURNS_SKIPPED_MAX) {
            self.take_turn(candidates, &mut turn);
        }
        turn
    }
}

impl Turn {
    /// Seats candidates of these tiers and weights, nobody having any credit.
    fn new(standings: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut turn = Self { seats: Vec::new(), paid: Vec::new(), richest: Vec::new() };
        let mut tables = HashMap::new();
        for (tier, weight) in standings {
            let table = *tables.entry(tier).or_insert(turn.paid.len());
            if table == turn.paid.len() {
                turn.paid.push(0);
                turn.richest.push(None);
            }
            turn.paid[table] += i64::from(weight);
            turn.seats.push(Seat { table, weight: i64::from(weight), credit: 0 });
        }
        turn
    }
}

/// The messages of one request that vote; without a bound one long body could keep a core busy.
const VOTES_MAX: usize = 1024;

/// The turns a new rotation may begin with; a bound on the work, which rotations of more turns pay with evenness.
const TURNS_SKIPPED_MAX: u64 = 64;
