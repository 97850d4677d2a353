//! Pay: check, write the intent, drive it, answer.

use cardless_contract::{
    ErrorKind, IdempotencyKey, Money, ObjectId, ProviderToken, RedirectUrl, Reference,
    ReservationId, Timestamp,
};

use super::drive::Drive;
use super::{Gateway, Inner, RequestKey, check, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::lease_row;
use crate::message::{Answer, Capture, Initiator as InitiatorWord, PayRequest, Payment};
use crate::store::{
    CaptureText, Change, InitiatorText, KeyRow, MethodRow, MethodState, PaymentRow, PaymentState,
    SealedText, Step, StoreError, Subject,
};

impl Gateway {
    /// Charges an account's payment method: `POST /v1/payments`.
    ///
    /// # Errors
    ///
    /// [`Error`] if it is refused before anything is stored. A decline, a failure and an unknown
    /// outcome are payments, not errors.
    pub async fn pay(
        &self,
        key: &RequestKey,
        request: &PayRequest,
    ) -> Result<Answer<Payment>, Error> {
        let account = check::account("account", &request.account)?;
        check_texts(request)?;
        let digest = self.inner.digest("pay", "", request)?;
        if let Some(row) = self.inner.seen_key(key, &digest).await? {
            return self.inner.replay_payment(&row, &request.account).await;
        }
        let pseudonym = self.inner.pseudonym(&account);
        let method = self
            .inner
            .chargeable_method(&pseudonym, request.payment_method.as_deref())
            .await?;
        let provider = self.inner.provider(&method.provider)?;
        let amount = check::amount(&request.amount, provider.capabilities())?;

        // The intent is on disk before a request leaves.
        let mut row = self
            .inner
            .new_payment(&pseudonym, &method.provider, amount)?;
        row.handle = Some(request.payment_method.clone().unwrap_or(method.handle));
        row.method = Some(method.id.clone());
        row.reference.clone_from(&request.reference);
        row.description.clone_from(&request.description);
        row.return_url.clone_from(&request.return_url);
        row.capture = capture_text(request.capture);
        row.initiator = initiator_text(request.initiator);
        row.first_sent_at = Some(row.created_at);
        row.last_sent_at = Some(row.created_at);
        lease_row(&mut row, self.inner.journal.now());
        let key_row = self.inner.key_row(key, digest.clone(), &row.id);
        let batch = vec![
            Change::InsertKey(key_row),
            Change::RequireUnrestricted {
                account: pseudonym.clone(),
            },
            Change::RequireActive { method: method.id },
            Change::InsertPayment(row.clone()),
        ];
        match self.inner.begin(provider.as_ref(), batch).await {
            Ok(()) => {}
            Err(StoreError::Conflict(Subject::Key)) => {
                // A twin was faster: it is the same request, or the key is misused.
                let row = self.inner.seen_key(key, &digest).await?;
                let row = row.ok_or_else(in_progress)?;
                return self.inner.replay_payment(&row, &request.account).await;
            }
            Err(StoreError::Conflict(Subject::OpenReference)) => return Err(outcome_unknown()),
            // It was restricted, or erased, since it was read.
            Err(StoreError::Conflict(Subject::Account)) => return Err(Inner::restricted()),
            // It was revoked, or suspended, since it was read.
            Err(StoreError::Conflict(Subject::Method)) => {
                let handle = request.payment_method.as_deref();
                let present = self.inner.chargeable_method(&pseudonym, handle).await;
                return Err(present.err().unwrap_or_else(|| {
                    let what = "The account's payment methods have just changed. Repeat the call.";
                    Error::new(Code::InProgress, what)
                }));
            }
            Err(error) => return Err(stored(error)),
        }
        let row = Drive::spawn(&self.inner, row, true).await?;
        if row.step == Step::Settled {
            // The stored answer: what happens beside this call does not change its bytes.
            if let Some(key) = self.inner.own_key(key, &digest).await? {
                return self.inner.replay_payment(&key, &request.account).await;
            }
        }
        self.inner
            .payment_answer(&row, request.account.clone())
            .await
    }

    /// A payment by id: `GET /v1/payments/{id}`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn payment(&self, id: &str) -> Result<Payment, Error> {
        let row = self.inner.payment_row(id).await?;
        let account = self.inner.account_id(&row.account).await?;
        self.inner.payment_view(&row, account).await
    }
}

impl Inner {
    pub(super) async fn payment_row(&self, id: &str) -> Result<PaymentRow, Error> {
        let known = Handle::parse_as(HandleKind::Payment, id);
        let row = match known {
            Some(_) => self.journal.store().payment(id).await.map_err(stored)?,
            None => None,
        };
        row.ok_or_else(|| Error::not_found("payment"))
    }

    /// The account's method with this handle, or its default. Another account's, a revoked one, a
    /// replaced one whose time has ended, and one that never existed give the same answer.
    async fn chargeable_method(
        &self,
        account: &str,
        handle: Option<&str>,
    ) -> Result<MethodRow, Error> {
        let store = self.journal.store();
        let gone = || Error::not_found("payment method of this account");
        let method = match handle {
            Some(handle) => {
                let now = self.journal.now();
                store.method_by_handle(handle, now).await.map_err(stored)?
            }
            None => store
                .methods(account)
                .await
                .map_err(stored)?
                .into_iter()
                .find(|method| method.default),
        };
        let method = method
            .filter(|method| method.account == account)
            .ok_or_else(gone)?;
        match method.state {
            MethodState::Revoking | MethodState::Revoked => Err(gone()),
            MethodState::Suspended => Err(Error::field(
                Code::InvalidState,
                "payment_method",
                "The payment method is suspended: its provider no longer accepts it. Link a new one.",
            )),
            MethodState::Active => Ok(method),
        }
    }

    pub(super) fn new_payment(
        &self,
        account: &str,
        provider: &str,
        amount: Money,
    ) -> Result<PaymentRow, Error> {
        let now = self.journal.now();
        Ok(PaymentRow {
            id: self.new_handle(HandleKind::Payment)?.to_string(),
            account: account.to_owned(),
            provider: provider.to_owned(),
            method: None,
            handle: None,
            setup: None,
            reference: String::new(),
            description: None,
            return_url: None,
            amount,
            capture: CaptureText::Automatic,
            initiator: InitiatorText::Merchant,
            state: PaymentState::Unknown,
            step: Step::Reserving,
            closing_as: None,
            reservation: None,
            authorization: None,
            capture_object: None,
            commit_round: 0,
            authorized: 0,
            captured: 0,
            reserved_capture: 0,
            refunded: 0,
            reserved_refund: 0,
            reversed: 0,
            returned_told: 0,
            body_mac: None,
            first_sent_at: None,
            last_sent_at: None,
            redirect: None,
            decline: None,
            failure: None,
            reason: None,
            expires_at: None,
            next_at: None,
            attempts: 0,
            lease_until: Timestamp::from_millis(0),
            created_at: now,
            accepted_at: now,
            updated_at: now,
            version: 0,
        })
    }

    /// The answer to a repeat: the first final answer if there is one, else the present state.
    pub(super) async fn replay_payment(
        &self,
        key: &KeyRow,
        account: &str,
    ) -> Result<Answer<Payment>, Error> {
        if let Some(answer) = &key.answer {
            let mut body: Payment = stored_answer(answer)?;
            account.clone_into(&mut body.account);
            return Ok(Answer { body, open: false });
        }
        let row = self
            .journal
            .store()
            .payment(&key.object)
            .await
            .map_err(stored)?;
        let row = row.ok_or_else(in_progress)?;
        if row.lease_until > self.journal.now() && row.is_open() {
            return Err(in_progress());
        }
        self.payment_answer(&row, account.to_owned()).await
    }

    pub(super) async fn payment_answer(
        &self,
        row: &PaymentRow,
        account: String,
    ) -> Result<Answer<Payment>, Error> {
        let body = self.payment_view(row, account).await?;
        Ok(Answer {
            open: row.is_open(),
            body,
        })
    }

    /// The token of a method. Its record must be of the method's own account and provider: one that
    /// a row was pointed at does not open.
    pub(super) async fn open_token(&self, method: &MethodRow) -> Result<ProviderToken, Error> {
        let gone = || Error::not_found("payment method of this account");
        let record = method.record.as_deref().ok_or_else(gone)?;
        let record = self
            .journal
            .store()
            .record(record)
            .await
            .map_err(stored)?
            .ok_or_else(gone)?;
        let provider = self.provider(&method.provider)?;
        let merchant = provider.merchant();
        if record.merchant != merchant {
            return Err(Error::new(
                Code::InvalidState,
                format!(
                    "The payment method was linked with the merchant {} of {}; the settings name {merchant}. Link it anew; \
                     to have it revoked there, put that merchant's settings back.",
                    record.merchant, method.provider
                ),
            ));
        }
        let context = view::token_context(
            &method.account,
            &method.provider,
            &record.merchant,
            &record.id,
        );
        self.follow_to_open(&record.sealed).await;
        self.vault
            .open_token(&context, &record.sealed)
            .map_err(|error| {
                Error::new(
                    Code::Internal,
                    "A sealed token does not open with the keys of this installation.",
                )
                .with_source(error)
            })
    }

    /// What goes with a payment's conclusion: the event, and the first final answer of its key.
    pub(super) fn payment_concluded(&self, row: &PaymentRow) -> Vec<Change> {
        let kind = format!("payment.{}", row.state.as_str());
        let mut batch = vec![self.journal.event(&row.account, kind, &row.id)];
        if row.step == Step::Settled {
            // A setup whose page takes the payment ends with it.
            let at = self.journal.now();
            batch.extend(row.setup.clone().map(|id| Change::WakeSetup { id, at }));
        }
        if row.step == Step::Settled
            && let Ok(view) = view::payment_view(row, String::new(), &[])
            && let Ok(answer) = serde_json::to_string(&view)
        {
            batch.push(Change::FinishKey {
                object: row.id.clone(),
                answer,
            });
        }
        batch
    }

    pub(super) async fn seal_redirect(
        &self,
        account: &str,
        provider: &str,
        object: &str,
        url: &RedirectUrl,
    ) -> Result<SealedText, Error> {
        let context = view::redirect_context(account, provider, object);
        self.seal(&context, url.expose().as_bytes()).await
    }
}

fn check_texts(request: &PayRequest) -> Result<(), Error> {
    check::reference(&request.reference)?;
    request
        .description
        .as_deref()
        .map_or(Ok(()), check::description)?;
    request
        .return_url
        .as_deref()
        .map_or(Ok(()), check::return_url)?;
    if let Some(method) = &request.payment_method {
        check::no_card_number("payment_method", method)?;
    }
    if request.initiator == InitiatorWord::Customer && request.return_url.is_none() {
        return Err(Error::field(
            Code::InvalidField,
            "return_url",
            "return_url is required when the initiator is the customer.",
        ));
    }
    Ok(())
}

pub(super) fn reference_of(id: &str) -> Result<Reference, Error> {
    Handle::parse(id)
        .map(|handle| handle.reference().clone())
        .ok_or_else(|| Error::new(Code::Internal, "A stored id can't be read."))
}

pub(super) fn reservation_of(row: &PaymentRow) -> Result<ReservationId, Error> {
    ReservationId::new(row.reservation.clone().unwrap_or_default()).map_err(|error| {
        Error::new(
            Code::Internal,
            "The provider's id of the payment is missing.",
        )
        .with_source(error)
    })
}

/// The provider's key for one step of one object: made from these two, never from worker or
/// attempt.
pub(super) fn key_of(id: &str, step: &str) -> Result<IdempotencyKey, Error> {
    let reference = reference_of(id)?;
    IdempotencyKey::new(format!("{reference}-{step}")).map_err(|error| {
        Error::new(Code::Internal, "A step's key can't be made.").with_source(error)
    })
}

pub(super) fn object(id: Option<&str>) -> Result<Option<ObjectId>, Error> {
    id.map(ObjectId::new).transpose().map_err(|error| {
        Error::new(Code::Internal, "A stored object id can't be read.").with_source(error)
    })
}

pub(super) fn stored_answer<T: serde::de::DeserializeOwned>(answer: &str) -> Result<T, Error> {
    serde_json::from_str(answer).map_err(|error| {
        Error::new(Code::Internal, "A stored answer can't be read.").with_source(error)
    })
}

pub(super) fn in_progress() -> Error {
    Error::new(
        Code::InProgress,
        "The first call under this Idempotency-Key is still running. Repeat it in a moment.",
    )
}

pub(super) fn outcome_unknown() -> Error {
    Error::field(
        Code::OutcomeUnknown,
        "reference",
        "A payment of this account under this reference has no outcome yet. Wait for it, or void it first.",
    )
}

pub(super) fn capture_text(capture: Capture) -> CaptureText {
    match capture {
        Capture::Automatic => CaptureText::Automatic,
        Capture::Manual => CaptureText::Manual,
    }
}

fn initiator_text(initiator: InitiatorWord) -> InitiatorText {
    match initiator {
        InitiatorWord::Merchant => InitiatorText::Merchant,
        InitiatorWord::Customer => InitiatorText::Customer,
    }
}

/// Why a request that never left ends a payment.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest has one meaning for the caller"
)]
pub(super) fn not_sent_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unsupported => "not_supported",
        ErrorKind::Authentication => "provider_credentials",
        ErrorKind::Permission | ErrorKind::MerchantAccount => "merchant_account",
        // The store did not take what must be written first, or too much time had passed.
        ErrorKind::Internal | ErrorKind::Interrupted => "not_begun",
        _ => "provider_unreachable",
    }
}

/// Why a refused request ends a payment.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the rest has one meaning for the caller"
)]
pub(super) fn refused_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Authentication => "provider_credentials",
        ErrorKind::Permission | ErrorKind::MerchantAccount => "merchant_account",
        ErrorKind::Unsupported => "not_supported",
        _ => "provider_refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who has to act stands in the code: the caller, the operator, or nobody.
    #[test]
    fn why_a_request_was_not_sent_or_was_refused_is_told_apart() {
        for (kind, not_sent, refused) in [
            (
                ErrorKind::Authentication,
                "provider_credentials",
                "provider_credentials",
            ),
            (
                ErrorKind::Permission,
                "merchant_account",
                "merchant_account",
            ),
            (
                ErrorKind::MerchantAccount,
                "merchant_account",
                "merchant_account",
            ),
            (ErrorKind::Unsupported, "not_supported", "not_supported"),
            (ErrorKind::Internal, "not_begun", "provider_refused"),
            (ErrorKind::Interrupted, "not_begun", "provider_refused"),
            (
                ErrorKind::Unreachable,
                "provider_unreachable",
                "provider_refused",
            ),
            (
                ErrorKind::InvalidRequest,
                "provider_unreachable",
                "provider_refused",
            ),
        ] {
            assert_eq!(not_sent_code(kind), not_sent, "{kind:?}");
            assert_eq!(refused_code(kind), refused, "{kind:?}");
        }
    }
}
