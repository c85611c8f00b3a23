//! `witgate check`: everything that is wrong with a configuration, and nothing else.

use std::path::Path;
use std::process::ExitCode;

use crate::config::env::Environment;
use crate::config::{self, Config, Origin, Overrides};
use crate::plugin::{Loaded, Runtime};

/// Checks the configuration that `serve` would load: diagnostics go to standard error, the verdict to standard
/// output. Exits with 1 when there is an error.
pub(super) fn run(path: Option<&Path>, environment: &Environment) -> ExitCode {
    let origin = config::locate(path, environment);
    match config::load(&origin, environment, &Overrides::default()) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            if let Err(problems) = load_plugins(&config) {
                eprintln!("{problems}");
                eprintln!("{}: {}", name(&origin), counted(problems.lines().count(), "error"));
                return ExitCode::FAILURE;
            }
            let mut found = counted(config.upstreams.len(), "upstream");
            if !config.plugins.is_empty() {
                found = format!("{found}, {}", counted(config.plugins.len(), "plugin"));
            }
            if let Some(keys) = &config.keys {
                found = format!("{found}, {}", counted(keys.all.len(), "key"));
            }
            println!("{}: ok ({found})", name(&origin));
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            eprint!("{diagnostics}");
            eprintln!("{}: {}", name(&origin), counted(diagnostics.errors_count(), "error"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the plugins as `serve` would: compiled, held against contract, grants and schema, and tried out.
fn load_plugins(config: &Config) -> Result<(), String> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot start: {error}"))?;
    let _inside = runtime.enter();
    Loaded::new(config, None, &Runtime::default()).map(drop)
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
