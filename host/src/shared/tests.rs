//! Gateways that share a real server.

#[path = "../../../tests/support/redis.rs"]
#[expect(unreachable_pub, reason = "it is a part of the behaviour tests' library, too")]
mod server;

use std::collections::{BTreeMap, HashMap};
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::server::RedisServer;
use crate::calendar;
use crate::config::State;
use crate::config::secret::Secret;
use crate::limit::ledger::{Ledger, now_ms};
use crate::limit::meter::{Claim, Keeper, Meter, Refused, Span, Standing, Taken};
use crate::shared::Shared;
use crate::shared::connection::{Condition, Connection, Unavailable};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of a test's own.
pub(crate) struct Server(RedisServer);

impl Server {
    /// Starts one; none where there is no `redis-server` and the tests need not be complete.
    pub(crate) fn start() -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_ok() {
            return Some(Self(RedisServer::start()));
        }
        let is_strict = std::env::var_os("WITGATE_TESTS_STRICT").is_some_and(|value| value == "1");
        assert!(!is_strict, "redis-server not found");
        println!("skipped: redis-server not found");
        None
    }

    fn state(&self) -> State {
        State::Redis(Secret::new(self.url()))
    }
}

impl Deref for Server {
    type Target = RedisServer;

    fn deref(&self) -> &RedisServer {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut RedisServer {
        &mut self.0
    }
}

/// What a gateway shares by this server.
async fn gateway(server: &Server) -> Arc<Shared> {
    let shared = Shared::start(&server.state()).await.unwrap().unwrap();
    until(&shared.connection, Condition::Connected).await;
    shared
}

/// A connection to this server, which a task of the test keeps.
pub(crate) async fn connected(server: &Server) -> Arc<Connection> {
    let connection = Arc::new(Connection::new(&server.url()).unwrap());
    let kept = connection.clone();
    tokio::spawn(async move { kept.keep().await });
    until(&connection, Condition::Connected).await;
    connection
}

/// Waits until the server can be reached, or cannot.
pub(crate) async fn until(connection: &Connection, wanted: Condition) {
    let mut changes = connection.changes();
    let changed = tokio::time::timeout(PATIENCE, changes.wait_for(|condition| *condition == wanted)).await;
    changed.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {wanted:?}")).unwrap();
}

/// Tries a property that has to wait with so many cases; a failure is not made smaller, but always the same.
pub(crate) async fn property<S: Strategy>(cases: u32, strategy: &S, holds: impl AsyncFn(u32, S::Value)) {
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), random);
    for case in 0..cases {
        holds(case, strategy.new_tree(&mut runner).unwrap().current()).await;
    }
}

const MINUTE: Span = Span::Window(Duration::from_secs(60));

fn claim(id: &str, span: Span, bound: u64, amount: u64) -> Claim {
    Claim { meter: Meter { id: id.into(), bound, span }, amount }
}

/// Counting as it is meant, without a server: for each meter the slots and what was counted in them.
#[derive(Default)]
struct Model {
    counts: HashMap<Arc<str>, BTreeMap<u64, u64>>,
}

const DAY_MS: u64 = 86_400_000;

/// The number of a slot, and from when on a slot does not count.
fn slot(span: Span, at_ms: u64) -> (u64, u64) {
    match span {
        Span::Window(length) => {
            let slot_ms = u64::try_from(length.as_millis()).unwrap().div_ceil(Span::SLOTS);
            (at_ms / slot_ms, (at_ms / slot_ms + Span::SLOTS + 1) * slot_ms)
        }
        Span::Day => (at_ms / DAY_MS, (at_ms / DAY_MS + 1) * DAY_MS),
        Span::Month => {
            let (year, month, _) = calendar::date((at_ms / DAY_MS).cast_signed());
            let next = calendar::day_number(year, month + 1, 1).cast_unsigned();
            ((year * 12 + month).cast_unsigned(), next * DAY_MS)
        }
    }
}

impl Model {
    /// What still counts of a meter: the end of each slot, and what was counted in it.
    fn live(&mut self, meter: &Meter, now_ms: u64) -> &mut BTreeMap<u64, u64> {
        let count = self.counts.entry(meter.id.clone()).or_default();
        count.retain(|end, amount| *end > now_ms && *amount > 0);
        count
    }

    fn standing(&mut self, meter: &Meter, now_ms: u64) -> Standing {
        let live = self.live(meter, now_ms);
        let resets = live.last_key_value().map_or(0, |(end, _)| end - now_ms);
        let left = meter.bound.saturating_sub(live.values().sum());
        Standing { bound: meter.bound, left, resets_in: Duration::from_millis(resets) }
    }

    fn claim(&mut self, claims: &[Claim], now_ms: u64) -> Result<Taken, Refused> {
        let mut worst: Option<Refused> = None;
        for (index, Claim { meter, amount }) in claims.iter().enumerate() {
            let room = (*amount).max(1);
            let live = self.live(meter, now_ms);
            let mut used: u64 = live.values().sum();
            if used + room <= meter.bound {
                continue;
            }
            let mut freed = live.iter().filter(|(_, amount)| {
                used -= **amount;
                used + room <= meter.bound
            });
            let free_at = freed.next().map_or_else(|| slot(meter.span, now_ms).1, |(end, _)| *end);
            let wait = Duration::from_millis(free_at - now_ms);
            let standing = self.standing(meter, now_ms);
            if worst.is_none_or(|worst| worst.wait < wait) {
                worst = Some(Refused { index, standing, wait });
            }
        }
        if let Some(refused) = worst {
            return Err(refused);
        }
        for Claim { meter, amount } in claims {
            *self.live(meter, now_ms).entry(slot(meter.span, now_ms).1).or_default() += amount;
        }
        let standings = claims.iter().map(|claim| self.standing(&claim.meter, now_ms)).collect();
        Ok(Taken { at_ms: now_ms, keeper: Keeper::Local, standings })
    }
}

#[tokio::test]
async fn claims_are_counted_as_one_process_counts_them() {
    let Some(server) = Server::start() else { return };
    let shared = gateway(&server).await;
    // 1970, the end of a February, a leap day, New Year's Eve.
    let start =
        proptest::sample::select(vec![0_u64, 1_677_628_799_000, 1_709_251_100_000, 1_735_689_590_000]);
    let spans = [MINUTE, Span::Window(Duration::from_millis(90_001)), Span::Day, Span::Month];
    let amounts = proptest::collection::vec(proptest::option::of(0_u64..8), spans.len());
    let passed = prop_oneof![0_u64..3, 0_u64..5_000, 0_u64..100_000, 0..3 * DAY_MS, Just(31 * DAY_MS)];
    let steps = (start, proptest::collection::vec((amounts, 1_u64..20, passed), 1..40));
    property(40, &steps, async |case, (start, steps)| {
        let (mut model, mut now_ms) = (Model::default(), start);
        for (amounts, bound, passed_ms) in steps {
            now_ms += passed_ms;
            let claims: Vec<Claim> = (amounts.iter().zip(spans).enumerate())
                .filter_map(|(index, (amount, span))| {
                    Some(claim(&format!("case-{case}/{index}"), span, bound, (*amount)?))
                })
                .collect();
            let answer = shared.counts.claim_at(&claims, Some(now_ms)).await.unwrap();
            let answer = answer.map(|taken| Taken { keeper: Keeper::Local, ..taken });
            assert_eq!(answer, model.claim(&claims, now_ms), "{claims:?} at {now_ms}");
        }
    })
    .await;
}

#[tokio::test]
async fn gateways_that_claim_at_once_keep_one_bound() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (gateway(&server).await, gateway(&server).await);
    let mut taken = 0;
    for _ in 0..40 {
        let claims = [claim("a", MINUTE, 50, 1), claim("b", Span::Day, 60, 1)];
        let (left, right) = tokio::join!(one.counts.claim(&claims), two.counts.claim(&claims));
        taken += usize::from(left.unwrap().is_ok()) + usize::from(right.unwrap().is_ok());
    }
    assert_eq!(taken, 50);
    let b = one.counts.claim(&[claim("b", Span::Day, 60, 0)]).await.unwrap().unwrap();
    assert_eq!(b.standings[0].left, 10, "what was refused counts nowhere");
}

#[tokio::test]
async fn a_correction_changes_what_was_counted_and_never_below_nothing() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (gateway(&server).await, gateway(&server).await);
    let first = claim("a", Span::Month, 100, 40);
    let taken = one.counts.claim(std::slice::from_ref(&first)).await.unwrap().unwrap();
    let ask = async || {
        let asked = two.counts.claim(&[claim("a", Span::Month, 100, 0)]).await.unwrap();
        asked.map(|taken| taken.standings[0].left)
    };
    for (amount, left) in [(30, Ok(70)), (90, Ok(20))] {
        one.counts.correct(&first, taken.keeper, taken.at_ms, amount);
        one.counts.flush().await;
        assert_eq!(ask().await, left);
    }
    let all = claim("a", Span::Month, 100, 1000);
    two.counts.correct(&all, taken.keeper, taken.at_ms, 0);
    two.counts.flush().await;
    assert_eq!(ask().await, Ok(100));
    // Months ago: it does not count any more, and is not counted again.
    one.counts.correct(&first, taken.keeper, taken.at_ms - 40 * DAY_MS, 99);
    one.counts.flush().await;
    assert_eq!(ask().await, Ok(100));
}

#[tokio::test]
async fn what_does_not_count_any_more_leaves_the_server() {
    let Some(server) = Server::start() else { return };
    let shared = gateway(&server).await;
    let short = Span::Window(Duration::from_millis(60));
    shared
        .counts
        .claim(&[claim("short", short, 10, 1), claim("day", Span::Day, 10, 1)])
        .await
        .unwrap()
        .unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut commands = client.get_multiplexed_async_connection().await.unwrap();
    let day: i64 = redis::cmd("PTTL").arg("witgate:count:day").query_async(&mut commands).await.unwrap();
    assert!((1..=DAY_MS.cast_signed()).contains(&day), "{day}");
    let since = Instant::now();
    loop {
        let there: u64 =
            redis::cmd("EXISTS").arg("witgate:count:short").query_async(&mut commands).await.unwrap();
        if there == 0 {
            break;
        }
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_lost_server_costs_nothing_and_comes_back() {
    let Some(mut server) = Server::start() else { return };
    let shared = gateway(&server).await;
    let one = [claim("a", MINUTE, 10, 1)];
    shared.counts.claim(&one).await.unwrap().unwrap();
    server.kill();
    until(&shared.connection, Condition::Lost).await;
    let asked = Instant::now();
    for _ in 0..1000 {
        assert_eq!(shared.counts.claim(&one).await, Err(Unavailable::Lost));
    }
    assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
    // What is used meanwhile is told when it is back.
    shared.counts.correct(&one[0], Keeper::Local, now_ms(), 4);
    server.restart();
    until(&shared.connection, Condition::Connected).await;
    tokio::time::timeout(PATIENCE, shared.counts.flush()).await.unwrap();
    let taken = shared.counts.claim(&one).await.unwrap().unwrap();
    assert_eq!(taken.standings[0].left, 5, "it was empty when it came back, but for what was told since");
    let health = shared.connection.health();
    assert_eq!((health.is_up, health.connected, health.lost), (true, 2, 1));
}

#[tokio::test]
async fn a_server_that_hangs_is_lost_soon() {
    let Some(server) = Server::start() else { return };
    let shared = gateway(&server).await;
    server.hang();
    let one = [claim("a", MINUTE, 1000, 1)];
    let asked = Instant::now();
    let mut unanswered = 0_u64;
    while shared.counts.claim(&one).await != Err(Unavailable::Lost) {
        unanswered += 1;
    }
    assert!(unanswered <= 3, "{unanswered}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    until(&shared.connection, Condition::Lost).await;
    server.go_on();
    until(&shared.connection, Condition::Connected).await;
    shared.counts.claim(&one).await.unwrap().unwrap();
}

/// What is left of a meter, when all that is to be told has been.
async fn left(shared: &Shared, meter: &Meter) -> u64 {
    tokio::time::timeout(PATIENCE, shared.counts.flush()).await.unwrap();
    let asked = shared.counts.claim(&[Claim { meter: meter.clone(), amount: 0 }]).await.unwrap();
    asked.map_or(0, |taken| taken.standings[0].left)
}

#[tokio::test]
async fn what_is_granted_too_late_or_to_nobody_is_given_back() {
    let Some(server) = Server::start() else { return };
    let shared = gateway(&server).await;
    let one = claim("a", Span::Day, 1000, 100);
    let all = std::slice::from_ref(&one);
    assert!(shared.counts.claim(all).await.unwrap().is_ok());
    server.hang();
    assert_eq!(shared.counts.claim(all).await, Err(Unavailable::NoAnswer));
    // It leaves while it waits, as a client does.
    let left_early = tokio::time::timeout(Duration::from_millis(10), shared.counts.claim(all)).await;
    assert!(left_early.is_err());
    server.go_on();
    let since = Instant::now();
    while left(&shared, &one.meter).await != 900 {
        assert!(since.elapsed() < PATIENCE, "{}", left(&shared, &one.meter).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(shared.counts.dropped(), 0);
}

#[tokio::test]
async fn a_correction_leaves_alone_what_others_counted_after_a_loss() {
    let Some(mut server) = Server::start() else { return };
    let (one, two) = (gateway(&server).await, gateway(&server).await);
    let large = claim("a", Span::Month, 1000, 400);
    let taken = one.counts.claim(std::slice::from_ref(&large)).await.unwrap().unwrap();
    server.kill();
    for shared in [&one, &two] {
        until(&shared.connection, Condition::Lost).await;
    }
    server.restart();
    for shared in [&one, &two] {
        until(&shared.connection, Condition::Connected).await;
    }
    let small = claim("a", Span::Month, 1000, 7);
    two.counts.claim(std::slice::from_ref(&small)).await.unwrap().unwrap();
    one.counts.correct(&large, taken.keeper, taken.at_ms, 5);
    assert_eq!(left(&one, &large.meter).await, 1000 - 7 - 5);
}

#[tokio::test]
async fn nothing_is_granted_twice_after_an_outage() {
    let Some(mut server) = Server::start() else { return };
    let (one, two) = (gateway(&server).await, gateway(&server).await);
    let ledger = Ledger::new(Some(one.clone()));
    let budget = |amount| [claim("a", Span::Day, 100, amount)];
    let window = |amount| [claim("b", MINUTE, 100, amount)];
    ledger.claim(&budget(20)).await.unwrap();
    server.kill();
    until(&one.connection, Condition::Lost).await;
    for claims in [budget(50), window(60)] {
        let taken = ledger.claim(&claims).await.unwrap();
        assert_eq!(taken.keeper, Keeper::Local);
        ledger.correct(&claims[0], taken.keeper, taken.at_ms, 40);
    }
    server.restart();
    for shared in [&one, &two] {
        until(&shared.connection, Condition::Connected).await;
    }
    // The server has nothing from before: what was granted without it is told, what it had granted is known here.
    assert_eq!(left(&one, &window(0)[0].meter).await, 60);
    assert_eq!(left(&one, &budget(0)[0].meter).await, 60);
    assert_eq!(two.counts.claim(&budget(61)).await.unwrap().unwrap_err().standing.left, 60);
    let refused = ledger.claim(&budget(41)).await.unwrap_err();
    assert_eq!((refused.index, refused.standing.left), (0, 40));
    assert!(matches!(ledger.claim(&budget(40)).await.unwrap().keeper, Keeper::Shared(_)));
}

#[tokio::test]
async fn an_outage_of_many_requests_is_told_whole() {
    let Some(mut server) = Server::start() else { return };
    let shared = gateway(&server).await;
    server.kill();
    until(&shared.connection, Condition::Lost).await;
    let one = claim("a", Span::Month, 1 << 40, 1);
    for number in 0..30_000 {
        shared.counts.correct(&one, Keeper::Local, now_ms(), 1);
        if number % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    server.restart();
    until(&shared.connection, Condition::Connected).await;
    assert_eq!(left(&shared, &one.meter).await, (1 << 40) - 30_000);
    assert_eq!(shared.counts.dropped(), 0);
}

#[tokio::test]
async fn a_server_that_is_down_holds_up_no_start() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    let asked = Instant::now();
    let shared = Shared::start(&server.state()).await.unwrap().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(shared.connection.condition(), Condition::Lost);
    assert_eq!(shared.connection.health().lost, 1);
    server.restart();
    until(&shared.connection, Condition::Connected).await;
}

#[tokio::test]
async fn nothing_is_shared_in_memory() {
    assert!(Shared::start(&State::Memory).await.unwrap().is_none());
}

/// What a gateway hears of upstreams.
fn heard(shared: &Shared) -> mpsc::UnboundedReceiver<(String, Duration)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    shared.hints.listen(move |upstream, time| {
        let _ = sender.send((upstream.to_owned(), time));
    });
    receiver
}

async fn next(heard: &mut mpsc::UnboundedReceiver<(String, Duration)>) -> (String, Duration) {
    tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_upstream_that_is_down_is_told_to_the_others_now_and_later() {
    let Some(server) = Server::start() else { return };
    let (one, two) = (gateway(&server).await, gateway(&server).await);
    let (mut at_one, mut at_two) = (heard(&one), heard(&two));
    let minute = Duration::from_secs(60);
    let is_about = |time: Duration| time <= minute && time > minute - PATIENCE;
    one.hints.tell("up stream", minute);
    let (upstream, time) = next(&mut at_two).await;
    assert!(upstream == "up stream" && is_about(time), "{upstream} {time:?}");
    // A shorter time does not take the longer one back.
    one.hints.tell("up stream", minute / 60);
    assert_eq!(next(&mut at_two).await.0, "up stream");
    let late = gateway(&server).await;
    let (upstream, time) = next(&mut heard(&late)).await;
    assert!(upstream == "up stream" && is_about(time), "{upstream} {time:?}");
    two.hints.tell("b", minute);
    // It may read its own from the server.
    while next(&mut at_one).await.0 != "b" {}
}

#[tokio::test]
async fn a_hint_is_over_with_its_time() {
    let Some(server) = Server::start() else { return };
    let one = gateway(&server).await;
    one.hints.tell("short", Duration::from_millis(20));
    one.hints.tell("long", Duration::from_secs(60));
    let late = gateway(&server).await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    let mut at_late = heard(&late);
    assert_eq!(next(&mut at_late).await.0, "long");
}
