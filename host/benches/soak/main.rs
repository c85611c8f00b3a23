//! The soak: a gateway under steady load for half an hour, before upstreams that are killed, hang, reset, stall, refuse, fail and
//! break off at random. Prints memory and open files over time, and whether both stay flat.
//!
//! `cargo bench --bench soak` takes thirty minutes; `-- --minutes N` another time. It fails when memory or files grow faster in the
//! last third than their bounds, or when the gateway ends or stops to answer.

mod client;
#[expect(dead_code, reason = "the gateway's bench needs more of it")]
#[path = "../gateway/message.rs"]
mod message;
#[expect(dead_code, reason = "the gateway's bench needs more of it")]
#[path = "../gateway/process.rs"]
mod process;
mod trend;
mod upstream;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Tally;
use crate::process::Process;
use crate::trend::{Moment, Trend};
use crate::upstream::Upstream;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Clients that ask one after another, each with a pause of its own in between.
const CLIENTS: u64 = 40;
/// Upstreams with faults.
const UPSTREAMS: u64 = 3;
/// Between two looks at the gateway.
const SAMPLE_PAUSE: Duration = Duration::from_secs(5);
/// Looks for each line that is printed.
const SAMPLES_PER_LINE: usize = 12;
/// How many looks in a row may see no answer at all.
const SILENT_MAX: usize = 6;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = minutes(&arguments).and_then(|minutes| {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(soak(Duration::from_secs(minutes * 60)))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn minutes(arguments: &[String]) -> Result<u64> {
    match arguments {
        [] => Ok(30),
        [flag, minutes] if flag == "--minutes" => match minutes.parse() {
            Ok(minutes @ 1..=1440) => Ok(minutes),
            _ => Err(format!("`{minutes}` is no number of minutes from 1 to 1440").into()),
        },
        _ => Err("only `--minutes N` is understood".into()),
    }
}

/// Runs it; says whether memory and files were flat.
async fn soak(length: Duration) -> Result<bool> {
    let mut background = JoinSet::new();
    let mut addresses = Vec::new();
    for seed in 0..UPSTREAMS {
        let upstream = Upstream::bind(seed).await?;
        addresses.push(upstream.address);
        background.spawn(upstream.run());
    }
    let folder = TempDir::new()?;
    fs::write(folder.path().join("witgate.yaml"), configuration(&addresses))?;
    let arguments =
        ["serve", "--config", "witgate.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let gateway = Process::start(None, Path::new(env!("CARGO_BIN_EXE_witgate")), &arguments, folder.path())?;
    let tally = Arc::<Tally>::default();
    for seed in 0..CLIENTS {
        background.spawn(client::ask_on(gateway.address, seed, tally.clone()));
    }
    let trend = watch(&gateway, &tally, length).await?;
    background.abort_all();
    println!("\n{trend}");
    Ok(trend.is_flat())
}

async fn watch(gateway: &Process, tally: &Tally, length: Duration) -> Result<Trend> {
    println!("| minute | answers/s | 200 | refused or failed | broken off | memory (MB) | files |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    let start = Instant::now();
    let mut clock = interval(SAMPLE_PAUSE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let mut trend = Trend::default();
    let (mut before, mut silent) = (tally.sums(), 0);
    let mut last = before;
    for number in 1.. {
        clock.tick().await;
        let moment = Moment {
            minutes: start.elapsed().as_secs_f64() / 60.0,
            resident_bytes: gateway.resident_bytes()? as f64,
            files: files(gateway)? as f64,
        };
        trend.add(moment);
        let sums = tally.sums();
        silent = if sums.answers() == last.answers() { silent + 1 } else { 0 };
        last = sums;
        if silent >= SILENT_MAX {
            return Err("the gateway has stopped to answer".into());
        }
        if number % SAMPLES_PER_LINE == 0 {
            let since = sums.since(before);
            let seconds = (SAMPLE_PAUSE * SAMPLES_PER_LINE as u32).as_secs_f64();
            println!(
                "| {:.0} | {:.0} | {} | {} | {} | {:.1} | {} |",
                moment.minutes,
                since.answers() as f64 / seconds,
                since.complete,
                since.failed,
                since.broken,
                moment.resident_bytes / 1e6,
                moment.files
            );
            before = sums;
        }
        if start.elapsed() >= length {
            break;
        }
    }
    Ok(trend)
}

fn files(gateway: &Process) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", gateway.id()))?.count())
}

/// Everything is recorded; the timers are short, so that faults come and go quickly.
fn configuration(upstreams: &[std::net::SocketAddr]) -> String {
    let upstreams = upstreams.iter().enumerate().map(|(index, address)| {
        format!(
            "  - {{ name: mock{index}, base_url: \"http://{address}/v1\", timeouts: {{ connect: 1s, first_byte: 2s, idle: 2s }} }}\n"
        )
    });
    format!(
        "log: {{ access: false }}\nrouting: {{ strategy: random }}\nupstreams:\n{}",
        upstreams.collect::<String>()
    )
}

/// A small generator (SplitMix64), so that a run can be had again.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
