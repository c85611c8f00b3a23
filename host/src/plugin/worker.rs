//! The long-lived instance of a plugin: `on-complete` in batches, off the request's path, and `on-tick`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub(crate) use crate::plugin::bindings::hooks::on_complete::AuditRecord;

use crate::exchange::Activity;
use crate::plugin::Core;
use crate::plugin::Miss;
use crate::plugin::fault::Fault;
use crate::plugin::hook::Hook;
use crate::plugin::instance::Instance;
use crate::plugin::quarantine::Admission;

/// Records that wait for the plugin; more are dropped and counted.
const QUEUE_MAX: usize = 16_384;
/// Bytes of all records that wait for the plugin or are being delivered; more are dropped and counted.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Records of one call.
const BATCH_MAX: usize = 256;
/// The part of its memory that the records of one call may take, if there is more than one: the plugin keeps them twice
/// or more while it makes something of them.
const BATCH_PART: u64 = 8;
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
    queue: mpsc::Sender<Queued>,
    /// A permit for each byte that may still be queued.
    room: Arc<Semaphore>,
    /// Has a token for each record that was not delivered yet.
    undelivered: TaskTracker,
    shared: Arc<Shared>,
    /// The other end of the queue, until it is started.
    inbox: Mutex<Option<Inbox>>,
}

/// What both ends of the queue know.
#[derive(Default)]
struct Shared {
    counts: Counts,
    /// Another version has taken over: this one is told the records it has and ticks no more.
    is_retired: AtomicBool,
}

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    dropped: AtomicU64,
    redelivered: AtomicU64,
}

/// What a plugin is told of one exchange. The bodies are shared until it is the plugin's turn.
pub(crate) struct Record {
    /// The exchange's number.
    pub(crate) number: i64,
    /// Who is given the labels that the plugin finds for it.
    pub(crate) activity: Arc<Activity>,
    /// All but the bodies.
    pub(crate) facts: AuditRecord,
    /// What the client sent, if the plugin may see that.
    pub(crate) request: Option<Bytes>,
    /// What the client was sent, if the plugin may see that.
    pub(crate) response: Option<Arc<Vec<u8>>>,
}

/// A record and its place in the queue, which it has until it is delivered.
struct Queued {
    record: Record,
    place: Place,
}

struct Place {
    _room: OwnedSemaphorePermit,
    _undelivered: TaskTrackerToken,
}

/// Records as the plugin is given them, and whose they are.
#[derive(Default)]
struct Batch {
    records: Vec<AuditRecord>,
    exchanges: Vec<(i64, Arc<Activity>)>,
    /// The places they have until they are delivered.
    _places: Vec<Place>,
}

impl Batch {
    fn of(queued: Vec<Queued>) -> Self {
        let mut batch = Self::default();
        for Queued { record, place } in queued {
            batch.exchanges.push((record.number, record.activity.clone()));
            batch.records.push(record.whole());
            batch._places.push(place);
        }
        batch
    }

    /// Gives exchanges the labels that the plugin found for them.
    fn label(&self, plugin: &str, labels: Labels) {
        for (id, labels) in labels {
            let place = self.records.iter().position(|record| record.id == id);
            match place.and_then(|place| self.exchanges.get(place)) {
                Some((number, activity)) => activity.label(*number, &id, plugin, labels),
                None => tracing::debug!(plugin, id, "labels for an exchange that is not of the batch"),
            }
        }
    }
}

impl Record {
    /// The bytes it takes.
    fn bytes(&self) -> usize {
        let AuditRecord { id, tenant, operation, model, upstream, tags, .. } = &self.facts;
        let tags = tags.iter().map(|(key, value)| 2 * size_of::<String>() + key.len() + value.len());
        size_of::<Queued>()
            + [id, operation, model].map(String::len).iter().sum::<usize>()
            + tenant.as_ref().map_or(0, String::len)
            + upstream.as_ref().map_or(0, String::len)
            + tags.sum::<usize>()
            + self.request.as_ref().map_or(0, Bytes::len)
            + self.response.as_ref().map_or(0, |body| body.len())
    }

    /// As the plugin is given it. A body is moved if nobody shares it any more.
    fn whole(self) -> AuditRecord {
        AuditRecord {
            request_body: self.request.map(Vec::from),
            response_body: self.response.map(Arc::unwrap_or_clone),
            ..self.facts
        }
    }
}

impl Worker {
    /// One that does nothing yet.
    pub(crate) fn new() -> Self {
        let (queue, tasks) = mpsc::channel(QUEUE_MAX);
        let undelivered = TaskTracker::new();
        // It only counts; that it is empty is enough to end a wait for it.
        undelivered.close();
        Self {
            queue,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            undelivered,
            shared: Arc::default(),
            inbox: Mutex::new(Some(Inbox { tasks, held: None })),
        }
    }

    /// Starts it, unless it was; it ends when it is dropped, after what is still queued.
    pub(crate) fn start(&self, core: &Arc<Core>) {
        if let Some(inbox) = self.take_inbox() {
            tokio::spawn(run(core.clone(), inbox, self.shared.clone()));
        }
    }

    fn take_inbox(&self) -> Option<Inbox> {
        self.inbox.lock().expect("no code panics while it holds this lock").take()
    }

    /// Ends its ticks; what is queued is delivered still.
    pub(crate) fn retire(&self) {
        self.shared.is_retired.store(true, Ordering::Relaxed);
    }

    /// Queues a record. Never waits: ending an exchange must not.
    pub(crate) fn send(&self, record: Record) {
        let bytes = u32::try_from(record.bytes()).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(bytes).ok();
        let is_queued = room.is_some_and(|room| {
            let place = Place { _room: room, _undelivered: self.undelivered.token() };
            self.queue.try_send(Queued { record, place }).is_ok()
        });
        if !is_queued {
            self.shared.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was queued has been delivered or dropped.
    pub(crate) async fn flush(&self) {
        self.undelivered.wait().await;
    }

    /// Has a token for each record that was not delivered yet, also when the worker was dropped meanwhile.
    pub(crate) fn undelivered(&self) -> &TaskTracker {
        &self.undelivered
    }

    /// What `/admin/plugins` says of it.
    pub(crate) fn describe(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "waiting": self.undelivered.len(),
            "waiting_bytes": QUEUE_BYTES_MAX - self.room.available_permits(),
            "delivered": count(&self.shared.counts.delivered),
            "redelivered": count(&self.shared.counts.redelivered),
            "dropped": count(&self.shared.counts.dropped),
        })
    }
}

/// The instance, made anew whenever it broke or grew.
pub(crate) struct Singleton {
    core: Arc<Core>,
    instance: Option<Instance>,
    /// How long the last call waited for a place, which is no time that the plugin took.
    waited: Duration,
}

async fn run(core: Arc<Core>, mut inbox: Inbox, shared: Arc<Shared>) {
    let has_tick = core.code.hooks.has(Hook::OnTick);
    let batch_bytes_max = usize::try_from(core.settings.limits.memory / BATCH_PART).unwrap_or(usize::MAX);
    let mut singleton = Singleton::new(core);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let first = tokio::select! {
            next = inbox.next() => next,
            _ = ticks.tick(), if has_tick => {
                if !shared.is_retired.load(Ordering::Relaxed) {
                    singleton.tick().await;
                }
                continue;
            }
        };
        let Some(first) = first else { return };
        let batch = inbox.batch(first, batch_bytes_max).await;
        singleton.deliver(&Batch::of(batch), &shared.counts).await;
    }
}

/// The worker's end of the queue.
struct Inbox {
    tasks: mpsc::Receiver<Queued>,
    /// The record that was too much for the last batch.
    held: Option<Queued>,
}

impl Inbox {
    /// The next record; none when there will be no more. Nothing is lost if the wait is given up.
    async fn next(&mut self) -> Option<Queued> {
        match self.held.take() {
            Some(held) => Some(held),
            None => self.tasks.recv().await,
        }
    }

    /// A batch: what comes within a short while after its first record, up to so many bytes.
    async fn batch(&mut self, first: Queued, bytes_max: usize) -> Vec<Queued> {
        let due = Instant::now() + LINGER;
        let mut bytes = first.record.bytes();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX {
            let Ok(Some(next)) = tokio::time::timeout_at(due, self.next()).await else { break };
            bytes += next.record.bytes();
            if bytes > bytes_max {
                self.held = Some(next);
                break;
            }
            batch.push(next);
        }
        batch
    }
}

impl Singleton {
    /// None yet; it is made at the first call.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, instance: None, waited: Duration::ZERO }
    }

    /// Delivers a batch, again and again within the bound, until the plugin took it. It waits as long as the plugin
    /// cannot be called.
    async fn deliver(&mut self, batch: &Batch, counts: &Counts) {
        let (plugin, records) = (self.core.settings.name.clone(), batch.records.len() as u64);
        let plugin = &*plugin;
        let (mut delivery, mut pause) = (1, PAUSE);
        loop {
            match self.complete(&batch.records).await {
                Ok(Ok(labels)) => {
                    counts.delivered.fetch_add(records, Ordering::Relaxed);
                    batch.label(plugin, labels);
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
            self.core.note(Hook::OnComplete, &outcome, started.elapsed().saturating_sub(self.waited));
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
        self.core.note(Hook::OnTick, &outcome, started.elapsed().saturating_sub(self.waited));
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
        self.waited = Duration::ZERO;
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
                let asked = Instant::now();
                let place = core.places.clone().acquire_owned().await.map_err(|_| Miss::Capacity)?;
                self.waited = asked.elapsed();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Environment;
    use crate::config::{self, Overrides};
    use crate::plugin::{Loaded, Runtime};

    fn record(id: &str, body: usize) -> Record {
        let facts = AuditRecord {
            id: id.to_owned(),
            tenant: None,
            operation: "chat.completions".to_owned(),
            model: "m".to_owned(),
            upstream: None,
            status: 200,
            finish: None,
            usage: None,
            started_unix_ms: 0,
            ttft_us: None,
            total_us: 1,
            tags: Vec::new(),
            request_body: None,
            response_body: None,
        };
        let activity = Arc::new(Activity::new());
        Record {
            number: 1,
            activity,
            facts,
            request: Some(Bytes::from(vec![1; body])),
            response: Some(Arc::new(vec![2; body])),
        }
    }

    /// Sends records with bodies of these sizes, and says how many of them come in each batch.
    #[track_caller]
    fn check_batches(bodies: &[usize], bytes_max: usize, expected: &[usize]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let batches = runtime.expect("it needs nothing").block_on(async {
            let worker = Worker::new();
            let mut inbox = worker.take_inbox().expect("it was not started");
            for (n, body) in bodies.iter().enumerate() {
                worker.send(record(&n.to_string(), *body));
            }
            drop(worker);
            let (mut batches, mut seen) = (Vec::new(), 0);
            while let Some(first) = inbox.next().await {
                let batch = inbox.batch(first, bytes_max).await;
                for queued in &batch {
                    assert_eq!(queued.record.facts.id, seen.to_string(), "each once and in order");
                    seen += 1;
                }
                batches.push(batch.len());
            }
            batches
        });
        assert_eq!(batches, expected);
    }

    #[test]
    fn a_batch_is_bounded_in_records_and_bytes_but_has_one_at_least() {
        check_batches(&[], 1, &[]);
        check_batches(&[0, 0, 0], 1 << 20, &[3]);
        check_batches(&[0; BATCH_MAX + 1], 1 << 20, &[BATCH_MAX, 1]);
        check_batches(&[1 << 10, 1 << 20, 1 << 20, 1 << 10, 1 << 10], 1 << 20, &[1, 1, 1, 2]);
        check_batches(&[1 << 10; 4], 5 << 10, &[2, 2]);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_bytes_until_it_is_delivered() {
        let worker = Worker::new();
        let mut inbox = worker.take_inbox().expect("it was not started");
        let fits = QUEUE_BYTES_MAX / record("a", 1 << 20).bytes();
        for _ in 0..fits + 2 {
            worker.send(record("a", 1 << 20));
        }
        assert_eq!((worker.undelivered.len(), worker.describe()["dropped"].as_u64()), (fits, Some(2)));
        let taken = inbox.next().await.expect("something is queued");
        worker.send(record("a", 1 << 20));
        assert_eq!(worker.undelivered.len(), fits, "what is being delivered counts still");
        drop(taken);
        worker.send(record("a", 1 << 20));
        assert_eq!((worker.undelivered.len(), worker.describe()["dropped"].as_u64()), (fits, Some(3)));
    }

    #[tokio::test]
    async fn what_waits_is_bounded_in_records() {
        let worker = Worker::new();
        for _ in 0..QUEUE_MAX + 3 {
            worker.send(record("a", 0));
        }
        assert_eq!((worker.undelivered.len(), worker.describe()["dropped"].as_u64()), (QUEUE_MAX, Some(3)));
    }

    #[tokio::test]
    async fn a_flush_ends_when_everything_was_delivered() {
        let worker = Worker::new();
        let mut inbox = worker.take_inbox().expect("it was not started");
        worker.flush().await;
        worker.send(record("a", 1));
        let taken = inbox.next().await.expect("something is queued");
        let mut flush = std::pin::pin!(worker.flush());
        let is_over = tokio::select! {
            biased;
            () = &mut flush => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_over);
        drop(taken);
        flush.await;
    }

    #[test]
    fn a_body_is_moved_to_the_plugin_that_alone_gets_it() {
        let record = record("a", 100);
        let (request, response) = match (&record.request, &record.response) {
            (Some(request), Some(response)) => (request.as_ptr(), response.as_ptr()),
            _ => unreachable!("both are there"),
        };
        let whole = record.whole();
        let moved = whole.request_body.zip(whole.response_body).expect("both are there");
        assert_eq!((moved.0.as_ptr(), moved.1.as_ptr()), (request, response));
    }

    /// Loads a plugin that takes records, in one instance.
    async fn load(kv: &str, before: Option<Arc<Loaded>>, runtime: &Arc<Runtime>) -> Arc<Loaded> {
        let text = format!(
            "upstreams: [{{ name: a, base_url: 'builtin:echo' }}]\n\
             plugins: [{{ name: a, source: 'builtin:audit-tags', config: {{ slow_ms: 1 }}, \
             limits: {{ instances_max: 1 }}, allow: {{ kv: {kv} }} }}]\n"
        );
        let (environment, overrides) = (Environment::default(), Overrides::default());
        let loaded = config::load_text(&text, "c.yaml".as_ref(), &environment, &overrides);
        let (config, _) = loaded.map_err(|problems| problems.to_string()).expect("it is right");
        let runtime = runtime.clone();
        let loading = tokio::task::spawn_blocking(move || Loaded::new(&config, before.as_deref(), &runtime));
        Arc::new(loading.await.expect("it does not panic").expect("it fits"))
    }

    fn worker(loaded: &Loaded) -> &Worker {
        loaded.plugins[0].worker.as_ref().expect("it takes records")
    }

    #[tokio::test]
    async fn records_wait_until_the_plugin_can_be_called() {
        let runtime = Arc::default();
        let loaded = load("1KiB", None, &runtime).await;
        let place = loaded.plugins[0].places.clone().acquire_owned().await.expect("it is never closed");
        loaded.activate(None);
        worker(&loaded).send(record("a", 1));
        let soon = tokio::time::timeout(Duration::from_secs(1), runtime.flush()).await;
        assert!(soon.is_err(), "all deliveries there may be would be over");
        drop(place);
        runtime.flush().await;
        let told = worker(&loaded).describe();
        assert_eq!((&told["delivered"], &told["dropped"]), (&json!(1), &json!(0)));
    }

    #[tokio::test]
    async fn what_was_replaced_is_told_what_it_has() {
        let runtime = Arc::default();
        let first = load("1KiB", None, &runtime).await;
        first.activate(None);
        let before = load("1KiB", Some(first.clone()), &runtime).await;
        before.activate(Some(&first));
        drop(first);
        assert!(!worker(&before).shared.is_retired.load(Ordering::Relaxed), "it is the same still");
        let place = before.plugins[0].places.clone().acquire_owned().await.expect("it is never closed");
        worker(&before).send(record("a", 1));
        let shared = worker(&before).shared.clone();
        let after = load("2KiB", Some(before.clone()), &runtime).await;
        after.activate(Some(&before));
        assert!(shared.is_retired.load(Ordering::Relaxed));
        assert!(!worker(&after).shared.is_retired.load(Ordering::Relaxed));
        assert_eq!(runtime.draining(&after).len(), 1);
        drop(before);
        assert_eq!(runtime.draining(&after).len(), 0);
        let mut flush = std::pin::pin!(runtime.flush());
        let is_over = tokio::select! {
            biased;
            () = &mut flush => true,
            () = std::future::ready(()) => false,
        };
        assert!(!is_over);
        drop(place);
        flush.await;
        assert_eq!(shared.counts.delivered.load(Ordering::Relaxed), 1);
    }
}
