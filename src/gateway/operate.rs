//! Capture, void and refund: one operation each, written down before it is sent, and never sent
//! again outside of the provider's window.

use std::sync::Arc;

use cardless_contract::{
    CaptureRequest as ProviderCapture, Delivery, ErrorKind, Found, IdempotencyKey, Money,
    Operation as Done, OperationKind, OperationLookup, Outcome, PaymentProvider, ProviderError,
    RefundRequest as ProviderRefund, Repeat, Timestamp, VoidRequest as ProviderVoid,
};

use super::clock::Steps;
use super::drive::{
    Drive, MAX_UNMAPPED, MIN_QUESTIONS, PARK_PENDING_AFTER, PARK_UNKNOWN_AFTER, RESTRICTED,
    patience,
};
use super::link::on_a_task;
use super::pay::{
    in_progress, key_of, not_sent_code, object, reference_of, refused_code, reservation_of,
    stored_answer,
};
use super::{Gateway, Inner, RequestKey, check, is_older, is_within, quiet_at, send, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::state::{self, pause};
use crate::journal::{Leased as _, Written, lease_row, release_row};
use crate::message::{Answer, CaptureRequest, Payment, VoidRequest};
use crate::store::{
    Change, KeyRow, OperationRow, OperationState, OperationType, PaymentRow, PaymentState, Step,
    StoreError, Subject,
};

/// How often a request is decided again because the payment has changed meanwhile.
const MAX_RACES: u32 = 200;

impl Gateway {
    /// Takes an authorized amount, or a part of it: `POST /v1/payments/{id}/captures`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidState`], [`Code::AmountExceedsRemaining`],
    /// [`Code::NotSupported`] and what [`Gateway::pay`] lists.
    pub async fn capture(
        &self,
        key: &RequestKey,
        payment: &str,
        request: &CaptureRequest,
    ) -> Result<Answer<Payment>, Error> {
        let inner = &self.inner;
        let digest = inner.digest("capture", payment, request)?;
        inner.own_payment(payment, &request.account).await?;
        if let Some(row) = inner.seen_key(key, &digest).await? {
            return inner.replay_operation(&row, &request.account).await;
        }
        let last = request.last.unwrap_or(true);
        let begun = inner
            .begin_operation(
                key,
                digest.clone(),
                payment,
                &request.account,
                |inner, row, open| inner.new_capture(row, open, request, last),
            )
            .await?;
        inner
            .finish_call(begun, key, &digest, &request.account)
            .await
    }

    /// Releases what is held and not captured: `POST /v1/payments/{id}/void`. A payment whose
    /// outcome is open is closed instead, and ends `voided` if nothing has moved.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidState`] and what [`Gateway::pay`] lists.
    pub async fn void(
        &self,
        key: &RequestKey,
        payment: &str,
        request: &VoidRequest,
    ) -> Result<Answer<Payment>, Error> {
        let inner = &self.inner;
        let digest = inner.digest("void", payment, request)?;
        let row = inner.own_payment(payment, &request.account).await?;
        if let Some(row) = inner.seen_key(key, &digest).await? {
            return inner.replay_operation(&row, &request.account).await;
        }
        if row.is_open() && row.state != PaymentState::Parked {
            return inner.void_open(key, digest, row, &request.account).await;
        }
        let begun = inner
            .begin_operation(
                key,
                digest.clone(),
                payment,
                &request.account,
                |inner, row, open| inner.new_void(row, open),
            )
            .await?;
        inner
            .finish_call(begun, key, &digest, &request.account)
            .await
    }
}

/// What is known of earlier sends of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Earlier {
    /// There was none.
    None,
    /// The provider has shown that none was carried out, or will be.
    NotCarriedOut,
    /// One may have been carried out, and the provider would show it.
    Unknown,
    /// One may have been carried out, and the provider has no way to show it: what it answers under
    /// the same key is all that it tells.
    Untold,
}

/// A question about an operation that the provider did not show.
#[derive(Debug, Clone, Copy)]
struct Question {
    /// When it was asked, as far as that is certain: what happened later, its answer does not say.
    asked_at: Timestamp,
    /// The jumps of the clock that this and the operation's times are reckoned with.
    steps: Steps,
    /// The provider would have shown the operation if it had been carried out by then.
    shows: bool,
    /// The provider does tell of such operations, if of no other than this.
    tells: bool,
}

/// What a request to begin an operation came to.
pub(super) enum Begun {
    /// A twin under the same key was faster.
    Replay(KeyRow),
    /// It is durable and marked as sent; nothing was sent yet.
    New(OperationRow),
}

impl Inner {
    /// The payment, if it belongs to the account that the caller names.
    pub(super) async fn own_payment(&self, id: &str, account: &str) -> Result<PaymentRow, Error> {
        let account = check::account("account", account)?;
        let row = self.payment_row(id).await?;
        if row.account == self.pseudonym(&account) {
            return Ok(row);
        }
        Err(Error::not_found("payment"))
    }

    /// Decides, reserves the amount and writes the operation, in one transaction that fails if the
    /// payment has changed since it was read; then it decides again.
    pub(super) async fn begin_operation(
        &self,
        key: &RequestKey,
        digest: Vec<u8>,
        payment: &str,
        account: &str,
        decide: impl Fn(&Self, &mut PaymentRow, &[OperationRow]) -> Result<OperationRow, Error>,
    ) -> Result<Begun, Error> {
        for _ in 0..MAX_RACES {
            let mut row = self.own_payment(payment, account).await?;
            let provider = self.provider(&row.provider)?;
            let operations = self
                .journal
                .store()
                .operations(payment)
                .await
                .map_err(stored)?;
            let operation = match decide(self, &mut row, &operations) {
                Ok(operation) => operation,
                Err(error) => {
                    // A twin under the same key may be the reason.
                    let twin = self.seen_key(key, &digest).await?;
                    return twin.map(Begun::Replay).ok_or(error);
                }
            };
            let mut batch = vec![
                Change::InsertKey(self.key_row(key, digest.clone(), &operation.id)),
                Change::UpdatePayment(row),
                Change::InsertOperation(operation.clone()),
            ];
            if operation.kind == OperationType::Capture {
                // Only a capture takes: voids and refunds of a restricted account go on.
                batch.push(Change::RequireUnrestricted {
                    account: operation.account.clone(),
                });
            }
            match self.begin(provider.as_ref(), batch).await {
                Ok(()) => return Ok(Begun::New(operation)),
                Err(StoreError::Conflict(Subject::Key)) => {
                    let seen = self.seen_key(key, &digest).await?.ok_or_else(in_progress)?;
                    return Ok(Begun::Replay(seen));
                }
                Err(StoreError::Conflict(Subject::Account)) => return Err(Self::restricted()),
                Err(error @ StoreError::Conflict(Subject::Merchant)) => return Err(stored(error)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Payment)))
    }

    async fn finish_call(
        self: &Arc<Self>,
        begun: Begun,
        key: &RequestKey,
        digest: &[u8],
        account: &str,
    ) -> Result<Answer<Payment>, Error> {
        match begun {
            Begun::Replay(key) => self.replay_operation(&key, account).await,
            Begun::New(row) => {
                let row = on_a_task(Arc::clone(self).send_operation(row, Earlier::None)).await?;
                // The stored answer: what happens beside this call does not change its bytes.
                if !row.may_end()
                    && let Some(key) = self.own_key(key, digest).await?
                {
                    return self.replay_operation(&key, account).await;
                }
                let payment = self.payment_row(&row.payment).await?;
                let body = self.payment_view(&payment, account.to_owned()).await?;
                Ok(Answer {
                    open: row.is_open(),
                    body,
                })
            }
        }
    }

    async fn replay_operation(
        &self,
        key: &KeyRow,
        account: &str,
    ) -> Result<Answer<Payment>, Error> {
        if let Some(answer) = &key.answer {
            let mut body: Payment = stored_answer(answer)?;
            account.clone_into(&mut body.account);
            return Ok(Answer { body, open: false });
        }
        if Handle::parse_as(HandleKind::Payment, &key.object).is_some() {
            return self.replay_payment(key, account).await;
        }
        let row = self
            .journal
            .store()
            .operation(&key.object)
            .await
            .map_err(stored)?;
        let row = row.ok_or_else(in_progress)?;
        if row.lease_until() > self.journal.now() {
            return Err(in_progress());
        }
        let payment = self.payment_row(&row.payment).await?;
        let body = self.payment_view(&payment, account.to_owned()).await?;
        Ok(Answer {
            open: row.is_open(),
            body,
        })
    }

    fn new_capture(
        &self,
        row: &mut PaymentRow,
        operations: &[OperationRow],
        request: &CaptureRequest,
        last: bool,
    ) -> Result<OperationRow, Error> {
        let provider = self.provider(&row.provider)?;
        let capabilities = provider.capabilities();
        must_be(row, &[PaymentState::Authorized], "captured")?;
        no_open_end(operations)?;
        if !last && !capabilities.several_captures {
            return Err(Error::field(
                Code::NotSupported,
                "final",
                "This provider takes one capture of a payment; leave `final` out or make it true.",
            ));
        }
        if last && row.reserved_capture > 0 {
            return Err(Error::new(
                Code::InvalidState,
                "A capture of the payment is open, and this one would release what it may still \
                 take. Wait for it, or send `final: false`.",
            ));
        }
        let left = row.authorized - row.captured - row.reserved_capture;
        let amount = match &request.amount {
            None => row.money(left),
            Some(amount) => check::part(amount, row.amount.currency())?,
        };
        check::expressible(amount, capabilities)?;
        if amount.minor() > left || amount.is_zero() {
            return Err(exceeds(row.money(left)));
        }
        if amount.minor() < left && !capabilities.partial_capture {
            return Err(Error::field(
                Code::NotSupported,
                "amount",
                "This provider takes the whole authorized amount only.",
            ));
        }
        row.reserved_capture += amount.minor();
        row.updated_at = self.journal.now();
        let settled = row.captured;
        self.new_operation(
            row,
            HandleKind::Capture,
            OperationType::Capture,
            amount,
            last,
            settled,
        )
    }

    fn new_void(
        &self,
        row: &mut PaymentRow,
        operations: &[OperationRow],
    ) -> Result<OperationRow, Error> {
        must_be(row, &[PaymentState::Authorized], "voided")?;
        no_open_end(operations)?;
        if row.reserved_capture > 0 {
            return Err(Error::new(
                Code::InvalidState,
                "A capture of the payment is open. Wait for it, then void what is left.",
            ));
        }
        row.updated_at = self.journal.now();
        let amount = row.money(row.authorized - row.captured);
        self.new_operation(row, HandleKind::Void, OperationType::Void, amount, true, 0)
    }

    pub(super) fn new_operation(
        &self,
        payment: &PaymentRow,
        handle: HandleKind,
        kind: OperationType,
        amount: Money,
        last: bool,
        settled_before: i64,
    ) -> Result<OperationRow, Error> {
        let now = self.journal.now();
        let mut row = OperationRow {
            id: self.new_handle(handle)?.to_string(),
            account: payment.account.clone(),
            payment: payment.id.clone(),
            provider: payment.provider.clone(),
            kind,
            amount,
            last,
            state: OperationState::Unknown,
            object: None,
            capture_object: None,
            settled_before,
            failure: None,
            first_sent_at: now,
            last_sent_at: now,
            next_at: None,
            attempts: 0,
            lease_until: Timestamp::from_millis(0),
            created_at: now,
            version: 0,
        };
        lease_row(&mut row, now);
        Ok(row)
    }

    /// Closes an open payment against further commits and drives it to its end.
    async fn void_open(
        self: &Arc<Self>,
        key: &RequestKey,
        digest: Vec<u8>,
        mut row: PaymentRow,
        account: &str,
    ) -> Result<Answer<Payment>, Error> {
        if row.step == Step::Linking {
            return Err(Error::new(
                Code::InvalidState,
                "The payment waits for its setup. It ends with it.",
            ));
        }
        let now = self.journal.now();
        if row.lease_until > now {
            return Err(being_driven());
        }
        lease_row(&mut row, now);
        let provider = self.provider(&row.provider)?;
        if row.reservation.is_none() && provider.capabilities().reserve_holds {
            // Without its id nothing can be settled, and nothing released either.
            state::close(&mut row, PaymentState::Failed, Some(state::HOLD_MAY_REMAIN));
        } else {
            state::close(&mut row, PaymentState::Voided, None);
        }
        row.updated_at = now;
        // The payment's conclusion is this call's answer too.
        let batch = vec![
            Change::InsertKey(self.key_row(key, digest.clone(), &row.id)),
            Change::UpdatePayment(row.clone()),
        ];
        match self.begin(provider.as_ref(), batch).await {
            Ok(()) => row.bump(),
            Err(StoreError::Conflict(Subject::Key)) => {
                let seen = self.seen_key(key, &digest).await?.ok_or_else(in_progress)?;
                return self.replay_operation(&seen, account).await;
            }
            Err(error @ StoreError::Conflict(Subject::Merchant)) => return Err(stored(error)),
            Err(StoreError::Conflict(_)) => return Err(being_driven()),
            Err(error) => return Err(stored(error)),
        }
        let row = Drive::spawn(self, row, false).await?;
        self.payment_answer(&row, account.to_owned()).await
    }

    /// Sends an operation that is marked as sent.
    pub(super) async fn send_operation(
        self: Arc<Self>,
        row: OperationRow,
        earlier: Earlier,
    ) -> Result<OperationRow, Error> {
        let provider = self.provider(&row.provider)?;
        let payment = self.payment_row(&row.payment).await?;
        let key = key_of(&row.id, "o")?;
        let result = send(self.journal.clock(), row.last_sent_at, || {
            call(provider.as_ref(), &key, &row, &payment)
        })
        .await;
        match result {
            // A repeat that is declined says nothing of the first send; a question does.
            Ok(Outcome::Declined(_)) if earlier == Earlier::Unknown => {
                self.operation_open(row, OperationState::Unknown, None)
                    .await
            }
            Ok(outcome) => self.take_outcome(row, outcome).await,
            Err(error) => self.operation_failed(row, &error, earlier).await,
        }
    }

    async fn take_outcome(
        self: Arc<Self>,
        row: OperationRow,
        outcome: Outcome<Done>,
    ) -> Result<OperationRow, Error> {
        match outcome {
            Outcome::Done(done) => self.operation_done(row, &done).await,
            Outcome::Pending(done) => {
                self.heard(&row.account, &row.id, "pending").await;
                let now = self.journal.now();
                if is_older(row.created_at, now, PARK_PENDING_AFTER) {
                    return self.park_operation(row).await;
                }
                self.operation_open(row, OperationState::Pending, Some(done))
                    .await
            }
            Outcome::ActionRequired(..) | Outcome::Review(_) => {
                self.heard(&row.account, &row.id, "review").await;
                self.park_operation(row).await
            }
            Outcome::Declined(decline) => {
                let code = format!("{}{}", view::DECLINED, decline.provider_code);
                self.operation_ended(row, OperationState::Failed, None, &code)
                    .await
            }
            Outcome::Unmapped(word) => {
                tracing::warn!(operation = %row.id, field = word.field, value = %word.value, "unmapped word");
                self.heard(&row.account, &row.id, "unmapped").await;
                if row.state == OperationState::Parked {
                    return self.operation_quiet(row).await;
                }
                // Words that were understood until now do not count.
                if row.state == OperationState::Unknown && row.attempts >= MAX_UNMAPPED {
                    return self.park_operation(row).await;
                }
                self.operation_open(row, OperationState::Unknown, None)
                    .await
            }
        }
    }

    async fn operation_failed(
        self: Arc<Self>,
        row: OperationRow,
        error: &ProviderError,
        earlier: Earlier,
    ) -> Result<OperationRow, Error> {
        tracing::warn!(operation = %row.id, %error, delivery = ?error.delivery(), "operation");
        self.heard(&row.account, &row.id, error).await;
        match (error.delivery(), error.kind()) {
            (Delivery::NotSent, ErrorKind::RepeatRefused) => self.park_operation(row).await,
            (Delivery::NotSent, kind) if earlier == Earlier::None => {
                self.operation_ended(row, OperationState::Failed, None, not_sent_code(kind))
                    .await
            }
            (Delivery::Refused, kind)
                if matches!(earlier, Earlier::None | Earlier::NotCarriedOut) =>
            {
                self.operation_ended(row, OperationState::Failed, None, refused_code(kind))
                    .await
            }
            // What an earlier send did, only a question tells.
            (Delivery::NotSent | Delivery::Refused | Delivery::Unknown, _) => {
                self.operation_open(row, OperationState::Unknown, None)
                    .await
            }
        }
    }

    /// Asks about an open operation, and sends it again where that is safe.
    pub(super) async fn drive_operation(
        self: Arc<Self>,
        row: OperationRow,
    ) -> Result<OperationRow, Error> {
        if !row.is_open() && row.state != OperationState::Parked {
            return self.operation_quiet(row).await;
        }
        let Some((row, steps)) = self.reckoned(&row).await? else {
            return Ok(row);
        };
        let provider = self.provider(&row.provider)?;
        let payment = self.payment_row(&row.payment).await?;
        if payment.reservation.is_none() {
            // Nothing of it can be asked for.
            return self.park_operation(row).await;
        }
        let request = lookup(&row, &payment)?;
        let key = key_of(&row.id, "o")?;
        // What an answer proves, it proves of the moment of its question.
        let asked_at = self.clock.certain(self.journal.now());
        let question = |shows, tells| Question {
            asked_at,
            steps,
            shows,
            tells,
        };
        match provider.find_operation(&key, &request).await {
            // What waits for a person is ended by an answer, and by nothing else.
            Ok(Found::No | Found::CannotTell) if row.state == OperationState::Parked => {
                self.operation_quiet(row).await
            }
            // A sum proves nothing about one of several operations.
            Ok(Found::Yes(outcome)) if is_sum(&outcome) && self.has_rivals(&row).await? => {
                if row.state == OperationState::Parked {
                    return self.operation_quiet(row).await;
                }
                self.not_found(row, provider.as_ref(), question(false, true))
                    .await
            }
            Ok(Found::Yes(outcome)) => self.take_outcome(row, outcome).await,
            Ok(Found::No) => {
                let alone = !self.has_rivals(&row).await?;
                self.not_found(row, provider.as_ref(), question(alone, true))
                    .await
            }
            Ok(Found::CannotTell) => {
                self.not_found(row, provider.as_ref(), question(false, false))
                    .await
            }
            Err(error) => {
                tracing::warn!(operation = %row.id, %error, "ask about an operation");
                self.heard(&row.account, &row.id, &error).await;
                self.operation_unanswered(row).await
            }
        }
    }

    /// A question without an answer: ask again, and in the end leave it to a person.
    async fn operation_unanswered(&self, row: OperationRow) -> Result<OperationRow, Error> {
        let patience = patience(row.state == OperationState::Pending);
        let long = is_older(row.created_at, self.journal.now(), patience);
        if long && row.attempts >= MIN_QUESTIONS {
            return self.park_operation(row).await;
        }
        let state = row.state;
        self.operation_open(row, state, None).await
    }

    /// The provider does not show the operation: it is sent again where the window allows it;
    /// otherwise an answer proves that it never was, or a person must look. One that the provider has
    /// shown before does not end by being absent, and is not sent again.
    async fn not_found(
        self: Arc<Self>,
        row: OperationRow,
        provider: &dyn PaymentProvider,
        question: Question,
    ) -> Result<OperationRow, Error> {
        if row.object.is_some() {
            tracing::warn!(operation = %row.id, "an operation that the provider has shown is not shown any more");
            self.heard(&row.account, &row.id, "absent").await;
            return self.operation_unanswered(row).await;
        }
        if self.has_stepped(question.steps).await? {
            return self.look_anew(row).await;
        }
        let now = self.journal.now();
        let capabilities = provider.capabilities();
        let repeat = match row.kind {
            OperationType::Capture => capabilities.repeat_capture,
            OperationType::Void => capabilities.repeat_void,
            OperationType::Refund => capabilities.repeat_refund,
        };
        let quiet_at = quiet_at(row.last_sent_at, capabilities);
        let proven = question.shows && question.asked_at >= quiet_at;
        let again = match repeat {
            Repeat::KeyedForever => true,
            Repeat::Keyed(window) => is_within(window, row.first_sent_at, now, capabilities),
            Repeat::AfterQuestion => proven,
        };
        let too_long = is_older(row.created_at, now, PARK_UNKNOWN_AFTER);
        // From an account that was restricted since, nothing more is taken: what may have arrived is
        // asked about, and in the end left to a person.
        let takes = row.kind == OperationType::Capture;
        let barred = takes && self.is_restricted(&row.account).await?;
        if again && !too_long && !barred {
            let earlier = match (proven, question.tells) {
                (true, _) => Earlier::NotCarriedOut,
                (false, true) => Earlier::Unknown,
                (false, false) => Earlier::Untold,
            };
            return self.send_again(row, earlier).await;
        }
        if proven {
            let code = if barred {
                RESTRICTED
            } else {
                "not_carried_out"
            };
            return self
                .operation_ended(row, OperationState::Failed, None, code)
                .await;
        }
        if question.shows || (barred && question.asked_at < quiet_at) {
            let at = quiet_at.max(now);
            return self
                .change_operation(&row, |row| release_row(row, Some(at)))
                .await;
        }
        self.heard(&row.account, &row.id, "cannot_tell").await;
        self.park_operation(row).await
    }

    /// Whether another operation of the same kind is open, or has ended since this one began: then
    /// the sums at the provider do not tell which of them was carried out. To be asked after the
    /// provider's answer: what begins later, the answer does not hold. What its provider finds by a
    /// name of its own has none.
    pub(super) async fn has_rivals(&self, row: &OperationRow) -> Result<bool, Error> {
        let by_sum = self.provider(&row.provider)?.capabilities().finds_by_sum;
        if row.kind == OperationType::Void || !by_sum {
            return Ok(false);
        }
        // Before the sums: one that ends in between is open here or counted there.
        let operations = self.journal.store().operations(&row.payment).await;
        let open = operations
            .map_err(stored)?
            .into_iter()
            .any(|other| other.id != row.id && other.kind == row.kind && other.may_end());
        let payment = self.payment_row(&row.payment).await?;
        let done = match row.kind {
            OperationType::Capture => payment.captured,
            OperationType::Refund | OperationType::Void => payment.refunded,
        };
        Ok(open || done != row.settled_before)
    }

    async fn send_again(
        self: Arc<Self>,
        row: OperationRow,
        earlier: Earlier,
    ) -> Result<OperationRow, Error> {
        let now = self.journal.now();
        let lease = row.lease_until();
        let takes = row.kind == OperationType::Capture;
        let marked = self.journal.change(&row, |row| {
            // A jump of the clock may have been reckoned with since `now`: no send is older for it.
            row.last_sent_at = row.last_sent_at.max(now);
            let account = row.account.clone();
            let unrestricted = takes.then_some(Change::RequireUnrestricted { account });
            unrestricted.into_iter().collect()
        });
        let marked = match marked.await {
            Ok(Written::Yes(row) | Written::Lost(row)) => row,
            // The account was restricted just now.
            Err(StoreError::Conflict(Subject::Account)) => return self.look_anew(row).await,
            Err(error) => return Err(stored(error)),
        };
        if marked.lease_until() != lease {
            return Ok(marked);
        }
        Box::pin(self.send_operation(marked, earlier)).await
    }

    /// Writes a success: the operation, the payment's sums, the event and the caller's answer, in
    /// one transaction.
    async fn operation_done(
        self: Arc<Self>,
        row: OperationRow,
        done: &Done,
    ) -> Result<OperationRow, Error> {
        let differs = row.kind != OperationType::Void
            && done.amount.is_some_and(|amount| amount != row.amount);
        if differs {
            tracing::error!(operation = %row.id, "the provider moved another amount than was asked");
            self.heard(&row.account, &row.id, "other_amount").await;
            return self.park_operation(row).await;
        }
        let object = done.id.as_ref().map(|id| id.as_str().to_owned());
        self.operation_ended(row, OperationState::Succeeded, object, "")
            .await
    }

    async fn operation_ended(
        self: Arc<Self>,
        row: OperationRow,
        state: OperationState,
        object: Option<String>,
        failure: &str,
    ) -> Result<OperationRow, Error> {
        self.operation_ended_with(row, state, object, failure, Vec::new())
            .await
    }

    /// The same, together with what else belongs to the transaction.
    pub(super) async fn operation_ended_with(
        self: Arc<Self>,
        row: OperationRow,
        state: OperationState,
        object: Option<String>,
        failure: &str,
        with: Vec<Change>,
    ) -> Result<OperationRow, Error> {
        for _ in 0..MAX_RACES {
            let Some(fresh) = self
                .journal
                .store()
                .operation(&row.id)
                .await
                .map_err(stored)?
            else {
                return Err(Error::not_found("operation"));
            };
            if fresh.lease_until() != row.lease_until() || !fresh.may_end() {
                return Ok(fresh);
            }
            let mut payment = self.payment_row(&row.payment).await?;
            let mut ended = fresh;
            ended.state = state;
            ended.object = object.clone().or(ended.object);
            ended.failure = (!failure.is_empty()).then(|| failure.to_owned());
            ended.attempts = 0;
            release_row(&mut ended, None);
            let now = self.journal.now();
            settle_sums(&mut payment, &ended, now);
            let mut operations = self
                .journal
                .store()
                .operations(&row.payment)
                .await
                .map_err(stored)?;
            for operation in &mut operations {
                if operation.id == ended.id {
                    operation.clone_from(&ended);
                }
            }
            let mut batch = self.ended_batch(&ended, &payment, &operations)?;
            batch.extend(with.iter().cloned());
            match self.journal.write(batch).await {
                Ok(()) => {
                    ended.bump();
                    return Ok(ended);
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Operation)))
    }

    fn ended_batch(
        &self,
        ended: &OperationRow,
        payment: &PaymentRow,
        operations: &[OperationRow],
    ) -> Result<Vec<Change>, Error> {
        let answer = match ended.kind {
            OperationType::Refund => serde_json::to_string(&view::refund_view(ended)),
            OperationType::Capture | OperationType::Void => {
                serde_json::to_string(&view::payment_view(payment, String::new(), operations)?)
            }
        };
        let answer = answer.map_err(|error| {
            Error::new(Code::Internal, "An answer can't be written.").with_source(error)
        })?;
        let mut batch = vec![
            Change::UpdateOperation(ended.clone()),
            Change::UpdatePayment(payment.clone()),
            Change::FinishKey {
                object: ended.id.clone(),
                answer,
            },
        ];
        let end = ended.state.as_str();
        batch.push(self.journal.operation_event(ended, end));
        Ok(batch)
    }

    async fn operation_open(
        &self,
        row: OperationRow,
        state: OperationState,
        done: Option<Done>,
    ) -> Result<OperationRow, Error> {
        let now = self.journal.now();
        let object = done
            .and_then(|done| done.id)
            .map(|id| id.as_str().to_owned());
        self.change_operation(&row, |row| {
            if row.state == OperationState::Pending && state == OperationState::Unknown {
                // How often it was asked while it was understood says nothing of now.
                row.attempts = 0;
            }
            row.state = state;
            row.object = object.clone().or_else(|| row.object.clone());
            let parked = state == OperationState::Parked;
            let at = (!parked).then(|| now.plus(pause(row.attempts)));
            row.attempts = row.attempts.saturating_add(1);
            release_row(row, at);
        })
        .await
    }

    async fn park_operation(&self, row: OperationRow) -> Result<OperationRow, Error> {
        let last_answer = self.last_heard(&row.id).await;
        tracing::error!(operation = %row.id, payment = %row.payment, provider = %row.provider, last_answer, "parked: a person must look");
        let event = self.journal.operation_event(&row, "parked");
        let written = self
            .journal
            .change(&row, |row| {
                let news = row.state != OperationState::Parked;
                row.state = OperationState::Parked;
                release_row(row, None);
                if news {
                    vec![event.clone()]
                } else {
                    Vec::new()
                }
            })
            .await
            .map_err(stored)?;
        Ok(match written {
            Written::Yes(row) | Written::Lost(row) => row,
        })
    }

    /// The clock has jumped since the question, or the account was restricted: what was read before is
    /// nothing to go by. What waits for a person does not come here.
    async fn look_anew(&self, row: OperationRow) -> Result<OperationRow, Error> {
        let now = self.journal.now();
        self.change_operation(&row, |row| release_row(row, Some(now)))
            .await
    }

    async fn operation_quiet(&self, row: OperationRow) -> Result<OperationRow, Error> {
        self.change_operation(&row, |row| release_row(row, None))
            .await
    }

    async fn change_operation(
        &self,
        row: &OperationRow,
        mut change: impl FnMut(&mut OperationRow) + Send,
    ) -> Result<OperationRow, Error> {
        let written = self
            .journal
            .change(row, |row| {
                change(row);
                Vec::new()
            })
            .await
            .map_err(stored)?;
        Ok(match written {
            Written::Yes(row) | Written::Lost(row) => row,
        })
    }
}

/// Moves an ended operation's amount from what was reserved to what is done.
fn settle_sums(payment: &mut PaymentRow, ended: &OperationRow, now: Timestamp) {
    let minor = ended.amount.minor();
    let succeeded = ended.state == OperationState::Succeeded;
    match ended.kind {
        OperationType::Capture => {
            payment.reserved_capture -= minor;
            if succeeded {
                payment.captured += minor;
                if ended.last || payment.captured >= payment.authorized {
                    payment.state = PaymentState::Captured;
                    payment.expires_at = None;
                }
            }
            // What was taken elsewhere meanwhile, and whether the hold has lapsed, a read of the payment
            // tells: none of it was booked while this was open.
            payment.next_at = Some(now);
        }
        OperationType::Void if succeeded => {
            payment.state = match payment.captured {
                0 => PaymentState::Voided,
                _ => PaymentState::Captured,
            };
            payment.expires_at = None;
            // What was taken elsewhere before was not booked while this was open.
            payment.next_at = Some(now);
        }
        OperationType::Void => {
            // The hold did not go: what it is now, a read of the payment tells.
            payment.next_at = Some(now);
        }
        OperationType::Refund => {
            payment.reserved_refund -= minor;
            if succeeded {
                payment.refunded += minor;
            }
            // What was given back elsewhere meanwhile was not booked either.
            payment.next_at = Some(now);
        }
    }
    payment.updated_at = now;
}

/// Sends one operation, once.
async fn call(
    provider: &dyn PaymentProvider,
    key: &IdempotencyKey,
    row: &OperationRow,
    payment: &PaymentRow,
) -> cardless_contract::Result<Outcome<Done>> {
    let broken = |error: Error| {
        ProviderError::new(
            provider.name().clone(),
            ErrorKind::Internal,
            Delivery::NotSent,
        )
        .with_source(error)
    };
    let reservation = reservation_of(payment).map_err(broken)?;
    let payment_reference = reference_of(&payment.id).map_err(broken)?;
    let authorization = object(payment.authorization.as_deref()).map_err(broken)?;
    let authorized = payment.money(payment.authorized);
    match row.kind {
        OperationType::Capture => {
            let request = ProviderCapture {
                reservation,
                authorization,
                payment_reference,
                reference: reference_of(&row.id).map_err(broken)?,
                amount: row.amount,
                authorized,
                last: row.last,
            };
            provider.capture(key, &request).await
        }
        OperationType::Void => {
            let request = ProviderVoid {
                reservation,
                authorization,
                payment_reference,
                authorized,
            };
            provider.void(key, &request).await
        }
        OperationType::Refund => {
            let request = ProviderRefund {
                reservation,
                capture: object(row.capture_object.as_deref()).map_err(broken)?,
                payment_reference,
                reference: reference_of(&row.id).map_err(broken)?,
                amount: row.amount,
            };
            provider.refund(key, &request).await
        }
    }
}

pub(super) fn lookup(row: &OperationRow, payment: &PaymentRow) -> Result<OperationLookup, Error> {
    let currency = row.amount.currency();
    Ok(OperationLookup {
        kind: match row.kind {
            OperationType::Capture => OperationKind::Capture,
            OperationType::Void => OperationKind::Void,
            OperationType::Refund => OperationKind::Refund,
        },
        reservation: reservation_of(payment)?,
        authorization: object(payment.authorization.as_deref())?,
        id: object(row.object.as_deref())?,
        payment_reference: reference_of(&payment.id)?,
        reference: reference_of(&row.id)?,
        amount: match row.kind {
            OperationType::Void => payment.money(payment.authorized),
            OperationType::Capture | OperationType::Refund => row.amount,
        },
        settled_before: Money::new(currency, row.settled_before).unwrap_or(Money::zero(currency)),
    })
}

/// Whether a find has recognized no operation, only what all of them come to.
const fn is_sum(outcome: &Outcome<Done>) -> bool {
    matches!(outcome, Outcome::Done(done) if done.id.is_none())
}

pub(super) fn must_be(row: &PaymentRow, states: &[PaymentState], verb: &str) -> Result<(), Error> {
    if states.contains(&row.state) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidState,
        format!(
            "The payment is {} already and can't be {verb}.",
            row.state.as_str()
        ),
    ))
}

/// A void, or a capture that releases the rest, that is not concluded yet.
fn no_open_end(operations: &[OperationRow]) -> Result<(), Error> {
    let ends = |row: &&OperationRow| {
        let ends = match row.kind {
            OperationType::Void => true,
            OperationType::Capture => row.last,
            OperationType::Refund => false,
        };
        ends && row.may_end()
    };
    match operations.iter().find(ends) {
        None => Ok(()),
        Some(row) => Err(Error::new(
            Code::InvalidState,
            format!(
                "The {} {} of the payment is open. Wait for it.",
                row.kind.as_str(),
                row.id
            ),
        )),
    }
}

pub(super) fn exceeds(left: Money) -> Error {
    Error::field(
        Code::AmountExceedsRemaining,
        "amount.minor",
        format!("The amount is more than what is left: {left}."),
    )
}

/// Somebody else drives the payment just now.
fn being_driven() -> Error {
    Error::new(
        Code::InProgress,
        "The payment is being worked on. Repeat the call in a moment.",
    )
}
