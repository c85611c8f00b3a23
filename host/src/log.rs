//! What the gateway says of itself and of every exchange, to people and to programs that read logs.
//!
//! Two things are written. The **log** is what `tracing` is told, filtered by `RUST_LOG` or `LOG_LEVEL`: to standard error,
//! and with `log.dir` to `system.<date>.log` as well. The **access log** is one line an exchange: without `log.dir` to
//! standard error, where its JSON lines have the target `witgate::access` and its text lines begin with an address
//! instead of a time; with `log.dir` to `info.<date>.log`, or to `error.<date>.log` for what did not end well or with a
//! status from 400. On standard error the access log follows the filter under that name, at level `info`; files are there
//! to be complete and do not.
//!
//! Neither ever holds a prompt, an answer or a key, but for the token of a request that failed where
//! `LOG_FULL_TOKEN_ON_ERROR` asks for it. Nobody who has something to say waits for a file or for who reads standard
//! error: threads of their own write them, and what they have no room for is dropped and counted. Whoever ends the process
//! flushes first, so that last words are heard; panics are told by Rust itself, and at once.

mod access;
mod calendar;
mod files;
mod writer;

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::defaults::{log_filter, logs_full_token};
use crate::config::env::Environment;
use crate::config::{self, LogFormat};
use crate::error::{Blame, ErrorKind};
use crate::exchange::{Attempt, Exchange, Outcome, Tags};
use crate::log::access::{Entry, Stamp, bounded};
use crate::log::files::{Files, Kind, Limits};
use crate::log::writer::{Events, Place, Writer};

/// The name under which the access log is filtered and found.
const ACCESS_TARGET: &str = "witgate::access";

thread_local! {
    /// Memory for one line, used again and again.
    static SCRATCH: RefCell<(Stamp, Vec<u8>)> = RefCell::default();
}

/// The log of a process; clones are the same one.
#[derive(Clone)]
pub(crate) struct Log {
    /// None writes no access log.
    output: Option<Arc<Output>>,
    keeps_tokens: bool,
}

struct Output {
    console: Arc<Writer>,
    /// None without a folder.
    files: Option<Arc<Writer>>,
    /// One of [`Access`].
    access: AtomicU8,
    limits: Arc<Mutex<Limits>>,
}

/// How the access log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Off,
    Text,
    Json,
}

impl Access {
    fn of(settings: &config::Log) -> Self {
        match (settings.is_access, settings.access_format) {
            (false, _) => Self::Off,
            (true, LogFormat::Text) => Self::Text,
            (true, LogFormat::Json) => Self::Json,
        }
    }
}

impl Log {
    /// One without an access log and without files.
    pub(crate) fn off() -> Self {
        Self { output: None, keeps_tokens: false }
    }

    /// Opens the files, starts the thread that writes, and sends there what `tracing` is told from now on.
    ///
    /// # Errors
    ///
    /// A message when the files cannot be written.
    pub(crate) fn start(settings: &config::Log, environment: &Environment) -> Result<Self, String> {
        let limits = Arc::new(Mutex::new(Limits::of(settings)));
        let files = settings.dir.as_deref().map(|folder| open(folder, settings)).transpose()?;
        let unusable = |error| format!("the log cannot be written: {error}");
        let files = files.map(|files| write_files(files, limits.clone())).transpose().map_err(unusable)?;
        let console = Writer::start("log", |_, lines| io::stderr().write_all(lines)).map_err(unusable)?;
        let events = Events { writer: console.clone(), place: Place::Console };
        let system = files.clone().map(|writer| Events { writer, place: Place::File(Kind::System) });
        subscribe(settings.format, &log_filter(environment), events, system);
        let keeps_tokens = logs_full_token(environment);
        if keeps_tokens {
            tracing::warn!("LOG_FULL_TOKEN_ON_ERROR is set: the log shows the tokens of requests that fail");
        }
        let access = AtomicU8::new(Access::of(settings) as u8);
        Ok(Self { output: Some(Arc::new(Output { console, files, access, limits })), keeps_tokens })
    }

    /// Takes over what may change while the gateway runs: whether and how there is an access log, and the bounds of
    /// files.
    pub(crate) fn configure(&self, settings: &config::Log) {
        let Some(output) = &self.output else { return };
        output.access.store(Access::of(settings) as u8, Ordering::Relaxed);
        *output.limits.lock().expect(UNPOISONED) = Limits::of(settings);
    }

    /// Whether an exchange is to remember the token it came with.
    pub(crate) fn keeps_tokens(&self) -> bool {
        self.keeps_tokens
    }

    /// How many lines came faster than they could be written, or could not be written at all.
    pub(crate) fn lost(&self) -> u64 {
        self.output.as_ref().map_or(0, |output| output.writers().map(Writer::lost).sum())
    }

    /// Waits until everything is written, but not longer than `time_max`.
    pub(crate) fn flush(&self, time_max: Duration) {
        let deadline = Instant::now() + time_max;
        if let Some(output) = &self.output {
            output.writers().for_each(|writer| writer.flush(deadline));
        }
    }

    /// Writes down an exchange that is over.
    pub(crate) fn record(&self, exchange: &Exchange) {
        tell(exchange);
        if let Some(token) = &exchange.token {
            tell_token(exchange, token.expose());
        }
        if let Some(output) = &self.output {
            output.record(exchange);
        }
    }
}

impl Output {
    /// Those that keep what they write first.
    fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.files.iter().chain([&self.console]).map(|writer| &**writer)
    }

    fn record(&self, exchange: &Exchange) {
        let access = self.access.load(Ordering::Relaxed);
        if access == Access::Off as u8 || exchange.passes_by() {
            return;
        }
        if self.files.is_none() && !tracing::enabled!(target: ACCESS_TARGET, tracing::Level::INFO) {
            return;
        }
        let fault = fault(exchange);
        let entry = entry(exchange, fault.as_deref());
        let (writer, place) = match (&self.files, entry.status < 400 && entry.error.is_none()) {
            (None, _) => (&self.console, Place::Console),
            (Some(files), true) => (files, Place::File(Kind::Info)),
            (Some(files), false) => (files, Place::File(Kind::Error)),
        };
        // An exchange that ends while its thread does has no memory to be written in, and nobody to read of it.
        let _ = SCRATCH.try_with(|scratch| {
            let (stamp, line) = &mut *scratch.borrow_mut();
            line.clear();
            if access == Access::Json as u8 {
                entry.write_json(stamp, line);
            } else {
                entry.write_text(stamp, line);
            }
            writer.push(place, line);
        });
    }
}

const UNPOISONED: &str = "no code panics while it holds this lock";

fn open(folder: &Path, settings: &config::Log) -> Result<Files, String> {
    Files::open(folder, Limits::of(settings), SystemTime::now()).map_err(|error| {
        let folder = folder.display();
        format!("cannot write log files in `{folder}`: {error}; make it writable for this user or change `log.dir`")
    })
}

/// Starts the thread that writes to files.
fn write_files(mut files: Files, limits: Arc<Mutex<Limits>>) -> io::Result<Arc<Writer>> {
    Writer::start("log files", move |place, lines| match place {
        Place::File(kind) => {
            files.limit(*limits.lock().expect(UNPOISONED));
            files.write(kind, lines, SystemTime::now())
        }
        Place::Console => io::stderr().write_all(lines),
    })
}

/// Sends what `tracing` is told to standard error, and to the system file if there is one.
fn subscribe(format: LogFormat, filter: &str, console: Events, system: Option<Events>) {
    let (known, unreadable) = match EnvFilter::try_new(filter) {
        Ok(known) => (known, None),
        Err(error) => (EnvFilter::new("info"), Some(error.to_string())),
    };
    let console = layer(format, console, io::stderr().is_terminal());
    let system = system.map(|system| layer(format, system, false));
    tracing_subscriber::registry().with(known).with(console).with(system).init();
    if let Some(error) = unreadable {
        tracing::warn!(filter, error, "`RUST_LOG` cannot be read, the filter is `info`; correct it");
    }
}

fn layer<S, W>(format: LogFormat, writer: W, has_colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer =
        tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(has_colours).with_target(false);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// What a line of the access log says of an exchange.
fn entry<'a>(exchange: &'a Exchange, fault: Option<&'a str>) -> Entry<'a> {
    let took = exchange.elapsed();
    Entry {
        at: exchange.started_at + took,
        took,
        id: exchange.id.to_str().unwrap_or("-"),
        client: exchange.client,
        method: exchange.method.as_str(),
        target: &exchange.target,
        user_agent: exchange.user_agent.as_ref().map(|value| value.as_bytes()),
        status: status(exchange),
        bytes: exchange.response_len,
        endpoint: exchange.endpoint,
        model: exchange.model.as_deref(),
        upstream: exchange.attempts.last().map(|attempt| &*attempt.upstream),
        attempts: exchange.attempts.len(),
        outcome: exchange.outcome_word(),
        error: fault,
        first_token: exchange.first_token,
        usage: exchange.usage,
        caller: exchange.caller.as_deref(),
        key: exchange.key.as_deref(),
        tenant: exchange.tenant.as_deref(),
        labels: &exchange.tags,
    }
}

/// The status that stands for how an exchange ended.
fn status(exchange: &Exchange) -> u16 {
    match (exchange.outcome(), exchange.status) {
        (Outcome::Cancelled, _) => ErrorKind::Cancelled.status().as_u16(),
        (Outcome::Complete | Outcome::Failed(_), status) => status.map_or(0, |status| status.as_u16()),
    }
}

/// Tells the story of an exchange: in one line, and at a level that says who has to care. Texts are cut as those of the
/// access log are.
fn tell(exchange: &Exchange) {
    let id = exchange.id.to_str().unwrap_or("-");
    macro_rules! line {
        ($level:ident, $($field:tt)*) => {
            tracing::$level!(
                id,
                endpoint = exchange.endpoint,
                model = &*bounded(exchange.model.as_deref().unwrap_or("-")),
                upstream = exchange.attempts.last().map_or("-", |attempt| &*attempt.upstream),
                status = exchange.status.map_or(0, |status| status.as_u16()),
                attempts = exchange.attempts.len(),
                duration_ms = in_ms(exchange.elapsed()),
                caller = exchange.caller.as_deref().map(bounded).as_deref(),
                labels = in_words(&exchange.tags).as_deref().map(bounded).as_deref(),
                $($field)*
            )
        };
    }
    match (exchange.outcome(), fault(exchange)) {
        (Outcome::Cancelled, _) => line!(info, kind = ErrorKind::Cancelled.code(), "client left"),
        (outcome, Some(fault)) => {
            let error = match outcome {
                Outcome::Failed(error) => Some(error),
                Outcome::Complete | Outcome::Cancelled => None,
            };
            let kind = error.map(|error| error.kind.code());
            let cause = error.and_then(|error| Some(error.source.as_ref()?.to_string())).unwrap_or_default();
            let tried = tried(exchange);
            let (cause, tried) = (&*bounded(&cause), &*bounded(&tried));
            // As a string: only such are quoted and escaped, and clients have a say in the words.
            let error = &*bounded(&fault);
            if exchange.outcome_word() == "failed" {
                line!(warn, kind, error, cause, tried, "request failed");
            } else {
                line!(info, kind, error, cause, tried, "request refused");
            }
        }
        (_, None) => line!(
            debug,
            tokens_in = exchange.usage.unwrap_or_default().input,
            tokens_out = exchange.usage.unwrap_or_default().output,
            first_token_ms = exchange.first_token.map(in_ms),
            "request complete"
        ),
    }
}

/// What was wrong, in words; an upstream's no that was passed on is wrong, too.
fn fault(exchange: &Exchange) -> Option<Cow<'_, str>> {
    match (exchange.outcome(), exchange.status) {
        (Outcome::Failed(error), _) => Some(error.message.as_str().into()),
        (Outcome::Cancelled, _) => Some("the client left".into()),
        // A page for probes says no without being wrong.
        (Outcome::Complete, _) if exchange.passes_by() || exchange.outcome_word() == "complete" => None,
        (Outcome::Complete, None) => None,
        (Outcome::Complete, Some(status)) => {
            // Of several that failed it may be an earlier one whose answer the client was sent.
            let is_upstreams = exchange.attempts.iter().any(|attempt| attempt.status == Some(status));
            let who = if is_upstreams { "the upstream" } else { "a plugin" };
            Some(format!("{who} answered {}", status.as_u16()).into())
        }
    }
}

/// Shows the token of a request that failed for it or at an upstream, for somebody who asked to see such.
fn tell_token(exchange: &Exchange, token: &str) {
    let status = status(exchange);
    let is_upstreams = match exchange.outcome() {
        Outcome::Failed(error) => error.kind.blame() == Blame::Upstream,
        Outcome::Complete => status >= 400,
        Outcome::Cancelled => false,
    };
    if is_upstreams || matches!(status, 401 | 403) {
        let id = exchange.id.to_str().unwrap_or("-");
        tracing::warn!(id, status, token, "the token of a request that failed");
    }
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The attempts in words.
fn tried(exchange: &Exchange) -> String {
    exchange.attempts.iter().map(in_short).collect::<Vec<_>>().join(", ")
}

fn in_short(attempt: &Attempt) -> String {
    let end = match (&attempt.status, &attempt.error) {
        (Some(status), _) => format!("status {}", status.as_u16()),
        (None, Some(error)) => error.kind.code().to_owned(),
        (None, None) => "aborted".to_owned(),
    };
    format!("{}: {end} after {} ms", attempt.upstream, attempt.took.as_millis())
}

/// All labels in one line; none if there are none.
fn in_words(tags: &Tags) -> Option<String> {
    let words: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!words.is_empty()).then(|| words.join(" "))
}
