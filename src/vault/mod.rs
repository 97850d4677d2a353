//! Seals what must not be read at rest, and makes the keyed hashes that stand in for it.
//!
//! A record is an AWS Encryption SDK message (`record.rs` has the bytes), sealed under a key of its
//! own and bound to where it belongs ([`Context`]). Anything that does not open gives the same
//! error, whatever is wrong with it.
//!
//! What is absent: the vault knows no store, no journal and no provider crate; it holds no record.

mod context;
mod custody;
mod keyring;
mod record;

use std::fmt;
use std::sync::Arc;

use cardless_contract::{Entropy, ProviderToken};
use zeroize::Zeroizing;

pub use context::{Context, Purpose};
pub use custody::{Custody, KeyFile, KeyFileError};
pub use keyring::{HashPurpose, KeyRing};
use record::{Fresh, Record};

/// Seals and opens records, and makes keyed hashes, with the keys of one ring.
pub struct Vault {
    keys: KeyRing,
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
        Self { keys, entropy }
    }

    /// Seals `plaintext` under the active generation, bound to `context`.
    ///
    /// # Errors
    ///
    /// [`VaultError::Entropy`], and [`VaultError::TooLong`] beyond [`Vault::MAX_PLAINTEXT_BYTES`].
    pub fn seal(&self, context: &Context<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        let context = context.to_bytes()?;
        let fresh =
            Fresh::draw(|bytes| self.entropy.fill(bytes)).map_err(|_| VaultError::Entropy)?;
        let generation = self.keys.active();
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
        let generation = self
            .keys
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
        self.keys.keyed_hash(purpose, bytes)
    }

    /// The same hash as a function, for a part that must know no vault.
    pub(crate) fn hasher(
        &self,
        purpose: HashPurpose,
    ) -> impl Fn(&[u8]) -> [u8; 32] + Send + Sync + 'static {
        self.keys.hasher(purpose)
    }

    /// Whether `expected` is the keyed hash of `bytes`, compared in constant time.
    pub fn verify_hash(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool {
        self.keys.verify_hash(purpose, bytes, expected)
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
