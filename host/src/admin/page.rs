//! The operators' page: three files that are part of the program.
//!
//! They hold nothing secret and are given without a token; the page asks for one when the gateway wants it.

use std::sync::LazyLock;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use xxhash_rust::xxh3::xxh3_64;

/// The page loads its own files, asks its own listener, and nothing else: what is shown there was sent by anybody.
///
/// Source: Content Security Policy Level 3, section 6.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// One file of the page, as it is served.
struct File {
    path: &'static str,
    content_type: &'static str,
    body: Bytes,
    tag: HeaderValue,
}

impl File {
    fn new(path: &'static str, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let tag = format!("\"{:016x}\"", xxh3_64(&body));
        let tag = HeaderValue::try_from(tag).expect("digits and quotes are a header's value");
        Self { path, content_type, body, tag }
    }
}

static FILES: LazyLock<[File; 3]> = LazyLock::new(|| {
    let html = include_str!("page/index.html").replace("{version}", env!("CARGO_PKG_VERSION"));
    [
        File::new("/", "text/html; charset=utf-8", html),
        File::new("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
        File::new("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ]
});

/// Answers a GET or HEAD of one of the page's files; none if the path is none of them.
pub(super) fn answer(path: &str, asked: &HeaderMap) -> Option<(StatusCode, HeaderMap, Bytes)> {
    let file = FILES.iter().find(|file| file.path == path)?;
    if is_known(asked, &file.tag) {
        return Some((StatusCode::NOT_MODIFIED, headers(file), Bytes::new()));
    }
    let mut headers = headers(file);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.content_type));
    Some((StatusCode::OK, headers, file.body.clone()))
}

/// Whether the client has the file already.
///
/// Source: RFC 9110, section 13.1.2: a list of tags, compared weakly, or `*`.
fn is_known(asked: &HeaderMap, tag: &HeaderValue) -> bool {
    let lists = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

fn headers(file: &File) -> HeaderMap {
    let fixed = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    HeaderMap::from_iter([
        fixed(header::CONTENT_SECURITY_POLICY, POLICY),
        fixed(header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        fixed(header::REFERRER_POLICY, "no-referrer"),
        // Kept, but asked about each time: a newer gateway has a newer page.
        fixed(header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, file.tag.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(tags: &[&'static str]) -> HeaderMap {
        tags.iter().map(|tag| (header::IF_NONE_MATCH, HeaderValue::from_static(tag))).collect()
    }

    #[track_caller]
    fn text(path: &str) -> String {
        let (status, _, body) = answer(path, &HeaderMap::new()).unwrap();
        assert_eq!(status, StatusCode::OK);
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn each_file_has_its_type_and_the_policy() {
        for (path, content_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/page.js", "text/javascript; charset=utf-8"),
            ("/page.css", "text/css; charset=utf-8"),
        ] {
            let (status, headers, body) = answer(path, &HeaderMap::new()).unwrap();
            assert_eq!(status, StatusCode::OK);
            assert_eq!(headers["content-type"], content_type);
            assert_eq!(headers["content-security-policy"], POLICY);
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["referrer-policy"], "no-referrer");
            assert_eq!(headers["cache-control"], "no-cache");
            assert!(!body.is_empty());
        }
        assert!(answer("/page", &HeaderMap::new()).is_none());
        assert!(answer("/index.html", &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_file_that_the_client_has_is_not_sent_again() {
        let tag = answer("/", &HeaderMap::new()).unwrap().1["etag"].to_str().unwrap().to_owned();
        let asked_for = |value: String| {
            let asked =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::try_from(value).unwrap())]);
            let (status, headers, body) = answer("/", &asked).unwrap();
            assert_eq!(headers["etag"], *tag);
            assert_eq!(body.is_empty(), status == StatusCode::NOT_MODIFIED);
            status
        };
        assert_eq!(asked_for(tag.clone()), StatusCode::NOT_MODIFIED);
        assert_eq!(asked_for(format!("\"other\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(asked_for("*".to_owned()), StatusCode::NOT_MODIFIED);
        assert_eq!(asked_for("\"other\"".to_owned()), StatusCode::OK);
        assert_eq!(answer("/", &asked(&["\"one\"", "\"two\""])).unwrap().0, StatusCode::OK);
        // Each file has a tag of its own.
        let tags: Vec<_> = FILES.iter().map(|file| &file.tag).collect();
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
    }

    #[test]
    fn the_page_tells_its_version() {
        assert!(text("/").contains(concat!("witgate <span class=\"muted\">", env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn the_page_keeps_to_its_policy() {
        let html = text("/");
        for forbidden in ["<style", "style=", "<script>", " onclick", "http://", "https://", "javascript:"] {
            let found = html.replace("http://www.w3.org/2000/svg", "");
            assert!(!found.contains(forbidden), "{forbidden}");
        }
        let script = text("/page.js");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "import(",
        ] {
            assert!(!script.contains(forbidden), "{forbidden}");
        }
        let css = text("/page.css");
        assert!(!css.contains("url(") && !css.contains("@import"));
    }

    #[test]
    fn every_element_that_the_script_names_is_in_the_page() {
        let (html, script) = (text("/"), text("/page.js"));
        let is_call = |start: usize| !script[..start].ends_with(char::is_alphanumeric);
        let calls = script.match_indices("at(\"").filter(|(start, _)| is_call(*start));
        let named: Vec<&str> =
            calls.filter_map(|(start, call)| script[start + call.len()..].split('"').next()).collect();
        assert!(named.len() > 20);
        for id in named {
            assert!(html.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
}
