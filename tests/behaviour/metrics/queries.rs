//! Every query of the dashboard and the rules under `config/monitoring`, held against a live page and a live Prometheus.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use witgate_tests::tool::{finish, is_there, repository};
use witgate_tests::{Connection, Gateway, PATIENCE, Request, now};

use super::page::Page;
use super::{Scene, chat, settled};

/// How long Prometheus may take until every query has an answer: some scrapes, a second apart.
const SCRAPED_TIME_MAX: Duration = Duration::from_secs(90);
/// The alerts that what happens here has to set off.
const SET_OFF: [&str; 5] = [
    "WitgateRequestsFail",
    "WitgateUpstreamFailing",
    "WitgateUpstreamErrors",
    "WitgatePluginBreaks",
    "WitgateReloadFailed",
];

/// One query, and where it stands.
struct Query {
    place: String,
    text: String,
    /// Whether it has an answer as soon as there was traffic; alerts have none while all is well.
    has_answer: bool,
}

fn folder() -> PathBuf {
    repository().join("config/monitoring")
}

/// The queries of the dashboard, with every upstream and model selected.
fn dashboard() -> Vec<Query> {
    let text = std::fs::read_to_string(folder().join("dashboard.json")).expect("the dashboard is there");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let mut queries = Vec::new();
    let mut add = |place: &Value, text: &Value, has_answer| {
        let text = text.as_str().expect("a query is text");
        let text = text.replace("$__rate_interval", "1m").replace("$upstream", ".*").replace("$model", ".*");
        assert!(!text.contains('$'), "{text}");
        queries.push(Query { place: place.to_string(), text, has_answer });
    };
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            add(&panel["title"], &target["expr"], true);
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().expect("it has annotations") {
        add(&annotation["name"], &annotation["expr"], false);
    }
    for variable in dashboard["templating"]["list"].as_array().expect("it has variables") {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.split(',').next());
        let metric = inside.expect("it lists the values of a label").to_owned();
        add(&variable["name"], &Value::String(metric), true);
    }
    queries
}

/// The queries of the rules. The file is read line by line: a query stands behind `expr:`, or indented below it.
fn rules() -> Vec<Query> {
    let text = std::fs::read_to_string(folder().join("rules.yml")).expect("the rules are there");
    let mut queries: Vec<Query> = Vec::new();
    let mut rule = ("", "");
    let mut is_open = false;
    for line in text.lines() {
        let trimmed = line.trim();
        let entry = trimmed.strip_prefix("- ").unwrap_or(trimmed);
        if let Some((kind @ ("record" | "alert"), name)) = entry.split_once(": ") {
            rule = (kind, name);
            is_open = false;
        } else if let Some(query) = trimmed.strip_prefix("expr: ") {
            is_open = query == ">-";
            let text = if is_open { String::new() } else { query.to_owned() };
            queries.push(Query { place: rule.1.to_owned(), text, has_answer: rule.0 == "record" });
        } else if is_open && line.starts_with("          ") {
            let query = queries.last_mut().expect("a query was begun");
            query.text = format!("{} {trimmed}", query.text);
        } else {
            is_open = false;
        }
    }
    queries
}

/// What a query names.
#[derive(Default)]
struct Parts {
    selectors: Vec<Selector>,
    /// The labels that it groups or joins by.
    labels: Vec<String>,
}

/// A metric, and what its labels have to be.
struct Selector {
    name: String,
    matchers: Vec<Matcher>,
}

/// One label of a selector, and the values that it names: those of `=` and `!=`, and the branches of `=~` and `!~`.
#[derive(Debug, PartialEq)]
struct Matcher {
    label: String,
    values: Vec<String>,
}

impl Parts {
    #[track_caller]
    fn of(query: &str) -> Self {
        /// What is written like a name and is none.
        const WORDS: [&str; 15] = [
            "and",
            "or",
            "unless",
            "by",
            "on",
            "without",
            "ignoring",
            "group_left",
            "group_right",
            "bool",
            "sum",
            "min",
            "max",
            "avg",
            "count",
        ];
        /// Words whose parentheses hold labels.
        const OF_LABELS: [&str; 6] = ["by", "on", "without", "ignoring", "group_left", "group_right"];
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
        let mut parts = Self::default();
        let mut rest = query;
        while let Some(letter) = rest.chars().next() {
            let length = match letter {
                '{' => {
                    let length = rest.find('}').expect("braces are closed") + 1;
                    let selector = parts.selectors.last_mut().expect("a metric has a name");
                    selector.matchers = Matcher::all(&rest[1..length - 1]);
                    length
                }
                '[' => rest.find(']').expect("brackets are closed") + 1,
                letter if is_part(letter) => {
                    let length = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
                    let word = &rest[..length];
                    let after = rest[length..].trim_start();
                    let is_number = word.starts_with(|letter: char| letter.is_ascii_digit());
                    if OF_LABELS.contains(&word) && after.starts_with('(') {
                        let end = after.find(')').expect("parentheses are closed");
                        let labels = after[1..end].split(',').map(|label| label.trim().to_owned());
                        parts.labels.extend(labels.filter(|label| !label.is_empty()));
                        rest = &after[end + 1..];
                        continue;
                    }
                    if !is_number && !WORDS.contains(&word) && !after.starts_with('(') {
                        parts.selectors.push(Selector { name: word.to_owned(), matchers: Vec::new() });
                    }
                    length
                }
                letter => letter.len_utf8(),
            };
            rest = &rest[length..];
        }
        parts
    }

    fn names(&self) -> BTreeSet<String> {
        self.selectors.iter().map(|selector| selector.name.clone()).collect()
    }
}

impl Matcher {
    /// Those between two braces. No value of the queries has a comma in it.
    #[track_caller]
    fn all(text: &str) -> Vec<Self> {
        let matcher = |text: &str| {
            let (label, value) = text.split_once(['=', '!']).expect("a label is held against something");
            let value = value.trim_start_matches(['=', '~']);
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let values = value.expect("a value is quoted").split('|').map(str::to_owned);
            Self { label: label.trim().to_owned(), values: values.collect() }
        };
        text.split(',').filter(|text| !text.trim().is_empty()).map(matcher).collect()
    }
}

/// The names of metrics in a query.
#[track_caller]
fn names(query: &str) -> BTreeSet<String> {
    Parts::of(query).names()
}

#[track_caller]
fn check_names(query: &str, expected: &[&str]) {
    assert_eq!(names(query).into_iter().collect::<Vec<_>>(), expected, "{query}");
}

#[test]
fn names_are_told_from_the_rest_of_a_query() {
    check_names("up", &["up"]);
    check_names("sum by (le, b) (rate(a_total{c=\"d\",e=~\"f|g\"}[5m])) > 0.5", &["a_total"]);
    check_names("a:b5m / on (c) group_left d or vector(0)", &["a:b5m", "d"]);
    check_names("histogram_quantile(0.9, sum by(le)(x_bucket)) unless on () y", &["x_bucket", "y"]);
}

#[test]
fn labels_and_their_values_are_found_in_a_query() {
    let parts = Parts::of("sum by (le, b) (a{c=\"d\",e!~\"f|g\"}[5m]) / on (h) group_left i{} > 0.5");
    let matcher = |label: &str, values: &[&str]| Matcher {
        label: label.to_owned(),
        values: values.iter().map(|value| (*value).to_owned()).collect(),
    };
    assert_eq!(parts.selectors[0].matchers, [matcher("c", &["d"]), matcher("e", &["f", "g"])]);
    assert_eq!(parts.selectors[1].matchers, []);
    assert_eq!(parts.labels, ["le", "b", "h"]);
}

/// What of a query no series of a page has.
fn absent(query: &Query, page: &Page) -> Vec<String> {
    /// What Prometheus adds to every series.
    const OF_TARGET: [&str; 2] = ["instance", "job"];
    let parts = Parts::of(&query.text);
    let mut absent = Vec::new();
    for Selector { name, matchers } in &parts.selectors {
        for Matcher { label, values } in matchers {
            let there = page.labels(name, label);
            let unknown = values.iter().filter(|value| *value != ".*" && !there.contains(*value));
            absent.extend(unknown.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
            if there.iter().all(String::is_empty) {
                absent.push(format!("{name}{{{label}}}"));
            }
        }
    }
    // What a rule has recorded has the labels that its query leaves.
    if parts.selectors.iter().all(|selector| !selector.name.contains(':')) {
        let has = |label: &String| {
            let mut names = parts.selectors.iter().map(|selector| &selector.name);
            names.any(|name| page.labels(name, label).iter().any(|value| !value.is_empty()))
        };
        absent.extend(
            parts.labels.iter().filter(|label| !OF_TARGET.contains(&label.as_str()) && !has(label)).cloned(),
        );
    }
    absent
}

/// What the rules add to the names of a page.
fn recorded() -> BTreeSet<String> {
    rules().into_iter().filter(|query| query.has_answer).map(|query| query.place).collect()
}

#[test]
fn the_dashboard_and_the_rules_name_only_what_there_is() {
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    scene.happen(&gateway);
    gateway.send(&chat("nick", false).header("x-fault", "panic")).expect(200);
    let page = settled(&gateway, 12.0);
    let names_there: BTreeSet<String> = page.names().union(&recorded()).cloned().collect();
    let (dashboard, rules) = (dashboard(), rules());
    assert!(dashboard.len() > 50 && rules.len() > 15, "{} and {}", dashboard.len(), rules.len());
    for query in dashboard.iter().chain(&rules) {
        let unknown: Vec<String> =
            names(&query.text).into_iter().filter(|name| !names_there.contains(name)).collect();
        assert_eq!(unknown, [""; 0], "{}: {}", query.place, query.text);
        assert!(!names(&query.text).is_empty(), "{}: {}", query.place, query.text);
        assert_eq!(absent(query, &page), [""; 0], "{}: {}", query.place, query.text);
    }
    // What would be found.
    for (text, expected) in [
        (
            "witgate_upstream_condition{condition=\"faling\"} == 1",
            "witgate_upstream_condition{condition=\"faling\"}",
        ),
        ("witgate_upstream_enabled{upstrem=~\".*\"}", "witgate_upstream_enabled{upstrem}"),
        ("sum by (plugins) (witgate_plugin_calls_total)", "plugins"),
    ] {
        let query = Query { place: "here".to_owned(), text: text.to_owned(), has_answer: true };
        assert_eq!(absent(&query, &page), [expected]);
    }
}

#[test]
fn the_rules_are_valid() {
    if is_there("promtool") {
        finish(Command::new("promtool").args(["check", "rules"]).arg(folder().join("rules.yml")));
    }
}

/// A running Prometheus; it is killed when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes a gateway every second and works out the rules as often.
    #[track_caller]
    fn before(gateway: &Gateway) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let rules = super::queries::folder().join("rules.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\nrule_files: [\"{}\"]\nscrape_configs: [{{ job_name: witgate, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
            rules.display(),
            gateway.admin(),
        );
        std::fs::write(folder.path().join("prometheus.yml"), config)
            .expect("the temporary folder is writable");
        let mut child = Command::new("prometheus")
            .current_dir(folder.path())
            .args([
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                "--web.listen-address=127.0.0.1:0",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be run");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        // It ends with the process, whose log it reads to the end.
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut prometheus = Self { child, address: unknown, _folder: folder };
        let mut log = String::new();
        while prometheus.address == unknown {
            let Ok(line) = lines.recv_timeout(PATIENCE) else { panic!("Prometheus does not start:\n{log}") };
            if line.contains("Listening on") {
                let address = line.split("address=").nth(1).expect("it says where");
                prometheus.address = address.trim().parse().expect("it says an address");
            }
            log.push_str(&line);
            log.push('\n');
        }
        prometheus
    }

    /// What a query comes to now.
    #[track_caller]
    fn ask(&self, query: &Query) -> Vec<Value> {
        let encoded: String = query.text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = Request::get(&format!("/api/v1/query?query={encoded}")).host(&self.address.to_string());
        let answer = Connection::open(self.address).send(&request);
        if answer.status() == 503 {
            // It still starts.
            return Vec::new();
        }
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{}: {}: {answer}", query.place, query.text);
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// Every query against a live scrape.
#[test]
fn prometheus_answers_every_query() {
    if !is_there("prometheus") {
        return;
    }
    let scene = Scene::new();
    let gateway = Gateway::start(&scene.config(""));
    // Before the first scrape, so that nothing that grows later is new then.
    scene.happen(&gateway);
    gateway.rewrite_config("upstreams: [{ name: good }]\n");
    gateway.send_admin(&Request::post("/admin/reload", "{}")).expect(422);
    let prometheus = Prometheus::before(&gateway);
    let has_answer = |query: &Query| query.has_answer || SET_OFF.contains(&query.place.as_str());
    let (mut waiting, alerts): (Vec<Query>, Vec<Query>) =
        dashboard().into_iter().chain(rules()).partition(has_answer);
    let set_off = waiting.iter().filter(|query| !query.has_answer);
    assert_eq!(set_off.count(), SET_OFF.len(), "all of them are rules");
    let began = now();
    while !waiting.is_empty() {
        let left: Vec<&str> = waiting.iter().map(|query| query.text.as_str()).collect();
        assert!(began.elapsed() < SCRAPED_TIME_MAX, "no answer to\n{}", left.join("\n"));
        scene.happen(&gateway);
        // Seldom enough that the plugin is not quarantined.
        gateway.send(&chat("nick", false).header("x-fault", "panic")).expect(200);
        waiting.retain(|query| prometheus.ask(query).is_empty());
        std::thread::sleep(Duration::from_millis(200));
    }
    for alert in alerts {
        prometheus.ask(&alert);
    }
}
