//! What a request to the admin listener says: its query, a name in its path, its body.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};

/// How long a body may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The parameters of a query that nobody has asked for yet.
///
/// Whoever knows a parameter takes it; what is left in the end is one that does not exist, which is an error: a filter
/// with a slip in its name would otherwise find everything.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query as forms and `URLSearchParams` write it; a parameter without a value does not count.
    ///
    /// Source: WHATWG URL, section 5.1, "application/x-www-form-urlencoded parsing", but for bad escapes, which are
    /// errors here.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` for what is not percent-encoded UTF-8.
    pub(super) fn parse(query: Option<&str>) -> Result<Self> {
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = form_decoded(name).ok_or_else(|| not_encoded("a parameter's name"))?;
            let value = form_decoded(value).ok_or_else(|| not_encoded(&format!("the value of `{name}`")))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter; none where it is absent or empty.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` when it is there twice.
    pub(super) fn take(&mut self, name: &'static str) -> Result<Option<String>> {
        let mut values = self.0.extract_if(.., |(known, _)| known == name);
        let value = values.next().map(|(_, value)| value).filter(|value| !value.is_empty());
        if values.next().is_some() {
            return Err(Error::invalid(name, format!("`{name}` is given twice")));
        }
        Ok(value)
    }

    /// All parameters, for whoever checks them.
    pub(super) fn into_pairs(self) -> Vec<(String, String)> {
        self.0
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    ///
    /// `InvalidRequest` that names a parameter nobody took.
    pub(super) fn finish(&self) -> Result<()> {
        self.0.first().map_or(Ok(()), |(name, _)| {
            Err(Error::invalid(name.clone(), format!("there is no parameter `{name}` here")))
        })
    }
}

/// A segment of a path as a name.
///
/// # Errors
///
/// `InvalidRequest` for what is not percent-encoded UTF-8.
pub(super) fn name(segment: &str) -> Result<String> {
    decoded(segment.bytes()).ok_or_else(|| not_encoded(&format!("`{segment}`")))
}

/// The whole body of a request, up to `bytes_max`.
///
/// # Errors
///
/// `RequestTooLarge`, `RequestTimeout`, or `InvalidRequest` when the client broke it off.
pub(super) async fn body(incoming: Incoming, bytes_max: usize) -> Result<Bytes> {
    let too_large =
        || Error::new(ErrorKind::RequestTooLarge, format!("the body may have {bytes_max} bytes here"));
    if incoming.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME_MAX, Limited::new(incoming, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Error::new(ErrorKind::InvalidRequest, "the body broke off").with_source(error)),
        Err(_) => Err(Error::new(ErrorKind::RequestTimeout, "the body did not arrive in time")),
    }
}

/// A body that is a JSON object; an empty one stands for `{}`.
///
/// # Errors
///
/// `InvalidRequest` for anything else.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(ErrorKind::InvalidRequest, "the body must be a JSON object")),
        Err(error) => {
            Err(Error::new(ErrorKind::InvalidRequest, format!("the body is not valid JSON: {error}")))
        }
    }
}

/// Refuses a field that has no meaning here.
pub(super) fn unknown_field(name: &str) -> Error {
    Error::invalid(name.to_owned(), format!("there is no field `{name}` here"))
}

fn not_encoded(what: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest, format!("{what} is not percent-encoded UTF-8"))
}

/// Undoes the encoding of forms, in which a space is a plus.
fn form_decoded(text: &str) -> Option<String> {
    decoded(text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }))
}

/// Undoes percent-encoding; none where an escape is broken or the result is not UTF-8.
fn decoded(mut bytes: impl Iterator<Item = u8>) -> Option<String> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(query: &str, expected: Option<&[(&str, &str)]>) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let expected = expected.map(|pairs| Query(pairs.iter().map(owned).collect()));
        assert_eq!(Query::parse(Some(query)).ok(), expected, "{query}");
    }

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        check("", Some(&[]));
        check("&&", Some(&[]));
        check("a=1&b=2", Some(&[("a", "1"), ("b", "2")]));
        check("a", Some(&[("a", "")]));
        check("a=b=c", Some(&[("a", "b=c")]));
        check("a+b=c+d%2B%20e", Some(&[("a b", "c d+ e")]));
        check("t=%C3%A9%e2%82%ac", Some(&[("t", "é€")]));
        for broken in ["a=%", "a=%2", "a=%zz", "a=%+1", "%ff=1", "a=%c3"] {
            check(broken, None);
        }
    }

    #[test]
    fn what_nobody_takes_is_an_error_that_names_it() {
        let mut query = Query::parse(Some("model=a&txet=b&limit=")).unwrap();
        assert_eq!(query.take("model").unwrap().as_deref(), Some("a"));
        assert_eq!(query.take("limit").unwrap(), None, "an empty value is none");
        assert_eq!(query.take("model").unwrap(), None);
        let error = query.finish().unwrap_err();
        assert_eq!(error.param.as_deref(), Some("txet"));
        assert!(error.message.contains("`txet`"), "{error}");
        assert!(Query::parse(Some("a=1&a=2")).unwrap().take("a").is_err());
        assert!(Query::parse(None).unwrap().finish().is_ok());
    }

    #[test]
    fn a_name_in_a_path_may_hold_anything() {
        assert_eq!(name("a%2Fb%20c+d").unwrap(), "a/b c+d");
        assert_eq!(name("%c3%a9").unwrap(), "é");
        assert!(name("%ff").is_err());
        assert!(name("100%").is_err());
    }

    proptest! {
        #[test]
        fn every_value_comes_back_and_nothing_panics(text in any::<String>(), raw in any::<String>()) {
            let escaped: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(form_decoded(&escaped), Some(text.clone()));
            prop_assert_eq!(name(&escaped).ok(), Some(text));
            let _ = Query::parse(Some(&raw));
        }
    }
}
