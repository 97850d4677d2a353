use std::time::Duration;

use cardless_contract::{
    CaptureMode, Delivery, ErrorKind, Found, HoldState, Initiator, Money, OperationKind, Outcome,
    Payment, PaymentPhase, ProviderError, Reference, ReservationId,
};

use super::flow::{
    Paid, Paying, Step as Operation, chf, documented, failed, link, moved, paid, unique,
};
use super::{Decision, Fault, Fixture, Kind, Step};
use crate::call::{RETURN_URL, money};

/// Longer than any of the providers holds an amount.
const LONGER_THAN_ANY_HOLD: Duration = Duration::from_secs(35 * 24 * 3600);

/// How long a pending call stays so, in seconds of the sandbox's clock.
const PENDING_SECONDS: u64 = 61;

/// One charge, one capture.
pub async fn an_automatic_charge_takes_once(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    assert_eq!(paid.payment.captured, chf(4990));
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);
    assert_eq!(moved(fixture, Kind::Refund), []);
    documented(fixture);
}

/// Before the commit nothing has moved, and there is a hold exactly where one is claimed.
pub async fn reserve_holds_what_it_claims(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), CaptureMode::Automatic);
    let reservation = reserved(paying.reserve(fixture).await.unwrap());
    let holds = fixture.provider().capabilities().reserve_holds;
    let held = if holds { vec![chf(4990)] } else { Vec::new() };
    assert_eq!(moved(fixture, Kind::Authorize), held);
    assert_eq!(moved(fixture, Kind::Capture), []);
    let phase = if holds {
        PaymentPhase::Authorized
    } else {
        PaymentPhase::Reserved
    };
    match paying.lookup(fixture, &reservation).await.unwrap() {
        Outcome::Done(payment) => assert_eq!(payment.phase, phase),
        other => failed("a read of a reservation", &other),
    }
    documented(fixture);
}

/// Authorize, then take all of it.
pub async fn a_manual_charge_is_captured_whole(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Manual).await;
    assert_eq!(moved(fixture, Kind::Capture), []);
    assert!(paid.payment.captured.is_zero());
    Operation::new(OperationKind::Capture, &paid, chf(4990))
        .done(fixture)
        .await;
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);
    assert_eq!(read(fixture, &paid).await.captured, chf(4990));
    documented(fixture);
}

/// Authorize, then take a part of it and release the rest.
pub async fn a_manual_charge_is_captured_in_part(fixture: &impl Fixture) {
    let claimed = fixture.provider().capabilities().partial_capture;
    let paid = paid(fixture, chf(4990), CaptureMode::Manual).await;
    let capture = Operation::new(OperationKind::Capture, &paid, chf(1990));
    if !claimed {
        return refused_unsent(fixture, &capture).await;
    }
    capture.done(fixture).await;
    assert_eq!(moved(fixture, Kind::Capture), [chf(1990)]);
    let payment = read(fixture, &paid).await;
    assert_eq!(
        (payment.phase, payment.captured),
        (PaymentPhase::Captured, chf(1990))
    );
    documented(fixture);
}

/// Authorize, then take it in parts, where that is claimed.
pub async fn a_manual_charge_is_captured_in_parts(fixture: &impl Fixture) {
    let claimed = fixture.provider().capabilities().several_captures;
    let paid = paid(fixture, chf(4990), CaptureMode::Manual).await;
    let mut first = Operation::new(OperationKind::Capture, &paid, chf(1990));
    first.last = false;
    if !claimed {
        return refused_unsent(fixture, &first).await;
    }
    first.done(fixture).await;
    let between = read(fixture, &paid).await;
    assert_eq!(
        (between.captured, between.hold),
        (chf(1990), HoldState::Alive)
    );
    let mut second = Operation::new(OperationKind::Capture, &paid, chf(3000));
    second.before = chf(1990);
    second.done(fixture).await;
    assert_eq!(moved(fixture, Kind::Capture), [chf(1990), chf(3000)]);
    let whole = read(fixture, &paid).await;
    assert_eq!((whole.captured, whole.hold), (chf(4990), HoldState::Ended));
    documented(fixture);
}

/// A hold lapses after a part of it was taken: the part stays, and the end of the rest is told.
pub async fn a_hold_that_lapses_after_a_part_is_told(fixture: &impl Fixture) {
    if !fixture.provider().capabilities().several_captures {
        return;
    }
    let paid = paid(fixture, chf(4990), CaptureMode::Manual).await;
    let mut part = Operation::new(OperationKind::Capture, &paid, chf(1990));
    part.last = false;
    part.done(fixture).await;
    fixture.advance(LONGER_THAN_ANY_HOLD);
    let read = read(fixture, &paid).await;
    assert_eq!(
        (read.phase, read.captured, read.hold),
        (PaymentPhase::Captured, chf(1990), HoldState::Ended)
    );
    documented(fixture);
}

/// What is not claimed is not tried.
async fn refused_unsent(fixture: &impl Fixture, operation: &Operation) {
    let before = fixture.sent().len();
    let error = operation.send(fixture).await.unwrap_err();
    assert_eq!(
        (error.delivery(), error.kind()),
        (Delivery::NotSent, ErrorKind::Unsupported)
    );
    assert_eq!(fixture.sent().len(), before);
}

/// A released hold is void, and stays so.
pub async fn a_void_releases(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Manual).await;
    let void = Operation::new(OperationKind::Void, &paid, chf(4990));
    void.done(fixture).await;
    assert_eq!(moved(fixture, Kind::Void).len(), 1);
    assert_eq!(moved(fixture, Kind::Capture), []);
    assert_eq!(read(fixture, &paid).await.phase, PaymentPhase::Voided);
    let again = Operation::new(OperationKind::Void, &paid, chf(4990))
        .done(fixture)
        .await;
    assert_eq!(moved(fixture, Kind::Void).len(), 1, "{again:?}");
    documented(fixture);
}

/// Everything goes back.
pub async fn a_capture_is_refunded_whole(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    let operation = Operation::new(OperationKind::Refund, &paid, chf(4990))
        .done(fixture)
        .await;
    assert_eq!(moved(fixture, Kind::Refund), [chf(4990)], "{operation:?}");
    documented(fixture);
}

/// A part goes back, then the rest, and a lookup finds each.
pub async fn a_capture_is_refunded_in_parts(fixture: &impl Fixture) {
    let claimed = fixture.provider().capabilities().partial_refund;
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    let first = Operation::new(OperationKind::Refund, &paid, chf(1000));
    if !claimed {
        return refused_unsent(fixture, &first).await;
    }
    let done = first.done(fixture).await;
    let found = first.find(fixture, done.id).await.unwrap();
    let there = matches!(found, Found::Yes(Outcome::Done(_)) | Found::CannotTell);
    assert!(there, "{found:?}");
    let mut second = Operation::new(OperationKind::Refund, &paid, chf(3990));
    second.before = chf(1000);
    second.done(fixture).await;
    assert_eq!(moved(fixture, Kind::Refund), [chf(1000), chf(3990)]);
    let refunded = read(fixture, &paid).await.refunded;
    assert!(
        refunded.is_none_or(|amount| amount == chf(4990)),
        "{refunded:?}"
    );
    documented(fixture);
}

/// The provider's ceiling is told as such, and as refused.
pub async fn more_than_was_captured_is_not_refunded(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    let error = Operation::new(OperationKind::Refund, &paid, chf(4991))
        .send(fixture)
        .await
        .unwrap_err();
    assert_eq!(
        (error.delivery(), error.kind()),
        (Delivery::Refused, ErrorKind::AmountRefused)
    );
    assert_eq!(moved(fixture, Kind::Refund), []);
    documented(fixture);
}

/// The fact sheet's decline, at the step where the provider decides.
pub async fn a_decline_moves_nothing(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), CaptureMode::Automatic);
    let holds = fixture.provider().capabilities().reserve_holds;
    fixture.inject(
        if holds { Step::Reserve } else { Step::Commit },
        Fault::Decline,
    );
    let declined = match paying.reserve(fixture).await.unwrap() {
        Outcome::Declined(decline) => decline,
        Outcome::Done(reservation) if !holds => {
            match paying.commit(fixture, &reservation).await.unwrap() {
                Outcome::Declined(decline) => decline,
                other => failed("a declined commit", &other),
            }
        }
        other => failed("a declined charge", &other),
    };
    assert!(!declined.method_gone, "{declined:?}");
    assert_eq!(fixture.movements(), []);
    documented(fixture);
}

/// Pending is pending, or an honest "I don't know", and a read after the clock has moved shows the
/// end.
pub async fn a_pending_charge_concludes_with_time(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), CaptureMode::Automatic);
    let reservation = reserved(paying.reserve(fixture).await.unwrap());
    fixture.inject(Step::Commit, Fault::Pending);
    let open = still_open(&paying.commit(fixture, &reservation).await);
    assert!(open, "the commit was to stay open");
    assert_eq!(moved(fixture, Kind::Capture), []);
    fixture.advance(Duration::from_secs(PENDING_SECONDS));
    let paid = paying.resolve_commit(fixture, &reservation).await;
    assert_eq!(paid.payment.captured, chf(4990));
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);
    documented(fixture);
}

/// The same for money that goes back.
pub async fn a_pending_refund_concludes_with_time(fixture: &impl Fixture) {
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    fixture.inject(Step::Refund, Fault::Pending);
    let refund = Operation::new(OperationKind::Refund, &paid, chf(4990));
    let result = refund.send(fixture).await;
    assert!(
        still_open(&result),
        "the refund was to stay open: {result:?}"
    );
    assert_eq!(moved(fixture, Kind::Refund), []);
    let id = match result {
        Ok(Outcome::Pending(operation)) => operation.id,
        _ => None,
    };
    fixture.advance(Duration::from_secs(PENDING_SECONDS));
    refund.resolve(fixture, id).await;
    assert_eq!(moved(fixture, Kind::Refund), [chf(4990)]);
    documented(fixture);
}

/// At Aduno a call that is still running is a 409 (`providers/aduno.md` §8), elsewhere a state.
fn still_open<T>(result: &Result<Outcome<T>, ProviderError>) -> bool {
    match result {
        Ok(outcome) => matches!(outcome, Outcome::Pending(_)),
        Err(error) => error.delivery() == Delivery::Unknown,
    }
}

/// A customer who is there, with a page in between or without.
pub async fn a_present_customer_pays_once(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = present(&token);
    let (reservation, page) = match paying.reserve(fixture).await.unwrap() {
        Outcome::Done(reservation) => (reservation, None),
        Outcome::ActionRequired(reservation, page) => (reservation, Some(page)),
        other => failed("a charge of a customer who is there", &other),
    };
    assert_eq!(moved(fixture, Kind::Capture), []);
    let paid = match page {
        None => {
            let outcome = paying.commit(fixture, &reservation).await.unwrap();
            if let Outcome::ActionRequired(_, page) = &outcome {
                fixture.decide(page, Decision::Approve).await;
                paying.resolve_commit(fixture, &reservation).await
            } else {
                paying.conclude(fixture, &reservation, outcome).await
            }
        }
        Some(page) => {
            fixture.decide(&page, Decision::Approve).await;
            paying.resolve_commit(fixture, &reservation).await
        }
    };
    assert_eq!(paid.payment.captured, chf(4990));
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);
    documented(fixture);
}

/// A customer who says no at the page, where there is one.
pub async fn a_present_customer_who_declines_pays_nothing(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = present(&token);
    if let Outcome::ActionRequired(reservation, page) = paying.reserve(fixture).await.unwrap() {
        fixture.decide(&page, Decision::Decline).await;
        match paying.lookup(fixture, &reservation).await.unwrap() {
            // The customer may think again.
            Outcome::Declined(_) | Outcome::ActionRequired(..) => {}
            Outcome::Done(payment) => assert_ne!(payment.phase, PaymentPhase::Captured),
            other => failed("a payment that the customer declined", &other),
        }
    }
    assert_eq!(moved(fixture, Kind::Capture), []);
    documented(fixture);
}

fn present(token: &cardless_contract::ProviderToken) -> Paying {
    let mut paying = Paying::new(token, chf(4990), CaptureMode::Automatic);
    paying.request.initiator = Initiator::Customer;
    paying.request.return_url = Some(RETURN_URL.to_owned());
    paying
}

/// Never rounded: nothing leaves.
pub async fn an_amount_that_cant_be_expressed_is_not_sent(fixture: &impl Fixture) {
    let Some(list) = fixture.provider().capabilities().currencies else {
        return;
    };
    let coarse = list
        .iter()
        .find(|(code, decimals)| money(code, 0).currency().exponent() > *decimals);
    if let Some((code, _)) = coarse {
        unsent(fixture, money(code, 12_345)).await;
    }
}

/// A currency off the list: nothing leaves.
pub async fn a_currency_that_the_provider_lacks_is_not_sent(fixture: &impl Fixture) {
    let Some(list) = fixture.provider().capabilities().currencies else {
        return;
    };
    let lacking = ["KWD", "XOF", "ISK"]
        .into_iter()
        .find(|code| list.iter().all(|(known, _)| known != code));
    if let Some(code) = lacking {
        unsent(fixture, money(code, 1000)).await;
    }
}

async fn unsent(fixture: &impl Fixture, amount: Money) {
    let token = link(fixture).await;
    let before = fixture.sent().len();
    let paying = Paying::new(&token, amount, CaptureMode::Automatic);
    let error = paying.reserve(fixture).await.unwrap_err();
    assert_eq!(error.delivery(), Delivery::NotSent);
    assert_eq!(fixture.sent().len(), before);
}

/// By our reference: yes where claimed, "can't tell" elsewhere, and "no" for what never was.
pub async fn a_payment_is_found_by_reference_where_claimed(fixture: &impl Fixture) {
    let claimed = fixture.provider().capabilities().find_by_reference;
    let paid = paid(fixture, chf(4990), CaptureMode::Automatic).await;
    let found = fixture
        .provider()
        .find(&paid.request.reference)
        .await
        .unwrap();
    let nothing = Reference::new(unique()).unwrap();
    let absent = fixture.provider().find(&nothing).await.unwrap();
    if claimed {
        assert_eq!(found, Found::Yes(paid.payment.reservation));
        assert_eq!(absent, Found::No);
    } else {
        assert_eq!((found, absent), (Found::CannotTell, Found::CannotTell));
    }
    documented(fixture);
}

/// An id that the provider never gave out.
pub async fn an_unknown_payment_is_not_found(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let paying = Paying::new(&token, chf(4990), CaptureMode::Automatic);
    let reservation = reserved(paying.reserve(fixture).await.unwrap());
    // The last character is moved on, which keeps the shape of every provider's ids.
    let id = reservation.as_str();
    let (kept, last) = id.split_at(id.len() - 1);
    let other = if last == "7" { "8" } else { "7" };
    let unknown = ReservationId::new(format!("{kept}{other}")).unwrap();
    let error = paying.lookup(fixture, &unknown).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    documented(fixture);
}

pub(super) fn reserved(outcome: Outcome<ReservationId>) -> ReservationId {
    match outcome {
        Outcome::Done(reservation) => reservation,
        other => failed("nothing was reserved", &other),
    }
}

async fn read(fixture: &impl Fixture, paid: &Paid) -> Payment {
    let request = cardless_contract::LookupRequest {
        reservation: paid.payment.reservation.clone(),
        reference: paid.request.reference.clone(),
        amount: paid.request.amount,
    };
    match fixture.provider().lookup(&request).await.unwrap() {
        Outcome::Done(payment) => payment,
        other => failed("a read of a payment", &other),
    }
}
