//! The conversation of a request: chat completions, completions, and a text of the Responses API.

use serde_json::{Value, json};

use crate::Message;

/// Returns the conversation, in order.
pub(super) fn read(document: &Value) -> Vec<Message> {
    if let Some(messages) = document.get("messages").and_then(Value::as_array) {
        let numbered = (0..).zip(messages);
        return numbered
            .map(|(index, message)| Message { index, role: role(message), text: text(message) })
            .collect();
    }
    let prompt = ["prompt", "input"].into_iter().find_map(|name| document.get(name)?.as_str());
    prompt
        .map(|text| Message { index: 0, role: "user".to_owned(), text: text.to_owned() })
        .into_iter()
        .collect()
}

/// Replaces the text of a message; what of it is not text stays.
pub(super) fn replace(document: &mut Value, index: u32, text: &str) -> Result<(), String> {
    if let Some(prompt) = prompt(document) {
        return match index {
            0 => {
                *prompt = text.into();
                Ok(())
            }
            _ => Err(format!("there is no message {index}")),
        };
    }
    let message =
        list(document)?.get_mut(index as usize).ok_or_else(|| format!("there is no message {index}"))?;
    match message.get_mut("content") {
        Some(Value::Array(parts)) => replace_in_parts(parts, text),
        _ => message["content"] = text.into(),
    }
    Ok(())
}

/// Inserts a message before the one at `index`.
pub(super) fn insert(document: &mut Value, index: u32, role: &str, text: &str) -> Result<(), String> {
    let messages = list(document)?;
    if index as usize > messages.len() {
        return Err(format!("there are only {} messages", messages.len()));
    }
    messages.insert(index as usize, json!({"role": role, "content": text}));
    Ok(())
}

/// Removes a message.
pub(super) fn remove(document: &mut Value, index: u32) -> Result<(), String> {
    let messages = list(document)?;
    if index as usize >= messages.len() {
        return Err(format!("there is no message {index}"));
    }
    messages.remove(index as usize);
    Ok(())
}

fn list(document: &mut Value) -> Result<&mut Vec<Value>, String> {
    document
        .get_mut("messages")
        .and_then(Value::as_array_mut)
        .ok_or_else(|| "the request has no `messages`".to_owned())
}

fn prompt(document: &mut Value) -> Option<&mut Value> {
    let name = ["prompt", "input"].into_iter().find(|name| document[*name].is_string())?;
    document.get_mut(name)
}

fn role(message: &Value) -> String {
    message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn text(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => String::new(),
    }
}

/// Puts the text into the first part that has one, and takes it from the others.
fn replace_in_parts(parts: &mut Vec<Value>, text: &str) {
    let has_text = |part: &Value| part.get("text").is_some_and(Value::is_string);
    match parts.iter().position(has_text) {
        Some(first) => {
            parts[first]["text"] = text.into();
            let mut i = 0;
            parts.retain(|part| {
                i += 1;
                i - 1 <= first || !has_text(part)
            });
        }
        None => parts.insert(0, json!({"type": "text", "text": text})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(document: &Value, expected: &[(&str, &str)]) {
        let messages = read(document);
        let found: Vec<_> =
            messages.iter().map(|message| (message.role.as_str(), message.text.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_conversation_is_read_from_messages_or_a_prompt() {
        let parts =
            json!([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]);
        check(&json!({"messages": [{"role": "user", "content": parts}]}), &[("user", "ab")]);
        check(&json!({"messages": [{"role": "tool"}, {"content": "a"}]}), &[("tool", ""), ("", "a")]);
        check(&json!({"prompt": "a"}), &[("user", "a")]);
        check(&json!({"input": "a"}), &[("user", "a")]);
        check(&json!({"input": ["a"]}), &[]);
    }

    #[test]
    fn edits_keep_what_is_no_text() {
        let parts =
            json!([{"type": "image_url"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let mut document = json!({"messages": [{"role": "user", "content": parts}]});
        replace(&mut document, 0, "c").unwrap();
        insert(&mut document, 0, "system", "d").unwrap();
        insert(&mut document, 2, "user", "e").unwrap();
        remove(&mut document, 2).unwrap();
        let parts = json!([{"type": "image_url"}, {"type": "text", "text": "c"}]);
        let system = json!({"role": "system", "content": "d"});
        assert_eq!(document, json!({"messages": [system, {"role": "user", "content": parts}]}));
    }

    #[test]
    fn a_prompt_is_replaced_in_place() {
        let mut document = json!({"prompt": "a"});
        replace(&mut document, 0, "b").unwrap();
        assert_eq!(document, json!({"prompt": "b"}));
        assert!(replace(&mut document, 1, "b").is_err());
        assert!(insert(&mut document, 0, "system", "b").is_err());
    }
}
