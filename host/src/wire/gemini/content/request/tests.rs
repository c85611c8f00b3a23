use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::chat::{CacheControl, Extra, Format, Function, Raw, Tool, ToolChoice};
use crate::chat::{Effort, Level, Reasoning};
use crate::error::ErrorKind;
use crate::wire::convert::EffortBudgets;

fn terms() -> Terms<'static> {
    Terms {
        client: Surface::Chat,
        target: Surface::Gemini,
        upstream: "google",
        max_tokens_default: 100,
        budgets: EffortBudgets::default(),
        losses: Vec::new(),
        unknown: Vec::new(),
    }
}

/// A part in short: what it is, and its texts.
fn short(part: &Part) -> String {
    let signature = |signature: &Option<Signature>| {
        signature
            .as_ref()
            .map_or_else(String::new, |Signature { surface, value }| format!("~{}:{value}", surface.label()))
    };
    match &part.content {
        Content::Text { text, .. } => text.clone(),
        Content::Thinking { text, signature: proof } => format!("({text}){}", signature(proof)),
        Content::RedactedThinking(data) => format!("redacted{}", signature(&Some(data.clone()))),
        Content::ToolCall { id, name, arguments, signature: proof } => {
            format!("{id}={name}{arguments}{}", signature(proof))
        }
        Content::ToolResult { id, name, content, is_error } => {
            let content: Vec<_> = content.iter().map(short).collect();
            let mark = if *is_error { "!" } else { "" };
            format!("{id}:{}{mark}>{}", name.as_deref().unwrap_or_default(), content.join("+"))
        }
        Content::Image { source, detail } => {
            format!("image {source:?}{}", detail.as_deref().unwrap_or_default())
        }
        Content::Audio { source } => format!("audio {source:?}"),
        Content::File { source, .. } => format!("file {source:?}"),
        Content::Refusal(text) => format!("refusal {text}"),
        Content::Other(json) => format!("other {}", json.get()),
    }
}

#[track_caller]
fn check_messages(contents: &str, expected: &[&str]) {
    let body = format!(r#"{{"contents":{contents}}}"#);
    let request = decode_request(body.as_bytes()).unwrap();
    let messages = request.messages.iter().map(|message| {
        let parts: Vec<_> = message.parts.iter().map(short).collect();
        format!("{:?}: {}", message.role, parts.join(" | "))
    });
    assert_eq!(messages.collect::<Vec<_>>(), expected);
}

// parity: 97, 100
#[test]
fn contents_are_messages() {
    check_messages(r#"[{"parts":[{"text":"a"}]}]"#, &["User: a"]);
    check_messages(r#"{"role":"user","parts":{"text":"a"}}"#, &["User: a"]);
    check_messages(r#""a""#, &["User: a"]);
    check_messages(
        r#"[{"role":"user","parts":["a","b"]},{"role":"model","parts":[{"text":"c"}]}]"#,
        &["User: a | b", "Assistant: c"],
    );
    check_messages(
        r#"[{"role":"model","parts":[{"text":"t","thought":true},{"text":"a"}]}]"#,
        &["Assistant: (t) | a"],
    );
    check_messages(
        r#"[{"role":"model","parts":[{"text":"a","thoughtSignature":"Z2Vt"},{"executableCode":{"code":"1"}}]}]"#,
        &[r#"Assistant: ()~gemini:Z2Vt | a | other {"executableCode":{"code":"1"}}"#],
    );
    check_messages(r#"[{"role":"user","parts":[{"videoMetadata":{}}]}]"#, &[]);
}

// parity: 100
#[test]
fn calls_and_results_find_each_other() {
    check_messages(
        r#"[{"role":"model","parts":[{"functionCall":{"name":"f","args":{ "a": 1 }}},{"functionCall":{"name":"f"}}]},
            {"role":"user","parts":[{"text":"x"},{"functionResponse":{"name":"f","response":{"b":2}}},
                                    {"function_response":{"name":"f","response":{"output":"c"}}}]}]"#,
        &[r#"Assistant: call_0=f{"a":1} | call_1=f{}"#, r#"Tool: call_0:f>{"b":2} | call_1:f>c"#, "User: x"],
    );
    check_messages(
        r#"[{"role":"model","parts":[{"functionCall":{"id":"i","name":"f"},"thought_signature":"Z2Vt"},
                                     {"functionCall":{"id":"j","name":"g"}}]},
            {"role":"function","parts":[{"functionResponse":{"id":"j","name":"g","response":{"error":"e"}}}]},
            {"role":"function","parts":[{"functionResponse":{"id":"i","name":"f","response":{"result":"r"},
              "parts":[{"inlineData":{"mimeType":"image/png","data":"AA=="}}]}}]}]"#,
        &[
            "Assistant: i=f{}~gemini:Z2Vt | j=g{}",
            r#"Tool: j:g!>e | i:f>r+image Data { media_type: "image/png", base64: "AA==" }"#,
        ],
    );
}

#[test]
fn the_chunks_of_a_streamed_answer_are_one_again() {
    check_messages(
        r#"[{"role":"model","parts":[{"text":"th","thought":true}]},{"role":"model","parts":[{"text":"ink","thought":true}]},
            {"role":"model","parts":[{"text":"","thought":true,"thoughtSignature":"bWVzc2FnZXMjcw"}]},
            {"role":"model","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"}]},
            {"role":"model","parts":[{"functionCall":{"name":"f"}}]},{"role":"model","parts":[{"text":""}]}]"#,
        &["Assistant: (think)~messages:s | ab | call_0=f{}"],
    );
}

// parity: 103
#[test]
fn bytes_are_read_by_their_type() {
    let media = |part: &str, expected: &str| {
        check_messages(&format!(r#"[{{"parts":[{part}]}}]"#), &[&format!("User: {expected}")]);
    };
    media(
        r#"{"inline_data":{"mime_type":"image/png","data":"-_8"}}"#,
        r#"image Data { media_type: "image/png", base64: "+/8=" }"#,
    );
    media(
        r#"{"inlineData":{"mimeType":"audio/wav","data":"AAAA"}}"#,
        r#"audio Data { media_type: "audio/wav", base64: "AAAA" }"#,
    );
    media(
        r#"{"fileData":{"mimeType":"application/pdf","fileUri":"https://x/y"}}"#,
        r#"file Url { url: "https://x/y", media_type: Some("application/pdf") }"#,
    );
    media(
        r#"{"fileData":{"fileUri":"https://x/y.JPG?z"},"mediaResolution":{"level":"MEDIA_RESOLUTION_LOW"}}"#,
        r#"image Url { url: "https://x/y.JPG?z", media_type: None }low"#,
    );
}

#[track_caller]
fn check_request(members: &str, expected: impl FnOnce(&mut ChatRequest)) {
    let request = decode_request(members.as_bytes()).unwrap();
    let mut wanted = ChatRequest { asks_usage: true, ..ChatRequest::new(Surface::Gemini, "") };
    expected(&mut wanted);
    assert_eq!(request, wanted);
    // What is written of it is read as the same.
    let again = ChatRequest { messages: vec![Message::new(Role::User, vec![Part::text("a")])], ..wanted };
    let written = encode_request(&again, &mut terms()).unwrap();
    assert_eq!(decode_request(&written).unwrap(), again, "{}", String::from_utf8_lossy(&written));
}

fn raw(json: &str) -> Raw {
    Raw::new(json).unwrap()
}

// parity: 102
#[test]
fn instructions_are_the_first_message() {
    for instruction in [r#""a""#, r#"{"parts":[{"text":"a"}]}"#, r#"{"role":"x","parts":{"text":"a"}}"#] {
        for name in ["systemInstruction", "system_instruction"] {
            let request = decode_request(format!(r#"{{"{name}":{instruction}}}"#).as_bytes()).unwrap();
            assert_eq!(request.messages, [Message::new(Role::System, vec![Part::text("a")])]);
        }
    }
}

#[test]
fn what_an_answer_is_to_be_like_is_read() {
    check_request("{}", |_| {});
    check_request(
        r#"{"generationConfig":{"temperature":0.5,"topP":1,"top_k":"40","candidateCount":2,"maxOutputTokens":7.0,
            "stopSequences":["x"],"seed":-3,"presencePenalty":-1,"frequencyPenalty":0.25,"responseLogprobs":true,
            "logprobs":3,"speechConfig":{ "a": 1 }},"labels":{"a":"b"},"serviceTier":"FLEX","safety_settings":[]}"#,
        |request| {
            request.temperature = Some(0.5);
            request.top_p = Some(1.0);
            request.top_k = Some(40);
            request.n = Some(2);
            request.max_tokens = Some(7);
            request.stop = vec!["x".into()];
            request.seed = Some(-3);
            request.presence_penalty = Some(-1.0);
            request.frequency_penalty = Some(0.25);
            request.logprobs = Some(true);
            request.top_logprobs = Some(3);
            request.metadata = Some(raw(r#"{"a":"b"}"#));
            request.service_tier = Some("flex".into());
            request.extra = Extra(vec![
                ("generationConfig".into(), raw(r#"{"speechConfig":{"a":1}}"#)),
                ("safetySettings".into(), raw("[]")),
            ]);
        },
    );
}

#[track_caller]
fn check_config(config: &str, expected: impl FnOnce(&mut ChatRequest)) {
    check_request(&format!(r#"{{"generationConfig":{config}}}"#), expected);
}

// parity: 104
#[test]
fn an_amount_of_thinking_is_read() {
    let check = |config: &str, level, is_shown| {
        check_config(&format!(r#"{{"thinkingConfig":{config}}}"#), |request| {
            request.reasoning = Some(Reasoning { level, is_shown });
        });
    };
    check(r#"{"thinkingBudget":0,"includeThoughts":false}"#, Level::Off, Some(false));
    check(r#"{"thinking_budget":-1,"include_thoughts":true}"#, Level::Dynamic, Some(true));
    check(r#"{"thinkingBudget":512,"includeThoughts":true}"#, Level::Budget(512), Some(true));
    check(r#"{"thinkingLevel":"low","includeThoughts":true}"#, Level::Effort(Effort::Low), Some(true));
    check_config(r#"{"thinkingConfig":{}}"#, |_| {});
}

// parity: 105
#[test]
fn a_form_is_read() {
    let check = |config: &str, format| check_config(config, |request| request.format = Some(format));
    let schema =
        |json: &str| Format::Schema { name: None, description: None, schema: raw(json), strict: None };
    check(r#"{"responseMimeType":"text/plain"}"#, Format::Text);
    check(r#"{"response_mime_type":"application/json"}"#, Format::Json);
    check(
        r#"{"responseMimeType":"application/json","responseSchema":{"type":"OBJECT","properties":{"a":{"type":"STRING"}}}}"#,
        schema(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#),
    );
    check(
        r#"{"responseJsonSchema":{"anyOf":[{"$ref":"x"}]},"responseMimeType":"application/json"}"#,
        schema(r#"{"anyOf":[{"$ref":"x"}]}"#),
    );
    check_config(r#"{"responseMimeType":"text/x.enum"}"#, |request| {
        request.extra =
            Extra(vec![("generationConfig".into(), raw(r#"{"responseMimeType":"text/x.enum"}"#))]);
    });
}

// parity: 101
#[test]
fn which_tools_are_called_is_read() {
    let check = |config: &str, choice| {
        check_request(&format!(r#"{{"toolConfig":{{"functionCallingConfig":{config}}}}}"#), |request| {
            request.tool_choice = Some(choice);
        });
    };
    let names = || vec!["f".to_owned(), "g".to_owned()];
    check(r#"{"mode":"AUTO"}"#, ToolChoice::Auto);
    check("{}", ToolChoice::Auto);
    check(r#"{"mode":"none"}"#, ToolChoice::None);
    check(r#"{"mode":"ANY"}"#, ToolChoice::Required);
    check(r#"{"mode":"ANY","allowed_function_names":["f"]}"#, ToolChoice::Named("f".into()));
    check(
        r#"{"mode":"ANY","allowedFunctionNames":["f","g"]}"#,
        ToolChoice::Among { names: names(), is_required: true },
    );
    check(
        r#"{"mode":"VALIDATED","allowedFunctionNames":["f","g"]}"#,
        ToolChoice::Among { names: names(), is_required: false },
    );
    check_request(r#"{"toolConfig":{"retrievalConfig":{}}}"#, |request| {
        request.extra = Extra(vec![("toolConfig".into(), raw(r#"{"retrievalConfig":{}}"#))]);
    });
}

#[test]
fn tools_are_read() {
    check_request(
        r#"{"tools":[{"function_declarations":[{"name":"f","description":"d","parameters":{"type":"OBJECT"}},
            {"name":"g","parametersJsonSchema":{"$defs":{}},"behavior":"BLOCKING"}]},{"googleSearch":{}}]}"#,
        |request| {
            let function = |name: &str, description: Option<&str>, parameters: &str| Function {
                name: name.into(),
                description: description.map(str::to_owned),
                parameters: Some(raw(parameters)),
                strict: None,
                cache: None,
                extra: Extra::default(),
            };
            let behavior = Extra(vec![("behavior".into(), raw(r#""BLOCKING""#))]);
            request.tools = vec![
                Tool::Function(function("f", Some("d"), r#"{"type":"object"}"#)),
                Tool::Function(Function { extra: behavior, ..function("g", None, r#"{"$defs":{}}"#) }),
                Tool::Other { kind: "googleSearch".into(), json: raw(r#"{"googleSearch":{}}"#) },
            ];
        },
    );
}

#[track_caller]
fn check_invalid(body: &str, param: Option<&str>, message: &str) {
    let error = decode_request(body.as_bytes()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!((error.param.as_deref(), &*error.message), (param, message));
}

#[test]
fn bad_input_is_called_by_its_name() {
    check_invalid(
        r#"{"contents":[{"role":"system","parts":[]}]}"#,
        Some("contents[0].role"),
        "`contents[0].role` is `system`, it must be `user` or `model`",
    );
    check_invalid(r#"{"contents":[5]}"#, Some("contents[0]"), "`contents[0]` must be an object");
    check_invalid(
        r#"{"contents":[{"parts":[{"text":5}]}]}"#,
        Some("contents[0].parts[0].text"),
        "`contents[0].parts[0].text` must be a string",
    );
    check_invalid(
        r#"{"contents":[{"parts":[{"functionResponse":{"name":"f","response":{}}}]}]}"#,
        Some("contents[0].parts[0].functionResponse"),
        "`contents[0].parts[0].functionResponse` is the result of no call: put a `functionCall` named `f` before it",
    );
    check_invalid(
        r#"{"contents":[{"parts":[{"inlineData":{"data":"AA=="}}]}]}"#,
        Some("contents[0].parts[0].inlineData"),
        "`contents[0].parts[0].inlineData` must be an object with `data` and `mimeType`",
    );
    check_invalid(
        r#"{"contents":[{"parts":[{"functionCall":{"name":"f","args":[]}}]}]}"#,
        Some("contents[0].parts[0].functionCall.args"),
        "`contents[0].parts[0].functionCall.args` must be an object",
    );
    check_invalid(
        r#"{"generationConfig":{"temperature":"warm"}}"#,
        Some("generationConfig.temperature"),
        "`generationConfig.temperature` must be a number",
    );
    check_invalid(
        r#"{"generationConfig":{"maxOutputTokens":-1}}"#,
        Some("generationConfig.maxOutputTokens"),
        "`generationConfig.maxOutputTokens` must be a whole number of at least 0",
    );
    check_invalid(
        r#"{"toolConfig":{"functionCallingConfig":{"mode":"SOME"}}}"#,
        Some("toolConfig.functionCallingConfig"),
        "`SOME` is no mode of function calling, use `AUTO`, `ANY`, `NONE` or `VALIDATED`",
    );
    check_invalid(
        r#"{"tools":[{"functionDeclarations":[{}]}]}"#,
        Some("tools[0].functionDeclarations[0]"),
        "`tools[0].functionDeclarations[0]` must be an object with `name`",
    );
    check_invalid("{", None, "the document is not valid JSON: unexpected end of the document");
}

/// A request of a client that speaks another dialect.
fn foreign(messages: Vec<Message>) -> ChatRequest {
    ChatRequest { messages, ..ChatRequest::new(Surface::Chat, "m") }
}

fn message(role: Role, contents: Vec<Content>) -> Message {
    Message::new(role, contents.into_iter().map(Part::new).collect())
}

fn text(text: &str) -> Content {
    Content::Text { text: text.into(), citations: Vec::new() }
}

fn call(id: &str, name: &str, arguments: &str) -> Content {
    Content::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into(), signature: None }
}

fn result(id: &str, content: Vec<Content>) -> Content {
    let content = content.into_iter().map(Part::new).collect();
    Content::ToolResult { id: id.into(), name: None, content, is_error: false }
}

fn signed(surface: Surface, value: &str) -> Option<Signature> {
    Some(Signature { surface, value: value.into() })
}

#[track_caller]
fn check_written(request: &ChatRequest, expected: &str, losses: &[Field]) {
    let mut terms = terms();
    let written = encode_request(request, &mut terms).unwrap();
    assert_eq!(std::str::from_utf8(&written).unwrap(), expected);
    assert_eq!(terms.losses, losses);
}

#[track_caller]
fn check_contents(messages: Vec<Message>, expected: &str, losses: &[Field]) {
    check_written(&foreign(messages), &format!(r#"{{{expected},"generationConfig":{{}}}}"#), losses);
}

// parity: 97, 100, 102
#[test]
fn messages_are_contents() {
    use Role::{Assistant, Developer, System, Tool, User};
    check_contents(
        vec![
            message(System, vec![text("a")]),
            message(Developer, vec![text("b")]),
            message(User, vec![text("c")]),
            message(User, vec![text("d")]),
            message(System, vec![text("e")]),
            message(Assistant, vec![text("f")]),
        ],
        r#""systemInstruction":{"parts":[{"text":"a"},{"text":"b"},{"text":"e"}]},"contents":[{"role":"user","parts":[{"text":"c"},{"text":"d"}]},{"role":"model","parts":[{"text":"f"}]}]"#,
        &[Field::Developer, Field::SystemInside],
    );
    check_contents(
        vec![message(System, vec![text("a")])],
        r#""contents":[{"role":"user","parts":[{"text":"a"}]}]"#,
        &[],
    );
    check_contents(
        vec![
            message(User, vec![text("a")]),
            message(Assistant, vec![text("b"), call("i", "f", r#"{"x":1}"#), call("j", "g", "")]),
            message(Tool, vec![result("j", vec![text("[1]")]), result("i", vec![text(r#"{"y":2}"#)])]),
            message(User, vec![text("c")]),
        ],
        r#""contents":[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"b"},{"functionCall":{"id":"i","name":"f","args":{"x":1}}},{"functionCall":{"id":"j","name":"g","args":{}}}]},{"role":"user","parts":[{"functionResponse":{"id":"j","name":"g","response":{"output":"[1]"}}},{"functionResponse":{"id":"i","name":"f","response":{"y":2}}},{"text":"c"}]}]"#,
        &[],
    );
}

#[test]
fn arguments_that_are_no_object_are_kept_in_one() {
    for (arguments, expected) in
        [("{\"a\":", r#"{"raw_arguments":"{\"a\":"}"#), ("[1]", r#"{"raw_arguments":"[1]"}"#)]
    {
        check_contents(
            vec![message(Role::Assistant, vec![call("i", "f", arguments)])],
            &format!(
                r#""contents":[{{"role":"model","parts":[{{"functionCall":{{"id":"i","name":"f","args":{expected}}}}}]}}]"#
            ),
            &[],
        );
    }
}

#[test]
fn only_googles_own_signatures_are_sent() {
    let thinking = |text: &str, signature| Content::Thinking { text: text.into(), signature };
    let gemini = |value| signed(Surface::Gemini, value);
    let claude = || signed(Surface::Messages, "s");
    let signed_call =
        |signature| Content::ToolCall { id: "i".into(), name: "f".into(), arguments: "{}".into(), signature };
    let check = |contents: Vec<Content>, expected: &str, losses: &[Field]| {
        let expected = format!(r#""contents":[{{"role":"model","parts":[{expected}]}}]"#);
        check_contents(vec![message(Role::Assistant, contents)], &expected, losses);
    };
    const CALL: &str = r#""functionCall":{"id":"i","name":"f","args":{}}"#;
    check(
        vec![thinking("t", None), text("a")],
        r#"{"text":"t","thought":true},{"text":"a"}"#,
        &[Field::Thinking],
    );
    check(
        vec![thinking("t", claude()), text("a")],
        r#"{"text":"t","thought":true},{"text":"a"}"#,
        &[Field::Thinking],
    );
    check(vec![thinking("", claude()), text("a")], r#"{"text":"a"}"#, &[Field::Thinking]);
    check(
        vec![Content::RedactedThinking(claude().unwrap()), text("a")],
        r#"{"text":"a"}"#,
        &[Field::Thinking],
    );
    check(vec![thinking("", gemini("s")), text("a")], r#"{"text":"a","thoughtSignature":"s"}"#, &[]);
    check(
        vec![text("a"), thinking("", gemini("s"))],
        r#"{"text":"a"},{"text":"","thoughtSignature":"s"}"#,
        &[],
    );
    check(vec![thinking("t", gemini("s"))], r#"{"text":"t","thought":true,"thoughtSignature":"s"}"#, &[]);
    check(vec![signed_call(gemini("s"))], &format!(r#"{{{CALL},"thoughtSignature":"s"}}"#), &[]);
    check(
        vec![thinking("", gemini("s")), signed_call(None)],
        &format!(r#"{{{CALL},"thoughtSignature":"s"}}"#),
        &[],
    );
    check(
        vec![thinking("", gemini("s")), signed_call(gemini("s"))],
        &format!(r#"{{{CALL},"thoughtSignature":"s"}}"#),
        &[],
    );
    check(vec![signed_call(claude())], &format!("{{{CALL}}}"), &[]);
}

#[track_caller]
fn check_signed(model: &str, expected: bool) {
    let conversation = vec![message(Role::Assistant, vec![call("i", "f", "{}"), call("j", "f", "{}")])];
    let request = ChatRequest { model: model.into(), ..foreign(conversation) };
    let written = encode_request(&request, &mut terms()).unwrap();
    let count = String::from_utf8_lossy(&written).matches(NO_SIGNATURE).count();
    assert_eq!(count, usize::from(expected), "{model}");
}

#[test]
fn models_that_insist_on_a_signature_get_one() {
    check_signed("gemini-3-pro-preview", true);
    check_signed("google/gemini-3.5-flash", true);
    check_signed("gemini-2.5-pro", false);
    check_signed("gemini-pro", false);
    check_signed("m", false);
}

// parity: 103
#[test]
fn pictures_and_documents_are_written() {
    let url = |url: &str| Source::Url { url: url.into(), media_type: None };
    let image = |source| Content::Image { source, detail: None };
    let data = || Source::Data { media_type: "image/png".into(), base64: "AA==".into() };
    let check = |content, expected: &str, losses: &[Field]| {
        let expected = format!(r#""contents":[{{"role":"user","parts":[{expected}]}}]"#);
        check_contents(vec![message(Role::User, vec![content])], &expected, losses);
    };
    const INLINE: &str = r#"{"inlineData":{"mimeType":"image/png","data":"AA=="}}"#;
    check(image(data()), INLINE, &[]);
    check(Content::Image { source: data(), detail: Some("high".into()) }, INLINE, &[Field::ImageDetail]);
    check(
        image(url("https://x/y.webp#z")),
        r#"{"fileData":{"mimeType":"image/webp","fileUri":"https://x/y.webp#z"}}"#,
        &[],
    );
    check(
        Content::File { source: url("https://x/y.pdf"), name: Some("n".into()) },
        r#"{"fileData":{"mimeType":"application/pdf","fileUri":"https://x/y.pdf"}}"#,
        &[],
    );
    check(Content::File { source: Source::Text("t".into()), name: None }, r#"{"text":"t"}"#, &[]);
    check(Content::Refusal("no".into()), r#"{"text":"no"}"#, &[]);
    let messages = vec![
        message(Role::Assistant, vec![call("i", "f", "{}")]),
        message(Role::Tool, vec![result("i", vec![text("a"), text("b"), image(data())])]),
    ];
    let expected = format!(
        r#""contents":[{{"role":"model","parts":[{{"functionCall":{{"id":"i","name":"f","args":{{}}}}}}]}},{{"role":"user","parts":[{{"functionResponse":{{"id":"i","name":"f","response":{{"output":"a\nb"}},"parts":[{INLINE}]}}}}]}}]"#
    );
    check_contents(messages, &expected, &[]);
}

#[track_caller]
fn check_refused(change: impl FnOnce(&mut ChatRequest), param: &str) {
    let mut request = foreign(vec![message(Role::User, vec![text("a")])]);
    change(&mut request);
    let error = encode_request(&request, &mut terms()).unwrap_err();
    assert_eq!((&error.kind, error.param.as_deref()), (&ErrorKind::Inexpressible, Some(param)));
    assert!(error.message.contains("`google`"), "{}", error.message);
}

#[test]
fn what_would_be_another_answer_is_refused() {
    let part = |content| move |request: &mut ChatRequest| request.messages[0].parts.push(Part::new(content));
    let url = || Source::Url { url: "https://x/y".into(), media_type: None };
    check_refused(part(Content::Image { source: url(), detail: None }), "messages[].content[].image_url");
    check_refused(part(Content::File { source: url(), name: None }), "the request");
    check_refused(
        part(Content::File { source: Source::Id("f".into()), name: None }),
        "messages[].content[].file.file_id",
    );
    check_refused(|request| request.logit_bias = Some(raw(r#"{"1":2}"#)), "logit_bias");
    check_refused(|request| request.stop = vec![String::new(); 6], "stop");
    check_refused(
        |request| request.tools = vec![Tool::Other { kind: "x".into(), json: raw("{}") }],
        "tools[].type",
    );
    check_refused(|request| request.extra.0.push(("previous_response_id".into(), raw(r#""r""#))), "store");
}

#[test]
fn a_result_without_its_call_is_refused() {
    let request = foreign(vec![message(Role::Tool, vec![result("i", vec![text("a")])])]);
    let error = encode_request(&request, &mut terms()).unwrap_err();
    assert_eq!(
        (error.kind, &*error.message),
        (ErrorKind::InvalidRequest, "the result of the tool call `i` has no call before it",)
    );
    let error = encode_request(&foreign(Vec::new()), &mut terms()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
}

#[track_caller]
fn check_loss(change: impl FnOnce(&mut ChatRequest), config: &str, losses: &[Field]) {
    let mut request = foreign(vec![message(Role::User, vec![text("a")])]);
    change(&mut request);
    let expected = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"a"}}]}}],{config}}}"#);
    check_written(&request, &expected, losses);
}

// parity: 101, 104, 105
#[test]
fn the_nearest_thing_is_said() {
    const NONE: &str = r#""generationConfig":{}"#;
    let thinking = |config: &str| format!(r#""generationConfig":{{"thinkingConfig":{config}}}"#);
    let reason = |level| {
        move |request: &mut ChatRequest| request.reasoning = Some(Reasoning { level, is_shown: None })
    };
    check_loss(reason(Level::Off), &thinking(r#"{"thinkingBudget":0}"#), &[]);
    let shown = |budget: &str| thinking(&format!(r#"{{"thinkingBudget":{budget},"includeThoughts":true}}"#));
    check_loss(reason(Level::Dynamic), &shown("-1"), &[]);
    check_loss(reason(Level::Budget(u64::MAX)), &shown("2147483647"), &[]);
    check_loss(reason(Level::Effort(Effort::Minimal)), &shown("512"), &[]);
    check_loss(reason(Level::Effort(Effort::Low)), &shown("2048"), &[]);
    check_loss(reason(Level::Effort(Effort::Medium)), &shown("8192"), &[]);
    check_loss(reason(Level::Effort(Effort::High)), &shown("16384"), &[]);
    check_loss(reason(Level::Effort(Effort::Max)), &shown("24576"), &[]);
    check_loss(
        |request| request.seed = Some(1 << 32 | 5),
        r#""generationConfig":{"seed":5}"#,
        &[Field::Seed],
    );
    check_loss(|request| request.parallel_tool_calls = Some(false), NONE, &[Field::ParallelToolCalls]);
    check_loss(|request| request.logit_bias = Some(raw("{}")), NONE, &[]);
    check_loss(|request| request.user = Some("u".into()), NONE, &[Field::User]);
    check_loss(|request| request.metadata = Some(raw("{}")), NONE, &[Field::Metadata]);
    check_loss(|request| request.service_tier = Some("auto".into()), NONE, &[]);
    check_loss(|request| request.service_tier = Some("scale".into()), NONE, &[Field::ServiceTier]);
    let standard = format!(r#"{NONE},"serviceTier":"standard""#);
    check_loss(|request| request.service_tier = Some("default".into()), &standard, &[]);
    check_loss(|request| request.extra.0.push(("x".into(), raw("1"))), NONE, &[Field::Unknown]);
    check_loss(|request| request.messages[0].name = Some("n".into()), NONE, &[Field::MessageName]);
    let cache = Some(CacheControl { ttl: None });
    check_loss(|request| request.messages[0].parts[0].cache = cache, NONE, &[Field::CacheControl]);
    let schema = Format::Schema {
        name: Some("n".into()),
        description: None,
        schema: raw(r#"{"oneOf":[]}"#),
        strict: Some(true),
    };
    check_loss(
        |request| request.format = Some(schema),
        r#""generationConfig":{"responseMimeType":"application/json","responseJsonSchema":{"oneOf":[]}}"#,
        &[],
    );
    let function = Function {
        name: "f".into(),
        description: None,
        parameters: Some(raw(r##"{"$ref":"#/x"}"##)),
        strict: Some(true),
        cache: None,
        extra: Extra::default(),
    };
    check_loss(
        |request| request.tools = vec![Tool::Function(function)],
        r##""tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":{"$ref":"#/x"}}]}],"generationConfig":{}"##,
        &[Field::ToolStrict],
    );
}

#[test]
fn the_table_has_each_row_once() {
    let fields: BTreeSet<_> = super::super::TABLE.iter().map(|row| row.field).collect();
    assert_eq!(fields.len(), super::super::TABLE.len());
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z{}\"\\\\é]{1,6}", Just("{\"output\":\"x\"}".to_owned()), Just("{\"a\":[1]}".to_owned())]
}

fn contents() -> impl Strategy<Value = Vec<Content>> {
    let signature = prop::option::of("[A-Za-z]{4}")
        .prop_map(|value| value.map(|value| Signature { surface: Surface::Gemini, value }));
    let content = prop_oneof![
        words().prop_map(|text| Content::Text { text, citations: Vec::new() }),
        (words(), signature).prop_map(|(text, signature)| Content::Thinking { text, signature }),
        Just(Content::Image {
            source: Source::Data { media_type: "image/png".into(), base64: "AAAA".into() },
            detail: None
        }),
        Just(Content::File {
            source: Source::Url { url: "u".into(), media_type: Some("video/mp4".into()) },
            name: None
        }),
    ];
    prop::collection::vec(content, 1..4)
}

/// A call with its result.
fn exchange() -> impl Strategy<Value = (Vec<Content>, String, bool)> {
    (contents(), words(), any::<bool>())
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        system in prop::option::of(words()),
        first in contents(),
        exchanges in prop::collection::vec(exchange(), 0..3),
    ) {
        let mut messages = Vec::new();
        messages.extend(system.map(|system| message(Role::System, vec![text(&system)])));
        messages.push(message(Role::User, first));
        for (index, (mut said, output, is_error)) in exchanges.into_iter().enumerate() {
            let id = format!("id{index}");
            said.push(call(&id, "f", r#"{"a":1}"#));
            messages.push(message(Role::Assistant, said));
            let content = vec![Part::text(output)];
            let result = Content::ToolResult { id, name: Some("f".into()), content, is_error };
            messages.push(message(Role::Tool, vec![result]));
        }
        let request = ChatRequest { messages, asks_usage: true, ..ChatRequest::new(Surface::Gemini, "") };
        let written = encode_request(&request, &mut terms()).unwrap();
        prop_assert_eq!(decode_request(&written).unwrap(), request);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = decode_request(&bytes);
    }

    #[test]
    fn no_document_is_too_strange(cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\\[\\]{}\",:0-9a-z]"), 1..4)) {
        let mut document = br#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":{}},"thoughtSignature":"AA"}]},{"parts":[{"functionResponse":{"name":"f","response":{"output":"x"}}},{"inlineData":{"mimeType":"image/png","data":"A-"}}]}],"tools":[{"functionDeclarations":[{"name":"f","parameters":{"type":"STRING","nullable":true,"enum":["a"]}}]}],"generationConfig":{"topK":1,"thinkingConfig":{"thinkingBudget":1}},"toolConfig":{"a":1}}"#.to_vec();
        for (at, byte) in cuts {
            let at = at.index(document.len());
            document[at] = byte.as_bytes()[0];
        }
        if let Ok(request) = decode_request(&document) {
            let _ = encode_request(&request, &mut terms());
        }
    }
}

/// A conversation of so many calls and their results.
fn long(count: usize, call: impl Fn(usize) -> String, result: impl Fn(usize) -> String) -> String {
    let list = |part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<Vec<_>>().join(",");
    let (calls, results) = (list(&call), list(&result));
    format!(r#"{{"contents":[{{"role":"model","parts":[{calls}]}},{{"role":"user","parts":[{results}]}}]}}"#)
}

// parity: 101
#[test]
fn very_many_calls_and_results_are_matched() {
    const COUNT: usize = 40_000;
    let body = long(
        COUNT,
        |at| format!(r#"{{"functionCall":{{"name":"f{at}","id":"c{at}"}}}}"#),
        |at| format!(r#"{{"functionResponse":{{"name":"f{0}","response":{{}}}}}}"#, COUNT - 1 - at),
    );
    let request = decode_request(body.as_bytes()).unwrap();
    assert_eq!(short(&request.messages[1].parts[0]), format!("c{0}:f{0}>{{}}", COUNT - 1));
    let mut body = Vec::new();
    for at in 0..COUNT {
        let call = format!("c{at}");
        let content =
            Content::ToolCall { id: call, name: "f".into(), arguments: "{}".into(), signature: None };
        body.push(Part::new(content));
    }
    let result = |_| {
        let (id, content) = ("c0".to_owned(), vec![Part::text("x")]);
        Part::new(Content::ToolResult { id, name: None, content, is_error: false })
    };
    let results = (0..COUNT).map(result).collect();
    let mut request = ChatRequest::new(Surface::Chat, "m");
    request.messages = vec![Message::new(Role::Assistant, body), Message::new(Role::Tool, results)];
    encode_request(&request, &mut terms()).unwrap();
    // In one pass it is well below a second; looking through all calls for each result takes minutes.
}

#[track_caller]
fn check_wrong(contents: &str, param: &str) {
    let error = decode_request(format!(r#"{{"contents":{contents}}}"#).as_bytes()).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)));
}

// parity: 101
#[test]
fn calls_are_of_the_model_alone() {
    check_wrong(r#"[{"role":"user","parts":[{"functionCall":{"name":"f"}}]}]"#, "contents[0].parts");
    check_wrong(r#"[{"parts":[{"functionCall":{"name":"f"}}]}]"#, "contents[0].parts");
    let call = r#"{"role":"model","parts":[{"functionCall":{"name":"f"}}]}"#;
    for part in [r#"{"functionCall":{"name":"g"}}"#, r#"{"text":"a","thought":true}"#] {
        check_wrong(
            &format!(
                r#"[{call},{{"parts":[{{"functionResponse":{{"name":"f","response":{{}},"parts":[{part}]}}}}]}}]"#
            ),
            "contents[1].parts[0].functionResponse.parts",
        );
    }
}

#[test]
fn instructions_may_be_a_list_of_parts() {
    let body = r#"{"systemInstruction":[{"text":"a"},"b",{"parts":[{"text":"c"}]}],"contents":"x"}"#;
    let request = decode_request(body.as_bytes()).unwrap();
    let parts: Vec<_> = request.messages[0].parts.iter().map(short).collect();
    assert_eq!((request.messages[0].role, parts.join(" | ")), (Role::System, "a | b | c".into()));
}

// parity: 99
#[test]
fn an_upload_at_google_is_no_url_for_others() {
    let url = "https://generativelanguage.googleapis.com/v1beta/files/abc";
    let body = format!(
        r#"{{"contents":{{"parts":[{{"fileData":{{"mimeType":"video/mp4","fileUri":"{url}"}}}}]}}}}"#
    );
    let request = decode_request(body.as_bytes()).unwrap();
    assert_eq!(short(&request.messages[0].parts[0]), format!("file Id({url:?})"));
    let written = encode_request(&request, &mut terms()).unwrap();
    assert!(written.windows(url.len()).any(|window| window == url.as_bytes()));
}
