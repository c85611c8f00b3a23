//! Runs a plugin natively, in `cargo test`.

pub(crate) mod call;
mod document;
pub(crate) mod host;
mod messages;

use crate::log::Level;
use crate::wit::witgate::plugin::metrics::Kind;

/// A line that the plugin wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
    /// Its fields.
    pub fields: Vec<(String, String)>,
}

/// A metric that the plugin declared.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What was recorded: label values and value, in order.
    pub values: Vec<(Vec<String>, f64)>,
}
