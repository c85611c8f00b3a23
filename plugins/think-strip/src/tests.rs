use serde_json::{Value, json};
use witgate_sdk::testkit::{Kit, batch};

use super::*;

fn kit(config: Value) -> Kit<ThinkStrip> {
    Kit::new(config)
}

// parity: 85
#[test]
fn thinking_is_stripped_at_every_split() {
    kit(json!({})).every_split("\n<think>é</think>\nb", |seen| {
        assert_eq!((seen.content(), seen.reasoning()), ("b", ""));
    });
}

#[test]
fn thinking_moves_to_the_reasoning_at_every_split() {
    let config = json!({"mode": "reasoning", "anywhere": true});
    kit(config).every_split("<think>é</think>b<think>c</think>d", |seen| {
        assert_eq!((seen.content(), seen.reasoning()), ("bd", "éc"));
    });
}

#[test]
fn unopened_thinking_is_reasoning_as_it_comes() {
    let kit = kit(json!({"mode": "reasoning", "unopened": true}));
    kit.every_split("a</think>b", |seen| assert_eq!((seen.content(), seen.reasoning()), ("b", "a")));
    kit.every_split("a b", |seen| assert_eq!((seen.content(), seen.reasoning()), ("", "a b")));
}

#[test]
fn unclosed_thinking_can_be_the_answer() {
    let kit = kit(json!({"mode": "reasoning", "unclosed": "answer"}));
    kit.every_split(" <think>a", |seen| assert_eq!((seen.content(), seen.reasoning()), (" <think>a", "")));
}

#[test]
fn kept_thinking_costs_no_stream() {
    let seen = kit(json!({"mode": "keep"})).answer("<think>a</think>b");
    assert!(!seen.is_open());
    assert_eq!(seen.content(), "<think>a</think>b");
}

#[test]
fn an_answer_without_thinking_is_let_go_at_its_first_text() {
    let seen = kit(json!({})).stream(&["a", "<think>b", "</think>"]);
    assert_eq!((seen.content(), seen.calls(), seen.is_detached()), ("a<think>b</think>", 1, true));
}

#[test]
fn an_answer_is_let_go_behind_its_thinking() {
    let seen = kit(json!({})).stream(&["<think>", "a", "</think>b", "c", "d"]);
    assert_eq!((seen.content(), seen.calls(), seen.is_detached()), ("bcd", 3, true));
}

#[test]
fn every_choice_has_thinking_of_its_own() {
    let kit = kit(json!({})).request(json!({"n": 2}));
    let seen = kit.batches(
        &[
            batch(&[(0, Channel::Content, 0, "<think>a")]),
            batch(&[(1, Channel::Content, 0, "b"), (0, Channel::Content, 0, "</think>c")]),
            batch(&[(1, Channel::Content, 0, "<think>")]),
        ],
        Finish::Stop,
    );
    assert_eq!((seen.text(0, Channel::Content, 0), seen.text(1, Channel::Content, 0)), ("c", "b<think>"));
    assert!(seen.is_detached());
}

#[test]
fn what_the_choices_hold_back_comes_at_the_end() {
    let kit = kit(json!({})).request(json!({"n": 2}));
    let texts = batch(&[(0, Channel::Content, 0, "<thi"), (1, Channel::Content, 0, " ")]);
    let seen = kit.batches(&[texts], Finish::Length);
    assert_eq!((seen.text(0, Channel::Content, 0), seen.text(1, Channel::Content, 0)), ("<thi", " "));
}

#[test]
fn other_channels_are_not_looked_at() {
    let seen = kit(json!({})).batches(
        &[batch(&[(0, Channel::Reasoning, 0, "<think>a</think>"), (0, Channel::Content, 0, "b")])],
        Finish::Stop,
    );
    assert_eq!((seen.reasoning(), seen.content()), ("<think>a</think>", "b"));
}

#[test]
fn an_answer_that_may_think_anywhere_sleeps_between() {
    let seen = kit(json!({"anywhere": true})).stream(&["a", "b", "c", "d<think>", "x", "</think>", "e", "f"]);
    assert_eq!((seen.content(), seen.is_detached()), ("abcdef", false));
    // The first text, the three pieces with thinking, and the end.
    assert_eq!(seen.calls(), 5);
}

#[test]
fn a_sleeping_answer_wakes_for_a_tag_in_pieces() {
    kit(json!({"anywhere": true, "tags": [{"open": "[[", "close": "]]"}]}))
        .every_split("ab[c[[d]]e[[f", |seen| assert_eq!(seen.content(), "ab[ce"));
}

#[test]
fn the_schema_names_every_key() {
    let schema = Kit::<ThinkStrip>::schema();
    let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["anywhere", "mode", "tags", "trim", "unclosed", "unopened"]);
    assert_eq!(schema["additionalProperties"], json!(false));
}
