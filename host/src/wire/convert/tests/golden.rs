//! What each pair of surfaces makes of the same things, in files that are read in review like code.
//!
//! Below `golden/` a folder is a case. `SURFACE.json` and `SURFACE.sse` in it are what a vendor's client or service says;
//! `FROM.to.TO.…` is what the other side is told. `WITGATE_GOLDEN=write` writes the latter anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::{UPSTREAMS, asked, request_of, terms};
use crate::wire::convert::{
    StreamConverter, decode_error, decode_reply, decode_request, encode_error, encode_reply, encode_request,
};
use crate::wire::{Dialect, Surface};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire/convert/golden")
}

/// Compares with a file, or writes it.
#[track_caller]
fn check(file: &Path, made: &str) {
    if std::env::var_os("WITGATE_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(file, made).unwrap();
        return;
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(made, expected, "{} is another; WITGATE_GOLDEN=write writes it", file.display());
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    text
}

fn folders(kind: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> =
        fs::read_dir(root().join(kind)).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{kind} has no cases");
    folders
}

/// Makes `FROM.to.TO.END` of each `FROM.END` of each case, where `make` makes something of it, and sees that there is
/// nothing else.
fn check_all(kind: &str, end: &str, labels: &[&str], make: impl Fn(&[u8], &str, &str) -> Option<String>) {
    for folder in folders(kind) {
        let mut known = BTreeSet::new();
        for from in labels {
            let input = folder.join(format!("{from}.{end}"));
            let Ok(said) = fs::read(&input) else { continue };
            known.insert(input);
            for to in labels.iter().filter(|to| *to != from) {
                if let Some(made) = make(&said, from, to) {
                    let file = folder.join(format!("{from}.to.{to}.{end}"));
                    check(&file, &made);
                    known.insert(file);
                }
            }
        }
        let there: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(there, known, "{} holds what no case makes", folder.display());
    }
}

/// What vendors' clients and services say in these files, as JSON.
pub(super) fn inputs() -> &'static [Vec<u8>] {
    static INPUTS: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
        let files = ["request", "reply"]
            .into_iter()
            .flat_map(folders)
            .flat_map(|folder| fs::read_dir(folder).unwrap());
        let said =
            files.map(|file| file.unwrap().path()).filter(|path| !path.to_string_lossy().contains(".to."));
        let mut inputs: Vec<_> = said.map(|path| fs::read(path).unwrap()).collect();
        for folder in folders("stream") {
            let said = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
            for path in said.filter(|path| !path.to_string_lossy().contains(".to.")) {
                let stream = fs::read_to_string(path).unwrap();
                let data = stream.lines().filter_map(|line| line.strip_prefix("data: {"));
                inputs.extend(data.map(|data| format!("{{{data}").into_bytes()));
            }
        }
        inputs
    });
    &INPUTS
}

fn surface(label: &str) -> Surface {
    Surface::labelled(label).unwrap()
}

fn labels() -> Vec<&'static str> {
    Surface::ALL.iter().map(|surface| surface.label()).collect()
}

// parity: 97, 100, 101, 102, 103, 104, 105
#[test]
fn requests_of_each_surface_for_each_other() {
    check_all("request", "json", &labels(), |said, client, target| {
        let (client, target) = (surface(client), surface(target));
        UPSTREAMS.contains(&target).then(|| {
            let mut terms = terms(client, target);
            let request = decode_request(client, &request_of(client, Bytes::copy_from_slice(said))).unwrap();
            let made = match encode_request(&request, &mut terms) {
                Ok(body) => {
                    let losses: Vec<_> = terms.losses.iter().map(|field| format!("{field:?}")).collect();
                    let body: Value = serde_json::from_slice(&body).unwrap();
                    json!({"body": body, "losses": losses})
                }
                Err(error) => json!({"param": error.param, "refused": error.message}),
            };
            pretty(&made)
        })
    });
}

// parity: 98, 100, 104, 106
#[test]
fn answers_of_each_surface_for_each_other() {
    check_all("reply", "json", &labels(), |said, upstream, client| {
        let reply = decode_reply(surface(upstream), said, "id1").unwrap();
        let made = encode_reply(surface(client), &reply, &asked());
        Some(pretty(&serde_json::from_slice(&made).unwrap()))
    });
}

// parity: 99, 100, 104, 106
#[test]
fn streams_of_each_surface_for_each_other() {
    check_all("stream", "sse", &labels(), |said, upstream, client| {
        let mut converter = StreamConverter::new(surface(upstream), surface(client), &asked());
        let mut made = Vec::new();
        converter.push_all(std::iter::once(Bytes::copy_from_slice(said)), &mut made).unwrap();
        converter.finish(&mut made);
        Some(String::from_utf8(made.concat()).unwrap())
    });
}

// parity: 107
#[test]
fn errors_of_each_dialect_for_each_other() {
    let labels = Dialect::ALL.map(Dialect::label);
    check_all("error", "json", &labels, |said, upstream, client| {
        let said: Value = serde_json::from_slice(said).unwrap();
        let status = StatusCode::from_u16(u16::try_from(said["status"].as_u64().unwrap()).unwrap()).unwrap();
        let body = said["body"].to_string();
        let error = decode_error(Dialect::labelled(upstream).unwrap(), status, body.as_bytes());
        let made = encode_error(Dialect::labelled(client).unwrap(), &error);
        let body: Value = serde_json::from_slice(&made).unwrap();
        Some(pretty(&json!({"status": error.status.as_u16(), "body": body})))
    });
}
