//! What holds for any answer, any stream and any request, for every pair of surfaces.

use bytes::Bytes;
use http::StatusCode;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::grammar::{Grammar, Messages, Responses, events_in};
use super::{UPSTREAMS, asked, endpoint, terms};
use crate::chat::{
    ApiError, ChatRequest, Choice, Citation, Content, Event, Extra, Function, Message, Part, Raw, Reply,
    Role, Signature, Source, StopReason, TokenLogprob, Tool, ToolChoice, Usage,
};
use crate::wire::convert::{
    EventDecoder, EventEncoder, ReplyBuilder, StreamConverter, decode_error, decode_reply, decode_request,
    encode_reply, encode_request, events_of,
};
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};
use crate::wire::{Dialect, Surface, request};

fn surface() -> impl Strategy<Value = Surface> {
    prop::sample::select(Surface::ALL.to_vec())
}

/// What upstreams are asked in by conversion.
fn target() -> impl Strategy<Value = Surface> {
    prop::sample::select(UPSTREAMS.to_vec())
}

fn text() -> impl Strategy<Value = String> {
    "[a-z][a-zé\"\\\\\n😀]{0,11}"
}

fn word() -> impl Strategy<Value = String> {
    "[a-z]{1,8}"
}

fn call() -> impl Strategy<Value = (String, String)> {
    let arguments = prop::sample::select(vec!["{}", r#"{"a":"}\"\\"}"#, r#"{"a":{"b":[1,2.5,null]}}"#]);
    (word(), arguments).prop_map(|(name, arguments)| (name, arguments.to_owned()))
}

/// An answer that every surface can say: in the order in which all of them hold it, signed by Anthropic as only its
/// thinking is.
fn reply() -> impl Strategy<Value = Reply> {
    let thinking = prop::option::of((text(), prop::option::of("[A-Za-z0-9+/]{4,8}")));
    let said = (thinking, prop::option::of("[A-Za-z]{4}"), prop::option::of(text()));
    let calls = prop::collection::vec(call(), 0..4);
    let stops = prop::sample::select(vec![StopReason::Stop, StopReason::Length, StopReason::ContentFilter]);
    (said, calls, stops, 0..100_u64, 0..100_u64, 0..50_u64).prop_map(
        |((thinking, redacted, said), calls, stop, input, output, cached)| {
            let signed = |value| Signature { surface: Surface::Messages, value };
            let mut parts = Vec::new();
            parts.extend(
                thinking
                    .map(|(text, signature)| Content::Thinking { text, signature: signature.map(signed) }),
            );
            parts.extend(redacted.map(|data| Content::RedactedThinking(signed(data))));
            parts.extend(said.map(|text| Content::Text { text, citations: Vec::new() }));
            let stop =
                if calls.is_empty() || stop != StopReason::Stop { stop } else { StopReason::ToolCalls };
            parts.extend(calls.into_iter().enumerate().map(|(index, (name, arguments))| Content::ToolCall {
                id: format!("call_{index}"),
                name,
                arguments,
                signature: None,
            }));
            let parts = parts.into_iter().map(Part::new).collect();
            let usage = Usage { input: input + cached, output, cached, ..Usage::default() };
            Reply {
                surface: Surface::Chat,
                id: "id".to_owned(),
                model: "alias".to_owned(),
                created_unix_s: None,
                choices: vec![Choice { parts, stop: Some(stop), ..Choice::default() }],
                usage: Some(usage),
                extra: Extra::default(),
            }
        },
    )
}

/// Events in any order, of any choice, with any index.
fn event() -> impl Strategy<Value = Event> {
    let choice = prop_oneof![8 => Just(0_u32), 1 => Just(1), 1 => Just(u32::MAX)];
    let index = prop_oneof![8 => 0..3_u32, 1 => Just(u32::MAX)];
    let signature = (surface(), word()).prop_map(|(surface, value)| Signature { surface, value });
    let reasons = prop::sample::select(vec![
        StopReason::Stop,
        StopReason::Length,
        StopReason::ToolCalls,
        StopReason::ContentFilter,
        StopReason::Other,
    ]);
    (choice, index, text(), signature, reasons, any::<bool>()).prop_flat_map(
        |(choice, index, text, signature, reason, is_true)| {
            let id = format!("call_{index}");
            let citation = Citation { url: is_true.then(|| text.clone()), range: Some((0, u64::MAX)), ..Citation::default() };
            let token = TokenLogprob { token: text.clone(), logprob: -0.5, top: vec![(text.clone(), f64::NAN)] };
            let error = ApiError {
                status: StatusCode::BAD_GATEWAY,
                message: text.clone(),
                kind: None,
                code: None,
                param: None,
            };
            let call_signature = is_true.then(|| signature.clone());
            let start = Event::Start { id: id.clone(), model: text.clone(), created_unix_s: None, usage: None };
            prop_oneof![
                4 => Just(start),
                8 => Just(Event::Text { choice, text: text.clone() }),
                8 => Just(Event::Thinking { choice, text: text.clone() }),
                4 => Just(Event::Signature { choice, signature: signature.clone() }),
                4 => Just(Event::RedactedThinking { choice, data: signature }),
                4 => Just(Event::Refusal { choice, text: text.clone() }),
                8 => Just(Event::ToolCall { choice, index, id, name: "f".to_owned(), signature: call_signature }),
                8 => Just(Event::Arguments { choice, index, json: text.clone() }),
                4 => Just(Event::PartEnd { choice }),
                4 => Just(Event::Citation { choice, citation }),
                4 => Just(Event::Logprobs { choice, tokens: vec![token] }),
                2 => Just(Event::Finish { choice, reason, stop_sequence: is_true.then(|| text.clone()) }),
                4 => Just(Event::Usage(Usage { input: u64::MAX, output: 1, cached: 7, ..Usage::default() })),
                2 => Just(Event::Ping),
                2 => Just(Event::Other(Raw::of(&text))),
                1 => Just(Event::Failed(error)),
                1 => Just(Event::End),
            ]
        },
    )
}

fn written(surface: Surface, events: &[Event]) -> Vec<u8> {
    let (mut encoder, mut out) = (EventEncoder::new(surface, &asked()), Vec::new());
    events.iter().for_each(|event| encoder.push(event, &mut out));
    out
}

/// What a client is sent for a stream of an upstream's that is cut at these places.
fn converted(upstream: Surface, client: Surface, stream: &[u8], cuts: &[Index]) -> Vec<u8> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    let mut converter = StreamConverter::new(upstream, client, &asked());
    let mut out = Vec::new();
    for piece in places.windows(2) {
        let piece = Bytes::copy_from_slice(&stream[piece[0]..piece[1]]);
        converter.push_all(std::iter::once(piece), &mut out).unwrap();
    }
    converter.finish(&mut out);
    out.concat()
}

/// What a client makes of a stream.
fn gathered(client: Surface, stream: &[u8]) -> Reply {
    let mut frames = Decoder::new(EVENT_BYTES_MAX);
    frames.push(Bytes::copy_from_slice(stream));
    let (mut decoder, mut events) = (EventDecoder::new(client, "id1"), Vec::new());
    while let Some(frame) = frames.next_frame().unwrap() {
        let fields = frame.fields();
        if let Some(data) = &fields.data {
            decoder.push(fields.event_name(), data, &mut events).unwrap();
        }
    }
    decoder.finish(&mut events);
    let mut builder = ReplyBuilder::new(client, 1 << 20);
    for event in &events {
        assert!(builder.push(event));
    }
    builder.finish()
}

/// What a client makes of the whole answer, by way of the upstream's words and its own.
fn whole(upstream: Surface, client: Surface, reply: &Reply) -> Reply {
    let said = encode_reply(upstream, reply, &asked());
    let read = decode_reply(upstream, &said, "id1").unwrap();
    decode_reply(client, &encode_reply(client, &read, &asked()), "id1").unwrap()
}

/// Follows the grammar of a surface through the events, each of which has to end where it may.
fn check_grammar<G: Grammar>(surface: Surface, events: &[Event]) {
    let (mut encoder, mut grammar) = (EventEncoder::new(surface, &asked()), G::default());
    let mut is_told_end = false;
    for event in events {
        let mut out = Vec::new();
        encoder.push(event, &mut out);
        events_in(&out).iter().for_each(|event| grammar.take(event));
        is_told_end |= matches!(event, Event::End | Event::Failed(_));
    }
    assert_eq!(grammar.is_over(), is_told_end, "it ends where the answer does");
}

/// A place in a JSON document, replaced.
fn damage(value: &mut Value, place: &mut usize, with: &Value) {
    if *place == 0 {
        *value = with.clone();
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    let step = |inner: &mut Value, place: &mut usize| {
        if *place != usize::MAX {
            damage(inner, place, with);
        }
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| step(item, place)),
        Value::Object(members) => members.iter_mut().for_each(|(_, item)| step(item, place)),
        _ => {}
    }
}

/// Something that every decoder is given: what a vendor says, with some places replaced, or no JSON at all.
fn strange() -> impl Strategy<Value = Vec<u8>> {
    let with = prop::sample::select(vec![
        "null",
        "true",
        "-1",
        "1e99",
        "18446744073709551615",
        "4294967295",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[null]",
        "[[]]",
        "{\"type\":\"text\"}",
        "\"\\ud800\"",
    ]);
    let damaged =
        (any::<Index>(), prop::collection::vec((0..60_usize, with), 0..4)).prop_map(|(which, damages)| {
            let said = super::golden::inputs();
            let mut value: Value = serde_json::from_slice(&said[which.index(said.len())]).unwrap();
            for (mut place, with) in damages {
                let with = serde_json::from_str(with).unwrap_or(Value::Null);
                damage(&mut value, &mut place, &with);
            }
            value.to_string().into_bytes()
        });
    prop_oneof![
        8 => damaged,
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => "[\\[\\]{}\",:0-9a-z\\\\]{0,40}".prop_map(String::into_bytes),
    ]
}

/// A request that every surface can say.
fn request() -> impl Strategy<Value = ChatRequest> {
    let image = Just(Content::Image {
        source: Source::Data { media_type: "image/png".into(), base64: "AAAA".into() },
        detail: None,
    });
    let said = (text(), prop::option::of(image));
    let exchange = (prop::option::of(text()), prop::collection::vec((call(), text()), 1..3));
    let exchanges = prop::collection::vec(exchange, 0..3);
    let choice = prop::sample::select(vec![
        None,
        Some(ToolChoice::Auto),
        Some(ToolChoice::None),
        Some(ToolChoice::Required),
        Some(ToolChoice::Named("f".to_owned())),
    ]);
    let sampling = (prop::option::of(0..4_u8), prop::option::of(0..4_u8), prop::option::of(1..99_u64));
    (prop::option::of(text()), said, exchanges, choice, sampling, prop::collection::vec(word(), 0..3))
        .prop_map(|(system, (first, image), exchanges, choice, (temperature, top_p, top_k), stop)| {
            let mut request = ChatRequest::new(Surface::Chat, "m");
            request.messages.extend(system.map(|text| Message::new(Role::System, vec![Part::text(text)])));
            let mut parts = vec![Part::text(first)];
            parts.extend(image.map(Part::new));
            request.messages.push(Message::new(Role::User, parts));
            for (turn, (said, calls)) in exchanges.into_iter().enumerate() {
                let (mut parts, mut results) = (Vec::new(), Vec::new());
                parts.extend(said.map(Part::text));
                for (number, ((name, arguments), output)) in calls.into_iter().enumerate() {
                    let id = format!("call_{turn}_{number}");
                    let content = vec![Part::text(output)];
                    let named = Some(name.clone());
                    results.push(Part::new(Content::ToolResult {
                        id: id.clone(),
                        name: named,
                        content,
                        is_error: false,
                    }));
                    parts.push(Part::new(Content::ToolCall { id, name, arguments, signature: None }));
                }
                request.messages.push(Message::new(Role::Assistant, parts));
                request.messages.push(Message::new(Role::Tool, results));
            }
            let parameters = Raw::new(r#"{"type":"object","properties":{}}"#);
            let function = |name: &str| Function {
                name: name.to_owned(),
                description: Some("d".to_owned()),
                parameters: parameters.clone(),
                strict: None,
                cache: None,
                extra: Extra::default(),
            };
            request.tools = vec![Tool::Function(function("f")), Tool::Function(function("g"))];
            request.tool_choice = choice;
            request.temperature = temperature.map(|steps| f64::from(steps) / 4.0);
            request.top_p = top_p.map(|steps| f64::from(steps) / 4.0);
            request.top_k = top_k;
            request.stop = stop;
            request.max_tokens = Some(100);
            request
        })
}

proptest! {
    // parity: 98, 99, 100
    #[test]
    fn a_streamed_answer_is_the_whole_one_however_it_is_cut(
        reply in reply(),
        upstream in surface(),
        client in surface(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let stream = written(upstream, &events_of(&reply));
        let sent = converted(upstream, client, &stream, &[]);
        prop_assert_eq!(&converted(upstream, client, &stream, &cuts), &sent);
        let (streamed, whole) = (gathered(client, &sent), whole(upstream, client, &reply));
        prop_assert_eq!(streamed.choices, whole.choices);
        prop_assert_eq!(streamed.usage, whole.usage);
        prop_assert_eq!(streamed.model, whole.model);
    }

    // parity: 99
    #[test]
    fn the_grammars_hold_at_every_step(events in prop::collection::vec(event(), 0..30)) {
        check_grammar::<Messages>(Surface::Messages, &events);
        check_grammar::<Responses>(Surface::Responses, &events);
    }

    // parity: 139
    #[test]
    fn no_events_are_too_strange(events in prop::collection::vec(event(), 0..30), upstream in surface(), client in surface()) {
        let stream = written(upstream, &events);
        let mut converter = StreamConverter::new(upstream, client, &asked());
        let mut out = Vec::new();
        if converter.push_all(std::iter::once(Bytes::from(stream)), &mut out).is_ok() {
            converter.finish(&mut out);
        }
        let mut builder = ReplyBuilder::new(client, 1000);
        for event in &events {
            builder.push(event);
        }
        let _ = encode_reply(client, &builder.finish(), &asked());
    }

    // parity: 139
    #[test]
    fn no_request_is_too_strange(body in strange(), client in surface(), target in target()) {
        if let Ok(request) = request::decode(endpoint(client), body.into(), None)
            && let Ok(request) = decode_request(client, &request)
        {
            let _ = encode_request(&request, &mut terms(client, target));
        }
    }

    // parity: 139
    #[test]
    fn no_answer_is_too_strange(body in strange(), upstream in surface(), client in surface()) {
        if let Ok(reply) = decode_reply(upstream, &body, "id1") {
            let _ = encode_reply(client, &reply, &asked());
            let _ = written(client, &events_of(&reply));
        }
        for dialect in Dialect::ALL {
            let _ = decode_error(dialect, StatusCode::BAD_GATEWAY, &body);
        }
        let (mut decoder, mut events) = (EventDecoder::new(upstream, "id1"), Vec::new());
        let _ = decoder.push(None, &body, &mut events);
        let _ = decoder.push(Some("x"), &body, &mut events);
        decoder.finish(&mut events);
        let _ = written(client, &events);
    }

    // parity: 97, 100
    #[test]
    fn a_request_is_read_as_it_was_written(request in request()) {
        for target in UPSTREAMS {
            let own = ChatRequest { surface: target, ..request.clone() };
            let mut terms = terms(target, target);
            let body = encode_request(&own, &mut terms).unwrap();
            prop_assert_eq!(&terms.losses, &[]);
            let path = request::InPath::of("m:generateContent", None);
            let read = request::decode(endpoint(target), body, path).unwrap();
            let mut read = decode_request(target, &read).unwrap();
            read.asks_usage = false;
            prop_assert_eq!(read, own);
        }
    }
}
