//! The long-lived instance of a plugin: `on-complete` in batches, off the request's path, and `on-tick`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

pub(crate) use crate::plugin::bindings::hooks::on_complete::AuditRecord;

use crate::plugin::Core;
use crate::plugin::Miss;
use crate::plugin::fault::Fault;
use crate::plugin::hook::Hook;
use crate::plugin::instance::Instance;
use crate::plugin::quarantine::Admission;

/// Records that wait for the plugin; more are dropped and counted.
const QUEUE_MAX: usize = 16_384;
/// Records of one call.
const BATCH_MAX: usize = 256;
/// How long the first record of a batch waits for others.
const LINGER: Duration = Duration::from_millis(50);
/// How often a batch is delivered at most.
const DELIVERIES_MAX: u32 = 4;
/// The pause before the second delivery; it doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// The pause before a plugin that could not be called is asked again.
const UNCALLED_PAUSE: Duration = Duration::from_millis(500);
/// How often `on-tick` is called.
const TICK: Duration = Duration::from_secs(1);

/// The way to a plugin's long-lived instance.
pub(crate) struct Worker {
    queue: mpsc::Sender<Task>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    redelivered: AtomicU64,
}

enum Task {
    Record(Box<AuditRecord>),
    /// Everything before it is to be delivered, then this told.
    Flush(oneshot::Sender<()>),
}

impl Worker {
    /// Starts it; it ends when it is dropped, after what is still queued.
    pub(crate) fn start(core: Arc<Core>) -> Self {
        let (queue, tasks) = mpsc::channel(QUEUE_MAX);
        let counts = Arc::new(Counts::default());
        tokio::spawn(run(core, tasks, counts.clone()));
        Self { queue, counts }
    }

    /// Queues a record. Never waits: ending an exchange must not.
    pub(crate) fn send(&self, record: AuditRecord) {
        match self.queue.try_send(Task::Record(Box::new(record))) {
            Ok(()) => self.counts.waiting.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counts.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Waits until everything that was queued has been delivered.
    pub(crate) async fn flush(&self) {
        let (told, heard) = oneshot::channel();
        if self.queue.send(Task::Flush(told)).await.is_ok() {
            let _ = heard.await;
        }
    }

    /// What `/admin/plugins` says of it.
    pub(crate) fn describe(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "waiting": count(&self.counts.waiting),
            "delivered": count(&self.counts.delivered),
            "redelivered": count(&self.counts.redelivered),
            "dropped": count(&self.counts.dropped),
        })
    }
}

/// The instance, made anew whenever it broke or grew.
pub(crate) struct Singleton {
    core: Arc<Core>,
    instance: Option<Instance>,
}

async fn run(core: Arc<Core>, mut tasks: mpsc::Receiver<Task>, counts: Arc<Counts>) {
    let has_tick = core.code.hooks.has(Hook::OnTick);
    let mut singleton = Singleton::new(core);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let task = tokio::select! {
            task = tasks.recv() => task,
            _ = ticks.tick(), if has_tick => {
                singleton.tick().await;
                continue;
            }
        };
        let Some(task) = task else { return };
        let (batch, flushed) = collect(task, &mut tasks).await;
        if !batch.is_empty() {
            counts.waiting.fetch_sub(batch.len() as u64, Ordering::Relaxed);
            singleton.deliver(batch, &counts).await;
        }
        for told in flushed {
            let _ = told.send(());
        }
    }
}

/// A batch: what comes within a short while after its first record.
async fn collect(
    first: Task,
    tasks: &mut mpsc::Receiver<Task>,
) -> (Vec<AuditRecord>, Vec<oneshot::Sender<()>>) {
    let (mut batch, mut flushed) = (Vec::new(), Vec::new());
    let due = Instant::now() + LINGER;
    let mut next = Some(first);
    while let Some(task) = next {
        match task {
            Task::Record(record) => batch.push(*record),
            Task::Flush(told) => {
                flushed.push(told);
                break;
            }
        }
        if batch.len() >= BATCH_MAX {
            break;
        }
        next = tokio::time::timeout_at(due, tasks.recv()).await.ok().flatten();
    }
    (batch, flushed)
}

impl Singleton {
    /// None yet; it is made at the first call.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, instance: None }
    }

    /// Delivers a batch, again and again within the bound, until the plugin took it. It waits as long as the plugin
    /// cannot be called.
    async fn deliver(&mut self, batch: Vec<AuditRecord>, counts: &Counts) {
        let (plugin, records) = (self.core.settings.name.clone(), batch.len() as u64);
        let plugin = &*plugin;
        let (mut delivery, mut pause) = (1, PAUSE);
        loop {
            match self.complete(&batch).await {
                Ok(Ok(labels)) => {
                    counts.delivered.fetch_add(records, Ordering::Relaxed);
                    tell_labels(&self.core.settings.name, labels);
                    return;
                }
                // Nothing was delivered, so that this counts against nobody.
                Err(Miss::Capacity | Miss::Quarantined) => {
                    sleep(UNCALLED_PAUSE).await;
                    continue;
                }
                Ok(Err(message)) => tracing::warn!(plugin, message, delivery, "a plugin refused a batch"),
                // It was logged when it was counted.
                Err(Miss::Fault(_) | Miss::Gone) => {}
            }
            if delivery == DELIVERIES_MAX {
                counts.dropped.fetch_add(records, Ordering::Relaxed);
                tracing::error!(plugin, records, "records were dropped: the plugin did not take them");
                return;
            }
            counts.redelivered.fetch_add(records, Ordering::Relaxed);
            sleep(pause).await;
            (delivery, pause) = (delivery + 1, pause * 2);
        }
    }

    async fn complete(&mut self, batch: &[AuditRecord]) -> Result<Result<Labels, String>, Miss> {
        let Some(admission) = self.admission() else { return Err(Miss::Quarantined) };
        let started = Instant::now();
        let outcome = self.call_complete(batch).await;
        // A batch that waits is not passed over.
        if !matches!(outcome, Err(Miss::Capacity)) {
            self.core.note(Hook::OnComplete, &outcome, started.elapsed());
        }
        self.end(admission, &outcome);
        outcome
    }

    /// Whether the plugin is called now; what was admitted has to be ended.
    fn admission(&self) -> Option<Admission> {
        let admission = self.core.quarantine.admits(Instant::now());
        (admission != Admission::No).then_some(admission)
    }

    fn end<T>(&self, admission: Admission, outcome: &Result<T, Miss>) {
        if admission == Admission::Probe {
            let was_good = match outcome {
                Ok(_) => Some(true),
                Err(Miss::Fault(_)) => Some(false),
                Err(Miss::Capacity | Miss::Quarantined | Miss::Gone) => None,
            };
            self.core.quarantine.end_probe(was_good);
        }
    }

    /// Calls `on-complete` once, if it has that.
    pub(crate) async fn call_complete(
        &mut self,
        batch: &[AuditRecord],
    ) -> Result<Result<Labels, String>, Miss> {
        let core = self.core.clone();
        let bounds = core.bounds();
        let instance = self.instance().await?;
        let Some(indices) = &core.code.indices.on_complete else { return Ok(Ok(Vec::new())) };
        let guest = indices.load(&mut instance.store, &instance.inner).map_err(untyped)?;
        let armed = instance.arm(&core, bounds, batch.len() * 1024);
        let outcome = armed.bounded(guest.call_handle(&mut instance.store, batch)).await;
        instance.settle(outcome, bounds)
    }

    async fn tick(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let Some(admission) = self.admission() else {
            return self.core.note::<()>(Hook::OnTick, &Err(Miss::Quarantined), Duration::ZERO);
        };
        let started = Instant::now();
        let outcome = self.call_tick(u64::try_from(now).unwrap_or(u64::MAX)).await;
        self.core.note(Hook::OnTick, &outcome, started.elapsed());
        self.end(admission, &outcome);
    }

    /// Calls `on-tick` once, if it has that.
    pub(crate) async fn call_tick(&mut self, now_unix_ms: u64) -> Result<(), Miss> {
        let core = self.core.clone();
        let bounds = core.bounds();
        let instance = self.instance().await?;
        let Some(indices) = &core.code.indices.on_tick else { return Ok(()) };
        let guest = indices.load(&mut instance.store, &instance.inner).map_err(untyped)?;
        let armed = instance.arm(&core, bounds, 0);
        let outcome = armed.bounded(guest.call_tick(&mut instance.store, now_unix_ms)).await;
        instance.settle(outcome, bounds)
    }

    async fn instance(&mut self) -> Result<&mut Instance, Miss> {
        let core = &self.core;
        // What only grows is made anew before it meets its bound.
        let is_fit = |instance: &Instance| {
            instance.is_clean() && (instance.memory() as u64) < core.settings.limits.memory / 2
        };
        let kept = self.instance.take().filter(is_fit);
        let instance = match kept {
            Some(instance) => instance,
            None => {
                if core.places.available_permits() == 0 {
                    // One that waits to be used again gives its place to one that is needed now.
                    drop(core.idle().pop_front());
                }
                let place = core.places.clone().acquire_owned().await.map_err(|_| Miss::Capacity)?;
                let instance = Instance::start(core, place).await?;
                core.quarantine.note_start();
                instance
            }
        };
        Ok(self.instance.insert(instance))
    }
}

pub(crate) type Labels = Vec<(String, Vec<(String, String)>)>;

fn untyped(error: wasmtime::Error) -> Miss {
    Miss::Fault(Fault::invalid(format!("{error:#}")))
}

/// What the plugin found out about exchanges that are over.
fn tell_labels(plugin: &str, labels: Labels) {
    for (id, labels) in labels {
        for (key, value) in labels {
            tracing::info!(plugin, id, key, value, "label");
        }
    }
}
