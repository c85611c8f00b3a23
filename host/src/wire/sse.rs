//! Server-sent events: any cut of bytes into frames, and frames into bytes.
//!
//! The decoder finds where frames end and copies nothing that arrives in one piece; what is in a frame is read only
//! when somebody asks ([`Frame::fields`]), because most frames are forwarded without a look.
//!
//! Source: WHATWG HTML, section 9.2 "Server-sent events", seen 2026-11.

use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memchr2};

/// The default bound of one event in bytes, its terminator included: 1 MiB.
pub const EVENT_BYTES_MAX: usize = 1 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts a byte stream into frames.
///
/// A frame ends with a blank line. Lines end with LF, CRLF or CR; a CR is held until the next byte shows which of the
/// two it is, so that frames do not depend on how the bytes were cut.
#[derive(Debug)]
pub struct Decoder {
    /// The bytes that arrived last and are not yet handed out.
    chunk: Bytes,
    /// The beginning of a frame whose end has not arrived.
    carry: Vec<u8>,
    line: Line,
    is_first: bool,
    /// Whether the rest of a frame over the bound is still to come, which is passed over.
    is_skipping: bool,
    event_bytes_max: usize,
}

/// Where in a line the scan stands; kept from chunk to chunk, so that no byte is looked at twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Empty,
    Started,
    /// A CR ended the line; an LF may belong to it.
    Ended {
        was_empty: bool,
    },
}

/// One event, or a group of lines without data such as comments, as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Exactly the received bytes, the blank line included (but for an unterminated last frame).
    pub raw: Bytes,
    /// How many bytes of `raw` are a byte order mark.
    mark_bytes: usize,
}

/// What a frame says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The event's name.
    pub event: Option<Bytes>,
    /// The data; several lines are joined by LF.
    pub data: Option<Bytes>,
    /// Where `data` stands in the frame's bytes, if it is one line of them.
    pub data_range: Option<Range<usize>>,
}

impl Fields {
    /// The event's name, if it is text.
    pub fn event_name(&self) -> Option<&str> {
        self.event.as_ref().and_then(|event| std::str::from_utf8(event).ok())
    }
}

/// An event that is larger than the decoder's bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oversize;

impl Decoder {
    /// Makes a decoder that refuses events of more than `event_bytes_max` bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            chunk: Bytes::new(),
            carry: Vec::new(),
            line: Line::Empty,
            is_first: true,
            is_skipping: false,
            event_bytes_max,
        }
    }

    /// Takes bytes as they arrived. Frames are taken out with [`next_frame`](Self::next_frame) before the next push.
    pub fn push(&mut self, chunk: Bytes) {
        self.chunk =
            if self.chunk.is_empty() { chunk } else { [&self.chunk[..], &chunk[..]].concat().into() };
    }

    /// How many bytes of an unfinished frame wait for the rest.
    pub fn carried_bytes(&self) -> usize {
        self.carry.len()
    }

    /// Hands out the next whole frame; none when more bytes are needed.
    ///
    /// # Errors
    /// [`Oversize`] when the frame, whole or not, is over the bound; once for each. It is passed over, so that the
    /// frames behind it can be taken out.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Oversize> {
        let mut end = frame_end(&self.chunk, &mut self.line);
        if self.is_skipping {
            self.skip_to(end);
            if self.is_skipping {
                return Ok(None);
            }
            end = frame_end(&self.chunk, &mut self.line);
        }
        if self.carry.len() + end.unwrap_or(self.chunk.len()) > self.event_bytes_max {
            self.carry = Vec::new();
            self.skip_to(end);
            return Err(Oversize);
        }
        let Some(end) = end else {
            self.carry.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
            return Ok(None);
        };
        let received = self.chunk.split_to(end);
        let raw = if self.carry.is_empty() { received } else { self.carried(&received) };
        Ok(Some(self.frame(raw)))
    }

    /// Hands out what is left when the stream has ended: a frame without its blank line.
    pub fn finish(&mut self) -> Option<Frame> {
        let rest = std::mem::take(&mut self.chunk);
        let raw = self.carried(&rest);
        self.line = Line::Empty;
        (!raw.is_empty()).then(|| self.frame(raw))
    }

    /// Lets go of a frame that ends at `end`, or of what has come of it.
    fn skip_to(&mut self, end: Option<usize>) {
        self.is_first = false;
        self.is_skipping = end.is_none();
        let _ = self.chunk.split_to(end.unwrap_or(self.chunk.len()));
    }

    fn carried(&mut self, rest: &[u8]) -> Bytes {
        self.carry.extend_from_slice(rest);
        std::mem::take(&mut self.carry).into()
    }

    fn frame(&mut self, raw: Bytes) -> Frame {
        let has_mark = std::mem::take(&mut self.is_first) && raw.starts_with(BYTE_ORDER_MARK);
        Frame { raw, mark_bytes: if has_mark { BYTE_ORDER_MARK.len() } else { 0 } }
    }
}

/// Finds the end of the frame that `bytes` begins with or continues, and keeps in `line` where it stopped.
fn frame_end(bytes: &[u8], line: &mut Line) -> Option<usize> {
    let mut at = 0;
    while at < bytes.len() {
        if let Line::Ended { was_empty } = *line {
            *line = Line::Empty;
            at += usize::from(bytes[at] == b'\n');
            if was_empty {
                return Some(at);
            }
            continue;
        }
        let Some(found) = memchr2(b'\n', b'\r', &bytes[at..]) else {
            *line = Line::Started;
            return None;
        };
        let was_empty = *line == Line::Empty && found == 0;
        at += found + 1;
        if bytes[at - 1] == b'\r' {
            *line = Line::Ended { was_empty };
            continue;
        }
        *line = Line::Empty;
        if was_empty {
            return Some(at);
        }
    }
    None
}

impl Frame {
    /// Reads the frame's lines. Comments and unknown fields are passed over.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::default();
        let mut joined: Option<Vec<u8>> = None;
        let mut at = self.mark_bytes;
        while at < self.raw.len() {
            let rest = &self.raw[at..];
            let len = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let (name, value) = field(&rest[..len]);
            let value = at + value.start..at + value.end;
            match name {
                b"event" => fields.event = Some(self.raw.slice(value)),
                b"data" => match (&fields.data, &mut joined) {
                    (None, _) => {
                        fields.data = Some(self.raw.slice(value.clone()));
                        fields.data_range = Some(value);
                    }
                    (Some(_), Some(joined)) => join(joined, &self.raw[value]),
                    (Some(first), None) => join(joined.insert(first.to_vec()), &self.raw[value]),
                },
                _ => {}
            }
            at += len + 1;
        }
        if let Some(joined) = joined {
            fields.data = Some(joined.into());
            fields.data_range = None;
        }
        fields
    }

    /// Whether the frame's blank line is there, which may lack at the end of a stream only.
    pub fn is_terminated(&self) -> bool {
        // A last CR counts once something follows it.
        frame_end(&[&self.raw[..], b"x"].concat(), &mut { Line::Empty }).is_some()
    }

    /// Adds the line ends that lack.
    pub fn terminated(self) -> Self {
        let ends: &[u8] = if self.raw.ends_with(b"\n") { b"\n" } else { b"\n\n" };
        Self { raw: [&self.raw[..], ends].concat().into(), ..self }
    }
}

fn join(joined: &mut Vec<u8>, line: &[u8]) {
    joined.push(b'\n');
    joined.extend_from_slice(line);
}

/// Splits a line into its field's name and the place of its value, without one leading space.
fn field(line: &[u8]) -> (&[u8], Range<usize>) {
    match memchr(b':', line) {
        None => (line, line.len()..line.len()),
        Some(colon) => {
            let start = colon + 1 + usize::from(line.get(colon + 1) == Some(&b' '));
            (&line[..colon], start..line.len())
        }
    }
}

/// Writes an event; data of several lines becomes several `data` lines.
pub fn encode(event: Option<&str>, data: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(data.len() + event.map_or(0, str::len) + 24);
    if let Some(event) = event {
        write_lines(&mut bytes, b"event: ", event.as_bytes());
    }
    write_lines(&mut bytes, b"data: ", data);
    bytes.push(b'\n');
    bytes.into()
}

/// Writes a comment, which readers pass over; it keeps connections alive.
pub fn comment(text: &str) -> Bytes {
    let mut bytes = Vec::with_capacity(text.len() + 4);
    write_lines(&mut bytes, b": ", text.as_bytes());
    bytes.push(b'\n');
    bytes.into()
}

fn write_lines(bytes: &mut Vec<u8>, prefix: &[u8], mut text: &[u8]) {
    loop {
        let end = memchr2(b'\n', b'\r', text);
        bytes.extend_from_slice(prefix);
        bytes.extend_from_slice(&text[..end.unwrap_or(text.len())]);
        bytes.push(b'\n');
        let Some(end) = end else { return };
        let is_pair = text[end..].starts_with(b"\r\n");
        text = &text[end + 1 + usize::from(is_pair)..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(chunks: &[&[u8]], bound: usize) -> (Vec<Frame>, bool) {
        let mut decoder = Decoder::new(bound);
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(Oversize) => return (frames, true),
                }
            }
        }
        frames.extend(decoder.finish());
        (frames, false)
    }

    fn show(frame: &Frame) -> String {
        let fields = frame.fields();
        let text = |bytes: Option<Bytes>| bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        match (text(fields.event), text(fields.data)) {
            (None, None) => "-".into(),
            (None, Some(data)) => data,
            (Some(event), data) => format!("{event}|{}", data.unwrap_or_else(|| "-".into())),
        }
    }

    /// Every split into two pieces, and into single bytes, gives the same frames.
    #[track_caller]
    fn check(input: &str, expected: &[&str]) {
        let (whole, _) = decode(&[input.as_bytes()], EVENT_BYTES_MAX);
        assert_eq!(whole.iter().map(show).collect::<Vec<_>>(), expected);
        assert_eq!(whole.iter().flat_map(|frame| frame.raw.to_vec()).collect::<Vec<_>>(), input.as_bytes());
        for at in 0..=input.len() {
            let (head, tail) = input.as_bytes().split_at(at);
            assert_eq!(decode(&[head, tail], EVENT_BYTES_MAX).0, whole, "split at {at}");
        }
        let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        assert_eq!(decode(&bytes, EVENT_BYTES_MAX).0, whole, "split everywhere");
    }

    #[test]
    fn every_line_ending_and_field_is_read() {
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check("data: a\r\rdata: b\r\r", &["a", "b"]);
        check("data: a\r\n\ndata: b\n\r\ndata: c\r\r\ndata: d\n\r", &["a", "b", "c", "d"]);
        check("data:a\n\ndata:  b\n\ndata\n\n", &["a", " b", ""]);
        check("data: a\ndata: b\r\ndata:\rdata: d\n\n", &["a\nb\n\nd"]);
        check(": ping\n\ndata: a\n: inside\nid: 1\nretry: 5\n\n", &["-", "a"]);
        check("event: x\ndata: {}\n\nevent: y\n\n", &["x|{}", "y|-"]);
        check("\n\n\ndata: a\n\n", &["-", "-", "-", "a"]);
        check("", &[]);
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_start() {
        check("\u{feff}data: a\n\n\u{feff}data: b\n\n", &["a", "-"]);
    }

    #[test]
    fn a_missing_last_blank_line_loses_nothing() {
        // parity: 126
        check("data: a\n\ndata: b\n", &["a", "b"]);
        check("data: a\n\ndata: b", &["a", "b"]);
        let last = |input: &str| decode(&[input.as_bytes()], 99).0.pop().map(|frame| frame.is_terminated());
        assert_eq!(last("data: b\n"), Some(false));
        assert_eq!(last("data: b\n\n"), Some(true));
        assert_eq!(last("data: b\r\r"), Some(true));
        assert_eq!(last("data: b\r\n"), Some(false));
    }

    #[test]
    fn an_event_inside_one_chunk_is_not_copied() {
        let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
        let mut decoder = Decoder::new(99);
        decoder.push(chunk.clone());
        let frame = decoder.next_frame().unwrap().unwrap();
        assert_eq!(frame.raw.as_ptr(), chunk.as_ptr());
        assert_eq!(frame.fields().data.unwrap().as_ptr(), chunk[6..].as_ptr());
    }

    #[test]
    fn an_event_over_the_bound_is_an_error_at_every_split() {
        let input = b"data: a\n\ndata: bb\n\ndata: c\n\n";
        for at in 0..=input.len() {
            let (frames, is_oversize) = decode(&[&input[..at], &input[at..]], 9);
            assert_eq!((frames.len(), is_oversize), (1, true), "split at {at}");
        }
        assert!(!decode(&[input], 10).1);
    }

    #[test]
    fn the_frames_behind_an_oversize_one_are_whole() {
        let input = b"data: aaaaa\ndata: \n\ndata: b\n\ndata: ccccc\n\ndata: d\n\ndata: eeee";
        for at in 0..=input.len() {
            let mut decoder = Decoder::new(10);
            let (mut frames, mut oversize) = (Vec::new(), 0);
            for chunk in [&input[..at], &input[at..]] {
                decoder.push(Bytes::copy_from_slice(chunk));
                loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(show(&frame)),
                        Ok(None) => break,
                        Err(Oversize) => oversize += 1,
                    }
                }
            }
            frames.extend(decoder.finish().as_ref().map(show));
            assert_eq!((frames.concat(), oversize), ("bdeeee".into(), 2), "split at {at}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let bytes = [encode(Some("x"), b"{}"), encode(None, b"a\r\nb\rc\n"), comment("ping")].concat();
        assert_eq!(bytes, b"event: x\ndata: {}\n\ndata: a\ndata: b\ndata: c\ndata: \n\n: ping\n\n");
        check(std::str::from_utf8(&bytes).unwrap(), &["x|{}", "a\nb\nc\n", "-"]);
    }

    proptest! {
        #[test]
        fn any_cut_of_any_bytes_gives_the_same_frames(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"\r\n".to_vec()), Just(b"data: ".to_vec()),
                    Just(b"data:x\n\n".to_vec()), Just(b"event: e\n".to_vec()), Just(b":".to_vec()),
                    Just(BYTE_ORDER_MARK.to_vec()), prop::collection::vec(any::<u8>(), 0..6),
                ],
                0..24,
            ),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let input = pieces.concat();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
            at.extend([0, input.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
            let (whole, _) = decode(&[&input], EVENT_BYTES_MAX);
            let (cut, _) = decode(&chunks, EVENT_BYTES_MAX);
            prop_assert_eq!(&whole, &cut);
            prop_assert_eq!(whole.iter().flat_map(|frame| frame.raw.to_vec()).collect::<Vec<_>>(), input);
            whole.iter().for_each(|frame| { frame.fields(); });
        }
    }
}
