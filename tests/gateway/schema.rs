//! The schema's constraints, each by itself: what it holds back is refused with it, and would be
//! kept without it. So none is there for show, and none can be lost without a test that notices.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardless::store::{SqliteStore, Threads};
use rusqlite::Connection;

use crate::world::*;

/// The tables whose constraints guard money: a constraint of theirs without a statement in
/// [`BROKEN_BY`] fails the test.
const TABLES: [&str; 6] = [
    "payments",
    "operations",
    "request_keys",
    "payment_methods",
    "setups",
    "webhooks",
];

/// A constraint, by its table and text or by its index's name, and a statement that only it holds
/// back.
const BROKEN_BY: &[(&str, &str, &str)] = &[
    (
        "payments",
        "CHECK (amount > 0)",
        "UPDATE payments SET amount = 0",
    ),
    (
        "payments",
        "CHECK (authorized >= 0)",
        "UPDATE payments SET authorized = -1",
    ),
    (
        "payments",
        "CHECK (captured >= 0)",
        "UPDATE payments SET captured = -1",
    ),
    (
        "payments",
        "CHECK (reserved_capture >= 0)",
        "UPDATE payments SET reserved_capture = -1",
    ),
    (
        "payments",
        "CHECK (refunded >= 0)",
        "UPDATE payments SET refunded = -1",
    ),
    (
        "payments",
        "CHECK (reserved_refund >= 0)",
        "UPDATE payments SET reserved_refund = -1",
    ),
    (
        "payments",
        "CHECK (reversed >= 0)",
        "UPDATE payments SET reversed = -1",
    ),
    (
        "payments",
        "CHECK (returned_told >= 0)",
        "UPDATE payments SET returned_told = -1",
    ),
    (
        "payments",
        "CHECK (reserved_capture = 0 OR captured + reserved_capture <= authorized)",
        "UPDATE payments SET captured = 1, reserved_capture = authorized",
    ),
    (
        "payments",
        "CHECK (reserved_refund = 0 OR refunded + reserved_refund <= captured)",
        "UPDATE payments SET refunded = 1, reserved_refund = captured",
    ),
    (
        "payments",
        "PRIMARY KEY",
        "UPDATE payments SET id = 'the same'",
    ),
    (
        "payments",
        "one_open_payment",
        "UPDATE payments SET state = 'unknown', reference = 'the same'",
    ),
    (
        "payments",
        "payments_by_reservation",
        "UPDATE payments SET reservation = 'the same'",
    ),
    (
        "operations",
        "CHECK (amount >= 0)",
        "UPDATE operations SET amount = -1",
    ),
    (
        "operations",
        "CHECK (last IN (0, 1))",
        "UPDATE operations SET last = 2",
    ),
    (
        "operations",
        "PRIMARY KEY",
        "UPDATE operations SET id = 'the same'",
    ),
    (
        "request_keys",
        "CHECK (erased IN (0, 1))",
        "UPDATE request_keys SET erased = 2",
    ),
    (
        "request_keys",
        "PRIMARY KEY (client, key)",
        "UPDATE request_keys SET key = x'00'",
    ),
    (
        "payment_methods",
        "CHECK (is_default IN (0, 1))",
        "UPDATE payment_methods SET is_default = 2",
    ),
    (
        "payment_methods",
        "PRIMARY KEY",
        "UPDATE payment_methods SET id = 'the same'",
    ),
    (
        "payment_methods",
        "one_default_method",
        "UPDATE payment_methods SET is_default = 1",
    ),
    (
        "payment_methods",
        "payment_methods_by_handle",
        "UPDATE payment_methods SET handle = 'the same'",
    ),
    (
        "setups",
        "PRIMARY KEY",
        "UPDATE setups SET id = 'the same', reference = NULL",
    ),
    (
        "setups",
        "setups_by_reference",
        "UPDATE setups SET reference = 'the same'",
    ),
    (
        "webhooks",
        "PRIMARY KEY (provider, event)",
        "UPDATE webhooks SET event = 'the same'",
    ),
];

/// A constraint of the schema as it stands.
type Constraint = (String, String);

#[tokio::test(start_paused = true)]
async fn every_constraint_of_the_schema_holds_something_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    fill(&format!("sqlite:{}", path.display())).await;
    let whole = Connection::open(&path).unwrap();
    let statements = schema(&whole);
    let mut probes: BTreeMap<Constraint, &str> = BROKEN_BY
        .iter()
        .map(|(table, text, sql)| ((table.to_string(), text.to_string()), *sql))
        .collect();
    assert_eq!(probes.len(), BROKEN_BY.len());
    for (constraint, without) in mutants(&statements) {
        let Some(sql) = probes.remove(&constraint) else {
            panic!("{constraint:?} is new: say in BROKEN_BY what it holds back");
        };
        let held = copy(&statements, &path).execute_batch(sql).unwrap_err();
        let held = held.sqlite_error().unwrap().code;
        assert_eq!(
            held,
            rusqlite::ErrorCode::ConstraintViolation,
            "{constraint:?}"
        );
        let kept = copy(&without, &path).execute_batch(sql);
        assert!(
            kept.is_ok(),
            "{constraint:?} is not what holds it back: {kept:?}"
        );
    }
    assert!(probes.is_empty(), "no constraint is {:?}", probes.keys());
}

/// A store with two of everything.
async fn fill(url: &str) {
    let store = SqliteStore::open(url, Threads::Caller).unwrap();
    let world = World::on(Arc::new(store));
    world.linked().await;
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    let taken = world.pay(&charge("r-2")).await;
    for event in ["e-1", "e-2"] {
        world.webhook(event, &taken.id).await;
    }
    let (gateway, part) = (&world.gateway, take(Some(1000), Some(false)));
    let captured = gateway
        .capture(&world.key(), &held.id, &part)
        .await
        .unwrap();
    assert_eq!(captured.body.captured.minor(), 1000);
    gateway
        .refund(&world.key(), &taken.id, &give(Some(1000)))
        .await
        .unwrap();
}

/// What made the database, in order.
fn schema(database: &Connection) -> Vec<String> {
    let sql = "SELECT sql FROM sqlite_schema WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'
               ORDER BY rowid";
    let mut statement = database.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// A database in memory with the rows of the one at `path`, made by `statements`.
fn copy(statements: &[String], path: &std::path::Path) -> Connection {
    let database = Connection::open_in_memory().unwrap();
    database.pragma_update(None, "foreign_keys", false).unwrap();
    let attach = format!("ATTACH '{}' AS whole", path.display());
    database.execute_batch(&attach).unwrap();
    for statement in statements {
        database.execute_batch(statement).unwrap();
    }
    for table in TABLES {
        let sql = format!("INSERT INTO main.{table} SELECT * FROM whole.{table}");
        assert!(database.execute(&sql, []).unwrap() >= 2, "{table}");
    }
    database.execute_batch("DETACH whole").unwrap();
    database
}

/// Every constraint of the tables that count, with the schema that lacks it.
fn mutants(statements: &[String]) -> Vec<(Constraint, Vec<String>)> {
    let mut found = Vec::new();
    for (index, statement) in statements.iter().enumerate() {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let without = |text: &str| {
            let mut changed = statements.to_vec();
            changed[index] = text.to_owned();
            changed
        };
        match words[..] {
            ["CREATE", "TABLE", table, ..] if TABLES.contains(&table) => {
                for constraint in constraints(statement) {
                    let rest = statement.replacen(constraint, "CHECK (1)", 1);
                    found.push(((table.to_owned(), constraint.to_owned()), without(&rest)));
                }
            }
            ["CREATE", "UNIQUE", "INDEX", name, "ON", table, ..] if TABLES.contains(&table) => {
                let constraint = (table.to_owned(), name.to_owned());
                found.push((constraint, without("")));
            }
            _ => {}
        }
    }
    found
}

/// The constraints in a table's text, each with its parentheses.
fn constraints(table: &str) -> Vec<&str> {
    let words = ["CHECK", "UNIQUE", "PRIMARY KEY"].into_iter();
    let found = words.flat_map(|word| table.match_indices(word));
    found
        .map(|(start, word)| whole(table.split_at(start).1, word))
        .collect()
}

/// The constraint that a text begins with.
fn whole<'a>(text: &'a str, word: &str) -> &'a str {
    let mut depth = 0;
    let end = text.char_indices().find_map(|(at, char)| {
        depth += i32::from(char == '(') - i32::from(char == ')');
        (char == ')' && depth == 0).then_some(at + 1)
    });
    let has_parentheses = text.split_at(word.len()).1.starts_with(" (");
    let length = end.filter(|_| has_parentheses).unwrap_or(word.len());
    text.split_at(length).0
}
