//! Our books against the providers' ledger: I1 to I4, I9 and I11.

use std::collections::BTreeMap;

use cardless::store::{
    CaptureText, OperationRow, OperationState, OperationType, PaymentRow, PaymentState,
};
use cardless_contract::Money;
use cardless_sandbox::{Entry, EntryKind};

use super::{Bench, Evidence};
use crate::invariant::Invariant;

/// What one payment comes to: our books on one side, the ledger on the other.
struct Account<'a> {
    row: &'a PaymentRow,
    operations: &'a [OperationRow],
    entries: Vec<&'a Entry>,
}

/// Movements of one kind that our books speak of.
struct Ours {
    /// They took place.
    done: Vec<Money>,
    /// They may have; a person has not said yet.
    perhaps: Vec<Money>,
    /// They did not.
    failed: Vec<Money>,
}

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    let mut entries: BTreeMap<(&str, &str), Vec<&Entry>> = BTreeMap::new();
    for entry in &evidence.ledger {
        let object = (entry.provider, entry.object.as_str());
        entries.entry(object).or_default().push(entry);
    }
    for (row, operations) in &evidence.payments {
        let object = row.reservation.as_deref().unwrap_or_default();
        let account = Account {
            row,
            operations,
            entries: entries
                .remove(&(row.provider.as_str(), object))
                .unwrap_or_default(),
        };
        for kind in [EntryKind::Capture, EntryKind::Refund] {
            movements(&account, kind, bench);
        }
        without_money(evidence, &account, bench);
        ceilings(&account, bench);
        sums(&account, bench);
        let holds = account.count(EntryKind::Authorize);
        let broken = (holds > 1).then(|| format!("{holds} holds: {}", account.show()));
        bench.case(Invariant::I1, broken);
    }
    strays(evidence, &entries, bench);
}

/// Whether a person has not said yet how it ends.
pub(super) fn waits(row: &PaymentRow, operations: &[OperationRow]) -> bool {
    row.is_open() || operations.iter().any(OperationRow::may_end)
}

/// Each movement of ours is one at the provider, and each one there is one of ours.
fn movements(account: &Account<'_>, kind: EntryKind, bench: &mut Bench<'_>) {
    let mut ours = account.ours(kind);
    let mut theirs: Vec<Money> = account
        .entries
        .iter()
        .filter(|entry| entry.kind == kind)
        .map(|entry| entry.amount)
        .collect();
    let known = ours.done.clone();
    for done in known.clone() {
        let broken = (!take(&mut theirs, done))
            .then(|| format!("{kind:?} of {done} is not there: {}", account.show()));
        bench.case(Invariant::I2, broken);
    }
    theirs.retain(|moved| !take(&mut ours.perhaps, *moved));
    let shown_without = account.is_without_money() && kind == EntryKind::Capture;
    for moved in theirs.into_iter().filter(|_| !shown_without) {
        let invariant = if ours.failed.contains(&moved) {
            Invariant::I9
        } else if known.is_empty() || known.contains(&moved) {
            Invariant::I1
        } else {
            Invariant::I2
        };
        let found = format!("{kind:?} of {moved} too much: {}", account.show());
        bench.case(invariant, Some(found));
    }
}

/// What ended without money has moved none; what was unknown before, least of all.
fn without_money(evidence: &Evidence, account: &Account<'_>, bench: &mut Bench<'_>) {
    if !account.is_without_money() {
        return;
    }
    let history = evidence.history.get(&account.row.id);
    let was_unknown = history.is_some_and(|glimpses| {
        let unknown = ["unknown", "pending", "action_required", "parked"];
        glimpses
            .iter()
            .any(|glimpse| unknown.contains(&glimpse.state))
    });
    let moved = account.count(EntryKind::Capture) + account.count(EntryKind::Refund);
    let broken = (moved > 0).then(|| account.show());
    if was_unknown {
        bench.case(Invariant::I9, broken.clone());
    }
    bench.case(Invariant::I3, broken);
}

/// After each entry of the ledger, and in our books.
fn ceilings(account: &Account<'_>, bench: &mut Bench<'_>) {
    let (mut captured, mut refunded) = (0, 0);
    for entry in &account.entries {
        match entry.kind {
            EntryKind::Capture => captured += entry.amount.minor(),
            EntryKind::Refund => refunded += entry.amount.minor(),
            EntryKind::Authorize | EntryKind::Void => {}
        }
        let over = captured > account.row.amount.minor() || refunded > captured;
        bench.case(Invariant::I4, over.then(|| account.show()));
    }
    let row = account.row;
    let ours_over = row.captured + row.reserved_capture > row.amount.minor()
        || row.refunded + row.reserved_refund > row.captured;
    bench.case(Invariant::I4, ours_over.then(|| account.show()));
}

/// The sums of a payment that waits for nobody.
fn sums(account: &Account<'_>, bench: &mut Bench<'_>) {
    if waits(account.row, account.operations) {
        return;
    }
    let sum = |kind| -> i64 {
        let entries = account.entries.iter().filter(|entry| entry.kind == kind);
        entries.map(|entry| entry.amount.minor()).sum()
    };
    let equal = account.row.captured == sum(EntryKind::Capture)
        && account.row.refunded == sum(EntryKind::Refund)
        && account.row.reserved_capture == 0
        && account.row.reserved_refund == 0;
    bench.case(Invariant::I11, (!equal).then(|| account.show()));
}

/// Objects at a provider that no payment of ours has: where a reserve holds, a hold whose id we never
/// heard of, which lapses by itself and of which the payment says so. Nothing else, and nothing that
/// moved.
fn strays(
    evidence: &Evidence,
    entries: &BTreeMap<(&str, &str), Vec<&Entry>>,
    bench: &mut Bench<'_>,
) {
    let reserve_holds =
        |provider| provider == "aduno" || (provider == "paypal" && evidence.one_call);
    let unheard = evidence
        .payments
        .iter()
        .filter(|(row, _)| reserve_holds(row.provider.as_str()) && row.reservation.is_none())
        .filter(|(row, _)| {
            row.state == PaymentState::Parked
                || row
                    .failure
                    .as_deref()
                    .is_some_and(|why| ["hold_may_remain", "resolved"].contains(&why))
        })
        .count();
    let mut holds = 0;
    for ((provider, object), entries) in entries {
        let moved = entries
            .iter()
            .any(|entry| matches!(entry.kind, EntryKind::Capture | EntryKind::Refund));
        holds += usize::from(!moved);
        let wrong = moved || !reserve_holds(provider) || holds > unheard;
        let found = format!("{object} at {provider} is no payment of ours: {entries:?}");
        bench.case(Invariant::I1, wrong.then_some(found));
    }
}

impl Account<'_> {
    fn count(&self, kind: EntryKind) -> usize {
        self.entries
            .iter()
            .filter(|entry| entry.kind == kind)
            .count()
    }

    const fn is_without_money(&self) -> bool {
        matches!(
            self.row.state,
            PaymentState::Declined | PaymentState::Failed | PaymentState::Voided
        )
    }

    fn ours(&self, kind: EntryKind) -> Ours {
        let mut ours = Ours {
            done: Vec::new(),
            perhaps: Vec::new(),
            failed: Vec::new(),
        };
        if kind == EntryKind::Capture && self.row.capture == CaptureText::Automatic {
            if self.row.state == PaymentState::Captured {
                ours.done.push(self.row.amount);
            } else if self.row.is_open() {
                ours.perhaps.push(self.row.amount);
            }
        }
        let kind = match kind {
            EntryKind::Refund => OperationType::Refund,
            EntryKind::Capture | EntryKind::Authorize | EntryKind::Void => OperationType::Capture,
        };
        for operation in self.operations.iter().filter(|one| one.kind == kind) {
            match operation.state {
                OperationState::Succeeded => ours.done.push(operation.amount),
                OperationState::Failed => ours.failed.push(operation.amount),
                OperationState::Pending | OperationState::Unknown | OperationState::Parked => {
                    ours.perhaps.push(operation.amount);
                }
            }
        }
        ours
    }

    fn show(&self) -> String {
        let operations: Vec<String> = self
            .operations
            .iter()
            .map(|one| format!("{} {} {}", one.id, one.amount, one.state.as_str()))
            .collect();
        let entries: Vec<String> = self
            .entries
            .iter()
            .map(|one| format!("{:?} {} at {}", one.kind, one.amount, one.at))
            .collect();
        let row = self.row;
        format!(
            "{} at {}, {} {}, {}{}, captured {}, refunded {}, {operations:?}; the ledger says {entries:?}",
            row.id,
            row.provider,
            row.amount,
            row.capture.as_str(),
            row.state.as_str(),
            row.failure
                .as_deref()
                .map(|why| format!(" ({why})"))
                .unwrap_or_default(),
            row.captured,
            row.refunded,
        )
    }
}

/// Takes one of these out.
fn take(of: &mut Vec<Money>, one: Money) -> bool {
    match of.iter().position(|other| *other == one) {
        Some(index) => {
            of.swap_remove(index);
            true
        }
        None => false,
    }
}
