//! `rotate`: replaces keys and handles while payments go on, and shows how far it is.

mod keys;
mod status;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use cardless::gateway::{Gateway, MAX_REISSUED_AT_ONCE, OldHandles};

use super::progress::Progress;
use super::{Context, Outcome, Providers, duration, note, say, say_json, table};

/// The verbs of `rotate`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Give every payment method another handle; the old one works until the overlap ends, and an
    /// event tells both. One that was interrupted goes on where it was.
    Handles {
        /// How long the old handles go on working, as 30d, 12h or 0 [default: 30d].
        #[arg(long, value_name = "TIME", value_parser = duration::parse)]
        overlap: Option<Duration>,
        #[command(flatten)]
        throttle: Throttle,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new generation of the key, and seal every record anew under it. One that was
    /// interrupted goes on where it was.
    Keys(keys::Arguments),
    /// Show what is being rotated, how far it is, and what of the old still works.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// How fast a rotation may be.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Throttle {
    /// How many records a second at most.
    #[arg(long, value_name = "RECORDS")]
    rate: Option<NonZeroU32>,
}

/// Keeps a rotation to its rate, and out of the way of payments.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<NonZeroU32>,
    began: Instant,
    done: u64,
    batch_began: Instant,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Handles {
            overlap,
            throttle,
            json,
        } => handles(context, overlap, throttle, json).await,
        Command::Keys(arguments) => keys::run(context, &arguments).await,
        Command::Status { json } => status::run(context, json).await,
    }
}

async fn handles(
    context: &Context,
    overlap: Option<Duration>,
    throttle: Throttle,
    json: bool,
) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    say_waiting(&gateway).await?;
    let mut rotation = gateway.rotate_handles(overlap).await?;
    let begun = rotation.info();
    if begun.done > 0 && !json {
        say(format_args!(
            "goes on with the rotation that began at {}: {} of {} are done",
            begun.started_at, begun.done, begun.total
        ))?;
    }
    let mut progress = Progress::new("handles replaced", begun.total);
    progress.at(begun.done);
    let mut pace = throttle.pace();
    while !rotation.is_done() {
        let done = rotation.step(pace.batch(MAX_REISSUED_AT_ONCE)).await?;
        progress.at(rotation.info().done);
        if !rotation.is_done() {
            pace.wait(done).await;
        }
    }
    progress.end();
    let old = gateway.old_handles().await?;
    if json {
        let overlap = rotation.overlap().as_secs();
        return say_json(&json!({
            "rotation": rotation.info(), "overlap_seconds": overlap, "old_handles": old,
        }));
    }
    say(format_args!(
        "{} payment methods have another handle; the old ones work for {} after that, and an \
         event payment_method.reissued tells both",
        rotation.info().done,
        duration::show(rotation.overlap())
    ))?;
    say_old(old)
}

/// Says why nothing happens for a while: another process drives a rotation, or has died not long ago.
async fn say_waiting(gateway: &Gateway) -> Outcome {
    for rotation in gateway.rotations().await? {
        if let Some(until) = rotation.lease_until {
            note(format_args!(
                "a rotation of the {} may still be driven by another process: this one waits until \
                 {until} for a sign of it",
                rotation.kind
            ));
        }
    }
    Ok(())
}

fn say_old(old: OldHandles) -> Outcome {
    match old.until {
        None => say("old handles that still work: none"),
        Some(until) => say(format_args!(
            "old handles that still work: {}, the last until {until}",
            old.live
        )),
    }
}

impl Throttle {
    /// Begins to keep the pace.
    pub(super) fn pace(self) -> Pace {
        let now = Instant::now();
        Pace {
            rate: self.rate,
            began: now,
            done: 0,
            batch_began: now,
        }
    }
}

impl Pace {
    /// How many records the next batch may have: what a second has room for, so that a slow
    /// rotation shows signs of life too.
    pub(super) fn batch(&mut self, most: u32) -> u32 {
        self.batch_began = Instant::now();
        self.rate.map_or(most, |rate| most.min(rate.get()))
    }

    /// Waits until the next batch may begin. Even without a rate there is a breath, in which a
    /// payment finds the store free.
    pub(super) async fn wait(&mut self, done: u32) {
        self.done += u64::from(done);
        let breath = self.batch_began.elapsed() / 4;
        let due = self.rate.map_or(Duration::ZERO, |rate| {
            let millis = self.done.saturating_mul(1000) / u64::from(rate.get());
            Duration::from_millis(millis).saturating_sub(self.began.elapsed())
        });
        tokio::time::sleep(due.max(breath)).await;
    }
}
