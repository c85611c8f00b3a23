//! Compiles every folder of `plugins/` to a component and writes the table that `builtin.rs` embeds.
//!
//! A folder's name is its package's name and, after `builtin:`, what a configuration calls it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::exit;

use compile::{compile, path_variable, require_target, target_folder};

#[path = "build/compile.rs"]
mod compile;

fn main() {
    if let Err(message) = run() {
        println!("cargo::error={message}");
        exit(1);
    }
}

fn run() -> Result<(), String> {
    let root =
        path_variable("CARGO_MANIFEST_DIR").parent().expect("host/ is a folder of the workspace").to_owned();
    let out = path_variable("OUT_DIR");
    for input in ["plugins", "wit", "sdk", "Cargo.toml", "Cargo.lock", "host/build.rs", "host/build"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let names = plugin_names(&root.join("plugins"))?;
    require_target(&root)?;
    let components = compile(&root, &names, &target_folder(&out).join("plugins"))?;
    embed(&names, &components, &out)
}

fn plugin_names(folder: &Path) -> Result<Vec<String>, String> {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("cannot read `{}`: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Copies the components beside the table, so that a later build of another profile cannot change them under it.
fn embed(names: &[String], components: &[PathBuf], out: &Path) -> Result<(), String> {
    let mut table = String::from("pub static BUILTINS: &[(&str, &[u8])] = &[\n");
    for (name, component) in names.iter().zip(components) {
        let copy = out.join(name).with_extension("wasm");
        fs::copy(component, &copy)
            .map_err(|error| format!("no component `{}`: {error}", component.display()))?;
        writeln!(table, "    ({name:?}, include_bytes!({copy:?})),").expect("a string takes all text");
    }
    table.push_str("];\n");
    fs::write(out.join("builtin.rs"), table)
        .map_err(|error| format!("cannot write the table of plugins: {error}"))
}
