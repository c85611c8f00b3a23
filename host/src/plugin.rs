//! Plugins: components that operators load, their instances, and how they are called.
//!
//! ```text
//! engine      wasmtime, configured; the ticker that interrupts
//! about       what a component's bytes say, without compiling them
//! component   one compiled component: hooks, imports, manifest
//! Plugin      a component with a configuration, limits and grants; its instances, its faults
//! instance    one live instance; poisoned until proven clean
//! call        the exchange as a hook sees it; state, imports, grants: the host's side of what a plugin may call
//! chain       the plugins of one exchange, hook by hook
//! stages      the plugins of one stream
//! worker      on-complete and on-tick, off the request's path
//! ```
//!
//! Nothing outside this module names a type of wasmtime.

pub(crate) mod about;
mod bindings;
pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod complete;
mod component;
pub(crate) mod counters;
mod engine;
mod fault;
mod grants;
pub(crate) mod hook;
mod imports;
mod instance;
mod kv;
mod load;
mod logs;
mod memory;
pub(crate) mod metrics;
mod outbound;
mod quarantine;
pub(crate) mod stages;
mod state;
pub(crate) mod worker;

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(crate) use crate::plugin::component::hex;
pub(crate) use crate::plugin::load::{Loaded, Runtime};

use crate::config;
use crate::plugin::component::Code;
use crate::plugin::counters::Counters;
use crate::plugin::engine::{Engines, Ticker};
use crate::plugin::fault::Fault;
use crate::plugin::grants::Grants;
use crate::plugin::hook::{Hook, Hooks};
use crate::plugin::instance::{Bounds, Instance};
use crate::plugin::metrics::Family;
use crate::plugin::quarantine::Quarantine;
use crate::plugin::worker::{Singleton, Worker};

/// Instances that wait to be used again, at most so many for each plugin.
const IDLE_MAX: usize = 256;

/// How long an instance waits to be used again.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// A component with its configuration, ready to be called. It never changes: another file or another configuration makes
/// another one.
pub(crate) struct Plugin {
    core: Arc<Core>,
    worker: Option<Worker>,
}

/// What calls a plugin needs; the long-lived instance shares it.
pub(crate) struct Core {
    /// What the configuration says.
    pub(crate) settings: config::Plugin,
    code: Arc<Code>,
    grants: Arc<Grants>,
    /// Counts, kept from version to version.
    counters: Arc<Counters>,
    quarantine: Quarantine,
    /// What tells versions apart.
    generation: u64,
    engines: Arc<Engines>,
    places: Arc<Semaphore>,
    idle: Mutex<VecDeque<Idle>>,
}

/// An instance that can be used again, and for whom.
struct Idle {
    owner: Owner,
    instance: Instance,
    since: Instant,
}

/// Whom an instance has worked for: it works for nobody else, unless the operator allows that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Callers before it was known who they are.
    #[default]
    Unknown,
    /// The callers of a tenant, or those without one.
    Tenant(Option<Arc<str>>),
}

/// Why a plugin was not called, or did not return.
#[derive(Debug)]
pub(crate) enum Miss {
    /// All of `limits.instances_max` are in use, or the pool is.
    Capacity,
    /// It broke too often of late.
    Quarantined,
    /// It broke.
    Fault(Fault),
    /// It broke before in the same exchange, where that was noted.
    Gone,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Core {
    fn ticker(&self) -> &Arc<Ticker> {
        self.engines.ticker()
    }

    /// Which hooks it has.
    pub(crate) fn hooks(&self) -> Hooks {
        self.code.hooks
    }

    /// How long one hook may take.
    fn bounds(&self) -> Bounds {
        Bounds { run: self.settings.limits.call_timeout, wait: self.settings.limits.wait_timeout }
    }

    /// An instance for an exchange: one that was used before if the operator allows that, else a new one.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub(crate) async fn instance(&self, owner: &Owner) -> Result<Instance, Miss> {
        if self.settings.reuse.uses_max > 0
            && let Some(instance) = self.take_idle(owner)
        {
            return Ok(instance);
        }
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                // One that waits for another tenant gives its place to one that is needed now.
                drop(self.idle().pop_front());
                let wait = self.settings.limits.call_timeout;
                let place = tokio::time::timeout(wait, self.places.clone().acquire_owned()).await;
                place.ok().and_then(Result::ok).ok_or(Miss::Capacity)?
            }
        };
        let instance = Instance::start(self, place).await?;
        self.quarantine.note_start();
        Ok(instance)
    }

    /// Drops the instances that nobody wanted for a while.
    pub(crate) fn prune(&self) {
        let now = Instant::now();
        let mut idle = self.idle();
        while idle.front().is_some_and(|kept| now - kept.since > IDLE_TIME_MAX) {
            idle.pop_front();
        }
    }

    fn take_idle(&self, owner: &Owner) -> Option<Instance> {
        let mut idle = self.idle();
        let is_fit = |kept: &Idle| !self.keeps_owners_apart() || kept.owner == *owner;
        let at = idle.iter().rposition(is_fit)?;
        idle.remove(at).map(|kept| kept.instance)
    }

    /// Whether an instance that is used again stays with those it has worked for.
    fn keeps_owners_apart(&self) -> bool {
        self.settings.reuse.uses_max > 0 && self.settings.reuse.scope == config::ReuseScope::Tenant
    }

    /// Takes an instance back after an exchange; keeps it if it may be used again.
    pub(crate) fn give_back(&self, mut instance: Instance, owner: &Owner) {
        let reuse = &self.settings.reuse;
        instance.uses += 1;
        let is_fit = instance.is_clean()
            && u64::from(instance.uses) < reuse.uses_max
            && instance.memory() as u64 <= reuse.memory_max;
        if !is_fit {
            return;
        }
        let mut idle = self.idle();
        if idle.len() >= IDLE_MAX {
            // The one that has waited longest is another tenant's, or not needed.
            idle.pop_front();
        }
        idle.push_back(Idle { owner: owner.clone(), instance, since: Instant::now() });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, VecDeque<Idle>> {
        self.idle.lock().expect("no code panics while it holds this lock")
    }

    /// Notes how a call went, and says what becomes of the exchange if the plugin broke.
    pub(crate) fn note<T>(&self, hook: Hook, outcome: &Result<T, Miss>, took: Duration) {
        match outcome {
            Ok(_) => {
                self.counters.returned(hook, took);
            }
            Err(Miss::Capacity | Miss::Quarantined | Miss::Gone) => self.counters.skipped(hook),
            Err(Miss::Fault(fault)) => {
                self.counters.broke(hook, fault.kind, took);
                let pause = self.quarantine.note_fault(fault.kind, Instant::now());
                let (plugin, hook) = (&*self.settings.name, hook.name());
                tracing::warn!(
                    plugin,
                    hook,
                    kind = fault.kind.label(),
                    fault = fault.message,
                    "a plugin broke"
                );
                if let Some(pause) = pause {
                    tracing::error!(
                        plugin,
                        pause_s = pause.as_secs(),
                        "a plugin that keeps breaking is quarantined"
                    );
                }
            }
        }
    }

    /// What is counted of its calls.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Its own metrics.
    pub(crate) fn own_metrics(&self) -> metrics::Snapshot {
        self.grants.metrics.snapshot()
    }

    /// Whether it is called: `healthy`, `quarantined` or `probing`.
    pub(crate) fn condition(&self) -> &'static str {
        self.quarantine.condition(Instant::now()).label()
    }

    /// Whether a hook's fault is passed over; otherwise it ends the exchange.
    pub(crate) fn skips_fault(&self, hook: Hook) -> bool {
        self.settings.on_fault.skips(hook.name())
    }

    /// How many instances there are, idle ones included.
    pub(crate) fn instances(&self) -> usize {
        self.settings.limits.instances_max as usize - self.places.available_permits()
    }
}

impl Plugin {
    /// What `/admin/plugins` says of it.
    pub(crate) fn describe(&self) -> Value {
        let hooks: Vec<&str> = self.hooks().iter().map(Hook::name).collect();
        json!({
            "name": &*self.settings.name,
            "source": self.settings.source.to_string(),
            "sha256": hex(&self.code.digest),
            "bytes": self.code.bytes_len,
            "built_as": self.code.manifest.name,
            "version": self.code.manifest.version,
            "description": self.code.manifest.description,
            "generation": self.generation,
            "hooks": hooks,
            "imports": self.code.imports,
            "condition": self.condition(),
            "pooled": self.code.is_pooled,
            "memory_initial": self.code.memory_initial,
            "instances": self.instances(),
            "calls": self.counters.describe(),
            "metrics": self.describe_metrics(),
            "kv": self.describe_kv(),
            "http": self.describe_http(),
            "log_lines_dropped": self.grants.log.dropped(),
            "queue": self.worker.as_ref().map(Worker::describe),
        })
    }

    /// Its own series, as far as it has any.
    fn describe_metrics(&self) -> Value {
        let snapshot = self.grants.metrics.snapshot();
        let family = |family: &Family| {
            let series = family.series.iter().map(|(labels, value)| match value {
                metrics::Value::Number(number) => json!({"labels": labels, "value": number}),
                metrics::Value::Distribution(distribution) => {
                    json!({"labels": labels, "sum": distribution.sum, "count": distribution.counts.iter().sum::<u64>()})
                }
            });
            json!({
                "name": family.name,
                "kind": family.kind.label(),
                "labels": family.labels,
                "series": series.collect::<Vec<_>>(),
            })
        };
        json!({
            "families": snapshot.families.iter().map(family).collect::<Vec<_>>(),
            "series": snapshot.series,
            "series_max": snapshot.series_max,
            "dropped": snapshot.dropped,
        })
    }

    fn describe_kv(&self) -> Value {
        let usage = self.grants.kv.usage();
        json!({
            "entries": usage.entries,
            "bytes": usage.bytes,
            "bytes_max": usage.bytes_max,
            "expired": usage.expired,
            "refused": usage.refused,
        })
    }

    fn describe_http(&self) -> Value {
        let usage = self.grants.http.as_ref().map(|client| client.usage());
        usage.map_or(
            Value::Null,
            |usage| json!({"granted": usage.granted, "refused": usage.refused, "failed": usage.failed}),
        )
    }

    /// A long-lived instance of its own, beside the one that serves.
    pub(crate) fn singleton(&self) -> Singleton {
        Singleton::new(self.core.clone())
    }

    /// Waits until its long-lived instance has what was queued for it.
    pub(crate) async fn flush(&self) {
        if let Some(worker) = &self.worker {
            worker.flush().await;
        }
    }

    fn next_generation() -> u64 {
        GENERATIONS.fetch_add(1, Ordering::Relaxed)
    }
}

impl Deref for Plugin {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}
