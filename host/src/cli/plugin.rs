//! `witgate plugin`: what authors and operators of plugins do before a gateway runs them.

mod about;
mod bench;
mod build;
mod check;
mod example;
mod new;
pub(in crate::cli) mod run;
mod trial;

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::builtin;
use crate::config::HOOKS;
use crate::config::env::Environment;

/// The subcommands of `plugin`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a plugin that builds, passes its tests and loads
    New(NewArguments),
    /// Compile a plugin, and say how to load it
    Build {
        /// Folder of the plugin's crate
        #[arg(value_name = "DIR", default_value = ".")]
        folder: PathBuf,
        /// Where to put the component [default: DIR/NAME.wasm]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show what a component is: hooks, imports, configuration
    Inspect {
        /// Component, or `builtin:NAME`
        #[arg(value_name = "FILE")]
        source: String,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Load a plugin as the gateway would, and say what is wrong
    Check(TrialArguments),
    /// Send one request through a gateway with the plugin, and print what the client would see
    Run(RunArguments),
    /// Measure what the plugin costs
    Bench {
        #[command(flatten)]
        trial: TrialArguments,
        /// Calls of each row
        #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        iterations: u32,
    },
}

/// What a new plugin is to be.
#[derive(Args, Debug)]
pub struct NewArguments {
    /// Its name: lowercase letters, digits and `-`
    pub name: String,
    /// Hook to begin with; may be repeated [default: on-request]
    #[arg(long = "hook", value_name = "HOOK", value_parser = PossibleValuesParser::new(HOOKS))]
    pub hooks: Vec<String>,
    /// Folder to write to [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Folder or version of the SDK to use [default: a copy beside the plugin]
    #[arg(long, value_name = "PATH|VERSION")]
    pub sdk: Option<String>,
}

/// Which plugin to load, and how.
#[derive(Args, Debug)]
pub struct TrialArguments {
    /// Component, or `builtin:NAME`
    #[arg(value_name = "FILE")]
    pub source: String,
    // It takes the place of the gateway's own flag, and has to be of its type.
    /// The plugin's configuration: JSON, or `@` and a file with it [default: {}]
    #[arg(long, value_name = "JSON|@FILE")]
    pub config: Option<PathBuf>,
    /// What it is granted, as under `allow` in a configuration: `kv: 1MiB`; may be repeated
    #[arg(long, value_name = "GRANT")]
    pub allow: Vec<String>,
}

/// Which request to send, and what the upstream answers.
#[derive(Args, Debug)]
pub struct RunArguments {
    #[command(flatten)]
    pub trial: TrialArguments,
    /// JSON file with the request's body
    #[arg(long, value_name = "FILE")]
    pub request: PathBuf,
    /// File with server-sent events that the upstream answers with [default: it echoes]
    #[arg(long, value_name = "FILE", conflicts_with = "answer")]
    pub stream: Option<PathBuf>,
    /// JSON file that the upstream answers with [default: it echoes]
    #[arg(long, value_name = "FILE")]
    pub answer: Option<PathBuf>,
    /// The status that the upstream answers with [default: 200]
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: Option<u16>,
    /// Header of the request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Path of the request [default: by its body]
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
}

/// Does what a subcommand says.
///
/// # Errors
///
/// A message for the author, with what to do next.
pub(super) fn run(command: &PluginCommand, environment: &Environment) -> Result<(), String> {
    match command {
        PluginCommand::New(arguments) => new::run(arguments),
        PluginCommand::Build { folder, out } => build::run(folder, out.as_deref()),
        PluginCommand::Inspect { source, json } => about::run(source, *json),
        PluginCommand::Check(trial) => check::run(trial, environment),
        PluginCommand::Run(arguments) => run::run(arguments, environment),
        PluginCommand::Bench { trial, iterations } => bench::run(trial, *iterations, environment),
    }
}

/// Reads a component: a file, or what `builtin:NAME` names.
fn component(source: &str) -> Result<Vec<u8>, String> {
    match source.strip_prefix("builtin:") {
        Some(name) => builtin::component(name).map(<[u8]>::to_vec).ok_or_else(|| {
            let names: Vec<String> = builtin::names().map(|name| format!("`builtin:{name}`")).collect();
            format!("there is no built-in plugin `{name}`; known are {}", names.join(", "))
        }),
        None => read(Path::new(source)),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("`{}` cannot be read: {error}", path.display()))
}
