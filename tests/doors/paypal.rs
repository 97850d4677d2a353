use cardless_contract::{Notification, Timestamp};
use cardless_sandbox::Provider;
use cardless_sandbox::paypal::WEBHOOK_ID;
use ring::rand::SystemRandom;
use ring::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use serde_json::json;

use crate::certificates;
use crate::collision::body_with_crc_of;
use crate::forge::{Forge, base64, from_base64, hex};
use crate::judge::{Genuine, Variant, judge};
use crate::webhook::Webhook;
use crate::world::World;

const ID: &str = "paypal-transmission-id";
const TIME: &str = "paypal-transmission-time";
const SIGNATURE: &str = "paypal-transmission-sig";
const CERTIFICATE: &str = "paypal-cert-url";
const ALGORITHM: &str = "paypal-auth-algo";

const DAY: i64 = 24 * 3600;

#[tokio::test(start_paused = true)]
async fn no_hostile_webhook_changes_anything_at_paypals_door() {
    let count = judge(Provider::PayPal, variants).await;
    println!("{count} variants");
}

fn variants(world: &World, genuine: &Genuine) -> Vec<Variant> {
    let mut forge = Forge::default();
    forge.any_scheme(genuine, &[ID, TIME, SIGNATURE, CERTIFICATE, ALGORITHM]);
    let open = &genuine.open;
    let signature = from_base64(open.value(SIGNATURE));
    forge.flips(open, SIGNATURE, &signature, 8, base64);
    signatures(&mut forge, open, &signature);
    messages(&mut forge, open);
    times(&mut forge, open);
    names(&mut forge, open, genuine);
    bodies(&mut forge, open);
    files(&mut forge, world, genuine);
    forge.variants()
}

/// The signature in another encoding, by another algorithm or key.
fn signatures(forge: &mut Forge, open: &Webhook, signature: &[u8]) {
    let text = open.value(SIGNATURE);
    let url_safe = text.replace('+', "-").replace('/', "_");
    let zero = vec![0; signature.len()];
    let ones = vec![0xff; signature.len()];
    let mut padded = vec![0];
    padded.extend(signature);
    for (name, value) in [
        ("in hexadecimal", hex(signature)),
        (
            "for addresses",
            format!("{}-", url_safe.trim_end_matches('=')),
        ),
        ("without padding", text.trim_end_matches('=').to_owned()),
        ("in two parts", text.replacen('A', "A A", 1)),
        ("all zero", base64(&zero)),
        ("all ones", base64(&ones)),
        ("with a zero before it", base64(&padded)),
        ("of no bytes", "====".to_owned()),
        ("in base64 twice", base64(text.as_bytes())),
    ] {
        forge.refused(format!("signature {name}"), open.with(SIGNATURE, value));
    }
    let message = message(open, WEBHOOK_ID);
    let algorithms: [(&str, &'static dyn RsaEncoding); 3] = [
        ("SHA-384", &RSA_PKCS1_SHA384),
        ("SHA-512", &RSA_PKCS1_SHA512),
        ("PSS", &RSA_PSS_SHA256),
    ];
    let key = certificates::signer();
    for (name, algorithm) in algorithms {
        let value = signed(&key, algorithm, &message);
        forge.refused(format!("signed with {name}"), open.with(SIGNATURE, value));
    }
    let value = signed(&certificates::other_signer(), &RSA_PKCS1_SHA256, &message);
    forge.refused("signed by another key", open.with(SIGNATURE, value));
    for name in [
        "SHA1withRSA",
        "SHA512withRSA",
        "SHA256withECDSA",
        "SHA256withRSAandMGF1",
        "sha256withrsa",
        "HS256",
        "none",
        "RS256",
        "SHA256withRSA,none",
        "SHA256withRSA ",
    ] {
        forge.refused(format!("algorithm {name}"), open.with(ALGORITHM, name));
    }
}

/// The right key over another message than that of the scheme.
fn messages(forge: &mut Forge, open: &Webhook) {
    let (id, time) = (open.value(ID), open.value(TIME));
    let crc = crc32fast::hash(&open.body);
    for (name, message) in [
        ("another webhook", message(open, "WH-OTHER")),
        ("no webhook", format!("{id}|{time}||{crc}")),
        (
            "the sum in hexadecimal",
            format!("{id}|{time}|{WEBHOOK_ID}|{crc:x}"),
        ),
        (
            // Told from the one before by its prefix: a sum may have no letter.
            "the sum in hexadecimal, with its prefix",
            format!("{id}|{time}|{WEBHOOK_ID}|0x{crc:08X}"),
        ),
        ("the sum of nothing", format!("{id}|{time}|{WEBHOOK_ID}|0")),
        ("another order", format!("{time}|{id}|{WEBHOOK_ID}|{crc}")),
        ("no separators", format!("{id}{time}{WEBHOOK_ID}{crc}")),
        (
            "a line at its end",
            format!("{id}|{time}|{WEBHOOK_ID}|{crc}\n"),
        ),
        ("the word for any webhook", format!("{id}|{time}|*|{crc}")),
        ("nothing", String::new()),
        (
            "the body itself",
            String::from_utf8(open.body.to_vec()).unwrap(),
        ),
    ] {
        let value = signed(&certificates::signer(), &RSA_PKCS1_SHA256, &message);
        forge.refused(format!("signed over {name}"), open.with(SIGNATURE, value));
    }
}

/// Rightly signed at a wrong time.
fn times(forge: &mut Forge, open: &Webhook) {
    let now = Timestamp::parse_rfc3339(open.value(TIME))
        .unwrap()
        .seconds();
    let at = |seconds: i64| Timestamp::from_seconds(now + seconds).to_string();
    // The clock goes on while variants come, so the future begins later than five minutes.
    let later = 4 * 3600;
    for (name, time) in [
        ("four days and a minute ago", at(-4 * DAY - 60)),
        ("five days ago", at(-5 * DAY)),
        ("ten years ago", at(-3652 * DAY)),
        ("in a few hours", at(later)),
        ("tomorrow", at(DAY)),
        ("in a thousand years", at(365_250 * DAY)),
        ("before all years", "0000-01-01T00:00:00Z".to_owned()),
        ("in a negative year", "-2026-11-18T00:00:00Z".to_owned()),
        (
            "in a year of five digits",
            "12026-11-18T00:00:00Z".to_owned(),
        ),
        ("at no time", String::new()),
        ("in seconds", now.to_string()),
        ("in milliseconds", format!("{now}000")),
        ("at the largest number", i64::MAX.to_string()),
        ("beyond it", "9".repeat(40)),
        (
            "without a zone",
            open.value(TIME).trim_end_matches('Z').to_owned(),
        ),
        ("on the 31st of February", "2026-02-31T00:00:00Z".to_owned()),
        ("at 25 o'clock", "2026-11-18T25:00:00Z".to_owned()),
        ("in words", "yesterday".to_owned()),
        (
            "far west",
            format!("{}-23:59", at(DAY).trim_end_matches('Z')),
        ),
    ] {
        forge.refused(format!("signed {name}"), resigned(&open.with(TIME, time)));
    }
}

/// Transmission ids and addresses of certificates.
fn names(forge: &mut Forge, open: &Webhook, genuine: &Genuine) {
    let (id, time) = (open.value(ID), open.value(TIME));
    // One signature over two parts that are cut elsewhere.
    let moved = open.with(ID, "").with(TIME, format!("{id}|{time}"));
    forge.refused("the cut moved to the left", moved);
    let moved = open.with(ID, format!("{id}|{time}")).with(TIME, "");
    forge.refused("the cut moved to the right", moved);
    forge.refused("another's id and time", {
        let other = &genuine.other;
        open.with(ID, other.value(ID)).with(TIME, other.value(TIME))
    });
    let long = resigned(&open.with(ID, "x".repeat(Notification::MAX_EVENT_ID_BYTES)));
    forge.refused("an id that is too long", long);
    let spaced = resigned(&open.with(ID, "a b"));
    forge.refused("an id with a blank", spaced);
    for address in [
        "http://127.0.0.1:9101/v1/notifications/certs/CERT-unknown",
        "http://127.0.0.1:9101/v1/notifications/certs/",
        "http://127.0.0.1:9101/v1/notifications/certs/../../oauth2/token",
        "http://127.0.0.1:9101/v2/checkout/orders/CERT-cardless-sandbox",
        "http://127.0.0.1:9101/v1/notifications/certs/CERT-cardless-sandbox?a=b",
        "http://127.0.0.1:9101/v1/notifications/certs/CERT-cardless-sandbox#a",
        "http://a@127.0.0.1:9101/v1/notifications/certs/CERT-cardless-sandbox",
        "http://127.0.0.1.evil.example/v1/notifications/certs/CERT-cardless-sandbox",
        "http://10.0.0.1/v1/notifications/certs/CERT-cardless-sandbox",
        "https://api.paypal.com/v1/notifications/certs/CERT-cardless-sandbox",
        "https://api.sandbox.paypal.com/v1/notifications/certs/CERT-cardless-sandbox",
        "file:///v1/notifications/certs/CERT-cardless-sandbox",
        "data:,CERT",
        "/v1/notifications/certs/CERT-cardless-sandbox",
    ] {
        forge.refused(
            format!("certificate at {address}"),
            open.with(CERTIFICATE, address),
        );
    }
}

/// Rightly signed, and no event.
fn bodies(forge: &mut Forge, open: &Webhook) {
    let event = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut event = open.json();
        change(&mut event);
        resigned(&open.body(event.to_string()))
    };
    for (name, webhook) in [
        ("nothing", resigned(&open.body(""))),
        ("an empty object", resigned(&open.body("{}"))),
        ("an empty list", resigned(&open.body("[]"))),
        (
            "half of it",
            resigned(&open.body(open.body.slice(..open.body.len() / 2))),
        ),
        ("bytes", resigned(&open.body(vec![0xff, 0xfe, 0]))),
        ("depths", resigned(&open.body("[".repeat(30_000)))),
        (
            "no id",
            event(&|event| drop(event.as_object_mut().unwrap().remove("id"))),
        ),
        ("a number for an id", event(&|event| event["id"] = json!(7))),
        (
            "a long id",
            event(&|event| event["id"] = json!("x".repeat(300))),
        ),
        (
            "an id with a line",
            event(&|event| event["id"] = json!("a\nb")),
        ),
        (
            "a list for a resource",
            event(&|event| event["resource"] = json!(["a", 1])),
        ),
        (
            "no resource",
            event(&|event| event["resource"] = json!(null)),
        ),
        (
            "a number for a type",
            event(&|event| event["event_type"] = json!(1)),
        ),
    ] {
        forge.refused(format!("signed over a body of {name}"), webhook);
    }
    let twice = String::from_utf8(open.body.to_vec()).unwrap();
    let twice = twice.replacen('{', "{\"id\":\"WH-first\",", 1);
    forge.refused("signed with two ids", resigned(&open.body(twice)));
}

/// Files in the place of the certificate; the signature fits the key in each but one.
fn files(forge: &mut Forge, world: &World, genuine: &Genuine) {
    let lay = |name: &str, file: Vec<u8>| {
        let path = format!("/v1/notifications/certs/CERT-{name}");
        world.wire.lay(&path, file);
        format!("http://127.0.0.1:9101{path}")
    };
    let right = lay("right", certificates::right().into_bytes());
    forge.repeat(
        "with a certificate of another root that is trusted",
        genuine.seen.with(CERTIFICATE, right),
        1,
    );
    let other = lay("other", certificates::of_other_key().into_bytes());
    forge.refused(
        "certificate of another key",
        genuine.open.with(CERTIFICATE, other),
    );
    for (number, (why, file)) in certificates::wrong().into_iter().enumerate() {
        let address = lay(&format!("wrong-{number}"), file);
        forge.refused(
            format!("certificate {why}"),
            genuine.open.with(CERTIFICATE, address),
        );
    }
}

/// A forger's body under a genuine signature, with the right sum: it is taken, and all that comes
/// of it is a read of the object that it names.
#[tokio::test(start_paused = true)]
async fn a_body_of_the_same_sum_causes_a_read_and_nothing_else() {
    let world = World::new();
    let method = world.link(Provider::PayPal).await;
    let paid = world.pay(&method, 4990).await;
    let genuine = world.webhooks().pop().unwrap();
    assert_eq!(world.bring(&genuine).await.status, 200);
    world.resolve().await;
    let order = genuine.json()["resource"]["supplementary_data"]["related_ids"]["order_id"].clone();
    let before = world.gateway.payment(&paid.id).await.unwrap();
    let (events, ledger) = (world.rows()["events"].clone(), world.sandbox.ledger());
    for (number, (kind, status, value)) in [
        ("PAYMENT.CAPTURE.REFUNDED", "COMPLETED", "49.90"),
        ("PAYMENT.CAPTURE.REVERSED", "REVERSED", "49.90"),
        ("PAYMENT.CAPTURE.DENIED", "DENIED", "0.01"),
        ("PAYMENT.CAPTURE.COMPLETED", "COMPLETED", "99999.00"),
        ("PAYMENT.AUTHORIZATION.VOIDED", "VOIDED", "49.90"),
        ("CHECKOUT.ORDER.VOIDED", "VOIDED", "49.90"),
    ]
    .into_iter()
    .enumerate()
    {
        let capture = genuine.json()["resource"]["id"].clone();
        let id = if kind.starts_with("CHECKOUT") {
            order.clone()
        } else {
            capture
        };
        let event = json!({
            "id": format!("WH-forged-{number}"), "event_version": "1.0", "resource_version": "2.0",
            "event_type": kind, "resource": {
                "id": id, "status": status,
                "amount": {"currency_code": "CHF", "value": value},
                "supplementary_data": {"related_ids": {"order_id": order}},
            },
        });
        let text = event.to_string();
        let start = format!("{},\"summary\":\"", text.strip_suffix('}').unwrap());
        let body = body_with_crc_of(&genuine.body, &start, "\"}");
        assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        let asked = world.wire.requests().len();
        assert_eq!(world.bring(&genuine.body(body)).await.status, 200, "{kind}");
        world.resolve().await;
        let requests = world.wire.requests().split_off(asked);
        assert!(!requests.is_empty(), "{kind}: nothing was read");
        assert!(
            requests.iter().all(|request| request.starts_with("GET ")),
            "{kind}: {requests:?}"
        );
        let after = world.gateway.payment(&paid.id).await.unwrap();
        assert_eq!(
            (after.status, after.captured),
            (before.status, before.captured)
        );
        assert_eq!(
            (after.refunded, after.reversed),
            (before.refunded, before.reversed)
        );
        assert_eq!(world.rows()["events"], events, "{kind}");
        assert_eq!(world.sandbox.ledger(), ledger, "{kind}");
    }
}

fn message(webhook: &Webhook, webhook_id: &str) -> String {
    let (id, time) = (webhook.value(ID), webhook.value(TIME));
    format!(
        "{id}|{time}|{webhook_id}|{}",
        crc32fast::hash(&webhook.body)
    )
}

/// The same, signed anew by the right key.
fn resigned(webhook: &Webhook) -> Webhook {
    let message = message(webhook, WEBHOOK_ID);
    let value = signed(&certificates::signer(), &RSA_PKCS1_SHA256, &message);
    webhook.with(SIGNATURE, value)
}

fn signed(key: &[u8], algorithm: &'static dyn RsaEncoding, message: &str) -> String {
    let key = RsaKeyPair::from_pkcs8(key).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    let random = SystemRandom::new();
    key.sign(algorithm, &random, message.as_bytes(), &mut signature)
        .unwrap();
    base64(&signature)
}
