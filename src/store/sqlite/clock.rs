//! Steps of the machine's clock as SQL.

use std::time::Duration;

use rusqlite::{Connection, params};

use cardless_contract::Timestamp;

use super::apply::{execute, one};
use super::read::{maybe, time, time_if_any};
use crate::store::{ClockSeen, Result, Subject};

/// Two processes that notice one step do so within this time, in milliseconds.
const SAME_STEP_MILLIS: i64 = 300_000;

/// They measure it alike to within this, in milliseconds: one that starts knows to within a minute or two
/// what the clock showed before.
const SAME_LENGTH_MILLIS: i64 = 120_000;

/// What has ended does not wait for a time any more.
const OPEN_PAYMENTS: &str = "step <> 'settled'";
const OPEN_OPERATIONS: &str = "state NOT IN ('succeeded', 'failed')";
const OPEN_SETUPS: &str = "state IN ('beginning', 'awaiting_customer')";

/// Remembers a step. A conflict if another process has done so already, after the step that is known.
pub(super) fn remember(
    connection: &Connection,
    at: Timestamp,
    millis: i64,
    known: i64,
) -> Result<()> {
    one(
        connection,
        "INSERT INTO clock_steps (at, millis) SELECT ?1, ?2 WHERE NOT EXISTS (
             SELECT 1 FROM clock_steps
             WHERE abs(at - ?1) < ?3 AND abs(millis - ?2) < ?4 AND rowid > ?5)",
        params![
            at.millis(),
            millis,
            SAME_STEP_MILLIS,
            SAME_LENGTH_MILLIS,
            known
        ],
        Subject::Clock,
    )
}

/// The number of the latest step.
pub(super) fn latest_step(connection: &Connection) -> Result<i64> {
    let latest = maybe(
        connection,
        "SELECT coalesce(max(rowid), 0) AS latest FROM clock_steps",
        [],
        |row| Ok(row.get("latest")?),
    )?;
    Ok(latest.unwrap_or(0))
}

/// Reckons with a step back: what was sent is older than the clock says, and no older time is put
/// off by it. All of what is open is taken for older, since nobody knows for how long the clock was
/// wrong.
pub(super) fn back(
    connection: &Connection,
    at: Timestamp,
    millis: i64,
    sent_by: Timestamp,
    accepted_by: Timestamp,
) -> Result<()> {
    let payments = format!(
        "UPDATE payments SET first_sent_at = min(first_sent_at + ?1, ?3),
             last_sent_at = min(last_sent_at, ?2), accepted_at = min(accepted_at + ?1, ?4),
             next_at = next_at + ?1, version = version + 1
         WHERE {OPEN_PAYMENTS}"
    );
    let (at, sent_by) = (at.millis(), sent_by.millis());
    let times = params![millis, at, sent_by, accepted_by.millis()];
    execute(connection, &payments, times, Subject::Clock)?;
    let operations = format!(
        "UPDATE operations SET first_sent_at = min(first_sent_at + ?1, ?3),
             last_sent_at = min(last_sent_at, ?2), next_at = next_at + ?1, version = version + 1
         WHERE {OPEN_OPERATIONS}"
    );
    let times = params![millis, at, sent_by];
    execute(connection, &operations, times, Subject::Clock)?;
    // Keys that were made by a clock that was ahead are of now.
    let keys = "UPDATE exchange_generations SET created_at = ?1 WHERE created_at > ?1";
    execute(connection, keys, [at], Subject::Clock)?;
    let setups = format!(
        "UPDATE setups SET next_at = next_at + ?1, version = version + 1 WHERE {OPEN_SETUPS}"
    );
    execute(connection, &setups, [millis], Subject::Clock)?;
    Ok(())
}

/// Reckons with a step forward, known or feared: nothing that was sent is older than the step, so that
/// no answer proves too early that it never arrived. Nothing is feared of the clock then.
pub(super) fn forward(connection: &Connection, at: Timestamp) -> Result<()> {
    for (table, open) in [("payments", OPEN_PAYMENTS), ("operations", OPEN_OPERATIONS)] {
        let sql = format!(
            "UPDATE {table} SET last_sent_at = ?1, version = version + 1
             WHERE last_sent_at < ?1 AND {open}"
        );
        execute(connection, &sql, [at.millis()], Subject::Clock)?;
    }
    let sql = "UPDATE clock_seen SET may_be_ahead = 0";
    execute(connection, sql, [], Subject::Clock).map(drop)
}

/// Whoever is at something is at it for no longer than this.
pub(super) fn limit_leases(connection: &Connection, by: Timestamp) -> Result<()> {
    execute(
        connection,
        "UPDATE event_delivery SET lease_until = ?1, version = version + 1 WHERE lease_until > ?1",
        [by.millis()],
        Subject::Clock,
    )?;
    for table in ["payments", "operations", "setups", "erasures"] {
        let sql = format!(
            "UPDATE {table} SET lease_until = ?1, next_at = min(next_at, ?1), version = version + 1
             WHERE lease_until > ?1 AND next_at IS NOT NULL"
        );
        execute(connection, &sql, [by.millis()], Subject::Clock)?;
    }
    Ok(())
}

/// What is open, or waits to be revoked or erased, is looked at by then.
pub(super) fn limit_open(connection: &Connection, by: Timestamp) -> Result<()> {
    for (table, open) in [
        ("payments", OPEN_PAYMENTS),
        ("operations", OPEN_OPERATIONS),
        ("setups", OPEN_SETUPS),
        ("payment_methods", "true"),
        ("erasures", "true"),
    ] {
        let sql = format!(
            "UPDATE {table} SET next_at = ?1, version = version + 1 WHERE next_at > ?1 AND {open}"
        );
        execute(connection, &sql, [by.millis()], Subject::Clock)?;
    }
    Ok(())
}

/// A customer's time at the page of a setup that is open is over by then.
pub(super) fn limit_customers(connection: &Connection, by: Timestamp) -> Result<()> {
    let sql = format!(
        "UPDATE setups SET expires_at = ?1, version = version + 1
         WHERE expires_at > ?1 AND next_at IS NOT NULL AND {OPEN_SETUPS}"
    );
    execute(connection, &sql, [by.millis()], Subject::Clock).map(drop)
}

/// What has ended is looked at by then, but for holds whose end their provider has told.
pub(super) fn limit_ended(connection: &Connection, by: Timestamp) -> Result<()> {
    let sql = format!(
        "UPDATE payments SET next_at = ?1, version = version + 1
         WHERE next_at > ?1 AND next_at > coalesce(expires_at, 0) AND NOT {OPEN_PAYMENTS}"
    );
    execute(connection, &sql, [by.millis()], Subject::Clock).map(drop)
}

/// An event that waits for its next attempt has it by then.
pub(super) fn limit_events(connection: &Connection, by: Timestamp) -> Result<()> {
    let sql = "UPDATE held_topics SET next_at = ?1 WHERE next_at > ?1";
    execute(connection, sql, [by.millis()], Subject::Clock).map(drop)
}

/// When the latest request of what is open was marked as sent.
pub(super) fn latest_sent(connection: &Connection) -> Result<Option<Timestamp>> {
    let latest = maybe(
        connection,
        &format!(
            "SELECT max(at) AS at FROM (
                 SELECT max(last_sent_at) AS at FROM payments WHERE {OPEN_PAYMENTS}
                 UNION ALL SELECT max(last_sent_at) FROM operations
                     WHERE state IN ('pending', 'unknown')
                 UNION ALL SELECT max(last_sent_at) FROM operations WHERE state = 'parked')"
        ),
        [],
        |row| time_if_any(row, "at"),
    )?;
    Ok(latest.flatten())
}

/// What the clock showed when it was last looked at.
pub(super) fn seen(connection: &Connection) -> Result<Option<ClockSeen>> {
    maybe(
        connection,
        "SELECT at, may_be_ahead FROM clock_seen ORDER BY at DESC LIMIT 1",
        [],
        |row| {
            let ahead: i64 = row.get("may_be_ahead")?;
            Ok(ClockSeen {
                at: time(row, "at")?,
                may_be_ahead: Duration::from_millis(u64::try_from(ahead).unwrap_or(0)),
            })
        },
    )
}

/// Remembers what the clock shows, also where that is earlier than before. How far it may be ahead was
/// reckoned from what was seen `since`: if that is another now, somebody has looked in between and said so
/// itself, or has held what is open.
pub(super) fn see(
    connection: &Connection,
    clock: ClockSeen,
    since: Option<ClockSeen>,
) -> Result<()> {
    let seen = seen(connection)?;
    let before = seen.map_or(Duration::ZERO, |seen| seen.may_be_ahead);
    let ahead = if seen == since {
        before.max(clock.may_be_ahead)
    } else {
        before
    };
    let ahead = ahead.as_millis();
    execute(connection, "DELETE FROM clock_seen", [], Subject::Clock)?;
    one(
        connection,
        "INSERT INTO clock_seen (at, may_be_ahead) VALUES (?1, ?2)",
        params![clock.at.millis(), i64::try_from(ahead).unwrap_or(i64::MAX)],
        Subject::Clock,
    )
}

/// The sum of the steps forward after `since` and until `until`.
pub(super) fn stepped_ahead(
    connection: &Connection,
    since: Timestamp,
    until: Timestamp,
) -> Result<Duration> {
    let millis: Option<i64> = maybe(
        connection,
        "SELECT coalesce(sum(millis), 0) AS millis FROM clock_steps
         WHERE at > ?1 AND at <= ?2 AND millis > 0",
        params![since.millis(), until.millis()],
        |row| Ok(row.get("millis")?),
    )?;
    Ok(Duration::from_millis(
        millis
            .and_then(|millis| u64::try_from(millis).ok())
            .unwrap_or(0),
    ))
}
