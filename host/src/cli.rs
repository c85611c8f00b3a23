//! The command line: what was asked for, and who does it.

pub mod audit;
mod check;
pub mod explain;
mod health;
pub mod keys;
pub mod plugin;
mod serve;
pub mod simulate;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use http::Uri;

use crate::config::env::Environment;
use crate::config::{self, Input, Overrides};
use crate::wire::{Endpoint, convert};

/// Parses the arguments of the process and does what they say; without a subcommand, serves.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = arguments.flags_stand_where_they_count() {
        error.exit();
    }
    let environment = Environment::capture();
    let path = arguments.config.as_deref();
    let done = match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Check => return check::run(path, &environment),
        Command::Serve(serve) => serve::run(Input {
            origin: config::locate(path, &environment),
            environment,
            overrides: serve.overrides(),
        }),
        Command::Explain { dialects: true, markdown, .. } => {
            print!("{}", if markdown { convert::markdown() } else { convert::explain() });
            Ok(())
        }
        Command::Explain { request, endpoint, model, tenant, key, .. } => {
            let request = request.expect("clap requires it without --dialects");
            let asked = explain::Asked {
                endpoint,
                model: model.as_deref(),
                tenant: tenant.as_deref(),
                key: key.as_deref(),
            };
            explain::run(path, &environment, &request, &asked)
        }
        Command::Health { url } => health::run(path, &environment, url),
        Command::Simulate { trace, nodes, blocks, json } => simulate::run(&trace, nodes, blocks, json),
        Command::Audit { command } => return audit::run(&command, path, &environment),
        Command::Keys { command } => keys::run(&command, path, &environment),
        Command::Plugin { command } => plugin::run(&command, &environment),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "witgate",
    version,
    about = "A language-model gateway that operators extend with WebAssembly components"
)]
pub struct Arguments {
    /// Configuration file [default: $WITGATE_CONFIG, else ./witgate.yaml, else the embedded default]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do; `serve` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of `serve`, which may stand without its name.
    #[command(flatten)]
    pub serve: ServeArguments,
}

impl Arguments {
    /// Refuses flags of `serve` in front of a subcommand, where nobody would read them.
    fn flags_stand_where_they_count(&self) -> Result<(), clap::Error> {
        if self.command.is_none() || self.serve == ServeArguments::default() {
            return Ok(());
        }
        let message =
            "the flags of `serve` stand behind `serve`; `--config` alone may stand before a subcommand";
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve requests (the default)
    Serve(ServeArguments),
    /// Print everything that is wrong with the configuration
    Check,
    /// Show which upstreams a request would go to, and why; or what becomes of it between dialects
    Explain {
        /// JSON file with the request's body
        #[arg(long, value_name = "FILE", required_unless_present = "dialects")]
        request: Option<PathBuf>,
        /// Show what each dialect cannot say, and what is done about it
        #[arg(long, conflicts_with_all = ["request", "endpoint", "model", "tenant", "key"])]
        dialects: bool,
        /// Print that as a page of Markdown
        #[arg(long, requires = "dialects")]
        markdown: bool,
        /// Where the request is posted, by the audit's name for it, as `gemini.generate_content` [default: guessed]
        #[arg(long, value_parser = explain::endpoint)]
        endpoint: Option<Endpoint>,
        /// Model, for a request that has it in its path
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        /// Tenant that asks [default: the key's]
        #[arg(long)]
        tenant: Option<String>,
        /// Name of the key that asks
        #[arg(long, value_name = "NAME")]
        key: Option<String>,
    },
    /// Ask a running gateway whether it is ready; exits with 0 when it is
    Health {
        /// Page to ask for [default: `/readyz` of the configuration's admin listener]
        #[arg(long, value_name = "URL")]
        url: Option<Uri>,
    },
    /// Replay a trace of conversations and print the cache hits and the balance of each strategy
    Simulate {
        /// JSON lines with the trace
        #[arg(long, value_name = "FILE")]
        trace: PathBuf,
        /// Number of upstreams
        #[arg(long, default_value_t = 8)]
        nodes: usize,
        /// Blocks that fit each upstream's cache
        #[arg(long, default_value_t = 3000)]
        blocks: usize,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Find, follow, export and send again what was recorded
    Audit {
        /// What to do
        #[command(subcommand)]
        command: Box<audit::AuditCommand>,
    },
    /// Make, list and revoke the keys of callers
    Keys {
        /// What to do
        #[command(subcommand)]
        command: Box<keys::KeysCommand>,
    },
    /// Write, build, look into, try out and measure plugins
    Plugin {
        /// What to do
        #[command(subcommand)]
        command: plugin::PluginCommand,
    },
}

/// The flags of `serve`; they beat the file and the environment.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ServeArguments {
    /// Address of the main listener [default: 127.0.0.1:8000]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Address of the admin listener [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<SocketAddr>,
    /// Port of the main listener
    #[arg(long, value_name = "PORT", conflicts_with = "listen")]
    pub proxy_port: Option<u16>,
    /// Port of the admin listener
    #[arg(long, value_name = "PORT", conflicts_with = "admin")]
    pub metrics_port: Option<u16>,
    /// Host of the OpenAI upstream when there is no configuration file
    #[arg(long, value_name = "HOST")]
    pub openai_domain: Option<String>,
    /// Port of that upstream
    #[arg(long, value_name = "PORT")]
    pub openai_port: Option<u16>,
    /// Whether that upstream speaks TLS
    #[arg(long, value_name = "BOOL", value_parser = BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true")]
    pub openai_tls: Option<bool>,
}

impl ServeArguments {
    /// What the flags change in a configuration.
    pub fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen,
            admin: self.admin,
            proxy_port: self.proxy_port,
            metrics_port: self.metrics_port,
            openai_domain: self.openai_domain.clone(),
            openai_port: self.openai_port,
            openai_tls: self.openai_tls,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split_whitespace()).unwrap()
    }

    #[track_caller]
    fn serve(line: &str) -> Overrides {
        let arguments = parse(line);
        match arguments.command {
            None => arguments.serve.overrides(),
            Some(Command::Serve(serve)) => serve.overrides(),
            Some(other) => panic!("`{line}` is {other:?}"),
        }
    }

    #[test]
    fn serving_is_what_happens_without_a_subcommand() {
        let listen = Some("127.0.0.1:1".parse().unwrap());
        assert_eq!(serve("witgate --listen 127.0.0.1:1").listen, listen);
        assert_eq!(serve("witgate serve --listen 127.0.0.1:1").listen, listen);
    }

    // parity: 49
    #[test]
    fn the_earlier_systems_flags_are_understood() {
        let overrides = serve(
            "witgate --proxy-port 1 --metrics-port 2 --openai-domain a.example --openai-port 3 --openai-tls false",
        );
        assert_eq!((overrides.proxy_port, overrides.metrics_port), (Some(1), Some(2)));
        assert_eq!(overrides.openai_domain.as_deref(), Some("a.example"));
        assert_eq!((overrides.openai_port, overrides.openai_tls), (Some(3), Some(false)));
        assert_eq!(serve("witgate --openai-tls").openai_tls, Some(true));
    }

    #[test]
    fn the_configuration_may_stand_on_either_side_of_the_subcommand() {
        assert_eq!(parse("witgate --config a.yaml check").config, Some("a.yaml".into()));
        assert_eq!(parse("witgate check --config a.yaml").config, Some("a.yaml".into()));
    }

    #[test]
    fn simulate_has_the_defaults_of_the_published_numbers() {
        let Some(Command::Simulate { nodes, blocks, json, .. }) = parse("witgate simulate --trace t").command
        else {
            panic!("not a simulation");
        };
        assert_eq!((nodes, blocks, json), (8, 3000, false));
    }

    #[test]
    fn a_flag_that_would_be_ignored_is_refused() {
        assert!(parse("witgate --listen 127.0.0.1:1 serve").flags_stand_where_they_count().is_err());
        assert!(parse("witgate --listen 127.0.0.1:1").flags_stand_where_they_count().is_ok());
        assert!(parse("witgate --config a.yaml check").flags_stand_where_they_count().is_ok());
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }
}
