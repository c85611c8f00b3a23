//! The items of an answer's `output`, and how they are written.

use std::borrow::Cow;
use std::io::Write;

use crate::chat::{Choice, Citation, Content, Part, Raw, Signature, Source, StopReason, TokenLogprob};
use crate::wire::Surface;
use crate::wire::json::{escape, quote};
use crate::wire::openai::responses::parts::REDACTED;

/// What ids of thinking begin with.
pub(super) const REASONING_PREFIX: &str = "rs_";

/// An item of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Item<'a> {
    /// What the model says.
    Message(Vec<Piece<'a>>),
    /// What it thought. Only its vendor reads what is encrypted.
    Reasoning { text: Cow<'a, str>, encrypted: Option<Cow<'a, str>> },
    /// A call of a function.
    Call { call_id: Cow<'a, str>, name: Cow<'a, str>, arguments: Cow<'a, str> },
    /// A picture that the model made.
    Picture { format: &'a str, base64: &'a str },
    /// Something that the hub has no word for, of this surface.
    Other(&'a Raw),
}

/// A part of a message.
#[derive(Debug, PartialEq)]
pub(super) struct Piece<'a> {
    /// What it is.
    pub(super) kind: PieceKind,
    /// Its text.
    pub(super) text: Cow<'a, str>,
    /// Where the text is from.
    pub(super) citations: Cow<'a, [Citation]>,
    /// The probabilities of its tokens.
    pub(super) logprobs: Cow<'a, [TokenLogprob]>,
}

/// What a part of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    /// What answers.
    Text,
    /// Why there is no answer.
    Refusal,
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// More of it follows.
    InProgress,
    /// It is whole.
    Completed,
    /// It was cut off.
    Incomplete,
}

impl Status {
    /// Its word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }

    /// How an answer ended that did for this reason.
    pub(super) fn after(stop: Option<StopReason>) -> Self {
        match stop {
            Some(StopReason::Length | StopReason::ContentFilter) => Self::Incomplete,
            Some(StopReason::Stop | StopReason::ToolCalls | StopReason::Other) | None => Self::Completed,
        }
    }
}

impl<'a> Piece<'a> {
    /// A piece with nothing else to it than its text.
    pub(super) fn new(kind: PieceKind, text: impl Into<Cow<'a, str>>) -> Self {
        Self { kind, text: text.into(), citations: Cow::default(), logprobs: Cow::default() }
    }

    /// How many characters it has, if a citation is of all of them; counted once for all, because both may be many.
    pub(super) fn length(&self) -> u64 {
        let is_of_all = |citation: &Citation| citation.range.is_none();
        if self.citations.iter().any(is_of_all) { self.text.chars().count() as u64 } else { 0 }
    }

    /// Writes it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self.kind {
            PieceKind::Text => {
                out.extend_from_slice(br#"{"type":"output_text","text":"#);
                quote(&self.text, out);
                out.extend_from_slice(br#","annotations":["#);
                let (mut count, length) = (0, self.length());
                for citation in self.citations.iter().filter(|citation| is_annotation(citation)) {
                    separate(&mut count, out);
                    write_annotation(citation, length, out);
                }
                out.extend_from_slice(br#"],"logprobs":"#);
                write_logprobs(&self.logprobs, true, out);
            }
            PieceKind::Refusal => {
                out.extend_from_slice(br#"{"type":"refusal","refusal":"#);
                quote(&self.text, out);
            }
        }
        out.push(b'}');
    }
}

impl Item<'_> {
    /// Writes its id. `exchange` is letters and digits that no other exchange has, `index` the item's place in the output.
    pub(super) fn write_id(&self, exchange: &str, index: usize, out: &mut Vec<u8>) {
        let prefix = match self {
            Self::Message(_) => "msg_",
            Self::Reasoning { .. } => REASONING_PREFIX,
            Self::Call { .. } => "fc_",
            Self::Picture { .. } => "ig_",
            Self::Other(_) => "item_",
        };
        out.push(b'"');
        out.extend_from_slice(prefix.as_bytes());
        escape(exchange, out);
        out.push(b'_');
        write_number(index as u64, out);
        out.push(b'"');
    }

    /// Writes it. What is in progress is written as it begins, without anything in it.
    pub(super) fn write(&self, exchange: &str, index: usize, status: Status, out: &mut Vec<u8>) {
        if let Self::Other(raw) = self {
            return out.extend_from_slice(raw.get().as_bytes());
        }
        let is_begun = status == Status::InProgress;
        out.extend_from_slice(br#"{"id":"#);
        self.write_id(exchange, index, out);
        match self {
            Self::Message(pieces) => {
                write_status("message", status, out);
                out.extend_from_slice(br#","role":"assistant","content":["#);
                let mut count = 0;
                for piece in pieces.iter().filter(|_| !is_begun) {
                    separate(&mut count, out);
                    piece.write(out);
                }
                out.push(b']');
            }
            Self::Reasoning { text, encrypted } => {
                out.extend_from_slice(br#","type":"reasoning","summary":["#);
                if !is_begun && !text.is_empty() {
                    write_summary(text, out);
                }
                out.push(b']');
                if let Some(encrypted) = encrypted.as_ref().filter(|_| !is_begun) {
                    out.extend_from_slice(br#","encrypted_content":"#);
                    quote(encrypted, out);
                }
            }
            Self::Call { call_id, name, arguments } => {
                write_status("function_call", status, out);
                out.extend_from_slice(br#","call_id":"#);
                quote(call_id, out);
                out.extend_from_slice(br#","name":"#);
                quote(name, out);
                out.extend_from_slice(br#","arguments":"#);
                quote(if is_begun { "" } else { arguments }, out);
            }
            Self::Picture { format, base64 } => {
                write_status("image_generation_call", status, out);
                out.extend_from_slice(br#","output_format":"#);
                quote(format, out);
                out.extend_from_slice(br#","result":"#);
                quote(base64, out);
            }
            Self::Other(_) => {}
        }
        out.push(b'}');
    }
}

fn write_status(kind: &str, status: Status, out: &mut Vec<u8>) {
    out.extend_from_slice(br#","type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","status":""#);
    out.extend_from_slice(status.word().as_bytes());
    out.push(b'"');
}

/// Writes the part of a summary that has a text.
pub(super) fn write_summary(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"summary_text","text":"#);
    quote(text, out);
    out.push(b'}');
}

/// Writes a comma before all but the first.
pub(super) fn separate(count: &mut usize, out: &mut Vec<u8>) {
    if *count > 0 {
        out.push(b',');
    }
    *count += 1;
}

/// Whether there is a way to say here where a text is from: it is an address, or was said on this surface.
pub(super) fn is_annotation(citation: &Citation) -> bool {
    citation.url.is_some() || matches!(citation.original, Some((Surface::Responses, _)))
}

/// Writes where a piece's text is from, of which [`is_annotation`] holds. Who says no stretch of it means all its `length`.
pub(super) fn write_annotation(citation: &Citation, length: u64, out: &mut Vec<u8>) {
    if let Some((Surface::Responses, original)) = &citation.original {
        return write_on_one_line(original.get(), out);
    }
    let (start, end) = citation.range.unwrap_or((0, length));
    out.extend_from_slice(br#"{"type":"url_citation","start_index":"#);
    out.extend_from_slice(format!(r#"{start},"end_index":{end},"url":"#).as_bytes());
    quote(citation.url.as_deref().unwrap_or_default(), out);
    out.extend_from_slice(br#","title":"#);
    quote(citation.title.as_deref().unwrap_or_default(), out);
    out.push(b'}');
}

/// Writes JSON text that may have been laid out over several lines, which would end an event. In JSON they can only stand
/// where a space can.
pub(super) fn write_on_one_line(json: &str, out: &mut Vec<u8>) {
    out.extend(json.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
}

/// Writes a count.
pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("writing to memory does not fail");
}

/// What stands for a token that cannot be; JSON has no infinity.
///
/// Source: OpenAI API reference, "Chat Completions", `logprob`, seen 2026-11.
const IMPOSSIBLE: f64 = -9999.0;

/// Writes the probabilities of tokens; with the bytes of each where the whole answer has them, events do not.
pub(super) fn write_logprobs(tokens: &[TokenLogprob], has_bytes: bool, out: &mut Vec<u8>) {
    out.push(b'[');
    let mut count = 0;
    for token in tokens {
        separate(&mut count, out);
        write_token(&token.token, token.logprob, has_bytes, out);
        out.extend_from_slice(br#","top_logprobs":["#);
        let mut count = 0;
        for (token, logprob) in &token.top {
            separate(&mut count, out);
            write_token(token, *logprob, has_bytes, out);
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
    out.push(b']');
}

/// Writes a token and leaves its object open.
fn write_token(token: &str, logprob: f64, has_bytes: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"token":"#);
    quote(token, out);
    if has_bytes {
        out.extend_from_slice(format!(r#","bytes":{:?}"#, token.as_bytes()).replace(' ', "").as_bytes());
    }
    let logprob = if logprob.is_finite() { logprob } else { IMPOSSIBLE };
    out.extend_from_slice(format!(r#","logprob":{logprob:?}"#).as_bytes());
}

/// How a signature stands in a reasoning item.
pub(super) fn encrypted(signature: &Signature) -> Cow<'_, str> {
    signature.written_for(Surface::Responses)
}

/// How thinking that only its vendor reads stands in a reasoning item; see [`REDACTED`].
pub(super) fn redacted(data: &Signature) -> Cow<'_, str> {
    if data.surface == Surface::Responses {
        return encrypted(data);
    }
    let marked = Signature { surface: data.surface, value: format!("{REDACTED}{}", data.value) };
    Cow::Owned(marked.written_for(Surface::Responses).into_owned())
}

/// The items of an answer, of whose surface what the hub has no word for is.
pub(super) fn items(choice: &Choice, surface: Surface) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for part in &choice.parts {
        append(part, surface, &mut items);
    }
    // The tokens are those of the choice, and hardly ever is there more than one piece of text.
    if let Some(piece) = last_text(&mut items) {
        piece.logprobs = Cow::Borrowed(&choice.logprobs);
    }
    items
}

/// The last piece of text among items.
pub(super) fn last_text<'i, 'a>(items: &'i mut [Item<'a>]) -> Option<&'i mut Piece<'a>> {
    items.iter_mut().rev().find_map(|item| match item {
        Item::Message(pieces) => pieces.iter_mut().rfind(|piece| piece.kind == PieceKind::Text),
        _ => None,
    })
}

fn append<'a>(part: &'a Part, surface: Surface, items: &mut Vec<Item<'a>>) {
    match &part.content {
        Content::Text { text, citations } if !text.is_empty() => {
            let piece = Piece { citations: Cow::Borrowed(citations), ..Piece::new(PieceKind::Text, text) };
            say(piece, items);
        }
        Content::Refusal(text) if !text.is_empty() => say(Piece::new(PieceKind::Refusal, text), items),
        Content::Thinking { text, signature } if !text.is_empty() || signature.is_some() => {
            items.push(Item::Reasoning { text: text.into(), encrypted: signature.as_ref().map(encrypted) });
        }
        Content::RedactedThinking(data) => {
            items.push(Item::Reasoning { text: "".into(), encrypted: Some(redacted(data)) });
        }
        Content::ToolCall { id, name, arguments, signature } => {
            let sealed =
                |signature| Item::Reasoning { text: "".into(), encrypted: Some(encrypted(signature)) };
            items.extend(signature.as_ref().map(sealed));
            let arguments = if arguments.is_empty() { "{}" } else { arguments };
            items.push(Item::Call { call_id: id.into(), name: name.into(), arguments: arguments.into() });
        }
        Content::Image { source: Source::Data { media_type, base64 }, .. } => {
            let format = media_type.strip_prefix("image/").unwrap_or("png");
            items.push(Item::Picture { format, base64 });
        }
        Content::Other(raw) if surface == Surface::Responses => items.push(Item::Other(raw)),
        // Models do not say the like here, and there is no item for it.
        Content::Text { .. }
        | Content::Refusal(_)
        | Content::Thinking { .. }
        | Content::Image { .. }
        | Content::Audio { .. }
        | Content::File { .. }
        | Content::ToolResult { .. }
        | Content::Other(_) => {}
    }
}

/// Appends a piece to the message that the last item is, or to a new one.
fn say<'a>(piece: Piece<'a>, items: &mut Vec<Item<'a>>) {
    match items.last_mut() {
        Some(Item::Message(pieces)) => pieces.push(piece),
        _ => items.push(Item::Message(vec![piece])),
    }
}
