//! The response that events of the Responses API amount to.
//!
//! The event at their end holds the whole of it. Until that has come the response is put together from its items, and
//! an item that is not done from its pieces.
//!
//! Source: OpenAI API reference, "Responses", streaming events, seen 2026-11.

use super::Event;
use super::object::{Members, Object, Store, write_text};
use crate::wire::json::{Kind, Scanner};
use crate::wire::usage::Estimate;

/// How many items a response, and how many pieces an item, may have; those after are left out.
const PARTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Response {
    /// Everything but its output.
    members: Object,
    /// Its output, once it has ended.
    output: Option<Box<str>>,
    has_ended: bool,
    items: Vec<Item>,
}

#[derive(Debug)]
struct Item {
    index: u64,
    /// The item as it began, or as it is once it is done.
    json: Option<Box<str>>,
    is_done: bool,
    pieces: Vec<Piece>,
}

/// A text of an item.
#[derive(Debug)]
struct Piece {
    lane: Lane,
    /// Which of the item's parts it is.
    part: u64,
    text: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Text,
    Refusal,
    Reasoning,
    Summary,
    Arguments,
    Input,
    Code,
}

impl Response {
    /// Takes one event whose type is `response.` and `kind`. Returns whether it is one that is known.
    pub(super) fn take(&mut self, kind: &str, event: &Event<'_>, store: &mut Store) -> bool {
        match kind {
            "created" | "in_progress" | "queued" => self.set(event, false, store),
            "completed" | "incomplete" | "failed" | "cancelled" => self.set(event, true, store),
            "output_item.added" => self.set_item(event, false, store),
            "output_item.done" => self.set_item(event, true, store),
            _ => kind
                .strip_suffix(".delta")
                .and_then(Lane::of)
                .is_none_or(|lane| self.grow(lane, event, store)),
        }
    }

    fn set(&mut self, event: &Event<'_>, has_ended: bool, store: &mut Store) -> bool {
        let Some(response) = event.get("response", Kind::Object) else { return false };
        let mut scanner = Scanner::new(response.as_bytes());
        let scanned = scanner.members(|scanner, name| {
            let range = scanner.skip()?;
            let json = scanner.slice(range);
            if !name.is("output") {
                self.members.replace(name.raw(), json, store);
            } else if has_ended {
                self.set_output(json, store);
            }
            Ok(())
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
        self.has_ended |= has_ended;
        true
    }

    /// Takes the output in the place of the items, if there is room for it.
    fn set_output(&mut self, json: &str, store: &mut Store) {
        let items = self.items.iter();
        let held_bytes = items.map(|item| item.held_bytes(store)).sum::<usize>();
        if store.exchange(held_bytes, json.len()) {
            self.items.drain(..).for_each(|item| item.forget(store));
            self.output = Some(json.into());
        }
    }

    fn set_item(&mut self, event: &Event<'_>, is_done: bool, store: &mut Store) -> bool {
        let Some(json) = event.get("item", Kind::Object) else { return false };
        let Some(item) = self.item(event.count("output_index"), store) else { return true };
        if !item.is_done && store.exchange(item.held_bytes(store), json.len()) {
            item.json = Some(json.into());
            item.is_done = is_done;
            item.pieces.drain(..).for_each(|piece| store.forget_text(piece.text));
        }
        true
    }

    fn grow(&mut self, lane: Lane, event: &Event<'_>, store: &mut Store) -> bool {
        let Some(delta) = event.text("delta") else { return false };
        let part = match lane {
            Lane::Summary => event.count("summary_index"),
            _ => event.count("content_index"),
        };
        let Some(item) = self.item(event.count("output_index"), store) else { return true };
        if item.is_done {
            return true;
        }
        let known = item.pieces.iter().rev().find(|piece| piece.lane == lane && piece.part == part);
        let text = match known {
            Some(piece) => piece.text,
            None if item.pieces.len() == PARTS_MAX => {
                store.set_cut();
                return true;
            }
            None => {
                let text = store.add_text();
                item.pieces.push(Piece { lane, part, text });
                text
            }
        };
        store.append(text, delta);
        true
    }

    fn item(&mut self, index: u64, store: &mut Store) -> Option<&mut Item> {
        let known = self.items.iter().rposition(|item| item.index == index);
        if known.is_none() && (self.items.len() == PARTS_MAX || !store.exchange(0, size_of::<Item>())) {
            store.set_cut();
            return None;
        }
        let place = known.unwrap_or_else(|| {
            self.items.push(Item { index, json: None, is_done: false, pieces: Vec::new() });
            self.items.len() - 1
        });
        self.items.get_mut(place)
    }

    /// Adds the texts of the items; those in the store are not among them.
    pub(super) fn estimate(&self, estimate: &mut Estimate) {
        let items = self.items.iter().filter(|item| item.is_done).filter_map(|item| item.json.as_deref());
        for json in self.output.as_deref().into_iter().chain(items) {
            // The scanner has read it before.
            let _ = estimate.add_value(&mut Scanner::new(json.as_bytes()), true);
        }
    }

    /// Writes the response's members. `usage` is put in where it tells none.
    pub(super) fn write(
        &mut self,
        usage: Option<&str>,
        error: Option<&str>,
        store: &mut Store,
        members: &mut Members<'_>,
    ) {
        if let Some(usage) = usage
            && self.members.get("usage").is_none_or(|known| known.is_null())
        {
            self.members.replace("usage", usage, store);
        }
        if !self.has_ended {
            self.members.replace("object", "\"response\"", store);
            let status = if error.is_some() { "\"failed\"" } else { "\"incomplete\"" };
            self.members.replace("status", status, store);
        }
        if let Some(error) = error {
            self.members.replace("error", error, store);
        }
        self.members.write_members(store, members);
        members.add("output", |out| match &self.output {
            Some(output) => out.push_str(output),
            None => self.write_items(store, out),
        });
    }

    fn write_items(&mut self, store: &Store, out: &mut String) {
        self.items.sort_by_key(|item| item.index);
        out.push('[');
        for (number, item) in self.items.iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            item.write(store, out);
        }
        out.push(']');
    }
}

impl Item {
    fn held_bytes(&self, store: &Store) -> usize {
        let texts = self.pieces.iter().map(|piece| store.text(piece.text).len());
        self.json.as_ref().map_or(0, |json| json.len()) + texts.sum::<usize>()
    }

    fn forget(self, store: &mut Store) {
        self.pieces.iter().for_each(|piece| store.forget_text(piece.text));
    }

    fn write(&self, store: &Store, out: &mut String) {
        let begun = self.json.as_deref().unwrap_or("{}");
        if self.is_done || self.pieces.is_empty() {
            out.push_str(begun);
            return;
        }
        Members::write(out, |members| {
            let mut has_type = false;
            let scanned = Scanner::new(begun.as_bytes()).members(|scanner, name| {
                let range = scanner.skip()?;
                has_type |= name.is("type");
                let is_rewritten =
                    name.is("status") || self.pieces.iter().any(|piece| name.is(piece.lane.member()));
                if !is_rewritten {
                    members.json(name.raw(), scanner.slice(range));
                }
                Ok(())
            });
            debug_assert!(scanned.is_ok(), "it has been read before");
            if !has_type {
                members.json("type", self.pieces[0].lane.item_type());
            }
            members.json("status", "\"incomplete\"");
            self.write_texts(store, members);
        });
    }

    fn write_texts(&self, store: &Store, members: &mut Members<'_>) {
        for name in ["content", "summary"] {
            let mut parts: Vec<_> = self.pieces.iter().filter(|piece| piece.lane.member() == name).collect();
            parts.sort_by_key(|piece| piece.part);
            if !parts.is_empty() {
                members.add(name, |out| write_parts(&parts, store, out));
            }
        }
        for piece in &self.pieces {
            if matches!(piece.lane, Lane::Arguments | Lane::Input | Lane::Code) {
                members.add(piece.lane.member(), |out| write_text(store.text(piece.text), out));
            }
        }
    }
}

fn write_parts(parts: &[&Piece], store: &Store, out: &mut String) {
    out.push('[');
    for (number, piece) in parts.iter().enumerate() {
        if number > 0 {
            out.push(',');
        }
        Members::write(out, |members| {
            let (part_type, name) = match piece.lane {
                Lane::Refusal => ("\"refusal\"", "refusal"),
                Lane::Reasoning => ("\"reasoning_text\"", "text"),
                Lane::Summary => ("\"summary_text\"", "text"),
                Lane::Text | Lane::Arguments | Lane::Input | Lane::Code => ("\"output_text\"", "text"),
            };
            members.json("type", part_type);
            members.add(name, |out| write_text(store.text(piece.text), out));
            if piece.lane == Lane::Text {
                members.json("annotations", "[]");
            }
        });
    }
    out.push(']');
}

impl Lane {
    /// Finds what a `response.….delta` is a piece of.
    fn of(kind: &str) -> Option<Self> {
        match kind {
            "output_text" => Some(Self::Text),
            "refusal" => Some(Self::Refusal),
            "reasoning_text" | "reasoning" => Some(Self::Reasoning),
            "reasoning_summary_text" | "reasoning_summary" => Some(Self::Summary),
            "function_call_arguments" | "mcp_call_arguments" => Some(Self::Arguments),
            "custom_tool_call_input" => Some(Self::Input),
            "code_interpreter_call_code" => Some(Self::Code),
            _ => None,
        }
    }

    /// The member of an item that it is in.
    fn member(self) -> &'static str {
        match self {
            Self::Text | Self::Refusal | Self::Reasoning => "content",
            Self::Summary => "summary",
            Self::Arguments => "arguments",
            Self::Input => "input",
            Self::Code => "code",
        }
    }

    /// The type, as JSON, of an item that it is in, where the item itself was not seen.
    fn item_type(self) -> &'static str {
        match self {
            Self::Text | Self::Refusal => "\"message\"",
            Self::Reasoning | Self::Summary => "\"reasoning\"",
            Self::Arguments => "\"function_call\"",
            Self::Input => "\"custom_tool_call\"",
            Self::Code => "\"code_interpreter_call\"",
        }
    }
}
