//! PayPal with the token in the order, and a customer who is there: the order gives the page, where
//! an approval moves nothing.

use std::time::Duration;

use cardless::message::{Capture, Initiator, PayRequest, PaymentStatus, SetupStatus};
use cardless_sandbox::EntryKind;

use super::world::World;

/// Longer than a commit may wait after the charge was asked for.
const A_WHILE: Duration = Duration::from_secs(40 * 60);

fn present(method: &str, capture: Capture) -> PayRequest {
    PayRequest {
        initiator: Initiator::Customer,
        capture,
        return_url: Some("https://shop.example/back".into()),
        ..World::charge(method, 4990, "invoice-1")
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_approves_is_charged_once() {
    for (capture, status, captures) in [
        (Capture::Automatic, PaymentStatus::Captured, vec![4990]),
        (Capture::Manual, PaymentStatus::Authorized, vec![]),
    ] {
        let world = World::one_call();
        let method = world.link("paypal").await;
        let payment = world.pay(&present(&method, capture)).await;
        assert_eq!(payment.status, PaymentStatus::ActionRequired);
        world.pass(A_WHILE).await;
        world.gateway.reconcile().await.unwrap();
        assert!(world.sandbox.ledger().is_empty());
        let page = payment.redirect_url.unwrap();
        let back = world.decide("paypal", &page, "approve").await;
        assert!(back.contains("payment="), "{back}");
        world.settle().await;
        let payment = world.gateway.payment(&payment.id).await.unwrap();
        assert_eq!(payment.status, status);
        assert_eq!(world.moved(EntryKind::Authorize), [4990]);
        assert_eq!(world.moved(EntryKind::Capture), captures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_payment_goes_on_at_the_second_page_of_the_visit() {
    let world = World::one_call();
    let setup = world.begin("paypal", Some(4990)).await;
    let page = setup.redirect_url.unwrap();
    let next = world.decide("paypal", &page, "approve").await;
    assert!(next.contains("checkoutnow"), "{next}");
    world.decide("paypal", &next, "approve").await;
    world.settle().await;
    let payment = world.gateway.payment(&setup.payment.unwrap()).await;
    assert_eq!(payment.unwrap().status, PaymentStatus::Captured);
    let setup = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(setup.status, SetupStatus::Completed);
    assert_eq!(world.moved(EntryKind::Capture), [4990]);
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_stays_away_is_not_charged() {
    let world = World::one_call();
    let method = world.link("paypal").await;
    let payment = world.pay(&present(&method, Capture::Automatic)).await;
    world.pass(5 * A_WHILE).await;
    world.settle().await;
    let ended = world.gateway.payment(&payment.id).await.unwrap();
    assert_eq!(ended.status, PaymentStatus::Failed);
    world
        .decide("paypal", &payment.redirect_url.unwrap(), "approve")
        .await;
    world.settle().await;
    assert!(world.sandbox.ledger().is_empty());
}
