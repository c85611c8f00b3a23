//! The echo upstream: answers in this process what an OpenAI-compatible server would, by repeating the question.
//!
//! It needs no key and no network, so a first request works on any machine. A token is a word here.

use std::fmt::Write;

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::chat::{
    Choice, Content, Event, Extra, Message, Part, Reply as ChatReply, Role, StopReason, Usage,
};
use crate::config::ErrorCompat;
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::json::quote;
use crate::wire::openai::chat::{EventEncoder, decode_request, encode_reply};
use crate::wire::openai::echo::{Completion, StreamOptions, decode};
use crate::wire::openai::encode_error;
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

/// The models it lists. It answers to any name; those that end in `-think` think first.
pub(crate) const MODELS: [&str; 2] = ["echo", "echo-think"];

const DIMENSIONS: u64 = 8;

/// What the echo upstream sends back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The value of `content-type`.
    pub content_type: &'static str,
    /// The body.
    pub answer: Answer,
}

/// The body of an echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One JSON document.
    Whole(Bytes),
    /// Server-sent events in order, each as it is sent.
    Stream(Vec<Bytes>),
}

/// Answers a request to `path`, which may begin with `/v1`. `created_unix_s` is the time now, in seconds since 1970.
pub(crate) fn answer(path: &str, body: &[u8], created_unix_s: u64) -> Reply {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let answered = match path {
        "/chat/completions" => chat(body, created_unix_s),
        "/completions" => completion(body, created_unix_s),
        "/embeddings" => embeddings(body),
        "/models" => Ok(Answer::Whole(models())),
        _ => match path.strip_prefix("/models/") {
            Some(model) if MODELS.contains(&model) => Ok(Answer::Whole(Bytes::from(model_entry(model)))),
            Some(model) => Err(Error::new(ErrorKind::ModelNotFound, format!("there is no model `{model}`"))),
            None => Err(Error::new(ErrorKind::UnknownPath, format!("the echo upstream has no `{path}`"))),
        },
    };
    match answered {
        Ok(answer) => {
            let is_stream = matches!(answer, Answer::Stream(_));
            let content_type = if is_stream { "text/event-stream" } else { "application/json" };
            Reply { status: StatusCode::OK, content_type, answer }
        }
        Err(error) => refusal(&error),
    }
}

fn chat(body: &[u8], created_unix_s: u64) -> Result<Answer> {
    let chat = decode_request(body)?;
    let texts: Vec<String> = chat.messages.iter().map(text_of).collect();
    let question = chat.messages.iter().rposition(|message| message.role == Role::User);
    let question = question.map_or("", |place| &texts[place]);
    let mut usage = Usage {
        input: texts.iter().map(|text| count(text)).sum(),
        output: count(question),
        ..Usage::default()
    };
    let mut text = question.to_owned();
    if chat.model.ends_with("-think") {
        (text, usage.reasoning) = think(question);
    }
    let asked = Asked {
        model: chat.model.as_str().into(),
        id: id(body, created_unix_s).into(),
        created_unix_s,
        asks_usage: chat.asks_usage,
        request: Bytes::new(),
    };
    if chat.is_stream {
        return Ok(Answer::Stream(stream(&text, usage, &asked)));
    }
    let choice = Choice { parts: vec![Part::text(text)], stop: Some(StopReason::Stop), ..Choice::default() };
    let reply = ChatReply {
        surface: Surface::Chat,
        id: String::new(),
        model: chat.model,
        created_unix_s: None,
        choices: vec![choice],
        usage: Some(usage),
        extra: Extra::default(),
    };
    Ok(Answer::Whole(encode_reply(&reply, &asked)))
}

/// All of a message's text; what is not text is left out.
fn text_of(message: &Message) -> String {
    let texts = message.parts.iter().map(|part| match &part.content {
        Content::Text { text, .. } => text.clone(),
        Content::ToolResult { content, .. } => content.iter().filter_map(plain).collect(),
        _ => String::new(),
    });
    texts.collect()
}

fn plain(part: &Part) -> Option<&str> {
    match &part.content {
        Content::Text { text, .. } => Some(text),
        _ => None,
    }
}

/// Says an answer word by word.
fn stream(text: &str, usage: Usage, asked: &Asked) -> Vec<Bytes> {
    let start = Event::Start { id: String::new(), model: String::new(), created_unix_s: None, usage: None };
    let pieces = words(text).map(|word| Event::Text { choice: 0, text: word.to_owned() });
    let finish = Event::Finish { choice: 0, reason: StopReason::Stop, stop_sequence: None };
    let steps = [start].into_iter().chain(pieces).chain([finish, Event::Usage(usage), Event::End]);
    let mut encoder = EventEncoder::new(asked);
    let mut written = Vec::new();
    steps.for_each(|step| encoder.push(&step, &mut written));
    let mut frames = Decoder::new(EVENT_BYTES_MAX.max(written.len()));
    frames.push(written.into());
    std::iter::from_fn(|| frames.next_frame().ok().flatten()).map(|frame| frame.raw).collect()
}

fn completion(body: &[u8], created_unix_s: u64) -> Result<Answer> {
    #[derive(Deserialize)]
    struct Request {
        model: String,
        prompt: Input,
        stream: Option<bool>,
        stream_options: Option<StreamOptions>,
    }
    let request: Request = decode(body)?;
    let texts = request.prompt.texts();
    let count = texts.iter().map(|text| count(text)).sum();
    let usage = Usage { input: count, output: count, ..Usage::default() };
    let id = format!("cmpl-{}", id(body, created_unix_s));
    let answer = Completion { id, model: request.model, created_unix_s };
    if !request.stream.unwrap_or(false) {
        return Ok(Answer::Whole(answer.reply(&texts, StopReason::Stop, usage)));
    }
    let mut events = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        events.extend(words(text).map(|word| answer.text(index, word)));
        events.push(answer.finish(index, StopReason::Stop));
    }
    let asks_usage = request.stream_options.and_then(|options| options.include_usage);
    events.extend(asks_usage.unwrap_or(false).then(|| answer.usage(usage)));
    events.push(answer.done());
    Ok(Answer::Stream(events))
}

fn id(body: &[u8], created_unix_s: u64) -> String {
    format!("{:016x}", xxh3_64_with_seed(body, created_unix_s))
}

/// Makes the first half of the words thinking. Returns the text and how many words that is.
fn think(text: &str) -> (String, u64) {
    let thinking = count(text) / 2;
    let at = words(text).take(usize::try_from(thinking).unwrap_or(usize::MAX)).map(str::len).sum();
    (format!("<think>{}</think>{}", &text[..at], &text[at..]), thinking)
}

/// Cuts a text into words, each with the white space after it; white space at the start is the first word's.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let word = rest.find(|character: char| !character.is_whitespace()).unwrap_or(rest.len());
        let space = rest[word..].find(char::is_whitespace).map_or(rest.len(), |at| word + at);
        let end = rest[space..]
            .find(|character: char| !character.is_whitespace())
            .map_or(rest.len(), |at| space + at);
        let (taken, left) = rest.split_at(end);
        rest = left;
        (!taken.is_empty()).then_some(taken)
    })
}

fn count(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// A prompt or an input: one text or several, or tokens.
#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u64>),
    TokenLists(Vec<Vec<u64>>),
}

impl Input {
    fn texts(self) -> Vec<String> {
        let words = |tokens: Vec<u64>| tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Text(text) => vec![text],
            Self::Texts(texts) => texts,
            Self::Tokens(tokens) => vec![words(tokens)],
            Self::TokenLists(lists) => lists.into_iter().map(words).collect(),
        }
    }
}

fn embeddings(body: &[u8]) -> Result<Answer> {
    #[derive(Deserialize)]
    struct Embeddings {
        model: String,
        input: Input,
        encoding_format: Option<String>,
    }
    let request: Embeddings = decode(body)?;
    let is_base64 = request.encoding_format.as_deref() == Some("base64");
    let texts = request.input.texts();
    let mut json = String::from("{\"object\":\"list\",\"data\":[");
    for (index, text) in texts.iter().enumerate() {
        let vector = vector(text);
        let value = if is_base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            format!("\"{}\"", base64(&bytes))
        } else {
            let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
            format!("[{}]", numbers.join(","))
        };
        let comma = if index == 0 { "" } else { "," };
        write!(json, "{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{value}}}")
            .expect("a string takes everything");
    }
    let mut json = json.into_bytes();
    json.extend_from_slice(b"],\"model\":");
    quote(&request.model, &mut json);
    let words: u64 = texts.iter().map(|text| count(text)).sum();
    let usage = format!(",\"usage\":{{\"prompt_tokens\":{words},\"total_tokens\":{words}}}}}");
    json.extend_from_slice(usage.as_bytes());
    Ok(Answer::Whole(json.into()))
}

/// Makes a vector of length 1 that depends on the text alone.
fn vector(text: &str) -> Vec<f32> {
    let number = |seed| xxh3_64_with_seed(text.as_bytes(), seed) as f64 / u64::MAX as f64 - 0.5;
    let numbers: Vec<f64> = (0..DIMENSIONS).map(number).collect();
    let length = numbers.iter().map(|number| number * number).sum::<f64>().sqrt();
    numbers.iter().map(|number| (number / length) as f32).collect()
}

/// Source: RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            text.push(if place > group.len() { '=' } else { char::from(ALPHABET[index as usize]) });
        }
    }
    text
}

fn models() -> Bytes {
    let entries = MODELS.map(model_entry).join(",");
    format!("{{\"object\":\"list\",\"data\":[{entries}]}}").into()
}

fn model_entry(model: &str) -> String {
    format!("{{\"id\":\"{model}\",\"object\":\"model\",\"created\":0,\"owned_by\":\"witgate\"}}")
}

fn refusal(error: &Error) -> Reply {
    let answer = Answer::Whole(encode_error(error, ErrorCompat::default()));
    Reply { status: error.kind.status(), content_type: "application/json", answer }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn whole(path: &str, body: Value) -> Value {
        let reply = answer(path, body.to_string().as_bytes(), 7);
        let Answer::Whole(body) = reply.answer else { panic!("a stream") };
        serde_json::from_slice(&body).unwrap()
    }

    fn stream(path: &str, body: Value) -> Vec<Value> {
        let reply = answer(path, body.to_string().as_bytes(), 7);
        assert_eq!((reply.status, reply.content_type), (StatusCode::OK, "text/event-stream"));
        let Answer::Stream(events) = reply.answer else { panic!("not a stream") };
        let data = |event: &Bytes| event.strip_prefix(b"data: ").unwrap().to_vec();
        assert_eq!(data(events.last().unwrap()), b"[DONE]\n\n");
        events[..events.len() - 1].iter().map(|event| serde_json::from_slice(&data(event)).unwrap()).collect()
    }

    fn chat(model: &str, text: &str) -> Value {
        json!({ "model": model, "messages": [
            { "role": "system", "content": "be brief" }, { "role": "user", "content": "no" },
            { "role": "user", "content": text }, { "role": "assistant", "content": "hm" },
        ] })
    }

    #[test]
    fn the_last_user_text_comes_back() {
        let reply = whole("/v1/chat/completions", chat("echo", "hello  you\n"));
        assert_eq!(reply["choices"][0]["message"]["content"], "hello  you\n");
        assert_eq!(reply["choices"][0]["finish_reason"], "stop");
        assert_eq!((&reply["model"], &reply["created"]), (&json!("echo"), &json!(7)));
        assert_eq!(reply["usage"]["prompt_tokens"], 6);
        assert_eq!(reply["usage"]["completion_tokens"], 2);
        let reply = whole("/completions", json!({ "model": "echo", "prompt": ["a b", "c"] }));
        assert_eq!(
            (&reply["choices"][0]["text"], &reply["choices"][1]["text"]),
            (&json!("a b"), &json!("c"))
        );
        let reply = whole("/completions", json!({ "model": "echo", "prompt": [[1, 2], [3]] }));
        assert_eq!(reply["choices"][0]["text"], "1 2");
    }

    #[test]
    fn a_stream_says_it_word_by_word() {
        let mut body = chat("echo", " hello  you\nall");
        body["stream"] = json!(true);
        let events = stream("/chat/completions", body.clone());
        let deltas: Vec<&Value> =
            events.iter().map(|event| &event["choices"][0]["delta"]["content"]).collect();
        assert_eq!(deltas, [&json!(""), &json!(" hello  "), &json!("you\n"), &json!("all"), &Value::Null]);
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "stop");
        body["stream_options"] = json!({ "include_usage": true });
        let last = stream("/chat/completions", body).pop().unwrap();
        assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(3)));
        let events = stream("/completions", json!({ "model": "m", "prompt": "a b", "stream": true }));
        assert_eq!(events[1]["choices"][0]["text"], "b");
    }

    #[test]
    fn echo_think_wraps_the_first_half() {
        let text = |question: &str| {
            whole("/chat/completions", chat("echo-think", question))["choices"][0]["message"]["content"]
                .clone()
        };
        assert_eq!(text("a b c d"), "<think>a b </think>c d");
        assert_eq!(text("a"), "<think></think>a");
        assert_eq!(text(""), "<think></think>");
    }

    #[test]
    fn embeddings_are_unit_vectors_in_both_encodings() {
        let input = json!(["a b", "c"]);
        let reply = whole("/embeddings", json!({ "model": "echo", "input": input }));
        let numbers: Vec<f32> = serde_json::from_value(reply["data"][0]["embedding"].clone()).unwrap();
        assert_eq!(numbers.len(), 8);
        assert!((numbers.iter().map(|number| number * number).sum::<f32>() - 1.0).abs() < 1e-5);
        assert_ne!(reply["data"][0]["embedding"], reply["data"][1]["embedding"]);
        assert_eq!(reply["usage"]["total_tokens"], 3);
        let body = json!({ "model": "echo", "input": "a b", "encoding_format": "base64" });
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(whole("/embeddings", body)["data"][0]["embedding"], base64(&bytes));
        // Source: RFC 4648, section 10.
        assert_eq!(
            ["f", "fo", "foo", "foob"].map(|text| base64(text.as_bytes())),
            ["Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }

    #[track_caller]
    fn check_status(path: &str, body: &str, status: u16) {
        let reply = answer(path, body.as_bytes(), 7);
        assert_eq!((reply.status.as_u16(), reply.content_type), (status, "application/json"));
        let Answer::Whole(body) = reply.answer else { panic!("a stream") };
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"]["message"].is_string(), status != 200);
    }

    #[test]
    fn models_are_listed_and_the_rest_is_refused() {
        check_status("/models", "", 200);
        check_status("/v1/models/echo-think", "", 200);
        check_status("/models/other", "", 404);
        check_status("/images/generations", "{}", 404);
        check_status("/chat/completions", "{", 400);
        check_status("/chat/completions", r#"{"model":"m"}"#, 400);
        check_status("/embeddings", r#"{"model":"m","input":{}}"#, 400);
        assert_eq!(whole("/models", json!(null))["data"][0]["id"], "echo");
    }

    proptest! {
        #[test]
        fn words_lose_nothing(text in "[ \\na-c\u{e9}\u{3000}]{0,20}") {
            prop_assert_eq!(words(&text).collect::<String>(), text.clone());
            prop_assert_eq!(words(&text).filter(|word| !word.trim().is_empty()).count() as u64, count(&text));
            let (thinking, _) = think(&text);
            prop_assert_eq!(thinking.replace("<think>", "").replace("</think>", ""), text);
        }

        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..40)) {
            for path in ["/chat/completions", "/completions", "/embeddings"] {
                answer(path, &body, 7);
            }
        }
    }
}
