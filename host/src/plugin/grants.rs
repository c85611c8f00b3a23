//! What one plugin is granted: the host's side of its imports. It outlives the plugin's versions.

use std::sync::Arc;

use tokio::time::Instant;

use crate::config;
use crate::config::secret::Secret;
use crate::plugin::kv;
use crate::plugin::logs::Log;
use crate::plugin::metrics::Registry;
use crate::plugin::outbound::{self, Client, Origin, Policy, Resolver};
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
    pub(crate) kv: Arc<kv::Store>,
    /// Its metrics, kept from version to version.
    pub(crate) metrics: Arc<Registry>,
    /// Its log lines.
    pub(crate) log: Arc<Log>,
}

impl Grants {
    /// Reads them off the configuration, taking over what `before` has learnt.
    ///
    /// # Errors
    ///
    /// What is wrong with an origin.
    pub(crate) fn new(settings: &config::Plugin, before: Option<&Self>) -> Result<Self, String> {
        let allow = &settings.allow;
        let kv = match before {
            Some(before) => before.kv.clone(),
            None => Arc::new(kv::Store::new(allow.kv)),
        };
        kv.set_bytes_max(allow.kv);
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
}
