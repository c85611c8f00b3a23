//! `witgate plugin bench`: what a plugin costs, hook by hook.
//!
//! The calls are the gateway's own, without sockets around them. A fresh instance is what every exchange gets unless the
//! operator says otherwise; a reused one is what `instance: { reuse: … }` gives.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use tokio::time::Instant;

use super::{TrialArguments, trial};
use crate::cli::serve;
use crate::config::env::Environment;
use crate::config::{Reuse, ReuseScope};
use crate::error::{Error, ErrorKind};
use crate::plugin::{Loaded, Owner};
use crate::plugin::call::Facts;
use crate::plugin::chain::{Candidate, Chain, Failure, View};
use crate::plugin::hook::Hook;
use crate::plugin::stages::{End, Stages};
use crate::plugin::worker::AuditRecord;
use crate::wire::Endpoint;
use crate::wire::document::Document;

/// Calls before the first that counts.
const WARM_UP: u32 = 10;
/// After so many reads another stream is opened, so that what a plugin withholds does not grow without bound.
const READS_MAX: u32 = 256;
/// The numbers of events in one read.
const READS: [usize; 3] = [1, 8, 64];
const MODEL: &str = "model";
const REQUEST: &str = r#"{"model":"model","messages":[{"role":"user","content":"What is the capital of France, and why?"}],"stream":true}"#;
const ANSWER: &str = r#"{"id":"1","object":"chat.completion","created":1,"model":"model","choices":[{"index":0,"message":{"role":"assistant","content":"Paris, because."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;
const EVENT: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"model\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word \"},\"finish_reason\":null}]}\n\n";

/// Prints the cost of every hook that the plugin has.
///
/// # Errors
///
/// A message when the plugin cannot be loaded, or breaks.
pub(super) fn run(
    arguments: &TrialArguments,
    iterations: u32,
    environment: &Environment,
) -> Result<(), String> {
    let config = trial::config(arguments, "builtin:echo", environment)?;
    let mut reusing = config.clone();
    for plugin in &mut reusing.plugins {
        plugin.reuse = Reuse { uses_max: u64::MAX, memory_max: u64::MAX, scope: ReuseScope::Any };
    }
    serve::runtime()?.block_on(async {
        let fresh = Bench { loaded: trial::load(config).await?, iterations };
        let reused = Bench { loaded: trial::load(reusing).await?, iterations };
        let mut rows = vec![Row {
            name: "start: instance and init".to_owned(),
            fresh: Some(fresh.start().await?),
            reused: None,
        }];
        for hook in fresh.loaded.hooks.iter() {
            Box::pin(measure(hook, &fresh, &reused, &mut rows)).await?;
        }
        print!("{}", table(&rows));
        if cfg!(debug_assertions) {
            eprintln!("this is a debug build of witgate; a release build is several times faster");
        }
        Ok(())
    })
}

async fn measure(hook: Hook, fresh: &Bench, reused: &Bench, rows: &mut Vec<Row>) -> Result<(), String> {
    let hooks = fresh.loaded.hooks;
    let has_both = hooks.has(Hook::StreamText) && hooks.has(Hook::StreamEvents);
    let name = if has_both { "stream-text, stream-events" } else { hook.name() };
    match hook {
        // Both see the same stream: it was measured with the first.
        Hook::StreamEvents if has_both => {}
        Hook::StreamText | Hook::StreamEvents => {
            let (fresh, opened) = (fresh.open().await?, reused.open().await?);
            rows.push(Row {
                name: format!("{name}: open and finish"),
                fresh: Some(fresh),
                reused: Some(opened),
            });
            for events in READS {
                let name = format!("{name}: a read of {events} event{}", if events == 1 { "" } else { "s" });
                rows.push(Row { name, fresh: None, reused: reused.push(events).await? });
            }
        }
        Hook::OnComplete | Hook::OnTick => {
            rows.push(Row {
                name: hook.name().to_owned(),
                fresh: None,
                reused: Some(reused.work(hook).await?),
            });
        }
        _ => {
            let (fresh, reused) = (fresh.call(hook).await?, reused.call(hook).await?);
            rows.push(Row { name: hook.name().to_owned(), fresh: Some(fresh), reused: Some(reused) });
        }
    }
    Ok(())
}

/// A plugin to be measured.
struct Bench {
    loaded: Loaded,
    iterations: u32,
}

/// How long calls took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    median: Duration,
    p99: Duration,
}

/// What one line of the table says.
struct Row {
    name: String,
    fresh: Option<Times>,
    reused: Option<Times>,
}

impl Bench {
    /// Times calls that a plugin may refuse but must not break in.
    async fn time(&self, mut call: impl AsyncFnMut() -> Result<(), Error>) -> Result<Times, String> {
        let mut took = Vec::with_capacity(self.iterations as usize);
        for number in 0..WARM_UP + self.iterations {
            let began = Instant::now();
            let outcome = call().await;
            let time = began.elapsed();
            check(outcome)?;
            if number >= WARM_UP {
                took.push(time);
            }
        }
        Ok(Times::of(took))
    }

    async fn start(&self) -> Result<Times, String> {
        let plugin = &self.loaded.plugins[0];
        self.time(async || {
            plugin.instance(&Owner::default()).await.map(drop).map_err(|miss| miss.into_error(&plugin.settings.name))
        })
        .await
    }

    fn facts(&self) -> Arc<Facts> {
        Arc::new(Facts {
            id: "bench".to_owned(),
            tenant: None,
            endpoint: Some(Endpoint::ChatCompletions),
            is_stream: true,
            started: Instant::now(),
            credential: None,
        })
    }

    fn chain(&self, facts: &Facts) -> Chain {
        let mut chain = Chain::begin(&self.loaded);
        chain.select(facts, MODEL, None);
        chain
    }

    /// Times one hook of an exchange, from the plugin's instance to its giving back.
    async fn call(&self, hook: Hook) -> Result<Times, String> {
        let facts = self.facts();
        let head = Request::post("/v1/chat/completions").body(()).expect("the path is one").into_parts().0;
        let (candidates, failure) = ([candidate("first"), candidate("second")], failure());
        self.time(async || {
            let mut chain = self.chain(&facts);
            let text = if hook == Hook::OnResponse { ANSWER } else { REQUEST };
            let mut view = view(&facts, Some(text));
            match hook {
                Hook::Authenticate => {
                    let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
                    chain.authenticate(Some(Endpoint::ChatCompletions), &head, client).await.map(drop)
                }
                Hook::OnRequest => chain.on_request(&mut view).await.map(drop),
                Hook::OnRoute => chain.on_route(&mut view, &candidates).await.map(drop),
                Hook::OnUpstreamRequest => {
                    (view.attempt, view.upstream) = (1, Some("first".into()));
                    chain.on_upstream_request(&mut view).await.map(drop)
                }
                Hook::OnResponse => chain.on_response(&mut view, StatusCode::OK).await.map(drop),
                Hook::OnError => chain.on_error(&mut view, &failure).await.map(drop),
                // They are measured elsewhere.
                Hook::StreamText | Hook::StreamEvents | Hook::OnComplete | Hook::OnTick => Ok(()),
            }
        })
        .await
    }

    async fn stages(&self, facts: &Arc<Facts>) -> Result<Option<Stages>, Error> {
        let chain = self.chain(facts);
        let mut view = view(facts, None);
        let (stages, opened) = Stages::open(chain, Endpoint::ChatCompletions, &mut view, true).await;
        opened.map(|()| Some(stages).filter(|stages| !stages.are_none()))
    }

    /// Times a stream without text, from the plugin's instance to its giving back.
    async fn open(&self) -> Result<Times, String> {
        let facts = self.facts();
        self.time(async || match self.stages(&facts).await? {
            Some(mut stages) => stages.finish(End::Complete, Vec::new(), &mut Vec::new()).await,
            None => Ok(()),
        })
        .await
    }

    /// Times a read of some events, their parsing included; none when the plugin takes no stream.
    async fn push(&self, events: usize) -> Result<Option<Times>, String> {
        let facts = self.facts();
        let read = Bytes::from(EVENT.repeat(events));
        let mut took = Vec::with_capacity(self.iterations as usize);
        let mut out = Vec::new();
        while took.len() < self.iterations as usize {
            let stages = self.stages(&facts).await;
            let mut stages = match stages {
                Ok(Some(stages)) => stages,
                Ok(None) => return Ok(None),
                Err(error) => return check(Err(error)).map(|()| None),
            };
            for _ in 0..READS_MAX {
                let began = Instant::now();
                let outcome = stages.push(vec![read.clone()], &mut out).await;
                took.push(began.elapsed());
                out.clear();
                let is_over = outcome.is_err() || stages.is_idle();
                check(outcome)?;
                if is_over || took.len() >= self.iterations as usize {
                    break;
                }
            }
            check(stages.finish(End::Complete, Vec::new(), &mut out).await)?;
            out.clear();
        }
        Ok(Some(Times::of(took)))
    }

    /// Times a hook of the long-lived instance.
    async fn work(&self, hook: Hook) -> Result<Times, String> {
        let plugin = &self.loaded.plugins[0];
        let mut singleton = plugin.singleton();
        let batch = [record()];
        self.time(async || {
            let called = match hook {
                Hook::OnComplete => singleton.call_complete(&batch).await.map(drop),
                _ => singleton.call_tick(1_800_000_000_000).await,
            };
            called.map_err(|miss| miss.into_error(&plugin.settings.name))
        })
        .await
    }
}

/// Passes a plugin's no, which is policy, and stops at what is a fault.
fn check(outcome: Result<(), Error>) -> Result<(), String> {
    match outcome {
        Err(error) if !matches!(error.kind, ErrorKind::Rejected(_)) => {
            let cause = error.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
            Err(format!("{error}{cause}"))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn view(facts: &Arc<Facts>, text: Option<&'static str>) -> View {
    let document = text.map(|text| Document::trusted(Bytes::from_static(text.as_bytes())));
    View::new(facts.clone(), MODEL.into(), HeaderMap::new(), document)
}

fn candidate(name: &str) -> Candidate {
    Candidate {
        id: name.to_owned(),
        dialect: "openai".to_owned(),
        model: MODEL.to_owned(),
        weight: 1,
        healthy: true,
        cost_micro_usd_per_mtok: None,
        p50_ttft_ms: None,
    }
}

fn failure() -> Failure {
    Failure {
        status: 504,
        code: "upstream_timeout".to_owned(),
        message: "the upstream did not answer in time".to_owned(),
        upstream: Some("first".to_owned()),
        attempt: 1,
        retryable: true,
    }
}

fn record() -> AuditRecord {
    AuditRecord {
        id: "bench".to_owned(),
        tenant: None,
        operation: "chat.completions".to_owned(),
        model: MODEL.to_owned(),
        upstream: Some("first".to_owned()),
        status: 200,
        finish: None,
        usage: None,
        started_unix_ms: 1_800_000_000_000,
        ttft_us: Some(100_000),
        total_us: 1_000_000,
        tags: Vec::new(),
        request_body: None,
        response_body: None,
    }
}

impl Times {
    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
        Self { median: at(50), p99: at(99) }
    }
}

/// The rows in columns, in microseconds.
fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let mut text =
        format!("{:<width$}  {:>18}  {:>18}\n", "µs per call", "fresh instance", "reused instance");
    writeln!(text, "{:<width$}  {:>9}{:>9}  {:>9}{:>9}", "", "median", "p99", "median", "p99")
        .expect("a String takes all");
    for row in rows {
        write!(text, "{:<width$}", row.name).expect("a String takes all");
        for times in [row.fresh, row.reused] {
            match times {
                Some(Times { median, p99 }) => {
                    write!(text, "  {:>9.1}{:>9.1}", median.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6)
                }
                None => write!(text, "  {:>9}{:>9}", "-", "-"),
            }
            .expect("a String takes all");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_middle_and_their_end() {
        let took = (0..=100).rev().map(Duration::from_micros).collect();
        let times = Times::of(took);
        assert_eq!(times, Times { median: Duration::from_micros(50), p99: Duration::from_micros(99) });
        assert_eq!(Times::of(Vec::new()).median, Duration::ZERO);
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let times = Times { median: Duration::from_nanos(1500), p99: Duration::from_micros(20) };
        let text = table(&[Row { name: "on-request".to_owned(), fresh: Some(times), reused: None }]);
        assert!(text.ends_with("on-request        1.5     20.0          -        -\n"), "{text:?}");
    }

    #[test]
    fn what_a_plugin_refuses_is_no_fault() {
        let fault = Error::new(ErrorKind::PluginFault, "the plugin `a` failed (panic)")
            .with_source("boom".to_owned());
        assert_eq!(check(Err(fault)).unwrap_err(), "the plugin `a` failed (panic): boom");
        assert_eq!(check(Ok(())), Ok(()));
    }
}
