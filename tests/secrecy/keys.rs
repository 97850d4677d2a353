//! What the key file holds, and what is derived from it, derived here once more.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use cardless::vault::{Context, HashPurpose, KeyRing, Purpose, Vault};
use cardless_contract::SystemEntropy;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use ring::{hkdf, hmac};
use rusqlite::Connection;

use crate::stand::{Service, Stand};

/// What each derived key is for, with its label, written apart from `src/vault/keyring.rs`: a purpose
/// that is new there does not compile here.
fn derived_key(purpose: HashPurpose) -> (&'static str, &'static str) {
    match purpose {
        HashPurpose::Pseudonym => ("the key of pseudonyms", "pseudonym"),
        HashPurpose::ApiKey => ("the key of API keys", "api key"),
        HashPurpose::RequestDigest => ("the key of request digests", "request digest"),
        HashPurpose::BodySeal => ("the key of body hashes", "body seal"),
        HashPurpose::CustomerReference => ("the key of customers' names", "customer reference"),
        HashPurpose::Audit => ("the key of the audit log", "audit log"),
        HashPurpose::ErasedAccount => ("the key of receipts", "erased account"),
        HashPurpose::Exchange => ("the key of the sealed exchange", "exchange"),
        HashPurpose::ImportedToken => ("the key of imported tokens", "imported token"),
        HashPurpose::ClientKey => ("the key of clients' public keys", "client key"),
    }
}

const SALT: &[u8] = b"cardless keyed hashes 1";

/// Plants the keys of the key file as it is now, what is derived from them, and what they open.
pub(crate) fn plant_keys(stand: &Stand, when: &str) {
    for key in values(stand, "key =") {
        stand.plant_base64(&format!("a key-encryption key, {when}"), &key);
    }
    for root in values(stand, "root =") {
        stand.plant_base64("the root of the key file", &root);
    }
    let keys = KeyRing::load(&stand.path("cardless.keys")).unwrap();
    let vault = Vault::new(keys, Arc::new(SystemEntropy));
    for &purpose in HashPurpose::ALL {
        let (kind, label) = derived_key(purpose);
        let key = derived(stand, label);
        // It is the program's own: both hash alike.
        let here = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), label.as_bytes());
        assert!(
            vault.verify_hash(purpose, label.as_bytes(), here.as_ref()),
            "{kind}"
        );
        stand.plant(kind, key);
    }
    let connection = Connection::open(stand.path("cardless.db")).unwrap();
    for (_, kind, number) in exchange_keys(stand, &connection) {
        stand.plant(kind, number);
    }
    plant_opened(stand, &connection);
}

/// Whether what is derived here is what the program derives: the account's name in the store, and
/// the public halves that the service shows.
pub(crate) async fn check_derived(stand: &Stand, service: &Service, account: &str) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &derived(stand, "pseudonym"));
    let hash = hmac::sign(&key, account.as_bytes());
    let halves = hash.as_ref()[..16]
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15]);
    let name: String = halves.map(|half| char::from(b'a' + half)).collect();
    let connection = Connection::open(stand.path("cardless.db")).unwrap();
    let question = "SELECT count(*) FROM accounts WHERE account = ?1";
    let known: i64 = connection
        .query_row(question, [name], |row| row.get(0))
        .unwrap();
    assert_eq!(known, 1);

    let request = http::Request::get(format!("{}/.well-known/jwks.json", service.base));
    let answer = stand
        .http
        .send(request.body(Bytes::new()).unwrap())
        .await
        .unwrap();
    let shown = String::from_utf8(answer.body().to_vec()).unwrap();
    let keys = exchange_keys(stand, &connection);
    assert!(!keys.is_empty());
    for (kid, _, number) in keys {
        let public = p256::SecretKey::from_slice(&number).unwrap().public_key();
        let x = URL_SAFE_NO_PAD.encode(public.to_sec1_point(false).x().unwrap());
        assert!(shown.contains(&x), "{kid} {shown}");
    }
}

/// The values of a name in the key file.
fn values(stand: &Stand, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(stand.path("cardless.keys")).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix(name));
    lines
        .map(|value| value.trim_matches([' ', '"']).to_owned())
        .collect()
}

/// `HKDF-SHA-256(salt, root, label, 32)`.
fn derived(stand: &Stand, label: &str) -> [u8; 32] {
    let root = URL_SAFE_NO_PAD.decode(&values(stand, "root =")[0]).unwrap();
    let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&root);
    let mut key = [0; 32];
    let info = [label.as_bytes()];
    let okm = root.expand(&info, hmac::HMAC_SHA256).unwrap();
    okm.fill(&mut key).unwrap();
    key
}

/// The service's private keys of the sealed exchange (`src/gateway/exchange.rs`): generation, kind
/// and number.
fn exchange_keys(stand: &Stand, connection: &Connection) -> Vec<(String, &'static str, Vec<u8>)> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &derived(stand, "exchange"));
    let question = "SELECT id FROM exchange_generations";
    let mut generations = connection.prepare(question).unwrap();
    let generations = generations.query_map([], |row| row.get(0)).unwrap();
    let mut keys = Vec::new();
    for generation in generations.map(rusqlite::Result::<String>::unwrap) {
        for (usage, kind) in [
            ("sig", "the service's signing key"),
            ("enc", "the service's receiving key"),
        ] {
            let label = ["key", &generation, usage, "\u{1}"].join("\0");
            let number = hmac::sign(&key, label.as_bytes());
            keys.push((generation.clone(), kind, number.as_ref().to_vec()));
        }
    }
    keys
}

/// What is sealed in the database.
fn plant_opened(stand: &Stand, connection: &Connection) {
    let keys = KeyRing::load(&stand.path("cardless.keys")).unwrap();
    let vault = Vault::new(keys, Arc::new(SystemEntropy));
    let question = "SELECT account, provider, merchant, id, sealed FROM records";
    let mut records = connection.prepare(question).unwrap();
    let mut rows = records.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let text = |place| row.get::<_, String>(place).unwrap();
        let [account, provider, merchant, record] = [0, 1, 2, 3].map(text);
        let context = Context {
            account: &account,
            provider: &provider,
            merchant: &merchant,
            record: &record,
            purpose: Purpose::Token,
        };
        let token = vault
            .open(&context, &row.get::<_, Vec<u8>>(4).unwrap())
            .unwrap();
        stand.plant(&format!("a token of {provider}"), &*token);
    }
}
