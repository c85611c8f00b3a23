//! What the gateway looks at in an answer, with the places of what it may edit.
//!
//! One pass over a whole answer or over one event of a stream; the two have the same shape, but for `message`
//! in the one and `delta` in the other. What has an unexpected type is passed over: an upstream's answer is
//! forwarded even when it makes no sense to us.
//!
//! Source: OpenAI API reference, "Chat", "Completions", "Embeddings", "Responses", seen 2026-11.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::chat::{StopReason, Usage};
use crate::config::ThinkingFormat;
use crate::wire::json::{Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::thinking::{Converter, Parts};
use crate::wire::usage::{self, Counts};
use crate::wire::{Dialect, Endpoint};

mod content;
mod messages;

/// An answer, or one event of it.
#[derive(Debug, Default)]
pub struct View<'a> {
    /// The elements of `choices`; of Google's `candidates` only their number and end.
    pub choices: Vec<Choice<'a>>,
    /// Where the array `choices` stands.
    pub choices_range: Option<Range<usize>>,
    /// The tokens, if they are there and not null.
    pub usage: Option<Usage>,
    /// The member `usage` with the comma that would be too much without it, if its value is not null.
    pub usage_range: Option<Range<usize>>,
    /// The tokens in a vendor's own words, of which a stream may tell a part in each event; Anthropic and Google only.
    pub counts: Counts,
    /// Whether it calls a function; Google only, where that is no reason of its own to end.
    pub has_call: bool,
    /// The tokens by llama.cpp's `timings`.
    pub timings: Option<Usage>,
    /// The message of an `error` that is not null.
    pub error: Option<String>,
    /// The `type` of an event of the Responses API, or of Anthropic's.
    pub kind: Option<Cow<'a, str>>,
    /// Why an answer of the Responses API ended, by its `status`; Anthropic's `stop_reason`; that Google refused a prompt.
    pub stop: Option<StopReason>,
    /// Whether something other than `choices` carries the answer and is not empty.
    pub has_items: bool,
    /// The `message` at the top, which an error event of the Responses API has.
    message: Option<Cow<'a, str>>,
    /// Whether its `object` is `error`: vLLM's errors are not inside a member of that name.
    is_error_object: bool,
}

/// One of an answer's choices.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Its `index`, or else its place in the list.
    pub index: u64,
    /// Where the text of the completions API stands, without its quotes.
    pub text: Option<Range<usize>>,
    /// The `message` or `delta` of the chat API.
    pub message: Option<Message<'a>>,
    /// Why it ended, once it has.
    pub finish_reason: Option<StopReason>,
}

/// A `message` or `delta`.
#[derive(Debug, Default)]
pub struct Message<'a> {
    /// Where the object stands, braces included.
    pub range: Range<usize>,
    /// Its members in order.
    pub members: Vec<Member<'a>>,
}

/// One member of a message.
#[derive(Debug)]
pub struct Member<'a> {
    /// What it is.
    pub field: Field,
    /// Where it stands, from the key's quote to the end of the value.
    pub range: Range<usize>,
    /// Where its value stands.
    pub value: Range<usize>,
    /// The JSON string text of its value, if that is a string.
    pub text: Option<&'a [u8]>,
    /// Whether the value says anything: it is neither null nor an empty string, list or object.
    pub is_filled: bool,
}

/// The members of a message that the gateway tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `role`
    Role,
    /// `content`
    Content,
    /// `reasoning`
    Reasoning,
    /// `reasoning_content`
    ReasoningContent,
    /// Any other.
    Other,
}

impl<'a> View<'a> {
    /// Reads one JSON document as an answer of an endpoint's, or as an event of one.
    ///
    /// # Errors
    /// A syntax error anywhere in it.
    pub fn at(endpoint: Endpoint, bytes: &'a [u8]) -> Result<Self, SyntaxError> {
        match endpoint.dialect() {
            Dialect::OpenAi => Self::of(bytes),
            Dialect::Anthropic => messages::view(bytes),
            Dialect::Gemini => content::view(bytes),
        }
    }

    /// Reads one JSON document in OpenAI's words.
    ///
    /// # Errors
    /// A syntax error anywhere in it.
    pub fn of(bytes: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut view = Self::default();
        let mut scanner = Scanner::new(bytes);
        top(&mut scanner, bytes, &mut view)?;
        scanner.end()?;
        if (view.kind.as_deref() == Some("error") || view.is_error_object) && view.error.is_none() {
            view.error = view.message.take().map(Cow::into_owned);
        }
        Ok(view)
    }

    /// Why it ended, once it has.
    pub fn finish_reason(&self) -> Option<StopReason> {
        self.choices.iter().find_map(|choice| choice.finish_reason).or(self.stop)
    }

    /// Whether the answer or event carries something a client waits for: text, thinking, tool calls, items.
    pub fn has_content(&self) -> bool {
        self.has_items
            || self.kind.as_ref().is_some_and(|kind| kind.ends_with(".delta"))
            || self.choices.iter().any(|choice| {
                choice.text.as_ref().is_some_and(|text| !text.is_empty())
                    || choice.message.as_ref().is_some_and(Message::has_content)
            })
    }
}

impl Choice<'_> {
    /// Puts this piece of the choice through its converter. Returns what its message or text becomes, and where
    /// that stands; none when it stays as it is. `parts` is what the converter gave.
    ///
    /// A converter holds nothing back once `is_last` is true.
    pub fn convert(
        &self,
        bytes: &[u8],
        format: ThinkingFormat,
        converter: &mut Converter,
        is_last: bool,
        parts: &mut Parts,
    ) -> Option<Edit> {
        let target = Field::of_format(format);
        let (thinking, content) = match (&self.message, &self.text) {
            // Content in a form other than text, a list of parts, is nothing to put text into.
            (Some(message), _) if message.has_other_content() => return None,
            (Some(message), _) => (message.thinking(target), message.text(Field::Content)),
            (None, Some(text)) => (&[][..], &bytes[text.clone()]),
            (None, None) => (&[][..], &[][..]),
        };
        converter.push(thinking, content, parts);
        if is_last {
            converter.finish(parts);
        }
        match (&self.message, &self.text) {
            _ if format == ThinkingFormat::Passthrough => (content != parts.answer)
                .then(|| Edit { range: self.content_range(), text: parts.answer.clone() }),
            (Some(message), _) if !message.is_as_wanted(target, parts) => {
                Some(Edit { range: message.range.clone(), text: message.rewritten(bytes, target, parts) })
            }
            _ => None,
        }
    }

    /// Where its content or text stands, without the quotes.
    fn content_range(&self) -> Range<usize> {
        let content = self.message.as_ref().and_then(|message| message.member(Field::Content));
        match (content, &self.text) {
            (Some(member), _) => member.value.start + 1..member.value.end - 1,
            (None, Some(text)) => text.clone(),
            (None, None) => 0..0,
        }
    }
}

/// A place in a document and what is to stand there instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The bytes that go.
    pub range: Range<usize>,
    /// The bytes that come.
    pub text: Vec<u8>,
}

impl Edit {
    /// Makes `edits`, which may not overlap, in a document.
    pub fn apply(mut edits: Vec<Self>, bytes: &Bytes) -> Vec<Bytes> {
        edits.sort_by_key(|edit| edit.range.start);
        let mut segments = Vec::with_capacity(edits.len() * 2 + 1);
        let mut at = 0;
        for edit in edits {
            segments.push(bytes.slice(at..edit.range.start));
            segments.push(edit.text.into());
            at = edit.range.end;
        }
        segments.push(bytes.slice(at..));
        segments.retain(|segment| !segment.is_empty());
        segments
    }
}

impl<'a> Message<'a> {
    /// Whether there is content that is not text.
    pub fn has_other_content(&self) -> bool {
        self.member(Field::Content).is_some_and(|member| member.is_filled && member.text.is_none())
    }

    /// The text of the thinking field that says something; `preferred` when both do.
    fn thinking(&self, preferred: Option<Field>) -> &'a [u8] {
        let (first, second) = match preferred {
            Some(Field::Reasoning) => (Field::Reasoning, Field::ReasoningContent),
            _ => (Field::ReasoningContent, Field::Reasoning),
        };
        let text = self.text(first);
        if text.is_empty() { self.text(second) } else { text }
    }

    /// The member a JSON reader would see: the last of several with the same name.
    pub fn member(&self, field: Field) -> Option<&Member<'a>> {
        self.members.iter().rev().find(|member| member.field == field)
    }

    /// The JSON string text of a member, empty when there is none.
    pub fn text(&self, field: Field) -> &'a [u8] {
        self.member(field).and_then(|member| member.text).unwrap_or_default()
    }

    fn has_content(&self) -> bool {
        self.members.iter().any(|member| member.field != Field::Role && member.is_filled)
    }
}

impl Message<'_> {
    /// Writes the message with another content and thinking, both JSON string text. The thinking is put under
    /// `target`; every other text in a thinking field goes away, everything else stays as it is.
    pub fn rewritten(&self, bytes: &[u8], target: Option<Field>, parts: &Parts) -> Vec<u8> {
        let thinking = target.and_then(Field::name).filter(|_| !parts.thinking.is_empty());
        let mut object =
            Object::with_capacity(self.range.len() + parts.thinking.len() + parts.answer.len() + 16);
        let mut is_thinking_due = thinking.is_some();
        let mut is_answer_due = !parts.answer.is_empty();
        for member in &self.members {
            let is_moved = match member.field {
                Field::Content => {
                    if std::mem::take(&mut is_thinking_due) {
                        object.text(thinking.unwrap_or_default(), &parts.thinking);
                    }
                    // An empty or null content of the upstream stays what it is.
                    member.is_filled || !parts.answer.is_empty()
                }
                Field::Reasoning | Field::ReasoningContent => {
                    (member.is_filled && member.text.is_some())
                        || (thinking.is_some() && target == Some(member.field))
                }
                Field::Role | Field::Other => false,
            };
            match member.field {
                Field::Content if is_moved => {
                    is_answer_due = false;
                    object.text("content", &parts.answer);
                }
                _ if is_moved => {}
                _ => object.member(&bytes[member.range.clone()]),
            }
        }
        if is_thinking_due {
            object.text(thinking.unwrap_or_default(), &parts.thinking);
        }
        if is_answer_due {
            object.text("content", &parts.answer);
        }
        object.close()
    }

    /// Whether [`rewritten`](Self::rewritten) would change nothing.
    pub fn is_as_wanted(&self, target: Option<Field>, parts: &Parts) -> bool {
        self.text(Field::Content) == parts.answer
            && [Field::Reasoning, Field::ReasoningContent].into_iter().all(|field| {
                let wanted: &[u8] = if target == Some(field) { &parts.thinking } else { &[] };
                self.text(field) == wanted
            })
    }
}

/// A JSON object that is being written.
struct Object(Vec<u8>);

impl Object {
    fn with_capacity(bytes: usize) -> Self {
        let mut object = Vec::with_capacity(bytes);
        object.push(b'{');
        Self(object)
    }

    fn member(&mut self, member: &[u8]) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(member);
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.member(b"\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":\"");
        self.0.extend_from_slice(text);
        self.0.push(b'"');
    }

    fn close(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

impl Field {
    /// The thinking field that a format writes; none for those that write none.
    pub fn of_format(format: ThinkingFormat) -> Option<Self> {
        match format {
            ThinkingFormat::Reasoning => Some(Self::Reasoning),
            ThinkingFormat::ReasoningContent => Some(Self::ReasoningContent),
            ThinkingFormat::Passthrough | ThinkingFormat::ThinkTag | ThinkingFormat::Strip => None,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Role => Some("role"),
            Self::Content => Some("content"),
            Self::Reasoning => Some("reasoning"),
            Self::ReasoningContent => Some("reasoning_content"),
            Self::Other => None,
        }
    }

    fn of(key: &Text<'_>) -> Self {
        match () {
            () if key.is("content") => Self::Content,
            () if key.is("role") => Self::Role,
            () if key.is("reasoning_content") => Self::ReasoningContent,
            () if key.is("reasoning") => Self::Reasoning,
            () => Self::Other,
        }
    }
}

pub(in crate::wire) type Scan<T> = Result<T, SyntaxError>;

fn top<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    let mut before: Option<usize> = None;
    // The member `usage` was the first, so that the comma behind it goes with it.
    let mut is_first_usage = false;
    members(scanner, |scanner, key| {
        let start = key.range().start - 1;
        if std::mem::take(&mut is_first_usage)
            && let Some(range) = &mut view.usage_range
        {
            range.end = start;
        }
        if key.is("choices") {
            view.choices_range = Some(choices(scanner, bytes, view)?);
        } else if key.is("usage") {
            if scanner.peek()? == Kind::Null {
                scanner.skip()?;
            } else {
                view.usage = usage::read(scanner)?;
                is_first_usage = before.is_none();
                view.usage_range = Some(before.unwrap_or(start)..scanner.position());
            }
        } else if key.is("timings") {
            view.timings = usage::read_timings(scanner)?;
        } else if key.is("error") {
            view.error = error(scanner, bytes)?;
        } else if key.is("type") {
            view.kind = string(scanner)?;
        } else if key.is("message") {
            view.message = string(scanner)?;
        } else if key.is("object") {
            view.is_error_object = string(scanner)?.as_deref() == Some("error");
        } else if key.is("status") {
            view.stop = string(scanner)?.as_deref().and_then(StopReason::of_status);
        } else if key.is("response") {
            response(scanner, bytes, view)?;
        } else if ["data", "output", "results"].iter().any(|name| key.is(name)) {
            view.has_items |= is_filled(&bytes[scanner.skip()?]);
        } else {
            scanner.skip()?;
        }
        before = Some(scanner.position());
        Ok(())
    })
}

/// Reads the response inside an event of the Responses API.
fn response<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<()> {
    let mut inner = View::default();
    members(scanner, |scanner, key| {
        if key.is("usage") {
            inner.usage = usage::read(scanner)?;
        } else if key.is("error") {
            inner.error = error(scanner, bytes)?;
        } else if key.is("status") {
            inner.stop = string(scanner)?.as_deref().and_then(StopReason::of_status);
        } else {
            scanner.skip()?;
        }
        Ok(())
    })?;
    view.usage = inner.usage.or(view.usage);
    if inner.error.is_some() {
        view.error = inner.error;
    }
    view.stop = inner.stop.or(view.stop);
    Ok(())
}

fn choices<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8], view: &mut View<'a>) -> Scan<Range<usize>> {
    let kind = scanner.peek()?;
    let start = scanner.position();
    if kind != Kind::Array {
        return scanner.skip();
    }
    let mut place = 0;
    scanner.array(|scanner| {
        let mut choice = Choice { index: place, ..Choice::default() };
        place += 1;
        members(scanner, |scanner, key| {
            if key.is("delta") || key.is("message") {
                choice.message = message(scanner, bytes)?;
            } else if key.is("text") {
                choice.text = text(scanner)?.map(|text| text.range());
            } else if key.is("index") {
                choice.index = scanner.count()?.unwrap_or(choice.index);
            } else if key.is("finish_reason") {
                choice.finish_reason = string(scanner)?.map(|reason| StopReason::of_openai(&reason));
            } else {
                scanner.skip()?;
            }
            Ok(())
        })?;
        view.choices.push(choice);
        Ok(())
    })?;
    Ok(start..scanner.position())
}

fn message<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8]) -> Scan<Option<Message<'a>>> {
    if scanner.peek()? != Kind::Object {
        scanner.skip()?;
        return Ok(None);
    }
    let start = scanner.position();
    let mut list = Vec::with_capacity(4);
    scanner.object(|scanner, key| {
        let is_text = scanner.peek()? == Kind::String;
        let value = scanner.skip()?;
        list.push(Member {
            field: Field::of(&key),
            range: key.range().start - 1..value.end,
            text: is_text.then(|| &bytes[value.start + 1..value.end - 1]),
            is_filled: is_filled(&bytes[value.clone()]),
            value,
        });
        Ok(())
    })?;
    Ok(Some(Message { range: start..scanner.position(), members: list }))
}

/// Reads an error: an object with a `message`, a string, or whatever it is, as it stands. What is empty is none.
fn error<'a>(scanner: &mut Scanner<'a>, bytes: &'a [u8]) -> Scan<Option<String>> {
    match scanner.peek()? {
        Kind::Null | Kind::False => scanner.skip().map(|_| None),
        Kind::String => Ok(string(scanner)?.filter(|error| !error.is_empty()).map(Cow::into_owned)),
        Kind::Object => {
            let start = scanner.position();
            let mut message = None;
            members(scanner, |scanner, key| {
                if key.is("message") {
                    message = string(scanner)?;
                    return Ok(());
                }
                scanner.skip().map(drop)
            })?;
            let whole = &bytes[start..scanner.position()];
            let text = || String::from_utf8_lossy(whole).into_owned();
            Ok(is_filled(whole).then(|| message.map_or_else(text, Cow::into_owned)))
        }
        _ => Ok(Some(String::from_utf8_lossy(&bytes[scanner.skip()?]).into_owned())),
    }
}

/// Walks an object; anything else is passed over.
pub(in crate::wire) fn members<'a>(
    scanner: &mut Scanner<'a>,
    member: impl FnMut(&mut Scanner<'a>, Text<'a>) -> Scan<()>,
) -> Scan<()> {
    scanner.members(member)
}

fn text<'a>(scanner: &mut Scanner<'a>) -> Scan<Option<Text<'a>>> {
    match scanner.peek()? {
        Kind::String => scanner.string().map(Some),
        _ => scanner.skip().map(|_| None),
    }
}

pub(in crate::wire) fn string<'a>(scanner: &mut Scanner<'a>) -> Scan<Option<Cow<'a, str>>> {
    Ok(text(scanner)?.map(|text| text.decode()))
}

pub(in crate::wire) fn is_filled(value: &[u8]) -> bool {
    match value {
        b"null" | b"\"\"" => false,
        [b'[' | b'{', inner @ .., _] => !inner.iter().all(u8::is_ascii_whitespace),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, cached: u64, reasoning: u64) -> Option<Usage> {
        Some(Usage { input, output, cached, reasoning, is_estimated: false, ..Usage::default() })
    }

    #[track_caller]
    fn check_usage(json: &str, expected: Option<Usage>) {
        let view = View::of(json.as_bytes()).unwrap();
        assert_eq!(view.usage.or(view.timings), expected);
    }

    #[test]
    fn tokens_are_read_under_every_name() {
        check_usage(
            r#"{"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#,
            usage(3, 4, 0, 0),
        );
        check_usage(
            r#"{"usage":{"prompt_tokens":3,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens":4.0,
                "completion_tokens_details":{"x":null,"reasoning_tokens":1}}}"#,
            usage(3, 4, 2, 1),
        );
        check_usage(
            r#"{"response":{"usage":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2},"output_tokens":4,
                "output_tokens_details":{"reasoning_tokens":1}}}}"#,
            usage(3, 4, 2, 1),
        );
        check_usage(r#"{"usage":{"prompt_tokens":3,"prompt_cache_hit_tokens":2}}"#, usage(3, 0, 2, 0));
        check_usage(r#"{"usage":{"total_tokens":7}}"#, usage(7, 0, 0, 0));
        check_usage(r#"{"usage":{"prompt_tokens":-1,"completion_tokens":"x"}}"#, usage(0, 0, 0, 0));
        check_usage(r#"{"usage":null}"#, None);
        check_usage(r#"{"usage":7}"#, None);
        // parity: 91
        check_usage(r#"{"timings":{"prompt_n":3,"predicted_n":4,"predicted_ms":1.5}}"#, usage(3, 4, 0, 0));
        check_usage(r#"{"timings":{"prompt_n":3,"predicted_n":4,"cache_n":10}}"#, usage(13, 4, 10, 0));
        check_usage(r#"{"timings":{}}"#, None);
    }

    #[track_caller]
    fn check_error(json: &str, expected: Option<&str>) {
        assert_eq!(View::of(json.as_bytes()).unwrap().error.as_deref(), expected);
    }

    #[test]
    fn errors_are_read_in_every_shape() {
        check_error(r#"{"error":{"message":"no \"m\"","code":1}}"#, Some("no \"m\""));
        check_error(r#"{"error":"no"}"#, Some("no"));
        check_error(r#"{"error":{"code":1}}"#, Some(r#"{"code":1}"#));
        for none in ["null", "false", "\"\"", "{}", "{ }"] {
            check_error(&format!("{{\"error\":{none}}}"), None);
        }
        check_error(r#"{"object":"error","message":"no","code":400}"#, Some("no"));
        check_error(r#"{"type":"error","message":"no"}"#, Some("no"));
        check_error(r#"{"type":"response.failed","response":{"error":{"message":"no"}}}"#, Some("no"));
        check_error(r#"{"message":"fine"}"#, None);
    }

    #[track_caller]
    fn check_without_usage(json: &str, expected: &str) {
        let view = View::of(json.as_bytes()).unwrap();
        let range = view.usage_range.unwrap_or(0..0);
        assert_eq!(format!("{}{}", &json[..range.start], &json[range.end..]), expected);
    }

    #[test]
    fn the_usage_is_cut_out_with_one_comma() {
        check_without_usage(r#"{"a":1, "usage":{} ,"b":2}"#, r#"{"a":1 ,"b":2}"#);
        check_without_usage(r#"{ "usage":{} , "b":2}"#, r#"{ "b":2}"#);
        check_without_usage(r#"{"a":1,"usage":{"prompt_tokens":1}}"#, r#"{"a":1}"#);
        check_without_usage(r#"{"usage":{}}"#, "{}");
        check_without_usage(r#"{"a":1,"usage":null}"#, r#"{"a":1,"usage":null}"#);
    }

    #[track_caller]
    fn check_content(json: &str, expected: bool) {
        assert_eq!(View::of(json.as_bytes()).unwrap().has_content(), expected);
    }

    #[test]
    fn content_is_told_from_an_empty_shell() {
        check_content(r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, false);
        check_content(r#"{"choices":[{"delta":{"content":null,"tool_calls":[]}}]}"#, false);
        check_content(r#"{"choices":[{"delta":{}},{"delta":{"content":"a"}}]}"#, true);
        check_content(r#"{"choices":[{"delta":{"reasoning_content":"a"}}]}"#, true);
        check_content(r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#, true);
        check_content(r#"{"choices":[{"text":""}]}"#, false);
        check_content(r#"{"choices":[{"text":"a"}]}"#, true);
        check_content(r#"{"choices":[1,null,{"delta":5}]}"#, false);
        check_content(r#"{"choices":{}}"#, false);
        check_content(r#"{"type":"response.output_text.delta","delta":"a"}"#, true);
        check_content(r#"{"type":"response.created"}"#, false);
        check_content(r#"{"data":[{}]}"#, true);
        check_content(r#"{"output":[ ]}"#, false);
        check_content("5", false);
    }
}
