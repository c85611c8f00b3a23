//! Which plugins take part in an exchange, in which order, and what they can make of it.

use serde_json::{Value, json};
use witgate_tests::client::End;
use witgate_tests::sse::{chat_text, data};
use witgate_tests::upstream::reply::Step;
use witgate_tests::{Gateway, Reply, Request, Upstream};

use super::{ask, chat_for, config, notes, probe, start, told};

fn chatty() -> Upstream {
    Upstream::new(|request| Reply::chat_as_asked(request, &["he", "llo"]))
}

fn content(answer: &witgate_tests::Answer) -> String {
    answer.json()["choices"][0]["message"]["content"].as_str().expect("it is a chat answer").to_owned()
}

/// Three probes that leave their labels everywhere.
fn three() -> String {
    ["a", "b", "c"]
        .map(|name| probe(name, &format!("{{ label: {name}, text: {{ does: capitals }} }}")))
        .concat()
}

#[test]
fn plugins_run_in_order_on_the_way_in_and_in_reverse_on_the_way_out() {
    let upstream = chatty();
    let gateway = start(&upstream, &three());
    for request in [Request::chat("hi"), Request::chat_stream("hi")] {
        let answer = gateway.send(&request).expect(200);
        let seen = upstream.last();
        assert_eq!(seen.header("x-trace-request"), Some("a,b,c"));
        assert_eq!(seen.header("x-trace-upstream"), Some("a,b,c"));
        assert_eq!(answer.header("x-trace-response"), Some("c,b,a"));
        // What one adds at the end goes through those after it, which make capitals of it.
        let text = if answer.text().contains("data: ") { chat_text(&answer.body) } else { content(&answer) };
        assert_eq!(text, "HELLOCBa");
    }
}

#[test]
fn what_one_plugin_edits_the_next_one_sees() {
    let upstream = chatty();
    let gateway = start(&upstream, &(probe("a", "{ label: a }") + &probe("b", "{ label: b }")));
    gateway.send(&told("only a; on-request edit Be brief.")).expect(200);
    let sent = upstream.last().json();
    assert_eq!(sent["edited"], 1);
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(sent["messages"][1]["content"], "hi");
    let came = gateway.send(&told("only b; on-request messages")).expect(200).json();
    assert_eq!(came["came"], json!(["user: hi"]));
}

#[test]
fn the_edits_of_a_call_that_breaks_are_undone() {
    let upstream = chatty();
    let gateway =
        start(&upstream, &probe("a", "{ label: a }").replace("name: a,", "name: a, on_fault: skip,"));
    gateway.send(&told("on-request half")).expect(200);
    let sent = upstream.last();
    assert_eq!(sent.json().get("edited"), None);
    assert_eq!(sent.header("x-trace-request"), None);
}

#[test]
fn a_plugin_takes_part_where_it_matches() {
    let upstream = chatty();
    let matching = |name: &str, matching: &str| {
        probe(name, &format!("{{ label: {name} }}")).replace("allow:", &format!("match: {matching}, allow:"))
    };
    let plugins = probe("all", "{ label: all }")
        + &matching("model", "{ models: [small-*] }")
        + &matching("endpoint", "{ endpoints: [embeddings] }")
        + &matching("key", "{ keys: [alice] }")
        + &matching("streams", "{ streaming: only }")
        + &matching("wholes", "{ streaming: never }");
    let gateway = start(&upstream, &plugins);
    let seen = |request: &Request| {
        gateway.send(request).expect(200);
        upstream.last().header("x-trace-request").unwrap_or_default().to_owned()
    };
    assert_eq!(seen(&chat_for("m", false)), "all,wholes");
    assert_eq!(seen(&chat_for("m", true)), "all,streams");
    assert_eq!(seen(&chat_for("small-1", false)), "all,model,wholes");
    assert_eq!(seen(&told("authenticate alice")), "all,key,wholes");
    assert_eq!(seen(&told("authenticate bob")), "all,wholes");
    let embed = Request::post("/v1/embeddings", json!({"model": "small-1", "input": "hi"}).to_string());
    assert_eq!(seen(&embed), "all,model,endpoint,wholes");
}

#[test]
fn callers_are_named_or_refused_before_their_request_is_read() {
    let upstream = chatty();
    let gateway = start(&upstream, &probe("a", "{ label: a, notes: true }"));
    let refused = gateway.send(&told("authenticate refuse")).expect(401);
    assert_eq!(
        (refused.error_code().as_str(), refused.error_message().as_str()),
        ("unknown_caller", "nobody")
    );
    assert_eq!(upstream.count(), 0);
    gateway.send(&told("authenticate alice")).expect(200);
    let record = witgate_tests::eventually("the record", || {
        notes(&gateway).into_iter().find(|line| line.starts_with("record m 200"))
    });
    assert!(record.contains("caller=alice") && record.contains("probe=a"), "{record}");
}

#[test]
fn an_answer_by_a_plugin_comes_as_the_client_asked_for_it() {
    let upstream = chatty();
    let gateway = start(&upstream, &three());
    // The plugins before the one that answers see its answer, those after it do not.
    let command = "only b; on-request chat instead";
    let whole = gateway.send(&told(command)).expect(200);
    assert_eq!(content(&whole), "INSTEADa");
    let stream = gateway.send(&Request::chat_stream("hi").header("x-probe", command)).expect(200);
    assert!(stream.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")));
    assert_eq!(chat_text(&stream.body), "INSTEADa");
    let events = data(&stream.body);
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let finish: Vec<Value> = events
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .map(|chunk| chunk["choices"][0]["finish_reason"].clone())
        .collect();
    assert!(finish.contains(&json!("stop")), "{events:?}");
    // Another status is no stream, whatever the client asked for.
    let other = gateway
        .send(&Request::chat_stream("hi").header("x-probe", "only b; on-request status 202"))
        .expect(202);
    assert_eq!(other.json(), json!({"own": true}));
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_refusal_has_the_shape_of_errors_and_its_headers() {
    let upstream = chatty();
    let gateway = start(&upstream, &probe("a", "{ label: a }"));
    for (command, status, code) in [
        ("on-request reject 429", 429, "no"),
        ("on-upstream-request reject", 403, "not_there"),
        ("on-response reject", 451, "refused_answer"),
        ("on-route no way", 403, "no_route"),
    ] {
        for request in [Request::chat("hi"), Request::chat_stream("hi")] {
            let answer = gateway.send(&request.header("x-probe", command)).expect(status);
            assert_eq!(answer.error_code(), code, "{command}");
            assert_eq!(answer.header("content-type"), Some("application/json"), "{command}");
            let why = answer.header("x-why");
            assert_eq!(why, ["no", "refused_answer"].contains(&code).then_some("probe"), "{command}");
        }
    }
}

#[test]
fn a_refusal_after_the_first_byte_is_an_event() {
    let upstream = Upstream::new(|request| Reply::chat_as_asked(request, &["good ", "abort", " never"]));
    let gateway = start(&upstream, &probe("a", "{ label: a, text: { does: abort } }"));
    let stream = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(stream.end, End::Complete);
    let events = data(&stream.body);
    let error = events
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .find(|data| data["error"].is_object());
    let error = error.unwrap_or_else(|| panic!("no error in {events:?}"));
    assert_eq!(
        (&error["error"]["code"], &error["error"]["message"]),
        (&json!("aborted"), &json!("no more of this"))
    );
    assert!(!chat_text(&stream.body).contains("never"));
    let whole = gateway.send(&Request::chat("hi")).expect(451);
    assert_eq!(whole.error_code(), "aborted");
}

/// Two upstreams, the second is tried after the first.
fn two(first: &Upstream, second: &Upstream, plugins: &str) -> Gateway {
    Gateway::start(&format!(
        "routing: {{ strategy: failover }}\nupstreams:\n  - {{ name: one, base_url: {} }}\n  - {{ name: two, base_url: {} }}\nplugins:\n{plugins}",
        first.url(),
        second.url()
    ))
}

#[test]
fn a_plugin_has_a_say_in_who_is_asked() {
    let (one, two_) = (Upstream::always(Reply::chat("one")), Upstream::always(Reply::chat("two")));
    let gateway = two(&one, &two_, &probe("a", "{ label: a, notes: true }"));
    let answered = |commands: &str| content(&gateway.send(&told(commands)).expect(200));
    assert_eq!(answered(""), "one");
    assert_eq!(answered("on-route prefer two"), "two");
    assert_eq!(answered("on-route only two"), "two");
    assert_eq!(answered("on-route exclude one"), "two");
    assert_eq!(answered("on-upstream-request one"), "two", "it skips the first");
    assert_eq!(answered("on-response retry"), "two", "it does not like the first answer");
    assert_eq!(answered("on-response respond"), "instead of the answer");
    assert!(notes(&gateway).contains(&"on-route one,two".to_owned()));
}

#[test]
fn a_plugin_has_a_say_in_failures() {
    let (one, two_) =
        (Upstream::always(Reply::new(200).first(Step::Reset)), Upstream::always(Reply::chat("two")));
    // What failed is not tried again unless a plugin wants that.
    let plugins =
        format!("{}retry: {{ on: [429], same_upstream: 0 }}\n", probe("a", "{ label: a, notes: true }"));
    let gateway = two(&one, &two_, &plugins);
    let ask_ = |commands: &str| gateway.send(&told(commands));
    assert_eq!(ask_("").expect(502).error_code(), "upstream_invalid");
    assert_eq!(content(&ask_("on-error retry").expect(200)), "two");
    assert_eq!(content(&ask_("on-error two").expect(200)), "two");
    assert_eq!(content(&ask_("on-error respond").expect(200)), "instead of the error");
    assert_eq!(ask_("on-error reject").expect(418).error_code(), "teapot");
    let seen = notes(&gateway);
    assert!(seen.iter().any(|line| *line == "on-error 502 upstream_invalid 1"), "{seen:?}");
}

#[test]
fn what_no_plugin_wants_goes_through_byte_for_byte() {
    let odd = "data:  {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"h\\u0069\"}}] , \"x\":1.50}\r\n\r\n: c\n\ndata: [DONE]\n\n";
    let upstream = Upstream::new(move |_| Reply::stream(Vec::<String>::new()).body(odd));
    let body =
        br#"{ "model":"m", "stream":true,"n":1.0, "messages":[ {"role":"user","content":"h\u0069"} ] }"#;
    let gateway = Gateway::start(&config(
        &upstream,
        &probe("a", "{ label: a }").replace("allow:", "match: { models: [other] }, allow:"),
    ));
    let plain = Gateway::before(&upstream);
    let request = Request::post("/v1/chat/completions", &body[..]);
    let (with, without) = (gateway.send(&request).expect(200), plain.send(&request).expect(200));
    assert_eq!(with.body, without.body);
    assert!(ask_is_quiet(&gateway), "the plugin was not called");
}

fn ask_is_quiet(gateway: &Gateway) -> bool {
    let calls = super::described(gateway, "a")["calls"].clone();
    ["on-request", "stream-text", "stream-events"].iter().all(|hook| calls[*hook].is_null())
}

#[test]
fn a_plugin_that_only_looks_leaves_every_byte_of_a_stream() {
    let upstream = chatty();
    let gateway = start(&upstream, &probe("a", "{ label: a, text: { notes_pushes: true } }"));
    let plain = Gateway::before(&upstream);
    let stream = gateway.send(&Request::chat_stream("hi")).expect(200);
    assert_eq!(stream.body, plain.send(&Request::chat_stream("hi")).expect(200).body);
    let pushed: String = notes(&gateway).iter().filter_map(|line| line.strip_prefix("push ")).collect();
    assert_eq!(pushed, "hello");
    assert_eq!(ask(&gateway, "get nothing"), Value::Null);
}
