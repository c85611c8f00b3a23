//! What an operator writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use witgate_sdk::{Channel, Config};

/// Rules for answers. All that match are applied, in order.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The rules. All that match are applied, in order.
    #[config(min_items = 1)]
    pub(crate) rules: Vec<Rule>,
}

/// One rule: what is done, and to which answers.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rule {
    /// What must all be true of an answer; empty: the rule is for every answer.
    pub(crate) when: When,
    /// What is done.
    pub(crate) then: Then,
}

/// What must be true of an answer. In a list one entry is enough; what is left out does not matter. `*` in a text stands
/// for any text.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct When {
    /// The model the client named.
    pub(crate) models: Vec<String>,
    /// The operation, such as `chat.completions` or `embeddings`.
    pub(crate) operations: Vec<String>,
    /// The caller's tenant; a caller without one matches nothing.
    pub(crate) tenants: Vec<String>,
    /// The upstream that answered.
    pub(crate) upstreams: Vec<String>,
    /// The answer's HTTP status, `200`, or its class, `4xx`. What is done to a stream after its head happens with 200.
    pub(crate) status: Vec<Status>,
    /// Whether the client asked for a stream.
    pub(crate) stream: Option<bool>,
}

/// A status or a class of them.
#[derive(Config, Deserialize)]
#[serde(untagged)]
pub(crate) enum Status {
    /// One status.
    Code(u16),
    /// A class, `4xx`, or one status as a text.
    Text(String),
}

/// What is done. Pointers are in the client's dialect; `*` as a segment stands for every element of an array. One that
/// leads nowhere does nothing: answers and events differ.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Then {
    /// JSON Pointers of fields and the pointers they move to, whose parents must exist.
    pub(crate) rename: BTreeMap<String, String>,
    /// JSON Pointers of fields that are removed.
    pub(crate) remove: Vec<String>,
    /// Values by JSON Pointer, for fields that are there or whose parent is.
    pub(crate) set: BTreeMap<String, Json>,
    /// Values by JSON Pointer, for fields that are there.
    pub(crate) replace: BTreeMap<String, Json>,
    /// Values by JSON Pointer, for fields that are not there but whose parent is.
    pub(crate) default: BTreeMap<String, Json>,
    /// Texts of the answer that are replaced, in streams too.
    pub(crate) text: Vec<Text>,
    /// The answer's headers.
    pub(crate) headers: Headers,
}

/// A literal text and what takes its place.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// The text, as it is written.
    #[config(min_length = 1)]
    pub(crate) find: String,
    /// What takes its place; empty: nothing.
    #[serde(default)]
    pub(crate) replace: String,
    /// Where it is looked for; the answer proper unless given.
    #[serde(default)]
    pub(crate) channels: Vec<Where>,
}

/// A kind of generated text.
#[derive(Clone, Copy, Config, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Where {
    /// The answer proper.
    Content,
    /// The model's thinking.
    Reasoning,
    /// Why the model refuses.
    Refusal,
    /// The arguments of tool calls, as the JSON text they are.
    ToolArguments,
}

impl From<Where> for Channel {
    fn from(place: Where) -> Self {
        match place {
            Where::Content => Self::Content,
            Where::Reasoning => Self::Reasoning,
            Where::Refusal => Self::Refusal,
            Where::ToolArguments => Self::ToolArguments,
        }
    }
}

/// Edits of headers, in the order they stand here.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Headers {
    /// Names of headers and the names they get; of several with one name the first is kept.
    pub(crate) rename: BTreeMap<String, String>,
    /// Headers that are removed.
    pub(crate) remove: Vec<String>,
    /// Headers by name, in place of all of the same name.
    pub(crate) set: BTreeMap<String, String>,
}

/// Any JSON value, as it is written.
#[derive(Config, Deserialize)]
#[serde(transparent)]
pub(crate) struct Json(
    #[config(schema = r#"{"type":["object","array","string","number","boolean","null"]}"#)] Box<RawValue>,
);

impl Json {
    /// The value as JSON text.
    pub(crate) fn text(&self) -> &str {
        self.0.get()
    }
}
