//! The process's environment, captured once, and `${…}` in the values of a file.

use std::collections::BTreeMap;

use crate::config::diagnostic::Problem;
use crate::config::file::{Node, Scalar, Span, Value};

/// The variables of the process, or of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Captures the process's variables; those that are not UTF-8 are left out.
    pub fn capture() -> Self {
        let pairs = std::env::vars_os();
        pairs
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable, the empty one included.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// The value of a variable that says something: an empty one counts as unset.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self { variables: pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

/// Expands `${…}` in every scalar below a node; keys stay as they are.
pub fn expand_tree(node: &mut Node, environment: &Environment, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Scalar(scalar) => expand_scalar(scalar, node.span, environment, problems),
        Value::List(items) => {
            items.iter_mut().for_each(|item| expand_tree(item, environment, problems));
        }
        Value::Mapping(entries) => {
            entries.iter_mut().for_each(|(_, node)| expand_tree(node, environment, problems));
        }
    }
}

fn expand_scalar(scalar: &mut Scalar, span: Span, environment: &Environment, problems: &mut Vec<Problem>) {
    if !scalar.text.contains("${") {
        return;
    }
    match expand(&scalar.text, environment) {
        Ok(text) => scalar.written = Some(std::mem::replace(&mut scalar.text, text)),
        Err(fault) => {
            problems.push(fault.problem(span));
            scalar.is_unresolved = true;
        }
    }
}

/// Why a text cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpandFault {
    /// The variable is not set and has no default.
    Unset(String),
    /// A `${` without its `}`.
    Unclosed,
    /// What is between the braces is not a variable's name.
    Name(String),
}

impl ExpandFault {
    fn problem(self, span: Span) -> Problem {
        match self {
            Self::Unset(name) => {
                Problem::error(span, format!("the environment variable `{name}` is not set"))
                    .help(format!("set it, or give a default: `${{{name}:-…}}`"))
            }
            Self::Unclosed => Problem::error(span, "`${` has no closing `}`")
                .help("close it, or write `$${` for the characters themselves"),
            Self::Name(name) => Problem::error(span, format!("`{name}` is not a variable's name"))
                .help("names are letters, digits and `_`; write `$${` for the characters themselves"),
        }
    }
}

/// Expands `${VAR}` and `${VAR:-default}`; `$${` stands for `${`. A default is used when the variable is unset or empty.
///
/// # Errors
/// The variable is unset, or the braces do not hold a name.
pub fn expand(text: &str, environment: &Environment) -> Result<String, ExpandFault> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(literal) = rest[..at].strip_suffix('$') {
            expanded.push_str(literal);
            expanded.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        expanded.push_str(&rest[..at]);
        let (inside, after) = rest[at + 2..].split_once('}').ok_or(ExpandFault::Unclosed)?;
        expanded.push_str(&lookup(inside, environment)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn lookup(inside: &str, environment: &Environment) -> Result<String, ExpandFault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(ExpandFault::Name(name.to_owned()));
    }
    match (environment.get(name), default) {
        (Some(""), Some(default)) | (None, Some(default)) => Ok(default.to_owned()),
        (Some(value), _) => Ok(value.to_owned()),
        (None, None) => Err(ExpandFault::Unset(name.to_owned())),
    }
}
