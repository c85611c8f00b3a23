//! What can break in a plugin, told apart. A rejection is not among it: that is policy.

use std::fmt;
use std::str::Utf8Error;

use wasmtime::Trap;

/// A plugin broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What kind of break it was.
    pub(crate) kind: FaultKind,
    /// What happened, for the operator: the trap, and what the plugin wrote to its standard error.
    pub(crate) message: String,
}

/// How a plugin can break; a metric label follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// It did what no component may do: out of bounds, division by zero, a stack overflow.
    Trap,
    /// It gave up by itself, as Rust's `panic!` does.
    Panic,
    /// It ran longer than `limits.call_timeout`, or `limits.init_timeout` during init.
    Deadline,
    /// It waited for the host longer than `limits.wait_timeout`.
    WaitTimeout,
    /// It wanted more than `limits.memory`.
    Memory,
    /// It gave the host more in one call than the host takes, or held too many handles.
    HostCall,
    /// It returned what the contract does not allow.
    InvalidOutput,
    /// It could not be started, or its `init` refused the configuration.
    Init,
}

impl FaultKind {
    /// All kinds, for counters.
    pub(crate) const ALL: [Self; 8] = [
        Self::Trap,
        Self::Panic,
        Self::Deadline,
        Self::WaitTimeout,
        Self::Memory,
        Self::HostCall,
        Self::InvalidOutput,
        Self::Init,
    ];

    /// The name in metrics, logs and on `/admin/plugins`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Panic => "panic",
            Self::Deadline => "deadline",
            Self::WaitTimeout => "wait-timeout",
            Self::Memory => "memory",
            Self::HostCall => "host-call",
            Self::InvalidOutput => "invalid-output",
            Self::Init => "init",
        }
    }
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The plugin returned what the contract does not allow.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(FaultKind::InvalidOutput, message)
    }

    /// Reads what wasmtime says of a call that did not return; `stderr` is what the plugin wrote last.
    pub(crate) fn of(error: &wasmtime::Error, ran_out_of_memory: bool, stderr: &str) -> Self {
        let kind = match error.downcast_ref::<Trap>() {
            _ if ran_out_of_memory => FaultKind::Memory,
            Some(Trap::Interrupt) => FaultKind::Deadline,
            Some(Trap::UnreachableCodeReached) => FaultKind::Panic,
            Some(_) => FaultKind::Trap,
            None if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_some() => FaultKind::Panic,
            None if error.root_cause().downcast_ref::<Utf8Error>().is_some() => FaultKind::InvalidOutput,
            None => FaultKind::HostCall,
        };
        let cause = error.root_cause().to_string();
        let stderr = stderr.trim();
        let message = if stderr.is_empty() { cause } else { format!("{cause}; it wrote: {stderr}") };
        Self { kind, message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.kind.label(), self.message)
    }
}
