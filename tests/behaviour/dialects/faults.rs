//! What goes wrong between dialects: told in the client's words, never passed off as whole, mended where somebody else can.

use std::time::Duration;

use serde_json::json;
use witgate_tests::audit;
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Gateway, Reply, Request, Upstream};

use super::surface::Surface;

/// A gateway before upstreams with these dialects, in order; `more` comes before them.
fn gateway(upstreams: &[(&Upstream, &str)], more: &str) -> Gateway {
    let mut config = format!("routing: {{ strategy: failover }}\n{more}\nupstreams:\n");
    for (number, (upstream, settings)) in upstreams.iter().enumerate() {
        config
            .push_str(&format!("  - {{ name: up{number}, base_url: \"{}\", {settings} }}\n", upstream.url()));
    }
    Gateway::start(&config)
}

const CHAT: &str = "dialect: openai, responses: chat";
const ANTHROPIC: &str = "dialect: anthropic";
const GEMINI: &str = "dialect: gemini";

#[test]
fn an_event_that_makes_no_sense_is_never_followed_by_a_clean_end() {
    let say = |text: &str| format!("data: {}\n\n", chunk(&json!({"content": text}), None));
    let broken = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"mid\n\n";
    let end = format!("data: {}\n\ndata: [DONE]\n\n", chunk(&json!({}), Some("stop")));
    let stream = say("hello ") + broken + &say("world") + &end;
    let upstream = Upstream::always(Reply::stream([""; 0]).body(stream));
    let gateway = gateway(&[(&upstream, CHAT)], "");
    for (surface, clean_end) in [
        (Surface::Messages, "message_stop"),
        (Surface::Responses, "response.completed"),
        (Surface::Gemini, "\"STOP\""),
    ] {
        let answer = gateway.send(&surface.ask("m", "hi", true)).expect(200);
        let text = answer.text();
        assert!(text.contains("hello ") && text.contains("error"), "{text}");
        assert!(!text.contains(clean_end) && !text.contains("world"), "{text}");
    }
}

#[test]
fn what_one_dialect_cannot_read_goes_to_the_next() {
    let anthropic = Upstream::always(Reply::error(500, "not asked"));
    let openai = Upstream::always(Reply::chat("hello"));
    let gateway = gateway(&[(&anthropic, ANTHROPIC), (&openai, CHAT)], "");
    // A role that some servers of OpenAI's dialect know.
    let odd = json!({"model": "m", "messages": [{"role": "ipython", "content": "1"}]});
    gateway.send(&Request::post("/v1/chat/completions", odd.to_string())).expect(200);
    let several = json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "hi"}]});
    gateway.send(&Request::post("/v1/chat/completions", several.to_string())).expect(200);
    assert_eq!((anthropic.count(), openai.count()), (0, 2));
}

#[test]
fn a_second_that_cannot_read_a_request_does_not_end_the_first() {
    let slow = Upstream::always(
        Reply::json(200, "")
            .first(Step::Pause(Duration::from_millis(300)))
            .body(json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "late"}, "finish_reason": "stop"}]}).to_string()),
    );
    let anthropic = Upstream::always(Reply::error(500, "not asked"));
    let gateway = gateway(&[(&slow, "hedge: 50ms"), (&anthropic, ANTHROPIC)], "");
    let odd = json!({"model": "m", "messages": [{"role": "ipython", "content": "1"}]});
    let answer = gateway.send(&Request::post("/v1/chat/completions", odd.to_string())).expect(200);
    assert!(answer.text().contains("late"), "{}", answer.text());
    assert_eq!(anthropic.count(), 0);
}

#[test]
fn who_asks_for_a_stream_gets_one_with_its_usage() {
    let whole = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ask ann@example.org"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34},
    });
    let redact = "plugins: [{ name: redact, source: \"builtin:redact\" }]";
    for (more, is_shown) in [("", true), (redact, false)] {
        let upstream = Upstream::always(Reply::json(200, whole.to_string()));
        let gateway = gateway(&[(&upstream, CHAT)], more);
        for surface in [Surface::Messages, Surface::Gemini] {
            let answer = gateway.send(&surface.ask("m", "hi", true)).expect(200);
            let text = surface.read(&answer, true).text;
            assert!(text.starts_with("ask "), "{surface:?}: {}", answer.text());
            assert_eq!(answer.text().contains("ann@example.org"), is_shown, "{surface:?}: {}", answer.text());
        }
        for row in audit::wait(&gateway, 2) {
            assert_eq!((&row["input_tokens"], &row["finish"]), (&json!(30), &json!("stop")), "{row}");
        }
    }
}

#[test]
fn tokens_are_estimated_only_where_nobody_can_count() {
    let openai = Upstream::always(Reply::error(500, "not asked"));
    let anthropic = Upstream::always(Reply::json(200, r#"{"input_tokens":777}"#));
    let count = Request::post(
        "/v1/messages/count_tokens",
        json!({"model": "m", "messages": [{"role": "user", "content": "hello out there"}]}).to_string(),
    );
    let both = gateway(&[(&openai, CHAT), (&anthropic, ANTHROPIC)], "");
    assert_eq!(both.send(&count).expect(200).json()["input_tokens"], 777);
    let alone = gateway(&[(&openai, CHAT)], "");
    assert!(alone.send(&count).expect(200).json()["input_tokens"].as_u64() > Some(1));
    assert_eq!(openai.count(), 0);
}

#[test]
fn an_error_that_cannot_be_read_keeps_its_status() {
    let unreadable = Reply::new(429)
        .header("content-type", "application/json")
        .header("content-encoding", "br")
        .header("retry-after", "7")
        .body("\u{2}abc");
    let upstream = Upstream::always(unreadable);
    let gateway = gateway(&[(&upstream, GEMINI)], "");
    let answer = gateway.send(&Surface::Chat.ask("m", "hi", false)).expect(429);
    assert_eq!((answer.header("retry-after"), answer.header("content-encoding")), (Some("7"), None));
    assert!(!answer.error_message().is_empty());
}

#[test]
fn a_redirection_is_no_answer() {
    let upstream = Upstream::always(Reply::new(302).header("location", "http://elsewhere/").body("<html>"));
    let gateway = gateway(&[(&upstream, CHAT)], "");
    let answer = gateway.send(&Surface::Messages.ask("m", "hi", false)).expect(502);
    assert_eq!(answer.header("location"), None);
}
