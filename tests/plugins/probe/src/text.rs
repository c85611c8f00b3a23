//! What the probe does with text and events.

use serde::Deserialize;
use witgate_sdk::{
    Call, Channel, Config, EventAction, EventStream, Finish, Opened, Rejection, SseEvent, StreamEvents,
    StreamText, TextAction, TextBatch, TextStream, Verdict, Wake,
};

use crate::{Probe, append, finish_name};

/// What it does with text.
#[derive(Clone, Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// What becomes of it.
    does: Does,
    /// The texts that wake it; empty: it is always awake.
    wakes: Vec<String>,
    /// Whether it takes all text and not the answer proper alone.
    everywhere: bool,
    /// Whether it notes each push in kv.
    notes_pushes: bool,
}

/// What becomes of text.
#[derive(Clone, Copy, Config, Default, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Does {
    /// It stays as it is.
    #[default]
    Nothing,
    /// Capital letters are made of small ones, and the label is put behind it at the end.
    Capitals,
    /// It is kept to the end.
    Hold,
    /// It is let go at the first push.
    Detach,
    /// The answer ends where the text is `abort`.
    Abort,
}

pub(crate) struct Stream {
    settings: Settings,
    label: String,
    notes: bool,
    held: TextBatch,
}

impl StreamText for Probe {
    type Stream = Stream;

    fn open(&self, _: &Call) -> Option<Opened<Stream>> {
        let settings = self.settings.text.clone()?;
        let stream = self.stream(settings.clone());
        let mut opened = Opened::new(stream);
        if !settings.wakes.is_empty() {
            opened = opened.wake(Wake::on(settings.wakes));
        }
        if settings.everywhere {
            opened = opened.channels([
                Channel::Content,
                Channel::Reasoning,
                Channel::Refusal,
                Channel::ToolArguments,
            ]);
        }
        Some(opened)
    }
}

impl StreamEvents for Probe {
    type Stream = Stream;

    fn open(&self, _: &Call) -> Option<Stream> {
        self.settings.events.then(|| self.stream(Settings::default()))
    }
}

impl Probe {
    fn stream(&self, settings: Settings) -> Stream {
        let label = self.settings.label.clone();
        Stream { settings, label, notes: self.settings.notes, held: TextBatch::empty() }
    }
}

impl TextStream for Stream {
    fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection> {
        if self.settings.notes_pushes {
            append(&format!("push {}", batch.text));
        }
        Ok(match self.settings.does {
            Does::Nothing => TextAction::Unchanged,
            Does::Detach => TextAction::Detach,
            Does::Capitals => {
                let mut capitals = TextBatch::empty();
                for (span, text) in batch.pieces() {
                    capitals.push(span.choice, span.sub_index, span.channel, &text.to_uppercase());
                }
                TextAction::Replace(capitals)
            }
            Does::Hold => {
                for (span, text) in batch.pieces() {
                    self.held.push(span.choice, span.sub_index, span.channel, text);
                }
                TextAction::Replace(TextBatch::empty())
            }
            Does::Abort if batch.text.contains("abort") => {
                return Err(Rejection::new(451, "aborted", "no more of this"));
            }
            Does::Abort => TextAction::Unchanged,
        }
        .into())
    }

    fn finish(&mut self, reason: Finish) -> Result<Verdict, Rejection> {
        if self.notes {
            append(&format!("finish {}", finish_name(reason)));
        }
        Ok(match self.settings.does {
            Does::Hold => TextAction::Replace(std::mem::replace(&mut self.held, TextBatch::empty())),
            Does::Capitals => {
                let mut label = TextBatch::empty();
                label.push(0, 0, Channel::Content, &self.label);
                TextAction::Replace(label)
            }
            _ => TextAction::Unchanged,
        }
        .into())
    }
}

impl EventStream for Stream {
    fn push(&mut self, events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        if self.notes {
            append(&format!("events {}", events.len()));
        }
        Ok(EventAction::Unchanged)
    }

    fn finish(&mut self, reason: Finish) -> Result<EventAction, Rejection> {
        if self.notes {
            append(&format!("events finish {}", finish_name(reason)));
        }
        Ok(EventAction::Replace(vec![SseEvent::new(format!("{{\"probe\":\"{}\"}}", self.label))]))
    }
}
