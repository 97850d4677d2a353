//! Tokens, graded: what each kind of token, handle and key is worth to a thief, how many there are,
//! how they are kept, and which statement of this report shows what stops the thief.

mod grades;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use self::grades::{Counted, DESTROYED, KINDS, Kind, RECORD_PROVIDER};
use super::columns::{self, Class};
use super::{Claim, Question, Section, Sources, Statement, Table, stored};
use crate::error::Error;
use crate::gateway::{ClientInfo, Gateway};
use crate::store::{StoredColumn, StoredValue};

const GRADED: Claim = Claim {
    id: "tokens-1",
    requirements: &["3.5.1", "8.3.2", "12.5.2"],
    says: "Every kind of token, handle and key is graded by what a thief can do with it, and what stops the \
           thief is shown by statements that hold",
    proof: "the program's list, in which a test finds each kind of handle and every column that holds one; \
            counts from the store and the settings; the statements of this report",
};

const ASSESSOR: Question = Question {
    id: "tokens-q1",
    requirements: &["3.5.1", "12.5.2"],
    asks: "Providers' tokens are called high-value here, since with the merchant's credentials they can start \
           a charge, though none can be turned back into a card number. Whether that brings them, and what \
           keeps them, into the scope of PCI DSS is for the assessor to decide: what has the assessor \
           decided?",
};

/// How many there are, by where they are counted.
#[derive(Debug, Default)]
struct Counts {
    values: BTreeMap<(&'static str, &'static str), u64>,
    /// The values of the column that says whose token a record holds.
    by_provider: BTreeMap<String, u64>,
    api_keys: u64,
    public_keys: u64,
    /// The generations that are not destroyed.
    generations: u64,
    /// The live values of secret settings; none where there are no settings.
    settings: Option<BTreeMap<String, u64>>,
}

/// The section. Its statement leans on the others, so that it comes last.
pub(super) async fn section(
    sources: &Sources,
    before: &[Section],
    counted: &stored::Counted,
) -> Result<Section, Error> {
    let counts = Counts::of(sources, counted).await?;
    let statements = before.iter().flat_map(|section| &section.statements);
    let holds = statements.map(|statement| (statement.claim.id, statement.holds));
    let kinds = sources.gateway.token_kinds();
    Ok(Section {
        id: "tokens",
        title: "Tokens and keys, graded",
        statements: vec![graded(&counts, &holds.collect(), &kinds)],
        figures: Vec::new(),
        questions: vec![ASSESSOR],
    })
}

impl Counts {
    async fn of(sources: &Sources, counted: &stored::Counted) -> Result<Self, Error> {
        let mut counts = Self::default();
        for kind in KINDS {
            if let Counted::Values(table, name) = kind.counted {
                let count = counted.values.get(&(table.to_owned(), name.to_owned()));
                counts
                    .values
                    .extend(count.map(|count| ((table, name), *count)));
            }
        }
        let gateway = &sources.gateway;
        counts.by_provider = words(gateway, RECORD_PROVIDER).await?;
        let generations = gateway.keys().await?.generations;
        let there = generations.iter().filter(|one| one.state != DESTROYED);
        counts.generations = many(there.count());
        counts.add_keys(&gateway.clients().await?);
        let settings = sources.settings.as_ref();
        counts.settings = settings.map(|settings| {
            let secrets = settings.live_secrets.iter();
            secrets
                .map(|secret| (secret.setting.clone(), many(secret.live)))
                .collect()
        });
        Ok(counts)
    }

    /// The keys by which clients are let in.
    fn add_keys(&mut self, clients: &[ClientInfo]) {
        for client in clients.iter().filter(|client| client.revoked_at.is_none()) {
            let public_keys = client.keys.iter();
            let public_keys = public_keys.filter(|key| key.revoked_at.is_none());
            self.api_keys += many(client.api_keys.len());
            self.public_keys += many(public_keys.count());
        }
    }

    /// How many there are of a kind; `None` where that can't be known.
    fn count(&self, kind: &Kind) -> Option<u64> {
        match kind.counted {
            Counted::Values(table, name) => self.values.get(&(table, name)).copied(),
            Counted::Word(_, _, word) => Some(self.by_provider.get(word).copied().unwrap_or(0)),
            Counted::ApiKeys => Some(self.api_keys),
            Counted::PublicKeys => Some(self.public_keys),
            Counted::Generations => Some(self.generations),
            Counted::Settings(names) => {
                let settings = self.settings.as_ref()?;
                Some(names.iter().filter_map(|name| settings.get(*name)).sum())
            }
            Counted::Nowhere => Some(0),
        }
    }
}

/// How often each word stands in a column.
async fn words(
    gateway: &Gateway,
    (table, name): (&str, &str),
) -> Result<BTreeMap<String, u64>, Error> {
    let column = StoredColumn {
        table: table.to_owned(),
        name: name.to_owned(),
    };
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let look = |batch: &[StoredValue]| {
        for value in batch {
            let word = String::from_utf8_lossy(&value.bytes);
            match found.get_mut(word.as_ref()) {
                Some(count) => *count += 1,
                None => drop(found.insert(word.into_owned(), 1)),
            }
        }
        ControlFlow::Continue(())
    };
    gateway.walk_values(&column, look).await?;
    Ok(found)
}

fn graded(
    counts: &Counts,
    holds: &BTreeMap<&'static str, bool>,
    token_kinds: &[(String, &'static str)],
) -> Statement {
    let mut faults: Vec<String> = KINDS.iter().flat_map(|kind| weak(kind, holds)).collect();
    let listed = |provider: &str| KINDS.iter().any(|kind| provider_of(kind) == Some(provider));
    let strange = counts
        .by_provider
        .keys()
        .filter(|provider| !listed(provider));
    faults.extend(strange.map(|provider| {
        let (table, name) = RECORD_PROVIDER;
        let provider = crate::pan::withhold(provider);
        format!("{table}.{name} names {provider}, whose tokens are not graded")
    }));
    let rows = KINDS.iter().map(|kind| {
        let word = token_kinds
            .iter()
            .find(|(provider, _)| provider_of(kind) == Some(provider));
        let count = counts.count(kind);
        vec![
            word.map_or_else(
                || kind.name.to_owned(),
                |(_, word)| format!("{} ({word})", kind.name),
            ),
            kind.grade.to_string(),
            count.map_or_else(|| "not known".to_owned(), |count| count.to_string()),
            kept(kind),
            kind.alone.to_owned(),
            kind.with.to_owned(),
            kind.control.to_owned(),
            kind.shown_by.join(", "),
        ]
    });
    let header = vec![
        "kind",
        "grade",
        "how many",
        "where, and how kept",
        "alone",
        "with what it gets worse",
        "what stops that",
        "shown by",
    ];
    GRADED.judged(faults, Table::new(header, rows.collect()).moving(&[2]))
}

fn many(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The controls of a kind that are not shown, or do not hold.
fn weak(kind: &Kind, holds: &BTreeMap<&'static str, bool>) -> Vec<String> {
    let faults = kind.shown_by.iter().filter_map(|id| match holds.get(id) {
        Some(true) => None,
        Some(false) => Some(format!(
            "{}: {id}, which shows its control, does not hold",
            kind.name
        )),
        // Without settings there is nothing to say of them.
        None if NEED_SETTINGS.contains(id) => None,
        None => Some(format!(
            "{}: there is no {id} to show its control",
            kind.name
        )),
    });
    faults.collect()
}

/// The statements that are made only where there are settings.
const NEED_SETTINGS: [&str; 2] = ["settings-2", "access-4"];

/// Whose tokens these are, for a provider's.
fn provider_of(kind: &Kind) -> Option<&'static str> {
    match kind.counted {
        Counted::Word(_, _, word) => Some(word),
        Counted::Values(..)
        | Counted::ApiKeys
        | Counted::PublicKeys
        | Counted::Generations
        | Counted::Settings(_)
        | Counted::Nowhere => None,
    }
}

/// Where it is and what it is there, by the list of columns.
fn kept(kind: &Kind) -> String {
    let mut by_class: BTreeMap<Class, BTreeSet<String>> = BTreeMap::new();
    for (table, name) in kind.columns {
        if let Some(class) = columns::class(table, name) {
            let of_class = by_class.entry(class).or_default();
            of_class.insert(format!("{table}.{name}"));
        }
    }
    let parts = by_class.into_iter().map(|(class, names)| {
        let names: Vec<String> = names.into_iter().collect();
        format!("{}: {class}", names.join(", "))
    });
    let parts: Vec<String> = parts.chain([kind.elsewhere.to_owned()]).collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::HandleKind;

    #[test]
    fn every_kind_of_handle_and_every_column_of_one_is_graded() {
        for kind in HandleKind::ALL {
            let prefix = kind.prefix();
            let listed = KINDS.iter().any(|row| row.name.contains(prefix));
            assert!(listed, "{prefix} is not graded");
        }
        for provider in crate::registry::KNOWN {
            let of_it = |row: &&Kind| provider_of(row) == Some(provider);
            assert_eq!(KINDS.iter().filter(of_it).count(), 1, "{provider}");
        }
        let graded: BTreeSet<_> = KINDS.iter().flat_map(|kind| kind.columns).collect();
        for column in columns::all() {
            let worth = match column.class {
                Class::Sealed
                | Class::KeyedHash
                | Class::Mac
                | Class::Pseudonym
                | Class::Handle
                | Class::ProviderId
                | Class::PublicKey => true,
                Class::Amount
                | Class::Time
                | Class::Word
                | Class::Number
                | Class::CallerText
                | Class::PersonText
                | Class::Answer
                | Class::Sample => false,
            };
            let place = (column.table, column.name);
            assert_eq!(graded.contains(&place), worth, "{place:?}");
        }
    }

    #[test]
    fn what_is_counted_is_a_column_or_a_secret_setting() {
        let secrets: BTreeSet<String> = crate::registry::secret_settings().collect();
        let mut counted = BTreeSet::new();
        for kind in KINDS {
            match kind.counted {
                Counted::Values(table, name) | Counted::Word(table, name, _) => {
                    assert!(columns::class(table, name).is_some(), "{table}.{name}");
                }
                Counted::Settings(names) => {
                    counted.extend(names.iter().map(|name| (*name).to_owned()))
                }
                Counted::ApiKeys
                | Counted::PublicKeys
                | Counted::Generations
                | Counted::Nowhere => {}
            }
        }
        assert_eq!(counted, secrets);
    }

    #[test]
    fn a_control_that_is_not_shown_or_does_not_hold_is_a_fault_of_its_kind() {
        let mut holds: BTreeMap<&'static str, bool> = KINDS
            .iter()
            .flat_map(|kind| kind.shown_by)
            .map(|id| (*id, true))
            .collect();
        let statement = graded(&Counts::default(), &holds, &[]);
        assert!(statement.holds, "{:?}", statement.faults);
        holds.insert("data-4", false);
        holds.remove("logs-2");
        holds.remove("settings-2");
        let statement = graded(&Counts::default(), &holds, &[]);
        assert_eq!((statement.claim.id, statement.holds), ("tokens-1", false));
        let faults = statement.faults.join("\n");
        assert!(faults.contains("Aduno alias: data-4"), "{faults}");
        assert!(faults.contains("audit key: there is no logs-2"), "{faults}");
        assert!(!faults.contains("settings-2"), "{faults}");
    }

    #[test]
    fn a_provider_that_is_not_graded_is_a_fault() {
        let mut counts = Counts::default();
        counts.by_provider.insert("aduno".to_owned(), 2);
        let holds: BTreeMap<&'static str, bool> = KINDS
            .iter()
            .flat_map(|kind| kind.shown_by)
            .map(|id| (*id, true))
            .collect();
        let kinds = [("aduno".to_owned(), "alias")];
        let statement = graded(&counts, &holds, &kinds);
        assert!(statement.holds);
        let rows = &statement.evidence.rows;
        let aduno = rows
            .iter()
            .find(|row| row[0] == "Aduno alias (alias)")
            .unwrap();
        assert_eq!(aduno[2], "2");
        assert!(aduno[3].starts_with("records.sealed: sealed"), "{aduno:?}");
        counts.by_provider.insert("stripe".to_owned(), 1);
        let statement = graded(&counts, &holds, &kinds);
        assert!(
            statement.faults[0].contains("stripe"),
            "{:?}",
            statement.faults
        );
    }
}
