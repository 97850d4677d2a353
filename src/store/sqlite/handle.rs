//! Handles of payment methods as SQL.

use cardless_contract::Timestamp;
use rusqlite::{Connection, params};

use super::apply::{execute, one};
use super::read::{count, many, maybe, method_row, time_if_any};
use crate::store::{MethodRow, OldHandles, Result, StoreError, Subject};

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

pub(super) fn count_methods(connection: &Connection) -> Result<u64> {
    let found = maybe(
        connection,
        "SELECT count(*) FROM payment_methods WHERE state IN ('active', 'suspended')",
        [],
        |row| count(row, 0),
    )?;
    Ok(found.unwrap_or(0))
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
