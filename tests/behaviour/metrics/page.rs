//! Reading a page of metrics.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use witgate_tests::{Gateway, Request};

/// What `/metrics` says, in Prometheus's text.
pub(super) struct Page {
    series: Vec<Series>,
    written: BTreeSet<String>,
}

/// One line of it.
pub(super) struct Series {
    /// The name of the sample.
    pub(super) name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Scrapes a gateway.
#[track_caller]
pub(super) fn page(gateway: &Gateway) -> Page {
    Page::parse(gateway.send_admin(&Request::get("/metrics")).expect(200).text())
}

impl Page {
    #[track_caller]
    fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let written: BTreeSet<String> = lines
            .iter()
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, _)| series.to_owned())
            .collect();
        assert_eq!(written.len(), lines.len(), "no series is there twice");
        Self { series: lines.into_iter().map(Series::parse).collect(), written }
    }

    /// All series.
    pub(super) fn series(&self) -> impl Iterator<Item = &Series> {
        self.series.iter()
    }

    /// All series as they are written, without their values.
    pub(super) fn written(&self) -> &BTreeSet<String> {
        &self.written
    }

    /// The names of all samples.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.series.iter().map(|series| series.name.clone()).collect()
    }

    /// The sum of all series of that name with these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let found = self.series.iter().filter(|series| series.name == name && series.has(labels));
        found.map(|series| series.value).sum()
    }

    /// The values of a label.
    pub(super) fn labels(&self, name: &str, label: &str) -> BTreeSet<String> {
        let found = self.series.iter().filter(|series| series.name == name);
        found.map(|series| series.label(label)).collect()
    }
}

impl Series {
    #[track_caller]
    fn parse(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').expect("a line has a value");
        let (name, labels) = match series.split_once('{') {
            None => (series, ""),
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("braces are closed")),
        };
        // No value of these tests has a quote or a comma in it.
        let pair = |pair: &str| {
            let (label, value) = pair.split_once("=\"").expect("a label has a value");
            (label.to_owned(), value.trim_end_matches('"').to_owned())
        };
        let labels = labels.split(',').filter(|text| !text.is_empty()).map(pair).collect();
        Self { name: name.to_owned(), labels, value: value.parse().expect("a value is a number") }
    }

    /// Whether it has these labels, among others.
    pub(super) fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(label, value)| self.label(label) == *value)
    }

    /// The value of a label; empty where it has none of that name.
    pub(super) fn label(&self, label: &str) -> String {
        let found = self.labels.iter().find(|(known, _)| known == label);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }
}

/// Runs a command to its end with a text as its input; gives what it printed.
///
/// # Panics
/// When it fails; the message is what it printed.
#[track_caller]
pub(super) fn piped(command: &mut Command, text: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut input = child.stdin.take().expect("it is piped");
    let text = text.to_owned();
    let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("it is our child");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    writing.join().expect("it does not panic").expect("the command reads its input");
    format!("{out}{err}")
}
