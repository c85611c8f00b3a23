//! Answers to browsers that ask whether a page may call this gateway.
//!
//! Source: the Fetch standard, section 3.2 (CORS protocol).

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode, request};

/// The methods a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS");
/// How long a browser may remember the answer, in seconds.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("600");

/// Whether the request is a browser's question and not a call.
pub(crate) fn is_preflight(head: &request::Parts) -> bool {
    head.method == Method::OPTIONS
        && head.headers.contains_key(header::ORIGIN)
        && head.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a browser's question: 204 with leave for an origin that is allowed, else without.
pub(crate) fn preflight(asked: &HeaderMap, origins: &[String]) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    if asked.get(header::ORIGIN).is_some_and(|origin| allow(origin, origins, &mut headers)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }
    (StatusCode::NO_CONTENT, headers)
}

/// Lets a page read an answer if its origin is allowed; says whether it is.
///
/// Where any origin is configured the answer depends on who asks, refusals included, and caches are told so.
pub(crate) fn allow(origin: &HeaderValue, origins: &[String], headers: &mut HeaderMap) -> bool {
    if !origins.is_empty() && !varies_by_origin(headers) {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    let is_any = origins.iter().any(|allowed| allowed == "*");
    if !is_any && !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        return false;
    }
    let value = if is_any { HeaderValue::from_static("*") } else { origin.clone() };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    true
}

/// Whether caches have been told already.
fn varies_by_origin(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(header::VARY);
    let mut names = lists.iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    names.any(|name| name.trim_ascii() == b"*" || name.trim_ascii().eq_ignore_ascii_case(b"origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(origins: &[&str], origin: &'static str, allowed: Option<&str>) {
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let asked = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
        let (status, headers) = preflight(&asked, &origins);
        assert_eq!(status, StatusCode::NO_CONTENT);
        let value = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
        assert_eq!(value, allowed);
    }

    #[test]
    fn only_configured_origins_are_allowed() {
        // parity: 24
        check(&[], "https://a.example", None);
        check(&["https://a.example"], "https://a.example", Some("https://a.example"));
        check(&["https://a.example"], "https://b.example", None);
        check(&["*"], "https://b.example", Some("*"));
    }

    #[track_caller]
    fn check_vary(origins: &[&str], before: &[&'static str], after: &[&str]) {
        let origins: Vec<String> = origins.iter().map(ToString::to_string).collect();
        let before = before.iter().map(|value| (header::VARY, HeaderValue::from_static(value)));
        let mut headers: HeaderMap = before.collect();
        // An upstream's own leave does not change what caches have to know.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("null"));
        allow(&HeaderValue::from_static("https://a.example"), &origins, &mut headers);
        let values: Vec<_> = headers.get_all(header::VARY).iter().collect();
        assert_eq!(values, after);
    }

    #[test]
    fn caches_are_told_once_that_origins_differ() {
        check_vary(&[], &[], &[]);
        check_vary(&["https://a.example"], &[], &["origin"]);
        check_vary(&["https://b.example"], &[], &["origin"]);
        check_vary(&["*"], &["accept-encoding"], &["accept-encoding", "origin"]);
        check_vary(&["*"], &["accept-encoding, Origin"], &["accept-encoding, Origin"]);
        check_vary(&["*"], &["*"], &["*"]);
    }
}
