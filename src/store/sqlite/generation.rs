//! Key generations and what they have sealed, as SQL.

use cardless_contract::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};

use super::apply::one;
use super::database;
use super::read::{Read, ReadError, count, many, time, time_if_any, word};
use crate::store::{
    GenerationRow, GenerationState, ResealedRow, Result, SealedColumn, SealedRow, SealedText,
    StoreError, Subject,
};

const STALE: StoreError = StoreError::Conflict(Subject::Generation);

/// How a sealed column is written in SQL.
struct Names {
    table: &'static str,
    id: &'static str,
    sealed: &'static str,
    generation: &'static str,
    provider: &'static str,
    merchant: &'static str,
    /// What else changes with it: whoever holds the row as it was must read it again.
    bump: &'static str,
}

impl SealedColumn {
    const fn names(self) -> Names {
        match self {
            Self::Record => Names {
                table: "records",
                id: "id",
                sealed: "sealed",
                generation: "generation",
                provider: "provider",
                merchant: "merchant",
                bump: "",
            },
            Self::Account => Names {
                table: "accounts",
                id: "account",
                sealed: "sealed_id",
                generation: "generation",
                provider: "''",
                merchant: "''",
                bump: "",
            },
            Self::SetupRedirect => Names {
                table: "setups",
                ..REDIRECT
            },
            Self::PaymentRedirect => Names {
                table: "payments",
                ..REDIRECT
            },
        }
    }
}

const REDIRECT: Names = Names {
    table: "",
    id: "id",
    sealed: "redirect",
    generation: "redirect_generation",
    provider: "provider",
    merchant: "''",
    bump: ", version = version + 1",
};

/// Keeps those of these generations that are not known yet. What they have sealed already is counted
/// from what there is of it.
pub(super) fn adopt(connection: &Connection, rows: &[GenerationRow]) -> Result<()> {
    let known = generations(connection)?;
    let sealed = count_sealed(connection)?;
    for row in rows {
        if known.iter().any(|one| one.id == row.id) {
            continue;
        }
        let counts = sealed.iter().filter(|(_, id, _)| *id == row.id);
        let uses = row.uses.saturating_add(counts.map(|count| count.2).sum());
        insert(
            connection,
            &GenerationRow {
                uses,
                ..row.clone()
            },
        )?;
    }
    Ok(())
}

/// Makes a new generation the active one, and the one before it retires.
pub(super) fn activate(
    connection: &Connection,
    row: &GenerationRow,
    retires: &str,
    at: Timestamp,
) -> Result<()> {
    one(
        connection,
        "UPDATE generations SET state = 'retiring', retired_at = ?2
         WHERE id = ?1 AND state = 'active'",
        params![retires, at.millis()],
        Subject::Generation,
    )?;
    insert(connection, row)
}

fn insert(connection: &Connection, row: &GenerationRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO generations (id, state, uses, created_at, retired_at, destroyed_at, tried,
             sample)
         VALUES (:id, :state, :uses, :created_at, :retired_at, :destroyed_at, :tried, :sample)",
        named_params! {
            ":id": row.id, ":state": row.state.as_str(), ":uses": number(row.uses),
            ":created_at": row.created_at.millis(),
            ":retired_at": row.retired_at.map(|at| at.millis()),
            ":destroyed_at": row.destroyed_at.map(|at| at.millis()), ":tried": row.tried,
            ":sample": row.sample,
        },
        Subject::Generation,
    )
}

/// Reserves uses of the active generation, below a limit.
pub(super) fn reserve(connection: &Connection, id: &str, uses: u64, limit: u64) -> Result<()> {
    one(
        connection,
        "UPDATE generations SET uses = uses + ?2
         WHERE id = ?1 AND state = 'active' AND uses + ?2 <= ?3",
        params![id, number(uses), number(limit)],
        Subject::Generation,
    )
}

/// Keeps a record by which the generation's end can be proven.
pub(super) fn keep_sample(connection: &Connection, id: &str, sample: &[u8]) -> Result<()> {
    one(
        connection,
        "UPDATE generations SET sample = ?2, uses = uses + 1 WHERE id = ?1",
        params![id, sample],
        Subject::Generation,
    )
}

/// Marks a retiring generation that nothing needs any more.
pub(super) fn destroy(connection: &Connection, id: &str) -> Result<()> {
    for column in SealedColumn::ALL {
        if needs(connection, column, id)? {
            return Err(STALE);
        }
    }
    one(
        connection,
        "UPDATE generations SET state = 'destroyed' WHERE id = ?1 AND state = 'retiring'",
        [id],
        Subject::Generation,
    )
}

/// Says when a marked generation was found to be gone, and whether its sample was tried.
pub(super) fn destroyed(
    connection: &Connection,
    id: &str,
    at: Timestamp,
    tried: bool,
) -> Result<()> {
    one(
        connection,
        "UPDATE generations SET destroyed_at = ?2, tried = ?3
         WHERE id = ?1 AND state = 'destroyed'",
        params![id, at.millis(), tried],
        Subject::Generation,
    )
}

fn needs(connection: &Connection, column: SealedColumn, id: &str) -> Result<bool> {
    let Names {
        table, generation, ..
    } = column.names();
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {table} WHERE {generation} = ?1)");
    let mut statement = connection.prepare_cached(&sql).map_err(database)?;
    statement
        .query_row([id], |row| row.get(0))
        .map_err(database)
}

/// A seal is kept only if its generation is active in the same transaction: one that another
/// process has retired meanwhile would escape the sweep.
pub(super) fn require_active(connection: &Connection, generation: &str) -> Result<()> {
    if is_active(connection, generation)? {
        return Ok(());
    }
    Err(STALE)
}

fn is_active(connection: &Connection, generation: &str) -> Result<bool> {
    let sql = "SELECT 1 FROM generations WHERE id = ?1 AND state = 'active'";
    let mut statement = connection.prepare_cached(sql).map_err(database)?;
    statement.exists([generation]).map_err(database)
}

/// The same for a row that is changed at a version: a seal that it has had before may stay.
pub(super) fn require_active_if_new(
    connection: &Connection,
    column: SealedColumn,
    id: &str,
    version: i64,
    sealed: Option<&SealedText>,
) -> Result<()> {
    let Some(new) = sealed else { return Ok(()) };
    if is_active(connection, &new.generation)? {
        return Ok(());
    }
    let Names { table, sealed, .. } = column.names();
    let sql = format!("SELECT {sealed} IS ?3 FROM {table} WHERE id = ?1 AND version = ?2");
    let mut statement = connection.prepare_cached(&sql).map_err(database)?;
    let same: Option<bool> = statement
        .query_row(params![id, version, new.bytes], |row| row.get(0))
        .optional()
        .map_err(database)?;
    // A row that is not there at that version is the conflict of the change itself.
    if same.unwrap_or(true) {
        Ok(())
    } else {
        Err(STALE)
    }
}

/// Puts new seals in the place of old ones. A row that is gone or was sealed anew meanwhile is
/// left as it is.
pub(super) fn reseal(
    connection: &Connection,
    column: SealedColumn,
    from: &str,
    to: &str,
    rows: &[ResealedRow],
) -> Result<()> {
    require_active(connection, to)?;
    let Names {
        table,
        id,
        sealed,
        generation,
        bump,
        ..
    } = column.names();
    let sql = format!(
        "UPDATE {table} SET {sealed} = ?1, {generation} = ?2{bump}
         WHERE rowid = ?3 AND {id} = ?4 AND {generation} = ?5"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(database)?;
    for row in rows {
        statement
            .execute(params![row.bytes, to, row.place, row.id, from])
            .map_err(database)?;
    }
    Ok(())
}

pub(super) fn generations(connection: &Connection) -> Result<Vec<GenerationRow>> {
    many(
        connection,
        "SELECT * FROM generations ORDER BY state <> 'active', created_at DESC, id",
        [],
        |row| {
            Ok(GenerationRow {
                id: row.get("id")?,
                state: word(row, "state", GenerationState::parse)?,
                uses: u64::try_from(row.get::<_, i64>("uses")?)
                    .map_err(|_| ReadError::Unreadable("uses"))?,
                created_at: time(row, "created_at")?,
                retired_at: time_if_any(row, "retired_at")?,
                destroyed_at: time_if_any(row, "destroyed_at")?,
                tried: row.get("tried")?,
                sample: row.get("sample")?,
            })
        },
    )
}

pub(super) fn sealed(
    connection: &Connection,
    column: SealedColumn,
    by: &str,
    after: i64,
    limit: u32,
) -> Result<Vec<SealedRow>> {
    let Names {
        table,
        id,
        sealed,
        generation,
        provider,
        merchant,
        ..
    } = column.names();
    let sql = format!(
        "SELECT rowid, {id}, account, {provider}, {merchant}, {sealed} FROM {table}
         WHERE {generation} = ?1 AND rowid > ?2 ORDER BY rowid LIMIT ?3"
    );
    many(connection, &sql, params![by, after, limit], sealed_row)
}

fn sealed_row(row: &Row<'_>) -> Read<SealedRow> {
    Ok(SealedRow {
        place: row.get(0)?,
        id: row.get(1)?,
        account: row.get(2)?,
        provider: row.get(3)?,
        merchant: row.get(4)?,
        bytes: row.get(5)?,
    })
}

/// How much each generation has sealed of what there is, column by column.
pub(super) fn count_sealed(connection: &Connection) -> Result<Vec<(SealedColumn, String, u64)>> {
    let mut counts = Vec::new();
    for column in SealedColumn::ALL {
        let Names {
            table, generation, ..
        } = column.names();
        let sql = format!(
            "SELECT {generation}, count(*) FROM {table} WHERE {generation} IS NOT NULL
             GROUP BY {generation}"
        );
        counts.extend(many(connection, &sql, [], |row| {
            Ok((column, row.get(0)?, count(row, 1)?))
        })?);
    }
    Ok(counts)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
