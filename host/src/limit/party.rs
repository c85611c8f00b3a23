//! Whose requests are counted together, and what they may use.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ring::digest;

use crate::auth::Caller;
use crate::config::secret::is_credential;
use crate::config::{Config, LimitBy, Quota, Tenant};

/// A header's value that is longer is known by its digest, in bytes.
const VALUE_BYTES_MAX: usize = 128;

/// One whose requests are counted together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Party<'a> {
    /// What it is.
    pub(crate) scope: Scope,
    /// Its name, with what it is a name of: `key:team-a`, `ip:192.0.2.1`.
    pub(crate) name: String,
    /// What it may use.
    pub(crate) quota: &'a Quota,
}

/// What a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Who calls, as `limits.by` says, or by its key where that has limits of its own.
    Caller,
    /// All callers of one tenant.
    Tenant,
    /// All callers.
    Total,
}

impl Scope {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Caller, Self::Tenant, Self::Total];

    /// The label of it.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Tenant => "tenant",
            Self::Total => "total",
        }
    }

    /// Whose limit it is, in a message to a client.
    pub(crate) fn possessive(self) -> &'static str {
        match self {
            Self::Caller => "your",
            Self::Tenant => "your tenant's",
            Self::Total => "the gateway's",
        }
    }
}

/// What of a request says whose it is.
pub(crate) struct Origin<'a> {
    /// Who sent it.
    pub(crate) caller: &'a Caller,
    /// The name of who sent it, where it has one and no key.
    pub(crate) name: Option<&'a str>,
    /// Where it comes from.
    pub(crate) client: IpAddr,
}

impl Origin<'_> {
    /// The parties that a request counts for and that are bounded in any way.
    ///
    /// A key with limits of its own is counted by itself, whatever `limits.by` says; what it leaves out is as in `limits`. A
    /// tenant with limits of its own has them beside those of its callers.
    pub(crate) fn parties<'c>(&'c self, config: &'c Config) -> impl Iterator<Item = Party<'c>> {
        let tenant = self.caller.tenant.as_deref();
        let tenants_own = tenant.and_then(|name| quota_of(&config.tenants, name));
        let own = self.own_quota();
        let caller = match own {
            Some((name, quota)) => (!quota.is_open()).then_some(Party { scope: Scope::Caller, name, quota }),
            // The tenant counts as one caller and has its own limits.
            None if config.limits.by == LimitBy::Tenant && tenants_own.is_some() => None,
            None => (!config.limits.each.is_open()).then(|| {
                let name = self.name_by(&config.limits.by);
                Party { scope: Scope::Caller, name, quota: &config.limits.each }
            }),
        };
        let tenant = tenant.zip(tenants_own).map(|(name, quota)| Party {
            scope: Scope::Tenant,
            name: format!("tenant:{name}"),
            quota,
        });
        let total = (!config.limits.total.is_open()).then(|| Party {
            scope: Scope::Total,
            name: "total".to_owned(),
            quota: &config.limits.total,
        });
        [caller, tenant, total].into_iter().flatten()
    }

    fn own_quota(&self) -> Option<(String, &Quota)> {
        let account = self.caller.account.as_ref()?;
        Some((format!("key:{}", account.name), account.quota.as_ref()?))
    }

    /// Who counts as one caller, for limits and in the queue: a key with limits of its own by itself, others as `by` says.
    pub(crate) fn as_one(&self, by: &LimitBy) -> String {
        self.own_quota().map_or_else(|| self.name_by(by), |(name, _)| name)
    }

    fn name_by(&self, by: &LimitBy) -> String {
        match by {
            LimitBy::Key => self.by_key(),
            LimitBy::Tenant => match &self.caller.tenant {
                Some(tenant) => format!("tenant:{tenant}"),
                None => self.by_key(),
            },
            LimitBy::Ip => by_address(self.client),
            LimitBy::Header(name) => self.caller.mark.clone().unwrap_or_else(|| by_header(name, None)),
        }
    }

    fn by_key(&self) -> String {
        let account = self.caller.account.as_ref().map(|account| &account.name);
        match (account.or(self.caller.key.as_ref()), self.name) {
            (Some(key), _) => format!("key:{key}"),
            (None, Some(name)) => format!("caller:{name}"),
            (None, None) => by_address(self.client),
        }
    }
}

fn quota_of<'c>(tenants: &'c [Tenant], name: &str) -> Option<&'c Quota> {
    let tenant = tenants.iter().find(|tenant| &*tenant.name == name)?;
    Some(&tenant.quota).filter(|quota| !quota.is_open())
}

/// An address of IPv6 counts as its network of 64 bits, all of which whoever has one of them has.
fn by_address(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => format!("ip:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("ip:{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// How a request's sender is named where callers are told apart by a header; taken before anything leaves the headers.
pub(crate) fn mark(by: &LimitBy, headers: &HeaderMap) -> Option<String> {
    match by {
        LimitBy::Header(name) => Some(by_header(name, headers.get(name))),
        LimitBy::Key | LimitBy::Tenant | LimitBy::Ip => None,
    }
}

/// What a client sends may be long, hold anything, or be a secret; it is known by its digest then.
fn by_header(name: &HeaderName, value: Option<&HeaderValue>) -> String {
    let value = value.map_or(&[][..], HeaderValue::as_bytes);
    let is_plain = value.len() <= VALUE_BYTES_MAX && value.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(value) {
        Ok(text) if is_plain && !is_credential(name.as_str()) => format!("header:{text}"),
        _ => {
            let digest = digest::digest(&digest::SHA256, value);
            let digits: String = digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("header#{digits}")
        }
    }
}

/// Whether anybody's use is bounded, or any tokens cost money; what most gateways say no to with few comparisons.
pub(crate) fn has_any(config: &Config, caller: &Caller) -> bool {
    let own = caller.account.as_ref().and_then(|account| account.quota.as_ref());
    !config.prices.is_empty()
        || !config.tenants.is_empty()
        || !config.limits.each.is_open()
        || !config.limits.total.is_open()
        || own.is_some_and(|quota| !quota.is_open())
}

/// The name of a party as part of a meter's.
pub(crate) fn meter_id(party: &str, what: &str, span: &str) -> Arc<str> {
    [party, "/", what, "/", span].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Account;
    use crate::config::env::Environment;
    use crate::config::{Overrides, load_text};

    const UPSTREAMS: &str = "upstreams: [{ name: one, base_url: 'http://a' }]\n";

    fn config(text: &str) -> Config {
        let text = format!("{UPSTREAMS}{text}");
        load_text(&text, "w.yaml".as_ref(), &Environment::default(), &Overrides::default()).unwrap().0
    }

    fn caller(key: Option<&str>, tenant: Option<&str>, quota: Quota) -> Caller {
        let account = key.map(|key| Account {
            name: key.into(),
            tenant: tenant.map(Arc::from),
            quota: Some(quota).filter(|quota| !quota.is_open()),
            ..Account::default()
        });
        Caller { tenant: tenant.map(Arc::from), account: account.map(Arc::new), ..Caller::default() }
    }

    /// The names of the parties and their requests in a window.
    #[track_caller]
    fn check(
        config: &Config,
        caller: &Caller,
        client: &str,
        headers: &[(&'static str, &str)],
        expected: &str,
    ) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect();
        let caller = &Caller { mark: mark(&config.limits.by, &headers), ..caller.clone() };
        let origin = Origin { caller, name: None, client: client.parse().unwrap() };
        let parties = origin.parties(config).map(|party| {
            let rate = party.quota.requests.map_or(0, |rate| rate.count);
            format!("{} {} {rate}", party.scope.label(), party.name)
        });
        assert_eq!(parties.collect::<Vec<_>>().join(", "), expected);
    }

    #[test]
    fn who_counts_as_one_caller_is_configured() {
        let nobody = Caller::default();
        let by_key = config("limits: { requests: 5/1s }\n");
        check(&by_key, &nobody, "192.0.2.1", &[], "caller ip:192.0.2.1 5");
        check(&by_key, &nobody, "2001:db8:1:2:3::4", &[], "caller ip:2001:db8:1:2::/64 5");
        check(&by_key, &caller(Some("a"), None, Quota::default()), "::1", &[], "caller key:a 5");
        let named = Caller { key: Some("plugin's".into()), ..Caller::default() };
        check(&by_key, &named, "::1", &[], "caller key:plugin's 5");
        let by_ip = config("limits: { requests: 5/1s, by: ip }\n");
        check(&by_ip, &caller(Some("a"), None, Quota::default()), "127.0.0.1", &[], "caller ip:127.0.0.1 5");
        let by_header = config("limits: { requests: 5/1s, by: 'header:user' }\n");
        check(&by_header, &nobody, "::1", &[("user", "ada")], "caller header:ada 5");
        check(&by_header, &nobody, "::1", &[], "caller header: 5");
        let by_tenant = config("limits: { requests: 5/1s, by: tenant }\n");
        check(&by_tenant, &caller(Some("a"), Some("t"), Quota::default()), "::1", &[], "caller tenant:t 5");
        check(&by_tenant, &caller(Some("a"), None, Quota::default()), "::1", &[], "caller key:a 5");
    }

    #[test]
    fn keys_and_tenants_have_limits_of_their_own() {
        let file = "limits: { requests: 5/1s, total: { requests: 9/1s } }
tenants: [{ name: t, limits: { requests: 7/1s } }, { name: open }]\n";
        let both = config(file);
        let own = config("limits: { requests: 3/1s }\n").limits.each;
        let expected = "caller key:a 3, tenant tenant:t 7, total total 9";
        check(&both, &caller(Some("a"), Some("t"), own.clone()), "::1", &[], expected);
        check(&both, &caller(Some("a"), Some("open"), own), "::1", &[], "caller key:a 3, total total 9");
        let expected = "caller key:a 5, tenant tenant:t 7, total total 9";
        check(&both, &caller(Some("a"), Some("t"), Quota::default()), "::1", &[], expected);
        let by_tenant = config(&file.replace("requests: 5/1s,", "requests: 5/1s, by: tenant,"));
        let expected = "tenant tenant:t 7, total total 9";
        check(&by_tenant, &caller(Some("a"), Some("t"), Quota::default()), "::1", &[], expected);
        check(&config(""), &Caller::default(), "::1", &[], "");
    }

    #[test]
    fn limits_and_the_queue_agree_on_who_is_one() {
        let as_one = |by: &LimitBy, caller: &Caller, name: Option<&str>, client: &str| {
            Origin { caller, name, client: client.parse().unwrap() }.as_one(by)
        };
        let (nobody, key) = (Caller::default(), LimitBy::Key);
        assert_eq!(as_one(&key, &nobody, None, "2001:db8::1"), as_one(&key, &nobody, None, "2001:db8::2:1"));
        assert_ne!(as_one(&key, &nobody, None, "2001:db8::1"), as_one(&key, &nobody, None, "2001:db8:1::1"));
        assert_eq!(as_one(&key, &nobody, Some("ada"), "::1"), "caller:ada");
        let own = config("limits: { requests: 3/1s }\n").limits.each;
        for (caller, expected) in [
            (caller(Some("a"), Some("t"), own), "key:a"),
            (caller(Some("a"), Some("t"), Quota::default()), "ip:192.0.2.1"),
        ] {
            assert_eq!(as_one(&LimitBy::Ip, &caller, None, "192.0.2.1"), expected);
        }
    }

    #[test]
    fn a_header_is_a_digest_where_its_value_may_not_be_shown() {
        let by = |name: &'static str, value: &str| {
            by_header(&HeaderName::from_static(name), Some(&HeaderValue::from_str(value).unwrap()))
        };
        assert_eq!(by("user", "ada"), "header:ada");
        for (name, value) in [("x-api-key", "sk-1"), ("user", "a b"), ("user", &*"x".repeat(129))] {
            let party = by(name, value);
            assert!(party.starts_with("header#") && party.len() == 7 + 32, "{party}");
        }
        assert_ne!(by("user", &"x".repeat(129)), by("user", &"x".repeat(130)));
    }

    #[test]
    fn what_bounds_nothing_is_told_at_once() {
        assert!(!has_any(&config(""), &Caller::default()));
        for text in [
            "limits: { in_flight: 1 }\n",
            "limits: { total: { tokens: 1/1s } }\n",
            "prices: { '*': { input: 1, output: 1 } }\n",
        ] {
            assert!(has_any(&config(text), &Caller::default()), "{text}");
        }
        let own = config("limits: { requests: 3/1s }\n").limits.each;
        assert!(has_any(&config(""), &caller(Some("a"), None, own)));
    }
}
