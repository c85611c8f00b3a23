//! The judges judge: what a vendor refuses is refused here.

use serde_json::{Value, json};

use crate::{Received, Vendor};

/// A request as the vendor's own client sends it.
fn request(vendor: Vendor, path: &str, body: &Value) -> Received {
    let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let own: &[(&str, &str)] = match vendor {
        Vendor::OpenAi => &[("authorization", "Bearer k")],
        Vendor::Anthropic => &[("x-api-key", "k"), ("anthropic-version", "2023-06-01")],
        Vendor::Gemini => &[("x-goog-api-key", "k")],
    };
    headers.extend(own.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    Received {
        number: 0,
        connection: 0,
        version: "HTTP/1.1",
        method: "POST".to_owned(),
        target: path.to_owned(),
        headers,
        body: body.to_string().into_bytes(),
        is_complete: true,
        left: None,
        is_answered: false,
    }
}

/// The status, and the body.
fn answer(vendor: Vendor, request: &Received) -> (u16, String) {
    let reply = vendor.answer(request);
    let status = reply.head.as_ref().map_or(0, |(status, _)| *status);
    let bytes = reply.body.iter().map(|step| match step {
        crate::upstream::reply::Step::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    });
    (status, bytes.collect())
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const CONTENT: &str = "/v1beta/models/gem.plain:generateContent";

fn good(path: &str) -> (Vendor, Value) {
    let hi = json!([{"role": "user", "content": "hi"}]);
    match path {
        CHAT => (Vendor::OpenAi, json!({"model": "gpt.plain", "messages": hi})),
        RESPONSES => (Vendor::OpenAi, json!({"model": "gpt.plain", "input": hi})),
        MESSAGES => (Vendor::Anthropic, json!({"model": "claude.plain", "max_tokens": 2000, "messages": hi})),
        _ => (Vendor::Gemini, json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})),
    }
}

/// A good request with one member replaced is refused with words about it.
#[track_caller]
fn refused(path: &str, name: &str, value: Value, part: &str) {
    let (vendor, mut body) = good(path);
    assert_eq!(answer(vendor, &request(vendor, path, &body)).0, 200, "{path}");
    body[name] = value;
    let (status, said) = answer(vendor, &request(vendor, path, &body));
    assert_eq!(status, 400, "{path} with {name}: {said}");
    assert!(said.contains(part), "{path} with {name}: no `{part}` in {said}");
}

#[test]
fn members_that_nobody_knows_are_refused() {
    for path in [CHAT, RESPONSES, MESSAGES, CONTENT] {
        refused(path, "unknown", json!(1), "unknown");
    }
    refused(MESSAGES, "n", json!(2), "n: extra members");
    refused(CHAT, "max_output_tokens", json!(2), "max_output_tokens");
    refused(CONTENT, "generationConfig", json!({"max_tokens": 2}), "generationConfig.max_tokens");
    refused(
        MESSAGES,
        "messages",
        json!([{"role": "user", "content": [{"type": "text", "text": "a", "b": 1}]}]),
        "0.b",
    );
}

#[test]
fn conversations_have_the_vendors_form() {
    let user = json!({"role": "user", "content": "hi"});
    let assistant = json!({"role": "assistant", "content": "hi"});
    refused(MESSAGES, "messages", json!([]), "must not be empty");
    refused(MESSAGES, "messages", json!([assistant]), "roles must alternate");
    refused(MESSAGES, "messages", json!([user, user]), "roles must alternate");
    refused(MESSAGES, "messages", json!([{"role": "system", "content": "hi"}]), "must be one of");
    refused(MESSAGES, "messages", json!([{"role": "user", "content": ""}]), "must not be empty");
    refused(CONTENT, "contents", json!([{"role": "assistant", "parts": [{"text": "hi"}]}]), "must be one of");
    refused(CONTENT, "contents", json!([{"role": "model", "parts": [{"text": "hi"}]}]), "must be `user`");
    refused(CONTENT, "contents", json!([{"parts": []}]), "must not be empty");
    refused(CONTENT, "contents", json!([{"parts": [{"text": "a", "functionCall": {"name": "f"}}]}]), "oneof");
    refused(CHAT, "messages", json!([{"role": "assistant", "content": null}]), "`content` is required");
}

#[test]
fn results_belong_to_calls() {
    let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "1"});
    let user = json!({"role": "user", "content": "hi"});
    let called = json!({"role": "assistant", "content": [call]});
    refused(MESSAGES, "messages", json!([{"role": "user", "content": [result]}]), "without its `tool_use`");
    refused(MESSAGES, "messages", json!([user, called, user]), "without `tool_result`");
    let text_first = json!({"role": "user", "content": [{"type": "text", "text": "a"}, result]});
    refused(MESSAGES, "messages", json!([user, called, text_first]), "without `tool_result`");
    let result = json!({"role": "tool", "tool_call_id": "a", "content": "1"});
    refused(CHAT, "messages", json!([user, result]), "must be a response to a preceding");
    let function = json!({"name": "f", "arguments": "{}"});
    let called =
        json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": function}]});
    refused(CHAT, "messages", json!([user, called]), "no response messages");
    refused(CHAT, "messages", json!([user, called, user]), "must be followed by tool messages");
    let output = json!({"type": "function_call_output", "call_id": "a", "output": "1"});
    refused(RESPONSES, "input", json!([output]), "No tool call found");
    let response = json!({"functionResponse": {"name": "f", "response": {}}});
    refused(
        CONTENT,
        "contents",
        json!([{"role": "user", "parts": [response]}]),
        "number of function response parts",
    );
}

#[test]
fn proofs_of_thinking_are_checked() {
    let user = json!({"role": "user", "content": "hi"});
    for block in [
        json!({"type": "thinking", "thinking": "a", "signature": "gemini#abc"}),
        json!({"type": "redacted_thinking", "data": "abc"}),
    ] {
        refused(
            MESSAGES,
            "messages",
            json!([user, {"role": "assistant", "content": [block]}, user]),
            "invalid",
        );
    }
    let parts = json!([{"text": "a", "thoughtSignature": "YWJj"}]);
    let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": parts}]);
    refused(CONTENT, "contents", contents, "corrupted");
}

#[test]
fn settings_keep_to_their_ranges() {
    refused(MESSAGES, "temperature", json!(1.5), "between 0 and 1");
    refused(MESSAGES, "max_tokens", Value::Null, "max_tokens: field required");
    refused(MESSAGES, "thinking", json!({"type": "enabled", "budget_tokens": 100}), "1024 or more");
    refused(MESSAGES, "thinking", json!({"type": "enabled", "budget_tokens": 2000}), "must be greater");
    refused(MESSAGES, "tool_choice", json!({"type": "auto"}), "while providing `tools`");
    refused(CHAT, "temperature", json!(2.5), "between 0 and 2");
    refused(CHAT, "stop", json!(["a", "b", "c", "d", "e"]), "more than 4");
    refused(CHAT, "stream_options", json!({"include_usage": true}), "when `stream` is enabled");
    refused(CONTENT, "generationConfig", json!({"responseSchema": {"type": "OBJECT"}}), "responseMimeType");
    let both = json!({"thinkingConfig": {"thinkingBudget": 1, "thinkingLevel": "LOW"}});
    refused(CONTENT, "generationConfig", both, "only set only one");
}

#[test]
fn schemas_are_the_vendors() {
    let open = json!({"type": "object", "properties": {"a": {"type": "object"}}});
    let format = json!({"format": {"type": "json_schema", "schema": open}});
    refused(MESSAGES, "output_config", format, "additionalProperties");
    let strict = json!({"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": open}});
    refused(CHAT, "response_format", strict, "additionalProperties");
    let schema = json!({"type": "OBJECT", "additionalProperties": false});
    let function = json!({"name": "f", "parameters": schema});
    refused(CONTENT, "tools", json!([{"functionDeclarations": [function]}]), "additionalProperties");
}

#[test]
fn callers_are_known_by_the_vendors_headers() {
    for (path, without, with, status) in [
        (MESSAGES, "x-api-key", None, 401),
        (MESSAGES, "anthropic-version", None, 400),
        (MESSAGES, "x-other", Some("authorization"), 401),
        (MESSAGES, "x-other", Some("x-goog-api-key"), 400),
        (MESSAGES, "content-type", None, 400),
        (CHAT, "authorization", None, 401),
        (CHAT, "x-other", Some("x-api-key"), 400),
        (CHAT, "x-other", Some("anthropic-version"), 400),
        (CONTENT, "x-goog-api-key", None, 403),
        (CONTENT, "x-other", Some("authorization"), 400),
    ] {
        let (vendor, body) = good(path);
        let mut request = request(vendor, path, &body);
        request.headers.retain(|(name, _)| name != without);
        request.headers.extend(with.map(|name| (name.to_owned(), "Bearer k".to_owned())));
        assert_eq!(answer(vendor, &request).0, status, "{path} without {without}, with {with:?}");
    }
}
