//! Requests of every kind, one line each: read, written, and what cannot be.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::chat::{
    ChatRequest, Content, Effort, Extra, Field, Format, Level, Message, Part, Raw, Reasoning, Role,
    Signature, Source, Tool, ToolChoice,
};
use crate::error::{Error, ErrorKind};
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, Terms};

use super::{decode_request, encode_request};

fn terms(client: Surface) -> Terms<'static> {
    Terms {
        client,
        target: Surface::Messages,
        upstream: "claude",
        max_tokens_default: 32_000,
        budgets: EffortBudgets::default(),
        losses: Vec::new(),
        unknown: Vec::new(),
    }
}

fn decode(body: &Value) -> ChatRequest {
    decode_request(body.to_string().as_bytes()).unwrap()
}

fn encode(request: &ChatRequest) -> (Value, Vec<Field>) {
    let mut terms = terms(request.surface);
    let body = encode_request(request, &mut terms).unwrap();
    (serde_json::from_slice(&body).unwrap(), terms.losses)
}

/// A request of a client of OpenAI's.
fn asked(model: &str, change: impl FnOnce(&mut ChatRequest)) -> ChatRequest {
    let mut request = ChatRequest::new(Surface::Chat, model);
    request.messages.push(Message::new(Role::User, vec![Part::text("hi")]));
    change(&mut request);
    request
}

/// Members of a request are written again as they were read.
#[track_caller]
fn check_same(members: Value) {
    let mut body = json!({
        "model": "m", "max_tokens": 9000, "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    assert_eq!(encode(&decode(&body)), (body, vec![]));
}

/// Messages are written again as they were read.
#[track_caller]
fn check_messages(messages: Value) {
    check_same(json!({ "messages": messages }));
}

/// What is written of a request, in one member; and what is lost.
#[track_caller]
fn check_written(request: &ChatRequest, member: &str, expected: Value, losses: &[Field]) {
    let (body, lost) = encode(request);
    assert_eq!((&body[member], lost.as_slice()), (&expected, losses), "{body}");
}

/// `_` in the message stands for the place.
#[track_caller]
fn check_refused(body: Value, param: &str, message: &str) {
    let message = message.replace("`_`", &format!("`{param}`"));
    let error = decode_request(body.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!((error.param.as_deref().unwrap_or_default(), &error.message), (param, &message));
}

#[track_caller]
fn check_inexpressible(request: &ChatRequest, param: &str) {
    let error: Error = encode_request(request, &mut terms(request.surface)).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Inexpressible, Some(param)));
}

// parity: 97
#[test]
fn what_this_surface_says_is_written_as_it_was_read() {
    check_same(
        json!({"system": [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}),
    );
    check_same(
        json!({"temperature": 0.5, "top_p": 0.25, "top_k": 7, "stop_sequences": ["x", "y"], "stream": true}),
    );
    check_same(json!({"metadata": {"user_id": "u"}, "service_tier": "standard_only"}));
    check_same(json!({"metadata": {"user_id": "u", "team": "t"}}));
    check_same(json!({"thinking": {"type": "enabled", "budget_tokens": 2000, "display": "summarized"}}));
    check_same(json!({"thinking": {"type": "disabled"}}));
    check_same(json!({"thinking": {"type": "adaptive", "display": "omitted"}}));
    check_same(json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}));
    check_same(
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "minimum": 1e3}}, "task_budget": {"total": 1}}}),
    );
    check_same(
        json!({"cache_control": {"type": "ephemeral"}, "container": "c", "context_management": {"edits": []}}),
    );
    check_same(json!({
        "tools": [
            {"name": "f", "description": "d", "input_schema": {"type": "object"}, "strict": true, "cache_control": {"type": "ephemeral"}, "defer_loading": true},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
    }));
}

// parity: 97 100 103 104
#[test]
fn every_block_is_written_as_it_was_read() {
    check_messages(json!([{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "f1"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}, "title": "t", "citations": {"enabled": true}, "context": "c"},
        {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
        {"type": "document", "source": {"type": "file", "file_id": "f2"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
        {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]},
        {"type": "text", "text": "look", "cache_control": {"type": "ephemeral"}},
    ]}]));
    check_messages(json!([
        {"role": "user", "content": [{"type": "text", "text": "go"}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "calling", "citations": [{"type": "char_location", "cited_text": "c", "document_index": 0, "document_title": null, "start_char_index": 0, "end_char_index": 1}]},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1.50, "a": [{}]}},
            {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "r"}, {"type": "image", "source": {"type": "url", "url": "https://a"}}], "cache_control": {"type": "ephemeral"}},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true},
            {"type": "text", "text": "and now?"},
        ]},
    ]));
}

#[test]
fn texts_may_stand_for_lists() {
    let body = json!({
        "model": "m", "max_tokens": 1, "system": "s",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "system", "content": "c"}],
    });
    let request = decode(&body);
    let said: Vec<_> = request.messages.iter().map(|message| (message.role, message.parts.clone())).collect();
    let text = |role, text: &str| (role, vec![Part::text(text)]);
    let expected =
        [text(Role::System, "s"), text(Role::User, "a"), text(Role::Assistant, "b"), text(Role::System, "c")];
    assert_eq!(said, expected);
}

#[test]
fn a_result_knows_the_name_of_its_tool() {
    let body = json!({"model": "m", "messages": [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "tool_result", "tool_use_id": "1", "content": "r"}]},
    ]});
    let messages = decode(&body).messages;
    let result = Content::ToolResult {
        id: "1".into(),
        name: Some("f".into()),
        content: vec![Part::text("r")],
        is_error: false,
    };
    assert_eq!(messages[1], Message::new(Role::Tool, vec![Part::new(result)]));
    assert_eq!(messages[2], Message::new(Role::User, vec![Part::text("t")]));
}

// parity: 104
#[test]
fn signatures_of_other_vendors_are_held_in_thinking_blocks() {
    let body = json!({"model": "m", "messages": [{"role": "assistant", "content": [
        {"type": "thinking", "thinking": "", "signature": "gemini#s1"},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "x", "signature": "gemini#s2"},
        {"type": "tool_use", "id": "2", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "", "signature": "own"},
        {"type": "tool_use", "id": "3", "name": "f", "input": {}},
    ]}]});
    let signatures = decode(&body).messages.remove(0).parts.into_iter().map(|part| match part.content {
        Content::ToolCall { signature, .. } => ("call", signature),
        Content::Thinking { signature, .. } => ("thinking", signature),
        _ => ("other", None),
    });
    let gemini = |value: &str| Some(Signature { surface: Surface::Gemini, value: value.into() });
    let own = Some(Signature { surface: Surface::Messages, value: "own".into() });
    let expected = [
        ("call", gemini("s1")),
        ("thinking", gemini("s2")),
        ("call", None),
        ("thinking", own),
        ("call", None),
    ];
    assert_eq!(signatures.collect::<Vec<_>>(), expected);
}

#[test]
fn what_is_wrong_is_named() {
    check_refused(json!([]), "", "request must be an object");
    check_refused(json!({"model": 1}), "model", "`_` must be a string");
    check_refused(json!({"model": "m"}), "messages", "`_` is missing");
    check_refused(json!({"messages": {}}), "messages", "`_` must be a list");
    check_refused(
        json!({"messages": [7]}),
        "messages[0]",
        "a message must be an object with `role` and `content`",
    );
    check_refused(
        json!({"messages": [{"role": "tool", "content": ""}]}),
        "messages[0].role",
        "unknown role `tool`; use `user`, `assistant` or `system`",
    );
    check_refused(json!({"messages": [{"role": "user"}]}), "messages[0].content", "`_` is missing");
    let block = |role: &str, block: Value| json!({"messages": [{"role": role, "content": [block]}]});
    let at = |rest: &str| format!("messages[0].content[0]{rest}");
    check_refused(block("user", json!("a")), &at(""), "a content block must be an object with a `type`");
    check_refused(block("user", json!({"text": "a"})), &at(".type"), "`_` is missing");
    check_refused(block("user", json!({"type": "text", "text": 1})), &at(".text"), "`_` must be a string");
    check_refused(
        block("user", json!({"type": "tool_result", "tool_use_id": "x"})),
        &at(".tool_use_id"),
        "`x` is the id of no `tool_use` in an earlier message; a result follows the message with its call",
    );
    check_refused(
        block("user", json!({"type": "image", "source": {"type": "url", "url": "ftp://a"}})),
        &at(".source.url"),
        "`_` must begin with `https://`; give the bytes themselves as a source of type `base64`",
    );
    check_refused(
        block("user", json!({"type": "image", "source": {"type": "path"}})),
        &at(".source.type"),
        "`_` must be `base64`, `url` or `file`",
    );
    check_refused(
        block("user", json!({"type": "tool_use", "id": "1", "name": "f", "input": {}})),
        &at(".type"),
        "`tool_use` stands in messages of the role `assistant` only",
    );
    check_refused(
        block(
            "user",
            json!({"type": "tool_result", "tool_use_id": "x", "content": [{"type": "tool_result"}]}),
        ),
        &at(".content[0].type"),
        "a tool's result cannot hold another one",
    );
    check_refused(
        block("assistant", json!({"type": "tool_use", "id": "1", "name": "f", "input": []})),
        &at(".input"),
        "`_` must be an object",
    );
    check_refused(
        json!({"messages": [], "max_tokens": -1}),
        "max_tokens",
        "`_` must be a whole number, 0 or more",
    );
    check_refused(
        json!({"messages": [], "tools": [{"name": "f"}]}),
        "tools[0].input_schema",
        "`_` is missing",
    );
    check_refused(
        json!({"messages": [], "tool_choice": {"type": "x"}}),
        "tool_choice.type",
        "`_` must be `auto`, `any`, `tool` or `none`",
    );
    check_refused(
        json!({"messages": [], "thinking": {"type": "enabled"}}),
        "thinking.budget_tokens",
        "`_` is missing",
    );
    check_refused(
        json!({"messages": [], "output_config": {"format": {"type": "json_schema"}}}),
        "output_config.format.schema",
        "`_` is missing",
    );
}

// parity: 102
#[test]
fn instructions_are_kept_in_their_order() {
    let request = asked("m", |request| {
        let message = |role, text: &str| Message::new(role, vec![Part::text(text)]);
        request.messages.insert(0, message(Role::System, "a"));
        request.messages.insert(1, message(Role::Developer, "b"));
        request.messages.push(message(Role::System, "c"));
    });
    let text = |text: &str| json!({"type": "text", "text": text});
    check_written(
        &request,
        "system",
        json!([text("a"), text("b"), text("c")]),
        &[Field::Developer, Field::SystemInside],
    );
    check_written(
        &request,
        "messages",
        json!([{"role": "user", "content": [text("hi")]}]),
        &[Field::Developer, Field::SystemInside],
    );
    let alone = ChatRequest {
        messages: vec![Message::new(Role::System, vec![Part::text("a")])],
        ..ChatRequest::new(Surface::Chat, "m")
    };
    check_written(
        &alone,
        "messages",
        json!([{"role": "user", "content": [text("a")]}]),
        &[Field::SystemInside],
    );
    check_written(&alone, "system", Value::Null, &[Field::SystemInside]);
}

fn call(id: &str, arguments: &str) -> Part {
    Part::new(Content::ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
        signature: None,
    })
}

fn result(id: &str, text: &str) -> Part {
    let content = vec![Part::text(text)];
    Part::new(Content::ToolResult { id: id.into(), name: None, content, is_error: false })
}

// parity: 100
#[test]
fn sides_take_turns_and_results_come_first() {
    let request = asked("m", |request| {
        request.messages = vec![
            Message::new(Role::Assistant, vec![Part::text("hello")]),
            Message::new(Role::Assistant, vec![call("a.b", r#"{"x": 1.0}"#), call("c", "")]),
            Message::new(Role::Tool, vec![result("a.b", "1")]),
            Message::new(Role::User, vec![Part::text(" "), Part::text("so")]),
            Message::new(Role::Tool, vec![result("c", "")]),
            Message::new(Role::Assistant, vec![Part::text("it \n")]),
        ];
    });
    let (body, _) = encode(&request);
    let id = body["messages"][1]["content"][1]["id"].as_str().unwrap();
    assert!(id.starts_with("a_b_") && id.len() == 20, "{id}");
    let expected = json!([
        {"role": "user", "content": [{"type": "text", "text": "(The conversation begins.)"}]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "hello"},
            {"type": "tool_use", "id": id, "name": "f", "input": {"x": 1.0}},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": id, "content": [{"type": "text", "text": "1"}]},
            {"type": "tool_result", "tool_use_id": "c"},
            {"type": "text", "text": "so"},
        ]},
        {"role": "assistant", "content": [{"type": "text", "text": "it"}]},
    ]);
    assert_eq!(body["messages"], expected);
}

#[test]
fn arguments_that_are_no_object_are_kept_as_text() {
    for arguments in [r#"{"a":"#, "[1]", "x"] {
        let request = asked("m", |request| {
            request.messages.push(Message::new(Role::Assistant, vec![call("1", arguments)]))
        });
        let (body, _) = encode(&request);
        assert_eq!(body["messages"][1]["content"][0]["input"], json!({ "arguments": arguments }));
    }
}

// parity: 104
#[test]
fn thinking_is_written_for_its_own_vendor_only() {
    let thinking = |surface| {
        let signature = Some(Signature { surface, value: "s".into() });
        Part::new(Content::Thinking { text: "hm".into(), signature })
    };
    let request = asked("m", |request| {
        let parts = vec![
            thinking(Surface::Messages),
            thinking(Surface::Gemini),
            Part::new(Content::Thinking { text: "hm".into(), signature: None }),
            Part::text("a"),
        ];
        request.messages.push(Message::new(Role::Assistant, parts));
    });
    let (body, losses) = encode(&request);
    let expected =
        json!([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}]);
    assert_eq!((&body["messages"][1]["content"], losses), (&expected, vec![Field::Thinking]));
}

#[track_caller]
fn check_thinking(model: &str, level: Level, max_tokens: Option<u64>, expected: Value, losses: &[Field]) {
    let request = asked(model, |request| {
        request.reasoning = Some(Reasoning { level, is_shown: None });
        request.max_tokens = max_tokens;
    });
    let (body, lost) = encode(&request);
    let written = json!([body["thinking"], body["output_config"]["effort"], body["max_tokens"]]);
    assert_eq!((written, lost.as_slice()), (expected, losses));
}

// parity: 104
#[test]
fn an_effort_is_a_budget_or_a_word() {
    let budget = |budget: u64| json!({"type": "enabled", "budget_tokens": budget});
    let adaptive = json!({"type": "adaptive"});
    check_thinking("m", Level::Effort(Effort::Minimal), None, json!([budget(1024), null, 32000]), &[]);
    check_thinking("m", Level::Effort(Effort::Low), None, json!([budget(2048), null, 32000]), &[]);
    check_thinking("m", Level::Effort(Effort::Medium), None, json!([budget(8192), null, 32000]), &[]);
    check_thinking("m", Level::Effort(Effort::High), None, json!([budget(16384), null, 32000]), &[]);
    check_thinking("m", Level::Effort(Effort::Max), None, json!([budget(32768), null, 33792]), &[]);
    check_thinking("m", Level::Dynamic, None, json!([adaptive, null, 32000]), &[]);
    check_thinking("m", Level::Off, None, json!([{"type": "disabled"}, null, 32000]), &[]);
    check_thinking("m", Level::Budget(5), None, json!([budget(1024), null, 32000]), &[Field::Reasoning]);
    check_thinking(
        "m",
        Level::Budget(9000),
        Some(5000),
        json!([budget(3750), null, 5000]),
        &[Field::Reasoning],
    );
    check_thinking("m", Level::Budget(9000), Some(1024), json!([null, null, 1024]), &[Field::Reasoning]);
    check_thinking("claude-sonnet-4-5", Level::Dynamic, None, json!([budget(16384), null, 32000]), &[]);
    check_thinking(
        "claude-opus-4-6",
        Level::Effort(Effort::High),
        None,
        json!([adaptive, "high", 32000]),
        &[],
    );
    check_thinking("claude-opus-4-6", Level::Budget(4000), None, json!([budget(4000), null, 32000]), &[]);
    check_thinking("claude-opus-5-5", Level::Budget(4000), None, json!([adaptive, "medium", 32000]), &[]);
    check_thinking("claude-opus-5-5", Level::Off, None, json!([null, "low", 32000]), &[]);
    check_thinking("claude-fable-5", Level::Off, None, json!([null, "low", 32000]), &[]);
    check_thinking("claude-fable-5", Level::Budget(2048), None, json!([adaptive, "low", 32000]), &[]);
    check_thinking("claude-haiku-5-5", Level::Off, None, json!([{"type": "disabled"}, null, 32000]), &[]);
    let low = Level::Effort(Effort::Low);
    check_thinking("claude-3-haiku-20240307", low, None, json!([null, null, 4096]), &[Field::Reasoning]);
    check_thinking(
        "m",
        Level::Effort(Effort::High),
        Some(1500),
        json!([budget(1125), null, 1500]),
        &[Field::Reasoning],
    );
    check_thinking("m", low, Some(1300), json!([null, null, 1300]), &[Field::Reasoning]);
}

// parity: 102
#[test]
fn newer_models_are_asked_for_a_call_in_words() {
    let named = asked("claude-sonnet-5-5", |request| {
        request.tools = vec![tool("f"), tool("g")];
        request.tool_choice = Some(ToolChoice::Named("g".into()));
    });
    let (body, losses) = encode(&named);
    assert_eq!((&body["tool_choice"], losses), (&json!({"type": "auto"}), vec![Field::ToolRequired]));
    assert_eq!((&body["tools"][0]["name"], &body["tools"][1]), (&json!("g"), &Value::Null));
    assert_eq!(body["system"][0]["text"], "Answer with a call of a tool.");
}

// parity: 105
#[test]
fn older_models_are_told_a_schema_in_words() {
    let schema = Raw::new(r#"{"type":"object"}"#).unwrap();
    let format = Format::Schema { name: None, description: None, schema, strict: None };
    let (body, losses) =
        encode(&asked("claude-3-5-sonnet-20241022", |request| request.format = Some(format)));
    assert_eq!((&body["output_config"], losses), (&Value::Null, vec![Field::JsonSchema]));
    let told = body["system"][0]["text"].as_str().unwrap();
    assert!(told.ends_with(r#"It follows this JSON Schema: {"type":"object"}"#), "{told}");
}

#[test]
fn thinking_gives_way_to_what_it_cannot_stand_beside() {
    let thinking = |request: &mut ChatRequest| {
        request.reasoning = Some(Reasoning { level: Level::Budget(2000), is_shown: None });
    };
    let forced = asked("m", |request| {
        thinking(request);
        request.tools.push(tool("f"));
        request.tool_choice = Some(ToolChoice::Required);
    });
    check_written(&forced, "thinking", Value::Null, &[Field::Reasoning]);
    let unsigned = asked("m", |request| {
        thinking(request);
        request.messages.push(Message::new(Role::Assistant, vec![call("1", "{}")]));
        request.messages.push(Message::new(Role::Tool, vec![result("1", "r")]));
    });
    check_written(&unsigned, "thinking", Value::Null, &[Field::Reasoning]);
    let sampled = asked("m", |request| {
        thinking(request);
        (request.temperature, request.top_p, request.top_k) = (Some(0.2), Some(0.5), Some(3));
    });
    check_written(&sampled, "temperature", Value::Null, &[Field::Temperature, Field::TopP, Field::TopK]);
    let usual = asked("m", |request| {
        thinking(request);
        (request.temperature, request.top_p) = (Some(1.0), Some(1.0));
    });
    check_written(&usual, "temperature", Value::Null, &[]);
}

#[test]
fn sampling_is_brought_into_range() {
    let warm = |model: &str, temperature| {
        asked(model, |request| (request.temperature, request.top_p) = (Some(temperature), Some(0.5)))
    };
    check_written(&warm("m", 0.5), "temperature", json!(0.5), &[]);
    check_written(&warm("m", 1.5), "temperature", json!(1.0), &[Field::Temperature]);
    check_written(&warm("m", 0.5), "top_p", json!(0.5), &[]);
    check_written(&warm("claude-haiku-4-5", 0.5), "top_p", Value::Null, &[Field::TopP]);
    check_written(
        &warm("claude-sonnet-5", 0.5),
        "temperature",
        Value::Null,
        &[Field::Temperature, Field::TopP],
    );
}

fn tool(name: &str) -> Tool {
    Tool::Function(crate::chat::Function {
        name: name.into(),
        description: None,
        parameters: None,
        strict: None,
        cache: None,
        extra: Extra::default(),
    })
}

#[track_caller]
fn check_choice(choice: Option<ToolChoice>, parallel: Option<bool>, expected: Value, losses: &[Field]) {
    let request = asked("m", |request| {
        request.tools = vec![tool("f"), tool("g")];
        (request.tool_choice, request.parallel_tool_calls) = (choice, parallel);
    });
    check_written(&request, "tool_choice", expected, losses);
}

// parity: 101
#[test]
fn a_choice_of_tools_is_said_in_this_surface_s_words() {
    check_choice(None, None, Value::Null, &[]);
    check_choice(None, Some(true), Value::Null, &[]);
    check_choice(None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true}), &[]);
    check_choice(Some(ToolChoice::Auto), None, json!({"type": "auto"}), &[]);
    check_choice(
        Some(ToolChoice::Required),
        Some(true),
        json!({"type": "any", "disable_parallel_tool_use": false}),
        &[],
    );
    check_choice(Some(ToolChoice::None), Some(false), json!({"type": "none"}), &[]);
    check_choice(Some(ToolChoice::Named("g".into())), None, json!({"type": "tool", "name": "g"}), &[]);
    let among = |is_required| Some(ToolChoice::Among { names: vec!["g".into()], is_required });
    check_choice(among(true), None, json!({"type": "any"}), &[Field::ToolChoiceAmong]);
    check_choice(among(false), None, json!({"type": "auto"}), &[Field::ToolChoiceAmong]);
    let request = asked("m", |request| {
        request.tools = vec![tool("f"), tool("g")];
        request.tool_choice = among(true);
    });
    let schema = json!({"type": "object", "properties": {}});
    check_written(
        &request,
        "tools",
        json!([{"name": "g", "input_schema": schema}]),
        &[Field::ToolChoiceAmong],
    );
    let without = asked("m", |request| request.tool_choice = Some(ToolChoice::Auto));
    check_written(&without, "tool_choice", Value::Null, &[]);
}

// parity: 105
#[test]
fn a_form_of_the_answer_is_a_schema_or_an_instruction() {
    let schema = Format::Schema {
        name: Some("n".into()),
        description: None,
        schema: Raw::new(r#"{"type":"object"}"#).unwrap(),
        strict: Some(true),
    };
    let request = asked("m", |request| request.format = Some(schema));
    let closed = json!({"type": "object", "additionalProperties": false});
    let config = json!({"format": {"type": "json_schema", "schema": closed}});
    check_written(&request, "output_config", config, &[Field::JsonSchema]);
    let request = asked("m", |request| request.format = Some(Format::Json));
    let instruction = json!([{"type": "text", "text": super::writing::JSON_INSTRUCTION}]);
    check_written(&request, "system", instruction, &[Field::JsonObject]);
}

#[test]
fn pictures_and_documents_are_written_if_they_can_be() {
    let with = |content: Content| {
        asked("m", |request| request.messages = vec![Message::new(Role::User, vec![Part::new(content)])])
    };
    let data = |kind: &str| Source::Data { media_type: kind.into(), base64: "aGk=".into() };
    let block = |content| encode(&with(content)).0["messages"][0]["content"][0].clone();
    let image = |kind: &str| json!({"type": "image", "source": {"type": "base64", "media_type": kind, "data": "aGk="}});
    assert_eq!(block(Content::Image { source: data("image/jpg"), detail: None }), image("image/jpeg"));
    assert_eq!(block(Content::File { source: data("image/png"), name: None }), image("image/png"));
    let text = json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}, "title": "n"});
    assert_eq!(block(Content::File { source: data("text/csv"), name: Some("n".into()) }), text);
    check_inexpressible(
        &with(Content::Audio { source: data("audio/wav") }),
        "messages[].content[].input_audio",
    );
    check_inexpressible(
        &with(Content::File { source: data("video/mp4"), name: None }),
        "messages[].content[].file",
    );
    let id = Source::Id("file-1".into());
    check_inexpressible(&with(Content::File { source: id, name: None }), "messages[].content[].file.file_id");
}

#[test]
fn what_would_change_the_answer_is_refused() {
    check_inexpressible(&asked("m", |request| request.n = Some(2)), "n");
    check_inexpressible(&asked("m", |request| request.logprobs = Some(true)), "logprobs");
    check_inexpressible(&asked("m", |request| request.logit_bias = Raw::new(r#"{"1":5}"#)), "logit_bias");
    let foreign = |request: &mut ChatRequest| {
        request.tools.push(Tool::Other { kind: "web_search".into(), json: Raw::new("{}").unwrap() });
    };
    check_inexpressible(&asked("m", foreign), "tools[].type");
    let stored = asked("m", |request| {
        request.surface = Surface::Responses;
        request.extra.0.push(("previous_response_id".into(), Raw::new("\"r\"").unwrap()));
    });
    check_inexpressible(&stored, "previous_response_id");
    let nothing = ChatRequest::new(Surface::Chat, "m");
    let error = encode_request(&nothing, &mut terms(Surface::Chat)).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some("messages")));
}

#[test]
fn what_would_not_is_left_out() {
    let request = asked("m", |request| {
        request.n = Some(1);
        request.logit_bias = Raw::new("{}");
        (request.seed, request.presence_penalty, request.frequency_penalty) = (Some(1), Some(0.5), Some(0.0));
        request.stop = vec!["\n".into(), "x".into()];
        request.metadata = Raw::new(r#"{"a":"b"}"#);
        request.user = Some("u".into());
        request.service_tier = Some("flex".into());
        request.messages[0].name = Some("bob".into());
        request.extra.0.push(("store".into(), Raw::new("true").unwrap()));
    });
    let (body, losses) = encode(&request);
    let expected = json!({
        "model": "m", "max_tokens": 32000, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    });
    assert_eq!(body, expected);
    let lost = [
        Field::Seed,
        Field::PresencePenalty,
        Field::Unknown,
        Field::MessageName,
        Field::Stop,
        Field::Metadata,
        Field::ServiceTier,
    ];
    assert_eq!(losses, lost);
}

/// Requests as clients may write them, and as they may not.
fn body() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<f64>().prop_map(|float| json!(float)),
        prop::sample::select(vec![
            "",
            "text",
            "image",
            "document",
            "thinking",
            "tool_use",
            "tool_result",
            "user",
            "assistant",
            "system",
            "auto",
            "tool",
            "enabled",
            "adaptive",
            "disabled",
            "json_schema",
            "base64",
            "url",
            "high",
            "a",
            "é\u{0}",
        ])
        .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "type",
        "text",
        "source",
        "role",
        "content",
        "id",
        "name",
        "input",
        "tool_use_id",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "budget_tokens",
        "output_config",
        "format",
        "schema",
        "effort",
        "media_type",
        "data",
        "url",
        "signature",
        "cache_control",
        "max_tokens",
        "metadata",
        "user_id",
        "stop_sequences",
        "temperature",
        "x",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6).prop_map(|members| {
                Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
            }),
        ]
    })
}

fn said(role: Role) -> impl Strategy<Value = Vec<Part>> {
    let signature = || "[a-z]{1,4}".prop_map(|value| Signature { surface: Surface::Messages, value });
    let source = prop_oneof![
        Just(Source::Url { url: "https://a/b".into(), media_type: None }),
        Just(Source::Data { media_type: "image/png".into(), base64: "AAAA".into() }),
        Just(Source::Id("f".into())),
    ];
    let text = "[a-z][a-z\"é\n]{0,5}[a-z]".prop_map(Part::text).boxed();
    let part = match role {
        Role::User => prop_oneof![
            text,
            source.prop_map(|source| Part::new(Content::Image { source, detail: None })),
            "[a-z]{1,4}".prop_map(|text| Part::new(Content::File {
                source: Source::Text(text),
                name: Some("n".into())
            })),
            Just(Part::new(Content::Other(Raw::new(r#"{"type":"search_result","content":[]}"#).unwrap()))),
        ]
        .boxed(),
        Role::Assistant => prop_oneof![
            text,
            ("[a-z]{0,4}", signature()).prop_map(|(text, signature)| {
                Part::new(Content::Thinking { text, signature: Some(signature) })
            }),
            signature().prop_map(|data| Part::new(Content::RedactedThinking(data))),
            ("[a-c]", prop::sample::select(vec!["{}", r#"{"x": 1.50}"#]))
                .prop_map(|(id, json)| call(&id, json)),
        ]
        .boxed(),
        Role::System | Role::Developer | Role::Tool => text,
    };
    prop::collection::vec(part, 1..4)
}

/// Requests that this surface can say.
fn request() -> impl Strategy<Value = ChatRequest> {
    let level = prop_oneof![
        Just(Level::Off),
        Just(Level::Dynamic),
        Just(Level::Effort(Effort::Low)),
        Just(Level::Effort(Effort::Max)),
        (1024..4000_u64).prop_map(Level::Budget),
    ];
    let reasoning = (level, prop::option::of(any::<bool>())).prop_map(|(level, is_shown)| Reasoning {
        is_shown: is_shown.filter(|_| level != Level::Off),
        level,
    });
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::Required),
        Just(ToolChoice::None),
        Just(ToolChoice::Named("f".into())),
    ];
    let turns = prop::collection::vec((said(Role::User), said(Role::Assistant)), 0..3);
    (
        (prop::option::of(said(Role::System)), turns, said(Role::User)),
        (prop::option::of(reasoning), prop::option::of((choice, prop::option::of(any::<bool>())))),
        (4001..9000_u64, prop::option::of(0..100_u64), prop::option::of("[a-z]{1,3}"), any::<bool>()),
    )
        .prop_map(
            |((system, turns, last), (reasoning, choice), (max_tokens, top_k, word, is_stream))| {
                let mut request = ChatRequest::new(Surface::Messages, "m");
                request.messages.extend(system.map(|parts| Message::new(Role::System, parts)));
                for (user, assistant) in turns {
                    request.messages.push(Message::new(Role::User, user));
                    request.messages.push(Message::new(Role::Assistant, assistant));
                }
                request.messages.push(Message::new(Role::User, last));
                request.top_k =
                    top_k.filter(|_| reasoning.is_none_or(|reasoning| reasoning.level == Level::Off));
                request.reasoning = reasoning;
                if let Some((choice, parallel)) = choice {
                    request.tools.push(Tool::Function(crate::chat::Function {
                        name: "f".into(),
                        description: word.clone(),
                        parameters: Raw::new(r#"{"type": "object"}"#),
                        strict: None,
                        cache: None,
                        extra: Extra::default(),
                    }));
                    request.parallel_tool_calls = parallel.filter(|_| choice != ToolChoice::None);
                    request.tool_choice = Some(choice);
                }
                request.max_tokens = Some(max_tokens);
                request.stop.extend(word.clone());
                request.user = word;
                request.is_stream = is_stream;
                request.asks_usage = true;
                request
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    // parity: 97
    #[test]
    fn a_request_that_is_written_is_read_as_it_was(request in request()) {
        let mut terms = terms(Surface::Messages);
        let body = encode_request(&request, &mut terms).unwrap();
        prop_assert_eq!(decode_request(&body).unwrap(), request);
        prop_assert_eq!(terms.losses, vec![]);
    }

    #[test]
    fn nothing_panics(body in body(), bytes in prop::collection::vec(any::<u8>(), 0..40), surface in 0..4_usize) {
        let _ = decode_request(&bytes);
        let whole = json!({"model": "m", "messages": [{"role": "user", "content": body}]});
        for body in [&body, &whole] {
            if let Ok(mut request) = decode_request(body.to_string().as_bytes()) {
                request.surface = Surface::ALL[surface];
                if let Ok(body) = encode_request(&request, &mut terms(request.surface)) {
                    prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
                }
            }
        }
    }
}

// parity: 99
#[test]
fn documents_by_address_are_pdfs() {
    let file = |media_type: Option<&str>| {
        let source = Source::Url { url: "https://a/b".into(), media_type: media_type.map(str::to_owned) };
        asked("m", |request| request.messages[0].parts.push(Part::new(Content::File { source, name: None })))
    };
    for media_type in [None, Some("application/pdf")] {
        assert_eq!(encode(&file(media_type)).0["messages"][0]["content"][1]["source"]["type"], "url");
    }
    let error = encode_request(&file(Some("video/mp4")), &mut terms(Surface::Chat)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Inexpressible);
}
