//! What vault and journal hand over to be kept, and what they get back. A store decides nothing:
//! it applies a batch of changes as one transaction or not at all, and answers questions.
//!
//! Every change of a row that others may change too carries the version that it was read at. A
//! batch whose version no longer holds is refused whole ([`StoreError::Conflict`]); whoever sent it
//! reads again and decides again. Ceilings and uniqueness are constraints of the schema, so no
//! order of two writers can break them.

mod audit;
mod erasure;
mod row;
mod sealed;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use cardless_contract::Timestamp;

pub use audit::{AuditChain, AuditEnd, AuditEntry, AuditFilter, AuditHeadRow, AuditRow, AuditText};
pub use erasure::{AccountCounts, BlockerKind, BlockerRow, EraseAccount, ErasureRow};
pub use row::{
    AccountRow, CaptureText, ClientKeyRow, ClientRow, DeadEventRow, DeliveryRow, EventRow,
    HeldTopicRow, InitiatorText, KeyRow, LastAnswerRow, MerchantRow, MethodRow, MethodState,
    OldApiKey, OldHandles, OperationRow, OperationState, OperationType, PaymentRow, PaymentState,
    RecordRow, ResolutionRow, RotationKind, RotationRow, SetupRow, SetupState, Step, TokenRow,
    WebhookRow,
};
pub use sealed::{
    GenerationRow, GenerationState, ResealedRow, SealedColumn, SealedRow, SealedText,
};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteStore, Threads};

/// The database engine that is linked into this build, and its version.
pub fn engine() -> Option<(&'static str, &'static str)> {
    #[cfg(feature = "sqlite")]
    return Some(("sqlite", sqlite::engine_version()));
    #[cfg(not(feature = "sqlite"))]
    None
}

/// The result of asking a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Why a store did not do it. Nothing of the batch was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A row changed since it was read, or a row with that key exists.
    #[error("{0} changed meanwhile, or exists")]
    Conflict(Subject),
    /// A constraint of the schema holds the change back (a ceiling).
    #[error("a limit of the schema holds the change back")]
    Limit,
    /// The database does not answer, is full, or is locked for too long.
    #[error("the database failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row can't be read: the database was written by something else, or is damaged.
    #[error("a row of {0} can't be read")]
    Unreadable(&'static str),
}

/// What a conflict is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The caller's idempotency key.
    Key,
    /// The account's open payment under a reference.
    OpenReference,
    /// A payment.
    Payment,
    /// An operation.
    Operation,
    /// A setup.
    Setup,
    /// A payment method.
    Method,
    /// A webhook that came before.
    Webhook,
    /// A client of the service.
    Client,
    /// An account.
    Account,
    /// How far the events are delivered.
    Delivery,
    /// A rotation.
    Rotation,
    /// The audit log.
    Audit,
    /// The generation of the keys: it is not the active one any more, may not be used so often, or
    /// is still needed.
    Generation,
    /// An erasure.
    Erasure,
    /// A jump of the clock.
    Clock,
    /// A client's public key.
    ClientKey,
    /// A sealed message that came before.
    ExchangeMessage,
    /// The merchant at which everything of a provider is, or the way to work there.
    Merchant,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "the idempotency key",
            Self::Clock => "the jump of the clock",
            Self::OpenReference => "an open payment under the reference",
            Self::Payment => "the payment",
            Self::Operation => "the operation",
            Self::Setup => "the setup",
            Self::Method => "the payment method",
            Self::Webhook => "the webhook",
            Self::Client => "the client",
            Self::Account => "the account",
            Self::Delivery => "the delivery of events",
            Self::Rotation => "the rotation",
            Self::Audit => "the audit log",
            Self::Generation => "the key generation",
            Self::Erasure => "the erasure",
            Self::ClientKey => "the client's key",
            Self::ExchangeMessage => "the sealed message",
            Self::Merchant => "the merchant of a provider",
        })
    }
}

/// What the machine's clock showed, and how far that may be from the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSeen {
    /// What it showed.
    pub at: Timestamp,
    /// By how much it may have been ahead: for as long as nobody had looked before, if that was long. Zero
    /// once [`Change::HoldProofs`] was done since.
    pub may_be_ahead: Duration,
}

/// One change. A batch of them is applied in order, whole or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// A new account; does nothing if it exists. A conflict unless its generation is active.
    EnsureAccount(AccountRow),
    /// A new sealed record. A conflict unless its generation is active.
    InsertRecord(RecordRow),
    /// Forget a sealed record.
    DeleteRecord(String),
    /// A new payment method.
    InsertMethod(MethodRow),
    /// A changed one, if its version still holds.
    UpdateMethod(MethodRow),
    /// Give a method that is not revoked another handle; the one before it names it until
    /// `ends_at`. A conflict if its handle is not `old` any more.
    ReissueHandle {
        /// The method's id.
        method: String,
        /// The handle to replace.
        old: String,
        /// Its successor.
        new: String,
        /// Until when the old one is good.
        ends_at: Timestamp,
    },
    /// Make this the account's default if it has none.
    DefaultIfNone {
        /// The account's pseudonym.
        account: String,
        /// The method.
        method: String,
    },
    /// Make this the account's only default; a method of another account is a conflict.
    SetDefault {
        /// The account's pseudonym.
        account: String,
        /// The method.
        method: String,
    },
    /// A new setup.
    InsertSetup(SetupRow),
    /// A changed one, if its version still holds, and if the generation of a new seal is active.
    UpdateSetup(SetupRow),
    /// Take back a setup that was never begun at the provider, and its key.
    DeleteSetup(String),
    /// A new payment.
    InsertPayment(PaymentRow),
    /// A changed one, if its version still holds, and if the generation of a new seal is active.
    UpdatePayment(PaymentRow),
    /// Take back a payment that was never begun at the provider, and its key.
    DeletePayment(String),
    /// Look at a payment soon, whatever its state. Does nothing if there is none.
    WakePayment {
        /// The payment.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// Look at a setup soon. Does nothing if there is none.
    WakeSetup {
        /// The setup.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// Look at an open operation soon. Does nothing if there is none.
    WakeOperation {
        /// The operation.
        id: String,
        /// When.
        at: Timestamp,
    },
    /// A new capture, void or refund.
    InsertOperation(OperationRow),
    /// A changed one, if its version still holds.
    UpdateOperation(OperationRow),
    /// A caller's key, for the object that it made.
    InsertKey(KeyRow),
    /// The first final answer of the key that made this object; later ones do nothing.
    FinishKey {
        /// The payment, operation or setup.
        object: String,
        /// The answer, without the account.
        answer: String,
    },
    /// Reckon with a jump of the machine's clock, once: a conflict ([`Subject::Clock`]) if that was done.
    /// What it shows after it is remembered.
    StepClock {
        /// The clock after it.
        at: Timestamp,
        /// How far it went ahead of the time, in milliseconds; negative for back.
        millis: i64,
        /// After one back, what is open was first sent at this at the latest.
        sent_by: Timestamp,
        /// And accepted at this at the latest.
        accepted_by: Timestamp,
        /// Only a step after this one ([`Store::latest_step`]) can be the same.
        known: i64,
    },
    /// Take what is open for sent at this, if it was sent before: no answer proves before the longest
    /// delay has passed that it never arrived. Then nothing is judged by a clock that may have been ahead
    /// before.
    HoldProofs(Timestamp),
    /// Remember what the machine's clock shows.
    SeeClock {
        /// What it shows now.
        seen: ClockSeen,
        /// What was seen before, when it was reckoned how far it may be ahead.
        since: Option<ClockSeen>,
    },
    /// Let nothing wait for longer than it can have to: what was put off by a clock that was ahead
    /// would stand still until then.
    LimitWaits {
        /// No worker has anything beyond this; `None` if one may be at it.
        leases_by: Option<Timestamp>,
        /// What is open, and each revocation, is looked at by then.
        open_by: Timestamp,
        /// No customer has time at a setup's page beyond this.
        customers_by: Timestamp,
        /// What has ended too, unless its provider has said until when it holds.
        ended_by: Timestamp,
        /// An event is sent again by then.
        events_by: Timestamp,
    },
    /// Forget callers' keys, webhooks and events from before, and handles and API keys that have ended.
    Forget {
        /// Keys that were first used, and answers that were heard, before this.
        keys_before: Timestamp,
        /// Webhooks that came before this.
        webhooks_before: Timestamp,
        /// Old handles and old API keys whose time ended by then.
        ended_by: Timestamp,
        /// Events that were written before this, unless they are dead or held.
        events_before: Timestamp,
        /// Whether that means those too whose delivery has not begun: nobody is to get them.
        undelivered: bool,
        /// How many of each at most, so that the writer is never long at it.
        limit: u32,
    },
    /// An event for the outbox.
    InsertEvent(EventRow),
    /// How far the events are delivered, if its version still holds.
    UpdateDelivery(DeliveryRow),
    /// The event of a topic that is sent next, and when.
    HoldTopic(HeldTopicRow),
    /// A topic is no longer behind; does nothing if it is not held.
    ReleaseTopic(String),
    /// An event that was given up.
    InsertDeadEvent(DeadEventRow),
    /// A conflict unless the account is there and not restricted.
    RequireUnrestricted {
        /// The account's pseudonym.
        account: String,
    },
    /// A conflict unless the method is there and can be charged.
    RequireActive {
        /// The method's id.
        method: String,
    },
    /// Whether an account may not be charged. One that is being erased stays restricted.
    SetRestricted {
        /// The account's pseudonym.
        account: String,
        /// Whether it may not.
        restricted: bool,
    },
    /// None of the account's methods can be charged from now on; their providers are to be told.
    RevokeMethods {
        /// The account's pseudonym.
        account: String,
        /// From when.
        at: Timestamp,
    },
    /// A new erasure; a conflict if the account has an open one.
    InsertErasure(ErasureRow),
    /// A changed one, if its version still holds.
    UpdateErasure(ErasureRow),
    /// Delete what is kept of an account.
    EraseAccount(EraseAccount),
    /// A line for the audit log, at the end that this transaction finds.
    AppendAudit(AuditEntry),
    /// A person has dealt with an event that was given up; one that was not is a conflict.
    DeleteDeadEvent(i64),
    /// How the last question about something ended; it replaces the one before.
    KeepAnswer(LastAnswerRow),
    /// How something parked was ended, and who said so.
    InsertResolution(ResolutionRow),
    /// A verified webhook; one that came before is a conflict.
    InsertWebhook(WebhookRow),
    /// At which merchant of a provider everything is from now on, and how it is worked with. A
    /// conflict if that is another than before while anything is open there
    /// ([`Store::count_open_at`]).
    SetMerchant(MerchantRow),
    /// A conflict if everything of a provider is at another merchant, or is worked with in another
    /// way. Nothing if nobody has said yet where it is.
    RequireMerchant {
        /// The provider.
        provider: String,
        /// The merchant there.
        merchant: String,
        /// How it is worked with.
        mode: String,
    },
    /// A new client of the service.
    InsertClient(ClientRow),
    /// A client is no longer let in.
    RevokeClient {
        /// Its name.
        name: String,
        /// When.
        at: Timestamp,
    },
    /// Another API key for a client; a conflict if it has changed since it was read, is revoked, or
    /// its old key is still good and is to stay so.
    RenewClient {
        /// The client as it was read: its key becomes the old one.
        client: ClientRow,
        /// Keyed hash of the new key.
        key_hash: Vec<u8>,
        /// When.
        at: Timestamp,
        /// Until when the old key is good; if that is `at`, every old one ends.
        old_ends_at: Timestamp,
    },
    /// A new rotation; a conflict if one of its kind is open.
    InsertRotation(RotationRow),
    /// A changed one, if its version still holds.
    UpdateRotation(RotationRow),
    /// The generations of a key ring that the store does not know.
    AdoptGenerations(Vec<GenerationRow>),
    /// Uses of a generation, before it is used. A conflict unless it is active and stays within
    /// the limit.
    ReserveUses {
        /// The generation.
        generation: String,
        /// How many.
        uses: u64,
        /// How many in all.
        limit: u64,
    },
    /// A new generation that seals from now on; the one before it retires. A conflict if another than
    /// that one is active.
    ActivateGeneration {
        /// The new one.
        row: GenerationRow,
        /// The one before it.
        retires: String,
        /// When.
        at: Timestamp,
    },
    /// What a sweep has sealed anew. A conflict unless the new generation is active; rows that are
    /// gone, or not under the old one any more, are left as they are.
    Reseal {
        /// Where.
        column: SealedColumn,
        /// The old generation.
        from: String,
        /// The new one.
        to: String,
        /// The rows.
        rows: Vec<ResealedRow>,
    },
    /// A record sealed under a generation, by which its end can be proven; one that stands there is
    /// replaced. It counts as a use.
    KeepSample {
        /// The generation.
        generation: String,
        /// The record.
        sample: Vec<u8>,
    },
    /// A retiring generation may go from the keys. A conflict if anything is still sealed under it.
    MarkDestroyed(String),
    /// A generation so marked is gone from the keys.
    SetDestroyed {
        /// The generation.
        generation: String,
        /// When.
        at: Timestamp,
        /// Whether its sample was tried, and did not open.
        tried: bool,
    },
    /// A new public key of a client; its name or the key itself standing already is a conflict.
    InsertClientKey(ClientKeyRow),
    /// A client's public key no longer counts.
    RevokeClientKey {
        /// The client.
        client: String,
        /// The key's name.
        kid: String,
        /// When.
        at: Timestamp,
    },
    /// A new generation of the service's own exchange keys. Does nothing if one was made after
    /// `unless_after` and by `unless_by`: two processes may find at once that one is due.
    InsertExchangeGeneration {
        /// Its id.
        id: String,
        /// When.
        created_at: Timestamp,
        /// See above.
        unless_after: Timestamp,
        /// See above: a later one was made by a clock that was ahead.
        unless_by: Timestamp,
    },
    /// A sealed message was taken; one that came before is a conflict. Some that have lapsed are
    /// forgotten.
    InsertExchangeMessage {
        /// The client.
        client: String,
        /// Keyed hash of its `jti`.
        jti: Vec<u8>,
        /// From when it may be forgotten.
        forget_at: Timestamp,
        /// Now.
        now: Timestamp,
    },
}

/// How a listing of payments goes on.
#[derive(Debug, Clone)]
pub struct PaymentFilter {
    /// Of this account; of all if absent.
    pub account: Option<String>,
    /// In this state. A payment with a parked operation counts as parked too.
    pub state: Option<PaymentState>,
    /// Under this reference.
    pub reference: Option<String>,
    /// Older than this payment: its time and id.
    pub before: Option<(Timestamp, String)>,
    /// How many at most.
    pub limit: u32,
}

/// Where everything is kept. See the module's docs.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Applies a batch as one durable transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing of the batch is kept then.
    async fn apply(&self, batch: Vec<Change>) -> Result<()>;

    /// An account by its pseudonym.
    async fn account(&self, account: &str) -> Result<Option<AccountRow>>;

    /// A sealed record.
    async fn record(&self, id: &str) -> Result<Option<RecordRow>>;

    /// A payment method by its id.
    async fn method(&self, id: &str) -> Result<Option<MethodRow>>;

    /// The payment method that a handle names at a time: its own, or an old one that has not ended.
    async fn method_by_handle(&self, handle: &str, at: Timestamp) -> Result<Option<MethodRow>>;

    /// Methods that are not revoked, linked by a time, by id and after `after`.
    async fn methods_linked_by(
        &self,
        linked_by: Timestamp,
        after: &str,
        limit: u32,
    ) -> Result<Vec<MethodRow>>;

    /// Methods that have a record, with it and with their account, by the method's id and after
    /// `after`.
    async fn tokens(&self, after: &str, limit: u32) -> Result<Vec<TokenRow>>;

    /// How many methods are not revoked.
    async fn count_methods(&self) -> Result<u64>;

    /// When the latest method was linked, by the clock of that time; `None` if there is none.
    async fn latest_linked(&self) -> Result<Option<Timestamp>>;

    /// The old handles that are still good at a time.
    async fn old_handles(&self, at: Timestamp) -> Result<OldHandles>;

    /// An account's methods, oldest first; at most [`MAX_METHODS`], the default always among
    /// them, then those that can be charged.
    async fn methods(&self, account: &str) -> Result<Vec<MethodRow>>;

    /// A setup.
    async fn setup(&self, id: &str) -> Result<Option<SetupRow>>;

    /// The setup that a provider calls so.
    async fn setup_by_reference(&self, provider: &str, reference: &str)
    -> Result<Option<SetupRow>>;

    /// A payment.
    async fn payment(&self, id: &str) -> Result<Option<PaymentRow>>;

    /// The payment whose object at the provider this is.
    async fn payment_by_reservation(
        &self,
        provider: &str,
        reservation: &str,
    ) -> Result<Option<PaymentRow>>;

    /// The payment that has this authorization, capture or refund at the provider; with a kind only
    /// what that kind's operations have made.
    async fn payment_by_object(
        &self,
        provider: &str,
        object: &str,
        kind: Option<OperationType>,
    ) -> Result<Option<PaymentRow>>;

    /// Payments, newest first.
    async fn payments(&self, filter: &PaymentFilter) -> Result<Vec<PaymentRow>>;

    /// Payments that have an object at their provider, by id and after `after`.
    async fn payments_with_reservation(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<PaymentRow>>;

    /// How many payments have no object at their provider, by state and failure.
    async fn count_without_reservation(&self) -> Result<Vec<(PaymentState, Option<String>, u64)>>;

    /// How many payments and how many operations are parked, for metrics.
    async fn count_parked(&self) -> Result<(u64, u64)>;

    /// How what was parked of a payment was ended, oldest first.
    async fn resolutions(&self, payment: &str) -> Result<Vec<ResolutionRow>>;

    /// How many payments an account has, and how many of them are open.
    async fn count_payments(&self, account: &str) -> Result<(u64, u64)>;

    /// A capture, void or refund.
    async fn operation(&self, id: &str) -> Result<Option<OperationRow>>;

    /// A payment's operations, oldest first.
    async fn operations(&self, payment: &str) -> Result<Vec<OperationRow>>;

    /// A caller's key.
    async fn key(&self, client: &str, key: &[u8]) -> Result<Option<KeyRow>>;

    /// Whether a webhook with this event came before.
    async fn has_webhook(&self, provider: &str, event: &str) -> Result<bool>;

    /// Payments, operations, setups, revocations and erasures to look at: due by `now`, leased by nobody, and
    /// not at the providers `without`; with any of these, no erasure. Of each provider, and of erasures, at
    /// most `limit`; those that wait longest first.
    async fn due(&self, now: Timestamp, without: &[String], limit: u32) -> Result<Vec<DueRow>>;

    /// Everything open, due or not, oldest first and after `after`: for `reconcile`.
    async fn open(&self, after: Option<&str>, limit: u32) -> Result<Vec<Due>>;

    /// At which merchant of a provider everything is that is kept; `None` if nobody has said so yet.
    async fn merchant(&self, provider: &str) -> Result<Option<MerchantRow>>;

    /// How many payments, operations and setups are open or parked at a provider, and how many
    /// tokens of this merchant's are being revoked there: a token's record says whose it is.
    async fn count_open_at(&self, provider: &str, merchant: &str) -> Result<u64>;

    /// When the latest request of what is open was marked as sent; `None` if nothing is.
    async fn latest_sent(&self) -> Result<Option<Timestamp>>;

    /// What the machine's clock showed when it was last looked at ([`Change::SeeClock`]).
    async fn clock_seen(&self) -> Result<Option<ClockSeen>>;

    /// The number of the latest step of the clock that was reckoned with; 0 if there is none.
    async fn latest_step(&self) -> Result<i64>;

    /// How far the clock has jumped ahead in all, after `since` and until `until`.
    async fn stepped_ahead(&self, since: Timestamp, until: Timestamp) -> Result<Duration>;

    /// How many payments stand in each state, for metrics.
    async fn count_states(&self) -> Result<Vec<(PaymentState, u64)>>;

    /// Clients of the service, by name.
    async fn clients(&self) -> Result<Vec<ClientRow>>;

    /// The client that has an API key with this hash at a time, revoked ones too.
    async fn client_by_hash(&self, hash: &[u8], at: Timestamp) -> Result<Option<ClientRow>>;

    /// The client that has this public key, and all its keys, the newest first, revoked ones too.
    async fn client_with_key(&self, kid: &str) -> Result<Option<(ClientRow, Vec<ClientKeyRow>)>>;

    /// The public keys of all clients, revoked ones too.
    async fn client_keys(&self) -> Result<Vec<ClientKeyRow>>;

    /// The generations of the service's exchange keys, the one that was made last first: id and time.
    async fn exchange_generations(&self, limit: u32) -> Result<Vec<(String, Timestamp)>>;

    /// An event by its id, with its sequence number.
    async fn event(&self, id: &str) -> Result<Option<(i64, EventRow)>>;

    /// Events after a sequence number, oldest first. None with a lower number is written after one
    /// that was read, so whoever goes on from the last one misses nothing.
    async fn events(&self, after: i64, limit: u32) -> Result<Vec<(i64, EventRow)>>;

    /// How far the events are delivered.
    async fn delivery(&self) -> Result<DeliveryRow>;

    /// The topics whose delivery is behind.
    async fn held_topics(&self) -> Result<Vec<HeldTopicRow>>;

    /// The first event after a sequence number whose topic is not held.
    async fn next_event(&self, after: i64) -> Result<Option<(i64, EventRow)>>;

    /// The sequence number of a topic's first event after one number and up to another.
    async fn next_of_topic(&self, topic: &str, after: i64, until: i64) -> Result<Option<i64>>;

    /// How the last question about an object ended, if one was left open by it.
    async fn last_answer(&self, object: &str) -> Result<Option<LastAnswerRow>>;

    /// Events that were given up, the latest first.
    async fn dead_events(&self, limit: u32) -> Result<Vec<(DeadEventRow, EventRow)>>;

    /// How many events wait to be delivered, and how many were given up, for metrics.
    async fn count_undelivered(&self) -> Result<(u64, u64)>;

    /// Rotations: those that are open, then the latest of the others; `limit` of them at most.
    async fn rotations(&self, limit: u32) -> Result<Vec<RotationRow>>;

    /// An erasure by its id.
    async fn erasure(&self, id: &str) -> Result<Option<ErasureRow>>;

    /// The erasures of whoever this keyed hash is of, oldest first.
    async fn erasures(&self, subject: &[u8]) -> Result<Vec<ErasureRow>>;

    /// What of an account must come to its end before it can be erased.
    async fn blockers(&self, account: &str, limit: u32) -> Result<Vec<BlockerRow>>;

    /// How many rows an account has.
    async fn account_counts(&self, account: &str) -> Result<AccountCounts>;

    /// How many of an account's methods each provider has confirmed as revoked.
    async fn revoked_by_provider(&self, account: &str) -> Result<Vec<(String, u64)>>;

    /// An account's setups, by id and after `after`.
    async fn setups(&self, account: &str, after: &str, limit: u32) -> Result<Vec<SetupRow>>;

    /// An account's events after a sequence number, oldest first.
    async fn events_of(
        &self,
        account: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<(i64, EventRow)>>;

    /// Leaves nothing of what was deleted in the store's files. False if somebody reads an older
    /// state at present: then it is to be asked again.
    async fn scrub(&self) -> Result<bool>;

    /// Where the audit log ends; `None` before its first line.
    async fn audit_head(&self) -> Result<Option<AuditHeadRow>>;

    /// Lines of the audit log with a higher number than this, lowest first.
    async fn audit_after(&self, after: i64, limit: u32) -> Result<Vec<AuditRow>>;

    /// Lines of the audit log, the latest first.
    async fn audit_before(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>>;

    /// The key generations, the active one first, then the latest.
    async fn generations(&self) -> Result<Vec<GenerationRow>>;

    /// What a generation has sealed in a column, in the store's own order and after `after`.
    async fn sealed(
        &self,
        column: SealedColumn,
        generation: &str,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SealedRow>>;

    /// How much of each column is sealed under each generation.
    async fn count_sealed(&self) -> Result<Vec<(SealedColumn, String, u64)>>;

    /// The columns of the schema as it is, also those that no version of this program has made.
    async fn columns(&self) -> Result<Vec<StoredColumn>>;

    /// Every column of the tables that the database keeps for itself: its schema, its counters.
    async fn own_columns(&self) -> Result<Vec<StoredColumn>>;

    /// What stands in a column, in the store's own order and after `after`; `i64::MIN` is before the
    /// first.
    async fn values(
        &self,
        column: &StoredColumn,
        after: i64,
        limit: u32,
    ) -> Result<Vec<StoredValue>>;
}

/// A column of the live schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredColumn {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
}

/// A value of a column, whatever it is; a number as its digits, one with a fraction also without it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// Where it stands in the store's own order.
    pub place: i64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for StoredValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredValue")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// How many methods an account can have.
pub const MAX_METHODS: u32 = 100;

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// What.
    pub due: Due,
    /// The provider that is to be asked; none for an erasure, which asks each.
    pub provider: Option<String>,
}

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// A payment, by id.
    Payment(String),
    /// An operation, by id.
    Operation(String),
    /// A setup, by id.
    Setup(String),
    /// A method whose revocation is open, by id.
    Revocation(String),
    /// An erasure, by id.
    Erasure(String),
}

impl Due {
    /// The object's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Payment(id)
            | Self::Operation(id)
            | Self::Setup(id)
            | Self::Revocation(id)
            | Self::Erasure(id) => id,
        }
    }
}
