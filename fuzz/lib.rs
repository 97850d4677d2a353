//! What each target does with its input, under the target's name. Nothing here needs a fuzzer:
//! `tests/seeds.rs` gives the seeds to the same functions.
#![forbid(unsafe_code)]

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use cardless::config::{Environment, Settings};
use cardless::exchange::transfer::{MAX_RECORDS_PER_LINE, Part, Reader, TYP};
use cardless::exchange::{Answer, PublicKey, Received, Request, SecretKey, jwe, jws, seal};
use cardless::pan::{Scan, find, find_in_url, withhold};
use cardless::vault::{Context, KeyRing, Purpose, Vault};
use cardless::webhook::SigningSecrets;
use cardless_aduno::Aduno;
use cardless_contract::{
    Clock, Entropy, EntropyError, PaymentProvider, RawNotification, Secrets, SystemEntropy,
    Timestamp,
};
use cardless_paypal::PayPal;
use cardless_postfinance::PostFinance;
use cardless_sandbox::{Addresses, paypal, postfinance, print_settings};
use cardless_transport::{HttpClient, InProcessClient, InProcessServer, Reply};
use http::HeaderMap;
use tokio::runtime::{Builder, Runtime};

/// A sealed record: nothing opens but what was sealed, as it was sealed.
pub fn record(data: &[u8]) {
    const CONTEXT: Context<'_> = Context {
        account: "abcdefghijklmnopabcdefghijklmnop",
        provider: "paypal",
        merchant: "sandbox-client",
        record: "pm_abcdefghijklmnopabcd",
        purpose: Purpose::Token,
    };
    static VAULT: LazyLock<Vault> = LazyLock::new(|| {
        let key = URL_SAFE_NO_PAD.encode(b"the wrapping key of the tests 01");
        let root = URL_SAFE_NO_PAD.encode([7; 32]);
        let text = format!(
            "version = 1\n[[generation]]\nid = \"kek_abcdefghijklmnopabcd\"\nstate = \"active\"\n\
             created_at = \"2026-11-23T16:25:04Z\"\nkey = \"{key}\"\n[hashes]\nroot = \"{root}\"\n"
        );
        Vault::new(KeyRing::parse(&text).unwrap(), Arc::new(SystemEntropy))
    });
    if let Ok(opened) = VAULT.open(&CONTEXT, data) {
        assert_eq!(STANDARD.encode(data), RECORD);
        assert_eq!(opened.as_slice(), b"canary-provider-token");
    }
}

/// Sealed under the key above; `seeds/record` has it too.
const RECORD: &str = concat!(
    "AgR4iQWiYCCF1u+jl4vwht89+7k64Ji7gIqZZcb11EEH/XoAAAABAAhjYXJkbGVzcwAsa2VrX2FiY2RlZmdoaWpr",
    "bG1ub3BhYmNkAAAAgAAAAAxcehaenao/s22QOb4AMAY8Tpa+kp/BEdbU0OCMSS4CtJ/3nmbiyWbQW1Bu60Stkqv6",
    "Hma00S+XNQZZs/C2NQIAEAAA7B/e5X/55SeBMxtJSdi+JkrWAPVtPTEMD/W1iYZjDVFTK6PZ3T3MXbeQnI7r4aOc",
    "/////wAAAAEAAAAAAAAAAAAAAAEAAAAVmaojNh83o67CE3Mzqf7zKE7Eqr9yk8CKRM4IPLXWU6Aku2opJg==",
);

/// A key file: whatever is wrong with it, the error quotes nothing.
pub fn key_file(data: &[u8]) {
    /// A word that no message of ours has.
    const SECRET: &str = "zqxjzqxjzqxj";
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    drop(KeyRing::parse(text));
    let text = format!("{text}{SECRET}");
    if let Err(error) = KeyRing::parse(&text) {
        assert!(!error.to_string().contains(SECRET));
    }
}

/// A settings file.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Settings::parse(Path::new("fuzz"), text, &Environment::default()) {
        Ok(settings) => {
            for name in settings.provider_names() {
                // Decoding may fail; it must only not break.
                drop(settings.provider::<cardless_paypal::Config>(name));
                drop(settings.provider::<cardless_postfinance::Config>(name));
                drop(settings.provider::<cardless_aduno::Config>(name));
            }
            drop(settings.events());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The card-number net.
pub fn pan(data: &[u8]) {
    /// Longer texts take more than one window of a scan, whose ends have tests of their own.
    const ONE_WINDOW: usize = 32 * 1024;
    let text = String::from_utf8_lossy(data);
    let hit = find(&text);
    assert!(hit.is_none() || find_in_url(&text).is_some());
    let left = withhold(&text);
    assert_eq!(find(&left), None, "{left:?}");
    assert_eq!(hit.is_none(), left == text);

    let mut found = 0;
    let mut scan = Scan::new(data);
    while let Some(findings) = scan.step().unwrap() {
        found += findings.len();
    }
    assert_eq!(usize::try_from(scan.bytes()), Ok(data.len()));
    // The scan reads some bytes that are no UTF-8 as separators, so only a clean text compares.
    if data.len() <= ONE_WINDOW && std::str::from_utf8(data).is_ok() && hit.is_some() {
        assert!(found > 0, "{text:?}");
    }
}

/// Headers and body of a webhook at each of the three doors: nothing verifies but what the sandbox has
/// signed, as far as its signature goes.
pub fn webhook_headers(data: &[u8]) {
    for (name, genuine) in verified(data) {
        assert!(genuine, "{name}");
    }
}

/// The doors at which a delivery verifies, each with whether it is the genuine one of the seeds there.
pub fn verified(data: &[u8]) -> Vec<(&'static str, bool)> {
    static ADAPTERS: LazyLock<[Arc<dyn PaymentProvider>; 3]> = LazyLock::new(adapters);
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
    CLOCK.forward();
    let (headers, body) = message(data);
    let delivery = RawNotification {
        headers: &headers,
        body: &body,
    };
    let mut verified = Vec::new();
    for (adapter, (name, signed, genuine)) in ADAPTERS.iter().zip(GENUINE) {
        if RUNTIME
            .block_on(adapter.verify_notification(&delivery))
            .is_ok()
        {
            let (theirs, said) = message(genuine);
            let same = signed
                .iter()
                .all(|name| headers.get(*name) == theirs.get(*name));
            // PayPal signs no more of a body than this.
            let said = match name {
                "paypal" => crc32fast::hash(&body) == crc32fast::hash(&said),
                _ => body == said,
            };
            verified.push((name, same && said));
        }
    }
    verified
}

/// A provider, which headers its signature is over, and a delivery that the sandbox has signed at
/// [`START`].
const GENUINE: [(&str, &[&str], &[u8]); 3] = [
    (
        "paypal",
        &["paypal-transmission-id", "paypal-transmission-time"],
        include_bytes!("seeds/webhook_headers/genuine_paypal"),
    ),
    (
        "postfinance",
        &[],
        include_bytes!("seeds/webhook_headers/genuine_postfinance"),
    ),
    (
        "aduno",
        &["datatrans-signature"],
        include_bytes!("seeds/webhook_headers/genuine_aduno"),
    ),
];

/// The body of a webhook of PayPal, once its signature is good.
#[cfg(fuzzing)]
pub fn webhook_paypal(data: &[u8]) {
    check_body(cardless_paypal::decode_notification(data));
}

/// The body of a webhook of PostFinance, once its signature is good.
#[cfg(fuzzing)]
pub fn webhook_postfinance(data: &[u8]) {
    check_body(cardless_postfinance::decode_notification(data));
}

/// The body of a webhook of Aduno, once its signature is good.
#[cfg(fuzzing)]
pub fn webhook_aduno(data: &[u8]) {
    check_body(cardless_aduno::decode_notification(data));
}

/// Headers and body of an event, as who receives it verifies them: nothing made up does.
pub fn event_headers(data: &[u8]) {
    static SECRETS: LazyLock<SigningSecrets> = LazyLock::new(|| {
        let secret = "whsec_Y2FuYXJ5LXNpZ25pbmctc2VjcmV0LWNhbmFyeQ==".to_owned();
        SigningSecrets::new(&Secrets::new(vec![secret]).unwrap()).unwrap()
    });
    let (headers, body) = message(data);
    assert!(SECRETS.verify(&headers, &body, Noon.now()).is_err());
}

/// A sealed message, from outside: nothing opens but what was sealed, as it was sealed.
pub fn jwe(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(message) = jwe::Unopened::parse(text) {
        assert!(message.open(&RECEIVING).is_err() || text == SEALED);
    }
    if let Ok(opened) = Received::parse(text).and_then(|message| message.open(&RECEIVING)) {
        assert_eq!(text, SEALED);
        assert!(opened.verify(SIGNING.public()).is_ok());
    }
}

/// The signed message inside: nothing verifies but what was signed, as it was signed.
pub fn jws(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(message) = jws::Unverified::parse(text) {
        let verified = message.verify(SIGNING.public());
        // What is signed stands before the last full stop.
        let signed = |text: &str| text.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        assert!(verified.is_err() || signed(text) == signed(SIGNED));
    }
}

/// What a message says, once its signature is good: read, it is written and read as the same.
pub fn claims(data: &[u8]) {
    if let Ok(request) = Request::parse(data) {
        assert_eq!(Request::parse(&request.to_bytes()), Ok(request.clone()));
        let in_time = request.window.check(Noon.now()).is_ok();
        assert!(!in_time || request.window.remember_until() > Noon.now());
    }
    if let Ok(answer) = Answer::parse(data) {
        assert_eq!(Answer::parse(&answer.to_bytes()), Ok(answer));
    }
}

/// Public keys, as an operator registers them and a client fetches them; and a private one.
pub fn jwk(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for key in PublicKey::read_all(text).unwrap_or_default() {
        let again = PublicKey::read_all(&key.to_jwk().to_string());
        assert_eq!(again, Ok(vec![key.clone()]));
        let stored = PublicKey::from_point(key.kid(), key.usage(), &key.to_point());
        assert_eq!(stored, Ok(key));
    }
    if let Ok(key) = SecretKey::read(text) {
        let again = SecretKey::read(&key.to_private_jwk()).unwrap();
        assert_eq!(again.public(), key.public());
        assert!(text.contains("PRIVATE KEY") || PublicKey::read_all(text).is_err());
    }
}

/// What a client that holds keys can make: a sealed text of any kind, or signed claims of any kind.
/// The first byte says which.
pub fn sealed(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let sealed = match kind {
        b'c' => seal(text, &SIGNING, RECEIVING.public(), &Fixed),
        _ => jwe::seal(text, "JWT", Some("JWT"), RECEIVING.public(), &Fixed),
    };
    let Ok(message) = sealed else {
        return;
    };
    let received = Received::parse(&message).unwrap();
    assert_eq!(received.kid(), RECEIVING.public().kid());
    let Ok(opened) = received.open(&RECEIVING) else {
        assert_ne!(*kind, b'c');
        return;
    };
    let verified = opened.verify(SIGNING.public());
    if *kind == b'c' {
        assert_eq!(verified.as_deref().map(Vec::as_slice), Ok(text));
        claims(text);
    } else if verified.is_ok() {
        jws(text);
    }
}

/// What a sender of provider tokens can write: each line of the input is what a line of its file says.
/// The digest at the end is over what was sealed, so no input has it.
pub fn tokens(data: &[u8]) {
    let senders = vec![SIGNING.public().clone()];
    let mut reader = Reader::new(vec![RECEIVING.clone()], senders);
    for (at, claims) in (0..).zip(data.split(|byte| *byte == b'\n')) {
        let signed = jws::sign(claims, TYP, &SIGNING).unwrap();
        let to = RECEIVING.public();
        let Ok(line) = jwe::seal(signed.as_bytes(), TYP, Some("JWT"), to, &Fixed) else {
            return;
        };
        let before = reader.records();
        match reader.line((line + "\n").as_bytes()) {
            Ok(Part::Header(_)) => assert_eq!(at, 0),
            Ok(Part::Records(records)) => {
                assert!(at > 0 && (1..=MAX_RECORDS_PER_LINE).contains(&records.len()));
                let count = u64::try_from(records.len()).unwrap();
                assert_eq!(reader.records(), before + count);
            }
            Ok(Part::End) => unreachable!("a digest was guessed"),
            Err(_) => break,
        }
    }
    assert!(reader.end().is_err());
}

/// The keys of both sides: the words `sign` and `receive`, hashed.
static SIGNING: LazyLock<SecretKey> = LazyLock::new(|| {
    let jwk = r#"{"kty":"EC","crv":"P-256","kid":"sign","use":"sig",
        "x":"AXpNksI7ImkdQH7F_xN0fXZv6A3PgfmsatCjsgz6KrM",
        "y":"gqpOTPptqKu1xMDoileajp6oFcIzLLNSf-JrvS4KmK0",
        "d":"C285XKFKwgI3TVz_Z4txFX0L734AwwRem4CqtP-4UnY"}"#;
    SecretKey::read(jwk).unwrap()
});
static RECEIVING: LazyLock<SecretKey> = LazyLock::new(|| {
    let jwk = r#"{"kty":"EC","crv":"P-256","kid":"receive","use":"enc",
        "x":"PPdHrkpgIIb9vVOZ7PBL6ylp79b6aKF-P7YBCDdzzaM",
        "y":"CAtxFXsVA1YgVXiUoRLJg5bgEAfiIkh1Lt1GH08b8Ag",
        "d":"lRAFGb4DQiFsnCM0jearMWMOa9HFwLW5XgPxXGtSoAs"}"#;
    SecretKey::read(jwk).unwrap()
});

/// Made by `joserfc` under the keys above.
const SEALED: &str = include_str!("seeds/jwe/sealed");
const SIGNED: &str = include_str!("seeds/jws/signed");

/// The same bytes each time, so that a finding comes again.
#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        bytes.fill(0x42);
        Ok(())
    }
}

/// A moment, in seconds since 1970.
const START: i64 = 1_795_000_000;

/// That moment; every run is at the same.
#[derive(Debug)]
struct Noon;

impl Clock for Noon {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(START)
    }
}

/// Goes on with each delivery, so that the few fetches of a minute suffice for all of them; and begins anew
/// after [`Ticking::INPUTS`], before the genuine deliveries are too old.
#[derive(Debug)]
struct Ticking(AtomicI64);

static CLOCK: Ticking = Ticking(AtomicI64::new(0));

impl Ticking {
    /// Ten fetches a minute are allowed, and one delivery causes one at most; half of them are for others
    /// that run beside it.
    const STEP_SECONDS: i64 = 12;
    /// Ten hours of steps.
    const INPUTS: i64 = 3_000;

    fn forward(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Clock for &'static Ticking {
    fn now(&self) -> Timestamp {
        let inputs = self.0.load(Ordering::Relaxed) % Ticking::INPUTS;
        Timestamp::from_seconds(START + inputs * Ticking::STEP_SECONDS)
    }
}

/// Hands out the sandbox's certificate and its key at their own addresses; elsewhere nothing is.
#[derive(Debug)]
struct KeysOnly;

impl InProcessServer for KeysOnly {
    fn serve(&self, request: http::Request<Bytes>) -> Reply {
        static ADDRESSES: LazyLock<[(String, &str); 2]> = LazyLock::new(|| {
            let Addresses {
                paypal: at_paypal,
                postfinance: at_postfinance,
                ..
            } = Addresses::default();
            let certificate = paypal::CERTIFICATE_ID;
            let key = postfinance::WEBHOOK_KEY_ID;
            [
                (
                    format!("http://{at_paypal}/v1/notifications/certs/{certificate}"),
                    include_str!("../providers/sandbox/src/paypal/material/leaf.pem"),
                ),
                (
                    format!("http://{at_postfinance}/api/v2.0/webhooks/encryption-keys/{key}"),
                    include_str!(
                        "../providers/sandbox/src/postfinance/material/webhook-key.spki.base64"
                    ),
                ),
            ]
        });
        let asked = request.uri().to_string();
        let found = ADDRESSES.iter().find(|(address, _)| *address == asked);
        let mut answer = http::Response::new(
            found.map_or_else(Bytes::new, |(_, body)| Bytes::from_static(body.as_bytes())),
        );
        if found.is_none() {
            *answer.status_mut() = http::StatusCode::NOT_FOUND;
        }
        Reply::Answer(answer)
    }
}

/// The three adapters, which reach nobody who does anything.
fn adapters() -> [Arc<dyn PaymentProvider>; 3] {
    let text = print_settings(&Addresses::default());
    let settings = Settings::parse(Path::new("fuzz"), &text, &Environment::default()).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(&CLOCK);
    let client = || -> Arc<dyn HttpClient> {
        let deadline = std::time::Duration::from_secs(1);
        Arc::new(InProcessClient::new(Arc::new(KeysOnly), deadline))
    };
    let config = settings.provider("paypal").unwrap().unwrap();
    let paypal = PayPal::new(config, client(), clock.clone()).unwrap();
    let config = settings.provider("postfinance").unwrap().unwrap();
    let postfinance = PostFinance::new(config, client(), clock.clone()).unwrap();
    let config = settings.provider("aduno").unwrap().unwrap();
    let aduno = Aduno::new(config, client(), clock).unwrap();
    [Arc::new(paypal), Arc::new(postfinance), Arc::new(aduno)]
}

/// Headers and a body from lines `name: value`, an empty line, and the rest. What is no header is
/// left out.
fn message(data: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = data;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else {
            continue;
        };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        let value = http::HeaderValue::from_bytes(&line[colon + 2..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(rest))
}

/// What must be true of a body that was read.
#[cfg(fuzzing)]
fn check_body(
    decoded: Result<cardless_contract::Notification, cardless_contract::NotificationError>,
) {
    if let Ok(notification) = decoded {
        let id = &notification.event_id;
        let longest = cardless_contract::Notification::MAX_EVENT_ID_BYTES;
        assert!((1..=longest).contains(&id.len()));
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    }
}
