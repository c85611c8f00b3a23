//! Which headers of a message concern the other side, and what kind of body they announce.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Whether a header concerns one connection only.
///
/// Source: RFC 9110, section 7.6.1, and `keep-alive` and `proxy-connection`, which are older than it.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
    )
}

/// Whether a client tells it this gateway and not the upstream, which is sent its own of each.
fn is_for_this_side(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "expect" | "proxy-authorization")
}

/// Whether a proxy before this gateway says in it where a client is, or how it came.
///
/// An upstream is not told by itself: the address of a person is nobody's business who was not chosen for it, and what a
/// client made up must not pass for this gateway's word. A plugin that edits upstream requests may add such a header.
fn is_about_the_client(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(
            name,
            "forwarded"
                | "x-real-ip"
                | "x-client-ip"
                | "x-cluster-client-ip"
                | "x-original-forwarded-for"
                | "x-envoy-external-address"
                | "x-azure-clientip"
                | "true-client-ip"
                | "cf-connecting-ip"
                | "cf-connecting-ipv6"
                | "fastly-client-ip"
        )
}

/// Whether a header is this gateway's to set: what describes the connection and the framing, and what identifies the
/// exchange.
pub(crate) fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    is_hop_by_hop(name)
        || is_for_this_side(name)
        || matches!(name, "content-encoding" | "accept-encoding" | "x-request-id" | "server-timing")
        || name.starts_with("x-witgate-")
}

/// The kinds of bodies that are treated differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Server-sent events.
    EventStream,
    /// One JSON document.
    Json,
    /// Anything else.
    Other,
}

impl Kind {
    /// Reads the content type.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let essence = value.split(';').next().unwrap_or("").trim();
        if essence.eq_ignore_ascii_case("text/event-stream") {
            Self::EventStream
        } else if essence.eq_ignore_ascii_case("application/json") {
            Self::Json
        } else {
            Self::Other
        }
    }
}

/// The headers of an event stream of the gateway's own.
pub(crate) fn event_stream() -> HeaderMap {
    let value = HeaderValue::from_static("text/event-stream; charset=utf-8");
    HeaderMap::from_iter([(header::CONTENT_TYPE, value)])
}

/// Removes what concerns one connection only, the headers that `Connection` names included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    strip_named_by_connection(headers);
    strip(headers, is_hop_by_hop);
}

/// Removes what must not travel on to an upstream: what concerns the client's connection only, what the upstream is sent
/// its own of, and where the client is.
pub(crate) fn strip_for_upstream(headers: &mut HeaderMap) {
    strip_named_by_connection(headers);
    strip(headers, |name| is_hop_by_hop(name) || is_for_this_side(name) || is_about_the_client(name));
}

/// Removes what lets pages of other origins read a message: what an upstream allows is not what this gateway allows.
pub(crate) fn strip_cors(headers: &mut HeaderMap) {
    strip(headers, |name| name.starts_with("access-control-"));
}

/// Removes each header that a `Connection` header names, by looking it up: the cost grows with the length of the list
/// and not with the number of headers times that.
fn strip_named_by_connection(headers: &mut HeaderMap) {
    let lists: Vec<HeaderValue> = headers.get_all(header::CONNECTION).iter().cloned().collect();
    for name in lists.iter().flat_map(|list| list.as_bytes().split(|byte| *byte == b',')) {
        // What is no header's name cannot name one.
        if let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) {
            headers.remove(name);
        }
    }
}

/// Removes the headers whose names, in lower case, are of a kind.
///
/// Most kinds have many names of which few are there. Asking each header is cheaper than looking each name up, which
/// would hash it.
pub(crate) fn strip(headers: &mut HeaderMap, is_of_kind: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_of_kind(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut map = headers(&[
            ("connection", "close, X-Secret,, no name"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-secret", "2"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn an_upstream_is_not_told_where_a_client_is() {
        let mut map = headers(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=192.0.2.1"),
            ("x-real-ip", "192.0.2.1"),
            ("cf-connecting-ip", "192.0.2.1"),
            ("x-forwarded", "1"),
        ]);
        strip_for_upstream(&mut map);
        assert_eq!(map, headers(&[("x-forwarded", "1")]));
    }

    #[test]
    fn a_list_that_is_no_text_still_names_headers() {
        let mut map = headers(&[("x-secret", "1"), ("x-kept", "1")]);
        map.insert(header::CONNECTION, HeaderValue::from_bytes(b"\xff, x-secret").unwrap());
        strip_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn every_header_of_a_large_head_is_asked_once() {
        let names = (0..10_000).map(|index| HeaderName::try_from(format!("x-{index}")).unwrap());
        let mut map: HeaderMap = names.map(|name| (name, HeaderValue::from_static("1"))).collect();
        let asked = std::cell::Cell::new(0);
        strip(&mut map, |_| {
            asked.set(asked.get() + 1);
            true
        });
        assert!(map.is_empty());
        assert_eq!(asked.get(), 10_000);
    }

    #[test]
    fn what_an_upstream_allows_other_origins_goes() {
        let mut map = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("vary", "origin"),
        ]);
        strip_cors(&mut map);
        assert_eq!(map, headers(&[("vary", "origin")]));
    }

    #[test]
    fn a_content_type_is_read_with_its_parameters() {
        for (value, kind) in [
            ("text/event-stream", Kind::EventStream),
            ("text/event-stream; charset=utf-8", Kind::EventStream),
            ("Application/JSON;charset=UTF-8", Kind::Json),
            ("text/plain", Kind::Other),
        ] {
            assert_eq!(Kind::of(&headers(&[("content-type", value)])), kind, "{value}");
        }
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::Other);
    }
}
