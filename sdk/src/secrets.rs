//! Secrets that the operator grants by name in `allow.secrets`.

#[cfg(not(target_family = "wasm"))]
use crate::testkit::host::secrets as host;
#[cfg(target_family = "wasm")]
use crate::wit::witgate::plugin::secrets as host;

/// Returns the secret of this name; `None` if it was not granted.
///
/// ```
/// use witgate_sdk::{Plugin, secrets};
///
/// struct Signer {
///     key: String,
/// }
///
/// impl Plugin for Signer {
///     type Config = ();
///     fn new(_: ()) -> Result<Self, String> {
///         let key = secrets::get("signing-key").ok_or("grant `allow.secrets: [signing-key]`")?;
///         Ok(Self { key })
///     }
/// }
/// ```
pub fn get(name: &str) -> Option<String> {
    host::get(name)
}
