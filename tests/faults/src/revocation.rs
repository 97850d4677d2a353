//! Two processes that revoke one method at once: whoever comes last finds the record gone, and that
//! is no failure.

use crate::output::Output;
use crate::world::{Broken, World, account_of};

/// How many ways of interleaving are tried.
const SEEDS: u64 = 40;

async fn both_revoke(seed: u64) -> Result<(), Broken> {
    let world = World::new(seed, Output::default())?;
    for (owner, method) in world.link_all().await? {
        let account = account_of(owner);
        let (one, two) = tokio::join!(
            world.process(0).gateway.revoke(&method, &account),
            world.process(1).gateway.revoke(&method, &account)
        );
        for answer in [one, two] {
            match answer {
                Ok(answer) if !answer.open => {}
                // It came when the method was revoked already.
                Err(error) if error.code().as_str() == "not_found" => {}
                other => return Err(format!("{method}: {other:?}").into()),
            }
        }
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn of_two_that_revoke_a_method_none_calls_it_open() {
    for seed in 0..SEEDS {
        both_revoke(seed)
            .await
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}
