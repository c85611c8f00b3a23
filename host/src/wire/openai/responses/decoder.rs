//! The events of a Responses stream, read into the hub's.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::chat::{ApiError, Content, Event, Raw, Signature};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::json::Members;
use crate::wire::openai::failure::Failure;
use crate::wire::openai::responses::{parts, reply};
use crate::wire::usage;

/// How many items an answer may have. The longest runs of tools have some hundreds.
const ITEMS_MAX: usize = 4096;

/// Reads the events of a stream.
///
/// Source: OpenAI API reference, "Responses", streaming events, seen 2026-11.
#[derive(Debug)]
pub struct EventDecoder {
    /// What an answer without an id is called.
    id: String,
    /// The items so far, by their index in the output.
    items: BTreeMap<u64, Item>,
    /// The item that was last spoken of.
    current: Option<u64>,
    /// How many functions were called.
    calls: u32,
    /// A signature of Gemini's for the call that follows, if one does.
    signature: Option<Signature>,
    has_begun: bool,
    is_over: bool,
}

/// What was read of an item.
#[derive(Debug, Default)]
struct Item {
    kind: Kind,
    /// Whether a piece of the part that is open was read.
    has_piece: bool,
    /// Whether a piece of any part was.
    has_said: bool,
}

/// What an item is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    /// The call of this number.
    Call(u32),
    #[default]
    Other,
}

impl EventDecoder {
    /// Begins a stream; `id` is for an answer that has none.
    pub fn new(id: &str) -> Self {
        Self {
            id: format!("resp_{id}"),
            items: BTreeMap::new(),
            current: None,
            calls: 0,
            signature: None,
            has_begun: false,
            is_over: false,
        }
    }

    /// Reads one event and appends what it says. The name is not needed, the data has it too.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] when it is no JSON object, or a further item is too many.
    pub fn push(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.is_over || data == b"[DONE]" {
            return Ok(());
        }
        let json = std::str::from_utf8(data).ok();
        let Some((json, members)) = json.and_then(|json| Some((json, Members::of(json)?))) else {
            let message = "an event of the upstream's stream is not a JSON object";
            return Err(Error::new(ErrorKind::UpstreamInvalid, message));
        };
        let named = members.text("type");
        let kind = named.as_deref().or(event).unwrap_or_default();
        if kind == "error" || kind == "response.failed" || members.get("error").is_some() {
            self.fail(&members, data, out);
            return Ok(());
        }
        self.begin(&members, out);
        self.read(kind, &members, json, data, out)
    }

    fn read(
        &mut self,
        kind: &str,
        members: &Members<'_>,
        json: &str,
        data: &[u8],
        out: &mut Vec<Event>,
    ) -> Result<()> {
        let Some(kind) = kind.strip_prefix("response.") else {
            out.extend((kind == "keepalive").then_some(Event::Ping));
            return Ok(());
        };
        match kind {
            "created" | "in_progress" | "queued" => {}
            "completed" | "incomplete" => self.complete(members, data, out)?,
            "output_item.added" => self.item_added(members, out)?,
            "output_item.done" => self.item_done(members, out)?,
            "content_part.added" | "reasoning_summary_part.added" => self.part_added(kind, members, out),
            "output_text.annotation.added" => {
                let citation = members.get("annotation").and_then(parts::citation);
                out.extend(citation.map(|citation| Event::Citation { choice: 0, citation }));
            }
            "output_text.delta"
            | "refusal.delta"
            | "reasoning_summary_text.delta"
            | "reasoning_text.delta"
            | "function_call_arguments.delta" => self.piece(kind, members, "delta", out),
            "output_text.done" | "reasoning_summary_text.done" | "reasoning_text.done" => {
                self.whole(kind, members, "text", out);
            }
            "refusal.done" => self.whole(kind, members, "refusal", out),
            "function_call_arguments.done" => self.whole(kind, members, "arguments", out),
            "content_part.done" | "reasoning_summary_part.done" => {}
            _ => out.extend(Raw::new(json).map(Event::Other)),
        }
        Ok(())
    }

    /// Says that the answer begins, before anything else.
    fn begin(&mut self, members: &Members<'_>, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let response = members.object("response").unwrap_or_default();
        out.push(Event::Start {
            id: response.text("id").map_or_else(|| self.id.clone(), |id| id.into_owned()),
            model: response.text("model").unwrap_or_default().into_owned(),
            created_unix_s: response.count("created_at"),
            usage: None,
        });
    }

    fn item_added(&mut self, members: &Members<'_>, out: &mut Vec<Event>) -> Result<()> {
        let Some(index) = members.count("output_index") else { return Ok(()) };
        let item = members.object("item").unwrap_or_default();
        self.add(index, &item, out)
    }

    fn add(&mut self, index: u64, item: &Members<'_>, out: &mut Vec<Event>) -> Result<()> {
        if self.items.contains_key(&index) {
            return Ok(());
        }
        if self.items.len() == ITEMS_MAX {
            let message = format!("the upstream's answer has more than {ITEMS_MAX} items");
            return Err(Error::new(ErrorKind::UpstreamInvalid, message));
        }
        let kind = match item.text("type").as_deref() {
            Some("message") => Kind::Message,
            Some("reasoning") => Kind::Reasoning,
            Some("function_call") => self.call(item, out),
            _ => Kind::Other,
        };
        if !matches!(kind, Kind::Call(_)) {
            self.unseal(out);
        }
        self.items.insert(index, Item { kind, ..Item::default() });
        self.current = Some(index);
        Ok(())
    }

    /// Begins a call; one without a name is nothing that can be called.
    fn call(&mut self, item: &Members<'_>, out: &mut Vec<Event>) -> Kind {
        let (Some(name), Some(id)) = (item.text("name"), item.text("call_id").or_else(|| item.text("id")))
        else {
            return Kind::Other;
        };
        let index = self.calls;
        self.calls += 1;
        out.push(Event::ToolCall {
            choice: 0,
            index,
            id: id.into_owned(),
            name: name.into_owned(),
            signature: self.signature.take(),
        });
        Kind::Call(index)
    }

    /// Tells a signature that was not followed by a call.
    fn unseal(&mut self, out: &mut Vec<Event>) {
        out.extend(self.signature.take().map(|signature| Event::Signature { choice: 0, signature }));
    }

    /// A further part of an item begins. The parts of a summary are paragraphs of one text.
    fn part_added(&mut self, kind: &str, members: &Members<'_>, out: &mut Vec<Event>) {
        let Some(index) = members.count("output_index") else { return };
        let Some(item) = self.items.get_mut(&index) else { return };
        if std::mem::take(&mut item.has_piece) && self.current == Some(index) {
            out.push(match (item.kind, kind) {
                (Kind::Reasoning, _) => Event::Thinking { choice: 0, text: "\n\n".to_owned() },
                _ => Event::PartEnd { choice: 0 },
            });
        }
    }

    /// A piece of what the event's item says.
    fn piece(&mut self, kind: &str, members: &Members<'_>, name: &str, out: &mut Vec<Event>) {
        let Some(index) = members.count("output_index") else { return };
        let Some(item) = self.items.get_mut(&index) else { return };
        let Some(text) = members.text(name).map(|text| text.into_owned()) else { return };
        let event = match (item.kind, kind.split('.').next()) {
            (Kind::Message, Some("output_text")) => Event::Text { choice: 0, text },
            (Kind::Message, Some("refusal")) => Event::Refusal { choice: 0, text },
            (Kind::Reasoning, Some("reasoning_summary_text" | "reasoning_text")) => {
                Event::Thinking { choice: 0, text }
            }
            (Kind::Call(index), Some("function_call_arguments")) => {
                Event::Arguments { choice: 0, index, json: text }
            }
            _ => return,
        };
        self.current = Some(index);
        if !members.text(name).is_none_or(|text| text.is_empty()) {
            (item.has_piece, item.has_said) = (true, true);
            out.push(event);
        }
        let tokens = members.get("logprobs").map(parts::logprobs).filter(|tokens| !tokens.is_empty());
        out.extend(tokens.map(|tokens| Event::Logprobs { choice: 0, tokens }));
    }

    /// What an item's part says, whole; it is heard only if it did not come in pieces.
    fn whole(&mut self, kind: &str, members: &Members<'_>, name: &str, out: &mut Vec<Event>) {
        let item = members.count("output_index").and_then(|index| self.items.get(&index));
        if item.is_some_and(|item| !item.has_piece) {
            self.piece(kind, members, name, out);
        }
    }

    fn item_done(&mut self, members: &Members<'_>, out: &mut Vec<Event>) -> Result<()> {
        let (Some(index), Some(json)) = (members.count("output_index"), members.get("item")) else {
            return Ok(());
        };
        self.done(index, json, out)
    }

    /// An item is whole: tells what was not said of it.
    fn done(&mut self, index: u64, json: &str, out: &mut Vec<Event>) -> Result<()> {
        let Some(members) = Members::of(json) else { return Ok(()) };
        self.add(index, &members, out)?;
        let Some(item) = self.items.get_mut(&index) else { return Ok(()) };
        let (kind, has_said) = (item.kind, std::mem::replace(&mut item.has_said, true));
        let is_current = self.current == Some(index);
        match kind {
            Kind::Reasoning => self.thought(&members, is_current, has_said, out),
            Kind::Message | Kind::Call(_) if has_said => {
                out.extend(is_current.then_some(Event::PartEnd { choice: 0 }));
            }
            Kind::Call(index) => {
                let json = members.text("arguments").filter(|json| !json.is_empty());
                let json = json.map_or_else(|| "{}".to_owned(), |json| json.into_owned());
                out.push(Event::Arguments { choice: 0, index, json });
                out.push(Event::PartEnd { choice: 0 });
            }
            Kind::Message => said(json, out),
            Kind::Other => out.extend(Raw::new(json).map(Event::Other)),
        }
        self.current = None;
        Ok(())
    }

    fn thought(&mut self, item: &Members<'_>, is_current: bool, has_said: bool, out: &mut Vec<Event>) {
        let text = parts::thought(item);
        let content = parts::thinking(text, item.text("encrypted_content").as_deref());
        match content {
            Some(Content::Thinking { text, signature }) => {
                let is_told = !text.is_empty();
                if is_told && !has_said {
                    out.push(Event::Thinking { choice: 0, text });
                }
                match signature {
                    Some(signature) if !is_told && signature.surface == Surface::Gemini => {
                        self.signature = Some(signature);
                    }
                    Some(signature) => out.push(Event::Signature { choice: 0, signature }),
                    None => out.extend(is_current.then_some(Event::PartEnd { choice: 0 })),
                }
            }
            Some(Content::RedactedThinking(data)) => out.push(Event::RedactedThinking { choice: 0, data }),
            _ => {}
        }
    }

    fn complete(&mut self, members: &Members<'_>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        let response = members.object("response").unwrap_or_default();
        // Some servers send an answer that did not take long in this event only.
        if self.items.is_empty() {
            for (index, item) in response.list("output").into_iter().enumerate() {
                self.done(index as u64, item, out)?;
            }
        }
        self.unseal(out);
        out.extend(usage::of(data).map(Event::Usage));
        let reason = reply::stop(&response, self.calls > 0);
        out.push(Event::Finish { choice: 0, reason, stop_sequence: None });
        out.push(Event::End);
        self.is_over = true;
        Ok(())
    }

    fn fail(&mut self, members: &Members<'_>, data: &[u8], out: &mut Vec<Event>) {
        self.is_over = true;
        let response = members.object("response").unwrap_or_default();
        let inner = response.object("error").or_else(|| members.object("error"));
        let text = |name: &str| {
            let inner = inner.as_ref().and_then(|error| error.text(name));
            // The type of the event is that of the error only within the error.
            let outer = || members.text(name).filter(|_| name != "type");
            inner.or_else(outer).map(|text| text.into_owned())
        };
        let message = text("message").or_else(|| members.text("error").map(|text| text.into_owned()));
        out.push(Event::Failed(ApiError {
            status: Failure::of(&Bytes::copy_from_slice(data)).status,
            message: message.unwrap_or_else(|| "the upstream failed in the middle of its answer".to_owned()),
            kind: text("type"),
            code: text("code"),
            param: text("param"),
        }));
    }

    /// The stream ended, and the answer was whole: appends what it had not said yet.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.begin(&Members::default(), out);
        self.unseal(out);
        let reason = reply::stop(&Members::default(), self.calls > 0);
        out.push(Event::Finish { choice: 0, reason, stop_sequence: None });
        out.push(Event::End);
    }
}

/// Tells a message that did not come in pieces.
fn said(json: &str, out: &mut Vec<Event>) {
    let mut parts = Vec::new();
    parts::read(json, &mut parts);
    for part in parts {
        match part.content {
            Content::Text { text, citations } => {
                out.push(Event::Text { choice: 0, text });
                out.extend(citations.into_iter().map(|citation| Event::Citation { choice: 0, citation }));
            }
            Content::Refusal(text) => out.push(Event::Refusal { choice: 0, text }),
            _ => continue,
        }
        out.push(Event::PartEnd { choice: 0 });
    }
}
