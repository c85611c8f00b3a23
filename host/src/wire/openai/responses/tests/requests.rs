//! What requests say.

use super::*;
use crate::chat::{
    CacheControl, ChatRequest, Effort, Format, Level, Message, Reasoning, Role, Source, Tool, ToolChoice,
};

/// A request that says everything.
pub(super) const FULL: &str = r#"{"model":"m","instructions":"be kind","input":[
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
        verbosity: Some("low".to_owned()),
        user: Some("me".to_owned()),
        metadata: Raw::new(r#"{"k":"v"}"#),
        service_tier: Some("flex".to_owned()),
        is_stream: true,
        asks_usage: true,
        extra: Extra(vec![
            ("truncation".to_owned(), Raw::of(&"auto")),
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
    for kind in ["local_shell_call_output", "computer_call_output", "mcp_call", "compaction", "new"] {
        let what = "which only OpenAI has; the upstream knows functions alone";
        check_item(
            &format!(r#"{{"type":"{kind}","call_id":"c","output":"a"}}"#),
            "input[1].type",
            &format!("`input[1].type` is `{kind}`, {what}"),
        );
    }
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
        "`input[1].content` must be a string or a list",
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

#[test]
fn a_reference_to_thinking_is_passed_over() {
    let request = br#"{"input":[{"role":"user","content":"a"},{"type":"item_reference","id":"rs_1"}]}"#;
    assert_eq!(decode_request(request).unwrap().messages, [Message::new(Role::User, vec![Part::text("a")])]);
}
