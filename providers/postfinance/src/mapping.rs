//! Our requests as PostFinance's, and PostFinance's answers as ours. Pure: nothing is sent here.

use cardless_contract::{
    CaptureMode, CaptureRequest, Currency, Decline, DeclineCategory, HoldState, IdempotencyKey,
    Initiator, Money, Movement, MovementState, ObjectId, Operation, Outcome, Payment, PaymentPhase,
    PaymentRequest, ProviderCode, ProviderToken, Reference, RefundRequest, ReservationId,
    RetryAdvice, SetupCompletion, SetupProgress, SetupReference, SetupRequest, Timestamp,
    TokenFault, Unmapped,
};
use serde_json::value::RawValue;

use crate::config::{MAX_LINE_ITEM_NAME_CHARS, Settings};
use crate::wire;

/// The id of the one line item that each transaction of ours has.
const LINE_ITEM: &str = "payment";

/// Why an answer is not taken: the named member is absent, can't be read, or says something else
/// than what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is absent, unreadable or not what was asked for")]
pub(crate) struct Misfit(pub(crate) &'static str);

/// Why a request can't be expressed at PostFinance; nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} can't be expressed at PostFinance")]
pub(crate) struct Inexpressible(pub(crate) &'static str);

/// What an answer about a transaction is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) id: Option<i64>,
    pub(crate) reference: &'a Reference,
    pub(crate) amount: Money,
}

/// What an answer about a capture, void or refund is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExpectedOperation<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) transaction: i64,
    pub(crate) key: &'a IdempotencyKey,
    pub(crate) amount: Money,
}

/// How far a setup's transaction is, before its token is asked about.
#[derive(Debug)]
pub(crate) enum SetupStep {
    /// This is all there is to know.
    Progress(SetupProgress),
    /// The customer is done; `token` was made, if any, and `hold` says that a hold must be released.
    Concluded { token: Option<i64>, hold: bool },
}

/// What an answer says about whether a token can be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenFate {
    Usable,
    /// Switched off in the back office; it can come back.
    Suspended,
    Gone,
}

/// The number behind a token. This is where a token is exposed.
pub(crate) fn token_id(token: &ProviderToken) -> Result<i64, Inexpressible> {
    positive(token.expose()).ok_or(Inexpressible("the token"))
}

/// Whether a token that came from elsewhere is the number of one, written as the provider writes it:
/// a positive number of 64 bits without leading zeros (`providers/postfinance.md` §2.1). Whether it
/// passes for a card number is not for the adapter to say.
pub(crate) fn check_token(token: &ProviderToken) -> Result<(), TokenFault> {
    let id = token_id(token).map_err(|_| TokenFault::Shape)?;
    let same = id.to_string() == token.expose();
    same.then_some(()).ok_or(TokenFault::Shape)
}

pub(crate) fn transaction_id(id: &ReservationId) -> Result<i64, Inexpressible> {
    positive(id.as_str()).ok_or(Inexpressible("the reservation id"))
}

pub(crate) fn setup_id(id: &SetupReference) -> Result<i64, Inexpressible> {
    positive(id.as_str()).ok_or(Inexpressible("the setup reference"))
}

pub(crate) fn object_id(id: &ObjectId) -> Result<i64, Inexpressible> {
    positive(id.as_str()).ok_or(Inexpressible("the object id"))
}

/// A charge of a token. It is made without being processed.
pub(crate) fn charge<'a>(
    settings: &'a Settings,
    token: &ProviderToken,
    request: &'a PaymentRequest,
) -> Result<wire::TransactionCreate<'a>, Inexpressible> {
    let present = request.initiator == Initiator::Customer;
    let back = if present {
        request.return_url.as_deref()
    } else {
        None
    };
    Ok(wire::TransactionCreate {
        currency: request.amount.currency().code(),
        merchant_reference: request.reference.as_str(),
        customer_id: request.customer.as_str(),
        token: Some(token_id(token)?),
        tokenization_mode: None,
        completion_behavior: completion_behavior(request.capture),
        customers_presence: if present {
            None
        } else {
            settings.customers_presence
        },
        charge_retry_enabled: false,
        language: None,
        success_url: back,
        failed_url: back,
        allowed_payment_method_configurations: None,
        line_items: [line_item(
            settings,
            request.description.as_deref(),
            request.amount,
        )?],
    })
}

/// A setup: a transaction that makes a token when the customer pays it. Without a payment it is a
/// registration, and its amount, if there is any, is only held.
pub(crate) fn setup<'a>(
    settings: &'a Settings,
    request: &'a SetupRequest,
) -> Result<wire::TransactionCreate<'a>, Inexpressible> {
    let amount = request
        .payment
        .map_or(settings.registration, |payment| payment.amount);
    let capture = request.payment.map_or_else(
        || {
            if amount.is_zero() {
                CaptureMode::Automatic
            } else {
                CaptureMode::Manual
            }
        },
        |payment| payment.capture,
    );
    Ok(wire::TransactionCreate {
        currency: amount.currency().code(),
        merchant_reference: request.reference.as_str(),
        customer_id: request.customer.as_str(),
        token: None,
        tokenization_mode: Some("FORCE_CREATION"),
        completion_behavior: completion_behavior(capture),
        customers_presence: None,
        charge_retry_enabled: false,
        language: request.language.as_deref(),
        success_url: Some(&request.return_url),
        failed_url: Some(&request.return_url),
        allowed_payment_method_configurations: settings.allowed_configurations.as_deref(),
        line_items: [line_item(settings, None, amount)?],
    })
}

/// A capture. All of the authorization in one go needs no list of line items.
pub(crate) fn capture<'a>(
    key: &'a IdempotencyKey,
    request: &CaptureRequest,
) -> Result<wire::CompletionDetails<'a>, Inexpressible> {
    let whole = request.last && request.amount == request.authorized;
    let item = wire::CompletionLineItem {
        unique_id: LINE_ITEM,
        quantity: 1,
        amount: decimal(request.amount)?,
    };
    Ok(wire::CompletionDetails {
        external_id: key.as_str(),
        last_completion: request.last,
        line_items: (!whole).then_some([item]),
    })
}

/// A refund. The amount alone is enough (`providers/postfinance.md` §3.6).
pub(crate) fn refund<'a>(
    key: &'a IdempotencyKey,
    request: &'a RefundRequest,
) -> Result<wire::RefundCreate<'a>, Inexpressible> {
    Ok(wire::RefundCreate {
        external_id: key.as_str(),
        r#type: "MERCHANT_INITIATED_ONLINE",
        transaction: transaction_id(&request.reservation)?,
        amount: decimal(request.amount)?,
        merchant_reference: request.reference.as_str(),
    })
}

/// The answer to a transaction that was made: its id, or the refusal.
pub(crate) fn created(
    answer: &wire::Transaction,
    expected: &Expected<'_>,
) -> Result<Outcome<i64>, Misfit> {
    check_transaction(answer, expected)?;
    Ok(match Standing::of(&answer.state) {
        Standing::Failed => Outcome::Declined(decline(answer.failure_reason.as_ref())),
        Standing::Unknown => Outcome::Unmapped(unmapped_transaction(&answer.state)),
        // Whatever else it stands at, the object is there; the commit reads it.
        Standing::Reserved
        | Standing::Processing
        | Standing::Authorized
        | Standing::Completed
        | Standing::Fulfilled
        | Standing::DoNotDeliver
        | Standing::Voided => Outcome::Done(answer.id),
    })
}

/// Whether the transaction's own sum of captures is missing, so that the completions must tell.
pub(crate) fn needs_completions(answer: &wire::Transaction) -> bool {
    let moved = match Standing::of(&answer.state) {
        Standing::Authorized
        | Standing::Completed
        | Standing::Fulfilled
        | Standing::DoNotDeliver => true,
        Standing::Reserved
        | Standing::Processing
        | Standing::Failed
        | Standing::Voided
        | Standing::Unknown => false,
    };
    moved && answer.completed_amount.is_none()
}

/// A payment as one read shows it. `completions` are there if [`needs_completions`].
pub(crate) fn payment(
    answer: &wire::Transaction,
    completions: Option<&wire::Page<wire::Completion>>,
    expected: &Expected<'_>,
) -> Result<Outcome<Payment>, Misfit> {
    check_transaction(answer, expected)?;
    let captures = movements(answer.id, completions, expected)?;
    let captured = captured(answer, &captures, expected.amount)?;
    let standing = Standing::of(&answer.state);
    if !captured.is_zero() && !standing.may_have_captured() {
        return Err(Misfit("transaction.completedAmount"));
    }
    let payment = Payment {
        reservation: ReservationId::new(answer.id.to_string())
            .map_err(|_| Misfit("transaction.id"))?,
        phase: phase(standing, captured),
        authorization: None,
        expires_at: expiry(answer, standing),
        hold: hold(standing),
        captured,
        refunded: refunded(answer, expected.amount.currency())?,
        reversed: None,
        returned: None,
        captures,
        refunds: Vec::new(),
    };
    Ok(match standing {
        Standing::Reserved | Standing::Authorized | Standing::Voided => Outcome::Done(payment),
        Standing::Fulfilled if captured.is_zero() => {
            return Err(Misfit("transaction.completedAmount"));
        }
        Standing::Fulfilled => Outcome::Done(payment),
        // Captured, but the delivery check may still say no: not paid yet (§2.6).
        Standing::Processing | Standing::Completed => Outcome::Pending(payment),
        Standing::DoNotDeliver => Outcome::Review(payment),
        Standing::Failed => Outcome::Declined(decline(answer.failure_reason.as_ref())),
        Standing::Unknown => Outcome::Unmapped(unmapped_transaction(&answer.state)),
    })
}

/// The outcome of a commit whose request was taken: a transaction that reads as untouched is only
/// late, since PostFinance concludes behind the answer.
pub(crate) fn after_commit(outcome: Outcome<Payment>) -> Outcome<Payment> {
    if let Outcome::Done(payment) = &outcome
        && payment.phase == PaymentPhase::Reserved
    {
        return Outcome::Pending(payment.clone());
    }
    outcome
}

/// A payment that takes its amount at once takes all of it.
pub(crate) fn taken_whole(
    outcome: Outcome<Payment>,
    request: &PaymentRequest,
) -> Result<Outcome<Payment>, Misfit> {
    let part = request.capture == CaptureMode::Automatic
        && matches!(&outcome, Outcome::Done(payment)
            if payment.phase == PaymentPhase::Captured && payment.captured != request.amount);
    if part {
        return Err(Misfit("transaction.completedAmount"));
    }
    Ok(outcome)
}

/// Whether a read shows that nothing has been done with a reservation.
pub(crate) fn is_untouched(outcome: &Outcome<Payment>) -> bool {
    matches!(outcome, Outcome::Done(payment) if payment.phase == PaymentPhase::Reserved)
}

/// The charge that a commit answers with: that it is of the same transaction. What became of it
/// is the transaction's to say.
pub(crate) fn check_charge(
    charge: &wire::Charge,
    settings: &Settings,
    transaction: i64,
) -> Result<(), Misfit> {
    check_space(charge.linked_space_id, settings)?;
    let id = charge
        .transaction
        .as_ref()
        .and_then(|transaction| transaction.id);
    same(id, transaction, "charge.transaction")
}

/// How far a setup is.
pub(crate) fn setup_step(
    answer: &wire::Transaction,
    id: i64,
    request: &SetupCompletion,
    settings: &Settings,
) -> Result<SetupStep, Misfit> {
    let currency = currency_of(answer)?;
    let total = total(answer, currency)?;
    // A registration's amount is a setting that may have changed since; it is never captured.
    let amount = request.payment.map_or(total, |payment| payment.amount);
    let expected = Expected {
        settings,
        id: Some(id),
        reference: &request.reference,
        amount,
    };
    check_transaction(answer, &expected)?;
    let registration = request.payment.is_none();
    let standing = Standing::of(&answer.state);
    let progress = match standing {
        Standing::Reserved => SetupProgress::AwaitingCustomer,
        Standing::Processing => SetupProgress::Pending,
        Standing::Failed => SetupProgress::Declined(decline(answer.failure_reason.as_ref())),
        Standing::Unknown => SetupProgress::Unmapped(unmapped_transaction(&answer.state)),
        Standing::Completed | Standing::Fulfilled | Standing::DoNotDeliver
            if registration && !total.is_zero() =>
        {
            return Err(Misfit("transaction.state"));
        }
        Standing::Authorized
        | Standing::Completed
        | Standing::Fulfilled
        | Standing::DoNotDeliver
        | Standing::Voided => {
            let hold = registration && standing == Standing::Authorized;
            return token_step(answer, settings, hold);
        }
    };
    Ok(SetupStep::Progress(progress))
}

/// Whether a token's active version lets it be charged.
pub(crate) fn linked(
    version: &wire::TokenVersion,
    token: i64,
    settings: &Settings,
) -> Result<SetupProgress, Misfit> {
    check_space(version.linked_space_id, settings)?;
    let of = version.token.as_ref().and_then(|token| token.id);
    same(of, token, "tokenVersion.token")?;
    if settings.live && version.environment.as_deref() == Some("TEST") {
        return Ok(SetupProgress::Declined(test_token()));
    }
    Ok(match version.state.as_str() {
        "ACTIVE" => ProviderToken::new(token.to_string())
            .map_or(SetupProgress::NoToken, SetupProgress::Linked),
        "UNINITIALIZED" => SetupProgress::Pending,
        "OBSOLETE" => SetupProgress::NoToken,
        word => SetupProgress::Unmapped(Unmapped::new("tokenVersion.state", word)),
    })
}

/// What a token's own state says.
pub(crate) fn token_fate(
    token: &wire::Token,
    id: i64,
    settings: &Settings,
) -> Result<TokenFate, Misfit> {
    check_space(token.linked_space_id, settings)?;
    same(Some(token.id), id, "token.id")?;
    Ok(match token.state.as_deref() {
        Some("DELETING" | "DELETED") => TokenFate::Gone,
        Some("INACTIVE") => TokenFate::Suspended,
        _ => TokenFate::Usable,
    })
}

/// The refusal of a charge whose token can't be charged any more.
pub(crate) fn dead_token(fate: TokenFate) -> Option<Decline> {
    let code = match fate {
        TokenFate::Usable => return None,
        TokenFate::Suspended => "TOKEN_INACTIVE",
        TokenFate::Gone => "TOKEN_DELETED",
    };
    Some(Decline {
        category: DeclineCategory::InvalidMethod,
        retry: RetryAdvice::NewMethod,
        provider_code: ProviderCode::new(code),
        method_gone: fate == TokenFate::Gone,
    })
}

/// A capture's answer.
pub(crate) fn completion(
    answer: &wire::Completion,
    expected: &ExpectedOperation<'_>,
) -> Result<Outcome<Operation>, Misfit> {
    check_space(answer.linked_space_id, expected.settings)?;
    same(
        answer.linked_transaction,
        expected.transaction,
        "completion.linkedTransaction",
    )?;
    check_key(
        answer.external_id.as_deref(),
        expected.key,
        "completion.externalId",
    )?;
    let amount = same_amount(
        answer.amount.as_deref(),
        expected.amount,
        "completion.amount",
    )?;
    let operation = operation(answer.id, amount)?;
    Ok(match answer.state.as_str() {
        "SUCCESSFUL" => Outcome::Done(operation),
        "CREATE" | "SCHEDULED" | "PENDING" => Outcome::Pending(operation),
        "FAILED" => Outcome::Declined(decline(answer.failure_reason.as_ref())),
        word => Outcome::Unmapped(Unmapped::new("completion.state", word)),
    })
}

/// A void's answer.
pub(crate) fn void(
    answer: &wire::Void,
    settings: &Settings,
    transaction: i64,
) -> Result<Outcome<Operation>, Misfit> {
    check_space(answer.linked_space_id, settings)?;
    same(
        answer.linked_transaction,
        transaction,
        "void.linkedTransaction",
    )?;
    let nested = answer
        .transaction
        .as_ref()
        .and_then(|transaction| transaction.id);
    same(nested, transaction, "void.transaction")?;
    let operation = operation(answer.id, None)?;
    Ok(match answer.state.as_str() {
        "SUCCESSFUL" => Outcome::Done(operation),
        "CREATE" | "PENDING" => Outcome::Pending(operation),
        "FAILED" => Outcome::Declined(decline(answer.failure_reason.as_ref())),
        word => Outcome::Unmapped(Unmapped::new("void.state", word)),
    })
}

/// Of several voids of one transaction, the one that counts: a success before one that is still
/// open before anything else. One that failed does not count: voids carry no key, so it may be an
/// earlier one, and the one that is asked about may be on its way.
pub(crate) fn foremost_void(
    voids: &[wire::Void],
    settings: &Settings,
    transaction: i64,
) -> Result<Option<Outcome<Operation>>, Misfit> {
    let mut outcomes = Vec::new();
    for answer in voids {
        let outcome = void(answer, settings, transaction)?;
        if !matches!(outcome, Outcome::Declined(_)) {
            outcomes.push(outcome);
        }
    }
    let rank = |outcome: &Outcome<Operation>| match outcome {
        Outcome::Done(_) => 0,
        Outcome::Pending(_) | Outcome::ActionRequired(..) | Outcome::Review(_) => 1,
        Outcome::Unmapped(_) => 2,
        Outcome::Declined(_) => 3,
    };
    Ok(outcomes.into_iter().min_by_key(rank))
}

/// The transaction of a capture that somebody has made.
pub(crate) fn transaction_of_completion(
    answer: &wire::Completion,
    id: i64,
    settings: &Settings,
) -> Result<ReservationId, Misfit> {
    check_space(answer.linked_space_id, settings)?;
    same(Some(answer.id), id, "completion.id")?;
    of_transaction(answer.linked_transaction, "completion.linkedTransaction")
}

/// The transaction of a void that somebody has made.
pub(crate) fn transaction_of_void(
    answer: &wire::Void,
    id: i64,
    settings: &Settings,
) -> Result<ReservationId, Misfit> {
    check_space(answer.linked_space_id, settings)?;
    same(Some(answer.id), id, "void.id")?;
    of_transaction(answer.linked_transaction, "void.linkedTransaction")
}

/// The transaction of a refund that somebody has made.
pub(crate) fn transaction_of_refund(
    answer: &wire::Refund,
    id: i64,
    settings: &Settings,
) -> Result<ReservationId, Misfit> {
    check_space(answer.linked_space_id, settings)?;
    same(Some(answer.id), id, "refund.id")?;
    let of = answer.transaction.as_ref().and_then(|of| of.id);
    of_transaction(of, "refund.transaction")
}

fn of_transaction(id: Option<i64>, field: &'static str) -> Result<ReservationId, Misfit> {
    let id = id.ok_or(Misfit(field))?;
    ReservationId::new(id.to_string()).map_err(|_| Misfit(field))
}

/// A refund's answer.
pub(crate) fn refund_outcome(
    answer: &wire::Refund,
    expected: &ExpectedOperation<'_>,
) -> Result<Outcome<Operation>, Misfit> {
    check_space(answer.linked_space_id, expected.settings)?;
    let of = answer.transaction.as_ref();
    same(
        of.and_then(|of| of.id),
        expected.transaction,
        "refund.transaction",
    )?;
    let currency = of.and_then(|of| of.currency.as_deref());
    if currency.is_some_and(|code| code != expected.amount.currency().code()) {
        return Err(Misfit("refund.transaction.currency"));
    }
    check_key(
        answer.external_id.as_deref(),
        expected.key,
        "refund.externalId",
    )?;
    let amount = same_amount(answer.amount.as_deref(), expected.amount, "refund.amount")?;
    let operation = operation(answer.id, amount)?;
    Ok(match answer.state.as_str() {
        "SUCCESSFUL" => Outcome::Done(operation),
        "CREATE" | "SCHEDULED" | "PENDING" => Outcome::Pending(operation),
        "MANUAL_CHECK" => Outcome::Review(operation),
        "FAILED" => Outcome::Declined(decline(answer.failure_reason.as_ref())),
        word => Outcome::Unmapped(Unmapped::new("refund.state", word)),
    })
}

/// Where a transaction stands with regard to a void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voidable {
    /// Something is held.
    Held,
    /// Nothing is held any more.
    Released,
    /// Nothing is held yet, money was taken, or nobody knows.
    No,
}

/// Whether a transaction can be voided: only from AUTHORIZED (§3.5).
pub(crate) fn voidable(
    answer: &wire::Transaction,
    expected: &Expected<'_>,
) -> Result<Voidable, Misfit> {
    check_transaction(answer, expected)?;
    Ok(match Standing::of(&answer.state) {
        Standing::Authorized => Voidable::Held,
        Standing::Voided | Standing::Failed => Voidable::Released,
        Standing::Reserved
        | Standing::Processing
        | Standing::Completed
        | Standing::Fulfilled
        | Standing::DoNotDeliver
        | Standing::Unknown => Voidable::No,
    })
}

/// Whether a transaction holds nothing any more.
pub(crate) fn is_released(answer: &wire::Transaction) -> bool {
    Standing::of(&answer.state) == Standing::Voided
}

/// Whether any void was carried out, or may have been: one that failed does not count.
pub(crate) fn has_void(voids: &[wire::Void]) -> bool {
    voids.iter().any(|void| void.state != "FAILED")
}

/// Whether less than `amount` is left to capture.
pub(crate) fn exceeds_authorization(answer: &wire::Transaction, amount: Money) -> bool {
    let currency = amount.currency();
    let done = answer
        .completed_amount
        .as_deref()
        .and_then(|sum| read(currency, sum).ok());
    let left = total(answer, currency)
        .ok()
        .and_then(|total| total.minus(done.unwrap_or(Money::zero(currency))).ok());
    left.is_some_and(|left| amount.minor() > left.minor())
}

/// Whether less than `amount` is left to refund.
pub(crate) fn exceeds_capture(answer: &wire::Transaction, amount: Money) -> bool {
    let currency = amount.currency();
    let sum = |raw: Option<&RawValue>| raw.and_then(|raw| read(currency, raw).ok());
    let refunded = sum(answer.refunded_amount.as_deref()).unwrap_or(Money::zero(currency));
    sum(answer.completed_amount.as_deref())
        .and_then(|captured| captured.minus(refunded).ok())
        .is_some_and(|left| amount.minor() > left.minor())
}

/// The one transaction with our reference, if there is any; `Err(None)` if there is more than one.
pub(crate) fn found(
    page: &wire::Page<wire::Transaction>,
    reference: &Reference,
    settings: &Settings,
) -> Result<Option<ReservationId>, Option<Misfit>> {
    match page.data.as_slice() {
        [] if page.has_more == Some(true) => Err(Some(Misfit("transactions.hasMore"))),
        [] => Ok(None),
        [one] => {
            check_space(one.linked_space_id, settings)?;
            if one.merchant_reference.as_deref() != Some(reference.as_str()) {
                return Err(Some(Misfit("transaction.merchantReference")));
            }
            ReservationId::new(one.id.to_string())
                .map(Some)
                .map_err(|_| Some(Misfit("transaction.id")))
        }
        [_, _, ..] => Err(None),
    }
}

/// Whether a listener is known to send its webhooks unsigned. We refuse those, and a listener of
/// API 2.0 is made without the signature (`providers/postfinance.md` §4.2).
pub(crate) fn sends_unsigned(page: &wire::Page<wire::Listener>) -> bool {
    page.data
        .iter()
        .any(|listener| listener.enable_payload_signature_and_state == Some(false))
}

/// The states of a transaction, as `state-machines.json` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Reserved,
    Processing,
    Authorized,
    Completed,
    Fulfilled,
    DoNotDeliver,
    Failed,
    Voided,
    Unknown,
}

impl Standing {
    fn of(state: &str) -> Self {
        match state {
            "CREATE" | "PENDING" | "CONFIRMED" => Self::Reserved,
            "PROCESSING" => Self::Processing,
            "AUTHORIZED" => Self::Authorized,
            "COMPLETED" => Self::Completed,
            "FULFILL" => Self::Fulfilled,
            "DECLINE" => Self::DoNotDeliver,
            "FAILED" => Self::Failed,
            "VOIDED" => Self::Voided,
            _ => Self::Unknown,
        }
    }

    /// Whether money can have been taken in this state.
    const fn may_have_captured(self) -> bool {
        match self {
            Self::Authorized
            | Self::Completed
            | Self::Fulfilled
            | Self::DoNotDeliver
            | Self::Voided
            | Self::Unknown => true,
            Self::Reserved | Self::Processing | Self::Failed => false,
        }
    }
}

/// The phase of a state. What was captured before the rest was released stays captured.
const fn phase(standing: Standing, captured: Money) -> PaymentPhase {
    match standing {
        Standing::Reserved | Standing::Processing | Standing::Failed | Standing::Unknown => {
            PaymentPhase::Reserved
        }
        Standing::Authorized | Standing::Completed => PaymentPhase::Authorized,
        Standing::Voided if captured.is_zero() => PaymentPhase::Voided,
        Standing::Fulfilled | Standing::DoNotDeliver | Standing::Voided => PaymentPhase::Captured,
    }
}

/// Whether more can be completed: only from AUTHORIZED, and nothing leads back there
/// (`providers/postfinance.md` §2.6).
const fn hold(standing: Standing) -> HoldState {
    match standing {
        Standing::Authorized => HoldState::Alive,
        Standing::Completed
        | Standing::Fulfilled
        | Standing::DoNotDeliver
        | Standing::Failed
        | Standing::Voided => HoldState::Ended,
        Standing::Reserved | Standing::Processing | Standing::Unknown => HoldState::NotTold,
    }
}

fn token_step(
    answer: &wire::Transaction,
    settings: &Settings,
    hold: bool,
) -> Result<SetupStep, Misfit> {
    let Some(token) = &answer.token else {
        return Ok(SetupStep::Concluded { token: None, hold });
    };
    check_space(token.linked_space_id, settings)?;
    if token.id < 1 {
        return Err(Misfit("token.id"));
    }
    let token = Some(token.id);
    Ok(SetupStep::Concluded { token, hold })
}

fn check_transaction(answer: &wire::Transaction, expected: &Expected<'_>) -> Result<(), Misfit> {
    if answer.id < 1 {
        return Err(Misfit("transaction.id"));
    }
    if let Some(id) = expected.id {
        same(Some(answer.id), id, "transaction.id")?;
    }
    check_space(answer.linked_space_id, expected.settings)?;
    let reference = answer.merchant_reference.as_deref();
    if reference.is_some_and(|text| text != expected.reference.as_str()) {
        return Err(Misfit("transaction.merchantReference"));
    }
    let currency = currency_of(answer)?;
    if currency != expected.amount.currency() || total(answer, currency)? != expected.amount {
        return Err(Misfit("transaction.authorizationAmount"));
    }
    if expected.settings.live && answer.authorization_environment.as_deref() == Some("TEST") {
        return Err(Misfit("transaction.authorizationEnvironment"));
    }
    Ok(())
}

fn check_space(space: Option<i64>, settings: &Settings) -> Result<(), Misfit> {
    same(space, settings.space, "linkedSpaceId")
}

fn check_key(
    answer: Option<&str>,
    key: &IdempotencyKey,
    field: &'static str,
) -> Result<(), Misfit> {
    if answer.is_some_and(|answer| answer != key.as_str()) {
        Err(Misfit(field))
    } else {
        Ok(())
    }
}

/// Every member of PostFinance's answers is optional; one that is there must be the one asked for.
fn same(answer: Option<i64>, asked: i64, field: &'static str) -> Result<(), Misfit> {
    if answer.is_some_and(|answer| answer != asked) {
        Err(Misfit(field))
    } else {
        Ok(())
    }
}

fn same_amount(
    answer: Option<&RawValue>,
    asked: Money,
    field: &'static str,
) -> Result<Option<Money>, Misfit> {
    let Some(raw) = answer else { return Ok(None) };
    let amount = read(asked.currency(), raw).map_err(|_| Misfit(field))?;
    if amount == asked {
        Ok(Some(amount))
    } else {
        Err(Misfit(field))
    }
}

fn currency_of(answer: &wire::Transaction) -> Result<Currency, Misfit> {
    let code = answer
        .currency
        .as_deref()
        .ok_or(Misfit("transaction.currency"))?;
    Currency::from_code(code).map_err(|_| Misfit("transaction.currency"))
}

/// What the transaction is about in all: its own word, or the sum of its line items, which is the
/// same by definition (§3.2).
fn total(answer: &wire::Transaction, currency: Currency) -> Result<Money, Misfit> {
    if let Some(raw) = &answer.authorization_amount {
        return read(currency, raw);
    }
    let items = answer.line_items.as_deref().unwrap_or_default();
    if items.is_empty() {
        return Err(Misfit("transaction.authorizationAmount"));
    }
    let mut sum = Money::zero(currency);
    for item in items {
        let raw = item
            .amount_including_tax
            .as_deref()
            .ok_or(Misfit("lineItem.amount"))?;
        sum = sum
            .plus(read(currency, raw)?)
            .map_err(|_| Misfit("lineItem.amount"))?;
    }
    Ok(sum)
}

fn captured(
    answer: &wire::Transaction,
    captures: &[Movement],
    authorized: Money,
) -> Result<Money, Misfit> {
    let currency = authorized.currency();
    let sum = match &answer.completed_amount {
        Some(raw) => read(currency, raw)?,
        None => captures
            .iter()
            .filter(|capture| capture.state == MovementState::Done)
            .try_fold(Money::zero(currency), |sum, capture| {
                sum.plus(capture.amount)
            })
            .map_err(|_| Misfit("completion.amount"))?,
    };
    if sum.minor() > authorized.minor() {
        return Err(Misfit("transaction.completedAmount"));
    }
    Ok(sum)
}

fn refunded(answer: &wire::Transaction, currency: Currency) -> Result<Option<Money>, Misfit> {
    answer
        .refunded_amount
        .as_deref()
        .map(|raw| read(currency, raw))
        .transpose()
}

fn movements(
    transaction: i64,
    completions: Option<&wire::Page<wire::Completion>>,
    expected: &Expected<'_>,
) -> Result<Vec<Movement>, Misfit> {
    let Some(page) = completions else {
        return Ok(Vec::new());
    };
    if page.has_more == Some(true) {
        return Err(Misfit("completions.hasMore"));
    }
    page.data
        .iter()
        .map(|item| movement(item, transaction, expected))
        .collect()
}

fn movement(
    item: &wire::Completion,
    transaction: i64,
    expected: &Expected<'_>,
) -> Result<Movement, Misfit> {
    check_space(item.linked_space_id, expected.settings)?;
    same(
        item.linked_transaction,
        transaction,
        "completion.linkedTransaction",
    )?;
    let raw = item.amount.as_deref().ok_or(Misfit("completion.amount"))?;
    Ok(Movement {
        id: Some(ObjectId::new(item.id.to_string()).map_err(|_| Misfit("completion.id"))?),
        amount: read(expected.amount.currency(), raw)?,
        state: movement_state(&item.state),
        reference: item.external_id.clone(),
    })
}

fn movement_state(state: &str) -> MovementState {
    match state {
        "SUCCESSFUL" => MovementState::Done,
        "CREATE" | "SCHEDULED" | "PENDING" => MovementState::Pending,
        "FAILED" => MovementState::Failed,
        _ => MovementState::Unclear,
    }
}

fn expiry(answer: &wire::Transaction, standing: Standing) -> Option<Timestamp> {
    let held = standing == Standing::Authorized;
    answer
        .completion_timeout_on
        .as_deref()
        .filter(|_| held)
        .and_then(Timestamp::parse_rfc3339)
}

fn operation(id: i64, amount: Option<Money>) -> Result<Operation, Misfit> {
    if id < 1 {
        return Err(Misfit("id"));
    }
    let id = ObjectId::new(id.to_string()).map_err(|_| Misfit("id"))?;
    Ok(Operation {
        id: Some(id),
        amount,
    })
}

/// Why something failed, by the category alone: the meaning of single reasons is not documented
/// (`providers/postfinance.md` §5.3).
fn decline(reason: Option<&wire::FailureReason>) -> Decline {
    let category = reason.and_then(|reason| reason.category.as_deref());
    let (meaning, retry) = match category {
        Some("END_USER") => (DeclineCategory::ProviderRefused, RetryAdvice::NewMethod),
        Some("TEMPORARY_ISSUE" | "INTERNAL") => (DeclineCategory::Other, RetryAdvice::Later),
        // CONFIGURATION and DEVELOPER are ours to repair; a word we do not know is no invitation.
        Some(_) | None => (DeclineCategory::Other, RetryAdvice::Never),
    };
    Decline {
        category: meaning,
        retry,
        provider_code: failure_code(reason, category),
        method_gone: false,
    }
}

/// The reason's opaque id, or its category where the id is too long to be kept as a code.
fn failure_code(reason: Option<&wire::FailureReason>, category: Option<&str>) -> ProviderCode {
    let id = reason
        .and_then(|reason| reason.id)
        .map(|id| ProviderCode::new(&id.to_string()));
    let unrecognized = ProviderCode::new("");
    match id {
        Some(id) if id != unrecognized => id,
        Some(_) | None => ProviderCode::new(category.unwrap_or("FAILED")),
    }
}

fn test_token() -> Decline {
    Decline {
        category: DeclineCategory::InvalidMethod,
        retry: RetryAdvice::NewMethod,
        provider_code: ProviderCode::new("TEST_ENVIRONMENT"),
        method_gone: false,
    }
}

fn unmapped_transaction(state: &str) -> Unmapped {
    Unmapped::new("transaction.state", state)
}

const fn completion_behavior(capture: CaptureMode) -> &'static str {
    match capture {
        CaptureMode::Automatic => "COMPLETE_IMMEDIATELY",
        CaptureMode::Manual => "COMPLETE_DEFERRED",
    }
}

fn line_item<'a>(
    settings: &'a Settings,
    description: Option<&'a str>,
    amount: Money,
) -> Result<wire::LineItemCreate<'a>, Inexpressible> {
    let name = description.unwrap_or(&settings.line_item_name);
    if !(1..=MAX_LINE_ITEM_NAME_CHARS).contains(&name.chars().count()) {
        return Err(Inexpressible("the description"));
    }
    Ok(wire::LineItemCreate {
        unique_id: LINE_ITEM,
        r#type: "PRODUCT",
        name,
        quantity: 1,
        amount_including_tax: decimal(amount)?,
    })
}

/// An amount as the digits of a JSON number in major units.
fn decimal(amount: Money) -> Result<wire::Amount, Inexpressible> {
    let digits = amount
        .to_decimal(amount.currency().exponent())
        .map_err(|_| Inexpressible("the amount"))?;
    RawValue::from_string(digits).map_err(|_| Inexpressible("the amount"))
}

/// Reads the digits of a JSON number. A sign, an exponent or a part below the smallest unit makes
/// it unreadable; zeros at the end do not.
fn read(currency: Currency, raw: &RawValue) -> Result<Money, Misfit> {
    Money::from_decimal(currency, raw.get()).map_err(|_| Misfit("an amount"))
}

fn positive(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

#[cfg(test)]
mod tests;
