//! An error that stands where an answer should: in a 200, whole or as an event of its stream.
//!
//! Upstreams that have sent their head before they know better tell errors so, and some proxies tell all errors so. What
//! it would have been as an answer of its own is read from its codes.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::StatusCode;

use crate::wire::json::{Kind, Scanner};
use crate::wire::openai::view::{Scan, members, string};

/// An error, as the answer that it should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The status its codes stand for; 502 when they say nothing.
    pub status: StatusCode,
    /// The body: an object with `error`, of the very bytes that came.
    pub body: Bytes,
}

/// The codes of one object.
#[derive(Debug, Default)]
struct Codes<'a> {
    /// The first number that is the status of an error.
    number: Option<u16>,
    /// The values of `code`, `type` and `status` that are words.
    words: [Option<Cow<'a, str>>; 3],
}

/// Where errors have their codes, the most telling first.
const CODES: [&str; 4] = ["code", "type", "status", "status_code"];

impl Failure {
    /// Reads an answer, or the data of an event, in which an error was found.
    pub fn of(data: &Bytes) -> Self {
        let data = &unlisted(data);
        let (mut top, mut inner) = (Codes::default(), Codes::default());
        let mut place = Place::Top;
        // It was read before and found to be JSON.
        let _ = read(data, &mut top, &mut inner, &mut place);
        if inner.is("overloaded_error") && top.is("error") {
            return Self { status: anthropic_overloaded(), body: data.clone() };
        }
        let status = inner.status().or_else(|| top.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let body = match place {
            Place::Member => data.clone(),
            Place::Top => wrapped(data),
            Place::Response(range) => wrapped(&data[range]),
        };
        Self { status, body }
    }
}

/// Where in a document its error is.
enum Place {
    /// The document is the error.
    Top,
    /// It is the member `error`, as in an answer.
    Member,
    /// It is the `error` of the member `response`.
    Response(Range<usize>),
}

/// Anthropic's status of its own, by which its clients know that they may try again.
///
/// Source: Anthropic API reference, "Errors", seen 2026-11.
fn anthropic_overloaded() -> StatusCode {
    StatusCode::from_u16(529).expect("it has three digits")
}

/// The first element of a list: Google puts even an error into one where it is asked for a list of answers.
fn unlisted(data: &Bytes) -> Bytes {
    let mut scanner = Scanner::new(data);
    let mut first = None;
    if scanner.peek().is_ok_and(|kind| kind == Kind::Array) {
        // What stands behind a break in it is of no interest.
        let _ = scanner.array(|scanner| {
            let is_object = scanner.peek()? == Kind::Object;
            let range = scanner.skip()?;
            first = first.take().or_else(|| is_object.then(|| data.slice(range)));
            Ok(())
        });
    }
    first.unwrap_or_else(|| data.clone())
}

fn wrapped(error: &[u8]) -> Bytes {
    [b"{\"error\":", error, b"}"].concat().into()
}

fn read<'a>(data: &'a [u8], top: &mut Codes<'a>, inner: &mut Codes<'a>, place: &mut Place) -> Scan<()> {
    let mut scanner = Scanner::new(data);
    members(&mut scanner, |scanner, key| {
        if key.is("error") {
            if inner.read(scanner)?.is_some() {
                *place = Place::Member;
            }
            return Ok(());
        }
        if key.is("response") {
            return members(scanner, |scanner, key| {
                if key.is("error") {
                    if let Some(range) = inner.read(scanner)? {
                        *place = Place::Response(range);
                    }
                    return Ok(());
                }
                scanner.skip().map(drop)
            });
        }
        match CODES.iter().position(|name| key.is(name)) {
            Some(code) => top.note(code, scanner),
            None => scanner.skip().map(drop),
        }
    })
}

impl<'a> Codes<'a> {
    /// Reads an error; where it stands, unless it is null.
    fn read(&mut self, scanner: &mut Scanner<'a>) -> Scan<Option<Range<usize>>> {
        match scanner.peek()? {
            Kind::Null => scanner.skip().map(|_| None),
            Kind::Object => {
                let start = scanner.position();
                members(scanner, |scanner, key| match CODES.iter().position(|name| key.is(name)) {
                    Some(code) => self.note(code, scanner),
                    None => scanner.skip().map(drop),
                })?;
                Ok(Some(start..scanner.position()))
            }
            _ => scanner.skip().map(Some),
        }
    }

    fn note(&mut self, code: usize, scanner: &mut Scanner<'a>) -> Scan<()> {
        match scanner.peek()? {
            Kind::Number => {
                let number = scanner.count()?.and_then(|number| u16::try_from(number).ok());
                self.number = self.number.or_else(|| number.filter(|number| is_failure(*number)));
            }
            Kind::String => {
                let word = string(scanner)?;
                if let Some(place) = self.words.get_mut(code) {
                    *place = word;
                }
            }
            _ => {
                scanner.skip()?;
            }
        }
        Ok(())
    }

    fn is(&self, name: &str) -> bool {
        self.words.iter().flatten().any(|word| word == name)
    }

    fn status(&self) -> Option<StatusCode> {
        let worded = || self.words.iter().flatten().find_map(|word| status_of(word));
        self.number.or_else(worded).and_then(|status| StatusCode::from_u16(status).ok())
    }
}

fn is_failure(status: u16) -> bool {
    (400..=599).contains(&status)
}

/// Parts of the words that upstreams have for errors, in lower case and without separators, and the status of each.
///
/// Source: OpenAI, "Error codes"; Anthropic, "Errors"; Google, "google.rpc.Code" and their HTTP mapping; vLLM, `ErrorResponse`; seen 2026-11.
const WORDS: [(&str, u16); 41] = [
    ("ratelimit", 429),
    ("toomanyrequests", 429),
    ("resourceexhausted", 429),
    ("quota", 429),
    ("throttl", 429),
    ("overloaded", 503),
    ("unavailable", 503),
    ("capacity", 503),
    ("timeout", 504),
    ("timedout", 504),
    ("deadlineexceeded", 504),
    ("badgateway", 502),
    ("unimplemented", 501),
    ("cancelled", 499),
    ("billingerror", 402),
    ("conflict", 409),
    ("alreadyexists", 409),
    ("aborted", 409),
    ("outofrange", 400),
    ("dataloss", 500),
    ("authentication", 401),
    ("unauthenticated", 401),
    ("unauthorized", 401),
    ("invalidapikey", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("notfound", 404),
    ("toolarge", 413),
    ("unprocessable", 422),
    ("badrequest", 400),
    ("invalidrequest", 400),
    ("invalidargument", 400),
    ("invalidprompt", 400),
    ("failedprecondition", 400),
    ("contextlength", 400),
    ("contentfilter", 400),
    ("contentpolicy", 400),
    ("policyviolation", 400),
    ("servererror", 500),
    ("internal", 500),
    ("apierror", 500),
];

/// The status that a word stands for, if it is known.
fn status_of(word: &str) -> Option<u16> {
    if let Ok(number) = word.parse() {
        return Some(number).filter(|number| is_failure(*number));
    }
    let plain: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    let plain = plain.to_ascii_lowercase();
    WORDS.iter().find(|(part, _)| plain.contains(part)).map(|(_, status)| *status)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(data: &str, status: u16, body: &str) {
        let failure = Failure::of(&Bytes::copy_from_slice(data.as_bytes()));
        let text = String::from_utf8_lossy(&failure.body).into_owned();
        assert_eq!((failure.status.as_u16(), &*text), (status, body));
    }

    #[track_caller]
    fn check_status(error: &str, status: u16) {
        let data = format!(r#"{{"error":{error}}}"#);
        check(&data, status, &data);
    }

    #[test]
    fn an_error_is_judged_by_its_codes() {
        check_status(r#"{"message":"m","code":429}"#, 429);
        check_status(r#"{"message":"m","code":"429"}"#, 429);
        check_status(r#"{"code":400,"type":"server_error"}"#, 400);
        check_status(r#"{"type":"server_error","status":503}"#, 503);
        check_status(r#"{"type":"x","status_code":500.0}"#, 500);
        check_status(r#"{"type":"tokens","code":"rate_limit_exceeded"}"#, 429);
        check_status(r#"{"type":"insufficient_quota","code":"insufficient_quota"}"#, 429);
        check_status(r#"{"type":"invalid_request_error","code":"model_not_found"}"#, 404);
        check_status(r#"{"type":"invalid_request_error","code":"context_length_exceeded"}"#, 400);
        check_status(r#"{"type":"invalid_request_error","code":null}"#, 400);
        check_status(r#"{"type":"authentication_error"}"#, 401);
        check_status(r#"{"type":"permission_error"}"#, 403);
        check_status(r#"{"type":"overloaded_error"}"#, 503);
        check_status(r#"{"type":"api_error"}"#, 500);
        check_status(r#"{"type":"server_error","code":"x"}"#, 500);
        check_status(r#"{"type":"BadRequestError","code":1302}"#, 400);
        check_status(r#"{"code":8,"status":"RESOURCE_EXHAUSTED"}"#, 429);
        check_status(r#"{"status":"DEADLINE_EXCEEDED"}"#, 504);
        for unknown in
            [r#"{"message":"m"}"#, r#"{"code":200}"#, r#"{"code":"boom"}"#, "\"down\"", "[1]", "{}"]
        {
            check_status(unknown, 502);
        }
        check(r#"{"error":"slow down","code":429}"#, 429, r#"{"error":"slow down","code":429}"#);
    }

    #[test]
    fn errors_of_anthropics_are_known_by_their_type() {
        for (kind, status) in [
            ("invalid_request_error", 400),
            ("authentication_error", 401),
            ("billing_error", 402),
            ("permission_error", 403),
            ("not_found_error", 404),
            ("conflict_error", 409),
            ("request_too_large", 413),
            ("rate_limit_error", 429),
            ("api_error", 500),
            ("timeout_error", 504),
            ("overloaded_error", 529),
            ("new_error", 502),
        ] {
            let data = format!(
                r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}},"request_id":"req_1"}}"#
            );
            check(&data, status, &data);
        }
    }

    #[test]
    fn errors_of_googles_are_known_by_their_code_or_status() {
        check_status(r#"{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[]}"#, 429);
        for (name, status) in [
            ("CANCELLED", 499),
            ("INVALID_ARGUMENT", 400),
            ("DEADLINE_EXCEEDED", 504),
            ("NOT_FOUND", 404),
            ("ALREADY_EXISTS", 409),
            ("PERMISSION_DENIED", 403),
            ("UNAUTHENTICATED", 401),
            ("RESOURCE_EXHAUSTED", 429),
            ("FAILED_PRECONDITION", 400),
            ("ABORTED", 409),
            ("OUT_OF_RANGE", 400),
            ("UNIMPLEMENTED", 501),
            ("INTERNAL", 500),
            ("UNAVAILABLE", 503),
            ("DATA_LOSS", 500),
        ] {
            check_status(&format!(r#"{{"message":"m","status":"{name}"}}"#), status);
        }
        let error = r#"{"error":{"code":503,"message":"m","status":"UNAVAILABLE"}}"#;
        check(&format!("[{error}, 7]"), 503, error);
        check(&format!("[ 7,{error}"), 503, error);
        check("[]", 502, r#"{"error":[]}"#);
    }

    #[test]
    fn the_client_is_told_in_the_shape_of_an_answer() {
        let event = r#"{"type":"error","code":"server_error","message":"m","param":null}"#;
        check(event, 500, &format!("{{\"error\":{event}}}"));
        let event = r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#;
        check(event, 400, &format!("{{\"error\":{event}}}"));
        check(
            r#"{"type":"response.failed","response":{"id":"r","error":{"code":"rate_limit_exceeded","message":"m"}}}"#,
            429,
            r#"{"error":{"code":"rate_limit_exceeded","message":"m"}}"#,
        );
        let answer = r#"{"id":"r","status":"failed","error": {"code":"server_error"}, "output":[]}"#;
        check(answer, 500, answer);
    }

    proptest! {
        #[test]
        fn nothing_panics(data in prop::collection::vec(any::<u8>(), 0..40), word in ".{0,12}") {
            let _ = Failure::of(&data.into());
            let status = status_of(&word);
            prop_assert!(status.is_none_or(is_failure));
        }
    }
}
