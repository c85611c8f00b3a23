//! The real client SDKs, unmodified, against a gateway: each script is a plain program that asserts.
//!
//! The packages are installed once under the target folder, at the versions named here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};
use witgate_tests::tool::{finish, is_there, once, python, target_folder};
use witgate_tests::upstream::reply::{Step, chunk};
use witgate_tests::{Gateway, Received, Reply, Upstream};

mod dialects;
mod examples;
mod openapi;
mod plugins;

const OPENAI_PYTHON: &str = "3.52.0";
const OPENAI_NODE: &str = "7.57.0";

// parity: 1, 2, 4, 5, 16, 92
#[test]
fn openai_python() {
    if !is_there("python3") {
        return;
    }
    let python = openai_python_packages();
    run_scripts("openai_python", "py", |script| {
        let mut command = Command::new(&python);
        command.arg("-B").arg(script);
        command
    });
}

fn openai_python_packages() -> PathBuf {
    python(&format!("openai-python-{OPENAI_PYTHON}"), &[&format!("openai=={OPENAI_PYTHON}")])
}

// parity: 1, 4, 5, 92
#[test]
fn openai_node() {
    if !is_there("node") || !is_there("npm") {
        return;
    }
    let folder = target_folder("sdk-packages", &format!("openai-node-{OPENAI_NODE}"));
    once(&folder, || {
        std::fs::write(folder.join("package.json"), "{\"private\":true}\n")
            .expect("the target folder is writable");
        let package = format!("openai@{OPENAI_NODE}");
        let arguments = ["install", "--no-audit", "--no-fund", "--loglevel", "error", &package];
        finish(Command::new("npm").current_dir(&folder).args(arguments));
    });
    run_scripts("openai_node", "mjs", |script| {
        // Node looks for packages from the script's own folder upwards.
        let copy = folder.join(script.file_name().expect("a script is a file"));
        std::fs::copy(script, &copy).expect("the target folder is writable");
        let mut command = Command::new("node");
        command.arg(copy);
        command
    });
}

#[track_caller]
fn run_scripts(suite: &str, extension: &str, run: impl Fn(&Path) -> Command) {
    let retries = Mutex::new(HashMap::new());
    let upstream = Upstream::new(move |request| answer(request, &retries));
    let gateway = Gateway::start(&format!(
        "upstreams:\n  - name: one\n    base_url: {}\n    api_key: sk-upstream\n    default: true\n    model_match: {{ type: keyword, value: [chat, tools, error, flaky, broken, slow, text, embed, audio, respond] }}\n    models: {{ chat-alias: chat }}\n",
        upstream.url()
    ));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(suite);
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the scripts are readable")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "{} holds scripts", folder.display());
    for script in &scripts {
        let mut command = run(script);
        command.env("OPENAI_BASE_URL", format!("{}/v1", gateway.url())).env("OPENAI_API_KEY", "sk-caller");
        command.env_remove("HTTP_PROXY").env_remove("HTTPS_PROXY").env_remove("ALL_PROXY");
        command.env_remove("http_proxy").env_remove("https_proxy").env_remove("all_proxy");
        finish(&mut command);
    }
    let leaked = upstream.requests().iter().any(|request| format!("{request:?}").contains("sk-caller"));
    assert!(!leaked, "the caller's key stays in the gateway");
}

type Retries = Mutex<HashMap<String, u32>>;

/// The one upstream of all scripts: what it does depends on path and model.
fn answer(request: &Received, retries: &Retries) -> Reply {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let is_stream = body["stream"] == true;
    match request.target.split('?').next().unwrap_or_default() {
        "/v1/chat/completions" => chat(&body, is_stream, retries),
        "/v1/completions" => Reply::json(
            200,
            json!({"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "text": body["prompt"].to_string(), "logprobs": null, "finish_reason": "stop"}]})
            .to_string(),
        ),
        "/v1/embeddings" => embeddings(&body),
        "/v1/audio/transcriptions" | "/v1/audio/translations" => audio(request),
        "/v1/audio/speech" => Reply::new(200).header("content-type", "audio/mpeg").body(vec![0xff; 1000]).chunked(),
        "/v1/responses" if is_stream => response_stream(),
        "/v1/responses" => Reply::json(200, response("completed").to_string()),
        "/v1/moderations" => Reply::json(200, r#"{"id":"mod-1","model":"chat","results":[]}"#),
        "/v1/models" => Reply::models(&["chat", "text", "unrelated"]),
        "/v1/files" => Reply::json(200, r#"{"object":"list","data":[],"has_more":false}"#),
        _ => Reply::error(404, "the script knows no such path"),
    }
}

fn chat(body: &Value, is_stream: bool, retries: &Retries) -> Reply {
    let model = body["model"].as_str().unwrap_or_default();
    if let Some(status) = model.strip_prefix("error-") {
        let status = status.parse().expect("the scripts name a status");
        return Reply::error(status, "as you wish")
            .header("x-upstream-said", "so")
            .header("x-should-retry", "false");
    }
    match model {
        "flaky" => {
            let user = body["user"].as_str().unwrap_or_default().to_owned();
            let mut retries = retries.lock().expect("nobody panics with it");
            let tries = retries.entry(user).or_default();
            *tries += 1;
            match *tries {
                1 => Reply::error(429, "slow down").header("retry-after-ms", "5").header("retry-after", "1"),
                2 => Reply::error(503, "busy").header("retry-after-ms", "5"),
                tries => Reply::chat(&format!("try {tries}")),
            }
        }
        "broken" => Reply::stream([chunk(&json!({"content": "half"}), None)]).step(Step::Cut),
        "slow" => Reply::silence(),
        "tools" if is_stream => tool_stream(),
        "tools" => tools(),
        _ if is_stream => {
            let mut reply = Reply::stream([chunk(&json!({"role": "assistant", "content": ""}), None)]);
            for text in ["Hello", ", ", "wörld"] {
                reply = reply.event(&chunk(&json!({"content": text}), None));
            }
            reply = reply.event(&chunk(&json!({}), Some("stop")));
            if body["stream_options"]["include_usage"] == true {
                let usage = json!({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7});
                let last = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
                    "model": "m", "choices": [], "usage": usage});
                reply = reply.event(&last.to_string());
            }
            reply.event("[DONE]")
        }
        _ => Reply::chat("Hello, wörld"),
    }
}

fn tool_call(index: u32, arguments: &str) -> Value {
    json!({"index": index, "id": format!("call_{index}"), "type": "function",
        "function": {"name": "weather", "arguments": arguments}})
}

fn tools() -> Reply {
    let calls = [tool_call(0, r#"{"city":"Paris"}"#), tool_call(1, r#"{"city":"Oslo"}"#)];
    Reply::json(
        200,
        json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0,
            "message": {"role": "assistant", "content": null, "tool_calls": calls}, "finish_reason": "tool_calls"}]})
        .to_string(),
    )
}

fn tool_stream() -> Reply {
    let start = json!({"role": "assistant", "content": null});
    let mut reply = Reply::stream([chunk(&start, None)]);
    for (index, city) in ["Paris", "Oslo"].iter().enumerate() {
        reply = reply.event(&chunk(&json!({"tool_calls": [tool_call(index as u32, "")]}), None));
        for piece in ["{\"city\":", &format!("\"{city}\""), "}"] {
            let call = json!({"index": index, "function": {"arguments": piece}});
            reply = reply.event(&chunk(&json!({"tool_calls": [call]}), None));
        }
    }
    reply.event(&chunk(&json!({}), Some("tool_calls"))).event("[DONE]")
}

fn embeddings(body: &Value) -> Reply {
    let count = body["input"].as_array().map_or(1, Vec::len);
    // 0.25 and -0.5 as little-endian floats.
    let vector =
        if body["encoding_format"] == "base64" { json!("AACAPgAAAL8=") } else { json!([0.25, -0.5]) };
    let data: Vec<Value> =
        (0..count).map(|index| json!({"object": "embedding", "index": index, "embedding": vector})).collect();
    let usage = json!({"prompt_tokens": 1, "total_tokens": 1});
    Reply::json(
        200,
        json!({"object": "list", "data": data, "model": body["model"], "usage": usage}).to_string(),
    )
}

fn audio(request: &Received) -> Reply {
    let form = String::from_utf8_lossy(&request.body);
    if form.contains("\"response_format\"\r\n\r\ntext") {
        return Reply::new(200).header("content-type", "text/plain; charset=utf-8").body("spoken words\n");
    }
    let bytes = request.body.iter().filter(|byte| **byte == 0xf7).count();
    Reply::json(200, json!({"text": format!("{bytes} bytes of audio")}).to_string())
}

fn response(status: &str) -> Value {
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "respond", "error": null,
        "incomplete_details": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true, "tools": [],
        "tool_choice": "auto", "temperature": 1, "top_p": 1,
        "output": [{"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": []}]}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}})
}

fn response_stream() -> Reply {
    let events = [
        (
            "response.created",
            json!({"type": "response.created", "sequence_number": 0, "response": response("in_progress")}),
        ),
        (
            "response.output_text.delta",
            json!({"type": "response.output_text.delta", "sequence_number": 1, "item_id": "msg_1",
            "output_index": 0, "content_index": 0, "delta": "Hello", "logprobs": []}),
        ),
        (
            "response.completed",
            json!({"type": "response.completed", "sequence_number": 2, "response": response("completed")}),
        ),
    ];
    let empty = Reply::stream(std::iter::empty::<&str>());
    events.iter().fold(empty, |reply, (name, data)| reply.body(format!("event: {name}\ndata: {data}\n\n")))
}
