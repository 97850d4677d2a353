use std::fmt;

use async_trait::async_trait;

use crate::{
    Capabilities, CustomerReference, Found, IdempotencyKey, Money, Notification, NotificationError,
    ObjectId, Operation, Outcome, Payment, ProviderCall, ProviderName, ProviderPlace,
    ProviderToken, RawNotification, Reference, ReservationId, Result, SetupProgress,
    SetupReference, SetupStarted, Timestamp, TokenFault,
};

/// A payment provider: links, charges, gives back.
///
/// What every implementation promises, and every caller may rely on:
///
/// - No method has a default body, so an adapter cannot forget one.
/// - A decline is an [`Outcome`], not an error.
/// - An adapter sends each mutating request once; the gateway decides about repeating it. The one
///   exception is an access token that was refused before anything was done: a new one is fetched
///   and the request is sent once more under the same key.
/// - When a call takes several requests, the error's
///   [`Delivery`](crate::Delivery) is that of the mutating one: once that has left, no later
///   failure reads `NotSent` or `Refused`.
/// - Every amount and currency in an answer is compared with what was asked. A difference is
///   [`ErrorKind::UnreadableAnswer`](crate::ErrorKind::UnreadableAnswer) with `Unknown`, never a
///   success.
/// - A word that the adapter does not know is [`Outcome::Unmapped`], never success, failure or a
///   panic.
/// - Answers are decoded by allow-list: masked numbers, BIN, brand, expiry, names, addresses,
///   fingerprints and e-mail addresses are dropped unread.
/// - Nothing that is not `Refused` in the provider's fact sheet is `Refused` here.
/// - A cancelled future (dropped at any await) is like a lost reply: `Unknown`.
#[async_trait]
pub trait PaymentProvider: fmt::Debug + Send + Sync + 'static {
    /// The name that callers and records use.
    fn name(&self) -> &ProviderName;

    /// Whose tokens these are, as the settings say it: PostFinance's space, Datatrans' merchant id,
    /// PayPal's environment (its settings name no merchant, and its client id can be rotated). A
    /// sealed token is bound to it, so that it never opens for another merchant.
    fn merchant(&self) -> &str;

    /// In which of the provider's ways the settings work, where one can't end what another has
    /// begun, as PayPal's `order_flow`; empty where there is only one. Where something is open, the
    /// gateway holds a provider to its way as it does to its merchant.
    fn mode(&self) -> &str;

    /// What the provider can do.
    fn capabilities(&self) -> &Capabilities;

    /// Every call that the adapter can make, whatever the settings. No request leaves that is none
    /// of these.
    fn calls(&self) -> &'static [ProviderCall];

    /// Every place that the adapter reaches, or sends a customer to, with its settings. Whatever a
    /// caller or an answer says, no request leaves for another.
    fn places(&self) -> Vec<ProviderPlace>;

    /// One harmless question with the given credentials, for `check`. Moves nothing, makes
    /// nothing.
    ///
    /// # Errors
    ///
    /// Any [`ErrorKind`](crate::ErrorKind); `Authentication` if the credentials are wrong.
    async fn probe(&self) -> Result<()>;

    /// Begins to link a payment method: makes the provider's page for the customer.
    ///
    /// With an amount (only where [`Capabilities::setup_takes_payment`]), the customer's visit
    /// also pays, and the setup's reference is the payment's [`ReservationId`].
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating follows [`Capabilities::repeat_setup`].
    async fn begin_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupRequest,
    ) -> Result<Outcome<SetupStarted>>;

    /// Asks how far a setup is, and takes the token once the customer has agreed. May be called
    /// any number of times; the token is the same each time. A registration that needed a hold is
    /// released here, after the token is known.
    ///
    /// # Errors
    ///
    /// As for every call. `NotFound` means that the provider does not know the setup.
    async fn complete_setup(
        &self,
        key: &IdempotencyKey,
        request: &SetupCompletion,
    ) -> Result<SetupProgress>;

    /// Makes the provider's object for a payment and returns its id. No money moves; where
    /// [`Capabilities::reserve_holds`], the amount is held. For a customer who is present the
    /// answer may be [`Outcome::ActionRequired`] with the address to send the customer to.
    ///
    /// An adapter whose repeat must be byte-equal asks `seal` before it sends.
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating follows [`Capabilities::repeat_reserve`].
    async fn reserve(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &PaymentRequest,
        seal: &dyn BodySeal,
    ) -> Result<Outcome<ReservationId>>;

    /// Authorizes or takes the amount of a reservation. Repeating it takes nothing twice: the
    /// provider's own guard on the object makes a repeat harmless.
    ///
    /// # Errors
    ///
    /// As for every mutating call. `Refused` means that the reservation holds and moved nothing.
    async fn commit(
        &self,
        key: &IdempotencyKey,
        token: &ProviderToken,
        request: &CommitRequest,
    ) -> Result<Outcome<Payment>>;

    /// Takes an authorized amount, or a part of it.
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating follows [`Capabilities::repeat_capture`].
    async fn capture(
        &self,
        key: &IdempotencyKey,
        request: &CaptureRequest,
    ) -> Result<Outcome<Operation>>;

    /// Releases what is held and not captured. Already released is done.
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating follows [`Capabilities::repeat_void`].
    async fn void(&self, key: &IdempotencyKey, request: &VoidRequest)
    -> Result<Outcome<Operation>>;

    /// Gives back a captured amount, or a part of it. The amount is always sent.
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating follows [`Capabilities::repeat_refund`].
    async fn refund(
        &self,
        key: &IdempotencyKey,
        request: &RefundRequest,
    ) -> Result<Outcome<Operation>>;

    /// Reads a payment. [`Outcome::Declined`] if the provider has concluded with a refusal.
    ///
    /// # Errors
    ///
    /// `NotFound` if the provider does not know the id. A read moves nothing, so its delivery says
    /// nothing about money.
    async fn lookup(&self, request: &LookupRequest) -> Result<Outcome<Payment>>;

    /// Looks for a payment by our reference. More than one with it is an error
    /// ([`ErrorKind::Conflict`](crate::ErrorKind::Conflict)), never a guess.
    ///
    /// # Errors
    ///
    /// As for every read.
    async fn find(&self, reference: &Reference) -> Result<Found<ReservationId>>;

    /// Looks for a capture, void or refund that we asked for, by id, by key or by reference.
    ///
    /// One whose id is known is there: it is never answered with [`Found::No`].
    ///
    /// # Errors
    ///
    /// As for every read. `NotFound` if the provider does not know the id.
    async fn find_operation(
        &self,
        key: &IdempotencyKey,
        request: &OperationLookup,
    ) -> Result<Found<Outcome<Operation>>>;

    /// The payment of a capture, void or refund that a notification names ([`crate::Subject::Operation`])
    /// and nobody here knows: somebody has made it elsewhere. `None` if the provider knows no such
    /// object, or if its notifications name the payment.
    ///
    /// # Errors
    ///
    /// As for every read. `RateLimited` if the adapter has read enough for now.
    async fn payment_of(
        &self,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Option<ReservationId>>;

    /// Makes the token unusable at the provider. Already gone is done.
    ///
    /// # Errors
    ///
    /// As for every mutating call; repeating it is harmless.
    async fn revoke(&self, token: &ProviderToken) -> Result<()>;

    /// What kind of token the settings work with, in one word of `a-z0-9_`, as `vault_v3`: what is
    /// linked becomes one, and a token that comes from elsewhere must be one.
    fn token_kind(&self) -> &'static str;

    /// What kind this token is, in such a word: one that was linked under other settings is still
    /// what it was. Without a word of the adapter's own there is one kind only.
    fn kind_of(&self, _token: &ProviderToken) -> &'static str {
        self.token_kind()
    }

    /// Whether a token that came from elsewhere has the shape of that kind. Asks nobody, and says
    /// nothing about whether the provider knows it.
    ///
    /// # Errors
    ///
    /// [`TokenFault`], which quotes nothing of the token. What shows a part of the card's number is
    /// [`TokenFault::RevealsDigits`], whatever else is wrong with it.
    fn check_token(&self, token: &ProviderToken) -> std::result::Result<(), TokenFault>;

    /// Checks a webhook's signature over its raw bytes and says what it is about. Reads no
    /// payment; may fetch the signer's key from an allow-listed address.
    ///
    /// # Errors
    ///
    /// [`NotificationError`], one for each way of being wrong.
    async fn verify_notification(
        &self,
        delivery: &RawNotification<'_>,
    ) -> std::result::Result<Notification, NotificationError>;
}

/// Remembers the bytes of a request whose repeat must be byte-equal, without keeping them.
///
/// The journal stores a keyed hash of the bytes before they leave, and compares on a repeat.
#[async_trait]
pub trait BodySeal: Send + Sync {
    /// Called with the exact bytes, before they are sent. On an error nothing may be sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::RepeatRefused`](crate::ErrorKind::RepeatRefused) with `NotSent` if these bytes
    /// differ from those that were sent first; `Internal` with `NotSent` if they could not be
    /// remembered.
    async fn admit(&self, bytes: &[u8]) -> Result<()>;
}

/// Admits everything: for tests and for callers without a journal.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSeal;

#[async_trait]
impl BodySeal for NoSeal {
    async fn admit(&self, _bytes: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Who starts a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The customer, who is present and can be asked.
    Customer,
    /// The merchant, with a method that the customer has linked for this.
    Merchant,
}

/// When the amount is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CaptureMode {
    /// With the commit.
    Automatic,
    /// By a later capture.
    Manual,
}

/// Begin to link a method.
#[derive(Debug, Clone)]
pub struct SetupRequest {
    /// Our reference; unique per setup.
    pub reference: Reference,
    /// Who the customer is, in the provider's eyes.
    pub customer: CustomerReference,
    /// Where the provider sends the browser when the customer is done; ours, with a state of its
    /// own in it. It proves nothing.
    pub return_url: String,
    /// Where the provider sends its webhooks, for providers that take it per request.
    pub webhook_url: String,
    /// Two letters, or with a region as `de-CH`.
    pub language: Option<String>,
    /// The first payment, where [`Capabilities::setup_takes_payment`].
    pub payment: Option<SetupPayment>,
    /// When this request is made: the customer's time at the page counts from here.
    pub at: Timestamp,
}

/// The first payment, made in the visit that links the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetupPayment {
    /// How much.
    pub amount: Money,
    /// When it is taken.
    pub capture: CaptureMode,
}

/// Ask about a setup and finish it.
#[derive(Debug, Clone)]
pub struct SetupCompletion {
    /// What [`PaymentProvider::begin_setup`] gave.
    pub setup: SetupReference,
    /// Our reference of the setup.
    pub reference: Reference,
    /// The first payment that was asked for, to compare.
    pub payment: Option<SetupPayment>,
}

/// Charge a linked method.
#[derive(Debug, Clone)]
pub struct PaymentRequest {
    /// Our reference; unique per payment.
    pub reference: Reference,
    /// Who the customer is, in the provider's eyes.
    pub customer: CustomerReference,
    /// How much; above zero.
    pub amount: Money,
    /// When it is taken.
    pub capture: CaptureMode,
    /// Who starts it.
    pub initiator: Initiator,
    /// Where the provider sends the browser; there when the customer is present.
    pub return_url: Option<String>,
    /// Where the provider sends its webhooks, for providers that take it per request.
    pub webhook_url: String,
    /// What the customer reads, where the provider has a text field for it.
    pub description: Option<String>,
}

/// Take or hold the amount of a reservation.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The stored id.
    pub reservation: ReservationId,
    /// The same request that made the reservation.
    pub payment: PaymentRequest,
}

/// Capture an authorized payment.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    /// The payment at the provider.
    pub reservation: ReservationId,
    /// Its authorization, where the provider gave one.
    pub authorization: Option<ObjectId>,
    /// Our reference of the payment.
    pub payment_reference: Reference,
    /// Our reference of this capture.
    pub reference: Reference,
    /// How much.
    pub amount: Money,
    /// How much was authorized in all.
    pub authorized: Money,
    /// No further capture follows; the rest is released.
    pub last: bool,
}

/// Release a hold.
#[derive(Debug, Clone)]
pub struct VoidRequest {
    /// The payment at the provider.
    pub reservation: ReservationId,
    /// Its authorization, where the provider gave one.
    pub authorization: Option<ObjectId>,
    /// Our reference of the payment.
    pub payment_reference: Reference,
    /// How much was authorized in all.
    pub authorized: Money,
}

/// Give back.
#[derive(Debug, Clone)]
pub struct RefundRequest {
    /// The payment at the provider.
    pub reservation: ReservationId,
    /// The capture to refund, where the provider gave one.
    pub capture: Option<ObjectId>,
    /// Our reference of the payment.
    pub payment_reference: Reference,
    /// Our reference of this refund.
    pub reference: Reference,
    /// How much.
    pub amount: Money,
}

/// Read a payment.
#[derive(Debug, Clone)]
pub struct LookupRequest {
    /// The payment at the provider.
    pub reservation: ReservationId,
    /// Our reference of the payment, to compare where the provider returns it.
    pub reference: Reference,
    /// What was asked for, to compare.
    pub amount: Money,
}

/// What kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum OperationKind {
    Capture,
    Void,
    Refund,
}

/// Look for an operation of ours.
#[derive(Debug, Clone)]
pub struct OperationLookup {
    /// What kind.
    pub kind: OperationKind,
    /// The payment at the provider.
    pub reservation: ReservationId,
    /// Its authorization, where the provider gave one.
    pub authorization: Option<ObjectId>,
    /// The operation's own id, if an answer gave it.
    pub id: Option<ObjectId>,
    /// Our reference of the payment.
    pub payment_reference: Reference,
    /// Our reference of the operation.
    pub reference: Reference,
    /// How much was asked for (for a void, what was authorized).
    pub amount: Money,
    /// How much of the same kind we know to be done already, without this one. A provider that
    /// shows only a sum is compared with it.
    pub settled_before: Money,
}
