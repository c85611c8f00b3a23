//! `witgate simulate`: what each strategy would have made of a recorded trace.
//!
//! A trace has one JSON object a line, `timestamp` (ms), `output_length` (tokens) and `hash_ids`, the chained hashes of
//! the prompt's prefix blocks: equal ids mean equal prefixes. Every node holds the blocks it saw last; the work of
//! a request is the blocks its node does not hold. The requests are routed by the gateway's own `Routes`:
//! the first three blocks are the prefix, each block is a user message of 16 bytes for `voting`, and a request counts
//! as in flight until its tokens are written at 50 a second.
//! Source: the trace format of "Mooncake" (FAST '25), section 4.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::chat::Prompt;
use crate::config::{ModelMatch, PriorityMode, Routing, Strategy};
use crate::route::{Keying, Member, Reads, Routes};

/// Prints the hit ratio and the imbalance of every strategy for `trace` on `nodes` nodes of `blocks` blocks each, as a
/// table or as JSON.
///
/// # Errors
///
/// The trace cannot be read, one of its lines is malformed (the message has its number), or a count is zero.
pub fn run(trace: &Path, nodes: usize, blocks: usize, json: bool) -> Result<(), String> {
    if !(1..=NODES_MAX).contains(&nodes) {
        return Err(format!("`--nodes {nodes}` must be from 1 to {NODES_MAX}"));
    }
    if blocks == 0 {
        return Err("`--blocks 0` leaves no cache to simulate; give the blocks one node holds".to_owned());
    }
    let name = trace.display();
    let text = fs::read_to_string(trace).map_err(|error| format!("cannot read trace `{name}`: {error}"))?;
    let requests = parse(&text).map_err(|problem| format!("{name}:{problem}"))?;
    let report = Report::new(&requests, nodes, blocks);
    if json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report).expect("names and finite numbers are valid JSON")
        );
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

/// The most nodes; nobody has more, and every one is a cache of its own.
const NODES_MAX: usize = 1000;

/// The time one output token takes, in milliseconds: 50 tokens a second.
const TOKEN_MS: u64 = 20;

/// The blocks that stand for system text and first user message.
const PREFIX_BLOCKS: usize = 3;

/// One line of a trace.
#[derive(Deserialize)]
struct Request {
    timestamp: u64,
    output_length: u64,
    hash_ids: Vec<u64>,
}

/// What the strategies made of one trace.
#[derive(Serialize)]
struct Report {
    nodes: usize,
    blocks: usize,
    requests: usize,
    strategies: Vec<Row>,
}

/// What one strategy made of it.
#[derive(Serialize)]
struct Row {
    strategy: &'static str,
    /// Blocks found in the chosen node's cache, over all blocks.
    hit_ratio: f64,
    /// The work of the node that had most, over the mean.
    imbalance: f64,
}

fn parse(text: &str) -> Result<Vec<Request>, String> {
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let requests: Vec<Request> = numbered
        .map(|(number, line)| serde_json::from_str(line).map_err(|error| malformed(number, &error)))
        .collect::<Result<_, _>>()?;
    let blocks: usize = requests.iter().map(|request: &Request| request.hash_ids.len()).sum();
    if blocks == 0 { Err(" trace has no requests with `hash_ids`".to_owned()) } else { Ok(requests) }
}

/// `serde_json` counts lines from the start of what it is given, which is always one line of ours.
fn malformed(line: usize, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.split(" at line ").next().unwrap_or(&text);
    format!("{line}:{}: {reason}", error.column())
}

impl Report {
    fn new(requests: &[Request], nodes: usize, blocks: usize) -> Self {
        let replayed = STRATEGIES.map(|(name, strategy)| replay(requests, name, strategy, nodes, blocks));
        let mut strategies = vec![infinite(requests)];
        strategies.extend(replayed);
        Self { nodes, blocks, requests: requests.len(), strategies }
    }

    fn table(&self) -> String {
        let mut table = String::from("strategy          hit_ratio  imbalance\n");
        for Row { strategy, hit_ratio, imbalance } in &self.strategies {
            writeln!(table, "{strategy:<16}  {hit_ratio:>9.3}  {imbalance:>9.2}")
                .expect("a String takes all");
        }
        table
    }
}

/// The strategies by their names in the configuration, worst first as a rule.
const STRATEGIES: [(&str, Strategy); 6] = [
    ("failover", Strategy::Failover),
    ("random", Strategy::Random),
    ("round_robin", Strategy::RoundRobin),
    ("least_in_flight", Strategy::LeastInFlight),
    ("voting", Strategy::Voting),
    ("deterministic", Strategy::Deterministic),
];

/// The bound on every strategy: one node that never forgets.
fn infinite(requests: &[Request]) -> Row {
    let mut cache = Cache::new(usize::MAX);
    let mut tally = Tally::default();
    for request in requests {
        tally.add(&mut cache, request);
    }
    Row { strategy: "infinite", hit_ratio: tally.hit_ratio(), imbalance: 1.0 }
}

fn replay(requests: &[Request], name: &'static str, strategy: Strategy, nodes: usize, blocks: usize) -> Row {
    let routes = fleet(nodes, strategy);
    let candidates = routes.candidates(MODEL);
    let reads = routes.reads(&candidates);
    let mut caches: Vec<Cache> = (0..nodes).map(|_| Cache::new(blocks)).collect();
    let mut tallies = vec![Tally::default(); nodes];
    let mut running = Running::new(nodes);
    let mut draws = Draws(0);
    for request in requests {
        running.advance(request.timestamp);
        let prompt = prompt(request, reads);
        let keying = Keying { tenant: "", model: MODEL };
        let in_flight = |node: usize| running.counts[node];
        let mut ranking = routes.rank(&candidates, keying, &prompt, in_flight, || draws.next());
        let node = ranking.next().expect("there is at least one node");
        running.begin(node, request);
        tallies[node].add(&mut caches[node], request);
    }
    Row { strategy: name, hit_ratio: total(&tallies).hit_ratio(), imbalance: imbalance(&tallies) }
}

/// The model that every node takes.
const MODEL: &str = "trace";

/// Equal nodes under one strategy.
fn fleet(nodes: usize, strategy: Strategy) -> Routes {
    let member = |node: usize| Member {
        name: format!("node-{node}").into(),
        models: ModelMatch::Any,
        aliases: Vec::new(),
        priority: 1,
        is_enabled: true,
    };
    let routing = Routing { strategy, priority_mode: PriorityMode::Weight };
    Routes::with_members((0..nodes).map(member).collect(), routing)
}

/// The prompt that `request` stands for; all texts have the same length because all blocks have.
fn prompt(request: &Request, reads: Reads) -> Prompt<'static> {
    let mut prompt = Prompt::default();
    if reads >= Reads::Prefix {
        let prefix = request.hash_ids.iter().take(PREFIX_BLOCKS);
        prompt.prefix = prefix.map(|block| Cow::Owned(block.to_le_bytes().to_vec())).collect();
    }
    if reads >= Reads::Users {
        prompt.users = request.hash_ids.iter().map(|block| Cow::Owned(format!("{block:016x}"))).collect();
    }
    prompt
}

/// Blocks asked of a node, and those it held.
#[derive(Clone, Copy, Default)]
struct Tally {
    asked: usize,
    held: usize,
}

impl Tally {
    fn add(&mut self, cache: &mut Cache, request: &Request) {
        self.asked += request.hash_ids.len();
        self.held += request.hash_ids.iter().filter(|&&block| cache.touch(block)).count();
    }

    fn work(&self) -> usize {
        self.asked - self.held
    }

    fn hit_ratio(&self) -> f64 {
        self.held as f64 / self.asked as f64
    }
}

fn total(tallies: &[Tally]) -> Tally {
    tallies.iter().fold(Tally::default(), |sum, tally| Tally {
        asked: sum.asked + tally.asked,
        held: sum.held + tally.held,
    })
}

/// The most work over the mean; a trace has work to do, because the first block it asks for is held nowhere.
fn imbalance(tallies: &[Tally]) -> f64 {
    let most = tallies.iter().map(Tally::work).max().unwrap_or(0);
    most as f64 * tallies.len() as f64 / total(tallies).work() as f64
}

/// The blocks one node holds, the least recently used one going first.
struct Cache {
    blocks_max: usize,
    slots_by_block: HashMap<u64, usize>,
    /// A ring through indexes: slot 0 holds no block, after it comes the one used last, before it the one used first.
    slots: Vec<Slot>,
}

struct Slot {
    block: u64,
    previous: usize,
    next: usize,
}

impl Cache {
    fn new(blocks_max: usize) -> Self {
        let ring = Slot { block: 0, previous: 0, next: 0 };
        Self { blocks_max, slots_by_block: HashMap::new(), slots: vec![ring] }
    }

    /// Uses a block and says whether it was there; if not, it is now.
    fn touch(&mut self, block: u64) -> bool {
        let known = self.slots_by_block.get(&block).copied();
        let slot = known.unwrap_or_else(|| self.make_room(block));
        self.unlink(slot);
        self.link_first(slot);
        known.is_some()
    }

    /// A slot for `block`: a new one, or that of the block used longest ago.
    fn make_room(&mut self, block: u64) -> usize {
        let is_full = self.slots.len() > self.blocks_max;
        let slot = if is_full { self.slots[0].previous } else { self.slots.len() };
        if is_full {
            self.slots_by_block.remove(&self.slots[slot].block);
            self.slots[slot].block = block;
        } else {
            self.slots.push(Slot { block, previous: slot, next: slot });
        }
        self.slots_by_block.insert(block, slot);
        slot
    }

    fn unlink(&mut self, slot: usize) {
        let Slot { previous, next, .. } = self.slots[slot];
        self.slots[previous].next = next;
        self.slots[next].previous = previous;
    }

    fn link_first(&mut self, slot: usize) {
        let next = self.slots[0].next;
        self.slots[slot].previous = 0;
        self.slots[slot].next = next;
        self.slots[next].previous = slot;
        self.slots[0].next = slot;
    }
}

/// The requests that run at the trace's present moment.
struct Running {
    counts: Vec<usize>,
    ends: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Running {
    fn new(nodes: usize) -> Self {
        Self { counts: vec![0; nodes], ends: BinaryHeap::new() }
    }

    fn begin(&mut self, node: usize, request: &Request) {
        let end = request.timestamp.saturating_add(request.output_length.saturating_mul(TOKEN_MS));
        self.counts[node] += 1;
        self.ends.push(Reverse((end, node)));
    }

    fn advance(&mut self, now: u64) {
        while let Some(&Reverse((end, node))) = self.ends.peek()
            && end <= now
        {
            self.ends.pop();
            self.counts[node] -= 1;
        }
    }
}

/// The same random bits on every run, so that two runs can be compared.
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA '14), `SplitMix64`.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::prop;
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    const SMALL: &str = include_str!("../../../tests/cases/traces/small.jsonl");
    const SMALL_PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/traces/small.jsonl");

    /// Makes the small trace; its README says how.
    fn generate() -> String {
        let mut draws = Draws(1);
        let mut below = |bound: u64| draws.next() % bound;
        let mut conversations = vec![vec![0_u64]; 40];
        let (mut timestamp, mut block, mut trace) = (0, 0, String::new());
        for _ in 0..300 {
            let conversation = &mut conversations[below(40) as usize];
            for _ in 0..=below(3) {
                block += 1;
                conversation.push(block);
            }
            timestamp += below(500);
            let (input_length, output_length) = (512 * conversation.len(), 20 + below(400));
            writeln!(
                trace,
                r#"{{"timestamp": {timestamp}, "input_length": {input_length}, "output_length": {output_length}, "hash_ids": {conversation:?}}}"#
            )
            .unwrap();
        }
        trace
    }

    #[test]
    fn the_small_trace_is_what_its_generator_makes() {
        if std::env::var_os("UPDATE").is_some() {
            fs::write(SMALL_PATH, generate()).unwrap();
        }
        assert_eq!(fs::read_to_string(SMALL_PATH).unwrap(), generate());
    }

    #[test]
    fn the_small_trace_gives_what_it_always_gave() {
        let expected = "
strategy          hit_ratio  imbalance
infinite              0.812       1.00
failover              0.300       4.00
random                0.246       1.21
round_robin           0.270       1.14
least_in_flight       0.284       1.12
voting                0.520       2.02
deterministic         0.713       1.37
";
        let report = Report::new(&parse(SMALL).unwrap(), 4, 100);
        assert_eq!(report.table().trim(), expected.trim(), "\n{}", report.table());
    }

    #[test]
    fn staying_with_the_cache_beats_spreading_evenly() {
        let report = Report::new(&parse(SMALL).unwrap(), 4, 100);
        let row = |name| report.strategies.iter().find(|row| row.strategy == name).unwrap();
        assert!(row("deterministic").hit_ratio > 1.5 * row("random").hit_ratio);
        assert!(row("infinite").hit_ratio >= row("deterministic").hit_ratio);
        assert_eq!(row("failover").imbalance, 4.0);
    }

    #[test]
    fn one_endless_node_is_the_infinite_cache_whatever_the_strategy() {
        let report = Report::new(&parse(SMALL).unwrap(), 1, 1_000_000);
        for row in &report.strategies {
            assert_eq!(
                (row.hit_ratio, row.imbalance),
                (report.strategies[0].hit_ratio, 1.0),
                "{}",
                row.strategy
            );
        }
    }

    #[test]
    fn a_malformed_line_is_named() {
        #[track_caller]
        fn check(trace: &str, expected: &str) {
            assert_eq!(parse(trace).err().as_deref(), Some(expected));
        }
        let good = r#"{"timestamp": 0, "output_length": 1, "hash_ids": [1]}"#;
        check(&format!("{good}\n{{\n{good}"), "2:1: EOF while parsing an object");
        check(&format!("{good}\n\n{{}}"), "3:2: missing field `timestamp`");
        check(
            r#"{"timestamp": 0, "output_length": 1, "hash_ids": [-1]}"#,
            "1:52: invalid value: integer `-1`, expected u64",
        );
        check("", " trace has no requests with `hash_ids`");
    }

    #[test]
    fn counts_that_simulate_nothing_are_refused() {
        let small = Path::new(SMALL_PATH);
        assert_eq!(run(small, 0, 1, false).unwrap_err(), "`--nodes 0` must be from 1 to 1000");
        assert!(run(small, 1001, 1, false).is_err());
        assert!(run(small, 1, 0, false).is_err());
        assert!(run(Path::new("/no such trace"), 1, 1, false).unwrap_err().contains("`/no such trace`"));
    }

    proptest! {
        #[test]
        fn a_cache_forgets_what_was_used_longest_ago(
            blocks_max in 1_usize..6,
            touched in prop::collection::vec(0_u64..9, 0..100),
        ) {
            let (mut cache, mut model) = (Cache::new(blocks_max), Vec::new());
            for block in touched {
                let held = model.contains(&block);
                model.retain(|&other| other != block);
                model.push(block);
                if model.len() > blocks_max {
                    model.remove(0);
                }
                prop_assert_eq!(cache.touch(block), held);
            }
        }

        #[test]
        fn no_trace_panics(text in "[\\[\\]{}:,\"a-z0-9 \n-]{0,80}") {
            let _ = parse(&text);
        }
    }
}
