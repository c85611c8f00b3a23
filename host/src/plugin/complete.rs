//! What plugins with `on-complete` are told of an exchange that is over.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::StatusCode;

use crate::chat::StopReason;
use crate::error::ErrorKind;
use crate::exchange::{Bodies, Exchange, Outcome};
use crate::plugin::Plugin;
use crate::plugin::bindings::imports::types;
use crate::plugin::hook::Hook;
use crate::plugin::load::Loaded;
use crate::plugin::worker::{AuditRecord, Record};
use crate::wire::Endpoint;

/// Has every plugin with `on-complete` told when the exchange is over, if it matches what that turned out to be.
pub(crate) fn watch(loaded: &Loaded, exchange: &mut Exchange) {
    for plugin in loaded.plugins.iter().filter(|plugin| plugin.hooks().has(Hook::OnComplete)) {
        if plugin.settings.allow.audit_bodies && exchange.bodies.is_none() {
            exchange.bodies = Some(Box::<Bodies>::default());
        }
        let plugin: Arc<Plugin> = plugin.clone();
        exchange.at_end(Box::new(move |exchange| {
            let Some(worker) = &plugin.worker else { return };
            let endpoint = Endpoint::labelled(exchange.endpoint);
            let model = exchange.model.as_deref().unwrap_or_default();
            let key = exchange.key.as_deref();
            if plugin.settings.matching.takes(endpoint, model, key, exchange.is_stream) {
                worker.send(record(exchange, plugin.settings.allow.audit_bodies));
            }
        }));
    }
}

fn record(exchange: &Exchange, with_bodies: bool) -> Record {
    let total = exchange.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let bodies = exchange.bodies.as_deref().filter(|_| with_bodies);
    let left = ErrorKind::Cancelled.status().as_u16();
    let finish = match exchange.outcome() {
        Outcome::Cancelled => Some(types::Finish::Cancelled),
        // What failed before an answer began has no end.
        Outcome::Failed(_) => {
            exchange.status.filter(StatusCode::is_success).map(|_| types::Finish::UpstreamError)
        }
        Outcome::Complete => exchange.finish.map(|reason| match reason {
            StopReason::Stop | StopReason::Other => types::Finish::Stop,
            StopReason::Length => types::Finish::Length,
            StopReason::ToolCalls => types::Finish::ToolCalls,
            StopReason::ContentFilter => types::Finish::ContentFilter,
        }),
    };
    let facts = AuditRecord {
        id: exchange.id.to_str().unwrap_or_default().to_owned(),
        tenant: exchange.tenant.as_deref().map(str::to_owned),
        operation: exchange.endpoint.to_owned(),
        model: exchange.model.as_deref().unwrap_or_default().to_owned(),
        upstream: exchange.attempts.last().map(|attempt| attempt.upstream.to_string()),
        status: exchange.status.map_or(left, |status| status.as_u16()),
        finish,
        usage: exchange.usage.map(types::Usage::from),
        started_unix_ms: u64::try_from(now.saturating_sub(total).as_millis()).unwrap_or(u64::MAX),
        ttft_us: exchange.first_token.map(us),
        total_us: us(total),
        tags: exchange.tags.iter().cloned().collect(),
        request_body: None,
        response_body: None,
    };
    Record {
        number: exchange.number,
        activity: exchange.activity(),
        facts,
        request: bodies.map(|bodies| bodies.request.clone()),
        response: bodies.map(|bodies| bodies.response.clone()),
    }
}
