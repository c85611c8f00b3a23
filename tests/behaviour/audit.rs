//! The record of every exchange: what it says, that nothing is lost, and that it is in nobody's way.

mod faults;
pub(crate) mod loss;
mod secrets;

use serde_json::{Value, json};
use witgate_tests::audit::{file, only, parsed, rows, wait};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Gateway, Reply, Request, Upstream, eventually};

/// A request for a model, which the scripts below decide by.
pub(crate) fn ask(model: &str, is_stream: bool) -> Request {
    let body = json!({"model": model, "stream": is_stream, "messages": [{"role": "user", "content": "hi"}]});
    Request::post("/v1/chat/completions", body.to_string())
}

/// The one row of a model, when it is there.
#[track_caller]
fn row_of(gateway: &Gateway, model: &str) -> Value {
    let sql = format!("SELECT * FROM exchanges WHERE model = '{model}'");
    eventually(&format!("the row of {model}"), || rows(&file(gateway), &sql).into_iter().next())
}

// parity: 142
#[test]
fn a_row_says_all_that_is_known() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::start(&format!(
        "upstreams: [{{ name: one, base_url: {}, models: {{ alias: real }} }}]\n",
        upstream.url()
    ));
    let answer =
        gateway.send(&ask("alias", false).header("x-request-id", "mine").header("user-agent", "ua/1"));
    let row = only(&gateway);
    for (column, expected) in [
        ("request_id", json!("mine")),
        ("ip", json!("127.0.0.1")),
        ("method", json!("POST")),
        ("path", json!("/v1/chat/completions")),
        ("endpoint", json!("chat.completions")),
        ("model", json!("alias")),
        ("upstream_model", json!("real")),
        ("upstream", json!("one")),
        ("stream", json!(0)),
        ("status", json!(200)),
        ("outcome", json!("complete")),
        ("finish", json!("stop")),
        ("error_kind", Value::Null),
        ("request_cut", json!(0)),
        ("response_cut", json!(0)),
        ("response_bytes", json!(answer.body.len())),
        ("response", json!(answer.text())),
        ("request", json!(String::from_utf8(ask("alias", false).bytes()).unwrap().split("\r\n\r\n").nth(1))),
    ] {
        assert_eq!(row[column], expected, "{column}");
    }
    assert_eq!(parsed(&row, "headers")["user-agent"], "ua/1");
    let usage = &answer.json()["usage"];
    assert_eq!(
        (&row["input_tokens"], &row["output_tokens"]),
        (&usage["prompt_tokens"], &usage["completion_tokens"])
    );
    assert!(
        row["duration_ms"].as_f64() >= row["gateway_ms"].as_f64() && row["gateway_ms"].as_f64() > Some(0.0)
    );
    let started = row["started"].as_str().unwrap();
    assert!(started.len() == 26 && started.starts_with("20"), "{started}");
    let attempts = rows(&file(&gateway), "SELECT * FROM attempts");
    assert_eq!(attempts.len(), 1);
    assert_eq!((&attempts[0]["exchange"], &attempts[0]["upstream"]), (&row["id"], &json!("one")));
}

// parity: 141
#[test]
fn a_stream_is_recorded_as_the_whole_answer_it_amounts_to() {
    let choice = |index: u64, delta: Value, finish: Option<&str>| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})
        .to_string()
    };
    let call =
        |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    let begin = |index: u64, id: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}}]});
    let events = [
        choice(0, json!({"role": "assistant", "reasoning": "thi"}), None),
        choice(1, json!({"role": "assistant", "reasoning_content": "hm"}), None),
        choice(0, json!({"reasoning": "nk"}), None),
        choice(0, json!({"content": "a"}), None),
        choice(1, begin(0, "x"), None),
        choice(0, json!({"content": "b"}), None),
        choice(1, begin(1, "y"), None),
        choice(1, call(0, "{\"a\":"), None),
        choice(1, call(1, "{}"), None),
        choice(1, call(0, "1}"), None),
        choice(0, json!({}), Some("length")),
        choice(1, json!({}), Some("tool_calls")),
        json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}}).to_string(),
        "[DONE]".to_owned(),
    ];
    let upstream = Upstream::always(Reply::stream(events).split(7));
    let gateway = Gateway::before(&upstream);
    gateway.send(&ask("m", true)).expect(200);
    let row = only(&gateway);
    assert_eq!(
        (&row["stream"], &row["outcome"], &row["output_tokens"]),
        (&json!(1), &json!("complete"), &json!(7))
    );
    let answer = parsed(&row, "response");
    assert_eq!(answer["object"], "chat.completion");
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices[0]["message"]["content"], "ab");
    assert_eq!(choices[0]["message"]["reasoning"], "think");
    assert_eq!(choices[0]["finish_reason"], "length");
    assert_eq!(choices[1]["message"]["reasoning_content"], "hm");
    let calls = &choices[1]["message"]["tool_calls"];
    assert_eq!((&calls[0]["id"], &calls[0]["function"]["arguments"]), (&json!("x"), &json!("{\"a\":1}")));
    assert_eq!((&calls[1]["id"], &calls[1]["function"]["arguments"]), (&json!("y"), &json!("{}")));
    assert_eq!(answer["usage"]["total_tokens"], 10);
    assert!(row["ttft_ms"].as_f64() > Some(0.0));
}

// parity: 142
#[test]
fn whatever_becomes_of_a_request_has_a_row() {
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("refused") => Reply::error(400, "no"),
        Some("broken") => Reply::error(500, "no"),
        Some("cut") => Reply::stream([chunk(&json!({"content": "part"}), None)]).step(Step::Cut),
        Some("left") => Reply::stream([chunk(&json!({"content": "part"}), None)]).hang(),
        Some("silent") => Reply::silence(),
        _ => Reply::chat("hello"),
    });
    let gateway = Gateway::before(&upstream);
    gateway.send(&ask("refused", false)).expect(400);
    gateway.send(&ask("broken", false)).expect(500);
    gateway.send(&ask("cut", true));
    for (model, head) in [("left", true), ("silent", false)] {
        let mut client = gateway.ask(&ask(model, head));
        if head {
            assert!(client.head().status == 200 && client.event().is_some());
        } else {
            upstream.wait("the request", |requests| {
                requests.iter().find(|one| one.is_complete && one.json()["model"] == model).map(|_| ())
            });
        }
    }
    for (model, status, outcome, kind) in [
        ("refused", json!(400), "refused", Value::Null),
        ("broken", json!(500), "failed", Value::Null),
        ("cut", json!(200), "failed", json!("upstream_stream_broken")),
        ("left", json!(200), "cancelled", json!("cancelled")),
        ("silent", json!(499), "cancelled", json!("cancelled")),
    ] {
        let row = row_of(&gateway, model);
        assert_eq!(
            (&row["status"], row["outcome"].as_str(), &row["error_kind"]),
            (&status, Some(outcome), &kind),
            "{model}"
        );
        let attempts =
            rows(&file(&gateway), &format!("SELECT * FROM attempts WHERE exchange = {}", row["id"]));
        assert_eq!(attempts.len(), 1, "{model}");
    }
    for model in ["cut", "left"] {
        let answer = parsed(&row_of(&gateway, model), "response");
        assert_eq!(answer["choices"][0]["message"]["content"], "part", "{model}: what was sent is there");
    }
    let text = row_of(&gateway, "refused")["response"].as_str().unwrap().to_owned();
    assert!(text.contains("no"), "{text}");
}

#[test]
fn what_never_reached_an_upstream_has_a_row_too() {
    let gateway = Gateway::start(
        "upstreams: [{ name: one, base_url: 'builtin:echo', model_match: { type: exact, value: [m] } }]\n",
    );
    gateway.send(&Request::post("/v1/chat/completions", "{\"model\":")).expect(400);
    gateway.send(&ask("other", false)).expect(404);
    gateway.send(&Request::get("/v1/nothing")).expect(404);
    gateway.send(&Request::get("/v1/chat/completions")).expect(405);
    gateway.send(&Request::get("/v1/models")).expect(200);
    gateway.send(&Request::get("/health")).expect(200);
    let rows = wait(&gateway, 5);
    let shown: Vec<_> = rows
        .iter()
        .map(|row| (row["endpoint"].as_str(), row["status"].as_u64(), row["error_kind"].as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("chat.completions"), Some(400), Some("invalid_request")),
            (Some("chat.completions"), Some(404), Some("model_not_found")),
            (Some("passthrough"), Some(404), Some("unknown_path")),
            (Some("chat.completions"), Some(405), Some("method_not_allowed")),
            (Some("models"), Some(200), None),
        ],
    );
    assert_eq!(rows[0]["request"], "{\"model\":");
}

#[test]
fn what_a_plugin_refuses_is_a_rejection() {
    let gateway = Gateway::start(
        "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n\
         plugins: [{ name: keys, source: 'builtin:key-auth', config: { keys: [{ name: alice, sha256: '2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90' }] } }]\n",
    );
    gateway.send(&ask("m", false).header("authorization", "Bearer bob")).expect(401);
    gateway.send(&ask("m", false).header("authorization", "Bearer alice")).expect(200);
    let rows = wait(&gateway, 2);
    assert_eq!(
        (&rows[0]["outcome"], &rows[0]["status"], &rows[0]["caller"]),
        (&json!("rejected"), &json!(401), &Value::Null)
    );
    assert_eq!((&rows[1]["outcome"], &rows[1]["caller"]), (&json!("complete"), &json!("alice")));
    assert_eq!(rows[1]["key"], "alice");
}

// parity: 142
#[test]
fn failover_shows_in_the_attempts() {
    let first = Upstream::always(Reply::error(503, "down"));
    let second = Upstream::always(Reply::chat("up"));
    let gateway = Gateway::start(&format!(
        "routing: {{ strategy: failover }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\n",
        first.url(),
        second.url()
    ));
    gateway.send(&ask("m", false)).expect(200);
    assert_eq!(only(&gateway)["upstream"], "two");
    let attempts = rows(&file(&gateway), "SELECT upstream, status FROM attempts ORDER BY number");
    assert_eq!(
        attempts,
        [json!({"upstream": "one", "status": 503}), json!({"upstream": "two", "status": 200})]
    );
}

// parity: 142
#[test]
fn audio_and_embeddings_are_recorded() {
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/v1/audio/speech" => Reply::new(200).header("content-type", "audio/mpeg").body("ID3\u{0}\u{1}"),
        "/v1/audio/transcriptions" => Reply::json(200, r#"{"text":"spoken"}"#),
        _ => Reply::json(
            200,
            r#"{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":4,"total_tokens":4}}"#,
        ),
    });
    let gateway = Gateway::before(&upstream);
    gateway
        .send(&Request::post("/v1/audio/speech", r#"{"model":"tts","input":"x","voice":"v"}"#))
        .expect(200);
    let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b\r\n\
        content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
    let request = Request::new("POST", "/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=b")
        .with_body(form);
    gateway.send(&request).expect(200);
    gateway.send(&Request::post("/v1/embeddings", r#"{"model":"e","input":"x"}"#)).expect(200);
    let rows = wait(&gateway, 3);
    assert_eq!(parsed(&rows[0], "response"), json!({"content_type": "audio/mpeg", "bytes": 5}));
    assert_eq!((&rows[1]["model"], &rows[1]["request_bytes"]), (&json!("whisper"), &json!(form.len())));
    assert!(parsed(&rows[1], "request")["content_type"].as_str().unwrap().starts_with("multipart/form-data"));
    assert_eq!(parsed(&rows[1], "response"), json!({"text": "spoken"}));
    assert_eq!((&rows[2]["input_tokens"], &rows[2]["endpoint"]), (&json!(4), &json!("embeddings")));
}

// parity: 160
#[test]
fn tokens_are_estimated_where_nobody_counted_them() {
    let long = "four words of text ".repeat(20);
    let chunks =
        [chunk(&json!({"content": long}), None), chunk(&json!({}), Some("stop")), "[DONE]".to_owned()];
    let upstream = Upstream::new(move |request| match request.json()["model"].as_str() {
        Some("cut") => Reply::stream([chunk(&json!({"content": long}), None)]).step(Step::Cut),
        _ => Reply::stream(chunks.clone()),
    });
    let gateway = Gateway::before(&upstream);
    for model in ["whole", "cut"] {
        gateway.send(&ask(model, true));
        let row = row_of(&gateway, model);
        assert_eq!(row["estimated"], 1, "{model}");
        let tokens = row["output_tokens"].as_u64().unwrap();
        assert!((40..=200).contains(&tokens), "{model}: {tokens}");
        assert!(row["input_tokens"].as_u64() > Some(0), "{model}");
    }
}

// parity: 140
#[test]
fn old_readers_find_their_columns() {
    let upstream = Upstream::new(|request| match request.target.as_str() {
        "/v1/embeddings" => Reply::json(200, r#"{"data":[],"usage":{"prompt_tokens":4,"total_tokens":4}}"#),
        _ => Reply::chat("hello"),
    });
    let gateway = Gateway::before(&upstream);
    let image = json!({"model": "m", "tools": [], "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]});
    gateway.send(&Request::post("/v1/chat/completions", image.to_string())).expect(200);
    gateway.send(&Request::post("/v1/embeddings", r#"{"model":"e","input":["x"]}"#)).expect(200);
    wait(&gateway, 2);
    let rows = rows(&file(&gateway), "SELECT * FROM records ORDER BY id");
    let columns: Vec<&String> = rows[0].as_object().unwrap().keys().collect();
    for column in [
        "id",
        "Time",
        "IP",
        "Model",
        "Type",
        "CompletionTokens",
        "PromptTokens",
        "TotalTokens",
        "Tool",
        "Multimodal",
        "Headers",
        "Request",
        "Response",
    ] {
        assert!(columns.iter().any(|known| *known == column), "{column}");
    }
    assert_eq!(
        (&rows[0]["Type"], &rows[0]["Tool"], &rows[0]["Multimodal"]),
        (&json!("chat.completions"), &json!(1), &json!(1))
    );
    assert_eq!(
        (&rows[1]["Type"], &rows[1]["Tool"], &rows[1]["Multimodal"]),
        (&json!("embeddings"), &json!(0), &json!(0))
    );
    assert_eq!((&rows[1]["PromptTokens"], &rows[1]["TotalTokens"]), (&json!(4), &json!(4)));
}

#[test]
fn a_large_image_is_cut_and_the_row_says_so() {
    let upstream = Upstream::always(Reply::chat("nice"));
    let gateway = Gateway::before(&upstream);
    let image = "A".repeat(20 << 20);
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{image}")}}]}]})
    .to_string();
    gateway.send(&Request::post("/v1/chat/completions", body.clone())).expect(200);
    let row = only(&gateway);
    assert_eq!((&row["request_cut"], &row["request_bytes"]), (&json!(1), &json!(body.len())));
    assert_eq!(row["request"].as_str().unwrap(), &body[..1 << 20]);
    assert_eq!(row["response_cut"], 0);
}

#[test]
fn bodies_can_be_left_out() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]));
    let gateway = Gateway::start(&format!(
        "audit: {{ bodies: none }}\nupstreams: [{{ name: one, base_url: {} }}]\n",
        upstream.url()
    ));
    gateway.send(&ask("m", false)).expect(200);
    gateway.send(&ask("n", true)).expect(200);
    for row in wait(&gateway, 2) {
        assert_eq!((&row["request"], &row["response"]), (&Value::Null, &Value::Null));
        assert!(row["request_bytes"].as_u64() > Some(10));
    }
}

#[test]
fn without_an_audit_there_is_no_file() {
    let gateway =
        Gateway::start("audit: { enabled: false }\nupstreams: [{ name: one, base_url: 'builtin:echo' }]\n");
    gateway.send(&ask("m", false)).expect(200);
    assert!(!file(&gateway).exists());
    assert!(!gateway.folder().join("witgate-data").exists());
}

#[test]
fn labels_of_plugins_are_in_the_row() {
    let gateway = Gateway::start(
        "upstreams: [{ name: one, base_url: 'builtin:echo' }]\n\
         plugins: [{ name: tags, source: 'builtin:audit-tags', config: { tags: [{ name: kind, from: { const: test } }, { name: end, from: finish }] } }]\n",
    );
    gateway.send(&ask("m", false)).expect(200);
    let labels = eventually("the labels", || {
        let row = rows(&file(&gateway), "SELECT labels FROM exchanges").pop()?;
        let labels = parsed(&row, "labels");
        // The second comes from `on-complete`, after the row was written.
        (labels.as_object()?.len() == 2).then_some(labels)
    });
    assert_eq!(labels, json!({"kind": "test", "end": "stop"}));
}

#[test]
fn an_audit_that_cannot_be_opened_refuses_the_start() {
    let gateway = witgate_tests::gateway::command()
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .env("RECD_PATH", "/proc/no/record.db")
        .current_dir("/")
        .output()
        .expect("the binary can be run");
    let told = String::from_utf8_lossy(&gateway.stderr).into_owned();
    assert!(!gateway.status.success() && told.contains("/proc/no/record.db"), "{told}");
}
