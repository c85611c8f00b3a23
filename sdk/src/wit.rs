//! The bindings of `wit/`. Public because [`export!`](crate::export) expands in the plugin's crate; not an API.

witgate_sdk_macros::bindings!();
