//! What holds for requests, answers and streams together.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::chat::{
    ApiError, CacheControl, ChatRequest, Choice, Citation, Content, Effort, Event, Extra, Format, Level,
    Message, Part, Raw, Reasoning, Reply, Role, Signature, Source, StopReason, TokenLogprob, Tool,
    ToolChoice, Usage,
};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::Asked;
use crate::wire::sse::{Decoder, EVENT_BYTES_MAX};

fn asked(request: &str) -> Asked {
    Asked {
        model: "alias".into(),
        id: "X1".into(),
        created_unix_s: 7,
        asks_usage: true,
        request: Bytes::copy_from_slice(request.as_bytes()),
    }
}

fn reply(parts: Vec<Part>, stop: StopReason) -> Reply {
    Reply {
        surface: Surface::Responses,
        id: "resp_1".to_owned(),
        model: "m".to_owned(),
        created_unix_s: Some(9),
        choices: vec![Choice { parts, stop: Some(stop), ..Choice::default() }],
        usage: Some(Usage { input: 9, output: 5, cached: 3, reasoning: 2, ..Usage::default() }),
        extra: Extra::default(),
    }
}

/// The stream that an answer would have been, its texts in pieces of `step` characters.
fn stream(reply: &Reply, step: usize) -> Vec<Event> {
    let choice = 0;
    let mut events = vec![Event::Start {
        id: reply.id.clone(),
        model: reply.model.clone(),
        created_unix_s: reply.created_unix_s,
        usage: None,
    }];
    let pieces = |text: &str| -> Vec<String> {
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(step.max(1)).map(|letters| letters.iter().collect()).collect()
    };
    let mut calls = 0;
    let parts = &reply.choices[0].parts;
    for (number, part) in parts.iter().enumerate() {
        // Some tell the end of every part, and some only where two would be taken for one.
        let is_same =
            |next: &Part| std::mem::discriminant(&next.content) == std::mem::discriminant(&part.content);
        let ends = step.is_multiple_of(2) || parts.get(number + 1).is_some_and(is_same);
        let end = ends.then_some(Event::PartEnd { choice });
        match &part.content {
            Content::Text { text, citations } => {
                events.extend(pieces(text).into_iter().map(|text| Event::Text { choice, text }));
                let cite = |citation: &Citation| Event::Citation { choice, citation: citation.clone() };
                events.extend(citations.iter().map(cite));
                events.extend(end);
            }
            Content::Refusal(text) => {
                events.extend(pieces(text).into_iter().map(|text| Event::Refusal { choice, text }));
                events.extend(end);
            }
            Content::Thinking { text, signature } => {
                events.extend(pieces(text).into_iter().map(|text| Event::Thinking { choice, text }));
                let sealed =
                    |signature: &Signature| Event::Signature { choice, signature: signature.clone() };
                events.extend(signature.as_ref().map(sealed).or(end));
            }
            Content::RedactedThinking(data) => {
                events.push(Event::RedactedThinking { choice, data: data.clone() });
            }
            Content::ToolCall { id, name, arguments, signature } => {
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                events.push(Event::ToolCall { choice, index: calls, id, name, signature });
                let args = pieces(arguments).into_iter();
                events.extend(args.map(|json| Event::Arguments { choice, index: calls, json }));
                events.extend(end);
                calls += 1;
            }
            _ => {}
        }
    }
    events.push(Event::Logprobs { choice, tokens: reply.choices[0].logprobs.clone() });
    let reason = reply.choices[0].stop.unwrap();
    events.push(Event::Finish { choice, reason, stop_sequence: None });
    events.extend(reply.usage.map(Event::Usage));
    events.push(Event::End);
    events
}

fn encode(events: &[Event], request: &str) -> Vec<u8> {
    let mut encoder = EventEncoder::new(&asked(request));
    let mut out = Vec::new();
    for event in events {
        encoder.push(event, &mut out);
    }
    out
}

/// The data of a stream's events; each has its type for a name.
fn data(stream: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX * 64);
    decoder.push(Bytes::copy_from_slice(stream));
    let mut all = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        let fields = frame.fields();
        let Some(data) = &fields.data else { continue };
        let data: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(fields.event_name(), data["type"].as_str());
        all.push(data);
    }
    assert!(decoder.finish().is_none(), "every event is ended");
    all
}

fn decode(stream: &[u8]) -> Vec<Event> {
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    for data in data(stream) {
        decoder.push(data["type"].as_str(), data.to_string().as_bytes(), &mut out).unwrap();
    }
    decoder.finish(&mut out);
    out
}

/// Puts together what a stream says, as simply as can be.
fn gather(events: &[Event]) -> Reply {
    let mut whole = reply(Vec::new(), StopReason::Other);
    whole.usage = None;
    let choice = &mut whole.choices[0];
    choice.stop = None;
    let mut is_open = false;
    let mut calls = Vec::new();
    for event in events {
        let parts = &mut choice.parts;
        let last = parts.last_mut().filter(|_| is_open).map(|part| &mut part.content);
        is_open = !matches!(
            event,
            Event::PartEnd { .. } | Event::Signature { .. } | Event::RedactedThinking { .. }
        );
        match (event, last) {
            (Event::Text { text: piece, .. }, Some(Content::Text { text, .. })) => text.push_str(piece),
            (Event::Text { text, .. }, _) => parts.push(Part::text(text)),
            (Event::Refusal { text: piece, .. }, Some(Content::Refusal(text))) => text.push_str(piece),
            (Event::Refusal { text, .. }, _) => parts.push(Part::new(Content::Refusal(text.clone()))),
            (Event::Thinking { text: piece, .. }, Some(Content::Thinking { text, .. })) => {
                text.push_str(piece)
            }
            (Event::Thinking { text, .. }, _) => {
                parts.push(Part::new(Content::Thinking { text: text.clone(), signature: None }));
            }
            (Event::Signature { signature: sealed, .. }, Some(Content::Thinking { signature, .. })) => {
                *signature = Some(sealed.clone());
            }
            (Event::Signature { signature, .. }, _) => {
                let signature = Some(signature.clone());
                parts.push(Part::new(Content::Thinking { text: String::new(), signature }));
            }
            (Event::RedactedThinking { data, .. }, _) => {
                parts.push(Part::new(Content::RedactedThinking(data.clone())));
            }
            (Event::ToolCall { id, name, signature, .. }, _) => {
                calls.push(parts.len());
                let (id, name, signature) = (id.clone(), name.clone(), signature.clone());
                parts.push(Part::new(Content::ToolCall { id, name, arguments: String::new(), signature }));
            }
            (Event::Arguments { index, json, .. }, _) => {
                let Content::ToolCall { arguments, .. } = &mut parts[calls[*index as usize]].content else {
                    panic!("a call")
                };
                arguments.push_str(json);
            }
            (Event::Citation { citation, .. }, Some(Content::Text { citations, .. })) => {
                citations.push(citation.clone());
            }
            (Event::Logprobs { tokens, .. }, _) => choice.logprobs.extend(tokens.clone()),
            (Event::Finish { reason, .. }, _) => choice.stop = Some(*reason),
            (Event::Usage(usage), _) => whole.usage = Some(*usage),
            _ => {}
        }
    }
    whole
}

fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n😀]{1,12}"
}

fn signature() -> impl Strategy<Value = Signature> {
    let surface = prop::sample::select(Surface::ALL.to_vec());
    (surface, "[A-Za-z0-9+/]{4,12}").prop_map(|(surface, value)| Signature { surface, value })
}

fn part() -> impl Strategy<Value = Part> {
    let call =
        ("[a-z]{1,8}", "[a-z]{1,8}", prop::option::of(signature())).prop_map(|(id, name, signature)| {
            // Only Gemini signs calls.
            let signature = signature.map(|signature| Signature { surface: Surface::Gemini, ..signature });
            Content::ToolCall { id, name, arguments: r#"{"a":"}"}"#.to_owned(), signature }
        });
    prop_oneof![
        text().prop_map(|text| Content::Text { text, citations: Vec::new() }),
        text().prop_map(Content::Refusal),
        (text(), prop::option::of(signature()))
            .prop_map(|(text, signature)| Content::Thinking { text, signature }),
        signature().prop_map(Content::RedactedThinking),
        call,
    ]
    .prop_map(Part::new)
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let stops = prop::sample::select(vec![StopReason::Stop, StopReason::Length, StopReason::ContentFilter]);
    (prop::collection::vec(part(), 0..6), stops).prop_map(|(parts, stop)| {
        let calls = parts.iter().any(|part| matches!(part.content, Content::ToolCall { .. }));
        let stop = if calls && stop == StopReason::Stop { StopReason::ToolCalls } else { stop };
        reply(parts, stop)
    })
}

/// Goes through a stream as the vendors' clients do, and panics where they would fail.
fn follow(events: &[Value]) -> Option<Value> {
    let mut output: Vec<Value> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], json!(number), "numbers have no gaps");
        let kind = event["type"].as_str().unwrap();
        if number == 0 && kind != "error" {
            assert_eq!(kind, "response.created");
        }
        let index = event["output_index"].as_u64().map(|index| index as usize);
        let content = event["content_index"].as_u64().map(|index| index as usize);
        if let (Some(index), Some(id)) = (index, event.get("item_id")) {
            assert_eq!(&output[index]["id"], id);
            assert_ne!(output[index]["is_done"], true, "nothing follows an item that is done");
        }
        match kind {
            "response.output_item.added" => {
                assert_eq!(index, Some(output.len()), "indices have no gaps");
                output.push(event["item"].clone());
            }
            "response.content_part.added" => {
                let parts = output[index.unwrap()]["content"].as_array_mut().unwrap();
                assert_eq!(content, Some(parts.len()));
                parts.push(event["part"].clone());
            }
            "response.reasoning_summary_part.added" => {
                output[index.unwrap()]["summary"].as_array_mut().unwrap().push(event["part"].clone());
            }
            "response.output_text.delta" => {
                append(&mut output[index.unwrap()]["content"][content.unwrap()]["text"], event);
            }
            "response.refusal.delta" => {
                append(&mut output[index.unwrap()]["content"][content.unwrap()]["refusal"], event);
            }
            "response.reasoning_summary_text.delta" => {
                append(&mut output[index.unwrap()]["summary"][0]["text"], event);
            }
            "response.function_call_arguments.delta" => {
                append(&mut output[index.unwrap()]["arguments"], event);
            }
            "response.output_text.annotation.added" => {
                let part = &mut output[index.unwrap()]["content"][content.unwrap()];
                part["annotations"].as_array_mut().unwrap().push(event["annotation"].clone());
            }
            "response.output_text.done" => {
                assert_eq!(output[index.unwrap()]["content"][content.unwrap()]["text"], event["text"]);
            }
            "response.function_call_arguments.done" => {
                assert_eq!(output[index.unwrap()]["arguments"], event["arguments"]);
            }
            "response.output_item.done" => {
                let mut item = event["item"].clone();
                let begun = &mut output[index.unwrap()];
                for name in ["id", "type", "call_id", "name", "arguments", "summary"] {
                    assert_eq!(begun[name], item[name], "{name}");
                }
                item["is_done"] = json!(true);
                *begun = item;
            }
            "response.completed" | "response.incomplete" => {
                assert!(output.iter().all(|item| item["is_done"] == true), "every item is done");
                assert_eq!(number + 1, events.len());
                return Some(event["response"].clone());
            }
            _ => {}
        }
    }
    None
}

fn append(text: &mut Value, event: &Value) {
    *text = json!(format!("{}{}", text.as_str().unwrap(), event["delta"].as_str().unwrap()));
}

proptest! {
    // parity: 98, 99
    #[test]
    fn a_streamed_answer_is_the_whole_one(reply in any_reply(), step in 1..5usize) {
        let streamed = follow(&data(&encode(&stream(&reply, step), "{}"))).unwrap();
        let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked("{}"))).unwrap();
        prop_assert_eq!(streamed, whole);
    }

    #[test]
    fn an_answer_is_read_as_it_was_written(mut reply in any_reply()) {
        let whole = encode_reply(&reply, &asked("{}"));
        reply.model = "alias".to_owned();
        prop_assert_eq!(decode_reply(&whole, "X1").unwrap(), reply);
    }

    #[test]
    fn a_stream_is_read_as_it_was_written(reply in any_reply(), step in 1..5usize) {
        let read = gather(&decode(&encode(&stream(&reply, step), "{}")));
        prop_assert_eq!(read.choices, reply.choices);
        prop_assert_eq!(read.usage, reply.usage);
    }

    #[test]
    fn a_stream_is_one_of_the_grammar_whatever_the_order_of_its_steps(
        events in any_reply().prop_map(|reply| stream(&reply, 2)).prop_shuffle(),
    ) {
        follow(&data(&encode(&events, "{}")));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0..400usize) {
        let _ = decode_request(&bytes);
        let _ = decode_reply(&bytes, "X1");
        let _ = EventDecoder::new("X1").push(None, &bytes, &mut Vec::new());
        let _ = EventEncoder::new(&Asked { request: bytes.into(), ..asked("") });
        let request = FULL.as_bytes();
        let _ = decode_request(&request[..cut.min(request.len())]);
    }

    #[test]
    fn wrong_shapes_do_not_panic(at in 0..200usize, wrong in prop::sample::select(vec!["5", "[]", "null", "\"x\"", "{}", "1e99"])) {
        let places: Vec<_> = FULL.match_indices(':').map(|(place, _)| place + 1).collect();
        let place = places[at % places.len()];
        let mut scanner = crate::wire::json::Scanner::new(&FULL.as_bytes()[place..]);
        if let Ok(range) = scanner.skip() {
            let changed = [&FULL[..place], wrong, &FULL[place + range.end..]].concat();
            if let Err(error) = decode_request(changed.as_bytes()) {
                prop_assert_eq!(error.kind, ErrorKind::InvalidRequest);
                prop_assert!(error.param.is_some() || error.message.contains("body"), "{}", error.message);
            }
        }
    }
}

/// A request that says everything.
const FULL: &str = r#"{"model":"m","instructions":"be kind","input":[
    {"role":"developer","content":"short"},
    {"type":"message","role":"user","content":[
        {"type":"input_text","text":"look","prompt_cache_breakpoint":{"mode":"explicit"}},
        {"type":"input_image","image_url":"https://a/b.png","detail":"low"},
        {"type":"input_image","image_url":"data:image/png;base64,AAAA"},
        {"type":"input_file","file_data":"data:application/pdf;base64,BBBB","filename":"a.pdf"},
        {"type":"input_file","file_url":"https://a/b.pdf"},
        {"type":"input_file","file_id":"file-1"},
        {"type":"input_audio","input_audio":{"data":"CCCC","format":"wav"}}]},
    {"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"messages#SIG"},
    {"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[
        {"type":"output_text","text":"a cat","annotations":[{"type":"url_citation","url":"https://c","title":"C","start_index":0,"end_index":5}],"logprobs":[]}]},
    {"type":"function_call","id":"fc_1","call_id":"c1","name":"f","arguments":"{\"a\":1}","status":"completed"},
    {"type":"function_call","call_id":"c2","name":"g","arguments":""},
    {"type":"function_call_output","call_id":"c1","output":"one"},
    {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"two"},{"type":"input_image","image_url":"data:image/png;base64,DDDD"}]},
    {"role":"user","content":"and?"}],
  "tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":true},{"type":"web_search"}],
  "tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"}]},
  "parallel_tool_calls":false,"max_output_tokens":100,"temperature":0.5,"top_p":0.9,"top_logprobs":2,
  "include":["reasoning.encrypted_content","message.output_text.logprobs"],
  "reasoning":{"effort":"low","summary":"auto"},
  "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true},"verbosity":"low"},
  "metadata":{"k":"v"},"safety_identifier":"me","service_tier":"flex","store":true,"truncation":"auto","stream":true,
  "prompt_cache_key":"key"}"#;

fn call(id: &str, name: &str, arguments: &str) -> Part {
    let (id, name, arguments) = (id.to_owned(), name.to_owned(), arguments.to_owned());
    Part::new(Content::ToolCall { id, name, arguments, signature: None })
}

fn data_of(media_type: &str, base64: &str) -> Source {
    Source::Data { media_type: media_type.to_owned(), base64: base64.to_owned() }
}

fn url(url: &str) -> Source {
    Source::Url { url: url.to_owned(), media_type: None }
}

// parity: 97, 100, 102, 103
#[test]
fn everything_a_request_says_is_read() {
    let request = decode_request(FULL.as_bytes()).unwrap();
    let image = |source, detail: Option<&str>| {
        Part::new(Content::Image { source, detail: detail.map(str::to_owned) })
    };
    let file =
        |source, name: Option<&str>| Part::new(Content::File { source, name: name.map(str::to_owned) });
    let result = |id: &str, content| {
        Part::new(Content::ToolResult { id: id.to_owned(), name: None, content, is_error: false })
    };
    let signature = Signature { surface: Surface::Messages, value: "SIG".to_owned() };
    let citation = Citation {
        url: Some("https://c".to_owned()),
        title: Some("C".to_owned()),
        quoted: None,
        range: Some((0, 5)),
        original: Some((
            Surface::Responses,
            Raw::new(
                r#"{"type":"url_citation","url":"https://c","title":"C","start_index":0,"end_index":5}"#,
            )
            .unwrap(),
        )),
    };
    let messages = vec![
        Message::new(Role::System, vec![Part::text("be kind")]),
        Message::new(Role::Developer, vec![Part::text("short")]),
        Message::new(
            Role::User,
            vec![
                Part { cache: Some(CacheControl { ttl: None }), ..Part::text("look") },
                image(url("https://a/b.png"), Some("low")),
                image(data_of("image/png", "AAAA"), None),
                file(data_of("application/pdf", "BBBB"), Some("a.pdf")),
                file(url("https://a/b.pdf"), None),
                file(Source::Id("file-1".to_owned()), None),
                Part::new(Content::Audio { source: data_of("audio/wav", "CCCC") }),
            ],
        ),
        Message::new(
            Role::Assistant,
            vec![
                Part::new(Content::Thinking { text: "hm".to_owned(), signature: Some(signature) }),
                Part::new(Content::Text { text: "a cat".to_owned(), citations: vec![citation] }),
                call("c1", "f", r#"{"a":1}"#),
                call("c2", "g", "{}"),
            ],
        ),
        Message::new(
            Role::Tool,
            vec![
                result("c1", vec![Part::text("one")]),
                result("c2", vec![Part::text("two"), image(data_of("image/png", "DDDD"), None)]),
            ],
        ),
        Message::new(Role::User, vec![Part::text("and?")]),
    ];
    assert_eq!(request.messages, messages);
    let expected = ChatRequest {
        messages,
        tools: request.tools.clone(),
        tool_choice: Some(ToolChoice::Among { names: vec!["f".to_owned()], is_required: true }),
        parallel_tool_calls: Some(false),
        max_tokens: Some(100),
        temperature: Some(0.5),
        top_p: Some(0.9),
        logprobs: Some(true),
        top_logprobs: Some(2),
        reasoning: Some(Reasoning { level: Level::Effort(Effort::Low), is_shown: Some(true) }),
        format: Some(Format::Schema {
            name: Some("n".to_owned()),
            description: None,
            schema: Raw::new(r#"{"type":"object"}"#).unwrap(),
            strict: Some(true),
        }),
        user: Some("me".to_owned()),
        metadata: Raw::new(r#"{"k":"v"}"#),
        service_tier: Some("flex".to_owned()),
        is_stream: true,
        asks_usage: true,
        extra: Extra(vec![
            ("truncation".to_owned(), Raw::of(&"auto")),
            ("verbosity".to_owned(), Raw::of(&"low")),
            ("prompt_cache_key".to_owned(), Raw::of(&"key")),
        ]),
        ..ChatRequest::new(Surface::Responses, "m")
    };
    assert_eq!(request, expected);
    let [Tool::Function(function), Tool::Other { kind, json }] = &request.tools[..] else {
        panic!("two tools")
    };
    assert_eq!((&*function.name, function.strict), ("f", Some(true)));
    assert_eq!((&**kind, json.get()), ("web_search", r#"{"type":"web_search"}"#));
}

#[track_caller]
fn check_refused(request: &str, param: &str, message: &str) {
    let error = decode_request(request.as_bytes()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!((error.param.as_deref(), &*error.message), (Some(param), message));
}

#[track_caller]
fn check_item(item: &str, param: &str, message: &str) {
    check_refused(&format!(r#"{{"input":[{{"role":"user","content":"a"}},{item}]}}"#), param, message);
}

#[track_caller]
fn check_member(member: &str, param: &str, message: &str) {
    check_refused(&format!(r#"{{"input":"a",{member}}}"#), param, message);
}

// parity: 97
#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    check_item(
        r#"{"role":"robot","content":"a"}"#,
        "input[1].role",
        "`input[1].role` must be `system`, `developer`, `user` or `assistant`",
    );
    check_item(
        r#"{"type":"function_call_output","call_id":"c9","output":"a"}"#,
        "input[1].call_id",
        "`input[1].call_id` is `c9`, but no `function_call` before it has this `call_id`",
    );
    check_item(
        r#"{"type":"function_call_output","output":"a"}"#,
        "input[1].call_id",
        "`input[1].call_id` is missing",
    );
    check_item(
        r#"{"role":"user","content":[{"type":"input_image","image_url":"cat.png"}]}"#,
        "input[1].content[0].image_url",
        "`input[1].content[0].image_url` must be a URL that begins with `http://` or `https://`, or a data URI in base64",
    );
    check_item(
        r#"{"role":"user","content":5}"#,
        "input[1].content",
        "`input[1].content` must be a string or an array",
    );
    check_item(
        r#"{"role":"user","content":[{"type":"input_text"}]}"#,
        "input[1].content[0].text",
        "`input[1].content[0].text` is missing",
    );
    check_item("5", "input[1]", "`input[1]` must be an object");
    check_item(
        r#"{"type":"function_call","call_id":"c","name":"f","arguments":"{"}"#,
        "input[1].arguments",
        "`input[1].arguments` must be JSON text",
    );
    for reference in [r#"{"type":"item_reference","id":"msg_1"}"#, r#"{"id":"msg_1"}"#] {
        check_item(
            reference,
            "input[1].id",
            "`input[1].id` refers to an item that is not in the request, and the upstream keeps none; send the item itself, as clients do with `store` false",
        );
    }
    for name in ["previous_response_id", "conversation", "prompt"] {
        check_member(
            &format!(r#""{name}":"x""#),
            name,
            &format!(
                "`{name}` cannot be used here, the upstream keeps no conversations; send everything in `input`"
            ),
        );
    }
    check_member(
        r#""background":true"#,
        "background",
        "`background` must be false, the upstream keeps no conversations and answers at once",
    );
    check_member(r#""temperature":"1""#, "temperature", "`temperature` must be a number");
    check_member(r#""tools":[{"type":"function"}]"#, "tools[0].name", "`tools[0].name` is missing");
    check_member(
        r#""tool_choice":"any""#,
        "tool_choice",
        "`tool_choice` must be `auto`, `none`, `required` or an object",
    );
    check_member(
        r#""tool_choice":{"type":"web_search"}"#,
        "tool_choice.type",
        "`tool_choice.type` is `web_search`, which the upstream has no tool for; name a function",
    );
    check_member(
        r#""text":{"format":{"type":"json_schema"}}"#,
        "text.format.schema",
        "`text.format.schema` is missing",
    );
    check_member(
        r#""reasoning":{"effort":"huge"}"#,
        "reasoning.effort",
        "`reasoning.effort` must be `none`, `minimal`, `low`, `medium`, `high`, `xhigh` or `max`",
    );
    check_refused("{}", "input", "`input` is missing");
    check_refused(r#"{"input":[]}"#, "input", "`input` is empty, send at least one item");
}

#[test]
fn a_lone_text_is_a_message_of_the_users() {
    let request =
        decode_request(br#"{"input":"hi","previous_response_id":null,"background":false}"#).unwrap();
    assert_eq!(request.messages, [Message::new(Role::User, vec![Part::text("hi")])]);
    assert_eq!(request.extra, Extra::default());
}

#[track_caller]
fn check_choice(json: &str, choice: &ToolChoice) {
    let request = decode_request(format!(r#"{{"input":"a","tool_choice":{json}}}"#).as_bytes()).unwrap();
    assert_eq!(request.tool_choice.as_ref(), Some(choice));
}

// parity: 101
#[test]
fn every_choice_of_tools_is_read() {
    check_choice(r#""auto""#, &ToolChoice::Auto);
    check_choice(r#""none""#, &ToolChoice::None);
    check_choice(r#""required""#, &ToolChoice::Required);
    check_choice(r#"{"type":"function","name":"f"}"#, &ToolChoice::Named("f".to_owned()));
    let among = ToolChoice::Among { names: vec!["f".to_owned()], is_required: false };
    check_choice(
        r#"{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"},{"type":"mcp"}]}"#,
        &among,
    );
}

#[track_caller]
fn check_reasoning(json: &str, level: Option<Level>, is_shown: Option<bool>) {
    let request = decode_request(format!(r#"{{"input":"a","reasoning":{json}}}"#).as_bytes()).unwrap();
    assert_eq!(request.reasoning, level.map(|level| Reasoning { level, is_shown }));
}

// parity: 104
#[test]
fn every_amount_of_thinking_is_read() {
    check_reasoning("{}", None, None);
    check_reasoning("null", None, None);
    check_reasoning(r#"{"effort":"none"}"#, Some(Level::Off), None);
    check_reasoning(r#"{"effort":"minimal"}"#, Some(Level::Effort(Effort::Minimal)), None);
    check_reasoning(r#"{"effort":"xhigh"}"#, Some(Level::Effort(Effort::Max)), None);
    check_reasoning(r#"{"summary":"auto"}"#, Some(Level::Dynamic), Some(true));
    check_reasoning(
        r#"{"generate_summary":"concise","effort":"high"}"#,
        Some(Level::Effort(Effort::High)),
        Some(true),
    );
}

/// An answer that has one of everything.
fn full_reply() -> Reply {
    let sealed = |surface, value: &str| Signature { surface, value: value.to_owned() };
    let thinking = Content::Thinking {
        text: "let me\nsee".to_owned(),
        signature: Some(sealed(Surface::Messages, "SIG")),
    };
    let citation =
        Citation { url: Some("https://c".to_owned()), title: Some("C".to_owned()), ..Citation::default() };
    let cited = Content::Text { text: "It rains \"hard\".".to_owned(), citations: vec![citation] };
    let signed = Content::ToolCall {
        id: "c1".to_owned(),
        name: "f".to_owned(),
        arguments: r#"{"a":1}"#.to_owned(),
        signature: Some(sealed(Surface::Gemini, "GSIG")),
    };
    let parts = vec![
        Part::new(thinking),
        Part::new(Content::RedactedThinking(sealed(Surface::Messages, "SECRET"))),
        Part::new(cited),
        Part::new(Content::Refusal("No more.".to_owned())),
        Part::new(signed),
        call("c2", "g", ""),
    ];
    let mut reply = reply(parts, StopReason::ToolCalls);
    let top = vec![("It".to_owned(), -0.25), ("Is".to_owned(), f64::NEG_INFINITY)];
    reply.choices[0].logprobs = vec![TokenLogprob { token: "It".to_owned(), logprob: -0.25, top }];
    reply
}

const TOOLS: &str = "{\"input\":\"a\",\"instructions\":\"be kind\",\"tools\":[\n{\"type\":\"function\",\"name\":\"f\",\"parameters\":{},\"strict\":true}],\"temperature\":0.5,\"text\":{\"verbosity\":\"low\"},\"metadata\":{\"k\":\"v\"}}";

#[test]
fn a_whole_answer_has_everything_that_the_clients_require() {
    let mut reply = full_reply();
    reply.id = "chatcmpl-1".to_owned();
    let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked(TOOLS))).unwrap();
    let expected = json!({
        "id": "resp_X1", "object": "response", "created_at": 9, "model": "alias", "status": "completed",
        "error": null, "incomplete_details": null,
        "output": [
            {"id": "rs_X1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "let me\nsee"}], "encrypted_content": "messages#SIG"},
            {"id": "rs_X1_1", "type": "reasoning", "summary": [], "encrypted_content": "messages#redacted:SECRET"},
            {"id": "msg_X1_2", "type": "message", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "It rains \"hard\".",
                 "annotations": [{"type": "url_citation", "start_index": 0, "end_index": 16, "url": "https://c", "title": "C"}],
                 "logprobs": [{"token": "It", "bytes": [73, 116], "logprob": -0.25, "top_logprobs": [
                    {"token": "It", "bytes": [73, 116], "logprob": -0.25}, {"token": "Is", "bytes": [73, 115], "logprob": -9999.0}]}]},
                {"type": "refusal", "refusal": "No more."}]},
            {"id": "rs_X1_3", "type": "reasoning", "summary": [], "encrypted_content": "gemini#GSIG"},
            {"id": "fc_X1_4", "type": "function_call", "status": "completed", "call_id": "c1", "name": "f", "arguments": "{\"a\":1}"},
            {"id": "fc_X1_5", "type": "function_call", "status": "completed", "call_id": "c2", "name": "g", "arguments": "{}"}],
        "background": false, "previous_response_id": null, "store": false,
        "instructions": "be kind", "max_output_tokens": null, "max_tool_calls": null, "metadata": {"k": "v"},
        "parallel_tool_calls": true, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "service_tier": "default", "temperature": 0.5, "tool_choice": "auto",
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": true}],
        "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": null,
        "text": {"format": {"type": "text"}, "verbosity": "low"},
        "usage": {"input_tokens": 9, "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 3},
                  "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14}});
    assert_eq!(whole, expected);
    let streamed = follow(&data(&encode(&stream(&reply, 3), TOOLS))).unwrap();
    assert_eq!(streamed, expected);
}

#[track_caller]
fn check_stop(stop: StopReason, status: &str, details: &Value) {
    let reply = reply(vec![Part::text("a")], stop);
    let whole: Value = serde_json::from_slice(&encode_reply(&reply, &asked("{}"))).unwrap();
    assert_eq!((&whole["status"], &whole["incomplete_details"]), (&json!(status), details));
    assert_eq!(whole["output"][0]["status"], json!(status));
    let events = data(&encode(&stream(&reply, 1), "{}"));
    assert_eq!(events.last().unwrap()["type"], json!(format!("response.{status}")));
    assert_eq!(events.last().unwrap()["response"], whole);
}

// parity: 106
#[test]
fn why_an_answer_ended_is_told() {
    check_stop(StopReason::Stop, "completed", &Value::Null);
    check_stop(StopReason::ToolCalls, "completed", &Value::Null);
    check_stop(StopReason::Other, "completed", &Value::Null);
    check_stop(StopReason::Length, "incomplete", &json!({"reason": "max_output_tokens"}));
    check_stop(StopReason::ContentFilter, "incomplete", &json!({"reason": "content_filter"}));
}

#[test]
fn calls_may_take_turns() {
    let begin = |index, id: &str| Event::ToolCall {
        choice: 0,
        index,
        id: id.to_owned(),
        name: "f".to_owned(),
        signature: None,
    };
    let piece = |index, json: &str| Event::Arguments { choice: 0, index, json: json.to_owned() };
    let events = [
        begin(0, "a"),
        piece(0, "{\"x\":"),
        begin(1, "b"),
        piece(1, "{\"y\":"),
        Event::PartEnd { choice: 0 },
        piece(0, "1}"),
        piece(1, "2}"),
        Event::Text { choice: 0, text: "so".to_owned() },
        Event::End,
    ];
    let events = data(&encode(&events, "{}"));
    let answer = follow(&events).unwrap();
    assert_eq!(answer["output"][0]["arguments"], json!("{\"x\":1}"));
    assert_eq!(answer["output"][1]["arguments"], json!("{\"y\":2}"));
    assert_eq!(answer["output"][2]["content"][0]["text"], json!("so"));
}

#[test]
fn a_call_is_done_as_soon_as_its_arguments_are() {
    let events = [
        Event::ToolCall { choice: 0, index: 0, id: "a".into(), name: "f".into(), signature: None },
        Event::Arguments { choice: 0, index: 0, json: r#"{"x":"\"}"#.into() },
        Event::Arguments { choice: 0, index: 0, json: r#"{"}"#.into() },
        Event::PartEnd { choice: 0 },
    ];
    let events = data(&encode(&events, "{}"));
    assert_eq!(events.last().unwrap()["type"], json!("response.output_item.done"));
    assert_eq!(events.last().unwrap()["item"]["arguments"], json!(r#"{"x":"\"}{"}"#));
}

#[test]
fn a_failure_is_an_error_that_the_clients_raise() {
    let error = ApiError {
        status: http::StatusCode::BAD_GATEWAY,
        message: "broke".to_owned(),
        kind: Some("upstream_error".to_owned()),
        code: Some("upstream_stream_broken".to_owned()),
        param: None,
    };
    let steps = [Event::Text { choice: 0, text: "a".to_owned() }, Event::Failed(error.clone()), Event::End];
    let events = data(&encode(&steps, "{}"));
    let last = events.last().unwrap();
    assert_eq!(
        *last,
        json!({"type": "error", "sequence_number": 5, "code": "upstream_stream_broken", "param": null, "message": "broke",
               "error": {"type": "upstream_error", "code": "upstream_stream_broken", "param": null, "message": "broke"}})
    );
    let mut out = Vec::new();
    EventDecoder::new("X1").push(Some("error"), last.to_string().as_bytes(), &mut out).unwrap();
    assert_eq!(out, [Event::Failed(error)]);
}

#[test]
fn an_answer_that_cannot_be_held_is_an_error() {
    let piece = Event::Text { choice: 0, text: "a".repeat(1 << 20) };
    let mut encoder = EventEncoder::new(&asked("{}"));
    let mut out = Vec::new();
    for _ in 0..=HELD_BYTES_MAX >> 20 {
        out.clear();
        encoder.push(&piece, &mut out);
    }
    assert_eq!(data(&out)[0]["error"]["message"], json!("the answer is longer than 16777216 bytes"));
    out.clear();
    encoder.push(&Event::End, &mut out);
    assert_eq!(out, b"");
}

#[track_caller]
fn check_failed(data: &str, status: u16, message: &str) {
    let mut out = Vec::new();
    EventDecoder::new("X1").push(None, data.as_bytes(), &mut out).unwrap();
    let [Event::Failed(error)] = &out[..] else { panic!("one error: {out:?}") };
    assert_eq!((error.status.as_u16(), &*error.message), (status, message));
}

#[test]
fn every_shape_of_an_error_is_read() {
    check_failed(r#"{"type":"error","code":"rate_limit_exceeded","message":"slow"}"#, 429, "slow");
    check_failed(
        r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"oh"}}}"#,
        500,
        "oh",
    );
    check_failed(r#"{"error":{"message":"no","type":"x"}}"#, 502, "no");
    check_failed(r#"{"error":"plain"}"#, 502, "plain");
    check_failed(r#"{"type":"error","message":5}"#, 502, "the upstream failed in the middle of its answer");
}

#[test]
fn an_answer_that_comes_only_at_the_end_is_read() {
    let whole = encode_reply(&full_reply(), &asked("{}"));
    let last =
        format!(r#"{{"type":"response.completed","response":{}}}"#, std::str::from_utf8(&whole).unwrap());
    let mut out = Vec::new();
    EventDecoder::new("X1").push(None, last.as_bytes(), &mut out).unwrap();
    let (mut read, mut expected) = (gather(&out), decode_reply(&whole, "X1").unwrap());
    expected.choices[0].logprobs.clear();
    read.choices[0].logprobs.clear();
    assert_eq!(read.choices, expected.choices);
}

#[test]
fn a_summary_of_several_parts_is_one_text() {
    let item = r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}]}"#;
    let whole = decode_reply(format!(r#"{{"output":[{item}]}}"#).as_bytes(), "X1").unwrap();
    let thinking = Part::new(Content::Thinking { text: "a\n\nb".to_owned(), signature: None });
    assert_eq!(whole.choices[0].parts, std::slice::from_ref(&thinking));
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    for data in [
        r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"reasoning","summary":[]}}"#,
        r#"{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":0,"part":{}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":0,"delta":"a"}"#,
        r#"{"type":"response.reasoning_summary_part.added","output_index":0,"summary_index":1,"part":{}}"#,
        r#"{"type":"response.reasoning_summary_text.delta","output_index":0,"summary_index":1,"delta":"b"}"#,
        &format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{item}}}"#),
    ] {
        decoder.push(None, data.as_bytes(), &mut out).unwrap();
    }
    assert_eq!(gather(&out).choices[0].parts, [thinking]);
}

#[test]
fn too_many_items_are_refused() {
    let mut decoder = EventDecoder::new("X1");
    let mut out = Vec::new();
    let read = (0..5000u64).try_for_each(|index| {
        let data = format!(
            r#"{{"type":"response.output_item.added","output_index":{},"item":{{"type":"message"}}}}"#,
            u64::MAX - index
        );
        decoder.push(None, data.as_bytes(), &mut out)
    });
    assert_eq!(read.unwrap_err().kind, ErrorKind::UpstreamInvalid);
}

#[test]
fn an_answer_without_output_is_invalid() {
    for body in ["", "[]", "{}", r#"{"output":5}"#, r#"{"output":[],"error":{"message":"no"}}"#] {
        assert_eq!(decode_reply(body.as_bytes(), "X1").unwrap_err().kind, ErrorKind::UpstreamInvalid);
    }
}

#[test]
fn a_reference_to_thinking_is_passed_over() {
    let request = br#"{"input":[{"role":"user","content":"a"},{"type":"item_reference","id":"rs_1"}]}"#;
    assert_eq!(decode_request(request).unwrap().messages, [Message::new(Role::User, vec![Part::text("a")])]);
}
