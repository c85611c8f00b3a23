//! Traces, as a collector that speaks OTLP over HTTP receives them.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use witgate_tests::gateway::Launch;
use witgate_tests::{Gate, Gateway, Received, Reply, Request, Upstream, eventually};

const CALLERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that takes everything.
fn collector() -> Upstream {
    Upstream::always(Reply::new(200).header("content-type", "application/x-protobuf"))
}

#[track_caller]
fn start(upstreams: &[&Upstream], collector: &Upstream, further: &str) -> Gateway {
    launch(Launch::default(), upstreams, collector, further)
}

#[track_caller]
fn launch(launch: Launch, upstreams: &[&Upstream], collector: &Upstream, further: &str) -> Gateway {
    let names = ["one", "two"];
    let upstreams: String = upstreams
        .iter()
        .zip(names)
        .map(|(upstream, name)| format!("  - {{ name: {name}, base_url: {} }}\n", upstream.url()))
        .collect();
    launch.start(&format!(
        "routing: {{ strategy: failover }}\notlp: {{ endpoint: {}, headers: {{ x-team: search }}{further} }}\nupstreams:\n{upstreams}",
        collector.origin()
    ))
}

/// The spans in requests to a collector.
fn spans(requests: &[Received]) -> Vec<Span> {
    let mut spans = Vec::new();
    for request in requests.iter().filter(|request| request.is_complete) {
        assert_eq!((&*request.method, &*request.target), ("POST", "/v1/traces"));
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let export = ExportTraceServiceRequest::decode(&*request.body).expect("it is OTLP");
        for of_resource in export.resource_spans {
            let resource = of_resource.resource.expect("spans have a resource");
            let name =
                resource.attributes.iter().find(|pair| pair.key == "service.name").expect("it has a name");
            let value = name.value.as_ref().expect("it has a value");
            assert_eq!(value.value, Some(Value::StringValue("witgate".to_owned())));
            spans.extend(of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans));
        }
    }
    spans
}

/// So many spans, as soon as they have arrived; the one without a parent among them comes first.
#[track_caller]
fn received(collector: &Upstream, count: usize) -> Vec<Span> {
    let mut all = collector.wait("spans", |requests| Some(spans(requests)).filter(|all| all.len() >= count));
    all.sort_by_key(|span| (span.kind != SpanKind::Server as i32, span.start_time_unix_nano));
    assert_eq!(all.len(), count, "{all:#?}");
    all
}

/// An attribute as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let value = span.attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        Value::DoubleValue(number) => number.to_string(),
        Value::ArrayValue(list) => format!("{:?}", list.values),
        other => format!("{other:?}"),
    })
}

#[track_caller]
fn expect(span: &Span, attributes: &[(&str, &str)]) {
    for (key, value) in attributes {
        assert_eq!(attribute(span, key).as_deref(), Some(*value), "{key}: {span:#?}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The code of an error in a span's status. Source: opentelemetry-proto, `Status.StatusCode`.
const ERROR: i32 = 2;

fn code(span: &Span) -> i32 {
    span.status.as_ref().map_or(0, |status| status.code)
}

// parity: 158
#[test]
fn a_whole_answer_is_a_span_with_one_attempt_below() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let gateway = start(&[&upstream], &collector, "");
    let request = Request::chat("a secret prompt").header("authorization", "Bearer sk-known");
    gateway.send(&request.header("x-request-id", "id-1")).expect(200);
    gateway.send(&Request::get("/healthz")).expect(200);
    let all = received(&collector, 2);
    let (own, attempt) = (&all[0], &all[1]);
    assert_eq!((&*own.name, &*attempt.name), ("chat m", "chat m"));
    assert_eq!((own.kind, attempt.kind), (SpanKind::Server as i32, SpanKind::Client as i32));
    assert!(own.parent_span_id.is_empty());
    assert_eq!((&attempt.parent_span_id, &attempt.trace_id), (&own.span_id, &own.trace_id));
    assert!(own.start_time_unix_nano <= attempt.start_time_unix_nano);
    assert!(attempt.end_time_unix_nano <= own.end_time_unix_nano);
    expect(
        own,
        &[
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.provider.name", "openai"),
            ("gen_ai.request.model", "m"),
            ("gen_ai.usage.input_tokens", "3"),
            ("gen_ai.usage.output_tokens", "2"),
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("url.path", "/v1/chat/completions"),
            ("client.address", "127.0.0.1"),
            ("witgate.request_id", "id-1"),
            ("witgate.outcome", "complete"),
        ],
    );
    assert!(attribute(own, "gen_ai.response.finish_reasons").unwrap().contains("stop"), "{own:#?}");
    let port = upstream.address().port().to_string();
    expect(
        attempt,
        &[
            ("server.address", "127.0.0.1"),
            ("server.port", &port),
            ("http.response.status_code", "200"),
            ("witgate.upstream", "one"),
        ],
    );
    assert_eq!((code(own), code(attempt)), (0, 0));
    assert_eq!(attribute(own, "error.type"), None);
    assert_eq!(attribute(own, "gen_ai.response.model"), None, "what was asked for is not what answered");
    let sent = upstream.only();
    let parent = sent.header("traceparent").expect("the upstream learns of the trace").to_owned();
    assert_eq!(parent, format!("00-{}-{}-01", hex(&own.trace_id), hex(&attempt.span_id)));
    let export = collector.last();
    assert_eq!(export.header("x-team"), Some("search"));
    let bytes = String::from_utf8_lossy(&export.body).into_owned();
    assert!(!bytes.contains("secret") && !bytes.contains("sk-known") && !bytes.contains("hello"));
}

#[test]
fn a_stream_lasts_as_long_as_its_answer() {
    let gate = Gate::new();
    let upstream = Upstream::always(Reply::chat_stream(&["a"]).wait(&gate));
    let collector = collector();
    let gateway = start(&[&upstream], &collector, "");
    let mut client = gateway.ask(&Request::chat_stream("hi"));
    assert_eq!(client.head().status, 200);
    assert!(client.event().is_some());
    gate.open();
    client.rest();
    let all = received(&collector, 2);
    expect(&all[0], &[("gen_ai.request.stream", "true"), ("witgate.outcome", "complete")]);
    assert!(attribute(&all[0], "gen_ai.response.time_to_first_chunk").is_some(), "{:#?}", all[0]);
    assert_eq!(all[0].end_time_unix_nano, all[1].end_time_unix_nano, "the attempt is the answer");
}

// parity: 158
#[test]
fn a_callers_trace_goes_on() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let gateway = start(&[&upstream], &collector, ", sample: 0%");
    gateway.send(&Request::chat("not sampled")).expect(200);
    let unsampled = format!("{}00", &CALLERS[..53]);
    gateway.send(&Request::chat("not sampled").header("traceparent", &unsampled)).expect(200);
    let request = Request::chat("hi").header("traceparent", CALLERS).header("tracestate", "vendor=1");
    gateway.send(&request).expect(200);
    let all = received(&collector, 2);
    assert_eq!(hex(&all[0].trace_id), &CALLERS[3..35]);
    assert_eq!(hex(&all[0].parent_span_id), &CALLERS[36..52]);
    assert_eq!(all[0].trace_state, "vendor=1");
    let sent = upstream.requests();
    assert_eq!(sent[0].header("traceparent"), None);
    assert_eq!(sent[1].header("traceparent"), Some(&*unsampled), "passed on untouched");
    let parent = sent[2].header("traceparent").expect("it goes on");
    assert_eq!(parent, format!("{}{}-01", &CALLERS[..36], hex(&all[1].span_id)));
    assert_eq!(sent[2].header("tracestate"), Some("vendor=1"));
}

#[test]
fn an_invalid_trace_is_ignored() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let gateway = start(&[&upstream], &collector, "");
    let request = Request::chat("hi").header("traceparent", "00-xyz").header("tracestate", "vendor=1");
    gateway.send(&request).expect(200);
    let all = received(&collector, 2);
    assert!(all[0].parent_span_id.is_empty());
    let sent = upstream.only();
    assert_eq!(sent.header("traceparent").map(|parent| &parent[3..35]), Some(&*hex(&all[0].trace_id)));
    assert_eq!(sent.header("tracestate"), None, "it belongs to no trace");
}

#[test]
fn without_a_collector_a_trace_is_passed_on_untouched() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let gateway = Gateway::before(&upstream);
    let request = Request::chat("hi").header("traceparent", CALLERS).header("tracestate", "vendor=1");
    gateway.send(&request).expect(200);
    assert_eq!(upstream.only().header("traceparent"), Some(CALLERS));
    assert_eq!(upstream.only().header("tracestate"), Some("vendor=1"));
}

#[test]
fn every_attempt_has_a_span_and_a_parent_of_its_own() {
    let (bad, good) = (Upstream::always(Reply::error(503, "no")), Upstream::always(Reply::chat("hello")));
    let collector = collector();
    let gateway = start(&[&bad, &good], &collector, "");
    gateway.send(&Request::chat("hi")).expect(200);
    let all = received(&collector, 3);
    expect(&all[0], &[("witgate.attempts", "2"), ("witgate.upstream", "two")]);
    let first = [("witgate.upstream", "one"), ("http.response.status_code", "503"), ("error.type", "503")];
    expect(&all[1], &first);
    expect(&all[2], &[("witgate.upstream", "two"), ("http.response.status_code", "200")]);
    assert_eq!((code(&all[0]), code(&all[1]), code(&all[2])), (0, ERROR, 0));
    for (upstream, span) in [(&bad, &all[1]), (&good, &all[2])] {
        let sent = upstream.only();
        assert_eq!(sent.header("traceparent").map(|parent| &parent[36..52]), Some(&*hex(&span.span_id)));
        assert_eq!(span.parent_span_id, all[0].span_id);
    }
}

#[test]
fn what_went_wrong_is_told() {
    let upstream = Upstream::always(Reply::json(200, "{"));
    let collector = collector();
    let gateway = start(&[&upstream], &collector, "");
    gateway.send(&Request::post("/v1/chat/completions", "{")).expect(400);
    let refused = received(&collector, 1);
    expect(&refused[0], &[("error.type", "invalid_request"), ("witgate.outcome", "refused")]);
    assert_eq!((code(&refused[0]), &*refused[0].name), (0, "chat"), "it is the caller's fault");
    gateway.send(&Request::get("/v1/nowhere/4711")).expect(404);
    let unknown = received(&collector, 2);
    assert_eq!(unknown[1].name, "GET passthrough", "never a path that clients choose");
    gateway.send(&Request::chat("hi")).expect(502);
    let all = collector.wait("the failure", |requests| {
        Some(spans(requests)).filter(|all| all.iter().any(|span| span.kind == SpanKind::Client as i32))
    });
    let own = all.iter().find(|span| attribute(span, "witgate.outcome").as_deref() == Some("failed"));
    assert_eq!(code(own.expect("the exchange failed")), ERROR);
}

#[test]
fn a_span_is_bounded_whatever_a_client_sends() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let gateway = start(&[&upstream], &collector, "");
    let long = "x".repeat(12_000);
    let request = Request::get(&format!("/v1/models/{long}")).header("user-agent", &long);
    let state: Vec<String> = (0..2_000).map(|number| format!("k{number}=1")).collect();
    let request = request.header("traceparent", CALLERS).header("tracestate", &state.join(","));
    gateway.send(&request).expect(404);
    let own = received(&collector, 1).remove(0);
    assert!(own.encoded_len() < 6_000, "{}", own.encoded_len());
    let path = attribute(&own, "url.path").expect("it has one");
    assert!(path.starts_with("/v1/models/xxx") && path.ends_with('…'), "{path}");
    assert!(attribute(&own, "user_agent.original").expect("it has one").ends_with('…'));
}

#[test]
fn a_client_that_leaves_ends_both_spans() {
    let upstream = Upstream::always(Reply::silence());
    let collector = collector();
    let gateway = start(&[&upstream], &collector, "");
    let client = gateway.ask(&Request::chat("hi"));
    upstream.wait_requests(1);
    drop(client);
    let all = received(&collector, 2);
    expect(&all[0], &[("witgate.outcome", "cancelled"), ("error.type", "cancelled")]);
    expect(&all[1], &[("error.type", "cancelled")]);
}

#[test]
fn a_collector_that_is_down_for_a_while_misses_nothing() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let collector = Upstream::new(|request| Reply::new(if request.number < 2 { 503 } else { 200 }));
    let gateway = start(&[&upstream], &collector, "");
    gateway.send(&Request::chat("hi")).expect(200);
    let arrived = collector.wait("the third try", |requests| {
        let third = requests.get(2).filter(|request| request.is_complete)?;
        Some(spans(std::slice::from_ref(third)))
    });
    assert_eq!(arrived.len(), 2);
    gateway.send(&Request::chat("hi")).expect(200);
}

#[test]
fn spans_that_are_lost_are_told_of_and_nobody_waits() {
    let upstream = Upstream::always(Reply::chat("hello"));
    let collector = Upstream::always(Reply::new(400));
    let gateway = start(&[&upstream], &collector, "");
    gateway.send(&Request::chat("hi")).expect(200);
    eventually("the log to say so", || {
        gateway.stderr().contains("spans did not reach the collector").then_some(())
    });
    gateway.send(&Request::chat("hi")).expect(200);
}

#[test]
fn the_environment_adds_nothing_to_what_a_collector_is_sent() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let meant_for_others = "api-key=SECRET,x-team=other,content-type=text/plain";
    let environment = Launch::default()
        .variable("OTEL_EXPORTER_OTLP_HEADERS", meant_for_others)
        .variable("OTEL_EXPORTER_OTLP_TRACES_HEADERS", meant_for_others)
        .variable("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
        .variable("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    let gateway = launch(environment, &[&upstream], &collector, "");
    gateway.send(&Request::chat("hi")).expect(200);
    received(&collector, 2);
    let export = collector.last();
    assert_eq!((export.header("api-key"), export.header("x-team")), (None, Some("search")));
}

#[test]
fn the_end_of_the_process_sends_what_waits() {
    let (upstream, collector) = (Upstream::always(Reply::chat("hello")), collector());
    let mut gateway = start(&[&upstream], &collector, "");
    let mut client = witgate_tests::Connection::open(gateway.address());
    for _ in 0..20 {
        client.send(&Request::chat("hi")).expect(200);
    }
    drop(client);
    gateway.signal("TERM");
    assert!(gateway.wait_exit().success());
    assert_eq!(spans(&collector.requests()).len(), 40);
}
