//! The facts of one request, from its first byte to the last byte of the answer.
//!
//! An exchange is written by many and read by none of the logic. Whoever owns it decides how long it lives: first
//! `gateway`, then the body of the response. When it is dropped it ends, once: there, and only there, it is recorded.
//! Its outcome starts as `Cancelled`, so that a client that leaves at any point is recorded truthfully.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, Place};
use crate::auth::Caller;
use crate::chat::{StopReason, Usage};
use crate::config::secret::Secret;
use crate::error::{Blame, Error, ErrorKind};
use crate::limit::party::Origin;
use crate::limit::permit::{End, Permit};
use crate::limit::queue::{self, Queue};
use crate::log::Log;
use crate::metrics::Metrics;
use crate::recording::{self, Recording};
use crate::traces::{Trace, Traces};
use crate::wire::{Dialect, Endpoint};

/// The header that carries a request's id, in both directions.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// The longest line of labels in the log, in bytes.
const LABELS_BYTES_MAX: usize = 4096;

/// What is no request for a model: it asks nothing of an upstream, is neither counted nor recorded, and is part of no
/// trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aside {
    /// What operators ask of the admin listener.
    Admin,
    /// A page that says how the gateway is.
    Health,
    /// The metrics on the clients' listener.
    Metrics,
    /// A browser asks whether it may ask.
    Preflight,
}

impl Aside {
    /// What stands for the endpoint.
    fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Preflight => "preflight",
        }
    }
}

/// What an exchange is, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Unknown,
    Aside,
    Request,
}

/// One request and what became of it.
pub(crate) struct Exchange {
    /// Unique, and sorted by time: microseconds since 1970 of the start, times 1,024, plus a running number.
    pub(crate) number: i64,
    /// When it began, by the clock on the wall.
    pub(crate) started_at: SystemTime,
    /// Where the client is.
    pub(crate) client: IpAddr,
    /// The request's method.
    pub(crate) method: Method,
    /// The request's path and query, without secrets; empty unless it is a request for a model.
    pub(crate) target: String,
    /// What the client says it is.
    pub(crate) user_agent: Option<HeaderValue>,
    /// Bytes of the request's body that were read, or announced for one that is passed on while it arrives.
    pub(crate) request_len: u64,
    /// Bytes of the answer's body that were handed to the connection.
    pub(crate) response_len: u64,
    /// Times between the pieces of a stream, after the first content.
    pub(crate) gaps: Gaps,
    /// What is kept for the record, if one is made.
    pub(crate) recording: Option<Box<Recording>>,
    /// What it was given of the limits, where there are any.
    pub(crate) permit: Option<Box<Permit>>,
    /// What it cost, in billionths of the unit of money; known at its end, if the model has a price.
    pub(crate) cost: Option<u64>,
    /// Its place in the audit's queue, if it was admitted to one.
    pub(crate) place: Option<Place>,
    /// Its place in the gateway, held to its end; none before it has one, and while it waits for a place at an upstream.
    pub(crate) in_flight: Option<queue::Place>,
    /// The client's id if it sent a sane one, else a new one.
    pub(crate) id: HeaderValue,
    /// Whose conventions the client follows.
    pub(crate) dialect: Dialect,
    /// The endpoint's label, or `-`.
    pub(crate) endpoint: &'static str,
    /// The model the client asked for.
    pub(crate) model: Option<Arc<str>>,
    /// Whether the client asked for a stream.
    pub(crate) is_stream: bool,
    /// Whether it wants to be told what that cost.
    pub(crate) asks_usage: bool,
    /// One entry for each attempt, in the order in which they were decided: the last one is the client's answer.
    pub(crate) attempts: Vec<Attempt>,
    /// The status sent to the client; none before there is one.
    pub(crate) status: Option<StatusCode>,
    /// What the upstream counted.
    pub(crate) usage: Option<Usage>,
    /// From the start to the first content.
    pub(crate) first_token: Option<Duration>,
    /// Time that passed waiting for the client's body or for an upstream.
    pub(crate) waited: Duration,
    /// Time that the gateway itself took, plugins included, up to the head of the answer.
    pub(crate) overhead: Duration,
    /// Who is calling, if that is known.
    pub(crate) caller: Option<String>,
    /// The name of the key it used.
    pub(crate) key: Option<Arc<str>>,
    /// The caller's tenant.
    pub(crate) tenant: Option<Arc<str>>,
    /// Why the answer ended.
    pub(crate) finish: Option<StopReason>,
    /// The labels that plugins gave it.
    pub(crate) tags: Tags,
    /// The trace it is a part of, if that is recorded.
    pub(crate) trace: Option<Box<Trace>>,
    /// What the caller presented, where the log is to show it if the exchange fails; it goes nowhere else.
    pub(crate) token: Option<Secret>,
    /// Both bodies, if somebody wants them at the end.
    pub(crate) bodies: Option<Box<Bodies>>,
    /// The time each plugin took.
    plugins: Vec<(Arc<str>, Duration)>,
    /// What is to be told when it is over.
    at_end: Vec<Notice>,
    sort: Sort,
    outcome: Outcome,
    started: Instant,
    activity: Arc<Activity>,
}

/// Told of an exchange that is over. It must not wait.
pub(crate) type Notice = Box<dyn FnOnce(&Exchange) + Send>;

/// The bodies of an exchange, up to a bound.
#[derive(Default)]
pub(crate) struct Bodies {
    /// As the client sent it.
    pub(crate) request: Bytes,
    /// As the client was sent it; shared only when it is over.
    pub(crate) response: Arc<Vec<u8>>,
}

impl Bodies {
    /// The most that is kept of either, in bytes.
    pub(crate) const BYTES_MAX: usize = 1 << 20;

    /// Keeps the request; a part of it is copied, so that the rest can go.
    pub(crate) fn note_request(&mut self, body: &Bytes) {
        self.request = match body.get(..Self::BYTES_MAX) {
            Some(part) if part.len() < body.len() => Bytes::copy_from_slice(part),
            _ => body.clone(),
        };
    }

    /// Keeps what of the answer is sent now.
    pub(crate) fn note_response(&mut self, bytes: &[u8]) {
        let room = Self::BYTES_MAX - self.response.len();
        Arc::make_mut(&mut self.response).extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// Labels of an exchange.
#[derive(Default)]
pub(crate) struct Tags(Vec<(String, String)>);

impl Tags {
    /// The most labels an exchange has.
    const COUNT_MAX: usize = 64;
    /// The longest key or value, in bytes.
    const BYTES_MAX: usize = 1024;

    /// Sets a label; the last value of a key counts. What is over the bounds is cut or dropped.
    pub(crate) fn set(&mut self, mut key: String, mut value: String) {
        key.truncate(key.floor_char_boundary(Self::BYTES_MAX));
        value.truncate(value.floor_char_boundary(Self::BYTES_MAX));
        if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| *known == key) {
            *old = value;
        } else if self.0.len() < Self::COUNT_MAX {
            self.0.push((key, value));
        }
    }

    /// Sets all of another's.
    pub(crate) fn extend(&mut self, others: Self) {
        for (key, value) in others.0 {
            self.set(key, value);
        }
    }

    /// All labels.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }
}

/// How long a client waited between the pieces of a stream: counts by time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// One count for each of [`Gaps::BOUNDS_MS`], and one for what is longer.
    pub(crate) counts: [u32; Self::BOUNDS_MS.len() + 1],
    /// All of them together.
    pub(crate) sum: Duration,
}

impl Gaps {
    /// Up to how many milliseconds a gap belongs to each count.
    pub(crate) const BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 2_000, 10_000];

    /// Counts one.
    pub(crate) fn note(&mut self, gap: Duration) {
        let place = Self::BOUNDS_MS.partition_point(|bound| Duration::from_millis(*bound) < gap);
        self.counts[place] += 1;
        self.sum += gap;
    }
}

/// One try at one upstream.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The upstream's name.
    pub(crate) upstream: Arc<str>,
    /// The model's name there.
    pub(crate) model: Arc<str>,
    /// When it began, after the exchange did.
    pub(crate) began: Duration,
    /// The status it answered, if it did.
    pub(crate) status: Option<StatusCode>,
    /// What went wrong otherwise.
    pub(crate) error: Option<Error>,
    /// From the first byte sent to the failure, or to the answer: its head, or the first content of a stream.
    pub(crate) took: Duration,
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The client left before the end.
    Cancelled,
    /// The answer was sent whole.
    Complete,
    /// It failed; the client was told if that was still possible.
    Failed(Error),
}

/// What all exchanges of a process share: ids and counts.
pub(crate) struct Activity {
    seed: u64,
    next: AtomicU64,
    running: AtomicUsize,
    is_over: AtomicBool,
    /// What is still told of exchanges whose clients have left.
    pub(crate) tasks: TaskTracker,
    /// The places in the gateway, and who waits for those and for places at upstreams.
    pub(crate) queue: Arc<Queue>,
    /// What is counted of them.
    pub(crate) metrics: Metrics,
    /// What is recorded of them.
    pub(crate) audit: Audit,
    /// Where exchanges are written down.
    pub(crate) log: Log,
    /// Where the traces of exchanges go.
    pub(crate) traces: Traces,
}

impl Activity {
    /// Starts counting, and tells nobody.
    pub(crate) fn new() -> Self {
        Self {
            log: Log::off(),
            traces: Traces::off(),
            seed: RandomState::new().hash_one("witgate"),
            next: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            queue: Queue::new(),
            metrics: Metrics::new(),
            audit: Audit::off(),
        }
    }

    /// How many requests for a model are running.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Whatever is still running is to end now.
    pub(crate) fn cut_off(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// A number that no other exchange has, and later ones have a higher one of; good until the year 2255.
    fn number(&self, started_at: SystemTime) -> i64 {
        let us = started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let running = self.next.fetch_add(1, Ordering::Relaxed) % 1024;
        i64::try_from(us * 1024 + u128::from(running)).unwrap_or(i64::MAX)
    }

    /// A plugin found labels for an exchange that is over.
    pub(crate) fn label(&self, number: i64, id: &str, plugin: &str, labels: Vec<(String, String)>) {
        if self.audit.is_on() {
            return self.audit.add_labels(number, labels);
        }
        let words: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut words = words.join(" ");
        words.truncate(words.floor_char_boundary(LABELS_BYTES_MAX));
        tracing::info!(plugin, id, number, labels = words, "labels");
    }

    /// The id of the exchange of a number, which hardly any exchange of another process has: 32 hexadecimal digits.
    ///
    /// Ids of one process grow with their exchanges: an index of them, as the audit has one, is written at its end,
    /// where ids in no order would have it written all over.
    fn fresh_id(&self, number: i64) -> HeaderValue {
        let id = u128::from(self.seed) << 64 | u128::from(number.cast_unsigned());
        let digit = |place: usize| b"0123456789abcdef"[(id >> (124 - 4 * place)) as usize & 15];
        let digits: [u8; 32] = std::array::from_fn(digit);
        HeaderValue::from_bytes(&digits).expect("hexadecimal digits are a valid header value")
    }
}

/// Spreads consecutive numbers over all 64 bits, one to one.
/// Source: Vigna's splitmix64 (public domain), the finalizer.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Exchange {
    /// Begins an exchange for whatever a client asks. What it is, [`Self::pass_by`] or [`Self::enter`] says soon.
    pub(crate) fn begin<B>(request: &Request<B>, client: IpAddr, activity: &Arc<Activity>) -> Self {
        let headers = request.headers();
        let id = headers.get(REQUEST_ID).filter(|id| is_sane(id)).cloned();
        let started_at = SystemTime::now();
        let number = activity.number(started_at);
        Self {
            number,
            started_at,
            client: client.to_canonical(),
            method: request.method().clone(),
            target: String::new(),
            user_agent: headers.get(USER_AGENT).cloned(),
            request_len: 0,
            response_len: 0,
            gaps: Gaps::default(),
            recording: None,
            permit: None,
            cost: None,
            place: None,
            in_flight: None,
            id: id.unwrap_or_else(|| activity.fresh_id(number)),
            dialect: Dialect::of(request.uri().path(), headers),
            endpoint: "-",
            model: None,
            is_stream: false,
            asks_usage: false,
            attempts: Vec::new(),
            status: None,
            usage: None,
            first_token: None,
            waited: Duration::ZERO,
            overhead: Duration::ZERO,
            caller: None,
            key: None,
            tenant: None,
            finish: None,
            tags: Tags::default(),
            trace: None,
            token: None,
            bodies: None,
            plugins: Vec::new(),
            at_end: Vec::new(),
            sort: Sort::Unknown,
            outcome: Outcome::Cancelled,
            started: Instant::now(),
            activity: activity.clone(),
        }
    }

    /// Whose it is, as limits and the queue tell callers apart.
    pub(crate) fn origin<'a>(&'a self, caller: &'a Caller) -> Origin<'a> {
        Origin { caller, name: self.caller.as_deref(), client: self.client }
    }

    /// A number nobody can foresee, for draws and jitter.
    pub(crate) fn draw(&self) -> u64 {
        let number = self.activity.next.fetch_add(1, Ordering::Relaxed);
        scramble(number ^ self.activity.seed)
    }

    /// Has somebody told when it is over.
    pub(crate) fn at_end(&mut self, notice: Notice) {
        self.at_end.push(notice);
    }

    /// A plugin took so long.
    pub(crate) fn note_plugin(&mut self, name: &Arc<str>, took: Duration) {
        match self.plugins.iter_mut().find(|(known, _)| known == name) {
            Some((_, sum)) => *sum += took,
            None => self.plugins.push((name.clone(), took)),
        }
    }

    /// The time each plugin took so far.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &(Arc<str>, Duration)> {
        self.plugins.iter()
    }

    /// How it ended, so far.
    pub(crate) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// How it ended, in the one word that the audit, metrics and the log have for it.
    pub(crate) fn outcome_word(&self) -> &'static str {
        let status = self.status.unwrap_or(StatusCode::OK);
        match &self.outcome {
            Outcome::Cancelled => "cancelled",
            Outcome::Failed(Error { kind: ErrorKind::Rejected(_), .. }) => "rejected",
            Outcome::Failed(error) if error.kind.blame() == Blame::Client => "refused",
            Outcome::Failed(_) => "failed",
            // What an upstream said no to.
            Outcome::Complete if status.is_server_error() || matches!(status.as_u16(), 408 | 429) => "failed",
            Outcome::Complete if status.is_client_error() => "refused",
            Outcome::Complete => "complete",
        }
    }

    /// When it began.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// When it began, in seconds since 1970.
    pub(crate) fn started_unix_s(&self) -> u64 {
        self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// What ids in an answer are made of that an upstream gave none: the digits of the exchange's number in this process.
    pub(crate) fn id_of_answer(&self) -> Arc<str> {
        let id = u128::from(self.activity.seed) << 64 | u128::from(self.number.cast_unsigned());
        Arc::from(format!("{id:032x}"))
    }

    /// What it shares with all exchanges of the process.
    pub(crate) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether it is to end now, whatever it still waits for.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.activity.is_over.load(Ordering::Relaxed)
    }

    /// An attempt was the one that decided: of two that ran at once it is the last.
    pub(crate) fn put_last(&mut self, attempt: usize) {
        if attempt + 1 < self.attempts.len() {
            self.attempts[attempt..].rotate_left(1);
            if let Some(trace) = &mut self.trace {
                trace.put_last(attempt);
            }
        }
    }

    /// The first content reached the client.
    pub(crate) fn note_first_token(&mut self) {
        if self.first_token.is_none() {
            self.first_token = Some(self.elapsed());
        }
    }

    /// It is no request for a model.
    pub(crate) fn pass_by(&mut self, aside: Aside) {
        self.endpoint = aside.label();
        self.sort = Sort::Aside;
    }

    /// It is a request for a model: from now on it counts as running, and may be traced. Called once.
    pub(crate) fn enter(&mut self, uri: &Uri, headers: &HeaderMap) {
        self.activity.running.fetch_add(1, Ordering::Relaxed);
        self.sort = Sort::Request;
        self.target = recording::target(uri);
        self.trace = self.activity.traces.begin(headers);
    }

    /// Whether it is no request for a model.
    pub(crate) fn passes_by(&self) -> bool {
        self.sort == Sort::Aside
    }

    /// Gives the bytes of a request to who records them.
    pub(crate) fn note_request(&mut self, body: &Bytes) {
        self.request_len = body.len() as u64;
        if let Some(recording) = &mut self.recording {
            recording.note_request(body);
        }
    }

    /// The client is about to be sent an answer of this status with these headers.
    pub(crate) fn answer(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.overhead = self.elapsed().saturating_sub(self.waited);
        if let Some(recording) = &mut self.recording {
            recording.begin_answer(Endpoint::labelled(self.endpoint), headers);
        }
    }

    /// These bytes of an answer are handed to the connection.
    pub(crate) fn note_sent(&mut self, bytes: &Bytes) {
        self.response_len += bytes.len() as u64;
        if let Some(recording) = &mut self.recording {
            recording.note_sent(bytes);
        }
        if let Some(bodies) = &mut self.bodies {
            bodies.note_response(bytes);
        }
    }

    /// Estimates the tokens of an answer with text, or of a part of one, that nobody has counted.
    fn count_tokens(&mut self) {
        let has_text = Endpoint::labelled(self.endpoint).is_some_and(Endpoint::has_text);
        let is_uncounted = has_text && self.usage.is_none() && self.response_len > 0;
        if is_uncounted
            && self.status.is_some_and(|status| status.is_success())
            && let Some(recording) = &mut self.recording
        {
            self.usage = Some(recording.estimate()).filter(|usage| usage.output > 0);
        }
        if let Some(recording) = &mut self.recording {
            recording.forgo_bodies();
        }
    }

    /// Replaces what was claimed of the limits by what was used.
    fn settle(&mut self) {
        let Some(mut permit) = self.permit.take() else { return };
        let is_good = self.status.is_some_and(|status| status.is_success());
        let has_failed = matches!(self.outcome, Outcome::Failed(_));
        self.cost = permit.settle(End {
            usage: self.usage,
            was_sent: !self.attempts.is_empty(),
            was_answered: is_good && (!has_failed || self.first_token.is_some()),
            was_left: self.status.is_none() && matches!(self.outcome, Outcome::Cancelled),
        });
    }

    /// The answer was sent whole.
    pub(crate) fn complete(&mut self) {
        if matches!(self.outcome, Outcome::Cancelled) {
            self.outcome = Outcome::Complete;
        }
    }

    /// The exchange failed.
    pub(crate) fn fail(&mut self, error: Error) {
        self.outcome = Outcome::Failed(error);
    }
}

impl Attempt {
    /// Whether it came to nothing yet.
    fn is_open(&self) -> bool {
        self.status.is_none() && self.error.is_none()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.sort == Sort::Request {
            self.activity.running.fetch_sub(1, Ordering::Relaxed);
        }
        // An attempt that was broken off lasted until now.
        let elapsed = self.elapsed();
        for open in self.attempts.iter_mut().filter(|attempt| attempt.is_open()) {
            open.took = elapsed.saturating_sub(open.began);
        }
        self.count_tokens();
        self.settle();
        self.activity.metrics.record(self);
        self.activity.log.record(self);
        self.activity.traces.record(self);
        // Before plugins are told: the labels they find are for a row that is on its way.
        let activity = self.activity.clone();
        activity.audit.record(self);
        for notice in std::mem::take(&mut self.at_end) {
            notice(self);
        }
    }
}

/// Whether a client's id can be put into a log and a header again.
fn is_sane(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_million_ids_are_unique() {
        // parity: 152
        let activity = Activity::new();
        // As many in each microsecond as there can be.
        let at = |n: u64| UNIX_EPOCH + Duration::from_micros(n / 1024);
        let ids: HashSet<HeaderValue> =
            (0..1_000_000).map(|n| activity.fresh_id(activity.number(at(n)))).collect();
        assert_eq!(ids.len(), 1_000_000);
    }

    #[test]
    fn numbers_are_unique_and_sorted_by_time() {
        let activity = Activity::new();
        let at = |us| UNIX_EPOCH + Duration::from_micros(us);
        let numbers: HashSet<i64> = (0..1024).map(|_| activity.number(at(5))).collect();
        assert_eq!(numbers.len(), 1024);
        assert!(numbers.iter().all(|number| activity.number(at(6)) > *number));
        assert_eq!(activity.number(at(7)) / 1024, 7);
    }

    #[test]
    fn only_requests_for_a_model_count_as_running() {
        let activity = Arc::new(Activity::new());
        let request = Request::get("/v1/models?key=secret").body(()).unwrap();
        let begin = || Exchange::begin(&request, IpAddr::from([127, 0, 0, 1]), &activity);
        let asides = [Aside::Admin, Aside::Health, Aside::Metrics, Aside::Preflight].map(|aside| {
            let mut exchange = begin();
            exchange.pass_by(aside);
            exchange
        });
        assert!(asides.iter().all(Exchange::passes_by));
        let labels = asides.each_ref().map(|exchange| exchange.endpoint);
        assert_eq!(labels, ["admin", "health", "metrics", "preflight"]);
        assert_eq!(activity.running(), 0);
        let mut exchange = begin();
        exchange.enter(request.uri(), request.headers());
        assert_eq!((exchange.passes_by(), &*exchange.target), (false, "/v1/models?key=***"));
        drop((asides, begin()));
        assert_eq!(activity.running(), 1);
        drop(exchange);
        assert_eq!(activity.running(), 0);
    }

    #[test]
    fn gaps_are_counted_by_their_length() {
        let mut gaps = Gaps::default();
        for ms in [1, 2, 2, 20_000] {
            gaps.note(Duration::from_millis(ms));
        }
        assert_eq!((&gaps.counts[..3], gaps.counts[11]), (&[1, 2, 0][..], 1));
        assert_eq!(gaps.sum, Duration::from_millis(20_005));
    }

    #[test]
    fn only_a_sane_id_is_taken_over() {
        for (id, sane) in [("a-1", true), ("", false), ("a b", false), (&*"x".repeat(129), false)] {
            assert_eq!(is_sane(&HeaderValue::from_str(id).unwrap()), sane, "{id}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let mut tags = Tags::default();
        for n in 0..Tags::COUNT_MAX + 5 {
            tags.set(n.to_string(), "é".repeat(Tags::BYTES_MAX));
        }
        assert_eq!(tags.iter().count(), Tags::COUNT_MAX);
        assert!(tags.iter().all(|(_, value)| value.len() == Tags::BYTES_MAX));
        tags.set("0".to_owned(), "x".to_owned());
        assert_eq!(tags.iter().next().map(|(_, value)| value.as_str()), Some("x"));
    }

    #[test]
    fn bodies_are_kept_up_to_their_bound() {
        let mut bodies = Bodies::default();
        let whole = Bytes::from(vec![1; Bodies::BYTES_MAX]);
        bodies.note_request(&whole);
        assert_eq!(bodies.request.as_ptr(), whole.as_ptr(), "what is kept whole is not copied");
        let long = Bytes::from(vec![1; Bodies::BYTES_MAX + 1]);
        bodies.note_request(&long);
        assert_eq!(bodies.request.len(), Bodies::BYTES_MAX);
        assert!(long.try_into_mut().is_ok(), "what is cut off is not held");
        for _ in 0..3 {
            bodies.note_response(&[2; Bodies::BYTES_MAX / 2 + 1]);
        }
        assert_eq!(bodies.response.len(), Bodies::BYTES_MAX);
    }
}
