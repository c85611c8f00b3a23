//! Instances that are used again, where the operator allows it.

use serde_json::{Value, json};
use witgate_tests::{Gateway, Reply, Request, Upstream};

use super::{ask, described, faulty, probe, start, told};

fn reusing(reuse: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::always(Reply::chat("hi"));
    let plugins = probe("a", "{}").replace("allow:", &format!("instance: {{ reuse: {reuse} }}, allow:"));
    let gateway = start(&upstream, &plugins);
    (upstream, gateway)
}

/// How often the instance has been used that answers the next request of a caller.
#[track_caller]
fn uses_by(gateway: &Gateway, caller: &str) -> Value {
    let commands = format!("authenticate {caller}; on-request uses");
    gateway.send(&told(&commands)).expect(200).json()["came"].clone()
}

#[test]
fn every_exchange_gets_an_instance_of_its_own_unless_the_operator_says_otherwise() {
    let (_upstream, gateway) = reusing("{ uses_max: 0 }");
    assert_eq!([ask(&gateway, "uses"), ask(&gateway, "uses")], [json!(1), json!(1)]);
}

#[test]
fn an_instance_is_used_as_often_as_it_may() {
    let (_upstream, gateway) = reusing("{ uses_max: 3 }");
    let uses: Vec<Value> = (0..7).map(|_| ask(&gateway, "uses")).collect();
    assert_eq!(uses, [1, 2, 3, 1, 2, 3, 1].map(|uses| json!(uses)));
}

#[test]
fn an_instance_does_not_go_from_one_tenant_to_another() {
    let (_upstream, gateway) = reusing("{ uses_max: 100 }");
    for (caller, uses) in [("alice", 1), ("bob", 1), ("alice", 2), ("bob", 2), ("alice", 3)] {
        assert_eq!(uses_by(&gateway, caller), uses, "{caller}");
    }
    // Those without a tenant are none of them.
    assert_eq!(ask(&gateway, "uses"), 1);
    assert_eq!(uses_by(&gateway, "carol"), 1);
}

#[test]
fn an_instance_that_waits_for_one_tenant_makes_room_for_another() {
    let upstream = Upstream::always(Reply::chat("hi"));
    let settings = "instance: { reuse: { uses_max: 100 } }, limits: { instances_max: 3 }, allow:";
    let gateway = start(&upstream, &probe("a", "{}").replace("allow:", settings));
    for caller in ["alice", "bob", "carol", "dave"] {
        assert_eq!(uses_by(&gateway, caller), 1, "{caller}");
    }
}

#[test]
fn an_instance_goes_to_anybody_where_that_is_allowed() {
    let (_upstream, gateway) = reusing("{ uses_max: 100, scope: any }");
    for (caller, uses) in [("alice", 1), ("bob", 2), ("alice", 3)] {
        assert_eq!(uses_by(&gateway, caller), uses, "{caller}");
    }
}

#[test]
fn an_instance_that_grew_is_not_used_again() {
    let (_upstream, gateway) = reusing("{ uses_max: 100, memory_max: 4MiB }");
    assert_eq!(ask(&gateway, "uses"), 1);
    assert_eq!(ask(&gateway, "grow 8000000"), 2);
    assert_eq!(ask(&gateway, "uses"), 1);
}

#[test]
fn an_instance_that_broke_is_not_used_again() {
    let (_upstream, gateway) = reusing("{ uses_max: 100 }");
    assert_eq!(ask(&gateway, "uses"), 1);
    gateway.send(&told("on-request half")).expect(500);
    assert_eq!(ask(&gateway, "uses"), 1);
}

#[test]
fn a_plugin_that_breaks_on_every_second_call_breaks_no_other() {
    let upstream = Upstream::always(Reply::chat("hi"));
    let settings =
        "config: { faults: { on-request: panic }, every: 2 }, instance: { reuse: { uses_max: 100 } }";
    let gateway = start(&upstream, &faulty("second", settings));
    for call in 0..8 {
        gateway.send(&Request::chat("hi")).expect(if call % 2 == 0 { 200 } else { 500 });
    }
    assert_eq!(described(&gateway, "second")["calls"]["on-request"]["faults"], json!({"panic": 4}));
}

#[test]
fn there_are_no_more_instances_than_allowed() {
    let upstream = Upstream::always(Reply::chat("hi"));
    // The long-lived instance has the first place; the second is kept waiting in the plugin.
    let settings = "config: { faults: { on-request: sleep }, only_marked: true }, limits: { instances_max: 2, call_timeout: 100ms, wait_timeout: 3s }";
    let gateway = start(&upstream, &faulty("few", settings));
    gateway.send(&Request::chat("hi")).expect(200);
    let mut sleeper = gateway.ask(&Request::chat("hi").header("x-fault", "sleep"));
    witgate_tests::eventually("the sleeper to be in", || {
        (described(&gateway, "few")["instances"].as_u64() == Some(2)).then_some(())
    });
    let refused = gateway.send(&Request::chat("hi")).expect(503);
    assert_eq!(refused.error_code(), "plugin_capacity");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(sleeper.answer().expect(500).error_message(), "the plugin `few` failed (wait-timeout)");
    gateway.send(&Request::chat("hi")).expect(200);
}
