//! Reads a configuration from JSON, and says where in it a mistake is.

use serde::de::DeserializeOwned;

/// Reads a configuration; nothing at all and `null` count as `{}`.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    let json = match json.trim() {
        "" | "null" => "{}",
        json => json,
    };
    serde_json::from_str(json).map_err(|error| {
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        match place(json, offset(json, error.line(), error.column())) {
            place if place.is_empty() => message.to_owned(),
            place => format!("`{place}`: {message}"),
        }
    })
}

/// The number of bytes before a place that is told by line and column, both from 1.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let lines_before = json.split_inclusive('\n').take(line.saturating_sub(1));
    lines_before.map(str::len).sum::<usize>() + column
}

/// One level of nesting: which value of an array or an object is being read.
enum Level<'a> {
    Array(usize),
    Object(Option<&'a str>),
}

/// Names the value of which the first `end` bytes of a document read the last, e.g. `rules[2].when`.
fn place(json: &str, end: usize) -> String {
    let mut levels = Vec::new();
    let mut name = "";
    let mut at = 0;
    while let Some(&byte) = json.as_bytes().get(at).filter(|_| at < end) {
        at += 1;
        match byte {
            b'"' => {
                let len = string_len(&json[at..]);
                name = &json[at..at + len];
                at += len + 1;
            }
            b'{' => levels.push(Level::Object(None)),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' => drop(levels.pop()),
            b':' => {
                if let Some(Level::Object(member)) = levels.last_mut() {
                    *member = Some(name);
                }
            }
            b',' => match levels.last_mut() {
                Some(Level::Array(index)) => *index += 1,
                Some(Level::Object(member)) => *member = None,
                None => {}
            },
            _ => {}
        }
    }
    written(&levels)
}

/// The length of a string's inside, up to its closing quote.
fn string_len(inside: &str) -> usize {
    let mut is_escaped = false;
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(inside.len())
}

fn written(levels: &[Level<'_>]) -> String {
    let mut path = String::new();
    for level in levels {
        match level {
            Level::Array(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
            Level::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Level::Object(None) => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{parse, place};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the errors are looked at")]
    struct Rule {
        size: Option<u8>,
        words: BTreeMap<String, Vec<String>>,
        #[serde(default)]
        rules: Vec<Self>,
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        assert_eq!(parse::<Rule>(json).unwrap_err(), expected);
    }

    #[test]
    fn the_place_of_a_mistake_is_named() {
        check(r#"{"words":{},"size":"a"}"#, r#"`size`: invalid type: string "a", expected u8"#);
        check(r#"{"words":{},"size":300}"#, "`size`: invalid value: integer `300`, expected u8");
        check("{\n \"words\": {},\n \"size\": true\n}", "`size`: invalid type: boolean `true`, expected u8");
        check(
            r#"{"words":{"a":[],"b":["c",5]}}"#,
            "`words.b[1]`: invalid type: integer `5`, expected a string",
        );
        check(r#"{"words":{},"rules":[{"words":{}},{}]}"#, "`rules[1]`: missing field `words`");
        check(r#"{"words":{},"rules":{}}"#, "`rules`: invalid type: map, expected a sequence");
        check(r#"{"words":{"\"}:":5}}"#, r#"`words.\"}:`: invalid type: integer `5`, expected a sequence"#);
        check("{}", "missing field `words`");
        check(r#"{"word":{}}"#, "unknown field `word`, expected one of `size`, `words`, `rules`");
        check(
            r#"{"words":{},"rules":[{"a":1}]}"#,
            "`rules[0]`: unknown field `a`, expected one of `size`, `words`, `rules`",
        );
        check(r#"{"words":"#, "`words`: EOF while parsing a value");
    }

    #[test]
    fn nothing_is_an_empty_object() {
        check("", "missing field `words`");
        check(" null ", "missing field `words`");
    }

    proptest! {
        #[test]
        fn no_text_panics(json in r#"[\[\]{}",:\\a日 \n]{0,40}"#, end in 0..60_usize) {
            place(&json, end);
            let _ = parse::<Rule>(&json);
        }
    }
}
