//! JSON as people read it: names, indentation, and texts with their own lines.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// A document whose keys keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    /// A number, true, false or null, as JSON has it.
    Word(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(Vec<(String, Self)>),
}

/// How much of long things is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Enough to read: pictures and vectors are cut.
    Readable,
    /// Everything.
    Whole,
}

/// The longest text that is shown, in characters.
const TEXT_MAX: usize = 8_000;
/// The most characters without a space that are taken for a text: more are a picture or the like.
const WORD_MAX: usize = 400;
/// The most numbers of a list of numbers that are shown.
const NUMBERS_MAX: usize = 8;

impl Tree {
    /// Reads a document; none if it is no JSON.
    pub(super) fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// The same with all keys in alphabetical order, and without some at the top.
    pub(super) fn sorted_without(self, names: &[&str]) -> Self {
        match self.sorted() {
            Self::Object(mut pairs) => {
                pairs.retain(|(name, _)| !names.contains(&name.as_str()));
                Self::Object(pairs)
            }
            other => other,
        }
    }

    fn sorted(self) -> Self {
        match self {
            Self::List(items) => Self::List(items.into_iter().map(Self::sorted).collect()),
            Self::Object(pairs) => {
                let mut pairs: Vec<_> =
                    pairs.into_iter().map(|(name, value)| (name, value.sorted())).collect();
                pairs.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Object(pairs)
            }
            other => other,
        }
    }

    /// Writes it in lines, each indented by so many spaces.
    pub(super) fn outline(&self, indent: usize, measure: Measure) -> String {
        let mut out = String::new();
        match self {
            Self::List(items) if !items.is_empty() => list(items, indent, measure, &mut out),
            Self::Object(pairs) if !pairs.is_empty() => object(pairs, indent, measure, &mut out),
            leaf => {
                out.push_str(&" ".repeat(indent));
                out.push_str(leaf.beside(indent, measure).trim_start());
                out.push('\n');
            }
        }
        out
    }

    /// What stands behind its name in the same line, and, for a text of several lines, below it.
    fn beside(&self, indent: usize, measure: Measure) -> String {
        match self {
            Self::Word(word) => format!(" {word}"),
            Self::Text(text) => beside_text(text, indent, measure),
            Self::List(items) if items.is_empty() => " []".to_owned(),
            Self::List(items) => format!(" [{}]", words(items, measure)),
            Self::Object(_) => " {}".to_owned(),
        }
    }

    /// Whether it is shown in its name's line.
    fn is_leaf(&self) -> bool {
        match self {
            Self::Word(_) | Self::Text(_) => true,
            Self::List(items) => items.iter().all(|item| matches!(item, Self::Word(_))),
            Self::Object(pairs) => pairs.is_empty(),
        }
    }
}

fn object(pairs: &[(String, Tree)], indent: usize, measure: Measure, out: &mut String) {
    for (place, (name, value)) in pairs.iter().enumerate() {
        // The first line of an item stands behind its dash.
        if place > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&shown_name(name));
        out.push(':');
        if value.is_leaf() {
            out.push_str(&value.beside(indent + 2, measure));
            out.push('\n');
        } else {
            out.push('\n');
            branch(value, indent + 2, measure, out);
        }
    }
}

fn list(items: &[Tree], indent: usize, measure: Measure, out: &mut String) {
    for (place, item) in items.iter().enumerate() {
        if place > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str("- ");
        if item.is_leaf() {
            out.push_str(item.beside(indent + 2, measure).trim_start());
            out.push('\n');
        } else {
            branch(item, indent + 2, measure, out);
        }
    }
}

fn branch(value: &Tree, indent: usize, measure: Measure, out: &mut String) {
    match value {
        Tree::List(items) => list(items, indent, measure, out),
        Tree::Object(pairs) => object(pairs, indent, measure, out),
        Tree::Word(_) | Tree::Text(_) => unreachable!("a branch has parts"),
    }
}

fn beside_text(text: &str, indent: usize, measure: Measure) -> String {
    let (text, left_out) = cut(text, measure);
    let rest = if left_out > 0 { format!(" … and {left_out} more characters") } else { String::new() };
    if !text.contains('\n') {
        let needs_quotes =
            text.is_empty() || text.trim() != text || serde_json::from_str::<serde_json::Value>(text).is_ok();
        let shown = if needs_quotes { format!("{text:?}") } else { text.to_owned() };
        return format!(" {shown}{rest}");
    }
    let mut lines = " |".to_owned();
    for line in text.split('\n') {
        lines.push('\n');
        if !line.is_empty() {
            lines.push_str(&" ".repeat(indent));
            lines.push_str(line);
        }
    }
    lines + &rest
}

/// The part of a text that is shown, and how many characters are not.
fn cut(text: &str, measure: Measure) -> (&str, usize) {
    if measure == Measure::Whole {
        return (text, 0);
    }
    let is_text = text.len() <= WORD_MAX || text.split_whitespace().all(|word| word.len() <= WORD_MAX);
    let max = if is_text { TEXT_MAX } else { WORD_MAX / 4 };
    match text.char_indices().nth(max) {
        Some((at, _)) => (&text[..at], text[at..].chars().count()),
        None => (text, 0),
    }
}

fn words(items: &[Tree], measure: Measure) -> String {
    let shown = if measure == Measure::Whole { items.len() } else { NUMBERS_MAX };
    let words: Vec<&str> = items
        .iter()
        .take(shown)
        .map(|item| match item {
            Tree::Word(word) => word.as_str(),
            Tree::Text(_) | Tree::List(_) | Tree::Object(_) => "…",
        })
        .collect();
    let rest = items.len().saturating_sub(shown);
    if rest > 0 { format!("{}, … {rest} more", words.join(", ")) } else { words.join(", ") }
}

/// A name, quoted if it could be mistaken.
fn shown_name(name: &str) -> String {
    let is_plain =
        !name.is_empty() && name.trim() == name && !name.contains([':', '\n']) && !name.starts_with("- ");
    if is_plain { name.to_owned() } else { format!("{name:?}") }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Word(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Word(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Word(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Word(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Word("null".to_owned()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(Tree::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let tree = Tree::parse(json).unwrap();
        assert_eq!(tree.outline(0, Measure::Readable), expected, "{json}");
    }

    #[test]
    fn a_conversation_can_be_read() {
        check(
            r#"{"model":"m","messages":[{"role":"user","content":"hi\n\nthere"},{"role":"user","content":[{"type":"text","text":"x"}]}],"n":1,"stop":null}"#,
            "model: m
messages:
  - role: user
    content: |
      hi

      there
  - role: user
    content:
      - type: text
        text: x
n: 1
stop: null
",
        );
    }

    #[test]
    fn what_could_be_mistaken_is_quoted() {
        check(
            r#"{"a":"1","b":"true","c":"","d":" x","e:f":"x","":[],"g":{}}"#,
            "a: \"1\"\nb: \"true\"\nc: \"\"\nd: \" x\"\n\"e:f\": x\n\"\": []\ng: {}\n",
        );
        check("[[1,2],[\"a\"],[[\"b\"]]]", "- [1, 2]\n- - a\n- - - b\n");
        check("\"x\"", "x\n");
        check("[]", "[]\n");
    }

    #[test]
    fn pictures_and_vectors_are_cut() {
        let picture = "x".repeat(1000);
        check(
            &format!("{{\"url\":\"{picture}\"}}"),
            &format!("url: {} … and 900 more characters\n", &picture[..100]),
        );
        check("[1,2,3,4,5,6,7,8,9,10.5]", "- 1\n- 2\n- 3\n- 4\n- 5\n- 6\n- 7\n- 8\n- 9\n- 10.5\n");
        check("{\"v\":[1,2,3,4,5,6,7,8,9,10.5]}", "v: [1, 2, 3, 4, 5, 6, 7, 8, … 2 more]\n");
        let whole = Tree::parse(&format!("{{\"url\":\"{picture}\"}}")).unwrap().outline(0, Measure::Whole);
        assert_eq!(whole, format!("url: {picture}\n"));
    }

    #[test]
    fn keys_can_be_sorted_and_left_out() {
        let tree = Tree::parse(r#"{"id":1,"b":{"z":1,"id":2},"a":[{"y":1,"x":2}]}"#).unwrap();
        let sorted = tree.sorted_without(&["id"]).outline(0, Measure::Whole);
        assert_eq!(sorted, "a:\n  - x: 2\n    y: 1\nb:\n  id: 2\n  z: 1\n");
    }

    proptest! {
        #[test]
        fn nothing_panics(json in "[\\[\\]{}:,\"a1 n\\\\u]{0,40}", text in "\\PC{0,40}") {
            for json in [json, serde_json::Value::from(text).to_string()] {
                if let Some(tree) = Tree::parse(&json) {
                    tree.outline(2, Measure::Readable);
                }
            }
        }
    }
}
