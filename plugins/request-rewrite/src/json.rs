//! JSON values of the configuration, and what they are compared with.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use witgate_sdk::Config;

/// Any JSON value, as it is written.
#[derive(Config, Deserialize)]
#[serde(transparent)]
pub(crate) struct Json(
    #[config(schema = r#"{"type":["object","array","string","number","boolean","null"]}"#)] Box<RawValue>,
);

impl Json {
    /// The value as JSON text.
    pub(crate) fn text(&self) -> &str {
        self.0.get()
    }
}

/// Reads a value for an option: `null` is a value here, and only what is left out is none.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Says whether two JSON texts are the same value: the order of members and the spelling of numbers are no matter.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    a == b || value(a).zip(value(b)).is_some_and(|(a, b)| are_equal(&a, &b))
}

/// The text of a string, a number or a boolean.
pub(crate) fn scalar(json: &str) -> Option<String> {
    match value(json)? {
        Value::String(text) => Some(text),
        Value::Number(_) | Value::Bool(_) => Some(json.trim().to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value of a number; one that is too large for a float is infinite.
pub(crate) fn number(json: &str) -> Option<f64> {
    let json = json.trim_start();
    let is_negative = json.starts_with('-');
    if !is_negative && !json.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let infinite = if is_negative { f64::NEG_INFINITY } else { f64::INFINITY };
    // Not `str::parse`, whose tables would make the component 15 KB larger.
    Some(serde_json::from_str(json).unwrap_or(infinite))
}

/// A text as a JSON string.
pub(crate) fn string(text: &str) -> String {
    serde_json::to_string(text).expect("every text is a JSON string")
}

fn value(json: &str) -> Option<Value> {
    serde_json::from_str(json).ok()
}

fn are_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        // Only a whole number and a fraction are compared as fractions: two large whole numbers could look alike then.
        (Value::Number(a), Value::Number(b)) if a.is_f64() != b.is_f64() => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| are_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| are_equal(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_and_not_their_spelling() {
        #[track_caller]
        fn check(a: &str, b: &str, expected: bool) {
            assert_eq!(is_same(a, b), expected, "{a} {b}");
        }
        check("1", "1.0", true);
        check("1e2", "100", true);
        check("1", "2", false);
        check("9007199254740993", "9007199254740992", false);
        check(r#""a""#, r#""\u0061""#, true);
        check(r#""1""#, "1", false);
        check("null", "null", true);
        check("null", "false", false);
        check(r#"{"a": 1, "b": [2]}"#, r#"{"b":[2.0],"a":1}"#, true);
        check(r#"{"a": 1}"#, r#"{"a":1,"b":1}"#, false);
        check("[1]", "[1,1]", false);
        check("x", "y", false);
    }

    #[test]
    fn texts_numbers_and_booleans_have_a_text() {
        #[track_caller]
        fn check(json: &str, text: Option<&str>) {
            assert_eq!(scalar(json).as_deref(), text, "{json}");
        }
        check(r#""a\"b""#, Some("a\"b"));
        check(" 0.70 ", Some("0.70"));
        check("true", Some("true"));
        check("null", None);
        check("[]", None);
        check("{}", None);
        check("", None);
    }
}
