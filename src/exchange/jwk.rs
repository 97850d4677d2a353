//! Keys on P-256, as JWK (RFC 7517), JWK set or PEM; nothing else is a key here.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cardless_contract::Entropy;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{SealError, json};

/// How many bytes a coordinate or a private number has.
const COORDINATE_BYTES: usize = 32;

/// How many bytes an uncompressed point has: 4, x and y.
const POINT_BYTES: usize = 65;

/// The longest `kid`, in bytes.
pub const MAX_KID_BYTES: usize = 128;

/// The largest file with keys, in bytes.
pub const MAX_KEYS_BYTES: usize = 64 * 1024;

/// How many keys one file may have.
pub const MAX_KEYS: usize = 16;

/// How often a private number is drawn again; one draw in 2^32 is none.
const MAX_DRAWS: u32 = 16;

/// What a PEM block with a public key begins with.
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";

/// What a PEM block with a public key ends with.
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// To sign: JWK `use` `sig`.
    Sign,
    /// To seal to its holder: JWK `use` `enc`.
    Seal,
    /// Both; a PEM and a JWK without `use` do not say. Two keys, one for each, are better.
    Both,
}

/// A public key, with its `kid` and what it may be used for.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    kid: String,
    usage: Usage,
    pub(super) point: p256::PublicKey,
}

/// A private key. It is wiped from memory when it is dropped, and its `Debug` shows the `kid`.
#[derive(Clone)]
pub struct SecretKey {
    public: PublicKey,
    pub(super) secret: p256::SecretKey,
}

/// Why something is no key of the profile. It quotes nothing of what it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(&'static str);

impl Usage {
    /// The word, as it is stored and listed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sign => "sig",
            Self::Seal => "enc",
            Self::Both => "both",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "sig" => Some(Self::Sign),
            "enc" => Some(Self::Seal),
            "both" => Some(Self::Both),
            _ => None,
        }
    }

    /// Whether a signature by the key counts.
    pub const fn signs(self) -> bool {
        matches!(self, Self::Sign | Self::Both)
    }

    /// Whether messages may be sealed to the key.
    pub const fn seals(self) -> bool {
        matches!(self, Self::Seal | Self::Both)
    }
}

impl PublicKey {
    /// Reads a file with public keys: a JWK, a JWK set, or PEM blocks (`PUBLIC KEY`). A key without
    /// a `kid` is named by its thumbprint (RFC 7638).
    ///
    /// # Errors
    ///
    /// [`KeyError`], also if there is a private key in it: then it must be thought of as lost.
    pub fn read_all(text: &str) -> Result<Vec<Self>, KeyError> {
        if text.len() > MAX_KEYS_BYTES {
            return Err(KeyError("a file with keys has at most 64 KiB"));
        }
        if text.contains("PRIVATE KEY-----") {
            return Err(PRIVATE);
        }
        let keys = if text.trim_start().starts_with('{') {
            from_json(text)?
        } else {
            from_pem(text)?
        };
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(KeyError("a file has 1 to 16 keys"));
        }
        let twice = |key: &Self| keys.iter().filter(|other| other.kid == key.kid).count() > 1;
        if keys.iter().any(twice) {
            return Err(KeyError("two keys have the same `kid`"));
        }
        Ok(keys)
    }

    /// A key from its uncompressed point (65 bytes, SEC 1), as it is stored.
    ///
    /// # Errors
    ///
    /// [`KeyError`] for what is no point of the curve, and for a bad `kid`.
    pub fn from_point(kid: &str, usage: Usage, point: &[u8]) -> Result<Self, KeyError> {
        // The length first: a compressed point, and the one at infinity, are shorter.
        if point.len() != POINT_BYTES {
            return Err(OFF_CURVE);
        }
        Ok(Self {
            kid: checked_kid(kid)?,
            usage,
            point: p256::PublicKey::from_sec1_bytes(point).map_err(|_| OFF_CURVE)?,
        })
    }

    /// The key's name.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// What it may be used for.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// The uncompressed point: 65 bytes.
    pub fn to_point(&self) -> Vec<u8> {
        self.point.to_sec1_point(false).as_bytes().to_vec()
    }

    /// The key's thumbprint: SHA-256 over its members in the order of RFC 7638, in base64url.
    pub fn thumbprint(&self) -> String {
        let (x, y) = coordinates(&self.point);
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let hash = ring::digest::digest(&ring::digest::SHA256, members.as_bytes());
        URL_SAFE_NO_PAD.encode(hash)
    }

    /// The key as a JWK, to be published.
    pub fn to_jwk(&self) -> Value {
        let (x, y) = coordinates(&self.point);
        let mut jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid});
        let (usage, algorithm) = match self.usage {
            Usage::Sign => ("sig", super::jws::ALGORITHM),
            Usage::Seal => ("enc", super::jwe::ALGORITHM),
            Usage::Both => return jwk,
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("use".to_owned(), usage.into());
            members.insert("alg".to_owned(), algorithm.into());
        }
        jwk
    }

    /// The same key under another name.
    fn named(mut self, kid: Option<&str>) -> Result<Self, KeyError> {
        self.kid = match kid {
            Some(kid) => checked_kid(kid)?,
            None => self.thumbprint(),
        };
        Ok(self)
    }
}

impl SecretKey {
    /// Draws a new key.
    ///
    /// # Errors
    ///
    /// [`SealError::Entropy`].
    pub fn generate(usage: Usage, entropy: &dyn Entropy) -> Result<Self, SealError> {
        let secret = draw(entropy)?;
        Ok(Self::new(secret, usage))
    }

    /// A key from its private number: 32 bytes, big-endian, not zero and below the curve's order.
    pub(crate) fn from_number(kid: &str, usage: Usage, number: &[u8]) -> Option<Self> {
        let secret = p256::SecretKey::from_slice(number).ok()?;
        let mut key = Self::new(secret, usage);
        key.public.kid = checked_kid(kid).ok()?;
        Some(key)
    }

    /// Reads a private JWK, or a PEM block with a PKCS#8 key.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub fn read(text: &str) -> Result<Self, KeyError> {
        if text.len() > MAX_KEYS_BYTES {
            return Err(KeyError("a file with keys has at most 64 KiB"));
        }
        if !text.trim_start().starts_with('{') {
            let secret = p256::SecretKey::from_pkcs8_pem(text)
                .map_err(|_| KeyError("this is no PKCS#8 key on P-256 in PEM"))?;
            return Ok(Self::new(secret, Usage::Both));
        }
        let members = object(text)?;
        let public = from_jwk(&members)?;
        let number = Zeroizing::new(coordinate(&members, "d")?);
        let secret = p256::SecretKey::from_slice(number.as_slice())
            .map_err(|_| KeyError("`d` is no private key of the curve"))?;
        if secret.public_key() != public.point {
            return Err(KeyError("`d` does not belong to `x` and `y`"));
        }
        Ok(Self { public, secret })
    }

    /// The public half.
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The key as a private JWK, for its owner to keep. Show it to nobody.
    pub fn to_private_jwk(&self) -> Zeroizing<String> {
        let mut jwk = self.public.to_jwk();
        let number = Zeroizing::new(self.secret.to_bytes().to_vec());
        if let Some(members) = jwk.as_object_mut() {
            let number = URL_SAFE_NO_PAD.encode(number.as_slice());
            members.insert("d".to_owned(), number.into());
        }
        Zeroizing::new(jwk.to_string())
    }

    fn new(secret: p256::SecretKey, usage: Usage) -> Self {
        let point = secret.public_key();
        let mut public = PublicKey {
            kid: String::new(),
            usage,
            point,
        };
        public.kid = public.thumbprint();
        Self { public, secret }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({}, {})", self.kid, self.usage.as_str())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.public.kid)
    }
}

/// What is said of a private key where a public one belongs.
const PRIVATE: KeyError = KeyError(
    "this holds a private key; it must never leave its owner: make a new pair and register its \
     public half",
);

const OFF_CURVE: KeyError = KeyError("this is no point of the curve P-256");

/// Draws a private number.
pub(super) fn draw(entropy: &dyn Entropy) -> Result<p256::SecretKey, SealError> {
    let mut bytes = Zeroizing::new([0; COORDINATE_BYTES]);
    for _ in 0..MAX_DRAWS {
        entropy
            .fill(bytes.as_mut_slice())
            .map_err(|_| SealError::Entropy)?;
        if let Ok(secret) = p256::SecretKey::from_slice(bytes.as_slice()) {
            return Ok(secret);
        }
    }
    Err(SealError::Entropy)
}

/// Both coordinates in base64url.
pub(super) fn coordinates(point: &p256::PublicKey) -> (String, String) {
    let point = point.to_sec1_point(false);
    let of = |coordinate: Option<&_>| coordinate.map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    (
        of(point.x()).unwrap_or_default(),
        of(point.y()).unwrap_or_default(),
    )
}

/// The point with these coordinates, each of them 32 bytes in base64url.
pub(super) fn point(x: &str, y: &str) -> Result<p256::PublicKey, KeyError> {
    let mut bytes = [4; POINT_BYTES];
    let (_, rest) = bytes.split_at_mut(1);
    for (to, text) in rest.chunks_exact_mut(COORDINATE_BYTES).zip([x, y]) {
        to.copy_from_slice(&decoded(text)?);
    }
    p256::PublicKey::from_sec1_bytes(&bytes).map_err(|_| OFF_CURVE)
}

fn decoded(text: &str) -> Result<[u8; COORDINATE_BYTES], KeyError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyError(
            "`x`, `y` and `d` are 32 bytes each, in base64url without padding",
        ))
}

fn from_json(text: &str) -> Result<Vec<PublicKey>, KeyError> {
    let members = object(text)?;
    // A set is no key itself, so nothing of a private one stands beside its list.
    refuse_private(&members)?;
    let Some(keys) = members.get("keys") else {
        return Ok(vec![from_jwk(&members)?]);
    };
    let keys = keys.as_array().ok_or(KeyError("`keys` is no list"))?;
    keys.iter()
        .map(|key| public_from_jwk(key.as_object().ok_or(KeyError("a key is no object"))?))
        .collect()
}

fn object(text: &str) -> Result<Map<String, Value>, KeyError> {
    match json::strict(text.as_bytes()) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(KeyError(
            "this is no JSON object, or a member stands twice in it",
        )),
    }
}

/// The members of a private or symmetric key (RFC 7518, section 6).
const SECRET_MEMBERS: [&str; 8] = ["d", "k", "p", "q", "dp", "dq", "qi", "oth"];

fn public_from_jwk(members: &Map<String, Value>) -> Result<PublicKey, KeyError> {
    refuse_private(members)?;
    from_jwk(members)
}

fn refuse_private(members: &Map<String, Value>) -> Result<(), KeyError> {
    let is_private = SECRET_MEMBERS
        .iter()
        .any(|name| members.contains_key(*name));
    if is_private { Err(PRIVATE) } else { Ok(()) }
}

/// A JWK's public half. Members that say nothing of the key itself are passed over (RFC 7517).
fn from_jwk(members: &Map<String, Value>) -> Result<PublicKey, KeyError> {
    let text = |name: &str| match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(KeyError("a member of the key has another type than text")),
    };
    if text("kty")? != Some("EC") || text("crv")? != Some("P-256") {
        return Err(KeyError(
            "only keys with `kty` EC and `crv` P-256 can be used",
        ));
    }
    let point = point(
        text("x")?.unwrap_or_default(),
        text("y")?.unwrap_or_default(),
    )?;
    let usage = agreed_usage(text("use")?, text("alg")?, members.get("key_ops"))?;
    let key = PublicKey {
        kid: String::new(),
        usage,
        point,
    };
    key.named(text("kid")?)
}

/// What `use`, `alg` and `key_ops` say together. A key whose members disagree is refused.
fn agreed_usage(
    usage: Option<&str>,
    algorithm: Option<&str>,
    operations: Option<&Value>,
) -> Result<Usage, KeyError> {
    let by_use = match usage {
        None => None,
        Some("sig") => Some(Usage::Sign),
        Some("enc") => Some(Usage::Seal),
        Some(_) => return Err(KeyError("`use` is neither sig nor enc")),
    };
    let by_algorithm = match algorithm {
        None => None,
        Some(super::jws::ALGORITHM) => Some(Usage::Sign),
        Some(super::jwe::ALGORITHM) => Some(Usage::Seal),
        Some(_) => return Err(KeyError("`alg` is neither ES256 nor ECDH-ES")),
    };
    let by_operations = operations.map(usage_of_operations).transpose()?.flatten();
    let mut said = [by_use, by_algorithm, by_operations].into_iter().flatten();
    let first = said.next();
    if said.any(|other| Some(other) != first) {
        return Err(KeyError("`use`, `alg` and `key_ops` contradict each other"));
    }
    Ok(first.unwrap_or(Usage::Both))
}

/// `key_ops` of a key; a public key for ECDH-ES has an empty list, which says nothing.
fn usage_of_operations(operations: &Value) -> Result<Option<Usage>, KeyError> {
    const WRONG: KeyError = KeyError("`key_ops` names what no key of the profile does");
    let mut usage = None;
    for operation in operations.as_array().ok_or(WRONG)? {
        let found = match operation.as_str() {
            Some("sign" | "verify") => Usage::Sign,
            Some("deriveKey" | "deriveBits") => Usage::Seal,
            _ => return Err(WRONG),
        };
        usage = match usage {
            None => Some(found),
            Some(other) if other == found => usage,
            Some(_) => Some(Usage::Both),
        };
    }
    Ok(usage)
}

fn coordinate(
    members: &Map<String, Value>,
    name: &str,
) -> Result<[u8; COORDINATE_BYTES], KeyError> {
    let text = members.get(name).and_then(Value::as_str);
    decoded(text.ok_or(KeyError("`d` is missing: this is no private key"))?)
}

fn from_pem(text: &str) -> Result<Vec<PublicKey>, KeyError> {
    const NO_KEY: KeyError = KeyError("this is no JWK, no JWK set and no PEM with a PUBLIC KEY");
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find(PEM_BEGIN) {
        let (_, from) = rest.split_at_checked(begin).ok_or(NO_KEY)?;
        let end = from.find(PEM_END).ok_or(NO_KEY)? + PEM_END.len();
        let (block, after) = from.split_at_checked(end).ok_or(NO_KEY)?;
        let point = p256::PublicKey::from_public_key_pem(block)
            .map_err(|_| KeyError("a PUBLIC KEY in the PEM is no key on P-256"))?;
        let key = PublicKey {
            kid: String::new(),
            usage: Usage::Both,
            point,
        };
        keys.push(key.named(None)?);
        rest = after;
    }
    if keys.is_empty() {
        return Err(NO_KEY);
    }
    Ok(keys)
}

/// A `kid` is 1 to [`MAX_KID_BYTES`] visible ASCII characters.
fn checked_kid(kid: &str) -> Result<String, KeyError> {
    if is_kid(kid) {
        return Ok(kid.to_owned());
    }
    Err(KeyError("a `kid` is 1 to 128 visible ASCII characters"))
}

pub(super) fn is_kid(kid: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_graphic())
}
