//! The usual text plugin: one filter for each text of an answer.

use crate::{Channel, Finish, Opened, Rejection, Span, TextAction, TextBatch, TextStream, Verdict, Wake};

/// Changes one text, piece by piece. Knows nothing of batches.
///
/// Whatever the pieces, what it writes in all should depend on the text alone; `testkit` checks that.
///
/// ```
/// use witgate_sdk::{Call, Lanes, Opened, Out, Plugin, StreamText, TextFilter};
///
/// /// Lets the first 1000 characters of each answer through.
/// struct Short;
///
/// struct Head {
///     left: usize,
/// }
///
/// impl TextFilter for Head {
///     fn push(&mut self, text: &str, out: &mut Out) {
///         for character in text.chars().take(self.left) {
///             self.left -= 1;
///             out.push(character);
///         }
///     }
///     fn finish(&mut self, out: &mut Out) {
///         if self.left == 0 {
///             out.push_str("…");
///         }
///     }
/// }
///
/// impl StreamText for Short {
///     type Stream = Lanes<Head>;
///     fn open(&self, _: &Call) -> Option<Opened<Self::Stream>> {
///         Some(Opened::new(Lanes::new(|_| Head { left: 1000 })))
///     }
/// }
/// # impl witgate_sdk::Plugin for Short {
/// #     type Config = ();
/// #     fn new(_: ()) -> Result<Self, String> { Ok(Self) }
/// # }
/// ```
pub trait TextFilter: 'static {
    /// Takes the next piece, and writes to `out` what of it, and of what was withheld before, the client is sent now.
    fn push(&mut self, text: &str, out: &mut Out);

    /// Writes what is still withheld; the text has ended.
    fn finish(&mut self, out: &mut Out);

    /// Says that all further text passes as it is and nothing is withheld. `push` is not called again then.
    fn is_done(&self) -> bool {
        false
    }

    /// Says that text is withheld, so that what follows it must not pass by. Only [`Lanes::asleep_until`] asks.
    fn is_holding(&self) -> bool {
        false
    }
}

/// Where a [`TextFilter`] writes.
#[derive(Debug)]
pub struct Out {
    batch: TextBatch,
    /// The place of the text that is filtered now, with the length of the span at the end of `batch` that has it.
    place: Span,
    /// Whether the last span of `batch` continues `place`.
    is_open: bool,
    rejection: Option<Rejection>,
}

impl Out {
    /// Writes text of the filter's own channel.
    pub fn push_str(&mut self, text: &str) {
        self.push_to(self.place.channel, text);
    }

    /// Writes a character of the filter's own channel.
    pub fn push(&mut self, character: char) {
        self.push_str(character.encode_utf8(&mut [0; 4]));
    }

    /// Writes text of another channel of the same choice, e.g. thinking that was found in the content.
    pub fn push_to(&mut self, channel: Channel, text: &str) {
        if text.is_empty() {
            return;
        }
        self.batch.text.push_str(text);
        match self.batch.spans.last_mut() {
            Some(last) if self.is_open && last.channel == channel => last.len += text.len() as u32,
            _ => self.batch.spans.push(Span { channel, len: text.len() as u32, ..self.place }),
        }
        self.is_open = true;
    }

    /// Ends the whole answer with an error. What was written in the same call is dropped; the first rejection counts.
    pub fn reject(&mut self, rejection: Rejection) {
        self.rejection.get_or_insert(rejection);
    }

    fn new(text_len: usize, spans_len: usize) -> Self {
        let batch = TextBatch { text: String::with_capacity(text_len), spans: Vec::with_capacity(spans_len) };
        let place = Span { choice: 0, sub_index: 0, channel: Channel::Content, len: 0 };
        Self { batch, place, is_open: false, rejection: None }
    }

    /// Begins the text of another place.
    fn enter(&mut self, span: &Span) {
        self.place = Span { len: 0, ..*span };
        self.is_open = false;
    }

    /// Makes sure that the place has a span of its own channel, empty if need be: a span that stays keeps its event.
    fn close(&mut self, spans_before: usize) {
        let channel = self.place.channel;
        if !self.batch.spans[spans_before..].iter().any(|span| span.channel == channel) {
            self.batch.spans.push(self.place);
        }
    }

    fn into_batch(self) -> Result<TextBatch, Rejection> {
        match self.rejection {
            Some(rejection) => Err(rejection),
            None => Ok(self.batch),
        }
    }
}

/// A [`TextStream`] that has one filter for each text of an answer: each choice, channel and tool call.
///
/// Spans stay in place with their new lengths, and a batch that no filter changed goes on as the upstream's very bytes.
pub struct Lanes<F> {
    make: Box<dyn Fn(Channel) -> F>,
    lanes: Vec<Lane<F>>,
    choices_expected: Option<usize>,
    /// What the stream is woken for while no filter withholds text; `None`: it never sleeps.
    literals: Option<Vec<String>>,
    is_awake: bool,
}

struct Lane<F> {
    place: Span,
    filter: F,
}

impl<F: TextFilter> Lanes<F> {
    /// Makes lanes whose filters the closure makes, each for a text of the channel it is given.
    pub fn new(make: impl Fn(Channel) -> F + 'static) -> Self {
        Self {
            make: Box::new(make),
            lanes: Vec::new(),
            choices_expected: None,
            literals: None,
            is_awake: false,
        }
    }

    /// Lets the stream go as soon as so many choices have begun and all filters are done; see
    /// [`Call::choices`](crate::Call::choices). For plugins that are given one channel: a text of another that has not
    /// begun would be missed.
    #[must_use]
    pub fn expecting(mut self, choices: usize) -> Self {
        self.choices_expected = Some(choices);
        self
    }

    /// Opens the stream asleep: it is called for batches in which one of these texts begins or ends, and then for all
    /// until no filter is [holding](TextFilter::is_holding) text. For filters that leave everything else as it is.
    pub fn asleep_until<T: Into<String>>(mut self, literals: impl IntoIterator<Item = T>) -> Opened<Self> {
        let literals: Vec<String> = literals.into_iter().map(Into::into).collect();
        self.literals = Some(literals.clone());
        Opened::new(self).wake(Wake::OnLiteral(literals))
    }

    /// When the stream is called from now on, if that changes: what follows withheld text must not pass by.
    fn wake(&mut self) -> Option<Wake> {
        let literals = self.literals.as_ref()?;
        let must_wake = self.lanes.iter().any(|lane| lane.filter.is_holding());
        if std::mem::replace(&mut self.is_awake, must_wake) == must_wake {
            return None;
        }
        Some(if must_wake { Wake::EveryBatch } else { Wake::OnLiteral(literals.clone()) })
    }

    fn is_done(&self) -> bool {
        self.choices_expected.is_some_and(|expected| self.lanes.len() >= expected)
            && self.lanes.iter().all(|lane| lane.filter.is_done())
    }

    fn lane(&mut self, span: &Span) -> &mut Lane<F> {
        let place = Span { len: 0, ..*span };
        // Answers have few texts, nearly always one.
        let index = self.lanes.iter().position(|lane| lane.place == place).unwrap_or_else(|| {
            self.lanes.push(Lane { place, filter: (self.make)(place.channel) });
            self.lanes.len() - 1
        });
        &mut self.lanes[index]
    }

    fn filter(&mut self, batch: &TextBatch) -> Result<TextBatch, Rejection> {
        let mut out = Out::new(batch.text.len(), batch.spans.len());
        for (span, text) in batch.pieces() {
            let lane = self.lane(span);
            let spans_before = out.batch.spans.len();
            out.enter(span);
            if lane.filter.is_done() {
                out.push_str(text);
            } else {
                lane.filter.push(text, &mut out);
            }
            out.close(spans_before);
        }
        out.into_batch()
    }

    /// Says whether all text of the batch is past its filters, so that nothing need be copied.
    fn passes(&mut self, batch: &TextBatch) -> bool {
        batch.spans.iter().all(|span| self.lane(span).filter.is_done())
    }
}

impl<F: TextFilter> TextStream for Lanes<F> {
    fn push(&mut self, batch: TextBatch) -> Result<Verdict, Rejection> {
        let filtered = if self.passes(&batch) { None } else { Some(self.filter(&batch)?) };
        let changed = filtered.filter(|filtered| *filtered != batch);
        let action = match (changed, self.is_done()) {
            (None, true) => TextAction::Detach,
            (None, false) => TextAction::Unchanged,
            (Some(changed), true) => TextAction::DetachWith(changed),
            (Some(changed), false) => TextAction::Replace(changed),
        };
        Ok(Verdict { action, wake: self.wake() })
    }

    fn finish(&mut self, _: Finish) -> Result<Verdict, Rejection> {
        let mut out = Out::new(0, 0);
        for lane in &mut self.lanes {
            out.enter(&lane.place);
            lane.filter.finish(&mut out);
        }
        let rest = out.into_batch()?;
        let action = if rest.spans.is_empty() { TextAction::Unchanged } else { TextAction::Replace(rest) };
        Ok(action.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testkit::batch;

    /// Drops everything up to the first `.`, and `-` is thinking.
    #[derive(Default)]
    struct AfterDot {
        is_done: bool,
    }

    impl TextFilter for AfterDot {
        fn push(&mut self, text: &str, out: &mut Out) {
            for (at, character) in text.char_indices() {
                match character {
                    '.' => {
                        self.is_done = true;
                        return out.push_str(&text[at + 1..]);
                    }
                    '-' => out.push_to(Channel::Reasoning, "-"),
                    _ => {}
                }
            }
        }
        fn finish(&mut self, out: &mut Out) {
            out.push_str(if self.is_done { "" } else { "?" });
        }
        fn is_done(&self) -> bool {
            self.is_done
        }
    }

    fn lanes(choices: usize) -> Lanes<AfterDot> {
        Lanes::new(|_| AfterDot::default()).expecting(choices)
    }

    fn content(pieces: &[(u32, &str)]) -> TextBatch {
        let mut batch = TextBatch::empty();
        pieces.iter().for_each(|&(choice, text)| batch.push(choice, 0, Channel::Content, text));
        batch
    }

    #[track_caller]
    fn check(lanes: &mut Lanes<AfterDot>, pieces: &[(u32, &str)], expected: TextAction) {
        assert_eq!(lanes.push(content(pieces)), Ok(expected.into()));
    }

    #[test]
    fn spans_stay_in_place_also_empty_ones() {
        let changed = content(&[(0, ""), (1, "b"), (0, "")]);
        check(&mut lanes(3), &[(0, "a"), (1, ".b"), (0, "c")], TextAction::Replace(changed));
    }

    #[test]
    fn text_of_another_channel_stands_where_it_was_found() {
        use Channel::{Content, Reasoning};
        let moved = batch(&[(0, Reasoning, 0, "--"), (0, Content, 0, "b")]);
        check(&mut lanes(2), &[(0, "--.b")], TextAction::Replace(moved));
        let moved = batch(&[(0, Reasoning, 0, "-"), (0, Content, 0, ""), (0, Content, 0, "b")]);
        check(&mut lanes(2), &[(0, "-"), (0, ".b")], TextAction::Replace(moved));
    }

    #[test]
    fn a_stream_is_let_go_when_every_expected_choice_is_done() {
        let mut lanes = lanes(2);
        check(&mut lanes, &[(0, ".a")], TextAction::Replace(content(&[(0, "a")])));
        check(&mut lanes, &[(0, "b")], TextAction::Unchanged);
        check(&mut lanes, &[(1, "c"), (0, "b")], TextAction::Replace(content(&[(1, ""), (0, "b")])));
        check(&mut lanes, &[(1, ".c")], TextAction::DetachWith(content(&[(1, "c")])));
        check(&mut lanes, &[(1, "c")], TextAction::Detach);
    }

    #[test]
    fn a_stream_is_kept_when_nothing_is_expected() {
        let mut lanes = Lanes::new(|_| AfterDot { is_done: true });
        check(&mut lanes, &[(0, "a")], TextAction::Unchanged);
    }

    #[test]
    fn the_end_releases_what_each_filter_has() {
        let mut lanes = lanes(3);
        check(
            &mut lanes,
            &[(0, "a"), (2, ".b"), (1, "")],
            TextAction::Replace(content(&[(0, ""), (2, "b"), (1, "")])),
        );
        assert_eq!(
            lanes.finish(Finish::Stop),
            Ok(TextAction::Replace(content(&[(0, "?"), (1, "?")])).into())
        );
    }

    proptest! {
        #[test]
        fn any_batch_gives_a_batch_that_adds_up(
            pieces in prop::collection::vec((0..3_u32, "[a.é-]{0,4}"), 0..8),
        ) {
            let pieces: Vec<(u32, &str)> = pieces.iter().map(|(choice, text)| (*choice, text.as_str())).collect();
            let given = content(&pieces);
            let (TextAction::Replace(new) | TextAction::DetachWith(new)) = lanes(9).push(given.clone()).unwrap().action
            else {
                return Ok(());
            };
            prop_assert_eq!(new.spans.iter().map(|span| span.len as usize).sum::<usize>(), new.text.len());
            let own = |batch: &TextBatch| {
                let own = batch.spans.iter().filter(|span| span.channel == Channel::Content);
                own.map(|span| span.choice).collect::<Vec<_>>()
            };
            prop_assert_eq!(own(&new), own(&given));
        }
    }
}
