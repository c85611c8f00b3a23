//! What is recorded, where, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use crate::config::postgres::Postgres;

/// The record of every exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Whether anything is recorded. Default true.
    pub is_enabled: bool,
    /// The SQLite file, relative to the working folder. Default `witgate-data/record.db`.
    pub path: PathBuf,
    /// Whether requests and answers are kept, not only what is known of them. Default `full`.
    pub keeps_bodies: bool,
    /// The most that is kept of a request or an answer, in bytes. Default 1 MiB.
    pub body_max: u64,
    /// The most exchanges that run or wait to be written: each takes its place before it is dispatched. Default 65,536.
    pub queue: usize,
    /// The most bytes of bodies that wait to be written. Default 256 MiB.
    pub queue_bytes: u64,
    /// What happens when either is reached. Default `block`.
    pub on_full: OnFull,
    /// When a new file is begun, by the start of exchanges in UTC. Default `monthly`.
    pub rotate: Rotation,
    /// How long rows are kept; zero means for ever. Default zero.
    pub retention: Duration,
    /// The most bytes that all files together may have; zero means no bound. Default zero.
    pub size_max: u64,
    /// Headers whose values are hidden, besides those that always are. Default `authorization`.
    pub redact: Vec<HeaderName>,
    /// The database that takes the place of the file; `path`, `rotate` and `size_max` mean nothing then. Default none.
    pub postgres: Option<Postgres>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            is_enabled: true,
            path: PathBuf::from("witgate-data/record.db"),
            keeps_bodies: true,
            body_max: 1 << 20,
            queue: 65_536,
            queue_bytes: 256 << 20,
            on_full: OnFull::Block,
            rotate: Rotation::Monthly,
            retention: Duration::ZERO,
            size_max: 0,
            redact: vec![http::header::AUTHORIZATION],
            postgres: None,
        }
    }
}

/// What happens when the audit's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// New exchanges wait, and are refused after five seconds: nothing is lost.
    Block,
    /// Rows are dropped and counted.
    Drop,
}

impl OnFull {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Drop => "drop",
        }
    }
}

/// When the audit begins a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// With every month.
    Monthly,
    /// With every day.
    Daily,
    /// Never.
    Never,
}

impl Rotation {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Monthly => "monthly",
            Self::Daily => "daily",
            Self::Never => "never",
        }
    }
}

/// The log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines are written. Default `text`.
    pub format: LogFormat,
    /// Whether every exchange has a line. Default true.
    pub is_access: bool,
    /// How those lines are written. Default as `format`.
    pub access_format: LogFormat,
    /// The folder of log files, relative to the working folder; none writes to standard error.
    pub dir: Option<PathBuf>,
    /// The most bytes of one log file; zero means no bound. Default 100 MiB.
    pub size_max: u64,
    /// How long log files are kept.
    pub keep: LogKeep,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            is_access: true,
            access_format: LogFormat::Text,
            dir: None,
            size_max: 100 << 20,
            keep: LogKeep::default(),
        }
    }
}

/// For how many days log files are kept, the current one included; zero means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogKeep {
    /// Exchanges that went well. Default 10.
    pub info: u32,
    /// Exchanges that did not. Default 30.
    pub error: u32,
    /// What the gateway says of itself. Default 10.
    pub system: u32,
}

impl Default for LogKeep {
    fn default() -> Self {
        Self { info: 10, error: 30, system: 10 }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// JSON lines.
    Json,
}

impl LogFormat {
    /// Its word in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The export of traces by the OpenTelemetry protocol.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// Where a collector takes OTLP over HTTP, such as `http://127.0.0.1:4318`; none exports nothing.
    pub endpoint: Option<Uri>,
    /// Headers of every export.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of requests that are traced where the caller does not say, from 0 to 1. Default 1.
    pub sample: f64,
}

impl Default for Otlp {
    fn default() -> Self {
        Self { endpoint: None, headers: Vec::new(), sample: 1.0 }
    }
}

/// What metrics are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Whether the earlier systems' names are told, too. Default false.
    pub is_compat: bool,
}
