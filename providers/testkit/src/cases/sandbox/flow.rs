//! What the cases are made of: one step each, as the gateway would take it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cardless_contract::{
    CaptureMode, CaptureRequest, CommitRequest, Found, IdempotencyKey, LookupRequest, Money,
    NoSeal, ObjectId, Operation, OperationKind, OperationLookup, Outcome, Payment, PaymentPhase,
    PaymentRequest, ProviderToken, Reference, RefundRequest, Repeat, ReservationId, Result,
    SetupCompletion, SetupProgress, SetupStarted, VoidRequest,
};
use cardless_transport::Request;

use super::{Decision, Fixture, Kind};
use crate::call::{charge, money, setup};

/// How often an open question is asked before a case gives up.
const MAX_QUESTIONS: u32 = 5;
/// How far the clock moves between two questions, in seconds.
const BETWEEN_QUESTIONS_SECONDS: u64 = 61;

/// The headers that hold a provider's idempotency key.
const KEY_HEADERS: [&str; 2] = ["paypal-request-id", "idempotency-key"];

/// One payment on its way, with the names that it has got so far.
#[derive(Debug, Clone)]
pub(super) struct Paying {
    pub(super) token: ProviderToken,
    pub(super) request: PaymentRequest,
    pub(super) key: IdempotencyKey,
}

/// A charge that the provider has carried out.
#[derive(Debug, Clone)]
pub(super) struct Paid {
    pub(super) request: PaymentRequest,
    pub(super) payment: Payment,
}

/// A capture, void or refund.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) kind: OperationKind,
    pub(super) paid: Paid,
    pub(super) key: IdempotencyKey,
    pub(super) reference: Reference,
    pub(super) amount: Money,
    pub(super) last: bool,
    /// What the same kind has moved before.
    pub(super) before: Money,
}

pub(super) fn chf(minor: i64) -> Money {
    money("CHF", minor)
}

/// A name that no other has: letters only, so that it passes for no number.
pub(super) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut name = String::from("ref");
    for _ in 0..6 {
        let letter = u8::try_from(number % 26).unwrap();
        name.push(char::from(b'a' + letter));
        number /= 26;
    }
    name
}

fn key(name: &str) -> IdempotencyKey {
    IdempotencyKey::new(format!("{name}-step")).unwrap()
}

/// Begins a setup and gives what a customer needs.
pub(super) async fn begin(fixture: &dyn Fixture) -> (Reference, IdempotencyKey, SetupStarted) {
    let name = unique();
    let request = setup(&name);
    let started = fixture.provider().begin_setup(&key(&name), &request).await;
    match started.unwrap() {
        Outcome::Done(started) => (request.reference, key(&name), started),
        other => failed("a setup was not begun", &other),
    }
}

/// Asks about a setup until it is neither waiting nor pending.
pub(super) async fn complete(
    fixture: &dyn Fixture,
    key: &IdempotencyKey,
    request: &SetupCompletion,
) -> SetupProgress {
    let mut progress = fixture
        .provider()
        .complete_setup(key, request)
        .await
        .unwrap();
    for _ in 0..MAX_QUESTIONS {
        if !matches!(progress, SetupProgress::Pending) {
            break;
        }
        fixture.advance(Duration::from_secs(BETWEEN_QUESTIONS_SECONDS));
        progress = fixture
            .provider()
            .complete_setup(key, request)
            .await
            .unwrap();
    }
    progress
}

/// Links a method, the customer agreeing.
pub(super) async fn link(fixture: &dyn Fixture) -> ProviderToken {
    let (reference, key, started) = begin(fixture).await;
    fixture.decide(&started.redirect, Decision::Approve).await;
    let request = SetupCompletion {
        setup: started.setup,
        reference,
        payment: None,
    };
    match complete(fixture, &key, &request).await {
        SetupProgress::Linked(token) => token,
        other => failed("a method was not linked", &other),
    }
}

impl Paying {
    /// A charge by the merchant.
    pub(super) fn new(token: &ProviderToken, amount: Money, capture: CaptureMode) -> Self {
        let name = unique();
        Self {
            token: token.clone(),
            request: charge(&name, amount, capture),
            key: key(&name),
        }
    }

    pub(super) async fn reserve(&self, fixture: &dyn Fixture) -> Result<Outcome<ReservationId>> {
        let provider = fixture.provider();
        provider
            .reserve(&self.key.with("r"), &self.token, &self.request, &NoSeal)
            .await
    }

    pub(super) async fn commit(
        &self,
        fixture: &dyn Fixture,
        reservation: &ReservationId,
    ) -> Result<Outcome<Payment>> {
        let request = CommitRequest {
            reservation: reservation.clone(),
            payment: self.request.clone(),
        };
        fixture
            .provider()
            .commit(&self.key.with("c"), &self.token, &request)
            .await
    }

    pub(super) async fn lookup(
        &self,
        fixture: &dyn Fixture,
        reservation: &ReservationId,
    ) -> Result<Outcome<Payment>> {
        let request = LookupRequest {
            reservation: reservation.clone(),
            reference: self.request.reference.clone(),
            amount: self.request.amount,
        };
        fixture.provider().lookup(&request).await
    }

    /// Reserve and commit, when nothing goes wrong.
    pub(super) async fn pay(&self, fixture: &dyn Fixture) -> Paid {
        let reservation = match self.reserve(fixture).await.unwrap() {
            Outcome::Done(reservation) => reservation,
            other => failed("nothing was reserved", &other),
        };
        let outcome = self.commit(fixture, &reservation).await.unwrap();
        self.conclude(fixture, &reservation, outcome).await
    }

    /// Waits for an outcome to become final, and for the wanted phase.
    pub(super) async fn conclude(
        &self,
        fixture: &dyn Fixture,
        reservation: &ReservationId,
        mut outcome: Outcome<Payment>,
    ) -> Paid {
        for _ in 0..MAX_QUESTIONS {
            match outcome {
                Outcome::Done(payment) => {
                    assert_eq!(payment.phase, self.wanted(), "{payment:?}");
                    return Paid {
                        request: self.request.clone(),
                        payment,
                    };
                }
                Outcome::Pending(_) => {}
                other => failed("a charge was not carried out", &other),
            }
            fixture.advance(Duration::from_secs(BETWEEN_QUESTIONS_SECONDS));
            outcome = self.lookup(fixture, reservation).await.unwrap();
        }
        failed("a charge stays open", &outcome)
    }

    pub(super) const fn wanted(&self) -> PaymentPhase {
        match self.request.capture {
            CaptureMode::Automatic => PaymentPhase::Captured,
            CaptureMode::Manual => PaymentPhase::Authorized,
        }
    }

    /// After an unknown reserve: by the provider's key, or by asking for the reference.
    pub(super) async fn resolve_reserve(&self, fixture: &dyn Fixture) -> ReservationId {
        let capabilities = fixture.provider().capabilities().clone();
        if capabilities.repeat_reserve == Repeat::AfterQuestion {
            fixture.advance(capabilities.longest_delay);
            match fixture
                .provider()
                .find(&self.request.reference)
                .await
                .unwrap()
            {
                Found::Yes(reservation) => return reservation,
                Found::No => {}
                Found::CannotTell => {
                    failed("neither a key nor an answer", &Found::<()>::CannotTell)
                }
            }
        }
        match self.reserve(fixture).await.unwrap() {
            Outcome::Done(reservation) => reservation,
            other => failed("a repeat of reserve", &other),
        }
    }

    /// After an unknown commit: read by the stored id, and commit again if it is still reserved.
    pub(super) async fn resolve_commit(&self, fixture: &dyn Fixture, id: &ReservationId) -> Paid {
        fixture.advance(fixture.provider().capabilities().longest_delay);
        for _ in 0..MAX_QUESTIONS {
            match self.lookup(fixture, id).await.unwrap() {
                Outcome::Done(payment) if payment.phase == self.wanted() => {
                    return Paid {
                        request: self.request.clone(),
                        payment,
                    };
                }
                Outcome::Done(_) => {
                    let outcome = self.commit(fixture, id).await.unwrap();
                    return self.conclude(fixture, id, outcome).await;
                }
                Outcome::Pending(_) => {
                    fixture.advance(Duration::from_secs(BETWEEN_QUESTIONS_SECONDS));
                }
                other => failed("a read after an unknown commit", &other),
            }
        }
        failed("a commit stays open", id)
    }
}

/// Links, and charges an amount.
pub(super) async fn paid(fixture: &dyn Fixture, amount: Money, capture: CaptureMode) -> Paid {
    let token = link(fixture).await;
    Paying::new(&token, amount, capture).pay(fixture).await
}

impl Step {
    pub(super) fn new(kind: OperationKind, paid: &Paid, amount: Money) -> Self {
        let name = unique();
        Self {
            kind,
            paid: paid.clone(),
            key: key(&name),
            reference: Reference::new(name).unwrap(),
            amount,
            last: true,
            before: Money::zero(amount.currency()),
        }
    }

    /// Carries it out.
    pub(super) async fn send(&self, fixture: &dyn Fixture) -> Result<Outcome<Operation>> {
        let provider = fixture.provider();
        match self.kind {
            OperationKind::Capture => provider.capture(&self.key, &self.capture()).await,
            OperationKind::Void => provider.void(&self.key, &self.void()).await,
            OperationKind::Refund => provider.refund(&self.key, &self.refund()).await,
        }
    }

    /// Carries it out, when nothing goes wrong.
    pub(super) async fn done(&self, fixture: &dyn Fixture) -> Operation {
        match self.send(fixture).await.unwrap() {
            Outcome::Done(operation) => self.checked(operation),
            Outcome::Pending(_) => self.resolve(fixture, None).await,
            other => failed("an operation was not carried out", &other),
        }
    }

    fn checked(&self, operation: Operation) -> Operation {
        if let (Some(amount), true) = (operation.amount, self.kind != OperationKind::Void) {
            assert_eq!(amount, self.amount);
        }
        operation
    }

    /// Asks whether it is carried out.
    pub(super) async fn find(
        &self,
        fixture: &dyn Fixture,
        id: Option<ObjectId>,
    ) -> Result<Found<Outcome<Operation>>> {
        let request = OperationLookup {
            kind: self.kind,
            reservation: self.paid.payment.reservation.clone(),
            authorization: self.paid.payment.authorization.clone(),
            id,
            payment_reference: self.paid.request.reference.clone(),
            reference: self.reference.clone(),
            amount: self.amount,
            settled_before: self.before,
        };
        fixture.provider().find_operation(&self.key, &request).await
    }

    /// After an unknown outcome: ask, and send again under the same key where that is allowed.
    pub(super) async fn resolve(&self, fixture: &dyn Fixture, id: Option<ObjectId>) -> Operation {
        let capabilities = fixture.provider().capabilities().clone();
        let repeat = match self.kind {
            OperationKind::Capture => capabilities.repeat_capture,
            OperationKind::Void => capabilities.repeat_void,
            OperationKind::Refund => capabilities.repeat_refund,
        };
        fixture.advance(
            capabilities
                .longest_delay
                .max(Duration::from_secs(BETWEEN_QUESTIONS_SECONDS)),
        );
        match self.find(fixture, id).await.unwrap() {
            Found::Yes(Outcome::Done(operation)) => return self.checked(operation),
            Found::Yes(other) => failed("an operation that is there", &other),
            Found::No => {}
            Found::CannotTell if repeat != Repeat::AfterQuestion => {}
            Found::CannotTell => failed("neither a key nor an answer", &self.kind),
        }
        match self.send(fixture).await.unwrap() {
            Outcome::Done(operation) => self.checked(operation),
            other => failed("a repeat of an operation", &other),
        }
    }

    fn capture(&self) -> CaptureRequest {
        CaptureRequest {
            reservation: self.paid.payment.reservation.clone(),
            authorization: self.paid.payment.authorization.clone(),
            payment_reference: self.paid.request.reference.clone(),
            reference: self.reference.clone(),
            amount: self.amount,
            authorized: self.paid.request.amount,
            last: self.last,
        }
    }

    fn void(&self) -> VoidRequest {
        VoidRequest {
            reservation: self.paid.payment.reservation.clone(),
            authorization: self.paid.payment.authorization.clone(),
            payment_reference: self.paid.request.reference.clone(),
            authorized: self.paid.request.amount,
        }
    }

    fn refund(&self) -> RefundRequest {
        RefundRequest {
            reservation: self.paid.payment.reservation.clone(),
            capture: self
                .paid
                .payment
                .captures
                .first()
                .and_then(|capture| capture.id.clone()),
            payment_reference: self.paid.request.reference.clone(),
            reference: self.reference.clone(),
            amount: self.amount,
        }
    }
}

/// What has moved, of one kind, in the order of the ledger.
pub(super) fn moved(fixture: &dyn Fixture, kind: Kind) -> Vec<Money> {
    let movements = fixture.movements().into_iter();
    movements
        .filter(|movement| movement.kind == kind)
        .map(|movement| movement.amount)
        .collect()
}

/// Ends a case: nothing undocumented was exchanged, and what went out under one key was one
/// request.
pub(super) fn documented(fixture: &dyn Fixture) {
    let mut keyed: Vec<(String, Request)> = Vec::new();
    for request in fixture.sent() {
        let Some(key) = KEY_HEADERS
            .iter()
            .find_map(|name| request.headers().get(*name))
        else {
            continue;
        };
        let key = format!("{} {}", request.uri().path(), key.to_str().unwrap());
        match keyed.iter().find(|(known, _)| *known == key) {
            Some((_, first)) => assert_eq!(first.body(), request.body(), "two bodies under {key}"),
            None => keyed.push((key, request)),
        }
    }

    let faults: Vec<String> = fixture.faults().iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "not documented:\n{}", faults.join("\n"));
}

#[expect(clippy::panic, reason = "a case fails by a panic")]
pub(super) fn failed(what: &str, found: &impl std::fmt::Debug) -> ! {
    panic!("{what}: {found:?}")
}
