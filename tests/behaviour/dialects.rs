//! Any dialect to any dialect, seen from the bytes: what is forwarded untouched, what is converted, and what leaks nowhere.

mod aliases;
mod callers;
mod faults;
mod lists;
mod losses;
mod models;
mod native;
mod refusals;
mod surface;
mod waits;

use serde_json::{Value, json};
use witgate_tests::audit::{file, parsed, rows, wait};
use witgate_tests::vendors::Refusal;
use witgate_tests::{Gateway, Received, Reply, Request, Upstream, Vendor};

use self::surface::{Read, Surface};

/// A gateway before one upstream of each vendor; models begin with the vendor's prefix.
struct Scene {
    upstreams: [Upstream; 3],
    gateway: Gateway,
}

impl Scene {
    #[track_caller]
    fn new(more: &str) -> Self {
        Self::before(Vendor::ALL.map(Vendor::upstream), more)
    }

    #[track_caller]
    fn before(upstreams: [Upstream; 3], more: &str) -> Self {
        let gateway = Gateway::start(&(config(&upstreams) + more));
        Self { upstreams, gateway }
    }

    fn upstream(&self, vendor: Vendor) -> &Upstream {
        let place = Vendor::ALL.iter().position(|known| *known == vendor).expect("all are there");
        &self.upstreams[place]
    }
}

fn config(upstreams: &[Upstream; 3]) -> String {
    let mut config = "retry: { attempts_max: 1 }\nbreaker: { failures: 0 }\nupstreams:\n".to_owned();
    for (vendor, upstream) in Vendor::ALL.into_iter().zip(upstreams) {
        let prefix = vendor.prefix();
        config.push_str(&entry(vendor.label(), vendor, upstream, &format!(
            "api_key: sk-{}, model_match: {{ type: prefix, value: [{prefix}] }}, models: {{ {prefix}alias: {prefix}plain }}",
            vendor.label()
        )));
    }
    config
}

/// An entry of `upstreams`.
fn entry(name: &str, vendor: Vendor, upstream: &Upstream, settings: &str) -> String {
    let url = if vendor == Vendor::OpenAi { upstream.url() } else { upstream.origin() };
    let responses = if vendor == Vendor::OpenAi { ", responses: chat" } else { "" };
    format!(
        "  - {{ name: {name}, base_url: \"{url}\", dialect: {}{responses}, {settings} }}\n",
        vendor.label()
    )
}

const HELLO: &str = "Hello, wörld 🌍";

// parity: 97, 98, 99, 106, 110
#[test]
fn every_client_reads_the_same_of_every_upstream() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        for surface in Surface::ALL {
            for story in ["plain", "alias"] {
                let model = format!("{}{story}", vendor.prefix());
                let [whole, stream] = [false, true].map(|is_stream| {
                    let answer = scene.gateway.send(&surface.ask(&model, "hi", is_stream)).expect(200);
                    surface.read(&answer, is_stream)
                });
                assert_eq!(whole, stream, "{surface:?} to {vendor:?}");
                assert_eq!(whole.text, HELLO, "{surface:?} to {vendor:?}");
                assert_eq!((whole.tokens, &whole.model), ((11, 9), &model), "{surface:?} to {vendor:?}");
            }
        }
    }
}

// parity: 99
#[test]
fn where_the_upstreams_bytes_are_cut_makes_no_difference() {
    // Small enough to cut through every event, name and letter.
    for size in [1, 2, 3, 7] {
        let upstreams =
            Vendor::ALL.map(|vendor| Upstream::new(move |request| vendor.answer(request).split(size)));
        let scene = Scene::before(upstreams, "");
        for vendor in Vendor::ALL {
            for surface in Surface::ALL {
                let model = format!("{}think", vendor.prefix());
                let answer = scene.gateway.send(&surface.ask(&model, "hi", true)).expect(200);
                let read = surface.read(&answer, true);
                let said = (read.thinking.as_str(), read.text.as_str());
                assert_eq!(said, ("Let me think.", "Done."), "{surface:?} to {vendor:?} by {size}");
            }
        }
    }
}

// parity: 109
#[test]
fn each_upstream_gets_its_own_kind_of_credentials() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        for surface in Surface::ALL {
            let model = format!("{}plain", vendor.prefix());
            let ask = surface.ask(&model, "hi", false);
            for (name, value) in [
                ("authorization", "Bearer sk-caller"),
                ("x-api-key", "sk-caller"),
                ("x-goog-api-key", "sk-caller"),
            ] {
                let mut request = ask.clone().header(name, value);
                // Between two that speak the same every header stays, and this upstream refuses what is another vendor's.
                if (surface, vendor) != (Surface::Chat, Vendor::OpenAi)
                    && (surface, vendor) != (Surface::Gemini, Vendor::Gemini)
                {
                    request = request
                        .header("anthropic-version", "2026-10-21")
                        .header("anthropic-beta", "context-1m-2025-08-07");
                }
                scene.gateway.send(&request).expect(200);
                check_credentials(&scene.upstream(vendor).last(), vendor, "2026-10-21");
            }
            scene.gateway.send(&ask).expect(200);
            check_version(&scene.upstream(vendor).last(), vendor, "2023-06-01", None);
        }
    }
    let by_query = Request::post(
        "/v1beta/models/gem.plain:generateContent?key=sk-caller",
        json!({"contents": [{"parts": [{"text": "hi"}]}]}).to_string(),
    );
    scene.gateway.send(&by_query).expect(200);
    check_credentials(&scene.upstream(Vendor::Gemini).last(), Vendor::Gemini, "");
}

#[track_caller]
fn check_credentials(request: &Received, vendor: Vendor, version: &str) {
    let own = format!("sk-{}", vendor.label());
    let bearer = format!("Bearer {own}");
    let expected = match vendor {
        Vendor::OpenAi => [Some(bearer.as_str()), None, None],
        Vendor::Anthropic => [None, Some(own.as_str()), None],
        Vendor::Gemini => [None, None, Some(own.as_str())],
    };
    let got = ["authorization", "x-api-key", "x-goog-api-key"].map(|name| request.header(name));
    assert_eq!(got, expected);
    assert!(!format!("{request:?}").contains("sk-caller"), "{request:?}");
    check_version(request, vendor, version, Some("context-1m-2025-08-07"));
}

#[track_caller]
fn check_version(request: &Received, vendor: Vendor, version: &str, beta: Option<&str>) {
    let expected = if vendor == Vendor::Anthropic { (Some(version), beta) } else { (None, None) };
    let got = (request.header("anthropic-version"), request.header("anthropic-beta"));
    assert_eq!(got, expected, "{vendor:?}");
}

// parity: 109
#[test]
fn a_client_keeps_its_beta_headers() {
    let scene = Scene::new("");
    let request = Surface::Messages
        .ask("claude.plain", "hi", false)
        .header("anthropic-beta", "context-1m-2025-08-07,files-api-2025-04-14");
    scene.gateway.send(&request).expect(200);
    let received = scene.upstream(Vendor::Anthropic).only();
    assert_eq!(received.header("anthropic-beta"), Some("context-1m-2025-08-07,files-api-2025-04-14"));
}

// parity: 108
#[test]
fn between_two_that_speak_the_same_every_header_stays() {
    let answers = [
        r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt.plain","choices":[]}"#,
        r#"{"id":"m","type":"message","role":"assistant","model":"claude.plain","content":[]}"#,
        r#"{"candidates":[]}"#,
    ];
    let scene = Scene::before(answers.map(odd), "");
    for (surface, vendor) in [Surface::Chat, Surface::Messages, Surface::Gemini].into_iter().zip(Vendor::ALL)
    {
        let ask = surface.ask(&format!("{}plain", vendor.prefix()), "hi", false);
        let headers = [
            ("anthropic-beta", "a"),
            ("openai-organization", "b"),
            ("x-goog-user-project", "c"),
            ("x-mine", "d"),
        ];
        let request = headers.iter().fold(ask, |request, (name, value)| request.header(name, value));
        scene.gateway.send(&request).expect(200);
        let received = scene.upstream(vendor).only();
        for (name, value) in headers {
            assert_eq!(received.header(name), Some(value), "{vendor:?}");
        }
    }
}

// parity: 109
#[test]
fn without_keys_a_callers_own_goes_where_it_belongs() {
    for (surface, vendor, name, value) in [
        (Surface::Messages, Vendor::Anthropic, "x-api-key", "sk-caller"),
        (Surface::Messages, Vendor::Anthropic, "authorization", "Bearer sk-caller"),
        (Surface::Gemini, Vendor::Gemini, "x-goog-api-key", "sk-caller"),
        (Surface::Chat, Vendor::OpenAi, "authorization", "Bearer sk-caller"),
    ] {
        let upstream = vendor.upstream();
        let gateway =
            Gateway::start(&format!("upstreams:\n{}", entry("one", vendor, &upstream, "default: true")));
        let model = format!("{}plain", vendor.prefix());
        gateway.send(&surface.ask(&model, "hi", false).header(name, value)).expect(200);
        assert!(format!("{:?}", upstream.only().headers).contains("sk-caller"), "{surface:?}");
    }
}

#[test]
fn another_dialect_takes_over_before_the_first_content() {
    let overloaded = Refusal { status: 529, path: None, message: "Overloaded".to_owned() };
    for (first, second) in [
        (Vendor::Anthropic, Vendor::OpenAi),
        (Vendor::Anthropic, Vendor::Gemini),
        (Vendor::Gemini, Vendor::Anthropic),
        (Vendor::OpenAi, Vendor::Gemini),
    ] {
        let failing = Upstream::always(first.error(&overloaded));
        let working = second.upstream();
        let model = format!("{}plain", second.prefix());
        let gateway = Gateway::start(&format!(
            "routing: {{ strategy: failover }}\nupstreams:\n{}{}",
            entry("first", first, &failing, "api_key: a"),
            entry("second", second, &working, "api_key: b"),
        ));
        for surface in Surface::ALL {
            for is_stream in [false, true] {
                let answer = gateway.send(&surface.ask(&model, "hi", is_stream)).expect(200);
                assert_eq!(
                    surface.read(&answer, is_stream).text,
                    HELLO,
                    "{surface:?}: {first:?} to {second:?}"
                );
                assert_eq!(answer.header("x-witgate-upstream"), Some("second"));
            }
        }
    }
}

#[test]
fn a_failure_in_the_middle_is_told_in_the_clients_grammar() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        for surface in Surface::ALL {
            for story in ["broken", "cut"] {
                let model = format!("{}{story}", vendor.prefix());
                let answer = scene.gateway.send(&surface.ask(&model, "hi", true)).expect(200);
                check_failed(surface, &answer, &format!("{surface:?} to {vendor:?}, {story}"));
            }
        }
    }
}

#[track_caller]
fn check_failed(surface: Surface, answer: &witgate_tests::Answer, what: &str) {
    let events = witgate_tests::sse::events(&answer.body);
    let told: Vec<Value> = events.iter().filter_map(|event| serde_json::from_str(&event.data).ok()).collect();
    let said = answer.text();
    assert!(said.contains("half"), "{what}: {said}");
    let last = told.last().unwrap_or_else(|| panic!("{what}: {said}"));
    let is_told = match surface {
        Surface::Chat => last["error"]["message"].is_string(),
        Surface::Responses => last["type"] == "error" || last["type"] == "response.failed",
        Surface::Messages => last["type"] == "error" && last["error"]["type"].is_string(),
        Surface::Gemini => last["error"]["code"].is_u64() && last["error"]["status"].is_string(),
    };
    assert!(is_told, "{what}: {said}");
    for end in ["[DONE]", "message_stop", "response.completed", "finishReason\":\"STOP"] {
        assert!(!said.contains(end), "{what} ends as if it were whole: {said}");
    }
}

#[test]
fn the_audit_has_every_surface_by_its_name() {
    let scene = Scene::new("");
    let types = ["chat.completions", "responses", "anthropic.messages", "gemini.generate_content"];
    let mut count = 0;
    for vendor in Vendor::ALL {
        for (surface, kind) in Surface::ALL.into_iter().zip(types) {
            for is_stream in [false, true] {
                let model = format!("{}alias", vendor.prefix());
                scene.gateway.send(&surface.ask(&model, "hi", is_stream)).expect(200);
                count += 1;
                let row = wait(&scene.gateway, count).pop().expect("it is there");
                let what = format!("{surface:?} to {vendor:?}, streamed: {is_stream}: {row}");
                assert_eq!((&row["endpoint"], &row["model"]), (&json!(kind), &json!(model)), "{what}");
                let tokens = (row["input_tokens"].as_u64(), row["output_tokens"].as_u64());
                assert_eq!(tokens, (Some(11), Some(9)), "{what}");
                assert_eq!((&row["outcome"], &row["finish"]), (&json!("complete"), &json!("stop")), "{what}");
                // What the client was sent, whole, whatever the upstream speaks.
                let answer = answer_of(surface, &parsed(&row, "response"));
                assert_eq!(answer.text, HELLO, "{what}");
            }
        }
    }
    let kinds = rows(&file(&scene.gateway), "SELECT DISTINCT Type FROM records ORDER BY Type");
    let kinds: Vec<&str> = kinds.iter().filter_map(|row| row["Type"].as_str()).collect();
    // The view of the earlier system knows three of them.
    assert_eq!(kinds, ["anthropic.messages", "chat.completions", "responses"]);
}

fn answer_of(surface: Surface, response: &Value) -> Read {
    let body = response.to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = witgate_tests::Connection::recorded(head.into_bytes()).answer();
    surface.read(&answer, false)
}

#[test]
fn plugins_do_the_same_whatever_is_spoken() {
    let plugins = "plugins:\n  - { name: think-strip, source: \"builtin:think-strip\" }\n  - { name: redact, source: \"builtin:redact\" }\n";
    let scene = Scene::new(plugins);
    for vendor in Vendor::ALL {
        for surface in Surface::ALL {
            for is_stream in [false, true] {
                let what = format!("{surface:?} to {vendor:?}, streamed: {is_stream}");
                let read = |story: &str, text: &str| {
                    let model = format!("{}{story}", vendor.prefix());
                    let answer = scene.gateway.send(&surface.ask(&model, text, is_stream)).expect(200);
                    surface.read(&answer, is_stream)
                };
                let stripped = read("think-strip", "hi");
                assert_eq!(
                    (stripped.text.as_str(), stripped.thinking.as_str()),
                    ("The answer", ""),
                    "{what}"
                );
                assert_eq!(read("secret", "hi").text, "write to [email] today", "{what}");
                // What the upstream has understood is what the plugin made of it.
                let described = read("describe", "I am ann@example.org").text;
                assert!(described.contains("I am [email]"), "{what}: {described}");
            }
        }
    }
}

// parity: 96
#[test]
fn a_client_is_known_by_its_path_and_then_by_its_headers() {
    let scene = Scene::new("");
    let list = |path: &str, headers: &[(&str, &str)]| {
        let request =
            headers.iter().fold(Request::get(path), |request, (name, value)| request.header(name, value));
        let list = scene.gateway.send(&request).expect(200).json();
        if list["models"][0]["name"].as_str().is_some_and(|name| name.starts_with("models/")) {
            "gemini"
        } else if list["data"][0]["type"] == "model" && list.get("has_more").is_some() {
            "anthropic"
        } else if list["object"] == "list" {
            "openai"
        } else {
            panic!("a list of nobody's: {list}")
        }
    };
    for (path, headers, expected) in [
        ("/v1/models", &[][..], "openai"),
        ("/v1/models", &[("authorization", "Bearer a")], "openai"),
        ("/v1/models", &[("x-api-key", "a")], "anthropic"),
        ("/v1/models", &[("anthropic-version", "2023-06-01"), ("x-api-key", "a")], "anthropic"),
        // The newer clients of Anthropic's send their key as a bearer's.
        ("/v1/models", &[("anthropic-version", "2026-10-21"), ("authorization", "Bearer a")], "anthropic"),
        ("/v1/models", &[("x-goog-api-key", "a")], "gemini"),
        ("/v1beta/models", &[], "gemini"),
        ("/v1beta/models?key=a", &[], "gemini"),
        ("/v1beta/models", &[("x-api-key", "a")], "gemini"),
        ("/models", &[], "openai"),
    ] {
        assert_eq!(list(path, headers), expected, "{path} {headers:?}");
    }
}

// parity: 96
#[test]
fn a_known_path_tells_more_than_headers() {
    let scene = Scene::new("");
    for surface in Surface::ALL {
        for (name, value) in [("x-api-key", "a"), ("x-goog-api-key", "a"), ("authorization", "Bearer a")] {
            let request = surface.ask("gpt.plain", "hi", false).header(name, value);
            let answer = scene.gateway.send(&request).expect(200);
            assert_eq!(surface.read(&answer, false).text, HELLO, "{surface:?} with {name}");
            let unknown = surface.ask("nobody", "hi", false).header(name, value);
            surface.error(&scene.gateway.send(&unknown).expect(404));
        }
    }
}

#[test]
fn a_stream_that_nobody_asked_as_events_is_a_list() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        let path = format!("/v1beta/models/{}plain:streamGenerateContent", vendor.prefix());
        let list = scene.gateway.send(&Request::post(&path, body.to_string())).expect(200).json();
        let chunks = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
        let texts = chunks
            .iter()
            .map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default());
        assert_eq!(texts.collect::<String>(), HELLO, "{vendor:?}");
    }
}

#[test]
fn tokens_are_counted_by_whoever_can() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        let model = format!("{}plain", vendor.prefix());
        let message = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let counted = scene.gateway.send(&Request::post("/v1/messages/count_tokens", message.to_string()));
        let messages = counted.expect(200).json()["input_tokens"].as_u64();
        let path = format!("/v1beta/models/{model}:countTokens");
        let content = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        let counted = scene.gateway.send(&Request::post(&path, content.to_string()));
        let gemini = counted.expect(200).json()["totalTokens"].as_u64();
        if vendor == Vendor::OpenAi {
            assert!(messages > Some(0) && gemini > Some(0), "{messages:?} {gemini:?}");
        } else {
            assert_eq!((messages, gemini), (Some(42), Some(42)), "{vendor:?}");
        }
    }
}

#[test]
fn retry_after_and_the_status_reach_every_client() {
    let scene = Scene::new("");
    for vendor in Vendor::ALL {
        for surface in Surface::ALL {
            for is_stream in [false, true] {
                let model = format!("{}error-429", vendor.prefix());
                let answer = scene.gateway.send(&surface.ask(&model, "hi", is_stream)).expect(429);
                assert_eq!(answer.header("retry-after"), Some("7"), "{surface:?} to {vendor:?}");
                assert!(surface.error(&answer).contains("as you wish"), "{}", answer.text());
            }
        }
    }
}

// parity: 107
#[test]
fn how_long_to_wait_is_told_where_every_client_looks_for_it() {
    let error = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"16.5s"}]}}"#;
    let upstream = Upstream::always(Reply::json(429, error));
    let gateway = Gateway::start(&format!(
        "retry: {{ attempts_max: 1 }}\nupstreams:\n{}",
        entry("one", Vendor::Gemini, &upstream, "api_key: k")
    ));
    for surface in Surface::ALL {
        let answer = gateway.send(&surface.ask("m", "hi", false)).expect(429);
        assert_eq!(answer.header("retry-after"), Some("17"), "{surface:?}");
    }
    let own = gateway.send(&Surface::Gemini.ask("m", "hi", false)).expect(429);
    assert_eq!(own.text(), error);
}

/// An answer that is taken as it stands.
fn odd(body: &'static str) -> Upstream {
    Upstream::always(Reply::json(200, body))
}
