//! The request of an exchange, out of its record.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::Full;
use serde_json::{Map, Value};

use crate::audit::query::Row;
use crate::config::secret::is_credential;
use crate::headers::{Kind, is_reserved};
use crate::wire::Endpoint;

/// What stands in a record for a value that must not be kept.
const HIDDEN: &str = "***";

/// What can be sent again, and what came of it the first time.
#[derive(Debug)]
pub(super) struct Stored {
    method: Method,
    /// Path and query, without keys.
    pub(super) target: String,
    headers: HeaderMap,
    pub(super) body: Bytes,
    /// What its path is for.
    pub(super) endpoint: Option<Endpoint>,
    /// The status it was answered with.
    pub(super) status: Option<i64>,
    /// Whether a stream was asked for.
    pub(super) is_stream: bool,
    /// The answer, or why there is none.
    pub(super) answer: Result<String, &'static str>,
}

impl Stored {
    /// Takes the request out of a record.
    ///
    /// # Errors
    ///
    /// A message that says why it cannot be sent again.
    pub(super) fn of(row: &Row) -> Result<Self, String> {
        let named = |what: &str| format!("exchange {}: {what}", row.id());
        let method = row.text("method").and_then(|method| method.parse().ok());
        let path = row.text("path").filter(|path| path.starts_with('/'));
        let (Some(method), Some(path)) = (method, path) else {
            return Err(named("its method and path were not recorded"));
        };
        let headers = headers(row.text("headers").unwrap_or_default());
        let body = body(row, &headers).map_err(|why| named(&why))?;
        let target = without_keys(path);
        let route = target.split('?').next().unwrap_or_default();
        Ok(Self {
            method,
            endpoint: Endpoint::of(route).map(|(endpoint, _)| endpoint),
            headers,
            body,
            status: row.integer("status"),
            is_stream: row.is("stream"),
            answer: answer(row),
            target,
        })
    }

    /// What the stored answer is: a stream that could not be put together stands there as it was sent.
    pub(super) fn answer_kind(&self) -> Kind {
        let is_json = self.answer.as_ref().is_ok_and(|answer| answer.trim_start().starts_with(['{', '[']));
        if self.is_stream && !is_json { Kind::EventStream } else { Kind::Json }
    }

    /// The request, to be sent to a place, with a key if there is one.
    ///
    /// # Errors
    ///
    /// A message when the key cannot be sent.
    pub(super) fn request(&self, uri: Uri, key: Option<&str>) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if !self.body.is_empty() && !headers.contains_key(header::CONTENT_TYPE) {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = key {
            let value = HeaderValue::try_from(format!("Bearer {key}"));
            let mut value =
                value.map_err(|_| "the key cannot be sent: it has a character that headers cannot have")?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// The headers that are the request's own: not those of the connection, and none whose value was hidden.
fn headers(json: &str) -> HeaderMap {
    let stored: Map<String, Value> = serde_json::from_str(json).unwrap_or_default();
    let mut headers = HeaderMap::new();
    for (name, values) in &stored {
        let values = values.as_array().map_or_else(|| std::slice::from_ref(values), Vec::as_slice);
        let Ok(name) = HeaderName::try_from(name) else { continue };
        if is_reserved(&name) || is_credential(name.as_str()) {
            continue;
        }
        for value in values.iter().filter_map(Value::as_str).filter(|value| *value != HIDDEN) {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(&name, value);
            }
        }
    }
    headers
}

fn body(row: &Row, headers: &HeaderMap) -> Result<Bytes, String> {
    if row.is("request_cut") {
        return Err(
            "its request was cut when it was recorded (`audit.body_max`), so that it cannot be sent again"
                .to_owned(),
        );
    }
    let Some(text) = row.text("request") else {
        return match row.integer("request_bytes") {
            None | Some(0) => Ok(Bytes::new()),
            Some(_) => Err("its request was not recorded (`audit.bodies` was `none`)".to_owned()),
        };
    };
    match described(text, headers) {
        Some(content_type) => Err(format!(
            "its request was `{content_type}`, which is recorded by its type and length only: it cannot be sent again"
        )),
        None => Ok(Bytes::copy_from_slice(text.as_bytes())),
    }
}

/// The type of a body that was not stored, of which only a description is there.
fn described(text: &str, headers: &HeaderMap) -> Option<String> {
    let description: Map<String, Value> = serde_json::from_str(text).ok()?;
    let is_one = description.contains_key("content_type")
        && description.keys().all(|name| matches!(name.as_str(), "content_type" | "bytes" | "model"));
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A client's own JSON may look like one.
    (is_one && !sent.starts_with("application/json"))
        .then(|| description["content_type"].as_str().unwrap_or("data without a type").to_owned())
}

fn answer(row: &Row) -> Result<String, &'static str> {
    match row.text("response") {
        None => Err("the answer was not recorded"),
        Some(_) if row.is("response_cut") => Err("the answer was cut when it was recorded"),
        Some(text) => Ok(text.to_owned()),
    }
}

/// Path and query without the parameters whose values were hidden.
fn without_keys(path: &str) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let is_known = |pair: &&str| pair.split_once('=').is_none_or(|(_, value)| value != HIDDEN);
    let query: Vec<&str> = query.split('&').filter(is_known).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hidden_is_not_sent() {
        let headers = headers(
            r#"{"host":"a","content-length":"3","content-type":"application/json","authorization":"***","x-api-key":"k",
               "x-inner":"***","accept":["a","b"],"x-request-id":"1","bad name":"x","x-bad":"a\nb","x-team":"red"}"#,
        );
        let shown: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(shown.join(", "), "accept: a, accept: b, content-type: application/json, x-team: red");
        assert!(super::headers("no JSON").is_empty());
    }

    #[test]
    fn keys_leave_the_query() {
        assert_eq!(without_keys("/v1/models"), "/v1/models");
        assert_eq!(without_keys("/v1/models?key=***"), "/v1/models");
        assert_eq!(without_keys("/v1/models?a=1&key=***&b"), "/v1/models?a=1&b");
    }

    #[track_caller]
    fn check(text: &str, content_type: &'static str, expected: Option<&str>) {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        assert_eq!(described(text, &headers).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_description_is_no_request() {
        let form = "multipart/form-data; boundary=x";
        check(r#"{"content_type":"multipart/form-data","bytes":7}"#, form, Some("multipart/form-data"));
        check(r#"{"content_type":"multipart/form-data","model":"m"}"#, form, Some("multipart/form-data"));
        check(r#"{"content_type":null,"bytes":7}"#, "audio/wav", Some("data without a type"));
        check(r#"{"content_type":"x","bytes":7}"#, "application/json", None);
        check(r#"{"content_type":"x","messages":[]}"#, "text/plain", None);
        check("text", "text/plain", None);
    }
}
