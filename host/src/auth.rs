//! Who is calling: the credential of a request, wherever the client's SDK puts it, and what the caller may do.

mod gate;
mod jwt;

use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;

use crate::config::Tenant;
use crate::config::secret::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::headers;
use crate::wire::{Dialect, Endpoint};

pub(crate) use crate::auth::gate::{Gate, Recognised, hash};
pub(crate) use crate::config::Account;

/// Anthropic's header for a key.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Azure's header for a key.
const API_KEY: HeaderName = HeaderName::from_static("api-key");
/// Google's header for a key.
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Who sent a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    /// The key the request came with; it is in no header any more, and gone if it was one of the gateway's own.
    pub(crate) credential: Option<Secret>,
    /// The client's dialect if that came as a bearer's token: the vendor takes some tokens, as those of a login, only so.
    pub(crate) bearer_of: Option<Dialect>,
    /// The name of the key, if the gateway or a plugin knows it.
    pub(crate) key: Option<Arc<str>>,
    /// Whom it belongs to.
    pub(crate) tenant: Option<Arc<str>>,
    /// What the configuration says of it, if it came with a key of the gateway's own.
    pub(crate) account: Option<Arc<Account>>,
    /// The upstreams that may answer it, if it has no account, as its tenant's; none listed means all.
    pub(crate) upstreams: Vec<Arc<str>>,
    /// How limits name it where they tell callers apart by a header, which may be gone by now.
    pub(crate) mark: Option<String>,
}

impl Caller {
    /// The caller that an account is for; what it presented has done its work.
    pub(crate) fn of(account: Arc<Account>) -> Self {
        let (key, tenant) = (Some(account.name.clone()), account.tenant.clone());
        Self { key, tenant, account: Some(account), ..Self::default() }
    }

    /// The caller that a plugin names, of one of these tenants or another one; what it presented is not for an upstream.
    pub(crate) fn named(key: Option<Arc<str>>, tenant: Option<Arc<str>>, tenants: &[Tenant]) -> Self {
        let known = tenants.iter().find(|known| tenant.as_ref() == Some(&known.name));
        let upstreams = known.map(|known| known.upstreams.clone()).unwrap_or_default();
        Self { key, tenant, upstreams, ..Self::default() }
    }

    /// Refuses an endpoint that the key is not for.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub(crate) fn check_endpoint(&self, endpoint: Endpoint) -> Result<()> {
        match &self.account {
            Some(account) if !account.may_use_endpoint(endpoint) => {
                Err(forbidden(format!("the key may not use this endpoint, `{}`", endpoint.label())))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a model that the key is not for.
    ///
    /// # Errors
    ///
    /// `Forbidden`.
    pub(crate) fn check_model(&self, model: &str) -> Result<()> {
        if self.may_use_model(model) {
            return Ok(());
        }
        Err(forbidden(format!("the key may not use the model `{model}`")))
    }

    /// Whether it may use a model, by the name that clients use.
    pub(crate) fn may_use_model(&self, model: &str) -> bool {
        self.account.as_ref().is_none_or(|account| account.may_use_model(model))
    }

    /// Whether an upstream of this name may answer it.
    pub(crate) fn may_use_upstream(&self, name: &str) -> bool {
        let pinned = self.pinned();
        pinned.is_empty() || pinned.iter().any(|upstream| **upstream == *name)
    }

    /// Whether not every upstream may answer it.
    pub(crate) fn is_pinned(&self) -> bool {
        !self.pinned().is_empty()
    }

    fn pinned(&self) -> &[Arc<str>] {
        self.account.as_ref().map_or(&self.upstreams, |account| &account.upstreams)
    }

    /// Whether it may use paths that nobody knows, where callers have to say who they are.
    pub(crate) fn may_pass_through(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.may_pass_through)
    }
}

/// What a caller is told that may not do what it asks for.
pub(crate) fn forbidden(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Forbidden, message)
}

/// Takes the credential out of a request, so that nothing further on can send it by accident.
///
/// `Authorization: Bearer`, `x-api-key`, `x-goog-api-key`, `api-key` and `?key=` are understood, in this order; all of them and
/// cookies are removed.
pub(crate) fn identify(request: &mut Parts) -> Caller {
    let credential = credential(request);
    let is_bearer = bearer(&request.headers).is_some_and(|token| !token.is_empty());
    let bearer_of = is_bearer.then(|| Dialect::of(request.uri.path(), &request.headers));
    headers::strip(&mut request.headers, |name| {
        matches!(name, "authorization" | "x-api-key" | "x-goog-api-key" | "api-key" | "cookie")
    });
    // Taken out of the query in any case: it must not travel on beside a header either.
    strip_query_key(request);
    Caller { credential, bearer_of, ..Caller::default() }
}

/// What a request presents first, in the order of [`identify`]; it stays there.
pub(crate) fn credential(request: &Parts) -> Option<Secret> {
    credentials(request).next().map(Secret::new)
}

/// All that a request presents, in the order of [`identify`]; it stays there.
pub(crate) fn credentials(request: &Parts) -> impl Iterator<Item = &str> {
    let headers = &request.headers;
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    let pairs = request.uri.query().unwrap_or_default().split('&');
    let from_query = pairs.filter_map(|pair| pair.strip_prefix("key=")).take(1);
    let from_headers = [bearer(headers), text(X_API_KEY), text(X_GOOG_API_KEY), text(API_KEY)];
    from_headers.into_iter().flatten().chain(from_query).filter(|key| !key.is_empty())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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
