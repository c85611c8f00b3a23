//! Tidies chat messages as an upstream's `clean` asks for; what needs no change stays byte for byte.

use std::borrow::Cow;
use std::ops::Range;

use super::edit::Splice;
use crate::config::Clean;
use crate::wire::json::{Kind, Scanner, SyntaxError, Text, quote};

/// Returns the edits that make the messages at `messages` of `body` clean.
///
/// The steps are taken in this order: thinking is removed, texts are trimmed, empty messages dropped, user messages
/// merged. Messages are dropped or merged only if nothing but their role, name and text is lost or joined. When all
/// are empty, all stay, and the upstream may say so.
pub(super) fn splices(body: &[u8], messages: Range<usize>, clean: Clean) -> Vec<Splice> {
    let mut list = Vec::new();
    let mut scanner = Scanner::new(&body[messages.clone()]);
    let scanned = scanner.array(|scanner| {
        list.push(Message::read(scanner, clean)?);
        Ok(())
    });
    debug_assert!(scanned.is_ok(), "it has been read before");
    if clean.drop_empty && list.iter().any(|message| !message.is_empty()) {
        list.iter_mut().for_each(|message| message.is_gone = message.is_empty());
    }
    let document = &body[messages.clone()];
    let mut splices = if clean.merge_user { merge(document, &mut list) } else { Vec::new() };
    for message in list.iter().filter(|message| !message.is_gone && !message.is_merged) {
        splices.extend(message.content.edits());
    }
    splices.extend(removals(&list));
    for splice in &mut splices {
        splice.range.start += messages.start;
        splice.range.end += messages.start;
    }
    splices
}

/// One message as it is read; all ranges are in the array of messages.
struct Message<'a> {
    range: Range<usize>,
    role: Cow<'a, str>,
    content: Content,
    /// Whether a member besides role, content and name has a value: tool calls, reasoning, an id.
    has_more: bool,
    has_name: bool,
    is_gone: bool,
    /// Whether its content is written anew, with that of others.
    is_merged: bool,
}

enum Content {
    Nothing,
    Text(Line),
    Parts {
        /// Between the brackets.
        inner: Range<usize>,
        texts: Vec<Line>,
        /// Whether a part is something else than a text.
        has_media: bool,
    },
    /// Not what a message may have; left to the upstream.
    Other,
}

/// A text of a message, a string with its quotes.
struct Line {
    range: Range<usize>,
    /// What takes its place.
    edited: Option<String>,
    is_empty: bool,
}

impl<'a> Message<'a> {
    fn read(scanner: &mut Scanner<'a>, clean: Clean) -> Result<Self, SyntaxError> {
        scanner.peek()?;
        let mut message = Self {
            range: scanner.position()..scanner.position(),
            role: Cow::Borrowed(""),
            content: Content::Nothing,
            has_more: false,
            has_name: false,
            is_gone: false,
            is_merged: false,
        };
        // The role decides how the content is edited and may stand behind it.
        let mut content = None;
        let mut lines = Vec::new();
        scanner.object(|scanner, name| {
            let kind = scanner.peek()?;
            match &*name.decode() {
                "role" if kind == Kind::String => message.role = scanner.string()?.decode(),
                "content" => {
                    lines.clear();
                    content = Some(read_content(scanner, kind, &mut lines)?);
                }
                "name" => {
                    message.has_name = true;
                    scanner.skip()?;
                }
                _ => {
                    let value = scanner.skip()?;
                    let is_nothing = matches!(scanner.slice(value), "null" | "\"\"" | "[]" | "{}");
                    message.has_more |= !is_nothing;
                }
            }
            Ok(())
        })?;
        message.range.end = scanner.position();
        let thinks = clean.strip_think && message.role == "assistant";
        let mut lines = lines.iter().map(|text| Line::edit(text, thinks, clean.trim));
        message.content = match content {
            None => Content::Nothing,
            Some(Shape::Nothing) => Content::Nothing,
            Some(Shape::Other) => Content::Other,
            Some(Shape::Text) => lines.next().map_or(Content::Other, Content::Text),
            Some(Shape::Parts { inner, has_media }) => {
                Content::Parts { inner, texts: lines.collect(), has_media }
            }
        };
        Ok(message)
    }

    fn is_empty(&self) -> bool {
        let is_result = matches!(&*self.role, "tool" | "function");
        !self.has_more && !is_result && self.content.is_empty()
    }

    /// Whether its content is all there is to it.
    fn can_merge(&self) -> bool {
        let has_content = matches!(self.content, Content::Text(_) | Content::Parts { .. });
        self.role == "user" && !self.has_more && !self.has_name && has_content
    }
}

enum Shape {
    Nothing,
    Text,
    Parts { inner: Range<usize>, has_media: bool },
    Other,
}

fn read_content<'a>(
    scanner: &mut Scanner<'a>,
    kind: Kind,
    lines: &mut Vec<Text<'a>>,
) -> Result<Shape, SyntaxError> {
    let start = scanner.position();
    match kind {
        Kind::String => lines.push(scanner.string()?),
        Kind::Array => {
            let mut has_media = false;
            scanner.array(|scanner| {
                let before = lines.len();
                if scanner.peek()? == Kind::Object {
                    read_part(scanner, lines)?;
                } else {
                    scanner.skip()?;
                }
                has_media |= lines.len() == before;
                Ok(())
            })?;
            return Ok(Shape::Parts { inner: start + 1..scanner.position() - 1, has_media });
        }
        _ => {
            scanner.skip()?;
        }
    }
    Ok(match kind {
        Kind::String => Shape::Text,
        Kind::Null => Shape::Nothing,
        _ => Shape::Other,
    })
}

fn read_part<'a>(scanner: &mut Scanner<'a>, lines: &mut Vec<Text<'a>>) -> Result<(), SyntaxError> {
    scanner.object(|scanner, name| {
        if scanner.peek()? == Kind::String && name.is("text") {
            lines.push(scanner.string()?);
        } else {
            scanner.skip()?;
        }
        Ok(())
    })
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Text(line) => line.is_empty,
            Self::Parts { texts, has_media, .. } => !has_media && texts.iter().all(|line| line.is_empty),
            Self::Other => false,
        }
    }

    fn lines(&self) -> &[Line] {
        match self {
            Self::Nothing | Self::Other => &[],
            Self::Text(line) => std::slice::from_ref(line),
            Self::Parts { texts, .. } => texts,
        }
    }

    fn edits(&self) -> impl Iterator<Item = Splice> {
        self.lines().iter().filter_map(|line| {
            let mut text = Vec::new();
            quote(line.edited.as_deref()?, &mut text);
            Some(Splice { range: line.range.clone(), text })
        })
    }
}

impl Line {
    fn edit(text: &Text<'_>, thinks: bool, trims: bool) -> Self {
        let written = text.decode();
        let mut edited = Cow::Borrowed(&*written);
        if thinks {
            edited = without_thinking(&written);
        }
        if trims {
            edited = match edited {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            };
        }
        let is_empty = edited.is_empty();
        let edited = (edited != written).then(|| edited.into_owned());
        Self { range: text.range().start - 1..text.range().end + 1, edited, is_empty }
    }

    /// The text as a JSON string with its quotes.
    fn literal<'a>(&self, document: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.edited {
            None => Cow::Borrowed(&document[self.range.clone()]),
            Some(text) => {
                let mut literal = Vec::with_capacity(text.len() + 2);
                quote(text, &mut literal);
                Cow::Owned(literal)
            }
        }
    }
}

/// Removes each `<think>` up to the next `</think>`; one that is never closed stays.
fn without_thinking(text: &str) -> Cow<'_, str> {
    const OPEN: &str = "<think>";
    const CLOSE: &str = "</think>";
    let mut kept = String::new();
    let mut rest = text;
    while let Some(open) = rest.find(OPEN)
        && let Some(length) = rest[open..].find(CLOSE)
    {
        kept.push_str(&rest[..open]);
        rest = &rest[open + length + CLOSE.len()..];
    }
    if rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    kept.push_str(rest);
    Cow::Owned(kept)
}

/// Joins each run of user messages in its first one; the others are gone.
fn merge(document: &[u8], list: &mut [Message<'_>]) -> Vec<Splice> {
    let mut splices = Vec::new();
    let mut kept: Vec<&mut Message<'_>> = list.iter_mut().filter(|message| !message.is_gone).collect();
    for run in kept.chunk_by_mut(|one, next| one.can_merge() && next.can_merge()).filter(|run| run.len() > 1)
    {
        let contents: Vec<_> = run.iter().map(|message| &message.content).collect();
        splices.extend(joined(document, &contents));
        run[0].is_merged = true;
        run[1..].iter_mut().for_each(|message| message.is_gone = true);
    }
    splices
}

/// Writes several contents in the place of the first: texts joined by a newline, or else a list of all parts.
fn joined(document: &[u8], contents: &[&Content]) -> Option<Splice> {
    let range = match contents.first()? {
        Content::Text(line) => line.range.clone(),
        Content::Parts { inner, .. } => inner.start - 1..inner.end + 1,
        Content::Nothing | Content::Other => return None,
    };
    let is_text = contents.iter().all(|content| matches!(content, Content::Text(_)));
    let text = if is_text {
        let literals = contents.iter().flat_map(|content| content.lines()).map(|line| line.literal(document));
        let texts: Vec<_> = literals.map(|literal| literal[1..literal.len() - 1].to_vec()).collect();
        [b"\"", &texts.join(&b"\\n"[..])[..], b"\""].concat()
    } else {
        let parts: Vec<_> = contents.iter().map(|content| parts(document, content)).collect();
        let parts: Vec<_> = parts.into_iter().filter(|parts| !parts.is_empty()).collect();
        [b"[", &parts.join(&b',')[..], b"]"].concat()
    };
    Some(Splice { range, text })
}

/// The parts of a content without the brackets around them.
fn parts(document: &[u8], content: &Content) -> Vec<u8> {
    match content {
        Content::Nothing | Content::Other => Vec::new(),
        Content::Text(line) => [br#"{"type":"text","text":"#, &*line.literal(document), b"}"].concat(),
        Content::Parts { inner, .. } => {
            let mut parts = Vec::with_capacity(inner.len());
            let mut at = inner.start;
            for edit in content.edits() {
                parts.extend_from_slice(&document[at..edit.range.start]);
                parts.extend_from_slice(&edit.text);
                at = edit.range.end;
            }
            parts.extend_from_slice(&document[at..inner.end]);
            parts.trim_ascii().to_vec()
        }
    }
}

/// Cuts the messages that are gone, each with one comma.
fn removals(list: &[Message<'_>]) -> Vec<Splice> {
    let mut splices = Vec::new();
    let mut has_kept = false;
    for (index, message) in list.iter().enumerate() {
        if !message.is_gone {
            has_kept = true;
            continue;
        }
        let range = match (has_kept, list.get(index + 1)) {
            (true, _) => list[index - 1].range.end..message.range.end,
            (false, Some(next)) => message.range.start..next.range.start,
            (false, None) => message.range.clone(),
        };
        splices.push(Splice { range, text: Vec::new() });
    }
    splices
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Clean = Clean { trim: false, drop_empty: false, merge_user: false, strip_think: false };
    const TRIM: Clean = Clean { trim: true, ..NOTHING };
    const DROP: Clean = Clean { drop_empty: true, ..NOTHING };
    const MERGE: Clean = Clean { merge_user: true, ..NOTHING };
    const STRIP: Clean = Clean { strip_think: true, ..NOTHING };
    const ALL: Clean = Clean { trim: true, drop_empty: true, merge_user: true, strip_think: true };

    /// Cleans the array `messages`, which stands a little inside of a body.
    #[track_caller]
    fn check(clean: Clean, messages: &str, expected: &str) {
        let body = format!("{{\"m\":{messages}}}");
        let mut splices = splices(body.as_bytes(), 5..body.len() - 1, clean);
        splices.sort_by_key(|splice| splice.range.start);
        let mut cleaned = body.clone().into_bytes();
        for splice in splices.into_iter().rev() {
            cleaned.splice(splice.range, splice.text);
        }
        assert_eq!(String::from_utf8(cleaned).unwrap(), format!("{{\"m\":{expected}}}"));
    }

    // parity: 84
    #[test]
    fn thinking_is_removed_from_the_assistants_history() {
        let chat =
            |role: &str, content: &str| format!(r#"[{{"content":{content}, "role":"{role}","n":0.70}}]"#);
        let strip = |content: &str, expected: &str| {
            check(STRIP, &chat("assistant", content), &chat("assistant", expected));
            check(STRIP, &chat("user", content), &chat("user", content));
        };
        strip(r#""<think>a\nb</think>c""#, r#""c""#);
        strip(r#""<think>a<\/think>\u00e9 <think></think>d""#, r#""é d""#);
        strip(
            r#"[{"type":"text","text":"x<think>a</think>"},{"text":"\u00e9"}]"#,
            r#"[{"type":"text","text":"x"},{"text":"\u00e9"}]"#,
        );
        strip(r#""<think>never closed""#, r#""<think>never closed""#);
        strip(r#""</think>a<think>""#, r#""</think>a<think>""#);
        strip("null", "null");
    }

    // parity: 87
    #[test]
    fn texts_are_trimmed_only_when_asked() {
        let messages =
            r#"[{"role":"user","content":" a\n "},{"role":"b","content":[{"text":"\t"},{"image":" "}]}]"#;
        check(NOTHING, messages, messages);
        check(
            TRIM,
            messages,
            r#"[{"role":"user","content":"a"},{"role":"b","content":[{"text":""},{"image":" "}]}]"#,
        );
    }

    // parity: 87, 89
    #[test]
    fn empty_messages_are_dropped_only_when_asked() {
        let empty = r#"{"role":"user","content":""}"#;
        let full = r#"{"role":"user","content":"a"}"#;
        let all = format!("[ {empty} , {full},{empty} ,{empty}\n, {full} ,{empty} ]");
        check(NOTHING, &all, &all);
        check(DROP, &all, &format!("[ {full}\n, {full} ]"));
        check(DROP, &format!("[{empty},{empty}]"), &format!("[{empty},{empty}]"));
        check(
            DROP,
            &format!(
                r#"[{{"role":"a","content":[]}},{{"role":"a"}},{{"role":"a","content":null,"tool_calls":[]}},{full}]"#
            ),
            &format!("[{full}]"),
        );
        for kept in [
            r#"{"role":"assistant","content":null,"tool_calls":[{}]}"#,
            r#"{"role":"assistant","content":"","reasoning_content":"r"}"#,
            r#"{"role":"tool","content":"","tool_call_id":"1"}"#,
            r#"{"role":"function","content":"","name":"f"}"#,
            r#"{"role":"user","content":[{"type":"image_url"}]}"#,
            r#"{"role":"user","content":5}"#,
        ] {
            check(DROP, &format!("[{empty},{kept}]"), &format!("[{kept}]"));
        }
    }

    // parity: 87
    #[test]
    fn user_messages_are_merged_only_when_asked() {
        let user = |content: &str| format!(r#"{{"role":"user","content":{content}}}"#);
        let two = format!("[{},{}]", user(r#""\u00e9""#), user(r#""b""#));
        check(NOTHING, &two, &two);
        check(MERGE, &two, &format!("[{}]", user(r#""\u00e9\nb""#)));
        let image = r#"[ {"image":0.70} ]"#;
        check(
            MERGE,
            &format!("[{},{},{}]", user(r#""a""#), user(image), user("[]")),
            &format!("[{}]", user(r#"[{"type":"text","text":"a"},{"image":0.70}]"#)),
        );
        let named = r#"{"role":"user","content":"b","name":"n"}"#;
        let apart = format!(
            r#"[{},{named},{},{{"role":"assistant","content":"x"}},{}]"#,
            user("\"a\""),
            user("\"c\""),
            user("\"d\"")
        );
        check(MERGE, &apart, &apart);
    }

    #[test]
    fn the_steps_build_on_each_other() {
        check(
            ALL,
            r#"[{"role":"user","content":" a"},{"role":"assistant","content":" <think>x</think>\n"},{"role":"user","content":"b "}]"#,
            r#"[{"role":"user","content":"a\nb"}]"#,
        );
    }
}
