//! What requests of the chat API mean, what is wrong with bad ones, and what upstreams are sent.

use serde_json::{Value, json};

use crate::chat::{
    CacheControl, ChatRequest, Content, Effort, Field, Format, Function, Level, Message, Part, Raw,
    Reasoning, Role, Signature, Source, Tool, ToolChoice,
};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::{EffortBudgets, Terms};
use crate::wire::openai::chat::{decode_request, encode_request};

/// Reads a request with these messages.
fn conversation(messages: &str) -> Vec<Message> {
    let body = format!(r#"{{"model":"m","messages":[{messages}]}}"#);
    decode_request(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}")).messages
}

/// Reads a request with one message of the user's and these members.
fn with(members: &str) -> ChatRequest {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"q"}}],{members}}}"#);
    decode_request(body.as_bytes()).unwrap_or_else(|error| panic!("{error}: {body}"))
}

#[track_caller]
fn check_part(part: &str, expected: Content) {
    let messages = conversation(&format!(r#"{{"role":"user","content":[{part}]}}"#));
    assert_eq!(messages[0].parts[0].content, expected);
}

#[track_caller]
fn check_error(body: &str, param: &str, part_of_message: &str) {
    let error = decode_request(body.as_bytes()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.param.as_deref().unwrap_or_default(), param, "{error}");
    assert!(error.message.contains(part_of_message), "{error}");
}

fn data(media_type: &str, base64: &str) -> Source {
    Source::Data { media_type: media_type.into(), base64: base64.into() }
}

fn url(url: &str) -> Source {
    Source::Url { url: url.into(), media_type: None }
}

// parity: 102
#[test]
fn every_instruction_is_kept_in_its_place() {
    let messages = conversation(
        r#"{"role":"system","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}],"name":"n"},
           {"role":"user","content":"q"},{"role":"system","content":"d","x":1}"#,
    );
    let roles: Vec<Role> = messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::System, Role::Developer, Role::User, Role::System]);
    assert_eq!(messages[1].parts, [Part::text("b"), Part::text("c")]);
    assert_eq!(messages[1].name.as_deref(), Some("n"));
    assert_eq!(messages[3].extra.0, [("x".to_owned(), Raw::new("1").unwrap())]);
}

// parity: 103
#[test]
fn pictures_sound_and_files_are_read_by_every_way() {
    let image = |source, detail: Option<&str>| Content::Image { source, detail: detail.map(str::to_owned) };
    check_part(
        r#"{"type":"image_url","image_url":{"url":"https://a/b.png","detail":"low"}}"#,
        image(url("https://a/b.png"), Some("low")),
    );
    check_part(
        r#"{"type":"image_url","image_url":{"url":"data:image/PNG;base64,QUJD"}}"#,
        image(data("image/png", "QUJD"), None),
    );
    check_part(r#"{"type":"image_url","image_url":"http://a"}"#, image(url("http://a"), None));
    check_part(
        r#"{"type":"input_audio","input_audio":{"data":"QUJD","format":"wav"}}"#,
        Content::Audio { source: data("audio/wav", "QUJD") },
    );
    let file = |source, name: Option<&str>| Content::File { source, name: name.map(str::to_owned) };
    check_part(
        r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,QUJD","filename":"a.pdf"}}"#,
        file(data("application/pdf", "QUJD"), Some("a.pdf")),
    );
    check_part(
        r#"{"type":"file","file":{"file_data":"QUJD","filename":"a.CSV"}}"#,
        file(data("text/csv", "QUJD"), Some("a.CSV")),
    );
    check_part(r#"{"type":"file","file":{"file_id":"f-1"}}"#, file(Source::Id("f-1".into()), None));
    check_part(r#"{"type":"file","file":{"file_id":"https://a/b.pdf"}}"#, file(url("https://a/b.pdf"), None));
    check_part(r#"{"type":"refusal","refusal":"no"}"#, Content::Refusal("no".into()));
    check_part(r#"{"type":"new","a":1}"#, Content::Other(Raw::new(r#"{"type":"new","a":1}"#).unwrap()));
}

// parity: 100, 104
#[test]
fn an_assistants_turn_keeps_its_thinking_text_and_calls() {
    let messages = conversation(
        r#"{"role":"assistant","content":"t","reasoning_content":"ab","refusal":"r",
            "thinking_blocks":[{"type":"thinking","thinking":"a","signature":"messages#s"},{"type":"redacted_thinking","data":"gemini#d"}],
            "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"},
                           "extra_content":{"google":{"thought_signature":"g"}}},
                          {"id":"2","type":"function","function":{"name":"g","arguments":""}}]},
           {"role":"tool","tool_call_id":"2","content":[{"type":"text","text":"two"}]},
           {"role":"tool","tool_call_id":"1","content":"one","name":"f"},
           {"role":"assistant","content":null,"reasoning":"c"}"#,
    );
    let signature = |surface, value: &str| Signature { surface, value: value.into() };
    let call = |id: &str, name: &str, arguments: &str, signature| Content::ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        signature,
    };
    let said: Vec<Content> = messages[0].parts.iter().map(|part| part.content.clone()).collect();
    assert_eq!(
        said,
        [
            Content::Thinking { text: "a".into(), signature: Some(signature(Surface::Messages, "s")) },
            Content::RedactedThinking(signature(Surface::Gemini, "d")),
            Content::Text { text: "t".into(), citations: vec![] },
            Content::Refusal("r".into()),
            call("1", "f", "{\"x\":1}", Some(signature(Surface::Gemini, "g"))),
            call("2", "g", "{}", None),
        ]
    );
    let result = |id: &str, name: Option<&str>, text: &str| Content::ToolResult {
        id: id.into(),
        name: name.map(str::to_owned),
        content: vec![Part::text(text)],
        is_error: false,
    };
    // Results that come together are one message.
    assert_eq!(messages[1].role, Role::Tool);
    assert_eq!(messages[1].parts[0].content, result("2", None, "two"));
    assert_eq!(messages[1].parts[1].content, result("1", Some("f"), "one"));
    assert_eq!(messages[2].parts[0].content, Content::Thinking { text: "c".into(), signature: None });
}

// parity: 100
#[test]
fn the_functions_of_old_are_tools() {
    let body = r#"{"model":"m","functions":[{"name":"f","parameters":{}}],"function_call":{"name":"f"},"messages":[
        {"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}},
        {"role":"function","name":"f","content":"r"}]}"#;
    let request = decode_request(body.as_bytes()).unwrap();
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("f".into())));
    assert!(matches!(&request.tools[..], [Tool::Function(Function { name, .. })] if name == "f"));
    let Content::ToolCall { id: called, .. } = &request.messages[0].parts[0].content else { panic!() };
    let Content::ToolResult { id, .. } = &request.messages[1].parts[0].content else { panic!() };
    assert_eq!(called, id);
}

#[test]
fn marks_for_the_cache_are_read_from_parts_messages_and_tools() {
    let mark = |ttl: Option<&str>| Some(CacheControl { ttl: ttl.map(str::to_owned) });
    let messages = conversation(
        r#"{"role":"system","content":"s","cache_control":{"type":"ephemeral"}},
           {"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}},{"type":"text","text":"b"}]}"#,
    );
    assert_eq!(messages[0].parts[0].cache, mark(None));
    assert_eq!((&messages[1].parts[0].cache, &messages[1].parts[1].cache), (&mark(Some("1h")), &None));
    let request = with(
        r#""tools":[{"type":"function","function":{"name":"f","strict":true,"x":1},"cache_control":{"type":"ephemeral"}},
                    {"type":"custom","custom":{"name":"c"}}]"#,
    );
    let Tool::Function(function) = &request.tools[0] else { panic!() };
    assert_eq!((&function.cache, function.strict, function.extra.0.len()), (&mark(None), Some(true), 1));
    assert!(matches!(&request.tools[1], Tool::Other { kind, .. } if kind == "custom"));
}

#[track_caller]
fn check_choice(json: &str, expected: ToolChoice) {
    assert_eq!(with(&format!(r#""tool_choice":{json}"#)).tool_choice, Some(expected));
}

// parity: 101
#[test]
fn every_form_of_tool_choice_is_read() {
    check_choice(r#""auto""#, ToolChoice::Auto);
    check_choice(r#""none""#, ToolChoice::None);
    check_choice(r#""required""#, ToolChoice::Required);
    check_choice(r#"{"type":"function","function":{"name":"f"}}"#, ToolChoice::Named("f".into()));
    check_choice(r#"{"type":"custom","custom":{"name":"c"}}"#, ToolChoice::Named("c".into()));
    check_choice(
        r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}}]}}"#,
        ToolChoice::Among { names: vec!["f".into()], is_required: true },
    );
}

#[track_caller]
fn check_reasoning(members: &str, level: Level, is_shown: Option<bool>) {
    assert_eq!(with(members).reasoning, Some(Reasoning { level, is_shown }), "{members}");
}

// parity: 104
#[test]
fn every_word_for_an_amount_of_thinking_is_read() {
    check_reasoning(r#""reasoning_effort":"none""#, Level::Off, None);
    check_reasoning(r#""reasoning_effort":"minimal""#, Level::Effort(Effort::Minimal), None);
    check_reasoning(r#""reasoning_effort":"medium""#, Level::Effort(Effort::Medium), None);
    check_reasoning(r#""reasoning_effort":"xhigh""#, Level::Effort(Effort::Max), None);
    check_reasoning(r#""reasoning_effort":"max""#, Level::Effort(Effort::Max), None);
    check_reasoning(
        r#""reasoning":{"effort":"low","exclude":true}"#,
        Level::Effort(Effort::Low),
        Some(false),
    );
    check_reasoning(r#""reasoning":{"max_tokens":9}"#, Level::Budget(9), None);
    check_reasoning(r#""reasoning":{"enabled":true}"#, Level::Dynamic, None);
    check_reasoning(r#""reasoning":{"enabled":false,"effort":"low"}"#, Level::Off, None);
    check_reasoning(r#""thinking":{"type":"enabled","budget_tokens":9}"#, Level::Budget(9), None);
    check_reasoning(r#""thinking":{"type":"disabled"}"#, Level::Off, None);
    check_reasoning(
        r#""thinking":{"type":"adaptive"},"reasoning_effort":"high""#,
        Level::Effort(Effort::High),
        None,
    );
    assert_eq!(with(r#""reasoning":{},"thinking":null"#).reasoning, None);
}

#[test]
fn every_parameter_has_its_place() {
    let request = with(
        r#""max_tokens":3,"max_completion_tokens":4.0,"temperature":0.5,"top_p":1,"top_k":40,"stop":"a","seed":-7,"n":2,
           "presence_penalty":-1,"frequency_penalty":1.5,"logprobs":true,"top_logprobs":5,"logit_bias":{"1":2},
           "parallel_tool_calls":false,"user":"u","metadata":{"a":"b"},"service_tier":"flex","stream":true,
           "stream_options":{"include_usage":true},"verbosity":"low","prompt_cache_key":"k","store":null"#,
    );
    assert_eq!(
        (request.max_tokens, request.top_k, request.seed, request.n),
        (Some(4), Some(40), Some(-7), Some(2))
    );
    assert_eq!((request.temperature, request.top_p), (Some(0.5), Some(1.0)));
    assert_eq!((request.presence_penalty, request.frequency_penalty), (Some(-1.0), Some(1.5)));
    assert_eq!((request.logprobs, request.top_logprobs), (Some(true), Some(5)));
    assert_eq!((request.stop, request.parallel_tool_calls), (vec!["a".to_owned()], Some(false)));
    assert_eq!((request.user.as_deref(), request.service_tier.as_deref()), (Some("u"), Some("flex")));
    assert!(request.is_stream && request.asks_usage && request.logit_bias.is_some());
    assert_eq!(request.metadata.unwrap().get(), r#"{"a":"b"}"#);
    let names: Vec<&str> = request.extra.0.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["prompt_cache_key"]);
    assert_eq!(with(r#""stop":["a","b"],"top_k":-1"#).stop, ["a", "b"]);
}

// parity: 105
#[test]
fn every_form_of_answer_is_read() {
    let format = |json: &str| with(&format!(r#""response_format":{json}"#)).format.unwrap();
    assert_eq!(format(r#"{"type":"text"}"#), Format::Text);
    assert_eq!(format(r#"{"type":"json_object"}"#), Format::Json);
    let schema = Format::Schema {
        name: Some("n".into()),
        description: Some("d".into()),
        schema: Raw::new(r#"{"type":"object"}"#).unwrap(),
        strict: Some(true),
    };
    let json = r#"{"type":"json_schema","json_schema":{"name":"n","description":"d","schema":{"type":"object"},"strict":true}}"#;
    assert_eq!(format(json), schema);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let messages = |json: &str| format!(r#"{{"model":"m","messages":[{json}]}}"#);
    let part = |json: &str| messages(&format!(r#"{{"role":"user","content":[{json}]}}"#));
    check_error("{", "", "is not JSON");
    check_error("[]", "", "must be an object");
    check_error(r#"{"model":"m"}"#, "messages", "is missing");
    check_error(r#"{"model":"m","messages":{}}"#, "messages", "must be a list");
    check_error(&messages("1"), "messages[0]", "must be an object");
    check_error(&messages(r#"{"content":"a"}"#), "messages[0].role", "is missing");
    check_error(
        &messages(r#"{"role":"user","content":"a"},{"role":"robot","content":"a"}"#),
        "messages[1].role",
        "must be `system`",
    );
    check_error(
        &messages(r#"{"role":"user","content":1}"#),
        "messages[0].content",
        "must be a string or a list",
    );
    check_error(
        &messages(r#"{"role":"user","content":"a","name":1}"#),
        "messages[0].name",
        "must be a string",
    );
    check_error(
        &messages(r#"{"role":"tool","tool_call_id":"x","content":"a"}"#),
        "messages[0].tool_call_id",
        "names no call",
    );
    check_error(&messages(r#"{"role":"tool","content":"a"}"#), "messages[0].tool_call_id", "is missing");
    check_error(
        &messages(r#"{"role":"function","name":"f","content":"a"}"#),
        "messages[0].name",
        "no function",
    );
    check_error(&part(r#"{"text":"a"}"#), "messages[0].content[0].type", "is missing");
    let image = |url: &str| part(&format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#));
    let place = "messages[0].content[0].image_url.url";
    check_error(&image("cat.png"), place, "must be a picture by an `https:`");
    check_error(&image("file:///etc/passwd"), place, "must be a picture by an `https:`");
    check_error(&image("data:image/png,abc"), place, "base64");
    check_error(&image("data:;base64,abc"), place, "say what its data is");
    check_error(&part(r#"{"type":"file","file":{}}"#), "messages[0].content[0].file", "needs `file_data`");
    let member = |json: &str| format!(r#"{{"model":"m","messages":[],{json}}}"#);
    check_error(&member(r#""temperature":"hot""#), "temperature", "must be a number");
    check_error(&member(r#""max_tokens":-1"#), "max_tokens", "must be a whole number");
    check_error(&member(r#""stop":{}"#), "stop", "must be a string or a list");
    check_error(&member(r#""stop":["a",1]"#), "stop[1]", "must be a string");
    check_error(&member(r#""tool_choice":"maybe""#), "tool_choice", "must be `none`");
    check_error(&member(r#""tools":[{"type":"function"}]"#), "tools[0].function", "is missing");
    check_error(
        &member(r#""tools":[{"type":"function","function":{"name":"f","parameters":[]}}]"#),
        "tools[0].function.parameters",
        "must be an object",
    );
    check_error(&member(r#""reasoning_effort":"very""#), "reasoning_effort", "must be one of");
    check_error(&member(r#""thinking":{"type":"on"}"#), "thinking.type", "must be `enabled`");
    check_error(&member(r#""response_format":{"type":"xml"}"#), "response_format.type", "must be `text`");
    check_error(&member(r#""stream":"yes""#), "stream", "must be true or false");
}

/// Writes a request for an upstream of this kind.
fn written(request: &ChatRequest) -> Result<(Value, Vec<Field>), crate::error::Error> {
    let mut terms = Terms {
        client: request.surface,
        target: Surface::Chat,
        upstream: "up",
        max_tokens_default: 4096,
        budgets: EffortBudgets::default(),
        losses: Vec::new(),
        unknown: Vec::new(),
    };
    let body = encode_request(request, &mut terms)?;
    Ok((serde_json::from_slice(&body).unwrap(), terms.losses))
}

/// A request of another surface that says `a`.
fn foreign(model: &str) -> ChatRequest {
    let messages = vec![user(vec![Part::text("a")])];
    ChatRequest { messages, ..ChatRequest::new(Surface::Messages, model) }
}

/// Checks what an upstream is sent of a client's request on another surface, besides `model` and a message `a`, and what is
/// lost.
#[track_caller]
fn check_written(change: impl FnOnce(&mut ChatRequest), expected: Value, losses: &[Field]) {
    let mut request = foreign("m");
    change(&mut request);
    let (mut body, lost) = written(&request).unwrap();
    assert_eq!(body.as_object_mut().unwrap().remove("model"), Some(json!(request.model)));
    if body["messages"] == json!([{"role": "user", "content": "a"}]) {
        body.as_object_mut().unwrap().remove("messages");
    }
    assert_eq!(body, expected);
    assert_eq!(lost, losses);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut ChatRequest), field: &str) {
    let mut request = foreign("m");
    change(&mut request);
    let error = written(&request).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Inexpressible, Some(field)));
    assert!(error.message.contains("`up`"), "{}", error.message);
}

fn user(parts: Vec<Part>) -> Message {
    Message::new(Role::User, parts)
}

fn result(id: &str, content: Vec<Part>, is_error: bool) -> Part {
    Part::new(Content::ToolResult { id: id.into(), name: None, content, is_error })
}

#[test]
fn one_plain_text_is_a_string() {
    check_written(
        |request| {
            request.messages = vec![
                Message::new(Role::System, vec![Part::text("s")]),
                Message::new(Role::Developer, vec![Part::text("d")]),
                user(vec![Part::text("a"), Part::text("b")]),
                user(vec![]),
            ];
        },
        json!({"messages": [
            {"role": "system", "content": "s"}, {"role": "system", "content": "d"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": ""},
        ]}),
        &[Field::Developer],
    );
}

// parity: 104
#[test]
fn earlier_thinking_is_left_out_unless_the_upstream_signed_it() {
    let signed = |surface| Some(Signature { surface, value: "s".into() });
    let thinking = |surface| Part::new(Content::Thinking { text: "t".into(), signature: signed(surface) });
    check_written(
        |request| {
            let parts = vec![thinking(Surface::Messages), thinking(Surface::Chat), Part::text("a")];
            request.messages = vec![Message::new(Role::Assistant, parts)];
        },
        json!({"messages": [{"role": "assistant", "content": "a", "thinking_blocks": [
            {"type": "thinking", "thinking": "t", "signature": "s"},
        ]}]}),
        &[Field::Thinking],
    );
}

// parity: 100
#[test]
fn calls_and_results_find_each_other_and_pictures_follow() {
    let long = "x".repeat(41);
    let call = |id: &str| {
        Part::new(Content::ToolCall {
            id: id.into(),
            name: "f".into(),
            arguments: "{}".into(),
            signature: Some(Signature { surface: Surface::Gemini, value: "g".into() }),
        })
    };
    let image = Part::new(Content::Image { source: data("image/png", "QUJD"), detail: None });
    let mut request = ChatRequest::new(Surface::Messages, "m");
    request.messages = vec![
        Message::new(Role::Assistant, vec![call("1"), call(&long)]),
        Message::new(
            Role::Tool,
            vec![result("1", vec![image], false), result(&long, vec![Part::text("no")], true)],
        ),
        user(vec![Part::text("q")]),
    ];
    let (body, losses) = written(&request).unwrap();
    assert_eq!(losses, [Field::ToolResultMedia, Field::ToolResultError]);
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[0]["content"], Value::Null);
    assert_eq!(
        messages[0]["tool_calls"][0],
        json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}})
    );
    let id = messages[0]["tool_calls"][1]["id"].as_str().unwrap();
    assert!(id.len() <= 40);
    assert_eq!(
        (&messages[1]["role"], &messages[2]["role"], &messages[3]["role"]),
        (&json!("tool"), &json!("tool"), &json!("user"))
    );
    assert_eq!((&messages[2]["tool_call_id"], &messages[2]["content"]), (&json!(id), &json!("no")));
    assert_eq!(messages[3]["content"][0]["image_url"]["url"], "data:image/png;base64,QUJD");
    assert_eq!(messages[4]["content"], "q");
}

#[test]
fn documents_are_sent_as_data() {
    let file = |source| vec![user(vec![Part::new(Content::File { source, name: None })])];
    check_written(
        |request| request.messages = file(data("application/pdf", "QUJD")),
        json!({"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"filename": "file.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
        ]}]}),
        &[],
    );
    check_written(
        |request| request.messages = file(Source::Text("plain".into())),
        json!({"messages": [{"role": "user", "content": "plain"}]}),
        &[Field::File],
    );
    check_refused(|request| request.messages = file(url("https://a")), "messages[].content[].source.url");
    check_refused(
        |request| request.messages = file(Source::Id("f".into())),
        "messages[].content[].source.file_id",
    );
}

// parity: 101
#[test]
fn only_tools_that_every_server_knows_are_sent() {
    let function = |name: &str| {
        Tool::Function(Function {
            name: name.into(),
            description: None,
            parameters: None,
            strict: None,
            cache: None,
            extra: Default::default(),
        })
    };
    let sent = |name: &str| json!([{"type": "function", "function": {"name": name}}]);
    check_written(
        |request| {
            request.tools = vec![function("f"), function("g")];
            request.tool_choice = Some(ToolChoice::Among { names: vec!["g".into()], is_required: true });
            request.parallel_tool_calls = Some(false);
        },
        json!({"tools": sent("g"), "tool_choice": "required", "parallel_tool_calls": false}),
        &[Field::ToolChoiceAmong],
    );
    check_written(
        |request| {
            request.tool_choice = Some(ToolChoice::Auto);
            request.parallel_tool_calls = Some(true);
        },
        json!({}),
        &[],
    );
    let mut request = ChatRequest { surface: Surface::Responses, ..foreign("m") };
    request.tools = vec![function("f")];
    request.tool_choice = Some(ToolChoice::Among { names: vec!["x".into()], is_required: true });
    let error = written(&request).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some("tool_choice")));
    let search = Tool::Other { kind: "web_search".into(), json: Raw::new("{}").unwrap() };
    check_refused(|request| request.tools = vec![search], "tools[].type");
}

#[track_caller]
fn check_effort(level: Level, expected: &str) {
    check_effort_of(Surface::Messages, level, Some(expected));
}

#[track_caller]
fn check_effort_of(surface: Surface, level: Level, expected: Option<&str>) {
    let mut request = ChatRequest { surface, ..foreign("m") };
    request.reasoning = Some(Reasoning { level, is_shown: None });
    assert_eq!(written(&request).unwrap().0["reasoning_effort"].as_str(), expected, "{level:?}");
}

#[test]
fn nothing_is_said_of_thinking_that_most_models_refuse() {
    check_effort_of(Surface::Messages, Level::Off, None);
    check_effort_of(Surface::Gemini, Level::Budget(0), None);
    check_effort_of(Surface::Responses, Level::Off, Some("none"));
    check_effort_of(Surface::Responses, Level::Dynamic, None);
}

// parity: 104
#[test]
fn budgets_become_the_nearest_effort() {
    check_effort(Level::Effort(Effort::Max), "xhigh");
    check_effort(Level::Dynamic, "high");
    check_effort(Level::Budget(2048), "low");
    check_effort(Level::Budget(2049), "medium");
    check_effort(Level::Budget(16384), "medium");
    check_effort(Level::Budget(16385), "high");
}

#[track_caller]
fn check_max_tokens(model: &str, level: Option<Level>, expected: &str) {
    let mut request = foreign(model);
    request.max_tokens = Some(9);
    request.reasoning = level.map(|level| Reasoning { level, is_shown: None });
    assert_eq!(written(&request).unwrap().0[expected], 9, "{model}");
}

#[test]
fn the_most_tokens_are_told_as_the_model_wants_it() {
    check_max_tokens("llama", None, "max_tokens");
    check_max_tokens("gpt-oss-120b", Some(Level::Off), "max_tokens");
    check_max_tokens("openai/gpt-5.1", None, "max_completion_tokens");
    check_max_tokens("o3-mini", None, "max_completion_tokens");
    check_max_tokens("ft:o4-mini-2025-04-16:acme::id", None, "max_completion_tokens");
    check_max_tokens("olmo", None, "max_tokens");
    check_max_tokens("fast", Some(Level::Budget(5000)), "max_completion_tokens");
}

#[test]
fn a_long_name_of_a_user_becomes_a_short_one() {
    let user = |name: &str| {
        let mut request = foreign("m");
        request.user = Some(name.to_owned());
        written(&request).unwrap().0["user"].as_str().unwrap().to_owned()
    };
    let (long, other) = (user(&"x".repeat(65)), user(&"x".repeat(66)));
    assert_eq!(user(&"x".repeat(64)), "x".repeat(64));
    assert!(long.len() <= 64 && long == user(&"x".repeat(65)) && long != other, "{long} {other}");
}

#[test]
fn parameters_are_sent_under_openais_names() {
    check_written(
        |request| {
            request.temperature = Some(0.5);
            request.top_k = Some(4);
            request.stop = vec!["a".into()];
            request.user = Some("u".into());
            request.service_tier = Some("standard_only".into());
            request.metadata = Raw::new("{}");
            request.is_stream = true;
            request.top_logprobs = Some(2);
            request.extra.0.push(("inference_geo".into(), Raw::new("1").unwrap()));
            request.format = Some(Format::Schema {
                name: None,
                description: None,
                schema: Raw::new("{}").unwrap(),
                strict: None,
            });
        },
        json!({
            "temperature": 0.5, "top_k": 4, "stop": ["a"], "user": "u", "service_tier": "default", "stream": true,
            "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 2,
            "response_format": {"type": "json_schema", "json_schema": {"name": "response", "schema": {}}},
        }),
        &[Field::Unknown, Field::Metadata],
    );
    check_written(
        |request| {
            request.model = "gpt-5".into();
            request.top_k = Some(4);
            request.stop = vec!["a".into(); 4];
        },
        json!({"stop": ["a", "a", "a", "a"]}),
        &[Field::TopK],
    );
    let five_words = |request: &mut ChatRequest| {
        request.model = "gpt-5".into();
        request.stop = vec!["a".into(); 5];
    };
    check_refused(five_words, "stop_sequences");
    let stored = ("container".to_owned(), Raw::new("\"c\"").unwrap());
    check_refused(|request| request.extra.0.push(stored), "container");
}
