//! Seals what must not be read at rest, and makes the keyed hashes that stand in for it.
//!
//! A record is an AWS Encryption SDK message (`record.rs` has the bytes), sealed under a key of its
//! own and bound to where it belongs ([`Context`]). Anything that does not open gives the same
//! error, whatever is wrong with it.
//!
//! What is absent: the vault knows no store, no journal and no provider crate; it holds no record.

mod context;
mod custody;
mod generation;
mod keyring;
mod keytext;
mod passphrase;
mod record;
mod rotate;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cardless_contract::{Entropy, ProviderToken};
use zeroize::Zeroizing;

pub use context::{Context, Purpose};
pub use custody::{Custody, KeyFile, KeyFileError};
use generation::{Generation, Generations};
use keyring::{HashKeys, Source};
pub use keyring::{HashPurpose, KeyRing};
use record::{Fresh, Record};
use rotate::Needed;

/// Seals and opens records, and makes keyed hashes, with the keys of one ring.
///
/// Another process may rotate the keys meanwhile: a vault whose ring was read from a [`Custody`]
/// reads it again when a record names a generation that it does not know. Keys that lack what seals here
/// are an older copy for all that a record can say; that another generation seals by now, only the store
/// knows.
pub struct Vault {
    generations: RwLock<Arc<Generations>>,
    hashes: HashKeys,
    source: Mutex<Option<Source>>,
    entropy: Arc<dyn Entropy>,
}

/// A sealed record, as it may be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The id of the key generation that it was sealed under.
    pub generation: String,
    /// The message.
    pub bytes: Vec<u8>,
}

/// Why nothing was sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The record does not open: changed, moved, sealed under a key that is not here, or no record
    /// at all. One error for all of them, so that it tells nothing.
    #[error("the record does not open")]
    Opaque,
    /// There were no random bytes for a new record's key.
    #[error("the source of randomness failed")]
    Entropy,
    /// The text is longer than a record may be.
    #[error("the text is too long for a record")]
    TooLong,
}

impl Vault {
    /// The longest text that a record can hold, in bytes.
    pub const MAX_PLAINTEXT_BYTES: usize = record::MAX_PLAINTEXT_BYTES;

    /// A vault over a key ring. `entropy` gives each record its data key, its id and its nonce.
    pub fn new(keys: KeyRing, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            generations: RwLock::new(Arc::new(keys.generations)),
            hashes: keys.hashes,
            source: Mutex::new(keys.source),
            entropy,
        }
    }

    /// Seals `plaintext` under the active generation, bound to `context`.
    ///
    /// # Errors
    ///
    /// [`VaultError::Entropy`], and [`VaultError::TooLong`] beyond [`Vault::MAX_PLAINTEXT_BYTES`].
    pub fn seal(&self, context: &Context<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        self.seal_with(self.generations().active(), context, plaintext)
    }

    /// Seals under the generation of that name: the one whose use was counted.
    ///
    /// # Errors
    ///
    /// Those of [`Vault::seal`], and [`VaultError::Opaque`] if it is not here.
    pub(crate) fn seal_under(
        &self,
        generation: &str,
        context: &Context<'_>,
        plaintext: &[u8],
    ) -> Result<Sealed, VaultError> {
        let generations = self.generations();
        let generation = generations
            .named(generation.as_bytes())
            .ok_or(VaultError::Opaque)?;
        self.seal_with(generation, context, plaintext)
    }

    fn seal_with(
        &self,
        generation: &Generation,
        context: &Context<'_>,
        plaintext: &[u8],
    ) -> Result<Sealed, VaultError> {
        let context = context.to_bytes()?;
        let fresh =
            Fresh::draw(|bytes| self.entropy.fill(bytes)).map_err(|_| VaultError::Entropy)?;
        let bytes = record::seal(
            generation.id(),
            generation.key(),
            &context,
            plaintext,
            &fresh,
        )?;
        Ok(Sealed {
            generation: generation.id().to_owned(),
            bytes,
        })
    }

    /// Opens a record that was sealed under the same `context`, by any generation of the ring.
    ///
    /// # Errors
    ///
    /// [`VaultError::Opaque`].
    pub fn open(
        &self,
        context: &Context<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let context = context.to_bytes().map_err(|_| VaultError::Opaque)?;
        let record = Record::parse(sealed)?;
        let mut generations = self.generations();
        if generations.named(record.key_name()).is_none() {
            // Sealed by a process that has rotated the keys, or by nobody.
            self.reload_with(Needed::Also(record.key_name()))
                .map_err(|_| VaultError::Opaque)?;
            generations = self.generations();
        }
        let generation = generations
            .named(record.key_name())
            .ok_or(VaultError::Opaque)?;
        record.open(generation.key(), &context)
    }

    /// Opens a record that holds a provider's token.
    ///
    /// # Errors
    ///
    /// [`VaultError::Opaque`], also if what it holds is no token.
    pub fn open_token(
        &self,
        context: &Context<'_>,
        sealed: &[u8],
    ) -> Result<ProviderToken, VaultError> {
        let bytes = self.open(context, sealed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| VaultError::Opaque)?;
        ProviderToken::new(text).ok_or(VaultError::Opaque)
    }

    /// HMAC-SHA-256 of `bytes` under the purpose's own key.
    pub fn keyed_hash(&self, purpose: HashPurpose, bytes: &[u8]) -> [u8; 32] {
        self.hashes.keyed_hash(purpose, bytes)
    }

    /// The same hash as a function, for a part that must know no vault.
    pub(crate) fn hasher(
        &self,
        purpose: HashPurpose,
    ) -> impl Fn(&[u8]) -> [u8; 32] + Send + Sync + 'static {
        self.hashes.hasher(purpose)
    }

    /// Whether `expected` is the keyed hash of `bytes`, compared in constant time.
    pub fn verify_hash(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool {
        self.hashes.verify_hash(purpose, bytes, expected)
    }

    /// A key of 32 bytes for another purpose, the same for the same `label` whatever generations
    /// come and go.
    pub fn derive_key(&self, label: &str) -> Zeroizing<[u8; 32]> {
        self.hashes.derive_key(label)
    }

    /// The key generation that a sealed record names, if it is whole by its format. That says nothing
    /// of whether it opens.
    pub(crate) fn generation_of(sealed: &[u8]) -> Option<&str> {
        let record = Record::parse(sealed).ok()?;
        std::str::from_utf8(record.key_name()).ok()
    }

    /// Whether the generation that a sealed record names is here, so that nothing is to be read again for
    /// it. Of what is no record, nothing would be.
    pub(crate) fn knows(&self, sealed: &[u8]) -> bool {
        Record::parse(sealed).map_or(true, |record| {
            self.generations().named(record.key_name()).is_some()
        })
    }

    fn generations(&self) -> Arc<Generations> {
        let held = self.generations.read();
        Arc::clone(&held.unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault(…)")
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({}, {} bytes)", self.generation, self.bytes.len())
    }
}
