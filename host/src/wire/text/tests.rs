use std::collections::BTreeMap;
use std::slice::from_ref;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::limits::TOO_MUCH;
use super::*;
use crate::wire::sse::Frame;
use crate::wire::wake::{Look, Wake, Waker};

/// What a plugin does with text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    /// Says that nothing changed.
    Keep,
    /// Gives back what it got.
    Copy,
    /// Writes it in capitals.
    Upper,
    /// Takes it away.
    Drop,
    /// Gives all of it at the end.
    Delay,
    /// Withholds the last character of every lane until more comes.
    Lag,
    /// Makes content reasoning.
    Move,
    /// Makes one span of every character.
    Shatter,
    /// Adds an exclamation mark to every choice's content at the end.
    Append,
    /// Makes content between `<think>` and `</think>` reasoning.
    Split,
    /// Takes it away.
    Strip,
}

const PLUGINS: [Plugin; 9] = [
    Plugin::Keep,
    Plugin::Copy,
    Plugin::Upper,
    Plugin::Drop,
    Plugin::Delay,
    Plugin::Lag,
    Plugin::Move,
    Plugin::Shatter,
    Plugin::Append,
];

/// A plugin at work.
struct Work {
    plugin: Plugin,
    withheld: Vec<(Lane, String)>,
    choices: Vec<u32>,
    is_inside: bool,
}

impl Work {
    fn new(plugin: Plugin) -> Self {
        Self { plugin, withheld: Vec::new(), choices: Vec::new(), is_inside: false }
    }

    fn push(&mut self, batch: &TextBatch) -> Option<TextBatch> {
        let mut made = TextBatch::default();
        for (lane, text) in batch.pieces() {
            if !self.choices.contains(&lane.choice) {
                self.choices.push(lane.choice);
            }
            match self.plugin {
                Plugin::Keep | Plugin::Append => {}
                Plugin::Copy => made.push(lane, text),
                Plugin::Upper => made.push(lane, &text.to_uppercase()),
                Plugin::Drop => {}
                Plugin::Delay => self.withheld.push((lane, text.to_owned())),
                Plugin::Lag => self.lag(lane, text, &mut made),
                Plugin::Move if lane.channel == Channel::Content => {
                    made.push(Lane { channel: Channel::Reasoning, ..lane }, text);
                }
                Plugin::Move => made.push(lane, text),
                Plugin::Split | Plugin::Strip if lane.channel == Channel::Content => {
                    self.split(lane, text, &mut made);
                }
                Plugin::Split | Plugin::Strip => made.push(lane, text),
                Plugin::Shatter => text.split_inclusive(|_| true).for_each(|text| made.push(lane, text)),
            }
        }
        (!matches!(self.plugin, Plugin::Keep | Plugin::Append)).then_some(made)
    }

    fn lag(&mut self, lane: Lane, text: &str, made: &mut TextBatch) {
        let place = self.withheld.iter().position(|(known, _)| *known == lane);
        let old = place.map(|place| self.withheld.remove(place).1).unwrap_or_default();
        let text = old + text;
        let cut = text.char_indices().next_back().map_or(0, |(at, _)| at);
        made.push(lane, &text[..cut]);
        self.withheld.push((lane, text[cut..].to_owned()));
    }

    /// Cuts content at its tags; what may be the beginning of one waits.
    fn split(&mut self, lane: Lane, text: &str, made: &mut TextBatch) {
        let mut text = self.withheld.pop().map(|(_, text)| text).unwrap_or_default() + text;
        loop {
            let tag = if self.is_inside { "</think>" } else { "<think>" };
            let end = text.find(tag);
            let is_begun = |at: &usize| tag.starts_with(&text[*at..]);
            let begun = || text.char_indices().map(|(at, _)| at).find(is_begun);
            let cut = end.or_else(begun).unwrap_or(text.len());
            match (self.is_inside, self.plugin) {
                (false, _) => made.push(lane, &text[..cut]),
                (true, Plugin::Split) => {
                    made.push(Lane { channel: Channel::Reasoning, ..lane }, &text[..cut]);
                }
                (true, _) => {}
            }
            if end.is_none() {
                self.withheld.push((lane, text.split_off(cut)));
                return;
            }
            text.drain(..cut + tag.len());
            self.is_inside = !self.is_inside;
        }
    }

    fn finish(&mut self) -> Option<TextBatch> {
        if self.plugin == Plugin::Append {
            let content = |choice| Lane { choice, sub_index: 0, channel: Channel::Content };
            self.withheld = self.choices.iter().map(|choice| (content(*choice), "!".to_owned())).collect();
        }
        let mut late = TextBatch::default();
        self.withheld.drain(..).for_each(|(lane, text)| late.push(lane, &text));
        (!late.spans.is_empty()).then_some(late)
    }
}

/// Puts a stream through a plugin.
fn stream(endpoint: Endpoint, channels: ChannelSet, plugin: Plugin, chunks: &[&[u8]]) -> Vec<Bytes> {
    let mut stream = TextStream::new(endpoint, channels);
    let mut work = Work::new(plugin);
    let mut out = Vec::new();
    let release =
        |stream: &mut TextStream, work: &mut Work, batch: Option<TextBatch>, out: &mut Vec<Bytes>| {
            let changed = batch.and_then(|batch| work.push(&batch));
            assert_eq!(changed.as_ref().map_or(Ok(()), |changed| stream.validate(changed)), Ok(()));
            stream.release(changed.as_ref(), out);
        };
    let mut is_finished = false;
    for chunk in chunks {
        let batch = stream.push(&mut vec![Bytes::copy_from_slice(chunk)]).unwrap();
        release(&mut stream, &mut work, batch, &mut out);
        if stream.is_ended() && !std::mem::replace(&mut is_finished, true) {
            stream.finish(work.finish().as_ref(), &mut out);
        }
    }
    let batch = stream.end().unwrap();
    release(&mut stream, &mut work, batch, &mut out);
    if !is_finished {
        stream.finish(work.finish().as_ref(), &mut out);
    }
    out
}

fn whole(endpoint: Endpoint, channels: ChannelSet, plugin: Plugin, body: &str) -> String {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let text = WholeText::of(&body, endpoint, channels).unwrap();
    let mut work = Work::new(plugin);
    let batch = text.batch();
    let changed = if batch.spans.is_empty() { None } else { work.push(&batch) };
    let late = work.finish();
    for made in [&changed, &late].into_iter().flatten() {
        assert_eq!(text.validate(made), Ok(()));
    }
    let written = text.write(changed.as_ref(), late.as_ref());
    if changed.is_none() && late.is_none() {
        assert_eq!((written.len(), written[0].as_ptr()), (1, body.as_ptr()), "no copy");
    }
    String::from_utf8(written.concat()).unwrap()
}

mod content;
mod messages;

fn joined(out: &[Bytes]) -> String {
    String::from_utf8_lossy(&out.concat()).into_owned()
}

/// What a client has in the end: each text, and the facts that are no text.
type Seen = BTreeMap<String, String>;

fn add(seen: &mut Seen, name: String, text: &Value) {
    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
        seen.entry(name).or_default().push_str(text);
    }
}

fn see_choices(value: &Value, seen: &mut Seen) {
    for choice in value["choices"].as_array().into_iter().flatten() {
        let index = &choice["index"];
        add(seen, format!("{index} text"), &choice["text"]);
        add(seen, format!("{index} end"), &choice["finish_reason"]);
        let message = if choice["delta"].is_null() { &choice["message"] } else { &choice["delta"] };
        for name in ["role", "content", "reasoning_content", "reasoning", "refusal"] {
            add(seen, format!("{index} {name}"), &message[name]);
        }
        add(seen, format!("{index} call"), &message["function_call"]["arguments"]);
        for (place, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let tool = call["index"].as_u64().unwrap_or(place as u64);
            add(seen, format!("{index} tool {tool}"), &call["function"]["arguments"]);
            add(seen, format!("{index} tool {tool} id"), &call["id"]);
        }
    }
    if !value["usage"].is_null() {
        seen.insert("usage".into(), value["usage"].to_string());
    }
}

fn see_stream(out: &str) -> Seen {
    let mut seen = Seen::new();
    let mut has_ended: Vec<u64> = Vec::new();
    for frame in frames(out) {
        let Some(data) = frame.fields().data else { continue };
        let Ok(value) = serde_json::from_slice::<Value>(&data) else { continue };
        for choice in value["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap();
            assert!(!has_ended.contains(&index), "text behind the end of choice {index}: {out}");
            if choice["finish_reason"].is_string() {
                has_ended.push(index);
            }
        }
        see_choices(&value, &mut seen);
    }
    assert!(out.trim_end().ends_with("data: [DONE]"), "{out}");
    seen
}

fn frames(out: &str) -> Vec<Frame> {
    let mut decoder = Decoder::new(EVENT_BYTES_MAX);
    decoder.push(Bytes::copy_from_slice(out.as_bytes()));
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next_frame().unwrap() {
        frames.push(frame);
    }
    frames.extend(decoder.finish());
    frames
}

/// Short for a chat event with these choices, in braces, and an id.
fn chat(choices: &str) -> String {
    format!("data: {{\"id\":\"x\",\"choices\":[{choices}],\"n\":null}}\n\n")
}

fn delta(delta: &str) -> String {
    chat(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}"))
}

fn extra(delta: &str) -> String {
    delta_of(0, delta)
}

fn delta_of(choice: u32, delta: &str) -> String {
    format!(
        "data: {{\"id\":\"x\",\"choices\":[{{\"index\":{choice},\"delta\":{{{delta}}},\"finish_reason\":null}}]}}\n\n"
    )
}

fn stop(delta: &str) -> String {
    chat(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":\"stop\"}}"))
}

const END: &str = "data: [DONE]\n\n";

#[track_caller]
fn check_at(endpoint: Endpoint, plugin: Plugin, input: &[String], expected: &[String]) {
    let chunks: Vec<&[u8]> = input.iter().map(String::as_bytes).collect();
    assert_eq!(joined(&stream(endpoint, ChannelSet::ALL, plugin, &chunks)), expected.concat());
}

/// Each string is an event that comes by itself.
#[track_caller]
fn check(plugin: Plugin, input: &[String], expected: &[String]) {
    check_at(Endpoint::ChatCompletions, plugin, input, expected);
}

#[test]
fn a_changed_text_stays_in_its_event() {
    let event = |text: &str| {
        format!(
            "event: e\r\ndata: {{ \"choices\" : [{{\"delta\":{{\"x\":1.0, \"content\": \"{text}\"}},\"index\":0}}],\"u\":\"\\u00e9\"}}\r\n\r\n"
        )
    };
    check(Plugin::Upper, &[event(r"a\u00e9\n"), END.into()], &[event("AÉ\\n"), END.into()]);
    check(Plugin::Upper, &[event(r"1\u0032"), END.into()], &[event(r"1\u0032"), END.into()]);
    let lines = "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\"a\"}}]}\n\n".to_owned();
    check(
        Plugin::Upper,
        from_ref(&lines),
        &[lines.replace('a', "A").replace("dAtA", "data").replace("deltA", "delta")],
    );
    let text = |text: &str| format!("data: {{\"choices\":[{{\"text\":\"{text}\",\"index\":1}}]}}\n\n");
    check_at(Endpoint::Completions, Plugin::Upper, &[text("a")], &[text("A")]);
    let both = |text: &str| delta(&format!("\"reasoning\":\"{text}\",\"reasoning_content\":\"{text}\""));
    check(Plugin::Upper, &[both("a")], &[both("A")]);
    let parts = |text: &str| {
        delta(&format!(
            "\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}},{{\"type\":\"x\",\"text\":\"y\"}}]"
        ))
    };
    check(Plugin::Upper, &[parts("a")], &[parts("A")]);
    let tool = |text: &str| {
        delta(&format!("\"tool_calls\":[{{\"function\":{{\"arguments\":\"{text}\"}},\"index\":3}}]"))
    };
    check(Plugin::Upper, &[tool("a")], &[tool("A")]);
    let call = |text: &str| delta(&format!("\"function_call\":{{\"arguments\":\"{text}\"}}"));
    check(Plugin::Upper, &[call("a")], &[call("A")]);
}

#[test]
fn an_event_that_says_nothing_more_goes() {
    let [a, empty] = [r#""content":"a""#, r#""content":"""#].map(delta);
    check(Plugin::Drop, from_ref(&a), &[]);
    check(Plugin::Drop, from_ref(&empty), from_ref(&empty));
    check(Plugin::Drop, &[delta(r#""content":"a","tool_calls":null"#)], &[]);
    check(
        Plugin::Drop,
        &[delta(r#""role":"assistant","content":"a""#)],
        &[delta(r#""role":"assistant","content":"""#)],
    );
    check(Plugin::Drop, &[stop(r#""content":"a""#)], &[stop(r#""content":"""#)]);
    check(Plugin::Drop, &[delta(r#""content":"a","x":[1]"#)], &[delta(r#""content":"","x":[1]"#)]);
    check(
        Plugin::Drop,
        &[delta(r#""tool_calls":[{"index":0,"id":"i","function":{"arguments":"a"}}]"#)],
        &[delta(r#""tool_calls":[{"index":0,"id":"i","function":{"arguments":""}}]"#)],
    );
    check(Plugin::Drop, &[delta(r#""tool_calls":[{"index":0,"function":{"arguments":"a"}}]"#)], &[]);
    let usage = |text: &str| {
        format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}],\"usage\":{{}} ,\"usage\":{{\"n\":1}}}}\n\n"
        )
    };
    check(Plugin::Drop, &[usage("a")], &[usage("")]);
    let logprobs = |text: &str| {
        chat(&format!("{{\"delta\":{{\"content\":\"{text}\"}},\"logprobs\":{{\"content\":[1]}}}}"))
    };
    check(Plugin::Drop, &[logprobs("a")], &[logprobs("")]);
    let comment = ": ping\n\n".to_owned();
    check(Plugin::Drop, &[a.clone(), comment.clone(), a], &[comment]);
}

#[test]
fn withheld_text_stands_before_what_ends_the_answer() {
    let [a, b] = [r#""content":"a""#, r#""content":"b""#].map(delta);
    let usage = "data: {\"choices\":[],\"usage\":{\"n\":1}}\n\n".to_owned();
    let ends = [stop(""), usage, END.to_owned()];
    let [one, two, three] = ends.clone();
    check(
        Plugin::Delay,
        &[a.clone(), b.clone(), one, two, three].map(|event| event),
        &[vec![extra(r#""content":"ab""#)], ends.to_vec()].concat(),
    );
    // The end of the input is an end, too.
    check(Plugin::Delay, from_ref(&a), &[extra(r#""content":"a""#)]);
    check(Plugin::Delay, &[a.clone(), stop("")], &[extra(r#""content":"a""#), stop("")]);
    let error = "data: {\"error\":{\"message\":\"no\"}}\n\n".to_owned();
    check(Plugin::Delay, &[a.clone(), error.clone()], &[extra(r#""content":"a""#), error]);
    // The last text may come together with the end.
    check(Plugin::Keep, &[a.clone(), stop(r#""content":"b""#)], &[a.clone(), stop(r#""content":"b""#)]);
    check(
        Plugin::Append,
        &[a.clone(), stop(r#""content":"b""#)],
        &[a, extra(r#""content":"b!""#), stop(r#""content":"""#)],
    );
    check(
        Plugin::Upper,
        &[b, stop(r#""content":"b""#)],
        &[delta(r#""content":"B""#), stop(r#""content":"B""#)],
    );
    // Without an event of an answer there is nothing to put it into.
    check(Plugin::Append, &["data: {}\n\n".into(), END.into()], &["data: {}\n\n".into(), END.into()]);
}

#[test]
fn a_choice_that_goes_on_does_not_wait_for_one_that_ended() {
    let event = |choice: u32, text: &str, reason: &str| {
        chat(&format!(
            "{{\"index\":{choice},\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":{reason}}}"
        ))
    };
    let [a, b] = [event(0, "a", "null"), event(1, "b", "null")];
    let [end_a, end_b] = [event(0, "", "\"stop\""), event(1, "c", "\"stop\"")];
    let input = [a.clone(), end_a.clone(), b.clone(), end_b.clone(), END.into()];
    let moved = [a.clone(), b.clone(), end_a.clone(), end_b, END.into()];
    check(Plugin::Keep, &input, &moved);
    check(
        Plugin::Append,
        &input,
        &[
            a.clone(),
            b.clone(),
            delta_of(1, r#""content":"c""#),
            delta_of(0, r#""content":"!""#),
            delta_of(1, r#""content":"!""#),
            end_a.clone(),
            event(1, "", "\"stop\""),
            END.into(),
        ],
    );
    // Text behind the end of its own choice keeps its place.
    let odd = [end_a.clone(), a.clone(), a.clone(), END.into()];
    check(Plugin::Keep, &odd, &odd);
    check(Plugin::Delay, &odd, &[extra(r#""content":"aa""#), end_a, END.into()]);
    // An event that ends one choice and goes on with another cannot wait.
    let mixed = chat(r#"{"index":0,"delta":{},"finish_reason":"stop"},{"index":1,"delta":{"content":"b"}}"#);
    let input = [a, mixed, b, END.into()];
    check(Plugin::Keep, &input, &input);
}

#[test]
fn moved_text_gets_events_under_the_name_the_upstream_uses() {
    let a = delta(r#""content":"a""#);
    check(Plugin::Move, from_ref(&a), &[extra(r#""reasoning_content":"a""#)]);
    let short = delta(r#""reasoning":"r""#);
    check(Plugin::Move, &[short.clone(), a.clone()], &[short, extra(r#""reasoning":"a""#)]);
    let both = delta(r#""reasoning":"r","reasoning_content":"r""#);
    check(Plugin::Move, &[both.clone(), a], &[both, extra(r#""reasoning_content":"a","reasoning":"a""#)]);
    let role = |text: &str| delta(&format!("\"role\":\"assistant\",\"content\":\"{text}\""));
    check(Plugin::Move, &[role("a")], &[role(""), extra(r#""reasoning_content":"a""#)]);
}

#[test]
fn unwanted_channels_stay_as_they_are() {
    let only = |channel| [channel].into_iter().collect::<ChannelSet>();
    let input = delta(r#""content":"a","reasoning":"b","refusal":"c""#);
    let run = |channel| {
        joined(&stream(Endpoint::ChatCompletions, only(channel), Plugin::Drop, &[input.as_bytes()]))
    };
    assert_eq!(run(Channel::Content), input.replace("\"a\"", "\"\""));
    assert_eq!(run(Channel::Reasoning), input.replace("\"b\"", "\"\""));
    assert_eq!(run(Channel::Refusal), input.replace("\"c\"", "\"\""));
    assert_eq!(run(Channel::ToolArguments), input);
}

#[test]
fn pieces_go_out_as_they_came() {
    let events = [delta(r#""content":"a""#), ": x\n\n".into(), delta(r#""content":"b""#)].concat();
    let (head, tail) = events.split_at(150);
    let pieces = [head, tail].map(|piece| Bytes::copy_from_slice(piece.as_bytes()));
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    let mut out = Vec::new();
    let batch = stream.push(&mut pieces.to_vec()).unwrap().unwrap();
    assert_eq!((batch.text.as_str(), batch.spans.len()), ("ab", 2));
    stream.release(None, &mut out);
    assert_eq!(
        out.iter().map(|piece| piece.as_ptr()).collect::<Vec<_>>(),
        pieces.each_ref().map(|piece| piece.as_ptr())
    );
}

#[test]
fn what_is_held_comes_again() {
    let [a, b, c] = [r#""content":"a""#, r#""content":"b""#, r#""content":"c""#].map(delta);
    let ping = ": ping\n\n".to_owned();
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    let mut out = Vec::new();
    let push = |stream: &mut TextStream, text: &str| {
        stream.push(&mut vec![Bytes::copy_from_slice(text.as_bytes())]).unwrap()
    };
    let mut batch = push(&mut stream, &[&a[..], &b, &ping].concat()).unwrap();
    assert_eq!(stream.hold_from(1, &mut batch), 1);
    assert_eq!((batch.text.as_str(), batch.spans.len()), ("a", 1));
    stream.release(None, &mut out);
    assert_eq!(joined(&out), a);
    // Half an event is no reason to look again.
    assert_eq!(push(&mut stream, &c[..9]), None);
    stream.release(None, &mut out);
    assert_eq!(joined(&out), a);
    let batch = push(&mut stream, &c[9..]).unwrap();
    assert_eq!(batch.text, "bc");
    let mut changed = TextBatch::default();
    changed.push(batch.spans[0].lane(), "B");
    stream.release(Some(&changed), &mut out);
    assert_eq!(joined(&out), [&a[..], &b.replace("\"b\"", "\"B\""), &ping].concat());
    // What is still held at the end goes as it is.
    let mut batch = push(&mut stream, &a).unwrap();
    assert_eq!(stream.hold_from(0, &mut batch), 0);
    stream.release(None, &mut out);
    out.clear();
    stream.finish(None, &mut out);
    assert_eq!(joined(&out), a);
}

#[test]
fn text_after_the_end_is_not_sent_unseen() {
    let a = delta(r#""content":"a""#);
    check(
        Plugin::Keep,
        &[a.clone(), END.into(), a.clone(), ": x\n\n".into()],
        &[a, END.into(), ": x\n\n".into()],
    );
}

#[track_caller]
fn check_batch(spans: &[(u32, u32, Channel, &str)], expected: Result<(), &str>) {
    let input = [delta(r#""content":"a","tool_calls":[{"index":2,"function":{"arguments":""}}]"#)].concat();
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    stream.push(&mut vec![input.into()]).unwrap();
    let mut batch = TextBatch::default();
    for (choice, sub_index, channel, text) in spans {
        batch.push(Lane { choice: *choice, sub_index: *sub_index, channel: *channel }, text);
    }
    assert_eq!(stream.validate(&batch), expected);
    let body = Bytes::from_static(br#"{"choices":[{"message":{"content":"a","tool_calls":[{"index":2,"function":{"arguments":""}}]}}]}"#);
    let whole = WholeText::of(&body, Endpoint::ChatCompletions, ChannelSet::ALL).unwrap();
    assert_eq!(whole.validate(&batch), expected);
}

#[test]
fn a_batch_has_to_fit_the_answer() {
    use Channel::{Content, Reasoning, ToolArguments};
    check_batch(
        &[
            (0, 0, Content, "x"),
            (0, 0, Reasoning, "y"),
            (0, 2, ToolArguments, "z"),
            (9, 9, ToolArguments, ""),
        ],
        Ok(()),
    );
    check_batch(&[(1, 0, Content, "x")], Err(NO_CHOICE));
    check_batch(&[(u32::MAX, 0, Content, "x")], Err(NO_CHOICE));
    check_batch(&[(0, 1, ToolArguments, "x")], Err(NO_TOOL_CALL));
    let (most, more) = ("x".repeat((64 << 10) + 2), "x".repeat((64 << 10) + 3));
    check_batch(&[(0, 0, Content, &most)], Ok(()));
    check_batch(&[(0, 0, Content, &more)], Err(TOO_MUCH));
}

#[test]
fn the_bound_counts_the_whole_stream() {
    let lane = Lane { choice: 0, sub_index: 0, channel: Channel::Content };
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    let mut made = TextBatch::default();
    made.push(lane, &"x".repeat(40 << 10));
    let a = delta(r#""content":"a""#);
    let mut push = || {
        stream.push(&mut vec![a.clone().into()]).unwrap();
        let verdict = stream.validate(&made);
        stream.release(verdict.is_ok().then_some(&made), &mut Vec::new());
        verdict
    };
    assert_eq!(push(), Ok(()));
    assert_eq!(push(), Err(TOO_MUCH));
}

#[test]
fn too_much_behind_the_end_is_the_upstreams_fault() {
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    let mut push =
        |text: String| stream.push(&mut vec![text.into()]).map(|_| stream.release(None, &mut Vec::new()));
    push(stop("")).unwrap();
    let comment = format!(": {}\n\n", "x".repeat(EVENT_BYTES_MAX));
    let error = (0..9).find_map(|_| push(comment.clone()).err()).unwrap();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
}

#[track_caller]
fn check_whole(plugin: Plugin, message: &str, expected: &str) {
    let body =
        |message: &str| format!("{{\"choices\" : [{{\"message\":{message},\"index\":0}}], \"x\":1.0}}");
    assert_eq!(whole(Endpoint::ChatCompletions, ChannelSet::ALL, plugin, &body(message)), body(expected));
}

#[test]
fn a_whole_answer_is_edited_in_place() {
    check_whole(Plugin::Upper, r#"{"content": "a","n":null}"#, r#"{"content": "A","n":null}"#);
    check_whole(Plugin::Keep, r#"{"content":"\u0061"}"#, r#"{"content":"\u0061"}"#);
    check_whole(Plugin::Drop, r#"{"content":"a"}"#, r#"{"content":""}"#);
    check_whole(Plugin::Delay, r#"{"content":"a","refusal":"b"}"#, r#"{"content":"a","refusal":"b"}"#);
    check_whole(Plugin::Append, r#"{"content":"a"}"#, r#"{"content":"a!"}"#);
    check_whole(Plugin::Move, r#"{"content":"a"}"#, r#"{"reasoning_content":"a","content":""}"#);
    check_whole(
        Plugin::Move,
        r#"{"content":"a","reasoning_content":null}"#,
        r#"{"content":"","reasoning_content":"a"}"#,
    );
    check_whole(Plugin::Move, r#"{"content":"a","reasoning":"b"}"#, r#"{"content":"","reasoning":"ab"}"#);
    check_whole(
        Plugin::Upper,
        r#"{"content":[{"type":"text","text":"a"},{"type":"image","text":"b"},{"text":"c","type":"text"}]}"#,
        r#"{"content":[{"type":"text","text":"A"},{"type":"image","text":"b"},{"text":"C","type":"text"}]}"#,
    );
    check_whole(
        Plugin::Upper,
        r#"{"tool_calls":[{"function":{"arguments":"a"}},{"function":{"arguments":"b"}}]}"#,
        r#"{"tool_calls":[{"function":{"arguments":"A"}},{"function":{"arguments":"B"}}]}"#,
    );
    check_whole(
        Plugin::Upper,
        r#"{"reasoning":"a","reasoning_content":"a"}"#,
        r#"{"reasoning":"A","reasoning_content":"A"}"#,
    );
    let text = |text: &str| format!("{{\"choices\":[{{\"text\":\"{text}\",\"index\":0}}]}}");
    assert_eq!(whole(Endpoint::Completions, ChannelSet::ALL, Plugin::Append, &text("a")), text("a!"));
}

#[test]
fn members_are_added_to_an_empty_message() {
    let body = Bytes::from_static(br#"{"choices":[{"message":{ }}]}"#);
    let text = WholeText::of(&body, Endpoint::ChatCompletions, ChannelSet::ALL).unwrap();
    let mut late = TextBatch::default();
    for (channel, text) in [(Channel::Content, "a"), (Channel::Refusal, "b"), (Channel::Content, "c")] {
        late.push(Lane { choice: 0, sub_index: 0, channel }, text);
    }
    assert_eq!(text.validate(&late), Ok(()));
    assert_eq!(
        text.write(None, Some(&late)).concat(),
        br#"{"choices":[{"message":{"content":"ac","refusal":"b" }}]}"#
    );
}

/// An answer in the abstract.
#[derive(Clone, Debug)]
struct Answer {
    is_chat: bool,
    choices: Vec<Vec<(usize, String)>>,
    /// Whether the choices end when all of them are done.
    ends_together: bool,
    /// Whether the last text comes with the reason why it ended.
    is_joined: bool,
    has_role: bool,
    is_ascii: bool,
    line_end: &'static str,
}

/// Fields of a piece: content, reasoning, refusal, then tool calls.
const REASONING: usize = 1;

impl Answer {
    fn quote(&self, text: &str) -> String {
        if self.is_ascii {
            return format!(
                "\"{}\"",
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<String>()
            );
        }
        json!(text).to_string()
    }

    fn member(&self, field: usize, text: &str) -> String {
        let text = self.quote(text);
        match field {
            _ if !self.is_chat => format!("\"text\":{text}"),
            0 => format!("\"content\":{text}"),
            REASONING => format!("\"reasoning_content\":{text}"),
            2 => format!("\"refusal\":{text}"),
            tool => {
                format!("\"tool_calls\":[{{\"index\":{},\"function\":{{\"arguments\":{text}}}}}]", tool - 3)
            }
        }
    }

    fn event(&self, choice: usize, member: &str, end: &str) -> String {
        let delta = match (self.is_chat, member.is_empty()) {
            (true, _) => format!("\"delta\":{{{member}}}"),
            (false, true) => "\"text\":\"\"".to_owned(),
            (false, false) => member.to_owned(),
        };
        let end_of_line = self.line_end;
        format!(
            "data: {{\"id\":\"x\",\"choices\":[{{\"index\":{choice},{delta},\"finish_reason\":{end}}}]}}{end_of_line}{end_of_line}"
        )
    }

    fn stream(&self) -> String {
        let mut out = String::new();
        let mut ends = String::new();
        for choice in 0..self.choices.len() {
            if self.has_role && self.is_chat {
                out += &self.event(choice, "\"role\":\"assistant\",\"content\":\"\"", "null");
            }
        }
        let rounds = self.choices.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..=rounds {
            for (choice, pieces) in self.choices.iter().enumerate() {
                let last = pieces.len().checked_sub(1).filter(|_| self.is_joined && !self.ends_together);
                if let Some((field, text)) = pieces.get(round).filter(|_| Some(round) != last) {
                    out += &self.event(choice, &self.member(*field, text), "null");
                } else if round == last.unwrap_or(pieces.len()) {
                    let member =
                        pieces.get(round).map_or(String::new(), |(field, text)| self.member(*field, text));
                    let end = self.event(choice, &member, "\"stop\"");
                    if self.ends_together { ends += &end } else { out += &end }
                }
            }
        }
        out += &ends;
        out += &format!(
            "data: {{\"id\":\"x\",\"choices\":[],\"usage\":{{\"n\":1}}}}{0}{0}data: [DONE]{0}{0}",
            self.line_end
        );
        out
    }

    fn whole(&self) -> String {
        let mut choices = Vec::new();
        for (index, pieces) in self.choices.iter().enumerate() {
            let mut texts: BTreeMap<usize, String> = BTreeMap::new();
            for (field, text) in pieces {
                texts.entry(if self.is_chat { *field } else { 0 }).or_default().push_str(text);
            }
            let mut tools = Vec::new();
            let mut members = Vec::new();
            for (field, text) in &texts {
                if *field < 3 {
                    members.push(self.member(*field, text));
                } else {
                    tools.push(format!(
                        "{{\"index\":{},\"function\":{{\"arguments\":{}}}}}",
                        field - 3,
                        self.quote(text)
                    ));
                }
            }
            if !tools.is_empty() {
                members.push(format!("\"tool_calls\":[{}]", tools.join(",")));
            }
            if self.has_role && self.is_chat {
                members.push("\"role\":\"assistant\"".into());
            }
            let members = members.join(",");
            let message = if self.is_chat { format!("\"message\":{{{members}}}") } else { members };
            let message = if message.is_empty() { "\"text\":\"\"".into() } else { message };
            choices.push(format!("{{\"index\":{index},{message},\"finish_reason\":\"stop\"}}"));
        }
        format!("{{\"id\":\"x\",\"choices\":[{}],\"usage\":{{\"n\":1}}}}", choices.join(","))
    }

    fn endpoint(&self) -> Endpoint {
        if self.is_chat { Endpoint::ChatCompletions } else { Endpoint::Completions }
    }
}

prop_compose! {
    fn answer()(
        is_chat in prop::bool::weighted(0.8),
        choices in prop::collection::vec(
            prop::collection::vec((0..5_usize, "[a-zé😀\"\\\\\n]{0,4}"), 0..6), 1..4),
        ends_together in any::<bool>(),
        is_joined in any::<bool>(),
        has_role in any::<bool>(),
        is_ascii in any::<bool>(),
        line_end in prop::sample::select(vec!["\n", "\r\n"]),
    ) -> Answer {
        Answer { is_chat, choices, ends_together, is_joined, has_role, is_ascii, line_end }
    }
}

fn cut<'a>(input: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

fn sorted(out: &str) -> Vec<Vec<u8>> {
    let mut frames: Vec<_> = frames(out).iter().map(|frame| frame.raw.to_vec()).collect();
    frames.sort();
    frames
}

proptest! {
    #[test]
    fn any_cut_gives_what_the_whole_answer_gives(
        answer in answer(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        plugin in prop::sample::select(PLUGINS.to_vec()),
        channels in prop::sample::select(vec![
            ChannelSet::ALL, [Channel::Content].into_iter().collect(), [Channel::Reasoning, Channel::ToolArguments].into_iter().collect(),
        ]),
    ) {
        // Where thinking and content alternate, a whole answer does not tell their order.
        let moves = |pieces: &Vec<(usize, String)>| pieces.iter().any(|(field, _)| *field == REASONING);
        if plugin == Plugin::Move && (!answer.is_chat || answer.choices.iter().any(moves))
            || plugin == Plugin::Append && !channels.contains(Channel::Content)
        {
            return Ok(());
        }
        let input = answer.stream();
        let mut whole_seen = Seen::new();
        let body = whole(answer.endpoint(), channels, plugin, &answer.whole());
        see_choices(&serde_json::from_str(&body).unwrap(), &mut whole_seen);
        let once = joined(&stream(answer.endpoint(), channels, plugin, &[input.as_bytes()]));
        let pieces = cut(input.as_bytes(), &cuts);
        let many = joined(&stream(answer.endpoint(), channels, plugin, &pieces));
        prop_assert_eq!(see_stream(&once), whole_seen.clone(), "at once: {}", once);
        prop_assert_eq!(see_stream(&many), whole_seen, "cut: {}", many);
        if matches!(plugin, Plugin::Keep | Plugin::Copy) {
            prop_assert_eq!(sorted(&many), sorted(&input));
            if answer.ends_together || answer.choices.len() == 1 {
                prop_assert_eq!(many, input);
            }
        }
    }

    #[test]
    fn what_waits_for_a_literal_goes_out_as_it_came(
        answer in answer(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let input = answer.stream();
        let mut stream = TextStream::new(answer.endpoint(), ChannelSet::ALL);
        let mut waker = Waker::new(Wake::on_literals(&["aé", "é😀"]).unwrap());
        let mut out = Vec::new();
        let mut is_finished = false;
        let pieces = cut(input.as_bytes(), &cuts);
        let chunks = pieces.into_iter().map(Some).chain([None]);
        for chunk in chunks {
            let batch = match chunk {
                Some(chunk) => stream.push(&mut vec![Bytes::copy_from_slice(chunk)]).unwrap(),
                None => stream.end().unwrap(),
            };
            if let Some(mut batch) = batch {
                let look = waker.look(&batch, |choice| stream.is_settled(choice));
                if let Look::Hold(from) = look {
                    prop_assert!(stream.hold_from(from, &mut batch) <= from);
                    prop_assert!(!stream.is_ended());
                }
                if look == Look::Wake { waker.tell(&batch) } else { waker.pass(&batch) }
            }
            stream.release(None, &mut out);
            if stream.is_ended() && !std::mem::replace(&mut is_finished, true) {
                stream.finish(None, &mut out);
            }
        }
        let out = joined(&out);
        prop_assert_eq!(sorted(&out), sorted(&input));
        if answer.ends_together || answer.choices.len() == 1 {
            prop_assert_eq!(out, input);
        }
    }

    #[test]
    fn nothing_panics(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(vec![
                    "data: ", "\n\n", "{\"choices\":[", "{\"delta\":{", "\"content\":\"a\"", "\"content\":", "]", "}", "{", "\"index\":",
                    "4294967296", "1e99", "-1", "200", "null", ",", "\"finish_reason\":\"x\"", "[DONE]", "\r\r", "\"error\":1",
                    "data: {\"choices\":[{\"index\":200,\"delta\":{\"content\":\"b\"}}]}\n\n", "data: [DONE]\n\n",
                    "data: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n",
                    "data: {\"choices\":[{\"delta\":{\"reasoning\":\"b\",\"reasoning_content\":\"b\"}},{\"text\":\"c\"}]}\n\n",
                ]).prop_map(|text| text.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..6),
            ],
            0..24,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        plugin in prop::sample::select(PLUGINS.to_vec()),
    ) {
        let input = pieces.concat();
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
            if endpoint == Endpoint::Completions && plugin == Plugin::Move {
                // There is no channel to move to.
                continue;
            }
            let out = stream(endpoint, ChannelSet::ALL, plugin, &cut(&input, &cuts));
            let is_odd = memchr::memmem::find(&input, b"[DONE]").is_some() || memchr::memmem::find(&input, b"finish").is_some();
            if plugin == Plugin::Keep && !is_odd {
                prop_assert!(out.concat().starts_with(&input));
            }
        }
        let body = Bytes::from(input);
        if let Ok(text) = WholeText::of(&body, Endpoint::ChatCompletions, ChannelSet::ALL) {
            text.write(Work::new(plugin).push(&text.batch()).as_ref(), None);
        }
    }

    #[test]
    fn any_batch_that_is_valid_can_be_released(
        answer in answer(),
        spans in prop::collection::vec((0..3_u32, 0..3_u32, 0..4_usize, "[a-z]{0,3}"), 0..8),
    ) {
        let channels = [Channel::Content, Channel::Reasoning, Channel::Refusal, Channel::ToolArguments];
        let mut made = TextBatch::default();
        for (choice, sub_index, channel, text) in &spans {
            made.push(Lane { choice: *choice, sub_index: *sub_index, channel: channels[*channel] }, text);
        }
        let mut stream = TextStream::new(answer.endpoint(), ChannelSet::ALL);
        let batch = stream.push(&mut vec![answer.stream().into()]).unwrap();
        if batch.is_some() && stream.validate(&made).is_ok() {
            let mut out = Vec::new();
            stream.release(Some(&made), &mut out);
            stream.finish(None, &mut out);
            let out = joined(&out);
            prop_assert_eq!(see_stream(&out).values().filter(|text| !text.is_empty()).count() > 0, true);
            for (choice, _, channel, text) in &spans {
                prop_assert!(out.contains(text.as_str()), "{} {} {}", choice, channel, out);
            }
        }
    }
}

/// Short for an event of the Responses API.
fn event(kind: &str, members: &str) -> String {
    format!("event: response.{kind}\ndata: {{\"type\":\"response.{kind}\",{members}}}\n\n")
}

fn text_delta(item: u32, text: &str) -> String {
    event("output_text.delta", &format!("\"output_index\":{item},\"content_index\":0,\"delta\":\"{text}\""))
}

fn text_done(item: u32, text: &str) -> String {
    event("output_text.done", &format!("\"output_index\":{item},\"content_index\":0,\"text\":\"{text}\""))
}

fn item_added(item: u32) -> String {
    event("output_item.added", &format!("\"output_index\":{item},\"item\":{{}}"))
}

fn completed(texts: &[&str]) -> String {
    let item = |text: &&str| {
        format!("{{\"type\":\"message\",\"content\":[{{\"type\":\"output_text\",\"text\":\"{text}\"}}]}}")
    };
    let items: Vec<String> = texts.iter().map(item).collect();
    event("completed", &format!("\"response\":{{\"output\":[{}],\"x\":1.0}}", items.join(",")))
}

#[track_caller]
fn check_response(plugin: Plugin, input: &[String], expected: &[String]) {
    check_at(Endpoint::Responses, plugin, input, expected);
}

#[test]
fn a_response_repeats_what_was_sent() {
    let input = [text_delta(0, "a"), text_delta(0, "b"), text_done(0, "ab"), completed(&["ab"])];
    check_response(Plugin::Keep, &input, &input);
    check_response(
        Plugin::Upper,
        &input,
        &[text_delta(0, "A"), text_delta(0, "B"), text_done(0, "AB"), completed(&["AB"])],
    );
    check_response(Plugin::Delay, &input, &[text_delta(0, "ab"), text_done(0, "ab"), completed(&["ab"])]);
    check_response(Plugin::Drop, &input, &[text_done(0, ""), completed(&[""])]);
    // What an upstream repeats wrongly stays wrong as long as nobody changes the text.
    let wrong = [text_delta(0, "a"), text_done(0, "b"), completed(&["c"])];
    check_response(Plugin::Copy, &wrong, &wrong);
    check_response(Plugin::Upper, &wrong, &[text_delta(0, "A"), text_done(0, "A"), completed(&["A"])]);
    // Text that never came in pieces is seen, too.
    check_response(Plugin::Upper, &[completed(&["a", "b"])], &[completed(&["A", "B"])]);
    check_response(
        Plugin::Delay,
        &[text_done(0, "a"), completed(&["a"])],
        &[text_done(0, "a"), completed(&["a"])],
    );
    // An event's name counts if it does not say itself what it is.
    let unnamed =
        |text: &str| format!("event: response.output_text.delta\ndata: {{\"delta\":\"{text}\"}}\n\n");
    check_response(Plugin::Upper, &[unnamed("a")], &[unnamed("A")]);
}

#[test]
fn a_made_delta_has_the_number_of_the_last() {
    let delta = |number: u32, text: &str, logprobs: &str| {
        let members = format!("\"sequence_number\":{number},\"logprobs\":[{logprobs}],\"delta\":\"{text}\"");
        event("output_text.delta", &members)
    };
    let input = [delta(3, "a", ""), delta(4, "b", "")];
    check_response(Plugin::Delay, &input, &[delta(4, "ab", "")]);
    // What is said about the tokens of a text is not said of another.
    check_response(Plugin::Delay, &[delta(3, "a", "1")], &[delta(3, "", "1"), delta(3, "a", "")]);
}

/// Shows, after each event, how many were sent by then.
#[track_caller]
fn check_progress(plugin: Plugin, input: &[String], expected: &[usize]) {
    let mut stream = TextStream::new(Endpoint::Responses, ChannelSet::ALL);
    let mut work = Work::new(plugin);
    let mut out = Vec::new();
    let mut progress = Vec::new();
    for event in input {
        let batch = stream.push(&mut vec![event.clone().into()]).unwrap();
        stream.release(batch.and_then(|batch| work.push(&batch)).as_ref(), &mut out);
        progress.push(frames(&joined(&out)).len());
    }
    assert_eq!(progress, expected);
}

#[test]
fn the_end_of_a_text_waits_only_while_text_is_withheld() {
    let first = [item_added(0), text_delta(0, "a"), text_done(0, "a")];
    let second = [item_added(1), text_delta(1, "b"), text_done(1, "b"), completed(&["a", "b"])];
    let input = [&first[..], &second].concat();
    check_progress(Plugin::Keep, &input, &[1, 2, 2, 4, 5, 5, 5]);
    check_progress(Plugin::Shatter, &input, &[1, 2, 2, 4, 5, 5, 5]);
    check_progress(Plugin::Lag, &input, &[1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_batch_has_to_fit_the_response() {
    let lane = |choice, channel| Lane { choice, sub_index: 0, channel };
    let mut stream = TextStream::new(Endpoint::Responses, ChannelSet::ALL);
    stream.push(&mut vec![text_delta(2, "a").into()]).unwrap();
    let body = completed(&["a"]);
    let body = Bytes::from(body[body.find("{\"output").unwrap()..body.len() - 3].to_owned());
    let whole = WholeText::of(&body, Endpoint::Responses, ChannelSet::ALL).unwrap();
    let check = |choice, channel, expected| {
        let mut batch = TextBatch::default();
        batch.push(lane(choice, channel), "x");
        assert_eq!(stream.validate(&batch), expected);
        let mut batch = TextBatch::default();
        batch.push(lane(choice.saturating_sub(2), channel), "x");
        assert_eq!(whole.validate(&batch), expected);
    };
    check(2, Channel::Content, Ok(()));
    check(2, Channel::Reasoning, Err(NO_PART));
    check(3, Channel::Content, Err(NO_PART));
}

#[test]
fn whoever_leaves_loses_nothing() {
    let input = [delta(r#""content":"a""#), stop(""), END[..9].to_owned()].concat();
    let mut stream = TextStream::new(Endpoint::ChatCompletions, ChannelSet::ALL);
    let mut out = Vec::new();
    stream.push(&mut vec![input.clone().into()]).unwrap();
    assert!(!stream.must_repeat());
    stream.leave(&mut out);
    assert_eq!(joined(&out), input);
}

#[test]
fn changed_text_must_be_repeated() {
    let run = |plugin| {
        let mut stream = TextStream::new(Endpoint::Responses, ChannelSet::ALL);
        let batch = stream.push(&mut vec![text_delta(0, "a").into()]).unwrap();
        stream.release(batch.and_then(|batch| Work::new(plugin).push(&batch)).as_ref(), &mut Vec::new());
        stream.must_repeat()
    };
    assert!(!run(Plugin::Copy));
    assert!(run(Plugin::Upper));
}

/// A response in the abstract: items, each with parts, each in pieces.
#[derive(Clone, Debug)]
struct Response {
    items: Vec<Item>,
    is_named: bool,
    /// Whether text comes only whole.
    has_deltas: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    Message,
    Reasoning,
    Call,
}

#[derive(Clone, Debug)]
struct Item {
    kind: ItemKind,
    parts: Vec<(bool, Vec<String>)>,
}

impl Item {
    /// The name of a part's events, the member that holds it whole, its type, and the member with its number.
    fn words(&self, is_odd: bool) -> (&'static str, &'static str, &'static str, &'static str) {
        match (self.kind, is_odd) {
            (ItemKind::Message, false) => ("output_text", "text", "output_text", "content_index"),
            (ItemKind::Message, true) => ("refusal", "refusal", "refusal", "content_index"),
            (ItemKind::Reasoning, false) => {
                ("reasoning_summary_text", "text", "summary_text", "summary_index")
            }
            (ItemKind::Reasoning, true) => ("reasoning_text", "text", "reasoning_text", "content_index"),
            (ItemKind::Call, _) => ("function_call_arguments", "arguments", "", "content_index"),
        }
    }

    /// A thinking has either a summary or parts, a call has one part.
    fn parts(&self) -> Vec<(bool, &[String])> {
        let parts = self.parts.iter().map(|(is_odd, pieces)| match self.kind {
            ItemKind::Message => (*is_odd, &pieces[..]),
            ItemKind::Reasoning => (self.parts[0].0, &pieces[..]),
            ItemKind::Call => (false, &pieces[..]),
        });
        parts.take(if self.kind == ItemKind::Call { 1 } else { 9 }).collect()
    }

    fn part(&self, is_odd: bool, text: &str) -> Value {
        let (_, member, kind, _) = self.words(is_odd);
        json!({"type": kind, member: text, "annotations": []})
    }

    fn whole(&self) -> Value {
        let parts = self.parts();
        let texts: Vec<Value> =
            parts.iter().map(|(is_odd, pieces)| self.part(*is_odd, &pieces.concat())).collect();
        match self.kind {
            ItemKind::Message => json!({"type": "message", "content": texts}),
            ItemKind::Reasoning if self.parts[0].0 => {
                json!({"type": "reasoning", "summary": [], "content": texts})
            }
            ItemKind::Reasoning => json!({"type": "reasoning", "summary": texts}),
            ItemKind::Call => json!({"arguments": parts[0].1.concat(), "type": "function_call", "name": "f"}),
        }
    }
}

impl Response {
    fn whole(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(Item::whole).collect();
        json!({"id": "r", "output": items, "status": "completed", "usage": {"n": 1}})
    }

    fn stream(&self) -> String {
        let mut out = String::new();
        let mut number = 0;
        let mut add = |kind: &str, mut event: Value| {
            event["type"] = json!(kind);
            event["sequence_number"] = json!(number);
            number += 1;
            if self.is_named {
                out += &format!("event: {kind}\n");
            }
            out += &format!("data: {event}\n\n");
        };
        add("response.created", json!({"response": {"id": "r", "output": [], "status": "in_progress"}}));
        for (index, item) in self.items.iter().enumerate() {
            add(
                "response.output_item.added",
                json!({"output_index": index, "item": {"type": "x", "content": []}}),
            );
            for (place, (is_odd, pieces)) in item.parts().into_iter().enumerate() {
                let (name, member, _, number_of) = item.words(is_odd);
                add(
                    "response.content_part.added",
                    json!({"output_index": index, number_of: place, "part": item.part(is_odd, "")}),
                );
                for piece in pieces.iter().filter(|_| self.has_deltas) {
                    add(
                        &format!("response.{name}.delta"),
                        json!({"output_index": index, number_of: place, "delta": piece, "logprobs": []}),
                    );
                }
                let text = pieces.concat();
                add(
                    &format!("response.{name}.done"),
                    json!({"output_index": index, number_of: place, member: text}),
                );
                if item.kind != ItemKind::Call {
                    add(
                        "response.content_part.done",
                        json!({"output_index": index, number_of: place, "part": item.part(is_odd, &text)}),
                    );
                }
            }
            add("response.output_item.done", json!({"output_index": index, "item": item.whole()}));
        }
        add("response.completed", json!({"response": self.whole()}));
        out
    }
}

fn see_item(index: usize, item: &Value, seen: &mut Seen) {
    for list in ["content", "summary"] {
        for (place, part) in item[list].as_array().into_iter().flatten().enumerate() {
            let kind = part["type"].as_str().unwrap();
            add(seen, format!("{index} {kind} {place}"), &part["text"]);
            add(seen, format!("{index} {kind} {place}"), &part["refusal"]);
        }
    }
    add(seen, format!("{index} arguments 0"), &item["arguments"]);
}

fn see_response(response: &Value) -> Seen {
    let mut seen = Seen::new();
    for (index, item) in response["output"].as_array().unwrap().iter().enumerate() {
        see_item(index, item, &mut seen);
    }
    seen
}

/// What a client has that joins the deltas. Whatever repeats a text must repeat what there was by then.
fn see_events(out: &str, has_deltas: bool) -> Seen {
    let mut seen = Seen::new();
    let mut is_completed = false;
    let mut items = 0;
    for frame in frames(out) {
        let event: Value = serde_json::from_slice(&frame.fields().data.unwrap()).unwrap();
        let kind = event["type"].as_str().unwrap().strip_prefix("response.").unwrap();
        let index = event["output_index"].as_u64().unwrap_or(0) as usize;
        let place = event["content_index"].as_u64().or_else(|| event["summary_index"].as_u64()).unwrap_or(0);
        let name = |stem: &str| {
            let stem = match stem {
                "reasoning_summary_text" => "summary_text",
                "function_call_arguments" => "arguments",
                stem => stem,
            };
            format!("{index} {stem} {place}")
        };
        let mut repeated = Seen::new();
        match kind {
            "output_item.added" => items += 1,
            "output_item.done" => see_item(index, &event["item"], &mut repeated),
            "content_part.done" => {
                let part = &event["part"];
                let name = name(part["type"].as_str().unwrap());
                add(&mut repeated, name.clone(), &part["text"]);
                add(&mut repeated, name, &part["refusal"]);
            }
            "completed" => {
                is_completed = true;
                repeated = see_response(&event["response"]);
                if !has_deltas {
                    return repeated;
                }
                assert_eq!(repeated, seen, "{out}");
            }
            kind => {
                if let Some(stem) = kind.strip_suffix(".delta") {
                    assert!(index < items, "a delta before its item: {out}");
                    add(&mut seen, name(stem), &event["delta"]);
                } else if let Some(stem) = kind.strip_suffix(".done") {
                    ["text", "refusal", "arguments"]
                        .iter()
                        .for_each(|member| add(&mut repeated, name(stem), &event[member]));
                    if has_deltas {
                        assert_eq!(repeated.get(&name(stem)), seen.get(&name(stem)), "{out}");
                    }
                }
            }
        }
        for (name, text) in repeated.iter().filter(|_| has_deltas) {
            assert_eq!(Some(text), seen.get(name), "{name} of {kind} in {out}");
        }
    }
    assert!(is_completed, "{out}");
    seen
}

prop_compose! {
    fn response()(
        items in prop::collection::vec(
            (
                prop::sample::select(vec![ItemKind::Message, ItemKind::Reasoning, ItemKind::Call]),
                prop::collection::vec((any::<bool>(), prop::collection::vec("[a-zé😀\"\\\\\n]{0,3}", 0..4)), 1..3),
            ),
            0..4,
        ),
        is_named in any::<bool>(),
        has_deltas in prop::bool::weighted(0.8),
    ) -> Response {
        let items = items.into_iter().map(|(kind, parts)| Item { kind, parts }).collect();
        Response { items, is_named, has_deltas }
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_response_gives_what_the_whole_response_gives(
        response in response(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        plugin in prop::sample::select(vec![
            Plugin::Keep, Plugin::Copy, Plugin::Upper, Plugin::Drop, Plugin::Delay, Plugin::Lag, Plugin::Shatter,
        ]),
        channels in prop::sample::select(vec![ChannelSet::ALL, [Channel::Content].into_iter().collect()]),
    ) {
        let input = response.stream();
        let body = whole(Endpoint::Responses, channels, plugin, &response.whole().to_string());
        let expected = see_response(&serde_json::from_str(&body).unwrap());
        let once = joined(&stream(Endpoint::Responses, channels, plugin, &[input.as_bytes()]));
        let many = joined(&stream(Endpoint::Responses, channels, plugin, &cut(input.as_bytes(), &cuts)));
        prop_assert_eq!(see_events(&once, response.has_deltas), expected.clone(), "at once: {}", once);
        prop_assert_eq!(see_events(&many, response.has_deltas), expected, "cut: {}", many);
        if matches!(plugin, Plugin::Keep | Plugin::Copy) {
            prop_assert_eq!(many, input);
        }
    }

    #[test]
    fn nothing_panics_in_a_response(
        response in response(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[]\",:0-9e\\ \n\xffdr.".to_vec())), 1..8),
        plugin in prop::sample::select(PLUGINS.to_vec()),
    ) {
        let mut input = response.stream().into_bytes();
        for (at, byte) in edits {
            let at = at.index(input.len());
            input[at] = byte;
        }
        if !matches!(plugin, Plugin::Move | Plugin::Append) {
            stream(Endpoint::Responses, ChannelSet::ALL, plugin, &[&input]);
        }
    }
}
