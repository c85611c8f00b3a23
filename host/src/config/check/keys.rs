//! What a file says of keys, in itself and in the `keys_file` that it names.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

use super::{Reader, flag, hide_secrets, read_secret, schema, text, texts, values};
use crate::config::defaults::Defaults;
use crate::config::diagnostic::{self, Diagnostic, Problem};
use crate::config::env::{self, Environment};
use crate::config::file::{self, Node, Value};
use crate::config::files::{Digest, Files};
use crate::config::secret::Secret;
use crate::config::{Account, Audit, Glob, Key, KeyHash, Keys, Limits, Quota, Tenant, Upstream};
use crate::moment;

/// The largest file of keys, in bytes.
const FILE_BYTES_MAX: usize = 64 << 20;
/// The most nodes of its tree: twenty for each of 200,000 keys.
const NODES_MAX: usize = 4_000_000;
/// The most that is said about one file of keys.
const DIAGNOSTICS_MAX: usize = 100;
/// The longest name of a key or a tenant, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 128;
/// How the names begin that callers with tokens have.
pub(crate) const TOKEN_NAME_PREFIX: &str = "jwt:";
/// The file of the secret that nobody configured, beside the audit's.
const SECRET_FILE: &str = "witgate.key";
/// What of a file's mode is about others than its owner.
const OTHERS: u32 = 0o077;

/// Where a configuration keeps what belongs to its keys.
#[derive(Debug)]
pub struct Places {
    /// `keys_file`.
    pub file: Option<PathBuf>,
    /// `server.key_secret`.
    pub secret: Option<Secret>,
    /// The file that holds the secret where there is no `server.key_secret`.
    pub secret_file: PathBuf,
    /// The names of the keys in the configuration itself.
    pub names: Vec<String>,
    /// The names of the upstreams.
    pub upstreams: Vec<String>,
}

/// Finds these places in the text of a file, whatever else is wrong with it.
///
/// # Errors
/// What is wrong with the text itself or with the places.
pub fn places(
    text: &str,
    path: &Path,
    environment: &Environment,
    defaults: &Defaults,
) -> Result<Places, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut root = file::parse(text, &mut problems).map_err(|problem| vec![problem])?;
    env::expand_tree(&mut root, environment, &mut Vec::new());
    let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let mut reader =
        Reader { problems: Vec::new(), folder, environment, files: Files::default(), found: Vec::new() };
    let audit = reader.audit(root.get("audit"), &defaults.audit);
    let mut places = reader.key_places(&root, &audit);
    let names = |list: Option<&Node>| {
        let nodes = list.map(Node::items).unwrap_or_default();
        nodes.iter().filter_map(|node| self::text(node, "name").map(str::to_owned)).collect()
    };
    places.names = names(root.get("keys"));
    places.upstreams = names(root.get("upstreams").or_else(|| root.get("openai_clients")));
    for name in ["keys_file", "key_secret"] {
        let node = root.get(name).or_else(|| root.get("server")?.get(name));
        if let Some(node) = node.filter(|node| node.scalar().is_some_and(|scalar| scalar.is_unresolved)) {
            let problem = Problem::error(node.span, format!("a variable in `{name}` is not set"));
            reader.problems.push(problem.help("set it as it is set for the gateway"));
        }
    }
    if reader.problems.is_empty() { Ok(places) } else { Err(reader.problems) }
}

/// The places of a gateway without a file.
pub fn places_without_file(defaults: &Defaults) -> Places {
    let secret_file = secret_file(&defaults.audit);
    Places { file: None, secret: None, secret_file, names: Vec::new(), upstreams: Vec::new() }
}

/// Reads a list of keys by itself; `upstreams` are the names its keys may have.
pub fn list(list: &str, name: &str, upstreams: &[String]) -> (Vec<Key>, Vec<Diagnostic>) {
    let environment = Environment::default();
    let mut reader = Reader {
        problems: Vec::new(),
        folder: PathBuf::new(),
        environment: &environment,
        files: Files::default(),
        found: Vec::new(),
    };
    let mut known = Known::new(upstreams.iter().map(String::as_str), &[], Quota::default());
    let keys = reader.keys_text(list, name, &mut known);
    (keys, reader.found)
}

/// Parses a list of keys; the text of a file without any is an empty mapping.
///
/// # Errors
/// It is no YAML, or too much.
pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Result<Node, Problem> {
    file::parse_within(text, FILE_BYTES_MAX, NODES_MAX, problems)
}

/// Reads the text of a file of keys.
///
/// # Errors
/// Why that is not possible.
pub fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())
}

/// What later keys are held against.
struct Known<'a> {
    names: HashMap<String, String>,
    hashes: HashMap<KeyHash, String>,
    upstreams: HashSet<&'a str>,
    tenants: &'a [Tenant],
    /// What holds where a key says nothing.
    quota: Quota,
}

impl<'a> Known<'a> {
    fn new(upstreams: impl Iterator<Item = &'a str>, tenants: &'a [Tenant], quota: Quota) -> Self {
        let upstreams = upstreams.collect();
        Self { names: HashMap::new(), hashes: HashMap::new(), upstreams, tenants, quota }
    }
}

fn secret_file(audit: &Audit) -> PathBuf {
    audit.path.parent().unwrap_or_else(|| Path::new("")).join(SECRET_FILE)
}

impl Reader<'_> {
    /// The gateway's own keys; none where neither `keys` nor `keys_file` says anything, which leaves it open.
    pub(super) fn keys(
        &mut self,
        root: &Node,
        upstreams: &[Upstream],
        tenants: &[Tenant],
        limits: &Limits,
        audit: &Audit,
    ) -> Option<Keys> {
        let mut known =
            Known::new(upstreams.iter().map(|upstream| &*upstream.name), tenants, limits.each.clone());
        let listed = root.entry("keys").filter(|(_, node)| !node.items().is_empty());
        let mut all = self.key_list(listed.map(|(_, node)| node), "the configuration", &mut known);
        let Places { file, secret, secret_file, .. } = self.key_places(root, audit);
        let place = root.entry("keys_file").map(|(key, _)| key);
        if let (Some(path), Some(place)) = (&file, place) {
            match self.keys_file(path, &mut known) {
                Ok(keys) => all.extend(keys),
                Err(fault) => {
                    let message = format!("the keys' file `{}` cannot be used: {fault}", path.display());
                    self.error(place.span, message, "make it with `witgate keys create NAME`");
                }
            }
        }
        let place = listed.map(|(key, _)| key).or(place)?.span;
        let secret = secret.or_else(|| match fs::metadata(&secret_file) {
            Ok(metadata) => match read_secret(&secret_file, &mut self.files) {
                Ok(secret) => {
                    if metadata.permissions().mode() & OTHERS != 0 {
                        let message = format!("others can read the keys' secret `{}`", secret_file.display());
                        self.problems.push(Problem::warning(place, message).help("`chmod 600` it"));
                    }
                    Some(Secret::new(secret))
                }
                Err(fault) => {
                    let message =
                        format!("the keys' secret `{}` cannot be used: {fault}", secret_file.display());
                    self.error(place, message, "it is what the hashes were made with; put it back");
                    None
                }
            },
            Err(_) => {
                self.files.note(&secret_file, Digest::default());
                if !all.is_empty() {
                    let message = format!(
                        "the keys' hashes need a secret, and there is neither `server.key_secret` nor `{}`",
                        secret_file.display()
                    );
                    let help = "put back what they were made with; without any keys `witgate keys create` makes a secret";
                    self.error(place, message, help);
                }
                None
            }
        });
        Some(Keys { secret, all: all.into(), file })
    }

    /// Where the keys and their secret are.
    fn key_places(&mut self, root: &Node, audit: &Audit) -> Places {
        let file = text(root, "keys_file").map(|path| self.folder.join(path));
        if let Some(node) = root.get("keys_file").filter(|_| text(root, "keys_file") == Some("")) {
            self.error(node.span, "`keys_file` is empty", "name a file, or remove the key");
        }
        let node = root.get("server").and_then(|server| server.get("key_secret"));
        let secret = node.and_then(|node| self.secret_text(node));
        if let (Some(node), Some("")) = (node, secret.as_deref()) {
            let help = "write a long random text, or remove the key for the file `witgate.key`";
            self.error(node.span, "`key_secret` is empty", help);
        }
        let secret = secret.filter(|secret| !secret.is_empty()).map(Secret::new);
        let secret_file = secret_file(audit);
        Places { file, secret, secret_file, names: Vec::new(), upstreams: Vec::new() }
    }

    fn keys_file(&mut self, path: &Path, known: &mut Known<'_>) -> Result<Vec<Key>, String> {
        // Before it is read: a change in between is found, not lost.
        self.files.note(path, Digest::of_file(path));
        let text = read_file(path)?;
        Ok(self.keys_text(&text, &path.display().to_string(), known))
    }

    /// The keys of a text of their own, whose problems are shown as they stand there.
    fn keys_text(&mut self, text: &str, name: &str, known: &mut Known<'_>) -> Vec<Key> {
        let before = std::mem::take(&mut self.problems);
        let mut hidden = Vec::new();
        let keys = match parse(text, &mut self.problems) {
            Ok(root) => {
                hide_secrets(&root, false, &mut hidden);
                // An empty file parses as an empty mapping.
                let list = Some(&root)
                    .filter(|root| !matches!(&root.value, Value::Mapping(keys) if keys.is_empty()));
                list.into_iter().for_each(|list| schema::walk_keys(list, &mut self.problems));
                self.key_list(list, name, known)
            }
            Err(problem) => {
                self.problems.push(problem);
                Vec::new()
            }
        };
        let mut problems = std::mem::replace(&mut self.problems, before);
        problems.truncate(DIAGNOSTICS_MAX);
        self.found.extend(diagnostic::render(name, text, problems, &hidden));
        keys
    }

    fn key_list(&mut self, list: Option<&Node>, place: &str, known: &mut Known<'_>) -> Vec<Key> {
        let Some(Value::List(nodes)) = list.map(|list| &list.value) else { return Vec::new() };
        nodes.iter().filter_map(|node| self.key(node, place, known)).collect()
    }

    fn key(&mut self, node: &Node, place: &str, known: &mut Known<'_>) -> Option<Key> {
        let hash = node.get("hash").and_then(|hash| self.key_hash(hash, place, known));
        let name = node.get("name").and_then(|name| self.key_name(name, place, known));
        let endpoints = node.get("endpoints").map(Node::items).unwrap_or_default();
        let tenant = node.get("tenant").and_then(|tenant| self.party(tenant, "tenant"));
        let mut upstreams = self.upstream_names(node.get("upstreams"), &known.upstreams);
        if upstreams.is_empty() {
            let own = known.tenants.iter().find(|known| Some(&known.name) == tenant.as_ref());
            upstreams = own.map(|tenant| tenant.upstreams.clone()).unwrap_or_default();
        }
        let account = Account {
            name: name?,
            tenant,
            models: texts(node.get("models")).into_iter().map(Glob::new).collect(),
            endpoints: endpoints.iter().filter_map(|item| self.endpoint(item)).collect(),
            upstreams,
            may_pass_through: flag(node, "passthrough").unwrap_or(false),
            expires: node.get("expires").and_then(|expires| self.expiry(expires)),
            allow_ips: self.networks(node, "allow_ips"),
            quota: node.get("limits").map(|limits| self.quota(limits, &known.quota)),
        };
        Some(Key { hash: hash?, account: Arc::new(account) })
    }

    /// The name of a key or a tenant: it goes to logs, records and metrics.
    fn party(&mut self, node: &Node, key: &str) -> Option<Arc<str>> {
        let name = node.scalar().filter(|name| !name.is_unresolved)?;
        let is_printable = HeaderValue::from_str(&name.text).is_ok_and(|name| name.to_str().is_ok());
        if name.text.is_empty() || name.text.len() > NAME_BYTES_MAX || !is_printable {
            let message = format!("`{key}` must be 1 to {NAME_BYTES_MAX} printable characters of ASCII");
            self.error(node.span, message, "it is shown in logs, records and metrics");
            return None;
        }
        Some(Arc::from(name.text.as_str()))
    }

    fn key_name(&mut self, node: &Node, place: &str, known: &mut Known<'_>) -> Option<Arc<str>> {
        let name = self.party(node, "name")?;
        if name.starts_with(TOKEN_NAME_PREFIX) {
            let message = format!("the name of a key must not begin with `{TOKEN_NAME_PREFIX}`");
            self.error(node.span, message, "callers with tokens are called so; choose another name");
        }
        let here = format!("line {} of {place}", node.span.line);
        if let Some(first) = known.names.insert(name.to_string(), here) {
            let help = format!("the first is on {first}; keep one of them");
            self.error(node.span, format!("the key `{name}` is defined twice"), &help);
        }
        Some(name)
    }

    fn key_hash(&mut self, node: &Node, place: &str, known: &mut Known<'_>) -> Option<KeyHash> {
        let scalar = node.scalar().filter(|hash| !hash.is_unresolved)?;
        let Some(hash) = KeyHash::parse(&scalar.text) else {
            // What stands there may be the key itself, so that it is not repeated.
            let message = format!("`hash` must be `{}` and 64 hexadecimal digits", KeyHash::PREFIX);
            self.error(node.span, message, "`witgate keys hash` prints it for a key");
            return None;
        };
        let here = format!("line {} of {place}", node.span.line);
        if let Some(first) = known.hashes.insert(hash, here) {
            let help = format!("the first is on {first}; keep one of them");
            self.error(node.span, "two keys have the same hash", &help);
        }
        Some(hash)
    }

    /// A list of names of upstreams.
    pub(super) fn upstream_names(&mut self, list: Option<&Node>, known: &HashSet<&str>) -> Vec<Arc<str>> {
        for item in list.map(Node::items).unwrap_or_default() {
            let Some(name) = item.scalar().filter(|name| !name.is_unresolved) else { continue };
            if !known.contains(name.text.as_str()) {
                let near = values::nearest(&name.text, known.iter().copied());
                let help = match near.filter(|_| name.written.is_none()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "write the names of `upstreams`, or remove the key for all of them".to_owned(),
                };
                self.error(item.span, format!("there is no upstream `{}`", name.shown()), &help);
            }
        }
        texts(list).into_iter().map(Arc::from).collect()
    }

    /// The end of a day, or a moment.
    fn expiry(&mut self, node: &Node) -> Option<SystemTime> {
        let scalar = node.scalar().filter(|moment| !moment.is_unresolved)?;
        let end = expiry(&scalar.text);
        if end.is_none() {
            let message = format!("`expires` must be a day or a moment, not `{}`", scalar.shown());
            let help = "write it like `2027-01-31`, whose end counts, or `2027-01-31T18:00:00Z`";
            self.error(node.span, message, help);
        }
        end
    }
}

/// Reads the end of a day, or a moment of RFC 3339; neither may be before 1970.
pub fn expiry(text: &str) -> Option<SystemTime> {
    // How long ago something was is written without a date, and says nothing here.
    let end = moment::parse(text, 0).filter(|_| text.contains('-'))?.end;
    UNIX_EPOCH.checked_add(Duration::from_micros(u64::try_from(end).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Diagnostics;
    use crate::config::{Config, Overrides, load_text};

    const HASH: &str = "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    const OTHER: &str = "hmac-sha256:6bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";

    fn read(folder: &Path, text: &str) -> Result<Config, String> {
        let text = format!("upstreams: [{{ name: one, base_url: 'http://one' }}]\n{text}");
        let loaded = load_text(&text, &folder.join("c.yaml"), &Environment::default(), &Overrides::default());
        let shown = |problems: Diagnostics| match folder.to_str() {
            Some("") | None => problems.to_string(),
            Some(folder) => problems.to_string().replace(&format!("{folder}/"), ""),
        };
        loaded.map(|(config, _)| config).map_err(shown)
    }

    /// Reads a key with these settings.
    fn key(settings: &str) -> Result<Config, String> {
        read(
            Path::new(""),
            &format!("server: {{ key_secret: s }}\nkeys:\n  - {{ name: a, hash: '{HASH}'{settings} }}\n"),
        )
    }

    #[track_caller]
    fn account(settings: &str) -> Arc<Account> {
        let config = key(settings).unwrap_or_else(|problems| panic!("{problems}"));
        config.keys.unwrap().all[0].account.clone()
    }

    #[track_caller]
    fn refused(settings: &str, expected: &str) {
        let problems = key(settings).expect_err(settings);
        assert!(problems.contains(expected), "{problems}");
        assert!(!problems.contains("sk-hidden"), "{problems}");
    }

    #[test]
    fn a_key_that_says_nothing_may_do_everything_but_pass_through() {
        let account = account("");
        assert_eq!(*account, Account { name: "a".into(), ..Account::default() });
        assert!(account.may_use_model("m") && account.may_use_upstream("one"));
        assert!(account.may_use_endpoint(crate::wire::Endpoint::Model));
        assert!(account.may_come_from([1, 2, 3, 4].into()) && !account.has_expired(SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_key_has_the_bounds_it_names() {
        let account = account(
            ", tenant: t, models: ['gpt-*', o3], endpoints: [completions, models], upstreams: [one], \
             expires: 1970-01-02, passthrough: true, allow_ips: ['::ffff:10.0.0.0/104', '::1'], limits: { in_flight: 3 }",
        );
        assert_eq!(account.tenant.as_deref(), Some("t"));
        assert!(
            account.may_use_model("gpt-4") && account.may_use_model("o3") && !account.may_use_model("o3x")
        );
        assert!(account.may_use_endpoint(crate::wire::Endpoint::Model));
        assert!(!account.may_use_endpoint(crate::wire::Endpoint::ChatCompletions));
        assert!(account.may_use_upstream("one") && !account.may_use_upstream("two"));
        assert!(account.may_pass_through);
        assert!(!account.has_expired(UNIX_EPOCH + Duration::from_secs(2 * 86_400 - 1)));
        assert!(account.has_expired(UNIX_EPOCH + Duration::from_secs(2 * 86_400)));
        assert!(account.may_come_from("::ffff:10.9.9.9".parse().unwrap()));
        assert!(account.may_come_from([10, 9, 9, 9].into()));
        assert!(!account.may_come_from([11, 0, 0, 1].into()));
        assert_eq!(account.quota.as_ref().unwrap().in_flight, 3);
    }

    #[test]
    fn what_a_key_leaves_open_is_bounded_as_everybody_is() {
        let limited = |settings: &str| {
            let text = format!(
                "server: {{ key_secret: s }}\nlimits: {{ requests: 5/1m, in_flight: 2 }}\nkeys:\n  \
                 - {{ name: a, hash: '{HASH}'{settings} }}\n"
            );
            let quota = read(Path::new(""), &text).unwrap().keys.unwrap().all[0].account.quota.clone();
            quota.map(|quota| (quota.requests.map(|rate| rate.count), quota.in_flight))
        };
        assert_eq!(limited(""), None);
        assert_eq!(limited(", limits: { in_flight: 9 }"), Some((Some(5), 9)));
        assert_eq!(limited(", limits: { requests: 0 }"), Some((None, 2)));
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_without_the_key() {
        refused(", upstreams: [on]", "there is no upstream `on`");
        refused(", upstreams: [on]", "did you mean `one`?");
        refused(", endpoints: [chat]", "`chat` is not an endpoint");
        refused(", expires: soon", "`expires` must be a day or a moment, not `soon`");
        refused(", expires: 7d", "`expires` must be a day or a moment");
        refused(", expires: 2027-02-30", "`expires` must be a day or a moment");
        refused(
            ", allow_ips: [10.0.0.0/33]",
            "`10.0.0.0/33` in `allow_ips` is neither a network nor an address",
        );
        refused(", tenant: ''", "`tenant` must be 1 to 128 printable characters");
        refused(", key: sk-hidden", "`key` is not a key of one of `keys`");
        let list =
            |entry: &str| read(Path::new(""), &format!("server: {{ key_secret: s }}\nkeys:\n  - {entry}\n"));
        for (entry, expected) in [
            ("{ name: a }", "`hash` is missing"),
            ("{ name: a, hash: sk-hidden }", "`hash` must be `hmac-sha256:` and 64 hexadecimal digits"),
            ("{ name: a, hash: hidden }", "`hash` must be `hmac-sha256:`"),
            (&format!("{{ name: 'jwt:a', hash: '{HASH}' }}"), "must not begin with `jwt:`"),
            (&format!("{{ name: a, hash: '{HASH}' }}\n  - {{ name: a, hash: '{OTHER}' }}"), "defined twice"),
            (&format!("{{ name: a, hash: '{HASH}' }}\n  - {{ name: b, hash: '{HASH}' }}"), "the same hash"),
        ] {
            let problems = list(entry).expect_err(entry);
            assert!(problems.contains(expected), "{problems}");
            assert!(!problems.contains("hidden"), "{problems}");
        }
    }

    #[test]
    fn keys_without_a_secret_are_refused_and_no_keys_need_none() {
        let folder = tempfile::tempdir().unwrap();
        let audit = format!("audit: {{ path: '{}/data/record.db' }}\n", folder.path().display());
        let keys = format!("{audit}keys: [{{ name: a, hash: '{HASH}' }}]\n");
        let problems = read(folder.path(), &keys).unwrap_err();
        assert!(problems.contains("neither `server.key_secret` nor `data/witgate.key`"), "{problems}");
        assert_eq!(read(folder.path(), "").unwrap().keys, None);
        assert_eq!(read(folder.path(), "keys: []").unwrap().keys, None);
        fs::create_dir(folder.path().join("data")).unwrap();
        fs::write(folder.path().join("data/witgate.key"), "s\n").unwrap();
        let read = read(folder.path(), &keys).unwrap().keys.unwrap();
        assert_eq!(read.secret, Some(Secret::new("s")));
    }

    #[test]
    fn a_file_of_keys_is_read_behind_those_of_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "server: {{ key_secret: s }}\nkeys_file: keys.yaml\nkeys: [{{ name: a, hash: '{HASH}' }}]\n"
        );
        let load = |list: &str| {
            fs::write(folder.path().join("keys.yaml"), list).unwrap();
            read(folder.path(), &text)
        };
        let problems = read(folder.path(), &text).unwrap_err();
        assert!(problems.contains("c.yaml:3:1: the keys' file"), "{problems}");
        assert!(problems.contains("witgate keys create"), "{problems}");
        for nothing in ["", "# none\n", "[]"] {
            assert_eq!(load(nothing).unwrap().keys.unwrap().all.len(), 1, "{nothing}");
        }
        let config = load(&format!("- {{ name: b, hash: '{OTHER}', upstreams: [one] }}\n")).unwrap();
        let keys = config.keys.clone().unwrap();
        assert_eq!(keys.all.iter().map(|key| &*key.account.name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(config.sources() == config.sources().look());
        fs::write(folder.path().join("keys.yaml"), "[]").unwrap();
        assert!(config.sources() != config.sources().look());
        for (list, expected) in [
            ("- name: b\n", "keys.yaml:1:3: `hash` is missing"),
            (
                &format!("# two\n- {{ name: a, hash: '{OTHER}' }}"),
                "keys.yaml:2:11: the key `a` is defined twice",
            ),
            ("- { name: b, hash: sk-hidden }", "keys.yaml:1:20: `hash` must be"),
            ("keys: []", "keys.yaml:1:1: `keys_file` must be a list"),
            ("- [", "keys.yaml:2:1: this is not YAML"),
        ] {
            let problems = load(list).expect_err(list);
            assert!(problems.contains(expected), "{problems}");
            assert!(!problems.contains("hidden"), "{problems}");
        }
    }

    #[test]
    fn a_gateway_with_an_empty_file_of_keys_is_guarded() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keys.yaml"), "[]").unwrap();
        let open = "server: { listen: '0.0.0.0:8000' }\nupstreams: [{ name: a, base_url: 'http://a', api_key: k }]\n";
        let load = |text: &str| {
            let path = folder.path().join("c.yaml");
            load_text(&format!("{open}{text}"), &path, &Environment::default(), &Overrides::default())
                .unwrap()
                .0
        };
        assert!(load("").is_open_to_anybody() && !load("").is_guarded());
        let config = load("keys_file: keys.yaml\n");
        assert!(!config.is_open_to_anybody() && config.is_guarded());
        let config = load("jwt: { secret: 0123456789abcdef0123456789abcdef }\n");
        assert!(!config.is_open_to_anybody() && config.is_guarded());
        let shown = config.redacted().to_string();
        assert!(!shown.contains("0123456789"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_tokens_is_said() {
        for (text, expected) in [
            ("jwt: { issuer: a }", "`jwt` says nothing of a key"),
            ("jwt: { secret: short }", "at least 32 bytes"),
            ("jwt: { jwks: none.json }", "there is no file `none.json`"),
            ("jwt: { secret: 0123456789abcdef0123456789abcdef, jwks: none.json }", "a `secret` and a `jwks`"),
            ("jwt: { secrte: x }", "did you mean `secret`?"),
        ] {
            let problems = read(Path::new(""), text).expect_err(text);
            assert!(problems.contains(expected), "{problems}");
            assert!(!problems.contains("0123456789"), "{problems}");
        }
        assert_eq!(read(Path::new(""), "jwt: {}").unwrap().jwt, None);
    }

    #[test]
    fn the_places_are_found_whatever_else_is_wrong() {
        let text = "keys_file: k.yaml\nserver: { key_secret: '${S}' }\nnonsense: 1\nkeys: [{ name: a }]\n";
        let environment: Environment = [("S", "secret")].into_iter().collect();
        let found = places(text, Path::new("d/c.yaml"), &environment, &Defaults::default()).unwrap();
        assert_eq!(found.file.as_deref(), Some(Path::new("d/k.yaml")));
        assert_eq!(found.secret, Some(Secret::new("secret")));
        assert_eq!(found.names, ["a"]);
        assert!(places(text, Path::new("c.yaml"), &Environment::default(), &Defaults::default()).is_err());
    }
}
