//! Runs every folder under `cases/`: a gateway, its scripted upstreams, and what a client sees.
//!
//! `cases/<topic>/<case>/` holds
//! - `config.yaml`: the configuration; `cases/default.yaml` without it. `${UPSTREAM_2}` is the base URL of the second
//!   scripted upstream, `${UPSTREAM}` that of the first, `${DOWN}` one where nobody listens;
//! - `request.http`: what the client sends, several requests parted by `--- next`;
//! - `upstream.2.http`: what the second upstream answers, several answers parted by `--- next`, the last repeats.
//!   Lines in it that begin with `---` are things to do: `--- pause 50ms`, `--- cut`, `--- reset`, `--- hang`,
//!   `--- split 3` (writes of three bytes), `--- gzip`, `--- close`;
//! - `expect.response` and `expect.upstream`: what must come out; `UPDATE=1` rewrites them;
//! - `README.md`: why the case exists and the parity rows it covers.
//!
//! A case without `request.http` shows what `witgate check` says: `expect.output`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use witgate_tests::client::{Connection, End};
use witgate_tests::upstream::reply::{Framing, Step};
use witgate_tests::{Gateway, Received, Refusing, Reply, Upstream};

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(4);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut trials = Vec::new();
    for topic in folders(&root) {
        for case in folders(&topic) {
            let name = case.strip_prefix(&root).expect("it was found there").display().to_string();
            if case.join("request.http").exists() {
                trials.push(Trial::test(name, move || run(&case)));
            } else if case.join("config.yaml").exists() {
                trials.push(Trial::test(name, move || check(&case)));
            }
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).expect("the cases are readable");
    let mut folders: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

/// A folder without a request: what `witgate check` says about its configuration.
fn check(case: &Path) -> Result<(), Failed> {
    let output = witgate_tests::gateway::command()
        .current_dir(case)
        .args(["check", "--config", "config.yaml"])
        .output()?;
    let text = format!(
        "exit code {}\n{}{}",
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    compare(&case.join("expect.output"), &text).map_or(Ok(()), |problem| Err(problem.into()))
}

/// A request to one of the upstreams, in order of arrival over all of them.
type Log = Arc<Mutex<Vec<(usize, Received)>>>;

fn run(case: &Path) -> Result<(), Failed> {
    let log = Log::default();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/default.yaml");
    let config = read(&case.join("config.yaml")).or_else(|| read(&default));
    let mut config = config.ok_or("there is no configuration")?;
    let scripts: Vec<Vec<Reply>> = (1..)
        .map_while(|number| read(&case.join(format!("upstream.{number}.http"))))
        .map(|script| sections(&script).iter().map(|reply| parse_reply(reply)).collect())
        .collect();
    let upstreams: Vec<Upstream> =
        scripts.into_iter().enumerate().map(|(index, replies)| upstream(index, replies, &log)).collect();
    for (index, upstream) in upstreams.iter().enumerate() {
        config = config.replace(&format!("${{UPSTREAM_{}}}", index + 1), &upstream.url());
    }
    let first = upstreams.first().map(Upstream::url).unwrap_or_default();
    let down = Refusing::new();
    config = config.replace("${UPSTREAM}", &first).replace("${DOWN}", &down.url());
    let gateway = Gateway::start(&config);

    let mut responses = Vec::new();
    for request in sections(&read(&case.join("request.http")).ok_or("there is no request")?) {
        responses.push(exchange(&gateway, &request));
    }
    let mask = |text: String| {
        let text = text.replace(&gateway.address().to_string(), "[gateway]");
        upstreams.iter().enumerate().fold(text, |text, (index, upstream)| {
            text.replace(&upstream.address().to_string(), &format!("[upstream-{}]", index + 1))
        })
    };
    let mut log = log.lock().map_err(|_| "an upstream panicked")?;
    sort_side_by_side(&mut log);
    let upstream: String = log.iter().map(|(number, request)| show_request(*number, request)).collect();
    let responses = compare(&case.join("expect.response"), &mask(responses.join("--- next\n")));
    let upstream = compare(&case.join("expect.upstream"), &mask(upstream));
    let problems: Vec<String> = responses.into_iter().chain(upstream).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{}\n--- the gateway's log ---\n{}", problems.join("\n"), gateway.stderr()).into())
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn upstream(index: usize, replies: Vec<Reply>, log: &Log) -> Upstream {
    let log = Arc::clone(log);
    Upstream::new(move |request| {
        log.lock().expect("nobody panics with it").push((index + 1, request.clone()));
        replies[request.number.min(replies.len() - 1)].clone()
    })
}

/// Puts requests that are made side by side, those for lists of models, in the upstreams' order.
fn sort_side_by_side(log: &mut [(usize, Received)]) {
    let is_list = |request: &Received| request.method == "GET" && request.target.ends_with("/models");
    for run in log.chunk_by_mut(|(_, left), (_, right)| is_list(left) && is_list(right)) {
        run.sort_by_key(|(number, _)| *number);
    }
}

fn sections(text: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "--- next" {
            sections.push(String::new());
        } else {
            sections.last_mut().expect("there is always one").push_str(line);
        }
    }
    sections
}

/// Sends one request file and writes down the answer.
fn exchange(gateway: &Gateway, text: &str) -> String {
    let (head, body) = text.split_once("\n\n").unwrap_or_else(|| (text.trim_end(), ""));
    let mut lines = head.lines();
    let first_line = lines.next().expect("a request has a first line");
    let mut headers: Vec<&str> = lines.collect();
    let body = body.strip_suffix('\n').unwrap_or(body);
    let has =
        |headers: &[&str], name: &str| headers.iter().any(|line| line.to_ascii_lowercase().starts_with(name));
    if !has(&headers, "host:") {
        headers.push("host: gateway.test");
    }
    if !body.is_empty() && !has(&headers, "content-type:") {
        headers.push("content-type: application/json");
    }
    let length = format!("content-length: {}", body.len());
    if !has(&headers, "content-length:") && (!body.is_empty() || first_line.starts_with("POST")) {
        headers.push(&length);
    }
    let mut connection = Connection::open(gateway.address());
    connection.write(format!("{first_line} HTTP/1.1\r\n{}\r\n\r\n{body}", headers.join("\r\n")).as_bytes());
    if first_line.starts_with("HEAD ") {
        let head = connection.answer_to_head();
        return show_answer(head.status, &head.headers, b"", End::Complete);
    }
    let answer = connection.answer();
    show_answer(answer.status(), &answer.head.headers, &answer.body, answer.end)
}

fn show_answer(status: u16, headers: &[(String, String)], body: &[u8], end: End) -> String {
    let id = headers.iter().find(|(name, _)| name == "x-request-id").map(|(_, value)| value.clone());
    let mut text = format!("HTTP/1.1 {status}\n{}\n", show_headers(headers));
    let mut body = String::from_utf8_lossy(body).into_owned();
    // An id that the client chose is no noise, and is short.
    if let Some(id) = id.filter(|id| id.len() > 12) {
        body = body.replace(&id, "[id]");
    }
    text.push_str(&mask_chat_id(&mask_number(&body, "\"created\":")));
    if !text.ends_with('\n') {
        text.push('\n');
    }
    if end == End::Broken {
        text.push_str("--- broken\n");
    }
    text
}

fn show_request(number: usize, request: &Received) -> String {
    let mut text = format!(
        "--- upstream {number}\n{} {}\n{}\n{}",
        request.method,
        request.target,
        show_headers(&request.headers),
        String::from_utf8_lossy(&request.body)
    );
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Sorted, without those of the framing, and with what differs from run to run masked.
fn show_headers(headers: &[(String, String)]) -> String {
    let framing = ["content-length", "transfer-encoding", "date"];
    let mut lines: Vec<String> = headers
        .iter()
        .filter(|(name, _)| !framing.contains(&name.as_str()))
        .map(|(name, value)| match name.as_str() {
            "x-request-id" if value.len() > 12 => format!("{name}: [id]\n"),
            "server-timing" => format!("{name}: [time]\n"),
            _ => format!("{name}: {value}\n"),
        })
        .collect();
    lines.sort();
    lines.concat()
}

/// The ids that the echo upstream makes; the scripts' own are shorter.
fn mask_chat_id(text: &str) -> String {
    const PREFIX: &str = "\"chatcmpl-";
    let mut parts = text.split(PREFIX);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let id = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        masked.push_str(PREFIX);
        masked.push_str(if id == 16 { "[id]" } else { &part[..id] });
        masked.push_str(&part[id..]);
    }
    masked
}

fn mask_number(text: &str, before: &str) -> String {
    let mut parts = text.split(before);
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        masked.push_str(before);
        // Small numbers are the scripts' own.
        masked.push_str(if part.len() - rest.len() > 6 {
            "[time]"
        } else {
            &part[..part.len() - rest.len()]
        });
        masked.push_str(rest);
    }
    masked
}

fn compare(path: &Path, actual: &str) -> Option<String> {
    let expected = read(path).unwrap_or_default();
    if expected == actual {
        return None;
    }
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(path, actual).err().map(|error| format!("{}: {error}", path.display()));
    }
    Some(format!("{} differs\n{}", path.display(), difference(&expected, actual)))
}

/// The lines that differ, from the first to the last one.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = |(left, right): &(&&str, &&str)| left == right;
    let before = expected.iter().zip(&actual).take_while(same).count();
    let left = expected.len().min(actual.len()) - before;
    let after = expected.iter().rev().zip(actual.iter().rev()).take(left).take_while(same).count();
    let mut text = String::new();
    for line in &expected[before..expected.len() - after] {
        text.push_str(&format!("  expected | {line}\n"));
    }
    for line in &actual[before..actual.len() - after] {
        text.push_str(&format!("  actual   | {line}\n"));
    }
    text
}

fn parse_reply(text: &str) -> Reply {
    let mut reply = Reply::new(200);
    let mut rest = text;
    while rest.starts_with("---") {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        reply = reply.first(parse_step(line));
        rest = after;
    }
    if rest.is_empty() {
        return reply;
    }
    let (head, body) = rest.split_once("\n\n").unwrap_or_else(|| (rest.trim_end(), ""));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let status: u16 = status.unwrap_or_else(|| panic!("not a status line in: {head:?}"));
    reply = reply.status(status);
    let mut is_stream = false;
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("not a header: {line:?}"));
        is_stream |= value.starts_with("text/event-stream");
        reply = if name == "transfer-encoding" { reply.chunked() } else { reply.header(name, value) };
    }
    if is_stream {
        reply = reply.framed(Framing::Chunked);
    }
    parse_body(reply, if is_stream { body } else { body.strip_suffix('\n').unwrap_or(body) })
}

fn parse_body(mut reply: Reply, body: &str) -> Reply {
    let (mut pending, mut split, mut is_packed, mut is_closing) = (String::new(), None, false, false);
    for line in body.split_inclusive('\n') {
        let Some(directive) = line.trim_end().strip_prefix("--- ") else {
            pending.push_str(line);
            continue;
        };
        match directive.split_once(' ').unwrap_or((directive, "")) {
            ("split", size) => split = Some(size.parse().expect("`--- split` takes a number")),
            ("gzip", "") => is_packed = true,
            ("close", "") => is_closing = true,
            _ => {
                reply = reply.body(std::mem::take(&mut pending)).step(parse_step(line));
            }
        }
    }
    reply = reply.body(pending);
    if is_packed {
        reply = reply.gzip();
    }
    if is_closing {
        reply = reply.closing();
    }
    match split {
        Some(size) => reply.split(size),
        None => reply,
    }
}

fn parse_step(line: &str) -> Step {
    match line.trim_end().trim_start_matches("--- ").split(' ').collect::<Vec<_>>()[..] {
        ["pause", time] => {
            let time = time.strip_suffix("ms").and_then(|time| time.parse().ok());
            Step::Pause(Duration::from_millis(time.expect("`--- pause` takes milliseconds, as in 50ms")))
        }
        ["cut"] => Step::Cut,
        ["reset"] => Step::Reset,
        ["hang"] => Step::Hang,
        _ => panic!("not a thing to do: {line:?}"),
    }
}
