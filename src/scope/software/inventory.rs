//! What cargo said of this build's crates, as `build.rs` has written it down.

use std::collections::BTreeMap;

use super::binary::Binary;

/// What stands where there is nothing.
const NOTHING: &str = "-";

/// The crates of a build, and how it was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inventory {
    /// Compiler, target, profile and features, by these words.
    pub(super) about: BTreeMap<&'static str, &'static str>,
    /// Every crate, by name.
    pub(super) crates: Vec<Crate>,
}

/// A crate of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crate {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// What it has to do with the program.
    pub(super) part: Part,
    /// The SHA-256 of its archive, by the lock file; none for a crate of this repository.
    pub(super) checksum: Option<&'static str>,
    /// Its licence, as an SPDX expression.
    pub(super) licence: Option<String>,
    /// What it depends on, each as `name@version`.
    pub(super) needs: Vec<&'static str>,
}

/// What a crate has to do with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It is in it.
    Linked,
    /// It was run to build it, as a procedural macro.
    Built,
    /// The lock file has it. It is in the program only if that was built together with other packages
    /// that ask for it.
    Locked,
}

impl Inventory {
    /// That of the build that runs; `None` if it carries none.
    pub(super) fn of_this_build() -> Option<Self> {
        let text = include_str!(concat!(env!("OUT_DIR"), "/software.txt"));
        Self::parse(text)
    }

    pub(super) fn parse(text: &'static str) -> Option<Self> {
        let mut about = BTreeMap::new();
        let mut crates = Vec::new();
        for line in text.lines() {
            let mut parts = line.split('\t');
            match parts.next()? {
                "about" => drop(about.insert(parts.next()?, parts.next()?)),
                "crate" => crates.push(Crate::parse(&mut parts)?),
                _ => return None,
            }
        }
        let found = Self { about, crates };
        (found.that_are(Part::Linked).count() > 0).then_some(found)
    }

    /// The crates that have this to do with the program.
    pub(super) fn that_are(&self, part: Part) -> impl Iterator<Item = &Crate> {
        self.crates.iter().filter(move |one| one.part == part)
    }
}

impl Crate {
    fn parse(parts: &mut impl Iterator<Item = &'static str>) -> Option<Self> {
        let mut next = || parts.next();
        Some(Self {
            name: next()?,
            version: next()?,
            part: Part::parse(next()?)?,
            checksum: some(next()?),
            // Before SPDX had expressions, cargo took a slash for "or".
            licence: some(next()?).map(|text| text.replace(" / ", "/").replace('/', " OR ")),
            needs: some(next()?).map_or_else(Vec::new, |needs| needs.split(',').collect()),
        })
    }

    /// Whether it is in the program, by the build's graph or by the program's bytes.
    pub(super) fn is_in(&self, binary: &Binary) -> bool {
        match self.part {
            Part::Linked => true,
            Part::Built => false,
            Part::Locked => binary.named.contains(&self.id()),
        }
    }

    /// Name and version in one word.
    pub(super) fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

impl Part {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "linked" => Some(Self::Linked),
            "built" => Some(Self::Built),
            "locked" => Some(Self::Locked),
            _ => None,
        }
    }
}

fn some(text: &'static str) -> Option<&'static str> {
    (text != NOTHING).then_some(text)
}
