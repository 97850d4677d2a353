//! `init`: a commented `cardless.toml` and a key file.

use std::path::Path;

use cardless_contract::{Secrets, SystemEntropy};

use cardless::config::Settings;
use cardless::vault::{Custody as _, KeyFile, KeyRing};

use super::private::write_new;
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
# What the key file is under. A plain file is under it from `cardless rotate keys` or
# `cardless rotate keys --rewrite-file` on. To change it: a list, the new one first.
# passphrase = { env = "CARDLESS_PASSPHRASE" }

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
            return Err(Failure::Failed(format!(
                "{} exists and is left as it is; nothing was written. Move it away, or name another \
                 file with --config",
                path.display()
            )));
        }
    }
    // Nothing but the environment can give a passphrase yet.
    let described = Settings::parse(&settings, SETTINGS, &context.environment)?;
    let passphrase = described.passphrase()?;
    let protected = passphrase.is_some();
    write_keys(&keys, passphrase)?;
    if let Err(failure) = write_new(&settings, SETTINGS.as_bytes()) {
        // Nothing is sealed with these keys yet, so they may go.
        std::fs::remove_file(&keys)?;
        return Err(failure);
    }
    say(format_args!("wrote {}", settings.display()))?;
    say(format_args!(
        "wrote {}{} (keep a copy, apart from the database)",
        keys.display(),
        if protected {
            ", under the passphrase"
        } else {
            ""
        }
    ))?;
    say(
        "next: fill in a provider; then `cardless check`, `cardless client add NAME --role billing`",
    )?;
    say("and `cardless serve`")
}

/// Writes a new key file, under a passphrase if there is one.
pub(super) fn write_keys(path: &Path, passphrase: Option<Secrets>) -> Outcome {
    let keys = KeyRing::generate(&SystemEntropy).map_err(Failure::failed)?;
    let mut file = KeyFile::new(path);
    if let Some(passphrase) = passphrase {
        file = file.under(passphrase);
    }
    let kept = file.as_kept(&keys).map_err(Failure::failed)?;
    write_new(path, kept.as_bytes())
}
