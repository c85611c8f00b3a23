//! Which headers of a message concern the other side, and what kind of body they announce.

use http::header::{self, HeaderMap, HeaderName};

/// Headers that concern one connection only. Source: RFC 9110, section 7.6.1, and `keep-alive` and
/// `proxy-connection`, which are older than it.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
];

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

/// Removes what concerns one connection only, the headers that `Connection` names included.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(value) = headers.get(header::CONNECTION) {
        let named: Vec<HeaderName> = value
            .to_str()
            .unwrap_or("")
            .split(',')
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes what a client tells this gateway and not the upstream, which is sent its own of each.
pub(crate) fn strip_for_upstream(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT, header::PROXY_AUTHORIZATION] {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut map = headers(&[
            ("connection", "close, x-secret"),
            ("x-secret", "1"),
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
