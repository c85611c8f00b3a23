//! When an upstream wants to be asked again, which Google says in the body of its refusal.

use witgate_tests::{Gateway, Reply, Upstream, Vendor};

use super::entry;
use super::surface::Surface;

const REFUSAL: &str = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"36.2s"}]}}"#;

// parity: 107
#[test]
fn every_client_is_told_how_long_google_wants_it_to_wait() {
    let upstream = Upstream::always(Reply::json(429, REFUSAL));
    let gateway = Gateway::start(&format!(
        "retry: {{ attempts_max: 1 }}\nupstreams:\n{}",
        entry("one", Vendor::Gemini, &upstream, "api_key: k, default: true")
    ));
    for surface in Surface::ALL {
        for is_stream in [false, true] {
            let answer = gateway.send(&surface.ask("m", "hi", is_stream)).expect(429);
            assert_eq!(answer.header("retry-after"), Some("37"), "{surface:?}, streamed: {is_stream}");
            assert_eq!(surface.error(&answer), "quota");
        }
    }
}

#[test]
fn googles_own_clients_read_the_refusal_as_it_stands() {
    let upstream = Upstream::always(Reply::json(429, REFUSAL));
    let gateway = Gateway::start(&format!(
        "retry: {{ attempts_max: 1 }}\nupstreams:\n{}",
        entry("one", Vendor::Gemini, &upstream, "api_key: k, default: true")
    ));
    let answer = gateway.send(&Surface::Gemini.ask("m", "hi", false)).expect(429);
    assert_eq!(answer.text(), REFUSAL);
}

#[test]
fn a_key_rests_for_as_long_as_google_wants() {
    let upstream = Upstream::new(|request| match request.header("x-goog-api-key") {
        Some("a") => Reply::json(429, REFUSAL),
        _ => Vendor::Gemini.answer(request),
    });
    // Without the upstream's word a key would rest for hardly any time.
    let gateway = Gateway::start(&format!(
        "retry: {{ attempts_max: 2 }}\nbreaker: {{ cooldown: 1ms }}\nupstreams:\n{}",
        entry("one", Vendor::Gemini, &upstream, "api_keys: [a, b], default: true")
    ));
    for _ in 0..4 {
        gateway.send(&Surface::Gemini.ask("gem.plain", "hi", false)).expect(200);
    }
    let refused =
        upstream.requests().iter().filter(|asked| asked.header("x-goog-api-key") == Some("a")).count();
    assert_eq!(refused, 1, "the key was not left alone");
}
