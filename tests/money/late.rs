//! Pages that are made later than the charge was asked for, and customers who use all their time.

use std::time::Duration;

use cardless::message::{Initiator, PaymentStatus, SetupStatus};
use cardless_sandbox::EntryKind;

use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

/// How long a page stands at Aduno, less a moment.
const NEARLY_A_PAGES_TIME: Duration = Duration::from_secs(29 * 60);

#[tokio::test(start_paused = true)]
async fn a_first_payments_page_that_comes_late_can_be_paid_to_its_end() {
    for (provider, begin) in [
        ("aduno", "POST /v1/transactions"),
        ("postfinance", "POST /api/v2.0/payment/transactions"),
    ] {
        let world = World::new();
        world.inject(provider, begin, "drop_before");
        let setup = world.begin(provider, Some(4990)).await;
        assert_eq!(setup.status, SetupStatus::Unknown, "{provider}");
        world.pass(20 * MINUTE).await;
        world.gateway.reconcile().await.unwrap();
        let page = world.gateway.setup(&setup.id).await.unwrap().redirect_url;
        world.pass(NEARLY_A_PAGES_TIME).await;
        world.gateway.reconcile().await.unwrap();
        let id = setup.payment.unwrap();
        let waits = world.gateway.payment(&id).await.unwrap();
        assert_eq!(waits.status, PaymentStatus::ActionRequired, "{provider}");
        world.decide(provider, &page.unwrap(), "approve").await;
        world.settle().await;
        let linked = world.gateway.setup(&setup.id).await.unwrap();
        assert_eq!(linked.status, SetupStatus::Completed, "{provider}");
        let payment = world.gateway.payment(&id).await.unwrap();
        assert_eq!(payment.payment_method, linked.payment_method, "{provider}");
        assert_eq!(payment.status, PaymentStatus::Captured, "{provider}");
        assert_eq!(world.moved(EntryKind::Capture), [4990], "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_payments_page_that_comes_late_can_be_paid_to_its_end() {
    let world = World::new();
    let method = world.link("aduno").await;
    let mut request = World::charge(&method, 4990, "invoice-1");
    request.initiator = Initiator::Customer;
    request.return_url = Some("https://shop.example/back".into());
    world.inject("aduno", "POST /v1/transactions", "drop_before");
    let payment = world.pay(&request).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);
    world.pass(14 * MINUTE).await;
    world.gateway.reconcile().await.unwrap();
    let page = world
        .gateway
        .payment(&payment.id)
        .await
        .unwrap()
        .redirect_url;
    world.pass(NEARLY_A_PAGES_TIME).await;
    world.gateway.reconcile().await.unwrap();
    world.decide("aduno", &page.unwrap(), "approve").await;
    world.settle().await;
    let payment = world.gateway.payment(&payment.id).await.unwrap();
    assert_eq!(payment.status, PaymentStatus::Captured);
    assert_eq!(world.moved(EntryKind::Capture), [4990]);
}

#[tokio::test(start_paused = true)]
async fn a_registration_whose_page_comes_late_has_all_of_its_time() {
    let world = World::new();
    world.inject("aduno", "POST /v1/transactions", "drop_before");
    let setup = world.begin("aduno", None).await;
    assert_eq!(setup.status, SetupStatus::Unknown);
    world.pass(20 * MINUTE).await;
    world.gateway.reconcile().await.unwrap();
    let page = world.gateway.setup(&setup.id).await.unwrap().redirect_url;
    world.pass(NEARLY_A_PAGES_TIME).await;
    world.gateway.reconcile().await.unwrap();
    world.decide("aduno", &page.unwrap(), "approve").await;
    let setup = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(setup.status, SetupStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_setup_ends_with_its_payment() {
    let days = |count: u64| Duration::from_secs(count * 24 * 3600);
    let world = World::new();
    let setup = world.begin("postfinance", Some(4990)).await;
    // The sandbox's page lives for three hours; neither the hour that a customer is expected to
    // take nor a provider that can't be reached ends it before.
    world.pass(2 * 60 * MINUTE).await;
    world.gateway.reconcile().await.unwrap();
    let waits = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(waits.status, SetupStatus::AwaitingCustomer);
    for _ in 0..2 {
        world.inject("postfinance", "GET /api/v2.0/payment", "drop_before");
    }
    world.gateway.reconcile().await.unwrap();
    let waits = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(waits.status, SetupStatus::AwaitingCustomer);
    world.sandbox.clear_faults();
    world.pass(days(1)).await;
    world.settle().await;
    let payment = world.gateway.payment(&setup.payment.unwrap()).await;
    assert_eq!(payment.unwrap().status, PaymentStatus::Declined);
    let ended = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(ended.status, SetupStatus::Declined);
    assert!(world.sandbox.ledger().is_empty());
}
