//! An upstream's events, read.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::chat::{Event, Raw, Signature, StopReason};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::anthropic::messages::usage::Counts;
use crate::wire::anthropic::messages::{block, error, reply};
use crate::wire::json::Members;

/// How many blocks of an answer may be open at a time. Anthropic's API has one at most.
const BLOCKS_OPEN_MAX: usize = 64;

/// Reads the events of a stream.
#[derive(Debug)]
pub struct EventDecoder {
    id: String,
    blocks: Vec<(u64, Block)>,
    calls: u32,
    counts: Counts,
    /// Why the answer ended, once that was said.
    end: Option<(StopReason, Option<String>)>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Waiting,
    Started,
    Finished,
    Ended,
}

/// A block that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text {
        is_empty: bool,
    },
    Thinking {
        is_empty: bool,
    },
    Redacted,
    Call {
        index: u32,
        is_empty: bool,
    },
    /// One that the hub has no word for.
    Other,
}

/// The data of an event, as far as its events of every kind have it.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "type", default)]
    kind: Kind,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    MessageStart,
    ContentBlockStart,
    ContentBlockDelta,
    ContentBlockStop,
    MessageDelta,
    MessageStop,
    Ping,
    Error,
    #[default]
    #[serde(other)]
    Unknown,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(rename = "type", default)]
    kind: DeltaKind,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum DeltaKind {
    TextDelta,
    ThinkingDelta,
    SignatureDelta,
    InputJsonDelta,
    CitationsDelta,
    #[default]
    #[serde(other)]
    Unknown,
}

impl EventDecoder {
    /// Begins a stream; `id` stands in for the one that the upstream does not give.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            blocks: Vec::new(),
            calls: 0,
            counts: Counts::default(),
            end: None,
            progress: Progress::Waiting,
        }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`ErrorKind::UpstreamInvalid`] when its data is not of its type's shape, or too many blocks are open.
    pub fn push(&mut self, event: Option<&str>, data: &[u8], out: &mut Vec<Event>) -> Result<()> {
        if self.progress == Progress::Ended {
            return Ok(());
        }
        let text = std::str::from_utf8(data).map_err(|error| invalid().with_source(error))?;
        let read: Data<'_> = match serde_json::from_str(text) {
            Ok(read) => read,
            Err(_) if event == Some("error") => {
                self.fail(text, out);
                return Ok(());
            }
            Err(error) => return Err(invalid().with_source(error)),
        };
        match read.kind {
            Kind::MessageStart => self.start(read.message, out),
            Kind::ContentBlockStart => return self.block_start(read.index, read.content_block, text, out),
            Kind::ContentBlockDelta => self.block_delta(read.index, read.delta, text, out),
            Kind::ContentBlockStop => self.block_stop(read.index, text, out),
            Kind::MessageDelta => self.message_delta(read.delta, read.usage, text, out),
            Kind::MessageStop => self.finish(out),
            Kind::Ping => out.push(Event::Ping),
            Kind::Error => self.fail(text, out),
            Kind::Unknown => out.extend(Raw::new(text).map(Event::Other)),
        }
        Ok(())
    }

    /// The stream ended, and the answer was whole: appends what was not said yet.
    pub fn finish(&mut self, out: &mut Vec<Event>) {
        if self.progress == Progress::Ended {
            return;
        }
        self.start(None, out);
        self.finish_choice(out);
        self.progress = Progress::Ended;
        out.push(Event::End);
    }

    fn fail(&mut self, text: &str, out: &mut Vec<Event>) {
        self.progress = Progress::Ended;
        out.push(Event::Failed(error::decode_event(text)));
    }

    fn start(&mut self, message: Option<&RawValue>, out: &mut Vec<Event>) {
        if self.progress != Progress::Waiting {
            return;
        }
        self.progress = Progress::Started;
        let message = message.and_then(|message| Members::of(message.get())).unwrap_or_default();
        let counts = message.get("usage").and_then(Counts::read);
        self.counts.update(counts.unwrap_or_default());
        let text = |name| message.string(name);
        out.push(Event::Start {
            id: text("id").unwrap_or_else(|| reply::message_id(&self.id)),
            model: text("model").unwrap_or_default(),
            created_unix_s: None,
            usage: counts.map(Counts::usage),
        });
    }

    fn block_start(
        &mut self,
        index: u64,
        block: Option<&RawValue>,
        text: &str,
        out: &mut Vec<Event>,
    ) -> Result<()> {
        self.start(None, out);
        self.close(index, out);
        if self.blocks.len() >= BLOCKS_OPEN_MAX {
            return Err(invalid());
        }
        let block = block.ok_or_else(invalid)?;
        let members = Members::of(block.get()).ok_or_else(invalid)?;
        let kind = members.string("type").unwrap_or_default();
        let block = match kind.as_str() {
            "text" => text_start(&members, out),
            "thinking" => thinking_start(&members, out),
            "redacted_thinking" => {
                let data = members.string("data").unwrap_or_default();
                let data = Signature::read_from(Surface::Messages, &data);
                out.push(Event::RedactedThinking { choice: 0, data });
                Block::Redacted
            }
            "tool_use" => self.call_start(&members, out)?,
            _ => {
                out.extend(Raw::new(text).map(Event::Other));
                Block::Other
            }
        };
        self.blocks.push((index, block));
        Ok(())
    }

    fn call_start(&mut self, members: &Members<'_>, out: &mut Vec<Event>) -> Result<Block> {
        let id = members.string("id").ok_or_else(invalid)?;
        let name = members.string("name").ok_or_else(invalid)?;
        let index = self.calls;
        self.calls = self.calls.saturating_add(1);
        out.push(Event::ToolCall { choice: 0, index, id, name, signature: None });
        // Streams begin a call with an empty object and send its members later; some servers send them at once.
        let input = members.get("input");
        let input = input.filter(|input| input.starts_with('{') && input.bytes().any(|byte| byte == b'"'));
        if let Some(input) = input {
            out.push(Event::Arguments { choice: 0, index, json: input.to_owned() });
        }
        Ok(Block::Call { index, is_empty: input.is_none() })
    }

    fn block_delta(&mut self, index: u64, delta: Option<Delta<'_>>, text: &str, out: &mut Vec<Event>) {
        let Some((_, block)) = self.blocks.iter_mut().find(|(own, _)| *own == index) else { return };
        let Some(delta) = delta else { return };
        if *block == Block::Other {
            out.extend(Raw::new(text).map(Event::Other));
            return;
        }
        match (delta.kind, block) {
            (DeltaKind::TextDelta, Block::Text { is_empty }) => {
                *is_empty = false;
                out.extend(delta.text.map(|text| Event::Text { choice: 0, text }));
            }
            (DeltaKind::ThinkingDelta, Block::Thinking { is_empty }) => {
                *is_empty = false;
                out.extend(delta.thinking.map(|text| Event::Thinking { choice: 0, text }));
            }
            (DeltaKind::SignatureDelta, Block::Thinking { is_empty }) => {
                *is_empty = false;
                out.extend(delta.signature.map(|signature| {
                    let signature = Signature::read_from(Surface::Messages, &signature);
                    Event::Signature { choice: 0, signature }
                }));
            }
            (DeltaKind::InputJsonDelta, Block::Call { index, is_empty }) => {
                let json = delta.partial_json.filter(|json| !json.is_empty());
                *is_empty &= json.is_none();
                out.extend(json.map(|json| Event::Arguments { choice: 0, index: *index, json }));
            }
            (DeltaKind::CitationsDelta, Block::Text { is_empty }) => {
                *is_empty = false;
                let citation = delta.citation.and_then(|citation| block::read_citation(citation.get()));
                out.extend(citation.map(|citation| Event::Citation { choice: 0, citation }));
            }
            // A delta of a block of another type says nothing.
            _ => {}
        }
    }

    fn block_stop(&mut self, index: u64, text: &str, out: &mut Vec<Event>) {
        if self.blocks.contains(&(index, Block::Other)) {
            self.blocks.retain(|(own, _)| *own != index);
            out.extend(Raw::new(text).map(Event::Other));
        }
        self.close(index, out);
    }

    /// Ends a block, if it is open.
    fn close(&mut self, index: u64, out: &mut Vec<Event>) {
        let Some(at) = self.blocks.iter().position(|(own, _)| *own == index) else { return };
        match self.blocks.remove(at).1 {
            Block::Other => return,
            // Nothing was said, but the block was there, and those after it have their numbers from that.
            Block::Text { is_empty: true } => out.push(Event::Text { choice: 0, text: String::new() }),
            Block::Thinking { is_empty: true } => {
                out.push(Event::Thinking { choice: 0, text: String::new() })
            }
            Block::Call { index, is_empty: true } => {
                out.push(Event::Arguments { choice: 0, index, json: "{}".to_owned() });
            }
            Block::Text { .. } | Block::Thinking { .. } | Block::Call { .. } | Block::Redacted => {}
        }
        out.push(Event::PartEnd { choice: 0 });
    }

    fn message_delta(
        &mut self,
        delta: Option<Delta<'_>>,
        usage: Option<&RawValue>,
        text: &str,
        out: &mut Vec<Event>,
    ) {
        self.start(None, out);
        if let Some(Delta { stop_reason: Some(reason), stop_sequence, .. }) = delta {
            // What the hub has no word for reaches clients of this surface in the event's own words.
            if !reply::is_exact(&reason) {
                out.extend(Raw::new(text).map(Event::Other));
            }
            self.end = Some((StopReason::of_anthropic(&reason), stop_sequence));
            self.finish_choice(out);
        }
        if let Some(counts) = usage.and_then(|usage| Counts::read(usage.get())) {
            self.counts.update(counts);
            out.push(Event::Usage(self.counts.usage()));
        }
    }

    fn finish_choice(&mut self, out: &mut Vec<Event>) {
        if self.progress != Progress::Started {
            return;
        }
        self.progress = Progress::Finished;
        while let Some((index, _)) = self.blocks.first() {
            self.close(*index, out);
        }
        let (reason, stop_sequence) = self.end.take().unwrap_or((StopReason::Other, None));
        out.push(Event::Finish { choice: 0, reason, stop_sequence });
    }
}

fn text_start(members: &Members<'_>, out: &mut Vec<Event>) -> Block {
    let text = members.string("text").filter(|text| !text.is_empty());
    let citations = members.list("citations").into_iter().filter_map(block::read_citation);
    let before = out.len();
    out.extend(text.map(|text| Event::Text { choice: 0, text }));
    out.extend(citations.map(|citation| Event::Citation { choice: 0, citation }));
    Block::Text { is_empty: out.len() == before }
}

fn thinking_start(members: &Members<'_>, out: &mut Vec<Event>) -> Block {
    let text = |name| members.string(name).filter(|text| !text.is_empty());
    let (thinking, signature) = (text("thinking"), text("signature"));
    let before = out.len();
    out.extend(thinking.map(|text| Event::Thinking { choice: 0, text }));
    let signature = signature.map(|signature| Signature::read_from(Surface::Messages, &signature));
    out.extend(signature.map(|signature| Event::Signature { choice: 0, signature }));
    Block::Thinking { is_empty: out.len() == before }
}

fn invalid() -> Error {
    Error::new(ErrorKind::UpstreamInvalid, "an event of the upstream's stream is not one of Anthropic's")
}
