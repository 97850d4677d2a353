//! What is kept sealed, in one list, and the generations of the key that seals it.
//!
//! A new column that holds something sealed is added to [`SealedColumn`]: the sweep that seals it
//! anew, the count before a generation is destroyed and the scope report read that list. A test
//! fails if the schema has a column of bytes that is neither there nor known as a hash.

use cardless_contract::Timestamp;

use super::row::words;

words!(
    /// How a key generation stands.
    GenerationState {
        /// It seals.
        Active = "active",
        /// It only opens, until nothing needs it.
        Retiring = "retiring",
        /// It is gone from the keys, or about to go.
        Destroyed = "destroyed",
    }
);

words!(
    /// A column that holds something sealed.
    SealedColumn {
        /// A provider's token.
        Record = "records.sealed",
        /// The caller's id of an account.
        Account = "accounts.sealed_id",
        /// The address of a setup's page.
        SetupRedirect = "setups.redirect",
        /// The address of a payment's page.
        PaymentRedirect = "payments.redirect",
    }
);

impl SealedColumn {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Record,
        Self::Account,
        Self::SetupRedirect,
        Self::PaymentRedirect,
    ];
}

/// Something sealed, and the generation that sealed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedText {
    /// The KEK generation's id.
    pub generation: String,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

/// A generation of the key-encryption key. The key itself is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationRow {
    /// Its id, as the key file and every record name it.
    pub id: String,
    /// How it stands.
    pub state: GenerationState,
    /// How often it may have sealed: uses are reserved before they are used.
    pub uses: u64,
    /// When its key was made.
    pub created_at: Timestamp,
    /// When it stopped sealing.
    pub retired_at: Option<Timestamp>,
    /// When it was found to be gone from the keys.
    pub destroyed_at: Option<Timestamp>,
    /// Whether its sample was tried then, and did not open.
    pub tried: bool,
    /// A record that was sealed under it while its key was at hand, and that holds nothing secret: it
    /// must not open once the key is gone. It is never sealed anew.
    pub sample: Option<Vec<u8>>,
}

/// A sealed value, and what its context is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRow {
    /// Where it stands in the store's own order; of use to this store only.
    pub place: i64,
    /// The row's own id.
    pub id: String,
    /// The account's pseudonym.
    pub account: String,
    /// The provider; empty for an account's id.
    pub provider: String,
    /// The merchant at the provider; empty where there is none.
    pub merchant: String,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

/// A value that was sealed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResealedRow {
    /// Where it stands, as it was read.
    pub place: i64,
    /// The row's own id.
    pub id: String,
    /// The new bytes.
    pub bytes: Vec<u8>,
}
