//! Captures, voids and refunds.

use std::sync::Arc;
use std::time::Duration;

use cardless::error::Code;
use cardless::gateway::{ResolveAs, ResolveRequest};
use cardless::message::{OperationStatus, PaymentStatus};
use cardless::store::{Change, OperationState, PaymentFilter};
use cardless_contract::{Capabilities, Clock as _, Repeat};
use tokio::sync::Notify;

use crate::fake::{Fault, Kind, Phase, SHAPES, Shape};
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn every_lost_operation_happens_once() {
    for shape in SHAPES {
        for fault in [
            Fault::LostBefore,
            Fault::LostAfter,
            Fault::Late(Duration::from_secs(100)),
            Fault::Pending,
        ] {
            let world = World::new(shape);
            world.linked().await;
            let payment = world.pay(&hold("r-1")).await;
            world.fake.fault("capture", fault.clone());
            let capture = take(Some(4000), None);
            let answer = world
                .gateway
                .capture(&world.key(), &payment.id, &capture)
                .await
                .unwrap();
            assert!(answer.open, "{shape:?} {fault:?}");
            assert_eq!(answer.body.status, PaymentStatus::Authorized);
            world.fake.finish_pending();
            world.run_minutes(20).await;
            assert_eq!(
                world.payment(&payment.id).await.captured.minor(),
                4000,
                "{shape:?} {fault:?}"
            );
            assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (1, 4000));

            world.fake.fault("refund", fault.clone());
            let answer = world
                .gateway
                .refund(&world.key(), &payment.id, &give(None))
                .await
                .unwrap();
            assert!(answer.open);
            world.fake.finish_pending();
            world.run_minutes(20).await;
            let refund = world.gateway.refund_by_id(&answer.body.id).await.unwrap();
            assert_eq!(
                refund.status,
                OperationStatus::Succeeded,
                "{shape:?} {fault:?}"
            );
            assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 4000));

            let held = world.pay(&hold("r-2")).await;
            world.fake.fault("void", fault.clone());
            let answer = world
                .gateway
                .void(&world.key(), &held.id, &release())
                .await
                .unwrap();
            assert!(answer.open);
            assert_eq!(answer.body.status, PaymentStatus::Authorized);
            world.fake.finish_pending();
            world.run_minutes(20).await;
            assert_eq!(
                world.payment(&held.id).await.status,
                PaymentStatus::Voided,
                "{shape:?} {fault:?}"
            );
            assert_eq!(world.fake.moved(Kind::Void, &held.id).0, 1);
            world.books_fit(&payment.id).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_during_an_operation_is_taken_over() {
    for shape in SHAPES {
        for fault in [Fault::Hang, Fault::HangAfter] {
            let world = World::new(shape);
            world.linked().await;
            let payment = world.pay(&charge("r-1")).await;
            world.fake.fault("refund", fault);
            let dead = world.another_worker();
            let key = world.key();
            let call = tokio::spawn({
                let (key, id) = (key.clone(), payment.id.clone());
                async move { dead.refund(&key, &id, &give(Some(1000))).await }
            });
            tokio::time::sleep(Duration::from_secs(1)).await;
            let twin = world
                .gateway
                .refund(&key, &payment.id, &give(Some(1000)))
                .await;
            assert_eq!(code(twin), Code::InProgress);
            world.run_minutes(20).await;
            let answer = world
                .gateway
                .refund(&key, &payment.id, &give(Some(1000)))
                .await
                .unwrap();
            assert_eq!(answer.body.status, OperationStatus::Succeeded, "{shape:?}");
            assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
            call.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ceilings_hold_whoever_races() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let gate = Arc::new(Notify::new());
            gate.notify_one();
            world.fake.fault("refund", Fault::Wait(gate));
            let (worker, key, id) = (world.another_worker(), world.key(), payment.id.clone());
            calls.spawn(async move { worker.refund(&key, &id, &give(Some(1000))).await });
        }
        let mut done = 0;
        while let Some(answer) = calls.join_next().await {
            match answer.unwrap() {
                Ok(_) => done += 1,
                Err(error) => assert_eq!(error.code(), Code::AmountExceedsRemaining),
            }
        }
        assert_eq!(done, 4);
        assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (4, 4000));
        let rest = world
            .gateway
            .refund(&world.key(), &payment.id, &give(None))
            .await
            .unwrap();
        assert_eq!(rest.body.amount.minor(), 990);
        let more = world
            .gateway
            .refund(&world.key(), &payment.id, &give(None))
            .await;
        assert_eq!(code(more), Code::AmountExceedsRemaining);
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unresolved_refund_keeps_its_amount() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostAfter);
    world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(4000)))
        .await
        .unwrap();
    let more = world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await;
    assert_eq!(code(more), Code::AmountExceedsRemaining);
    // A look in between does not count the same money twice.
    world.webhook("e-1", &payment.id).await;
    world.run_for(MINUTE).await;
    world.webhook("e-2", &payment.id).await;
    world.run_for(MINUTE).await;
    assert_eq!(world.payment(&payment.id).await.refunded.minor(), 4000);
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn several_captures_keep_the_payment_authorized_until_the_last() {
    for shape in [Shape::TwoCalls, Shape::Page] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&hold("r-1")).await;
        let part = take(Some(1000), Some(false));
        let answer = world
            .gateway
            .capture(&world.key(), &payment.id, &part)
            .await
            .unwrap();
        assert_eq!(answer.body.status, PaymentStatus::Authorized);
        // What was taken in part reads as captured at the provider.
        world.webhook("e-1", &payment.id).await;
        world.run_for(MINUTE).await;
        let seen = world.payment(&payment.id).await;
        assert_eq!(
            (seen.status, seen.captured.minor()),
            (PaymentStatus::Authorized, 1000),
            "{shape:?}"
        );
        let over = world
            .gateway
            .capture(&world.key(), &payment.id, &take(Some(4000), None))
            .await;
        assert_eq!(code(over), Code::AmountExceedsRemaining);
        let rest = world
            .gateway
            .capture(&world.key(), &payment.id, &take(None, None))
            .await
            .unwrap();
        assert_eq!(rest.body.status, PaymentStatus::Captured);
        assert_eq!(rest.body.captured.minor(), 4990);

        if shape == Shape::TwoCalls {
            let all = world
                .gateway
                .refund(&world.key(), &payment.id, &give(None))
                .await;
            assert_eq!(
                code(all),
                Code::AmountExceedsRemaining,
                "one capture at a time"
            );
        }
        for minor in [3990, 1000] {
            world
                .gateway
                .refund(&world.key(), &payment.id, &give(Some(minor)))
                .await
                .unwrap();
        }
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_void_after_a_part_leaves_the_payment_captured() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    let part = take(Some(1000), Some(false));
    world
        .gateway
        .capture(&world.key(), &payment.id, &part)
        .await
        .unwrap();
    let void = world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await
        .unwrap();
    assert_eq!(void.body.status, PaymentStatus::Captured);
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_states_and_abilities_are_refused_before_anything_is_sent() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    let part = world
        .gateway
        .capture(&world.key(), &payment.id, &take(Some(1000), Some(false)))
        .await;
    assert_eq!(code(part), Code::NotSupported);
    let early = world
        .gateway
        .refund(&world.key(), &payment.id, &give(None))
        .await;
    assert_eq!(code(early), Code::InvalidState);
    world.fake.fault("void", Fault::LostBefore);
    world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await
        .unwrap();
    let late = world
        .gateway
        .capture(&world.key(), &payment.id, &take(None, None))
        .await;
    assert_eq!(code(late), Code::InvalidState);
    assert_eq!(world.fake.calls("capture"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_operation_fails_alone() {
    for fault in [Fault::Refused, Fault::Declined] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&hold("r-1")).await;
        world.fake.fault("capture", fault.clone());
        let key = world.key();
        let first = world
            .gateway
            .capture(&key, &payment.id, &take(None, None))
            .await
            .unwrap();
        assert_eq!(first.body.status, PaymentStatus::Authorized);
        assert_eq!(first.body.operations[0].status, OperationStatus::Failed);
        let next = world
            .gateway
            .capture(&world.key(), &payment.id, &take(None, None))
            .await
            .unwrap();
        assert_eq!(next.body.status, PaymentStatus::Captured);
        let again = world
            .gateway
            .capture(&key, &payment.id, &take(None, None))
            .await
            .unwrap();
        assert_eq!(bytes(&again), bytes(&first));
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_capture_of_a_lapsed_hold_finds_that_it_has_lapsed() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    world
        .fake
        .change(&payment.id, |object| object.phase = Phase::Lapsed);
    let answer = world
        .gateway
        .capture(&world.key(), &payment.id, &take(None, None))
        .await
        .unwrap();
    assert_eq!(answer.body.operations[0].status, OperationStatus::Failed);
    world.run_for(MINUTE).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Voided
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_not_sent_again_before_the_question_proves_anything() {
    let mut capabilities = Shape::Page.capabilities();
    capabilities.repeat_refund = Repeat::AfterQuestion;
    let world = World::with(capabilities, |_| {});
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    // Five tries never leave; the last one leaves ten seconds after the first, and is carried out
    // just before the longest delay is over.
    for _ in 0..5 {
        world.fake.fault("refund", Fault::NotSent);
    }
    world
        .fake
        .fault("refund", Fault::Late(Duration::from_secs(119)));
    world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await
        .unwrap();
    world.run_minutes(20).await;
    assert_eq!(world.fake.calls("refund"), 6);
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_proves_nothing_that_came_after_its_question() {
    let mut capabilities = Shape::Page.capabilities();
    capabilities.repeat_refund = Repeat::Keyed(Duration::from_secs(60));
    let world = World::with(capabilities, |_| {});
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let late = Fault::Late(Duration::from_secs(119));
    world.fake.fault("refund", late);
    world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await
        .unwrap();
    let gate = Arc::new(Notify::new());
    world
        .fake
        .fault("find_operation", Fault::Wait(Arc::clone(&gate)));
    let gateway = world.gateway.clone();
    let question = tokio::spawn(async move { gateway.reconcile().await });
    // The question is seen before the refund lands, and answered after it could not land any more.
    tokio::time::sleep(Duration::from_secs(140)).await;
    gate.notify_one();
    question.await.unwrap().unwrap();
    world.run_minutes(5).await;
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.operations[0].status, OperationStatus::Succeeded);
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn an_operation_without_end_is_parked() {
    for shape in SHAPES {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        for _ in 0..5000 {
            world.fake.fault("refund", Fault::LostBefore);
        }
        let refund = world
            .gateway
            .refund(&world.key(), &payment.id, &give(Some(1000)))
            .await
            .unwrap();
        world.run_hours(2).await;
        world.clock.forward(Duration::from_secs(25 * 3600));
        world.run_hours(2).await;
        let refund = world.gateway.refund_by_id(&refund.body.id).await.unwrap();
        assert!(!refund.status.is_open(), "{shape:?} {refund:?}");
        assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn equal_refunds_that_overlap_are_not_taken_for_each_other() {
    // This provider shows sums only. The first is lost on its way, the second one is carried out.
    let world = World::new(Shape::Holds);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostBefore);
    world.fake.fault("refund", Fault::LostAfter);
    for _ in 0..2 {
        world
            .gateway
            .refund(&world.key(), &payment.id, &give(Some(1000)))
            .await
            .unwrap();
    }
    world.run_minutes(20).await;
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (2, 2000));
    assert_eq!(world.payment(&payment.id).await.refunded.minor(), 2000);
}

#[tokio::test(start_paused = true)]
async fn a_twin_of_an_operation_is_not_told_that_nothing_is_left() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    for _ in 0..20 {
        let held = world.pay(&hold("r-2")).await;
        let key = world.key();
        let mut twins = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let (worker, key, id) = (world.another_worker(), key.clone(), held.id.clone());
            twins.spawn(async move { worker.capture(&key, &id, &take(None, None)).await });
        }
        while let Some(answer) = twins.join_next().await {
            match answer.unwrap() {
                Ok(answer) => assert_eq!(answer.body.captured.minor(), 4990),
                Err(error) => assert_eq!(error.code(), Code::InProgress),
            }
        }
        assert_eq!(world.fake.moved(Kind::Capture, &held.id), (1, 4990));
    }
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_is_refused_after_the_proof_fails() {
    let mut capabilities = Shape::Page.capabilities();
    capabilities.repeat_refund = Repeat::AfterQuestion;
    let world = World::with(capabilities, |_| {});
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostBefore);
    world.fake.fault("refund", Fault::Refused);
    let refund = world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await
        .unwrap();
    world.run_minutes(20).await;
    let refund = world.gateway.refund_by_id(&refund.body.id).await.unwrap();
    assert_eq!(refund.status, OperationStatus::Failed);
    assert_eq!(world.fake.calls("refund"), 2);
    let again = world
        .gateway
        .refund(&world.key(), &payment.id, &give(None))
        .await
        .unwrap();
    assert_eq!(again.body.amount.minor(), 4990);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_is_declined_says_nothing_of_the_first_send() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world
        .fake
        .fault("refund", Fault::Late(Duration::from_secs(90)));
    world.fake.fault("refund", Fault::Declined);
    let refund = world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await
        .unwrap();
    world.run_minutes(20).await;
    let refund = world.gateway.refund_by_id(&refund.body.id).await.unwrap();
    assert_eq!(refund.status, OperationStatus::Succeeded);
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_down_for_long_asks_before_it_parks() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostAfter);
    let refund = world
        .gateway
        .refund(&world.key(), &payment.id, &give(Some(1000)))
        .await
        .unwrap();
    world.clock.forward(40 * Duration::from_secs(24 * 3600));
    // The first question after the pause finds nobody at home.
    world.fake.fault("find_operation", Fault::NotSent);
    world.run_minutes(2).await;
    let refund = world.gateway.refund_by_id(&refund.body.id).await.unwrap();
    assert_eq!(refund.status, OperationStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn no_last_capture_passes_one_that_is_open() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    world.fake.fault("capture", Fault::LostBefore);
    let part = take(Some(1000), Some(false));
    let open = world
        .gateway
        .capture(&world.key(), &payment.id, &part)
        .await
        .unwrap();
    assert!(open.open);
    let last = world
        .gateway
        .capture(&world.key(), &payment.id, &take(Some(1000), None))
        .await;
    assert_eq!(code(last), Code::InvalidState);
    world.run_minutes(20).await;
    let last = world
        .gateway
        .capture(&world.key(), &payment.id, &take(None, None))
        .await
        .unwrap();
    assert_eq!(last.body.status, PaymentStatus::Captured);
    assert_eq!(world.fake.moved(Kind::Capture, &payment.id), (2, 4990));
}

#[tokio::test(start_paused = true)]
async fn a_refund_that_begins_while_another_is_asked_about_is_not_taken_for_it() {
    // This provider shows sums only. The first never arrived; while the question about it is on its
    // way, another of the same amount is carried out and booked.
    for asked_by_a_person in [false, true] {
        let mut capabilities = Shape::Holds.capabilities();
        // It is parked as soon as a question does not tell.
        capabilities.repeat_refund = Repeat::Keyed(Duration::ZERO);
        let world = World::with(capabilities, |_| {});
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.fake.fault("refund", Fault::LostBefore);
        let (key, request) = (world.key(), give(Some(1000)));
        let lost = world.gateway.refund(&key, &payment.id, &request).await;
        let lost = lost.unwrap().body.id;
        if asked_by_a_person {
            world.fake.fault("find_operation", Fault::Refused);
            world.run_minutes(5).await;
            let parked = world.gateway.refund_by_id(&lost).await.unwrap();
            assert_eq!(parked.status, OperationStatus::Parked);
        } else {
            world.clock.forward(5 * MINUTE);
        }
        let gate = Arc::new(Notify::new());
        let fault = Fault::WaitOnTheWay(Arc::clone(&gate));
        world.fake.fault("find_operation", fault);
        let gateway = world.gateway.clone();
        let (id, operation) = (payment.id.clone(), lost.clone());
        let question = tokio::spawn(async move {
            if asked_by_a_person {
                let request = ResolveRequest {
                    payment: id,
                    operation: Some(operation),
                    end: ResolveAs::Failed,
                    note: "never seen in the portal".to_owned(),
                    person: "ada".to_owned(),
                };
                gateway.resolve(&request).await.map(drop)
            } else {
                gateway.reconcile().await.map(drop)
            }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let (key, request) = (world.key(), give(Some(1000)));
        let other = world.gateway.refund(&key, &payment.id, &request).await;
        assert_eq!(other.unwrap().body.status, OperationStatus::Succeeded);
        gate.notify_one();
        let asked = question.await.unwrap();
        assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
        // The answer does not tell which of them it shows.
        asked.unwrap();
        let standing = world.gateway.refund_by_id(&lost).await.unwrap().status;
        let expected = match asked_by_a_person {
            true => OperationStatus::Failed,
            false => OperationStatus::Parked,
        };
        assert_eq!(standing, expected);
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_for_days_is_not_parked_by_a_day_without_answers() {
    for shape in [Shape::TwoCalls, Shape::Page] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.fake.fault("refund", Fault::Pending);
        world.fake.fault("reserve", Fault::Pending);
        let other = world.pay(&charge("r-2")).await;
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        let refund = refund.unwrap().body.id;
        world.run_hours(48).await;
        for _ in 0..12 {
            world.fake.fault("find_operation", Fault::NotSent);
            world.fake.fault("lookup", Fault::NotSent);
        }
        world.run_hours(14).await;
        let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
        assert_eq!(standing, OperationStatus::Pending, "{shape:?}");
        let paid = world.payment(&other.id).await;
        assert!(paid.status != PaymentStatus::Parked, "{shape:?} {paid:?}");
        // Nor by the first words that nobody knows.
        world.fake.no_more_faults();
        for _ in 0..3 {
            world.fake.fault("find_operation", Fault::Unmapped);
        }
        world.run_hours(4).await;
        let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
        assert!(standing.is_open(), "{shape:?} {standing:?}");
        world.fake.finish_pending();
        world.run_hours(3).await;
        let ended = world.gateway.refund_by_id(&refund).await.unwrap().status;
        assert_eq!(ended, OperationStatus::Succeeded, "{shape:?}");
        world.books_fit(&payment.id).await;
    }
}

/// The provider has shown the refund, and then answers as if it were not there.
#[tokio::test(start_paused = true)]
async fn what_the_provider_has_shown_does_not_end_by_being_absent() {
    let refunded = (ResolveAs::Refunded, OperationStatus::Succeeded, None);
    let failed = (ResolveAs::Failed, OperationStatus::Failed, Some("resolved"));
    for (shape, (end, ends, failure)) in [(Shape::TwoCalls, refunded), (Shape::Page, failed)] {
        let world = World::new(shape);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.fake.fault("refund", Fault::Pending);
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        let refund = refund.unwrap().body.id;
        let sent = world.fake.calls("refund ");
        let status = async || world.gateway.refund_by_id(&refund).await.unwrap().status;
        for hours in [0, 25] {
            tokio::time::advance(HOUR * hours).await;
            world.fake.fault("find_operation", Fault::Absent);
            world.reconcile().await;
            assert!(status().await.is_open(), "{shape:?} after {hours} h");
            assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
        }
        // It was one wrong answer.
        world.reconcile().await;
        assert_eq!(status().await, OperationStatus::Pending, "{shape:?}");
        // One that stays away for good is left to a person.
        for _ in 0..40 {
            tokio::time::advance(HOUR * 24).await;
            world.fake.fault("find_operation", Fault::Absent);
            world.reconcile().await;
        }
        assert_eq!(status().await, OperationStatus::Parked, "{shape:?}");
        assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
        let (key, all) = (world.key(), give(Some(4990)));
        let left = world.gateway.refund(&key, &payment.id, &all);
        assert_eq!(code(left.await), Code::AmountExceedsRemaining, "{shape:?}");
        // Nor is its absence believed against a person.
        world.fake.fault("find_operation", Fault::Absent);
        let request = ResolveRequest {
            payment: payment.id.clone(),
            operation: Some(refund.clone()),
            end,
            note: "seen in the portal".to_owned(),
            person: "ann".to_owned(),
        };
        world.gateway.resolve(&request).await.unwrap();
        assert_eq!(status().await, ends, "{shape:?}");
        let resolved = world.gateway.refund_by_id(&refund).await.unwrap();
        let code = resolved.failure.map(|failure| failure.code);
        assert_eq!(code.as_deref(), failure, "{shape:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_operation_is_ended_by_an_answer_and_by_nothing_else() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::Review);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    let status = async || world.gateway.refund_by_id(&refund).await.unwrap().status;
    world.run_minutes(5).await;
    assert_eq!(status().await, OperationStatus::Parked);
    let sent = world.fake.calls("refund");
    for fault in [Fault::NotSent, Fault::Refused, Fault::Unmapped] {
        world.fake.fault("find_operation", fault);
        world
            .webhook(&format!("e-{}", world.fake.calls("")), &payment.id)
            .await;
        world.run_minutes(5).await;
        assert_eq!(status().await, OperationStatus::Parked);
    }
    assert_eq!(world.fake.calls("refund"), sent, "nothing was sent again");
    world.fake.finish_pending();
    world.webhook("last", &payment.id).await;
    world.run_minutes(5).await;
    assert_eq!(status().await, OperationStatus::Succeeded);
    world.books_fit(&payment.id).await;
}

/// Somebody gives back, or captures, in the back office while one of ours is open, and a webhook tells
/// only of that: it is booked once ours has ended.
#[tokio::test(start_paused = true)]
async fn what_happens_elsewhere_while_one_of_ours_is_open_is_booked_after_it() {
    for ends_well in [true, false] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.fake.fault("refund", Fault::Pending);
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        let refund = refund.unwrap().body.id;
        world.fake.refund_elsewhere(&payment.id, 500);
        world.webhook("e-1", &payment.id).await;
        world.run_for(Duration::from_secs(5)).await;
        if ends_well {
            world.fake.finish_pending();
        } else {
            world.fake.fault("find_operation", Fault::Declined);
        }
        world.run_hours(2).await;
        let refund = world.gateway.refund_by_id(&refund).await.unwrap().status;
        assert_eq!(refund == OperationStatus::Succeeded, ends_well);
        world.books_fit(&payment.id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_capture_elsewhere_while_one_of_ours_is_open_is_booked_after_it() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    world.fake.fault("capture", Fault::Pending);
    let (key, request) = (world.key(), take(Some(1000), None));
    world
        .gateway
        .capture(&key, &payment.id, &request)
        .await
        .unwrap();
    world.fake.capture_elsewhere(&payment.id, 500);
    world.webhook("e-1", &payment.id).await;
    world.run_for(Duration::from_secs(5)).await;
    world.fake.finish_pending();
    world.run_hours(2).await;
    assert_eq!(world.payment(&payment.id).await.captured.minor(), 1500);
    world.books_fit(&payment.id).await;
}

/// Somebody gives back in the back office, and nobody tells. A refund of ours of the same amount would be
/// taken for done by theirs, were it lost.
#[tokio::test(start_paused = true)]
async fn a_refund_of_somebody_else_is_booked_before_ours_begins() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world
        .fake
        .change(&payment.id, |object| object.refunded = 1000);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    assert_eq!(refund.unwrap_err().code(), Code::InvalidState);
    assert_eq!(world.fake.calls("refund "), 0);
    world.run_for(Duration::from_secs(5)).await;
    assert_eq!(world.payment(&payment.id).await.refunded.minor(), 1000);
    world.fake.fault("refund", Fault::LostBefore);
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    world.run_minutes(10).await;
    let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(standing, OperationStatus::Succeeded);
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    assert_eq!(world.payment(&payment.id).await.refunded.minor(), 2000);
}

/// A refund of what was never captured, and has no id, is refused as that.
#[tokio::test(start_paused = true)]
async fn what_took_nothing_is_not_called_captured_by_a_person() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("reserve", Fault::Declined);
    let declined = world.pay(&charge("r-1")).await;
    assert_eq!(declined.status, PaymentStatus::Declined);
    let refund = world
        .gateway
        .refund(&world.key(), &declined.id, &give(Some(100)))
        .await;
    let refused = refund.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(!refused.to_string().contains("person"), "{refused}");
}

/// Where a refund names no capture, the provider is not asked which there are.
#[tokio::test(start_paused = true)]
async fn a_refund_of_the_whole_payment_asks_for_no_captures() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    world.fake.capture_elsewhere(&held.id, 4990);
    world.webhook("event-1", &held.id).await;
    world.run_minutes(2).await;
    assert_eq!(
        world.payment(&held.id).await.status,
        PaymentStatus::Captured
    );
    let asked = world.fake.calls("lookup");
    let refund = world
        .gateway
        .refund(&world.key(), &held.id, &give(Some(100)))
        .await;
    assert_eq!(refund.unwrap().body.status, OperationStatus::Succeeded);
    assert_eq!(world.fake.calls("lookup"), asked);
}

/// Who drives a payment keeps it; a void comes in its turn.
#[tokio::test(start_paused = true)]
async fn a_void_waits_for_whoever_drives_the_payment() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&present("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::ActionRequired);
    let gate = Arc::new(Notify::new());
    world.fake.fault("lookup", Fault::Wait(Arc::clone(&gate)));
    let gateway = world.gateway.clone();
    let question = tokio::spawn(async move { gateway.reconcile().await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let row = async || world.store.payment(&payment.id).await.unwrap().unwrap();
    let leased = row().await;
    assert!(leased.lease_until > world.clock.now());
    let refused = world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InProgress);
    assert!(
        refused.message().contains("is being worked on"),
        "{refused}"
    );
    assert_eq!(row().await, leased, "nothing was changed");
    gate.notify_one();
    question.await.unwrap().unwrap();

    // A lease that ends just now is over.
    let mut ends_now = row().await;
    ends_now.lease_until = world.clock.now();
    let change = vec![Change::UpdatePayment(ends_now)];
    world.store.apply(change).await.unwrap();
    let voided = world
        .gateway
        .void(&world.key(), &payment.id, &release())
        .await;
    let voided = voided.unwrap().body;
    assert_eq!(voided.status, PaymentStatus::Voided, "{voided:?}");
}

/// What happens beside a call, just before it answers, is not in its answer: the same key gives the same
/// bytes again.
#[tokio::test(start_paused = true)]
async fn what_comes_beside_a_capture_does_not_change_its_answer() {
    for reads in 0..100 {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&hold("r-1")).await;
        let (beside, key) = (world.another_worker(), world.key());
        let id = payment.id.clone();
        world.clock.interrupt(reads, move || {
            let part = take(Some(500), Some(false));
            tokio::spawn(async move { beside.capture(&key, &id, &part).await });
        });
        let (key, part) = (world.key(), take(Some(1000), Some(false)));
        let capture = async || world.gateway.capture(&key, &payment.id, &part).await;
        let first = capture().await;
        let over = world.clock.calm();
        if let Ok(first) = first {
            assert_eq!(bytes(&first), bytes(&capture().await.unwrap()), "{reads}");
        }
        if over {
            assert!(reads > 5, "{reads}");
            return;
        }
    }
    unreachable!("it reads the clock too often");
}

impl World {
    /// However often it is tried within a call.
    fn never_leaves(&self, call: &'static str) {
        for _ in 0..20 {
            self.fake.fault(call, Fault::NotSent);
        }
    }
}

/// What never left has moved nothing: it has failed, and the caller is told so at once.
#[tokio::test(start_paused = true)]
async fn an_operation_that_never_left_has_failed_at_once() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let held = world.pay(&hold("r-1")).await;
    for call in ["capture", "void"] {
        world.never_leaves(call);
        let key = world.key();
        let answer = match call {
            "capture" => {
                let whole = take(None, None);
                world.gateway.capture(&key, &held.id, &whole).await
            }
            _ => world.gateway.void(&key, &held.id, &release()).await,
        };
        let last = answer.unwrap().body.operations.pop().unwrap();
        assert_eq!(last.status, OperationStatus::Failed, "{call}");
        world.fake.no_more_faults();
    }
    let payment = world.pay(&charge("r-2")).await;
    world.never_leaves("refund");
    let (key, part) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &part).await;
    assert_eq!(refund.unwrap().body.status, OperationStatus::Failed);
    world.fake.no_more_faults();
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (0, 0));
}

/// A repeat that never leaves, or that the provider refuses, says nothing of the first send, which has
/// arrived: only a question tells.
#[tokio::test(start_paused = true)]
async fn a_repeat_without_effect_does_not_end_what_may_have_arrived() {
    for answer in [Fault::Absent, Fault::Refused] {
        for fault in [Fault::NotSent, Fault::Refused] {
            let world = World::new(Shape::TwoCalls);
            world.linked().await;
            let payment = world.pay(&charge("r-1")).await;
            world.fake.fault("refund", Fault::LostAfter);
            let (key, part) = (world.key(), give(Some(1000)));
            let refund = world.gateway.refund(&key, &payment.id, &part).await;
            let refund = refund.unwrap().body.id;
            let status = async || world.gateway.refund_by_id(&refund).await.unwrap().status;
            let sent = world.fake.calls("refund ");
            world.fake.fault("find_operation", answer.clone());
            match fault {
                Fault::NotSent => world.never_leaves("refund"),
                _ => world.fake.fault("refund", fault.clone()),
            }
            world.reconcile().await;
            world.fake.no_more_faults();
            assert!(world.fake.calls("refund ") > sent, "it was repeated");
            assert_eq!(
                status().await,
                OperationStatus::Unknown,
                "{answer:?} {fault:?}"
            );
            world.run_minutes(5).await;
            assert_eq!(status().await, OperationStatus::Succeeded);
            assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
            world.books_fit(&payment.id).await;
        }
    }
}

/// Whoever has lost its lease writes no end: the one that has it now does.
#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_lease_ends_nothing() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let (late, question) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    world.fake.fault("refund", Fault::LostAfter);
    let (key, part) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &part).await;
    let refund = refund.unwrap().body.id;
    let ask = |gate: &Arc<Notify>| {
        let fault = Fault::Wait(Arc::clone(gate));
        world.fake.fault("find_operation", fault);
        let worker = world.another_worker();
        tokio::spawn(async move { worker.reconcile().await.unwrap() })
    };
    let first = ask(&late);
    tokio::time::sleep(200 * Duration::from_secs(1)).await;
    let second = ask(&question);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let row = async || world.store.operation(&refund).await.unwrap().unwrap();
    let leased = row().await;
    late.notify_one();
    first.await.unwrap();
    assert_eq!(row().await, leased, "it has another's lease");
    question.notify_one();
    second.await.unwrap();
    let ended = row().await;
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(ended.failure, None);
    world.books_fit(&payment.id).await;
}

/// It is told once that a person must look.
#[tokio::test(start_paused = true)]
async fn what_is_parked_is_told_once() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::Review);
    let (key, part) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &part).await;
    let told = ("refund.parked".to_owned(), refund.unwrap().body.id);
    for _ in 0..3 {
        let events = world.events().await;
        assert_eq!(events.iter().filter(|event| **event == told).count(), 1);
        tokio::time::advance(HOUR).await;
        world.reconcile().await;
    }
}

/// The clock is set while a question about an operation is on its way: it is asked again at once.
#[tokio::test(start_paused = true)]
async fn a_question_beside_a_jump_of_the_clock_is_asked_again() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostBefore);
    let (key, part) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &part).await;
    let refund = refund.unwrap().body.id;
    let gate = Arc::new(Notify::new());
    world
        .fake
        .fault("find_operation", Fault::Wait(Arc::clone(&gate)));
    world.reconcile_meanwhile(&gate, MINUTE).await;
    let row = world.store.operation(&refund).await.unwrap().unwrap();
    assert!(row.may_end());
    assert!(row.next_at.is_some_and(|at| at <= world.clock.now()));
    world.run_minutes(10).await;
    let ended = world.gateway.refund_by_id(&refund).await.unwrap();
    assert_eq!(ended.status, OperationStatus::Succeeded);
    world.books_fit(&payment.id).await;
}

impl World {
    /// One asks, the clock jumps and is looked at, and the answer comes.
    async fn reconcile_meanwhile(&self, gate: &Arc<Notify>, jump: Duration) {
        let gateway = self.gateway.clone();
        let asking = tokio::spawn(async move { gateway.reconcile().await.unwrap() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.clock.forward(jump);
        self.gateway.look_at_clock().await.unwrap();
        gate.notify_one();
        asking.await.unwrap();
    }
}

/// What a provider finds by its name, and not by its sum, is no other's, whatever else is open.
#[tokio::test(start_paused = true)]
async fn what_is_found_with_an_id_has_no_rivals() {
    let capabilities = Capabilities {
        finds_by_sum: true,
        ..Shape::TwoCalls.capabilities()
    };
    let world = World::with(capabilities, |_| {});
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let mut refunds = Vec::new();
    for _ in 0..2 {
        world.fake.fault("refund", Fault::LostAfter);
        let (key, part) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &part).await;
        refunds.push(refund.unwrap().body.id);
    }
    let sent = world.fake.calls("refund ");
    world.reconcile().await;
    for refund in refunds {
        let refund = world.gateway.refund_by_id(&refund).await.unwrap();
        assert_eq!(refund.status, OperationStatus::Succeeded);
    }
    assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
    world.books_fit(&payment.id).await;
}

/// The same of a charge, which is given back in part as soon as it is taken.
#[tokio::test(start_paused = true)]
async fn what_comes_beside_a_charge_does_not_change_its_answer() {
    for reads in 0..100 {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let (beside, store, key) = (
            world.another_worker(),
            Arc::clone(&world.store),
            world.key(),
        );
        world.clock.interrupt(reads, move || {
            tokio::spawn(async move {
                let all = PaymentFilter {
                    account: None,
                    state: None,
                    reference: None,
                    before: None,
                    limit: 1,
                };
                let rows = store.payments(&all).await.unwrap();
                for row in rows {
                    drop(beside.refund(&key, &row.id, &give(Some(500))).await);
                }
            });
        });
        let key = world.key();
        let pay = async || world.gateway.pay(&key, &charge("r-1")).await;
        let first = pay().await.unwrap();
        let over = world.clock.calm();
        assert_eq!(bytes(&first), bytes(&pay().await.unwrap()), "{reads}");
        if over {
            assert!(reads > 5, "{reads}");
            return;
        }
    }
    unreachable!("it reads the clock too often");
}
