//! Where requests go, as seen from outside.

use std::collections::HashMap;

use serde_json::json;
use witgate_tests::{Gateway, Refusing, Reply, Request, Upstream};

fn config(upstreams: &[(&Upstream, &str)], top: &str) -> String {
    let mut text = format!("{top}\nupstreams:\n");
    for (index, (upstream, more)) in upstreams.iter().enumerate() {
        text.push_str(&format!("  - {{ name: up{index}, base_url: \"{}\"{more} }}\n", upstream.url()));
    }
    text
}

fn ask(gateway: &Gateway, request: &Request) -> String {
    let answer = gateway.send(request).expect(200);
    answer.header("x-witgate-upstream").expect("the answer names its upstream").to_owned()
}

fn conversation(number: usize, turns: usize) -> Request {
    let mut messages = vec![json!({"role": "system", "content": "be brief"})];
    for turn in 0..turns {
        messages.push(json!({"role": "user", "content": format!("chat {number}, turn {turn}")}));
        messages.push(json!({"role": "assistant", "content": format!("answer {turn}")}));
    }
    messages.push(json!({"role": "user", "content": "go on"}));
    Request::post("/v1/chat/completions", json!({"model": "m", "messages": messages}).to_string())
}

// parity: 59, 60
#[test]
fn conversations_stay_where_they_began_even_after_a_restart() {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let config = config(&upstreams.iter().map(|upstream| (upstream, "")).collect::<Vec<_>>(), "");
    let gateway = Gateway::start(&config);
    let places: Vec<String> = (0..30).map(|chat| ask(&gateway, &conversation(chat, 1))).collect();
    let used: std::collections::HashSet<_> = places.iter().collect();
    assert_eq!(used.len(), 3, "thirty conversations use every upstream: {places:?}");
    drop(gateway);
    let gateway = Gateway::start(&config);
    for turns in [2, 5] {
        for (chat, place) in places.iter().enumerate() {
            assert_eq!(&ask(&gateway, &conversation(chat, turns)), place, "chat {chat}, {turns} turns");
        }
    }
}

// parity: 38, 68
#[test]
fn round_robin_takes_turns() {
    let upstreams: Vec<Upstream> = (0..2).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let pairs = [(&upstreams[0], ""), (&upstreams[1], "")];
    let gateway = Gateway::start(&config(&pairs, "routing: { strategy: round_robin }"));
    let places: Vec<String> = (0..20).map(|_| ask(&gateway, &Request::chat("hi"))).collect();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{places:?}");
}

// parity: 38, 67
#[test]
fn least_in_flight_counts_until_the_last_byte() {
    let busy =
        Upstream::always(Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#]).hang());
    let idle = Upstream::new(|request| Reply::chat_as_asked(request, &["hello"]));
    let gateway =
        Gateway::start(&config(&[(&busy, ""), (&idle, "")], "routing: { strategy: least_in_flight }"));
    let mut held = Vec::new();
    // With equal counts the place is a draw, so this ends.
    while busy.count() == 0 {
        let mut client = gateway.ask(&Request::chat_stream("hi"));
        assert_eq!(client.head().status, 200);
        assert!(client.event().is_some());
        held.push(client);
    }
    for _ in 0..20 {
        assert_eq!(ask(&gateway, &Request::chat("hi")), "up1");
    }
    drop(held);
}

// parity: 32
#[test]
fn the_smallest_rank_goes_first() {
    let upstreams: Vec<Upstream> = (0..3).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let pairs = [
        (&upstreams[0], ", priority: 2"),
        (&upstreams[1], ", priority: 1"),
        (&upstreams[2], ", priority: 3"),
    ];
    let gateway = Gateway::start(&config(&pairs, "routing: { priority_mode: rank }"));
    for number in 0..100 {
        assert_eq!(ask(&gateway, &Request::chat(&format!("chat {number}"))), "up1");
    }
}

// parity: 31, 38, 62
#[test]
fn weights_are_shares() {
    let upstreams: Vec<Upstream> = (0..2).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let pairs = [(&upstreams[0], ", priority: 3"), (&upstreams[1], "")];
    for strategy in ["deterministic", "random", "voting"] {
        let gateway = Gateway::start(&config(&pairs, &format!("routing: {{ strategy: {strategy} }}")));
        let mut shares: HashMap<String, usize> = HashMap::new();
        for number in 0..400 {
            *shares.entry(ask(&gateway, &Request::chat(&format!("chat {number}")))).or_default() += 1;
        }
        // 300 are expected; five standard deviations are 43.
        assert!(shares["up0"].abs_diff(300) < 44, "{strategy}: {shares:?}");
    }
}

#[test]
fn a_full_upstream_is_passed_over() {
    let full = Upstream::always(Reply::silence());
    let other = Upstream::always(Reply::chat("hello"));
    let text = config(&[(&full, ", max_in_flight: 1"), (&other, "")], "routing: { strategy: failover }");
    let gateway = Gateway::start(&text);
    let waiting = gateway.ask(&Request::chat("hi"));
    full.wait_requests(1);
    assert_eq!(ask(&gateway, &Request::chat("hi")), "up1");
    drop(waiting);
    full.wait_left(0);
    assert_eq!(full.count(), 1);
}

#[test]
fn all_full_is_503_with_retry_after() {
    let full = Upstream::always(Reply::silence());
    let gateway = Gateway::start(&config(&[(&full, ", max_in_flight: 1")], ""));
    let _waiting = gateway.ask(&Request::chat("hi"));
    full.wait_requests(1);
    let answer = gateway.send(&Request::chat("hi")).expect(503);
    assert!(answer.header("retry-after").is_some(), "{:?}", answer.head);
    assert_eq!(answer.error_code(), "overloaded");
}

#[test]
fn a_full_upstream_gives_way_to_its_fallback() {
    let full = Upstream::always(Reply::silence());
    let spare = Upstream::always(Reply::chat("hello"));
    let pairs = [
        (&full, ", max_in_flight: 1, fallback: up1, model_match: { type: exact, value: m }"),
        (&spare, ", model_match: { type: exact, value: other }"),
    ];
    let gateway = Gateway::start(&config(&pairs, ""));
    let _waiting = gateway.ask(&Request::chat("hi"));
    full.wait_requests(1);
    assert_eq!(ask(&gateway, &Request::chat("hi")), "up1");
    assert_eq!(spare.only().json()["model"], "other", "it is asked for the model it knows");
}

#[test]
fn a_place_is_free_again_when_its_stream_is_over() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let gateway = Gateway::start(&config(&[(&upstream, ", max_in_flight: 1")], ""));
    for _ in 0..10 {
        gateway.send(&Request::chat_stream("hi")).expect(200);
        gateway.send(&Request::chat("hi")).expect(200);
    }
}

/// The attempts that are made at `upstreams` refusing upstreams.
#[track_caller]
fn check_attempts(upstreams: usize, retry: &str, attempts: &str) {
    let mut text = format!("retry: {{ backoff: 1ms, backoff_max: 1ms{retry} }}\nupstreams:\n");
    let refusing: Vec<Refusing> = (0..upstreams).map(|_| Refusing::new()).collect();
    for (index, upstream) in refusing.iter().enumerate() {
        text.push_str(&format!("  - {{ name: up{index}, base_url: \"{}\" }}\n", upstream.url()));
    }
    let answer = Gateway::start(&text).send(&Request::chat("hi")).expect(502);
    assert_eq!(answer.error_code(), "upstream_unreachable");
    assert_eq!(answer.header("x-witgate-attempts"), Some(attempts), "{upstreams} upstreams, retry{retry}");
}

// parity: 116
#[test]
fn attempts_at_refusing_upstreams_are_counted_exactly() {
    check_attempts(1, "", "2");
    check_attempts(1, ", same_upstream: 0", "1");
    check_attempts(1, ", same_upstream: 3", "4");
    check_attempts(3, "", "6");
    check_attempts(3, ", same_upstream: 0", "3");
    check_attempts(3, ", attempts_max: 1", "1");
    check_attempts(3, ", attempts_max: 5", "5");
    check_attempts(6, "", "8");
    check_attempts(3, ", on: [timeout, 5xx]", "1");
    check_attempts(3, ", on: []", "1");
}

// parity: 111
#[test]
fn what_is_not_in_on_is_not_tried_again() {
    for (on, status, moves) in [
        ("[connect, timeout, 408, 429, 5xx]", 500, true),
        ("[connect, timeout, 408, 429]", 500, false),
        ("[503]", 503, true),
        ("[503]", 502, false),
        ("[connect]", 429, false),
        ("[401, 403, 404, 422]", 401, true),
        ("[401, 403, 404, 422]", 403, true),
        ("[401, 403, 404, 422]", 404, true),
        ("[401, 403, 404, 422]", 422, true),
        ("[401, 403, 404, 422]", 400, false),
    ] {
        let first = Upstream::always(Reply::error(status, "no"));
        let second = Upstream::always(Reply::chat("hello"));
        let top = format!("routing: {{ strategy: failover }}\nretry: {{ on: {on} }}");
        let gateway = Gateway::start(&config(&[(&first, ""), (&second, "")], &top));
        gateway.send(&Request::chat("hi")).expect(if moves { 200 } else { status });
        assert_eq!((first.count(), second.count()), (1, usize::from(moves)), "{on} and {status}");
    }
}

// parity: 65
#[test]
fn a_drained_upstream_is_the_last_resort() {
    let drained = Upstream::always(Reply::chat("hello"));
    let other =
        Upstream::sequence(vec![Reply::chat("hello"), Reply::chat("hello"), Reply::error(500, "down")]);
    let pairs = [(&drained, ", priority: 0"), (&other, "")];
    let gateway = Gateway::start(&config(&pairs, ""));
    let places: Vec<String> =
        (0..3).map(|chat| ask(&gateway, &Request::chat(&format!("chat {chat}")))).collect();
    assert_eq!(places, ["up1", "up1", "up0"]);
}

// parity: 38, 70
#[test]
fn failover_keeps_to_the_first_while_it_answers() {
    let first = Upstream::new(|request| match request.number {
        20.. => Reply::error(500, "down"),
        _ => Reply::chat("hello"),
    });
    let second = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&config(
        &[(&first, ""), (&second, ", priority: 9")],
        "routing: { strategy: failover }",
    ));
    let place = |chat: usize| ask(&gateway, &Request::chat(&format!("chat {chat}")));
    assert!((0..20).all(|chat| place(chat) == "up0"));
    assert_eq!(place(20), "up1");
}

// parity: 64
#[test]
fn the_load_of_a_dead_upstream_spreads() {
    let mut upstreams: Vec<Upstream> = (0..4).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let config = config(
        &upstreams.iter().map(|upstream| (upstream, "")).collect::<Vec<_>>(),
        "retry: { same_upstream: 0 }",
    );
    let gateway = Gateway::start(&config);
    let places = |gateway: &Gateway| -> Vec<String> {
        (0..200).map(|chat| ask(gateway, &conversation(chat, 1))).collect()
    };
    let before = places(&gateway);
    drop(upstreams.remove(0));
    let after = places(&gateway);
    let mut spread: HashMap<&str, usize> = HashMap::new();
    for (before, after) in before.iter().zip(&after) {
        if before == "up0" {
            *spread.entry(after).or_default() += 1;
        } else {
            assert_eq!(before, after, "what the others had stays where it is");
        }
    }
    // About fifty conversations over three upstreams.
    assert_eq!(spread.len(), 3, "{spread:?}");
    assert!(spread.values().all(|count| *count >= 5), "{spread:?}");
}
