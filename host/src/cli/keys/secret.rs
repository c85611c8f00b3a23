//! What keys are hashed with: the configuration's secret, or a file of the gateway's own that is made on first use.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::rand::{SecureRandom, SystemRandom};

use crate::cli::keys::{absolute, file, owner};
use crate::config::check::keys::Places;

/// The random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// The mode of the file: its owner's alone.
const MODE: u32 = 0o600;
/// The mode of its folder, where it is made with it.
const FOLDER_MODE: u32 = 0o700;

/// The secret of a configuration, which is made if there is none and no key that would need another one.
///
/// # Errors
///
/// A message when it cannot be read or made, or must not be made.
pub(super) fn of(places: &Places) -> Result<String, String> {
    if let Some(secret) = &places.secret {
        return Ok(secret.expose().to_owned());
    }
    let path = absolute(&places.secret_file);
    if !path.exists() && has_keys(places)? {
        return Err(format!(
            "there are keys already, and `{}`, the secret that they were hashed with, is not there; run this in the \
             folder that the gateway runs in, or put the file back",
            path.display()
        ));
    }
    in_file(&path)
}

/// Whether there are keys, which were hashed with a secret.
fn has_keys(places: &Places) -> Result<bool, String> {
    match places.file.as_ref().filter(|path| places.names.is_empty() && path.exists()) {
        Some(path) => Ok(!file::keys(path)?.is_empty()),
        None => Ok(!places.names.is_empty()),
    }
}

fn in_file(path: &Path) -> Result<String, String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => {
            Err(format!("the keys' secret `{}` is empty; put the one back that was in it", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(path),
        Err(error) => Err(fault(path, &error)),
    }
}

/// Makes the file with a new secret; whoever makes it at the same time gets the same one.
fn make(path: &Path) -> Result<String, String> {
    let secret = random()?;
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        fs::create_dir_all(folder).map_err(|error| fault(folder, &error))?;
        fs::set_permissions(folder, Permissions::from_mode(FOLDER_MODE))
            .map_err(|error| fault(folder, &error))?;
        let made = File::open(folder).map_err(|error| fault(folder, &error))?;
        owner::settle(&made, folder.parent().unwrap_or_else(|| Path::new("")));
    }
    // Written aside and then given its name, which only one can do: nobody ever reads a part of it.
    let beside = path.with_extension(format!("{}.new", random()?));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&beside)
        .map_err(|error| fault(&beside, &error))?;
    owner::settle(&file, path.parent().unwrap_or_else(|| Path::new("")));
    let written = writeln!(file, "{secret}").and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&beside, path));
    let _ = fs::remove_file(&beside);
    match linked {
        Ok(()) => {
            eprintln!(
                "made {}, the secret that keys are hashed with; keep it with your backups",
                path.display()
            );
            Ok(secret)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => in_file(path),
        Err(error) => Err(fault(path, &error)),
    }
}

/// Random bytes in hexadecimal digits.
fn random() -> Result<String, String> {
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn fault(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data").join("witgate.key");
        let secrets: Vec<String> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..4).map(|_| scope.spawn(|| in_file(&path).unwrap())).collect();
            made.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0] && secret.len() == 64), "{secrets:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        fs::write(&path, "\n").unwrap();
        assert!(in_file(&path).is_err());
    }

    #[test]
    fn a_secret_is_not_made_beside_keys_that_have_another() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.yaml");
        let places = |names: &[&str]| Places {
            file: Some(file.clone()),
            secret: None,
            secret_file: folder.path().join("witgate.key"),
            names: names.iter().map(ToString::to_string).collect(),
            upstreams: Vec::new(),
        };
        assert!(of(&places(&["a"])).unwrap_err().contains("there are keys already"));
        let hash = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        fs::write(&file, format!("- {{ name: a, hash: 'hmac-sha256:{hash}' }}\n")).unwrap();
        let refused = of(&places(&[])).unwrap_err();
        assert!(refused.contains(&format!("`{}`", folder.path().join("witgate.key").display())), "{refused}");
        assert!(!folder.path().join("witgate.key").exists());
        fs::write(&file, "# none\n").unwrap();
        let made = of(&places(&[])).unwrap();
        assert_eq!(of(&places(&["a"])).unwrap(), made);
    }
}
