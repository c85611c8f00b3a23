//! `witgate plugin build`: cargo, and what came of it.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{about, read};
use crate::plugin::about::About;

const TARGET: &str = "wasm32-wasip2";

/// A small stack keeps a plugin's data in the lowest pages of its memory, which the host keeps resident.
const STACK: &str = "target.wasm32-wasip2.rustflags = [\"-Clink-arg=-zstack-size=65536\"]";

/// Compiles the crate in a folder, puts the component where it is wanted, and says how to load it.
///
/// # Errors
///
/// A message when there is no crate, no cargo or no target, the crate does not compile, or what it makes is no plugin.
pub(super) fn run(folder: &Path, out: Option<&Path>) -> Result<(), String> {
    if !folder.join("Cargo.toml").is_file() {
        return Err(format!(
            "there is no `Cargo.toml` in `{}`: name the plugin's folder, or make one with `witgate plugin new NAME`",
            folder.display()
        ));
    }
    require_target(folder)?;
    let built = compile(folder)?;
    let bytes = read(&built)?;
    let about =
        About::of(&bytes).map_err(|problem| format!("`{}` is no plugin: {problem}", built.display()))?;
    let name = about.manifest.name.clone().unwrap_or_else(|| stem(&built));
    let file = PathBuf::from(format!("{name}.wasm"));
    let beside = if folder == Path::new(".") { file } else { folder.join(file) };
    let out = out.map_or(beside, Path::to_owned);
    put(&bytes, &out)?;
    print!("{}", about::describe(&out.display().to_string(), &about));
    let place = out.canonicalize().unwrap_or(out);
    println!("\nto load it, add to the configuration:\n\n{}", yaml(&name, &place, &about));
    Ok(())
}

/// The lines that load a plugin.
fn yaml(name: &str, place: &Path, about: &About) -> String {
    let mut lines = format!("plugins:\n  - name: {name}\n    source: {}\n", place.display());
    let grants = about.grants();
    if !grants.is_empty() {
        lines.push_str(&format!("    allow: {{ {} }}\n", grants.join(", ")));
    }
    lines
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().replace('_', "-")
}

/// Writes beside the place and then takes it, so that a gateway that watches the file never reads half of it.
fn put(bytes: &[u8], out: &Path) -> Result<(), String> {
    let beside = out.with_extension("wasm.new");
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, out));
    written.map_err(|error| {
        format!("`{}` cannot be written: {error}; name another place with `--out`", out.display())
    })
}

/// Adds the target where rustup's automatic installation is off.
fn require_target(folder: &Path) -> Result<(), String> {
    if has_target(folder)? {
        return Ok(());
    }
    eprintln!("adding the target `{TARGET}`");
    let _ = Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).status();
    match has_target(folder)? {
        true => Ok(()),
        false => Err(format!("a plugin needs the target `{TARGET}`: run `rustup target add {TARGET}`")),
    }
}

fn has_target(folder: &Path) -> Result<bool, String> {
    let printed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .output();
    let printed = printed.map_err(|error| missing("rustc", &error))?;
    Ok(Path::new(String::from_utf8_lossy(&printed.stdout).trim()).is_dir())
}

fn missing(program: &str, error: &std::io::Error) -> String {
    format!("`{program}` cannot be run ({error}): install Rust from https://rustup.rs, then try again")
}

/// Runs cargo, whose messages go to standard error, and returns the component it made.
fn compile(folder: &Path) -> Result<PathBuf, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(folder)
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    // Given twice, the flag would make cargo compile everything again.
    let own = fs::read_to_string(folder.join(".cargo/config.toml")).unwrap_or_default();
    if !own.contains("stack-size") {
        cargo.args(["--config", STACK]);
    }
    let mut running = cargo.spawn().map_err(|error| missing("cargo", &error))?;
    let printed = running.stdout.take().expect("it was asked for");
    let manifest = folder.join("Cargo.toml").canonicalize().map_err(|error| error.to_string())?;
    let lines = BufReader::new(printed).lines().map_while(Result::ok);
    let made: Vec<PathBuf> = lines.filter_map(|line| component_of(&line, &manifest)).collect();
    let ended = running.wait().map_err(|error| format!("cargo was lost: {error}"))?;
    if !ended.success() {
        return Err("the plugin does not compile; cargo's messages are above".to_owned());
    }
    made.into_iter().next().ok_or_else(|| {
        "the crate made no component: set `crate-type = [\"cdylib\"]` under `[lib]` in its `Cargo.toml`"
            .to_owned()
    })
}

/// The component in a line of cargo's, if it is that of the crate with this manifest.
///
/// Source: the Cargo Book, "External tools", JSON messages.
fn component_of(line: &str, manifest: &Path) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_meant = message["reason"] == "compiler-artifact"
        && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
    if !is_meant {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn the_component_is_the_one_of_the_crate() {
        let line = |reason: &str, manifest: &str, file: &str| {
            format!(r#"{{"reason":"{reason}","manifest_path":"{manifest}","filenames":["/t/a.d","{file}"]}}"#)
        };
        let found = |line: &str| component_of(line, Path::new("/a/Cargo.toml"));
        let component = line("compiler-artifact", "/a/Cargo.toml", "/t/a.wasm");
        assert_eq!(found(&component), Some("/t/a.wasm".into()));
        assert_eq!(found(&line("compiler-artifact", "/b/Cargo.toml", "/t/a.wasm")), None);
        assert_eq!(found(&line("build-script-executed", "/a/Cargo.toml", "/t/a.wasm")), None);
        assert_eq!(found(&line("compiler-artifact", "/a/Cargo.toml", "/t/liba.rlib")), None);
        assert_eq!(found("warning: something"), None);
    }

    #[test]
    fn the_lines_that_load_a_plugin_have_its_grants() {
        let mut about = About::of(builtin::component("think-strip").unwrap()).unwrap();
        let lines = "plugins:\n  - name: a\n    source: /a.wasm\n";
        assert_eq!(yaml("a", Path::new("/a.wasm"), &about), lines);
        about.imports[0].grant = Some("kv: 1MiB");
        assert_eq!(yaml("a", Path::new("/a.wasm"), &about), format!("{lines}    allow: {{ kv: 1MiB }}\n"));
    }

    #[test]
    fn a_folder_without_a_crate_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(run(folder.path(), None).unwrap_err().contains("witgate plugin new"));
    }
}
