//! Payments from the first call to their end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cardless::error::Code;
use cardless::message::{MethodStatus, MethodUpdate, PayRequest, PaymentStatus};
use cardless::store::{Change, OperationType};
use cardless_contract::Clock as _;
use tokio::sync::Notify;

use crate::fake::{Fault, Kind, Phase, SHAPES, Shape};
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_charge_is_taken_once_at_each_shape() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::Captured, "{shape:?}");
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
        let held = world.pay(&hold("r-2")).await;
        assert_eq!(held.status, PaymentStatus::Authorized, "{shape:?}");
        assert_eq!(world.fake.moved(Kind::Capture, &held.id), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_found_out_and_taken_once() {
    for shape in SHAPES {
        for call in ["reserve", "commit"] {
            for fault in [
                Fault::LostBefore,
                Fault::LostAfter,
                Fault::Late(90 * Duration::from_secs(1)),
            ] {
                let world = World::new(shape);
                world.linked().await;
                world.fake.fault(call, fault.clone());
                let payment = world.pay(&charge("r-1")).await;
                assert_eq!(
                    payment.status,
                    PaymentStatus::Unknown,
                    "{shape:?} {call} {fault:?}"
                );
                world.run_minutes(10).await;
                let payment = world.payment(&payment.id).await;
                assert_eq!(
                    payment.status,
                    PaymentStatus::Captured,
                    "{shape:?} {call} {fault:?}"
                );
                assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_any_call_is_taken_over() {
    for shape in SHAPES {
        for call in ["reserve", "commit"] {
            for fault in [Fault::Hang, Fault::HangAfter] {
                let world = World::new(shape);
                world.linked().await;
                world.fake.fault(call, fault.clone());
                let dead = world.another_worker();
                let key = world.key();
                let request = charge("r-1");
                let call_of_the_dead = tokio::spawn({
                    let (key, request) = (key.clone(), request.clone());
                    async move { dead.pay(&key, &request).await }
                });
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(
                    code(world.gateway.pay(&key, &request).await),
                    Code::InProgress
                );
                world.run_minutes(10).await;
                let repeat = world.gateway.pay(&key, &request).await.unwrap();
                assert_eq!(
                    repeat.body.status,
                    PaymentStatus::Captured,
                    "{shape:?} {call}"
                );
                assert_eq!(world.fake.moved(Kind::Capture, &repeat.body.id), (1, 4990));
                call_of_the_dead.abort();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_provider_fails_the_reserve_and_leaves_the_commit_pending() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    for _ in 0..6 {
        world.fake.fault("reserve", Fault::NotSent);
    }
    let before = world.clock.now();
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.failure.unwrap().code, "provider_unreachable");
    assert_eq!(world.clock.now().since(before), Duration::from_secs(10));

    for _ in 0..6 {
        world.fake.fault("commit", Fault::NotSent);
    }
    let payment = world.pay(&charge("r-2")).await;
    assert_eq!(payment.status, PaymentStatus::Pending);
    world.run_for(MINUTE).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_never_gets_through_is_given_up_and_its_hold_released() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        for _ in 0..500 {
            world.fake.fault("commit", Fault::LostBefore);
        }
        let payment = world.pay(&charge("r-1")).await;
        world.run_hours(1).await;
        let payment = world.payment(&payment.id).await;
        assert_eq!(payment.status, PaymentStatus::Failed, "{shape:?}");
        assert_eq!(payment.failure.unwrap().code, "gave_up");
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (0, 0));
        let held = world.fake.object(&payment.id).1.phase == Phase::Held;
        assert!(!held, "{shape:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_arrives_late_is_never_shown_as_failed() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        // Every commit is lost; the last one before the limit arrives two minutes later.
        for _ in 0..500 {
            world
                .fake
                .fault("commit", Fault::Late(Duration::from_secs(110)));
        }
        let payment = world.pay(&charge("r-1")).await;
        world.run_hours(1).await;
        let payment = world.payment(&payment.id).await;
        assert_eq!(payment.status, PaymentStatus::Captured, "{shape:?}");
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_whose_id_never_came_fails_with_a_hint() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    for _ in 0..500 {
        world.fake.fault("reserve", Fault::LostAfter);
    }
    let payment = world.pay(&charge("r-1")).await;
    world.run_hours(2).await;
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.failure.unwrap().code, "hold_may_remain");
    assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn voiding_an_unknown_hold_says_that_a_hold_may_remain() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    world.fake.fault("reserve", Fault::LostAfter);
    let payment = world.pay(&charge("r-1")).await;
    let void = world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await
        .unwrap();
    assert_eq!(void.body.status, PaymentStatus::Failed);
    assert_eq!(void.body.failure.unwrap().code, "hold_may_remain");
}

#[tokio::test(start_paused = true)]
async fn the_same_key_gives_the_same_bytes_whatever_follows() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let key = world.key();
        let first = world.gateway.pay(&key, &hold("r-1")).await.unwrap();
        let id = first.body.id.clone();
        assert_eq!(
            bytes(&world.gateway.pay(&key, &hold("r-1")).await.unwrap()),
            bytes(&first)
        );

        let capture_key = world.key();
        let capture = world
            .gateway
            .capture(&capture_key, &id, &take(Some(4000), None))
            .await
            .unwrap();
        let refund_key = world.key();
        let refund = world
            .gateway
            .refund(&refund_key, &id, &give(Some(100)))
            .await
            .unwrap();
        world
            .gateway
            .refund(&world.key(), &id, &give(None))
            .await
            .unwrap();
        let again = world
            .gateway
            .capture(&capture_key, &id, &take(Some(4000), None))
            .await
            .unwrap();
        assert_eq!(bytes(&again), bytes(&capture));
        let again = world
            .gateway
            .refund(&refund_key, &id, &give(Some(100)))
            .await
            .unwrap();
        assert_eq!(bytes(&again), bytes(&refund));
        assert_eq!(
            bytes(&world.gateway.pay(&key, &hold("r-1")).await.unwrap()),
            bytes(&first)
        );

        let other = world.gateway.pay(&key, &charge("r-1")).await;
        assert_eq!(code(other), Code::IdempotencyMismatch);
        world.books_fit(&id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_void_of_an_open_payment_can_be_repeated() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("reserve", Fault::LostBefore);
    let pay_key = world.key();
    let payment = world
        .gateway
        .pay(&pay_key, &charge("r-1"))
        .await
        .unwrap()
        .body;
    let key = world.key();
    let first = world
        .gateway
        .void(&key, &payment.id, &release())
        .await
        .unwrap();
    assert_eq!(first.body.status, PaymentStatus::Voided);
    let again = world
        .gateway
        .void(&key, &payment.id, &release())
        .await
        .unwrap();
    assert_eq!(bytes(&again), bytes(&first));
    let repeat = world.gateway.pay(&pay_key, &charge("r-1")).await.unwrap();
    assert_eq!(repeat.body.status, PaymentStatus::Voided);
    assert_eq!(
        code(
            world
                .gateway
                .void(&world.key(), &payment.id, &release())
                .await
        ),
        Code::InvalidState
    );
}

#[tokio::test(start_paused = true)]
async fn the_void_of_a_commit_in_flight_ends_by_what_the_provider_shows() {
    for shape in SHAPES {
        for (fault, end) in [
            (Fault::LostAfter, PaymentStatus::Captured),
            (Fault::LostBefore, PaymentStatus::Voided),
        ] {
            let world = World::new(shape);
            world.linked().await;
            world.fake.fault("commit", fault);
            let payment = world.pay(&charge("r-1")).await;
            let key = world.key();
            let void = world
                .gateway
                .void(&key, &payment.id, &release())
                .await
                .unwrap();
            assert!(void.open, "{shape:?}");
            world.run_minutes(10).await;
            assert_eq!(world.payment(&payment.id).await.status, end, "{shape:?}");
            let again = world
                .gateway
                .void(&key, &payment.id, &release())
                .await
                .unwrap();
            assert_eq!(again.body.status, end);
            world.books_fit(&payment.id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_payment_holds_its_reference() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let key = world.key();
    world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    let other = world.gateway.pay(&world.key(), &charge("r-1")).await;
    assert_eq!(code(other), Code::OutcomeUnknown);
    let setup = world.gateway.link(&world.key(), &link_and_pay("r-1")).await;
    assert_eq!(code(setup), Code::OutcomeUnknown);
    // The key is looked at before the reference.
    assert!(world.gateway.pay(&key, &charge("r-1")).await.unwrap().open);
    world.run_for(MINUTE).await;
    assert!(
        world
            .gateway
            .pay(&world.key(), &charge("r-1"))
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn declines_settle_and_suspend_a_method_that_is_gone() {
    for shape in SHAPES {
        for call in ["reserve", "commit"] {
            let world = World::new(shape);
            let method = world.linked().await;
            world.fake.fault(call, Fault::MethodGone);
            let payment = world.pay(&charge("r-1")).await;
            world.run_minutes(10).await;
            let payment = world.payment(&payment.id).await;
            assert_eq!(payment.status, PaymentStatus::Declined, "{shape:?} {call}");
            assert_eq!(payment.decline.unwrap().provider_code, "NO_FUNDS");
            let methods = world.gateway.payment_methods("a-1").await.unwrap();
            assert_eq!(methods.data[0].status, MethodStatus::Suspended);
            assert_eq!(
                code(world.gateway.pay(&world.key(), &charge("r-2")).await),
                Code::InvalidState
            );
            let update = MethodUpdate {
                account: "a-1".to_owned(),
                default: true,
            };
            assert_eq!(
                code(world.gateway.set_default(&method, &update).await),
                Code::InvalidState
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_declined_commit_of_a_customer_releases_the_hold() {
    let mut capabilities = Shape::Holds.capabilities();
    capabilities.setup_takes_payment = false;
    capabilities.page_moves_money = false;
    let world = World::with(capabilities, |_| {});
    world.linked().await;
    world.fake.fault("commit", Fault::Declined);
    let payment = world.pay(&present("r-1")).await;
    world.run_minutes(10).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Declined
    );
    assert_eq!(world.fake.moved(Kind::Void, &payment.id).0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_fails_and_a_refused_repeat_asks() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        world.fake.fault("commit", Fault::Refused);
        let payment = world.pay(&charge("r-1")).await;
        world.run_minutes(10).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Failed,
            "{shape:?}"
        );

        // The first commit arrives late; the repeat in between is refused.
        world
            .fake
            .fault("commit", Fault::Late(Duration::from_secs(60)));
        for _ in 0..3 {
            world.fake.fault("commit", Fault::Refused);
        }
        let payment = world.pay(&charge("r-2")).await;
        world.run_minutes(10).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured,
            "{shape:?}"
        );
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_commit_that_reads_as_not_begun_is_not_failed_by_a_refusal() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::Pending);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Pending);
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Created);
    world.fake.fault("commit", Fault::Refused);
    world.run_for(Duration::from_secs(3)).await;
    assert_ne!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Failed
    );
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Working);
    world.fake.finish_pending();
    world.run_for(MINUTE).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_or_unmapped_is_asked_about_and_parked_in_the_end() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        world.fake.fault("commit", Fault::Pending);
        let payment = world.pay(&charge("r-1")).await;
        if shape != Shape::Holds {
            assert_eq!(payment.status, PaymentStatus::Pending);
        }
        world.fake.finish_pending();
        world.run_for(MINUTE).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured
        );

        for _ in 0..50 {
            world.fake.fault("lookup", Fault::Unmapped);
        }
        world.fake.fault("commit", Fault::LostAfter);
        let payment = world.pay(&charge("r-2")).await;
        world.run_hours(1).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Parked
        );
        let parked = ("payment.parked".to_owned(), payment.id.clone());
        assert!(world.events().await.contains(&parked));
        assert_eq!(
            code(world.gateway.pay(&world.key(), &charge("r-2")).await),
            Code::OutcomeUnknown
        );
        world.fake.no_more_faults();
        world.webhook("e-1", &payment.id).await;
        world.run_for(MINUTE).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_review_at_reserve_is_parked_with_an_event() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("reserve", Fault::Review);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Parked);
    assert!(
        world
            .events()
            .await
            .contains(&("payment.parked".to_owned(), payment.id))
    );
}

#[tokio::test(start_paused = true)]
async fn an_authorized_charge_that_is_never_taken_is_parked() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Held);
    world.run_hours(1).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Pending
    );
    world.clock.forward(Duration::from_secs(31 * 24 * 3600));
    world.run_for(MINUTE).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Parked
    );
}

#[tokio::test(start_paused = true)]
async fn a_merchants_charge_that_needs_the_customer_is_declined() {
    for shape in SHAPES {
        for call in ["reserve", "commit"] {
            let world = World::new(shape);
            world.linked().await;
            world.fake.fault(call, Fault::Challenge);
            let payment = world.pay(&charge("r-1")).await;
            world.run_minutes(10).await;
            let payment = world.payment(&payment.id).await;
            assert_eq!(payment.status, PaymentStatus::Declined, "{shape:?} {call}");
            assert_eq!(payment.decline.unwrap().category, "authentication_required");
            world.books_fit(&payment.id).await;
        }
    }
}

/// The first commit is still on its way when its repeat is told that the customer is needed.
#[tokio::test(start_paused = true)]
async fn a_repeat_that_needs_the_customer_ends_nothing_that_may_arrive() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let late = Fault::Late(Duration::from_secs(60));
    for fault in [late, Fault::Challenge] {
        world.fake.fault("commit", fault);
    }
    let payment = world.pay(&charge("r-1")).await;
    world.run_for(Duration::from_secs(40)).await;
    assert_eq!(world.fake.calls("commit"), 2);
    // What it was told leaves the object as it was.
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Created);
    world.run_minutes(10).await;
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.status, PaymentStatus::Captured);
    world.books_fit(&payment.id).await;
}

/// A part was taken in the back office, nobody told, and then the rest of the hold is given back.
#[tokio::test(start_paused = true)]
async fn a_void_reads_what_was_taken_elsewhere() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    world
        .fake
        .change(&payment.id, |object| object.captured = 2000);
    let (key, request) = (world.key(), release());
    let voided = world.gateway.void(&key, &payment.id, &request).await;
    assert!(!voided.unwrap().open);
    world.run_for(MINUTE).await;
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.captured.minor(), 2000, "{payment:?}");
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_is_present_approves_and_pays_once() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&present("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::ActionRequired, "{shape:?}");
        assert!(payment.redirect_url.is_some());
        // The customer takes longer than a commit may wait.
        world.run_minutes(40).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::ActionRequired
        );
        world.fake.fault("commit", Fault::LostBefore);
        world.fake.approve(&payment.id);
        world.webhook("e-1", &payment.id).await;
        world.run_minutes(10).await;
        let payment = world.payment(&payment.id).await;
        assert_eq!(payment.status, PaymentStatus::Captured, "{shape:?}");
        assert_eq!(payment.redirect_url, None);
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
    }
}

#[tokio::test(start_paused = true)]
async fn a_customer_who_does_not_come_ends_the_payment() {
    // Nothing moves by an approval alone, so the payment may end while its page is open.
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    world.run_hours(2).await;
    let ended = world.payment(&payment.id).await;
    assert_eq!(ended.status, PaymentStatus::Failed);
    assert_eq!(ended.failure.unwrap().code, "customer_did_not_come");
    world.fake.approve(&payment.id);
    world.webhook("e-1", &payment.id).await;
    world.run_hours(2).await;
    assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_outlives_the_customers_time_keeps_its_payment_open() {
    for shape in [Shape::Page, Shape::Holds] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&present("r-1")).await;
        world.run_hours(2).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::ActionRequired,
            "{shape:?}"
        );
        // The reference is not free, so nobody charges beside the open page.
        let second = world.gateway.pay(&world.key(), &charge("r-1")).await;
        assert_eq!(code(second), Code::OutcomeUnknown, "{shape:?}");
        world.fake.approve(&payment.id);
        world.run_hours(2).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured,
            "{shape:?}"
        );
        assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4990));
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_answer_does_not_park_an_open_page() {
    for shape in [Shape::Page, Shape::Holds] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&present("r-1")).await;
        for hours in 0..48 {
            tokio::time::advance(60 * MINUTE).await;
            if hours > 24 {
                world.fake.fault("lookup", Fault::LostBefore);
            }
            world.reconcile().await;
            assert_eq!(
                world.payment(&payment.id).await.status,
                PaymentStatus::ActionRequired,
                "{shape:?} after {hours} h"
            );
        }
        // Nor does it wait for ever for one.
        for _ in 0..31 {
            tokio::time::advance(24 * 60 * MINUTE).await;
            world.fake.fault("lookup", Fault::LostBefore);
            world.reconcile().await;
        }
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Parked,
            "{shape:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_its_provider_never_ends_is_left_to_a_person() {
    for shape in [Shape::Page, Shape::Holds] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&present("r-1")).await;
        for _ in 0..31 {
            world.clock.forward(Duration::from_secs(24 * 3600));
            world.reconcile().await;
        }
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Parked,
            "{shape:?}"
        );
        world.fake.approve(&payment.id);
        world.webhook("e-1", &payment.id).await;
        world.run_minutes(1).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured,
            "{shape:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_that_its_provider_has_ended_ends_the_payment() {
    for shape in [Shape::Page, Shape::Holds] {
        for voided in [false, true] {
            let world = World::new(shape);
            world.linked().await;
            let payment = world.pay(&present("r-1")).await;
            if voided {
                let void = world
                    .gateway
                    .void(&world.key(), &payment.id, &release())
                    .await;
                assert!(void.unwrap().open);
            }
            world.run_hours(2).await;
            let open = world.payment(&payment.id).await.status;
            let expected = if voided {
                PaymentStatus::Pending
            } else {
                PaymentStatus::ActionRequired
            };
            assert_eq!(open, expected, "{shape:?}");
            world
                .fake
                .change(&payment.id, |object| object.phase = Phase::Lapsed);
            world.run_hours(2).await;
            let ended = world.payment(&payment.id).await;
            if voided {
                assert_eq!(ended.status, PaymentStatus::Voided, "{shape:?}");
            } else {
                assert_eq!(ended.status, PaymentStatus::Failed, "{shape:?}");
                assert_eq!(ended.failure.unwrap().code, "expired_at_provider");
            }
            assert_eq!(
                world.pay(&charge("r-1")).await.status,
                PaymentStatus::Captured
            );
        }
    }
}

/// Reserve gives the page, where the customer only approves; what was asked for then is held, and
/// the commit takes it (PayPal's one-call flow).
fn one_call() -> World {
    let mut capabilities = Shape::Holds.capabilities();
    capabilities.setup_takes_payment = false;
    capabilities.page_moves_money = false;
    World::with(capabilities, |fake| fake.asks_at_reserve = true)
}

#[tokio::test(start_paused = true)]
async fn what_a_customer_approves_at_reserve_is_committed() {
    for manual in [false, true] {
        let world = one_call();
        world.linked().await;
        let mut request = present("r-1");
        if manual {
            request.capture = cardless::message::Capture::Manual;
        }
        let payment = world.pay(&request).await;
        assert_eq!(payment.status, PaymentStatus::ActionRequired);
        // Longer than a commit may wait after the charge was asked for.
        world.run_minutes(40).await;
        assert_eq!(world.fake.calls("commit"), 0);
        world.fake.approve(&payment.id);
        world.webhook("e-1", &payment.id).await;
        world.run_minutes(2).await;
        let (status, kind) = if manual {
            (PaymentStatus::Authorized, Kind::Hold)
        } else {
            (PaymentStatus::Captured, Kind::Capture)
        };
        assert_eq!(world.payment(&payment.id).await.status, status);
        assert_eq!(world.fake.moved(kind, &payment.id), (1, 4990));
        assert_eq!(world.fake.calls("commit"), 1);
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_customer_approves_at_reserve_ends_without_a_commit() {
    let world = one_call();
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    world.run_hours(2).await;
    let ended = world.payment(&payment.id).await;
    assert_eq!(ended.status, PaymentStatus::Failed);
    assert_eq!(ended.failure.unwrap().code, "customer_did_not_come");
    world.fake.approve(&payment.id);
    world.webhook("e-1", &payment.id).await;
    world.run_hours(1).await;
    assert_eq!(world.fake.calls("commit"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_voided_payment_page_that_is_paid_after_all_is_captured() {
    for shape in [Shape::Page, Shape::Holds] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&present("r-1")).await;
        let void = world
            .gateway
            .void(&world.key(), &payment.id, &release())
            .await
            .unwrap();
        assert!(void.open);
        world.run_minutes(10).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Pending
        );
        world.fake.approve(&payment.id);
        world.run_hours(2).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured,
            "{shape:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_webhook_while_the_payment_is_driven_is_not_forgotten() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let gate = Arc::new(Notify::new());
    world.fake.fault("commit", Fault::Wait(gate.clone()));
    let worker = world.another_worker();
    let call = tokio::spawn({
        let (key, request) = (world.key(), charge("r-1"));
        async move { worker.pay(&key, &request).await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = {
        let query = cardless::message::PaymentQuery {
            account: "a-1".to_owned(),
            ..Default::default()
        };
        world.gateway.payments(&query).await.unwrap().data[0]
            .id
            .clone()
    };
    for event in 0..3 {
        world.webhook(&format!("e-{event}"), &id).await;
        world.webhook(&format!("e-{event}"), &id).await;
    }
    gate.notify_one();
    let answer = call.await.unwrap().unwrap();
    assert_eq!(answer.body.status, PaymentStatus::Captured);
    world.fake.refund_elsewhere(&id, 500);
    let looks = world.fake.calls("lookup");
    world.run_for(Duration::from_secs(5)).await;
    assert!(world.fake.calls("lookup") > looks);
    assert_eq!(world.payment(&id).await.refunded.minor(), 500);
    assert_eq!(world.fake.moved(Kind::Capture, &id), (1, 4990));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_lapses_is_noticed() {
    let world = World::with(Shape::TwoCalls.capabilities(), |fake| {
        fake.hold_for = Some(Duration::from_secs(3600));
    });
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    assert!(payment.expires_at.is_some());
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Lapsed);
    world.run_hours(2).await;
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.status, PaymentStatus::Voided);
    assert_eq!(payment.reason.as_deref(), Some("expired"));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_method_is_not_charged_and_revoked_there_too() {
    let world = World::new(Shape::TwoCalls);
    let method = world.linked().await;
    world.fake.fault("revoke", Fault::LostBefore);
    assert!(world.gateway.revoke(&method, "a-1").await.unwrap().open);
    assert_eq!(
        code(world.gateway.pay(&world.key(), &charge("r-1")).await),
        Code::NotFound
    );
    assert_eq!(
        code(world.gateway.revoke(&method, "a-2").await),
        Code::NotFound
    );
    world.run_for(MINUTE).await;
    assert_eq!(world.fake.state.lock().unwrap().revoked.len(), 1);
    assert_eq!(
        code(world.gateway.revoke(&method, "a-1").await),
        Code::NotFound
    );
    let next = world.linked().await;
    assert_eq!(world.pay(&charge("r-2")).await.payment_method, Some(next));
}

#[tokio::test(start_paused = true)]
async fn another_account_finds_nothing() {
    let world = World::new(Shape::TwoCalls);
    let method = world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    let mut other = charge("r-2");
    other.account = "a-2".to_owned();
    other.payment_method = Some(method.clone());
    assert_eq!(
        code(world.gateway.pay(&world.key(), &other).await),
        Code::NotFound
    );
    let mut capture = take(None, None);
    capture.account = "a-2".to_owned();
    let answer = world
        .gateway
        .capture(&world.key(), &payment.id, &capture)
        .await;
    assert_eq!(code(answer), Code::NotFound);
    let mut refund = give(None);
    refund.account = "a-2".to_owned();
    assert_eq!(
        code(
            world
                .gateway
                .refund(&world.key(), &payment.id, &refund)
                .await
        ),
        Code::NotFound
    );
    let void = cardless::message::VoidRequest {
        account: "a-2".to_owned(),
    };
    assert_eq!(
        code(world.gateway.void(&world.key(), &payment.id, &void).await),
        Code::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_body_is_never_sent_again() {
    for (expiry, status) in [(0, PaymentStatus::Captured), (1, PaymentStatus::Parked)] {
        let world = World::new(Shape::Holds);
        world.linked().await;
        world.fake.fault("reserve", Fault::LostAfter);
        let payment = world.pay(&charge("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::Unknown);
        world.fake.state.lock().unwrap().expiry = expiry;
        world.run_minutes(1).await;
        assert_eq!(world.payment(&payment.id).await.status, status);
        assert_eq!(world.fake.calls("reserve"), if expiry == 0 { 2 } else { 1 });
        let captures = world.fake.moved(Kind::Capture, &payment.id).0;
        assert_eq!(captures, usize::from(expiry == 0));
    }
}

#[tokio::test(start_paused = true)]
async fn reconcile_drives_what_is_open_now() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostAfter);
    let payment = world.pay(&charge("r-1")).await;
    let report = world.reconcile().await;
    assert_eq!(
        (report.looked_at, report.concluded, report.errors),
        (1, 1, 0)
    );
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    assert_eq!(world.reconcile().await.looked_at, 0);
}

#[tokio::test(start_paused = true)]
async fn money_that_moves_after_the_end_raises_an_alarm_and_changes_no_status() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    let voided = world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await
        .unwrap();
    assert_eq!(voided.body.status, PaymentStatus::Voided);
    // Somebody takes it in the back office all the same.
    world.fake.change(&payment.id, |object| {
        object.phase = Phase::Taken;
        object.captured = 4990;
    });
    world.webhook("late", &payment.id).await;
    world.run_minutes(1).await;
    let found = world.payment(&payment.id).await;
    assert_eq!(found.status, PaymentStatus::Voided);
    assert_eq!(found.captured.minor(), 4990);
    let alarm = ("payment.contradicted".to_owned(), payment.id);
    assert!(world.events().await.contains(&alarm));
}

/// A word that nobody knows, or that the customer must act, in the look at a hold.
#[tokio::test(start_paused = true)]
async fn a_hold_is_looked_at_again_after_an_answer_that_says_nothing() {
    for fault in [Fault::Unmapped, Fault::Declined] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&hold("r-1")).await;
        for number in 0..12 {
            world.fake.fault("lookup", fault.clone());
            world.webhook(&format!("w-{number}"), &payment.id).await;
            world.reconcile().await;
            world.run_minutes(1).await;
        }
        world.fake.no_more_faults();
        world
            .fake
            .change(&payment.id, |object| object.phase = Phase::Lapsed);
        tokio::time::advance(Duration::from_secs(8 * 24 * 3600)).await;
        world.run_minutes(1).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Voided,
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn money_that_is_taken_back_elsewhere_raises_an_alarm_and_is_not_guessed_at() {
    let cases: [fn(&mut crate::fake::Object); 2] = [
        |object| object.taken_back = 4990,
        // Cancelled in the back office after it was taken.
        |object| {
            object.phase = Phase::Released;
            object.captured = 0;
        },
    ];
    for change in cases {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        let alarm = ("payment.contradicted".to_owned(), payment.id.clone());
        world.webhook("quiet", &payment.id).await;
        world.run_minutes(1).await;
        assert!(!world.events().await.contains(&alarm));
        assert!(world.gateway.verify().await.unwrap().is_clean());

        world.fake.change(&payment.id, change);
        world.webhook("taken-back", &payment.id).await;
        world.run_minutes(1).await;
        assert!(world.events().await.contains(&alarm));
        let found = world.payment(&payment.id).await;
        assert_eq!(found.status, PaymentStatus::Captured);
        assert_eq!((found.refunded.minor(), found.reversed.minor()), (0, 0));
        assert!(!world.gateway.verify().await.unwrap().is_clean());
        // It is told once, however often it is looked at.
        world.webhook("again", &payment.id).await;
        world.run_minutes(1).await;
        assert_eq!(count(&world, &alarm).await, 1);
    }
}

async fn count(world: &World, wanted: &(String, String)) -> usize {
    let events = world.events().await;
    events.iter().filter(|&event| event == wanted).count()
}

#[tokio::test(start_paused = true)]
async fn more_money_that_is_taken_back_raises_another_alarm() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let alarm = ("payment.contradicted".to_owned(), payment.id.clone());
    for (number, (taken_back, alarms)) in [(1000, 1), (1000, 1), (2500, 2), (2500, 2)]
        .into_iter()
        .enumerate()
    {
        world
            .fake
            .change(&payment.id, |object| object.taken_back = taken_back);
        world.webhook(&format!("w-{number}"), &payment.id).await;
        world.run_minutes(1).await;
        assert_eq!(count(&world, &alarm).await, alarms, "{number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_kept_for_400_days() {
    // Time passes while no process is at work.
    let starts = async |world: &World| {
        let gateway = world.another_worker();
        gateway
            .run(tokio::time::sleep(Duration::from_secs(1)))
            .await;
    };
    let day = Duration::from_secs(24 * 3600);
    let world = World::new(Shape::TwoCalls);
    world.run_for(Duration::from_secs(1)).await;
    world.linked().await;
    let key = world.key();
    let first = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    world.clock.forward(399 * day);
    starts(&world).await;
    let again = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    assert_eq!(bytes(&first), bytes(&again));
    world.clock.forward(2 * day);
    starts(&world).await;
    // Nobody has looked for long: the clock may be wrong, and somebody may put it right.
    let again = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    assert_eq!(bytes(&first), bytes(&again));
    world.clock.forward(5 * day);
    starts(&world).await;
    let fresh = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    assert_ne!(fresh.body.id, first.body.id);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_merchant_is_never_sent() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.other_merchant.store(true, Ordering::Relaxed);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Failed);
    assert_eq!(payment.failure.unwrap().code, "not_begun");
    assert_eq!(world.fake.calls("reserve"), 0);
    world.fake.other_merchant.store(false, Ordering::Relaxed);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Captured);
}

/// A webhook names an operation that is not known here, so the provider is asked whose it is: once, and
/// again only if that can pass.
#[tokio::test(start_paused = true)]
async fn whose_operation_it_is_is_asked_once_for_each_webhook() {
    let world = World::new(Shape::TwoCalls);
    let asked = || world.fake.calls("payment_of");
    for _ in 0..3 {
        world.told("e-1", "refund/O9").await.unwrap();
    }
    assert_eq!(asked(), 1);
    // What can't be answered now can be answered later.
    for fault in [Fault::NotSent, Fault::LostBefore] {
        world.fake.fault("payment_of", fault);
        let refused = world.told("e-2", "refund/O9").await;
        assert_eq!(code(refused), Code::ProviderUnavailable);
    }
    world.told("e-2", "refund/O9").await.unwrap();
    assert_eq!(asked(), 4);
    // What is refused is refused the next time too.
    world.fake.fault("payment_of", Fault::Refused);
    for _ in 0..3 {
        world.told("e-3", "refund/O9").await.unwrap();
    }
    assert_eq!(asked(), 5);
}

/// A provider counts its captures, voids and refunds each for itself: one's number is no other's.
#[tokio::test(start_paused = true)]
async fn an_operation_is_found_by_its_kind_and_number() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let mut looked_at = Vec::new();
    for reference in ["r-1", "r-2"] {
        let payment = world.pay(&hold(reference)).await;
        let (key, request) = (world.key(), take(Some(1000), None));
        let capture = world.gateway.capture(&key, &payment.id, &request).await;
        let payment = capture.unwrap().body.id;
        let (key, request) = (world.key(), give(Some(100)));
        world
            .gateway
            .refund(&key, &payment, &request)
            .await
            .unwrap();
        looked_at.push(payment);
    }
    world.run_for(Duration::from_secs(2)).await;
    // The first one's capture and the second one's refund have the same number, and so has the second
    // one's capture and the first one's refund.
    for (payment, (capture, refund)) in looked_at.iter().zip([("7", "8"), ("8", "7")]) {
        for mut row in world.store.operations(payment).await.unwrap() {
            let number = match row.kind {
                OperationType::Capture => capture,
                OperationType::Refund | OperationType::Void => refund,
            };
            row.object = Some(number.to_owned());
            row.capture_object = None;
            let change = Change::UpdateOperation(row);
            world.store.apply(vec![change]).await.unwrap();
        }
    }
    for (about, payment) in [
        ("capture/7", &looked_at[0]),
        ("refund/7", &looked_at[1]),
        ("capture/8", &looked_at[1]),
        ("refund/8", &looked_at[0]),
    ] {
        world.told(about, about).await.unwrap();
        for other in &looked_at {
            let row = world.store.payment(other).await.unwrap().unwrap();
            let woken = row.next_at.is_some_and(|at| at <= world.clock.now());
            assert_eq!(woken, other == payment, "{about}");
        }
        world.run_for(Duration::from_secs(1)).await;
    }
    assert_eq!(world.fake.calls("payment_of"), 0);
}

/// Nothing is stored of a charge with a text that is refused, and the error names it.
#[tokio::test(start_paused = true)]
async fn a_charge_with_a_wrong_text_is_refused_by_its_name() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let card = "4242424242424242".to_owned();
    let long = "x".repeat(10_000);
    for (field, wanted, request) in [
        ("reference", Code::CardNumber, charge(&card)),
        ("reference", Code::InvalidField, charge(&long)),
        (
            "description",
            Code::CardNumber,
            PayRequest {
                description: Some(card.clone()),
                ..charge("r-1")
            },
        ),
        (
            "return_url",
            Code::InvalidField,
            PayRequest {
                return_url: Some("not an address".to_owned()),
                ..present("r-1")
            },
        ),
        (
            "return_url",
            Code::InvalidField,
            PayRequest {
                return_url: None,
                ..present("r-1")
            },
        ),
        (
            "payment_method",
            Code::CardNumber,
            PayRequest {
                payment_method: Some(card.clone()),
                ..charge("r-1")
            },
        ),
    ] {
        let refused = world.gateway.pay(&world.key(), &request).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.field_path()),
            (wanted, Some(field))
        );
        assert!(!refused.to_string().contains(&card), "{refused}");
    }
    assert_eq!(world.fake.calls("reserve"), 0);
}
