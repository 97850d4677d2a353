//! Rows as they are kept. No row has room for a card number, an expiry or a security code; what
//! is sealed is bytes.

use cardless_contract::{Currency, Money, Timestamp};

use super::sealed::SealedText;

/// A word that is kept as text: closed, so that a row with another word is unreadable, never
/// guessed.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The word in the row.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

pub(super) use words;

words!(
    /// Where a payment stands, in the API's words.
    PaymentState {
        /// The customer must act.
        ActionRequired = "action_required",
        /// The provider is still working.
        Pending = "pending",
        /// We do not know yet.
        Unknown = "unknown",
        /// Held.
        Authorized = "authorized",
        /// Taken.
        Captured = "captured",
        /// Refused.
        Declined = "declined",
        /// No money moved and none will.
        Failed = "failed",
        /// Released or lapsed.
        Voided = "voided",
        /// A person must look.
        Parked = "parked",
    }
);

words!(
    /// What the journal does next with a payment. `DESIGN`: reserve, remember, commit.
    Step {
        /// It waits for the setup that links its method.
        Linking = "linking",
        /// The reserve is on its way, or its outcome is unknown.
        Reserving = "reserving",
        /// The provider's object is known; no commit was sent in this round.
        Reserved = "reserved",
        /// A commit was sent and its outcome is unknown.
        Committing = "committing",
        /// The provider or the customer is at work; ask.
        Waiting = "waiting",
        /// Closed against further commits; find out, release, and end.
        Closing = "closing",
        /// Concluded; reading may still find what happened elsewhere.
        Settled = "settled",
    }
);

words!(
    /// How far an operation is, in the API's words.
    OperationState {
        /// The provider is still working.
        Pending = "pending",
        /// We do not know yet.
        Unknown = "unknown",
        /// Done.
        Succeeded = "succeeded",
        /// It did not happen and will not.
        Failed = "failed",
        /// A person must look.
        Parked = "parked",
    }
);

words!(
    /// What an operation does.
    OperationType {
        /// Takes.
        Capture = "capture",
        /// Releases.
        Void = "void",
        /// Gives back.
        Refund = "refund",
    }
);

words!(
    /// When a payment is taken.
    CaptureText {
        /// With the commit.
        Automatic = "automatic",
        /// By a later capture.
        Manual = "manual",
    }
);

words!(
    /// Who starts a payment.
    InitiatorText {
        /// The merchant.
        Merchant = "merchant",
        /// The customer.
        Customer = "customer",
    }
);

words!(
    /// How far a setup is. `Beginning` shows as `unknown` if it lasts.
    SetupState {
        /// The begin is on its way, or its outcome is unknown.
        Beginning = "beginning",
        /// The customer is on the way.
        AwaitingCustomer = "awaiting_customer",
        /// Linked.
        Completed = "completed",
        /// The customer or the provider said no.
        Declined = "declined",
        /// Too late.
        Expired = "expired",
        /// Paid, but the provider gave no token.
        PaidNotLinked = "paid_not_linked",
    }
);

words!(
    /// Whether a method can be charged.
    MethodState {
        /// Yes.
        Active = "active",
        /// The provider said that the token is unusable.
        Suspended = "suspended",
        /// Revoked here; the provider has not confirmed yet.
        Revoking = "revoking",
        /// Revoked here and there; the token is forgotten.
        Revoked = "revoked",
    }
);

words!(
    /// What a rotation replaces.
    RotationKind {
        /// The key generations: every record is sealed anew.
        Keys = "keys",
        /// The handles of payment methods: each gets another.
        Handles = "handles",
    }
);

/// An account: its pseudonym, and its id, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// The pseudonym.
    pub account: String,
    /// The caller's id, sealed.
    pub sealed_id: Vec<u8>,
    /// The KEK generation that sealed it.
    pub generation: String,
    /// Whether it may not be charged.
    pub restricted: bool,
    /// When it was first seen.
    pub created_at: Timestamp,
}

/// A sealed record: a provider's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// The record's own id.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// The provider.
    pub provider: String,
    /// The merchant at the provider that the token belongs to.
    pub merchant: String,
    /// The KEK generation that sealed it.
    pub generation: String,
    /// The sealed bytes.
    pub sealed: Vec<u8>,
    /// When it was sealed.
    pub created_at: Timestamp,
}

/// A payment method: it points to a record, and its handle to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodRow {
    /// What the method is called here, for good: `pm_…`, as its first handle.
    pub id: String,
    /// What callers call it: `pm_…`. Changed by [`Change::ReissueHandle`](super::Change) only.
    pub handle: String,
    /// The account's pseudonym.
    pub account: String,
    /// The provider.
    pub provider: String,
    /// The sealed record; gone once revoked.
    pub record: Option<String>,
    /// Whether it can be charged.
    pub state: MethodState,
    /// Whether it is the account's default.
    pub default: bool,
    /// When it was linked.
    pub created_at: Timestamp,
    /// When a revocation is tried again.
    pub next_at: Option<Timestamp>,
    /// How often it was tried.
    pub attempts: u32,
    /// Grows with each change.
    pub version: i64,
}

/// A payment method with the record that it points to and the account that both belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The method.
    pub method: MethodRow,
    /// Its record.
    pub record: RecordRow,
    /// Their account.
    pub account: AccountRow,
}

/// A setup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupRow {
    /// `set_…`.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// The provider.
    pub provider: String,
    /// How far it is.
    pub state: SetupState,
    /// Where the customer goes on.
    pub return_url: String,
    /// The page's language.
    pub language: Option<String>,
    /// What the provider calls it.
    pub reference: Option<String>,
    /// The page's address, sealed.
    pub redirect: Option<SealedText>,
    /// `pay_…` of the first payment.
    pub payment: Option<String>,
    /// The method's id once completed.
    pub method: Option<String>,
    /// Why it was declined: category, retry, provider's code.
    pub decline: Option<(String, String, String)>,
    /// When it lapses.
    pub expires_at: Timestamp,
    /// When to look.
    pub next_at: Option<Timestamp>,
    /// How often it was looked at.
    pub attempts: u32,
    /// Until when one worker has it.
    pub lease_until: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// A payment: the intent and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRow {
    /// `pay_…`.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// The provider.
    pub provider: String,
    /// The method's id.
    pub method: Option<String>,
    /// The handle that it was asked for under, which may have been replaced since.
    pub handle: Option<String>,
    /// `set_…`, for a first payment.
    pub setup: Option<String>,
    /// The caller's reference.
    pub reference: String,
    /// What the customer reads.
    pub description: Option<String>,
    /// Where a customer who is present goes on.
    pub return_url: Option<String>,
    /// What was asked for.
    pub amount: Money,
    /// When it is taken.
    pub capture: CaptureText,
    /// Who started it.
    pub initiator: InitiatorText,
    /// Where it stands.
    pub state: PaymentState,
    /// What comes next.
    pub step: Step,
    /// The status that a closed payment ends with if nothing moved.
    pub closing_as: Option<PaymentState>,
    /// The provider's object.
    pub reservation: Option<String>,
    /// Its authorization.
    pub authorization: Option<String>,
    /// The capture that the commit made.
    pub capture_object: Option<String>,
    /// How many commits the customer's approvals have opened.
    pub commit_round: u32,
    /// Minor units held.
    pub authorized: i64,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units that open captures may take.
    pub reserved_capture: i64,
    /// Minor units given back.
    pub refunded: i64,
    /// Minor units that open refunds may give back.
    pub reserved_refund: i64,
    /// Minor units that the provider took back.
    pub reversed: i64,
    /// Minor units that went back in all when an event last told that the books do not hold them.
    pub returned_told: i64,
    /// Keyed hash of the reserve's bytes, where a repeat must be byte-equal.
    pub body_mac: Option<Vec<u8>>,
    /// When the present step was first sent.
    pub first_sent_at: Option<Timestamp>,
    /// When it was last sent.
    pub last_sent_at: Option<Timestamp>,
    /// The page's address, sealed.
    pub redirect: Option<SealedText>,
    /// Why it was declined: category, retry, provider's code.
    pub decline: Option<(String, String, String)>,
    /// Why it failed.
    pub failure: Option<String>,
    /// Why it is voided, if not by a call.
    pub reason: Option<String>,
    /// When a hold lapses.
    pub expires_at: Option<Timestamp>,
    /// When to look.
    pub next_at: Option<Timestamp>,
    /// How often the present question was asked.
    pub attempts: u32,
    /// Until when one worker has it.
    pub lease_until: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When the present charge could begin: when it was asked for, when the method was linked, when
    /// the customer's page was there, or when the customer had approved. Reserve, commit and the
    /// customer are in time from here.
    pub accepted_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

impl PaymentRow {
    /// An amount in the payment's currency.
    pub fn money(&self, minor: i64) -> Money {
        let currency: Currency = self.amount.currency();
        Money::new(currency, minor).unwrap_or(Money::zero(currency))
    }

    /// Whether it holds its reference: nobody knows yet how it ends.
    pub const fn is_open(&self) -> bool {
        matches!(
            self.state,
            PaymentState::ActionRequired
                | PaymentState::Pending
                | PaymentState::Unknown
                | PaymentState::Parked
        )
    }
}

/// A capture, void or refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// `cap_…`, `void_…` or `ref_…`.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// `pay_…`.
    pub payment: String,
    /// The provider.
    pub provider: String,
    /// What it does.
    pub kind: OperationType,
    /// How much.
    pub amount: Money,
    /// A capture after which the rest is released.
    pub last: bool,
    /// How far it is.
    pub state: OperationState,
    /// The provider's id for it.
    pub object: Option<String>,
    /// The capture that a refund gives back from.
    pub capture_object: Option<String>,
    /// Minor units of its kind that were done when it was first sent.
    pub settled_before: i64,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it was first sent.
    pub first_sent_at: Timestamp,
    /// When it was last sent.
    pub last_sent_at: Timestamp,
    /// When to look.
    pub next_at: Option<Timestamp>,
    /// How often it was asked about.
    pub attempts: u32,
    /// Until when one worker has it.
    pub lease_until: Timestamp,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

impl OperationRow {
    /// Whether nobody knows yet how it ends.
    pub const fn is_open(&self) -> bool {
        matches!(
            self.state,
            OperationState::Pending | OperationState::Unknown
        )
    }

    /// Whether it may still end; what has ended never changes.
    pub const fn may_end(&self) -> bool {
        !matches!(
            self.state,
            OperationState::Succeeded | OperationState::Failed
        )
    }
}

/// A caller's idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The client.
    pub client: String,
    /// Keyed hash of the key.
    pub key: Vec<u8>,
    /// Keyed hash of what was asked.
    pub digest: Vec<u8>,
    /// The payment, operation or setup that it made.
    pub object: String,
    /// The first final answer, without the account.
    pub answer: Option<String>,
    /// Whether the account that it was used for was erased: nothing else is known of it then.
    pub erased: bool,
    /// When it was first used.
    pub created_at: Timestamp,
}

/// An event for the outbox; it names an object and holds no account id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// `evt_…`.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// As `payment.captured`.
    pub kind: String,
    /// The object.
    pub object: String,
    /// The handle that the object's replaces.
    pub replaces: Option<String>,
    /// What it is about: the payment for its captures, voids and refunds, else the object itself.
    pub topic: String,
    /// When.
    pub at: Timestamp,
}

/// How far the events are delivered to the billing service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// The sequence number up to which every event is acknowledged, dead, or held.
    pub delivered: i64,
    /// Until when one worker delivers.
    pub lease_until: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// A topic whose delivery is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTopicRow {
    /// The topic; the event's own id if a person has sent it again.
    pub topic: String,
    /// The sequence number of its event that is sent next; what follows in the topic waits.
    pub sequence: i64,
    /// How often that event was sent.
    pub attempts: u32,
    /// When it may be sent again.
    pub next_at: Timestamp,
}

/// At which merchant of a provider everything is that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MerchantRow {
    /// The provider's name.
    pub provider: String,
    /// The merchant there.
    pub merchant: String,
    /// In which way the provider is worked with; `None` if nobody has said so yet.
    pub mode: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

impl MerchantRow {
    /// Whether it is of this merchant and way to work; of any way if nobody has said which.
    pub(crate) fn fits(&self, merchant: &str, mode: Option<&str>) -> bool {
        self.merchant == merchant && (self.mode.is_none() || self.mode.as_deref() == mode)
    }
}

/// How the last question about something ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAnswerRow {
    /// The account's pseudonym.
    pub account: String,
    /// The payment, operation, setup or payment method.
    pub object: String,
    /// What was said, in a word of ours.
    pub said: String,
    /// The provider's code.
    pub code: Option<String>,
    /// The id for the provider's support.
    pub correlation: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// An event that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadEventRow {
    /// The event's sequence number.
    pub sequence: i64,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was given up.
    pub dead_at: Timestamp,
}

/// How something parked was ended: the audit of `payment resolve`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolutionRow {
    /// The account's pseudonym.
    pub account: String,
    /// `pay_…`.
    pub payment: String,
    /// What was parked: the payment, or one of its operations.
    pub object: String,
    /// How the person wanted it to end.
    pub wanted: String,
    /// The state that it ended in.
    pub ended: String,
    /// `provider` if the provider's answer has ended it, else `person`.
    pub decided_by: String,
    /// What the provider said when it was asked, in one word.
    pub provider_said: String,
    /// Who.
    pub person: String,
    /// Why, as the person writes it.
    pub note: String,
    /// When.
    pub at: Timestamp,
}

/// A verified webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookRow {
    /// The provider.
    pub provider: String,
    /// The provider's event id.
    pub event: String,
    /// When it came.
    pub received_at: Timestamp,
}

/// A client of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// Its name.
    pub name: String,
    /// `billing`, `operator` or `auditor`.
    pub role: String,
    /// Keyed hash of its API key; of nothing that anybody knows for a sealed client.
    pub key_hash: Vec<u8>,
    /// Since when it has that key.
    pub key_since: Timestamp,
    /// The key before, if its end has not been cleared away.
    pub old_key: Option<OldApiKey>,
    /// Whether it speaks by sealed messages only.
    pub sealed: bool,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// An API key that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldApiKey {
    /// Keyed hash of the key.
    pub key_hash: Vec<u8>,
    /// Since when the client has had it.
    pub since: Timestamp,
    /// Until when it is good.
    pub ends_at: Timestamp,
}

/// Old handles that still name their methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldHandles {
    /// How many.
    pub live: u64,
    /// When the last of them ends.
    pub until: Option<Timestamp>,
}

/// A rotation, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRow {
    /// `rot_…`.
    pub id: String,
    /// What it replaces.
    pub kind: RotationKind,
    /// What it was begun with, in the words of its kind.
    pub parameter: String,
    /// Where it goes on if it is interrupted, in the words of its kind; empty at the start.
    pub place: String,
    /// How many are done.
    pub done: u64,
    /// How many there were to do when it began.
    pub total: u64,
    /// Until when one worker has it, if it shows no other sign of life.
    pub lease_until: Timestamp,
    /// When it began.
    pub started_at: Timestamp,
    /// When it last got on.
    pub updated_at: Timestamp,
    /// When all of it was done.
    pub ended_at: Option<Timestamp>,
    /// Grows with each change.
    pub version: i64,
}

/// A client's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKeyRow {
    /// Its name, of which there is one only.
    pub kid: String,
    /// The client.
    pub client: String,
    /// SHA-256 of the key, by RFC 7638.
    pub thumbprint: String,
    /// `sig`, `enc` or `both`.
    pub usage: String,
    /// The point on the curve: 65 bytes.
    pub point: Vec<u8>,
    /// A MAC over all of the above and the client's role, so that nobody adds a key who can write to
    /// the store only.
    pub mac: Vec<u8>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}
