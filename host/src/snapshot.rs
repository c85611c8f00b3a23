//! Everything built from one configuration, swapped as a whole.
//!
//! A request takes the current snapshot once and keeps it to its end, so that a reload never touches what is running.
//! What did not change is carried over: upstreams keep their connections and counters by name, and what an operator
//! said of them at run time, which makes a snapshot of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::sync::{broadcast, watch};

use crate::auth::Gate;
use crate::config::Config;
use crate::models::ModelsCache;
use crate::plugin::hook::Hook;
use crate::plugin::{Loaded, Runtime};
use crate::route::{Member, Routes};
use crate::tls;
use crate::upstream::breaker::Change;
use crate::upstream::retries::Retries;
use crate::upstream::{Adjustment, Upstream};

/// Everything built from one configuration.
pub(crate) struct Snapshot {
    /// The configuration itself, as the file says it.
    pub(crate) config: Config,
    /// Which upstreams take a model, and in which order.
    pub(crate) routes: Routes,
    /// The upstreams, in the order of the configuration, with what operators said of them on top.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// Who may call.
    pub(crate) gate: Arc<Gate>,
    /// The plugins.
    pub(crate) plugins: Loaded,
    /// The certificate of the main listener.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// The lists of models; new with every configuration.
    pub(crate) models: ModelsCache,
    /// The attempts of the last seconds, whatever the configuration was.
    pub(crate) retries: Arc<Retries>,
}

/// The current snapshot.
pub(crate) struct Snapshots {
    current: ArcSwap<Snapshot>,
    /// Changes with it.
    swaps: watch::Sender<()>,
    /// What the breakers of all upstreams tell.
    changes: broadcast::Sender<Change>,
}

/// The changes of breakers that somebody who listens may be behind; those before are lost to them.
const CHANGES_MAX: usize = 256;

impl Snapshot {
    /// Builds everything, taking over from `before` what did not change.
    ///
    /// # Errors
    ///
    /// A message when a certificate's file cannot be used or a plugin not be loaded; nothing has changed then.
    ///
    /// Blocks: files are read, plugins compiled and tried out.
    pub(crate) fn build(config: Config, before: Option<&Self>, runtime: &Runtime) -> Result<Self, String> {
        let known: HashMap<&str, &Arc<Upstream>> =
            before.iter().flat_map(|before| &before.upstreams).map(|up| (&*up.settings.name, up)).collect();
        let trust = tls::Trust::default();
        let upstreams = config
            .upstreams
            .iter()
            .map(|file| {
                let before = known.get(&*file.name);
                let settings = before.map_or_else(|| file.clone(), |up| up.adjustment.applied_to(file));
                match before {
                    Some(same) if same.settings == settings && file.tls.ca.is_none() => Ok(Arc::clone(same)),
                    before => {
                        let before = before.map(|before| &***before);
                        Upstream::new(settings, before, &trust).map(Arc::new)
                    }
                }
            })
            .collect::<Result<Vec<_>, String>>()?;
        let tls = config.server.tls.as_ref().map(tls::server).transpose()?;
        let plugins = Loaded::new(&config, before.map(|before| &before.plugins), runtime)?;
        let routes = routes(&config, &upstreams);
        let models = ModelsCache::new(config.models_cache_ttl);
        let gate = Arc::new(Gate::new(&config));
        let retries = before.map(|before| before.retries.clone()).unwrap_or_default();
        Ok(Self { config, routes, upstreams, gate, plugins, tls, models, retries })
    }

    /// Whether the gateway, or a plugin of it, has keys of its own: callers' keys go to nobody else then.
    pub(crate) fn has_keys(&self) -> bool {
        self.gate.is_guarded() || self.plugins.hooks.has(Hook::Authenticate)
    }

    /// How often the breakers of all upstreams opened.
    pub(crate) fn breaker_trips(&self) -> u64 {
        self.upstreams.iter().map(|upstream| upstream.breaker_standing().trips).sum()
    }

    /// The same snapshot, but for what an operator says of one upstream.
    pub(crate) fn adjusted(&self, upstream: usize, adjustment: Adjustment) -> Self {
        let config = self.config.clone();
        let mut upstreams = self.upstreams.clone();
        upstreams[upstream] = Arc::new(upstreams[upstream].adjusted(&config.upstreams[upstream], adjustment));
        Self {
            routes: routes(&config, &upstreams),
            upstreams,
            gate: self.gate.clone(),
            plugins: self.plugins.clone(),
            tls: self.tls.clone(),
            models: ModelsCache::new(config.models_cache_ttl),
            retries: self.retries.clone(),
            config,
        }
    }
}

impl Snapshot {
    /// Makes its bounds hold for what outlives every snapshot.
    fn bound_places(&self) {
        for Upstream { settings, state, .. } in self.upstreams.iter().map(|upstream| &**upstream) {
            state.places.set_bound(settings.max_in_flight);
        }
    }
}

/// Routing over the upstreams as they stand, and not as the file alone has them.
fn routes(config: &Config, upstreams: &[Arc<Upstream>]) -> Routes {
    let members = upstreams.iter().map(|upstream| Member::from(&upstream.settings)).collect();
    Routes::with_members(members, config.routing)
}

impl Snapshots {
    /// Starts with a snapshot, whose plugins begin to work.
    pub(crate) fn new(first: Snapshot) -> Self {
        first.plugins.activate(None);
        first.bound_places();
        let changes = broadcast::Sender::new(CHANGES_MAX);
        first.upstreams.iter().for_each(|upstream| upstream.breaker.tell_to(&changes));
        Self { current: ArcSwap::from_pointee(first), swaps: watch::Sender::new(()), changes }
    }

    /// Changes whenever the snapshot does.
    pub(crate) fn swaps(&self) -> watch::Receiver<()> {
        self.swaps.subscribe()
    }

    /// Takes another gateway's word that an upstream is down for so long.
    pub(crate) fn hint(&self, upstream: &str, lasting: Duration) {
        let current = self.current.load();
        if let Some(known) = current.upstreams.iter().find(|known| &*known.settings.name == upstream) {
            known.breaker.hint(lasting, &known.settings.breaker);
        }
    }

    /// What the breakers of all upstreams tell from now on: what they found themselves, and no hints.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// The snapshot that a request beginning now uses to its end.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Lets requests that begin from now on use another snapshot, and its plugins work instead of those before.
    pub(crate) fn swap(&self, next: Snapshot) {
        next.bound_places();
        let next = Arc::new(next);
        next.upstreams.iter().for_each(|upstream| upstream.breaker.tell_to(&self.changes));
        let before = self.current.swap(next.clone());
        next.plugins.activate(Some(&before.plugins));
        self.swaps.send_replace(());
    }
}
