//! One line of the access log, in the form of web servers or as JSON.
//!
//! Text is what GPT_API wrote, with two fields more at the end:
//!
//! ```text
//! IP - - [21/Nov/2026:16:16:00 +0000] "POST /v1/chat/completions HTTP/1.1" 200 512 "-" "curl/8.5" 0.123s "MODEL" "KEY" "ERROR" "REQUEST ID" 0.045s
//! ```
//!
//! The time is that of the end, `0.123s` the whole exchange, the last field the time to the first token. `KEY` is the
//! name of the key or the caller, never a part of a key. What is not known is `-`. In quoted fields `"` and `\` have a
//! `\` before them, and the bytes of control characters and line ends are written as `\xHH`.
//!
//! JSON has the names of the Python proxy's `requests.log`, which are always there, and further ones where there is
//! something to say. `target` tells such a line from the others where both go to standard error.

use std::borrow::Cow;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::calendar::{Second, since_1970};
use crate::chat::Usage;
use crate::exchange::Tags;

/// The longest field of a line, in bytes; what is longer is cut.
const FIELD_BYTES_MAX: usize = 2048;
/// What stands where something was cut.
const CUT: &str = "…";

/// What a line tells of an exchange.
pub(super) struct Entry<'a> {
    /// When it ended.
    pub(super) at: SystemTime,
    /// How long it took.
    pub(super) took: Duration,
    /// The request's id.
    pub(super) id: &'a str,
    /// Who asked.
    pub(super) client: IpAddr,
    /// The method.
    pub(super) method: &'a str,
    /// Path and query, without secrets.
    pub(super) target: &'a str,
    /// The program that asked, in its own words.
    pub(super) user_agent: Option<&'a [u8]>,
    /// The status; 499 for a client that left.
    pub(super) status: u16,
    /// Bytes of the answer's body.
    pub(super) bytes: u64,
    /// The endpoint's label.
    pub(super) endpoint: &'static str,
    /// The model that was asked for.
    pub(super) model: Option<&'a str>,
    /// The upstream that was asked last.
    pub(super) upstream: Option<&'a str>,
    /// How many attempts there were.
    pub(super) attempts: usize,
    /// How it ended, in one word.
    pub(super) outcome: &'static str,
    /// What the client was told was wrong.
    pub(super) error: Option<&'a str>,
    /// From the start to the first token.
    pub(super) first_token: Option<Duration>,
    /// What was counted.
    pub(super) usage: Option<Usage>,
    /// Who is calling.
    pub(super) caller: Option<&'a str>,
    /// The name of the key.
    pub(super) key: Option<&'a str>,
    /// The caller's tenant.
    pub(super) tenant: Option<&'a str>,
    /// What plugins noted.
    pub(super) labels: &'a Tags,
}

/// The last second that was written; lines come many to a second.
#[derive(Default)]
pub(super) struct Stamp {
    unix: Option<u64>,
    iso: String,
    common_log: String,
}

impl Stamp {
    fn to(&mut self, unix: u64) -> &Self {
        if self.unix != Some(unix) {
            let second = Second::from_unix(unix);
            *self = Self { unix: Some(unix), iso: second.in_iso(), common_log: second.in_common_log() };
        }
        self
    }
}

impl Entry<'_> {
    /// Adds the line as text.
    pub(super) fn write_text(&self, stamp: &mut Stamp, line: &mut Vec<u8>) {
        address(self.client, line);
        raw(" - - [", line);
        raw(&stamp.to(since_1970(self.at).as_secs()).common_log, line);
        raw("] \"", line);
        escape(self.method, line);
        line.push(b' ');
        escape(self.target, line);
        raw(" HTTP/1.1\" ", line);
        decimal(u64::from(self.status), line);
        line.push(b' ');
        decimal(self.bytes, line);
        raw(" \"-\"", line);
        quote(self.user_agent.map(String::from_utf8_lossy).as_deref(), line);
        line.push(b' ');
        thousandths(self.took.as_millis(), line);
        line.push(b's');
        for field in [self.model, self.key.or(self.caller), self.error, Some(self.id)] {
            quote(field, line);
        }
        line.push(b' ');
        match self.first_token {
            Some(time) => {
                thousandths(time.as_millis(), line);
                raw("s\n", line);
            }
            None => raw("-\n", line),
        }
    }

    /// Adds the line as JSON.
    pub(super) fn write_json(&self, stamp: &mut Stamp, line: &mut Vec<u8>) {
        let at = since_1970(self.at);
        raw("{\"timestamp\":\"", line);
        raw(&stamp.to(at.as_secs()).iso, line);
        line.push(b'.');
        padded::<6>(u64::from(at.subsec_micros()), line);
        raw("Z\",\"level\":\"INFO\"", line);
        member("target", super::ACCESS_TARGET, line);
        member("request_id", self.id, line);
        member("method", self.method, line);
        member("path", self.target.split('?').next().unwrap_or_default(), line);
        count("status_code", u64::from(self.status), line);
        key("latency_ms", line);
        thousandths(self.took.as_micros(), line);
        raw(",\"client_ip\":\"", line);
        address(self.client, line);
        line.push(b'"');
        match self.error {
            Some(error) => member("error", error, line),
            None => raw(",\"error\":null", line),
        }
        member("endpoint", self.endpoint, line);
        member("outcome", self.outcome, line);
        count("attempts", self.attempts as u64, line);
        count("bytes", self.bytes, line);
        for (name, value) in [
            ("model", self.model),
            ("upstream", self.upstream),
            ("caller", self.caller),
            ("key", self.key),
            ("tenant", self.tenant),
            ("user_agent", self.user_agent.map(String::from_utf8_lossy).as_deref()),
        ] {
            if let Some(value) = value {
                member(name, value, line);
            }
        }
        if let Some(time) = self.first_token {
            key("ttft_ms", line);
            thousandths(time.as_micros(), line);
        }
        if let Some(usage) = &self.usage {
            raw(",\"tokens\":{\"input\":", line);
            decimal(usage.input, line);
            count("output", usage.output, line);
            count("cached", usage.cached, line);
            count("reasoning", usage.reasoning, line);
            raw(if usage.is_estimated { ",\"estimated\":true}" } else { ",\"estimated\":false}" }, line);
        }
        let mut before = ",\"labels\":{";
        for (name, value) in self.labels.iter() {
            raw(before, line);
            json(name, line);
            line.push(b':');
            json(value, line);
            before = ",";
        }
        if before == "," {
            line.push(b'}');
        }
        raw("}\n", line);
    }
}

// A line is written for every request. `write!` would take three times as long as these do.

fn raw(words: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(words.as_bytes());
}

fn decimal(number: u64, line: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let (mut rest, mut at) = (number, digits.len());
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

/// Adds the last digits of a number, zeros included.
fn padded<const N: usize>(number: u64, line: &mut Vec<u8>) {
    let mut digits = [b'0'; N];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line.extend_from_slice(&digits);
}

/// Adds so many thousandths as a decimal fraction.
fn thousandths(number: u128, line: &mut Vec<u8>) {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    decimal(number / 1000, line);
    line.push(b'.');
    padded::<3>(number, line);
}

fn address(address: IpAddr, line: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    line.push(b'.');
                }
                decimal(u64::from(octet), line);
            }
        }
        IpAddr::V6(address) => write!(line, "{address}").expect("a vector takes every byte"),
    }
}

/// Whether text means the same wherever it stands.
fn is_plain(text: &str) -> bool {
    // The whole text is looked at: that is what compilers make vector instructions of.
    text.bytes().fold(true, |all, byte| all & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'))
}

/// Adds a field of text in quotation marks, or the sign that there is none.
fn quote(field: Option<&str>, line: &mut Vec<u8>) {
    line.extend_from_slice(b" \"");
    escape(field.unwrap_or("-"), line);
    line.push(b'"');
}

/// Adds text that can end neither the field nor the line, nor tell a terminal anything.
fn escape(text: &str, line: &mut Vec<u8>) {
    let text = bounded(text);
    if is_plain(&text) {
        return raw(&text, line);
    }
    let mut buffer = [0; 4];
    for character in text.chars() {
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        match character {
            '"' | '\\' => line.extend_from_slice(&[b'\\', bytes[0]]),
            '\u{2028}' | '\u{2029}' => put_hex(bytes, line),
            _ if character.is_control() => put_hex(bytes, line),
            _ => line.extend_from_slice(bytes),
        }
    }
}

fn put_hex(bytes: &[u8], line: &mut Vec<u8>) {
    bytes.iter().for_each(|byte| write!(line, "\\x{byte:02X}").expect("a vector takes every byte"));
}

fn key(name: &'static str, line: &mut Vec<u8>) {
    raw(",\"", line);
    raw(name, line);
    raw("\":", line);
}

fn count(name: &'static str, value: u64, line: &mut Vec<u8>) {
    key(name, line);
    decimal(value, line);
}

fn member(name: &'static str, value: &str, line: &mut Vec<u8>) {
    key(name, line);
    json(value, line);
}

fn json(text: &str, line: &mut Vec<u8>) {
    let text = bounded(text);
    if is_plain(&text) {
        line.push(b'"');
        raw(&text, line);
        line.push(b'"');
    } else {
        serde_json::to_writer(line, &*text).expect("a vector takes every byte, and text is always JSON");
    }
}

/// Cuts what is longer than a field may be.
pub(super) fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= FIELD_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{CUT}", &text[..text.floor_char_boundary(FIELD_BYTES_MAX - CUT.len())]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn entry(labels: &Tags) -> Entry<'_> {
        Entry {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_277_760_012_345),
            took: Duration::from_micros(123_456),
            id: "r-1",
            client: [192, 0, 2, 7].into(),
            method: "POST",
            target: "/v1/chat/completions",
            user_agent: Some(b"curl/8.5"),
            status: 200,
            bytes: 512,
            endpoint: "chat.completions",
            model: Some("m"),
            upstream: Some("one"),
            attempts: 1,
            outcome: "complete",
            error: None,
            first_token: Some(Duration::from_micros(45_678)),
            usage: None,
            caller: None,
            key: None,
            tenant: None,
            labels,
        }
    }

    fn text(entry: &Entry<'_>) -> String {
        let mut line = Vec::new();
        entry.write_text(&mut Stamp::default(), &mut line);
        String::from_utf8(line).unwrap()
    }

    fn json_of(entry: &Entry<'_>) -> Value {
        let mut line = Vec::new();
        entry.write_json(&mut Stamp::default(), &mut line);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        serde_json::from_slice(&line).unwrap()
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Entry<'_>), expected: &str) {
        let labels = Tags::default();
        let mut entry = entry(&labels);
        change(&mut entry);
        let expected = format!("{expected}\n");
        assert_eq!(text(&entry), expected);
    }

    // parity: 150, 153
    #[test]
    fn a_line_has_the_form_of_web_servers() {
        const BEGIN: &str =
            "192.0.2.7 - - [21/Nov/2026:16:16:00 +0000] \"POST /v1/chat/completions HTTP/1.1\"";
        check(|_| {}, &format!("{BEGIN} 200 512 \"-\" \"curl/8.5\" 0.123s \"m\" \"-\" \"-\" \"r-1\" 0.045s"));
        check(
            |entry| (entry.status, entry.error, entry.first_token) = (502, Some("no \"luck\"\n"), None),
            &format!(
                "{BEGIN} 502 512 \"-\" \"curl/8.5\" 0.123s \"m\" \"-\" \"no \\\"luck\\\"\\x0A\" \"r-1\" -"
            ),
        );
        check(
            |entry| (entry.key, entry.caller, entry.model) = (Some("team-a"), Some("ann"), None),
            &format!("{BEGIN} 200 512 \"-\" \"curl/8.5\" 0.123s \"-\" \"team-a\" \"-\" \"r-1\" 0.045s"),
        );
        check(
            |entry| (entry.caller, entry.user_agent) = (Some("ann"), Some(&b"\xff\x1b[31m"[..])),
            &format!("{BEGIN} 200 512 \"-\" \"\u{fffd}\\x1B[31m\" 0.123s \"m\" \"ann\" \"-\" \"r-1\" 0.045s"),
        );
        check(
            |entry| {
                (entry.method, entry.target) = ("GET", "/v1/x?key=***&a=\\\"");
                (entry.user_agent, entry.bytes, entry.took) = (None, 0, Duration::from_secs(61));
            },
            "192.0.2.7 - - [21/Nov/2026:16:16:00 +0000] \"GET /v1/x?key=***&a=\\\\\\\" HTTP/1.1\" 200 0 \"-\" \"-\" 61.000s \"m\" \"-\" \"-\" \"r-1\" 0.045s",
        );
        check(
            |entry| entry.model = Some("größe\u{85}\u{2028}"),
            &format!(
                "{BEGIN} 200 512 \"-\" \"curl/8.5\" 0.123s \"größe\\xC2\\x85\\xE2\\x80\\xA8\" \"-\" \"-\" \"r-1\" 0.045s"
            ),
        );
    }

    // parity: 150, 153
    #[test]
    fn a_line_of_json_has_the_known_names() {
        let mut labels = Tags::default();
        let least = json_of(&entry(&labels));
        assert_eq!(
            least,
            json!({
                "timestamp": "2026-11-21T16:16:00.012345Z", "level": "INFO", "target": "witgate::access",
                "request_id": "r-1", "method": "POST", "path": "/v1/chat/completions", "status_code": 200,
                "latency_ms": 123.456, "client_ip": "192.0.2.7", "error": null,
                "endpoint": "chat.completions", "outcome": "complete", "attempts": 1, "bytes": 512,
                "model": "m", "upstream": "one", "user_agent": "curl/8.5", "ttft_ms": 45.678,
            })
        );
        labels.set("size".to_owned(), "\"small\"\n".to_owned());
        labels.set("b".to_owned(), "2".to_owned());
        let mut entry = entry(&labels);
        (entry.error, entry.target) = (Some("no\n"), "/v1/x?a=1");
        (entry.caller, entry.key, entry.tenant) = (Some("ann"), Some("team-a"), Some("search"));
        entry.usage = Some(Usage { input: 3, output: 2, cached: 1, ..Usage::default() });
        let most = json_of(&entry);
        for (name, value) in [
            ("error", json!("no\n")),
            ("path", json!("/v1/x")),
            ("caller", json!("ann")),
            ("key", json!("team-a")),
            ("tenant", json!("search")),
            ("tokens", json!({"input": 3, "output": 2, "cached": 1, "reasoning": 0, "estimated": false})),
            ("labels", json!({"size": "\"small\"\n", "b": "2"})),
        ] {
            assert_eq!(most[name], value, "{name}");
        }
    }

    #[test]
    fn a_long_field_is_cut() {
        let labels = Tags::default();
        let mut entry = entry(&labels);
        let long = "é".repeat(FIELD_BYTES_MAX);
        entry.user_agent = Some(long.as_bytes());
        entry.error = Some(&long);
        assert!(text(&entry).len() < 2 * FIELD_BYTES_MAX + 300);
        let cut = json_of(&entry)["user_agent"].as_str().unwrap().to_owned();
        assert!(cut.len() <= FIELD_BYTES_MAX && cut.ends_with("é…"), "{cut}");
    }

    /// Splits a line of text into its fields, as a reader of such logs does.
    fn fields(line: &str) -> Vec<String> {
        let mut fields = Vec::new();
        let mut rest = line.trim_end_matches('\n').chars().peekable();
        while let Some(first) = rest.next() {
            let mut field = String::new();
            if first == '"' {
                while let Some(character) = rest.next().filter(|character| *character != '"') {
                    field.extend(if character == '\\' { rest.next() } else { Some(character) });
                }
            } else {
                field.push(first);
                field.extend(std::iter::from_fn(|| rest.next_if(|character| *character != ' ')));
            }
            fields.push(field);
            assert!(matches!(rest.next(), Some(' ') | None), "{line}");
        }
        fields
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_its_field(
            agent in proptest::collection::vec(any::<u8>(), 0..40),
            error in ".*",
            model in ".*",
            target in "[ -~]{1,30}",
        ) {
            let labels = Tags::default();
            let mut entry = entry(&labels);
            (entry.user_agent, entry.error) = (Some(&agent[..]), Some(&*error));
            entry.model = Some(&*model);
            entry.target = &target;
            let line = text(&entry);
            prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
            let fields = fields(&line);
            prop_assert_eq!(fields.len(), 16, "{}", line);
            prop_assert_eq!(&fields[14], "r-1");
            let read = json_of(&entry);
            prop_assert_eq!(&read["error"], &json!(error));
            prop_assert_eq!(&read["model"], &json!(model));
        }
    }
}
