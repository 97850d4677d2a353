//! Project Wycheproof's files. They lie beside the workspace; without them each test says that it
//! is skipped. A vector counts as valid here only if it is also of the profile.
//!
//! `hkdf_sha512_test`, `hkdf_sha256_test`, `hmac_sha256_test` and `ecdsa_secp256r1_sha256_test` are of the
//! calls to ring that the vault (records and derived keys), webhooks of all three providers, our own
//! events and the exchange's derived keys make. Their vectors stand below those formats, so they are
//! held here by the same calls, not through ours.

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use cardless::exchange::{PublicKey, SecretKey, jwe, jws};
use cardless_testkit::shared;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use ring::{hkdf, hmac};
use serde_json::Value;

use crate::forge;

/// The groups of a file, or nothing if it is not there.
fn groups(name: &str) -> Vec<Value> {
    let Some(mut file) = shared::json(&format!("vectors/wycheproof/{name}.json")) else {
        return Vec::new();
    };
    let groups = file["testGroups"].take();
    serde_json::from_value(groups).unwrap()
}

fn tests(group: &Value) -> impl Iterator<Item = &Value> {
    group["tests"].as_array().unwrap().iter()
}

fn is_valid(test: &Value) -> bool {
    test["result"] == "valid"
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// How many were taken and how many refused must be what the file of 2026 has; a file that has
/// changed is looked at again.
fn assert_counts(name: &str, found: (u32, u32), expected: (u32, u32)) {
    if found != (0, 0) {
        assert_eq!(found, expected, "{name}");
        println!("{name}: {} taken, {} refused", found.0, found.1);
    }
}

#[test]
fn signed_messages_are_taken_if_valid_and_es256() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("json_web_signature_test") {
        let public = group.get("public").or(group.get("private")).unwrap();
        let key = PublicKey::read_all(&public.to_string()).ok();
        for test in tests(&group) {
            let message = test["jws"].as_str().unwrap_or_default();
            let verified = key.as_ref().is_some_and(|key| {
                let message = jws::Unverified::parse(message);
                message.is_ok_and(|message| message.verify(&key[0]).is_ok())
            });
            let of_profile = public["alg"] == "ES256" && public["crv"] == "P-256";
            let expected = is_valid(test) && of_profile;
            assert_eq!(verified, expected, "{} {}", test["tcId"], test["comment"]);
            *(if verified { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert_counts("json_web_signature_test", (taken, refused), (2, 399));
}

#[test]
fn encrypted_messages_are_taken_if_valid_and_of_the_profile() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("json_web_encryption_test") {
        let private = &group["private"];
        let key = SecretKey::read(&private.to_string()).ok();
        for test in tests(&group) {
            let message = test["jwe"].as_str().unwrap_or_default();
            let opened = key.as_ref().and_then(|key| {
                let message = jwe::Unopened::parse(message).ok()?;
                message.open(key).ok()
            });
            let of_profile = private["alg"] == "ECDH-ES" && test["enc"] == "A256GCM";
            let expected = (is_valid(test) && of_profile).then(|| bytes(&test["pt"]));
            assert_eq!(
                opened.map(|text| text.to_vec()),
                expected,
                "{} {}",
                test["tcId"],
                test["comment"]
            );
            *(if expected.is_some() {
                &mut taken
            } else {
                &mut refused
            }) += 1;
        }
    }
    assert_counts("json_web_encryption_test", (taken, refused), (1, 138));
}

/// None of them is a set of public keys on P-256 for the profile.
#[test]
fn key_sets_of_other_kinds_are_refused() {
    let mut refused = 0;
    for group in groups("json_web_key_test") {
        let keys = group.get("public").or(group.get("private")).unwrap();
        let key = PublicKey::read_all(&keys.to_string());
        for test in tests(&group) {
            let message = test["jws"].as_str().unwrap_or_default();
            let verified = key.as_ref().is_ok_and(|keys| {
                let key = &keys[0];
                let message = jws::Unverified::parse(message);
                message.is_ok_and(|message| message.verify(key).is_ok())
            });
            assert!(!verified, "{}", test["comment"]);
            refused += 1;
        }
    }
    assert_counts("json_web_key_test", (0, refused), (0, 26));
}

/// Each vector as the ephemeral key of a message whose content key comes from the vector's shared
/// secret: it opens if, and only if, our agreement gives the same.
#[test]
fn agreed_keys_are_those_of_the_vectors() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("ecdh_secp256r1_webcrypto_test") {
        for test in tests(&group) {
            let mut epk = test["public"].as_object().cloned().unwrap();
            epk.remove("kid");
            let header = serde_json::json!({"alg": "ECDH-ES", "enc": "A256GCM", "epk": epk});
            let z = bytes(&test["shared"]);
            let message = forge::jwe_with(&header.to_string(), b"text", &z);
            let key = SecretKey::read(&test["private"].to_string()).unwrap();
            let opened = jwe::Unopened::parse(&message).and_then(|message| message.open(&key));
            assert_eq!(opened.is_ok(), is_valid(test), "{}", test["tcId"]);
            *(if opened.is_ok() {
                &mut taken
            } else {
                &mut refused
            }) += 1;
        }
    }
    assert_counts("ecdh_secp256r1_webcrypto_test", (taken, refused), (330, 23));
}

/// Below the message format: signatures over any bytes, by the calls that `exchange::jws` makes.
#[test]
fn signatures_are_taken_if_valid() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("ecdsa_secp256r1_sha256_p1363_test") {
        let point = bytes(&group["publicKey"]["uncompressed"]);
        let key = p256::PublicKey::from_sec1_bytes(&point).unwrap();
        for test in tests(&group) {
            let verified = Signature::from_slice(&bytes(&test["sig"])).is_ok_and(|signature| {
                let key = VerifyingKey::from(&key);
                key.verify(&bytes(&test["msg"]), &signature).is_ok()
            });
            assert_eq!(verified, is_valid(test), "{}", test["tcId"]);
            *(if verified { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert_counts(
        "ecdsa_secp256r1_sha256_p1363_test",
        (taken, refused),
        (173, 89),
    );
}

/// Below the message format: A256GCM with the nonces and tags of the profile.
#[test]
fn ciphertexts_are_opened_if_valid() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("aes_gcm_test") {
        let profile = group["keySize"] == 256 && group["ivSize"] == 96 && group["tagSize"] == 128;
        for test in tests(&group).filter(|_| profile) {
            let key: [u8; 32] = bytes(&test["key"]).try_into().unwrap();
            let nonce: [u8; 12] = bytes(&test["iv"]).try_into().unwrap();
            let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(key));
            let sealed = [bytes(&test["ct"]), bytes(&test["tag"])].concat();
            let payload = Payload {
                msg: &sealed,
                aad: &bytes(&test["aad"]),
            };
            let opened = cipher.decrypt(&Nonce::from(nonce), payload).ok();
            let expected = is_valid(test).then(|| bytes(&test["msg"]));
            assert_eq!(opened, expected, "{}", test["tcId"]);
            *(if expected.is_some() {
                &mut taken
            } else {
                &mut refused
            }) += 1;
        }
    }
    assert_counts("aes_gcm_test", (taken, refused), (39, 27));
}

/// A length of what HKDF gives.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// `HKDF(salt, ikm, info, size)`; nothing if it is more than HKDF gives.
fn derived(algorithm: hkdf::Algorithm, test: &Value) -> Option<Vec<u8>> {
    let size = usize::try_from(test["size"].as_u64().unwrap()).unwrap();
    let root = hkdf::Salt::new(algorithm, &bytes(&test["salt"])).extract(&bytes(&test["ikm"]));
    let info = bytes(&test["info"]);
    let info = [info.as_slice()];
    let okm = root.expand(&info, Length(size)).ok()?;
    let mut out = vec![0; size];
    okm.fill(&mut out).unwrap();
    Some(out)
}

/// What records' keys (SHA-512) and the keys of hashes (SHA-256) are derived by.
#[test]
fn derived_keys_are_those_of_the_vectors() {
    for (name, algorithm, expected) in [
        ("hkdf_sha256_test", hkdf::HKDF_SHA256, (83, 3)),
        ("hkdf_sha512_test", hkdf::HKDF_SHA512, (80, 3)),
    ] {
        let (mut taken, mut refused) = (0, 0);
        for group in groups(name) {
            for test in tests(&group) {
                let okm = is_valid(test).then(|| bytes(&test["okm"]));
                assert_eq!(derived(algorithm, test), okm, "{name} {}", test["tcId"]);
                *(if okm.is_some() {
                    &mut taken
                } else {
                    &mut refused
                }) += 1;
            }
        }
        assert_counts(name, (taken, refused), expected);
    }
}

/// The keyed hashes, the MACs of the audit log and the signatures of Datatrans and of our events, which
/// are all whole: a tag that is cut counts as wrong.
#[test]
fn macs_are_taken_if_valid_and_whole() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("hmac_sha256_test") {
        let whole = group["tagSize"] == 256;
        for test in tests(&group) {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(&test["key"]));
            let verified = hmac::verify(&key, &bytes(&test["msg"]), &bytes(&test["tag"])).is_ok();
            assert_eq!(verified, is_valid(test) && whole, "{}", test["tcId"]);
            *(if verified { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert_counts("hmac_sha256_test", (taken, refused), (33, 141));
}

/// The signatures of PostFinance's webhooks, in DER.
#[test]
fn signatures_in_der_are_taken_if_valid() {
    let (mut taken, mut refused) = (0, 0);
    for group in groups("ecdsa_secp256r1_sha256_test") {
        let point = bytes(&group["publicKey"]["uncompressed"]);
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &point);
        for test in tests(&group) {
            let verified = key
                .verify(&bytes(&test["msg"]), &bytes(&test["sig"]))
                .is_ok();
            assert_eq!(verified, is_valid(test), "{}", test["tcId"]);
            *(if verified { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert_counts("ecdsa_secp256r1_sha256_test", (taken, refused), (174, 310));
}
