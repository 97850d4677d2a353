//! `scope`: the report of the running system, and that `--prove` finds what was planted in the
//! store.

use rusqlite::Connection;
use serde_json::Value;

use crate::people::Desk;
use crate::support::CARD;
use crate::world::ALL;

/// What is planted, the statement that must not hold any more, and the place that it must name.
const FAULTS: [(&str, &str, &str); 9] = [
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
    for provider in ALL {
        desk.charged(provider).await;
    }
    let (code, out, err) = scope(&desk, &["--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["version"], &report["holds"]),
        (&1.into(), &true.into())
    );
    let statements = report["sections"][0]["statements"].as_array().unwrap();
    assert_eq!(statements.len(), 5);
    for statement in statements {
        assert_eq!(statement["holds"], true, "{statement}");
        assert!(!statement["evidence"]["rows"].as_array().unwrap().is_empty());
        assert!(!statement["requirements"].as_array().unwrap().is_empty());
    }
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
    assert_eq!(
        (code, out.as_str()),
        (0, "all 5 statements hold\n"),
        "{err}"
    );

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

#[tokio::test]
async fn a_scan_and_a_report_are_two_things() {
    let desk = Desk::new().await;
    let (code, _, err) = scope(&desk, &["--prove", "--scan", "."]);
    assert_eq!(code, 2, "{err}");
}
