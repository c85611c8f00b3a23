//! The attempts of one request: send, judge, back off, move on, stop.
//!
//! Candidates are tried in rank order, then the models and upstreams of their `fallback`, with a set of what was
//! visited and a bound on hops. What the client sees when all fail is the last answer an upstream really gave; only
//! if none gave any is it an error of the gateway.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use crate::chat::Prompt;
use crate::config::{ModelMatch, Retry, RetryOn};
use crate::error::{Blame, Error, ErrorKind, Result};
use crate::exchange::{Attempt, Exchange};
use crate::route::{Fallback, Keying, Ranking, Reads};
use crate::snapshot::Snapshot;
use crate::upstream::job::{Job, Payload};
use crate::upstream::reply::{Reply, read};
use crate::upstream::{Answer, InFlight, Upstream};

/// How long the gateway asks a client to wait when no upstream has a place left.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(1);

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
