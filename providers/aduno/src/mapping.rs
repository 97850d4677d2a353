//! Pure: our requests → Datatrans' JSON, its answers → our outcomes. The one file that sees both
//! vocabularies, and the one where a provider token is exposed.

use std::ops::RangeInclusive;
use std::time::Duration;

use cardless_contract::{
    CaptureMode, Currency, Decline, DeclineCategory, Found, HoldState, Money, Movement,
    MovementState, ObjectId, Operation, Outcome, Payment, PaymentPhase, PaymentRequest,
    ProviderCode, ProviderToken, RedirectUrl, Reference, ReservationId, RetryAdvice, SetupPayment,
    SetupProgress, SetupRequest, Timestamp, TokenFault, Unmapped,
};

use crate::error::Refusal;
use crate::wire::{self, Alias, Expiry, Status, TransactionId};

/// What an answer must agree with.
pub(crate) struct Expected<'a> {
    pub(crate) id: TransactionId<'a>,
    pub(crate) merchant_id: &'a str,
    pub(crate) reference: &'a Reference,
    pub(crate) currency: Option<Currency>,
    /// The whole amount of the payment, where it is known.
    pub(crate) amount: Option<Money>,
}

/// An answer says something that does not fit the question, at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mismatch(pub(crate) &'static str);

/// How far a setup is.
pub(crate) enum Registered<'a> {
    /// It left a card; its expiry date is in memory only.
    Card(Alias<'a>, Expiry),
    /// It left none, or not yet.
    Without(SetupProgress),
}

/// How long an alias is that preserves a card number's length (`providers/aduno.md` §6.1).
const LEGACY_LENGTHS: RangeInclusive<usize> = 12..=19;

/// The languages of the payment page (`providers/aduno.md` §4).
const LANGUAGES: [&str; 21] = [
    "en", "de", "fr", "it", "es", "el", "fi", "hu", "ko", "nl", "no", "da", "pl", "pt", "ru", "ja",
    "sk", "sl", "sv", "tr", "zh",
];

/// Error codes that are declines (`providers/aduno.md` §10.2), with whether the alias is unusable
/// from now on.
const DECLINES: &[(&str, DeclineCategory, RetryAdvice, bool)] = &[
    (
        "DECLINED",
        DeclineCategory::ProviderRefused,
        RetryAdvice::Later,
        false,
    ),
    // The issuer wants the customer: later, with the customer present.
    (
        "SOFT_DECLINED",
        DeclineCategory::AuthenticationRequired,
        RetryAdvice::Later,
        false,
    ),
    (
        "REFERRAL",
        DeclineCategory::ProviderRefused,
        RetryAdvice::Never,
        false,
    ),
    (
        "BLOCKED_CARD",
        DeclineCategory::ProviderRefused,
        RetryAdvice::Never,
        false,
    ),
    (
        "EXPIRED_CARD",
        DeclineCategory::Expired,
        RetryAdvice::NewMethod,
        true,
    ),
    (
        "INVALID_CARD",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        true,
    ),
    (
        "INVALID_CVV",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        false,
    ),
    (
        "UNSUPPORTED_CARD",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        false,
    ),
    (
        "INVALID_ALIAS",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        true,
    ),
    (
        "ALIAS_NOT_FOUND",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        true,
    ),
    (
        "PLAIN_NOT_FOUND",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        true,
    ),
    (
        "BLOCKED_BY_VELOCITY_CHECKER",
        DeclineCategory::SuspectedFraud,
        RetryAdvice::Later,
        false,
    ),
    (
        "VELOCITY_ERROR",
        DeclineCategory::SuspectedFraud,
        RetryAdvice::Later,
        false,
    ),
];

/// Reasons of a transaction that failed (`providers/aduno.md` §7). `timeout` is not among them:
/// it is the end of a page that nobody used.
const FAIL_REASONS: &[(&str, DeclineCategory, RetryAdvice)] = &[
    (
        "card_invalid",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
    ),
    (
        "declined",
        DeclineCategory::ProviderRefused,
        RetryAdvice::Later,
    ),
    (
        "soft_declined",
        DeclineCategory::AuthenticationRequired,
        RetryAdvice::Later,
    ),
    (
        "secure_authentication",
        DeclineCategory::AuthenticationRequired,
        RetryAdvice::Later,
    ),
    (
        "referral",
        DeclineCategory::ProviderRefused,
        RetryAdvice::Never,
    ),
    ("incomplete", DeclineCategory::Other, RetryAdvice::Later),
    ("invalid_setup", DeclineCategory::Other, RetryAdvice::Later),
    ("error_on_start", DeclineCategory::Other, RetryAdvice::Later),
    ("error", DeclineCategory::Other, RetryAdvice::Later),
];

const FAILED_BY_TIMEOUT: &str = "timeout";

/// Whether a token that came from elsewhere is an alias of the current kind (`providers/aduno.md`
/// §6.1). Refused as showing digits are the kinds that stand in a card number's own place: the
/// masked one (its first six, letters, its last four), the one that preserves the length, and the
/// one of digits only. At 32 characters a random alias looks like one of them once in 10⁸.
pub(crate) fn check_alias(token: &ProviderToken) -> Result<(), TokenFault> {
    let text = token.expose().as_bytes();
    let all_digits = text.iter().all(u8::is_ascii_digit);
    let like_a_number = LEGACY_LENGTHS.contains(&text.len());
    if all_digits || like_a_number || is_masked(text) {
        return Err(TokenFault::RevealsDigits);
    }
    alias(token).map(drop).ok_or(TokenFault::Shape)
}

/// Whether it begins with six digits and ends with four: a card number with its middle replaced.
fn is_masked(text: &[u8]) -> bool {
    let digits = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let tail = text.len().checked_sub(4).and_then(|at| text.get(at..));
    text.len() >= 10 && digits(text.get(..6)) && digits(tail)
}

/// The alias in a token, if it has the one shape that is sent.
pub(crate) fn alias(token: &ProviderToken) -> Option<Alias<'_>> {
    Alias::new(token.expose())
}

/// An init that registers a card, with the first payment if there is one.
pub(crate) fn registration<'a>(
    request: &'a SetupRequest,
    payment_methods: &'a [String],
    registration_currency: Currency,
) -> wire::Init<'a> {
    let amount = request.payment.map(|payment| payment.amount);
    wire::Init {
        currency: amount.map_or(registration_currency, Money::currency).code(),
        refno: request.reference.as_str(),
        // Without an amount the transaction is a registration only (§5.1).
        amount: amount.map(Money::minor),
        // A check without an amount does not support a deferred settlement (§5.1).
        auto_settle: request
            .payment
            .is_none_or(|payment| settles_at_once(payment.capture)),
        payment_methods: Some(payment_methods),
        language: request.language.as_deref().and_then(language),
        option: wire::InitOption {
            create_alias: Some(true),
            store_customer_data: false,
        },
        card: None,
        redirect: redirect(&request.return_url),
        webhook: wire::Webhook {
            url: &request.webhook_url,
        },
    }
}

/// An init that charges an alias with the customer present (§5.4).
pub(crate) fn customer_charge<'a>(
    request: &'a PaymentRequest,
    return_url: &'a str,
    alias: Alias<'a>,
    expiry: &'a Expiry,
) -> wire::Init<'a> {
    wire::Init {
        currency: request.amount.currency().code(),
        refno: request.reference.as_str(),
        amount: Some(request.amount.minor()),
        auto_settle: settles_at_once(request.capture),
        payment_methods: None,
        language: None,
        option: wire::InitOption {
            create_alias: None,
            store_customer_data: false,
        },
        card: Some(card(alias, expiry)),
        redirect: redirect(return_url),
        webhook: wire::Webhook {
            url: &request.webhook_url,
        },
    }
}

/// A hold on an alias without the customer. It never settles by itself: the commit does, by the
/// stored id.
pub(crate) fn hold<'a>(
    request: &'a PaymentRequest,
    alias: Alias<'a>,
    expiry: &'a Expiry,
) -> wire::Authorize<'a> {
    wire::Authorize {
        currency: request.amount.currency().code(),
        refno: request.reference.as_str(),
        amount: request.amount.minor(),
        auto_settle: false,
        card: card(alias, expiry),
    }
}

/// A settle or a credit.
pub(crate) fn movement(amount: Money, reference: &Reference) -> wire::Movement<'_> {
    wire::Movement {
        amount: amount.minor(),
        currency: amount.currency().code(),
        refno: reference.as_str(),
    }
}

/// A decline, if the provider's answer is one: always a 400 (§10.1).
pub(crate) fn decline(refusal: &Refusal) -> Option<Decline> {
    if refusal.is_about_the_alias() {
        return Some(refused((
            "INVALID_ALIAS",
            DeclineCategory::InvalidMethod,
            RetryAdvice::NewMethod,
            true,
        )));
    }
    let code = refusal.documented_code()?;
    DECLINES
        .iter()
        .find(|(name, ..)| *name == code)
        .copied()
        .map(refused)
}

/// Whether an answer says that the alias is not there: not that its card can't be charged now.
pub(crate) fn is_unknown_alias(refusal: &Refusal) -> bool {
    let codes = ["INVALID_ALIAS", "ALIAS_NOT_FOUND", "PLAIN_NOT_FOUND"];
    refusal.is_about_the_alias()
        || refusal
            .documented_code()
            .is_some_and(|code| codes.contains(&code))
}

/// An alias that has no expiry date at the provider can't be charged there (§6.3): nothing is
/// sent, and the customer has to register again.
pub(crate) fn undated_alias() -> Decline {
    refused((
        "ALIAS_WITHOUT_EXPIRY",
        DeclineCategory::InvalidMethod,
        RetryAdvice::NewMethod,
        false,
    ))
}

/// A payment of which the request and the accepted call are all that is known.
pub(crate) fn payment_of(
    id: TransactionId<'_>,
    phase: PaymentPhase,
    amount: Money,
) -> Result<Payment, Mismatch> {
    let zero = Money::zero(amount.currency());
    let captured = if phase == PaymentPhase::Captured {
        amount
    } else {
        zero
    };
    let captures = if captured.is_zero() {
        Vec::new()
    } else {
        vec![capture_of(captured)]
    };
    Ok(Payment {
        reservation: ReservationId::new(id.as_str()).map_err(|_| Mismatch("transactionId"))?,
        phase,
        authorization: None,
        expires_at: None,
        hold: what_is_left(phase),
        captured,
        refunded: None,
        reversed: None,
        returned: None,
        captures,
        refunds: Vec::new(),
    })
}

/// One settlement takes what it takes and releases the rest: a second one is refused
/// (`providers/aduno.md` §5.5).
const fn what_is_left(phase: PaymentPhase) -> HoldState {
    match phase {
        PaymentPhase::Reserved => HoldState::NotTold,
        PaymentPhase::Authorized => HoldState::Alive,
        PaymentPhase::Captured | PaymentPhase::Voided | PaymentPhase::Expired => HoldState::Ended,
    }
}

/// A payment as its status shows it. `page` is the address of the payment page's host; a page is over
/// so long after its time as `margin` says.
pub(crate) fn payment(
    status: &Status,
    expected: &Expected<'_>,
    page: &str,
    margin: Duration,
) -> Result<Outcome<Payment>, Mismatch> {
    expected.agrees(status)?;
    match status.kind.as_deref() {
        Some("payment") | None => {}
        Some("credit" | "card_check") => return Err(Mismatch("type")),
        Some(other) => return Ok(Outcome::Unmapped(Unmapped::new("transaction.type", other))),
    }
    let currency = currency_of(status, expected)?;
    let of = |phase| payment_of(expected.id, phase, Money::zero(currency));
    Ok(match State::of(status) {
        State::WithCustomer if never_begun(status, margin) => {
            Outcome::Done(of(PaymentPhase::Expired)?)
        }
        State::WithCustomer => {
            let url = start_page(page, expected.id).ok_or(Mismatch("page"))?;
            Outcome::ActionRequired(of(PaymentPhase::Reserved)?, url)
        }
        State::Authenticated => Outcome::Pending(of(PaymentPhase::Reserved)?),
        State::Authorized => Outcome::Done(of(PaymentPhase::Authorized)?),
        State::Settled => {
            let mut payment = payment_of(
                expected.id,
                PaymentPhase::Captured,
                expected.settled(status, currency)?,
            )?;
            payment.refunded = credited(status, currency)?;
            Outcome::Done(payment)
        }
        // What was never held can't be released: the customer left the page, or it timed out.
        State::Canceled if !was_authorized(status) => Outcome::Done(of(PaymentPhase::Expired)?),
        State::Canceled => Outcome::Done(of(PaymentPhase::Voided)?),
        State::Failed(Some(FAILED_BY_TIMEOUT)) => Outcome::Done(of(PaymentPhase::Expired)?),
        State::Failed(reason) => Outcome::Declined(failure(reason)),
        State::Unmapped(word) => Outcome::Unmapped(word),
    })
}

/// Whether the customer has not begun and can't any more (`providers/aduno.md` §4), by the clock of
/// the provider: by a clock of ours that is wrong, the page would be over while it can be paid. In the
/// middle of a challenge the time of the page says nothing.
fn never_begun(status: &Status, margin: Duration) -> bool {
    let init = status
        .detail
        .as_ref()
        .and_then(|detail| detail.init.as_ref());
    let expires = init
        .and_then(|init| init.expires.as_deref())
        .and_then(Timestamp::parse_rfc3339);
    let is_past = |expires: Timestamp| {
        let over = expires.plus(margin);
        status.made_at.is_some_and(|made_at| over < made_at)
    };
    status.status == "initialized" && expires.is_some_and(is_past)
}

/// A setup as its status shows it.
pub(crate) fn setup<'a>(
    status: &'a Status,
    expected: &Expected<'_>,
    payment: Option<SetupPayment>,
) -> Result<Registered<'a>, Mismatch> {
    expected.agrees(status)?;
    let progress = match State::of(status) {
        State::WithCustomer => SetupProgress::AwaitingCustomer,
        State::Authenticated => SetupProgress::Pending,
        State::Authorized | State::Settled => return registered(status, payment),
        State::Canceled if was_authorized(status) => return registered(status, payment),
        State::Canceled => SetupProgress::Declined(given_up()),
        State::Failed(Some(FAILED_BY_TIMEOUT)) => SetupProgress::Expired,
        State::Failed(reason) => SetupProgress::Declined(failure(reason)),
        State::Unmapped(word) => SetupProgress::Unmapped(word),
    };
    Ok(Registered::Without(progress))
}

/// A payment that takes its amount at once takes all of it.
pub(crate) fn taken_whole(
    read: Outcome<Payment>,
    request: &PaymentRequest,
) -> Result<Outcome<Payment>, Mismatch> {
    let part = request.capture == CaptureMode::Automatic
        && matches!(&read, Outcome::Done(payment)
            if payment.phase == PaymentPhase::Captured && payment.captured != request.amount);
    if part {
        return Err(Mismatch("detail.settle.amount"));
    }
    Ok(read)
}

/// Whether a capture of ours took place, by what was settled in all. There is one capture at most.
pub(crate) fn find_capture(
    read: Outcome<Payment>,
    asked: Money,
    before: Money,
) -> Found<Outcome<Operation>> {
    match read {
        Outcome::Done(payment) if payment.phase == PaymentPhase::Captured => {
            by_sum(payment.captured, asked, before)
        }
        Outcome::Done(_)
        | Outcome::Pending(_)
        | Outcome::ActionRequired(..)
        | Outcome::Declined(_) => Found::No,
        Outcome::Review(_) => Found::CannotTell,
        Outcome::Unmapped(word) => Found::Yes(Outcome::Unmapped(word)),
    }
}

/// Whether there is a hold to release.
pub(crate) fn is_held(read: &Outcome<Payment>) -> bool {
    matches!(read, Outcome::Done(payment) if payment.phase == PaymentPhase::Authorized)
}

/// Whether a void of ours took place, or is no longer needed.
pub(crate) fn find_void(read: Outcome<Payment>) -> Found<Outcome<Operation>> {
    let released = Found::Yes(Outcome::Done(Operation {
        id: None,
        amount: None,
    }));
    match read {
        Outcome::Done(payment) => match payment.phase {
            PaymentPhase::Voided | PaymentPhase::Expired => released,
            PaymentPhase::Reserved | PaymentPhase::Authorized | PaymentPhase::Captured => Found::No,
        },
        Outcome::Declined(_) => released,
        Outcome::Pending(_) | Outcome::ActionRequired(..) => Found::No,
        Outcome::Review(_) => Found::CannotTell,
        Outcome::Unmapped(word) => Found::Yes(Outcome::Unmapped(word)),
    }
}

/// Whether a refund of ours took place, by what the payment's history shows as credited. A history
/// without a credit proves nothing: it is not documented that credits stand there.
pub(crate) fn find_refund(
    read: Outcome<Payment>,
    asked: Money,
    before: Money,
) -> Found<Outcome<Operation>> {
    match read {
        Outcome::Done(Payment {
            refunded: Some(refunded),
            ..
        }) => by_sum(refunded, asked, before),
        Outcome::Unmapped(word) => Found::Yes(Outcome::Unmapped(word)),
        Outcome::Done(_)
        | Outcome::Pending(_)
        | Outcome::ActionRequired(..)
        | Outcome::Declined(_)
        | Outcome::Review(_) => Found::CannotTell,
    }
}

/// A refund by its own transaction.
pub(crate) fn credit(
    status: &Status,
    expected: &Expected<'_>,
    asked: Money,
) -> Result<Outcome<Operation>, Mismatch> {
    expected.agrees(status)?;
    match status.kind.as_deref() {
        Some("credit") | None => {}
        Some("payment" | "card_check") => return Err(Mismatch("type")),
        Some(other) => return Ok(Outcome::Unmapped(Unmapped::new("transaction.type", other))),
    }
    let amount = amount_in(status, |detail| &detail.credit);
    if amount.is_some_and(|minor| minor != asked.minor()) {
        return Err(Mismatch("detail.credit.amount"));
    }
    let operation = Operation {
        id: ObjectId::new(expected.id.as_str()).ok(),
        amount: amount.map(|_| asked),
    };
    Ok(match State::of(status) {
        State::Settled => Outcome::Done(operation),
        State::WithCustomer | State::Authenticated | State::Authorized => {
            Outcome::Pending(operation)
        }
        State::Canceled => Outcome::Declined(given_up()),
        State::Failed(reason) => Outcome::Declined(failure(reason)),
        State::Unmapped(word) => Outcome::Unmapped(word),
    })
}

/// What the nine status words mean (`providers/aduno.md` §7).
enum State<'a> {
    WithCustomer,
    Authenticated,
    Authorized,
    Settled,
    Canceled,
    Failed(Option<&'a str>),
    Unmapped(Unmapped),
}

impl<'a> State<'a> {
    fn of(status: &'a Status) -> Self {
        match status.status.as_str() {
            "initialized" | "challenge_required" | "challenge_ongoing" => Self::WithCustomer,
            "authenticated" => Self::Authenticated,
            "authorized" => Self::Authorized,
            "settled" | "transmitted" => Self::Settled,
            "canceled" => Self::Canceled,
            "failed" => Self::Failed(fail_reason(status)),
            other => Self::Unmapped(Unmapped::new("transaction.status", other)),
        }
    }
}

impl Expected<'_> {
    /// Every answer names the object that was asked for, in the currency and over the amount that
    /// were asked for.
    fn agrees(&self, status: &Status) -> Result<(), Mismatch> {
        let fits = |found: Option<&str>, wanted: &str| found.is_none_or(|found| found == wanted);
        if status.transaction_id != self.id.as_str() {
            return Err(Mismatch("transactionId"));
        }
        if !fits(status.merchant_id.as_deref(), self.merchant_id) {
            return Err(Mismatch("merchantId"));
        }
        if !fits(status.refno.as_deref(), self.reference.as_str()) {
            return Err(Mismatch("refno"));
        }
        let currency = self.currency.map(Currency::code);
        if currency.is_some_and(|wanted| !fits(status.currency.as_deref(), wanted)) {
            return Err(Mismatch("currency"));
        }
        let authorized = amount_in(status, |detail| &detail.authorize);
        match (authorized, self.amount) {
            (Some(found), Some(wanted)) if found != wanted.minor() => {
                Err(Mismatch("detail.authorize.amount"))
            }
            _ => Ok(()),
        }
    }

    /// What was settled: there once the status says so, and never more than was asked for.
    fn settled(&self, status: &Status, currency: Currency) -> Result<Money, Mismatch> {
        let mismatch = Mismatch("detail.settle.amount");
        let minor = amount_in(status, |detail| &detail.settle).ok_or(mismatch)?;
        let settled = Money::new(currency, minor).map_err(|_| mismatch)?;
        let above = |wanted: Money| settled.minor() > wanted.minor();
        if settled.is_zero() || self.amount.is_some_and(above) {
            return Err(mismatch);
        }
        Ok(settled)
    }
}

/// The card that a finished registration left. An alias of another shape is not kept, since the
/// old ones hold digits of the card's number; a wallet's alias neither, since it can't be charged
/// later like a card's (§5.1).
fn registered(status: &Status, payment: Option<SetupPayment>) -> Result<Registered<'_>, Mismatch> {
    check_kind_of_setup(status, payment)?;
    let card = status
        .card
        .as_ref()
        .filter(|card| card.wallet_indicator.is_none());
    let alias = card.and_then(|card| Alias::new(card.alias.as_deref()?));
    let expiry =
        card.and_then(|card| Expiry::new(card.expiry_month.clone(), card.expiry_year.clone()));
    Ok(match (alias, expiry) {
        (Some(alias), Some(expiry)) => Registered::Card(alias, expiry),
        _ => Registered::Without(SetupProgress::NoToken),
    })
}

/// A registration without a payment moves nothing, whatever it is called; one with a payment is a
/// payment.
fn check_kind_of_setup(status: &Status, payment: Option<SetupPayment>) -> Result<(), Mismatch> {
    let kind = status.kind.as_deref();
    if payment.is_some() {
        return match kind {
            Some("payment") | None => Ok(()),
            Some(_) => Err(Mismatch("type")),
        };
    }
    let moved = [
        amount_in(status, |detail| &detail.authorize),
        amount_in(status, |detail| &detail.settle),
    ];
    if moved.into_iter().flatten().any(|minor| minor != 0) {
        return Err(Mismatch("detail.authorize.amount"));
    }
    match kind {
        Some("card_check" | "payment") | None => Ok(()),
        Some(_) => Err(Mismatch("type")),
    }
}

fn by_sum(sum: Money, asked: Money, before: Money) -> Found<Outcome<Operation>> {
    if before.plus(asked) == Ok(sum) {
        return Found::Yes(Outcome::Done(Operation {
            id: None,
            amount: Some(asked),
        }));
    }
    if sum == before {
        Found::No
    } else {
        Found::CannotTell
    }
}

/// What was credited, if the history shows a credit.
fn credited(status: &Status, currency: Currency) -> Result<Option<Money>, Mismatch> {
    let mismatch = |_| Mismatch("history.amount");
    let mut sum = None;
    for action in status.history.iter().flatten() {
        if action.action.as_deref() != Some("credit") || action.success != Some(true) {
            continue;
        }
        let Some(minor) = action.amount else {
            return Ok(None);
        };
        let amount = Money::new(currency, minor).map_err(mismatch)?;
        let before = sum.unwrap_or(Money::zero(currency));
        sum = Some(before.plus(amount).map_err(mismatch)?);
    }
    Ok(sum)
}

fn was_authorized(status: &Status) -> bool {
    let in_detail = status
        .detail
        .as_ref()
        .is_some_and(|detail| detail.authorize.is_some());
    let in_history = status.history.iter().flatten().any(|action| {
        action.action.as_deref() == Some("authorize") && action.success == Some(true)
    });
    in_detail || in_history
}

fn currency_of(status: &Status, expected: &Expected<'_>) -> Result<Currency, Mismatch> {
    let named = || Currency::from_code(status.currency.as_deref()?).ok();
    expected.currency.or_else(named).ok_or(Mismatch("currency"))
}

fn amount_in(
    status: &Status,
    part: impl Fn(&wire::Detail) -> &Option<wire::Amount>,
) -> Option<i64> {
    part(status.detail.as_ref()?).as_ref()?.amount
}

fn fail_reason(status: &Status) -> Option<&str> {
    status.detail.as_ref()?.fail.as_ref()?.reason.as_deref()
}

/// A transaction that failed has concluded, whether or not its reason is known.
fn failure(reason: Option<&str>) -> Decline {
    let reason = reason.unwrap_or("failed");
    let (category, retry) = FAIL_REASONS
        .iter()
        .find(|(name, ..)| *name == reason)
        .map_or(
            (DeclineCategory::Other, RetryAdvice::Later),
            |(_, category, retry)| (*category, *retry),
        );
    Decline {
        category,
        retry,
        provider_code: ProviderCode::new(reason),
        method_gone: false,
    }
}

/// The customer left the page, or somebody canceled a refund in the back office.
fn given_up() -> Decline {
    refused((
        "canceled",
        DeclineCategory::Other,
        RetryAdvice::Later,
        false,
    ))
}

fn refused(row: (&str, DeclineCategory, RetryAdvice, bool)) -> Decline {
    let (code, category, retry, method_gone) = row;
    Decline {
        category,
        retry,
        provider_code: ProviderCode::new(code),
        method_gone,
    }
}

fn start_page(page: &str, id: TransactionId<'_>) -> Option<RedirectUrl> {
    RedirectUrl::new(format!("{page}/v1/start/{}", id.as_str()))
}

fn capture_of(amount: Money) -> Movement {
    Movement {
        id: None,
        amount,
        state: MovementState::Done,
        reference: None,
    }
}

fn card<'a>(alias: Alias<'a>, expiry: &'a Expiry) -> wire::Card<'a> {
    wire::Card {
        kind: "ALIAS",
        alias: alias.expose(),
        expiry_month: &expiry.expiry_month,
        expiry_year: &expiry.expiry_year,
    }
}

/// The browser comes back to one address, however it went: it proves nothing.
const fn redirect(return_url: &str) -> wire::Redirect<'_> {
    wire::Redirect {
        success_url: return_url,
        cancel_url: return_url,
        error_url: return_url,
        method: "GET",
    }
}

const fn settles_at_once(capture: CaptureMode) -> bool {
    match capture {
        CaptureMode::Automatic => true,
        CaptureMode::Manual => false,
    }
}

fn language(tag: &str) -> Option<&'static str> {
    let primary = tag.split('-').next()?;
    LANGUAGES
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(primary))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "260101120000000001";
    const ALIAS: &str = "7LHXscqwAAEAAAGQnJCjw96fy0pzAPTN";

    fn money(minor: i64) -> Money {
        Money::new(Currency::from_code("CHF").unwrap(), minor).unwrap()
    }

    fn read(status: Value) -> Result<Outcome<Payment>, Mismatch> {
        let reference = Reference::new("pay-1").unwrap();
        let expected = Expected {
            id: TransactionId::new(ID).unwrap(),
            merchant_id: "1100000000",
            reference: &reference,
            currency: Some(money(0).currency()),
            amount: Some(money(1000)),
        };
        let mut status: Status = serde_json::from_value(status).unwrap();
        status.made_at = Timestamp::parse_rfc3339("2026-01-01T12:05:00Z");
        let margin = Duration::from_mins(5);
        payment(&status, &expected, "https://pay.example", margin)
    }

    fn status(word: &str, detail: Value) -> Value {
        json!({"transactionId": ID, "merchantId": "1100000000", "type": "payment", "status": word,
               "currency": "CHF", "refno": "pay-1", "detail": detail})
    }

    #[test]
    fn nine_statuses_and_an_unknown_one() {
        use PaymentPhase::{Authorized, Captured, Expired, Reserved, Voided};
        for word in ["initialized", "challenge_required", "challenge_ongoing"] {
            let Ok(Outcome::ActionRequired(payment, url)) = read(status(word, json!({}))) else {
                panic!("{word}");
            };
            assert_eq!(payment.phase, Reserved);
            assert_eq!(url.expose(), format!("https://pay.example/v1/start/{ID}"));
        }
        // Whoever has not begun in time can't any more; whoever has begun may still finish.
        for (word, expires, open) in [
            ("initialized", "2026-01-01T12:00:00Z", true),
            ("initialized", "2026-01-01T11:59:59Z", false),
            ("challenge_required", "2026-01-01T11:59:59Z", true),
            ("challenge_ongoing", "2026-01-01T11:59:59Z", true),
            ("initialized", "soon", true),
        ] {
            match read(status(word, json!({"init": {"expires": expires}}))) {
                Ok(Outcome::ActionRequired(..)) => assert!(open, "{word} {expires}"),
                Ok(Outcome::Done(payment)) => {
                    assert_eq!((open, payment.phase), (false, Expired), "{word} {expires}");
                }
                other => panic!("{word} {expires}: {other:?}"),
            }
        }
        assert!(matches!(
            read(status("authenticated", json!({}))),
            Ok(Outcome::Pending(Payment {
                phase: Reserved,
                ..
            }))
        ));
        let held = json!({"authorize": {"amount": 1000}});
        let taken = json!({"authorize": {"amount": 1000}, "settle": {"amount": 400}});
        for (word, detail, phase, captured) in [
            ("authorized", held.clone(), Authorized, 0),
            ("settled", taken.clone(), Captured, 400),
            ("transmitted", taken, Captured, 400),
            ("canceled", held, Voided, 0),
            ("canceled", json!({}), Expired, 0),
            ("failed", json!({"fail": {"reason": "timeout"}}), Expired, 0),
        ] {
            let Ok(Outcome::Done(payment)) = read(status(word, detail)) else {
                panic!("{word}");
            };
            assert_eq!(
                (payment.phase, payment.captured),
                (phase, money(captured)),
                "{word}"
            );
            assert_eq!(payment.refunded, None);
        }
        let Ok(Outcome::Unmapped(word)) = read(status("compensated", json!({}))) else {
            panic!()
        };
        assert_eq!(
            (word.field, word.value.as_str()),
            ("transaction.status", "compensated")
        );
    }

    #[test]
    fn each_fail_reason_is_a_decline() {
        for (reason, category, retry) in FAIL_REASONS {
            let detail = json!({"fail": {"reason": reason, "message": "canary"}});
            let Ok(Outcome::Declined(decline)) = read(status("failed", detail)) else {
                panic!("{reason}");
            };
            assert_eq!(
                (decline.category, decline.retry),
                (*category, *retry),
                "{reason}"
            );
            assert_eq!(decline.provider_code.as_str(), *reason);
        }
        for detail in [json!({}), json!({"fail": {"reason": "new_word"}})] {
            assert!(matches!(
                read(status("failed", detail)),
                Ok(Outcome::Declined(Decline {
                    category: DeclineCategory::Other,
                    ..
                }))
            ));
        }
    }

    #[test]
    fn each_decline_code_is_a_decline_only_as_a_400() {
        for (code, category, retry, gone) in DECLINES {
            let body = json!({"error": {"code": code, "message": "x"}}).to_string();
            let of = |status: u16| {
                decline(&Refusal::new(
                    StatusCode::from_u16(status).unwrap(),
                    body.as_bytes(),
                ))
            };
            let found = of(400).unwrap();
            assert_eq!(
                (found.category, found.retry, found.method_gone),
                (*category, *retry, *gone)
            );
            assert_eq!(found.provider_code.as_str(), *code);
            for status in [409, 422, 429, 500] {
                assert!(of(status).is_none(), "{code} {status}");
            }
        }
        let body = br#"{"error":{"code":"INVALID_PROPERTY","message":"authorize.card.alias"}}"#;
        assert!(
            decline(&Refusal::new(StatusCode::BAD_REQUEST, body))
                .unwrap()
                .method_gone
        );
        let body = br#"{"error":{"code":"INVALID_PROPERTY","message":"authorize.currency"}}"#;
        assert!(decline(&Refusal::new(StatusCode::BAD_REQUEST, body)).is_none());
    }

    #[test]
    fn whatever_does_not_fit_the_question_is_a_mismatch() {
        let good = status(
            "settled",
            json!({"authorize": {"amount": 1000}, "settle": {"amount": 1000}}),
        );
        assert!(read(good.clone()).is_ok());
        for (pointer, value, place) in [
            (
                "/transactionId",
                json!("260101120000000002"),
                "transactionId",
            ),
            ("/merchantId", json!("1100000001"), "merchantId"),
            ("/refno", json!("pay-2"), "refno"),
            ("/currency", json!("EUR"), "currency"),
            ("/type", json!("credit"), "type"),
            ("/type", json!("card_check"), "type"),
            (
                "/detail/authorize/amount",
                json!(1001),
                "detail.authorize.amount",
            ),
            ("/detail/settle/amount", json!(1001), "detail.settle.amount"),
            ("/detail/settle/amount", json!(-1), "detail.settle.amount"),
            ("/detail/settle/amount", json!(0), "detail.settle.amount"),
            ("/detail/settle", json!(null), "detail.settle.amount"),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            assert_eq!(read(bad).unwrap_err(), Mismatch(place), "{pointer}");
        }
    }

    fn with_credits(history: Value) -> Outcome<Payment> {
        let mut value = status("transmitted", json!({"settle": {"amount": 1000}}));
        value["history"] = history;
        read(value).unwrap()
    }

    fn credit_of(amount: i64, success: bool) -> Value {
        json!({"action": "credit", "amount": amount, "success": success, "ip": "canary"})
    }

    #[test]
    fn a_refund_is_found_by_the_sum_or_not_at_all() {
        let find = |history, before| find_refund(with_credits(history), money(300), money(before));
        let two = json!([
            credit_of(300, true),
            credit_of(100, true),
            credit_of(50, false)
        ]);
        assert!(matches!(
            find(two.clone(), 100),
            Found::Yes(Outcome::Done(_))
        ));
        assert!(matches!(find(two.clone(), 400), Found::No));
        assert!(matches!(find(two, 0), Found::CannotTell));
        assert!(matches!(find(json!([]), 0), Found::CannotTell));
        assert!(matches!(
            find(json!([credit_of(300, false)]), 0),
            Found::CannotTell
        ));
        assert!(matches!(
            find(json!([{"action": "credit", "success": true}]), 0),
            Found::CannotTell
        ));
    }

    #[test]
    fn a_capture_and_a_void_are_found_by_the_status() {
        let held = || read(status("authorized", json!({"authorize": {"amount": 1000}}))).unwrap();
        let taken = || read(status("settled", json!({"settle": {"amount": 700}}))).unwrap();
        let gone = || read(status("canceled", json!({"authorize": {"amount": 1000}}))).unwrap();
        let odd = || read(status("odd", json!({}))).unwrap();
        let capture = |read, asked| find_capture(read, money(asked), money(0));
        assert!(matches!(
            capture(taken(), 700),
            Found::Yes(Outcome::Done(_))
        ));
        assert!(matches!(capture(taken(), 600), Found::CannotTell));
        assert!(matches!(capture(held(), 700), Found::No));
        assert!(matches!(capture(gone(), 700), Found::No));
        assert!(matches!(
            capture(odd(), 700),
            Found::Yes(Outcome::Unmapped(_))
        ));
        assert!(matches!(find_void(gone()), Found::Yes(Outcome::Done(_))));
        assert!(matches!(find_void(held()), Found::No));
        assert!(matches!(find_void(taken()), Found::No));
        assert!(matches!(find_void(odd()), Found::Yes(Outcome::Unmapped(_))));
    }

    fn register(status: Value, paid: bool) -> Result<&'static str, Mismatch> {
        let reference = Reference::new("pay-1").unwrap();
        let payment = paid.then(|| SetupPayment {
            amount: money(1000),
            capture: CaptureMode::Manual,
        });
        let expected = Expected {
            id: TransactionId::new(ID).unwrap(),
            merchant_id: "1100000000",
            reference: &reference,
            currency: payment.map(|payment| payment.amount.currency()),
            amount: payment.map(|payment| payment.amount),
        };
        let status = serde_json::from_value(status).unwrap();
        Ok(match setup(&status, &expected, payment)? {
            Registered::Card(..) => "card",
            Registered::Without(SetupProgress::AwaitingCustomer) => "awaiting",
            Registered::Without(SetupProgress::Pending) => "pending",
            Registered::Without(SetupProgress::Declined(_)) => "declined",
            Registered::Without(SetupProgress::Expired) => "expired",
            Registered::Without(SetupProgress::NoToken) => "no token",
            Registered::Without(SetupProgress::Unmapped(_)) => "unmapped",
            Registered::Without(SetupProgress::Linked(_)) => "linked",
        })
    }

    #[test]
    fn a_setup_ends_as_its_status_says() {
        let check = |word: &str, card: Value| {
            register(
                json!({"transactionId": ID, "type": "card_check", "status": word, "currency": "CHF",
                       "detail": {"authorize": {"amount": 0}}, "card": card}),
                false,
            )
        };
        let card = json!({"alias": ALIAS, "expiryMonth": "06", "expiryYear": "28", "masked": "x"});
        for word in ["authorized", "settled", "transmitted"] {
            assert_eq!(check(word, card.clone()), Ok("card"), "{word}");
        }
        for (member, value) in [
            ("alias", json!(null)),
            ("alias", json!("424242SKMPRI4242")),
            ("alias", json!("70119122433810042000")),
            ("expiryMonth", json!(null)),
            ("expiryYear", json!("2028")),
            ("walletIndicator", json!("APL")),
        ] {
            let mut other = card.clone();
            other[member] = value;
            assert_eq!(check("authorized", other), Ok("no token"), "{member}");
        }
        assert_eq!(check("authorized", json!(null)), Ok("no token"));
        let bare = |word: &str, detail: Value| {
            register(
                json!({"transactionId": ID, "status": word, "detail": detail}),
                false,
            )
        };
        assert_eq!(bare("initialized", json!({})), Ok("awaiting"));
        assert_eq!(bare("challenge_ongoing", json!({})), Ok("awaiting"));
        assert_eq!(bare("authenticated", json!({})), Ok("pending"));
        assert_eq!(bare("canceled", json!({})), Ok("declined"));
        assert_eq!(
            bare("failed", json!({"fail": {"reason": "declined"}})),
            Ok("declined")
        );
        assert_eq!(
            bare("failed", json!({"fail": {"reason": "timeout"}})),
            Ok("expired")
        );
        assert_eq!(bare("odd", json!({})), Ok("unmapped"));
    }

    #[test]
    fn a_setup_with_a_payment_is_compared_with_it() {
        let card = json!({"alias": ALIAS, "expiryMonth": "06", "expiryYear": "28"});
        let good = json!({"transactionId": ID, "type": "payment", "status": "authorized",
            "currency": "CHF", "detail": {"authorize": {"amount": 1000}}, "card": card});
        assert_eq!(register(good.clone(), true), Ok("card"));
        assert_eq!(
            register(good.clone(), false),
            Err(Mismatch("detail.authorize.amount"))
        );
        let mut other = good.clone();
        other["detail"]["authorize"]["amount"] = json!(999);
        assert_eq!(
            register(other, true),
            Err(Mismatch("detail.authorize.amount"))
        );
        let mut other = good;
        other["type"] = json!("card_check");
        assert_eq!(register(other, true), Err(Mismatch("type")));
    }

    #[test]
    fn a_language_is_one_of_the_pages() {
        assert_eq!(language("de-CH"), Some("de"));
        assert_eq!(language("FR"), Some("fr"));
        assert_eq!(language("rm"), None);
        assert_eq!(language(""), None);
    }

    #[test]
    fn a_legacy_alias_reveals_digits_and_is_none() {
        let check = |text: &str| check_alias(&ProviderToken::new(text).unwrap());
        assert_eq!(check(ALIAS), Ok(()));
        for legacy in [
            // Masked: the first six and the last four of the number.
            "424242SKMPRI4242",
            "424242SKMPRIQWERTYUIOP4242",
            "424242SKMPRIQWERTYUIOPASDFGH4242",
            // Of the number's own length.
            "AAABcH0Bq92s",
            "AAABcH0Bq92s3kgAESI",
            // Digits only.
            "70119122433810042000",
            "12345678901234567890123456789012",
            "1234",
        ] {
            assert_eq!(check(legacy), Err(TokenFault::RevealsDigits), "{legacy}");
        }
        // A stand-in for the security code, and what is nothing.
        let longer = format!("{ALIAS}x");
        for bad in [
            "vGAAAXGnQbrJAAEAAAGQnJCj",
            "short",
            &longer,
            "7LHXscqwAAEAAAGQnJCjw96fy0pzAP.N",
        ] {
            assert_eq!(check(bad), Err(TokenFault::Shape), "{bad}");
        }
    }
}
