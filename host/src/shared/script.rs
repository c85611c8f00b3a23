//! What runs on the server: every step that reads and writes is one script, and so one step for all gateways.
//!
//! Scripts go by the server's clock, because the gateways' clocks differ. Source: Redis, "Scripting with Lua"; `TIME` may
//! come before a write since Redis 5, where the effects of a script are replicated and not the script.

use redis::Script;

/// The clock and the calendar, before every script.
const PRELUDE: &str = include_str!("prelude.lua");

/// A script that knows the clock and the calendar. The first of its arguments is the time in milliseconds since 1970,
/// or empty for the server's.
pub(crate) fn new(code: &str) -> Script {
    Script::new(&format!("{PRELUDE}{code}"))
}

/// The first argument of a script: the server's time, unless a test gives one.
pub(crate) fn time(given_ms: Option<u64>) -> String {
    given_ms.map_or_else(String::new, |ms| ms.to_string())
}
