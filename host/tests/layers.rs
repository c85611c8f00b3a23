//! The absences that the architecture page promises, kept by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(path: &Path) -> Vec<PathBuf> {
    if path.extension().is_some_and(|extension| extension == "rs") {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flat_map(|entry| sources(&entry.expect("a folder of sources can be listed").path())).collect()
}

#[track_caller]
fn check(modules: &[&str], forbidden: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for module in modules {
        let files: Vec<PathBuf> = [source.join(module), source.join(format!("{module}.rs"))]
            .iter()
            .flat_map(|path| sources(path))
            .collect();
        assert!(!files.is_empty(), "there is no module `{module}`");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file can be read");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in forbidden {
                    assert!(
                        !line.contains(word),
                        "{}: `{word}` in line {number} of code: {line}",
                        file.display()
                    );
                }
            }
        }
    }
}

#[test]
fn pure_modules_know_no_socket_and_no_clock() {
    let impure = ["tokio::", "hyper::", "hyper_util::", "Instant::now", "SystemTime::now", "std::net::Tcp"];
    check(&["wire", "chat", "route", "config"], &impure);
}

#[test]
fn only_wire_names_a_vendors_fields() {
    let fields = [
        "\"choices\"",
        "\"finish_reason\"",
        "\"messages\"",
        "\"stream_options\"",
        "\"max_tokens\"",
        "\"usage\"",
    ];
    let others = [
        "gateway",
        "stream",
        "exchange",
        "snapshot",
        "models",
        "auth",
        "server",
        "upstream/dispatch",
        "upstream/job",
        "upstream/reply",
        "upstream/pool",
        "plugin",
    ];
    check(&others, &fields);
}

/// Everything but `plugin`.
const OTHERS: &[&str] = &[
    "admin", "auth", "chat", "cli", "config", "cors", "error", "exchange", "gateway", "headers", "health",
    "models", "reload", "route", "server", "snapshot", "stream", "tls", "upstream", "wire",
];

#[test]
fn only_plugin_names_a_type_of_wasmtime() {
    check(OTHERS, &["wasmtime::", "wasmtime_wasi"]);
}

#[test]
fn plugin_knows_no_upstream_and_no_gateway() {
    check(&["plugin"], &["crate::upstream", "crate::gateway", "crate::stream", "crate::snapshot"]);
}
