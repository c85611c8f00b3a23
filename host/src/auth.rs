//! Who is calling: the credential of a request, wherever the client's SDK puts it.

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::config::secret::Secret;
use crate::config::{Glob, Quota};
use crate::headers;
use crate::wire::Endpoint;

/// Anthropic's header for a key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Azure's header for a key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Google's header for a key.
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// What the configuration says of a caller that it knows by a key.
#[derive(Debug)]
pub(crate) struct Account {
    /// The key's name.
    pub(crate) name: Arc<str>,
    /// Whom it belongs to.
    pub(crate) tenant: Option<Arc<str>>,
    /// The models it may use, by the names that clients use; none listed means all.
    pub(crate) models: Vec<Glob>,
    /// The endpoints it may use; none listed means all.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The upstreams that may answer it, by their names; none listed means all.
    pub(crate) upstreams: Vec<Arc<str>>,
    /// Whether it may use paths that nobody knows.
    pub(crate) may_pass_through: bool,
    /// How much it may use.
    pub(crate) quota: Quota,
}

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The key the request came with; it is in no header any more, and gone if it was one of the gateway's own.
    pub(crate) credential: Option<Secret>,
    /// The name of the key, if the gateway or a plugin knows it.
    pub(crate) key: Option<Arc<str>>,
    /// Whom it belongs to.
    pub(crate) tenant: Option<Arc<str>>,
    /// What the configuration says of it, if it came with a key of the gateway's own.
    pub(crate) account: Option<Arc<Account>>,
}

/// Takes the credential out of a request, so that nothing further on can send it by accident.
///
/// `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, `api-key` and `?key=` are understood, in this order; all of them and
/// cookies are removed.
pub(crate) fn identify(request: &mut Parts) -> Caller {
    let credential = credential(request);
    headers::strip(&mut request.headers, |name| {
        matches!(name, "authorization" | "x-api-key" | "x-goog-api-key" | "api-key" | "cookie")
    });
    // Taken out of the query in any case: it must not travel on beside a header either.
    strip_query_key(request);
    Caller { credential, ..Caller::default() }
}

/// What a request presents, in the order of [`identify`]; it stays there.
pub(crate) fn credential(request: &Parts) -> Option<Secret> {
    let from_query = || {
        let mut pairs = request.uri.query()?.split('&');
        pairs.find_map(|pair| pair.strip_prefix("key=")).map(Secret::new)
    };
    bearer(&request.headers)
        .or_else(|| text(&request.headers, &X_API_KEY))
        .or_else(|| text(&request.headers, &X_GOOG_API_KEY))
        .or_else(|| text(&request.headers, &API_KEY))
        .or_else(from_query)
        .filter(|key| !key.expose().is_empty())
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()))
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<Secret> {
    Some(Secret::new(headers.get(name)?.to_str().ok()?))
}

/// Removes `key` from the query.
fn strip_query_key(request: &mut Parts) {
    let Some(query) = request.uri.query() else { return };
    let (keys, others): (Vec<&str>, Vec<&str>) = query.split('&').partition(|pair| pair.starts_with("key="));
    if keys.is_empty() {
        return;
    }
    let path = request.uri.path();
    let kept = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
    let mut parts = std::mem::take(&mut request.uri).into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(kept).expect("a part of a valid path and query is valid"));
    request.uri = http::Uri::from_parts(parts).expect("only the query got shorter");
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(uri: &str, headers: &[(&str, &str)], credential: Option<&str>, uri_after: &str) {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (mut parts, ()) = builder.body(()).unwrap().into_parts();
        let caller = identify(&mut parts);
        assert_eq!(caller.credential.as_ref().map(Secret::expose), credential);
        assert_eq!(parts.uri.to_string(), uri_after);
        assert!(parts.headers.is_empty(), "{:?}", parts.headers);
    }

    #[test]
    fn a_credential_is_found_and_removed_wherever_it_is() {
        check("/v1/models", &[], None, "/v1/models");
        check("/v1/models", &[("authorization", "Bearer sk-1")], Some("sk-1"), "/v1/models");
        check("/v1/models", &[("authorization", "bearer  sk-1")], Some("sk-1"), "/v1/models");
        check("/v1/models", &[("authorization", "Basic abc")], None, "/v1/models");
        check("/v1/models", &[("x-api-key", "a"), ("cookie", "s=1")], Some("a"), "/v1/models");
        check(
            "/v1/models",
            &[("x-goog-api-key", "g"), ("authorization", "Bearer b")],
            Some("b"),
            "/v1/models",
        );
        check("/v1/models", &[("api-key", "z")], Some("z"), "/v1/models");
        check("/v1/models?key=k", &[], Some("k"), "/v1/models");
        check("/v1/models?a=1&key=k&b=2", &[], Some("k"), "/v1/models?a=1&b=2");
        check("/v1/models?key=", &[], None, "/v1/models");
        check("/v1/models?key=k&a=1", &[("authorization", "Bearer b")], Some("b"), "/v1/models?a=1");
    }
}
