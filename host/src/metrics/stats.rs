//! `/stats`: the numbers as JSON, with the fields of the Python proxy.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::health;
use crate::limit::queue::Before;

/// What there is at this moment.
///
/// `error` is what did not end well although the client stayed: refused, rejected or failed; a client that left is
/// neither `success` nor `error`. `errors` and the rest of the window mean the same.
pub(super) fn describe(gateway: &Gateway) -> Value {
    let metrics = &gateway.activity.metrics;
    let snapshot = gateway.snapshots.current();
    let totals = &metrics.totals;
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let by_status: Map<String, Value> =
        totals.by_status().into_iter().map(|(status, count)| (status, json!(count))).collect();
    let queue = &gateway.activity.queue;
    let audit = gateway.activity.audit.state();
    let [input, output, cached, reasoning] = totals.tokens.each_ref().map(count);
    json!({
        "uptime_seconds": metrics.window.age().as_secs(),
        "requests": {
            "total": count(&totals.requests),
            "success": count(&totals.success),
            "error": count(&totals.error),
            "timeout": count(&totals.timeout),
            "retry": count(&totals.retry),
            "active": gateway.activity.running(),
            "streaming": count(&totals.streaming),
        },
        "latency": {"avg_seconds": totals.seconds_mean()},
        "errors": {"upstream": count(&totals.upstream_errors), "circuit_breaker_trips": snapshot.breaker_trips()},
        "status_codes": by_status,
        "circuit_breaker": health::circuit_breaker(&snapshot),
        "tokens": {"input": input, "output": output, "cached": cached, "reasoning": reasoning},
        "limits": gateway.limits.stats(),
        "window": metrics.window.describe(Instant::now()),
        "queue": {
            "admitted": queue.total().taken(),
            "admitted_max": queue.total().bound(),
            "waiting": Before::ALL.map(|before| queue.waiting(before)).iter().sum::<usize>(),
            "waiting_max": queue.len_max(),
            "refused": Before::ALL.iter().flat_map(|before| queue.refused(*before)).map(|(_, count)| count).sum::<u64>(),
        },
        "audit": {
            "on": audit.is_on,
            "queued": audit.queued,
            "queued_bytes": audit.queued_bytes,
            "lag_ms": audit.lag.as_secs_f64() * 1e3,
            "written": audit.written,
            "dropped": audit.dropped + audit.lost,
            "retrying": audit.retrying,
            "file": audit.place,
        },
    })
}
