//! Software: what is linked into this program, by the build's own graph and by the program's bytes.

mod binary;
mod inventory;
mod licence;
mod sbom;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::binary::Binary;
use self::inventory::{Crate, Inventory, Part};
use self::licence::Allowed;
use self::sbom::Beside;
use super::sources::sha256;
use super::{Claim, Question, Section, Statement, Table};
use crate::error::{Code, Error};
use crate::store;

const LISTED: Claim = Claim {
    id: "software-1",
    requirements: &["6.3.2"],
    says: "Every crate that is linked into this program is in its inventory",
    proof: "cargo's graph of this build, and the paths that crates leave in the program's bytes, \
                of which none may be missing there",
};

const LICENCES: Claim = Claim {
    id: "software-2",
    requirements: &["6.3.2"],
    says: "The licence of every crate that this program asks for is on the list of what may be built into it",
    proof: "the licence that each crate declares, and the list of `.cargo/deny.toml` at the time of \
                the build",
};

const TIED: Claim = Claim {
    id: "software-3",
    requirements: &["6.3.2"],
    says: "The inventory is that of the program that runs: it names the program by the digest of its file",
    proof: "the digest of the running program's file, taken now, and of the CycloneDX document that \
                holds it",
};

/// What is said where the build has no inventory.
const NO_INVENTORY: &str = "this build carries no inventory of its software: build it from its own checkout, \
                            with Cargo.lock";

/// What is known of the software.
struct Facts<'a> {
    inventory: Option<Inventory>,
    allowed: Allowed,
    /// The program's bytes, or why they can't be read.
    binary: Result<&'a Binary, String>,
}

/// The CycloneDX document of what is linked into this program.
///
/// # Errors
///
/// [`Code::Internal`] if this build carries no inventory, or the program's file can't be read.
pub fn sbom() -> Result<Value, Error> {
    Facts::of_this_program()
        .document()
        .map_err(|why| Error::new(Code::Internal, format!("There is no inventory: {why}.")))
}

/// The SHA-256 of the program that runs, in hexadecimal; empty if its file can't be read.
pub(super) fn program_digest() -> String {
    Binary::running().map_or_else(|_| String::new(), |binary| binary.digest.clone())
}

pub(super) fn section() -> Section {
    let facts = Facts::of_this_program();
    let built_together = facts.linked().iter().any(|one| one.part == Part::Locked);
    Section {
        id: "software",
        title: "Software",
        statements: vec![listed(&facts), licences(&facts), tied(&facts)],
        figures: Vec::new(),
        questions: [Some(ADVISORIES), built_together.then_some(BUILT_TOGETHER)]
            .into_iter()
            .flatten()
            .collect(),
    }
}

const ADVISORIES: Question = Question {
    id: "software-q1",
    requirements: &["6.3.1", "6.3.3"],
    asks: "Who watches for advisories about what is listed here (`cardless scope --sbom` prints it for a \
           scanner; the program itself asks nobody), and how soon is a fixed version in use?",
};

/// Asked only where it is so.
const BUILT_TOGETHER: Question = Question {
    id: "software-q2",
    requirements: &["6.3.2"],
    asks: "This program was built together with other packages, which have put crates into it that it \
           does not ask for itself (`software-1` shows them by their paths, and only those that leave \
           one). Why is it in use, and not one that was built alone with `cargo build -p cardless`?",
};

impl Facts<'static> {
    fn of_this_program() -> Self {
        Self {
            inventory: Inventory::of_this_build(),
            allowed: Allowed::of_this_build(),
            binary: Binary::running()
                .map_err(|error| format!("the program's file can't be read: {error}")),
        }
    }
}

impl Facts<'_> {
    fn document(&self) -> Result<Value, String> {
        let inventory = self.inventory.as_ref().ok_or(NO_INVENTORY)?;
        let binary = self.binary.clone()?;
        Ok(sbom::document(inventory, binary, &beside(inventory)))
    }

    /// What makes every statement about the inventory impossible.
    fn lacks(&self) -> Vec<String> {
        let inventory = self.inventory.is_none().then(|| NO_INVENTORY.to_owned());
        let binary = self.binary.as_ref().err().cloned();
        inventory.into_iter().chain(binary).collect()
    }

    /// Everything that is in the program.
    fn linked(&self) -> Vec<&Crate> {
        let crates = self.inventory.iter().flat_map(|all| &all.crates);
        let binary = self.binary.as_ref().ok();
        let is_in = |one: &&Crate| binary.is_some_and(|binary| one.is_in(binary));
        crates.filter(is_in).collect()
    }
}

/// What is linked and is no crate.
fn beside(inventory: &Inventory) -> Vec<Beside> {
    let engine = store::engine().map(|(name, version)| Beside {
        name,
        version: version.to_owned(),
        // https://spdx.org/licenses/blessing.html
        licence: "blessing",
    });
    let compiler = inventory.about.get("compiler").copied().unwrap_or_default();
    let version = compiler.split(' ').nth(1).unwrap_or_default();
    let standard = Beside {
        name: "rust-std",
        version: version.to_owned(),
        licence: "MIT OR Apache-2.0",
    };
    engine.into_iter().chain([standard]).collect()
}

fn listed(facts: &Facts<'_>) -> Statement {
    let linked = facts.linked();
    let ids: BTreeSet<String> = linked.iter().map(|one| one.id()).collect();
    let none = BTreeSet::new();
    let named = facts.binary.as_ref().map_or(&none, |binary| &binary.named);
    let mut faults = facts.lacks();
    faults.extend(
        named
            .difference(&ids)
            .map(|id| format!("{id} has left its path in the program and is not in the inventory")),
    );
    if faults.is_empty() && named.is_empty() {
        faults.push(
            "no crate has left its path in the program, so its bytes show nothing".to_owned(),
        );
    }
    let rows = linked.iter().map(|one| {
        let seen = match (named.contains(&one.id()), one.part) {
            (false, _) => "",
            (true, Part::Locked) => "yes; asked for by a package that was built with it",
            (true, Part::Linked | Part::Built) => "yes",
        };
        vec![
            one.name.to_owned(),
            one.version.to_owned(),
            one.checksum.unwrap_or("of this repository").to_owned(),
            seen.to_owned(),
        ]
    });
    let header = vec![
        "crate",
        "version",
        "SHA-256 of its archive",
        "left its path",
    ];
    let table = Table::new(header, rows.collect());
    LISTED.judged(faults, table.or_none("no crate is known"))
}

fn licences(facts: &Facts<'_>) -> Statement {
    let mut faults = facts.lacks();
    let mut count: BTreeMap<&str, u64> = BTreeMap::new();
    for one in facts.linked() {
        let Some(licence) = &one.licence else {
            // Of what other packages ask for, the build has not seen more than the lock file.
            if one.part == Part::Linked {
                faults.push(format!("{} names no licence", one.id()));
            }
            continue;
        };
        *count.entry(licence).or_default() += 1;
        if !facts.allowed.allows(one.name, licence) {
            let list = facts.allowed.to_text();
            faults.push(format!(
                "{} is under {licence}, which the list does not allow: {list}",
                one.id()
            ));
        }
    }
    let rows = count
        .into_iter()
        .map(|(licence, count)| vec![licence.to_owned(), count.to_string()]);
    let table = Table::new(vec!["licence", "crates"], rows.collect());
    LICENCES.judged(faults, table.or_none("no licence is known"))
}

fn tied(facts: &Facts<'_>) -> Statement {
    let faults = facts.lacks();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, value: String| rows.push(vec![name.to_owned(), value]);
    if let Ok(binary) = &facts.binary {
        row("SHA-256 of the program", binary.digest.clone());
        row("bytes of the program", binary.bytes.to_string());
        row(
            "crates that left their path",
            binary.named.len().to_string(),
        );
        let standard: Vec<&str> = binary.standard.iter().map(String::as_str).collect();
        row("of the standard library", standard.join(", "));
    }
    if let Some(inventory) = &facts.inventory {
        row("crates in it", facts.linked().len().to_string());
        let built = inventory.that_are(Part::Built);
        row("crates run to build it only", built.count().to_string());
        for one in beside(inventory) {
            row(one.name, one.version);
        }
        for (name, value) in &inventory.about {
            row(name, (*value).to_owned());
        }
    }
    if let Ok(document) = facts.document() {
        row(
            "SHA-256 of `scope --sbom`",
            sha256(printed(&document).as_bytes()),
        );
    }
    let table = Table::new(vec!["what", "value"], rows);
    TIED.judged(faults, table.or_none("nothing is known"))
}

/// The document as it is printed, so that its digest is that of the file.
pub fn printed(document: &Value) -> String {
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
