//! Messages of any shape, made by hand: what the library itself would never write.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::elliptic_curve::sec1::ToSec1Point as _;
use ring::digest::{Context, SHA256, digest};
use serde_json::{Value, json};

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// A pair made from a word: the same in every run.
pub(crate) fn pair(word: &str) -> p256::SecretKey {
    p256::SecretKey::from_slice(digest(&SHA256, word.as_bytes()).as_ref()).unwrap()
}

/// The public half as JWK.
pub(crate) fn jwk(key: &p256::SecretKey, more: &Value) -> Value {
    let point = key.public_key().to_sec1_point(false);
    let (x, y) = (b64(point.x().unwrap()), b64(point.y().unwrap()));
    let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
    for (name, value) in more.as_object().unwrap() {
        jwk[name] = value.clone();
    }
    jwk
}

/// The private half too.
pub(crate) fn private_jwk(key: &p256::SecretKey, more: &Value) -> Value {
    let mut jwk = jwk(key, more);
    jwk["d"] = b64(key.to_bytes()).into();
    jwk
}

/// Any header and payload, signed by `ES256`.
pub(crate) fn jws(header: &str, payload: &[u8], key: &p256::SecretKey) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let signature: Signature = SigningKey::from(key).sign(signed.as_bytes());
    format!("{signed}.{}", b64(signature.to_bytes()))
}

/// Any header and text, encrypted by `A256GCM` under what `ephemeral` and `to` agree on.
pub(crate) fn jwe(
    header: &str,
    text: &[u8],
    ephemeral: &p256::SecretKey,
    to: &p256::PublicKey,
) -> String {
    let z = p256::ecdh::diffie_hellman(ephemeral.to_nonzero_scalar(), to.as_affine());
    jwe_with(header, text, z.raw_secret_bytes())
}

/// The same, under a shared secret that is given.
pub(crate) fn jwe_with(header: &str, text: &[u8], z: &[u8]) -> String {
    let protected = b64(header);
    let nonce = [9; 12];
    let payload = Payload {
        msg: text,
        aad: protected.as_bytes(),
    };
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(concat_kdf(z, "A256GCM")));
    let sealed = cipher.encrypt(&Nonce::from(nonce), payload).unwrap();
    let (ciphertext, tag) = sealed.split_at(sealed.len() - 16);
    format!(
        "{protected}..{}.{}.{}",
        b64(nonce),
        b64(ciphertext),
        b64(tag)
    )
}

/// RFC 7518, section 4.6.2, once more and without looking at the library's own.
fn concat_kdf(z: &[u8], algorithm: &str) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(&[0, 0, 0, 1]);
    hash.update(z);
    hash.update(&[0, 0, 0, u8::try_from(algorithm.len()).unwrap()]);
    hash.update(algorithm.as_bytes());
    hash.update(&[0; 8]);
    hash.update(&[0, 0, 1, 0]);
    hash.finish().as_ref().try_into().unwrap()
}
