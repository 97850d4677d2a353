use cardless_contract::{Money, Timestamp};
use serde::Serialize;

/// Every money movement that really took place, in order.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
}

/// One movement, as `GET /ledger` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// At which provider.
    pub provider: &'static str,
    /// What kind.
    pub kind: EntryKind,
    /// How much.
    pub amount: Money,
    /// The provider's payment object: PayPal order, PostFinance or Datatrans transaction.
    pub object: String,
    /// When, by the sandbox's clock.
    pub at: Timestamp,
}

/// What kind of movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum EntryKind {
    Authorize,
    Capture,
    Void,
    Refund,
}

impl Ledger {
    /// Adds a movement.
    pub fn record(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// All movements so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
