//! No key is ever in what the gateway keeps, logs or tells.

use std::fs;
use std::path::Path;

use serde_json::json;
use witgate_tests::audit::wait;
use witgate_tests::gateway::Launch;
use witgate_tests::{Reply, Request, Upstream};

/// The keys of this test, each in another place.
const KEYS: [&str; 14] = [
    "sk-bearer-0001-secret",
    "sk-xapikey-0002-secret",
    "sk-goog-0003-secret",
    "sk-azure-0004-secret",
    "sk-query-0005-secret",
    "sk-cookie-0006-secret",
    "sk-proxy-0007-secret",
    "sk-basic-0008-secret",
    "sk-custom-0009-secret",
    "sk-upstream-0010-secret",
    "sk-admin-0011-secret",
    "sk-queryname-0012-secret",
    "sk-session-0013-secret",
    "sk-header-0014-secret",
];

/// Looks for the keys in all files of a folder.
fn search(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            search(&path, found);
        } else if path.file_name().is_some_and(|name| name != "witgate.yaml") {
            check(&path.display().to_string(), &fs::read(&path).unwrap_or_default(), found);
        }
    }
}

fn check(place: &str, bytes: &[u8], found: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    let hits = KEYS.iter().filter(|key| text.contains(**key));
    found.extend(hits.map(|key| format!("{key} in {place}")));
}

// parity: 147
#[test]
fn no_key_is_found_anywhere() {
    let upstream = Upstream::new(|request| match request.json()["model"].as_str() {
        Some("fails") => Reply::error(500, "no"),
        Some("refused") => Reply::error(401, "no"),
        _ => Reply::chat_as_asked(request, &["he", "llo"]),
    });
    for (format, dir) in [("text", ""), ("json", ""), ("text", "logs"), ("json", "logs")] {
        let gateway = Launch::default().variable("RUST_LOG", "witgate=trace").start(&format!(
            "server: {{ admin_token: {} }}\nlog: {{ format: {format}, dir: '{dir}' }}\nmetrics: {{ compat: true }}\nupstreams:\n  \
             - name: one\n    base_url: {}\n    api_key: {}\n    headers: {{ x-team-token: {} }}\n",
            KEYS[10],
            upstream.url(),
            KEYS[9],
            KEYS[13],
        ));
        let keys = |request: Request| {
            request
                .header("authorization", &format!("Bearer {}", KEYS[0]))
                .header("x-api-key", KEYS[1])
                .header("x-goog-api-key", KEYS[2])
                .header("api-key", KEYS[3])
                .header("cookie", &format!("session={}", KEYS[5]))
                .header("proxy-authorization", &format!("Basic {}", KEYS[6]))
                .header("x-forwarded-authorization", &format!("Basic {}", KEYS[7]))
                .header("x-my-token", KEYS[8])
                .header("x-session", &format!("Bearer {}", KEYS[12]))
                .header("x-copy", KEYS[0])
                .header("apikey", KEYS[12])
                .header("token", KEYS[8])
        };
        let paths = ["/v1/chat/completions", "/v1/nothing"];
        let mut sent = 0;
        for path in paths {
            for (model, stream) in [("m", false), ("m", true), ("fails", false), ("refused", true)] {
                let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]});
                for query in ["", "?key=", "?a=b&api_key=", "?apikey=", "?password="] {
                    let key = if query.starts_with("?k") { KEYS[4] } else { KEYS[11] };
                    let target =
                        if query.is_empty() { path.to_owned() } else { format!("{path}{query}{key}") };
                    gateway.send(&keys(Request::post(&target, body.to_string())));
                    sent += 1;
                }
            }
        }
        gateway.send(&keys(Request::post("/v1/chat/completions", "{")));
        gateway.send(&keys(Request::get("/v1/models")));
        wait(&gateway, sent + 2);
        let mut found = Vec::new();
        for path in [
            "/metrics",
            "/stats",
            "/admin/config",
            "/admin/upstreams",
            "/admin/plugins",
            "/admin/audit?limit=100",
            "/admin/explain?model=m",
        ] {
            let answer = gateway
                .send_admin(&Request::get(path).header("authorization", &format!("Bearer {}", KEYS[10])));
            check(path, answer.expect(200).text().as_bytes(), &mut found);
        }
        search(gateway.folder(), &mut found);
        check("standard error", gateway.stderr().as_bytes(), &mut found);
        check("standard output", gateway.stdout().as_bytes(), &mut found);
        assert!(found.is_empty(), "{format} {dir}: {found:#?}");
        // The search would find one if it were there.
        let mut control = Vec::new();
        check("a control", format!("x{}x", KEYS[4]).as_bytes(), &mut control);
        assert_eq!(control.len(), 1);
    }
}
