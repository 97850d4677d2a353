//! The machine's clock jumps while something is open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cardless::gateway::{AuditQuery, OVERLAP, ROTATE_AFTER, ResolveAs, ResolveRequest};
use cardless::message::{OperationStatus, PaymentStatus, SetupStatus};
use cardless::store::{Change, HeldTopicRow, OperationState, WebhookRow};
use cardless_contract::Clock as _;
use tokio::sync::Notify;

use crate::fake::{Fault, KEY_WINDOW, Kind, Shape};
use crate::keys::Files;
use crate::world::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn steps(world: &World) -> Vec<String> {
    let query = AuditQuery {
        action: Some("clock.step".to_owned()),
        limit: 100,
        ..AuditQuery::default()
    };
    let lines = world.gateway.audit_lines(&query).await.unwrap().data;
    let seconds = |details: &str| details.to_owned();
    lines
        .iter()
        .map(|line| seconds(&format!("{:?}", line.details)))
        .collect()
}

/// A refund was sent while the clock was two hours ahead; then it is put right. The provider does not
/// tell what became of it, and knows its key for an hour.
#[tokio::test(start_paused = true)]
async fn a_window_is_not_opened_again_by_a_clock_that_is_put_back() {
    for stopped_meanwhile in [false, true] {
        let world = World::new(Shape::Holds);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.clock.forward(2 * HOUR);
        world.fake.fault("refund", Fault::LostAfter);
        let (key, request) = (world.key(), give(Some(1000)));
        let refund = world.gateway.refund(&key, &payment.id, &request).await;
        let refund = refund.unwrap().body.id;
        // Nobody answers until the hour is over; then the answer does not tell.
        for _ in 0..500 {
            world.fake.fault("find_operation", Fault::NotSent);
        }
        let sent = world.fake.calls("refund ");
        if stopped_meanwhile {
            world.clock.back(2 * HOUR);
        }
        let resolver = world.gateway.clone();
        let running = tokio::spawn(async move {
            resolver.run(tokio::time::sleep(6 * KEY_WINDOW)).await;
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        if !stopped_meanwhile {
            world.clock.back(2 * HOUR);
        }
        tokio::time::sleep(KEY_WINDOW + MINUTE).await;
        world.fake.no_more_faults();
        for _ in 0..500 {
            world.fake.fault("find_operation", Fault::Refused);
        }
        running.await.unwrap();
        let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
        assert_eq!(standing, OperationStatus::Parked, "{stopped_meanwhile}");
        assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
        assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
        let steps = steps(&world).await;
        assert_eq!(steps.len(), 1, "{steps:?}");
        assert!(
            steps[0].contains("-7200") || steps[0].contains("-719"),
            "{steps:?}"
        );
    }
}

/// A refund that is sent while the clock is two hours ahead, and whose reply is lost; then the clock
/// is put right, while the service stands still.
async fn sent_by_a_wrong_clock(world: &World) -> String {
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.clock.forward(2 * HOUR);
    world.fake.fault("refund", Fault::LostAfter);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    world.clock.back(2 * HOUR);
    // The provider does not tell what became of it.
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::Refused);
    }
    refund.unwrap().body.id
}

/// The same, with a person who looks after everything open once the provider has forgotten its key.
#[tokio::test(start_paused = true)]
async fn reconcile_opens_no_window_again() {
    let world = World::new(Shape::Holds);
    let refund = sent_by_a_wrong_clock(&world).await;
    tokio::time::advance(KEY_WINDOW + 15 * MINUTE).await;
    let sent = world.fake.calls("refund ");
    world.another_worker().reconcile().await.unwrap();
    assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
    let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(standing, OperationStatus::Parked);
    assert_eq!(steps(&world).await.len(), 1);
}

/// The same, with an erasure that must bring everything to its end first.
#[tokio::test(start_paused = true)]
async fn an_erasure_opens_no_window_again() {
    let world = World::new(Shape::Holds);
    let refund = sent_by_a_wrong_clock(&world).await;
    tokio::time::advance(KEY_WINDOW + 15 * MINUTE).await;
    let sent = world.fake.calls("refund ");
    let erasure = world.gateway.erase(&world.key(), "a-1").await.unwrap();
    assert!(erasure.open);
    assert_eq!(steps(&world).await.len(), 1);
    // By the wrong clock's time of sending, the window would be open an hour later still.
    tokio::time::advance(HOUR).await;
    world.gateway.continue_erasure("a-1").await.unwrap();
    assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
    let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(standing, OperationStatus::Parked);
    assert_eq!(steps(&world).await.len(), 1, "reckoned with once");
}

/// A refund was sent by a clock that was right, and the service was at work until just before the
/// provider forgets its key. Then the clock is put back while the service stands still, not as far as
/// to where the refund was sent.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_put_back_to_after_what_was_sent_opens_no_window_again() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.fake.fault("refund", Fault::LostAfter);
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::NotSent);
    }
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    let nearly = KEY_WINDOW - 10 * MINUTE;
    world.gateway.run(tokio::time::sleep(nearly)).await;
    world.clock.back(KEY_WINDOW / 2);
    tokio::time::advance(12 * MINUTE).await;
    world.fake.no_more_faults();
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::Refused);
    }
    let sent = world.fake.calls("refund ");
    world.another_worker().reconcile().await.unwrap();
    assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
    let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(standing, OperationStatus::Parked);
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    assert_eq!(steps(&world).await.len(), 1);
}

/// A request is on its way while the clock jumps ahead: that it can't be on its way any more is not
/// proven by that.
#[tokio::test(start_paused = true)]
async fn nothing_is_proven_by_a_clock_that_jumps_ahead() {
    let world = World::new(Shape::Page);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    let late = Fault::Late(Duration::from_secs(100));
    world.fake.fault("void", late);
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(10 * MINUTE)).await;
    });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let other = world.another_worker();
    let (key, request) = (world.key(), release());
    let voided = other.void(&key, &payment.id, &request).await.unwrap();
    assert!(voided.open);
    world.clock.forward(HOUR);
    running.await.unwrap();
    // It arrived after the jump, and is not sent twice.
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Voided
    );
    assert_eq!(world.fake.moved(Kind::Void, &payment.id).0, 1);
    assert_eq!(world.fake.calls("void "), 1);
    assert_eq!(steps(&world).await.len(), 1);
}

/// A clock that is years ahead for a while, at the start of a process or in the middle of one, makes
/// no key old: a repeat of the call charges nothing twice.
#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_by_a_clock_that_is_far_ahead() {
    let years = 900 * DAY;
    for from_the_start in [false, true] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let key = world.key();
        let first = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
        let events = world.events().await;
        let resolver = world.gateway.clone();
        let running = tokio::spawn(async move {
            resolver.run(tokio::time::sleep(HOUR)).await;
        });
        if !from_the_start {
            tokio::time::sleep(MINUTE).await;
            world.clock.forward(years);
        }
        running.await.unwrap();
        if from_the_start {
            world.clock.forward(years);
        }
        // It is started again and again before somebody puts it right, and works meanwhile.
        for _ in 0..3 {
            world.run_for(HOUR).await;
            world.pay(&charge("r-2")).await;
        }
        world.clock.back(years);
        world.run_for(HOUR).await;
        let again = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
        assert_eq!(bytes(&first), bytes(&again), "{from_the_start}");
        assert!(
            world.events().await.starts_with(&events),
            "{from_the_start}"
        );
    }
}

/// A clock that is years ahead at two starts, weeks apart, with the right time in between: what the
/// first one has written, and what was written before anybody looks at the clock, do not hide the second.
#[tokio::test(start_paused = true)]
async fn nothing_is_forgotten_by_a_clock_that_is_far_ahead_twice() {
    let years = 3 * 365 * DAY;
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let key = world.key();
    let first = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    let events = world.events().await;
    world.run_for(HOUR).await;
    let starts = async || {
        let gateway = world.another_worker();
        gateway.run(tokio::time::sleep(HOUR)).await;
    };
    for start in 1..=2 {
        world.clock.forward(years);
        world.pay(&charge("r-2")).await;
        world.another_worker().reconcile().await.unwrap();
        starts().await;
        world.clock.back(years);
        starts().await;
        assert_eq!(steps(&world).await.len(), 2 * start, "ahead and back");
        tokio::time::advance(21 * DAY).await;
    }
    let again = world.gateway.pay(&key, &charge("r-1")).await.unwrap();
    assert_eq!(bytes(&first), bytes(&again));
    assert!(world.events().await.starts_with(&events));
}

/// A worker died in the middle of a refund, a hold is to be looked at, a revocation and an event wait,
/// all by a clock that was a day ahead: once it is put right, nothing stands still for that day.
#[tokio::test(start_paused = true)]
async fn nothing_stands_still_after_a_clock_was_put_back() {
    for stopped_meanwhile in [false, true] {
        let world = World::new(Shape::TwoCalls);
        let method = world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        let gateway = world.another_worker();
        let resolver = tokio::spawn(async move {
            let works = if stopped_meanwhile {
                3 * MINUTE
            } else {
                80 * MINUTE
            };
            gateway.run(tokio::time::sleep(works)).await;
        });
        tokio::time::sleep(MINUTE).await;
        world.clock.forward(DAY);
        tokio::time::sleep(2 * SECOND).await;
        let held = world.pay(&hold("r-2")).await;
        world.fake.fault("refund", Fault::HangAfter);
        let (dead, key, id) = (world.another_worker(), world.key(), payment.id.clone());
        let call = tokio::spawn(async move { dead.refund(&key, &id, &give(Some(1000))).await });
        tokio::time::sleep(SECOND).await;
        world.fake.fault("revoke", Fault::LostBefore);
        assert!(world.gateway.revoke(&method, "a-1").await.unwrap().open);
        leave_an_event_waiting(&world).await;
        if stopped_meanwhile {
            resolver.await.unwrap();
            world.clock.back(DAY);
            world.run_for(75 * MINUTE).await;
        } else {
            world.clock.back(DAY);
            resolver.await.unwrap();
        }

        let now = world.clock.now();
        let refund = world.store.operations(&payment.id).await.unwrap();
        assert_eq!(
            refund[0].state,
            OperationState::Succeeded,
            "{stopped_meanwhile}"
        );
        assert_eq!(world.fake.state.lock().unwrap().revoked.len(), 1);
        let look = world
            .store
            .payment(&held.id)
            .await
            .unwrap()
            .unwrap()
            .next_at;
        assert!(look.unwrap() <= now.plus(7 * DAY + MINUTE), "{look:?}");
        let lease = world.store.delivery().await.unwrap().lease_until;
        assert!(lease <= now.plus(5 * MINUTE), "{lease:?}");
        let again = world.store.held_topics().await.unwrap()[0].next_at;
        assert!(again <= now.plus(5 * HOUR), "{again:?}");
        let known = steps(&world).await;
        world.run_for(SECOND).await;
        assert_eq!(steps(&world).await, known, "{stopped_meanwhile}");
        call.abort();
    }
}

/// A worker that delivers has died, and one event waits for its next attempt.
async fn leave_an_event_waiting(world: &World) {
    let (sequence, event) = world.store.events(0, 1).await.unwrap().remove(0);
    let now = world.clock.now();
    let mut delivery = world.store.delivery().await.unwrap();
    delivery.lease_until = now.plus(MINUTE);
    let topic = HeldTopicRow {
        topic: event.topic,
        sequence,
        attempts: 1,
        next_at: now.plus(MINUTE),
    };
    let batch = vec![Change::UpdateDelivery(delivery), Change::HoldTopic(topic)];
    world.store.apply(batch).await.unwrap();
}

/// A payment, a refund and a setup that began by a clock that was years ahead, and of which their
/// provider tells nothing: once it is put right they end, or a person looks, as if they were old.
#[tokio::test(start_paused = true)]
async fn what_began_by_a_clock_that_was_ahead_ends_or_waits_for_a_person() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.clock.forward(900 * DAY);
    for call in ["lookup", "find_operation", "complete_setup"] {
        for _ in 0..500 {
            world.fake.fault(call, Fault::LostBefore);
        }
    }
    world.fake.fault("commit", Fault::LostAfter);
    let lost = world.pay(&charge("r-2")).await;
    world.fake.fault("refund", Fault::LostAfter);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    let setup = world.gateway.link(&world.key(), &link_request()).await;
    let setup = setup.unwrap().body.id;
    world.clock.back(900 * DAY);
    world.run_hours(30).await;
    let refund = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(refund, OperationStatus::Parked);
    assert_eq!(world.payment(&lost.id).await.status, PaymentStatus::Parked);
    let setup = world.gateway.setup(&setup).await.unwrap().status;
    assert_eq!(setup, SetupStatus::Expired);
}

/// A provider says that it is at work on what began by a clock that was years ahead.
#[tokio::test(start_paused = true)]
async fn what_a_provider_is_at_since_a_clock_was_ahead_waits_for_a_person() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    world.clock.forward(900 * DAY);
    world.fake.fault("commit", Fault::Pending);
    let working = world.pay(&charge("r-2")).await;
    world.fake.fault("refund", Fault::Pending);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    world.clock.back(900 * DAY);
    world.run_hours(2).await;
    let refund = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(refund, OperationStatus::Parked);
    let working = world.payment(&working.id).await.status;
    assert_eq!(working, PaymentStatus::Parked);
}

/// A customer was sent to a page by a clock that was years ahead, and does not come: once it is put
/// right, the customer's time is over; at a page that moves money itself, a person looks.
#[tokio::test(start_paused = true)]
async fn a_page_of_a_clock_that_was_ahead_is_not_waited_for() {
    for (shape, end) in [
        (Shape::TwoCalls, PaymentStatus::Failed),
        (Shape::Page, PaymentStatus::Parked),
    ] {
        let world = World::new(shape);
        world.linked().await;
        world.clock.forward(900 * DAY);
        let payment = world.pay(&present("r-1")).await;
        assert_eq!(payment.status, PaymentStatus::ActionRequired);
        world.clock.back(900 * DAY);
        world.run_hours(2).await;
        assert_eq!(world.payment(&payment.id).await.status, end, "{shape:?}");
    }
}

/// The service runs on while the clock is put back by a day: it is looked as often as before whether
/// another process has rotated the keys.
#[tokio::test(start_paused = true)]
async fn the_keys_are_looked_after_by_a_clock_that_was_put_back() {
    let world = World::new(Shape::TwoCalls);
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(10 * MINUTE)).await;
    });
    tokio::time::sleep(90 * SECOND).await;
    world.clock.back(DAY);
    let before = world.keys.looks.load(Ordering::Relaxed);
    running.await.unwrap();
    let looks = world.keys.looks.load(Ordering::Relaxed) - before;
    assert!(looks >= 8, "{looks}");
}

/// The service runs on while the clock is put back by a day: what has ended is forgotten as before.
#[tokio::test(start_paused = true)]
async fn what_has_ended_is_forgotten_by_a_clock_that_was_put_back() {
    let world = World::new(Shape::TwoCalls);
    let old = || {
        Change::InsertWebhook(WebhookRow {
            provider: "fake".to_owned(),
            event: "old".to_owned(),
            received_at: world.clock.now().minus(91 * DAY),
        })
    };
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(HOUR)).await;
    });
    tokio::time::sleep(MINUTE).await;
    world.clock.back(DAY);
    tokio::time::sleep(MINUTE).await;
    world.store.apply(vec![old()]).await.unwrap();
    running.await.unwrap();
    // It is there no more, so it can come again.
    world.store.apply(vec![old()]).await.unwrap();
}

/// A worker is in the middle of a refund as the clock is put back, and another process starts, or a
/// person looks after everything open: the worker keeps what it has, and ends it.
#[tokio::test(start_paused = true)]
async fn a_lease_is_not_cut_while_its_worker_may_be_at_it() {
    for starts in [false, true] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        let payment = world.pay(&charge("r-1")).await;
        world.clock.forward(DAY);
        let gate = Arc::new(Notify::new());
        world.fake.fault("refund", Fault::Wait(gate.clone()));
        let (at_it, key, id) = (world.another_worker(), world.key(), payment.id.clone());
        let call = tokio::spawn(async move { at_it.refund(&key, &id, &give(Some(1000))).await });
        tokio::time::sleep(SECOND).await;
        world.clock.back(DAY);
        if starts {
            world.run_for(2 * SECOND).await;
        } else {
            world.reconcile().await;
        }
        gate.notify_one();
        let refund = call.await.unwrap().unwrap().body;
        assert_eq!(refund.status, OperationStatus::Succeeded, "{starts}");
        assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    }
}

/// Two processes notice one jump; it is reckoned with once.
#[tokio::test(start_paused = true)]
async fn a_jump_is_reckoned_with_once() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let mut running = tokio::task::JoinSet::new();
    for gateway in [world.gateway.clone(), world.another_worker()] {
        running.spawn(async move { gateway.run(tokio::time::sleep(2 * HOUR)).await });
    }
    tokio::time::sleep(MINUTE).await;
    world.fake.fault("commit", Fault::LostAfter);
    let payment = world.pay(&charge("r-1")).await;
    let before = world.store.payment(&payment.id).await.unwrap().unwrap();
    world.fake.fault("lookup", Fault::LostBefore);
    world.clock.back(HOUR);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let after = world.store.payment(&payment.id).await.unwrap().unwrap();
    let aged = before.accepted_at.since(after.accepted_at);
    assert!(aged >= 59 * MINUTE && aged <= 61 * MINUTE, "{aged:?}");
    running.join_all().await;
    assert_eq!(steps(&world).await.len(), 1);
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    world.books_fit(&payment.id).await;
}

/// A clock that two time services set in turn: each jump is one, however like the one before it is. By
/// the second that is ahead a refund is sent, and its reply is lost.
#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_to_and_fro_opens_no_window_again() {
    let world = World::new(Shape::Holds);
    world.linked().await;
    let payment = world.pay(&charge("r-1")).await;
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(3 * KEY_WINDOW)).await;
    });
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::NotSent);
    }
    tokio::time::sleep(MINUTE).await;
    world.clock.forward(KEY_WINDOW);
    tokio::time::sleep(MINUTE).await;
    world.clock.back(KEY_WINDOW);
    tokio::time::sleep(MINUTE).await;
    world.clock.forward(KEY_WINDOW);
    tokio::time::sleep(MINUTE).await;
    world.fake.fault("refund", Fault::LostAfter);
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    let sent = world.fake.calls("refund ");
    world.clock.back(KEY_WINDOW);
    tokio::time::sleep(KEY_WINDOW + MINUTE).await;
    world.fake.no_more_faults();
    for _ in 0..500 {
        world.fake.fault("find_operation", Fault::Refused);
    }
    running.await.unwrap();
    assert_eq!(steps(&world).await.len(), 4);
    assert_eq!(world.fake.calls("refund "), sent, "nothing was sent again");
    assert_eq!(world.fake.moved(Kind::Refund, &payment.id), (1, 1000));
    let standing = world.gateway.refund_by_id(&refund).await.unwrap().status;
    assert_eq!(standing, OperationStatus::Parked);
}

/// The resolver waits for a provider that stalls while the clock jumps ahead and another worker is asked to
/// void a payment whose commit is still on its way.
#[tokio::test(start_paused = true)]
async fn a_jump_ahead_in_the_middle_of_a_batch_proves_nothing() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let gate = Arc::new(Notify::new());
    world.fake.fault("commit", Fault::LostBefore);
    let stalled = world.pay(&charge("r-1")).await;
    world.fake.fault("lookup", Fault::Wait(gate.clone()));
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(10 * MINUTE)).await;
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let late = Fault::Late(Duration::from_secs(100));
    world.fake.fault("commit", late);
    let payment = world.pay(&charge("r-2")).await;
    world.clock.forward(HOUR);
    let (key, request) = (world.key(), release());
    let voided = world.gateway.void(&key, &payment.id, &request).await;
    let voided = voided.unwrap();
    assert!(voided.open, "{:?}", voided.body);
    gate.notify_one();
    running.await.unwrap();
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    for id in [&payment.id, &stalled.id] {
        world.books_fit(id).await;
    }
}

/// A machine starts with a clock that is an hour ahead, while a commit of before is still on its way; whoever
/// looks first, and however often.
#[tokio::test(start_paused = true)]
async fn a_machine_that_starts_with_a_clock_ahead_proves_nothing() {
    for first in [
        "a service",
        "a person",
        "a service that dies",
        "a person, then it is put back, not far enough",
        "nobody else",
    ] {
        let world = World::new(Shape::TwoCalls);
        world.linked().await;
        world.run_for(MINUTE).await;
        let late = Fault::Late(Duration::from_secs(100));
        world.fake.fault("commit", late);
        let payment = world.pay(&charge("r-1")).await;
        world.clock.forward(HOUR);
        match first {
            "a person" => drop(world.another_worker().reconcile().await.unwrap()),
            "a service that dies" => world.another_worker().look_at_clock().await.unwrap(),
            "a person, then it is put back, not far enough" => {
                world.clock.forward(2 * HOUR);
                world.another_worker().reconcile().await.unwrap();
                world.clock.back(2 * HOUR);
            }
            "nobody else" => {
                // One process that only ever reconciles brings it to its end too.
                let alone = world.another_worker();
                for _ in 0..6 {
                    alone.reconcile().await.unwrap();
                    tokio::time::advance(30 * MINUTE).await;
                }
            }
            _ => {}
        }
        let started = world.another_worker();
        started.run(tokio::time::sleep(10 * MINUTE)).await;
        assert_eq!(
            world.payment(&payment.id).await.status,
            PaymentStatus::Captured,
            "{first}"
        );
        world.books_fit(&payment.id).await;
    }
}

/// A person resolves at a machine that has started with a clock ahead: what was just sent may still arrive.
#[tokio::test(start_paused = true)]
async fn a_person_proves_nothing_by_a_clock_that_is_ahead() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.run_for(MINUTE).await;
    let payment = world.pay(&charge("r-1")).await;
    world
        .fake
        .fault("refund", Fault::Late(Duration::from_secs(100)));
    let (key, request) = (world.key(), give(Some(1000)));
    let refund = world.gateway.refund(&key, &payment.id, &request).await;
    let refund = refund.unwrap().body.id;
    let mut row = world.store.operation(&refund).await.unwrap().unwrap();
    row.state = OperationState::Parked;
    row.next_at = None;
    let park = vec![Change::UpdateOperation(row)];
    world.store.apply(park).await.unwrap();
    world.clock.forward(3 * HOUR);
    let resolve = ResolveRequest {
        payment: payment.id.clone(),
        operation: Some(refund),
        end: ResolveAs::Failed,
        note: "not there".to_owned(),
        person: "kim".to_owned(),
    };
    let refused = world.another_worker().resolve(&resolve).await.unwrap_err();
    assert!(refused.to_string().contains("on its way"), "{refused}");
}

/// Whoever runs a verb now and then, and no service, comes to ends by it.
#[tokio::test(start_paused = true)]
async fn what_is_looked_at_now_and_then_ends() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    for _ in 0..4 {
        tokio::time::advance(20 * MINUTE).await;
        world.another_worker().reconcile().await.unwrap();
    }
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.status, PaymentStatus::Failed, "{payment:?}");
    world.books_fit(&payment.id).await;
}

/// Small corrections are nobody's business.
#[tokio::test(start_paused = true)]
async fn a_small_correction_is_no_jump() {
    let world = World::new(Shape::TwoCalls);
    let gateway = world.gateway.clone();
    let running = tokio::spawn(async move {
        gateway.run(tokio::time::sleep(MINUTE)).await;
    });
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        world.clock.back(Duration::from_secs(2));
    }
    running.await.unwrap();
    assert!(steps(&world).await.is_empty());
}

/// A generation of the exchange keys of which nobody knows how old it is does not hold up the next.
#[tokio::test(start_paused = true)]
async fn exchange_keys_are_renewed_whatever_a_clock_showed_when_they_were_made() {
    let world = World::new(Shape::TwoCalls);
    let published = async || {
        let keys = world.gateway.exchange_keys().await.unwrap();
        let ids = keys["keys"].as_array().unwrap().iter();
        ids.map(|key| key["kid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    world.clock.forward(1000 * DAY);
    let ahead = published().await;
    assert_eq!(ahead.len(), 2);
    world.clock.back(1000 * DAY);
    let due = published().await;
    assert_eq!(due.len(), 4);
    assert_eq!(due[2..], ahead, "the one before is replaced");
    assert_eq!(published().await, due, "once");
    world.clock.forward(OVERLAP);
    assert_eq!(published().await, due[..2]);
    world.clock.forward(ROTATE_AFTER - OVERLAP);
    let renewed = published().await;
    assert_eq!(renewed.len(), 4);
    assert_eq!(renewed[2..], due[..2]);
}

/// A clock that was behind for a moment makes no generation that takes over at once: nobody has fetched
/// it. Nor is the one dropped that everybody uses, whatever its age is.
#[tokio::test(start_paused = true)]
async fn exchange_keys_of_a_clock_that_was_behind_take_over_when_the_others_are_due() {
    for age in [0, 45, 59] {
        let world = World::new(Shape::TwoCalls);
        let published = async || {
            let keys = world.gateway.exchange_keys().await.unwrap();
            let ids = keys["keys"].as_array().unwrap().iter();
            ids.map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let first = published().await;
        world.clock.forward(age * DAY);
        assert_eq!(published().await, first);
        world.clock.back(60 * DAY);
        let behind = published().await;
        assert_eq!((behind.len(), &behind[2..]), (4, first.as_slice()), "{age}");
        world.clock.forward(60 * DAY);
        assert_eq!(published().await, behind, "{age}");
        // As if nothing had happened, the next is made when the first is due.
        world.clock.forward(ROTATE_AFTER - age * DAY - SECOND);
        assert_eq!(published().await, behind, "{age}");
        world.clock.forward(SECOND);
        let renewed = published().await;
        assert_eq!(renewed[2..], behind, "{age}");
        world.clock.forward(OVERLAP);
        assert_eq!(published().await, renewed[..2], "{age}");
    }
}

/// A clock went ahead and back within a second, in which somebody took a lease and put a look off: what
/// is open does not wait until that time comes.
#[tokio::test(start_paused = true)]
async fn what_waits_by_a_clock_that_was_ahead_for_a_moment_is_looked_at() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostAfter);
    let payment = world.pay(&charge("r-1")).await;
    let running = world.gateway.clone();
    let running = tokio::spawn(async move { running.run(tokio::time::sleep(3 * HOUR)).await });
    world.fake.fault("lookup", Fault::NotSent);
    tokio::time::sleep(SECOND).await;
    let mut row = world.store.payment(&payment.id).await.unwrap().unwrap();
    let year = world.clock.now().plus(365 * DAY);
    row.next_at = Some(year);
    row.lease_until = year;
    let put_off = vec![Change::UpdatePayment(row)];
    world.store.apply(put_off).await.unwrap();
    running.await.unwrap();
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    assert!(steps(&world).await.is_empty());
}

/// How far the clock may be ahead after a silence is told once. Whoever has read it before a service held
/// what is open does not tell it again.
#[tokio::test(start_paused = true)]
async fn a_silence_is_over_once_a_service_has_held_what_is_open() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    world.linked().await;
    world.reconcile().await;
    // The service looks and holds beside it; or it has looked before, and holds.
    for has_looked in [false, true] {
        let mut over = false;
        for reads in 0..1000 {
            tokio::time::advance(5 * MINUTE).await;
            let now = world.clock.now().millis();
            if has_looked {
                let told = format!("UPDATE clock_seen SET at = {now}, may_be_ahead = 300000");
                files.execute(&told);
            }
            let file = files.file();
            let held = format!("UPDATE clock_seen SET at = {now}, may_be_ahead = 0");
            let hold = move || file.execute_batch(&held).unwrap();
            world.clock.interrupt(reads, hold);
            let verb = world.another_worker();
            verb.reconcile().await.unwrap();
            over = world.clock.calm();
            let ahead = world.store.clock_seen().await.unwrap().unwrap();
            if over {
                assert_eq!(ahead.may_be_ahead, 5 * MINUTE, "nobody has held it");
                assert!(reads > 1, "{reads}");
                break;
            }
            assert_eq!(ahead.may_be_ahead, Duration::ZERO, "{has_looked} {reads}");
        }
        assert!(over);
    }
}
