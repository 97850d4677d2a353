//! Settings that are exchanged while the gateway runs.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use cardless::error::Code;
use cardless::gateway::Reload;
use cardless::message::{PaymentStatus, SetupStatus};
use cardless::vault::KeyRing;
use tokio::sync::Notify;

use crate::fake::{Fake, Fault, Kind, Shape, Watch};
use crate::world::*;

/// The same provider under new settings: an adapter of its own, with books of its own.
fn successor(world: &World) -> Arc<Fake> {
    let capabilities = Shape::TwoCalls.capabilities();
    Arc::new(Fake::new(capabilities, world.clock.clone()))
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_ends_with_the_adapter_that_it_began_with() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let gate = Arc::new(Notify::new());
    world.fake.fault("commit", Fault::Wait(Arc::clone(&gate)));
    let gateway = world.gateway.clone();
    let key = world.key();
    let paying = tokio::spawn(async move { gateway.pay(&key, &charge("r-1")).await });
    while world.fake.calls("commit") == 0 {
        tokio::task::yield_now().await;
    }
    let new = successor(&world);
    let reload = Reload::default().provider(new.clone());
    world.gateway.reload(reload).await.unwrap();
    let second = world.pay(&charge("r-2")).await;
    assert_eq!(second.status, PaymentStatus::Captured);
    gate.notify_one();
    let first = paying.await.unwrap().unwrap().body;
    assert_eq!(first.status, PaymentStatus::Captured);
    assert_eq!(world.fake.moved(Kind::Capture, &first.id).1, 4990);
    assert_eq!(world.fake.moved(Kind::Capture, &second.id).0, 0);
    assert_eq!(new.moved(Kind::Capture, &second.id).1, 4990);
    assert_eq!(new.moved(Kind::Capture, &first.id).0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_not_lost_while_something_is_open_there() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);

    let refused = world.gateway.reload(Reload::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(
        refused.to_string().contains("[providers.fake]"),
        "{refused}"
    );
    let other = successor(&world);
    other.other_merchant.store(true, Ordering::Relaxed);
    let reload = || Reload::default().provider(other.clone());
    let refused = world.gateway.reload(reload()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(
        refused.to_string().contains("another merchant"),
        "{refused}"
    );

    // The one before is in force, and ends it.
    world.run_minutes(5).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    world.gateway.reload(reload()).await.unwrap();
    world.gateway.reload(Reload::default()).await.unwrap();
    let gone = world.gateway.pay(&world.key(), &charge("r-2")).await;
    assert_eq!(code(gone), Code::Internal);
    assert!(world.gateway.check().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_open_setup_a_parked_payment_and_a_hold_keep_their_provider_too() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world
        .gateway
        .link(&world.key(), &link_request())
        .await
        .unwrap();
    let refused = world.gateway.reload(Reload::default()).await;
    assert_eq!(code(refused), Code::InvalidState);

    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::Review);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Parked);
    let refused = world.gateway.reload(Reload::default()).await;
    assert_eq!(code(refused), Code::InvalidState);

    // Nobody else could capture or release what is held there.
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let payment = world.pay(&hold("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Authorized);
    let refused = world.gateway.reload(Reload::default()).await;
    assert_eq!(code(refused), Code::InvalidState);
}

#[tokio::test(start_paused = true)]
async fn two_providers_of_one_name_change_nothing() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let twice = Reload::default()
        .provider(successor(&world))
        .provider(successor(&world));
    assert_eq!(code(world.gateway.reload(twice).await), Code::Internal);
    world.pay(&charge("r-1")).await;
    assert_eq!(world.fake.calls("commit"), 1);
    world.run_for(Duration::from_secs(1)).await;
}

/// A start with other settings is held to the same as a reload: nothing is asked at a merchant where
/// nothing of ours can be found.
#[tokio::test(start_paused = true)]
async fn a_start_at_another_merchant_waits_until_nothing_is_open() {
    let world = World::new(Shape::TwoCalls);
    world.gateway.keep_merchants().await.unwrap();
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);

    world.fake.other_merchant.store(true, Ordering::Relaxed);
    let started = world.another_worker();
    let refused = started.keep_merchants().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(
        refused.to_string().contains("Put the settings back"),
        "{refused}"
    );
    world.fake.other_merchant.store(false, Ordering::Relaxed);
    started.keep_merchants().await.unwrap();
    world.run_minutes(5).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    // Now nothing is open, and the merchant may be another.
    world.fake.other_merchant.store(true, Ordering::Relaxed);
    started.keep_merchants().await.unwrap();
    started.keep_merchants().await.unwrap();
}

/// What one way to work has begun, another can't end: neither a reload nor a start changes it
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn another_way_to_work_waits_until_nothing_is_open() {
    let world = World::new(Shape::TwoCalls);
    world.gateway.keep_merchants().await.unwrap();
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&charge("r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);

    let other = successor(&world);
    other.other_mode.store(true, Ordering::Relaxed);
    let reload = || Reload::default().provider(other.clone());
    let refused = world.gateway.reload(reload()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.to_string().contains("another way"), "{refused}");
    world.fake.other_mode.store(true, Ordering::Relaxed);
    let started = world.another_worker();
    let refused = started.keep_merchants().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(
        refused.to_string().contains("Put the settings back"),
        "{refused}"
    );
    world.fake.other_mode.store(false, Ordering::Relaxed);
    started.keep_merchants().await.unwrap();

    world.run_minutes(5).await;
    assert_eq!(
        world.payment(&payment.id).await.status,
        PaymentStatus::Captured
    );
    world.gateway.reload(reload()).await.unwrap();
    world.gateway.reload(reload()).await.unwrap();
    // A method that is only linked holds nothing back: it is charged and revoked by its own kind.
    assert_eq!(
        world
            .gateway
            .payment_methods("a-1")
            .await
            .unwrap()
            .data
            .len(),
        1
    );
}

/// A verb beside a service changes nothing in force, whatever its settings say; and what it may not ask
/// about stands in nobody's way.
#[tokio::test(start_paused = true)]
async fn a_verb_with_other_settings_changes_nothing_in_force() {
    let world = World::new(Shape::TwoCalls);
    let first = world.another_worker();
    first.require_merchants().await.unwrap();
    world.gateway.keep_merchants().await.unwrap();
    world.linked().await;
    let new = successor(&world);
    new.other_merchant.store(true, Ordering::Relaxed);
    let verb = world.another_with(&new);
    let refused = verb.require_merchants().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.to_string().contains("reload the service"));
    world.fake.fault("commit", Fault::LostBefore);
    let open = world.pay(&charge("r-1")).await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let now = cardless_contract::Clock::now(world.clock.as_ref());
    let due = async |without: &[String]| world.store.due(now, without, 10).await.unwrap().len();
    assert_eq!((due(&[]).await, due(&["fake".to_owned()]).await), (1, 0));
    verb.run(tokio::time::sleep(Duration::from_secs(5))).await;
    let row = world.store.payment(&open.id).await.unwrap().unwrap();
    assert!(row.next_at.unwrap() <= now, "nobody has looked: {row:?}");
}

/// Settings that are only looked at are not in force: whoever works with those before goes on. Once
/// others are, it begins nothing more.
#[tokio::test(start_paused = true)]
async fn nothing_begins_at_a_merchant_that_is_not_in_force() {
    for other in [
        |fake: &Fake| fake.other_merchant.store(true, Ordering::Relaxed),
        |fake: &Fake| fake.other_mode.store(true, Ordering::Relaxed),
    ] {
        let world = World::new(Shape::TwoCalls);
        world.gateway.keep_merchants().await.unwrap();
        let method = world.linked().await;
        let paid = world.pay(&charge("r-1")).await;
        let new = successor(&world);
        other(&new);
        let elsewhere = world.another_with(&new);

        elsewhere.check_merchants().await.unwrap();
        let held = world.pay(&hold("r-2")).await;
        let refused = elsewhere.check_merchants().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidState);
        let refused = elsewhere.keep_merchants().await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidState);
        let gateway = &world.gateway;
        gateway
            .void(&world.key(), &held.id, &release())
            .await
            .unwrap();

        elsewhere.keep_merchants().await.unwrap();
        let at_once = Code::ProviderUnavailable;
        let key = world.key();
        assert_eq!(code(gateway.pay(&key, &charge("r-3")).await), at_once);
        assert_eq!(
            code(gateway.link(&world.key(), &link_request()).await),
            at_once
        );
        let refund = gateway.refund(&world.key(), &paid.id, &give(None)).await;
        assert_eq!(code(refund), at_once);
        assert_eq!(code(gateway.revoke(&method, "a-1").await), at_once);
        let rows = world.store.open(None, 10).await.unwrap();
        assert_eq!(rows, [], "nothing is kept of them");
        // What was done before is answered as ever, and the same key goes on once the settings fit.
        gateway.keep_merchants().await.unwrap();
        let paid = gateway.pay(&key, &charge("r-3")).await.unwrap().body;
        assert_eq!(paid.status, PaymentStatus::Captured);
        assert!(!gateway.revoke(&method, "a-1").await.unwrap().open);
    }
}

/// Nor does it ask about what was begun with the settings that are: it would find nothing.
#[tokio::test(start_paused = true)]
async fn nothing_is_asked_at_a_merchant_that_is_not_in_force() {
    let world = World::new(Shape::TwoCalls);
    world.gateway.keep_merchants().await.unwrap();
    let new = successor(&world);
    new.other_merchant.store(true, Ordering::Relaxed);
    let elsewhere = world.another_with(&new);
    elsewhere.keep_merchants().await.unwrap();
    let setup = elsewhere.link(&world.key(), &link_request()).await.unwrap();
    new.end_setup("linked");
    world.run_minutes(5).await;
    let setup = elsewhere.complete_link(&setup.body.id).await.unwrap();
    assert_eq!(setup.status, SetupStatus::Completed);
    new.fault("commit", Fault::LostAfter);
    let paid = elsewhere.pay(&world.key(), &charge("r-1")).await;
    let paid = paid.unwrap().body;
    assert_eq!(paid.status, PaymentStatus::Unknown);
    let void = world.gateway.void(&world.key(), &paid.id, &release()).await;
    assert_eq!(code(void), Code::ProviderUnavailable);
    world.run_hours(2).await;
    assert_eq!(world.reconcile().await.errors, 1);
    assert_eq!(world.payment(&paid.id).await.status, PaymentStatus::Unknown);
    for call in ["complete_setup", "lookup", "find", "commit"] {
        assert_eq!(world.fake.calls(call), 0, "{call}");
    }
    elsewhere
        .run(tokio::time::sleep(Duration::from_secs(60)))
        .await;
    assert_eq!(
        world.payment(&paid.id).await.status,
        PaymentStatus::Captured
    );
}

/// A reload that is refused in its middle has put nothing in force, so nothing has begun there.
#[tokio::test]
async fn nothing_begins_with_settings_that_are_refused() {
    let world = World::new(Shape::TwoCalls);
    world.gateway.keep_merchants().await.unwrap();
    let new = successor(&world);
    new.other_merchant.store(true, Ordering::Relaxed);
    let (arrived, arrives) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    *new.watched.lock().unwrap() = Some(Watch {
        arrived,
        go_on: goes_on,
    });
    let gateway = world.gateway.clone();
    let reload = Reload::default().provider(new.clone());
    let reloading = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.build().unwrap();
        runtime.block_on(gateway.reload(reload))
    });
    // The first look is over.
    arrives.recv().unwrap();
    go_on.send(()).unwrap();
    arrives.recv().unwrap();
    drop(arrives);
    let other = world.another_worker();
    other.link(&world.key(), &link_request()).await.unwrap();
    let (gateway, key) = (world.gateway.clone(), world.key());
    let linking = tokio::spawn(async move { gateway.link(&key, &link_request()).await });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    go_on.send(()).unwrap();
    let refused = reloading.join().unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState, "{refused}");
    linking.await.unwrap().unwrap();
    assert_eq!(new.calls("begin_setup"), 0);
    assert_eq!(world.fake.calls("begin_setup"), 2);
}

/// A token's record says whose it is: one that is revoked at a merchant of before neither keeps the
/// settings from going back there, nor waits for ever.
#[tokio::test(start_paused = true)]
async fn a_revocation_is_open_at_its_own_merchant_only() {
    let world = World::new(Shape::TwoCalls);
    world.gateway.keep_merchants().await.unwrap();
    let method = world.linked().await;
    world.fake.other_merchant.store(true, Ordering::Relaxed);
    world.gateway.keep_merchants().await.unwrap();
    let revoked = world.gateway.revoke(&method, "a-1").await.unwrap();
    assert!(revoked.open, "it can't be revoked at another merchant");
    world.run_minutes(5).await;
    let ended = || async { world.gateway.revoke(&method, "a-1").await.is_err() };
    assert!(!ended().await);

    // Back, although it is open; and no further until it has ended.
    world.fake.other_merchant.store(false, Ordering::Relaxed);
    world.gateway.keep_merchants().await.unwrap();
    world.fake.other_merchant.store(true, Ordering::Relaxed);
    let refused = world.gateway.keep_merchants().await.unwrap_err();
    assert!(
        refused.to_string().contains("another merchant"),
        "{refused}"
    );
    world.fake.other_merchant.store(false, Ordering::Relaxed);
    world.run_minutes(60).await;
    assert!(ended().await, "there is no such method any more");
    world.fake.other_merchant.store(true, Ordering::Relaxed);
    world.gateway.keep_merchants().await.unwrap();
}

/// A reload that is refused for one thing has changed no other: the keys are read where they were.
#[tokio::test(start_paused = true)]
async fn a_refused_reload_leaves_the_keys_where_they_are() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    world.pay(&charge("r-1")).await;
    let elsewhere = world.keys.copy();
    let reload = Reload::default().keys(elsewhere.clone());
    let refused = world.gateway.reload(reload).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState, "its provider is gone");
    elsewhere.put("");
    let rotation = world.gateway.rotate_keys().await.unwrap();
    assert!(world.keys.text().contains(rotation.generation()));
    rotation.finish().await.unwrap();
    world.run_minutes(5).await;
    world.pay(&charge("r-2")).await;
}

/// Keys that were moved, and rotated there by others before the settings are read again: what seals now
/// was never where this process has read them.
#[tokio::test(start_paused = true)]
async fn keys_that_were_moved_and_rotated_are_taken_over() {
    let world = World::new(Shape::TwoCalls);
    let method = world.linked().await;
    let moved = world.keys.copy();
    let before = world.keys.text();
    let keys = KeyRing::from_custody(moved.clone()).unwrap();
    let elsewhere = world.builder().keys(keys).build().unwrap();
    world.keys.put("moved");
    let mut rotation = elsewhere.rotate_keys().await.unwrap();
    while rotation.step(100).await.unwrap() {}
    let active = rotation.finish().await.unwrap().generation;
    // It has looked for them where they were.
    world.run_minutes(2).await;
    let reload = |keys: &Arc<Pocket>| {
        Reload::default()
            .provider(world.fake.clone())
            .keys(keys.clone())
    };
    let older = moved.copy();
    older.put(&before);
    let refused = world.gateway.reload(reload(&older)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.to_string().contains("older copy"), "{refused}");

    world.gateway.reload(reload(&moved)).await.unwrap();
    world.gateway.ready().await.unwrap();
    let paid = world.pay(&charge("r-1")).await;
    assert_eq!(paid.payment_method.as_deref(), Some(method.as_str()));
    assert_eq!(paid.status, PaymentStatus::Captured);
    world.linked().await;
    for (_, generation, _) in world.store.count_sealed().await.unwrap() {
        assert_eq!(generation, active);
    }
}

/// Keys from before a rotation are refused, at another place and in place: what was sealed since
/// would not open.
#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_keys_is_refused() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    let older = world.keys.copy();
    let mut rotation = world.gateway.rotate_keys().await.unwrap();
    while rotation.step(100).await.unwrap() {}
    rotation.finish().await.unwrap();

    let reload = Reload::default()
        .provider(successor(&world))
        .keys(older.clone());
    let refused = world.gateway.reload(reload).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.to_string().contains("older copy"), "{refused}");
    assert_eq!(
        world.pay(&charge("r-1")).await.status,
        PaymentStatus::Captured
    );
    let latest = world.keys.text();
    world.keys.put(&older.text());
    world.run_minutes(5).await;
    assert_eq!(
        world.pay(&charge("r-2")).await.status,
        PaymentStatus::Captured
    );
    world.gateway.ready().await.unwrap();
    world.keys.put(&latest);
    world.run_minutes(5).await;
    world.linked().await;

    // Nor is one that holds what was destroyed since, and so is not known here.
    let older = world.keys.copy();
    world.gateway.destroy_retired().await.unwrap();
    let rotation = world.gateway.rotate_keys().await.unwrap();
    rotation.finish().await.unwrap();
    let latest = world.keys.text();
    world.keys.put(&older.text());
    world.run_minutes(5).await;
    let reload = Reload::default()
        .provider(successor(&world))
        .keys(older.clone());
    let refused = world.gateway.reload(reload).await.unwrap_err();
    assert!(refused.to_string().contains("older copy"), "{refused}");
    assert_eq!(
        world.pay(&charge("r-3")).await.status,
        PaymentStatus::Captured
    );
    world.gateway.ready().await.unwrap();
    world.keys.put(&latest);
    world.run_minutes(5).await;
    world.linked().await;
}
