//! Everything that is known at one moment, put on a page.

use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use crate::audit;
use crate::gateway::Gateway;
use crate::limit::Limits;
use crate::limit::queue::{Before, Queue};
use crate::metrics::text::Page;
use crate::metrics::{Listener, Metrics, catalog, compat, process, series::Seen};
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::upstream::{Upstream, breaker};

/// What the last attempts at an upstream can have come to.
const CONDITIONS: [&str; 3] = ["unknown", "healthy", "failing"];
/// What a plugin can be.
const PLUGIN_CONDITIONS: [&str; 3] = ["healthy", "quarantined", "probing"];

/// Gathers all metrics.
pub(super) fn collect(gateway: &Gateway) -> Page {
    let snapshot = gateway.snapshots.current();
    let metrics = &gateway.activity.metrics;
    let names = metrics.names.load();
    let seen = metrics.series.seen(&names);
    let mut page = Page::default();
    requests(&mut page, &seen);
    page.number(&catalog::IN_FLIGHT, &[], gateway.activity.running() as f64);
    queue(&mut page, &gateway.activity.queue);
    tokens(&mut page, &seen);
    limits(&mut page, &gateway.limits);
    errors(&mut page, metrics);
    attempts(&mut page, metrics, &snapshot);
    upstreams(&mut page, &snapshot);
    plugins(&mut page, &snapshot);
    audit(&mut page, &gateway.activity.audit.state());
    if let Some(shared) = &gateway.shared {
        self::shared(&mut page, shared);
    }
    process_wide(&mut page, gateway, &snapshot);
    process::collect(&mut page);
    if snapshot.config.metrics.is_compat {
        compat::collect(&mut page, gateway, &snapshot, &seen);
    }
    // Last, so that they cannot take a name of the gateway's.
    plugins_own(&mut page, &snapshot);
    page
}

fn requests(page: &mut Page, seen: &Seen) {
    for line in &seen.lines {
        let place = &line.place;
        let stream = if line.is_stream { "true" } else { "false" };
        let labels =
            [place.endpoint, &place.model, &place.upstream, &line.status.to_string(), line.outcome, stream];
        page.count(&catalog::REQUESTS, &labels, line.requests);
    }
    for (place, share) in &seen.shares {
        let labels = [place.endpoint, &*place.model, &*place.upstream];
        page.histogram(&catalog::REQUEST_DURATION, &labels, &share.duration);
    }
    for (endpoint, times) in &seen.overheads {
        page.histogram(&catalog::GATEWAY_OVERHEAD, &[endpoint], times);
    }
    for ((model, upstream), share) in seen.shares_by(|place| (place.model.clone(), place.upstream.clone())) {
        let labels = [&*model, &*upstream];
        if share.first_token.count() > 0 {
            page.histogram(&catalog::FIRST_TOKEN, &labels, &share.first_token);
        }
        if share.gaps.count() > 0 {
            page.histogram(&catalog::TOKEN_GAP, &labels, &share.gaps);
        }
        if share.moves > 0 {
            page.count(&catalog::MOVES, &labels, share.moves);
        }
    }
}

fn queue(page: &mut Page, queue: &Queue) {
    page.number(&catalog::ADMITTED, &[], queue.total().taken() as f64);
    page.number(&catalog::ADMITTED_MAX, &[], queue.total().bound() as f64);
    page.number(&catalog::QUEUE_WAITING_MAX, &[], queue.len_max() as f64);
    for before in Before::ALL {
        let label = before.label();
        page.number(&catalog::QUEUE_WAITING, &[label], queue.waiting(before) as f64);
        for (ending, waits) in queue.waits(before) {
            if waits.count() > 0 {
                page.histogram(&catalog::QUEUE_WAIT, &[label, ending], &waits);
            }
        }
        for (reason, count) in queue.refused(before) {
            page.count(&catalog::QUEUE_REFUSALS, &[label, reason], count);
        }
    }
}

fn tokens(page: &mut Page, seen: &Seen) {
    for ((model, upstream), share) in seen.shares_by(|place| (place.model.clone(), place.upstream.clone())) {
        if share.cost > 0 {
            page.number(&catalog::COST, &[&model, &upstream], share.cost as f64 / 1e9);
        }
        if share.input.count() == 0 {
            continue;
        }
        for (kind, count) in share.tokens() {
            page.count(&catalog::TOKENS, &[kind, &model, &upstream], count);
        }
        for (kind, count) in [("input", share.input_estimated), ("output", share.output_estimated)] {
            page.count(&catalog::TOKENS_ESTIMATED, &[kind, &model, &upstream], count);
        }
        for (kind, tokens) in [("input", &share.input), ("output", &share.output)] {
            page.histogram(&catalog::REQUEST_TOKENS, &[kind, &model, &upstream], tokens);
        }
    }
}

fn limits(page: &mut Page, limits: &Limits) {
    for (limit, scope, count) in limits.refused() {
        page.count(&catalog::LIMIT_REFUSALS, &[limit, scope], count);
    }
    page.number(&catalog::LIMIT_METERS, &[], limits.meters() as f64);
}

fn errors(page: &mut Page, metrics: &Metrics) {
    let errors = metrics.errors.lock().expect("no code panics while it holds this lock");
    for (kind, known) in &*errors {
        page.count(&catalog::ERRORS, &[kind, known.blame], known.count);
    }
}

fn attempts(page: &mut Page, metrics: &Metrics, snapshot: &Snapshot) {
    for (upstream, counts) in metrics.names.load().upstreams() {
        for (outcome, count) in counts.by_outcome() {
            page.count(&catalog::ATTEMPTS, &[upstream, outcome], count);
        }
        page.count(&catalog::FAILOVERS, &[upstream], counts.failovers.load(Ordering::Relaxed));
        page.count(&catalog::RETRIES, &[upstream], counts.retries.load(Ordering::Relaxed));
    }
    page.count(&catalog::RETRIES_REFUSED, &[], snapshot.retries.refused());
}

fn upstreams(page: &mut Page, snapshot: &Snapshot) {
    for upstream in &snapshot.upstreams {
        let Upstream { settings, state, .. } = &**upstream;
        let name = &*settings.name;
        page.number(&catalog::UPSTREAM_IN_FLIGHT, &[name], state.in_flight() as f64);
        page.number(&catalog::UPSTREAM_IN_FLIGHT_MAX, &[name], settings.max_in_flight as f64);
        page.number(&catalog::UPSTREAM_WAITING, &[name], state.places.waiting() as f64);
        page.states(&catalog::UPSTREAM_CONDITION, name, &CONDITIONS, state.condition().name());
        let breaker = upstream.breaker_standing();
        page.states(&catalog::UPSTREAM_BREAKER, name, &breaker::Condition::NAMES, breaker.condition.name());
        page.count(&catalog::UPSTREAM_BREAKER_TRIPS, &[name], breaker.trips);
        let keys = upstream.key_standings();
        if !keys.is_empty() {
            let resting = keys.iter().filter(|key| key.condition == breaker::Condition::Open).count();
            page.number(&catalog::UPSTREAM_KEYS_RESTING, &[name], resting as f64);
        }
        page.number(&catalog::UPSTREAM_ENABLED, &[name], f64::from(u8::from(settings.is_enabled)));
        page.number(&catalog::UPSTREAM_WEIGHT, &[name], f64::from(settings.priority));
        page.number(&catalog::UPSTREAM_LATENCY, &[name], state.latency().as_secs_f64());
    }
}

fn plugins(page: &mut Page, snapshot: &Snapshot) {
    for plugin in &snapshot.plugins.plugins {
        let name = &*plugin.settings.name;
        for hook in plugin.counters().by_hook() {
            let labels = [name, hook.name];
            page.count(&catalog::PLUGIN_CALLS, &labels, hook.duration.count());
            page.histogram(&catalog::PLUGIN_DURATION, &labels, &hook.duration);
            page.count(&catalog::PLUGIN_REJECTIONS, &labels, hook.rejections);
            page.count(&catalog::PLUGIN_SKIPPED, &labels, hook.skipped);
            for (kind, count) in hook.faults {
                page.count(&catalog::PLUGIN_FAULTS, &[name, hook.name, kind], count);
            }
        }
        page.number(&catalog::PLUGIN_INSTANCES, &[name], plugin.instances() as f64);
        page.states(&catalog::PLUGIN_CONDITION, name, &PLUGIN_CONDITIONS, plugin.condition());
    }
}

fn plugins_own(page: &mut Page, snapshot: &Snapshot) {
    for plugin in &snapshot.plugins.plugins {
        let name = &*plugin.settings.name;
        let own = plugin.own_metrics();
        page.number(&catalog::PLUGIN_SERIES, &[name], own.series as f64);
        page.count(&catalog::PLUGIN_VALUES_DROPPED, &[name], own.dropped);
        let hidden = own.families.iter().filter(|metric| !page.own(name, metric)).count();
        page.number(&catalog::PLUGIN_METRICS_HIDDEN, &[name], hidden as f64);
    }
}

fn audit(page: &mut Page, state: &audit::State) {
    let flag = |is_so: bool| f64::from(u8::from(is_so));
    page.number(&catalog::AUDIT_ON, &[], flag(state.is_on));
    page.count(&catalog::AUDIT_WRITTEN, &[], state.written);
    page.count(&catalog::AUDIT_DROPPED, &["queue"], state.dropped);
    page.count(&catalog::AUDIT_DROPPED, &["write"], state.lost);
    page.count(&catalog::AUDIT_QUEUED, &[], state.queued);
    page.count(&catalog::AUDIT_QUEUED_BYTES, &[], state.queued_bytes);
    page.number(&catalog::AUDIT_LAG, &[], state.lag.as_secs_f64());
    page.number(&catalog::AUDIT_RETRYING, &[], flag(state.retrying.is_some()));
    page.count(&catalog::AUDIT_FAILURES, &[], state.failures);
    page.count(&catalog::AUDIT_ROTATIONS, &[], state.rotations);
    page.count(&catalog::AUDIT_QUARANTINED, &[], state.quarantined);
}

fn shared(page: &mut Page, shared: &Shared) {
    let health = shared.connection.health();
    page.number(&catalog::SHARED_UP, &[], f64::from(u8::from(health.is_up)));
    page.count(&catalog::SHARED_CHANGES, &["connected"], health.connected);
    page.count(&catalog::SHARED_CHANGES, &["lost"], health.lost);
    page.count(&catalog::SHARED_FAILURES, &[], health.failures);
    page.count(&catalog::SHARED_DROPPED, &[], shared.counts.dropped());
}

fn process_wide(page: &mut Page, gateway: &Gateway, snapshot: &Snapshot) {
    let metrics = &gateway.activity.metrics;
    page.count(&catalog::LOG_LOST, &[], gateway.activity.log.lost());
    let reloads = gateway.reloader.tally();
    page.count(&catalog::SPANS_LOST, &[], gateway.activity.traces.lost());
    page.count(&catalog::RELOADS, &["ok"], reloads.replaced);
    page.count(&catalog::RELOADS, &["failed"], reloads.refused);
    page.number(&catalog::RELOAD_SUCCESSFUL, &[], f64::from(u8::from(reloads.is_good)));
    let read_at = reloads.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    page.number(&catalog::RELOAD_TIME, &[], read_at.as_secs_f64());
    let hash = metrics.config_hash.lock().expect("no code panics while it holds this lock").clone();
    page.number(&catalog::CONFIG_INFO, &[&hash], 1.0);
    page.number(&catalog::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    for listener in Listener::ALL {
        let open = metrics.connections[listener as usize].load(Ordering::Relaxed);
        page.number(&catalog::CONNECTIONS, &[listener.label()], open as f64);
    }
    let server = &snapshot.config.server;
    page.number(&catalog::CONNECTIONS_MAX, &[], server.connections_max as f64);
    page.number(&catalog::BUFFERED, &[], gateway.budget.held() as f64);
    page.number(&catalog::BUFFERED_MAX, &[], server.buffered_bytes_max as f64);
    page.number(&catalog::UPTIME, &[], metrics.window.age().as_secs_f64());
}
