//! Where the keys live: a key file, plain or under a passphrase, which may be a mounted secret.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use cardless_contract::{Secrets, SystemEntropy};
use ring::digest;
use zeroize::Zeroizing;

use super::passphrase;

/// A place that keeps the text of a key ring, outside of the database and its backup.
///
/// A key in hardware or at a cloud key service fits in here: such a place keeps the text sealed, and
/// has that key open it. Records are never sealed by a call to another machine.
pub trait Custody: std::fmt::Debug + Send + Sync {
    /// What to call the place in a message: a path, never a secret.
    fn name(&self) -> String;

    /// Changes whenever what is kept changes. Asked often, so it must be cheap; it must not need
    /// the key or passphrase of the place.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    fn fingerprint(&self) -> Result<[u8; 32], KeyFileError>;

    /// The key ring's text.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with what is wrong and what to do. It names the place and quotes nothing
    /// of what it holds.
    fn read(&self) -> Result<Zeroizing<String>, KeyFileError>;

    /// Keeps `text` in place of `present`, whole or not at all, durably, and leaves as little of
    /// `present` behind as the place allows. Refuses if anything but `present` is kept: somebody
    /// else was faster.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with what is wrong and what to do; what was kept is kept then.
    fn replace(&self, present: &str, text: &str) -> Result<(), KeyFileError>;

    /// Finishes what a process that died has left of an older text. Does nothing if there is none.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`]: something of an older text is left.
    fn sweep(&self) -> Result<(), KeyFileError> {
        Ok(())
    }

    /// `text` as it would be kept, for a person who puts it there.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`].
    fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError>;

    /// What a person should do about how the keys are kept, if anything.
    fn remark(&self) -> Option<String>;
}

/// A key file on this machine, which nobody but its owner can read; or one of another owner that its
/// group may read too, as a secret is mounted for a group.
#[derive(Debug, Clone)]
pub struct KeyFile {
    path: PathBuf,
    /// What opens it, if it is under a passphrase; it is written under the first.
    passphrase: Option<Secrets>,
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

/// The one among them that is let pass at a file of another owner: its group may read it.
#[cfg(unix)]
const GROUP_READS: u32 = 0o040;

impl KeyFile {
    /// The key file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            passphrase: None,
        }
    }

    /// The same under a passphrase: it is written under the first value, and each of them is tried
    /// to open it. A plain file is read too, and is under the passphrase from its next write on.
    #[must_use]
    pub fn under(mut self, passphrase: Secrets) -> Self {
        self.passphrase = Some(passphrase);
        self
    }

    fn open_text(&self, raw: Zeroizing<String>) -> Result<Zeroizing<String>, KeyFileError> {
        if !passphrase::is_under_one(&raw) {
            return Ok(raw);
        }
        let place = self.path.display();
        let Some(passphrases) = &self.passphrase else {
            return Err(KeyFileError(format!(
                "{place}: the key file is under a passphrase; give it in the setting \
                 `keys.passphrase`"
            )));
        };
        passphrase::open(&raw, passphrases)
            .map_err(|error| KeyFileError(format!("{place}: {error}")))?
            .ok_or_else(|| {
                KeyFileError(format!(
                    "{place}: the passphrase (setting `keys.passphrase`) does not open the key \
                     file: it is another one, or the file was changed"
                ))
            })
    }

    /// What the file holds, as it stands there.
    fn read_raw(&self) -> Result<Zeroizing<String>, KeyFileError> {
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

    /// Writes the file anew: another file beside it, on disk, takes its name. The old one keeps a
    /// name of its own until it is overwritten, so that a process that dies leaves that to the next.
    fn write_raw(&self, path: &Path, folder: &File, text: &str) -> std::io::Result<()> {
        let new = beside(path, NEW);
        // What is there was left by a process that died; the folder's lock is ours.
        destroy(&new)?;
        destroy(&beside(path, OLD))?;
        let metadata = File::open(path)?.metadata()?;
        let mut file = create_private(&new)?;
        file.write_all(text.as_bytes())?;
        keep_readers(&metadata, &file)?;
        file.sync_all()?;
        std::fs::hard_link(path, beside(path, OLD))?;
        folder.sync_all()?;
        std::fs::rename(&new, path)?;
        folder.sync_all()
    }

    /// The file itself, where `path` may be a link to it, and its folder, locked until it is closed:
    /// two verbs write one after the other.
    fn locked(&self) -> Result<(PathBuf, File), KeyFileError> {
        let path =
            std::fs::canonicalize(&self.path).map_err(|error| unopened(&self.path, &error))?;
        let folder = File::open(path.parent().unwrap_or(Path::new(".")))
            .map_err(|error| unwritten(&self.path, &error))?;
        folder
            .lock()
            .map_err(|error| unwritten(&self.path, &error))?;
        Ok((path, folder))
    }
}

impl Custody for KeyFile {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn fingerprint(&self) -> Result<[u8; 32], KeyFileError> {
        let text = self.read_raw()?;
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let mut fingerprint = [0; 32];
        for (to, from) in fingerprint.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        Ok(fingerprint)
    }

    fn read(&self) -> Result<Zeroizing<String>, KeyFileError> {
        let raw = self.read_raw()?;
        self.open_text(raw)
    }

    fn replace(&self, present: &str, text: &str) -> Result<(), KeyFileError> {
        // Through a link to the file itself: the link must stay one.
        let (path, folder) = self.locked()?;
        if *self.read()? != *present {
            return Err(KeyFileError(format!(
                "{}: the key file has changed meanwhile; nothing was written. Run the verb again",
                self.path.display()
            )));
        }
        let kept = self.as_kept(text)?;
        self.write_raw(&path, &folder, &kept)
            .map_err(|error| unwritten(&self.path, &error))?;
        sweep(&path)
    }

    fn sweep(&self) -> Result<(), KeyFileError> {
        let path = std::fs::canonicalize(&self.path);
        if !path.is_ok_and(|path| left_beside(&path).is_some()) {
            return Ok(());
        }
        let (path, _folder) = self.locked()?;
        sweep(&path)
    }

    fn as_kept(&self, text: &str) -> Result<Zeroizing<String>, KeyFileError> {
        match &self.passphrase {
            Some(passphrase) => passphrase::seal(text, passphrase.first(), &SystemEntropy),
            None => Ok(Zeroizing::new(text.to_owned())),
        }
    }

    fn remark(&self) -> Option<String> {
        self.left_behind()
            .or_else(|| self.not_under_the_passphrase())
    }
}

impl KeyFile {
    /// What a process that died has left of an older text. One that writes now holds the folder's lock.
    fn left_behind(&self) -> Option<String> {
        let path = std::fs::canonicalize(&self.path).ok()?;
        left_beside(&path)?;
        let folder = File::open(path.parent()?).ok()?;
        folder.try_lock().ok()?;
        left_beside(&path).map(|left| {
            format!(
                "{} may still hold keys of before, since what was to overwrite it was interrupted: run \
                 `cardless rotate keys --rewrite-file`, which overwrites it and takes no key out of the \
                 key file",
                left.display()
            )
        })
    }

    fn not_under_the_passphrase(&self) -> Option<String> {
        let plain = |raw: Zeroizing<String>| !passphrase::is_under_one(&raw);
        let bare = self.passphrase.is_some() && self.read_raw().is_ok_and(plain);
        bare.then(|| {
            format!(
                "the key file {} is not under the passphrase of the settings yet: run `cardless \
                 rotate keys --rewrite-file`",
                self.path.display()
            )
        })
    }
}

/// What the name of the file that was replaced ends with until it is overwritten: no name that a
/// person would give to a copy.
const OLD: &str = ".replaced";

/// What the name of the one that takes its place ends with until it does.
const NEW: &str = ".replacing";

/// Overwrites what was replaced, and what was to replace it and did not.
fn sweep(path: &Path) -> Result<(), KeyFileError> {
    for left in [beside(path, OLD), beside(path, NEW)] {
        destroy(&left).map_err(|error| {
            KeyFileError(format!(
                "{}: the new keys are in place, but the old ones could not be overwritten ({}). \
                 Destroy this file, or run the verb again",
                left.display(),
                error.kind()
            ))
        })?;
    }
    Ok(())
}

/// What a process that died has left beside the key file.
fn left_beside(path: &Path) -> Option<PathBuf> {
    let mut left = [beside(path, OLD), beside(path, NEW)].into_iter();
    left.find(|left| left.exists())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    path.with_file_name(name)
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Overwrites a file that was replaced, and removes it, if there is one.
fn destroy(path: &Path) -> std::io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let metadata = file.metadata()?;
        if std::os::unix::fs::MetadataExt::nlink(&metadata) > 1 {
            // It has another name: somebody's copy, which is theirs to destroy.
            return remove(path);
        }
        // An administrator may have made it read-only.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    drop(file);
    overwrite(OpenOptions::new().write(true).open(path)?)?;
    remove(path)
}

fn create_private(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The service must be able to read what an administrator has written, by its owner or its group.
#[cfg(unix)]
fn keep_readers(old: &Metadata, new: &File) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let present = new.metadata()?;
    if (present.uid(), present.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    let group = old.permissions().mode() & GROUP_READS;
    if group != 0 {
        new.set_permissions(std::fs::Permissions::from_mode(0o600 | group))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep_readers(_: &Metadata, _: &File) -> std::io::Result<()> {
    Ok(())
}

/// Writes zeros over a file. What that reaches is the file system's
/// affair: one that copies on write, a journal or a flash disk may keep the old bytes for a while.
fn overwrite(mut file: File) -> std::io::Result<()> {
    let metadata = file.metadata()?;
    let length = usize::try_from(metadata.len().min(MAX_FILE_BYTES)).unwrap_or(0);
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

fn unopened(path: &Path, error: &std::io::Error) -> KeyFileError {
    let advice = if error.kind() == ErrorKind::NotFound {
        "there is no key file here; `cardless init` writes a new one, and a backup has the old one"
    } else {
        "the key file can't be opened; it must belong to the user that runs cardless or, where it is \
         mounted, to a group of that user which may read it (mode 0440)"
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

fn unwritten(path: &Path, error: &std::io::Error) -> KeyFileError {
    let read_only = [ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied];
    let advice = if read_only.contains(&error.kind()) {
        ". If it is a mounted secret, let the verb write its new text with `--write-to FILE`, put \
         that in the secret's place, and run the verb again"
    } else {
        "; nothing was changed"
    };
    KeyFileError(format!(
        "{}: the key file can't be written ({}){advice}",
        path.display(),
        error.kind()
    ))
}

/// Refuses a file that anybody else has access to. A mounted secret belongs to whoever has mounted it,
/// and a group is what gives it to the service: nobody here could change that.
#[cfg(unix)]
fn refuse_others(path: &Path, metadata: &Metadata) -> Result<(), KeyFileError> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let mode = metadata.permissions().mode();
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    let refused = if ours {
        OTHERS_MODE
    } else {
        OTHERS_MODE & !GROUP_READS
    };
    if mode & refused == 0 {
        return Ok(());
    }
    let advice = if ours {
        format!("run `chmod 600 {}`", path.display())
    } else {
        "it belongs to another user: where it is mounted, let its group read it and nobody else \
         (mode 0440, in Kubernetes `defaultMode: 0440` with `fsGroup`), or make it a file of the \
         user that runs cardless, of mode 0600"
            .to_owned()
    };
    Err(KeyFileError(format!(
        "{}: other users of this machine have access to the key file (mode {:04o}); {advice}",
        path.display(),
        mode & 0o7777
    )))
}

#[cfg(not(unix))]
fn refuse_others(_: &Path, _: &Metadata) -> Result<(), KeyFileError> {
    Ok(())
}
