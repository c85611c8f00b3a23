//! Plugins are swapped while they work.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use witgate_tests::client::End;
use witgate_tests::sse::chat_text;
use witgate_tests::upstream::reply::chunk;
use witgate_tests::{Connection, Gate, Gateway, Reply, Request, Upstream, eventually};

use super::{FAULTY, GRANTS, PROBE, admin, config, described, probe, reload, start};

/// Puts another component in the place of a file by renaming.
#[track_caller]
fn put(component: &str, file: &PathBuf) {
    let beside = file.with_extension("next");
    std::fs::copy(component, &beside).expect("the temporary folder is writable");
    std::fs::rename(&beside, file).expect("the temporary folder is writable");
}

/// A gateway with a plugin whose file can be swapped.
#[track_caller]
fn swappable(upstream: &Upstream) -> (Gateway, PathBuf, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = folder.path().join("plugin.wasm");
    put(PROBE, &file);
    let gateway =
        start(upstream, &format!("  - {{ name: it, source: {}, allow: {GRANTS} }}\n", file.display()));
    (gateway, file, folder)
}

#[test]
fn a_hundred_swaps_under_load_fail_no_request() {
    // The one leaves its name on requests, the other a header on answers.
    let upstream = Upstream::new(|request| match request.header("x-touched") {
        Some(_) => Reply::chat("faulty"),
        None => Reply::chat("probe"),
    });
    let (gateway, file, _folder) = swappable(&upstream);
    let is_over = AtomicBool::new(false);
    let (probes, faulties) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.address());
                while !is_over.load(Ordering::Relaxed) {
                    let answer = connection.send(&Request::chat("load")).expect(200);
                    assert_eq!(answer.end, End::Complete);
                    let text = answer.json()["choices"][0]["message"]["content"].clone();
                    // No exchange sees a bit of both.
                    let seen = (text.as_str(), answer.header("x-trace-response").is_some());
                    match seen {
                        (Some("probe"), true) => probes.fetch_add(1, Ordering::Relaxed),
                        (Some("faulty"), false) => faulties.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other:?}"),
                    };
                }
            });
        }
        let _guard = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        for swap in 1..=100 {
            let is_faulty = swap % 2 == 1;
            put(if is_faulty { FAULTY } else { PROBE }, &file);
            // What only a look at the file shows takes as long as the looks are apart: a few of these do.
            if swap % 25 != 0 {
                gateway.send_admin(&reload()).expect(200);
            }
            eventually(&format!("swap {swap}"), || {
                (described(&gateway, "it")["built_as"] == if is_faulty { "faulty" } else { "probe" })
                    .then_some(())
            });
        }
    });
    let (probes, faulties) = (probes.into_inner(), faulties.into_inner());
    println!("{probes} requests went through the one, {faulties} through the other, during 100 swaps");
    assert!(probes > 50 && faulties > 50, "{probes} and {faulties}");
    eventually("the old ones to be gone", || (admin(&gateway)["draining"] == json!([])).then_some(()));
    assert_eq!(gateway.stderr().matches("a plugin broke").count(), 0);
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_stream_keeps_the_version_that_it_began_with() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::new(move |request| match request.number {
        0 => Reply::stream([chunk(&json!({"content": "be"}), None)])
            .wait(&behind)
            .event(&chunk(&json!({"content": "gun"}), None))
            .event(&chunk(&json!({}), Some("stop")))
            .event("[DONE]"),
        _ => Reply::chat_stream(&["new"]),
    });
    let version = |label: &str| {
        config(&upstream, &probe("it", &format!("{{ label: {label}, text: {{ does: capitals }} }}")))
    };
    let gateway = Gateway::start(&version("-one"));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().expect("the stream has begun").data.contains("BE"));
    let generation = described(&gateway, "it")["generation"].clone();

    gateway.rewrite_config(&version("-two"));
    gateway.send_admin(&reload()).expect(200);
    let all = admin(&gateway);
    let old = all["draining"].as_array().expect("it lists them").clone();
    assert_eq!((old.len(), &old[0]["generation"]), (1, &generation), "{all}");
    assert_eq!(old[0]["instances"].as_u64().map(|count| count >= 1), Some(true), "{all}");
    let new = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(chat_text(&new.body), "NEW-two");

    gate.open();
    let (rest, end) = client.rest();
    assert_eq!((chat_text(&rest).as_str(), end), ("GUN-one", End::Complete));
    // The connection stays open, but no exchange is left.
    eventually("the old version to be gone", || (admin(&gateway)["draining"] == json!([])).then_some(()));
}

#[test]
fn a_bad_file_keeps_the_running_plugin_and_says_why() {
    let upstream = Upstream::always(Reply::chat("hi"));
    let (gateway, file, _folder) = swappable(&upstream);
    let before = described(&gateway, "it");
    for (bytes, why) in [
        (&b"no component"[..], "it is no WebAssembly"),
        (&b"\0asm\x01\0\0\0"[..], "it is a core module, not a component"),
    ] {
        std::fs::write(&file, bytes).expect("the temporary folder is writable");
        let answer = gateway.send_admin(&reload()).expect(422);
        assert_eq!(answer.json()["ok"], false);
        let problems = answer.json()["problems"].as_str().expect("it says why").to_owned();
        assert!(problems.contains("plugin `it`") && problems.contains(why), "{problems}");
        let shown = gateway.send_admin(&Request::get("/admin/config")).expect(200);
        assert!(shown.text().contains(why), "{}", shown.text());
        assert_eq!(described(&gateway, "it")["generation"], before["generation"]);
        gateway.send(&Request::chat("hi")).expect(200);
    }
    // One that reads well and does not start is no better.
    put(FAULTY, &file);
    gateway.rewrite_config(&config(
        &upstream,
        &format!(
            "  - {{ name: it, source: {}, config: {{ faults: {{ init: refuse }} }} }}\n",
            file.display()
        ),
    ));
    let answer = gateway.send_admin(&reload()).expect(422);
    assert!(answer.text().contains("it refuses its configuration"), "{}", answer.text());
    let answer = gateway.send(&Request::chat("hi")).expect(200);
    assert!(answer.header("x-trace-response").is_some(), "the old plugin still works");
}
