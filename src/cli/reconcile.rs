//! `reconcile`: drives what is open; with `--verify` compares the books with the providers'.

use clap::Args;

use cardless::gateway::{Gateway, VerifyReport};

use super::progress::Progress;
use super::{Context, Failure, Outcome, say, say_json, table};

/// The arguments of `reconcile`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Compare the journal with the providers, to the cent, and change nothing. Exit code 1 if
    /// anything differs or could not be read.
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let gateway = context.open_at_providers(&context.settings()?).await?;
    if arguments.verify {
        return verify(&gateway, arguments.json).await;
    }
    let report = gateway.reconcile().await?;
    if arguments.json {
        return say_json(&report);
    }
    say(format_args!(
        "looked at {}, concluded {}, still open {}, parked {}, not looked at {}",
        report.looked_at, report.concluded, report.still_open, report.parked, report.errors
    ))?;
    if let Some(until) = report.leased_until {
        say(format_args!(
            "{} of these are left to another worker that drives them, until {until} at the latest",
            report.leased
        ))?;
    }
    if report.parked > 0 {
        say("`cardless payment list --status parked` shows what a person must look at")?;
    }
    Ok(())
}

async fn verify(gateway: &Gateway, json: bool) -> Outcome {
    let mut progress = Progress::new("payments compared", gateway.count_payments().await?);
    let mut report = VerifyReport::default();
    let mut after = None;
    loop {
        let page = gateway.verify_page(after.as_deref()).await?;
        report.add(page.report);
        progress.at(report.compared);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    progress.end();
    if json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    if report.is_clean() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the books and the providers differ in {} points; {} payments could not be read",
        report.differences.len(),
        report.unread.len()
    )))
}

fn print(report: &VerifyReport) -> Outcome {
    if !report.differences.is_empty() {
        let mut table = table(&[
            "payment", "provider", "id there", "what", "ours", "theirs", "open",
        ]);
        for found in &report.differences {
            table.add_row([
                found.payment.clone(),
                found.provider.to_string(),
                found.reservation.clone(),
                found.what.to_owned(),
                found.ours.clone(),
                found.theirs.clone(),
                if found.open { "yes" } else { "no" }.to_owned(),
            ]);
        }
        say(table)?;
        if report.differences.iter().any(|found| found.open) {
            say("what is open, `cardless reconcile` may settle")?;
        }
    }
    for unread in &report.unread {
        say(format_args!(
            "{} could not be compared: {} at {}: {}",
            unread.payment, unread.reservation, unread.provider, unread.why
        ))?;
    }
    if report.refunds_not_shown > 0 {
        say(format_args!(
            "of {} payments the provider's answer does not show refunds; these were not compared",
            report.refunds_not_shown
        ))?;
    }
    let without = &report.without_object;
    for (payments, why) in [
        (without.never_made, "ended before anything was made there"),
        (
            without.hold_may_remain,
            "failed, and a hold may remain there until it lapses by itself",
        ),
        (without.open, "are open: `cardless reconcile` asks for them"),
        (
            without.parked,
            "are parked: `cardless payment list --status parked`",
        ),
    ] {
        if payments > 0 {
            say(format_args!(
                "not compared, for want of an object at the provider: {payments} that {why}"
            ))?;
        }
    }
    say(format_args!(
        "compared {}, differences {}, not read {}, without an object there {}",
        report.compared,
        report.differences.len(),
        report.unread.len(),
        without.payments()
    ))
}
