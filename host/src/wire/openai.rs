//! OpenAI's dialect: requests read and edited without losing a byte, and errors in its shape.

use bytes::Bytes;
use http::StatusCode;

use crate::config::ErrorCompat;
use crate::error::{Error, ErrorKind};
use crate::wire::json::quote;

pub mod answer;
pub mod assemble;
pub mod chat;
pub(in crate::wire) mod choices;
pub mod disassemble;
pub mod echo;
pub mod failure;
pub mod frame;
pub mod models;
pub mod responses;
pub mod stream;
pub mod thinking;
pub mod view;

/// The status an error is sent with.
///
/// GPT_API answers 422 for every request it cannot serve, an unknown model included.
pub fn error_status(error: &Error, compat: ErrorCompat) -> StatusCode {
    match (compat, &error.kind) {
        (
            ErrorCompat::GptApi,
            ErrorKind::InvalidRequest | ErrorKind::Inexpressible | ErrorKind::ModelNotFound,
        ) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => error.kind.status(),
    }
}

/// Writes the body of an error.
///
/// Source: OpenAI, API reference, "Error codes", the `error` object with `message`, `type`, `param` and `code`.
pub fn encode_error(error: &Error, compat: ErrorCompat) -> Bytes {
    let mut body = Vec::with_capacity(128 + error.message.len());
    write_error(error, compat, &mut body);
    body.into()
}

/// Writes an error as the last event of a stream.
pub fn error_event(error: &Error, compat: ErrorCompat) -> Bytes {
    let mut event = Vec::with_capacity(136 + error.message.len());
    event.extend_from_slice(b"data: ");
    write_error(error, compat, &mut event);
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn write_error(error: &Error, compat: ErrorCompat, into: &mut Vec<u8>) {
    into.extend_from_slice(br#"{"error":{"message":"#);
    quote(&error.message, into);
    into.extend_from_slice(br#","type":"#);
    quote(error.kind.class(), into);
    into.extend_from_slice(br#","param":"#);
    match &error.param {
        Some(param) => quote(param, into),
        None => into.extend_from_slice(b"null"),
    }
    into.extend_from_slice(br#","code":"#);
    quote(error.kind.code(), into);
    into.push(b'}');
    if compat == ErrorCompat::GptApi {
        into.extend_from_slice(br#","error_type":"#);
        quote(gpt_api_type(&error.kind), into);
    }
    into.push(b'}');
}

/// GPT_API's name for a failure, which its clients look for in the top-level `error_type`.
fn gpt_api_type(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::Inexpressible | ErrorKind::ModelNotFound => {
            "Input Validation Error"
        }
        ErrorKind::Cancelled => "client_disconnect",
        ErrorKind::UnknownPath
        | ErrorKind::MethodNotAllowed(_)
        | ErrorKind::RequestTooLarge
        | ErrorKind::RequestTimeout
        | ErrorKind::Misdirected
        | ErrorKind::Unauthenticated
        | ErrorKind::Rejected(_)
        | ErrorKind::Forbidden => kind.class(),
        ErrorKind::RateLimited(_) => "rate_limit_exceeded_error",
        ErrorKind::BudgetUsedUp => "insufficient_quota_error",
        ErrorKind::Overloaded
        | ErrorKind::UpstreamUnreachable
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::UpstreamTimeout(_)
        | ErrorKind::UpstreamInvalid
        | ErrorKind::UpstreamEmpty
        | ErrorKind::StreamBroken(_)
        | ErrorKind::PluginFault
        | ErrorKind::PluginCapacity
        | ErrorKind::PluginQuarantined
        | ErrorKind::Internal => "internal_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Timer;

    #[track_caller]
    fn check(error: &Error, compat: ErrorCompat, status: u16, body: &str) {
        assert_eq!(error_status(error, compat), status);
        assert_eq!(encode_error(error, compat), body);
        assert_eq!(error_event(error, compat), format!("data: {body}\n\n"));
    }

    #[test]
    fn an_error_has_the_openai_shape() {
        check(
            &Error::invalid("messages[0].role", "say \"hi\""),
            ErrorCompat::OpenAi,
            400,
            r#"{"error":{"message":"say \"hi\"","type":"invalid_request_error","param":"messages[0].role","code":"invalid_request"}}"#,
        );
        check(
            &Error::new(ErrorKind::UpstreamTimeout(Timer::Total), "late"),
            ErrorCompat::OpenAi,
            504,
            r#"{"error":{"message":"late","type":"upstream_error","param":null,"code":"upstream_timeout"}}"#,
        );
    }

    #[test]
    fn the_earlier_systems_clients_find_their_error_type() {
        check(
            &Error::new(ErrorKind::ModelNotFound, "no"),
            ErrorCompat::GptApi,
            422,
            r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":"model_not_found"},"error_type":"Input Validation Error"}"#,
        );
        check(
            &Error::new(ErrorKind::UpstreamInvalid, "no"),
            ErrorCompat::GptApi,
            502,
            r#"{"error":{"message":"no","type":"upstream_error","param":null,"code":"upstream_invalid"},"error_type":"internal_error"}"#,
        );
    }
}
