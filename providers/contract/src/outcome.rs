use crate::{
    Money, ObjectId, ProviderCode, ProviderToken, RedirectUrl, ReservationId, SetupReference,
    Timestamp,
};

/// What a provider said when it could be understood.
#[derive(Debug, Clone)]
pub enum Outcome<T> {
    /// It is carried out, and `T` says what.
    Done(T),
    /// It is accepted and the provider is still working; ask again.
    Pending(T),
    /// The customer must act at this address before anything more can happen.
    ActionRequired(T, RedirectUrl),
    /// It is refused. Final; no money moved and none will by this step.
    Declined(Decline),
    /// A person must look at it in the provider's back office (PostFinance MANUAL_CHECK, DECLINE).
    Review(T),
    /// The provider used a word that we do not know. Ask again; if it stays, park it. Never read
    /// it as success or failure.
    Unmapped(Unmapped),
}

/// A word that the adapter has no meaning for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmapped {
    /// Where it stood, as `order.status`.
    pub field: &'static str,
    /// The word, kept only if it looks like a code.
    pub value: ProviderCode,
}

/// A refusal by the provider, the issuer or the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decline {
    /// Why, as far as the provider tells.
    pub category: DeclineCategory,
    /// Whether the caller may try again.
    pub retry: RetryAdvice,
    /// The provider's own code.
    pub provider_code: ProviderCode,
    /// The token is unusable from now on (deleted, revoked, expired): suspend the method.
    pub method_gone: bool,
}

/// Why a payment was declined. The names are those of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum DeclineCategory {
    InsufficientFunds,
    Expired,
    InvalidMethod,
    AuthenticationRequired,
    SuspectedFraud,
    LimitExceeded,
    ProviderRefused,
    Other,
}

/// Whether a declined payment may be tried again, with a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetryAdvice {
    /// Not this charge with this method, ever.
    Never,
    /// Later, a few times.
    Later,
    /// With another payment method.
    NewMethod,
}

/// An answer to "is it there?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found<T> {
    /// It is, and this is what it says.
    Yes(T),
    /// The provider would show it, and does not. It proves that nothing happened only if the
    /// question was asked the longest delay after the last send.
    No,
    /// The provider has no way to tell.
    CannotTell,
}

/// A payment at the provider, as one authoritative read shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// The provider's object.
    pub reservation: ReservationId,
    /// Where it stands.
    pub phase: PaymentPhase,
    /// The authorization, where the provider gives it an id of its own.
    pub authorization: Option<ObjectId>,
    /// When a hold lapses, if the provider says.
    pub expires_at: Option<Timestamp>,
    /// Whether more can be taken of what was held. [`PaymentPhase::Captured`] alone does not tell
    /// where several captures are possible.
    pub hold: HoldState,
    /// What was captured in all, once something was.
    pub captured: Money,
    /// What was refunded in all, as far as this read shows it; `None` where it does not.
    pub refunded: Option<Money>,
    /// What the provider took back (chargebacks), as far as this read shows it.
    pub reversed: Option<Money>,
    /// What went back to the customer at the least, refunds included, where the read shows that
    /// more did than it accounts for: a chargeback, or a refund that it does not show. It is never
    /// booked; where our books hold less, a person must look.
    pub returned: Option<Money>,
    /// The captures that this read shows, with their ids.
    pub captures: Vec<Movement>,
    /// The refunds that this read shows, with their ids.
    pub refunds: Vec<Movement>,
}

/// Where a payment stands at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PaymentPhase {
    /// The object exists; nothing is held, nothing has moved, and a commit is still possible.
    Reserved,
    /// The amount is held.
    Authorized,
    /// Money was taken: all that will be taken by the commit, or by captures so far.
    Captured,
    /// The hold was released, by us or by somebody in the back office. No money was taken.
    Voided,
    /// The hold lapsed, or the object did before anything was held. No money was taken.
    Expired,
}

/// Whether more can be taken of what was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldState {
    /// It is held: more can be taken, or released.
    Alive,
    /// Nothing is held any more: all of it was taken, or the rest was released or has lapsed.
    /// Final.
    Ended,
    /// Nothing is held yet, or this read does not tell. Never read it as an end.
    NotTold,
}

/// One capture or refund within a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The provider's id for it, where it has one of its own.
    pub id: Option<ObjectId>,
    /// How much.
    pub amount: Money,
    /// How far it is.
    pub state: MovementState,
    /// Our reference on it, where the provider returns one.
    pub reference: Option<String>,
}

/// How far a capture or refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MovementState {
    /// Money moved.
    Done,
    /// The provider is still working.
    Pending,
    /// It did not happen and will not.
    Failed,
    /// A person must look, or the word is unknown.
    Unclear,
}

/// A capture, void or refund that we asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The provider's id for it, where it has one of its own.
    pub id: Option<ObjectId>,
    /// How much it moved, where the answer says; compared with what was asked.
    pub amount: Option<Money>,
}

/// A setup that has begun at the provider.
#[derive(Debug, Clone)]
pub struct SetupStarted {
    /// What to ask about later.
    pub setup: SetupReference,
    /// Where to send the customer.
    pub redirect: RedirectUrl,
    /// When the provider forgets it.
    pub expires_at: Timestamp,
}

/// How far a setup is.
#[derive(Debug, Clone)]
pub enum SetupProgress {
    /// The customer is not done yet.
    AwaitingCustomer,
    /// The customer is done, the provider is not; ask again.
    Pending,
    /// The method is linked.
    Linked(ProviderToken),
    /// The customer or the provider said no.
    Declined(Decline),
    /// The provider forgot it.
    Expired,
    /// The customer is done, the provider has concluded, and it gave no token. If the setup took a
    /// payment, that payment stands on its own: look it up.
    NoToken,
    /// A word that we do not know.
    Unmapped(Unmapped),
}

impl<T> Outcome<T> {
    /// The same outcome with another value in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(value) => Outcome::Done(change(value)),
            Self::Pending(value) => Outcome::Pending(change(value)),
            Self::ActionRequired(value, url) => Outcome::ActionRequired(change(value), url),
            Self::Declined(decline) => Outcome::Declined(decline),
            Self::Review(value) => Outcome::Review(change(value)),
            Self::Unmapped(word) => Outcome::Unmapped(word),
        }
    }
}

impl Unmapped {
    /// A word at `field` that the adapter does not know.
    pub fn new(field: &'static str, value: &str) -> Self {
        Self {
            field,
            value: ProviderCode::new(value),
        }
    }
}

impl DeclineCategory {
    /// The word of the HTTP API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InsufficientFunds => "insufficient_funds",
            Self::Expired => "expired",
            Self::InvalidMethod => "invalid_method",
            Self::AuthenticationRequired => "authentication_required",
            Self::SuspectedFraud => "suspected_fraud",
            Self::LimitExceeded => "limit_exceeded",
            Self::ProviderRefused => "provider_refused",
            Self::Other => "other",
        }
    }
}

impl RetryAdvice {
    /// The word of the HTTP API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Later => "later",
            Self::NewMethod => "new_method",
        }
    }
}
