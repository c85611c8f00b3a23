//! `witgate serve`: listens until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::audit::Searches;
use crate::audit::{self, Audit};
use crate::budget::Budget;
use crate::config::{Config, Input, Origin, State, Target};
use crate::exchange::Activity;
use crate::gateway::Gateway;
use crate::health;
use crate::limit::{Limits, store};
use crate::log::Log;
use crate::plugin::Runtime;
use crate::reload::Reloader;
use crate::server::{self, Stop, Surface};
use crate::shared::Shared;
use crate::snapshot::{Snapshot, Snapshots};
use crate::traces::Traces;
use crate::upstream;
use crate::upstream::breaker::Change;

/// How often idle upstream connections and plugin instances are looked at.
const PRUNE_INTERVAL: Duration = Duration::from_secs(5);
/// How often what was used of limits is written; so much of it is lost at most where the process is killed.
const SAVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long streams that were cut off may take to tell their clients.
const CUT_OFF_TIME_MAX: Duration = Duration::from_secs(1);
/// How long plugins may take for the ends of streams whose clients have left.
const LEFT_TIME_MAX: Duration = Duration::from_secs(2);
/// How long plugins may take for the records of exchanges that are over.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the collector may take for the last spans.
const TRACES_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the audit may take for what is still queued, before it is put aside for the next start.
const RECORD_TIME_MAX: Duration = Duration::from_secs(15);
/// How long the server that gateways share may take for what was used last.
const SHARED_TIME_MAX: Duration = Duration::from_millis(500);
/// How long what still runs then, as a search of the audit does, may take to notice.
const THREADS_TIME_MAX: Duration = Duration::from_secs(1);
/// How long the last lines of the log may take.
const LOG_TIME_MAX: Duration = Duration::from_secs(2);
/// The status of a process that was told twice to stop. Source: the shells' 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Runs the gateway.
///
/// # Errors
///
/// A message when it cannot start.
pub(super) fn run(input: Input) -> Result<(), String> {
    let (config, warnings) = input.load().map_err(|problems| problems.to_string())?;
    let log = Log::start(&config.log, &input.environment)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(input, config, &log));
    // Dropped, it would wait for its threads, however long they are held up.
    runtime.shutdown_timeout(THREADS_TIME_MAX);
    log.flush(LOG_TIME_MAX);
    ended
}

/// One thread where there is one processor: handing tasks from thread to thread would only cost.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match processors {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build().map_err(|error| format!("the runtime cannot start: {error}"))
}

async fn serve(input: Input, config: Config, log: &Log) -> Result<(), String> {
    // Before anybody can know that it runs: a signal without a handler would end it.
    let mut signals = Signals::new()?;
    let main = server::bind(config.server.listen, "--listen").await?;
    let admin = server::bind(config.server.admin, "--admin").await?;
    let shared = Shared::start(&config.state).await?;
    let plugins = Arc::new(Runtime::new(shared.as_ref().map(|shared| shared.connection.clone())));
    let loader = plugins.clone();
    let built = tokio::task::spawn_blocking(move || Snapshot::build(config, None, &loader)).await;
    let snapshot = built.map_err(|_| "the gateway failed while it started".to_owned())??;
    let config = snapshot.config.clone();
    let mut activity = Activity::new();
    activity.audit = Audit::start(&config.audit)?;
    activity.log = log.clone();
    activity.traces = Traces::start(&config.otlp)?;
    let limits = Arc::new(Limits::new(shared.clone()));
    let (restored, kept) = (limits.clone(), store::path(&config.audit.path));
    let _ = tokio::task::spawn_blocking(move || restored.restore(&kept)).await;
    let gateway = Arc::new(Gateway {
        limits,
        reloader: Reloader::new(input, &config, plugins),
        snapshots: Snapshots::new(snapshot),
        activity: Arc::new(activity),
        budget: Budget::new(),
        shared,
        health: health::State::new(),
        admin_address: address(&admin)?,
        searches: Searches::new(),
    });
    gateway.activity.metrics.configure(&config);
    gateway.activity.queue.configure(&config.limits);
    print_banner(&config, &main, &admin)?;
    let (tasks, stop) = (TaskTracker::new(), Stop::default());
    // The operators' side goes on to the end, so that they can see the drain.
    let (admin_tasks, admin_stop) = (TaskTracker::new(), Stop::default());
    tasks.spawn(server::serve(main, Surface::Main, gateway.clone(), tasks.clone(), stop.clone()));
    let operators = server::serve(admin, Surface::Admin, gateway.clone(), admin_tasks.clone(), admin_stop);
    admin_tasks.spawn(operators);
    admin_tasks.spawn(keep_limits(gateway.clone()));
    tasks.spawn(watch(gateway.clone(), stop.drain.clone()));
    tasks.spawn(prune(gateway.clone(), stop.drain.clone()));
    tasks.spawn(upstream::health::watch(gateway.clone(), stop.drain.clone()));
    tasks.spawn(exchange_hints(gateway.clone(), stop.drain.clone()));
    while signals.next().await == Heard::Hangup {
        // A refusal is logged; the running configuration is kept.
        let _ = gateway.reloader.reload(&gateway).await;
    }
    gateway.health.drain();
    stop.drain.cancel();
    tasks.close();
    let grace = gateway.snapshots.current().config.server.shutdown_grace;
    tracing::info!(running = gateway.activity.running(), grace_s = grace.as_secs(), "draining");
    tokio::select! {
        () = tasks.wait() => {}
        () = tokio::time::sleep(grace) => {
            tracing::warn!(running = gateway.activity.running(), "not every exchange was over in time");
            gateway.activity.cut_off();
            stop.cut_off.cancel();
            let _ = tokio::time::timeout(CUT_OFF_TIME_MAX, tasks.wait()).await;
        }
        () = signals.stop_again() => {
            log.flush(LOG_TIME_MAX);
            std::process::exit(INTERRUPTED)
        }
    }
    // What ends here becomes a record, too.
    gateway.activity.tasks.close();
    let _ = tokio::time::timeout(LEFT_TIME_MAX, gateway.activity.tasks.wait()).await;
    if tokio::time::timeout(FLUSH_TIME_MAX, gateway.reloader.plugins.flush()).await.is_err() {
        tracing::warn!("not every plugin took its records in time");
    }
    save_limits(&gateway).await;
    if let Some(shared) = &gateway.shared {
        shared.flush(SHARED_TIME_MAX).await;
    }
    gateway.activity.traces.shutdown(TRACES_TIME_MAX).await;
    let rows = gateway.activity.audit.flush(RECORD_TIME_MAX).await;
    if rows > 0 {
        tracing::error!(rows, "not every exchange could be recorded in time; these rows are lost");
        return Err(format!("stopped; {rows} rows of the audit are lost"));
    }
    tracing::info!("stopped");
    Ok(())
}

async fn watch(gateway: Arc<Gateway>, stop: CancellationToken) {
    let watched = gateway.clone();
    watched.reloader.watch(gateway, stop).await;
}

/// Writes what is used of limits again and again, to the end of the process.
async fn keep_limits(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(SAVE_INTERVAL).await;
        save_limits(&gateway).await;
    }
}

async fn save_limits(gateway: &Gateway) {
    if !gateway.limits.is_unsaved() {
        return;
    }
    let path = store::path(&gateway.snapshots.current().config.audit.path);
    let limits = gateway.limits.clone();
    // It logs what goes wrong.
    let _ = tokio::task::spawn_blocking(move || limits.save(&path)).await;
}

/// Tells the other gateways of upstreams that are down, and heeds what they tell.
async fn exchange_hints(gateway: Arc<Gateway>, stop: CancellationToken) {
    let Some(shared) = &gateway.shared else { return };
    let mut changes = gateway.snapshots.changes();
    // The gateway owns who listens.
    let listening = Arc::downgrade(&gateway);
    shared.hints.listen(move |upstream, lasting| {
        if let Some(gateway) = listening.upgrade() {
            gateway.snapshots.hint(upstream, lasting);
        }
    });
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(Change { upstream, opened_for: Some(lasting) }) => shared.hints.tell(&upstream, lasting),
            // Whoever missed some missed hints, and finds out by itself.
            Ok(Change { opened_for: None, .. }) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

async fn prune(gateway: Arc<Gateway>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PRUNE_INTERVAL) => {}
        }
        let snapshot = gateway.snapshots.current();
        snapshot.upstreams.iter().for_each(|upstream| upstream.prune());
        snapshot.plugins.plugins.iter().for_each(|plugin| plugin.prune());
    }
}

/// The signals the gateway listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

#[derive(PartialEq, Eq)]
enum Heard {
    Stop,
    Hangup,
}

impl Signals {
    fn new() -> Result<Self, String> {
        let open = |kind| signal(kind).map_err(|error| format!("cannot listen to signals: {error}"));
        Ok(Self {
            interrupt: open(SignalKind::interrupt())?,
            terminate: open(SignalKind::terminate())?,
            hangup: open(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.terminate.recv() => Heard::Stop,
            _ = self.hangup.recv() => Heard::Hangup,
        }
    }

    async fn stop_again(&mut self) {
        while self.next().await == Heard::Hangup {}
    }
}

fn address(listener: &TcpListener) -> Result<std::net::SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("the listener has no address: {error}"))
}

/// Says what was found and gives a line that works.
fn print_banner(config: &Config, main: &TcpListener, admin: &TcpListener) -> Result<(), String> {
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let main = address(main)?;
    println!("witgate {}", env!("CARGO_PKG_VERSION"));
    match &config.origin {
        Origin::File(path) => println!("configuration {}", path.display()),
        Origin::Embedded => println!("configuration embedded default (give your own with --config FILE)"),
    }
    for upstream in &config.upstreams {
        let place = match &upstream.target {
            Target::Echo => "in this process".to_owned(),
            Target::Http(base) => base.to_string(),
        };
        let found = upstream.found_by.map(|variable| format!(" ({variable})")).unwrap_or_default();
        println!("upstream {}: {place}{found}", upstream.name);
    }
    if let Some(keys) = &config.keys {
        println!("keys {}", keys.all.len());
    }
    if config.state != State::Memory {
        println!("state {} (shared with every gateway that uses it)", config.state.shown());
    }
    if config.audit.is_enabled {
        println!("audit {} (read it with `witgate audit`)", audit::place(&config.audit));
    }
    println!("listening on {scheme}://{main}");
    println!("admin on http://{}", address(admin)?);
    let has_echo = config.upstreams.iter().any(|upstream| upstream.target == Target::Echo);
    if has_echo {
        let body =
            r#"{"model":"echo","stream":true,"messages":[{"role":"user","content":"hello out there"}]}"#;
        let key = if config.is_guarded() { " -H 'authorization: Bearer KEY'" } else { "" };
        println!("try: curl -N {scheme}://{main}/v1/chat/completions{key} -d '{body}'");
    }
    warn_if_open(config);
    Ok(())
}

/// Anybody who reaches the listener could spend the upstreams' keys.
fn warn_if_open(config: &Config) {
    if config.is_open_to_anybody() {
        tracing::warn!(
            listen = %config.server.listen,
            "anybody who reaches this address can use the upstreams' keys: add `keys`, bind to loopback, or put an authenticating proxy before it"
        );
    }
}
