//! A JSON document that is read and edited by JSON Pointer.
//!
//! It is never made a tree: a pointer is followed through the bytes, an edit splices them, and what is not edited
//! keeps its bytes. A name that is repeated means its last value, as in most readers of JSON; an edit takes the
//! others off the way it went, so that no reader downstream sees another value than the one that was set.
//!
//! Source: RFC 6901, "JavaScript Object Notation (JSON) Pointer".

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::wire::json::{DEPTH_MAX, Scanner, Span, SyntaxError, quote};

/// The longest pointer, in bytes.
pub const POINTER_BYTES_MAX: usize = 4096;

/// A JSON document that is edited by splicing.
///
/// A clone shares the bytes until one of the two is edited.
#[derive(Clone, Debug)]
pub struct Document {
    bytes: Bytes,
    /// What the outermost array or object holds, once somebody has asked: most pointers begin there, and it may be
    /// a long way from one end to the other.
    top: OnceLock<Option<Arc<List>>>,
}

/// What is wrong with which JSON Pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerError {
    pointer: String,
    reason: String,
}

/// A part of a document and what takes its place.
#[derive(Debug)]
struct Splice {
    range: Range<usize>,
    text: Vec<u8>,
}

impl Document {
    /// Checks that `bytes` are JSON.
    ///
    /// # Errors
    ///
    /// They are not, or are nested too deeply.
    pub fn new(bytes: Bytes) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(&bytes);
        scanner.skip()?;
        scanner.end()?;
        Ok(Self::trusted(bytes))
    }

    /// Takes bytes that have been read as JSON before. In others nothing may be found, and edits may fail.
    pub fn trusted(bytes: Bytes) -> Self {
        Self { bytes, top: OnceLock::new() }
    }

    /// The document as it is now.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The document as it is now.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Returns the JSON text of the value at `pointer`, if there is one.
    ///
    /// # Errors
    ///
    /// `pointer` is no JSON Pointer.
    pub fn get(&self, pointer: &str) -> Result<Option<&str>, PointerError> {
        let pointer = Pointer::parse(pointer)?;
        Ok(self.find(pointer).and_then(|range| str::from_utf8(&self.bytes[range]).ok()))
    }

    /// Sets the value at `pointer` to the JSON text `json`, whatever was there.
    ///
    /// Parents that are missing are made as objects; `-` or its length after an array appends to it; the empty pointer
    /// replaces the document.
    ///
    /// # Errors
    ///
    /// A message about what is wrong with the pointer or the text; the document is unchanged then.
    pub fn set(&mut self, pointer: &str, json: &str) -> Result<(), String> {
        let pointer = Pointer::parse(pointer).map_err(|error| error.to_string())?;
        let json = checked(json, pointer)?;
        let mut splices = Vec::new();
        let mut value = self.root();
        let mut steps = pointer.steps();
        while let Some(step) = steps.next() {
            let list = self.list(&value).ok_or_else(|| no_parent(step.parent, &self.bytes[value.clone()]))?;
            match list.place_of(&self.bytes, &step)? {
                Some(index) => {
                    splices.extend(list.repeats(&self.bytes, &step.name, index));
                    value = list.value(index);
                }
                None => {
                    splices.push(list.appended(&step.name, &nested(steps, json)));
                    self.splice(splices);
                    return Ok(());
                }
            }
        }
        splices.push(Splice { range: value, text: json.as_bytes().to_vec() });
        self.splice(splices);
        Ok(())
    }

    /// Removes the value at `pointer`, an object's member with its name, and one comma; says whether there was one.
    ///
    /// # Errors
    ///
    /// A message about what is wrong with the pointer; the empty one would leave no document.
    pub fn remove(&mut self, pointer: &str) -> Result<bool, String> {
        let pointer = Pointer::parse(pointer).map_err(|error| error.to_string())?;
        let mut splices = Vec::new();
        let mut value = self.root();
        let mut steps = pointer.steps().peekable();
        while let Some(step) = steps.next() {
            let Some(list) = self.list(&value) else { return Ok(false) };
            let Some(index) = list.index_of(&self.bytes, &step.name) else { return Ok(false) };
            if steps.peek().is_none() {
                splices.extend(list.removed(|other| list.is_same(&self.bytes, &step.name, index, other)));
                self.splice(splices);
                return Ok(true);
            }
            splices.extend(list.repeats(&self.bytes, &step.name, index));
            value = list.value(index);
        }
        Err("the whole document cannot be removed; set the empty pointer to replace it".to_owned())
    }

    /// Inserts JSON texts, joined by commas, before the element at `index` of a document that is an array, or at its end.
    pub(super) fn insert(&mut self, index: usize, json: &[u8]) {
        if let Some(list) = self.top() {
            let splice = match list.entries.get(index) {
                Some(entry) => {
                    let at = list.place(entry.start);
                    Splice { range: at..at, text: [json, b","].concat() }
                }
                None => list.appended("", json),
            };
            self.splice(vec![splice]);
        }
    }

    /// Removes the elements that are `gone` from a document that is an array, each with one comma.
    pub(super) fn remove_elements(&mut self, gone: impl Fn(usize) -> bool) {
        if let Some(list) = self.top() {
            let splices = list.removed(gone);
            self.splice(splices);
        }
    }

    /// Where the value at `pointer` stands.
    fn find(&self, pointer: Pointer<'_>) -> Option<Range<usize>> {
        let mut steps = pointer.steps();
        let Some(first) = steps.next() else { return Some(self.root()) };
        let top = self.top()?;
        let mut value = top.value(top.index_of(&self.bytes, &first.name)?);
        for step in steps {
            value = child(&self.bytes, value, &step.name)?;
        }
        Some(value)
    }

    /// What the array or object at `value` holds; none if it is neither.
    fn list(&self, value: &Range<usize>) -> Option<Arc<List>> {
        if *value == self.root() { self.top().cloned() } else { List::read(&self.bytes, value).map(Arc::new) }
    }

    /// Makes edits, which stand in the order of the document, do not overlap and leave it JSON.
    fn splice(&mut self, splices: Vec<Splice>) {
        let added: usize = splices.iter().map(|splice| splice.text.len()).sum();
        let mut bytes = Vec::with_capacity(self.bytes.len() + added);
        let mut at = 0;
        for splice in splices {
            bytes.extend_from_slice(&self.bytes[at..splice.range.start]);
            bytes.extend_from_slice(&splice.text);
            at = splice.range.end;
        }
        bytes.extend_from_slice(&self.bytes[at..]);
        *self = Self::trusted(bytes.into());
    }

    /// The document without the white space around it.
    fn root(&self) -> Range<usize> {
        let start = self.bytes.len() - self.bytes.trim_ascii_start().len();
        start..self.bytes.trim_ascii_end().len().max(start)
    }

    fn top(&self) -> Option<&Arc<List>> {
        self.top.get_or_init(|| List::read(&self.bytes, &self.root()).map(Arc::new)).as_ref()
    }
}

impl fmt::Display for PointerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` is no JSON Pointer: {}", self.pointer, self.reason)
    }
}

impl std::error::Error for PointerError {}

/// The values that stand side by side in an array or object.
#[derive(Debug)]
struct List {
    is_object: bool,
    /// Where the list stands in its document; the places below count from its start.
    range: Range<usize>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// Where the entry begins: at its name, if it has one.
    start: usize,
    name: Option<Span>,
    value: Range<usize>,
}

impl List {
    /// Reads the array or object at `range`; none if there is neither.
    fn read(document: &[u8], range: &Range<usize>) -> Option<Self> {
        let text = &document[range.clone()];
        let mut scanner = Scanner::new(text);
        let mut entries = Vec::new();
        let is_object = text.first() == Some(&b'{');
        let scanned = if is_object {
            scanner.object(|scanner, name| {
                let start = name.range().start - 1;
                entries.push(Entry { start, name: Some(name.span()), value: scanner.skip()? });
                Ok(())
            })
        } else {
            scanner.array(|scanner| {
                let value = scanner.skip()?;
                entries.push(Entry { start: value.start, name: None, value });
                Ok(())
            })
        };
        scanned.ok().map(|()| Self { is_object, range: range.clone(), entries })
    }

    /// How many values there are.
    fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where a value stands in the document.
    fn value(&self, index: usize) -> Range<usize> {
        let value = &self.entries[index].value;
        self.place(value.start)..self.place(value.end)
    }

    /// Cuts the entries that are `gone`, each with one comma.
    fn removed(&self, gone: impl Fn(usize) -> bool) -> Vec<Splice> {
        if (0..self.len()).all(&gone) {
            return vec![Splice { range: self.range.start + 1..self.range.end - 1, text: Vec::new() }];
        }
        let mut splices = Vec::new();
        let mut has_kept = false;
        for (index, entry) in self.entries.iter().enumerate() {
            if !gone(index) {
                has_kept = true;
                continue;
            }
            let range = match self.entries.get(index + 1) {
                Some(next) if !has_kept => entry.start..next.start,
                _ => self.entries[index - 1].value.end..entry.value.end,
            };
            splices.push(Splice { range: self.place(range.start)..self.place(range.end), text: Vec::new() });
        }
        splices
    }

    /// Puts the JSON text `json` at the end, in an object under `name`.
    fn appended(&self, name: &str, json: &[u8]) -> Splice {
        let at = self.place(self.entries.last().map_or(1, |last| last.value.end));
        let mut text = Vec::with_capacity(json.len() + name.len() + 4);
        if !self.entries.is_empty() {
            text.push(b',');
        }
        if self.is_object {
            quote(name, &mut text);
            text.push(b':');
        }
        text.extend_from_slice(json);
        Splice { range: at..at, text }
    }

    /// Which value a step of a pointer leads to.
    fn index_of(&self, document: &[u8], step: &str) -> Option<usize> {
        if self.is_object {
            return (0..self.len()).rfind(|index| self.is_named(document, *index, step));
        }
        array_index(step).filter(|index| *index < self.len())
    }

    /// Which value a step leads to when something is set there; none for the end.
    fn place_of(&self, document: &[u8], step: &Step<'_>) -> Result<Option<usize>, String> {
        if self.is_object {
            return Ok(self.index_of(document, &step.name));
        }
        if step.name == "-" {
            return Ok(None);
        }
        let parent = place(step.parent);
        let length = self.len();
        match array_index(&step.name) {
            Some(index) if index < length => Ok(Some(index)),
            Some(index) if index == length => Ok(None),
            Some(index) => Err(format!("index {index} is beyond {parent}, an array of {length}")),
            None => Err(format!(
                "`{}` is no index of {parent}, an array: write a number without leading zeros, or `-` to append",
                shown(&step.name)
            )),
        }
    }

    /// Cuts the members before the one at `index` that have the same name.
    fn repeats(&self, document: &[u8], name: &str, index: usize) -> Vec<Splice> {
        if !self.is_object {
            return Vec::new();
        }
        self.removed(|other| other != index && self.is_named(document, other, name))
    }

    /// Whether the entry `other` goes away together with the one at `index`.
    fn is_same(&self, document: &[u8], name: &str, index: usize, other: usize) -> bool {
        other == index || self.is_object && self.is_named(document, other, name)
    }

    fn is_named(&self, document: &[u8], index: usize, name: &str) -> bool {
        let text = &document[self.range.clone()];
        self.entries[index].name.is_some_and(|written| written.is(text, name))
    }

    fn place(&self, at: usize) -> usize {
        self.range.start + at
    }
}

/// Follows one step of a pointer without a list of what else is there.
fn child(document: &[u8], parent: Range<usize>, step: &str) -> Option<Range<usize>> {
    /// Ends a scan early.
    const FOUND: SyntaxError = SyntaxError { offset: 0, reason: "found" };
    let text = &document[parent.clone()];
    let mut scanner = Scanner::new(text);
    let mut found = None;
    match text.first() {
        Some(b'{') => scanner
            .object(|scanner, name| {
                let value = scanner.skip()?;
                if name.is(step) {
                    found = Some(value);
                }
                Ok(())
            })
            .ok()?,
        Some(b'[') => {
            let index = array_index(step)?;
            let mut at = 0;
            let _ = scanner.array(|scanner| {
                let value = scanner.skip()?;
                if at == index {
                    found = Some(value);
                    return Err(FOUND);
                }
                at += 1;
                Ok(())
            });
        }
        _ => {}
    }
    found.map(|value| parent.start + value.start..parent.start + value.end)
}

/// A text that is a JSON Pointer.
#[derive(Clone, Copy)]
struct Pointer<'a>(&'a str);

/// One name or index of a pointer.
struct Step<'a> {
    /// The pointer before it.
    parent: &'a str,
    name: Cow<'a, str>,
}

impl<'a> Pointer<'a> {
    fn parse(text: &'a str) -> Result<Self, PointerError> {
        let mut escapes = text.split('~').skip(1);
        let reason = if text.len() > POINTER_BYTES_MAX {
            format!("it is longer than {POINTER_BYTES_MAX} bytes")
        } else if !text.is_empty() && !text.starts_with('/') {
            "it must be empty or begin with `/`".to_owned()
        } else if !escapes.all(|rest| rest.starts_with(['0', '1'])) {
            "`~` is written `~0`, and `/` in a name `~1`".to_owned()
        } else if Self(text).depth() > DEPTH_MAX {
            format!("it has more than {DEPTH_MAX} steps")
        } else {
            return Ok(Self(text));
        };
        Err(PointerError { pointer: shown(text), reason })
    }

    /// How many arrays and objects are around what it points to.
    fn depth(self) -> u32 {
        u32::try_from(self.0.matches('/').count()).unwrap_or(u32::MAX)
    }

    fn steps(self) -> impl Iterator<Item = Step<'a>> {
        let text = self.0;
        text.match_indices('/').map(move |(at, _)| {
            let rest = &text[at + 1..];
            let name = &rest[..rest.find('/').unwrap_or(rest.len())];
            let name = if name.contains('~') {
                Cow::Owned(name.replace("~1", "/").replace("~0", "~"))
            } else {
                Cow::Borrowed(name)
            };
            Step { parent: &text[..at], name }
        })
    }
}

/// Reads a step as an array's index.
fn array_index(step: &str) -> Option<usize> {
    let is_number = step == "0" || step.starts_with(|first: char| matches!(first, '1'..='9'));
    step.parse().ok().filter(|_| is_number)
}

/// Checks a text that is to be put at `pointer`, and returns it without the white space around it.
fn checked<'a>(json: &'a str, pointer: Pointer<'_>) -> Result<&'a str, String> {
    let mut scanner = Scanner::inside(json.as_bytes(), pointer.depth());
    let read = scanner.skip().and_then(|range| scanner.end().map(|()| range));
    read.map(|range| &json[range]).map_err(|error| {
        let (line, column) = error.position(json.as_bytes());
        let place = place(pointer.0);
        format!("the value for {place} is no JSON: {} at line {line}, column {column}", error.reason)
    })
}

/// Writes the objects that the last steps of a pointer name around a JSON text.
fn nested<'a>(steps: impl Iterator<Item = Step<'a>>, json: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(json.len());
    let mut depth = 0;
    for step in steps {
        text.push(b'{');
        quote(&step.name, &mut text);
        text.push(b':');
        depth += 1;
    }
    text.extend_from_slice(json.as_bytes());
    text.extend(std::iter::repeat_n(b'}', depth));
    text
}

/// Says that what stands at `pointer` can hold nothing.
fn no_parent(pointer: &str, value: &[u8]) -> String {
    let kind = match value.first() {
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "malformed",
    };
    format!("{} is {kind}, set an array or object there first", place(pointer))
}

/// What a message calls the value at a pointer.
fn place(pointer: &str) -> String {
    if pointer.is_empty() { "the document".to_owned() } else { format!("`{}`", shown(pointer)) }
}

/// As much of a pointer as a message quotes.
fn shown(pointer: &str) -> String {
    const CHARS_MAX: usize = 80;
    let short: String = pointer.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if pointer.chars().nth(CHARS_MAX).is_some() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn document(text: &str) -> Document {
        Document::new(Bytes::copy_from_slice(text.as_bytes()))
            .unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    fn text(document: &Document) -> &str {
        str::from_utf8(document.bytes()).unwrap()
    }

    #[track_caller]
    fn check_get(json: &str, pointer: &str, expected: Option<&str>) {
        assert_eq!(document(json).get(pointer), Ok(expected), "{pointer}");
    }

    #[track_caller]
    fn check_set(json: &str, pointer: &str, value: &str, expected: &str) {
        let mut document = document(json);
        assert_eq!(document.set(pointer, value), Ok(()), "{pointer}");
        assert_eq!(text(&document), expected);
    }

    /// What is refused leaves the document as it was.
    #[track_caller]
    fn check_refused(json: &str, pointer: &str, value: &str, expected: &str) {
        let mut document = document(json);
        assert_eq!(document.set(pointer, value), Err(expected.to_owned()));
        assert_eq!(text(&document), json);
    }

    #[track_caller]
    fn check_remove(json: &str, pointer: &str, expected: Option<&str>) {
        let mut document = document(json);
        assert_eq!(document.remove(pointer), Ok(expected.is_some()), "{pointer}");
        assert_eq!(text(&document), expected.unwrap_or(json));
    }

    #[test]
    fn the_examples_of_the_standard_are_found() {
        let json =
            r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        check_get(json, "", Some(json));
        check_get(json, "/foo", Some(r#"["bar","baz"]"#));
        check_get(json, "/foo/0", Some(r#""bar""#));
        let scalars = ["/", "/a~1b", "/c%d", "/e^f", "/g|h", r"/i\j", r#"/k"l"#, "/ ", "/m~0n"];
        for (value, pointer) in scalars.iter().enumerate() {
            check_get(json, pointer, Some(&value.to_string()));
        }
    }

    #[test]
    fn a_value_is_returned_as_it_is_written() {
        let json = " { \"a\" : [ 1.0e+2 , { \"b\" : \"\\u00e9\" } ] , \"c\":null } ";
        check_get(json, "", Some(json.trim()));
        check_get(json, "/a/0", Some("1.0e+2"));
        check_get(json, "/a/1/b", Some(r#""\u00e9""#));
        check_get(json, "/c", Some("null"));
        check_get(json, "/c/d", None);
        check_get(json, "/b", None);
        check_get("[[1],[2,[3]]]", "/1/1/0", Some("3"));
        check_get("7", "", Some("7"));
        check_get("7", "/0", None);
    }

    #[test]
    fn an_index_is_a_number_without_leading_zeros() {
        for step in ["01", "00", "-0", "+1", "1.0", "1e0", " 1", "-", "", "2", "99999999999999999999999"] {
            check_get("[1,2]", &format!("/{step}"), None);
            check_get("[[1,2]]", &format!("/0/{step}"), None);
            check_remove("[1,2]", &format!("/{step}"), None);
        }
        check_get(r#"{"01":1,"-":2}"#, "/01", Some("1"));
        check_get(r#"{"01":1,"-":2}"#, "/-", Some("2"));
    }

    #[test]
    fn names_are_compared_by_what_they_mean_and_the_last_counts() {
        check_get(r#"{"\u0061\/":1}"#, "/a~1", Some("1"));
        check_get(r#"{"~1":1,"/":2}"#, "/~01", Some("1"));
        check_get(r#"{"a":{"b":1,"b":2},"a":{"b":3,"\u0062":4}}"#, "/a/b", Some("4"));
    }

    #[test]
    fn what_is_no_pointer_is_named() {
        let fault = |pointer: &str| document("{}").get(pointer).unwrap_err().to_string();
        assert_eq!(fault("a"), "`a` is no JSON Pointer: it must be empty or begin with `/`");
        assert_eq!(fault("#/a"), "`#/a` is no JSON Pointer: it must be empty or begin with `/`");
        for pointer in ["/~", "/~2", "/a~/b", "/~~0"] {
            let expected =
                format!("`{pointer}` is no JSON Pointer: `~` is written `~0`, and `/` in a name `~1`");
            assert_eq!(fault(pointer), expected);
            assert_eq!(document("{}").set(pointer, "1"), Err(expected.clone()));
            assert_eq!(document("{}").remove(pointer), Err(expected));
        }
        assert!(fault(&"/a".repeat(129)).ends_with("it has more than 128 steps"));
        assert!(fault(&format!("/{}", "a".repeat(4096))).ends_with("it is longer than 4096 bytes"));
        assert!(fault(&"a".repeat(5000)).len() < 200);
        assert_eq!(document("{}").get(&"/a".repeat(128)), Ok(None));
    }

    #[test]
    fn set_replaces_one_value_and_nothing_else() {
        check_set("{ \"a\" : 1 , \"b\":2}\n", "/a", " [ 0.10 ] ", "{ \"a\" : [ 0.10 ] , \"b\":2}\n");
        check_set("[1, 2 ,3]", "/1", "{}", "[1, {} ,3]");
        check_set(r#"{"a":[{"b":1.0}, 2.0]}"#, "/a/0/b", "null", r#"{"a":[{"b":null}, 2.0]}"#);
        check_set(" {\"a\":1} ", "", "[]", " [] ");
        check_set(r#"{"\u0061":1}"#, "/a", "2", r#"{"\u0061":2}"#);
    }

    #[test]
    fn set_appends_what_is_not_there() {
        check_set("{}", "/a", "1", r#"{"a":1}"#);
        check_set(r#"{"a":1 }"#, "/b\"~1", "2", r#"{"a":1,"b\"/":2 }"#);
        check_set(r#"{"a":1}"#, "/b/c/0", "2", r#"{"a":1,"b":{"c":{"0":2}}}"#);
        check_set("[]", "/-", "1", "[1]");
        check_set("[]", "/0", "1", "[1]");
        check_set("[1, 2 ]", "/-", "3", "[1, 2,3 ]");
        check_set("[1]", "/1/a", "2", r#"[1,{"a":2}]"#);
        check_set("[1]", "/-/-", "2", r#"[1,{"-":2}]"#);
        check_set(r#"{"a":[1]}"#, "/a/-", "2", r#"{"a":[1,2]}"#);
    }

    #[test]
    fn repeated_names_on_the_way_of_an_edit_become_one() {
        check_set(r#"{"a":1,"b":2,"a":3}"#, "/a", "4", r#"{"b":2,"a":4}"#);
        check_set(r#"{"x":0, "a":1, "a":3}"#, "/a", "4", r#"{"x":0, "a":4}"#);
        check_set(r#"{"a":{"b":1},"a":{"b":2,"b":3}}"#, "/a/b", "4", r#"{"a":{"b":4}}"#);
        check_set(r#"{"a":{"b":1},"c":1,"a":{}}"#, "/a/b", "4", r#"{"c":1,"a":{"b":4}}"#);
        check_remove(r#"{"a":1,"b":2,"a":3}"#, "/a", Some(r#"{"b":2}"#));
        check_remove(r#"{"a":1, "\u0061":3}"#, "/a", Some("{}"));
        check_remove(r#"{"a":1,"a":{"b":1}}"#, "/a/b", Some(r#"{"a":{}}"#));
        check_remove(r#"{"a":1,"a":{"b":1}}"#, "/a/c", None);
    }

    #[test]
    fn remove_takes_one_comma_with_it() {
        let object = r#"{ "a":1, "b":2 ,"c":3 }"#;
        check_remove(object, "/a", Some(r#"{ "b":2 ,"c":3 }"#));
        check_remove(object, "/b", Some(r#"{ "a":1 ,"c":3 }"#));
        check_remove(object, "/c", Some(r#"{ "a":1, "b":2 }"#));
        check_remove("{ \"a\" : 1 }", "/a", Some("{}"));
        check_remove("[ [1], 2 ]", "/0/0", Some("[ [], 2 ]"));
        check_remove("[1,2,3]", "/2", Some("[1,2]"));
        check_remove(object, "/d", None);
        check_remove(object, "/a/b", None);
        check_remove("1", "/a", None);
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        check_refused("[1,2]", "/3", "0", "index 3 is beyond the document, an array of 2");
        check_refused(
            r#"{"a":[]}"#,
            "/a/01",
            "0",
            "`01` is no index of `/a`, an array: write a number without leading zeros, or `-` to append",
        );
        check_refused(
            r#"{"a":{"b":"x"}}"#,
            "/a/b/c",
            "0",
            "`/a/b` is a string, set an array or object there first",
        );
        check_refused("null", "/a", "0", "the document is null, set an array or object there first");
        check_refused(
            "{}",
            "/a",
            "{\n x}",
            "the value for `/a` is no JSON: expected a name in double quotes at line 2, column 2",
        );
        check_refused(
            "{}",
            "/a",
            "1 2",
            "the value for `/a` is no JSON: unexpected text after the end of the document at line 1, column 3",
        );
        check_refused(
            "{}",
            "",
            "",
            "the value for the document is no JSON: unexpected end of the document at line 1, column 1",
        );
        let whole = "the whole document cannot be removed; set the empty pointer to replace it";
        assert_eq!(document("{}").remove(""), Err(whole.to_owned()));
    }

    #[test]
    fn no_edit_nests_deeper_than_the_scanner_reads() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let mut document = document("{}");
        assert!(document.set("/a/b", &deep(127)).is_err());
        assert_eq!(document.set("/a/b", &deep(126)), Ok(()));
        assert!(Document::new(document.into_bytes()).is_ok());
        assert!(Document::new(deep(129).into()).is_err());
    }

    #[test]
    fn a_clone_does_not_see_later_edits() {
        let mut edited = document(r#"{"a":1}"#);
        assert_eq!(edited.get("/a"), Ok(Some("1")));
        let before = edited.clone();
        edited.set("/a", "2").unwrap();
        assert_eq!((before.get("/a"), edited.get("/a")), (Ok(Some("1")), Ok(Some("2"))));
    }

    /// A document as somebody may write it: white space, escapes and repeated names included.
    fn written() -> impl Strategy<Value = String> {
        let name =
            prop::sample::select(vec!["\"a\"", "\"b\"", "\"\\u0061\"", "\"\"", "\"0\"", "\"-\"", "\"~/\""]);
        let scalar =
            prop::sample::select(vec!["1", "-2.50", "null", "true", "\"a\\n\"", "\"é{[,\"", "{}", "[ ]"]);
        let space = || prop::sample::select(vec!["", "", " ", "\n\t"]);
        scalar.prop_map(str::to_owned).prop_recursive(4, 40, 5, move |inner| {
            let item = (space(), inner.clone(), space())
                .prop_map(|(before, item, after)| format!("{before}{item}{after}"));
            let member = (space(), name.clone(), item.clone())
                .prop_map(|(space, name, item)| format!("{space}{name}:{item}"));
            prop_oneof![
                prop::collection::vec(item, 1..5).prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(member, 1..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            ]
        })
    }

    fn pointer() -> impl Strategy<Value = String> {
        let step = prop::sample::select(vec!["a", "b", "", "0", "1", "2", "-", "01", "~0~1", "c"]);
        prop::collection::vec(step, 0..5)
            .prop_map(|steps| steps.iter().map(|step| format!("/{step}")).collect())
    }

    fn meaning(json: &str) -> Value {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    fn names(pointer: &str) -> Vec<String> {
        pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
    }

    /// What `set` means on a tree; false if it is refused.
    fn set_in(tree: &mut Value, steps: &[String], value: &Value) -> bool {
        let Some((first, rest)) = steps.split_first() else {
            *tree = value.clone();
            return true;
        };
        match tree {
            Value::Object(members) if members.contains_key(first) => set_in(&mut members[first], rest, value),
            Value::Object(members) => {
                let mut added = value.clone();
                for name in rest.iter().rev() {
                    added = [(name.clone(), added)].into_iter().collect();
                }
                members.insert(first.clone(), added);
                true
            }
            Value::Array(items) => {
                let is_index = first == "0" || !first.starts_with('0');
                let index =
                    if first == "-" { Some(items.len()) } else { first.parse().ok().filter(|_| is_index) };
                match index {
                    Some(index) if index < items.len() => set_in(&mut items[index], rest, value),
                    Some(index) if index == items.len() => {
                        let mut added = value.clone();
                        for name in rest.iter().rev() {
                            added = [(name.clone(), added)].into_iter().collect();
                        }
                        items.push(added);
                        true
                    }
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn remove_in(tree: &mut Value, pointer: &str) -> bool {
        let Some((parent, _)) = pointer.rsplit_once('/') else { return false };
        let is_there = tree.pointer(pointer).is_some();
        let last = names(pointer).pop().unwrap();
        match tree.pointer_mut(parent) {
            Some(Value::Object(members)) => drop(members.remove(&last)),
            Some(Value::Array(items)) if is_there => drop(items.remove(last.parse().unwrap())),
            _ => {}
        }
        is_there
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn get_finds_what_a_tree_holds(json in written(), pointer in pointer()) {
            let document = document(&json);
            let found = document.get(&pointer).unwrap();
            prop_assert_eq!(found.map(meaning), meaning(&json).pointer(&pointer).cloned());
            prop_assert_eq!(document.get(&pointer).unwrap(), found);
        }

        #[test]
        fn set_means_what_it_means_in_a_tree(json in written(), pointer in pointer(), value in written()) {
            let mut document = document(&json);
            let mut tree = meaning(&json);
            let is_set = document.set(&pointer, &value).is_ok();
            prop_assert_eq!(is_set, set_in(&mut tree, &names(&pointer), &meaning(&value)));
            prop_assert_eq!(meaning(text(&document)), tree);
            if !is_set {
                prop_assert_eq!(text(&document), json);
            } else if !pointer.contains('-') {
                prop_assert_eq!(document.get(&pointer), Ok(Some(value.trim())));
            }
        }

        #[test]
        fn remove_means_what_it_means_in_a_tree(json in written(), pointer in pointer()) {
            let mut document = document(&json);
            let mut tree = meaning(&json);
            let is_there = remove_in(&mut tree, &pointer);
            prop_assert_eq!(document.remove(&pointer).unwrap_or(false), is_there);
            prop_assert_eq!(meaning(text(&document)), tree);
        }

        #[test]
        fn an_edit_keeps_every_other_byte(tree in written().prop_map(|json| meaning(&json)), pointer in pointer()) {
            let json = format!(" {tree:#}\n");
            let mut document = document(&json);
            let old = document.get(&pointer).unwrap().map(str::to_owned);
            if document.set(&pointer, "\"the new value\"").is_ok() {
                let edited = text(&document).to_owned();
                match old {
                    Some(old) => prop_assert_eq!(edited.replacen("\"the new value\"", &old, 1), json),
                    None => {
                        let at = json.bytes().zip(edited.bytes()).take_while(|(a, b)| a == b).count();
                        let rest = json.len() - at;
                        prop_assert_eq!(&edited[edited.len() - rest..], &json[at..]);
                    }
                }
            }
        }

        #[test]
        fn no_bytes_and_no_pointer_panic(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "[\\[\\]{}\",:a0 \\\\-]{0,30}".prop_map(String::into_bytes),
            ],
            pointer in prop_oneof!["[/~01a-]{0,8}", ".{0,8}"],
            value in prop_oneof!["[\\[\\]{}\",:a0 ]{0,8}", ".{0,8}"],
        ) {
            let is_json = Document::new(bytes.clone().into()).is_ok();
            let _ = Document::trusted(bytes.clone().into()).get(&pointer);
            let mut removed = Document::trusted(bytes.clone().into());
            let mut set = removed.clone();
            let _ = removed.remove(&pointer);
            let _ = set.set(&pointer, &value);
            for edited in [removed, set] {
                prop_assert!(!is_json || Document::new(edited.into_bytes()).is_ok());
            }
        }
    }
}
