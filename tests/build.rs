//! Compiles the test plugins, and says by `env!` where they are: `FAULTY_WASM`, `PROBE_WASM`.

use std::process::exit;

#[path = "../host/build/compile.rs"]
mod compile;

use compile::{compile, path_variable, require_target, target_folder};

const PLUGINS: [&str; 2] = ["faulty", "probe"];

fn main() {
    if let Err(message) = run() {
        println!("cargo::error={message}");
        exit(1);
    }
}

fn run() -> Result<(), String> {
    let root =
        path_variable("CARGO_MANIFEST_DIR").parent().expect("tests/ is a folder of the workspace").to_owned();
    for input in ["tests/plugins", "tests/build.rs", "host/build", "wit", "sdk", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    require_target(&root)?;
    let target = target_folder(&path_variable("OUT_DIR")).join("plugins");
    let components = compile(&root, &PLUGINS.map(str::to_owned), &target)?;
    for (name, component) in PLUGINS.iter().zip(&components) {
        println!("cargo::rustc-env={}_WASM={}", name.to_uppercase(), component.display());
    }
    Ok(())
}
