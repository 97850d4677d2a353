//! SKELETON: the vault's face, bodies come.
#![allow(missing_docs, clippy::todo, unused_variables)]
use cardless_contract::{Entropy, ProviderToken};
use zeroize::Zeroizing;

/// Where a record belongs. All fields are required encryption context, supplied at opening and not stored in the message.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The account's pseudonym.
    pub account: &'a str,
    /// The provider's name; `-` for a record that belongs to none.
    pub provider: &'a str,
    /// The merchant at the provider (space, merchant id, client id hash); `-` for none.
    pub merchant: &'a str,
    /// The record's own id.
    pub record: &'a str,
    /// What it is for.
    pub purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose { Token, Account, Redirect, Answer }

/// What keyed hashes are made for; each has its own key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashPurpose { Pseudonym, ApiKey, RequestDigest, BodySeal, CustomerReference }

#[derive(Debug)]
pub struct Sealed { pub generation: String, pub bytes: Vec<u8> }

/// One opaque error for anything that does not open.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the record does not open")]
    Opaque,
    #[error("the source of randomness failed")]
    Entropy,
}

#[derive(Debug)]
pub struct KeyRing {}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyFileError(pub String);

impl KeyRing {
    /// Makes a new key file's text (`init` writes it with mode 0600).
    pub fn generate(entropy: &dyn Entropy) -> Result<Zeroizing<String>, KeyFileError> { todo!() }
    pub fn parse(text: &str) -> Result<Self, KeyFileError> { todo!() }
    /// Reads a key file; refuses one that others can read (mode & 0o077), saying what to do.
    pub fn load(path: &std::path::Path) -> Result<Self, KeyFileError> { todo!() }
}

#[derive(Debug)]
pub struct Vault {}

impl Vault {
    pub fn new(keys: KeyRing, entropy: std::sync::Arc<dyn Entropy>) -> Self { todo!() }
    pub fn seal(&self, context: &Context<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> { todo!() }
    pub fn open(&self, context: &Context<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> { todo!() }
    pub fn open_token(&self, context: &Context<'_>, sealed: &[u8]) -> Result<ProviderToken, VaultError> { todo!() }
    /// HMAC-SHA-256 under the purpose's own key.
    pub fn keyed_hash(&self, purpose: HashPurpose, bytes: &[u8]) -> [u8; 32] { todo!() }
    /// Constant-time comparison of `keyed_hash`.
    pub fn verify_hash(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool { todo!() }
}
