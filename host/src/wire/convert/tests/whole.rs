//! Whole answers for clients that asked for streams.

use bytes::Bytes;

use super::asked;
use crate::chat::{Choice, Citation, Content, Extra, Part, Reply, Signature, StopReason, Usage};
use crate::wire::Surface;
use crate::wire::convert::{EventDecoder, ReplyBuilder, decode_reply, encode_reply, stream_of};
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

fn reply() -> Reply {
    let signature = Some(Signature { surface: Surface::Messages, value: "s".into() });
    let page = Citation { url: Some("https://a".into()), title: Some("t".into()), ..Citation::default() };
    let call = |id: &str| Content::ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: "{\"a\":1}".into(),
        signature: None,
    };
    let parts = vec![
        Content::Thinking { text: "hm".into(), signature },
        Content::Text { text: "said".into(), citations: vec![page] },
        call("call_1"),
        call("call_2"),
    ];
    let parts = parts.into_iter().map(Part::new).collect();
    Reply {
        surface: Surface::Messages,
        id: "msg_1".into(),
        model: "m".into(),
        created_unix_s: Some(7),
        choices: vec![Choice { parts, stop: Some(StopReason::ToolCalls), ..Choice::default() }],
        usage: Some(Usage { input: 3, output: 4, ..Usage::default() }),
        extra: Extra::default(),
    }
}

fn read(client: Surface, stream: Bytes) -> (Vec<String>, Reply) {
    let mut frames = Decoder::new(EVENT_BYTES_MAX);
    frames.push(stream);
    let (mut names, mut events) = (Vec::new(), Vec::new());
    let mut decoder = EventDecoder::new(client, "id1");
    while let Ok(Some(frame)) = frames.next_frame() {
        let fields = frame.fields();
        names.push(fields.event_name().unwrap_or_default().to_owned());
        decoder.push(fields.event_name(), &fields.data.clone().unwrap_or_default(), &mut events).unwrap();
    }
    decoder.finish(&mut events);
    let mut builder = ReplyBuilder::new(client, usize::MAX);
    for event in &events {
        builder.push(event);
    }
    (names, builder.finish())
}

// parity: 98, 99, 100
#[test]
fn a_whole_answer_as_a_stream_says_the_same() {
    let reply = reply();
    for client in Surface::ALL {
        let (_, streamed) = read(client, stream_of(client, &reply, &asked()));
        let whole = decode_reply(client, &encode_reply(client, &reply, &asked()), "id1").unwrap();
        let said = |reply: &Reply| -> Vec<Content> {
            let mut said: Vec<Content> =
                reply.choices[0].parts.iter().map(|part| part.content.clone()).collect();
            for content in &mut said {
                // Where a text is from is written with an index in streams.
                if let Content::Text { citations, .. } = content {
                    citations.iter_mut().for_each(|citation| citation.original = None);
                }
            }
            said
        };
        assert_eq!(said(&streamed), said(&whole), "{}", client.label());
        assert_eq!(streamed.usage, whole.usage, "{}", client.label());
        assert_eq!(streamed.choices[0].stop, whole.choices[0].stop, "{}", client.label());
    }
}

// parity: 99
#[test]
fn a_whole_answer_as_a_stream_has_every_event() {
    let (names, _) = read(Surface::Responses, stream_of(Surface::Responses, &reply(), &asked()));
    for name in [
        "response.created",
        "response.in_progress",
        "response.reasoning_summary_text.delta",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.completed",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}
