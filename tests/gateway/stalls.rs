//! A provider that stalls holds up nothing of the others, and no shutdown.

use std::sync::Arc;
use std::time::Duration;

use cardless::gateway::Gateway;
use cardless::message::*;
use cardless_contract::ProviderName;
use tokio::time::Instant;

use crate::fake::{Fake, Fault, Shape};
use crate::keys::Files;
use crate::world::*;

const MINUTE: Duration = Duration::from_secs(60);

/// More than one look takes.
const STUCK: usize = 110;

/// A gateway with a second provider, at which the outcomes of many charges are unknown and no question
/// is answered.
async fn beside_a_provider_that_stalls(world: &World) -> Gateway {
    let mut slow = Fake::new(Shape::TwoCalls.capabilities(), world.clock.clone());
    slow.name = ProviderName::new("slow").unwrap();
    let slow = Arc::new(slow);
    let builder = world.builder().provider(slow.clone());
    let gateway = builder.build().unwrap();
    let request = LinkRequest {
        provider: "slow".to_owned(),
        ..link_request()
    };
    let setup = gateway.link(&world.key(), &request).await.unwrap();
    slow.end_setup("linked");
    let setup = gateway.complete_link(&setup.body.id).await.unwrap();
    slow.end_setup("done");
    for number in 0..STUCK {
        slow.fault("commit", Fault::LostAfter);
        let request = PayRequest {
            payment_method: setup.payment_method.clone(),
            ..charge(&format!("s-{number}"))
        };
        let paid = gateway.pay(&world.key(), &request).await.unwrap().body;
        assert_eq!(paid.status, PaymentStatus::Unknown);
    }
    for _ in 0..10_000 {
        slow.fault("lookup", Fault::Hang);
    }
    gateway
}

#[tokio::test(start_paused = true)]
async fn a_charge_at_another_provider_is_taken_in_its_time() {
    let world = World::new(Shape::TwoCalls);
    let method = world.linked().await;
    let gateway = beside_a_provider_that_stalls(&world).await;
    for _ in 0..20 {
        world.fake.fault("commit", Fault::NotSent);
    }
    let request = PayRequest {
        payment_method: Some(method),
        ..charge("r-1")
    };
    let paid = gateway.pay(&world.key(), &request).await.unwrap().body;
    assert_eq!(paid.status, PaymentStatus::Pending);
    world.fake.no_more_faults();
    gateway.run(tokio::time::sleep(MINUTE)).await;
    assert_eq!(
        world.payment(&paid.id).await.status,
        PaymentStatus::Captured
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_no_longer_than_its_grace() {
    let world = World::new(Shape::TwoCalls);
    let gateway = beside_a_provider_that_stalls(&world).await;
    let begun = Instant::now();
    gateway.run(tokio::time::sleep(MINUTE)).await;
    assert!(begun.elapsed() <= MINUTE + Duration::from_secs(31));
}

/// More erasures wait for the provider that stalls than are driven at once.
#[tokio::test(start_paused = true)]
async fn an_erasure_at_another_provider_ends_in_its_time() {
    let world = World::new(Shape::TwoCalls);
    let mut slow = Fake::new(Shape::TwoCalls.capabilities(), world.clock.clone());
    slow.name = ProviderName::new("slow").unwrap();
    let slow = Arc::new(slow);
    let gateway = world.builder().provider(slow.clone()).build().unwrap();
    let link = async |account: String, provider: &str, fake: &Fake| {
        let request = LinkRequest {
            account,
            provider: provider.to_owned(),
            ..link_request()
        };
        let setup = gateway.link(&world.key(), &request).await.unwrap();
        fake.end_setup("linked");
        gateway.complete_link(&setup.body.id).await.unwrap();
        fake.end_setup("done");
    };
    let mut waiting = Vec::new();
    for number in 0..40 {
        link(format!("s-{number}"), "slow", &slow).await;
        // The first try of each is refused at once; from then on nothing is answered.
        slow.fault("revoke", Fault::NotSent);
        let erasure = gateway.erase(&world.key(), &format!("s-{number}")).await;
        waiting.push(erasure.unwrap().body.id);
    }
    for _ in 0..10_000 {
        slow.fault("revoke", Fault::Hang);
    }
    link("a-1".to_owned(), "fake", &world.fake).await;
    world.fake.fault("revoke", Fault::NotSent);
    let erasure = gateway.erase(&world.key(), "a-1").await.unwrap();
    assert!(erasure.open);
    gateway.run(tokio::time::sleep(MINUTE)).await;
    let erasure = gateway.erasure("a-1").await.unwrap().body;
    assert_eq!(erasure.status, ErasureStatus::Erased);
    // Whoever waits for a turn of its own does not write all the time.
    for id in waiting {
        let row = world.store.erasure(&id).await.unwrap().unwrap();
        assert!(row.account.is_some(), "it is still open");
        assert!(row.version < 30, "{}", row.version);
    }
}

/// More is due than one look takes, and the store takes no writes: the resolver looks again when its time
/// comes, and not at once for ever.
#[tokio::test(start_paused = true)]
async fn where_nothing_can_be_written_the_resolver_rests() {
    let files = Files::new();
    let world = World::on(files.store("x.db"));
    world.linked().await;
    for number in 0..STUCK {
        world.fake.fault("commit", Fault::LostAfter);
        let paid = world.pay(&charge(&format!("r-{number}"))).await;
        assert_eq!(paid.status, PaymentStatus::Unknown);
    }
    files.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON payments
         BEGIN SELECT RAISE(ABORT, 'no room'); END",
    );
    tokio::time::advance(MINUTE).await;
    // Each second every one of them is tried once, and reads the clock once.
    let reads = 3 * 2 * STUCK;
    let restless = || unreachable!("the resolver does not rest");
    world.clock.interrupt(reads, restless);
    world.run_for(Duration::from_secs(3)).await;
    assert!(world.clock.calm());
    files.execute("DROP TRIGGER full");
    world.run_minutes(2).await;
    let open = world.gateway.reconcile().await.unwrap();
    assert_eq!(open.looked_at, 0, "{open:?}");
}
