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
pub(crate) fn allow(origin: &HeaderValue, origins: &[String], headers: &mut HeaderMap) -> bool {
    let is_any = origins.iter().any(|allowed| allowed == "*");
    if !is_any && !origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        return false;
    }
    let value = if is_any { HeaderValue::from_static("*") } else { origin.clone() };
    let is_new = headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value).is_none();
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    if is_new {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    true
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
}
