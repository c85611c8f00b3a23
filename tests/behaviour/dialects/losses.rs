//! What an upstream could not be told, by its names.

use serde_json::{Value, json};
use witgate_tests::Vendor;

use super::Scene;
use super::surface::Surface;

#[track_caller]
fn check(surface: Surface, vendor: Vendor, members: &Value, expected: &str) {
    let scene = Scene::new("");
    let model = format!("{}plain", vendor.prefix());
    let mut body = json!({
        "model": model, "max_tokens": 10, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    });
    for (name, value) in members.as_object().expect("they are members") {
        body[name] = value.clone();
    }
    let answer = scene.gateway.send(&surface.post(&model, &body, false)).expect(200);
    assert_eq!(answer.header("x-witgate-dropped"), Some(expected), "{surface:?} to {vendor:?}");
}

#[test]
fn what_only_the_client_knows_is_named() {
    for vendor in [Vendor::Anthropic, Vendor::Gemini] {
        check(Surface::Chat, vendor, &json!({"vendor_option": 1, "other": {"a": 1}}), "other, vendor_option");
    }
    check(Surface::Messages, Vendor::OpenAi, &json!({"vendor_option": 1}), "vendor_option");
}

#[test]
fn no_more_is_named_than_a_header_should_hold() {
    let many: serde_json::Map<String, Value> =
        (0..20).map(|number| (format!("x{number:02}"), json!(1))).collect();
    check(Surface::Chat, Vendor::Gemini, &Value::Object(many), "*, x00, x01, x02, x03, x04, x05, x06, x07");
    // What would be no word in a list.
    check(Surface::Chat, Vendor::Gemini, &json!({"a, b\r\nc": 1}), "*");
}
