//! The contract, `wit/plugin.wit`: where it is, and the types of a component that has some of its hooks.

use std::path::{Path, PathBuf};

use wit_component::StringEncoding;
use wit_component::metadata::encode;
use wit_parser::Resolve;

/// The name of the contract's file in its folder.
const FILE: &str = "plugin.wit";

/// The contract as it lies on disk.
pub(crate) struct Contract {
    /// The folder of the file.
    pub(crate) folder: PathBuf,
    text: String,
}

impl Contract {
    /// Reads the contract from `wit/` inside the SDK's folder, where a copy of the SDK carries it, or else beside that
    /// folder, where the repository has it.
    pub(crate) fn read() -> Result<Self, String> {
        let sdk =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the macros' folder is inside the SDK's");
        let beside = sdk.parent().unwrap_or(sdk).join("wit");
        let folder =
            [sdk.join("wit"), beside].into_iter().find(|folder| folder.join(FILE).is_file()).ok_or_else(
                || format!("`{FILE}` is neither in `wit` inside `{0}` nor beside it", sdk.display()),
            )?;
        let text = std::fs::read_to_string(folder.join(FILE))
            .map_err(|error| format!("cannot read `{}`: {error}", folder.join(FILE).display()))?;
        Ok(Self { folder, text })
    }

    /// The version in the contract's `package` line.
    pub(crate) fn version(&self) -> Result<&str, String> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix("package witgate:plugin@")?.strip_suffix(';'))
            .ok_or_else(|| format!("`{FILE}` has no line `package witgate:plugin@VERSION;`"))
    }

    /// The interfaces that the world `all-hooks` exports, in order.
    #[cfg(test)]
    pub(crate) fn hooks(&self) -> Vec<&str> {
        let (_, world) = self.text.split_once("world all-hooks {").expect("the contract has it");
        let lines = world.lines().take_while(|line| *line != "}");
        lines.filter_map(|line| line.trim().strip_prefix("export ")?.strip_suffix(';')).collect()
    }

    /// Encodes the types of a component that exports `lifecycle` and these hooks, for the linker.
    pub(crate) fn component_type(&self, interfaces: &[&str]) -> Result<Vec<u8>, String> {
        let version = self.version()?;
        let mut world = String::from("package witgate:component;\nworld plugin {\n");
        for interface in ["lifecycle"].iter().chain(interfaces) {
            world.push_str(&format!("  export witgate:plugin/{interface}@{version};\n"));
        }
        world.push_str("}\n");
        let mut resolve = Resolve::default();
        let text = |error| format!("the contract cannot be used: {error:#}");
        resolve.push_str(FILE, &self.text).map_err(text)?;
        let package = resolve.push_str("component.wit", &world).map_err(text)?;
        let world = resolve.select_world(&[package], None).map_err(text)?;
        encode(&resolve, world, StringEncoding::UTF8, None).map_err(text)
    }
}
