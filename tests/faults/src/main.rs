//! `cargo run --release -p cardless-faults -- --schedules 100000`, or `-- --webhooks`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Instant;

use cardless_faults::{all_orders, plan, run, run_orders, shrink};
use cardless_sandbox::Provider;
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
    /// Instead: every order of up to six webhooks, each once to three times, at each provider.
    #[arg(long)]
    webhooks: bool,
}

/// How many schedules lie between two lines of progress.
const PROGRESS_EVERY: u64 = 500;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.seed {
        _ if arguments.webhooks => webhooks(),
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
            progress("schedules", done, schedules, failed, begun);
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

fn webhooks() -> Result<ExitCode> {
    let begun = Instant::now();
    let orders = all_orders();
    let mut failed = 0;
    for provider in Provider::ALL {
        let all = u64::try_from(orders.len())?;
        let result = run_orders(provider, &orders, |done| {
            if done % PROGRESS_EVERY < 32 || done == all {
                progress("orders", done, all, failed, begun);
            }
        })?;
        failed += u64::try_from(result.differences.len())?;
        say(&format!(
            "\n{}: {} orders, {} deliveries, {} with another end, {} s\n{}",
            provider.name(),
            result.cases,
            result.deliveries,
            result.differences.len(),
            begun.elapsed().as_secs(),
            result.differences.join("\n")
        ));
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn progress(what: &str, done: u64, of: u64, failed: u64, begun: Instant) {
    let seconds = begun.elapsed().as_secs().max(1);
    let rate = done / seconds;
    let left = of
        .saturating_sub(done)
        .checked_div(rate.max(1))
        .unwrap_or(0);
    let line = format!("{done}/{of} {what}, {failed} failed, {rate}/s, {left} s left");
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
