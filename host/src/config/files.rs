//! What the files of a configuration held when they were read, to tell later whether they have changed.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files up to this length are compared by content, in bytes: configurations, secrets, certificates, most plugins.
const CONTENT_BYTES_MAX: u64 = 1 << 20;

/// What tells one content of a file from another, without keeping what may be a secret; none where no file could be read.
///
/// A larger file, a plugin that brings a runtime along, is known by its metadata: it would be read and hashed several
/// times a second. That it was touched without a change is then a change, which costs a reload and does no harm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(Option<u64>);

impl Digest {
    /// That of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self(Some(hasher.finish()))
    }

    /// That of a file as it is now.
    pub fn of_file(path: &Path) -> Self {
        Self::try_of_file(path).unwrap_or_default()
    }

    fn try_of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.len() > CONTENT_BYTES_MAX {
            return Ok(Self::of_metadata(&metadata));
        }
        let mut bytes = Vec::new();
        file.take(CONTENT_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(Self::of(&bytes))
    }

    fn of_metadata(metadata: &Metadata) -> Self {
        let mut hasher = DefaultHasher::new();
        // The time of the last change of the inode cannot be set back by whoever writes the file.
        (metadata.dev(), metadata.ino(), metadata.len()).hash(&mut hasher);
        (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()).hash(&mut hasher);
        Self(Some(hasher.finish()))
    }
}

/// Files, and what they held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    digests: BTreeMap<PathBuf, Digest>,
}

impl Files {
    /// Remembers what a file held. What was noted first stays: if the file changed in between, it differs from that.
    pub fn note(&mut self, path: &Path, digest: Digest) {
        self.digests.entry(path.to_owned()).or_insert(digest);
    }

    /// What they held, in the order of their paths.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.digests.values()
    }

    /// Reads the same files as they are now.
    pub fn look(&self) -> Self {
        let digests = self.digests.keys().map(|path| (path.clone(), Digest::of_file(path)));
        Self { digests: digests.collect() }
    }
}
