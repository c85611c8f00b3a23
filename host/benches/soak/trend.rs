//! How memory and open files develop, and whether that is flat.

use std::fmt::{Display, Formatter};

/// How much memory may grow in the last third. Caches have filled by then; what is left is the allocator's coming and going.
const BYTES_PER_MINUTE_MAX: f64 = 512.0 * 1024.0;
/// How fast the number of open files may grow in the last third.
const FILES_PER_MINUTE_MAX: f64 = 0.5;

/// One look at the gateway.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    /// Since the start.
    pub(crate) minutes: f64,
    pub(crate) resident_bytes: f64,
    pub(crate) files: f64,
}

/// All looks so far.
#[derive(Default)]
pub(crate) struct Trend(Vec<Moment>);

impl Trend {
    pub(crate) fn add(&mut self, moment: Moment) {
        self.0.push(moment);
    }

    /// Whether neither grew faster than its bound in the last third.
    pub(crate) fn is_flat(&self) -> bool {
        self.slope(|moment| moment.resident_bytes) <= BYTES_PER_MINUTE_MAX
            && self.slope(|moment| moment.files) <= FILES_PER_MINUTE_MAX
    }

    /// Growth per minute in the last third: the slope of the line with the least squares.
    fn slope(&self, value: impl Fn(&Moment) -> f64) -> f64 {
        let last = &self.0[self.0.len() * 2 / 3..];
        let count = last.len() as f64;
        let mean = |value: &dyn Fn(&Moment) -> f64| last.iter().map(value).sum::<f64>() / count;
        let (minutes, values) = (mean(&|moment| moment.minutes), mean(&value));
        let (mut covariance, mut variance) = (0.0, 0.0);
        for moment in last {
            let from_mean = moment.minutes - minutes;
            covariance += from_mean * (value(moment) - values);
            variance += from_mean * from_mean;
        }
        // A single look has no slope.
        if variance > 0.0 { covariance / variance } else { 0.0 }
    }
}

impl Display for Trend {
    fn fmt(&self, out: &mut Formatter<'_>) -> std::fmt::Result {
        let bytes = self.slope(|moment| moment.resident_bytes);
        let files = self.slope(|moment| moment.files);
        writeln!(
            out,
            "memory in the last third: {:+.1} KiB a minute, at most {:.1}",
            bytes / 1024.0,
            BYTES_PER_MINUTE_MAX / 1024.0
        )?;
        writeln!(out, "files in the last third: {files:+.2} a minute, at most {FILES_PER_MINUTE_MAX:.2}")?;
        write!(out, "verdict: {}", if self.is_flat() { "flat" } else { "growing" })
    }
}
