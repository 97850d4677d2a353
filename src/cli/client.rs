//! `client`: API keys.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use cardless::gateway::{ApiKeyInfo, Role};

use super::{Context, Failure, Outcome, Providers, duration, say, say_json, table};

/// The verbs of `client`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a client; its API key is shown once and kept as a keyed hash only.
    Add {
        /// The client's name.
        name: String,
        /// What it may do.
        #[arg(long)]
        role: RoleName,
        /// Refuse anything but sealed messages from this client (not available yet).
        #[arg(long)]
        sealed: bool,
        /// The client's public key, for sealed messages (not available yet).
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the clients.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Refuse a client's API key from now on.
    Revoke {
        /// The client's name.
        name: String,
    },
    /// Make another API key, which is shown once, while the old one stays good for a while.
    Renew {
        /// The client's name.
        name: String,
        /// How long the old key stays good, as 7d or 12h; 0 ends every older key now.
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration::parse)]
        overlap: Duration,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add or revoke a client's public key (not available yet).
    Key {
        /// add or revoke.
        action: String,
        /// The client's name.
        name: String,
    },
}

/// A role, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    /// Links, charges, captures, refunds, reads.
    Billing,
    /// Reads.
    Operator,
    /// Reads the evidence of the installation's scope.
    Auditor,
}

impl RoleName {
    const fn role(self) -> Role {
        match self {
            Self::Billing => Role::Billing,
            Self::Operator => Role::Operator,
            Self::Auditor => Role::Auditor,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Add { sealed: true, .. }
        | Command::Add {
            public_key: Some(_),
            ..
        } => Err(Failure::not_yet(
            "the sealed exchange (--sealed, --public-key)",
        )),
        Command::Add {
            name, role, json, ..
        } => add(context, &name, role, json).await,
        Command::List { json } => list(context, json).await,
        Command::Revoke { name } => revoke(context, &name).await,
        Command::Renew {
            name,
            overlap,
            json,
        } => renew(context, &name, overlap, json).await,
        Command::Key { .. } => Err(Failure::not_yet("`client key`")),
    }
}

async fn add(context: &Context, name: &str, role: RoleName, json: bool) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let api_key = gateway.add_client(name, role.role()).await?;
    let role = role.as_str();
    if json {
        return say_json(&json!({ "name": name, "role": role, "api_key": api_key }));
    }
    say(format_args!(
        "client {name} ({role}); its API key is shown only now:"
    ))?;
    say(api_key)
}

async fn renew(context: &Context, name: &str, overlap: Duration, json: bool) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let renewed = gateway.renew_client(name, overlap).await?;
    let (role, until) = (renewed.role, renewed.old_ends_at);
    if json {
        return say_json(&json!({
            "name": name, "role": role, "api_key": renewed.api_key, "old_key_ends_at": until,
        }));
    }
    say(format_args!(
        "client {name} ({role}); its older API key ends at {until}, its new one is shown only now:"
    ))?;
    say(renewed.api_key)
}

async fn list(context: &Context, json: bool) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let clients = gateway.clients().await?;
    if json {
        return say_json(&json!({ "data": clients }));
    }
    let mut table = table(&["name", "role", "since", "revoked", "API keys"]);
    for client in clients {
        let revoked = client
            .revoked_at
            .map_or_else(|| "no".to_owned(), |at| at.to_string());
        table.add_row([
            client.name,
            client.role.to_string(),
            client.created_at.to_string(),
            revoked,
            show_keys(&client.api_keys),
        ]);
    }
    say(table)
}

/// `since 2026-01-01T00:00:00Z, and an older one until …`.
pub(super) fn show_keys(keys: &[ApiKeyInfo]) -> String {
    let shown = keys.iter().map(|key| match key.ends_at {
        None => format!("since {}", key.since),
        Some(at) => format!("an older one until {at}"),
    });
    shown.collect::<Vec<_>>().join(", and ")
}

async fn revoke(context: &Context, name: &str) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    gateway.revoke_client(name).await?;
    say(format_args!("client {name} is revoked"))
}
