//! Browsers that come back, with whatever they put into the address.

use cardless::message::{Initiator, PaymentStatus, SetupStatus};
use cardless_sandbox::EntryKind;

use super::world::World;

#[tokio::test(start_paused = true)]
async fn whoever_says_cancelled_at_a_page_that_can_be_paid_is_not_believed() {
    for provider in ["postfinance", "aduno"] {
        let world = World::new();
        let setup = world.begin(provider, Some(4990)).await;
        let back = format!("{}?cancelled=1", world.way_back());
        world.gateway.returned(&back).await.unwrap();
        let open = world.gateway.setup(&setup.id).await.unwrap();
        assert_eq!(open.status, SetupStatus::AwaitingCustomer, "{provider}");
        world
            .decide(provider, &setup.redirect_url.unwrap(), "approve")
            .await;
        world.settle().await;
        let setup = world.gateway.setup(&setup.id).await.unwrap();
        assert_eq!(setup.status, SetupStatus::Completed, "{provider}");
        let method = setup.payment_method.unwrap();
        assert_eq!(world.moved(EntryKind::Capture), [4990], "{provider}");

        let mut request = World::charge(&method, 4990, "invoice-1");
        request.initiator = Initiator::Customer;
        request.return_url = Some("https://shop.example/back".into());
        let payment = world.pay(&request).await;
        let back = format!("{}?cancelled=1", world.way_back());
        world.gateway.returned(&back).await.unwrap();
        let payment = world.gateway.payment(&payment.id).await.unwrap();
        assert_eq!(payment.status, PaymentStatus::ActionRequired, "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_says_no_at_paypal_is_believed() {
    let world = World::new();
    let setup = world.begin("paypal", Some(4990)).await;
    world
        .decide("paypal", &setup.redirect_url.unwrap(), "decline")
        .await;
    let ended = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(ended.status, SetupStatus::Declined);
    let payment = world.gateway.payment(&setup.payment.unwrap()).await;
    assert_eq!(payment.unwrap().status, PaymentStatus::Declined);
}
