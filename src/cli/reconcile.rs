//! `reconcile`: drives what is open.

use clap::Args;

use super::{Context, Failure, Outcome, Providers, say, say_json};

/// The arguments of `reconcile`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Compare the journal with the providers, to the cent (not available yet).
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    if arguments.verify {
        return Err(Failure::not_yet("`reconcile --verify`"));
    }
    let gateway = context.open(&context.settings()?, Providers::Needed)?;
    let report = gateway.reconcile().await?;
    if arguments.json {
        return say_json(&report);
    }
    say(format_args!(
        "looked at {}, concluded {}, still open {}, parked {}",
        report.looked_at, report.concluded, report.still_open, report.parked
    ))
}
