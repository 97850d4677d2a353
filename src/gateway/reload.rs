//! New settings for a gateway that runs: other credentials, other webhook keys, another address for
//! events. What has begun ends with the adapter that it began with; whatever begins after that, and
//! the resolver's next look, has the new one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use cardless_contract::{PaymentProvider, Secrets};
use cardless_transport::HttpClient;

use super::deliver::Delivery;
use super::{Gateway, Inner, Probe, probe_all, stored};
use crate::error::{Code, Error};
use crate::store::{Change, MerchantRow};
use crate::vault::Custody;
use crate::webhook::EndpointError;

/// Providers by name.
pub(super) type Providers = BTreeMap<String, Arc<dyn PaymentProvider>>;

/// What can be replaced while the gateway runs. Read for a moment only, never over an await.
pub(super) struct Live(RwLock<Arc<Parts>>);

/// What belongs together.
pub(super) struct Parts {
    pub(super) providers: Providers,
    pub(super) delivery: Option<Delivery>,
}

/// What a gateway is given anew by [`Gateway::reload`]: all providers, and where events go.
#[derive(Debug, Default)]
pub struct Reload {
    providers: Vec<Arc<dyn PaymentProvider>>,
    delivery: Option<Delivery>,
    custody: Option<Arc<dyn Custody>>,
}

impl Reload {
    /// Adds a provider.
    #[must_use]
    pub fn provider(mut self, provider: Arc<dyn PaymentProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    /// Delivers events as [`GatewayBuilder::deliver_events`](super::GatewayBuilder::deliver_events)
    /// does; without this, they are delivered nowhere from now on.
    ///
    /// # Errors
    ///
    /// [`EndpointError`].
    pub fn deliver_events(
        mut self,
        url: &str,
        secrets: &Secrets,
        client: Arc<dyn HttpClient>,
    ) -> Result<Self, EndpointError> {
        self.delivery = Some(Delivery::new(url, secrets, client)?);
        Ok(self)
    }

    /// Reads the keys there from now on; without this, where they were read. They must be of the
    /// same installation.
    #[must_use]
    pub fn keys(mut self, custody: Arc<dyn Custody>) -> Self {
        self.custody = Some(custody);
        self
    }

    /// Asks each of the new providers one harmless question, as [`Gateway::check`] does, so that
    /// wrong credentials are found before they are in force.
    pub async fn check(&self) -> Vec<Probe> {
        probe_all(&self.providers).await
    }
}

impl Gateway {
    /// Replaces providers and delivery. Requests that run end with the adapters that they began
    /// with.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if a provider is missing, or has another merchant or another way to
    /// work ([`PaymentProvider::mode`]), while something is open there: nobody could ask it any more,
    /// or end it; and if the keys can't be read. [`Code::StoreUnavailable`], [`Code::Internal`].
    /// Providers and delivery have not changed then.
    pub async fn reload(&self, reload: Reload) -> Result<(), Error> {
        let inner = &self.inner;
        if let Some(custody) = &reload.custody {
            inner.vault.keep_at(custody).map_err(|error| {
                Error::new(
                    Code::InvalidState,
                    format!("The keys can't be read with these settings: {error}."),
                )
            })?;
        }
        let new = Arc::new(Parts {
            providers: by_name(reload.providers)?,
            delivery: reload.delivery,
        });
        let old = inner.live.parts();
        inner.nothing_is_lost(&old, &new).await?;
        inner.live.replace(Arc::clone(&new));
        // Something may have begun there between the question and the exchange.
        let mut kept = inner.nothing_is_lost(&old, &new).await;
        if kept.is_ok() {
            kept = self.keep_merchants().await;
        }
        if let Err(error) = kept {
            inner.live.replace(old);
            return Err(error);
        }
        inner.wake.notify_one();
        Ok(())
    }

    /// Holds each provider to the merchant and to the way to work that everything open is at, and
    /// remembers both. To be called before anything is asked with settings that may have changed
    /// since the last start: at another merchant nothing of ours is found, which would read as if
    /// nothing had happened.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if something is open at another merchant, or was begun in another way.
    /// [`Code::StoreUnavailable`].
    pub async fn keep_merchants(&self) -> Result<(), Error> {
        let inner = &self.inner;
        for (name, provider) in &inner.live.parts().providers {
            inner.keep(name, provider.as_ref()).await?;
        }
        Ok(())
    }
}

impl Inner {
    /// Refuses to lose a provider, its merchant or its way to work while something is open there.
    async fn nothing_is_lost(&self, old: &Parts, new: &Parts) -> Result<(), Error> {
        for (name, provider) in &old.providers {
            let refusal: fn(&str, u64) -> Error = match new.providers.get(name) {
                None => still_needed,
                Some(new) if new.merchant() != provider.merchant() => other_merchant,
                Some(new) if new.mode() != provider.mode() => other_mode,
                Some(_) => continue,
            };
            self.unless_open(name, refusal).await?;
        }
        Ok(())
    }

    async fn keep(&self, name: &str, provider: &dyn PaymentProvider) -> Result<(), Error> {
        let (merchant, mode) = (provider.merchant(), provider.mode());
        let before = self.journal.store().merchant(name).await.map_err(stored)?;
        let before = before
            .as_ref()
            .map(|row| (row.merchant.as_str(), row.mode.as_deref()));
        match before {
            Some((there, Some(then))) if (there, then) == (merchant, mode) => return Ok(()),
            Some((there, _)) if there != merchant => self.unless_open(name, other_merchant).await?,
            Some((_, Some(_))) => self.unless_open(name, other_mode).await?,
            Some((_, None)) | None => {}
        }
        let set = Change::SetMerchant(MerchantRow {
            provider: name.to_owned(),
            merchant: merchant.to_owned(),
            mode: Some(mode.to_owned()),
            since: self.journal.now(),
        });
        self.journal.write(vec![set]).await.map_err(stored)
    }

    async fn unless_open(&self, name: &str, refusal: fn(&str, u64) -> Error) -> Result<(), Error> {
        let open = self.journal.store().count_open_at(name).await;
        match open.map_err(stored)? {
            0 => Ok(()),
            open => Err(refusal(name, open)),
        }
    }
}

impl Live {
    pub(super) fn new(parts: Parts) -> Self {
        Self(RwLock::new(Arc::new(parts)))
    }

    /// What is in force now.
    pub(super) fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, parts: Arc<Parts>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        f.debug_list().entries(parts.providers.keys()).finish()
    }
}

/// Providers by their names, each once.
pub(super) fn by_name(providers: Vec<Arc<dyn PaymentProvider>>) -> Result<Providers, Error> {
    let mut named = Providers::new();
    for provider in providers {
        let name = provider.name().as_str().to_owned();
        if named.insert(name, provider).is_some() {
            return Err(Error::new(
                Code::Internal,
                "Two providers have the same name.",
            ));
        }
    }
    Ok(named)
}

fn still_needed(name: &str, open: u64) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "The settings have no provider {name} any more, and {open} payments, operations, \
             setups or revocations are open there. Keep [providers.{name}] until `cardless \
             reconcile` finds none."
        ),
    )
}

fn other_merchant(name: &str, open: u64) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "The settings name another merchant of {name}, and {open} payments, operations, setups \
             or revocations are open at the one before. Put the settings back, and keep that one \
             until `cardless reconcile` finds none."
        ),
    )
}

fn other_mode(name: &str, open: u64) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "The settings name another way to work with {name}, and {open} payments, operations, \
             setups or revocations were begun in the one before, which the other can't end. Put the \
             settings back, and keep that one until `cardless reconcile` finds none."
        ),
    )
}
