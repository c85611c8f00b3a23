//! A plugin's own metrics: declared by name, recorded by number, bounded in series.
//!
//! This is data only; who shows it reads [`Registry::snapshot`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Labels of one metric.
pub(crate) const LABELS_MAX: usize = 8;

/// Bytes of a metric's or a label's name.
pub(crate) const NAME_BYTES_MAX: usize = 100;

/// Bytes of a label's value; what is longer is cut.
pub(crate) const LABEL_VALUE_BYTES_MAX: usize = 128;

/// The upper bounds of a histogram's buckets, the last one without a bound left out.
///
/// The host does not know a plugin's unit, so that they reach from a millisecond in seconds to a million in tokens or
/// bytes, two for each power of ten.
pub(crate) const BUCKETS: [f64; 19] = [
    0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6,
];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sum that only grows.
    Counter,
    /// A value that is set.
    Gauge,
    /// Values whose distribution counts, in [`BUCKETS`].
    Histogram,
}

impl Kind {
    /// The name on `/admin/plugins`; Prometheus's.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The metrics of one plugin in one version.
pub(crate) struct Registry {
    prefix: String,
    series_max: usize,
    declared: RwLock<Declared>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Declared {
    metrics: Vec<Arc<Metric>>,
    ids: HashMap<String, u32>,
    /// The metrics of the version before, from which those that are declared alike go on counting.
    inherited: Vec<Arc<Metric>>,
}

/// What the versions of one plugin share.
#[derive(Default)]
struct Tally {
    series: AtomicUsize,
    dropped: AtomicU64,
}

struct Metric {
    /// The whole name, as the metrics page shows it.
    name: String,
    kind: Kind,
    labels: Vec<String>,
    series: Mutex<HashMap<Box<[String]>, Value>>,
    tally: Arc<Tally>,
}

/// The value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// The sum of a counter, or what a gauge was set to last.
    Number(f64),
    /// The distribution of a histogram.
    Distribution(Distribution),
}

/// The values that a histogram has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    /// How many values were in each bucket, and not in one before it; the last one takes what is over all [`BUCKETS`].
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    /// The sum of all values.
    pub(crate) sum: f64,
}

/// All metrics of one plugin at one moment.
#[derive(Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// The metrics in the order of their declaration.
    pub(crate) families: Vec<Family>,
    /// Series in all, those of a version that is being drained included.
    pub(crate) series: usize,
    /// The grant.
    pub(crate) series_max: usize,
    /// Values that were not recorded, since the plugin was first loaded: beyond the grant, for a metric that does not
    /// exist, with the wrong number of labels, not finite, or negative for a counter.
    pub(crate) dropped: u64,
}

/// One metric and its series.
#[derive(Debug, PartialEq)]
pub(crate) struct Family {
    /// `witgate_plugin_<plugin>_<name>`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// The names of its labels.
    pub(crate) labels: Vec<String>,
    /// Values of the labels, and of the series, in the order of the former.
    pub(crate) series: Vec<(Vec<String>, Value)>,
}

impl Registry {
    /// No metrics yet, for a plugin of this name, with at most `series_max` combinations of label values over all
    /// metrics. A histogram's combination counts once, though the metrics page has a line for each bucket.
    pub(crate) fn new(plugin: &str, series_max: usize) -> Self {
        Self {
            prefix: format!("witgate_plugin_{}_", plain(plugin)),
            series_max,
            declared: RwLock::default(),
            tally: Arc::default(),
        }
    }

    /// The registry for the plugin's next version.
    ///
    /// A metric that the next version declares alike before it records anything goes on where it was, whoever of the
    /// two records; every other one begins anew. What the next version does not declare is forgotten.
    pub(crate) fn successor(&self, series_max: usize) -> Self {
        let declared = self.declared();
        // A version that was never used must not cost the counts of the one before.
        let inherited = if declared.metrics.is_empty() { &declared.inherited } else { &declared.metrics };
        Self {
            prefix: self.prefix.clone(),
            series_max,
            declared: RwLock::new(Declared { inherited: inherited.clone(), ..Declared::default() }),
            tally: self.tally.clone(),
        }
    }

    /// Declares a metric and returns its number; declaring the same again returns the same. Hyphens in names become
    /// underscores.
    ///
    /// # Errors
    ///
    /// What is wrong with the name or the labels, for the plugin's author.
    pub(crate) fn declare(&self, name: &str, kind: Kind, labels: &[String]) -> Result<u32, String> {
        // Every instance declares its metrics when it begins, so that this is the common case.
        if let Some(id) = self.declared().find(name, kind, labels)? {
            return Ok(id);
        }
        check_name(name)?;
        check_labels(labels)?;
        let mut declared = self.declared_mut();
        if let Some(id) = declared.find(name, kind, labels)? {
            return Ok(id);
        }
        if declared.metrics.len() >= self.series_max {
            let series_max = self.series_max;
            return Err(format!(
                "metric `{name}` is one more than the {series_max} series of `allow.metrics`"
            ));
        }
        let whole_name = format!("{}{}", self.prefix, plain(name));
        if declared.metrics.iter().any(|other| other.name == whole_name) {
            return Err(format!("metric `{name}` has the name of another one once `-` has become `_`"));
        }
        let inherited = declared
            .inherited
            .iter()
            .find(|old| old.name == whole_name && old.is_like(kind, labels))
            .cloned();
        let metric = inherited.unwrap_or_else(|| self.metric(whole_name, kind, labels));
        let id = u32::try_from(declared.metrics.len()).map_err(|_| "too many metrics".to_owned())?;
        declared.ids.insert(name.to_owned(), id);
        declared.metrics.push(metric);
        Ok(id)
    }

    /// Adds to a counter, sets a gauge or observes a value, for one combination of label values; drops and counts what
    /// it cannot record.
    pub(crate) fn record(&self, id: u32, value: f64, label_values: Vec<String>) {
        let metric = self.used(id);
        let is_recorded = metric.is_some_and(|metric| metric.record(value, label_values, self.series_max));
        if !is_recorded {
            self.tally.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Everything there is.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let declared = self.declared();
        Snapshot {
            families: declared.metrics.iter().map(|metric| metric.family()).collect(),
            series: self.tally.series.load(Ordering::Relaxed),
            series_max: self.series_max,
            dropped: self.tally.dropped.load(Ordering::Relaxed),
        }
    }

    fn metric(&self, name: String, kind: Kind, labels: &[String]) -> Arc<Metric> {
        Arc::new(Metric {
            name,
            kind,
            labels: labels.to_vec(),
            series: Mutex::default(),
            tally: self.tally.clone(),
        })
    }

    /// The metric that is recorded to. From now on the series of metrics that were not declared again are not kept, so
    /// that they do not use up the grant.
    fn used(&self, id: u32) -> Option<Arc<Metric>> {
        let declared = self.declared();
        let metric = declared.metrics.get(id as usize).cloned();
        if !declared.inherited.is_empty() {
            drop(declared);
            self.declared_mut().inherited.clear();
        }
        metric
    }

    fn declared(&self) -> RwLockReadGuard<'_, Declared> {
        self.declared.read().expect("no code panics while it holds this lock")
    }

    fn declared_mut(&self) -> RwLockWriteGuard<'_, Declared> {
        self.declared.write().expect("no code panics while it holds this lock")
    }
}

impl Declared {
    /// The number of a metric that was declared before.
    fn find(&self, name: &str, kind: Kind, labels: &[String]) -> Result<Option<u32>, String> {
        let Some(id) = self.ids.get(name) else { return Ok(None) };
        if self.metrics[*id as usize].is_like(kind, labels) {
            return Ok(Some(*id));
        }
        Err(format!("metric `{name}` was declared before with another kind or other labels"))
    }
}

impl Metric {
    fn is_like(&self, kind: Kind, labels: &[String]) -> bool {
        self.kind == kind && self.labels == labels
    }

    /// Whether the value could be recorded.
    fn record(&self, value: f64, mut label_values: Vec<String>, series_max: usize) -> bool {
        let is_valid = value.is_finite() && (self.kind != Kind::Counter || value >= 0.0);
        if !is_valid || label_values.len() != self.labels.len() {
            return false;
        }
        label_values.iter_mut().for_each(shorten);
        let mut series = self.series();
        if let Some(present) = series.get_mut(&*label_values) {
            present.record(self.kind, value);
            return true;
        }
        let room = |count: usize| (count < series_max).then_some(count + 1);
        if self.tally.series.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        let mut first = Value::none(self.kind);
        first.record(self.kind, value);
        series.insert(label_values.into_boxed_slice(), first);
        true
    }

    fn family(&self) -> Family {
        let mut series: Vec<_> =
            self.series().iter().map(|(labels, value)| (labels.to_vec(), value.clone())).collect();
        series.sort_by(|(left, _), (right, _)| left.cmp(right));
        Family { name: self.name.clone(), kind: self.kind, labels: self.labels.clone(), series }
    }

    fn series(&self) -> MutexGuard<'_, HashMap<Box<[String]>, Value>> {
        self.series.lock().expect("no code panics while it holds this lock")
    }
}

impl Drop for Metric {
    fn drop(&mut self) {
        let count = self.series.get_mut().unwrap_or_else(PoisonError::into_inner).len();
        self.tally.series.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Value {
    fn none(kind: Kind) -> Self {
        match kind {
            Kind::Counter | Kind::Gauge => Self::Number(0.0),
            Kind::Histogram => Self::Distribution(Distribution::default()),
        }
    }

    fn record(&mut self, kind: Kind, value: f64) {
        match self {
            Self::Number(number) if kind == Kind::Counter => *number += value,
            Self::Number(number) => *number = value,
            Self::Distribution(distribution) => {
                distribution.counts[BUCKETS.partition_point(|bound| *bound < value)] += 1;
                distribution.sum += value;
            }
        }
    }
}

/// A part of a metric's name: whatever is no letter or digit becomes an underscore.
fn plain(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

/// Cuts a label's value between two characters.
fn shorten(value: &mut String) {
    if value.len() > LABEL_VALUE_BYTES_MAX {
        value.truncate(value.floor_char_boundary(LABEL_VALUE_BYTES_MAX));
    }
}

/// Source: Prometheus, "Data model" and "Metric and label naming": letters, digits and `_`; the colon is for recording
/// rules. The hyphen is ours, since plugins' names have it.
fn check_name(name: &str) -> Result<(), String> {
    if !is_word(&name.replace('-', "_")) {
        return Err(format!(
            "metric `{}` is not a name: use letters, digits, `_` and `-`, not a digit first, at most \
             {NAME_BYTES_MAX} bytes",
            shown(name)
        ));
    }
    Ok(())
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("{} labels are too many: at most {LABELS_MAX}", labels.len()));
    }
    for (index, label) in labels.iter().enumerate() {
        if !is_word(label) {
            return Err(format!(
                "label `{}` is not a name: use letters, digits and `_`, not a digit first, at most \
                 {NAME_BYTES_MAX} bytes",
                shown(label)
            ));
        }
        if label.starts_with("__") || label == "le" {
            return Err(format!("label `{label}` is reserved by Prometheus: choose another name"));
        }
        if labels[..index].contains(label) {
            return Err(format!("label `{label}` is given twice"));
        }
    }
    Ok(())
}

fn is_word(name: &str) -> bool {
    let is_long_enough = (1..=NAME_BYTES_MAX).contains(&name.len());
    is_long_enough
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The beginning of a bad name, for a message.
fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn check_declare(name: &str, labels: &[&str], complaint: Option<&str>) {
        let declared = Registry::new("p", 10).declare(name, Kind::Counter, &words(labels));
        match complaint {
            None => assert_eq!(declared, Ok(0)),
            Some(part) => {
                let message = declared.unwrap_err();
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        check_declare("hits", &[], None);
        check_declare("cache-hits_total", &["kind", "_x1"], None);
        check_declare("", &[], Some("metric `` is not a name"));
        check_declare("2nd", &[], Some("metric `2nd`"));
        check_declare("a:b", &[], Some("metric `a:b`"));
        check_declare("é", &[], Some("metric `é`"));
        check_declare(&"x".repeat(101), &[], Some("at most 100 bytes"));
        check_declare("x", &[""], Some("label `` is not a name"));
        check_declare("x", &["a-b"], Some("label `a-b` is not a name"));
        check_declare("x", &["__name__"], Some("`__name__` is reserved"));
        check_declare("x", &["le"], Some("`le` is reserved"));
        check_declare("x", &["a", "a"], Some("`a` is given twice"));
        check_declare("x", &["a", "b", "c", "d", "e", "f", "g", "h", "i"], Some("9 labels are too many"));
    }

    #[test]
    fn declaring_the_same_again_returns_the_same() {
        let registry = Registry::new("p", 10);
        assert_eq!(registry.declare("a", Kind::Counter, &words(&["x"])), Ok(0));
        assert_eq!(registry.declare("b", Kind::Gauge, &[]), Ok(1));
        assert_eq!(registry.declare("a", Kind::Counter, &words(&["x"])), Ok(0));
        assert!(
            registry
                .declare("a", Kind::Gauge, &words(&["x"]))
                .unwrap_err()
                .contains("`a` was declared before")
        );
        assert!(registry.declare("a", Kind::Counter, &words(&["y"])).is_err());
    }

    #[test]
    fn different_names_stay_different_on_the_page() {
        let registry = Registry::new("my-plugin", 10);
        registry.declare("a-b", Kind::Counter, &[]).unwrap();
        assert_eq!(registry.snapshot().families[0].name, "witgate_plugin_my_plugin_a_b");
        assert!(registry.declare("a_b", Kind::Counter, &[]).unwrap_err().contains("the name of another one"));
    }

    #[test]
    fn there_are_no_more_metrics_than_series() {
        let registry = Registry::new("p", 1);
        registry.declare("a", Kind::Counter, &[]).unwrap();
        registry.declare("a", Kind::Counter, &[]).unwrap();
        assert!(registry.declare("b", Kind::Counter, &[]).unwrap_err().contains("`allow.metrics`"));
        assert!(Registry::new("p", 0).declare("a", Kind::Counter, &[]).is_err());
    }

    #[track_caller]
    fn check_values(kind: Kind, values: &[f64], result: Option<f64>, dropped: u64) {
        let registry = Registry::new("p", 10);
        let id = registry.declare("a", kind, &[]).unwrap();
        values.iter().for_each(|value| registry.record(id, *value, vec![]));
        let snapshot = registry.snapshot();
        let number = snapshot.families[0].series.first().map(|(_, value)| value.clone());
        assert_eq!(number, result.map(Value::Number));
        assert_eq!(snapshot.dropped, dropped);
    }

    #[test]
    fn counters_add_and_gauges_are_set() {
        check_values(Kind::Counter, &[1.0, 2.5], Some(3.5), 0);
        check_values(Kind::Counter, &[1.0, -1.0, f64::NAN, f64::INFINITY], Some(1.0), 3);
        check_values(Kind::Counter, &[-1.0], None, 1);
        check_values(Kind::Gauge, &[1.0, -2.5], Some(-2.5), 0);
        check_values(Kind::Gauge, &[f64::NAN], None, 1);
    }

    #[test]
    fn a_histogram_counts_by_bucket() {
        let registry = Registry::new("p", 10);
        let id = registry.declare("a", Kind::Histogram, &[]).unwrap();
        [-1.0, 0.001, 0.002, 1e6, 1e7].into_iter().for_each(|value| registry.record(id, value, vec![]));
        let snapshot = registry.snapshot();
        let Value::Distribution(seen) = &snapshot.families[0].series[0].1 else { panic!("a distribution") };
        let mut counts = [0; 20];
        (counts[0], counts[1], counts[18], counts[19]) = (2, 1, 1, 1);
        assert_eq!(seen.counts, counts);
        assert_eq!(seen.sum, 11_000_000.0 - 1.0 + 0.003);
    }

    #[test]
    fn series_beyond_the_grant_are_dropped_and_counted() {
        let registry = Registry::new("p", 2);
        let a = registry.declare("a", Kind::Counter, &words(&["x"])).unwrap();
        let b = registry.declare("b", Kind::Counter, &[]).unwrap();
        for value in ["2", "1", "3", "1"] {
            registry.record(a, 1.0, words(&[value]));
        }
        registry.record(b, 1.0, vec![]);
        let snapshot = registry.snapshot();
        let series = [(words(&["1"]), Value::Number(2.0)), (words(&["2"]), Value::Number(1.0))];
        assert_eq!(snapshot.families[0].series, series);
        assert_eq!((snapshot.series, snapshot.dropped), (2, 2));
    }

    #[test]
    fn what_fits_no_metric_is_dropped_and_counted() {
        let registry = Registry::new("p", 2);
        let id = registry.declare("a", Kind::Counter, &words(&["x"])).unwrap();
        registry.record(id, 1.0, vec![]);
        registry.record(id, 1.0, words(&["1", "2"]));
        registry.record(7, 1.0, vec![]);
        assert_eq!((registry.snapshot().series, registry.snapshot().dropped), (0, 3));
    }

    #[test]
    fn a_long_label_value_is_cut_between_characters() {
        let registry = Registry::new("p", 2);
        let id = registry.declare("a", Kind::Counter, &words(&["x"])).unwrap();
        registry.record(id, 1.0, vec!["é".repeat(1000)]);
        registry.record(id, 1.0, vec![format!("{}x", "é".repeat(64))]);
        assert_eq!(registry.snapshot().families[0].series, [(vec!["é".repeat(64)], Value::Number(2.0))]);
    }

    #[test]
    fn the_next_version_goes_on_counting_what_it_declares_alike() {
        let first = Registry::new("p", 3);
        let same = first.declare("same", Kind::Counter, &[]).unwrap();
        let changed = first.declare("changed", Kind::Counter, &[]).unwrap();
        let gone = first.declare("gone", Kind::Counter, &[]).unwrap();
        [same, changed, gone].into_iter().for_each(|id| first.record(id, 1.0, vec![]));
        // A version in between that declared nothing loses nothing.
        let second = first.successor(3).successor(3);
        let changed = second.declare("changed", Kind::Gauge, &[]).unwrap();
        let same_again = second.declare("same", Kind::Counter, &[]).unwrap();
        second.record(same_again, 1.0, vec![]);
        first.record(same, 1.0, vec![]);
        assert_eq!(second.snapshot().families[1].series, [(vec![], Value::Number(3.0))]);
        // The old version still holds its series until it is drained.
        second.record(changed, 7.0, vec![]);
        assert_eq!((second.snapshot().series, second.snapshot().dropped), (3, 1));
        drop(first);
        second.record(changed, 7.0, vec![]);
        assert_eq!(second.snapshot().families[0].series, [(vec![], Value::Number(7.0))]);
        assert_eq!((second.snapshot().series, second.snapshot().dropped), (2, 1));
    }

    #[test]
    fn sums_of_many_threads_are_exact() {
        let registry = Registry::new("p", 5);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..1000 {
                        let id = registry.declare("a", Kind::Counter, &words(&["x"])).unwrap();
                        registry.record(id, 1.0, words(&[&(turn % 10).to_string()]));
                    }
                });
            }
        });
        let snapshot = registry.snapshot();
        assert_eq!((snapshot.series, snapshot.dropped), (5, 2000));
        assert!(snapshot.families[0].series.iter().all(|(_, value)| *value == Value::Number(400.0)));
    }

    proptest! {
        #[test]
        fn every_name_is_taken_or_refused(plugin in ".{0,20}", name in ".{0,120}", label in ".{0,120}") {
            let registry = Registry::new(&plugin, 10);
            if registry.declare(&name, Kind::Counter, &[label]).is_ok() {
                let name = &registry.snapshot().families[0].name;
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{}", name);
            }
        }
    }
}
