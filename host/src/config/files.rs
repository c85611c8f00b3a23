//! What the files of a configuration held when they were read, to tell later whether they have changed.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

/// What tells one content of a file from another, without keeping what may be a secret; none where no file could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
        fs::read(path).map_or(Self(None), |bytes| Self::of(&bytes))
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

    /// Reads the same files as they are now.
    pub fn look(&self) -> Self {
        let digests = self.digests.keys().map(|path| (path.clone(), Digest::of_file(path)));
        Self { digests: digests.collect() }
    }
}
