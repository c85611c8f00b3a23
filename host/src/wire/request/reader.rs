//! The one pass over a request's bytes.

use super::{GENERATION_CONFIG, Member, Piece, Speaker};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner, Span, SyntaxError, Text};
use crate::wire::{Dialect, Endpoint, MODEL_BYTES_MAX};

/// The one pass over a request's bytes.
pub(super) struct Reader {
    endpoint: Endpoint,
    pub(super) model: Option<String>,
    pub(super) is_stream: bool,
    pub(super) asks_usage: bool,
    pub(super) members: Vec<Member>,
    pub(super) instructions: Vec<Span>,
    pub(super) pieces: Vec<Piece>,
    /// The first wrong field. A document that is not JSON at all is the worse news, so reading goes on.
    fault: Option<Error>,
}

type Scan = std::result::Result<(), SyntaxError>;

impl Reader {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            model: None,
            is_stream: false,
            asks_usage: false,
            members: Vec::with_capacity(16),
            instructions: Vec::new(),
            pieces: Vec::new(),
            fault: None,
        }
    }

    pub(super) fn document(&mut self, body: &[u8]) -> Result<()> {
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
        use Endpoint::{
            BatchEmbedContents, ChatCompletions, Completions, CountContentTokens, CountMessageTokens,
            EmbedContent, GenerateContent, Messages, Responses,
        };
        let kind = scanner.peek()?;
        let start = scanner.position();
        let mut text = None;
        match (self.endpoint, &*name.decode()) {
            (endpoint, "model") if endpoint.dialect() == Dialect::Gemini => self.own_model(scanner, kind)?,
            (_, "model") => self.model(scanner, kind)?,
            (endpoint, "stream") if endpoint.dialect() != Dialect::Gemini => self.stream(scanner, kind)?,
            (_, "stream_options") => self.stream_options(scanner, kind)?,
            (ChatCompletions | Messages | CountMessageTokens, "messages") => self.messages(scanner, kind)?,
            (Responses, "input") => self.input(scanner, kind)?,
            (ChatCompletions | Completions, "stop") => self.stop(scanner, kind, "stop".into())?,
            (ChatCompletions | Completions, name @ ("max_tokens" | "max_completion_tokens")) => {
                self.cap(scanner, kind, name.into())?;
            }
            (Messages | CountMessageTokens, "system") => self.instructions(scanner, kind, "system")?,
            (Messages, name @ "stop_sequences") => self.stop(scanner, kind, name.into())?,
            (Messages, name @ "max_tokens") => self.cap(scanner, kind, name.into())?,
            (GenerateContent | CountContentTokens, "contents") => self.contents(scanner, kind)?,
            (GenerateContent | CountContentTokens, name @ ("systemInstruction" | "system_instruction")) => {
                self.instructions(scanner, kind, name)?;
            }
            (GenerateContent, name) if GENERATION_CONFIG.contains(&name) => {
                self.generation_config(scanner, kind, name)?;
            }
            (EmbedContent, "content") => self.expected(scanner, kind, Kind::Object, "content")?,
            (BatchEmbedContents, "requests") => self.expected(scanner, kind, Kind::Array, "requests")?,
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

    /// Reads the model of a body of Google's, who have it in the path; it counts only for a request without one.
    fn own_model(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        if kind != Kind::String {
            return scanner.skip().map(drop);
        }
        let model = scanner.string()?.decode().into_owned();
        self.model = Some(model).filter(|model| !model.is_empty() && model.len() <= MODEL_BYTES_MAX);
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

    fn stop(&mut self, scanner: &mut Scanner<'_>, kind: Kind, field: String) -> Scan {
        const EXPECTED: &str = "a string or an array of strings";
        match kind {
            Kind::Array => scanner.array(|scanner| {
                let kind = scanner.peek()?;
                if kind != Kind::String {
                    self.wrong_type(field.clone(), EXPECTED, kind);
                }
                scanner.skip().map(drop)
            }),
            Kind::String | Kind::Null => scanner.skip().map(drop),
            _ => {
                self.wrong_type(field.clone(), EXPECTED, kind);
                scanner.skip().map(drop)
            }
        }
    }

    /// Reads the bound of an answer's length.
    fn cap(&mut self, scanner: &mut Scanner<'_>, kind: Kind, field: String) -> Scan {
        if !matches!(kind, Kind::Number | Kind::Null) {
            self.wrong_type(field, "a number", kind);
        }
        scanner.skip().map(drop)
    }

    /// Reads what bounds an answer of Google's.
    fn generation_config(&mut self, scanner: &mut Scanner<'_>, kind: Kind, config: &str) -> Scan {
        self.expected_or_null(kind, Kind::Object, config);
        scanner.members(|scanner, name| {
            let kind = scanner.peek()?;
            let field = |name: &str| format!("{config}.{name}");
            match &*name.decode() {
                name @ ("stopSequences" | "stop_sequences") => self.stop(scanner, kind, field(name)),
                // JSON of protocol buffers may have numbers in quotes.
                name @ ("maxOutputTokens" | "max_output_tokens") if kind == Kind::String => {
                    let text = scanner.string()?;
                    if text.raw().is_empty() || !text.raw().bytes().all(|byte| byte.is_ascii_digit()) {
                        self.wrong_type(field(name), "a number", kind);
                    }
                    Ok(())
                }
                name @ ("maxOutputTokens" | "max_output_tokens") => self.cap(scanner, kind, field(name)),
                _ => scanner.skip().map(drop),
            }
        })
    }

    /// Passes over a value that must be of a kind, or null.
    fn expected(&mut self, scanner: &mut Scanner<'_>, found: Kind, expected: Kind, field: &str) -> Scan {
        self.expected_or_null(found, expected, field);
        scanner.skip().map(drop)
    }

    fn expected_or_null(&mut self, found: Kind, expected: Kind, field: &str) {
        if found != expected && found != Kind::Null {
            self.wrong_type(field.to_owned(), kind_name(expected), found);
        }
    }

    /// Reads instructions that stand apart from the conversation: a text, parts of which some are texts, or Google's object
    /// around parts.
    fn instructions(&mut self, scanner: &mut Scanner<'_>, kind: Kind, field: &str) -> Scan {
        self.instructions.clear();
        let instructions = &mut self.instructions;
        match kind {
            Kind::String | Kind::Array => {
                texts(scanner, kind, |text| instructions.push(text.span())).map(drop)
            }
            Kind::Object if self.endpoint.dialect() == Dialect::Gemini => scanner.object(|scanner, name| {
                let kind = scanner.peek()?;
                if !name.is("parts") {
                    return scanner.skip().map(drop);
                }
                instructions.clear();
                texts(scanner, kind, |text| instructions.push(text.span())).map(drop)
            }),
            _ => {
                if kind != Kind::Null {
                    let expected = match self.endpoint.dialect() {
                        Dialect::Gemini => "an object",
                        Dialect::OpenAi | Dialect::Anthropic => "a string or an array",
                    };
                    self.wrong_type(field.to_owned(), expected, kind);
                }
                scanner.skip().map(drop)
            }
        }
    }

    /// Reads a conversation of Google's, who also take a single turn for a list of one, and texts for turns.
    fn contents(&mut self, scanner: &mut Scanner<'_>, kind: Kind) -> Scan {
        self.pieces.clear();
        if kind != Kind::Array {
            return self.turn(scanner, kind, None);
        }
        let mut index = 0;
        scanner.array(|scanner| {
            let kind = scanner.peek()?;
            self.turn(scanner, kind, Some(index))?;
            index += 1;
            Ok(())
        })?;
        if index == 0 {
            self.fail("contents".into(), "`contents` is empty, send at least one content".into());
        }
        Ok(())
    }

    /// Reads a turn of Google's: an element of the list, or what is in its place.
    fn turn(&mut self, scanner: &mut Scanner<'_>, kind: Kind, element: Option<usize>) -> Scan {
        let message = element.unwrap_or(0);
        let field = || element.map_or_else(|| "contents".to_owned(), |index| format!("contents[{index}]"));
        match kind {
            Kind::Object => {
                if let Err(Some(kind)) = self.message(scanner, message)?
                    && kind != Kind::Null
                {
                    self.wrong_type(format!("{}.role", field()), "a string", kind);
                }
                Ok(())
            }
            Kind::String => {
                let text = scanner.string()?.span();
                self.pieces.push(Piece { speaker: Speaker::User, message, text });
                Ok(())
            }
            // A list that is null is missing.
            Kind::Null if element.is_none() => scanner.skip().map(drop),
            _ => {
                let expected = if element.is_some() { "an object" } else { "an array" };
                self.wrong_type(field(), expected, kind);
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
        let is_google = self.endpoint.dialect() == Dialect::Gemini;
        let content_name = if is_google { "parts" } else { "content" };
        let mut role = Err(None);
        let mut content = scanner.position()..scanner.position();
        let mut seen = Seen::default();
        scanner.object(|scanner, name| {
            let kind = scanner.peek()?;
            if name.is("role") {
                role = if kind == Kind::String { Ok(speaker(&scanner.string()?)) } else { Err(Some(kind)) };
                return if role.is_ok() { Ok(()) } else { scanner.skip().map(drop) };
            }
            if name.is(content_name) {
                self.pieces.truncate(first);
                let start = scanner.position();
                // Only Google takes a single part for a list of one.
                let kind = if kind == Kind::Object && !is_google { Kind::Null } else { kind };
                seen = texts(scanner, kind, |text| {
                    self.pieces.push(Piece { speaker: Speaker::Other, message, text: text.span() });
                })?;
                content = start..scanner.position();
                return Ok(());
            }
            scanner.skip().map(drop)
        })?;
        let speaker = match role {
            Ok(speaker) => speaker,
            Err(None | Some(Kind::Null)) if is_google => Speaker::User,
            Err(_) => Speaker::Other,
        };
        let has_text = self.pieces.len() > first;
        // Results of tools stand in the person's messages, but are not the person's words.
        let is_result = seen.has_result && !seen.has_media && !has_text;
        if speaker == Speaker::Other || is_result {
            self.pieces.truncate(first);
        } else if speaker == Speaker::User && !has_text {
            self.pieces.push(Piece { speaker: Speaker::UserMedia, message, text: Span::plain(content) });
        } else {
            self.pieces[first..].iter_mut().for_each(|piece| piece.speaker = speaker);
        }
        Ok(role.map(drop))
    }

    fn wrong_type(&mut self, field: String, expected: &str, found: Kind) {
        let message = format!("`{field}` must be {expected}, not {}", kind_name(found));
        self.fail(field, message);
    }

    fn fail(&mut self, field: String, message: String) {
        self.fault.get_or_insert_with(|| Error::invalid(field, message));
    }
}

/// What a content has besides texts.
#[derive(Clone, Copy, Default)]
struct Seen {
    has_result: bool,
    has_media: bool,
}

/// Reads the texts of a content: the string, or the `text` of each part.
fn texts<'a>(
    scanner: &mut Scanner<'a>,
    kind: Kind,
    mut keep: impl FnMut(Text<'a>),
) -> std::result::Result<Seen, SyntaxError> {
    let mut seen = Seen::default();
    let mut part = |scanner: &mut Scanner<'a>| {
        let (mut has_text, mut is_result) = (false, false);
        scanner.members(|scanner, name| {
            let kind = scanner.peek()?;
            match &*name.decode() {
                "text" if kind == Kind::String => {
                    keep(scanner.string()?);
                    has_text = true;
                    return Ok(());
                }
                "type" if kind == Kind::String => {
                    is_result |= scanner.string()?.is("tool_result");
                    return Ok(());
                }
                "functionResponse" | "function_response" => is_result = true,
                _ => {}
            }
            scanner.skip().map(drop)
        })?;
        seen.has_result |= is_result;
        seen.has_media |= !is_result && !has_text;
        Ok(())
    };
    match kind {
        Kind::Array => scanner.array(part)?,
        Kind::Object => part(scanner)?,
        Kind::String => keep(scanner.string()?),
        _ => {
            scanner.skip()?;
        }
    }
    Ok(seen)
}

fn speaker(role: &Text<'_>) -> Speaker {
    match &*role.decode() {
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        _ => Speaker::Other,
    }
}

pub(in crate::wire) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::True | Kind::False => "a boolean",
        Kind::Null => "null",
    }
}
