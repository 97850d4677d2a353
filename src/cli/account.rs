//! `account`: what is kept of an account, and what the person whom it is about may ask.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cardless_contract::{Entropy as _, SystemEntropy};
use clap::{Args, Subcommand};

use cardless::gateway::{AccountSummary, Actor, Gateway, RequestKey};
use cardless::message::{Erasure, ErasureStatus};

use super::private::new_file;
use super::progress::Progress;
use super::{Context, Failure, Outcome, Providers, say, say_json, table};

/// In whose name the command line uses idempotency keys. No client can be called so.
const CLIENT: &str = "(command line)";

/// How many random bytes are in such a key.
const KEY_BYTES: usize = 16;

/// How long `account erase` waits if nobody says, in seconds.
const DEFAULT_WAIT_SECONDS: u64 = 30;

/// The longest that it waits, in seconds.
const MAX_WAIT_SECONDS: u64 = 24 * 3600;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The verbs of `account`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the payment methods, the number of payments and the erasures of an account.
    Show {
        /// The caller's own id of the account.
        account: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write everything that is kept of an account, as JSON. It holds personal data.
    Export(Export),
    /// Revoke the methods at their providers, delete here, and keep what the books must keep under a
    /// random name. Exit code 1 if something must come to its end first; then the service, or
    /// `cardless reconcile`, goes on with it.
    Erase(Erase),
    /// Charge an account no more: no new payment, setup or capture.
    Restrict(Restrict),
    /// Let an account be charged again.
    Unrestrict(Restrict),
}

/// The arguments of `account export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file to write, made readable by its owner only and never overwritten [default: standard
    /// output].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    who: Person,
}

/// The arguments of `account erase`.
#[derive(Debug, Args)]
pub(super) struct Erase {
    #[command(flatten)]
    who: Person,
    /// Wait no longer for PROVIDER to confirm what is being revoked for this erasure, because you know
    /// that it never will. Only what was tried before is ended; the receipt counts it apart, and the
    /// audit log has your name.
    #[arg(long, value_name = "PROVIDER")]
    unconfirmed: Option<String>,
    /// For how many seconds to wait for the end.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_WAIT_SECONDS, value_parser = clap::value_parser!(u64).range(..=MAX_WAIT_SECONDS))]
    wait: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The arguments of `account restrict` and `account unrestrict`.
#[derive(Debug, Args)]
pub(super) struct Restrict {
    #[command(flatten)]
    who: Person,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Whose account, and who says so.
#[derive(Debug, Args)]
pub(super) struct Person {
    /// The caller's own id of the account.
    account: String,
    /// Who says so [default: the name of the login].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Show { account, json } => {
            let gateway = context.open(&context.settings()?, Providers::Unused)?;
            let summary = gateway.account(&account).await?;
            if json {
                say_json(&summary)
            } else {
                print(&summary)
            }
        }
        Command::Export(arguments) => export(context, arguments).await,
        Command::Erase(arguments) => erase(context, arguments).await,
        Command::Restrict(arguments) => restrict(context, arguments, true).await,
        Command::Unrestrict(arguments) => restrict(context, arguments, false).await,
    }
}

/// The gateway, for whoever says so.
fn open(context: &Context, who: &Person, providers: Providers) -> Result<Gateway, Failure> {
    let gateway = context.open(&context.settings()?, providers)?;
    Ok(match &who.by {
        Some(name) => gateway.acting_as(Actor::command_line(name)),
        None => gateway,
    })
}

async fn export(context: &Context, arguments: Export) -> Outcome {
    let gateway = open(context, &arguments.who, Providers::Unused)?;
    let mut export = gateway.export_account(&arguments.who.account).await?;
    let mut to: Box<dyn Write + Send> = match &arguments.output {
        None => Box::new(std::io::stdout()),
        Some(path) => Box::new(new_file(path)?),
    };
    while let Some(piece) = export.next().await? {
        to.write_all(piece.as_bytes())?;
    }
    to.flush()?;
    Ok(())
}

async fn restrict(context: &Context, arguments: Restrict, restricted: bool) -> Outcome {
    let who = arguments.who;
    let gateway = open(context, &who, Providers::Unused)?;
    let account = gateway.set_restricted(&who.account, restricted).await?;
    if arguments.json {
        return say_json(&account);
    }
    say(format_args!(
        "account {} is {}",
        account.account,
        if restricted {
            "restricted: it has no new payment, setup or capture"
        } else {
            "not restricted"
        }
    ))
}

async fn erase(context: &Context, arguments: Erase) -> Outcome {
    // A contract that has ended, and its settings with it, may be the only one there was.
    let providers = match arguments.unconfirmed {
        Some(_) => Providers::Shown,
        None => Providers::Needed,
    };
    let gateway = open(context, &arguments.who, providers)?;
    gateway.require_merchants().await?;
    let account = &arguments.who.account;
    let until = Instant::now() + Duration::from_secs(arguments.wait);
    let mut answer = match &arguments.unconfirmed {
        Some(provider) => gateway.erase_unconfirmed(account, provider).await?,
        None => gateway.erase(&new_key()?, account).await?,
    };
    let total = answer.body.waiting_for.len();
    let mut progress = Progress::new("of what holds it up has ended", count(total));
    while answer.open && Instant::now() < until {
        tokio::time::sleep(LOOK_EVERY).await;
        answer = gateway.continue_erasure(account).await?;
        progress.at(count(total.saturating_sub(answer.body.waiting_for.len())));
    }
    progress.end();
    let erasure = answer.body;
    if arguments.json {
        say_json(&erasure)?;
    } else {
        tell(&erasure)?;
    }
    if erasure.status == ErasureStatus::Erased {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the erasure {} is not done yet: nothing more is charged, and `cardless serve` or `cardless \
         reconcile` goes on with it; `cardless account show` says how far it is",
        erasure.id
    )))
}

fn new_key() -> Result<RequestKey, Failure> {
    let mut bytes = [0; KEY_BYTES];
    SystemEntropy.fill(&mut bytes).map_err(Failure::failed)?;
    // Letters only, so that no key can pass for a card number.
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    let key: String = halves.map(|half| char::from(b'a' + half)).collect();
    Ok(RequestKey::new(CLIENT, key)?)
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

fn tell(erasure: &Erasure) -> Outcome {
    say(format_args!("receipt      {}", erasure.id))?;
    say(format_args!("asked for    {}", erasure.requested_at))?;
    match erasure.erased_at {
        Some(at) => say(format_args!("erased       {at}"))?,
        None => say("erased       not yet")?,
    }
    for waiting in &erasure.waiting_for {
        say(format_args!(
            "waits for    {} {} ({})",
            waiting.kind, waiting.id, waiting.status
        ))?;
    }
    for there in &erasure.revoked {
        say(format_args!(
            "revoked      {} payment methods, confirmed by {}",
            there.payment_methods, there.provider
        ))?;
    }
    for there in &erasure.unconfirmed {
        say(format_args!(
            "unconfirmed  {} payment methods of {}, ended here without its word: revoke them there",
            there.payment_methods, there.provider
        ))?;
    }
    if let Some(deleted) = &erasure.deleted {
        say(format_args!(
            "deleted      the account's id, {} payment methods with their tokens, {} setups, the texts of {} \
             payments, {} notes, the stored answers of {} idempotency keys",
            deleted.payment_methods,
            deleted.setups,
            deleted.texts_of_payments,
            deleted.notes,
            deleted.answers_of_idempotency_keys
        ))?;
    }
    if let Some(kept) = &erasure.kept {
        say(format_args!(
            "kept         {} payments, {} operations and {} events, under a random name",
            kept.payments, kept.operations, kept.events
        ))?;
    }
    Ok(())
}

fn print(summary: &AccountSummary) -> Outcome {
    say(format_args!("account      {}", summary.account))?;
    if let Some(since) = summary.created_at {
        say(format_args!("since        {since}"))?;
        say(format_args!(
            "restricted   {}",
            if summary.restricted { "yes" } else { "no" }
        ))?;
        say(format_args!(
            "payments     {} ({} open)",
            summary.payments, summary.open_payments
        ))?;
    } else {
        say("kept         nothing but the receipt")?;
    }
    for erasure in &summary.erasures {
        tell(erasure)?;
    }
    if summary.created_at.is_none() {
        return Ok(());
    }
    let mut table = table(&["payment method", "provider", "status", "default", "since"]);
    for method in &summary.payment_methods {
        table.add_row([
            method.id.clone(),
            method.provider.to_string(),
            format!("{:?}", method.status).to_lowercase(),
            if method.default { "yes" } else { "no" }.to_owned(),
            method.created_at.to_string(),
        ]);
    }
    say(table)
}
