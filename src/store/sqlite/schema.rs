//! The live schema, and what stands in a column of it, whatever the column is for.

use rusqlite::{Connection, OptionalExtension as _};

use super::database;
use super::read::many;
use crate::store::{Result, StoredColumn, StoredValue};

/// Every column of every table, but SQLite's own.
pub(super) fn columns(connection: &Connection) -> Result<Vec<StoredColumn>> {
    columns_of(connection, false)
}

/// Every column of SQLite's own tables.
pub(super) fn own_columns(connection: &Connection) -> Result<Vec<StoredColumn>> {
    columns_of(connection, true)
}

fn columns_of(connection: &Connection, own: bool) -> Result<Vec<StoredColumn>> {
    many(
        connection,
        "SELECT t.name, c.name FROM pragma_table_list t, pragma_table_xinfo(t.name) c
         WHERE t.schema = 'main' AND t.type <> 'view'
             AND (t.name LIKE 'sqlite\\_%' ESCAPE '\\') = ?1
         ORDER BY t.name, c.cid",
        [own],
        |row| {
            Ok(StoredColumn {
                table: row.get(0)?,
                name: row.get(1)?,
            })
        },
    )
}

/// Values that are there, as bytes; numbers as their digits, one with a fraction also rounded, since
/// a long one is written with an exponent. By row id where the table has one, so that a large table is
/// not walked again for each batch; row ids may be negative.
pub(super) fn values(
    connection: &Connection,
    column: &StoredColumn,
    after: i64,
    limit: u32,
) -> Result<Vec<StoredValue>> {
    let (table, name) = (quoted(&column.table), quoted(&column.name));
    // The smallest row id of all is as good as any.
    let first = if after == i64::MIN { ">=" } else { ">" };
    let value = format!(
        "CASE typeof({name}) WHEN 'blob' THEN {name}
             WHEN 'real' THEN CAST({name} || ' | ' || printf('%.0f', {name}) AS BLOB)
             ELSE CAST(CAST({name} AS TEXT) AS BLOB) END"
    );
    let sql = match row_id(connection, &column.table)? {
        Some(id) => format!(
            "SELECT {id}, {value} FROM {table}
             WHERE {id} {first} ?1 AND {name} IS NOT NULL ORDER BY {id} LIMIT ?2"
        ),
        None => format!(
            "SELECT row_number() OVER () + max(?1, 0), {value} FROM
                 (SELECT {name} FROM {table} WHERE {name} IS NOT NULL LIMIT ?2 OFFSET max(?1, 0))"
        ),
    };
    many(connection, &sql, (after, limit), |row| {
        Ok(StoredValue {
            place: row.get(0)?,
            bytes: row.get(1)?,
        })
    })
}

/// What the row ids of a table are called, if it has any: one of its own columns may take a name away.
fn row_id(connection: &Connection, table: &str) -> Result<Option<&'static str>> {
    let question = "SELECT NOT wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1";
    let found = connection.query_row(question, [table], |row| row.get(0));
    if !found.optional().map_err(database)?.unwrap_or(true) {
        return Ok(None);
    }
    let question = "SELECT lower(name) FROM pragma_table_xinfo(?1)";
    let taken: Vec<String> = many(connection, question, [table], |row| Ok(row.get(0)?))?;
    let names = ["rowid", "_rowid_", "oid"].into_iter();
    let mut free = names.filter(|name| !taken.iter().any(|taken| taken == name));
    Ok(free.next())
}

/// A name as SQL has it, whatever it holds: whoever can write to the file chooses it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
