//! Handles of payment methods as SQL.

use cardless_contract::Timestamp;
use rusqlite::{Connection, params};

use super::apply::{execute, one};
use super::read::{count, many, maybe, method_row, time, time_if_any};
use crate::store::{
    AccountRow, MethodRow, OldHandles, RecordRow, Result, StoreError, Subject, TokenRow,
};

pub(super) fn method(
    connection: &Connection,
    handle: &str,
    at: Timestamp,
) -> Result<Option<MethodRow>> {
    maybe(
        connection,
        "SELECT * FROM payment_methods WHERE id = coalesce(
             (SELECT id FROM payment_methods WHERE handle = ?1),
             (SELECT method FROM old_handles WHERE handle = ?1 AND ends_at > ?2))",
        params![handle, at.millis()],
        method_row,
    )
}

/// A conflict unless the method is there and can be charged.
pub(super) fn require_active(connection: &Connection, method: &str) -> Result<()> {
    let active = maybe(
        connection,
        "SELECT 1 FROM payment_methods WHERE id = ?1 AND state = 'active'",
        [method],
        |_| Ok(()),
    )?;
    active.ok_or(StoreError::Conflict(Subject::Method))
}

pub(super) fn linked_by(
    connection: &Connection,
    linked_by: Timestamp,
    after: &str,
    limit: u32,
) -> Result<Vec<MethodRow>> {
    many(
        connection,
        "SELECT * FROM payment_methods
         WHERE id > ?1 AND created_at <= ?2 AND state IN ('active', 'suspended')
         ORDER BY id LIMIT ?3",
        params![after, linked_by.millis(), limit],
        method_row,
    )
}

pub(super) fn tokens(connection: &Connection, after: &str, limit: u32) -> Result<Vec<TokenRow>> {
    many(
        connection,
        "SELECT payment_methods.*, records.merchant, records.generation, records.sealed,
             records.created_at AS sealed_at, accounts.sealed_id,
             accounts.generation AS account_generation, accounts.restricted,
             accounts.created_at AS account_since
         FROM payment_methods
         JOIN records ON records.id = payment_methods.record
         JOIN accounts ON accounts.account = payment_methods.account
         WHERE payment_methods.id > ?1 ORDER BY payment_methods.id LIMIT ?2",
        params![after, limit],
        |row| {
            let method = method_row(row)?;
            let record = RecordRow {
                id: row.get("record")?,
                account: method.account.clone(),
                provider: method.provider.clone(),
                merchant: row.get("merchant")?,
                generation: row.get("generation")?,
                sealed: row.get("sealed")?,
                created_at: time(row, "sealed_at")?,
            };
            let account = AccountRow {
                account: method.account.clone(),
                sealed_id: row.get("sealed_id")?,
                generation: row.get("account_generation")?,
                restricted: row.get("restricted")?,
                created_at: time(row, "account_since")?,
            };
            Ok(TokenRow {
                method,
                record,
                account,
            })
        },
    )
}

pub(super) fn count_methods(connection: &Connection) -> Result<u64> {
    let found = maybe(
        connection,
        "SELECT count(*) FROM payment_methods WHERE state IN ('active', 'suspended')",
        [],
        |row| count(row, 0),
    )?;
    Ok(found.unwrap_or(0))
}

pub(super) fn latest_linked(connection: &Connection) -> Result<Option<Timestamp>> {
    let found = maybe(
        connection,
        "SELECT max(created_at) AS latest FROM payment_methods",
        [],
        |row| time_if_any(row, "latest"),
    )?;
    Ok(found.flatten())
}

pub(super) fn old_handles(connection: &Connection, at: Timestamp) -> Result<OldHandles> {
    let found = maybe(
        connection,
        "SELECT count(*), max(ends_at) AS until FROM old_handles WHERE ends_at > ?1",
        [at.millis()],
        |row| {
            Ok(OldHandles {
                live: count(row, 0)?,
                until: time_if_any(row, "until")?,
            })
        },
    )?;
    found.ok_or(StoreError::Unreadable("old_handles"))
}

pub(super) fn reissue(
    connection: &Connection,
    method: &str,
    old: &str,
    new: &str,
    ends_at: Timestamp,
) -> Result<()> {
    // The version stays: whoever changes the method meanwhile is not in the way, since no other
    // change writes a handle.
    one(
        connection,
        "UPDATE payment_methods SET handle = ?3
         WHERE id = ?1 AND handle = ?2 AND state IN ('active', 'suspended')",
        [method, old, new],
        Subject::Method,
    )?;
    one(
        connection,
        "INSERT INTO old_handles (account, handle, method, ends_at)
         SELECT account, ?2, id, ?3 FROM payment_methods WHERE id = ?1",
        params![method, old, ends_at.millis()],
        Subject::Method,
    )
}

pub(super) fn forget(connection: &Connection, ended_by: Timestamp, limit: u32) -> Result<()> {
    execute(
        connection,
        "DELETE FROM old_handles WHERE handle IN (
             SELECT handle FROM old_handles WHERE ends_at <= ?1 LIMIT ?2)",
        params![ended_by.millis(), limit],
        Subject::Method,
    )
    .map(drop)
}
