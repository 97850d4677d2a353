//! Lines of the audit log as they are kept, and how one gets its place in the chain.
//!
//! A line's MAC depends on the line before it, which only the transaction that adds it can know. So
//! a change carries a function ([`AuditChain`]) that makes line and head from what the transaction
//! reads. The store holds no key and decides nothing: it calls the function and writes what comes
//! back.

use std::fmt;
use std::sync::Arc;

use cardless_contract::Timestamp;

/// What a line says. Words and handles only: no account id, no token, no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditText {
    /// When.
    pub at: Timestamp,
    /// Who, by name.
    pub actor: String,
    /// As what: a client's role, `command_line`, `program` or `system`.
    pub role: String,
    /// From where, as a class of places.
    pub origin: String,
    /// What.
    pub action: String,
    /// To what: a handle, a pseudonym or a name; empty if to nothing in particular.
    pub object: String,
    /// With what outcome.
    pub outcome: String,
    /// More, as a JSON object of short words.
    pub details: String,
}

/// A line in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number, from 1 and without gaps.
    pub sequence: i64,
    /// Whether the head was intact when the line was added.
    pub head_held: bool,
    /// What it says.
    pub said: AuditText,
    /// Over all of it and the MAC of the line before.
    pub mac: Vec<u8>,
}

/// Where the log ends: it changes with every line, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHeadRow {
    /// How many lines there are.
    pub count: i64,
    /// The MAC of the last one.
    pub last: Vec<u8>,
    /// Over both.
    pub mac: Vec<u8>,
}

/// The end of the log as a transaction finds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditEnd {
    /// The head; none before the first line.
    pub head: Option<AuditHeadRow>,
    /// Number and MAC of the line with the highest number.
    pub last: Option<(i64, Vec<u8>)>,
}

/// Makes a line's place. It must look at its arguments only.
pub trait AuditChain: fmt::Debug + Send + Sync + 'static {
    /// The line that says this after this end, and the head from then on.
    fn place(&self, end: &AuditEnd, said: &AuditText) -> (AuditRow, AuditHeadRow);
}

/// A line that gets its place when it is applied.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// What it says.
    pub said: AuditText,
    /// Gives it its place.
    pub chain: Arc<dyn AuditChain>,
}

/// How a listing of lines goes on.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Lines with a lower number; the latest if absent.
    pub before: Option<i64>,
    /// Of this action.
    pub action: Option<String>,
    /// About this object.
    pub object: Option<String>,
    /// How many at most.
    pub limit: u32,
}
