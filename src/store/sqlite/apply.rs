//! Changes as SQL.

use std::time::Duration;

use rusqlite::{Connection, Params, Transaction, named_params, params};

use super::{
    audit, client, clock, database, erasure, exchange, generation, handle, merchant, rotation,
};
use crate::store::{
    AccountRow, Change, ClockSeen, MethodRow, OperationRow, PaymentRow, RecordRow, ResolutionRow,
    Result, SealedColumn, SealedText, SetupRow, StoreError, Subject,
};

/// Applies a batch within a savepoint, so that its failure takes back only itself.
pub(super) fn apply_in_savepoint(transaction: &Transaction<'_>, batch: &[Change]) -> Result<()> {
    transaction
        .execute_batch("SAVEPOINT batch")
        .map_err(database)?;
    let result = apply(transaction, batch);
    if result.is_err() {
        transaction
            .execute_batch("ROLLBACK TO batch")
            .map_err(database)?;
    }
    transaction
        .execute_batch("RELEASE batch")
        .map_err(database)?;
    result
}

/// Applies a batch, in order. The caller's transaction takes back a batch that fails.
pub(super) fn apply(connection: &Connection, batch: &[Change]) -> Result<()> {
    batch
        .iter()
        .try_for_each(|change| apply_one(connection, change))
}

fn apply_one(connection: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::EnsureAccount(row) => ensure_account(connection, row),
        Change::InsertRecord(row) => insert_record(connection, row),
        Change::DeleteRecord(id) => execute(
            connection,
            "DELETE FROM records WHERE id = ?1",
            [id],
            Subject::Method,
        )
        .map(drop),
        Change::InsertMethod(row) => insert_method(connection, row),
        Change::UpdateMethod(row) => update_method(connection, row),
        Change::ReissueHandle {
            method,
            old,
            new,
            ends_at,
        } => handle::reissue(connection, method, old, new, *ends_at),
        Change::DefaultIfNone { account, method } => execute(
            connection,
            "UPDATE payment_methods SET is_default = 1, version = version + 1
             WHERE account = ?1 AND id = ?2 AND NOT EXISTS (
                 SELECT 1 FROM payment_methods WHERE account = ?1 AND is_default = 1)",
            [account, method],
            Subject::Method,
        )
        .map(drop),
        Change::SetDefault { account, method } => set_default(connection, account, method),
        Change::InsertSetup(row) => insert_setup(connection, row),
        Change::UpdateSetup(row) => update_setup(connection, row),
        Change::DeleteSetup(id) => delete(connection, "setups", Subject::Setup, id),
        Change::InsertPayment(row) => insert_payment(connection, row),
        Change::UpdatePayment(row) => update_payment(connection, row),
        Change::DeletePayment(id) => delete(connection, "payments", Subject::Payment, id),
        Change::WakePayment { id, at } => execute(
            connection,
            "UPDATE payments SET next_at = ?2, version = version + 1
             WHERE id = ?1 AND (next_at IS NULL OR next_at > ?2)",
            params![id, at.millis()],
            Subject::Payment,
        )
        .map(drop),
        Change::WakeSetup { id, at } => execute(
            connection,
            "UPDATE setups SET next_at = ?2, version = version + 1
             WHERE id = ?1 AND (next_at IS NULL OR next_at > ?2)
               AND state IN ('beginning', 'awaiting_customer')",
            params![id, at.millis()],
            Subject::Setup,
        )
        .map(drop),
        Change::WakeOperation { id, at } => execute(
            connection,
            "UPDATE operations SET next_at = ?2, version = version + 1
             WHERE id = ?1 AND (next_at IS NULL OR next_at > ?2)
               AND state NOT IN ('succeeded', 'failed')",
            params![id, at.millis()],
            Subject::Operation,
        )
        .map(drop),
        Change::InsertOperation(row) => insert_operation(connection, row),
        Change::UpdateOperation(row) => update_operation(connection, row),
        Change::InsertKey(row) => one(
            connection,
            "INSERT INTO request_keys (client, key, digest, object, answer, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                row.client,
                row.key,
                row.digest,
                row.object,
                row.answer,
                row.created_at.millis()
            ],
            Subject::Key,
        ),
        Change::FinishKey { object, answer } => execute(
            connection,
            "UPDATE request_keys SET answer = ?2 WHERE object = ?1 AND answer IS NULL",
            params![object, answer],
            Subject::Key,
        )
        .map(drop),
        Change::StepClock {
            at,
            millis,
            sent_by,
            accepted_by,
            known,
        } => {
            clock::remember(connection, *at, *millis, *known)?;
            let now = ClockSeen {
                at: *at,
                may_be_ahead: Duration::ZERO,
            };
            clock::see(connection, now, None)?;
            if *millis < 0 {
                clock::back(connection, *at, *millis, *sent_by, *accepted_by)
            } else {
                clock::forward(connection, *at)
            }
        }
        Change::HoldProofs(at) => clock::forward(connection, *at),
        Change::SeeClock { seen, since } => clock::see(connection, *seen, *since),
        Change::LimitWaits {
            leases_by,
            open_by,
            customers_by,
            ended_by,
            events_by,
        } => {
            if let Some(by) = leases_by {
                clock::limit_leases(connection, *by)?;
            }
            clock::limit_open(connection, *open_by)?;
            clock::limit_customers(connection, *customers_by)?;
            clock::limit_ended(connection, *ended_by)?;
            clock::limit_events(connection, *events_by)
        }
        Change::Forget {
            keys_before,
            webhooks_before,
            ended_by,
            events_before,
            undelivered,
            limit,
        } => {
            execute(
                connection,
                "DELETE FROM request_keys WHERE rowid IN (
                     SELECT rowid FROM request_keys WHERE created_at < ?1 LIMIT ?2)",
                params![keys_before.millis(), limit],
                Subject::Key,
            )?;
            execute(
                connection,
                "DELETE FROM webhooks WHERE rowid IN (
                     SELECT rowid FROM webhooks WHERE received_at < ?1 LIMIT ?2)",
                params![webhooks_before.millis(), limit],
                Subject::Webhook,
            )?;
            execute(
                connection,
                "DELETE FROM last_answers WHERE rowid IN (
                     SELECT rowid FROM last_answers WHERE at < ?1 LIMIT ?2)",
                params![keys_before.millis(), limit],
                Subject::Key,
            )?;
            execute(
                connection,
                "DELETE FROM events WHERE seq IN (
                     SELECT seq FROM events WHERE at < ?1
                         AND (?2 OR seq <= (SELECT delivered FROM event_delivery))
                         AND seq NOT IN (SELECT seq FROM dead_events)
                         AND NOT EXISTS (SELECT 1 FROM held_topics AS held
                             WHERE held.seq = events.seq
                                OR held.topic = events.topic AND held.seq < events.seq)
                     ORDER BY at LIMIT ?3)",
                params![events_before.millis(), undelivered, limit],
                Subject::Delivery,
            )?;
            execute(
                connection,
                "DELETE FROM clock_steps WHERE at < ?1",
                [keys_before.millis()],
                Subject::Clock,
            )?;
            handle::forget(connection, *ended_by, *limit)?;
            client::forget(connection, *ended_by)
        }
        Change::InsertEvent(row) => one(
            connection,
            "INSERT INTO events (account, id, kind, object, replaces, topic, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                row.account,
                row.id,
                row.kind,
                row.object,
                row.replaces,
                row.topic,
                row.at.millis()
            ],
            Subject::Payment,
        ),
        Change::UpdateDelivery(row) => one(
            connection,
            "UPDATE event_delivery SET delivered = ?1, lease_until = ?2, version = version + 1
             WHERE id = 1 AND version = ?3",
            params![row.delivered, row.lease_until.millis(), row.version],
            Subject::Delivery,
        ),
        Change::HoldTopic(row) => one(
            connection,
            "INSERT INTO held_topics (topic, seq, attempts, next_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (topic) DO UPDATE SET seq = ?2, attempts = ?3, next_at = ?4",
            params![row.topic, row.sequence, row.attempts, row.next_at.millis()],
            Subject::Delivery,
        ),
        Change::ReleaseTopic(topic) => execute(
            connection,
            "DELETE FROM held_topics WHERE topic = ?1",
            [topic],
            Subject::Delivery,
        )
        .map(drop),
        Change::InsertDeadEvent(row) => one(
            connection,
            "INSERT INTO dead_events (seq, attempts, dead_at) VALUES (?1, ?2, ?3)",
            params![row.sequence, row.attempts, row.dead_at.millis()],
            Subject::Delivery,
        ),
        Change::RequireUnrestricted { account } => {
            erasure::require_unrestricted(connection, account)
        }
        Change::RequireActive { method } => handle::require_active(connection, method),
        Change::SetRestricted {
            account,
            restricted,
        } => erasure::restrict(connection, account, *restricted),
        Change::RevokeMethods { account, at } => erasure::revoke_methods(connection, account, *at),
        Change::InsertErasure(row) => erasure::insert(connection, row),
        Change::UpdateErasure(row) => erasure::update(connection, row),
        Change::EraseAccount(erase) => erasure::erase(connection, erase),
        Change::AppendAudit(entry) => audit::append(connection, entry),
        Change::DeleteDeadEvent(sequence) => one(
            connection,
            "DELETE FROM dead_events WHERE seq = ?1",
            [sequence],
            Subject::Delivery,
        ),
        Change::SetMerchant(row) => merchant::set(connection, row),
        Change::RequireMerchant {
            provider,
            merchant,
            mode,
        } => merchant::require(connection, provider, merchant, mode),
        // An account that is erased meanwhile is not named again.
        Change::KeepAnswer(row) => execute(
            connection,
            "INSERT INTO last_answers (account, object, said, code, correlation, at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6
             WHERE EXISTS (SELECT 1 FROM accounts WHERE account = ?1)
             ON CONFLICT (object) DO UPDATE SET said = ?3, code = ?4, correlation = ?5, at = ?6",
            params![
                row.account,
                row.object,
                row.said,
                row.code,
                row.correlation,
                row.at.millis()
            ],
            Subject::Payment,
        )
        .map(drop),
        Change::InsertResolution(row) => insert_resolution(connection, row),
        Change::InsertWebhook(row) => one(
            connection,
            "INSERT INTO webhooks (provider, event, received_at) VALUES (?1, ?2, ?3)",
            params![row.provider, row.event, row.received_at.millis()],
            Subject::Webhook,
        ),
        Change::InsertClient(row) => client::insert(connection, row),
        Change::RevokeClient { name, at } => client::revoke(connection, name, *at),
        Change::RenewClient {
            client,
            key_hash,
            at,
            old_ends_at,
        } => client::renew(connection, client, key_hash, *at, *old_ends_at),
        Change::InsertRotation(row) => rotation::insert(connection, row),
        Change::UpdateRotation(row) => rotation::update(connection, row),
        Change::AdoptGenerations(rows) => generation::adopt(connection, rows),
        Change::ReserveUses {
            generation,
            uses,
            limit,
        } => generation::reserve(connection, generation, *uses, *limit),
        Change::ActivateGeneration { row, retires, at } => {
            generation::activate(connection, row, retires, *at)
        }
        Change::Reseal {
            column,
            from,
            to,
            rows,
        } => generation::reseal(connection, *column, from, to, rows),
        Change::KeepSample { generation, sample } => {
            generation::keep_sample(connection, generation, sample)
        }
        Change::MarkDestroyed(id) => generation::destroy(connection, id),
        Change::SetDestroyed {
            generation,
            at,
            tried,
        } => generation::destroyed(connection, generation, *at, *tried),
        Change::InsertClientKey(row) => exchange::insert_key(connection, row),
        Change::RevokeClientKey { client, kid, at } => {
            exchange::revoke_key(connection, client, kid, *at)
        }
        Change::InsertExchangeGeneration {
            id,
            created_at,
            unless_after,
            unless_by,
        } => exchange::insert_generation(connection, id, *created_at, *unless_after, *unless_by),
        Change::InsertExchangeMessage {
            client,
            jti,
            forget_at,
            now,
        } => exchange::insert_message(connection, client, jti, *forget_at, *now),
    }
}

fn ensure_account(connection: &Connection, row: &AccountRow) -> Result<()> {
    generation::require_active(connection, &row.generation)?;
    execute(
        connection,
        "INSERT INTO accounts (account, sealed_id, generation, restricted, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (account) DO NOTHING",
        params![
            row.account,
            row.sealed_id,
            row.generation,
            row.restricted,
            row.created_at.millis()
        ],
        Subject::Account,
    )
    .map(drop)
}

fn insert_record(connection: &Connection, row: &RecordRow) -> Result<()> {
    generation::require_active(connection, &row.generation)?;
    one(
        connection,
        "INSERT INTO records (account, id, provider, merchant, generation, sealed, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            row.account,
            row.id,
            row.provider,
            row.merchant,
            row.generation,
            row.sealed,
            row.created_at.millis()
        ],
        Subject::Method,
    )
}

fn insert_resolution(connection: &Connection, row: &ResolutionRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO resolutions (account, payment, object, wanted, ended, decided_by,
             provider_said, person, note, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            row.account,
            row.payment,
            row.object,
            row.wanted,
            row.ended,
            row.decided_by,
            row.provider_said,
            row.person,
            row.note,
            row.at.millis()
        ],
        Subject::Payment,
    )
}

fn insert_method(connection: &Connection, row: &MethodRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO payment_methods (account, id, handle, provider, record, state, is_default,
             created_at, next_at, attempts, version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            row.account,
            row.id,
            row.handle,
            row.provider,
            row.record,
            row.state.as_str(),
            row.default,
            row.created_at.millis(),
            row.next_at.map(|at| at.millis()),
            row.attempts,
            row.version
        ],
        Subject::Method,
    )
}

fn update_method(connection: &Connection, row: &MethodRow) -> Result<()> {
    one(
        connection,
        "UPDATE payment_methods SET record = ?2, state = ?3, is_default = ?4, next_at = ?5,
             attempts = ?6, version = version + 1
         WHERE id = ?1 AND version = ?7",
        params![
            row.id,
            row.record,
            row.state.as_str(),
            row.default,
            row.next_at.map(|at| at.millis()),
            row.attempts,
            row.version
        ],
        Subject::Method,
    )
}

fn set_default(connection: &Connection, account: &str, method: &str) -> Result<()> {
    execute(
        connection,
        "UPDATE payment_methods SET is_default = 0, version = version + 1
         WHERE account = ?1 AND is_default = 1 AND id <> ?2",
        params![account, method],
        Subject::Method,
    )?;
    one(
        connection,
        "UPDATE payment_methods SET is_default = 1, version = version + 1
         WHERE account = ?1 AND id = ?2 AND state = 'active'",
        params![account, method],
        Subject::Method,
    )
}

fn insert_setup(connection: &Connection, row: &SetupRow) -> Result<()> {
    require_active(connection, row.redirect.as_ref())?;
    let decline = row.decline.as_ref();
    one(
        connection,
        "INSERT INTO setups (account, id, provider, state, return_url, language, reference,
             redirect, redirect_generation, payment, method, decline_category, decline_retry,
             decline_code, expires_at, next_at, attempts, lease_until, created_at, version)
         VALUES (:account, :id, :provider, :state, :return_url, :language, :reference, :redirect,
             :redirect_generation, :payment, :method, :category, :retry, :code, :expires_at, :next_at, :attempts,
             :lease_until, :created_at, :version)",
        named_params! {
            ":account": row.account, ":id": row.id, ":provider": row.provider,
            ":state": row.state.as_str(), ":return_url": row.return_url,
            ":language": row.language, ":reference": row.reference,
            ":redirect": row.redirect.as_ref().map(|sealed| &sealed.bytes),
            ":redirect_generation": row.redirect.as_ref().map(|sealed| &sealed.generation),
            ":payment": row.payment, ":method": row.method,
            ":category": decline.map(|decline| &decline.0),
            ":retry": decline.map(|decline| &decline.1),
            ":code": decline.map(|decline| &decline.2),
            ":expires_at": row.expires_at.millis(),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":created_at": row.created_at.millis(),
            ":version": row.version,
        },
        Subject::Setup,
    )
}

fn update_setup(connection: &Connection, row: &SetupRow) -> Result<()> {
    generation::require_active_if_new(
        connection,
        SealedColumn::SetupRedirect,
        &row.id,
        row.version,
        row.redirect.as_ref(),
    )?;
    let decline = row.decline.as_ref();
    one(
        connection,
        "UPDATE setups SET state = :state, reference = :reference, redirect = :redirect,
             redirect_generation = :redirect_generation, method = :method, decline_category = :category, decline_retry = :retry,
             decline_code = :code, expires_at = :expires_at, next_at = :next_at,
             attempts = :attempts, lease_until = :lease_until, version = version + 1
         WHERE id = :id AND version = :version",
        named_params! {
            ":id": row.id, ":state": row.state.as_str(), ":reference": row.reference,
            ":redirect": row.redirect.as_ref().map(|sealed| &sealed.bytes),
            ":redirect_generation": row.redirect.as_ref().map(|sealed| &sealed.generation),
            ":method": row.method,
            ":category": decline.map(|decline| &decline.0),
            ":retry": decline.map(|decline| &decline.1),
            ":code": decline.map(|decline| &decline.2),
            ":expires_at": row.expires_at.millis(),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":version": row.version,
        },
        Subject::Setup,
    )
}

fn insert_payment(connection: &Connection, row: &PaymentRow) -> Result<()> {
    require_active(connection, row.redirect.as_ref())?;
    one(
        connection,
        "INSERT INTO payments (account, id, provider, method, handle, setup, reference, description,
             return_url, currency, amount, capture, initiator, state, step, closing_as,
             reservation, authorization_id, capture_object, commit_round, authorized, captured,
             reserved_capture, refunded, reserved_refund, reversed, returned_told, body_mac, first_sent_at,
             last_sent_at, redirect, redirect_generation, decline_category, decline_retry,
             decline_code, failure, reason, expires_at, next_at, attempts, lease_until, created_at, accepted_at, updated_at,
             version)
         VALUES (:account, :id, :provider, :method, :handle, :setup, :reference, :description,
             :return_url, :currency, :amount, :capture, :initiator, :state, :step, :closing_as,
             :reservation, :authorization, :capture_object, :commit_round, :authorized, :captured,
             :reserved_capture, :refunded, :reserved_refund, :reversed, :returned_told, :body_mac, :first_sent_at,
             :last_sent_at, :redirect, :redirect_generation, :category, :retry, :code, :failure, :reason, :expires_at,
             :next_at, :attempts, :lease_until, :created_at, :accepted_at, :updated_at, :version)",
        named_params! {
            ":account": row.account, ":id": row.id, ":provider": row.provider,
            ":method": row.method, ":handle": row.handle, ":setup": row.setup,
            ":reference": row.reference,
            ":description": row.description, ":return_url": row.return_url,
            ":currency": row.amount.currency().code(), ":amount": row.amount.minor(),
            ":capture": row.capture.as_str(), ":initiator": row.initiator.as_str(),
            ":state": row.state.as_str(), ":step": row.step.as_str(),
            ":closing_as": row.closing_as.map(|state| state.as_str()),
            ":reservation": row.reservation, ":authorization": row.authorization,
            ":capture_object": row.capture_object, ":commit_round": row.commit_round,
            ":authorized": row.authorized, ":captured": row.captured,
            ":reserved_capture": row.reserved_capture, ":refunded": row.refunded,
            ":reserved_refund": row.reserved_refund, ":reversed": row.reversed,
            ":returned_told": row.returned_told,
            ":body_mac": row.body_mac,
            ":first_sent_at": row.first_sent_at.map(|at| at.millis()),
            ":last_sent_at": row.last_sent_at.map(|at| at.millis()),
            ":redirect": row.redirect.as_ref().map(|sealed| &sealed.bytes),
            ":redirect_generation": row.redirect.as_ref().map(|sealed| &sealed.generation),
            ":category": row.decline.as_ref().map(|decline| &decline.0),
            ":retry": row.decline.as_ref().map(|decline| &decline.1),
            ":code": row.decline.as_ref().map(|decline| &decline.2),
            ":failure": row.failure, ":reason": row.reason,
            ":expires_at": row.expires_at.map(|at| at.millis()),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":created_at": row.created_at.millis(),
            ":accepted_at": row.accepted_at.millis(), ":updated_at": row.updated_at.millis(),
            ":version": row.version,
        },
        Subject::Payment,
    )
}

fn update_payment(connection: &Connection, row: &PaymentRow) -> Result<()> {
    generation::require_active_if_new(
        connection,
        SealedColumn::PaymentRedirect,
        &row.id,
        row.version,
        row.redirect.as_ref(),
    )?;
    one(
        connection,
        "UPDATE payments SET method = :method, handle = :handle, state = :state, step = :step,
             closing_as = :closing_as, reservation = :reservation,
             authorization_id = :authorization, capture_object = :capture_object,
             commit_round = :commit_round, authorized = :authorized, captured = :captured,
             reserved_capture = :reserved_capture, refunded = :refunded,
             reserved_refund = :reserved_refund, reversed = :reversed, returned_told = :returned_told, body_mac = :body_mac,
             first_sent_at = :first_sent_at, last_sent_at = :last_sent_at, redirect = :redirect,
             redirect_generation = :redirect_generation, decline_category = :category, decline_retry = :retry, decline_code = :code,
             failure = :failure, reason = :reason, expires_at = :expires_at, next_at = :next_at,
             attempts = :attempts, lease_until = :lease_until, accepted_at = :accepted_at,
             updated_at = :updated_at, version = version + 1
         WHERE id = :id AND version = :version",
        named_params! {
            ":id": row.id, ":method": row.method, ":handle": row.handle,
            ":state": row.state.as_str(),
            ":step": row.step.as_str(),
            ":closing_as": row.closing_as.map(|state| state.as_str()),
            ":reservation": row.reservation, ":authorization": row.authorization,
            ":capture_object": row.capture_object, ":commit_round": row.commit_round,
            ":authorized": row.authorized, ":captured": row.captured,
            ":reserved_capture": row.reserved_capture, ":refunded": row.refunded,
            ":reserved_refund": row.reserved_refund, ":reversed": row.reversed,
            ":returned_told": row.returned_told,
            ":body_mac": row.body_mac,
            ":first_sent_at": row.first_sent_at.map(|at| at.millis()),
            ":last_sent_at": row.last_sent_at.map(|at| at.millis()),
            ":redirect": row.redirect.as_ref().map(|sealed| &sealed.bytes),
            ":redirect_generation": row.redirect.as_ref().map(|sealed| &sealed.generation),
            ":category": row.decline.as_ref().map(|decline| &decline.0),
            ":retry": row.decline.as_ref().map(|decline| &decline.1),
            ":code": row.decline.as_ref().map(|decline| &decline.2),
            ":failure": row.failure, ":reason": row.reason,
            ":expires_at": row.expires_at.map(|at| at.millis()),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":accepted_at": row.accepted_at.millis(),
            ":updated_at": row.updated_at.millis(), ":version": row.version,
        },
        Subject::Payment,
    )
}

fn insert_operation(connection: &Connection, row: &OperationRow) -> Result<()> {
    one(
        connection,
        "INSERT INTO operations (account, id, payment, provider, kind, currency, amount, last,
             state, object, capture_object, settled_before, failure, first_sent_at, last_sent_at,
             next_at, attempts, lease_until, created_at, version)
         VALUES (:account, :id, :payment, :provider, :kind, :currency, :amount, :last, :state,
             :object, :capture_object, :settled_before, :failure, :first_sent_at, :last_sent_at,
             :next_at, :attempts, :lease_until, :created_at, :version)",
        named_params! {
            ":account": row.account, ":id": row.id, ":payment": row.payment,
            ":provider": row.provider, ":kind": row.kind.as_str(),
            ":currency": row.amount.currency().code(), ":amount": row.amount.minor(),
            ":last": row.last, ":state": row.state.as_str(), ":object": row.object,
            ":capture_object": row.capture_object, ":settled_before": row.settled_before,
            ":failure": row.failure, ":first_sent_at": row.first_sent_at.millis(),
            ":last_sent_at": row.last_sent_at.millis(),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":created_at": row.created_at.millis(),
            ":version": row.version,
        },
        Subject::Operation,
    )
}

fn update_operation(connection: &Connection, row: &OperationRow) -> Result<()> {
    one(
        connection,
        "UPDATE operations SET state = :state, object = :object, failure = :failure,
             last_sent_at = :last_sent_at, next_at = :next_at, attempts = :attempts,
             lease_until = :lease_until, version = version + 1
         WHERE id = :id AND version = :version",
        named_params! {
            ":id": row.id, ":state": row.state.as_str(), ":object": row.object,
            ":failure": row.failure, ":last_sent_at": row.last_sent_at.millis(),
            ":next_at": row.next_at.map(|at| at.millis()), ":attempts": row.attempts,
            ":lease_until": row.lease_until.millis(), ":version": row.version,
        },
        Subject::Operation,
    )
}

fn require_active(connection: &Connection, sealed: Option<&SealedText>) -> Result<()> {
    sealed.map_or(Ok(()), |sealed| {
        generation::require_active(connection, &sealed.generation)
    })
}

/// Takes back a row that was never begun at a provider, together with its caller's key.
fn delete(connection: &Connection, table: &'static str, subject: Subject, id: &str) -> Result<()> {
    let sql = format!("DELETE FROM {table} WHERE id = ?1");
    one(connection, &sql, [id], subject)?;
    execute(
        connection,
        "DELETE FROM request_keys WHERE object = ?1",
        [id],
        Subject::Key,
    )
    .map(drop)
}

/// Runs a statement that must change exactly one row.
pub(super) fn one(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    subject: Subject,
) -> Result<()> {
    match execute(connection, sql, values, subject)? {
        1 => Ok(()),
        _ => Err(StoreError::Conflict(subject)),
    }
}

pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    subject: Subject,
) -> Result<usize> {
    let mut statement = connection.prepare_cached(sql).map_err(database)?;
    statement
        .execute(values)
        .map_err(|error| violated(error, subject))
}

/// A violated uniqueness is a conflict; which one, the index's name or columns tell.
fn violated(error: rusqlite::Error, subject: Subject) -> StoreError {
    use rusqlite::ffi::{SQLITE_CONSTRAINT_PRIMARYKEY, SQLITE_CONSTRAINT_UNIQUE};
    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(SQLITE_CONSTRAINT_UNIQUE | SQLITE_CONSTRAINT_PRIMARYKEY) => {
            let open_reference = error.to_string().contains("payments.reference");
            StoreError::Conflict(if open_reference {
                Subject::OpenReference
            } else {
                subject
            })
        }
        _ => database(error),
    }
}
