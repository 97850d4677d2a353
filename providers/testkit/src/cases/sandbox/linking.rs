use std::time::Duration;

use cardless_contract::{
    CaptureMode, Delivery, ErrorKind, Outcome, PaymentPhase, ProviderToken, ReservationId,
    SetupCompletion, SetupPayment, SetupProgress,
};

use super::flow::{Paying, begin, chf, complete, documented, failed, link, moved, unique};
use super::{Decision, Fixture, Kind};
use crate::call::setup;

/// Good credentials pass the harmless question.
pub async fn the_probe_answers(fixture: &impl Fixture) {
    fixture.provider().probe().await.unwrap();
    assert_eq!(fixture.movements(), []);
    documented(fixture);
}

/// Wrong ones are `Authentication`, and whatever was asked has moved nothing.
pub async fn wrong_credentials_are_told(fixture: &impl Fixture) {
    let stranger = fixture.stranger();
    let error = stranger.probe().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    let name = unique();
    let key = cardless_contract::IdempotencyKey::new(name.clone()).unwrap();
    let error = stranger.begin_setup(&key, &setup(&name)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_ne!(error.delivery(), Delivery::Unknown);
    assert_eq!(fixture.movements(), []);
    documented(fixture);
}

/// The whole way over the hosted page. A registration is in no ledger.
pub async fn a_method_is_linked(fixture: &impl Fixture) {
    let (reference, key, started) = begin(fixture).await;
    let request = SetupCompletion {
        setup: started.setup,
        reference,
        payment: None,
    };
    let waiting = complete(fixture, &key, &request).await;
    assert!(
        matches!(waiting, SetupProgress::AwaitingCustomer),
        "{waiting:?}"
    );
    fixture.decide(&started.redirect, Decision::Approve).await;
    let linked = complete(fixture, &key, &request).await;
    assert!(matches!(linked, SetupProgress::Linked(_)), "{linked:?}");
    let moved = fixture.movements();
    assert!(
        moved.iter().all(|movement| movement.kind != Kind::Capture),
        "{moved:?}"
    );
    documented(fixture);
}

/// Finishing a setup again gives the token again.
pub async fn linking_twice_gives_the_same_token(fixture: &impl Fixture) {
    let (reference, key, started) = begin(fixture).await;
    fixture.decide(&started.redirect, Decision::Approve).await;
    let request = SetupCompletion {
        setup: started.setup,
        reference,
        payment: None,
    };
    let first = complete(fixture, &key, &request).await;
    let second = complete(fixture, &key, &request).await;
    match (first, second) {
        (SetupProgress::Linked(first), SetupProgress::Linked(second)) => {
            assert_eq!(first.expose(), second.expose());
        }
        other => failed("linking twice", &other),
    }
    documented(fixture);
}

/// No, said at the page.
pub async fn a_customer_who_declines_links_nothing(fixture: &impl Fixture) {
    unlinked(fixture, Decision::Decline, Duration::ZERO).await;
}

/// Nothing said at the page, and then the window has passed.
pub async fn a_customer_who_stays_away_links_nothing(fixture: &impl Fixture) {
    unlinked(fixture, Decision::Abandon, Duration::ZERO).await;
    let window = fixture.provider().capabilities().customer_window;
    unlinked(fixture, Decision::Abandon, window + Duration::from_secs(60)).await;
}

async fn unlinked(fixture: &impl Fixture, decision: Decision, wait: Duration) {
    let (reference, key, started) = begin(fixture).await;
    fixture.decide(&started.redirect, decision).await;
    fixture.advance(wait);
    let request = SetupCompletion {
        setup: started.setup,
        reference,
        payment: None,
    };
    // A provider may go on waiting, or say no, or forget; what it forgets it may not know.
    match fixture.provider().complete_setup(&key, &request).await {
        Ok(
            SetupProgress::AwaitingCustomer | SetupProgress::Declined(_) | SetupProgress::Expired,
        ) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => failed("a setup that nobody agreed to", &other),
    }
    assert_eq!(fixture.movements(), []);
    documented(fixture);
}

/// One visit pays and links, where the provider can.
pub async fn a_setup_with_an_amount_pays_and_links(fixture: &impl Fixture) {
    let name = unique();
    let key = cardless_contract::IdempotencyKey::new(name.clone()).unwrap();
    let payment = SetupPayment {
        amount: chf(4990),
        capture: CaptureMode::Automatic,
    };
    let mut request = setup(&name);
    request.payment = Some(payment);
    let begun = fixture.provider().begin_setup(&key, &request).await;
    if !fixture.provider().capabilities().setup_takes_payment {
        let error = begun.unwrap_err();
        assert_eq!(
            error.delivery(),
            Delivery::NotSent,
            "a setup with an amount was sent"
        );
        return;
    }
    let started = match begun.unwrap() {
        Outcome::Done(started) => started,
        other => failed("a setup with an amount", &other),
    };
    fixture.decide(&started.redirect, Decision::Approve).await;
    let completion = SetupCompletion {
        setup: started.setup.clone(),
        reference: request.reference.clone(),
        payment: Some(payment),
    };
    let token = match complete(fixture, &key, &completion).await {
        SetupProgress::Linked(token) => token,
        other => failed("a setup with an amount did not link", &other),
    };
    let reservation = ReservationId::new(started.setup.as_str()).unwrap();
    let mut paying = Paying::new(&token, payment.amount, payment.capture);
    paying.request.reference = request.reference;
    let paid = paying.resolve_commit(fixture, &reservation).await;
    assert_eq!(paid.payment.phase, PaymentPhase::Captured);
    assert_eq!(moved(fixture, Kind::Capture), [chf(4990)]);
    documented(fixture);
}

/// A deleted token charges nothing, and the decline says that the method is gone.
pub async fn a_revoked_method_is_gone(fixture: &impl Fixture) {
    let token = link(fixture).await;
    fixture.provider().revoke(&token).await.unwrap();
    let paying = Paying::new(&token, chf(4990), CaptureMode::Automatic);
    let decline = match paying.reserve(fixture).await.unwrap() {
        Outcome::Declined(decline) => decline,
        Outcome::Done(reservation) => match paying.commit(fixture, &reservation).await.unwrap() {
            Outcome::Declined(decline) => decline,
            other => failed("a commit with a revoked method", &other),
        },
        other => failed("a charge with a revoked method", &other),
    };
    assert!(decline.method_gone, "{decline:?}");
    assert_eq!(fixture.movements(), []);
    documented(fixture);
}

/// Already gone is done.
pub async fn revoking_twice_is_done(fixture: &impl Fixture) {
    let token = link(fixture).await;
    fixture.provider().revoke(&token).await.unwrap();
    fixture.provider().revoke(&token).await.unwrap();
    documented(fixture);
}

/// What came from elsewhere is held to the shape of what the provider itself gives.
pub async fn a_linked_token_has_the_shape_that_is_checked(fixture: &impl Fixture) {
    let token = link(fixture).await;
    let provider = fixture.provider();
    assert_eq!(provider.check_token(&token), Ok(()));
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let kind = provider.token_kind();
    assert!(!kind.is_empty() && kind.bytes().all(word), "{kind}");
    for wrong in ["a/b", "../x", "a b", "\u{fc}", "a?b=c", "%2e"] {
        let token = ProviderToken::new(wrong);
        let refused = token.is_none_or(|token| provider.check_token(&token).is_err());
        assert!(refused, "{wrong}");
    }
}
