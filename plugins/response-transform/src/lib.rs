//! Edits answers by rule: fields, text and headers.
//!
//! Fields of a whole answer are edited on the host; those of a stream in each of its events; text in either as it is
//! produced. An answer that no rule is for is not touched, and a stream wakes the plugin only for what its rules need.

mod fields;
mod json;
mod path;
mod replace;
mod rule;
mod settings;
mod texts;

use std::rc::Rc;

use replace::Replacer;
use rule::Rule;
use settings::{Headers, Settings};
use witgate_sdk::{
    Call, EventAction, EventStream, Finish, Lanes, OnResponse, Opened, Plugin, Rejection, ResponseFlow,
    SseEvent, StreamEvents, StreamText, export,
};

/// The status of what comes after the head of a stream.
const STREAM_STATUS: u16 = 200;

struct ResponseTransform {
    rules: Rc<[Rule]>,
}

export!(ResponseTransform: OnResponse, StreamText, StreamEvents);

impl Plugin for ResponseTransform {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.rules.is_empty() {
            return Err("`rules` is empty, so that the plugin does nothing: add a rule or remove the plugin"
                .to_owned());
        }
        let rules = settings.rules.into_iter().enumerate();
        let rules = rules
            .map(|(index, rule)| Rule::new(rule, format_args!("rules[{index}]")))
            .collect::<Result<_, _>>()?;
        Ok(Self { rules })
    }
}

impl OnResponse for ResponseTransform {
    fn on_response(&self, call: &Call, status: u16) -> Result<ResponseFlow, Rejection> {
        for rule in self.rules.iter().filter(|rule| rule.holds(call, status)) {
            // The head of a stream has no document.
            if !rule.edits.is_empty() && call.body_len() > 0 {
                let mut document = call;
                rule.edits.iter().for_each(|edit| edit.apply(&mut document));
            }
            edit_headers(&rule.headers, call)?;
        }
        Ok(ResponseFlow::Next)
    }
}

fn edit_headers(headers: &Headers, call: &Call) -> Result<(), Rejection> {
    for (from, to) in &headers.rename {
        if let Some(value) = call.header(from) {
            call.remove_header(from)?;
            call.set_header(to, &value)?;
        }
    }
    for name in &headers.remove {
        call.remove_header(name)?;
    }
    for (name, value) in &headers.set {
        call.set_header(name, value)?;
    }
    Ok(())
}

impl StreamText for ResponseTransform {
    type Stream = Lanes<Replacer>;

    fn open(&self, call: &Call) -> Option<Opened<Lanes<Replacer>>> {
        let has_text = |rule: &&Rule| !rule.literals.is_empty() && rule.holds(call, STREAM_STATUS);
        texts::open(
            self.rules.iter().filter(has_text).flat_map(|rule| rule.literals.iter().cloned()).collect(),
        )
    }
}

impl StreamEvents for ResponseTransform {
    type Stream = Events;

    fn open(&self, call: &Call) -> Option<Events> {
        let has_edits = |rule: &Rule| !rule.edits.is_empty() && rule.holds(call, STREAM_STATUS);
        let indexes: Vec<usize> =
            (0..self.rules.len()).filter(|&index| has_edits(&self.rules[index])).collect();
        (!indexes.is_empty()).then(|| Events { rules: Rc::clone(&self.rules), indexes })
    }
}

/// The events of one stream.
struct Events {
    rules: Rc<[Rule]>,
    /// Which of the rules are for this stream.
    indexes: Vec<usize>,
}

impl EventStream for Events {
    fn push(&mut self, mut events: Vec<SseEvent>) -> Result<EventAction, Rejection> {
        let mut is_changed = false;
        for event in &mut events {
            if let Some(edited) = self.edited(&event.data) {
                event.data = edited.into_bytes();
                is_changed = true;
            }
        }
        Ok(if is_changed { EventAction::Replace(events) } else { EventAction::Unchanged })
    }

    fn finish(&mut self, _: Finish) -> Result<EventAction, Rejection> {
        Ok(EventAction::Unchanged)
    }
}

impl Events {
    /// The data of an event as the rules would have it; none if they leave it alone, or if it is no JSON object.
    fn edited(&self, data: &[u8]) -> Option<String> {
        let original = std::str::from_utf8(data).ok()?;
        if !original.trim_start().starts_with('{') {
            return None;
        }
        let mut document = original.to_owned();
        let edits = self.indexes.iter().flat_map(|&index| &self.rules[index].edits);
        edits.for_each(|edit| edit.apply(&mut document));
        (document != original).then_some(document)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::testkit::{Kit, batch};
    use witgate_sdk::{Channel, TextBatch};

    use super::*;

    fn kit(rules: &Value) -> Kit<ResponseTransform> {
        Kit::new(json!({ "rules": rules }))
    }

    fn event(data: &str) -> SseEvent {
        SseEvent::new(data)
    }

    /// The same rules, on a whole answer and on an event.
    #[track_caller]
    fn check(then: &Value, document: &Value, expected: &Value) {
        let kit = kit(&json!([{ "then": then }]));
        let seen = kit.events(&[vec![event(&document.to_string())]], Finish::Stop);
        assert_eq!(serde_json::from_slice::<Value>(&seen.events[0].data).unwrap(), *expected);
        let kit = kit.response(200, document.clone());
        kit.on_response().unwrap();
        assert_eq!(kit.document(), *expected);
    }

    #[test]
    fn whole_answers_and_events_have_the_same_fields() {
        let then = json!({
            "rename": { "/choices/*/delta/reasoning_content": "/choices/*/delta/reasoning" },
            "remove": ["/system_fingerprint", "/choices/*/logprobs"],
            "set": { "/served_by": "acme", "/usage/cost": 0 },
            "replace": { "/model": "house", "/none": 1 },
            "default": { "/id": "x" },
        });
        check(
            &then,
            &json!({ "model": "m", "system_fingerprint": "f", "choices": [
                { "delta": { "reasoning_content": "a" }, "logprobs": null }, { "delta": {}, "logprobs": 1 },
            ] }),
            &json!({ "model": "house", "served_by": "acme", "id": "x", "choices": [
                { "delta": { "reasoning": "a" } }, { "delta": {} },
            ] }),
        );
        check(
            &then,
            &json!({ "id": "a", "usage": { "total_tokens": 1 } }),
            &json!({ "id": "a", "usage": { "total_tokens": 1, "cost": 0 }, "served_by": "acme" }),
        );
        check(&json!({ "set": { "/choices/5": 1 } }), &json!({ "choices": [1] }), &json!({ "choices": [1] }));
        check(
            &json!({ "set": { "/choices/-": 1 } }),
            &json!({ "choices": [1] }),
            &json!({ "choices": [1, 1] }),
        );
    }

    #[test]
    fn events_that_are_no_objects_and_events_without_the_fields_are_left_alone() {
        let kit = kit(&json!([{ "then": { "remove": ["/a"], "rename": { "/b": "/c" } } }]));
        let read =
            vec![event("[DONE]"), event("not json"), event("{\"x\": 1.50}"), event("{\"a\":"), event("")];
        let seen = kit.events(std::slice::from_ref(&read), Finish::Stop);
        assert_eq!(seen.events, read);
        let named = event(r#"{"b":1.50,"x":12345678901234567890}"#).named("message_delta");
        let seen = kit.events(&[vec![named, event("[DONE]")]], Finish::Stop);
        let edited = event(r#"{"x":12345678901234567890,"c":1.50}"#).named("message_delta");
        assert_eq!(seen.events, [edited, event("[DONE]")]);
    }

    #[test]
    fn the_head_of_a_stream_has_headers_and_no_fields() {
        let then = json!({ "set": { "/a": 1 }, "headers": {
            "rename": { "x-ratelimit-reset": "retry-after" }, "remove": ["server"], "set": { "x-by": "acme" },
        } });
        let kit = kit(&json!([{ "then": then }]))
            .response(200, json!(null))
            .without_document()
            .header("server", "s")
            .header("x-ratelimit-reset", "5");
        kit.on_response().unwrap();
        assert_eq!(kit.document(), Value::Null);
        let expected =
            [("retry-after", "5"), ("x-by", "acme")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(kit.call().headers(), expected);
    }

    #[test]
    fn all_of_when_must_be_true() {
        #[track_caller]
        fn check(when: Value, expected: bool) {
            let kit = kit(&json!([{ "when": when, "then": { "set": { "/hit": true } } }]))
                .request(json!({ "model": "deepseek-r1", "stream": true }))
                .tenant("acme")
                .upstream("main", 1)
                .response(404, json!({}));
            kit.on_response().unwrap();
            assert_eq!(kit.document() == json!({ "hit": true }), expected, "{when}");
        }
        check(
            json!({ "models": ["deepseek-*"], "tenants": ["acme"], "upstreams": ["m*"], "stream": true }),
            true,
        );
        check(json!({ "operations": ["chat.completions"], "status": ["4xx"] }), true);
        check(json!({ "status": [200, 404] }), true);
        check(json!({ "status": [200, "5xx"] }), false);
        check(json!({ "models": ["gpt-*"] }), false);
        check(json!({ "operations": ["embeddings"] }), false);
        check(json!({ "tenants": ["other"] }), false);
        check(json!({ "upstreams": ["other"] }), false);
        check(json!({ "stream": false }), false);
    }

    #[test]
    fn a_stream_is_taken_only_by_rules_that_need_it() {
        let chunk = || vec![event(r#"{"a":1}"#)];
        let fields = kit(&json!([{ "then": { "remove": ["/a"] } }]));
        assert!(!fields.answer("a").is_open());
        assert_eq!(fields.events(&[chunk()], Finish::Stop).calls, 2);
        let text = kit(&json!([{ "then": { "text": [{ "find": "a" }] } }]));
        assert!(text.answer("a").is_open());
        assert_eq!(text.events(&[chunk()], Finish::Stop).calls, 0);
        let failures = kit(
            &json!([{ "when": { "status": ["5xx"] }, "then": { "remove": ["/a"], "text": [{ "find": "a" }] } }]),
        );
        assert!(!failures.answer("a").is_open());
        assert_eq!(failures.events(&[chunk()], Finish::Stop).calls, 0);
    }

    #[test]
    fn texts_are_replaced_however_they_are_cut() {
        #[track_caller]
        fn check(pairs: &[(&str, &str)], text: &str, expected: &str) {
            let text_rules: Vec<Value> =
                pairs.iter().map(|(find, replace)| json!({ "find": find, "replace": replace })).collect();
            let kit = kit(&json!([{ "then": { "text": text_rules } }]));
            kit.every_split(text, |seen| assert_eq!(seen.content(), expected));
        }
        check(&[("OpenAI", "ACME")], "OpenAI, OpenA, OpenAI by Open", "ACME, OpenA, ACME by Open");
        check(&[("abc", "1"), ("ab", "2")], "ab abc abd ab", "2 1 2d 2");
        check(&[("bc", "2"), ("abcd", "1")], "abce abcd abc", "a2e 1 a2");
        check(&[("日本", "Japan")], "in 日本 und 日", "in Japan und 日");
    }

    #[test]
    fn the_plugin_sleeps_while_nothing_is_found() {
        let kit = kit(&json!([{ "then": { "text": [{ "find": "<end>" }] } }]));
        let seen = kit.stream(&["a", "b", "c <en", "d", "e"]);
        assert_eq!((seen.content(), seen.calls()), ("abc <ende", 1));
        let seen = kit.stream(&["a <end> <e", "n", "d>", "b", "c"]);
        assert_eq!((seen.content(), seen.calls()), ("a  bc", 4));
    }

    #[test]
    fn each_channel_has_its_own_texts() {
        let text = json!([{ "find": "a", "replace": "1" }, { "find": "b", "replace": "2", "channels": ["reasoning", "content"] }]);
        let kit = kit(&json!([{ "then": { "text": text } }]));
        let pieces: TextBatch = batch(&[
            (0, Channel::Reasoning, 0, "ab"),
            (0, Channel::Content, 0, "ab"),
            (1, Channel::Content, 0, "ba"),
            (0, Channel::ToolArguments, 0, "ab"),
        ]);
        let seen = kit.batches(&[pieces], Finish::Stop);
        assert_eq!((seen.reasoning(), seen.content()), ("a2", "12"));
        assert_eq!(seen.text(1, Channel::Content, 0), "21");
        assert_eq!(seen.text(0, Channel::ToolArguments, 0), "ab");
    }

    #[test]
    fn a_plugin_without_rules_is_refused() {
        let message = "`rules` is empty, so that the plugin does nothing: add a rule or remove the plugin";
        assert_eq!(Kit::<ResponseTransform>::try_new(json!({})).err().as_deref(), Some(message));
    }

    #[test]
    fn the_schema_describes_the_rules() {
        let schema = Kit::<ResponseTransform>::schema();
        assert_eq!(schema.pointer("/properties/rules/minItems"), Some(&json!(1)));
        let status =
            schema.pointer("/properties/rules/items/properties/when/properties/status/items/anyOf").unwrap();
        assert_eq!(status[0]["type"], "integer");
    }
}
