//! At which merchant of each provider everything is, as SQL.

use rusqlite::{Connection, params};

use super::apply::one;
use super::read;
use crate::store::{MerchantRow, Result, StoreError, Subject};

/// Counts what is open and changes the row in one transaction: nothing begins in between.
pub(super) fn set(connection: &Connection, row: &MerchantRow) -> Result<()> {
    if let Some(before) = read::merchant(connection, &row.provider)?
        && !before.fits(&row.merchant, row.mode.as_deref())
        && read::count_open_at(connection, &row.provider, &before.merchant)? > 0
    {
        return Err(StoreError::Conflict(Subject::Merchant));
    }
    one(
        connection,
        "INSERT INTO merchants (provider, merchant, mode, since) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (provider) DO UPDATE SET merchant = ?2, mode = ?3, since = ?4",
        params![row.provider, row.merchant, row.mode, row.since.millis()],
        Subject::Merchant,
    )
}

pub(super) fn require(
    connection: &Connection,
    provider: &str,
    merchant: &str,
    mode: &str,
) -> Result<()> {
    match read::merchant(connection, provider)? {
        Some(row) if !row.fits(merchant, Some(mode)) => {
            Err(StoreError::Conflict(Subject::Merchant))
        }
        Some(_) | None => Ok(()),
    }
}
