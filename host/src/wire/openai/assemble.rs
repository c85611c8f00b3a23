//! The events of a stream put together to the answer that a request for a whole one would have got.
//!
//! It reads the bytes that the client was sent, for the record; nothing waits for it. Bytes are copied when they come
//! and read sixteen kibibytes at a time: a stream that ends before that is read when somebody wants to see it.
//!
//! Most events of a stream are the same but for a piece of text in one place. So one event is read, and those
//! after it are compared with it: where everything around the text is the same bytes, only the text is looked at.
//! Events that are no JSON, or in nobody's words, are kept out; a stream without any other is kept by its beginning.
//!
//! Source: OpenAI API reference, "Chat", "Completions", "Responses", "Audio" and "Images", streaming events, seen 2026-11;
//! those of the other vendors are named in the modules for them.

use bytes::Bytes;

use self::content::Content;
use self::message::Message;
use self::object::{Grown, Growth, Members, Object, Parts, Store, decoded_bytes};
use self::response::Response;
use super::chat::usage_json;
use crate::chat::Usage;
use crate::wire::Endpoint;
use crate::wire::json::{self, Kind, Scanner, SyntaxError};
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX, Frame, Oversize};
use crate::wire::usage::Estimate;

mod content;
mod message;
mod object;
mod response;
#[cfg(test)]
mod tests;

/// How many bytes of a stream wait to be read.
const FOLD_BYTES: usize = 16 * 1024;

/// How much is kept of a stream that has nothing in the words of any vendor.
const SAMPLE_BYTES_MAX: usize = 4 * 1024;

/// An error or a usage over this size is left out.
const FACT_BYTES_MAX: usize = 16 * 1024;

/// The whole answer that a stream amounts to.
#[derive(Debug)]
pub struct Assembly {
    endpoint: Endpoint,
    bytes_max: usize,
    /// What came since the last fold.
    raw: Vec<u8>,
    /// What came before; none while a stream is short.
    answer: Option<Box<Answer>>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// JSON, in the shape of an answer that is not streamed.
    pub body: String,
    /// Whether something of the answer was left out because there was too much of it.
    pub is_cut: bool,
}

impl Assembly {
    /// Starts the answer of a stream. Of texts and other members at most about `bytes_max` bytes are held.
    pub fn new(endpoint: Endpoint, bytes_max: usize) -> Self {
        Self { endpoint, bytes_max, raw: Vec::new(), answer: None }
    }

    /// Takes bytes as the client was sent them, cut anywhere.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        if self.raw.len() + bytes.len() > FOLD_BYTES && !self.raw.is_empty() {
            self.fold();
            self.raw.reserve_exact(FOLD_BYTES);
        }
        self.raw.extend_from_slice(bytes);
    }

    /// How much memory it needs, about, in bytes.
    pub fn held_bytes(&self) -> usize {
        let answer = self.answer.as_deref();
        self.raw.capacity() + answer.map_or(0, |answer| size_of::<Answer>() + answer.held_bytes())
    }

    /// Returns the texts that the answer has so far, for an estimate of its tokens. It reads what has not been read
    /// yet, and everything once more: for answers whose upstream did not say what they cost.
    pub fn estimate(&mut self) -> Estimate {
        self.fold().estimate()
    }

    /// Ends the answer. `usage` is put in where the stream itself told none.
    pub fn finish(mut self, usage: Option<Usage>) -> Assembled {
        self.fold();
        self.answer.expect("folding has begun it").finish(usage)
    }

    fn fold(&mut self) -> &mut Answer {
        let (endpoint, bytes_max) = (self.endpoint, self.bytes_max);
        let answer = self.answer.get_or_insert_with(|| Box::new(Answer::new(endpoint, bytes_max)));
        answer.push(std::mem::take(&mut self.raw).into());
        answer
    }
}

/// The answer as far as it has been read.
#[derive(Debug)]
struct Answer {
    endpoint: Endpoint,
    decoder: Decoder,
    /// How many events with data there were.
    events: u64,
    shape: Shape,
    /// The answer's members; of a response, a message or Google's content those are there.
    members: Object,
    choices: Parts,
    response: Response,
    message: Message,
    content: Content,
    /// The `usage` of the stream.
    usage: Option<Box<str>>,
    /// The last `error` of the stream.
    error: Option<Box<str>>,
    /// The beginning of what nobody understood.
    sample: Vec<u8>,
    store: Store,
}

/// What a stream is of, known from its first event that is in a vendor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Unknown,
    /// A chat or a completion.
    Choices,
    Response,
    /// Anthropic's.
    Message,
    /// Google's.
    Content,
    Transcript,
    Speech,
    Images,
}

impl Answer {
    fn new(endpoint: Endpoint, bytes_max: usize) -> Self {
        Self {
            endpoint,
            decoder: Decoder::new(EVENT_BYTES_MAX),
            events: 0,
            shape: Shape::Unknown,
            members: Object::default(),
            choices: Parts::default(),
            response: Response::default(),
            message: Message::default(),
            content: Content::default(),
            usage: None,
            error: None,
            sample: Vec::new(),
            store: Store::new(bytes_max),
        }
    }

    fn held_bytes(&self) -> usize {
        self.store.held_bytes() + self.decoder.carried_bytes() + self.sample.capacity()
    }

    fn push(&mut self, chunk: Bytes) {
        self.decoder.push(chunk);
        // It would keep the chunk alive, so it is learned anew with each.
        let mut template = None;
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.frame(&frame, &mut template),
                Ok(None) => return,
                Err(Oversize) => {
                    self.events += 1;
                    self.store.set_cut();
                }
            }
        }
    }

    fn frame(&mut self, frame: &Frame, template: &mut Option<Template>) {
        if let Some(template) = template
            && let Some(text) = template.text(&frame.raw)
        {
            self.events += 1;
            self.store.append(template.id, text);
            return;
        }
        let fields = frame.fields();
        let Some(data) = &fields.data else {
            if !frame.raw.starts_with(b":") {
                self.keep_sample(&frame.raw);
            }
            return;
        };
        if &data[..] == b"[DONE]" {
            return;
        }
        self.events += 1;
        self.store.begin(0);
        if !Event::read(data).is_ok_and(|event| self.event(&event)) {
            self.keep_sample(data);
        }
        match (self.store.grown(), &fields.data_range) {
            (Grown::Text { id, range }, Some(data_range)) if is_usual(&frame.raw) => {
                let (start, end) = (data_range.start + range.start, data_range.start + range.end);
                *template = Some(Template { raw: frame.raw.clone(), start, end, id: *id });
            }
            // It may have begun a part that pieces without an index of their own belong to from now on.
            (Grown::More, _) => *template = None,
            _ => {}
        }
    }

    #[cold]
    fn keep_sample(&mut self, data: &[u8]) {
        let room = SAMPLE_BYTES_MAX.saturating_sub(self.sample.len());
        if self.shape != Shape::Unknown || room == 0 {
            return;
        }
        self.sample.extend_from_slice(&data[..data.len().min(room)]);
        self.sample.push(b'\n');
    }

    /// Takes one event. Returns whether it is in the words of a vendor.
    fn event(&mut self, event: &Event<'_>) -> bool {
        let kind = event.text("type").unwrap_or_default();
        let is_known = if event.get("choices", Kind::Array).is_some() {
            self.is(Shape::Choices) && self.chunk(event)
        } else if let Some(kind) = kind.strip_prefix("response.") {
            self.is(Shape::Response) && self.response_event(kind, event)
        } else if let Some(kind) = kind.strip_prefix("transcript.text.") {
            self.is(Shape::Transcript) && self.transcript(kind, event)
        } else if let Some(kind) = kind.strip_prefix("speech.audio.") {
            self.is(Shape::Speech) && self.speech(kind, event)
        } else if let Some((_, kind)) =
            kind.split_once('.').filter(|(source, _)| source.starts_with("image_"))
        {
            self.is(Shape::Images) && self.image(kind, event)
        } else if Message::is_of(kind) {
            self.is(Shape::Message) && self.message_event(kind, event)
        } else if Content::is_in(event) {
            self.is(Shape::Content) && self.content_event(event)
        } else {
            false
        };
        let has_facts = self.facts(event, kind);
        is_known || has_facts
    }

    /// Whether the stream is of this shape, which it is if nothing is known of it.
    fn is(&self, shape: Shape) -> bool {
        self.shape == shape || self.shape == Shape::Unknown
    }

    /// Takes usage and error, which events of every shape may have. Returns whether there are any.
    fn facts(&mut self, event: &Event<'_>, kind: &str) -> bool {
        let usage =
            if self.shape == Shape::Message { None } else { event.get(self.usage_name(), Kind::Object) };
        let error = match event.member("error") {
            Some(error) if error.kind != Kind::Null => Some(error.json),
            _ if kind == "error" => Some(event.json),
            _ => None,
        };
        for (fact, place) in [(usage, &mut self.usage), (error, &mut self.error)] {
            let Some(fact) = fact else { continue };
            if fact.len() > FACT_BYTES_MAX {
                self.store.set_cut();
            } else if place.as_deref() != Some(fact) {
                *place = Some(fact.into());
            }
        }
        usage.or(error).is_some()
    }

    fn chunk(&mut self, event: &Event<'_>) -> bool {
        let Some(choices) = event.member("choices") else { return false };
        self.store.begin(choices.start);
        let mut is_said = choices.json[1..choices.json.len() - 1].trim_ascii().is_empty();
        let mut place = 0;
        let mut scanner = Scanner::new(choices.json.as_bytes());
        let scanned = scanner.array(|scanner| {
            let index = index(scanner.rest()).unwrap_or(place);
            place += 1;
            if scanner.peek()? != Kind::Object {
                return scanner.skip().map(drop);
            }
            is_said = true;
            match self.choices.with_index(index, &mut self.store) {
                Some(choice) => grow_choice(choice, scanner, &mut self.store),
                None => scanner.skip().map(drop),
            }
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
        if !is_said {
            return false;
        }
        self.shape = Shape::Choices;
        for member in &event.members {
            match member.name {
                // What is random in an event, so that its length tells nothing, is not of the answer.
                "choices" | "usage" | "error" | "obfuscation" => {}
                "object" => self.members.set("object", self.object_name(), &mut self.store),
                name => self.members.set(name, member.json, &mut self.store),
            }
        }
        true
    }

    /// The `object` of the whole answer, as JSON.
    fn object_name(&self) -> &'static str {
        if self.endpoint == Endpoint::Completions { "\"text_completion\"" } else { "\"chat.completion\"" }
    }

    /// Where an event tells what the answer cost.
    fn usage_name(&self) -> &'static str {
        let is_content = match self.shape {
            Shape::Unknown => self.endpoint == Endpoint::GenerateContent,
            shape => shape == Shape::Content,
        };
        if is_content { "usageMetadata" } else { "usage" }
    }

    fn message_event(&mut self, kind: &str, event: &Event<'_>) -> bool {
        self.message.take(kind, event, &mut self.store);
        // An upstream that only shows that it is there has said nothing yet.
        if kind != message::PING {
            self.shape = Shape::Message;
        }
        true
    }

    fn content_event(&mut self, event: &Event<'_>) -> bool {
        self.content.take(event, &mut self.store);
        self.shape = Shape::Content;
        true
    }

    fn response_event(&mut self, kind: &str, event: &Event<'_>) -> bool {
        let is_known = self.response.take(kind, event, &mut self.store);
        if is_known {
            self.shape = Shape::Response;
        }
        is_known
    }

    fn transcript(&mut self, kind: &str, event: &Event<'_>) -> bool {
        let store = &mut self.store;
        match kind {
            "delta" => {
                let Some(delta) = event.text("delta") else { return false };
                if let Some(text) = self.members.text("text", store) {
                    store.append(text, delta);
                }
            }
            "segment" => self.members.add_element("segments", event.json, store),
            "done" => set_all(&mut self.members, event, &[], store),
            _ => return false,
        }
        self.shape = Shape::Transcript;
        true
    }

    /// Of sound only the size is kept.
    fn speech(&mut self, kind: &str, event: &Event<'_>) -> bool {
        if let ("delta", Some(audio)) = (kind, event.text("audio")) {
            self.members.add_size("audio", decoded_bytes(audio), &mut self.store);
        } else if kind != "done" {
            return false;
        }
        self.shape = Shape::Speech;
        true
    }

    /// Of pictures only the size is kept.
    fn image(&mut self, kind: &str, event: &Event<'_>) -> bool {
        let Some(picture) = event.text("b64_json") else { return false };
        let (bytes, store) = (decoded_bytes(picture), &mut self.store);
        match kind {
            "partial_image" => self.members.add_size("partial_images", bytes, store),
            "completed" => {
                self.members.add_element("data", &format!("{{\"b64_json_bytes\":{bytes}}}"), store);
                set_all(&mut self.members, event, &["b64_json"], store);
            }
            _ => return false,
        }
        self.shape = Shape::Images;
        true
    }

    fn estimate(&self) -> Estimate {
        let mut estimate = Estimate::default();
        self.store.texts().iter().for_each(|text| estimate.add_json(text));
        estimate.add_bytes(self.store.omitted_text_bytes());
        self.response.estimate(&mut estimate);
        self.content.estimate(&mut estimate);
        estimate
    }

    fn finish(mut self, usage: Option<Usage>) -> Assembled {
        if let Some(frame) = self.decoder.finish() {
            self.frame(&frame, &mut None);
        }
        let usage = self.usage.take().or_else(|| Some(told(self.endpoint, usage?).into()));
        let error = self.error.take();
        let mut body = String::new();
        Members::write(&mut body, |members| match self.shape {
            Shape::Response => {
                self.response.write(usage.as_deref(), error.as_deref(), &mut self.store, members)
            }
            Shape::Message => {
                self.message.write(usage.as_deref(), &mut self.store, members);
                error.iter().for_each(|error| members.json("error", error));
            }
            _ => {
                self.write(members, error.is_some());
                for (name, fact) in [(self.usage_name(), &usage), ("error", &error)] {
                    fact.iter().for_each(|fact| members.json(name, fact));
                }
            }
        });
        Assembled { body, is_cut: self.store.is_cut() }
    }

    /// Writes everything but usage and error.
    fn write(&mut self, members: &mut Members<'_>, has_error: bool) {
        match self.shape {
            Shape::Unknown if has_error && self.endpoint == Endpoint::Messages => {
                members.json("type", "\"error\"");
            }
            Shape::Unknown if has_error => {}
            Shape::Unknown => {
                members.json("events", &self.events.to_string());
                let mut text = Vec::new();
                json::quote(String::from_utf8_lossy(&self.sample).trim_end(), &mut text);
                members.json("text", &String::from_utf8_lossy(&text));
            }
            Shape::Choices => {
                self.members.set("object", self.object_name(), &mut self.store);
                self.members.write_members(&self.store, members);
                self.complete_choices();
                members.add("choices", |out| self.write_choices(out));
            }
            Shape::Content => self.content.write(&self.store, members),
            Shape::Response | Shape::Message | Shape::Transcript | Shape::Speech | Shape::Images => {
                self.members.write_members(&self.store, members);
            }
        }
    }

    /// Adds what every choice of a whole answer has.
    fn complete_choices(&mut self) {
        let store = &mut self.store;
        for choice in self.choices.iter_mut() {
            choice.entry("finish_reason", store);
            if self.endpoint == Endpoint::Completions || choice.get("text").is_some() {
                continue;
            }
            if let Some(message) = choice.object("message", store) {
                message.entry("content", store);
                if message.get("role").is_none_or(|role| role.is_null()) {
                    message.set("role", "\"assistant\"", store);
                }
            }
        }
    }

    fn write_choices(&self, out: &mut String) {
        out.push('[');
        for (number, (index, choice)) in self.choices.sorted().into_iter().enumerate() {
            if number > 0 {
                out.push(',');
            }
            Members::write(out, |members| {
                members.json("index", &index.to_string());
                choice.write_members(&self.store, members);
            });
        }
        out.push(']');
    }
}

/// Writes tokens in the words of the endpoint's answers.
fn told(endpoint: Endpoint, usage: Usage) -> String {
    match endpoint {
        Endpoint::Messages => message::usage_json(usage),
        Endpoint::GenerateContent => content::usage_json(usage),
        _ => usage_json(endpoint, usage),
    }
}

/// Whether a frame begins as events do; one with a byte order mark is like no other.
fn is_usual(raw: &[u8]) -> bool {
    raw.starts_with(b"data:") || raw.starts_with(b"event:")
}

/// Lets a choice grow by the one that follows.
fn grow_choice(choice: &mut Object, scanner: &mut Scanner<'_>, store: &mut Store) -> Result<(), SyntaxError> {
    scanner.object(|scanner, name| {
        let kind = scanner.peek()?;
        match name.raw() {
            "delta" | "message" if kind == Kind::Object => match choice.object("message", store) {
                Some(message) => message.grow(scanner, Growth::Delta, store),
                None => scanner.skip().map(drop),
            },
            "text" if kind == Kind::String => {
                let piece = scanner.string()?;
                if let Some(text) = choice.text("text", store) {
                    store.grow_text(text, &piece);
                }
                Ok(())
            }
            "logprobs" => choice.grow_member(scanner, "logprobs", Growth::Lists, store),
            "index" | "delta" | "message" | "text" => scanner.skip().map(drop),
            name => {
                let range = scanner.skip()?;
                choice.set(name, scanner.slice(range), store);
                Ok(())
            }
        }
    })
}

/// Takes the members of an event as the answer's, but its type, its usage and `others`.
fn set_all(members: &mut Object, event: &Event<'_>, others: &[&str], store: &mut Store) {
    for member in &event.members {
        match member.name {
            "type" | "usage" | "error" | "sequence_number" => {}
            name if others.contains(&name) => {}
            "created_at" => members.set("created", member.json, store),
            name => members.set(name, member.json, store),
        }
    }
}

/// Reads the `index` of the object that `json` begins with, if it is the first member, as it is everywhere.
fn first_index(json: &str) -> Option<u64> {
    let rest = json.strip_prefix("{\"index\":")?;
    let end = rest.find([',', '}'])?;
    rest[..end].parse().ok()
}

/// Reads the `index` of the object that `json` begins with.
fn index(json: &str) -> Option<u64> {
    first_index(json).or_else(|| {
        let mut index = None;
        // What is wrong with it is found by whoever reads on.
        let _ = Scanner::new(json.as_bytes()).members(|scanner, name| {
            if name.is("index") {
                index = scanner.count()?;
                return Ok(());
            }
            scanner.skip().map(drop)
        });
        index
    })
}

/// The data of an event, checked.
struct Event<'a> {
    json: &'a str,
    members: Vec<Member<'a>>,
}

struct Member<'a> {
    /// As it stands between its quotes.
    name: &'a str,
    kind: Kind,
    json: &'a str,
    /// Where the value stands in the data.
    start: usize,
}

impl<'a> Event<'a> {
    /// Reads an object; nothing is done with an event before it is known to be JSON to its end.
    fn read(data: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut scanner = Scanner::new(data);
        let json = scanner.rest();
        let mut members = Vec::with_capacity(12);
        scanner.object(|scanner, name| {
            let kind = scanner.peek()?;
            let value = scanner.skip()?;
            members.push(Member { name: name.raw(), kind, start: value.start, json: scanner.slice(value) });
            Ok(())
        })?;
        scanner.end()?;
        Ok(Self { json, members })
    }

    fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.members.iter().find(|member| member.name == name)
    }

    /// The JSON of a member that is of this kind.
    fn get(&self, name: &str, kind: Kind) -> Option<&'a str> {
        self.member(name).filter(|member| member.kind == kind).map(|member| member.json)
    }

    /// The text of a member, as it stands between its quotes.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name, Kind::String).map(|json| &json[1..json.len() - 1])
    }

    /// A member that counts something; 0 if it is not there.
    fn count(&self, name: &str) -> u64 {
        self.get(name, Kind::Number).and_then(|json| json.parse().ok()).unwrap_or(0)
    }
}

/// An event that has been read and lets one text grow.
struct Template {
    raw: Bytes,
    /// Where the text stands between its quotes.
    start: usize,
    end: usize,
    /// The text's number in the store.
    id: usize,
}

impl Template {
    /// Returns the text of an event that is the same in everything else.
    #[inline]
    fn text<'a>(&self, raw: &'a [u8]) -> Option<&'a str> {
        let end = raw.len().checked_sub(self.raw.len() - self.end)?;
        let is_same = self.start <= end
            && raw[..self.start] == self.raw[..self.start]
            && raw[end..] == self.raw[self.end..];
        if !is_same {
            return None;
        }
        let mut scanner = Scanner::new(&raw[self.start - 1..=end]);
        let text = scanner.string().ok()?;
        scanner.rest().is_empty().then(|| text.raw())
    }
}
