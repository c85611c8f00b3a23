//! Lines in the gateway's log, tagged with the plugin's name and limited in rate.
//!
//! ```
//! use witgate_sdk::log;
//!
//! log::warn("no such model", &[("model", "gpt-7")]);
//! ```

use std::cell::Cell;

#[cfg(not(target_family = "wasm"))]
use crate::testkit::host::log as host;
#[cfg(target_family = "wasm")]
use crate::wit::witgate::plugin::log as host;

pub use crate::wit::witgate::plugin::log::Level;

thread_local! {
    /// The lowest level the host keeps, once it was asked.
    static LEVEL: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Says whether the host keeps lines of this level, to spare the making of those it does not. The host is asked once
/// for each instance.
pub fn is_enabled(level: Level) -> bool {
    let lowest = LEVEL.get().unwrap_or_else(|| {
        let lowest = host::max_level();
        LEVEL.set(Some(lowest));
        lowest
    });
    level >= lowest
}

/// Writes a line with fields, if the host keeps its level.
pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    if is_enabled(level) {
        let fields: Vec<_> =
            fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        host::write(level, message, &fields);
    }
}

/// Tells step by step.
pub fn trace(message: &str, fields: &[(&str, &str)]) {
    write(Level::Trace, message, fields);
}

/// Tells somebody who looks for a defect.
pub fn debug(message: &str, fields: &[(&str, &str)]) {
    write(Level::Debug, message, fields);
}

/// Tells what happened.
pub fn info(message: &str, fields: &[(&str, &str)]) {
    write(Level::Info, message, fields);
}

/// Tells that something is odd.
pub fn warn(message: &str, fields: &[(&str, &str)]) {
    write(Level::Warn, message, fields);
}

/// Tells that something failed.
pub fn error(message: &str, fields: &[(&str, &str)]) {
    write(Level::Error, message, fields);
}
