//! Restriction, erasure and export of an account as SQL.

use rusqlite::{Connection, Row, named_params, params};

use cardless_contract::Timestamp;

use super::apply::{execute, one};
use super::read::{Read, ReadError, count, event_row, many, maybe, setup_row, time, time_if_any};
use super::{database, generation};
use crate::store::{
    AccountCounts, BlockerKind, BlockerRow, EraseAccount, ErasureRow, EventRow, Result, SetupRow,
    StoreError, Subject,
};

/// What of an account must come to its end before it can be erased.
const BLOCKERS: &str = "
    SELECT 'payment' AS kind, id, state, next_at FROM payments
        WHERE account = :account AND (step <> 'settled' OR state IN ('authorized', 'parked'))
    UNION ALL SELECT 'operation', operations.id, operations.state, operations.next_at
        FROM payments JOIN operations ON operations.payment = payments.id
        WHERE payments.account = :account AND operations.state NOT IN ('succeeded', 'failed')
    UNION ALL SELECT 'setup', id, state, next_at FROM setups
        WHERE account = :account AND state IN ('beginning', 'awaiting_customer')
    UNION ALL SELECT 'method', id, state, next_at FROM payment_methods
        WHERE account = :account AND state <> 'revoked'";

/// Everything that a caller's key can have made for an account.
const OBJECTS: &str = "
    SELECT id FROM payments WHERE account = :account
    UNION ALL SELECT operations.id FROM payments JOIN operations ON operations.payment = payments.id
        WHERE payments.account = :account
    UNION ALL SELECT id FROM setups WHERE account = :account";

pub(super) fn require_unrestricted(connection: &Connection, account: &str) -> Result<()> {
    let free = maybe(
        connection,
        "SELECT 1 FROM accounts WHERE account = ?1 AND restricted = 0",
        [account],
        |_| Ok(()),
    )?;
    free.ok_or(StoreError::Conflict(Subject::Account))
}

pub(super) fn restrict(connection: &Connection, account: &str, restricted: bool) -> Result<()> {
    one(
        connection,
        "UPDATE accounts SET restricted = ?2 WHERE account = ?1
             AND (?2 = 1 OR NOT EXISTS (SELECT 1 FROM erasures WHERE account = ?1))",
        params![account, restricted],
        Subject::Account,
    )
}

pub(super) fn revoke_methods(connection: &Connection, account: &str, at: Timestamp) -> Result<()> {
    execute(
        connection,
        "UPDATE payment_methods SET state = 'revoking', is_default = 0, next_at = ?2, attempts = 0,
             version = version + 1
         WHERE account = ?1 AND state IN ('active', 'suspended')",
        params![account, at.millis()],
        Subject::Method,
    )
    .map(drop)
}

pub(super) fn insert(connection: &Connection, row: &ErasureRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO erasures (id, subject, account, report, unconfirmed, requested_at, erased_at,
             next_at, attempts, lease_until, version)
         VALUES (:id, :subject, :account, :report, :unconfirmed, :requested_at, :erased_at,
             :next_at, :attempts, :lease_until, :version)",
        named_params! {
            ":id": row.id, ":subject": row.subject, ":account": row.account,
            ":report": row.report, ":unconfirmed": row.unconfirmed, ":requested_at": row.requested_at.millis(),
            ":erased_at": row.erased_at.map(|at| at.millis()),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":version": row.version,
        },
        Subject::Erasure,
    )
}

pub(super) fn update(connection: &Connection, row: &ErasureRow) -> Result<()> {
    one(
        connection,
        "UPDATE erasures SET account = :account, report = :report, unconfirmed = :unconfirmed,
             erased_at = :erased_at, next_at = :next_at, attempts = :attempts, lease_until = :lease_until,
             version = version + 1
         WHERE id = :id AND version = :version",
        named_params! {
            ":id": row.id, ":account": row.account, ":report": row.report,
            ":unconfirmed": row.unconfirmed, ":erased_at": row.erased_at.map(|at| at.millis()),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":version": row.version,
        },
        Subject::Erasure,
    )
}

/// Deletes and hands over in the order in which the rows depend on each other.
pub(super) fn erase(connection: &Connection, erase: &EraseAccount) -> Result<()> {
    let account = erase.account.as_str();
    let holds = blockers(connection, account, 1)?.is_empty()
        && counts(connection, account)? == erase.counts;
    if !holds {
        return Err(StoreError::Conflict(Subject::Account));
    }
    let substitute = &erase.substitute;
    generation::require_active(connection, &substitute.generation)?;
    one(
        connection,
        "INSERT INTO accounts (account, sealed_id, generation, restricted, created_at)
         VALUES (?1, ?2, ?3, 1, ?4)",
        params![
            substitute.account,
            substitute.sealed_id,
            substitute.generation,
            substitute.created_at.millis()
        ],
        Subject::Account,
    )?;
    // The keys first, while it can be told whose objects they made.
    connection
        .prepare_cached(&format!(
            "UPDATE request_keys SET digest = x'', object = '', answer = NULL, erased = 1
             WHERE object IN ({OBJECTS})"
        ))
        .and_then(|mut statement| statement.execute(named_params! {":account": account}))
        .map_err(database)?;
    let pair = [substitute.account.as_str(), account];
    for sql in [
        "UPDATE operations SET account = ?1, version = version + 1
         WHERE payment IN (SELECT id FROM payments WHERE account = ?2)",
        "UPDATE payments SET account = ?1, method = NULL, handle = NULL, setup = NULL,
             reference = '', description = NULL, return_url = NULL, redirect = NULL,
             redirect_generation = NULL, body_mac = NULL, version = version + 1
         WHERE account = ?2",
        "UPDATE resolutions SET account = ?1, note = '' WHERE account = ?2",
        "UPDATE events SET account = ?1 WHERE account = ?2",
    ] {
        execute(connection, sql, pair, Subject::Account)?;
    }
    for sql in [
        "DELETE FROM last_answers WHERE account = ?1",
        "DELETE FROM setups WHERE account = ?1",
        "DELETE FROM payment_methods WHERE account = ?1",
        "DELETE FROM records WHERE account = ?1",
        "DELETE FROM accounts WHERE account = ?1",
    ] {
        execute(connection, sql, [account], Subject::Account)?;
    }
    Ok(())
}

/// Writes the log back into the database and empties it: older pages are nowhere then. False if
/// somebody reads an older state at present.
pub(super) fn scrub(connection: &Connection) -> Result<bool> {
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(database)?;
    Ok(busy == 0)
}

pub(super) fn erasure(connection: &Connection, id: &str) -> Result<Option<ErasureRow>> {
    let sql = "SELECT * FROM erasures WHERE id = ?1";
    maybe(connection, sql, [id], erasure_row)
}

/// In the order in which they were asked for, by any clock; the one that is open is the last.
pub(super) fn erasures(connection: &Connection, subject: &[u8]) -> Result<Vec<ErasureRow>> {
    many(
        connection,
        "SELECT * FROM erasures WHERE subject = ?1
         ORDER BY account IS NOT NULL, rowid",
        [subject],
        erasure_row,
    )
}

pub(super) fn blockers(
    connection: &Connection,
    account: &str,
    limit: u32,
) -> Result<Vec<BlockerRow>> {
    many(
        connection,
        &format!("{BLOCKERS} LIMIT :limit"),
        named_params! {":account": account, ":limit": limit},
        |row| {
            let kind: String = row.get("kind")?;
            Ok(BlockerRow {
                kind: match kind.as_str() {
                    "payment" => BlockerKind::Payment,
                    "operation" => BlockerKind::Operation,
                    "setup" => BlockerKind::Setup,
                    "method" => BlockerKind::Method,
                    _ => return Err(ReadError::Unreadable("kind")),
                },
                id: row.get("id")?,
                state: row.get("state")?,
                next_at: time_if_any(row, "next_at")?,
            })
        },
    )
}

pub(super) fn counts(connection: &Connection, account: &str) -> Result<AccountCounts> {
    let found = maybe(
        connection,
        &format!(
            "SELECT (SELECT count(*) FROM payment_methods WHERE account = :account),
                    (SELECT count(*) FROM setups WHERE account = :account),
                    (SELECT count(*) FROM payments WHERE account = :account),
                    (SELECT count(*) FROM payments JOIN operations ON operations.payment = payments.id
                         WHERE payments.account = :account),
                    (SELECT count(*) FROM resolutions WHERE account = :account),
                    (SELECT count(*) FROM events WHERE account = :account),
                    (SELECT count(*) FROM request_keys WHERE object IN ({OBJECTS}))"
        ),
        named_params! {":account": account},
        |row| {
            Ok(AccountCounts {
                payment_methods: count(row, 0)?,
                setups: count(row, 1)?,
                payments: count(row, 2)?,
                operations: count(row, 3)?,
                resolutions: count(row, 4)?,
                events: count(row, 5)?,
                idempotency_keys: count(row, 6)?,
            })
        },
    )?;
    found.ok_or(StoreError::Unreadable("counts"))
}

pub(super) fn revoked_by_provider(
    connection: &Connection,
    account: &str,
) -> Result<Vec<(String, u64)>> {
    many(
        connection,
        "SELECT provider, count(*) AS n FROM payment_methods
         WHERE account = ?1 AND state = 'revoked' GROUP BY provider ORDER BY provider",
        [account],
        |row| Ok((row.get("provider")?, count(row, 1)?)),
    )
}

pub(super) fn setups(
    connection: &Connection,
    account: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<SetupRow>> {
    many(
        connection,
        "SELECT * FROM setups WHERE account = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
        params![account, after, limit],
        setup_row,
    )
}

pub(super) fn events(
    connection: &Connection,
    account: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, EventRow)>> {
    many(
        connection,
        "SELECT * FROM events WHERE account = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        params![account, after, limit],
        event_row,
    )
}

fn erasure_row(row: &Row<'_>) -> Read<ErasureRow> {
    Ok(ErasureRow {
        id: row.get("id")?,
        subject: row.get("subject")?,
        account: row.get("account")?,
        report: row.get("report")?,
        unconfirmed: row.get("unconfirmed")?,
        requested_at: time(row, "requested_at")?,
        erased_at: time_if_any(row, "erased_at")?,
        next_at: time_if_any(row, "next_at")?,
        attempts: row.get("attempts")?,
        lease_until: time(row, "lease_until")?,
        version: row.get("version")?,
    })
}
