//! `demo`: all of it at once, with nothing to set up.
//!
//! It acts as a billing service would, over HTTP, and as the customer would, on the hosted pages.
//! What it prints is what it has checked: the first thing that is not so ends it with exit code 1.

mod books;
mod evidence;
mod stage;
mod walk;

use clap::Args;

use super::serve::Signals;
use super::{Failure, Outcome, say};
use stage::Stage;

/// The arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Leave everything running afterwards, and print the addresses.
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Outcome {
    let signals = Signals::new()?;
    let stage = Stage::set().await?;
    let mut stop = std::pin::pin!(signals.stop());
    let walked = tokio::select! {
        walked = walk_all(&stage) => walked,
        () = &mut stop => Err(Failure::Failed("the demo was stopped".to_owned())),
    };
    if arguments.keep {
        if let Err(failure) = &walked {
            say(format_args!("FAILED: {failure}"))?;
        }
        stage.describe()?;
        stop.await;
    }
    stage.clear().await?;
    walked
}

async fn walk_all(stage: &Stage) -> Outcome {
    let mut wanted = books::Books::default();
    for provider in walk::PROVIDERS {
        say(format_args!("\n{}", provider.name))?;
        walk::walk(stage, provider, &mut wanted).await?;
    }
    say("\nledger")?;
    let found = books::Books::of_ledger(&stage.ledger().await?)?;
    found.compare(&wanted)?;
    say(format_args!(
        "  the sandbox's ledger has the {} movements that were asked for, and no other",
        wanted.len()
    ))?;
    evidence::show(stage).await?;
    say("\nall of it is true")
}
