//! A configuration is replaced without a request noticing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use witgate_tests::client::End;
use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, eventually};

fn config(upstream: &Upstream, generation: usize) -> String {
    format!(
        "upstreams:\n  - name: one\n    base_url: {}\n    headers: {{ x-generation: \"{generation}\" }}\n",
        upstream.url()
    )
}

fn generation(gateway: &Gateway) -> String {
    let answer = gateway.send(&Request::chat("probe")).expect(200);
    let seen = answer.json();
    let headers = seen["headers"].as_array().expect("the upstream echoes its headers").clone();
    let found = headers.iter().find(|header| header[0] == "x-generation").expect("the header is configured");
    found[1].as_str().expect("it is text").to_owned()
}

#[track_caller]
fn wait_generation(gateway: &Gateway, wanted: usize) {
    eventually(&format!("generation {wanted}"), || (generation(gateway) == wanted.to_string()).then_some(()));
}

fn reload_request() -> Request {
    Request::post("/admin/reload", "{}")
}

#[cfg(unix)]
fn swap_symlink(gateway: &Gateway, text: &str, generation: usize) {
    let target = gateway.folder().join(format!("target-{generation}.yaml"));
    std::fs::write(&target, text).expect("the folder is writable");
    let link = gateway.folder().join("next-link");
    std::os::unix::fs::symlink(&target, &link).expect("the folder is writable");
    std::fs::rename(&link, gateway.config()).expect("the folder is writable");
}

// parity: 52, 54, 56
#[test]
fn a_hundred_reloads_under_load_fail_no_request() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = Gateway::start(&config(&upstream, 0));
    let is_over = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let answer = gateway.send(&Request::chat("load")).expect(200);
                    assert_eq!(answer.end, End::Complete);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Ends the load even when an assertion below fails, so that the failure is reported.
        let _guard = OnDrop(|| is_over.store(true, Ordering::Relaxed));
        for generation in 1..=100 {
            let text = config(&upstream, generation);
            // What only a look at the file shows takes as long as the looks are apart: a few of each do.
            match generation % 30 {
                0 => gateway.rewrite_config(&text),
                10 => std::fs::write(gateway.config(), &text).expect("the folder is writable"),
                20 => swap_symlink(&gateway, &text, generation),
                odd if odd % 2 == 1 => {
                    gateway.rewrite_config(&text);
                    gateway.signal("HUP");
                }
                _ => {
                    gateway.rewrite_config(&text);
                    gateway.send_admin(&reload_request()).expect(200);
                }
            }
            wait_generation(&gateway, generation);
        }
    });
    println!("{} requests were served during 100 reloads", served.load(Ordering::Relaxed));
    assert!(served.load(Ordering::Relaxed) > 100);
}

struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

// parity: 54
#[cfg(unix)]
#[test]
fn a_mounted_folder_that_is_swapped_is_seen() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = Gateway::start(&config(&upstream, 0));
    let folder = gateway.folder();
    let link = |from: &str, to: &std::path::Path| {
        let next = folder.join("next-link");
        std::os::unix::fs::symlink(to, &next).expect("the folder is writable");
        std::fs::rename(&next, folder.join(from)).expect("the folder is writable");
    };
    for generation in 1..=3 {
        let version = folder.join(format!("..version-{generation}"));
        std::fs::create_dir(&version).expect("the folder is writable");
        std::fs::write(version.join("witgate.yaml"), config(&upstream, generation)).expect("it is writable");
        link("..data", &version);
        if generation == 1 {
            link("witgate.yaml", std::path::Path::new("..data/witgate.yaml"));
        }
        wait_generation(&gateway, generation);
    }
}

// parity: 55
#[test]
fn listing_models_reloads() {
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/v1/models" => Reply::models(&["m"]),
        _ => Reply::echo(request),
    });
    let gateway = Gateway::start(&config(&upstream, 0));
    gateway.rewrite_config(&config(&upstream, 1));
    gateway.send(&Request::get("/v1/models")).expect(200);
    wait_generation(&gateway, 1);
}

// parity: 51, 53
#[test]
fn a_bad_file_keeps_the_running_configuration() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = Gateway::start(&config(&upstream, 1));
    gateway.rewrite_config("upstreams:\n  - name: one\n    base_url: nonsense\n    colour: red\n");
    let answer = gateway.send_admin(&reload_request());
    assert!(answer.status() >= 400, "{}", answer.text());
    assert!(answer.text().contains("witgate.yaml:3:"), "it says where: {}", answer.text());
    assert!(answer.text().contains("witgate.yaml:4:"), "it says everything: {}", answer.text());
    assert_eq!(generation(&gateway), "1");
    eventually("the log to say why", || gateway.stderr().contains("colour").then_some(()));
    gateway.rewrite_config(&config(&upstream, 2));
    wait_generation(&gateway, 2);
}

// parity: 57
#[test]
fn a_running_stream_survives_a_reload() {
    let gate = Gate::new();
    let behind = gate.clone();
    let upstream = Upstream::new(move |request| match request.number {
        0 => Reply::stream([r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#])
            .wait(&behind)
            .event("[DONE]"),
        _ => Reply::echo(request),
    });
    let gateway = Gateway::start(&config(&upstream, 0));
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().is_some());
    gateway.rewrite_config(&config(&upstream, 1));
    wait_generation(&gateway, 1);
    gate.open();
    let (rest, end) = client.rest();
    assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
    assert_eq!(end, End::Complete);
}

// parity: 74
#[test]
fn switching_off_and_weights_are_effective_at_once() {
    let upstreams = [Upstream::new(Reply::echo), Upstream::new(Reply::echo)];
    let text = |settings: [&str; 2]| {
        let mut text = "upstreams:\n".to_owned();
        for (index, (upstream, settings)) in upstreams.iter().zip(settings).enumerate() {
            text.push_str(&format!(
                "  - {{ name: up{index}, base_url: \"{}\"{settings} }}\n",
                upstream.url()
            ));
        }
        text
    };
    let gateway = Gateway::start(&text(["", ", enabled: false"]));
    for (settings, used) in [
        (["", ", enabled: false"], [10, 0]),
        ([", enabled: false", ""], [0, 10]),
        (["", ", priority: 0"], [10, 0]),
        ([", priority: 0", ""], [0, 10]),
    ] {
        gateway.rewrite_config(&text(settings));
        gateway.send_admin(&reload_request()).expect(200);
        let before = upstreams.each_ref().map(Upstream::count);
        for number in 0..10 {
            gateway.send(&Request::chat(&format!("chat {number}"))).expect(200);
        }
        let after = upstreams.each_ref().map(Upstream::count);
        assert_eq!([after[0] - before[0], after[1] - before[1]], used, "{settings:?}");
    }
}

#[test]
fn unchanged_upstreams_keep_their_connections() {
    let upstream = Upstream::new(Reply::echo);
    let text = |ttl: usize| {
        format!(
            "models_cache: {{ ttl: {ttl}s }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n",
            upstream.url()
        )
    };
    let gateway = Gateway::start(&text(1));
    gateway.send(&Request::chat("before")).expect(200);
    for ttl in 2..6 {
        gateway.rewrite_config(&text(ttl));
        gateway.send_admin(&reload_request()).expect(200);
        gateway.send(&Request::chat("after")).expect(200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn the_admin_listener_refuses_strangers() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = Gateway::start(&config(&upstream, 0));
    let ask = |request: &Request| witgate_tests::Connection::open(gateway.admin()).send(request).status();
    let own = gateway.admin().to_string();
    assert_eq!(ask(&Request::get("/admin/config").host("evil.example")), 421);
    assert_eq!(ask(&Request::get("/admin/config").host(&own)), 200);
    assert_eq!(ask(&Request::get("/admin/config").host("localhost")), 200);
    assert_eq!(ask(&reload_request().host(&own)), 200);
    assert_eq!(ask(&reload_request().host(&own).header("origin", "https://evil.example")), 403);
    let without_type = Request::new("POST", "/admin/reload").host(&own);
    assert!(ask(&without_type) >= 400);
}

#[test]
fn the_effective_configuration_hides_secrets() {
    let upstream = Upstream::new(Reply::echo);
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - {{ name: one, base_url: {}, api_key: sk-very-secret }}\n",
        upstream.url()
    ));
    let answer = gateway.send_admin(&Request::get("/admin/config")).expect(200);
    assert!(!answer.text().contains("sk-very-secret"));
    assert!(answer.text().contains("***"));
    gateway.send(&Request::chat("hi")).expect(200);
    assert_eq!(upstream.only().header("authorization"), Some("Bearer sk-very-secret"));
    assert!(!gateway.stderr().contains("sk-very-secret"));
}
