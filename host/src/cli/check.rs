//! `witgate check`: everything that is wrong with a configuration, and nothing else.

use std::path::Path;
use std::process::ExitCode;

use crate::config::env::Environment;
use crate::config::{self, Origin, Overrides};

/// Checks the configuration that `serve` would load: diagnostics go to standard error, the verdict to standard
/// output. Exits with 1 when there is an error.
pub(super) fn run(path: Option<&Path>, environment: &Environment) -> ExitCode {
    let origin = config::locate(path, environment);
    match config::load(&origin, environment, &Overrides::default()) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            println!("{}: ok ({})", name(&origin), counted(config.upstreams.len(), "upstream"));
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            eprint!("{diagnostics}");
            eprintln!("{}: {}", name(&origin), counted(diagnostics.errors_count(), "error"));
            ExitCode::FAILURE
        }
    }
}

fn name(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Embedded => "embedded default".to_owned(),
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
