//! Models that an upstream knows by another name than the clients.

use serde_json::json;
use witgate_tests::{Gate, Gateway, Reply, Request, Upstream, Vendor};

use super::{Scene, entry};

// parity: 110
#[test]
fn googles_bodies_name_the_model_of_the_path() {
    let scene = Scene::new("");
    let message = json!({"model": "gem.alias", "messages": [{"role": "user", "content": "hi"}]});
    scene.gateway.send(&Request::post("/v1/messages/count_tokens", message.to_string())).expect(200);
    let received = scene.upstream(Vendor::Gemini).last();
    assert_eq!(received.target, "/v1beta/models/gem.plain:countTokens");
    assert_eq!(received.json()["generateContentRequest"]["model"], "models/gem.plain");

    let input = json!({"model": "gem.alias", "input": ["a", "b"]});
    scene.gateway.send(&Request::post("/v1/embeddings", input.to_string())).expect(200);
    let received = scene.upstream(Vendor::Gemini).last();
    assert_eq!(received.target, "/v1beta/models/gem.plain:batchEmbedContents");
    for request in received.json()["requests"].as_array().expect("it is a list") {
        assert_eq!(request["model"], "models/gem.plain");
    }
}

// parity: 110
#[test]
fn an_answer_too_long_to_be_held_is_passed_on_under_the_clients_name() {
    // Longer than what is read before the client gets any of it.
    let values = "0,".repeat(1 << 20);
    for (first, last, expected) in [
        (
            format!(r#"{{"model":"there","data":[{values}"#),
            "0]}",
            format!(r#"{{"model":"here","data":[{values}0]}}"#),
        ),
        // The name stands where nobody looks any more.
        (
            format!(r#"{{"data":[{values}"#),
            r#"0],"model":"there"}"#,
            format!(r#"{{"data":[{values}0],"model":"there"}}"#),
        ),
    ] {
        let gate = Gate::new();
        let reply = Reply::new(200).header("content-type", "application/json").chunked();
        let upstream = Upstream::always(reply.body(first).wait(&gate).body(last));
        let gateway = Gateway::start(&format!(
            "upstreams:\n{}",
            entry("one", Vendor::OpenAi, &upstream, "api_key: k, default: true, models: { here: there }")
        ));
        let request = Request::post("/v1/embeddings", r#"{"model":"here","input":"a"}"#);
        let mut connection = gateway.ask(&request);
        assert_eq!(connection.head().status, 200);
        let mut got = connection.piece().expect("it goes on").expect("it is not over");
        gate.open();
        got.extend(connection.rest().0);
        assert!(got == expected.as_bytes(), "{} bytes of {}", got.len(), expected.len());
    }
}
