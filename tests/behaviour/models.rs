//! The list of models: parallel, bounded, cached, one flight at a time.

use std::time::Duration;

use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, now};

fn list(answer: &witgate_tests::Answer) -> Vec<String> {
    let json = answer.json();
    let data = json["data"].as_array().expect("a list has data").clone();
    data.iter().map(|model| model["id"].as_str().expect("a model has an id").to_owned()).collect()
}

fn gateway(first: &Upstream, second: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\n",
        first.url(),
        second.url()
    ))
}

// parity: 78
#[test]
fn a_hung_upstream_costs_five_seconds_and_no_more() {
    let hung = Upstream::always(Reply::silence());
    let alive = Upstream::always(Reply::models(&["b"]));
    let gateway = gateway(&hung, &alive);
    let started = now();
    let answer = gateway.send(&Request::get("/v1/models")).expect(200);
    println!("with a hung upstream the list took {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert_eq!(list(&answer), ["b"]);
    hung.wait_left(0);
}

// parity: 79, 39
#[test]
fn a_list_is_kept() {
    let one = Upstream::always(Reply::models(&["a"]));
    let two = Upstream::always(Reply::models(&["b", "a"]));
    let gateway = gateway(&one, &two);
    for _ in 0..5 {
        assert_eq!(list(&gateway.send(&Request::get("/v1/models")).expect(200)), ["a", "b"]);
    }
    assert_eq!((one.count(), two.count()), (1, 1));
}

// parity: 39
#[test]
fn a_list_is_not_kept_when_its_time_is_zero() {
    for setting in ["models_cache: { ttl: 0s }", "models_cache: { ttl_seconds: 0 }"] {
        let one = Upstream::always(Reply::models(&["a"]));
        let gateway =
            Gateway::start(&format!("{setting}\nupstreams:\n  - {{ name: one, base_url: {} }}\n", one.url()));
        for _ in 0..3 {
            gateway.send(&Request::get("/v1/models")).expect(200);
        }
        assert_eq!(one.count(), 3, "{setting}");
    }
}

// parity: 79
#[test]
fn one_flight_serves_all_and_outlives_its_leader() {
    let gate = Gate::new();
    let behind = gate.clone();
    let one = Upstream::new(move |_| {
        Reply::models(&["a"]).first(witgate_tests::upstream::reply::Step::Wait(behind.clone()))
    });
    let gateway = Gateway::before(&one);
    let leader = gateway.ask(&Request::get("/v1/models"));
    one.wait_requests(1);
    let mut followers: Vec<_> = (0..5).map(|_| gateway.ask(&Request::get("/v1/models"))).collect();
    drop(leader);
    // The followers' requests are read before this one is answered or soon after; either way they must not hang.
    assert_eq!(gateway.send(&Request::get("/healthz")).status(), 200);
    gate.open();
    for follower in &mut followers {
        assert_eq!(list(&follower.answer().expect(200)), ["a"]);
    }
    assert!(one.count() <= 2, "{} flights", one.count());
}

// parity: 79
#[test]
fn failures_are_not_kept() {
    let one = Upstream::sequence(vec![Reply::error(500, "down"), Reply::models(&["a"])]);
    let gateway = Gateway::before(&one);
    assert!(gateway.send(&Request::get("/v1/models")).status() >= 500);
    assert_eq!(list(&gateway.send(&Request::get("/v1/models")).expect(200)), ["a"]);
}

// parity: 79
#[test]
fn a_reload_empties_the_cache() {
    let one = Upstream::sequence(vec![Reply::models(&["a"]), Reply::models(&["b"])]);
    let text = |priority: u32| {
        format!("upstreams:\n  - {{ name: one, base_url: {}, priority: {priority} }}\n", one.url())
    };
    let gateway = Gateway::start(&text(1));
    assert_eq!(list(&gateway.send(&Request::get("/v1/models")).expect(200)), ["a"]);
    gateway.rewrite_config(&text(2));
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(200);
    assert_eq!(list(&gateway.send(&Request::get("/v1/models")).expect(200)), ["b"]);
}

// parity: 80
#[test]
fn the_callers_key_stays_here() {
    let one = Upstream::always(Reply::models(&["a"]));
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, api_key: sk-own }}\n",
        one.url()
    ));
    let request = Request::get("/v1/models?key=caller")
        .header("authorization", "Bearer caller")
        .header("x-api-key", "caller");
    gateway.send(&request).expect(200);
    let received = one.only();
    assert_eq!(received.header("authorization"), Some("Bearer sk-own"));
    assert!(!format!("{received:?}").contains("caller"));
}
