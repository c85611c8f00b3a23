//! Takes the contract along, so that `export!` needs no file where it expands.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::exit;

fn main() {
    if let Err(message) = run() {
        println!("cargo::error={message}");
        exit(1);
    }
}

/// Copies the contract from `wit/` inside the SDK's folder, where a copy of the SDK carries it, or else from beside that
/// folder, where the repository has it.
fn run() -> Result<(), String> {
    let variable =
        |name: &str| env::var_os(name).map(PathBuf::from).expect("cargo sets it for build scripts");
    let macros = variable("CARGO_MANIFEST_DIR");
    let sdk = macros.parent().expect("the macros' folder is inside the SDK's");
    let places = [sdk.join("wit/plugin.wit"), sdk.join("../wit/plugin.wit")];
    for place in &places {
        println!("cargo::rerun-if-changed={}", place.display());
    }
    let contract = places.iter().find(|place| place.is_file()).ok_or_else(|| {
        format!("`plugin.wit` is neither in `wit` inside `{0}` nor beside it", sdk.display())
    })?;
    fs::copy(contract, variable("OUT_DIR").join("plugin.wit"))
        .map_err(|error| format!("cannot copy `{}`: {error}", contract.display()))?;
    Ok(())
}
