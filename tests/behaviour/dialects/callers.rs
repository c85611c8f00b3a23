//! In which header a caller's own key goes on.

use witgate_tests::{Gateway, Request, Upstream, Vendor};

use super::entry;
use super::surface::Surface;

#[track_caller]
fn check(surface: Surface, vendor: Vendor, sent: (&str, &str), settings: &str, expected: [Option<&str>; 3]) {
    // What stands in for Google knows keys alone: a token of a login is one to it.
    let upstream = Upstream::new(move |request| {
        let mut request = request.clone();
        for (name, _) in request.headers.iter_mut().filter(|_| vendor == Vendor::Gemini) {
            if name == "authorization" {
                "x-goog-api-key".clone_into(name);
            }
        }
        vendor.answer(&request)
    });
    let settings = format!("default: true{settings}");
    let gateway = Gateway::start(&format!("upstreams:\n{}", entry("one", vendor, &upstream, &settings)));
    let model = format!("{}plain", vendor.prefix());
    gateway.send(&surface.ask(&model, "hi", false).header(sent.0, sent.1)).expect(200);
    let received = upstream.only();
    let got = ["authorization", "x-api-key", "x-goog-api-key"].map(|name| received.header(name));
    assert_eq!(got, expected, "{surface:?} to {vendor:?} with {sent:?}");
}

// parity: 109
#[test]
fn a_token_goes_on_as_it_came_to_an_upstream_of_the_clients_vendor() {
    let token = ("authorization", "Bearer sk-ant-oat01-x");
    check(Surface::Messages, Vendor::Anthropic, token, "", [Some(token.1), None, None]);
    let token = ("authorization", "Bearer ya29.x");
    check(Surface::Gemini, Vendor::Gemini, token, "", [Some(token.1), None, None]);
    let key = ("x-api-key", "sk-ant-x");
    check(Surface::Messages, Vendor::Anthropic, key, "", [None, Some(key.1), None]);
    let key = ("x-goog-api-key", "g");
    check(Surface::Gemini, Vendor::Gemini, key, "", [None, None, Some(key.1)]);
}

// parity: 109
#[test]
fn a_key_of_another_vendors_client_goes_where_the_upstream_takes_keys() {
    let key = ("authorization", "Bearer k");
    check(Surface::Chat, Vendor::Anthropic, key, "", [None, Some("k"), None]);
    check(Surface::Messages, Vendor::Gemini, key, "", [None, None, Some("k")]);
    check(Surface::Messages, Vendor::OpenAi, ("x-api-key", "k"), "", [Some("Bearer k"), None, None]);
}

#[test]
fn no_token_goes_beside_a_key_of_the_operators() {
    let token = ("authorization", "Bearer sk-ant-oat01-x");
    let own = ", headers: { x-api-key: own }";
    check(Surface::Messages, Vendor::Anthropic, token, own, [None, Some("own"), None]);
}

#[test]
fn a_token_lists_the_models_of_its_vendor() {
    let upstream = Vendor::Anthropic.upstream();
    let gateway = Gateway::start(&format!(
        "upstreams:\n{}",
        entry("one", Vendor::Anthropic, &upstream, "default: true")
    ));
    let request = Request::get("/v1/models")
        .header("authorization", "Bearer sk-ant-oat01-x")
        .header("anthropic-version", "2023-06-01");
    gateway.send(&request).expect(200);
    let received = upstream.last();
    assert_eq!(received.header("authorization"), Some("Bearer sk-ant-oat01-x"));
    assert_eq!(received.header("x-api-key"), None);
}
