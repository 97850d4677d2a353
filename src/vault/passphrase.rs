//! A key ring's text under a passphrase: Argon2id makes a key of it, AES-256-GCM seals the text.
//!
//! ```toml
//! version = 2
//!
//! [passphrase]
//! kdf = "argon2id"
//! memory_kib = 65536
//! passes = 3
//! lanes = 1
//! salt = "…"        # 16 bytes, base64url without padding
//!
//! [sealed]
//! nonce = "…"       # 12 bytes
//! text = "…"        # AES-256-GCM(K, nonce, text, label || numbers || salt)
//! ```
//!
//! with `K = Argon2id(passphrase, salt, memory, passes, lanes, 32)`. The numbers stand in the file,
//! so that later versions can raise them, and are bounded, so that no file can ask for more than
//! this machine has.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::{Entropy, Secrets};
use ring::aead;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::custody::KeyFileError;
use super::generation::fill;
use super::keytext::{fault, malformed};
use super::record::{KEY_BYTES, aes_key};

/// RFC 9106's choice for memory that is not plentiful, with one lane: 64 MiB, three passes.
const WRITTEN: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};

/// The most that a file may ask for: 1 GiB, sixteen passes, eight lanes.
const MOST: Cost = Cost {
    memory_kib: 1024 * 1024,
    passes: 16,
    lanes: 8,
};

const SALT_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const KDF: &str = "argon2id";
const VERSION: u32 = 2;

/// What stands in a key file that is under a passphrase, and in no other.
const TABLE: &str = "[passphrase]";

const LABEL: &[u8] = b"cardless key file 2\0";

const HEADER: &str = "\
# The keys of this cardless installation, under a passphrase (setting `keys.passphrase`).
# Without this file and its passphrase nothing that is sealed in the database can be opened:
# keep a copy, but never together with a backup of the database. Mode 0600.
";

/// What the key derivation costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text<'a> {
    version: u32,
    #[serde(borrow)]
    passphrase: PassphraseText<'a>,
    sealed: SealedText<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PassphraseText<'a> {
    kdf: &'a str,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedText<'a> {
    nonce: &'a str,
    text: &'a str,
}

/// Whether a key file's text is under a passphrase.
pub(super) fn is_under_one(text: &str) -> bool {
    text.lines().any(|line| line.trim_end() == TABLE)
}

/// Seals a key ring's text.
pub(super) fn seal(
    text: &str,
    passphrase: &str,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<String>, KeyFileError> {
    let mut salt = [0; SALT_BYTES];
    fill(entropy, &mut salt)?;
    let mut nonce = [0; aead::NONCE_LEN];
    fill(entropy, &mut nonce)?;
    let key = derive(passphrase, &salt, WRITTEN)?;
    // Room for the tag from the start: growing would leave a copy of the keys behind.
    let mut sealed = Zeroizing::new(Vec::with_capacity(text.len() + TAG_BYTES));
    sealed.extend_from_slice(text.as_bytes());
    aes_key(&key)
        .map_err(|_| unusable())?
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(bound(WRITTEN, &salt)),
            &mut *sealed,
        )
        .map_err(|_| unusable())?;
    let Cost {
        memory_kib,
        passes,
        lanes,
    } = WRITTEN;
    let base64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    Ok(Zeroizing::new(format!(
        "{HEADER}\nversion = {VERSION}\n\n{TABLE}\nkdf = \"{KDF}\"\nmemory_kib = {memory_kib}\n\
         passes = {passes}\nlanes = {lanes}\nsalt = \"{}\"\n\n[sealed]\nnonce = \"{}\"\n\
         text = \"{}\"\n",
        base64(&salt),
        base64(&nonce),
        base64(&sealed)
    )))
}

/// Opens a key file's text with the first passphrase that fits; `None` if none does.
pub(super) fn open(
    text: &str,
    passphrases: &Secrets,
) -> Result<Option<Zeroizing<String>>, KeyFileError> {
    let parsed: Text<'_> = toml::from_str(text).map_err(|error| malformed(text, &error))?;
    let cost = cost_of(&parsed)?;
    let salt: [u8; SALT_BYTES] = bytes_of(parsed.passphrase.salt, "`salt`")?;
    let nonce: [u8; aead::NONCE_LEN] = bytes_of(parsed.sealed.nonce, "`nonce`")?;
    let sealed = URL_SAFE_NO_PAD
        .decode(parsed.sealed.text)
        .map_err(|_| fault("`text` of [sealed] is not base64url without padding"))?;
    for passphrase in passphrases.all() {
        let key = derive(passphrase, &salt, cost)?;
        let mut bytes = Zeroizing::new(sealed.clone());
        let opened = aes_key(&key).map_err(|_| unusable())?.open_in_place(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(bound(cost, &salt)),
            &mut bytes,
        );
        if let Ok(opened) = opened {
            let text = std::str::from_utf8(opened).map_err(|_| fault("it holds no text"))?;
            return Ok(Some(Zeroizing::new(text.to_owned())));
        }
    }
    Ok(None)
}

fn cost_of(text: &Text<'_>) -> Result<Cost, KeyFileError> {
    let PassphraseText {
        kdf,
        memory_kib,
        passes,
        lanes,
        ..
    } = text.passphrase;
    if text.version != VERSION || kdf != KDF {
        return Err(fault(
            "its `version` or `kdf` is not known; it was written by another cardless",
        ));
    }
    if memory_kib > MOST.memory_kib || passes > MOST.passes || lanes > MOST.lanes {
        return Err(fault(
            "its passphrase asks for more than 1 GiB, 16 passes or 8 lanes",
        ));
    }
    Ok(Cost {
        memory_kib,
        passes,
        lanes,
    })
}

fn derive(
    passphrase: &str,
    salt: &[u8; SALT_BYTES],
    cost: Cost,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyFileError> {
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(KEY_BYTES))
        .map_err(|_| fault("its passphrase asks for too little memory or no pass"))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt, key.as_mut_slice())
        .map_err(|_| unusable())?;
    Ok(key)
}

/// What the sealed text is bound to.
fn bound(cost: Cost, salt: &[u8; SALT_BYTES]) -> Vec<u8> {
    let numbers = [cost.memory_kib, cost.passes, cost.lanes].map(u32::to_be_bytes);
    [LABEL, numbers.as_flattened(), salt].concat()
}

fn bytes_of<const N: usize>(text: &str, what: &str) -> Result<[u8; N], KeyFileError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| fault(&format!("{what} is not {N} bytes in base64url")))
}

fn unusable() -> KeyFileError {
    KeyFileError("no key could be made of the passphrase; it may be too long".to_owned())
}
