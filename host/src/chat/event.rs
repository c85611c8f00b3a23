//! The steps of a streamed answer, in the hub's words.

use http::StatusCode;

use crate::chat::{Citation, Raw, Signature, StopReason, TokenLogprob, Usage};
use crate::error::Error;

/// A step of a streamed answer. `choice` is the number of the answer among those asked for, from 0.
///
/// A reader of a dialect gives `Start` once and first, `Finish` once for each choice that began, and `End` once and last.
/// A part is a stretch of steps of one kind in one choice; where two of the same kind follow each other, `PartEnd` stands
/// between them. Whoever writes a dialect must bear any order of steps all the same.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The answer begins; members as those of [`Reply`](crate::chat::Reply). Some upstreams know here what the prompt cost.
    Start { id: String, model: String, created_unix_s: Option<u64>, usage: Option<Usage> },
    /// A piece of the answer's text.
    Text { choice: u32, text: String },
    /// A piece of the thinking.
    Thinking { choice: u32, text: String },
    /// What proves the thinking that came before it; ends that part.
    Signature { choice: u32, signature: Signature },
    /// Thinking that only the vendor can read; a part of its own.
    RedactedThinking { choice: u32, data: Signature },
    /// A piece of why the model refuses.
    Refusal { choice: u32, text: String },
    /// A call of a tool begins. `index` counts the calls of the choice from 0, without gaps.
    ToolCall { choice: u32, index: u32, id: String, name: String, signature: Option<Signature> },
    /// A piece of the arguments of a call that has begun, JSON text; calls may take turns.
    Arguments { choice: u32, index: u32, json: String },
    /// The part that was last spoken of in this choice is complete.
    PartEnd { choice: u32 },
    /// Where the text of the current part is from.
    Citation { choice: u32, citation: Citation },
    /// The probabilities of the tokens of the text that came last.
    Logprobs { choice: u32, tokens: Vec<TokenLogprob> },
    /// A choice is at its end, and why.
    Finish { choice: u32, reason: StopReason, stop_sequence: Option<String> },
    /// What it has cost so far; the last one counts. May come before and after the finish.
    Usage(Usage),
    /// The upstream is alive.
    Ping,
    /// Something that the hub has no word for: the data of an event of the upstream's surface.
    Other(Raw),
    /// The upstream says that it failed.
    Failed(ApiError),
    /// The answer is over, as it should be.
    End,
}

/// An error as a model's API tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The status it is sent with, or would be.
    pub status: StatusCode,
    /// What a person reads.
    pub message: String,
    /// The kind of error, in the words of whoever told it: OpenAI's and Anthropic's `type`, Gemini's `status`.
    pub kind: Option<String>,
    /// OpenAI's `code`.
    pub code: Option<String>,
    /// The field it is about.
    pub param: Option<String>,
}

impl ApiError {
    /// An error of the gateway's own, as OpenAI words it.
    pub fn of(error: &Error) -> Self {
        Self {
            status: error.kind.status(),
            message: error.message.clone(),
            kind: Some(error.kind.class().to_owned()),
            code: Some(error.kind.code().to_owned()),
            param: error.param.as_deref().map(str::to_owned),
        }
    }
}
