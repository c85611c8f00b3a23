//! From a configuration to plugins that are ready: read, verified, compiled, held against contract, grants and schema, and
//! tried out. What did not change is taken over.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::builtin;
use crate::config::{self, PluginConfig, PluginSource};
use crate::plugin::component::{self, Code};
use crate::plugin::counters::Counters;
use crate::plugin::engine::Engines;
use crate::plugin::grants::Grants;
use crate::plugin::hook::{Hook, Hooks};
use crate::plugin::instance::Instance;
use crate::plugin::quarantine::Quarantine;
use crate::plugin::worker::Worker;
use crate::plugin::{Core, Miss, Plugin};
use crate::shared::connection::Connection;

/// What all plugins of a process share, made when the first one is loaded.
#[derive(Default)]
pub(crate) struct Runtime {
    engines: OnceLock<Arc<Engines>>,
    versions: Mutex<Vec<Version>>,
    /// Where their memory is, if gateways share it.
    shared: Option<Arc<Connection>>,
}

/// A version of a plugin that was loaded once.
struct Version {
    plugin: Weak<Plugin>,
    /// Has a token for each record that it was not told yet; its last ones outlive it.
    undelivered: Option<TaskTracker>,
}

/// The plugins of one configuration, in its order.
#[derive(Clone, Default)]
pub(crate) struct Loaded {
    pub(crate) plugins: Vec<Arc<Plugin>>,
    /// The hooks that any of them has.
    pub(crate) hooks: Hooks,
}

impl Runtime {
    /// Nothing made yet; plugins' memory will be where gateways share it, if they do.
    pub(crate) fn new(shared: Option<Arc<Connection>>) -> Self {
        Self { shared, ..Self::default() }
    }

    fn engines(&self, cache_dir: Option<&PathBuf>) -> Result<Arc<Engines>, String> {
        if let Some(engines) = self.engines.get() {
            return Ok(engines.clone());
        }
        let engines = Arc::new(Engines::new(cache_dir.map(PathBuf::as_path))?);
        Ok(self.engines.get_or_init(|| engines).clone())
    }

    /// How many instances the pool has; 0 before the first plugin is loaded, and where there is no room for one.
    pub(crate) fn pool_size(&self) -> u32 {
        self.engines.get().map_or(0, |engines| engines.pool_size)
    }

    /// The versions that still serve exchanges though the configuration has others now.
    pub(crate) fn draining(&self, current: &Loaded) -> Vec<Arc<Plugin>> {
        let is_current =
            |version: &Arc<Plugin>| current.plugins.iter().any(|known| Arc::ptr_eq(known, version));
        let versions = self.versions();
        let alive = versions.iter().filter_map(|version| version.plugin.upgrade());
        alive.filter(|version| !is_current(version)).collect()
    }

    /// Waits until every version was told of the exchanges that are over; one after another, but all work meanwhile.
    pub(crate) async fn flush(&self) {
        let waiting: Vec<TaskTracker> =
            self.versions().iter().filter_map(|version| version.undelivered.clone()).collect();
        for undelivered in waiting {
            undelivered.wait().await;
        }
    }

    fn remember(&self, plugin: &Arc<Plugin>) {
        let undelivered = plugin.worker.as_ref().map(|worker| worker.undelivered().clone());
        self.versions().push(Version { plugin: Arc::downgrade(plugin), undelivered });
    }

    /// The versions that still have something to do.
    fn versions(&self) -> MutexGuard<'_, Vec<Version>> {
        let mut versions = self.versions.lock().expect("no code panics while it holds this lock");
        let has_records =
            |version: &Version| version.undelivered.as_ref().is_some_and(|left| !left.is_empty());
        versions.retain(|version| version.plugin.strong_count() > 0 || has_records(version));
        versions
    }
}

impl Loaded {
    /// Loads the plugins of a configuration. Blocks: compiling takes seconds, and every plugin is started once.
    ///
    /// They do nothing by themselves before they are activated.
    ///
    /// # Errors
    ///
    /// All that is wrong, a line for each plugin.
    pub(crate) fn new(
        config: &config::Config,
        before: Option<&Self>,
        runtime: &Runtime,
    ) -> Result<Self, String> {
        if config.plugins.is_empty() {
            return Ok(Self::default());
        }
        let engines = runtime.engines(config.server.cache_dir.as_ref())?;
        let has_passthrough = config.upstreams.iter().any(|upstream| upstream.is_default);
        let mut plugins = Vec::new();
        let mut problems = Vec::new();
        for settings in &config.plugins {
            let known = before.and_then(|before| {
                before.plugins.iter().find(|plugin| plugin.settings.name == settings.name)
            });
            let loaded = load(settings, known, &engines, runtime.shared.as_ref()).and_then(|plugin| {
                check_required(settings, plugin.hooks(), has_passthrough)?;
                Ok(plugin)
            });
            match loaded {
                Ok(plugin) => plugins.push(plugin),
                Err(problem) => {
                    problems.push(format!("plugin `{}` (`{}`): {problem}", settings.name, settings.source));
                }
            }
        }
        if !problems.is_empty() {
            // They go on with what they were granted.
            before.into_iter().flat_map(|before| &before.plugins).for_each(|plugin| plugin.bound_memory());
            return Err(problems.join("\n"));
        }
        for plugin in &plugins {
            if known_version(before, plugin).is_none() {
                runtime.remember(plugin);
            }
        }
        let hooks = plugins.iter().map(|plugin| plugin.hooks()).fold(Hooks::default(), Hooks::union);
        Ok(Self { plugins, hooks })
    }

    /// Lets them work beside the exchanges, in place of those that were there `before`.
    ///
    /// Until then they only stand ready: what is loaded may yet be refused, or only be checked.
    pub(crate) fn activate(&self, before: Option<&Self>) {
        for plugin in before.into_iter().flat_map(|before| &before.plugins) {
            let stays = self.plugins.iter().any(|kept| Arc::ptr_eq(kept, plugin));
            if let Some(worker) = plugin.worker.as_ref().filter(|_| !stays) {
                worker.retire();
            }
        }
        for plugin in &self.plugins {
            plugin.bound_memory();
            if let Some(worker) = &plugin.worker {
                worker.start(&plugin.core);
            }
        }
    }
}

impl Plugin {
    fn bound_memory(&self) {
        self.grants.bound_memory(&self.settings.allow);
    }
}

fn known_version<'a>(before: Option<&'a Loaded>, plugin: &Arc<Plugin>) -> Option<&'a Arc<Plugin>> {
    before?.plugins.iter().find(|known| Arc::ptr_eq(known, plugin))
}

fn load(
    settings: &config::Plugin,
    before: Option<&Arc<Plugin>>,
    engines: &Arc<Engines>,
    shared: Option<&Arc<Connection>>,
) -> Result<Arc<Plugin>, String> {
    let bytes = read(settings)?;
    let digest = component::digest(&bytes);
    if let Some(pinned) = settings.sha256.filter(|pinned| *pinned != digest) {
        return Err(format!(
            "it has the SHA-256 {}, not the pinned {}: look whether the file is the one you meant, then change `sha256`",
            component::hex(&digest),
            component::hex(&pinned)
        ));
    }
    if let Some(before) = before.filter(|before| before.settings == *settings && before.code.digest == digest)
    {
        return Ok(before.clone());
    }
    let same_code = before
        .map(|before| &before.code)
        .filter(|code| code.digest == digest && code.fits(engines, settings.limits.memory));
    let code = match same_code {
        Some(code) => {
            code.check_grants(&settings.allow)?;
            code.clone()
        }
        None => Arc::new(Code::compile(engines, &bytes, settings.limits.memory, &settings.allow)?),
    };
    check_config(code.manifest.schema.as_ref(), &settings.config)?;
    let grants = Arc::new(Grants::new(settings, before.map(|before| &*before.grants), shared)?);
    let places = Arc::new(Semaphore::new(settings.limits.instances_max as usize));
    let counters = before.map_or_else(|| Arc::new(Counters::default()), |before| before.counters.clone());
    let core = Arc::new(Core {
        settings: settings.clone(),
        code,
        grants,
        counters,
        quarantine: Quarantine::default(),
        generation: Plugin::next_generation(),
        engines: engines.clone(),
        places,
        idle: Mutex::default(),
    });
    try_out(&core)?;
    let works = core.code.hooks.has(Hook::OnComplete) || core.code.hooks.has(Hook::OnTick);
    let worker = works.then(Worker::new);
    Ok(Arc::new(Plugin { core, worker }))
}

fn read(settings: &config::Plugin) -> Result<Vec<u8>, String> {
    let limit = settings.limits.artifact_max;
    let bytes = match &settings.source {
        PluginSource::Builtin(name) => {
            builtin::component(name).ok_or("there is no such plugin in this program")?.to_vec()
        }
        PluginSource::File(path) => {
            let mut bytes = Vec::new();
            let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
            read.map_err(|error| format!("the file cannot be read: {error}"))?;
            bytes
        }
    };
    if bytes.len() as u64 > limit {
        return Err(format!(
            "it is larger than `limits.artifact_max`, {limit} bytes: raise that if you trust it"
        ));
    }
    Ok(bytes)
}

/// Starts the plugin once, so that one that cannot be started, or refuses its configuration, is not loaded.
fn try_out(core: &Arc<Core>) -> Result<(), String> {
    Handle::current().block_on(async {
        let place =
            core.places.clone().try_acquire_owned().map_err(|_| "no instance is allowed".to_owned())?;
        let mut instance = Instance::start(core, place).await.map_err(|miss| match miss {
            Miss::Fault(fault) => fault.message,
            Miss::Capacity | Miss::Quarantined | Miss::Gone => "there is no room for an instance".to_owned(),
        })?;
        instance.check_types(&core.code)
    })
}

/// Holds a plugin's configuration against the schema in its component.
///
/// # Errors
///
/// Everything that does not fit, with where it is; without any value if there is a secret among them.
fn check_config(schema: Option<&Value>, config: &PluginConfig) -> Result<(), String> {
    let Some(schema) = schema else { return Ok(()) };
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| format!("the schema in its manifest is none: {error}"))?;
    let has_secrets = **config != *config.shown();
    let config: Value =
        serde_json::from_str(config).map_err(|error| format!("its configuration is no JSON: {error}"))?;
    let problems: Vec<String> = validator
        .iter_errors(&config)
        .map(|error| {
            let path = error.instance_path().to_string().replace('/', ".");
            match has_secrets {
                true => format!("`config{path}`: {}", error.masked_with("the value")),
                false => format!("`config{path}`: {error}"),
            }
        })
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Makes sure that a plugin that must not be left out cannot be where it matches.
fn check_required(settings: &config::Plugin, hooks: Hooks, has_passthrough: bool) -> Result<(), String> {
    if !settings.required {
        return Ok(());
    }
    let text = [Hook::StreamText, Hook::StreamEvents].into_iter().find(|hook| hooks.has(*hook));
    let Some(hook) = text.map(Hook::name) else { return Ok(()) };
    let endpoints = &settings.matching.endpoints;
    if let Some(mute) = endpoints.iter().find(|endpoint| !endpoint.has_text()) {
        return Err(format!(
            "`required: true`, but its hook `{hook}` can never run for `{}`, whose answers have no text: take that out of `match.endpoints`",
            mute.label()
        ));
    }
    if endpoints.is_empty() && has_passthrough {
        return Err(format!(
            "`required: true`, but an upstream takes paths nobody knows (`default: true`), where its hook `{hook}` cannot run: list `match.endpoints`"
        ));
    }
    if hooks.has(Hook::StreamEvents)
        && !hooks.has(Hook::StreamText)
        && settings.matching.streaming != config::Streaming::Only
    {
        return Err(format!(
            "`required: true`, but its hook `{hook}` cannot run for whole answers: set `match: {{ streaming: only }}`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Holds a configuration, as it is and as it is shown, against one schema.
    #[track_caller]
    fn check(config: &str, shown: &str, problems: Result<(), &str>) {
        let schema = json!({
            "properties": {"key": {"type": "string", "pattern": "^sk-"}, "mode": {"enum": ["a", "b"]}},
            "maxProperties": 1,
        });
        let checked = check_config(Some(&schema), &PluginConfig::new(config, shown));
        assert_eq!(checked, problems.map_err(str::to_owned));
    }

    #[test]
    fn no_value_is_named_where_there_is_a_secret() {
        let plain = r#"{"mode":"c"}"#;
        check(plain, plain, Err(r#"`config.mode`: "c" is not one of "a" or "b""#));
        check(r#"{"key":"sk-hush"}"#, r#"{"key":"***"}"#, Ok(()));
        let mode = r#"`config.mode`: the value is not one of "a" or "b""#;
        check(r#"{"mode":"hush"}"#, r#"{"mode":"***"}"#, Err(mode));
        check(r#"{"mode":["hush"]}"#, r#"{"mode":["***"]}"#, Err(mode));
        let key = r#"`config.key`: the value does not match "^sk-""#;
        check(r#"{"key":"hush"}"#, r#"{"key":"***"}"#, Err(key));
        let many = "`config`: the value has more than 1 property";
        check(r#"{"key":"sk-hush","mode":"a"}"#, r#"{"key":"***","mode":"a"}"#, Err(many));
    }

    #[test]
    fn a_plugin_without_a_schema_takes_any_configuration() {
        assert_eq!(check_config(None, &PluginConfig::default()), Ok(()));
    }
}
