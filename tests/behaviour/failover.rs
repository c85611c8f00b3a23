//! Up to the first content of an answer, what an upstream does wrong is mended by the next one; from there on it is told.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::audit;
use witgate_tests::client::End;
use witgate_tests::sse::{chat_text, data};
use witgate_tests::tls::Certificate;
use witgate_tests::upstream::reply::{Framing, Step, chunk};
use witgate_tests::{Answer, Gate, Gateway, Received, Refusing, Reply, Request, Upstream, eventually, now};

/// What an upstream does wrong.
struct Fault {
    name: &'static str,
    place: Place,
    /// The timers of an upstream that does it.
    timeouts: &'static str,
    /// What the client is told if nobody does better: the status, and the code of the gateway's own words or the message
    /// of the upstream's.
    told: (u16, Told),
}

/// Where the upstream is that does it.
enum Place {
    /// It answers, with this.
    Scripted(fn() -> Reply),
    /// Nobody listens there.
    Refusing,
    /// Its certificate is nobody's.
    Untrusted,
}

#[derive(Clone, Copy)]
enum Told {
    Code(&'static str),
    Message(&'static str),
}

fn role() -> String {
    chunk(&json!({"role": "assistant", "content": ""}), None)
}

fn text(text: &str) -> String {
    chunk(&json!({"content": text}), None)
}

fn failed(code: &Value) -> String {
    json!({"error": {"message": "inside", "type": "x", "param": null, "code": code}}).to_string()
}

/// Comments without end.
fn trickle() -> Reply {
    (0..2_000).fold(Reply::stream([role()]), |reply, _| {
        reply.body(": working\n\n").step(Step::Pause(Duration::from_millis(10)))
    })
}

const FAULTS: [Fault; 24] = {
    use Place::{Refusing, Scripted, Untrusted};
    use Told::{Code, Message};
    const fn fault(name: &'static str, place: Place, status: u16, told: Told) -> Fault {
        Fault { name, place, timeouts: "", told: (status, told) }
    }
    const fn slow(name: &'static str, place: fn() -> Reply, timeouts: &'static str) -> Fault {
        Fault { name, place: Scripted(place), timeouts, told: (504, Code("upstream_timeout")) }
    }
    const EMPTY: Told = Code("upstream_empty");
    const INVALID: Told = Code("upstream_invalid");
    [
        fault("refused", Refusing, 502, Code("upstream_unreachable")),
        fault("untrusted", Untrusted, 502, Code("upstream_unreachable")),
        slow("silent", Reply::silence, "first_byte: 100ms"),
        fault("closed", Scripted(|| Reply::new(200).first(Step::Cut)), 502, INVALID),
        fault("reset", Scripted(|| Reply::new(200).first(Step::Reset)), 502, INVALID),
        fault("408", Scripted(|| Reply::error(408, "late")), 408, Message("late")),
        fault("429", Scripted(|| Reply::error(429, "slow down")), 429, Message("slow down")),
        fault("500", Scripted(|| Reply::error(500, "broken")), 500, Message("broken")),
        fault("503", Scripted(|| Reply::error(503, "busy")), 503, Message("busy")),
        fault(
            "error-in-200",
            Scripted(|| Reply::json(200, failed(&json!("rate_limit_exceeded")))),
            429,
            Message("inside"),
        ),
        fault("unknown-in-200", Scripted(|| Reply::json(200, failed(&json!("odd")))), 502, Message("inside")),
        fault(
            "error-event",
            Scripted(|| Reply::stream([role(), failed(&json!(503))]).hang()),
            503,
            Message("inside"),
        ),
        fault("empty-body", Scripted(|| Reply::json(200, "")), 502, EMPTY),
        fault("not-json", Scripted(|| Reply::json(200, "<html>")), 502, INVALID),
        fault(
            "cut-body",
            Scripted(|| Reply::json(200, "{").header("content-length", "9").step(Step::Cut)),
            502,
            INVALID,
        ),
        fault("empty-stream", Scripted(|| Reply::stream([""; 0])), 502, EMPTY),
        fault("only-comments", Scripted(|| Reply::stream([""; 0]).body(": a\n\n: b\n\n")), 502, EMPTY),
        fault("only-done", Scripted(|| Reply::stream(["[DONE]"]).hang()), 502, EMPTY),
        fault("only-role", Scripted(|| Reply::stream([role()])), 502, EMPTY),
        fault(
            "malformed-event",
            Scripted(|| Reply::stream([&*role(), "{\"choices\":"]).hang()),
            502,
            INVALID,
        ),
        fault("cut-stream", Scripted(|| Reply::stream([role()]).step(Step::Cut)), 502, INVALID),
        fault("reset-stream", Scripted(|| Reply::stream([role()]).step(Step::Reset)), 502, INVALID),
        slow("stalled-stream", || Reply::stream([role()]).hang(), "idle: 100ms"),
        slow("trickling-stream", trickle, "first_token: 100ms"),
    ]
};

/// Where in the list of candidates the fault is.
#[derive(Clone, Copy)]
enum Position {
    First,
    Middle,
    Last,
    All,
}

const POSITIONS: [(Position, &str); 4] = [
    (Position::First, "first"),
    (Position::Middle, "middle"),
    (Position::Last, "last"),
    (Position::All, "all"),
];

const CANDIDATES: usize = 3;
/// What candidates say that are there to be passed by.
const DOWN: &str = "down";

impl Position {
    /// What the candidate at `place` does: the fault, or else what.
    fn at(self, place: usize) -> Option<fn(&Received) -> Reply> {
        let well: fn(&Received) -> Reply = |request| Reply::chat_as_asked(request, &["he", "llo"]);
        let down: fn(&Received) -> Reply = |_| Reply::error(500, DOWN);
        match (self, place) {
            (Self::First, 0) | (Self::Middle, 1) | (Self::Last, 2) | (Self::All, _) => None,
            (Self::First, _) | (Self::Middle, 2) => Some(well),
            (Self::Middle | Self::Last, _) => Some(down),
        }
    }

    /// How many candidates are asked.
    fn asked(self) -> usize {
        if matches!(self, Self::First) { 2 } else { CANDIDATES }
    }

    fn is_mended(self) -> bool {
        matches!(self, Self::First | Self::Middle)
    }
}

fn model_of(request: &Received) -> String {
    request.json()["model"].as_str().expect("the test names a model").to_owned()
}

/// What the candidate at `place` answers, by the model: `fault.position`.
fn scripted(place: usize) -> impl Fn(&Received) -> Reply {
    move |request| {
        let model = model_of(request);
        let (fault, position) = model.split_once('.').expect("the test names both");
        let fault = FAULTS.iter().find(|known| known.name == fault).expect("the fault is known");
        let (position, _) = POSITIONS.iter().find(|known| known.1 == position).expect("it is known");
        match (position.at(place), &fault.place) {
            (Some(other), _) => other(request),
            (None, Place::Scripted(reply)) => reply(),
            (None, Place::Refusing | Place::Untrusted) => Reply::error(400, "nobody is here"),
        }
    }
}

/// One gateway before three upstreams, with candidates of their own for every row.
struct Scene {
    upstreams: Vec<Upstream>,
    _untrusted: Upstream,
    _refusing: Refusing,
    gateway: Gateway,
}

impl Scene {
    fn new() -> Self {
        let upstreams: Vec<Upstream> = (0..CANDIDATES).map(|place| Upstream::new(scripted(place))).collect();
        let untrusted = Upstream::tls(&Certificate::new(), &[], |_| Reply::chat("secret"));
        let refusing = Refusing::new();
        let mut config =
            "routing: { strategy: failover }\nretry: { same_upstream: 0, budget: 100% }\nbreaker: { failures: 0 }\nupstreams:\n".to_owned();
        for fault in &FAULTS {
            for (position, name) in POSITIONS {
                for (place, upstream) in upstreams.iter().enumerate() {
                    let is_faulty = position.at(place).is_none();
                    let url = match &fault.place {
                        Place::Refusing if is_faulty => refusing.url(),
                        Place::Untrusted if is_faulty => untrusted.url(),
                        _ => upstream.url(),
                    };
                    let timeouts = if is_faulty { fault.timeouts } else { "" };
                    let model = format!("{}.{name}", fault.name);
                    config.push_str(&format!(
                        "  - {{ name: {}-{name}-{place}, base_url: \"{url}\", model_match: {{ type: exact, value: [{model}] }}, timeouts: {{ {timeouts} }} }}\n",
                        fault.name
                    ));
                }
            }
        }
        Self { gateway: Gateway::start(&config), upstreams, _untrusted: untrusted, _refusing: refusing }
    }

    fn ask(&self, model: &str, is_stream: bool) -> Answer {
        let body =
            json!({"model": model, "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]});
        self.gateway.send(&Request::post("/v1/chat/completions", body.to_string()))
    }

    /// How often each upstream was asked for a model; what is asked beside that may have arrived in part.
    fn asked(&self, model: &str, is_stream: bool) -> Vec<usize> {
        let is_meant = |request: &Received| {
            request.is_complete && model_of(request) == model && request.json()["stream"] == is_stream
        };
        let count = |upstream: &Upstream| upstream.requests().iter().filter(|one| is_meant(one)).count();
        self.upstreams.iter().map(count).collect()
    }

    fn check(&self, fault: &Fault, position: Position, name: &str, is_stream: bool) {
        let model = format!("{}.{name}", fault.name);
        let row = format!("{model}, stream: {is_stream}");
        let answer = self.ask(&model, is_stream);
        let shown = || format!("{row}: {:?} {}", answer.head, String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.end, End::Complete, "{}", shown());
        assert_eq!(answer.header("x-witgate-attempts"), Some(&*position.asked().to_string()), "{}", shown());
        if position.is_mended() {
            assert_eq!(answer.status(), 200, "{}", shown());
            let by = format!("{}-{name}-{}", fault.name, position.asked() - 1);
            assert_eq!(answer.header("x-witgate-upstream"), Some(&*by), "{}", shown());
            if is_stream {
                assert_eq!(chat_text(&answer.body), "hello", "{}", shown());
                assert_eq!(answer.events().len(), 4, "{}", shown());
                assert!(answer.body.ends_with(b"data: [DONE]\n\n"), "{}", shown());
            } else {
                assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello", "{}", shown());
            }
        } else {
            // An upstream's own words go before what the gateway says of others.
            let told = match (position, fault.told) {
                (Position::Last, (_, Told::Code(_))) => (500, Told::Message(DOWN)),
                (_, told) => told,
            };
            assert_eq!(answer.status(), told.0, "{}", shown());
            assert_eq!(answer.header("content-type"), Some("application/json"), "{}", shown());
            match told.1 {
                Told::Code(code) => assert_eq!(answer.error_code(), code, "{}", shown()),
                Told::Message(message) => assert_eq!(answer.error_message(), message, "{}", shown()),
            }
        }
        let reaches = |place: usize| {
            let is_scripted = matches!(fault.place, Place::Scripted(_)) || position.at(place).is_some();
            usize::from(place < position.asked() && is_scripted)
        };
        let expected: Vec<usize> = (0..CANDIDATES).map(reaches).collect();
        // An upstream may be given up before it has read what it was asked.
        eventually(&format!("the upstreams to be asked {expected:?} times: {}", shown()), || {
            (self.asked(&model, is_stream) == expected).then_some(())
        });
    }
}

// parity: 111, 115, 118, 122
#[test]
fn every_fault_before_the_first_content_is_mended_or_told_as_it_was() {
    let scene = Scene::new();
    std::thread::scope(|scope| {
        for faults in FAULTS.chunks(FAULTS.len().div_ceil(4)) {
            let scene = &scene;
            scope.spawn(move || {
                for fault in faults {
                    for (position, name) in POSITIONS {
                        scene.check(fault, position, name, false);
                        scene.check(fault, position, name, true);
                    }
                }
            });
        }
    });
    // Whoever was given up in the middle of an answer sees its connection close.
    for upstream in &scene.upstreams {
        let is_given_up = |request: &&Received| {
            let model = model_of(request);
            let fault = model.split('.').next().unwrap_or_default();
            matches!(fault, "silent" | "stalled-stream" | "trickling-stream") && !request.is_answered
        };
        upstream.wait("the connections to close", |requests| {
            requests.iter().filter(is_given_up).all(|request| request.left.is_some()).then_some(())
        });
    }
}

/// Two upstreams in order; `first` and `second` are further settings of theirs, `top` comes before.
fn pair(upstreams: [&Upstream; 2], settings: [&str; 2], top: &str) -> Gateway {
    let [one, two] = upstreams.map(Upstream::url);
    let [first, second] = settings;
    Gateway::start(&format!(
        "routing: {{ strategy: failover }}\n{top}\nupstreams:\n  - {{ name: one, base_url: \"{one}\"{first} }}\n  - {{ name: two, base_url: \"{two}\"{second} }}\n"
    ))
}

/// The error that a stream ends with.
#[track_caller]
fn last_error(answer: &Answer) -> Value {
    let last = answer.events().pop().expect("there are events");
    let last: Value = serde_json::from_str(&last).unwrap_or_else(|error| panic!("{error}: {last}"));
    assert!(last["error"]["message"].is_string(), "{last}");
    last["error"].clone()
}

// parity: 118, 125
#[test]
fn what_fails_after_the_first_content_is_told_and_not_tried_again() {
    let begun = || Reply::stream([role(), text("a")]);
    for (reply, message, code) in [
        (begun().step(Step::Cut), "the upstream broke off its answer", "upstream_stream_broken"),
        (begun().step(Step::Reset), "the upstream broke off its answer", "upstream_stream_broken"),
        (begun(), "the upstream ended its stream before the answer was over", "upstream_stream_broken"),
        (begun().hang(), "the upstream went silent", "upstream_stream_broken"),
        (begun().event(&failed(&json!("odd"))), "inside", "odd"),
    ] {
        let first = Upstream::always(reply);
        let second = Upstream::always(Reply::chat_stream(&["b"]));
        let gateway = pair([&first, &second], [", timeouts: { idle: 200ms }", ""], "");
        let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
        assert_eq!(chat_text(&answer.body), "a", "{message}");
        let error = last_error(&answer);
        assert_eq!((&error["message"], &error["code"]), (&json!(message), &json!(code)));
        assert!(!answer.text().contains("[DONE]"), "{}", answer.text());
        assert_eq!((first.count(), second.count()), (1, 0), "{message}");
    }
}

// parity: 118
#[test]
fn an_error_that_another_attempt_cannot_mend_keeps_its_status() {
    for reply in [
        Reply::json(200, failed(&json!("context_length_exceeded"))),
        Reply::stream([role(), failed(&json!("context_length_exceeded"))]),
    ] {
        let first = Upstream::always(reply);
        let second = Upstream::always(Reply::chat("b"));
        let gateway = pair([&first, &second], ["", ""], "");
        let answer = gateway.send(&Request::chat_stream("hi")).expect(400);
        assert_eq!(
            (answer.error_message(), answer.error_code().as_str()),
            ("inside".into(), "context_length_exceeded")
        );
        assert_eq!((first.count(), second.count()), (1, 0));
    }
}

// parity: 118
#[test]
fn an_answer_without_content_that_ended_is_an_answer() {
    let first = Upstream::always(Reply::stream([role(), chunk(&json!({}), Some("stop")), "[DONE]".into()]));
    let second = Upstream::always(Reply::chat("b"));
    let gateway = pair([&first, &second], ["", ""], "");
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!((answer.events().len(), second.count()), (3, 0), "{}", answer.text());
}

// parity: 118
#[test]
fn content_whose_blank_line_lacks_is_content() {
    let first = Upstream::always(
        Reply::stream([role()]).body(format!("data: {}", chunk(&json!({"content": "a"}), Some("stop")))),
    );
    let second = Upstream::always(Reply::chat("b"));
    let gateway = pair([&first, &second], ["", ""], "");
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!((chat_text(&answer.body).as_str(), second.count()), ("a", 0));
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"), "{}", answer.text());
}

/// The stream begins for the client while its upstream still waits at `gate`, having sent what is in `reply`; what fails
/// then is told.
#[track_caller]
fn check_bound(commit: &str, reply: Reply, events: usize) {
    let gate = Gate::new();
    let first = Upstream::always(reply.wait(&gate).step(Step::Cut));
    let second = Upstream::always(Reply::chat_stream(&["b"]));
    let gateway = pair([&first, &second], ["", ""], &format!("commit: {{ {commit} }}"));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200, "{commit}");
    for _ in 0..events {
        client.event().expect("what was held is handed over");
    }
    gate.open();
    let (rest, end) = client.rest();
    assert_eq!(end, End::Complete, "{commit}");
    assert!(data(&rest).last().is_some_and(|last| last.contains("upstream_stream_broken")), "{commit}");
    assert_eq!((first.count(), second.count()), (1, 0), "{commit}");
}

// parity: 118
#[test]
fn a_stream_is_held_back_no_longer_than_configured() {
    let roles = |count: usize| Reply::stream(std::iter::repeat_n(role(), count));
    check_bound("events_max: 0", roles(0), 0);
    check_bound("events_max: 3", roles(3), 3);
    check_bound("", roles(64), 64);
    check_bound("bytes_max: 1KiB", roles(0).body(format!(": {}\n\n", "x".repeat(2000))), 0);
    check_bound("wait_max: 50ms", roles(2), 2);
}

// parity: 118
#[test]
fn what_was_held_is_handed_over_as_it_came() {
    let padding = "x".repeat(900);
    let held: String = (0..250).map(|place| format!(": {place} {padding}\n\n")).collect();
    let stream = format!("{held}data: {}\n\ndata: [DONE]\n\n", chunk(&json!({"content": "a"}), Some("stop")));
    for size in [700, 20_000, 1 << 20] {
        let reply =
            Reply::new(200).header("content-type", "text/event-stream").chunked().body(stream.clone());
        let upstream = Upstream::always(reply.split(size));
        let answer = Gateway::before(&upstream).send(&Request::chat_stream("hi")).expect(200);
        assert!(
            answer.text() == stream,
            "pieces of {size}: {} and {} bytes",
            answer.body.len(),
            stream.len()
        );
    }
}

/// Whether the page of metrics has this line.
#[track_caller]
fn wait_metric(gateway: &Gateway, line: &str) {
    let page = || gateway.send_admin(&Request::get("/metrics")).expect(200).text().to_owned();
    eventually(line, || page().lines().any(|known| known == line).then_some(()));
}

// parity: 123
#[test]
fn every_timer_has_a_message_and_a_metric_of_its_own() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let hanging = format!("https://{}/v1", hanging.local_addr().expect("it is bound"));
    let upstream = Upstream::new(|request| match &*model_of(request) {
        "first_byte" => Reply::silence(),
        "idle" => Reply::stream([role()]).hang(),
        "late_idle" => Reply::stream([text("a")]).hang(),
        _ => trickle(),
    });
    let mut config = "retry: { same_upstream: 0 }\nupstreams:\n".to_owned();
    let timers = ["connect", "first_byte", "first_token", "idle", "total"];
    let url = upstream.url();
    let entry = |model: &str, timer: &str, url: &str| {
        format!(
            "  - {{ name: {model}, base_url: \"{url}\", model_match: {{ type: exact, value: [{model}] }}, timeouts: {{ {timer}: 100ms }} }}\n"
        )
    };
    for timer in timers {
        config.push_str(&entry(timer, timer, if timer == "connect" { &hanging } else { &url }));
    }
    config.push_str(&entry("late_idle", "idle", &url));
    let gateway = Gateway::start(&config);
    let ask = |model: &str| {
        let body = json!({"model": model, "stream": true, "messages": [{"role": "user", "content": "hi"}]});
        gateway.send(&Request::post("/v1/chat/completions", body.to_string()))
    };
    for (timer, message) in timers.into_iter().zip([
        "the upstream did not accept a connection in time",
        "the upstream did not answer in time",
        "the upstream's stream had no content in time",
        "the upstream went silent",
        "the upstream took too long in total",
    ]) {
        let answer = ask(timer).expect(504);
        assert_eq!(
            (answer.error_message().as_str(), answer.error_code().as_str()),
            (message, "upstream_timeout")
        );
        let attempts =
            format!("witgate_upstream_attempts_total{{upstream=\"{timer}\",outcome=\"{timer}_timeout\"}} 1");
        wait_metric(&gateway, &attempts);
    }
    let errors = |kind: &str, count: u32| {
        format!("witgate_errors_total{{kind=\"upstream_{kind}_timeout\",blame=\"upstream\"}} {count}")
    };
    timers.iter().for_each(|timer| wait_metric(&gateway, &errors(timer, 1)));
    assert_eq!(last_error(&ask("late_idle").expect(200))["code"], "upstream_stream_broken");
    wait_metric(&gateway, &errors("idle", 2));
}

// parity: 123
#[test]
fn first_token_holds_for_a_stream_that_was_handed_over_without_content() {
    let upstream = Upstream::always(trickle());
    let gateway = Gateway::start(&format!(
        "commit: {{ events_max: 0 }}\nupstreams: [{{ name: one, base_url: \"{}\", timeouts: {{ first_token: 150ms }} }}]\n",
        upstream.url()
    ));
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(last_error(&answer)["message"], "the upstream's stream had no content in time");
    upstream.wait_left(0);
}

// parity: 124
#[test]
fn a_stream_goes_on_for_longer_than_every_timer_but_idle() {
    let pause = || Step::Pause(Duration::from_millis(25));
    let begun = Reply::stream([text("a")]);
    let long = (0..60).fold(begun, |reply, _| reply.step(pause()).event(&text("a")));
    let upstream = Upstream::always(long.event(&chunk(&json!({}), Some("stop"))).event("[DONE]"));
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: one, base_url: \"{}\", timeouts: {{ connect: 1s, first_byte: 1s, first_token: 1s, idle: 10s }} }}]\n",
        upstream.url()
    ));
    let started = now();
    let answer = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert!(started.elapsed() > Duration::from_millis(1_400), "it lasted long enough to tell");
    assert_eq!(chat_text(&answer.body), "a".repeat(61));
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
}

// parity: 124
#[test]
fn a_whole_answer_is_not_bound_by_first_token() {
    let upstream = Upstream::always(Reply::chat("hello").first(Step::Pause(Duration::from_millis(300))));
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: one, base_url: \"{}\", timeouts: {{ first_token: 100ms }} }}]\n",
        upstream.url()
    ));
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(gateway.send(&Request::chat_stream("hi")).expect(504).error_code(), "upstream_timeout");
}

// parity: 114, 115
#[test]
fn a_fallback_that_leads_nowhere_keeps_the_real_error() {
    let limited = Upstream::always(Reply::error(429, "slow down").header("retry-after", "7"));
    let spare = Upstream::always(Reply::chat("hello"));
    let exact = |model: &str| format!(", model_match: {{ type: exact, value: [{model}] }}");
    let gateway = pair(
        [&limited, &spare],
        [&format!("{}, fallback: [spare]", exact("m")), &format!("{}, enabled: false", exact("spare"))],
        "",
    );
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        let answer = gateway.send(&request).expect(429);
        assert_eq!((answer.error_message().as_str(), answer.header("retry-after")), ("slow down", Some("7")));
    }
    assert_eq!(spare.count(), 0);
}

// parity: 118, 127
#[test]
fn an_early_stream_is_mended_behind_its_comments() {
    let gate = Gate::new();
    let first = Upstream::always(Reply::stream([role()]).wait(&gate).event(&failed(&json!(500))));
    let second = Upstream::always(Reply::chat_stream(&["he", "llo"]));
    let gateway = pair([&first, &second], ["", ""], "server: { keepalive: 30ms, keepalive_early: true }");
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    gate.open();
    let (rest, end) = client.rest();
    assert_eq!((chat_text(&rest).as_str(), end), ("hello", End::Complete));
    assert!(rest.ends_with(b"data: [DONE]\n\n"));
}

// parity: 119
#[test]
fn a_slow_upstream_is_hedged_by_the_next_and_cancelled() {
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        for slow in [Reply::silence(), Reply::stream([role()]).hang()] {
            let first = Upstream::always(slow);
            let second = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
            let gateway = pair([&first, &second], [", hedge: 50ms", ""], "");
            let answer = gateway.send(&request).expect(200);
            assert_eq!(answer.header("x-witgate-upstream"), Some("two"));
            assert_eq!(answer.header("x-witgate-attempts"), Some("2"));
            assert!(answer.text().contains("he"), "{}", answer.text());
            first.wait_left(0);
            assert_eq!((first.count(), second.count()), (1, 1));
            check_attempts(
                &gateway,
                &[("one", json!(null), json!("cancelled")), ("two", json!(200), json!(null))],
            );
        }
    }
}

/// The attempts of the one exchange, in the order in which they were decided.
#[track_caller]
fn check_attempts(gateway: &Gateway, expected: &[(&str, Value, Value)]) {
    let row = audit::only(gateway);
    let sql = format!("SELECT * FROM attempts WHERE exchange = {} ORDER BY number", row["id"]);
    let rows = audit::rows(&audit::file(gateway), &sql);
    let found: Vec<(&str, Value, Value)> = rows
        .iter()
        .map(|row| {
            (row["upstream"].as_str().expect("a name"), row["status"].clone(), row["error_kind"].clone())
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(row["upstream"].as_str(), expected.last().map(|last| last.0));
}

// parity: 119
#[test]
fn the_one_that_was_asked_first_may_still_win() {
    let asked = Gate::new();
    let first = Upstream::always(Reply::chat("hello").first(Step::Wait(asked.clone())));
    let second = Upstream::always(Reply::silence());
    let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
    let mut client = gateway.ask(&Request::chat("hi"));
    second.wait_requests(1);
    asked.open();
    let answer = client.answer().expect(200);
    assert_eq!(answer.header("x-witgate-upstream"), Some("one"));
    second.wait_left(0);
    check_attempts(&gateway, &[("two", json!(null), json!("cancelled")), ("one", json!(200), json!(null))]);
}

// parity: 119
#[test]
fn one_of_two_that_fails_leaves_the_other_to_answer() {
    for (fails, works) in [(0, 1), (1, 0)] {
        let failing = Reply::error(500, "broken").first(Step::Pause(Duration::from_millis(100)));
        let working = Reply::chat("hello").first(Step::Pause(Duration::from_millis(400)));
        let mut replies = [failing.clone(), failing];
        replies[works] = working;
        let [first, second] = replies.map(Upstream::always);
        let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
        let answer = gateway.send(&Request::chat("hi")).expect(200);
        let names = ["one", "two"];
        assert_eq!(answer.header("x-witgate-upstream"), Some(names[works]));
        assert_eq!((first.count(), second.count()), (1, 1));
        check_attempts(
            &gateway,
            &[(names[fails], json!(500), json!(null)), (names[works], json!(200), json!(null))],
        );
    }
}

// parity: 119
#[test]
fn when_both_fail_the_last_real_error_is_told() {
    let slow = Reply::error(500, "slow and broken").first(Step::Pause(Duration::from_millis(300)));
    let (first, second) = (Upstream::always(slow), Upstream::always(Reply::error(429, "busy")));
    let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
    assert_eq!(gateway.send(&Request::chat("hi")).expect(500).error_message(), "slow and broken");
    check_attempts(&gateway, &[("two", json!(429), json!(null)), ("one", json!(500), json!(null))]);
}

// parity: 119
#[test]
fn nobody_is_hedged_who_must_not_be() {
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let upload = Request::new("POST", "/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=b")
        .with_body(format!("{form}{}\r\n--b--\r\n", "x".repeat(200_000)));
    for (request, hedge, top) in [
        (Request::chat("hi"), "", ""),
        (Request::chat("hi"), ", hedge: 0s", ""),
        (Request::chat("hi"), ", hedge: 20ms", "retry: { attempts_max: 1 }"),
        (upload, ", hedge: 20ms", ""),
    ] {
        let first = Upstream::always(Reply::chat("hello").first(Step::Pause(Duration::from_millis(300))));
        let second = Upstream::always(Reply::chat("other"));
        let gateway = pair([&first, &second], [hedge, ""], top);
        let answer = gateway.send(&request).expect(200);
        assert_eq!(answer.header("x-witgate-attempts"), Some("1"), "{hedge} {top}");
        assert_eq!((first.count(), second.count()), (1, 0), "{hedge} {top}");
    }
}

// parity: 119
#[test]
fn a_client_that_leaves_takes_both_with_it() {
    let (first, second) = (Upstream::always(Reply::silence()), Upstream::always(Reply::silence()));
    let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
    let client = gateway.ask(&Request::chat("hi"));
    second.wait_requests(1);
    drop(client);
    first.wait_left(0);
    second.wait_left(0);
}

// parity: 118
#[test]
fn an_answer_marked_by_its_connection_s_end_is_held_back_like_any_other() {
    let first = Upstream::always(Reply::stream([role()]).framed(Framing::Close));
    let second = Upstream::always(Reply::chat_stream(&["he", "llo"]));
    let gateway = pair([&first, &second], ["", ""], "");
    assert_eq!(chat_text(&gateway.send(&Request::chat_stream("hi")).expect(200).body), "hello");
}

fn pausing(reply: Reply, milliseconds: u64) -> Reply {
    reply.first(Step::Pause(Duration::from_millis(milliseconds)))
}

// parity: 119
#[test]
fn a_rival_s_refusal_waits_for_the_one_at_work() {
    for status in [400, 401, 403, 404, 422] {
        let first = Upstream::always(pausing(Reply::chat("hello"), 400));
        let second = Upstream::always(Reply::error(status, "not here"));
        let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
        let answer = gateway.send(&Request::chat("hi")).expect(200);
        assert_eq!(answer.header("x-witgate-upstream"), Some("one"), "{status}");
        check_attempts(&gateway, &[("two", json!(status), json!(null)), ("one", json!(200), json!(null))]);
    }
}

// parity: 119
#[test]
fn what_the_first_says_of_the_request_is_final_and_of_its_key_is_not() {
    let first = Upstream::always(pausing(Reply::error(400, "no such thing"), 150));
    let second = Upstream::always(Reply::silence());
    let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
    assert_eq!(gateway.send(&Request::chat("hi")).expect(400).error_message(), "no such thing");
    second.wait_left(0);
    for status in [401, 403] {
        let first = Upstream::always(pausing(Reply::error(status, "who are you"), 150));
        let second = Upstream::always(pausing(Reply::chat("hello"), 400));
        let gateway = pair([&first, &second], [", hedge: 20ms", ""], "");
        let answer = gateway.send(&Request::chat("hi")).expect(200);
        assert_eq!(answer.header("x-witgate-upstream"), Some("two"), "{status}");
    }
}

// parity: 119, 120
#[test]
fn keys_take_turns_in_a_race_too() {
    let keyed = |milliseconds: u64| {
        Upstream::new(move |request| match request.header("authorization") {
            Some("Bearer sk-dead") => pausing(Reply::error(401, "dead"), milliseconds),
            _ => Reply::chat("hello"),
        })
    };
    let keys = ", api_keys: [sk-dead, sk-alive]";
    let resting = "witgate_upstream_keys_resting{upstream=\"two\"} 1.0";
    let (first, second) = (Upstream::always(Reply::silence()), keyed(0));
    let gateway = pair([&first, &second], [", hedge: 20ms", keys], "");
    for attempts in ["3", "2", "2"] {
        let answer = gateway.send(&Request::chat("hi")).expect(200);
        assert_eq!(answer.header("x-witgate-upstream"), Some("two"));
        assert_eq!(answer.header("x-witgate-attempts"), Some(attempts));
        wait_metric(&gateway, resting);
    }
    let (first, second) = (keyed(200), Upstream::always(Reply::silence()));
    let gateway = pair([&first, &second], [&format!("{keys}, hedge: 20ms"), ""], "");
    let answer = gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(answer.header("x-witgate-upstream"), Some("one"));
    assert_eq!((first.count(), second.count()), (2, 1));
    second.wait_left(0);
}

// parity: 119
#[test]
fn a_rival_without_a_place_is_asked_when_the_first_has_failed() {
    let (occupied, fails) = (Gate::new(), Gate::new());
    let (until_free, until_failed) = (occupied.clone(), fails.clone());
    let first = Upstream::new(move |request| match request.number {
        0 => pausing(Reply::chat("time has passed"), 200),
        _ => Reply::error(500, "broken").first(Step::Wait(until_failed.clone())),
    });
    let second = Upstream::new(move |request| match request.number {
        0 => Reply::chat("busy").first(Step::Wait(until_free.clone())),
        _ => Reply::chat("hello"),
    });
    let exact = |models: &str| format!(", model_match: {{ type: exact, value: [{models}] }}");
    let gateway = pair(
        [&first, &second],
        [&format!("{}, hedge: 20ms", exact("m, clock")), &format!("{}, max_in_flight: 1", exact("m, other"))],
        "",
    );
    let other = |model: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        Request::post("/v1/chat/completions", body.to_string())
    };
    let mut busy = gateway.ask(&other("other"));
    second.wait_requests(1);
    let mut clock = gateway.ask(&other("clock"));
    first.wait_requests(1);
    let mut client = gateway.ask(&Request::chat("hi"));
    first.wait_requests(2);
    clock.answer().expect(200);
    occupied.open();
    busy.answer().expect(200);
    fails.open();
    let answer = client.answer().expect(200);
    assert_eq!(answer.header("x-witgate-upstream"), Some("two"));
}

// parity: 116, 119
#[test]
fn a_hedge_that_nobody_can_make_costs_no_budget() {
    let slow = Upstream::always(pausing(Reply::chat("hello"), 10));
    let gateway = Gateway::start(&format!(
        "retry: {{ budget: 0% }}\nupstreams: [{{ name: one, base_url: \"{}\", hedge: 1ms }}]\n",
        slow.url()
    ));
    (0..130).for_each(|_| drop(gateway.send(&Request::chat("hi")).expect(200)));
    wait_metric(&gateway, "witgate_retries_refused_total 0");
}

// parity: 116
#[test]
fn a_hedge_counts_as_a_further_attempt() {
    let slow = Upstream::always(pausing(Reply::chat("slow"), 50));
    let fast = Upstream::always(Reply::chat("fast"));
    let gateway = pair([&slow, &fast], [", hedge: 1ms", ""], "retry: { budget: 0% }");
    let started = now();
    (0..130).for_each(|_| drop(gateway.send(&Request::chat("hi")).expect(200)));
    let most = 100.0 * (1.0 + started.elapsed().as_secs_f64() / 10.0);
    assert!((fast.count() as f64) <= most, "{} in {:?}", fast.count(), started.elapsed());
    assert!(fast.count() >= 50, "{}", fast.count());
}

// parity: 116
#[test]
fn tries_at_the_same_upstream_have_pauses_between_them() {
    let refusing = Refusing::new();
    let gateway = Gateway::start(&format!(
        "retry: {{ same_upstream: 8, attempts_max: 9, backoff: 250ms, backoff_max: 250ms }}\nbreaker: {{ failures: 0 }}\nupstreams: [{{ name: one, base_url: \"{}\" }}]\n",
        refusing.url()
    ));
    let started = now();
    let answer = gateway.send(&Request::chat("hi")).expect(502);
    assert_eq!(answer.header("x-witgate-attempts"), Some("9"));
    // Eight pauses of 0 to 250 ms each: that all of them together are as short happens once in 60 million times.
    assert!(started.elapsed() > Duration::from_millis(100), "{:?}", started.elapsed());
}

// parity: 115
#[test]
fn what_the_first_key_was_told_is_told_if_the_next_has_no_answer() {
    let upstream = Upstream::new(|request| match request.number {
        0 => Reply::error(429, "slow down").header("retry-after", "9"),
        _ => Reply::new(200).first(Step::Cut),
    });
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: one, base_url: \"{}\", api_keys: [sk-1, sk-2] }}]\n",
        upstream.url()
    ));
    let answer = gateway.send(&Request::chat("hi")).expect(429);
    assert_eq!((answer.error_message().as_str(), answer.header("retry-after")), ("slow down", Some("9")));
    assert_eq!(upstream.count(), 2);
}
