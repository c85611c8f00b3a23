//! JSON Pointer (RFC 6901) on a document, with the host's rules for edits.

use serde_json::{Map, Value};

/// Returns the value at a pointer.
pub(super) fn get<'a>(document: &'a Value, pointer: &str) -> Option<&'a Value> {
    document.pointer(pointer)
}

/// Sets the value at a pointer. Parents that are missing are made as objects; `-` after an array appends.
pub(super) fn set(document: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    let tokens = tokens(pointer)?;
    let mut place = document;
    for (i, token) in tokens.iter().enumerate() {
        let parent = || name(&tokens[..i]);
        let rest = &tokens[i + 1..];
        place = match place {
            Value::Object(members) => match members.contains_key(token) {
                true => &mut members[token],
                false => {
                    members.insert(token.clone(), nested(rest, value));
                    return Ok(());
                }
            },
            Value::Array(items) => match element(items.len(), token, parent)? {
                Some(index) => &mut items[index],
                None => {
                    items.push(nested(rest, value));
                    return Ok(());
                }
            },
            other => {
                return Err(format!("{} is {}, set an array or object there first", parent(), kind(other)));
            }
        };
    }
    *place = value;
    Ok(())
}

/// Removes the value at a pointer, and says whether there was one.
pub(super) fn remove(document: &mut Value, pointer: &str) -> Result<bool, String> {
    let tokens = tokens(pointer)?;
    let Some((last, parents)) = tokens.split_last() else {
        return Err("the whole document cannot be removed; set the empty pointer to replace it".to_owned());
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
    let wrong = |reason| Err(format!("`{pointer}` is no JSON Pointer: {reason}"));
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return wrong("it must be empty or begin with `/`");
    }
    if !pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1'])) {
        return wrong("`~` is written `~0`, and `/` in a name `~1`");
    }
    Ok(pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect())
}

fn index(token: &str) -> Option<usize> {
    let is_plain = token == "0" || !token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { token.parse().ok() } else { None }
}

/// Which element of an array is set; `None` for the end.
fn element(len: usize, token: &str, parent: impl Fn() -> String) -> Result<Option<usize>, String> {
    match index(token) {
        _ if token == "-" => Ok(None),
        Some(index) if index <= len => Ok((index < len).then_some(index)),
        Some(index) => Err(format!("index {index} is beyond {}, an array of {len}", parent())),
        None => Err(format!(
            "`{token}` is no index of {}, an array: write a number without leading zeros, or `-` to append",
            parent()
        )),
    }
}

/// The value below objects that are made for these names.
fn nested(names: &[String], value: Value) -> Value {
    names.iter().rev().fold(value, |value, name| Value::Object(Map::from_iter([(name.clone(), value)])))
}

/// What a message calls the value at a pointer.
fn name(tokens: &[String]) -> String {
    let pointer: String =
        tokens.iter().map(|token| format!("/{}", token.replace('~', "~0").replace('/', "~1"))).collect();
    if pointer.is_empty() { "the document".to_owned() } else { format!("`{pointer}`") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
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
        check_set(json!({"a": [1]}), "/a/1", json!({"a": [1, 9]}));
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
        let mut document = json!({"a": [1], "b": "text", "c": null});
        for (pointer, expected) in [
            ("a", "`a` is no JSON Pointer: it must be empty or begin with `/`"),
            ("/~2", "`/~2` is no JSON Pointer: `~` is written `~0`, and `/` in a name `~1`"),
            ("/a/2", "index 2 is beyond `/a`, an array of 1"),
            (
                "/a/01",
                "`01` is no index of `/a`, an array: write a number without leading zeros, or `-` to append",
            ),
            ("/b/c", "`/b` is a string, set an array or object there first"),
            ("/c/d", "`/c` is null, set an array or object there first"),
        ] {
            assert_eq!(set(&mut document, pointer, json!(9)).unwrap_err(), expected);
        }
        assert_eq!(
            remove(&mut document, "").unwrap_err(),
            "the whole document cannot be removed; set the empty pointer to replace it"
        );
    }
}
