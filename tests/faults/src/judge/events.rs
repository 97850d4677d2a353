//! The outbox: I14.

use cardless::store::{OperationRow, PaymentRow, PaymentState};

use super::{Bench, Evidence};
use crate::invariant::Invariant;
use crate::seam::times_into;

/// States in which a payment stays.
const ENDS: [PaymentState; 4] = [
    PaymentState::Captured,
    PaymentState::Declined,
    PaymentState::Failed,
    PaymentState::Voided,
];

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    for (row, operations) in &evidence.payments {
        each_time(evidence, [&row.id, &row.id], ["payment", "parked"], bench);
        if ENDS.contains(&row.state) {
            payment(evidence, row, operations, bench);
        }
        for one in operations {
            let kind = one.kind.as_str();
            each_time(evidence, [&one.id, &one.id], [kind, "parked"], bench);
        }
        for operation in operations.iter().filter(|one| !one.may_end()) {
            let kind = format!("{}.{}", operation.kind.as_str(), operation.state.as_str());
            once(evidence, &operation.id, &kind, bench);
        }
    }
    for row in &evidence.methods {
        for state in ["revoked", "suspended"] {
            let names = [&*row.id, &*row.handle];
            each_time(evidence, names, ["payment_method", state], bench);
        }
    }
    for setup in evidence.setups.iter() {
        let state = setup.state.as_str();
        if ["completed", "declined", "expired", "paid_not_linked"].contains(&state) {
            once(evidence, &setup.id, &format!("setup.{state}"), bench);
        }
    }
}

/// The end of a payment is told by an event of its own, or by that of the operation that made it;
/// no event tells of another end.
fn payment(
    evidence: &Evidence,
    row: &PaymentRow,
    operations: &[OperationRow],
    bench: &mut Bench<'_>,
) {
    let kinds = kinds_of(evidence, &row.id);
    let own = format!("payment.{}", row.state.as_str());
    // A void ends a payment of which a part was captured, too.
    let ends_it: &[&str] = match row.state {
        PaymentState::Captured => &["capture.succeeded", "void.succeeded"],
        PaymentState::Voided => &["void.succeeded"],
        PaymentState::ActionRequired
        | PaymentState::Pending
        | PaymentState::Unknown
        | PaymentState::Authorized
        | PaymentState::Declined
        | PaymentState::Failed
        | PaymentState::Parked => &[],
    };
    let by_operation = operations.iter().any(|one| {
        let kinds = kinds_of(evidence, &one.id);
        kinds.iter().any(|kind| ends_it.contains(kind))
    });
    let own = kinds.iter().filter(|kind| **kind == own).count();
    let told = own == 1 || own == 0 && by_operation;
    let otherwise = ENDS
        .into_iter()
        .filter(|state| *state != row.state)
        .any(|state| kinds.contains(&format!("payment.{}", state.as_str()).as_str()));
    let broken =
        (!told || otherwise).then(|| format!("{} is {}: {kinds:?}", row.id, row.state.as_str()));
    bench.case(Invariant::I14, broken);
}

/// Whenever something is parked, revoked or suspended, an event says so, as often as it comes to that.
/// A method is named as callers call it.
fn each_time(
    evidence: &Evidence,
    [id, called]: [&str; 2],
    [what, state]: [&str; 2],
    bench: &mut Bench<'_>,
) {
    let kind = format!("{what}.{state}");
    let glimpses = evidence.history.get(id).map_or(&[][..], Vec::as_slice);
    let times = times_into(glimpses, state);
    let kinds = kinds_of(evidence, called);
    let told = kinds.iter().filter(|one| **one == kind).count();
    if times == 0 && told == 0 {
        return;
    }
    let found = format!("{id} was {state} {times} times: {kinds:?}");
    bench.case(Invariant::I14, (told != times).then_some(found));
}

fn once(evidence: &Evidence, id: &str, wanted: &str, bench: &mut Bench<'_>) {
    let ends: Vec<&str> = kinds_of(evidence, id)
        .into_iter()
        .filter(|kind| !kind.ends_with(".parked"))
        .collect();
    let broken = (ends != [wanted]).then(|| format!("{id} is {wanted}: {ends:?}"));
    bench.case(Invariant::I14, broken);
}

fn kinds_of<'a>(evidence: &'a Evidence, id: &str) -> Vec<&'a str> {
    evidence
        .events
        .iter()
        .filter(|event| event.object == id)
        .map(|event| event.kind.as_str())
        .collect()
}
