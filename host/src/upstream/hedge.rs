//! A second attempt beside a slow one: the first that answers is heard, the other is cancelled.
//!
//! Two upstreams act on one request then, which is why nobody gets this who did not ask for it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::exchange::Exchange;
use crate::plugin::call::Facts;
use crate::plugin::chain::Chain;
use crate::plugin::hook::Hook;
use crate::snapshot::Snapshot;
use crate::upstream::dispatch::{
    Edits, Failure, Note, Show, Step, Steps, Terms, attempt, begin, has_others, judge, prepare, worse,
};
use crate::upstream::job::Job;
use crate::upstream::leave::Leave;
use crate::upstream::reply::Reply;
use crate::upstream::{InFlight, Upstream};

/// Who may be asked beside the one that is slow.
pub(super) struct Rivals<'a> {
    /// Who is next.
    pub(super) steps: &'a mut Steps,
    /// Who has been asked.
    pub(super) visited: &'a mut Vec<Step>,
    /// What those came to that failed while another was still at work.
    pub(super) lost: &'a mut Option<Failure>,
    /// The name of the one that failed last, if it was not the first that was asked.
    pub(super) failed: &'a mut Option<Arc<str>>,
}

/// What a slow attempt came to.
pub(super) enum Raced<'up> {
    /// Its own outcome: nobody was asked beside it.
    Alone(Result<Reply>, Leave<'up>),
    /// The answer, or the failure of the one that failed last. Both are noted.
    Decided(Result<Reply, Failure>),
}

/// One of the attempts.
pub(super) struct Lane<'a, 'up> {
    pub(super) upstream: &'a Arc<Upstream>,
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
    pub(super) rivals: &'a mut Rivals<'r>,
}

impl<'a> Race<'a, '_> {
    /// Waits for an attempt, and after `delay` for a second one, too.
    ///
    /// Dropping the future aborts both.
    pub(super) async fn run<'up: 'a>(mut self, mut first: Lane<'a, 'up>, delay: Duration) -> Raced<'up> {
        if let Ok(outcome) = tokio::time::timeout(delay, first.working.as_mut()).await {
            return Raced::Alone(outcome, first.leave);
        }
        let mut second = match self.second().await {
            Ok(Some(second)) => second,
            Ok(None) => return Raced::Alone(first.working.await, first.leave),
            Err(failure) => {
                self.cancel(first, "a plugin ended the request");
                return Raced::Decided(Err(failure));
            }
        };
        let (is_first, outcome) = tokio::select! {
            biased;
            outcome = first.working.as_mut() => (true, outcome),
            outcome = second.working.as_mut() => (false, outcome),
        };
        let (one, other) = if is_first { (first, second) } else { (second, first) };
        let Lane { upstream, note, leave, .. } = one;
        match self.judge(upstream, note, leave, outcome).await {
            Ok(reply) => {
                self.cancel(other, "another upstream answered first");
                self.exchange.put_last(note.place);
                Raced::Decided(Ok(reply))
            }
            Err(failure) => {
                *self.rivals.lost = Some(worse(self.rivals.lost.take(), failure));
                let mut other = other;
                let outcome = other.working.as_mut().await;
                let judged = self.judge(other.upstream, other.note, other.leave, outcome).await;
                self.exchange.put_last(other.note.place);
                *self.rivals.failed = is_first.then(|| other.upstream.settings.name.clone());
                Raced::Decided(judged)
            }
        }
    }

    /// Begins an attempt at the next candidate, if there is one and it may be asked.
    async fn second(&mut self) -> Result<Option<Lane<'a, 'a>>, Failure> {
        let (job, snapshot) = (self.job, self.snapshot);
        let retry = &snapshot.config.retry;
        if self.exchange.attempts.len() >= retry.attempts_max as usize {
            return Ok(None);
        }
        // It is one more request for the upstreams, like a retry.
        if !snapshot.retries.allow(false, retry.budget) {
            return Ok(None);
        }
        let Some((upstream, model, leave, place)) = self.next() else { return Ok(None) };
        let own = leave.credential();
        let terms = Terms::of(snapshot);
        let prepared = match self.facts.filter(|_| self.chain.has(Hook::OnUpstreamRequest)) {
            Some(facts) => {
                let number = self.exchange.attempts.len() + 1;
                let show = Show { facts: facts.clone(), number, has_keys: terms.has_keys, own };
                match Box::pin(prepare(job, self.chain, show, upstream, &model)).await {
                    Ok(prepared) => Some(prepared),
                    Err(Failure::MovedOn(_)) => return Ok(None),
                    Err(failure) => return Err(failure),
                }
            }
            None => None,
        };
        let (note, lineage) = begin(self.exchange, upstream, &model);
        let working = Box::pin(async move {
            let edits = Edits { prepared: prepared.as_ref(), lineage: lineage.as_ref(), credential: own };
            attempt(job, upstream, place, &model, terms, edits).await
        });
        Ok(Some(Lane { upstream, note, leave, working }))
    }

    fn next(&mut self) -> Option<(&'a Arc<Upstream>, Arc<str>, Leave<'a>, InFlight)> {
        let snapshot = self.snapshot;
        loop {
            let step = self.rivals.steps.next()?;
            if self.rivals.visited.contains(&step) {
                continue;
            }
            let (upstream, model) = (&snapshot.upstreams[step.upstream], step.model.clone());
            self.rivals.visited.push(step);
            if let (Ok(leave), Some(place)) = (upstream.leave(), upstream.enter()) {
                return Some((upstream, model, leave, place));
            }
        }
    }

    async fn judge(
        &mut self,
        upstream: &Upstream,
        note: Note,
        leave: Leave<'_>,
        outcome: Result<Reply>,
    ) -> Result<Reply, Failure> {
        // Another key is not tried here: the other attempt is under way.
        leave.learn(&outcome, || has_others(self.snapshot, self.job));
        judge(self.exchange, &self.snapshot.config.retry.on, upstream, note, outcome).await
    }

    /// Closes the connection of an attempt that nobody waits for any more.
    fn cancel(&mut self, lane: Lane<'_, '_>, reason: &str) {
        let note = &mut self.exchange.attempts[lane.note.place];
        note.took = lane.note.started.elapsed();
        note.error = Some(Error::new(ErrorKind::Cancelled, reason));
        drop(lane.working);
    }
}
