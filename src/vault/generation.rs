//! Generations of the key-encryption key (KEK): the one that seals, and those that still open.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::{Entropy, Timestamp};
use ring::aead::LessSafeKey;
use zeroize::Zeroizing;

use super::custody::KeyFileError;
use super::keytext::{ACTIVE, GenerationText, NEXT, RETIRING, fault};
use super::record::{KEY_BYTES, MAX_KEY_NAME_BYTES, aes_key};

/// Random bytes in a generation's id.
pub(super) const GENERATION_ID_BYTES: usize = 10;

/// Room for 32 bytes as base64 decodes them: it works in groups of three.
const DECODED_BYTES: usize = 33;

/// One generation of the key-encryption key.
#[derive(Clone)]
pub(super) struct Generation {
    id: String,
    created_at: Timestamp,
    key: LessSafeKey,
}

/// The generations of one key ring. One of them seals; all of them open.
#[derive(Clone)]
pub(super) struct Generations {
    /// New records are sealed under this one.
    active: Generation,
    /// Records sealed under these still open.
    others: Vec<Generation>,
}

impl Generation {
    /// The id that records carry as the name of their wrapping key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    pub(super) const fn key(&self) -> &LessSafeKey {
        &self.key
    }

    fn read(text: &GenerationText<'_>) -> Result<Self, KeyFileError> {
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let fits = (1..=MAX_KEY_NAME_BYTES).contains(&text.id.len());
        if !fits || !text.id.bytes().all(named) {
            return Err(fault(
                "a generation's `id` is not 1 to 64 letters, digits, _ and -",
            ));
        }
        let created_at = Timestamp::parse_rfc3339(text.created_at)
            .ok_or_else(|| fault("a generation's `created_at` is not an RFC 3339 timestamp"))?;
        let key = read_key(text.key, "a generation's `key`")?;
        Ok(Self {
            id: text.id.to_owned(),
            created_at,
            key: aes_key(&key).map_err(|_| fault("a generation's `key` is unusable"))?,
        })
    }
}

impl Generations {
    /// Reads them. The text must say of one that it is active, and no two may share an id.
    pub(super) fn read(texts: &[GenerationText<'_>]) -> Result<Self, KeyFileError> {
        let mut active = Vec::new();
        let mut others = Vec::new();
        for text in texts {
            match text.state {
                ACTIVE => active.push(Generation::read(text)?),
                RETIRING | NEXT => others.push(Generation::read(text)?),
                _ => {
                    return Err(fault(
                        "a generation's `state` is neither active nor retiring nor next",
                    ));
                }
            }
        }
        let (Some(active), true) = (active.pop(), active.is_empty()) else {
            return Err(fault(
                "it must have exactly one generation with state = \"active\"",
            ));
        };
        let read = Self { active, others };
        read.refuse_twins()?;
        Ok(read)
    }

    pub(super) const fn active(&self) -> &Generation {
        &self.active
    }

    /// The generation that a record names.
    pub(super) fn named(&self, id: &[u8]) -> Option<&Generation> {
        self.all().find(|generation| generation.id.as_bytes() == id)
    }

    /// All of them, the active one first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Generation> {
        std::iter::once(&self.active).chain(&self.others)
    }

    /// The same with `id` as the active one; `None` if it is not among them.
    pub(super) fn with_active(&self, id: &str) -> Option<Self> {
        let (chosen, others): (Vec<_>, Vec<_>) =
            self.all().cloned().partition(|found| found.id == id);
        let active = chosen.into_iter().next()?;
        Some(Self { active, others })
    }

    /// A record names its generation by id, so no two may share one.
    fn refuse_twins(&self) -> Result<(), KeyFileError> {
        let mut ids: Vec<&str> = self.all().map(Generation::id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() == count {
            Ok(())
        } else {
            Err(fault("two generations have the same `id`"))
        }
    }
}

/// The 32 bytes of a key, from its text.
pub(super) fn read_key(text: &str, what: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let wrong = || {
        fault(&format!(
            "{what} is not 32 bytes in base64url without padding"
        ))
    };
    let mut bytes = Zeroizing::new([0; DECODED_BYTES]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, bytes.as_mut_slice())
        .map_err(|_| wrong())?;
    let key = bytes
        .first_chunk::<KEY_BYTES>()
        .filter(|_| length == KEY_BYTES);
    key.map(|key| Zeroizing::new(*key)).ok_or_else(wrong)
}

pub(super) fn fill(entropy: &dyn Entropy, bytes: &mut [u8]) -> Result<(), KeyFileError> {
    entropy
        .fill(bytes)
        .map_err(|error| KeyFileError(format!("no key could be made: {error}")))
}
