//! `payment`: what happened to payments, what a person must look at, and how it ends.

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};

use cardless::gateway::{Case, CaseQuery, MAX_CASES, ResolveAs, ResolveRequest, Resolved};
use cardless::message::PaymentStatus;
use cardless::registry;

use super::{Context, Failure, Outcome, Providers, say, say_json, table};

/// How many payments `payment list` shows if nobody says.
const DEFAULT_LIMIT: u32 = 50;

/// Seconds of a minute, an hour and a day.
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The verbs of `payment`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show a payment, its operations, its ids at the provider, and what to do about it.
    Show {
        /// The payment's id, `pay_…`.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List payments, newest first.
    List(List),
    /// End a parked payment or operation. The provider is asked once more: what its answer
    /// concludes stands, and what it contradicts is refused.
    Resolve(Resolve),
}

/// The arguments of `payment list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this account, by the caller's own id.
    #[arg(long)]
    account: Option<String>,
    /// Only those under this reference.
    #[arg(long)]
    reference: Option<String>,
    /// Only those in this state; `parked` also finds payments with a parked operation.
    #[arg(long)]
    status: Option<StatusName>,
    /// How many at most.
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CASES)))]
    limit: u32,
    /// Go on after this payment, the last one of the listing before.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The arguments of `payment resolve`.
#[derive(Debug, Args)]
pub(super) struct Resolve {
    /// The payment's id, `pay_…`.
    id: String,
    /// The parked operation of the payment that is ended, `cap_…`, `void_…` or `ref_…`.
    #[arg(long, value_name = "ID")]
    operation: Option<String>,
    /// How it ends.
    #[arg(long = "as", value_name = "END")]
    end: EndName,
    /// What was seen at the provider, and where: 1 to 500 characters, kept in plain text.
    #[arg(long, value_name = "TEXT")]
    note: String,
    /// Who says so [default: the name of the login].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A status, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum StatusName {
    ActionRequired,
    Pending,
    Unknown,
    Authorized,
    Captured,
    Declined,
    Failed,
    Voided,
    Parked,
}

/// An end, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EndName {
    /// The money was taken (a payment, a capture).
    Captured,
    /// Nothing moved and nothing will.
    Failed,
    /// The hold was released and nothing was taken (a payment, a void).
    Voided,
    /// The money was given back (a refund).
    Refunded,
}

impl StatusName {
    const fn status(self) -> PaymentStatus {
        match self {
            Self::ActionRequired => PaymentStatus::ActionRequired,
            Self::Pending => PaymentStatus::Pending,
            Self::Unknown => PaymentStatus::Unknown,
            Self::Authorized => PaymentStatus::Authorized,
            Self::Captured => PaymentStatus::Captured,
            Self::Declined => PaymentStatus::Declined,
            Self::Failed => PaymentStatus::Failed,
            Self::Voided => PaymentStatus::Voided,
            Self::Parked => PaymentStatus::Parked,
        }
    }
}

impl EndName {
    const fn end(self) -> ResolveAs {
        match self {
            Self::Captured => ResolveAs::Captured,
            Self::Failed => ResolveAs::Failed,
            Self::Voided => ResolveAs::Voided,
            Self::Refunded => ResolveAs::Refunded,
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Show { id, json } => {
            let gateway = context.open(&context.settings()?, Providers::Unused)?;
            let case = gateway.case(&id).await?;
            if json {
                say_json(&with_place(&case)?)
            } else {
                show(&case)
            }
        }
        Command::List(arguments) => list(context, arguments).await,
        Command::Resolve(arguments) => resolve(context, arguments).await,
    }
}

async fn list(context: &Context, arguments: List) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let query = CaseQuery {
        account: arguments.account,
        reference: arguments.reference,
        status: arguments.status.map(StatusName::status),
        after: arguments.after,
        limit: arguments.limit,
    };
    let page = gateway.cases(&query).await?;
    if arguments.json {
        let data = page.data.iter().map(with_place);
        let data = data.collect::<Result<Vec<_>, _>>()?;
        let mut answer = json!({ "data": data });
        if let (Some(members), Some(next)) = (answer.as_object_mut(), page.next) {
            members.insert("next".to_owned(), Value::String(next));
        }
        return say_json(&answer);
    }
    let mut table = table(&[
        "payment", "provider", "status", "amount", "captured", "refunded", "age",
    ]);
    for case in &page.data {
        let payment = &case.payment;
        table.add_row([
            payment.id.clone(),
            payment.provider.to_string(),
            word(&payment.status)?,
            payment.amount.to_string(),
            payment.captured.to_string(),
            payment.refunded.to_string(),
            age(case.age_seconds),
        ]);
    }
    say(table)?;
    for case in page.data.iter().filter(|case| !case.to_do.is_empty()) {
        say(format_args!("\n{}", case.payment.id))?;
        say_last_answers(case)?;
        say_to_do(case)?;
    }
    if let Some(next) = page.next {
        say(format_args!("\nThere are more: --after {next}"))?;
    }
    Ok(())
}

async fn resolve(context: &Context, arguments: Resolve) -> Outcome {
    let person = arguments
        .by
        .or_else(|| context.login().map(str::to_owned))
        .ok_or_else(|| {
            Failure::Usage("nobody is logged in by name: say who you are with --by NAME".to_owned())
        })?;
    let gateway = context.open_at_providers(&context.settings()?).await?;
    let request = ResolveRequest {
        payment: arguments.id,
        operation: arguments.operation,
        end: arguments.end.end(),
        note: arguments.note,
        person,
    };
    let resolved = gateway.resolve(&request).await?;
    if arguments.json {
        say_json(&resolved)?;
    } else {
        tell(&resolved)?;
    }
    if resolved.as_wanted {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "it has not ended as {}: the provider's answer stands",
        request.end.as_str()
    )))
}

fn tell(resolved: &Resolved) -> Outcome {
    let line = &resolved.resolution;
    let by = match line.decided_by.as_str() {
        "provider" => "by the provider's answer just now".to_owned(),
        _ => format!(
            "by the word of {}; the provider said: {}",
            line.person, line.provider_said
        ),
    };
    say(format_args!(
        "{} has ended as {}, {by}",
        line.object, line.ended
    ))?;
    say(format_args!(
        "payment    {} is {}, captured {}, refunded {}",
        resolved.payment.id,
        word(&resolved.payment.status)?,
        resolved.payment.captured,
        resolved.payment.refunded
    ))
}

fn show(case: &Case) -> Outcome {
    let payment = &case.payment;
    say(format_args!(
        "payment    {} at {}",
        payment.id, payment.provider
    ))?;
    say(format_args!("account    {}", payment.account))?;
    say(format_args!("reference  {}", payment.reference))?;
    say(format_args!("status     {}", word(&payment.status)?))?;
    if let Some(decline) = &payment.decline {
        say(format_args!(
            "declined   {} ({})",
            decline.category, decline.provider_code
        ))?;
    }
    if let Some(failure) = &payment.failure {
        say(format_args!(
            "failed     {}: {}",
            failure.code, failure.message
        ))?;
    }
    say(format_args!("amount     {}", payment.amount))?;
    say(format_args!("captured   {}", payment.captured))?;
    say(format_args!("refunded   {}", payment.refunded))?;
    say(format_args!("reversed   {}", payment.reversed))?;
    say(format_args!(
        "since      {} ({})",
        payment.created_at,
        age(case.age_seconds)
    ))?;
    show_work(case)?;
    for operation in &payment.operations {
        let failure = operation.failure.as_ref();
        say(format_args!(
            "{:<10} {} {} {}{}",
            word(&operation.kind)?,
            operation.amount,
            word(&operation.status)?,
            operation.id,
            failure.map_or_else(String::new, |failure| format!(" ({})", failure.code))
        ))?;
    }
    say(format_args!("there      {}", place(case)))?;
    say(format_args!("  our reference  {}", case.provider_reference))?;
    for object in &case.provider_objects {
        let ours = object.operation.as_deref();
        say(format_args!(
            "  {:<14} {}{}",
            object.kind,
            object.id,
            ours.map_or_else(String::new, |id| format!(" ({id})"))
        ))?;
    }
    for line in &case.resolutions {
        say(format_args!(
            "resolved   {} as {} by {} ({}), {}: {}",
            line.object, line.ended, line.decided_by, line.person, line.at, line.note
        ))?;
    }
    say_to_do(case)
}

/// What the journal is at with a payment.
fn show_work(case: &Case) -> Outcome {
    say(format_args!("step       {}", case.step))?;
    if case.attempts > 0 {
        say(format_args!("asked      {} times", case.attempts))?;
    }
    let moments = [
        ("last sent", case.last_sent_at),
        ("next look", case.next_look_at),
        ("driven to", case.leased_until),
    ];
    for (name, at) in moments {
        if let Some(at) = at {
            say(format_args!("{name:<10} {at}"))?;
        }
    }
    say_last_answers(case)
}

/// How the last questions ended: the provider's support finds them under what it says here.
fn say_last_answers(case: &Case) -> Outcome {
    for answer in &case.last_answers {
        say(format_args!("heard      {}: {answer}", answer.object))?;
    }
    Ok(())
}

fn say_to_do(case: &Case) -> Outcome {
    if case.to_do.is_empty() {
        return Ok(());
    }
    say(format_args!("to do      in {}:", place(case)))?;
    for line in &case.to_do {
        say(format_args!("  {line}"))?;
    }
    Ok(())
}

fn place(case: &Case) -> &'static str {
    registry::back_office(case.payment.provider.as_str())
}

/// A case as JSON, with the place where a person finds it.
fn with_place(case: &Case) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(case).map_err(Failure::failed)?;
    if let Some(members) = value.as_object_mut() {
        members.insert("back_office".to_owned(), json!(place(case)));
    }
    Ok(value)
}

/// How long ago, in the largest unit that fits.
fn age(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min", seconds / MINUTE),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        DAY.. => format!("{} d", seconds / DAY),
    }
}

/// A status as the API writes it.
pub(super) fn word<T: Serialize>(status: &T) -> Result<String, Failure> {
    let value = serde_json::to_value(status).map_err(Failure::failed)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}
