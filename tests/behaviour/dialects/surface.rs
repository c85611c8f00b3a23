//! How a client of each surface asks, and what it reads, from the bytes and without an SDK.

use serde_json::{Value, json};
use witgate_tests::{Answer, Request, sse};

/// A grammar that clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Surface {
    Chat,
    Responses,
    Messages,
    Gemini,
}

/// What a client reads of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) model: String,
    /// Input and output.
    pub(crate) tokens: (u64, u64),
    /// Why it ended, in the surface's own word.
    pub(crate) stop: String,
}

impl Surface {
    pub(crate) const ALL: [Self; 4] = [Self::Chat, Self::Responses, Self::Messages, Self::Gemini];

    /// Where it is asked.
    pub(crate) fn path(self, model: &str, is_stream: bool) -> String {
        match (self, is_stream) {
            (Self::Chat, _) => "/v1/chat/completions".to_owned(),
            (Self::Responses, _) => "/v1/responses".to_owned(),
            (Self::Messages, _) => "/v1/messages".to_owned(),
            (Self::Gemini, false) => format!("/v1beta/models/{model}:generateContent"),
            (Self::Gemini, true) => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        }
    }

    /// A request with this text of a user's.
    pub(crate) fn ask(self, model: &str, text: &str, is_stream: bool) -> Request {
        let message = json!([{"role": "user", "content": text}]);
        let mut body = match self {
            Self::Chat => json!({"model": model, "messages": message}),
            Self::Responses => json!({"model": model, "input": text}),
            Self::Messages => json!({"model": model, "max_tokens": 100, "messages": message}),
            Self::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
        };
        if is_stream && self != Self::Gemini {
            body["stream"] = json!(true);
        }
        if is_stream && self == Self::Chat {
            body["stream_options"] = json!({"include_usage": true});
        }
        self.post(model, &body, is_stream)
    }

    /// A request with this body.
    pub(crate) fn post(self, model: &str, body: &Value, is_stream: bool) -> Request {
        Request::post(&self.path(model, is_stream), body.to_string())
    }

    /// What a client of this surface reads.
    #[track_caller]
    pub(crate) fn read(self, answer: &Answer, is_stream: bool) -> Read {
        if !is_stream {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
            return self.whole(&answer.json());
        }
        let kind = answer.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        match self {
            Self::Chat => chat(answer),
            Self::Responses => responses(answer),
            Self::Messages => messages(answer),
            Self::Gemini => gemini(answer),
        }
    }

    fn whole(self, answer: &Value) -> Read {
        let model = if self == Self::Gemini { &answer["modelVersion"] } else { &answer["model"] };
        let (usage, input, output) = match self {
            Self::Chat => (&answer["usage"], "prompt_tokens", "completion_tokens"),
            Self::Gemini => (&answer["usageMetadata"], "promptTokenCount", "candidatesTokenCount"),
            _ => (&answer["usage"], "input_tokens", "output_tokens"),
        };
        let number = |name: &str| usage[name].as_u64().unwrap_or_default();
        let tokens = match self {
            Self::Messages => (number(input) + number("cache_read_input_tokens"), number(output)),
            Self::Gemini => (number(input), number(output) + number("thoughtsTokenCount")),
            _ => (number(input), number(output)),
        };
        let (text, thinking, stop) = match self {
            Self::Chat => {
                let choice = &answer["choices"][0];
                let message = &choice["message"];
                (
                    word(&message["content"]),
                    word(&message["reasoning_content"]),
                    word(&choice["finish_reason"]),
                )
            }
            Self::Responses => {
                let parts = |kind: &str, list: &str| {
                    joined(&answer["output"], |item| {
                        if item["type"] == kind {
                            joined(&item[list], |part| word(&part["text"]))
                        } else {
                            String::new()
                        }
                    })
                };
                (parts("message", "content"), parts("reasoning", "summary"), word(&answer["status"]))
            }
            Self::Messages => {
                let of = |kind: &str| {
                    joined(&answer["content"], |block| {
                        if block["type"] == kind { word(&block[kind]) } else { String::new() }
                    })
                };
                (of("text"), of("thinking"), word(&answer["stop_reason"]))
            }
            Self::Gemini => {
                let candidate = &answer["candidates"][0];
                let of = |is_thought: bool| {
                    joined(&candidate["content"]["parts"], |part| {
                        if (part["thought"] == true) == is_thought {
                            word(&part["text"])
                        } else {
                            String::new()
                        }
                    })
                };
                (of(false), of(true), word(&candidate["finishReason"]))
            }
        };
        Read { text, thinking, model: word(model), tokens, stop }
    }

    /// The message of an error, which has to be in the surface's own shape.
    #[track_caller]
    pub(crate) fn error(self, answer: &Answer) -> String {
        let (body, status) = (answer.json(), answer.status());
        let error = &body["error"];
        match self {
            Self::Chat | Self::Responses => {
                for name in ["message", "type", "param", "code"] {
                    assert!(error.get(name).is_some(), "no `{name}` in {body}");
                }
            }
            Self::Messages => {
                let kind = match status {
                    400 | 422 => "invalid_request_error",
                    401 => "authentication_error",
                    403 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    504 => "timeout_error",
                    503 | 529 => "overloaded_error",
                    _ => "api_error",
                };
                assert_eq!((&body["type"], &error["type"]), (&json!("error"), &json!(kind)), "{body}");
            }
            Self::Gemini => {
                let word = match status {
                    400 | 422 => "INVALID_ARGUMENT",
                    401 => "UNAUTHENTICATED",
                    403 => "PERMISSION_DENIED",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    500 => "INTERNAL",
                    504 => "DEADLINE_EXCEEDED",
                    _ => "UNAVAILABLE",
                };
                assert_eq!((&error["code"], &error["status"]), (&json!(status), &json!(word)), "{body}");
            }
        }
        word(&error["message"])
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn joined(list: &Value, of: impl Fn(&Value) -> String) -> String {
    list.as_array().into_iter().flatten().map(of).collect()
}

fn parsed(data: &str) -> Value {
    serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
}

#[track_caller]
fn chat(answer: &Answer) -> Read {
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    let mut whole = json!({"choices": [{"message": {}}]});
    let (mut text, mut thinking) = (String::new(), String::new());
    for data in &events[..events.len() - 1] {
        let chunk = parsed(data);
        assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
        whole["model"] = chunk["model"].clone();
        if chunk["usage"].is_object() {
            whole["usage"] = chunk["usage"].clone();
        }
        let choice = &chunk["choices"][0];
        text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        thinking.push_str(choice["delta"]["reasoning_content"].as_str().unwrap_or_default());
        if choice["finish_reason"].is_string() {
            whole["choices"][0]["finish_reason"] = choice["finish_reason"].clone();
        }
    }
    whole["choices"][0]["message"] = json!({"content": text, "reasoning_content": thinking});
    Surface::Chat.whole(&whole)
}

#[track_caller]
fn responses(answer: &Answer) -> Read {
    let events = sse::events(&answer.body);
    let mut deltas = String::new();
    let mut before = None;
    for event in &events {
        let data = parsed(&event.data);
        // What a plugin has taken out leaves a gap.
        let number = data["sequence_number"].as_u64();
        assert!(number.is_some() && number > before, "{data} after {before:?}");
        before = number;
        assert_eq!(event.name.as_deref(), data["type"].as_str());
        if data["type"] == "response.output_text.delta" {
            deltas.push_str(data["delta"].as_str().unwrap_or_default());
        }
    }
    let first = parsed(&events.first().expect("it has events").data);
    assert_eq!(first["type"], "response.created");
    let last = parsed(&events.last().expect("it has events").data);
    let read = Surface::Responses.whole(&last["response"]);
    assert_eq!(read.text, deltas);
    read
}

/// Reads the events strictly: their order and nesting are part of the grammar.
#[track_caller]
fn messages(answer: &Answer) -> Read {
    let mut whole = Value::Null;
    let mut blocks: Vec<Value> = Vec::new();
    let (mut open, mut is_over, mut has_delta) = (None, false, false);
    for event in sse::events(&answer.body) {
        let data = parsed(&event.data);
        assert_eq!(event.name.as_deref(), data["type"].as_str());
        assert!(!is_over, "an event after the end: {data}");
        let kind = word(&data["type"]);
        assert_eq!(whole.is_null(), kind == "message_start", "{data}");
        match kind.as_str() {
            "message_start" => whole = data["message"].clone(),
            "ping" => {}
            "content_block_start" => {
                assert_eq!((open, &data["index"]), (None, &json!(blocks.len())), "{data}");
                assert!(!has_delta, "a block after the message's delta");
                open = Some(blocks.len());
                blocks.push(data["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(json!(open), data["index"], "{data}");
                let block = blocks.last_mut().expect("it has begun");
                for name in ["text", "thinking"] {
                    if let Some(piece) = data["delta"][name].as_str() {
                        block[name] = json!(word(&block[name]) + piece);
                    }
                }
            }
            "content_block_stop" => {
                assert_eq!(json!(open.take()), data["index"], "{data}");
            }
            "message_delta" => {
                assert_eq!((open, has_delta), (None, false), "{data}");
                has_delta = true;
                whole["stop_reason"] = data["delta"]["stop_reason"].clone();
                for (name, value) in data["usage"].as_object().into_iter().flatten() {
                    whole["usage"][name] = value.clone();
                }
            }
            "message_stop" => {
                assert!(has_delta, "no message_delta before the end");
                is_over = true;
            }
            _ => panic!("an event of an unknown kind: {data}"),
        }
    }
    assert!(is_over, "the stream has no end");
    whole["content"] = json!(blocks);
    Surface::Messages.whole(&whole)
}

#[track_caller]
fn gemini(answer: &Answer) -> Read {
    let chunks: Vec<Value> = answer.events().iter().map(|data| parsed(data)).collect();
    let mut whole = chunks.last().expect("it has chunks").clone();
    assert!(whole["candidates"][0]["finishReason"].is_string(), "no reason to end in {whole}");
    let parts = chunks
        .iter()
        .flat_map(|chunk| chunk["candidates"][0]["content"]["parts"].as_array().cloned().unwrap_or_default());
    whole["candidates"][0]["content"] = json!({"parts": parts.collect::<Vec<_>>()});
    Surface::Gemini.whole(&whole)
}
