//! What must hold after every schedule, in one table: number, sentence, and where it is judged.

use std::fmt;

/// One of the invariants, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table has their sentences")]
pub enum Invariant {
    I1,
    I2,
    I3,
    I4,
    I5,
    I6,
    I7,
    I8,
    I9,
    I10,
    I11,
    I12,
    I13,
    I14,
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Which one.
    pub invariant: Invariant,
    /// What must hold.
    pub sentence: &'static str,
    /// The modules of this crate that judge it.
    pub judged_by: &'static str,
}

/// All of them.
pub const INVARIANTS: [Line; 14] = [
    line(
        Invariant::I1,
        "One movement at most per intent, one live hold at most, and none without an intent of ours.",
        "judge::books, judge::answers",
    ),
    line(
        Invariant::I2,
        "Captured, succeeded: exactly one movement at the provider, of the same amount and currency.",
        "judge::books",
    ),
    line(
        Invariant::I3,
        "Declined, failed, voided: no movement, ever, also when customers and webhooks come late.",
        "judge::books",
    ),
    line(
        Invariant::I4,
        "At every moment captures stay within what was asked for, and refunds within captures.",
        "judge::books",
    ),
    line(
        Invariant::I5,
        "Nothing that changes anything leaves before its intent, and the mark that it is sent, is durable.",
        "judge::sent",
    ),
    line(
        Invariant::I6,
        "The same key gives the same answer, byte for byte, and with another body none.",
        "judge::answers",
    ),
    line(
        Invariant::I7,
        "Webhooks in any order, any number of times, or never: the same end.",
        "arrival",
    ),
    line(
        Invariant::I8,
        "Final states are final, and sums only grow.",
        "judge::watch",
    ),
    line(
        Invariant::I9,
        "What was unknown is never shown as not done while the money moves, then or later.",
        "judge::books",
    ),
    line(
        Invariant::I10,
        "With faults off everything ends, or waits for a person.",
        "judge::answers",
    ),
    line(
        Invariant::I11,
        "Our books equal the ledger, and our own comparison with the providers says so.",
        "judge::books, judge::answers",
    ),
    line(
        Invariant::I12,
        "No token and no handle serves another account.",
        "judge::sent, judge::answers",
    ),
    line(
        Invariant::I13,
        "No secret in a log line, an error, an event or a row.",
        "judge::output",
    ),
    line(
        Invariant::I14,
        "Every end has its event, once, and so has every case for a person.",
        "judge::events",
    ),
];

const fn line(invariant: Invariant, sentence: &'static str, judged_by: &'static str) -> Line {
    Line {
        invariant,
        sentence,
        judged_by,
    }
}

/// Something that must never happen, and how it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: Invariant,
    /// What was found.
    pub found: String,
}

impl Invariant {
    /// What must hold.
    pub fn sentence(self) -> &'static str {
        INVARIANTS
            .iter()
            .find(|line| line.invariant == self)
            .map_or("", |line| line.sentence)
    }
}

impl Violation {
    pub(crate) fn new(invariant: Invariant, found: impl Into<String>) -> Self {
        Self {
            invariant,
            found: found.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, sentence) = (self.invariant, self.invariant.sentence());
        write!(f, "{number:?}: {sentence}\n    {}", self.found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each module that names an invariant in a case or a violation, outside of its tests.
    #[test]
    fn the_table_names_the_modules_that_judge() {
        let sources = [
            ("judge::answers", include_str!("judge/answers.rs")),
            ("judge::books", include_str!("judge/books.rs")),
            ("judge::events", include_str!("judge/events.rs")),
            ("judge::output", include_str!("judge/output.rs")),
            ("judge::sent", include_str!("judge/sent.rs")),
            ("judge::watch", include_str!("judge/watch.rs")),
            ("arrival", include_str!("arrival.rs")),
        ];
        for line in INVARIANTS {
            let name = format!("Invariant::{:?}", line.invariant);
            let whole = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_digit());
            let names = |source: &str| source.split(&name).skip(1).any(whole);
            let judges = sources.iter().filter(|(_, source)| names(source));
            let found: BTreeSet<&str> = judges.map(|(module, _)| *module).collect();
            let said: BTreeSet<&str> = line.judged_by.split(", ").collect();
            assert_eq!(said, found, "{:?}", line.invariant);
        }
    }

    #[test]
    fn the_table_has_every_number_once() {
        let numbers: Vec<String> = INVARIANTS
            .iter()
            .map(|line| format!("{:?}", line.invariant))
            .collect();
        let expected: Vec<String> = (1..=14).map(|number| format!("I{number}")).collect();
        assert_eq!(numbers, expected);
    }
}
