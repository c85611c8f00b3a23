use serde_json::{Value, json};
use witgate_sdk::testkit::{Kit, batch};
use witgate_sdk::{Channel, Finish};

use super::*;

fn kit(config: Value) -> Kit<Redact> {
    Kit::new(config)
}

fn asking(config: Value, texts: &[&str]) -> Kit<Redact> {
    let messages: Vec<_> = texts.iter().map(|text| json!({"role": "user", "content": text})).collect();
    kit(config).request(json!({"messages": messages}))
}

fn texts(kit: &Kit<Redact>) -> Vec<String> {
    kit.call().messages().into_iter().map(|message| message.text).collect()
}

#[test]
fn a_request_is_masked_and_tagged() {
    let kit = asking(json!({}), &["mail a@b.com or c@d.com", "nothing", "sk-abcdefghij0123456789"]);
    assert_eq!(kit.on_request(), Ok(Flow::Next));
    assert_eq!(texts(&kit), ["mail [email] or [email]", "nothing", "[api-key]"]);
    let tags: Vec<_> = kit.tags().into_iter().collect();
    let expected = [("redact.api-key", "1"), ("redact.email", "2")];
    assert_eq!(tags, expected.map(|(name, count)| (name.to_owned(), count.to_owned())));
}

#[test]
fn a_request_without_matches_is_left_alone() {
    let kit = asking(json!({}), &["hello"]);
    let before = kit.document();
    assert_eq!(kit.on_request(), Ok(Flow::Next));
    assert_eq!((kit.document(), kit.tags().len()), (before, 0));
}

#[test]
fn parts_that_are_no_text_stay() {
    let image = json!({"type": "image_url", "image_url": {"url": "data:,x"}});
    let content = json!([{"type": "text", "text": "a@b.com"}, image]);
    let kit = kit(json!({})).request(json!({"messages": [{"role": "user", "content": content}]}));
    kit.on_request().unwrap();
    let content = &kit.document()["messages"][0]["content"];
    assert!(content.to_string().contains("[email]"));
    assert!(content.as_array().unwrap().contains(&image));
}

#[test]
fn a_request_that_is_no_conversation_is_masked_too() {
    let document =
        json!({"model": "a@b.com", "input": ["x", "to a@b.com", ["c@d.com"]], "query": "\"\n+14155552671"});
    let kit = kit(json!({})).request(document).operation("embeddings");
    kit.on_request().unwrap();
    let masked =
        json!({"model": "a@b.com", "input": ["x", "to [email]", ["[email]"]], "query": "\"\n[phone]"});
    assert_eq!(kit.document(), masked);
    assert_eq!(kit.tags()["redact.email"], "2");
}

#[test]
fn a_request_is_refused_if_told_so() {
    let kit = asking(json!({"action": "reject"}), &["hello", "pay 4111 1111 1111 1111"]);
    let rejection = kit.on_request().unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (400, "content_policy_violation"));
    assert_eq!(rejection.message, "the request contains what looks like `card`, which is not passed on");
    assert!(!rejection.message.contains("4111"));
    assert_eq!(asking(json!({"action": "reject"}), &["hello"]).on_request(), Ok(Flow::Next));
}

#[test]
fn an_answer_is_masked_at_every_split() {
    let config = json!({"patterns": ["email", "card"], "custom": [{"name": "id", "regex": r"\bE-\d{2}\b"}]});
    kit(config).every_split("to a@b.com: 4111 1111 1111 1111, E-12 é E-123", |seen| {
        assert_eq!(seen.content(), "to [email]: [card], [id] é E-123");
    });
}

#[test]
fn nothing_of_a_match_is_sent_before_it_is_known() {
    let kit = kit(json!({}));
    let text = "write to jane.doe@example.com today";
    for at in 0..text.len() {
        let seen = kit.batches(&[batch(&[(0, Channel::Content, 0, &text[..at])])], Finish::Cancelled);
        assert!(!seen.content().contains("jane"), "{at}");
    }
}

#[test]
fn an_answer_is_ended_if_told_so() {
    kit(json!({"action": "reject"})).every_split("hi a@b.com x", |seen| {
        let rejection = seen.rejection().unwrap();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, "content_policy_violation"));
        assert!(!seen.content().contains('a'));
    });
}

#[test]
fn channels_and_choices_are_texts_of_their_own() {
    let first = [
        (0, Channel::Content, 0, "a@"),
        (1, Channel::Content, 0, "c@"),
        (0, Channel::Reasoning, 0, "e@"),
        (0, Channel::ToolArguments, 0, "g@h.com"),
    ];
    let second = [
        (1, Channel::Content, 0, "d.com"),
        (0, Channel::Content, 0, "b.com "),
        (0, Channel::Reasoning, 0, "f.com"),
    ];
    let seen = kit(json!({})).batches(&[batch(&first), batch(&second)], Finish::Stop);
    assert_eq!((seen.content(), seen.reasoning()), ("[email] ", "[email]"));
    assert_eq!(seen.text(1, Channel::Content, 0), "[email]");
    assert_eq!(seen.text(0, Channel::ToolArguments, 0), "g@h.com");
}

#[test]
fn tool_arguments_are_looked_at_if_told_so() {
    let seen = kit(json!({"channels": ["tool_arguments"]})).batches(
        &[batch(&[
            (0, Channel::ToolArguments, 0, r#"{"to":"a@b."#),
            (0, Channel::ToolArguments, 1, r#"{"to":"x"}"#),
            (0, Channel::ToolArguments, 0, r#"com"}"#),
            (0, Channel::Content, 0, "a@b.com"),
        ])],
        Finish::ToolCalls,
    );
    assert_eq!(seen.text(0, Channel::ToolArguments, 0), r#"{"to":"[email]"}"#);
    assert_eq!(seen.content(), "a@b.com");
}

#[test]
fn a_direction_that_is_not_wanted_costs_nothing() {
    let answers = asking(json!({"directions": ["answer"]}), &["a@b.com"]);
    answers.on_request().unwrap();
    assert_eq!(texts(&answers), ["a@b.com"]);
    assert_eq!(answers.answer("a@b.com").content(), "[email]");
    let seen = kit(json!({"directions": ["request"]})).answer("a@b.com");
    assert!(!seen.is_open());
}

#[test]
fn the_replacement_is_the_operators() {
    let seen = kit(json!({"replace": "<{name}>{name}"})).answer("a@b.com");
    assert_eq!(seen.content(), "<email>email");
    assert_eq!(kit(json!({"replace": ""})).answer("a@b.com!").content(), "!");
}

#[test]
fn what_was_masked_in_an_answer_is_logged_without_its_text() {
    let kit = kit(json!({}));
    kit.answer("a@b.com c@d.com");
    let log = format!("{:?}", kit.log());
    assert!(log.contains(r#"("pattern", "email"), ("count", "2")"#), "{log}");
    assert!(!log.contains("b.com"));
}

#[test]
fn an_expression_that_cannot_be_used_refuses_the_plugin() {
    let config = json!({"custom": [{"name": "x", "regex": "(a"}]});
    let message = Kit::<Redact>::try_new(config).map(drop).unwrap_err();
    assert_eq!(message, "`regex` of `x` in `custom` cannot be used: `(` at 0 is not closed");
}

#[test]
fn the_schema_names_every_key() {
    let schema = Kit::<Redact>::schema();
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["action", "channels", "custom", "directions", "patterns", "replace"]);
}
