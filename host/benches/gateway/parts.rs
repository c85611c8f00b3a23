//! The parts of the measurement. Each starts its own mock, floor and gateway, so that none inherits the memory of another, and takes turns
//! between floor and gateway, so that what else the machine does falls on both; it tells the median of the half of the rounds in which
//! other processes ran least.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::load::{self, Load, Request, Times};
use crate::process::{Cpus, Instructions, Process, raise_files_limit};
use crate::sample::{Foreign, Sample, Window, median, quiet_half};
use crate::table::{Row, Table, Target, Unit};

/// One question to the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part {
    Request,
    Prompt,
    Upstreams,
    Paced,
    Burst,
    RequestAudited,
    PromptAudited,
    PacedAudited,
    BurstAudited,
    PacedThinkStrip,
    BurstThinkStrip,
    Latency,
    FirstToken,
    Idle,
    Held,
    IdleStreams,
    Overload,
    Converted,
    BurstConverted,
}

impl Part {
    pub(crate) const ALL: [Self; 19] = [
        Self::Request,
        Self::Prompt,
        Self::Upstreams,
        Self::Paced,
        Self::Burst,
        Self::RequestAudited,
        Self::PromptAudited,
        Self::PacedAudited,
        Self::BurstAudited,
        Self::PacedThinkStrip,
        Self::BurstThinkStrip,
        Self::Latency,
        Self::FirstToken,
        Self::Idle,
        Self::Held,
        Self::IdleStreams,
        Self::Overload,
        Self::Converted,
        Self::BurstConverted,
    ];

    /// The name for `--only`.
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Prompt => "prompt",
            Self::Upstreams => "upstreams",
            Self::Paced => "paced",
            Self::Burst => "burst",
            Self::RequestAudited => "request-audited",
            Self::PromptAudited => "prompt-audited",
            Self::PacedAudited => "paced-audited",
            Self::BurstAudited => "burst-audited",
            Self::PacedThinkStrip => "paced-think-strip",
            Self::BurstThinkStrip => "burst-think-strip",
            Self::Latency => "latency",
            Self::FirstToken => "first-token",
            Self::Idle => "idle",
            Self::Held => "held",
            Self::IdleStreams => "idle-streams",
            Self::Overload => "overload",
            Self::Converted => "converted",
            Self::BurstConverted => "burst-converted",
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
    counts_instructions: bool,
    is_noise: bool,
    pace: Pace,
}

/// How long it takes.
struct Pace {
    rounds: usize,
    warm_up: Duration,
    window: Duration,
    /// Rounds of the part with 1,000 streams, and its window.
    paced_rounds: usize,
    paced_window: Duration,
    held: u32,
    /// Streams that are held while nothing comes, and for how long.
    idle_streams: u32,
    idle: Duration,
    /// How long the gateway is flooded, each time.
    flood: Duration,
}

const FULL: Pace = Pace {
    rounds: 14,
    warm_up: Duration::from_millis(200),
    window: Duration::from_millis(800),
    paced_rounds: 5,
    paced_window: Duration::from_secs(3),
    held: 5000,
    idle_streams: 10_000,
    // Longer than the interval of comments to silent clients.
    idle: Duration::from_secs(20),
    flood: Duration::from_secs(5),
};

const QUICK: Pace = Pace {
    rounds: 6,
    warm_up: Duration::from_millis(100),
    window: Duration::from_millis(300),
    paced_rounds: 1,
    paced_window: Duration::from_secs(1),
    held: 1000,
    idle_streams: 2000,
    idle: Duration::from_secs(2),
    flood: Duration::from_secs(2),
};

/// Requests in flight where the cost of one is measured.
const CONNECTIONS: u32 = 32;
const STREAMS: u32 = 1000;
const STREAM_GAP: Duration = Duration::from_millis(20);
/// Streams at once, and events in each, where events come as fast as they go.
const BURSTS: u32 = 8;
const BURST_EVENTS: usize = 2000;
/// Where there is too much to do: places, how many may wait for one, how long an answer takes, and connections, each of
/// which asks again when it has waited as long as an answer takes. That is ten times what the places can answer.
const PLACES: u32 = 32;
const QUEUE: u32 = 64;
const SERVICE: Duration = Duration::from_millis(50);
const FLOODERS: u32 = 10 * PLACES;

impl Bench {
    /// Claims the machine: pins this process and raises its limit of open files.
    pub(crate) fn new(is_quick: bool, is_noise: bool) -> Result<Self> {
        let pace = if is_quick { QUICK } else { FULL };
        Ok(Self {
            cpus: Cpus::claim()?,
            files_max: raise_files_limit()?,
            counts_instructions: Instructions::are_counted(),
            is_noise,
            pace,
        })
    }

    /// Measures the parts and prints the table.
    pub(crate) async fn run(&self, parts: &[Part]) -> Result<()> {
        let start = Instant::now();
        let mut rows = Vec::new();
        for &part in parts {
            eprintln!("{:>5.1} s  {}", start.elapsed().as_secs_f64(), part.name());
            rows.extend(
                self.measure(part).await.map_err(|error| format!("part `{}`: {error}", part.name()))?,
            );
        }
        let disturbance = rows.iter().map(|row| row.disturbance).fold(0.0, f64::max);
        println!("\n{}", Table(rows));
        println!("{}; other processes used up to {disturbance:.2} CPUs.", self.circumstances()?);
        Ok(())
    }

    async fn measure(&self, part: Part) -> Result<Vec<Row>> {
        match part {
            Part::Request => self.requests("1 KiB chat", 1024, configuration(1), 1.6).await,
            Part::Prompt => self.requests("64 KiB prompt", 64 * 1024, configuration(1), 1.5).await,
            Part::Upstreams => {
                self.requests("1 KiB chat, 1,000 upstreams", 1024, configuration(1000), 1.6).await
            }
            Part::Paced => self.paced("", configuration(1), 1.2, 80.0).await,
            // The design's 2.5 µs, on the machine where the floor took 5.1 µs.
            Part::Burst => self.burst("", configuration(1), 2.5 / 5.1).await,
            Part::RequestAudited => self.requests("1 KiB chat, audited", 1024, audited(), 2.5).await,
            Part::PromptAudited => self.requests("64 KiB prompt, audited", 64 * 1024, audited(), 2.5).await,
            Part::PacedAudited => self.paced(", audited", audited(), 1.3, 120.0).await,
            Part::BurstAudited => self.burst(", audited", audited(), 3.5 / 5.1).await,
            Part::PacedThinkStrip => self.paced(", think-strip", think_strip(), 1.4, 160.0).await,
            Part::BurstThinkStrip => self.burst(", think-strip", think_strip(), 4.0 / 5.1).await,
            Part::Latency => self.latency().await,
            Part::FirstToken => self.first_token().await,
            Part::Idle => self.idle().await,
            Part::Held => self.held().await,
            Part::IdleStreams => self.idle_streams().await,
            Part::Overload => self.overload().await,
            Part::Converted => self.converted().await,
            Part::BurstConverted => self.burst_converted().await,
        }
    }

    /// The cost of a chat that is answered whole.
    async fn requests(&self, what: &str, body_len: usize, config: String, target: f64) -> Result<Vec<Row>> {
        let pair = Pair::start(self, config)?;
        let samples = pair
            .alternate(self.pace.rounds, async |process| {
                self.saturate(process, Request::chat(body_len), CONNECTIONS).await
            })
            .await?;
        let cpu = samples.medians(|window| window.cpu_us / window.answers);
        let rate = samples.medians(|window| window.answers / window.seconds);
        let mut rows = vec![
            cpu.row(format!("CPU per request, {what}"), Unit::Microseconds, Target::Ratio(target)),
            rate.row(
                format!("requests per second, {CONNECTIONS} connections, {what}"),
                Unit::PerSecond,
                Target::None,
            ),
        ];
        if self.counts_instructions {
            let count = samples.medians(|window| window.instructions / window.answers);
            rows.push(count.row(
                format!("user instructions per request, {what}"),
                Unit::Instructions,
                Target::None,
            ));
        }
        Ok(rows)
    }

    /// The cost of a chat that comes and goes in Anthropic's words, beside the same in the upstream's: both at gateways.
    async fn converted(&self) -> Result<Vec<Row>> {
        let pair = Pair::of_gateways(self, &configuration(1))?;
        let samples = pair
            .alternate(self.pace.rounds, async |process| {
                let is_converted = process.address == pair.gateway.address;
                let request = if is_converted { Request::messages(1024) } else { Request::chat(1024) };
                self.saturate(process, request, CONNECTIONS).await
            })
            .await?;
        let cpu = samples.medians(|window| window.cpu_us / window.answers);
        let name = "CPU per request, 1 KiB chat, converted, beside a gateway that does not convert";
        Ok(vec![cpu.row(name.to_owned(), Unit::Microseconds, Target::Ratio(1.5))])
    }

    /// The cost of an event that is converted, as fast as it is taken.
    async fn burst_converted(&self) -> Result<Vec<Row>> {
        let pair = Pair::of_gateways(self, &configuration(1))?;
        let samples = pair
            .alternate(self.pace.rounds, async |process| {
                let is_converted = process.address == pair.gateway.address;
                let request = Request::stream(BURST_EVENTS, Duration::ZERO);
                let request = if is_converted { Request::messages_stream(BURST_EVENTS) } else { request };
                self.saturate(process, request, BURSTS).await
            })
            .await?;
        let cpu = samples.medians(|window| window.cpu_us / window.events);
        let name = "CPU per event, back to back, converted, beside a gateway that does not convert";
        Ok(vec![cpu.row(name.to_owned(), Unit::Microseconds, Target::Most(3.0))])
    }

    /// The cost of an event among many streams at the pace of a model, and what the streams hold.
    async fn paced(&self, who: &str, config: String, ratio: f64, megabytes: f64) -> Result<Vec<Row>> {
        self.need_files(STREAMS)?;
        let pair = Pair::start(self, config)?;
        let samples =
            pair.alternate(self.pace.paced_rounds, async |process| self.pace_streams(process).await).await?;
        let cpu = samples.medians(|window| window.cpu_us / window.events);
        let rate = samples.medians(|window| window.events / window.seconds);
        let memory = samples.firsts(|window| window.resident_bytes / 1e6);
        let what = format!("{STREAMS} streams at {} ms{who}", STREAM_GAP.as_millis());
        let asked = f64::from(STREAMS) / STREAM_GAP.as_secs_f64();
        Ok(vec![
            cpu.row(format!("CPU per event, {what}"), Unit::Microseconds, Target::Ratio(ratio)),
            // Well below what was asked for, load or mock were short of CPU, and the row above is of less load than it says.
            rate.row(
                format!("events per second of {asked:.0} asked for{who}"),
                Unit::PerSecond,
                Target::None,
            ),
            memory.row(format!("memory, {what}"), Unit::Megabytes, Target::Most(megabytes)),
        ])
    }

    async fn pace_streams(&self, process: &Process) -> Result<Window> {
        const RAMP: Duration = Duration::from_secs(1);
        // The streams outlast the window on both sides: it sees events only, no beginnings and no ends.
        let lifetime = RAMP + self.pace.warm_up * 2 + self.pace.paced_window;
        let events = lifetime.as_micros() / STREAM_GAP.as_micros();
        let request = Request::stream(usize::try_from(events)?, STREAM_GAP);
        let load = Load::start(process.address, request, STREAMS, RAMP);
        load.wind_down();
        sleep(RAMP + self.pace.warm_up).await;
        Window::watch(process, load, self.pace.paced_window, self.counts_instructions).await
    }

    /// The cost of an event that comes as fast as it is taken.
    async fn burst(&self, who: &str, config: String, ratio: f64) -> Result<Vec<Row>> {
        let pair = Pair::start(self, config)?;
        let request = || Request::stream(BURST_EVENTS, Duration::ZERO);
        let samples = pair
            .alternate(self.pace.rounds, async |process| self.saturate(process, request(), BURSTS).await)
            .await?;
        let cpu = samples.medians(|window| window.cpu_us / window.events);
        let rate = samples.medians(|window| window.events / window.seconds);
        Ok(vec![
            cpu.row(format!("CPU per event, back to back{who}"), Unit::Microseconds, Target::Ratio(ratio)),
            rate.row(
                format!("events per second, back to back, {BURSTS} streams{who}"),
                Unit::PerSecond,
                Target::None,
            ),
        ])
    }

    /// What is added to an exchange over one connection.
    async fn latency(&self) -> Result<Vec<Row>> {
        let added = self.added(&Request::chat(1024), |times| times.complete_us).await?;
        Ok(vec![
            added.medians(|added| added.p50_us).row(
                "added latency, one connection, p50".to_owned(),
                Unit::Microseconds,
                Target::Most(100.0),
            ),
            added.medians(|added| added.p99_us).row(
                "added latency, one connection, p99".to_owned(),
                Unit::Microseconds,
                Target::Most(150.0),
            ),
        ])
    }

    /// What is added to the wait for the first event.
    async fn first_token(&self) -> Result<Vec<Row>> {
        // A gap after the first event keeps the work of the second out of the wait for the first.
        let added =
            self.added(&Request::stream(2, Duration::from_millis(1)), |times| times.first_event_us).await?;
        Ok(vec![
            added.medians(|added| added.p50_us).row(
                "added time to first token, p50".to_owned(),
                Unit::Microseconds,
                Target::Most(150.0),
            ),
            added.medians(|added| added.p99_us).row(
                "added time to first token, p99".to_owned(),
                Unit::Microseconds,
                Target::None,
            ),
        ])
    }

    async fn added(&self, request: &Request, of: impl Fn(&Times) -> f64) -> Result<Samples<Quantiles>> {
        let pair = Pair::start(self, configuration(1))?;
        // The first exchanges open connections and fault memory in.
        pair.alternate(1, async |process| load::time(process.address, request, self.pace.warm_up).await)
            .await?;
        let sample = async |process: &Process| -> Result<Quantiles> {
            Ok(Quantiles::of(&load::time(process.address, request, self.pace.window).await?, &of))
        };
        let round = async |process: &Process| Ok(sample(process).await?.minus(sample(&pair.mock).await?));
        pair.alternate(self.pace.rounds, round).await
    }

    /// Memory of a process that has answered one request.
    async fn idle(&self) -> Result<Vec<Row>> {
        let pair = Pair::start(self, configuration(1))?;
        let memory =
            pair.alternate(1, async |process| idle_bytes(process).await).await?.medians(|bytes| *bytes / 1e6);
        // 20 MiB.
        Ok(vec![memory.row("memory, idle".to_owned(), Unit::Megabytes, Target::Most(20.97))])
    }

    /// Memory of a stream that is open and silent.
    async fn held(&self) -> Result<Vec<Row>> {
        let count = self.pace.held;
        self.need_files(count)?;
        let pair = Pair::start(self, configuration(1))?;
        let request = Request::stream(2, Duration::from_secs(3600));
        let sample = async |process: &Process| {
            let idle = idle_bytes(process).await?;
            let _held = load::hold(process.address, &request, count).await?;
            Ok((process.resident_bytes()? as f64 - idle) / f64::from(count))
        };
        let memory = pair.alternate(1, sample).await?.medians(|bytes| bytes / 1e3);
        Ok(vec![memory.row(format!("memory per stream, {count} held"), Unit::Kilobytes, Target::Ratio(1.2))])
    }

    /// What many streams take while nothing comes: memory, and CPU for the comments that keep their clients' connections.
    async fn idle_streams(&self) -> Result<Vec<Row>> {
        let count = self.pace.idle_streams;
        self.need_files(count)?;
        // Streams that are silent for longer than the first one takes to the last one's begin are no failures here.
        let config =
            configuration(1).replace("    model_match", "    timeouts: { idle: 0s }\n    model_match");
        let pair = Pair::start(self, config)?;
        let request = Request::stream(2, Duration::from_secs(3600));
        let sample = async |process: &Process| {
            let idle = idle_bytes(process).await?;
            let _held = load::hold(process.address, &request, count).await?;
            let before = process.cpu_time()?;
            sleep(self.pace.idle).await;
            let cpu_ms = process.cpu_time()?.since(&before).as_secs_f64() * 1e3;
            let bytes = (process.resident_bytes()? as f64 - idle) / f64::from(count);
            Ok((bytes, cpu_ms / self.pace.idle.as_secs_f64()))
        };
        let samples = pair.alternate(1, sample).await?;
        let (memory, cpu) =
            (samples.medians(|(bytes, _)| bytes / 1e3), samples.medians(|(_, cpu_ms)| *cpu_ms));
        Ok(vec![
            memory.row(format!("memory per stream, {count} idle"), Unit::Kilobytes, Target::Ratio(1.2)),
            cpu.row(format!("CPU in a second, {count} idle"), Unit::Milliseconds, Target::None),
        ])
    }

    /// Ten times as much as there is room for: how long the answers take of those that are let in, how soon the others
    /// are refused, and whether memory grows with it. The floor lets everybody in.
    async fn overload(&self) -> Result<Vec<Row>> {
        let limits =
            format!("limits: {{ total: {{ in_flight: {PLACES} }}, queue: {QUEUE}, queue_timeout: 5s }}\n");
        let pair = Pair::start(self, limits + &configuration(1))?;
        let sample = async |process: &Process| {
            let request = || Request::stream(2, SERVICE).of_any_length();
            // The first flood opens connections and faults memory in.
            load::flood(process.address, request(), FLOODERS, SERVICE, self.pace.flood).await?;
            let before = process.resident_bytes()? as f64;
            let flood = load::flood(process.address, request(), FLOODERS, SERVICE, self.pace.flood).await?;
            Ok(Flooded::of(flood, process.resident_bytes()? as f64 - before))
        };
        let samples = pair.alternate(1, sample).await?;
        let wait = f64::from(QUEUE.div_ceil(PLACES)) + 1.0;
        // Twice what it takes to come through the queue and to be answered: the machine has other things to do.
        let admitted_ms_max = 2.0 * wait * SERVICE.as_secs_f64() * 1e3;
        let (milliseconds, none) = (Unit::Milliseconds, || Target::None);
        let row = |name: &str, value: fn(&Flooded) -> f64, unit, target| {
            samples.medians(value).row(format!("{name}, 10x overload"), unit, target)
        };
        Ok(vec![
            row("time of admitted, p50", |flood| flood.admitted.p50_us / 1e3, milliseconds, none()),
            row(
                "time of admitted, p99",
                |flood| flood.admitted.p99_us / 1e3,
                milliseconds,
                Target::Most(admitted_ms_max),
            ),
            row("time of refused, p50", |flood| flood.refused.p50_us / 1e3, milliseconds, none()),
            row("time of refused, p99", |flood| flood.refused.p99_us / 1e3, milliseconds, Target::Most(50.0)),
            row("share of refused, percent", |flood| flood.refused_percent, Unit::Percent, none()),
            row("memory grown", |flood| flood.grown_bytes / 1e6, Unit::Megabytes, Target::Most(8.0)),
        ])
    }

    /// Asks over several connections without pause, and watches.
    async fn saturate(&self, process: &Process, request: Request, connections: u32) -> Result<Window> {
        let load = Load::start(process.address, request, connections, Duration::ZERO);
        sleep(self.pace.warm_up).await;
        Window::watch(process, load, self.pace.window, self.counts_instructions).await
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
        let who = if self.is_noise { "; the floor in the place of the gateway" } else { "" };
        Ok(format!("{model}; {placed}; medians of the quieter half of {} rounds{who}", self.pace.rounds))
    }
}

/// The memory of a process after one request, in bytes.
async fn idle_bytes(process: &Process) -> Result<f64> {
    load::time(process.address, &Request::chat(1024), Duration::from_nanos(1)).await?;
    Ok(process.resident_bytes()? as f64)
}

/// The upstream and what is compared before it.
struct Pair {
    mock: Process,
    floor: Process,
    gateway: Process,
    /// Holds the gateway's configuration and what it writes.
    _folder: TempDir,
}

impl Pair {
    /// Starts all three; `config` is the gateway's, with `UPSTREAM` where the mock's address belongs.
    fn start(bench: &Bench, config: String) -> Result<Self> {
        let cpu = bench.cpus.subject;
        let mock = Process::role(bench.cpus.mock, "mock", &[])?;
        let upstream = mock.address.to_string();
        let folder = TempDir::new()?;
        let floor = Process::role(cpu, "floor", &[&upstream])?;
        let gateway = if bench.is_noise {
            Process::role(cpu, "floor", &[&upstream])?
        } else {
            gateway(cpu, &config.replace(UPSTREAM, &upstream), folder.path())?
        };
        Ok(Self { mock, floor, gateway, _folder: folder })
    }

    /// The same with a gateway in the place of the floor, too.
    fn of_gateways(bench: &Bench, config: &str) -> Result<Self> {
        let cpu = bench.cpus.subject;
        let mock = Process::role(bench.cpus.mock, "mock", &[])?;
        let config = config.replace(UPSTREAM, &mock.address.to_string());
        let folder = TempDir::new()?;
        let floor = gateway(cpu, &config, folder.path())?;
        let gateway = gateway(cpu, &config, folder.path())?;
        Ok(Self { mock, floor, gateway, _folder: folder })
    }

    /// Takes a sample of the floor and one of the gateway, `rounds` times.
    async fn alternate<T>(
        &self,
        rounds: usize,
        mut sample: impl AsyncFnMut(&Process) -> Result<T>,
    ) -> Result<Samples<T>> {
        let mut samples = Samples { floor: Vec::new(), gateway: Vec::new() };
        for _ in 0..rounds {
            let before = self.foreign()?;
            let value = sample(&self.floor).await.map_err(|error| format!("the floor: {error}"))?;
            samples.floor.push(Sample { value, disturbance: self.foreign()?.since(&before) });
            let before = self.foreign()?;
            let value = sample(&self.gateway).await.map_err(|error| format!("the gateway: {error}"))?;
            samples.gateway.push(Sample { value, disturbance: self.foreign()?.since(&before) });
        }
        Ok(samples)
    }

    fn foreign(&self) -> Result<Foreign> {
        Foreign::now(&[&self.mock, &self.floor, &self.gateway])
    }
}

/// Starts a gateway in a folder.
fn gateway(cpu: Option<usize>, config: &str, folder: &Path) -> Result<Process> {
    fs::write(folder.join("witgate.yaml"), config)?;
    let arguments =
        ["serve", "--config", "witgate.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    Process::start(cpu, Path::new(env!("CARGO_BIN_EXE_witgate")), &arguments, folder)
}

/// Stands in a configuration where the mock's address belongs.
const UPSTREAM: &str = "UPSTREAM";

/// Nothing is recorded, as the floor records nothing. One upstream takes the requests; the others, up to `count`, only
/// have to be passed over.
fn configuration(count: usize) -> String {
    format!("audit: {{ enabled: false }}\n{}", upstreams(count))
}

/// Every exchange is recorded with its bodies.
fn audited() -> String {
    upstreams(1)
}

fn upstreams(count: usize) -> String {
    let upstream = |name: &str, prefixes: &str| {
        format!(
            "  - name: {name}\n    base_url: http://{UPSTREAM}/v1\n    model_match: {{ type: prefix, value: [{prefixes}] }}\n"
        )
    };
    let others = (1..count).map(|index| upstream(&format!("other{index}"), &format!("other{index}-")));
    format!(
        "log: {{ access: false }}\nupstreams:\n{}{}",
        others.collect::<String>(),
        upstream("mock", "stream, mock")
    )
}

/// The same with a plugin that looks for thinking to the end of the stream.
fn think_strip() -> String {
    const PLUGIN: &str =
        "plugins:\n  - name: think-strip\n    source: builtin:think-strip\n    config: { anywhere: true }\n";
    configuration(1) + PLUGIN
}

/// What a flood came to.
struct Flooded {
    admitted: Quantiles,
    refused: Quantiles,
    refused_percent: f64,
    grown_bytes: f64,
}

impl Flooded {
    fn of(flood: load::Flood, grown_bytes: f64) -> Self {
        let (admitted, refused) = (flood.admitted_us.len() as f64, flood.refused_us.len() as f64);
        // The floor refuses nobody.
        let refused = if refused > 0.0 { refused } else { f64::NAN };
        Self {
            admitted: Quantiles::among(flood.admitted_us),
            refused: Quantiles::among(flood.refused_us),
            refused_percent: 100.0 * refused / (admitted + refused),
            grown_bytes,
        }
    }
}

struct Quantiles {
    p50_us: f64,
    p99_us: f64,
}

impl Quantiles {
    fn of(times: &[Times], value: impl Fn(&Times) -> f64) -> Self {
        Self::among(times.iter().map(value).collect())
    }

    /// Not a number where there is none.
    fn among(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values.get(place).copied().unwrap_or(f64::NAN);
        Self { p50_us: at(values.len() / 2), p99_us: at(values.len() * 99 / 100) }
    }

    fn minus(self, direct: Self) -> Self {
        Self { p50_us: self.p50_us - direct.p50_us, p99_us: self.p99_us - direct.p99_us }
    }
}

/// The rounds of both.
struct Samples<T> {
    floor: Vec<Sample<T>>,
    gateway: Vec<Sample<T>>,
}

impl<T> Samples<T> {
    fn medians(&self, value: impl Fn(&T) -> f64) -> Figures {
        let (floor, gateway) = (quiet_half(&self.floor), quiet_half(&self.gateway));
        Figures {
            floor: median(&floor, &value),
            gateway: median(&gateway, &value),
            disturbance: floor.iter().chain(&gateway).map(|sample| sample.disturbance).fold(0.0, f64::max),
        }
    }

    /// The first round: for memory, of which a process keeps some from round to round.
    fn firsts(&self, value: impl Fn(&T) -> f64) -> Figures {
        let (floor, gateway) = (&self.floor[0], &self.gateway[0]);
        let disturbance = floor.disturbance.max(gateway.disturbance);
        Figures { floor: value(&floor.value), gateway: value(&gateway.value), disturbance }
    }
}

/// One figure for each.
struct Figures {
    floor: f64,
    gateway: f64,
    disturbance: f64,
}

impl Figures {
    fn row(self, name: String, unit: Unit, target: Target) -> Row {
        Row { name, unit, floor: self.floor, gateway: self.gateway, target, disturbance: self.disturbance }
    }
}
