//! Whether the gateway is alive, ready and what it is: `/`, `/health`, `/healthz`, `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::gateway::{Gateway, json_headers};
use crate::snapshot::Snapshot;
use crate::upstream::{Condition, Upstream, breaker};

/// What `/readyz` says where anybody may spend the upstreams' keys.
const OPEN: &str = "ready, but anybody who reaches this listener can use the upstreams' keys";

/// What the health endpoints know besides the snapshot.
pub(crate) struct State {
    started: Instant,
    is_draining: AtomicBool,
}

impl State {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), is_draining: AtomicBool::new(false) }
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }
}

/// The methods of all of them.
pub(crate) const METHODS: &[Method] = &[Method::GET, Method::HEAD];

/// One of the health endpoints.
#[derive(Clone, Copy)]
pub(crate) enum Page {
    /// `/`: what this is.
    Service,
    /// `/health`: details.
    Health,
    /// `/healthz`: alive.
    Alive,
    /// `/readyz`: usable.
    Ready,
}

impl Page {
    /// The page of a path.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Service),
            "/health" => Some(Self::Health),
            "/healthz" => Some(Self::Alive),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }

    /// What it says now.
    pub(crate) fn render(self, snapshot: &Snapshot, gateway: &Gateway) -> (StatusCode, HeaderMap, Bytes) {
        match self {
            Self::Service => document(&service(snapshot)),
            Self::Health => document(&health(snapshot, gateway)),
            Self::Alive => text(StatusCode::OK, "OK"),
            Self::Ready => match obstacle(snapshot, gateway) {
                None if snapshot.config.is_open_to_anybody() => text(StatusCode::OK, OPEN),
                None => text(StatusCode::OK, "ready"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
        }
    }
}

fn obstacle(snapshot: &Snapshot, gateway: &Gateway) -> Option<&'static str> {
    if gateway.health.is_draining.load(Ordering::Relaxed) {
        return Some("draining");
    }
    let is_usable = |upstream: &Upstream| upstream.settings.is_enabled;
    (!snapshot.upstreams.iter().any(|upstream| is_usable(upstream))).then_some("no upstream is enabled")
}

fn service(snapshot: &Snapshot) -> Value {
    let first = snapshot.upstreams.first();
    json!({
        "service": "witgate",
        "version": env!("CARGO_PKG_VERSION"),
        "status": "running",
        "upstream": first.map(|upstream| &*upstream.settings.name),
        "upstream_status": first.map_or("unknown", |upstream| upstream.state.condition().label()),
        "upstream_latency_ms": first.map(|upstream| upstream.state.latency().as_secs_f64() * 1e3),
    })
}

/// The first upstream under S5's names, and all of them in a list.
fn health(snapshot: &Snapshot, gateway: &Gateway) -> Value {
    let mut health = service(snapshot);
    let upstreams: Vec<Value> = snapshot.upstreams.iter().map(|upstream| describe(upstream)).collect();
    health["status"] = json!("ok");
    health["active_requests"] = json!(gateway.activity.running());
    health["uptime_seconds"] = json!(gateway.health.started.elapsed().as_secs());
    health["circuit_breaker"] = circuit_breaker(snapshot);
    health["upstreams"] = json!(upstreams);
    health
}

/// The first upstream's breaker under S5's names, and how many are not closed.
pub(crate) fn circuit_breaker(snapshot: &Snapshot) -> Value {
    let mut not_closed = 0;
    for upstream in &snapshot.upstreams {
        not_closed += u32::from(upstream.breaker_standing().condition != breaker::Condition::Closed);
    }
    let Some(first) = snapshot.upstreams.first() else { return json!({"state": "closed", "not_closed": 0}) };
    let (standing, settings) = (first.breaker_standing(), &first.settings.breaker);
    json!({
        "state": standing.condition.name(),
        "failure_count": standing.failures,
        "threshold": settings.failures,
        "timeout_seconds": settings.cooldown.as_secs_f64(),
        "not_closed": not_closed,
    })
}

fn describe(upstream: &Upstream) -> Value {
    json!({
        "name": &*upstream.settings.name,
        "status": upstream.state.condition().label(),
        "breaker": upstream.breaker_standing().condition.name(),
        "enabled": upstream.settings.is_enabled,
        "in_flight": upstream.state.in_flight(),
        "latency_ms": upstream.state.latency().as_secs_f64() * 1e3,
    })
}

impl Condition {
    /// S5's word for it.
    fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Failing => "degraded",
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> (StatusCode, HeaderMap, Bytes) {
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    (status, HeaderMap::from_iter([(header::CONTENT_TYPE, plain)]), Bytes::from_static(text.as_bytes()))
}

fn document(value: &Value) -> (StatusCode, HeaderMap, Bytes) {
    (StatusCode::OK, json_headers(), value.to_string().into())
}
