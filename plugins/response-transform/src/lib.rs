//! Edits answers by rule: fields, text and headers.
//!
//! Fields of a whole answer are edited on the host; those of a stream in each of its events; text in either as it is
//! produced. An answer that no rule is for is not touched, and a stream wakes the plugin only for what its rules need.

mod fields;
mod glob;
mod json;
mod path;
mod replace;
mod rule;
mod settings;
mod texts;

use std::rc::Rc;

use rule::Rule;
use settings::{Headers, Settings};
use texts::Texts;
use witgate_sdk::{
    Call, EventAction, EventStream, Finish, OnResponse, Opened, Plugin, Rejection, ResponseFlow, SseEvent,
    StreamEvents, StreamText, export,
};

/// The status of what comes after the head of a stream.
const STREAM_STATUS: u16 = 200;

struct ResponseTransform {
    rules: Rc<[Rule]>,
}

export!(ResponseTransform: OnResponse, StreamText, StreamEvents);

impl Plugin for ResponseTransform {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.rules.is_empty() {
            return Err("`rules` is empty, so that the plugin does nothing: add a rule or remove the plugin"
                .to_owned());
        }
        let rules = settings.rules.into_iter().enumerate();
        let rules = rules
            .map(|(index, rule)| Rule::new(rule, format_args!("rules[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }
}

impl OnResponse for ResponseTransform {
    fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection> {
        for rule in self.rules.iter().filter(|rule| rule.holds(call, status)) {
            // The head of a stream has no document.
            if !rule.edits.is_empty() && call.body_len() > 0 {
                let mut document = call;
                rule.edits.iter().for_each(|edit| edit.apply(&mut document));
            }
            edit_headers(&rule.headers, call)?;
        }
        Ok(ResponseFlow::Next)
    }
}

fn edit_headers(headers: &Headers, call: &Call) -> Result<(), Rejection> {
    for (from, to) in &headers.rename {
        if let Some(value) = call.header(from) {
            call.remove_header(from)?;
            call.set_header(to, &value)?;
        }
    }
    for name in &headers.remove {
        call.remove_header(name)?;
    }
    for (name, value) in &headers.set {
        call.set_header(name, value)?;
    }
    Ok(())
}

impl StreamText for ResponseTransform {
    type Stream = Texts;

    fn open(&self, call: &Call) -> Option<Opened<Texts>> {
        let has_text = |rule: &&Rule| !rule.literals.is_empty() && rule.holds(call, STREAM_STATUS);
        Texts::open(
            self.rules.iter().filter(has_text).flat_map(|rule| rule.literals.iter().cloned()).collect(),
        )
    }
}

impl StreamEvents for ResponseTransform {
    type Stream = Events;

    fn open(&self, call: &Call) -> Option<Events> {
        let has_edits = |rule: &Rule| !rule.edits.is_empty() && rule.holds(call, STREAM_STATUS);
        let indexes: Vec<usize> =
            (0..self.rules.len()).filter(|&index| has_edits(&self.rules[index])).collect();
        (!indexes.is_empty()).then(|| Events { rules: Rc::clone(&self.rules), indexes })
    }
}

/// The events of one stream.
struct Events {
    rules: Rc<[Rule]>,
    /// Which of the rules are for this stream.
    indexes: Vec<usize>,
}

impl EventStream for Events {
    fn push(&mut self, mut events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        let mut is_changed = false;
        for event in &mut events {
            if let Some(edited) = self.edited(&event.data) {
                event.data = edited.into_bytes();
                is_changed = true;
            }
        }
        Ok(if is_changed { EventAction::Replace(events) } else { EventAction::Unchanged })
    }

    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        Ok(EventAction::Unchanged)
    }
}

impl Events {
    /// The data of an event as the rules would have it; none if they leave it alone, or if it is no JSON object.
    fn edited(&self, data: &[u8]) -> Option<String> {
        let original = std::str::from_utf8(data).ok()?;
        if !original.trim_start().starts_with('{') {
            return None;
        }
        let mut document = original.to_owned();
        let edits = self.indexes.iter().flat_map(|&index| &self.rules[index].edits);
        edits.for_each(|edit| edit.apply(&mut document));
        (document != original).then_some(document)
    }
}
