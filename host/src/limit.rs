//! How much callers may use: requests and tokens in windows, budgets, places, and the queues before them.
//!
//! ```text
//! party       whose requests are counted together, and what they may use
//! meter       what is counted, against which bound, and how it stands; slots: how its past is divided
//! ledger      where claims on meters are counted; local: in this process
//! running     how many requests of a party run at once
//! permit      what one request has been given, and what it really used
//! store       the file that keeps the counts over a restart
//! ```
//!
//! A request claims itself and its place before its body is read, so that an upload is bounded as everything else. Before an
//! upstream is asked it claims the tokens that it is expected to use, all of them or none: its prompt's as estimated and
//! the answer's as it bounds them. Who is refused these has made a request all the same. When its exchange ends, the claims on tokens and money
//! are replaced by what was really used. The counts outlive every configuration: a meter is known by its name, and its
//! bound comes with each claim.

pub(crate) mod ledger;
pub(crate) mod local;
pub(crate) mod meter;
pub(crate) mod party;
pub(crate) mod permit;
pub(crate) mod queue;
mod running;
mod slots;
pub(crate) mod store;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::chat::Usage;
use crate::config::{Config, Price};
use crate::error::{Error, ErrorKind, Limited, Result};
use crate::limit::ledger::{Ledger, now_ms};
use crate::limit::local::Count;
use crate::limit::meter::{Claim, Meter, Refused, Span};
use crate::limit::party::{Origin, Party, Scope, meter_id};
use crate::limit::permit::{Permit, What, cost, spoken};
use crate::limit::running::Running;
use crate::limit::store::Hold;
use crate::shared::Shared;
use crate::wire::Endpoint;
use crate::wire::request::Request;
use crate::wire::usage::Estimate;

/// How many tokens an answer is expected to have whose request does not bound it.
const OUTPUT_GUESS: u64 = 256;
/// Billionths of the unit of money in a millionth, in which budgets are.
const BILLIONTHS: u64 = 1000;
/// How soon a request may be tried again that found too many others running.
const RUNNING_WAIT: Duration = Duration::from_secs(1);
/// The most meters that operators are shown.
const LISTED_MAX: usize = 500;

/// What has been used, of whatever is bounded, by whomever; what a process has one of.
pub(crate) struct Limits {
    ledger: Ledger,
    running: Arc<Running>,
    refused: [[AtomicU64; Scope::ALL.len()]; Bound::ALL.len()],
    /// Held by who writes the file.
    saving: Mutex<Saving>,
}

/// How the counts are written.
#[derive(Default)]
struct Saving {
    /// Whether that failed the last time.
    is_failing: bool,
    /// What keeps other processes from writing the file.
    hold: Option<Hold>,
}

/// What a request asks for.
pub(crate) enum Asked<'a> {
    /// To be let in, before more of it is read than its head: it counts as one request, and as one that runs.
    Entry,
    /// An answer of this model by the name the client gave, to what is read of the request: it counts by its tokens.
    Answer { endpoint: Endpoint, model: &'a str, request: Option<&'a Request> },
}

/// A kind of bound that a request can run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Requests,
    Tokens,
    InFlight,
    TokenBudget,
    MoneyBudget,
}

/// A claim, and who makes it on what.
struct Wanted {
    scope: Scope,
    what: What,
    claim: Claim,
}

impl Limits {
    /// Nothing used yet.
    pub(crate) fn new(shared: Option<Arc<Shared>>) -> Self {
        Self {
            ledger: Ledger::new(shared),
            running: Arc::default(),
            refused: Default::default(),
            saving: Mutex::default(),
        }
    }

    /// Claims what a request is expected to use. What it was given is to be settled when it is over, and says how the
    /// limits stand even where it was refused.
    ///
    /// Dropping the future leaves nothing claimed.
    ///
    /// # Errors
    ///
    /// `RateLimited` or `BudgetUsedUp`; nothing is claimed then.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        config: &Config,
        origin: &Origin<'_>,
        asked: &Asked<'_>,
    ) -> (Box<Permit>, Result<()>) {
        let mut permit = Box::new(Permit { price: price(config, asked).cloned(), ..Permit::default() });
        let parties: Vec<Party<'_>> = origin.parties(config).collect();
        if parties.iter().any(|party| counts_tokens(party)) {
            permit.expected = expected(asked);
        }
        let admitted = self.claim(&parties, asked, &mut permit).await;
        (permit, admitted)
    }

    async fn claim(
        self: &Arc<Self>,
        parties: &[Party<'_>],
        asked: &Asked<'_>,
        permit: &mut Permit,
    ) -> Result<()> {
        let wanted: Vec<Wanted> = parties
            .iter()
            .flat_map(|party| wanted(party, asked, permit.expected, permit.price.as_ref()))
            .collect();
        let (claims, kinds): (Vec<Claim>, Vec<(Scope, What)>) =
            wanted.into_iter().map(|wanted| (wanted.claim, (wanted.scope, wanted.what))).unzip();
        let entered = match asked {
            Asked::Entry => self.enter(parties, permit),
            Asked::Answer { .. } => self.check_size(&claims, &kinds, permit),
        };
        if let Err(error) = entered {
            self.show(&claims, &kinds, permit);
            return Err(error);
        }
        if claims.is_empty() {
            return Ok(());
        }
        match self.ledger.claim(&claims).await {
            Ok(taken) => {
                for (((_, what), claim), standing) in kinds.iter().zip(&claims).zip(&taken.standings) {
                    permit.show(*what, *standing);
                    if *what == What::Requests {
                        // Nothing of it is left to settle: other gateways are told now what they do not know.
                        self.ledger.correct(claim, taken.keeper, taken.at_ms, claim.amount);
                    }
                }
                (permit.taken, permit.keeper) = (Some((taken.at_ms, Instant::now())), Some(taken.keeper));
                permit.limits = Some(self.clone());
                let kinds = kinds.into_iter().map(|(_, what)| what);
                permit.claims = kinds.zip(claims).filter(|(what, _)| *what != What::Requests).collect();
                Ok(())
            }
            Err(refused) => {
                permit.seats.clear();
                self.show(&claims, &kinds, permit);
                let (scope, what) = kinds[refused.index];
                permit.show(what, refused.standing);
                let claim = &claims[refused.index];
                self.count(Bound::of(what, claim.meter.span), scope);
                Err(refusal(scope, what, claim, &refused))
            }
        }
    }

    /// Takes a place among the running requests of each party; that of all together is the queue's.
    fn enter(&self, parties: &[Party<'_>], permit: &mut Permit) -> Result<()> {
        for party in parties.iter().filter(|party| party.scope != Scope::Total && party.quota.in_flight > 0) {
            let bound = party.quota.in_flight;
            let Some(seat) = self.running.enter(&party.name, bound) else {
                permit.seats.clear();
                self.count(Bound::InFlight, party.scope);
                let message = format!(
                    "too many requests at once: {} limit is {bound}, wait until one has been answered",
                    party.scope.possessive()
                );
                return Err(limited(ErrorKind::RateLimited(Limited::Requests), message, RUNNING_WAIT));
            };
            permit.seats.push(seat);
        }
        Ok(())
    }

    /// Refuses a prompt that no window has room for.
    fn check_size(&self, claims: &[Claim], kinds: &[(Scope, What)], permit: &mut Permit) -> Result<()> {
        let input = permit.expected.input;
        let is_too_large = |((_, what), claim): &(&(Scope, What), &Claim)| {
            *what == What::Tokens && input > claim.meter.bound
        };
        let Some(((scope, what), claim)) = kinds.iter().zip(claims).find(is_too_large) else { return Ok(()) };
        permit.seats.clear();
        self.count(Bound::of(*what, claim.meter.span), *scope);
        let message = format!(
            "the request is too large: its prompt has about {input} tokens and {} limit is {} in {}, make it smaller",
            scope.possessive(),
            claim.meter.bound,
            period(claim.meter.span),
        );
        let mut error = Error::new(ErrorKind::RateLimited(Limited::Tokens), message);
        error.retry_after = match claim.meter.span {
            Span::Window(length) => Some(length),
            Span::Day | Span::Month => None,
        };
        Err(error)
    }

    /// Shows how limits stand that a request was refused under.
    fn show(&self, claims: &[Claim], kinds: &[(Scope, What)], permit: &mut Permit) {
        for (standing, (_, what)) in self.ledger.standings(claims).into_iter().zip(kinds) {
            permit.show(*what, standing);
        }
    }

    fn count(&self, bound: Bound, scope: Scope) {
        self.refused[bound as usize][scope as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many requests were refused, by the kind of bound and by whose it was.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Bound::ALL.into_iter().zip(&self.refused).flat_map(|(bound, counts)| {
            let by_scope = Scope::ALL.into_iter().zip(counts);
            by_scope.map(move |(scope, count)| (bound.label(), scope.label(), count.load(Ordering::Relaxed)))
        })
    }

    /// How many meters are counted in this process.
    pub(crate) fn meters(&self) -> usize {
        self.ledger.local.len()
    }

    /// The numbers for `/stats`.
    pub(crate) fn stats(&self) -> Value {
        let mut refused = Map::new();
        for (bound, _, count) in self.refused() {
            let sum = refused.get(bound).and_then(Value::as_u64).unwrap_or(0) + count;
            refused.insert(bound.to_owned(), json!(sum));
        }
        json!({ "refused": refused, "meters": self.meters() })
    }

    /// What is used by whom, as far as this process has counted, the most used first, up to a bound. Takes some
    /// milliseconds for many callers.
    pub(crate) fn describe(&self) -> Value {
        let now_ms = now_ms();
        let share = |count: &Count| count.used as f64 / count.bound.max(1) as f64;
        let mut counts = self.ledger.local.counted(now_ms);
        counts.sort_by(|(left_id, left), (right_id, right)| {
            share(right).total_cmp(&share(left)).then_with(|| left_id.cmp(right_id))
        });
        let all = counts.len();
        let mut parties = Parties::default();
        for (id, count) in counts.iter().take(LISTED_MAX) {
            let mut parts = id.rsplitn(3, '/');
            let (Some(span), Some(what), Some(party)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            parties.of(party).meters.push(json!({
                "counts": what,
                "span": span,
                "used": shown_amount(what, count.used),
                "bound": (count.bound > 0).then(|| shown_amount(what, count.bound)),
                "resets_in_ms": count.resets_in(now_ms).as_millis() as u64,
            }));
        }
        for (party, running) in self.running.counted().into_iter().take(LISTED_MAX) {
            parties.of(&party).running = running;
        }
        json!({
            "meters": all,
            "listed": all.min(LISTED_MAX),
            "shared": self.ledger.is_shared(),
            "parties": parties.describe(),
        })
    }

    /// Takes over what was counted before a restart; a file that cannot be read is put aside. Blocks.
    pub(crate) fn restore(&self, path: &Path) {
        match store::read(path) {
            Ok(counts) => self.ledger.local.restore(counts, now_ms()),
            Err(error) => {
                let aside = store::put_aside(path).map(|aside| aside.display().to_string());
                let aside = aside.unwrap_or_else(|error| format!("nowhere: {error}"));
                tracing::warn!(file = %path.display(), %error, aside, "what was used of limits cannot be read, counting begins anew");
            }
        }
    }

    /// Whether anything was counted since it was written.
    pub(crate) fn is_unsaved(&self) -> bool {
        self.ledger.local.is_changed()
    }

    /// Writes what has been counted, if anything has since the last time. Blocks.
    pub(crate) fn save(&self, path: &Path) {
        let mut saving = self.saving.lock().expect("no code panics while it holds this lock");
        let local = &self.ledger.local;
        if !local.take_changed() {
            return;
        }
        match saving.hold(path).and_then(|hold| hold.write(local.counted(now_ms()))) {
            Ok(()) => saving.is_failing = false,
            Err(error) => {
                local.mark_changed();
                if !std::mem::replace(&mut saving.is_failing, true) {
                    tracing::warn!(file = %path.display(), %error, "what is used of limits cannot be written, a restart would forget it");
                }
            }
        }
    }
}

impl Saving {
    /// The file, which no other process may write.
    fn hold(&mut self, path: &Path) -> io::Result<&Hold> {
        let hold = match self.hold.take().filter(|hold| hold.is_of(path)) {
            Some(hold) => hold,
            None => Hold::on(path)?,
        };
        Ok(self.hold.insert(hold))
    }
}

/// What operators are shown, by party, in the order of the first meter of each.
#[derive(Default)]
struct Parties {
    order: Vec<Shown>,
    places: HashMap<String, usize>,
}

struct Shown {
    party: String,
    running: usize,
    meters: Vec<Value>,
}

impl Parties {
    fn of(&mut self, party: &str) -> &mut Shown {
        let place = *self.places.entry(party.to_owned()).or_insert(self.order.len());
        if place == self.order.len() {
            self.order.push(Shown { party: party.to_owned(), running: 0, meters: Vec::new() });
        }
        &mut self.order[place]
    }

    fn describe(self) -> Vec<Value> {
        let describe = |Shown { party, running, meters }| json!({ "party": party, "in_flight": running, "meters": meters });
        self.order.into_iter().map(describe).collect()
    }
}

impl Bound {
    const ALL: [Self; 5] =
        [Self::Requests, Self::Tokens, Self::InFlight, Self::TokenBudget, Self::MoneyBudget];

    fn of(what: What, span: Span) -> Self {
        match (what, span) {
            (What::Requests, _) => Self::Requests,
            (What::Tokens, Span::Window(_)) => Self::Tokens,
            (What::Tokens, Span::Day | Span::Month) => Self::TokenBudget,
            (What::Money, _) => Self::MoneyBudget,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InFlight => "in_flight",
            Self::TokenBudget => "token_budget",
            Self::MoneyBudget => "money_budget",
        }
    }
}

/// What a party's quota asks to be counted of a request.
fn wanted(party: &Party<'_>, asked: &Asked<'_>, expected: Usage, price: Option<&Price>) -> Vec<Wanted> {
    let mut all = Vec::new();
    let mut want = |what: What, span: Span, bound: u64, amount: u64| {
        let id = meter_id(&party.name, what.label(), &span.label());
        // An answer that could be longer than all that is allowed may well be shorter.
        let claim = Claim { meter: Meter { id, bound, span }, amount: amount.min(bound) };
        all.push(Wanted { scope: party.scope, what, claim });
    };
    let quota = party.quota;
    if matches!(asked, Asked::Entry) {
        if let Some(rate) = quota.requests {
            want(What::Requests, Span::Window(rate.window), rate.count, 1);
        }
        return all;
    }
    if let Some(rate) = quota.tokens {
        want(What::Tokens, Span::Window(rate.window), rate.count, expected.total());
    }
    for (span, spend) in [(Span::Day, quota.day), (Span::Month, quota.month)] {
        if let Some(tokens) = spend.tokens {
            want(What::Tokens, span, tokens, expected.total());
        }
        if let Some(money) = spend.money {
            let amount = price.map_or(0, |price| cost(price, expected));
            want(What::Money, span, money.saturating_mul(BILLIONTHS), amount);
        }
    }
    all
}

/// Whether a party's tokens, or what they cost, are bounded.
fn counts_tokens(party: &Party<'_>) -> bool {
    let quota = party.quota;
    let spends = [quota.day, quota.month];
    quota.tokens.is_some() || spends.iter().any(|spend| spend.tokens.is_some() || spend.money.is_some())
}

/// The first price that fits the model.
fn price<'c>(config: &'c Config, asked: &Asked<'_>) -> Option<&'c Price> {
    match asked {
        Asked::Entry => None,
        Asked::Answer { model, .. } => config.prices.iter().find(|price| price.models.matches(model)),
    }
}

/// What a request is expected to use: the prompt by the length of its texts, the answer as the request bounds it.
fn expected(asked: &Asked<'_>) -> Usage {
    let Asked::Answer { endpoint, request, .. } = asked else { return Usage::default() };
    let mut input = Estimate::default();
    if let Some(request) = request {
        input.add_request(request.body());
    }
    let bounded = request.and_then(|request| request.output_max());
    let output = if endpoint.has_text() { bounded.unwrap_or(OUTPUT_GUESS) } else { 0 };
    Usage { input: input.tokens(), output, is_estimated: true, ..Usage::default() }
}

/// What a client is told whose claim was refused.
fn refusal(scope: Scope, what: What, claim: &Claim, refused: &Refused) -> Error {
    let (whose, wait) = (scope.possessive(), spoken(whole_seconds(refused.wait)));
    let Meter { bound, span, .. } = claim.meter;
    let kind = match (what, span) {
        (What::Requests, _) => ErrorKind::RateLimited(Limited::Requests),
        (What::Tokens, Span::Window(_)) => ErrorKind::RateLimited(Limited::Tokens),
        (What::Tokens | What::Money, _) => ErrorKind::BudgetUsedUp,
    };
    let what = what.label();
    let message = match (span, &kind) {
        (Span::Window(_), _) => format!(
            "rate limit reached: {whose} limit is {bound} {what} in {}, {} are left and the request needs {}; try again in {wait}",
            period(span),
            refused.standing.left,
            claim.amount.max(1),
        ),
        (Span::Day | Span::Month, _) => {
            format!("{whose} budget of {what} for {} is used up; it is renewed in {wait}", period(span))
        }
    };
    limited(kind, message, refused.wait)
}

fn limited(kind: ErrorKind, message: String, wait: Duration) -> Error {
    Error::new(kind, message).with_retry_after(whole_seconds(wait))
}

/// The header has whole seconds, and who comes too early is refused again.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn period(span: Span) -> String {
    match span {
        Span::Window(length) => spoken(length),
        Span::Day => "this day".to_owned(),
        Span::Month => "this month".to_owned(),
    }
}

/// Money is shown in its unit.
fn shown_amount(what: &str, amount: u64) -> Value {
    if what == What::Money.label() { json!(amount as f64 / 1e9) } else { json!(amount) }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use bytes::Bytes;

    use super::*;
    use crate::auth::Caller;
    use crate::config::env::Environment;
    use crate::config::{Overrides, load_text};
    use crate::limit::permit::End;

    fn config(text: &str) -> Config {
        let text = format!("upstreams: [{ONE}]\n{text}");
        load_text(&text, "w.yaml".as_ref(), &Environment::default(), &Overrides::default()).unwrap().0
    }

    const ONE: &str = "{ name: one, base_url: 'http://a' }";

    /// A chat whose prompt has two tokens.
    fn request(members: &str) -> Request {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"12345678"}}]{members}}}"#);
        crate::wire::request::decode(Endpoint::ChatCompletions, Bytes::from(body), None).unwrap()
    }

    async fn admit(limits: &Arc<Limits>, config: &Config, members: &str) -> (Box<Permit>, Result<()>) {
        let caller = Caller::default();
        let origin = Origin { caller: &caller, name: None, client: IpAddr::from([192, 0, 2, 1]) };
        let (mut entered, is_let_in) = limits.admit(config, &origin, &Asked::Entry).await;
        if is_let_in.is_err() {
            return (entered, is_let_in);
        }
        let request = request(members);
        let asked =
            Asked::Answer { endpoint: Endpoint::ChatCompletions, model: "m", request: Some(&request) };
        let (mut permit, admitted) = limits.admit(config, &origin, &asked).await;
        permit.follow(&mut entered);
        (permit, admitted)
    }

    /// What is used: of requests, of tokens in the window, of tokens and of money in the day.
    fn used(limits: &Limits) -> [u64; 4] {
        let ids = ["requests/60s", "tokens/60s", "tokens/day", "money/day"];
        let counts: HashMap<Arc<str>, Count> = limits.ledger.local.counted(now_ms()).into_iter().collect();
        ids.map(|id| counts.get(&*format!("ip:192.0.2.1/{id}")).map_or(0, |count| count.used))
    }

    const ALL: &str =
        "limits: { requests: 9/1m, tokens: 1000/1m, budget: { day: { tokens: 500, money: 1 } } }
prices: { m: { input: 1, output: 2 } }\n";

    #[tokio::test]
    async fn a_claim_becomes_what_was_used() {
        let (limits, config) = (Arc::new(Limits::new(None)), config(ALL));
        let (mut permit, admitted) = admit(&limits, &config, r#","max_tokens":50"#).await;
        assert!(admitted.is_ok() && permit.counts_tokens());
        assert_eq!(used(&limits), [1, 52, 52, 2 * 1000 + 50 * 2000]);
        let usage = Some(Usage { input: 3, output: 4, ..Usage::default() });
        let cost = permit.settle(End { usage, was_sent: true, was_answered: true, was_left: false });
        assert_eq!((cost, used(&limits)), (Some(11_000), [1, 7, 7, 11_000]));
        let (mut unsent, _) = admit(&limits, &config, "").await;
        assert_eq!(used(&limits)[1], 7 + 2 + OUTPUT_GUESS);
        assert_eq!(unsent.settle(End::default()), Some(0));
        assert_eq!(used(&limits), [2, 7, 7, 11_000]);
    }

    #[tokio::test]
    async fn no_claim_is_over_its_bound_but_a_prompt_may_be() {
        let (limits, wide) = (Arc::new(Limits::new(None)), config(ALL));
        let (mut permit, admitted) = admit(&limits, &wide, r#","max_tokens":100000"#).await;
        assert!(admitted.is_ok());
        assert_eq!(used(&limits)[1..3], [1000, 500]);
        let (shown, refused) = admit(&limits, &wide, "").await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ErrorKind::BudgetUsedUp, "the one with the longest wait is told");
        assert_eq!(shown.shown.map(|standing| standing.map(|standing| standing.left)), [Some(7), Some(0)]);
        permit.settle(End::default());
        let narrow = config("limits: { tokens: 1/1m }\n");
        let (_, refused) = admit(&limits, &narrow, "").await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ErrorKind::RateLimited(Limited::Tokens));
        assert!(
            error.message.starts_with("the request is too large: its prompt has about 2 tokens"),
            "{error}"
        );
        let refused: Vec<_> = limits.refused().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(refused, [("tokens", "caller", 1), ("token_budget", "caller", 1)]);
    }

    #[tokio::test]
    async fn who_runs_too_many_claims_nothing() {
        let limits = Arc::new(Limits::new(None));
        let config = config("limits: { requests: 9/1m, in_flight: 1 }\n");
        let (running, _) = admit(&limits, &config, "").await;
        let (_, refused) = admit(&limits, &config, "").await;
        assert_eq!(refused.unwrap_err().retry_after, Some(RUNNING_WAIT));
        assert_eq!(used(&limits)[0], 1);
        drop(running);
        assert!(admit(&limits, &config, "").await.1.is_ok());
    }

    #[tokio::test]
    async fn a_price_without_limits_claims_nothing() {
        let (limits, config) =
            (Arc::new(Limits::new(None)), config("prices: { m: { input: 1, output: 2 } }\n"));
        let (mut permit, _) = admit(&limits, &config, "").await;
        assert!(!permit.counts_tokens() && limits.meters() == 0 && !limits.is_unsaved());
        let usage = Some(Usage { input: 3, output: 4, ..Usage::default() });
        assert_eq!(permit.settle(End { usage, was_sent: true, ..End::default() }), Some(11_000));
    }

    #[tokio::test]
    async fn operators_see_what_is_used_most_first() {
        let (limits, config) = (Arc::new(Limits::new(None)), config(ALL));
        let (_held, _) = admit(&limits, &config, r#","max_tokens":398"#).await;
        let shown = limits.describe();
        assert_eq!((&shown["meters"], &shown["listed"]), (&json!(4), &json!(4)));
        let [party] = &shown["parties"].as_array().unwrap()[..] else { panic!("{shown}") };
        assert_eq!(party["party"], "ip:192.0.2.1");
        let order: Vec<String> = party["meters"]
            .as_array()
            .unwrap()
            .iter()
            .map(|meter| {
                format!("{} {} {} {}", meter["counts"], meter["span"], meter["used"], meter["bound"])
            })
            .collect();
        assert_eq!(
            order,
            [
                r#""tokens" "day" 400 500"#,
                r#""tokens" "60s" 400 1000"#,
                r#""requests" "60s" 1 9"#,
                r#""money" "day" 0.000798 1.0"#,
            ]
        );
    }

    #[test]
    fn a_wait_is_not_told_too_short() {
        for (ms, seconds) in [(1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)).as_secs(), seconds);
        }
    }
}
