//! What is counted of a plugin, hook by hook.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::metrics::histogram::{Histogram, PLUGIN, Tally};
use crate::plugin::fault::FaultKind;
use crate::plugin::hook::Hook;

/// Counts of one plugin, over all its versions.
#[derive(Default)]
pub(crate) struct Counters {
    hooks: [OfHook; Hook::ALL.len()],
}

struct OfHook {
    duration: Histogram,
    rejections: AtomicU64,
    skipped: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
}

/// What was counted of one hook, at one moment.
pub(crate) struct Counted {
    /// The hook's name.
    pub(crate) name: &'static str,
    /// The calls, by the time that they took.
    pub(crate) duration: Tally,
    /// Calls that returned a rejection.
    pub(crate) rejections: u64,
    /// Calls that were not made.
    pub(crate) skipped: u64,
    /// Calls that broke, by kind.
    pub(crate) faults: Vec<(&'static str, u64)>,
}

impl Default for OfHook {
    fn default() -> Self {
        Self {
            duration: Histogram::new(&PLUGIN),
            rejections: AtomicU64::default(),
            skipped: AtomicU64::default(),
            faults: Default::default(),
        }
    }
}

impl Counters {
    /// A call returned.
    pub(crate) fn returned(&self, hook: Hook, took: Duration) {
        self.hooks[hook as usize].duration.time(took);
    }

    /// A call returned a rejection; it is counted as a call too.
    pub(crate) fn rejected(&self, hook: Hook) {
        self.hooks[hook as usize].rejections.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was not made.
    pub(crate) fn skipped(&self, hook: Hook) {
        self.hooks[hook as usize].skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// A call broke.
    pub(crate) fn broke(&self, hook: Hook, kind: FaultKind, took: Duration) {
        self.returned(hook, took);
        self.hooks[hook as usize].faults[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts of every hook that was called, or should have been.
    pub(crate) fn by_hook(&self) -> impl Iterator<Item = Counted> {
        Hook::ALL.into_iter().zip(&self.hooks).filter_map(|(hook, of)| {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let (duration, skipped) = (of.duration.tally(), count(&of.skipped));
            let faults = FaultKind::ALL.into_iter().zip(&of.faults);
            (duration.count() + skipped > 0).then(|| Counted {
                name: hook.name(),
                duration,
                rejections: count(&of.rejections),
                skipped,
                faults: faults.map(|(kind, counter)| (kind.label(), count(counter))).collect(),
            })
        })
    }

    /// The same for `/admin/plugins`.
    pub(crate) fn describe(&self) -> Value {
        let describe = |of: Counted| {
            let faults = of.faults.into_iter().filter(|(_, count)| *count > 0);
            let faults: Map<String, Value> =
                faults.map(|(kind, count)| (kind.to_owned(), json!(count))).collect();
            let described = json!({
                "calls": of.duration.count(),
                "seconds": of.duration.sum(),
                "rejections": of.rejections,
                "skipped": of.skipped,
                "faults": faults,
            });
            (of.name.to_owned(), described)
        };
        Value::Object(self.by_hook().map(describe).collect())
    }
}
