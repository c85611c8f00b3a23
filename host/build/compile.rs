//! Compiles packages of the workspace to components. The build scripts of the host and of the behaviour tests share it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// A small stack keeps a plugin's data in the lowest pages of its memory, which the host keeps resident.
const RUSTFLAGS: &str = "-Clink-arg=-zstack-size=65536";

/// A variable that holds a path.
pub(crate) fn path_variable(name: &str) -> PathBuf {
    env::var_os(name).expect("cargo sets it for build scripts").into()
}

/// Finds the workspace's target folder, so that debug and release builds share the components.
pub(crate) fn target_folder(out: &Path) -> PathBuf {
    // A target folder that cargo did not create has no tag; then it is target/<profile>/build/<package>/out.
    let tagged = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    tagged.or_else(|| out.ancestors().nth(4)).unwrap_or(out).to_owned()
}

/// Adds the target where rustup's automatic installation is off.
///
/// # Errors
///
/// What to do when it cannot be added.
pub(crate) fn require_target(root: &Path) -> Result<(), String> {
    if has_target(root) {
        return Ok(());
    }
    let _ = Command::new("rustup").args(["target", "add", TARGET]).current_dir(root).status();
    if has_target(root) {
        return Ok(());
    }
    Err(format!("the plugins need the target `{TARGET}`: run `rustup target add {TARGET}`"))
}

fn has_target(root: &Path) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed =
        Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).current_dir(root).output();
    printed.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Compiles the plugins, all in one run of cargo, and returns where their components are.
///
/// # Errors
///
/// What failed.
pub(crate) fn compile(root: &Path, names: &[String], target: &Path) -> Result<Vec<PathBuf>, String> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut cargo = Command::new(path_variable("CARGO"));
    cargo
        .current_dir(root)
        .args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"])
        .arg(target);
    if root.join("Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    for name in names {
        cargo.args(["--package", name]);
    }
    forget_outer_build(&mut cargo);
    let status = cargo.status().map_err(|error| format!("cannot run cargo for the plugins: {error}"))?;
    if !status.success() {
        return Err("the plugins do not compile; cargo's messages are above".to_owned());
    }
    let folder = target.join(TARGET).join("plugin");
    Ok(names.iter().map(|name| folder.join(name.replace('-', "_")).with_extension("wasm")).collect())
}

/// Takes away what the build of the host (its flags, clippy's or a coverage tool's wrapper) would change in a plugin.
fn forget_outer_build(cargo: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let is_outer =
            matches!(text, "RUSTFLAGS" | "RUSTC_WRAPPER" | "RUSTC_WORKSPACE_WRAPPER" | "CARGO_INCREMENTAL")
                || ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CLIPPY_"]
                    .iter()
                    .any(|p| text.starts_with(p));
        if is_outer {
            cargo.env_remove(name);
        }
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS);
}
