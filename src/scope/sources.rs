//! What a report is made from.

use ring::digest;
use serde::Serialize;

use super::{SettingsFacts, software};
use crate::gateway::{Gateway, Role};

/// What a report is made from: each part belongs to what it speaks of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Store, keys, providers, clients and audit log.
    pub gateway: Gateway,
    /// The settings in force; none where a program that links the library has none.
    pub settings: Option<SettingsFacts>,
    /// The doors of the service.
    pub doors: Vec<Door>,
    /// The program that runs.
    pub build: Build,
}

/// One way in: a method on a path of the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Door {
    /// Its method, as `POST`.
    pub method: String,
    /// Its path, with `{…}` for what varies.
    pub path: String,
    /// The operation's id.
    pub id: String,
    /// What it is for, in a sentence.
    pub summary: String,
    /// Whether it asks for no API key.
    pub open: bool,
    /// The roles that it lets in; empty for an open one.
    pub roles: Vec<Role>,
    /// What comes in: the names of the members of path, query and body, those within others as
    /// `amount.minor`.
    pub takes: Vec<String>,
    /// What goes out, likewise.
    pub gives: Vec<String>,
}

/// Which program exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Build {
    /// SHA-256 of the file that runs, in hexadecimal; empty if it can't be read.
    pub id: String,
    /// What it was built for, as `x86_64-linux`.
    pub target: &'static str,
    /// The features that are built in.
    pub features: Vec<&'static str>,
    /// Whether it was built with the checks of development.
    pub debug: bool,
}

impl Door {
    /// What stands for a body without members of its own: the provider's, as it is.
    pub const WHOLE_BODY: &str = "(the body as it is)";
    /// The same: a text.
    pub const TEXT: &str = "(text)";
    /// The same: a sealed message.
    pub const SEALED: &str = "(sealed message)";
    /// The same: public keys.
    pub const KEYS: &str = "(public keys)";
    /// The same: this report.
    pub const REPORT: &str = "(this report)";
}

impl Build {
    /// The program of this process.
    pub fn of_process() -> Self {
        let features = [
            ("cli", cfg!(feature = "cli")),
            ("sandbox", cfg!(feature = "sandbox")),
            ("serve", cfg!(feature = "serve")),
            ("sqlite", cfg!(feature = "sqlite")),
        ];
        Self {
            id: software::program_digest(),
            target: TARGET,
            features: features
                .into_iter()
                .filter_map(|(name, built_in)| built_in.then_some(name))
                .collect(),
            debug: cfg!(debug_assertions),
        }
    }
}

/// The machine that it was built for.
const TARGET: &str = if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
    "x86_64-linux"
} else if cfg!(all(target_arch = "aarch64", target_os = "linux")) {
    "aarch64-linux"
} else {
    std::env::consts::OS
};

/// Bytes as people compare digests.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hexadecimal(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_build_id_is_the_digest_of_the_file_that_runs() {
        let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Build::of_process().id, sha256(&file));
        assert_eq!(
            sha256(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
