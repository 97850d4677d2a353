use cardless_sandbox::Provider;
use cardless_sandbox::postfinance::WEBHOOK_KEY_ID;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING,
    ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
};
use serde_json::{Value, json};

use crate::forge::{Forge, base64, from_base64, hex};
use crate::judge::{Genuine, Variant, judge};
use crate::webhook::Webhook;
use crate::world::World;

const HEADER: &str = "x-signature";

/// The sandbox's signer: published test material.
const SIGNER: &[u8] =
    include_bytes!("../../providers/sandbox/src/postfinance/material/webhook-key.pk8");

/// The order of P-256's group.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[tokio::test(start_paused = true)]
async fn no_hostile_webhook_changes_anything_at_postfinances_door() {
    let count = judge(Provider::PostFinance, variants).await;
    println!("{count} variants");
}

fn variants(_: &World, genuine: &Genuine) -> Vec<Variant> {
    let mut forge = Forge::default();
    forge.any_scheme(genuine, &[HEADER]);
    let open = &genuine.open;
    let signature = signature_of(open);
    forge.flips(open, HEADER, &signature, 1, |bytes| header(&base64(bytes)));
    headers(&mut forge, genuine, &signature);
    keys(&mut forge, open);
    points(&mut forge, genuine);
    messages(&mut forge, open);
    bodies(&mut forge, open);
    forge.variants()
}

/// The header's three parts, in every wrong form.
fn headers(forge: &mut Forge, genuine: &Genuine, signature: &[u8]) {
    let open = &genuine.open;
    let value = base64(signature);
    let id = WEBHOOK_KEY_ID;
    let algorithm = "algorithm=SHA256withECDSA";
    let mut wrong = vec![
        format!("{algorithm}, keyId={id}"),
        format!("{algorithm}, signature={value}"),
        format!("keyId={id}, signature={value}"),
        format!("keyId={id}, {algorithm}, signature={value}"),
        format!("{algorithm}, signature={value}, keyId={id}"),
        format!("{algorithm},keyId={id},signature={value}"),
        format!("{algorithm}; keyId={id}; signature={value}"),
        format!("{algorithm},  keyId={id}, signature={value}"),
        format!("{algorithm}, keyId={id}, signature={value}, signature={value}"),
        format!("{algorithm}, {algorithm}, keyId={id}, signature={value}"),
        format!("{algorithm}, keyId={id}, keyId=other, signature={value}"),
        format!("{algorithm}, keyId={id}, signature=\"{value}\""),
        format!("{algorithm}, keyId={id}, signature={}", hex(signature)),
        format!("{algorithm}, keyId={id}, signature="),
        format!(
            "{algorithm}, keyId={id}, signature={}",
            base64(value.as_bytes())
        ),
        format!("{algorithm}, KeyId={id}, signature={value}"),
        format!("{algorithm}, keyId={id}, signature={value},"),
        format!("{algorithm}, keyId={id}, signature={value}, more=1"),
        value.clone(),
        "algorithm=, keyId=, signature=".to_owned(),
    ];
    for other in [
        "none",
        "SHA1withECDSA",
        "SHA512withECDSA",
        "SHA384withECDSA",
        "SHA256withRSA",
        "HmacSHA256",
        "sha256withecdsa",
        "SHA256withECDSAinP1363Format",
        "",
    ] {
        wrong.push(format!("algorithm={other}, keyId={id}, signature={value}"));
    }
    // Unknown ids are asked for at PostFinance's own API; others not at all.
    for id in [
        "00000000-0000-4000-8000-000000000000",
        "unknown",
        "1",
        "..",
        "../transactions/1",
        "..%2f1",
        "a?b=c",
        "a#b",
        "A-1",
        "a b",
        "a/b",
        "//evil.example",
        "http://evil.example/key",
        "",
        "\u{430}",
    ] {
        wrong.push(format!("{algorithm}, keyId={id}, signature={value}"));
    }
    wrong.push(format!(
        "{algorithm}, keyId={}, signature={value}",
        "a".repeat(65)
    ));
    for value in wrong {
        forge.refused(
            format!("header {value}"),
            open.with(HEADER, value.as_bytes()),
        );
    }
}

/// Right in everything, by another key.
fn keys(forge: &mut Forge, open: &Webhook) {
    let random = SystemRandom::new();
    for number in 0..3 {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let value = base64(&signed(key.as_ref(), algorithm, &open.body));
        forge.refused(
            format!("signed by another key, {number}"),
            open.with(HEADER, header(&value)),
        );
    }
    let algorithm = &ECDSA_P384_SHA384_ASN1_SIGNING;
    let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let value = base64(&signed(key.as_ref(), algorithm, &open.body));
    forge.refused("signed on another curve", open.with(HEADER, header(&value)));
    let fixed = base64(&signed(
        SIGNER,
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &open.body,
    ));
    forge.refused(
        "signed in the fixed form",
        open.with(HEADER, header(&fixed)),
    );
    let text = key_text();
    let mac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, text.as_bytes());
    let value = base64(ring::hmac::sign(&mac, &open.body).as_ref());
    forge.refused(
        "a MAC under the public key",
        open.with(HEADER, header(&value)),
    );
}

/// Numbers that an ECDSA signature must not have, and forms that DER does not.
fn points(forge: &mut Forge, genuine: &Genuine) {
    let open = &genuine.open;
    let (r, s) = numbers(&signature_of(open));
    let zero = vec![0];
    let one = vec![1];
    let order = ORDER.to_vec();
    let more = [&[1][..], &ORDER].concat();
    for (name, r, s) in [
        ("both zero", &zero, &zero),
        ("both one", &one, &one),
        ("r zero", &zero, &s),
        ("s zero", &r, &zero),
        ("both the order", &order, &order),
        ("r the order", &order, &s),
        ("s the order", &r, &order),
        ("s beyond the order", &r, &more),
        ("r and s swapped", &s, &r),
        ("r twice", &r, &r),
        ("s twice", &s, &s),
    ] {
        let value = base64(&der(r, s));
        forge.refused(
            format!("a signature with {name}"),
            open.with(HEADER, header(&value)),
        );
    }
    let good = der(&r, &s);
    let mut long_form = vec![0x30, 0x81];
    long_form.extend(&good[1..]);
    let mut open_form = vec![0x30, 0x80];
    open_form.extend(&good[2..]);
    open_form.extend([0, 0]);
    let padded = [&[0x30, good[1] + 1, 0x02, 0][..], &good[3..]].concat();
    for (name, bytes) in [
        ("in the long form", long_form),
        ("of no length", open_form),
        ("with a byte after it", [&good[..], &[0]].concat()),
        ("with a byte before it", [&[0], &good[..]].concat()),
        ("without its head", good[2..].to_vec()),
        ("in a list", [&[0x30, good[1] + 2], &good[..]].concat()),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("with an odd head", padded),
    ] {
        forge.refused(
            format!("a signature {name}"),
            open.with(HEADER, header(&base64(&bytes))),
        );
    }
    // The other of the two signatures that everybody can make of one: it says the same.
    let (r, s) = numbers(&signature_of(&genuine.seen));
    let twin = der(&r, &minus(&s));
    forge.repeat(
        "with the twin of its signature",
        genuine.seen.with(HEADER, header(&base64(&twin))),
        1,
    );
}

/// The right key over something else.
fn messages(forge: &mut Forge, open: &Webhook) {
    let body = &open.body[..];
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    for (name, message) in [
        ("nothing", Vec::new()),
        ("the hash of the body", digest.as_ref().to_vec()),
        ("the body and a line", [body, b"\n"].concat()),
        ("the body twice", [body, body].concat()),
        ("the body in base64", base64(body).into_bytes()),
        ("half of the body", body[..body.len() / 2].to_vec()),
        (
            "the body written out",
            serde_json::to_vec_pretty(&open.json()).unwrap(),
        ),
        ("the header's start", b"algorithm=SHA256withECDSA".to_vec()),
    ] {
        let value = base64(&signed(SIGNER, &ECDSA_P256_SHA256_ASN1_SIGNING, &message));
        forge.refused(
            format!("signed over {name}"),
            open.with(HEADER, header(&value)),
        );
    }
}

/// Rightly signed, of another space, or no webhook.
fn bodies(forge: &mut Forge, open: &Webhook) {
    let member = |name: &str, value: Value| {
        let mut body = open.json();
        body[name] = value;
        resigned(&open.body(body.to_string()))
    };
    for (name, value) in [
        ("spaceId", json!(406)),
        ("spaceId", json!(0)),
        ("spaceId", json!(-405)),
        ("spaceId", json!("405")),
        ("spaceId", json!(405.0)),
        ("spaceId", json!(4050)),
        ("spaceId", json!([405])),
        ("spaceId", json!(null)),
        ("spaceId", json!(true)),
        ("entityId", json!(0)),
        ("entityId", json!(-1)),
        ("entityId", json!("1")),
        ("entityId", json!(1.5)),
        ("entityId", json!(u64::MAX)),
        ("entityId", json!({"id": 1})),
        ("eventId", json!("1")),
        ("eventId", json!(null)),
        ("listenerEntityId", json!("Transaction")),
        ("listenerEntityId", json!(null)),
    ] {
        forge.refused(format!("signed with {name} {value}"), member(name, value));
    }
    let text = String::from_utf8(open.body.to_vec()).unwrap();
    for (name, body) in [
        ("nothing", Vec::new()),
        ("an empty object", b"{}".to_vec()),
        ("bytes", vec![0xff, 0xfe]),
        ("depths", "[".repeat(30_000).into_bytes()),
        ("half of it", text.as_bytes()[..text.len() / 2].to_vec()),
        (
            "two spaces",
            text.replacen('{', "{\"spaceId\":405,", 1).into_bytes(),
        ),
        ("two of it", [text.as_bytes(), text.as_bytes()].concat()),
    ] {
        forge.refused(
            format!("signed over a body of {name}"),
            resigned(&open.body(body)),
        );
    }
}

fn header(signature: &str) -> String {
    format!("algorithm=SHA256withECDSA, keyId={WEBHOOK_KEY_ID}, signature={signature}")
}

fn signature_of(webhook: &Webhook) -> Vec<u8> {
    let (_, signature) = webhook.value(HEADER).split_once("signature=").unwrap();
    from_base64(signature)
}

fn key_text() -> String {
    cardless_sandbox::postfinance::WEBHOOK_PUBLIC_KEY
        .trim()
        .to_owned()
}

/// The same, signed anew by the right key.
fn resigned(webhook: &Webhook) -> Webhook {
    let value = base64(&signed(
        SIGNER,
        &ECDSA_P256_SHA256_ASN1_SIGNING,
        &webhook.body,
    ));
    webhook.with(HEADER, header(&value))
}

fn signed(key: &[u8], algorithm: &'static EcdsaSigningAlgorithm, message: &[u8]) -> Vec<u8> {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key, &random).unwrap();
    key.sign(&random, message).unwrap().as_ref().to_vec()
}

/// The two numbers of a signature in DER, without leading zeros.
fn numbers(signature: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let number = |at: usize| {
        let length = usize::from(signature[at + 1]);
        let bytes = &signature[at + 2..at + 2 + length];
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        (bytes[zeros..].to_vec(), at + 2 + length)
    };
    let (r, next) = number(2);
    (r, number(next).0)
}

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let zero = (bytes[0] & 0x80 != 0).then_some(0);
        let content: Vec<u8> = zero.into_iter().chain(bytes.iter().copied()).collect();
        let length = u8::try_from(content.len()).unwrap();
        [&[2, length][..], &content].concat()
    };
    let content = [number(r), number(s)].concat();
    let length = u8::try_from(content.len()).unwrap();
    [&[0x30, length][..], &content].concat()
}

/// The order minus a number, without leading zeros.
fn minus(number: &[u8]) -> Vec<u8> {
    let mut result = ORDER;
    let mut borrow = 0;
    for place in 0..ORDER.len() {
        let from_end = ORDER.len() - 1 - place;
        let subtrahend = number.iter().rev().nth(place).copied().unwrap_or(0);
        let difference = i16::from(ORDER[from_end]) - i16::from(subtrahend) - borrow;
        borrow = i16::from(difference < 0);
        result[from_end] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    let zeros = result.iter().take_while(|byte| **byte == 0).count();
    result[zeros..].to_vec()
}
