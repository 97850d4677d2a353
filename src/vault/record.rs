//! The record format: AWS Encryption SDK message format version 2, algorithm suite 0x0478, one
//! encrypted data key of the raw AES keyring, one final frame.
//!
//! Specification: <https://docs.aws.amazon.com/encryption-sdk/latest/developer-guide/message-format.html>
//! and, for the required encryption context,
//! <https://github.com/awslabs/aws-encryption-sdk-specification/blob/master/client-apis/encrypt.md>.
//! The bytes in order, all numbers big-endian:
//!
//! ```text
//! header   version 02 · suite 0478 · message id (32) · context length 0000 · key count 0001
//!          · provider id · provider info (key name, tag bits, IV length, IV) · wrapped key (48)
//!          · content type 02 · frame length (4) · commitment (32)
//! tag      AES-256-GCM(K, nonce 0, "", header || context)
//! frame    ffffffff · sequence 00000001 · nonce (12) = 1 · content length (4) · content · tag (16)
//! ```
//!
//! with, for the data key `D` and the message id `M` of the record:
//!
//! ```text
//! wrapped key = AES-256-GCM(KEK, IV, D, context)
//! K           = HKDF-SHA-512(salt M, key D, info 0478 "DERIVEKEY", 32)
//! commitment  = HKDF-SHA-512(salt M, key D, info "COMMITKEY", 32)
//! content     = AES-256-GCM(K, nonce 1, plaintext, M || label || sequence || length)
//! ```
//!
//! Every record has its own `D` and `M`, so the fixed nonces under `K` are never used twice.

use ring::aead::{self, LessSafeKey, UnboundKey};
use ring::hkdf;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::VaultError;

/// The longest plaintext of a record: one frame.
pub(super) const MAX_PLAINTEXT_BYTES: usize = 1 << 20;

/// The same as it stands in the header.
const FRAME_BYTES: [u8; 4] = [0x00, 0x10, 0x00, 0x00];

const VERSION: [u8; 1] = [0x02];
const SUITE: [u8; 2] = [0x04, 0x78];
const NO_STORED_CONTEXT: [u8; 2] = [0; 2];
const ONE_KEY: [u8; 2] = [0, 1];
const FRAMED: [u8; 1] = [0x02];
const FINAL_FRAME: [u8; 4] = [0xff; 4];
const SEQUENCE: [u8; 4] = [0, 0, 0, 1];

/// The key namespace of the raw AES keyring.
const NAMESPACE: &[u8] = b"cardless";

const DERIVE_LABEL: &[u8] = b"DERIVEKEY";
const COMMIT_LABEL: &[u8] = b"COMMITKEY";
const CONTENT_LABEL: &[u8] = b"AWSKMSEncryptionClient Final Frame";

const HEADER_NONCE: [u8; NONCE_BYTES] = [0; NONCE_BYTES];
const CONTENT_NONCE: [u8; NONCE_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub(super) const KEY_BYTES: usize = 32;
const MESSAGE_ID_BYTES: usize = 32;
const NONCE_BYTES: usize = aead::NONCE_LEN;
const TAG_BYTES: usize = 16;
const TAG_BITS: [u8; 4] = [0, 0, 0, 128];
const NONCE_LENGTH: [u8; 4] = [0, 0, 0, 12];
const WRAPPED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// The longest name of a wrapping key.
pub(super) const MAX_KEY_NAME_BYTES: usize = 64;

/// The parts of a record that are not its content, and how many bytes they take beside the name.
const OVERHEAD_BYTES: usize = 320;

/// What a record is made with, drawn anew for each.
#[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub(super) struct Fresh {
    bytes: [u8; KEY_BYTES + MESSAGE_ID_BYTES + NONCE_BYTES],
}

/// A parsed record. Borrowed from the message; nothing of it is authenticated yet.
pub(super) struct Record<'a> {
    key_name: &'a [u8],
    wrap_nonce: &'a [u8; NONCE_BYTES],
    wrapped_key: &'a [u8; WRAPPED_KEY_BYTES],
    message_id: &'a [u8; MESSAGE_ID_BYTES],
    commitment: &'a [u8; KEY_BYTES],
    header: &'a [u8],
    header_tag: &'a [u8; TAG_BYTES],
    /// Content and tag.
    content: &'a [u8],
}

impl Fresh {
    /// Draws the bytes through `fill`.
    pub(super) fn draw<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut fresh = Self {
            bytes: [0; KEY_BYTES + MESSAGE_ID_BYTES + NONCE_BYTES],
        };
        fill(&mut fresh.bytes)?;
        Ok(fresh)
    }
}

/// Seals `plaintext` under a new data key, which is wrapped under `wrapping_key`. `context` is the
/// serialized encryption context.
pub(super) fn seal(
    key_name: &str,
    wrapping_key: &LessSafeKey,
    context: &[u8],
    plaintext: &[u8],
    fresh: &Fresh,
) -> Result<Vec<u8>, VaultError> {
    if plaintext.len() > MAX_PLAINTEXT_BYTES || key_name.len() > MAX_KEY_NAME_BYTES {
        return Err(VaultError::TooLong);
    }
    let (data_key, rest) = take::<KEY_BYTES>(&fresh.bytes)?;
    let (message_id, rest) = take::<MESSAGE_ID_BYTES>(rest)?;
    let (wrap_nonce, _) = take::<NONCE_BYTES>(rest)?;
    let keys = Keys::derive(data_key, message_id)?;

    let mut message = Vec::with_capacity(OVERHEAD_BYTES + key_name.len() + plaintext.len());
    message.extend(VERSION);
    message.extend(SUITE);
    message.extend(message_id);
    message.extend(NO_STORED_CONTEXT);
    message.extend(ONE_KEY);
    write_key(
        &mut message,
        key_name,
        wrap_nonce,
        &wrap(wrapping_key, wrap_nonce, context, data_key)?,
    )?;
    message.extend(FRAMED);
    message.extend(FRAME_BYTES);
    message.extend(keys.commitment.as_slice());
    let tag = header_tag(&keys.content, &message, context)?;
    message.extend(tag.as_ref());

    message.extend(FINAL_FRAME);
    message.extend(SEQUENCE);
    message.extend(CONTENT_NONCE);
    message.extend(four_bytes(plaintext.len())?);
    let mut content = Zeroizing::new(plaintext.to_vec());
    let aad = content_aad(message_id, plaintext.len())?;
    let tag = keys
        .content
        .seal_in_place_separate_tag(nonce(CONTENT_NONCE), aead::Aad::from(aad), &mut content)
        .map_err(|_| VaultError::Opaque)?;
    message.extend(content.as_slice());
    message.extend(tag.as_ref());
    Ok(message)
}

impl<'a> Record<'a> {
    /// Takes a record apart. Anything but the one shape that [`seal`] writes is refused: another
    /// version, suite, content type or frame length, a stored context, a second key, an unknown
    /// key provider, another length of anything, trailing bytes.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, VaultError> {
        let rest = expect(message, &VERSION)?;
        let rest = expect(rest, &SUITE)?;
        let (message_id, rest) = take::<MESSAGE_ID_BYTES>(rest)?;
        let rest = expect(rest, &NO_STORED_CONTEXT)?;
        let rest = expect(rest, &ONE_KEY)?;
        let (provider, rest) = take_counted(rest)?;
        expect_all(provider, NAMESPACE)?;
        let (info, rest) = take_counted(rest)?;
        let (wrapped_key, rest) = take_counted(rest)?;
        let (key_name, wrap_nonce) = parse_provider_info(info)?;
        let rest = expect(rest, &FRAMED)?;
        let rest = expect(rest, &FRAME_BYTES)?;
        let (commitment, rest) = take::<KEY_BYTES>(rest)?;
        let header = before(message, rest)?;
        let (header_tag, rest) = take::<TAG_BYTES>(rest)?;
        Ok(Self {
            key_name,
            wrap_nonce,
            wrapped_key: wrapped_key.try_into().map_err(|_| VaultError::Opaque)?,
            message_id,
            commitment,
            header,
            header_tag,
            content: parse_final_frame(rest)?,
        })
    }

    /// The name of the key that wraps this record's data key.
    pub(super) const fn key_name(&self) -> &'a [u8] {
        self.key_name
    }

    /// Opens the record. The order is: unwrap, compare the commitment, verify the header, decrypt.
    pub(super) fn open(
        &self,
        wrapping_key: &LessSafeKey,
        context: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let data_key = unwrap(wrapping_key, self.wrap_nonce, context, self.wrapped_key)?;
        let keys = Keys::derive(data_key.as_slice(), self.message_id)?;
        let committed = keys.commitment.ct_eq(self.commitment.as_slice());
        let tag = header_tag(&keys.content, self.header, context)?;
        let authentic = tag.as_ref().ct_eq(self.header_tag.as_slice());
        if !bool::from(committed & authentic) {
            return Err(VaultError::Opaque);
        }
        let mut content = Zeroizing::new(self.content.to_vec());
        let length = content.len().saturating_sub(TAG_BYTES);
        let aad = content_aad(self.message_id, length)?;
        keys.content
            .open_in_place(nonce(CONTENT_NONCE), aead::Aad::from(aad), &mut content)
            .map_err(|_| VaultError::Opaque)?;
        content.truncate(length);
        Ok(content)
    }
}

/// What a data key and a message id give.
struct Keys {
    content: LessSafeKey,
    commitment: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keys {
    /// Both keys of the module's formulas, by HKDF-SHA-512.
    fn derive(data_key: &[u8], message_id: &[u8]) -> Result<Self, VaultError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA512, message_id).extract(data_key);
        let content = expand(&prk, &[&SUITE, DERIVE_LABEL])?;
        Ok(Self {
            content: aes_key(&content)?,
            commitment: expand(&prk, &[COMMIT_LABEL])?,
        })
    }
}

/// An AES-256-GCM key. ring does not wipe it when it is dropped; it lives as long as its owner.
pub(super) fn aes_key(bytes: &[u8; KEY_BYTES]) -> Result<LessSafeKey, VaultError> {
    UnboundKey::new(&aead::AES_256_GCM, bytes)
        .map(LessSafeKey::new)
        .map_err(|_| VaultError::Opaque)
}

struct KeyLength;

impl hkdf::KeyType for KeyLength {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn expand(prk: &hkdf::Prk, info: &[&[u8]]) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    prk.expand(info, KeyLength)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(|_| VaultError::Opaque)?;
    Ok(key)
}

/// `AES-256-GCM(KEK, IV, D, context)`: the data key, bound to where its record belongs.
fn wrap(
    wrapping_key: &LessSafeKey,
    wrap_nonce: &[u8; NONCE_BYTES],
    context: &[u8],
    data_key: &[u8; KEY_BYTES],
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    // Room for the tag from the start: growing would leave a copy of the key behind.
    let mut wrapped = Zeroizing::new(Vec::with_capacity(WRAPPED_KEY_BYTES));
    wrapped.extend_from_slice(data_key);
    wrapping_key
        .seal_in_place_append_tag(nonce(*wrap_nonce), aead::Aad::from(context), &mut *wrapped)
        .map_err(|_| VaultError::Opaque)?;
    Ok(wrapped)
}

/// The inverse of [`wrap`].
fn unwrap(
    wrapping_key: &LessSafeKey,
    wrap_nonce: &[u8; NONCE_BYTES],
    context: &[u8],
    wrapped_key: &[u8; WRAPPED_KEY_BYTES],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, VaultError> {
    let mut bytes = Zeroizing::new(*wrapped_key);
    let opened = wrapping_key
        .open_in_place(
            nonce(*wrap_nonce),
            aead::Aad::from(context),
            bytes.as_mut_slice(),
        )
        .map_err(|_| VaultError::Opaque)?;
    let (data_key, _) = take::<KEY_BYTES>(opened)?;
    Ok(Zeroizing::new(*data_key))
}

/// `AES-256-GCM(K, nonce 0, "", header || context)`: the header and the context that is not stored.
fn header_tag(key: &LessSafeKey, header: &[u8], context: &[u8]) -> Result<aead::Tag, VaultError> {
    let aad = [header, context].concat();
    key.seal_in_place_separate_tag(nonce(HEADER_NONCE), aead::Aad::from(aad), &mut [])
        .map_err(|_| VaultError::Opaque)
}

/// What the content's tag covers beside the content.
fn content_aad(message_id: &[u8], length: usize) -> Result<Vec<u8>, VaultError> {
    Ok([
        message_id,
        CONTENT_LABEL,
        &SEQUENCE,
        &[0; 4],
        &four_bytes(length)?,
    ]
    .concat())
}

fn write_key(
    message: &mut Vec<u8>,
    key_name: &str,
    wrap_nonce: &[u8; NONCE_BYTES],
    wrapped_key: &[u8],
) -> Result<(), VaultError> {
    let info = [key_name.as_bytes(), &TAG_BITS, &NONCE_LENGTH, wrap_nonce].concat();
    for part in [NAMESPACE, &info, wrapped_key] {
        let length = u16::try_from(part.len()).map_err(|_| VaultError::TooLong)?;
        message.extend(length.to_be_bytes());
        message.extend(part);
    }
    Ok(())
}

/// Key name, tag length in bits, IV length in bytes, IV; the lengths are the only ones we write.
fn parse_provider_info(info: &[u8]) -> Result<(&[u8], &[u8; NONCE_BYTES]), VaultError> {
    let fixed = TAG_BITS.len() + NONCE_LENGTH.len() + NONCE_BYTES;
    let name_length = info.len().checked_sub(fixed).ok_or(VaultError::Opaque)?;
    if name_length > MAX_KEY_NAME_BYTES {
        return Err(VaultError::Opaque);
    }
    let (name, rest) = info
        .split_at_checked(name_length)
        .ok_or(VaultError::Opaque)?;
    let rest = expect(rest, &TAG_BITS)?;
    let rest = expect(rest, &NONCE_LENGTH)?;
    let (nonce, _) = take::<NONCE_BYTES>(rest)?;
    Ok((name, nonce))
}

/// Content and tag of the one frame, which must end the message.
fn parse_final_frame(frame: &[u8]) -> Result<&[u8], VaultError> {
    let rest = expect(frame, &FINAL_FRAME)?;
    let rest = expect(rest, &SEQUENCE)?;
    let rest = expect(rest, &CONTENT_NONCE)?;
    let (length, content) = take::<4>(rest)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| VaultError::Opaque)?;
    let whole = content.len().checked_sub(TAG_BYTES) == Some(length);
    (whole && length <= MAX_PLAINTEXT_BYTES)
        .then_some(content)
        .ok_or(VaultError::Opaque)
}

fn take<const N: usize>(bytes: &[u8]) -> Result<(&[u8; N], &[u8]), VaultError> {
    bytes.split_first_chunk::<N>().ok_or(VaultError::Opaque)
}

/// A part behind its two-byte length.
fn take_counted(bytes: &[u8]) -> Result<(&[u8], &[u8]), VaultError> {
    let (length, rest) = take::<2>(bytes)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        .ok_or(VaultError::Opaque)
}

fn expect<'a>(bytes: &'a [u8], expected: &[u8]) -> Result<&'a [u8], VaultError> {
    bytes.strip_prefix(expected).ok_or(VaultError::Opaque)
}

fn expect_all(bytes: &[u8], expected: &[u8]) -> Result<(), VaultError> {
    (bytes == expected).then_some(()).ok_or(VaultError::Opaque)
}

/// The part of `message` that stands before its own end `rest`.
fn before<'a>(message: &'a [u8], rest: &[u8]) -> Result<&'a [u8], VaultError> {
    let length = message
        .len()
        .checked_sub(rest.len())
        .ok_or(VaultError::Opaque)?;
    message.get(..length).ok_or(VaultError::Opaque)
}

fn four_bytes(length: usize) -> Result<[u8; 4], VaultError> {
    u32::try_from(length)
        .map(u32::to_be_bytes)
        .map_err(|_| VaultError::TooLong)
}

fn nonce(bytes: [u8; NONCE_BYTES]) -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_length_is_the_longest_plaintext() {
        assert_eq!(four_bytes(MAX_PLAINTEXT_BYTES).unwrap(), FRAME_BYTES);
    }
}
