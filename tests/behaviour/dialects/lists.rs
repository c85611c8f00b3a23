//! Google's streams without events: a list of what the events would hold, for clients that do not ask for events.

use serde_json::{Value, json};
use witgate_tests::{Gateway, Reply, Request, Upstream, Vendor};

use super::{Scene, entry};

const REDACT: &str = "plugins:\n  - { name: redact, source: \"builtin:redact\" }\n";

fn ask(model: &str) -> Request {
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    Request::post(&format!("/v1beta/models/{model}:streamGenerateContent"), body.to_string())
}

#[track_caller]
fn text(list: &Value) -> String {
    let chunks = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let text =
        |chunk: &Value| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().map(str::to_owned);
    chunks.iter().filter_map(text).collect()
}

#[test]
fn plugins_see_the_text_of_a_list() {
    let scene = Scene::new(REDACT);
    for vendor in Vendor::ALL {
        let answer = scene.gateway.send(&ask(&format!("{}secret", vendor.prefix()))).expect(200);
        assert_eq!(text(&answer.json()), "write to [email] today", "{vendor:?}");
    }
}

#[test]
fn a_list_that_an_upstream_sends_unasked_does_not_pass_by_the_plugins() {
    let list = r#"[{"candidates":[{"content":{"parts":[{"text":"ann@example.org"}],"role":"model"},"finishReason":"STOP"}]}]"#;
    let upstream = Upstream::always(Reply::json(200, list));
    let config = format!(
        "retry: {{ attempts_max: 1 }}\nupstreams:\n{}{REDACT}",
        entry("one", Vendor::Gemini, &upstream, "api_key: k, default: true")
    );
    let gateway = Gateway::start(&config);
    for method in ["generateContent", "streamGenerateContent"] {
        let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
        let request = Request::post(&format!("/v1beta/models/m:{method}"), body.to_string());
        let answer = gateway.send(&request).expect(502);
        assert!(!answer.text().contains("ann@"), "{}", answer.text());
    }
}

#[test]
fn a_list_is_passed_on_as_it_stands_where_no_plugin_has_to_see_it() {
    let list = "[ {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n,\n{\"candidates\": [{\"finishReason\":\"STOP\"}]}]\n";
    let upstream = Upstream::always(Reply::json(200, list));
    let gateway = Gateway::start(&format!(
        "upstreams:\n{}",
        entry("one", Vendor::Gemini, &upstream, "api_key: k, default: true")
    ));
    assert_eq!(gateway.send(&ask("m")).expect(200).text(), list);
    assert_eq!(upstream.only().target, "/v1beta/models/m:streamGenerateContent");
}
