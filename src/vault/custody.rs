//! Where the keys live. Today that is a key file; a passphrase or a mounted secret is another
//! [`Custody`].

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A place that keeps the text of a key ring, outside of the database and its backup.
pub trait Custody: std::fmt::Debug + Send + Sync {
    /// What to call the place in a message: a path, never a secret.
    fn name(&self) -> String;

    /// The key ring's text.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with what is wrong and what to do. It names the place and quotes nothing
    /// of what it holds.
    fn read(&self) -> Result<Zeroizing<String>, KeyFileError>;
}

/// A key file on this machine, which nobody but its owner can read.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
}

/// What is wrong with a key file and what to do about it. It quotes nothing of what the file holds.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyFileError(pub String);

/// No key ring comes near this; a wrong path is not read into memory.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// The permission bits of anybody but the owner.
#[cfg(unix)]
const OTHERS_MODE: u32 = 0o077;

impl KeyFile {
    /// The key file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

impl Custody for KeyFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        let file = File::open(&self.path).map_err(|error| unopened(&self.path, &error))?;
        // The open file is asked, not the path: the two can differ a moment later.
        let metadata = file
            .metadata()
            .map_err(|error| unread(&self.path, &error))?;
        if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
            return Err(KeyFileError(format!(
                "{}: this is no key file; give the path of the file that `cardless init` wrote",
                self.path.display()
            )));
        }
        refuse_others(&self.path, &metadata)?;
        // Room for all of it from the start: growing would leave copies of the keys behind.
        let room = usize::try_from(metadata.len())
            .unwrap_or(0)
            .saturating_add(1);
        let mut text = Zeroizing::new(String::with_capacity(room));
        file.take(MAX_FILE_BYTES)
            .read_to_string(&mut text)
            .map_err(|error| unread(&self.path, &error))?;
        Ok(text)
    }
}

fn unopened(path: &Path, error: &std::io::Error) -> KeyFileError {
    let advice = if error.kind() == std::io::ErrorKind::NotFound {
        "there is no key file here; `cardless init` writes a new one, and a backup has the old one"
    } else {
        "the key file can't be opened; it must belong to the user that runs cardless"
    };
    KeyFileError(format!("{}: {advice} ({})", path.display(), error.kind()))
}

fn unread(path: &Path, error: &std::io::Error) -> KeyFileError {
    KeyFileError(format!(
        "{}: the key file can't be read ({})",
        path.display(),
        error.kind()
    ))
}

#[cfg(unix)]
fn refuse_others(path: &Path, metadata: &std::fs::Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode();
    if mode & OTHERS_MODE == 0 {
        return Ok(());
    }
    Err(KeyFileError(format!(
        "{0}: other users of this machine have access to the key file (mode {1:04o}); \
         run `chmod 600 {0}`",
        path.display(),
        mode & 0o7777
    )))
}

#[cfg(not(unix))]
fn refuse_others(_: &Path, _: &std::fs::Metadata) -> Result<(), KeyFileError> {
    Ok(())
}
