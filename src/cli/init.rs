//! `init`: a commented `cardless.toml` and a key file.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use cardless_contract::SystemEntropy;

use cardless::vault::KeyRing;

use super::{Context, Failure, Outcome, say};

/// The key file, beside the settings.
const KEY_FILE: &str = "cardless.keys";

/// What is written. Provider tables are comments, so that those of `sandbox --print-settings` can
/// follow them.
const SETTINGS: &str = r#"# Settings of cardless. Each can be overridden by environment:
# CARDLESS__SERVICE__LISTEN=127.0.0.1:9000. Relative paths are relative to this file.
# A secret is text, { env = "NAME" }, { file = "PATH" }, or a list of these:
# the first is used, all are accepted.

[service]
# Where the service listens. Plain HTTP is for loopback only.
listen = "127.0.0.1:8080"
# Where providers and browsers reach it; derived from `listen` if absent.
# public_url = "http://127.0.0.1:8080"

[store]
# The database; it is made on first use.
url = "sqlite:cardless.db"

[keys]
# The keys that everything at rest is sealed with. Keep a copy, apart from the database's.
file = "cardless.keys"

# Where the billing service is told what has become true, signed by Standard Webhooks. Without it,
# it reads GET /v1/events.
# [events]
# url = "https://billing.example/cardless-events"   # https, or http on loopback
# secret = { env = "CARDLESS_EVENTS_SECRET" }       # whsec_ and the base64 of 24 to 64 random bytes

# A provider is offered if its table is here; one at least is needed. Without a contract, run
# `cardless sandbox` and append what `cardless sandbox --print-settings` prints.

# [providers.paypal]
# environment = "sandbox"              # or "live"
# client_id = "…"
# client_secret = { env = "PAYPAL_CLIENT_SECRET" }
# webhook_id = "…"
# token_kind = "vault_v3"              # or "billing_agreement"

# [providers.postfinance]
# base_url = "https://checkout.postfinance.ch/api/v2.0"
# space_id = 405
# user_id = "512"
# authentication_key = { env = "POSTFINANCE_KEY" }

# [providers.aduno]
# environment = "sandbox"              # or "live"
# merchant_id = "1100000000"
# password = { env = "ADUNO_PASSWORD" }
# webhook_key = { env = "ADUNO_SIGN2" }
"#;

pub(super) fn run(context: &Context) -> Outcome {
    let settings = context.config().to_owned();
    let keys = settings.parent().unwrap_or(Path::new("")).join(KEY_FILE);
    for path in [&settings, &keys] {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    write_keys(&keys)?;
    if let Err(failure) = write_new(&settings, SETTINGS.as_bytes()) {
        // Nothing is sealed with these keys yet, so they may go.
        std::fs::remove_file(&keys)?;
        return Err(failure);
    }
    say(format_args!("wrote {}", settings.display()))?;
    say(format_args!(
        "wrote {} (keep a copy, apart from the database)",
        keys.display()
    ))?;
    say(
        "next: fill in a provider; then `cardless check`, `cardless client add NAME --role billing`",
    )?;
    say("and `cardless serve`")
}

/// Writes a new key file.
pub(super) fn write_keys(path: &Path) -> Outcome {
    let keys = KeyRing::generate(&SystemEntropy).map_err(Failure::failed)?;
    write_new(path, keys.as_bytes())
}

/// Writes a file that was not there, readable by its owner only.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Outcome {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return exists(path);
        }
        Failure::Failed(format!("{} can't be written: {error}", path.display()))
    })?;
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

fn exists(path: &Path) -> Failure {
    Failure::Failed(format!(
        "{} exists and is left as it is; nothing was written. Move it away, or name another \
         file with --config",
        path.display()
    ))
}
