//! Every state in which anything was ever durable: I8.

use super::{Bench, Evidence};
use crate::invariant::Invariant;
use crate::seam::Glimpse;

/// Final states of payments, operations, setups and methods. Their words do not overlap in meaning.
const FINAL: [&str; 9] = [
    "captured",
    "declined",
    "failed",
    "voided",
    "succeeded",
    "completed",
    "expired",
    "paid_not_linked",
    "revoked",
];

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    for (id, glimpses) in &evidence.history {
        for (before, after) in glimpses.iter().zip(glimpses.iter().skip(1)) {
            let goes_on = follows(before, after);
            let found = format!("{id}: {before:?}, then {after:?}");
            bench.case(Invariant::I8, (!goes_on).then_some(found));
        }
    }
}

fn follows(before: &Glimpse, after: &Glimpse) -> bool {
    let grows = after.captured >= before.captured && after.refunded >= before.refunded;
    let stays = match before.state {
        "authorized" => ["authorized", "captured", "voided"].contains(&after.state),
        state if FINAL.contains(&state) => after.state == state,
        _ => true,
    };
    grows && stays
}
