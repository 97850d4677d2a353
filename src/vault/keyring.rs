//! The keys: generations of the key-encryption key (KEK), and the root of the keyed hashes.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::{Clock as _, Entropy, SystemClock, Timestamp};
use ring::aead::LessSafeKey;
use ring::{hkdf, hmac};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::custody::{Custody, KeyFile, KeyFileError};
use super::record::{KEY_BYTES, MAX_KEY_NAME_BYTES, aes_key};
use crate::letters::letters;

/// The keys of one installation. Its `Debug` shows none of them.
pub struct KeyRing {
    /// New records are sealed under this one.
    active: Generation,
    /// Records sealed under these still open.
    retiring: Vec<Generation>,
    hashes: HashKeys,
}

/// What keyed hashes are made for; each has its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashPurpose {
    /// What an account is called in the store.
    Pseudonym,
    /// An API key as it is stored.
    ApiKey,
    /// The digest of a request under its `Idempotency-Key`.
    RequestDigest,
    /// A request body that must be rebuilt to the byte.
    BodySeal,
    /// What an account is called at a provider.
    CustomerReference,
    /// The chain of the audit log.
    Audit,
}

/// One generation of the key-encryption key.
pub(super) struct Generation {
    id: String,
    created_at: Timestamp,
    key: LessSafeKey,
}

/// The key of each [`HashPurpose`].
struct HashKeys {
    pseudonym: hmac::Key,
    api_key: hmac::Key,
    request_digest: hmac::Key,
    body_seal: hmac::Key,
    customer_reference: hmac::Key,
    audit: hmac::Key,
}

/// A key file's text as TOML. The strings are borrowed from the text, which its owner wipes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    version: u32,
    #[serde(borrow)]
    generation: Vec<GenerationText<'a>>,
    hashes: HashesText<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationText<'a> {
    id: &'a str,
    state: &'a str,
    created_at: &'a str,
    key: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashesText<'a> {
    root: &'a str,
}

/// The shape of the key file that this version reads and writes.
const VERSION: u32 = 1;

const ACTIVE: &str = "active";
const RETIRING: &str = "retiring";

/// More generations than this at once mean that rotations were never finished.
const MAX_GENERATIONS: usize = 64;

/// Random bytes in a generation's id.
const ID_BYTES: usize = 10;

/// Room for 32 bytes as base64 decodes them: it works in groups of three.
const DECODED_BYTES: usize = 33;

/// The salt from which the hash keys are derived; another one would change every pseudonym.
const HASH_SALT: &[u8] = b"cardless keyed hashes 1";

impl KeyRing {
    /// Makes a new key file's text, with one active generation, created now by the machine's
    /// clock. Whoever writes it to a file must give that file mode 0600.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if there are no random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Result<Zeroizing<String>, KeyFileError> {
        Self::generate_at(entropy, SystemClock::default().now())
    }

    /// The same, created at a given moment.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] if there are no random bytes.
    pub fn generate_at(
        entropy: &dyn Entropy,
        created_at: Timestamp,
    ) -> Result<Zeroizing<String>, KeyFileError> {
        let mut id = [0; ID_BYTES];
        fill(entropy, &mut id)?;
        let id = letters(&id);
        let key = new_key(entropy)?;
        let root = new_key(entropy)?;
        let parts = [
            "# The keys of this cardless installation. Without this file nothing that is sealed in\n",
            "# the database can be opened: keep a copy, but never together with a backup of the\n",
            "# database. It must be readable by the service's user only (mode 0600).\n\n",
            "version = 1\n\n",
            "[[generation]]\nid = \"kek_",
            &id,
            "\"\nstate = \"active\"\ncreated_at = \"",
            &created_at.to_string(),
            "\"\nkey = \"",
            key.as_str(),
            "\"\n\n[hashes]\nroot = \"",
            root.as_str(),
            "\"\n",
        ];
        // The length is known, so no shorter buffer with half of a key is left behind.
        let mut text = Zeroizing::new(String::with_capacity(parts.iter().map(|p| p.len()).sum()));
        text.extend(parts);
        Ok(text)
    }

    /// Reads a key file's text.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with what is wrong. It quotes nothing of the text.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        // TOML's own message quotes the line that it stumbles on, so only its number is used.
        let parsed: Text<'_> = toml::from_str(text).map_err(|error| malformed(text, &error))?;
        if parsed.version != VERSION {
            return Err(fault(
                "its `version` is not 1; it was written by another cardless",
            ));
        }
        if parsed.generation.len() > MAX_GENERATIONS {
            return Err(fault("it has more than 64 generations"));
        }
        let mut active = Vec::new();
        let mut retiring = Vec::new();
        for generation in &parsed.generation {
            match generation.state {
                ACTIVE => active.push(Generation::read(generation)?),
                RETIRING => retiring.push(Generation::read(generation)?),
                _ => {
                    return Err(fault(
                        "a generation's `state` is neither active nor retiring",
                    ));
                }
            }
        }
        let (Some(active), true) = (active.pop(), active.is_empty()) else {
            return Err(fault(
                "it must have exactly one generation with state = \"active\"",
            ));
        };
        refuse_twins(&active, &retiring)?;
        Ok(Self {
            active,
            retiring,
            hashes: HashKeys::derive(&*read_key(parsed.hashes.root, "`root` of [hashes]")?)?,
        })
    }

    /// Reads a key file; refuses one to which others have access, saying what to do.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], which names the file.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        Self::from_custody(&KeyFile::new(path))
    }

    /// Reads a key ring from wherever it is kept.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], which names the place.
    pub fn from_custody(custody: &dyn Custody) -> Result<Self, KeyFileError> {
        Self::parse(&custody.read()?)
            .map_err(|error| KeyFileError(format!("{}: {error}", custody.name())))
    }

    /// The id of the generation that new records are sealed under.
    pub fn active_id(&self) -> &str {
        &self.active.id
    }

    /// When the active generation was made.
    pub const fn active_since(&self) -> Timestamp {
        self.active.created_at
    }

    /// The ids of all generations, the active one first.
    pub fn generation_ids(&self) -> impl Iterator<Item = &str> {
        self.generations().map(Generation::id)
    }

    pub(super) const fn active(&self) -> &Generation {
        &self.active
    }

    /// The generation that a record names.
    pub(super) fn named(&self, id: &[u8]) -> Option<&Generation> {
        self.generations()
            .find(|generation| generation.id.as_bytes() == id)
    }

    pub(super) fn keyed_hash(&self, purpose: HashPurpose, bytes: &[u8]) -> [u8; KEY_BYTES] {
        sign(self.hashes.of(purpose), bytes)
    }

    pub(super) fn hasher(
        &self,
        purpose: HashPurpose,
    ) -> impl Fn(&[u8]) -> [u8; KEY_BYTES] + Send + Sync + 'static {
        let key = self.hashes.of(purpose).clone();
        move |bytes| sign(&key, bytes)
    }

    pub(super) fn verify_hash(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool {
        hmac::verify(self.hashes.of(purpose), bytes, expected).is_ok()
    }

    fn generations(&self) -> impl Iterator<Item = &Generation> {
        std::iter::once(&self.active).chain(&self.retiring)
    }
}

impl Generation {
    /// The id that records carry as the name of their wrapping key.
    pub(super) fn id(&self) -> &str {
        &self.id
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

impl HashKeys {
    /// `HKDF-SHA-256(salt, root, label, 32)` for each purpose, so that no key says anything of
    /// another.
    fn derive(root: &[u8; KEY_BYTES]) -> Result<Self, KeyFileError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, HASH_SALT).extract(root);
        let key = |purpose: HashPurpose| {
            root.expand(&[purpose.label()], hmac::HMAC_SHA256)
                .map(hmac::Key::from)
                .map_err(|_| fault("`root` of [hashes] is unusable"))
        };
        Ok(Self {
            pseudonym: key(HashPurpose::Pseudonym)?,
            api_key: key(HashPurpose::ApiKey)?,
            request_digest: key(HashPurpose::RequestDigest)?,
            body_seal: key(HashPurpose::BodySeal)?,
            customer_reference: key(HashPurpose::CustomerReference)?,
            audit: key(HashPurpose::Audit)?,
        })
    }

    const fn of(&self, purpose: HashPurpose) -> &hmac::Key {
        match purpose {
            HashPurpose::Pseudonym => &self.pseudonym,
            HashPurpose::ApiKey => &self.api_key,
            HashPurpose::RequestDigest => &self.request_digest,
            HashPurpose::BodySeal => &self.body_seal,
            HashPurpose::CustomerReference => &self.customer_reference,
            HashPurpose::Audit => &self.audit,
        }
    }
}

/// HMAC-SHA-256.
fn sign(key: &hmac::Key, bytes: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(key, bytes);
    let mut hash = [0; KEY_BYTES];
    for (to, from) in hash.iter_mut().zip(tag.as_ref()) {
        *to = *from;
    }
    hash
}

impl HashPurpose {
    /// What the purpose's key is derived with; another label would change every hash.
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Pseudonym => b"pseudonym",
            Self::ApiKey => b"api key",
            Self::RequestDigest => b"request digest",
            Self::BodySeal => b"body seal",
            Self::CustomerReference => b"customer reference",
            Self::Audit => b"audit log",
        }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}

/// A record names its generation by id, so no two may share one.
fn refuse_twins(active: &Generation, retiring: &[Generation]) -> Result<(), KeyFileError> {
    let mut ids: Vec<&str> = retiring
        .iter()
        .chain([active])
        .map(Generation::id)
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() == count {
        Ok(())
    } else {
        Err(fault("two generations have the same `id`"))
    }
}

fn new_key(entropy: &dyn Entropy) -> Result<Zeroizing<String>, KeyFileError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    fill(entropy, key.as_mut_slice())?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*key)))
}

fn fill(entropy: &dyn Entropy, bytes: &mut [u8]) -> Result<(), KeyFileError> {
    entropy
        .fill(bytes)
        .map_err(|error| KeyFileError(format!("no key could be made: {error}")))
}

fn read_key(text: &str, what: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
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

fn malformed(text: &str, error: &toml::de::Error) -> KeyFileError {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map_or(1, |before| before.matches('\n').count() + 1);
    fault(&format!("line {line} is not what a key file has there"))
}

fn fault(what: &str) -> KeyFileError {
    KeyFileError(format!(
        "the key file is damaged: {what}; restore it from its copy"
    ))
}
