//! What is counted of exchanges, by the names of endpoint, model and upstream.
//!
//! Two maps: a line for each combination of labels that requests are counted by, and what is shared by the lines of one
//! endpoint, model and upstream. An exchange that is like one before it costs one look into the first map.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::chat::Usage;
use crate::exchange::Gaps;
use crate::metrics::histogram::{DURATION, FIRST_TOKEN, GAP, Histogram, OVERHEAD, TOKENS, Tally};
use crate::metrics::names::{Id, Names};

/// The labels that requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// The endpoint, model and upstream.
    pub(crate) place: Place,
    /// The status the client was sent.
    pub(crate) status: u16,
    /// How it ended.
    pub(crate) outcome: &'static str,
    /// Whether the client asked for a stream.
    pub(crate) is_stream: bool,
}

/// Where a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// The endpoint's label.
    pub(crate) endpoint: &'static str,
    /// The model, by its number.
    pub(crate) model: Id,
    /// The upstream, by its number.
    pub(crate) upstream: Id,
}

/// What an exchange adds to its line.
pub(crate) struct Facts<'a> {
    /// From the start to the end.
    pub(crate) duration: Duration,
    /// The gateway's own part of the time up to the head of the answer; none before there was one.
    pub(crate) overhead: Option<Duration>,
    /// From the start to the first content of a stream.
    pub(crate) first_token: Option<Duration>,
    /// The times between the pieces of a stream.
    pub(crate) gaps: &'a Gaps,
    /// Its tokens, where anybody counted them.
    pub(crate) usage: Option<Usage>,
    /// What it cost, in billionths of the unit of money; 0 where its model has no price.
    pub(crate) cost: u64,
    /// Whether nobody counted its tokens though there must have been some.
    pub(crate) lacks_usage: bool,
    /// Whether another upstream answered than the first one asked.
    pub(crate) is_moved: bool,
}

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Series {
    maps: RwLock<Maps>,
}

#[derive(Default)]
struct Maps {
    lines: HashMap<Key, Line>,
    shares: HashMap<Place, Arc<Share>>,
    overheads: HashMap<&'static str, Arc<Histogram>>,
}

/// The maps at one moment; what is shared goes on counting.
struct Counted {
    lines: Vec<(Key, u64)>,
    shares: Vec<(Place, Arc<Share>)>,
    overheads: Vec<(&'static str, Arc<Histogram>)>,
}

struct Line {
    requests: AtomicU64,
    share: Arc<Share>,
}

/// What the lines of one place share.
struct Share {
    duration: Histogram,
    first_token: Histogram,
    gaps: Histogram,
    /// That of the endpoint.
    overhead: Arc<Histogram>,
    input: Histogram,
    output: Histogram,
    cached: AtomicU64,
    reasoning: AtomicU64,
    input_estimated: AtomicU64,
    output_estimated: AtomicU64,
    usage_missing: AtomicU64,
    moves: AtomicU64,
    cost: AtomicU64,
}

impl Series {
    /// Counts an exchange that is over.
    pub(crate) fn count(&self, key: Key, facts: &Facts<'_>) {
        if let Some(line) = self.read().lines.get(&key) {
            return line.count(facts);
        }
        self.write().line(key).count(facts);
    }

    /// Forgets the lines whose names are none any more.
    pub(crate) fn retain(&self, names: &Names) {
        let (models, upstreams) = (names.models_by_id(), names.upstreams_by_id());
        let stays =
            |place: &Place| models.contains_key(&place.model) && upstreams.contains_key(&place.upstream);
        let mut maps = self.write();
        maps.lines.retain(|key, _| stays(&key.place));
        maps.shares.retain(|place, _| stays(place));
    }

    /// All of it at this moment, in the order of the names.
    pub(crate) fn seen(&self, names: &Names) -> Seen {
        let (models, upstreams) = (names.models_by_id(), names.upstreams_by_id());
        // What ended under a configuration before may have come too late to be forgotten.
        let named = |place: &Place| {
            let (model, upstream) = (models.get(&place.model)?, upstreams.get(&place.upstream)?);
            Some(Named {
                endpoint: place.endpoint,
                model: (*model).to_owned(),
                upstream: (*upstream).to_owned(),
            })
        };
        let Counted { lines, shares, overheads } = self.counted();
        let lines = lines.into_iter().filter_map(|(key, requests)| {
            Some(SeenLine {
                place: named(&key.place)?,
                status: key.status,
                outcome: key.outcome,
                is_stream: key.is_stream,
                requests,
            })
        });
        let mut lines: Vec<SeenLine> = lines.collect();
        lines.sort_by(|left, right| left.order().cmp(&right.order()));
        let shares = shares.iter().filter_map(|(place, share)| Some((named(place)?, share.seen())));
        let overheads = overheads.iter().map(|(endpoint, times)| (*endpoint, times.tally()));
        Seen { lines, shares: shares.collect(), overheads: overheads.collect() }
    }

    /// What there is. The maps are held no longer than it takes to copy them: an exchange that is the first of its kind
    /// waits for that.
    fn counted(&self) -> Counted {
        let maps = self.read();
        let lines = maps.lines.iter().map(|(key, line)| (*key, line.requests.load(Ordering::Relaxed)));
        Counted {
            lines: lines.collect(),
            shares: maps.shares.iter().map(|(place, share)| (*place, share.clone())).collect(),
            overheads: maps.overheads.iter().map(|(endpoint, times)| (*endpoint, times.clone())).collect(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.maps.read().expect("no code panics while it holds this lock")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.maps.write().expect("no code panics while it holds this lock")
    }
}

impl Maps {
    fn line(&mut self, key: Key) -> &Line {
        let Self { lines, shares, overheads } = self;
        lines.entry(key).or_insert_with(|| {
            let overhead = overheads
                .entry(key.place.endpoint)
                .or_insert_with(|| Arc::new(Histogram::new(&OVERHEAD)))
                .clone();
            let share = shares.entry(key.place).or_insert_with(|| Arc::new(Share::new(overhead))).clone();
            Line { requests: AtomicU64::new(0), share }
        })
    }
}

impl Line {
    fn count(&self, facts: &Facts<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let share = &self.share;
        share.duration.time(facts.duration);
        if let Some(overhead) = facts.overhead {
            share.overhead.time(overhead);
        }
        if let Some(time) = facts.first_token {
            share.first_token.time(time);
            share.gaps.count_gaps(facts.gaps);
        }
        if let Some(usage) = &facts.usage {
            share.count_tokens(usage);
        }
        share.usage_missing.fetch_add(u64::from(facts.lacks_usage), Ordering::Relaxed);
        share.moves.fetch_add(u64::from(facts.is_moved), Ordering::Relaxed);
        if facts.cost > 0 {
            share.cost.fetch_add(facts.cost, Ordering::Relaxed);
        }
    }
}

impl Share {
    fn new(overhead: Arc<Histogram>) -> Self {
        Self {
            duration: Histogram::new(&DURATION),
            first_token: Histogram::new(&FIRST_TOKEN),
            gaps: Histogram::new(&GAP),
            overhead,
            input: Histogram::new(&TOKENS),
            output: Histogram::new(&TOKENS),
            cached: AtomicU64::new(0),
            reasoning: AtomicU64::new(0),
            input_estimated: AtomicU64::new(0),
            output_estimated: AtomicU64::new(0),
            usage_missing: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            cost: AtomicU64::new(0),
        }
    }

    fn count_tokens(&self, usage: &Usage) {
        self.input.count(usage.input);
        self.output.count(usage.output);
        let add = |sum: &AtomicU64, more: u64| {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.cached, usage.cached);
        add(&self.reasoning, usage.reasoning);
        if usage.is_estimated {
            add(&self.input_estimated, usage.input);
            add(&self.output_estimated, usage.output);
        }
    }

    fn seen(&self) -> SeenShare {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SeenShare {
            duration: self.duration.tally(),
            first_token: self.first_token.tally(),
            gaps: self.gaps.tally(),
            input: self.input.tally(),
            output: self.output.tally(),
            cached: now(&self.cached),
            reasoning: now(&self.reasoning),
            input_estimated: now(&self.input_estimated),
            output_estimated: now(&self.output_estimated),
            usage_missing: now(&self.usage_missing),
            moves: now(&self.moves),
            cost: now(&self.cost),
        }
    }
}

/// What was counted, at one moment, by name.
pub(crate) struct Seen {
    /// Requests by all labels, in their order.
    pub(crate) lines: Vec<SeenLine>,
    /// The rest, by place.
    pub(crate) shares: BTreeMap<Named, SeenShare>,
    /// The gateway's own time, by endpoint.
    pub(crate) overheads: BTreeMap<&'static str, Tally>,
}

/// The names of a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// The endpoint's label.
    pub(crate) endpoint: &'static str,
    /// The model.
    pub(crate) model: String,
    /// The upstream.
    pub(crate) upstream: String,
}

/// Requests with the same labels.
pub(crate) struct SeenLine {
    /// Where they went.
    pub(crate) place: Named,
    /// The status the client was sent.
    pub(crate) status: u16,
    /// How they ended.
    pub(crate) outcome: &'static str,
    /// Whether the client asked for a stream.
    pub(crate) is_stream: bool,
    /// How many they are.
    pub(crate) requests: u64,
}

impl SeenLine {
    fn order(&self) -> impl Ord + '_ {
        (&self.place, self.status, self.outcome, self.is_stream)
    }
}

/// What was counted of one place.
#[derive(Clone)]
pub(crate) struct SeenShare {
    pub(crate) duration: Tally,
    pub(crate) first_token: Tally,
    pub(crate) gaps: Tally,
    pub(crate) input: Tally,
    pub(crate) output: Tally,
    pub(crate) cached: u64,
    pub(crate) reasoning: u64,
    pub(crate) input_estimated: u64,
    pub(crate) output_estimated: u64,
    pub(crate) usage_missing: u64,
    pub(crate) moves: u64,
    pub(crate) cost: u64,
}

impl SeenShare {
    fn add(&mut self, other: &Self) {
        self.duration.add(&other.duration);
        self.first_token.add(&other.first_token);
        self.gaps.add(&other.gaps);
        self.input.add(&other.input);
        self.output.add(&other.output);
        self.cached += other.cached;
        self.reasoning += other.reasoning;
        self.input_estimated += other.input_estimated;
        self.output_estimated += other.output_estimated;
        self.usage_missing += other.usage_missing;
        self.moves += other.moves;
        self.cost += other.cost;
    }

    /// Tokens by kind.
    pub(crate) fn tokens(&self) -> [(&'static str, u64); 4] {
        [
            ("input", self.input.whole_sum()),
            ("output", self.output.whole_sum()),
            ("cached", self.cached),
            ("reasoning", self.reasoning),
        ]
    }
}

impl Seen {
    /// What was counted, summed over the places that `part` names alike.
    pub(crate) fn shares_by<K: Ord>(&self, part: impl Fn(&Named) -> K) -> BTreeMap<K, SeenShare> {
        let mut sums: BTreeMap<K, SeenShare> = BTreeMap::new();
        for (place, share) in &self.shares {
            match sums.get_mut(&part(place)) {
                Some(sum) => sum.add(share),
                None => {
                    sums.insert(part(place), share.clone());
                }
            }
        }
        sums
    }

    /// Requests, summed over the lines that `part` names alike; those it names nothing for are left out.
    pub(crate) fn requests_by<K: Ord>(&self, part: impl Fn(&SeenLine) -> Option<K>) -> BTreeMap<K, u64> {
        let mut sums = BTreeMap::new();
        for line in &self.lines {
            if let Some(key) = part(line) {
                *sums.entry(key).or_default() += line.requests;
            }
        }
        sums
    }
}
