//! I7: the same schedule with its webhooks in another order, more often, or never.

use std::fmt::Write as _;

use cardless::store::PaymentRow;

use crate::figures::Figures;
use crate::invariant::{Invariant, Violation};
use crate::judge::Evidence;
use crate::plan::Step;
use crate::run::{Arrival, run_arriving};
use crate::world::Broken;

/// The orders that are compared with the first one.
const ARRIVALS: [Arrival; 5] = [
    Arrival::InOrder,
    Arrival::Reversed,
    Arrival::TwiceEach,
    Arrival::Shuffled,
    Arrival::Never,
];

/// How events end that tell of an end: the rest of them tells of the way there.
const TELLS_THE_END: [&str; 8] = [
    ".captured",
    ".declined",
    ".failed",
    ".voided",
    ".succeeded",
    ".completed",
    ".expired",
    ".paid_not_linked",
];

/// Runs a schedule once for each order; up to the webhooks each run is the same. Tells each end
/// that differs from the first, and what each order has broken by itself.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn arrivals(
    seed: u64,
    steps: &[Step],
    figures: &mut Figures,
) -> Result<Vec<Violation>, Broken> {
    let (mut ends, mut violations) = (Vec::new(), Vec::new());
    for order in ARRIVALS {
        let outcome = run_arriving(seed, steps, order)?;
        violations.extend(outcome.violations);
        ends.push((order, end_of(&outcome.evidence)));
    }
    violations.extend(judge(&ends, figures));
    Ok(violations)
}

/// What differs from the first end.
pub(crate) fn judge(ends: &[(Arrival, String)], figures: &mut Figures) -> Vec<Violation> {
    let Some((first, rest)) = ends.split_first() else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    for (order, end) in rest {
        figures.judged(Invariant::I7);
        if *end != first.1 {
            let found = format!("{:?}:\n{}{order:?}:\n{end}", first.0, first.1);
            violations.push(Violation::new(Invariant::I7, found));
        }
    }
    violations
}

/// How everything ended, without the providers' ids, which are counted, and without times.
pub(crate) fn end_of(evidence: &Evidence) -> String {
    let mut end = String::new();
    for (row, operations) in &evidence.payments {
        let operations: Vec<String> = operations
            .iter()
            .map(|one| {
                format!(
                    "{} {} {}",
                    one.kind.as_str(),
                    one.amount,
                    one.state.as_str()
                )
            })
            .collect();
        // A text has room for every line.
        writeln!(
            end,
            "{} {} {:?} {:?} captured {} refunded {} {operations:?}",
            row.id,
            row.state.as_str(),
            row.failure,
            row.decline,
            row.captured,
            row.refunded,
        )
        .ok();
    }
    for setup in &evidence.setups {
        writeln!(end, "{} {}", setup.id, setup.state.as_str()).ok();
    }
    let whose = |object: &str| {
        let own = |row: &&PaymentRow| row.reservation.as_deref() == Some(object);
        let mut rows = evidence.payments.iter().map(|(row, _)| row);
        rows.find(own).map_or("nobody's", |row| row.id.as_str())
    };
    let mut ledger: Vec<String> = evidence
        .ledger
        .iter()
        .map(|entry| format!("{:?} {} {}", entry.kind, entry.amount, whose(&entry.object)))
        .collect();
    ledger.sort();
    let mut told: Vec<String> = evidence
        .events
        .iter()
        .filter(|event| TELLS_THE_END.iter().any(|end| event.kind.ends_with(end)))
        .map(|event| format!("{} {}\n", event.object, event.kind))
        .collect();
    told.sort();
    end + &told.concat() + &ledger.join("\n") + "\n"
}
