//! The audit log as SQL.

use cardless_contract::Timestamp;
use rusqlite::{Connection, Row, params};

use super::apply::{execute, one};
use super::read::{Read, many, maybe};
use crate::store::{
    AuditEnd, AuditEntry, AuditFilter, AuditHeadRow, AuditRow, AuditText, Result, Subject,
};

/// Adds a line at the end that this transaction sees, and moves the head.
pub(super) fn append(connection: &Connection, entry: &AuditEntry) -> Result<()> {
    let end = AuditEnd {
        head: head(connection)?,
        last: maybe(
            connection,
            "SELECT seq, mac FROM audit_lines ORDER BY seq DESC LIMIT 1",
            [],
            |row| Ok((row.get("seq")?, row.get("mac")?)),
        )?,
    };
    let (line, head) = entry.chain.place(&end, &entry.said);
    insert(connection, &line)?;
    execute(
        connection,
        "INSERT INTO audit_head (id, count, last, mac) VALUES (1, ?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET count = ?1, last = ?2, mac = ?3",
        params![head.count, head.last, head.mac],
        Subject::Audit,
    )
    .map(drop)
}

fn insert(connection: &Connection, line: &AuditRow) -> Result<()> {
    let said = &line.said;
    one(
        connection,
        "INSERT INTO audit_lines (seq, head_held, at, actor, role, origin, action, object, outcome,
             details, mac)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            line.sequence,
            line.head_held,
            said.at.millis(),
            said.actor,
            said.role,
            said.origin,
            said.action,
            said.object,
            said.outcome,
            said.details,
            line.mac
        ],
        Subject::Audit,
    )
}

pub(super) fn head(connection: &Connection) -> Result<Option<AuditHeadRow>> {
    maybe(
        connection,
        "SELECT * FROM audit_head WHERE id = 1",
        [],
        |row| {
            Ok(AuditHeadRow {
                count: row.get("count")?,
                last: row.get("last")?,
                mac: row.get("mac")?,
            })
        },
    )
}

pub(super) fn after(connection: &Connection, after: i64, limit: u32) -> Result<Vec<AuditRow>> {
    many(
        connection,
        "SELECT * FROM audit_lines WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        params![after, limit],
        line,
    )
}

pub(super) fn before(connection: &Connection, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
    many(
        connection,
        "SELECT * FROM audit_lines
         WHERE seq < ?1 AND (?2 IS NULL OR action = ?2) AND (?3 IS NULL OR object = ?3)
         ORDER BY seq DESC LIMIT ?4",
        params![
            filter.before.unwrap_or(i64::MAX),
            filter.action,
            filter.object,
            filter.limit
        ],
        line,
    )
}

fn line(row: &Row<'_>) -> Read<AuditRow> {
    Ok(AuditRow {
        sequence: row.get("seq")?,
        head_held: row.get("head_held")?,
        said: AuditText {
            at: Timestamp::from_millis(row.get("at")?),
            actor: row.get("actor")?,
            role: row.get("role")?,
            origin: row.get("origin")?,
            action: row.get("action")?,
            object: row.get("object")?,
            outcome: row.get("outcome")?,
            details: row.get("details")?,
        },
        mac: row.get("mac")?,
    })
}
