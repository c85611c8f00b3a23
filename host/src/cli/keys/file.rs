//! The file that `keys_file` names: a YAML list, edited in place, so that what people wrote in it stays.
//!
//! One edit at a time: whoever edits holds a lock on a file beside it. A file is replaced as a whole, so that the gateway
//! and other readers see the one before or the one after; its owner and its mode stay.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::cli::keys::owner;
use crate::config::Key;
use crate::config::check::keys::{list, parse, read_file};
use crate::config::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::config::file::Node;

/// The mode of a new file: its owner's alone.
const MODE: u32 = 0o600;

/// A file of keys that nobody else edits now.
pub(super) struct KeysFile {
    path: PathBuf,
    /// Held until this is dropped.
    _lock: File,
}

impl KeysFile {
    /// Waits for its turn.
    ///
    /// # Errors
    ///
    /// A message when the folder cannot be written to.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        // A link stays a link: what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let beside = beside(&path, "lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(MODE).open(&beside);
        let lock = lock.map_err(|error| format!("{}: {error}", beside.display()))?;
        // Whoever makes it, the owner of the keys has to be able to open it.
        owner::settle(&lock, path.parent().unwrap_or_else(|| Path::new("")));
        lock.lock().map_err(|error| format!("{}: {error}", beside.display()))?;
        Ok(Self { path, _lock: lock })
    }

    /// Adds an entry; the file is made if it is not there.
    ///
    /// # Errors
    ///
    /// A message when there is a key of this name, or the file cannot be read, understood or written.
    pub(super) fn add(&self, name: &str, entry: &str) -> Result<(), String> {
        let text = self.read()?;
        if names(&text)?.iter().any(|known| known == name) {
            return Err(format!("there is a key `{name}` already, in {}", self.path.display()));
        }
        self.write(&with(&text, name, entry)?)
    }

    /// Removes the entry of a name.
    ///
    /// # Errors
    ///
    /// A message when there is none, or the file cannot be read, understood or written.
    pub(super) fn remove(&self, name: &str) -> Result<(), String> {
        let text = self.read()?;
        if !names(&text)?.iter().any(|known| known == name) {
            return Err(format!("there is no key `{name}` in {}", self.path.display()));
        }
        self.write(&without(&text, name)?)
    }

    fn read(&self) -> Result<String, String> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            Ok(_) | Err(_) => read(&self.path),
        }
    }

    fn write(&self, text: &str) -> Result<(), String> {
        let beside = beside(&self.path, "new");
        let fault = |error: std::io::Error| format!("{}: {error}", beside.display());
        // What an edit that was killed left behind.
        let _ = fs::remove_file(&beside);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(MODE).open(&beside).map_err(fault)?;
        let owned = match fs::metadata(&self.path) {
            Ok(replaced) => owner::inherit(&file, &replaced),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                owner::settle(&file, self.path.parent().unwrap_or_else(|| Path::new("")));
                Ok(())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = owned {
            let _ = fs::remove_file(&beside);
            let path = self.path.display();
            return Err(format!("{path} would get another owner or mode: {error}; run this as its owner"));
        }
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fault)?;
        fs::rename(&beside, &self.path).map_err(fault)
    }
}

/// The keys of a file.
///
/// # Errors
///
/// A message with all that is wrong with it.
pub(super) fn keys(path: &Path) -> Result<Vec<Key>, String> {
    let text = read(path)?;
    let (keys, problems) = list_of(&text, &path.display().to_string());
    let is_refused = problems.iter().any(|problem| problem.severity == Severity::Error);
    if is_refused { Err(Diagnostics { all: problems }.to_string()) } else { Ok(keys) }
}

fn list_of(text: &str, name: &str) -> (Vec<Key>, Vec<Diagnostic>) {
    // Which upstreams there are is the configuration's business, and is checked with that.
    let any = upstreams(text);
    list(text, name, &any)
}

fn upstreams(text: &str) -> Vec<String> {
    let Ok(root) = parse(text, &mut Vec::new()) else { return Vec::new() };
    let named = root.items().iter().filter_map(|node| node.get("upstreams")).flat_map(Node::items);
    named.filter_map(|name| name.scalar().map(|name| name.text.clone())).collect()
}

fn read(path: &Path) -> Result<String, String> {
    read_file(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

/// The names of a list's keys, in its order.
fn names(text: &str) -> Result<Vec<String>, String> {
    let items = items(text)?;
    Ok(items.iter().map(|item| name(item).unwrap_or_default().to_owned()).collect())
}

fn name(item: &Node) -> Option<&str> {
    item.get("name")?.scalar().map(|name| name.text.as_str())
}

fn items(text: &str) -> Result<Vec<Node>, String> {
    let root = parse(text, &mut Vec::new())
        .map_err(|problem| format!("line {} of the keys' file: {}", problem.span.line, problem.message))?;
    if root.entries().is_empty() { Ok(root.items().to_vec()) } else { Err(unusual()) }
}

fn unusual() -> String {
    "the keys' file is not a list with one `- ` before each key, on lines of their own; edit it by hand"
        .to_owned()
}

/// The line on which each item begins, counted from 0: where its `- ` stands.
fn first_lines(lines: &[&str], items: &[Node]) -> Result<Vec<usize>, String> {
    let first = |item: &Node| {
        let own = item.span.line - 1;
        // The dash may stand alone, above its key.
        let dash = (own.saturating_sub(1)..=own).rev().find(|line| {
            lines.get(*line).is_some_and(|line| {
                let line = line.trim_start();
                line == "-" || line.starts_with("- ")
            })
        });
        dash.ok_or_else(unusual)
    };
    let lines: Vec<usize> = items.iter().map(first).collect::<Result<_, _>>()?;
    if lines.is_sorted_by(|one, next| one < next) { Ok(lines) } else { Err(unusual()) }
}

/// A list with one entry more, at its end.
fn with(text: &str, new: &str, entry: &str) -> Result<String, String> {
    let items = items(text)?;
    let lines: Vec<&str> = text.lines().collect();
    let indent = match first_lines(&lines, &items)?.first() {
        Some(line) => lines[*line].split('-').next().unwrap_or_default(),
        None => "",
    };
    let mut edited: String = match items.is_empty() {
        // Of a list without a key only the comments are kept, as `[]` cannot be.
        true => lines.iter().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect(),
        false => text.to_owned(),
    };
    if !edited.is_empty() && !edited.ends_with('\n') {
        edited.push('\n');
    }
    edited.push_str(&format!("{indent}- {entry}\n"));
    let expected = items.iter().filter_map(name).chain([new]);
    if names(&edited)?.iter().map(String::as_str).eq(expected) { Ok(edited) } else { Err(unusual()) }
}

/// A list without the entries of a name; comments above other entries stay.
fn without(text: &str, gone: &str) -> Result<String, String> {
    let items = items(text)?;
    let lines: Vec<&str> = text.lines().collect();
    let firsts = first_lines(&lines, &items)?;
    let mut is_kept = vec![true; lines.len()];
    for (place, item) in items.iter().enumerate() {
        if name(item) != Some(gone) {
            continue;
        }
        let mut end = firsts.get(place + 1).copied().unwrap_or(lines.len());
        let is_comment = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        while end > firsts[place] + 1 && is_comment(lines[end - 1]) {
            end -= 1;
        }
        is_kept[firsts[place]..end].fill(false);
    }
    let kept = lines.iter().zip(is_kept).filter(|(_, is_kept)| *is_kept);
    let edited: String = kept.map(|(line, _)| format!("{line}\n")).collect();
    let expected = items.iter().filter_map(name).filter(|name| *name != gone);
    if names(&edited)?.iter().map(String::as_str).eq(expected) { Ok(edited) } else { Err(unusual()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, added: Option<&str>, removed: Option<&str>) {
        assert_eq!(with(text, "n", "{ name: n }").ok().as_deref(), added);
        assert_eq!(without(text, "a").ok().as_deref(), removed);
    }

    #[test]
    fn what_people_wrote_stays() {
        check("", Some("- { name: n }\n"), Some(""));
        check("[]", Some("- { name: n }\n"), Some("[]\n"));
        check("# ours\n[]\n", Some("# ours\n- { name: n }\n"), Some("# ours\n[]\n"));
        check("- { name: a }", Some("- { name: a }\n- { name: n }\n"), Some(""));
        check(
            "# ours\n- name: b # b's\n  tenant: t\n\n# the first\n- name: a\n  models:\n    - x\n\n# theirs\n- name: c\n",
            Some(
                "# ours\n- name: b # b's\n  tenant: t\n\n# the first\n- name: a\n  models:\n    - x\n\n# theirs\n- name: c\n- { name: n }\n",
            ),
            Some("# ours\n- name: b # b's\n  tenant: t\n\n# the first\n\n# theirs\n- name: c\n"),
        );
        check(
            "  - name: a\n  - name: b\n",
            Some("  - name: a\n  - name: b\n  - { name: n }\n"),
            Some("  - name: b\n"),
        );
        check(
            "-\n  name: a\n-\n  name: b\n",
            Some("-\n  name: a\n-\n  name: b\n- { name: n }\n"),
            Some("-\n  name: b\n"),
        );
    }

    #[test]
    fn what_cannot_be_edited_is_left_alone() {
        for text in ["[{ name: a }]", "keys: []", "- [", "[{ name: a }, { name: b }]", "- name: a\n...\n"] {
            assert!(with(text, "n", "{ name: n }").is_err(), "{text}");
        }
    }

    #[test]
    fn edits_at_the_same_time_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let link = folder.path().join("link.yaml");
        let add = |path: &Path, name: String| {
            KeysFile::open(path).unwrap().add(&name, &format!("{{ name: {name} }}")).unwrap();
        };
        add(&path, "first".to_owned());
        std::os::unix::fs::symlink(&path, &link).unwrap();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let path = if number % 2 == 0 { &path } else { &link };
                scope.spawn(move || add(path, format!("k{number}")));
            }
        });
        let mut all = names(&fs::read_to_string(&path).unwrap()).unwrap();
        all.sort();
        let mut expected: Vec<String> =
            (0..16).map(|number| format!("k{number}")).chain(["first".to_owned()]).collect();
        expected.sort();
        assert_eq!(all, expected);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        let file = KeysFile::open(&path).unwrap();
        assert!(file.add("first", "{ name: first }").is_err());
        assert!(file.remove("none").is_err());
        file.remove("first").unwrap();
        assert_eq!(names(&fs::read_to_string(&path).unwrap()).unwrap().len(), 16);
    }

    #[test]
    fn an_edit_keeps_the_owner_and_the_mode() {
        const OTHER: u32 = 65_534;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.yaml");
        let facts = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid(), metadata.mode() & 0o777)
        };
        // Only who runs this as root can give files away; the mode anybody can.
        let is_root = chown(folder.path(), Some(OTHER), Some(OTHER)).is_ok();
        KeysFile::open(&path).unwrap().add("a", "{ name: a }").unwrap();
        let (uid, gid, mode) = facts(&path);
        assert_eq!(mode, MODE);
        assert!(!is_root || (uid, gid) == (OTHER, OTHER), "a new one belongs to whom its folder belongs to");
        if is_root {
            chown(&path, Some(OTHER - 1), Some(OTHER - 2)).unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = facts(&path);
        KeysFile::open(&path).unwrap().add("b", "{ name: b }").unwrap();
        assert_eq!(facts(&path), before);
        KeysFile::open(&path).unwrap().remove("a").unwrap();
        assert_eq!(facts(&path), before);
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_editor(text in "(- |name: |a|b|\\{|\\}|\\[|\\]|#|,|\n|  ){0,40}") {
            let before = names(&text);
            if let Ok(edited) = with(&text, "n", "{ name: n }") {
                prop_assert_eq!(names(&edited).unwrap().len(), before.clone().unwrap().len() + 1);
            }
            if let Ok(edited) = without(&text, "a") {
                prop_assert!(names(&edited).unwrap().iter().all(|name| name != "a"));
            }
        }
    }
}
