//! `account`: what is kept of an account.

use clap::Subcommand;

use cardless::gateway::AccountSummary;

use super::{Context, Outcome, Providers, say, say_json, table};

/// The verbs of `account`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show the payment methods and the number of payments of an account.
    Show {
        /// The caller's own id of the account.
        account: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let Command::Show { account, json } = command;
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let summary = gateway.account(&account).await?;
    if json {
        say_json(&summary)
    } else {
        print(&summary)
    }
}

fn print(summary: &AccountSummary) -> Outcome {
    say(format_args!("account      {}", summary.account))?;
    say(format_args!("since        {}", summary.created_at))?;
    say(format_args!(
        "restricted   {}",
        if summary.restricted { "yes" } else { "no" }
    ))?;
    say(format_args!(
        "payments     {} ({} open)",
        summary.payments, summary.open_payments
    ))?;
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
