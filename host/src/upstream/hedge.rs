//! A second attempt beside a slow one: the first that answers is heard, the other is cancelled.
//!
//! A refusal is not an answer while the other may have a better one: only what the upstream that was asked first says of
//! the request itself is final. One whose key was refused goes on with its next key. Whoever was cancelled is judged
//! neither well nor badly, because it was slow by what the operator called slow, and not by a timer of its own.
//!
//! Two upstreams act on one request then, which is why nobody gets this who did not ask for it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::Exchange;
use crate::plugin::call::Facts;
use crate::plugin::chain::Chain;
use crate::plugin::hook::Hook;
use crate::snapshot::Snapshot;
use crate::upstream::dispatch::{
    Edits, Failure, Note, Show, Step, Steps, Terms, attempt, begin, held, judge, may_rest, prepare, worse,
};
use crate::upstream::job::Job;
use crate::upstream::leave::Leave;
use crate::upstream::reply::Reply;
use crate::upstream::retries::Pot;
use crate::upstream::{InFlight, Upstream};

/// Who may be asked beside the one that is slow.
pub(super) struct Rivals<'a> {
    /// Who is next.
    pub(super) steps: &'a mut Steps,
    /// Who has been asked.
    pub(super) visited: &'a mut Vec<Step>,
    /// What the exchange would end with, of the attempts before and of those that something better is hoped for.
    pub(super) lost: &'a mut Option<Failure>,
    /// The name of the one that failed last, if it was not the first that was asked.
    pub(super) failed: &'a mut Option<Arc<str>>,
}

/// What a slow attempt came to.
pub(super) enum Raced<'up> {
    /// Its own outcome: nobody was asked beside it.
    Alone(Result<Reply>, Leave<'up>),
    /// The answer, or the failure of the one that failed last. All are noted.
    Decided(Result<Reply, Failure>),
}

/// One of the attempts.
pub(super) struct Lane<'a, 'up> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) model: Arc<str>,
    /// Whether its upstream is the one that was asked first.
    pub(super) is_first: bool,
    pub(super) note: Note,
    /// What the outcome is told to.
    pub(super) leave: Leave<'up>,
    pub(super) working: Working<'a>,
}

type Working<'a> = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'a>>;

/// What a second attempt is made from.
pub(super) struct Race<'a, 'r> {
    pub(super) job: &'a Job,
    pub(super) snapshot: &'a Snapshot,
    pub(super) chain: &'a mut Chain,
    /// None where there is no plugin.
    pub(super) facts: Option<&'a Arc<Facts>>,
    pub(super) exchange: &'a mut Exchange,
    /// Where its attempts are counted.
    pub(super) pot: Pot,
    pub(super) rivals: &'a mut Rivals<'r>,
}

/// Whom an attempt is made at.
struct Whom<'a> {
    upstream: &'a Arc<Upstream>,
    model: Arc<str>,
    is_first: bool,
}

impl Rivals<'_> {
    /// Keeps what an attempt came to, for the case that nothing better comes.
    pub(super) fn lose(&mut self, judged: Result<Reply, Failure>) {
        let failure = judged.map_or_else(|failure| failure, |reply| Failure::Status(Box::new(reply)));
        *self.lost = Some(worse(self.lost.take(), failure));
    }
}

impl<'a> Race<'a, '_> {
    /// Waits for an attempt, and after `delay` for a second one, too.
    ///
    /// Dropping the future aborts both.
    pub(super) async fn run<'up: 'a>(mut self, mut first: Lane<'a, 'up>, delay: Duration) -> Raced<'up> {
        if let Ok(outcome) = tokio::time::timeout(delay, first.working.as_mut()).await {
            return Raced::Alone(outcome, first.leave);
        }
        match self.second().await {
            Ok(Some(second)) => Raced::Decided(self.decide(vec![first, second]).await),
            Ok(None) => Raced::Alone(first.working.await, first.leave),
            Err(failure) => {
                self.cancel(first, "a plugin ended the request");
                Raced::Decided(Err(failure))
            }
        }
    }

    /// Waits for an answer that nothing better can be hoped for than.
    async fn decide(&mut self, mut lanes: Vec<Lane<'a, 'a>>) -> Result<Reply, Failure> {
        let (job, snapshot) = (self.job, self.snapshot);
        loop {
            let (place, mut outcome) = first_of(&mut lanes).await;
            let Lane { upstream, model, is_first, note, leave, .. } = lanes.remove(place);
            let next_key = leave.learn(&mut outcome, || may_rest(snapshot, job, upstream));
            let mut judged = judge(self.exchange, &snapshot.config.retry.on, upstream, note, outcome).await;
            if let Some(next) = next_key {
                judged = held(judged).await;
                if self.can_repeat()
                    && let Some(place) = upstream.enter()
                    && self.may_go_on()
                {
                    self.rivals.lose(judged);
                    judged = match self.lane(Whom { upstream, model, is_first }, next, place).await {
                        Ok(lane) => {
                            lanes.push(lane);
                            continue;
                        }
                        Err(failure) => Err(failure),
                    };
                }
            }
            let is_final = match &judged {
                Ok(reply) => is_final(reply.status, is_first),
                Err(failure) => matches!(failure, Failure::Ended(_)),
            };
            if is_final || lanes.is_empty() {
                let reason = if judged.is_ok() {
                    "another upstream answered first"
                } else {
                    "a plugin ended the request"
                };
                lanes.into_iter().for_each(|lane| self.cancel(lane, reason));
                self.exchange.put_last(note.place);
                *self.rivals.failed = (!is_first).then(|| upstream.settings.name.clone());
                return judged;
            }
            let judged = held(judged).await;
            self.rivals.lose(judged);
        }
    }

    /// Begins an attempt at the next candidate, if there is one and it may be asked.
    async fn second(&mut self) -> Result<Option<Lane<'a, 'a>>, Failure> {
        if !self.can_repeat() {
            return Ok(None);
        }
        let Some((step, leave, place)) = self.next() else { return Ok(None) };
        let upstream = &self.snapshot.upstreams[step.upstream];
        let whom = Whom { upstream, model: step.model.clone(), is_first: false };
        self.rivals.visited.push(step);
        match self.lane(whom, leave, place).await {
            Ok(lane) => Ok(Some(lane)),
            Err(Failure::MovedOn(_)) => Ok(None),
            // What cannot be put into this one's words was understood by the first.
            Err(Failure::Untranslated(_)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Begins an attempt.
    async fn lane(
        &mut self,
        whom: Whom<'a>,
        leave: Leave<'a>,
        place: InFlight,
    ) -> Result<Lane<'a, 'a>, Failure> {
        let Whom { upstream, model, is_first } = whom;
        let (job, own, terms) = (self.job, leave.credential(), Terms::of(self.snapshot));
        let translation = job.translation(upstream, &model, terms.budgets).map_err(Failure::Untranslated)?;
        let translation = translation.map(Box::new);
        let edits = Edits { translation: translation.as_deref(), credential: own, ..Edits::default() };
        let prepared = match self.facts.filter(|_| self.chain.has(Hook::OnUpstreamRequest)) {
            Some(facts) => {
                let number = self.exchange.attempts.len() + 1;
                let show = Show { facts: facts.clone(), number, has_keys: terms.has_keys, edits };
                Some(Box::pin(prepare(job, self.chain, show, upstream, &model)).await?)
            }
            None => None,
        };
        let (note, lineage) = begin(self.exchange, upstream, &model);
        let asked = model.clone();
        let working = Box::pin(async move {
            let edits = Edits {
                prepared: prepared.as_ref(),
                lineage: lineage.as_ref(),
                credential: own,
                translation: translation.as_deref(),
            };
            attempt(job, upstream, place, &asked, terms, edits).await
        });
        Ok(Lane { upstream, model, is_first, note, leave, working })
    }

    /// The next candidate that may be asked now. Those that may not are left for later, and all if the budget for further
    /// attempts is used up: it is one more request for the upstreams, like a retry.
    fn next(&mut self) -> Option<(Step, Leave<'a>, InFlight)> {
        let snapshot = self.snapshot;
        let mut passed = Vec::new();
        let mut found = None;
        while found.is_none()
            && let Some(step) = self.rivals.steps.next()
        {
            let upstream = &snapshot.upstreams[step.upstream];
            if self.rivals.visited.contains(&step) || self.job.endpoint_at(upstream).is_none() {
                continue;
            }
            match (upstream.leave(|| false), upstream.enter()) {
                (Ok(leave), Some(place)) => found = Some((step, leave, place)),
                _ => passed.push(step),
            }
        }
        let is_allowed = found.is_some() && self.may_go_on();
        if let Some((step, ..)) = found.as_ref().filter(|_| !is_allowed) {
            passed.push(step.clone());
        }
        passed.into_iter().rev().for_each(|step| self.rivals.steps.give_back(step));
        found.filter(|_| is_allowed)
    }

    fn can_repeat(&self) -> bool {
        self.exchange.attempts.len() < self.snapshot.config.retry.attempts_max as usize
    }

    fn may_go_on(&self) -> bool {
        self.snapshot.retries.allow(self.pot, false, self.snapshot.config.retry.budget)
    }

    /// Closes the connection of an attempt that nobody waits for any more.
    fn cancel(&mut self, lane: Lane<'_, '_>, reason: &str) {
        let note = &mut self.exchange.attempts[lane.note.place];
        note.took = lane.note.started.elapsed();
        note.error = Some(Error::new(ErrorKind::Cancelled, reason));
        drop(lane.working);
    }
}

/// The attempt that comes to something first, and what to.
async fn first_of(lanes: &mut [Lane<'_, '_>]) -> (usize, Result<Reply>) {
    poll_fn(|context| {
        for (place, lane) in lanes.iter_mut().enumerate() {
            if let Poll::Ready(outcome) = lane.working.as_mut().poll(context) {
                return Poll::Ready((place, outcome));
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether such an answer is heard while another attempt is at work. A rival's refusal may be about the rival; 401 and 403
/// are about the key it was asked with.
fn is_final(status: StatusCode, is_first: bool) -> bool {
    let is_about_key = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    !status.is_client_error() || is_first && !is_about_key
}
