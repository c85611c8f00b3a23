//! The parts of the measurement, each a table. Each starts its own subjects, so that none inherits the memory of another.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::lineup::{Lineup, Rounds};
use crate::load::{self, Load, Request};
use crate::noop::Noops;
use crate::process::{Cpus, raise_files_limit};
use crate::sample::Window;
use crate::subject::{Plugin, Subject, Target, Variant};
use crate::table::{Table, microseconds, ratio, verdict};

/// One question to the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Hooks,
    Chain,
    FirstParty,
    Paced,
    Burst,
    Batches,
    Held,
}

impl Part {
    pub(crate) const ALL: [Self; 7] =
        [Self::Hooks, Self::Chain, Self::FirstParty, Self::Paced, Self::Burst, Self::Batches, Self::Held];

    /// The name for `--only`.
    fn name(self) -> &'static str {
        match self {
            Self::Hooks => "hooks",
            Self::Chain => "chain",
            Self::FirstParty => "first-party",
            Self::Paced => "paced",
            Self::Burst => "burst",
            Self::Batches => "batches",
            Self::Held => "held",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let names = || Self::ALL.map(|part| format!("`{}`", part.name())).join(", ");
        let part = Self::ALL.into_iter().find(|part| part.name() == name);
        part.ok_or_else(|| format!("part `{name}` is none of {}", names()).into())
    }
}

/// Where and for how long to measure.
pub(crate) struct Bench {
    cpus: Cpus,
    files_max: u64,
    noops: Noops,
    /// Compiled plugins, for all gateways.
    cache: TempDir,
    pace: Pace,
}

/// How long it takes.
struct Pace {
    rounds: usize,
    warm_up: Duration,
    window: Duration,
    /// Rounds of the parts with streams at the pace of a model, and their window.
    paced_rounds: usize,
    paced_window: Duration,
}

const FULL: Pace = Pace {
    rounds: 8,
    warm_up: Duration::from_millis(150),
    window: Duration::from_millis(600),
    paced_rounds: 3,
    paced_window: Duration::from_secs(2),
};

const QUICK: Pace = Pace {
    rounds: 3,
    warm_up: Duration::from_millis(100),
    window: Duration::from_millis(250),
    paced_rounds: 1,
    paced_window: Duration::from_millis(800),
};

/// Requests in flight where the cost of one is measured.
const CONNECTIONS: u32 = 32;
const STREAMS: u32 = 1000;
const STREAM_GAP: Duration = Duration::from_millis(20);
/// Streams at once, and events in each, where events come as fast as they go.
const BURSTS: u32 = 8;
const BURST_EVENTS: usize = 2000;
/// Events in one write, and streams that get them.
const BATCHES: [(usize, u32); 3] = [(1, 1000), (8, 400), (64, 50)];
/// Streams that are open and silent; each takes two of the gateway's open files.
const HELD: [u32; 2] = [1000, 10_000];
/// The longest chain.
const CHAIN_MAX: usize = 5;
/// The key that `key-auth` is given, and its SHA-256.
const KEY: &str = "witgate-bench";
const KEY_AUTH: &str =
    "{ keys: [{ name: bench, sha256: 88fa746862df15efb39cd5858a1f3070cbad319379b821502b5d707feff410c8 }] }";

const AUDIT_TAGS: &str = "{ tags: [{ name: team, from: { header: x-team }, default: unknown }, { name: temperature, from: { pointer: /temperature } }, { name: tokens, from: total_tokens }] }";
const REDACT: &str = "{ patterns: [email, card, iban, phone, api-key, jwt] }";
const REQUEST_REWRITE: &str = "{ rules: [{ when: { operations: [chat.completions] }, then: { system: { prepend: Answer in the language of the question. }, default: { /top_p: 0.9 }, remove: [/logit_bias] } }] }";
const RESPONSE_TRANSFORM: &str = "{ rules: [{ then: { replace: { /model: house-model }, remove: [/system_fingerprint], headers: { set: { x-served-by: acme } } } }] }";
/// Every event is moved to the reasoning.
const THINK_STRIP_AT_WORK: &str = "{ mode: reasoning, unopened: true }";

impl Bench {
    /// Claims the machine, and builds the plugins that do nothing.
    pub(crate) fn new(is_quick: bool) -> Result<Self> {
        let noops = Noops::build()?;
        let pace = if is_quick { QUICK } else { FULL };
        Ok(Self {
            cpus: Cpus::claim()?,
            files_max: raise_files_limit()?,
            noops,
            cache: TempDir::new()?,
            pace,
        })
    }

    /// Measures the parts and prints the tables.
    pub(crate) async fn run(&self, parts: &[Part]) -> Result<()> {
        let start = Instant::now();
        let mut disturbance = 0.0_f64;
        for &part in parts {
            eprintln!("{:>5.1} s  {}", start.elapsed().as_secs_f64(), part.name());
            let tables =
                self.measure(part).await.map_err(|error| format!("part `{}`: {error}", part.name()))?;
            for (table, disturbed) in tables {
                println!("\n{table}");
                disturbance = disturbance.max(disturbed);
            }
        }
        println!("{}; other processes used up to {disturbance:.2} CPUs.", self.circumstances()?);
        Ok(())
    }

    async fn measure(&self, part: Part) -> Result<Vec<(Table, f64)>> {
        match part {
            Part::Hooks => self.requests("a hook that does nothing, 1 KiB chat", &self.hooks()).await,
            Part::Chain => self.requests("a chain of no-op `on-request`, 1 KiB chat", &self.chain()).await,
            Part::FirstParty => self.requests("first-party plugins, 1 KiB chat", &first_party()).await,
            Part::Paced => self.paced().await,
            Part::Burst => self.burst().await,
            Part::Batches => self.batches().await,
            Part::Held => self.held().await,
        }
    }

    fn hook(&self, hook: &str) -> Plugin {
        Plugin { source: self.noops.hook(hook), config: "{}", is_reused: false }
    }

    /// A plugin for text that leaves it alone.
    fn text(&self, config: &'static str) -> Plugin {
        Plugin { source: self.noops.text(), config, is_reused: false }
    }

    fn hooks(&self) -> Vec<Variant> {
        let mut variants = vec![Variant::floor(), none()];
        for hook in [
            "authenticate",
            "on-request",
            "on-route",
            "on-upstream-request",
            "on-response",
            "stream-text",
            "on-complete",
        ] {
            let plugin = if hook == "stream-text" { self.text(EVERY_BATCH) } else { self.hook(hook) };
            if hook == "on-complete" {
                variants.push(Variant::gateway(format!("`{hook}`"), &[plugin]));
                continue;
            }
            variants.push(
                Variant::gateway(format!("`{hook}`, fresh"), std::slice::from_ref(&plugin))
                    .target(Target::Added(40.0)),
            );
            variants.push(
                Variant::gateway(format!("`{hook}`, reused"), &[plugin.reused()]).target(Target::Added(15.0)),
            );
        }
        variants
    }

    fn chain(&self) -> Vec<Variant> {
        let mut variants = vec![Variant::floor(), none()];
        for (how, plugin) in
            [("fresh", self.hook("on-request")), ("reused", self.hook("on-request").reused())]
        {
            for count in 1..=CHAIN_MAX {
                let variant = Variant::gateway(format!("{count} {how}"), &vec![plugin.clone(); count]);
                variants.push(if count == 3 { variant.target(Target::Added(60.0)) } else { variant });
            }
        }
        variants
    }

    /// The cost of a chat that is answered whole; the first variant is the floor, the second has no plugins.
    async fn requests(&self, title: &str, variants: &[Variant]) -> Result<Vec<(Table, f64)>> {
        let lineup = Lineup::start(self.cpus, self.cache.path(), variants)?;
        let all = lineup
            .take_turns(self.pace.rounds, async |subject| {
                let key = format!("Bearer {KEY}");
                let request = Request::chat(1024).header("authorization", &key);
                self.saturate(subject, fitted(subject, request), CONNECTIONS).await
            })
            .await?;
        let cpu = |rounds: &Rounds| rounds.median(|reading| reading.window.cpu_us / reading.window.answers);
        let (floor, none) = (cpu(&all[0]), cpu(&all[1]));
        let rows = all.iter().map(|rounds| {
            let (cpu, variant) = (cpu(rounds), &rounds.variant);
            let clock =
                rounds.median(|reading| reading.calls.seconds * 1e6 / reading.window.total.answers as f64);
            let calls = rounds.median(|reading| reading.calls.count / reading.window.total.answers as f64);
            let is_none = variant.is_bare();
            let added = (cpu - none) / floor;
            vec![
                variant.name.clone(),
                microseconds(cpu),
                if is_none { String::new() } else { microseconds(cpu - none) },
                if is_none { String::new() } else { ratio(added) },
                if is_none { String::new() } else { microseconds(clock) },
                if is_none { String::new() } else { format!("{calls:.2}") },
                match variant.target {
                    Some(Target::Added(most)) => verdict(added, most / FLOOR_US, ratio),
                    Some(Target::Floor(_) | Target::Call(_)) | None => String::new(),
                },
            ]
        });
        let columns = &["CPU a request", "added", "of the floor", "clock in hooks", "calls", "target"];
        Ok(vec![table(title, columns, rows.collect(), &all)])
    }

    /// The variants whose streams are watched; the first is the floor, the second has no plugins.
    fn streams(&self, think_strip: f64) -> Vec<Variant> {
        let gateway = |name: &str, plugin: Plugin| Variant::gateway(name, &[plugin]);
        let target = Target::Floor(think_strip);
        vec![
            Variant::floor(),
            none(),
            gateway("no-op, of no interest", self.text("{ interest: none }")),
            gateway("no-op, detaches at once", self.text("{ interest: detach }")),
            gateway("no-op, at the end only", self.text("{ interest: at_finish }")),
            gateway("no-op, wakes for a word that never comes", self.text("{ interest: literal }")),
            gateway("no-op, every batch", self.text(EVERY_BATCH)),
            gateway("no-op `stream-events`", self.hook("stream-events")),
            gateway("`think-strip`, answers without thinking", builtin("think-strip", "{}")).target(target),
            gateway("`think-strip`, anywhere", builtin("think-strip", "{ anywhere: true }")).target(target),
            gateway("`think-strip`, changes every event", builtin("think-strip", THINK_STRIP_AT_WORK))
                .target(target)
                .rewriting(),
            gateway("`redact`", builtin("redact", REDACT)).rewriting(),
            gateway(
                "`response-transform`, changes every event",
                builtin("response-transform", RESPONSE_TRANSFORM),
            )
            .rewriting(),
        ]
    }

    /// The cost of an event among many streams at the pace of a model.
    async fn paced(&self) -> Result<Vec<(Table, f64)>> {
        self.need_files(STREAMS)?;
        let lineup = Lineup::start(self.cpus, self.cache.path(), &self.streams(1.4))?;
        let all = lineup
            .take_turns(self.pace.paced_rounds, async |subject| self.pace_streams(subject, STREAMS, 1).await)
            .await?;
        let title = format!("{STREAMS} streams at {} ms", STREAM_GAP.as_millis());
        let rate = all[1].median(|reading| reading.window.events / reading.window.seconds);
        let mut rows = stream_rows(&all, |window| rate * window.seconds);
        for (row, rounds) in rows.iter_mut().zip(&all) {
            row.push(format!("{:.0} MB", rounds.resident_megabytes()));
        }
        Ok(vec![table(
            &title,
            &["CPU an event", "to none", "to the floor", "clock a call", "events a call", "target", "memory"],
            rows,
            &all,
        )])
    }

    /// The cost of an event that comes as fast as it is taken.
    async fn burst(&self) -> Result<Vec<(Table, f64)>> {
        // The design's 4 µs, on the machine where the floor took 5.1 µs.
        let lineup = Lineup::start(self.cpus, self.cache.path(), &self.streams(4.0 / 5.1))?;
        let all = lineup
            .take_turns(self.pace.rounds, async |subject| {
                let request = fitted(subject, Request::stream(BURST_EVENTS, Duration::ZERO));
                self.saturate(subject, request, BURSTS).await
            })
            .await?;
        let rows = stream_rows(&all, |window| window.answers * BURST_EVENTS as f64);
        let title = format!("{BURSTS} streams, back to back");
        let columns = &["CPU an event", "to none", "to the floor", "clock a call", "events a call", "target"];
        Ok(vec![table(&title, columns, rows, &all)])
    }

    /// The cost of a push by the size of its batch.
    async fn batches(&self) -> Result<Vec<(Table, f64)>> {
        let variants = [
            none(),
            Variant::gateway("at the end only", &[self.text("{ interest: at_finish }")]),
            Variant::gateway("every batch", &[self.text(EVERY_BATCH)]).target(Target::Call(2.0)),
        ];
        let mut tables = Vec::new();
        for (batch, streams) in BATCHES {
            let lineup = Lineup::start(self.cpus, self.cache.path(), &variants)?;
            let all = lineup
                .take_turns(self.pace.paced_rounds, async |subject| {
                    self.pace_streams(subject, streams, batch).await
                })
                .await?;
            let cpu = |rounds: &Rounds| {
                rounds.median(|reading| reading.window.cpu_us / reading.window.events * batch as f64)
            };
            let mut before = f64::NAN;
            let mut rows = Vec::new();
            for rounds in &all {
                let cpu = cpu(rounds);
                let clock = clock_us(rounds);
                let has_calls = rounds.variant.target.is_some();
                rows.push(vec![
                    rounds.variant.name.clone(),
                    microseconds(cpu),
                    if before.is_nan() { String::new() } else { microseconds(cpu - before) },
                    if has_calls { microseconds(clock) } else { String::new() },
                    if has_calls { format!("{:.1}", events_per_call(rounds)) } else { String::new() },
                    match rounds.variant.target {
                        Some(Target::Call(most)) => verdict(clock, most, microseconds),
                        Some(Target::Floor(_) | Target::Added(_)) | None => String::new(),
                    },
                ]);
                before = cpu;
            }
            let title = format!("no-op push, {batch} events in a write, {streams} streams");
            let columns = &["CPU a write", "to the row above", "clock a call", "events a call", "target"];
            tables.push(table(&title, columns, rows, &all));
        }
        Ok(tables)
    }

    /// Memory of streams that are open and silent.
    async fn held(&self) -> Result<Vec<(Table, f64)>> {
        self.need_files(HELD[0])?;
        let most = u32::try_from(self.files_max.saturating_sub(200) / 2)?;
        let variants = [
            Variant::floor(),
            none(),
            Variant::gateway("no-op, every batch", &[self.text(EVERY_BATCH)]),
            Variant::gateway("`think-strip`, anywhere", &[builtin("think-strip", "{ anywhere: true }")]),
        ];
        let mut rows = Vec::new();
        for variant in &variants {
            // The upstream is new each time: it does not notice that streams it is silent on are gone.
            let lineup = Lineup::start(self.cpus, self.cache.path(), std::slice::from_ref(variant))?;
            let subject = lineup.first();
            let mut row = vec![variant.name.clone()];
            // What the gateway says is better read in the table than instead of it.
            if let Err(error) = hold(subject, HELD.map(|count| count.min(most)), &mut row).await {
                row.push(error.to_string().replace(['\r', '\n', '|'], " "));
            }
            rows.push(row);
        }
        let columns = &["idle", "some streams", "each", "as many as there are files for", "each"];
        Ok(vec![table("open streams", columns, rows, &[])])
    }

    /// Asks over several connections without pause, and watches.
    async fn saturate(&self, subject: &Subject, request: Request, connections: u32) -> Result<Window> {
        let load = Load::start(subject.process.address, request, connections, Duration::ZERO);
        sleep(self.pace.warm_up).await;
        Window::watch(&subject.process, load, self.pace.window, false).await
    }

    /// Watches streams in which a batch of events comes at every gap.
    async fn pace_streams(&self, subject: &Subject, streams: u32, batch: usize) -> Result<Window> {
        const RAMP: Duration = Duration::from_secs(1);
        // The streams outlast the window on both sides: it sees events only, no beginnings and no ends.
        let lifetime = RAMP + self.pace.warm_up * 2 + self.pace.paced_window;
        let writes = usize::try_from(lifetime.as_micros() / STREAM_GAP.as_micros())?;
        let request = fitted(subject, Request::batches(writes * batch, batch, STREAM_GAP));
        let load = Load::start(subject.process.address, request, streams, RAMP);
        load.wind_down();
        sleep(RAMP + self.pace.warm_up).await;
        Window::watch(&subject.process, load, self.pace.paced_window, false).await
    }

    /// Each stream takes two files in the floor and in the gateway, which need some more for themselves.
    fn need_files(&self, streams: u32) -> Result<()> {
        let needed = 2 * u64::from(streams) + 200;
        if self.files_max < needed {
            return Err(format!(
                "{needed} open files are needed, the limit is {}: raise it with `ulimit -n`",
                self.files_max
            )
            .into());
        }
        Ok(())
    }

    fn circumstances(&self) -> Result<String> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or("")
            .trim_start_matches([' ', '\t', ':']);
        let placed = match self.cpus {
            Cpus { subject: Some(subject), load: Some(load), mock: Some(mock) } => {
                format!("floor and gateway on CPU {subject}, load on {load}, upstream on {mock}")
            }
            _ => "nothing pinned to a CPU, so the ratios are less steady".to_owned(),
        };
        Ok(format!("{model}; {placed}; medians of the quieter half of {} rounds", self.pace.rounds))
    }
}

/// What a request took the floor on the machine where the design's microseconds hold.
const FLOOR_US: f64 = 20.6;

const EVERY_BATCH: &str = "{ interest: every_batch }";

/// The gateway that the others are compared with.
fn none() -> Variant {
    Variant::gateway("none", &[])
}

fn builtin(name: &str, config: &'static str) -> Plugin {
    Plugin { source: format!("builtin:{name}"), config, is_reused: false }
}

fn first_party() -> Vec<Variant> {
    let plugins = [
        ("key-auth", KEY_AUTH),
        ("request-rewrite", REQUEST_REWRITE),
        ("response-transform", RESPONSE_TRANSFORM),
        ("redact", REDACT),
        ("think-strip", "{}"),
        ("audit-tags", AUDIT_TAGS),
    ]
    .map(|(name, config)| builtin(name, config));
    let mut variants = vec![Variant::floor(), none()];
    for plugin in &plugins {
        let name = plugin.source.trim_start_matches("builtin:");
        let fresh = Variant::gateway(format!("`{name}`, fresh"), std::slice::from_ref(plugin));
        variants.push(fresh.rewriting());
        variants.push(Variant::gateway(format!("`{name}`, reused"), &[plugin.clone().reused()]).rewriting());
    }
    let three = [0, 1, 4].map(|index| plugins[index].clone());
    let name = "`key-auth`, `request-rewrite`, `think-strip`";
    variants.push(Variant::gateway(format!("{name}, fresh"), &three).rewriting());
    let reused = three.map(Plugin::reused);
    variants.push(Variant::gateway(format!("{name}, reused"), &reused).rewriting());
    variants
}

/// Opens streams and adds to a row what memory they take.
async fn hold(subject: &Subject, counts: [u32; 2], row: &mut Vec<String>) -> Result<()> {
    let process = &subject.process;
    load::time(process.address, &Request::chat(1024), Duration::from_nanos(1)).await?;
    let idle = process.resident_bytes()? as f64;
    row.push(format!("{:.1} MB", idle / 1e6));
    let request = Request::stream(2, Duration::from_secs(3600));
    let mut held = Vec::new();
    for count in counts {
        held.extend(load::hold(process.address, &request, count - u32::try_from(held.len())?).await?);
        let full = process.resident_bytes()? as f64;
        row.push(format!("{:.0} MB for {count}", full / 1e6));
        row.push(format!("{:.1} KB", (full - idle) / f64::from(count) / 1e3));
    }
    Ok(())
}

/// Takes answers of any length where a plugin changes it.
fn fitted(subject: &Subject, request: Request) -> Request {
    if subject.variant.rewrites { request.of_any_length() } else { request }
}

/// Cost of an event beside that of the floor, the first, and of no plugins, the second. Where a plugin changes the length
/// of events they cannot be counted by it: `sent` says how many the upstream sent in a round.
fn stream_rows(all: &[Rounds], sent: impl Fn(&Window) -> f64) -> Vec<Vec<String>> {
    let cpu = |rounds: &Rounds| {
        rounds.median(|reading| {
            let window = &reading.window;
            window.cpu_us / if rounds.variant.rewrites { sent(window) } else { window.events }
        })
    };
    let (floor, none) = (cpu(&all[0]), cpu(&all[1]));
    let row = |rounds: &Rounds| {
        let (cpu, variant) = (cpu(rounds), &rounds.variant);
        let has_calls = rounds.median(|reading| reading.calls.count) > 0.0;
        vec![
            variant.name.clone(),
            microseconds(cpu),
            ratio(cpu / none),
            ratio(cpu / floor),
            if has_calls { microseconds(clock_us(rounds)) } else { String::new() },
            if has_calls && !variant.rewrites {
                format!("{:.1}", events_per_call(rounds))
            } else {
                String::new()
            },
            match variant.target {
                Some(Target::Floor(most)) => verdict(cpu / floor, most, ratio),
                Some(Target::Added(_) | Target::Call(_)) | None => String::new(),
            },
        ]
    };
    all.iter().map(row).collect()
}

/// How long a call takes, in microseconds.
fn clock_us(rounds: &Rounds) -> f64 {
    rounds.median(|reading| reading.calls.seconds / reading.calls.count * 1e6)
}

fn events_per_call(rounds: &Rounds) -> f64 {
    rounds.median(|reading| reading.window.total.events / reading.calls.count)
}

fn table(
    title: &str,
    columns: &'static [&'static str],
    rows: Vec<Vec<String>>,
    all: &[Rounds],
) -> (Table, f64) {
    let disturbance = all.iter().map(Rounds::disturbance).fold(0.0, f64::max);
    (Table { title: title.to_owned(), columns, rows }, disturbance)
}
