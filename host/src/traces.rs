//! Traces by the OpenTelemetry protocol: one span an exchange, and one below it for each attempt at an upstream.
//!
//! A caller's `traceparent` is honoured: its trace goes on, and its word on whether to record it counts; where it has
//! none, `otlp.sample` decides. What is recorded is passed on with the attempt's span as the parent, `tracestate` as it came.
//! What is not, and everything when there is no collector, is passed on untouched.
//!
//! Spans are made when an exchange is over, from the same facts as every other record; until then a trace is a few numbers.
//! A thread of the SDK sends them in batches. What waits is bounded, and so is each text in it; what cannot wait any more is dropped and counted.

mod context;
mod export;
mod span;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanId, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanProcessor,
};

use crate::config::Otlp;
use crate::exchange::Exchange;
use crate::traces::context::{Parent, TRACEPARENT, TRACESTATE};
use crate::traces::export::Backlog;
use crate::upstream::Upstream;

/// The most spans that wait for the collector.
const WAITING_MAX: usize = 8192;
/// The most spans that are sent in one request.
const BATCH_MAX: usize = 512;
/// The longest `tracestate` that a span has, in bytes; a longer one is passed on and not kept. Source: W3C Trace Context,
/// section 3.3.1.5, which asks for 512.
const TRACESTATE_BYTES_MAX: usize = 1024;
/// How long spans are gathered before they are sent.
const GATHER_TIME: Duration = Duration::from_secs(1);

/// Where traces go; clones are the same one.
#[derive(Clone)]
pub(crate) struct Traces {
    /// None when there is no collector.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    processor: BatchSpanProcessor,
    backlog: Arc<Backlog>,
    scope: InstrumentationScope,
    sample: f64,
}

/// The trace that an exchange is a part of, if it is recorded.
pub(crate) struct Trace {
    id: TraceId,
    /// The span of the exchange.
    span: SpanId,
    /// The caller's span.
    parent: Option<SpanId>,
    state: TraceState,
    /// One entry for each attempt, in order.
    sent: Vec<Sent>,
}

/// What an attempt is known by before it is over.
struct Sent {
    span: SpanId,
    upstream: Arc<Upstream>,
}

/// What an attempt is sent with.
pub(crate) struct Lineage {
    parent: HeaderValue,
    /// Whether the trace is the caller's: what came beside an invalid `traceparent` belongs to no trace.
    is_callers: bool,
}

impl Traces {
    /// Records nothing.
    pub(crate) fn off() -> Self {
        Self { inner: None }
    }

    /// Starts to send to the collector, if one is configured. Called within the runtime that is to send.
    ///
    /// # Errors
    ///
    /// A message when the collector's address cannot be used.
    pub(crate) fn start(settings: &Otlp) -> Result<Self, String> {
        let Some(endpoint) = &settings.endpoint else { return Ok(Self::off()) };
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder_empty()
            .with_service_name("witgate")
            .with_attribute(KeyValue::new("service.version", version))
            .build();
        let backlog = Arc::new(Backlog::default());
        let exporter = export::exporter(endpoint, settings, &resource, backlog.clone())?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(GATHER_TIME)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let scope = InstrumentationScope::builder("witgate").with_version(version).build();
        Ok(Self { inner: Some(Arc::new(Inner { processor, backlog, scope, sample: settings.sample })) })
    }

    /// Decides whether a request with these headers is traced, and as a part of which trace.
    pub(crate) fn begin(&self, headers: &HeaderMap) -> Option<Box<Trace>> {
        self.inner.as_ref()?.begin(headers)
    }

    /// Sends what became of an exchange. Never waits.
    pub(crate) fn record(&self, exchange: &Exchange) {
        if let (Some(inner), Some(trace)) = (&self.inner, &exchange.trace) {
            inner.record(exchange, trace);
        }
    }

    /// How many spans never reached the collector.
    pub(crate) fn lost(&self) -> u64 {
        self.inner.as_ref().map_or(0, |inner| inner.backlog.lost.load(Ordering::Relaxed))
    }

    /// Sends what still waits, but takes no longer than `time_max`; nothing is sent after it.
    pub(crate) async fn shutdown(&self, time_max: Duration) {
        let Some(inner) = self.inner.clone() else { return };
        let backlog = inner.backlog.clone();
        // It blocks, and needs the runtime's other threads for what it waits for.
        let ended =
            tokio::task::spawn_blocking(move || inner.processor.shutdown_with_timeout(time_max)).await;
        if !matches!(ended, Ok(Ok(()))) {
            let waiting = backlog.waiting.load(Ordering::Relaxed);
            tracing::warn!(waiting, "not every span reached the collector in time");
        }
    }
}

impl Inner {
    fn begin(&self, headers: &HeaderMap) -> Option<Box<Trace>> {
        let ids = RandomIdGenerator::default();
        let (id, parent, state) = match Parent::of(headers) {
            Some(parent) if !parent.is_sampled => return None,
            Some(parent) => {
                let state = headers.get(TRACESTATE).filter(|state| state.len() <= TRACESTATE_BYTES_MAX);
                let state = state.and_then(|state| state.to_str().ok()?.parse().ok());
                (parent.trace, Some(parent.span), state.unwrap_or_default())
            }
            None => {
                let id = ids.new_trace_id();
                if !is_chosen(id, self.sample) {
                    return None;
                }
                (id, None, TraceState::default())
            }
        };
        Some(Box::new(Trace { id, span: ids.new_span_id(), parent, state, sent: Vec::new() }))
    }

    fn record(&self, exchange: &Exchange, trace: &Trace) {
        if exchange.passes_by() {
            return;
        }
        let count = 1 + trace.sent.len();
        let waiting = self.backlog.waiting.fetch_add(count, Ordering::Relaxed);
        if waiting + count > WAITING_MAX {
            self.backlog.waiting.fetch_sub(count, Ordering::Relaxed);
            self.backlog.lost.fetch_add(count as u64, Ordering::Relaxed);
            return;
        }
        for span in span::spans(exchange, trace, &self.scope) {
            self.processor.on_end(span);
        }
    }
}

impl Trace {
    /// Notes an attempt that is about to begin; what it is to be sent with.
    pub(crate) fn attempt(&mut self, upstream: &Arc<Upstream>) -> Lineage {
        let span = RandomIdGenerator::default().new_span_id();
        self.sent.push(Sent { span, upstream: upstream.clone() });
        let parent = Parent { trace: self.id, span, is_sampled: true };
        Lineage { parent: parent.header(), is_callers: self.parent.is_some() }
    }

    /// Orders the attempts as the exchange does.
    pub(crate) fn put_last(&mut self, attempt: usize) {
        self.sent[attempt..].rotate_left(1);
    }
}

impl Lineage {
    /// Names the attempt as the parent of what the upstream does.
    pub(crate) fn put_into(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.parent.clone());
        if !self.is_callers {
            headers.remove(TRACESTATE);
        }
    }
}

/// Whether a trace is one of the share that is recorded; every part of a system that asks so decides alike.
fn is_chosen(trace: TraceId, share: f64) -> bool {
    // As many bits as a float tells apart.
    let random = u128::from_be_bytes(trace.to_bytes()) as u64 & ((1 << 53) - 1);
    (random as f64) < share * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_is_recorded_is_as_configured() {
        let ids = RandomIdGenerator::default();
        let chosen = (0..10_000).filter(|_| is_chosen(ids.new_trace_id(), 0.25)).count();
        assert!((2_200..2_800).contains(&chosen), "{chosen}");
        for id in [TraceId::from_bytes([0; 16]), TraceId::from_bytes([0xff; 16])] {
            assert!(is_chosen(id, 1.0));
            assert!(!is_chosen(id, 0.0));
        }
    }

    #[test]
    fn nothing_is_traced_without_a_collector() {
        let traces = Traces::start(&Otlp::default()).unwrap();
        assert!(traces.begin(&HeaderMap::new()).is_none());
    }
}
