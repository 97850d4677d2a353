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

#[tokio::test(start_paused = true)]
async fn what_goes_out_comes_in_elsewhere_and_can_be_charged() {
    let (from, to) = (world(), world());
    let first = link(&from, "a-1").await;
    let second = link(&from, "a-1").await;
    link(&from, "a-2").await;
    let update = MethodUpdate {
        account: "a-1".to_owned(),
        default: true,
    };
    from.gateway.set_default(&second, &update).await.unwrap();

    let (lines, exported) = export_all(&from.gateway, &address(&to.gateway).await).await;
    assert_eq!((exported.records, lines.len()), (3, 3));
    let (report, refusals) = import(&to.gateway, &lines, &published(&from.gateway).await).await;
    assert_eq!((counts(&report), refusals), ((3, 0, 0), Vec::new()));
    assert_eq!(report.sha256, exported.sha256);
    assert_eq!(held(&to).await, held(&from).await);

    // The billing service learns what the methods are called now.
    let events = to.store.events(0, 100).await.unwrap();
    let told: Vec<_> = events
        .iter()
        .filter(|(_, event)| event.kind == "payment_method.imported")
        .filter_map(|(_, event)| event.replaces.clone())
        .collect();
    assert_eq!(told.len(), 3);
    assert!(told.contains(&first) && told.contains(&second));

    let payment = to.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Captured, "{payment:?}");
    let default = methods(&to, "a-1").await;
    let default = default.iter().find(|method| method.default).unwrap();
    assert_eq!(payment.payment_method.as_deref(), Some(default.id.as_str()));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_run_again_changes_nothing() {
    let world = world();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-1", "t-1"),
        record("a-1", "t-2"),
        record("a-2", "t-3"),
    ];
    let lines = sender.file(&records, 2);
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (3, 0, 0));
    let before = (held(&world).await, world.events().await);

    let (again, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&again), (0, 3, 0));
    assert_eq!((held(&world).await, world.events().await), before);

    // Nor does another file with the same, or one that says a record twice.
    let mut other = Sender::to(&world).await;
    other.export = "old-billing-2".to_owned();
    let twice = [
        record("a-1", "t-1"),
        record("a-3", "t-4"),
        record("a-3", "t-4"),
    ];
    for each in [1, 3] {
        let lines = other.file(&twice, each);
        let (report, _) = import(&world.gateway, &lines, &other.keys()).await;
        assert_eq!(report.refused, 0);
    }
    assert_eq!(held(&world).await.len(), 4);
    // Handles that were replaced meanwhile do not matter.
    let mut rotation = world.gateway.rotate_handles(None).await.unwrap();
    while !rotation.is_done() {
        rotation.step(10).await.unwrap();
    }
    let (again, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&again), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn an_import_that_dies_after_any_line_goes_on_without_doubles() {
    for dies_after in 0..6 {
        let world = world();
        let sender = Sender::to(&world).await;
        let mut records: Vec<Record> = (0..8)
            .map(|number| record(&format!("a-{}", number % 3), &format!("t-{number}")))
            .collect();
        records[7].default = true;
        let lines = sender.file(&records, 2);
        let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
        for line in &lines {
            check.line(line.as_bytes()).await.unwrap();
        }
        let mut import_one = check.compare(false, |_| {}).await.unwrap();
        for line in lines.iter().take(dies_after) {
            import_one.line(line.as_bytes()).await.unwrap();
        }
        drop(import_one);
        let before = u64::try_from(held(&world).await.len()).unwrap();
        let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
        assert_eq!(counts(&report), (8 - before, before, 0), "{dies_after}");
        let held = held(&world).await;
        assert_eq!(held.len(), 8);
        let events = world.events().await;
        assert_eq!(events.len(), 8, "one event each");
        // The file's word on the default holds, in whatever order and over however many runs.
        let default = held
            .iter()
            .find(|(account, _, default)| account == "a-1" && *default);
        assert_eq!(default.unwrap().1, "t-7");
        for account in ["a-0", "a-2"] {
            let defaults = held.iter().filter(|held| held.0 == account && held.2);
            assert_eq!(defaults.count(), 1, "{account}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_stores_nothing() {
    let world = world();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-1", "t-1"),
        record("a-1", "t-1"),
        record("a-2", "old-4242"),
    ];
    let lines = sender.file(&records, 1);
    let dry = import_as(&world.gateway, &lines, &sender.keys(), true).await;
    let (dry, dry_refusals) = dry.unwrap();
    assert!(dry.dry_run && held(&world).await.is_empty());
    assert!(world.gateway.account("a-1").await.is_err());
    assert_eq!(world.events().await, Vec::new());
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), counts(&dry));
    assert_eq!((counts(&report), refusals), ((1, 1, 1), dry_refusals));
}

#[tokio::test(start_paused = true)]
async fn each_record_that_does_not_belong_is_refused_by_its_rule() {
    let world = world();
    let sender = Sender::to(&world).await;
    let with = |change: fn(&mut Record)| {
        let mut record = record("a-1", "t-1");
        change(&mut record);
        record
    };
    let text = |text: &str| text.to_owned();
    let cases: Vec<(Record, &str, Rule)> = vec![
        (record(CARD, "t-2"), "account", Rule::CardNumber),
        (
            record("a-4242.4242.4242.4242", "t-2"),
            "account",
            Rule::CardNumber,
        ),
        (record("a 1", "t-2"), "account", Rule::Malformed),
        (record("", "t-2"), "account", Rule::Malformed),
        (record(&"a".repeat(65), "t-2"), "account", Rule::Malformed),
        (record("a-1", CARD), "token", Rule::CardNumber),
        (
            record("a-1", "4242-4242-4242-4242"),
            "token",
            Rule::CardNumber,
        ),
        (
            record("a-1", "4242 4242 4242 4242"),
            "token",
            Rule::CardNumber,
        ),
        (record("a-1", ""), "token", Rule::Shape),
        (record("a-1", "t/2"), "token", Rule::Shape),
        (record("a-1", &"t".repeat(256)), "token", Rule::Shape),
        (record("a-1", "tök"), "token", Rule::Shape),
        (
            record("a-1", "old-424242SKMPRI4242"),
            "token",
            Rule::RevealsDigits,
        ),
        (
            with(|record| record.provider = "paypal".to_owned()),
            "provider",
            Rule::NotSetUp,
        ),
        (
            with(|record| record.provider = CARD.to_owned()),
            "provider",
            Rule::CardNumber,
        ),
        (
            with(|record| record.merchant = "another shop".to_owned()),
            "merchant",
            Rule::OtherMerchant,
        ),
        (
            with(|record| record.merchant = CARD.to_owned()),
            "merchant",
            Rule::CardNumber,
        ),
        (
            with(|record| record.kind = "vault_v3".to_owned()),
            "kind",
            Rule::OtherKind,
        ),
        (
            with(|record| record.kind = CARD.to_owned()),
            "kind",
            Rule::CardNumber,
        ),
        (
            with(|record| record.payment_method = Some(CARD.to_owned())),
            "payment_method",
            Rule::CardNumber,
        ),
        (
            with(|record| record.payment_method = Some("pm_x".to_owned())),
            "payment_method",
            Rule::Malformed,
        ),
        (
            with(|record| record.payment_method = Some("pay_abcdefghijklmnopabcd".to_owned())),
            "payment_method",
            Rule::Malformed,
        ),
    ];
    let mut records: Vec<Record> = cases.iter().map(|(record, ..)| record.clone()).collect();
    records.push(record("a-9", "t-9"));
    let lines = sender.file(&records, 5);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(report.imported, 1, "what belongs is taken");
    for (at, (refusal, (_, field, rule))) in refusals.iter().zip(&cases).enumerate() {
        let record = u64::try_from(at).unwrap() + 1;
        let line = u64::try_from(at / 5).unwrap() + 2;
        assert_eq!(
            *refusal,
            Refusal {
                line,
                record,
                field,
                rule: *rule
            },
            "{at}"
        );
    }
    assert_eq!(refusals.len(), cases.len());
    // What is told quotes nothing.
    let told = format!("{report:?} {refusals:?} {}", json!(refusals));
    for (record, ..) in &cases {
        for value in [&record.account, &text(&record.token)] {
            assert!(
                value.len() < 4 || value == "a-1" || !told.contains(value.as_str()),
                "{value}"
            );
        }
    }
    assert_eq!(held(&world).await, [(text("a-9"), text("t-9"), true)]);
}

#[tokio::test(start_paused = true)]
async fn no_token_crosses_accounts() {
    let world = world();
    link(&world, "a-1").await;
    let own = held(&world).await[0].1.clone();
    let sender = Sender::to(&world).await;
    let records = [
        record("a-2", &own),
        record("a-1", &own),
        record("a-3", "t-3"),
        record("a-4", "t-3"),
        record("a-5", "t-5"),
    ];
    // Even over many lines: neither of the two is taken.
    let lines = sender.file(&records, 1);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 4));
    let rules: Vec<(u64, Rule)> = refusals.iter().map(|it| (it.record, it.rule)).collect();
    assert_eq!(
        rules,
        [
            (1, Rule::TwoAccounts),
            (2, Rule::TwoAccounts),
            (3, Rule::TwoAccounts),
            (4, Rule::TwoAccounts)
        ]
    );
    let lines = sender.file(&[record("a-2", &own), record("a-6", "t-5")], 1);
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert!(
        refusals
            .iter()
            .all(|it| it.rule == Rule::OtherAccount && it.field == "token")
    );
    let lines = sender.file(&[record("a-1", &own)], 1);
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (0, 1, 0), "its own account has it");
    assert_eq!(held(&world).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_revoked_here_since_does_not_come_back() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    import(&world.gateway, &lines, &sender.keys()).await;
    let method = methods(&world, "a-1").await[0].id.clone();
    world.gateway.revoke(&method, "a-1").await.unwrap();
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("token", Rule::Revoked)
    );
    assert!(held(&world).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_being_revoked_is_neither_here_nor_taken_again() {
    let world = world();
    let linked = link(&world, "a-1").await;
    let own = held(&world).await[0].1.clone();
    let mut row = world.store.method(&linked).await.unwrap().unwrap();
    row.state = MethodState::Revoking;
    let change = vec![Change::UpdateMethod(row)];
    world.store.apply(change).await.unwrap();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", &own)], 1);
    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(refusals[0].rule, Rule::Revoked);
}

#[tokio::test(start_paused = true)]
async fn a_restricted_account_neither_goes_out_nor_takes_in() {
    let world = world();
    link(&world, "a-1").await;
    link(&world, "a-2").await;
    world.gateway.set_restricted("a-1", true).await.unwrap();
    let to = pair(Usage::Seal);
    let (_, report) = export_all(&world.gateway, to.public()).await;
    assert_eq!((report.records, report.left_out.restricted), (1, 1));

    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1"), record("a-3", "t-3")], 2);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 1));
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("account", Rule::Restricted)
    );
    world.gateway.set_restricted("a-1", false).await.unwrap();
    let (report, _) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_erased_account_comes_back_only_by_a_file_that_is_younger() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    import(&world.gateway, &lines, &sender.keys()).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let erased = world.gateway.erase(&world.key(), "a-1").await.unwrap();
    assert!(!erased.open, "{erased:?}");
    let (_, report) = export_all(&world.gateway, pair(Usage::Seal).public()).await;
    assert_eq!(report.records, 0, "what is erased does not go out");

    let (_, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(
        (refusals[0].field, refusals[0].rule),
        ("account", Rule::Erased)
    );
    assert!(
        world
            .gateway
            .account("a-1")
            .await
            .unwrap()
            .created_at
            .is_none()
    );
    tokio::time::advance(Duration::from_secs(5)).await;
    let mut later = Sender::to(&world).await;
    later.export = "old-billing-2".to_owned();
    let lines = later.file(&[record("a-1", "t-2")], 1);
    let (report, _) = import(&world.gateway, &lines, &later.keys()).await;
    assert_eq!(report.imported, 1, "the person is a customer there again");
}

#[tokio::test(start_paused = true)]
async fn dead_tokens_do_not_go_out() {
    let world = world();
    let (suspended, revoked) = (link(&world, "a-1").await, link(&world, "a-1").await);
    link(&world, "a-1").await;
    let mut row = world.store.method(&suspended).await.unwrap().unwrap();
    row.state = MethodState::Suspended;
    let change = vec![Change::UpdateMethod(row)];
    world.store.apply(change).await.unwrap();
    world.gateway.revoke(&revoked, "a-1").await.unwrap();
    let (_, report) = export_all(&world.gateway, pair(Usage::Seal).public()).await;
    assert_eq!((report.records, report.left_out.suspended), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_export_in_parts_misses_nothing() {
    let (from, to) = (world(), world());
    for number in 0..5 {
        link(&from, &format!("a-{number}")).await;
    }
    let senders = published(&from.gateway).await;
    let recipient = address(&to.gateway).await;
    let mut part = ExportPart {
        after: None,
        limit: 2,
    };
    let mut files = 0;
    loop {
        let (lines, report) = export(&from.gateway, &recipient, &part).await;
        import(&to.gateway, &lines, &senders).await;
        files += 1;
        part.after = report.more;
        if part.after.is_none() {
            break;
        }
    }
    assert_eq!(files, 3);
    assert_eq!(held(&to).await, held(&from).await);
    for wrong in [
        ExportPart {
            after: None,
            limit: 0,
        },
        ExportPart {
            after: None,
            limit: 1_000_001,
        },
        ExportPart {
            after: Some("pay_abcdefghijklmnopabcd".to_owned()),
            limit: 1,
        },
        ExportPart {
            after: Some(String::new()),
            limit: 1,
        },
    ] {
        let refused = from.gateway.export_tokens(&recipient, &wrong).await;
        assert_eq!(refused.unwrap_err().code(), Code::InvalidField, "{wrong:?}");
    }
    let only_signs = pair(Usage::Sign);
    let refused = from
        .gateway
        .export_tokens(only_signs.public(), &ExportPart::default())
        .await;
    assert_eq!(refused.unwrap_err().field_path(), Some("recipient"));
}

/// What every hostile file gets, and that it leaves nothing.
async fn refused(world: &World, name: &str, lines: &[Vec<u8>], senders: &[PublicKey]) -> String {
    let before = world.events().await;
    let mut check = world.gateway.import_tokens(senders).await.unwrap();
    let mut error = None;
    for line in lines {
        if let Err(refused) = check.line(line).await {
            error = Some(refused);
            break;
        }
    }
    let error = match error {
        Some(error) => Some(error),
        None => check.compare(false, |_| {}).await.err(),
    };
    let error = error.ok_or(name).unwrap();
    assert_eq!(error.code(), Code::ExchangeRefused, "{name}: {error}");
    assert_eq!(world.events().await, before, "{name}");
    assert!(held(world).await.is_empty(), "{name}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn no_hostile_file_stores_anything() {
    let world = world();
    let sender = Sender::to(&world).await;
    let mut other = Sender::to(&world).await;
    other.key = sender.key.clone();
    other.export = "another-file".to_owned();
    let records: Vec<Record> = (0..4)
        .map(|number| record(&format!("a-{number}"), &format!("t-{number}")))
        .collect();
    // Header, four lines of one record, end.
    let good = sender.file(&records, 1);
    let fewer = sender.file(&records[..3], 1);
    let spliced = other.file(&records, 1);
    let replaced = |at: usize, line: &str| {
        let mut lines = good.clone();
        lines[at] = line.to_owned();
        lines
    };
    let moved = |from: usize, to: usize| {
        let mut lines = good.clone();
        lines.swap(from, to);
        lines
    };
    let without = |at: usize| {
        let mut lines = good.clone();
        lines.remove(at);
        lines
    };
    let doubled = |at: usize| {
        let mut lines = good.clone();
        lines.insert(at, good[at].clone());
        lines
    };
    let forged = |at: usize, part: &str, says: Value| {
        replaced(at, &sender.forge(&sender.claims(at, part, &says)))
    };
    let one = json!({"account": "a", "provider": "fake", "merchant": "shop", "kind": "plain", "token": "t"});
    let with = |name: &str, value: Value| {
        let mut record = one.clone();
        record[name] = value;
        json!([record])
    };
    let missing = |name: &str| {
        let mut record = one.clone();
        record.as_object_mut().unwrap().remove(name);
        json!([record])
    };
    let to = &sender.to;
    // Signed for somebody else, who opens it and seals it to us.
    let third = pair(Usage::Seal);
    let mut for_third = Sender::to(&world).await;
    for_third.key = sender.key.clone();
    for_third.to = third.public().clone();
    let resealed: Vec<String> = for_third
        .file(&records, 1)
        .iter()
        .map(|line| {
            let signed = jwe::Unopened::parse(line.trim_end())
                .unwrap()
                .open(&third)
                .unwrap();
            jwe::seal(&signed, TYP, Some("JWT"), to, &SystemEntropy).unwrap() + "\n"
        })
        .collect();
    let stranger = {
        let mut stranger = Sender::to(&world).await;
        stranger.key = pair(Usage::Sign);
        stranger
    };
    // The sender's name, and another's key.
    let impostor = {
        let text = pair(Usage::Sign).to_private_jwk();
        let mut jwk: Value = serde_json::from_str(&text).unwrap();
        jwk["kid"] = sender.key.public().kid().into();
        let mut impostor = Sender::to(&world).await;
        impostor.key = SecretKey::read(&jwk.to_string()).unwrap();
        impostor
    };
    let message = seal(
        sender.claims(0, "header", &json!({})).as_bytes(),
        &sender.key,
        to,
        &SystemEntropy,
    )
    .unwrap()
        + "\n";
    let inner_only = jws::sign(b"{}", TYP, &sender.key).unwrap() + "\n";
    let outer_only = {
        let signed = jws::sign(
            sender.claims(0, "header", &json!({})).as_bytes(),
            "JWT",
            &sender.key,
        )
        .unwrap();
        jwe::seal(signed.as_bytes(), TYP, Some("JWT"), to, &SystemEntropy).unwrap() + "\n"
    };
    let no_cty = {
        let signed = jws::sign(b"{}", TYP, &sender.key).unwrap();
        jwe::seal(signed.as_bytes(), TYP, None, to, &SystemEntropy).unwrap() + "\n"
    };
    let header = |version: i64| json!({"version": version, "from": "x", "iat": sender.at});
    let end = |records: i64, sha256: &str| json!({"records": records, "sha256": sha256});
    let sum = {
        let text = good[..5].concat();
        let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
    };
    let twice = |claims: &str| claims.replacen("\"seq\"", "\"seq\":1,\"seq\"", 1);
    let many: Vec<Value> = (0..=MAX_RECORDS_PER_LINE)
        .map(|number| with("token", format!("t-{number}").into())[0].clone())
        .collect();

    let cases: Vec<(&str, Vec<String>, Fault)> = vec![
        ("empty", Vec::new(), Fault::NoEnd),
        ("header_only", good[..1].to_vec(), Fault::NoEnd),
        ("no_end", good[..5].to_vec(), Fault::NoEnd),
        ("no_header", without(0), Fault::OutOfOrder),
        ("line_missing", without(2), Fault::OutOfOrder),
        ("last_record_missing", without(4), Fault::OutOfOrder),
        ("line_doubled", doubled(2), Fault::OutOfOrder),
        ("header_doubled", doubled(0), Fault::OutOfOrder),
        ("lines_moved", moved(1, 2), Fault::OutOfOrder),
        ("end_doubled", [good.clone(), good[5..].to_vec()].concat(), Fault::BehindTheEnd),
        ("two_files", [good.clone(), spliced.clone()].concat(), Fault::BehindTheEnd),
        ("something_behind", [good.clone(), vec!["\n".to_owned()]].concat(), Fault::BehindTheEnd),
        ("spliced_records", replaced(2, &spliced[2]), Fault::OtherFile),
        ("spliced_end", replaced(5, &spliced[5]), Fault::OtherFile),
        ("same_name_other_records", [good[..4].to_vec(), fewer[4..].to_vec()].concat(), Fault::Digest),
        ("record_of_a_namesake", replaced(2, &sender.file(&records, 1)[2]), Fault::Digest),
        ("blank_line", replaced(2, "\n"), Fault::NotOfTheFormat),
        ("carriage_return", replaced(2, &good[2].replace('\n', "\r\n")), Fault::NotOfTheFormat),
        ("leading_space", replaced(2, &format!(" {}", good[2])), Fault::NotOfTheFormat),
        ("plain_json", replaced(1, "{\"account\":\"a\"}\n"), Fault::NotOfTheFormat),
        ("no_line_feed", replaced(5, good[5].trim_end()), Fault::CutOff),
        ("too_long", replaced(1, &"x".repeat(MAX_LINE_BYTES + 1)), Fault::TooLong),
        ("exchange_message", replaced(0, &message), Fault::NotOfTheFormat),
        ("signed_only", replaced(0, &inner_only), Fault::NotOfTheFormat),
        ("inner_of_another_type", replaced(0, &outer_only), Fault::NotOfTheFormat),
        ("no_content_type", replaced(0, &no_cty), Fault::NotOfTheFormat),
        ("other_recipient", for_third.file(&records, 1), Fault::OtherRecipient),
        ("signed_for_another", resealed, Fault::Audience),
        ("other_sender", stranger.file(&records, 1), Fault::OtherSender),
        ("sender_in_name_only", impostor.file(&records, 1), Fault::Signature),
        ("other_version", forged(0, "header", header(2)), Fault::Version),
        ("header_unknown_member", forged(0, "header", json!({"version": 1, "from": "x", "iat": 1, "x": 1})), Fault::Claims),
        ("header_no_time", forged(0, "header", json!({"version": 1, "from": "x"})), Fault::Claims),
        ("header_text_time", forged(0, "header", json!({"version": 1, "from": "x", "iat": "1"})), Fault::Claims),
        ("no_part", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": 1}).to_string())), Fault::Claims),
        ("two_parts", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": 1, "records": [one], "end": end(0, "")}).to_string())), Fault::Claims),
        ("unknown_claim", forged(1, "more", json!(1)), Fault::Claims),
        ("no_audience", replaced(1, &sender.forge(&json!({"export": sender.export, "seq": 1, "records": [one]}).to_string())), Fault::Claims),
        ("no_name", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "seq": 1, "records": [one]}).to_string())), Fault::Claims),
        ("bad_name", replaced(0, &sender.forge(&json!({"aud": to.thumbprint(), "export": "../x", "seq": 0, "header": header(1)}).to_string())), Fault::Claims),
        ("seq_ahead", replaced(1, &sender.forge(&sender.claims(2, "records", &json!([one])))), Fault::OutOfOrder),
        ("seq_negative", replaced(1, &sender.forge(&json!({"aud": to.thumbprint(), "export": sender.export, "seq": -1, "records": [one]}).to_string())), Fault::OutOfOrder),
        ("doubled_claim", replaced(1, &sender.forge(&twice(&sender.claims(1, "records", &json!([one]))))), Fault::Claims),
        ("doubled_member", replaced(1, &sender.forge(&sender.claims(1, "records", &json!([one])).replacen("\"token\"", "\"token\":\"x\",\"token\"", 1))), Fault::Claims),
        ("records_no_list", forged(1, "records", one.clone()), Fault::Claims),
        ("record_no_object", forged(1, "records", json!(["t-1"])), Fault::Claims),
        ("no_records", forged(1, "records", json!([])), Fault::TooManyRecords),
        ("too_many_records", forged(1, "records", json!(many)), Fault::TooManyRecords),
        ("expiry", forged(1, "records", with("expiry", json!("12/29"))), Fault::Claims),
        ("unknown_member", forged(1, "records", with("pan", json!(CARD))), Fault::Claims),
        ("member_named_by_a_number", forged(1, "records", with(CARD, json!(1))), Fault::Claims),
        ("token_a_number", forged(1, "records", with("token", json!(1))), Fault::Claims),
        ("token_null", forged(1, "records", with("token", Value::Null)), Fault::Claims),
        ("default_a_word", forged(1, "records", with("default", json!("yes"))), Fault::Claims),
        ("no_token", forged(1, "records", missing("token")), Fault::Claims),
        ("no_account", forged(1, "records", missing("account")), Fault::Claims),
        ("no_merchant", forged(1, "records", missing("merchant")), Fault::Claims),
        ("no_kind", forged(1, "records", missing("kind")), Fault::Claims),
        ("fraction", replaced(1, &sender.forge(&sender.claims(1, "records", &with("default", json!(1.5))))), Fault::Claims),
        ("end_counts_fewer", forged(5, "end", end(3, &sum)), Fault::Count),
        ("end_counts_below_zero", forged(5, "end", end(-4, &sum)), Fault::Count),
        ("end_of_other_lines", forged(5, "end", end(4, "AAAA")), Fault::Digest),
        ("end_unknown_member", forged(5, "end", json!({"records": 4, "sha256": sum, "x": 1})), Fault::Claims),
        ("end_first", forged(0, "end", end(0, &sum)), Fault::OutOfOrder),
        ("records_first", forged(0, "records", json!([one])), Fault::OutOfOrder),
        ("header_again", forged(2, "header", header(1)), Fault::OutOfOrder),
    ];
    let number = cases.len();
    for (name, lines, fault) in cases {
        let lines: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
        let told = refused(&world, name, &lines, &sender.keys()).await;
        assert!(told.contains(&fault.to_string()), "{name}: {told}");
        assert!(!told.contains(CARD), "{name}");
    }
    println!("{number} hostile files");
    let not_text = vec![b"\xff\xfe\n".to_vec()];
    let told = refused(&world, "not_utf8", &not_text, &sender.keys()).await;
    assert!(told.contains(&Fault::NotOfTheFormat.to_string()), "{told}");
    // And the right one is taken.
    let (report, _) = import(&world.gateway, &good, &sender.keys()).await;
    assert_eq!(report.imported, 4);
}

#[tokio::test(start_paused = true)]
async fn no_flipped_bit_and_no_cut_is_taken() {
    let world = world();
    let sender = Sender::to(&world).await;
    let whole = sender
        .file(&[record("a-1", "t-1")], 1)
        .concat()
        .into_bytes();
    let lines = |bytes: &[u8]| -> Vec<Vec<u8>> {
        bytes
            .split_inclusive(|byte| *byte == b'\n')
            .map(<[u8]>::to_vec)
            .collect()
    };
    for at in (0..whole.len()).step_by(7) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(
            &world,
            &format!("bit of byte {at}"),
            &lines(&flipped),
            &sender.keys(),
        )
        .await;
        refused(
            &world,
            &format!("cut at {at}"),
            &lines(&whole[..at]),
            &sender.keys(),
        )
        .await;
    }
    let cut = &whole[..whole.len() - 1];
    refused(&world, "the last byte", &lines(cut), &sender.keys()).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_between_the_readings_ends_the_import() {
    let world = world();
    let sender = Sender::to(&world).await;
    let first = sender.file(&[record("a-1", "t-1")], 1);
    let second = sender.file(&[record("a-1", "t-2")], 1);
    let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
    for line in &first {
        check.line(line.as_bytes()).await.unwrap();
    }
    let mut import = check.compare(false, |_| {}).await.unwrap();
    import.line(second[0].as_bytes()).await.unwrap();
    let error = import.line(second[1].as_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("changed"), "{error}");
    assert!(import.finish().await.is_err());
    assert!(held(&world).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_line_is_no_message_of_the_exchange() {
    let world = world();
    let sender = Sender::to(&world).await;
    for line in sender.file(&[record("a-1", "t-1")], 1) {
        let refused = world
            .gateway
            .open_exchange(line.trim_end().as_bytes())
            .await;
        assert_eq!(refused.unwrap_err().code(), Code::ExchangeRefused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_can_be_opened_long_after_its_key_was_replaced_and_not_for_ever() {
    let world = world();
    let sender = Sender::to(&world).await;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    for generation in 1..=FILE_GENERATIONS {
        let read = import_as(&world.gateway, &lines, &sender.keys(), true).await;
        assert!(read.is_ok(), "{generation}");
        world.clock.forward(ROTATE_AFTER + Duration::from_secs(1));
        published(&world.gateway).await;
    }
    let read = import_as(&world.gateway, &lines, &sender.keys(), true).await;
    assert!(
        read.unwrap_err()
            .to_string()
            .contains(&Fault::OtherRecipient.to_string())
    );
}

#[tokio::test(start_paused = true)]
async fn a_header_that_lies_about_time_or_name_is_refused() {
    let world = world();
    let mut sender = Sender::to(&world).await;
    sender.at += 3600;
    let lines = sender.file(&[record("a-1", "t-1")], 1);
    let read = import_as(&world.gateway, &lines, &sender.keys(), false).await;
    assert_eq!(read.unwrap_err().field_path(), Some("iat"));
    for at in [i64::MAX, i64::MAX / 1000] {
        sender.at = at;
        let lines = sender.file(&[record("a-1", "t-1")], 1);
        let read = import_as(&world.gateway, &lines, &sender.keys(), false).await;
        assert_eq!(read.unwrap_err().field_path(), Some("iat"), "{at}");
    }
    let sender = Sender::to(&world).await;
    for (from, code) in [
        (CARD, Code::CardNumber),
        ("", Code::InvalidField),
        ("a\u{1b}[2J", Code::InvalidField),
    ] {
        let says = json!({"version": 1, "from": from, "iat": sender.at});
        let line = sender.forge(&sender.claims(0, "header", &says));
        let mut check = world.gateway.import_tokens(&sender.keys()).await.unwrap();
        let error = check.line(line.as_bytes()).await.unwrap_err();
        assert_eq!((error.code(), error.field_path()), (code, Some("from")));
    }
    let only_seals = pair(Usage::Seal);
    let error = world
        .gateway
        .import_tokens(&[only_seals.public().clone()])
        .await;
    assert_eq!(error.unwrap_err().field_path(), Some("sender"));
}

#[tokio::test(start_paused = true)]
async fn both_leave_lines_in_the_audit_log() {
    let (from, to) = (world(), world());
    link(&from, "a-1").await;
    let recipient = address(&to.gateway).await;
    let (lines, exported) = export_all(&from.gateway, &recipient).await;
    // One that is given up has a line too.
    drop(
        from.gateway
            .export_tokens(&recipient, &ExportPart::default())
            .await
            .unwrap(),
    );
    let seen = audited(&from.gateway).await;
    let outcomes: Vec<&str> = seen.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(outcomes, ["accepted", "done", "accepted"]);
    assert_eq!(seen[0].2["recipient"], recipient.thumbprint());
    assert_eq!(seen[1].2["records"], "1");
    assert_eq!(seen[1].2["sha256"], exported.sha256);

    let senders = published(&from.gateway).await;
    import(&to.gateway, &lines, &senders).await;
    import(&to.gateway, &lines, &senders).await;
    let cut = &lines[..1];
    import_as(&to.gateway, cut, &senders, false)
        .await
        .unwrap_err();
    let seen = audited(&to.gateway).await;
    let outcomes: Vec<&str> = seen.iter().map(|line| line.1.as_str()).collect();
    assert_eq!(
        outcomes,
        ["accepted", "done", "accepted", "done", "refused"]
    );
    assert_eq!(seen[1].2["imported"], "1");
    assert_eq!(seen[1].2["sha256"], exported.sha256);
    assert_eq!(seen[3].2["already_here"], "1");
    assert_eq!(seen[1].2["sender"], seen[3].2["sender"]);
    let report = to.gateway.verify_audit(None, |_| {}).await.unwrap();
    assert!(report.is_whole(), "{report:?}");
    let all = format!("{seen:?}");
    assert!(!all.contains("token-") && !all.contains("a-1"), "{all}");
}

/// Randomness that does something once, when it is drawn: the moment between what was decided and
/// what is written.
struct Seam {
    armed: AtomicBool,
    work: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Seam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seam")
    }
}

impl Entropy for Seam {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        if self.armed.load(Ordering::SeqCst)
            && let Some(work) = self.work.lock().unwrap().take()
        {
            work();
        }
        SystemEntropy.fill(bytes)
    }
}

/// Runs what never waits: a store on the caller's thread.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let polled = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(done) = polled else {
        unreachable!("it waits");
    };
    done
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_decision_and_write_is_decided_again() {
    for what in ["restricted", "imported by another", "sealed too late"] {
        let world = world();
        link(&world, "a-1").await;
        let account = world.store.tokens("", 1).await.unwrap()[0]
            .account
            .account
            .clone();
        let seam = Arc::new(Seam {
            armed: AtomicBool::new(false),
            work: Mutex::new(None),
        });
        let gateway = world.builder().entropy(seam.clone()).build().unwrap();
        let sender = Sender::to(&world).await;
        let lines = sender.file(&[record("a-1", "t-1"), record("a-2", "t-2")], 2);
        let mut check = gateway.import_tokens(&sender.keys()).await.unwrap();
        for line in &lines {
            check.line(line.as_bytes()).await.unwrap();
        }
        let mut running = check.compare(false, |_| {}).await.unwrap();
        running.line(lines[0].as_bytes()).await.unwrap();
        let other = world.another_worker();
        let (theirs, senders) = (lines.clone(), sender.keys());
        let work: Box<dyn FnOnce() + Send> = match what {
            "restricted" => {
                let store = Arc::clone(&world.store);
                let change = Change::SetRestricted {
                    account,
                    restricted: true,
                };
                Box::new(move || at_once(store.apply(vec![change])).unwrap())
            }
            "sealed too late" => Box::new(move || {
                at_once(async {
                    let mut rotation = other.rotate_keys().await.unwrap();
                    while rotation.step(10).await.unwrap() {}
                    rotation.finish().await.unwrap();
                });
            }),
            _ => Box::new(move || {
                let (report, _) = at_once(import(&other, &theirs, &senders));
                assert_eq!(report.imported, 2);
            }),
        };
        *seam.work.lock().unwrap() = Some(work);
        seam.armed.store(true, Ordering::SeqCst);
        let refusals = running.line(lines[1].as_bytes()).await.unwrap();
        running.line(lines[2].as_bytes()).await.unwrap();
        let report = running.finish().await.unwrap();
        if what == "restricted" {
            assert_eq!(counts(&report), (1, 0, 1), "{what}");
            assert_eq!(
                (refusals[0].record, refusals[0].rule),
                (1, Rule::Restricted)
            );
        } else {
            let expected = if what == "sealed too late" {
                (2, 0, 0)
            } else {
                (0, 2, 0)
            };
            assert_eq!(counts(&report), expected, "{what}");
        }
        world.gateway.set_restricted("a-1", false).await.unwrap();
        let expected = if what == "restricted" { 2 } else { 3 };
        assert_eq!(held(&world).await.len(), expected, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_token_or_an_account_lies_in_the_store_or_in_what_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cardless.db");
    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::open(&url, Threads::Caller).unwrap();
    let world = World::on(Arc::new(store));
    let sender = Sender::to(&world).await;
    let records = [
        record("canary-account", "canary-token"),
        record("canary-bad", "old-canary"),
    ];
    let lines = sender.file(&records, 2);
    let (report, refusals) = import(&world.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (1, 0, 1));
    let shown = format!(
        "{report:?} {refusals:?} {records:?} {:?} {:?}",
        world.gateway,
        world.gateway.import_tokens(&sender.keys()).await
    );
    assert!(!shown.contains("canary"), "{shown}");
    assert!(!lines.concat().contains("canary"));
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"));
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_records_go_by_lines_of_a_bounded_length() {
    let (from, to) = (world(), world());
    let sender = Sender::to(&from).await;
    let records: Vec<Record> = (0..10_000)
        .map(|number| record(&format!("customer-{number}"), &format!("t-{number}")))
        .collect();
    let lines = sender.file(&records, MAX_RECORDS_PER_LINE);
    let (report, _) = import(&from.gateway, &lines, &sender.keys()).await;
    assert_eq!(counts(&report), (10_000, 0, 0));

    // An export holds one line at a time, and a line one page of the store.
    let recipient = address(&to.gateway).await;
    let mut export = from
        .gateway
        .export_tokens(&recipient, &ExportPart::default())
        .await
        .unwrap();
    let mut number = 0;
    while let Some(line) = export.next().await.unwrap() {
        assert!(line.len() <= MAX_LINE_BYTES);
        number += 1;
    }
    assert_eq!(number, 102);
    assert_eq!(export.finish().await.unwrap().records, 10_000);
}

/// The longest record that anybody can have fits a full line.
#[tokio::test(start_paused = true)]
async fn a_full_line_of_the_longest_records_fits() {
    let world = world();
    let sender = Sender::to(&world).await;
    let mut longest = record(&"a".repeat(64), &"t".repeat(255));
    longest.provider = "p".repeat(32);
    longest.merchant = "m".repeat(64);
    longest.kind = "k".repeat(32);
    longest.default = true;
    longest.payment_method = Some("pm_abcdefghijklmnopabcd".to_owned());
    let records = vec![longest; MAX_RECORDS_PER_LINE];
    let lines = sender.file(&records, MAX_RECORDS_PER_LINE);
    assert!(lines[1].len() < MAX_LINE_BYTES, "{}", lines[1].len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever tokens somebody has, and however many a line: they come in, go out, and come in
    /// elsewhere, each once.
    #[test]
    fn tokens_survive_two_moves(
        tokens in prop::collection::btree_map("[a-z]{2}-[A-Za-z0-9-]{1,60}", 0..6_u8, 0..40),
        each in 1..20_usize,
        limit in 1..50_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (first, second) = (world(), world());
            let sender = Sender::to(&first).await;
            let records: Vec<Record> = tokens
                .iter()
                .map(|(token, account)| record(&format!("acct-{account}"), token))
                .collect();
            let lines = sender.file(&records, each);
            let (report, refusals) = import(&first.gateway, &lines, &sender.keys()).await;
            // One in ten random numbers passes for a card number; those are refused.
            let fits = |record: &&Record| cardless::pan::find(&record.token).is_none()
                && !record.token.starts_with("old-");
            let expected: Vec<&Record> = records.iter().filter(fits).collect();
            assert_eq!(usize::try_from(report.imported).unwrap(), expected.len(), "{refusals:?}");
            let senders = published(&first.gateway).await;
            let recipient = address(&second.gateway).await;
            let mut part = ExportPart { after: None, limit };
            loop {
                let (lines, report) = export(&first.gateway, &recipient, &part).await;
                import(&second.gateway, &lines, &senders).await;
                part.after = report.more;
                if part.after.is_none() {
                    break;
                }
            }
            let (left, right) = (held(&first).await, held(&second).await);
            let pairs = |held: &[(String, String, bool)]| -> Vec<(String, String)> {
                held.iter().map(|held| (held.0.clone(), held.1.clone())).collect()
            };
            assert_eq!(pairs(&left), pairs(&right));
            assert_eq!(left.len(), expected.len());
            for account in 0..6 {
                let account = format!("acct-{account}");
                let of = |held: &&(String, String, bool)| held.0 == account;
                let any = right.iter().filter(of).count() > 0;
                let defaults = right.iter().filter(of).filter(|held| held.2).count();
                assert_eq!(defaults, usize::from(any), "{account}");
            }
        });
    }
}
