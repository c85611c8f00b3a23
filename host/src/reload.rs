//! Reading the configuration again: after a change of its file, on SIGHUP, on request, and on `GET /models`.
//!
//! All of them are one function: read, parse, check, build, swap. Any failure keeps what is running. Changes are found
//! by comparing content, not by file events, so that a rename, a rewrite in place, a swapped symbolic link and a
//! mounted single file are all the same.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::files::Files;
use crate::config::{self, Config};
use crate::gateway::Gateway;
use crate::plugin::Runtime;
use crate::snapshot::Snapshot;
use crate::upstream::Adjustment;

/// How often the files are looked at. A change is taken once it has been still for one look.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// `GET /models` reads the configuration at most this often.
const MODELS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How the configuration is read again.
pub(crate) struct Reloader {
    source: config::Input,
    /// What plugins share; it outlives every configuration.
    pub(crate) plugins: Arc<Runtime>,
    /// One reload at a time.
    running: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
}

struct Status {
    /// What the files held when they were read last.
    read: Files,
    /// When `GET /models` asked last.
    asked_by_models: Option<Instant>,
    at: SystemTime,
    problems: Option<String>,
    reloads: u64,
    rejected: u64,
}

/// How often the configuration was read again.
pub(crate) struct Tally {
    /// Times that it was replaced.
    pub(crate) replaced: u64,
    /// Times that it was refused.
    pub(crate) refused: u64,
    /// When it was read last.
    pub(crate) at: SystemTime,
    /// Whether it was good then.
    pub(crate) is_good: bool,
}

impl Reloader {
    /// Remembers where `config` came from.
    pub(crate) fn new(source: config::Input, config: &Config, plugins: Arc<Runtime>) -> Self {
        let status = Status {
            read: config.sources(),
            asked_by_models: None,
            at: SystemTime::now(),
            problems: None,
            reloads: 0,
            rejected: 0,
        };
        Self { source, plugins, running: tokio::sync::Mutex::default(), status: Mutex::new(status) }
    }

    /// Reads the configuration and lets requests that begin from now on use it; says whether anything changed.
    ///
    /// # Errors
    ///
    /// All problems, as `witgate check` prints them; everything goes on as before then.
    pub(crate) async fn reload(&self, gateway: &Arc<Gateway>) -> Result<bool, String> {
        let _one_at_a_time = self.running.lock().await;
        let before = gateway.snapshots.current();
        let source = self.source.clone();
        // Taken before the files are read again: what changes while they are being read is another change.
        let look = self.look().await;
        // Files are read, certificates parsed and plugins compiled; nothing of that belongs on a thread that serves.
        let (plugins, running) = (self.plugins.clone(), gateway.clone());
        let load = move || {
            let (read, built) = build(&source, &before, &plugins);
            // Nothing can fail after this.
            let built = built.and_then(|next| {
                next.as_ref().map_or(Ok(()), |next| running.activity.audit.configure(&next.config.audit))?;
                Ok(next)
            });
            (read, built)
        };
        let built = tokio::task::spawn_blocking(load).await;
        let (read, built) = built
            .unwrap_or_else(|_| (None, Err("the gateway failed while it read the configuration".to_owned())));
        let mut status = self.status();
        status.read = read.unwrap_or(look);
        status.at = SystemTime::now();
        match built {
            Ok(None) => {
                status.problems = None;
                Ok(false)
            }
            Ok(Some(next)) => {
                status.problems = None;
                status.reloads += 1;
                warn_of_fixed_settings(&gateway.snapshots.current().config, &next.config);
                gateway.activity.log.configure(&next.config.log);
                tracing::info!(upstreams = next.upstreams.len(), "configuration reloaded");
                gateway.activity.metrics.configure(&next.config);
                gateway.activity.queue.configure(&next.config.limits);
                gateway.snapshots.swap(next);
                Ok(true)
            }
            Err(problems) => {
                status.rejected += 1;
                tracing::error!("configuration rejected, the running one is kept\n{problems}");
                status.problems = Some(problems.clone());
                Err(problems)
            }
        }
    }

    /// Lets requests that begin from now on see an upstream as an operator wants it; gives the snapshot they use, or
    /// none when no upstream has that name.
    ///
    /// A reload keeps it, and one that is running is waited for.
    pub(crate) async fn adjust(
        &self,
        gateway: &Gateway,
        name: &str,
        change: impl FnOnce(Adjustment) -> Adjustment,
    ) -> Option<Arc<Snapshot>> {
        let _one_at_a_time = self.running.lock().await;
        let before = gateway.snapshots.current();
        let index = before.upstreams.iter().position(|upstream| &*upstream.settings.name == name)?;
        let adjustment = change(before.upstreams[index].adjustment);
        gateway.snapshots.swap(before.adjusted(index, adjustment));
        let Adjustment { is_enabled: enabled, priority: weight } = adjustment;
        tracing::info!(upstream = name, enabled, weight, "upstream adjusted");
        Some(gateway.snapshots.current())
    }

    /// What `GET /models` does, as in the earlier systems: a reload, but not more often than once a second.
    pub(crate) async fn reload_for_models(&self, gateway: &Arc<Gateway>) {
        {
            let mut status = self.status();
            let now = Instant::now();
            if status.asked_by_models.is_some_and(|last| now - last < MODELS_RELOAD_INTERVAL) {
                return;
            }
            status.asked_by_models = Some(now);
        }
        if self.look().await != self.status().read {
            // A refusal is logged and shown; the list of models is that of the running configuration.
            let _ = self.reload(gateway).await;
        }
    }

    /// Looks at the files until `stop`, and reloads when one has changed and come to rest.
    pub(crate) async fn watch(&self, gateway: Arc<Gateway>, stop: CancellationToken) {
        let mut last_look = self.status().read.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let look = self.look().await;
            let has_changed = look != self.status().read;
            if has_changed && look == last_look {
                let _ = self.reload(&gateway).await;
            }
            last_look = look;
        }
    }

    /// The last reload, for the admin listener.
    pub(crate) fn describe(&self) -> Value {
        let status = self.status();
        let at = status.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({
            "unix_s": at,
            "problems": status.problems,
            "reloads": status.reloads,
            "rejected": status.rejected,
        })
    }

    /// How often it was reloaded, for the metrics.
    pub(crate) fn tally(&self) -> Tally {
        let status = self.status();
        Tally {
            replaced: status.reloads,
            refused: status.rejected,
            at: status.at,
            is_good: status.problems.is_none(),
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no code panics while it holds this lock")
    }

    /// Reads the files that were read last as they are now; a slow disk holds up no thread that serves.
    async fn look(&self) -> Files {
        let read = self.status().read.clone();
        let unchanged = read.clone();
        tokio::task::spawn_blocking(move || read.look()).await.unwrap_or(unchanged)
    }
}

/// A new snapshot, or none when the configuration is what it was.
type Built = Result<Option<Snapshot>, String>;

/// Reads, checks and builds; says also what the files held, if that is known.
fn build(source: &config::Input, before: &Snapshot, plugins: &Runtime) -> (Option<Files>, Built) {
    let (config, warnings) = match source.load() {
        Ok(loaded) => loaded,
        Err(problems) => return (None, Err(problems.to_string())),
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let read = config.sources();
    let built = if config.says_the_same_as(&before.config) {
        Ok(None)
    } else {
        Snapshot::build(config, Some(before), plugins).map(Some)
    };
    (Some(read), built)
}

fn warn_of_fixed_settings(before: &Config, after: &Config) {
    let logs = (&before.log, &after.log);
    let is_other_collector = before.otlp != after.otlp;
    let is_other_state = before.state != after.state;
    let (before, after) = (&before.server, &after.server);
    let fixed = [
        ("otlp", is_other_collector),
        ("state", is_other_state),
        ("log.format", logs.0.format != logs.1.format),
        ("log.dir", logs.0.dir != logs.1.dir),
        ("server.listen", before.listen != after.listen),
        ("server.admin", before.admin != after.admin),
        ("server.connections_max", before.connections_max != after.connections_max),
        ("server.cache_dir", before.cache_dir != after.cache_dir),
    ];
    for (setting, has_changed) in fixed {
        if has_changed {
            tracing::warn!(setting, "a change of this setting needs a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Environment;
    use crate::config::{Input, Origin, Overrides};

    #[tokio::test]
    async fn what_changed_between_the_loading_and_the_first_look_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.yaml");
        let text = "upstreams: [{ name: a, base_url: 'builtin:echo' }]\n";
        std::fs::write(&path, text).unwrap();
        let origin = Origin::File(path.clone());
        let input = Input { origin, environment: Environment::default(), overrides: Overrides::default() };
        let (config, _) = input.load().unwrap();
        std::fs::write(&path, format!("{text}server: {{ keepalive: 1s }}\n")).unwrap();
        let reloader = Reloader::new(input, &config, Arc::default());
        assert!(reloader.look().await != reloader.status().read);
        std::fs::write(&path, text).unwrap();
        assert!(reloader.look().await == reloader.status().read);
    }
}
