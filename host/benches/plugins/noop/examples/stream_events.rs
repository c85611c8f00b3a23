//! Sees the events of streams.

use witgate_sdk::{
    Call, EventAction, EventStream, Finish, Plugin, Rejection, SseEvent, StreamEvents, export,
};

struct Noop;

export!(Noop: StreamEvents);

impl Plugin for Noop {
    type Config = ();

    fn new(_: ()) -> Result<Self, String> {
        Ok(Self)
    }
}

impl StreamEvents for Noop {
    type Stream = Self;

    fn open(&self, _: &Call) -> Option<Self> {
        Some(Self)
    }
}

impl EventStream for Noop {
    fn push(&mut self, _: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        Ok(EventAction::Unchanged)
    }

    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        Ok(EventAction::Unchanged)
    }
}
