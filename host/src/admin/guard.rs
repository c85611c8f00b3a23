//! Who may ask the admin listener for what.

use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName};
use http::request;

use crate::config::Server;
use crate::config::secret::Secret;
use crate::error::{Error, ErrorKind, Result};

/// Refuses a request to another name: a page whose name was made to lead here, "DNS rebinding", keeps its own.
///
/// # Errors
///
/// `Misdirected`.
pub(super) fn check_host(head: &request::Parts, server: &Server, bound: SocketAddr) -> Result<()> {
    let host = host(head);
    let is_known = host == bound.to_string()
        || host == format!("localhost:{}", bound.port())
        || host == "localhost"
        || server.admin_hosts.iter().any(|allowed| allowed == host);
    if is_known {
        return Ok(());
    }
    let message = format!("`{host}` is not a name of this listener; add it to `server.admin_hosts`");
    Err(Error::new(ErrorKind::Misdirected, message))
}

/// Refuses a request without the token, if there is one.
///
/// # Errors
///
/// `Unauthenticated`.
pub(super) fn check_token(head: &request::Parts, token: Option<&Secret>) -> Result<()> {
    let Some(token) = token else { return Ok(()) };
    let given = text(&head.headers, header::AUTHORIZATION).split_once(' ');
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, key)| key);
    if token.is_same_as(given.trim()) {
        return Ok(());
    }
    let message = "the admin listener wants `Authorization: Bearer` with `server.admin_token`";
    Err(Error::new(ErrorKind::Unauthenticated, message))
}

/// Refuses what a foreign page could send: what changes something comes as JSON, which such a page cannot send without
/// asking first, and from no other origin.
///
/// # Errors
///
/// `InvalidRequest` for another content type, `Forbidden` for another origin.
pub(super) fn check_writer(head: &request::Parts) -> Result<()> {
    let content_type = text(&head.headers, header::CONTENT_TYPE);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        let message = "send `content-type: application/json`";
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    let is_foreign = head.headers.contains_key(header::ORIGIN)
        && text(&head.headers, header::ORIGIN).split_once("://").map(|(_, origin)| origin)
            != Some(host(head));
    if is_foreign {
        let message = "pages of other origins may not change anything here";
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    Ok(())
}

/// The name the client asked for; HTTP/2 has it in the target.
fn host(head: &request::Parts) -> &str {
    let from_target = || head.uri.authority().map_or("", |authority| authority.as_str());
    Some(text(&head.headers, header::HOST)).filter(|host| !host.is_empty()).unwrap_or_else(from_target)
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::config::ErrorCompat;
    use crate::wire::openai;

    fn head(headers: &[(&str, &str)]) -> request::Parts {
        let builder =
            headers.iter().fold(Request::post("/"), |builder, (name, value)| builder.header(*name, *value));
        builder.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn check(outcome: Result<()>, status: u16) {
        let given =
            outcome.map_or_else(|error| openai::error_status(&error, ErrorCompat::OpenAi).as_u16(), |()| 200);
        assert_eq!(given, status);
    }

    #[test]
    fn the_token_is_a_bearer_token_and_nothing_else() {
        let token = Secret::new("s3cret");
        for (given, status) in [
            ("Bearer s3cret", 200),
            ("bearer s3cret", 200),
            ("Bearer  s3cret ", 200),
            ("Bearer s3cres", 401),
            ("Bearer s3cret2", 401),
            ("Bearer ", 401),
            ("s3cret", 401),
            ("Basic s3cret", 401),
            ("", 401),
        ] {
            check(check_token(&head(&[("authorization", given)]), Some(&token)), status);
        }
        check(check_token(&head(&[]), Some(&token)), 401);
        check(check_token(&head(&[]), None), 200);
    }

    #[test]
    fn only_json_of_the_same_origin_changes_something() {
        let with = |content_type, origin: Option<&str>| {
            let mut headers = vec![("host", "localhost:1"), ("content-type", content_type)];
            headers.extend(origin.map(|origin| ("origin", origin)));
            check_writer(&head(&headers))
        };
        check(with("application/json", None), 200);
        check(with("Application/JSON; charset=utf-8", Some("http://localhost:1")), 200);
        check(with("application/jsonp", None), 400);
        check(with("text/plain", None), 400);
        check(with("", None), 400);
        for foreign in
            ["https://evil.example", "null", "", "localhost:1", "http://localhost:2", "http://\u{e9}"]
        {
            check(with("application/json", Some(foreign)), 403);
        }
    }
}
