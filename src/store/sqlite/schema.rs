//! The live schema, and what stands in a column of it, whatever the column is for.

use rusqlite::{Connection, OptionalExtension as _};

use super::database;
use super::read::many;
use crate::store::{Result, StoredColumn, StoredValue};

/// Every column of every table, but SQLite's own.
pub(super) fn columns(connection: &Connection) -> Result<Vec<StoredColumn>> {
    many(
        connection,
        "SELECT t.name, c.name FROM pragma_table_list t, pragma_table_xinfo(t.name) c
         WHERE t.schema = 'main' AND t.type <> 'view' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         ORDER BY t.name, c.cid",
        [],
        |row| {
            Ok(StoredColumn {
                table: row.get(0)?,
                name: row.get(1)?,
            })
        },
    )
}

/// Values that are there, as bytes; numbers as their digits. By row id where the table has one, so
/// that a large table is not walked again for each batch.
pub(super) fn values(
    connection: &Connection,
    column: &StoredColumn,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredValue>> {
    let (table, name) = (quoted(&column.table), quoted(&column.name));
    let value = format!(
        "CASE typeof({name}) WHEN 'blob' THEN {name} ELSE CAST(CAST({name} AS TEXT) AS BLOB) END"
    );
    let sql = if has_row_id(connection, &column.table)? {
        format!(
            "SELECT rowid, {value} FROM {table} WHERE rowid > ?1 AND {name} IS NOT NULL
             ORDER BY rowid LIMIT ?2"
        )
    } else {
        format!(
            "SELECT row_number() OVER () + ?1, {value} FROM
                 (SELECT {name} FROM {table} WHERE {name} IS NOT NULL LIMIT ?2 OFFSET ?1)"
        )
    };
    many(connection, &sql, (after, limit), |row| {
        Ok(StoredValue {
            place: row.get(0)?,
            bytes: row.get(1)?,
        })
    })
}

fn has_row_id(connection: &Connection, table: &str) -> Result<bool> {
    let question = "SELECT NOT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
    let found = connection.query_row(question, [table], |row| row.get(0));
    Ok(found.optional().map_err(database)?.unwrap_or(true))
}

/// A name as SQL has it, whatever it holds: whoever can write to the file chooses it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
