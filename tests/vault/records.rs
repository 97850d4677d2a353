use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cardless::vault::{Context, Purpose, Vault, VaultError};
use cardless_contract::{Entropy, EntropyError};
use proptest::prelude::*;

use crate::common::*;

#[test]
fn a_record_opens_where_it_belongs() {
    let vault = vault();
    for plaintext in [b"".as_slice(), b"x", PLAINTEXT, &[0xa5; 70_000]] {
        let sealed = vault.seal(&CONTEXT, plaintext).unwrap();
        assert_eq!(sealed.generation, KEY_NAME);
        assert_eq!(
            vault.open(&CONTEXT, &sealed.bytes).unwrap().as_slice(),
            plaintext
        );
    }
}

/// Sealed by the AWS Encryption SDK for Python 4.0.7: what other implementations wrote stays
/// readable, also on a machine without one.
#[test]
fn a_record_of_the_aws_encryption_sdk_opens() {
    let record = STANDARD.decode(SEALED_BY_AWS).unwrap();
    assert_eq!(
        vault().open(&CONTEXT, &record).unwrap().as_slice(),
        PLAINTEXT
    );
}

const SEALED_BY_AWS: &str = concat!(
    "AgR4iQWiYCCF1u+jl4vwht89+7k64Ji7gIqZZcb11EEH/XoAAAABAAhjYXJkbGVzcwAsa2VrX2FiY2RlZmdoaWpr",
    "bG1ub3BhYmNkAAAAgAAAAAxcehaenao/s22QOb4AMAY8Tpa+kp/BEdbU0OCMSS4CtJ/3nmbiyWbQW1Bu60Stkqv6",
    "Hma00S+XNQZZs/C2NQIAEAAA7B/e5X/55SeBMxtJSdi+JkrWAPVtPTEMD/W1iYZjDVFTK6PZ3T3MXbeQnI7r4aOc",
    "/////wAAAAEAAAAAAAAAAAAAAAEAAAAVmaojNh83o67CE3Mzqf7zKE7Eqr9yk8CKRM4IPLXWU6Aku2opJg==",
);

#[test]
fn a_token_leaves_as_a_token() {
    let vault = vault();
    let token = vault.open_token(&CONTEXT, &sample(&vault)).unwrap();
    assert_eq!(token.expose().as_bytes(), PLAINTEXT);

    for no_token in [b"".as_slice(), b"two words", b"\xff\xfe"] {
        let sealed = vault.seal(&CONTEXT, no_token).unwrap();
        let error = vault.open_token(&CONTEXT, &sealed.bytes).unwrap_err();
        assert_eq!(error, VaultError::Opaque);
    }
}

#[test]
fn equal_tokens_leave_no_equal_bytes() {
    let vault = vault();
    let (one, other) = (varying(&sample(&vault)), varying(&sample(&vault)));
    let seen: HashSet<_> = one.windows(8).collect();
    assert!(!other.windows(8).any(|window| seen.contains(window)));
}

/// What of the sample's record is random or encrypted: message id, IV and wrapped key, commitment
/// and header tag, content and tag.
fn varying(record: &[u8]) -> Vec<u8> {
    let info = 41 + 8 + 2 + KEY_NAME.len() + 8;
    let header_end = info + 12 + 2 + 48;
    let parts = [
        &record[3..35],
        &record[info..info + 12],
        &record[info + 14..header_end],
        &record[header_end + 5..header_end + 53],
        &record[record.len() - PLAINTEXT.len() - 16..],
    ];
    parts.concat()
}

#[test]
fn the_text_and_its_context_are_not_in_the_record() {
    let sealed = sample(&vault());
    for absent in [
        PLAINTEXT,
        CONTEXT.account.as_bytes(),
        b"paypal",
        b"pm_abcdef",
        b"token",
    ] {
        assert!(!sealed.windows(absent.len()).any(|window| window == absent));
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let vault = vault();
    let record = sample(&vault);
    for position in 0..record.len() * 8 {
        let mut damaged = record.clone();
        damaged[position / 8] ^= 1 << (position % 8);
        assert_refused(&vault, &damaged, &format!("bit {position}"));
    }
}

#[test]
fn every_truncation_and_extension_is_refused() {
    let vault = vault();
    let record = sample(&vault);
    for length in 0..record.len() {
        assert_refused(&vault, &record[..length], &format!("{length} bytes"));
    }
    for tail in [b"\0".as_slice(), b"\0\0\0\0", &record] {
        assert_refused(&vault, &[&record, tail].concat(), "trailing bytes");
    }
}

#[test]
fn every_other_place_is_refused() {
    let vault = vault();
    let record = sample(&vault);
    let other = "ponmlkjihgfedcbaponmlkjihgfedcba";
    let moved = [
        (
            "account",
            Context {
                account: other,
                ..CONTEXT
            },
        ),
        (
            "provider",
            Context {
                provider: "aduno",
                ..CONTEXT
            },
        ),
        (
            "merchant",
            Context {
                merchant: "-",
                ..CONTEXT
            },
        ),
        (
            "record",
            Context {
                record: "pm_ponmlkjihgfedcbaponm",
                ..CONTEXT
            },
        ),
        (
            "purpose account",
            Context {
                purpose: Purpose::Account,
                ..CONTEXT
            },
        ),
        (
            "purpose redirect",
            Context {
                purpose: Purpose::Redirect,
                ..CONTEXT
            },
        ),
        (
            "purpose answer",
            Context {
                purpose: Purpose::Answer,
                ..CONTEXT
            },
        ),
        (
            "swapped fields",
            Context {
                provider: CONTEXT.merchant,
                merchant: CONTEXT.provider,
                ..CONTEXT
            },
        ),
        (
            "empty account",
            Context {
                account: "",
                ..CONTEXT
            },
        ),
    ];
    for (name, context) in moved {
        assert_eq!(
            vault.open(&context, &record).unwrap_err(),
            VaultError::Opaque,
            "{name}"
        );
    }
}

/// A flaw of formats without key commitment: one ciphertext that opens to two texts under two
/// wrapped keys. Here a second key is refused before anything is decrypted.
#[test]
fn a_record_with_two_keys_is_refused() {
    let vault = vault();
    let record = sample(&vault);
    let first_key = 39;
    let key_length = 2 + 8 + 2 + KEY_NAME.len() + 20 + 2 + 48;
    let key = record[first_key..first_key + key_length].to_vec();
    for (count, name) in [(0u8, "no_key"), (2, "two_keys"), (3, "three_keys")] {
        let mut damaged = record[..first_key].to_vec();
        damaged[first_key - 1] = count;
        for _ in 0..count {
            damaged.extend(&key);
        }
        damaged.extend(&record[first_key + key_length..]);
        assert_refused(&vault, &damaged, name);
    }
}

#[test]
fn a_record_of_another_shape_is_refused() {
    let vault = vault();
    let record = sample(&vault);
    let content_type = 39 + 2 + 8 + 2 + KEY_NAME.len() + 20 + 2 + 48;
    let bad: [(&str, usize, &[u8]); 9] = [
        ("version_1", 0, &[1]),
        ("version_3", 0, &[3]),
        ("suite_without_commitment", 1, &[0x01, 0x78]),
        ("suite_with_signature", 1, &[0x05, 0x78]),
        ("stored_context", 35, &[0, 1]),
        ("unframed", content_type, &[1]),
        ("frame_length_zero", content_type + 1, &[0, 0, 0, 0]),
        ("frame_length_other", content_type + 1, &[0, 0, 0x10, 0]),
        ("no_final_frame", content_type + 5 + 32 + 16, &[0, 0, 0, 1]),
    ];
    for (name, at, bytes) in bad {
        let mut damaged = record.clone();
        damaged[at..at + bytes.len()].copy_from_slice(bytes);
        assert_ne!(damaged, record, "{name}");
        assert_refused(&vault, &damaged, name);
    }
}

#[test]
fn a_record_opens_under_its_own_generation_only() {
    let old = sample(&vault());
    let rotated = vault_of(&key_file(&[
        generation(OTHER_KEY_NAME, "active", &OTHER_KEY),
        generation(KEY_NAME, "retiring", &KEY),
    ]));
    assert_eq!(rotated.open(&CONTEXT, &old).unwrap().as_slice(), PLAINTEXT);
    assert_eq!(
        rotated.seal(&CONTEXT, b"x").unwrap().generation,
        OTHER_KEY_NAME
    );

    let gone = vault_of(&key_file(&[generation(
        OTHER_KEY_NAME,
        "active",
        &OTHER_KEY,
    )]));
    assert_refused(&gone, &old, "a generation that is gone");
    let renamed = vault_of(&key_file(&[generation(KEY_NAME, "active", &OTHER_KEY)]));
    assert_refused(&renamed, &old, "another key under the same name");
}

#[test]
fn what_is_too_long_is_not_sealed() {
    let vault = vault();
    let longest = vec![0; Vault::MAX_PLAINTEXT_BYTES];
    let sealed = vault.seal(&CONTEXT, &longest).unwrap();
    assert_eq!(*vault.open(&CONTEXT, &sealed.bytes).unwrap(), longest);
    let longer = vec![0; Vault::MAX_PLAINTEXT_BYTES + 1];
    assert_eq!(
        vault.seal(&CONTEXT, &longer).unwrap_err(),
        VaultError::TooLong
    );
    let account = "x".repeat(70_000);
    let context = Context {
        account: &account,
        ..CONTEXT
    };
    assert_eq!(vault.seal(&context, b"x").unwrap_err(), VaultError::TooLong);
}

#[test]
fn nothing_is_sealed_without_randomness() {
    #[derive(Debug)]
    struct Dry;
    impl Entropy for Dry {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyError> {
            Err(EntropyError)
        }
    }
    let text = key_file(&[generation(KEY_NAME, "active", &KEY)]);
    let keys = cardless::vault::KeyRing::parse(&text).unwrap();
    let vault = Vault::new(keys, Arc::new(Dry));
    assert_eq!(vault.seal(&CONTEXT, b"x").unwrap_err(), VaultError::Entropy);
}

#[test]
fn debug_shows_nothing_of_keys_or_content() {
    let vault = vault();
    let sealed = vault.seal(&CONTEXT, PLAINTEXT).unwrap();
    assert_eq!(format!("{vault:?}"), "Vault(…)");
    assert_eq!(
        format!("{sealed:?}"),
        format!("Sealed({KEY_NAME}, {} bytes)", sealed.bytes.len())
    );
}

proptest! {
    #[test]
    fn random_bytes_never_open(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        assert_refused(&vault(), &bytes, "random bytes");
    }

    #[test]
    fn a_record_with_a_random_patch_never_opens(
        at in 0usize..300,
        patch in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let vault = vault();
        let record = sample(&vault);
        let mut damaged = record.clone();
        let end = (at + patch.len()).min(damaged.len());
        let at = at.min(end);
        damaged.splice(at..end, patch);
        prop_assume!(damaged != record);
        assert_refused(&vault, &damaged, "a patched record");
    }

    #[test]
    fn any_text_in_any_context_comes_back(
        plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
        account in "[a-p]{32}", provider in "[a-z_]{1,32}", merchant in ".{0,64}",
        record in "[a-z]{2,4}_[a-p]{20}",
    ) {
        let vault = vault();
        let context = Context {
            account: &account, provider: &provider, merchant: &merchant, record: &record,
            purpose: Purpose::Answer,
        };
        let sealed = vault.seal(&context, &plaintext).unwrap();
        let opened = vault.open(&context, &sealed.bytes).unwrap();
        prop_assert_eq!(opened.as_slice(), plaintext.as_slice());
    }
}

fn assert_refused(vault: &Vault, bytes: &[u8], name: &str) {
    assert_eq!(
        vault.open(&CONTEXT, bytes).unwrap_err(),
        VaultError::Opaque,
        "{name}"
    );
}
