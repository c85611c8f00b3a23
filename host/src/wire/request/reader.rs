//! The one pass over a request's bytes.

use super::{Member, Piece, Speaker};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::json::{Kind, Scanner, Span, SyntaxError, Text};
use crate::wire::{Endpoint, MODEL_BYTES_MAX};

/// The one pass over a request's bytes.
pub(super) struct Reader {
    endpoint: Endpoint,
    pub(super) model: Option<String>,
    pub(super) is_stream: bool,
    pub(super) asks_usage: bool,
    pub(super) members: Vec<Member>,
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

pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Object => "an object",
        Kind::Array => "an array",
        Kind::String => "a string",
        Kind::Number => "a number",
        Kind::True | Kind::False => "a boolean",
        Kind::Null => "null",
    }
}
