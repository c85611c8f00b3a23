//! Every client of the vendors' against every upstream of theirs, by way of the gateway, and against its own vendor without it.
//!
//! The scripts ask, and print what the SDKs made of the answers; the upstreams refuse whatever the vendors would refuse. What
//! has to come of it stands here, once for all clients and upstreams, with what one of them cannot have.

mod expected;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use witgate_tests::tool::{finish, is_there, once, python, target_folder};
use witgate_tests::{Gateway, Upstream, Vendor};

use self::expected::{ESTIMATE, expected};

const PYTHON: [&str; 3] = ["openai==3.54.0", "anthropic==2.12.0", "google-genai==3.4.0"];
const NODE: [&str; 8] = [
    "openai@6.49.0",
    "@anthropic-ai/sdk@1.12.0",
    "@google/genai@2.32.0",
    "ai@6.0.326",
    "@ai-sdk/openai@3.0.141",
    "@ai-sdk/anthropic@3.0.138",
    "@ai-sdk/google@3.0.141",
    "@ai-sdk/openai-compatible@2.0.87",
];

/// A client: its script, and whose API it speaks.
#[derive(Clone, Copy, Debug)]
struct Client {
    name: &'static str,
    vendor: Vendor,
    language: &'static str,
}

const fn client(name: &'static str, vendor: Vendor) -> Client {
    Client { name, vendor, language: "python" }
}

const OPENAI_CHAT: Client = client("openai_chat", Vendor::OpenAi);
const OPENAI_RESPONSES: Client = client("openai_responses", Vendor::OpenAi);
const ANTHROPIC_MESSAGES: Client = client("anthropic_messages", Vendor::Anthropic);
const GOOGLE_GENAI: Client = client("google_genai", Vendor::Gemini);
const VERCEL_OPENAI: Client = client("vercel_openai", Vendor::OpenAi);
const VERCEL_COMPATIBLE: Client = client("vercel_compatible", Vendor::OpenAi);
const VERCEL_ANTHROPIC: Client = client("vercel_anthropic", Vendor::Anthropic);
const VERCEL_GOOGLE: Client = client("vercel_google", Vendor::Gemini);

macro_rules! clients {
    ($($name:ident: $language:ident $client:ident;)*) => {$(
        mod $name {
            #[test]
            fn speaks_to_its_own_vendor() {
                super::own_vendor(super::Client { language: stringify!($language), ..super::$client });
            }

            // parity: 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 109, 110
            #[test]
            fn speaks_to_every_upstream() {
                super::every_upstream(super::Client { language: stringify!($language), ..super::$client });
            }
        }
    )*};
}

clients! {
    openai_chat_in_python: python OPENAI_CHAT;
    openai_responses_in_python: python OPENAI_RESPONSES;
    anthropic_in_python: python ANTHROPIC_MESSAGES;
    google_in_python: python GOOGLE_GENAI;
    openai_chat_in_javascript: javascript OPENAI_CHAT;
    openai_responses_in_javascript: javascript OPENAI_RESPONSES;
    anthropic_in_javascript: javascript ANTHROPIC_MESSAGES;
    google_in_javascript: javascript GOOGLE_GENAI;
    vercel_openai: javascript VERCEL_OPENAI;
    vercel_compatible: javascript VERCEL_COMPATIBLE;
    vercel_anthropic: javascript VERCEL_ANTHROPIC;
    vercel_google: javascript VERCEL_GOOGLE;
}

/// Where a client is sent.
struct Target {
    upstream: &'static str,
    vendor: Vendor,
    prefix: &'static str,
    url: String,
    /// Whether there is no gateway in between.
    is_direct: bool,
}

/// The upstreams are right: the client agrees with its own vendor, with nothing in between.
#[track_caller]
fn own_vendor(client: Client) {
    let upstream = client.vendor.upstream();
    let target = Target {
        upstream: client.vendor.label(),
        vendor: client.vendor,
        prefix: client.vendor.prefix(),
        url: upstream.origin(),
        is_direct: true,
    };
    check(client, &[target]);
}

/// The names of the upstreams of the gateway, and what they are.
const UPSTREAMS: [(&str, Vendor, &str); 4] = [
    ("openai", Vendor::OpenAi, "gpt."),
    ("openai-native", Vendor::OpenAi, "native."),
    ("anthropic", Vendor::Anthropic, "claude."),
    ("gemini", Vendor::Gemini, "gem."),
];

#[track_caller]
fn every_upstream(client: Client) {
    let upstreams: Vec<Upstream> = UPSTREAMS.iter().map(|(_, vendor, _)| vendor.upstream()).collect();
    let mut config = "retry: { attempts_max: 1 }\nbreaker: { failures: 1000 }\nupstreams:\n".to_owned();
    for ((name, vendor, prefix), upstream) in UPSTREAMS.iter().zip(&upstreams) {
        let responses = match *name {
            "openai-native" => ", responses: native",
            "openai" => ", responses: chat",
            _ => "",
        };
        // Without a path the URL of OpenAI's dialect is taken as it stands, that of the others gets the vendor's.
        let url = if *vendor == Vendor::OpenAi { upstream.url() } else { upstream.origin() };
        config.push_str(&format!(
            "  - {{ name: {name}, base_url: \"{url}\", dialect: {}, api_key: sk-upstream{responses}, model_match: {{ type: prefix, value: [{prefix}] }}, models: {{ {prefix}alias: {prefix}plain }} }}\n",
            vendor.label()
        ));
    }
    let gateway = Gateway::start(&config);
    let targets: Vec<Target> = UPSTREAMS
        .iter()
        .map(|(upstream, vendor, prefix)| Target {
            upstream,
            vendor: *vendor,
            prefix,
            url: gateway.url(),
            is_direct: false,
        })
        .collect();
    check(client, &targets);
    for upstream in &upstreams {
        let leaked = upstream.requests().iter().any(|request| format!("{request:?}").contains("sk-caller"));
        assert!(!leaked, "the caller's key stays in the gateway");
    }
}

/// Runs the client's scenarios and compares every one; tells all that differ.
#[track_caller]
fn check(client: Client, targets: &[Target]) {
    let run = if client.language == "python" { in_python } else { in_javascript };
    let Some(printed) = run(client, targets) else { return };
    let mut differences = Vec::new();
    let mut count = 0;
    for line in printed.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let (upstream, scenario) = (line["upstream"].as_str(), line["scenario"].as_str());
        let (upstream, scenario) = (upstream.expect("it says where"), scenario.expect("it says what"));
        let target = targets.iter().find(|target| target.upstream == upstream).expect("it was sent there");
        let expected = expected(client, target, scenario);
        count += 1;
        let is_estimate = expected == ESTIMATE && line["result"].as_u64() > Some(0);
        if line["result"] != expected && !is_estimate {
            let got = &line["result"];
            let got = got["failed"].as_str().map_or_else(|| got.to_string(), str::to_owned);
            differences.push(format!(
                "{} to {upstream}, {scenario}:\n  expected {expected}\n  got      {got}",
                client.name
            ));
        }
    }
    assert!(count >= targets.len() * 15, "{count} results");
    assert!(differences.is_empty(), "{} of {count} differ\n{}", differences.len(), differences.join("\n"));
}

/// The arguments of a script.
fn arguments(targets: &[Target]) -> String {
    let targets: Vec<Value> = targets
        .iter()
        .map(|target| json!({"upstream": target.upstream, "prefix": target.prefix, "url": target.url}))
        .collect();
    json!(targets).to_string()
}

fn scripts(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/dialects").join(language)
}

fn without_proxies(command: &mut Command) -> &mut Command {
    command.env("NO_PROXY", "*").env("no_proxy", "*")
}

fn in_python(client: Client, targets: &[Target]) -> Option<String> {
    if !is_there("python3") {
        return None;
    }
    let python = python(&PYTHON.join("-"), &PYTHON);
    let mut command = Command::new(python);
    command.arg("-B").arg(scripts("python").join("run.py")).arg(client.name).arg(arguments(targets));
    Some(finish(without_proxies(&mut command)))
}

fn in_javascript(client: Client, targets: &[Target]) -> Option<String> {
    if !is_there("node") || !is_there("npm") {
        return None;
    }
    let folder = target_folder("sdk-packages", &NODE.join("-").replace('/', "-"));
    once(&folder, || {
        std::fs::write(folder.join("package.json"), "{\"private\":true}\n")
            .expect("the target folder is writable");
        let install = ["install", "--no-audit", "--no-fund", "--loglevel", "error"];
        finish(Command::new("npm").current_dir(&folder).args(install).args(NODE));
    });
    // Node looks for packages from the script's own folder upwards; tests that run at once have a folder each.
    let copies = tempfile::tempdir_in(&folder).expect("the target folder is writable");
    for script in std::fs::read_dir(scripts("javascript")).expect("the scripts are readable").flatten() {
        std::fs::copy(script.path(), copies.path().join(script.file_name()))
            .expect("the target folder is writable");
    }
    let mut command = Command::new("node");
    command.arg(copies.path().join("run.mjs")).arg(client.name).arg(arguments(targets));
    Some(finish(without_proxies(&mut command)))
}
