//! What is a key, and what is none.

use cardless::exchange::{PublicKey, SealError, SecretKey, Usage, jwe, jws};
use cardless_contract::SystemEntropy;
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use serde_json::{Value, json};

use crate::forge;

fn read(value: &Value) -> Result<PublicKey, String> {
    let keys = PublicKey::read_all(&value.to_string());
    keys.map(|mut keys| keys.remove(0))
        .map_err(|error| error.to_string())
}

fn good() -> Value {
    forge::jwk(&forge::pair("a"), &json!({"kid": "a"}))
}

fn with(member: &str, value: Value) -> Value {
    let mut jwk = good();
    jwk[member] = value;
    jwk
}

#[test]
fn a_jwk_says_what_it_is_for() {
    assert_eq!(read(&good()).unwrap().usage(), Usage::Both);
    assert_eq!(
        read(&with("use", json!("sig"))).unwrap().usage(),
        Usage::Sign
    );
    assert_eq!(
        read(&with("use", json!("enc"))).unwrap().usage(),
        Usage::Seal
    );
    assert_eq!(
        read(&with("alg", json!("ES256"))).unwrap().usage(),
        Usage::Sign
    );
    assert_eq!(
        read(&with("alg", json!("ECDH-ES"))).unwrap().usage(),
        Usage::Seal
    );
    assert_eq!(
        read(&with("key_ops", json!(["verify"]))).unwrap().usage(),
        Usage::Sign
    );
    assert_eq!(
        read(&with("key_ops", json!([]))).unwrap().usage(),
        Usage::Both
    );
    assert_eq!(
        read(&with("key_ops", json!(["deriveBits"])))
            .unwrap()
            .usage(),
        Usage::Seal
    );
    // Members that say nothing of the key are passed over.
    assert!(read(&with("x5t#S256", json!("AAAA"))).is_ok());
}

#[test]
fn what_is_no_public_key_of_the_profile_is_refused() {
    let mut sealing = with("use", json!("enc"));
    sealing["alg"] = "ES256".into();
    for bad in [
        with("kty", json!("RSA")),
        with("crv", json!("P-384")),
        with("crv", json!("secp256k1")),
        with("x", json!("AAAA")),
        with("x", json!(forge::b64([0; 32]))),
        with("y", json!(null)),
        with("use", json!("tls")),
        with("alg", json!("ECDH-ES+A256KW")),
        with("alg", json!("ES384")),
        with("alg", json!("dir")),
        with("key_ops", json!("verify")),
        with("key_ops", json!(["encrypt"])),
        with("kid", json!("")),
        with("kid", json!(7)),
        with("kid", json!("a b")),
        with("kid", json!("k".repeat(129))),
        sealing,
        json!({}),
        json!([]),
        json!({"keys": []}),
        json!({"keys": [good(), good()]}),
        json!({"keys": [1]}),
        json!({"keys": vec![good(); 17]}),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
    let twice = good().to_string().replacen('{', r#"{"kty":"EC","#, 1);
    for bad in [
        "",
        "key",
        "{",
        "-----BEGIN PUBLIC KEY-----",
        &twice,
        &" ".repeat(70_000),
    ] {
        assert!(PublicKey::read_all(bad).is_err());
    }
}

#[test]
fn a_private_key_is_refused_loudly_and_not_quoted() {
    let pair = forge::pair("a");
    let private = forge::private_jwk(&pair, &json!({}));
    let pem = pair.to_pkcs8_pem(Default::default()).unwrap();
    let set = json!({"keys": [good(), private]});
    let mut beside = private.clone();
    beside["keys"] = json!([good()]);
    let symmetric = json!({"kty": "oct", "k": "c2VjcmV0LWNhbmFyeQ"});
    for text in [
        private.to_string(),
        pem.to_string(),
        set.to_string(),
        beside.to_string(),
        symmetric.to_string(),
    ] {
        let error = PublicKey::read_all(&text).unwrap_err().to_string();
        assert!(error.contains("private key"), "{error}");
        assert!(!error.contains(private["d"].as_str().unwrap()));
        assert!(!error.contains("canary"));
    }
    let secret = SecretKey::read(&private.to_string()).unwrap();
    assert!(!format!("{secret:?}").contains(private["d"].as_str().unwrap()));
}

#[test]
fn a_pem_is_named_by_its_thumbprint() {
    let (one, two) = (forge::pair("a"), forge::pair("b"));
    let pem = |key: &p256::SecretKey| {
        key.public_key()
            .to_public_key_pem(Default::default())
            .unwrap()
    };
    let both = format!("a comment\n{}\n{}", pem(&one), pem(&two));
    let keys = PublicKey::read_all(&both).unwrap();
    assert_eq!(keys.len(), 2);
    for key in &keys {
        assert_eq!(key.kid(), key.thumbprint());
        assert_eq!(key.usage(), Usage::Both);
    }
    let unnamed = forge::jwk(&one, &json!({}));
    assert_eq!(read(&unnamed).unwrap(), keys[0]);
    let damaged = pem(&one).replace("MFkw", "MFkx");
    assert!(PublicKey::read_all(&damaged).is_err());
    let private = one.to_pkcs8_pem(Default::default()).unwrap();
    assert_eq!(SecretKey::read(&private).unwrap().public(), &keys[0]);
}

/// RFC 7638's own example is an RSA key; this is the profile's form of it, computed by hand.
#[test]
fn a_thumbprint_is_the_hash_of_the_required_members() {
    let key = good();
    let members = format!(
        r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
        key["x"], key["y"]
    );
    let hash = ring::digest::digest(&ring::digest::SHA256, members.as_bytes());
    assert_eq!(read(&key).unwrap().thumbprint(), forge::b64(hash));
}

#[test]
fn a_pair_must_be_one() {
    let mut stranger = forge::private_jwk(&forge::pair("a"), &json!({}));
    stranger["d"] = forge::private_jwk(&forge::pair("b"), &json!({}))["d"].clone();
    let mut zero = forge::private_jwk(&forge::pair("a"), &json!({}));
    zero["d"] = forge::b64([0; 32]).into();
    for bad in [stranger, zero, good()] {
        assert!(SecretKey::read(&bad.to_string()).is_err());
    }
}

#[test]
fn a_key_does_nothing_but_what_it_is_for() {
    let signs = SecretKey::generate(Usage::Sign, &SystemEntropy).unwrap();
    let seals = SecretKey::generate(Usage::Seal, &SystemEntropy).unwrap();
    assert_eq!(jws::sign(b"{}", "JWT", &seals).unwrap_err(), SealError::Key);
    let sealed = jwe::seal(b"{}", "JWT", None, signs.public(), &SystemEntropy);
    assert_eq!(sealed.unwrap_err(), SealError::Key);
    let kept = SecretKey::read(&signs.to_private_jwk()).unwrap();
    assert_eq!(kept.public(), signs.public());
}
