//! Several gateways that share their state through one Redis server, and what they do without it.

use std::net::{Ipv4Addr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::{Value, json};
use witgate_tests::gateway::{Launch, command};
use witgate_tests::redis::RedisServer;
use witgate_tests::tls::Certificate;
use witgate_tests::{Gateway, PATIENCE, Reply, Request, Upstream, eventually, now, tool};

/// Does what the header `x-probe` of a request says.
const PROBE: &str = env!("PROBE_WASM");

/// A server; none where there is no `redis-server` and the tests need not be complete.
fn redis() -> Option<RedisServer> {
    tool::is_there("redis-server").then(RedisServer::start)
}

/// A configuration with one upstream and this state.
fn config(upstream: &Upstream, state: &str, further: &str) -> String {
    format!("state: {state}\nupstreams:\n  - {{ name: one, base_url: {} }}\n{further}", upstream.url())
}

/// A gateway before that upstream.
#[track_caller]
fn start(upstream: &Upstream, server: &RedisServer, further: &str) -> Gateway {
    Gateway::start(&config(upstream, &server.url(), further))
}

/// The probe as a plugin with a memory.
fn probe() -> String {
    format!(
        "plugins:\n  - {{ name: p, source: {PROBE}, allow: {{ kv: 64KiB, metrics: 4, secrets: {{ token: hidden }}, \
         http: [\"http://127.0.0.1:9\"], env: {{ COLOUR: red }} }}, config: {{}} }}\n"
    )
}

/// Has the probe do something; what came of it.
#[track_caller]
fn ask(gateway: &Gateway, command: &str) -> Value {
    let request = Request::chat("hi").header("x-probe", &format!("on-request {command}"));
    gateway.send(&request).expect(200).json()["came"].clone()
}

/// A sample of the metrics, by the name and labels that it has on the page.
#[track_caller]
fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let page = gateway.send_admin(&Request::get("/metrics")).expect(200);
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().expect("samples are numbers"))
}

#[track_caller]
fn wait_up(gateway: &Gateway, is_up: bool) {
    let wanted = Some(f64::from(u8::from(is_up)));
    eventually("the shared state", || (metric(gateway, "witgate_shared_state_up") == wanted).then_some(()));
}

#[test]
fn plugins_of_several_gateways_have_one_memory() {
    let Some(mut server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let (one, two) = (start(&upstream, &server, &probe()), start(&upstream, &server, &probe()));
    assert!(one.stdout().contains(&format!("state {}/0", server.url())), "{}", one.stdout());
    for round in 0..5 {
        assert_eq!(ask(&one, "add n")["Ok"], 2 * round + 1);
        assert_eq!(ask(&two, "add n")["Ok"], 2 * round + 2);
    }
    assert_eq!(ask(&one, "get n"), "10");
    let described = two.send_admin(&Request::get("/admin/plugins")).expect(200).json();
    let kv = &described["plugins"][0]["kv"];
    // The probe keeps when it was called by the timer, too.
    assert!(kv["entries"].as_u64() >= Some(1) && kv["bytes"].as_u64() > Some(128), "{kv}");
    server.kill();
    for gateway in [&one, &two] {
        wait_up(gateway, false);
        assert_eq!(ask(gateway, "add n")["Ok"], 1, "each has its own");
    }
    server.restart();
    for (gateway, sum) in [(&one, 1), (&two, 2)] {
        wait_up(gateway, true);
        assert_eq!(ask(gateway, "add n")["Ok"], sum);
    }
}

#[test]
fn a_lost_server_is_told_once_and_comes_back() {
    let Some(mut server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, "");
    let changes = |to: &str| metric(&gateway, &format!("witgate_shared_state_changes_total{{to=\"{to}\"}}"));
    wait_up(&gateway, true);
    assert_eq!((changes("connected"), changes("lost")), (Some(1.0), Some(0.0)));
    server.kill();
    wait_up(&gateway, false);
    gateway.send(&Request::chat("hi")).expect(200);
    server.restart();
    wait_up(&gateway, true);
    assert_eq!((changes("connected"), changes("lost")), (Some(2.0), Some(1.0)));
    eventually("the log", || {
        let log = gateway.stderr();
        let lost = log.matches("the shared state cannot be reached").count();
        (lost == 1 && log.matches("the shared state is connected").count() == 2).then_some(())
    });
}

#[test]
fn a_server_that_hangs_holds_up_no_request_for_long() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, &probe());
    assert_eq!(ask(&gateway, "add n")["Ok"], 1);
    server.hang();
    let asked = now();
    // The first ones find out; whether they were counted they cannot know.
    eventually("the memory of its own", || (ask(&gateway, "add n")["Ok"] == 1).then_some(()));
    assert!(asked.elapsed() < PATIENCE / 4, "{:?}", asked.elapsed());
    wait_up(&gateway, false);
    server.go_on();
    wait_up(&gateway, true);
    let sum = ask(&gateway, "add n")["Ok"].as_u64().expect("a sum");
    assert!((2..=5).contains(&sum), "{sum}");
}

#[test]
fn a_gateway_starts_without_the_server_and_finds_it_later() {
    let Some(mut server) = redis() else { return };
    server.kill();
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, "");
    gateway.send(&Request::chat("hi")).expect(200);
    wait_up(&gateway, false);
    eventually("a warning", || gateway.stderr().contains("the shared state cannot be reached").then_some(()));
    server.restart();
    wait_up(&gateway, true);
}

// parity: 45
#[test]
fn the_environment_names_a_server_with_a_password() {
    if !tool::is_there("redis-server") {
        return;
    }
    let server = RedisServer::start_with(&["--requirepass", "opensesame"]);
    let url = |password: &str| format!("redis://:{password}@{}", server.address());
    let upstream = Upstream::always(Reply::chat("hi"));
    let text = format!("upstreams:\n  - {{ name: one, base_url: {} }}\n", upstream.url());
    for (password, is_up) in [("opensesame", true), ("letmein", false)] {
        let gateway = Launch::default().variable("REDIS_URL", &url(password)).start(&text);
        wait_up(&gateway, is_up);
        let shown = gateway.send_admin(&Request::get("/admin/config")).expect(200);
        let said = [gateway.stdout(), gateway.stderr(), shown.text().to_owned()].concat();
        assert!(said.contains(&format!("redis://***@{}/0", server.address())), "{said}");
        assert!(!said.contains(password), "{said}");
    }
}

#[test]
fn a_server_behind_tls_is_verified() {
    if !tool::is_there("redis-server") {
        return;
    }
    let certificate = Certificate::new();
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the temporary folder is writable");
        path.to_str().expect("it is UTF-8").to_owned()
    };
    let (cert, key) = (file("cert.pem", &certificate.cert_pem), file("key.pem", &certificate.key_pem));
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let port = free.expect("loopback has free ports").port().to_string();
    let mut arguments = vec!["--tls-port", &port, "--tls-auth-clients", "no", "--tls-cert-file", &cert];
    arguments.extend(["--tls-key-file", &key, "--tls-ca-cert-file", &cert]);
    let _server = RedisServer::start_with(&arguments);
    let upstream = Upstream::always(Reply::chat("hi"));
    let text = config(&upstream, &format!("rediss://localhost:{port}"), "");
    wait_up(&Launch::default().variable("SSL_CERT_FILE", &cert).start(&text), true);
    wait_up(&Launch::default().start(&text), false);
}

#[test]
fn another_server_needs_a_restart() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, "");
    gateway.rewrite_config(&config(&upstream, "memory", ""));
    eventually("a warning", || {
        let log = gateway.stderr();
        log.lines().any(|line| line.contains("needs a restart") && line.contains("state")).then_some(())
    });
    wait_up(&gateway, true);
}

#[test]
fn memory_has_no_shared_state_to_tell_of() {
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = Gateway::start(&config(&upstream, "memory", ""));
    assert_eq!(metric(&gateway, "witgate_shared_state_up"), None);
}

#[test]
fn a_url_that_cannot_be_read_stops_the_start_unseen() {
    let output = command().args(["serve"]).env("REDIS_URL", "redis://:opensesame@h/x").output();
    let output = output.expect("the binary can be run");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("REDIS_URL") && !log.contains("opensesame"), "{log}");
}

/// How many requests may be answered in ten minutes, far longer than a test.
const BOUND: usize = 100;
/// A limit on all callers of the test: they come from one address.
const LIMITS: &str = "limits: { by: ip, requests: 100/10m }\n";
/// Clients of each gateway, and requests of each.
const CLIENTS: usize = 4;
const REQUESTS: usize = 30;

/// Asks all gateways at the same time, over and over; how many requests were answered and how many refused.
fn storm(gateways: &[&Gateway]) -> (usize, usize) {
    let client = |gateway: &Gateway| {
        let statuses = (0..REQUESTS).map(|_| gateway.send(&Request::chat("hi")).status());
        let (answered, refused): (Vec<u16>, Vec<u16>) = statuses.partition(|status| *status == 200);
        assert!(refused.iter().all(|status| *status == 429), "{refused:?}");
        (answered.len(), refused.len())
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = gateways
            .iter()
            .flat_map(|gateway| (0..CLIENTS).map(|_| scope.spawn(|| client(gateway))))
            .collect();
        let counts = clients.into_iter().map(|client| client.join().expect("no client fails"));
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    })
}

/// Whether so many are the bound of so many ledgers, within 2 %.
#[track_caller]
fn expect_bound(answered: usize, ledgers: usize) {
    let (bound, off) = (ledgers * BOUND, ledgers * BOUND / 50);
    assert!((bound - off..=bound + off).contains(&answered), "{answered} were answered, {bound} are allowed");
}

#[test]
fn several_gateways_keep_one_limit() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let (one, two) = (start(&upstream, &server, LIMITS), start(&upstream, &server, LIMITS));
    let (answered, refused) = storm(&[&one, &two]);
    expect_bound(answered, 1);
    assert_eq!(answered + refused, 2 * CLIENTS * REQUESTS);
    // A gateway that comes later finds the limit used up.
    start(&upstream, &server, LIMITS).send(&Request::chat("hi")).expect(429);
}

#[test]
fn without_the_server_each_gateway_keeps_the_limit_by_itself_until_it_is_back() {
    let Some(mut server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let (one, two) = (start(&upstream, &server, LIMITS), start(&upstream, &server, LIMITS));
    server.kill();
    wait_up(&one, false);
    wait_up(&two, false);
    expect_bound(storm(&[&one, &two]).0, 2);
    server.restart();
    wait_up(&one, true);
    wait_up(&two, true);
    // It has nothing from before, as one that keeps nothing on a disk; what was granted without it is told.
    wait_counted(&server, "requests/600s", 2 * BOUND as u64);
    assert_eq!(storm(&[&one, &two]).0, 0);
}

/// What the server has counted of a meter of the tests' address.
fn counted(server: &RedisServer, meter: &str) -> u64 {
    let client = redis::Client::open(server.url()).expect("it is a URL");
    let mut connection = client.get_connection().expect("it runs");
    let key = format!("witgate:count:ip:127.0.0.1/{meter}");
    let counts: Vec<u64> = redis::cmd("HVALS").arg(key).query(&mut connection).expect("it answers");
    counts.iter().sum()
}

/// Waits until the server has counted so much: an exchange may end a moment after its client has the answer.
#[track_caller]
fn wait_counted(server: &RedisServer, meter: &str, expected: u64) {
    let mut last = 0;
    let found = catch_unwind(AssertUnwindSafe(|| {
        eventually("the server to be told", || {
            last = counted(server, meter);
            (last == expected).then_some(())
        });
    }));
    assert!(found.is_ok(), "{last} are counted of {meter}, not {expected}");
}

/// A chat request with a prompt of one token, whose answer may have so many; the scripted one has 5 with its prompt.
fn chat(output_max: u64) -> Request {
    let body = json!({
        "model": "m", "max_tokens": output_max, "messages": [{"role": "user", "content": "hi"}],
    });
    Request::post("/v1/chat/completions", body.to_string())
}

#[test]
fn tokens_and_budgets_of_several_gateways_are_settled_together() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let limits = "limits: { by: ip, tokens: 1000/10m, budget: { day: { tokens: 60 }, month: { money: 1 } } }\n\
                  prices: { \"*\": { input: 10, output: 10 } }\n";
    let gateways = [start(&upstream, &server, limits), start(&upstream, &server, limits)];
    for number in 1..=12 {
        // Two that claim 41 have no room beside each other, but when the first is settled.
        gateways[number % 2].send(&chat(if number < 3 { 40 } else { 1 })).expect(200);
        let tokens = 5 * number as u64;
        for (meter, expected) in
            [("tokens/600s", tokens), ("tokens/day", tokens), ("money/month", 10_000 * tokens)]
        {
            wait_counted(&server, meter, expected);
        }
    }
    for gateway in &gateways {
        assert_eq!(gateway.send(&chat(1)).expect(429).error_code(), "insufficient_quota");
        let shown = gateway.send_admin(&Request::get("/admin/limits")).expect(200).json();
        assert_eq!(shown["shared"], true, "it shows its own half only");
    }
    assert_eq!(upstream.count(), 12);
}

#[test]
fn a_budget_that_is_used_up_stays_so_over_a_loss_of_the_server() {
    let Some(mut server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, "limits: { by: ip, budget: { day: { tokens: 12 } } }\n");
    for number in 1..=3 {
        gateway.send(&chat(1)).expect(200);
        wait_counted(&server, "tokens/day", 5 * number);
    }
    gateway.send(&chat(1)).expect(429);
    server.kill();
    wait_up(&gateway, false);
    gateway.send(&chat(1)).expect(429);
    server.restart();
    wait_up(&gateway, true);
    gateway.send(&chat(1)).expect(429);
    assert_eq!(upstream.count(), 3);
}

#[test]
fn a_server_that_hangs_has_counted_right_in_the_end() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::chat("hi"));
    let gateway = start(&upstream, &server, "limits: { by: ip, budget: { day: { tokens: 100000 } } }\n");
    gateway.send(&chat(4000)).expect(200);
    wait_counted(&server, "tokens/day", 5);
    server.hang();
    // It gets these claims and does not answer them; one client leaves before it is known.
    drop(gateway.ask(&chat(4000)));
    for _ in 0..3 {
        gateway.send(&chat(4000)).expect(200);
    }
    wait_up(&gateway, false);
    gateway.send(&chat(4000)).expect(200);
    server.go_on();
    wait_up(&gateway, true);
    // Whoever left may have been let in before that was known, and is charged for it.
    eventually("what was used", || (25..=30).contains(&counted(&server, "tokens/day")).then_some(()));
    assert_eq!(metric(&gateway, "witgate_shared_state_corrections_dropped_total"), Some(0.0));
}

#[test]
fn an_upstream_that_one_gateway_finds_down_is_left_alone_by_the_others() {
    let Some(server) = redis() else { return };
    let upstream = Upstream::always(Reply::error(500, "no"));
    let breaker = "breaker: { failures: 3, cooldown: 60s }\n";
    let (one, two) = (start(&upstream, &server, breaker), start(&upstream, &server, breaker));
    for _ in 0..3 {
        one.send(&Request::chat("hi")).expect(500);
    }
    let breaker = |gateway: &Gateway| {
        let shown = gateway.send_admin(&Request::get("/admin/upstreams")).expect(200).json();
        shown["upstreams"][0]["breaker"].clone()
    };
    eventually("the other to hear of it", || (breaker(&two)["state"] == "open").then_some(()));
    assert_eq!((&breaker(&one)["trips"], &breaker(&two)["trips"]), (&json!(1), &json!(0)));
    assert_eq!(upstream.count(), 3);
}

#[test]
fn of_two_gateways_with_one_folder_one_keeps_its_counts() {
    let upstream = Upstream::always(Reply::chat("hi"));
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let further = format!(
        "audit: {{ enabled: false, path: {}/record.db }}\nlimits: {{ by: ip, requests: 100/1h }}\n",
        folder.path().display()
    );
    let start = || Gateway::start(&config(&upstream, "memory", &further));
    let kept = || {
        let text = std::fs::read(folder.path().join("witgate-limits.json")).ok()?;
        let counts: Value = serde_json::from_slice(&text).expect("it is whole at any time");
        let slots = counts["meters"][0]["slots"].as_array()?.clone();
        Some(slots.iter().filter_map(|slot| slot[1].as_u64()).sum::<u64>())
    };
    let (one, two) = (start(), start());
    one.send(&Request::chat("hi")).expect(200);
    eventually("the first one's count", || (kept() == Some(1)).then_some(()));
    two.send(&Request::chat("hi")).expect(200);
    two.send(&Request::chat("hi")).expect(200);
    eventually("a warning", || two.stderr().contains("another gateway writes it").then_some(()));
    assert_eq!(kept(), Some(1));
    drop(one);
    eventually("the other one's", || (kept() == Some(2)).then_some(()));
}
