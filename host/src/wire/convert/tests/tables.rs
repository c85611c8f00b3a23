//! What is done about everything that a surface cannot say: each row of each table, shown.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::{request_of, terms};
use crate::chat::{Action, Field};
use crate::error::ErrorKind;
use crate::wire::Surface;
use crate::wire::convert::{decode_request, encode_request, table};

use Surface::{Chat, Gemini, Messages, Responses};

/// A request that needs a row: for which upstream, by which client, and its members, to which the model and, if it has
/// none, a conversation are added. Then a place in what comes out, and what is there; nothing where it is left out, and not
/// looked at where it is refused.
type Case = (Surface, Surface, Field, &'static str, &'static str, &'static str);

const ASKED_FOR_JSON: &str =
    "\"Answer with one JSON object and nothing else: no text around it and no code fence.\"";

#[rustfmt::skip]
const CASES: &[Case] = &[
    (Chat, Responses, Field::Developer, r#""input":[{"role":"developer","content":"d"},{"role":"user","content":"a"}]"#, "/messages/0/role", r#""system""#),
    (Chat, Gemini, Field::Audio, r#""contents":[{"parts":[{"fileData":{"mimeType":"audio/wav","fileUri":"https://a/b.wav"}}]}]"#, "", ""),
    (Chat, Messages, Field::File, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}]}]"#, "/messages/0/content", r#""d""#),
    (Chat, Messages, Field::FileUrl, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"url","url":"https://a/b.pdf"}}]}]"#, "", ""),
    (Chat, Messages, Field::FileId, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]"#, "", ""),
    (Chat, Messages, Field::ContentKind, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"container_upload","file_id":"f"}]}]"#, "", ""),
    (Chat, Messages, Field::Thinking, r#""max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"b"}]},{"role":"user","content":"c"}]"#, "/messages/1/thinking_blocks", ""),
    (Chat, Messages, Field::ToolResultMedia, r#""max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]}]}]"#, "/messages/3/content/0/image_url/url", r#""data:image/png;base64,AAAA""#),
    (Chat, Messages, Field::ToolResultError, r#""max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":"no","is_error":true}]}]"#, "/messages/2/is_error", ""),
    (Chat, Messages, Field::CacheControl, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]"#, "/messages/0/content/0/cache_control", ""),
    (Chat, Messages, Field::VendorTool, r#""max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "", ""),
    (Chat, Responses, Field::ToolChoiceAmong, r#""tools":[{"type":"function","name":"f","parameters":{}},{"type":"function","name":"g","parameters":{}}],"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"g"}]}"#, "/tools/0/function/name", r#""g""#),
    (Chat, Messages, Field::TopK, r#""model":"gpt-5","max_tokens":9,"top_k":5"#, "/top_k", ""),
    (Chat, Messages, Field::StopCount, r#""model":"gpt-5","max_tokens":9,"stop_sequences":["a","b","c","d","e"]"#, "", ""),
    (Chat, Messages, Field::Reasoning, r#""max_tokens":9000,"thinking":{"type":"enabled","budget_tokens":8000}"#, "/reasoning_effort", r#""medium""#),
    (Chat, Gemini, Field::Modalities, r#""generationConfig":{"responseModalities":["AUDIO"]}"#, "", ""),
    (Chat, Responses, Field::Metadata, r#""metadata":{"k":"v"}"#, "/metadata", ""),
    (Chat, Messages, Field::ServiceTier, r#""max_tokens":9,"service_tier":"batch""#, "/service_tier", ""),
    (Chat, Gemini, Field::StoredConversation, r#""cachedContent":"cachedContents/c""#, "", ""),
    (Chat, Gemini, Field::Unknown, r#""safetySettings":[]"#, "/safetySettings", ""),

    (Messages, Chat, Field::SystemInside, r#""messages":[{"role":"user","content":"a"},{"role":"system","content":"s"},{"role":"user","content":"b"}]"#, "/system/0/text", r#""s""#),
    (Messages, Chat, Field::Developer, r#""messages":[{"role":"developer","content":"d"},{"role":"user","content":"a"}]"#, "/system/0/text", r#""d""#),
    (Messages, Chat, Field::MessageName, r#""messages":[{"role":"user","name":"n","content":"a"}]"#, "/messages/0/name", ""),
    (Messages, Chat, Field::ImageDetail, r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b.png","detail":"low"}}]}]"#, "/messages/0/content/0/detail", ""),
    (Messages, Chat, Field::Audio, r#""messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]"#, "", ""),
    (Messages, Chat, Field::File, r#""messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.zip","file_data":"data:application/zip;base64,AAAA"}}]}]"#, "", ""),
    (Messages, Gemini, Field::FileUrl, r#""contents":[{"parts":[{"fileData":{"mimeType":"application/pdf","fileUri":"gs://a/b.pdf"}}]}]"#, "", ""),
    (Messages, Chat, Field::FileId, r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#, "", ""),
    (Messages, Chat, Field::ContentKind, r#""messages":[{"role":"user","content":[{"type":"new"}]}]"#, "", ""),
    (Messages, Chat, Field::Thinking, r#""messages":[{"role":"user","content":"a"},{"role":"assistant","reasoning_content":"t","content":"b"},{"role":"user","content":"c"}]"#, "/messages/1/content/0/type", r#""text""#),
    (Messages, Responses, Field::VendorTool, r#""tools":[{"type":"web_search"}]"#, "", ""),
    (Messages, Chat, Field::ToolChoiceAmong, r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}"#, "/tools/0/name", r#""g""#),
    (Messages, Chat, Field::ToolRequired, r#""model":"claude-opus-5-5","tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"required""#, "/tool_choice/type", r#""auto""#),
    (Messages, Chat, Field::Temperature, r#""temperature":1.5"#, "/temperature", "1.0"),
    (Messages, Chat, Field::TopP, r#""model":"claude-haiku-4-5","temperature":0.5,"top_p":0.5"#, "/top_p", ""),
    (Messages, Chat, Field::TopK, r#""model":"claude-opus-4-7","top_k":5"#, "/top_k", ""),
    (Messages, Chat, Field::Stop, r#""stop":[" ","E"]"#, "/stop_sequences", r#"["E"]"#),
    (Messages, Chat, Field::Seed, r#""seed":5"#, "/seed", ""),
    (Messages, Chat, Field::N, r#""n":2"#, "", ""),
    (Messages, Chat, Field::PresencePenalty, r#""presence_penalty":1"#, "/presence_penalty", ""),
    (Messages, Chat, Field::FrequencyPenalty, r#""frequency_penalty":1"#, "/frequency_penalty", ""),
    (Messages, Chat, Field::Logprobs, r#""logprobs":true"#, "", ""),
    (Messages, Chat, Field::LogitBias, r#""logit_bias":{"1":5}"#, "", ""),
    (Messages, Chat, Field::Reasoning, r#""reasoning_effort":"low","max_tokens":1024"#, "/thinking", ""),
    (Messages, Chat, Field::JsonSchema, r#""response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object","properties":{"a":{"type":"integer","minimum":3}}}}}"#, "/output_config/format/schema/additionalProperties", "false"),
    (Messages, Chat, Field::JsonObject, r#""response_format":{"type":"json_object"}"#, "/system/0/text", ASKED_FOR_JSON),
    (Messages, Chat, Field::Modalities, r#""modalities":["text","audio"]"#, "", ""),
    (Messages, Chat, Field::Metadata, r#""metadata":{"k":"v"}"#, "/metadata", ""),
    (Messages, Chat, Field::ServiceTier, r#""service_tier":"flex""#, "/service_tier", ""),
    (Messages, Gemini, Field::StoredConversation, r#""cachedContent":"cachedContents/c""#, "", ""),
    (Messages, Chat, Field::Unknown, r#""x":1"#, "/x", ""),

    (Gemini, Chat, Field::SystemInside, r#""messages":[{"role":"user","content":"a"},{"role":"system","content":"s"},{"role":"user","content":"b"}]"#, "/systemInstruction/parts/0/text", r#""s""#),
    (Gemini, Chat, Field::Developer, r#""messages":[{"role":"developer","content":"d"},{"role":"user","content":"a"}]"#, "/systemInstruction/parts/0/text", r#""d""#),
    (Gemini, Chat, Field::MessageName, r#""messages":[{"role":"user","name":"n","content":"a"}]"#, "/contents/0/name", ""),
    (Gemini, Chat, Field::ImageUrl, r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b"}}]}]"#, "", ""),
    (Gemini, Chat, Field::ImageDetail, r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a/b.png","detail":"low"}}]}]"#, "/contents/0/parts/0/mediaResolution", ""),
    (Gemini, Responses, Field::FileUrl, r#""input":[{"role":"user","content":[{"type":"input_file","file_url":"https://a/b"}]}]"#, "", ""),
    (Gemini, Chat, Field::FileId, r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#, "", ""),
    (Gemini, Chat, Field::ContentKind, r#""messages":[{"role":"user","content":[{"type":"new"}]}]"#, "", ""),
    (Gemini, Messages, Field::Thinking, r#""max_tokens":9,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"s"},{"type":"text","text":"b"}]},{"role":"user","content":"c"}]"#, "/contents/1/parts/0", r#"{"text":"t","thought":true}"#),
    (Gemini, Messages, Field::CacheControl, r#""max_tokens":9,"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]"#, "/contents/0/parts/0/cache_control", ""),
    (Gemini, Messages, Field::VendorTool, r#""max_tokens":9,"tools":[{"type":"web_search_20250305","name":"web_search"}]"#, "", ""),
    (Gemini, Chat, Field::ToolStrict, r#""tools":[{"type":"function","function":{"name":"f","strict":true}}]"#, "/tools/0/functionDeclarations/0/strict", ""),
    (Gemini, Chat, Field::ParallelToolCalls, r#""parallel_tool_calls":false"#, "/parallel_tool_calls", ""),
    (Gemini, Chat, Field::Seed, r#""seed":4294967301"#, "/generationConfig/seed", "5"),
    (Gemini, Messages, Field::Reasoning, r#""model":"gemini-2.5-pro","max_tokens":9,"thinking":{"type":"disabled"}"#, "/generationConfig/thinkingConfig/thinkingBudget", "128"),
    (Gemini, Chat, Field::Modalities, r#""modalities":["text","image"]"#, "", ""),
    (Gemini, Chat, Field::LogitBias, r#""logit_bias":{"1":5}"#, "", ""),
    (Gemini, Chat, Field::StopCount, r#""stop":["a","b","c","d","e","f"]"#, "", ""),
    (Gemini, Chat, Field::User, r#""user":"u""#, "/user", ""),
    (Gemini, Chat, Field::Metadata, r#""metadata":{"k":"v"}"#, "/labels", ""),
    (Gemini, Chat, Field::ServiceTier, r#""service_tier":"scale""#, "/serviceTier", ""),
    (Gemini, Messages, Field::StoredConversation, r#""max_tokens":9,"container":"c""#, "", ""),
    (Gemini, Chat, Field::Unknown, r#""x":1"#, "/x", ""),
];

/// The body of a client's request with these members.
fn body(client: Surface, members: &str) -> Bytes {
    let (name, conversation) = match client {
        Chat | Messages => ("\"messages\":", r#""messages":[{"role":"user","content":"a"}]"#),
        Responses => ("\"input\":", r#""input":"a""#),
        Gemini => ("\"contents\":", r#""contents":[{"parts":[{"text":"a"}]}]"#),
    };
    let mut body = format!("{{{members}");
    if !members.contains(name) {
        body = format!("{body},{conversation}");
    }
    if client != Gemini && !members.contains("\"model\":") {
        body.push_str(r#","model":"m""#);
    }
    body.push('}');
    body.into()
}

fn check(&(target, client, field, members, place, expected): &Case) {
    let row = table(target).iter().find(|row| row.field == field);
    let row = row.unwrap_or_else(|| panic!("{} has no row for {field:?}", target.label()));
    let request = decode_request(client, &request_of(client, body(client, members))).unwrap();
    let mut terms = terms(client, target);
    let encoded = encode_request(&request, &mut terms);
    if row.action == Action::Refuse {
        let error = encoded.unwrap_err();
        let name = field.name(client).unwrap();
        assert_eq!(error.kind, ErrorKind::Inexpressible, "{members}");
        assert_eq!(error.param.as_deref(), Some(name), "{members}");
        let expected = format!("`{name}` cannot be expressed for the upstream `up`: {}", row.how);
        assert_eq!(error.message, expected);
        return;
    }
    let made = encoded.unwrap_or_else(|error| panic!("{members}: {}", error.message));
    assert!(terms.losses.contains(&field), "{members}: {:?} has no {field:?}", terms.losses);
    let made: Value = serde_json::from_slice(&made).unwrap();
    let expected: Option<Value> = (!expected.is_empty()).then(|| serde_json::from_str(expected).unwrap());
    assert_eq!(made.pointer(place), expected.as_ref(), "{members} became {made}");
}

// parity: 97, 101, 102, 103, 104, 105
#[test]
fn every_row_does_what_it_says() {
    CASES.iter().for_each(check);
}

#[test]
fn every_row_has_a_case() {
    let shown: BTreeSet<_> = CASES.iter().map(|(target, _, field, ..)| (*target, *field)).collect();
    let rows =
        Surface::ALL.iter().flat_map(|&target| table(target).iter().map(move |row| (target, row.field)));
    assert_eq!(shown, rows.collect());
}
