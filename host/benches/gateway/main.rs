//! The gateway beside the floor, a bare hyper reverse proxy, in one run: what a request and a streamed event cost in CPU time, what latency
//! is added, what memory is held. Prints a Markdown table of ratios; seconds differ from machine to machine, ratios within a run hold.
//!
//! `cargo bench --bench gateway` takes about four minutes. After `--`: `--quick` (under a minute, rougher), `--only NAME` (one part, may be
//! repeated), `--noise` (the floor in the place of the gateway: every ratio should be 1, what differs is what the machine adds).
//!
//! This executable starts itself as the floor (`floor ADDRESS`) and as the upstream (`mock`), and plays the load itself. With two CPUs the
//! floor and the gateway have the first for themselves, load and upstream the others. Every answer's status and length are checked.

mod floor;
#[expect(dead_code, reason = "the bench of plugins needs more of it")]
mod load;
mod message;
mod mock;
mod parts;
#[expect(dead_code, reason = "the bench of plugins needs more of it")]
mod process;
#[expect(dead_code, reason = "the bench of plugins needs more of it")]
mod sample;
mod table;

use std::process::ExitCode;

use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::parts::{Bench, Part};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The gateway's allocator, so that the ratios show the gateway's work and not an allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &[&str]) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    match arguments {
        ["floor", upstream] => runtime.block_on(floor::serve(upstream.parse()?)),
        ["mock"] => runtime.block_on(mock::serve()),
        _ => {
            let (bench, parts) = options(arguments)?;
            runtime.block_on(bench.run(&parts))
        }
    }
}

fn options(arguments: &[&str]) -> Result<(Bench, Vec<Part>)> {
    let (mut is_quick, mut is_noise, mut parts) = (false, false, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            // Cargo says so to every bench.
            "--bench" => {}
            "--quick" => is_quick = true,
            "--noise" => is_noise = true,
            "--only" => parts.push(Part::named(arguments.next().copied().unwrap_or_default())?),
            _ => return Err(format!("`{argument}` is none of `--quick`, `--noise`, `--only NAME`").into()),
        }
    }
    if parts.is_empty() {
        parts = Part::ALL.to_vec();
    }
    Ok((Bench::new(is_quick, is_noise)?, parts))
}

/// Tells the parent where to connect, in the gateway's own words.
pub(crate) fn announce(listener: &TcpListener) -> Result<()> {
    println!("listening on http://{}", listener.local_addr()?);
    Ok(())
}
