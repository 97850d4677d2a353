//! Requests and answers: the same types for the Rust API, the HTTP API and the HTTP client.
//!
//! Unknown members are refused. What is checked beyond the type (ranges, card numbers, the
//! provider's limits) is checked by the gateway, so that both doors behave alike.

mod rights;

use cardless_contract::{Currency, Money, ProviderName, Timestamp};
use serde::{Deserialize, Serialize};

pub use rights::{
    Deleted, Erasure, ErasureRequest, ErasureStatus, Kept, Restriction, RestrictionUpdate,
    RevokedThere, WaitingFor,
};

/// Begin to link a payment method: `POST /v1/setups`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// The caller's own id of the account: 1–64 of `A-Za-z0-9._:-`.
    pub account: String,
    /// `postfinance`, `paypal` or `aduno`.
    pub provider: String,
    /// Where the customer comes back to: https, or http on loopback.
    pub return_url: String,
    /// The language of the provider's page, as `de` or `de-CH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// With an amount, the customer's first payment links the method in the same visit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// The caller's reference of that first payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// When that first payment is taken; `automatic` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
}

/// An amount as callers write it. It becomes [`Money`] once it is checked, so that a bad one is
/// an answer that names the field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amount {
    /// Three letters of ISO 4217.
    pub currency: String,
    /// In the currency's smallest unit by ISO 4217.
    pub minor: i64,
}

impl Amount {
    /// From a currency and minor units.
    pub fn new(currency: impl Into<String>, minor: i64) -> Self {
        Self {
            currency: currency.into(),
            minor,
        }
    }
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self {
            currency: money.currency().code().to_owned(),
            minor: money.minor(),
        }
    }
}

impl Amount {
    /// As checked money, zero included.
    ///
    /// # Errors
    ///
    /// [`cardless_contract::MoneyError`].
    pub fn to_money(&self) -> Result<Money, cardless_contract::MoneyError> {
        Money::new(Currency::from_code(&self.currency)?, self.minor)
    }
}

/// When a payment is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capture {
    /// At once.
    Automatic,
    /// By a later capture.
    Manual,
}

/// Who starts a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// The merchant, with the customer away.
    Merchant,
    /// The customer, who is present.
    Customer,
}

/// A setup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// `set_…`.
    pub id: String,
    /// The caller's id of the account.
    pub account: String,
    /// At which provider.
    pub provider: ProviderName,
    /// How far it is.
    pub status: SetupStatus,
    /// Where to send the customer, while it awaits the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// `pay_…` of the first payment, if the setup takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// `pm_…`, once it is completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
}

/// How far a setup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are those of the HTTP API, which explains them"
)]
pub enum SetupStatus {
    AwaitingCustomer,
    Completed,
    Declined,
    Expired,
    Unknown,
    PaidNotLinked,
}

/// A linked payment method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentMethod {
    /// `pm_…`.
    pub id: String,
    /// At which provider.
    pub provider: ProviderName,
    /// Whether it can be charged.
    pub status: MethodStatus,
    /// Whether a payment without `payment_method` charges it.
    pub default: bool,
    /// When it was linked.
    pub created_at: Timestamp,
}

/// Whether a method can be charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are those of the HTTP API, which explains them"
)]
pub enum MethodStatus {
    Active,
    Suspended,
    Revoked,
}

/// Change a method: `PATCH /v1/payment-methods/{id}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MethodUpdate {
    /// The account that the method belongs to.
    pub account: String,
    /// `true` makes it the account's default; `false` is refused.
    pub default: bool,
}

/// Charge: `POST /v1/payments`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayRequest {
    /// The caller's own id of the account.
    pub account: String,
    /// `pm_…`; the account's default if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// How much; above zero.
    pub amount: Amount,
    /// The caller's reference: 1–255 characters. It never leaves.
    pub reference: String,
    /// When it is taken.
    pub capture: Capture,
    /// Who starts it.
    pub initiator: Initiator,
    /// Where a customer who is present comes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_url: Option<String>,
    /// What the customer reads at the provider, where it has a text field: 1–100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Capture: `POST /v1/payments/{id}/captures`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// The account that the payment belongs to.
    pub account: String,
    /// How much; all that is left if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// Whether the rest is released; `true` if absent.
    #[serde(default, rename = "final", skip_serializing_if = "Option::is_none")]
    pub last: Option<bool>,
}

/// Void: `POST /v1/payments/{id}/void`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VoidRequest {
    /// The account that the payment belongs to.
    pub account: String,
}

/// Refund: `POST /v1/payments/{id}/refunds`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// The account that the payment belongs to.
    pub account: String,
    /// How much; all that is left if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// `pay_…`.
    pub id: String,
    /// The caller's id of the account.
    pub account: String,
    /// `pm_…`; absent until a first payment has linked one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// At which provider.
    pub provider: ProviderName,
    /// The caller's reference.
    pub reference: String,
    /// What was asked for.
    pub amount: Money,
    /// What was taken.
    pub captured: Money,
    /// What was given back.
    pub refunded: Money,
    /// What the provider took back (chargebacks), as far as its reads show it. Those of the three
    /// providers do not tell a chargeback, so it stays 0 there; what they show instead is an event
    /// `payment.contradicted`.
    pub reversed: Money,
    /// Where it stands.
    pub status: PaymentStatus,
    /// Why it was declined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Why it is voided, if not by a call: `expired`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where to send the customer, while the status is `action_required`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_url: Option<String>,
    /// When a hold lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Captures, void and refunds, oldest first.
    pub operations: Vec<Operation>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Send the customer to `redirect_url`.
    ActionRequired,
    /// The provider is still working.
    Pending,
    /// We do not know yet and are asking.
    Unknown,
    /// The amount is held.
    Authorized,
    /// Money was taken.
    Captured,
    /// Refused; no money moved.
    Declined,
    /// No money moved and none will.
    Failed,
    /// The hold was released, or lapsed.
    Voided,
    /// A person must look.
    Parked,
}

impl PaymentStatus {
    /// Whether nobody knows yet how it ends, or only a person can tell: the HTTP answer is 202, and
    /// no other payment of the account begins under the same reference.
    pub const fn is_open(self) -> bool {
        matches!(
            self,
            Self::ActionRequired | Self::Pending | Self::Unknown | Self::Parked
        )
    }
}

/// A capture, void or refund within a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// `cap_…`, `void_…` or `ref_…`.
    pub id: String,
    /// What kind.
    pub kind: OperationKind,
    /// How much.
    pub amount: Money,
    /// How far it is.
    pub status: OperationStatus,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum OperationKind {
    Capture,
    Void,
    Refund,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are those of the HTTP API, which explains them"
)]
pub enum OperationStatus {
    Pending,
    Unknown,
    Succeeded,
    Failed,
    Parked,
}

impl OperationStatus {
    /// Whether it is not settled yet: the HTTP answer is 202.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Unknown)
    }
}

/// A refund.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// `ref_…`.
    pub id: String,
    /// `pay_…`.
    pub payment: String,
    /// How far it is.
    pub status: OperationStatus,
    /// How much.
    pub amount: Money,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Why a payment or setup was declined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// Why, as far as the provider tells.
    pub category: String,
    /// `never`, `later` or `new_method`.
    pub retry: String,
    /// The provider's own code.
    pub provider_code: String,
}

/// Why a payment failed. No money moved and none will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word, as `provider_unreachable`.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// What to give as `after` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which payments: `GET /v1/payments`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PaymentQuery {
    /// Of this account.
    pub account: String,
    /// Under this reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// After this payment of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Something that has become true, and stays so: what the outbox holds.
///
/// It names its object and says nothing of amounts: read the object for how it stands now. The same
/// event can come more than once; its `id` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// `evt_…`; the same each time the event comes.
    pub id: String,
    /// The object's kind and what it was brought to, as `payment.captured`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it became true.
    pub timestamp: Timestamp,
    /// What it is about.
    pub data: EventData,
}

/// What an [`Event`] is about. A capture, void or refund comes with its payment; every other object
/// comes alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventData {
    /// The caller's id of the account; absent once the account is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What the object was brought to: the second half of the event's type.
    pub status: String,
    /// `pay_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment: Option<String>,
    /// `cap_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
    /// `void_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub void: Option<String>,
    /// `ref_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund: Option<String>,
    /// `set_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<String>,
    /// `pm_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_method: Option<String>,
    /// The handle that the object's own replaces. For `payment_method.reissued` it goes on naming the
    /// object for the overlap that the operator has set, and then names nothing; for
    /// `payment_method.imported` it is what the method was called where it comes from, and names
    /// nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// Which events: `GET /v1/events`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// After this event, which is the last that the caller has dealt with; from the first one if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// An answer, and whether the thing that was asked for is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub body: T,
    /// Not settled yet: the HTTP answer is 202.
    pub open: bool,
}
