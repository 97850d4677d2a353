//! What a person may ask of whoever keeps data about them.

use cardless_contract::{ProviderName, Timestamp};
use serde::{Deserialize, Serialize};

/// Whether an account may be charged: `PUT /v1/accounts/{account}/restriction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestrictionUpdate {
    /// Whether it may not.
    pub restricted: bool,
}

/// An account's restriction as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restriction {
    /// The caller's own id.
    pub account: String,
    /// Whether it may not be charged.
    pub restricted: bool,
}

/// Ask for an erasure: `POST /v1/accounts/{account}/erasure`. There is nothing to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureRequest {}

/// An erasure: how far it is, and once it is done the receipt. It names no account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erasure {
    /// `era_…`.
    pub id: String,
    /// How far it is.
    pub status: ErasureStatus,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When everything was deleted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
    /// What must come to its end first; at most 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<WaitingFor>,
    /// How many payment methods each provider has confirmed as revoked.
    pub revoked: Vec<RevokedThere>,
    /// How many of each provider a person has ended without its word: there they may be alive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<RevokedThere>,
    /// What was deleted here, once it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Deleted>,
    /// What is kept for the books, under a random name and without the caller's texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureStatus {
    /// The account can't be charged; something of it must come to its end first.
    Open,
    /// It is done.
    Erased,
}

/// Something that holds up an erasure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingFor {
    /// `payment`, `operation`, `setup` or `payment_method`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// How it stands. A payment that is `authorized` is to be voided or lapses; one that is
    /// `parked` waits for a person; a method that is `revoking` for its provider.
    pub status: String,
    /// When it is looked at next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_look_at: Option<Timestamp>,
}

/// What a provider has confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokedThere {
    /// The provider.
    pub provider: ProviderName,
    /// How many payment methods.
    pub payment_methods: u64,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// The account's id.
    pub accounts: u64,
    /// Payment methods, with their tokens.
    pub payment_methods: u64,
    /// Setups.
    pub setups: u64,
    /// Texts of this many payments: `reference`, `description`, `return_url`.
    pub texts_of_payments: u64,
    /// Notes of persons who have ended something parked.
    pub notes: u64,
    /// Stored answers of this many idempotency keys; a repeat under one of them is refused.
    pub answers_of_idempotency_keys: u64,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Payments: amounts, states, times, and the provider's ids.
    pub payments: u64,
    /// Captures, voids and refunds.
    pub operations: u64,
    /// Events, which name our handles only.
    pub events: u64,
}
