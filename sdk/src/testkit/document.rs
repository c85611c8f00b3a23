//! JSON Pointer (RFC 6901) on a document, with the host's rules for edits.

use serde_json::{Map, Value};

/// Returns the value at a pointer.
pub(super) fn get<'a>(document: &'a Value, pointer: &str) -> Option<&'a Value> {
    document.pointer(pointer)
}

/// Sets the value at a pointer. Parents that are missing are made as objects; `-` after an array appends.
pub(super) fn set(document: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let mut place = document;
    for token in tokens(pointer)? {
        place = step(place, &token).map_err(|error| format!("`{pointer}`: {error}"))?;
    }
    *place = value;
    Ok(())
}

/// Removes the value at a pointer, and says whether there was one.
pub(super) fn remove(document: &mut Value, pointer: &str) -> Result<bool, String> {
    let tokens = tokens(pointer)?;
    let Some((last, parents)) = tokens.split_last() else {
        return Err("the whole document cannot be removed".to_owned());
    };
    let mut place = document;
    for token in parents {
        let next = match place {
            Value::Object(members) => members.get_mut(token),
            Value::Array(items) => index(token).and_then(|i| items.get_mut(i)),
            _ => None,
        };
        let Some(next) = next else { return Ok(false) };
        place = next;
    }
    Ok(match place {
        Value::Object(members) => members.remove(last).is_some(),
        Value::Array(items) => match index(last) {
            Some(i) if i < items.len() => {
                items.remove(i);
                true
            }
            _ => false,
        },
        _ => false,
    })
}

fn tokens(pointer: &str) -> Result<Vec<String>, String> {
    let mut parts = pointer.split('/');
    if parts.next() != Some("") {
        return Err(format!("`{pointer}` is no JSON Pointer: it begins with `/`"));
    }
    Ok(parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(token: &str) -> Option<usize> {
    let is_plain = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { token.parse().ok() } else { None }
}

/// The place of a member or an element; what is missing is made.
fn step<'a>(place: &'a mut Value, token: &str) -> Result<&'a mut Value, String> {
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(members) => Ok(members.entry(token).or_insert(Value::Null)),
        Value::Array(items) => {
            let len = items.len();
            if token == "-" {
                items.push(Value::Null);
            }
            let index = if token == "-" { Some(len) } else { index(token) };
            index
                .and_then(|i| items.get_mut(i))
                .ok_or_else(|| format!("`{token}` is no place in an array of {len}"))
        }
        _ => Err(format!("`{token}` is below a value that is neither object nor array")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check_set(document: Value, pointer: &str, expected: Value) {
        let mut edited = document;
        set(&mut edited, pointer, json!(9)).unwrap();
        assert_eq!(edited, expected);
    }

    #[track_caller]
    fn check_remove(document: Value, pointer: &str, expected: Value) {
        let mut edited = document.clone();
        assert_eq!(remove(&mut edited, pointer).unwrap(), document != expected);
        assert_eq!(edited, expected);
    }

    #[test]
    fn set_replaces_appends_and_makes_parents() {
        check_set(json!({"a": 1}), "/a", json!({"a": 9}));
        check_set(json!({"a": 1}), "", json!(9));
        check_set(json!({}), "/a/b", json!({"a": {"b": 9}}));
        check_set(json!({"a": [1, 2]}), "/a/1", json!({"a": [1, 9]}));
        check_set(json!({"a": [1]}), "/a/-", json!({"a": [1, 9]}));
        check_set(json!({"a": [1]}), "/a/-/b", json!({"a": [1, {"b": 9}]}));
        check_set(json!({}), "/a~1b/c~0d", json!({"a/b": {"c~d": 9}}));
        check_set(json!({}), "/", json!({"": 9}));
    }

    #[test]
    fn remove_says_whether_there_was_a_value() {
        check_remove(json!({"a": 1, "b": 2}), "/a", json!({"b": 2}));
        check_remove(json!({"a": [1, 2]}), "/a/0", json!({"a": [2]}));
        check_remove(json!({"a": 1}), "/b", json!({"a": 1}));
        check_remove(json!({"a": 1}), "/a/b/c", json!({"a": 1}));
        check_remove(json!({"a": [1]}), "/a/01", json!({"a": [1]}));
    }

    #[test]
    fn what_is_wrong_with_a_pointer_is_said() {
        let mut document = json!({"a": [1], "b": "text"});
        for (pointer, expected) in [
            ("a", "`a` is no JSON Pointer: it begins with `/`"),
            ("/a/1", "`/a/1`: `1` is no place in an array of 1"),
            ("/b/c", "`/b/c`: `c` is below a value that is neither object nor array"),
        ] {
            assert_eq!(set(&mut document, pointer, json!(9)).unwrap_err(), expected);
        }
        assert_eq!(remove(&mut document, "").unwrap_err(), "the whole document cannot be removed");
    }
}
