//! A request for an answer of a model's, in the hub's words.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::wire::Surface;

/// JSON text that rides along: checked, and kept as it was written.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// Takes over JSON text; none if it is not JSON.
    pub fn new(json: impl Into<String>) -> Option<Self> {
        RawValue::from_string(json.into()).ok().map(Self)
    }

    /// Writes a value as JSON.
    pub fn of(value: &impl Serialize) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("maps of these types have strings for keys"))
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Equal if the text is.
impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Raw {}

/// Members that the hub has no word for, in order, as they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra(pub Vec<(String, Raw)>);

/// A request for an answer of a model's.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    /// The surface it came by; what rides along is of it.
    pub surface: Surface,
    /// The model, by the name the client uses.
    pub model: String,
    /// The conversation, oldest first; instructions are messages of the roles for them.
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Which of the tools it is to call.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens that the answer may have.
    pub max_tokens: Option<u64>,
    /// Randomness, 0 to 2 by OpenAI's and Gemini's scale; Anthropic's ends at 1.
    pub temperature: Option<f64>,
    /// The share of probability that tokens are drawn from, 0 to 1.
    pub top_p: Option<f64>,
    /// How many tokens are drawn from.
    pub top_k: Option<u64>,
    /// Words that end the answer.
    pub stop: Vec<String>,
    /// What makes an answer repeatable.
    pub seed: Option<i64>,
    /// How many answers there are to be.
    pub n: Option<u64>,
    /// What makes tokens that were there less likely, -2 to 2.
    pub presence_penalty: Option<f64>,
    /// The same by how often they were there, -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// Whether the probabilities of the answer's tokens are wanted.
    pub logprobs: Option<bool>,
    /// Of how many alternatives to each token, too.
    pub top_logprobs: Option<u64>,
    /// Likelihoods of tokens by OpenAI's numbers for them.
    pub logit_bias: Option<Raw>,
    /// How much the model is to think.
    pub reasoning: Option<Reasoning>,
    /// What form the answer has to have.
    pub format: Option<Format>,
    /// How much is said: `low`, `medium` or `high`.
    pub verbosity: Option<String>,
    /// Whom the client asks for.
    pub user: Option<String>,
    /// The client's own labels, an object of strings.
    pub metadata: Option<Raw>,
    /// The class of service that is wanted.
    pub service_tier: Option<String>,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
    /// Whether a stream is to end with its usage.
    pub asks_usage: bool,
    /// Further members.
    pub extra: Extra,
}

impl ChatRequest {
    /// A request without anything in it but the model's name.
    pub fn new(surface: Surface, model: impl Into<String>) -> Self {
        Self {
            surface,
            model: model.into(),
            messages: Vec::new(),
            tools: Vec::new(),
            tool_choice: None,
            parallel_tool_calls: None,
            max_tokens: None,
            temperature: None,
            top_p: None,
            top_k: None,
            stop: Vec::new(),
            seed: None,
            n: None,
            presence_penalty: None,
            frequency_penalty: None,
            logprobs: None,
            top_logprobs: None,
            logit_bias: None,
            reasoning: None,
            format: None,
            verbosity: None,
            user: None,
            metadata: None,
            service_tier: None,
            is_stream: false,
            asks_usage: false,
            extra: Extra::default(),
        }
    }
}

/// Who speaks in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The operator's instructions.
    System,
    /// The same, in OpenAI's newer word for it.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// Results of tools, and nothing else: one message holds those that came together.
    Tool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order. Thinking comes before what it led to.
    pub parts: Vec<Part>,
    /// The name of who speaks, where there are several of a role.
    pub name: Option<String>,
    /// Further members.
    pub extra: Extra,
}

impl Message {
    /// A message of these parts.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, extra: Extra::default() }
    }
}

/// A part of a message or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is.
    pub content: Content,
    /// Whether the prompt up to here is to be cached.
    pub cache: Option<CacheControl>,
    /// Further members.
    pub extra: Extra,
}

impl Part {
    /// A part with nothing else to it.
    pub fn new(content: Content) -> Self {
        Self { content, cache: None, extra: Extra::default() }
    }

    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Content::Text { text: text.into(), citations: Vec::new() })
    }
}

/// What a part is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Text, and where it is from.
    Text { text: String, citations: Vec<Citation> },
    /// A picture; `detail` is OpenAI's word for how closely it is looked at.
    Image { source: Source, detail: Option<String> },
    /// Sound.
    Audio { source: Source },
    /// Any other document, for example a PDF; a video, too.
    File { source: Source, name: Option<String> },
    /// What the model thought. Empty text with a signature: the model does not tell, or the signature is of what follows.
    Thinking { text: String, signature: Option<Signature> },
    /// The same, readable only for the vendor.
    RedactedThinking(Signature),
    /// Why the model refuses.
    Refusal(String),
    /// A call of a tool; the arguments are JSON text, `{}` if there are none, never empty in a whole message.
    ToolCall { id: String, name: String, arguments: String, signature: Option<Signature> },
    /// The result of one; `id` is the call's, `name` the tool's where the surface says it.
    ToolResult { id: String, name: Option<String>, content: Vec<Part>, is_error: bool },
    /// Something that the hub has no word for, of the surface that the request or answer is of, as it stands in its list.
    Other(Raw),
}

/// Where the bytes of a part are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Somewhere in the network; `media_type` where the surface says it.
    Url { url: String, media_type: Option<String> },
    /// Here, in base64.
    Data { media_type: String, base64: String },
    /// Here, as plain text.
    Text(String),
    /// At the vendor of the request's surface, by the id of an upload.
    Id(String),
}

/// Something that only one vendor can read and check. A client that speaks another dialect holds it for that vendor, with the
/// vendor's name before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is.
    pub surface: Surface,
    /// It, as the vendor wrote it.
    pub value: String,
}

impl Signature {
    /// How a client of a surface is sent it: a vendor's own as it is, another's behind `SURFACE#`.
    pub fn written_for(&self, surface: Surface) -> std::borrow::Cow<'_, str> {
        if self.surface == surface {
            std::borrow::Cow::Borrowed(&self.value)
        } else {
            std::borrow::Cow::Owned(format!("{}#{}", self.surface.label(), self.value))
        }
    }

    /// The way back from [`written_for`](Self::written_for).
    pub fn read_from(surface: Surface, text: &str) -> Self {
        let foreign =
            text.split_once('#').and_then(|(label, value)| Some((Surface::labelled(label)?, value)));
        let (surface, value) = foreign.unwrap_or((surface, text));
        Self { surface, value: value.to_owned() }
    }
}

/// A mark that the prompt up to here is to be cached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheControl {
    /// For how long, in Anthropic's words: `5m` or `1h`; none means the vendor's default.
    pub ttl: Option<String>,
}

/// Where a piece of an answer's text is from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Citation {
    /// The page.
    pub url: Option<String>,
    /// Its title.
    pub title: Option<String>,
    /// The words there.
    pub quoted: Option<String>,
    /// The stretch of the part's text that it is about, in characters: start and end.
    pub range: Option<(u64, u64)>,
    /// As the upstream wrote it, and on which surface.
    pub original: Option<(Surface, Raw)>,
}

/// What a model may call.
#[derive(Clone, Debug, PartialEq)]
pub enum Tool {
    /// A function of the client's.
    Function(Function),
    /// A tool that the vendor of the request's surface runs, as it stands in the list; and its type or name.
    Other { kind: String, json: Raw },
}

/// A function of the client's.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub parameters: Option<Raw>,
    /// Whether the arguments have to follow the schema exactly.
    pub strict: Option<bool>,
    /// Whether the prompt up to here is to be cached.
    pub cache: Option<CacheControl>,
    /// Further members.
    pub extra: Extra,
}

/// Which tools a model is to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// None.
    None,
    /// At least one, whichever.
    Required,
    /// This one.
    Named(String),
    /// Of these only; at least one of them if it is required.
    Among { names: Vec<String>, is_required: bool },
}

/// How much a model is to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasoning {
    /// How much.
    pub level: Level,
    /// Whether the client wants to see it, where it says.
    pub is_shown: Option<bool>,
}

/// An amount of thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// None.
    Off,
    /// As much as the model finds right; Gemini's -1, Anthropic's `adaptive`.
    Dynamic,
    /// By a word.
    Effort(Effort),
    /// At most so many tokens.
    Budget(u64),
}

/// A word for an amount of thinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// As little as there is.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// More than that; OpenAI's `xhigh`, Anthropic's `max`.
    Max,
}

/// What form an answer has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Any text.
    Text,
    /// A JSON object.
    Json,
    /// JSON after a schema.
    Schema { name: Option<String>, description: Option<String>, schema: Raw, strict: Option<bool> },
}
