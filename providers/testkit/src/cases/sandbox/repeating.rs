use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{
    BodySeal, CaptureMode, Delivery, ErrorKind, OperationKind, Outcome, ProviderError,
    ProviderName, Repeat, SetupCompletion, SetupProgress,
};

use super::flow::{Paid, Paying, Step as Operation, begin, chf, documented, failed, link, moved};
use super::paying::reserved;
use super::{Decision, Fault, Fixture, Kind, Step};

/// The same step under the same key, sent again although nothing went wrong.
pub async fn repeats_move_nothing_twice(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), CaptureMode::Manual);
    let first = reserved(paying.reserve(fixture).await.unwrap());
    if fixture.provider().capabilities().repeat_reserve != Repeat::AfterQuestion {
        assert_eq!(reserved(paying.reserve(fixture).await.unwrap()), first);
    }
    let outcome = paying.commit(fixture, &first).await.unwrap();
    let paid = paying.conclude(fixture, &first, outcome).await;
    // The provider's own guard, or the adapter's read before it, makes a second commit harmless.
    let again = paying.commit(fixture, &first).await;
    assert!(harmless(&again), "{again:?}");
    assert_eq!(moved(fixture, Kind::Authorize), [chf(4990)]);

    let capture = Operation::new(OperationKind::Capture, &paid, chf(4990));
    capture.done(fixture).await;
    let again = capture.send(fixture).await;
    assert!(harmless(&again), "{again:?}");
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);

    let read = paying.lookup(fixture, &first).await.unwrap();
    let Outcome::Done(payment) = read else {
        failed("a captured payment", &read)
    };
    let paid = Paid {
        request: paying.request.clone(),
        payment,
    };
    let refund = Operation::new(OperationKind::Refund, &paid, chf(1000));
    refund.done(fixture).await;
    let again = refund.send(fixture).await;
    assert!(harmless(&again), "{again:?}");
    assert_eq!(moved(fixture, Kind::Refund), [chf(1000)]);
    documented(fixture);
}

/// What the journal does not admit does not leave, and what it admits is what leaves.
pub async fn the_seal_sees_what_is_sent(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let seal = Seal::default();
    let paying = Paying::new(&token, chf(4990), CaptureMode::Manual);
    let key = paying.key.with("r");
    let provider = fixture.provider();
    let first = provider.reserve(&key, &token, &paying.request, &seal).await;
    reserved(first.unwrap());
    let admitted = seal.admitted.lock().unwrap().clone();
    let Some(bytes) = admitted else { return };
    let sent = fixture.sent();
    assert!(
        sent.iter().any(|request| *request.body() == bytes),
        "other bytes left"
    );

    let before = fixture.movements();
    let refusing = Seal {
        refuses: true,
        ..Seal::default()
    };
    let other = Paying::new(&token, chf(4990), CaptureMode::Manual);
    let error = provider
        .reserve(&other.key, &token, &other.request, &refusing)
        .await
        .unwrap_err();
    assert_eq!(
        (error.delivery(), error.kind()),
        (Delivery::NotSent, ErrorKind::RepeatRefused)
    );
    assert_eq!(fixture.movements(), before);
    documented(fixture);
}

#[derive(Debug, Default)]
struct Seal {
    refuses: bool,
    admitted: Mutex<Option<Bytes>>,
}

#[async_trait]
impl BodySeal for Seal {
    async fn admit(&self, bytes: &[u8]) -> cardless_contract::Result<()> {
        if self.refuses {
            let name = ProviderName::new("journal").unwrap();
            return Err(ProviderError::new(
                name,
                ErrorKind::RepeatRefused,
                Delivery::NotSent,
            ));
        }
        *self.admitted.lock().unwrap() = Some(Bytes::copy_from_slice(bytes));
        Ok(())
    }
}

/// Done again, or an honest "I don't know".
fn harmless<T>(result: &Result<Outcome<T>, ProviderError>) -> bool {
    match result {
        Ok(Outcome::Done(_) | Outcome::Pending(_)) => true,
        Ok(_) => false,
        Err(error) => error.delivery() == Delivery::Unknown,
    }
}

/// Carried out, and the connection broke.
pub async fn a_lost_reply_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::ExecuteThenDrop, Delivery::Unknown).await;
}

/// Carried out, and a 500.
pub async fn a_server_error_after_the_act_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::ExecuteThen500, Delivery::Unknown).await;
}

/// Carried out, and half of the answer.
pub async fn half_a_reply_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::HalfBody, Delivery::Unknown).await;
}

/// Not carried out, and the connection broke: the adapter can't know.
pub async fn a_lost_request_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::DropBefore, Delivery::Unknown).await;
}

/// Not carried out, and no answer within the deadline.
pub async fn a_stalled_request_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::Stall, Delivery::Unknown).await;
}

/// Nobody listens: nothing has left, and the adapter says so.
pub async fn a_refused_connection_moves_once(fixture: &impl Fixture) {
    every_step(fixture, Fault::Refuse, Delivery::NotSent).await;
}

/// Each mutating step of the trait meets the fault once and is resolved as the gateway does it. In
/// the end each has moved once.
async fn every_step(fixture: &impl Fixture, fault: Fault, told: Delivery) {
    linking(fixture, fault, told).await;
    charging(fixture, fault, told, CaptureMode::Automatic).await;
    let paid = charging(fixture, fault, told, CaptureMode::Manual).await;
    operating(fixture, fault, told, OperationKind::Capture, &paid).await;
    let paid = charging(fixture, fault, told, CaptureMode::Automatic).await;
    operating(fixture, fault, told, OperationKind::Refund, &paid).await;
    let paid = charging(fixture, fault, told, CaptureMode::Manual).await;
    operating(fixture, fault, told, OperationKind::Void, &paid).await;
    revoking(fixture, fault, told).await;
    documented(fixture);
}

async fn linking(fixture: &impl Fixture, fault: Fault, told: Delivery) {
    fixture.inject(Step::BeginSetup, fault);
    let name = super::flow::unique();
    let key = cardless_contract::IdempotencyKey::new(name.clone()).unwrap();
    let request = crate::call::setup(&name);
    let lost = fixture.provider().begin_setup(&key, &request).await;
    failed_as(&lost, told, "begin_setup");

    let (reference, key, started) = begin(fixture).await;
    fixture.decide(&started.redirect, Decision::Approve).await;
    let request = SetupCompletion {
        setup: started.setup,
        reference,
        payment: None,
    };
    fixture.inject(Step::CompleteSetup, fault);
    let lost = fixture.provider().complete_setup(&key, &request).await;
    assert!(lost.is_err(), "complete_setup: {lost:?}");
    let linked = super::flow::complete(fixture, &key, &request).await;
    let SetupProgress::Linked(_) = linked else {
        failed("a setup after a lost reply", &linked)
    };
}

async fn charging(
    fixture: &impl Fixture,
    fault: Fault,
    told: Delivery,
    capture: CaptureMode,
) -> Paid {
    let before = fixture.movements().len();
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), capture);
    fixture.inject(Step::Reserve, fault);
    let lost = paying.reserve(fixture).await;
    failed_as(&lost, told, "reserve");
    let reservation = paying.resolve_reserve(fixture).await;

    // A manual charge whose reserve already holds sends nothing at its commit.
    let sends =
        capture == CaptureMode::Automatic || !fixture.provider().capabilities().reserve_holds;
    if sends {
        fixture.inject(Step::Commit, fault);
        let lost = paying.commit(fixture, &reservation).await;
        failed_as(&lost, told, "commit");
    }
    let paid = paying.resolve_commit(fixture, &reservation).await;
    let after: Vec<_> = fixture.movements().split_off(before);
    let count = |kind: Kind| {
        after
            .iter()
            .filter(|movement| movement.kind == kind)
            .count()
    };
    let captures = usize::from(capture == CaptureMode::Automatic);
    assert_eq!(count(Kind::Capture), captures, "after {fault:?}: {after:?}");
    assert!(count(Kind::Authorize) <= 1, "after {fault:?}: {after:?}");
    paid
}

async fn operating(
    fixture: &impl Fixture,
    fault: Fault,
    told: Delivery,
    kind: OperationKind,
    paid: &Paid,
) {
    let before = fixture.movements().len();
    let operation = Operation::new(kind, paid, chf(4990));
    let step = match kind {
        OperationKind::Capture => Step::Capture,
        OperationKind::Void => Step::Void,
        OperationKind::Refund => Step::Refund,
    };
    fixture.inject(step, fault);
    let lost = operation.send(fixture).await;
    failed_as(&lost, told, step_name(kind));
    operation.resolve(fixture, None).await;
    let after: Vec<_> = fixture.movements().split_off(before);
    assert_eq!(after.len(), 1, "{kind:?} after {fault:?}: {after:?}");
}

async fn revoking(fixture: &impl Fixture, fault: Fault, told: Delivery) {
    let token = link(fixture).await;
    fixture.inject(Step::Revoke, fault);
    let error = fixture.provider().revoke(&token).await.unwrap_err();
    assert_eq!(error.delivery(), told, "revoke: {error}");
    fixture.provider().revoke(&token).await.unwrap();
}

const fn step_name(kind: OperationKind) -> &'static str {
    match kind {
        OperationKind::Capture => "capture",
        OperationKind::Void => "void",
        OperationKind::Refund => "refund",
    }
}

/// The step failed, and the error says how far it got.
fn failed_as<T: std::fmt::Debug>(
    result: &Result<Outcome<T>, ProviderError>,
    told: Delivery,
    step: &str,
) {
    match result {
        Err(error) => assert_eq!(error.delivery(), told, "{step}: {error}"),
        Ok(outcome) => failed(step, outcome),
    }
}
