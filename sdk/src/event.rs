//! The hook that changes the events of streams.

use crate::{Call, Finish, Plugin, Rejection, SseEvent};

/// Sees the server-sent events of streams, for what [`StreamText`](crate::StreamText) cannot say.
///
/// ```
/// use witgate_sdk::{Call, EventAction, EventStream, Finish, Rejection, SseEvent, StreamEvents};
///
/// struct NoPings;
///
/// impl StreamEvents for NoPings {
///     type Stream = Self;
///     fn open(&self, _: &Call) -> Option<Self> {
///         Some(Self)
///     }
/// }
///
/// impl EventStream for NoPings {
///     fn push(&mut self, mut events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
///         let before = events.len();
///         events.retain(|event| event.event.as_deref() != Some("ping"));
///         Ok(if events.len() == before { EventAction::Unchanged } else { EventAction::Replace(events) })
///     }
///     fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
///         Ok(EventAction::Unchanged)
///     }
/// }
/// # impl witgate_sdk::Plugin for NoPings {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait StreamEvents: Plugin {
    /// What takes the events of one stream.
    type Stream: EventStream;

    /// Is asked once for each stream. `None`: it is of no interest and costs nothing further.
    fn open(&self, call: &Call) -> Option<Self::Stream>;
}

/// One stream's events on their way to the client.
pub trait EventStream: 'static {
    /// Takes the events of one read, in the client's dialect.
    ///
    /// # Errors
    ///
    /// The stream ends here, with an error.
    fn push(&mut self, events: Vec<SseEvent>) -> Result<EventAction, Rejection>;

    /// Is called exactly once when the stream is at its end, unless it detached. [`EventAction::Replace`] adds events.
    ///
    /// # Errors
    ///
    /// The stream ends here, with an error.
    fn finish(&mut self, reason: Finish) -> Result<EventAction, Rejection>;
}

/// What becomes of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventAction {
    /// They go on as they are: the very bytes.
    Unchanged,
    /// These are sent instead.
    Replace(Vec<SseEvent>),
    /// They go on as they are, and the stream is not called again.
    Detach,
    /// These are sent instead, and the stream is not called again.
    DetachWith(Vec<SseEvent>),
}

impl SseEvent {
    /// Makes an event without a name.
    pub fn new(data: impl Into<Vec<u8>>) -> Self {
        Self { event: None, data: data.into() }
    }

    /// Sets the `event` field.
    #[must_use]
    pub fn named(mut self, event: impl Into<String>) -> Self {
        self.event = Some(event.into());
        self
    }
}
