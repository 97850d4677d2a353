//! Clients of the service and their API keys: two live at once, and each ends in time.

use std::time::Duration;

use cardless::error::Code;
use cardless::gateway::Role;

use crate::fake::Shape;
use crate::world::*;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    async fn lets_in(&self, api_key: &str) -> bool {
        let who = self.gateway.authenticate(api_key).await.unwrap();
        assert!(
            who.iter()
                .all(|who| *who == ("shop".to_owned(), Role::Billing))
        );
        who.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn both_api_keys_are_good_until_the_overlap_ends() {
    let world = World::new(Shape::TwoCalls);
    let old = world
        .gateway
        .add_client("shop", Role::Billing)
        .await
        .unwrap();
    let renewed = world.gateway.renew_client("shop", DAY).await.unwrap();
    assert_ne!(renewed.api_key, old);
    assert!(!format!("{renewed:?}").contains(&renewed.api_key));
    assert!(world.lets_in(&old).await && world.lets_in(&renewed.api_key).await);
    let clients = world.gateway.clients().await.unwrap();
    let ends: Vec<_> = clients[0].api_keys.iter().map(|key| key.ends_at).collect();
    assert_eq!(ends, [None, Some(renewed.old_ends_at)]);

    world.clock.forward(DAY);
    assert!(!world.lets_in(&old).await && world.lets_in(&renewed.api_key).await);
    assert_eq!(world.gateway.clients().await.unwrap()[0].api_keys.len(), 1);
    // What has ended is in nobody's way, and is forgotten.
    world.run_for(Duration::from_secs(1)).await;
    assert!(world.store.clients().await.unwrap()[0].old_key.is_none());
    world.gateway.renew_client("shop", DAY).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_client_has_three_live_keys() {
    let world = World::new(Shape::TwoCalls);
    let first = world
        .gateway
        .add_client("shop", Role::Billing)
        .await
        .unwrap();
    let second = world
        .gateway
        .renew_client("shop", DAY)
        .await
        .unwrap()
        .api_key;
    let third = world.gateway.renew_client("shop", DAY).await;
    assert_eq!(code(third), Code::InvalidState);
    assert!(world.lets_in(&first).await && world.lets_in(&second).await);
    // Without an overlap all older ones end: a key has leaked.
    let last = world
        .gateway
        .renew_client("shop", Duration::ZERO)
        .await
        .unwrap();
    assert!(!world.lets_in(&first).await && !world.lets_in(&second).await);
    assert!(world.lets_in(&last.api_key).await);
}

#[tokio::test(start_paused = true)]
async fn revoking_ends_every_key_for_good() {
    let world = World::new(Shape::TwoCalls);
    let old = world
        .gateway
        .add_client("shop", Role::Billing)
        .await
        .unwrap();
    let new = world
        .gateway
        .renew_client("shop", DAY)
        .await
        .unwrap()
        .api_key;
    world.gateway.revoke_client("shop").await.unwrap();
    assert!(!world.lets_in(&old).await && !world.lets_in(&new).await);
    assert!(
        world.gateway.clients().await.unwrap()[0]
            .api_keys
            .is_empty()
    );
    for name in ["shop", "nobody"] {
        let refused = world.gateway.renew_client(name, DAY).await;
        assert_eq!(code(refused), Code::NotFound);
    }
    let refused = world.gateway.renew_client("shop", 400 * DAY).await;
    assert_eq!(code(refused), Code::InvalidField);
}
