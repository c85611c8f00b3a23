//! Errors, both ways.

use bytes::Bytes;
use http::StatusCode;

use crate::chat::ApiError;
use crate::error::Result;
use crate::wire::gemini::object::Object;
use crate::wire::gemini::value::{self, Value};
use crate::wire::json::Kind;

/// How much of a body that is no error of Google's a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 512;

/// Anthropic's status for a service that is overloaded.
const OVERLOADED: u16 = 529;

/// Google's words for statuses, of which the first is written for each.
///
/// Source: googleapis, `google/rpc/code.proto`, and Gemini API documentation, "Troubleshooting guide"; seen 2026-11.
const STATUSES: [(u16, &str); 17] = [
    (400, "INVALID_ARGUMENT"),
    (400, "FAILED_PRECONDITION"),
    (400, "OUT_OF_RANGE"),
    (401, "UNAUTHENTICATED"),
    (403, "PERMISSION_DENIED"),
    (404, "NOT_FOUND"),
    (409, "ABORTED"),
    (409, "ALREADY_EXISTS"),
    (429, "RESOURCE_EXHAUSTED"),
    (499, "CANCELLED"),
    (500, "INTERNAL"),
    (500, "UNKNOWN"),
    (500, "DATA_LOSS"),
    (501, "UNIMPLEMENTED"),
    (503, "UNAVAILABLE"),
    (504, "DEADLINE_EXCEEDED"),
    (408, "DEADLINE_EXCEEDED"),
];

/// Reads an error: an object, or a list with one.
pub fn decode_error(status: StatusCode, body: &[u8]) -> ApiError {
    let mut error = ApiError { status, message: String::new(), kind: None, code: None, param: None };
    let read = value::read(body, |value| {
        value.one_or_more(|value| {
            if value.kind() != Some(Kind::Object) {
                return Ok(());
            }
            value.members(
                |name, value| if name == "error" { read(value, &mut error).map(drop) } else { Ok(()) },
            )
        })
    });
    // Whatever was read before it went wrong is better than nothing.
    let _ = read;
    if error.message.is_empty() {
        error.message = shown(status, body);
    }
    error
}

fn shown(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES_MAX)]);
    match text.trim() {
        "" => format!("the upstream answered {status}"),
        text => format!("the upstream answered {status}: {text}"),
    }
}

/// Reads what `error` says, in bodies and in streams, and returns its code. What is of another type than it should be says
/// nothing: an error of an unknown shape is an error all the same.
fn read(value: &mut Value<'_, '_>, error: &mut ApiError) -> Result<Option<u64>> {
    let mut code = None;
    match value.kind() {
        Some(Kind::String) => error.message = value.text()?.into_owned(),
        Some(Kind::Object) => value.members(|name, value| {
            match (name, value.kind()) {
                ("message", Some(Kind::String)) => error.message = value.text()?.into_owned(),
                ("status", Some(Kind::String)) => error.kind = Some(value.text()?.into_owned()),
                ("code", Some(Kind::Number)) => code = value.json()?.parse().ok(),
                ("details", Some(Kind::Array)) => value.elements(|value| detail(value, error))?,
                _ => {}
            }
            Ok(())
        })?,
        _ => {}
    }
    Ok(code)
}

/// Source: googleapis, `google/rpc/error_details.proto`, `ErrorInfo` and `BadRequest`.
fn detail(value: &mut Value<'_, '_>, error: &mut ApiError) -> Result<()> {
    if value.kind() != Some(Kind::Object) {
        return Ok(());
    }
    value.members(|name, value| {
        match (name, value.kind()) {
            ("reason", Some(Kind::String)) => error.code = Some(value.text()?.into_owned()),
            ("field", Some(Kind::String)) => error.param = Some(value.text()?.into_owned()),
            ("fieldViolations", Some(Kind::Array)) => value.elements(|value| detail(value, error))?,
            _ => {}
        }
        Ok(())
    })
}

/// Reads an error that came in a stream: it says its status itself.
pub(super) fn of_stream(value: &mut Value<'_, '_>) -> Result<ApiError> {
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    let mut error = ApiError { status, message: String::new(), kind: None, code: None, param: None };
    let code = read(value, &mut error)?;
    let told = code.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code));
    let by_word = STATUSES.iter().find(|(_, word)| Some(*word) == error.kind.as_deref());
    let status = told.or_else(|| by_word.map(|(status, _)| *status));
    error.status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(error.status);
    if error.message.is_empty() {
        "the upstream's stream ended with an error".clone_into(&mut error.message);
    }
    Ok(error)
}

/// Writes an error.
pub fn encode_error(error: &ApiError) -> Bytes {
    let mut object = Object::default();
    // Google has no word of its own for what only Anthropic's servers say.
    let code = error.status.as_u16();
    object.plain("code", if code == OVERLOADED { StatusCode::SERVICE_UNAVAILABLE.as_u16() } else { code });
    object.text("message", &error.message);
    object.text("status", word(error));
    if let Some(param) = &error.param {
        let mut violation = Object::default();
        violation.text("field", param);
        violation.text("description", &error.message);
        let details = object.member("details");
        details.extend_from_slice(
            br#"[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":["#,
        );
        details.append(&mut violation.finish());
        details.extend_from_slice(b"]}]");
    }
    let mut whole = Object::default();
    whole.member("error").append(&mut object.finish());
    whole.finish().into()
}

/// Google's word for an error's status: its own if it has one.
fn word(error: &ApiError) -> &str {
    let own = STATUSES.iter().find(|(_, word)| Some(*word) == error.kind.as_deref());
    let code = error.status.as_u16();
    let by_status = || STATUSES.iter().find(|(status, _)| *status == code);
    let near = match code {
        400..500 => "INVALID_ARGUMENT",
        502 | OVERLOADED => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    own.or_else(by_status).map_or(near, |(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, message: &str, kind: Option<&str>) {
        let status = StatusCode::from_u16(status).unwrap();
        let error = decode_error(status, body.as_bytes());
        assert_eq!((error.status, &*error.message, error.kind.as_deref()), (status, message, kind));
    }

    // parity: 107
    #[test]
    fn an_error_is_read_whatever_it_stands_in() {
        let quota = r#"{"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[]}}"#;
        check(429, quota, "quota", Some("RESOURCE_EXHAUSTED"));
        check(429, &format!("[{quota}]"), "quota", Some("RESOURCE_EXHAUSTED"));
        check(500, r#"{"error":"x"}"#, "x", None);
        check(502, "<html>", "the upstream answered 502 Bad Gateway: <html>", None);
        check(503, "", "the upstream answered 503 Service Unavailable", None);
        check(400, r#"{"error":{"message":"m","status":5}}"#, "m", None);
    }

    #[test]
    fn the_reason_and_the_field_of_an_error_are_found() {
        let body = br#"{"error":{"code":400,"message":"bad key","status":"INVALID_ARGUMENT","details":[
            {"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"},
            {"@type":"x","fieldViolations":[{"field":"contents[0]"}]}]}}"#;
        let error = decode_error(StatusCode::BAD_REQUEST, body);
        assert_eq!(error.code.as_deref(), Some("API_KEY_INVALID"));
        assert_eq!(error.param.as_deref(), Some("contents[0]"));
    }

    #[track_caller]
    fn check_word(status: u16, kind: Option<&str>, expected: &str) {
        let error = ApiError {
            status: StatusCode::from_u16(status).unwrap(),
            message: "m".into(),
            kind: kind.map(str::to_owned),
            code: None,
            param: None,
        };
        let body = format!(r#"{{"error":{{"code":{status},"message":"m","status":"{expected}"}}}}"#);
        assert_eq!(encode_error(&error), body);
    }

    // parity: 107
    #[test]
    fn every_status_has_a_word() {
        check_word(400, None, "INVALID_ARGUMENT");
        check_word(400, Some("FAILED_PRECONDITION"), "FAILED_PRECONDITION");
        check_word(400, Some("invalid_request_error"), "INVALID_ARGUMENT");
        check_word(401, None, "UNAUTHENTICATED");
        check_word(403, None, "PERMISSION_DENIED");
        check_word(404, None, "NOT_FOUND");
        check_word(413, None, "INVALID_ARGUMENT");
        check_word(429, None, "RESOURCE_EXHAUSTED");
        check_word(500, None, "INTERNAL");
        check_word(502, None, "UNAVAILABLE");
        check_word(503, None, "UNAVAILABLE");
        check_word(504, None, "DEADLINE_EXCEEDED");
        let error = ApiError {
            status: StatusCode::from_u16(OVERLOADED).unwrap(),
            message: "m".into(),
            kind: Some("overloaded_error".into()),
            code: None,
            param: None,
        };
        assert_eq!(encode_error(&error), r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#);
    }
}
