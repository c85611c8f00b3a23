//! The components of `noop/`, built as `host/build.rs` builds the first-party plugins.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

const TARGET: &str = "wasm32-wasip2";

/// Where the components are.
pub(crate) struct Noops(PathBuf);

impl Noops {
    /// Builds them beside the first-party plugins.
    ///
    /// # Errors
    ///
    /// They do not compile; cargo says why.
    pub(crate) fn build() -> Result<Self> {
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("host/ is a folder of the workspace");
        let executable = env::current_exe()?;
        let target = executable.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
        let target = target.ok_or("this executable is not in a target folder of cargo")?.join("plugins");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(root)
            .args(["build", "--quiet", "--profile", "plugin", "--target", TARGET, "--target-dir"])
            .arg(&target)
            .args(["--package", "noop", "--lib", "--examples"])
            .stdin(Stdio::null());
        forget_outer_build(&mut cargo);
        let status = cargo.status().map_err(|error| format!("cannot run cargo for the plugins: {error}"))?;
        if !status.success() {
            return Err("the plugins of the bench do not compile; cargo's messages are above".into());
        }
        Ok(Self(target.join(TARGET).join("plugin")))
    }

    /// The component with the hook for text.
    pub(crate) fn text(&self) -> String {
        self.0.join("noop.wasm").display().to_string()
    }

    /// The component with another hook.
    pub(crate) fn hook(&self, hook: &str) -> String {
        self.0.join("examples").join(hook.replace('-', "_")).with_extension("wasm").display().to_string()
    }
}

/// Takes away what the build of the bench would change in a plugin; the stack is that of the first-party plugins.
fn forget_outer_build(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let is_outer =
            matches!(text, "RUSTFLAGS" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_INCREMENTAL")
                || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CLIPPY_"]
                    .iter()
                    .any(|start| text.starts_with(start));
        if is_outer {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=-zstack-size=65536");
}
