//! A page of metrics, and the two texts it is written as.
//!
//! OpenMetrics is `prometheus-client`'s; the older text of Prometheus follows from it line by line.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use http::header::{self, HeaderMap, HeaderValue};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use crate::metrics::catalog::Metric;
use crate::metrics::histogram::Tally;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sum that only grows; its name ends with `_total`.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// Values by bucket.
    Histogram,
}

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus's text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that a scraper likes best.
    ///
    /// Source: RFC 9110, section 12.5.1; OpenMetrics 1.0, "Protocol negotiation".
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in accepted.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(1.0, |text| text.parse().unwrap_or(0.0));
            match name.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => open = open.max(quality),
                "text/plain" => plain = plain.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its content type.
    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        })
    }
}

/// Metrics with their values.
#[derive(Debug, Default)]
pub(crate) struct Page {
    families: Vec<Family>,
    /// The names of families and of their samples, none of which may be another family's.
    taken: HashSet<String>,
}

/// One metric and its series.
#[derive(Debug)]
struct Family {
    /// Without the `_total` of a counter, which is how OpenMetrics names it.
    name: Cow<'static, str>,
    help: Cow<'static, str>,
    kind: Kind,
    series: Vec<Series>,
}

type Labels = Vec<(Cow<'static, str>, String)>;

#[derive(Debug)]
struct Series {
    labels: Labels,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Number(f64),
    Distribution { sum: f64, by_bucket: Vec<(f64, u64)> },
}

impl Page {
    /// Adds a counter's value; `labels` are the values of the metric's labels, in their order.
    pub(crate) fn count(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        self.add(metric, labels, Value::Count(value));
    }

    /// Adds a value that need not be whole.
    pub(crate) fn number(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        self.add(metric, labels, Value::Number(value));
    }

    /// Adds a histogram.
    pub(crate) fn histogram(&mut self, metric: &'static Metric, labels: &[&str], tally: &Tally) {
        self.add(metric, labels, Value::Distribution { sum: tally.sum(), by_bucket: tally.by_bucket() });
    }

    /// Adds a gauge for each state something may be in: 1 for the one it is in, else 0.
    pub(crate) fn states(&mut self, metric: &'static Metric, name: &str, states: &[&str], current: &str) {
        for state in states {
            self.number(metric, &[name, state], f64::from(u8::from(*state == current)));
        }
    }

    fn add(&mut self, metric: &'static Metric, labels: &[&str], value: Value) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        let name = family_name(metric.name, metric.kind);
        let pairs = metric.labels.iter().zip(labels);
        let labels = pairs.map(|(label, value)| (Cow::Borrowed(*label), (*value).to_owned())).collect();
        let series = Series { labels, value };
        // Values come metric by metric, so that the family is the last one, if it is there at all.
        match self.families.iter_mut().rev().find(|family| family.name == name) {
            Some(family) => family.series.push(series),
            None => {
                self.taken.extend(names(name, metric.kind));
                let family = Family {
                    name: name.into(),
                    help: metric.help.into(),
                    kind: metric.kind,
                    series: vec![series],
                };
                self.families.push(family);
            }
        }
    }

    /// Adds a plugin's own metric, to the family of its name if there is one of its kind; says whether it could.
    pub(crate) fn own(&mut self, plugin: &str, metric: &crate::plugin::metrics::Family) -> bool {
        use crate::plugin::metrics::{BUCKETS, Kind as Declared, Value as Recorded};
        let kind = match metric.kind {
            Declared::Counter => Kind::Counter,
            Declared::Gauge => Kind::Gauge,
            Declared::Histogram => Kind::Histogram,
        };
        let name = family_name(&metric.name, kind);
        let series = metric.series.iter().map(|(values, value)| {
            let mut labels: Labels = vec![(Cow::Borrowed("plugin"), plugin.to_owned())];
            let own = metric.labels.iter().map(|label| match label.as_str() {
                // As Prometheus itself calls a label that would be there twice.
                "plugin" => "exported_plugin".to_owned(),
                label => label.to_owned(),
            });
            labels.extend(own.map(Cow::Owned).zip(values.iter().cloned()));
            let value = match value {
                Recorded::Number(number) => Value::Number(*number),
                Recorded::Distribution(seen) => {
                    let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
                    Value::Distribution { sum: seen.sum, by_bucket: bounds.zip(seen.counts).collect() }
                }
            };
            Series { labels, value }
        });
        let mut series: Vec<Series> = series.collect();
        match self.families.iter_mut().find(|family| family.name == name) {
            // The host's own have help of their own; a plugin's values are not to be taken for them.
            Some(family) if family.kind == kind && family.help == PLUGIN_HELP => {
                family.series.append(&mut series);
                true
            }
            Some(_) => false,
            None if names(name, kind).any(|name| self.taken.contains(&name)) => false,
            None => {
                self.taken.extend(names(name, kind));
                let name = name.to_owned().into();
                self.families.push(Family { name, help: PLUGIN_HELP.into(), kind, series });
                true
            }
        }
    }

    /// The page as text.
    pub(crate) fn write(self, format: Format) -> String {
        let counters: HashSet<String> = self
            .families
            .iter()
            .filter(|family| family.kind == Kind::Counter)
            .map(|family| family.name.clone().into_owned())
            .collect();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut open_metrics = String::new();
        text::encode(&mut open_metrics, &registry).expect("a String takes everything");
        match format {
            Format::OpenMetrics => open_metrics,
            Format::Prometheus => as_prometheus(&open_metrics, &counters),
        }
    }
}

/// The help of all plugins' own metrics: several plugins may share one.
const PLUGIN_HELP: &str = "A metric of plugins, as they declared it.";

/// The name without what OpenMetrics adds to a sample's.
fn family_name(name: &str, kind: Kind) -> &str {
    match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
        Kind::Gauge | Kind::Histogram => name,
    }
}

/// All names that a family takes up. Source: OpenMetrics 1.0, "Suffixes".
fn names(name: &str, kind: Kind) -> impl Iterator<Item = String> {
    let suffixes: &[&str] = match kind {
        Kind::Counter => &["", "_total", "_created"],
        Kind::Gauge => &[""],
        Kind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
    };
    suffixes.iter().map(move |suffix| format!("{name}{suffix}"))
}

/// The older text: a counter's family has its sample's name, and nothing says that the page is complete.
fn as_prometheus(open_metrics: &str, counters: &HashSet<String>) -> String {
    let mut page = String::with_capacity(open_metrics.len() + 16 * counters.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let described = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        match described.and_then(|rest| rest.split_once(' ')) {
            Some((name, rest)) if counters.contains(name) => {
                page.push_str(&line[.."# HELP ".len()]);
                page.push_str(name);
                page.push_str("_total ");
                page.push_str(rest);
            }
            _ => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.families {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut encoder = encoder.encode_descriptor(&family.name, &family.help, None, kind)?;
            for series in &family.series {
                if series.labels.is_empty() {
                    series.value.encode(family.kind, &mut encoder)?;
                } else {
                    series.value.encode(family.kind, &mut encoder.encode_family(&series.labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// There are no exemplars.
const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;
/// As above, of a histogram.
const NO_EXEMPLARS: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;

impl Value {
    fn encode(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match (self, kind) {
            (Self::Count(count), Kind::Counter) => encoder.encode_counter(count, NO_EXEMPLAR),
            (Self::Number(number), Kind::Counter) => encoder.encode_counter(number, NO_EXEMPLAR),
            (Self::Count(count), _) => encoder.encode_gauge(count),
            (Self::Number(number), _) => encoder.encode_gauge(number),
            (Self::Distribution { sum, by_bucket }, _) => {
                let count = by_bucket.iter().map(|(_, count)| count).sum();
                encoder.encode_histogram(*sum, count, by_bucket, NO_EXEMPLARS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::histogram::GAP;
    use crate::plugin::metrics::{Kind as Declared, Registry as Own};

    static COUNTER: Metric = Metric { name: "a_total", kind: Kind::Counter, labels: &["x"], help: "An a." };
    static GAUGE: Metric = Metric { name: "b", kind: Kind::Gauge, labels: &[], help: "A b." };
    static TIMES: Metric = Metric { name: "c_seconds", kind: Kind::Histogram, labels: &["x"], help: "A c." };

    fn page() -> Page {
        let mut page = Page::default();
        page.count(&COUNTER, &["\"\\\n"], 3);
        page.count(&COUNTER, &["é"], u64::MAX);
        page.number(&GAUGE, &[], 0.5);
        page
    }

    #[test]
    fn both_texts_say_the_same() {
        let samples = "a_total{x=\"\\\"\\\\\\n\"} 3\na_total{x=\"é\"} 18446744073709551615\n";
        assert_eq!(
            page().write(Format::OpenMetrics),
            format!(
                "# HELP a An a.\n# TYPE a counter\n{samples}# HELP b A b.\n# TYPE b gauge\nb 0.5\n# EOF\n"
            )
        );
        assert_eq!(
            page().write(Format::Prometheus),
            format!(
                "# HELP a_total An a.\n# TYPE a_total counter\n{samples}# HELP b A b.\n# TYPE b gauge\nb 0.5\n"
            )
        );
    }

    #[test]
    fn a_histogram_ends_with_all_of_it() {
        let mut tally = Tally::new(&GAP);
        tally.time(Duration::from_millis(2));
        tally.time(Duration::from_secs(20));
        let mut page = Page::default();
        page.histogram(&TIMES, &["y"], &tally);
        let text = page.write(Format::Prometheus);
        for line in [
            "c_seconds_sum{x=\"y\"} 20.002",
            "c_seconds_count{x=\"y\"} 2",
            "c_seconds_bucket{le=\"0.001\",x=\"y\"} 0",
            "c_seconds_bucket{le=\"0.002\",x=\"y\"} 1",
            "c_seconds_bucket{le=\"+Inf\",x=\"y\"} 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
    }

    #[track_caller]
    fn check_format(accept: &[&str], expected: Format) {
        let headers = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_str(value).unwrap()));
        assert_eq!(Format::of(&headers.collect()), expected, "{accept:?}");
    }

    #[test]
    fn a_scraper_gets_what_it_likes_best() {
        check_format(&[], Format::Prometheus);
        check_format(&["*/*"], Format::Prometheus);
        check_format(&["text/plain"], Format::Prometheus);
        check_format(&["application/openmetrics-text"], Format::OpenMetrics);
        check_format(&["application/openmetrics-text;q=0"], Format::Prometheus);
        check_format(
            &["Application/OpenMetrics-Text; version=1.0.0 ; q=0.7", "text/plain;q=0.3"],
            Format::OpenMetrics,
        );
        check_format(&["application/openmetrics-text;q=0.2,text/plain;q=0.3"], Format::Prometheus);
        check_format(&["application/openmetrics-text;q=much"], Format::Prometheus);
        // Prometheus 2.42 and 3.
        check_format(
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            Format::OpenMetrics,
        );
        check_format(
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.1",
            ],
            Format::OpenMetrics,
        );
    }

    /// The metrics of a plugin, each set to 1 once.
    fn own(plugin: &str, declared: &[(&str, Declared)]) -> Vec<crate::plugin::metrics::Family> {
        let registry = Own::new(plugin, 10);
        for (name, kind) in declared {
            let id = registry.declare(name, *kind, &["plugin".to_owned()]).unwrap();
            registry.record(id, 1.0, vec!["mine".to_owned()]);
        }
        registry.snapshot().families
    }

    #[test]
    fn plugins_share_a_name_if_they_mean_the_same_kind() {
        let mut page = Page::default();
        let first = own("a-b", &[("c", Declared::Counter), ("d", Declared::Gauge)]);
        let second = own("a", &[("b_c", Declared::Counter), ("b_d", Declared::Counter)]);
        assert!(page.own("a-b", &first[0]) && page.own("a-b", &first[1]));
        assert!(page.own("a", &second[0]) && !page.own("a", &second[1]));
        assert_eq!(
            page.write(Format::Prometheus),
            "# HELP witgate_plugin_a_b_c_total A metric of plugins, as they declared it.\n\
             # TYPE witgate_plugin_a_b_c_total counter\n\
             witgate_plugin_a_b_c_total{plugin=\"a-b\",exported_plugin=\"mine\"} 1.0\n\
             witgate_plugin_a_b_c_total{plugin=\"a\",exported_plugin=\"mine\"} 1.0\n\
             # HELP witgate_plugin_a_b_d A metric of plugins, as they declared it.\n\
             # TYPE witgate_plugin_a_b_d gauge\n\
             witgate_plugin_a_b_d{plugin=\"a-b\",exported_plugin=\"mine\"} 1.0\n"
        );
    }

    #[test]
    fn no_plugin_takes_a_name_that_is_taken() {
        static CALLS: Metric =
            Metric { name: "witgate_plugin_calls_total", kind: Kind::Counter, labels: &[], help: "Calls." };
        let mut page = Page::default();
        page.count(&CALLS, &[], 1);
        let same = own("calls", &[("total", Declared::Counter)]);
        assert!(!page.own("calls", &same[0]), "not even of the same kind");
        let parts = own(
            "x",
            &[("y", Declared::Histogram), ("y_count", Declared::Gauge), ("y_sum", Declared::Counter)],
        );
        assert!(page.own("x", &parts[0]));
        assert!(!page.own("x", &parts[1]), "it is a part of the histogram");
        assert!(!page.own("x", &parts[2]), "it is a part of the histogram");
    }
}
