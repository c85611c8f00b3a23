//! What is counted of a plugin, hook by hook.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::plugin::fault::FaultKind;
use crate::plugin::hook::Hook;

/// Counts of one plugin, over all its versions.
#[derive(Default)]
pub(crate) struct Counters {
    hooks: [OfHook; Hook::ALL.len()],
}

#[derive(Default)]
struct OfHook {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    rejections: AtomicU64,
    skipped: AtomicU64,
    faults: [AtomicU64; FaultKind::ALL.len()],
}

impl Counters {
    /// A call returned.
    pub(crate) fn returned(&self, hook: Hook, took: Duration) {
        let of = &self.hooks[hook as usize];
        of.calls.fetch_add(1, Ordering::Relaxed);
        of.nanoseconds.fetch_add(nanoseconds(took), Ordering::Relaxed);
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

    /// The counts of every hook that was called.
    pub(crate) fn describe(&self) -> Value {
        let mut all = Map::new();
        for (hook, of) in Hook::ALL.into_iter().zip(&self.hooks) {
            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            if count(&of.calls) + count(&of.skipped) == 0 {
                continue;
            }
            let faults: Map<String, Value> = FaultKind::ALL
                .into_iter()
                .zip(&of.faults)
                .filter(|(_, counter)| count(counter) > 0)
                .map(|(kind, counter)| (kind.label().to_owned(), json!(count(counter))))
                .collect();
            let of_hook = json!({
                "calls": count(&of.calls),
                "seconds": count(&of.nanoseconds) as f64 / 1e9,
                "rejections": count(&of.rejections),
                "skipped": count(&of.skipped),
                "faults": faults,
            });
            all.insert(hook.name().to_owned(), of_hook);
        }
        Value::Object(all)
    }
}

fn nanoseconds(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}
