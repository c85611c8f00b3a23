//! How the events of a streamed answer are written, each with its name and its number.

use bytes::Bytes;

use crate::chat::ApiError;
use crate::wire::json::quote;
use crate::wire::openai::responses::encoder::{EventEncoder, PLACE_BYTES};
use crate::wire::openai::responses::output::{Item, Piece, Status, write_number};
use crate::wire::openai::responses::reply::{Envelope, cut};

/// Writes an error as the last event of a stream with so many events before it.
pub fn error_event(error: &ApiError, mut events: u64) -> Bytes {
    let mut out = Vec::with_capacity(256);
    write_error(error, &mut events, &mut out);
    out.into()
}

/// OpenAI's clients raise an error for an event that has the member `error`, whatever its type; the type `error` is documented
/// with the members of that beside it, so that both are there.
fn write_error(error: &ApiError, sequence: &mut u64, out: &mut Vec<u8>) {
    let mut members = Vec::new();
    for (name, value) in [("code", &error.code), ("param", &error.param)] {
        members.extend_from_slice(format!(r#","{name}":"#).as_bytes());
        match value {
            Some(value) => quote(value, &mut members),
            None => members.extend_from_slice(b"null"),
        }
    }
    members.extend_from_slice(br#","message":"#);
    quote(&error.message, &mut members);
    open("error", sequence, out);
    out.extend_from_slice(&members);
    out.extend_from_slice(br#","error":{"type":"#);
    quote(error.kind.as_deref().unwrap_or("api_error"), out);
    out.extend_from_slice(&members);
    out.push(b'}');
    shut(out);
}

impl EventEncoder {
    /// Writes the two events that every answer begins with, once.
    pub(super) fn begin(&mut self, id: &str, created_unix_s: Option<u64>, out: &mut Vec<u8>) {
        if self.envelope.is_some() {
            return;
        }
        let envelope = Envelope::new(id, created_unix_s, &self.asked);
        for kind in ["response.created", "response.in_progress"] {
            open(kind, &mut self.sequence, out);
            out.extend_from_slice(br#","response":"#);
            envelope.write_begun(out);
            shut(out);
        }
        self.envelope = Some(envelope);
    }

    /// Writes the last event, which has the whole answer.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.close_all(out);
        self.is_over = true;
        let Some(envelope) = &self.envelope else { return };
        let kind = match Status::after(self.stop) {
            Status::Incomplete => "response.incomplete",
            Status::Completed | Status::InProgress => "response.completed",
        };
        open(kind, &mut self.sequence, out);
        out.extend_from_slice(br#","response":"#);
        envelope.write_end(&self.items, self.stop, self.usage, out);
        shut(out);
        self.items = Vec::new();
    }

    /// Writes an error as the last event.
    pub(super) fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.is_over = true;
        self.items = Vec::new();
        write_error(error, &mut self.sequence, out);
    }

    /// Appends an item and says so.
    pub(super) fn add(&mut self, item: Item<'static>, out: &mut Vec<u8>) {
        self.items.push(item);
        self.bytes_left = self.bytes_left.saturating_sub(PLACE_BYTES);
        self.whole_event("response.output_item.added", self.items.len() - 1, Status::InProgress, out);
    }

    /// Says that an item is over. What was not when the answer ended was cut off, if that was.
    pub(super) fn done(&mut self, item: usize, out: &mut Vec<u8>) {
        let is_cut = cut(&self.items, self.stop) == Some(item);
        let status = if is_cut { Status::Incomplete } else { Status::Completed };
        self.whole_event("response.output_item.done", item, status, out);
    }

    /// Writes an event that has an item in it.
    fn whole_event(&mut self, kind: &str, item: usize, status: Status, out: &mut Vec<u8>) {
        let Some(envelope) = &self.envelope else { return };
        open(kind, &mut self.sequence, out);
        out.extend_from_slice(format!(r#","output_index":{item},"item":"#).as_bytes());
        self.items[item].write(&envelope.exchange, item, status, out);
        shut(out);
    }

    /// Writes an event about an item.
    pub(super) fn item_event(
        &mut self,
        kind: &str,
        item: usize,
        out: &mut Vec<u8>,
        members: impl FnOnce(&Item<'_>, &mut Vec<u8>),
    ) {
        let Some(envelope) = &self.envelope else { return };
        open(kind, &mut self.sequence, out);
        out.extend_from_slice(br#","item_id":"#);
        self.items[item].write_id(&envelope.exchange, item, out);
        out.extend_from_slice(br#","output_index":"#);
        write_number(item as u64, out);
        members(&self.items[item], out);
        shut(out);
    }

    /// Writes an event about a piece of the message that the last item is.
    pub(super) fn part_event(
        &mut self,
        kind: &str,
        index: usize,
        out: &mut Vec<u8>,
        members: impl FnOnce(&Piece<'_>, &mut Vec<u8>),
    ) {
        self.item_event(kind, self.items.len() - 1, out, |item, out| {
            out.extend_from_slice(br#","content_index":"#);
            write_number(index as u64, out);
            if let Item::Message(pieces) = item {
                members(&pieces[index], out);
            }
        });
    }

    /// Writes an event about the thinking that the last item is. It is always one part.
    pub(super) fn summary_event(
        &mut self,
        kind: &str,
        out: &mut Vec<u8>,
        members: impl FnOnce(&str, &mut Vec<u8>),
    ) {
        self.item_event(kind, self.items.len() - 1, out, |item, out| {
            out.extend_from_slice(br#","summary_index":0"#);
            if let Item::Reasoning { text, .. } = item {
                members(text, out);
            }
        });
    }
}

/// Writes the beginning of an event and leaves its object open.
fn open(kind: &str, sequence: &mut u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: {\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","sequence_number":"#);
    write_number(*sequence, out);
    *sequence += 1;
}

fn shut(out: &mut Vec<u8>) {
    out.extend_from_slice(b"}\n\n");
}
