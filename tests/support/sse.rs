//! Reads server-sent events the way a client does, strictly.

/// One event: its name and its data, lines joined by `\n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field, if there was one.
    pub name: Option<String>,
    /// The `data:` lines.
    pub data: String,
}

/// Reads every complete event of a body; comments are left out.
///
/// # Panics
/// When the body ends inside an event, which a browser would throw away.
#[track_caller]
pub fn events(body: &[u8]) -> Vec<Event> {
    let text = std::str::from_utf8(body).expect("events are UTF-8");
    let (events, rest) = split(text);
    assert!(rest.is_empty(), "the stream ends inside an event: {rest:?}");
    events
}

/// The data of every complete event of a body.
#[track_caller]
pub fn data(body: &[u8]) -> Vec<String> {
    events(body).into_iter().map(|event| event.data).collect()
}

/// Reads the complete events of `text`; gives them and what is left over.
pub fn split(text: &str) -> (Vec<Event>, &str) {
    let (mut events, mut event, mut has_data) = (Vec::new(), Event::default(), false);
    let (mut position, mut complete) = (0, 0);
    while let Some(length) = text[position..].find('\n') {
        let line = text[position..position + length].trim_end_matches('\r');
        position += length + 1;
        if line.is_empty() {
            if has_data || event.name.is_some() {
                events.push(std::mem::take(&mut event));
            }
            has_data = false;
            complete = position;
        } else if let Some(value) = field(line, "data") {
            if has_data {
                event.data.push('\n');
            }
            event.data.push_str(value);
            has_data = true;
        } else if let Some(value) = field(line, "event") {
            event.name = Some(value.to_owned());
        }
    }
    (events, &text[complete..])
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let value = line.strip_prefix(name)?.strip_prefix(':')?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

/// The texts of a chat stream's first choice, joined.
#[track_caller]
pub fn chat_text(body: &[u8]) -> String {
    data(body)
        .iter()
        .filter(|data| *data != "[DONE]")
        .filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok())
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}
