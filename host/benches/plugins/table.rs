//! Markdown tables, a column for each measure.

use std::fmt::{Display, Formatter};

/// A table that is to be printed; cells are text already.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: &'static [&'static str],
    pub(crate) rows: Vec<Vec<String>>,
}

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "| {} | {} |", self.title, self.columns.join(" | "))?;
        writeln!(out, "|---|{}", "---:|".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(out, "| {} |", row.join(" | ")))
    }
}

/// Three digits that say something.
pub(crate) fn microseconds(value: f64) -> String {
    if value.abs() < 10.0 { format!("{value:.2} µs") } else { format!("{value:.1} µs") }
}

pub(crate) fn ratio(value: f64) -> String {
    format!("{value:.2}x")
}

/// Whether a bound is kept.
pub(crate) fn verdict(value: f64, most: f64, show: fn(f64) -> String) -> String {
    let outcome = if value <= most { "met" } else { "missed" };
    format!("at most {}: {outcome}", show(most))
}
