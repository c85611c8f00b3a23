//! What one plugin is granted: the host's side of its imports. It outlives the plugin's versions.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config;
use crate::config::secret::Secret;
use crate::plugin::logs::Log;
use crate::plugin::memory::Memory;
use crate::plugin::metrics::Registry;
use crate::plugin::outbound::{self, Client, Origin, Policy, Resolver};
use crate::shared::connection::Connection;
use crate::tls::Trust;

/// What the operator grants one plugin.
pub(crate) struct Grants {
    /// Variables of the environment.
    pub(crate) env: Vec<(String, String)>,
    /// Secrets by name.
    pub(crate) secrets: Vec<(String, Secret)>,
    /// Its way out to where it may send requests; none if there is nowhere.
    pub(crate) http: Option<Arc<Client>>,
    /// Its memory, kept from version to version.
    pub(crate) kv: Arc<Memory>,
    /// Its metrics, kept from version to version.
    pub(crate) metrics: Arc<Registry>,
    /// Its log lines.
    pub(crate) log: Arc<Log>,
}

impl Grants {
    /// Reads them off the configuration, taking over what `before` has learnt. Its memory is on the server that `shared`
    /// leads to, if there is one.
    ///
    /// Its memory is as large as either wants it, so that both can start and go on, until [`Self::bound_memory`].
    ///
    /// # Errors
    ///
    /// What is wrong with an origin.
    pub(crate) fn new(
        settings: &config::Plugin,
        before: Option<&Self>,
        shared: Option<&Arc<Connection>>,
    ) -> Result<Self, String> {
        let allow = &settings.allow;
        let kv = match before {
            Some(before) => before.kv.clone(),
            None => Arc::new(Memory::new(&settings.name, allow.kv, shared)),
        };
        if kv.usage().bytes_max < allow.kv {
            kv.set_bytes_max(allow.kv);
        }
        let metrics = Arc::new(match before {
            Some(before) => before.metrics.successor(allow.metrics as usize),
            None => Registry::new(&settings.name, allow.metrics as usize),
        });
        let log = match before {
            Some(before) => before.log.clone(),
            None => Arc::new(Log::new(&*settings.name, Instant::now())),
        };
        let origins =
            allow.http.iter().map(|origin| origin.parse::<Origin>()).collect::<Result<Vec<_>, _>>()?;
        let http = match origins.is_empty() {
            true => None,
            false => {
                let tls = outbound::connector(&Trust::default())?;
                Some(Client::new(Policy::new(origins), tls, Resolver::System, log.clone()))
            }
        };
        Ok(Self { env: allow.env.clone(), secrets: allow.secrets.clone(), http, kv, metrics, log })
    }

    /// Gives its memory the bound that it has by `allow`.
    pub(crate) fn bound_memory(&self, allow: &config::Allow) {
        self.kv.set_bytes_max(allow.kv);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PluginSource;

    /// What is granted to a version that may keep so many bytes.
    fn grants(kv: u64, before: Option<&Grants>) -> (config::Plugin, Grants) {
        let mut settings = config::Plugin::new("a", PluginSource::Builtin("a".to_owned()));
        settings.allow.kv = kv;
        let grants = Grants::new(&settings, before, None).expect("nothing is wrong with it");
        (settings, grants)
    }

    #[test]
    fn memory_has_its_new_bound_only_when_a_version_takes_over() {
        let (_, before) = grants(1000, None);
        let bytes_max = || before.kv.usage().bytes_max;
        let (smaller, narrowed) = grants(10, Some(&before));
        assert_eq!(bytes_max(), 1000, "the version that runs can go on");
        narrowed.bound_memory(&smaller.allow);
        assert_eq!(bytes_max(), 10);
        let (_, _widened) = grants(2000, Some(&narrowed));
        assert_eq!(bytes_max(), 2000, "the new version can start");
        narrowed.bound_memory(&smaller.allow);
        assert_eq!(bytes_max(), 10, "it was refused");
    }
}
