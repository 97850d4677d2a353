//! `audit`: who did what, and whether anybody has tampered with the log of it.

use clap::{Args, Subcommand};

use cardless::gateway::{
    AuditAction, AuditAnchor, AuditObject, AuditOutcome, AuditQuery, AuditReport, MAX_AUDIT_LINES,
};

use super::progress::Progress;
use super::{Context, Failure, Outcome, Providers, say, say_json, table};

/// How many lines `audit list` shows if nobody says.
const DEFAULT_LIMIT: u32 = 50;

/// The verbs of `audit`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the chain from the first line to the last: finds what was changed, dropped, moved or
    /// put in, and says where. Exit code 1 if anything is wrong.
    Verify(Verify),
    /// List the lines, the latest first.
    List(List),
}

/// The arguments of `audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// What an earlier check has printed as its head, and somebody has kept elsewhere: the log must
    /// still have that line. Without it, a database that was put back whole to an earlier state is
    /// not found.
    #[arg(long, value_name = "COUNT:MAC")]
    expect: Option<AuditAnchor>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The arguments of `audit list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only lines of this action, as client.add.
    #[arg(long)]
    action: Option<String>,
    /// Only lines about this handle or client.
    #[arg(long, conflicts_with = "account")]
    object: Option<String>,
    /// Only lines about this account, by the caller's own id.
    #[arg(long)]
    account: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_AUDIT_LINES)))]
    limit: u32,
    /// Go on before this line, the last one of the listing before.
    #[arg(long, value_name = "LINE")]
    before: Option<i64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Verify(arguments) => verify(context, arguments).await,
        Command::List(arguments) => list(context, arguments).await,
    }
}

async fn verify(context: &Context, arguments: Verify) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let mut progress = Progress::new("lines checked", gateway.count_audit_lines().await?);
    let report = gateway
        .verify_audit(arguments.expect, |done| progress.at(done))
        .await?;
    progress.end();
    let outcome = if report.is_whole() {
        AuditOutcome::Done
    } else {
        AuditOutcome::Failed
    };
    gateway
        .audit(AuditAction::AuditVerify, AuditObject::none())
        .outcome(outcome)
        .detail("lines", report.lines)
        .detail("faults", report.fault_count)
        .write()
        .await?;
    if arguments.json {
        say_json(&report)?;
    } else {
        print(&report)?;
    }
    if report.is_whole() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the audit log is not what was written, in {} points",
        report.fault_count
    )))
}

fn print(report: &AuditReport) -> Outcome {
    for fault in &report.faults {
        say(fault)?;
    }
    say(format_args!("lines  {}", report.lines))?;
    if let Some(head) = &report.head {
        say(format_args!("head   {head}"))?;
    }
    if report.is_whole() {
        say("keep the head elsewhere, and check against it next time: --expect COUNT:MAC")?;
    }
    Ok(())
}

async fn list(context: &Context, arguments: List) -> Outcome {
    if let Some(action) = &arguments.action
        && !AuditAction::ALL
            .iter()
            .any(|known| known.as_str() == action)
    {
        let known: Vec<&str> = AuditAction::ALL
            .iter()
            .map(|known| known.as_str())
            .collect();
        return Err(Failure::Usage(format!(
            "there is no action {action}; --action is one of {}",
            known.join(", ")
        )));
    }
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let query = AuditQuery {
        action: arguments.action,
        object: arguments.object,
        account: arguments.account,
        before: arguments.before,
        limit: arguments.limit,
    };
    let page = gateway.audit_lines(&query).await?;
    gateway
        .audit(AuditAction::AuditList, AuditObject::none())
        .detail("lines", page.data.len())
        .write()
        .await?;
    if arguments.json {
        return say_json(&page);
    }
    let mut table = table(&[
        "line", "at", "who", "as", "from", "action", "object", "outcome", "details",
    ]);
    for line in page.data {
        let details: Vec<String> = line
            .details
            .iter()
            .map(|(name, word)| format!("{name}={word}"))
            .collect();
        table.add_row([
            line.line.to_string(),
            line.at.to_string(),
            line.actor,
            line.role,
            line.origin,
            line.action,
            line.object,
            line.outcome,
            details.join(" "),
        ]);
    }
    say(table)?;
    if let Some(next) = page.next {
        say(format_args!("\nThere are more: --before {next}"))?;
    }
    Ok(())
}
