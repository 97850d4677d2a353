//! Rotations as SQL.

use rusqlite::{Connection, Row, named_params};

use super::apply::one;
use super::read::{Read, ReadError, many, time, time_if_any, word};
use crate::store::{Result, RotationKind, RotationRow, StoreError, Subject};

pub(super) fn insert(connection: &Connection, row: &RotationRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO rotations (id, kind, parameter, place, done, total, lease_until, started_at,
             updated_at, ended_at, version)
         VALUES (:id, :kind, :parameter, :place, :done, :total, :lease_until, :started_at,
             :updated_at, :ended_at, :version)",
        named_params! {
            ":id": row.id, ":kind": row.kind.as_str(), ":parameter": row.parameter,
            ":place": row.place, ":done": number(row.done)?, ":total": number(row.total)?,
            ":lease_until": row.lease_until.millis(), ":started_at": row.started_at.millis(),
            ":updated_at": row.updated_at.millis(),
            ":ended_at": row.ended_at.map(|at| at.millis()), ":version": row.version,
        },
        Subject::Rotation,
    )
}

pub(super) fn update(connection: &Connection, row: &RotationRow) -> Result<()> {
    one(
        connection,
        "UPDATE rotations SET place = :place, done = :done, lease_until = :lease_until,
             updated_at = :updated_at, ended_at = :ended_at, version = version + 1
         WHERE id = :id AND version = :version",
        named_params! {
            ":id": row.id, ":place": row.place, ":done": number(row.done)?,
            ":lease_until": row.lease_until.millis(), ":updated_at": row.updated_at.millis(),
            ":ended_at": row.ended_at.map(|at| at.millis()), ":version": row.version,
        },
        Subject::Rotation,
    )
}

pub(super) fn rotations(connection: &Connection, limit: u32) -> Result<Vec<RotationRow>> {
    many(
        connection,
        "SELECT * FROM rotations ORDER BY ended_at IS NULL DESC, seq DESC LIMIT ?1",
        [limit],
        rotation_row,
    )
}

fn rotation_row(row: &Row<'_>) -> Read<RotationRow> {
    Ok(RotationRow {
        id: row.get("id")?,
        kind: word(row, "kind", RotationKind::parse)?,
        parameter: row.get("parameter")?,
        place: row.get("place")?,
        done: count(row, "done")?,
        total: count(row, "total")?,
        lease_until: time(row, "lease_until")?,
        started_at: time(row, "started_at")?,
        updated_at: time(row, "updated_at")?,
        ended_at: time_if_any(row, "ended_at")?,
        version: row.get("version")?,
    })
}

fn count(row: &Row<'_>, column: &'static str) -> Read<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| ReadError::Unreadable(column))
}

fn number(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|_| StoreError::Unreadable("rotations"))
}
