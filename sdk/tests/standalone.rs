//! `standalone.toml` says what the repository's manifest says, so that a copy of the SDK is built of the same crates.

const REPOSITORY: &str = include_str!("../../Cargo.toml");
const STANDALONE: &str = include_str!("../standalone.toml");

/// The lines of a table, in order.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    let lines = manifest.lines().skip_while(|line| *line != name).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter(|line| line.contains(" = ")).collect()
}

#[test]
fn versions_are_those_of_the_repository() {
    assert_eq!(table(STANDALONE, "[workspace.package]"), table(REPOSITORY, "[workspace.package]"));
    let known = table(REPOSITORY, "[workspace.dependencies]");
    let (macros, others): (Vec<&str>, Vec<&str>) =
        table(STANDALONE, "[workspace.dependencies]").into_iter().partition(|line| line.contains("path = "));
    assert_eq!(macros.len(), 1);
    assert!(!others.is_empty());
    for line in others {
        assert!(known.contains(&line), "`{line}` is not what the repository's Cargo.toml says");
    }
}

#[test]
fn every_dependency_is_there() {
    let manifests = [include_str!("../Cargo.toml"), include_str!("../macros/Cargo.toml")];
    let names = manifests.iter().flat_map(|manifest| manifest.lines()).filter_map(|line| {
        let (name, rest) = line.split_once([' ', '.'])?;
        rest.contains("workspace = true").then_some(name)
    });
    let known =
        [table(STANDALONE, "[workspace.package]"), table(STANDALONE, "[workspace.dependencies]")].concat();
    for name in names {
        let is_known = known.iter().any(|line| line.split(' ').next() == Some(name));
        assert!(is_known, "`{name}` is missing in standalone.toml");
    }
}
