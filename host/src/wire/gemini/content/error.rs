//! Errors, both ways.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use crate::chat::ApiError;
use crate::error::Result;
use crate::wire::json::{Cursor, Kind, Writer, cursor, object};

/// How much of a body that is no error of Google's a message shows, in bytes.
const SHOWN_BYTES_MAX: usize = 512;

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
    let read = cursor::read(body, |value| {
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

/// How long an error asks its reader to wait; none if it does not say, or no time at all.
///
/// Source: googleapis, `google/rpc/error_details.proto`, `RetryInfo`; Protocol Buffers documentation, "ProtoJSON Format",
/// `Duration`; seen 2026-11.
pub fn retry_delay(body: &[u8]) -> Option<Duration> {
    let mut delay = None;
    // Whatever was read before it went wrong is better than nothing.
    let _ = cursor::read(body, |value| {
        value.one_or_more(|value| {
            within(value, "error", |error| {
                within(error, "details", |details| {
                    if details.kind() != Some(Kind::Array) {
                        return Ok(());
                    }
                    details.elements(|detail| {
                        within(detail, "retryDelay", |value| {
                            if value.kind() == Some(Kind::String) {
                                delay = delay.or(duration(&value.text()?));
                            }
                            Ok(())
                        })
                    })
                })
            })
        })
    });
    delay
}

/// Reads one member of what may be an object.
fn within<'a>(
    value: &mut Cursor<'a, '_>,
    member: &str,
    mut read: impl FnMut(&mut Cursor<'a, '_>) -> Result<()>,
) -> Result<()> {
    if value.kind() != Some(Kind::Object) {
        return Ok(());
    }
    value.members(|name, value| if name == member { read(value) } else { Ok(()) })
}

/// Seconds, with a fraction, before an `s`.
fn duration(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero())
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
fn read(value: &mut Cursor<'_, '_>, error: &mut ApiError) -> Result<Option<u64>> {
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
fn detail(value: &mut Cursor<'_, '_>, error: &mut ApiError) -> Result<()> {
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
pub(super) fn of_stream(value: &mut Cursor<'_, '_>) -> Result<ApiError> {
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
    let mut whole = Writer::default();
    let mut inner = Writer::new(whole.member("error"));
    inner.plain("code", error.status.as_u16());
    inner.string("message", &error.message);
    inner.string("status", word(error));
    if let Some(param) = &error.param {
        let details = inner.member("details");
        details.extend_from_slice(
            br#"[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":["#,
        );
        object(details, |violation| {
            violation.string("field", param);
            violation.string("description", &error.message);
        });
        details.extend_from_slice(b"]}]");
    }
    inner.finish();
    whole.finish().into()
}

/// Google's word for an error's status: its own if it has one.
fn word(error: &ApiError) -> &str {
    let own = STATUSES.iter().find(|(_, word)| Some(*word) == error.kind.as_deref());
    let code = error.status.as_u16();
    let by_status = || STATUSES.iter().find(|(status, _)| *status == code);
    let near = match code {
        400..500 => "INVALID_ARGUMENT",
        502 | 529 => "UNAVAILABLE",
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

    #[track_caller]
    fn check_delay(delay: &str, expected_ms: Option<u64>) {
        let info = format!(
            r#"{{"error":{{"code":429,"details":[5,{{"@type":"x"}},{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{delay}}}]}}}}"#
        );
        for body in [format!("[{info}]"), info] {
            assert_eq!(retry_delay(body.as_bytes()), expected_ms.map(Duration::from_millis), "{body}");
        }
    }

    #[test]
    fn an_error_says_how_long_to_wait() {
        check_delay(r#""37s""#, Some(37_000));
        check_delay(r#""1.500s""#, Some(1500));
        for none in [r#""0s""#, r#""37""#, r#""-3s""#, r#""NaNs""#, r#""1e300s""#, "37", "null", "[]"] {
            check_delay(none, None);
        }
        for body in ["", "{", r#"{"error":"x"}"#, r#"{"error":{"details":{"retryDelay":"1s"}}}"#, "[[]]"] {
            assert_eq!(retry_delay(body.as_bytes()), None, "{body}");
        }
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
        check_word(529, None, "UNAVAILABLE");
    }
}
