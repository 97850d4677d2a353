//! `scope`: the report of the running system, and that `--prove` finds what was planted in the
//! store.

use std::time::Duration;

use cardless::exchange::{SecretKey, Usage};
use cardless::gateway::{AuditQuery, Gateway, Role};
use cardless_contract::SystemEntropy;
use rusqlite::Connection;
use serde_json::Value;

use crate::people::{Desk, run};
use crate::support::CARD;
use crate::world::ALL;

/// What is planted, the statement that must not hold any more, and the place that it must name.
const FAULTS: [(&str, &str, &str); 31] = [
    (
        "UPDATE clients SET role = 'billing' WHERE name = 'reader'",
        "access-2",
        "client reader was added as auditor",
    ),
    (
        "UPDATE clients SET revoked_at = NULL WHERE name = 'gone'",
        "access-2",
        "client gone was revoked",
    ),
    (
        "UPDATE clients SET name = 'legacy', role = 'billing', created_at = 0, revoked_at = NULL
             WHERE name = 'gone'",
        "access-2",
        "client legacy is in the store, and no line",
    ),
    (
        "DELETE FROM clients WHERE name = 'gone'",
        "access-2",
        "client gone was added",
    ),
    (
        "UPDATE clients SET key_hash = x'00' WHERE name = 'gone';
         UPDATE clients SET key_hash =
             (SELECT key_hash FROM old_api_keys WHERE client = 'shop') WHERE name = 'reader'",
        "access-2",
        "client reader has another API key",
    ),
    (
        "UPDATE old_api_keys SET ends_at = ends_at + 86400000",
        "access-2",
        "client shop is let in until",
    ),
    (
        "UPDATE client_keys SET revoked_at = NULL",
        "access-2",
        "client box has the public key sign-1, which was revoked",
    ),
    (
        "UPDATE clients SET key_since = 0 WHERE name = 'reader'",
        "access-3",
        "client reader",
    ),
    (
        "DROP TRIGGER audit_lines_stand; UPDATE audit_lines SET actor = 'nobody' WHERE seq = 2",
        "logs-2",
        "line 2 is not what was written",
    ),
    (
        "DROP TRIGGER audit_lines_stay; DELETE FROM audit_lines WHERE seq = 2",
        "logs-2",
        "line 2 is missing",
    ),
    (
        "DROP TRIGGER audit_lines_stay; DELETE FROM audit_lines; DELETE FROM audit_head",
        "logs-2",
        "the audit log is empty",
    ),
    (
        "DROP TRIGGER audit_lines_stand; UPDATE audit_lines SET action = 'odd' WHERE seq = 2",
        "logs-1",
        "line 2 has an action",
    ),
    (
        "UPDATE records SET provider = 'stripe'",
        "tokens-1",
        "stripe",
    ),
    (
        "ALTER TABLE payments ADD COLUMN note TEXT",
        "data-1",
        "payments.note",
    ),
    ("CREATE TABLE extra (a TEXT)", "data-1", "extra.a"),
    (
        "ALTER TABLE last_answers DROP COLUMN code",
        "data-1",
        "last_answers.code",
    ),
    (
        "ALTER TABLE payments ADD COLUMN card_expiry TEXT",
        "data-2",
        "payments.card_expiry",
    ),
    ("CREATE TABLE \"odd \"\" name\" (cvv TEXT)", "data-2", "cvv"),
    (
        "UPDATE payments SET description = 'from 4242 4242 4242 4242'",
        "data-3",
        "payments.description",
    ),
    (
        "UPDATE request_keys SET answer = '%34242424242424242' WHERE answer IS NOT NULL",
        "data-3",
        "request_keys.answer",
    ),
    (
        "CREATE TABLE numbers (n INTEGER) STRICT; INSERT INTO numbers VALUES (4242424242424242)",
        "data-3",
        "numbers.n",
    ),
    (
        "UPDATE request_keys SET created_at = 0",
        "data-6",
        "request_keys",
    ),
    (
        "UPDATE generations SET created_at = 0",
        "crypto-2",
        "days old",
    ),
    (
        "UPDATE payments SET rowid = -rowid, description = 'from 4242 4242 4242 4242'",
        "data-3",
        "payments.description",
    ),
    (
        "CREATE TABLE reals (r REAL) STRICT; INSERT INTO reals VALUES (4242424242424242.0)",
        "data-3",
        "reals.r",
    ),
    (
        "CREATE TABLE shadow (rowid TEXT, n TEXT); INSERT INTO shadow VALUES ('x', '4242424242424242')",
        "data-3",
        "shadow.n",
    ),
    (
        "CREATE TABLE counted (n INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO counted VALUES (1); \
         UPDATE sqlite_sequence SET seq = 4242424242424242 WHERE name = 'counted'",
        "data-3",
        "sqlite_sequence.seq",
    ),
    (
        "CREATE TABLE noted (a TEXT /* 4242424242424242 */)",
        "data-3",
        "sqlite_schema.sql",
    ),
    (
        "UPDATE records SET sealed = CAST(X'020478' || CAST('a token as it is' AS BLOB) AS BLOB)",
        "data-4",
        "records.sealed",
    ),
    (
        "UPDATE records SET generation = 'kek_zzzz'",
        "data-5",
        "kek_zzzz",
    ),
    (
        "UPDATE records SET sealed = CAST('a token as it is' AS BLOB)",
        "data-4",
        "records.sealed",
    ),
];

/// Runs `scope`, with JSON; what it prints never holds a card number.
fn scope(desk: &Desk, arguments: &[&str]) -> (i32, String, String) {
    let (code, out, err) = desk.run(&[&["scope"][..], arguments].concat());
    assert!(!out.contains(CARD) && !err.contains(CARD), "{out}{err}");
    (code, out, err)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_report_is_of_the_live_store_and_every_planted_fault_is_found() {
    let desk = Desk::new().await;
    for name in ["reader", "gone"] {
        let added = desk.gateway.add_client(name, Role::Auditor).await;
        assert!(added.unwrap().starts_with("ck_"));
    }
    for provider in ALL {
        desk.charged(provider).await;
    }
    desk.gateway.revoke_client("gone").await.unwrap();
    clients_with_keys(&desk.gateway).await;
    for arguments in [
        &["rotate", "keys"][..],
        &["rotate", "keys", "--destroy-retired"],
    ] {
        let (code, out, err) = desk.run(arguments);
        assert_eq!(code, 0, "{out}{err}");
    }
    let (code, out, err) = scope(&desk, &["--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    judge(&report);
    let sections = report["sections"].as_array().unwrap();
    let graded = &sections.last().unwrap()["statements"][0]["evidence"];
    let how_many = |kind: &str| {
        let mut rows = graded["rows"].as_array().unwrap().iter();
        let row = rows.find(|row| row[0].as_str().unwrap().starts_with(kind));
        row.unwrap()[2].as_str().unwrap().to_owned()
    };
    assert_eq!(how_many("Aduno alias (alias)"), "1");
    assert_eq!(how_many("handle of a payment method"), "3");
    // Of `reader`, and of `shop` the one in use and the one before.
    assert_eq!(how_many("API key"), "3");
    assert_eq!(how_many("private key of a sealed client"), "2");
    assert_eq!(how_many("key file: key-encryption keys"), "1");
    assert_eq!(how_many("credential at a provider"), "3");
    assert_eq!(against_schema(&report), Vec::<String>::new());
    let mut wrong = report.clone();
    wrong["sections"][0]["statements"][0]["holds"] = false.into();
    assert!(
        !against_schema(&wrong).is_empty(),
        "what does not hold says why"
    );
    let (code, out, err) = scope(&desk, &[]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "## Data stored",
        "`data-3`",
        "| records.sealed | sealed | 3 |",
        "data-q1",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, out, err) = scope(&desk, &["--prove"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.ends_with("statements hold\n"), "{out}");

    let path = desk.folder.path();
    let kept = path.join("kept.db");
    let file = Connection::open(path.join("cardless.db")).unwrap();
    file.execute("VACUUM INTO ?1", [kept.to_str().unwrap()])
        .unwrap();
    for (number, (edit, statement, place)) in FAULTS.iter().enumerate() {
        let name = format!("faulty-{number}.db");
        std::fs::copy(&kept, path.join(&name)).unwrap();
        let faulty = Connection::open(path.join(&name)).unwrap();
        faulty.execute_batch(edit).unwrap();
        drop(faulty);
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cardless"));
        let output = command
            .current_dir(path)
            .args(["scope", "--prove"])
            .env_clear()
            .env("CARDLESS__STORE__URL", format!("sqlite:{name}"))
            .output()
            .unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{edit}: {said}");
        for part in [*statement, place] {
            assert!(said.contains(part), "{edit}: {part}: {said}");
        }
        assert!(!said.contains("4242"), "{said}");
    }
}

/// Where a report is not as its schema says.
fn against_schema(report: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(cardless::scope::SCHEMA).unwrap();
    let judge = jsonschema::validator_for(&schema).unwrap();
    let errors = judge.iter_errors(report);
    errors
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn an_installation_with_nothing_in_it_has_a_row_of_evidence_for_everything() {
    let folder = tempfile::TempDir::new().unwrap();
    assert_eq!(run(&folder, &["init"]).0, 0);
    let (code, printed, err) = run(&folder, &["scope", "--schema"]);
    assert_eq!(
        (code, printed.trim()),
        (0, cardless::scope::SCHEMA.trim()),
        "{err}"
    );
    let (code, out, err) = run(&folder, &["scope", "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(against_schema(&report), Vec::<String>::new());
    judge(&report);
    for id in ["access-2", "access-3", "access-4", "logs-2"] {
        assert!(out.contains(&format!("\"{id}\"")), "{id}");
    }
}

/// A client that has just got another API key, and a sealed one of whose keys one is revoked.
async fn clients_with_keys(gateway: &Gateway) {
    gateway.add_client("shop", Role::Billing).await.unwrap();
    let overlap = Duration::from_secs(3600);
    gateway.renew_client("shop", overlap).await.unwrap();
    let keys = ["sign-1", "sign-2", "open-1"].map(|kid| {
        let usage = if kid == "open-1" {
            Usage::Seal
        } else {
            Usage::Sign
        };
        let key = SecretKey::generate(usage, &SystemEntropy).unwrap();
        let mut key = key.public().to_jwk();
        key["kid"] = kid.into();
        key
    });
    let keys = serde_json::json!({ "keys": keys }).to_string();
    let added = gateway.add_sealed_client("box", Role::Billing, &keys).await;
    assert_eq!(added.unwrap().len(), 3);
    gateway.revoke_client_key("box", "sign-1").await.unwrap();
}

/// What every report of an installation at which nothing is wrong has in common.
fn judge(report: &Value) {
    assert_eq!(
        (&report["version"], &report["holds"]),
        (&1.into(), &true.into())
    );
    for section in report["sections"].as_array().unwrap() {
        for statement in section["statements"].as_array().unwrap() {
            assert_eq!(statement["holds"], true, "{statement}");
            let header = statement["evidence"]["header"].as_array().unwrap();
            for row in statement["evidence"]["rows"].as_array().unwrap() {
                assert_eq!(row.as_array().unwrap().len(), header.len(), "{statement}");
            }
            let id = statement["id"].as_str().unwrap();
            let its = id.strip_prefix(section["id"].as_str().unwrap());
            assert!(its.is_some_and(|its| its.starts_with('-')), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_signed_and_a_later_one_tells_what_has_changed() {
    let desk = Desk::new().await;
    let path = |name: &str| desk.folder.path().join(name);
    let (code, first, err) = scope(&desk, &["--format", "json"]);
    assert_eq!(code, 0, "{err}");
    std::fs::write(path("first.json"), &first).unwrap();
    let (code, out, err) = scope(&desk, &["--check", "first.json"]);
    assert_eq!(code, 0, "{err}");
    let digest = serde_json::from_str::<Value>(&first).unwrap()["signature"]["digest"].clone();
    assert!(out.contains(digest.as_str().unwrap()), "{out}");

    // Nothing but counts and times changes by itself.
    desk.charged("paypal").await;
    let (code, out, err) = scope(&desk, &["--against", "first.json"]);
    assert_eq!((code, out.lines().next()), (0, out.lines().next()), "{err}");
    assert!(out.starts_with("0 changes since "), "{out}");

    // Another setting, another column.
    let file = Connection::open(path("cardless.db")).unwrap();
    file.execute_batch("ALTER TABLE payments ADD COLUMN note TEXT")
        .unwrap();
    let settings = std::fs::read_to_string(path("cardless.toml")).unwrap();
    let settings = settings.replace("sandbox-client", "another-client");
    std::fs::write(path("cardless.toml"), settings).unwrap();
    let (code, out, err) = scope(&desk, &["--against", "first.json"]);
    assert_eq!(code, 0, "{err}");
    for part in [
        "settings_digest: was ",
        "settings-1: new: providers.paypal.client_id | another-client | file",
        "data-1: it held, and does not hold any more",
        "data-1: a fault that is new: payments.note is in the store and not on the list",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }

    // What was changed, or comes from elsewhere, is not taken for ours.
    let changed = first.replacen("\"holds\": true", "\"holds\": false", 1);
    std::fs::write(path("changed.json"), changed).unwrap();
    let beside = desk.beside();
    let (_, other, _) = scope(&beside, &["--format", "json"]);
    std::fs::write(path("other.json"), other).unwrap();
    for name in ["changed.json", "other.json"] {
        for verb in ["--check", "--against"] {
            let (code, _, err) = scope(&desk, &[verb, name]);
            assert_eq!(code, 1, "{verb} {name}: {err}");
            assert!(err.contains("not as this installation made it"), "{err}");
        }
    }
    for (name, text) in [("no.json", "{}"), ("empty.json", "")] {
        std::fs::write(path(name), text).unwrap();
        let (code, _, err) = scope(&desk, &["--against", name]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(name) && err.contains("is no report"), "{err}");
    }
    assert_eq!(scope(&desk, &["--check", "gone.json"]).0, 2);

    // A log that was put back does not have the line that was noted.
    file.execute_batch(
        "DROP TRIGGER audit_lines_stay; DELETE FROM audit_lines; DELETE FROM audit_head;",
    )
    .unwrap();
    let (code, out, err) = scope(&desk, &["--against", "first.json"]);
    assert_eq!(code, 1, "{err}");
    assert!(out.contains("audit_head: line "), "{out}");
}

#[tokio::test]
async fn an_auditor_reads_the_report_over_http_and_nobody_else_does() {
    let desk = crate::support::Desk::new().await;
    for (role, expected) in [
        (Role::Billing, 403),
        (Role::Operator, 403),
        (Role::Auditor, 200),
    ] {
        let key = desk.gateway.add_client(role.as_str(), role).await.unwrap();
        let answer = desk.scope(&key, "application/json").await;
        assert_eq!(answer.status, expected, "{role}: {}", answer.text);
    }
    let key = desk
        .gateway
        .add_client("reader", Role::Auditor)
        .await
        .unwrap();
    let report = desk.scope(&key, "*/*").await;
    assert_eq!(report.text.parse::<Value>().unwrap()["version"], 1);
    for (accept, begins) in [
        ("text/html,application/xhtml+xml;q=0.9", "<!doctype html>"),
        ("text/markdown", "# What an assessor asks"),
    ] {
        let answer = desk.scope(&key, accept).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.text.starts_with(begins), "{}", answer.text);
        assert!(!answer.text.contains("<script"), "{}", answer.text);
    }
    let lines = desk
        .gateway
        .audit_lines(&AuditQuery {
            action: Some("scope.read".to_owned()),
            limit: 10,
            ..AuditQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(lines.data.len(), 4);
    assert_eq!(
        (lines.data[0].actor.as_str(), lines.data[0].role.as_str()),
        ("reader", "auditor")
    );
}

#[tokio::test]
async fn a_scan_and_a_report_are_two_things() {
    let desk = Desk::new().await;
    let (code, _, err) = scope(&desk, &["--prove", "--scan", "."]);
    assert_eq!(code, 2, "{err}");
}
