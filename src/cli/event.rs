//! `event`: what has become true, and what of it nobody took.

use clap::{Args, Subcommand};
use serde_json::json;

use cardless::gateway::{DeadEvent, Gateway, MAX_EVENTS};
use cardless::message::Event;

use super::{Context, Outcome, Providers, say, say_json, table};

/// The verbs of `event`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List events, oldest first; with --dead those whose delivery was given up, latest first.
    List(List),
    /// Send dead events again, with all their attempts; `serve` does it within seconds.
    Retry(Retry),
    /// Take a dead event off the list: it was dealt with otherwise.
    Dismiss {
        /// The event's id, `evt_…`.
        id: String,
    },
}

/// The arguments of `event list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those that were given up.
    #[arg(long, conflicts_with = "after")]
    dead: bool,
    /// Only those that were written after this one.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The arguments of `event retry`.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Retry {
    /// The event's id, `evt_…`.
    id: Option<String>,
    /// All that are dead.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    match command {
        Command::List(List {
            dead: true, json, ..
        }) => list_dead(&gateway.dead_events().await?, json),
        Command::List(arguments) => list(&gateway, arguments).await,
        Command::Retry(arguments) => retry(&gateway, arguments).await,
        Command::Dismiss { id } => {
            gateway.dismiss_event(&id).await?;
            say(format_args!("{id} is off the list"))
        }
    }
}

async fn list(gateway: &Gateway, arguments: List) -> Outcome {
    let page = gateway
        .events(arguments.after.as_deref(), MAX_EVENTS)
        .await?;
    if arguments.json {
        return say_json(&page);
    }
    let mut table = table(&["event", "type", "object", "account", "written"]);
    for event in &page.data {
        table.add_row(cells(event));
    }
    say(table)?;
    if let Some(next) = page.next {
        say(format_args!("\nThere are more: --after {next}"))?;
    }
    Ok(())
}

fn list_dead(events: &[DeadEvent], json: bool) -> Outcome {
    if json {
        return say_json(&json!({ "data": events }));
    }
    let mut table = table(&[
        "event", "type", "object", "account", "written", "attempts", "given up",
    ]);
    for dead in events {
        let end = [dead.attempts.to_string(), dead.dead_at.to_string()];
        table.add_row(cells(&dead.event).into_iter().chain(end));
    }
    say(table)?;
    if events.is_empty() {
        return Ok(());
    }
    say(
        "\nSee why in the log of `serve`, then run `cardless event retry ID` (or --all), or \
         `cardless event dismiss ID` once they are dealt with otherwise.",
    )
}

async fn retry(gateway: &Gateway, arguments: Retry) -> Outcome {
    if let Some(id) = arguments.id {
        gateway.retry_event(&id).await?;
        return say(format_args!("{id} is sent again"));
    }
    let mut count: u64 = 0;
    loop {
        let dead = gateway.dead_events().await?;
        if dead.is_empty() {
            return say(format_args!("sent again: {count}"));
        }
        for dead in dead {
            gateway.retry_event(&dead.event.id).await?;
            count += 1;
        }
    }
}

fn cells(event: &Event) -> Vec<String> {
    let data = &event.data;
    let object = [&data.capture, &data.void, &data.refund, &data.payment]
        .into_iter()
        .chain([&data.setup, &data.payment_method])
        .flatten()
        .next();
    vec![
        event.id.clone(),
        event.kind.clone(),
        object.cloned().unwrap_or_default(),
        data.account.clone().unwrap_or_default(),
        event.timestamp.to_string(),
    ]
}
