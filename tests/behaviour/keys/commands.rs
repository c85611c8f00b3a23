//! `witgate keys` as an operator uses it, beside a gateway that runs.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;
use witgate_tests::gateway::{Launch, command};
use witgate_tests::{Gateway, Reply, Upstream, eventually};

use super::{SECRET, chat, hash, refused};

/// Runs `witgate keys` in a folder with the configuration that is there.
fn keys(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = command();
    command.arg("keys").args(arguments).args(["--config", "witgate.yaml"]).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary can be run");
    // A command that reads nothing may have ended.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it is our child")
}

#[track_caller]
fn says(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn refuses(folder: &Path, arguments: &[&str], part: &str) {
    let output = keys(folder, arguments, "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains(part), "{arguments:?}: {error}");
}

#[track_caller]
fn wait_status(gateway: &Gateway, key: &str, status: u16) {
    eventually(&format!("the answer {status}"), || {
        (gateway.send(&chat("m", key)).status() == status).then_some(())
    });
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("it is there").permissions().mode() & 0o777
}

// parity: 133
#[test]
fn keys_are_made_listed_and_revoked_while_the_gateway_runs() {
    let upstream = Upstream::new(Reply::echo);
    let config = format!(
        "keys_file: keys.yaml\nupstreams: [{{ name: one, base_url: '{}', api_key: k }}]\n",
        upstream.url()
    );
    let gateway = Launch::default().file("keys.yaml", "# ours\n").start(&config);
    let before = mode(&gateway.folder().join("keys.yaml"));
    let folder = gateway.folder();
    refused(gateway.send(&chat("m", "sk-none")), 401, "not known");
    let create = |arguments: &[&str]| {
        let said = says(&keys(folder, &[&["create"], arguments].concat(), ""));
        let key = said.trim().to_owned();
        assert!(key.starts_with("sk-wg-") && !key.contains(char::is_whitespace), "{said}");
        key
    };
    let first = create(&["first", "--tenant", "search", "--models", "m,gpt-*", "--expires", "2d"]);
    wait_status(&gateway, &first, 200);
    refused(gateway.send(&chat("x", &first)), 403, "the model `x`");
    let second = create(&["second", "--upstreams", "one", "--passthrough", "--allow-ips", "127.0.0.1"]);
    wait_status(&gateway, &second, 200);
    let third = create(&["third", "--requests", "1/1h", "--month-money", "2.5"]);
    wait_status(&gateway, &third, 200);
    gateway.send(&chat("m", &third)).expect(429);
    let listed: Value =
        serde_json::from_str(&says(&keys(folder, &["list", "--json"], ""))).expect("it is JSON");
    assert_eq!((&listed[0]["name"], &listed[1]["name"]), (&"first".into(), &"second".into()));
    assert_eq!((&listed[0]["tenant"], &listed[0]["state"]), (&"search".into(), &"good".into()));
    assert_eq!((&listed[0]["limits"], &listed[2]["limits"]["requests"]["count"]), (&Value::Null, &1.into()));
    assert_eq!(listed[2]["limits"]["budget"]["month"]["money"], 2.5);
    let table = says(&keys(folder, &["list"], ""));
    assert!(table.lines().any(|line| line.starts_with("first") && line.contains("m,gpt-*")), "{table}");
    for text in [&table, &fs::read_to_string(folder.join("keys.yaml")).expect("it is there")] {
        assert!(!text.contains(&first) && !text.contains(&second), "{text}");
    }
    for (arguments, part) in [
        (&["create", "first"][..], "there is a key `first` already"),
        (&["create", ""], "`name` must be 1 to 128"),
        (&["create", "jwt:x"], "must not begin with `jwt:`"),
        (&["create", "x", "--upstreams", "two"], "there is no upstream `two`"),
        (&["create", "x", "--endpoints", "chat"], "`chat` is not an endpoint"),
        (&["create", "x", "--expires", "soon"], "`expires` must be a day or a moment"),
        (&["create", "x", "--requests", "many"], "`requests`"),
        (&["revoke", "x"], "there is no key `x`"),
    ] {
        refuses(folder, arguments, part);
    }
    says(&keys(folder, &["revoke", "first"], ""));
    wait_status(&gateway, &first, 401);
    wait_status(&gateway, &second, 200);
    // Whoever takes the last key away does not open the gateway.
    says(&keys(folder, &["revoke", "second"], ""));
    says(&keys(folder, &["revoke", "third"], ""));
    wait_status(&gateway, &second, 401);
    refused(gateway.send(&witgate_tests::Request::chat("hi")), 401, "there is no key");
    assert!(fs::read_to_string(folder.join("keys.yaml")).expect("it is there").starts_with("# ours\n"));
    // The file was there before, and stays readable for whoever could read it.
    for (file, expected) in [("keys.yaml", before), ("witgate-data/witgate.key", 0o600)] {
        assert_eq!(mode(&folder.join(file)), expected, "{file}");
    }
}

#[test]
fn a_bad_file_of_keys_keeps_the_keys_that_run() {
    let upstream = Upstream::new(Reply::echo);
    let line = format!("- {{ name: a, hash: '{}' }}\n", hash("sk-a"));
    let config = format!(
        "server: {{ key_secret: '{SECRET}' }}\nkeys_file: keys.yaml\nupstreams: [{{ name: one, base_url: '{}' }}]\n",
        upstream.url()
    );
    let gateway = Launch::default().file("keys.yaml", &line).start(&config);
    gateway.send(&chat("m", "sk-a")).expect(200);
    let file = gateway.folder().join("keys.yaml");
    fs::write(&file, format!("{line}- {{ name: b, hash: sk-b }}\n")).expect("the folder is writable");
    eventually("the log to say why", || gateway.stderr().contains("keys.yaml:2:").then_some(()));
    assert!(!gateway.stderr().contains("sk-b"), "{}", gateway.stderr());
    gateway.send(&chat("m", "sk-a")).expect(200);
    fs::remove_file(&file).expect("the folder is writable");
    eventually("the log to say why", || gateway.stderr().contains("cannot be used").then_some(()));
    gateway.send(&chat("m", "sk-a")).expect(200);
    fs::write(&file, format!("- {{ name: b, hash: '{}' }}\n", hash("sk-b"))).expect("the folder is writable");
    wait_status(&gateway, "sk-b", 200);
    refused(gateway.send(&chat("m", "sk-a")), 401, "not known");
}

#[test]
fn hashes_are_those_that_the_gateway_makes() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let write = |text: &str| fs::write(folder.path().join("witgate.yaml"), text).expect("it is writable");
    write(&format!(
        "server: {{ key_secret: '{SECRET}' }}\nupstreams: [{{ name: a, base_url: 'builtin:echo' }}]\n"
    ));
    assert_eq!(says(&keys(folder.path(), &["hash", "sk-a"], "")).trim(), hash("sk-a"));
    assert_eq!(says(&keys(folder.path(), &["hash"], "sk-a\n")).trim(), hash("sk-a"));
    refuses(folder.path(), &["hash"], "give a key");
    refuses(folder.path(), &["list"], "names no `keys_file`");
    // Without a file for it the new key is printed as the configuration takes it.
    let said = says(&keys(folder.path(), &["create", "a"], ""));
    let (key, line) = said.trim().split_once('\n').expect("two lines");
    assert_eq!(line, format!("- {{ name: \"a\", hash: \"{}\" }}", hash(key)));
    write(&format!(
        "server: {{ key_secret: '{SECRET}' }}\nkeys:\n  {line}\nupstreams: [{{ name: a, base_url: 'builtin:echo' }}]\n"
    ));
    refuses(folder.path(), &["create", "a"], "in the configuration");
    // The secret of a gateway that names none is made with its first hash, and stays.
    write("upstreams: [{ name: a, base_url: 'builtin:echo' }]\n");
    let first = says(&keys(folder.path(), &["hash", "sk-a"], ""));
    assert_eq!(says(&keys(folder.path(), &["hash", "sk-a"], "")), first);
    assert_ne!(first.trim(), hash("sk-a"));
}

#[test]
fn a_second_secret_is_not_made_in_another_folder() {
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let text = "keys_file: keys.yaml\nupstreams: [{ name: a, base_url: 'builtin:echo' }]\n";
    fs::write(folder.path().join("witgate.yaml"), text).expect("it is writable");
    let made = keys(folder.path(), &["create", "a"], "");
    says(&made);
    let secret = folder.path().join("witgate-data/witgate.key");
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(told.contains(&*secret.to_string_lossy()), "{told}");
    let below = folder.path().join("below");
    fs::create_dir(&below).expect("it is writable");
    let mut elsewhere = command();
    elsewhere.args(["keys", "create", "b", "--config", "../witgate.yaml"]).current_dir(&below);
    let refused = elsewhere.output().expect("the binary can be run");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("there are keys already"), "{told}");
    assert!(!below.join("witgate-data").exists());
    says(&keys(folder.path(), &["create", "b"], ""));
}

#[test]
fn a_hundred_thousand_keys_are_held() {
    let upstream = Upstream::new(Reply::echo);
    // Only some of them are ever used; the others need a hash, not a key.
    let line = |number: usize| match number % 10_000 {
        7 => format!("- {{ name: k{number}, hash: '{}' }}\n", hash(&format!("sk-{number}"))),
        _ => format!("- {{ name: k{number}, hash: 'hmac-sha256:{number:064x}' }}\n"),
    };
    let list: String = (0..100_000).map(line).collect();
    let config = format!(
        "server: {{ key_secret: '{SECRET}' }}\nkeys_file: keys.yaml\nupstreams: [{{ name: one, base_url: '{}' }}]\n",
        upstream.url()
    );
    let launch = Launch::default().file("keys.yaml", &list).patience(std::time::Duration::from_secs(60));
    let gateway = launch.start(&config);
    for number in [7, 50_007, 90_007] {
        gateway.send(&chat("m", &format!("sk-{number}"))).expect(200);
    }
    refused(gateway.send(&chat("m", "sk-8")), 401, "not known");
    let shown = gateway.send_admin(&witgate_tests::Request::get("/admin/config")).expect(200).json();
    assert_eq!(
        shown["config"]["keys_count"].as_u64().or_else(|| shown["keys_count"].as_u64()),
        Some(100_000)
    );
}
