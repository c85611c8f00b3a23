//! Compiles every folder of `plugins/` to a component and writes the table that `builtin.rs` embeds.
//!
//! A folder's name is its package's name and, after `builtin:`, what a configuration calls it. Beside them it embeds the
//! sources of the SDK and the contract, which `witgate plugin new` writes beside a new plugin.

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
    embed(&names, &components, &out)?;
    embed_sdk(&root, &out)
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

/// Writes the table of the SDK's files, as a folder that needs nothing beside it: with the contract, a workspace of its own
/// and a lock file for a plugin.
fn embed_sdk(root: &Path, out: &Path) -> Result<(), String> {
    let mut files = vec![root.join("wit/plugin.wit"), root.join("sdk/macros/Cargo.toml")];
    let optional = ["README.md", "CHANGELOG.md", "build.rs", "macros/build.rs"];
    for file in optional.map(|name| root.join("sdk").join(name)) {
        files.extend(file.is_file().then_some(file));
    }
    for folder in ["sdk/src", "sdk/macros/src"] {
        list_files(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut table = String::from("pub static SDK_SOURCES: &[(&str, &str)] = &[\n");
    for file in &files {
        let place = file.strip_prefix(root.join("sdk")).or_else(|_| file.strip_prefix(root));
        let place = place.expect("all of them are in the workspace").display().to_string();
        writeln!(table, "    ({place:?}, include_str!({file:?})),").expect("a string takes all text");
    }
    let (manifest, lock) = (sdk_manifest(root)?, plugin_lock(root)?);
    writeln!(table, "    (\"Cargo.toml\", {manifest:?}),\n];").expect("a string takes all text");
    writeln!(table, "pub static PLUGIN_LOCK: &str = {lock:?};").expect("a string takes all text");
    fs::write(out.join("sdk.rs"), table)
        .map_err(|error| format!("cannot write the table of sources: {error}"))
}

fn list_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error| format!("cannot read `{}`: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_dir() {
            list_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

/// The SDK's manifest with what it inherits from this workspace; its tests stay here.
fn sdk_manifest(root: &Path) -> Result<String, String> {
    let (own, macros) = (read(&root.join("sdk/Cargo.toml"))?, read(&root.join("sdk/macros/Cargo.toml"))?);
    let workspace = read(&root.join("Cargo.toml"))?;
    let mut manifest = String::from("[workspace]\nresolver = \"3\"\nmembers = [\"macros\"]\n\n");
    for table in tables(&workspace) {
        let is_inherited =
            ["[workspace.package]", "[workspace.lints."].iter().any(|name| table.starts_with(name));
        if is_inherited {
            manifest.push_str(table);
        } else if table.starts_with("[workspace.dependencies]") {
            let is_used = |line: &&str| {
                let name = line.split(' ').next().unwrap_or_default();
                [&own, &macros].iter().any(|manifest| {
                    manifest.lines().any(|line| {
                        line.strip_prefix(name)
                            .is_some_and(|rest| rest.starts_with('.') || rest.starts_with(' '))
                    })
                })
            };
            manifest.push_str("[workspace.dependencies]\n");
            for line in table.lines().skip(1).filter(is_used) {
                manifest.push_str(&line.replace("\"sdk/macros\"", "\"macros\"").replace("\"sdk\"", "\".\""));
                manifest.push('\n');
            }
            manifest.push('\n');
        }
    }
    tables(&own)
        .iter()
        .filter(|table| !table.starts_with("[dev-dependencies]"))
        .for_each(|table| manifest.push_str(table));
    Ok(manifest)
}

/// Splits a manifest before each table.
fn tables(manifest: &str) -> Vec<&str> {
    let starts = manifest.match_indices("\n[").map(|(at, _)| at + 1);
    let cuts: Vec<usize> = [0].into_iter().chain(starts).chain([manifest.len()]).collect();
    cuts.windows(2).map(|cut| &manifest[cut[0]..cut[1]]).collect()
}

/// The packages of the lock file that a new plugin depends on: it builds with the versions that were tested here. Cargo adds
/// the plugin itself, and takes out what it does not need.
fn plugin_lock(root: &Path) -> Result<String, String> {
    let lock = root.join("Cargo.lock");
    let lock = if lock.is_file() { read(&lock)? } else { return Ok(String::new()) };
    let mut blocks = lock.split("\n[[package]]\n");
    let mut pruned = format!("{}\n", blocks.next().unwrap_or_default());
    let packages: Vec<&str> = blocks.collect();
    let value = |block: &str, key: &str| {
        let line =
            block.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
        line.unwrap_or_default().to_owned()
    };
    let mut wanted: Vec<String> = ["witgate-sdk", "serde", "serde_json"].map(str::to_owned).to_vec();
    let mut kept = Vec::new();
    while let Some(name) = wanted.pop() {
        for (place, block) in packages.iter().enumerate() {
            let is_meant = match name.split_once(' ') {
                Some((name, version)) => {
                    value(block, "name") == name
                        && version.split(' ').next() == Some(&value(block, "version"))
                }
                None => value(block, "name") == name,
            };
            if !is_meant || kept.contains(&place) {
                continue;
            }
            kept.push(place);
            let depended = block.lines().filter_map(|line| line.strip_prefix(" \"")?.strip_suffix("\","));
            wanted.extend(depended.map(str::to_owned));
        }
    }
    kept.sort_unstable();
    for place in kept {
        write!(pruned, "\n[[package]]\n{}\n", packages[place].trim_end()).expect("a string takes all text");
    }
    Ok(pruned)
}
