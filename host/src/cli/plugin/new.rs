//! `witgate plugin new`: a crate that builds, passes its tests and loads.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::NewArguments;
use super::example::{self, Example};
use crate::builtin::{PLUGIN_LOCK, SDK_SOURCES};
use crate::plugin::hook::Hook;

/// The longest name; what a configuration takes.
const NAME_BYTES_MAX: usize = 64;

/// The width that `cargo fmt` breaks lines at.
const WIDTH: usize = 100;

/// Names that cargo, the language or a dependency has already.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "serde-json",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "witgate-sdk",
    "witgate-sdk-macros",
    "yield",
];

/// Types that stand in the same file as the plugin's own.
const TYPES: &[&str] = &[
    "Config",
    "Default",
    "Deserialize",
    "Events",
    "Hide",
    "Kit",
    "Option",
    "Plugin",
    "Result",
    "Settings",
    "String",
    "Vec",
];

/// Writes a new plugin.
///
/// # Errors
///
/// A message when the name cannot be used, the folder is not empty, the SDK is not there, or a file cannot be written.
pub(super) fn run(arguments: &NewArguments) -> Result<(), String> {
    let name = &*arguments.name;
    check_name(name)?;
    let hooks = hooks(&arguments.hooks);
    let folder = arguments.dir.clone().unwrap_or_else(|| PathBuf::from(name));
    check_folder(&folder)?;
    let sdk = Sdk::of(arguments.sdk.as_deref())?;
    for (place, text) in files(name, &hooks, &sdk) {
        write(&folder.join(place), &text)?;
    }
    let names: Vec<&str> = hooks.iter().map(|hook| hook.name()).collect();
    println!("wrote the plugin `{name}` ({}) to `{}`", names.join(", "), folder.display());
    println!(
        "\nnext:\n  cd {}\n  cargo test\n  witgate plugin build\n  witgate --config witgate.yaml",
        folder.display()
    );
    Ok(())
}

/// Where the SDK comes from.
enum Sdk {
    /// A copy beside the plugin.
    Copy,
    /// A folder of the author's.
    Folder(PathBuf),
    /// A version from the registry.
    Version(String),
}

impl Sdk {
    fn of(given: Option<&str>) -> Result<Self, String> {
        let Some(given) = given else { return Ok(Self::Copy) };
        let folder = Path::new(given);
        if folder.is_dir() {
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
            if !manifest.contains("name = \"witgate-sdk\"") {
                return Err(format!(
                    "`--sdk {given}` is not the folder of `witgate-sdk`: name the one with its `Cargo.toml`"
                ));
            }
            let folder = folder.canonicalize().map_err(|error| format!("`--sdk {given}`: {error}"))?;
            return Ok(Self::Folder(folder));
        }
        let is_version = given.starts_with(|c: char| c.is_ascii_digit())
            && given.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
        match is_version {
            true => Ok(Self::Version(given.to_owned())),
            false => Err(format!("`--sdk {given}` is neither a folder nor a version such as `0.1.0`")),
        }
    }

    /// What the manifest says.
    fn dependency(&self) -> String {
        match self {
            Self::Copy => "{ path = \"sdk\" }".to_owned(),
            Self::Folder(folder) => format!("{{ path = {:?} }}", folder.display().to_string()),
            Self::Version(version) => format!("{version:?}"),
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_good = name.len() <= NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(is_plain)
        && !name.ends_with('-')
        && !name.contains("--");
    if !is_good {
        return Err(format!(
            "`{}` cannot be the name of a plugin: use at most {NAME_BYTES_MAX} lowercase letters, digits and `-`, like `hide-thinking`",
            name.escape_debug()
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!(
            "`{name}` cannot be the name of a crate, it has a meaning already: try `{name}-plugin`"
        ));
    }
    Ok(())
}

fn check_folder(folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    if folder.exists() && !folder.is_dir() {
        return Err(format!("`{shown}` is a file: name a folder with `--dir`"));
    }
    let is_empty = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    match is_empty {
        true => Ok(()),
        false => Err(format!("the folder `{shown}` is not empty: name another one with `--dir`")),
    }
}

/// The hooks by name, in the order an exchange meets them, each once.
fn hooks(names: &[String]) -> Vec<Hook> {
    let hooks: Vec<Hook> =
        Hook::ALL.into_iter().filter(|hook| names.iter().any(|name| name == hook.name())).collect();
    if hooks.is_empty() { vec![Hook::OnRequest] } else { hooks }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
    written.map_err(|error| format!("`{}` cannot be written: {error}", path.display()))
}

/// All files of a new plugin.
fn files(name: &str, hooks: &[Hook], sdk: &Sdk) -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = [
        ("Cargo.toml", manifest(name, sdk)),
        ("rust-toolchain.toml", "[toolchain]\ntargets = [\"wasm32-wasip2\"]\n".to_owned()),
        (".cargo/config.toml", CARGO_CONFIG.to_owned()),
        (".rustfmt.toml", "use_small_heuristics = \"Max\"\n".to_owned()),
        (".gitignore", "/target\n/*.wasm\n/witgate-data\n".to_owned()),
        ("src/lib.rs", library(name, hooks)),
        ("README.md", readme(name, hooks)),
        ("witgate.yaml", configuration(name, hooks)),
        ("request.json", REQUEST.to_owned()),
    ]
    .map(|(place, text)| (place.into(), text))
    .into();
    if let Sdk::Copy = sdk {
        files.extend(
            SDK_SOURCES.iter().map(|(place, text)| (Path::new("sdk").join(place), (*text).to_owned())),
        );
        files.push(("Cargo.lock".into(), PLUGIN_LOCK.to_owned()));
    }
    files
}

const CARGO_CONFIG: &str = "\
# A small stack keeps the plugin's data in the lowest pages of its memory, which the gateway keeps resident.
[target.wasm32-wasip2]
rustflags = [\"-Clink-arg=-zstack-size=65536\"]
";

const REQUEST: &str = r#"{
  "model": "echo",
  "stream": true,
  "messages": [{ "role": "user", "content": "Tell me a secret." }]
}
"#;

fn manifest(name: &str, sdk: &Sdk) -> String {
    // The copy of the SDK is a workspace of its own.
    let exclude = if let Sdk::Copy = sdk { "exclude = [\"sdk\"]\n" } else { "" };
    let sdk = sdk.dependency();
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"
description = "A plugin for witgate"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
serde = {{ version = "1", features = ["derive"] }}
witgate-sdk = {sdk}

[dev-dependencies]
serde_json = "1"

# A plugin is loaded into memory for every exchange: size comes first.
[profile.release]
opt-level = "s"
lto = true
codegen-units = 1
panic = "abort"
strip = true

[workspace]
{exclude}"#
    )
}

fn library(name: &str, hooks: &[Hook]) -> String {
    let examples: Vec<&Example> = hooks.iter().map(|hook| example::of(*hook)).collect();
    let mut imports = vec!["Config", "Plugin", "export"];
    imports.extend(examples.iter().flat_map(|example| example.imports));
    let type_name = type_name(name, &imports);
    let mut code = format!(
        "//! The plugin `{name}`: change what the hooks below do.\n\nuse serde::Deserialize;\n{}\n",
        import("witgate_sdk", "", imports)
    );
    let joined = |of: fn(&Example) -> String| examples.iter().map(|example| of(example)).collect::<String>();
    write!(
        code,
        "\
/// What the operator writes under `config`.
#[derive(Config, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {{
{}}}

impl Default for Settings {{
    fn default() -> Self {{
        {}
    }}
}}

struct {type_name} {{
    settings: Settings,
}}

impl Plugin for {type_name} {{
    type Config = Settings;
    fn new(settings: Settings) -> Result<Self, String> {{
{}        Ok(Self {{ settings }})
    }}
}}
{}
export!({type_name}: {});

#[cfg(test)]
mod tests {{
    use serde_json::json;
    {}
    use super::*;
{}}}
",
        joined(|example| example.setting.field.to_owned()),
        defaults(&examples),
        joined(|example| example.setting.check.to_owned()),
        joined(|example| example.code.to_owned()).replace('$', &type_name),
        hooks.iter().map(|hook| example::trait_of(*hook)).collect::<Vec<_>>().join(", "),
        import(
            "witgate_sdk::testkit",
            "    ",
            ["Kit"]
                .into_iter()
                .chain(examples.iter().flat_map(|example| example.test_imports.iter().copied()))
                .collect()
        ),
        joined(|example| example.tests.to_owned()).replace('$', &type_name),
    )
    .expect("a String takes all");
    code
}

/// The default of every setting.
fn defaults(examples: &[&Example]) -> String {
    let fields: Vec<String> = examples
        .iter()
        .map(|example| format!("{}: {}", example.setting.name, example.setting.default))
        .collect();
    let line = format!("Self {{ {} }}", fields.join(", "));
    if "        ".len() + line.len() <= WIDTH {
        return line;
    }
    format!("Self {{\n            {},\n        }}", fields.join(",\n            "))
}

/// A `use` of sorted names, as `cargo fmt` writes it, with an empty line behind.
fn import(module: &str, indent: &str, mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    if let [name] = names[..] {
        return format!("use {module}::{name};\n");
    }
    let line = format!("use {module}::{{{}}};\n", names.join(", "));
    if indent.len() + line.len() <= WIDTH + 1 {
        return line;
    }
    let mut lines = format!("use {module}::{{\n");
    let mut line = format!("{indent}   ");
    for name in names {
        if line.len() + name.len() + 2 > WIDTH {
            writeln!(lines, "{line}").expect("a String takes all");
            line = format!("{indent}   ");
        }
        write!(line, " {name},").expect("a String takes all");
    }
    format!("{lines}{line}\n{indent}}};\n")
}

/// The plugin's type: its name in capitals, unless something else in the file has that name.
fn type_name(name: &str, imports: &[&str]) -> String {
    let words = name.split('-').map(|word| word[..1].to_ascii_uppercase() + &word[1..]);
    let type_name: String = words.collect();
    let is_taken = TYPES.contains(&&*type_name) || imports.contains(&&*type_name);
    if is_taken { type_name + "Plugin" } else { type_name }
}

fn readme(name: &str, hooks: &[Hook]) -> String {
    let mut text = format!(
        "\
# {name}

A plugin for the gateway witgate.

```sh
cargo test                       # runs it natively
witgate plugin build             # writes {name}.wasm
witgate --config witgate.yaml    # serves with it; a new {name}.wasm is taken over while it runs
```

`witgate plugin run {name}.wasm --request request.json` shows what one request becomes.

| key of `config` | default | what it is |
|---|---|---|
"
    );
    for Example { setting, .. } in hooks.iter().map(|hook| example::of(*hook)) {
        let comment =
            setting.field.lines().find_map(|line| line.trim().strip_prefix("/// ")).unwrap_or_default();
        writeln!(text, "| `{}` | `{}` | {comment} |", setting.name, setting.json)
            .expect("a String takes all");
    }
    text
}

fn configuration(name: &str, hooks: &[Hook]) -> String {
    let mut text = format!(
        "\
# Serves with the plugin: witgate --config witgate.yaml
upstreams:
  - name: echo
    base_url: builtin:echo # answers with the question; needs no key and no network
plugins:
  - name: {name}
    source: {name}.wasm # from `witgate plugin build`
    config:
"
    );
    for Example { setting, .. } in hooks.iter().map(|hook| example::of(*hook)) {
        writeln!(text, "      {}: {}", setting.name, setting.json).expect("a String takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::env::Environment;
    use crate::config::{Overrides, load_text};

    #[track_caller]
    fn check(name: &str, message: &str) {
        let found = check_name(name).unwrap_err();
        assert!(found.contains(message), "{found}");
    }

    #[test]
    fn a_name_has_to_do_as_a_crate_and_as_a_plugin() {
        for name in ["a", "hide-thinking", "v2", &"a".repeat(NAME_BYTES_MAX)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in
            ["", "-a", "a-", "a--b", "A", "a_b", "2a", "a b", "ä", "../a", &"a".repeat(NAME_BYTES_MAX + 1)]
        {
            check(name, "cannot be the name of a plugin");
        }
        check("serde", "try `serde-plugin`");
        check("fn", "try `fn-plugin`");
        assert!(TAKEN.is_sorted());
    }

    #[test]
    fn a_type_does_not_clash_with_what_is_imported() {
        assert_eq!(type_name("hide-thinking2", &[]), "HideThinking2");
        assert_eq!(type_name("call", &["Call"]), "CallPlugin");
        assert_eq!(type_name("plugin", &[]), "PluginPlugin");
    }

    #[test]
    fn imports_are_written_as_the_formatter_does() {
        assert_eq!(import("a", "", vec!["B"]), "use a::B;\n");
        assert_eq!(import("a", "", vec!["c", "B", "c"]), "use a::{B, c};\n");
        let long: Vec<String> = (10..40).map(|n| format!("N{n}")).collect();
        let text = import("a", "", long.iter().map(String::as_str).collect());
        assert!(text.lines().all(|line| line.len() <= WIDTH) && text.ends_with(",\n};\n"), "{text}");
    }

    #[test]
    fn every_hook_has_an_example_that_fits() {
        for hook in Hook::ALL {
            let example = example::of(hook);
            assert!(example.imports.contains(&example::trait_of(hook)));
            assert!(example.tests.contains("#[test]"), "{}", hook.name());
            let code = library("hello", &[hook]);
            assert!(code.contains(&format!("export!(Hello: {});", example::trait_of(hook))), "{code}");
            assert!(!code.contains('$'), "{code}");
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("hello.wasm"), "").unwrap();
            let (text, path) = (configuration("hello", &[hook]), folder.path().join("witgate.yaml"));
            let loaded = load_text(&text, &path, &Environment::default(), &Overrides::default());
            let plugin = &loaded.unwrap().0.plugins[0];
            assert!(plugin.config.contains(example.setting.name));
        }
    }

    #[test]
    fn hooks_come_in_the_order_of_an_exchange_and_once() {
        let names = ["on-error", "on-request", "on-error"].map(str::to_owned);
        assert_eq!(hooks(&names), [Hook::OnRequest, Hook::OnError]);
        assert_eq!(hooks(&[]), [Hook::OnRequest]);
    }

    #[test]
    fn only_an_empty_folder_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_folder(folder.path()), Ok(()));
        assert_eq!(check_folder(&folder.path().join("new")), Ok(()));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(check_folder(folder.path()).unwrap_err().contains("not empty"));
        assert!(check_folder(&file).unwrap_err().contains("is a file"));
    }

    #[test]
    fn the_sdk_is_a_copy_a_folder_or_a_version() {
        assert_eq!(Sdk::of(None).unwrap().dependency(), "{ path = \"sdk\" }");
        assert_eq!(Sdk::of(Some("0.1")).unwrap().dependency(), "\"0.1\"");
        assert!(Sdk::of(Some("../sdk")).unwrap().dependency().contains("sdk\""));
        assert!(Sdk::of(Some("src")).err().unwrap().contains("not the folder of `witgate-sdk`"));
        assert!(Sdk::of(Some("nowhere")).err().unwrap().contains("neither a folder nor a version"));
    }
}
