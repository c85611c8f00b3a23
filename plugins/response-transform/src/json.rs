//! Edits a JSON text at JSON Pointers (RFC 6901), in place: what no pointer names keeps its very bytes, so that unknown
//! fields, the order of members and long numbers survive.
//!
//! The text comes from an upstream. If it turns out to be no JSON on the way to a place, there is no such place.

use std::borrow::Cow;
use std::ops::Range;

/// The value at a pointer.
pub(crate) fn get<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let mut value = root(text)?;
    for segment in segments(pointer) {
        match step(text, value.start, &segment)? {
            Step::Found(entry) => value = entry.value,
            Step::Missing { .. } => return None,
        }
    }
    text.get(value)
}

/// Sets the value at a pointer whose parent exists; whether it did. `-` after an array appends.
pub(crate) fn set(text: &mut String, pointer: &str, json: &str) -> bool {
    let Some((parent, key)) = split(text, pointer) else { return false };
    match step(text, parent, &key) {
        Some(Step::Found(entry)) => text.replace_range(entry.value, json),
        Some(Step::Missing { at, is_empty, is_object }) => {
            let comma = if is_empty { "" } else { "," };
            let key = if is_object { quoted(&key) + ":" } else { String::new() };
            text.insert_str(at, &format!("{comma}{key}{json}"));
        }
        None => return false,
    }
    true
}

/// Removes the value at a pointer; whether there was one.
pub(crate) fn remove(text: &mut String, pointer: &str) -> bool {
    let entry = split(text, pointer).and_then(|(parent, key)| step(text, parent, &key));
    let Some(Step::Found(entry)) = entry else { return false };
    text.replace_range(entry.whole, "");
    true
}

/// The number of elements of an array.
pub(crate) fn len(array: &str) -> Option<usize> {
    let mut scanner = Scanner { text: array, at: 0 };
    scanner.space();
    if scanner.next()? != b'[' {
        return None;
    }
    let mut count = 0;
    if scanner.space() == Some(b']') {
        return Some(0);
    }
    loop {
        scanner.value()?;
        count += 1;
        scanner.space();
        match scanner.next()? {
            b',' => {}
            b']' => return Some(count),
            _ => return None,
        }
    }
}

/// Says whether a JSON text is an object or an array.
pub(crate) fn is_container(json: &str) -> bool {
    json.trim_start().starts_with(['{', '['])
}

/// Where one segment of a pointer leads.
enum Step {
    Found(Entry),
    /// There is no such member or element yet; it would be inserted here.
    Missing {
        at: usize,
        is_empty: bool,
        is_object: bool,
    },
}

/// A member of an object or an element of an array.
struct Entry {
    value: Range<usize>,
    /// With its key and one comma: what goes when it is removed.
    whole: Range<usize>,
}

fn root(text: &str) -> Option<Range<usize>> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    scanner.value()
}

fn segments(pointer: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pointer.split('/').skip(1).map(unescaped)
}

fn unescaped(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') { segment.replace("~1", "/").replace("~0", "~").into() } else { segment.into() }
}

/// Where the parent's value begins, and the last segment.
fn split<'p>(text: &str, pointer: &'p str) -> Option<(usize, Cow<'p, str>)> {
    let (parent, key) = pointer.rsplit_once('/')?;
    let parent = get(text, parent)?;
    let start = parent.as_ptr().addr() - text.as_ptr().addr();
    Some((start, unescaped(key)))
}

/// Goes from the value that begins at `start` to its member or element.
fn step(text: &str, start: usize, segment: &str) -> Option<Step> {
    let mut scanner = Scanner { text, at: start };
    let is_object = match scanner.next()? {
        b'{' => true,
        b'[' => false,
        _ => return None,
    };
    let end = if is_object { b'}' } else { b']' };
    let mut comma = None;
    let mut index = 0;
    while scanner.space()? != end {
        let begin = scanner.at;
        let is_it = if is_object { scanner.key()?.is(segment) } else { is_index(segment, index) };
        let value = scanner.value()?;
        let next = scanner.space()?;
        if is_it {
            return Some(Step::Found(Entry {
                whole: whole(begin, value.end, comma, (next, scanner.at)),
                value,
            }));
        }
        if next == b',' {
            comma = Some(scanner.at);
            scanner.at += 1;
        } else if next != end {
            return None;
        }
        index += 1;
    }
    let is_new = is_object || segment == "-";
    is_new.then_some(Step::Missing { at: scanner.at, is_empty: index == 0, is_object })
}

/// What goes when an entry is removed: with the comma after it or, if it is the last one, the comma before it.
fn whole(begin: usize, end: usize, comma: Option<usize>, next: (u8, usize)) -> Range<usize> {
    match (next, comma) {
        ((b',', at), _) => begin..at + 1,
        (_, Some(comma)) => comma..end,
        (_, None) => begin..end,
    }
}

fn is_index(segment: &str, index: usize) -> bool {
    let is_canonical = segment == "0" || !segment.starts_with(['0', '+']);
    is_canonical && segment.parse() == Ok(index)
}

/// A key with its quotation marks.
struct Key<'a>(&'a str);

impl Key<'_> {
    fn is(&self, name: &str) -> bool {
        if self.0.contains('\\') {
            return serde_json::from_str::<String>(self.0).is_ok_and(|key| key == name);
        }
        self.0.len() == name.len() + 2 && &self.0[1..self.0.len() - 1] == name
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("every text is a JSON string")
}

/// Goes over a JSON text. Each method returns none where the text ends or is no JSON.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Skips white space and looks at the byte after it.
    fn space(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    /// Takes a key and its colon, and the space after it.
    fn key(&mut self) -> Option<Key<'a>> {
        let start = self.at;
        if self.next()? != b'"' {
            return None;
        }
        self.string()?;
        let key = Key(&self.text[start..self.at]);
        self.space();
        (self.next()? == b':').then_some(())?;
        self.space();
        Some(key)
    }

    /// Takes the rest of a string, its closing quotation mark included.
    fn string(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }

    /// Takes a value; a nested one is searched for its end only.
    fn value(&mut self) -> Option<Range<usize>> {
        self.space();
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match self.next()? {
                b'"' => self.string()?,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                byte if depth == 0 && is_scalar(byte) => self.scalar(),
                _ if depth == 0 => return None,
                _ => {}
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn scalar(&mut self) {
        while self.peek().is_some_and(is_scalar) {
            self.at += 1;
        }
    }
}

/// Says whether a byte can be one of a number, `true`, `false` or `null`.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_value_is_found() {
        #[track_caller]
        fn check(text: &str, pointer: &str, value: Option<&str>) {
            assert_eq!(get(text, pointer), value, "{text} {pointer}");
        }
        check(r#" {"a": {"b": [1, "x]", {"c": 1.50e3}]}} "#, "/a/b/2/c", Some("1.50e3"));
        check(r#"{"a":"\"}","b":2}"#, "/b", Some("2"));
        check(r#"{"a":"\\","b":2}"#, "/b", Some("2"));
        check(r#"{"a/b":1,"c~d":2,"\u0065":3,"":4}"#, "/a~1b", Some("1"));
        check(r#"{"a/b":1,"c~d":2,"\u0065":3,"":4}"#, "/c~0d", Some("2"));
        check(r#"{"a/b":1,"c~d":2,"\u0065":3,"":4}"#, "/e", Some("3"));
        check(r#"{"a/b":1,"c~d":2,"\u0065":3,"":4}"#, "/", Some("4"));
        check(r#"["x"]"#, "/0", Some(r#""x""#));
        check(r#"["x"]"#, "/00", None);
        check(r#"["x"]"#, "/+0", None);
        check(r#"["x"]"#, "/-", None);
        check(r#"{"a":1}"#, "/b", None);
        check(r#"{"a":1}"#, "/a/b", None);
        check(r#"{"a":1}"#, "", Some(r#"{"a":1}"#));
        check("[DONE]", "/a", None);
        check("", "/a", None);
    }

    #[test]
    fn a_value_is_set_and_nothing_else_changes() {
        #[track_caller]
        fn check(text: &str, pointer: &str, expected: &str) {
            let mut edited = text.to_owned();
            assert_eq!(set(&mut edited, pointer, "9"), edited != text, "{text} {pointer}");
            assert_eq!(edited, expected, "{text} {pointer}");
        }
        check(r#"{ "a": 1 , "b": 2 }"#, "/a", r#"{ "a": 9 , "b": 2 }"#);
        check(r#"{"a":1}"#, "/b", r#"{"a":1,"b":9}"#);
        check("{}", "/b\"", r#"{"b\"":9}"#);
        check("[1]", "/-", "[1,9]");
        check("[]", "/-", "[9]");
        check("[1]", "/0", "[9]");
        check("[1]", "/1", "[1]");
        check(r#"{"a":1}"#, "/b/c", r#"{"a":1}"#);
        check(r#"{"a":1}"#, "/a/c", r#"{"a":1}"#);
        check(r#"{"a":1"#, "/b", r#"{"a":1"#);
    }

    #[test]
    fn a_value_is_removed_with_one_comma() {
        #[track_caller]
        fn check(text: &str, pointer: &str, expected: &str) {
            let mut edited = text.to_owned();
            assert_eq!(remove(&mut edited, pointer), edited != text, "{text} {pointer}");
            assert_eq!(edited, expected, "{text} {pointer}");
        }
        check(r#"{"a":1,"b":2,"c":3}"#, "/a", r#"{"b":2,"c":3}"#);
        check(r#"{"a":1,"b":2,"c":3}"#, "/b", r#"{"a":1,"c":3}"#);
        check(r#"{"a":1,"b":2 , "c":3}"#, "/c", r#"{"a":1,"b":2 }"#);
        check(r#"{"a":1}"#, "/a", "{}");
        check("[1,2,3]", "/2", "[1,2]");
        check("[1]", "/0", "[]");
        check("[1]", "/-", "[1]");
        check("[1]", "/1", "[1]");
    }

    #[test]
    fn elements_are_counted() {
        #[track_caller]
        fn check(text: &str, count: Option<usize>) {
            assert_eq!(len(text), count, "{text}");
        }
        check("[]", Some(0));
        check(" [ ] ", Some(0));
        check("[[1,2],{\"a\":[3]} , \",\"]", Some(3));
        check("{}", None);
        check("[1", None);
        check("[1;2]", None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r#"[a\\"/~é{}\[\],: ]{0,4}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(r#"[ab/~"é]{0,2}"#, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn without(document: &Value, pointer: &str) -> Value {
        let mut document = document.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Object(members) => drop(members.remove(&*unescaped(key))),
            Value::Array(elements) => drop(elements.remove(key.parse().unwrap())),
            scalar => panic!("{scalar} has no parts"),
        }
        document
    }

    proptest! {
        #[test]
        fn every_place_is_that_of_the_parsed_document(document in value(), is_pretty: bool) {
            let text = if is_pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let mut pointers = vec![String::new()];
            while let Some(pointer) = pointers.pop() {
                let expected = document.pointer(&pointer).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Value>(get(&text, &pointer).unwrap()).unwrap(), expected);
                let names: Vec<String> = match expected {
                    Value::Object(members) => members.keys().map(|key| key.replace('~', "~0").replace('/', "~1")).collect(),
                    Value::Array(elements) => (0..elements.len()).map(|index| index.to_string()).collect(),
                    _ => Vec::new(),
                };
                pointers.extend(names.iter().map(|name| format!("{pointer}/{name}")));
                if pointer.is_empty() {
                    continue;
                }
                let mut edited = text.clone();
                prop_assert!(set(&mut edited, &pointer, "\"new\""));
                let mut expected = document.clone();
                *expected.pointer_mut(&pointer).unwrap() = "new".into();
                prop_assert_eq!(serde_json::from_str::<Value>(&edited).unwrap(), expected);
                let mut edited = text.clone();
                prop_assert!(remove(&mut edited, &pointer));
                prop_assert_eq!(serde_json::from_str::<Value>(&edited).unwrap(), without(&document, &pointer));
            }
        }

        #[test]
        fn nothing_panics(text in r#"[{}\[\]",:\\ a1é]{0,24}"#, pointer in "(/[a01-]?){0,3}") {
            let _ = get(&text, &pointer);
            let _ = len(&text);
            let _ = remove(&mut text.clone(), &pointer);
            let _ = set(&mut text.clone(), &pointer, "1");
        }
    }
}
