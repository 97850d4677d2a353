//! Each judge is shown a world that is broken, and must name what is broken.

use std::sync::Arc;

use bytes::Bytes;
use cardless::store::{OperationState, PaymentState};
use cardless_contract::{Currency, Money, Timestamp};
use cardless_sandbox::{EntryKind, Provider};

use super::*;
use crate::arrival;
use crate::network::Network;
use crate::output::Output;
use crate::plan::{Call, Step, operation_named};
use crate::run::{Arrival, run};
use crate::seam::Mark;
use crate::strike::Witness;
use crate::switch::Switch;
use crate::world::World;

/// A seed without meaning; the schedule is written out.
const SEED: u64 = 1;

fn pay(method: usize, manual: bool, reference: u64) -> Step {
    let call = Call::Pay {
        account: 0,
        method,
        minor: 2000,
        currency: 0,
        manual,
        customer: false,
        reference,
    };
    Step::Call(0, call)
}

/// A payment that is taken and partly given back, one that is held and captured, one that is
/// declined, and one of which nobody hears for a while before it is declined too.
fn calm() -> Evidence {
    let fault = |kind, times| Step::Fault {
        provider: 1,
        operation: operation_named(1, "POST /v2/checkout/orders/*"),
        kind,
        times,
    };
    let steps = [
        pay(1, false, 0),
        Step::Call(
            0,
            Call::Refund {
                payment: 0,
                percent: 50,
            },
        ),
        pay(0, true, 1),
        Step::Call(
            1,
            Call::Capture {
                payment: 1,
                percent: 100,
                last: true,
            },
        ),
        fault(6, 1),
        pay(1, false, 2),
        fault(1, 1),
        pay(1, false, 3),
        fault(6, 3),
        Step::Call(0, Call::Again { call: 0 }),
        Step::Call(0, Call::Stranger { object: 0, verb: 0 }),
        Step::Reconcile(0),
        Step::Advance(4000),
        Step::Reconcile(0),
    ];
    let outcome = run(SEED, &steps).unwrap();
    assert_eq!(outcome.violations, [], "{:#?}", outcome.trace);
    outcome.evidence
}

/// A payment and a refund that are parked, since nobody answers for days, and a method that is revoked.
fn waiting() -> Evidence {
    let fault = |name, kind, times| Step::Fault {
        provider: 1,
        operation: operation_named(1, name),
        kind,
        times,
    };
    let refund = Call::Refund {
        payment: 0,
        percent: 50,
    };
    let mut steps = vec![
        pay(1, false, 0),
        fault("POST /v2/checkout/orders/*", 3, 1),
        fault("POST /v2/payments/captures/*/refund", 3, 1),
        fault("GET /v2", 1, 1000),
        fault("POST /v2/checkout/orders/*", 1, 1000),
        fault("POST /v2/payments/captures/*/refund", 1, 1000),
        pay(1, false, 1),
        Step::Call(0, refund),
        Step::Call(0, Call::Revoke { method: 2 }),
    ];
    for _ in 0..12 {
        steps.extend([Step::Advance(90_000), Step::Reconcile(0)]);
    }
    let outcome = run(SEED, &steps).unwrap();
    assert_eq!(outcome.violations, [], "{:#?}", outcome.trace);
    let figures = outcome.figures;
    let people = [figures.payments_for_people, figures.operations_for_people];
    assert_eq!(
        people.map(|of| (of.parked, of.left, of.remain)),
        [(1, 1, 0); 2]
    );
    assert_eq!(figures.revoked, 1);
    outcome.evidence
}

/// Which invariants the judges name once the evidence is changed.
fn named(change: impl FnOnce(&mut Evidence)) -> BTreeSet<Invariant> {
    let mut evidence = calm();
    change(&mut evidence);
    let violations = judge(&evidence, &mut Figures::default());
    violations.into_iter().map(|one| one.invariant).collect()
}

fn assert_named(invariant: Invariant, change: impl FnOnce(&mut Evidence)) {
    let named = named(change);
    assert!(
        named.contains(&invariant),
        "{invariant:?} is not in {named:?}"
    );
}

fn ended_as(evidence: &Evidence, state: PaymentState) -> PaymentRow {
    let mut rows = evidence.payments.iter().map(|(row, _)| row);
    rows.find(|row| row.state == state).unwrap().clone()
}

/// The ledger gets a movement of a payment, like the first one of its kind.
fn plant(evidence: &mut Evidence, kind: EntryKind, of: &PaymentRow) {
    let mut entries = evidence.ledger.iter();
    let mut entry = entries.find(|one| one.kind == kind).unwrap().clone();
    entry.provider = match of.provider.as_str() {
        "paypal" => "paypal",
        "postfinance" => "postfinance",
        _ => "aduno",
    };
    entry.object = of.reservation.clone().unwrap();
    entry.amount = of.amount;
    evidence.ledger.push(entry);
}

fn first_of(evidence: &mut Evidence, kind: EntryKind) -> &mut Entry {
    let mut entries = evidence.ledger.iter_mut();
    entries.find(|one| one.kind == kind).unwrap()
}

#[test]
fn a_calm_world_breaks_nothing() {
    assert_eq!(named(|_| {}), BTreeSet::new());
    let evidence = calm();
    assert_eq!(ended_as(&evidence, PaymentState::Declined).captured, 0);
    assert!(!evidence.found.repeats.is_empty() && !evidence.found.strangers.is_empty());
}

#[test]
fn a_second_capture_breaks_i1() {
    assert_named(Invariant::I1, |evidence| {
        let row = ended_as(evidence, PaymentState::Captured);
        plant(evidence, EntryKind::Capture, &row);
    });
    assert_named(Invariant::I1, |evidence| {
        first_of(evidence, EntryKind::Refund).object = "nobody's".to_owned();
    });
    assert_named(Invariant::I1, |evidence| {
        let hold = first_of(evidence, EntryKind::Authorize).clone();
        evidence.ledger.push(hold);
    });
}

#[test]
fn another_amount_or_currency_or_none_breaks_i2() {
    assert_named(Invariant::I2, |evidence| {
        let entry = first_of(evidence, EntryKind::Capture);
        entry.amount = Money::new(Currency::from_code("EUR").unwrap(), 2000).unwrap();
    });
    assert_named(Invariant::I2, |evidence| {
        let entry = first_of(evidence, EntryKind::Capture);
        entry.amount = Money::new(entry.amount.currency(), 1999).unwrap();
    });
    assert_named(Invariant::I2, |evidence| {
        evidence.ledger.retain(|one| one.kind != EntryKind::Refund);
    });
}

#[test]
fn a_declined_payment_that_moved_breaks_i3() {
    assert_named(Invariant::I3, |evidence| {
        let row = ended_as(evidence, PaymentState::Declined);
        plant(evidence, EntryKind::Capture, &row);
    });
}

#[test]
fn more_than_was_captured_breaks_i4() {
    assert_named(Invariant::I4, |evidence| {
        let entry = first_of(evidence, EntryKind::Refund);
        entry.amount = Money::new(entry.amount.currency(), 2001).unwrap();
    });
    assert_named(Invariant::I4, |evidence| {
        // Given back before it was taken.
        evidence.ledger.reverse();
    });
}

#[test]
fn a_request_without_intent_or_mark_breaks_i5() {
    assert_named(Invariant::I5, |evidence| {
        evidence.sent.last_mut().unwrap().intent = None;
    });
    for mark in [Mark::None, Mark::SentAt(Timestamp::from_seconds(1))] {
        assert_named(Invariant::I5, |evidence| {
            let sent = evidence.sent.last_mut().unwrap();
            sent.intent.as_mut().unwrap().mark = mark;
        });
    }
}

/// Not only in the evidence: a request that a wrong gateway sends is seen where it leaves.
#[test]
fn the_seam_sees_a_request_that_nobody_has_written_down() {
    let mut evidence = calm();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    evidence.sent = runtime.unwrap().block_on(a_rogue());
    let violations = judge(&evidence, &mut Figures::default());
    assert!(violations.iter().any(|one| one.invariant == Invariant::I5));
}

/// What leaves when something sends an order that is no intent of ours.
async fn a_rogue() -> Vec<Sent> {
    let world = World::new(SEED, Output::default()).unwrap();
    let network = Network {
        switch: Switch::new(SEED),
        seam: world.seam.clone(),
        output: world.output.clone(),
        provider: Witness {
            seam: world.seam.clone(),
            sandbox: world.sandbox.clone(),
            provider: Provider::PayPal,
        },
    };
    let request = http::Request::post("http://127.0.0.1:9101/v2/checkout/orders")
        .header("paypal-request-id", "aaaaaaaaaaaaaaaaaaaa-r")
        .body(Bytes::from_static(b"{}"))
        .unwrap();
    let client: Arc<dyn cardless_transport::HttpClient> = Arc::new(network);
    drop(client.send(request).await);
    world.seam.sent()
}

#[test]
fn another_answer_to_the_same_key_breaks_i6() {
    assert_named(Invariant::I6, |evidence| {
        evidence.found.repeats[0].again.push(' ');
    });
    assert_named(Invariant::I6, |evidence| {
        evidence.found.misused[0].1 = "pay_x is Captured".to_owned();
    });
}

#[test]
fn another_end_by_another_order_of_webhooks_breaks_i7() {
    let mut evidence = calm();
    let first = arrival::end_of(&evidence);
    let same = [
        (Arrival::InOrder, first.clone()),
        (Arrival::Never, first.clone()),
    ];
    assert_eq!(arrival::judge(&same, &mut Figures::default()), []);
    evidence.payments[0].0.state = PaymentState::Failed;
    let ends = [
        (Arrival::InOrder, first),
        (Arrival::Never, arrival::end_of(&evidence)),
    ];
    let violations = arrival::judge(&ends, &mut Figures::default());
    assert_eq!(violations[0].invariant, Invariant::I7);
}

#[test]
fn a_final_state_that_changes_breaks_i8() {
    for (state, captured) in [("failed", 2000), ("captured", 0)] {
        assert_named(Invariant::I8, |evidence| {
            let row = ended_as(evidence, PaymentState::Captured);
            let glimpses = evidence.history.get_mut(&row.id).unwrap();
            let mut last = *glimpses.last().unwrap();
            (last.state, last.captured) = (state, captured);
            glimpses.push(last);
        });
    }
}

#[test]
fn an_unknown_outcome_that_is_shown_as_failed_and_moves_breaks_i9() {
    assert_named(Invariant::I9, |evidence| {
        let row = ended_as(evidence, PaymentState::Declined);
        let glimpses = evidence.history.get_mut(&row.id).unwrap();
        glimpses[0].state = "unknown";
        plant(evidence, EntryKind::Capture, &row);
    });
    assert_named(Invariant::I9, |evidence| {
        let refunds = |row: &&mut OperationRow| row.kind.as_str() == "refund";
        let mut operations = evidence.payments.iter_mut().flat_map(|(_, of)| of);
        operations.find(refunds).unwrap().state = OperationState::Failed;
    });
}

#[test]
fn something_that_stays_open_breaks_i10() {
    assert_named(Invariant::I10, |evidence| {
        evidence.payments[0].0.state = PaymentState::Unknown;
    });
    assert_named(Invariant::I10, |evidence| {
        evidence.found.open = Some("one is open".to_owned());
    });
}

#[test]
fn books_that_differ_break_i11() {
    assert_named(Invariant::I11, |evidence| {
        let captured = |row: &PaymentRow| row.state == PaymentState::Captured;
        let mut rows = evidence.payments.iter_mut().map(|(row, _)| row);
        rows.find(|row| captured(row)).unwrap().captured -= 1;
    });
    assert_named(Invariant::I11, |evidence| {
        evidence.differences.push("one differs".to_owned());
    });
}

#[test]
fn a_token_that_crosses_accounts_breaks_i12() {
    assert_named(Invariant::I12, |evidence| {
        let mut sent = evidence.sent.iter_mut();
        let carries = sent.find(|one| !one.owners.is_empty()).unwrap();
        carries.owners = BTreeSet::from(["another".to_owned()]);
    });
    assert_named(Invariant::I12, |evidence| {
        let owners = evidence.tokens.values_mut().next().unwrap();
        owners.insert("another".to_owned());
    });
    assert_named(Invariant::I12, |evidence| {
        evidence.found.strangers[0][0].push_str(" It is somebody else's.");
    });
}

#[test]
fn a_secret_that_comes_out_breaks_i13() {
    for secret in calm().secrets {
        assert_named(Invariant::I13, |evidence| {
            evidence.output.push_str(&secret.1);
        });
    }
}

/// Not only in the evidence: what is logged is heard.
#[test]
fn a_log_line_with_a_secret_is_heard() {
    let output = Output::default();
    output.secret("a provider token", "planted-token");
    let listening = tracing::subscriber::set_default(output.clone());
    tracing::trace!(value = "planted-token", "a line");
    drop(listening);
    let mut evidence = calm();
    (evidence.output, evidence.secrets) = (output.text(), output.secrets());
    let violations = judge(&evidence, &mut Figures::default());
    assert_eq!(violations[0].invariant, Invariant::I13);
}

#[test]
fn an_end_without_its_event_or_with_two_breaks_i14() {
    for kind in ["payment.captured", "refund.succeeded", "setup.completed"] {
        assert_named(Invariant::I14, |evidence| {
            evidence.events.retain(|event| event.kind != kind);
        });
    }
    assert_named(Invariant::I14, |evidence| {
        let refund = |event: &&EventRow| event.kind == "refund.succeeded";
        let again = evidence.events.iter().find(refund).unwrap().clone();
        evidence.events.push(again);
    });
    assert_named(Invariant::I14, |evidence| {
        let captured = |event: &&EventRow| event.kind == "payment.captured";
        let again = evidence.events.iter().find(captured).unwrap().clone();
        evidence.events.push(again);
    });
    assert_named(Invariant::I14, |evidence| {
        // A void tells of no capture.
        let declined = ended_as(evidence, PaymentState::Declined).id;
        let own = |event: &EventRow| event.object == declined;
        let event = evidence.events.iter_mut().find(|one| own(one)).unwrap();
        event.kind = "void.succeeded".to_owned();
    });
    assert_named(Invariant::I14, |evidence| {
        let captured = |event: &&EventRow| event.kind == "payment.captured";
        let mut other = evidence.events.iter().find(captured).unwrap().clone();
        other.kind = "payment.failed".to_owned();
        evidence.events.push(other);
    });
}

#[test]
fn a_case_for_a_person_or_a_revocation_that_is_not_told_or_twice_breaks_i14() {
    let evidence = waiting();
    for kind in ["payment.parked", "refund.parked", "payment_method.revoked"] {
        let of_kind = |event: &EventRow| event.kind == kind;
        let mut lost = evidence.clone();
        lost.events.retain(|event| !of_kind(event));
        let mut twice = evidence.clone();
        let event = twice.events.iter().find(|event| of_kind(event)).unwrap();
        twice.events.push(event.clone());
        let mut of_another = evidence.clone();
        let mut events = of_another.events.iter_mut();
        events.find(|event| of_kind(event)).unwrap().object = "nobody's".to_owned();
        for wrong in [lost, twice, of_another] {
            let violations = judge(&wrong, &mut Figures::default());
            let [violation] = violations.as_slice() else {
                panic!("{kind}: {violations:?}");
            };
            assert_eq!(violation.invariant, Invariant::I14, "{kind}");
        }
    }
}
