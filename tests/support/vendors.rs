//! Upstreams that are as strict as the vendors: they refuse what the vendor refuses, in the vendor's own words, and answer the
//! same stories in each vendor's grammar.
//!
//! What an upstream does is the last word of the model's name, behind a dot: `claude.plain`, `gem.error-429`. Stories are told
//! once, here; the modules of the vendors read requests into [`Asked`] and write a [`Story`] as an answer, whole or streamed.

mod chat;
mod gemini;
mod messages;
mod responses;
mod strict;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use crate::upstream::reply::{Reply, Step};
use crate::{Received, Upstream};

pub use self::strict::Refusal;

/// Whose API an upstream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Chat completions, Responses, embeddings.
    OpenAi,
    /// Messages, counts of tokens.
    Anthropic,
    /// generateContent, counts of tokens, embeddings.
    Gemini,
}

impl Vendor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OpenAi, Self::Anthropic, Self::Gemini];

    /// Its dialect in a configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }

    /// What the names of its models begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::OpenAi => "gpt.",
            Self::Anthropic => "claude.",
            Self::Gemini => "gem.",
        }
    }

    /// Starts an upstream of this vendor.
    pub fn upstream(self) -> Upstream {
        Upstream::new(move |request| self.answer(request))
    }

    /// What the vendor answers.
    pub fn answer(self, request: &Received) -> Reply {
        let path = request.target.split('?').next().unwrap_or_default().to_owned();
        let answered = match self {
            Self::OpenAi => match path.as_str() {
                "/v1/chat/completions" => chat::answer(request),
                "/v1/responses" => responses::answer(request),
                "/v1/embeddings" => chat::embeddings(request),
                "/v1/models" => chat::models(request),
                _ => Err(Refusal::not_found(&path)),
            },
            Self::Anthropic => match path.as_str() {
                "/v1/messages" => messages::answer(request),
                "/v1/messages/count_tokens" => messages::count(request),
                "/v1/models" => messages::models(request),
                _ => Err(Refusal::not_found(&path)),
            },
            Self::Gemini => gemini::answer(request, &path),
        };
        answered.unwrap_or_else(|refusal| self.error(&refusal))
    }

    /// An error as the vendor words it.
    pub fn error(self, refusal: &Refusal) -> Reply {
        match self {
            Self::OpenAi => chat::error(refusal),
            Self::Anthropic => messages::error(refusal),
            Self::Gemini => gemini::error(refusal),
        }
    }
}

/// What a request asks for, whatever its vendor.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
    /// Whether a stream is to end with its usage, which only OpenAI is asked for.
    pub asks_usage: bool,
    /// The instructions, in order.
    pub system: Vec<String>,
    /// The conversation; neighbours of one role are one turn, and results of tools are the user's.
    pub turns: Vec<Turn>,
    /// The tools: `name`, `description`, `parameters`.
    pub tools: Vec<Value>,
    /// The schema that the answer has to keep to.
    pub schema: Option<Value>,
    /// Whether hidden thinking has to be given back, which not every vendor has.
    pub hides_thinking: bool,
    /// Whether any JSON will do.
    pub is_json: bool,
    /// Everything else that was said, in common words.
    pub settings: Map<String, Value>,
}

/// A turn of a conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Whether the model speaks.
    pub is_model: bool,
    /// What is said.
    pub parts: Vec<Part>,
}

/// A part of a turn, or of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A picture, sound or document with its bytes in base64.
    Data { media_type: String, base64: String },
    /// The same somewhere else.
    Link(String),
    /// Thinking, and its proof.
    Thinking { text: String, signature: Option<String> },
    /// Thinking that cannot be read.
    Redacted(String),
    /// A call of a tool.
    Call { id: Option<String>, name: String, arguments: Value, signature: Option<String> },
    /// What came of one.
    Outcome { id: Option<String>, name: Option<String>, content: Vec<Self>, is_error: bool },
}

impl Asked {
    /// Adds a part of somebody's.
    pub(crate) fn say(&mut self, is_model: bool, part: Part) {
        match self.turns.last_mut().filter(|turn| turn.is_model == is_model) {
            Some(turn) => turn.parts.push(part),
            None => self.turns.push(Turn { is_model, parts: vec![part] }),
        }
    }

    /// Notes a setting.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.settings.insert(name.to_owned(), value.into());
    }

    /// All of it as JSON, without what only one vendor has: ids and signatures.
    pub fn described(&self) -> Value {
        let turns: Vec<Value> = self
            .turns
            .iter()
            .map(|turn| {
                let parts: Vec<Value> = turn.parts.iter().map(Part::described).collect();
                json!({"role": if turn.is_model { "model" } else { "user" }, "parts": parts})
            })
            .collect();
        let mut all = self.settings.clone();
        all.insert("system".to_owned(), json!(self.system));
        all.insert("turns".to_owned(), json!(turns));
        if !self.tools.is_empty() {
            all.insert("tools".to_owned(), json!(self.tools));
        }
        if let Some(schema) = &self.schema {
            all.insert("schema".to_owned(), schema.clone());
        }
        if self.is_json {
            all.insert("json".to_owned(), json!(true));
        }
        Value::Object(all)
    }

    /// The tool that has to be called.
    fn forced(&self) -> Option<&str> {
        let choice = self.settings.get("tool_choice")?.as_str()?;
        match choice.strip_prefix("named:") {
            Some(name) => Some(name),
            None => self.tools.first().filter(|_| choice == "required")?["name"].as_str(),
        }
    }

    /// The calls that the last turn brings the outcomes of, each with its own.
    fn outcomes(&self) -> Vec<(&str, &Value, String)> {
        let [.., calls, outcomes] = &self.turns[..] else { return Vec::new() };
        let mut left: Vec<&Part> =
            outcomes.parts.iter().filter(|part| matches!(part, Part::Outcome { .. })).collect();
        let mut found = Vec::new();
        for part in &calls.parts {
            let Part::Call { id, name, arguments, .. } = part else { continue };
            let is_its = |part: &&Part| match part {
                Part::Outcome { id: Some(of), .. } if id.is_some() => Some(of) == id.as_ref(),
                Part::Outcome { name: Some(of), .. } => of == name,
                _ => false,
            };
            if let Some(place) = left.iter().position(is_its) {
                found.push((name.as_str(), arguments, left.remove(place).words()));
            }
        }
        found
    }
}

impl Part {
    /// Its text; of an outcome the texts of its parts.
    fn words(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Outcome { content, .. } => content.iter().map(Self::words).collect(),
            _ => String::new(),
        }
    }

    fn described(&self) -> Value {
        match self {
            Self::Text(text) => json!({"text": text}),
            Self::Data { media_type, base64 } => json!({"data": base64, "type": media_type}),
            Self::Link(url) => json!({"link": url}),
            Self::Thinking { text, .. } => json!({"thinking": text}),
            Self::Redacted(_) => json!({"redacted": true}),
            Self::Call { name, arguments, .. } => json!({"call": name, "arguments": arguments}),
            Self::Outcome { content, is_error, .. } => {
                let mut outcome = json!({"outcome": value_of(&self.words())});
                let media: Vec<Value> = content
                    .iter()
                    .filter(|part| !matches!(part, Self::Text(_)))
                    .map(Self::described)
                    .collect();
                if !media.is_empty() {
                    outcome["media"] = json!(media);
                }
                if *is_error {
                    outcome["is_error"] = json!(true);
                }
                outcome
            }
        }
    }
}

/// What a tool said: the JSON of its text, without the wrapping that Gemini's objects need.
fn value_of(text: &str) -> Value {
    let value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    // Vercel's client says the tool's name beside it.
    let is_wrapping =
        |name: &String| matches!(name.as_str(), "result" | "output" | "content" | "error" | "name");
    let wrapped = value.as_object().filter(|object| object.keys().all(is_wrapping));
    let inner = wrapped.and_then(|object| {
        ["result", "output", "content", "error"].iter().find_map(|name| object.get(*name))
    });
    inner.cloned().unwrap_or(value)
}

/// What an upstream answers, whatever its vendor.
#[derive(Clone, Debug)]
pub struct Story {
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// Why it ends.
    pub stop: Stop,
    /// The most that can go wrong once it has begun.
    pub fault: Option<Fault>,
}

/// Why an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    Done,
    /// A limit was reached.
    Length,
    /// A word that was asked for came.
    Word(String),
    /// Tools are called.
    Calls,
    /// The vendor's filter stepped in.
    Refused,
}

/// What goes wrong in the middle of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The vendor says that it failed.
    Told,
    /// The connection breaks.
    Cut,
}

/// Tokens of a prompt, those from a cache included.
pub const INPUT: u64 = 11;
/// Those from a cache.
pub const CACHED: u64 = 3;
/// Tokens of an answer, thinking included.
pub const OUTPUT: u64 = 9;
/// Those of thinking.
pub const REASONING: u64 = 4;
/// What a count of tokens always comes to.
pub const COUNTED: u64 = 42;
/// What proves Anthropic's thinking.
pub const ANTHROPIC_SIGNATURE: &str = "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk=";
/// What Anthropic's hidden thinking looks like.
pub const ANTHROPIC_REDACTED: &str = "EmwKAhgBEgy3va3pzix/LafPsn4aDFIT2Xlxh0L5L8rLVyIwxtE3rAFBa8cr3qpP";
/// What proves Google's thinking.
pub const GEMINI_SIGNATURE: &str = "CiQBcsjafEZ1bmN0aW9uIGNhbGxzIG5lZWQgdGhlaXIgcHJvb2Y=";
/// What OpenAI's hidden thinking looks like.
pub const OPENAI_ENCRYPTED: &str = "gAAAAABopenaiReasoningItemEncryptedContent==";

impl Story {
    fn of(parts: Vec<Part>) -> Self {
        let calls = parts.iter().any(|part| matches!(part, Part::Call { .. }));
        Self { parts, stop: if calls { Stop::Calls } else { Stop::Done }, fault: None }
    }

    fn text(text: impl Into<String>) -> Self {
        Self::of(vec![Part::Text(text.into())])
    }

    fn stopped(self, stop: Stop) -> Self {
        Self { stop, ..self }
    }

    /// What an upstream tells who asks this.
    ///
    /// # Errors
    /// The error that the model's name asks for.
    pub(crate) fn told(asked: &Asked) -> Result<Self, Refusal> {
        let name = asked.model.rsplit('.').next().unwrap_or_default();
        if let Some(status) = name.strip_prefix("error-") {
            let status = status.parse().map_err(|_| Refusal::new("model", "no such model"))?;
            return Err(Refusal { status, path: None, message: "as you wish".to_owned() });
        }
        Ok(match name {
            "plain" | "alias" => Self::text("Hello, wörld 🌍"),
            "think" => Self::of(vec![thinking("Let me think."), Part::Text("Done.".to_owned())]),
            "redacted" => {
                let is_redacted = |part: &Part| matches!(part, Part::Redacted(_));
                let is_kept = asked.turns.iter().any(|turn| turn.parts.iter().any(is_redacted));
                let is_lost = asked.hides_thinking && asked.turns.len() > 1 && !is_kept;
                let text = if is_lost { "Lost." } else { "Done." };
                Self::of(vec![Part::Redacted(String::new()), Part::Text(text.to_owned())])
            }
            "length" => Self::text("Hello, w").stopped(Stop::Length),
            "word" => {
                let word = asked.settings.get("stop").and_then(|stop| stop[0].as_str()).unwrap_or_default();
                Self::text("Before ").stopped(Stop::Word(word.to_owned()))
            }
            "refused" => Self::text("I cannot").stopped(Stop::Refused),
            "broken" => Self { fault: Some(Fault::Told), ..Self::text("half of it, then") },
            "cut" => Self { fault: Some(Fault::Cut), ..Self::text("half of it, then") },
            "describe" => match asked.forced() {
                Some(tool) => Self::of(vec![call(1, tool, asked.described(), false)]),
                None => Self::text(asked.described().to_string()),
            },
            "think-strip" => Self::text("<think>hidden plan</think> The answer"),
            "secret" => Self::text("write to bob@example.org today"),
            "schema" => Self::schema(asked)?,
            "tools" | "think-tools" => Self::tools(asked, name == "think-tools")?,
            _ => {
                return Err(Refusal {
                    status: 404,
                    ..Refusal::new("model", &format!("no model `{}`", asked.model))
                });
            }
        })
    }

    /// What keeps to a schema. Some clients have a tool called with the answer instead.
    fn schema(asked: &Asked) -> Result<Self, Refusal> {
        let answer = json!({"city": "Paris", "degrees": 20});
        if asked.schema.is_some() {
            return Ok(Self::text(answer.to_string()));
        }
        match asked.forced() {
            Some(name) => Ok(Self::of(vec![call(1, name, answer, false)])),
            None => Err(Refusal::new("schema", "the request says no schema")),
        }
    }

    /// Two calls at once, and then what came of them.
    fn tools(asked: &Asked, is_thinking: bool) -> Result<Self, Refusal> {
        let outcomes = asked.outcomes();
        let is_known = |part: &Part| matches!(part, Part::Outcome { .. });
        if outcomes.is_empty() && asked.turns.iter().any(|turn| turn.parts.iter().any(is_known)) {
            return Ok(Self::text("You are welcome."));
        }
        if outcomes.is_empty() {
            if !asked.tools.iter().any(|tool| tool["name"] == "weather") {
                return Err(Refusal::new("tools", "the request has no tool `weather`"));
            }
            let calls = [
                Part::Text("I will look.".to_owned()),
                call(1, "weather", json!({"city": "Paris", "days": 2}), is_thinking),
                call(2, "weather", json!({"city": "Málaga \"S\" \\ é", "days": 1}), false),
            ];
            let thoughts = is_thinking.then(|| thinking("Two cities."));
            return Ok(Self::of(thoughts.into_iter().chain(calls).collect()));
        }
        let told: Vec<String> = outcomes
            .iter()
            .map(|(_, arguments, outcome)| {
                format!("{}: {}", arguments["city"].as_str().unwrap_or("?"), value_of(outcome))
            })
            .collect();
        Ok(Self::text(told.join(", ")))
    }

    /// The texts of a part as a stream cuts them.
    pub(crate) fn pieces(text: &str) -> Vec<String> {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(5).map(|piece| piece.iter().collect()).collect()
    }

    /// How many tokens of the answer were thinking.
    pub(crate) fn reasoning(&self) -> u64 {
        let thinks = self.parts.iter().any(|part| matches!(part, Part::Thinking { .. } | Part::Redacted(_)));
        if thinks { REASONING } else { 0 }
    }
}

fn thinking(text: &str) -> Part {
    Part::Thinking { text: text.to_owned(), signature: None }
}

/// A call; the vendor puts its own signature where it has one there.
fn call(number: u32, name: &str, arguments: Value, is_signed: bool) -> Part {
    Part::Call {
        id: Some(number.to_string()),
        name: name.to_owned(),
        arguments,
        signature: is_signed.then(String::new),
    }
}

/// Ends a stream as a story has it: whole, or told, or cut.
fn end(reply: Reply, fault: Option<Fault>, told: impl FnOnce(Reply) -> Reply) -> Reply {
    match fault {
        None => reply,
        Some(Fault::Told) => told(reply),
        Some(Fault::Cut) => reply.step(Step::Cut),
    }
}
