//! The result: one Markdown table, each row with the ratio to the floor and design target.

use std::fmt::{Display, Formatter};

/// One measure of the floor and of the gateway.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// Not a number where the floor has no such thing.
    pub(crate) floor: f64,
    pub(crate) gateway: f64,
    pub(crate) target: Target,
    /// CPUs that other processes used at most while this was measured.
    pub(crate) disturbance: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Microseconds,
    Milliseconds,
    PerSecond,
    Instructions,
    Megabytes,
    Kilobytes,
    Percent,
}

/// What the gateway is held to.
pub(crate) enum Target {
    /// At most so many times the floor of the same run.
    Ratio(f64),
    /// At most this value.
    Most(f64),
    /// Told, not judged.
    None,
}

/// Prints rows as a Markdown table.
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Display for Table {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "| | floor | gateway | ratio | target | |\n|---|---:|---:|---:|---:|---|")?;
        self.0.iter().try_for_each(|row| writeln!(out, "{row}"))
    }
}

impl Display for Row {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { name, unit, floor, gateway, .. } = self;
        let shown = if floor.is_nan() { String::new() } else { unit.show(*floor) };
        let ratio = if *floor > 0.0 { format!("{:.2}x ", self.ratio()) } else { String::new() };
        write!(out, "| {name} | {shown} | {} | {ratio}", unit.show(*gateway))?;
        match self.target {
            Target::None => write!(out, "| | |"),
            Target::Ratio(most) => {
                write!(out, "| {most:.2}x | {} |", verdict(self.ratio() - most, |by| format!("{by:.2}x")))
            }
            Target::Most(most) => {
                write!(out, "| {} | {} |", unit.show(most), verdict(gateway - most, |by| unit.show(by)))
            }
        }
    }
}

impl Row {
    fn ratio(&self) -> f64 {
        self.gateway / self.floor
    }
}

fn verdict(excess: f64, show: impl Fn(f64) -> String) -> String {
    if excess <= 0.0 { "met".to_owned() } else { format!("miss by {}", show(excess)) }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Microseconds if value.abs() < 10.0 => format!("{value:.2} µs"),
            Self::Microseconds => format!("{value:.1} µs"),
            Self::Milliseconds => format!("{value:.1} ms"),
            Self::PerSecond => format!("{value:.0} /s"),
            Self::Instructions => format!("{value:.0}"),
            Self::Megabytes => format!("{value:.1} MB"),
            Self::Percent => format!("{value:.1} %"),
            Self::Kilobytes => format!("{value:.1} KB"),
        }
    }
}
