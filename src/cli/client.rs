//! `client`: API keys.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use cardless::exchange::MAX_KEYS_BYTES;
use cardless::gateway::{ApiKeyInfo, ClientKeyInfo, Role};

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
        /// Take sealed messages only from this client; it gets no API key.
        #[arg(long, requires = "public_key")]
        sealed: bool,
        /// A sealed client's public keys on P-256: JWK, JWK set or PEM.
        #[arg(long, value_name = "FILE", requires = "sealed")]
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
    /// Add or revoke public keys of a sealed client; several can be live at once.
    #[command(subcommand)]
    Key(KeyCommand),
}

/// The verbs of `client key`.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Add public keys.
    Add {
        /// The client's name.
        name: String,
        /// The keys on P-256: JWK, JWK set or PEM.
        #[arg(long, value_name = "FILE")]
        public_key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Refuse a public key from now on, for good.
    Revoke {
        /// The client's name.
        name: String,
        /// The key's name, as `client list` shows it.
        #[arg(long)]
        kid: String,
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
        Command::Add {
            name,
            role,
            public_key: Some(file),
            json,
            ..
        } => add_sealed(context, &name, role, &file, json).await,
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
        Command::Key(KeyCommand::Add {
            name,
            public_key,
            json,
        }) => add_keys(context, &name, &public_key, json).await,
        Command::Key(KeyCommand::Revoke { name, kid }) => revoke_key(context, &name, &kid).await,
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

async fn add_sealed(
    context: &Context,
    name: &str,
    role: RoleName,
    file: &Path,
    json: bool,
) -> Outcome {
    let public_keys = read_keys(file)?;
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let keys = gateway
        .add_sealed_client(name, role.role(), &public_keys)
        .await?;
    let role = role.as_str();
    if json {
        return say_json(&json!({ "name": name, "role": role, "sealed": true, "keys": keys }));
    }
    say(format_args!(
        "client {name} ({role}) speaks by sealed messages only, to POST /v1/exchange; its keys:"
    ))?;
    say_keys(&keys)
}

async fn add_keys(context: &Context, name: &str, file: &Path, json: bool) -> Outcome {
    let public_keys = read_keys(file)?;
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let keys = gateway.add_client_keys(name, &public_keys).await?;
    if json {
        return say_json(&json!({ "name": name, "keys": keys }));
    }
    say(format_args!("client {name} has also:"))?;
    say_keys(&keys)
}

async fn revoke_key(context: &Context, name: &str, kid: &str) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    gateway.revoke_client_key(name, kid).await?;
    say(format_args!("the key {kid} of client {name} is revoked"))
}

fn say_keys(keys: &[ClientKeyInfo]) -> Outcome {
    let mut table = table(&["kid", "use"]);
    for key in keys {
        table.add_row([&key.kid, &key.r#use]);
    }
    say(table)
}

/// Reads a file with public keys; a larger one is none.
pub(super) fn read_keys(file: &Path) -> Result<String, Failure> {
    let fault = |what: &str| Failure::Usage(format!("{}: {what}", file.display()));
    let limit = u64::try_from(MAX_KEYS_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = File::open(file).and_then(|open| open.take(limit + 1).read_to_string(&mut text));
    read.map_err(|error| fault(&error.to_string()))?;
    if text.len() > MAX_KEYS_BYTES {
        return Err(fault("a file with public keys has at most 64 KiB"));
    }
    Ok(text)
}

async fn list(context: &Context, json: bool) -> Outcome {
    let gateway = context.open(&context.settings()?, Providers::Unused)?;
    let clients = gateway.clients().await?;
    if json {
        return say_json(&json!({ "data": clients }));
    }
    let mut table = table(&[
        "name",
        "role",
        "since",
        "revoked",
        "API keys",
        "sealed, by keys",
    ]);
    for client in clients {
        let revoked = client
            .revoked_at
            .map_or_else(|| "no".to_owned(), |at| at.to_string());
        let keys = if client.sealed {
            show_public_keys(&client.keys)
        } else {
            "no".to_owned()
        };
        table.add_row([
            client.name,
            client.role.to_string(),
            client.created_at.to_string(),
            revoked,
            show_keys(&client.api_keys),
            keys,
        ]);
    }
    say(table)
}

/// The live public keys of a sealed client.
pub(super) fn show_public_keys(keys: &[ClientKeyInfo]) -> String {
    let live = keys.iter().filter(|key| key.revoked_at.is_none());
    let shown = live.map(|key| format!("{} ({})", key.kid, key.r#use));
    shown.collect::<Vec<_>>().join(", ")
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
