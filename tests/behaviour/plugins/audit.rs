//! What plugins are told after the exchange, and the tick.

use serde_json::json;
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Gateway, Reply, Upstream, eventually};

use super::{ask, chat_for, config, described, notes, probe, reload, start};

fn chatty() -> Upstream {
    Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]))
}

/// The record of the exchange with this model.
#[track_caller]
fn record(gateway: &Gateway, model: &str) -> String {
    eventually("the record", || {
        notes(gateway)
            .into_iter()
            .find_map(|line| line.strip_prefix(&format!("record {model} ")).map(str::to_owned))
    })
}

#[test]
fn a_record_says_how_the_exchange_went() {
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("fails") => Reply::error(400, "no"),
        Some("cut") => Reply::stream([chunk(&json!({"content": "a"}), None)]).step(Step::Cut),
        Some("left") => Reply::stream([chunk(&json!({"content": "a"}), None)]).hang(),
        _ => Reply::chat_as_asked(request, &["he", "llo"]),
    });
    let gateway = start(&upstream, &probe("a", "{ label: mark, notes: true }"));
    gateway.send(&chat_for("whole", false)).expect(200);
    assert_eq!(record(&gateway, "whole"), "200 stop [probe=mark] 2 0 0");
    gateway.send(&chat_for("streamed", true)).expect(200);
    // Nobody counted its tokens: they are estimated.
    assert_eq!(record(&gateway, "streamed"), "200 stop [probe=mark] 2 0 0");
    gateway.send(&chat_for("fails", false)).expect(400);
    assert!(record(&gateway, "fails").starts_with("400 "));
    gateway.send(&chat_for("cut", true));
    assert!(record(&gateway, "cut").starts_with("200 upstream-error "));
    let mut client = gateway.ask(&chat_for("left", true));
    assert!(client.head().status == 200 && client.event().is_some());
    drop(client);
    assert!(record(&gateway, "left").starts_with("200 cancelled "));
}

#[test]
fn bodies_are_shown_where_they_are_granted() {
    let upstream = chatty();
    let granted = probe("a", "{ notes: true }").replace("kv: 64KiB", "kv: 64KiB, audit_bodies: true");
    let gateway = start(&upstream, &granted);
    let request = chat_for("whole", false);
    let answer = gateway.send(&request).expect(200);
    let asked = upstream.last().body.len();
    assert_eq!(record(&gateway, "whole"), format!("200 stop [probe=] 2 {asked} {}", answer.body.len()));
}

#[test]
fn records_come_in_batches() {
    let upstream = chatty();
    let gateway = start(&upstream, &probe("a", "{ notes: true }"));
    for _ in 0..40 {
        gateway.send(&chat_for("counted", false)).expect(200);
    }
    let seen = eventually("all records", || {
        let seen = notes(&gateway);
        (seen.iter().filter(|line| line.starts_with("record counted ")).count() == 40).then_some(seen)
    });
    let batches = seen.iter().filter(|line| line.starts_with("on-complete takes")).count();
    assert!(batches < 40, "{batches} batches");
}

#[test]
fn a_batch_that_is_refused_comes_again_and_three_times_at_most() {
    let upstream = chatty();
    for (refused, redelivered, dropped) in [(2, 2, 0), (100, 3, 1)] {
        let settings = format!("{{ notes: true, batches_refused: {refused} }}");
        // Only this model's exchanges are recorded, not those that look.
        let plugins = probe("a", &settings).replace("allow:", "match: { models: [counted] }, allow:");
        let gateway = start(&upstream, &plugins);
        gateway.send(&chat_for("counted", false)).expect(200);
        let queue = eventually("the queue to be empty", || {
            let queue = described(&gateway, "a")["queue"].clone();
            let done = queue["delivered"].as_u64()? + queue["dropped"].as_u64()?;
            (done == 1).then_some(queue)
        });
        assert_eq!(queue["redelivered"], redelivered, "{queue}");
        assert_eq!((&queue["dropped"], &queue["waiting"]), (&json!(dropped), &json!(0)), "{queue}");
        let word = if dropped == 1 { "records were dropped" } else { "a plugin refused a batch" };
        eventually("the log to say so", || gateway.stderr().contains(word).then_some(()));
    }
}

#[test]
fn what_is_queued_is_delivered_although_the_plugin_is_swapped() {
    let upstream = chatty();
    let version = |label: &str| probe("a", &format!("{{ label: {label}, notes: true }}"));
    let gateway = start(&upstream, &version("old"));
    gateway.rewrite_config(&config(&upstream, &version("new")));
    gateway.send(&chat_for("counted", false)).expect(200);
    gateway.send_admin(&reload()).expect(200);
    assert_eq!(record(&gateway, "counted"), "200 stop [probe=old] 2 0 0");
}

#[test]
fn what_is_queued_is_delivered_before_the_gateway_ends() {
    let upstream = chatty();
    let mut gateway = start(&upstream, &probe("a", "{}"));
    let answer = gateway.send(&chat_for("last", false)).expect(200);
    let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    // The plugin labels what it has seen.
    let row = witgate_tests::audit::only(&gateway);
    assert_eq!(row["request_id"], id);
    assert_eq!(witgate_tests::audit::parsed(&row, "labels")["seen"], "yes");
}

#[test]
fn the_tick_runs_on_one_instance() {
    let gateway = start(&chatty(), &probe("a", "{}"));
    let first = eventually("a tick", || ask(&gateway, "get tick").as_str().map(str::to_owned));
    let later = eventually("another tick", || {
        ask(&gateway, "get tick").as_str().filter(|tick| **tick != *first).map(str::to_owned)
    });
    let ms = |tick: &str| tick.parse::<u64>().expect("it is a time");
    assert!(ms(&later) - ms(&first) >= 500, "{first}, then {later}");
}
