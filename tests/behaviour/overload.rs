//! More than there are places for: who waits, in which order, who is refused, and that no place is ever lost.
//!
//! Everything is counted and nothing is timed: upstreams answer when a test opens their gate.

use serde_json::Value;
use witgate_tests::upstream::reply::Step;
use witgate_tests::{Answer, Connection, Gate, Gateway, Received, Reply, Request, Upstream, eventually};

/// What tells callers apart here.
const CALLER: &str = "x-caller";

/// An upstream that answers once the gate is open.
fn gated(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::new(move |request| Reply::chat_as_asked(request, &["hello"]).first(Step::Wait(gate.clone())))
}

/// A gateway with these limits before upstreams with these further settings.
#[track_caller]
fn start(limits: &str, upstreams: &[(&Upstream, &str)]) -> Gateway {
    Gateway::start(&config(limits, upstreams))
}

fn config(limits: &str, upstreams: &[(&Upstream, &str)]) -> String {
    let mut text = format!(
        "limits: {{ by: \"header:{CALLER}\", {limits} }}\nrouting: {{ strategy: failover }}\nupstreams:\n"
    );
    for (index, (upstream, more)) in upstreams.iter().enumerate() {
        text.push_str(&format!("  - {{ name: up{index}, base_url: {}{more} }}\n", upstream.url()));
    }
    text
}

/// What `/stats` says of the queue.
#[track_caller]
fn queue(gateway: &Gateway) -> Value {
    gateway.send_admin(&Request::get("/stats")).expect(200).json()["queue"].take()
}

/// Waits until so many have a place in the gateway, wait, and were refused.
#[track_caller]
fn wait_queue(gateway: &Gateway, admitted: u64, waiting: u64, refused: u64) {
    let expected = [admitted, waiting, refused].map(Value::from);
    let mut last = Value::Null;
    eventually(&format!("{expected:?} in the queue"), || {
        last = queue(gateway);
        let seen = ["admitted", "waiting", "refused"].map(|field| last[field].clone());
        (seen == expected).then_some(())
    });
}

/// Has so many requests of one caller wait, in this order, behind `before` that wait already.
#[track_caller]
fn line_up(gateway: &Gateway, caller: &str, count: usize, before: usize) -> Vec<Connection> {
    let ask = |number: usize| {
        let client = gateway.ask(&Request::chat(&format!("{caller} {number}")).header(CALLER, caller));
        eventually("one more to wait", || {
            (queue(gateway)["waiting"] == (before + number + 1) as u64).then_some(())
        });
        client
    };
    (0..count).map(ask).collect()
}

/// The texts that an upstream was asked, in order.
fn texts(upstream: &Upstream) -> Vec<String> {
    let text =
        |request: &Received| request.json()["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    upstream.requests().iter().map(text).collect()
}

#[track_caller]
fn check_refused(answer: &Answer, message: &str) {
    assert_eq!(answer.status(), 503);
    assert_eq!((answer.error_code().as_str(), answer.header("retry-after")), ("overloaded", Some("1")));
    assert_eq!(answer.error_message(), message);
}

const FULL: &str = "the gateway is full and as many requests wait as may, try again";

// parity: 131
#[test]
fn what_there_is_no_place_for_is_refused_at_once_and_the_rest_is_answered() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let gateway = start("total: { in_flight: 8 }, queue: 16, queue_timeout: 1h", &[(&upstream, "")]);
    let mut clients: Vec<Connection> = (0..240).map(|_| gateway.ask(&Request::chat("hi"))).collect();
    // All others are refused while nobody has been answered yet.
    wait_queue(&gateway, 8, 16, 216);
    upstream.wait_requests(8);
    assert_eq!(upstream.count(), 8, "there are 8 places");
    gate.open();
    let answers: Vec<Answer> = clients.iter_mut().map(Connection::answer).collect();
    let (good, refused): (Vec<&Answer>, Vec<&Answer>) =
        answers.iter().partition(|answer| answer.status() == 200);
    assert_eq!((good.len(), refused.len(), upstream.count()), (24, 216, 24));
    refused.iter().for_each(|answer| check_refused(answer, FULL));
    wait_queue(&gateway, 0, 0, 216);
    let metrics = gateway.send_admin(&Request::get("/metrics")).expect(200);
    for line in [
        "witgate_queue_refusals_total{before=\"gateway\",reason=\"queue_full\"} 216",
        "witgate_queue_refusals_total{before=\"upstream\",reason=\"queue_full\"} 0",
        "witgate_queue_wait_seconds_count{before=\"gateway\",ending=\"admitted\"} 16",
        "witgate_queue_waiting_requests{before=\"gateway\"} 0.0",
        "witgate_queue_waiting_requests_max 16.0",
        "witgate_admitted_in_flight 0.0",
        "witgate_admitted_in_flight_max 8.0",
    ] {
        assert!(
            metrics.text().lines().any(|known| known == line),
            "{line} is missing in\n{}",
            metrics.text()
        );
    }
}

// parity: 131
#[test]
fn callers_take_turns_and_each_is_served_in_its_order() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let gateway = start("total: { in_flight: 1 }, queue: 200, queue_timeout: 1h", &[(&upstream, "")]);
    let mut first = gateway.ask(&Request::chat("running").header(CALLER, "heavy"));
    upstream.wait_requests(1);
    let mut heavy = line_up(&gateway, "heavy", 100, 0);
    let mut light = line_up(&gateway, "light", 1, 100);
    gate.open();
    for client in [&mut first].into_iter().chain(&mut light).chain(&mut heavy) {
        client.answer().expect(200);
    }
    let mut expected: Vec<String> = (0..100).map(|number| format!("heavy {number}")).collect();
    // The one caller is in the middle of a turn when the other comes.
    expected.insert(1, "light 0".to_owned());
    expected.insert(0, "running".to_owned());
    assert_eq!(texts(&upstream), expected);
}

// parity: 131
#[test]
fn a_caller_who_fills_the_queue_keeps_nobody_out() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let gateway = start("total: { in_flight: 1 }, queue: 4, queue_timeout: 1h", &[(&upstream, "")]);
    let mut first = gateway.ask(&Request::chat("running").header(CALLER, "heavy"));
    upstream.wait_requests(1);
    let mut heavy = line_up(&gateway, "heavy", 4, 0);
    check_refused(&gateway.send(&Request::chat("more").header(CALLER, "heavy")), FULL);
    let mut light = gateway.ask(&Request::chat("light").header(CALLER, "light"));
    let mut last = heavy.pop().expect("four wait");
    check_refused(&last.answer(), FULL);
    wait_queue(&gateway, 1, 4, 2);
    gate.open();
    for client in [&mut first, &mut light].into_iter().chain(&mut heavy) {
        client.answer().expect(200);
    }
    assert_eq!(texts(&upstream), ["running", "heavy 0", "light", "heavy 1", "heavy 2"]);
}

// parity: 131
#[test]
fn a_network_of_ipv6_is_one_caller_in_the_queue_too() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let text = config("total: { in_flight: 1 }, queue: 4, queue_timeout: 1h", &[(&upstream, "")]);
    let text = text.replace(&format!("by: \"header:{CALLER}\""), "by: ip");
    let gateway = Gateway::start(&format!("server: {{ trusted_proxies: [127.0.0.1] }}\n{text}"));
    let from = |client: &str| Request::chat(client).header("x-forwarded-for", client);
    let mut first = gateway.ask(&from("2001:db8::1"));
    upstream.wait_requests(1);
    let mut heavy: Vec<Connection> = (1..=4)
        .map(|number| {
            let client = gateway.ask(&from(&format!("2001:db8::{number}")));
            wait_queue(&gateway, 1, number, 0);
            client
        })
        .collect();
    let mut light = gateway.ask(&from("2001:db8:0:1::1"));
    let mut last = heavy.pop().expect("four wait");
    check_refused(&last.answer(), FULL);
    gate.open();
    for client in [&mut first, &mut light].into_iter().chain(&mut heavy) {
        client.answer().expect(200);
    }
    let order = ["2001:db8::1", "2001:db8::1", "2001:db8:0:1::1", "2001:db8::2", "2001:db8::3"];
    assert_eq!(texts(&upstream), order);
}

// parity: 131
#[test]
fn a_full_upstream_leaves_the_gateway_to_the_others() {
    let gate = Gate::new();
    let (full, free) = (gated(&gate), Upstream::new(Reply::echo));
    let only = |model: &str| format!(", model_match: {{ type: exact, value: [{model}] }}");
    let limits = "total: { in_flight: 2 }, queue: 9, queue_timeout: 1h";
    let upstreams = [(&full, &*format!("{}, max_in_flight: 1", only("full"))), (&free, &*only("free"))];
    let gateway = start(limits, &upstreams);
    let ask = |model: &str| {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        gateway.ask(&Request::post("/v1/chat/completions", body.to_string()).header(CALLER, model))
    };
    let mut clients: Vec<Connection> = (0..5).map(|_| ask("full")).collect();
    full.wait_requests(1);
    wait_queue(&gateway, 1, 4, 0);
    ask("free").answer().expect(200);
    assert_eq!((full.count(), free.count()), (1, 1));
    gate.open();
    for client in &mut clients {
        client.answer().expect(200);
    }
    wait_queue(&gateway, 0, 0, 0);
}

// parity: 131
#[test]
fn who_has_waited_for_an_upstream_needs_a_place_in_the_gateway_again() {
    let gates = [Gate::new(), Gate::new()];
    let upstreams = gates.each_ref().map(gated);
    let only = |model: &str| format!(", model_match: {{ type: exact, value: [{model}] }}");
    let settings = [format!("{}, max_in_flight: 1", only("a")), only("b")];
    let text = |total: usize| {
        let limits = format!("total: {{ in_flight: {total} }}, queue: 9, queue_timeout: 1h");
        config(&limits, &[(&upstreams[0], &settings[0]), (&upstreams[1], &settings[1])])
    };
    let gateway = Gateway::start(&text(2));
    let ask = |model: &str| {
        let body = serde_json::json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        gateway.ask(&Request::post("/v1/chat/completions", body.to_string()).header(CALLER, model))
    };
    let mut first = ask("a");
    upstreams[0].wait_requests(1);
    let mut waiting = ask("a");
    wait_queue(&gateway, 1, 1, 0);
    let mut other = ask("b");
    upstreams[1].wait_requests(1);
    gateway.rewrite_config(&text(1));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    gates[0].open();
    first.answer().expect(200);
    // Its place at the upstream is for the next, but that in the gateway is one too many now.
    eventually("the wait for the gateway", || {
        let metrics = gateway.send_admin(&Request::get("/metrics")).expect(200);
        metrics.text().contains("witgate_queue_waiting_requests{before=\"gateway\"} 1.0").then_some(())
    });
    wait_queue(&gateway, 1, 1, 0);
    assert_eq!(upstreams[0].count(), 1);
    gates[1].open();
    other.answer().expect(200);
    waiting.answer().expect(200);
    wait_queue(&gateway, 0, 0, 0);
}

// parity: 131
#[test]
fn who_waits_too_long_is_told_so() {
    let upstream = Upstream::always(Reply::silence());
    let gateway = start("queue: 4, queue_timeout: 100ms", &[(&upstream, ", max_in_flight: 1")]);
    let _running = gateway.ask(&Request::chat("hi"));
    upstream.wait_requests(1);
    let message = "every upstream for this model is full and no place became free in 100ms, try again";
    check_refused(&gateway.send(&Request::chat("hi")), message);
    wait_queue(&gateway, 1, 0, 1);
    assert_eq!(upstream.count(), 1);
}

// parity: 131
#[test]
fn who_leaves_waits_no_more() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let gateway = start("total: { in_flight: 1 }, queue: 9, queue_timeout: 1h", &[(&upstream, "")]);
    let mut first = gateway.ask(&Request::chat("running"));
    upstream.wait_requests(1);
    let mut waiting = line_up(&gateway, "a", 3, 0);
    drop(waiting.remove(1));
    wait_queue(&gateway, 1, 2, 0);
    gate.open();
    for client in [&mut first].into_iter().chain(&mut waiting) {
        client.answer().expect(200);
    }
    assert_eq!(texts(&upstream), ["running", "a 0", "a 2"]);
    wait_queue(&gateway, 0, 0, 0);
}

// parity: 131
#[test]
fn no_place_is_lost_when_a_thousand_clients_leave_at_random() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream =
        Upstream::new(move |request| match String::from_utf8_lossy(&request.body).contains("held") {
            true => Reply::chat("hello").first(Step::Wait(held.clone())),
            false => Reply::chat("hello").first(Step::Pause(std::time::Duration::from_millis(1))),
        });
    let limits = "total: { in_flight: 6 }, queue: 1000, queue_timeout: 1h";
    let gateway = start(limits, &[(&upstream, ", max_in_flight: 4")]);
    // Numbers as good as drawn: a linear congruential generator.
    let mut draw = 1_u64;
    for _ in 0..10 {
        let mut clients: Vec<Connection> = (0..150_u64)
            .map(|number| gateway.ask(&Request::chat("hi").header(CALLER, &(number % 5).to_string())))
            .collect();
        for _ in 0..100 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            drop(clients.swap_remove((draw >> 33) as usize % clients.len()));
        }
        for client in &mut clients {
            client.answer().expect(200);
        }
    }
    wait_queue(&gateway, 0, 0, 0);
    let before = upstream.count();
    let mut clients: Vec<Connection> = (0..6).map(|_| gateway.ask(&Request::chat("held"))).collect();
    // All places are there: 4 at the upstream; who waits for those has none in the gateway.
    wait_queue(&gateway, 4, 2, 0);
    upstream.wait_requests(before + 4);
    let upstreams = gateway.send_admin(&Request::get("/admin/upstreams")).expect(200).json();
    let shown = &upstreams["upstreams"][0];
    assert_eq!((shown["in_flight"].as_u64(), shown["waiting"].as_u64()), (Some(4), Some(2)));
    gate.open();
    for client in &mut clients {
        client.answer().expect(200);
    }
}

// parity: 131
#[test]
fn the_first_upstream_with_a_place_is_asked() {
    let gates = [Gate::new(), Gate::new()];
    let upstreams = gates.each_ref().map(gated);
    let pairs = upstreams.each_ref().map(|upstream| (upstream, ", max_in_flight: 1"));
    let gateway = start("queue: 9, queue_timeout: 1h", &pairs);
    let mut first = gateway.ask(&Request::chat("first"));
    upstreams[0].wait_requests(1);
    let mut second = gateway.ask(&Request::chat("second"));
    upstreams[1].wait_requests(1);
    let mut third = line_up(&gateway, "third", 1, 0);
    gates[1].open();
    second.answer().expect(200);
    let answer = third[0].answer().expect(200);
    assert_eq!(answer.header("x-witgate-upstream"), Some("up1"));
    assert_eq!((upstreams[0].count(), upstreams[1].count()), (1, 2));
    gates[0].open();
    first.answer().expect(200);
}

// parity: 131
#[test]
fn a_place_waited_for_that_fails_leaves_the_other_upstreams() {
    let gates = [Gate::new(), Gate::new()];
    let good = gated(&gates[0]);
    let gate = gates[1].clone();
    let bad = Upstream::new(move |request| match request.number {
        0 => Reply::chat("hello").first(Step::Wait(gate.clone())),
        _ => Reply::error(500, "broken"),
    });
    let pairs = [(&good, ", max_in_flight: 1"), (&bad, ", max_in_flight: 1")];
    let gateway = start("queue: 9, queue_timeout: 1h", &pairs);
    let mut first = gateway.ask(&Request::chat("first"));
    good.wait_requests(1);
    let mut second = gateway.ask(&Request::chat("second"));
    bad.wait_requests(1);
    let mut third = line_up(&gateway, "third", 1, 0);
    gates[1].open();
    second.answer().expect(200);
    bad.wait_requests(2);
    // It waits for the one that is left.
    wait_queue(&gateway, 1, 1, 0);
    gates[0].open();
    first.answer().expect(200);
    assert_eq!(third[0].answer().expect(200).header("x-witgate-upstream"), Some("up0"));
}

#[track_caller]
fn check_stream(limits: &str, settings: &str) {
    let gate = Gate::new();
    let end = gate.clone();
    let upstream = Upstream::new(move |request| match request.number {
        0 => {
            Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#]).wait(&end).event("[DONE]")
        }
        _ => Reply::chat("hello"),
    });
    let gateway = start(&format!("{limits} queue: 9, queue_timeout: 1h"), &[(&upstream, settings)]);
    let mut stream = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(stream.head().status, 200);
    assert!(stream.event().is_some());
    let mut waiting = line_up(&gateway, "a", 1, 0);
    assert_eq!(upstream.count(), 1);
    gate.open();
    stream.rest();
    waiting[0].answer().expect(200);
}

// parity: 131
#[test]
fn a_stream_holds_its_place_to_its_end() {
    check_stream("total: { in_flight: 1 },", "");
    check_stream("", ", max_in_flight: 1");
}

// parity: 131
#[test]
fn a_reload_moves_the_bounds_under_those_who_wait() {
    let gate = Gate::new();
    let upstream = gated(&gate);
    let limits = |total: usize| format!("total: {{ in_flight: {total} }}, queue: 9, queue_timeout: 1h");
    let settings = |max: usize| format!(", max_in_flight: {max}");
    let gateway = start(&limits(2), &[(&upstream, &settings(1))]);
    let reload = |total: usize, max: usize| {
        gateway.rewrite_config(&config(&limits(total), &[(&upstream, &settings(max))]));
        gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    };
    let mut clients: Vec<Connection> = (0..4).map(|_| gateway.ask(&Request::chat("hi"))).collect();
    // One runs, three wait for the upstream and have no place in the gateway.
    wait_queue(&gateway, 1, 3, 0);
    reload(2, 2);
    upstream.wait_requests(2);
    wait_queue(&gateway, 2, 2, 0);
    reload(3, 3);
    upstream.wait_requests(3);
    wait_queue(&gateway, 3, 1, 0);
    // Nothing that runs is taken its place, and nobody gets in before there is one under the lower bound.
    reload(1, 1);
    wait_queue(&gateway, 3, 1, 0);
    reload(0, 0);
    upstream.wait_requests(4);
    wait_queue(&gateway, 4, 0, 0);
    gate.open();
    for client in &mut clients {
        client.answer().expect(200);
    }
    wait_queue(&gateway, 0, 0, 0);
}

#[test]
fn without_a_queue_a_full_gateway_refuses_at_once() {
    let upstream = Upstream::always(Reply::silence());
    let gateway = start("total: { in_flight: 1 }", &[(&upstream, "")]);
    let running = gateway.ask(&Request::chat("hi"));
    upstream.wait_requests(1);
    check_refused(&gateway.send(&Request::chat("hi")), "the gateway is full, try again");
    // Who asks for no model needs no place.
    gateway.send(&Request::get("/health")).expect(200);
    drop(running);
    wait_queue(&gateway, 0, 0, 1);
}
