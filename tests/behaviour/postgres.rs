//! The audit in PostgreSQL: the same promises as in a file, against a real server.

mod faults;
mod reading;

use std::thread;

use serde_json::{Value, json};
use witgate_tests::postgres::{PASSWORD, Postgres};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Gateway, Reply, Request, Upstream, eventually};

use crate::audit::ask;
use crate::audit::loss::burst;

/// The configuration of a gateway that answers itself, with more of `audit`.
fn echo(url: &str, further: &str) -> String {
    format!(
        "audit: {{ postgres: '{url}'{further} }}\nupstreams: [{{ name: one, base_url: 'builtin:echo' }}]\n"
    )
}

/// A value of `/stats`.
fn stat(gateway: &Gateway, name: &str) -> Value {
    gateway.send_admin(&Request::get("/stats")).expect(200).json()["audit"][name].clone()
}

#[test]
fn a_row_says_all_that_is_known() {
    let Some(server) = Postgres::start() else { return };
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("refused") => Reply::error(400, "no"),
        Some("broken") => Reply::error(500, "no"),
        Some("cut") => Reply::stream([chunk(&json!({"content": "part"}), None)]).step(Step::Cut),
        _ => Reply::chat_as_asked(request, &["he", "llo"]),
    });
    let gateway = Gateway::start(&format!(
        "audit: {{ postgres: '{}' }}\nupstreams: [{{ name: one, base_url: {}, models: {{ alias: real }} }}]\n",
        server.url(),
        upstream.url()
    ));
    let answer =
        gateway.send(&ask("alias", false).header("x-request-id", "mine").header("user-agent", "ua/1"));
    gateway.send(&ask("stream", true)).expect(200);
    gateway.send(&ask("refused", false)).expect(400);
    gateway.send(&ask("broken", false)).expect(500);
    gateway.send(&ask("cut", true));
    gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    let rows = server.wait(6);
    let row = &rows[0];
    for (column, expected) in [
        ("request_id", json!("mine")),
        ("ip", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("endpoint", json!("chat.completions")),
        ("model", json!("alias")),
        ("upstream_model", json!("real")),
        ("upstream", json!("one")),
        ("stream", json!(false)),
        ("status", json!(200)),
        ("outcome", json!("complete")),
        ("finish", json!("stop")),
        ("error_kind", Value::Null),
        ("labels", Value::Null),
        ("request_cut", json!(false)),
        ("response_bytes", json!(answer.body.len())),
        ("response", json!(answer.text())),
        ("request", json!(String::from_utf8(ask("alias", false).bytes()).unwrap().split("\r\n\r\n").nth(1))),
    ] {
        assert_eq!(row[column], expected, "{column}");
    }
    assert!(row["headers"].as_str().unwrap().contains("\"user-agent\":\"ua/1\""));
    assert!(
        row["duration_ms"].as_f64() >= row["gateway_ms"].as_f64() && row["gateway_ms"].as_f64() > Some(0.0)
    );
    let started = row["started"].as_str().unwrap();
    assert!(started.len() == 26 && started.starts_with("20"), "{started}");
    let of = |model: &str| {
        rows.iter().find(|row| row["model"] == model).unwrap_or_else(|| panic!("{model}: {rows:?}"))
    };
    assert_eq!((&of("stream")["stream"], &of("stream")["outcome"]), (&json!(true), &json!("complete")));
    assert!(of("stream")["response"].as_str().unwrap().contains("\"content\":\"hello\""));
    assert!(of("stream")["ttft_ms"].as_f64() > Some(0.0));
    for (model, status, outcome) in
        [("refused", 400, "refused"), ("broken", 500, "failed"), ("cut", 200, "failed")]
    {
        assert_eq!(
            (&of(model)["status"], &of(model)["outcome"]),
            (&json!(status), &json!(outcome)),
            "{model}"
        );
    }
    assert!(of("cut")["response"].as_str().unwrap().contains("part"), "the part that came is kept");
    let attempts = server.rows("SELECT exchange, number, upstream FROM attempts ORDER BY exchange, number");
    assert_eq!(attempts[0], json!({"exchange": row["id"], "number": 1, "upstream": "one"}));
    // The first gateway's columns and words.
    let records = server.rows("SELECT * FROM records WHERE \"Model\" = 'real'");
    let names: Vec<&str> = records[0].as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected: Vec<&str> =
        "id Time IP Model Type CompletionTokens PromptTokens TotalTokens Tool Multimodal \
                                   Headers Request Response"
            .split_whitespace()
            .collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!((&records[0]["Type"], &records[0]["Tool"]), (&json!("chat.completions"), &json!(false)));
}

#[test]
fn failover_shows_in_the_attempts() {
    let Some(server) = Postgres::start() else { return };
    let broken = Upstream::always(Reply::error(503, "down"));
    let well = Upstream::always(Reply::chat("up"));
    let gateway = Gateway::start(&format!(
        "audit: {{ postgres: '{}' }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\nrouting: {{ strategy: failover }}\n",
        server.url(),
        broken.url(),
        well.url()
    ));
    gateway.send(&ask("m", false)).expect(200);
    let rows = server.wait(1);
    let attempts = server.rows("SELECT exchange, number, upstream, status FROM attempts ORDER BY number");
    let expected = [(1, "one", 503), (2, "two", 200)].map(|(number, upstream, status)| {
        json!({"exchange": rows[0]["id"], "number": number, "upstream": upstream, "status": status})
    });
    assert_eq!(attempts, expected);
}

#[test]
fn the_view_tells_tools_and_pictures() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    gateway.send(&ask("m", false)).expect(200);
    server.wait(1);
    for (request, tool, multimodal) in [
        ("NULL", false, false),
        ("'{'", false, false),
        ("'[1]'", false, false),
        (r#"'{"messages":[{"role":"user","content":"image_url"}]}'"#, false, false),
        (r#"'{"tools":[],"messages":"x\u0000"}'"#, true, false),
        (r#"'{"messages":[{"content":[{"type":"text"},{"type":"image_url"}]}]}'"#, false, true),
    ] {
        server.execute(&format!("UPDATE exchanges SET request = {request}"));
        let found = server.rows("SELECT \"Tool\", \"Multimodal\" FROM records");
        assert_eq!(found, [json!({"Tool": tool, "Multimodal": multimodal})], "{request}");
    }
}

#[test]
fn the_end_of_the_gateway_loses_no_row() {
    let Some(server) = Postgres::start() else { return };
    let mut sum = 0;
    for (signal, each) in [("TERM", 500), ("INT", 50)] {
        let mut gateway = Gateway::start(&echo(&server.url(), ""));
        burst(&gateway, 4, each);
        gateway.signal(signal);
        assert!(gateway.wait_exit().success());
        sum += 4 * each;
        assert_eq!(server.count(), sum, "{signal}");
    }
    let attempts = server.rows("SELECT count(*) AS n FROM attempts");
    assert_eq!(attempts[0]["n"], sum);
    let open = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'witgate'";
    eventually("the connections to be closed", || server.rows(open).is_empty().then_some(()));
}

#[test]
fn labels_that_come_later_are_merged() {
    let Some(server) = Postgres::start() else { return };
    let tags = "{ tags: [{ name: team, from: { header: x-team } }, { name: size, from: completion_tokens, bands: [{ below: 10, value: small }, { value: large }] }] }";
    let plugins =
        format!("plugins:\n  - {{ name: audit-tags, source: 'builtin:audit-tags', config: {tags} }}\n");
    let gateway = Gateway::start(&(echo(&server.url(), "") + &plugins));
    for number in 0..30 {
        gateway.send(&ask("m", false).header("x-team", &format!("team-{number}"))).expect(200);
    }
    let merged = || {
        let rows = server.rows("SELECT labels FROM exchanges ORDER BY id");
        let is_whole = |(number, row): (usize, &Value)| {
            let labels = row["labels"].as_str().and_then(|labels| serde_json::from_str(labels).ok());
            labels == Some(json!({"team": format!("team-{number}"), "size": "small"}))
        };
        (rows.len() == 30 && rows.iter().enumerate().all(is_whole)).then_some(())
    };
    eventually("the labels", merged);
}

#[test]
fn a_server_that_is_slow_at_the_end_is_waited_for() {
    let Some(server) = Postgres::start() else { return };
    let mut gateway = Gateway::start(&echo(&server.url(), ""));
    burst(&gateway, 1, 1);
    server.wait(1);
    let lock = server.lock("exchanges");
    burst(&gateway, 2, 20);
    gateway.signal("TERM");
    eventually("the drain to be over", || gateway.stderr().contains("draining").then_some(()));
    drop(lock);
    assert!(gateway.wait_exit().success());
    assert_eq!(server.count(), 41);
}

#[test]
fn gateways_share_a_database() {
    let Some(server) = Postgres::start() else { return };
    // Both make the tables at the same time.
    let config = echo(&server.url(), "");
    let gateways: Vec<Gateway> = thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| Gateway::start(&config))).collect();
        starts.into_iter().map(|start| start.join().expect("it starts")).collect()
    });
    thread::scope(|scope| {
        for gateway in &gateways {
            scope.spawn(|| burst(gateway, 2, 100));
        }
    });
    server.wait(600);
    assert_eq!(server.count(), 600);
}

#[test]
fn a_number_that_another_gateway_took_is_changed() {
    let Some(server) = Postgres::start() else { return };
    let gateway = Gateway::start(&echo(&server.url(), ""));
    gateway.send(&ask("m", false)).expect(200);
    server.wait(1);
    // Just before the row of `clash` comes another one takes its number, once.
    server.execute(
        "CREATE FUNCTION clash() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE other exchanges;
         BEGIN
           IF NEW.model = 'clash' AND NOT EXISTS (SELECT 1 FROM exchanges WHERE request_id = 'other') THEN
             other := NEW; other.request_id := 'other'; other.model := 'm';
             INSERT INTO exchanges SELECT other.*;
           END IF;
           RETURN NEW;
         END $$;
         CREATE TRIGGER clash BEFORE INSERT ON exchanges FOR EACH ROW EXECUTE FUNCTION clash()",
    );
    gateway.send(&ask("clash", false)).expect(200);
    server.wait(3);
    let rows = server.rows(
        "SELECT id - (SELECT id FROM exchanges WHERE request_id = 'other') AS distance, \
         (SELECT count(*) FROM attempts WHERE exchange = exchanges.id) AS attempts FROM exchanges WHERE model = 'clash'",
    );
    assert_eq!(rows, [json!({"distance": 1, "attempts": 1})]);
    let others = "SELECT count(*) AS n FROM attempts WHERE exchange IN (SELECT id FROM exchanges WHERE request_id = 'other')";
    assert_eq!(server.rows(others)[0]["n"], 0, "the attempts are not given to the other exchange");
}

#[test]
fn rows_that_are_too_old_are_removed() {
    let Some(server) = Postgres::start() else { return };
    let first = Gateway::start(&echo(&server.url(), ""));
    first.send(&ask("m", false)).expect(200);
    server.wait(1);
    drop(first);
    // More than are removed at once, and one that is young.
    server.execute(
        "CREATE TEMP TABLE young AS SELECT * FROM exchanges;
         INSERT INTO exchanges SELECT (y).* FROM (
           SELECT json_populate_record(young, json_build_object('id', n)) AS y FROM young, generate_series(1, 2500) AS n
         ) AS old;
         INSERT INTO attempts SELECT n, 1, 'one', 'm', 200, NULL, NULL, 0, 0 FROM generate_series(1, 2500) AS n",
    );
    assert_eq!(server.count(), 2501);
    let gateway = Gateway::start(&echo(&server.url(), ", retention: 1h"));
    gateway.send(&ask("m", false)).expect(200);
    eventually("the old rows to go", || (server.count() == 2).then_some(()));
    assert_eq!(server.rows("SELECT count(*) AS n FROM attempts")[0]["n"], 2);
}

#[test]
fn the_password_is_never_told() {
    let Some(server) = Postgres::start() else { return };
    let gateway = witgate_tests::gateway::Launch::default()
        .variable("RUST_LOG", "witgate=trace,tokio_postgres=trace")
        .start(&echo(&server.url(), ""));
    gateway.send(&ask("m", false).header("authorization", "Bearer sk-0001-secret")).expect(200);
    let rows = server.wait(1);
    assert!(!rows[0].to_string().contains("sk-0001-secret"));
    let mut told = vec![gateway.stdout(), gateway.stderr()];
    for path in ["/stats", "/metrics", "/admin/config", "/admin/audit"] {
        told.push(gateway.send_admin(&Request::get(path)).expect(200).text().to_owned());
    }
    for arguments in [&["check", "--config"][..], &["audit", "query", "nothing", "--config"]] {
        let mut command = witgate_tests::gateway::command();
        let output = command.args(arguments).arg(gateway.config()).output().expect("the binary can be run");
        told.push(String::from_utf8_lossy(&output.stdout).into_owned());
        told.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    for text in &told {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(told[0].contains("audit postgres://gate:***@"), "{}", told[0]);
    assert_eq!(stat(&gateway, "written"), 1);
}
