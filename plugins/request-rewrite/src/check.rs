//! What the schema of the settings cannot say. Messages name the place.

use std::fmt::Arguments;

use crate::settings::{Clamp, Condition, Headers, Rule, Settings, System, Then, When};

/// Finds the first mistake.
pub(crate) fn settings(settings: &Settings) -> Result<(), String> {
    if settings.rules.is_empty() {
        return Err(
            "`rules` is empty, so that the plugin does nothing: add a rule or remove the plugin".to_owned()
        );
    }
    settings
        .rules
        .iter()
        .enumerate()
        .try_for_each(|(index, rule)| self::rule(rule, format_args!("rules[{index}]")))
}

fn rule(rule: &Rule, place: Arguments<'_>) -> Result<(), String> {
    if !rule.stop && is_idle(&rule.then) {
        return Err(format!("`{place}` does nothing: give it something in `then`, or `stop: true`"));
    }
    when(&rule.when, format_args!("{place}.when"))?;
    then(&rule.then, format_args!("{place}.then"))
}

fn when(when: &When, place: Arguments<'_>) -> Result<(), String> {
    for name in when.headers.keys() {
        header(name, format_args!("{place}.headers"))?;
    }
    when.body
        .iter()
        .enumerate()
        .try_for_each(|(index, condition)| self::condition(condition, format_args!("{place}.body[{index}]")))
}

fn condition(condition: &Condition, place: Arguments<'_>) -> Result<(), String> {
    pointer(&condition.pointer, format_args!("{place}.pointer"))?;
    let given = [condition.exists.is_some(), condition.equals.is_some(), condition.glob.is_some()];
    match given.into_iter().filter(|is_given| *is_given).count() {
        1 => Ok(()),
        count => {
            Err(format!("`{place}` needs exactly one of `exists`, `equals` and `glob`, and has {count}"))
        }
    }
}

fn then(then: &Then, place: Arguments<'_>) -> Result<(), String> {
    if let Some(reject) = &then.reject {
        if !(400..=599).contains(&reject.status) {
            return Err(format!("`{place}.reject.status` is {}; it must be from 400 to 599", reject.status));
        }
        if has_edits(then) {
            return Err(format!("`{place}` has edits beside `reject`, which come to nothing: remove them"));
        }
    }
    for text in &then.remove {
        pointer(text, format_args!("{place}.remove"))?;
    }
    for (key, pointers) in [("set", then.set.keys()), ("default", then.default.keys())] {
        for text in pointers {
            pointer(text, format_args!("{place}.{key}"))?;
        }
    }
    for (text, bounds) in &then.clamp {
        pointer(text, format_args!("{place}.clamp"))?;
        clamp(bounds, format_args!("{place}.clamp.{text}"))?;
    }
    if let Some(system) = &then.system {
        self::system(system, format_args!("{place}.system"))?;
    }
    headers(&then.headers, format_args!("{place}.headers"))
}

fn is_idle(then: &Then) -> bool {
    then.tag.is_empty() && then.reject.is_none() && !has_edits(then)
}

fn has_edits(then: &Then) -> bool {
    let Then { tag: _, reject: _, model, remove, set, default, clamp, system, headers } = then;
    let is_idle = model.is_none()
        && remove.is_empty()
        && set.is_empty()
        && default.is_empty()
        && clamp.is_empty()
        && system.is_none()
        && headers.remove.is_empty()
        && headers.set.is_empty();
    !is_idle
}

/// The whole body is no place to edit: a rule edits fields.
fn pointer(text: &str, place: Arguments<'_>) -> Result<(), String> {
    let is_escaped = |rest: &str| rest.starts_with(['0', '1']);
    if text.starts_with('/') && text.split('~').skip(1).all(is_escaped) {
        return Ok(());
    }
    Err(format!(
        "`{place}` has `{text}`, which is no JSON Pointer: write it like `/stream_options/include_usage`"
    ))
}

fn clamp(Clamp { min, max }: &Clamp, place: Arguments<'_>) -> Result<(), String> {
    match (min, max) {
        (None, None) => Err(format!("`{place}` needs `min`, `max` or both")),
        (Some(min), Some(max)) if min.as_f64() > max.as_f64() => {
            Err(format!("`{place}` has a `min` above its `max`: swap them"))
        }
        _ => Ok(()),
    }
}

fn system(system: &System, place: Arguments<'_>) -> Result<(), String> {
    match (&system.replace, system.prepend.is_some() || system.append.is_some()) {
        (None, false) => Err(format!("`{place}` needs `replace`, `prepend` or `append`")),
        (Some(_), true) => {
            Err(format!("`{place}` has `replace` beside `prepend` or `append`: put it all in `replace`"))
        }
        _ => Ok(()),
    }
}

fn headers(headers: &Headers, place: Arguments<'_>) -> Result<(), String> {
    for name in &headers.remove {
        header(name, format_args!("{place}.remove"))?;
    }
    for (name, value) in &headers.set {
        header(name, format_args!("{place}.set"))?;
        if !value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
            return Err(format!("`{place}.set.{name}` has a control character, which no header can have"));
        }
    }
    Ok(())
}

/// Source: RFC 9110, section 5.6.2.
fn header(name: &str, place: Arguments<'_>) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.bytes().all(is_token) {
        return Ok(());
    }
    Err(format!("`{place}` has `{name}`, which is no name of a header"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::Config as _;

    use super::*;

    #[track_caller]
    fn check(rule: Value, message: &str) {
        let config = json!({ "rules": [{ "then": { "tag": { "a": "b" } } }, rule] });
        let settings = Settings::from_json(&config.to_string()).unwrap();
        assert_eq!(super::settings(&settings).err().as_deref().unwrap_or(""), message);
    }

    #[test]
    fn a_plugin_without_work_is_refused() {
        let message = "`rules` is empty, so that the plugin does nothing: add a rule or remove the plugin";
        assert_eq!(settings(&Settings::default()).err().as_deref(), Some(message));
        let message = "`rules[1]` does nothing: give it something in `then`, or `stop: true`";
        check(json!({ "when": { "models": ["a"] } }), message);
        check(json!({ "stop": true }), "");
    }

    #[test]
    fn a_condition_asks_one_thing() {
        let rule = |condition| json!({ "when": { "body": [condition] }, "stop": true });
        let message = "`rules[1].when.body[0]` needs exactly one of `exists`, `equals` and `glob`, and has 0";
        check(rule(json!({ "pointer": "/a" })), message);
        let message = "`rules[1].when.body[0]` needs exactly one of `exists`, `equals` and `glob`, and has 2";
        check(rule(json!({ "pointer": "/a", "exists": true, "equals": null })), message);
        check(rule(json!({ "pointer": "/a", "equals": null })), "");
    }

    #[test]
    fn a_pointer_is_a_pointer() {
        let hint = "which is no JSON Pointer: write it like `/stream_options/include_usage`";
        let rule = json!({ "when": { "body": [{ "pointer": "a", "exists": true }] }, "stop": true });
        check(rule, &format!("`rules[1].when.body[0].pointer` has `a`, {hint}"));
        check(json!({ "then": { "set": { "": 1 } } }), &format!("`rules[1].then.set` has ``, {hint}"));
        check(
            json!({ "then": { "default": { "a": 1 } } }),
            &format!("`rules[1].then.default` has `a`, {hint}"),
        );
        check(json!({ "then": { "remove": ["/a~"] } }), &format!("`rules[1].then.remove` has `/a~`, {hint}"));
        check(json!({ "then": { "clamp": { "a": {} } } }), &format!("`rules[1].then.clamp` has `a`, {hint}"));
        check(json!({ "then": { "remove": ["/a~1b~0"] } }), "");
    }

    #[test]
    fn bounds_are_in_order() {
        let rule = |bounds| json!({ "then": { "clamp": { "/a": bounds } } });
        check(rule(json!({})), "`rules[1].then.clamp./a` needs `min`, `max` or both");
        let message = "`rules[1].then.clamp./a` has a `min` above its `max`: swap them";
        check(rule(json!({ "min": 2, "max": 1 })), message);
        check(rule(json!({ "min": 1, "max": 1 })), "");
    }

    #[test]
    fn a_refusal_stands_alone_and_is_one() {
        let message = "`rules[1].then` has edits beside `reject`, which come to nothing: remove them";
        check(json!({ "then": { "reject": { "message": "no" }, "model": "a" } }), message);
        let message = "`rules[1].then.reject.status` is 200; it must be from 400 to 599";
        check(json!({ "then": { "reject": { "message": "no", "status": 200 } } }), message);
        check(json!({ "then": { "reject": { "message": "no" }, "tag": { "a": "b" } } }), "");
    }

    #[test]
    fn a_prompt_is_replaced_or_added_to() {
        let message = "`rules[1].then.system` needs `replace`, `prepend` or `append`";
        check(json!({ "then": { "system": { "separator": " " } } }), message);
        let message =
            "`rules[1].then.system` has `replace` beside `prepend` or `append`: put it all in `replace`";
        check(json!({ "then": { "system": { "replace": "a", "append": "b" } } }), message);
    }

    #[test]
    fn a_header_is_one() {
        let message = "`rules[1].then.headers.set` has `x team`, which is no name of a header";
        check(json!({ "then": { "headers": { "set": { "x team": "a" } } } }), message);
        let message = "`rules[1].then.headers.set.x-team` has a control character, which no header can have";
        check(json!({ "then": { "headers": { "set": { "x-team": "a\nb" } } } }), message);
        let message = "`rules[1].then.headers.remove` has ``, which is no name of a header";
        check(json!({ "then": { "headers": { "remove": [""] } } }), message);
        let message = "`rules[1].when.headers` has `:path`, which is no name of a header";
        check(json!({ "when": { "headers": { ":path": "*" } }, "stop": true }), message);
    }

    #[test]
    fn a_key_nobody_knows_is_named() {
        #[track_caller]
        fn check(config: &str, word: &str) {
            let message = Settings::from_json(config).err().unwrap();
            assert!(message.contains(word), "{message}");
        }
        check(r#"{"rules":[{"wen":{}}]}"#, "`wen`");
        check(r#"{"rules":[{"then":{"sett":{}}}]}"#, "`sett`");
        check(r#"{"rules":[{"then":{"reject":{}}}]}"#, "`message`");
        check(r#"{"rules":[{"when":{"stream":"yes"}}]}"#, "boolean");
    }
}
