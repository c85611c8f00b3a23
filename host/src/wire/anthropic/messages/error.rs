//! Errors, by their types and by their statuses.
//!
//! Source: Anthropic, API reference, "Errors"; the client for Python, 2.12, `shared/error_type.py`; seen 2026-11.

use bytes::Bytes;
use http::StatusCode;

use crate::chat::ApiError;
use crate::wire::json::{Members, Writer};

/// How much of a body that is no error of this API is shown to a client, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Anthropic's status for "overloaded", which HTTP has no name for.
const OVERLOADED: u16 = 529;

/// Reads an error; `body` may be anything.
pub fn decode_error(status: StatusCode, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    Members::of(&text).and_then(|members| read(members, Some(status))).unwrap_or_else(|| ApiError {
        status,
        message: plain_message(status, &text),
        kind: Some(kind_of(status).to_owned()),
        code: None,
        param: None,
    })
}

/// Reads the error in the data of an event.
pub(super) fn decode_event(data: &str) -> ApiError {
    Members::of(data).and_then(|members| read(members, None)).unwrap_or_else(|| ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: "the upstream failed without saying why".to_owned(),
        kind: Some("api_error".to_owned()),
        code: None,
        param: None,
    })
}

/// Reads `{"error":{"type":…,"message":…}}`. Without a status the type tells it.
fn read(body: Members<'_>, status: Option<StatusCode>) -> Option<ApiError> {
    let error = body.get("error")?;
    let Some(error) = Members::of(error) else {
        // Proxies in front of the API write a bare text.
        let message = serde_json::from_str(error).ok()?;
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Some(ApiError {
            status,
            message,
            kind: Some(kind_of(status).to_owned()),
            code: None,
            param: None,
        });
    };
    let kind = error.string("type");
    let status =
        status.unwrap_or_else(|| kind.as_deref().map_or(StatusCode::INTERNAL_SERVER_ERROR, status_of));
    let message = error.string("message");
    let message = message.unwrap_or_else(|| format!("the upstream answered with status {}", status.as_u16()));
    let code = error.object("details").and_then(|details| details.string("error_code"));
    Some(ApiError {
        status,
        message,
        kind: kind.or_else(|| Some(kind_of(status).to_owned())),
        code,
        param: None,
    })
}

/// What is said of a body that is not of this API: its text, unless it is a page or too long.
fn plain_message(status: StatusCode, text: &str) -> String {
    let text = text.trim();
    let is_text = !text.is_empty() && text.len() <= TEXT_BYTES_MAX && !text.starts_with(['<', '{', '[']);
    if is_text { text.to_owned() } else { format!("the upstream answered with status {}", status.as_u16()) }
}

/// Writes an error as a body, or as the data of an event.
pub fn encode_error(error: &ApiError) -> Bytes {
    let mut out = Vec::with_capacity(error.message.len() + 80);
    let mut writer = Writer::new(&mut out);
    writer.string("type", "error");
    let mut inner = Writer::new(writer.member("error"));
    inner.string("type", kind_of(error.status));
    inner.string("message", &error.message);
    inner.finish();
    writer.finish();
    out.into()
}

/// The type of an error that is sent with a status.
fn kind_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | OVERLOADED => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The status that an error of a type is sent with.
fn status_of(kind: &str) -> StatusCode {
    match kind {
        "invalid_request_error" => StatusCode::BAD_REQUEST,
        "authentication_error" => StatusCode::UNAUTHORIZED,
        "billing_error" => StatusCode::PAYMENT_REQUIRED,
        "permission_error" => StatusCode::FORBIDDEN,
        "not_found_error" => StatusCode::NOT_FOUND,
        "conflict_error" | "memory_path_conflict_error" => StatusCode::CONFLICT,
        "request_too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "rate_limit_error" => StatusCode::TOO_MANY_REQUESTS,
        "timeout_error" => StatusCode::GATEWAY_TIMEOUT,
        "overloaded_error" => StatusCode::from_u16(OVERLOADED).expect("529 is a valid status"),
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, kind: &str, message: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = decode_error(status, body.as_bytes());
        assert_eq!(
            (error.status, error.kind.as_deref(), error.message.as_str()),
            (status, Some(kind), message)
        );
    }

    /// An error's type and status say the same, whichever is known.
    #[track_caller]
    fn check_type(kind: &str, status: u16) {
        let data = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"no"}}}}"#);
        let error = decode_event(&data);
        assert_eq!(error.status.as_u16(), status);
        assert_eq!(encode_error(&error), data);
    }

    // parity: 107
    #[test]
    fn a_type_and_its_status_say_the_same() {
        check_type("invalid_request_error", 400);
        check_type("authentication_error", 401);
        check_type("billing_error", 402);
        check_type("permission_error", 403);
        check_type("not_found_error", 404);
        check_type("conflict_error", 409);
        check_type("request_too_large", 413);
        check_type("rate_limit_error", 429);
        check_type("api_error", 500);
        check_type("timeout_error", 504);
        check_type("overloaded_error", 529);
        assert_eq!(kind_of(StatusCode::SERVICE_UNAVAILABLE), "overloaded_error");
        assert_eq!(kind_of(StatusCode::BAD_GATEWAY), "api_error");
        assert_eq!(kind_of(StatusCode::UNPROCESSABLE_ENTITY), "invalid_request_error");
    }

    #[test]
    fn an_error_is_read_from_whatever_the_body_is() {
        let own =
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"},"request_id":"r"}"#;
        check(429, own, "rate_limit_error", "slow down");
        check(400, r#"{"error":"no such thing"}"#, "invalid_request_error", "no such thing");
        check(401, r#"{"error":{"message":"who?"}}"#, "authentication_error", "who?");
        check(500, r#"{"error":{"type":7}}"#, "api_error", "the upstream answered with status 500");
        check(503, "try later", "overloaded_error", "try later");
        check(502, "<html>…</html>", "api_error", "the upstream answered with status 502");
        check(502, "", "api_error", "the upstream answered with status 502");
        check(500, r#"{"a":1}"#, "api_error", "the upstream answered with status 500");
        check(500, &"x".repeat(2000), "api_error", "the upstream answered with status 500");
    }

    #[test]
    fn a_details_code_is_kept() {
        let body = r#"{"error":{"type":"rate_limit_error","message":"m","details":{"error_code":"ramp"}}}"#;
        assert_eq!(
            decode_error(StatusCode::TOO_MANY_REQUESTS, body.as_bytes()).code.as_deref(),
            Some("ramp")
        );
    }
}
