//! The hook that changes the text of answers.

use crate::{Call, Channel, Finish, Plugin, Rejection, Span, TextBatch, Wake};

/// Sees the text of answers as it is produced; a whole answer is one push and a finish.
///
/// Most plugins change one text after another: they write a [`TextFilter`](crate::TextFilter) and let
/// [`Lanes`](crate::Lanes) do the rest. This one counts instead:
///
/// ```
/// use witgate_sdk::{
///     Call, Finish, Opened, Plugin, Rejection, StreamText, TextAction, TextBatch, TextStream, Verdict, log,
/// };
///
/// struct Count;
///
/// struct Counter {
///     bytes: usize,
/// }
///
/// impl StreamText for Count {
///     type Stream = Counter;
///     fn open(&self, call: &Call) -> Option<Opened<Counter>> {
///         (call.model() != "dictation").then(|| Opened::new(Counter { bytes: 0 }))
///     }
/// }
///
/// impl TextStream for Counter {
///     fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection> {
///         self.bytes += batch.text.len();
///         Ok(TextAction::Unchanged.into())
///     }
///     fn finish(&mut self, _: Finish) -> Result<Verdict, Rejection> {
///         log::info("answered", &[("bytes", &self.bytes.to_string())]);
///         Ok(TextAction::Unchanged.into())
///     }
/// }
/// # impl witgate_sdk::Plugin for Count {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait StreamText: Plugin {
    /// What takes the text of one answer.
    type Stream: TextStream;

    /// Is asked once for each answer with text. `None`: it is of no interest and costs nothing further.
    fn open(&self, call: &Call) -> Option<Opened<Self::Stream>>;
}

/// One answer's text on its way to the client.
pub trait TextStream: 'static {
    /// Takes text: everything of the wanted channels that came in one read.
    ///
    /// # Errors
    ///
    /// The answer ends here, with an error.
    fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection>;

    /// Is called exactly once when the answer is at its end, by whatever cause, unless the stream detached.
    /// [`TextAction::Replace`] adds text that was withheld.
    ///
    /// # Errors
    ///
    /// The answer ends here, with an error.
    fn finish(&mut self, reason: Finish) -> Result<Verdict, Rejection>;
}

/// A stream of interest: what takes its text, when, and which.
#[derive(Clone, Debug)]
pub struct Opened<S> {
    /// What takes the text.
    pub stream: S,
    /// When it is called.
    pub wake: Wake,
    /// Which text it is given; empty means content only.
    pub channels: Vec<Channel>,
}

impl<S> Opened<S> {
    /// Makes a stream that is called for every batch of content.
    pub fn new(stream: S) -> Self {
        Self { stream, wake: Wake::EveryBatch, channels: vec![Channel::Content] }
    }

    /// Sets when the stream is called. While it sleeps the upstream's bytes go on untouched, also past text that it
    /// withholds: a stream that does so stays awake meanwhile; see
    /// [`Lanes::asleep_until`](crate::Lanes::asleep_until).
    #[must_use]
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = wake;
        self
    }

    /// Sets which text the stream is given.
    #[must_use]
    pub fn channels(mut self, channels: impl Into<Vec<Channel>>) -> Self {
        self.channels = channels.into();
        self
    }
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextAction {
    /// It goes on as it is: the upstream's very bytes.
    Unchanged,
    /// This is sent instead; spans that stay in place keep their events.
    Replace(TextBatch),
    /// It goes on as it is, and the stream is not called again, not even to finish.
    Detach,
    /// This is sent instead, and the stream is not called again.
    DetachWith(TextBatch),
}

/// The action, and from when on the stream is called, if that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the text.
    pub action: TextAction,
    /// From when on the stream is called; `None`: as before.
    pub wake: Option<Wake>,
}

impl Verdict {
    /// Changes when the stream is called.
    #[must_use]
    pub fn wake(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }
}

impl From<TextAction> for Verdict {
    fn from(action: TextAction) -> Self {
        Self { action, wake: None }
    }
}

impl Wake {
    /// Wakes for batches in which one of these texts begins or ends.
    pub fn on<T: Into<String>>(literals: impl IntoIterator<Item = T>) -> Self {
        Self::OnLiteral(literals.into_iter().map(Into::into).collect())
    }
}

impl TextBatch {
    /// Makes a batch without text.
    pub fn empty() -> Self {
        Self { text: String::new(), spans: Vec::new() }
    }

    /// Appends a span with its text.
    pub fn push(&mut self, choice: u32, sub_index: u32, channel: Channel, text: &str) {
        self.text.push_str(text);
        self.spans.push(Span { choice, sub_index, channel, len: text.len() as u32 });
    }

    /// Iterates over the spans, each with its text.
    ///
    /// # Panics
    ///
    /// If the lengths do not fit the text, which the host never gives.
    pub fn pieces(&self) -> impl Iterator<Item = (&Span, &str)> {
        let mut rest = self.text.as_str();
        self.spans.iter().map(move |span| {
            let (piece, after) = rest.split_at(span.len as usize);
            rest = after;
            (span, piece)
        })
    }
}
