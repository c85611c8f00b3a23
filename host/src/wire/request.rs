//! A JSON request: read in one pass, edited by splicing.

mod clean;
mod edit;
mod foreign;
mod path;
mod reader;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use crate::chat::Prompt;
use crate::error::{Error, Result};
use crate::wire::document::Document;
use crate::wire::json::{Kind, Scanner, Span};
use crate::wire::{Dialect, Endpoint, MODEL_BYTES_MAX};
use path::PREFIX;
use reader::Reader;

pub use edit::Edits;
pub use path::InPath;
pub(in crate::wire) use reader::kind_name;

/// How much of a completion's prompt tells conversations apart, in bytes.
const COMPLETION_ANCHOR_BYTES: usize = 2048;

/// A checked JSON request: its bytes, what routing needs to know of it, and where edits go.
#[derive(Clone, Debug)]
pub struct Request {
    endpoint: Endpoint,
    body: Bytes,
    model: String,
    is_stream: bool,
    asks_usage: bool,
    /// Every top-level member, in order, repeated ones too.
    members: Vec<Member>,
    /// The texts of instructions that stand apart from the conversation.
    instructions: Vec<Span>,
    /// The texts that may identify the conversation, in order.
    pieces: Vec<Piece>,
    in_path: Option<InPath>,
}

#[derive(Clone, Debug)]
struct Member {
    name: Span,
    kind: Kind,
    value: Range<usize>,
    /// The value, if it is a string that nothing here has a use for yet.
    text: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    speaker: Speaker,
    /// Which message it is of.
    message: usize,
    text: Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    /// A user message without any text, an image for example; the piece is its content as JSON.
    UserMedia,
    Other,
}

/// Reads and checks the body of a request to `endpoint`; Google's have a part of it in their path. Without a path, their
/// model is the body's `model`, and they are no streams.
///
/// # Errors
///
/// `InvalidRequest`: not JSON (the message has line and column), or a field is missing or of a wrong type (`param`
/// names it).
pub fn decode(endpoint: Endpoint, body: Bytes, in_path: Option<InPath>) -> Result<Request> {
    let mut reader = Reader::new(endpoint);
    reader.document(&body)?;
    let is_in_path = endpoint.dialect() == Dialect::Gemini;
    let from_member = || reader.model.as_deref().map(InPath::of_member);
    let in_path = if is_in_path { in_path.or_else(from_member) } else { None };
    let Some(model) = in_path.as_ref().map(|path| path.model.clone()).or(reader.model) else {
        return Err(Error::invalid("model", "`model` is missing, name the model to use"));
    };
    let request = Request {
        endpoint,
        model,
        is_stream: in_path.as_ref().map_or(reader.is_stream, |path| path.is_stream),
        // The streams of the others always tell it.
        asks_usage: reader.asks_usage || endpoint.dialect() != Dialect::OpenAi,
        members: reader.members,
        instructions: reader.instructions,
        pieces: reader.pieces,
        in_path,
        body,
    };
    request.check_required()?;
    Ok(request)
}

impl Request {
    /// The model by the name the client uses.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The JSON document, as it came.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether the answer is to be streamed.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// What the path of the request said; only Google's endpoints have it.
    pub fn in_path(&self) -> Option<&InPath> {
        self.in_path.as_ref()
    }

    /// Reads another body in place of this request's, with the same endpoint and path.
    ///
    /// Where the model is in the path, a `model` that this request's body does not have names another one, as it would for
    /// every other endpoint.
    ///
    /// # Errors
    ///
    /// As [`decode`].
    pub fn again(&self, body: Bytes) -> Result<Self> {
        let made = decode(self.endpoint, body, self.in_path.clone())?;
        let Some(path) = &self.in_path else { return Ok(made) };
        let old = self.model_in_body();
        let Some(renamed) = made.model_in_body().filter(|model| Some(model) != old.as_ref()) else {
            return Ok(made);
        };
        let InPath { model, .. } = InPath::of_member(&renamed);
        let body = made.encode(&Edits { model: Some(&model), ..Edits::default() }).concat();
        let mut document = Document::trusted(body.into());
        // The upstream is told by the path; the body repeats it only if it did, and in the same way.
        let edited = match old {
            None => document.remove("/model").map(drop),
            Some(old) => {
                let prefix = if old.starts_with(PREFIX) { PREFIX } else { "" };
                document.set("/model", &serde_json::Value::from(format!("{prefix}{model}")).to_string())
            }
        };
        edited.map_err(|message| Error::invalid("model", message))?;
        decode(self.endpoint, document.into_bytes(), Some(InPath { model, ..path.clone() }))
    }

    /// The model that a body of Google's repeats.
    fn model_in_body(&self) -> Option<String> {
        let member = self.last("model")?;
        let model = Scanner::new(&self.body[member.value.clone()]).string().ok()?.decode().into_owned();
        Some(model).filter(|model| !model.is_empty() && model.len() <= MODEL_BYTES_MAX)
    }

    /// Whether the client wants the usage of a stream: `stream_options.include_usage` is true, or it is of a dialect whose
    /// streams always tell.
    pub fn asks_usage(&self) -> bool {
        self.asks_usage
    }

    /// The most tokens that the answer may have, if the request bounds it: what it says for each choice, for all of them.
    pub fn output_max(&self) -> Option<u64> {
        const CAPS: [&str; 4] =
            ["max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens"];
        const CHOICES: [&str; 4] = ["n", "best_of", "candidateCount", "candidate_count"];
        let members = self.bounding_members();
        let number = |name: &&str| number(&self.body[self.last_of(&members, name)?.value.clone()]);
        let each: u64 = CAPS.iter().find_map(number)?;
        let choices: u64 = CHOICES.iter().filter_map(number).max().unwrap_or(1);
        Some(each.saturating_mul(choices.max(1)))
    }

    /// Returns what identifies the conversation; `with_users` also decodes the user messages.
    pub fn prompt(&self, with_users: bool) -> Prompt<'_> {
        let mut prefix = Vec::new();
        match self.endpoint {
            Endpoint::ChatCompletions => {
                self.push_values(&["tools", "functions"], &mut prefix);
                self.push_opening(&mut prefix);
            }
            Endpoint::Responses => {
                self.push_values(&["tools", "instructions"], &mut prefix);
                self.push_opening(&mut prefix);
            }
            Endpoint::Completions => prefix.extend(self.completion_anchor()),
            Endpoint::Messages
            | Endpoint::CountMessageTokens
            | Endpoint::GenerateContent
            | Endpoint::CountContentTokens => {
                self.push_values(&["tools"], &mut prefix);
                prefix.extend(self.instructions.iter().map(|text| text.canonical(&self.body)));
                self.push_opening(&mut prefix);
                self.push_values(GENERATE_CONTENT_REQUEST, &mut prefix);
            }
            Endpoint::EmbedContent => self.push_values(&["content"], &mut prefix),
            Endpoint::BatchEmbedContents => self.push_values(&["requests"], &mut prefix),
            _ => self.push_values(INPUT_NAMES, &mut prefix),
        }
        let users = if with_users { self.users() } else { Vec::new() };
        Prompt { prefix, users }
    }

    fn check_required(&self) -> Result<()> {
        for alternatives in required(self.endpoint) {
            let is_there = |name: &&&str| self.last(name).is_some_and(|member| member.kind != Kind::Null);
            let Some(name) = alternatives.iter().find(is_there) else {
                let field = alternatives[0];
                return Err(Error::invalid(field, format!("`{field}` is missing")));
            };
            let kind = self.last(name).map(|member| member.kind);
            if let Some(kind @ (Kind::Number | Kind::True | Kind::False)) = kind {
                let message = format!("`{name}` must be a string or an array, not {}", kind_name(kind));
                return Err(Error::invalid(*name, message));
            }
        }
        Ok(())
    }

    /// The member that counts when a name is repeated: the last, as in every reader of JSON.
    fn last(&self, name: &str) -> Option<&Member> {
        self.last_of(&self.members, name)
    }

    fn last_of<'a>(&self, members: &'a [Member], name: &str) -> Option<&'a Member> {
        members.iter().rfind(|member| member.name.is(&self.body, name))
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Member> {
        self.members.iter().filter(move |member| member.name.is(&self.body, name))
    }

    /// The members among which those that bound the answer are, in order; in Google's requests they have an object of their
    /// own, and should there be several, their members are taken together.
    fn bounding_members(&self) -> Cow<'_, [Member]> {
        if self.endpoint.dialect() != Dialect::Gemini {
            return Cow::Borrowed(&self.members);
        }
        let configs = self.objects(GENERATION_CONFIG);
        Cow::Owned(configs.flat_map(|config| self.members_of(&config.value)).collect())
    }

    /// The top-level members of these names that are objects.
    fn objects(&self, names: &'static [&'static str]) -> impl DoubleEndedIterator<Item = &Member> {
        let is_named = move |member: &Member| names.iter().any(|name| member.name.is(&self.body, name));
        self.members.iter().filter(move |member| member.kind == Kind::Object && is_named(member))
    }

    /// The members of the value at `range`, in order, repeated ones too; none if it is no object.
    fn members_of(&self, range: &Range<usize>) -> Vec<Member> {
        let mut members = Vec::new();
        let mut scanner = Scanner::new(&self.body[range.clone()]);
        let scanned = scanner.members(|scanner, name| {
            let kind = scanner.peek()?;
            let value = scanner.skip()?;
            let value = range.start + value.start..range.start + value.end;
            members.push(Member { name: name.span().shifted(range.start), kind, value, text: None });
            Ok(())
        });
        debug_assert!(scanned.is_ok(), "it has been read before");
        members
    }

    /// Appends the values of some members: strings in canonical form, others as they are written.
    fn push_values<'a>(&'a self, names: &[&str], prefix: &mut Vec<Cow<'a, [u8]>>) {
        for name in names {
            if let Some(member) = self.last(name).filter(|member| member.kind != Kind::Null) {
                prefix.push(match member.text {
                    Some(text) => text.canonical(&self.body),
                    None => Cow::Borrowed(&self.body[member.value.clone()]),
                });
            }
        }
    }

    /// Appends how the conversation begins: the system texts up to the first user message, and this.
    fn push_opening<'a>(&'a self, prefix: &mut Vec<Cow<'a, [u8]>>) {
        let is_user = |piece: &&Piece| matches!(piece.speaker, Speaker::User | Speaker::UserMedia);
        let first_user = self.pieces.iter().find(is_user).map(|piece| piece.message);
        let opening = self.pieces.iter().filter(|piece| match first_user {
            Some(message) if piece.speaker == Speaker::System => piece.message < message,
            Some(message) => piece.message == message,
            None => true,
        });
        prefix.extend(opening.map(|piece| piece.text.canonical(&self.body)));
    }

    /// The beginning of a completion's prompt, or of the first of several.
    fn completion_anchor(&self) -> Option<Cow<'_, [u8]>> {
        let member = self.last("prompt")?;
        let mut anchor = match member.text {
            Some(text) => text.canonical(&self.body),
            None => first_prompt(&self.body[member.value.clone()]),
        };
        match &mut anchor {
            Cow::Borrowed(bytes) => *bytes = &bytes[..bytes.len().min(COMPLETION_ANCHOR_BYTES)],
            Cow::Owned(bytes) => bytes.truncate(COMPLETION_ANCHOR_BYTES),
        }
        Some(anchor)
    }

    /// The text of each user message; that of several parts is joined.
    fn users(&self) -> Vec<Cow<'_, str>> {
        let mut users: Vec<Cow<'_, str>> = Vec::new();
        let mut current = None;
        for piece in self.pieces.iter().filter(|piece| piece.speaker == Speaker::User) {
            let text = piece.text.decode(&self.body);
            match users.last_mut() {
                Some(last) if current == Some(piece.message) => last.to_mut().push_str(&text),
                _ => users.push(text),
            }
            current = Some(piece.message);
        }
        users
    }
}

/// The members whose values are the whole input of an endpoint without a conversation.
const INPUT_NAMES: &[&str] = &[
    "instructions",
    "input",
    "prompt",
    "messages",
    "query",
    "queries",
    "documents",
    "items",
    "text_1",
    "text_2",
];

/// Where Google's requests have the bounds of the answer; as JSON of protocol buffers, in two spellings.
const GENERATION_CONFIG: &[&str] = &["generationConfig", "generation_config"];

/// What Google's countTokens may have in place of a conversation: a whole request.
const GENERATE_CONTENT_REQUEST: &[&str] = &["generateContentRequest", "generate_content_request"];

/// The members a request must have; of those in one group, any.
///
/// Source: OpenAI, API reference, request bodies; vLLM, OpenAI-compatible server, for rerank, score, classify, and
/// for `messages` in place of `input`; Anthropic, API reference, Messages, where `max_tokens` is left to the upstream;
/// Google, Gemini API reference, models; seen 2026-11.
fn required(endpoint: Endpoint) -> &'static [&'static [&'static str]] {
    match endpoint {
        Endpoint::ChatCompletions => &[&["messages"]],
        Endpoint::Completions => &[&["prompt", "prompt_embeds"]],
        Endpoint::Embeddings | Endpoint::Classify => &[&["input", "messages"]],
        Endpoint::Responses => &[&["input", "prompt"]],
        Endpoint::AudioSpeech | Endpoint::Moderations => &[&["input"]],
        Endpoint::ImagesGenerations => &[&["prompt"]],
        Endpoint::Rerank => &[&["query"], &["documents"]],
        Endpoint::Score => &[&["text_1", "queries"], &["text_2", "documents", "items"]],
        Endpoint::Messages | Endpoint::CountMessageTokens => &[&["messages"]],
        Endpoint::GenerateContent => &[&["contents"]],
        Endpoint::CountContentTokens => {
            &[&["contents", "generateContentRequest", "generate_content_request"]]
        }
        Endpoint::EmbedContent => &[&["content"]],
        Endpoint::BatchEmbedContents => &[&["requests"]],
        Endpoint::AudioTranscriptions
        | Endpoint::AudioTranslations
        | Endpoint::ImagesEdits
        | Endpoint::ImagesVariations
        | Endpoint::Models
        | Endpoint::Model => &[],
    }
}

/// The first prompt of an array of texts or token lists; a list of tokens is one prompt.
fn first_prompt(value: &[u8]) -> Cow<'_, [u8]> {
    let mut scanner = Scanner::new(&value[1..]);
    match scanner.peek() {
        Ok(Kind::String) => scanner.string().map_or(Cow::Borrowed(value), |text| text.canonical()),
        Ok(Kind::Array) => {
            scanner.skip().map_or(Cow::Borrowed(value), |range| Cow::Borrowed(&value[1..][range]))
        }
        _ => Cow::Borrowed(value),
    }
}

/// Reads a number, which JSON of protocol buffers may have in quotes; what has a fraction or an exponent is taken as its
/// whole part.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    // Quoted words that are no numbers, and literals, do not begin like one; `nan` would be one to `f64`.
    let digits = text.trim_matches('"');
    if !digits.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().or_else(|| digits.parse().ok().map(|number: f64| number as u64))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    pub(super) fn read(endpoint: Endpoint, body: &str) -> Request {
        decode(endpoint, Bytes::copy_from_slice(body.as_bytes()), None).unwrap()
    }

    #[track_caller]
    fn check_refused(endpoint: Endpoint, body: &str, param: Option<&str>, message: &str) {
        let error = decode(endpoint, Bytes::copy_from_slice(body.as_bytes()), None).unwrap_err();
        assert_eq!((error.param.as_deref(), &*error.message), (param, message), "{body}");
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
    }

    /// Refuses a chat that is right but for `members`.
    #[track_caller]
    fn check_chat(members: &str, param: &str, message: &str) {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user"}}],{members}}}"#);
        check_refused(Endpoint::ChatCompletions, &body, Some(param), message);
    }

    #[test]
    fn a_bad_body_is_refused_with_its_position() {
        let check = |body, message| check_refused(Endpoint::ChatCompletions, body, None, message);
        check("", "body is empty, send a JSON object");
        check(" \n", "body is empty, send a JSON object");
        check("[]", "body must be a JSON object, not an array");
        check("5", "body must be a JSON object, not a number");
        check("\"text\"", "body must be a JSON object, not a string");
        check("hello", "malformed JSON at line 1, column 1: expected a value");
        check(
            "{\n  \"model\": \"m\",\n}",
            "malformed JSON at line 3, column 1: expected a name in double quotes",
        );
        check("{\"model\":5,", "malformed JSON at line 1, column 12: unexpected end of the document");
        check(
            "{\"model\":\"m\"} x",
            "malformed JSON at line 1, column 15: unexpected text after the end of the document",
        );
        check("\u{feff}{}", "body begins with a byte order mark, send UTF-8 without one");
    }

    #[test]
    fn a_missing_or_mistyped_field_is_refused_by_name() {
        use Endpoint::*;
        let missing_model = "`model` is missing, name the model to use";
        check_refused(ChatCompletions, "{}", Some("model"), missing_model);
        check_refused(Embeddings, r#"{"input":"x"}"#, Some("model"), missing_model);
        check_refused(Embeddings, r#"{"model":5}"#, Some("model"), "`model` must be a string, not a number");
        check_refused(Embeddings, r#"{"model":null}"#, Some("model"), "`model` must be a string, not null");
        check_refused(
            Embeddings,
            r#"{"model":""}"#,
            Some("model"),
            "`model` is empty, name the model to use",
        );
        let named = |len| format!(r#"{{"model":"{}","input":""}}"#, "m".repeat(len));
        assert_eq!(read(Embeddings, &named(MODEL_BYTES_MAX)).model().len(), MODEL_BYTES_MAX);
        check_refused(
            Embeddings,
            &named(MODEL_BYTES_MAX + 1),
            Some("model"),
            "`model` is longer than 1024 bytes, name the model to use",
        );
        for (endpoint, body, field) in [
            (ChatCompletions, r#"{"model":"m"}"#, "messages"),
            (ChatCompletions, r#"{"model":"m","messages":null}"#, "messages"),
            (Completions, r#"{"model":"m"}"#, "prompt"),
            (Embeddings, r#"{"model":"m","input":null}"#, "input"),
            (Responses, r#"{"model":"m"}"#, "input"),
            (AudioSpeech, r#"{"model":"m"}"#, "input"),
            (Moderations, r#"{"model":"m"}"#, "input"),
            (ImagesGenerations, r#"{"model":"m"}"#, "prompt"),
            (Rerank, r#"{"model":"m","documents":[]}"#, "query"),
            (Rerank, r#"{"model":"m","query":""}"#, "documents"),
            (Score, r#"{"model":"m","text_2":""}"#, "text_1"),
            (Score, r#"{"model":"m","text_1":""}"#, "text_2"),
            (Classify, r#"{"model":"m"}"#, "input"),
        ] {
            check_refused(endpoint, body, Some(field), &format!("`{field}` is missing"));
        }
        let message = "`prompt` must be a string or an array, not a number";
        check_refused(Completions, r#"{"model":"m","prompt":5}"#, Some("prompt"), message);
        let message = "`messages` must be an array, not a string";
        check_refused(ChatCompletions, r#"{"model":"m","messages":"x"}"#, Some("messages"), message);
        let message = "`messages` is empty, send at least one message";
        check_refused(ChatCompletions, r#"{"model":"m","messages":[]}"#, Some("messages"), message);
        check_chat(
            r#""messages":[{"role":"user"},5]"#,
            "messages[1]",
            "`messages[1]` must be an object, not a number",
        );
        check_chat(r#""messages":[{"role":"a"},{}]"#, "messages[1].role", "`messages[1].role` is missing");
        check_chat(
            r#""messages":[{"content":"a","role":null}]"#,
            "messages[0].role",
            "`messages[0].role` must be a string, not null",
        );
        check_chat(r#""stream":"true""#, "stream", "`stream` must be a boolean, not a string");
        check_chat(r#""max_tokens":"5""#, "max_tokens", "`max_tokens` must be a number, not a string");
        check_chat(
            r#""max_completion_tokens":[]"#,
            "max_completion_tokens",
            "`max_completion_tokens` must be a number, not an array",
        );
        check_chat(r#""stop":5"#, "stop", "`stop` must be a string or an array of strings, not a number");
        check_chat(
            r#""stop":["a",null]"#,
            "stop",
            "`stop` must be a string or an array of strings, not null",
        );
    }

    #[test]
    fn unusual_but_usable_requests_are_read() {
        use Endpoint::*;
        read(
            ChatCompletions,
            r#"{"model":"m","messages":[{"role":"critic"}],"stream":null,"max_tokens":null,"stop":null}"#,
        );
        read(Completions, r#"{"model":"m","prompt":[1,2,3]}"#);
        read(Responses, r#"{"model":"m","prompt":{"id":"p"}}"#);
        read(Responses, r#"{"model":"m","input":[{"type":"function_call_output"}],"stop":5}"#);
        read(Embeddings, r#"{"model":"m","messages":[]}"#);
        assert_eq!(read(Moderations, r#"{"model":"a","input":"","mod\u0065l":"b\u00e9"}"#).model(), "bé");
    }

    #[test]
    fn stream_and_usage_are_known() {
        let flags = |members: &str| {
            let request = read(Endpoint::Completions, &format!(r#"{{"model":"m","prompt":""{members}}}"#));
            (request.is_stream(), request.asks_usage())
        };
        assert_eq!(flags(""), (false, false));
        assert_eq!(flags(r#","stream":true"#), (true, false));
        assert_eq!(flags(r#","stream":true,"stream":false"#), (false, false));
        assert_eq!(flags(r#","stream":true,"stream_options":{"include_usage":true}"#), (true, true));
        assert_eq!(flags(r#","stream":true,"stream_options":{"include_usage":false}"#), (true, false));
        assert_eq!(flags(r#","stream":true,"stream_options":null"#), (true, false));
    }

    #[track_caller]
    fn check_prompt(endpoint: Endpoint, members: &str, prefix: &[&str], users: &[&str]) {
        let request = read(endpoint, &format!(r#"{{"model":"m",{members}}}"#));
        let prompt = request.prompt(true);
        let texts: Vec<_> = prompt.prefix.iter().map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        assert_eq!(texts, prefix);
        assert_eq!(prompt.users, users);
        assert_eq!(request.prompt(false), Prompt { users: Vec::new(), ..prompt.clone() });
    }

    #[test]
    fn a_conversation_is_known_by_how_it_begins() {
        use Endpoint::*;
        check_prompt(
            ChatCompletions,
            r#""messages":[{"content":"caf\u00e9","role":"system"},{"role":"developer","content":"d"},
                {"role":"assistant","content":"hi"},{"role":"user","content":[{"type":"text","text":"a\n"},
                {"type":"image_url","image_url":{"url":"x"}},{"type":"text","text":"b"}]},
                {"role":"system","content":"late"},{"role":"user","content":"c"}],"tools":[{"type": "function"}]"#,
            &[r#"[{"type": "function"}]"#, "café", "d", r"a\n", "b"],
            &["a\nb", "c"],
        );
        check_prompt(
            ChatCompletions,
            r#""messages":[{"role":"user","content":[{"type":"image_url"}]},{"role":"user","content":"c"}]"#,
            &[r#"[{"type":"image_url"}]"#],
            &["c"],
        );
        check_prompt(ChatCompletions, r#""messages":[{"role":"system","content":"s"}]"#, &["s"], &[]);
        check_prompt(Responses, r#""instructions":"i","input":"u""#, &["i", "u"], &["u"]);
        check_prompt(
            Responses,
            r#""input":[{"type":"reasoning"},{"role":"user","content":[{"type":"input_text","text":"u"}]}]"#,
            &["u"],
            &["u"],
        );
    }

    #[test]
    fn a_conversation_of_anthropics_is_known_by_how_it_begins() {
        use Endpoint::*;
        for endpoint in [Messages, CountMessageTokens] {
            check_prompt(
                endpoint,
                r#""messages":[{"role":"user","content":"u"},{"role":"assistant","content":"a"}],"system":"caf\u00e9","tools":[1]"#,
                &["[1]", "café", "u"],
                &["u"],
            );
        }
        check_prompt(
            Messages,
            r#""system":[{"type":"text","text":"s"},{"text":"t","cache_control":{}}],"messages":[{"role":"system","content":"m"},
                {"role":"user","content":[{"type":"image","source":{"text":"no"}},{"type":"text","text":"u"},{"type":"text","text":"v"}]}]"#,
            &["s", "t", "m", "u", "v"],
            &["uv"],
        );
    }

    #[test]
    fn results_of_tools_are_not_the_users_words() {
        use Endpoint::*;
        let result = r#"{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":"no"}]}"#;
        check_prompt(
            Messages,
            &format!(
                r#""messages":[{{"role":"user","content":"a"}},{{"role":"user","content":[{result}]}},
                    {{"role":"user","content":[{result},{{"type":"text","text":"b"}}]}}]"#
            ),
            &["a"],
            &["a", "b"],
        );
        check_prompt(
            Messages,
            &format!(
                r#""messages":[{{"role":"user","content":[{result}]}},{{"role":"user","content":[{{"type":"image"}}]}}]"#
            ),
            &[r#"[{"type":"image"}]"#],
            &[],
        );
        check_prompt(
            GenerateContent,
            r#""contents":[{"role":"user","parts":[{"functionResponse":{"response":{"text":"no"}}}]},{"parts":[{"text":"b"}]}]"#,
            &["b"],
            &["b"],
        );
    }

    #[test]
    fn a_conversation_of_googles_is_known_by_how_it_begins() {
        use Endpoint::*;
        check_prompt(
            GenerateContent,
            r#""contents":[{"parts":[{"text":"u"},{"inlineData":{}},{"text":"v"}]},{"role":"model","parts":[{"text":"m"}]},
                {"role":"user","parts":{"text":"w"}},"x"],"tools":[{}],"systemInstruction":{"role":"user","parts":[{"text":"s"},{"text":"t"}]}"#,
            &["[{}]", "s", "t", "u", "v"],
            &["uv", "w", "x"],
        );
        check_prompt(GenerateContent, r#""system_instruction":"s","contents":"u""#, &["s", "u"], &["u"]);
        check_prompt(
            GenerateContent,
            r#""systemInstruction":{"parts":{"text":"s"}},"contents":{"role":null,"parts":[{"file_data":1}]}"#,
            &["s", r#"[{"file_data":1}]"#],
            &[],
        );
        check_prompt(CountContentTokens, r#""contents":[{"parts":[{"text":"u"}]}]"#, &["u"], &["u"]);
        check_prompt(CountContentTokens, r#""generateContentRequest":{"a":1}"#, &[r#"{"a":1}"#], &[]);
        check_prompt(EmbedContent, r#""content":{"parts":[]}"#, &[r#"{"parts":[]}"#], &[]);
        check_prompt(BatchEmbedContents, r#""requests":[{}]"#, &["[{}]"], &[]);
    }

    #[test]
    fn an_input_is_known_as_a_whole() {
        use Endpoint::*;
        check_prompt(Embeddings, r#""input":["a", "b"]"#, &[r#"["a", "b"]"#], &[]);
        check_prompt(Embeddings, r#""input":"caf\u00e9""#, &["café"], &[]);
        check_prompt(Rerank, r#""documents":[1],"query":"q""#, &["q", "[1]"], &[]);
        check_prompt(Score, r#""text_1":"a","text_2":"b""#, &["a", "b"], &[]);
        check_prompt(ImagesGenerations, r#""prompt":"p""#, &["p"], &[]);
        check_prompt(Completions, r#""prompt":"p""#, &["p"], &[]);
        check_prompt(Completions, r#""prompt":["p\/","q"]"#, &["p/"], &[]);
        check_prompt(Completions, r#""prompt":[1,2]"#, &["[1,2]"], &[]);
        check_prompt(Completions, r#""prompt":[[1,2],[3]]"#, &["[1,2]"], &[]);
        check_prompt(Completions, r#""prompt":[]"#, &["[]"], &[]);
        let long = "x".repeat(5000);
        check_prompt(Completions, &format!(r#""prompt":"{long}""#), &[&long[..2048]], &[]);
    }

    /// Refuses a request that is right but for `members`.
    #[track_caller]
    fn check_members(endpoint: Endpoint, members: &str, param: &str, message: &str) {
        check_refused(endpoint, &format!(r#"{{"model":"m",{members}}}"#), Some(param), message);
    }

    #[test]
    fn a_wrong_field_of_anthropics_is_refused_by_name() {
        use Endpoint::*;
        let check = |members: &str, param: &str, message: &str| {
            let members = format!(r#""messages":[{{"role":"user","content":""}}],{members}"#);
            check_members(Messages, &members, param, message);
        };
        check_members(Messages, r#""max_tokens":1"#, "messages", "`messages` is missing");
        check_members(CountMessageTokens, r#""system":"""#, "messages", "`messages` is missing");
        let message = "`messages` is empty, send at least one message";
        check_members(Messages, r#""messages":[]"#, "messages", message);
        let message = "`messages[0].role` is missing";
        check_members(Messages, r#""messages":[{"content":""}]"#, "messages[0].role", message);
        check(r#""system":5"#, "system", "`system` must be a string or an array, not a number");
        check(r#""system":{}"#, "system", "`system` must be a string or an array, not an object");
        check(r#""max_tokens":"5""#, "max_tokens", "`max_tokens` must be a number, not a string");
        check(r#""stream":1"#, "stream", "`stream` must be a boolean, not a number");
        check(
            r#""stop_sequences":[1]"#,
            "stop_sequences",
            "`stop_sequences` must be a string or an array of strings, not a number",
        );
        check_refused(
            Messages,
            r#"{"messages":[{"role":"user"}]}"#,
            Some("model"),
            "`model` is missing, name the model to use",
        );
    }

    #[test]
    fn a_wrong_field_of_googles_is_refused_by_name() {
        use Endpoint::*;
        let check = |members: &str, param: &str, message: &str| {
            let members = format!(r#""contents":[{{}}],{members}"#);
            check_members(GenerateContent, &members, param, message);
        };
        check_members(GenerateContent, r#""contents":null"#, "contents", "`contents` is missing");
        check_members(CountContentTokens, r#""tools":[]"#, "contents", "`contents` is missing");
        check_members(EmbedContent, r#""contents":[]"#, "content", "`content` is missing");
        check_members(BatchEmbedContents, r#""content":{}"#, "requests", "`requests` is missing");
        let message = "`contents` must be an array, not a number";
        check_members(GenerateContent, r#""contents":5"#, "contents", message);
        let message = "`contents` is empty, send at least one content";
        check_members(GenerateContent, r#""contents":[]"#, "contents", message);
        let message = "`contents[1]` must be an object, not null";
        check_members(GenerateContent, r#""contents":[{},null]"#, "contents[1]", message);
        let message = "`contents[0].role` must be a string, not a number";
        check_members(GenerateContent, r#""contents":[{"role":5}]"#, "contents[0].role", message);
        let message = "`content` must be an object, not an array";
        check_members(EmbedContent, r#""content":[]"#, "content", message);
        let message = "`requests` must be an array, not an object";
        check_members(BatchEmbedContents, r#""requests":{}"#, "requests", message);
        check(
            r#""system_instruction":5"#,
            "system_instruction",
            "`system_instruction` must be an object, not a number",
        );
        check(
            r#""generationConfig":[]"#,
            "generationConfig",
            "`generationConfig` must be an object, not an array",
        );
        check(
            r#""generation_config":{"max_output_tokens":"many"}"#,
            "generation_config.max_output_tokens",
            "`generation_config.max_output_tokens` must be a number, not a string",
        );
        check(
            r#""generationConfig":{"maxOutputTokens":{}}"#,
            "generationConfig.maxOutputTokens",
            "`generationConfig.maxOutputTokens` must be a number, not an object",
        );
        check(
            r#""generationConfig":{"stopSequences":[1]}"#,
            "generationConfig.stopSequences",
            "`generationConfig.stopSequences` must be a string or an array of strings, not a number",
        );
    }

    #[test]
    fn the_path_of_googles_requests_tells_model_and_stream() {
        let path = InPath { model: "p".into(), is_stream: true, is_array: false };
        let body = r#"{"contents":[{}],"model":"models/b","stream":5,"tools":[]}"#;
        let read = |endpoint, body: &'static str| decode(endpoint, body.into(), Some(path.clone())).unwrap();
        let request = read(Endpoint::GenerateContent, body);
        assert_eq!((request.model(), request.is_stream(), request.asks_usage()), ("p", true, true));
        assert_eq!(request.in_path(), Some(&path));
        let again = request.again(r#"{"contents":"a"}"#.into()).unwrap();
        assert_eq!((again.model(), again.is_stream(), again.in_path()), ("p", true, Some(&path)));
        assert!(request.again("{}".into()).is_err());

        let without = decode(Endpoint::GenerateContent, body.into(), None).unwrap();
        assert_eq!((without.model(), without.is_stream()), ("b", false));
        check_refused(
            Endpoint::GenerateContent,
            r#"{"contents":[{}],"model":5}"#,
            Some("model"),
            "`model` is missing, name the model to use",
        );

        let chat = read(Endpoint::ChatCompletions, r#"{"model":"m","messages":[{"role":"user"}]}"#);
        assert_eq!((chat.model(), chat.is_stream(), chat.in_path()), ("m", false, None));
    }

    #[test]
    fn an_edited_body_may_name_another_model_for_the_path() {
        let check =
            |endpoint: Endpoint, body: &'static str, edited: &'static str, model: &str, expected: &str| {
                let path = InPath { model: "m".into(), is_stream: true, is_array: false };
                let again = decode(endpoint, body.into(), Some(path)).unwrap().again(edited.into()).unwrap();
                assert_eq!((again.model(), &again.body()[..]), (model, expected.as_bytes()));
                assert!(again.is_stream() && again.in_path().unwrap().model == model);
            };
        let body = r#"{"contents":"a"}"#;
        check(Endpoint::GenerateContent, body, r#"{"model":"x","contents":"b"}"#, "x", r#"{"contents":"b"}"#);
        check(
            Endpoint::GenerateContent,
            body,
            r#"{"contents":"b","model":"models/m"}"#,
            "m",
            r#"{"contents":"b"}"#,
        );
        check(Endpoint::GenerateContent, body, r#"{"contents":"b"}"#, "m", r#"{"contents":"b"}"#);
        let body = r#"{"model":"models/m","content":{}}"#;
        check(Endpoint::EmbedContent, body, body, "m", body);
        let expected = r#"{"model":"models/x","content":{}}"#;
        check(Endpoint::EmbedContent, body, r#"{"model":"x","content":{}}"#, "x", expected);
        check(
            Endpoint::BatchEmbedContents,
            r#"{"requests":[]}"#,
            r#"{"requests":[{"model":"models/m"}],"model":"x"}"#,
            "x",
            r#"{"requests":[{"model":"models/x"}]}"#,
        );
    }

    #[test]
    fn streams_of_anthropics_always_tell_usage() {
        let request = read(
            Endpoint::Messages,
            r#"{"model":"m","messages":[{"role":"user"}],"stream":true,"stream_options":{"include_usage":false}}"#,
        );
        assert!(request.is_stream() && request.asks_usage());
    }

    // parity: 90
    #[track_caller]
    fn check_output_max(members: &str, expected: Option<u64>) {
        let body = format!(r#"{{"model":"m","prompt":"p"{members}}}"#);
        assert_eq!(read(Endpoint::Completions, &body).output_max(), expected, "{members}");
    }

    #[test]
    fn an_answer_in_another_dialect_is_as_long_as_the_request_allows() {
        let messages = r#"{"model":"m","messages":[{"role":"user"}],"max_tokens":7}"#;
        assert_eq!(read(Endpoint::Messages, messages).output_max(), Some(7));
        let check = |members: &str, expected: Option<u64>| {
            let body = format!(r#"{{"model":"m","contents":[{{}}],"maxOutputTokens":3{members}}}"#);
            assert_eq!(read(Endpoint::GenerateContent, &body).output_max(), expected, "{members}");
        };
        check("", None);
        check(r#","generationConfig":null"#, None);
        check(r#","generationConfig":{"maxOutputTokens":7}"#, Some(7));
        check(r#","generation_config":{"max_output_tokens":"7","candidate_count":2}"#, Some(14));
        check(
            r#","generationConfig":{"maxOutputTokens":7},"generationConfig":{"candidateCount":3}"#,
            Some(21),
        );
        check(r#","generationConfig":{"maxOutputTokens":7,"candidateCount":"nan"}"#, Some(7));
    }

    #[test]
    fn an_answer_is_as_long_as_the_request_allows() {
        check_output_max("", None);
        check_output_max(r#","max_tokens":7"#, Some(7));
        check_output_max(r#","max_tokens":7,"max_completion_tokens":5"#, Some(5));
        check_output_max(r#","max_output_tokens":9,"max_tokens":null"#, Some(9));
        check_output_max(r#","max_tokens":7,"n":3"#, Some(21));
        check_output_max(r#","max_tokens":7,"n":2,"best_of":4"#, Some(28));
        check_output_max(r#","max_tokens":7,"n":0"#, Some(7));
        check_output_max(r#","max_tokens":7.9"#, Some(7));
        check_output_max(r#","max_tokens":-7"#, Some(0));
        check_output_max(r#","max_tokens":99999999999999999999,"n":2"#, Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(decode(Endpoint::ChatCompletions, bytes.into(), None).is_err());
        }
    }
}
