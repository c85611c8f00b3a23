//! What is refused before anything is sent upstream, and that the client is told in its own shape.

use serde_json::{Value, json};
use witgate_tests::{Gateway, Vendor};

use super::surface::Surface;
use super::{Scene, config};

/// A model of an upstream that the surface has to be converted for.
fn foreign(surface: Surface) -> &'static str {
    if surface == Surface::Gemini { "claude.plain" } else { "gem.plain" }
}

/// A body with this conversation, in the surface's own members.
fn talk(surface: Surface, model: &str, talk: &Value) -> Value {
    match surface {
        Surface::Chat => json!({"model": model, "messages": talk}),
        Surface::Responses => json!({"model": model, "input": talk}),
        Surface::Messages => json!({"model": model, "max_tokens": 100, "messages": talk}),
        Surface::Gemini => json!({"contents": talk}),
    }
}

#[track_caller]
fn check(scene: &Scene, surface: Surface, model: &str, body: &Value, parts: &[&str]) {
    for is_stream in [false, true] {
        let mut body = body.clone();
        if is_stream && surface != Surface::Gemini {
            body["stream"] = json!(true);
        }
        let answer = scene.gateway.send(&surface.post(model, &body, is_stream)).expect(400);
        let message = surface.error(&answer);
        let text = answer.text();
        for part in parts {
            assert!(text.contains(part), "{surface:?}: no `{part}` in `{message}` of {text}");
        }
    }
    for upstream in &scene.upstreams {
        assert_eq!(upstream.count(), 0, "{surface:?}: what is refused goes nowhere");
    }
}

#[test]
fn an_unknown_role_is_refused() {
    let scene = Scene::new("");
    for (surface, message, place) in [
        (Surface::Chat, json!([{"role": "wizard", "content": "hi"}]), "messages[0].role"),
        (Surface::Responses, json!([{"role": "wizard", "content": "hi"}]), "input[0].role"),
        (Surface::Messages, json!([{"role": "wizard", "content": "hi"}]), "messages[0].role"),
        (Surface::Gemini, json!([{"role": "wizard", "parts": [{"text": "hi"}]}]), "contents[0].role"),
    ] {
        let model = foreign(surface);
        check(&scene, surface, model, &talk(surface, model, &message), &[place]);
    }
}

#[test]
fn a_tools_result_without_its_call_is_refused() {
    let scene = Scene::new("");
    let hi = json!({"role": "user", "content": "hi"});
    for (surface, message, place) in [
        (
            Surface::Chat,
            json!([hi, {"role": "tool", "tool_call_id": "call_9", "content": "20"}]),
            "messages[1]",
        ),
        (
            Surface::Responses,
            json!([hi, {"type": "function_call_output", "call_id": "call_9", "output": "20"}]),
            "input[1].call_id",
        ),
        (
            Surface::Messages,
            json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t9", "content": "20"}]}]),
            "messages[0].content[0]",
        ),
        (
            Surface::Gemini,
            json!([{"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}]),
            "contents[0].parts[0]",
        ),
    ] {
        let model = foreign(surface);
        check(&scene, surface, model, &talk(surface, model, &message), &[place]);
    }
}

#[test]
fn a_picture_that_is_neither_a_url_nor_data_is_refused() {
    let scene = Scene::new("");
    for (surface, message, place) in [
        (
            Surface::Chat,
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "cat.png"}}]}]),
            "messages[0].content[0].image_url",
        ),
        (
            Surface::Responses,
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "cat.png"}]}]),
            "input[0].content[0].image_url",
        ),
        (
            Surface::Messages,
            json!([{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "cat.png"}}]}]),
            "messages[0].content[0].source",
        ),
    ] {
        let model = foreign(surface);
        check(&scene, surface, model, &talk(surface, model, &message), &[place]);
    }
}

#[test]
fn what_the_target_cannot_say_is_refused_by_the_clients_name_for_it() {
    let scene = Scene::new("");
    let hi = json!([{"role": "user", "content": "hi"}]);
    let with = |surface: Surface, model: &str, name: &str, value: Value| {
        let mut body = match surface {
            Surface::Gemini => talk(surface, model, &json!([{"role": "user", "parts": [{"text": "hi"}]}])),
            _ => talk(surface, model, &hi),
        };
        body[name] = value;
        body
    };
    for (surface, model, name, value, place) in [
        (Surface::Chat, "claude.plain", "n", json!(2), "`n`"),
        (
            Surface::Gemini,
            "claude.plain",
            "generationConfig",
            json!({"candidateCount": 2}),
            "`generationConfig.candidateCount`",
        ),
        (Surface::Responses, "claude.plain", "previous_response_id", json!("resp_1"), "previous_response_id"),
        (Surface::Responses, "gem.plain", "background", json!(true), "background"),
        (
            Surface::Messages,
            "gem.plain",
            "tools",
            json!([{"type": "web_search_20250305", "name": "web_search"}]),
            "tools",
        ),
    ] {
        check(&scene, surface, model, &with(surface, model, name, value), &[place]);
    }
}

#[test]
fn the_upstream_that_cannot_is_named() {
    let scene = Scene::new("");
    let body = json!({"model": "claude.plain", "n": 2, "messages": [{"role": "user", "content": "hi"}]});
    check(&scene, Surface::Chat, "claude.plain", &body, &["`n`", "`anthropic`"]);
}

#[test]
fn bodies_that_are_no_json_are_refused_in_the_clients_shape() {
    let scene = Scene::new("");
    for surface in Surface::ALL {
        for body in ["", "{", "[]", "null", "\"a\"", "{}"] {
            let request = witgate_tests::Request::post(&surface.path("gpt.plain", false), body);
            surface.error(&scene.gateway.send(&request).expect(400));
        }
    }
    assert_eq!(scene.upstream(Vendor::OpenAi).count(), 0);
}

// parity: 109
#[test]
fn a_caller_without_a_key_is_refused_in_its_own_shape() {
    // The hash is of a key that nobody here has.
    let keys = "server: { key_secret: 'the secret of these tests' }\nkeys:\n  - { name: a, hash: 'hmac-sha256:0000000000000000000000000000000000000000000000000000000000000000' }\n";
    let upstreams = Vendor::ALL.map(Vendor::upstream);
    let gateway = Gateway::start(&(config(&upstreams) + keys));
    for surface in Surface::ALL {
        for (name, value) in [
            ("authorization", "Bearer sk-nobody"),
            ("x-api-key", "sk-nobody"),
            ("x-goog-api-key", "sk-nobody"),
            ("x-other", "none"),
        ] {
            let request = surface.ask("gpt.plain", "hi", false).header(name, value);
            surface.error(&gateway.send(&request).expect(401));
        }
    }
    assert!(upstreams.iter().all(|upstream| upstream.count() == 0));
}
