//! `rotate status`: what is being rotated, how far it is, and what of the old still works.

use serde_json::json;

use cardless::config::Settings;
use cardless::gateway::{ClientInfo, RotationInfo};
use cardless::registry::{self, LiveSecrets};

use super::{keys, say_old};
use crate::cli::client::{show_keys, show_public_keys};
use crate::cli::{Context, Outcome, Providers, say, say_json, table};

pub(super) async fn run(context: &Context, json: bool) -> Outcome {
    let settings: Settings = context.settings()?;
    let gateway = context.open(&settings, Providers::Unused)?;
    let keys = gateway.keys().await?;
    let rotations = gateway.rotations().await?;
    let old = gateway.old_handles().await?;
    let mut clients = gateway.clients().await?;
    clients.retain(|client| client.revoked_at.is_none());
    let secrets = registry::live_secrets(&settings);
    if json {
        return say_json(&json!({
            "keys": keys, "rotations": rotations, "old_handles": old, "clients": clients,
            "secrets": secrets,
        }));
    }
    keys::print_report(&keys)?;
    print_rotations(&rotations)?;
    say_old(old)?;
    print_clients(&clients)?;
    print_secrets(&secrets)
}

fn print_rotations(rotations: &[RotationInfo]) -> Outcome {
    if rotations.is_empty() {
        return say("nothing was rotated yet");
    }
    let mut table = table(&["rotation of", "done", "began", "ended"]);
    for rotation in rotations {
        let ended = match (rotation.ended_at, rotation.running) {
            (Some(at), _) => at.to_string(),
            (None, true) => "runs".to_owned(),
            (None, false) => format!("no; `cardless rotate {}` goes on with it", rotation.kind),
        };
        table.add_row([
            rotation.kind.to_owned(),
            format!("{} of {}", rotation.done, rotation.total),
            rotation.started_at.to_string(),
            ended,
        ]);
    }
    say(table)
}

fn print_clients(clients: &[ClientInfo]) -> Outcome {
    if clients.is_empty() {
        return say("clients: none");
    }
    let mut table = table(&["client", "API keys, or public keys of a sealed client"]);
    for client in clients {
        let keys = if client.sealed {
            show_public_keys(&client.keys)
        } else {
            show_keys(&client.api_keys)
        };
        table.add_row([client.name.clone(), keys]);
    }
    say(table)
}

/// How many values each secret setting has; of several, the first is used. Never a value.
fn print_secrets(secrets: &[LiveSecrets]) -> Outcome {
    if secrets.is_empty() {
        return say("secret settings: none");
    }
    let mut table = table(&["secret setting", "live", "used"]);
    for secret in secrets {
        let used = if secret.live > 1 { "the first" } else { "it" };
        table.add_row([
            secret.setting.clone(),
            secret.live.to_string(),
            used.to_owned(),
        ]);
    }
    say(table)
}
