//! The text of an answer as plugins see it: batches of spans, each in a lane.

use std::ops::Range;

/// Where a piece of generated text belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// The answer proper.
    Content,
    /// The model's thinking, where the upstream sends it apart.
    Reasoning,
    /// Why the model refuses.
    Refusal,
    /// The arguments of a tool call, JSON in pieces.
    ToolArguments,
}

/// Some of the channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelSet(u8);

impl ChannelSet {
    /// Every channel.
    pub const ALL: Self = Self(0b1111);

    /// Adds a channel.
    pub fn insert(&mut self, channel: Channel) {
        self.0 |= 1 << channel as u8;
    }

    /// Whether a channel is among them.
    pub fn contains(self, channel: Channel) -> bool {
        self.0 >> channel as u8 & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The channels of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Channel> for ChannelSet {
    fn from_iter<T: IntoIterator<Item = Channel>>(channels: T) -> Self {
        let mut set = Self::default();
        channels.into_iter().for_each(|channel| set.insert(channel));
        set
    }
}

/// What the texts have in common that a reader joins to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The number of the answer among those asked for, from 0; in the Responses API the number of the output item.
    pub choice: u32,
    /// What tells the lanes of one choice and channel apart, otherwise 0: the index of the tool call, in the Responses
    /// API the index of the part.
    pub sub_index: u32,
    /// Where the text belongs.
    pub channel: Channel,
}

/// One stretch of text of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// As [`Lane::choice`].
    pub choice: u32,
    /// As [`Lane::sub_index`].
    pub sub_index: u32,
    /// Where the text belongs.
    pub channel: Channel,
    /// How many bytes of the batch's text it has, after those of the spans before it.
    pub len: u32,
}

impl Span {
    /// The lane its text belongs to.
    pub fn lane(&self) -> Lane {
        Lane { choice: self.choice, sub_index: self.sub_index, channel: self.channel }
    }
}

/// Text of an answer in columns: all of it back to back, and its spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextBatch {
    /// The text of all spans.
    pub text: String,
    /// The spans in order; in a batch that is [checked](Self::check) their lengths add up to that of the text.
    pub spans: Vec<Span>,
}

impl TextBatch {
    /// Adds text to a lane, in a span of its own.
    ///
    /// # Panics
    /// With text of more than 4 GiB, which no event or body has.
    pub fn push(&mut self, lane: Lane, text: &str) {
        let len = u32::try_from(text.len()).expect("events and bodies are bounded far below this");
        self.text.push_str(text);
        let Lane { choice, sub_index, channel } = lane;
        self.spans.push(Span { choice, sub_index, channel, len });
    }

    /// Checks a batch that somebody else made: the spans must cover the text, and each must end between two characters.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), &'static str> {
        let mut at = 0_usize;
        for span in &self.spans {
            at = at.saturating_add(span.len as usize);
            if at > self.text.len() {
                return Err("the spans of a text batch are longer than its text");
            }
            if !self.text.is_char_boundary(at) {
                return Err("a span of a text batch ends inside a character");
            }
        }
        if at < self.text.len() {
            return Err("the spans of a text batch are shorter than its text");
        }
        Ok(())
    }

    /// The spans with the ranges of their text.
    pub fn ranges(&self) -> impl Iterator<Item = (Lane, Range<usize>)> {
        let mut end = 0_usize;
        self.spans.iter().map(move |span| {
            let start = end;
            end = start.saturating_add(span.len as usize);
            (span.lane(), start..end)
        })
    }

    /// The spans with their text.
    pub fn pieces(&self) -> impl Iterator<Item = (Lane, &str)> {
        self.ranges().map(|(lane, range)| (lane, self.slice(range)))
    }

    /// A part of the text; nothing if a batch that was not [checked](Self::check) has no such part.
    pub fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// The spans of some channels only, for somebody who wants no others; none if that is all of them.
    pub fn only(&self, channels: ChannelSet) -> Option<Self> {
        if self.spans.iter().all(|span| channels.contains(span.channel)) {
            return None;
        }
        let mut only = Self::default();
        let wanted = self.pieces().filter(|(lane, _)| channels.contains(lane.channel));
        wanted.for_each(|(lane, text)| only.push(lane, text));
        Some(only)
    }

    /// Puts what became of the spans of [`only`](Self::only) these channels back among the others: each in the place of
    /// one of them, those that are too many behind the last.
    pub fn with(&self, channels: ChannelSet, changed: &Self) -> Self {
        let mut whole = Self::default();
        let mut changed = changed.pieces();
        let mut left = self.spans.iter().filter(|span| channels.contains(span.channel)).count();
        for (lane, text) in self.pieces() {
            if !channels.contains(lane.channel) {
                whole.push(lane, text);
                continue;
            }
            left -= 1;
            let count = if left == 0 { usize::MAX } else { 1 };
            changed.by_ref().take(count).for_each(|(lane, text)| whole.push(lane, text));
        }
        // There may have been nothing to take the place of.
        changed.for_each(|(lane, text)| whole.push(lane, text));
        whole
    }

    /// Where a span of [`only`](Self::only) these channels stands among all spans; their number if there is no such span.
    pub fn position(&self, channels: ChannelSet, span: usize) -> usize {
        let wanted = |(_, span): &(usize, &Span)| channels.contains(span.channel);
        self.spans.iter().enumerate().filter(wanted).nth(span).map_or(self.spans.len(), |(at, _)| at)
    }

    /// Whether it has no text at all, whatever spans it has.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Keeps only the first spans, of a batch that is [checked](Self::check).
    pub fn truncate(&mut self, spans: usize) {
        let end = self.ranges().nth(spans).map_or(self.text.len(), |(_, range)| range.start);
        self.spans.truncate(spans);
        self.text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, lens: &[u32], expected: Result<(), &str>) {
        let span = |len: &u32| Span { choice: 0, sub_index: 0, channel: Channel::Content, len: *len };
        let batch = TextBatch { text: text.into(), spans: lens.iter().map(span).collect() };
        assert_eq!(batch.check().map_err(|reason| reason.rsplit(' ').next().unwrap_or_default()), expected);
    }

    /// Spans are letters: capitals are reasoning, the others content.
    fn batch(spans: &str) -> TextBatch {
        let mut batch = TextBatch::default();
        for letter in spans.chars() {
            let channel = if letter.is_ascii_uppercase() { Channel::Reasoning } else { Channel::Content };
            batch.push(Lane { choice: 0, sub_index: 0, channel }, letter.encode_utf8(&mut [0; 4]));
        }
        batch
    }

    #[track_caller]
    fn check_only(spans: &str, only: Option<&str>, changed: &str, with: &str) {
        let channels = [Channel::Content].into_iter().collect();
        assert_eq!(batch(spans).only(channels), only.map(batch));
        assert_eq!(batch(spans).with(channels, &batch(changed)), batch(with));
    }

    #[test]
    fn spans_of_some_channels_change_among_the_others() {
        check_only("aAbBc", Some("abc"), "xyz", "xAyBz");
        check_only("aAbBc", Some("abc"), "x", "xAB");
        check_only("aAbB", Some("ab"), "xyz", "xAyzB");
        check_only("aAbB", Some("ab"), "XY", "XAYB");
        check_only("AB", Some(""), "", "AB");
        check_only("AB", Some(""), "x", "ABx");
        check_only("ab", None, "xy", "xy");
    }

    #[test]
    fn a_span_among_some_is_found_among_all() {
        let channels = [Channel::Content].into_iter().collect();
        assert_eq!([0, 1, 2].map(|span| batch("AaBb").position(channels, span)), [1, 3, 4]);
    }

    #[test]
    fn a_batch_is_cut_between_spans() {
        let mut cut = batch("abc");
        cut.truncate(2);
        assert_eq!(cut, batch("ab"));
        cut.truncate(9);
        assert_eq!(cut, batch("ab"));
    }

    #[test]
    fn a_batch_covers_its_text_in_whole_characters() {
        check("", &[], Ok(()));
        check("", &[0, 0], Ok(()));
        check("aé", &[1, 0, 2], Ok(()));
        check("aé", &[1, 1], Err("character"));
        check("aé", &[1], Err("text"));
        check("aé", &[4], Err("text"));
        check("a", &[], Err("text"));
        check("a", &[u32::MAX, u32::MAX, u32::MAX], Err("text"));
    }
}
