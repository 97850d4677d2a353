//! A file that is not there until it is whole: written beside its place as `FILE.partial`, readable
//! by its owner only, and put into its place at the end. It never takes another file's place.
//!
//! Whoever is killed leaves a `.partial`; the next one begins it anew. A lock that ends with its
//! process keeps two from writing the same one.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::private::{create_file, exists};
use super::{Failure, Outcome};

/// What the name of an unfinished file ends with.
const SUFFIX: &str = ".partial";

/// A file on its way.
#[derive(Debug)]
pub(super) struct Partial {
    file: BufWriter<File>,
    partial: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Begins a file that is to be at `target`.
    pub(super) fn begin(target: &Path) -> Result<Self, Failure> {
        if target.symlink_metadata().is_ok() {
            return Err(exists(target));
        }
        let mut name = OsString::from(target);
        name.push(SUFFIX);
        let partial = PathBuf::from(name);
        let file = open(&partial)
            .map_err(|error| cant(&partial, &format!("can't be written: {error}")))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => cant(&partial, "is being written by another process"),
            TryLockError::Error(error) => cant(&partial, &format!("can't be locked: {error}")),
        })?;
        // Whoever had the lock before may have put the file into its place meanwhile: then this is
        // the whole file under its other name, and nothing of it may be lost.
        if target.symlink_metadata().is_ok() || !is_still(&file, &partial)? {
            return Err(exists(target));
        }
        file.set_len(0)?;
        Ok(Self {
            file: BufWriter::new(file),
            partial,
            target: target.to_owned(),
        })
    }

    /// Adds to it.
    pub(super) fn write(&mut self, text: &str) -> Outcome {
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|error| cant(&self.partial, &format!("can't be written: {error}")))
    }

    /// Puts it into its place, once it is on the disk.
    pub(super) fn finish(mut self) -> Outcome {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        place(&self.partial, &self.target)?;
        if let Some(folder) = self.target.parent() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

/// The unfinished file, new or left behind; a link that somebody has put there is not followed.
fn open(path: &Path) -> io::Result<File> {
    match create_file(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => return other,
    }
    if !path.symlink_metadata()?.is_file() {
        return Err(io::Error::other("it is there and is no file"));
    }
    let file = OpenOptions::new().write(true).open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// Whether the file that was opened is the one that has this name now.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let opened = file.metadata()?;
    let named = path.symlink_metadata();
    Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())))
}

#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> io::Result<bool> {
    Ok(path.symlink_metadata().is_ok())
}

/// A second name is refused where there is a file already; to rename would take its place.
fn place(partial: &Path, target: &Path) -> Outcome {
    match std::fs::hard_link(partial, target) {
        Ok(()) => Ok(std::fs::remove_file(partial)?),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(target)),
        // Not every file system has second names.
        Err(_) if target.symlink_metadata().is_err() => Ok(std::fs::rename(partial, target)?),
        Err(error) => Err(cant(target, &format!("can't be written: {error}"))),
    }
}

fn cant(path: &Path, what: &str) -> Failure {
    Failure::Failed(format!("{} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_once_it_is_whole_and_never_takes_anothers_place() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("tokens");
        let partial = folder.path().join("tokens.partial");
        std::fs::write(&partial, "left behind by one that was killed").unwrap();

        let mut first = Partial::begin(&target).unwrap();
        assert!(
            Partial::begin(&target).is_err(),
            "another process writes it"
        );
        first.write("whole").unwrap();
        assert!(!target.exists());
        first.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "whole");
        assert!(!partial.exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = target.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert!(Partial::begin(&target).is_err());
    }

    #[test]
    fn a_file_that_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("tokens");
        let mut late = Partial::begin(&target).unwrap();
        late.write("late").unwrap();
        std::fs::write(&target, "first").unwrap();
        assert!(late.finish().is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "first");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_partial_files_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        let partial = folder.path().join("tokens.partial");
        std::os::unix::fs::symlink(&victim, partial).unwrap();
        assert!(Partial::begin(&folder.path().join("tokens")).is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    }
}
