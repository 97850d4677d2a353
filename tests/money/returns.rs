//! Browsers that come back: as often as they like, and with whatever they put into the address.

use std::time::Duration;

use cardless::message::{Initiator, PaymentStatus, SetupStatus};
use cardless_sandbox::EntryKind;

use super::world::{ALL, World};

/// Longer than the time between two looks that browsers cause.
const A_MOMENT: Duration = Duration::from_secs(11);

#[tokio::test(start_paused = true)]
async fn a_browser_does_not_make_us_ask_about_what_is_settled() {
    for provider in ALL {
        let world = World::new();
        let method = world.link(provider).await;
        let mut request = World::charge(&method, 4990, "invoice-1");
        request.initiator = Initiator::Customer;
        request.return_url = Some("https://shop.example/back".into());
        let payment = world.pay(&request).await;
        let back = world.way_back();
        world
            .decide(provider, &payment.redirect_url.unwrap(), "approve")
            .await;
        world.settle().await;
        let asked = world.sandbox.requests(None).len();
        for _ in 0..5 {
            let to = world.gateway.returned(&back).await.unwrap().location;
            assert!(to.ends_with("status=captured"), "{to}");
            world.pass(A_MOMENT).await;
        }
        assert_eq!(world.sandbox.requests(None).len(), asked, "{provider}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_makes_us_ask_about_what_is_open_now_and_then_only() {
    for provider in ALL {
        for first in [false, true] {
            let world = World::new();
            let id = if first && provider != "paypal" {
                world.begin(provider, Some(4990)).await.payment.unwrap()
            } else {
                let method = world.link(provider).await;
                let mut request = World::charge(&method, 4990, "invoice-1");
                request.initiator = Initiator::Customer;
                request.return_url = Some("https://shop.example/back".into());
                world.pay(&request).await.id
            };
            let back = world.way_back();
            world.gateway.returned(&back).await.unwrap();
            let asked = world.sandbox.requests(None).len();
            for _ in 0..20 {
                world.gateway.returned(&back).await.unwrap();
            }
            assert_eq!(world.sandbox.requests(None).len(), asked, "{provider}");
            for _ in 0..20 {
                world.pass(A_MOMENT).await;
                world.gateway.returned(&back).await.unwrap();
            }
            assert!(world.sandbox.requests(None).len() >= asked + 20);
            // The resolver does not take it for its own questions, which become rarer.
            let row = world.store.payment(&id).await.unwrap().unwrap();
            assert!(row.attempts <= 2, "{provider} {}", row.attempts);
            if let Some(setup) = row.setup {
                let setup = world.store.setup(&setup).await.unwrap().unwrap();
                assert!(setup.attempts <= 2, "{provider} {}", setup.attempts);
            }
        }
    }
}

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
