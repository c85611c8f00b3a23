//! A stream's events on their way through a plugin, with the host's rules.

use super::{Kit, valid};
use crate::{EventAction, EventStream, Finish, Plugin, Rejection, SseEvent, StreamEvents};

/// What the client saw of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenEvents {
    /// The events.
    pub events: Vec<SseEvent>,
    /// The error that ended the stream.
    pub rejection: Option<Rejection>,
    /// How often the plugin's stream was called, its finish included.
    pub calls: usize,
    /// Whether the plugin let the stream go before its end.
    pub is_detached: bool,
}

impl<P: Plugin + StreamEvents> Kit<P> {
    /// Runs a stream; each list is what came in one read.
    pub fn events(&self, reads: &[Vec<SseEvent>], reason: Finish) -> SeenEvents {
        let mut seen = SeenEvents::default();
        let Some(mut stream) = self.plugin.open(&self.call) else {
            seen.events = reads.concat();
            return seen;
        };
        for events in reads {
            if seen.rejection.is_some() {
                return seen;
            }
            if seen.is_detached {
                seen.events.extend_from_slice(events);
                continue;
            }
            seen.calls += 1;
            seen.obey(stream.push(events.clone()), events);
        }
        if !seen.is_detached && seen.rejection.is_none() {
            seen.calls += 1;
            let action = stream.finish(reason);
            if reason != Finish::Cancelled {
                seen.obey(action, &[]);
            }
        }
        seen
    }
}

impl SeenEvents {
    fn obey(&mut self, action: Result<EventAction, Rejection>, events: &[SseEvent]) {
        self.is_detached |= matches!(action, Ok(EventAction::Detach | EventAction::DetachWith(_)));
        match action {
            Ok(EventAction::Unchanged | EventAction::Detach) => self.events.extend_from_slice(events),
            Ok(EventAction::Replace(new) | EventAction::DetachWith(new)) => self.events.extend(new),
            Err(rejection) => self.rejection = Some(valid(rejection)),
        }
    }
}
