//! What a request tells the probe to do.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_sdk::metrics::Counter;
use witgate_sdk::{Call, Flow, Rejection, SyntheticResponse, http, kv, log, secrets};

use crate::chat;

/// The commands of a request.
pub(crate) struct Commands(String);

impl Commands {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Those that `on-request` left for the later hooks.
    pub(crate) fn left(call: &Call) -> Self {
        let left = call.attr("commands").unwrap_or_default();
        Self(String::from_utf8_lossy(&left).into_owned())
    }

    /// The command for a hook.
    pub(crate) fn of(&self, hook: &str) -> Option<&str> {
        self.0.split(';').find_map(|command| command.trim().strip_prefix(hook)?.strip_prefix(' '))
    }

    /// Whether they are for every probe or the one with this label.
    pub(crate) fn is_for(&self, label: &str) -> bool {
        self.of("only").is_none_or(|wanted| wanted == label)
    }
}

/// Does what the request says and answers it with what came of it, except for what changes the request.
pub(crate) fn request(command: &str, call: &Call, uses: u64) -> Result<Flow, Rejection> {
    let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
    let came = match verb {
        "next" => return Ok(Flow::Next),
        "chat" => return Ok(Flow::Respond(chat(rest))),
        "status" => {
            let status = rest.parse().unwrap_or_default();
            return Ok(Flow::Respond(SyntheticResponse::new(status).body("{\"own\":true}")));
        }
        "reject" => {
            return Err(
                Rejection::new(rest.parse().unwrap_or_default(), "no", "rejected").header("x-why", "probe")
            );
        }
        "get" => json!(text(kv::get(rest))),
        "add" => json!(kv::add(rest, 1, None).map_err(|error| error.to_string())),
        "keep" => keep(rest),
        "env" => json!(variable(rest)),
        "secret" => json!(secrets::get(rest)),
        "headers" => json!(call.headers()),
        "uses" => json!(uses),
        "grow" => {
            // Kept for the life of the instance.
            std::mem::forget(vec![1_u8; rest.parse().unwrap_or_default()]);
            json!(uses)
        }
        "http" => fetch(rest),
        "count" => count(rest),
        "log" => {
            log::warn("the probe speaks", &[("said", rest)]);
            json!(true)
        }
        "messages" => messages(call),
        "edit" => {
            call.insert_message(0, "system", rest)?;
            call.set("/edited", "1")?;
            return Ok(Flow::Next);
        }
        "half" => {
            call.set("/edited", "2")?;
            panic!("after an edit");
        }
        other => return Err(Rejection::new(400, "no_command", format!("`{other}` is no command"))),
    };
    Ok(Flow::Respond(SyntheticResponse::json(json!({ "came": came }).to_string())))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a plugin sees what the operator grants, and nothing of the host's"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn text(value: Result<Option<Vec<u8>>, kv::Error>) -> Option<String> {
    value.ok().flatten().map(|value| String::from_utf8_lossy(&value).into_owned())
}

/// `KEY BYTES MS`: a value of so many bytes, for so many milliseconds; 0 is for ever.
fn keep(rest: &str) -> Value {
    let mut words = rest.split(' ');
    let key = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    let (len, ms) = (number() as usize, number());
    let time_to_live = (ms > 0).then(|| Duration::from_millis(ms));
    json!(kv::set(key, "k".repeat(len), time_to_live).err().map(|error| error.to_string()))
}

fn fetch(url: &str) -> Value {
    match http::get(url) {
        Ok(response) => json!({ "status": response.status, "body": response.text() }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Counts under so many label values.
fn count(rest: &str) -> Value {
    let counter = Counter::new("seen_total", &["what"]);
    let Ok(counter) = counter else { return json!(counter.err()) };
    for number in 0..rest.parse::<u32>().unwrap_or_default() {
        counter.add(1.0, &[&number.to_string()]);
    }
    json!(true)
}

fn messages(call: &Call) -> Value {
    let messages = call.messages();
    messages.iter().map(|message| format!("{}: {}", message.role, message.text)).collect()
}
