//! The attempts of one request: send, judge, back off, move on, stop.
//!
//! Candidates are tried in rank order, then the models and upstreams of their `fallback`, with a set of what was
//! visited and a bound on hops. What the client sees when all fail is the last answer an upstream really gave; only
//! if none gave any is it an error of the gateway.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::auth;
use crate::chat::Prompt;
use crate::config::{Commit, ModelMatch, Retry, RetryOn, Timeouts};
use crate::error::{Blame, Error, ErrorKind, Result, Timer};
use crate::exchange::{Attempt, Exchange};
use crate::limit::queue::{Before, RETRY_AFTER};
use crate::plugin;
use crate::plugin::call::Facts;
use crate::plugin::chain::{Candidate, Chain, Flow, Remedy, Synthetic, View};
use crate::plugin::hook::Hook;
use crate::route::{Fallback, Keying, Ranking, Reads};
use crate::snapshot::Snapshot;
use crate::traces::Lineage;
use crate::upstream::hedge::{Lane, Race, Raced, Rivals};
use crate::upstream::job::{Job, Payload};
use crate::upstream::leave::{Leave, nobody_until};
use crate::upstream::pool::Timers;
use crate::upstream::reply::{Reply, ReplyContent, read};
use crate::upstream::retries::Pot;
use crate::upstream::translation::Translation;
use crate::upstream::{Condition, InFlight, RequestBody, Upstream};
use crate::wire::convert::EffortBudgets;
use crate::wire::document::Document;
use crate::wire::messages;

/// One place to try: an upstream, and the model it is asked for.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) upstream: usize,
    pub(super) model: Arc<str>,
}

/// Why an attempt did not settle the matter.
pub(super) enum Failure {
    /// The upstream answered, with a status that another candidate may better.
    Status(Box<Reply>),
    /// It did not answer, or not validly.
    Error(Error),
    /// It was not asked: the request cannot be put into its words.
    Untranslated(Error),
    /// A plugin wants another one.
    MovedOn(Error),
    /// A plugin ended the matter.
    Ended(Result<Synthetic>),
}

/// What the attempts came to.
pub(crate) enum Dispatched {
    /// An upstream's answer.
    Reply(Reply),
    /// A plugin's.
    Synthetic(Synthetic),
}

/// What one exchange's attempts have in common.
struct Attempts<'a> {
    job: &'a mut Job,
    snapshot: &'a Snapshot,
    chain: &'a mut Chain,
    /// None where there is no plugin.
    facts: Option<&'a Arc<Facts>>,
    exchange: &'a mut Exchange,
    /// Where its attempts are counted.
    pot: Pot,
    /// When the first of the upstreams that were passed over may be asked again.
    resting: Option<Instant>,
}

/// Tries one candidate after another until one has answered.
///
/// Dropping the future aborts the attempt that is running.
///
/// # Errors
///
/// `ModelNotFound` when no upstream takes the model, `Overloaded` when all that do are full, a plugin's refusal or fault,
/// otherwise the last attempt's error when no upstream gave any answer.
pub(crate) async fn dispatch(
    job: &mut Job,
    snapshot: &Snapshot,
    chain: &mut Chain,
    facts: Option<&Arc<Facts>>,
    exchange: &mut Exchange,
) -> Result<Dispatched> {
    let retry = &snapshot.config.retry;
    let mut attempts = Attempts { job, snapshot, chain, facts, exchange, pot: Pot::default(), resting: None };
    let first = match first_target(attempts.job, snapshot) {
        Ok((first, pot)) => {
            attempts.pot = pot;
            first
        }
        Err(error) => match attempts.start_failed(error).await? {
            Turn::To(target) => target,
            Turn::Answer(answer) => return Ok(Dispatched::Synthetic(answer)),
        },
    };
    // Short lists, as long as a request has attempts and hops: a set would cost more than it saves.
    let mut targets = vec![first.clone()];
    let mut steps = attempts.steps(first).await?;
    let mut visited: Vec<Step> = Vec::new();
    // Those of them that had no place, and the one whose place was waited for.
    let (mut full, mut waited): (Vec<Step>, Option<InFlight>) = (Vec::new(), None);
    let mut hops = 0;
    let mut last: Option<Failure> = None;
    // The first of those that have nothing like what is asked: if nobody has, tokens are estimated in its place.
    let mut estimating: Option<&Arc<Upstream>> = None;
    'targets: loop {
        while let Some(step) = steps.next() {
            if attempts.exchange.attempts.len() >= retry.attempts_max as usize || !attempts.job.is_whole() {
                return attempts.settle(last).await;
            }
            if visited.contains(&step) {
                continue;
            }
            let (upstream, model) = (&snapshot.upstreams[step.upstream], step.model.clone());
            visited.push(step);
            let held = waited.take();
            if attempts.job.endpoint_at(upstream).is_none() {
                estimating = estimating.or(Some(upstream));
                last = Some(last.unwrap_or_else(|| Failure::Untranslated(attempts.job.unserved(upstream))));
                continue;
            }
            let Some(leave) = attempts.leave(upstream) else { continue };
            let Some(place) = held.or_else(|| upstream.enter()) else {
                full.extend(visited.last().cloned());
                continue;
            };
            if !attempts.may_go_on() {
                return attempts.settle(last).await;
            }
            let mut rival = None;
            let rivals =
                Rivals { steps: &mut steps, visited: &mut visited, lost: &mut last, failed: &mut rival };
            let failure = match attempts.try_upstream(upstream, leave, place, &model, rivals).await {
                Ok(reply) => return Ok(Dispatched::Reply(reply)),
                Err(failure) => failure,
            };
            let mut moves_on = match &failure {
                Failure::Status(_) | Failure::MovedOn(_) => true,
                Failure::Error(error) => retry.on.covers_error(&error.kind),
                // What one dialect has no words for another may have.
                Failure::Untranslated(_) => true,
                Failure::Ended(_) => false,
            };
            if let Some(facts) = facts.filter(|_| attempts.chain.has(Hook::OnError)) {
                let name = rival.as_deref().unwrap_or(&upstream.settings.name);
                match Box::pin(attempts.on_error(facts, &failure, name, moves_on)).await? {
                    Remedy::Next => {}
                    Remedy::Retry => moves_on = true,
                    Remedy::Respond(answer) => return Ok(Dispatched::Synthetic(answer)),
                    Remedy::Fallback(name) => {
                        let target = Target::of(&name, attempts.job, snapshot);
                        if let Some(target) = target.filter(|_| hops < retry.hops_max) {
                            hops += 1;
                            last = Some(worse(last, failure));
                            targets.push(target.clone());
                            steps = attempts.steps(target).await?;
                            continue 'targets;
                        }
                    }
                }
            }
            if !moves_on {
                return attempts.settle(Some(worse(last, failure))).await;
            }
            last = Some(worse(last, failure));
        }
        // What nobody knows is for the upstream that takes such, and for no other.
        let may_hop = hops < retry.hops_max && attempts.job.endpoint.is_some();
        let names = visited.iter().flat_map(|step| &snapshot.upstreams[step.upstream].settings.fallback);
        let mut further = names.filter_map(|name| Target::of(name, attempts.job, snapshot));
        let next = may_hop.then(|| further.find(|target| !targets.contains(target))).flatten();
        let Some(target) = next else {
            if let (Some(Failure::Untranslated(_)), Some(upstream)) = (&last, estimating)
                && let Some(count) = attempts.job.own_count()
            {
                return Ok(Dispatched::Reply(Reply::own(upstream, count)));
            }
            // Only who has nowhere else to go waits.
            let is_last = attempts.exchange.attempts.len() >= retry.attempts_max as usize;
            if full.is_empty() || is_last || !attempts.job.is_whole() {
                return attempts.settle(last).await;
            }
            let (step, place) = match Box::pin(attempts.wait(&full)).await {
                Ok((index, place)) => (full.remove(index), place),
                Err(error) => return attempts.settle(last.or(Some(Failure::Error(error)))).await,
            };
            visited.retain(|known| *known != step);
            steps = Steps::new(step.model, Order::One(Some(step.upstream)));
            waited = Some(place);
            continue;
        };
        hops += 1;
        targets.push(target.clone());
        steps = attempts.steps(target).await?;
    }
}

/// Asks one upstream, once.
///
/// # Errors
///
/// Those of one attempt, or `Overloaded` when the upstream has no place left.
pub(crate) async fn ask(job: &Job, upstream: &Arc<Upstream>, has_keys: bool) -> Result<Reply> {
    let place = upstream.enter().ok_or_else(full)?;
    let edits = Edits { credential: upstream.credential(), ..Edits::default() };
    let terms = Terms { has_keys, commit: &Commit::default(), budgets: EffortBudgets::default() };
    attempt(job, upstream, place, &job.model, terms, edits).await
}

/// Where a request goes, or goes on to: whoever takes a model, or one upstream.
#[derive(Clone, PartialEq, Eq)]
enum Target {
    Model(Arc<str>),
    Upstream(usize, Arc<str>),
}

/// The places to try for one target, best first.
pub(super) struct Steps {
    model: Arc<str>,
    /// Those that were taken and given back.
    given_back: VecDeque<Step>,
    order: Order,
}

enum Order {
    Ranked(Ranking),
    One(Option<usize>),
    /// As plugins want it.
    Listed(std::vec::IntoIter<usize>),
}

/// What a plugin makes of a request that no upstream takes.
enum Turn {
    To(Target),
    Answer(Synthetic),
}

impl Target {
    /// What the configuration means by a name in `fallback`; none if the caller may not use that.
    fn of(name: &str, job: &Job, snapshot: &Snapshot) -> Option<Self> {
        let target = Self::named(name, job, snapshot)?;
        let is_allowed = match &target {
            Self::Model(model) => job.caller.may_use_model(model),
            Self::Upstream(upstream, model) => {
                job.caller.may_use_upstream(&snapshot.upstreams[*upstream].settings.name)
                    && job.caller.may_use_model(model)
            }
        };
        is_allowed.then_some(target)
    }

    fn named(name: &str, job: &Job, snapshot: &Snapshot) -> Option<Self> {
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
            Self::Upstream(upstream, model) => Steps::new(model, Order::One(Some(upstream))),
            Self::Model(model) => {
                let order = Order::Ranked(ranking(&model, job, snapshot, exchange));
                Steps::new(model, order)
            }
        }
    }
}

impl Steps {
    fn new(model: Arc<str>, order: Order) -> Self {
        Self { model, given_back: VecDeque::new(), order }
    }

    /// Makes it the next one again.
    pub(super) fn give_back(&mut self, step: Step) {
        self.given_back.push_front(step);
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some(step) = self.given_back.pop_front() {
            return Some(step);
        }
        let upstream = match &mut self.order {
            Order::Ranked(ranking) => ranking.next(),
            Order::One(upstream) => upstream.take(),
            Order::Listed(upstreams) => upstreams.next(),
        }?;
        Some(Step { upstream, model: self.model.clone() })
    }
}

/// Where the request goes first, and where its attempts are counted; for an unknown path that is the default upstream.
fn first_target(job: &Job, snapshot: &Snapshot) -> Result<(Target, Pot)> {
    if job.endpoint.is_none() {
        let is_default = |up: &Arc<Upstream>| up.settings.is_default && up.settings.is_enabled;
        let default = snapshot.upstreams.iter().position(is_default);
        let upstream = default.ok_or_else(|| Error::new(ErrorKind::UnknownPath, "there is no such path"))?;
        if !job.caller.may_use_upstream(&snapshot.upstreams[upstream].settings.name) {
            return Err(auth::forbidden("the key may not use the upstream of this path"));
        }
        return Ok((Target::Upstream(upstream, job.model.clone()), Pot::of(&[upstream])));
    }
    job.caller.check_model(&job.model)?;
    let candidates = snapshot.routes.candidates(&job.model);
    let may_use =
        |upstream: &usize| job.caller.may_use_upstream(&snapshot.upstreams[*upstream].settings.name);
    if job.caller.is_pinned() && !candidates.is_empty() && !candidates.iter().any(may_use) {
        let message = format!("no upstream that the key may use takes the model `{}`", job.model);
        return Err(auth::forbidden(message));
    }
    if candidates.is_empty() {
        return Err(Error::new(
            ErrorKind::ModelNotFound,
            format!("The model `{}` does not exist.", job.model),
        ));
    }
    Ok((Target::Model(job.model.clone()), Pot::of(&candidates)))
}

/// The candidates for a model, best first.
fn ranking(model: &Arc<str>, job: &Job, snapshot: &Snapshot, exchange: &Exchange) -> Ranking {
    let routes = &snapshot.routes;
    let mut candidates = routes.candidates(model);
    if job.caller.is_pinned() {
        let may_use = |index: &usize| job.caller.may_use_upstream(&snapshot.upstreams[*index].settings.name);
        candidates = candidates.iter().copied().filter(may_use).collect();
    }
    let prompt = match (&job.payload, routes.reads(&candidates)) {
        (Payload::Json(request), reads @ (Reads::Prefix | Reads::Users)) => {
            request.prompt(reads == Reads::Users)
        }
        _ => Prompt::default(),
    };
    let keying = Keying { tenant: job.caller.tenant.as_deref().unwrap_or_default(), model };
    let in_flight = |index: usize| snapshot.upstreams[index].state.in_flight();
    routes.rank(&candidates, keying, &prompt, in_flight, || exchange.draw())
}

impl Attempts<'_> {
    /// Leave to ask an upstream; none if it is left alone for now.
    fn leave<'up>(&mut self, upstream: &'up Upstream) -> Option<Leave<'up>> {
        let later = match upstream.leave(|| !has_others(self.snapshot, self.job, upstream)) {
            Ok(leave) => return Some(leave),
            Err(later) => later,
        };
        self.resting = Some(self.resting.map_or(later, |soonest| soonest.min(later)));
        None
    }

    /// Whether the same request can be sent once more.
    fn can_repeat(&self) -> bool {
        let attempts_max = self.snapshot.config.retry.attempts_max as usize;
        self.exchange.attempts.len() < attempts_max && self.job.is_whole()
    }

    /// Whether the gateway may make one more attempt: the first of an exchange, or one within `retry.budget`.
    fn may_go_on(&self) -> bool {
        let is_first = self.exchange.attempts.is_empty();
        self.snapshot.retries.allow(self.pot, is_first, self.snapshot.config.retry.budget)
    }

    /// The places to try for a target, in the order the plugins want.
    async fn steps(&mut self, target: Target) -> Result<Steps> {
        let steps = target.steps(self.job, self.snapshot, self.exchange);
        match self.facts {
            Some(facts) if self.chain.has(Hook::OnRoute) => {
                Box::pin(self.on_route(facts.clone(), steps)).await
            }
            _ => Ok(steps),
        }
    }

    /// Waits for a place at any of the upstreams that have none; says which of them it is at.
    async fn wait(&mut self, full: &[Step]) -> Result<(usize, InFlight)> {
        let began = Instant::now();
        let place = self.stand_in_line(full).await;
        self.exchange.waited += began.elapsed();
        place
    }

    /// Who waits here runs nothing: its place in the gateway is for others until it has one at an upstream. Nobody waits
    /// with a place in the gateway in hand, so whoever waits for that with one at an upstream waits only for who runs.
    async fn stand_in_line(&mut self, full: &[Step]) -> Result<(usize, InFlight)> {
        let places = full.iter().map(|step| self.snapshot.upstreams[step.upstream].state.places.clone());
        let (queue, limits) = (self.exchange.activity().queue.clone(), &self.snapshot.config.limits);
        let caller = queue.caller(&self.exchange.origin(&self.job.caller).as_one(&limits.by));
        self.exchange.in_flight = None;
        let place = queue.wait(Before::Upstream, places.collect(), caller, limits).await?;
        self.exchange.in_flight = match queue.enter() {
            None => Some(queue.admit(caller, limits).await?),
            entered => entered,
        };
        Ok(place)
    }

    async fn on_route(&mut self, facts: Arc<Facts>, steps: Steps) -> Result<Steps> {
        let model = steps.model.clone();
        let ranked: Vec<usize> = steps.map(|step| step.upstream).collect();
        let candidates: Vec<Candidate> =
            ranked.iter().map(|index| candidate(&self.snapshot.upstreams[*index], &model)).collect();
        let mut view = self.job.lend(&facts);
        let order = self.chain.on_route(&mut view, &candidates).await;
        self.job.take_back(view);
        let order: Vec<usize> = order?.into_iter().map(|place| ranked[place]).collect();
        if order.is_empty() && !ranked.is_empty() {
            let message = "the plugins leave no upstream for this request";
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        Ok(Steps::new(model, Order::Listed(order.into_iter())))
    }

    /// Nobody takes the request: a plugin may know better.
    async fn start_failed(&mut self, error: Error) -> Result<Turn> {
        let Some(facts) = self.facts.cloned().filter(|_| self.chain.has(Hook::OnError)) else {
            return Err(error);
        };
        let failure = Failure::Error(error);
        match Box::pin(self.on_error(&facts, &failure, "", false)).await? {
            Remedy::Respond(answer) => return Ok(Turn::Answer(answer)),
            Remedy::Fallback(name) => {
                if let Some(target) = Target::of(&name, self.job, self.snapshot) {
                    return Ok(Turn::To(target));
                }
            }
            Remedy::Next | Remedy::Retry => {}
        }
        match failure {
            Failure::Error(error) => Err(error),
            Failure::Status(_) | Failure::Untranslated(_) | Failure::MovedOn(_) | Failure::Ended(_) => {
                Err(full())
            }
        }
    }

    async fn on_error(
        &mut self,
        facts: &Arc<Facts>,
        failure: &Failure,
        upstream: &str,
        moves_on: bool,
    ) -> Result<Remedy> {
        let (status, code, message) = match failure {
            Failure::Status(reply) => (
                reply.status,
                "upstream_status",
                format!("the upstream answered with status {}", reply.status.as_u16()),
            ),
            Failure::Error(error) | Failure::Untranslated(error) | Failure::MovedOn(error) => {
                (error.kind.status(), error.kind.code(), error.message.clone())
            }
            Failure::Ended(_) => return Ok(Remedy::Next),
        };
        let failure = plugin::chain::Failure {
            status: status.as_u16(),
            code: code.to_owned(),
            message,
            upstream: (!upstream.is_empty()).then(|| upstream.to_owned()),
            attempt: u32::try_from(self.exchange.attempts.len()).unwrap_or(u32::MAX),
            retryable: moves_on,
        };
        let mut view = self.job.lend(facts);
        view.attempt = failure.attempt;
        view.upstream = failure.upstream.as_deref().map(Arc::from);
        let remedy = self.chain.on_error(&mut view, &failure).await;
        self.job.take_back(view);
        remedy
    }

    /// What the client is told when nothing is left to try. Plugins see an upstream's refusal too, if it is the answer.
    async fn settle(&mut self, last: Option<Failure>) -> Result<Dispatched> {
        let last = last.or_else(|| self.resting.map(|until| Failure::Error(nobody_until(until))));
        let sees = self.facts.filter(|_| self.chain.has(Hook::OnResponse)).cloned();
        let (Some(facts), Some(Failure::Status(_))) = (sees, &last) else { return settle(last) };
        let Some(Failure::Status(reply)) = last else { return settle(None) };
        let model = self.job.model.clone();
        match Box::pin(self.on_response(facts, *reply, &model)).await {
            Ok(reply) => Ok(Dispatched::Reply(reply)),
            Err(Failure::MovedOn(_)) => {
                let message = "no upstream is left whose answer the plugins let pass";
                Err(Error::new(ErrorKind::UpstreamInvalid, message))
            }
            Err(failure) => settle(Some(failure)),
        }
    }

    /// Attempts at one upstream: one, and further ones while nothing was sent. If it is slow and the configuration wants
    /// that, one at a rival beside it.
    async fn try_upstream<'up>(
        &mut self,
        upstream: &'up Arc<Upstream>,
        mut leave: Leave<'up>,
        mut place: InFlight,
        model: &Arc<str>,
        mut rivals: Rivals<'_>,
    ) -> Result<Reply, Failure> {
        let retry = &self.snapshot.config.retry;
        let terms = Terms::of(self.snapshot);
        let hedge = Some(upstream.settings.hedge).filter(|hedge| !hedge.is_zero() && self.job.is_in_memory());
        let mut repeated = 0;
        loop {
            let own = leave.credential();
            let translation = self
                .job
                .translation(upstream, model, terms.budgets)
                .map_err(Failure::Untranslated)?
                .map(Box::new);
            let translation = translation.as_deref();
            let mut edits = Edits { translation, credential: own, ..Edits::default() };
            let prepared = match self.facts.filter(|_| self.chain.has(Hook::OnUpstreamRequest)) {
                Some(facts) => {
                    let number = self.exchange.attempts.len() + 1;
                    let show = Show { facts: facts.clone(), number, has_keys: terms.has_keys, edits };
                    Some(Box::pin(prepare(self.job, self.chain, show, upstream, model)).await?)
                }
                None => None,
            };
            let (note, lineage) = begin(self.exchange, upstream, model);
            (edits.prepared, edits.lineage) = (prepared.as_ref(), lineage.as_ref());
            let raced = match hedge {
                None => Raced::Alone(attempt(self.job, upstream, place, model, terms, edits).await, leave),
                Some(delay) => {
                    let working = Box::pin(attempt(self.job, upstream, place, model, terms, edits));
                    let race = Race {
                        job: self.job,
                        snapshot: self.snapshot,
                        chain: self.chain,
                        facts: self.facts,
                        exchange: self.exchange,
                        pot: self.pot,
                        rivals: &mut rivals,
                    };
                    let lane = Lane { upstream, model: model.clone(), is_first: true, note, leave, working };
                    Box::pin(race.run(lane, delay)).await
                }
            };
            self.exchange.waited += note.started.elapsed();
            let (mut outcome, used) = match raced {
                Raced::Alone(outcome, used) => (outcome, used),
                Raced::Decided(judged) => {
                    let reply = judged?;
                    return self.accept(reply, model).await;
                }
            };
            let next_key = used.learn(&mut outcome, || may_rest(self.snapshot, self.job, upstream));
            let mut judged = judge(self.exchange, &retry.on, upstream, note, outcome).await;
            if let Some(next) = next_key {
                // Its place is needed, if there are few.
                judged = held(judged).await;
                // A refused key is the operator's fault and not the caller's; nothing was done with the request.
                if self.can_repeat()
                    && let Some(again) = upstream.enter()
                    && self.may_go_on()
                {
                    rivals.lose(judged);
                    (leave, place) = (next, again);
                    continue;
                }
            }
            let error = match judged {
                Ok(reply) => return self.accept(reply, model).await,
                Err(Failure::Error(error)) => error,
                Err(failure) => return Err(failure),
            };
            let is_unsent = matches!(
                error.kind,
                ErrorKind::UpstreamUnreachable | ErrorKind::UpstreamTimeout(Timer::Connect)
            );
            let is_wanted = is_unsent && repeated < retry.same_upstream && retry.on.covers_error(&error.kind);
            if !is_wanted || !self.can_repeat() {
                return Err(Failure::Error(error));
            }
            let pause = pause(retry, repeated, self.exchange.draw());
            repeated += 1;
            tokio::time::sleep(pause).await;
            self.exchange.waited += pause;
            match (self.leave(upstream), upstream.enter()) {
                (Some(next), Some(again)) if self.may_go_on() => (leave, place) = (next, again),
                _ => return Err(Failure::Error(error)),
            }
        }
    }

    /// An answer that is to be the client's, unless a plugin minds.
    async fn accept(&mut self, reply: Reply, model: &Arc<str>) -> Result<Reply, Failure> {
        match self.facts.filter(|_| self.chain.has(Hook::OnResponse)) {
            Some(facts) => Box::pin(self.on_response(facts.clone(), reply, model)).await,
            None => Ok(reply),
        }
    }

    /// Shows the plugins an answer.
    async fn on_response(
        &mut self,
        facts: Arc<Facts>,
        mut reply: Reply,
        model: &Arc<str>,
    ) -> Result<Reply, Failure> {
        if !reply.status.is_success() {
            // What an upstream refuses with is short, and a document like any other.
            reply = reply.held().await.map_err(Failure::Error)?;
        }
        let document = match &reply.content {
            ReplyContent::Whole(answer) => Some(Document::trusted(answer.body())),
            ReplyContent::Held(body) => Document::new(body.clone()).ok(),
            ReplyContent::Events(_) | ReplyContent::Opaque { .. } => None,
        };
        let headers = std::mem::take(&mut reply.headers);
        let mut view = View::new(facts, model.clone(), headers, document);
        view.attempt = u32::try_from(self.exchange.attempts.len()).unwrap_or(u32::MAX);
        view.upstream = Some(reply.upstream.settings.name.clone());
        if let ReplyContent::Whole(answer) = &reply.content {
            view.usage = answer.facts.usage;
        }
        let flow = self.chain.on_response(&mut view, reply.status).await;
        reply.headers = view.headers;
        match flow {
            Ok(Flow::Next(edited)) => {
                if let Some(document) = view.document.filter(|_| edited.document) {
                    match &mut reply.content {
                        ReplyContent::Whole(answer) => answer.segments = vec![document.into_bytes()],
                        content => *content = ReplyContent::Held(document.into_bytes()),
                    }
                }
                Ok(reply)
            }
            Ok(Flow::MoveOn(reason)) => {
                let message = format!("a plugin refused the upstream's answer: {reason}");
                Err(Failure::MovedOn(Error::new(ErrorKind::UpstreamInvalid, message)))
            }
            Ok(Flow::Respond(answer)) => Err(Failure::Ended(Ok(answer))),
            Err(error) => Err(Failure::Ended(Err(error))),
        }
    }
}

/// The pause before a further try at the same upstream, after so many.
///
/// Full jitter, from 64 random bits: clients that failed together do not come back together.
fn pause(retry: &Retry, repeated: u32, draw: u64) -> Duration {
    let doubled = retry.backoff.saturating_mul(1_u32.checked_shl(repeated).unwrap_or(u32::MAX));
    doubled.min(retry.backoff_max).mul_f64((draw >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Whether somebody else than this upstream could answer this caller, too.
fn has_others(snapshot: &Snapshot, job: &Job, upstream: &Upstream) -> bool {
    // What nobody knows is for one upstream only.
    if job.endpoint.is_none() {
        return false;
    }
    let may_do = |index: &usize| {
        let other = &*snapshot.upstreams[*index];
        !std::ptr::eq(other, upstream)
            && job.caller.may_use_upstream(&other.settings.name)
            && job.endpoint_at(other).is_some()
    };
    let takes = |model: &str| snapshot.routes.candidates(model).iter().any(may_do);
    let may_hop = snapshot.config.retry.hops_max > 0;
    let mut further = upstream.settings.fallback.iter().filter(|_| may_hop);
    takes(&job.model)
        || further.any(|name| match Target::of(name, job, snapshot) {
            Some(Target::Model(model)) => takes(&model),
            Some(Target::Upstream(other, _)) => may_do(&other),
            None => false,
        })
}

/// Whether an upstream may be left alone because it asks for that: nobody has to do without it, and it was not one
/// caller's key that it had too much of.
pub(super) fn may_rest(snapshot: &Snapshot, job: &Job, upstream: &Upstream) -> bool {
    !job.lends_its_key(upstream, snapshot.has_keys()) && has_others(snapshot, job, upstream)
}

/// What plugins are told of an attempt that is about to begin.
pub(super) struct Show<'a> {
    pub(super) facts: Arc<Facts>,
    /// Which one it is of the exchange, from 1.
    pub(super) number: usize,
    pub(super) has_keys: bool,
    /// What of the request is not as the job makes it.
    pub(super) edits: Edits<'a>,
}

/// Shows the plugins what this upstream would get.
pub(super) async fn prepare(
    job: &Job,
    chain: &mut Chain,
    show: Show<'_>,
    upstream: &Upstream,
    model: &Arc<str>,
) -> Result<Prepared, Failure> {
    let Show { facts, number, has_keys, edits } = show;
    let address =
        job.address(upstream, model, edits.translation).map_err(|error| Failure::Ended(Err(error)))?;
    let (mut headers, body) = job.whole_request(upstream, model, address, has_keys, &edits);
    let document = body.clone().map(Document::trusted);
    // The gateway's own way to name the place and the length is not for plugins.
    let host = headers.remove(header::HOST);
    // Nor is what the operator configured for this upstream, which may be a credential of any name.
    let configured: Vec<(HeaderName, HeaderValue)> = upstream.settings.headers.clone();
    for (name, _) in &configured {
        headers.remove(name);
    }
    let known_as = document.as_ref().and_then(messages::model);
    let mut view = View::new(facts, known_as.map_or_else(|| model.clone(), Arc::from), headers, document);
    view.attempt = u32::try_from(number).unwrap_or(u32::MAX);
    view.upstream = Some(upstream.settings.name.clone());
    view.endpoint = edits.translation.map(|translation| translation.endpoint).or(view.endpoint);
    match chain.on_upstream_request(&mut view).await {
        Ok(Flow::Next(edited)) => {
            let mut headers = view.headers;
            headers.extend(host.map(|host| (header::HOST, host)));
            for (name, value) in configured {
                headers.insert(name, value);
            }
            let body = view.document.filter(|_| edited.document).map(Document::into_bytes).or(body);
            Ok(Prepared { headers, body })
        }
        Ok(Flow::MoveOn(reason)) => Err(Failure::MovedOn(Error::new(ErrorKind::Overloaded, reason))),
        Ok(Flow::Respond(answer)) => Err(Failure::Ended(Ok(answer))),
        Err(error) => Err(Failure::Ended(Err(error))),
    }
}

/// Where an attempt is noted, and when it began.
#[derive(Clone, Copy)]
pub(super) struct Note {
    pub(super) place: usize,
    pub(super) started: Instant,
}

/// Notes an attempt before it begins: the client may leave in the middle.
pub(super) fn begin(
    exchange: &mut Exchange,
    upstream: &Arc<Upstream>,
    model: &Arc<str>,
) -> (Note, Option<Lineage>) {
    upstream.state.asked();
    let note = Note { place: exchange.attempts.len(), started: Instant::now() };
    exchange.attempts.push(Attempt {
        upstream: upstream.settings.name.clone(),
        model: upstream.settings.model_there(model),
        began: note.started - exchange.started(),
        status: None,
        error: None,
        took: Duration::ZERO,
    });
    (note, exchange.trace.as_mut().map(|trace| trace.attempt(upstream)))
}

/// Notes what an attempt came to, and says whether it is one that another may better.
pub(super) async fn judge(
    exchange: &mut Exchange,
    on: &RetryOn,
    upstream: &Upstream,
    note: Note,
    outcome: Result<Reply>,
) -> Result<Reply, Failure> {
    let took = note.started.elapsed();
    let note = &mut exchange.attempts[note.place];
    note.took = took;
    let error = match outcome {
        Ok(reply) => {
            note.status = Some(reply.status);
            upstream.state.answered(took);
            if !on.covers_status(reply.status) {
                return Ok(reply);
            }
            upstream.state.failed();
            let held = reply.held().await;
            return Err(held.map_or_else(Failure::Error, |reply| Failure::Status(Box::new(reply))));
        }
        Err(error) => error,
    };
    if error.kind.blame() == Blame::Upstream {
        upstream.state.failed();
    }
    tracing::debug!(upstream = &*upstream.settings.name, error = error.message, cause = ?error.source, "attempt failed");
    note.error = Some(Error::new(error.kind.clone(), error.message.clone()));
    Err(Failure::Error(error))
}

/// The same, with a short body in memory, so that its place is free.
pub(super) async fn held(judged: Result<Reply, Failure>) -> Result<Reply, Failure> {
    judged?.held().await.map_err(Failure::Error)
}

/// An upstream as plugins are shown it.
fn candidate(upstream: &Upstream, model: &Arc<str>) -> Candidate {
    let settings = &upstream.settings;
    let latency = upstream.state.latency().as_millis();
    Candidate {
        id: settings.name.to_string(),
        dialect: settings.dialect.label().to_owned(),
        model: settings.model_there(model).to_string(),
        weight: settings.priority,
        healthy: upstream.state.condition() != Condition::Failing,
        cost_micro_usd_per_mtok: None,
        p50_ttft_ms: (latency > 0).then(|| u32::try_from(latency).unwrap_or(u32::MAX)),
    }
}

/// A request that plugins have edited for one upstream.
pub(super) struct Prepared {
    headers: HeaderMap,
    /// None for what is not in memory.
    body: Option<Bytes>,
}

/// What of a request is not as the job makes it.
#[derive(Clone, Copy, Default)]
pub(super) struct Edits<'a> {
    /// As plugins want it.
    pub(super) prepared: Option<&'a Prepared>,
    /// The trace it is a part of.
    pub(super) lineage: Option<&'a Lineage>,
    /// The upstream's own key for it, if it has one.
    pub(super) credential: Option<&'a HeaderValue>,
    /// It in the upstream's words, if those are not the client's.
    pub(super) translation: Option<&'a Translation>,
}

/// What holds for all attempts of an exchange.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    /// Whether callers have keys of this gateway.
    pub(super) has_keys: bool,
    /// How long a stream may be held back.
    pub(super) commit: &'a Commit,
    /// What efforts stand for.
    pub(super) budgets: EffortBudgets,
}

impl<'a> Terms<'a> {
    /// What a configuration says.
    pub(super) fn of(snapshot: &'a Snapshot) -> Self {
        let config = &snapshot.config;
        Self { has_keys: snapshot.has_keys(), commit: &config.commit, budgets: config.effort_budgets }
    }
}

/// One attempt: the request sent, the head of the answer and as much of the body as has to be read first.
pub(super) async fn attempt(
    job: &Job,
    upstream: &Arc<Upstream>,
    place: InFlight,
    model: &str,
    terms: Terms<'_>,
    edits: Edits<'_>,
) -> Result<Reply> {
    let timeouts = &upstream.settings.timeouts;
    let deadline = (!timeouts.total.is_zero()).then(|| Instant::now() + timeouts.total);
    let work = pin!(async {
        let address = job.address(upstream, model, edits.translation)?;
        let make = || {
            let mut request = job.request(upstream, model, address.clone(), terms.has_keys, &edits);
            if let Some(Prepared { headers, body }) = edits.prepared {
                request.headers_mut().clone_from(headers);
                if let Some(body) = body {
                    *request.body_mut() = RequestBody::from_segments(vec![body.clone()]);
                }
            }
            if let Some(lineage) = edits.lineage {
                lineage.put_into(request.headers_mut());
            }
            request
        };
        let sent = upstream.pool.send(make, timers(job, timeouts)).await;
        // What the client did wrong while it was sending shows as a broken connection to the upstream.
        let answer = sent.map_err(|error| job.take_fault().unwrap_or(error))?;
        let (status, headers, content) =
            read(job, (upstream, model), edits.translation, terms.commit, answer).await?;
        let (upstream, place) = (upstream.clone(), Some(place));
        Ok(Reply { status, headers, content, upstream, place, deadline })
    });
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .unwrap_or_else(|_| Err(job.slowness().unwrap_or_else(|| Timer::Total.error()))),
    }
}

/// The bounds up to the head of an answer. Of a stream that is to have content sooner, the head must be there by then.
fn timers(job: &Job, timeouts: &Timeouts) -> Timers {
    let Timeouts { connect, first_byte, first_token, .. } = *timeouts;
    let is_shorter = !first_token.is_zero() && (first_byte.is_zero() || first_token < first_byte);
    let (head, head_timer) = match is_shorter && job.is_stream() {
        true => (first_token, Timer::FirstToken),
        false => (first_byte, Timer::FirstByte),
    };
    Timers { connect, head, head_timer }
}

/// What the attempts came to when nothing is left to try.
fn settle(last: Option<Failure>) -> Result<Dispatched> {
    match last {
        Some(Failure::Status(reply)) => Ok(Dispatched::Reply(*reply)),
        Some(Failure::Ended(outcome)) => outcome.map(Dispatched::Synthetic),
        Some(Failure::Error(error) | Failure::Untranslated(error) | Failure::MovedOn(error)) => Err(error),
        None => Err(full()),
    }
}

fn full() -> Error {
    let message = "every upstream for this model is full, try again";
    Error::new(ErrorKind::Overloaded, message).with_retry_after(RETRY_AFTER)
}

/// Of two failures the one the client should see: the latest real answer, else the latest error.
pub(super) fn worse(before: Option<Failure>, now: Failure) -> Failure {
    match (before, now) {
        (
            Some(Failure::Status(reply)),
            Failure::Error(_) | Failure::Untranslated(_) | Failure::MovedOn(_),
        ) => Failure::Status(reply),
        (Some(before @ Failure::Error(_)), Failure::Untranslated(_)) => before,
        (_, now) => now,
    }
}

impl RetryOn {
    fn covers_status(&self, status: StatusCode) -> bool {
        status.is_server_error() && self.server_errors || self.statuses.contains(&status.as_u16())
    }

    fn covers_error(&self, kind: &ErrorKind) -> bool {
        match kind {
            ErrorKind::UpstreamUnreachable | ErrorKind::UpstreamTimeout(Timer::Connect) => self.connect,
            ErrorKind::UpstreamTimeout(_) => self.timeout,
            ErrorKind::UpstreamInvalid => self.malformed,
            ErrorKind::UpstreamEmpty => self.empty,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // parity: 116
    #[test]
    fn pauses_double_up_to_their_bound_and_differ() {
        let [backoff, backoff_max] = [100, 1_000].map(Duration::from_millis);
        let retry = Retry { backoff, backoff_max, ..crate::config::defaults::Defaults::default().retry };
        for (repeated, longest) in
            [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1_000), (31, 1_000), (99, 1_000)]
        {
            let longest = Duration::from_millis(longest);
            let just_below = longest - Duration::from_millis(1);
            assert_eq!(pause(&retry, repeated, 0), Duration::ZERO);
            assert!((just_below..=longest).contains(&pause(&retry, repeated, u64::MAX)), "{repeated}");
            let half = pause(&retry, repeated, 1 << 63);
            assert!((longest / 2).abs_diff(half) < Duration::from_millis(1), "{repeated}: {half:?}");
        }
    }
}
