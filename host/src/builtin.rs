//! The first-party plugins that are part of the binary: what `source: builtin:<name>` names; and the sources of the SDK, for
//! plugins that are still to be written.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

// `SDK_SOURCES`: the files of the SDK and the contract by their place in a folder of its own. `PLUGIN_LOCK`: a lock file
// with the versions they were tested with.
include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// Returns the component of the plugin that a configuration calls `builtin:<name>`.
pub fn component(name: &str) -> Option<&'static [u8]> {
    BUILTINS.iter().find(|(builtin, _)| *builtin == name).map(|(_, component)| *component)
}

/// Returns the names of all plugins in the binary, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILTINS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use wasmparser::{Parser, Payload, Validator};

    use super::*;

    const SIZE_MAX: usize = 256 * 1024;

    fn exports(component: &[u8]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(component) {
            match payload.expect("a component that was validated can be parsed") {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth -= 1,
                Payload::ComponentExportSection(section) if depth == 0 => {
                    names.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
                }
                _ => {}
            }
        }
        names
    }

    #[test]
    fn every_builtin_is_a_valid_small_component_with_a_lifecycle() {
        assert!(names().count() > 0);
        for name in names() {
            let component = component(name).unwrap();
            assert!(Parser::is_component(component), "{name}");
            Validator::new().validate_all(component).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(component.len() < SIZE_MAX, "{name} has {} bytes", component.len());
            assert!(exports(component).contains("witgate:plugin/lifecycle@0.1.0"), "{name}");
        }
    }

    #[test]
    fn think_strip_exports_the_stream_text_hook() {
        let exports = exports(component("think-strip").unwrap());
        assert!(exports.contains("witgate:plugin/stream-text@0.1.0"), "{exports:?}");
    }

    #[test]
    fn the_sources_of_the_sdk_need_nothing_beside_them() {
        let text = |place| SDK_SOURCES.iter().find(|(known, _)| *known == place).unwrap().1;
        let manifest = text("Cargo.toml");
        assert!(manifest.starts_with("[workspace]") && manifest.contains("path = \"macros\""), "{manifest}");
        assert!(!manifest.contains("dev-dependencies") && !manifest.contains("wasmtime"), "{manifest}");
        assert_eq!(text("wit/plugin.wit"), include_str!("../../wit/plugin.wit"));
        assert!(text("src/lib.rs").contains("pub trait") || text("src/lib.rs").contains("mod hook"));
        assert!(text("macros/src/lib.rs").contains("proc_macro"));
        assert!(
            PLUGIN_LOCK.contains("name = \"wit-bindgen\"") && !PLUGIN_LOCK.contains("name = \"wasmtime\"")
        );
    }

    #[test]
    fn an_unknown_name_has_no_component() {
        assert!(component("think").is_none());
    }
}
