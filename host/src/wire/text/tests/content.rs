//! The text of Google's answers.

use super::*;

/// Reads parts such as `t:a k:b c:{}`: text, a thought, a call; `s` is text with a signature.
fn parts(short: &str) -> Vec<String> {
    let part = |word: &str| {
        let (kind, text) = word.split_once(':').unwrap();
        match kind {
            "t" => format!("{{\"text\":{}}}", json!(text)),
            "k" => format!("{{\"text\":{},\"thought\":true}}", json!(text)),
            "s" => format!("{{\"thoughtSignature\":\"s\",\"text\":{}}}", json!(text)),
            _ => format!("{{\"functionCall\":{{\"name\":\"f\",\"args\":{text}}}}}"),
        }
    };
    short.split_whitespace().map(part).collect()
}

fn event_of(candidate: u32, short: &str, end: &str) -> String {
    let parts = parts(short).join(",");
    format!(
        "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{parts}],\"role\": \"model\"}}{end},\"index\": {candidate}}}],\"usageMetadata\": {{\"totalTokenCount\": 1}},\"modelVersion\": \"m\"}}\r\n\r\n"
    )
}

fn event(short: &str) -> String {
    event_of(0, short, "")
}

fn end(short: &str) -> String {
    event_of(0, short, ",\"finishReason\": \"STOP\"")
}

/// An event that the gateway makes.
fn extra(short: &str) -> String {
    let parts = parts(short).join(",");
    format!(
        "data: {{\"modelVersion\": \"m\",\"candidates\":[{{\"content\":{{\"parts\":[{parts}],\"role\":\"model\"}},\"index\":0}}]}}\n\n"
    )
}

fn run(channels: ChannelSet, plugin: Plugin, input: &[String]) -> String {
    let chunks: Vec<&[u8]> = input.iter().map(String::as_bytes).collect();
    joined(&stream(Endpoint::GenerateContent, channels, plugin, &chunks))
}

#[track_caller]
fn check(plugin: Plugin, input: &[String], expected: &[String]) {
    assert_eq!(run(ChannelSet::ALL, plugin, input), expected.concat());
}

#[test]
fn a_changed_text_stays_in_its_event() {
    check(Plugin::Upper, &[event("k:a t:b"), end("t:c")], &[event("k:A t:B"), end("t:C")]);
    check(Plugin::Upper, &[event(r#"c:{"a":"b"}"#), end("t:")], &[event(r#"c:{"A":"B"}"#), end("t:")]);
    check(Plugin::Drop, &[event("k:a"), event("s:b"), end("t:c")], &[event("s:"), end("t:")]);
    check(Plugin::Keep, &[event("t:a"), end("t:")], &[event("t:a"), end("t:")]);
    let other = event_of(1, "t:b", "");
    check(Plugin::Keep, &[end("t:a"), other.clone()], &[other, end("t:a")]);
}

#[test]
fn text_without_an_event_gets_one() {
    check(Plugin::Move, &[event("t:a"), end("t:")], &[extra("k:a"), end("t:")]);
    check(Plugin::Delay, &[event("t:a"), end("t:b")], &[extra("t:ab"), end("t:")]);
    check(
        Plugin::Split,
        &[event("t:<thi"), event("t:nk>a</think>b"), end("t:")],
        &[extra("k:a"), event("t:b"), end("t:")],
    );
    check(Plugin::Append, &[event("c:{}"), end("t:")], &[event("c:{}"), extra("t:!"), end("t:")]);
}

#[test]
fn arguments_come_whole_or_wait() {
    let call = event(r#"c:{"a":1}"#);
    check(Plugin::Delay, &[call.clone(), end("t:")], &[call.clone(), end("t:")]);
    check(Plugin::Drop, &[call.clone(), end("t:")], &[event("c:{}"), end("t:")]);
    check(Plugin::Shatter, &[call.clone(), call.clone()], &[call.clone(), call.clone()]);
    check(
        Plugin::Delay,
        &[event("t:x"), call.clone(), event(r#"c:{"a":2}"#)],
        &[extra("t:x"), call, event(r#"c:{"a":2}"#)],
    );
}

#[track_caller]
fn check_batch(spans: &[(u32, Channel, &str)], expected: Result<(), &str>) {
    let parts = r#"t:a c:{"a":1} c:{}"#;
    let mut stream = TextStream::new(Endpoint::GenerateContent, ChannelSet::ALL);
    stream.push(&mut vec![event(parts).into()]).unwrap();
    let mut batch = TextBatch::default();
    for (sub_index, channel, text) in spans {
        batch.push(Lane { choice: 0, sub_index: *sub_index, channel: *channel }, text);
    }
    assert_eq!(stream.validate(&batch), expected);
    let body = event(parts).trim_start_matches("data: ").trim_end().to_owned();
    let whole = WholeText::of(&body.into(), Endpoint::GenerateContent, ChannelSet::ALL).unwrap();
    assert_eq!(whole.validate(&batch), expected);
}

#[test]
fn a_batch_has_to_fit_the_answer() {
    use Channel::{Content, Reasoning, Refusal, ToolArguments};
    check_batch(&[(0, Content, "x"), (0, Reasoning, "y"), (1, ToolArguments, "{}")], Ok(()));
    check_batch(&[(0, ToolArguments, "{\"a\""), (0, ToolArguments, "\n:2}")], Ok(()));
    check_batch(&[(0, ToolArguments, "")], Ok(()));
    check_batch(&[(0, ToolArguments, "{\"a\"")], Err(limits::NOT_WHOLE));
    check_batch(&[(0, ToolArguments, "[]")], Err(limits::NOT_WHOLE));
    check_batch(
        &[(0, ToolArguments, "{}"), (0, Content, "x"), (0, ToolArguments, "{}")],
        Err(limits::NOT_WHOLE),
    );
    check_batch(&[(2, ToolArguments, "{}")], Err(CALL_OVER));
    check_batch(&[(0, Refusal, "x")], Err(limits::NO_CHANNEL));
    check_batch(&[(0, Content, &"x".repeat(1 << 17))], Err(TOO_MUCH));
}

#[test]
fn a_line_end_in_arguments_does_not_end_the_event() {
    let mut stream = TextStream::new(Endpoint::GenerateContent, ChannelSet::ALL);
    stream.push(&mut vec![event(r#"c:{"a":1}"#).into()]).unwrap();
    let mut batch = TextBatch::default();
    batch.push(Lane { choice: 0, sub_index: 0, channel: Channel::ToolArguments }, "{\n\"b\":\r\n2}");
    assert_eq!(stream.validate(&batch), Ok(()));
    let mut out = Vec::new();
    stream.release(Some(&batch), &mut out);
    assert_eq!(joined(&out), event("c:{}").replace("{}", "{ \"b\":  2}"));
}

#[track_caller]
fn check_whole(plugin: Plugin, input: &str, expected: &str) {
    let body = |short: &str| {
        format!("{{\"candidates\":[{{\"content\":{{\"parts\":[{}]}}}}],\"x\":1.0}}", parts(short).join(","))
    };
    assert_eq!(whole(Endpoint::GenerateContent, ChannelSet::ALL, plugin, &body(input)), body(expected));
}

#[test]
fn a_whole_answer_is_edited_in_place() {
    check_whole(Plugin::Upper, r#"k:a t:b c:{"a":1} c:{"b":2}"#, r#"k:A t:B c:{"A":1} c:{"B":2}"#);
    check_whole(Plugin::Append, "t:a c:{}", "t:a! c:{}");
    check_whole(Plugin::Append, "k:a", "k:a t:!");
    check_whole(Plugin::Drop, "k:a t:b s:c c:{}", "s: c:{}");
    check_whole(Plugin::Drop, "t:a t:b", "t:");
    check_whole(Plugin::Split, "t:<think>a</think>b", "k:a t:b");
    check_whole(Plugin::Move, "t:a c:{}", "k:a c:{}");
}

/// What a client has in the end, by candidates.
fn see(value: &Value, seen: &mut Seen) {
    for candidate in value["candidates"].as_array().into_iter().flatten() {
        let index = candidate["index"].as_u64().unwrap_or(0);
        add(seen, format!("{index} end"), &candidate["finishReason"]);
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            let name = if part["thought"] == true { "thought" } else { "text" };
            add(seen, format!("{index} {name}"), &part["text"]);
            if let Some(args) = part["functionCall"].get("args") {
                *seen.entry(format!("{index} calls")).or_default() += &args.to_string();
            }
        }
    }
}

fn seen_in_stream(out: &str) -> Seen {
    let mut seen = Seen::new();
    for frame in frames(out) {
        let value: Value = serde_json::from_slice(&frame.fields().data.unwrap()).unwrap();
        let index = value["candidates"][0]["index"].as_u64().unwrap();
        assert!(!seen.contains_key(&format!("{index} end")), "text behind the end: {out}");
        see(&value, &mut seen);
    }
    seen
}

fn some_part() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "t:a",
        "t:é\"",
        "t:<think>",
        "t:x</think>y",
        "t:<thi",
        "t:nk>z",
        "t:",
        "k:b",
        "s:d",
        "c:{}",
        "c:{\"k\":\"v\"}",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_cut_gives_what_the_whole_answer_gives(
        candidates in prop::collection::vec(prop::collection::vec(some_part(), 0..8), 1..3),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        plugin in prop::sample::select([&PLUGINS[..], &[Plugin::Split, Plugin::Strip]].concat()),
        has_arguments in any::<bool>(),
    ) {
        // One candidate's texts only are cut at tags.
        if matches!(plugin, Plugin::Split | Plugin::Strip) && candidates.len() > 1 {
            return Ok(());
        }
        let mut channels: ChannelSet = [Channel::Content, Channel::Reasoning].into_iter().collect();
        if has_arguments && plugin != Plugin::Lag {
            channels.insert(Channel::ToolArguments);
        }
        let (mut input, mut ends, mut whole_candidates) = (String::new(), String::new(), Vec::new());
        for (index, words) in (0_u32..).zip(&candidates) {
            let pieces = words.chunks(2).map(|pair| event_of(index, &pair.join(" "), ""));
            input.extend(pieces);
            ends += &event_of(index, "t:", ",\"finishReason\": \"STOP\"");
            let list = parts(&words.join(" ")).join(",");
            whole_candidates.push(format!(
                "{{\"finishReason\":\"STOP\",\"content\":{{\"parts\":[{list}]}},\"index\":{index}}}"
            ));
        }
        input += &ends;
        let body = format!("{{\"candidates\":[{}]}}", whole_candidates.join(","));
        let mut expected = Seen::new();
        let body = whole(Endpoint::GenerateContent, channels, plugin, &body);
        see(&serde_json::from_str(&body).unwrap(), &mut expected);
        let run =
            |pieces: &[&[u8]]| joined(&stream(Endpoint::GenerateContent, channels, plugin, pieces));
        let (once, many) = (run(&[input.as_bytes()]), run(&cut(input.as_bytes(), &cuts)));
        prop_assert_eq!(seen_in_stream(&once), expected.clone(), "at once: {}", once);
        prop_assert_eq!(seen_in_stream(&many), expected, "cut: {}", many);
        if matches!(plugin, Plugin::Keep | Plugin::Copy) {
            prop_assert_eq!(many, input);
        }
    }

    #[test]
    fn nothing_panics(
        bytes in r#"(\{|\}|\[|\]|:|,|"candidates"|"content"|"parts"|"text"|"thought"|"functionCall"|"args"|"index"|"finishReason"|"a"|1|99999999999|true|null|\n|data: ){0,40}"#,
        plugin in prop::sample::select(vec![Plugin::Copy, Plugin::Drop, Plugin::Delay]),
    ) {
        let chunk = format!("data: {bytes}\n\n");
        let channels = [Channel::Content, Channel::Reasoning].into_iter().collect();
        stream(Endpoint::GenerateContent, channels, plugin, &[chunk.as_bytes()]);
        let _ = WholeText::of(&bytes.into(), Endpoint::GenerateContent, ChannelSet::ALL);
    }
}
