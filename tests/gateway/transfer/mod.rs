//! Files of provider tokens: what goes out comes in elsewhere, once; what does not belong is refused
//! by name; and a file that is not whole stores nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::exchange::transfer::{
    Fault, Header, MAX_LINE_BYTES, MAX_RECORDS_PER_LINE, Record, TYP, Writer,
};
use cardless::exchange::{PublicKey, SecretKey, Usage, jwe, jws, seal};
use cardless::gateway::{
    AuditQuery, ExportPart, ExportReport, FILE_GENERATIONS, Gateway, ImportReport, ROTATE_AFTER,
    Refusal, Rule,
};
use cardless::message::*;
use cardless::store::{Change, MethodState, SqliteStore, Threads};
use cardless_contract::{Clock as _, Entropy, EntropyError, SystemEntropy};
use proptest::prelude::*;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::fake::Shape;
use crate::world::*;

mod hostile;
mod resume;
mod rules;
mod trip;

/// A number that passes for a card number: a published test number.
const CARD: &str = "4242424242424242";

fn world() -> World {
    World::new(Shape::TwoCalls)
}

fn pair(usage: Usage) -> SecretKey {
    SecretKey::generate(usage, &SystemEntropy).unwrap()
}

/// The keys that an installation publishes.
async fn published(gateway: &Gateway) -> Vec<PublicKey> {
    let set = gateway.exchange_keys().await.unwrap().to_string();
    PublicKey::read_all(&set).unwrap()
}

/// The key that files for it are sealed to.
async fn address(gateway: &Gateway) -> PublicKey {
    let keys = published(gateway).await;
    let sealing = keys.into_iter().find(|key| key.usage() == Usage::Seal);
    sealing.unwrap()
}

fn record(account: &str, token: &str) -> Record {
    Record {
        account: account.to_owned(),
        provider: "fake".to_owned(),
        merchant: "shop".to_owned(),
        kind: "plain".to_owned(),
        token: Zeroizing::new(token.to_owned()),
        default: false,
        payment_method: None,
    }
}

/// Somebody else's system, which writes files.
struct Sender {
    key: SecretKey,
    to: PublicKey,
    at: i64,
    export: String,
}

impl Sender {
    async fn to(world: &World) -> Self {
        Self {
            key: pair(Usage::Sign),
            to: address(&world.gateway).await,
            at: world.clock.now().seconds(),
            export: "old-billing-1".to_owned(),
        }
    }

    fn keys(&self) -> Vec<PublicKey> {
        vec![self.key.public().clone()]
    }

    fn header(&self) -> Header {
        Header {
            from: "the old billing system".to_owned(),
            issued_at: self.at,
        }
    }

    /// A file with these records, `each` of them a line.
    fn file(&self, records: &[Record], each: usize) -> Vec<String> {
        let entropy = Arc::new(SystemEntropy);
        let mut writer = Writer::new(
            self.export.clone(),
            self.key.clone(),
            self.to.clone(),
            entropy,
        );
        let mut lines = vec![writer.header(&self.header()).unwrap()];
        for part in records.chunks(each) {
            lines.push(writer.records(part).unwrap());
        }
        lines.push(writer.end().unwrap().0);
        lines
    }

    /// A line that says what it likes.
    fn forge(&self, claims: &str) -> String {
        let signed = jws::sign(claims.as_bytes(), TYP, &self.key).unwrap();
        let sealed = jwe::seal(
            signed.as_bytes(),
            TYP,
            Some("JWT"),
            &self.to,
            &SystemEntropy,
        );
        sealed.unwrap() + "\n"
    }

    /// The claims of a line at a place.
    fn claims(&self, seq: usize, part: &str, says: &Value) -> String {
        json!({"aud": self.to.thumbprint(), "export": self.export, "seq": seq, part: says})
            .to_string()
    }
}

async fn export(
    gateway: &Gateway,
    to: &PublicKey,
    part: &ExportPart,
) -> (Vec<String>, ExportReport) {
    let mut export = gateway.export_tokens(to, part).await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = export.next().await.unwrap() {
        lines.push(line);
    }
    (lines, export.finish().await.unwrap())
}

async fn export_all(gateway: &Gateway, to: &PublicKey) -> (Vec<String>, ExportReport) {
    export(gateway, to, &ExportPart::default()).await
}

/// Both readings of a file.
async fn import_as(
    gateway: &Gateway,
    lines: &[impl AsRef<[u8]>],
    senders: &[PublicKey],
    dry_run: bool,
) -> Result<(ImportReport, Vec<Refusal>), Error> {
    let mut check = gateway.import_tokens(senders).await?;
    for line in lines {
        check.line(line.as_ref()).await?;
    }
    let mut import = check.compare(dry_run, |_| {}).await?;
    let mut refusals = Vec::new();
    for line in lines {
        refusals.extend(import.line(line.as_ref()).await?);
    }
    let report = import.finish().await?;
    let sum = report.imported + report.already_here + report.refused;
    assert_eq!(sum, report.records, "{report:?}");
    assert_eq!(
        report.refused,
        u64::try_from(refusals.len()).unwrap(),
        "{report:?}"
    );
    Ok((report, refusals))
}

async fn import(
    gateway: &Gateway,
    lines: &[impl AsRef<[u8]>],
    senders: &[PublicKey],
) -> (ImportReport, Vec<Refusal>) {
    import_as(gateway, lines, senders, false).await.unwrap()
}

fn counts(report: &ImportReport) -> (u64, u64, u64) {
    (report.imported, report.already_here, report.refused)
}

/// Account, token and whether it is the default, of everything that can be charged.
async fn held(world: &World) -> Vec<(String, String, bool)> {
    let to = pair(Usage::Seal);
    let (lines, _) = export_all(&world.gateway, to.public()).await;
    let mut held = Vec::new();
    for line in lines {
        let claims = opened(&line, &to);
        for record in claims["records"].as_array().into_iter().flatten() {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            held.push((text("account"), text("token"), record["default"] == true));
        }
    }
    held.sort();
    held
}

/// The claims of a line, by whoever has the key; nothing of it is verified.
fn opened(line: &str, key: &SecretKey) -> Value {
    let message = jwe::Unopened::parse(line.trim_end()).unwrap();
    let signed = message.open(key).unwrap();
    let signed = std::str::from_utf8(&signed).unwrap().to_owned();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = engine.decode(signed.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

async fn link(world: &World, account: &str) -> String {
    let request = LinkRequest {
        account: account.to_owned(),
        ..link_request()
    };
    let setup = world.gateway.link(&world.key(), &request).await.unwrap();
    world.fake.end_setup("linked");
    let setup = world.gateway.complete_link(&setup.body.id).await.unwrap();
    world.fake.end_setup("done");
    setup.payment_method.unwrap()
}

async fn methods(world: &World, account: &str) -> Vec<PaymentMethod> {
    world.gateway.payment_methods(account).await.unwrap().data
}

/// Lines of the audit log about files, oldest first.
async fn audited(gateway: &Gateway) -> Vec<(String, String, Value)> {
    let query = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let lines = gateway.audit_lines(&query).await.unwrap().data;
    let about = |action: &str| action == "import" || action == "export";
    let lines = lines.into_iter().rev().filter(|line| about(&line.action));
    lines
        .map(|line| (line.action, line.outcome, json!(line.details)))
        .collect()
}
