//! A JSON request: read in one pass, edited by splicing.

mod clean;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use bytes::Bytes;

use crate::chat::Prompt;
use crate::config::Clean;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner, Span, SyntaxError, Text, quote};
use crate::wire::{Endpoint, MODEL_BYTES_MAX};

/// How much of a completion's prompt tells conversations apart, in bytes.
const COMPLETION_ANCHOR_BYTES: usize = 2048;

/// A checked JSON request: its bytes, what routing needs to know of it, and where edits go.
#[derive(Clone, Debug)]
pub struct Request {
    endpoint: Endpoint,
    body: Bytes,
    model: String,
    is_stream: bool,
    asks_usage: bool,
    /// Every top-level member, in order, repeated ones too.
    members: Vec<Member>,
    /// The texts that may identify the conversation, in order.
    pieces: Vec<Piece>,
}

/// What the configuration asks to change in a request on its way to one upstream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Edits<'a> {
    /// The name that the upstream knows the model by.
    pub model: Option<&'a str>,
    /// Stop words to put before the request's own.
    pub stop: &'a [String],
    /// Upper bound of `max_tokens` and `max_completion_tokens`.
    pub max_tokens: Option<u64>,
    /// Members for requests that lack them: the name, and the value as JSON text.
    pub extra_body: &'a [(String, String)],
    /// Whether streams are made to end with usage.
    pub include_usage: bool,
    /// How chat messages are tidied.
    pub clean: Clean,
}

/// A part of the body and what takes its place.
#[derive(Debug)]
pub(super) struct Splice {
    pub(super) range: Range<usize>,
    pub(super) text: Vec<u8>,
}

/// Members that the request lacks: the name, and the value as JSON text.
type Added<'a> = Vec<(&'a str, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Member {
    name: Span,
    kind: Kind,
    value: Range<usize>,
    /// The value, if it is a string that nothing here has a use for yet.
    text: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    speaker: Speaker,
    /// Which message it is of.
    message: usize,
    text: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    /// A user message without any text, an image for example; the piece is its content as JSON.
    UserMedia,
    Other,
}

/// What the paths of Google's endpoints say that the bodies of the others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// The model, decoded.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
}

/// Reads and checks the body of a request to `endpoint`; Google's have a part of it in their path.
///
/// # Errors
///
/// `InvalidRequest`: not JSON (the message has line and column), or a field is missing or of a wrong type (`param`
/// names it).
pub fn decode(endpoint: Endpoint, body: Bytes, in_path: Option<InPath>) -> Result<Request> {
    let _ = in_path;
    let mut reader = Reader::new(endpoint);
    reader.document(&body)?;
    let Some(model) = reader.model else {
        return Err(Error::invalid("model", "`model` is missing, name the model to use"));
    };
    let request = Request {
        endpoint,
        model,
        is_stream: reader.is_stream,
        asks_usage: reader.asks_usage,
        members: reader.members,
        pieces: reader.pieces,
        body,
    };
    request.check_required()?;
    Ok(request)
}

impl Request {
    /// The model by the name the client uses.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The JSON document, as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the answer is to be streamed.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether the client wants the usage of a stream: `stream_options.include_usage` is true.
    pub fn asks_usage(&self) -> bool {
        self.asks_usage
    }

    /// The most tokens that the answer may have, if the request bounds it: what it says for each choice, for all of them.
    pub fn output_max(&self) -> Option<u64> {
        let number = |name: &&str| {
            let member = self.last(name).filter(|member| member.kind == Kind::Number)?;
            let text = std::str::from_utf8(&self.body[member.value.clone()]).ok()?;
            // What has a fraction or an exponent is taken as its whole part.
            text.parse().ok().or_else(|| text.parse().ok().map(|number: f64| number as u64))
        };
        let each: u64 =
            ["max_completion_tokens", "max_tokens", "max_output_tokens"].iter().find_map(number)?;
        let choices: u64 = ["n", "best_of"].iter().filter_map(number).max().unwrap_or(1);
        Some(each.saturating_mul(choices.max(1)))
    }

    /// Returns what identifies the conversation; `with_users` also decodes the user messages.
    pub fn prompt(&self, with_users: bool) -> Prompt<'_> {
        let mut prefix = Vec::new();
        match self.endpoint {
            Endpoint::ChatCompletions => {
                self.push_values(&["tools", "functions"], &mut prefix);
                self.push_opening(&mut prefix);
            }
            Endpoint::Responses => {
                self.push_values(&["tools", "instructions"], &mut prefix);
                self.push_opening(&mut prefix);
            }
            Endpoint::Completions => prefix.extend(self.completion_anchor()),
            _ => self.push_values(INPUT_NAMES, &mut prefix),
        }
        let users = if with_users { self.users() } else { Vec::new() };
        Prompt { prefix, users }
    }

    /// Returns the body as one upstream gets it, in segments: the client's bytes with the edits between them.
    ///
    /// Without edits that is the body itself.
    pub fn encode(&self, edits: &Edits<'_>) -> Vec<Bytes> {
        let mut splices = Vec::new();
        let mut added = Vec::new();
        self.edit_model(edits, &mut splices);
        if matches!(self.endpoint, Endpoint::ChatCompletions | Endpoint::Completions) {
            self.edit_stop(edits, &mut splices, &mut added);
            self.edit_caps(edits, &mut splices, &mut added);
            self.edit_usage(edits, &mut splices, &mut added);
        }
        if self.endpoint == Endpoint::ChatCompletions
            && edits.clean != Clean::default()
            && let Some(messages) = self.last("messages")
        {
            splices.extend(clean::splices(&self.body, messages.value.clone(), edits.clean));
        }
        for (name, value) in edits.extra_body {
            if self.last(name).is_none() && added.iter().all(|(known, _)| known != name) {
                added.push((name, value.as_bytes().into()));
            }
        }
        if let Some(last) = self.members.last().filter(|_| !added.is_empty()) {
            splices.push(Splice { range: last.value.end..last.value.end, text: written(&added) });
        }
        assemble(&self.body, splices)
    }

    fn check_required(&self) -> Result<()> {
        for alternatives in required(self.endpoint) {
            let is_there = |name: &&&str| self.last(name).is_some_and(|member| member.kind != Kind::Null);
            let Some(name) = alternatives.iter().find(is_there) else {
                let field = alternatives[0];
                return Err(Error::invalid(field, format!("`{field}` is missing")));
            };
            let kind = self.last(name).map(|member| member.kind);
            if let Some(kind @ (Kind::Number | Kind::True | Kind::False)) = kind {
                let message = format!("`{name}` must be a string or an array, not {}", kind_name(kind));
                return Err(Error::invalid(*name, message));
            }
        }
        Ok(())
    }

    /// The member that counts when a name is repeated: the last, as in every reader of JSON.
    fn last(&self, name: &str) -> Option<&Member> {
        self.members.iter().rfind(|member| member.name.is(&self.body, name))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.name.is(&self.body, name))
    }

    /// Appends the values of some members: strings in canonical form, others as they are written.
    fn push_values<'a>(&'a self, names: &[&str], prefix: &mut Vec<Cow<'a, [u8]>>) {
        for name in names {
            if let Some(member) = self.last(name).filter(|member| member.kind != Kind::Null) {
                prefix.push(match member.text {
                    Some(text) => text.canonical(&self.body),
                    None => Cow::Borrowed(&self.body[member.value.clone()]),
                });
            }
        }
    }

    /// Appends how the conversation begins: the system texts up to the first user message, and this.
    fn push_opening<'a>(&'a self, prefix: &mut Vec<Cow<'a, [u8]>>) {
        let is_user = |piece: &&Piece| matches!(piece.speaker, Speaker::User | Speaker::UserMedia);
        let first_user = self.pieces.iter().find(is_user).map(|piece| piece.message);
        let opening = self.pieces.iter().filter(|piece| match first_user {
            Some(message) if piece.speaker == Speaker::System => piece.message < message,
            Some(message) => piece.message == message,
            None => true,
        });
        prefix.extend(opening.map(|piece| piece.text.canonical(&self.body)));
    }

    /// The beginning of a completion's prompt, or of the first of several.
    fn completion_anchor(&self) -> Option<Cow<'_, [u8]>> {
        let member = self.last("prompt")?;
        let mut anchor = match member.text {
            Some(text) => text.canonical(&self.body),
            None => first_prompt(&self.body[member.value.clone()]),
        };
        match &mut anchor {
            Cow::Borrowed(bytes) => *bytes = &bytes[..bytes.len().min(COMPLETION_ANCHOR_BYTES)],
            Cow::Owned(bytes) => bytes.truncate(COMPLETION_ANCHOR_BYTES),
        }
        Some(anchor)
    }

    /// The text of each user message; that of several parts is joined.
    fn users(&self) -> Vec<Cow<'_, str>> {
        let mut users: Vec<Cow<'_, str>> = Vec::new();
        let mut current = None;
        for piece in self.pieces.iter().filter(|piece| piece.speaker == Speaker::User) {
            let text = piece.text.decode(&self.body);
            match users.last_mut() {
                Some(last) if current == Some(piece.message) => last.to_mut().push_str(&text),
                _ => users.push(text),
            }
            current = Some(piece.message);
        }
        users
    }

    fn edit_model(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>) {
        let Some(model) = edits.model.filter(|model| *model != self.model) else {
            return;
        };
        for member in self.all("model") {
            splices.push(Splice { range: member.value.clone(), text: quoted(model) });
        }
    }

    fn edit_stop(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        if edits.stop.is_empty() {
            return;
        }
        let member = self.last("stop");
        let own = member.map_or_else(Vec::new, |member| words(&self.body[member.value.clone()]));
        let configured = edits.stop.iter().map(|word| (Cow::Borrowed(&**word), Cow::Owned(quoted(word))));
        // The client decides how many there are, so each is looked up and not compared with all before it.
        let mut known = HashSet::new();
        let is_new = |(word, literal)| known.insert(word).then_some(literal);
        let literals: Vec<Cow<'_, [u8]>> = configured.chain(own).filter_map(is_new).collect();
        let text = [b"[", &literals.join(&b',')[..], b"]"].concat();
        match member {
            Some(member) => splices.push(Splice { range: member.value.clone(), text }),
            None => added.push(("stop", text)),
        }
    }

    fn edit_caps(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        let Some(cap) = edits.max_tokens else {
            return;
        };
        let text = cap.to_string().into_bytes();
        let mut is_bounded = false;
        for name in ["max_tokens", "max_completion_tokens"] {
            is_bounded |= self.last(name).is_some_and(|member| member.kind == Kind::Number);
            for member in self.all(name).filter(|member| self.exceeds(member, cap)) {
                splices.push(Splice { range: member.value.clone(), text: text.clone() });
            }
        }
        if is_bounded {
            return;
        }
        match self.last("max_tokens") {
            Some(null) => splices.push(Splice { range: null.value.clone(), text }),
            None => added.push(("max_tokens", text)),
        }
    }

    fn exceeds(&self, member: &Member, cap: u64) -> bool {
        let Ok(text) = std::str::from_utf8(&self.body[member.value.clone()]) else {
            return false;
        };
        // What is too long for a `u64`, or has a fraction or an exponent, is compared as it would be rounded.
        text.parse::<u64>()
            .map_or_else(|_| text.parse().is_ok_and(|number: f64| number > cap as f64), |n| n > cap)
    }

    fn edit_usage(&self, edits: &Edits<'_>, splices: &mut Vec<Splice>, added: &mut Added<'_>) {
        if !edits.include_usage || !self.is_stream || self.asks_usage {
            return;
        }
        match self.last("stream_options") {
            None => added.push(("stream_options", br#"{"include_usage":true}"#.to_vec())),
            Some(member) if member.kind == Kind::Null => {
                splices.push(Splice {
                    range: member.value.clone(),
                    text: br#"{"include_usage":true}"#.to_vec(),
                });
            }
            Some(member) if member.kind == Kind::Object => self.ask_usage_in(member.value.clone(), splices),
            // The upstream will say what it thinks of it.
            Some(_) => {}
        }
    }

    /// Sets `include_usage` in a `stream_options` object.
    fn ask_usage_in(&self, options: Range<usize>, splices: &mut Vec<Splice>) {
        let mut values = Vec::new();
        let mut last_end = None;
        let mut scanner = Scanner::new(&self.body[options.clone()]);
        let scanned = scanner.object(|scanner, name| {
            let value = scanner.skip()?;
            last_end = Some(options.start + value.end);
            if name.is("include_usage") {
                values.push(options.start + value.start..options.start + value.end);
            }
            Ok(())
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
        if values.is_empty() {
            let (at, comma) = last_end.map_or((options.start + 1, ""), |end| (end, ","));
            let text = format!(r#"{comma}"include_usage":true"#).into_bytes();
            splices.push(Splice { range: at..at, text });
        }
        splices.extend(values.into_iter().map(|range| Splice { range, text: b"true".to_vec() }));
    }
}

/// The members whose values are the whole input of an endpoint without a conversation.
const INPUT_NAMES: &[&str] = &[
    "instructions",
    "input",
    "prompt",
    "messages",
    "query",
    "queries",
    "documents",
    "items",
    "text_1",
    "text_2",
];

/// The members a request must have; of those in one group, any.
///
/// Source: OpenAI, API reference, request bodies; vLLM, OpenAI-compatible server, for rerank, score, classify, and
/// for `messages` in place of `input`.
fn required(endpoint: Endpoint) -> &'static [&'static [&'static str]] {
    match endpoint {
        Endpoint::ChatCompletions => &[&["messages"]],
        Endpoint::Completions => &[&["prompt", "prompt_embeds"]],
        Endpoint::Embeddings | Endpoint::Classify => &[&["input", "messages"]],
        Endpoint::Responses => &[&["input", "prompt"]],
        Endpoint::AudioSpeech | Endpoint::Moderations => &[&["input"]],
        Endpoint::ImagesGenerations => &[&["prompt"]],
        Endpoint::Rerank => &[&["query"], &["documents"]],
        Endpoint::Score => &[&["text_1", "queries"], &["text_2", "documents", "items"]],
        Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        | Endpoint::Messages
        | Endpoint::CountMessageTokens
        | Endpoint::GenerateContent
        | Endpoint::CountContentTokens
        | Endpoint::EmbedContent
        | Endpoint::BatchEmbedContents
        | Endpoint::Models
        | Endpoint::Model => &[],
    }
}

/// The one pass over a request's bytes.
struct Reader {
    endpoint: Endpoint,
    model: Option<String>,
    is_stream: bool,
    asks_usage: bool,
    members: Vec<Member>,
    pieces: Vec<Piece>,
    /// The first wrong field. A document that is not JSON at all is the worse news, so reading goes on.
    fault: Option<Error>,
}

type Scan = std::result::Result<(), SyntaxError>;

impl Reader {
    fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            model: None,
            is_stream: false,
            asks_usage: false,
            members: Vec::with_capacity(16),
            pieces: Vec::new(),
            fault: None,
        }
    }

    fn document(&mut self, body: &[u8]) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidRequest, message));
        if body.starts_with(b"\xEF\xBB\xBF") {
            return invalid("body begins with a byte order mark, send UTF-8 without one".into());
        }
        let mut scanner = Scanner::new(body);
        let kind = scanner.peek();
        let read = match kind {
            Ok(Kind::Object) => scanner.object(|scanner, name| self.member(scanner, name)),
            Ok(_) => scanner.skip().map(drop),
            Err(error) => Err(error),
        };
        match read.and_then(|()| scanner.end()).and(kind) {
            Ok(Kind::Object) => self.fault.take().map_or(Ok(()), Err),
            Ok(kind) => invalid(format!("body must be a JSON object, not {}", kind_name(kind))),
            Err(_) if body.iter().all(u8::is_ascii_whitespace) => {
                invalid("body is empty, send a JSON object".into())
            }
            Err(error) => {
                let (line, column) = error.position(body);
                invalid(format!("malformed JSON at line {line}, column {column}: {}", error.reason))
            }
        }
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, name: Text<'_>) -> Scan {
        let kind = scanner.peek()?;
        let start = scanner.position();
        let mut text = None;
        let is_chat = self.endpoint == Endpoint::ChatCompletions;
        let is_text = is_chat || self.endpoint == Endpoint::Completions;
        match &*name.decode() {
            "model" => self.model(scanner, kind)?,
            "stream" => self.stream(scanner, kind)?,
            "stream_options" => self.stream_options(scanner, kind)?,
            "messages" if is_chat => self.messages(scanner, kind)?,
            "input" if self.endpoint == Endpoint::Responses => self.input(scanner, kind)?,
            "stop" if is_text => self.stop(scanner, kind)?,
            name @ ("max_tokens" | "max_completion_tokens") if is_text => {
                if !matches!(kind, Kind::Number | Kind::Null) {
                    self.wrong_type(name.to_owned(), "a number", kind);
                }
                scanner.skip()?;
            }
            _ if kind == Kind::String => text = Some(scanner.string()?.span()),
            _ => {
                scanner.skip()?;
            }
        }
        self.members.push(Member { name: name.span(), kind, value: start..scanner.position(), text });
        Ok(())
    }

    fn model(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        if kind != Kind::String {
            self.wrong_type("model".into(), "a string", kind);
            return scanner.skip().map(drop);
        }
        let model = scanner.string()?.decode().into_owned();
        if model.is_empty() {
            self.fail("model".into(), "`model` is empty, name the model to use".into());
        }
        if model.len() > MODEL_BYTES_MAX {
            let message = format!("`model` is longer than {MODEL_BYTES_MAX} bytes, name the model to use");
            self.fail("model".into(), message);
        }
        self.model = Some(model);
        Ok(())
    }

    fn stream(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        if !matches!(kind, Kind::True | Kind::False | Kind::Null) {
            self.wrong_type("stream".into(), "a boolean", kind);
        }
        self.is_stream = kind == Kind::True;
        scanner.skip().map(drop)
    }

    fn stream_options(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        self.asks_usage = false;
        if kind != Kind::Object {
            return scanner.skip().map(drop);
        }
        scanner.object(|scanner, name| {
            let kind = scanner.peek()?;
            if name.is("include_usage") {
                self.asks_usage = kind == Kind::True;
            }
            scanner.skip().map(drop)
        })
    }

    fn stop(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        const EXPECTED: &str = "a string or an array of strings";
        match kind {
            Kind::Array => scanner.array(|scanner| {
                let kind = scanner.peek()?;
                if kind != Kind::String {
                    self.wrong_type("stop".into(), EXPECTED, kind);
                }
                scanner.skip().map(drop)
            }),
            Kind::String | Kind::Null => scanner.skip().map(drop),
            _ => {
                self.wrong_type("stop".into(), EXPECTED, kind);
                scanner.skip().map(drop)
            }
        }
    }

    fn messages(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        self.pieces.clear();
        if kind != Kind::Array {
            if kind != Kind::Null {
                self.wrong_type("messages".into(), "an array", kind);
            }
            return scanner.skip().map(drop);
        }
        let mut index = 0;
        scanner.array(|scanner| {
            let kind = scanner.peek()?;
            if kind != Kind::Object {
                self.wrong_type(format!("messages[{index}]"), "an object", kind);
                scanner.skip()?;
            } else if let Err(found) = self.message(scanner, index)? {
                let field = format!("messages[{index}].role");
                match found {
                    Some(kind) => self.wrong_type(field, "a string", kind),
                    None => {
                        let message = format!("`{field}` is missing");
                        self.fail(field, message);
                    }
                }
            }
            index += 1;
            Ok(())
        })?;
        if index == 0 {
            self.fail("messages".into(), "`messages` is empty, send at least one message".into());
        }
        Ok(())
    }

    /// Reads the input of `/responses`: a text, or items of which some are messages.
    fn input(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        self.pieces.clear();
        match kind {
            Kind::String => {
                let text = scanner.string()?.span();
                self.pieces.push(Piece { speaker: Speaker::User, message: 0, text });
                Ok(())
            }
            Kind::Array => {
                let mut index = 0;
                scanner.array(|scanner| {
                    match scanner.peek()? {
                        Kind::Object => drop(self.message(scanner, index)?),
                        _ => {
                            scanner.skip()?;
                        }
                    }
                    index += 1;
                    Ok(())
                })
            }
            _ => scanner.skip().map(drop),
        }
    }

    /// Reads a message and keeps its texts. The inner error is what stands in place of a role, if anything.
    fn message(
        &mut self,
        scanner: &mut Scanner<'_>,
        message: usize,
    ) -> std::result::Result<std::result::Result<(), Option<Kind>>, SyntaxError> {
        let first = self.pieces.len();
        let mut role = Err(None);
        let mut content = scanner.position()..scanner.position();
        scanner.object(|scanner, name| {
            let kind = scanner.peek()?;
            if name.is("role") {
                role = if kind == Kind::String { Ok(speaker(&scanner.string()?)) } else { Err(Some(kind)) };
                return if role.is_ok() { Ok(()) } else { scanner.skip().map(drop) };
            }
            if name.is("content") {
                self.pieces.truncate(first);
                let start = scanner.position();
                self.content(scanner, kind, message)?;
                content = start..scanner.position();
                return Ok(());
            }
            scanner.skip().map(drop)
        })?;
        let speaker = *role.as_ref().unwrap_or(&Speaker::Other);
        if speaker == Speaker::Other {
            self.pieces.truncate(first);
        } else if speaker == Speaker::User && self.pieces.len() == first {
            self.pieces.push(Piece { speaker: Speaker::UserMedia, message, text: Span::plain(content) });
        } else {
            self.pieces[first..].iter_mut().for_each(|piece| piece.speaker = speaker);
        }
        Ok(role.map(drop))
    }

    /// Keeps the texts of a message's content: the string, or the `text` of each part.
    fn content(&mut self, scanner: &mut Scanner<'_>, kind: Kind, message: usize) -> Scan {
        let mut keep = |text: Text<'_>| {
            self.pieces.push(Piece { speaker: Speaker::Other, message, text: text.span() });
        };
        match kind {
            Kind::String => keep(scanner.string()?),
            Kind::Array => scanner.array(|scanner| {
                if scanner.peek()? != Kind::Object {
                    return scanner.skip().map(drop);
                }
                scanner.object(|scanner, name| {
                    if scanner.peek()? == Kind::String && name.is("text") {
                        keep(scanner.string()?);
                        return Ok(());
                    }
                    scanner.skip().map(drop)
                })
            })?,
            _ => {
                scanner.skip()?;
            }
        }
        Ok(())
    }

    fn wrong_type(&mut self, field: String, expected: &str, found: Kind) {
        let message = format!("`{field}` must be {expected}, not {}", kind_name(found));
        self.fail(field, message);
    }

    fn fail(&mut self, field: String, message: String) {
        self.fault.get_or_insert_with(|| Error::invalid(field, message));
    }
}

fn speaker(role: &Text<'_>) -> Speaker {
    match &*role.decode() {
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        _ => Speaker::Other,
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::True | Kind::False => "a boolean",
        Kind::Null => "null",
    }
}

/// The first prompt of an array of texts or token lists; a list of tokens is one prompt.
fn first_prompt(value: &[u8]) -> Cow<'_, [u8]> {
    let mut scanner = Scanner::new(&value[1..]);
    match scanner.peek() {
        Ok(Kind::String) => scanner.string().map_or(Cow::Borrowed(value), |text| text.canonical()),
        Ok(Kind::Array) => {
            scanner.skip().map_or(Cow::Borrowed(value), |range| Cow::Borrowed(&value[1..][range]))
        }
        _ => Cow::Borrowed(value),
    }
}

/// The words of a string or of an array of strings: what each means, and how it is written.
fn words<'a>(value: &'a [u8]) -> Vec<(Cow<'a, str>, Cow<'a, [u8]>)> {
    let mut words = Vec::new();
    let mut keep = |word: Text<'a>| {
        let literal = &value[word.range().start - 1..word.range().end + 1];
        words.push((word.decode(), Cow::Borrowed(literal)));
    };
    let mut scanner = Scanner::new(value);
    let scanned = match scanner.peek() {
        Ok(Kind::String) => scanner.string().map(keep),
        Ok(Kind::Array) => scanner.array(|scanner| scanner.string().map(&mut keep)),
        _ => Ok(()),
    };
    debug_assert!(scanned.is_ok(), "it has been read before");
    words
}

fn quoted(text: &str) -> Vec<u8> {
    let mut literal = Vec::with_capacity(text.len() + 2);
    quote(text, &mut literal);
    literal
}

/// Writes members to follow others, each with the comma before it.
fn written(added: &Added<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in added {
        text.push(b',');
        quote(name, &mut text);
        text.push(b':');
        text.extend_from_slice(value);
    }
    text
}

/// Cuts the body at the splices and puts their texts between.
fn assemble(body: &Bytes, mut splices: Vec<Splice>) -> Vec<Bytes> {
    splices.sort_by_key(|splice| splice.range.start);
    let mut segments = Vec::with_capacity(2 * splices.len() + 1);
    let mut at = 0;
    for splice in splices {
        if at < splice.range.start {
            segments.push(body.slice(at..splice.range.start));
        }
        if !splice.text.is_empty() {
            segments.push(splice.text.into());
        }
        at = splice.range.end;
    }
    segments.push(body.slice(at..));
    segments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::json::tests::document;

    fn read(endpoint: Endpoint, body: &str) -> Request {
        decode(endpoint, Bytes::copy_from_slice(body.as_bytes()), None).unwrap()
    }

    fn encoded(request: &Request, edits: &Edits<'_>) -> String {
        String::from_utf8(request.encode(edits).concat()).unwrap()
    }

    #[track_caller]
    fn check_refused(endpoint: Endpoint, body: &str, param: Option<&str>, message: &str) {
        let error = decode(endpoint, Bytes::copy_from_slice(body.as_bytes()), None).unwrap_err();
        assert_eq!((error.param.as_deref(), &*error.message), (param, message), "{body}");
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
    }

    /// Refuses a chat that is right but for `members`.
    #[track_caller]
    fn check_chat(members: &str, param: &str, message: &str) {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user"}}],{members}}}"#);
        check_refused(Endpoint::ChatCompletions, &body, Some(param), message);
    }

    #[test]
    fn a_bad_body_is_refused_with_its_position() {
        let check = |body, message| check_refused(Endpoint::ChatCompletions, body, None, message);
        check("", "body is empty, send a JSON object");
        check(" \n", "body is empty, send a JSON object");
        check("[]", "body must be a JSON object, not an array");
        check("5", "body must be a JSON object, not a number");
        check("\"text\"", "body must be a JSON object, not a string");
        check("hello", "malformed JSON at line 1, column 1: expected a value");
        check(
            "{\n  \"model\": \"m\",\n}",
            "malformed JSON at line 3, column 1: expected a name in double quotes",
        );
        check("{\"model\":5,", "malformed JSON at line 1, column 12: unexpected end of the document");
        check(
            "{\"model\":\"m\"} x",
            "malformed JSON at line 1, column 15: unexpected text after the end of the document",
        );
        check("\u{feff}{}", "body begins with a byte order mark, send UTF-8 without one");
    }

    #[test]
    fn a_missing_or_mistyped_field_is_refused_by_name() {
        use Endpoint::*;
        let missing_model = "`model` is missing, name the model to use";
        check_refused(ChatCompletions, "{}", Some("model"), missing_model);
        check_refused(Embeddings, r#"{"input":"x"}"#, Some("model"), missing_model);
        check_refused(Embeddings, r#"{"model":5}"#, Some("model"), "`model` must be a string, not a number");
        check_refused(Embeddings, r#"{"model":null}"#, Some("model"), "`model` must be a string, not null");
        check_refused(
            Embeddings,
            r#"{"model":""}"#,
            Some("model"),
            "`model` is empty, name the model to use",
        );
        let named = |len| format!(r#"{{"model":"{}","input":""}}"#, "m".repeat(len));
        assert_eq!(read(Embeddings, &named(MODEL_BYTES_MAX)).model().len(), MODEL_BYTES_MAX);
        check_refused(
            Embeddings,
            &named(MODEL_BYTES_MAX + 1),
            Some("model"),
            "`model` is longer than 1024 bytes, name the model to use",
        );
        for (endpoint, body, field) in [
            (ChatCompletions, r#"{"model":"m"}"#, "messages"),
            (ChatCompletions, r#"{"model":"m","messages":null}"#, "messages"),
            (Completions, r#"{"model":"m"}"#, "prompt"),
            (Embeddings, r#"{"model":"m","input":null}"#, "input"),
            (Responses, r#"{"model":"m"}"#, "input"),
            (AudioSpeech, r#"{"model":"m"}"#, "input"),
            (Moderations, r#"{"model":"m"}"#, "input"),
            (ImagesGenerations, r#"{"model":"m"}"#, "prompt"),
            (Rerank, r#"{"model":"m","documents":[]}"#, "query"),
            (Rerank, r#"{"model":"m","query":""}"#, "documents"),
            (Score, r#"{"model":"m","text_2":""}"#, "text_1"),
            (Score, r#"{"model":"m","text_1":""}"#, "text_2"),
            (Classify, r#"{"model":"m"}"#, "input"),
        ] {
            check_refused(endpoint, body, Some(field), &format!("`{field}` is missing"));
        }
        let message = "`prompt` must be a string or an array, not a number";
        check_refused(Completions, r#"{"model":"m","prompt":5}"#, Some("prompt"), message);
        let message = "`messages` must be an array, not a string";
        check_refused(ChatCompletions, r#"{"model":"m","messages":"x"}"#, Some("messages"), message);
        let message = "`messages` is empty, send at least one message";
        check_refused(ChatCompletions, r#"{"model":"m","messages":[]}"#, Some("messages"), message);
        check_chat(
            r#""messages":[{"role":"user"},5]"#,
            "messages[1]",
            "`messages[1]` must be an object, not a number",
        );
        check_chat(r#""messages":[{"role":"a"},{}]"#, "messages[1].role", "`messages[1].role` is missing");
        check_chat(
            r#""messages":[{"content":"a","role":null}]"#,
            "messages[0].role",
            "`messages[0].role` must be a string, not null",
        );
        check_chat(r#""stream":"true""#, "stream", "`stream` must be a boolean, not a string");
        check_chat(r#""max_tokens":"5""#, "max_tokens", "`max_tokens` must be a number, not a string");
        check_chat(
            r#""max_completion_tokens":[]"#,
            "max_completion_tokens",
            "`max_completion_tokens` must be a number, not an array",
        );
        check_chat(r#""stop":5"#, "stop", "`stop` must be a string or an array of strings, not a number");
        check_chat(
            r#""stop":["a",null]"#,
            "stop",
            "`stop` must be a string or an array of strings, not null",
        );
    }

    #[test]
    fn unusual_but_usable_requests_are_read() {
        use Endpoint::*;
        read(
            ChatCompletions,
            r#"{"model":"m","messages":[{"role":"critic"}],"stream":null,"max_tokens":null,"stop":null}"#,
        );
        read(Completions, r#"{"model":"m","prompt":[1,2,3]}"#);
        read(Responses, r#"{"model":"m","prompt":{"id":"p"}}"#);
        read(Responses, r#"{"model":"m","input":[{"type":"function_call_output"}],"stop":5}"#);
        read(Embeddings, r#"{"model":"m","messages":[]}"#);
        assert_eq!(read(Moderations, r#"{"model":"a","input":"","mod\u0065l":"b\u00e9"}"#).model(), "bé");
    }

    #[test]
    fn stream_and_usage_are_known() {
        let flags = |members: &str| {
            let request = read(Endpoint::Completions, &format!(r#"{{"model":"m","prompt":""{members}}}"#));
            (request.is_stream(), request.asks_usage())
        };
        assert_eq!(flags(""), (false, false));
        assert_eq!(flags(r#","stream":true"#), (true, false));
        assert_eq!(flags(r#","stream":true,"stream":false"#), (false, false));
        assert_eq!(flags(r#","stream":true,"stream_options":{"include_usage":true}"#), (true, true));
        assert_eq!(flags(r#","stream":true,"stream_options":{"include_usage":false}"#), (true, false));
        assert_eq!(flags(r#","stream":true,"stream_options":null"#), (true, false));
    }

    #[track_caller]
    fn check_prompt(endpoint: Endpoint, members: &str, prefix: &[&str], users: &[&str]) {
        let request = read(endpoint, &format!(r#"{{"model":"m",{members}}}"#));
        let prompt = request.prompt(true);
        let texts: Vec<_> = prompt.prefix.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        assert_eq!(texts, prefix);
        assert_eq!(prompt.users, users);
        assert_eq!(request.prompt(false), Prompt { users: Vec::new(), ..prompt.clone() });
    }

    #[test]
    fn a_conversation_is_known_by_how_it_begins() {
        use Endpoint::*;
        check_prompt(
            ChatCompletions,
            r#""messages":[{"content":"caf\u00e9","role":"system"},{"role":"developer","content":"d"},
                {"role":"assistant","content":"hi"},{"role":"user","content":[{"type":"text","text":"a\n"},
                {"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"b"}]},
                {"role":"system","content":"late"},{"role":"user","content":"c"}],"tools":[{"type": "function"}]"#,
            &[r#"[{"type": "function"}]"#, "café", "d", r"a\n", "b"],
            &["a\nb", "c"],
        );
        check_prompt(
            ChatCompletions,
            r#""messages":[{"role":"user","content":[{"type":"image_url"}]},{"role":"user","content":"c"}]"#,
            &[r#"[{"type":"image_url"}]"#],
            &["c"],
        );
        check_prompt(ChatCompletions, r#""messages":[{"role":"system","content":"s"}]"#, &["s"], &[]);
        check_prompt(Responses, r#""instructions":"i","input":"u""#, &["i", "u"], &["u"]);
        check_prompt(
            Responses,
            r#""input":[{"type":"reasoning"},{"role":"user","content":[{"type":"input_text","text":"u"}]}]"#,
            &["u"],
            &["u"],
        );
    }

    #[test]
    fn an_input_is_known_as_a_whole() {
        use Endpoint::*;
        check_prompt(Embeddings, r#""input":["a", "b"]"#, &[r#"["a", "b"]"#], &[]);
        check_prompt(Embeddings, r#""input":"caf\u00e9""#, &["café"], &[]);
        check_prompt(Rerank, r#""documents":[1],"query":"q""#, &["q", "[1]"], &[]);
        check_prompt(Score, r#""text_1":"a","text_2":"b""#, &["a", "b"], &[]);
        check_prompt(ImagesGenerations, r#""prompt":"p""#, &["p"], &[]);
        check_prompt(Completions, r#""prompt":"p""#, &["p"], &[]);
        check_prompt(Completions, r#""prompt":["p\/","q"]"#, &["p/"], &[]);
        check_prompt(Completions, r#""prompt":[1,2]"#, &["[1,2]"], &[]);
        check_prompt(Completions, r#""prompt":[[1,2],[3]]"#, &["[1,2]"], &[]);
        check_prompt(Completions, r#""prompt":[]"#, &["[]"], &[]);
        let long = "x".repeat(5000);
        check_prompt(Completions, &format!(r#""prompt":"{long}""#), &[&long[..2048]], &[]);
    }

    // parity: 81
    #[test]
    fn an_unedited_body_is_the_clients_own() {
        let body = Bytes::from_static(
            br#" {"temperature":0.70,"x":1e-7,"seed":9007199254740993,"model":"m","model":"m","messages":[{"role":"user","content":"\u00e9"}] } "#,
        );
        let request = decode(Endpoint::ChatCompletions, body.clone(), None).unwrap();
        let segments = request.encode(&Edits { model: Some("m"), include_usage: true, ..Edits::default() });
        assert_eq!(segments.len(), 1);
        assert_eq!(segments[0].as_ptr(), body.as_ptr());
        assert_eq!(segments[0], body);
    }

    /// Edits a completion request that is right but for `members`.
    #[track_caller]
    fn check_edit(edits: &Edits<'_>, members: &str, expected: &str) {
        let request = read(Endpoint::Completions, &format!(r#"{{"model":"m","prompt":""{members} }}"#));
        assert_eq!(encoded(&request, edits), format!(r#"{{"model":"m","prompt":""{expected} }}"#));
    }

    // parity: 110
    #[test]
    fn every_model_member_gets_the_upstreams_name() {
        let request = read(
            Endpoint::Embeddings,
            r#"{"model":5.0e0,"input":[ 0.70 ],"model": "m"}"#.replace("5.0e0", "\"x\"").as_str(),
        );
        let edits =
            Edits { model: Some("up\"stream"), stop: &["s".into()], max_tokens: Some(5), ..Edits::default() };
        assert_eq!(
            encoded(&request, &edits),
            r#"{"model":"up\"stream","input":[ 0.70 ],"model": "up\"stream"}"#
        );
    }

    // parity: 82
    #[test]
    fn stop_words_of_the_configuration_come_first() {
        let words = ["a".to_owned(), "<|end|>".to_owned(), "a".to_owned()];
        let edits = Edits { stop: &words, ..Edits::default() };
        check_edit(&edits, "", r#","stop":["a","<|end|>"]"#);
        check_edit(&edits, r#","stop":null"#, r#","stop":["a","<|end|>"]"#);
        check_edit(&edits, r#","stop":"\u00e9","n":1"#, r#","stop":["a","<|end|>","\u00e9"],"n":1"#);
        check_edit(&edits, r#","stop":[ "b", "\u0061", "b"]"#, r#","stop":["a","<|end|>","b"]"#);
    }

    #[test]
    fn a_very_long_list_of_stop_words_is_merged_in_one_pass() {
        // To compare each word with all before it would keep this test from ending in any reasonable time.
        let own: String = (0..100_000).map(|word| format!("\"w{word}\",")).collect();
        let words = ["w7".to_owned()];
        let edits = Edits { stop: &words, ..Edits::default() };
        let expected =
            format!(r#","stop":["w7",{}"w99999"]"#, own.replace("\"w7\",", "").replace("\"w99999\",", ""));
        check_edit(&edits, &format!(r#","stop":[{own}"w7"]"#), &expected);
    }

    // parity: 83
    #[test]
    fn a_cap_lowers_and_is_the_default() {
        let edits = Edits { max_tokens: Some(100), ..Edits::default() };
        check_edit(&edits, "", r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":null"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":99.5"#, r#","max_tokens":99.5"#);
        check_edit(&edits, r#","max_tokens":101"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":1e3"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":18446744073709551616"#, r#","max_tokens":100"#);
        check_edit(&edits, r#","max_tokens":7,"max_tokens":500"#, r#","max_tokens":7,"max_tokens":100"#);
        check_edit(&edits, r#","max_completion_tokens":1000"#, r#","max_completion_tokens":100"#);
        check_edit(
            &edits,
            r#","max_completion_tokens":5,"max_tokens":1000"#,
            r#","max_completion_tokens":5,"max_tokens":100"#,
        );
    }

    // parity: 90
    #[track_caller]
    fn check_output_max(members: &str, expected: Option<u64>) {
        let body = format!(r#"{{"model":"m","prompt":"p"{members}}}"#);
        assert_eq!(read(Endpoint::Completions, &body).output_max(), expected, "{members}");
    }

    #[test]
    fn an_answer_is_as_long_as_the_request_allows() {
        check_output_max("", None);
        check_output_max(r#","max_tokens":7"#, Some(7));
        check_output_max(r#","max_tokens":7,"max_completion_tokens":5"#, Some(5));
        check_output_max(r#","max_output_tokens":9,"max_tokens":null"#, Some(9));
        check_output_max(r#","max_tokens":7,"n":3"#, Some(21));
        check_output_max(r#","max_tokens":7,"n":2,"best_of":4"#, Some(28));
        check_output_max(r#","max_tokens":7,"n":0"#, Some(7));
        check_output_max(r#","max_tokens":7.9"#, Some(7));
        check_output_max(r#","max_tokens":-7"#, Some(0));
        check_output_max(r#","max_tokens":99999999999999999999,"n":2"#, Some(u64::MAX));
    }

    #[test]
    fn a_stream_is_made_to_end_with_usage() {
        let edits = Edits { include_usage: true, ..Edits::default() };
        let check = |options: &str, expected: &str| {
            check_edit(
                &edits,
                &format!(r#","stream":true{options}"#),
                &format!(r#","stream":true{expected}"#),
            );
        };
        let asked = r#","stream_options":{"include_usage":true}"#;
        check("", asked);
        check(r#","stream_options":null"#, asked);
        check(r#","stream_options":{}"#, asked);
        check(r#","stream_options":{"include_usage":false}"#, asked);
        check(r#","stream_options":{"include_usage":null}"#, asked);
        check(r#","stream_options":{ "x":1 }"#, r#","stream_options":{ "x":1,"include_usage":true }"#);
        check(r#","stream_options":5"#, r#","stream_options":5"#);
        check(asked, asked);
        check_edit(&edits, r#","stream":false"#, r#","stream":false"#);
    }

    #[test]
    fn extra_members_are_added_where_they_are_missing() {
        let extra = [("top_k".to_owned(), "0.70".to_owned()), ("max_tokens".to_owned(), "9".to_owned())];
        let edits = Edits { extra_body: &extra, ..Edits::default() };
        check_edit(&edits, "", r#","top_k":0.70,"max_tokens":9"#);
        check_edit(&edits, r#","top_k":null"#, r#","top_k":null,"max_tokens":9"#);
        check_edit(&edits, r#","top\u005fk":1"#, r#","top\u005fk":1,"max_tokens":9"#);
        check_edit(&Edits { max_tokens: Some(5), ..edits }, "", r#","max_tokens":5,"top_k":0.70"#);
    }

    proptest! {
        // parity: 81
        #[test]
        fn edits_touch_nothing_else(
            before in prop::collection::vec(document(), 0..3),
            after in prop::collection::vec(document(), 0..3),
        ) {
            let members = |values: &[String], name: &str| -> String {
                values.iter().enumerate().map(|(index, value)| format!("\"{name}{}\" : {value} ,", index % 2)).collect()
            };
            let body = |model: &str, added: &str| format!(
                r#"{{ {} "model":"{model}", {} "prompt":"\u00e9"{added} }} "#,
                members(&before, "x"), members(&after, "y"),
            );
            let request = read(Endpoint::Completions, &body("m", ""));
            prop_assert_eq!(encoded(&request, &Edits::default()), body("m", ""));
            let extra = [("z".to_owned(), "0.70".to_owned())];
            let edits = Edits { model: Some("up"), max_tokens: Some(7), extra_body: &extra, ..Edits::default() };
            prop_assert_eq!(encoded(&request, &edits), body("up", r#","max_tokens":7,"z":0.70"#));
        }

        #[test]
        fn nothing_panics(
            endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
            members in prop::collection::vec((prop::sample::select(vec![
                "model", "messages", "stream", "stream_options", "stop", "max_tokens", "prompt", "input", "query",
                "documents", "text_1", "text_2", "tools",
            ]), prop_oneof![document(), prop::sample::select(vec![
                "\"m\"", "true", "null", "5", "[\"a\"]", "{\"include_usage\":0}",
                "[{\"role\":\"user\",\"content\":\" x\"},{\"content\":[{\"text\":\"\"}],\"role\":\"user\"}]",
                "[{\"role\":\"assistant\",\"content\":\"<think>a</think>\"},{\"role\":\"user\"},{\"role\":\"a\",\"content\":5}]",
            ]).prop_map(str::to_owned)]), 0..8),
            (trim, drop_empty, merge_user, strip_think) in any::<(bool, bool, bool, bool)>(),
        ) {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let body = format!("{{\"model\":\"m\",{}}}", members.join(","));
            if let Ok(request) = decode(endpoint, body.into(), None) {
                request.prompt(true);
                let edits = Edits {
                    model: Some("up"),
                    stop: &["s".to_owned()],
                    max_tokens: Some(3),
                    extra_body: &[("n".to_owned(), "1".to_owned())],
                    include_usage: true,
                    clean: Clean { trim, drop_empty, merge_user, strip_think },
                };
                let edited = request.encode(&edits).concat();
                let edited = decode(endpoint, edited.into(), None).expect("an edited request is still one");
                prop_assert_eq!(edited.model(), "up");
            }
        }

        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(decode(Endpoint::ChatCompletions, bytes.into(), None).is_err());
        }
    }
}
