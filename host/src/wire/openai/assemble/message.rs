//! The message that events of Anthropic's amount to.
//!
//! Source: Anthropic API reference, "Streaming messages"; the accumulation of its Python client; seen 2026-11.

use super::Event;
use super::object::{Members, Object, Parts, Store, Value, write_text};
use crate::chat::Usage;
use crate::wire::json::{Kind, Scanner};

/// The type of events that say only that the upstream is there.
pub(super) const PING: &str = "ping";

#[derive(Debug, Default)]
pub(super) struct Message {
    /// Everything but its content and its usage.
    members: Object,
    blocks: Parts,
    usage: Object,
}

/// Where a block keeps what its tool is called with, as it came, until it is written.
const INPUT_TEXT: &str = "partial_json";

impl Message {
    /// Whether events of this type are of a message's stream.
    pub(super) fn is_of(kind: &str) -> bool {
        matches!(
            kind,
            PING | "message_start"
                | "content_block_start"
                | "content_block_delta"
                | "content_block_stop"
                | "message_delta"
                | "message_stop"
        )
    }

    /// Takes one event.
    pub(super) fn take(&mut self, kind: &str, event: &Event<'_>, store: &mut Store) {
        match kind {
            "message_start" => self.begin(event, store),
            "content_block_start" => self.begin_block(event, store),
            "content_block_delta" => self.grow(event, store),
            "message_delta" => self.end(event, store),
            _ => {}
        }
    }

    fn begin(&mut self, event: &Event<'_>, store: &mut Store) {
        let Some(message) = event.get("message", Kind::Object) else { return };
        each_member(message, |name, kind, json| match name {
            "usage" if kind == Kind::Object => self.set_usage(json, store),
            "content" | "usage" => {}
            _ => self.members.set(name, json, store),
        });
    }

    fn begin_block(&mut self, event: &Event<'_>, store: &mut Store) {
        let Some(json) = event.get("content_block", Kind::Object) else { return };
        let Some(block) = self.blocks.with_index(event.count("index"), store) else { return };
        store.grew();
        each_member(json, |name, kind, json| match (name, kind) {
            ("text" | "thinking" | "name", Kind::String) => {
                if let Some(text) = block.text(name, store) {
                    store.append(text, &json[1..json.len() - 1]);
                }
            }
            ("citations", Kind::Array) => {
                let elements = json[1..json.len() - 1].trim_ascii();
                if elements.is_empty() {
                    block.set(name, json, store);
                } else {
                    block.add_element(name, elements, store);
                }
            }
            _ => block.set(name, json, store),
        });
    }

    fn grow(&mut self, event: &Event<'_>, store: &mut Store) {
        let Some(delta) = event.member("delta") else { return };
        let Some(block) = self.blocks.with_index(event.count("index"), store) else { return };
        store.begin(delta.start);
        let mut scanner = Scanner::new(delta.json.as_bytes());
        let scanned = scanner.members(|scanner, name| {
            let kind = scanner.peek()?;
            match (name.raw(), kind) {
                (name @ ("text" | "thinking" | INPUT_TEXT), Kind::String) => {
                    let piece = scanner.string()?;
                    if let Some(text) = block.text(name, store) {
                        store.grow_text(text, &piece);
                    }
                }
                ("signature", Kind::String) => {
                    let range = scanner.skip()?;
                    block.set("signature", scanner.slice(range), store);
                }
                ("citation", Kind::Object) => {
                    let range = scanner.skip()?;
                    block.add_element("citations", scanner.slice(range), store);
                }
                _ => {
                    scanner.skip()?;
                }
            }
            Ok(())
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
    }

    fn end(&mut self, event: &Event<'_>, store: &mut Store) {
        if let Some(delta) = event.get("delta", Kind::Object) {
            each_member(delta, |name, _, json| self.members.set(name, json, store));
        }
        if let Some(usage) = event.get("usage", Kind::Object) {
            self.set_usage(usage, store);
        }
        for member in &event.members {
            if !matches!(member.name, "type" | "delta" | "usage" | "error") {
                self.members.set(member.name, member.json, store);
            }
        }
    }

    /// Takes counts, the later of which hold.
    fn set_usage(&mut self, usage: &str, store: &mut Store) {
        each_member(usage, |name, _, json| self.usage.set(name, json, store));
    }

    /// Writes the message's members. `usage` is put in where the stream told none.
    pub(super) fn write(&mut self, usage: Option<&str>, store: &mut Store, members: &mut Members<'_>) {
        for (name, json) in [("type", "\"message\""), ("role", "\"assistant\"")] {
            if self.members.get(name).is_none_or(Value::is_null) {
                self.members.set(name, json, store);
            }
        }
        self.members.entry("stop_reason", store);
        for block in self.blocks.iter_mut() {
            complete(block, store);
        }
        self.members.write_members(store, members);
        members.add("content", |out| self.blocks.write(store, out));
        match usage.filter(|_| self.usage.is_empty()) {
            Some(usage) => members.json("usage", usage),
            None if self.usage.is_empty() => {}
            None => members.add("usage", |out| self.usage.write(store, out)),
        }
    }
}

/// Adds the type of a block whose beginning was not seen, and puts what a tool is called with in its place. What is no
/// object, because the stream or the room for it ended, stays a text under the name that its pieces had.
fn complete(block: &mut Object, store: &mut Store) {
    let kinds = [("text", "\"text\""), ("thinking", "\"thinking\""), (INPUT_TEXT, "\"tool_use\"")];
    if block.get("type").is_none()
        && let Some((_, kind)) = kinds.into_iter().find(|(name, _)| block.get(name).is_some())
    {
        block.set("type", kind, store);
    }
    let Some(Value::Text(text)) = block.get(INPUT_TEXT) else { return };
    let mut quoted = String::new();
    write_text(store.text(*text), &mut quoted);
    let input: String = serde_json::from_str(&quoted).unwrap_or_default();
    let input = input.trim_ascii();
    if input.is_empty() {
        block.remove(INPUT_TEXT);
    } else if input.starts_with('{') && is_json(input) {
        block.supplant(INPUT_TEXT, "input", input);
    }
}

fn is_json(text: &str) -> bool {
    let mut scanner = Scanner::new(text.as_bytes());
    scanner.skip().and_then(|_| scanner.end()).is_ok()
}

/// Walks the members of an object that was read before.
fn each_member(json: &str, mut member: impl FnMut(&str, Kind, &str)) {
    let mut scanner = Scanner::new(json.as_bytes());
    let scanned = scanner.members(|scanner, name| {
        let kind = scanner.peek()?;
        let range = scanner.skip()?;
        member(name.raw(), kind, scanner.slice(range));
        Ok(())
    });
    debug_assert!(scanned.is_ok(), "it has been read before");
}

/// Writes tokens in Anthropic's words.
pub(super) fn usage_json(usage: Usage) -> String {
    let Usage { input, output, cached, cache_written, is_estimated, .. } = usage;
    let input = input.saturating_sub(cached).saturating_sub(cache_written);
    let estimated = if is_estimated { ",\"estimated\":true" } else { "" };
    format!(
        "{{\"input_tokens\":{input},\"output_tokens\":{output},\"cache_read_input_tokens\":{cached},\
         \"cache_creation_input_tokens\":{cache_written}{estimated}}}"
    )
}
