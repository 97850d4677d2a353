//! Data stored: every column and what it holds, a look for card numbers through every value, and
//! what is sealed under which key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use cardless_contract::Timestamp;

use super::columns::{self, Class};
use super::words::{CARD_WORDS, is_called_like_card_data};
use super::{Claim, Question, Section, Sources, Statement, Table};
use crate::error::Error;
use crate::gateway::{Gateway, KEPT, KeyGeneration};
use crate::pan::{self, Scan};
use crate::store::{StoredColumn, StoredValue};
use crate::vault::Vault;

/// Rows that say themselves when they end. Ids of sealed messages go with the next message, and events
/// once they are delivered.
const ENDING: [(&str, &str); 2] = [("old_handles", "ends_at"), ("old_api_keys", "ends_at")];

/// How late what is over may still be there: it is deleted while the service runs.
const END_MAY_BE_LATE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What stands between two values while they are looked through: no number goes on beyond it.
pub(super) const BETWEEN: &[u8] = b"\n|\n";

const CLASSES: Claim = Claim {
    id: "data-1",
    requirements: &["3.2.1", "3.3.1", "12.5.2"],
    says: "What each column of the store holds is known, and no class of it is account data",
    proof: "the live schema, compared with the program's list",
};

const NAMES: Claim = Claim {
    id: "data-2",
    requirements: &["3.2.1", "3.3.1", "3.3.2"],
    says: "No table and no column is called like card data",
    proof: "the live schema, word by word",
};

const NUMBERS: Claim = Claim {
    id: "data-3",
    requirements: &["3.2.1", "3.3.1", "3.5.1"],
    says: "No value in the store passes for a card number",
    proof: "the net for card numbers over every value of every column, in every usual encoding; passed over are \
            providers' own ids of 18 digits that begin with a date",
};

const SEALED: Claim = Claim {
    id: "data-4",
    requirements: &["3.5.1", "12.3.3"],
    says: "Tokens, account ids and pages' addresses are sealed: AWS Encryption SDK message format 2, \
           suite 0x0478 (AES-256-GCM, HKDF-SHA-512, key commitment)",
    proof: "each value is taken apart by the format's strict parser, to its last byte; that it opens is not tried",
};

const GENERATIONS: Claim = Claim {
    id: "data-5",
    requirements: &["3.5.1", "3.6.1.4", "3.7.5"],
    says: "Every sealed value is under a generation whose key is in the key file, outside of the store",
    proof: "the generation that each sealed record names, the one that its row says, and those of the key file",
};

const ENDS: Claim = Claim {
    id: "data-6",
    requirements: &["3.2.1"],
    says: "Keys of requests, answers, ids of webhooks, steps of the clock and replaced handles and API keys \
           are deleted when their time is over",
    proof: "the earliest time in each of these tables, compared with the program's own limit",
};

/// What was seen in one column.
#[derive(Debug, Default)]
struct Seen {
    values: u64,
    bytes: u64,
    /// By the rule that finds them.
    numbers: BTreeMap<&'static str, u64>,
    /// Values that are no sealed record.
    not_sealed: u64,
    /// How many sealed records name which key generation.
    named: BTreeMap<String, u64>,
    /// The earliest, in a column of times.
    earliest: Option<Timestamp>,
}

/// A column, what it is on our list, and what was seen in it.
struct Looked {
    column: StoredColumn,
    class: Option<Class>,
    seen: Seen,
}

impl Looked {
    fn name(&self) -> String {
        // Whoever can write to the file chooses what a column is called.
        let name = format!("{}.{}", self.column.table, self.column.name);
        pan::withhold(&name).into_owned()
    }
}

pub(super) async fn section(
    sources: &Sources,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<(Section, Counted), Error> {
    let gateway = &sources.gateway;
    let all = gateway.columns().await?;
    let own = gateway.own_columns().await?;
    let before = gateway.sealed_by_generation().await?;
    let total = u64::try_from(all.len() + own.len()).unwrap_or(u64::MAX);
    let mut done = 0;
    let mut looked = Vec::new();
    let mut of_sqlite = Vec::new();
    for (columns, into) in [(all, &mut looked), (own, &mut of_sqlite)] {
        for column in columns {
            into.push(look_at(gateway, column).await?);
            done += 1;
            progress(done, total);
        }
    }
    let keys = gateway.keys().await?.generations;
    let rows = gateway.sealed_by_generation().await?;
    // Payments and rotations go on meanwhile; then the two counts are of different moments.
    let still = before == rows;
    let section = Section {
        id: "data",
        title: "Data stored",
        statements: vec![
            classes(&looked),
            names(&looked),
            numbers(&looked, &of_sqlite),
            sealed(&looked),
            generations(&keys, &named(&looked), &rows, still),
            ends(&looked, gateway.now()),
        ],
        figures: Vec::new(),
        questions: vec![Question {
            id: "data-q1",
            requirements: &["3.2.1", "9.4"],
            asks: "Where else is data of this installation kept (backups, copies of the database, exports, \
                   the log's destination), who can read it there, and when is it destroyed?",
        }],
    };
    Ok((section, Counted::of(&looked)))
}

/// What there is in the store, counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// How many rows each table has: as many as its fullest column has values.
    pub(super) rows: BTreeMap<String, u64>,
    /// How many values each column has, by table and name.
    pub(super) values: BTreeMap<(String, String), u64>,
    /// The earliest time in each column of times that has one, likewise.
    pub(super) earliest: BTreeMap<(String, String), Timestamp>,
}

impl Counted {
    fn of(looked: &[Looked]) -> Self {
        let mut counted = Self::default();
        for Looked { column, seen, .. } in looked {
            let table = pan::withhold(&column.table).into_owned();
            let rows: &mut u64 = counted.rows.entry(table).or_default();
            *rows = seen.values.max(*rows);
            let place = (column.table.clone(), column.name.clone());
            counted.values.insert(place.clone(), seen.values);
            counted.earliest.extend(seen.earliest.map(|at| (place, at)));
        }
        counted
    }
}

async fn look_at(gateway: &Gateway, column: StoredColumn) -> Result<Looked, Error> {
    let class = columns::class(&column.table, &column.name);
    let mut seen = Seen::default();
    let look = |batch: &[StoredValue]| {
        let values: Vec<&[u8]> = batch.iter().map(|value| value.bytes.as_slice()).collect();
        seen.look_at(&values, class);
        ControlFlow::Continue(())
    };
    gateway.walk_values(&column, look).await?;
    Ok(Looked {
        column,
        class,
        seen,
    })
}

impl Seen {
    fn look_at(&mut self, values: &[&[u8]], class: Option<Class>) {
        for value in values {
            self.values += 1;
            self.bytes += u64::try_from(value.len()).unwrap_or(u64::MAX);
            if class == Some(Class::Sealed) {
                self.sealed(value);
            }
            if class == Some(Class::Time) {
                self.time(value);
            }
        }
        let all = not_dated(values, class).join(BETWEEN);
        let mut scan = Scan::new(all.as_slice());
        // Reading from memory does not fail.
        while let Ok(Some(found)) = scan.step() {
            for finding in found {
                *self.numbers.entry(finding.rule).or_default() += 1;
            }
        }
    }
}

impl Seen {
    fn sealed(&mut self, value: &[u8]) {
        let Some(generation) = Vault::generation_of(value) else {
            self.not_sealed += 1;
            return;
        };
        match self.named.get_mut(generation) {
            Some(count) => *count += 1,
            None => drop(self.named.insert(generation.to_owned(), 1)),
        }
    }

    fn time(&mut self, value: &[u8]) {
        let digits = std::str::from_utf8(value).ok();
        let Some(millis) = digits.and_then(|digits| digits.parse().ok()) else {
            return;
        };
        let time = Timestamp::from_millis(millis);
        if self.earliest.is_none_or(|earliest| time < earliest) {
            self.earliest = Some(time);
        }
    }
}

/// The values before which the net stands: not a provider's own id that begins with a date.
fn not_dated<'a>(values: &[&'a [u8]], class: Option<Class>) -> Vec<&'a [u8]> {
    let is_dated = |value: &&&[u8]| {
        class == Some(Class::ProviderId) && std::str::from_utf8(value).is_ok_and(pan::is_dated_id)
    };
    let others = values.iter().filter(|value| !is_dated(value));
    others.copied().collect()
}

fn classes(looked: &[Looked]) -> Statement {
    let strange = looked.iter().filter(|one| one.class.is_none());
    let mut faults: Vec<String> = strange
        .map(|one| format!("{} is in the store and not on the list", one.name()))
        .collect();
    let lacking = columns::all().filter(|listed| {
        let same =
            |one: &Looked| one.column.table == listed.table && one.column.name == listed.name;
        !looked.iter().any(same)
    });
    faults.extend(lacking.map(|listed| {
        let (table, name) = (listed.table, listed.name);
        format!("{table}.{name} is on the list and not in the store")
    }));
    let rows = looked
        .iter()
        .map(|one| {
            let class = one.class.map_or("?", Class::as_str);
            vec![one.name(), class.to_owned(), one.seen.values.to_string()]
        })
        .collect();
    CLASSES.judged(
        faults,
        Table::new(vec!["column", "holds", "values"], rows).moving(&[2]),
    )
}

fn names(looked: &[Looked]) -> Statement {
    let named = looked.iter().filter(|one| {
        is_called_like_card_data(&format!("{}.{}", one.column.table, one.column.name))
    });
    let faults: Vec<String> = named
        .map(|one| format!("{} is called like card data", one.name()))
        .collect();
    NAMES.judged(
        faults,
        Table::new(
            vec!["words that were looked for"],
            vec![vec![CARD_WORDS.join(", ")]],
        ),
    )
}

fn numbers(looked: &[Looked], of_sqlite: &[Looked]) -> Statement {
    let mut faults = Vec::new();
    for one in looked.iter().chain(of_sqlite) {
        for (rule, count) in &one.seen.numbers {
            faults.push(format!(
                "{count} in {} pass for card numbers ({rule})",
                one.name()
            ));
        }
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let by_class = Class::ALL.into_iter().map(Some).chain([None]);
    for class in by_class {
        let of_class = || looked.iter().filter(move |one| one.class == class);
        if of_class().next().is_none() {
            continue;
        }
        let sum =
            |of: fn(&Seen) -> u64| of_class().map(|one| of(&one.seen)).sum::<u64>().to_string();
        rows.push(vec![
            class.map_or("?", Class::as_str).to_owned(),
            sum(|seen| seen.values),
            sum(|seen| seen.bytes),
            sum(|seen| seen.numbers.values().sum()),
        ]);
    }
    let sum = |of: fn(&Seen) -> u64| {
        let sum: u64 = of_sqlite.iter().map(|one| of(&one.seen)).sum();
        sum.to_string()
    };
    rows.push(vec![
        "the database's own".to_owned(),
        sum(|seen| seen.values),
        sum(|seen| seen.bytes),
        sum(|seen| seen.numbers.values().sum()),
    ]);
    NUMBERS.judged(
        faults,
        Table::new(
            vec!["what the column holds", "values", "bytes", "found"],
            rows,
        )
        .moving(&[1, 2]),
    )
}

fn sealed(looked: &[Looked]) -> Statement {
    let ours = || looked.iter().filter(|one| one.class == Some(Class::Sealed));
    let faults: Vec<String> = ours()
        .filter(|one| one.seen.not_sealed > 0)
        .map(|one| {
            let (count, name) = (one.seen.not_sealed, one.name());
            format!("{count} in {name} are not sealed, or not whole")
        })
        .collect();
    let rows = ours()
        .map(|one| {
            vec![
                one.name(),
                one.seen.values.to_string(),
                one.seen.bytes.to_string(),
            ]
        })
        .collect();
    SEALED.judged(
        faults,
        Table::new(vec!["column", "values", "bytes"], rows).moving(&[1, 2]),
    )
}

/// How many sealed records name which key generation, over all columns.
fn named(looked: &[Looked]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (id, count) in looked.iter().flat_map(|one| &one.seen.named) {
        let sum: &mut u64 = all.entry(id.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
    all
}

/// `named` is what the records say, `rows` what stands beside them; `still` if nothing was sealed
/// between the two counts.
fn generations(
    keys: &[KeyGeneration],
    named: &BTreeMap<String, u64>,
    rows: &BTreeMap<String, u64>,
    still: bool,
) -> Statement {
    let count = |counts: &BTreeMap<String, u64>, id: &str| counts.get(id).copied().unwrap_or(0);
    let ids: BTreeSet<&str> = named
        .keys()
        .chain(rows.keys())
        .map(String::as_str)
        .collect();
    let mut faults = Vec::new();
    for id in ids {
        let shown = pan::withhold(id);
        let (by_record, by_row) = (count(named, id), count(rows, id));
        if still && by_record != by_row {
            faults.push(format!(
                "{by_record} sealed records name {shown}, and the rows of {by_row} say so"
            ));
        }
        let present = keys.iter().any(|key| key.id == id && key.present);
        if !present {
            faults.push(format!(
                "{} values are under {shown}, whose key is not there",
                by_record.max(by_row)
            ));
        }
    }
    let back = keys
        .iter()
        .filter(|key| key.state == "destroyed" && key.present);
    faults.extend(back.map(|key| {
        format!(
            "{} was destroyed, and its key is in the key file again; `cardless rotate keys \
             --destroy-retired` takes it out",
            key.id
        )
    }));
    let shown = keys.iter().map(|key| {
        vec![
            key.id.clone(),
            key.state.to_owned(),
            count(named, &key.id).to_string(),
            key.uses.to_string(),
            if key.present { "yes" } else { "no" }.to_owned(),
            key.created_at.to_string(),
        ]
    });
    let header = vec![
        "generation",
        "state",
        "sealed under it",
        "uses",
        "in the key file",
        "made",
    ];
    GENERATIONS.judged(faults, Table::new(header, shown.collect()).moving(&[2, 3]))
}

fn ends(looked: &[Looked], now: Timestamp) -> Statement {
    let (mut faults, mut rows) = (Vec::new(), Vec::new());
    let ending = ENDING
        .into_iter()
        .map(|(table, name)| (table, name, Duration::ZERO));
    for (table, name, kept) in KEPT.into_iter().chain(ending) {
        let column = |one: &&Looked| one.column.table == table && one.column.name == name;
        let earliest = looked.iter().find(column).and_then(|one| one.seen.earliest);
        if earliest.is_some_and(|earliest| now.since(earliest) > kept + END_MAY_BE_LATE) {
            faults.push(format!(
                "{table} has rows beyond their end; `cardless serve` deletes them while it runs"
            ));
        }
        rows.push(vec![
            format!("{table}.{name}"),
            match kept.as_secs() / (24 * 3600) {
                0 => "until then".to_owned(),
                days => format!("{days} days"),
            },
            earliest.map_or_else(|| "none".to_owned(), |earliest| earliest.to_string()),
        ]);
    }
    ENDS.judged(
        faults,
        Table::new(vec!["rows by", "kept", "the earliest"], rows).moving(&[2]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_column_of_ours_is_called_like_card_data() {
        let named = |column: columns::Column| {
            is_called_like_card_data(&format!("{}.{}", column.table, column.name))
        };
        assert!(!columns::all().any(named));
    }

    #[test]
    fn every_column_that_counts_for_an_end_is_one_of_times() {
        let ending = ENDING.map(|(table, name)| (table, name, Duration::ZERO));
        for (table, name, _) in KEPT.into_iter().chain(ending) {
            assert_eq!(
                columns::class(table, name),
                Some(Class::Time),
                "{table}.{name}"
            );
        }
    }

    #[test]
    fn a_number_is_found_in_its_value_and_not_across_two() {
        let mut seen = Seen::default();
        seen.look_at(&[b"4242 4242", b"4242 4242"], None);
        assert!(seen.numbers.is_empty());
        seen.look_at(&[b"a", b"4242 4242 4242 4242"], None);
        assert_eq!(seen.numbers, [("visa", 1)].into());
        assert_eq!((seen.values, seen.bytes), (4, 38));
    }

    /// One in ten of Datatrans' ids of 2036 has a fitting check digit.
    #[test]
    fn a_transaction_of_datatrans_is_no_card_number_where_only_ids_stand() {
        let dated = (0..10).map(|last| format!("36011212345678901{last}"));
        let dated = dated
            .into_iter()
            .find(|id| pan::find(id).is_some())
            .unwrap();
        for (class, found) in [(Class::ProviderId, 0), (Class::CallerText, 1)] {
            let mut seen = Seen::default();
            seen.look_at(&[dated.as_bytes()], Some(class));
            assert_eq!(seen.numbers.len(), found, "{class:?}");
            seen.look_at(&[b"4242424242424242"], Some(class));
            assert!(!seen.numbers.is_empty(), "{class:?}");
        }
    }
}
