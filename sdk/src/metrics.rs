//! Series of the plugin's own, on the gateway's metrics page as `witgate_plugin_<plugin>_<name>`; needs `allow.metrics`.
//!
//! Declare them in [`Plugin::new`](crate::Plugin::new): declaring the same again returns the same.
//!
//! ```
//! use witgate_sdk::metrics::Counter;
//!
//! let hits = Counter::new("hits_total", &["pattern"])?;
//! hits.add(1.0, &["email"]);
//! # Ok::<(), String>(())
//! ```

#[cfg(not(target_family = "wasm"))]
use crate::testkit::host::metrics as host;
#[cfg(target_family = "wasm")]
use crate::wit::witgate::plugin::metrics as host;

use crate::wit::witgate::plugin::metrics::Kind;

/// A sum that only grows.
#[derive(Clone, Copy, Debug)]
pub struct Counter(u32);

/// A value that is set.
#[derive(Clone, Copy, Debug)]
pub struct Gauge(u32);

/// Values whose distribution counts.
#[derive(Clone, Copy, Debug)]
pub struct Histogram(u32);

impl Counter {
    /// Declares a counter.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the name or the labels.
    pub fn new(name: &str, labels: &[&str]) -> Result<Self, String> {
        declare(name, Kind::Counter, labels).map(Self)
    }

    /// Adds for one combination of label values.
    pub fn add(self, value: f64, label_values: &[&str]) {
        record(self.0, value, label_values);
    }
}

impl Gauge {
    /// Declares a gauge.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the name or the labels.
    pub fn new(name: &str, labels: &[&str]) -> Result<Self, String> {
        declare(name, Kind::Gauge, labels).map(Self)
    }

    /// Sets the value for one combination of label values.
    pub fn set(self, value: f64, label_values: &[&str]) {
        record(self.0, value, label_values);
    }
}

impl Histogram {
    /// Declares a histogram.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the name or the labels.
    pub fn new(name: &str, labels: &[&str]) -> Result<Self, String> {
        declare(name, Kind::Histogram, labels).map(Self)
    }

    /// Observes a value for one combination of label values.
    pub fn observe(self, value: f64, label_values: &[&str]) {
        record(self.0, value, label_values);
    }
}

fn declare(name: &str, kind: Kind, labels: &[&str]) -> Result<u32, String> {
    host::declare(name, kind, &owned(labels))
}

fn record(id: u32, value: f64, label_values: &[&str]) {
    host::record_value(id, value, &owned(label_values));
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}
