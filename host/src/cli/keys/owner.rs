//! Whom the files of keys belong to: often the gateway's user, while an administrator runs the command.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

/// The bits of a mode that say who may do what.
const MODE_BITS: u32 = 0o7777;

/// Gives a file the owner and the mode of the one whose place it takes.
///
/// # Errors
/// It cannot be given away: whoever could read the old one might not read it.
pub(super) fn inherit(file: &File, replaced: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (replaced.uid(), replaced.gid()) {
        fchown(file, Some(replaced.uid()), Some(replaced.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(replaced.mode() & MODE_BITS))
}

/// Gives a new file or folder to the owner of the folder that it is in, as far as whoever runs this may do so. It is its
/// owner's alone, whoever that is.
pub(super) fn settle(new: &File, folder: &Path) {
    // The path of a file without a folder names the folder that this runs in.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if let Ok(folder) = fs::metadata(folder) {
        let _ = fchown(new, Some(folder.uid()), Some(folder.gid()));
    }
}
