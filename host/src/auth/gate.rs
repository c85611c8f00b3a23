//! Who may come in: the gateway's own keys, and the tokens of others that it takes for keys.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::request::Parts;
use ring::hmac;

use crate::auth::{self, Account, jwt};
use crate::config::{Config, KeyHash};
use crate::error::{Error, ErrorKind, Result};

/// What one configuration says of callers.
pub(crate) struct Gate {
    /// What keys are hashed with; none where there is no key yet.
    secret: Option<hmac::Key>,
    accounts: HashMap<KeyHash, Arc<Account>>,
    tokens: Option<jwt::Verifier>,
    /// Whether callers have to say who they are.
    is_guarded: bool,
}

/// What the gateway itself knows of a caller.
pub(crate) enum Recognised {
    /// It does not ask.
    Anybody,
    /// A caller with a key or a token.
    Account(Arc<Account>),
    /// A caller that is sent away with this, unless a plugin knows better.
    Nobody(Error),
}

impl Gate {
    /// Prepares the keys of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let keys = config.keys.as_ref();
        let secret = keys.and_then(|keys| keys.secret.as_ref());
        let all = keys.iter().flat_map(|keys| keys.all.iter());
        Self {
            secret: secret.map(|secret| hashing_key(secret.expose())),
            accounts: all.map(|key| (key.hash, key.account.clone())).collect(),
            tokens: config.jwt.as_ref().map(|jwt| jwt::Verifier::new(jwt, &config.tenants)),
            is_guarded: config.is_guarded(),
        }
    }

    /// Whether callers have to say who they are.
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded
    }

    /// Says who sent a request by what it presents, which stays in it.
    ///
    /// Each credential of the request is hashed once and looked up; how many keys there are does not matter.
    pub(crate) fn recognise(&self, request: &Parts, now: SystemTime) -> Recognised {
        if !self.is_guarded {
            return Recognised::Anybody;
        }
        let mut refusal = None;
        for credential in auth::credentials(request) {
            if let Some(account) = self.account(credential) {
                return Recognised::Account(account);
            }
            match self.tokens.as_ref().and_then(|tokens| tokens.verify(credential, now)) {
                Some(Ok(account)) => return Recognised::Account(Arc::new(account)),
                Some(Err(error)) => refusal = Some(error),
                None => refusal = refusal.or_else(|| Some(unknown())),
            }
        }
        Recognised::Nobody(refusal.unwrap_or_else(missing))
    }

    fn account(&self, credential: &str) -> Option<Arc<Account>> {
        self.accounts.get(&hash_with(self.secret.as_ref()?, credential)).cloned()
    }
}

fn unknown() -> Error {
    Error::new(ErrorKind::Unauthenticated, "the key is not known here")
}

fn missing() -> Error {
    let message = "there is no key, send one in `Authorization: Bearer KEY`, `x-api-key` or `x-goog-api-key`";
    Error::new(ErrorKind::Unauthenticated, message)
}

/// The hash of a key under the gateway's secret.
pub(crate) fn hash(secret: &str, key: &str) -> KeyHash {
    hash_with(&hashing_key(secret), key)
}

fn hashing_key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn hash_with(secret: &hmac::Key, key: &str) -> KeyHash {
    let tag = hmac::sign(secret, key.as_bytes());
    KeyHash::new(tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes"))
}

impl Account {
    /// Refuses a caller whose key is too old, or used from where it must not be.
    ///
    /// # Errors
    ///
    /// `Unauthenticated` after its end, `Forbidden` from elsewhere.
    pub(crate) fn admit(&self, client: std::net::IpAddr, now: SystemTime) -> Result<()> {
        if self.has_expired(now) {
            return Err(Error::new(ErrorKind::Unauthenticated, "the key has expired, ask for a new one"));
        }
        if !self.may_come_from(client) {
            return Err(Error::new(ErrorKind::Forbidden, "the key may not be used from this address"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::{Duration, UNIX_EPOCH};

    use http::Request;

    use super::*;
    use crate::config::env::Environment;
    use crate::config::secret::Secret;
    use crate::config::{Key, Keys, Overrides, comparisons, load_text};

    fn gate(names: impl Iterator<Item = String>) -> Gate {
        let key = |name: String| Key {
            hash: hash("secret", &format!("sk-{name}")),
            account: Arc::new(Account { name: name.into(), ..Account::default() }),
        };
        let text = "upstreams: [{ name: a, base_url: 'builtin:echo' }]";
        let loaded = load_text(text, "c.yaml".as_ref(), &Environment::default(), &Overrides::default());
        let (mut config, _) = loaded.unwrap();
        let secret = Some(Secret::new("secret"));
        config.keys = Some(Keys { secret, all: names.map(key).collect(), file: None });
        Gate::new(&config)
    }

    #[track_caller]
    fn check(gate: &Gate, headers: &[(&str, &str)], uri: &str, expected: Result<&str, &str>) {
        let builder = Request::builder().uri(uri);
        let request = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match gate.recognise(&parts, UNIX_EPOCH) {
            Recognised::Account(account) => assert_eq!(Ok(&*account.name), expected),
            Recognised::Nobody(error) => {
                assert_eq!(error.kind, ErrorKind::Unauthenticated);
                assert!(expected.is_err_and(|part| error.message.contains(part)), "{}", error.message);
            }
            Recognised::Anybody => assert_eq!(Ok("anybody"), expected),
        }
    }

    #[test]
    fn a_key_is_known_wherever_it_stands() {
        let gate = gate(["a", "b"].map(str::to_owned).into_iter());
        for (headers, uri) in [
            (vec![("authorization", "Bearer sk-a")], "/"),
            (vec![("authorization", "bearer  sk-a ")], "/"),
            (vec![("x-api-key", "sk-a")], "/"),
            (vec![("x-goog-api-key", "sk-a")], "/"),
            (vec![("api-key", "sk-a")], "/"),
            (vec![], "/?key=sk-a"),
            (vec![], "/?a=b&key=sk-a"),
            // A client library may fill one place with anything; another one counts then.
            (vec![("authorization", "Bearer none"), ("x-api-key", "sk-a")], "/"),
            (vec![("authorization", "Bearer "), ("api-key", "sk-a")], "/"),
        ] {
            check(&gate, &headers, uri, Ok("a"));
        }
    }

    #[test]
    fn who_has_no_known_key_is_nobody() {
        let gate = gate(["a"].map(str::to_owned).into_iter());
        check(&gate, &[], "/", Err("there is no key"));
        check(&gate, &[("authorization", "Bearer ")], "/", Err("there is no key"));
        check(&gate, &[("authorization", "Basic sk-a")], "/", Err("there is no key"));
        for key in ["sk-", "sk-A", "sk-a ", "sk-aa", "a", "hmac-sha256:00"] {
            check(&gate, &[("x-api-key", key)], "/", Err("not known"));
        }
        let hash = hash("secret", "sk-a").to_string();
        check(&gate, &[("x-api-key", &hash)], "/", Err("not known"));
    }

    #[test]
    fn a_gateway_whose_last_key_is_gone_is_not_open() {
        check(&gate(std::iter::empty()), &[("x-api-key", "sk-a")], "/", Err("not known"));
        check(&gate(std::iter::empty()), &[], "/", Err("there is no key"));
    }

    #[test]
    fn a_hundred_thousand_keys_cost_no_more_than_one() {
        for count in [1, 100_000] {
            let gate = gate((0..count).map(|number| number.to_string()));
            let before = comparisons::so_far();
            for number in [0, count - 1, count / 2] {
                let key = format!("sk-{number}");
                check(&gate, &[("x-api-key", &key)], "/", Ok(&number.to_string()));
            }
            check(&gate, &[("x-api-key", "sk-none")], "/", Err("not known"));
            // A look-up compares what it finds, and hardly ever something beside it.
            assert!(comparisons::so_far() - before <= 4, "{}", comparisons::so_far() - before);
        }
    }

    #[test]
    fn an_account_is_admitted_in_its_time_and_from_its_places() {
        let account = Account {
            expires: UNIX_EPOCH.checked_add(Duration::from_secs(10)),
            allow_ips: ["10.0.0.0/8", "2001:db8::/32"]
                .map(|text| text.parse().unwrap())
                .into_iter()
                .collect(),
            ..Account::default()
        };
        for (address, second, expected) in [
            ("10.1.2.3", 9, None),
            ("::ffff:10.1.2.3", 9, None),
            ("2001:db8::1", 0, None),
            ("10.1.2.3", 10, Some(ErrorKind::Unauthenticated)),
            ("11.0.0.1", 9, Some(ErrorKind::Forbidden)),
            ("2001:db9::1", 9, Some(ErrorKind::Forbidden)),
            ("11.0.0.1", 10, Some(ErrorKind::Unauthenticated)),
        ] {
            let client: IpAddr = address.parse().unwrap();
            let admitted = account.admit(client, UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(admitted.err().map(|error| error.kind), expected, "{address} {second}");
        }
    }

    #[test]
    fn the_hash_is_hmac_sha256() {
        // Source: RFC 4231, section 4.3 (test case 2).
        let expected = "hmac-sha256:5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let hashed = hash("Jefe", "what do ya want for nothing?");
        assert_eq!(hashed.to_string(), expected);
        assert!(KeyHash::parse(expected) == Some(hashed));
    }
}
