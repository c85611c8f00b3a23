//! The file that keeps the counts over a restart.
//!
//! It is written beside and renamed, so that it is whole at any time. Of several processes that have it in common one
//! writes it: each would wipe out what the others have written. One that cannot be read is put aside, and counting
//! begins anew: a gateway that does not start would be worse.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limit::local::{Count, METERS_MAX};
use crate::limit::meter::Span;

/// The name of the file, beside that of the audit.
const NAME: &str = "witgate-limits.json";
/// The only form there is yet.
const VERSION: u32 = 1;
/// A larger file was not written by a gateway, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// The right to write a file, which one process has until it is dropped.
pub(crate) struct Hold {
    path: PathBuf,
    /// Locked, beside the file: that one is another file each time it is written.
    _lock: fs::File,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    meters: Vec<Meter>,
}

#[derive(Serialize, Deserialize)]
struct Meter {
    id: String,
    span: String,
    /// The number of each slot that is not empty, and what was counted in it.
    slots: Vec<(u64, u64)>,
}

/// Where the counts are kept: in the folder of the audit, whether that is on or not.
pub(crate) fn path(audit: &Path) -> PathBuf {
    audit.with_file_name(NAME)
}

/// Reads what was counted; nothing where there is no file.
///
/// # Errors
///
/// The file cannot be read, or is none of these. Blocks.
pub(crate) fn read(path: &Path) -> io::Result<Vec<(Arc<str>, Count)>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut text)?;
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let File { version, meters } = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    if version != VERSION {
        return Err(wrong(format!("its version is {version}, not {VERSION}")));
    }
    let counts = meters.into_iter().take(METERS_MAX).map(|meter| {
        let span = Span::parse(&meter.span).ok_or_else(|| wrong(format!("`{}` is no span", meter.span)))?;
        Ok((meter.id.into(), Count::with_slots(span, &meter.slots)))
    });
    counts.collect()
}

/// Puts a file aside that cannot be read; says where it is then.
///
/// # Errors
///
/// It cannot be renamed. Blocks.
pub(crate) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("json.damaged");
    fs::rename(path, &aside)?;
    Ok(aside)
}

impl Hold {
    /// Takes the right to write this file.
    ///
    /// # Errors
    ///
    /// Another process has it, or the folder cannot be made or written. Blocks.
    pub(crate) fn on(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension("json.lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another gateway writes it, give each a folder of its own by `audit.path`",
            )),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether it is the right to write this one.
    pub(crate) fn is_of(&self, path: &Path) -> bool {
        self.path == path
    }

    /// Writes the counts in place of those that were written before.
    ///
    /// # Errors
    ///
    /// The folder cannot be written; the file is as it was. Blocks.
    pub(crate) fn write(&self, counts: Vec<(Arc<str>, Count)>) -> io::Result<()> {
        let meters = counts
            .into_iter()
            .map(|(id, count)| Meter {
                id: id.to_string(),
                span: count.span.label(),
                slots: count.slots().collect(),
            })
            .collect();
        let beside = self.path.with_extension("json.new");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let mut file = BufWriter::new(file);
        serde_json::to_writer(&mut file, &File { version: VERSION, meters })?;
        file.flush()?;
        file.get_ref().sync_data()?;
        fs::rename(&beside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counts() -> Vec<(Arc<str>, Count)> {
        let window = Span::Window(Duration::from_secs(60));
        vec![
            ("key:a/requests/60s".into(), Count::with_slots(window, &[(3, 4), (5, 6)])),
            ("key:\"ü\"/tokens/day".into(), Count::with_slots(Span::Day, &[(7, 8)])),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("new/record.db"));
        assert_eq!(path, folder.path().join("new").join(NAME));
        assert_eq!(read(&path).unwrap(), []);
        let hold = Hold::on(&path).unwrap();
        hold.write(counts()).unwrap();
        assert_eq!(read(&path).unwrap(), counts());
        hold.write(Vec::new()).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 2, "nothing but the lock is left beside it");
    }

    #[test]
    fn one_writes_it_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let hold = Hold::on(&path).unwrap();
        assert_eq!(Hold::on(&path).err().map(|error| error.kind()), Some(io::ErrorKind::ResourceBusy));
        drop(hold);
        Hold::on(&path).unwrap().write(counts()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_told_and_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        for text in [
            "",
            "{",
            r#"{"version":2,"meters":[]}"#,
            r#"{"version":1,"meters":[{"id":"a","span":"year","slots":[]}]}"#,
            r#"{"version":1,"meters":[{"id":"a","span":"day","slots":[[-1,1]]}]}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{text}");
            let aside = put_aside(&path).unwrap();
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
            assert!(!path.exists());
        }
        Hold::on(&path).unwrap().write(counts()).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert!(read(&path).is_err(), "cut at {end}");
        }
    }
}
