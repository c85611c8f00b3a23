//! Errors of the API, read and written.

use bytes::Bytes;
use http::StatusCode;

use crate::chat::ApiError;
use crate::wire::json::{Kind, Scanner, object};
use crate::wire::openai::view::{Scan, string};

/// How much of a body that is no error of the API is shown, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// What an error says, wherever in its body that stands.
#[derive(Debug, Default)]
struct Told {
    message: Option<String>,
    kind: Option<String>,
    code: Option<String>,
    param: Option<String>,
}

/// Reads an error: OpenAI's object `error`, and what the servers that copy it have instead, a string, or the members without
/// an object around them. Google's come in a list. Of any other body the message is its beginning.
pub fn decode_error(status: StatusCode, body: &[u8]) -> ApiError {
    let mut told = Told::default();
    let mut scanner = Scanner::new(body);
    if body.trim_ascii_start().starts_with(b"[") {
        // What is wrong with it is of no interest: then it tells nothing.
        let _ = scanner.array(|scanner| told.read(scanner));
    } else {
        let _ = told.read(&mut scanner);
    }
    let Told { message, kind, code, param } = told;
    let message = message.filter(|message| !message.is_empty()).unwrap_or_else(|| beginning(status, body));
    ApiError { status, message, kind, code, param }
}

impl Told {
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Scan<()> {
        match scanner.peek()? {
            Kind::String => {
                self.message = string(scanner)?.map(|text| text.into_owned());
                return Ok(());
            }
            Kind::Object => {}
            _ => return scanner.skip().map(drop),
        }
        scanner.members(|scanner, name| {
            let member = match name.raw() {
                "error" => return self.read(scanner),
                "message" | "detail" => &mut self.message,
                "type" => &mut self.kind,
                "code" => &mut self.code,
                "param" => &mut self.param,
                _ => return scanner.skip().map(drop),
            };
            let found = match scanner.peek()? {
                Kind::String => string(scanner)?.map(|text| text.into_owned()),
                Kind::Null => scanner.skip().map(|_| None)?,
                _ => {
                    let range = scanner.skip()?;
                    Some(scanner.slice(range).to_owned())
                }
            };
            *member = found.or_else(|| member.take());
            Ok(())
        })
    }
}

/// The beginning of a body, or the status's name if there is none.
fn beginning(status: StatusCode, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN_CHARS_MAX * 4)]);
    let text: String = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
    if text.is_empty() {
        let reason = status.canonical_reason().unwrap_or("error");
        return format!("the upstream answered {} {reason}", status.as_u16());
    }
    text
}

/// Writes an error.
pub fn encode_error(error: &ApiError) -> Bytes {
    let mut out = Vec::with_capacity(128 + error.message.len());
    object(&mut out, |members| {
        members.object("error", |members| {
            members.string("message", &error.message);
            members.string("type", kind(error));
            match &error.param {
                Some(param) => members.string("param", param),
                None => members.raw("param", "null"),
            }
            match &error.code {
                Some(code) => members.string("code", code),
                None => members.raw("code", "null"),
            }
        });
    });
    out.into()
}

/// The kind of an error. Anthropic's words are OpenAI's; Google's, in capitals, are not.
fn kind(error: &ApiError) -> &str {
    let known = error.kind.as_deref().filter(|kind| !kind.is_empty() && !kind.contains(char::is_uppercase));
    known.unwrap_or_else(|| match error.status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    })
}
