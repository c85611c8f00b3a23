//! What plugins cost: each hook as a no-op and each first-party plugin, for a request, an event and an open stream; in fresh and in reused
//! instances, alone and in chains. Prints Markdown tables.
//!
//! `cargo bench --bench plugins` takes about ten minutes. After `--`: `--quick` (below four, rougher), `--only NAME` (one part, may be
//! repeated).
//!
//! Every figure is of a whole gateway, beside one without plugins that took turns with it: CPU time of the process over work done, and what
//! that is more. The clock is what the gateway itself says of its calls, on `/admin/plugins`. Floor, load and upstream are the gateway
//! bench's.

#[path = "../gateway/floor.rs"]
mod floor;
#[expect(dead_code, reason = "the gateway's bench needs more of it")]
#[path = "../gateway/load.rs"]
mod load;
#[path = "../gateway/message.rs"]
mod message;
#[path = "../gateway/mock.rs"]
mod mock;
#[expect(dead_code, reason = "the gateway's bench needs more of it")]
#[path = "../gateway/process.rs"]
mod process;
#[expect(dead_code, reason = "the gateway's bench needs more of it")]
#[path = "../gateway/sample.rs"]
mod sample;

mod lineup;
mod noop;
mod parts;
mod subject;
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
    let (mut is_quick, mut parts) = (false, Vec::new());
    let mut arguments = arguments.iter();
    while let Some(&argument) = arguments.next() {
        match argument {
            // The first is what cargo says to every bench, the second is the other bench's.
            "--bench" | "--noise" => {}
            "--quick" => is_quick = true,
            "--only" => parts.push(Part::named(arguments.next().copied().unwrap_or_default())?),
            _ => return Err(format!("`{argument}` is none of `--quick`, `--only NAME`").into()),
        }
    }
    if parts.is_empty() {
        parts = Part::ALL.to_vec();
    }
    Ok((Bench::new(is_quick)?, parts))
}

/// Tells the parent where to connect, in the gateway's own words.
pub(crate) fn announce(listener: &TcpListener) -> Result<()> {
    println!("listening on http://{}", listener.local_addr()?);
    Ok(())
}
