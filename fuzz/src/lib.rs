//! What the fuzz targets have in common: the exchange that the bytes are taken to be of, and one function for each decoder.
//!
//! None of them may panic, whatever the bytes are; what else has to hold is asserted.

use bytes::Bytes;
use http::StatusCode;
use witgate::chat::Event;
use witgate::config::{ErrorCompat, ThinkingFormat};
use witgate::wire::convert::{
    Asked, EffortBudgets, EventDecoder, EventEncoder, StreamConverter, Terms, decode_error, decode_reply,
    decode_request, encode_error, encode_reply, encode_request, events_of,
};
use witgate::wire::openai::stream::Rules;
use witgate::wire::relay::{Change, Relay};
use witgate::wire::rename::Rename;
use witgate::wire::request::{self, InPath};
use witgate::wire::sse::Decoder;
use witgate::wire::{Audience, Dialect, Endpoint, Surface};

/// The surfaces that upstreams are asked on by conversion.
const UPSTREAMS: [Surface; 3] = [Surface::Chat, Surface::Messages, Surface::Gemini];

/// How large an event may be here: small, so that the bound is met.
const EVENT_BYTES_MAX: usize = 4096;

fn asked() -> Asked {
    Asked {
        model: "alias".into(),
        id: "id1".into(),
        created_unix_s: 0,
        asks_usage: true,
        request: Bytes::new(),
    }
}

fn endpoint(surface: Surface) -> Endpoint {
    match surface {
        Surface::Chat => Endpoint::ChatCompletions,
        Surface::Responses => Endpoint::Responses,
        Surface::Messages => Endpoint::Messages,
        Surface::Gemini => Endpoint::GenerateContent,
    }
}

/// Takes the first bytes as numbers below the bounds, and gives the rest.
fn choices<const N: usize>(data: &[u8], bounds: [usize; N]) -> Option<([usize; N], &[u8])> {
    let (head, rest) = data.split_at_checked(N)?;
    let mut chosen = [0; N];
    for ((chosen, byte), bound) in chosen.iter_mut().zip(head).zip(bounds) {
        *chosen = usize::from(*byte) % bound;
    }
    Some((chosen, rest))
}

/// Cuts bytes into pieces, each as long as the byte before it says.
fn pieces(mut data: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some((len, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        pieces.push(Bytes::copy_from_slice(piece));
        data = rest;
    }
    pieces
}

/// A client's request, read and written for every upstream.
pub fn request(client: Surface, data: &[u8]) {
    let path = InPath::of("alias:streamGenerateContent", Some("alt=sse"));
    let Ok(request) = request::decode(endpoint(client), Bytes::copy_from_slice(data), path) else { return };
    let Ok(request) = decode_request(client, &request) else { return };
    for target in UPSTREAMS {
        let mut terms = Terms {
            client,
            target,
            upstream: "up",
            max_tokens_default: 100,
            budgets: EffortBudgets::default(),
            losses: Vec::new(),
        };
        if let Ok(body) = encode_request(&request, &mut terms) {
            let path = InPath::of("alias:streamGenerateContent", Some("alt=sse"));
            request::decode(endpoint(target), body, path)
                .expect("what is written for an upstream is a request");
        }
    }
}

/// An upstream's whole answer, read and written for every client, whole and as a stream.
pub fn reply(upstream: Surface, data: &[u8]) {
    let Ok(reply) = decode_reply(upstream, data, "id1") else { return };
    for client in Surface::ALL {
        let whole = encode_reply(client, &reply, &asked());
        let read = decode_reply(client, &whole, "id1");
        // Where the upstream gave no answer at all, there is none to be read.
        assert!(read.is_ok() || reply.choices.is_empty(), "what is written for a client is an answer");
        write(client, &events_of(&reply));
    }
}

/// One event of an upstream's after another, a line each, written for every client.
pub fn events(upstream: Surface, data: &[u8]) {
    let (mut decoder, mut events) = (EventDecoder::new(upstream, "id1"), Vec::new());
    for line in data.split(|byte| *byte == b'\n') {
        if decoder.push(None, line, &mut events).is_err() {
            break;
        }
    }
    decoder.finish(&mut events);
    for client in Surface::ALL {
        write(client, &events);
    }
}

fn write(client: Surface, events: &[Event]) {
    let (mut encoder, mut out) = (EventEncoder::new(client, &asked()), Vec::new());
    for event in events {
        encoder.push(event, &mut out);
    }
}

/// What an upstream says of its failure, told to every client.
pub fn error(data: &[u8]) {
    for upstream in Dialect::ALL {
        let error = decode_error(upstream, StatusCode::BAD_GATEWAY, data);
        for client in Dialect::ALL {
            encode_error(client, &error);
        }
    }
}

/// A request to any endpoint; the first byte says which.
pub fn native_request(data: &[u8]) {
    let Some(([endpoint], body)) = choices(data, [Endpoint::ALL.len()]) else { return };
    if let Ok(request) = request::decode(Endpoint::ALL[endpoint], Bytes::copy_from_slice(body), None) {
        let _ = (request.prompt(true), request.output_max());
        let _ = request.again(request.body().clone());
    }
}

/// A stream of any endpoint, as one of its own dialect is relayed; the first bytes say which, whether usage is hidden, and
/// whether the model has another name. Each piece begins with its length.
pub fn relay(data: &[u8]) {
    let Some(([endpoint, hides_usage, renames], data)) = choices(data, [Endpoint::ALL.len(), 2, 2]) else {
        return;
    };
    let endpoint = Endpoint::ALL[endpoint];
    let change = match renames {
        0 => Change::None,
        _ => Change::Rename(Box::new(Rename::new(endpoint, "alias"))),
    };
    let rules = Rules {
        endpoint,
        hides_usage: hides_usage == 1,
        special_prefix: None,
        thinking: ThinkingFormat::default(),
    };
    pump(&mut Relay::new(rules, change), endpoint, pieces(data));
}

/// A stream of one surface for a client of another; the first two bytes say which.
pub fn convert(data: &[u8]) {
    let count = Surface::ALL.len();
    let Some(([upstream, client], data)) = choices(data, [count, count]) else { return };
    let (upstream, client) = (Surface::ALL[upstream], Surface::ALL[client]);
    let rules = Rules {
        endpoint: endpoint(upstream),
        hides_usage: false,
        special_prefix: None,
        thinking: ThinkingFormat::default(),
    };
    let pieces = pieces(data);
    let change = Change::Convert(Box::new(StreamConverter::new(upstream, client, &asked())));
    pump(&mut Relay::new(rules, change), endpoint(client), pieces.clone());
    let (cut, whole) = (converted(upstream, client, pieces.iter().cloned()), {
        converted(upstream, client, std::iter::once(Bytes::from(pieces.concat())))
    });
    assert_eq!(cut, whole, "where the bytes are cut makes no difference");
}

fn converted(upstream: Surface, client: Surface, pieces: impl Iterator<Item = Bytes>) -> Vec<u8> {
    let mut converter = StreamConverter::new(upstream, client, &asked());
    let mut out = Vec::new();
    if converter.push_all(pieces, &mut out).is_ok() {
        converter.finish(&mut out);
    }
    out.concat()
}

fn pump(relay: &mut Relay, asked: Endpoint, pieces: Vec<Bytes>) {
    let compat = ErrorCompat::default();
    let audience = Audience { dialect: asked.dialect(), endpoint: Some(asked), compat };
    let mut out = Vec::new();
    for piece in pieces {
        if let Err(error) = relay.push(piece, &mut out) {
            relay.error_event(&error, audience);
            return;
        }
    }
    relay.finish_frame(&mut out);
    relay.finish(&mut out);
}

/// The frames of an event stream, cut anywhere.
pub fn sse(data: &[u8]) {
    let pieces = pieces(data);
    let frames = |pieces: &[Bytes]| {
        let mut decoder = Decoder::new(EVENT_BYTES_MAX);
        let mut frames = Vec::new();
        for piece in pieces {
            decoder.push(piece.clone());
            loop {
                match decoder.next_frame() {
                    Ok(Some(frame)) => frames.push((frame.fields().data, frame.raw)),
                    Ok(None) => break,
                    Err(_) => return None,
                }
            }
        }
        frames.extend(decoder.finish().map(|frame| (frame.fields().data, frame.raw)));
        Some(frames)
    };
    // A frame that is too large is noticed earlier where it comes in pieces.
    if let (Some(cut), Some(whole)) = (frames(&pieces), frames(&[Bytes::from(pieces.concat())])) {
        assert_eq!(cut, whole, "where the bytes are cut makes no difference");
    }
}
