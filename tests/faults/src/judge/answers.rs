//! What callers were told: I6, I10, I11 and I12.

use cardless::error::Code;

use super::{Bench, Evidence};
use crate::invariant::Invariant;

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    let found = &evidence.found;
    for repeat in &found.repeats {
        let differs = repeat.first != repeat.again;
        bench.case(Invariant::I6, differs.then(|| format!("{repeat:?}")));
    }
    for (key, told) in &found.misused {
        let wrong = told != "idempotency_mismatch";
        let broken = wrong.then(|| format!("{key} with another amount: {told}"));
        bench.case(Invariant::I6, broken);
    }
    let moved = found
        .repeats_moved
        .then(|| "a repeat of settled calls has moved money".to_owned());
    bench.case(Invariant::I1, moved);
    // A store that fails says nothing of anybody's object.
    for [theirs, nobodys] in &found.strangers {
        let failed = |told: &String| told.starts_with(Code::StoreUnavailable.as_str());
        let differ = theirs != nobodys && !failed(theirs) && !failed(nobodys);
        let broken = differ.then(|| format!("{theirs:?} is not {nobodys:?}"));
        bench.case(Invariant::I12, broken);
    }
    bench.case(Invariant::I10, found.open.clone());
    ends(evidence, bench);
    bench.case(Invariant::I11, evidence.differences.first().cloned());
}

/// Nothing is left that nobody looks at.
fn ends(evidence: &Evidence, bench: &mut Bench<'_>) {
    for (row, operations) in &evidence.payments {
        let parked = cardless::store::PaymentState::Parked;
        let open =
            row.is_open() && row.state != parked || operations.iter().any(|one| one.is_open());
        let broken = open.then(|| format!("{} is {}, {operations:?}", row.id, row.state.as_str()));
        bench.case(Invariant::I10, broken);
    }
}
