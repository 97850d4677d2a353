//! The invariants, each with its sentence.

use std::collections::BTreeMap;

use cardless::message::{OperationKind, OperationStatus, Payment, PaymentStatus};
use cardless::store::{PaymentFilter, PaymentRow};
use cardless_sandbox::EntryKind;

use crate::run::{Reply, Run, perform};
use crate::world::{ACCOUNT, Broken};

/// Something that must never happen, and how it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The invariant.
    pub rule: &'static str,
    /// What was found.
    pub found: String,
}

/// What one payment moved at its provider.
#[derive(Debug, Default, Clone, Copy)]
struct Moved {
    captures: usize,
    captured: i64,
    refunded: i64,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, found: impl Into<String>) -> Self {
        Self {
            rule,
            found: found.into(),
        }
    }
}

/// Final states are final: looked at while things go on.
pub(crate) async fn watch(run: &mut Run) -> Result<(), Broken> {
    for row in rows(run).await? {
        let now = run.world.processes[0].gateway.payment(&row.id).await?;
        let before = run.told.insert(row.id.clone(), now.status);
        let stays = match before {
            Some(PaymentStatus::Authorized) => matches!(
                now.status,
                PaymentStatus::Authorized | PaymentStatus::Captured | PaymentStatus::Voided
            ),
            Some(
                before @ (PaymentStatus::Captured
                | PaymentStatus::Declined
                | PaymentStatus::Failed
                | PaymentStatus::Voided),
            ) => before == now.status,
            Some(
                PaymentStatus::ActionRequired
                | PaymentStatus::Pending
                | PaymentStatus::Unknown
                | PaymentStatus::Parked,
            )
            | None => true,
        };
        if !stays {
            let found = format!("{}: {before:?}, then {:?}", row.id, now.status);
            run.violations
                .push(Violation::new("final states are final", found));
        }
    }
    Ok(())
}

/// Everything else, once nothing is open.
pub(crate) async fn judge(run: &mut Run) -> Result<(), Broken> {
    let rows = rows(run).await?;
    let mut moved = ledger(run);
    for row in &rows {
        let payment = run.world.processes[0].gateway.payment(&row.id).await?;
        let object = row.reservation.clone().unwrap_or_default();
        let at_provider = moved
            .remove(&(row.provider.clone(), object))
            .unwrap_or_default();
        judge_payment(run, &payment, at_provider);
    }
    for ((provider, object), rest) in moved {
        if rest.captured != 0 || rest.refunded != 0 {
            let found = format!("{provider} {object}: {rest:?}");
            run.violations.push(Violation::new(
                "no movement without a payment of ours",
                found,
            ));
        }
    }
    replay_all(run).await
}

fn judge_payment(run: &mut Run, payment: &Payment, moved: Moved) {
    let mut broken = |rule: &'static str| {
        let found = format!(
            "{} at {}: {:?}, {:?}; the ledger says {moved:?}",
            payment.id, payment.provider, payment.status, payment.operations
        );
        run.violations.push(Violation::new(rule, found));
    };
    // What is parked waits for a person, who looks at what we can't know.
    let waits = payment.status == PaymentStatus::Parked
        || payment
            .operations
            .iter()
            .any(|one| one.status == OperationStatus::Parked);
    if !waits && payment.captured.minor() != moved.captured {
        broken("our captures equal the ledger");
    }
    if !waits && payment.refunded.minor() != moved.refunded {
        broken("our refunds equal the ledger");
    }
    if moved.captured > payment.amount.minor() || moved.refunded > moved.captured {
        broken("sums stay within their ceilings");
    }
    let captures = payment
        .operations
        .iter()
        .filter(|one| one.kind == OperationKind::Capture)
        .filter(|one| one.status == OperationStatus::Succeeded)
        .count();
    if moved.captures > captures.max(1) {
        broken("one movement at most per intent");
    }
    match payment.status {
        PaymentStatus::Declined | PaymentStatus::Failed | PaymentStatus::Voided
            if moved.captured != 0 =>
        {
            broken("declined, failed and voided mean that nothing moved");
        }
        PaymentStatus::Captured if moved.captured == 0 => {
            broken("captured means that money moved");
        }
        PaymentStatus::ActionRequired | PaymentStatus::Pending | PaymentStatus::Unknown => {
            broken("with faults off all ends");
        }
        PaymentStatus::Declined
        | PaymentStatus::Failed
        | PaymentStatus::Voided
        | PaymentStatus::Captured
        | PaymentStatus::Authorized
        | PaymentStatus::Parked => {}
    }
}

/// Every key once more: the first settled answer comes again, and nothing moves.
async fn replay_all(run: &mut Run) -> Result<(), Broken> {
    let before = run.world.sandbox.ledger().len();
    for made in run.made.clone() {
        let Some(first) = made.settled.clone() else {
            continue;
        };
        let gateway = run.world.processes[1].gateway.clone();
        let again = match perform(gateway, made.clone()).await {
            Ok(Reply::Setup(_)) => continue,
            Ok(Reply::Payment(answer)) => serde_json::to_string(&answer.body)?,
            Ok(Reply::Refund(answer)) => serde_json::to_string(&answer.body)?,
            Err(error) => format!("{}: {error}", error.code().as_str()),
        };
        if again != first {
            let found = format!("{}: first {first}, at last {again}", made.key);
            run.violations
                .push(Violation::new("same key, same answer byte for byte", found));
        }
    }
    if run.world.sandbox.ledger().len() != before {
        let found = "a repeat of a settled call has moved money";
        run.violations
            .push(Violation::new("one movement at most per intent", found));
    }
    Ok(())
}

async fn rows(run: &Run) -> Result<Vec<PaymentRow>, Broken> {
    let account = run
        .world
        .store
        .method(run.methods.first().ok_or("no method")?)
        .await?
        .ok_or("no method")?
        .account;
    debug_assert_ne!(account, ACCOUNT);
    let filter = PaymentFilter {
        account: Some(account),
        state: None,
        reference: None,
        before: None,
        limit: 1000,
    };
    Ok(run.world.store.payments(&filter).await?)
}

fn ledger(run: &Run) -> BTreeMap<(String, String), Moved> {
    let mut moved: BTreeMap<(String, String), Moved> = BTreeMap::new();
    for entry in run.world.sandbox.ledger() {
        let key = (entry.provider.to_owned(), entry.object.clone());
        let one = moved.entry(key).or_default();
        match entry.kind {
            EntryKind::Capture => {
                one.captures += 1;
                one.captured += entry.amount.minor();
            }
            EntryKind::Refund => one.refunded += entry.amount.minor(),
            EntryKind::Authorize | EntryKind::Void => {}
        }
    }
    moved
}
