//! JSON objects that grow by pieces, within a bound.

use std::ops::Range;

use crate::wire::json::{Kind, Scanner, SyntaxError, Text};
use crate::wire::openai::view::is_filled;

type Scan<T> = Result<T, SyntaxError>;

/// How many members an object, and how many parts a list, may have; those after are left out.
const PARTS_MAX: usize = 256;

/// What is still taken when the bound is reached, so that finish reasons and the like are: 16 KiB in all.
const RESERVE_BYTES: usize = 16 * 1024;

/// A value is small, and may use the reserve, up to so many bytes.
const SMALL_BYTES_MAX: usize = 1024;

/// What a member or part costs beside its name and value, roughly.
const MEMBER_BYTES: usize = 48;

/// The texts that grow, and how much is held in all.
#[derive(Debug)]
pub(super) struct Store {
    /// Each as it stands between the quotes of a JSON string.
    texts: Vec<String>,
    held_bytes: usize,
    bytes_max: usize,
    /// Whether anything was left out for the bound.
    is_cut: bool,
    /// Whether texts do not grow any more: one with a hole would be worse than one that ends.
    is_full: bool,
    omitted_text_bytes: u64,
    /// Where the document begins that `grow` reads, in the event's data.
    base: usize,
    grown: Grown,
}

/// What an event has made grow. Doing the same event again, with another text, would do nothing but let that text
/// grow if it is `Text`: everything else an event can do is the same when it is done twice. That holds until an event
/// does `More`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Grown {
    Nothing,
    Text { id: usize, range: Range<usize> },
    More,
}

impl Store {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            texts: Vec::new(),
            held_bytes: 0,
            bytes_max,
            is_cut: false,
            is_full: false,
            omitted_text_bytes: 0,
            base: 0,
            grown: Grown::Nothing,
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    pub(super) fn set_cut(&mut self) {
        self.is_cut = true;
    }

    pub(super) fn texts(&self) -> &[String] {
        &self.texts
    }

    pub(super) fn text(&self, id: usize) -> &str {
        &self.texts[id]
    }

    pub(super) fn omitted_text_bytes(&self) -> u64 {
        self.omitted_text_bytes
    }

    /// Begins an event; `base` is where the scanned document stands in its data.
    pub(super) fn begin(&mut self, base: usize) {
        (self.base, self.grown) = (base, Grown::Nothing);
    }

    /// What grew since [`begin`](Self::begin).
    pub(super) fn grown(&self) -> &Grown {
        &self.grown
    }

    /// Notes that the event did what may not be done twice.
    pub(super) fn grew(&mut self) {
        self.grown = Grown::More;
    }

    pub(super) fn add_text(&mut self) -> usize {
        self.held_bytes += MEMBER_BYTES;
        self.texts.push(String::new());
        self.texts.len() - 1
    }

    /// Lets a text grow by one that the scanner has read.
    pub(super) fn grow_text(&mut self, id: usize, piece: &Text<'_>) {
        let range = piece.range();
        self.grown = match self.grown {
            Grown::Nothing => Grown::Text { id, range: self.base + range.start..self.base + range.end },
            Grown::Text { .. } | Grown::More => Grown::More,
        };
        self.append(id, piece.raw());
    }

    /// Lets a text grow, as far as there is room.
    #[inline]
    pub(super) fn append(&mut self, id: usize, piece: &str) {
        let room = if self.is_full { 0 } else { self.bytes_max.saturating_sub(self.held_bytes) };
        let piece = if piece.len() <= room { piece } else { self.cut(piece, room) };
        self.texts[id].push_str(piece);
        self.held_bytes += piece.len();
    }

    #[cold]
    fn cut<'a>(&mut self, piece: &'a str, room: usize) -> &'a str {
        let taken = prefix(piece, room);
        (self.is_cut, self.is_full) = (true, true);
        self.omitted_text_bytes += (piece.len() - taken.len()) as u64;
        taken
    }

    fn free_text(&mut self, id: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(self.texts[id].len());
        self.forget_text(id);
    }

    /// Lets go of a text whose bytes were given to something else by [`exchange`](Self::exchange).
    pub(super) fn forget_text(&mut self, id: usize) {
        self.texts[id] = String::new();
    }

    /// Whether `less` bytes may become `more`, and counts them if they may.
    pub(super) fn exchange(&mut self, less: usize, more: usize) -> bool {
        let reserve = if more <= SMALL_BYTES_MAX { RESERVE_BYTES } else { 0 };
        let held_bytes = self.held_bytes.saturating_sub(less) + more;
        if more > less && held_bytes > self.bytes_max.saturating_add(reserve) {
            self.is_cut = true;
            return false;
        }
        self.held_bytes = held_bytes;
        true
    }
}

/// Returns as much of a JSON string's text as `bytes_max` allows without breaking a character or an escape.
fn prefix(text: &str, bytes_max: usize) -> &str {
    let mut end = text.floor_char_boundary(bytes_max);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..end]) {
        let escape = at + found;
        // The first half of a pair and the second go together.
        let length = match text.as_bytes().get(escape + 1..escape + 4) {
            Some([b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B']) => 12,
            Some([b'u', ..]) => 6,
            _ => 2,
        };
        if escape + length > end {
            end = escape;
            break;
        }
        at = escape + length;
    }
    text.get(..end).unwrap_or_default()
}

/// A JSON object that grows by pieces. Its members stand in the order they came first.
#[derive(Debug, Default)]
pub(super) struct Object {
    members: Vec<(Box<str>, Value)>,
    /// Where the member after the last one asked for stands: pieces have their members in one order.
    next: usize,
}

/// The value of a member.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    /// JSON as it came; the last one that says something holds.
    Json(Box<str>),
    /// A text that grows, by its number in the store.
    Text(usize),
    Object(Object),
    /// Objects that grow, each known by its index.
    Parts(Parts),
    /// The elements of an array that grows, as they came.
    List(String),
    /// A payload of which only the size is kept, in bytes.
    Size(u64),
}

/// How the members of an object grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// As those of a `delta`.
    Delta,
    /// As those of a tool call, whose index is its place in the list.
    Call,
    /// As those of a delta's `audio`, which has a payload.
    Audio,
    /// As those of `logprobs`: every array goes on.
    Lists,
}

impl Object {
    /// Returns a member's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// Returns a member's value, which is null if it was not there. None if there is no room for it.
    pub(super) fn entry(&mut self, name: &str, store: &mut Store) -> Option<&mut Value> {
        let is_next = self.members.get(self.next).is_some_and(|(known, _)| **known == *name);
        let place = if is_next {
            self.next
        } else {
            match self.members.iter().position(|(known, _)| **known == *name) {
                Some(place) => place,
                None if self.members.len() == PARTS_MAX || !store.exchange(0, name.len() + MEMBER_BYTES) => {
                    store.set_cut();
                    return None;
                }
                None => {
                    self.members.push((name.into(), Value::Null));
                    self.members.len() - 1
                }
            }
        };
        self.next = place + 1;
        Some(&mut self.members[place].1)
    }

    /// Sets a member to `json`; what says nothing does not replace what does.
    pub(super) fn set(&mut self, name: &str, json: &str, store: &mut Store) {
        if let Some(value) = self.entry(name, store) {
            value.set(json, store);
        }
    }

    /// Sets a member to `json`, whatever that says.
    pub(super) fn replace(&mut self, name: &str, json: &str, store: &mut Store) {
        if let Some(value) = self.entry(name, store) {
            value.replace(json, store);
        }
    }

    /// Whether it has no members.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Removes a member, whose room is not given back.
    pub(super) fn remove(&mut self, name: &str) {
        self.members.retain(|(known, _)| **known != *name);
        self.next = 0;
    }

    /// Puts JSON, which takes the room of the member `gone`, into the place of the member `name`.
    pub(super) fn supplant(&mut self, gone: &str, name: &str, json: &str) {
        self.remove(gone);
        let value = Value::Json(json.into());
        match self.members.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = value,
            None => self.members.push((name.into(), value)),
        }
    }

    /// Returns the object that a member is, which is a new one if it was something else.
    pub(super) fn object(&mut self, name: &str, store: &mut Store) -> Option<&mut Self> {
        Some(self.entry(name, store)?.object(store))
    }

    /// Returns the text of a member, which is a new one if it was something else.
    pub(super) fn text(&mut self, name: &str, store: &mut Store) -> Option<usize> {
        self.entry(name, store).map(|value| value.text(store))
    }

    /// Adds the size of a payload.
    pub(super) fn add_size(&mut self, name: &str, bytes: usize, store: &mut Store) {
        if let Some(value) = self.entry(name, store) {
            value.add_size(bytes, store);
        }
    }

    /// Adds an element to a list.
    pub(super) fn add_element(&mut self, name: &str, json: &str, store: &mut Store) {
        if let Some(value) = self.entry(name, store) {
            value.add_elements(json, store);
        }
    }

    /// Lets the object grow by the object that follows.
    pub(super) fn grow(&mut self, scanner: &mut Scanner<'_>, how: Growth, store: &mut Store) -> Scan<()> {
        scanner.members(|scanner, name| {
            if how == Growth::Call && name.is("index") {
                return scanner.skip().map(drop);
            }
            self.grow_member(scanner, name.raw(), how, store)
        })
    }

    /// Lets one member grow by the value that follows.
    pub(super) fn grow_member(
        &mut self,
        scanner: &mut Scanner<'_>,
        name: &str,
        how: Growth,
        store: &mut Store,
    ) -> Scan<()> {
        let kind = scanner.peek()?;
        let Some(value) = self.entry(name, store) else { return scanner.skip().map(drop) };
        match kind {
            Kind::Null => return scanner.skip().map(drop),
            Kind::String if how == Growth::Audio && name == "data" => {
                value.add_size(decoded_bytes(scanner.string()?.raw()), store);
            }
            Kind::String if IDENTITIES.contains(&name) => {
                let range = scanner.skip()?;
                value.set(scanner.slice(range), store);
            }
            Kind::String => {
                let text = scanner.string()?;
                let id = value.text(store);
                if name != "name" {
                    store.grow_text(id, &text);
                } else if store.text(id) != text.raw() {
                    // Some upstreams send a function's name whole with every piece of its arguments.
                    store.grew();
                    store.append(id, text.raw());
                }
            }
            Kind::Object => {
                let inner = if name == "audio" { Growth::Audio } else { how };
                let inner = if inner == Growth::Call { Growth::Delta } else { inner };
                return value.object(store).grow(scanner, inner, store);
            }
            Kind::Array if how != Growth::Lists && (name == CALLS || has_index(scanner.rest())) => {
                let how = if name == CALLS { Growth::Call } else { Growth::Delta };
                return value.parts(store).grow(scanner, how, store);
            }
            Kind::Array => {
                let range = scanner.skip()?;
                let inner = scanner.slice(range.start + 1..range.end - 1).trim_ascii();
                if inner.is_empty() && matches!(value, Value::Null) {
                    *value = Value::List(String::new());
                } else if !inner.is_empty() {
                    value.add_elements(inner, store);
                }
            }
            Kind::Number | Kind::True | Kind::False => {
                let range = scanner.skip()?;
                value.set(scanner.slice(range), store);
            }
        }
        Ok(())
    }

    /// Writes the members without braces, each with a comma before it but the first.
    pub(super) fn write_members(&self, store: &Store, into: &mut Members<'_>) {
        for (name, value) in &self.members {
            match value {
                Value::Size(bytes) => {
                    into.add(&format!("{name}_bytes"), |out| out.push_str(&bytes.to_string()))
                }
                _ => into.add(name, |out| value.write(store, out)),
            }
        }
    }

    pub(super) fn write(&self, store: &Store, out: &mut String) {
        Members::write(out, |members| self.write_members(store, members));
    }
}

/// The list whose elements are tool calls.
const CALLS: &str = "tool_calls";

/// Members of a delta that say what it is of; when they come again they are not a piece of a text.
const IDENTITIES: [&str; 6] = ["role", "id", "type", "call_id", "format", "object"];

impl Value {
    fn set(&mut self, json: &str, store: &mut Store) {
        let says_something = is_filled(json.as_bytes());
        if says_something || (json != "null" && self.is_null()) {
            self.replace(json, store);
        }
    }

    fn replace(&mut self, json: &str, store: &mut Store) {
        let held_bytes = match self {
            Self::Json(held) if **held == *json => return,
            Self::Json(held) => held.len(),
            _ => 0,
        };
        if store.exchange(held_bytes, json.len()) {
            self.free(store);
            *self = if json == "null" { Self::Null } else { Self::Json(json.into()) };
        }
    }

    fn text(&mut self, store: &mut Store) -> usize {
        if let Self::Text(id) = self {
            return *id;
        }
        self.free(store);
        let id = store.add_text();
        *self = Self::Text(id);
        id
    }

    fn object(&mut self, store: &mut Store) -> &mut Object {
        if !matches!(self, Self::Object(_)) {
            self.free(store);
            *self = Self::Object(Object::default());
        }
        match self {
            Self::Object(object) => object,
            _ => unreachable!("it was made one"),
        }
    }

    fn parts(&mut self, store: &mut Store) -> &mut Parts {
        if !matches!(self, Self::Parts(_)) {
            self.free(store);
            *self = Self::Parts(Parts::default());
        }
        match self {
            Self::Parts(parts) => parts,
            _ => unreachable!("it was made so"),
        }
    }

    fn add_size(&mut self, bytes: usize, store: &mut Store) {
        store.grew();
        let before = match self {
            Self::Size(before) => *before,
            _ => 0,
        };
        self.free(store);
        *self = Self::Size(before + bytes as u64);
    }

    /// Adds elements, written with commas between them.
    fn add_elements(&mut self, elements: &str, store: &mut Store) {
        store.grew();
        if !store.exchange(0, elements.len() + 1) {
            return;
        }
        if let Self::List(list) = self {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(elements);
            return;
        }
        self.free(store);
        *self = Self::List(elements.to_owned());
    }

    /// Gives back the room of the one value that may be large and replaced.
    fn free(&self, store: &mut Store) {
        if let Self::Text(id) = self {
            store.free_text(*id);
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(super) fn write(&self, store: &Store, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Json(json) => out.push_str(json),
            Self::Text(id) => write_text(store.text(*id), out),
            Self::Object(object) => object.write(store, out),
            Self::Parts(parts) => parts.write(store, out),
            Self::List(elements) => {
                out.push('[');
                out.push_str(elements);
                out.push(']');
            }
            Self::Size(bytes) => out.push_str(&bytes.to_string()),
        }
    }
}

/// Objects that grow, each known by its index.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

#[derive(Debug)]
struct Part {
    index: u64,
    object: Object,
}

impl Parts {
    /// Lets each part grow by the element of the array that follows which is of it. Elements that are no objects are
    /// passed over.
    fn grow(&mut self, scanner: &mut Scanner<'_>, how: Growth, store: &mut Store) -> Scan<()> {
        scanner.array(|scanner| {
            if scanner.peek()? != Kind::Object {
                return scanner.skip().map(drop);
            }
            let Some(object) = self.part(&Identity::of(scanner.rest()), store) else {
                return scanner.skip().map(drop);
            };
            object.grow(scanner, how, store)
        })
    }

    /// Returns the part an element is of, which may be a new one; none if there is no room for it.
    ///
    /// Some upstreams send no index, or the same one for all calls, and tell them apart by their ids.
    fn part(&mut self, identity: &Identity<'_>, store: &mut Store) -> Option<&mut Object> {
        let known = match (identity.index, identity.id) {
            (Some(index), None) => self.0.iter().rposition(|part| part.index == index),
            (Some(index), Some(id)) => self.0.iter().rposition(|part| part.index == index && part.may_be(id)),
            (None, Some(id)) => self.0.iter().rposition(|part| part.may_be(id)),
            (None, None) => self.0.len().checked_sub(1),
        };
        if known.is_none() {
            // The same event would begin another part.
            store.grew();
        }
        let next = self.0.last().map_or(0, |part| part.index.saturating_add(1));
        self.at(known, identity.index.unwrap_or(next), store)
    }

    /// Returns the part with this index, which may be a new one; none if there is no room for it.
    pub(super) fn with_index(&mut self, index: u64, store: &mut Store) -> Option<&mut Object> {
        let known = self.0.iter().position(|part| part.index == index);
        self.at(known, index, store)
    }

    fn at(&mut self, known: Option<usize>, index: u64, store: &mut Store) -> Option<&mut Object> {
        let place = match known {
            Some(place) => place,
            None if self.0.len() == PARTS_MAX || !store.exchange(0, MEMBER_BYTES) => {
                store.set_cut();
                return None;
            }
            None => {
                self.0.push(Part { index, object: Object::default() });
                self.0.len() - 1
            }
        };
        Some(&mut self.0[place].object)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Object> {
        self.0.iter_mut().map(|part| &mut part.object)
    }

    /// The parts by index.
    pub(super) fn sorted(&self) -> Vec<(u64, &Object)> {
        let mut parts: Vec<_> = self.0.iter().map(|part| (part.index, &part.object)).collect();
        parts.sort_by_key(|(index, _)| *index);
        parts
    }

    pub(super) fn write(&self, store: &Store, out: &mut String) {
        out.push('[');
        for (number, (_, object)) in self.sorted().into_iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            object.write(store, out);
        }
        out.push(']');
    }
}

impl Part {
    fn may_be(&self, id: &str) -> bool {
        match self.object.get("id") {
            Some(Value::Json(held)) => **held == *id,
            _ => true,
        }
    }
}

/// What tells which part an element of a list is of.
#[derive(Default)]
struct Identity<'a> {
    index: Option<u64>,
    /// The id with its quotes, if it is a string and not empty.
    id: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Reads the object that `json` begins with.
    fn of(json: &'a str) -> Self {
        let mut identity = Self::default();
        let mut scanner = Scanner::new(json.as_bytes());
        let read = scanner.members(|scanner, name| {
            if name.is("index") {
                identity.index = scanner.count()?;
            } else if name.is("id") {
                let is_text = scanner.peek()? == Kind::String;
                let range = scanner.skip()?;
                identity.id = Some(&json[range]).filter(|id| is_text && *id != "\"\"");
            } else {
                scanner.skip()?;
            }
            Ok(())
        });
        debug_assert!(read.is_ok(), "it has been read before");
        identity
    }
}

/// Whether the array that `json` begins with has an object with an index as its first element.
fn has_index(json: &str) -> bool {
    let first = json[1..].trim_ascii_start();
    first.starts_with('{') && Identity::of(first).index.is_some()
}

/// How many bytes a payload in base64 has.
pub(super) fn decoded_bytes(base64: &str) -> usize {
    let padding = base64.bytes().rev().take_while(|byte| *byte == b'=').count();
    base64.len().saturating_sub(padding) * 3 / 4
}

/// Writes a text that was put together from pieces as a JSON string, with its quotes. Escapes that need not be go, so that a search
/// finds the text, and with them what no reader takes: half a pair.
pub(super) fn write_text(raw: &str, out: &mut String) {
    let quoted = ["\"", raw, "\""].concat();
    if !raw.contains('\\') {
        out.push_str(&quoted);
        return;
    }
    match Scanner::new(quoted.as_bytes()).string() {
        Ok(text) => {
            out.push('"');
            out.push_str(&String::from_utf8_lossy(&text.canonical()));
            out.push('"');
        }
        Err(_) => out.push_str("\"\""),
    }
}

/// An object that is being written.
pub(super) struct Members<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> Members<'a> {
    /// Writes an object; `add` adds its members.
    pub(super) fn write(out: &'a mut String, add: impl FnOnce(&mut Members<'_>)) {
        out.push('{');
        add(&mut Members { out, is_first: true });
        out.push('}');
    }

    /// Adds a member, whose name is as it stands between quotes.
    pub(super) fn add(&mut self, name: &str, value: impl FnOnce(&mut String)) {
        if !std::mem::take(&mut self.is_first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
        value(self.out);
    }

    /// Adds a member whose value is JSON.
    pub(super) fn json(&mut self, name: &str, json: &str) {
        self.add(name, |out| out.push_str(json));
    }
}
