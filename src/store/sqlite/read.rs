//! Questions as SQL, and rows as types. A row that can't be read is an error, never a guess.

use cardless_contract::{Currency, Money, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use super::database;
use crate::store::{
    AccountRow, CaptureText, DeadEventRow, DeliveryRow, Due, DueRow, EventRow, HeldTopicRow,
    InitiatorText, KeyRow, LastAnswerRow, MAX_METHODS, MerchantRow, MethodRow, MethodState,
    OperationRow, OperationState, OperationType, PaymentFilter, PaymentRow, PaymentState,
    RecordRow, ResolutionRow, Result, SealedText, SetupRow, SetupState, Step, StoreError,
};

pub(super) fn account(connection: &Connection, account: &str) -> Result<Option<AccountRow>> {
    maybe(
        connection,
        "SELECT * FROM accounts WHERE account = ?1",
        [account],
        |row| {
            Ok(AccountRow {
                account: row.get("account")?,
                sealed_id: row.get("sealed_id")?,
                generation: row.get("generation")?,
                restricted: row.get("restricted")?,
                created_at: time(row, "created_at")?,
            })
        },
    )
}

pub(super) fn record(connection: &Connection, id: &str) -> Result<Option<RecordRow>> {
    maybe(
        connection,
        "SELECT * FROM records WHERE id = ?1",
        [id],
        |row| {
            Ok(RecordRow {
                id: row.get("id")?,
                account: row.get("account")?,
                provider: row.get("provider")?,
                merchant: row.get("merchant")?,
                generation: row.get("generation")?,
                sealed: row.get("sealed")?,
                created_at: time(row, "created_at")?,
            })
        },
    )
}

pub(super) fn method(connection: &Connection, id: &str) -> Result<Option<MethodRow>> {
    maybe(
        connection,
        "SELECT * FROM payment_methods WHERE id = ?1",
        [id],
        method_row,
    )
}

pub(super) fn methods(connection: &Connection, account: &str) -> Result<Vec<MethodRow>> {
    many(
        connection,
        "SELECT * FROM (SELECT * FROM payment_methods WHERE account = ?1
             ORDER BY is_default DESC, state = 'active' DESC, created_at, id LIMIT ?2)
         ORDER BY created_at, id",
        params![account, MAX_METHODS],
        method_row,
    )
}

pub(super) fn setup(connection: &Connection, id: &str) -> Result<Option<SetupRow>> {
    maybe(
        connection,
        "SELECT * FROM setups WHERE id = ?1",
        [id],
        setup_row,
    )
}

pub(super) fn setup_by_reference(
    connection: &Connection,
    provider: &str,
    reference: &str,
) -> Result<Option<SetupRow>> {
    maybe(
        connection,
        "SELECT * FROM setups WHERE provider = ?1 AND reference = ?2",
        [provider, reference],
        setup_row,
    )
}

pub(super) fn payment(connection: &Connection, id: &str) -> Result<Option<PaymentRow>> {
    maybe(
        connection,
        "SELECT * FROM payments WHERE id = ?1",
        [id],
        payment_row,
    )
}

pub(super) fn payment_by_reservation(
    connection: &Connection,
    provider: &str,
    reservation: &str,
) -> Result<Option<PaymentRow>> {
    maybe(
        connection,
        "SELECT * FROM payments WHERE provider = ?1 AND reservation = ?2",
        [provider, reservation],
        payment_row,
    )
}

pub(super) fn payment_by_object(
    connection: &Connection,
    provider: &str,
    object: &str,
    kind: Option<OperationType>,
) -> Result<Option<PaymentRow>> {
    maybe(
        connection,
        "SELECT * FROM payments WHERE id IN (
             SELECT id FROM payments WHERE provider = ?1 AND authorization_id = ?2 AND ?3 IS NULL
             UNION SELECT id FROM payments WHERE provider = ?1 AND capture_object = ?2
                 AND (?3 IS NULL OR ?3 = 'capture')
             UNION SELECT payment FROM operations WHERE provider = ?1 AND object = ?2
                 AND (?3 IS NULL OR kind = ?3))
         LIMIT 1",
        params![provider, object, kind.map(OperationType::as_str)],
        payment_row,
    )
}

pub(super) fn payments(connection: &Connection, filter: &PaymentFilter) -> Result<Vec<PaymentRow>> {
    let (before, id) = match &filter.before {
        Some((at, id)) => (at.millis(), id.as_str()),
        None => (i64::MAX, ""),
    };
    // Only the conditions that are asked for, so that each finds its index. Every parameter stands
    // in the statement, since SQLite counts them by their highest number.
    let account = match filter.account {
        Some(_) => "account = ?1",
        None => "?1 IS NULL",
    };
    let state = match filter.state {
        None => "?6 IS NULL",
        Some(PaymentState::Parked) => {
            "?6 = 'parked' AND id IN (SELECT id FROM payments WHERE state = 'parked'
                 UNION SELECT payment FROM operations WHERE state = 'parked')"
        }
        Some(_) => "state = ?6",
    };
    let sql = format!(
        "SELECT * FROM payments
         WHERE {account} AND (?2 IS NULL OR reference = ?2) AND {state}
           AND (created_at < ?3 OR (created_at = ?3 AND id < ?4))
         ORDER BY created_at DESC, id DESC LIMIT ?5"
    );
    many(
        connection,
        &sql,
        params![
            filter.account,
            filter.reference,
            before,
            id,
            filter.limit,
            filter.state.map(PaymentState::as_str)
        ],
        payment_row,
    )
}

pub(super) fn count_without_reservation(
    connection: &Connection,
) -> Result<Vec<(PaymentState, Option<String>, u64)>> {
    many(
        connection,
        "SELECT state, failure, count(*) FROM payments WHERE reservation IS NULL
         GROUP BY state, failure ORDER BY state, failure",
        [],
        |row| {
            let state = word(row, "state", PaymentState::parse)?;
            Ok((state, row.get(1)?, count(row, 2)?))
        },
    )
}

pub(super) fn payments_with_reservation(
    connection: &Connection,
    after: &str,
    limit: u32,
) -> Result<Vec<PaymentRow>> {
    many(
        connection,
        "SELECT * FROM payments WHERE id > ?1 AND reservation IS NOT NULL ORDER BY id LIMIT ?2",
        params![after, limit],
        payment_row,
    )
}

pub(super) fn count_parked(connection: &Connection) -> Result<(u64, u64)> {
    let counts = maybe(
        connection,
        "SELECT (SELECT count(*) FROM payments WHERE state = 'parked'),
                (SELECT count(*) FROM operations WHERE state = 'parked')",
        [],
        |row| Ok((count(row, 0)?, count(row, 1)?)),
    )?;
    Ok(counts.unwrap_or((0, 0)))
}

pub(super) fn resolutions(connection: &Connection, payment: &str) -> Result<Vec<ResolutionRow>> {
    many(
        connection,
        "SELECT * FROM resolutions WHERE payment = ?1 ORDER BY seq",
        [payment],
        |row| {
            Ok(ResolutionRow {
                account: row.get("account")?,
                payment: row.get("payment")?,
                object: row.get("object")?,
                wanted: row.get("wanted")?,
                ended: row.get("ended")?,
                decided_by: row.get("decided_by")?,
                provider_said: row.get("provider_said")?,
                person: row.get("person")?,
                note: row.get("note")?,
                at: time(row, "at")?,
            })
        },
    )
}

pub(super) fn count_payments(connection: &Connection, account: &str) -> Result<(u64, u64)> {
    let counts = maybe(
        connection,
        "SELECT count(*), coalesce(sum(step <> 'settled'), 0) FROM payments WHERE account = ?1",
        [account],
        |row| Ok((count(row, 0)?, count(row, 1)?)),
    )?;
    Ok(counts.unwrap_or((0, 0)))
}

pub(super) fn operation(connection: &Connection, id: &str) -> Result<Option<OperationRow>> {
    maybe(
        connection,
        "SELECT * FROM operations WHERE id = ?1",
        [id],
        operation_row,
    )
}

pub(super) fn operations(connection: &Connection, payment: &str) -> Result<Vec<OperationRow>> {
    many(
        connection,
        "SELECT * FROM operations WHERE payment = ?1 ORDER BY created_at, rowid",
        [payment],
        operation_row,
    )
}

pub(super) fn has_webhook(connection: &Connection, provider: &str, event: &str) -> Result<bool> {
    let found = maybe(
        connection,
        "SELECT 1 FROM webhooks WHERE provider = ?1 AND event = ?2",
        [provider, event],
        |_| Ok(()),
    )?;
    Ok(found.is_some())
}

pub(super) fn key(connection: &Connection, client: &str, key: &[u8]) -> Result<Option<KeyRow>> {
    maybe(
        connection,
        "SELECT * FROM request_keys WHERE client = ?1 AND key = ?2",
        params![client, key],
        |row| {
            Ok(KeyRow {
                client: row.get("client")?,
                key: row.get("key")?,
                digest: row.get("digest")?,
                object: row.get("object")?,
                answer: row.get("answer")?,
                erased: row.get("erased")?,
                created_at: time(row, "created_at")?,
            })
        },
    )
}

/// What is due, but at the providers of a JSON list.
pub(super) fn due(
    connection: &Connection,
    now: Timestamp,
    without: &str,
    limit: u32,
) -> Result<Vec<DueRow>> {
    let elsewhere = "provider IN (SELECT value FROM json_each(?3))";
    many(
        connection,
        &format!(
            "SELECT kind, id, provider FROM (
                 SELECT *, row_number() OVER (PARTITION BY provider ORDER BY next_at, id) AS place FROM (
                     SELECT 'payment' AS kind, id, provider, next_at FROM payments
                         WHERE next_at <= ?1 AND lease_until <= ?1 AND NOT {elsewhere}
                     UNION ALL SELECT 'operation', id, provider, next_at FROM operations
                         WHERE next_at <= ?1 AND lease_until <= ?1 AND NOT {elsewhere}
                     UNION ALL SELECT 'setup', id, provider, next_at FROM setups
                         WHERE next_at <= ?1 AND lease_until <= ?1 AND NOT {elsewhere}
                     UNION ALL SELECT 'revocation', id, provider, next_at FROM payment_methods
                         WHERE next_at <= ?1 AND NOT {elsewhere}
                     UNION ALL SELECT 'erasure', id, NULL, next_at FROM erasures
                         WHERE next_at <= ?1 AND lease_until <= ?1 AND json_array_length(?3) = 0))
             WHERE place <= ?2 ORDER BY next_at, id"
        ),
        params![now.millis(), limit, without],
        |row| {
            Ok(DueRow {
                due: due_row(row)?,
                provider: row.get("provider")?,
            })
        },
    )
}

pub(super) fn open(connection: &Connection, after: &str, limit: u32) -> Result<Vec<Due>> {
    many(
        connection,
        "SELECT kind, id FROM (
             SELECT 'payment' AS kind, id FROM payments
                 WHERE step <> 'settled' AND (step <> 'linking' OR next_at IS NOT NULL)
             UNION ALL SELECT 'operation', id FROM operations WHERE state IN ('pending', 'unknown')
             UNION ALL SELECT 'setup', id FROM setups
                 WHERE state IN ('beginning', 'awaiting_customer')
             UNION ALL SELECT 'revocation', id FROM payment_methods WHERE state = 'revoking'
             UNION ALL SELECT 'erasure', id FROM erasures WHERE next_at IS NOT NULL)
         WHERE id > ?1 ORDER BY id LIMIT ?2",
        params![after, limit],
        due_row,
    )
}

pub(super) fn merchant(connection: &Connection, provider: &str) -> Result<Option<MerchantRow>> {
    maybe(
        connection,
        "SELECT * FROM merchants WHERE provider = ?1",
        [provider],
        |row| {
            Ok(MerchantRow {
                provider: row.get("provider")?,
                merchant: row.get("merchant")?,
                mode: row.get("mode")?,
                since: time(row, "since")?,
            })
        },
    )
}

pub(super) fn count_open_at(
    connection: &Connection,
    provider: &str,
    merchant: &str,
) -> Result<u64> {
    let counted = maybe(
        connection,
        "SELECT (SELECT count(*) FROM payments WHERE step <> 'settled' AND provider = ?1)
              + (SELECT count(*) FROM payments WHERE state IN ('authorized', 'parked')
                     AND step = 'settled' AND provider = ?1)
              + (SELECT count(*) FROM operations WHERE state IN ('pending', 'unknown')
                     AND provider = ?1)
              + (SELECT count(*) FROM operations WHERE state = 'parked' AND provider = ?1)
              + (SELECT count(*) FROM setups WHERE state IN ('beginning', 'awaiting_customer') AND provider = ?1)
              + (SELECT count(*) FROM payment_methods AS method
                     JOIN records ON records.id = method.record
                     WHERE method.state = 'revoking' AND method.provider = ?1
                       AND records.merchant = ?2)",
        [provider, merchant],
        |row| count(row, 0),
    )?;
    Ok(counted.unwrap_or(0))
}

/// Everybody may ask this: the rows themselves are not looked at.
const COUNT_STATES: &str = "SELECT state, count(*) FROM payments GROUP BY state ORDER BY state";

pub(super) fn count_states(connection: &Connection) -> Result<Vec<(PaymentState, u64)>> {
    many(connection, COUNT_STATES, [], |row| {
        Ok((word(row, "state", PaymentState::parse)?, count(row, 1)?))
    })
}

pub(super) fn events(
    connection: &Connection,
    after: i64,
    limit: u32,
) -> Result<Vec<(i64, EventRow)>> {
    many(
        connection,
        "SELECT * FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2",
        params![after, limit],
        event_row,
    )
}

pub(super) fn delivery(connection: &Connection) -> Result<DeliveryRow> {
    let row = maybe(
        connection,
        "SELECT * FROM event_delivery WHERE id = 1",
        [],
        |row| {
            Ok(DeliveryRow {
                delivered: row.get("delivered")?,
                lease_until: time(row, "lease_until")?,
                version: row.get("version")?,
            })
        },
    )?;
    row.ok_or(StoreError::Unreadable("event_delivery"))
}

pub(super) fn held_topics(connection: &Connection) -> Result<Vec<HeldTopicRow>> {
    many(
        connection,
        "SELECT * FROM held_topics ORDER BY seq",
        [],
        |row| {
            Ok(HeldTopicRow {
                topic: row.get("topic")?,
                sequence: row.get("seq")?,
                attempts: row.get("attempts")?,
                next_at: time(row, "next_at")?,
            })
        },
    )
}

pub(super) fn next_event(connection: &Connection, after: i64) -> Result<Option<(i64, EventRow)>> {
    maybe(
        connection,
        "SELECT * FROM events
         WHERE seq > ?1 AND topic NOT IN (SELECT topic FROM held_topics) ORDER BY seq LIMIT 1",
        [after],
        event_row,
    )
}

pub(super) fn next_of_topic(
    connection: &Connection,
    topic: &str,
    after: i64,
    until: i64,
) -> Result<Option<i64>> {
    maybe(
        connection,
        "SELECT seq FROM events WHERE topic = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT 1",
        params![topic, after, until],
        |row| Ok(row.get("seq")?),
    )
}

pub(super) fn last_answer(connection: &Connection, object: &str) -> Result<Option<LastAnswerRow>> {
    maybe(
        connection,
        "SELECT * FROM last_answers WHERE object = ?1",
        [object],
        |row| {
            Ok(LastAnswerRow {
                account: row.get("account")?,
                object: row.get("object")?,
                said: row.get("said")?,
                code: row.get("code")?,
                correlation: row.get("correlation")?,
                at: time(row, "at")?,
            })
        },
    )
}

pub(super) fn dead_events(
    connection: &Connection,
    limit: u32,
) -> Result<Vec<(DeadEventRow, EventRow)>> {
    many(
        connection,
        "SELECT events.*, attempts, dead_at FROM dead_events JOIN events USING (seq)
         ORDER BY seq DESC LIMIT ?1",
        [limit],
        |row| {
            let (sequence, event) = event_row(row)?;
            let dead = DeadEventRow {
                sequence,
                attempts: row.get("attempts")?,
                dead_at: time(row, "dead_at")?,
            };
            Ok((dead, event))
        },
    )
}

pub(super) fn count_undelivered(connection: &Connection) -> Result<(u64, u64)> {
    let counts = maybe(
        connection,
        "SELECT (SELECT count(*) FROM events, event_delivery WHERE seq > delivered)
                 + (SELECT count(*) FROM event_delivery, held_topics AS held
                    JOIN events ON events.seq = held.seq
                        OR events.topic = held.topic AND events.seq > held.seq
                    WHERE events.seq <= delivered),
                (SELECT count(*) FROM dead_events)",
        [],
        |row| Ok((count(row, 0)?, count(row, 1)?)),
    )?;
    counts.ok_or(StoreError::Unreadable("event_delivery"))
}

pub(super) fn event(connection: &Connection, id: &str) -> Result<Option<(i64, EventRow)>> {
    maybe(
        connection,
        "SELECT * FROM events WHERE id = ?1",
        [id],
        event_row,
    )
}

/// What a row gives, or why it can't be read.
pub(super) type Read<T> = std::result::Result<T, ReadError>;

pub(super) enum ReadError {
    Database(rusqlite::Error),
    Unreadable(&'static str),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => database(error),
            ReadError::Unreadable(column) => Self::Unreadable(column),
        }
    }
}

pub(super) fn maybe<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> Read<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(database)?;
    let found = statement
        .query_row(values, |row| Ok(read(row)))
        .optional()
        .map_err(database)?;
    found.transpose().map_err(StoreError::from)
}

pub(super) fn many<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl Fn(&Row<'_>) -> Read<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(database)?;
    let mut rows = statement.query(values).map_err(database)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(database)? {
        found.push(read(row)?);
    }
    Ok(found)
}

pub(super) fn time(row: &Row<'_>, column: &'static str) -> Read<Timestamp> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

pub(super) fn time_if_any(row: &Row<'_>, column: &'static str) -> Read<Option<Timestamp>> {
    Ok(row
        .get::<_, Option<i64>>(column)?
        .map(Timestamp::from_millis))
}

pub(super) fn count(row: &Row<'_>, column: usize) -> Read<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| ReadError::Unreadable("count"))
}

pub(super) fn word<T>(
    row: &Row<'_>,
    column: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Read<T> {
    parse(
        row.get_ref(column)?
            .as_str()
            .map_err(|_| ReadError::Unreadable(column))?,
    )
    .ok_or(ReadError::Unreadable(column))
}

/// An address and its generation stand together or not at all.
fn redirect(row: &Row<'_>) -> Read<Option<SealedText>> {
    let sealed: (Option<Vec<u8>>, Option<String>) =
        (row.get("redirect")?, row.get("redirect_generation")?);
    match sealed {
        (Some(bytes), Some(generation)) => Ok(Some(SealedText { generation, bytes })),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(ReadError::Unreadable("redirect")),
    }
}

fn money(row: &Row<'_>) -> Read<Money> {
    let code: String = row.get("currency")?;
    Currency::from_code(&code)
        .and_then(|currency| Money::new(currency, row.get("amount").unwrap_or(-1)))
        .map_err(|_| ReadError::Unreadable("amount"))
}

fn decline(row: &Row<'_>) -> Read<Option<(String, String, String)>> {
    let category: Option<String> = row.get("decline_category")?;
    match category {
        None => Ok(None),
        Some(category) => Ok(Some((
            category,
            row.get("decline_retry")?,
            row.get("decline_code")?,
        ))),
    }
}

pub(super) fn method_row(row: &Row<'_>) -> Read<MethodRow> {
    Ok(MethodRow {
        id: row.get("id")?,
        handle: row.get("handle")?,
        account: row.get("account")?,
        provider: row.get("provider")?,
        record: row.get("record")?,
        state: word(row, "state", MethodState::parse)?,
        default: row.get("is_default")?,
        created_at: time(row, "created_at")?,
        next_at: time_if_any(row, "next_at")?,
        attempts: row.get("attempts")?,
        version: row.get("version")?,
    })
}

pub(super) fn setup_row(row: &Row<'_>) -> Read<SetupRow> {
    Ok(SetupRow {
        id: row.get("id")?,
        account: row.get("account")?,
        provider: row.get("provider")?,
        state: word(row, "state", SetupState::parse)?,
        return_url: row.get("return_url")?,
        language: row.get("language")?,
        reference: row.get("reference")?,
        redirect: redirect(row)?,
        payment: row.get("payment")?,
        method: row.get("method")?,
        decline: decline(row)?,
        expires_at: time(row, "expires_at")?,
        next_at: time_if_any(row, "next_at")?,
        attempts: row.get("attempts")?,
        lease_until: time(row, "lease_until")?,
        created_at: time(row, "created_at")?,
        version: row.get("version")?,
    })
}

fn payment_row(row: &Row<'_>) -> Read<PaymentRow> {
    let closing_as: Option<String> = row.get("closing_as")?;
    Ok(PaymentRow {
        id: row.get("id")?,
        account: row.get("account")?,
        provider: row.get("provider")?,
        method: row.get("method")?,
        handle: row.get("handle")?,
        setup: row.get("setup")?,
        reference: row.get("reference")?,
        description: row.get("description")?,
        return_url: row.get("return_url")?,
        amount: money(row)?,
        capture: word(row, "capture", CaptureText::parse)?,
        initiator: word(row, "initiator", InitiatorText::parse)?,
        state: word(row, "state", PaymentState::parse)?,
        step: word(row, "step", Step::parse)?,
        closing_as: match closing_as {
            None => None,
            Some(word) => {
                Some(PaymentState::parse(&word).ok_or(ReadError::Unreadable("closing_as"))?)
            }
        },
        reservation: row.get("reservation")?,
        authorization: row.get("authorization_id")?,
        capture_object: row.get("capture_object")?,
        commit_round: row.get("commit_round")?,
        authorized: row.get("authorized")?,
        captured: row.get("captured")?,
        reserved_capture: row.get("reserved_capture")?,
        refunded: row.get("refunded")?,
        reserved_refund: row.get("reserved_refund")?,
        reversed: row.get("reversed")?,
        returned_told: row.get("returned_told")?,
        body_mac: row.get("body_mac")?,
        first_sent_at: time_if_any(row, "first_sent_at")?,
        last_sent_at: time_if_any(row, "last_sent_at")?,
        redirect: redirect(row)?,
        decline: decline(row)?,
        failure: row.get("failure")?,
        reason: row.get("reason")?,
        expires_at: time_if_any(row, "expires_at")?,
        next_at: time_if_any(row, "next_at")?,
        attempts: row.get("attempts")?,
        lease_until: time(row, "lease_until")?,
        created_at: time(row, "created_at")?,
        accepted_at: time(row, "accepted_at")?,
        updated_at: time(row, "updated_at")?,
        version: row.get("version")?,
    })
}

fn operation_row(row: &Row<'_>) -> Read<OperationRow> {
    Ok(OperationRow {
        id: row.get("id")?,
        account: row.get("account")?,
        payment: row.get("payment")?,
        provider: row.get("provider")?,
        kind: word(row, "kind", OperationType::parse)?,
        amount: money(row)?,
        last: row.get("last")?,
        state: word(row, "state", OperationState::parse)?,
        object: row.get("object")?,
        capture_object: row.get("capture_object")?,
        settled_before: row.get("settled_before")?,
        failure: row.get("failure")?,
        first_sent_at: time(row, "first_sent_at")?,
        last_sent_at: time(row, "last_sent_at")?,
        next_at: time_if_any(row, "next_at")?,
        attempts: row.get("attempts")?,
        lease_until: time(row, "lease_until")?,
        created_at: time(row, "created_at")?,
        version: row.get("version")?,
    })
}

pub(super) fn event_row(row: &Row<'_>) -> Read<(i64, EventRow)> {
    let event = EventRow {
        id: row.get("id")?,
        account: row.get("account")?,
        kind: row.get("kind")?,
        object: row.get("object")?,
        replaces: row.get("replaces")?,
        topic: row.get("topic")?,
        at: time(row, "at")?,
    };
    Ok((row.get("seq")?, event))
}

fn due_row(row: &Row<'_>) -> Read<Due> {
    let id: String = row.get("id")?;
    let kind: String = row.get("kind")?;
    match kind.as_str() {
        "payment" => Ok(Due::Payment(id)),
        "operation" => Ok(Due::Operation(id)),
        "setup" => Ok(Due::Setup(id)),
        "revocation" => Ok(Due::Revocation(id)),
        "erasure" => Ok(Due::Erasure(id)),
        _ => Err(ReadError::Unreadable("kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_counted_from_an_index_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::migrate(&mut connection).unwrap();
        let plan: String = connection
            .query_row(&format!("EXPLAIN QUERY PLAN {COUNT_STATES}"), [], |row| {
                row.get("detail")
            })
            .unwrap();
        assert_eq!(plan, "SCAN payments USING COVERING INDEX payments_by_state");
    }
}
