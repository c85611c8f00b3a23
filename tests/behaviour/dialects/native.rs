//! Where both sides speak the same, every byte goes through as it came.

use witgate_tests::{Gateway, Reply, Request, Upstream, Vendor};

use super::{entry, odd};

const MESSAGE: &str = r#"{ "id":"msg_1" , "type":"message","role":"assistant","model":"m","content":[ {"type":"text","text":"h\u0069", "unknown":1e0} ],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":1,"odd":{"a":[]}} }
"#;
const CONTENT: &str = "{\n  \"candidates\": [ { \"content\": { \"parts\": [ { \"text\": \"h\\u0069\", \"odd\": 1e0 } ], \"role\": \"model\" }, \"finishReason\": \"STOP\", \"avgLogprobs\": -0.10 } ],\n  \"usageMetadata\": { \"promptTokenCount\": 1, \"candidatesTokenCount\": 1, \"totalTokenCount\": 2 }\n}\n";
const EVENTS: &str = "event: message_start\ndata: {\"type\": \"message_start\", \"message\": {\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n: a comment\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}   }\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"h\\u0069\"},\"odd\":[ ]}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":2}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"       }\n\n";
const CHUNKS: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"h\\u0069\",\"odd\": 1e0}],\"role\": \"model\"}}],\"usageMetadata\": {\"promptTokenCount\": 1}}\r\n\r\ndata: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"\"}],\"role\": \"model\"},\"finishReason\": \"STOP\"}],\"usageMetadata\": {\"promptTokenCount\": 1,\"candidatesTokenCount\": 1,\"totalTokenCount\": 2}}\r\n\r\n";

#[track_caller]
fn check(vendor: Vendor, target: &str, body: &str, answer: &'static str) {
    let is_stream = answer.starts_with("event") || answer.starts_with("data");
    let upstream = if is_stream {
        let head = Reply::new(200).header("content-type", "text/event-stream").chunked();
        Upstream::always(head.body(answer).split(11))
    } else {
        odd(answer)
    };
    let gateway = Gateway::start(&format!(
        "upstreams:\n{}",
        entry("one", vendor, &upstream, "api_key: k, default: true")
    ));
    let got = gateway.send(&Request::post(target, body)).expect(200);
    assert_eq!(got.text(), answer, "{target}");
    let received = upstream.only();
    assert_eq!(received.text(), body, "{target}");
    assert_eq!(received.target, target);
}

// parity: 108
#[test]
fn messages_are_forwarded_as_they_stand() {
    let body = |more: &str| {
        format!(
            "{{ \"model\":\"m\",\"max_tokens\" : 1e2, \"messages\":[{{\"role\":\"user\",\"content\":[{{\"type\":\"te\\u0078t\",\"text\":\"hi\",\"cache_control\":{{\"type\":\"ephemeral\"}}}},{{\"type\":\"of tomorrow\",\"x\":[1.0]}}]}}], \"unknown\":{{\"b\":2,\"a\":1}}{more} }}\n"
        )
    };
    check(Vendor::Anthropic, "/v1/messages", &body(""), MESSAGE);
    check(Vendor::Anthropic, "/v1/messages", &body(", \"stream\" : true"), EVENTS);
    check(Vendor::Anthropic, "/v1/messages?beta=true", &body(""), MESSAGE);
    let count = "{ \"model\":\"m\", \"messages\":[{\"role\":\"user\",\"content\":\"hi\"}] }";
    check(Vendor::Anthropic, "/v1/messages/count_tokens", count, "{ \"input_tokens\" : 14 }\n");
}

// parity: 108
#[test]
fn contents_are_forwarded_as_they_stand() {
    let body = "{ \"contents\": [ {\"parts\":[{\"te\\u0078t\":\"hi\", \"odd\": 1.0}]} ], \"generation_config\": {\"max_output_tokens\": 1e1}, \"unknown\": {\"b\":2,\"a\":1} }\n";
    check(Vendor::Gemini, "/v1beta/models/m:generateContent", body, CONTENT);
    check(Vendor::Gemini, "/v1beta/models/m:streamGenerateContent?alt=sse", body, CHUNKS);
    check(Vendor::Gemini, "/v1beta/models/m:countTokens", body, "{ \"totalTokens\" : 14 }\n");
    let content = "{ \"content\": {\"parts\":[{\"text\":\"hi\"}]} , \"odd\": 1.0}";
    let embedding = "{ \"embedding\" : {\"values\": [ 0.10, -1e0 ]} }\n";
    check(Vendor::Gemini, "/v1beta/models/m:embedContent", content, embedding);
    let requests =
        "{ \"requests\": [ {\"model\":\"models/m\",\"content\":{\"parts\":[{\"text\":\"hi\"}]}} ] }";
    let embeddings = "{ \"embeddings\" : [ {\"values\": [ 0.10 ]} ] }\n";
    check(Vendor::Gemini, "/v1beta/models/m:batchEmbedContents", requests, embeddings);
}

#[test]
fn errors_are_forwarded_as_they_stand() {
    for (vendor, target, body, error) in [
        (
            Vendor::Anthropic,
            "/v1/messages",
            r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#,
            "{ \"type\":\"error\", \"error\":{\"type\":\"of_tomorrow\",\"message\":\"no\",\"odd\":1.0}, \"request_id\":\"req_1\" }\n",
        ),
        (
            Vendor::Gemini,
            "/v1beta/models/m:generateContent",
            r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
            "{ \"error\": { \"code\": 400, \"message\": \"no\", \"status\": \"OF_TOMORROW\", \"details\": [ ] } }\n",
        ),
    ] {
        let upstream = Upstream::always(Reply::json(400, error));
        let gateway = Gateway::start(&format!(
            "upstreams:\n{}",
            entry("one", vendor, &upstream, "api_key: k, default: true")
        ));
        let got = gateway.send(&Request::post(target, body)).expect(400);
        assert_eq!(got.text(), error);
    }
}

#[test]
fn a_base_url_without_a_path_gets_the_vendors_own() {
    for (vendor, target, there) in [
        (Vendor::Anthropic, "/v1/messages", "/v1/messages"),
        (Vendor::Anthropic, "/messages", "/v1/messages"),
        (Vendor::Gemini, "/v1beta/models/m:generateContent", "/v1beta/models/m:generateContent"),
        (Vendor::Gemini, "/v1/models/m:generateContent", "/v1beta/models/m:generateContent"),
        (Vendor::Gemini, "/v1alpha/models/m:generateContent", "/v1beta/models/m:generateContent"),
    ] {
        let (body, answer) = match vendor {
            Vendor::Anthropic => {
                (r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#, MESSAGE)
            }
            _ => (r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#, CONTENT),
        };
        for path in ["", "/", "/proxy/v9"] {
            let upstream = odd(answer);
            let base = format!("{}{path}", upstream.origin());
            let gateway = Gateway::start(&format!(
                "upstreams:\n  - {{ name: one, base_url: \"{base}\", dialect: {}, api_key: k, default: true }}\n",
                vendor.label()
            ));
            gateway.send(&Request::post(target, body)).expect(200);
            let version = if vendor == Vendor::Anthropic { "/v1" } else { "/v1beta" };
            let expected = match path {
                "/proxy/v9" => there.replacen(version, path, 1),
                _ => there.to_owned(),
            };
            assert_eq!(upstream.only().target, expected, "{target} below {path:?}");
        }
    }
}
