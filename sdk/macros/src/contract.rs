//! The contract, `wit/plugin.wit`, and the types of a component that has some of its hooks.

use wit_component::StringEncoding;
use wit_component::metadata::encode;
use wit_parser::Resolve;

/// The contract's text, as the build script found it.
const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/plugin.wit"));

/// Returns the version in the contract's `package` line.
pub(crate) fn version() -> Result<&'static str, String> {
    TEXT.lines()
        .find_map(|line| line.strip_prefix("package witgate:plugin@")?.strip_suffix(';'))
        .ok_or_else(|| "`plugin.wit` has no line `package witgate:plugin@VERSION;`".to_owned())
}

/// Encodes the types of a component that exports `lifecycle` and these hooks, for the linker.
pub(crate) fn component_type(interfaces: &[&str]) -> Result<Vec<u8>, String> {
    let version = version()?;
    let mut world = String::from("package witgate:component;\nworld plugin {\n");
    for interface in ["lifecycle"].iter().chain(interfaces) {
        world.push_str(&format!("  export witgate:plugin/{interface}@{version};\n"));
    }
    world.push_str("}\n");
    let mut resolve = Resolve::default();
    let wrong = |error| format!("the contract cannot be used: {error:#}");
    resolve.push_str("plugin.wit", TEXT).map_err(wrong)?;
    let package = resolve.push_str("component.wit", &world).map_err(wrong)?;
    let world = resolve.select_world(&[package], None).map_err(wrong)?;
    encode(&resolve, world, StringEncoding::UTF8, None).map_err(wrong)
}

/// Returns the interfaces that the world `all-hooks` exports, in order.
#[cfg(test)]
pub(crate) fn hooks() -> Vec<&'static str> {
    let (_, world) = TEXT.split_once("world all-hooks {").expect("the contract has it");
    let lines = world.lines().take_while(|line| *line != "}");
    lines.filter_map(|line| line.trim().strip_prefix("export ")?.strip_suffix(';')).collect()
}
