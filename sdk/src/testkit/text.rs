//! An answer's text on its way through a plugin, with the host's rules.

use std::collections::BTreeMap;

use super::wake::Sleep;
use super::{Kit, valid};
use crate::{
    Channel, Finish, Opened, Plugin, Rejection, Span, StreamText, TextAction, TextBatch, TextStream, Verdict,
};

/// Texts by choice, channel and tool call.
type Texts = BTreeMap<(u32, Channel, u32), String>;

/// What the client saw of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    texts: Texts,
    rejection: Option<Rejection>,
    calls: usize,
    is_open: bool,
    is_detached: bool,
}

impl Seen {
    /// Returns the content of the first choice.
    pub fn content(&self) -> &str {
        self.text(0, Channel::Content, 0)
    }

    /// Returns the thinking of the first choice.
    pub fn reasoning(&self) -> &str {
        self.text(0, Channel::Reasoning, 0)
    }

    /// Returns the text of a choice, a channel and, for `Channel::ToolArguments`, a tool call.
    pub fn text(&self, choice: u32, channel: Channel, sub_index: u32) -> &str {
        self.texts.get(&(choice, channel, sub_index)).map_or("", String::as_str)
    }

    /// Returns the error that ended the answer.
    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    /// Returns how often the stream was called, its finish included.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Says whether the plugin took the stream at all.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Says whether the plugin let the stream go before its end.
    pub fn is_detached(&self) -> bool {
        self.is_detached
    }

    fn take(&mut self, batch: &TextBatch) {
        for (span, text) in batch.pieces().filter(|(_, text)| !text.is_empty()) {
            self.texts.entry((span.choice, span.channel, span.sub_index)).or_default().push_str(text);
        }
    }

    /// What must not depend on how the text was cut. An answer that was refused may have been refused later or sooner.
    fn outcome(&self) -> (Option<&Rejection>, Option<&Texts>) {
        (self.rejection(), self.rejection.is_none().then_some(&self.texts))
    }
}

impl<P: Plugin + StreamText> Kit<P> {
    /// Runs a whole answer, which is one push and a finish.
    pub fn answer(&self, text: &str) -> Seen {
        self.stream(&[text])
    }

    /// Runs an answer that comes in these pieces of content.
    pub fn stream(&self, pieces: &[&str]) -> Seen {
        let batches: Vec<TextBatch> =
            pieces.iter().map(|piece| batch(&[(0, Channel::Content, 0, piece)])).collect();
        self.batches(&batches, Finish::Stop)
    }

    /// Runs an answer of any choices and channels; each batch is what came in one read.
    ///
    /// ```
    /// use witgate_sdk::{Channel, Finish, testkit};
    /// # use witgate_sdk::{Call, Lanes, Opened, Out, StreamText, TextFilter};
    /// # struct Plugin;
    /// # struct Upper;
    /// # impl witgate_sdk::Plugin for Plugin {
    /// #     type Config = ();
    /// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
    /// # }
    /// # impl StreamText for Plugin {
    /// #     type Stream = Lanes<Upper>;
    /// #     fn open(&self, _: &Call) -> Option<Opened<Self::Stream>> {
    /// #         Some(Opened::new(Lanes::new(|_| Upper)))
    /// #     }
    /// # }
    /// # impl TextFilter for Upper {
    /// #     fn push(&mut self, text: &str, out: &mut Out) { out.push_str(&text.to_uppercase()); }
    /// #     fn finish(&mut self, _: &mut Out) {}
    /// # }
    ///
    /// let kit = testkit::Kit::<Plugin>::new(serde_json::json!({}));
    /// let first = testkit::batch(&[(0, Channel::Reasoning, 0, "well"), (1, Channel::Content, 0, "yes")]);
    /// let second = testkit::batch(&[(0, Channel::Content, 0, "no")]);
    /// let seen = kit.batches(&[first, second], Finish::Stop);
    /// assert_eq!((seen.reasoning(), seen.content()), ("well", "NO"));
    /// assert_eq!(seen.text(1, Channel::Content, 0), "YES");
    /// ```
    ///
    /// # Panics
    ///
    /// If the plugin returns what the host would call a fault.
    pub fn batches(&self, batches: &[TextBatch], reason: Finish) -> Seen {
        let Some(opened) = self.plugin.open(&self.call) else {
            let mut seen = Seen::default();
            batches.iter().for_each(|batch| seen.take(batch));
            return seen;
        };
        let mut run = Run::new(opened);
        for batch in batches {
            run.push(batch);
        }
        run.finish(reason);
        run.seen
    }

    /// Runs an answer whole, cut at every place and every two places, and character by character; checks that the client
    /// sees the same each time, and hands that to `check`.
    ///
    /// The number of runs grows with the square of the text's length: keep it under a few hundred characters.
    ///
    /// # Panics
    ///
    /// If what the client sees depends on the cuts.
    #[track_caller]
    pub fn every_split(&self, text: &str, check: impl FnOnce(&Seen)) {
        let whole = self.answer(text);
        let cuts: Vec<usize> = (0..=text.len()).filter(|&at| text.is_char_boundary(at)).collect();
        for (i, &a) in cuts.iter().enumerate() {
            for &b in &cuts[i..] {
                self.check_split(&[&text[..a], &text[a..b], &text[b..]], &whole);
            }
        }
        let characters: Vec<&str> = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        self.check_split(&characters, &whole);
        check(&whole);
    }

    #[track_caller]
    fn check_split(&self, pieces: &[&str], whole: &Seen) {
        let pieces: Vec<&str> = pieces.iter().copied().filter(|piece| !piece.is_empty()).collect();
        assert_eq!(self.stream(&pieces).outcome(), whole.outcome(), "cut as {pieces:?}, and whole");
    }
}

/// Makes a batch of choice, channel, tool call and text.
pub fn batch(pieces: &[(u32, Channel, u32, &str)]) -> TextBatch {
    let mut batch = TextBatch::empty();
    for &(choice, channel, sub_index, text) in pieces {
        batch.push(choice, sub_index, channel, text);
    }
    batch
}

/// One answer and the stream that takes it.
struct Run<S> {
    stream: S,
    channels: Vec<Channel>,
    sleep: Sleep,
    seen: Seen,
}

impl<S: TextStream> Run<S> {
    fn new(opened: Opened<S>) -> Self {
        let Opened { stream, wake, mut channels } = opened;
        if channels.is_empty() {
            channels.push(Channel::Content);
        }
        let seen = Seen { is_open: true, ..Seen::default() };
        Self { stream, channels, sleep: Sleep::new(wake), seen }
    }

    fn is_over(&self) -> bool {
        self.seen.is_detached || self.seen.rejection.is_some()
    }

    fn push(&mut self, batch: &TextBatch) {
        if self.seen.rejection.is_some() {
            return;
        }
        let mut wanted = TextBatch::empty();
        let mut others = TextBatch::empty();
        for (span, text) in batch.pieces() {
            let to = if self.channels.contains(&span.channel) { &mut wanted } else { &mut others };
            to.push(span.choice, span.sub_index, span.channel, text);
        }
        self.seen.take(&others);
        if self.is_over() {
            return self.seen.take(&wanted);
        }
        if wanted.spans.is_empty() {
            return;
        }
        let (passes, wakes) = self.sleep.look(wanted);
        self.seen.take(&passes);
        if let Some(batch) = wakes {
            self.seen.calls += 1;
            let verdict = self.stream.push(batch.clone());
            self.obey(verdict, &batch);
        }
    }

    fn finish(&mut self, reason: Finish) {
        if self.is_over() {
            return;
        }
        self.seen.take(&self.sleep.end());
        self.seen.calls += 1;
        let verdict = self.stream.finish(reason);
        // A client that has left is sent nothing.
        if reason != Finish::Cancelled {
            self.obey(verdict, &TextBatch::empty());
        }
    }

    fn obey(&mut self, verdict: Result<Verdict, Rejection>, batch: &TextBatch) {
        let Verdict { action, wake } = match verdict {
            Ok(verdict) => verdict,
            Err(rejection) => return self.seen.rejection = Some(valid(rejection)),
        };
        match &action {
            TextAction::Unchanged | TextAction::Detach => self.seen.take(batch),
            TextAction::Replace(new) | TextAction::DetachWith(new) => {
                check(new);
                self.seen.take(new);
            }
        }
        if matches!(action, TextAction::Detach | TextAction::DetachWith(_)) {
            self.seen.is_detached = true;
        }
        if let Some(wake) = wake {
            self.sleep = Sleep::new(wake);
        }
    }
}

fn check(batch: &TextBatch) {
    let mut at = 0;
    for Span { len, .. } in &batch.spans {
        at += *len as usize;
        assert!(
            batch.text.is_char_boundary(at),
            "fault `invalid-output`: a span ends inside a character or past the text"
        );
    }
    assert_eq!(at, batch.text.len(), "fault `invalid-output`: the spans' lengths add up to the text's");
}
