//! What an operator writes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Number;
use witgate_sdk::Config;

use crate::json::{Json, present};

/// The rules, in order; each sees the edits of those before it.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The rules, in order; each sees the edits of those before it.
    #[config(min_items = 1)]
    pub(crate) rules: Vec<Rule>,
}

/// One rule: what is done, and to which requests.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rule {
    /// What must all be true of a request; empty: the rule is for every request.
    pub(crate) when: When,
    /// What is done.
    pub(crate) then: Then,
    /// Whether the rules after this one are skipped where it applied.
    pub(crate) stop: bool,
}

/// What must be true of a request. In a list one entry is enough; what is left out does not matter. `*` in a text stands
/// for any text.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct When {
    /// The model, as an earlier rule left it.
    pub(crate) models: Vec<String>,
    /// The operation, such as `chat.completions` or `embeddings`.
    pub(crate) operations: Vec<String>,
    /// The caller's tenant; a caller without one matches nothing.
    pub(crate) tenants: Vec<String>,
    /// Headers by name: each must be there and match.
    pub(crate) headers: BTreeMap<String, String>,
    /// Conditions on the body: each must hold.
    pub(crate) body: Vec<Condition>,
    /// Whether the client asked for a stream.
    pub(crate) stream: Option<bool>,
}

/// A condition on one value of the body; exactly one of `exists`, `equals` and `glob` is given.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    /// Where the value is, as a JSON Pointer in the client's dialect.
    pub(crate) pointer: String,
    /// Whether there is a value; `null` is one.
    #[serde(default)]
    pub(crate) exists: Option<bool>,
    /// What the value is.
    #[serde(default, deserialize_with = "present")]
    #[config(schema = r#"{"type":["object","array","string","number","boolean","null"]}"#)]
    pub(crate) equals: Option<Json>,
    /// What a text, a number or a boolean looks like.
    #[serde(default)]
    pub(crate) glob: Option<String>,
}

/// What is done, in this order, whatever the order in the file.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Then {
    /// Labels for the access log and the audit.
    pub(crate) tag: BTreeMap<String, String>,
    /// Refuses the request; nothing but `tag` can stand beside it.
    pub(crate) reject: Option<Reject>,
    /// The model the client is taken to have named.
    pub(crate) model: Option<String>,
    /// JSON Pointers of what is removed from the body.
    pub(crate) remove: Vec<String>,
    /// Values of the body by JSON Pointer; parents that are missing are made.
    pub(crate) set: BTreeMap<String, Json>,
    /// Values by JSON Pointer for what the client left out.
    pub(crate) default: BTreeMap<String, Json>,
    /// Bounds of numbers by JSON Pointer; what is no number is left alone.
    pub(crate) clamp: BTreeMap<String, Clamp>,
    /// The system prompt.
    pub(crate) system: Option<System>,
    /// The request's headers.
    pub(crate) headers: Headers,
}

/// A refusal.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reject {
    /// The HTTP status.
    #[serde(default = "status")]
    #[config(minimum = 400, maximum = 599)]
    pub(crate) status: u16,
    /// A code for machines.
    #[serde(default = "code")]
    pub(crate) code: String,
    /// A text for the caller.
    pub(crate) message: String,
}

fn status() -> u16 {
    403
}

fn code() -> String {
    "request_rejected".to_owned()
}

/// Bounds of a number, both included.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Clamp {
    /// A smaller number becomes this.
    #[config(schema = r#"{"type":"number"}"#)]
    pub(crate) min: Option<Number>,
    /// A greater number becomes this.
    #[config(schema = r#"{"type":"number"}"#)]
    pub(crate) max: Option<Number>,
}

/// Edits of the system prompt. A request without one gets it; an operation without a conversation stays as it is.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct System {
    /// Takes the place of the whole system prompt.
    pub(crate) replace: Option<String>,
    /// Comes before it.
    pub(crate) prepend: Option<String>,
    /// Comes after it.
    pub(crate) append: Option<String>,
    /// Stands between it and what comes before or after; a blank line unless given.
    pub(crate) separator: Option<String>,
}

/// Edits of headers.
#[derive(Config, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Headers {
    /// Headers that are removed.
    pub(crate) remove: Vec<String>,
    /// Headers by name, in place of all of the same name.
    pub(crate) set: BTreeMap<String, String>,
}
