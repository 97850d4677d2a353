//! `rotate keys`: a new generation of the key, every record sealed anew; and the end of old ones.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use cardless::gateway::{Gateway, KeysReport, KeysRotated, RESEAL_BATCH};

use super::{Throttle, say_json, say_waiting, table};
use crate::cli::private::write_new;
use crate::cli::progress::{Progress, said_if_long};
use crate::cli::{Context, Failure, Outcome, Providers, note, say};

/// The arguments of `rotate keys`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    throttle: Throttle,
    /// Destroy the keys of retired generations. Refused while anything needs one of them.
    #[arg(long, conflicts_with = "rate")]
    destroy_retired: bool,
    /// Write the key file anew and rotate nothing: under the passphrase of the settings, if that is
    /// another than before.
    #[arg(long, conflicts_with_all = ["rate", "destroy_retired", "write_to"])]
    rewrite_file: bool,
    /// Write the new text of the keys to FILE and change nothing: for a mounted secret, which
    /// cardless can't write. Put it in the secret's place and run the verb again.
    #[arg(long, value_name = "FILE")]
    write_to: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was done, and how long it took.
#[derive(Debug, Serialize)]
struct Timed<'a> {
    #[serde(flatten)]
    rotated: &'a KeysRotated,
    milliseconds: u64,
    per_second: u64,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let settings = context.settings()?;
    let gateway = context.open(&settings, Providers::Unused)?;
    let json = arguments.json;
    if arguments.rewrite_file {
        gateway.rewrite_key_file().await?;
        if json {
            return say_json(&json!({ "rewritten": settings.keys.file }));
        }
        return say("wrote the key file anew");
    }
    match (&arguments.write_to, arguments.destroy_retired) {
        (Some(file), false) => write(file, &gateway.next_key_file().await?, json),
        (Some(file), true) => write(file, &gateway.key_file_without_retired().await?, json),
        (None, true) => destroy(&gateway, json).await,
        (None, false) => rotate(&gateway, arguments).await,
    }
}

fn write(file: &Path, text: &str, json: bool) -> Outcome {
    write_new(file, text.as_bytes())?;
    if json {
        return say_json(&json!({ "written": file.display().to_string() }));
    }
    say(format_args!(
        "wrote {}; put it in the place of the keys, run the verb again without --write-to, and \
         remove this file",
        file.display()
    ))
}

async fn rotate(gateway: &Gateway, arguments: &Arguments) -> Outcome {
    let began = Instant::now();
    say_waiting(gateway).await?;
    let mut rotation = gateway.rotate_keys().await?;
    if !arguments.json {
        let goes_on = if rotation.is_resumed() {
            "the rotation that was interrupted goes on: "
        } else {
            ""
        };
        say(format_args!(
            "{goes_on}the generation {} seals now; {} records are sealed anew",
            rotation.generation(),
            rotation.total().saturating_sub(rotation.done())
        ))?;
    }
    let mut progress = Progress::new("records sealed anew", rotation.total());
    let mut pace = arguments.throttle.pace();
    progress.at(rotation.done());
    loop {
        let before = rotation.done();
        if !rotation.step(pace.batch(RESEAL_BATCH)).await? {
            break;
        }
        progress.at(rotation.done());
        let done = u32::try_from(rotation.done() - before).unwrap_or(u32::MAX);
        pace.wait(done).await;
    }
    progress.end();
    let rotated = rotation.finish().await?;
    print_rotated(&rotated, began, arguments.json)?;
    if rotated.unopened == 0 {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "{} records do not open with the keys of this installation and stay as they are: {}",
        rotated.unopened,
        rotated.unopened_ids.join(", ")
    )))
}

fn print_rotated(rotated: &KeysRotated, began: Instant, json: bool) -> Outcome {
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let per_second = rotated.resealed.saturating_mul(1000) / millis.max(1);
    if json {
        return say_json(&Timed {
            rotated,
            milliseconds: millis,
            per_second,
        });
    }
    say(format_args!(
        "sealed anew: {} records in {}.{:03} s ({per_second} a second)",
        rotated.resealed,
        millis / 1000,
        millis % 1000
    ))?;
    if rotated.retired.is_empty() {
        return Ok(());
    }
    say(format_args!(
        "nothing needs {} any more; `cardless rotate keys --destroy-retired` destroys what is left \
         of it",
        rotated.retired.join(", ")
    ))
}

async fn destroy(gateway: &Gateway, json: bool) -> Outcome {
    let destroying = gateway.destroy_retired();
    let destroyed = said_if_long(destroying, || {
        note("counting what is sealed, over all tables");
    });
    let destroyed = destroyed.await?;
    if json {
        return say_json(&destroyed);
    }
    if destroyed.generations.is_empty() {
        return say("no generation is retired; nothing was destroyed");
    }
    say(format_args!(
        "counted {} sealed values over all tables; none needs {}",
        destroyed.counted,
        destroyed.generations.join(", ")
    ))?;
    say(format_args!("destroyed in {}", destroyed.place))?;
    if destroyed.refused > 0 {
        say(format_args!(
            "{} records sealed under them while their keys were here are refused now",
            destroyed.refused
        ))?;
    }
    if !destroyed.untried.is_empty() {
        say(format_args!(
            "not proven of {}: no record sealed under it was kept while its key was here, so none could \
             be tried; only that it is not among the keys is known",
            destroyed.untried.join(", ")
        ))?;
    }
    say(
        "Running services forget them within a minute. Copies of the key file still hold them: \
         destroy those yourself. The old file was overwritten before it was given up; a file \
         system that copies on write, a journal or a flash disk may keep its bytes for a while. \
         A backup of the database from before this rotation can't be opened any more.",
    )
}

/// What `rotate status` shows of the keys.
pub(super) fn print_report(report: &KeysReport) -> Outcome {
    let mut table = table(&["generation", "state", "uses", "seals", "key", "since"]);
    for generation in &report.generations {
        let since = generation.destroyed_at.or(generation.retired_at);
        table.add_row([
            generation.id.clone(),
            generation.state.to_owned(),
            generation.uses.to_string(),
            generation.sealed.to_string(),
            match (generation.present, generation.tried) {
                (true, _) if generation.is_back() => "back: run --destroy-retired again",
                (true, _) => "here",
                (false, _) if generation.is_unproven() => "gone, not proven: run --destroy-retired",
                (false, Some(false)) => "gone, not tried",
                (false, _) => "gone",
            }
            .to_owned(),
            since.unwrap_or(generation.created_at).to_string(),
        ]);
    }
    say(format_args!("keys in {}", report.place))?;
    say(table)?;
    for warning in &report.warnings {
        say(format_args!("warning: {warning}"))?;
    }
    Ok(())
}
