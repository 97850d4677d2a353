//! A file that is not there until it is whole: written beside its place under another name, readable
//! by its owner only, and put into its place at the end. It never takes the place of a file that has
//! its name already; what has the other name is taken for what an earlier run has left.
//!
//! Whoever is killed leaves `FILE.partial`: whole parts and, behind the last of them, a mark that says
//! how far it is, from which the next one goes on; or `FILE.unfinished`, which begins anew. A part that
//! does not fit on the disk leaves the mark of before. A lock that ends with its process keeps two from
//! writing the same one.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::private::{create_file, exists};
use super::{Failure, Outcome};

/// What the name of an unfinished file ends with that can go on.
pub(super) const PARTIAL: &str = ".partial";

/// What the name of one ends with that begins anew.
pub(super) const UNFINISHED: &str = ".unfinished";

/// A file on its way.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    /// How many bytes of it are parts of the file, and no mark.
    whole: u64,
    /// What stands behind them.
    mark: Vec<u8>,
    partial: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Begins a file that is to be at `target`, or opens what is left of one; its name ends with
    /// `suffix` until it is whole.
    pub(super) fn begin(target: &Path, suffix: &'static str) -> Result<Self, Failure> {
        let mut name = OsString::from(target);
        name.push(suffix);
        let partial = PathBuf::from(name);
        if let Ok(there) = target.symlink_metadata() {
            // One that was killed just as it had put its file into place has left a second name of it.
            if is_same(&partial, &there) {
                std::fs::remove_file(&partial)?;
            }
            return Err(exists(target));
        }
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
        // One that was killed just as it had put its file into place has left a second name of it.
        if has_another_name(&file)? {
            std::fs::remove_file(&partial)?;
            return Self::begin(target, suffix);
        }
        Ok(Self {
            file,
            whole: 0,
            mark: Vec::new(),
            partial,
            target: target.to_owned(),
        })
    }

    /// What is left of the one before, if there was one.
    pub(super) fn left(&self) -> Result<Option<BufReader<File>>, Failure> {
        let left = self.file.metadata()?.len() > 0;
        let reader = || self.file.try_clone().map(BufReader::new);
        Ok(left.then(reader).transpose()?)
    }

    /// Goes on behind so many bytes of what is left. The mark behind them stays until the next one is
    /// written in its place.
    pub(super) fn go_on(&mut self, bytes: u64) -> Outcome {
        self.whole = bytes;
        self.mark.clear();
        self.file.seek(SeekFrom::Start(bytes))?;
        self.file.read_to_end(&mut self.mark)?;
        Ok(())
    }

    /// Keeps nothing of what is left.
    pub(super) fn begin_anew(&mut self) -> Outcome {
        self.whole = 0;
        self.mark.clear();
        Ok(self.file.set_len(0)?)
    }

    /// Adds a part and a mark, in the place of the mark before, which comes back if they don't fit.
    pub(super) fn add(&mut self, part: &str, mark: &str) -> Outcome {
        let written = self
            .file
            .seek(SeekFrom::Start(self.whole))
            .and_then(|_| self.file.write_all([part, mark].concat().as_bytes()));
        if let Err(error) = written {
            // Whoever runs it again begins anew if not even this can be written.
            self.take_back().ok();
            return Err(cant(&self.partial, &format!("can't be written: {error}")));
        }
        self.whole += u64::try_from(part.len()).map_err(Failure::failed)?;
        mark.as_bytes().clone_into(&mut self.mark);
        Ok(())
    }

    /// Puts the mark back behind the parts, in the place of what was begun.
    fn take_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.whole)?;
        self.file.seek(SeekFrom::Start(self.whole))?;
        self.file.write_all(&self.mark)
    }

    /// What it is called until it is whole.
    pub(super) fn name(&self) -> std::path::Display<'_> {
        self.partial.display()
    }

    /// Takes the mark away and puts it into its place, once it is on the disk.
    pub(super) fn finish(self) -> Outcome {
        self.file.set_len(self.whole)?;
        self.file.sync_all()?;
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
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

/// Whether the file that was opened is the one that has this name now.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    Ok(is_same(path, &file.metadata()?))
}

/// Whether this is another name of that file.
#[cfg(unix)]
fn is_same(path: &Path, there: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let named = path.symlink_metadata();
    named.is_ok_and(|named| (named.dev(), named.ino()) == (there.dev(), there.ino()))
}

#[cfg(not(unix))]
fn is_same(_: &Path, _: &Metadata) -> bool {
    false
}

#[cfg(unix)]
fn has_another_name(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(file.metadata()?.nlink() > 1)
}

#[cfg(not(unix))]
fn has_another_name(_: &File) -> io::Result<bool> {
    Ok(false)
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

        let mut first = Partial::begin(&target, PARTIAL).unwrap();
        assert!(
            Partial::begin(&target, PARTIAL).is_err(),
            "another process writes it"
        );
        assert!(first.left().unwrap().is_some());
        first.begin_anew().unwrap();
        assert!(first.left().unwrap().is_none());
        first.add("wh", "a mark").unwrap();
        first.add("ole", "another").unwrap();
        assert_eq!(std::fs::read_to_string(&partial).unwrap(), "wholeanother");
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
        assert!(Partial::begin(&target, PARTIAL).is_err());
    }

    #[test]
    fn what_is_left_goes_on_and_the_mark_is_not_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("tokens");
        let mut killed = Partial::begin(&target, PARTIAL).unwrap();
        killed.add("one ", "a mark that is rather long").unwrap();
        drop(killed);

        let mut next = Partial::begin(&target, PARTIAL).unwrap();
        let mut left = String::new();
        let mut reader = next.left().unwrap().unwrap();
        io::Read::read_to_string(&mut reader, &mut left).unwrap();
        assert_eq!(left, "one a mark that is rather long");
        // It shares the lock.
        drop(reader);
        next.go_on(4).unwrap();
        drop(next);
        // Killed again before it has written anything: the mark is still there.
        let mut next = Partial::begin(&target, PARTIAL).unwrap();
        let left = next.left().unwrap().unwrap();
        assert_eq!(io::BufRead::lines(left).count(), 1);
        next.go_on(4).unwrap();
        // A part that does not fit on the disk leaves the mark of before.
        for mark in ["a mark that is rather long", "!"] {
            let partial = folder.path().join("tokens.partial");
            let other = OpenOptions::new().write(true).open(&partial);
            let mut other = other.unwrap();
            other.seek(SeekFrom::Start(next.whole)).unwrap();
            other.write_all(&[b'x'; 64]).unwrap();
            next.take_back().unwrap();
            let left = std::fs::read_to_string(&partial).unwrap();
            assert!(left.ends_with(mark) && !left.contains('x'), "{left}");
            if next.whole == 4 {
                next.add("two", "!").unwrap();
            }
        }
        next.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "one two");
    }

    #[cfg(unix)]
    #[test]
    fn a_finished_file_under_its_second_name_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (target, moved) = (folder.path().join("tokens"), folder.path().join("moved"));
        std::fs::write(&moved, "whole").unwrap();
        std::fs::hard_link(&moved, folder.path().join("tokens.partial")).unwrap();
        let mut next = Partial::begin(&target, PARTIAL).unwrap();
        next.begin_anew().unwrap();
        next.add("new", "").unwrap();
        next.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "whole");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new");
    }

    #[cfg(unix)]
    #[test]
    fn a_second_name_of_a_file_that_is_in_its_place_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (target, partial) = (
            folder.path().join("tokens"),
            folder.path().join("tokens.partial"),
        );
        std::fs::write(&target, "whole").unwrap();
        std::fs::hard_link(&target, &partial).unwrap();
        assert!(Partial::begin(&target, PARTIAL).is_err());
        assert!(!partial.exists());
        // Another file under that name is not touched.
        std::fs::write(&partial, "another's").unwrap();
        assert!(Partial::begin(&target, PARTIAL).is_err());
        assert!(partial.exists());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "whole");
    }

    #[test]
    fn a_file_that_came_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("tokens");
        let mut late = Partial::begin(&target, PARTIAL).unwrap();
        late.add("late", "").unwrap();
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
        assert!(Partial::begin(&folder.path().join("tokens"), PARTIAL).is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    }
}
