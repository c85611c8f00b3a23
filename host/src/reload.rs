//! Reading the configuration again: after a change of its file, on SIGHUP, on request, and on `GET /models`.
//!
//! All of them are one function: read, parse, check, build, swap. Any failure keeps what is running. Changes are found
//! by comparing content, not by file events, so that a rename, a rewrite in place, a swapped symbolic link and a
//! mounted single file are all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Origin};
use crate::gateway::Gateway;
use crate::snapshot::Snapshot;

/// How often the files are looked at. A change is taken once it has been still for one look.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// `GET /models` reads the configuration at most this often.
const MODELS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How the configuration is read again.
pub(crate) struct Reloader {
    source: config::Input,
    /// One reload at a time.
    running: tokio::sync::Mutex<()>,
    status: Mutex<Status>,
}

struct Status {
    /// The state of the files when they were read last.
    read: Vec<Fingerprint>,
    /// When `GET /models` asked last.
    asked_by_models: Option<Instant>,
    at: SystemTime,
    problems: Option<String>,
    reloads: u64,
    rejected: u64,
}

/// What tells one state of a file from another.
#[derive(Clone, PartialEq, Eq)]
struct Fingerprint {
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl Reloader {
    /// Remembers where `config` came from.
    pub(crate) fn new(source: config::Input, config: &Config) -> Self {
        let status = Status {
            read: fingerprints(config),
            asked_by_models: None,
            at: SystemTime::now(),
            problems: None,
            reloads: 0,
            rejected: 0,
        };
        Self { source, running: tokio::sync::Mutex::default(), status: Mutex::new(status) }
    }

    /// Reads the configuration and lets requests that begin from now on use it; says whether anything changed.
    ///
    /// # Errors
    ///
    /// All problems, as `witgate check` prints them; everything goes on as before then.
    pub(crate) async fn reload(&self, gateway: &Arc<Gateway>) -> Result<bool, String> {
        let _one_at_a_time = self.running.lock().await;
        let before = gateway.snapshots.current();
        let read = fingerprints(&before.config);
        let source = self.source.clone();
        // Files are read and certificates parsed; neither belongs on a thread that serves.
        let built = tokio::task::spawn_blocking(move || build(&source, &before)).await;
        let built = built.unwrap_or_else(|_| Err("the gateway failed while it read the configuration".to_owned()));
        let mut status = self.status();
        status.read = read;
        status.at = SystemTime::now();
        match built {
            Ok(None) => {
                status.problems = None;
                Ok(false)
            }
            Ok(Some(next)) => {
                status.problems = None;
                status.reloads += 1;
                status.read = fingerprints(&next.config);
                warn_of_fixed_settings(&gateway.snapshots.current().config, &next.config);
                tracing::info!(upstreams = next.upstreams.len(), "configuration reloaded");
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
        let config = &gateway.snapshots.current().config;
        if matches!(config.origin, Origin::File(_)) && self.has_changed(&fingerprints(config)) {
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
            let config = &gateway.snapshots.current().config;
            if config.origin == Origin::Embedded {
                continue;
            }
            let look = fingerprints(config);
            let is_at_rest = look == last_look;
            if is_at_rest && self.has_changed(&look) {
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

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().expect("no code panics while it holds this lock")
    }

    fn has_changed(&self, look: &[Fingerprint]) -> bool {
        self.status().read != look
    }
}

/// Reads, checks and builds; none when the configuration is what it was.
fn build(source: &config::Input, before: &Snapshot) -> Result<Option<Snapshot>, String> {
    let (config, warnings) = source.load().map_err(|problems| problems.to_string())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // A certificate's content may have changed under the same name.
    let names_files = !certificate_files(&config).is_empty();
    if config == before.config && !names_files {
        return Ok(None);
    }
    Snapshot::build(config, Some(before)).map(Some)
}

fn warn_of_fixed_settings(before: &Config, after: &Config) {
    let (before, after) = (&before.server, &after.server);
    let fixed = [
        ("server.listen", before.listen != after.listen),
        ("server.admin", before.admin != after.admin),
        ("server.connections_max", before.connections_max != after.connections_max),
    ];
    for (setting, has_changed) in fixed {
        if has_changed {
            tracing::warn!(setting, "a change of this setting needs a restart");
        }
    }
}

fn fingerprints(config: &Config) -> Vec<Fingerprint> {
    let file = match &config.origin {
        Origin::File(path) => Some(path.as_path()),
        Origin::Embedded => None,
    };
    let paths = file.into_iter().chain(certificate_files(config));
    paths.map(|path| Fingerprint { path: path.to_owned(), content: fs::read(path).ok() }).collect()
}

fn certificate_files(config: &Config) -> Vec<&Path> {
    let own = config.server.tls.iter().flat_map(|tls| [tls.cert.as_path(), tls.key.as_path()]);
    let authorities = config.upstreams.iter().filter_map(|upstream| upstream.tls.ca.as_deref());
    own.chain(authorities).collect()
}
