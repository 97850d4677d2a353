//! Files that the command line makes: new ones only, and readable by their owner only.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::{Failure, Outcome};

/// Opens a file that was not there.
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The same, with the words for a person.
pub(super) fn new_file(path: &Path) -> Result<File, Failure> {
    create_file(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return exists(path);
        }
        Failure::Failed(format!("{} can't be written: {error}", path.display()))
    })
}

/// Writes a file that was not there, to the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Outcome {
    let mut file = new_file(path)?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

pub(super) fn exists(path: &Path) -> Failure {
    Failure::Failed(format!(
        "{} can't be written: it exists and is left as it is. Move it away, or name another file",
        path.display()
    ))
}
