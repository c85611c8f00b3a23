//! Looks for the model's name in a `multipart/form-data` body while the body still arrives.
//!
//! Nothing else of the form is read: files are forwarded as they came. Source: RFC 7578 and RFC 2046, section 5.1.

use std::ops::Range;

use memchr::memmem;

use crate::error::{Error, Result};
use crate::wire::MODEL_BYTES_MAX;

/// How long the headers of one part may be, in bytes.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// A form as far as it has been looked through.
#[derive(Debug)]
pub struct Form {
    /// A line break, two hyphens and the boundary.
    delimiter: Vec<u8>,
    state: State,
}

/// What the form says about the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not known yet; ask again with more bytes. At the end of the body this means that there is none.
    More,
    /// The text of the part named `model`, and where in the body it stands.
    Found {
        /// The name the client uses.
        model: String,
        /// Its place in the body.
        value: Range<usize>,
    },
    /// The form has no usable part of this name, or is malformed.
    Absent,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the next delimiter; `model` is where the text began if the part is the model's.
    Content { from: usize, model: Option<usize> },
    /// Inside the headers of a part.
    Headers { start: usize },
    /// Past the last delimiter, or past what is bearable.
    Ended,
}

/// What a match of the delimiter turns out to be.
enum Delimiter {
    /// A part's headers begin at the offset.
    Part(usize),
    Last,
    /// Only the beginning of something longer, hence content.
    None,
    Unknown,
}

impl Form {
    /// Starts a form, given the request's `content-type`.
    ///
    /// # Errors
    ///
    /// `InvalidRequest`: not `multipart/form-data`, or without a usable boundary.
    pub fn new(content_type: &str) -> Result<Self> {
        let error = |message| Err(Error::invalid("content-type", message));
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("multipart/form-data") {
            return error("`content-type` must be `multipart/form-data`");
        }
        match parameter(content_type, "boundary") {
            Some(boundary) if (1..=70).contains(&boundary.len()) => {
                let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
                Ok(Self { delimiter, state: State::Content { from: 0, model: None } })
            }
            _ => error("`content-type` needs a `boundary` of 1 to 70 characters"),
        }
    }

    /// Looks on; `buffered` is everything of the body that has arrived, from its first byte.
    pub fn scan(&mut self, buffered: &[u8]) -> Progress {
        loop {
            match self.state {
                State::Ended => return Progress::Absent,
                State::Headers { start } => match self.headers(buffered, start) {
                    Some(state) => self.state = state,
                    None => return Progress::More,
                },
                State::Content { from, model } => {
                    let Some(at) = self.find_delimiter(buffered, from) else {
                        let from = from.max((buffered.len() + 1).saturating_sub(self.delimiter.len()));
                        self.state = State::Content { from, model };
                        if model.is_some_and(|start| from - start.min(from) > MODEL_BYTES_MAX) {
                            self.state = State::Ended;
                            continue;
                        }
                        return Progress::More;
                    };
                    let next = match self.delimiter_at(buffered, at) {
                        Delimiter::Part(start) => State::Headers { start },
                        Delimiter::Last => State::Ended,
                        Delimiter::None => {
                            self.state = State::Content { from: at + 1, model };
                            continue;
                        }
                        Delimiter::Unknown => {
                            self.state = State::Content { from: at, model };
                            return Progress::More;
                        }
                    };
                    self.state = next;
                    if let Some(start) = model {
                        self.state = State::Ended;
                        return found(buffered, start..at);
                    }
                }
            }
        }
    }

    /// Finds the next delimiter at or after `from`. The first of a body has no line break before it.
    fn find_delimiter(&self, buffered: &[u8], from: usize) -> Option<usize> {
        if from == 0 && buffered.starts_with(&self.delimiter[2..]) {
            return Some(0);
        }
        memmem::find(buffered.get(from..)?, &self.delimiter).map(|at| from + at)
    }

    fn delimiter_at(&self, buffered: &[u8], at: usize) -> Delimiter {
        let is_first = at == 0 && !buffered.starts_with(b"\r\n");
        let rest = &buffered[at + self.delimiter.len() - if is_first { 2 } else { 0 }..];
        let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &rest[padding..] {
            [b'\r', b'\n', ..] => Delimiter::Part(buffered.len() - rest.len() + padding + 2),
            [b'-', b'-', ..] if padding == 0 => Delimiter::Last,
            [] | [b'\r'] if padding < HEADER_BYTES_MAX => Delimiter::Unknown,
            [b'-'] if padding == 0 => Delimiter::Unknown,
            _ => Delimiter::None,
        }
    }

    /// Reads the headers that begin at `start`; none means that they are not complete.
    fn headers(&self, buffered: &[u8], start: usize) -> Option<State> {
        // A part without headers is an empty line: its break is the delimiter's.
        let Some(length) = memmem::find(&buffered[start - 2..], b"\r\n\r\n") else {
            return (buffered.len() - start > HEADER_BYTES_MAX).then_some(State::Ended);
        };
        let end = start - 2 + length;
        let headers = String::from_utf8_lossy(&buffered[start.min(end)..end]);
        let is_model = headers.split("\r\n").filter_map(|line| line.split_once(':')).any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("content-disposition")
                && parameter(value, "name").as_deref() == Some("model")
                && parameter(value, "filename").is_none()
        });
        // The line break at the headers' end may be the one that the next delimiter begins with.
        let content = end + 4;
        Some(State::Content { from: end + 2, model: is_model.then_some(content) })
    }
}

fn found(buffered: &[u8], value: Range<usize>) -> Progress {
    let text = buffered.get(value.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match text {
        Some(model) if !model.is_empty() && model.len() <= MODEL_BYTES_MAX => {
            Progress::Found { model: model.to_owned(), value }
        }
        _ => Progress::Absent,
    }
}

/// Returns a parameter of a header's value, such as `name` of `form-data; name="model"`, without quotes.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        // A parameter without a value may stand before.
        let name = name.rsplit(';').next().unwrap_or(name).trim();
        let (text, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (token, after) = after.split_once(';').unwrap_or((after, ""));
                (token.trim().to_owned(), after)
            }
        };
        if name.eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = after;
    }
}

/// Reads up to the closing quote; returns the text and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(characters.next()?.1),
            _ => text.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn form() -> Form {
        Form::new("multipart/form-data; boundary=B").unwrap()
    }

    /// Scans with the body cut at `cuts`, which are sorted.
    fn scan(body: &[u8], cuts: &[usize]) -> Progress {
        let mut form = form();
        for cut in cuts.iter().copied().chain([body.len()]) {
            match form.scan(&body[..cut]) {
                Progress::More => {}
                progress => return progress,
            }
        }
        Progress::More
    }

    #[track_caller]
    fn check(body: &str, expected: Option<&str>) {
        let bytewise: Vec<_> = (0..body.len()).collect();
        for cuts in [&[][..], &bytewise] {
            match (scan(body.as_bytes(), cuts), expected) {
                (Progress::Found { model, value }, Some(expected)) => {
                    assert_eq!(model, expected);
                    assert_eq!(&body[value], expected);
                }
                (Progress::Absent | Progress::More, None) => {}
                (progress, _) => panic!("{progress:?} for {body:?}"),
            }
        }
    }

    // parity: 5, 93
    #[test]
    fn the_model_is_found_wherever_it_stands() {
        let model = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n";
        let file = "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a; name=model.wav\"\r\nContent-Type: audio/wav\r\n\r\n\r\n--BB\r\n--\r\n\r\n";
        check(&format!("{model}--B--\r\n"), Some("whisper-1"));
        check(&format!("{file}{model}--B--\r\n"), Some("whisper-1"));
        check(&format!("preamble\r\n{file}{model}{file}--B--\r\n"), Some("whisper-1"));
        check(&format!("\r\n{model}--B--\r\n"), Some("whisper-1"));
        check(&format!("{file}--B--\r\n{model}"), None);
        check(&format!("{file}{file}"), None);
    }

    #[test]
    fn headers_may_be_written_in_many_ways() {
        check(
            "--B  \r\ncontent-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=model\r\n\r\nm\r\n--B--",
            Some("m"),
        );
        check(
            "--B\r\nContent-Disposition: form-data; x; name = \"mo\\del\"\r\n\r\n\"m\"\r\n--B\r\n",
            Some("\"m\""),
        );
        check(
            "--B\r\n\r\nno headers\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--B",
            None,
        );
        check(
            "--B\r\n\r\nno headers\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--B--",
            Some("m"),
        );
        check(
            "--B\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--B\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--B--",
            Some("m"),
        );
    }

    #[test]
    fn an_unusable_model_is_none() {
        let part = |model: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=model\r\n\r\n{model}\r\n--B--")
        };
        check(&part(""), None);
        check(&part(&"m".repeat(MODEL_BYTES_MAX)), Some(&"m".repeat(MODEL_BYTES_MAX)));
        check(&part(&"m".repeat(MODEL_BYTES_MAX + 1)), None);
        check("--B\r\nContent-Disposition: form-data; name=model; filename=f\r\n\r\nm\r\n--B--", None);
        assert_eq!(
            scan(b"--B\r\nContent-Disposition: form-data; name=model\r\n\r\n\xFF\r\n--B--", &[]),
            Progress::Absent
        );
        check(&format!("--B\r\nX: {}", "x".repeat(2 * HEADER_BYTES_MAX)), None);
    }

    #[test]
    fn a_content_type_must_be_a_form_with_a_boundary() {
        for usable in ["multipart/form-data; boundary=B", "Multipart/Form-Data;charset=utf-8; BOUNDARY=\"B\""]
        {
            assert_eq!(Form::new(usable).unwrap().delimiter, b"\r\n--B");
        }
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        for unusable in
            ["application/json", "multipart/form-data", "multipart/form-data; boundary=\"\"", &long]
        {
            assert_eq!(Form::new(unusable).unwrap_err().param.as_deref(), Some("content-type"));
        }
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same(
            pieces in prop::collection::vec(prop::sample::select(vec![
                "--B", "\r\n", "\r\n--B\r\n", "\r\n--B--", "-", "\r", "x", ":", "\r\n\r\n",
                "Content-Disposition: form-data; name=\"model\"\r\n\r\n", "m",
            ]), 0..16),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let body = pieces.concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(scan(body.as_bytes(), &cuts), scan(body.as_bytes(), &[]));
        }

        #[test]
        fn nothing_panics(content_type in any::<String>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Form::new(&format!("multipart/form-data;{content_type}"));
            scan(&body, &[]);
        }
    }
}
