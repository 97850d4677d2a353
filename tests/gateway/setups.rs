//! Linking, with and without a first payment.

use std::time::Duration;

use cardless::error::Code;
use cardless::message::{PaymentStatus, SetupStatus};

use crate::fake::{Fault, Kind, SHAPES, Shape};
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_first_payment_is_taken_once_and_links_the_method() {
    for shape in SHAPES {
        let world = World::new(shape);
        let key = world.key();
        let setup = world
            .gateway
            .link(&key, &link_and_pay("r-1"))
            .await
            .unwrap()
            .body;
        assert_eq!(setup.status, SetupStatus::AwaitingCustomer);
        assert_eq!(
            world
                .gateway
                .link(&key, &link_and_pay("r-1"))
                .await
                .unwrap()
                .body,
            setup
        );
        let id = setup.payment.clone().unwrap();
        assert_eq!(
            world.payment(&id).await.status,
            PaymentStatus::ActionRequired
        );
        if shape != Shape::TwoCalls {
            world.fake.approve(&id);
        }
        world.fake.end_setup("linked");
        world.run_minutes(2).await;
        if shape == Shape::TwoCalls {
            world.fake.approve(&id);
            world.webhook("e-1", &id).await;
            world.run_minutes(2).await;
        }
        let payment = world.payment(&id).await;
        assert_eq!(payment.status, PaymentStatus::Captured, "{shape:?}");
        let setup = world.gateway.setup(&setup.id).await.unwrap();
        assert_eq!(setup.status, SetupStatus::Completed);
        assert_eq!(payment.payment_method, setup.payment_method);
        assert_eq!(world.fake.moved(Kind::Capture, &id), (1, 4990));
        assert_eq!(
            world.pay(&charge("r-2")).await.status,
            PaymentStatus::Captured
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_after_the_link_leaves_a_payment_that_goes_on() {
    // The payment's row is driven by somebody who hangs while the setup is completed.
    for shape in SHAPES {
        let world = World::new(shape);
        let setup = world
            .gateway
            .link(&world.key(), &link_and_pay("r-1"))
            .await
            .unwrap()
            .body;
        let id = setup.payment.clone().unwrap();
        if shape == Shape::TwoCalls {
            world.fake.fault("reserve", Fault::Hang);
        } else {
            world.fake.approve(&id);
            world.fake.fault("lookup", Fault::Hang);
        }
        world.fake.end_setup("linked");
        let dead = world.another_worker();
        let setup_id = setup.id.clone();
        let call = tokio::spawn(async move { dead.complete_link(&setup_id).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        call.abort();
        world.run_minutes(20).await;
        if shape == Shape::TwoCalls {
            world.fake.approve(&id);
            world.webhook("e-1", &id).await;
            world.run_minutes(2).await;
        }
        let payment = world.payment(&id).await;
        assert_eq!(payment.status, PaymentStatus::Captured, "{shape:?}");
        assert!(payment.payment_method.is_some(), "{shape:?}");
        assert_eq!(world.fake.moved(Kind::Capture, &id), (1, 4990));
    }
}

#[tokio::test(start_paused = true)]
async fn a_payment_that_is_being_looked_at_while_its_method_is_linked_goes_on() {
    let world = World::new(Shape::TwoCalls);
    let setup = world
        .gateway
        .link(&world.key(), &link_and_pay("r-1"))
        .await
        .unwrap()
        .body;
    let id = setup.payment.clone().unwrap();
    // Somebody has taken the payment and died.
    let mut row = world.store.payment(&id).await.unwrap().unwrap();
    row.lease_until = cardless_contract::Clock::now(world.clock.as_ref()).plus(3 * MINUTE);
    row.next_at = Some(row.lease_until);
    world
        .store
        .apply(vec![cardless::store::Change::UpdatePayment(row)])
        .await
        .unwrap();
    world.fake.end_setup("linked");
    world.gateway.complete_link(&setup.id).await.unwrap();
    world.run_minutes(10).await;
    assert_eq!(
        world.payment(&id).await.status,
        PaymentStatus::ActionRequired
    );
    world.fake.approve(&id);
    world.run_minutes(10).await;
    assert_eq!(world.payment(&id).await.status, PaymentStatus::Captured);
}

#[tokio::test(start_paused = true)]
async fn a_first_payment_whose_customer_took_long_is_still_charged() {
    let world = World::new(Shape::TwoCalls);
    let setup = world
        .gateway
        .link(&world.key(), &link_and_pay("r-1"))
        .await
        .unwrap()
        .body;
    let id = setup.payment.clone().unwrap();
    world.run_minutes(40).await;
    world.fake.fault("reserve", Fault::LostBefore);
    world.fake.end_setup("linked");
    world.run_minutes(40).await;
    assert_eq!(
        world.payment(&id).await.status,
        PaymentStatus::ActionRequired
    );
    world.fake.approve(&id);
    world.webhook("e-1", &id).await;
    world.run_minutes(10).await;
    assert_eq!(world.payment(&id).await.status, PaymentStatus::Captured);
}

#[tokio::test(start_paused = true)]
async fn a_setup_that_ends_without_a_method_ends_its_payment() {
    for shape in SHAPES {
        for (progress, status) in [
            ("declined", SetupStatus::Declined),
            ("no_token", SetupStatus::Declined),
            ("expired", SetupStatus::Expired),
            ("waits", SetupStatus::Expired),
        ] {
            let world = World::new(shape);
            let setup = world
                .gateway
                .link(&world.key(), &link_and_pay("r-1"))
                .await
                .unwrap()
                .body;
            let id = setup.payment.clone().unwrap();
            if shape != Shape::TwoCalls {
                // Its page is the payment's, and what has ended there takes no money any more.
                world
                    .fake
                    .change(&id, |object| object.phase = crate::fake::Phase::Refused);
            }
            world.fake.end_setup(progress);
            world.run_hours(2).await;
            let setup = world.gateway.setup(&setup.id).await.unwrap();
            assert_eq!(setup.status, status, "{shape:?} {progress}");
            let payment = world.payment(&id).await;
            let ended = matches!(
                payment.status,
                PaymentStatus::Declined | PaymentStatus::Failed
            );
            assert!(ended, "{shape:?} {progress} {payment:?}");
            // The reference is free again.
            assert!(
                world
                    .gateway
                    .link(&world.key(), &link_and_pay("r-1"))
                    .await
                    .is_ok()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_first_setup_without_token_ends_at_once() {
    let world = World::new(Shape::TwoCalls);
    let setup = world
        .gateway
        .link(&world.key(), &link_and_pay("r-1"))
        .await
        .unwrap()
        .body;
    world.fake.end_setup("no_token");
    world.run_minutes(2).await;
    assert_eq!(
        world.gateway.setup(&setup.id).await.unwrap().status,
        SetupStatus::Declined
    );
    let payment = world.payment(&setup.payment.unwrap()).await;
    assert_eq!(payment.status, PaymentStatus::Declined);
}

#[tokio::test(start_paused = true)]
async fn paid_without_a_token_is_said_so() {
    for shape in [Shape::Page, Shape::Holds] {
        let world = World::new(shape);
        let setup = world
            .gateway
            .link(&world.key(), &link_and_pay("r-1"))
            .await
            .unwrap()
            .body;
        let id = setup.payment.clone().unwrap();
        world.fake.approve(&id);
        world.fake.end_setup("no_token");
        world.run_minutes(2).await;
        assert_eq!(
            world.gateway.setup(&setup.id).await.unwrap().status,
            SetupStatus::PaidNotLinked
        );
        assert_eq!(world.payment(&id).await.status, PaymentStatus::Captured);
        world.books_fit(&id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_setup_that_could_not_begin_leaves_nothing() {
    for (fault, expected) in [
        (Fault::NotSent, Code::ProviderUnavailable),
        (Fault::Refused, Code::ProviderRefused),
    ] {
        let world = World::new(Shape::Page);
        for _ in 0..6 {
            world.fake.fault("begin_setup", fault.clone());
        }
        let key = world.key();
        assert_eq!(
            code(world.gateway.link(&key, &link_and_pay("r-1")).await),
            expected
        );
        world.fake.no_more_faults();
        let setup = world
            .gateway
            .link(&key, &link_and_pay("r-1"))
            .await
            .unwrap();
        assert_eq!(setup.body.status, SetupStatus::AwaitingCustomer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_setup_whose_begin_is_unknown_begins_again() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.fake.fault("begin_setup", Fault::LostAfter);
        let key = world.key();
        let setup = world
            .gateway
            .link(&key, &link_and_pay("r-1"))
            .await
            .unwrap();
        assert!(setup.open);
        assert_eq!(setup.body.status, SetupStatus::Unknown);
        world.run_for(MINUTE).await;
        let setup = world
            .gateway
            .link(&key, &link_and_pay("r-1"))
            .await
            .unwrap();
        assert_eq!(
            setup.body.status,
            SetupStatus::AwaitingCustomer,
            "{shape:?}"
        );
        assert!(setup.body.redirect_url.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn two_links_at_once_make_one_default_and_block_nobody() {
    let world = World::new(Shape::TwoCalls);
    let mut setups = Vec::new();
    for _ in 0..4 {
        let setup = world
            .gateway
            .link(&world.key(), &link_request())
            .await
            .unwrap();
        setups.push(setup.body.id);
    }
    world.fake.end_setup("linked");
    let mut calls = tokio::task::JoinSet::new();
    for id in setups {
        let worker = world.another_worker();
        calls.spawn(async move { worker.complete_link(&id).await });
    }
    while let Some(answer) = calls.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status, SetupStatus::Completed);
    }
    let methods = world.gateway.payment_methods("a-1").await.unwrap().data;
    assert_eq!(methods.len(), 4);
    assert_eq!(methods.iter().filter(|method| method.default).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_setup_whose_payment_can_still_be_paid_stays_open() {
    for shape in [Shape::Page, Shape::Holds] {
        for (progress, status) in [
            ("linked", SetupStatus::Completed),
            ("no_token", SetupStatus::PaidNotLinked),
        ] {
            let world = World::new(shape);
            let setup = world
                .gateway
                .link(&world.key(), &link_and_pay("r-1"))
                .await
                .unwrap()
                .body;
            let id = setup.payment.clone().unwrap();
            // Beyond every time after which a setup by itself is over.
            for _ in 0..3 {
                world.clock.forward(Duration::from_secs(24 * 3600));
                world.fake.fault("complete_setup", Fault::LostBefore);
                world.reconcile().await;
                world.reconcile().await;
            }
            let waits = world.gateway.setup(&setup.id).await.unwrap();
            assert_eq!(waits.status, SetupStatus::AwaitingCustomer, "{shape:?}");
            world.fake.approve(&id);
            world.fake.end_setup(progress);
            world.run_hours(2).await;
            let ended = world.gateway.setup(&setup.id).await.unwrap();
            assert_eq!(ended.status, status, "{shape:?}");
            assert_eq!(world.payment(&id).await.status, PaymentStatus::Captured);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_setup_waits_with_its_parked_payment_and_ends_with_it() {
    let world = World::new(Shape::Page);
    let setup = world
        .gateway
        .link(&world.key(), &link_and_pay("r-1"))
        .await
        .unwrap()
        .body;
    let id = setup.payment.clone().unwrap();
    for _ in 0..32 {
        world.clock.forward(Duration::from_secs(24 * 3600));
        world.reconcile().await;
    }
    assert_eq!(world.payment(&id).await.status, PaymentStatus::Parked);
    let report = world.reconcile().await;
    assert_eq!((report.looked_at, report.parked), (2, 2));
    let asked = world.fake.calls("complete_setup");
    world.run_hours(3).await;
    assert_eq!(world.fake.calls("complete_setup"), asked);
    let waits = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(waits.status, SetupStatus::AwaitingCustomer);
    world
        .fake
        .change(&id, |object| object.phase = crate::fake::Phase::Lapsed);
    world.webhook("e-1", &id).await;
    world.run_minutes(2).await;
    assert_eq!(world.payment(&id).await.status, PaymentStatus::Failed);
    let ended = world.gateway.setup(&setup.id).await.unwrap();
    assert_eq!(ended.status, SetupStatus::Expired);
}
