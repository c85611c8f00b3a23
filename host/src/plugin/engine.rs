//! wasmtime's engines, the only place that configures them.
//!
//! There are two: instances of most plugins come from a pool that is reserved once; a plugin that does not fit the
//! pool's slots (a JavaScript or Python runtime, or one with much memory) gets its memory on demand. Both share a ticker,
//! which is what interrupts a plugin that does not return.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use wasmtime::component::Linker;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig,
};

use crate::plugin::imports;
use crate::plugin::state::State;

/// How often the epoch advances: how finely the time a plugin runs is measured, and how long it runs before other
/// tasks of the thread get a turn.
pub(crate) const TICK: Duration = Duration::from_millis(1);
/// After so many ticks without a call the ticker sleeps until there is one.
const IDLE_TICKS_MAX: u32 = 200;
/// The largest memory an instance from the pool can have, in bytes.
pub(crate) const POOLED_MEMORY_MAX: u64 = 64 << 20;
/// Elements of a table of an instance from the pool.
const POOLED_TABLE_ELEMENTS: usize = 20_000;
/// Core instances of an instance from the pool.
const POOLED_CORE_INSTANCES: u32 = 8;
/// Memories of an instance from the pool.
const POOLED_MEMORIES: u32 = 1;
/// Tables of an instance from the pool.
const POOLED_TABLES: u32 = 4;
/// The sizes of the pool that are tried, in instances.
const POOL_SIZES: [u32; 4] = [10_240, 4096, 1024, 256];
/// How many of the kernel's memory mappings an instance takes at most: two for its stack and the guard page before that,
/// the others for its memory.
const MAPPINGS_PER_INSTANCE: u32 = 6;
/// What is kept of a slot's memory between two instances, so that it need not be given back and faulted in again.
const MEMORY_KEPT: usize = 256 << 10;
const TABLE_KEPT: usize = 16 << 10;
/// A plugin's own stack, in bytes.
const WASM_STACK: usize = 256 << 10;
/// The stack that host functions run on beside it, in bytes.
const ASYNC_STACK: usize = 1 << 20;

/// The engines of this process.
pub(crate) struct Engines {
    pooled: Option<Host>,
    on_demand: OnceLock<Host>,
    cache: Option<Cache>,
    ticker: Arc<Ticker>,
    /// How many instances the pool has; 0 if there is none.
    pub(crate) pool_size: u32,
}

/// What an instance of a component is made of, read off its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) memories: u32,
    pub(crate) tables: u32,
    pub(crate) core_instances: u32,
    /// Of the largest memory, to begin with.
    pub(crate) memory_bytes: u64,
    /// Of the largest table, to begin with.
    pub(crate) table_elements: u64,
}

/// An engine with everything a plugin may import.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<State>,
}

impl Engines {
    /// Makes the pool, as large as this machine lets it be; without one every plugin gets its memory on demand.
    ///
    /// # Errors
    ///
    /// A message when not even that works, nothing could interrupt a plugin, or the folder for compiled code must not be
    /// used.
    pub(crate) fn new(cache_dir: Option<&Path>) -> Result<Self, String> {
        let cache = cache_dir.and_then(|folder| match private_folder(folder) {
            Ok(()) => Some(open_cache(folder)),
            Err(Unusable::Refused(message)) => Some(Err(message)),
            Err(Unusable::Unwritable(message)) => {
                tracing::warn!("{message}; compiled plugins are not kept");
                None
            }
        });
        let cache = cache.transpose()?;
        let ticker = Ticker::start()?;
        let mut pooled = None;
        let mut pool_size = 0;
        for size in POOL_SIZES.into_iter().filter(|size| *size <= mappings_allow()) {
            match Host::new(&config(Some(size), cache.clone()), &ticker) {
                Ok(host) => {
                    pooled = Some(host);
                    pool_size = size;
                    break;
                }
                Err(error) => tracing::debug!(size, %error, "no pool of this size"),
            }
        }
        let engines = Self { pooled, on_demand: OnceLock::new(), cache, ticker, pool_size };
        if pool_size == 0 {
            tracing::warn!(
                "no room for a pool of plugin instances; they get their memory on demand, which is slower"
            );
            engines.on_demand()?;
        } else {
            tracing::debug!(instances = pool_size, "pool of plugin instances");
        }
        Ok(engines)
    }

    /// Where a component with this much memory runs.
    ///
    /// # Errors
    ///
    /// A message when the engine cannot be made.
    pub(crate) fn for_memory(&self, memory_max: u64) -> Result<&Host, String> {
        match &self.pooled {
            Some(host) if memory_max <= POOLED_MEMORY_MAX => Ok(host),
            _ => self.on_demand(),
        }
    }

    /// Where what does not fit the pool runs.
    ///
    /// # Errors
    ///
    /// A message when the engine cannot be made.
    pub(crate) fn on_demand(&self) -> Result<&Host, String> {
        if let Some(host) = self.on_demand.get() {
            return Ok(host);
        }
        let host = Host::new(&config(None, self.cache.clone()), &self.ticker)
            .map_err(|error| format!("the engine for plugins cannot start: {error:#}"))?;
        Ok(self.on_demand.get_or_init(|| host))
    }

    /// Where a component runs: from the pool if it fits a slot of it.
    ///
    /// # Errors
    ///
    /// A message when the engine cannot be made.
    pub(crate) fn host_for(&self, needs: &Needs, memory_max: u64) -> Result<&Host, String> {
        let fits = needs.memories <= POOLED_MEMORIES
            && needs.tables <= POOLED_TABLES
            && needs.core_instances <= POOLED_CORE_INSTANCES
            && needs.memory_bytes <= POOLED_MEMORY_MAX
            && needs.table_elements <= POOLED_TABLE_ELEMENTS as u64;
        if fits { self.for_memory(memory_max) } else { self.on_demand() }
    }

    /// Whether an engine is the one with the pool.
    pub(crate) fn is_pool(&self, host: &Host) -> bool {
        self.pooled.as_ref().is_some_and(|pooled| std::ptr::eq(pooled, host))
    }

    /// Keeps the ticker going until the guard is dropped.
    pub(crate) fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }
}

impl Host {
    fn new(config: &Config, ticker: &Ticker) -> wasmtime::Result<Self> {
        let engine = Engine::new(config)?;
        let mut linker = Linker::new(&engine);
        imports::link(&mut linker)?;
        ticker.add(&engine);
        Ok(Self { engine, linker })
    }
}

fn config(pool_size: Option<u32>, cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_memory64(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(20))
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(WASM_STACK + ASYNC_STACK)
        .memory_init_cow(true)
        .cranelift_opt_level(OptLevel::Speed)
        // What serves must not starve while a plugin is compiled.
        .parallel_compilation(false)
        .cache(cache);
    let strategy = match pool_size {
        Some(size) => InstanceAllocationStrategy::Pooling(pool(size)),
        None => InstanceAllocationStrategy::OnDemand,
    };
    config.allocation_strategy(strategy);
    config
}

/// A component made by Rust's or C's tools has one memory, two tables and four core instances: the module, its adapter,
/// and two that tie them together.
fn pool(size: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(size)
        .total_memories(size)
        .total_tables(size * 2)
        .total_core_instances(size * 4)
        // Not only calls under way have one: a store keeps its last stack until it is dropped.
        .total_stacks(size)
        .max_memory_size(POOLED_MEMORY_MAX as usize)
        .max_memories_per_component(POOLED_MEMORIES)
        .max_tables_per_component(POOLED_TABLES)
        .max_core_instances_per_component(POOLED_CORE_INSTANCES)
        .table_elements(POOLED_TABLE_ELEMENTS)
        .linear_memory_keep_resident(MEMORY_KEPT)
        .table_keep_resident(TABLE_KEPT)
        .max_unused_warm_slots(200)
        .decommit_batch_size(8)
        // On 48 it can leave a swapped page of one instance to the next (wasmtime#14357).
        .pagemap_scan(Enabled::No);
    pool
}

/// How many instances the kernel's bound on memory mappings leaves room for.
fn mappings_allow() -> u32 {
    let bound = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let bound: u32 = bound.and_then(|text| text.trim().parse().ok()).unwrap_or(u32::MAX);
    // The default bound, 65,530, allows the largest pool and leaves room for everything else.
    bound / MAPPINGS_PER_INSTANCE
}

/// Why a folder cannot hold compiled code.
enum Unusable {
    /// Somebody else could put code there.
    Refused(String),
    /// Nothing can be written there.
    Unwritable(String),
}

/// Makes the folder if need be, and makes sure that nobody else can put code there: what is in it is executed.
///
/// A folder that was there keeps who may write it: others may have put code there already. That they can read it is
/// ended.
fn private_folder(folder: &Path) -> Result<(), Unusable> {
    let unwritable = |error: std::io::Error| Unusable::Unwritable(format!("`{}`: {error}", folder.display()));
    let refused = |why: &str| {
        let folder = folder.display();
        Err(Unusable::Refused(format!("`{folder}` {why}: set `server.cache_dir` to a folder of your own")))
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
    let found = fs::metadata(folder).map_err(unwritable)?;
    let mode = found.permissions().mode();
    if mode & 0o022 != 0 {
        return refused("can be written by other users, who could put code there");
    }
    if new_files_owner(folder).map_err(unwritable)? != found.uid() {
        return refused("belongs to another user, who could put code there");
    }
    if mode & 0o055 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(unwritable)?;
    }
    Ok(())
}

/// Who owns what this process makes in a folder: the user it runs as. What is there already is not touched.
fn new_files_owner(folder: &Path) -> std::io::Result<u32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let probe = folder.join(format!(".owner-{}-{}", std::process::id(), now.as_nanos()));
    let owner = fs::File::create_new(&probe)?.metadata().map(|own| own.uid());
    fs::remove_file(&probe)?;
    owner
}

fn open_cache(folder: &Path) -> Result<Cache, String> {
    let mut config = CacheConfig::new();
    config.with_directory(folder);
    Cache::new(config).map_err(|error| format!("`{}` cannot hold compiled code: {error:#}", folder.display()))
}

/// Advances the epoch of every engine while plugins are called, and sleeps otherwise.
pub(crate) struct Ticker {
    engines: std::sync::Mutex<Vec<wasmtime::EngineWeak>>,
    running: AtomicUsize,
    is_asleep: AtomicBool,
    thread: OnceLock<Thread>,
}

/// Keeps the ticker awake while a plugin is called.
pub(crate) struct Ticking {
    ticker: Arc<Ticker>,
}

impl Ticker {
    /// Starts its thread.
    ///
    /// # Errors
    ///
    /// A message when there can be none: a plugin that does not return would never be interrupted.
    fn start() -> Result<Arc<Self>, String> {
        let ticker = Arc::new(Self {
            engines: std::sync::Mutex::default(),
            running: AtomicUsize::new(0),
            is_asleep: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let weak = Arc::downgrade(&ticker);
        let spawned = thread::Builder::new().name("plugin-ticker".to_owned()).spawn(move || {
            let mut idle = 0;
            loop {
                thread::sleep(TICK);
                let Some(ticker) = weak.upgrade() else { return };
                idle = if ticker.tick() { 0 } else { idle + 1 };
                if idle >= IDLE_TICKS_MAX {
                    idle = 0;
                    ticker.sleep();
                }
            }
        });
        let handle =
            spawned.map_err(|error| format!("the thread that interrupts plugins cannot start: {error}"))?;
        ticker.thread.get_or_init(|| handle.thread().clone());
        Ok(ticker)
    }

    fn add(&self, engine: &Engine) {
        self.engines.lock().expect("no code panics while it holds this lock").push(engine.weak());
    }

    /// Advances; says whether anything is running.
    fn tick(&self) -> bool {
        for engine in &*self.engines.lock().expect("no code panics while it holds this lock") {
            if let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
            }
        }
        self.running.load(Ordering::SeqCst) > 0
    }

    fn sleep(&self) {
        self.is_asleep.store(true, Ordering::SeqCst);
        if self.running.load(Ordering::SeqCst) == 0 {
            // A call that begins now unparks, which makes the next park return at once.
            thread::park_timeout(Duration::from_secs(5));
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }

    /// Keeps time until the guard is dropped.
    pub(crate) fn run(self: &Arc<Self>) -> Ticking {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Ticking { ticker: self.clone() }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.ticker.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(folder: &Path) -> u32 {
        fs::metadata(folder).expect("the folder is there").permissions().mode() & 0o7777
    }

    /// Uses a folder that had one mode and has another afterwards; none where it is refused.
    #[track_caller]
    fn check_mode(before: u32, after: Option<u32>) {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(before)).expect("it is ours");
        let is_refused = matches!(private_folder(folder.path()), Err(Unusable::Refused(_)));
        assert_eq!(is_refused, after.is_none(), "{before:o}");
        assert_eq!(mode(folder.path()), after.unwrap_or(before), "{before:o}");
        let left = fs::read_dir(folder.path()).expect("it can be read").count();
        assert_eq!(left, 0, "nothing is left in it");
    }

    #[test]
    fn a_folder_that_others_may_write_is_refused_and_left_as_it_is() {
        for mode in [0o777, 0o1777, 0o770, 0o722, 0o775, 0o2770] {
            check_mode(mode, None);
        }
    }

    #[test]
    fn a_folder_of_ones_own_is_closed_to_others() {
        check_mode(0o700, Some(0o700));
        check_mode(0o755, Some(0o700));
        check_mode(0o711, Some(0o700));
    }

    #[test]
    fn a_new_folder_is_private_also_where_others_may_write_beside_it() {
        let open = tempfile::tempdir().expect("the temporary folder is writable");
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let inside = open.path().join("a").join("b");
        assert!(private_folder(&inside).is_ok());
        assert_eq!((mode(&inside), mode(open.path())), (0o700, 0o777));
    }
}
