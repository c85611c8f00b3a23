//! Where what several gateways share is kept.

use redis::{ConnectionInfo, IntoConnectionInfo};

use crate::config::secret::Secret;

/// Where limits, plugins' memory and what is known of upstreams are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// In this process alone.
    #[default]
    Memory,
    /// On a Redis server that other gateways use, too: its URL, `redis://` or, with TLS, `rediss://`.
    Redis(Secret),
}

impl State {
    /// Reads `memory` or a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL; it is not repeated, since a password may be in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if !is_url(text) {
            return Err("it begins with neither `redis://` nor `rediss://`".to_owned());
        }
        if text.contains('#') {
            return Err("it has a `#`: write that as `%23` in a password; certificates are always verified"
                .to_owned());
        }
        let read = text.into_connection_info();
        read.map(|_| Self::Redis(Secret::new(text)))
            .map_err(|_| "its host, its port or the number of its database cannot be read".to_owned())
    }

    /// The same, to be shown: what is no secret of it.
    pub fn shown(&self) -> String {
        let Self::Redis(url) = self else { return "memory".to_owned() };
        let scheme = if url.expose().starts_with("rediss:") { "rediss" } else { "redis" };
        let read: Option<ConnectionInfo> = url.expose().into_connection_info().ok();
        let place = read.map_or_else(
            || "***".to_owned(),
            |info| {
                let settings = info.redis_settings();
                let has_credentials = settings.username().is_some() || settings.password().is_some();
                let credentials = if has_credentials { "***@" } else { "" };
                format!("{credentials}{}/{}", info.addr(), settings.db())
            },
        );
        format!("{scheme}://{place}")
    }
}

/// Whether a text is meant to be the URL of a server.
fn is_url(text: &str) -> bool {
    text.starts_with("redis://") || text.starts_with("rediss://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str) {
        let outcome = State::parse(text);
        let said = outcome.as_ref().map_or_else(Clone::clone, State::shown);
        assert_eq!(said, shown, "{text}");
        assert!(!said.contains("pw") && !format!("{outcome:?}").contains("pw"), "{said}");
    }

    #[test]
    fn an_address_is_read_and_shown_without_its_secrets() {
        check("memory", "memory");
        check("redis://h", "redis://h:6379/0");
        check("redis://h:7000/3", "redis://h:7000/3");
        check("rediss://user:pw@h/1", "rediss://***@h:6379/1");
        check("redis://:pw@127.0.0.1", "redis://***@127.0.0.1:6379/0");
        check("redis://[::1]:7", "redis://::1:7/0");
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        check("redis://", "its host, its port or the number of its database cannot be read");
        check("redis://:pw@h/zero", "its host, its port or the number of its database cannot be read");
        check(
            "rediss://:pw@h#insecure",
            "it has a `#`: write that as `%23` in a password; certificates are always verified",
        );
        check("http://:pw@h", "it begins with neither `redis://` nor `rediss://`");
    }
}
