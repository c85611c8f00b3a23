//! What has to come of a scenario, for a client and an upstream.
//!
//! It is the same for all of them but for what somebody's API has no word for; those differences stand here, each with its reason.

use serde_json::{Map, Value, json};
use witgate_tests::Vendor;

use super::{Client, Target, UPSTREAMS};

/// Stands for a number that the gateway has estimated.
pub(crate) const ESTIMATE: &str = "an estimate";

/// The bytes of the picture that the scripts send.
const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// What the script prints of this scenario.
pub(crate) fn expected(client: Client, target: &Target, scenario: &str) -> Value {
    let answer = |story: &str, text: &str| answer(&format!("{}{story}", target.prefix), text);
    match scenario {
        "text" => both(answer("plain", "Hello, wörld 🌍")),
        "alias" => both(answer("alias", "Hello, wörld 🌍")),
        "think" => both(thoughtful(answer("think", "Done."), "Let me think.")),
        "redacted" => {
            let turn = thoughtful(answer("redacted", "Done."), "");
            // These two keep nothing that they cannot show.
            let is_lost = target.upstream == "anthropic"
                && matches!(client.name, "vercel_compatible" | "vercel_google");
            let text = if is_lost { "Lost." } else { "Done." };
            both(json!({"first": turn, "second": with(turn.clone(), "text", json!(text))}))
        }
        "length" => both(with(answer("length", "Hello, w"), "stop", json!("length"))),
        "refused" => both(with(answer("refused", "I cannot"), "stop", json!("content_filter"))),
        "word" => {
            let answer = answer("word", "Before ");
            // Only Anthropic tells which word it was.
            let is_told =
                client.vendor == Vendor::Anthropic && !client.is_vercel() && target.upstream == "anthropic";
            both(if is_told { with(answer, "word", json!("END")) } else { answer })
        }
        "tools" => both(round_trip(target, "tools", "")),
        "think-tools" => both(round_trip(target, "think-tools", "Two cities.")),
        "image" => {
            let parts = json!([{"text": "What is this?"}, {"data": PICTURE, "type": "image/png"}]);
            json!([{"role": "user", "parts": parts}])
        }
        "system" => json!({"system": ["Be brief.", "Speak French.", "Never lie."],
            "turns": [{"role": "user", "parts": [{"text": "hi"}]}]}),
        "settings" => {
            // The Responses API has no stop words.
            let stop = if client.has_stop_words() { json!(["END", "STOP"]) } else { Value::Null };
            json!({"max_tokens": 2000, "temperature": 0.5, "top_p": 0.9, "stop": stop})
        }
        "tool-choice" => tool_choice(client, target),
        "schema" => {
            let place = json!({"city": "Paris", "degrees": 20});
            json!([place, place])
        }
        "errors" => errors(client, target),
        "broken" => broken(client, target),
        "orphan" => told(client, 400, false),
        "count" if matches!(target.upstream, "anthropic" | "gemini") => json!(42),
        "count" => json!(ESTIMATE),
        // Anthropic has no embeddings.
        "embeddings" if target.upstream == "anthropic" => json!("refused"),
        "embeddings" => json!({"one": [[0.25, -0.5]], "two": [[0.25, -0.5], [0.25, -0.5]]}),
        "models" => models(client, target),
        "chat" => {
            let first = "Paris: {\"degrees\":5}, Málaga \"S\" \\ é: {\"degrees\":14}";
            let second = "You are welcome.";
            // A stream tells what was said before the functions were called, too.
            json!({"whole": [first, second], "stream": [format!("I will look.{first}"), second]})
        }
        _ => panic!("nothing is expected of the scenario {scenario}"),
    }
}

fn both(answer: Value) -> Value {
    json!({"both": answer})
}

fn with(mut answer: Value, name: &str, value: Value) -> Value {
    answer[name] = value;
    answer
}

fn answer(model: &str, text: &str) -> Value {
    json!({"text": text, "thinking": "", "calls": [], "stop": "stop", "usage": [11, 9, 3, 0], "model": model})
}

fn thoughtful(answer: Value, thinking: &str) -> Value {
    with(with(answer, "thinking", json!(thinking)), "usage", json!([11, 9, 3, 4]))
}

fn round_trip(target: &Target, story: &str, thinking: &str) -> Value {
    let model = format!("{}{story}", target.prefix);
    let mut first = answer(&model, "I will look.");
    if !thinking.is_empty() {
        first = thoughtful(first, thinking);
    }
    first["calls"] = json!([
        {"name": "weather", "arguments": {"city": "Paris", "days": 2}},
        {"name": "weather", "arguments": {"city": "Málaga \"S\" \\ é", "days": 1}},
    ]);
    first["ids"] = json!("distinct");
    first["stop"] = json!("tool_calls");
    let second = answer(&model, "Paris: {\"degrees\":20}, Málaga \"S\" \\ é: {\"degrees\":25}");
    json!({"first": first, "second": second, "third": "You are welcome."})
}

fn tool_choice(client: Client, target: &Target) -> Value {
    let mut parameters = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "integer"},
        },
        "required": ["city", "days"],
        "additionalProperties": false,
    });
    // This one writes Google's own kind of schema, which has no such member.
    if client.name == "vercel_google" {
        parameters.as_object_mut().expect("it is one").remove("additionalProperties");
    }
    // Google's API cannot forbid several calls at once.
    let is_parallel = client.vendor == Vendor::Gemini || target.upstream == "gemini";
    json!({
        "auto": "auto", "none": "none", "required": "required", "named:weather": "named:weather",
        "alone": is_parallel,
        "tools": [{"name": "weather", "description": "Tells the weather.", "parameters": parameters}],
    })
}

/// An error as the client's SDK shows it.
fn told(client: Client, status: u16, is_as_wished: bool) -> Value {
    let says = if is_as_wished { json!("as you wish") } else { Value::Null };
    let retry_after = if status == 429 { json!("7") } else { Value::Null };
    let mut told =
        json!({"class": client.class(status), "status": status, "retry_after": retry_after, "says": says});
    if let Some(kind) = client.kind(status) {
        told["type"] = json!(kind);
    }
    told
}

fn errors(client: Client, target: &Target) -> Value {
    let statuses = [400, 401, 403, 404, 429, 500, 503, 529];
    let told = statuses.map(|status| {
        // 529 is Anthropic's own word for being overloaded; where it is translated it is everybody's.
        let is_own = client.vendor == Vendor::Anthropic || !client.is_converted(target);
        let there = if status == 529 && !is_own { 503 } else { status };
        (status.to_string(), told(client, there, true))
    });
    Value::Object(Map::from_iter(told))
}

fn broken(client: Client, target: &Target) -> Value {
    let (told, broke) = client.stream_classes();
    let by_the_gateway = client.class_told_by_the_gateway();
    let broken = if client.is_converted(target) { by_the_gateway } else { told };
    json!({"broken": broken, "cut": if target.is_direct { broke } else { by_the_gateway }})
}

fn models(client: Client, target: &Target) -> Value {
    let mut names: Vec<String> = if target.is_direct {
        ["plain", "think"].map(|story| format!("{}{story}", target.prefix)).to_vec()
    } else {
        // What the upstreams tell, and the operator's own names beside them.
        let told =
            Vendor::ALL.iter().flat_map(|vendor| ["plain", "think"].map(|story| (vendor.prefix(), story)));
        let own = UPSTREAMS.iter().map(|upstream| (upstream.2, "alias"));
        told.chain(own).map(|(prefix, story)| format!("{prefix}{story}")).collect()
    };
    names.sort();
    let before = if client.vendor == Vendor::Gemini { "models/" } else { "" };
    names.iter().map(|name| format!("{before}{name}")).collect()
}

impl Client {
    fn is_vercel(self) -> bool {
        self.name.starts_with("vercel")
    }

    /// Whether the upstream is asked in other words than the client's.
    fn is_converted(self, target: &Target) -> bool {
        let is_responses = matches!(self.name, "openai_responses" | "vercel_openai");
        !target.is_direct
            && (self.vendor != target.vendor || (is_responses && target.upstream != "openai-native"))
    }

    fn has_stop_words(self) -> bool {
        !matches!(self.name, "openai_responses" | "vercel_openai")
    }

    /// The class of an error with this status.
    fn class(self, status: u16) -> &'static str {
        if self.is_vercel() {
            return "APICallError";
        }
        match (self.vendor, self.language) {
            (Vendor::Gemini, "javascript") => return "ApiError",
            (Vendor::Gemini, _) if status < 500 => return "ClientError",
            (Vendor::Gemini, _) => return "ServerError",
            _ => {}
        }
        match status {
            400 => "BadRequestError",
            401 => "AuthenticationError",
            403 => "PermissionDeniedError",
            404 => "NotFoundError",
            429 => "RateLimitError",
            503 if self.vendor == Vendor::Anthropic => "ServiceUnavailableError",
            529 if self.vendor == Vendor::Anthropic => "OverloadedError",
            _ => "InternalServerError",
        }
    }

    /// What the vendor's own body calls an error with this status, where the SDK shows it.
    fn kind(self, status: u16) -> Option<&'static str> {
        if self.is_vercel() || (self.vendor == Vendor::Gemini && self.language == "javascript") {
            return None;
        }
        let (anthropic, gemini) = match status {
            400 => ("invalid_request_error", "INVALID_ARGUMENT"),
            401 => ("authentication_error", "UNAUTHENTICATED"),
            403 => ("permission_error", "PERMISSION_DENIED"),
            404 => ("not_found_error", "NOT_FOUND"),
            429 => ("rate_limit_error", "RESOURCE_EXHAUSTED"),
            500 => ("api_error", "INTERNAL"),
            _ => ("overloaded_error", "UNAVAILABLE"),
        };
        match self.vendor {
            Vendor::OpenAi => None,
            Vendor::Anthropic => Some(anthropic),
            Vendor::Gemini => Some(gemini),
        }
    }

    /// The class of an error that the gateway ends a stream with.
    fn class_told_by_the_gateway(self) -> &'static str {
        match self.name {
            // Its events of errors have what the SDK raises an error for, which the vendor's have not.
            "openai_responses" => "APIError",
            _ => self.stream_classes().0,
        }
    }

    /// The classes of the errors that a stream ends with: that the vendor tells, and of a connection that breaks.
    fn stream_classes(self) -> (&'static str, &'static str) {
        match (self.name, self.language) {
            ("openai_chat", "python") => ("APIError", "APIConnectionError"),
            ("openai_responses", "python") => ("Failed", "APIConnectionError"),
            ("anthropic_messages", "python") => ("APIStatusError", "RemoteProtocolError"),
            ("google_genai", "python") => ("ServerError", "RemoteProtocolError"),
            ("google_genai", _) => ("ApiError", "TypeError"),
            ("anthropic_messages", _) => ("APIError", "AnthropicError"),
            ("openai_chat", _) => ("APIError", "OpenAIError"),
            ("openai_responses", _) => ("Failed", "TypeError"),
            ("vercel_google", _) => ("APICallError", "APICallError"),
            _ => ("told", "APICallError"),
        }
    }
}
