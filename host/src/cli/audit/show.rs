//! Exchanges in each of the formats.

use std::fmt::Write as _;
use std::io::Write;

use rusqlite::types::Value;

use super::Format;
use super::outline::{Measure, Tree};
use super::output::{End, Output, visible, visible_json, visible_line};
use super::table::Layout;
use crate::audit::query::{Attempt, Column, Extent, Row};

/// Writes exchanges one after another.
pub(super) struct Printer {
    format: Format,
    extent: Extent,
    /// The columns of the table; those of one that is shown whole have none.
    layout: Option<Layout>,
    has_head: bool,
}

impl Printer {
    /// Prepares a format; `layout` is that of the table if there is one.
    pub(super) fn new(format: Format, extent: Extent, layout: Option<Layout>) -> Self {
        Self { format, extent, layout, has_head: false }
    }

    /// Writes one exchange.
    pub(super) fn print(&mut self, row: &Row, out: &mut Output) -> Result<(), End> {
        let is_first = !std::mem::replace(&mut self.has_head, true);
        match (self.format, &self.layout) {
            (Format::Jsonl, _) => writeln!(out, "{}", visible_json(&json(row)?))?,
            (Format::Csv, _) => {
                let mut line = if is_first { csv_head(self.extent)? } else { String::new() };
                line.push_str(&csv_line(row)?);
                write!(out, "{}", visible(&line))?;
            }
            (Format::Table, Some(layout)) => {
                if is_first {
                    write!(out, "{}", layout.head())?;
                }
                write!(out, "{}", layout.row(row))?;
            }
            (Format::Table, None) => {
                let gap = if is_first { "" } else { "\n" };
                write!(out, "{gap}{}", readable(row, Measure::Readable))?;
            }
        }
        Ok(())
    }
}

/// An exchange as one line of JSON.
pub(super) fn json(row: &Row) -> Result<String, String> {
    serde_json::to_string(row).map_err(|error| format!("exchange {} cannot be written: {error}", row.id()))
}

/// The head line of the comma-separated values.
pub(super) fn csv_head(extent: Extent) -> Result<String, String> {
    let names = extent.columns().iter().map(|column| column.name.to_owned());
    csv_record(names.chain((extent == Extent::Whole).then(|| "attempts".to_owned())))
}

/// The line of an exchange.
pub(super) fn csv_line(row: &Row) -> Result<String, String> {
    let attempts = (row.extent() == Extent::Whole).then(|| serde_json::to_string(row.attempts()));
    let attempts = attempts.transpose().map_err(|error| format!("attempts cannot be written: {error}"))?;
    csv_record(row.values().iter().map(csv_cell).chain(attempts))
}

fn csv_record(cells: impl Iterator<Item = String>) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells).map_err(|error| format!("comma-separated values: {error}"))?;
    let bytes = writer.into_inner().map_err(|error| format!("comma-separated values: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("comma-separated values: {error}"))
}

/// A value as a cell. A text that a spreadsheet would take for a formula has an apostrophe before it.
///
/// Source: OWASP, "CSV Injection".
fn csv_cell(value: &Value) -> String {
    match value {
        Value::Text(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) => format!("'{text}"),
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Integer(number) => number.to_string(),
        Value::Real(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// An exchange as people read it.
pub(super) fn readable(row: &Row, measure: Measure) -> String {
    let mut text = format!("exchange {}\n", row.id());
    for (name, value) in facts(row) {
        if !value.is_empty() {
            writeln!(text, "  {name:<12}{}", visible_line(&value)).expect("a String takes all");
        }
    }
    if !row.attempts().is_empty() {
        text.push_str("\nattempts\n");
        for attempt in row.attempts() {
            writeln!(text, "  {}", visible_line(&tried(attempt))).expect("a String takes all");
        }
    }
    let sections = if measure == Measure::Whole {
        &["headers", "request", "response"][..]
    } else {
        &["request", "response"]
    };
    for name in sections {
        let Some(body) = row.text(name) else { continue };
        let cut = if row.is(&format!("{name}_cut")) { " (cut)" } else { "" };
        write!(text, "\n{name}{cut}\n{}", visible(&body_lines(body, measure))).expect("a String takes all");
    }
    text
}

fn body_lines(body: &str, measure: Measure) -> String {
    match Tree::parse(body) {
        Some(tree) => tree.outline(2, measure),
        None => body.lines().map(|line| format!("  {line}\n")).collect(),
    }
}

/// Names and values; what is not known is empty.
fn facts(row: &Row) -> [(&'static str, String); 16] {
    let text = |name: &str| row.text(name).unwrap_or_default().to_owned();
    let status = row.integer("status").map(|status| format!(", status {status}")).unwrap_or_default();
    let models =
        [row.text("model"), row.text("upstream_model").filter(|name| Some(*name) != row.text("model"))];
    [
        ("request id", text("request_id")),
        ("started", row.text("started").map(|started| format!("{started} UTC")).unwrap_or_default()),
        ("outcome", format!("{}{status}", text("outcome"))),
        ("error", joined(&[row.text("error_kind"), row.text("error")], ": ")),
        ("request", joined(&[row.text("method"), row.text("path")], " ")),
        ("endpoint", format!("{}{}", text("endpoint"), if row.is("stream") { ", streamed" } else { "" })),
        ("model", joined(&models, ", upstream ")),
        ("upstream", text("upstream")),
        ("caller", text("caller")),
        ("key", text("key")),
        ("tenant", text("tenant")),
        ("client", text("ip")),
        (
            "answer",
            joined(&[Some(&*tokens(row)).filter(|text| !text.is_empty()), row.text("finish")], ", finish "),
        ),
        ("time", times(row)),
        ("labels", pairs(row.text("labels"), "=")),
        ("plugins ms", pairs(row.text("plugins"), " ")),
    ]
}

fn joined(parts: &[Option<&str>], between: &str) -> String {
    parts.iter().flatten().copied().collect::<Vec<_>>().join(between)
}

fn tokens(row: &Row) -> String {
    let part = |name: &str, word: &str| row.integer(name).map(|count| format!("{count} {word}"));
    let parts = [
        part("input_tokens", "tokens in"),
        part("cached_tokens", "cached"),
        part("output_tokens", "out"),
        part("reasoning_tokens", "reasoning"),
        (row.is("estimated")).then(|| "estimated".to_owned()),
        Some(format!(
            "{} bytes sent, {} bytes answered",
            bytes(row, "request_bytes"),
            bytes(row, "response_bytes")
        )),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn bytes(row: &Row, name: &str) -> i64 {
    row.integer(name).unwrap_or_default()
}

fn times(row: &Row) -> String {
    let part = |name: &str, word: &str| row.real(name).map(|ms| format!("{ms:.3} ms {word}"));
    let parts = [
        part("duration_ms", "in all"),
        part("ttft_ms", "to the first token"),
        part("gateway_ms", "in the gateway"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The pairs of a JSON object in one line.
fn pairs(json: Option<&str>, between: &str) -> String {
    match json.and_then(Tree::parse) {
        Some(Tree::Object(pairs)) => {
            let pairs = pairs.iter().map(|(name, value)| format!("{name}{between}{}", word(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        _ => json.unwrap_or_default().to_owned(),
    }
}

/// A value in one word; numbers as far as anybody wants to know them.
fn word(tree: &Tree) -> String {
    match tree {
        Tree::Word(word) => match word.parse::<f64>() {
            Ok(number) if word.contains('.') => format!("{number:.3}"),
            _ => word.clone(),
        },
        Tree::Text(text) => text.clone(),
        Tree::List(_) | Tree::Object(_) => "…".to_owned(),
    }
}

fn tried(attempt: &Attempt) -> String {
    let cells = Attempt::COLUMNS.iter().zip(attempt.values());
    let value = |name: &str| {
        let cell = cells.clone().find(|(column, _): &(&Column, _)| column.name == name);
        cell.map(|(_, value)| match value {
            Value::Real(number) => format!("{number:.3}"),
            other => plain(other),
        })
    };
    let named = |name: &str, before: &str, after: &str| {
        value(name)
            .filter(|text| !text.is_empty())
            .map(|text| format!("{before}{text}{after}"))
            .unwrap_or_default()
    };
    format!(
        "{}. {}{}{}{}{}{}{}",
        named("number", "", ""),
        named("upstream", "", ""),
        named("model", ", model ", ""),
        named("status", ", status ", ""),
        named("error_kind", ", ", ""),
        named("error", ": ", ""),
        named("began_ms", ", after ", " ms"),
        named("took_ms", " for ", " ms"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(csv_cell(&Value::Text(text.to_owned())), expected);
    }

    #[test]
    fn a_spreadsheet_does_not_run_what_is_recorded() {
        check("=1+1", "'=1+1");
        check("@SUM(A1)", "'@SUM(A1)");
        check("+1", "'+1");
        check("-1", "'-1");
        check("\t=1", "'\t=1");
        check("a=1", "a=1");
        check("{\"a\":1}", "{\"a\":1}");
        assert_eq!(csv_cell(&Value::Integer(-1)), "-1");
        let cells = ["=a\"b", "c,\nd", "e"].map(str::to_owned);
        assert_eq!(csv_record(cells.into_iter()).unwrap(), "\"=a\"\"b\",\"c,\nd\",e\n");
    }
}
