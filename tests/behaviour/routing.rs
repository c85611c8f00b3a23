//! Where requests go, as seen from outside.

use std::collections::HashMap;

use serde_json::json;
use witgate_tests::{Gateway, Reply, Request, Upstream};

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

// parity: 68
#[test]
fn round_robin_takes_turns() {
    let upstreams: Vec<Upstream> = (0..2).map(|_| Upstream::always(Reply::chat("hello"))).collect();
    let pairs = [(&upstreams[0], ""), (&upstreams[1], "")];
    let gateway = Gateway::start(&config(&pairs, "routing: { strategy: round_robin }"));
    let places: Vec<String> = (0..20).map(|_| ask(&gateway, &Request::chat("hi"))).collect();
    assert!(places.windows(2).all(|pair| pair[0] != pair[1]), "{places:?}");
}

// parity: 67
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

// parity: 31, 62
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
