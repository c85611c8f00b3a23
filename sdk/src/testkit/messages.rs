//! The conversation of a request, by the host's rules.

use serde_json::{Value, json};

use crate::Message;

/// Returns the conversation, in order.
pub(super) fn read(operation: &str, document: &Value) -> Vec<Message> {
    let numbered = (0..).zip(places(operation, document));
    numbered
        .map(|(index, place)| {
            let text = place.text(place.value(document));
            Message { index, role: place.role, text }
        })
        .collect()
}

/// Replaces the text of a message; what of it is not text stays.
pub(super) fn replace(operation: &str, document: &mut Value, index: u32, text: &str) -> Result<(), String> {
    let place = place(operation, document, index)?;
    let part_type = match (operation, place.role.as_str()) {
        ("responses", "assistant") => "output_text",
        ("responses", _) => "input_text",
        _ => "text",
    };
    let value = place.value_mut(document);
    match place.seat {
        Seat::Text => *value = text.into(),
        Seat::Part => value["text"] = text.into(),
        Seat::Message => match value.get_mut("content") {
            Some(Value::Array(parts)) => replace_in_parts(parts, text, part_type),
            _ => value["content"] = text.into(),
        },
    }
    Ok(())
}

/// Inserts a message before the one at `index`; at the number of messages it appends.
pub(super) fn insert(
    operation: &str,
    document: &mut Value,
    index: u32,
    role: &str,
    text: &str,
) -> Result<(), String> {
    let places = places(operation, document);
    if index as usize > places.len() {
        return Err(missing(index, places.len()));
    }
    let next = places.get(index as usize);
    let home = match next.or_else(|| places.last()) {
        _ if operation == "responses" => "input",
        Some(neighbour) => neighbour.home,
        None => homes(operation).first().ok_or_else(|| format!("`{operation}` has no messages"))?,
    };
    let is_part = places.iter().any(|place| place.home == home && place.seat == Seat::Part);
    let mut items = vec![item(operation, home, role, text, is_part)?];
    let at = next.map_or(usize::MAX, |next| next.element.unwrap_or(0));
    if next.is_some_and(|next| next.home == "instructions") {
        items.push(message("system", &document["instructions"]));
    }
    let is_moved = items.len() > 1;
    let list = with_items(operation, home, &document[home], at, items)?;
    let members = document.as_object_mut().ok_or("the document is no object")?;
    members.insert(home.to_owned(), list);
    if is_moved {
        members.remove("instructions");
    }
    Ok(())
}

/// Removes a message.
pub(super) fn remove(operation: &str, document: &mut Value, index: u32) -> Result<(), String> {
    let place = place(operation, document, index)?;
    match (place.element, &mut document[place.home]) {
        (Some(element), Value::Array(items)) => drop(items.remove(element)),
        _ => drop(document.as_object_mut().and_then(|members| members.remove(place.home))),
    }
    Ok(())
}

/// One message and where it stands.
struct Place {
    /// The top-level member it is in.
    home: &'static str,
    /// Which element of that, if it is a list.
    element: Option<usize>,
    role: String,
    seat: Seat,
}

/// What a message is in the document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    /// A string.
    Text,
    /// An object with a `text`.
    Part,
    /// An object with a `role` and a `content`.
    Message,
}

impl Place {
    fn value<'a>(&self, document: &'a Value) -> &'a Value {
        let value = &document[self.home];
        self.element.map_or(value, |element| &value[element])
    }

    fn value_mut<'a>(&self, document: &'a mut Value) -> &'a mut Value {
        let value = &mut document[self.home];
        match self.element {
            Some(element) => &mut value[element],
            None => value,
        }
    }

    fn text(&self, value: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match (self.seat, &value["content"]) {
            (Seat::Text, _) => text(value),
            (Seat::Part, _) => text(&value["text"]),
            (Seat::Message, Value::Array(parts)) => parts.iter().map(|part| text(&part["text"])).collect(),
            (Seat::Message, content) => text(content),
        }
    }
}

/// The top-level members that hold an operation's texts, in the order of the conversation.
fn homes(operation: &str) -> &'static [&'static str] {
    match operation {
        "chat.completions" => &["messages"],
        "responses" => &["instructions", "input"],
        "text_completion" | "completions" | "images.generations" => &["prompt"],
        "embeddings" | "classify" => &["input", "messages"],
        "moderations" | "audio.speech" => &["input"],
        "rerank" => &["query", "documents"],
        "score" => &["text_1", "queries", "text_2", "documents", "items"],
        _ => &[],
    }
}

/// Whether the items of a member are messages with roles, and not bare texts.
fn has_roles(operation: &str, home: &str) -> bool {
    home == "messages" || (operation == "responses" && home == "input")
}

fn place(operation: &str, document: &Value, index: u32) -> Result<Place, String> {
    let mut places = places(operation, document);
    let count = places.len();
    if index as usize >= count { Err(missing(index, count)) } else { Ok(places.swap_remove(index as usize)) }
}

fn missing(index: u32, count: usize) -> String {
    let noun = if count == 1 { "message" } else { "messages" };
    format!("there is no message {index}, the conversation has {count} {noun}")
}

fn places(operation: &str, document: &Value) -> Vec<Place> {
    let mut places = Vec::new();
    for &home in homes(operation) {
        match &document[home] {
            Value::String(_) if home != "messages" => {
                let role = if home == "instructions" { "system" } else { "user" };
                places.push(Place { home, element: None, role: role.to_owned(), seat: Seat::Text });
            }
            Value::Array(items) if home != "instructions" => {
                places.extend(items.iter().enumerate().filter_map(|(element, item)| {
                    let (role, seat) =
                        if has_roles(operation, home) { spoken(operation, item)? } else { bare(item)? };
                    Some(Place { home, element: Some(element), role, seat })
                }));
            }
            _ => {}
        }
    }
    places
}

/// Reads who speaks in an item of a conversation; `None` if it is not a message.
fn spoken(operation: &str, item: &Value) -> Option<(String, Seat)> {
    let role = item.as_object()?.get("role").and_then(Value::as_str);
    let is_message = operation != "responses"
        || role.is_some() && item.get("type").and_then(Value::as_str).is_none_or(|kind| kind == "message");
    let role = match role {
        Some("developer") => "system",
        Some("function") => "tool",
        role => role.unwrap_or_default(),
    };
    is_message.then(|| (role.to_owned(), Seat::Message))
}

/// Tells what an item of a list of texts is; `None` if it is a token, a picture or the like.
fn bare(item: &Value) -> Option<(String, Seat)> {
    let seat = match item {
        Value::String(_) => Seat::Text,
        item if has_text(item) => Seat::Part,
        _ => return None,
    };
    Some(("user".to_owned(), seat))
}

fn has_text(part: &Value) -> bool {
    part["text"].is_string()
}

/// Puts the text into the first part that has one, and takes the others away.
fn replace_in_parts(parts: &mut Vec<Value>, text: &str, part_type: &str) {
    let Some(first) = parts.iter().position(has_text) else {
        return parts.insert(0, json!({"type": part_type, "text": text}));
    };
    parts[first]["text"] = text.into();
    let rest = parts.split_off(first + 1);
    parts.extend(rest.into_iter().filter(|part| !has_text(part)));
}

/// Makes an item for a list of messages or texts.
fn item(operation: &str, home: &str, role: &str, text: &str, is_part: bool) -> Result<Value, String> {
    match role {
        "" => Err("a message needs a role".to_owned()),
        "tool" if has_roles(operation, home) => {
            Err(format!("a `tool` message needs more than a text; set `/{home}/-` to the whole of it"))
        }
        _ if has_roles(operation, home) => Ok(message(role, &text.into())),
        "user" if is_part && home == "input" => Ok(json!({"type": "text", "text": text})),
        "user" if is_part => Ok(json!({"text": text})),
        "user" => Ok(text.into()),
        _ => Err(format!("`{home}` has no roles; every message of it is of `user`")),
    }
}

fn message(role: &str, content: &Value) -> Value {
    json!({"role": role, "content": content})
}

/// Returns the value of a member with `items` before its element `at`, or at its end.
fn with_items(
    operation: &str,
    home: &str,
    value: &Value,
    at: usize,
    mut items: Vec<Value>,
) -> Result<Value, String> {
    let has_roles = has_roles(operation, home);
    let mut list = match value {
        Value::Null if !has_roles && items.len() == 1 => return Ok(items.remove(0)),
        Value::Null => Vec::new(),
        Value::String(_) if matches!(home, "prompt" | "input") => {
            vec![if has_roles { message("user", value) } else { value.clone() }]
        }
        Value::Array(list) if !has_roles && list.iter().any(|item| item.is_number() || item.is_array()) => {
            return Err(format!("`{home}` holds tokens, a text cannot be put beside them"));
        }
        Value::Array(list) => list.clone(),
        _ => return Err(format!("`{home}` is no list, nothing can be inserted")),
    };
    let at = at.min(list.len());
    list.splice(at..at, items);
    Ok(list.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "chat.completions";

    #[track_caller]
    fn check(operation: &str, document: Value, expected: &[(&str, &str)]) {
        let messages = read(operation, &document);
        let found: Vec<_> = messages.iter().map(|turn| (turn.role.as_str(), turn.text.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_insert(operation: &str, document: Value, index: u32, role: &str, expected: Value) {
        let mut edited = document;
        insert(operation, &mut edited, index, role, "z").unwrap();
        assert_eq!(edited, expected);
    }

    #[track_caller]
    fn check_refused(result: Result<(), String>, expected: &str) {
        assert_eq!(result.unwrap_err(), expected);
    }

    #[test]
    fn a_conversation_is_read_from_where_the_operation_has_it() {
        let parts =
            json!([{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]);
        check(CHAT, json!({"messages": [{"role": "developer", "content": parts}]}), &[("system", "ab")]);
        check(CHAT, json!({"messages": [{"role": "tool"}, {"content": "a"}]}), &[("tool", ""), ("", "a")]);
        check(CHAT, json!({"prompt": "a"}), &[]);
        check("text_completion", json!({"prompt": ["a", "b", [1]]}), &[("user", "a"), ("user", "b")]);
        check("responses", json!({"instructions": "a", "input": "b"}), &[("system", "a"), ("user", "b")]);
        let items = json!([{"type": "reasoning"}, {"role": "user", "content": [{"type": "input_text", "text": "a"}]}]);
        check("responses", json!({"input": items}), &[("user", "a")]);
        check("rerank", json!({"query": "a", "documents": [{"text": "b"}]}), &[("user", "a"), ("user", "b")]);
        check("passthrough", json!({"messages": [{"role": "user", "content": "a"}]}), &[]);
    }

    #[test]
    fn edits_keep_what_is_no_text() {
        let parts =
            json!([{"type": "image_url"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let mut document = json!({"messages": [{"role": "user", "content": parts}]});
        replace(CHAT, &mut document, 0, "c").unwrap();
        insert(CHAT, &mut document, 0, "system", "d").unwrap();
        insert(CHAT, &mut document, 2, "user", "e").unwrap();
        remove(CHAT, &mut document, 2).unwrap();
        let parts = json!([{"type": "image_url"}, {"type": "text", "text": "c"}]);
        let system = json!({"role": "system", "content": "d"});
        assert_eq!(document, json!({"messages": [system, {"role": "user", "content": parts}]}));
        let mut document = json!({"input": [{"role": "assistant", "content": []}]});
        replace("responses", &mut document, 0, "a").unwrap();
        assert_eq!(document["input"][0]["content"], json!([{"type": "output_text", "text": "a"}]));
    }

    #[test]
    fn a_message_is_inserted_where_it_can_be() {
        let z = json!({"role": "system", "content": "z"});
        check_insert(CHAT, json!({}), 0, "system", json!({"messages": [z]}));
        let user = json!({"role": "user", "content": "a"});
        check_insert("responses", json!({"input": "a"}), 0, "system", json!({"input": [z, user]}));
        let moved = json!({"role": "system", "content": "a"});
        check_insert("responses", json!({"instructions": "a"}), 0, "system", json!({"input": [z, moved]}));
        check_insert("completions", json!({"prompt": "a"}), 1, "user", json!({"prompt": ["a", "z"]}));
        check_insert("completions", json!({}), 0, "user", json!({"prompt": "z"}));
    }

    #[test]
    fn what_cannot_be_edited_is_said() {
        let mut document = json!({"messages": [], "prompt": [[1]], "query": 1});
        check_refused(
            replace(CHAT, &mut document, 0, "a"),
            "there is no message 0, the conversation has 0 messages",
        );
        check_refused(
            remove(CHAT, &mut document, 1),
            "there is no message 1, the conversation has 0 messages",
        );
        let mut refused = |operation, role, expected| {
            check_refused(insert(operation, &mut document, 0, role, "a"), expected);
        };
        refused(CHAT, "", "a message needs a role");
        refused(
            CHAT,
            "tool",
            "a `tool` message needs more than a text; set `/messages/-` to the whole of it",
        );
        refused("completions", "system", "`prompt` has no roles; every message of it is of `user`");
        refused("completions", "user", "`prompt` holds tokens, a text cannot be put beside them");
        refused("rerank", "user", "`query` is no list, nothing can be inserted");
        refused("passthrough", "user", "`passthrough` has no messages");
    }
}
