//! The pure work on the path of a request, alone: reading and splicing a body, watching a stream, ranking upstreams.
//!
//! `cargo bench --bench micro` takes about ten seconds; after `--`, `--only TEXT` keeps the lines whose name has the
//! text, and `--quick` takes fewer samples. Prints a Markdown table; the time is the median of many short samples.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use witgate::chat::Prompt;
use witgate::config::{Clean, ModelMatch, PriorityMode, Routing, Strategy, ThinkingFormat};
use witgate::route::{Keying, Member, Routes};
use witgate::wire::convert::{Asked, EffortBudgets, StreamConverter, Terms, decode_request, encode_request};
use witgate::wire::openai::assemble::Assembly;
use witgate::wire::openai::stream::{Filter, Rules};
use witgate::wire::request::{Edits, Request, decode};
use witgate::wire::sse::{Decoder, EVENT_BYTES_MAX};
use witgate::wire::{Endpoint, Surface};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut stopwatch = Stopwatch { samples: 60, only: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // The first is what cargo says to every bench, the second is the other bench's.
            "--bench" | "--noise" => {}
            "--quick" => stopwatch.samples = 12,
            "--only" => stopwatch.only = arguments.next().unwrap_or_default(),
            _ => {
                eprintln!("error: `{argument}` is none of `--quick`, `--only TEXT`");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("\n| | time | throughput |\n|---|---:|---:|");
    requests(&stopwatch);
    streams(&stopwatch);
    assemblies(&stopwatch);
    conversions(&stopwatch);
    routing(&stopwatch);
    stopwatch.time("count an exchange that is over", 1, 0, witgate::metrics_recording());
    ExitCode::SUCCESS
}

/// Times one operation after the other.
struct Stopwatch {
    samples: usize,
    /// Only operations whose name has this in it.
    only: String,
}

impl Stopwatch {
    /// Times `operation`, which does `items` of its kind and prints the time of one; `bytes` is what it reads in
    /// all, 0 when that says nothing.
    fn time<T>(&self, name: &str, items: u32, bytes: usize, mut operation: impl FnMut() -> T) {
        if !name.contains(&self.only) {
            return;
        }
        let mut sample = |runs: u32| {
            let start = Instant::now();
            for _ in 0..runs {
                black_box(operation());
            }
            start.elapsed()
        };
        // Long enough that reading the clock does not show, short enough that most samples are undisturbed.
        let mut runs = 1;
        while sample(runs) < Duration::from_millis(1) {
            runs *= 2;
        }
        let mut samples: Vec<Duration> = (0..self.samples).map(|_| sample(runs)).collect();
        samples.sort_unstable();
        let one = samples[samples.len() / 2].as_secs_f64() / f64::from(runs);
        let throughput = match bytes {
            0 => String::new(),
            bytes => format!("{:.0} MB/s", bytes as f64 / one / 1e6),
        };
        println!("| {name} | {:.1} ns | {throughput} |", one / f64::from(items) * 1e9);
    }
}

fn requests(stopwatch: &Stopwatch) {
    for (size, len) in [("1 KiB", 1024), ("64 KiB", 64 * 1024)] {
        let body = chat(len);
        let read = || decode(Endpoint::ChatCompletions, body.clone(), None).expect("it is a valid chat");
        let request = read();
        stopwatch.time(&format!("decode a chat of {size}"), 1, body.len(), read);
        // What follows reads positions, not the body, so that a throughput would say nothing.
        stopwatch.time(&format!("prompt of a chat of {size}"), 1, 0, || request.prompt(false).prefix.len());
        stopwatch
            .time(&format!("encode a chat of {size}, untouched"), 1, 0, || encode(&request, None, false));
        stopwatch.time(&format!("encode a chat of {size}, alias and usage"), 1, 0, || {
            encode(&request, Some("gpt-4o-2024-11-20"), true)
        });
    }
}

/// What an event and a request cost that come in one surface's words and go in another's.
fn conversions(stopwatch: &Stopwatch) {
    let asked = Asked {
        model: Arc::from("mock"),
        id: Arc::from("0123456789abcdef"),
        created_unix_s: 1_751_790_000,
        asks_usage: true,
        request: Bytes::from_static(b"{}"),
    };
    let upstreams =
        [(Surface::Chat, EVENT), (Surface::Messages, MESSAGES_EVENT), (Surface::Gemini, GEMINI_EVENT)];
    for (upstream, event) in upstreams {
        let many = Bytes::from(event.repeat(EVENTS as usize));
        for client in Surface::ALL.into_iter().filter(|client| *client != upstream) {
            let mut converter = StreamConverter::new(upstream, client, &asked);
            let mut out = Vec::new();
            let name = format!("convert an event, {} to {}", upstream.label(), client.label());
            stopwatch.time(&name, EVENTS, many.len(), || {
                out.clear();
                converter.push_all([many.clone()].into_iter(), &mut out).expect("the events are valid");
                out.len()
            });
        }
    }
    let request = decode(Endpoint::ChatCompletions, chat(1024), None).expect("it is a valid chat");
    for target in [Surface::Messages, Surface::Gemini] {
        stopwatch.time(&format!("convert a chat of 1 KiB to {}", target.label()), 1, 1024, || {
            let mut terms = Terms {
                client: Surface::Chat,
                target,
                upstream: "mock",
                max_tokens_default: 1024,
                budgets: EffortBudgets::default(),
                losses: Vec::new(),
                unknown: Vec::new(),
            };
            let chat = decode_request(Surface::Chat, &request).expect("it is a valid chat");
            encode_request(&chat, &mut terms).expect("there are words for it")
        });
    }
}

fn encode(request: &Request, model: Option<&str>, include_usage: bool) -> Vec<Bytes> {
    let clean = Clean::default();
    request.encode(&Edits { model, stop: &[], max_tokens: None, extra_body: &[], include_usage, clean })
}

/// A streamed chat whose JSON has about `len` bytes, in two messages.
fn chat(len: usize) -> Bytes {
    let line = "The quick brown fox jumps over the lazy dog and wonders what a tokenizer costs.\\n";
    let messages = format!(
        r#"[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"{}"}}]"#,
        line.repeat(len.div_ceil(line.len()) - 1)
    );
    format!(r#"{{"model":"gpt-4o","messages":{messages},"temperature":0.70,"stream":true}}"#).into()
}

/// Events that are already there, as one read of the socket gives them.
const EVENTS: u32 = 16;

fn streams(stopwatch: &Stopwatch) {
    let one = Bytes::from_static(EVENT.as_bytes());
    let many = Bytes::from(EVENT.repeat(EVENTS as usize));
    for (chunk, items, what) in [(one, 1, "one by one"), (many, EVENTS, "16 at once")] {
        let mut decoder = Decoder::new(EVENT_BYTES_MAX);
        stopwatch.time(&format!("decode an event, {what}"), items, chunk.len(), || {
            decoder.push(chunk.clone());
            let mut frames = 0;
            while let Some(frame) = decoder.next_frame().expect("the event is within the bound") {
                frames += frame.raw.len();
            }
            frames
        });
        for (thinking, does) in
            [(ThinkingFormat::Passthrough, "watch"), (ThinkingFormat::Strip, "strip thinking of")]
        {
            let mut filter = Filter::new(rules(thinking));
            let mut out = Vec::new();
            stopwatch.time(&format!("{does} an event, {what}"), items, chunk.len(), || {
                out.clear();
                filter.push(chunk.clone(), &mut out).expect("the event is within the bound");
                out.len()
            });
        }
    }
}

fn rules(thinking: ThinkingFormat) -> Rules {
    Rules { endpoint: Endpoint::ChatCompletions, hides_usage: true, special_prefix: None, thinking }
}

const MESSAGES_EVENT: &str = concat!(
    "event: content_block_delta\n",
    r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" token"}}"#,
    "\n\n"
);
const GEMINI_EVENT: &str = concat!(
    r#"data: {"candidates":[{"content":{"parts":[{"text":" token"}],"role":"model"},"index":0}],"#,
    r#""usageMetadata":{"promptTokenCount":19,"candidatesTokenCount":7,"totalTokenCount":26},"modelVersion":"mock"}"#,
    "\n\n"
);
const EVENT: &str = concat!(
    r#"data: {"id":"chatcmpl-BtPsuZ3Kv0mJ2QfXhYw8LrCn","object":"chat.completion.chunk","created":1751790000,"#,
    r#""model":"gpt-4o","service_tier":"default","system_fingerprint":"fp_34a54ae93c","#,
    r#""choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}"#,
    "\n\n"
);

/// How many events the answers have that are put together.
const ANSWER_EVENTS: u32 = 1000;

fn assemblies(stopwatch: &Stopwatch) {
    let alike = |_| EVENT.to_owned();
    let padded = |number| EVENT.replace("}]}", &format!("}}],\"obfuscation\":\"{number}\"}}"));
    let numbered = |number| {
        format!(
            "event: response.output_text.delta\n\
             data: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\"item_id\":\"msg_67c9fdcf37fc8190\",\
             \"output_index\":0,\"content_index\":0,\"delta\":\" token\",\"logprobs\":[]}}\n\n"
        )
    };
    let events = |event: &dyn Fn(u32) -> String| (0..ANSWER_EVENTS).map(event).collect::<Vec<_>>();
    for (what, endpoint, events) in [
        ("a chat event", Endpoint::ChatCompletions, events(&alike)),
        ("a chat event unlike the others", Endpoint::ChatCompletions, events(&padded)),
        ("an event of a response", Endpoint::Responses, events(&numbered)),
    ] {
        let bytes = events.iter().map(String::len).sum();
        stopwatch.time(&format!("assemble {what}"), ANSWER_EVENTS, bytes, || {
            let mut assembly = Assembly::new(endpoint, 1 << 20);
            events.iter().for_each(|event| assembly.push(event.as_bytes()));
            assembly.finish(None).body.len()
        });
    }
}

fn routing(stopwatch: &Stopwatch) {
    let body = chat(1024);
    let request = decode(Endpoint::ChatCompletions, body, None).expect("it is a valid chat");
    let prompt = request.prompt(false);
    for count in [2, 100, 1000] {
        let same = routes(count, |_| "gpt-".to_owned());
        stopwatch.time(&format!("choose among {count} upstreams"), 1, 0, || choose(&same, &prompt));
        // One takes the model, the others are passed over.
        let single =
            routes(count, |index| if index == 0 { "gpt-".to_owned() } else { format!("other{index}-") });
        stopwatch.time(&format!("find the one of {count} upstreams"), 1, 0, || choose(&single, &prompt));
    }
}

fn choose(routes: &Routes, prompt: &Prompt<'_>) -> Option<usize> {
    let candidates = routes.candidates(black_box("gpt-4o"));
    routes.rank(&candidates, Keying { tenant: "", model: "gpt-4o" }, prompt, |_| 0, || 0).next()
}

fn routes(count: usize, prefix: impl Fn(usize) -> String) -> Routes {
    let member = |index| Member {
        name: Arc::from(format!("upstream{index}")),
        models: ModelMatch::Prefix(vec![prefix(index)]),
        aliases: Vec::new(),
        priority: 1,
        is_enabled: true,
    };
    let routing = Routing { strategy: Strategy::Deterministic, priority_mode: PriorityMode::Weight };
    Routes::with_members((0..count).map(member).collect(), routing)
}
