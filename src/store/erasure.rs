//! What an erasure is made of: the job, what it waits for, and what it deletes and keeps.

use cardless_contract::Timestamp;
use serde::{Deserialize, Serialize};

use super::AccountRow;

/// An erasure: a job while it is open, and then its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureRow {
    /// `era_…`.
    pub id: String,
    /// Keyed hash of the account's id: all that leads from the account to its receipt.
    pub subject: Vec<u8>,
    /// The account's pseudonym; gone once it is erased.
    pub account: Option<String>,
    /// What was deleted and kept, as JSON, once it is erased.
    pub report: Option<String>,
    /// How many payment methods of each provider a person has ended without its word, as JSON.
    pub unconfirmed: Option<String>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When everything was deleted here.
    pub erased_at: Option<Timestamp>,
    /// When to look.
    pub next_at: Option<Timestamp>,
    /// How often it was looked at.
    pub attempts: u32,
    /// Until when one worker has it.
    pub lease_until: Timestamp,
    /// Grows with each change.
    pub version: i64,
}

/// Something of an account that must come to its end first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockerRow {
    /// What it is.
    pub kind: BlockerKind,
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: String,
    /// When it is looked at next.
    pub next_at: Option<Timestamp>,
}

/// What holds up an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockerKind {
    /// A payment that is open, parked or held.
    Payment,
    /// A capture, void or refund that may still end.
    Operation,
    /// A setup that may still link a method.
    Setup,
    /// A method that its provider has not confirmed as revoked.
    Method,
}

/// How many rows an account has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountCounts {
    /// Payment methods.
    pub payment_methods: u64,
    /// Setups.
    pub setups: u64,
    /// Payments.
    pub payments: u64,
    /// Captures, voids and refunds.
    pub operations: u64,
    /// Ends of something parked.
    pub resolutions: u64,
    /// Events.
    pub events: u64,
    /// Callers' keys of its objects.
    pub idempotency_keys: u64,
}

/// Delete what is kept of an account, and give what the books keep to a substitute. A conflict if
/// anything of it is open, or if the counts do not hold.
#[derive(Debug, Clone)]
pub struct EraseAccount {
    /// The pseudonym.
    pub account: String,
    /// Whom its payments, operations and events belong to from then on.
    pub substitute: AccountRow,
    /// What is there.
    pub counts: AccountCounts,
}
