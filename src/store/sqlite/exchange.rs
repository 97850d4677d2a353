//! The sealed exchange as SQL: public keys of clients, generations of our own, messages taken.

use cardless_contract::Timestamp;
use rusqlite::{Connection, Row, params};

use super::apply::{execute, one};
use super::client;
use super::read::{Read, many, time, time_if_any};
use crate::store::{ClientKeyRow, ClientRow, Result, Subject};

/// A key's client, with all its keys, the newest first.
pub(super) fn client_with_key(
    connection: &Connection,
    kid: &str,
) -> Result<Option<(ClientRow, Vec<ClientKeyRow>)>> {
    let Some(client) = client::by_public_key(connection, kid)? else {
        return Ok(None);
    };
    let keys = many(
        connection,
        "SELECT * FROM client_keys WHERE client = ?1 ORDER BY created_at DESC, rowid DESC",
        [&client.name],
        key_row,
    )?;
    Ok(Some((client, keys)))
}

pub(super) fn client_keys(connection: &Connection) -> Result<Vec<ClientKeyRow>> {
    many(
        connection,
        "SELECT * FROM client_keys ORDER BY client, created_at, rowid",
        [],
        key_row,
    )
}

pub(super) fn generations(connection: &Connection, limit: u32) -> Result<Vec<(String, Timestamp)>> {
    many(
        connection,
        "SELECT * FROM exchange_generations ORDER BY rowid DESC LIMIT ?1",
        [limit],
        |row| Ok((row.get("id")?, time(row, "created_at")?)),
    )
}

pub(super) fn insert_key(connection: &Connection, row: &ClientKeyRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO client_keys (kid, client, thumbprint, usage, point, mac, created_at, revoked_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            row.kid,
            row.client,
            row.thumbprint,
            row.usage,
            row.point,
            row.mac,
            row.created_at.millis(),
            row.revoked_at.map(|at| at.millis())
        ],
        Subject::ClientKey,
    )
}

pub(super) fn revoke_key(
    connection: &Connection,
    client: &str,
    kid: &str,
    at: Timestamp,
) -> Result<()> {
    one(
        connection,
        "UPDATE client_keys SET revoked_at = ?3
         WHERE client = ?1 AND kid = ?2 AND revoked_at IS NULL",
        params![client, kid, at.millis()],
        Subject::ClientKey,
    )
}

pub(super) fn insert_generation(
    connection: &Connection,
    id: &str,
    created_at: Timestamp,
    unless_after: Timestamp,
    unless_by: Timestamp,
) -> Result<()> {
    execute(
        connection,
        "INSERT INTO exchange_generations (id, created_at) SELECT ?1, ?2
         WHERE NOT EXISTS (
             SELECT 1 FROM exchange_generations WHERE created_at > ?3 AND created_at <= ?4)",
        params![
            id,
            created_at.millis(),
            unless_after.millis(),
            unless_by.millis()
        ],
        Subject::ClientKey,
    )
    .map(drop)
}

/// Forgets what has lapsed, a little at a time, and remembers the new one.
pub(super) fn insert_message(
    connection: &Connection,
    client: &str,
    jti: &[u8],
    forget_at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    execute(
        connection,
        "DELETE FROM exchange_messages WHERE (client, jti) IN (
             SELECT client, jti FROM exchange_messages WHERE forget_at < ?1
             ORDER BY forget_at LIMIT 16)",
        [now.millis()],
        Subject::ExchangeMessage,
    )?;
    one(
        connection,
        "INSERT INTO exchange_messages (client, jti, forget_at) VALUES (?1, ?2, ?3)",
        params![client, jti, forget_at.millis()],
        Subject::ExchangeMessage,
    )
}

fn key_row(row: &Row<'_>) -> Read<ClientKeyRow> {
    Ok(ClientKeyRow {
        kid: row.get("kid")?,
        client: row.get("client")?,
        thumbprint: row.get("thumbprint")?,
        usage: row.get("usage")?,
        point: row.get("point")?,
        mac: row.get("mac")?,
        created_at: time(row, "created_at")?,
        revoked_at: time_if_any(row, "revoked_at")?,
    })
}
