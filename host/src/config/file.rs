//! YAML text to a tree that knows where everything was written.
//!
//! Scalars stay text and remember whether they were quoted: what a scalar means is decided when it is checked,
//! after `${…}` has been expanded in it. Nothing is expanded here.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};

use crate::config::diagnostic::Problem;

/// The largest configuration file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The most nodes of a tree, those that aliases repeat included.
const NODES_MAX: usize = 100_000;

/// How deep lists and mappings may nest.
const DEPTH_MAX: usize = 32;

/// Where something stands in a file: lines and columns count from 1, columns in characters, the end is exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The line of the first character.
    pub line: usize,
    /// The column of the first character.
    pub column: usize,
    /// The line of the end.
    pub end_line: usize,
    /// The column behind the last character.
    pub end_column: usize,
}

impl Span {
    /// One character at a place.
    pub fn at(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }

    fn from_parser(span: saphyr_parser::Span) -> Self {
        Self {
            line: span.start.line().max(1),
            column: span.start.col() + 1,
            end_line: span.end.line().max(1),
            end_column: span.end.col() + 1,
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it was written; an alias's copy keeps the place of the original.
    pub span: Span,
    /// What was written.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key itself.
    pub text: String,
    /// Where it was written.
    pub span: Span,
}

/// A single value, before anybody has decided what it means.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// Its text; after expansion, the text that counts.
    pub text: String,
    /// The text before expansion, when that differs: the one that may be shown.
    pub written: Option<String>,
    /// Whether it was quoted (or tagged `!!str`) and thus is text whatever it looks like.
    pub is_quoted: bool,
    /// Whether its `${…}` could not be expanded, which has been reported; nothing more is said about it.
    pub is_unresolved: bool,
}

impl Scalar {
    /// The value by YAML's core schema: only plain scalars can be anything but text.
    ///
    /// Source: YAML 1.2.2, section 10.3.2 (tag resolution).
    pub fn plain(&self) -> Plain {
        if self.is_quoted {
            return Plain::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Plain::Null,
            "true" | "True" | "TRUE" => Plain::Bool(true),
            "false" | "False" | "FALSE" => Plain::Bool(false),
            text => number(text),
        }
    }

    /// The text as it was written, which is what a message may quote.
    pub fn shown(&self) -> &str {
        self.written.as_deref().unwrap_or(&self.text)
    }
}

/// What a scalar is by its looks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Plain {
    /// Nothing: the key counts as absent.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// Anything else.
    Text,
}

fn number(text: &str) -> Plain {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Plain::Text;
    }
    if let Ok(whole) = text.parse() {
        return Plain::Integer(whole);
    }
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => Plain::Float(float),
        _ => Plain::Text,
    }
}

impl Node {
    /// Whether this is a plain null, which counts as absent.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.plain() == Plain::Null)
    }

    /// The value of a mapping's key, unless that is null.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entry(name).map(|(_, node)| node)
    }

    /// A mapping's key and its value, unless that is null.
    pub fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|(key, node)| key.text == name && !node.is_null()).map(|(key, node)| (key, node))
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Mapping(entries) => entries,
            Value::Scalar(_) | Value::List(_) => &[],
        }
    }

    /// The items of a list; a scalar counts as a list of one, null as the empty one.
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Scalar(_) if !self.is_null() => std::slice::from_ref(self),
            Value::Scalar(_) | Value::Mapping(_) => &[],
        }
    }

    /// The scalar, if it is one and not null.
    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) if scalar.plain() != Plain::Null => Some(scalar),
            Value::Scalar(_) | Value::List(_) | Value::Mapping(_) => None,
        }
    }
}

/// Parses one YAML document; an empty text is an empty mapping.
///
/// Problems that leave a usable tree (a duplicate key) are added to `problems`.
///
/// # Errors
/// The text is too large, is not YAML, has several documents, nests too deep, or its aliases repeat too much.
pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    parse_within(text, FILE_BYTES_MAX, NODES_MAX, problems)
}

/// The same within other bounds of the text and its tree.
///
/// # Errors
/// See [`parse`].
pub fn parse_within(
    text: &str,
    bytes_max: usize,
    nodes_max: usize,
    problems: &mut Vec<Problem>,
) -> Result<Node, Problem> {
    if text.len() > bytes_max {
        return Err(Problem::error(
            Span::at(1, 1),
            format!("the file is larger than {} MiB", bytes_max >> 20),
        ));
    }
    let mut builder =
        Builder { problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, nodes_max, root: None };
    let mut parser = Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax(&error, text))?;
        builder.take(event, Span::from_parser(span))?;
    }
    let empty = Node { span: Span::at(1, 1), value: Value::Mapping(Vec::new()) };
    Ok(builder.root.filter(|root| !root.is_null()).unwrap_or(empty))
}

fn syntax(error: &ScanError, text: &str) -> Problem {
    let marker = error.marker();
    let line = marker.line().max(1);
    let problem =
        Problem::error(Span::at(line, marker.col() + 1), format!("this is not YAML: {}", error.info()));
    // The parser stops at or behind the line with the mistake.
    let is_link = |line: &str| line.contains("](http");
    if text.lines().skip(line.saturating_sub(2)).take(2).any(is_link) {
        return problem.help(MARKDOWN_LINK);
    }
    let is_bare_variable =
        |line: &str| line.contains(": ${") || line.contains("[${") || line.contains(", ${");
    if text.lines().skip(line - 1).take(1).any(is_bare_variable) {
        return problem.help("put `${…}` in quotes inside of `{…}` and `[…]`");
    }
    problem.help("check the indentation and the quotes on this line and the one before")
}

/// What to say to a Markdown link where a URL belongs.
pub(super) const MARKDOWN_LINK: &str = "this is a Markdown link; write the URL alone";

struct Builder<'a> {
    problems: &'a mut Vec<Problem>,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    nodes_max: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not been seen.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Mapping { entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Problem::error(span, "a second document begins here").help("keep one document per file"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                let is_quoted = style != ScalarStyle::Plain || is_text_tag(tag.as_deref(), span)?;
                let scalar =
                    Scalar { text: text.into_owned(), written: None, is_quoted, is_unresolved: false };
                self.finish(Node { span, value: Value::Scalar(scalar) }, anchor)
            }
            Event::Alias(anchor) => self.repeat(anchor, span),
            Event::SequenceStart(anchor, tag) => {
                is_text_tag(tag.as_deref(), span)?;
                self.open(span, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                is_text_tag(tag.as_deref(), span)?;
                self.open(span, anchor, Content::Mapping { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Problem::error(span, format!("this nests deeper than {DEPTH_MAX} levels")));
        }
        self.open.push(Open { span, anchor, content });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Err(Problem::error(end, "this closes nothing"));
        };
        let span = Span { end_line: end.end_line, end_column: end.end_column, ..open.span };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Mapping { entries, .. } => Value::Mapping(self.merge(entries)),
        };
        self.finish(Node { span, value }, open.anchor)
    }

    /// Applies `<<: *defaults`: the entries that the mapping does not have itself.
    fn merge(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        if entries.iter().all(|(key, _)| key.text != "<<") {
            return entries;
        }
        let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == "<<");
        for (key, node) in merges {
            if node.items().iter().any(|item| item.scalar().is_some()) || node.scalar().is_some() {
                let problem = Problem::error(key.span, "`<<` merges mappings only");
                self.problems.push(problem.help("write `<<: *anchor`, the anchor being on a mapping"));
                continue;
            }
            let sources = std::iter::once(&node).chain(node.items());
            for (key, node) in sources.flat_map(Node::entries) {
                if own.iter().all(|(known, _)| known.text != key.text) {
                    own.push((key.clone(), node.clone()));
                }
            }
        }
        own
    }

    fn repeat(&mut self, anchor: usize, span: Span) -> Result<(), Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::error(span, "this alias stands inside its own anchor"));
        };
        let node = node.clone();
        self.nodes += size(&node);
        self.finish(node, 0)
    }

    /// Puts a finished node where it belongs: the list, the mapping or the document around it.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Problem> {
        self.nodes += 1;
        if anchor != 0 {
            self.nodes += size(&node);
            self.anchors.insert(anchor, node.clone());
        }
        if self.nodes > self.nodes_max {
            return Err(Problem::error(
                node.span,
                "the file has too many values, counting what aliases repeat",
            ));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Mapping { entries, key }) => match key.take() {
                None => *key = Some(as_key(node)?),
                Some(key) => {
                    match entries.iter().find(|(known, _)| known.text == key.text && key.text != "<<") {
                        Some((known, _)) => self.problems.push(duplicate(&key, known)),
                        None => entries.push((key, node)),
                    }
                }
            },
        }
        Ok(())
    }
}

fn duplicate(key: &Key, first: &Key) -> Problem {
    Problem::error(key.span, format!("`{}` is written twice", key.text))
        .help(format!("remove this one or the one on line {}", first.span.line))
}

fn as_key(node: Node) -> Result<Key, Problem> {
    match node.value {
        Value::Scalar(scalar) => Ok(Key { text: scalar.text, span: node.span }),
        Value::List(_) | Value::Mapping(_) => Err(Problem::error(node.span, "a key must be a single word")
            .help("quote the value if it begins with `{` or `[`")),
    }
}

/// Whether a tag makes the scalar text; refuses tags that are not YAML's own.
fn is_text_tag(tag: Option<&Tag>, span: Span) -> Result<bool, Problem> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
        Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
        Some(tag) => {
            let problem =
                Problem::error(span, format!("the tag `{}{}` is not known", tag.handle, tag.suffix));
            Err(problem.help("remove it"))
        }
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, node)| 1 + size(node)).sum::<usize>(),
    }
}
