//! What the store of one instance holds: the call in flight, the plugin's grants, its limits and its standard error.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::plugin::call::Call;
use crate::plugin::grants::Grants;
use crate::plugin::outbound::{self, Outbound};

/// What the plugin writes to its standard error is kept up to here, in bytes; the rest is dropped.
const STDERR_BYTES_MAX: usize = 8 << 10;
/// Handles of host resources (streams, requests, pollables) that an instance can hold.
const RESOURCES_MAX: usize = 1024;
/// Elements of all tables of an instance.
const TABLE_ELEMENTS_MAX: usize = 200_000;
/// The most random bytes for one call.
const RANDOM_BYTES_MAX: u64 = 64 << 10;

/// The host's side of the contract's `call`. There is one call at a time, and it is in the state: the handle is empty.
#[expect(unreachable_pub, reason = "the bindings that wasmtime generates export it again")]
pub struct CallHandle;

/// What an instance's store holds.
pub(crate) struct State {
    /// The call in flight, lent by the chain for the time of a hook.
    pub(crate) call: Option<Box<Call>>,
    /// What the operator grants.
    pub(crate) grants: Arc<Grants>,
    /// Memory in use.
    pub(crate) limits: Limits,
    /// Ticks the plugin may still run in this call.
    pub(crate) ticks_left: u64,
    /// When it was last found running.
    pub(crate) seen_running: Option<Instant>,
    pub(crate) table: ResourceTable,
    stderr: Stderr,
    http: WasiHttpCtx,
    outbound: Outbound,
    /// Made when the plugin first asks for anything of WASI; most never do.
    wasi: Option<WasiCtx>,
}

/// The bounds of one instance, and what it uses.
pub(crate) struct Limits {
    memory_max: usize,
    /// Bytes of all its memories.
    pub(crate) memory: usize,
    table_elements: usize,
    /// Whether it wanted more than it may have.
    pub(crate) ran_out: bool,
}

impl State {
    pub(crate) fn new(grants: Arc<Grants>, memory_max: u64) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let outbound = grants.http.clone().map(Outbound::new).unwrap_or_default();
        let memory_max = usize::try_from(memory_max).unwrap_or(usize::MAX);
        Self {
            call: None,
            grants,
            limits: Limits { memory_max, memory: 0, table_elements: 0, ran_out: false },
            ticks_left: 0,
            seen_running: None,
            table,
            stderr: Stderr::default(),
            http: outbound::context(),
            outbound,
            wasi: None,
        }
    }

    /// Forgets what concerns the last call.
    pub(crate) fn begin_call(&mut self, ticks: u64) {
        self.ticks_left = ticks;
        self.limits.ran_out = false;
        self.seen_running = None;
        self.stderr.bytes().clear();
    }

    /// What the plugin wrote to its standard error in this call.
    pub(crate) fn take_stderr(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.stderr.bytes())).into_owned()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (stderr, env) = (&self.stderr, &self.grants.env);
        let ctx = self.wasi.get_or_insert_with(|| {
            // No arguments, no files, no sockets; the clock and random numbers are everybody's.
            WasiCtx::builder()
                .stdout(stderr.clone())
                .stderr(stderr.clone())
                .envs(env)
                .max_random_size(RANDOM_BYTES_MAX)
                .allow_tcp(false)
                .allow_udp(false)
                .build()
        });
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let after = self.memory.saturating_sub(current).saturating_add(desired);
        if after > self.memory_max {
            self.ran_out = true;
            return Ok(false);
        }
        self.memory = after;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        let after = self.table_elements.saturating_sub(current).saturating_add(desired);
        if after > TABLE_ELEMENTS_MAX {
            self.ran_out = true;
            return Ok(false);
        }
        self.table_elements = after;
        Ok(true)
    }
}

/// The plugin's standard output and error, kept for the message of a fault.
#[derive(Clone, Default)]
struct Stderr {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Stderr {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().expect("no code panics while it holds this lock")
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only asked for by other generations of WASI.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Stderr {
    fn write(&mut self, new: Bytes) -> StreamResult<()> {
        let mut bytes = self.bytes();
        let room = STDERR_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&new[..new.len().min(room)]);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(STDERR_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {}
}
