//! The text of Anthropic's answers.

use super::*;

const HEAD: &str =
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[]}}\n\n";
const PING: &str = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
const TAIL: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

/// One block in the abstract: `t` text, `k` thinking, `K` thinking with a signature, `c` a call, `o` anything else.
#[derive(Clone, Debug)]
struct Block {
    kind: char,
    pieces: Vec<String>,
}

/// Reads blocks such as `t:a,b` for a text in two pieces.
fn blocks(short: &str) -> Vec<Block> {
    let block = |word: &str| {
        let (kind, text) = word.split_once(':').unwrap();
        let pieces = text.split(',').filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
        Block { kind: kind.chars().next().unwrap(), pieces }
    };
    short.split_whitespace().map(block).collect()
}

fn event(name: &str, index: usize, rest: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\",\"index\":{index}{rest}}}\n\n")
}

impl Block {
    /// What an event of its kind says: the block at its start, the name of a delta and of its text.
    fn names(&self) -> (&'static str, &'static str, &'static str) {
        match self.kind {
            't' => (r#"{"type":"text","text":""}"#, "text_delta", "text"),
            'k' | 'K' => {
                (r#"{"type":"thinking","thinking":"","signature":""}"#, "thinking_delta", "thinking")
            }
            'c' => {
                (r#"{"type":"tool_use","id":"i","name":"f","input":{}}"#, "input_json_delta", "partial_json")
            }
            _ => (
                r#"{"type":"server_tool_use","id":"i","name":"f","input":{}}"#,
                "input_json_delta",
                "partial_json",
            ),
        }
    }

    fn events(&self, index: usize) -> Vec<String> {
        let (block, delta, member) = self.names();
        let mut events = vec![event("content_block_start", index, &format!(",\"content_block\":{block}"))];
        for piece in &self.pieces {
            let delta = format!(",\"delta\":{{\"type\":\"{delta}\",\"{member}\":{}}}", json!(piece));
            events.push(event("content_block_delta", index, &delta));
        }
        if self.kind == 'K' {
            let delta = ",\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s\"}";
            events.push(event("content_block_delta", index, delta));
        }
        events.push(event("content_block_stop", index, ""));
        events
    }

    fn whole(&self) -> Value {
        let text = self.pieces.concat();
        let input = || serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
        match self.kind {
            't' => json!({ "type": "text", "text": text }),
            'k' => json!({ "type": "thinking", "thinking": text, "signature": "" }),
            'K' => json!({ "type": "thinking", "thinking": text, "signature": "s" }),
            'c' => json!({ "type": "tool_use", "id": "i", "name": "f", "input": input() }),
            _ => json!({ "type": "server_tool_use", "id": "i", "name": "f", "input": input() }),
        }
    }
}

/// The events of an answer of these blocks, with a ping behind the first start.
fn events(blocks: &[Block]) -> Vec<String> {
    let mut events: Vec<String> =
        blocks.iter().enumerate().flat_map(|(index, block)| block.events(index)).collect();
    events.insert(0, HEAD.into());
    events.insert(events.len().min(2), PING.into());
    events.push(TAIL.into());
    events
}

/// Checks the grammar of a stream, and writes its blocks as [`blocks`] reads them, each in one piece.
#[track_caller]
fn shown(out: &str) -> String {
    let mut shown: Vec<(char, String)> = Vec::new();
    let (mut is_open, mut has_ended) = (false, false);
    for frame in frames(out) {
        let fields = frame.fields();
        let value: Value = serde_json::from_slice(&fields.data.clone().unwrap()).unwrap();
        let kind = value["type"].as_str().unwrap();
        assert_eq!(fields.event_name(), Some(kind));
        assert!(!has_ended || kind == "message_stop", "behind the end: {out}");
        let index = value["index"].as_u64();
        match kind {
            "content_block_start" => {
                assert!(!is_open, "inside another block: {out}");
                assert_eq!(index, Some(shown.len() as u64), "{out}");
                is_open = true;
                let kind = match value["content_block"]["type"].as_str().unwrap() {
                    "text" => 't',
                    "thinking" => 'k',
                    "tool_use" => 'c',
                    _ => 'o',
                };
                shown.push((kind, String::new()));
            }
            "content_block_delta" => {
                assert!(is_open && index == Some(shown.len() as u64 - 1), "{out}");
                let (kind, text) = shown.last_mut().unwrap();
                let delta = &value["delta"];
                let (kinds, member, before) = match delta["type"].as_str().unwrap() {
                    "text_delta" => ("t", "text", ""),
                    "thinking_delta" => ("k", "thinking", ""),
                    "signature_delta" => ("k", "signature", "#"),
                    _ => ("co", "partial_json", ""),
                };
                assert!(kinds.contains(*kind), "{out}");
                *text += before;
                *text += delta[member].as_str().unwrap();
            }
            "content_block_stop" => {
                assert!(is_open && index == Some(shown.len() as u64 - 1), "{out}");
                is_open = false;
            }
            "message_delta" => {
                assert!(!is_open, "{out}");
                has_ended = true;
            }
            _ => {}
        }
    }
    assert!(has_ended, "{out}");
    shown.iter().map(|(kind, text)| format!("{kind}:{text}")).collect::<Vec<_>>().join(" ")
}

fn run(channels: ChannelSet, plugin: Plugin, input: &[String]) -> String {
    let chunks: Vec<&[u8]> = input.iter().map(String::as_bytes).collect();
    joined(&stream(Endpoint::Messages, channels, plugin, &chunks))
}

/// Puts an answer of these blocks through a plugin, event by event.
#[track_caller]
fn check(plugin: Plugin, input: &str, expected: &str) {
    let out = run(ChannelSet::ALL, plugin, &events(&blocks(input)));
    assert_eq!(shown(&out), expected, "{out}");
}

#[test]
fn what_nobody_changed_goes_out_as_it_came() {
    for input in ["", "t:", "t:a,b", "K:a t:b c:{} c:{\"x\",:1}", "o:{} t:a o: t:b", "k: t:a"] {
        let events = events(&blocks(input));
        for plugin in [Plugin::Keep, Plugin::Copy] {
            assert_eq!(run(ChannelSet::ALL, plugin, &events), events.concat(), "{plugin:?} {input}");
        }
    }
}

#[test]
fn a_changed_text_stays_in_its_event() {
    let odd = |text: &str| {
        format!(
            "{HEAD}event: content_block_start\r\ndata: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}}}\r\n\r\ndata: {{ \"delta\" : {{\"text\":\"{text}\",\"x\":1.0,\"type\":\"text_delta\"}},\"index\":0, \"type\":\"content_block_delta\"}}\n\n"
        )
    };
    assert_eq!(run(ChannelSet::ALL, Plugin::Upper, &[odd(r"a\u00e9")]), odd("AÉ"));
    check(Plugin::Upper, "K:a,b t:c,d c:{\"x\",:1}", "k:AB#s t:CD c:{\"X\":1}");
    check(Plugin::Shatter, "k:ab t:cd c:{}", "k:ab t:cd c:{}");
}

#[test]
fn a_block_that_lost_its_text_is_left_out() {
    check(Plugin::Drop, "k:a t:b c:{}", "c:");
    check(Plugin::Drop, "K:a t:b o:{} t:c", "k:#s o:{}");
    check(Plugin::Drop, "t:a", "t:");
    check(Plugin::Drop, "t: t:a t:", "t: t:");
    check(Plugin::Strip, "t:<think>a</think>b", "t:b");
    check(Plugin::Strip, "t:<think>a</think> c:{}", "c:{}");
}

#[test]
fn withheld_text_stands_in_its_block_before_what_ends_the_answer() {
    check(Plugin::Delay, "t:a,b", "t:ab");
    check(Plugin::Lag, "t:a,b", "t:ab");
    check(Plugin::Append, "k:x t:a", "k:x t:a!");
    check(Plugin::Append, "t:a c:{}", "t:a c:{} t:!");
    check(Plugin::Append, "c:{}", "c:{} t:!");
    check(Plugin::Delay, "k:x t:a", "t:a k:x");
    check(Plugin::Strip, "t:a< c:{} t:b<thi", "t:a c:{} t:<b<thi");
}

#[test]
fn withheld_arguments_hold_what_follows() {
    check(Plugin::Delay, "c:{} c:{\"x\",:1}", "c:{} c:{\"x\":1}");
    check(Plugin::Lag, "c:{} c:{\"x\",:1} o:{}", "c:{} c:{\"x\":1} o:{}");
    check(Plugin::Drop, "c:{} c:{}", "c: c:");
    check(Plugin::Delay, "t:a c:{} o:{} t:b", "c:{} o:{} t:ab");
}

#[test]
fn moved_text_gets_blocks_of_its_own() {
    check(Plugin::Move, "t:a", "k:a");
    check(Plugin::Move, "o:{} t:a c:{}", "o:{} k:a c:{}");
    check(Plugin::Split, "t:<think>a</think>b", "k:a t:b");
    check(Plugin::Split, "t:<th,ink>a,b</th,ink>c,d c:{}", "k:ab t:cd c:{}");
    check(Plugin::Split, "t:a<think>b</think>c,d t:e", "t:a k:b t:cd t:e");
    check(Plugin::Split, "t:a,<think>b o:{} t:c</think>d", "t:a k:b o:{} k:c t:d");
}

#[test]
fn whoever_leaves_loses_nothing() {
    let leave = |input: &str, plugin: Plugin, after: usize| {
        let events = events(&blocks(input));
        let (head, tail) = events.split_at(after);
        let mut text = TextStream::new(Endpoint::Messages, ChannelSet::ALL);
        let (mut work, mut out) = (Work::new(plugin), Vec::new());
        let batch = text.push(&mut vec![head.concat().into()]).unwrap();
        let changed = batch.and_then(|batch| work.push(&batch));
        text.release(changed.as_ref(), &mut out);
        if text.must_repeat() {
            return None;
        }
        text.leave(&mut out);
        out.push(tail.concat().into());
        Some(shown(&joined(&out)))
    };
    for after in 0..7 {
        assert_eq!(leave("k:a t:b,c c:{}", Plugin::Keep, after).unwrap(), "k:a t:bc c:{}");
    }
    assert_eq!(leave("t:a,b c:{}", Plugin::Drop, 4).unwrap(), "t:b c:{}");
    assert_eq!(leave("t:a c:{}", Plugin::Drop, 5), None);
    assert_eq!(leave("t:a,b", Plugin::Move, 4), None);
    assert_eq!(leave("c:{} t:a", Plugin::Drop, 5), None);
}

#[track_caller]
fn check_batch(lane: Lane, expected: Result<(), &str>) {
    let input = events(&blocks("c:{} t:a c:{}"));
    let mut text = TextStream::new(Endpoint::Messages, ChannelSet::ALL);
    text.push(&mut vec![input[..input.len() - 2].concat().into()]).unwrap();
    text.release(None, &mut Vec::new());
    let mut batch = TextBatch::default();
    batch.push(lane, "x");
    assert_eq!(text.validate(&batch), expected);
}

#[test]
fn a_batch_has_to_fit_the_answer() {
    let lane = |sub_index, channel| Lane { choice: 0, sub_index, channel };
    check_batch(lane(0, Channel::Content), Ok(()));
    check_batch(lane(0, Channel::Reasoning), Ok(()));
    check_batch(lane(1, Channel::ToolArguments), Ok(()));
    check_batch(lane(0, Channel::ToolArguments), Err(CALL_OVER));
    check_batch(lane(2, Channel::ToolArguments), Err(CALL_OVER));
    check_batch(lane(0, Channel::Refusal), Err(limits::NO_CHANNEL));
    check_batch(Lane { choice: 1, ..lane(0, Channel::Content) }, Err(NO_CHOICE));
}

#[test]
fn too_much_behind_withheld_arguments_is_the_upstreams_fault() {
    let mut text = TextStream::new(Endpoint::Messages, ChannelSet::ALL);
    let mut work = Work::new(Plugin::Delay);
    let head = &events(&blocks("c:{}"))[..5];
    let mut push = |input: String| {
        let batch = text.push(&mut vec![input.into()])?;
        let changed = batch.and_then(|batch| work.push(&batch));
        text.release(changed.as_ref(), &mut Vec::new());
        Ok::<_, Error>(())
    };
    push(head.concat()).unwrap();
    let ping = PING.replace('}', &format!(",\"x\":\"{}\"}}", "x".repeat(1 << 20)));
    let error = (0..9).find_map(|_| push(ping.clone()).err()).unwrap();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
    // So is too much before a block says anything.
    let mut text = TextStream::new(Endpoint::Messages, ChannelSet::ALL);
    let mut push = |input: &str| {
        let batch = text.push(&mut vec![input.to_owned().into()]);
        text.release(None, &mut Vec::new());
        batch
    };
    push(&events(&blocks("t:"))[..2].concat()).unwrap();
    let error = (0..10).find_map(|_| push(&ping).err()).unwrap();
    assert_eq!(error.kind, ErrorKind::UpstreamInvalid);
}

#[track_caller]
fn check_whole(plugin: Plugin, content: &str, expected: &str) {
    let body = |content: &str| {
        format!("{{\"type\":\"message\", \"content\" : {content},\"stop_reason\":\"end_turn\",\"x\":1.0}}")
    };
    assert_eq!(whole(Endpoint::Messages, ChannelSet::ALL, plugin, &body(content)), body(expected));
}

#[test]
fn a_whole_answer_is_edited_in_place() {
    check_whole(
        Plugin::Upper,
        r#"[{"text":"a\u00e9","type":"text"}, {"type":"x","text":"b"}]"#,
        r#"[{"text":"AÉ","type":"text"}, {"type":"x","text":"b"}]"#,
    );
    check_whole(
        Plugin::Upper,
        r#"[{"type":"thinking","thinking":"a","signature":"s"},{"type":"tool_use","input":{ "x":1 }}]"#,
        r#"[{"type":"thinking","thinking":"A","signature":"s"},{"type":"tool_use","input":{ "X":1 }}]"#,
    );
    check_whole(Plugin::Append, r#"[{"type":"text","text":"a"}]"#, r#"[{"type":"text","text":"a!"}]"#);
    check_whole(
        Plugin::Append,
        r#"[{"type":"tool_use","input":{}}]"#,
        r#"[{"type":"tool_use","input":{}},{"type":"text","text":"!"}]"#,
    );
    check_whole(
        Plugin::Delay,
        r#"[{"type":"tool_use","input":{"a":1}}]"#,
        r#"[{"type":"tool_use","input":{"a":1}}]"#,
    );
}

#[test]
fn a_block_that_lost_its_text_is_left_out_of_a_whole_answer() {
    let [a, b, c] =
        ["a", "b", "c"].map(|text| format!(r#"{{"type":"text","text":"<think>{text}</think>"}}"#));
    let [x, y] = ["x", "y"].map(|text| format!(r#"{{"type":"text","text":"{text}"}}"#));
    let check = |input: String, expected: String| check_whole(Plugin::Strip, &input, &expected);
    check(format!("[{a} , {b},{x}]"), format!("[{x}]"));
    check(format!("[{x},{a} , {b}, {y}]"), format!("[{x},{y}]"));
    check(format!("[ {x} , {a},{b} ]"), format!("[ {x} ]"));
    check(format!("[{a} ,{x}, {b},{c}]"), format!("[{x}]"));
    check(format!("[{a}, {b}]"), r#"[{"type":"text","text":""}]"#.into());
    check_whole(Plugin::Split, &format!("[{a}]"), r#"[{"type":"thinking","thinking":"a","signature":""}]"#);
    check_whole(
        Plugin::Split,
        &format!("[{a} ,{x}]"),
        &format!(r#"[{{"type":"thinking","thinking":"a","signature":""}},{x}]"#),
    );
}

/// What a client has in the end, whatever the blocks.
fn seen(blocks: impl Iterator<Item = (char, String)>) -> Seen {
    let mut seen = Seen::new();
    let mut calls = 0;
    for (kind, text) in blocks {
        let (name, text) = match kind {
            'c' => {
                calls += 1;
                (format!("call {calls}"), if text.is_empty() { "{}".into() } else { text })
            }
            kind => (kind.to_string(), text.replace("#s", "").replace('#', "")),
        };
        *seen.entry(name).or_default() += &text;
    }
    seen.retain(|_, text| !text.is_empty());
    seen
}

fn seen_in_whole(body: &str) -> Seen {
    let body: Value = serde_json::from_str(body).unwrap();
    let block = |block: &Value| {
        let text = |member: &str| block[member].as_str().unwrap().to_owned();
        match block["type"].as_str().unwrap() {
            "text" => ('t', text("text")),
            "thinking" => ('k', text("thinking") + "#" + &text("signature")),
            "tool_use" => ('c', block["input"].to_string()),
            _ => ('o', block["input"].to_string()),
        }
    };
    seen(body["content"].as_array().unwrap().iter().map(block))
}

fn seen_in_stream(out: &str) -> Seen {
    let shown = shown(out);
    seen(
        shown
            .split(' ')
            .filter_map(|block| block.split_once(':'))
            .map(|(kind, text)| (kind.chars().next().unwrap(), text.to_owned())),
    )
}

fn some_block() -> impl Strategy<Value = Block> {
    let text = prop::sample::select(vec!["a", "é", "<think>", "</think>", "<thi", "nk>", "<", "b\"\\"]);
    let texts = prop::collection::vec(text, 0..5);
    (prop::sample::select(vec!['t', 't', 't', 'k', 'K', 'c', 'o']), texts).prop_map(|(kind, texts)| {
        let pieces = match kind {
            'c' | 'o' => {
                let text = json!({ "k": "x".repeat(texts.len()) }).to_string();
                text.as_bytes().chunks(3).map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect()
            }
            _ => texts.into_iter().map(str::to_owned).collect(),
        };
        Block { kind, pieces }
    })
}

proptest! {
    #[test]
    fn any_cut_gives_what_the_whole_answer_gives(
        blocks in prop::collection::vec(some_block(), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        plugin in prop::sample::select([&PLUGINS[..], &[Plugin::Split, Plugin::Strip]].concat()),
        has_arguments in any::<bool>(),
    ) {
        let mut channels: ChannelSet = [Channel::Content, Channel::Reasoning].into_iter().collect();
        // Of a whole call's arguments nobody can keep back a part.
        if has_arguments && plugin != Plugin::Lag {
            channels.insert(Channel::ToolArguments);
        }
        let input = events(&blocks).concat();
        let body = json!({
            "content": blocks.iter().map(Block::whole).collect::<Vec<_>>(),
            "stop_reason": "end_turn",
        });
        let expected = seen_in_whole(&whole(Endpoint::Messages, channels, plugin, &body.to_string()));
        let run = |pieces: &[&[u8]]| joined(&stream(Endpoint::Messages, channels, plugin, pieces));
        let (once, many) = (run(&[input.as_bytes()]), run(&cut(input.as_bytes(), &cuts)));
        prop_assert_eq!(seen_in_stream(&once), expected.clone(), "at once: {}", once);
        prop_assert_eq!(seen_in_stream(&many), expected, "cut: {}", many);
        if matches!(plugin, Plugin::Keep | Plugin::Copy) {
            prop_assert_eq!(many, input);
        }
    }

    #[test]
    fn nothing_panics(
        events in prop::collection::vec((
            prop::sample::select(vec![
                "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "error",
            ]),
            prop::sample::select(vec!["0", "1", "7", "18446744073709551615", "-1", "\"x\"", "null"]),
            prop::sample::select(vec![
                r#""content_block":{"type":"text","text":"a"}"#,
                r#""content_block":{"type":"tool_use","input":{"a":"b"}}"#,
                r#""content_block":{"type":"thinking"}"#,
                r#""content_block":[]"#,
                r#""delta":{"type":"text_delta","text":"c"}"#,
                r#""delta":{"type":"thinking_delta","thinking":"c"}"#,
                r#""delta":{"type":"input_json_delta","partial_json":"{"}"#,
                r#""delta":{"stop_reason":"x"}"#,
                r#""delta":7"#,
                "junk",
            ]),
        ), 0..12),
        plugin in prop::sample::select([&PLUGINS[..], &[Plugin::Split, Plugin::Strip]].concat()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let event = |(name, index, rest): &(&str, &str, &str)| {
            format!("data: {{\"type\":\"{name}\",\"index\":{index},{rest}}}\n\n")
        };
        let input: String = events.iter().map(event).collect();
        // Arguments of a call that is over are refused, so they are not asked for.
        let channels = [Channel::Content, Channel::Reasoning].into_iter().collect();
        stream(Endpoint::Messages, channels, plugin, &cut(input.as_bytes(), &cuts));
        stream(Endpoint::Messages, ChannelSet::ALL, Plugin::Copy, &cut(input.as_bytes(), &cuts));
        let _ = WholeText::of(&input.into(), Endpoint::Messages, ChannelSet::ALL);
    }
}
