use cardless_sandbox::Provider;
use cardless_sandbox::aduno::WEBHOOK_KEY;
use ring::hmac::{
    self, Algorithm, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512,
};
use serde_json::{Value, json};

use crate::forge::{Forge, base64, hex};
use crate::judge::{Genuine, Variant, judge};
use crate::webhook::Webhook;
use crate::world::World;

const HEADER: &str = "datatrans-signature";

const HOUR: i64 = 3600 * 1000;
const DAY: i64 = 24 * HOUR;

#[tokio::test(start_paused = true)]
async fn no_hostile_webhook_changes_anything_at_adunos_door() {
    let count = judge(Provider::Aduno, variants).await;
    println!("{count} variants");
}

fn variants(_: &World, genuine: &Genuine) -> Vec<Variant> {
    let mut forge = Forge::default();
    forge.any_scheme(genuine, &[HEADER]);
    let open = &genuine.open;
    let (time, mac) = parts(open);
    let bytes = from_hex(&mac);
    forge.flips(open, HEADER, &bytes, 1, |bytes| {
        format!("t={time},s0={}", hex(bytes))
    });
    headers(&mut forge, genuine);
    times(&mut forge, open);
    keys(&mut forge, open);
    messages(&mut forge, open);
    bodies(&mut forge, open);
    dresses(&mut forge, &genuine.seen);
    forge.variants()
}

/// The header's two parts, in every wrong form.
fn headers(forge: &mut Forge, genuine: &Genuine) {
    let open = &genuine.open;
    let (time, mac) = parts(open);
    let raw = from_hex(&mac);
    let other_mac = parts(&genuine.other).1;
    for value in [
        format!("t={time}"),
        format!("s0={mac}"),
        format!("{time},{mac}"),
        format!("t={time};s0={mac}"),
        format!("t={time} s0={mac}"),
        format!("t:{time},s0:{mac}"),
        format!("T={time},s0={mac}"),
        format!("t={time},S0={mac}"),
        format!("t={time},s1={mac}"),
        format!("t={time},s0="),
        format!("t={time},s0={}", base64(&raw)),
        format!("t={time},s0=\"{mac}\""),
        format!("t={time},s0=0x{mac}"),
        format!("t={time},s0={mac}00"),
        format!("t={time},s0={mac}0"),
        format!("t={time},s0={}", &mac[..62]),
        format!("t={time},s0={}", &mac[..2]),
        format!("t={time},s0={}", &mac[2..]),
        format!("t={time},s0={}", "0".repeat(64)),
        format!("t={time},s0={}", "f".repeat(64)),
        format!("t={time},s0={},s0={mac}", "0".repeat(64)),
        format!("t={time},s0={mac},s0={}", "0".repeat(64)),
        format!("t={time},t={time},s0={mac}"),
        format!("t=1,s0={mac}"),
        format!("t=,s0={mac}"),
        format!("t=0{time},s0={mac}"),
        format!("t=+{time},s0={mac}"),
        format!("t={time}.0,s0={mac}"),
        format!("t= {time},s0={mac}"),
        format!("t={time},s0={other_mac}"),
        format!("t={},s0={mac}", time.parse::<i64>().unwrap() + 1),
        format!("t={},s0={mac}", &time[..10]),
        "t=0,s0=".to_owned(),
        ",".repeat(2000),
        "t=".to_owned(),
    ] {
        forge.refused(format!("header {value}"), open.with(HEADER, value));
    }
}

/// Rightly signed at a wrong time.
fn times(forge: &mut Forge, open: &Webhook) {
    let now: i64 = parts(open).0.parse().unwrap();
    for time in [
        (now - DAY - 60_000).to_string(),
        (now - 2 * DAY).to_string(),
        (now - 3650 * DAY).to_string(),
        (now + 4 * HOUR).to_string(),
        (now + DAY).to_string(),
        (now + 365_000 * DAY).to_string(),
        (now / 1000).to_string(),
        format!("{now}000"),
        "0".to_owned(),
        "1".to_owned(),
        (-now).to_string(),
        format!("+{now}"),
        i64::MAX.to_string(),
        u64::MAX.to_string(),
        "9".repeat(60),
        "1e12".to_owned(),
        "0x1a2b".to_owned(),
        "2026-11-18T00:00:00Z".to_owned(),
        "now".to_owned(),
        String::new(),
        "\u{661}\u{662}".to_owned(),
    ] {
        let value = signed(HMAC_SHA256, &key(), &time, &open.body);
        forge.refused(
            format!("signed at {time}"),
            open.with(HEADER, value.as_bytes()),
        );
    }
}

/// Other keys, and the right one by another algorithm.
fn keys(forge: &mut Forge, open: &Webhook) {
    let time = parts(open).0;
    let mut other = key();
    other[0] ^= 1;
    let mut long = key();
    long.push(1);
    for (name, key) in [
        ("of another merchant", other),
        ("as text", WEBHOOK_KEY.as_bytes().to_vec()),
        ("in capitals", WEBHOOK_KEY.to_ascii_uppercase().into_bytes()),
        ("in base64", base64(&key()).into_bytes()),
        ("of no bytes", Vec::new()),
        ("cut by one", key()[..31].to_vec()),
        ("longer by one", long),
        ("that is the password", b"sandbox-password".to_vec()),
        ("that is the merchant's id", b"1100000000".to_vec()),
    ] {
        let value = signed(HMAC_SHA256, &key, &time, &open.body);
        forge.refused(format!("signed by a key {name}"), open.with(HEADER, value));
    }
    for (name, algorithm) in [
        ("SHA-1", HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ("SHA-384", HMAC_SHA384),
        ("SHA-512", HMAC_SHA512),
    ] {
        let value = signed(algorithm, &key(), &time, &open.body);
        forge.refused(format!("signed with {name}"), open.with(HEADER, value));
    }
    let cut = hmac::sign(
        &hmac::Key::new(HMAC_SHA512, &key()),
        &message(&time, &open.body),
    );
    let value = format!("t={time},s0={}", hex(&cut.as_ref()[..32]));
    forge.refused("signed with SHA-512, cut", open.with(HEADER, value));
    let plain = ring::digest::digest(&ring::digest::SHA256, &message(&time, &open.body));
    let value = format!("t={time},s0={}", hex(plain.as_ref()));
    forge.refused("hashed without a key", open.with(HEADER, value));
    let prefixed = [&key()[..], &message(&time, &open.body)[..]].concat();
    let plain = ring::digest::digest(&ring::digest::SHA256, &prefixed);
    let value = format!("t={time},s0={}", hex(plain.as_ref()));
    forge.refused("hashed behind the key", open.with(HEADER, value));
}

/// The right key over another message than that of the scheme.
fn messages(forge: &mut Forge, open: &Webhook) {
    let time = parts(open).0;
    let body = &open.body[..];
    for (name, message) in [
        ("the body alone", body.to_vec()),
        ("the time alone", time.clone().into_bytes()),
        ("nothing", Vec::new()),
        ("body and time", [body, time.as_bytes()].concat()),
        ("a dot between", [time.as_bytes(), b".", body].concat()),
        ("a comma between", [time.as_bytes(), b",", body].concat()),
        ("a line between", [time.as_bytes(), b"\n", body].concat()),
        (
            "a name before the time",
            [b"t=", time.as_bytes(), body].concat(),
        ),
        ("a line after it", [time.as_bytes(), body, b"\n"].concat()),
        (
            "the body in base64",
            [time.as_bytes(), base64(body).as_bytes()].concat(),
        ),
    ] {
        let mac = hmac::sign(&hmac::Key::new(HMAC_SHA256, &key()), &message);
        let value = format!("t={time},s0={}", hex(mac.as_ref()));
        forge.refused(format!("signed over {name}"), open.with(HEADER, value));
    }
    // Time and body are not parted in what is signed: a digit can't wander from one to the other.
    let (short, digit) = time.split_at(time.len() - 1);
    let mac = parts(open).1;
    let moved = open.body([digit.as_bytes(), body].concat());
    forge.refused(
        "the time's last digit moved to the body",
        moved.with(HEADER, format!("t={short},s0={mac}")),
    );
}

/// Rightly signed, of another merchant, or no webhook.
fn bodies(forge: &mut Forge, open: &Webhook) {
    let member = |name: &str, value: Value| {
        let mut body = open.json();
        body[name] = value;
        resigned(&open.body(body.to_string()))
    };
    for (name, value) in [
        ("merchantId", json!("1100000001")),
        ("merchantId", json!("")),
        ("merchantId", json!("1100000000 ")),
        ("merchantId", json!("01100000000")),
        ("merchantId", json!(1_100_000_000)),
        ("merchantId", json!(["1100000000"])),
        ("transactionId", json!("")),
        ("transactionId", json!("1")),
        ("transactionId", json!("../aliases/1")),
        (
            "transactionId",
            json!(open.json()["transactionId"].as_str().unwrap().to_owned() + "?"),
        ),
        ("transactionId", json!(7)),
        ("transactionId", json!(null)),
        ("status", json!("")),
        ("status", json!("se ttled")),
        ("status", json!("SETTLED")),
        ("status", json!("x".repeat(300))),
        ("status", json!(1)),
        ("status", json!(null)),
        ("type", json!(1)),
        ("refno", json!(1)),
    ] {
        if member(name, value.clone()).json()["status"] == json!("") {
            continue;
        }
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
            "two ids",
            text.replacen('{', "{\"transactionId\":\"260101120000000001\",", 1)
                .into_bytes(),
        ),
        ("two of it", [text.as_bytes(), text.as_bytes()].concat()),
    ] {
        forge.refused(
            format!("signed over a body of {name}"),
            resigned(&open.body(body)),
        );
    }
}

/// What came before, in a header that says the same.
fn dresses(forge: &mut Forge, seen: &Webhook) {
    let (time, mac) = parts(seen);
    for value in [
        format!("s0={mac},t={time}"),
        format!("t={time}, s0={mac}"),
        format!("t={time},s0={}", mac.to_ascii_uppercase()),
        format!("t={time},s0={mac},s1=00"),
        format!("a=b,t={time},s0={mac}"),
    ] {
        forge.repeat(format!("with {value}"), seen.with(HEADER, value), 1);
    }
    // Later, signed anew: Datatrans' own repeat.
    let later = (time.parse::<i64>().unwrap() + 60_000).to_string();
    let value = signed(HMAC_SHA256, &key(), &later, &seen.body);
    forge.repeat("signed anew a minute later", seen.with(HEADER, value), 3);
}

fn parts(webhook: &Webhook) -> (String, String) {
    let (time, mac) = webhook.value(HEADER).split_once(',').unwrap();
    let part = |text: &str, name: &str| text.strip_prefix(name).unwrap().to_owned();
    (part(time, "t="), part(mac, "s0="))
}

fn key() -> Vec<u8> {
    from_hex(WEBHOOK_KEY)
}

fn from_hex(text: &str) -> Vec<u8> {
    let byte = |place: usize| u8::from_str_radix(&text[place..place + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn message(time: &str, body: &[u8]) -> Vec<u8> {
    [time.as_bytes(), body].concat()
}

/// The same, signed anew by the right key.
fn resigned(webhook: &Webhook) -> Webhook {
    let time = parts(webhook).0;
    webhook.with(HEADER, signed(HMAC_SHA256, &key(), &time, &webhook.body))
}

fn signed(algorithm: Algorithm, key: &[u8], time: &str, body: &[u8]) -> String {
    let mac = hmac::sign(&hmac::Key::new(algorithm, key), &message(time, body));
    format!("t={time},s0={}", hex(mac.as_ref()))
}
