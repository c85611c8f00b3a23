//! Every metric the gateway has: its name, its labels, and what it says.
//!
//! Names are `witgate_<what>_<unit>[_total]`. Labels come from the configuration or from closed sets, never from clients:
//! `endpoint` is an endpoint's label, `passthrough`, or `other` where the path is none that is known; `model` and
//! `upstream` are `other` where the name is not (see [`super::names`]), and `none` where there was no model or no upstream.
//! The earlier systems' names are in [`super::compat`].

use crate::metrics::text::Kind;

/// One metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// The name of its samples; a histogram's have a suffix.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
    /// The names of its labels.
    pub(crate) labels: &'static [&'static str],
    /// What it says.
    pub(crate) help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub(crate) static $constant: Metric =
                Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )*
        /// All of them, in the order of the page.
        #[cfg(test)]
        pub(crate) static ALL: &[&Metric] = &[$(&$constant),*];
    };
}
pub(super) use metrics;

metrics! {
    REQUESTS = Counter "witgate_requests_total" ["endpoint", "model", "upstream", "status", "outcome", "stream"]
        "Requests that are over. Status 499 is a client that left before there was an answer.";
    REQUEST_DURATION = Histogram "witgate_request_duration_seconds" ["endpoint", "model", "upstream"]
        "Time from the start of a request to the last byte of its answer.";
    GATEWAY_OVERHEAD = Histogram "witgate_gateway_overhead_seconds" ["endpoint"]
        "Time up to the head of an answer that the gateway itself took, plugins included, without waiting for clients and upstreams.";
    FIRST_TOKEN = Histogram "witgate_time_to_first_token_seconds" ["model", "upstream"]
        "Time from the start of a request to the first content of its stream.";
    TOKEN_GAP = Histogram "witgate_inter_token_gap_seconds" ["model", "upstream"]
        "Time between two pieces of a stream after its first content.";
    IN_FLIGHT = Gauge "witgate_requests_in_flight" []
        "Requests that are running, without the scrape that tells it.";
    ADMITTED = Gauge "witgate_admitted_in_flight" []
        "Requests that have a place in the gateway.";
    ADMITTED_MAX = Gauge "witgate_admitted_in_flight_max" []
        "The places there are in the gateway; 0 means no bound.";
    QUEUE_WAITING = Gauge "witgate_queue_waiting_requests" ["before"]
        "Requests that wait for a place: in the gateway, or at an upstream.";
    QUEUE_WAITING_MAX = Gauge "witgate_queue_waiting_requests_max" []
        "The most requests that may wait for a place, wherever; with 0 none does.";
    QUEUE_WAIT = Histogram "witgate_queue_wait_seconds" ["before", "ending"]
        "Time that requests waited for a place, by what it came to: admitted, timeout, displaced by a caller who had fewer, or left.";
    QUEUE_REFUSALS = Counter "witgate_queue_refusals_total" ["before", "reason"]
        "Requests that got no place: the queue was full (queue_full), or they waited too long (queue_timeout).";
    TOKENS = Counter "witgate_tokens_total" ["kind", "model", "upstream"]
        "Tokens: input (cached ones included), output (reasoning included), cached, reasoning.";
    REQUEST_TOKENS = Histogram "witgate_request_tokens" ["kind", "model", "upstream"]
        "Tokens of one request, input or output.";
    TOKENS_ESTIMATED = Counter "witgate_tokens_estimated_total" ["kind", "model", "upstream"]
        "Those of the tokens that the gateway estimated because the upstream did not say.";
    COST = Counter "witgate_cost_total" ["model", "upstream"]
        "What tokens cost by the table of prices, in its unit of money.";
    LIMIT_REFUSALS = Counter "witgate_limit_refusals_total" ["limit", "scope"]
        "Requests over a limit: requests, tokens, in_flight, token_budget or money_budget, of a caller, a tenant or in total.";
    LIMIT_METERS = Gauge "witgate_limit_meters" []
        "Counts that this process keeps for limits.";
    ERRORS = Counter "witgate_errors_total" ["kind", "blame"]
        "Requests that did not end well, by what went wrong and who caused it.";
    ATTEMPTS = Counter "witgate_upstream_attempts_total" ["upstream", "outcome"]
        "Attempts at an upstream: ok, client_error, rate_limited, server_error, or what went wrong.";
    FAILOVERS = Counter "witgate_failovers_total" ["upstream"]
        "Times that a request went on from an upstream to another one.";
    RETRIES = Counter "witgate_retries_total" ["upstream"]
        "Times that a request was sent to the same upstream again.";
    RETRIES_REFUSED = Counter "witgate_retries_refused_total" []
        "Times that a request was not tried again because `retry.budget` was used up.";
    MOVES = Counter "witgate_routing_moves_total" ["model", "upstream"]
        "Requests that were answered by another upstream than the first one asked.";
    UPSTREAM_IN_FLIGHT = Gauge "witgate_upstream_in_flight" ["upstream"]
        "Requests that are running at an upstream, to the last byte of the answer.";
    UPSTREAM_IN_FLIGHT_MAX = Gauge "witgate_upstream_in_flight_max" ["upstream"]
        "The most requests that may run at an upstream; 0 means no bound.";
    UPSTREAM_WAITING = Gauge "witgate_upstream_waiting_requests" ["upstream"]
        "Requests that wait for a place at an upstream, at others too maybe.";
    UPSTREAM_CONDITION = Gauge "witgate_upstream_condition" ["upstream", "condition"]
        "1 for what the last attempts at an upstream came to: unknown, healthy or failing.";
    UPSTREAM_BREAKER = Gauge "witgate_upstream_breaker_state" ["upstream", "state"]
        "1 for the state of an upstream's circuit breaker: closed, half_open or open.";
    UPSTREAM_BREAKER_TRIPS = Counter "witgate_upstream_breaker_trips_total" ["upstream"]
        "Times that an upstream's circuit breaker opened.";
    UPSTREAM_KEYS_RESTING = Gauge "witgate_upstream_keys_resting" ["upstream"]
        "Keys of an upstream that are left alone for a while because they were refused, where it has several.";
    UPSTREAM_ENABLED = Gauge "witgate_upstream_enabled" ["upstream"]
        "Whether an upstream takes part.";
    UPSTREAM_WEIGHT = Gauge "witgate_upstream_weight" ["upstream"]
        "The weight, or rank, of an upstream.";
    UPSTREAM_LATENCY = Gauge "witgate_upstream_latency_seconds" ["upstream"]
        "Time that the head of an upstream's last answer took; 0 before the first one.";
    PLUGIN_CALLS = Counter "witgate_plugin_calls_total" ["plugin", "hook"]
        "Calls of a plugin.";
    PLUGIN_DURATION = Histogram "witgate_plugin_duration_seconds" ["plugin", "hook"]
        "Time of one call of a plugin.";
    PLUGIN_REJECTIONS = Counter "witgate_plugin_rejections_total" ["plugin", "hook"]
        "Calls of a plugin that refused a request.";
    PLUGIN_SKIPPED = Counter "witgate_plugin_skipped_total" ["plugin", "hook"]
        "Calls of a plugin that were not made: it is quarantined, or all its instances are in use.";
    PLUGIN_FAULTS = Counter "witgate_plugin_faults_total" ["plugin", "hook", "kind"]
        "Calls of a plugin that broke.";
    PLUGIN_INSTANCES = Gauge "witgate_plugin_instances" ["plugin"]
        "Instances of a plugin, idle ones included.";
    PLUGIN_CONDITION = Gauge "witgate_plugin_condition" ["plugin", "condition"]
        "1 for what a plugin is: healthy, quarantined or probing.";
    PLUGIN_SERIES = Gauge "witgate_plugin_series" ["plugin"]
        "Series of a plugin's own metrics.";
    PLUGIN_VALUES_DROPPED = Counter "witgate_plugin_values_dropped_total" ["plugin"]
        "Values of a plugin's own metrics that were not recorded.";
    PLUGIN_METRICS_HIDDEN = Gauge "witgate_plugin_metrics_hidden" ["plugin"]
        "A plugin's own metrics that are not on this page, because their names are taken.";
    AUDIT_ON = Gauge "witgate_audit_enabled" []
        "Whether exchanges are recorded.";
    AUDIT_WRITTEN = Counter "witgate_audit_rows_written_total" []
        "Exchanges that were written to the audit.";
    AUDIT_DROPPED = Counter "witgate_audit_rows_dropped_total" ["reason"]
        "Exchanges that are not in the audit: its queue was full (queue), or they could not be written at all (write).";
    AUDIT_QUEUED = Gauge "witgate_audit_queue_rows" []
        "Exchanges that wait to be written.";
    AUDIT_QUEUED_BYTES = Gauge "witgate_audit_queue_bytes" []
        "Memory that they take.";
    AUDIT_LAG = Gauge "witgate_audit_lag_seconds" []
        "Time that the oldest of them has waited.";
    AUDIT_RETRYING = Gauge "witgate_audit_retrying" []
        "Whether nothing can be written for now, and it is tried again and again.";
    AUDIT_FAILURES = Counter "witgate_audit_failed_batches_total" []
        "Tries to write a batch that failed.";
    AUDIT_ROTATIONS = Counter "witgate_audit_rotations_total" []
        "Files that were closed because their time was over.";
    AUDIT_QUARANTINED = Counter "witgate_audit_quarantined_files_total" []
        "Damaged files that were put aside.";
    SHARED_UP = Gauge "witgate_shared_state_up" []
        "Whether the server that gateways share their state through can be reached; not there without one.";
    SHARED_CHANGES = Counter "witgate_shared_state_changes_total" ["to"]
        "Times that it was connected, or lost.";
    SHARED_FAILURES = Counter "witgate_shared_state_failures_total" []
        "Steps that it did not answer well, or not in time.";
    SHARED_DROPPED = Counter "witgate_shared_state_corrections_dropped_total" []
        "Corrections of what requests used that it was not told: limits count the estimate instead.";
    LOG_LOST = Counter "witgate_log_lines_lost_total" []
        "Lines of the log that came faster than they could be written, or could not be written at all.";
    SPANS_LOST = Counter "witgate_trace_spans_lost_total" []
        "Spans that did not reach the collector.";
    RELOADS = Counter "witgate_reloads_total" ["result"]
        "Times that the configuration was read again and replaced (ok) or refused (failed).";
    RELOAD_SUCCESSFUL = Gauge "witgate_last_reload_successful" []
        "Whether the configuration was good when it was read last.";
    RELOAD_TIME = Gauge "witgate_last_reload_timestamp_seconds" []
        "When the configuration was read last, in seconds since 1970.";
    CONFIG_INFO = Gauge "witgate_config_info" ["hash"]
        "1; the hash tells apart what the files of the configuration hold, secrets included, but not what the environment adds.";
    BUILD_INFO = Gauge "witgate_build_info" ["version"]
        "1; the version of the program.";
    CONNECTIONS = Gauge "witgate_connections_open" ["listener"]
        "Open connections of clients.";
    CONNECTIONS_MAX = Gauge "witgate_connections_max" []
        "The most connections that a listener holds open.";
    BUFFERED = Gauge "witgate_request_buffered_bytes" []
        "Bytes of requests that are held in memory.";
    BUFFERED_MAX = Gauge "witgate_request_buffered_bytes_max" []
        "The most bytes of requests that may be held in memory.";
    UPTIME = Gauge "witgate_uptime_seconds" []
        "Time since the start.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Total user and system CPU time spent in seconds.";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
        "Resident memory size in bytes.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Virtual memory size in bytes.";
    PROCESS_THREADS = Gauge "process_threads" []
        "Number of OS threads in the process.";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "Start time of the process since unix epoch in seconds.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Number of open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "Maximum number of open file descriptors.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::metrics::compat;

    #[test]
    fn every_name_says_what_it_is() {
        for metric in ALL.iter().chain(compat::ALL) {
            let name = metric.name;
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\n', '\\']), "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            );
        }
        for metric in ALL {
            assert!(
                metric.name.starts_with("witgate_") || metric.name.starts_with("process_"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn no_name_is_there_twice() {
        let names: HashSet<&str> = ALL.iter().chain(compat::ALL).map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len() + compat::ALL.len());
    }
}
