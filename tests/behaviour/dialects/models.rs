//! Lists of models that come in pages.

use serde_json::{Value, json};
use witgate_tests::{Gateway, Received, Reply, Request, Upstream, Vendor};

use super::entry;

#[track_caller]
fn listed(gateway: &Gateway) -> Vec<String> {
    let list = gateway.send(&Request::get("/v1/models")).expect(200).json();
    let id = |model: &Value| model["id"].as_str().unwrap_or_default().to_owned();
    list["data"].as_array().expect("it is a list").iter().map(id).collect()
}

fn before(
    vendor: Vendor,
    script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (Gateway, Upstream) {
    let upstream = Upstream::new(script);
    let settings = "api_key: k, default: true";
    let gateway = Gateway::start(&format!("upstreams:\n{}", entry("one", vendor, &upstream, settings)));
    (gateway, upstream)
}

fn targets(upstream: &Upstream) -> Vec<String> {
    upstream.requests().iter().map(|request| request.target.clone()).collect()
}

// parity: 10
#[test]
fn models_behind_the_first_page_are_listed_and_found() {
    let (gateway, upstream) = before(Vendor::Anthropic, |request| {
        let page = match request.target.as_str() {
            "/v1/models?limit=1000" => json!({"data": [{"id": "a"}], "has_more": true, "last_id": "a"}),
            "/v1/models?limit=1000&after_id=a" => {
                json!({"data": [{"id": "b"}], "has_more": false, "last_id": "b"})
            }
            _ => return Reply::json(404, "{}"),
        };
        Reply::json(200, page.to_string())
    });
    assert_eq!(listed(&gateway), ["a", "b"]);
    gateway.send(&Request::get("/v1/models/b")).expect(200);
    assert_eq!(targets(&upstream).len(), 2, "{:?}", targets(&upstream));

    let (gateway, _upstream) = before(Vendor::Gemini, |request| {
        let page = match request.target.as_str() {
            "/v1beta/models?pageSize=1000" => {
                json!({"models": [{"name": "models/a"}], "nextPageToken": "x+/="})
            }
            "/v1beta/models?pageSize=1000&pageToken=x%2B%2F%3D" => json!({"models": [{"name": "models/b"}]}),
            _ => return Reply::json(404, "{}"),
        };
        Reply::json(200, page.to_string())
    });
    assert_eq!(listed(&gateway), ["a", "b"]);
}

#[test]
fn a_list_that_breaks_off_has_what_came_before() {
    let (gateway, _upstream) = before(Vendor::Anthropic, |request| {
        if request.target.contains("after_id") {
            return Reply::json(500, "{}");
        }
        Reply::json(200, r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#)
    });
    assert_eq!(listed(&gateway), ["a"]);
}

#[test]
fn a_list_without_an_end_has_one() {
    let (gateway, upstream) = before(Vendor::Anthropic, |_| {
        Reply::json(200, r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#)
    });
    assert_eq!(listed(&gateway), ["a"]);
    assert_eq!(upstream.count(), 20);
}
