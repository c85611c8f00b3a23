//! Rules as they are applied: checked, and sorted by the hook that does the work.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use witgate_sdk::{Call, Channel, glob};

use crate::fields::Edit;
use crate::path::Path;
use crate::replace::Literal;
use crate::settings::{self, Headers, Json, Status, Then, When};

/// A rule whose settings are in order.
pub(crate) struct Rule {
    when: When,
    status: Vec<Range>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) literals: Vec<(Channel, Literal)>,
    pub(crate) headers: Headers,
}

/// The first and the last status of those that match.
type Range = (u16, u16);

impl Rule {
    /// Checks the rule that stands at `place`. The error names what is wrong and where.
    pub(crate) fn new(rule: settings::Rule, place: Arguments<'_>) -> Result<Self, String> {
        let settings::Rule { when, then } = rule;
        let status = (when.status.iter().enumerate())
            .map(|(index, status)| {
                range(status).ok_or_else(|| wrong_status(format_args!("{place}.when.status[{index}]")))
            })
            .collect::<Result<_, _>>()?;
        let place = format_args!("{place}.then");
        let edits = edits(&then, place)?;
        let literals = literals(&then, place)?;
        check_headers(&then.headers, format_args!("{place}.headers"))?;
        let rule = Self { when, status, edits, literals, headers: then.headers };
        if rule.edits.is_empty() && rule.literals.is_empty() && !rule.edits_headers() {
            return Err(format!(
                "`{place}` is empty, so that the rule does nothing: give it something to do"
            ));
        }
        Ok(rule)
    }

    /// Says whether the rule is for the answers to a call that have this status.
    pub(crate) fn holds(&self, call: &Call, status: u16) -> bool {
        let When { models, operations, tenants, upstreams, status: _, stream } = &self.when;
        (self.status.is_empty() || self.status.iter().any(|(first, last)| (*first..=*last).contains(&status)))
            && stream.is_none_or(|stream| stream == call.is_stream())
            && is_any(models, || Some(call.model()))
            && is_any(operations, || Some(call.operation()))
            && is_any(tenants, || call.tenant())
            && is_any(upstreams, || call.upstream())
    }

    fn edits_headers(&self) -> bool {
        let Headers { rename, remove, set } = &self.headers;
        !(rename.is_empty() && remove.is_empty() && set.is_empty())
    }
}

/// Says whether a text matches one of the patterns; it is not fetched when there are none.
fn is_any(patterns: &[String], text: impl FnOnce() -> Option<String>) -> bool {
    patterns.is_empty()
        || text().is_some_and(|text| patterns.iter().any(|pattern| glob::matches(pattern, &text)))
}

fn range(status: &Status) -> Option<Range> {
    let code = match status {
        Status::Code(code) => *code,
        Status::Text(text) => match text.as_bytes() {
            [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                let first = u16::from(class - b'0') * 100;
                return Some((first, first + 99));
            }
            _ => text.parse().ok()?,
        },
    };
    (100..=599).contains(&code).then_some((code, code))
}

fn wrong_status(place: Arguments<'_>) -> String {
    format!("`{place}` must be a status from 100 to 599 or a class like `4xx`")
}

/// The edits of a rule, in the order they are applied.
fn edits(then: &Then, place: Arguments<'_>) -> Result<Vec<Edit>, String> {
    let mut edits = Vec::new();
    for (from, to) in &then.rename {
        let place = format_args!("{place}.rename");
        let (from, to) = (path(from, place)?, path(to, place)?);
        if from.stars() != to.stars() {
            return Err(format!(
                "`{place}` moves a field to a pointer with more or fewer `*`: give both as many"
            ));
        }
        edits.push(Edit::Rename(from, to));
    }
    for pointer in &then.remove {
        edits.push(Edit::Remove(path(pointer, format_args!("{place}.remove"))?));
    }
    type New = fn(Path, String) -> Edit;
    let values: [(&str, &BTreeMap<String, Json>, New); 3] = [
        ("set", &then.set, Edit::Set),
        ("replace", &then.replace, Edit::Replace),
        ("default", &then.default, Edit::Default),
    ];
    for (key, values, new) in values {
        for (pointer, value) in values {
            edits.push(new(path(pointer, format_args!("{place}.{key}"))?, value.text().to_owned()));
        }
    }
    Ok(edits)
}

fn path(text: &str, place: Arguments<'_>) -> Result<Path, String> {
    Path::parse(text).ok_or_else(|| {
        format!("`{place}` has `{text}`, which is no JSON Pointer: write it like `/choices/*/logprobs`")
    })
}

fn literals(then: &Then, place: Arguments<'_>) -> Result<Vec<(Channel, Literal)>, String> {
    let mut literals = Vec::new();
    for (index, text) in then.text.iter().enumerate() {
        if text.find.is_empty() {
            return Err(format!("`{place}.text[{index}].find` is empty, and would be found everywhere"));
        }
        let literal = Literal { find: text.find.clone(), replace: text.replace.clone() };
        let channels =
            if text.channels.is_empty() { &[settings::Where::Content] } else { text.channels.as_slice() };
        literals.extend(channels.iter().map(|&channel| (channel.into(), literal.clone())));
    }
    Ok(literals)
}

fn check_headers(headers: &Headers, place: Arguments<'_>) -> Result<(), String> {
    let named = [
        ("rename", headers.rename.keys().chain(headers.rename.values()).collect::<Vec<_>>()),
        ("remove", headers.remove.iter().collect()),
        ("set", headers.set.keys().collect()),
    ];
    for (key, names) in named {
        if let Some(name) = names.into_iter().find(|name| !is_header_name(name)) {
            return Err(format!("`{place}.{key}` has `{name}`, which is no name of a header"));
        }
    }
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    match headers.set.iter().find(|(_, value)| !value.bytes().all(is_text)) {
        Some((name, _)) => {
            Err(format!("`{place}.set.{name}` has a control character, which no header can have"))
        }
        None => Ok(()),
    }
}

/// Source: RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::Config as _;

    use super::*;
    use crate::settings::Settings;

    #[track_caller]
    fn check(rule: Value, message: &str) {
        let mut settings = Settings::from_json(&json!({ "rules": [rule] }).to_string()).unwrap();
        let rule = Rule::new(settings.rules.remove(0), format_args!("rules[7]"));
        assert_eq!(rule.err().as_deref().unwrap_or(""), message);
    }

    #[test]
    fn a_rule_does_something() {
        let message = "`rules[7].then` is empty, so that the rule does nothing: give it something to do";
        check(json!({}), message);
        check(json!({ "then": { "remove": [], "headers": {} } }), message);
        check(json!({ "then": { "headers": { "remove": ["server"] } } }), "");
    }

    #[test]
    fn a_status_is_one_or_a_class() {
        let rule = |status| json!({ "when": { "status": [200, status] }, "then": { "remove": ["/a"] } });
        let message = "`rules[7].when.status[1]` must be a status from 100 to 599 or a class like `4xx`";
        for status in [json!("4xx"), json!("5XX"), json!(404), json!("404")] {
            check(rule(status), "");
        }
        for status in [json!("6xx"), json!("4x"), json!(99), json!("600"), json!("+40"), json!("")] {
            check(rule(status), message);
        }
    }

    #[test]
    fn a_pointer_is_a_pointer() {
        let hint = "which is no JSON Pointer: write it like `/choices/*/logprobs`";
        for key in ["set", "replace", "default"] {
            check(json!({ "then": { key: { "a": 1 } } }), &format!("`rules[7].then.{key}` has `a`, {hint}"));
        }
        check(json!({ "then": { "remove": [""] } }), &format!("`rules[7].then.remove` has ``, {hint}"));
        check(
            json!({ "then": { "rename": { "/a": "b" } } }),
            &format!("`rules[7].then.rename` has `b`, {hint}"),
        );
        let message =
            "`rules[7].then.rename` moves a field to a pointer with more or fewer `*`: give both as many";
        check(json!({ "then": { "rename": { "/a/*/b": "/a/b" } } }), message);
    }

    #[test]
    fn a_text_is_not_empty() {
        let message = "`rules[7].then.text[0].find` is empty, and would be found everywhere";
        check(json!({ "then": { "text": [{ "find": "" }] } }), message);
    }

    #[test]
    fn a_header_is_one() {
        let message = "`rules[7].then.headers.rename` has `b c`, which is no name of a header";
        check(json!({ "then": { "headers": { "rename": { "a": "b c" } } } }), message);
        let message = "`rules[7].then.headers.set.a` has a control character, which no header can have";
        check(json!({ "then": { "headers": { "set": { "a": "b\r\nc: d" } } } }), message);
    }

    #[test]
    fn a_key_nobody_knows_is_named() {
        let message = Settings::from_json(r#"{"rules":[{"then":{"drop":[]}}]}"#).err().unwrap();
        assert!(message.contains("`drop`"), "{message}");
    }
}
