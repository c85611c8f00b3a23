//! The attempts of one request: send, judge, back off, move on, stop.
//!
//! Candidates are tried in rank order, then the models and upstreams of their `fallback`, with a set of what was
//! visited and a bound on hops. What the client sees when all fail is the last answer an upstream really gave; only
//! if none gave any is it an error of the gateway.

use std::borrow::Cow;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use crate::auth::Caller;
use crate::budget::Share;
use crate::chat::Prompt;
use crate::config::{ModelMatch, Retry, RetryOn};
use crate::error::{Blame, Error, ErrorKind, Result};
use crate::exchange::{Attempt, Exchange};
use crate::headers;
use crate::route::{Fallback, Keying, Ranking, Reads};
use crate::snapshot::Snapshot;
use crate::upstream::connection::within;
use crate::upstream::inflate::Inflate;
use crate::upstream::{Answer, AnswerBody, InFlight, RequestBody, Rest, Upstream};
use crate::wire::Endpoint;
use crate::wire::openai::answer;
use crate::wire::openai::stream::Rules;
use crate::wire::openai::{self, Edits};

/// The largest whole answer that is held in memory because it has to be changed, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Up to here a whole answer is read before the client gets a byte, so that another candidate can mend one that
/// breaks off; a longer one is passed on as it comes.
const ANSWER_HELD_BYTES_MAX: usize = 1 << 20;
/// The largest failed answer that is taken into memory while another candidate is tried, in bytes.
const FAILED_BODY_BYTES_MAX: usize = 64 << 10;
/// How long that may take.
const FAILED_BODY_TIME_MAX: Duration = Duration::from_millis(500);
/// How long the gateway asks a client to wait when no upstream has a place left.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the client reads when nothing came for `timeouts.idle`.
pub(crate) const SILENT: &str = "the upstream went silent";

/// What is to be sent, to whichever upstream.
pub(crate) struct Job {
    /// The client's method.
    pub(crate) method: Method,
    /// The endpoint; none for a path that is passed on unknown.
    pub(crate) endpoint: Option<Endpoint>,
    /// The path below an upstream's base URL.
    pub(crate) path: Cow<'static, str>,
    /// The query, without credentials.
    pub(crate) query: Option<String>,
    /// The client's headers, without credentials and what concerns one connection only.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) payload: Payload,
    /// Who asks.
    pub(crate) caller: Caller,
    /// The model as the client named it; empty for a path that is passed on.
    pub(crate) model: Arc<str>,
    /// The bytes it holds in memory.
    pub(crate) _share: Share,
}

/// The body of a request, in the form that lets it be edited and sent again.
pub(crate) enum Payload {
    /// A JSON document.
    Json(openai::Request),
    /// A multipart form: what was read of it, where in that the model's name is, and what is still to come.
    Form { head: Bytes, model: Option<Range<usize>>, rest: Option<Rest>, len: Option<u64> },
    /// Bytes nobody looks into.
    Opaque { rest: Option<Rest>, len: Option<u64> },
}

/// An upstream's answer, ready to be handed on.
pub(crate) struct Reply {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers that concern the client.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) content: ReplyContent,
    /// Who answered.
    pub(crate) upstream: Arc<Upstream>,
    /// The place that is held to the end of the body; none once that is in memory.
    pub(crate) place: Option<InFlight>,
    /// When the attempt must be over.
    pub(crate) deadline: Option<Instant>,
}

/// The body of an answer.
pub(crate) enum ReplyContent {
    /// In memory, with whatever had to be changed.
    Whole(answer::Answer),
    /// In memory, as the upstream sent it.
    Held(Bytes),
    /// A stream of events.
    Events { source: Source, first: Bytes, rules: Rules },
    /// Bytes that are passed on as they come.
    Opaque { source: Source, first: Bytes },
}

/// The bytes of an answer, with the upstream's `content-encoding` undone.
pub(crate) struct Source {
    body: AnswerBody,
    inflate: Option<Inflate>,
}

/// One place to try: an upstream, and the model it is asked for.
#[derive(PartialEq, Eq)]
struct Step {
    upstream: usize,
    model: Arc<str>,
}

/// Why an attempt did not settle the matter.
enum Failure {
    /// The upstream answered, with a status that another candidate may better.
    Status(Box<Reply>),
    /// It did not answer, or not validly.
    Error(Error),
}

impl Job {
    /// Whether everything that has to be sent is still there.
    fn is_whole(&self) -> bool {
        match &self.payload {
            Payload::Json(_) => true,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => {
                rest.as_ref().is_none_or(Rest::is_whole)
            }
        }
    }

    fn body(&self, upstream: &Upstream, model: &str) -> RequestBody {
        let settings = &upstream.settings;
        let known_as =
            settings.models.iter().find(|(name, _)| name == model).map_or(model, |(_, there)| there);
        let alias = (known_as != &*self.model).then_some(known_as);
        match &self.payload {
            Payload::Json(request) => RequestBody::from_segments(request.encode(&Edits {
                model: alias,
                stop: &settings.stop,
                max_tokens: settings.max_tokens,
                extra_body: &settings.extra_body,
                include_usage: settings.include_usage,
                clean: settings.clean,
            })),
            Payload::Form { head, model, rest, len } => {
                let (segments, growth) = match (alias, model) {
                    (Some(alias), Some(range)) => {
                        let new = Bytes::copy_from_slice(alias.as_bytes());
                        let growth = new.len() as i64 - range.len() as i64;
                        (vec![head.slice(..range.start), new, head.slice(range.end..)], growth)
                    }
                    _ => (vec![head.clone()], 0),
                };
                match rest {
                    None => RequestBody::from_segments(segments),
                    Some(rest) => {
                        let len = len.and_then(|len| len.checked_add_signed(growth));
                        RequestBody::streaming(segments, rest.clone(), len)
                    }
                }
            }
            Payload::Opaque { rest: None, .. } => RequestBody::default(),
            Payload::Opaque { rest: Some(rest), len } => RequestBody::streaming([], rest.clone(), *len),
        }
    }

    /// Where the request goes: the path of the base URL, the client's below it, and the client's query.
    fn address(&self, upstream: &Upstream) -> Result<Uri> {
        let (mark, query) = self.query.as_deref().map_or(("", ""), |query| ("?", query));
        let address = [&upstream.base_path, &*self.path, mark, query].concat();
        let too_long = |_| Error::new(ErrorKind::InvalidRequest, "the path is too long to be passed on");
        PathAndQuery::try_from(address).map(Uri::from).map_err(too_long)
    }

    /// What the client did wrong while its body was passed on.
    fn take_fault(&self) -> Option<Error> {
        match &self.payload {
            Payload::Json(_) => None,
            Payload::Form { rest, .. } | Payload::Opaque { rest, .. } => rest.as_ref()?.take_fault(),
        }
    }

    fn request(
        &self,
        upstream: &Upstream,
        model: &str,
        address: Uri,
        has_keys: bool,
    ) -> Request<RequestBody> {
        let mut request = Request::new(self.body(upstream, model));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = address;
        let mut headers = self.headers.clone();
        headers.insert(header::HOST, upstream.host.clone());
        if self.endpoint.is_some_and(Endpoint::is_inspected) {
            // An answer that has to be read is cheapest to read as it is.
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if let Some(credential) = self.credential(upstream, has_keys) {
            headers.insert(header::AUTHORIZATION, credential);
        }
        for (name, value) in &upstream.settings.headers {
            headers.insert(name.clone(), value.clone());
        }
        *request.headers_mut() = headers;
        request
    }

    /// The upstream's own key; the caller's only where there is none and the configuration lets it through.
    fn credential(&self, upstream: &Upstream, has_keys: bool) -> Option<HeaderValue> {
        let forwards = upstream.settings.forwards_caller_key || !has_keys;
        let callers = || self.caller.credential.as_ref().filter(|_| forwards);
        upstream.credential.clone().or_else(|| callers().and_then(|key| super::bearer(key).ok()))
    }

    /// What has to be done to an answer of this upstream.
    fn rules(&self, upstream: &Upstream) -> Option<Rules> {
        let endpoint = self.endpoint.filter(|endpoint| endpoint.is_inspected())?;
        let hides_usage = match &self.payload {
            Payload::Json(request) => upstream.settings.include_usage && !request.asks_usage(),
            _ => false,
        };
        Some(Rules {
            endpoint,
            hides_usage,
            special_prefix: upstream.settings.special_prefix.clone(),
            thinking: upstream.settings.thinking_format,
        })
    }
}

/// Tries one candidate after another until one has answered.
///
/// Dropping the future aborts the attempt that is running.
///
/// # Errors
///
/// `ModelNotFound` when no upstream takes the model, `Overloaded` when all that do are full, otherwise the last
/// attempt's error when no upstream gave any answer.
pub(crate) async fn dispatch(job: &Job, snapshot: &Snapshot, exchange: &mut Exchange) -> Result<Reply> {
    let retry = &snapshot.config.retry;
    let first = first_target(job, snapshot)?;
    // Short lists, as long as a request has attempts and hops: a set would cost more than it saves.
    let mut targets = vec![first.clone()];
    let mut steps = first.steps(job, snapshot, exchange);
    let mut visited: Vec<Step> = Vec::new();
    let mut hops = 0;
    let mut last: Option<Failure> = None;
    loop {
        for step in steps {
            if exchange.attempts.len() >= retry.attempts_max as usize || !job.is_whole() {
                return settle(last);
            }
            if visited.contains(&step) {
                continue;
            }
            visited.push(step);
            let Some(Step { upstream, model }) = visited.last() else { continue };
            let upstream = &snapshot.upstreams[*upstream];
            let Some(place) = upstream.enter() else { continue };
            match try_upstream(job, upstream, place, model, retry, exchange).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Error(error)) if !retry.on.covers_error(&error.kind) => {
                    return settle(Some(worse(last, Failure::Error(error))));
                }
                Err(failure) => last = Some(worse(last, failure)),
            }
        }
        // What nobody knows is for the upstream that takes such, and for no other.
        if hops >= retry.hops_max || job.endpoint.is_none() {
            return settle(last);
        }
        hops += 1;
        let names = visited.iter().flat_map(|step| &snapshot.upstreams[step.upstream].settings.fallback);
        let mut further = names.filter_map(|name| Target::of(name, job, snapshot));
        let Some(target) = further.find(|target| !targets.contains(target)) else { return settle(last) };
        targets.push(target.clone());
        steps = target.steps(job, snapshot, exchange);
    }
}

/// Asks one upstream, once.
///
/// # Errors
///
/// Those of one attempt, or `Overloaded` when the upstream has no place left.
pub(crate) async fn ask(job: &Job, upstream: &Arc<Upstream>) -> Result<Reply> {
    let place = upstream.enter().ok_or_else(full)?;
    attempt(job, upstream, place, &job.model).await
}

/// Where a request goes, or goes on to: whoever takes a model, or one upstream.
#[derive(Clone, PartialEq, Eq)]
enum Target {
    Model(Arc<str>),
    Upstream(usize, Arc<str>),
}

/// The places to try for one target, best first.
struct Steps {
    model: Arc<str>,
    order: Order,
}

enum Order {
    Ranked(Ranking),
    One(Option<usize>),
}

impl Target {
    /// What the configuration means by a name in `fallback`.
    fn of(name: &str, job: &Job, snapshot: &Snapshot) -> Option<Self> {
        Some(match snapshot.routes.fallback(name)? {
            Fallback::Model(model) => Self::Model(Arc::from(model)),
            Fallback::Upstream(upstream) => {
                let settings = &snapshot.upstreams[upstream].settings;
                // An upstream that was named does not have to know the model: then it is asked for its own.
                let model = match &settings.model_match {
                    ModelMatch::Exact(names) if !settings.accepts(&job.model) => {
                        names.first().map_or_else(|| job.model.clone(), |name| Arc::from(&**name))
                    }
                    _ => job.model.clone(),
                };
                Self::Upstream(upstream, model)
            }
        })
    }

    fn steps(self, job: &Job, snapshot: &Snapshot, exchange: &Exchange) -> Steps {
        match self {
            Self::Upstream(upstream, model) => Steps { model, order: Order::One(Some(upstream)) },
            Self::Model(model) => {
                let order = Order::Ranked(ranking(&model, job, snapshot, exchange));
                Steps { model, order }
            }
        }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let upstream = match &mut self.order {
            Order::Ranked(ranking) => ranking.next(),
            Order::One(upstream) => upstream.take(),
        }?;
        Some(Step { upstream, model: self.model.clone() })
    }
}

/// Where the request goes first; for an unknown path that is the default upstream.
fn first_target(job: &Job, snapshot: &Snapshot) -> Result<Target> {
    if job.endpoint.is_none() {
        let is_default = |up: &Arc<Upstream>| up.settings.is_default && up.settings.is_enabled;
        let default = snapshot.upstreams.iter().position(is_default);
        let upstream = default.ok_or_else(|| Error::new(ErrorKind::UnknownPath, "there is no such path"))?;
        return Ok(Target::Upstream(upstream, job.model.clone()));
    }
    if snapshot.routes.candidates(&job.model).is_empty() {
        return Err(Error::new(
            ErrorKind::ModelNotFound,
            format!("The model `{}` does not exist.", job.model),
        ));
    }
    Ok(Target::Model(job.model.clone()))
}

/// The candidates for a model, best first.
fn ranking(model: &Arc<str>, job: &Job, snapshot: &Snapshot, exchange: &Exchange) -> Ranking {
    let routes = &snapshot.routes;
    let candidates = routes.candidates(model);
    let prompt = match (&job.payload, routes.reads(&candidates)) {
        (Payload::Json(request), reads @ (Reads::Prefix | Reads::Users)) => {
            request.prompt(reads == Reads::Users)
        }
        _ => Prompt::default(),
    };
    let keying = Keying { tenant: "", model };
    let in_flight = |index: usize| snapshot.upstreams[index].state.in_flight();
    routes.rank(&candidates, keying, &prompt, in_flight, || exchange.draw())
}

/// Attempts at one upstream: one, and further ones while nothing was sent.
async fn try_upstream(
    job: &Job,
    upstream: &Arc<Upstream>,
    mut place: InFlight,
    model: &str,
    retry: &Retry,
    exchange: &mut Exchange,
) -> Result<Reply, Failure> {
    let mut pause = retry.backoff;
    let mut further = retry.same_upstream;
    loop {
        let started = Instant::now();
        let outcome = attempt(job, upstream, place, model).await;
        let took = started.elapsed();
        exchange.waited += took;
        let mut note = Attempt { upstream: upstream.settings.name.clone(), status: None, error: None, took };
        let error = match outcome {
            Ok(reply) => {
                note.status = Some(reply.status);
                exchange.attempts.push(note);
                upstream.state.answered(took);
                if !retry.on.covers_status(reply.status) {
                    return Ok(reply);
                }
                upstream.state.failed();
                return Err(reply
                    .held()
                    .await
                    .map_or_else(Failure::Error, |reply| Failure::Status(Box::new(reply))));
            }
            Err(error) => error,
        };
        if error.kind.blame() == Blame::Upstream {
            upstream.state.failed();
        }
        let is_unsent = error.kind == ErrorKind::UpstreamUnreachable;
        tracing::debug!(upstream = &*upstream.settings.name, %error, cause = ?error.source, "attempt failed");
        note.error = Some(Error::new(error.kind.clone(), error.message.clone()));
        exchange.attempts.push(note);
        let may_repeat = is_unsent && further > 0 && exchange.attempts.len() < retry.attempts_max as usize;
        if !may_repeat || !job.is_whole() || !retry.on.covers_error(&error.kind) {
            return Err(Failure::Error(error));
        }
        further -= 1;
        // Full jitter: clients that failed together do not come back together.
        let jitter = (exchange.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        let pause_now = pause.mul_f64(jitter);
        tokio::time::sleep(pause_now).await;
        exchange.waited += pause_now;
        pause = (pause * 2).min(retry.backoff_max);
        match upstream.enter() {
            Some(again) => place = again,
            None => return Err(Failure::Error(error)),
        }
    }
}

/// One attempt: the request sent, the head of the answer and as much of the body as has to be read first.
async fn attempt(job: &Job, upstream: &Arc<Upstream>, place: InFlight, model: &str) -> Result<Reply> {
    let timeouts = &upstream.settings.timeouts;
    let deadline = (!timeouts.total.is_zero()).then(|| Instant::now() + timeouts.total);
    let work = pin!(async {
        let address = job.address(upstream)?;
        let make = || job.request(upstream, model, address.clone(), false);
        let sent = upstream.pool.send(make, timeouts.connect, timeouts.first_byte).await;
        // What the client did wrong while it was sending shows as a broken connection to the upstream.
        let Answer { head, body } = sent.map_err(|error| job.take_fault().unwrap_or(error))?;
        let (headers, content) = read(job, upstream, head.status, head.headers, body).await?;
        let (status, upstream, place) = (head.status, upstream.clone(), Some(place));
        Ok(Reply { status, headers, content, upstream, place, deadline })
    });
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::UpstreamTimeout, "the upstream took too long in total"))
        }),
    }
}

/// Reads as much of an answer as has to be known before the client gets any of it.
async fn read(
    job: &Job,
    upstream: &Upstream,
    status: StatusCode,
    mut headers: HeaderMap,
    body: AnswerBody,
) -> Result<(HeaderMap, ReplyContent)> {
    let kind = headers::Kind::of(&headers);
    headers::strip_hop_by_hop(&mut headers);
    headers::strip_cors(&mut headers);
    let idle = upstream.settings.timeouts.idle;
    let mut source = Source { body, inflate: None };
    // What is sent tells its own length; only where there is nothing to send, as after HEAD, is it the upstream's word.
    if !source.is_end_stream() {
        headers.remove(header::CONTENT_LENGTH);
    }
    let rules = job.rules(upstream).filter(|_| status.is_success() && kind != headers::Kind::Other);
    let content = match rules.filter(|_| source.undo_encoding(&mut headers)) {
        None => opaque(job, source, idle).await?,
        Some(rules) if kind == headers::Kind::EventStream => {
            let first = source.next(idle).await?.ok_or_else(empty)?;
            ReplyContent::Events { source, first, rules }
        }
        Some(rules) => document(source, &rules, idle).await?,
    };
    Ok((headers, content))
}

/// Bytes that are passed on. Of a known endpoint's the first ones are waited for, so that an answer which breaks off
/// before is no answer; of a path that nobody knows not even those, because it may be a stream that is still silent.
async fn opaque(job: &Job, mut source: Source, idle: Duration) -> Result<ReplyContent> {
    let first = match job.endpoint {
        Some(_) => source.next(idle).await?.unwrap_or_default(),
        None => Bytes::new(),
    };
    Ok(ReplyContent::Opaque { source, first })
}

/// A JSON answer, read whole unless it is long and stays as it is.
async fn document(mut source: Source, rules: &Rules, idle: Duration) -> Result<ReplyContent> {
    // A list of models is not passed on but merged.
    let is_changed = rules.edits_choices() || rules.endpoint == Endpoint::Models;
    let limit = if is_changed { ANSWER_BYTES_MAX } else { ANSWER_HELD_BYTES_MAX };
    let (body, is_whole) = source.collect(limit, idle).await?;
    if body.is_empty() {
        return Err(empty());
    }
    match (is_whole, is_changed) {
        (true, _) => answer::rewrite(&body, rules).map(ReplyContent::Whole),
        (false, false) => Ok(ReplyContent::Opaque { source, first: body }),
        (false, true) => Err(invalid("the upstream's answer is too large to be changed")),
    }
}

impl Reply {
    /// Takes the body of an answer that may never be shown into memory, if it is short and there, so that its
    /// connection can be used again.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it breaks off.
    async fn held(mut self) -> Result<Self> {
        if let ReplyContent::Opaque { source, first } = &mut self.content {
            let collecting = source.collect_after(first, FAILED_BODY_BYTES_MAX, Duration::ZERO);
            let is_whole = match tokio::time::timeout(FAILED_BODY_TIME_MAX, collecting).await {
                Ok(collected) => collected?,
                Err(_) => false,
            };
            if is_whole {
                self.content = ReplyContent::Held(std::mem::take(first));
                self.place = None;
            }
        }
        Ok(self)
    }

    /// Takes the body of an answer that is no stream of events into memory, as far as it is short.
    ///
    /// # Errors
    ///
    /// `UpstreamInvalid` when it breaks off or is longer than is held.
    pub(crate) async fn settled(mut self) -> Result<Self> {
        let idle = self.upstream.settings.timeouts.idle;
        if let ReplyContent::Opaque { source, first } = &mut self.content {
            if !source.collect_after(first, ANSWER_HELD_BYTES_MAX, idle).await? {
                return Err(invalid("the upstream answered with more than can be shown as an event"));
            }
            self.content = ReplyContent::Held(std::mem::take(first));
        }
        Ok(self)
    }
}

impl Source {
    /// Prepares to undo the `content-encoding` and takes it out of the headers; false when this program does not know
    /// it, so that it is the client's to undo.
    fn undo_encoding(&mut self, headers: &mut HeaderMap) -> bool {
        let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return true };
        let encoding = encoding.to_str().unwrap_or("");
        if !encoding.eq_ignore_ascii_case("identity") {
            self.inflate = Inflate::new(encoding);
            if self.inflate.is_none() {
                return false;
            }
        }
        headers.remove(header::CONTENT_ENCODING);
        true
    }

    /// Polls for the next bytes.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            let data = match ready!(self.body.poll_data(context)) {
                Some(Ok(data)) => data,
                Some(Err(error)) => {
                    let error = invalid("the upstream broke off its answer").with_source(error);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    return Poll::Ready(match self.inflate.take().map(Inflate::finish) {
                        None => None,
                        Some(Ok(rest)) => (!rest.is_empty()).then_some(Ok(rest)),
                        Some(Err(error)) => Some(Err(misencoded(error))),
                    });
                }
            };
            let data = match &mut self.inflate {
                None => Ok(data),
                Some(inflate) => inflate.push(&data).map_err(misencoded),
            };
            if !matches!(&data, Ok(data) if data.is_empty()) {
                return Poll::Ready(Some(data));
            }
        }
    }

    /// Whether everything has been delivered.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.inflate.is_none() && self.body.is_end_stream()
    }

    /// The length that is still to come, if the upstream said.
    pub(crate) fn len_announced(&self) -> Option<u64> {
        self.body.len_announced().filter(|_| self.inflate.is_none())
    }

    /// Waits for the next bytes, none at the end.
    async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>> {
        match within(idle, pin!(poll_fn(|context| self.poll_data(context)))).await {
            Some(data) => data.transpose(),
            None => Err(Error::new(ErrorKind::UpstreamTimeout, SILENT)),
        }
    }

    /// Reads to the end or to the limit, after what has been read already; says whether it was the end.
    async fn collect_after(&mut self, read: &mut Bytes, limit: usize, idle: Duration) -> Result<bool> {
        while read.len() < limit {
            let Some(more) = self.next(idle).await? else { return Ok(true) };
            *read = if read.is_empty() { more } else { [&**read, &*more].concat().into() };
        }
        Ok(false)
    }

    /// Reads to the end or to the limit; says whether it was the end.
    async fn collect(&mut self, limit: usize, idle: Duration) -> Result<(Bytes, bool)> {
        let Some(first) = self.next(idle).await? else { return Ok((Bytes::new(), true)) };
        let Some(second) = self.next(idle).await? else { return Ok((first, true)) };
        let mut all = BytesMut::from(first);
        all.extend_from_slice(&second);
        while all.len() < limit {
            match self.next(idle).await? {
                Some(more) => all.extend_from_slice(&more),
                None => return Ok((all.freeze(), true)),
            }
        }
        Ok((all.freeze(), false))
    }
}

/// What the client is told when nothing is left to try.
fn settle(last: Option<Failure>) -> Result<Reply> {
    match last {
        Some(Failure::Status(reply)) => Ok(*reply),
        Some(Failure::Error(error)) => Err(error),
        None => Err(full()),
    }
}

fn full() -> Error {
    let message = "every upstream for this model is full, try again";
    Error::new(ErrorKind::Overloaded, message).with_retry_after(FULL_RETRY_AFTER)
}

/// Of two failures the one the client should see: the latest real answer, else the latest error.
fn worse(before: Option<Failure>, now: Failure) -> Failure {
    match (before, now) {
        (Some(Failure::Status(reply)), Failure::Error(_)) => Failure::Status(reply),
        (_, now) => now,
    }
}

impl RetryOn {
    fn covers_status(&self, status: StatusCode) -> bool {
        status.is_server_error() && self.server_errors || self.statuses.contains(&status.as_u16())
    }

    fn covers_error(&self, kind: &ErrorKind) -> bool {
        match kind {
            ErrorKind::UpstreamUnreachable => self.connect,
            ErrorKind::UpstreamTimeout => self.timeout,
            ErrorKind::UpstreamInvalid => self.malformed,
            ErrorKind::UpstreamEmpty => self.empty,
            _ => false,
        }
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::UpstreamInvalid, message)
}

fn empty() -> Error {
    Error::new(ErrorKind::UpstreamEmpty, "the upstream sent an empty answer")
}

fn misencoded(error: std::io::Error) -> Error {
    invalid("the upstream's answer is not encoded as its header says").with_source(error)
}
