//! The turns in requests of Anthropic's and Google's dialects: instructions apart, then messages of parts.
//!
//! What a tool returned stands among the parts of a person's message there. Here each result is a turn of its own, before
//! what else the message has, as if it were a chat.

mod conversation;
mod grammar;

use bytes::Bytes;

use super::{elements, has_text, into_text, missing, quoted, with_text};
use crate::chat::Turn;
use crate::wire::Endpoint;
use crate::wire::document::Document;
use conversation::{Conversation, Place, Seat};
pub(super) use grammar::Grammar;
use grammar::{OUTPUTS, RESPONSE, member, output, response_text, text_of};

/// As [`messages`](super::messages).
pub(super) fn messages(grammar: Grammar, endpoint: Endpoint, document: &Document) -> Vec<Turn> {
    let turn = |place: Place| Turn { role: place.role, text: place.text };
    Conversation::read(grammar, endpoint, document).places.into_iter().map(turn).collect()
}

/// As [`set_message`](super::set_message).
pub(super) fn set_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    text: &str,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let Place { pointer, seat, .. } = conversation.place(index)?;
    match seat {
        Seat::Text => document.set(pointer, &quoted(text)),
        Seat::Part => document.set(&format!("{pointer}/text"), &quoted(text)),
        Seat::Message | Seat::Rest => set_content(grammar, document, pointer, text),
        Seat::Result if grammar == Grammar::Anthropic => set_content(grammar, document, pointer, text),
        Seat::Result => set_response(document, pointer, text),
    }
}

/// As [`insert_message`](super::insert_message).
pub(super) fn insert_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
    role: &str,
    text: &str,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let instructions = conversation.places.iter().filter(|place| place.is_instruction).count();
    if index > conversation.places.len() {
        return Err(missing(index, conversation.places.len()));
    }
    let Some(list) = conversation.list.clone() else {
        return Err(format!("`{}` has no conversation, nothing can be inserted", endpoint.label()));
    };
    match role {
        "" => Err("a message needs a role".to_owned()),
        "tool" => Err(format!("a `tool` message needs more than a text; set `{list}/-` to the whole of it")),
        "system" if index <= instructions => {
            let at = conversation.places[..instructions].get(index).map_or(usize::MAX, |place| place.at);
            let pointer = conversation.instructions.clone();
            insert_instruction(grammar, document, &pointer, at, text)
        }
        _ if index < instructions => Err(format!(
            "the `system` messages come before all others here; insert at {instructions} or behind it"
        )),
        "system" if grammar == Grammar::Gemini => Err(format!(
            "a `system` message comes before all others here; insert at {instructions} or before it"
        )),
        _ => {
            let list_json = conversation.with_message(document, index, &grammar.message(role, text))?;
            document.set(&list, &list_json)
        }
    }
}

/// As [`remove_message`](super::remove_message).
pub(super) fn remove_message(
    grammar: Grammar,
    endpoint: Endpoint,
    document: &mut Document,
    index: usize,
) -> Result<(), String> {
    let conversation = Conversation::read(grammar, endpoint, document);
    let place = conversation.place(index)?;
    if place.seat != Seat::Rest {
        return document.remove(&place.whole).map(drop);
    }
    let pointer = format!("{}/{}", place.pointer, grammar.parts());
    let parts = document.get(&pointer).ok().flatten().unwrap_or("[]");
    let kept = filtered(parts, |_, part| grammar.is_result(part))?;
    document.set(&pointer, &kept)
}

impl Conversation {
    /// Returns the list of messages with one more, before the turn at `index` or at its end.
    fn with_message(&self, document: &Document, index: usize, item: &str) -> Result<String, String> {
        let pointer = self.list.as_deref().unwrap_or_default();
        let value = document.get(pointer).ok().flatten().unwrap_or("null");
        let array = match value.as_bytes().first() {
            Some(b'[') => value.to_owned(),
            Some(b'n') => "[]".to_owned(),
            Some(b'{') if self.grammar == Grammar::Gemini => format!("[{value}]"),
            Some(b'"') if self.grammar == Grammar::Gemini => {
                format!("[{}]", self.grammar.message("user", &text_of(value)))
            }
            _ => {
                let name = pointer.rsplit('/').next().unwrap_or_default();
                return Err(format!("`{name}` is no list, nothing can be inserted"));
            }
        };
        let mut list = Document::trusted(Bytes::from(array));
        let Some(next) = self.places.get(index) else {
            list.insert(usize::MAX, item.as_bytes());
            return into_text(list);
        };
        let same = |place: &&Place| !place.is_instruction && place.at == next.at;
        let before = self.places[..index].iter().rev().take_while(same).count();
        if before == 0 {
            list.insert(next.at, item.as_bytes());
            return into_text(list);
        }
        let whole = list.get(&format!("/{}", next.at)).ok().flatten().unwrap_or("{}").to_owned();
        let (first, second) = self.cut(&whole, before)?;
        list.set(&format!("/{}", next.at), &second)?;
        list.insert(next.at, format!("{first},{item}").as_bytes());
        into_text(list)
    }

    /// Cuts a message behind so many of its results.
    fn cut(&self, message: &str, results: usize) -> Result<(String, String), String> {
        let name = self.grammar.parts();
        let parts = member(message, &[name]).map_or("[]", |parts| parts.json);
        let is_result = |(_, part): &(usize, &str)| self.grammar.is_result(part);
        let first: Vec<usize> = elements(parts)
            .into_iter()
            .enumerate()
            .filter(is_result)
            .map(|(at, _)| at)
            .take(results)
            .collect();
        let half = |is_first: bool| {
            let mut half = Document::trusted(Bytes::copy_from_slice(message.as_bytes()));
            let parts = filtered(parts, |at, _| first.contains(&at) == is_first)?;
            half.set(&format!("/{name}"), &parts)?;
            into_text(half)
        };
        Ok((half(true)?, half(false)?))
    }
}

/// Sets the text of a message's or a result's content.
fn set_content(grammar: Grammar, document: &mut Document, at: &str, text: &str) -> Result<(), String> {
    let pointer = format!("{at}/{}", grammar.parts());
    let content = document.get(&pointer).ok().flatten().unwrap_or("null");
    let content = match (content.as_bytes().first(), grammar) {
        (Some(b'['), _) => {
            let is_text = |part: &str| grammar.is_text(part);
            with_text(content, text, &grammar.part(text), is_text, |part| grammar.is_first(part))?
        }
        (Some(b'{'), Grammar::Gemini) if has_text(content) => {
            return document.set(&format!("{pointer}/text"), &quoted(text));
        }
        (Some(b'{'), Grammar::Gemini) => format!("[{},{content}]", grammar.part(text)),
        (_, Grammar::Gemini) => format!("[{}]", grammar.part(text)),
        (_, Grammar::Anthropic) => quoted(text),
    };
    document.set(&pointer, &content)
}

/// Sets what a function returned: the text that is there, or the whole of it, which is an object.
fn set_response(document: &mut Document, part: &str, text: &str) -> Result<(), String> {
    let json = document.get(part).ok().flatten().unwrap_or("{}");
    let name = member(json, &RESPONSE).map_or(RESPONSE[0], |response| response.name);
    let pointer = format!("{part}/{name}/response");
    let response = document.get(&pointer).ok().flatten().unwrap_or("null");
    if let Some(output) = output(response).map(|output| output.name) {
        return document.set(&format!("{pointer}/{output}"), &quoted(text));
    }
    let is_object = text.starts_with('{') && Document::new(Bytes::copy_from_slice(text.as_bytes())).is_ok();
    if is_object && response_text(text) == text {
        return document.set(&pointer, text);
    }
    document.set(&pointer, &format!(r#"{{"{}":{}}}"#, OUTPUTS[0], quoted(text)))
}

/// Puts a text among the instructions, before the element `at` of their list or at its end.
fn insert_instruction(
    grammar: Grammar,
    document: &mut Document,
    pointer: &str,
    at: usize,
    text: &str,
) -> Result<(), String> {
    let value = document.get(pointer).ok().flatten().unwrap_or("null");
    let new = grammar.part(text);
    let own = |json: &str| grammar.part(&text_of(json));
    let with_own = |json: &str| if at == 0 { format!("[{new},{json}]") } else { format!("[{json},{new}]") };
    let instructions = match (value.as_bytes().first(), grammar) {
        (Some(b'n'), Grammar::Anthropic) => quoted(text),
        (Some(b'n'), Grammar::Gemini) => format!(r#"{{"parts":[{new}]}}"#),
        (Some(b'"'), Grammar::Anthropic) => with_own(&own(value)),
        (Some(b'"'), Grammar::Gemini) => format!(r#"{{"parts":{}}}"#, with_own(&own(value))),
        (Some(b'['), Grammar::Anthropic) => with_element(value, at, &new)?,
        (Some(b'{'), Grammar::Gemini) => {
            let parts = member(value, &["parts"]).map_or("null", |parts| parts.json);
            let parts = match parts.as_bytes().first() {
                Some(b'[') => with_element(parts, at, &new)?,
                Some(b'{') => with_own(parts),
                _ => format!("[{new}]"),
            };
            return document.set(&format!("{pointer}/parts"), &parts);
        }
        _ => {
            let name = pointer.rsplit('/').next().unwrap_or_default();
            return Err(format!("`{name}` is no list, nothing can be inserted"));
        }
    };
    document.set(pointer, &instructions)
}

/// Returns an array with one more element.
fn with_element(array: &str, at: usize, element: &str) -> Result<String, String> {
    let mut list = Document::trusted(Bytes::copy_from_slice(array.as_bytes()));
    list.insert(at, element.as_bytes());
    into_text(list)
}

/// Returns an array with those of its elements that are to be kept.
fn filtered(array: &str, is_kept: impl Fn(usize, &str) -> bool) -> Result<String, String> {
    let kept: Vec<bool> =
        elements(array).into_iter().enumerate().map(|(at, part)| is_kept(at, part)).collect();
    let mut list = Document::trusted(Bytes::copy_from_slice(array.as_bytes()));
    list.remove_elements(|at| !kept[at]);
    into_text(list)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::{insert_message, messages, remove_message, set_message};
    use super::*;
    use Endpoint::{
        BatchEmbedContents, ChatCompletions, CountContentTokens, CountMessageTokens, EmbedContent,
        GenerateContent, Messages,
    };

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
        assert_eq!(insert_message(endpoint, &mut document, index, role, "x"), Ok(()));
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
    fn one_conversation_has_the_same_turns_in_every_dialect() {
        let expected = [
            ("system", "s"),
            ("user", "a\nb"),
            ("assistant", "m"),
            ("tool", "r1"),
            ("tool", "r2"),
            ("user", "c"),
        ];
        check(
            ChatCompletions,
            r#"{"messages":[{"role":"system","content":"s"},
            {"role":"user","content":[{"type":"text","text":"a\n"},{"type":"image_url"},{"type":"text","text":"b"}]},
            {"role":"assistant","content":"m","reasoning_content":"no","tool_calls":[]},{"role":"tool","content":"r1"},
            {"role":"tool","content":"r2"},{"role":"user","content":"c"}]}"#,
            &expected,
        );
        for endpoint in [Messages, CountMessageTokens] {
            check(
                endpoint,
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a\n"},{"type":"image"},{"type":"text","text":"b"}]},
                {"role":"assistant","content":[{"type":"thinking","thinking":"no"},{"type":"text","text":"m"},{"type":"tool_use"}]},
                {"role":"user","content":[{"type":"tool_result","content":"r1"},
                {"type":"tool_result","content":[{"type":"text","text":"r"},{"type":"image"},{"type":"text","text":"2"}]},
                {"type":"text","text":"c"}]}],"system":"s"}"#,
                &expected,
            );
        }
        for endpoint in [GenerateContent, CountContentTokens] {
            check(
                endpoint,
                r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"parts":[{"text":"a\n"},{"inlineData":{}},{"text":"b"}]},
                {"role":"model","parts":[{"text":"no","thought":true},{"text":"m"},{"functionCall":{}}]},
                {"role":"user","parts":[{"functionResponse":{"response":{"result":"r1"}}},
                {"function_response":{"response":{"output":"r2"}}},{"text":"c"}]}]}"#,
                &expected,
            );
        }
    }

    #[test]
    fn each_text_of_the_instructions_is_a_turn() {
        check(
            Messages,
            r#"{"system":[{"type":"text","text":"a"},7,{"text":"b"}],"messages":[{"role":"system","content":"c"}]}"#,
            &[("system", "a"), ("system", "b"), ("system", "c")],
        );
        check(
            GenerateContent,
            r#"{"system_instruction":{"parts":[{"text":"a"},{"text":"b"}]}}"#,
            &[("system", "a"), ("system", "b")],
        );
        check(GenerateContent, r#"{"systemInstruction":"a"}"#, &[("system", "a")]);
        check(GenerateContent, r#"{"systemInstruction":{"parts":{"text":"a"}}}"#, &[("system", "a")]);
        check(Messages, r#"{"system":null,"messages":null}"#, &[]);
    }

    #[test]
    fn turns_of_google_are_read_in_all_their_spellings() {
        check(GenerateContent, r#"{"contents":"a"}"#, &[("user", "a")]);
        check(GenerateContent, r#"{"contents":{"parts":{"text":"a"}}}"#, &[("user", "a")]);
        check(GenerateContent, r#"{"contents":["a",{"parts":"b"},7]}"#, &[("user", "a"), ("user", "b")]);
        check(
            GenerateContent,
            r#"{"contents":[{"role":"function","parts":[{"functionResponse":{"response":{"a":1}}}]},{"role":"x"}]}"#,
            &[("tool", r#"{"a":1}"#), ("x", "")],
        );
        check(
            CountContentTokens,
            r#"{"generateContentRequest":{"contents":[{"parts":[{"text":"a"}]}]}}"#,
            &[("user", "a")],
        );
        check(EmbedContent, r#"{"content":{"parts":[{"text":"a"},{"text":"b"}]}}"#, &[("user", "ab")]);
        check(
            BatchEmbedContents,
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{},{"content":{"parts":[{"text":"b"}]}}]}"#,
            &[("user", "a"), ("user", "b")],
        );
    }

    #[test]
    fn set_replaces_the_text_and_keeps_the_rest() {
        let check = |content: &str, expected: &str| {
            let body = |content: &str| {
                format!(r#"{{ "messages" : [ {{"role":"user" , "content": {content} }} ] , "n":1.0}}"#)
            };
            check_set(Messages, &body(content), 0, "x", &body(expected));
        };
        check(r#""a""#, r#""x""#);
        check("null", r#""x""#);
        check("[]", r#"[{"type":"text","text":"x"}]"#);
        check(
            r#"[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"image"}, {"type":"text","text":"b"}]"#,
            r#"[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}},{"type":"image"}]"#,
        );
        check(
            r#"[{"type":"thinking","signature":"s"},{"type":"tool_use"}]"#,
            r#"[{"type":"thinking","signature":"s"},{"type":"text","text":"x"},{"type":"tool_use"}]"#,
        );
        check_set(Messages, r#"{"system":"a"}"#, 0, "x", r#"{"system":"x"}"#);
        check_set(
            Messages,
            r#"{"system":[{"text":"a"}, {"text":"b","k":1e0}]}"#,
            1,
            "x",
            r#"{"system":[{"text":"a"}, {"text":"x","k":1e0}]}"#,
        );
    }

    #[test]
    fn set_of_a_result_keeps_the_message_around_it() {
        let check = |content: &str, index: usize, expected: &str| {
            let body = |content: &str| format!(r#"{{"messages":[{{"role":"user","content":[{content}]}}]}}"#);
            check_set(Messages, &body(content), index, "x", &body(expected));
        };
        let result = r#"{"type":"tool_result","tool_use_id":"i","content":"a"}"#;
        let set = r#"{"type":"tool_result","tool_use_id":"i","content":"x"}"#;
        check(&format!("{result},{result}"), 1, &format!("{result},{set}"));
        check(
            r#"{"type":"tool_result","content":[{"type":"text","text":"a"},{"type":"image"}]}"#,
            0,
            r#"{"type":"tool_result","content":[{"type":"text","text":"x"},{"type":"image"}]}"#,
        );
        check(r#"{"type":"tool_result"}"#, 0, r#"{"type":"tool_result","content":"x"}"#);
        check(
            &format!(r#"{result},{{"type":"image"}}"#),
            1,
            &format!(r#"{result},{{"type":"text","text":"x"}},{{"type":"image"}}"#),
        );
    }

    #[test]
    fn set_of_a_text_of_googles_keeps_its_signature() {
        let check = |parts: &str, text: &str, expected: &str| {
            let body = |parts: &str| format!(r#"{{"contents":[{{"role":"model","parts":{parts}}}]}}"#);
            check_set(GenerateContent, &body(parts), 0, text, &body(expected));
        };
        check(
            r#"[{"text":"t","thought":true},{"text":"a","thoughtSignature":"s"},{"functionCall":{}},{"text":"b"}]"#,
            "x",
            r#"[{"text":"t","thought":true},{"text":"x","thoughtSignature":"s"},{"functionCall":{}}]"#,
        );
        check(
            r#"[{"text":"t","thought":true},{"functionCall":{}}]"#,
            "x",
            r#"[{"text":"t","thought":true},{"text":"x"},{"functionCall":{}}]"#,
        );
        check(r#"{"text":"a"}"#, "x", r#"{"text":"x"}"#);
        check(r#"{"fileData":1}"#, "x", r#"[{"text":"x"},{"fileData":1}]"#);
        let response =
            |response: &str| format!(r#"[{{"functionResponse":{{"name":"f","response":{response}}}}}]"#);
        check(&response(r#"{"result":"a"}"#), "x", &response(r#"{"result":"x"}"#));
        check(&response(r#"{"a":1}"#), "x", &response(r#"{"output":"x"}"#));
        check(&response(r#"{"a":1}"#), r#"{"a":2}"#, &response(r#"{"a":2}"#));
        check(&response("null"), r#"{"output":"y"}"#, &response(r#"{"output":"{\"output\":\"y\"}"}"#));
        check_set(
            BatchEmbedContents,
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"b"}]}}]}"#,
            1,
            "x",
            r#"{"requests":[{"content":{"parts":[{"text":"a"}]}},{"content":{"parts":[{"text":"x"}]}}]}"#,
        );
    }

    #[test]
    fn a_system_message_is_inserted_among_the_instructions() {
        let new = r#"{"type":"text","text":"x"}"#;
        check_insert(Messages, r#"{"messages":[]}"#, 0, "system", r#"{"messages":[],"system":"x"}"#);
        let own = r#"{"type":"text","text":"é"}"#;
        check_insert(
            Messages,
            r#"{"system":"\u00e9"}"#,
            0,
            "system",
            &format!(r#"{{"system":[{new},{own}]}}"#),
        );
        check_insert(
            Messages,
            r#"{"system":"\u00e9"}"#,
            1,
            "system",
            &format!(r#"{{"system":[{own},{new}]}}"#),
        );
        let body = |blocks: &str| format!(r#"{{"system":[{blocks}],"messages":[]}}"#);
        let (a, b) = (r#"{"text":"a"}"#, r#"{"text":"b"}"#);
        check_insert(Messages, &body(&format!("{a}, {b}")), 1, "system", &body(&format!("{a}, {new},{b}")));
        check_insert(Messages, &body(&format!("{a}, {b}")), 2, "system", &body(&format!("{a}, {b},{new}")));

        let new = r#"{"text":"x"}"#;
        let body = |parts: &str| format!(r#"{{"system_instruction":{{"parts":{parts}}}}}"#);
        check_insert(GenerateContent, &body(&format!("[{a}]")), 0, "system", &body(&format!("[{new},{a}]")));
        check_insert(GenerateContent, &body(a), 1, "system", &body(&format!("[{a},{new}]")));
        check_insert(GenerateContent, &body("null"), 0, "system", &body(&format!("[{new}]")));
        check_insert(
            GenerateContent,
            r#"{"contents":[]}"#,
            0,
            "system",
            r#"{"contents":[],"systemInstruction":{"parts":[{"text":"x"}]}}"#,
        );
    }

    #[test]
    fn a_message_is_inserted_where_it_is_said() {
        let chat =
            r#"{"system":"s","messages":[ {"role":"user","content":"a"}, {"role":"user","content":"b"} ]}"#;
        let new = r#"{"role":"assistant","content":"x"}"#;
        check_insert(Messages, chat, 1, "assistant", &chat.replace("[ ", &format!("[ {new},")));
        check_insert(Messages, chat, 2, "assistant", &chat.replace(", {", &format!(", {new},{{")));
        check_insert(Messages, chat, 3, "assistant", &chat.replace(" ]", &format!(",{new} ]")));
        let late = r#"{"role":"system","content":"x"}"#;
        check_insert(Messages, chat, 3, "system", &chat.replace(" ]", &format!(",{late} ]")));

        let new = r#"{"role":"model","parts":[{"text":"x"}]}"#;
        let own = r#"{"parts":[{"text":"a"}]}"#;
        let body = |contents: &str| format!(r#"{{"contents":{contents}}}"#);
        check_insert(
            GenerateContent,
            &body(&format!("[{own}]")),
            1,
            "assistant",
            &body(&format!("[{own},{new}]")),
        );
        check_insert(GenerateContent, &body(own), 0, "assistant", &body(&format!("[{new},{own}]")));
        check_insert(
            GenerateContent,
            &body(r#""a""#),
            1,
            "assistant",
            &body(&format!(r#"[{{"role":"user","parts":[{{"text":"a"}}]}},{new}]"#)),
        );
        check_insert(GenerateContent, "{}", 0, "assistant", &body(&format!("[{new}]")));
    }

    #[test]
    fn what_is_inserted_among_the_turns_of_a_message_cuts_it() {
        let (result, text) = (r#"{"type":"tool_result","content":"r"}"#, r#"{"type":"text","text":"a"}"#);
        let message = |parts: &str| format!(r#"{{"role":"user","content":[{parts}]}}"#);
        let body = |messages: &str| format!(r#"{{"messages":[{messages}]}}"#);
        let new = r#"{"role":"user","content":"x"}"#;
        let whole = message(&format!("{result},{result},{text}"));
        for (index, first, second) in [
            (1, result.to_owned(), format!("{result},{text}")),
            (2, format!("{result},{result}"), text.to_owned()),
        ] {
            let expected = format!("{},{new},{}", message(&first), message(&second));
            check_insert(Messages, &body(&whole), index, "user", &body(&expected));
        }
        check_insert(Messages, &body(&whole), 3, "user", &body(&format!("{whole},{new}")));
    }

    #[test]
    fn what_cannot_be_inserted_says_why() {
        let chat = r#"{"system":"s","messages":[{"role":"user","content":"a"}]}"#;
        check_refused(Messages, chat, 3, "user", "there is no message 3, the conversation has 2 messages");
        check_refused(Messages, chat, 1, "", "a message needs a role");
        check_refused(
            Messages,
            chat,
            1,
            "tool",
            "a `tool` message needs more than a text; set `/messages/-` to the whole of it",
        );
        check_refused(
            Messages,
            chat,
            0,
            "user",
            "the `system` messages come before all others here; insert at 1 or behind it",
        );
        check_refused(
            GenerateContent,
            r#"{"contents":[{},{}]}"#,
            1,
            "system",
            "a `system` message comes before all others here; insert at 0 or before it",
        );
        check_refused(
            Messages,
            r#"{"messages":5}"#,
            0,
            "user",
            "`messages` is no list, nothing can be inserted",
        );
        check_refused(
            Messages,
            r#"{"system":5}"#,
            0,
            "system",
            "`system` is no list, nothing can be inserted",
        );
        check_refused(
            EmbedContent,
            r#"{"content":{}}"#,
            0,
            "user",
            "`gemini.embed_content` has no conversation, nothing can be inserted",
        );
        let mut document = document(chat);
        let missing = Err("there is no message 2, the conversation has 2 messages".to_owned());
        assert_eq!(set_message(Messages, &mut document, 2, "x"), missing);
        assert_eq!(remove_message(Messages, &mut document, 2), missing);
    }

    #[test]
    fn remove_takes_the_message_alone() {
        let chat = r#"{"system":"s","messages":[{"role":"a"}, {"role":"b"}],"n":1}"#;
        check_remove(Messages, chat, 0, r#"{"messages":[{"role":"a"}, {"role":"b"}],"n":1}"#);
        check_remove(Messages, chat, 1, r#"{"system":"s","messages":[{"role":"b"}],"n":1}"#);
        let system = r#"{"system":[{"text":"a"}, {"text":"b"}],"n":1}"#;
        check_remove(Messages, system, 0, r#"{"system":[{"text":"b"}],"n":1}"#);
        check_remove(Messages, r#"{"system":[{"text":"a"}],"n":1}"#, 0, r#"{"n":1}"#);
        check_remove(
            GenerateContent,
            r#"{"systemInstruction":{"parts":[{"text":"a"}]},"n":1}"#,
            0,
            r#"{"n":1}"#,
        );
        let (result, text) = (r#"{"type":"tool_result"}"#, r#"{"type":"text","text":"a"}"#);
        let message = |parts: &str| format!(r#"{{"messages":[{{"content":[{parts}]}}]}}"#);
        check_remove(Messages, &message(&format!("{result},{text}")), 0, &message(text));
        check_remove(Messages, &message(&format!("{result},{text}")), 1, &message(result));
        check_remove(Messages, &message(result), 0, r#"{"messages":[]}"#);
        check_remove(
            BatchEmbedContents,
            r#"{"requests":[{"content":{"parts":[]}},{"content":{}}]}"#,
            0,
            r#"{"requests":[{"content":{}}]}"#,
        );
    }

    /// A part of a message; odd ones, too.
    fn part(grammar: Grammar) -> impl Strategy<Value = Value> {
        let anthropic = prop_oneof![
            3 => ".{0,4}".prop_map(|text| json!({ "type": "text", "text": text })),
            2 => ".{0,4}".prop_map(|text| json!({ "type": "tool_result", "content": text })),
            1 => Just(json!({ "type": "tool_result", "content": [{ "type": "text", "text": "r" }, { "type": "image" }] })),
            1 => Just(json!({ "type": "thinking", "thinking": "t" })),
            1 => Just(json!({ "type": "image" })),
        ];
        let gemini = prop_oneof![
            3 => ".{0,4}".prop_map(|text| json!({ "text": text })),
            2 => ".{0,4}".prop_map(|text| json!({ "functionResponse": { "response": { "output": text } } })),
            1 => Just(json!({ "function_response": { "response": { "a": 1 } } })),
            1 => Just(json!({ "text": "t", "thought": true })),
            1 => Just(json!({ "inlineData": {} })),
        ];
        if grammar == Grammar::Anthropic { anthropic.boxed() } else { gemini.boxed() }
    }

    /// A request with a conversation.
    fn request(grammar: Grammar) -> impl Strategy<Value = (Endpoint, Value)> {
        let message = (any::<bool>(), prop::collection::vec(part(grammar), 0..5));
        let list = prop::collection::vec(message, 0..4);
        let texts = prop::option::of(prop::collection::vec(".{0,4}", 0..3));
        (texts, any::<bool>(), list).prop_map(move |(system, is_bare, list)| {
            let role = |is_user| match (is_user, grammar) {
                (true, _) => "user",
                (false, Grammar::Anthropic) => "assistant",
                (false, Grammar::Gemini) => "model",
            };
            let list = |name: &str| -> Value {
                list.iter().map(|(is_user, parts)| json!({ "role": role(*is_user), name: parts })).collect()
            };
            let system = system.map(|texts| match (texts.first(), is_bare) {
                (Some(first), true) => json!(first),
                _ => texts.iter().map(|text| json!({ "text": text })).collect(),
            });
            match grammar {
                Grammar::Anthropic => (Messages, json!({ "messages": list("content"), "system": system })),
                Grammar::Gemini => {
                    let system =
                        system.map(|system| if is_bare { system } else { json!({ "parts": system }) });
                    (GenerateContent, json!({ "contents": list("parts"), "systemInstruction": system }))
                }
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn an_edit_of_a_message_changes_no_other(
            (endpoint, body) in prop_oneof![request(Grammar::Anthropic), request(Grammar::Gemini)],
            at in any::<prop::sample::Index>(),
            role in prop::sample::select(vec!["system", "user", "assistant"]),
            text in ".{0,6}",
        ) {
            let original = document(&body.to_string());
            let before = turns(endpoint, &original);
            let at = at.index(before.len() + 1);

            let mut inserted = original.clone();
            if insert_message(endpoint, &mut inserted, at, role, &text).is_ok() {
                let mut expected = before.clone();
                expected.insert(at, (role.to_owned(), text.clone()));
                prop_assert_eq!(turns(endpoint, &inserted), expected);
                prop_assert_eq!(remove_message(endpoint, &mut inserted, at), Ok(()));
                prop_assert_eq!(turns(endpoint, &inserted), before.clone());
            } else {
                prop_assert_eq!(inserted.bytes(), original.bytes());
            }

            if at < before.len() {
                let mut set = original.clone();
                prop_assert_eq!(set_message(endpoint, &mut set, at, &text), Ok(()));
                let mut expected = before.clone();
                expected[at].1 = text;
                prop_assert_eq!(turns(endpoint, &set), expected);

                let mut removed = original;
                prop_assert_eq!(remove_message(endpoint, &mut removed, at), Ok(()));
                let mut expected = before;
                expected.remove(at);
                prop_assert_eq!(turns(endpoint, &removed), expected);
                for document in [set, removed] {
                    prop_assert!(Document::new(document.into_bytes()).is_ok());
                }
            }
        }

        #[test]
        fn no_document_panics(
            json in "[\\[\\]{}\",:a ]{0,20}",
            member in prop::sample::select(vec![
                "messages", "system", "contents", "systemInstruction", "content", "requests", "generateContentRequest",
                "parts",
            ]),
        ) {
            for endpoint in [
                Messages, CountMessageTokens, GenerateContent, CountContentTokens, EmbedContent, BatchEmbedContents,
            ] {
                for json in [
                    json.clone(),
                    format!(r#"{{"{member}":{json}}}"#),
                    format!(r#"{{"contents":[{{"{member}":{json}}}]}}"#),
                    format!(r#"{{"messages":[{{"{member}":{json}}}]}}"#),
                ] {
                    let mut document = Document::trusted(json.into());
                    messages(endpoint, &document);
                    let _ = set_message(endpoint, &mut document, 0, "x");
                    for role in ["user", "system"] {
                        let _ = insert_message(endpoint, &mut document, 0, role, "x");
                    }
                    let _ = remove_message(endpoint, &mut document, 0);
                }
            }
        }
    }
}
