//! `cargo run --release -p cardless-faults -- --schedules 100000`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use cardless_faults::{plan, run, shrink};
use clap::Parser;

/// Runs random schedules of calls, faults, crashes and clock jumps, and judges each by the ledger.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 1000)]
    schedules: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed, with its trace.
    #[arg(long)]
    seed: Option<u64>,
}

/// How many schedules lie between two lines of progress.
const PROGRESS_EVERY: u64 = 500;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.seed {
        Some(seed) => one(seed),
        None => many(arguments.from, arguments.schedules),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("the simulation itself failed: {error}\n"));
            ExitCode::from(2)
        }
    }
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn one(seed: u64) -> Result<ExitCode> {
    let outcome = run(seed, &plan(seed))?;
    say(&format!("{}\n", outcome.trace.join("\n")));
    if outcome.violations.is_empty() {
        say("no invariant is broken\n");
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{:#?}\n", outcome.violations));
    Ok(ExitCode::FAILURE)
}

fn many(from: u64, schedules: u64) -> Result<ExitCode> {
    let begun = Instant::now();
    let (mut calls, mut failed) = (0, 0_u64);
    for seed in from..from.saturating_add(schedules) {
        let steps = plan(seed);
        let outcome = run(seed, &steps)?;
        calls += outcome.calls;
        if !outcome.violations.is_empty() {
            failed += 1;
            let (steps, outcome) = shrink(seed, steps, outcome)?;
            say(&format!(
                "\nseed {seed}, {} steps:\n{}\n{:#?}\nagain: cargo run --release -p cardless-faults -- --seed {seed}\n",
                steps.len(),
                outcome.trace.join("\n"),
                outcome.violations
            ));
        }
        let done = seed - from + 1;
        if done.is_multiple_of(PROGRESS_EVERY) || done == schedules {
            progress(done, schedules, failed, begun);
        }
    }
    say(&format!(
        "\n{schedules} schedules, {calls} calls, {failed} with a broken invariant, {} s\n",
        begun.elapsed().as_secs()
    ));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn progress(done: u64, of: u64, failed: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs().max(1);
    let rate = done / seconds;
    let left = of
        .saturating_sub(done)
        .checked_div(rate.max(1))
        .unwrap_or(0);
    let line = format!("{done}/{of} schedules, {failed} failed, {rate}/s, {left} s left");
    if std::io::stderr().is_terminal() {
        say(&format!("\r{line}    "));
    } else {
        say(&format!("{line}\n"));
    }
}

fn say(text: &str) {
    // Nobody reads it any more if this fails.
    drop(std::io::stderr().write_all(text.as_bytes()));
}
