//! Lets callers in by key. The configuration holds the keys' hashes, never the keys.
//!
//! The gateway keeps the usual headers of credentials from upstreams; this plugin does the same for any other header that
//! its configuration names.

mod credential;
mod digest;
mod expiry;
mod network;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use digest::Digest;
use network::Network;
use serde::Deserialize;
use witgate_sdk::{Authenticate, Call, Config, Flow, Head, OnRequest, Plugin, Principal, Rejection, export};

/// Who is let in, and what becomes of the others.
#[derive(Config, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The keys that are let in.
    #[config(min_items = 1)]
    keys: Vec<KeySettings>,
    /// The headers a key may come in; in `authorization` it follows `Bearer`.
    headers: Vec<String>,
    /// The parameter of the query a key may come in; empty: none.
    query: String,
    /// What becomes of a request whose key is not in the list.
    unknown: Otherwise,
    /// What becomes of a request without a key.
    missing: Otherwise,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            headers: ["authorization", "x-api-key", "x-goog-api-key", "api-key"].map(str::to_owned).into(),
            query: "key".to_owned(),
            unknown: Otherwise::Reject,
            missing: Otherwise::Reject,
        }
    }
}

/// One key.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySettings {
    /// The caller's name, as the audit shows it; also the key's name for `match.keys`.
    name: String,
    /// The key's SHA-256 hash, in hexadecimal digits.
    sha256: String,
    /// The caller's tenant.
    #[serde(default)]
    tenant: Option<String>,
    /// Labels of the caller's exchanges.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// When the key ends: a date, whose whole day (UTC) still counts, or a time of RFC 3339.
    #[serde(default)]
    expires: Option<String>,
    /// The addresses and ranges (`10.0.0.0/8`) the key may be used from; empty: all.
    #[serde(default)]
    allow_ips: Vec<String>,
}

/// What becomes of a request this plugin does not let in.
#[derive(Clone, Copy, Config, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Otherwise {
    /// It is refused with status 401.
    Reject,
    /// The next plugin, or the gateway's own keys, are asked.
    Pass,
}

struct KeyAuth {
    keys: Vec<Key>,
    /// Names in lowercase.
    headers: Vec<String>,
    query: String,
    unknown: Otherwise,
    missing: Otherwise,
}

export!(KeyAuth: Authenticate, OnRequest);

/// The headers that the gateway takes for credentials itself, and removes.
const CREDENTIAL_HEADERS: [&str; 5] =
    ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key"];

/// A key as the configuration means it.
struct Key {
    name: String,
    digest: Digest,
    tenant: Option<String>,
    tags: Vec<(String, String)>,
    /// The first second since 1970 in which it is no longer good.
    expires: Option<i64>,
    allow: Vec<Network>,
}

impl Plugin for KeyAuth {
    type Config = Settings;

    fn new(settings: Settings) -> Result<Self, String> {
        if settings.keys.is_empty() {
            return Err("`keys` is empty, so that nobody could come in: add a key".to_owned());
        }
        let mut keys = Vec::with_capacity(settings.keys.len());
        let mut places = BTreeMap::new();
        for (index, key) in settings.keys.into_iter().enumerate() {
            let key = Key::new(key, format_args!("keys[{index}]"))?;
            if let Some(first) = places.insert(key.digest.words(), index) {
                return Err(format!("`keys[{index}].sha256` is that of `keys[{first}]`: remove one of them"));
            }
            keys.push(key);
        }
        let headers = settings.headers.into_iter().enumerate().map(|(index, name)| {
            if is_header_name(&name) {
                Ok(name.to_ascii_lowercase())
            } else {
                Err(format!("`headers[{index}]` is `{name}`, which is no name of a header"))
            }
        });
        let headers = headers.collect::<Result<_, _>>()?;
        Ok(Self {
            keys,
            headers,
            query: settings.query,
            unknown: settings.unknown,
            missing: settings.missing,
        })
    }
}

impl Key {
    /// Reads the key that stands at `place` of the configuration.
    fn new(settings: KeySettings, place: Arguments<'_>) -> Result<Self, String> {
        let digest = Digest::parse(&settings.sha256).ok_or_else(|| {
            format!(
                "`{place}.sha256` must be the 64 hexadecimal digits that `printf %s KEY | sha256sum` prints"
            )
        })?;
        let expires = match &settings.expires {
            Some(text) => Some(expiry::parse(text).ok_or_else(|| {
                format!(
                    "`{place}.expires` is `{text}`, which is neither a date like `2027-01-31` nor a time like \
                     `2027-01-31T18:00:00Z`"
                )
            })?),
            None => None,
        };
        let mut allow = Vec::with_capacity(settings.allow_ips.len());
        for (index, text) in settings.allow_ips.iter().enumerate() {
            allow.push(Network::parse(text).ok_or_else(|| {
                format!(
                    "`{place}.allow_ips[{index}]` is `{text}`, which is neither an address nor a range like `10.0.0.0/8`"
                )
            })?);
        }
        let tags = settings.tags.into_iter().collect();
        Ok(Self { name: settings.name, digest, tenant: settings.tenant, tags, expires, allow })
    }
}

impl Authenticate for KeyAuth {
    fn authenticate(&self, head: &Head) -> Result<Option<Principal>, Rejection> {
        let presented = self.presented(head);
        if presented.is_empty() {
            return self.missing.outcome("an API key is required");
        }
        match presented.iter().find_map(|key| self.known(key)) {
            Some(key) => key.principal(head).map(Some),
            None => self.unknown.outcome("the API key is not known"),
        }
    }
}

impl OnRequest for KeyAuth {
    fn on_request(&self, call: &Call) -> Result<Flow, Rejection> {
        for name in self.headers.iter().filter(|name| !CREDENTIAL_HEADERS.contains(&name.as_str())) {
            call.remove_header(name)?;
        }
        Ok(Flow::Next)
    }
}

impl KeyAuth {
    /// All keys the request presents: some clients send a dummy in one place and the real one in another.
    fn presented<'a>(&self, head: &'a Head) -> Vec<Cow<'a, str>> {
        let value = |name: &String| head.headers.iter().find(|(other, _)| other == name);
        let in_headers = self.headers.iter().filter_map(value);
        let in_headers = in_headers.filter_map(|(name, value)| credential::in_header(name, value));
        let in_query = credential::in_query(&self.query, &head.path).filter(|_| !self.query.is_empty());
        in_headers.map(Cow::Borrowed).chain(in_query).collect()
    }

    /// Finds a key by its hash. All are compared, so that the time tells nothing about where the right one stands.
    fn known(&self, key: &str) -> Option<&Key> {
        let digest = Digest::of(key);
        self.keys.iter().fold(None, |found, key| if key.digest.is(&digest) { Some(key) } else { found })
    }
}

impl Key {
    /// Names the caller, if the key is good now and from there.
    fn principal(&self, head: &Head) -> Result<Principal, Rejection> {
        if self.expires.is_some_and(|end| unix_seconds() >= end) {
            return Err(unauthorized("the API key has expired"));
        }
        let address = head.client_ip.parse::<IpAddr>().ok();
        let is_allowed =
            address.is_some_and(|address| self.allow.iter().any(|network| network.contains(address)));
        if !self.allow.is_empty() && !is_allowed {
            return Err(Rejection::new(
                403,
                "ip_not_allowed",
                "the API key may not be used from this address",
            ));
        }
        Ok(Principal {
            name: self.name.clone(),
            tenant: self.tenant.clone(),
            key: Some(self.name.clone()),
            tags: self.tags.clone(),
        })
    }
}

impl Otherwise {
    fn outcome(self, message: &str) -> Result<Option<Principal>, Rejection> {
        match self {
            Self::Reject => Err(unauthorized(message)),
            Self::Pass => Ok(None),
        }
    }
}

fn unauthorized(message: &str) -> Rejection {
    Rejection::new(401, "invalid_api_key", message).header("www-authenticate", "Bearer")
}

/// Source: RFC 9110, section 5.6.2.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn unix_seconds() -> i64 {
    // A clock before 1970 is no clock; then a key with an end is not good.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(i64::MAX, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use witgate_sdk::testkit::Kit;

    use super::*;

    /// `printf %s abc | sha256sum`.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn plugin(config: &Value) -> Result<KeyAuth, String> {
        KeyAuth::new(Settings::from_json(&config.to_string())?)
    }

    fn head(path: &str, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Head { method: "POST".to_owned(), path: path.to_owned(), headers, client_ip: "10.1.2.3".to_owned() }
    }

    /// The caller's name, `pass`, or the refusal's status, code and message.
    #[track_caller]
    fn check(config: &Value, head: &Head, expected: &str) {
        let outcome = match plugin(config).unwrap().authenticate(head) {
            Ok(Some(principal)) => principal.name,
            Ok(None) => "pass".to_owned(),
            Err(no) => format!("{} {} {}", no.status, no.code, no.message),
        };
        assert_eq!(outcome, expected);
    }

    const EXPIRED: &str = "401 invalid_api_key the API key has expired";
    const MISSING: &str = "401 invalid_api_key an API key is required";
    const UNKNOWN: &str = "401 invalid_api_key the API key is not known";

    #[test]
    fn a_known_key_is_let_in_wherever_it_is() {
        let config = json!({ "keys": [{ "name": "a", "sha256": ABC }] });
        check(&config, &head("/", &[("authorization", "Bearer abc")]), "a");
        check(&config, &head("/", &[("x-api-key", "abc")]), "a");
        check(&config, &head("/", &[("x-goog-api-key", "abc")]), "a");
        check(&config, &head("/?key=abc", &[]), "a");
        check(&config, &head("/", &[("authorization", "Bearer dummy"), ("x-api-key", "abc")]), "a");
    }

    #[test]
    fn others_are_refused_or_left_to_others() {
        let config = json!({ "keys": [{ "name": "a", "sha256": ABC }] });
        check(&config, &head("/", &[]), MISSING);
        check(&config, &head("/", &[("authorization", "Basic YTpi")]), MISSING);
        check(&config, &head("/", &[("x-api-key", "abcd")]), UNKNOWN);
        check(&config, &head("/", &[("x-api-key", ABC)]), UNKNOWN);
        let config = json!({ "keys": config["keys"], "unknown": "pass", "missing": "pass" });
        check(&config, &head("/", &[]), "pass");
        check(&config, &head("/", &[("x-api-key", "abcd")]), "pass");
    }

    #[test]
    fn keys_are_looked_for_where_the_operator_says() {
        let keys = json!([{ "name": "a", "sha256": ABC }]);
        let config = json!({ "keys": keys, "headers": ["X-Team-Key"], "query": "" });
        check(&config, &head("/", &[("x-team-key", "abc")]), "a");
        check(&config, &head("/?key=abc&=abc", &[("x-api-key", "abc")]), MISSING);
        let config = json!({ "keys": keys, "headers": [], "query": "token" });
        check(&config, &head("/?token=abc", &[]), "a");
    }

    #[test]
    fn a_key_ends_even_where_unknown_ones_pass() {
        let config = |expires| json!({ "keys": [{ "name": "a", "sha256": ABC, "expires": expires }], "unknown": "pass" });
        check(&config("2020-01-01"), &head("/?key=abc", &[]), EXPIRED);
        check(&config("2999-01-01T00:00:00Z"), &head("/?key=abc", &[]), "a");
    }

    #[test]
    fn a_key_can_be_bound_to_addresses() {
        let config = |allow| json!({ "keys": [{ "name": "a", "sha256": ABC, "allow_ips": allow }] });
        let refused = "403 ip_not_allowed the API key may not be used from this address";
        check(&config(json!(["::1", "10.0.0.0/8"])), &head("/?key=abc", &[]), "a");
        check(&config(json!(["10.1.2.4"])), &head("/?key=abc", &[]), refused);
        let nowhere = Head { client_ip: "unix".to_owned(), ..head("/?key=abc", &[]) };
        check(&config(json!(["10.0.0.0/8"])), &nowhere, refused);
        check(&config(json!([])), &nowhere, "a");
    }

    #[test]
    fn a_caller_has_what_its_key_says() {
        let config =
            json!({ "keys": [{ "name": "a", "sha256": ABC, "tenant": "t", "tags": { "team": "search" } }] });
        let principal = plugin(&config).unwrap().authenticate(&head("/?key=abc", &[])).unwrap().unwrap();
        assert_eq!((principal.tenant.as_deref(), principal.key.as_deref()), (Some("t"), Some("a")));
        assert_eq!(principal.tags, [("team".to_owned(), "search".to_owned())]);
    }

    #[test]
    fn a_key_goes_no_further() {
        let config =
            json!({ "keys": [{ "name": "a", "sha256": ABC }], "headers": ["X-Team-Key", "x-api-key"] });
        let kit = Kit::<KeyAuth>::new(config).header("x-team-key", "abc").header("x-other", "1");
        assert_eq!(kit.authenticate().unwrap().unwrap().name, "a");
        kit.on_request().unwrap();
        assert_eq!(kit.call().headers(), [("x-other".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn mistakes_are_found_at_the_start() {
        #[track_caller]
        fn check(config: Value, message: &str) {
            assert_eq!(plugin(&config).err().as_deref(), Some(message));
        }
        check(json!({}), "`keys` is empty, so that nobody could come in: add a key");
        check(
            json!({ "keys": [{ "name": "a", "sha256": ABC }], "headers": ["x-a", "x key"] }),
            "`headers[1]` is `x key`, which is no name of a header",
        );
        check(
            json!({ "keys": [{ "name": "a", "sha256": "abc" }] }),
            "`keys[0].sha256` must be the 64 hexadecimal digits that `printf %s KEY | sha256sum` prints",
        );
        check(
            json!({ "keys": [{ "name": "a", "sha256": ABC, "expires": "tomorrow" }] }),
            "`keys[0].expires` is `tomorrow`, which is neither a date like `2027-01-31` nor a time like \
             `2027-01-31T18:00:00Z`",
        );
        check(
            json!({ "keys": [{ "name": "a", "sha256": ABC, "allow_ips": ["::1", "10.0.0.0/40"] }] }),
            "`keys[0].allow_ips[1]` is `10.0.0.0/40`, which is neither an address nor a range like `10.0.0.0/8`",
        );
        check(
            json!({ "keys": [{ "name": "a", "sha256": ABC }, { "name": "b", "sha256": ABC.to_uppercase() }] }),
            "`keys[1].sha256` is that of `keys[0]`: remove one of them",
        );
    }

    #[test]
    fn a_key_nobody_knows_is_named() {
        #[track_caller]
        fn check(config: Value, word: &str) {
            let message = plugin(&config).err().unwrap();
            assert!(message.contains(word), "{message}");
        }
        check(json!({ "keys": [{ "name": "a", "hash": ABC }] }), "`hash`");
        check(json!({ "keys": [{ "name": "a" }] }), "`sha256`");
        check(json!({ "unknown": "allow" }), "`allow`");
    }
}
