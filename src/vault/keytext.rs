//! A key ring as text: what a key file holds once it is open.
//!
//! ```toml
//! version = 2
//!
//! [[generation]]
//! id = "kek_…"
//! state = "active"          # or "retiring", or "next"
//! created_at = "2026-11-25T09:00:00Z"
//! key = "…"                 # 32 bytes, base64url without padding
//!
//! [hashes]
//! root = "…"                # the same
//! ```
//!
//! Version 1, without `next`, is still read; whatever is written is version 2. Which generation
//! seals is the database's to say: `state` is for a database that knows none yet, and `next` marks a
//! generation that has sealed nothing.

use cardless_contract::{Entropy, Timestamp};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::custody::KeyFileError;
use super::generation::{GENERATION_ID_BYTES, fill};
use super::record::KEY_BYTES;
use crate::letters::letters;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A key ring's text as TOML. The strings are borrowed from the text, which its owner wipes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyText<'a> {
    version: u32,
    #[serde(borrow)]
    pub(super) generation: Vec<GenerationText<'a>>,
    pub(super) hashes: HashesText<'a>,
}

/// One generation of it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenerationText<'a> {
    pub(super) id: &'a str,
    pub(super) state: &'a str,
    pub(super) created_at: &'a str,
    pub(super) key: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HashesText<'a> {
    pub(super) root: &'a str,
}

pub(super) const ACTIVE: &str = "active";
pub(super) const RETIRING: &str = "retiring";
pub(super) const NEXT: &str = "next";

/// The shapes that this version reads; it writes the last.
const VERSIONS: [u32; 2] = [1, 2];

/// More generations than this at once mean that rotations were never finished.
const MAX_GENERATIONS: usize = 64;

const HEADER: &str = "\
# The keys of this cardless installation. Without this file nothing that is sealed in
# the database can be opened: keep a copy, but never together with a backup of the
# database. It must be readable by the service's user only (mode 0600).

version = 2
";

impl<'a> KeyText<'a> {
    /// Reads the text. What its strings say is not looked at yet.
    pub(super) fn parse(text: &'a str) -> Result<Self, KeyFileError> {
        // TOML's own message quotes the line that it stumbles on, so only its number is used.
        let parsed: Self = toml::from_str(text).map_err(|error| malformed(text, &error))?;
        if !VERSIONS.contains(&parsed.version) {
            return Err(fault(
                "its `version` is neither 1 nor 2; it was written by another cardless",
            ));
        }
        if parsed.generation.len() > MAX_GENERATIONS {
            return Err(fault("it has more than 64 generations"));
        }
        Ok(parsed)
    }

    /// Writes it.
    fn write(&self) -> Zeroizing<String> {
        let mut parts = vec![HEADER];
        for generation in &self.generation {
            parts.extend(["\n[[generation]]\nid = \"", generation.id]);
            parts.extend(["\"\nstate = \"", generation.state]);
            parts.extend(["\"\ncreated_at = \"", generation.created_at]);
            parts.extend(["\"\nkey = \"", generation.key, "\"\n"]);
        }
        parts.extend(["\n[hashes]\nroot = \"", self.hashes.root, "\"\n"]);
        // The length is known, so no shorter buffer with half of a key is left behind.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|p| p.len()).sum()));
        text.extend(parts);
        text
    }
}

/// A new key ring's text with one active generation.
pub(super) fn new(
    entropy: &dyn Entropy,
    created_at: Timestamp,
) -> Result<Zeroizing<String>, KeyFileError> {
    let (id, created_at) = (new_id(entropy)?, created_at.to_string());
    let (key, root) = (new_key(entropy)?, new_key(entropy)?);
    let text = KeyText {
        version: 2,
        generation: vec![GenerationText {
            id: &id,
            state: ACTIVE,
            created_at: &created_at,
            key: &key,
        }],
        hashes: HashesText { root: &root },
    };
    Ok(text.write())
}

/// The text with one more generation, which has sealed nothing yet, and its id.
pub(super) fn with_next(
    text: &str,
    entropy: &dyn Entropy,
    created_at: Timestamp,
) -> Result<(Zeroizing<String>, String), KeyFileError> {
    let mut parsed = KeyText::parse(text)?;
    if parsed.generation.len() >= MAX_GENERATIONS {
        return Err(KeyFileError(
            "there are 64 generations already; run `cardless rotate keys --destroy-retired` first"
                .to_owned(),
        ));
    }
    let (id, created_at) = (new_id(entropy)?, created_at.to_string());
    let key = new_key(entropy)?;
    parsed.generation.push(GenerationText {
        id: &id,
        state: NEXT,
        created_at: &created_at,
        key: &key,
    });
    let text = parsed.write();
    drop(parsed);
    Ok((text, id))
}

/// The text with `id` as the generation that seals; the one before it retires.
pub(super) fn with_active(text: &str, id: &str) -> Result<Zeroizing<String>, KeyFileError> {
    let mut parsed = KeyText::parse(text)?;
    for generation in &mut parsed.generation {
        match generation.state {
            _ if generation.id == id => generation.state = ACTIVE,
            // It has sealed nothing, and may still become the active one.
            NEXT => {}
            _ => generation.state = RETIRING,
        }
    }
    Ok(parsed.write())
}

/// The text without these generations, and with `active` as the one that seals: a place that cardless
/// can't write has not been told of it yet.
pub(super) fn without(
    text: &str,
    ids: &[String],
    active: &str,
) -> Result<Zeroizing<String>, KeyFileError> {
    let text = with_active(text, active)?;
    let mut parsed = KeyText::parse(&text)?;
    parsed
        .generation
        .retain(|generation| !ids.iter().any(|id| id == generation.id));
    Ok(parsed.write())
}

/// Whether the text holds `active` and none of these generations, however it is laid out.
pub(super) fn is_without(text: &str, ids: &[String], active: &str) -> Result<bool, KeyFileError> {
    let parsed = KeyText::parse(text)?;
    let holds = |id: &str| {
        parsed
            .generation
            .iter()
            .any(|generation| generation.id == id)
    };
    Ok(holds(active) && !ids.iter().any(|id| holds(id)))
}

/// The id of a generation that has sealed nothing yet, if there is one. One that the database knows
/// has: a place that cardless can't write may still say `next` of it.
pub(super) fn next_id(
    text: &str,
    known: impl Fn(&str) -> bool,
) -> Result<Option<String>, KeyFileError> {
    let parsed = KeyText::parse(text)?;
    let mut unused = parsed.generation.iter().filter(|one| one.state == NEXT);
    let next = unused.find(|one| !known(one.id));
    Ok(next.map(|one| one.id.to_owned()))
}

/// The ids of the generations that may have sealed something.
pub(super) fn used_ids(text: &str) -> Result<Vec<String>, KeyFileError> {
    let parsed = KeyText::parse(text)?;
    let used = parsed.generation.iter().filter(|one| one.state != NEXT);
    Ok(used.map(|one| one.id.to_owned()).collect())
}

/// What is wrong with a text, for who must mend it.
pub(super) fn fault(what: &str) -> KeyFileError {
    KeyFileError(format!(
        "the key file is damaged: {what}; restore it from its copy"
    ))
}

pub(super) fn malformed(text: &str, error: &toml::de::Error) -> KeyFileError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.matches('\n').count() + 1);
    fault(&format!("line {line} is not what a key file has there"))
}

fn new_id(entropy: &dyn Entropy) -> Result<String, KeyFileError> {
    let mut bytes = [0; GENERATION_ID_BYTES];
    fill(entropy, &mut bytes)?;
    Ok(format!("kek_{}", letters(&bytes)))
}

fn new_key(entropy: &dyn Entropy) -> Result<Zeroizing<String>, KeyFileError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    fill(entropy, key.as_mut_slice())?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*key)))
}
