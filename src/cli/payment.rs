//! `payment`: payments, as the service sees them.

use clap::Subcommand;
use serde::Serialize;

use cardless::message::{Payment, PaymentQuery};

use super::{Context, Failure, Outcome, Providers, say, say_json, table};

/// The verbs of `payment`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show a payment with its operations.
    Show {
        /// The payment's id, `pay_…`.
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the payments of an account.
    List {
        /// The caller's own id of the account.
        #[arg(long)]
        account: String,
        /// Only those under this reference.
        #[arg(long)]
        reference: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    match command {
        Command::Show { id, json } => {
            let payment = gateway.payment(&id).await?;
            if json {
                say_json(&payment)
            } else {
                show(&payment)
            }
        }
        Command::List {
            account,
            reference,
            json,
        } => {
            let mut query = PaymentQuery {
                account,
                reference,
                after: None,
            };
            let mut payments = Vec::new();
            loop {
                let page = gateway.payments(&query).await?;
                payments.extend(page.data);
                query.after = page.next;
                if query.after.is_none() {
                    break;
                }
            }
            list(&payments, json)
        }
    }
}

fn show(payment: &Payment) -> Outcome {
    say(format_args!(
        "payment    {} at {}",
        payment.id, payment.provider
    ))?;
    say(format_args!("account    {}", payment.account))?;
    say(format_args!("reference  {}", payment.reference))?;
    say(format_args!("status     {}", word(&payment.status)?))?;
    say(format_args!("amount     {}", payment.amount))?;
    say(format_args!("captured   {}", payment.captured))?;
    say(format_args!("refunded   {}", payment.refunded))?;
    say(format_args!("reversed   {}", payment.reversed))?;
    say(format_args!("since      {}", payment.created_at))?;
    for operation in &payment.operations {
        say(format_args!(
            "{:<10} {} {} {}",
            word(&operation.kind)?,
            operation.amount,
            word(&operation.status)?,
            operation.id
        ))?;
    }
    Ok(())
}

fn list(payments: &[Payment], json: bool) -> Outcome {
    if json {
        return say_json(&serde_json::json!({ "data": payments }));
    }
    let mut table = table(&[
        "payment", "provider", "status", "amount", "captured", "refunded",
    ]);
    for payment in payments {
        table.add_row([
            payment.id.clone(),
            payment.provider.to_string(),
            word(&payment.status)?,
            payment.amount.to_string(),
            payment.captured.to_string(),
            payment.refunded.to_string(),
        ]);
    }
    say(table)
}

/// A status as the API writes it.
pub(super) fn word<T: Serialize>(status: &T) -> Result<String, Failure> {
    let value = serde_json::to_value(status).map_err(Failure::failed)?;
    Ok(value.as_str().unwrap_or_default().to_owned())
}
