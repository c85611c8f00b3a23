//! What a component says of itself, read off its bytes: nothing is compiled, and nothing runs.

use serde_json::{Value, json};

use crate::plugin::component::{Manifest, digest, grant, hex, hooks_among, inspect};
use crate::plugin::hook::{Hook, Hooks};

/// What a component is.
pub(crate) struct About {
    /// What it says of itself.
    pub(crate) manifest: Manifest,
    /// The contract it was built for: package and version.
    pub(crate) contract: String,
    /// The hooks it has.
    pub(crate) hooks: Hooks,
    /// What it imports.
    pub(crate) imports: Vec<Import>,
    /// Its length in bytes.
    pub(crate) bytes_len: usize,
    /// The memory it begins with, in bytes.
    pub(crate) memory_bytes: u64,
    /// The SHA-256 of its bytes, in hexadecimal digits.
    pub(crate) sha256: String,
}

/// An interface that a component imports.
pub(crate) struct Import {
    /// Its name, with its version.
    pub(crate) name: String,
    /// What the operator writes into `allow` for it, by an example; none if it needs no grant.
    pub(crate) grant: Option<&'static str>,
}

impl About {
    /// Reads what a component is.
    ///
    /// # Errors
    ///
    /// Why it is no plugin for this gateway, and what to do.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, String> {
        let found = inspect(bytes)?;
        let hooks = hooks_among(found.exports.iter().map(String::as_str))?;
        // Every plugin exports it, or there were no hooks above.
        let version = found.exports.iter().find_map(|name| name.strip_prefix("witgate:plugin/lifecycle@"));
        let contract = format!("witgate:plugin@{}", version.unwrap_or_default());
        let import = |name: String| Import { grant: grant(&name), name };
        Ok(Self {
            manifest: found.manifest,
            contract,
            hooks,
            imports: found.imports.into_iter().map(import).collect(),
            bytes_len: bytes.len(),
            memory_bytes: found.needs.memory_bytes,
            sha256: hex(&digest(bytes)),
        })
    }

    /// The grants it needs, by examples of what an operator writes into `allow`; each once.
    pub(crate) fn grants(&self) -> Vec<&'static str> {
        let mut grants: Vec<&str> = self.imports.iter().filter_map(|import| import.grant).collect();
        grants.sort_unstable();
        grants.dedup();
        grants
    }

    /// All of it as JSON.
    pub(crate) fn to_json(&self) -> Value {
        let Manifest { name, version, description, schema } = &self.manifest;
        let imports = self.imports.iter().map(|import| json!({"name": import.name, "grant": import.grant}));
        json!({
            "name": name,
            "version": version,
            "description": description,
            "contract": self.contract,
            "hooks": self.hooks.iter().map(Hook::name).collect::<Vec<_>>(),
            "imports": imports.collect::<Vec<_>>(),
            "bytes": self.bytes_len,
            "memory_initial": self.memory_bytes,
            "sha256": self.sha256,
            "schema": schema,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn a_component_is_known_without_compiling_it() {
        let about = About::of(builtin::component("think-strip").unwrap()).unwrap();
        assert_eq!(about.manifest.name.as_deref(), Some("think-strip"));
        assert!(about.hooks.has(Hook::StreamText));
        assert!(about.imports.iter().any(|import| import.name.starts_with("witgate:plugin/exchange@")));
        assert!(about.grants().is_empty());
        assert!(about.memory_bytes > 0 && about.sha256.len() == 64);
        assert_eq!(about.to_json()["contract"], "witgate:plugin@0.1.0");
    }

    #[track_caller]
    fn check(bytes: &[u8], message: &str) {
        let found = About::of(bytes).err().unwrap();
        assert!(found.contains(message), "{found}");
    }

    #[test]
    fn what_is_no_plugin_is_said() {
        check(b"", "empty or cut off");
        check(b"upstreams: []", "no WebAssembly");
        check(b"\0asm\x01\0\0\0", "core module");
        check(b"\0asm\x0d\0\x01\0", "exports no hook");
        let whole = builtin::component("think-strip").unwrap();
        check(&whole[..whole.len() / 2], "cut off or damaged");
    }
}
