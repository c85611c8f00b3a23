//! What is counted of everything, and the page that tells it.
//!
//! ```text
//! catalog     every metric with its labels and its help
//! names       which values labels may have: bounded, whatever clients send
//! series      what is counted of exchanges; histogram: values by bucket
//! window      the last minute, second by second
//! page        everything gathered at one moment; compat: the earlier systems' names for it; process: what /proc says
//! text        the page in Prometheus's text or in OpenMetrics
//! stats       the same numbers as JSON
//! ```
//!
//! An exchange is counted once, at its end, by [`Metrics::record`]; what there is at a moment (upstreams, plugins, the
//! audit) is looked up when the page is asked for. What is no request for a model (the admin
//! listener, health pages, preflights, the metrics themselves) is not counted, nor does it show as running.

pub(crate) mod catalog;
pub(crate) mod compat;
pub(crate) mod histogram;
mod names;
mod page;
mod process;
mod series;
mod stats;
mod text;
mod window;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::chat::Usage;
use crate::config::Config;
use crate::error::{Blame, ErrorKind, Result};
use crate::exchange::{Activity, Attempt, Exchange, Outcome};
use crate::gateway::{Gateway, defect};
use crate::metrics::names::{Id, Known, Names, OTHER};
use crate::metrics::series::{Facts, Key, Place, Series};
use crate::metrics::text::Format;
use crate::metrics::window::{Ended, Window};

/// The status of an exchange whose client left before there was an answer. Source: nginx.
const CLIENT_LEFT: u16 = 499;
/// The statuses that there are, and those below.
const STATUSES: usize = 1000;

/// Pages that are put together at once: each keeps a processor busy.
const PAGES_MAX: usize = 1;

/// What is counted since the start.
pub(crate) struct Metrics {
    names: ArcSwap<Names>,
    /// Held by who changes `names`.
    changing: Mutex<()>,
    series: Series,
    /// By kind; there are as many as there are kinds of errors.
    errors: Mutex<BTreeMap<String, Errors>>,
    totals: Totals,
    window: Window,
    connections: [Arc<AtomicUsize>; 2],
    config_hash: Mutex<String>,
    /// The places of pages that are put together.
    pages: Arc<Semaphore>,
}

/// Failed exchanges of one kind.
struct Errors {
    blame: &'static str,
    count: u64,
}

/// Sums over everything, which stay when names go.
struct Totals {
    requests: AtomicU64,
    /// Ended well.
    success: AtomicU64,
    /// Did not end well, though the client stayed.
    error: AtomicU64,
    /// Of these, those that took an upstream too long.
    timeout: AtomicU64,
    /// Attempts beyond the first one.
    retry: AtomicU64,
    /// Asked for a stream.
    streaming: AtomicU64,
    /// Attempts that an upstream failed.
    upstream_errors: AtomicU64,
    nanoseconds: AtomicU64,
    /// Input, output, cached, reasoning.
    tokens: [AtomicU64; 4],
    by_status: Box<[AtomicU64]>,
}

/// Which side a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    /// The clients'.
    Main,
    /// The operators'.
    Admin,
}

/// Counts as an open connection until it is dropped.
pub(crate) struct Connected(Arc<AtomicUsize>);

impl Metrics {
    /// Nothing counted yet, and no name known: until [`Self::configure`] every model and upstream is `other`.
    pub(crate) fn new() -> Self {
        Self {
            names: ArcSwap::from_pointee(Names::default()),
            changing: Mutex::default(),
            series: Series::default(),
            errors: Mutex::default(),
            totals: Totals::new(),
            window: Window::new(),
            connections: [Arc::default(), Arc::default()],
            config_hash: Mutex::default(),
            pages: Arc::new(Semaphore::new(PAGES_MAX)),
        }
    }

    /// Takes the names of a configuration, at the start and at every reload. The series of names that it lacks go.
    pub(crate) fn configure(&self, config: &Config) {
        let hash = config.fingerprint();
        *self.config_hash.lock().expect("no code panics while it holds this lock") = format!("{hash:016x}");
        let _one_at_a_time = self.changing();
        let names = self.names.load().under(config);
        self.series.retain(&names);
        self.names.store(Arc::new(names));
    }

    /// Counts an open connection.
    pub(crate) fn connected(&self, listener: Listener) -> Connected {
        let count = &self.connections[listener as usize];
        count.fetch_add(1, Ordering::Relaxed);
        Connected(count.clone())
    }

    /// Counts an exchange that is over. Takes well under a microsecond and waits for nobody.
    pub(crate) fn record(&self, exchange: &Exchange) {
        if exchange.passes_by() {
            return;
        }
        let endpoint = endpoint_label(exchange.endpoint);
        let duration = exchange.elapsed();
        let names = self.names.load();
        let upstream = self.count_attempts(&names, &exchange.attempts);
        let model = self.model(&names, exchange);
        let outcome = exchange.outcome_word();
        let status = exchange.status.map_or(CLIENT_LEFT, |status| status.as_u16());
        let is_whole = exchange.status.is_some_and(|status| status.is_success()) && outcome == "complete";
        let place = Place { endpoint, model, upstream: names.upstream_id(upstream) };
        let key = Key { place, status, outcome, is_stream: exchange.is_stream };
        let usage = exchange.usage;
        self.series.count(
            key,
            &Facts {
                duration,
                overhead: exchange.status.map(|_| exchange.overhead),
                first_token: exchange.first_token,
                gaps: &exchange.gaps,
                usage,
                cost: exchange.cost.unwrap_or(0),
                lacks_usage: is_whole && has_usage(endpoint) && usage.is_none_or(|usage| usage.is_estimated),
                is_moved: is_whole && is_moved(&exchange.attempts),
            },
        );
        let is_left = outcome == "cancelled";
        let is_error = !is_left && outcome != "complete";
        if outcome != "complete" {
            self.count_error(exchange, outcome);
        }
        self.totals.count(exchange, duration.as_nanos(), status, outcome);
        let tokens = usage.map_or(0, |usage| usage.output);
        let ended = Ended { is_error, is_left, tokens, first_token: exchange.first_token, duration };
        self.window.count(exchange.started() + duration, ended);
    }

    /// Counts the attempts, and says who was asked last.
    fn count_attempts<'a>(&self, names: &'a Names, attempts: &[Attempt]) -> Option<&'a Known> {
        let mut before: Option<(&Attempt, &Known)> = None;
        for attempt in attempts {
            let known = match before {
                Some((last, known)) if last.upstream == attempt.upstream => {
                    known.counts.retries.fetch_add(1, Ordering::Relaxed);
                    known
                }
                before => {
                    if let Some((_, known)) = before {
                        known.counts.failovers.fetch_add(1, Ordering::Relaxed);
                    }
                    names.upstream(&attempt.upstream)
                }
            };
            known.counts.count(attempt);
            if names::is_failure(attempt) {
                self.totals.upstream_errors.fetch_add(1, Ordering::Relaxed);
            }
            before = Some((attempt, known));
        }
        before.map(|(_, known)| known)
    }

    /// The model as a label; learns its name if an upstream took it.
    fn model(&self, names: &Names, exchange: &Exchange) -> Id {
        let (id, is_known) = names.model(exchange.model.as_deref());
        let is_taken = || {
            let answered = exchange.attempts.last().and_then(|attempt| attempt.status);
            [answered, exchange.status].iter().all(|status| status.is_some_and(|status| status.is_success()))
        };
        match &exchange.model {
            Some(model) if !is_known && names.may_learn(model) && is_taken() => self.learn(model),
            _ => id,
        }
    }

    fn learn(&self, model: &str) -> Id {
        let _one_at_a_time = self.changing();
        let names = self.names.load_full();
        match names.learning(model) {
            None => names.model(Some(model)).0,
            Some(more) => {
                let id = more.model(Some(model)).0;
                self.names.store(Arc::new(more));
                id
            }
        }
    }

    fn count_error(&self, exchange: &Exchange, outcome: &str) {
        let (kind, blame) = match exchange.outcome() {
            Outcome::Cancelled => (ErrorKind::Cancelled.code(), Blame::Client),
            // A plugin may refuse with any code.
            Outcome::Failed(error) => match &error.kind {
                ErrorKind::Rejected(_) => ("rejected", Blame::Plugin),
                kind => (kind.label(), kind.blame()),
            },
            // What an upstream said no to.
            Outcome::Complete if outcome == "refused" => ("upstream_refused", Blame::Client),
            Outcome::Complete => ("upstream_status", Blame::Upstream),
        };
        let mut errors = self.errors.lock().expect("no code panics while it holds this lock");
        match errors.get_mut(kind) {
            Some(known) => known.count += 1,
            None => {
                errors.insert(kind.to_owned(), Errors { blame: blame_label(blame), count: 1 });
            }
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().expect("no code panics while it holds this lock")
    }
}

impl Totals {
    fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            success: AtomicU64::new(0),
            error: AtomicU64::new(0),
            timeout: AtomicU64::new(0),
            retry: AtomicU64::new(0),
            streaming: AtomicU64::new(0),
            upstream_errors: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            tokens: Default::default(),
            by_status: (0..STATUSES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    fn count(&self, exchange: &Exchange, nanoseconds: u128, status: u16, outcome: &str) {
        let add = |sum: &AtomicU64, more: u64| {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        };
        add(&self.requests, 1);
        match outcome {
            "complete" => add(&self.success, 1),
            "cancelled" => {}
            _ => add(&self.error, 1),
        }
        if let Outcome::Failed(error) = exchange.outcome() {
            add(&self.timeout, u64::from(is_timeout(&error.kind)));
        }
        add(&self.retry, exchange.attempts.len().saturating_sub(1) as u64);
        add(&self.streaming, u64::from(exchange.is_stream));
        add(&self.nanoseconds, u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let Usage { input, output, cached, reasoning, .. } = exchange.usage.unwrap_or_default();
        for (sum, more) in self.tokens.iter().zip([input, output, cached, reasoning]) {
            add(sum, more);
        }
        if let Some(count) = self.by_status.get(usize::from(status)) {
            add(count, 1);
        }
    }

    /// How many exchanges had which status, in the order of statuses.
    fn by_status(&self) -> Vec<(String, u64)> {
        let counts = self.by_status.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(status, count)| (status.to_string(), count)).collect()
    }

    /// The mean duration of all exchanges, in seconds; 0 before the first one.
    fn seconds_mean(&self) -> f64 {
        let requests = self.requests.load(Ordering::Relaxed).max(1);
        self.nanoseconds.load(Ordering::Relaxed) as f64 / 1e9 / requests as f64
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    const ALL: [Self; 2] = [Self::Main, Self::Admin];

    fn label(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Admin => "admin",
        }
    }
}

/// The page of metrics, as the scraper likes it best.
///
/// It can have a hundred thousand lines, which are put together on a thread that serves nobody.
///
/// # Errors
///
/// `Internal` for a defect.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    headers: &HeaderMap,
) -> Result<(StatusCode, HeaderMap, Bytes)> {
    let format = Format::of(headers);
    let place = gateway.activity.metrics.pages.clone().acquire_owned().await.map_err(|_| defect())?;
    let gateway = gateway.clone();
    let rendered = tokio::task::spawn_blocking(move || {
        let _place = place;
        render(&gateway, format)
    });
    let (headers, text) = rendered.await.map_err(|_| defect())?;
    Ok((StatusCode::OK, headers, text.into()))
}

/// The same numbers for people and programs that read no Prometheus: S5's fields, tokens, and the last minute.
pub(crate) fn stats(gateway: &Gateway) -> Value {
    stats::describe(gateway)
}

fn render(gateway: &Gateway, format: Format) -> (HeaderMap, String) {
    let headers =
        [(header::CONTENT_TYPE, format.content_type()), (header::VARY, HeaderValue::from_static("accept"))];
    (HeaderMap::from_iter(headers), page::collect(gateway).write(format))
}

/// An endpoint's label here.
fn endpoint_label(endpoint: &'static str) -> &'static str {
    match endpoint {
        "-" => OTHER,
        endpoint => endpoint,
    }
}

/// Whether upstreams say what an answer cost.
fn has_usage(endpoint: &str) -> bool {
    matches!(
        endpoint,
        "chat.completions"
            | "text_completion"
            | "responses"
            | "embeddings"
            | "anthropic.messages"
            | "gemini.generate_content"
    )
}

/// Whether an upstream took too long, before the client was sent a part of its answer or after.
fn is_timeout(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::UpstreamTimeout(_) | ErrorKind::StreamBroken(Some(_)))
}

fn is_moved(attempts: &[Attempt]) -> bool {
    match attempts {
        [first, .., last] => first.upstream != last.upstream,
        _ => false,
    }
}

fn blame_label(blame: Blame) -> &'static str {
    match blame {
        Blame::Client => "client",
        Blame::Upstream => "upstream",
        Blame::Plugin => "plugin",
        Blame::Gateway => "gateway",
    }
}

/// Something that counts one more exchange each time it is called; for the benchmarks.
#[doc(hidden)]
pub fn recording() -> impl FnMut() {
    let activity = Arc::new(Activity::new());
    let text =
        "upstreams: [{ name: one, base_url: 'http://a', model_match: { type: exact, value: gpt-4o } }]\n";
    let config = crate::config::load_text(text, "bench".as_ref(), &Default::default(), &Default::default());
    let (config, _) = config.expect("the text is a configuration");
    activity.metrics.configure(&config);
    let request = Request::new(());
    let mut exchange = Exchange::begin(&request, Ipv4Addr::LOCALHOST.into(), &activity);
    exchange.endpoint = "chat.completions";
    exchange.model = Some("gpt-4o".into());
    exchange.is_stream = true;
    exchange.attempts.push(Attempt {
        upstream: "one".into(),
        model: "gpt-4o".into(),
        began: Default::default(),
        status: Some(StatusCode::OK),
        error: None,
        took: Default::default(),
    });
    exchange.answer(StatusCode::OK, &HeaderMap::new());
    exchange.note_first_token();
    exchange.usage = Some(Usage {
        input: 1000,
        output: 300,
        cached: 512,
        reasoning: 0,
        is_estimated: false,
        ..Usage::default()
    });
    exchange.complete();
    move || activity.metrics.record(&exchange)
}

#[cfg(test)]
mod tests;
