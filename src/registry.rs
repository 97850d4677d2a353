//! Settings to providers and store: the one file that names the provider crates.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{Clock, PaymentProvider};
use cardless_transport::{ClientConfig, HttpClient, Names, ReqwestClient};
use serde::Serialize;

use crate::config::{SettingLine, Settings, SettingsError};
use crate::gateway::{GatewayBuilder, Reload};
#[cfg(feature = "sqlite")]
use crate::store::{SqliteStore, Store, StoreError, Threads};
use crate::vault::{Custody, KeyFile};
use crate::webhook::EndpointError;

/// The providers that settings can name.
pub(crate) const KNOWN: [&str; 3] = ["aduno", "paypal", "postfinance"];

/// How long a connection to a provider may take; passing it leaves nothing sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a whole call to a provider may take. A charge that needs longer is asked for later.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A provider for each table under `[providers]`; each has connections of its own.
///
/// # Errors
///
/// [`SettingsError`] for a table that names no provider we know, and for what an adapter finds
/// wrong with its settings.
pub fn providers(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<dyn PaymentProvider>>, SettingsError> {
    refuse_unknown(settings)?;
    let mut providers: Vec<Arc<dyn PaymentProvider>> = Vec::new();
    if let Some(config) = settings.provider::<cardless_postfinance::Config>("postfinance")? {
        let client = provider_client(settings)?;
        let provider = cardless_postfinance::PostFinance::new(config, client, clock.clone());
        providers.push(Arc::new(
            provider.map_err(|error| wrong(settings, "postfinance", &error))?,
        ));
    }
    if let Some(config) = settings.provider::<cardless_paypal::Config>("paypal")? {
        let provider =
            cardless_paypal::PayPal::new(config, provider_client(settings)?, clock.clone());
        providers.push(Arc::new(
            provider.map_err(|error| wrong(settings, "paypal", &error))?,
        ));
    }
    if let Some(config) = settings.provider::<cardless_aduno::Config>("aduno")? {
        let provider =
            cardless_aduno::Aduno::new(config, provider_client(settings)?, clock.clone());
        providers.push(Arc::new(
            provider.map_err(|error| wrong(settings, "aduno", &error))?,
        ));
    }
    Ok(providers)
}

/// Has events delivered where `[events]` says; without that section, nowhere.
///
/// # Errors
///
/// [`SettingsError`] for what is missing or can't be used.
pub fn events(
    settings: &Settings,
    builder: GatewayBuilder,
) -> Result<GatewayBuilder, SettingsError> {
    let Some(events) = settings.events()? else {
        return Ok(builder);
    };
    builder
        .deliver_events(&events.url, &events.secret, client(settings)?)
        .map_err(|error| refused(settings, error))
}

/// The same providers, delivery and place of the keys for a gateway that runs.
///
/// # Errors
///
/// [`SettingsError`], as of [`providers`] and [`events`].
pub fn reload(settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Reload, SettingsError> {
    let mut reload = Reload::default().keys(custody(settings)?);
    for provider in providers(settings, clock)? {
        reload = reload.provider(provider);
    }
    let Some(events) = settings.events()? else {
        return Ok(reload);
    };
    reload
        .deliver_events(&events.url, &events.secret, client(settings)?)
        .map_err(|error| refused(settings, error))
}

/// The settings that are secret: each may be a list.
const SECRETS: [[&str; 3]; 5] = [
    ["providers", "postfinance", "authentication_key"],
    ["providers", "paypal", "client_secret"],
    ["providers", "paypal", "webhook_id"],
    ["providers", "aduno", "password"],
    ["providers", "aduno", "webhook_key"],
];

/// How many values a secret setting has: of several, the first is used and all are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveSecrets {
    /// Its path, as `providers.paypal.client_secret`.
    pub setting: String,
    /// How many values are live.
    pub live: usize,
}

/// The paths of the settings that are secret and may be a list.
fn secrets() -> impl Iterator<Item = &'static [&'static str]> {
    let paths = SECRETS.iter().map(|path| path.as_slice());
    paths.chain([["events", "secret"].as_slice()])
}

/// Their names.
#[cfg(test)]
pub(crate) fn secret_settings() -> impl Iterator<Item = String> {
    secrets().map(|path| path.join("."))
}

/// The secret settings that are set, without fetching any of them.
pub fn live_secrets(settings: &Settings) -> Vec<LiveSecrets> {
    let set = secrets().filter_map(|path| {
        settings.count_values(path).map(|live| LiveSecrets {
            setting: path.join("."),
            live,
        })
    });
    set.collect()
}

/// The settings in force, as evidence: nothing that is secret.
pub fn outline(settings: &Settings) -> Vec<SettingLine> {
    settings.outline(is_secret)
}

/// Whether a setting's value must not be shown. The address for events may hold a secret of the
/// billing service's in its path.
fn is_secret(path: &str) -> bool {
    let mut secret = secrets().map(|path| path.join("."));
    secret.any(|secret| secret == path) || ["events.url", "keys.passphrase"].contains(&path)
}

/// Where a person looks a payment of this provider up.
pub fn back_office(provider: &str) -> &'static str {
    match provider {
        "postfinance" => {
            "PostFinance Checkout's portal (https://checkout.postfinance.ch), the space's transactions"
        }
        "paypal" => "PayPal's business account (https://www.paypal.com), its activity",
        // `providers/aduno.md` §2.
        "aduno" => {
            "Datatrans' web administration (https://admin.datatrans.com; for its sandbox https://admin.sandbox.datatrans.com), its transactions"
        }
        _ => "the provider's back office",
    }
}

/// Where the keys of the settings are kept.
///
/// # Errors
///
/// [`SettingsError`] if the passphrase can't be had.
pub fn custody(settings: &Settings) -> Result<Arc<dyn Custody>, SettingsError> {
    let file = KeyFile::new(&settings.keys.file);
    Ok(match settings.passphrase()? {
        Some(passphrase) => Arc::new(file.under(passphrase)),
        None => Arc::new(file),
    })
}

/// The store of the settings, its schema up to date.
///
/// # Errors
///
/// [`StoreError`], whose source says what the database or the file system said.
#[cfg(feature = "sqlite")]
pub fn store(settings: &Settings) -> Result<Arc<dyn Store>, StoreError> {
    Ok(Arc::new(SqliteStore::open(
        &settings.store.url,
        Threads::Own,
    )?))
}

/// The files that the store of the settings consists of; some are there only while it is in use.
pub fn store_files(settings: &Settings) -> Vec<std::path::PathBuf> {
    let path = settings.store.url.strip_prefix("sqlite:");
    let path = path.filter(|path| *path != ":memory:");
    let files = path.into_iter().flat_map(|path| {
        let suffixes = ["", "-wal", "-shm", "-journal"];
        suffixes.map(|suffix| format!("{path}{suffix}").into())
    });
    files.collect()
}

/// The way out to a service of one's own, with a pool of connections of its own: the billing
/// service's address for events may lie in a private network.
///
/// # Errors
///
/// [`SettingsError`] if TLS can't be set up.
pub fn client(settings: &Settings) -> Result<Arc<dyn HttpClient>, SettingsError> {
    client_for(settings, Names::Anywhere)
}

/// The way out to one provider, whose name must have a public address.
fn provider_client(settings: &Settings) -> Result<Arc<dyn HttpClient>, SettingsError> {
    client_for(settings, Names::Public)
}

/// How every client here connects.
pub const fn way_out(names: Names) -> ClientConfig {
    ClientConfig {
        connect_timeout: CONNECT_TIMEOUT,
        total_timeout: TOTAL_TIMEOUT,
        extra_roots: None,
        names,
    }
}

fn client_for(settings: &Settings, names: Names) -> Result<Arc<dyn HttpClient>, SettingsError> {
    let client = ReqwestClient::new(&way_out(names))
        .map_err(|error| settings.error("providers", format!("can't be reached: {error}")))?;
    Ok(Arc::new(client))
}

/// What is wrong with `[events]`.
fn refused(settings: &Settings, error: EndpointError) -> SettingsError {
    let setting = match error {
        EndpointError::Url => "events.url",
        EndpointError::Secret => "events.secret",
    };
    settings.error(setting, error.to_string())
}

fn refuse_unknown(settings: &Settings) -> Result<(), SettingsError> {
    match settings
        .provider_names()
        .into_iter()
        .find(|name| !KNOWN.contains(name))
    {
        None => Ok(()),
        Some(name) => {
            let message = format!("is no provider; known are {}", KNOWN.join(", "));
            Err(settings.error(&format!("providers.{name}"), message))
        }
    }
}

/// What an adapter finds wrong: its text is `setting: problem` and quotes no value.
fn wrong(settings: &Settings, provider: &str, error: &dyn std::error::Error) -> SettingsError {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((setting, problem)) => {
            let setting = format!("providers.{provider}.{setting}");
            settings.error(&setting, format!("can't be used: {problem}"))
        }
        None => settings.error(&format!("providers.{provider}"), text),
    }
}
