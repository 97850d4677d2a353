//! The scope report of an installation with a million records: how long it takes.
//!
//! ```text
//! cargo bench --bench scope                     # a million records; a minute, 1 GB of disk
//! cargo bench --bench scope -- --records 50000
//! ```

#![expect(clippy::print_stdout, reason = "it prints what it measured")]

mod filled;

use std::time::{Duration, Instant};

use filled::{Result, ensure, fill, program};

const RECORDS: u64 = 1_000_000;

/// Within this the report must be made.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result {
    let records = records(std::env::args().skip(1))?;
    let folder = tempfile::tempdir()?;
    let place = folder.path();
    ensure(
        program(place, &["init"]).status()?.success(),
        "the keys are made",
    )?;
    fill(place, records).await?;
    for arguments in [
        &["scope", "--prove"][..],
        &["scope", "--format", "json"],
        &["scope", "--format", "html"],
    ] {
        let began = Instant::now();
        let status = program(place, arguments).status()?;
        let took = began.elapsed();
        ensure(status.success(), "every statement holds")?;
        ensure(took < LIMIT, "the report is made within a minute")?;
        println!(
            "cardless {}: {} ms with {records} records",
            arguments.join(" "),
            took.as_millis()
        );
    }
    Ok(())
}

fn records(mut given: impl Iterator<Item = String>) -> Result<u64> {
    let mut records = RECORDS;
    while let Some(argument) = given.next() {
        match argument.as_str() {
            // Cargo adds this one.
            "--bench" => {}
            "--records" => records = given.next().ok_or("a number is missing")?.parse()?,
            strange => return Err(format!("{strange} is not known here").into()),
        }
    }
    Ok(records)
}
