//! What is left of a payment while something of it is open, where parts are not possible, and at
//! the edge of a lease.

use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::message::{CaptureRequest, OperationStatus, Payment, PaymentStatus, Refund};
use cardless_contract::{Capabilities, Clock as _, Repeat};

use crate::fake::{Fault, Kind, Shape};
use crate::world::*;

async fn capture(world: &World, id: &str, request: CaptureRequest) -> Result<Payment, Error> {
    let answer = world.gateway.capture(&world.key(), id, &request).await;
    answer.map(|answer| answer.body)
}

async fn refund(world: &World, id: &str, minor: Option<i64>) -> Result<Refund, Error> {
    let answer = world.gateway.refund(&world.key(), id, &give(minor)).await;
    answer.map(|answer| answer.body)
}

async fn held(world: &World, reference: &str) -> String {
    world.linked().await;
    world.pay(&hold(reference)).await.id
}

#[tokio::test(start_paused = true)]
async fn what_an_open_capture_may_take_is_not_left() {
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    world.fake.fault("capture", Fault::Pending);
    capture(&world, &id, take(Some(1000), Some(false)))
        .await
        .unwrap();

    let over = capture(&world, &id, take(Some(3991), Some(false))).await;
    let over = over.unwrap_err();
    assert_eq!(over.code(), Code::AmountExceedsRemaining);
    assert_eq!(over.field_path(), Some("amount.minor"));
    assert!(over.message().contains("39.90"), "{over}");

    let rest = capture(&world, &id, take(None, Some(false))).await.unwrap();
    assert_eq!(rest.operations[1].amount.minor(), 3990);
    let none = capture(&world, &id, take(None, Some(false))).await;
    assert_eq!(none.unwrap_err().field_path(), Some("amount.minor"));
    world.fake.finish_pending();
    world.run_minutes(5).await;
    assert_eq!(world.fake.moved(Kind::Capture, &id), (2, 4990));
    world.books_fit(&id).await;
}

#[tokio::test(start_paused = true)]
async fn what_an_open_refund_may_give_back_is_not_left() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let id = world.pay(&charge("r-1")).await.id;
    world.fake.fault("refund", Fault::Pending);
    let part = refund(&world, &id, Some(1000)).await;
    part.unwrap();

    let over = refund(&world, &id, Some(3991)).await;
    let over = over.unwrap_err();
    assert_eq!(over.field_path(), Some("amount.minor"));
    assert!(over.message().contains("39.90"), "{over}");
    let rest = refund(&world, &id, None).await;
    assert_eq!(rest.unwrap().amount.minor(), 3990);
    let none = refund(&world, &id, None).await;
    assert_eq!(none.unwrap_err().field_path(), Some("amount.minor"));
    world.fake.finish_pending();
    world.run_minutes(5).await;
    assert_eq!(world.fake.moved(Kind::Refund, &id), (2, 4990));
    world.books_fit(&id).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_voided_under_an_open_capture() {
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    let gateway = &world.gateway;
    world.fake.fault("capture", Fault::Pending);
    capture(&world, &id, take(Some(1000), Some(false)))
        .await
        .unwrap();
    let void = gateway.void(&world.key(), &id, &release()).await;
    assert_eq!(code(void), Code::InvalidState);
    assert_eq!(world.fake.calls("void"), 0);

    world.fake.finish_pending();
    world.run_minutes(5).await;
    let void = gateway.void(&world.key(), &id, &release()).await.unwrap();
    assert_eq!(void.body.status, PaymentStatus::Captured);
    let amounts: Vec<i64> = void
        .body
        .operations
        .iter()
        .map(|operation| operation.amount.minor())
        .collect();
    assert_eq!(amounts, [1000, 3990], "what is released is what is left");
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_captured_by_its_last_capture_or_once_nothing_is_left() {
    for (minor, last) in [(1000, true), (4990, false), (4990, true)] {
        let world = World::new(Shape::TwoCalls);
        let id = held(&world, "r-1").await;
        let answer = capture(&world, &id, take(Some(minor), Some(last))).await;
        let body = answer.unwrap();
        let end = (body.status, body.captured.minor());
        assert_eq!(end, (PaymentStatus::Captured, minor), "{last}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_without_parts_takes_and_gives_back_the_whole() {
    let whole_only = Capabilities {
        partial_capture: false,
        partial_refund: false,
        ..Shape::TwoCalls.capabilities()
    };
    let world = World::with(whole_only, |_| {});
    let id = held(&world, "r-1").await;
    for minor in [1, 4989] {
        let part = capture(&world, &id, take(Some(minor), None)).await;
        assert_eq!(code(part), Code::NotSupported, "{minor}");
    }
    assert_eq!(world.fake.calls("capture"), 0);
    let whole = capture(&world, &id, take(Some(4990), None)).await;
    assert_eq!(whole.unwrap().status, PaymentStatus::Captured);
    for minor in [1, 4989] {
        let part = refund(&world, &id, Some(minor)).await;
        assert_eq!(code(part), Code::NotSupported, "{minor}");
    }
    assert_eq!(world.fake.calls("refund"), 0);
    let whole = refund(&world, &id, Some(4990)).await;
    assert_eq!(whole.unwrap().status, OperationStatus::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_refund_names_a_capture_that_has_enough_left() {
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    for (minor, last) in [(1000, false), (3000, true)] {
        capture(&world, &id, take(Some(minor), Some(last)))
            .await
            .unwrap();
    }
    let give_back = async |minor| refund(&world, &id, Some(minor)).await;
    // A refund that has failed has given nothing back.
    world.fake.fault("refund", Fault::Refused);
    assert_eq!(
        give_back(2500).await.unwrap().status,
        OperationStatus::Failed
    );
    for minor in [2500, 800] {
        let given = give_back(minor).await.unwrap();
        assert_eq!(given.status, OperationStatus::Succeeded);
    }
    // 500 are left of one and 200 of the other.
    let over = give_back(501).await.unwrap_err();
    assert_eq!(over.code(), Code::AmountExceedsRemaining);
    assert!(over.message().contains("5.00"), "{over}");
    for minor in [500, 200] {
        let given = give_back(minor).await.unwrap();
        assert_eq!(given.status, OperationStatus::Succeeded);
    }
    assert_eq!(world.fake.moved(Kind::Refund, &id), (4, 4000));
    world.books_fit(&id).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_over_at_its_end() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let paid = world.pay(&charge("r-1")).await.id;
    let held = world.pay(&hold("r-2")).await.id;
    let keys = [world.key(), world.key(), world.key()];
    for call in ["refund", "capture", "commit"] {
        world.fake.fault(call, Fault::Hang);
    }
    let dead = world.another_worker();
    let calls = tokio::spawn({
        let (keys, paid, held) = (keys.clone(), paid.clone(), held.clone());
        async move {
            let (part, all, third) = (give(Some(1000)), take(None, None), charge("r-3"));
            tokio::join!(
                dead.refund(&keys[0], &paid, &part),
                dead.capture(&keys[1], &held, &all),
                dead.pay(&keys[2], &third),
            )
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let gateway = &world.gateway;
    let refund = async || gateway.refund(&keys[0], &paid, &give(Some(1000))).await;
    let capture = async || gateway.capture(&keys[1], &held, &take(None, None)).await;
    let pay = async || gateway.pay(&keys[2], &charge("r-3")).await;
    let rows = world.store.operations(&paid).await.unwrap();
    let left = rows[0].lease_until.since(world.clock.now());

    world.clock.forward(left - Duration::from_millis(1));
    assert_eq!(code(refund().await), Code::InProgress);
    assert_eq!(code(capture().await), Code::InProgress);
    assert_eq!(code(pay().await), Code::InProgress);
    assert_eq!(world.reconcile().await.leased, 3);
    world.clock.forward(Duration::from_millis(1));
    assert!(refund().await.unwrap().open);
    assert!(capture().await.unwrap().open);
    assert!(pay().await.unwrap().open);
    let report = world.reconcile().await;
    assert_eq!((report.looked_at, report.leased), (3, 0));
    calls.abort();
}

#[tokio::test(start_paused = true)]
async fn an_operation_is_sent_again_until_a_day_is_over() {
    let day = Duration::from_hours(24);
    for (beyond, sent) in [(Duration::ZERO, 2), (Duration::from_millis(1), 1)] {
        let mut capabilities = Shape::Page.capabilities();
        capabilities.repeat_refund = Repeat::KeyedForever;
        let world = World::with(capabilities, |_| {});
        world.linked().await;
        let id = world.pay(&charge("r-1")).await.id;
        world.fake.fault("refund", Fault::LostBefore);
        let asked_for = world.clock.now();
        let refund = refund(&world, &id, Some(1000)).await;
        refund.unwrap();
        let until = asked_for.plus(day + beyond);
        world.clock.forward(until.since(world.clock.now()));
        world.reconcile().await;
        assert_eq!(world.fake.calls("refund"), sent, "{beyond:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_looks_at_a_payment_again_without_a_reason() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let paid = world.pay(&charge("r-1")).await.id;
    let row = world.store.payment(&paid).await.unwrap().unwrap();
    assert_eq!((row.next_at, row.lease_until.millis()), (None, 0));
    let refund = refund(&world, &paid, None).await;
    let refund = refund.unwrap().id;
    let row = world.store.operation(&refund).await.unwrap().unwrap();
    assert_eq!((row.next_at, row.lease_until.millis()), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_captured_elsewhere_is_given_back_too() {
    for notified in [true, false] {
        let world = World::new(Shape::TwoCalls);
        let id = held(&world, "r-1").await;
        world.fake.capture_elsewhere(&id, 4990);
        if notified {
            world.webhook("e-1", &id).await;
            world.run_for(Duration::from_secs(2)).await;
        } else {
            let answer = capture(&world, &id, take(None, None)).await.unwrap();
            assert_eq!(answer.operations[0].status, OperationStatus::Failed);
            world.run_minutes(1).await;
        }
        let payment = world.payment(&id).await;
        assert_eq!(payment.status, PaymentStatus::Captured);
        for minor in [Some(1000), None] {
            let given = refund(&world, &id, minor).await.unwrap();
            assert_eq!(given.status, OperationStatus::Succeeded);
        }
        world.books_fit(&id).await;
        assert_eq!(world.fake.moved(Kind::Refund, &id), (2, 4990));
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_several_captures_gives_back_its_own_whoever_made_it() {
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    capture(&world, &id, take(Some(1000), Some(false)))
        .await
        .unwrap();
    world.fake.capture_elsewhere(&id, 3000);
    world.fake.capture_elsewhere(&id, 990);
    world.webhook("e-1", &id).await;
    world.run_for(Duration::from_secs(2)).await;
    // None of the three has as much.
    let whole = refund(&world, &id, None).await.unwrap_err();
    assert_eq!(whole.code(), Code::AmountExceedsRemaining);
    assert!(whole.message().contains("30.00"), "{whole}");
    for minor in [2000, 1000, 990, 1000] {
        let given = refund(&world, &id, Some(minor)).await.unwrap();
        assert_eq!(given.status, OperationStatus::Succeeded, "{minor}");
    }
    world.books_fit(&id).await;
    assert_eq!(world.fake.moved(Kind::Refund, &id), (4, 4990));
    // Nobody is asked where our own books tell.
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    capture(&world, &id, take(None, None)).await.unwrap();
    let looks = world.fake.calls("lookup");
    refund(&world, &id, None).await.unwrap();
    assert_eq!(world.fake.calls("lookup"), looks);
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_a_refund_that_needs_it_is_not_begun() {
    let world = World::new(Shape::TwoCalls);
    let id = held(&world, "r-1").await;
    capture(&world, &id, take(Some(1000), Some(false)))
        .await
        .unwrap();
    world.fake.capture_elsewhere(&id, 3990);
    world.webhook("e-1", &id).await;
    world.run_for(Duration::from_secs(2)).await;
    world.fake.fault("lookup", Fault::LostBefore);
    let key = world.key();
    let refused = world.gateway.refund(&key, &id, &give(Some(3990))).await;
    assert_eq!(code(refused), Code::ProviderUnavailable);
    assert_eq!(world.fake.calls("refund"), 0);
    // Nothing was stored under its key.
    let given = world.gateway.refund(&key, &id, &give(Some(3990))).await;
    assert_eq!(given.unwrap().body.status, OperationStatus::Succeeded);
    world.books_fit(&id).await;
}
