//! `check`: what works.

use cardless_contract::ErrorKind;
use clap::Args;
use serde::Serialize;

use cardless::error::Causes;
use cardless::gateway::Gateway;

use super::{Context, Failure, Outcome, Providers, say, say_json, table};

/// The arguments of `check`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    ok: bool,
    detail: String,
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Outcome {
    let settings = context.settings()?;
    let gateway = context.open(&settings, Providers::Needed)?;
    let mut rows = vec![store_and_keys(&gateway).await];
    for probe in gateway.check().await {
        let provider = probe.provider.as_str();
        let result = probe.result.map_err(|error| {
            let advice = advice(provider, error.kind());
            format!("{error}{advice}")
        });
        rows.push(row(provider, result));
    }
    print(&rows, arguments.json)?;
    if rows.iter().all(|row| row.ok) {
        return Ok(());
    }
    Err(Failure::Failed(
        "not all of it works; see the table".to_owned(),
    ))
}

/// Whether store, keys and merchants are there and fit together; what must be done about the keys.
async fn store_and_keys(gateway: &Gateway) -> Row {
    let ready = match gateway.ready().await {
        Ok(()) => gateway.check_merchants().await,
        Err(error) => Err(error),
    };
    let opened = match ready {
        Ok(()) => gateway.open_keys().await,
        Err(error) => Err(error),
    };
    let warnings = opened.map_err(|error| Causes(&error).to_string());
    let mut row = row(
        "store and keys",
        warnings.as_ref().map(drop).map_err(Clone::clone),
    );
    for warning in warnings.unwrap_or_default() {
        row.detail.push_str("; ");
        row.detail.push_str(&warning);
    }
    row
}

/// What to look at next, where the settings can be at fault.
fn advice(provider: &str, kind: ErrorKind) -> String {
    if matches!(kind, ErrorKind::Unreachable | ErrorKind::Interrupted) {
        return format!("; look at the network and at `providers.{provider}.base_url`");
    }
    if kind == ErrorKind::Authentication {
        return format!("; look at the credentials in [providers.{provider}]");
    }
    String::new()
}

fn row(what: &str, result: Result<(), String>) -> Row {
    let ok = result.is_ok();
    Row {
        what: what.to_owned(),
        ok,
        detail: result.err().unwrap_or_else(|| "works".to_owned()),
    }
}

fn print(rows: &[Row], json: bool) -> Outcome {
    if json {
        return say_json(&rows);
    }
    let mut table = table(&["what", "ok", "detail"]);
    for row in rows {
        let ok = if row.ok { "yes" } else { "no" };
        table.add_row([row.what.as_str(), ok, row.detail.as_str()]);
    }
    say(table)
}
