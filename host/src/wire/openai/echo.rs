//! Chats and completions between OpenAI's dialect and the hub: requests read whole, answers written.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::chat::{StopReason, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::json::quote;
use crate::wire::sse;

/// A chat request as the gateway understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatRequest {
    /// The model's name.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
    /// Whether the stream is to end with its usage.
    pub asks_usage: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// All of its text; what is not text (images, audio) is left out.
    pub text: String,
}

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator's instructions; OpenAI's `system` and `developer`.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A role this vocabulary has no word for.
    Other,
}

/// A step of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer begins.
    Start,
    /// A piece of the answer's text.
    Text(String),
    /// A piece of the thinking.
    Reasoning(String),
    /// The answer is at its end, and why.
    Finish(StopReason),
    /// What it cost; comes after the finish.
    Usage(Usage),
}

/// Reads a chat request.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] when the body is not JSON or a field it needs is missing or of another type.
pub fn decode_chat(body: &[u8]) -> Result<ChatRequest> {
    let chat: Chat = decode(body)?;
    Ok(ChatRequest {
        model: chat.model,
        messages: chat.messages.into_iter().map(Turn::into_message).collect(),
        is_stream: chat.stream.unwrap_or(false),
        asks_usage: chat.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
    })
}

/// Reads any request whole, as the type that holds what is asked of it.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] when the body is not JSON or does not fit the type.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    // The reader works in place.
    simd_json::serde::from_slice(&mut body.to_vec())
        .map_err(|error| Error::new(ErrorKind::InvalidRequest, error.to_string()))
}

#[derive(Deserialize)]
struct Chat {
    model: String,
    messages: Vec<Turn>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

/// The options of a stream.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct StreamOptions {
    /// Whether the stream is to end with its usage.
    pub include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
}

impl Turn {
    fn into_message(self) -> Message {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" | "function" => Role::Tool,
            _ => Role::Other,
        };
        let text = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts.into_iter().filter_map(|part| part.text).collect(),
        };
        Message { role, text }
    }
}

/// Writes one answer, whole or event by event.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// The answer's `id`.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// When the answer was made, in seconds since 1970.
    pub created_unix_s: u64,
    /// [`Endpoint::Completions`], or else the chat API.
    pub endpoint: Endpoint,
}

impl Encoder {
    /// Writes a step of the choice with this index. The completions API has no word for the start of an answer.
    pub fn event(&self, index: usize, event: &Event) -> Option<Bytes> {
        let is_chat = self.endpoint != Endpoint::Completions;
        let mut data = self.head(if is_chat { "chat.completion.chunk" } else { "text_completion" });
        let delta = match event {
            Event::Usage(usage) => {
                data.extend_from_slice(b"[]");
                write_usage(&mut data, *usage);
                data.push(b'}');
                return Some(sse::encode(None, &data));
            }
            Event::Start if is_chat => br#"{"role":"assistant","content":""}"#.to_vec(),
            Event::Start => return None,
            Event::Text(text) if is_chat => object("content", text),
            Event::Reasoning(text) if is_chat => object("reasoning_content", text),
            Event::Text(text) | Event::Reasoning(text) => quoted(text),
            Event::Finish(_) if is_chat => b"{}".to_vec(),
            Event::Finish(_) => b"\"\"".to_vec(),
        };
        let reason = match event {
            Event::Finish(reason) => Some(*reason),
            _ => None,
        };
        data.push(b'[');
        self.choice(&mut data, index, if is_chat { "delta" } else { "text" }, &delta, reason);
        data.extend_from_slice(b"]}");
        Some(sse::encode(None, &data))
    }

    /// Writes what ends a stream.
    pub fn done(&self) -> Bytes {
        Bytes::from_static(b"data: [DONE]\n\n")
    }

    /// Writes a whole answer with one choice for each text.
    pub fn reply(&self, texts: &[String], reason: StopReason, usage: Usage) -> Bytes {
        let is_chat = self.endpoint != Endpoint::Completions;
        let mut body = self.head(if is_chat { "chat.completion" } else { "text_completion" });
        for (index, text) in texts.iter().enumerate() {
            body.push(if index == 0 { b'[' } else { b',' });
            let (name, value) = if is_chat {
                let message = [&br#"{"role":"assistant","content":"#[..], &quoted(text), b"}"].concat();
                ("message", message)
            } else {
                ("text", quoted(text))
            };
            self.choice(&mut body, index, name, &value, Some(reason));
        }
        body.push(b']');
        write_usage(&mut body, usage);
        body.push(b'}');
        body.into()
    }

    /// Writes everything before the value of `choices`.
    fn head(&self, object: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(b"{\"id\":");
        quote(&self.id, &mut bytes);
        let created = self.created_unix_s;
        bytes.extend_from_slice(
            format!(",\"object\":\"{object}\",\"created\":{created},\"model\":").as_bytes(),
        );
        quote(&self.model, &mut bytes);
        bytes.extend_from_slice(b",\"choices\":");
        bytes
    }

    fn choice(
        &self,
        bytes: &mut Vec<u8>,
        index: usize,
        name: &str,
        value: &[u8],
        reason: Option<StopReason>,
    ) {
        bytes.extend_from_slice(format!("{{\"index\":{index},\"{name}\":").as_bytes());
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":");
        match reason {
            Some(reason) => quote(reason.openai_name(), bytes),
            None => bytes.extend_from_slice(b"null"),
        }
        bytes.push(b'}');
    }
}

fn object(name: &str, text: &str) -> Vec<u8> {
    [format!("{{\"{name}\":").as_bytes(), &quoted(text), b"}"].concat()
}

fn quoted(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    quote(text, &mut bytes);
    bytes
}

fn write_usage(bytes: &mut Vec<u8>, usage: Usage) {
    bytes.extend_from_slice(b",\"usage\":");
    bytes.extend_from_slice(usage_json(Endpoint::ChatCompletions, usage).as_bytes());
}

/// Writes tokens in the words of the endpoint's answers.
pub(super) fn usage_json(endpoint: Endpoint, usage: Usage) -> String {
    let (prompt, completion) = match endpoint {
        Endpoint::Responses => ("input", "output"),
        _ => ("prompt", "completion"),
    };
    let Usage { input, output, cached, reasoning, is_estimated, .. } = usage;
    let total = usage.total();
    let estimated = if is_estimated { ",\"estimated\":true" } else { "" };
    format!(
        "{{\"{prompt}_tokens\":{input},\"{completion}_tokens\":{output},\"total_tokens\":{total},\
         \"{prompt}_tokens_details\":{{\"cached_tokens\":{cached}}},\
         \"{completion}_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}{estimated}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::openai::view::View;

    fn encoder(endpoint: Endpoint) -> Encoder {
        Encoder { id: "i\"d".into(), model: "m".into(), created_unix_s: 7, endpoint }
    }

    #[test]
    fn the_text_of_every_kind_of_content_is_read() {
        let chat = decode_chat(
            br#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[
                {"role":"developer","content":"s"},{"role":"assistant","content":null},{"role":"new"},
                {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{}},{"text":"b"}]}]}"#,
        )
        .unwrap();
        let roles: Vec<Role> = chat.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::Assistant, Role::Other, Role::User]);
        assert_eq!(chat.messages[3].text, "ab");
        assert!(chat.is_stream && chat.asks_usage);
        assert_eq!(decode_chat(b"{}").unwrap_err().kind, ErrorKind::InvalidRequest);
    }

    #[track_caller]
    fn check_event(endpoint: Endpoint, event: Event, expected: &str) {
        let bytes = encoder(endpoint).event(0, &event).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains(expected), "{text}");
        let data = text.strip_prefix("data: ").unwrap().trim_end();
        serde_json::from_str::<serde_json::Value>(data).unwrap();
    }

    #[test]
    fn events_are_written_in_openais_words() {
        use Endpoint::{ChatCompletions, Completions};
        check_event(ChatCompletions, Event::Start, r#""delta":{"role":"assistant","content":""},"#);
        check_event(ChatCompletions, Event::Text("a\n".into()), r#""delta":{"content":"a\n"},"#);
        check_event(ChatCompletions, Event::Reasoning("a".into()), r#""delta":{"reasoning_content":"a"},"#);
        check_event(ChatCompletions, Event::Finish(StopReason::Length), r#""finish_reason":"length""#);
        check_event(Completions, Event::Text("a".into()), r#""index":0,"text":"a","#);
        check_event(Completions, Event::Usage(Usage::default()), r#""choices":[],"usage":{"#);
        assert_eq!(encoder(Completions).event(0, &Event::Start), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let usage =
            Usage { input: 1, output: 2, cached: 3, reasoning: 4, is_estimated: false, ..Usage::default() };
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
            let body = encoder(endpoint).reply(&["a\"".into(), "b".into()], StopReason::ToolCalls, usage);
            let view = View::of(&body).unwrap();
            assert_eq!((view.usage, view.choices.len()), (Some(usage), 2));
            assert_eq!(view.choices[1].finish_reason, Some(StopReason::ToolCalls));
        }
    }
}
