//! One live instance of a plugin, and how it is called.
//!
//! An instance is poisoned until proven clean: a call that did not return, for whatever reason, leaves the store unusable,
//! so that only what returned may be called again.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime::{PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::plugin::call::Call;
use crate::plugin::component::Code;
use crate::plugin::engine::{TICK, Ticking};
use crate::plugin::fault::{Fault, FaultKind};
use crate::plugin::grants::Grants;
use crate::plugin::state::{CallHandle, State};
use crate::plugin::{Core, Miss};

/// What a plugin may hand to the host in one call beyond what it was given, in bytes.
const RETURNED_BYTES_MAX: usize = 1 << 20;
/// Handles of resources that an instance may hold.
const HANDLES_MAX: usize = 1024;
/// A plugin that was found running so long ago has been waiting since.
const TURN: Duration = Duration::from_millis(10);

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The time it runs.
    pub(crate) run: Duration,
    /// The time it waits for the host besides.
    pub(crate) wait: Duration,
}

/// One live instance.
pub(crate) struct Instance {
    pub(crate) store: Store<State>,
    pub(crate) inner: wasmtime::component::Instance,
    /// Whether the last call returned.
    is_clean: bool,
    /// How many exchanges it has served.
    pub(crate) uses: u32,
    _place: OwnedSemaphorePermit,
}

/// A call that is under way.
pub(crate) struct Armed {
    _ticking: Ticking,
    wall: Duration,
}

impl Instance {
    /// Makes an instance and gives it its configuration.
    ///
    /// # Errors
    ///
    /// The fault, if it cannot be made or refuses its configuration.
    pub(crate) async fn start(plugin: &Core, place: OwnedSemaphorePermit) -> Result<Self, Miss> {
        let (code, grants, settings) = (&plugin.code, &plugin.grants, &plugin.settings);
        let bounds = Bounds { run: settings.limits.init_timeout, wait: settings.limits.init_timeout };
        let mut store = store(code, grants, settings.limits.memory);
        let armed = arm(&mut store, plugin, bounds);
        let making = code.pre.instantiate_async(&mut store);
        let inner = match armed.bounded(making).await {
            Some(Ok(inner)) => inner,
            failed => return Err(miss(&store, failed.and_then(Result::err), bounds).in_init()),
        };
        let mut instance = Self { store, inner, is_clean: true, uses: 0, _place: place };
        let guest = code.indices.lifecycle.load(&mut instance.store, &inner);
        let guest = guest.map_err(|error| Miss::Fault(Fault::new(FaultKind::Init, format!("{error:#}"))))?;
        let armed = instance.arm(plugin, bounds, settings.config.len());
        let initialised = armed.bounded(guest.call_init(&mut instance.store, &settings.config)).await;
        match instance.settle(initialised, bounds) {
            Ok(Ok(())) => Ok(instance),
            Ok(Err(refusal)) => Err(Miss::Fault(Fault::new(
                FaultKind::Init,
                format!("it refuses its configuration: {refusal}"),
            ))),
            Err(miss) => Err(miss.in_init()),
        }
    }

    /// Makes sure that the hooks have the types of the contract.
    ///
    /// # Errors
    ///
    /// Which one has not.
    pub(crate) fn check_types(&mut self, code: &Code) -> Result<(), String> {
        code.indices.check_types(&mut self.store, &self.inner)
    }

    /// Whether it may be called again.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Bytes of its memory.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().limits.memory
    }

    /// Prepares a call: until it is settled, the instance counts as broken.
    pub(crate) fn arm(&mut self, plugin: &Core, bounds: Bounds, bytes_given: usize) -> Armed {
        self.is_clean = false;
        self.store.set_hostcall_fuel(bytes_given.saturating_mul(4).saturating_add(RETURNED_BYTES_MAX));
        arm(&mut self.store, plugin, bounds)
    }

    /// Lends a call for the time of a hook, and gives the handle to pass.
    pub(crate) fn lend(&mut self, call: Box<Call>) -> Resource<CallHandle> {
        self.store.data_mut().call = Some(call);
        Resource::new_borrow(0)
    }

    /// Takes the call back.
    pub(crate) fn take_call(&mut self) -> Option<Box<Call>> {
        self.store.data_mut().call.take()
    }

    /// Notes how a call ended: one that returned leaves the instance clean.
    ///
    /// # Errors
    ///
    /// The fault, if it did not return.
    pub(crate) fn settle<T>(
        &mut self,
        outcome: Option<wasmtime::Result<T>>,
        bounds: Bounds,
    ) -> Result<T, Miss> {
        match outcome {
            Some(Ok(value)) => {
                self.is_clean = true;
                Ok(value)
            }
            failed => Err(miss(&self.store, failed.and_then(Result::err), bounds)),
        }
    }
}

impl Armed {
    /// Waits for a call as long as it may take; none when that is over.
    pub(crate) async fn bounded<T>(
        &self,
        calling: impl Future<Output = wasmtime::Result<T>>,
    ) -> Option<wasmtime::Result<T>> {
        tokio::time::timeout(self.wall, pin!(calling)).await.ok()
    }
}

fn store(code: &Code, grants: &Arc<Grants>, memory_max: u64) -> Store<State> {
    let mut store = Store::new(code.pre.engine(), State::new(grants.clone(), memory_max));
    store.limiter(|state| &mut state.limits);
    store.set_max_component_handles(HANDLES_MAX);
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        state.seen_running = Some(Instant::now());
        // Ticks count only while the plugin runs: a wait for the host passes no check.
        match state.ticks_left.checked_sub(1) {
            Some(left) => {
                state.ticks_left = left;
                Ok(UpdateDeadline::Yield(1))
            }
            None => Ok(UpdateDeadline::Interrupt),
        }
    });
    store
}

fn arm(store: &mut Store<State>, plugin: &Core, bounds: Bounds) -> Armed {
    store.data_mut().begin_call((bounds.run.as_micros() / TICK.as_micros()) as u64);
    store.set_epoch_deadline(1);
    // Yielding to others takes time that is nobody's fault; the bound of the wait covers it.
    Armed { _ticking: plugin.ticker().run(), wall: bounds.run + bounds.wait }
}

fn miss(store: &Store<State>, error: Option<wasmtime::Error>, bounds: Bounds) -> Miss {
    let state = store.data();
    let Some(error) = error else {
        // It took its turns to the very end; a busy machine did not give it enough of them to use up its ticks.
        let was_running = state.seen_running.is_some_and(|seen| seen.elapsed() < TURN);
        return Miss::Fault(if was_running {
            Fault::new(FaultKind::Deadline, format!("it ran longer than {:?}", bounds.run))
        } else {
            let message = format!("it waited for the host longer than {:?}", bounds.wait);
            Fault::new(FaultKind::WaitTimeout, message)
        });
    };
    // There is no room for it, which is nothing that it did.
    if error.is::<PoolConcurrencyLimitError>() {
        return Miss::Capacity;
    }
    let fault = Fault::of(&error, state.limits.ran_out, &state.take_stderr());
    Miss::Fault(match fault.kind {
        FaultKind::Deadline => Fault::new(fault.kind, format!("it ran longer than {:?}", bounds.run)),
        FaultKind::Memory => {
            Fault::new(fault.kind, format!("it wanted more memory than it may have; {}", fault.message))
        }
        _ => fault,
    })
}

impl Miss {
    /// What broke before there was an instance.
    fn in_init(self) -> Self {
        match self {
            Self::Fault(fault) => {
                Self::Fault(Fault::new(FaultKind::Init, format!("it could not be started: {fault}")))
            }
            other => other,
        }
    }
}
