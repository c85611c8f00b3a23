//! The earlier systems' names for the same numbers, with `metrics.compat: true`.
//!
//! Nothing is counted for them: each is worked out from the gateway's own metrics when the page is asked for. What they
//! said in another way, or never said, is settled here.
//!
//! | name | labels | what it is here |
//! |---|---|---|
//! | **GPT_API** (and its successor's labels) | | `backend` is the upstream |
//! | `gpt_api_requests_total` | endpoint, status, model, backend | requests that are over |
//! | `gpt_api_active_requests` | backend | running at a backend; endpoint and model of what still runs are not counted |
//! | `gpt_api_success_rate`, `gpt_api_success_rate_1m` | | complete over all that the client stayed for, 0 to 1; since the start, and over the last minute; 1 before the first. The other windows are `rate()`s of requests |
//! | `gpt_api_ttft_seconds`, `gpt_api_latency_seconds` | model, backend | histograms; the buckets are this gateway's |
//! | `gpt_api_tps`, `gpt_api_rps` | | tokens of answers, and requests, a second over the last minute, of all |
//! | `gpt_api_tokens_total` | model, type | `prompt`, `completion` |
//! | `gpt_api_token_distribution` | model, backend, type | histogram of the tokens of a request |
//! | `gpt_api_tokens_missing_total` | | complete answers whose tokens the upstream did not count |
//! | `gpt_api_backend_up` | backend | enabled, and its last attempt did not fail |
//! | `gpt_api_failover_total` | model | answered by another backend than the first one asked |
//! | `gpt_api_errors_total` | error_type, model, backend | `auth` (401, 403), `rate_limit` (429), `client_error` (other 4xx), `server_error` (5xx, and what broke off later) |
//! | `_max` and `_avg` over windows | | left out: `max_over_time` and `avg_over_time` say them |
//! | **Proxy Monitor** | | |
//! | `http_requests_total` | endpoint, status | requests that are over |
//! | `http_request_duration_seconds` | endpoint | histogram |
//! | `token_usage_total`, `tokens_by_model` | model, type | `prompt`, `completion`; the second is a gauge, because its name does not end with `_total` |
//! | `prompt_tokens_total`, `completion_tokens_total`, `tokens_total` | | sums over all models |
//! | `rate_limit_exceeded_total` | | 429 by this gateway and its plugins, not by upstreams |
//! | `tokens_by_user_model` | | left out: users are no label, whom a client names is not bounded; the audit says it |
//! | **Python proxy** | | the fields of `/stats`; gauges where the name does not end with `_total` |
//! | `proxy_requests_total`, `…_success`, `…_error`, `…_timeout`, `…_retry`, `…_active`, `…_streaming` | | as in `/stats`; `_streaming` counts all that asked for a stream |
//! | `proxy_latency_seconds` | | the mean since the start |
//! | `proxy_upstream_errors_total` | | attempts that an upstream failed |
//! | `proxy_circuit_breaker_trips_total` | | of all upstreams together |
//! | `proxy_uptime_seconds` | | time since the start |
//! | `proxy_response_status` | status_code | answers by status |
//! | `proxy_path_requests` | path | requests by endpoint, whose label stands for the path: paths are not bounded |

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::gateway::Gateway;
use crate::metrics::catalog::{Metric, metrics};
use crate::metrics::series::{Seen, SeenLine, SeenShare};
use crate::metrics::text::{Kind, Page};
use crate::snapshot::Snapshot;
use crate::upstream::Condition;

metrics! {
    GPT_REQUESTS = Counter "gpt_api_requests_total" ["endpoint", "status", "model", "backend"]
        "Requests that are over.";
    GPT_ACTIVE = Gauge "gpt_api_active_requests" ["backend"]
        "Requests that are running at a backend.";
    GPT_SUCCESS = Gauge "gpt_api_success_rate" []
        "Part of the requests that ended well since the start.";
    GPT_SUCCESS_1M = Gauge "gpt_api_success_rate_1m" []
        "Part of the requests that ended well in the last minute.";
    GPT_TTFT = Histogram "gpt_api_ttft_seconds" ["model", "backend"]
        "Time to the first token.";
    GPT_LATENCY = Histogram "gpt_api_latency_seconds" ["model", "backend"]
        "Time to the end of the answer.";
    GPT_TPS = Gauge "gpt_api_tps" []
        "Tokens a second over the last minute.";
    GPT_RPS = Gauge "gpt_api_rps" []
        "Requests a second over the last minute.";
    GPT_TOKENS = Counter "gpt_api_tokens_total" ["model", "type"]
        "Tokens by model.";
    GPT_TOKEN_DISTRIBUTION = Histogram "gpt_api_token_distribution" ["model", "backend", "type"]
        "Tokens of one request.";
    GPT_TOKENS_MISSING = Counter "gpt_api_tokens_missing_total" []
        "Answers whose tokens the backend did not count.";
    GPT_UP = Gauge "gpt_api_backend_up" ["backend"]
        "Whether a backend is enabled and its last attempt did not fail.";
    GPT_FAILOVER = Counter "gpt_api_failover_total" ["model"]
        "Requests that were answered by another backend than the first one asked.";
    GPT_ERRORS = Counter "gpt_api_errors_total" ["error_type", "model", "backend"]
        "Requests that did not end well.";
    HTTP_REQUESTS = Counter "http_requests_total" ["endpoint", "status"]
        "Requests that are over.";
    HTTP_DURATION = Histogram "http_request_duration_seconds" ["endpoint"]
        "Time to the end of the answer.";
    TOKEN_USAGE = Counter "token_usage_total" ["model", "type"]
        "Tokens by model.";
    TOKENS_BY_MODEL = Gauge "tokens_by_model" ["model", "type"]
        "Tokens by model.";
    PROMPT_TOKENS = Counter "prompt_tokens_total" []
        "Tokens of prompts.";
    COMPLETION_TOKENS = Counter "completion_tokens_total" []
        "Tokens of answers.";
    ALL_TOKENS = Counter "tokens_total" []
        "Tokens of prompts and answers.";
    RATE_LIMITED = Counter "rate_limit_exceeded_total" []
        "Requests over a limit of this gateway.";
    PROXY_REQUESTS = Counter "proxy_requests_total" []
        "Requests that are over.";
    PROXY_SUCCESS = Gauge "proxy_requests_success" []
        "Requests that ended well.";
    PROXY_ERROR = Gauge "proxy_requests_error" []
        "Requests that did not end well.";
    PROXY_TIMEOUT = Gauge "proxy_requests_timeout" []
        "Requests for which an upstream took too long.";
    PROXY_RETRY = Gauge "proxy_requests_retry" []
        "Attempts beyond the first one of a request.";
    PROXY_ACTIVE = Gauge "proxy_requests_active" []
        "Requests that are running.";
    PROXY_STREAMING = Gauge "proxy_requests_streaming" []
        "Requests that asked for a stream.";
    PROXY_LATENCY = Gauge "proxy_latency_seconds" []
        "Mean time to the end of the answer.";
    PROXY_UPSTREAM_ERRORS = Counter "proxy_upstream_errors_total" []
        "Attempts that an upstream failed.";
    PROXY_TRIPS = Counter "proxy_circuit_breaker_trips_total" []
        "Times that a circuit breaker opened.";
    PROXY_UPTIME = Gauge "proxy_uptime_seconds" []
        "Time since the start.";
    PROXY_STATUS = Gauge "proxy_response_status" ["status_code"]
        "Answers by status.";
    PROXY_PATH = Gauge "proxy_path_requests" ["path"]
        "Requests by endpoint.";
}

/// Adds all of them.
pub(super) fn collect(page: &mut Page, gateway: &Gateway, snapshot: &Snapshot, seen: &Seen) {
    gpt_api(page, gateway, snapshot, seen);
    proxy_monitor(page, seen);
    python_proxy(page, gateway, snapshot, seen);
}

fn gpt_api(page: &mut Page, gateway: &Gateway, snapshot: &Snapshot, seen: &Seen) {
    let labels = |line: &SeenLine| {
        let place = line.place.clone();
        Some((place.endpoint, line.status.to_string(), place.model, place.upstream))
    };
    for ((endpoint, status, model, backend), count) in seen.requests_by(labels) {
        page.count(&GPT_REQUESTS, &[endpoint, &status, &model, &backend], count);
    }
    for upstream in &snapshot.upstreams {
        let (name, state) = (&*upstream.settings.name, &upstream.state);
        page.number(&GPT_ACTIVE, &[name], state.in_flight() as f64);
        let is_up = upstream.settings.is_enabled && state.condition() != Condition::Failing;
        page.number(&GPT_UP, &[name], f64::from(u8::from(is_up)));
    }
    let metrics = &gateway.activity.metrics;
    let [success, error] = [&metrics.totals.success, &metrics.totals.error].map(now);
    page.number(&GPT_SUCCESS, &[], part(success, success + error));
    let minute = metrics.window.totals(Instant::now());
    let (complete, stayed) = minute.successes();
    page.number(&GPT_SUCCESS_1M, &[], part(complete, stayed));
    page.number(&GPT_TPS, &[], minute.tokens as f64 / minute.seconds);
    page.number(&GPT_RPS, &[], minute.requests as f64 / minute.seconds);
    for ((model, backend), share) in seen.shares_by(|place| (place.model.clone(), place.upstream.clone())) {
        let labels = [&*model, &*backend];
        page.histogram(&GPT_TTFT, &labels, &share.first_token);
        page.histogram(&GPT_LATENCY, &labels, &share.duration);
        for (kind, tokens) in [("prompt", &share.input), ("completion", &share.output)] {
            page.histogram(&GPT_TOKEN_DISTRIBUTION, &[&model, &backend, kind], tokens);
        }
    }
    by_model_and_type(page, &GPT_TOKENS, seen);
    for (model, share) in seen.shares_by(|place| place.model.clone()) {
        page.count(&GPT_FAILOVER, &[&model], share.moves);
    }
    page.count(&GPT_TOKENS_MISSING, &[], sum(seen, |share| share.usage_missing));
    let labels =
        |line: &SeenLine| Some((error_type(line)?, line.place.model.clone(), line.place.upstream.clone()));
    for ((kind, model, backend), count) in seen.requests_by(labels) {
        page.count(&GPT_ERRORS, &[kind, &model, &backend], count);
    }
}

fn proxy_monitor(page: &mut Page, seen: &Seen) {
    let labels = |line: &SeenLine| Some((line.place.endpoint, line.status.to_string()));
    for ((endpoint, status), count) in seen.requests_by(labels) {
        page.count(&HTTP_REQUESTS, &[endpoint, &status], count);
    }
    for (endpoint, share) in seen.shares_by(|place| place.endpoint) {
        page.histogram(&HTTP_DURATION, &[endpoint], &share.duration);
    }
    by_model_and_type(page, &TOKEN_USAGE, seen);
    by_model_and_type(page, &TOKENS_BY_MODEL, seen);
    let prompt = sum(seen, |share| share.input.whole_sum());
    let completion = sum(seen, |share| share.output.whole_sum());
    page.count(&PROMPT_TOKENS, &[], prompt);
    page.count(&COMPLETION_TOKENS, &[], completion);
    page.count(&ALL_TOKENS, &[], prompt + completion);
    let is_limited = |line: &SeenLine| (line.status == 429 && line.outcome != "failed").then_some(());
    let limited = seen.requests_by(is_limited).values().sum();
    page.count(&RATE_LIMITED, &[], limited);
}

fn python_proxy(page: &mut Page, gateway: &Gateway, snapshot: &Snapshot, seen: &Seen) {
    let metrics = &gateway.activity.metrics;
    let totals = &metrics.totals;
    page.count(&PROXY_REQUESTS, &[], now(&totals.requests));
    page.count(&PROXY_SUCCESS, &[], now(&totals.success));
    page.count(&PROXY_ERROR, &[], now(&totals.error));
    page.count(&PROXY_TIMEOUT, &[], now(&totals.timeout));
    page.count(&PROXY_RETRY, &[], now(&totals.retry));
    page.number(&PROXY_ACTIVE, &[], gateway.activity.running() as f64);
    page.count(&PROXY_STREAMING, &[], now(&totals.streaming));
    page.number(&PROXY_LATENCY, &[], totals.seconds_mean());
    page.count(&PROXY_UPSTREAM_ERRORS, &[], now(&totals.upstream_errors));
    page.count(&PROXY_TRIPS, &[], snapshot.breaker_trips());
    page.number(&PROXY_UPTIME, &[], metrics.window.age().as_secs_f64());
    for (status, count) in totals.by_status() {
        page.count(&PROXY_STATUS, &[&status], count);
    }
    for (endpoint, count) in seen.requests_by(|line| Some(line.place.endpoint)) {
        page.count(&PROXY_PATH, &[endpoint], count);
    }
}

fn by_model_and_type(page: &mut Page, metric: &'static Metric, seen: &Seen) {
    for (model, share) in seen.shares_by(|place| place.model.clone()) {
        page.count(metric, &[&model, "prompt"], share.input.whole_sum());
        page.count(metric, &[&model, "completion"], share.output.whole_sum());
    }
}

/// GPT_API's class of an exchange that did not end well.
fn error_type(line: &SeenLine) -> Option<&'static str> {
    match (line.status, line.outcome) {
        (_, "complete" | "cancelled") => None,
        (401 | 403, _) => Some("auth"),
        (429, _) => Some("rate_limit"),
        (400..=499, _) => Some("client_error"),
        _ => Some("server_error"),
    }
}

fn sum(seen: &Seen, part: impl Fn(&SeenShare) -> u64) -> u64 {
    seen.shares.values().map(part).sum()
}

/// A part of a whole, all of it where there is none.
fn part(of: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { of as f64 / whole as f64 }
}

fn now(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}
