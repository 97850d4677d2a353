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
use crate::store::{Change, MerchantRow, StoreError};
use crate::vault::{Custody, KeyRing};
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
    /// or end it; and if the keys can't be read. [`Code::Internal`] also if something is sealed under
    /// a generation that the new place of the keys lacks. [`Code::StoreUnavailable`]. Nothing has
    /// changed then, the keys neither.
    pub async fn reload(&self, reload: Reload) -> Result<(), Error> {
        let inner = &self.inner;
        let keys = match &reload.custody {
            Some(custody) => Some(inner.read_keys(custody).await?),
            None => None,
        };
        let new = Arc::new(Parts {
            providers: by_name(reload.providers)?,
            delivery: reload.delivery,
        });
        let old = inner.live.parts();
        inner.nothing_is_lost(&old, &new).await?;
        inner.live.replace(Arc::clone(&new));
        // Something may have begun there between the question and the exchange.
        if let Err(error) = inner.exchange(&old, &new, keys).await {
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
        let batch = inner.merchants(&inner.live.parts()).await?;
        inner.remember(batch).await.map_err(stored)
    }
}

impl Inner {
    /// The keys as they are kept at another place or under another passphrase, if everything that is
    /// sealed opens with them. Nothing is taken yet.
    async fn read_keys(&self, custody: &Arc<dyn Custody>) -> Result<KeyRing, Error> {
        let unread = |error| {
            Error::new(
                Code::InvalidState,
                format!("The keys can't be read with these settings: {error}."),
            )
        };
        let rows = self.follow_generations().await?;
        let read = self.vault.read_at(custody).map_err(unread)?;
        let ids: Vec<&str> = read.generation_ids().collect();
        self.nothing_is_locked(&rows, &ids).await?;
        Ok(read)
    }

    /// The second look, once the new parts are in force, and what goes with them: all of it, or
    /// nothing.
    async fn exchange(&self, old: &Parts, new: &Parts, keys: Option<KeyRing>) -> Result<(), Error> {
        self.nothing_is_lost(old, new).await?;
        let batch = self.merchants(new).await?;
        let before = match keys {
            Some(keys) => Some(self.vault.take(keys).map_err(|error| {
                Error::new(
                    Code::InvalidState,
                    format!("The keys have changed meanwhile: {error}."),
                )
            })?),
            None => None,
        };
        let written = self.remember(batch).await;
        if let (Err(_), Some(before)) = (&written, before) {
            self.vault.put_back(before);
        }
        written.map_err(stored)
    }

    /// Refuses to lose a provider, its merchant or its way to work while something is open there.
    async fn nothing_is_lost(&self, old: &Parts, new: &Parts) -> Result<(), Error> {
        for (name, provider) in &old.providers {
            let refusal: fn(&str, u64) -> Error = match new.providers.get(name) {
                None => still_needed,
                Some(new) if new.merchant() != provider.merchant() => other_merchant,
                Some(new) if new.mode() != provider.mode() => other_mode,
                Some(_) => continue,
            };
            self.unless_open(name, provider.merchant(), refusal).await?;
        }
        Ok(())
    }

    /// Writes what has changed, if anything: a store that takes no writes at present is no reason not
    /// to start.
    async fn remember(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.journal.write(batch).await
    }

    /// What is to be remembered of these providers, if none of them may not be as it is.
    async fn merchants(&self, parts: &Parts) -> Result<Vec<Change>, Error> {
        let mut batch = Vec::new();
        for (name, provider) in &parts.providers {
            batch.extend(self.keep(name, provider.as_ref()).await?);
        }
        Ok(batch)
    }

    async fn keep(
        &self,
        name: &str,
        provider: &dyn PaymentProvider,
    ) -> Result<Option<Change>, Error> {
        let (merchant, mode) = (provider.merchant(), provider.mode());
        let before = self.journal.store().merchant(name).await.map_err(stored)?;
        let before = before
            .as_ref()
            .map(|row| (row.merchant.as_str(), row.mode.as_deref()));
        match before {
            Some((there, Some(then))) if (there, then) == (merchant, mode) => return Ok(None),
            Some((there, _)) if there != merchant => {
                self.unless_open(name, there, other_merchant).await?;
            }
            Some((there, Some(_))) => self.unless_open(name, there, other_mode).await?,
            Some((_, None)) | None => {}
        }
        Ok(Some(Change::SetMerchant(MerchantRow {
            provider: name.to_owned(),
            merchant: merchant.to_owned(),
            mode: Some(mode.to_owned()),
            since: self.journal.now(),
        })))
    }

    /// Refuses while anything is open at this merchant of a provider.
    async fn unless_open(
        &self,
        name: &str,
        merchant: &str,
        refusal: fn(&str, u64) -> Error,
    ) -> Result<(), Error> {
        let open = self.journal.store().count_open_at(name, merchant).await;
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
