//! The log and the access log, as an operator and a program that reads them find them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use witgate_tests::gateway::{Launch, command};
use witgate_tests::upstream::reply::Step;
use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, eventually};

/// A configuration with one upstream and these further lines.
fn before(upstream: &Upstream, further: &str) -> String {
    format!("upstreams:\n  - {{ name: one, base_url: {} }}\n{further}\n", upstream.url())
}

/// Splits a line of the access log into its fields, quoted ones without their quotation marks.
#[track_caller]
fn fields(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(first) = rest.next() {
        let mut field = String::new();
        let end = match first {
            '"' => '"',
            '[' => ']',
            _ => ' ',
        };
        if end == ' ' {
            field.push(first);
        }
        while let Some(character) = rest.next().filter(|character| *character != end) {
            let shown = if character == '\\' { rest.next() } else { Some(character) };
            field.extend(shown);
        }
        fields.push(field);
        if end != ' ' {
            assert!(matches!(rest.next(), Some(' ') | None), "{line}");
        }
    }
    fields
}

fn is_access(line: &str) -> bool {
    line.starts_with("127.0.0.1 - - [") || line.contains(r#""target":"witgate::access""#)
}

/// The lines of the access log on standard error, as soon as there are so many.
#[track_caller]
fn on_console(gateway: &Gateway, count: usize) -> Vec<String> {
    eventually("the access log", || {
        let lines: Vec<String> =
            gateway.stderr().lines().filter(|line| is_access(line)).map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

/// The files in a folder and what they hold.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let named = entries.map(|entry| entry.expect("it can be read"));
    named
        .map(|entry| {
            let name = entry.file_name().into_string().expect("names are text");
            (name, std::fs::read_to_string(entry.path()).unwrap_or_default())
        })
        .collect()
}

/// The lines of all files of a kind, whatever their days; the file without a number is the last.
fn of_kind(folder: &Path, kind: &str) -> Vec<String> {
    let mut of_kind: Vec<(u64, String)> = files(folder)
        .into_iter()
        .filter(|(name, _)| name.starts_with(&format!("{kind}.")))
        .map(|(name, text)| {
            (
                name.rsplit_once(".log.")
                    .map_or(u64::MAX, |(_, n)| n.parse().expect("it ends with a number")),
                text,
            )
        })
        .collect();
    of_kind.sort_by_key(|(number, _)| *number);
    of_kind.iter().flat_map(|(_, text)| text.lines().map(str::to_owned)).collect()
}

// parity: 150, 152, 153
#[test]
fn an_exchange_has_a_line_as_web_servers_write_it() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["hel", "lo"]));
    let gateway = Gateway::before(&upstream);
    let request = Request::chat_stream("a secret prompt").header("user-agent", "the \"agent\"");
    let request = request.header("x-request-id", "id-1");
    gateway.send(&request).expect(200);
    gateway.send(&Request::get("/healthz")).expect(200);
    gateway.send(&Request::get("/v1/nowhere?key=sk-secret&a=1").header("x-request-id", "id-2")).expect(404);
    let lines = on_console(&gateway, 2);
    assert_eq!(lines.len(), 2, "pages for probes have none: {lines:#?}");
    let first = fields(&lines[0]);
    assert_eq!(first.len(), 15, "{lines:#?}");
    let time: Vec<&str> = first[3].split(['/', ':', ' ']).collect();
    assert!(time.len() == 7 && time[1].len() == 3 && time[6] == "+0000", "{time:?}");
    assert_eq!(first[4], "POST /v1/chat/completions HTTP/1.1");
    assert_eq!((&*first[5], &*first[7], &*first[8]), ("200", "-", "the \"agent\""));
    assert!(first[6].parse::<u64>().unwrap() > 0, "{first:?}");
    assert!(first[9].strip_suffix('s').unwrap().parse::<f64>().is_ok(), "{first:?}");
    assert_eq!((&*first[10], &*first[11], &*first[12], &*first[13]), ("m", "-", "-", "id-1"));
    assert!(
        first[14].strip_suffix('s').unwrap().parse::<f64>().is_ok(),
        "the time to the first token: {first:?}"
    );
    let second = fields(&lines[1]);
    assert_eq!(second[4], "GET /v1/nowhere?key=***&a=1 HTTP/1.1");
    assert_eq!((&*second[5], &*second[13], &*second[14]), ("404", "id-2", "-"));
    assert!(second[12].contains("there is no such path"), "{second:?}");
    assert!(!gateway.stderr().contains("secret"), "{}", gateway.stderr());
}

// parity: 150, 152, 153
#[test]
fn an_exchange_has_a_line_of_json() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["hel", "lo"]));
    let gateway = Gateway::start(&before(&upstream, "log: { format: json }"));
    let answer = gateway.send(&Request::chat("a secret prompt"));
    let id = answer.header("x-request-id").expect("every answer has one").to_owned();
    gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    let lines = on_console(&gateway, 2);
    let read = |line: &String| serde_json::from_str::<Value>(line).expect("a line is JSON");
    let (first, second) = (read(&lines[0]), read(&lines[1]));
    for (name, value) in [
        ("request_id", json!(id)),
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("status_code", json!(200)),
        ("client_ip", json!("127.0.0.1")),
        ("error", Value::Null),
        ("endpoint", json!("chat.completions")),
        ("model", json!("m")),
        ("upstream", json!("one")),
        ("attempts", json!(1)),
        ("outcome", json!("complete")),
    ] {
        assert_eq!(first[name], value, "{name}: {first}");
    }
    assert_eq!(first["tokens"]["input"], 3, "{first}");
    assert!(first["latency_ms"].is_f64() && first["timestamp"].is_string(), "{first}");
    assert_eq!((&second["status_code"], &second["outcome"]), (&json!(400), &json!("refused")));
    assert!(second["error"].is_string(), "{second}");
    for line in gateway.stderr().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "every line is JSON: {line}");
    }
    assert!(!gateway.stderr().contains("secret"));
}

// parity: 151
#[test]
fn files_are_split_by_how_it_went() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&before(&upstream, "log: { dir: logs/here }"));
    gateway.send(&Request::chat("hi").header("x-request-id", "went-well")).expect(200);
    gateway
        .send(&Request::post("/v1/chat/completions", "{").header("x-request-id", "went-wrong"))
        .expect(400);
    let folder = gateway.folder().join("logs/here");
    eventually("both lines", || {
        (!of_kind(&folder, "info").is_empty() && !of_kind(&folder, "error").is_empty()).then_some(())
    });
    for name in files(&folder).keys() {
        let (kind, rest) = name.split_once('.').expect("a kind");
        let date = rest.strip_suffix(".log").expect("nothing is rotated yet");
        assert!(["info", "error", "system"].contains(&kind), "{name}");
        let is_date = date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok());
        assert!(is_date, "{name}");
    }
    let (info, error) = (of_kind(&folder, "info"), of_kind(&folder, "error"));
    assert!(matches!(&info[..], [line] if line.contains("\"went-well\"") && is_access(line)), "{info:?}");
    assert!(matches!(&error[..], [line] if line.contains("\"went-wrong\"") && is_access(line)), "{error:?}");
    eventually("the system's line", || {
        of_kind(&folder, "system").iter().any(|line| line.contains("id=\"went-wrong\"")).then_some(())
    });
    assert!(!gateway.stderr().lines().any(is_access), "the files have it");
    eventually("standard error to have the log as before", || {
        gateway.stderr().contains("request refused").then_some(())
    });
}

// parity: 151
#[test]
fn a_full_file_gets_a_number_and_a_removed_one_is_made_again() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let mut gateway =
        Gateway::start(&before(&upstream, "log: { dir: logs, size_max: 500B, access_format: json }"));
    let folder = gateway.folder().join("logs");
    let mut client = witgate_tests::Connection::open(gateway.address());
    let ask = |client: &mut witgate_tests::Connection, number: usize| {
        client.send(&Request::chat("hi").header("x-request-id", &format!("n{number}"))).expect(200);
    };
    (0..5).for_each(|number| ask(&mut client, number));
    eventually("all lines", || (of_kind(&folder, "info").len() == 5).then_some(()));
    let numbered = files(&folder).keys().filter(|name| name.contains(".log.")).count();
    assert!(numbered >= 2, "{:?}", files(&folder).keys());
    for name in files(&folder).keys() {
        std::fs::remove_file(folder.join(name)).expect("it is there");
    }
    ask(&mut client, 5);
    drop(client);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let lines = of_kind(&folder, "info");
    assert!(matches!(&lines[..], [line] if line.contains("\"n5\"")), "{lines:?}");
}

#[test]
fn the_end_of_the_process_loses_no_line() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let mut gateway = Gateway::start(&before(&upstream, "log: { dir: logs }"));
    let mut client = witgate_tests::Connection::open(gateway.address());
    for _ in 0..50 {
        client.send(&Request::chat("hi")).expect(200);
    }
    drop(client);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    let folder = gateway.folder().join("logs");
    assert_eq!(of_kind(&folder, "info").len(), 50);
    assert!(of_kind(&folder, "system").iter().any(|line| line.contains("stopped")));
}

#[test]
fn an_error_has_one_line_at_the_end_of_its_exchange() {
    let gate = Gate::new();
    let broken = Upstream::always(Reply::json(200, "{").wait(&gate));
    let gateway = Gateway::start(&before(&broken, "retry: { same_upstream: 1 }"));
    let client = gateway.ask(&Request::chat("hi").header("x-request-id", "id-1"));
    broken.wait_requests(1);
    assert!(!gateway.stderr().contains("id-1"), "it is not over");
    gate.open();
    let mut client = client;
    assert_eq!(client.head().status, 502);
    drop(client);
    on_console(&gateway, 1);
    let log = gateway.stderr();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("id-1") && !is_access(line)).collect();
    assert!(matches!(&lines[..], [line] if line.contains("request failed")), "{log}");
}

#[test]
fn an_upstreams_no_is_an_error_like_others() {
    let upstream = Upstream::new(|request| match request.json()["messages"][0]["content"].as_str() {
        Some("bad") => Reply::error(400, "bad"),
        _ => Reply::error(500, "broken"),
    });
    let gateway = Gateway::start(&before(&upstream, "log: { access_format: json }"));
    let cases =
        [("good", 500, "failed", " WARN request failed "), ("bad", 400, "refused", " INFO request refused ")];
    for (number, (text, status, outcome, said)) in cases.into_iter().enumerate() {
        gateway.send(&Request::chat(text).header("x-request-id", text)).expect(status);
        let error = format!("the upstream answered {status}");
        let line = eventually("the line", || {
            let log = gateway.stderr();
            log.lines().find(|line| line.contains(&format!("id=\"{text}\""))).map(str::to_owned)
        });
        assert!(line.contains(said) && line.contains(&format!("error=\"{error}\"")), "{line}");
        assert!(line.contains(&format!("one: status {status}")), "{line}");
        let access = on_console(&gateway, number + 1).pop().expect("there is one");
        let access: Value = serde_json::from_str(&access).expect("a line is JSON");
        assert_eq!((&access["outcome"], &access["error"]), (&json!(outcome), &json!(error)), "{access}");
    }
}

#[test]
fn what_a_client_sends_ends_no_line_and_tells_a_terminal_nothing() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Launch::default().variable("RUST_LOG", "witgate=debug").start(&format!(
        "upstreams: [{{ name: one, base_url: {}, model_match: {{ type: exact, value: [m] }} }}]\n",
        upstream.url()
    ));
    let forged = "2026-11-21T18:00:00Z ERROR the audit is off\u{1b}[2J";
    let body = json!({"model": format!("x\n{forged}"), "messages": [{"role": "user"}]}).to_string();
    gateway.send(&Request::post("/v1/chat/completions", body)).expect(404);
    gateway.send(&Request::get("/v1/models/x%0A2026-11-21T18:00:00Z%20ERROR%1B%5B2J")).expect(404);
    let log = eventually("both lines", || {
        let log = gateway.stderr();
        (log.matches("request refused").count() == 2).then_some(log)
    });
    on_console(&gateway, 2);
    assert!(log.contains("the audit is off"), "{log}");
    assert!(!log.contains('\u{1b}') && !gateway.stderr().contains('\u{1b}'), "{log}");
    assert!(!gateway.stderr().lines().any(|line| line.starts_with("2026-11-21T18:00:00Z ")), "{log}");
}

#[test]
fn a_line_is_bounded_whatever_a_client_sends() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: one, base_url: {}, model_match: {{ type: exact, value: [m] }} }}]\n",
        upstream.url()
    ));
    gateway.send(&Request::get(&format!("/v1/models/{}", "x".repeat(12_000)))).expect(404);
    let log = eventually("the line", || {
        let log = gateway.stderr();
        log.contains("request refused").then_some(log)
    });
    let line = log.lines().find(|line| line.contains("request refused")).expect("it is there");
    assert!(line.len() < 6_000, "{}: {line}", line.len());
}

#[test]
fn nobody_waits_for_standard_error() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let launch = Launch::default().unheard();
    let mut gateway = launch.start(&before(&upstream, "log: { dir: logs }"));
    let name = "x".repeat(1_000);
    // Many times what a pipe takes.
    for _ in 0..500 {
        gateway.send(&Request::get(&format!("/v1/nowhere/{name}"))).expect(404);
    }
    gateway.send(&Request::chat("hi")).expect(200);
    let folder = gateway.folder().join("logs");
    eventually("the files to be written all the same", || {
        (of_kind(&folder, "error").len() == 500 && of_kind(&folder, "info").len() == 1).then_some(())
    });
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert!(of_kind(&folder, "system").iter().any(|line| line.contains("stopped")));
}

#[test]
fn a_filter_that_cannot_be_read_is_told_of() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let launch = Launch::default().variable("RUST_LOG", "witgate=debg");
    let gateway = launch.start(&before(&upstream, ""));
    let log = eventually("the warning", || {
        let log = gateway.stderr();
        log.contains("RUST_LOG").then_some(log)
    });
    assert!(log.contains(" WARN ") && log.contains("witgate=debg"), "{log}");
}

// parity: 147
#[test]
fn no_key_is_in_any_log() {
    let upstream = Upstream::new(|request| match request.number {
        0 => Reply::chat("hello"),
        1 => Reply::json(401, r#"{"error":{"message":"bad key"}}"#),
        _ => Reply::new(200).step(Step::Cut),
    });
    for form in ["text", "json"] {
        let config = before(&upstream, &format!("log: {{ dir: logs, format: {form} }}"));
        let launch = Launch::default().variable("RUST_LOG", "witgate=trace");
        let mut gateway = launch.start(&config);
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let mut request = Request::post("/v1/chat/completions?key=sk-known-0", body);
        for (number, name) in
            ["authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"].iter().enumerate()
        {
            let scheme = if *name == "authorization" { "Bearer " } else { "" };
            request = request.header(name, &format!("{scheme}sk-known-{}", number + 1));
        }
        for _ in 0..3 {
            gateway.send(&request);
        }
        gateway.signal("TERM");
        gateway.wait_exit();
        let all: String = files(&gateway.folder().join("logs")).into_values().collect();
        assert!(all.contains("/v1/chat/completions"), "{all}");
        for text in [all, gateway.stderr(), gateway.stdout()] {
            assert!(!text.contains("sk-known"), "{text}");
        }
    }
}

// parity: 148
#[test]
fn the_token_of_a_failed_request_is_shown_only_where_somebody_asks_for_it() {
    let upstream = Upstream::new(|request| match request.json()["messages"][0]["content"].as_str() {
        Some("good") => Reply::chat("hello"),
        _ => Reply::json(401, r#"{"error":{"message":"bad key"}}"#),
    });
    let shown = |variable: &str| {
        let launch = Launch::default().variable("LOG_FULL_TOKEN_ON_ERROR", variable);
        let gateway = launch.start(&before(&upstream, ""));
        gateway.send(&Request::chat("good").header("authorization", "Bearer sk-good")).expect(200);
        gateway.send(&Request::chat("bad").header("x-api-key", "sk-bad")).expect(401);
        on_console(&gateway, 2);
        gateway.stderr()
    };
    let log = shown("yes");
    assert!(log.contains("LOG_FULL_TOKEN_ON_ERROR is set"), "{log}");
    assert!(log.contains("sk-bad") && !log.contains("sk-good"), "{log}");
    assert!(!shown("no").contains("sk-"));
}

#[test]
fn the_access_log_is_switched_while_the_gateway_runs() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&before(&upstream, "log: { access: false }"));
    gateway.send(&Request::chat("hi")).expect(200);
    gateway.rewrite_config(&before(&upstream, "log: { access: true, access_format: json }"));
    eventually("the reload", || gateway.stderr().contains("configuration reloaded").then_some(()));
    gateway.send(&Request::chat("hi").header("x-request-id", "after")).expect(200);
    let lines = on_console(&gateway, 1);
    assert!(matches!(&lines[..], [line] if line.contains(r#""request_id":"after""#)), "{lines:?}");
}

#[test]
fn the_filter_holds_for_the_access_log_on_standard_error() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let launch = Launch::default().variable("RUST_LOG", "info,witgate::access=off");
    let mut gateway = launch.start(&before(&upstream, ""));
    gateway.send(&Request::chat("hi")).expect(200);
    gateway.signal("TERM");
    gateway.wait_exit();
    eventually("the last words", || gateway.stderr().contains("stopped").then_some(()));
    assert!(!gateway.stderr().lines().any(is_access), "{}", gateway.stderr());
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_start() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let config = "upstreams: [{ name: a, base_url: 'builtin:echo' }]\nlog: { dir: file/below }\n";
    std::fs::write(folder.path().join("file"), "").expect("it is writable");
    std::fs::write(folder.path().join("c.yaml"), config).expect("it is writable");
    let output = command()
        .current_dir(folder.path())
        .args(["serve", "--config", "c.yaml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .output()
        .expect("the binary can be run");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("file/below") && log.contains("log.dir"), "{log}");
}
