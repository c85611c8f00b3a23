//! What happens to an answer that comes in one piece: it is checked, read for the record, and edited by splicing.

use bytes::Bytes;

use crate::chat::{StopReason, Usage};
use crate::error::{Error, ErrorKind, Result};
use crate::wire::Endpoint;
use crate::wire::openai::stream::Rules;
use crate::wire::openai::thinking::{Converter, Parts};
use crate::wire::openai::view::{Choice, Edit, View};

/// What a whole answer says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether there is anything in it a client waits for: text, thinking, tool calls, embeddings, results.
    pub has_content: bool,
    /// Why it ended.
    pub finish_reason: Option<StopReason>,
    /// The tokens, as the upstream counted them.
    pub usage: Option<Usage>,
    /// The message of an error in it.
    pub error: Option<String>,
}

/// An answer as the client is sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The body; the very bytes that came when there was nothing to edit.
    pub segments: Vec<Bytes>,
    /// What it says.
    pub facts: Facts,
}

impl Answer {
    /// The body as one piece.
    pub fn body(&self) -> Bytes {
        match &self.segments[..] {
            [only] => only.clone(),
            several => several.concat().into(),
        }
    }
}

/// Reads an answer and edits it by the rules, in one pass. An error in the body is left as it is.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when the body is not JSON.
pub fn rewrite(body: &Bytes, rules: &Rules) -> Result<Answer> {
    let view = read(rules.endpoint, body)?;
    let edits = if rules.edits_choices() { edits(&view, body, rules) } else { Vec::new() };
    let segments = if edits.is_empty() { vec![body.clone()] } else { Edit::apply(edits, body) };
    Ok(Answer { segments, facts: Facts::of(view) })
}

/// Reads an answer of an endpoint's that is not edited.
///
/// # Errors
/// [`ErrorKind::UpstreamInvalid`] when the body is not JSON.
pub fn inspect(endpoint: Endpoint, body: &[u8]) -> Result<Facts> {
    read(endpoint, body).map(Facts::of)
}

fn read(endpoint: Endpoint, body: &[u8]) -> Result<View<'_>> {
    View::at(endpoint, body).map_err(|error| {
        let (line, column) = error.position(body);
        Error::new(ErrorKind::UpstreamInvalid, "the upstream's answer is not valid JSON")
            .with_source(format!("line {line}, column {column}: {}", error.reason))
    })
}

fn edits(view: &View<'_>, body: &Bytes, rules: &Rules) -> Vec<Edit> {
    let (format, prefix) = (rules.thinking_format(), rules.prefix_text());
    let edit = |choice: &Choice<'_>| {
        let mut converter = Converter::new(format, prefix.clone());
        choice.convert(body, format, &mut converter, true, &mut Parts::default())
    };
    view.choices.iter().filter_map(edit).collect()
}

impl Facts {
    fn of(view: View<'_>) -> Self {
        Self {
            has_content: view.has_content(),
            finish_reason: view.finish_reason().map(|reason| reason.with_calls(view.has_call)),
            usage: view.usage.or(view.timings),
            error: view.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ThinkingFormat;
    use crate::wire::Dialect;

    fn rules(endpoint: Endpoint, prefix: &str, thinking: ThinkingFormat) -> Rules {
        let special_prefix = (!prefix.is_empty()).then(|| prefix.into());
        Rules { endpoint, hides_usage: true, special_prefix, thinking }
    }

    #[track_caller]
    fn check(prefix: &str, thinking: ThinkingFormat, body: &str, expected: &str) {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let answer = rewrite(&body, &rules(Endpoint::ChatCompletions, prefix, thinking)).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer.segments.concat()), expected);
        if body == expected {
            assert_eq!((answer.segments.len(), answer.segments[0].as_ptr()), (1, body.as_ptr()), "no copy");
        }
    }

    #[test]
    fn the_prefix_is_put_before_every_choice_that_has_text() {
        // parity: 86
        check(
            "<a\"\n>",
            ThinkingFormat::Passthrough,
            r#"{ "choices":[{"message":{"content":"x\u00e9"}}, {"message":{"content":null}},{"message":{"content":""}},{"message":{"n":0.70,"content": "y"}}], "usage":{}}"#,
            r#"{ "choices":[{"message":{"content":"<a\"\n>x\u00e9"}}, {"message":{"content":null}},{"message":{"content":""}},{"message":{"n":0.70,"content": "<a\"\n>y"}}], "usage":{}}"#,
        );
        check(
            "p",
            ThinkingFormat::Passthrough,
            r#"{"error":{"message":"no"}}"#,
            r#"{"error":{"message":"no"}}"#,
        );
        let body = Bytes::from_static(br#"{"choices":[{"text":"a","index":0}]}"#);
        let rules = rules(Endpoint::Completions, "p", ThinkingFormat::Strip);
        let answer = rewrite(&body, &rules).unwrap();
        assert_eq!(answer.segments.concat(), br#"{"choices":[{"text":"pa","index":0}]}"#);
    }

    /// Puts `from` through each format, as the message of a choice.
    #[track_caller]
    fn check_message(format: ThinkingFormat, from: &str, to: &str) {
        let body = |message: &str| format!(r#"{{"id":"x","choices":[{{"message":{message},"index":0}}]}}"#);
        check("", format, &body(from), &body(to));
    }

    #[test]
    fn thinking_goes_where_it_is_wanted() {
        // parity: 85
        use ThinkingFormat::{Passthrough, Reasoning, ReasoningContent, Strip, ThinkTag};
        let tags = r#"{"role":"assistant","content":"<think>a</think>b","tool_calls":null}"#;
        check_message(Passthrough, tags, tags);
        check_message(ThinkTag, tags, tags);
        check_message(
            Reasoning,
            tags,
            r#"{"role":"assistant","reasoning":"a","content":"b","tool_calls":null}"#,
        );
        check_message(Strip, tags, r#"{"role":"assistant","content":"b","tool_calls":null}"#);
        let field = r#"{"reasoning_content":"a","content":"b"}"#;
        check_message(Passthrough, field, field);
        check_message(ReasoningContent, field, field);
        check_message(Reasoning, field, r#"{"reasoning":"a","content":"b"}"#);
        check_message(ThinkTag, field, r#"{"content":"<think>a</think>b"}"#);
        check_message(Strip, field, r#"{"content":"b"}"#);
        let both = r#"{"content":"<think>c</think>b","reasoning":"a","reasoning_content":"a"}"#;
        check_message(Reasoning, both, r#"{"reasoning":"a","content":"<think>c</think>b"}"#);
        check_message(Strip, both, r#"{"content":"b"}"#);
        let nulls = r#"{"content":"b","reasoning_content":null,"reasoning":""}"#;
        for format in [ReasoningContent, Reasoning, ThinkTag, Strip] {
            check_message(format, nulls, nulls);
        }
        check_message(ThinkTag, r#"{"reasoning":"a","content":null}"#, r#"{"content":"<think>a</think>"}"#);
        check_message(Reasoning, r#"{"reasoning_content":"a"}"#, r#"{"reasoning":"a"}"#);
        let parts = r#"{"reasoning":"a","content":[{"type":"text","text":"b"}]}"#;
        check_message(ThinkTag, parts, parts);
    }

    #[track_caller]
    fn check_facts(body: &str, expected: Facts) {
        check_facts_at(Endpoint::ChatCompletions, body, expected);
    }

    #[track_caller]
    fn check_facts_at(endpoint: Endpoint, body: &str, expected: Facts) {
        assert_eq!(inspect(endpoint, body.as_bytes()).unwrap(), expected);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let rules = Rules { endpoint, ..rules(endpoint, "p", ThinkingFormat::Strip) };
        if endpoint.dialect() != Dialect::OpenAi {
            assert_eq!(rewrite(&body, &rules).unwrap().segments, [body], "it is not edited");
        }
    }

    #[test]
    fn a_message_of_anthropics_is_read_for_the_record() {
        let messages = Endpoint::Messages;
        let usage = Some(Usage { input: 15, output: 4, cached: 2, cache_written: 10, ..Usage::default() });
        let cost = r#""usage":{"input_tokens":3,"cache_read_input_tokens":2,"cache_creation_input_tokens":10,"output_tokens":4}"#;
        let facts = |finish_reason| Facts { has_content: true, finish_reason, usage, error: None };
        for (reason, expected) in [
            ("\"end_turn\"", Some(StopReason::Stop)),
            ("\"stop_sequence\"", Some(StopReason::Stop)),
            ("\"max_tokens\"", Some(StopReason::Length)),
            ("\"model_context_window_exceeded\"", Some(StopReason::Length)),
            ("\"tool_use\"", Some(StopReason::ToolCalls)),
            ("\"refusal\"", Some(StopReason::ContentFilter)),
            ("\"pause_turn\"", Some(StopReason::Other)),
            ("null", None),
            ("7", None),
        ] {
            let body = format!(
                r#"{{"id":"msg_1","type":"message","content":[{{"type":"text","text":"a"}}],"stop_reason":{reason},{cost}}}"#
            );
            check_facts_at(messages, &body, facts(expected));
        }
        check_facts_at(messages, r#"{"type":"message","content":[]}"#, Facts::default());
        let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"no"}}"#;
        check_facts_at(messages, error, Facts { error: Some("no".into()), ..Facts::default() });
        check_facts_at(messages, "[7]", Facts::default());
    }

    #[test]
    fn an_answer_of_googles_is_read_for_the_record() {
        let gemini = Endpoint::GenerateContent;
        let facts = |reason| Facts { has_content: true, finish_reason: Some(reason), ..Facts::default() };
        let answer = |part: &str, reason: &str| {
            format!(r#"{{"candidates":[{{"content":{{"parts":[{part}]}},"finishReason":"{reason}"}}]}}"#)
        };
        let text = r#"{"text":"a"}"#;
        check_facts_at(gemini, &answer(text, "STOP"), facts(StopReason::Stop));
        check_facts_at(gemini, &answer(text, "MAX_TOKENS"), facts(StopReason::Length));
        check_facts_at(gemini, &answer(text, "SAFETY"), facts(StopReason::ContentFilter));
        check_facts_at(gemini, &answer(text, "MALFORMED_FUNCTION_CALL"), facts(StopReason::Other));
        let call = r#"{"functionCall":{"name":"f","args":{}}}"#;
        check_facts_at(gemini, &answer(call, "STOP"), facts(StopReason::ToolCalls));
        let unspecified = answer(text, "FINISH_REASON_UNSPECIFIED");
        check_facts_at(gemini, &unspecified, Facts { has_content: true, ..Facts::default() });
        let usage = Some(Usage { input: 3, output: 9, reasoning: 5, ..Usage::default() });
        let counts =
            r#"{"promptTokenCount":3,"candidatesTokenCount":4,"thoughtsTokenCount":5,"totalTokenCount":12}"#;
        let blocked = format!(r#"{{"promptFeedback":{{"blockReason":"SAFETY"}},"usageMetadata":{counts}}}"#);
        let stopped = Some(StopReason::ContentFilter);
        check_facts_at(gemini, &blocked, Facts { finish_reason: stopped, usage, ..Facts::default() });
        // A list is what it streams when it is not asked for events.
        let list = format!(r#"[{}, {{"usageMetadata":{counts}}}]"#, answer(text, "STOP"));
        check_facts_at(gemini, &list, Facts { usage, ..facts(StopReason::Stop) });
        let error = r#"[{"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED"}}]"#;
        check_facts_at(gemini, error, Facts { error: Some("no".into()), ..Facts::default() });
        check_facts_at(gemini, r#"{"candidates":[{"content":{"parts":[]}},7]}"#, Facts::default());
    }

    #[test]
    fn counts_and_embeddings_are_content() {
        let content = Facts { has_content: true, ..Facts::default() };
        check_facts_at(Endpoint::CountMessageTokens, r#"{"input_tokens":0}"#, content.clone());
        check_facts_at(Endpoint::CountContentTokens, r#"{"totalTokens":5}"#, content.clone());
        check_facts_at(Endpoint::EmbedContent, r#"{"embedding":{"values":[0.1]}}"#, content.clone());
        check_facts_at(Endpoint::BatchEmbedContents, r#"{"embeddings":[{"values":[0.1]}]}"#, content);
        for endpoint in [
            Endpoint::CountMessageTokens,
            Endpoint::CountContentTokens,
            Endpoint::EmbedContent,
            Endpoint::BatchEmbedContents,
        ] {
            for empty in
                ["{}", "5", r#"{"input_tokens":"x","totalTokens":null,"embedding":{},"embeddings":[]}"#]
            {
                check_facts_at(endpoint, empty, Facts::default());
            }
        }
    }

    #[test]
    fn an_answer_is_read_for_the_record() {
        let usage = Some(Usage { input: 3, output: 4, ..Usage::default() });
        let stopped = Some(StopReason::Stop);
        check_facts(
            r#"{"choices":[{"message":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            Facts { has_content: true, finish_reason: stopped, usage, error: None },
        );
        check_facts(
            r#"{"object":"response","status":"completed","output":[{}],"usage":{"input_tokens":3,"output_tokens":4}}"#,
            Facts { has_content: true, finish_reason: stopped, usage, error: None },
        );
        // parity: 91
        check_facts(r#"{"timings":{"prompt_n":3,"predicted_n":4}}"#, Facts { usage, ..Facts::default() });
        check_facts(r#"{"error":{"message":"no"}}"#, Facts { error: Some("no".into()), ..Facts::default() });
        check_facts(r#"[1]"#, Facts::default());
    }

    #[test]
    fn what_is_not_json_is_the_upstreams_fault() {
        for body in ["", "<html>", r#"{"a":1"#, "{} {}", "\"\u{1}\""] {
            let error = inspect(Endpoint::ChatCompletions, body.as_bytes()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::UpstreamInvalid, "{body}");
        }
        assert_eq!(
            inspect(Endpoint::ChatCompletions, b"\"\xff\"").unwrap_err().kind,
            ErrorKind::UpstreamInvalid
        );
    }
}
