//! The keys: generations of the key-encryption key (KEK), and the root of everything that is derived.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cardless_contract::{Clock as _, Entropy, SystemClock, Timestamp};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use super::custody::{Custody, KeyFile, KeyFileError};
use super::generation::{Generation, Generations, read_key};
use super::keytext::{self, KeyText, fault};
use super::record::KEY_BYTES;

/// The keys of one installation. Its `Debug` shows none of them.
pub struct KeyRing {
    pub(super) generations: Generations,
    pub(super) hashes: HashKeys,
    /// Where they were read, to be read again when another process has rotated them.
    pub(super) source: Option<Source>,
}

/// Where keys were read, and what stood there.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) custody: Arc<dyn Custody>,
    pub(super) fingerprint: [u8; KEY_BYTES],
    /// What has stood there since and could not be read, and why: not tried at each use.
    pub(super) unread: Option<([u8; KEY_BYTES], String)>,
}

/// What keyed hashes are made for, each with what its key is derived with: another label would change
/// every hash.
macro_rules! purposes {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// What keyed hashes are made for; each has its own key.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum HashPurpose {
            $($(#[$doc])* $name,)*
        }

        impl HashPurpose {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            const fn label(self) -> &'static [u8] {
                match self {
                    $(Self::$name => $label,)*
                }
            }
        }
    };
}

purposes! {
    /// What an account is called in the store.
    Pseudonym = b"pseudonym",
    /// An API key as it is stored.
    ApiKey = b"api key",
    /// The digest of a request under its `Idempotency-Key`.
    RequestDigest = b"request digest",
    /// A request body that must be rebuilt to the byte.
    BodySeal = b"body seal",
    /// What an account is called at a provider.
    CustomerReference = b"customer reference",
    /// The chain of the audit log.
    Audit = b"audit log",
    /// What leads from an account to the receipt of its erasure.
    ErasedAccount = b"erased account",
    /// The service's own keys of the sealed exchange.
    Exchange = b"exchange",
    /// What an imported token is called, so that it is taken in once.
    ImportedToken = b"imported token",
    /// The registration of a client's public key.
    ClientKey = b"client key",
}

/// The key of each [`HashPurpose`].
pub(super) struct HashKeys {
    root: hkdf::Prk,
    pseudonym: hmac::Key,
    api_key: hmac::Key,
    request_digest: hmac::Key,
    body_seal: hmac::Key,
    customer_reference: hmac::Key,
    audit: hmac::Key,
    erased_account: hmac::Key,
    exchange: hmac::Key,
    imported_token: hmac::Key,
    client_key: hmac::Key,
}

/// The salt from which the hash keys are derived; another one would change every pseudonym.
const HASH_SALT: &[u8] = b"cardless keyed hashes 1";

/// What the label of a key that is no hash key begins with.
const DERIVE_LABEL: &[u8] = b"derive\0";

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
        keytext::new(entropy, created_at)
    }

    /// Reads a key ring's text. Such a ring stays as it is: nobody can rotate it.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with what is wrong. It quotes nothing of the text.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let parsed = KeyText::parse(text)?;
        Ok(Self {
            generations: Generations::read(&parsed.generation)?,
            hashes: HashKeys::derive(&*read_key(parsed.hashes.root, "`root` of [hashes]")?)?,
            source: None,
        })
    }

    /// Reads a key file; refuses one to which others have access, saying what to do.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], which names the file.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        Self::from_custody(Arc::new(KeyFile::new(path)))
    }

    /// Reads a key ring from wherever it is kept.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`], which names the place.
    pub fn from_custody(custody: Arc<dyn Custody>) -> Result<Self, KeyFileError> {
        // Asked before the text is read: if both change in between, it is read once too often.
        let fingerprint = custody.fingerprint()?;
        let read = match Self::parse(&custody.read()?) {
            Ok(read) => read,
            // It may have been replaced while it was read: the second time it is whole.
            Err(_) => Self::parse(&custody.read()?)
                .map_err(|error| KeyFileError(format!("{}: {error}", custody.name())))?,
        };
        Ok(Self {
            source: Some(Source {
                custody,
                fingerprint,
                unread: None,
            }),
            ..read
        })
    }

    /// The id of the generation that new records are sealed under.
    pub fn active_id(&self) -> &str {
        self.generations.active().id()
    }

    /// When the active generation was made.
    pub const fn active_since(&self) -> Timestamp {
        self.generations.active().created_at()
    }

    /// The ids of all generations, the active one first.
    pub fn generation_ids(&self) -> impl Iterator<Item = &str> {
        self.generations.all().map(Generation::id)
    }
}

impl HashKeys {
    /// `HKDF-SHA-256(salt, root, label, 32)` for each purpose, so that no key says anything of
    /// another.
    pub(super) fn derive(root: &[u8; KEY_BYTES]) -> Result<Self, KeyFileError> {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, HASH_SALT).extract(root);
        let key = |purpose: HashPurpose| {
            root.expand(&[purpose.label()], hmac::HMAC_SHA256)
                .map(hmac::Key::from)
                .map_err(|_| fault("`root` of [hashes] is unusable"))
        };
        Ok(Self {
            root: root.clone(),
            pseudonym: key(HashPurpose::Pseudonym)?,
            api_key: key(HashPurpose::ApiKey)?,
            request_digest: key(HashPurpose::RequestDigest)?,
            body_seal: key(HashPurpose::BodySeal)?,
            customer_reference: key(HashPurpose::CustomerReference)?,
            audit: key(HashPurpose::Audit)?,
            erased_account: key(HashPurpose::ErasedAccount)?,
            exchange: key(HashPurpose::Exchange)?,
            imported_token: key(HashPurpose::ImportedToken)?,
            client_key: key(HashPurpose::ClientKey)?,
        })
    }

    /// `HKDF-SHA-256(salt, root, "derive" 00 label, 32)`: a key for something else, which says
    /// nothing of the others. No label of a [`HashPurpose`] begins like that.
    pub(super) fn derive_key(&self, label: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        let info = [DERIVE_LABEL, label.as_bytes()];
        let filled = self
            .root
            .expand(&info, hmac::HMAC_SHA256)
            .and_then(|okm| okm.fill(key.as_mut_slice()));
        debug_assert!(
            filled.is_ok(),
            "32 bytes are within what HKDF-SHA-256 gives"
        );
        key
    }

    pub(super) fn keyed_hash(&self, purpose: HashPurpose, bytes: &[u8]) -> [u8; KEY_BYTES] {
        sign(self.of(purpose), bytes)
    }

    pub(super) fn hasher(
        &self,
        purpose: HashPurpose,
    ) -> impl Fn(&[u8]) -> [u8; KEY_BYTES] + Send + Sync + 'static {
        let key = self.of(purpose).clone();
        move |bytes| sign(&key, bytes)
    }

    pub(super) fn verify_hash(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool {
        hmac::verify(self.of(purpose), bytes, expected).is_ok()
    }

    const fn of(&self, purpose: HashPurpose) -> &hmac::Key {
        match purpose {
            HashPurpose::Pseudonym => &self.pseudonym,
            HashPurpose::ApiKey => &self.api_key,
            HashPurpose::RequestDigest => &self.request_digest,
            HashPurpose::BodySeal => &self.body_seal,
            HashPurpose::CustomerReference => &self.customer_reference,
            HashPurpose::Audit => &self.audit,
            HashPurpose::ErasedAccount => &self.erased_account,
            HashPurpose::Exchange => &self.exchange,
            HashPurpose::ImportedToken => &self.imported_token,
            HashPurpose::ClientKey => &self.client_key,
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

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}
