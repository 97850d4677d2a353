//! The program that runs, by its bytes: its digest, and the crates that name themselves in it.
//!
//! Code that can panic leaves the path of its source in the program, as
//! `…/registry/src/REGISTRY/NAME-VERSION/src/lib.rs`. So the bytes tell of crates without asking whoever
//! built them. Not every crate leaves its path; what leaves one can't be hidden by leaving it off a
//! list.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::sync::OnceLock;

use ring::digest::{Context, SHA256};

use crate::scope::sources::hexadecimal;

/// The running program's own file, whatever stands in its place by now.
const RUNNING: &str = "/proc/self/exe";

/// How much is read at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// The longest name with a version that is taken for a crate's.
const MAX_NAME_BYTES: usize = 128;

/// Where the crates stand that the standard library is made with.
const STANDARD: [&[u8]; 2] = [b"rust/", b"deps/"];

/// A program's bytes, looked through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Binary {
    /// The SHA-256 of all of it, in hexadecimal.
    pub(super) digest: String,
    /// How many bytes it has.
    pub(super) bytes: u64,
    /// The crates that name themselves, each as `name@version`.
    pub(super) named: BTreeSet<String>,
    /// Those that come with the standard library.
    pub(super) standard: BTreeSet<String>,
}

impl Binary {
    /// The program that runs. It is looked through once.
    ///
    /// # Errors
    ///
    /// What the file system says, if the program can't be read.
    pub(super) fn running() -> Result<&'static Self, &'static io::Error> {
        static RUNNING_BINARY: OnceLock<io::Result<Binary>> = OnceLock::new();
        let read = || Self::read(open()?);
        RUNNING_BINARY.get_or_init(read).as_ref()
    }

    pub(super) fn read(from: impl Read) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, Hashed::new(from));
        let mut found = Self::default();
        // The folders of a path, the last ones before what is read now.
        let mut folders = VecDeque::from([const { Vec::new() }; 3]);
        let mut piece = Vec::new();
        while reader.read_until(b'/', &mut piece)? > 0 {
            if piece == b"src/" {
                found.look_at(&folders);
            }
            let mut oldest = folders.pop_front().unwrap_or_default();
            std::mem::swap(&mut oldest, &mut piece);
            folders.push_back(oldest);
            piece.clear();
        }
        let hashed = reader.into_inner();
        found.bytes = hashed.bytes;
        found.digest = hexadecimal(hashed.context.finish().as_ref());
        Ok(found)
    }

    fn look_at(&mut self, folders: &VecDeque<Vec<u8>>) {
        let Some(id) = folders.back().and_then(|folder| crate_of(folder)) else {
            return;
        };
        let before = folders.iter().map(Vec::as_slice);
        if before.take(STANDARD.len()).eq(STANDARD) {
            self.standard.insert(id);
        } else {
            self.named.insert(id);
        }
    }
}

fn open() -> io::Result<File> {
    if Path::new(RUNNING).exists() {
        return File::open(RUNNING);
    }
    File::open(std::env::current_exe()?)
}

/// `NAME-VERSION/` as `name@version`; `None` for another folder's name.
fn crate_of(folder: &[u8]) -> Option<String> {
    let (_, name) = folder.split_last()?;
    let name = std::str::from_utf8(name).ok()?;
    if name.len() > MAX_NAME_BYTES {
        return None;
    }
    let mut hyphens = name.match_indices('-');
    hyphens.find_map(|(at, hyphen)| {
        let (name, version) = name.split_at_checked(at)?;
        let version = version.strip_prefix(hyphen)?;
        (is_name(name) && is_version(version)).then(|| format!("{name}@{version}"))
    })
}

fn is_name(text: &str) -> bool {
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    !text.is_empty() && text.bytes().all(in_alphabet)
}

/// Three numbers, and whatever may follow them.
fn is_version(text: &str) -> bool {
    let numbers = text.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && text.bytes().all(in_alphabet)
}

/// Reads on, and hashes what was read.
struct Hashed<R> {
    from: R,
    context: Context,
    bytes: u64,
}

impl<R> Hashed<R> {
    fn new(from: R) -> Self {
        Self {
            from,
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.context.update(into.get(..read).unwrap_or_default());
        self.bytes += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_known_by_the_path_that_it_leaves() {
        let bytes = b"\0\x01/home/a/.cargo/registry/src/registry.example-1949cf8c6b5b557f/\
            tower-http-0.6.8/src/lib.rs/rust/deps/hashbrown-0.16.1/src/raw.rs\
            /x/toml-1.2.1+spec-1.1.0/src/a.rs/x/rc-1.0.0-rc.1/src/b.rs\
            src/lib.rs/build/cardless/src/main.rs/zlib-1.3/src/ /a-1.2.3/lib/x.rs";
        let found = Binary::read(bytes.as_slice()).unwrap();
        let named = ["rc@1.0.0-rc.1", "toml@1.2.1+spec-1.1.0", "tower-http@0.6.8"];
        assert_eq!(found.named, named.map(str::to_owned).into());
        assert_eq!(found.standard, ["hashbrown@0.16.1".to_owned()].into());
        assert_eq!(found.bytes, u64::try_from(bytes.len()).unwrap());
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        // `printf abc | sha256sum`
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Binary::read(b"abc".as_slice()).unwrap().digest, abc);
    }
}
