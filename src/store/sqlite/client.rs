//! Clients of the service and their API keys as SQL.

use cardless_contract::Timestamp;
use rusqlite::{Connection, Row, params};

use super::apply::{execute, one};
use super::read::{Read, many, maybe, time, time_if_any};
use crate::store::{ClientRow, OldApiKey, Result, Subject};

/// A client with its key that was replaced, if there is one.
const CLIENTS: &str = "SELECT clients.*, old_api_keys.key_hash AS old_key_hash,
         old_api_keys.since AS old_since, old_api_keys.ends_at AS old_ends_at
     FROM clients LEFT JOIN old_api_keys ON old_api_keys.client = clients.name";

pub(super) fn clients(connection: &Connection) -> Result<Vec<ClientRow>> {
    many(
        connection,
        &format!("{CLIENTS} ORDER BY name"),
        [],
        client_row,
    )
}

pub(super) fn by_hash(
    connection: &Connection,
    hash: &[u8],
    at: Timestamp,
) -> Result<Option<ClientRow>> {
    maybe(
        connection,
        &format!(
            "{CLIENTS} WHERE name IN (
                 SELECT name FROM clients WHERE key_hash = ?1
                 UNION ALL SELECT client FROM old_api_keys WHERE key_hash = ?1 AND ends_at > ?2)"
        ),
        params![hash, at.millis()],
        client_row,
    )
}

/// The client that has this public key.
pub(super) fn by_public_key(connection: &Connection, kid: &str) -> Result<Option<ClientRow>> {
    maybe(
        connection,
        &format!("{CLIENTS} WHERE name = (SELECT client FROM client_keys WHERE kid = ?1)"),
        [kid],
        client_row,
    )
}

pub(super) fn insert(connection: &Connection, row: &ClientRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO clients (name, role, key_hash, key_since, sealed, created_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row.name,
            row.role,
            row.key_hash,
            row.key_since.millis(),
            row.sealed,
            row.created_at.millis(),
            row.revoked_at.map(|at| at.millis())
        ],
        Subject::Client,
    )
}

pub(super) fn revoke(connection: &Connection, name: &str, at: Timestamp) -> Result<()> {
    one(
        connection,
        "UPDATE clients SET revoked_at = ?2 WHERE name = ?1 AND revoked_at IS NULL",
        params![name, at.millis()],
        Subject::Client,
    )?;
    execute(
        connection,
        "DELETE FROM old_api_keys WHERE client = ?1",
        [name],
        Subject::Client,
    )
    .map(drop)
}

/// The key of `row` becomes its old one until `ends_at`, and `new` its key.
pub(super) fn renew(
    connection: &Connection,
    row: &ClientRow,
    new: &[u8],
    at: Timestamp,
    ends_at: Timestamp,
) -> Result<()> {
    execute(
        connection,
        "DELETE FROM old_api_keys WHERE client = ?1 AND (ends_at <= ?2 OR ?3 <= ?2)",
        params![row.name, at.millis(), ends_at.millis()],
        Subject::Client,
    )?;
    if ends_at > at {
        one(
            connection,
            "INSERT INTO old_api_keys (client, key_hash, since, ends_at) VALUES (?1, ?2, ?3, ?4)",
            params![
                row.name,
                row.key_hash,
                row.key_since.millis(),
                ends_at.millis()
            ],
            Subject::Client,
        )?;
    }
    one(
        connection,
        "UPDATE clients SET key_hash = ?3, key_since = ?4
         WHERE name = ?1 AND key_hash = ?2 AND revoked_at IS NULL",
        params![row.name, row.key_hash, new, at.millis()],
        Subject::Client,
    )
}

pub(super) fn forget(connection: &Connection, ended_by: Timestamp) -> Result<()> {
    execute(
        connection,
        "DELETE FROM old_api_keys WHERE ends_at <= ?1",
        [ended_by.millis()],
        Subject::Client,
    )
    .map(drop)
}

fn client_row(row: &Row<'_>) -> Read<ClientRow> {
    let old_ends_at = time_if_any(row, "old_ends_at")?;
    Ok(ClientRow {
        name: row.get("name")?,
        role: row.get("role")?,
        key_hash: row.get("key_hash")?,
        key_since: time(row, "key_since")?,
        old_key: match old_ends_at {
            None => None,
            Some(ends_at) => Some(OldApiKey {
                key_hash: row.get("old_key_hash")?,
                since: time(row, "old_since")?,
                ends_at,
            }),
        },
        sealed: row.get("sealed")?,
        created_at: time(row, "created_at")?,
        revoked_at: time_if_any(row, "revoked_at")?,
    })
}
