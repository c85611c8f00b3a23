//! What holds for all requests, answers and streams.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::events::asked;
use super::text;
use crate::chat::{
    ChatRequest, Choice, Content, Effort, Event, Extra, Format, Function, Level, Message, Part, Raw,
    Reasoning, Reply, Role, Signature, Source, StopReason, TokenLogprob, Tool, ToolChoice, Usage,
};
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, ReplyBuilder, StreamConverter, Terms, events_of};
use crate::wire::openai::chat::{
    EventDecoder, EventEncoder, decode_error, decode_reply, decode_request, encode_reply, encode_request,
};
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

fn signature() -> impl Strategy<Value = Option<Signature>> {
    option::of(text().prop_map(|value| Signature { surface: Surface::Chat, value }))
}

fn raw() -> impl Strategy<Value = Raw> {
    prop_oneof![Just("{}"), Just(r#"{"type":"object","properties":{"a":{"$ref":"x"}}}"#)]
        .prop_map(|json| Raw::new(json).unwrap())
}

fn plain() -> impl Strategy<Value = Part> {
    text().prop_map(Part::text)
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        text().prop_map(|path| Source::Url { url: format!("https://{path}"), media_type: None }),
        Just(Source::Data { media_type: "image/png".into(), base64: "QUJD".into() }),
    ]
}

fn media() -> impl Strategy<Value = Part> {
    let audio =
        Content::Audio { source: Source::Data { media_type: "audio/mp3".into(), base64: "QQ==".into() } };
    prop_oneof![
        (source(), option::of(text())).prop_map(|(source, detail)| Content::Image { source, detail }),
        Just(audio),
        (text(), option::of(text())).prop_map(|(id, name)| Content::File { source: Source::Id(id), name }),
        text().prop_map(|name| Content::File {
            source: Source::Data { media_type: "application/pdf".into(), base64: "QUJD".into() },
            name: Some(name),
        }),
    ]
    .prop_map(Part::new)
}

fn calls() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), prop_oneof![Just("{}".to_owned()), Just(r#"{"a":"\"\n"}"#.to_owned())]), 0..3)
}

/// An assistant's turn, and the results of its calls.
fn turn() -> impl Strategy<Value = Vec<Message>> {
    (vec(text(), 0..3), vec(plain(), 0..3), option::of(text()), calls()).prop_map(
        |(thinking, said, refusal, calls)| {
            let signed = |text| {
                let signature = Signature { surface: Surface::Chat, value: "s".into() };
                Part::new(Content::Thinking { text, signature: Some(signature) })
            };
            let mut parts: Vec<Part> = thinking.into_iter().map(signed).collect();
            parts.extend(said);
            parts.extend(refusal.map(|text| Part::new(Content::Refusal(text))));
            let mut results = Vec::new();
            for (number, (name, arguments)) in calls.into_iter().enumerate() {
                let (id, content) = (format!("call_{number}"), vec![Part::text("r")]);
                results.push(Part::new(Content::ToolResult {
                    id: id.clone(),
                    name: None,
                    content,
                    is_error: false,
                }));
                parts.push(Part::new(Content::ToolCall { id, name, arguments, signature: None }));
            }
            let mut messages = vec![Message::new(Role::Assistant, parts)];
            if !results.is_empty() {
                messages.push(Message::new(Role::Tool, results));
            }
            messages
        },
    )
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    let system = vec(plain(), 0..3).prop_map(|parts| vec![Message::new(Role::System, parts)]);
    let user = (vec(prop_oneof![plain(), media()], 0..4), option::of(text()))
        .prop_map(|(parts, name)| vec![Message { name, ..Message::new(Role::User, parts) }]);
    vec(prop_oneof![system, user, turn()], 1..4).prop_map(|messages| messages.concat())
}

fn function() -> impl Strategy<Value = Tool> {
    (text(), option::of(text()), option::of(raw()), option::of(any::<bool>())).prop_map(
        |(name, description, parameters, strict)| {
            let extra = Extra::default();
            Tool::Function(Function { name, description, parameters, strict, cache: None, extra })
        },
    )
}

fn choice_of_tool() -> impl Strategy<Value = ToolChoice> {
    prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        text().prop_map(ToolChoice::Named),
        (vec(text(), 0..3), any::<bool>())
            .prop_map(|(names, is_required)| ToolChoice::Among { names, is_required }),
    ]
}

fn format() -> impl Strategy<Value = Format> {
    let schema = (text(), option::of(text()), raw(), option::of(any::<bool>())).prop_map(
        |(name, description, schema, strict)| Format::Schema {
            name: Some(name),
            description,
            schema,
            strict,
        },
    );
    prop_oneof![Just(Format::Text), Just(Format::Json), schema]
}

fn level() -> impl Strategy<Value = Level> {
    let efforts = vec![Effort::Minimal, Effort::Low, Effort::Medium, Effort::High, Effort::Max];
    prop_oneof![Just(Level::Off), proptest::sample::select(efforts).prop_map(Level::Effort)]
}

/// Any request that the surface can say to any server.
fn request() -> impl Strategy<Value = ChatRequest> {
    let numbers = (
        option::of(any::<u32>()),
        option::of(-9.0..9.0),
        option::of(any::<i64>()),
        option::of(any::<bool>()),
    );
    let words = (vec(text(), 0..3), option::of(text()), option::of(raw()), option::of(text()));
    let tools = (vec(function(), 1..3), option::of(choice_of_tool()), option::of(any::<bool>()));
    (messages(), numbers, words, option::of(tools), option::of(format()), option::of(level()), any::<bool>())
        .prop_map(|(messages, numbers, words, tools, format, level, is_stream)| {
            let mut request = ChatRequest::new(Surface::Chat, "m");
            request.messages = messages;
            request.max_tokens = numbers.0.map(u64::from);
            request.top_k = request.max_tokens;
            request.temperature = numbers.1;
            request.presence_penalty = numbers.1;
            request.seed = numbers.2;
            request.logprobs = numbers.3;
            (request.stop, request.user, request.metadata, request.service_tier) = words;
            if let Some((tools, choice, parallel)) = tools {
                (request.tools, request.tool_choice, request.parallel_tool_calls) = (tools, choice, parallel);
            }
            request.format = format;
            request.reasoning = level.map(|level| Reasoning { level, is_shown: None });
            (request.is_stream, request.asks_usage) = (is_stream, is_stream);
            request.verbosity = Some("low".into());
            request.extra.0.push(("prompt_cache_key".into(), Raw::new("\"k\"").unwrap()));
            request
        })
}

/// Any parts of an answer, in any order.
fn parts() -> impl Strategy<Value = Vec<Part>> {
    let call = (text(), text(), text(), signature())
        .prop_map(|(id, name, arguments, signature)| Content::ToolCall { id, name, arguments, signature });
    let redacted =
        text().prop_map(|value| Content::RedactedThinking(Signature { surface: Surface::Messages, value }));
    let content = prop_oneof![
        prop_oneof![Just(String::new()), text()]
            .prop_map(|text| Content::Text { text, citations: Vec::new() }),
        (prop_oneof![Just(String::new()), text()], signature())
            .prop_map(|(text, signature)| Content::Thinking { text, signature }),
        redacted,
        text().prop_map(Content::Refusal),
        call,
    ];
    vec(content.prop_map(Part::new), 0..6)
}

fn stop() -> impl Strategy<Value = StopReason> {
    let reasons =
        vec![StopReason::Stop, StopReason::Length, StopReason::ToolCalls, StopReason::ContentFilter];
    proptest::sample::select(reasons)
}

/// Any answer that is of steps of a stream.
fn reply() -> impl Strategy<Value = Reply> {
    let logprobs =
        vec(
            (text(), -9.0..0.0, vec((text(), -9.0..0.0), 0..2))
                .prop_map(|(token, logprob, top)| TokenLogprob { token, logprob, top }),
            0..3,
        );
    let choice = (parts(), stop(), option::of(text()), logprobs);
    let usage = (any::<u32>(), any::<u32>()).prop_map(|(input, output)| Usage {
        input: input.into(),
        output: output.into(),
        ..Usage::default()
    });
    (vec(choice, 1..3), option::of(usage), text()).prop_map(|(choices, usage, id)| {
        let choices = choices.into_iter().zip(0..).map(|((parts, stop, stop_sequence, logprobs), index)| {
            Choice { index, parts, stop: Some(stop), stop_sequence, logprobs, extra: Extra::default() }
        });
        Reply {
            surface: Surface::Chat,
            id,
            model: "m".into(),
            created_unix_s: Some(9),
            choices: choices.collect(),
            usage,
            extra: Extra::default(),
        }
    })
}

fn built(surface: Surface, events: &[Event]) -> Reply {
    let mut builder = ReplyBuilder::new(surface, usize::MAX);
    events.iter().for_each(|event| assert!(builder.push(event)));
    builder.finish()
}

/// Writes steps as a stream.
fn streamed(events: &[Event]) -> Vec<u8> {
    let mut encoder = EventEncoder::new(&asked(true));
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.push(event, &mut out));
    out
}

/// Reads a stream that comes in two pieces.
fn read(stream: &[u8], at: usize) -> Vec<Event> {
    let mut frames = Decoder::new(EVENT_BYTES_MAX);
    let mut decoder = EventDecoder::new("x");
    let mut events = Vec::new();
    for piece in [&stream[..at], &stream[at..]] {
        frames.push(Bytes::copy_from_slice(piece));
        while let Some(frame) = frames.next_frame().unwrap() {
            if let Some(data) = frame.fields().data {
                decoder.push(None, &data, &mut events).unwrap();
            }
        }
    }
    decoder.finish(&mut events);
    events
}

/// An answer as this surface has it: in the order of a message's members, each text whole.
fn ordered(mut reply: Reply) -> Reply {
    for choice in &mut reply.choices {
        let mut said = (Vec::new(), String::new(), String::new(), Vec::new());
        let mut is_signed = false;
        for part in choice.parts.drain(..) {
            match part.content {
                Content::Text { text, .. } => said.1.push_str(&text),
                Content::Refusal(text) => said.2.push_str(&text),
                Content::ToolCall { .. } => said.3.push(part),
                _ => {
                    is_signed |= !matches!(part.content, Content::Thinking { signature: None, .. });
                    said.0.push(part);
                }
            }
        }
        if !is_signed {
            let texts = said.0.drain(..).filter_map(|part| match part.content {
                Content::Thinking { text, .. } => Some(text),
                _ => None,
            });
            let text: String = texts.collect();
            said.0.extend((!text.is_empty()).then(|| Part::new(Content::Thinking { text, signature: None })));
        }
        said.0.retain(
            |part| !matches!(&part.content, Content::Thinking { text, signature: None } if text.is_empty()),
        );
        if choice.stop == Some(StopReason::Stop) && !said.3.is_empty() {
            choice.stop = Some(StopReason::ToolCalls);
        }
        choice.parts = said.0;
        choice.parts.extend((!said.1.is_empty()).then(|| Part::text(said.1)));
        choice.parts.extend((!said.2.is_empty()).then(|| Part::new(Content::Refusal(said.2))));
        choice.parts.append(&mut said.3);
    }
    reply.id = "chatcmpl-x".into();
    reply
}

/// The same answer without the signatures that a client of this surface holds as Google's, and with ids that cannot be
/// taken for one another.
fn unsigned(mut reply: Reply) -> Reply {
    for choice in &mut reply.choices {
        for (number, part) in choice.parts.iter_mut().enumerate() {
            if let Content::ToolCall { id, signature, .. } = &mut part.content {
                *id = format!("call_{number}");
                *signature = None;
            }
        }
    }
    reply
}

proptest! {
    // parity: 97
    #[test]
    fn a_request_that_is_written_is_read_again(request in request()) {
        let mut terms = Terms {
            client: Surface::Chat,
            target: Surface::Chat,
            upstream: "up",
            max_tokens_default: 1,
            budgets: EffortBudgets::default(),
            losses: Vec::new(),
            unknown: Vec::new(),
        };
        let body = encode_request(&request, &mut terms).unwrap();
        prop_assert_eq!(&terms.losses, &[]);
        prop_assert_eq!(decode_request(&body).unwrap(), request);
    }

    // parity: 98
    #[test]
    fn an_answer_that_is_written_is_read_again(reply in reply()) {
        let reply = unsigned(reply);
        let body = encode_reply(&reply, &asked(true));
        prop_assert_eq!(decode_reply(&body, "x").unwrap(), ordered(reply));
    }

    // parity: 98, 99
    #[test]
    fn an_answer_is_what_its_steps_make(reply in reply()) {
        prop_assert_eq!(built(Surface::Chat, &events_of(&reply)), reply);
    }

    // parity: 99
    #[test]
    fn a_streamed_answer_equals_the_whole_one_wherever_it_is_cut(reply in reply(), at in any::<prop::sample::Index>()) {
        let reply = unsigned(reply);
        let stream = streamed(&events_of(&reply));
        let events = read(&stream, at.index(stream.len() + 1));
        prop_assert_eq!(&events, &read(&stream, 0));
        let starts = events.iter().filter(|event| matches!(event, Event::Start { .. })).count();
        prop_assert_eq!((starts, events.last()), (1, Some(&Event::End)));
        // A stream tells each text where it comes; only what is said counts here.
        let mut whole = ordered(built(Surface::Chat, &events));
        let mut expected = ordered(reply);
        for choice in whole.choices.iter_mut().chain(&mut expected.choices) {
            choice.parts.retain(|part| !matches!(part.content, Content::Thinking { .. }));
        }
        prop_assert_eq!(whole, expected);
    }

    #[test]
    fn a_builder_keeps_its_bound(reply in reply(), bytes_max in 0_usize..400) {
        let mut builder = ReplyBuilder::new(Surface::Chat, bytes_max);
        let within = events_of(&reply).iter().map(|event| builder.push(event)).last();
        let cut = builder.finish();
        let bytes = |reply: &Reply| {
            let parts = reply.choices.iter().flat_map(|choice| &choice.parts);
            parts.map(|part| match &part.content {
                Content::Text { text, .. } | Content::Thinking { text, .. } | Content::Refusal(text) => text.len(),
                // What is empty became an object.
                Content::ToolCall { id, arguments, .. } => id.len() + arguments.len().saturating_sub(2),
                _ => 0,
            }).sum::<usize>()
        };
        prop_assert!(bytes(&cut) <= bytes_max);
        if within == Some(true) {
            prop_assert_eq!(cut, reply);
        }
    }

    #[test]
    fn nothing_panics(body in vec(any::<u8>(), 0..60), json in hostile()) {
        for body in [&body[..], json.as_bytes()] {
            let _ = decode_request(body);
            let _ = decode_reply(body, "x");
            decode_error(http::StatusCode::OK, body);
            let mut events = Vec::new();
            let mut decoder = EventDecoder::new("x");
            let _ = decoder.push(None, body, &mut events);
            decoder.finish(&mut events);
            streamed(&events);
            let mut converter = StreamConverter::new(Surface::Chat, Surface::Chat, &asked(true));
            let _ = converter.push([b"data: ", body, b"\n\n"].concat().into(), &mut Vec::new());
            converter.finish(&mut Vec::new());
        }
    }
}

/// JSON with the members of the API in it, of any types.
fn hostile() -> impl Strategy<Value = String> {
    let names = [
        "choices",
        "delta",
        "message",
        "messages",
        "content",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "index",
        "id",
        "role",
        "usage",
        "logprobs",
        "thinking_blocks",
        "annotations",
        "url_citation",
        "error",
        "image_url",
        "url",
        "type",
        "tools",
        "stop",
        "finish_reason",
        "file",
        "extra_content",
        "google",
        "top_logprobs",
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("-1".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("true".to_owned()),
        Just(r#""""#.to_owned()),
        Just(r#""\ud83d""#.to_owned()),
        Just(r#""user""#.to_owned()),
        Just(r#""image_url""#.to_owned()),
        Just(r#""data:,""#.to_owned()),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        let name = proptest::sample::select(names.to_vec());
        let object = vec((name, inner.clone()), 0..5).prop_map(|members| {
            let members = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}"));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        });
        prop_oneof![2 => object, 1 => vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(",")))]
    })
}
