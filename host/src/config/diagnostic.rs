//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;

use crate::config::file::Span;

/// A problem found while a file is read, before it is rendered.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Whether the configuration cannot be used.
    pub severity: Severity,
    /// Where in the file.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, and somebody should know.
    Warning,
}

impl Problem {
    /// Something that makes the configuration unusable.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, span, message: message.into(), help: None }
    }

    /// Something that is only worth knowing.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One rendered problem; prints as `file:line:column: message`, the line, a caret, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration cannot be used.
    pub severity: Severity,
    /// `file:line:column`, `environment` or `command line`.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// The line of the file and the caret under it, secrets blanked out.
    pub excerpt: Option<String>,
    /// The way out.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error that is not at a line of a file.
    pub fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        let (place, message) = (place.into(), message.into());
        Self { severity: Severity::Error, place, message, excerpt: None, help: None }
    }

    /// A warning that is not at a line of a file.
    pub fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, message) }
    }

    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(formatter, "{}: {label}{}", self.place, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            write!(formatter, "\n{excerpt}")?;
        }
        if let Some(help) = &self.help {
            write!(formatter, "\n  = {help}")?;
        }
        Ok(())
    }
}

/// Why a configuration was refused: every error and every warning, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// All of them; at least one is an error.
    pub all: Vec<Diagnostic>,
}

impl Diagnostics {
    /// How many of them are errors.
    pub fn errors_count(&self) -> usize {
        self.all.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { all: vec![diagnostic] }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.all {
            writeln!(formatter, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Renders problems against the text they were found in; `hidden` are the places of secrets.
pub fn render(name: &str, text: &str, mut problems: Vec<Problem>, hidden: &[Span]) -> Vec<Diagnostic> {
    problems.sort_by_key(|problem| problem.span);
    let lines: Vec<&str> = text.strip_prefix('\u{feff}').unwrap_or(text).lines().collect();
    let render_one = |problem: Problem| Diagnostic {
        severity: problem.severity,
        place: format!("{name}:{}:{}", problem.span.line, problem.span.column),
        excerpt: lines.get(problem.span.line - 1).map(|line| excerpt(line, problem.span, hidden)),
        message: problem.message,
        help: problem.help,
    };
    problems.into_iter().map(render_one).collect()
}

/// The longest line that is shown, in characters; what is cut off is far from anything a person wrote.
const LINE_CHARS_MAX: usize = 160;

fn excerpt(line: &str, span: Span, hidden: &[Span]) -> String {
    // A control character in a file must not reach the terminal.
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let line: Vec<char> = line.trim_end().chars().take(LINE_CHARS_MAX).map(visible).collect();
    let mut shown = line.clone();
    mask_named(&mut shown);
    for hidden in hidden.iter().filter(|hidden| (hidden.line..=hidden.end_line).contains(&span.line)) {
        let (from, to) = columns(*hidden, span.line, &line);
        shown[from..to].fill('*');
    }
    let (from, to) = columns(span, span.line, &line);
    let shown: String = shown.into_iter().collect();
    format!("  | {shown}\n  | {}{}", " ".repeat(from), "^".repeat((to - from).max(1)))
}

/// Where a span stands in one of its lines, from and to, without the white space that the parser counts to a scalar.
fn columns(span: Span, line_number: usize, line: &[char]) -> (usize, usize) {
    let from = if span.line == line_number { (span.column - 1).min(line.len()) } else { 0 };
    let to = if span.end_line == line_number { (span.end_column - 1).min(line.len()) } else { line.len() };
    let text = line.get(from..to).unwrap_or_default();
    let length = text.iter().rposition(|c| !c.is_whitespace()).map_or(0, |last| last + 1);
    (from, from + length)
}

/// Blanks out what follows a key that names a secret, for files that are not even YAML.
fn mask_named(shown: &mut [char]) {
    let line: String = shown.iter().collect();
    for name in SECRET_KEYS {
        for (at, _) in line.match_indices(name) {
            let Some(value) = line[at + name.len()..].trim_start_matches(['"', '\'']).strip_prefix(':')
            else {
                continue;
            };
            let text = value.trim_start().trim_start_matches(['"', '\'', '[']);
            if text.is_empty() || is_reference(text.trim_end().trim_end_matches(['"', '\'', '}', ',', ' '])) {
                continue;
            }
            let from = line[..line.len() - text.len()].chars().count();
            let length = text.find([',', '}', ']']).unwrap_or(text.len());
            let to = from + text[..length].trim_end().chars().count();
            shown[from..to].fill('*');
        }
    }
}

/// The keys whose values are secrets, wherever they stand.
pub const SECRET_KEYS: &[&str] = &["api_key", "api_keys", "admin_token", "key_secret", "secret", "postgres"];

/// Whether a secret's text only says where the secret is, so that it may be shown.
pub fn is_reference(text: &str) -> bool {
    let is_variable = text.starts_with("${") && !text.contains(":-") && text.matches("${").count() == 1;
    (is_variable && text.find('}').is_none_or(|end| end + 1 == text.len())) || text.starts_with("file:")
}
