//! What was asked for, and what really took place.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{Failure, Outcome};

/// How many movements of each provider, kind and amount (in minor units) there are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Books(BTreeMap<(String, String, i64), u32>);

impl Books {
    /// One more movement.
    pub(super) fn add(&mut self, provider: &str, kind: &str, minor: i64) {
        let count = self
            .0
            .entry((provider.to_owned(), kind.to_owned(), minor))
            .or_default();
        *count = count.saturating_add(1);
    }

    /// How many movements there are.
    pub(super) fn len(&self) -> u32 {
        self.0.values().sum()
    }

    /// What the sandbox's ledger shows. Holds are left out: each is captured or voided.
    pub(super) fn of_ledger(ledger: &Value) -> Result<Self, Failure> {
        let unreadable = || Failure::Failed("the sandbox's ledger can't be read".to_owned());
        let entries = ledger
            .get("data")
            .and_then(Value::as_array)
            .ok_or_else(unreadable)?;
        let mut books = Self::default();
        for entry in entries {
            let text = |name: &str| entry.get(name).and_then(Value::as_str);
            let minor = entry.pointer("/amount/minor").and_then(Value::as_i64);
            let (Some(provider), Some(kind), Some(minor)) = (text("provider"), text("kind"), minor)
            else {
                return Err(unreadable());
            };
            if kind != "authorize" {
                books.add(provider, kind, minor);
            }
        }
        Ok(books)
    }

    /// Fails unless both are the same, movement for movement.
    pub(super) fn compare(&self, wanted: &Self) -> Outcome {
        for (movement, count) in self.0.iter().chain(&wanted.0) {
            let found = self.0.get(movement).copied().unwrap_or_default();
            let asked = wanted.0.get(movement).copied().unwrap_or_default();
            if found != asked {
                let (provider, kind, minor) = movement;
                return Err(Failure::Failed(format!(
                    "the ledger has {found} of {kind} {minor} at {provider}, and {asked} were \
                     asked for (of those seen: {count})"
                )));
            }
        }
        Ok(())
    }
}
