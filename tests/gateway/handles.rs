//! The rotation of handles: both work for a while, the old one then names nothing, and nothing of
//! the payments notices.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless::error::{Code, Error};
use cardless::gateway::{Gateway, HandleRotation};
use cardless::message::*;
use cardless::store::{SqliteStore, Store as _, Threads};
use cardless_contract::{Clock as _, Timestamp};

use crate::fake::{Fault, Shape};
use crate::world::*;

const DAY: Duration = Duration::from_secs(24 * 3600);
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// Rotates all handles with an overlap of a month.
async fn rotate(gateway: &Gateway) -> u64 {
    rotate_within(gateway, MONTH).await
}

async fn rotate_within(gateway: &Gateway, overlap: Duration) -> u64 {
    let mut rotation = gateway.rotate_handles(Some(overlap)).await.unwrap();
    finish(&mut rotation).await;
    rotation.info().done
}

async fn finish(rotation: &mut HandleRotation) {
    while !rotation.is_done() {
        rotation.step(1).await.unwrap();
    }
}

/// The handles of `a-1` in its listing, oldest method first.
async fn listed(world: &World) -> Vec<String> {
    let page = world.gateway.payment_methods("a-1").await.unwrap();
    page.data.into_iter().map(|method| method.id).collect()
}

fn by(handle: &str, reference: &str) -> PayRequest {
    PayRequest {
        payment_method: Some(handle.to_owned()),
        ..charge(reference)
    }
}

fn default_of() -> MethodUpdate {
    MethodUpdate {
        account: "a-1".to_owned(),
        default: true,
    }
}

/// Old handle to new one, as the events tell it.
async fn told(world: &World) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for event in world.gateway.events(None, 100).await.unwrap().data {
        if event.kind == "payment_method.reissued" {
            assert_eq!(event.data.status, "reissued");
            assert_eq!(event.data.account.as_deref(), Some("a-1"));
            let (old, new) = (event.data.replaces, event.data.payment_method);
            let before = told.insert(old.unwrap(), new.unwrap());
            assert_eq!(before, None, "a handle was replaced twice");
        }
    }
    told
}

fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

#[tokio::test(start_paused = true)]
async fn both_handles_name_the_method_until_the_overlap_ends() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    assert_eq!(rotate(&world.gateway).await, 1);
    let new = told(&world).await[&old].clone();
    assert_ne!(new, old);
    assert_eq!(listed(&world).await, std::slice::from_ref(&new));
    for (handle, reference) in [(&old, "r-old"), (&new, "r-new")] {
        let payment = world.pay(&by(handle, reference)).await;
        assert_eq!(payment.status, PaymentStatus::Captured);
        assert_eq!(payment.payment_method.as_deref(), Some(handle.as_str()));
        let chosen = world
            .gateway
            .set_default(handle, &default_of())
            .await
            .unwrap();
        assert_eq!(chosen.id, new);
    }
    let without = world.pay(&charge("r-default")).await;
    assert_eq!(without.payment_method.as_deref(), Some(new.as_str()));

    world.clock.forward(MONTH);
    let never = "pm_aaaaaaaaaaaaaaaaaaaa";
    let gateway = &world.gateway;
    let pay = async |handle| gateway.pay(&world.key(), &by(handle, "r-late")).await;
    assert_eq!(message(pay(&old).await), message(pay(never).await));
    assert_eq!(
        message(gateway.set_default(&old, &default_of()).await),
        message(gateway.set_default(never, &default_of()).await)
    );
    assert_eq!(
        message(gateway.revoke(&old, "a-1").await),
        message(gateway.revoke(never, "a-1").await)
    );
    assert_eq!(
        pay(&new).await.unwrap().body.status,
        PaymentStatus::Captured
    );
}

#[tokio::test(start_paused = true)]
async fn another_account_gains_nothing_by_an_old_handle() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    rotate(&world.gateway).await;
    let other = PayRequest {
        account: "a-2".to_owned(),
        ..by(&old, "r-1")
    };
    let refused = world.gateway.pay(&world.key(), &other).await;
    assert_eq!(code(refused), Code::NotFound);
    assert_eq!(
        code(world.gateway.revoke(&old, "a-2").await),
        Code::NotFound
    );
}

#[tokio::test(start_paused = true)]
async fn revoking_by_the_old_handle_revokes_the_method() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    rotate(&world.gateway).await;
    let new = told(&world).await[&old].clone();
    assert!(!world.gateway.revoke(&old, "a-1").await.unwrap().open);
    for handle in [&old, &new] {
        let refused = world.gateway.pay(&world.key(), &by(handle, "r-1")).await;
        assert_eq!(code(refused), Code::NotFound);
        let refused = world.gateway.revoke(handle, "a-1").await;
        assert_eq!(code(refused), Code::NotFound);
    }
    let events = world.events().await;
    assert!(events.contains(&("payment_method.revoked".to_owned(), new)));
    assert_eq!(
        rotate(&world.gateway).await,
        0,
        "a revoked method is left alone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_suspended_method_gets_another_handle_too() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    world.fake.fault("commit", Fault::MethodGone);
    let declined = world.pay(&charge("r-1")).await;
    assert_eq!(declined.status, PaymentStatus::Declined);
    assert_eq!(rotate_within(&world.gateway, Duration::ZERO).await, 1);
    let methods = world.gateway.payment_methods("a-1").await.unwrap().data;
    assert_eq!(methods[0].status, MethodStatus::Suspended);
    assert_ne!(methods[0].id, old);
    assert_eq!(
        code(world.gateway.revoke(&old, "a-1").await),
        Code::NotFound
    );
    world.gateway.revoke(&methods[0].id, "a-1").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_payment_ends_well_after_its_handle() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    world.fake.fault("commit", Fault::LostBefore);
    let payment = world.pay(&by(&old, "r-1")).await;
    assert_eq!(payment.status, PaymentStatus::Unknown);
    rotate_within(&world.gateway, Duration::ZERO).await;
    world.run_minutes(5).await;
    let payment = world.payment(&payment.id).await;
    assert_eq!(payment.status, PaymentStatus::Captured);
    assert_eq!(payment.payment_method, Some(old));
    world.books_fit(&payment.id).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_to_the_byte_whatever_was_rotated() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    let (key, request) = (world.key(), by(&old, "r-1"));
    let first = bytes(&world.gateway.pay(&key, &request).await.unwrap());
    rotate_within(&world.gateway, Duration::ZERO).await;
    let again = world.gateway.pay(&key, &request).await.unwrap();
    assert_eq!(bytes(&again), first);
    // Under a new handle it is another request.
    let new = by(&listed(&world).await[0], "r-1");
    let refused = world.gateway.pay(&key, &new).await;
    assert_eq!(code(refused), Code::IdempotencyMismatch);
}

#[tokio::test(start_paused = true)]
async fn a_setup_tells_the_present_handle() {
    let world = World::new(Shape::TwoCalls);
    let setup = world.gateway.link(&world.key(), &link_request()).await;
    let setup = setup.unwrap().body.id;
    world.fake.end_setup("linked");
    let old = world.gateway.complete_link(&setup).await.unwrap();
    rotate_within(&world.gateway, Duration::ZERO).await;
    let read = world.gateway.setup(&setup).await.unwrap();
    assert_ne!(read.payment_method, old.payment_method);
    assert_eq!(read.payment_method.as_ref(), listed(&world).await.first());
}

#[tokio::test(start_paused = true)]
async fn a_rotation_within_the_overlap_of_another_leaves_each_its_own_end() {
    let world = World::new(Shape::TwoCalls);
    let first = world.linked().await;
    rotate_within(&world.gateway, 3 * DAY).await;
    let second = listed(&world).await.remove(0);
    world.clock.forward(DAY);
    rotate_within(&world.gateway, DAY).await;
    let third = listed(&world).await.remove(0);
    let works = async |handle: &str, reference: &str| {
        let result = world
            .gateway
            .pay(&world.key(), &by(handle, reference))
            .await;
        result.is_ok()
    };
    assert!(works(&first, "1").await && works(&second, "2").await && works(&third, "3").await);
    assert_eq!(world.gateway.old_handles().await.unwrap().live, 2);
    // The second ends before the first does.
    world.clock.forward(DAY);
    assert!(works(&first, "4").await && !works(&second, "5").await && works(&third, "6").await);
    world.clock.forward(DAY);
    assert!(!works(&first, "7").await && works(&third, "8").await);
    assert_eq!(world.gateway.old_handles().await.unwrap().live, 0);
}

#[tokio::test(start_paused = true)]
async fn ended_handles_are_forgotten() {
    let world = World::new(Shape::TwoCalls);
    let old = world.linked().await;
    rotate_within(&world.gateway, DAY).await;
    let before = world.clock.now();
    world.run_for(Duration::from_secs(1)).await;
    let found = async || world.store.method_by_handle(&old, before).await.unwrap();
    assert!(found().await.is_some());
    tokio::time::advance(DAY).await;
    world.run_for(Duration::from_secs(1)).await;
    assert!(found().await.is_none(), "the row itself is gone");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_rotation_goes_on_and_replaces_no_handle_twice() {
    let world = World::new(Shape::TwoCalls);
    let mut old = Vec::new();
    for _ in 0..7 {
        old.push(world.linked().await);
    }
    let mut stops = 0;
    loop {
        let mut rotation = world.another_worker().rotate_handles(None).await.unwrap();
        assert_eq!(rotation.info().total, 7);
        assert_eq!(rotation.info().done, 2 * stops, "it goes on where it was");
        assert_eq!(
            rotation.step(2).await.unwrap(),
            if stops < 3 { 2 } else { 1 }
        );
        if rotation.is_done() {
            break;
        }
        // Dropped here: nothing more of this worker is seen.
        stops += 1;
    }
    let told = told(&world).await;
    assert_eq!(told.len(), 7);
    assert!(old.iter().all(|handle| told.contains_key(handle)));
    let rotations = world.gateway.rotations().await.unwrap();
    assert_eq!(rotations.len(), 1);
    assert_eq!((rotations[0].done, rotations[0].total), (7, 7));
    assert!(rotations[0].ended_at.is_some() && !rotations[0].running);
}

#[tokio::test(start_paused = true)]
async fn a_method_that_is_linked_meanwhile_keeps_its_handle() {
    let world = World::new(Shape::TwoCalls);
    let mut methods = vec![world.linked().await, world.linked().await];
    let mut rotation = world.gateway.rotate_handles(None).await.unwrap();
    rotation.step(1).await.unwrap();
    world.clock.forward(Duration::from_secs(1));
    for _ in 0..8 {
        methods.push(world.linked().await);
    }
    finish(&mut rotation).await;
    assert_eq!(rotation.info().done, 2);
    let told = told(&world).await;
    assert!(methods[..2].iter().all(|handle| told.contains_key(handle)));
    let listed = listed(&world).await;
    assert!(methods[2..].iter().all(|handle| listed.contains(handle)));
}

/// What was linked by a clock that was ahead was linked before, whatever is linked meanwhile.
#[tokio::test(start_paused = true)]
async fn a_method_of_a_clock_that_was_ahead_gets_another_handle_too() {
    let world = World::new(Shape::TwoCalls);
    let ahead = Duration::from_millis(3_600_500);
    world.clock.forward(ahead);
    let mut methods = vec![world.linked().await, world.linked().await];
    world.clock.back(ahead);
    methods.push(world.linked().await);
    let mut rotation = world.gateway.rotate_handles(Some(DAY)).await.unwrap();
    rotation.step(1).await.unwrap();
    drop(rotation);
    world.clock.forward(Duration::from_secs(3602));
    let late = world.linked().await;
    let mut rotation = world.gateway.rotate_handles(None).await.unwrap();
    assert_eq!(rotation.overlap(), DAY);
    finish(&mut rotation).await;
    assert_eq!((rotation.info().done, rotation.info().total), (3, 3));
    let told = told(&world).await;
    assert!(methods.iter().all(|handle| told.contains_key(handle)));
    assert!(listed(&world).await.contains(&late));
}

#[tokio::test(start_paused = true)]
async fn two_rotations_at_once_are_refused() {
    let world = World::new(Shape::TwoCalls);
    for _ in 0..3 {
        world.linked().await;
    }
    let mut first = world.gateway.rotate_handles(None).await.unwrap();
    let other = world.another_worker();
    let (step, second) = tokio::join!(
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            first.step(1).await
        },
        other.rotate_handles(None)
    );
    step.unwrap();
    let refused = second.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidState);
    assert!(refused.to_string().contains("rotate status"), "{refused}");
    finish(&mut first).await;
    assert_eq!(told(&world).await.len(), 3);
}

/// A worker that only slept, and wakes up after another has taken over, can write nothing.
#[tokio::test(start_paused = true)]
async fn who_was_taken_over_replaces_nothing() {
    let world = World::new(Shape::TwoCalls);
    for _ in 0..3 {
        world.linked().await;
    }
    let mut asleep = world.gateway.rotate_handles(None).await.unwrap();
    let mut second = world.another_worker().rotate_handles(None).await.unwrap();
    assert_eq!(code(asleep.step(3).await), Code::InvalidState);
    assert!(told(&world).await.is_empty());
    finish(&mut second).await;
    assert_eq!(told(&world).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_overlap_is_that_of_the_beginning() {
    let world = World::new(Shape::TwoCalls);
    world.linked().await;
    world.linked().await;
    let too_long = world.gateway.rotate_handles(Some(400 * DAY)).await;
    assert_eq!(code(too_long), Code::InvalidField);
    let mut begun = world.gateway.rotate_handles(Some(DAY)).await.unwrap();
    begun.step(1).await.unwrap();
    drop(begun);
    let other = world.gateway.rotate_handles(Some(MONTH)).await;
    assert_eq!(code(other), Code::InvalidField);
    let mut same = world.gateway.rotate_handles(None).await.unwrap();
    assert_eq!(same.overlap(), DAY);
    finish(&mut same).await;
    let old = world.gateway.old_handles().await.unwrap();
    assert_eq!(old.live, 2);
    assert!(old.until.unwrap() <= world.clock.now().plus(DAY));
}

/// A store from before there were handles apart from methods.
#[tokio::test]
async fn a_store_of_an_older_version_keeps_its_handles() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    for step in [
        include_str!("../../src/store/sqlite/0001_initial.sql"),
        include_str!("../../src/store/sqlite/0002_event_delivery.sql"),
        include_str!("../../src/store/sqlite/0003_resolve.sql"),
        "INSERT INTO accounts VALUES ('a', x'00', 'g', 0, 1);
         INSERT INTO records VALUES ('a', 'rec', 'fake', 'm', 'g', x'00', 1);
         INSERT INTO payment_methods VALUES ('a', 'pm_x', 'fake', 'rec', 'active', 1, 1, NULL, 0, 0);",
    ] {
        database.execute_batch(step).unwrap();
    }
    database.pragma_update(None, "user_version", 3).unwrap();
    drop(database);
    let url = format!("sqlite:{}", path.display());
    let store = SqliteStore::open(&url, Threads::Caller).unwrap();
    let at = Timestamp::from_seconds(2);
    let found = store.method_by_handle("pm_x", at).await.unwrap().unwrap();
    assert_eq!((found.id.as_str(), found.handle.as_str()), ("pm_x", "pm_x"));
    assert_eq!(store.count_methods().await.unwrap(), 1);
}
