//! `witgate keys`: makes, lists and revokes the keys of callers. Keys are shown once and never kept; hashes are.

mod file;
mod owner;
mod secret;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args, Subcommand};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use crate::auth;
use crate::calendar;
use crate::cli::keys::file::KeysFile;
use crate::config::check::keys::{Places, list};
use crate::config::check::values;
use crate::config::diagnostic::Diagnostics;
use crate::config::env::Environment;
use crate::config::{self, Glob, Key, KeyHash, Quota, Rate, Spend, redacted};

/// How keys begin, so that people and scanners for secrets know them.
const KEY_PREFIX: &str = "sk-wg-";
/// The random bytes of a key.
const KEY_BYTES: usize = 32;
/// The longest key whose hash is printed, in bytes.
const KEY_BYTES_MAX: u64 = 16 * 1024;
/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// The subcommands of `witgate keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key and print it, this once; its hash goes into `keys_file`, or is printed as a line for `keys`
    Create(Box<CreateArguments>),
    /// List the keys of `keys_file`
    List {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Take a key out of `keys_file`
    Revoke {
        /// Its name
        name: String,
    },
    /// Print the hash of a key
    Hash {
        /// The key [default: the first line of standard input, which keeps it out of lists of processes]
        key: Option<String>,
    },
}

/// What a key is to be.
#[derive(Args, Debug)]
pub struct CreateArguments {
    /// Its name, shown in logs, records and metrics
    pub name: String,
    /// Whom it belongs to
    #[arg(long)]
    pub tenant: Option<String>,
    /// Models it may use, separated by commas; `*` stands for any text [default: all]
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub models: Vec<String>,
    /// Endpoints it may use, such as `chat.completions,embeddings` [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub endpoints: Vec<String>,
    /// Upstreams that may answer it [default: all]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub upstreams: Vec<String>,
    /// Its end: a day such as 2027-01-31, a moment such as 2027-01-31T18:00:00Z, or a time from now such as 90d
    #[arg(long, value_name = "TIME")]
    pub expires: Option<String>,
    /// Addresses and networks it may be used from, separated by commas [default: anywhere]
    #[arg(long, value_delimiter = ',', value_name = "NETWORKS")]
    pub allow_ips: Vec<String>,
    /// Let it use paths that the gateway does not know
    #[arg(long)]
    pub passthrough: bool,
    /// How much it may use.
    #[command(flatten)]
    pub limits: LimitArguments,
}

/// How much a key may use; what none of them says is bounded as `limits` of the configuration has it.
#[derive(Args, Debug, Default)]
pub struct LimitArguments {
    /// Requests in a sliding window, such as 100/1m; 0 for no bound [default: as `limits` says]
    #[arg(long, value_name = "RATE")]
    pub requests: Option<String>,
    /// Tokens in a sliding window, such as 200000/1m; 0 for no bound [default: as `limits` says]
    #[arg(long, value_name = "RATE")]
    pub tokens: Option<String>,
    /// Requests at the same time; 0 for no bound [default: as `limits` says]
    #[arg(long, value_name = "COUNT")]
    pub in_flight: Option<u64>,
    /// Tokens in a day (UTC)
    #[arg(long, value_name = "COUNT")]
    pub day_tokens: Option<u64>,
    /// Money in a day (UTC), by the configuration's `prices`
    #[arg(long, value_name = "AMOUNT")]
    pub day_money: Option<f64>,
    /// Tokens in a calendar month (UTC)
    #[arg(long, value_name = "COUNT")]
    pub month_tokens: Option<u64>,
    /// Money in a calendar month (UTC), by the configuration's `prices`
    #[arg(long, value_name = "AMOUNT")]
    pub month_money: Option<f64>,
}

impl LimitArguments {
    /// What stands at `limits` of a key; nothing if they say nothing.
    fn entry(&self) -> String {
        let spend = |tokens: Option<u64>, money: Option<f64>| {
            mapping(&[("tokens", shown(tokens.map(Value::from))), ("money", shown(money.map(Value::from)))])
        };
        let budget = mapping(&[
            ("day", spend(self.day_tokens, self.day_money)),
            ("month", spend(self.month_tokens, self.month_money)),
        ]);
        mapping(&[
            ("requests", shown(self.requests.as_deref().map(Value::from))),
            ("tokens", shown(self.tokens.as_deref().map(Value::from))),
            ("in_flight", shown(self.in_flight.map(Value::from))),
            ("budget", budget),
        ])
    }
}

fn shown(value: Option<Value>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A mapping on one line, of the entries that are not empty; empty without any.
fn mapping(entries: &[(&str, String)]) -> String {
    let entries = entries.iter().filter(|(_, value)| !value.is_empty());
    let entries: Vec<_> = entries.map(|(name, value)| format!("{name}: {value}")).collect();
    if entries.is_empty() { String::new() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// Does what was asked.
///
/// # Errors
///
/// A message when it cannot be done; nothing has changed then.
pub(super) fn run(
    command: &KeysCommand,
    path: Option<&Path>,
    environment: &Environment,
) -> Result<(), String> {
    let origin = config::locate(path, environment);
    let places = config::key_places(&origin, environment).map_err(|problems| problems.to_string())?;
    match command {
        KeysCommand::Create(arguments) => create(arguments, &places, SystemTime::now()),
        KeysCommand::List { json } => print_list(keys_file(&places)?, *json, SystemTime::now()),
        KeysCommand::Revoke { name } => revoke(name, keys_file(&places)?),
        KeysCommand::Hash { key } => {
            let key = key.clone().map_or_else(read_key, Ok)?;
            println!("{}", auth::hash(&secret::of(&places)?, key.trim()));
            Ok(())
        }
    }
}

fn keys_file(places: &Places) -> Result<&PathBuf, String> {
    places.file.as_ref().ok_or_else(|| "the configuration names no `keys_file`".to_owned())
}

fn create(arguments: &CreateArguments, places: &Places, now: SystemTime) -> Result<(), String> {
    let key = new_key()?;
    let hash = auth::hash(&secret::of(places)?, &key);
    let entry = entry(arguments, hash, now)?;
    if places.names.contains(&arguments.name) {
        return Err(format!("there is a key `{}` already, in the configuration", arguments.name));
    }
    let (_, problems) = list(&format!("- {entry}\n"), "the new key", &places.upstreams);
    if !problems.is_empty() {
        return Err(Diagnostics { all: problems }.to_string());
    }
    let Some(path) = &places.file else {
        println!("{key}\n- {entry}");
        eprintln!(
            "the key is on the first line, and is not shown again; the second line belongs under `keys:`"
        );
        return Ok(());
    };
    KeysFile::open(path)?.add(&arguments.name, &entry)?;
    println!("{key}");
    eprintln!("`{}` is in {}; its key is not shown again", arguments.name, absolute(path).display());
    Ok(())
}

/// A path as it is from everywhere, because the folder this runs in may not be the gateway's.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn new_key() -> Result<String, String> {
    let mut bytes = [0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(format!("{KEY_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The entry of a key, on one line. Source: YAML 1.2.2, section 1.2 (JSON is YAML).
fn entry(arguments: &CreateArguments, hash: KeyHash, now: SystemTime) -> Result<String, String> {
    let mut entry = format!("{{ name: {}, hash: {}", json!(arguments.name), json!(hash.to_string()));
    let mut add = |name: &str, value: Value| {
        // A list is written with a space behind its commas, as people write it.
        entry.push_str(&format!(", {name}: {}", value.to_string().replace("\",\"", "\", \"")));
    };
    if let Some(tenant) = &arguments.tenant {
        add("tenant", json!(tenant));
    }
    for (name, values) in [
        ("models", &arguments.models),
        ("endpoints", &arguments.endpoints),
        ("upstreams", &arguments.upstreams),
        ("allow_ips", &arguments.allow_ips),
    ] {
        if !values.is_empty() {
            add(name, json!(values));
        }
    }
    if let Some(expires) = &arguments.expires {
        add("expires", json!(end(expires, now)?));
    }
    if arguments.passthrough {
        add("passthrough", json!(true));
    }
    let limits = arguments.limits.entry();
    if !limits.is_empty() {
        entry.push_str(&format!(", limits: {limits}"));
    }
    entry.push_str(" }");
    Ok(entry)
}

/// A day or a moment as it is; a time from now as the moment then.
fn end(text: &str, now: SystemTime) -> Result<String, String> {
    let Some(time) = values::duration(text).filter(|time| !time.is_zero()) else {
        return Ok(text.to_owned());
    };
    let end = now.checked_add(time).ok_or("that is too far away")?;
    Ok(moment(end))
}

/// A moment as RFC 3339 writes it, in UTC.
fn moment(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = calendar::date(i64::try_from(days).unwrap_or(i64::MAX));
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

fn print_list(path: &Path, is_json: bool, now: SystemTime) -> Result<(), String> {
    let keys = file::keys(path)?;
    if is_json {
        println!("{:#}", Value::Array(keys.iter().map(|key| described(key, now)).collect()));
        return Ok(());
    }
    let rows: Vec<[String; 6]> = keys.iter().map(|key| row(key, now)).collect();
    let title = ["name", "tenant", "models", "limits", "expires", "state"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(&title).chain(&rows).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    Ok(())
}

fn row(key: &Key, now: SystemTime) -> [String; 6] {
    let account = &key.account;
    let models: Vec<&str> = account.models.iter().map(Glob::as_str).collect();
    [
        account.name.to_string(),
        account.tenant.as_deref().unwrap_or("-").to_owned(),
        if models.is_empty() { "*".to_owned() } else { models.join(",") },
        account.quota.as_ref().map_or_else(|| "-".to_owned(), limits),
        account.expires.map_or_else(|| "never".to_owned(), moment),
        state(key, now).to_owned(),
    ]
}

/// What of its own a key may use, as one word for each.
fn limits(quota: &Quota) -> String {
    let rate = |name: &str, rate: Option<Rate>| {
        rate.map(|rate| format!("{name}={}/{}s", rate.count, rate.window.as_secs_f64()))
    };
    let spend = |period: &str, spend: Spend| {
        let money = spend.money.map(|money| format!("money/{period}={}", money as f64 / 1e6));
        [spend.tokens.map(|tokens| format!("tokens/{period}={tokens}")), money]
    };
    let in_flight = (quota.in_flight > 0).then(|| format!("in_flight={}", quota.in_flight));
    let windows = [rate("requests", quota.requests), rate("tokens", quota.tokens), in_flight];
    let all = windows.into_iter().chain(spend("day", quota.day)).chain(spend("month", quota.month));
    let all: Vec<_> = all.flatten().collect();
    if all.is_empty() { "none".to_owned() } else { all.join(",") }
}

fn described(key: &Key, now: SystemTime) -> Value {
    let account = &key.account;
    json!({
        "name": &*account.name,
        "tenant": account.tenant.as_deref(),
        "models": account.models.iter().map(Glob::as_str).collect::<Vec<_>>(),
        "endpoints": account.endpoints.iter().map(|endpoint| endpoint.label()).collect::<Vec<_>>(),
        "upstreams": account.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "allow_ips": account.allow_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "passthrough": account.may_pass_through,
        "expires": account.expires.map(moment),
        "limits": account.quota.as_ref().map(redacted::quota),
        "state": state(key, now),
    })
}

fn state(key: &Key, now: SystemTime) -> &'static str {
    if key.account.has_expired(now) { "expired" } else { "good" }
}

fn revoke(name: &str, path: &Path) -> Result<(), String> {
    KeysFile::open(path)?.remove(name)?;
    eprintln!("`{name}` is gone from {}", absolute(path).display());
    Ok(())
}

fn read_key() -> Result<String, String> {
    let mut text = String::new();
    let read = io::stdin().take(KEY_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| format!("the key cannot be read from standard input: {error}"))?;
    let key = text.lines().next().unwrap_or_default().trim();
    if key.is_empty() {
        Err("give a key, as argument or on standard input".to_owned())
    } else {
        Ok(key.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> CreateArguments {
        CreateArguments {
            name: "team \"a\"".to_owned(),
            tenant: None,
            models: Vec::new(),
            endpoints: Vec::new(),
            upstreams: Vec::new(),
            expires: None,
            allow_ips: Vec::new(),
            passthrough: false,
            limits: LimitArguments::default(),
        }
    }

    #[test]
    fn an_entry_says_what_was_asked_for() {
        let hash = KeyHash::new([7; 32]);
        let all = CreateArguments {
            tenant: Some("search".to_owned()),
            models: vec!["gpt-*".to_owned(), "o3".to_owned()],
            endpoints: vec!["chat.completions".to_owned()],
            upstreams: vec!["one".to_owned()],
            expires: Some("2027-01-31".to_owned()),
            allow_ips: vec!["10.0.0.0/8".to_owned()],
            passthrough: true,
            limits: LimitArguments {
                requests: Some("100/1m".to_owned()),
                tokens: Some("0".to_owned()),
                in_flight: Some(3),
                day_tokens: Some(5),
                day_money: None,
                month_tokens: None,
                month_money: Some(1.5),
            },
            ..arguments()
        };
        for arguments in [arguments(), all] {
            let entry = entry(&arguments, hash, UNIX_EPOCH).unwrap();
            let (keys, problems) = list(&format!("- {entry}"), "test", &["one".to_owned()]);
            assert_eq!(problems, [], "{entry}");
            let [Key { hash: read, account }] = &keys[..] else { panic!("{keys:?}") };
            assert!(*read == hash);
            assert_eq!(*account.name, *arguments.name);
            assert_eq!(account.tenant.as_deref(), arguments.tenant.as_deref());
            assert_eq!(account.models.iter().map(Glob::as_str).collect::<Vec<_>>(), arguments.models);
            assert_eq!(account.endpoints.len(), arguments.endpoints.len());
            assert_eq!(
                account.upstreams.iter().map(ToString::to_string).collect::<Vec<_>>(),
                arguments.upstreams
            );
            assert_eq!(
                account.allow_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
                arguments.allow_ips
            );
            assert_eq!(
                account.expires.map(moment),
                arguments.expires.as_ref().map(|_| "2027-02-01T00:00:00Z".to_owned())
            );
            assert_eq!(account.may_pass_through, arguments.passthrough);
            let shown = row(&keys[0], UNIX_EPOCH)[3].clone();
            match arguments.passthrough {
                true => assert_eq!(shown, "requests=100/60s,in_flight=3,tokens/day=5,money/month=1.5"),
                false => assert_eq!((account.quota.as_ref(), shown.as_str()), (None, "-")),
            }
        }
    }

    #[test]
    fn a_limit_cannot_say_more_than_a_limit() {
        let limits =
            LimitArguments { requests: Some("1/1m }, passthrough: true".to_owned()), ..Default::default() };
        let entry =
            entry(&CreateArguments { limits, ..arguments() }, KeyHash::new([7; 32]), UNIX_EPOCH).unwrap();
        let (_, problems) = list(&format!("- {entry}"), "test", &[]);
        assert!(!problems.is_empty(), "{entry}");
    }

    #[test]
    fn an_end_may_be_a_time_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_795_277_760);
        assert_eq!(end("90d", now).as_deref(), Ok("2027-02-19T16:16:00Z"));
        assert_eq!(end("2027-01-31", now).as_deref(), Ok("2027-01-31"));
    }

    #[test]
    fn no_two_keys_are_the_same() {
        let (one, other) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), KEY_PREFIX.len() + 43);
    }
}
