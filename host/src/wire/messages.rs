//! The conversation in a request as plugins see it, and their edits of it.
//!
//! Every kind of request has its texts somewhere else; here they are one list of turns, the same for the same conversation
//! in any dialect. An edit is made in the document, where everything around it stays byte for byte. A text of several
//! parts is the parts joined without anything between them, as it is everywhere in the gateway.
//!
//! Source: OpenAI, API reference, request bodies; Anthropic, API reference, Messages; Google, Gemini API reference,
//! Content; seen 2026-11; vLLM, OpenAI-compatible server, for rerank, score and classify.

mod texts;
mod turns;

use std::borrow::Cow;

use bytes::Bytes;

use crate::chat::Turn;
use crate::wire::Endpoint;
use crate::wire::document::Document;
use crate::wire::json::{Kind, Scanner, SyntaxError, quote};
use turns::Grammar;

/// Returns the turns of a request's conversation, in order; none where the endpoint has no texts.
///
/// A prompt, an input, a query and each of several is a `user` turn. In a chat every message is a turn; of the items of
/// `/responses` those of the type `message`, after `instructions`, which are the first turn, a `system` one. Of Anthropic's
/// and Google's requests each text of the instructions is a `system` turn, and each result of a tool a `tool` turn, before
/// what else its message has; Google's `model` is `assistant`.
pub fn messages(endpoint: Endpoint, document: &Document) -> Vec<Turn> {
    match Grammar::of(endpoint) {
        Some(grammar) => turns::messages(grammar, endpoint, document),
        None => texts::messages(endpoint, document),
    }
}

/// The model that a request names, if it is a text. Google's have it in their path.
pub fn model(document: &Document) -> Option<String> {
    let json = document.get("/model").ok().flatten()?;
    serde_json::from_str(json).ok()
}

/// Whether a request of OpenAI's dialect asks for the usage of its stream; the streams of the others always tell it.
pub fn asks_usage(document: &Document) -> bool {
    document.get("/stream_options/include_usage") == Ok(Some("true"))
}

/// Sets the text of a message. Of several text parts the first one gets it and the others go; what is not text stays.
///
/// # Errors
///
/// There is no such message.
pub fn set_message(
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    text: &str,
) -> Result<(), String> {
    match Grammar::of(endpoint) {
        Some(grammar) => turns::set_message(grammar, endpoint, document, index, text),
        None => texts::set_message(endpoint, document, index, text),
    }
}

/// Inserts a message before the one at `index`, or at the number of messages behind the last.
///
/// A lone `prompt` or `input` becomes a list. What comes before the `instructions` of `/responses` makes them the first
/// item of `input`. What comes between the turns of one message of Anthropic's or Google's cuts it in two.
///
/// # Errors
///
/// There is no such place, or the role or another text is not possible there.
pub fn insert_message(
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    role: &str,
    text: &str,
) -> Result<(), String> {
    match Grammar::of(endpoint) {
        Some(grammar) => turns::insert_message(grammar, endpoint, document, index, role, text),
        None => texts::insert_message(endpoint, document, index, role, text),
    }
}

/// Removes a message.
///
/// # Errors
///
/// There is no such message.
pub fn remove_message(endpoint: Endpoint, document: &mut Document, index: usize) -> Result<(), String> {
    match Grammar::of(endpoint) {
        Some(grammar) => turns::remove_message(grammar, endpoint, document, index),
        None => texts::remove_message(endpoint, document, index),
    }
}

fn missing(index: usize, count: usize) -> String {
    let noun = if count == 1 { "message" } else { "messages" };
    format!("there is no message {index}, the conversation has {count} {noun}")
}

/// The JSON texts of an array's elements.
fn elements(array: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    let mut scanner = Scanner::new(array.as_bytes());
    let scanned = scanner.array(|scanner| {
        let range = scanner.skip()?;
        elements.push(scanner.slice(range));
        Ok(())
    });
    debug_assert!(scanned.is_ok(), "it has been read before");
    elements
}

/// Whether a part of a content is text.
fn has_text(part: &str) -> bool {
    part.starts_with('{') && matches!(part_text(&mut Scanner::new(part.as_bytes())), Ok(Some(_)))
}

/// Reads the `text` of an object, if it has one.
fn part_text<'a>(scanner: &mut Scanner<'a>) -> Result<Option<Cow<'a, str>>, SyntaxError> {
    let mut text = None;
    scanner.object(|scanner, name| {
        if !name.is("text") {
            return scanner.skip().map(drop);
        }
        if scanner.peek()? == Kind::String {
            text = Some(scanner.string()?.decode());
            return Ok(());
        }
        text = None;
        scanner.skip().map(drop)
    })?;
    Ok(text)
}

/// Returns a content's `parts` with another text: the first of those that are text gets it and the others go. If there is
/// none, `new` is put behind the parts that must stand first.
fn with_text(
    parts: &str,
    text: &str,
    new: &str,
    is_text: impl Fn(&str) -> bool,
    is_first: impl Fn(&str) -> bool,
) -> Result<String, String> {
    let elements = elements(parts);
    let texts: Vec<bool> = elements.iter().map(|part| is_text(part)).collect();
    let mut list = Document::trusted(Bytes::copy_from_slice(parts.as_bytes()));
    match texts.iter().position(|is_text| *is_text) {
        Some(first) => {
            list.set(&format!("/{first}/text"), &quoted(text))?;
            list.remove_elements(|index| index != first && texts[index]);
        }
        None => {
            let firsts = elements.iter().take_while(|part| is_first(part)).count();
            list.insert(firsts, new.as_bytes());
        }
    }
    into_text(list)
}

fn message(role: &str, literal: &str) -> String {
    format!(r#"{{"role":{},"content":{literal}}}"#, quoted(role))
}

fn into_text(document: Document) -> Result<String, String> {
    String::from_utf8(document.into_bytes().into()).map_err(|error| error.to_string())
}

fn quoted(text: &str) -> String {
    let mut literal = Vec::with_capacity(text.len() + 2);
    quote(text, &mut literal);
    String::from_utf8(literal).expect("a quoted text is text")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use Endpoint::*;

    fn document(json: &str) -> Document {
        Document::new(Bytes::copy_from_slice(json.as_bytes())).unwrap()
    }

    fn turns(endpoint: Endpoint, document: &Document) -> Vec<(String, String)> {
        messages(endpoint, document).into_iter().map(|turn| (turn.role, turn.text)).collect()
    }

    #[track_caller]
    fn check(endpoint: Endpoint, json: &str, expected: &[(&str, &str)]) {
        let expected: Vec<_> =
            expected.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect();
        assert_eq!(turns(endpoint, &document(json)), expected);
    }

    #[track_caller]
    fn check_set(endpoint: Endpoint, json: &str, index: usize, text: &str, expected: &str) {
        let mut document = document(json);
        assert_eq!(set_message(endpoint, &mut document, index, text), Ok(()));
        assert_eq!(document.bytes(), expected);
    }

    #[track_caller]
    fn check_insert(endpoint: Endpoint, json: &str, index: usize, role: &str, expected: &str) {
        let mut document = document(json);
        assert_eq!(insert_message(endpoint, &mut document, index, role, "\"x\""), Ok(()));
        assert_eq!(document.bytes(), expected);
    }

    #[track_caller]
    fn check_refused(endpoint: Endpoint, json: &str, index: usize, role: &str, expected: &str) {
        let mut document = document(json);
        assert_eq!(insert_message(endpoint, &mut document, index, role, "x"), Err(expected.to_owned()));
        assert_eq!(document.bytes(), json);
    }

    #[track_caller]
    fn check_remove(endpoint: Endpoint, json: &str, index: usize, expected: &str) {
        let mut document = document(json);
        assert_eq!(remove_message(endpoint, &mut document, index), Ok(()));
        assert_eq!(document.bytes(), expected);
    }

    #[test]
    fn every_message_of_a_chat_is_a_turn() {
        check(
            ChatCompletions,
            r#"{"messages":[{"role":"developer","content":"s"},{"content":[{"type":"text","text":"a\n"},{"type":"image_url"},
            {"type":"text","text":"b"}],"role":"user"},{"role":"assistant","content":null,"tool_calls":[]},
            {"role":"tool","content":"t"},{"role":"function","content":"f"},{"role":"critic"},{"content":7}]}"#,
            &[
                ("system", "s"),
                ("user", "a\nb"),
                ("assistant", ""),
                ("tool", "t"),
                ("tool", "f"),
                ("critic", ""),
                ("", ""),
            ],
        );
        check(ChatCompletions, r#"{"messages":"a","prompt":"b"}"#, &[]);
        check(ChatCompletions, "{}", &[]);
        check(ChatCompletions, "[1]", &[]);
    }

    #[test]
    fn of_a_repeated_name_the_last_value_counts() {
        check(
            ChatCompletions,
            r#"{"messages":[],"messages":[{"role":"a","content":"b","role":"user","content":[{"text":"c","text":"d"}]}]}"#,
            &[("user", "d")],
        );
    }

    #[test]
    fn prompts_inputs_and_queries_are_user_turns() {
        check(Completions, r#"{"prompt":"\u00e9"}"#, &[("user", "é")]);
        check(Completions, r#"{"prompt":["a","b"]}"#, &[("user", "a"), ("user", "b")]);
        check(Completions, r#"{"prompt":[1,2]}"#, &[]);
        check(Completions, r#"{"prompt":[[1],[2]]}"#, &[]);
        check(ImagesGenerations, r#"{"prompt":"a"}"#, &[("user", "a")]);
        check(Embeddings, r#"{"input":["a","b"]}"#, &[("user", "a"), ("user", "b")]);
        check(Embeddings, r#"{"messages":[{"role":"system","content":"a"}]}"#, &[("system", "a")]);
        check(
            Moderations,
            r#"{"input":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"b"}}]}"#,
            &[("user", "a")],
        );
        check(AudioSpeech, r#"{"input":"a","instructions":"b"}"#, &[("user", "a")]);
        check(
            Rerank,
            r#"{"query":"q","documents":["a",{"text":"b"}]}"#,
            &[("user", "q"), ("user", "a"), ("user", "b")],
        );
        check(Score, r#"{"text_2":["b","c"],"text_1":"a"}"#, &[("user", "a"), ("user", "b"), ("user", "c")]);
        check(Models, r#"{"input":"a","messages":[]}"#, &[]);
    }

    #[test]
    fn instructions_and_message_items_of_responses_are_turns() {
        check(Responses, r#"{"input":"a","instructions":"s"}"#, &[("system", "s"), ("user", "a")]);
        check(
            Responses,
            r#"{"instructions":null,"input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image"}]},
            {"type":"reasoning","summary":[]},{"type":"function_call_output","output":"o"},{"type":"other","role":"user","content":"n"},
            {"type":"message","role":"assistant","content":[{"type":"output_text","text":"b"}]}]}"#,
            &[("user", "a"), ("assistant", "b")],
        );
    }

    #[test]
    fn set_replaces_the_text_and_keeps_the_rest() {
        let chat = |message: &str| format!("{{ \"messages\" : [ {message} ] , \"n\":1.0}}");
        let check = |message: &str, expected: &str| {
            check_set(ChatCompletions, &chat(message), 0, "x\n", &chat(expected));
        };
        check(r#"{"role": "user", "content" : "a"}"#, r#"{"role": "user", "content" : "x\n"}"#);
        check(
            r#"{"role":"assistant","tool_calls":[]}"#,
            r#"{"role":"assistant","tool_calls":[],"content":"x\n"}"#,
        );
        check(r#"{"content":null}"#, r#"{"content":"x\n"}"#);
        check(r#"{"content":{"a":1}}"#, r#"{"content":"x\n"}"#);
        check(r#"{"content":"a","content":"b"}"#, r#"{"content":"x\n"}"#);
        check(
            r#"{"content":[ {"i":0.0}, {"text":"a","k":1e0}, {"text":"b"} , {"j":0}]}"#,
            r#"{"content":[ {"i":0.0}, {"text":"x\n","k":1e0} , {"j":0}]}"#,
        );
        check(r#"{"content":[{"text":"a"},{"text":"b"}]}"#, r#"{"content":[{"text":"x\n"}]}"#);
        check(r#"{"content":[{"text":"a","text":"b"}]}"#, r#"{"content":[{"text":"x\n"}]}"#);
        check(r#"{"content":[]}"#, r#"{"content":[{"type":"text","text":"x\n"}]}"#);
        check(r#"{"content":[{"i":0}]}"#, r#"{"content":[{"type":"text","text":"x\n"},{"i":0}]}"#);
    }

    #[test]
    fn set_finds_every_place_a_text_may_have() {
        check_set(Completions, r#"{"prompt": "a" }"#, 0, "x", r#"{"prompt": "x" }"#);
        check_set(Embeddings, r#"{"input":["a", "b"]}"#, 1, "x", r#"{"input":["a", "x"]}"#);
        check_set(
            Rerank,
            r#"{"query":"q","documents":[{"text":"a","id":1}]}"#,
            1,
            "x",
            r#"{"query":"q","documents":[{"text":"x","id":1}]}"#,
        );
        let responses = r#"{"instructions":"s","input":[{"type":"function_call"},{"role":"assistant","content":[{"type":"refusal"}]}]}"#;
        check_set(Responses, responses, 0, "x", &responses.replace("\"s\"", "\"x\""));
        check_set(
            Responses,
            responses,
            1,
            "x",
            &responses
                .replace(r#"[{"type":"refusal""#, r#"[{"type":"output_text","text":"x"},{"type":"refusal""#),
        );
    }

    #[test]
    fn insert_writes_an_item_of_the_kind_that_is_there() {
        let chat = r#"{"messages":[ {"role":"user","content":"a"}, {"role":"user","content":"b"} ]}"#;
        let new = r#"{"role":"system","content":"\"x\""}"#;
        check_insert(ChatCompletions, chat, 0, "system", &chat.replace("[ ", &format!("[ {new},")));
        check_insert(ChatCompletions, chat, 1, "system", &chat.replace(", {", &format!(", {new},{{")));
        check_insert(ChatCompletions, chat, 2, "system", &chat.replace(" ]", &format!(",{new} ]")));
        check_insert(ChatCompletions, "{}", 0, "system", &format!(r#"{{"messages":[{new}]}}"#));
        check_insert(
            ChatCompletions,
            r#"{"messages":[]}"#,
            0,
            "system",
            &format!(r#"{{"messages":[{new}]}}"#),
        );
        check_insert(Completions, r#"{"prompt":"a"}"#, 0, "user", r#"{"prompt":["\"x\"","a"]}"#);
        check_insert(Completions, r#"{"prompt":"a"}"#, 1, "user", r#"{"prompt":["a","\"x\""]}"#);
        check_insert(Completions, "{}", 0, "user", r#"{"prompt":"\"x\""}"#);
        check_insert(
            Rerank,
            r#"{"query":"q","documents":[{"text":"a"}]}"#,
            1,
            "user",
            r#"{"query":"q","documents":[{"text":"\"x\""},{"text":"a"}]}"#,
        );
        check_insert(
            Moderations,
            r#"{"input":[{"type":"image_url"},{"type":"text","text":"a"}]}"#,
            1,
            "user",
            r#"{"input":[{"type":"image_url"},{"type":"text","text":"a"},{"type":"text","text":"\"x\""}]}"#,
        );
    }

    #[test]
    fn insert_before_instructions_makes_them_an_item() {
        let new = r#"{"role":"system","content":"\"x\""}"#;
        check_insert(
            Responses,
            r#"{"instructions":"s\u00e9","input":"a"}"#,
            0,
            "system",
            &format!(
                r#"{{"input":[{new},{{"role":"system","content":"s\u00e9"}},{{"role":"user","content":"a"}}]}}"#
            ),
        );
        check_insert(
            Responses,
            r#"{"instructions":"s","input":"a"}"#,
            1,
            "system",
            &format!(r#"{{"instructions":"s","input":[{new},{{"role":"user","content":"a"}}]}}"#),
        );
        check_insert(
            Responses,
            r#"{"input":[{"type":"function_call"},{"role":"user","content":"a"},{"type":"reasoning"}]}"#,
            1,
            "system",
            &format!(
                r#"{{"input":[{{"type":"function_call"}},{{"role":"user","content":"a"}},{{"type":"reasoning"}},{new}]}}"#
            ),
        );
        check_insert(
            Responses,
            r#"{"instructions":"s"}"#,
            1,
            "system",
            &format!(r#"{{"instructions":"s","input":[{new}]}}"#),
        );
    }

    #[test]
    fn what_cannot_be_inserted_says_why() {
        let chat = r#"{"messages":[{"role":"user"}]}"#;
        check_refused(
            ChatCompletions,
            chat,
            2,
            "user",
            "there is no message 2, the conversation has 1 message",
        );
        check_refused(ChatCompletions, chat, 0, "", "a message needs a role");
        check_refused(
            ChatCompletions,
            chat,
            0,
            "tool",
            "a `tool` message needs more than a text; set `/messages/-` to the whole of it",
        );
        check_refused(
            Completions,
            r#"{"prompt":"a"}"#,
            0,
            "system",
            "`prompt` has no roles; every message of it is of `user`",
        );
        check_refused(
            Completions,
            r#"{"prompt":[1,2]}"#,
            0,
            "user",
            "`prompt` holds tokens, a text cannot be put beside them",
        );
        check_refused(Rerank, r#"{"query":"q"}"#, 0, "user", "`query` is no list, nothing can be inserted");
        check_refused(Models, "{}", 0, "user", "`models` has no messages");
        let mut document = document(chat);
        let missing = Err("there is no message 1, the conversation has 1 message".to_owned());
        assert_eq!(set_message(ChatCompletions, &mut document, 1, "x"), missing);
        assert_eq!(remove_message(ChatCompletions, &mut document, 1), missing);
    }

    #[test]
    fn remove_takes_the_message_alone() {
        let chat = r#"{"messages":[{"role":"a"}, {"role":"b"}], "n":1}"#;
        check_remove(ChatCompletions, chat, 0, r#"{"messages":[{"role":"b"}], "n":1}"#);
        check_remove(ChatCompletions, chat, 1, r#"{"messages":[{"role":"a"}], "n":1}"#);
        let responses = r#"{"instructions":"s","input":[{"type":"function_call"},{"role":"user"}]}"#;
        check_remove(Responses, responses, 0, r#"{"input":[{"type":"function_call"},{"role":"user"}]}"#);
        check_remove(Responses, responses, 1, r#"{"instructions":"s","input":[{"type":"function_call"}]}"#);
        check_remove(Completions, r#"{"prompt":"a","n":1}"#, 0, r#"{"n":1}"#);
    }

    fn content() -> impl Strategy<Value = Value> {
        let part = prop_oneof![
            ".{0,4}".prop_map(|text| json!({ "type": "text", "text": text })),
            Just(json!({ "type": "image_url" })),
            Just(json!(7)),
        ];
        prop_oneof![
            Just(Value::Null),
            ".{0,4}".prop_map(Value::from),
            prop::collection::vec(part, 0..4).prop_map(Value::from),
        ]
    }

    /// A request of some endpoint with a conversation, some of it odd.
    fn request() -> impl Strategy<Value = (Endpoint, Value)> {
        let role = prop::sample::select(vec!["system", "user", "assistant", "x"]);
        let message =
            (role, content()).prop_map(|(role, content)| json!({ "role": role, "content": content })).boxed();
        let item =
            prop_oneof![4 => message.clone(), 1 => Just(json!({ "type": "function_call", "name": "f" }))];
        let input = prop_oneof![
            ".{0,4}".prop_map(Value::from),
            prop::collection::vec(item, 0..5).prop_map(Value::from),
        ];
        let prompt = prop_oneof![
            ".{0,4}".prop_map(Value::from),
            prop::collection::vec(".{0,4}", 0..4).prop_map(Value::from),
        ];
        prop_oneof![
            prop::collection::vec(message, 0..5)
                .prop_map(|messages| (ChatCompletions, json!({ "a": 1, "messages": messages }))),
            (any::<bool>(), input).prop_map(|(has_instructions, input)| {
                let instructions = if has_instructions { json!("s") } else { Value::Null };
                (Responses, json!({ "input": input, "instructions": instructions }))
            }),
            prompt.prop_map(|prompt| (Completions, json!({ "prompt": prompt, "n": 1 }))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn an_edit_of_a_message_changes_no_other(
            (endpoint, body) in request(),
            at in any::<prop::sample::Index>(),
            text in ".{0,6}",
        ) {
            let mut original = document(&body.to_string());
            let before = turns(endpoint, &original);
            let at = at.index(before.len() + 1);

            let mut inserted = original.clone();
            prop_assert_eq!(insert_message(endpoint, &mut inserted, at, "user", &text), Ok(()));
            let mut expected = before.clone();
            expected.insert(at, ("user".to_owned(), text.clone()));
            prop_assert_eq!(turns(endpoint, &inserted), expected);

            prop_assert_eq!(remove_message(endpoint, &mut inserted, at), Ok(()));
            prop_assert_eq!(turns(endpoint, &inserted), before.clone());

            if at < before.len() {
                prop_assert_eq!(set_message(endpoint, &mut original, at, &text), Ok(()));
                let mut expected = before.clone();
                expected[at].1 = text;
                prop_assert_eq!(turns(endpoint, &original), expected);
                prop_assert!(Document::new(original.into_bytes()).is_ok());
            }
        }

        #[test]
        fn no_document_panics(json in "[\\[\\]{}\",:a ]{0,20}", member in prop::sample::select(vec!["messages", "input", "prompt"])) {
            for endpoint in Endpoint::ALL {
                for json in [json.clone(), format!(r#"{{"{member}":{json}}}"#)] {
                    let mut document = Document::trusted(json.into());
                    messages(endpoint, &document);
                    let _ = set_message(endpoint, &mut document, 0, "x");
                    let _ = insert_message(endpoint, &mut document, 0, "user", "x");
                    let _ = remove_message(endpoint, &mut document, 0);
                }
            }
        }
    }
}
