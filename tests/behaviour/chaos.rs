//! Upstreams that are killed, hang, reset, refuse, slow down and break off at random while clients keep asking.
//!
//! Every request carries a word of its own, so that an answer, a call at an upstream and a row of the audit can be held
//! against each other.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use witgate_tests::gateway::Launch;
use witgate_tests::upstream::Received;
use witgate_tests::upstream::reply::{Framing, Reply, Step, chunk};
use witgate_tests::{Gateway, Request, Upstream, audit, now};

/// How many upstreams take turns.
const UPSTREAMS: usize = 4;
/// How many clients ask at the same time.
const CLIENTS: usize = 8;
/// The part in which one upstream stays well: nobody may see an error before the answer begins.
const SPARED: Duration = Duration::from_secs(80);
/// The part in which none is spared.
const UNSPARED: Duration = Duration::from_secs(40);
/// The pieces of a streamed answer.
const PIECES: usize = 6;
/// How long after a call an upstream may not be asked because of it: its timer, and then the breaker's longest cool-down.
const AFTERMATH: Duration = Duration::from_secs(5);

/// What an upstream does with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Well,
    Slow,
    Reset,
    Hang,
    TooMany,
    Broken,
    ErrorInside,
    Empty,
    Stall,
    Cut,
}

impl Fate {
    const FAULTS: [Self; 9] = [
        Self::Slow,
        Self::Reset,
        Self::Hang,
        Self::TooMany,
        Self::Broken,
        Self::ErrorInside,
        Self::Empty,
        Self::Stall,
        Self::Cut,
    ];

    /// Whether the client can be answered well by it.
    fn is_good(self) -> bool {
        matches!(self, Self::Well | Self::Slow)
    }
}

/// One call that an upstream got.
#[derive(Clone, Copy, Debug)]
struct Call {
    upstream: usize,
    fate: Fate,
    at: Instant,
}

/// What the upstreams know of everything.
#[derive(Default)]
struct World {
    calls: Mutex<HashMap<String, Vec<Call>>>,
    weather: [Mutex<Weather>; UPSTREAMS],
}

/// How one upstream is.
#[derive(Default)]
struct Weather {
    /// How many of a hundred requests meet a fault.
    faulty: u64,
    /// From when to when it was dead.
    dead: Vec<(Instant, Instant)>,
}

/// Numbers in no order; the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

impl World {
    fn weather(&self, upstream: usize) -> MutexGuard<'_, Weather> {
        self.weather[upstream].lock().expect("no test panics while it holds the lock")
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Vec<Call>>> {
        self.calls.lock().expect("no test panics while it holds the lock")
    }

    /// Whether an upstream was dead at any moment of a time.
    fn was_dead(&self, upstream: usize, from: Instant, to: Instant) -> bool {
        self.weather(upstream).dead.iter().any(|(died, rose)| *died <= to && *rose >= from)
    }

    /// Whether an upstream did something wrong, to whomever, in a time.
    fn was_bad(&self, upstream: usize, from: Instant, to: Instant) -> bool {
        let calls = self.calls();
        let mut at_it =
            calls.values().flatten().filter(|call| call.upstream == upstream && !call.fate.is_good());
        at_it.any(|call| (from..=to).contains(&call.at)) || self.was_dead(upstream, from, to)
    }

    fn answer(&self, upstream: usize, request: &Received) -> Reply {
        let body = request.json();
        let word = body["messages"][0]["content"].as_str().expect("the clients send a text").to_owned();
        let is_stream = body["stream"] == true;
        let mut dice = Dice(u64::from_ne_bytes(*blend(&word, upstream)) | 1);
        let faulty = self.weather(upstream).faulty;
        let fate = match dice.roll(100) < faulty {
            true => Fate::FAULTS[dice.roll(Fate::FAULTS.len() as u64) as usize],
            false => Fate::Well,
        };
        self.calls().entry(word.clone()).or_default().push(Call { upstream, fate, at: now() });
        reply(fate, &word, is_stream)
    }
}

/// Eight bytes that follow from a word and a number.
fn blend(word: &str, number: usize) -> Box<[u8; 8]> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (word, number).hash(&mut hasher);
    Box::new(hasher.finish().to_ne_bytes())
}

fn pieces(word: &str) -> Vec<String> {
    (0..PIECES).map(|number| format!("{word} piece {number}, ")).collect()
}

fn reply(fate: Fate, word: &str, is_stream: bool) -> Reply {
    let pieces = pieces(word);
    let texts: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let well = || if is_stream { Reply::chat_stream(&texts) } else { Reply::chat(&texts.concat()) };
    match fate {
        Fate::Well => well(),
        Fate::Slow => well().first(Step::Pause(Duration::from_millis(100))),
        Fate::Reset => Reply::new(200).first(Step::Reset),
        Fate::Hang => Reply::silence(),
        Fate::TooMany => Reply::error(429, "too many"),
        Fate::Broken => Reply::error(500, "broken"),
        Fate::ErrorInside if is_stream => {
            Reply::stream([r#"{"error":{"message":"inside","type":"server_error","code":"server_error"}}"#])
        }
        Fate::ErrorInside => {
            Reply::json(200, r#"{"error":{"message":"inside","type":"server_error","code":"server_error"}}"#)
        }
        Fate::Empty if is_stream => Reply::stream(Vec::<&str>::new()),
        Fate::Empty => Reply::json(200, ""),
        Fate::Stall if is_stream => Reply::stream([chunk(&json!({"role": "assistant"}), None)]).hang(),
        Fate::Stall => Reply::json(200, "{").framed(Framing::Chunked).hang(),
        Fate::Cut if is_stream => texts[..2]
            .iter()
            .fold(Reply::stream(Vec::<&str>::new()), |reply, text| {
                reply.event(&chunk(&json!({"content": text}), None))
            })
            .step(Step::Cut),
        Fate::Cut => Reply::json(200, r#"{"choices":["#).framed(Framing::Chunked).step(Step::Cut),
    }
}

/// What a client saw of one request.
#[derive(Debug)]
enum Seen {
    /// The whole answer.
    Whole,
    /// A part of it, and then an error.
    Part,
    /// An error instead of it.
    Refused(u16),
}

/// One request of one client.
#[derive(Debug)]
struct Asked {
    word: String,
    began: Instant,
    ended: Instant,
    seen: Seen,
    spared: bool,
}

/// Asks once; anything but the three outcomes is a failure.
fn ask(gateway: &Gateway, word: &str, is_stream: bool) -> Seen {
    let request = if is_stream { Request::chat_stream(word) } else { Request::chat(word) };
    let answer = gateway.send(&request.header("x-request-id", word));
    let whole = pieces(word).concat();
    if answer.status() != 200 {
        assert!(!answer.error_message().is_empty(), "{word}: an error without a message");
        return Seen::Refused(answer.status());
    }
    if !is_stream {
        assert_eq!(answer.json()["choices"][0]["message"]["content"], whole, "a wrong answer");
        return Seen::Whole;
    }
    let events = answer.events();
    let is_done = events.last().is_some_and(|event| event == "[DONE]");
    let mut text = String::new();
    let mut errors = 0;
    for event in events.iter().filter(|event| *event != "[DONE]") {
        let event: serde_json::Value = serde_json::from_str(event).expect("events are JSON");
        errors += usize::from(event.get("error").is_some());
        text.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    match errors {
        0 => {
            assert!(is_done, "{word}: an end without [DONE] and without an error");
            assert_eq!(text, whole, "a wrong answer");
            Seen::Whole
        }
        _ => {
            assert!(!is_done, "{word}: an error and then [DONE]");
            assert!(whole.starts_with(&text) && !text.is_empty(), "{word}: `{text}`");
            Seen::Part
        }
    }
}

#[test]
fn faults_at_random_for_two_minutes_are_survived() {
    let world = Arc::new(World::default());
    let script = |upstream: usize| {
        let world = world.clone();
        move |request: &Received| world.answer(upstream, request)
    };
    let mut upstreams: Vec<Option<Upstream>> =
        (0..UPSTREAMS).map(|upstream| Some(Upstream::new(script(upstream)))).collect();
    let places: Vec<_> = upstreams.iter().flatten().map(Upstream::address).collect();
    let mut gateway = Launch::default().start(&config(&places));
    let (is_over, is_spared) = (AtomicBool::new(false), AtomicBool::new(true));
    let asked = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (gateway, is_over, is_spared) = (&gateway, &is_over, &is_spared);
                scope.spawn(move || {
                    let mut dice = Dice(0x9e37_79b9 + client as u64);
                    let mut asked = Vec::new();
                    while !is_over.load(Ordering::Relaxed) {
                        let word = format!("chaos-{client}-{}", asked.len());
                        let (began, spared) = (now(), is_spared.load(Ordering::Relaxed));
                        let seen = ask(gateway, &word, dice.roll(2) == 0);
                        // Whoever was still asking when the last one ceased to be spared belongs to the second part.
                        let spared = spared && is_spared.load(Ordering::Relaxed);
                        asked.push(Asked { word, began, ended: now(), seen, spared });
                    }
                    asked
                })
            })
            .collect();
        storm(&world, &mut upstreams, UPSTREAMS - 1, SPARED, &script);
        is_spared.store(false, Ordering::Relaxed);
        storm(&world, &mut upstreams, UPSTREAMS, UNSPARED, &script);
        is_over.store(true, Ordering::Relaxed);
        let asked = clients.into_iter().map(|client| client.join());
        asked
            .flat_map(|asked| asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    check_answers(&world, &asked);
    check_calls(&world);
    check_rows(&world, &gateway, &asked);
}

fn config(places: &[std::net::SocketAddr]) -> String {
    let upstreams: String = places
        .iter()
        .enumerate()
        .map(|(number, place)| {
            format!(
                "  - name: u{number}\n    base_url: http://{place}/v1\n    timeouts: {{ connect: 2s, first_byte: 3s, first_token: 3s, idle: 3s }}\n"
            )
        })
        .collect();
    format!(
        "upstreams:\n{upstreams}breaker: {{ failures: 3, cooldown: 200ms, cooldown_max: 1s }}\n\
         retry: {{ attempts_max: 16, budget: 100%, backoff: 5ms }}\n"
    )
}

/// Lets the first `victims` upstreams change at random for a time; in the end all are well.
fn storm<F: Fn(&Received) -> Reply + Send + Sync + 'static>(
    world: &Arc<World>,
    upstreams: &mut [Option<Upstream>],
    victims: usize,
    length: Duration,
    script: &impl Fn(usize) -> F,
) {
    let mut dice = Dice(0x5eed + victims as u64);
    let begin = now();
    while begin.elapsed() < length {
        let victim = dice.roll(victims as u64) as usize;
        match dice.roll(4) {
            0 => world.weather(victim).faulty = 0,
            1 => world.weather(victim).faulty = 100,
            2 => world.weather(victim).faulty = 30,
            _ => {
                let died = now();
                let place = upstreams[victim].take().map(|upstream| upstream.address());
                std::thread::sleep(Duration::from_millis(dice.roll(300)));
                upstreams[victim] = place.map(|place| Upstream::again(place, script(victim)));
                world.weather(victim).dead.push((died, now()));
            }
        }
        std::thread::sleep(Duration::from_millis(100 + dice.roll(400)));
    }
    (0..upstreams.len()).for_each(|upstream| world.weather(upstream).faulty = 0);
}

/// Every answer is right, and every error has a fault behind it that no candidate could mend.
fn check_answers(world: &World, asked: &[Asked]) {
    let (mut whole, mut parts, mut refused) = (0, 0, 0);
    for request in asked {
        let calls = world.calls().get(&request.word).cloned().unwrap_or_default();
        let context = || format!("{request:?} after {calls:?}");
        match request.seen {
            Seen::Whole => {
                whole += 1;
                assert!(
                    calls.last().is_some_and(|call| call.fate.is_good()),
                    "nobody answered {}",
                    context()
                );
            }
            Seen::Part => {
                parts += 1;
                let is_cut = |call: &Call| {
                    call.fate == Fate::Cut || world.was_dead(call.upstream, call.at, request.ended)
                };
                assert!(calls.last().is_some_and(is_cut), "nobody broke off {}", context());
            }
            Seen::Refused(status) => {
                refused += 1;
                assert!(!request.spared, "there was a healthy upstream for {}", context());
                assert!(matches!(status, 429 | 500 | 502 | 503 | 504), "{}", context());
                (0..UPSTREAMS).for_each(|upstream| check_refusal(world, upstream, request, &calls));
            }
        }
    }
    println!("{} requests: {whole} answered, {parts} broken off, {refused} refused", asked.len());
    assert!(whole > asked.len() / 2 && parts > 0 && refused > 0, "{whole}, {parts}, {refused}");
}

/// An upstream that was asked for a request which was refused failed it; one that was not asked was dead, or had failed
/// shortly before, so that its breaker was open.
fn check_refusal(world: &World, upstream: usize, request: &Asked, calls: &[Call]) {
    let context = || format!("u{upstream} could have answered {request:?} after {calls:?}");
    match calls.iter().find(|call| call.upstream == upstream) {
        Some(call) => {
            let has_failed = !call.fate.is_good() || world.was_dead(upstream, call.at, request.ended);
            assert!(has_failed, "{}", context());
        }
        None => assert!(world.was_bad(upstream, request.began - AFTERMATH, request.ended), "{}", context()),
    }
}

/// No upstream was asked twice for one request.
fn check_calls(world: &World) {
    for (word, calls) in &*world.calls() {
        let mut upstreams: Vec<usize> = calls.iter().map(|call| call.upstream).collect();
        upstreams.sort_unstable();
        upstreams.dedup();
        assert_eq!(upstreams.len(), calls.len(), "{word} was asked twice: {calls:?}");
    }
}

/// Every request has one row, which says of it what its client saw, and one for each call at an upstream.
fn check_rows(world: &World, gateway: &Gateway, asked: &[Asked]) {
    let file = audit::file(gateway);
    let rows = audit::rows(&file, "SELECT id, request_id, status, outcome FROM exchanges");
    assert_eq!(rows.len(), asked.len(), "rows are lost or doubled");
    let attempts = audit::rows(&file, "SELECT exchange, upstream FROM attempts");
    let attempts: HashSet<(i64, &str)> = attempts
        .iter()
        .map(|row| (row["exchange"].as_i64().unwrap_or(0), row["upstream"].as_str().unwrap_or("")))
        .collect();
    let rows: HashMap<&str, _> =
        rows.iter().map(|row| (row["request_id"].as_str().unwrap_or(""), row)).collect();
    let calls = world.calls();
    for Asked { word, seen, .. } in asked {
        let row = rows.get(word.as_str()).unwrap_or_else(|| panic!("{word} has no row"));
        let outcome = row["outcome"].as_str().unwrap_or("");
        match seen {
            Seen::Whole => assert_eq!(outcome, "complete", "{word}: {row}"),
            Seen::Part => assert_eq!(outcome, "failed", "{word}: {row}"),
            Seen::Refused(status) => assert_eq!(row["status"], *status, "{word}: {row}"),
        }
        let id = row["id"].as_i64().unwrap_or(0);
        for call in calls.get(word).into_iter().flatten() {
            let name = format!("u{}", call.upstream);
            assert!(attempts.contains(&(id, &*name)), "{word}: the call at {name} is not recorded");
        }
    }
}
