//! Every column of the store, and what it holds: one list, so that the report, the printout of what
//! a thief can read, and the documentation can't differ.

use std::fmt;

/// What a column holds, by what it is worth to somebody who reads the database and has no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Sealed under the key-encryption key: a token, an account's id, the address of a page.
    Sealed,
    /// Words of ours sealed under a key that retires, to show later that it opens nothing.
    Sample,
    /// A keyed hash: nothing can be tested against it without the key.
    KeyedHash,
    /// A MAC: it can't be made without the key.
    Mac,
    /// What an account is called here: a keyed hash of its id. Equal ones are one account.
    Pseudonym,
    /// A random id of ours.
    Handle,
    /// The provider's own id of something that is no token: a transaction, a setup, a merchant.
    ProviderId,
    /// A currency, or an amount in its smallest unit.
    Amount,
    /// When something was, or will be.
    Time,
    /// A word from a list of ours or of the provider's: a provider's name, a state, an error code.
    Word,
    /// How many, how often, how far; a place in an order; yes or no.
    Number,
    /// As a caller has written it.
    CallerText,
    /// The name of a client, or what a person wrote at the command line.
    PersonText,
    /// The first final answer to a request, without the account; with its `reference`.
    Answer,
    /// A public key, and what it is called.
    PublicKey,
}

/// A column of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its table.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub class: Class,
}

impl Class {
    /// All of them, the most valuable to a thief first.
    pub const ALL: [Self; 15] = [
        Self::CallerText,
        Self::PersonText,
        Self::Answer,
        Self::Amount,
        Self::Pseudonym,
        Self::Handle,
        Self::ProviderId,
        Self::Word,
        Self::Time,
        Self::Number,
        Self::PublicKey,
        Self::Sealed,
        Self::Sample,
        Self::KeyedHash,
        Self::Mac,
    ];

    /// Its name, as a report shows it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Sample => "samples of retired keys",
            Self::KeyedHash => "keyed hashes",
            Self::Mac => "MACs",
            Self::Pseudonym => "pseudonyms",
            Self::Handle => "our random ids",
            Self::ProviderId => "the providers' ids",
            Self::Amount => "amounts",
            Self::Time => "times",
            Self::Word => "words from a list",
            Self::Number => "numbers",
            Self::CallerText => "callers' texts",
            Self::PersonText => "names and notes",
            Self::Answer => "stored answers",
            Self::PublicKey => "public keys",
        }
    }

    /// Whether it stands there to be read. What does not, says nothing without a key.
    pub const fn is_plain(self) -> bool {
        !matches!(
            self,
            Self::Sealed | Self::Sample | Self::KeyedHash | Self::Mac
        )
    }

    /// Whether anything that its writer likes can stand in it, so that it must be looked through for
    /// card numbers.
    pub const fn is_free_text(self) -> bool {
        matches!(self, Self::CallerText | Self::PersonText | Self::Answer)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Every column, table by table.
pub fn all() -> impl Iterator<Item = Column> {
    TABLES.iter().flat_map(|(table, classes)| {
        classes.iter().flat_map(move |(class, names)| {
            names.iter().map(move |name| Column {
                table,
                name,
                class: *class,
            })
        })
    })
}

/// What a column holds; `None` for one that is not on the list.
pub fn class(table: &str, column: &str) -> Option<Class> {
    all()
        .find(|found| found.table == table && found.name == column)
        .map(|found| found.class)
}

type Classes = &'static [(Class, &'static [&'static str])];

const TABLES: &[(&str, Classes)] = &[
    (
        "accounts",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Sealed, &["sealed_id"]),
            (Class::Handle, &["generation"]),
            (Class::Number, &["restricted"]),
            (Class::Time, &["created_at"]),
        ],
    ),
    (
        "audit_head",
        &[
            (Class::Number, &["id", "count"]),
            (Class::Mac, &["last", "mac"]),
        ],
    ),
    (
        "audit_lines",
        &[
            (Class::Number, &["seq", "head_held"]),
            (Class::Time, &["at"]),
            (Class::PersonText, &["actor", "object", "details"]),
            (Class::Word, &["role", "origin", "action", "outcome"]),
            (Class::Mac, &["mac"]),
        ],
    ),
    (
        "client_keys",
        &[
            (Class::PersonText, &["client"]),
            (Class::PublicKey, &["kid", "thumbprint", "point"]),
            (Class::Mac, &["mac"]),
            (Class::Word, &["usage"]),
            (Class::Time, &["created_at", "revoked_at"]),
        ],
    ),
    (
        "clock_seen",
        &[(Class::Time, &["at"]), (Class::Number, &["may_be_ahead"])],
    ),
    (
        "clock_steps",
        &[(Class::Time, &["at"]), (Class::Number, &["millis"])],
    ),
    (
        "clients",
        &[
            (Class::PersonText, &["name"]),
            (Class::Word, &["role"]),
            (Class::KeyedHash, &["key_hash"]),
            (Class::Time, &["created_at", "revoked_at", "key_since"]),
            (Class::Number, &["sealed"]),
        ],
    ),
    (
        "dead_events",
        &[
            (Class::Number, &["seq", "attempts"]),
            (Class::Time, &["dead_at"]),
        ],
    ),
    (
        "erasures",
        &[
            (Class::Handle, &["id"]),
            (Class::KeyedHash, &["subject"]),
            (Class::Pseudonym, &["account"]),
            (
                Class::Number,
                &["report", "unconfirmed", "attempts", "version"],
            ),
            (
                Class::Time,
                &["requested_at", "erased_at", "next_at", "lease_until"],
            ),
        ],
    ),
    (
        "event_delivery",
        &[
            (Class::Number, &["id", "delivered", "version"]),
            (Class::Time, &["lease_until"]),
        ],
    ),
    (
        "events",
        &[
            (Class::Number, &["seq"]),
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["id", "object", "replaces", "topic"]),
            (Class::Word, &["kind"]),
            (Class::Time, &["at"]),
        ],
    ),
    (
        "exchange_generations",
        &[(Class::Handle, &["id"]), (Class::Time, &["created_at"])],
    ),
    (
        "exchange_messages",
        &[
            (Class::PersonText, &["client"]),
            (Class::KeyedHash, &["jti"]),
            (Class::Time, &["forget_at"]),
        ],
    ),
    (
        "generations",
        &[
            (Class::Handle, &["id"]),
            (Class::Word, &["state"]),
            (Class::Number, &["tried", "uses"]),
            (Class::Time, &["created_at", "retired_at", "destroyed_at"]),
            (Class::Sample, &["sample"]),
        ],
    ),
    (
        "held_topics",
        &[
            (Class::Handle, &["topic"]),
            (Class::Number, &["seq", "attempts"]),
            (Class::Time, &["next_at"]),
        ],
    ),
    (
        "last_answers",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["object"]),
            (Class::Word, &["said", "code"]),
            (Class::ProviderId, &["correlation"]),
            (Class::Time, &["at"]),
        ],
    ),
    (
        "merchants",
        &[
            (Class::Word, &["provider", "mode"]),
            (Class::ProviderId, &["merchant"]),
            (Class::Time, &["since"]),
        ],
    ),
    (
        "old_api_keys",
        &[
            (Class::PersonText, &["client"]),
            (Class::KeyedHash, &["key_hash"]),
            (Class::Time, &["since", "ends_at"]),
        ],
    ),
    (
        "old_handles",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["handle", "method"]),
            (Class::Time, &["ends_at"]),
        ],
    ),
    (
        "operations",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["id", "payment"]),
            (Class::Word, &["provider", "kind", "state", "failure"]),
            (Class::Amount, &["currency", "amount", "settled_before"]),
            (Class::Number, &["last", "attempts", "version"]),
            (Class::ProviderId, &["object", "capture_object"]),
            (
                Class::Time,
                &[
                    "first_sent_at",
                    "last_sent_at",
                    "next_at",
                    "lease_until",
                    "created_at",
                ],
            ),
        ],
    ),
    (
        "payment_methods",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["id", "record", "handle"]),
            (Class::Word, &["provider", "state"]),
            (Class::Number, &["is_default", "attempts", "version"]),
            (Class::Time, &["created_at", "next_at"]),
        ],
    ),
    (
        "payments",
        &[
            (Class::Pseudonym, &["account"]),
            (
                Class::Handle,
                &["id", "method", "setup", "handle", "redirect_generation"],
            ),
            (
                Class::CallerText,
                &["reference", "description", "return_url"],
            ),
            (
                Class::Amount,
                &[
                    "currency",
                    "amount",
                    "authorized",
                    "captured",
                    "reserved_capture",
                    "refunded",
                    "reserved_refund",
                    "reversed",
                    "returned_told",
                ],
            ),
            (
                Class::Word,
                &[
                    "provider",
                    "capture",
                    "initiator",
                    "state",
                    "step",
                    "closing_as",
                    "decline_category",
                    "decline_retry",
                    "decline_code",
                    "failure",
                    "reason",
                ],
            ),
            (
                Class::ProviderId,
                &["reservation", "authorization_id", "capture_object"],
            ),
            (Class::Number, &["commit_round", "attempts", "version"]),
            (Class::KeyedHash, &["body_mac"]),
            (Class::Sealed, &["redirect"]),
            (
                Class::Time,
                &[
                    "first_sent_at",
                    "last_sent_at",
                    "expires_at",
                    "next_at",
                    "lease_until",
                    "created_at",
                    "accepted_at",
                    "updated_at",
                ],
            ),
        ],
    ),
    (
        "records",
        &[
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["id", "generation"]),
            (Class::Word, &["provider"]),
            (Class::ProviderId, &["merchant"]),
            (Class::Sealed, &["sealed"]),
            (Class::Time, &["created_at"]),
        ],
    ),
    (
        "request_keys",
        &[
            (Class::PersonText, &["client"]),
            (Class::KeyedHash, &["key", "digest"]),
            (Class::Handle, &["object"]),
            (Class::Answer, &["answer"]),
            (Class::Time, &["created_at"]),
            (Class::Number, &["erased"]),
        ],
    ),
    (
        "resolutions",
        &[
            (Class::Number, &["seq"]),
            (Class::Pseudonym, &["account"]),
            (Class::Handle, &["payment", "object"]),
            (
                Class::Word,
                &["wanted", "ended", "decided_by", "provider_said"],
            ),
            (Class::PersonText, &["person", "note"]),
            (Class::Time, &["at"]),
        ],
    ),
    (
        "rotations",
        &[
            (Class::Number, &["seq", "done", "total", "version"]),
            (Class::Handle, &["id", "parameter", "place"]),
            (Class::Word, &["kind"]),
            (
                Class::Time,
                &["lease_until", "started_at", "updated_at", "ended_at"],
            ),
        ],
    ),
    (
        "setups",
        &[
            (Class::Pseudonym, &["account"]),
            (
                Class::Handle,
                &["id", "payment", "method", "redirect_generation"],
            ),
            (
                Class::Word,
                &[
                    "provider",
                    "state",
                    "decline_category",
                    "decline_retry",
                    "decline_code",
                ],
            ),
            (Class::CallerText, &["return_url", "language"]),
            (Class::ProviderId, &["reference"]),
            (Class::Sealed, &["redirect"]),
            (
                Class::Time,
                &["expires_at", "next_at", "lease_until", "created_at"],
            ),
            (Class::Number, &["attempts", "version"]),
        ],
    ),
    (
        "webhooks",
        &[
            (Class::Word, &["provider"]),
            (Class::KeyedHash, &["event"]),
            (Class::Time, &["received_at"]),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_column_stands_twice_and_every_class_is_there() {
        let mut seen = BTreeSet::new();
        for column in all() {
            assert!(seen.insert((column.table, column.name)), "{column:?}");
        }
        let classes: BTreeSet<Class> = all().map(|column| column.class).collect();
        assert_eq!(classes, Class::ALL.into());
        assert_eq!(class("records", "sealed"), Some(Class::Sealed));
        assert_eq!(class("records", "card_number"), None);
    }

    #[test]
    fn what_is_sealed_is_what_the_rotation_sweeps() {
        use crate::store::SealedColumn;
        let ours = all().filter(|column| column.class == Class::Sealed);
        let ours: BTreeSet<String> = ours
            .map(|column| format!("{}.{}", column.table, column.name))
            .collect();
        let swept = SealedColumn::ALL.map(|column| column.as_str().to_owned());
        assert_eq!(ours, swept.into());
    }
}
