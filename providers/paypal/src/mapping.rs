//! Our requests → PayPal's JSON; PayPal's JSON → our outcomes. Pure: no I/O, no clock of its own.

use std::fmt;

use cardless_contract::{
    Capabilities, CaptureMode, Decline, DeclineCategory as Category, Found, HoldState, Initiator,
    Money, Movement, MovementState, ObjectId, Operation, Outcome, Payment, PaymentPhase,
    PaymentRequest, ProviderCode, ProviderToken, RedirectUrl, ReservationId, RetryAdvice as Retry,
    SetupRequest, Timestamp, TokenFault, Unmapped,
};
use cardless_transport::Hosts;
use url::Url;

use crate::config::{TokenKind, UsagePattern};
use crate::wire;

/// PayPal's currencies and their decimals (`providers/paypal.md` §4).
pub(crate) const CURRENCIES: &[(&str, u32)] = &[
    ("AUD", 2),
    ("BRL", 2),
    ("CAD", 2),
    ("CHF", 2),
    ("CZK", 2),
    ("DKK", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("HKD", 2),
    ("HUF", 0),
    ("ILS", 2),
    ("JPY", 0),
    ("MXN", 2),
    ("MYR", 2),
    ("NOK", 2),
    ("NZD", 2),
    ("PHP", 2),
    ("PLN", 2),
    ("SEK", 2),
    ("SGD", 2),
    ("THB", 2),
    ("TWD", 0),
    ("USD", 2),
];

/// The longest `description` of an order, in characters.
const MAX_DESCRIPTION_CHARS: usize = 127;
/// The longest id of an order, authorization, capture or refund.
const MAX_PAYMENT_ID_BYTES: usize = 36;
/// The longest id in the vault.
const MAX_VAULT_ID_BYTES: usize = 255;

/// An answer that does not fit the question, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) &'static str);

type Fit<T> = Result<T, Unfit>;

/// An id that is checked and may stand in a path.
#[derive(Clone, Copy)]
pub(crate) struct PathId<'a>(&'a str);

/// What an answer about a payment is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) reservation: &'a ReservationId,
    pub(crate) reference: &'a str,
    pub(crate) amount: Money,
}

/// The settings that requests are built with.
#[derive(Debug, Clone)]
pub(crate) struct Habits {
    pub(crate) token_kind: TokenKind,
    pub(crate) usage_pattern: Option<UsagePattern>,
    pub(crate) brand: Option<String>,
    pub(crate) description: Option<String>,
}

impl<'a> PathId<'a> {
    /// Orders and what is in them: `^[A-Z0-9]+$`.
    pub(crate) fn payment(text: &'a str) -> Option<Self> {
        let fits = (1..=MAX_PAYMENT_ID_BYTES).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        (fits && text.bytes().all(plain)).then_some(Self(text))
    }

    /// Setup tokens, payment tokens, agreements, customers: `^[0-9a-zA-Z_-]+$`.
    pub(crate) fn vault(text: &'a str) -> Option<Self> {
        let fits = (1..=MAX_VAULT_ID_BYTES).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (fits && text.bytes().all(plain)).then_some(Self(text))
    }
}

impl<'a> PathId<'a> {
    pub(crate) const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for PathId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The most digits of an amount before its point (`providers/paypal.md` §4).
const MAX_WHOLE_DIGITS: usize = 15;

/// An amount in PayPal's form; `None` if PayPal can't express it: zero, a part below its smallest
/// unit, too many digits. Never rounded.
pub(crate) fn amount(capabilities: &Capabilities, money: Money) -> Option<wire::Amount> {
    let decimals = capabilities.decimals(money.currency())?;
    let value = money.to_decimal(decimals).ok()?;
    let whole = value.split('.').next()?;
    let fits = !money.is_zero() && whole.len() <= MAX_WHOLE_DIGITS;
    fits.then(|| wire::Amount {
        currency_code: money.currency().code().to_owned(),
        value,
    })
}

pub(crate) const fn intent(capture: CaptureMode) -> &'static str {
    match capture {
        CaptureMode::Automatic => "CAPTURE",
        CaptureMode::Manual => "AUTHORIZE",
    }
}

pub(crate) fn order<'a>(
    request: &'a PaymentRequest,
    intent: &'static str,
    amount: wire::Amount,
    payment_source: Option<wire::PaymentSource<'a>>,
) -> wire::OrderRequest<'a> {
    let cut = |text: &String| text.chars().take(MAX_DESCRIPTION_CHARS).collect::<String>();
    wire::OrderRequest {
        intent,
        purchase_units: [wire::PurchaseUnitRequest {
            custom_id: request.reference.as_str(),
            invoice_id: request.reference.as_str(),
            amount,
            description: request
                .description
                .as_ref()
                .map(cut)
                .filter(|text| !text.is_empty()),
        }],
        payment_source,
    }
}

/// What kind a token is by its own shape, whatever the settings have been since it was linked: a
/// billing agreement is `B-` and capitals and digits (`providers/paypal.md` §5.7). `None` for what
/// begins like an agreement and is not of that shape, such as `BA-…`, which nobody has approved: a
/// payment token has the alphabet of both, and what looks like one of them is not taken for one.
pub(crate) fn kind_of(token: &str) -> Option<TokenKind> {
    let capitals = |rest: &str| {
        let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        !rest.is_empty() && rest.bytes().all(plain)
    };
    match token.strip_prefix("B-") {
        Some(rest) => capitals(rest).then_some(TokenKind::BillingAgreement),
        None if token.starts_with("BA-") => None,
        None => Some(TokenKind::VaultV3),
    }
}

/// Whether a token that came from elsewhere has the shape of the kind that the settings work with.
pub(crate) fn check_token(habits: &Habits, token: &ProviderToken) -> Result<(), TokenFault> {
    let text = token.expose();
    PathId::vault(text).ok_or(TokenFault::Shape)?;
    if kind_of(text) == Some(habits.token_kind) {
        Ok(())
    } else {
        Err(TokenFault::OtherKind)
    }
}

/// The token in the shape of its kind; `None` if it has not the alphabet of a token of PayPal.
pub(crate) fn source<'a>(
    habits: &'a Habits,
    token: &'a ProviderToken,
    request: &'a PaymentRequest,
) -> Option<wire::PaymentSource<'a>> {
    let id = PathId::vault(token.expose())?.0;
    let wallet = match kind_of(id).unwrap_or(habits.token_kind) {
        TokenKind::BillingAgreement => {
            let kind = "BILLING_AGREEMENT";
            return Some(wire::PaymentSource::Token(wire::TokenId { id, kind }));
        }
        TokenKind::VaultV3 => wire::WalletSource {
            vault_id: id,
            stored_credential: wire::StoredCredential {
                payment_initiator: match request.initiator {
                    Initiator::Customer => "CUSTOMER",
                    Initiator::Merchant => "MERCHANT",
                },
                usage: "SUBSEQUENT",
                usage_pattern: habits.usage_pattern.map(UsagePattern::as_str),
            },
            experience_context: match request.initiator {
                Initiator::Customer => request
                    .return_url
                    .as_deref()
                    .map(|url| context(habits, url)),
                Initiator::Merchant => None,
            },
        },
    };
    Some(wire::PaymentSource::Paypal(wallet))
}

/// What the pages of a payment look like, and where they lead.
fn context<'a>(habits: &'a Habits, return_url: &'a str) -> wire::ExperienceContext<'a> {
    wire::ExperienceContext {
        return_url,
        cancel_url: cancel_url(return_url),
        shipping_preference: "NO_SHIPPING",
        user_action: "PAY_NOW",
        vault_instruction: None,
        brand_name: habits.brand.as_deref(),
        locale: None,
    }
}

pub(crate) fn setup_token<'a>(
    habits: &'a Habits,
    request: &'a SetupRequest,
) -> wire::SetupTokenRequest<'a> {
    wire::SetupTokenRequest {
        customer: wire::Customer {
            merchant_customer_id: request.customer.as_str(),
        },
        payment_source: wire::SetupSource {
            paypal: wire::SetupWallet {
                usage_type: "MERCHANT",
                usage_pattern: habits.usage_pattern.map(UsagePattern::as_str),
                description: habits.description.as_deref(),
                permit_multiple_payment_tokens: false,
                experience_context: wire::ExperienceContext {
                    user_action: "CONTINUE",
                    // A crash then saves nothing that we do not know of.
                    vault_instruction: Some("ON_CREATE_PAYMENT_TOKENS"),
                    locale: request.language.as_deref().filter(|text| is_locale(text)),
                    ..context(habits, &request.return_url)
                },
            },
        },
    }
}

pub(crate) fn agreement_token<'a>(
    habits: &'a Habits,
    request: &'a SetupRequest,
) -> wire::AgreementTokenRequest<'a> {
    wire::AgreementTokenRequest {
        description: habits
            .description
            .as_deref()
            .unwrap_or("Saved for later payments"),
        payer: wire::AgreementPayer {
            payment_method: "PAYPAL",
        },
        plan: wire::AgreementPlan {
            kind: "MERCHANT_INITIATED_BILLING",
            merchant_preferences: wire::MerchantPreferences {
                return_url: &request.return_url,
                cancel_url: cancel_url(&request.return_url),
                skip_shipping_address: true,
                accepted_pymt_type: "INSTANT",
            },
        },
    }
}

/// Where a customer who says no is sent: the same address, marked. The API never tells of a no, so
/// the mark is the only hint, and it proves nothing.
fn cancel_url(return_url: &str) -> String {
    match Url::parse(return_url) {
        Ok(mut url) => {
            url.query_pairs_mut().append_pair("cancelled", "1");
            url.into()
        }
        Err(_) => return_url.to_owned(),
    }
}

/// `de-CH`: PayPal takes a language only with its region.
fn is_locale(text: &str) -> bool {
    text.split_once('-').is_some_and(|(language, region)| {
        language.len() == 2
            && region.len() == 2
            && language.bytes().all(|byte| byte.is_ascii_lowercase())
            && region.bytes().all(|byte| byte.is_ascii_uppercase())
    })
}

/// The address behind a link, if it is there. One that leads elsewhere than to PayPal is unfit.
pub(crate) fn link(hosts: &Hosts, links: &[wire::Link], rels: &[&str]) -> Fit<Option<RedirectUrl>> {
    let Some(link) = links.iter().find(|link| rels.contains(&link.rel.as_str())) else {
        return Ok(None);
    };
    let url = Url::parse(&link.href).map_err(|_| Unfit("links"))?;
    if !hosts.allow(&url) {
        return Err(Unfit("links"));
    }
    RedirectUrl::new(url.as_str())
        .map(Some)
        .ok_or(Unfit("links"))
}

/// The rels of the link that leads a customer to an order.
pub(crate) const CUSTOMER_RELS: &[&str] = &["payer-action", "approve"];

/// A created order: its id, once everything that the answer echoes fits.
pub(crate) fn created(
    order: &wire::Order,
    reference: &str,
    asked: Money,
) -> Fit<Outcome<ReservationId>> {
    check_units(order, reference, asked)?;
    PathId::payment(&order.id).ok_or(Unfit("order.id"))?;
    let id = ReservationId::new(order.id.as_str()).map_err(|_| Unfit("order.id"))?;
    Ok(match order.status.as_str() {
        "CREATED" | "SAVED" | "APPROVED" | "PAYER_ACTION_REQUIRED" | "COMPLETED" | "VOIDED" => {
            Outcome::Done(id)
        }
        word => Outcome::Unmapped(Unmapped::new("order.status", word)),
    })
}

/// An order as it is: what is held, taken and given back. The inner statuses decide, never the
/// order's (`providers/paypal.md` §6.4).
pub(crate) fn payment(
    order: &wire::Order,
    expected: Expected<'_>,
    hosts: &Hosts,
    now: Timestamp,
) -> Fit<Outcome<Payment>> {
    if order.id != expected.reservation.as_str() {
        return Err(Unfit("order.id"));
    }
    check_units(order, expected.reference, expected.amount)?;
    let inner = Inner::read(order, expected)?;
    if !inner.is_empty() {
        return inner.outcome(now);
    }
    let empty = |phase| nothing_moved(expected, phase);
    Ok(match order.status.as_str() {
        "CREATED" | "SAVED" | "APPROVED" => Outcome::Done(empty(PaymentPhase::Reserved)),
        "VOIDED" => Outcome::Done(empty(PaymentPhase::Voided)),
        "PAYER_ACTION_REQUIRED" => match link(hosts, &order.links, CUSTOMER_RELS)? {
            Some(url) => Outcome::ActionRequired(empty(PaymentPhase::Reserved), url),
            None => Outcome::Pending(empty(PaymentPhase::Reserved)),
        },
        "COMPLETED" => return Err(Unfit("order.purchase_units.payments")),
        word => Outcome::Unmapped(Unmapped::new("order.status", word)),
    })
}

/// A payment in which nothing has moved.
pub(crate) fn nothing_moved(expected: Expected<'_>, phase: PaymentPhase) -> Payment {
    let nothing = Money::zero(expected.amount.currency());
    Payment {
        reservation: expected.reservation.clone(),
        phase,
        authorization: None,
        expires_at: None,
        hold: match phase {
            PaymentPhase::Voided | PaymentPhase::Expired => HoldState::Ended,
            PaymentPhase::Reserved | PaymentPhase::Authorized | PaymentPhase::Captured => {
                HoldState::NotTold
            }
        },
        captured: nothing,
        refunded: Some(nothing),
        reversed: None,
        returned: None,
        captures: Vec::new(),
        refunds: Vec::new(),
    }
}

/// What an order holds, checked against what was asked.
struct Inner<'a> {
    expected: Expected<'a>,
    authorization: Option<&'a wire::Authorization>,
    captures: Vec<(&'a wire::Capture, Money)>,
    refunds: Vec<(&'a wire::Refund, Money)>,
}

impl<'a> Inner<'a> {
    fn read(order: &'a wire::Order, expected: Expected<'a>) -> Fit<Self> {
        let asked = expected.amount;
        let all = || order.purchase_units.iter().map(|unit| &unit.payments);
        let mut inner = Self {
            expected,
            authorization: None,
            captures: Vec::new(),
            refunds: Vec::new(),
        };
        for held in all().flat_map(|payments| &payments.authorizations) {
            check_id(&held.id, "authorization.id")?;
            check_reference(
                held.custom_id.as_ref(),
                expected.reference,
                "authorization.custom_id",
            )?;
            if required(held.amount.as_ref(), asked, "authorization.amount")? != asked {
                return Err(Unfit("authorization.amount"));
            }
            // After a reauthorization there are two; the living one counts.
            if inner.authorization.is_none_or(|other| !is_alive(other)) {
                inner.authorization = Some(held);
            }
        }
        for capture in all().flat_map(|payments| &payments.captures) {
            check_id(&capture.id, "capture.id")?;
            check_reference(
                capture.custom_id.as_ref(),
                expected.reference,
                "capture.custom_id",
            )?;
            let money = required(capture.amount.as_ref(), asked, "capture.amount")?;
            inner.captures.push((capture, money));
        }
        for refund in all().flat_map(|payments| &payments.refunds) {
            check_id(&refund.id, "refund.id")?;
            let money = required(refund.amount.as_ref(), asked, "refund.amount")?;
            inner.refunds.push((refund, money));
        }
        inner.check_captures()?;
        Ok(inner)
    }

    /// Without an authorization the capture is of the whole amount; with one, captures stay
    /// within it.
    fn check_captures(&self) -> Fit<()> {
        let asked = self.expected.amount;
        let whole = self.captures.iter().all(|(_, money)| *money == asked);
        if self.authorization.is_none() && !whole {
            return Err(Unfit("capture.amount"));
        }
        let captured = self.captured()?;
        asked
            .minus(captured)
            .map(drop)
            .map_err(|_| Unfit("capture.amount"))
    }

    fn is_empty(&self) -> bool {
        self.authorization.is_none() && self.captures.is_empty()
    }

    fn captured(&self) -> Fit<Money> {
        let done = self
            .captures
            .iter()
            .filter(|(capture, _)| capture_state(&capture.status) == MovementState::Done);
        sum(self.expected.amount, done.map(|(_, money)| *money)).ok_or(Unfit("capture.amount"))
    }

    fn outcome(&self, now: Timestamp) -> Fit<Outcome<Payment>> {
        let unclear = |(capture, _): &&(&wire::Capture, Money)| {
            capture_state(&capture.status) == MovementState::Unclear
        };
        if let Some((capture, _)) = self.captures.iter().find(unclear) {
            let word = Unmapped::new("capture.status", &capture.status);
            return Ok(Outcome::Unmapped(word));
        }
        let captured = self.captured()?;
        let payment = |phase| self.payment(phase, captured);
        if !captured.is_zero() {
            return Ok(Outcome::Done(payment(PaymentPhase::Captured)?));
        }
        match self.authorization {
            Some(held) => self.of_authorization(held, now, payment),
            None => self.of_captures(payment),
        }
    }

    /// Nothing is captured; the authorization decides.
    fn of_authorization(
        &self,
        held: &wire::Authorization,
        now: Timestamp,
        payment: impl Fn(PaymentPhase) -> Fit<Payment>,
    ) -> Fit<Outcome<Payment>> {
        Ok(match held.status.as_str() {
            "CREATED" => Outcome::Done(payment(PaymentPhase::Authorized)?),
            // A capture of all of it is on the way.
            "PARTIALLY_CAPTURED" | "CAPTURED" if self.has_pending_capture() => {
                Outcome::Pending(payment(PaymentPhase::Authorized)?)
            }
            "PENDING" => Outcome::Pending(payment(PaymentPhase::Reserved)?),
            "DENIED" => Outcome::Declined(decline(
                held.processor_response.as_ref(),
                held.status_details.as_ref(),
                &held.status,
            )?),
            "VOIDED" if expiry(held).is_some_and(|at| at <= now) => {
                Outcome::Done(payment(PaymentPhase::Expired)?)
            }
            "VOIDED" => Outcome::Done(payment(PaymentPhase::Voided)?),
            "EXPIRED" => Outcome::Done(payment(PaymentPhase::Expired)?),
            word => Outcome::Unmapped(Unmapped::new("authorization.status", word)),
        })
    }

    /// Nothing is captured and nothing was held: the captures are pending or refused.
    fn of_captures(&self, payment: impl Fn(PaymentPhase) -> Fit<Payment>) -> Fit<Outcome<Payment>> {
        if self.has_pending_capture() {
            return Ok(Outcome::Pending(payment(PaymentPhase::Reserved)?));
        }
        let (capture, _) = self
            .captures
            .last()
            .ok_or(Unfit("order.purchase_units.payments"))?;
        decline_of_capture(capture).map(Outcome::Declined)
    }

    fn has_pending_capture(&self) -> bool {
        let pending = |(capture, _): &(&wire::Capture, Money)| {
            capture_state(&capture.status) == MovementState::Pending
        };
        self.captures.iter().any(pending)
    }

    fn payment(&self, phase: PaymentPhase, captured: Money) -> Fit<Payment> {
        Ok(Payment {
            reservation: self.expected.reservation.clone(),
            phase,
            authorization: self
                .authorization
                .map(|held| object_id(&held.id))
                .transpose()?,
            expires_at: self.authorization.and_then(expiry),
            hold: self.hold(),
            captured,
            refunded: self.refunded()?,
            // A reversal has no status and no object (§6.4): nothing tells it apart.
            reversed: None,
            returned: self.returned()?,
            captures: self
                .captures
                .iter()
                .map(capture_movement)
                .collect::<Fit<_>>()?,
            refunds: self
                .refunds
                .iter()
                .map(refund_movement)
                .collect::<Fit<_>>()?,
        })
    }

    /// Whether more can be captured: the authorization's own status says so (`providers/paypal.md`
    /// §6.4). What was captured without one was never held.
    fn hold(&self) -> HoldState {
        match self.authorization {
            None if self.captures.is_empty() => HoldState::NotTold,
            None => HoldState::Ended,
            Some(held) => match held.status.as_str() {
                "CREATED" | "PARTIALLY_CAPTURED" => HoldState::Alive,
                "CAPTURED" | "VOIDED" | "EXPIRED" | "DENIED" => HoldState::Ended,
                _ => HoldState::NotTold,
            },
        }
    }

    /// The sum of the refunds that are shown. `None` where a capture says that more went back
    /// than is shown: a reversal has no object of its own (`providers/paypal.md` §6.4).
    fn refunded(&self) -> Fit<Option<Money>> {
        let done = self
            .refunds
            .iter()
            .filter(|(refund, _)| refund_state(&refund.status) == MovementState::Done);
        let shown = sum(self.expected.amount, done.map(|(_, money)| *money))
            .ok_or(Unfit("refund.amount"))?;
        let is_all = shown.minus(self.given_back()?).is_ok();
        Ok(is_all.then_some(shown))
    }

    /// What the captures say went back, where the refunds that are shown, pending ones included, do
    /// not come to it. Whether PayPal shows a reversal in this way is not documented.
    fn returned(&self) -> Fit<Option<Money>> {
        let counted = self.refunds.iter().filter(|(refund, _)| {
            matches!(
                refund_state(&refund.status),
                MovementState::Done | MovementState::Pending
            )
        });
        let shown = sum(self.expected.amount, counted.map(|(_, money)| *money))
            .ok_or(Unfit("refund.amount"))?;
        let given_back = self.given_back()?;
        Ok(shown.minus(given_back).is_err().then_some(given_back))
    }

    /// What went back at the least, by the captures' own statuses: all of one, or of another some,
    /// which is the smallest unit at the least.
    fn given_back(&self) -> Fit<Money> {
        let whole = self
            .captures
            .iter()
            .filter(|(capture, _)| capture.status == "REFUNDED");
        let whole = sum(self.expected.amount, whole.map(|(_, money)| *money));
        let partly = self
            .captures
            .iter()
            .filter(|(capture, _)| capture.status == "PARTIALLY_REFUNDED");
        let unit = Money::new(self.expected.amount.currency(), 1).ok();
        let some = sum(self.expected.amount, partly.filter_map(|_| unit));
        whole
            .zip(some)
            .and_then(|(whole, some)| whole.plus(some).ok())
            .ok_or(Unfit("capture.amount"))
    }
}

/// A capture of an authorization, as asked for.
pub(crate) fn capture(
    capture: &wire::Capture,
    reference: &str,
    asked: Money,
) -> Fit<Outcome<Operation>> {
    check_reference(capture.custom_id.as_ref(), reference, "capture.custom_id")?;
    let operation = operation(
        &capture.id,
        capture.amount.as_ref(),
        asked,
        "capture.amount",
    )?;
    Ok(match capture_state(&capture.status) {
        MovementState::Done => Outcome::Done(operation),
        MovementState::Pending => Outcome::Pending(operation),
        MovementState::Failed => Outcome::Declined(decline_of_capture(capture)?),
        MovementState::Unclear => {
            Outcome::Unmapped(Unmapped::new("capture.status", &capture.status))
        }
    })
}

/// A refund, as asked for.
pub(crate) fn refund(
    refund: &wire::Refund,
    reference: &str,
    asked: Money,
) -> Fit<Outcome<Operation>> {
    check_reference(refund.custom_id.as_ref(), reference, "refund.custom_id")?;
    let operation = operation(&refund.id, refund.amount.as_ref(), asked, "refund.amount")?;
    Ok(match refund_state(&refund.status) {
        MovementState::Done => Outcome::Done(operation),
        MovementState::Pending => Outcome::Pending(operation),
        MovementState::Failed => Outcome::Declined(decline(
            None,
            refund.status_details.as_ref(),
            &refund.status,
        )?),
        MovementState::Unclear => Outcome::Unmapped(Unmapped::new("refund.status", &refund.status)),
    })
}

/// An authorization after a void. `None`: it is not voided.
pub(crate) fn voided(
    held: &wire::Authorization,
    reference: &str,
    authorized: Money,
) -> Fit<Option<Outcome<Operation>>> {
    check_reference(
        held.custom_id.as_ref(),
        reference,
        "authorization.custom_id",
    )?;
    if held.amount.is_some() {
        let money = required(held.amount.as_ref(), authorized, "authorization.amount")?;
        if money != authorized {
            return Err(Unfit("authorization.amount"));
        }
    }
    let operation = Operation {
        id: Some(object_id(&held.id)?),
        amount: None,
    };
    Ok(match held.status.as_str() {
        "VOIDED" | "EXPIRED" => Some(Outcome::Done(operation)),
        "CREATED" | "PARTIALLY_CAPTURED" | "CAPTURED" | "PENDING" | "DENIED" => None,
        word => Some(Outcome::Unmapped(Unmapped::new(
            "authorization.status",
            word,
        ))),
    })
}

/// Our capture among those of an order: it carries our reference as `invoice_id`.
pub(crate) fn find_capture(
    order: &wire::Order,
    payment_reference: &str,
    reference: &str,
    asked: Money,
) -> Fit<Found<Outcome<Operation>>> {
    let mut all = order
        .purchase_units
        .iter()
        .flat_map(|unit| &unit.payments.captures);
    let ours = |c: &&wire::Capture| c.invoice_id.as_deref() == Some(reference);
    let found = all.clone().filter(ours);
    // One that took money weighs more than one that did not.
    if let Some(found) = found.min_by_key(|c| weight(capture_state(&c.status))) {
        return capture(found, payment_reference, asked).map(Found::Yes);
    }
    // One without a reference may be ours.
    let unnamed = all.any(|capture| capture.invoice_id.is_none());
    Ok(if unnamed {
        Found::CannotTell
    } else {
        Found::No
    })
}

/// Our refund among those of an order: it carries our reference as `custom_id`.
pub(crate) fn find_refund(
    order: &wire::Order,
    reference: &str,
    asked: Money,
) -> Fit<Found<Outcome<Operation>>> {
    let mut all = order
        .purchase_units
        .iter()
        .flat_map(|unit| &unit.payments.refunds);
    let ours = |r: &&wire::Refund| r.custom_id.as_deref() == Some(reference);
    let found = all.clone().filter(ours);
    if let Some(found) = found.min_by_key(|r| weight(refund_state(&r.status))) {
        return refund(found, reference, asked).map(Found::Yes);
    }
    let unnamed = all.any(|refund| refund.custom_id.is_none());
    Ok(if unnamed {
        Found::CannotTell
    } else {
        Found::No
    })
}

/// The one authorization of an order that counts.
pub(crate) fn authorization_of(order: &wire::Order) -> Fit<Option<ObjectId>> {
    let all = || {
        order
            .purchase_units
            .iter()
            .flat_map(|unit| &unit.payments.authorizations)
    };
    let held = all().find(|held| is_alive(held)).or_else(|| all().last());
    held.map(|held| object_id(&held.id)).transpose()
}

/// The one capture of an order that took money; `None` if there is not exactly one.
pub(crate) fn capture_of(order: &wire::Order) -> Fit<Option<ObjectId>> {
    let all = order
        .purchase_units
        .iter()
        .flat_map(|unit| &unit.payments.captures);
    let mut done = all.filter(|c| capture_state(&c.status) == MovementState::Done);
    match (done.next(), done.next()) {
        (Some(only), None) => object_id(&only.id).map(Some),
        _ => Ok(None),
    }
}

fn capture_movement((capture, amount): &(&wire::Capture, Money)) -> Fit<Movement> {
    Ok(Movement {
        id: Some(object_id(&capture.id)?),
        amount: *amount,
        state: capture_state(&capture.status),
        reference: capture.invoice_id.clone(),
    })
}

fn refund_movement((refund, amount): &(&wire::Refund, Money)) -> Fit<Movement> {
    Ok(Movement {
        id: Some(object_id(&refund.id)?),
        amount: *amount,
        state: refund_state(&refund.status),
        reference: refund.custom_id.clone(),
    })
}

fn capture_state(status: &str) -> MovementState {
    match status {
        "COMPLETED" | "PARTIALLY_REFUNDED" | "REFUNDED" => MovementState::Done,
        "PENDING" => MovementState::Pending,
        "DECLINED" | "FAILED" => MovementState::Failed,
        _ => MovementState::Unclear,
    }
}

fn refund_state(status: &str) -> MovementState {
    match status {
        "COMPLETED" => MovementState::Done,
        "PENDING" => MovementState::Pending,
        "FAILED" | "CANCELLED" => MovementState::Failed,
        _ => MovementState::Unclear,
    }
}

/// Of several with our reference, the lightest counts.
const fn weight(state: MovementState) -> u8 {
    match state {
        MovementState::Done => 0,
        MovementState::Unclear => 1,
        MovementState::Pending => 2,
        MovementState::Failed => 3,
    }
}

/// Whether a capture waits for a click in the merchant's own account, which does not take its
/// currency by itself: a set-up fault, and no time will end it (`providers/paypal.md` §6.4).
pub(crate) fn waits_for_merchant(capture: &wire::Capture) -> bool {
    let reason = capture.status_details.as_ref();
    capture_state(&capture.status) == MovementState::Pending
        && reason.and_then(|details| details.reason.as_deref())
            == Some("RECEIVING_PREFERENCE_MANDATES_MANUAL_ACTION")
}

fn is_alive(held: &wire::Authorization) -> bool {
    matches!(
        held.status.as_str(),
        "CREATED" | "PARTIALLY_CAPTURED" | "PENDING"
    )
}

fn expiry(held: &wire::Authorization) -> Option<Timestamp> {
    held.expiration_time
        .as_deref()
        .and_then(Timestamp::parse_rfc3339)
}

fn decline_of_capture(capture: &wire::Capture) -> Fit<Decline> {
    let details = capture.status_details.as_ref();
    decline(
        capture.processor_response.as_ref(),
        details,
        &capture.status,
    )
}

/// A decline by inner status: the processor's code if there is one, else the reason, else the
/// status.
fn decline(
    response: Option<&wire::ProcessorResponse>,
    details: Option<&wire::StatusDetails>,
    status: &str,
) -> Fit<Decline> {
    let code = response.and_then(|r| r.response_code.as_deref());
    // The processor has seen this one twice: what became of the first is not known (§10).
    if code == Some("5200") {
        return Err(Unfit("processor_response.response_code"));
    }
    let (category, retry) = match code.and_then(processor) {
        Some(known) => known,
        None => match details.and_then(|d| d.reason.as_deref()) {
            Some("DECLINED_BY_RISK_FRAUD_FILTERS") => (Category::SuspectedFraud, Retry::NewMethod),
            _ => (Category::Other, Retry::Later),
        },
    };
    let advised = response
        .and_then(|r| r.payment_advice_code.as_deref())
        .and_then(advice);
    let reason = details.and_then(|d| d.reason.as_deref());
    Ok(Decline {
        category,
        retry: advised.unwrap_or(retry),
        provider_code: ProviderCode::new(code.or(reason).unwrap_or(status)),
        method_gone: false,
    })
}

/// `processor_response.response_code` (`providers/paypal.md` §10).
fn processor(code: &str) -> Option<(Category, Retry)> {
    Some(match code {
        "5120" => (Category::InsufficientFunds, Retry::Later),
        "5400" | "PPEX" | "PPEF" | "1380" => (Category::Expired, Retry::NewMethod),
        "5650" | "7700" | "7710" | "PPD3" => (Category::AuthenticationRequired, Retry::NewMethod),
        "9500" | "9510" => (Category::SuspectedFraud, Retry::Never),
        "9520" | "5150" | "5180" | "5140" | "PP06" | "PPRN" | "PPAB" | "9540" | "10BR" => {
            (Category::ProviderRefused, Retry::Never)
        }
        "00N7" | "5110" | "1382" | "PCVV" | "PPC2" | "5170" | "5190" | "PPAD" | "PPAV" | "1330"
        | "0390" | "6300" | "PPFI" | "PPFR" | "1335" | "5950" => {
            (Category::InvalidMethod, Retry::NewMethod)
        }
        "0500" | "5100" | "5700" | "1393" => (Category::ProviderRefused, Retry::Later),
        "5710" | "PPEL" | "PPNL" | "PPAX" | "PPDT" | "5135" => {
            (Category::LimitExceeded, Retry::Later)
        }
        "5920" | "8110" | "8220" | "9100" | "PPNT" | "PPER" | "8000" | "0960" => {
            (Category::Other, Retry::Later)
        }
        _ => return None,
    })
}

/// `payment_advice_code`, which outranks the processor's code.
fn advice(code: &str) -> Option<Retry> {
    match code {
        "01" => Some(Retry::NewMethod),
        "02" | "24" | "25" | "26" | "27" | "28" | "29" | "30" => Some(Retry::Later),
        "03" | "21" => Some(Retry::Never),
        _ => None,
    }
}

fn operation(
    id: &str,
    amount: Option<&wire::Amount>,
    asked: Money,
    field: &'static str,
) -> Fit<Operation> {
    let money = required(amount, asked, field)?;
    if money != asked {
        return Err(Unfit(field));
    }
    Ok(Operation {
        id: Some(object_id(id)?),
        amount: Some(money),
    })
}

fn object_id(id: &str) -> Fit<ObjectId> {
    check_id(id, "id")?;
    ObjectId::new(id).map_err(|_| Unfit("id"))
}

fn check_id(id: &str, field: &'static str) -> Fit<()> {
    PathId::payment(id).map(drop).ok_or(Unfit(field))
}

fn check_units(order: &wire::Order, reference: &str, asked: Money) -> Fit<()> {
    for unit in &order.purchase_units {
        check_reference(
            unit.custom_id.as_ref(),
            reference,
            "purchase_unit.custom_id",
        )?;
        if let Some(amount) = &unit.amount
            && required(Some(amount), asked, "purchase_unit.amount")? != asked
        {
            return Err(Unfit("purchase_unit.amount"));
        }
    }
    if order.purchase_units.len() > 1 {
        Err(Unfit("order.purchase_units"))
    } else {
        Ok(())
    }
}

fn check_reference(given: Option<&String>, asked: &str, field: &'static str) -> Fit<()> {
    if given.is_some_and(|given| given != asked) {
        Err(Unfit(field))
    } else {
        Ok(())
    }
}

/// An amount that must be there, in the currency that was asked for.
fn required(amount: Option<&wire::Amount>, asked: Money, field: &'static str) -> Fit<Money> {
    let amount = amount.ok_or(Unfit(field))?;
    if amount.currency_code != asked.currency().code() {
        return Err(Unfit(field));
    }
    Money::from_decimal(asked.currency(), &amount.value).map_err(|_| Unfit(field))
}

fn sum(like: Money, mut amounts: impl Iterator<Item = Money>) -> Option<Money> {
    amounts.try_fold(Money::zero(like.currency()), |sum, money| {
        sum.plus(money).ok()
    })
}

#[cfg(test)]
mod tests {
    use cardless_contract::Currency;

    use super::*;

    fn chf(minor: i64) -> Money {
        Money::new(Currency::from_code("CHF").unwrap(), minor).unwrap()
    }

    fn look(order: serde_json::Value) -> Fit<Outcome<Payment>> {
        let order: wire::Order = serde_json::from_value(order).unwrap();
        let reservation = ReservationId::new("O1").unwrap();
        let expected = Expected {
            reservation: &reservation,
            reference: "ref-1",
            amount: chf(4990),
        };
        let hosts = Hosts::new(
            "https://api-m.sandbox.paypal.com",
            &["www.sandbox.paypal.com"],
        );
        payment(
            &order,
            expected,
            &hosts.unwrap(),
            Timestamp::from_seconds(1_000_000_000),
        )
    }

    #[test]
    fn a_capture_that_waits_for_the_merchant_is_noticed() {
        for (status, reason, waits) in [
            (
                "PENDING",
                "RECEIVING_PREFERENCE_MANDATES_MANUAL_ACTION",
                true,
            ),
            ("PENDING", "ECHECK", false),
            (
                "COMPLETED",
                "RECEIVING_PREFERENCE_MANDATES_MANUAL_ACTION",
                false,
            ),
        ] {
            let capture = serde_json::json!({"id": "C1", "status": status,
                "status_details": {"reason": reason}});
            let capture = serde_json::from_value(capture).unwrap();
            assert_eq!(waits_for_merchant(&capture), waits, "{status} {reason}");
        }
    }

    fn with(status: &str, payments: serde_json::Value) -> serde_json::Value {
        serde_json::json!({"id": "O1", "status": status, "purchase_units": [{
            "custom_id": "ref-1", "amount": {"currency_code": "CHF", "value": "49.90"},
            "payments": payments }]})
    }

    fn capture_json(status: &str, value: &str) -> serde_json::Value {
        serde_json::json!({"id": "C1", "status": status, "custom_id": "ref-1",
            "amount": {"currency_code": "CHF", "value": value}})
    }

    #[test]
    fn the_inner_status_decides() {
        let of = |word: &str| {
            look(with(
                "COMPLETED",
                serde_json::json!({"captures": [capture_json(word, "49.9")]}),
            ))
        };
        assert!(
            matches!(of("COMPLETED"), Ok(Outcome::Done(p)) if p.phase == PaymentPhase::Captured && p.captured == chf(4990))
        );
        assert!(matches!(of("PENDING"), Ok(Outcome::Pending(_))));
        assert!(matches!(of("DECLINED"), Ok(Outcome::Declined(_))));
        assert!(matches!(of("FAILED"), Ok(Outcome::Declined(_))));
        assert!(matches!(of("NEW_WORD"), Ok(Outcome::Unmapped(_))));
        assert!(matches!(of("REFUNDED"), Ok(Outcome::Done(p)) if p.refunded.is_none()));
    }

    #[test]
    fn what_went_back_beyond_the_refunds_that_are_shown_is_told_and_is_no_sum() {
        let of = |capture: &str, refunds: &[(&str, &str)]| {
            let refunds: Vec<_> = refunds
                .iter()
                .map(|(status, value)| {
                    serde_json::json!({"id": "R1", "status": status,
                        "amount": {"currency_code": "CHF", "value": value}})
                })
                .collect();
            let payments = serde_json::json!({
                "captures": [capture_json(capture, "49.90")], "refunds": refunds});
            let Ok(Outcome::Done(seen)) = look(with("COMPLETED", payments)) else {
                panic!("{capture}");
            };
            (seen.refunded, seen.reversed, seen.returned)
        };
        let (all, part) = (chf(4990), chf(1000));
        assert_eq!(of("COMPLETED", &[]), (Some(chf(0)), None, None));
        let refund = [("COMPLETED", "49.90")];
        assert_eq!(of("REFUNDED", &refund), (Some(all), None, None));
        // A refund in the dashboard that is not shown, or the customer's bank.
        assert_eq!(of("REFUNDED", &[]), (None, None, Some(all)));
        let refund = [("COMPLETED", "10.00")];
        assert_eq!(of("REFUNDED", &refund), (None, None, Some(all)));
        assert_eq!(of("PARTIALLY_REFUNDED", &refund), (Some(part), None, None));
        assert_eq!(of("PARTIALLY_REFUNDED", &[]), (None, None, Some(chf(1))));
        // One that is under way explains it.
        let pending = [("PENDING", "49.90")];
        assert_eq!(of("REFUNDED", &pending), (None, None, None));
        let failed = [("FAILED", "49.90")];
        assert_eq!(of("REFUNDED", &failed), (None, None, Some(all)));
    }

    #[test]
    fn another_amount_currency_or_reference_is_unfit() {
        let order = |capture| {
            look(with(
                "COMPLETED",
                serde_json::json!({"captures": [capture]}),
            ))
        };
        assert_eq!(
            order(capture_json("COMPLETED", "49.00")).unwrap_err(),
            Unfit("capture.amount")
        );
        let mut other = capture_json("COMPLETED", "49.90");
        other["custom_id"] = "ref-2".into();
        assert_eq!(order(other).unwrap_err(), Unfit("capture.custom_id"));
        let mut euro = capture_json("COMPLETED", "49.90");
        euro["amount"]["currency_code"] = "EUR".into();
        assert_eq!(order(euro).unwrap_err(), Unfit("capture.amount"));
        assert!(look(with("COMPLETED", serde_json::json!({}))).is_err());
    }

    #[test]
    fn authorizations_by_status() {
        let of = |word: &str, expires: &str| {
            look(with(
                "COMPLETED",
                serde_json::json!({"authorizations": [{"id": "A1", "status": word,
                "expiration_time": expires, "amount": {"currency_code": "CHF", "value": "49.90"}}]}),
            ))
        };
        let phase = |outcome: Fit<Outcome<Payment>>| match outcome {
            Ok(Outcome::Done(payment)) => Some(payment.phase),
            _ => None,
        };
        let later = "2030-01-01T00:00:00Z";
        assert_eq!(phase(of("CREATED", later)), Some(PaymentPhase::Authorized));
        assert_eq!(phase(of("VOIDED", later)), Some(PaymentPhase::Voided));
        assert_eq!(
            phase(of("VOIDED", "2001-01-01T00:00:00Z")),
            Some(PaymentPhase::Expired)
        );
        assert_eq!(phase(of("EXPIRED", later)), Some(PaymentPhase::Expired));
        assert!(matches!(of("PENDING", later), Ok(Outcome::Pending(_))));
        assert!(matches!(of("DENIED", later), Ok(Outcome::Declined(_))));
        assert!(matches!(of("CAPTURED", later), Ok(Outcome::Unmapped(_))));
    }

    #[test]
    fn what_was_taken_in_part_is_held_as_the_authorization_says() {
        let of = |word: &str| {
            let payments = serde_json::json!({
                "authorizations": [{"id": "A1", "status": word,
                    "amount": {"currency_code": "CHF", "value": "49.90"}}],
                "captures": [capture_json("COMPLETED", "15.00")]});
            let Ok(Outcome::Done(payment)) = look(with("COMPLETED", payments)) else {
                panic!("{word}");
            };
            assert_eq!(payment.phase, PaymentPhase::Captured, "{word}");
            assert_eq!(payment.captured, chf(1500), "{word}");
            payment.hold
        };
        for (word, hold) in [
            ("CREATED", HoldState::Alive),
            ("PARTIALLY_CAPTURED", HoldState::Alive),
            ("CAPTURED", HoldState::Ended),
            ("VOIDED", HoldState::Ended),
            ("EXPIRED", HoldState::Ended),
            ("DENIED", HoldState::Ended),
            ("PENDING", HoldState::NotTold),
            ("A_NEW_WORD", HoldState::NotTold),
        ] {
            assert_eq!(of(word), hold, "{word}");
        }
        let whole = serde_json::json!({"captures": [capture_json("COMPLETED", "49.90")]});
        let Ok(Outcome::Done(whole)) = look(with("COMPLETED", whole)) else {
            panic!("a capture without a hold");
        };
        assert_eq!(whole.hold, HoldState::Ended);
    }

    #[test]
    fn a_hold_that_was_renewed_is_alive_while_one_of_the_two_is() {
        let held = |id: &str, word: &str| {
            serde_json::json!({"id": id, "status": word,
                "amount": {"currency_code": "CHF", "value": "49.90"}})
        };
        for (first, second, hold) in [
            ("VOIDED", "PARTIALLY_CAPTURED", HoldState::Alive),
            ("PARTIALLY_CAPTURED", "VOIDED", HoldState::Alive),
            ("VOIDED", "VOIDED", HoldState::Ended),
        ] {
            let payments = serde_json::json!({
                "authorizations": [held("A1", first), held("A2", second)],
                "captures": [capture_json("COMPLETED", "15.00")]});
            let Ok(Outcome::Done(payment)) = look(with("COMPLETED", payments)) else {
                panic!("{first} {second}");
            };
            assert_eq!(payment.hold, hold, "{first} {second}");
        }
    }

    #[test]
    fn orders_without_payments_by_status() {
        let of = |word: &str| look(with(word, serde_json::json!({})));
        assert!(matches!(of("CREATED"), Ok(Outcome::Done(p)) if p.phase == PaymentPhase::Reserved));
        assert!(matches!(of("VOIDED"), Ok(Outcome::Done(p)) if p.phase == PaymentPhase::Voided));
        assert!(matches!(
            of("PAYER_ACTION_REQUIRED"),
            Ok(Outcome::Pending(_))
        ));
        assert!(matches!(of("WHAT"), Ok(Outcome::Unmapped(_))));
    }

    #[test]
    fn a_link_elsewhere_is_unfit() {
        let mut order = with("PAYER_ACTION_REQUIRED", serde_json::json!({}));
        order["links"] = serde_json::json!([{"rel": "payer-action", "href": "https://www.sandbox.paypal.com/checkoutnow?token=O1"}]);
        assert!(matches!(
            look(order.clone()),
            Ok(Outcome::ActionRequired(..))
        ));
        for bad in [
            "https://evil.example/",
            "http://www.sandbox.paypal.com/",
            "https://a@www.sandbox.paypal.com/",
        ] {
            order["links"][0]["href"] = bad.into();
            assert_eq!(look(order.clone()).unwrap_err(), Unfit("links"));
        }
    }

    #[test]
    fn processor_codes_and_advice() {
        let of = |code: &str, advice: &str| {
            let response = wire::ProcessorResponse {
                response_code: Some(code.to_owned()),
                payment_advice_code: Some(advice.to_owned()),
            };
            decline(Some(&response), None, "DECLINED").map(|d| (d.category, d.retry))
        };
        assert_eq!(
            of("5120", ""),
            Ok((Category::InsufficientFunds, Retry::Later))
        );
        assert_eq!(of("9500", ""), Ok((Category::SuspectedFraud, Retry::Never)));
        assert_eq!(
            of("5120", "03"),
            Ok((Category::InsufficientFunds, Retry::Never))
        );
        assert_eq!(of("ZZZZ", ""), Ok((Category::Other, Retry::Later)));
        assert_eq!(
            of("5200", ""),
            Err(Unfit("processor_response.response_code"))
        );
    }

    #[test]
    fn the_kind_of_a_token_is_its_shape() {
        let agreement = Some(TokenKind::BillingAgreement);
        for (token, kind) in [
            ("B-50V812176H0783741", agreement),
            ("8kk8451t", Some(TokenKind::VaultV3)),
            ("b-50V812176H0783741", Some(TokenKind::VaultV3)),
            ("BA-8A802366G0648845Y", None),
            ("B-", None),
            ("B-50v", None),
        ] {
            assert_eq!(kind_of(token), kind, "{token}");
        }
    }

    #[test]
    fn ids_are_checked_before_they_go_into_a_path() {
        assert!(PathId::payment("5O190127TN364715T").is_some());
        for bad in ["", "a", "../x", "A/B", "A?b", &"A".repeat(37)] {
            assert!(PathId::payment(bad).is_none(), "{bad}");
        }
        assert!(PathId::vault("8kk8451t-_").is_some());
        assert!(PathId::vault("a/b").is_none());
    }

    #[test]
    fn a_token_from_elsewhere_has_the_shape_of_the_kind_that_is_set() {
        let check = |kind, text: &str| {
            let habits = Habits {
                token_kind: kind,
                usage_pattern: None,
                brand: None,
                description: None,
            };
            check_token(&habits, &ProviderToken::new(text).unwrap())
        };
        let vault = |text| check(TokenKind::VaultV3, text);
        let agreement = |text| check(TokenKind::BillingAgreement, text);
        assert_eq!(vault("8kk8451t-_"), Ok(()));
        assert_eq!(agreement("B-7FB31251F28061234"), Ok(()));
        for other in ["B-7FB31251F28061234", "BA-8A802366G0648845Y"] {
            assert_eq!(vault(other), Err(TokenFault::OtherKind), "{other}");
        }
        for other in ["8kk8451t", "BA-8A802366G0648845Y", "B-", "B-7fb3"] {
            assert_eq!(agreement(other), Err(TokenFault::OtherKind), "{other}");
        }
        for bad in ["a/b", "a.b", "a+b"] {
            assert_eq!(vault(bad), Err(TokenFault::Shape), "{bad}");
            assert_eq!(agreement(bad), Err(TokenFault::Shape), "{bad}");
        }
    }
}
