//! New settings for a gateway that runs: other credentials, other webhook keys, another address for
//! events. What has begun ends with the adapter that it began with; whatever begins after that, and
//! the resolver's next look, has the new one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use cardless_contract::{PaymentProvider, Secrets};
use cardless_transport::HttpClient;

use super::deliver::Delivery;
use super::keys::active_of;
use super::{Gateway, Inner, Probe, probe_all, stored};
use crate::error::{Code, Error};
use crate::journal::Leased;
use crate::store::{Change, MerchantRow, StoreError, Subject};
use crate::vault::{Custody, KeyRing};
use crate::webhook::EndpointError;

/// Providers by name.
pub(super) type Providers = BTreeMap<String, Arc<dyn PaymentProvider>>;

/// How often merchants are judged again because something has begun meanwhile.
const MAX_RACES: u32 = 16;

/// What can be replaced while the gateway runs.
pub(super) struct Live {
    /// Read for a moment only, never over an await.
    parts: RwLock<Arc<Parts>>,
    /// Held for reading while something new is written down, and by a reload while it judges what is
    /// open and exchanges the parts.
    begins: tokio::sync::RwLock<()>,
}

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
        // Nothing begins here meanwhile. What begins in other processes is held to the merchants that
        // are written, and these are written before anything can begin with the new adapters.
        let still = inner.live.begins.write().await;
        inner.nothing_is_lost(&inner.live.parts(), &new).await?;
        inner.take_over(&new, keys).await?;
        inner.live.replace(new);
        drop(still);
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
        inner.set_merchants(&inner.live.parts()).await
    }

    /// Refuses unless these are the merchants in force, and remembers those only of which nothing is known:
    /// for whoever works beside a service, with settings that it may not have taken yet.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidState`] if the service works at another merchant, or in another way.
    /// [`Code::StoreUnavailable`].
    pub async fn require_merchants(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let parts = inner.live.parts();
        let mut batch = Vec::new();
        for (name, provider) in &parts.providers {
            let there = inner.journal.store().merchant(name).await.map_err(stored)?;
            // What has come in between is another's to say.
            if there.as_ref().is_none_or(|there| there.mode.is_none()) {
                batch.push(required(name, provider.as_ref()));
                batch.push(self.inner.in_force(name, provider.as_ref()));
            }
            if there.is_some_and(|there| !there.fits(provider.merchant(), Some(provider.mode()))) {
                return Err(Error::new(
                    Code::InvalidState,
                    format!(
                        "The settings name another merchant of {name}, or another way to work, than those in \
                         force. Start or reload the service with them first, or use the settings that it has."
                    ),
                ));
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        inner.journal.write(batch).await.map_err(stored)
    }

    /// Judges as [`keep_merchants`](Self::keep_merchants) does, and remembers nothing: whoever works
    /// with the settings before these goes on.
    ///
    /// # Errors
    ///
    /// Those of [`keep_merchants`](Self::keep_merchants).
    pub async fn check_merchants(&self) -> Result<(), Error> {
        let inner = &self.inner;
        inner.merchants(&inner.live.parts()).await.map(drop)
    }
}

impl Inner {
    /// The keys as they are kept at another place or under another passphrase, if everything that is
    /// sealed opens with them. Nothing is taken yet. They are held to what seals by the store: where
    /// the keys were read so far, that may be out of reach.
    async fn read_keys(&self, custody: &Arc<dyn Custody>) -> Result<KeyRing, Error> {
        let unread = |error| {
            Error::new(
                Code::InvalidState,
                format!("The keys can't be read with these settings: {error}."),
            )
        };
        let rows = self.known_generations().await?;
        let active = &active_of(&rows)?.id;
        let read = self.vault.read_at(custody, active).map_err(unread)?;
        let ids: Vec<&str> = read.generation_ids().collect();
        self.nothing_is_locked(&rows, &ids).await?;
        Ok(read)
    }

    /// Takes the keys and remembers the merchants: both, or nothing.
    async fn take_over(&self, new: &Parts, keys: Option<KeyRing>) -> Result<(), Error> {
        let Some(keys) = keys else {
            return self.set_merchants(new).await;
        };
        let rows = self.known_generations().await?;
        let before = self.vault.take(keys, &active_of(&rows)?.id);
        let before = before.map_err(|error| {
            Error::new(
                Code::InvalidState,
                format!("The keys have changed meanwhile: {error}."),
            )
        })?;
        let written = match self.follow_generations().await {
            Ok(_) => self.set_merchants(new).await,
            Err(error) => Err(error),
        };
        if written.is_err() {
            self.vault.put_back(before);
        }
        written
    }

    /// Takes the lease of a row that nobody holds; `None` if somebody was faster. A conflict
    /// ([`Subject::Merchant`]) if the adapter that would be asked about it works at a merchant that is
    /// not in force: it would not find there what others have begun.
    pub(super) async fn lease<T: Leased>(&self, row: &T) -> Result<Option<T>, StoreError> {
        let parts = self.live.parts();
        let asked = |name: &str| row.provider().is_none_or(|asked| asked == name);
        let providers = parts.providers.iter().filter(|(name, _)| asked(name));
        let required = providers.map(|(name, provider)| required(name, provider.as_ref()));
        self.journal.lease(row, required.collect()).await
    }

    /// The providers that this process would ask at a merchant that is not in force.
    pub(super) async fn elsewhere(&self) -> Result<Vec<String>, StoreError> {
        let parts = self.live.parts();
        let mut elsewhere = Vec::new();
        for (name, provider) in &parts.providers {
            let there = self.journal.store().merchant(name).await?;
            if there.is_some_and(|there| !there.fits(provider.merchant(), Some(provider.mode()))) {
                elsewhere.push(name.clone());
            }
        }
        Ok(elsewhere)
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

    /// Remembers at which merchants these providers are from now on, if none of them may not be so.
    async fn set_merchants(&self, parts: &Parts) -> Result<(), Error> {
        for _ in 0..MAX_RACES {
            let batch = self.merchants(parts).await?;
            if batch.is_empty() {
                // A store that takes no writes at present is no reason not to start.
                return Ok(());
            }
            match self.journal.write(batch).await {
                // Something has begun at the one before since it was judged.
                Err(StoreError::Conflict(Subject::Merchant)) => {}
                written => return written.map_err(stored),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Merchant)))
    }

    /// Writes what begins something at a provider, while this adapter's merchant and way to work are
    /// those in force: else it would be asked for where it is not. No reload comes in between.
    pub(super) async fn begin(
        &self,
        provider: &dyn PaymentProvider,
        mut batch: Vec<Change>,
    ) -> Result<(), StoreError> {
        let _still = self.live.begins.read().await;
        let name = provider.name().as_str();
        if !self.live.parts().providers.contains_key(name) {
            return Err(StoreError::Conflict(Subject::Merchant));
        }
        batch.push(required(name, provider));
        self.journal.write(batch).await
    }

    /// The same for what begins something at any of the providers.
    pub(super) async fn begin_anywhere(&self, mut batch: Vec<Change>) -> Result<(), StoreError> {
        let _still = self.live.begins.read().await;
        let parts = self.live.parts();
        let providers = parts.providers.iter();
        batch.extend(providers.map(|(name, provider)| required(name, provider.as_ref())));
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
        Ok(Some(self.in_force(name, provider)))
    }

    /// Puts an adapter's merchant and way to work in force.
    fn in_force(&self, name: &str, provider: &dyn PaymentProvider) -> Change {
        Change::SetMerchant(MerchantRow {
            provider: name.to_owned(),
            merchant: provider.merchant().to_owned(),
            mode: Some(provider.mode().to_owned()),
            since: self.journal.now(),
        })
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
        Self {
            parts: RwLock::new(Arc::new(parts)),
            begins: tokio::sync::RwLock::default(),
        }
    }

    /// What is in force now.
    pub(super) fn parts(&self) -> Arc<Parts> {
        let parts = self.parts.read();
        Arc::clone(&parts.unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, parts: Arc<Parts>) {
        *self.parts.write().unwrap_or_else(PoisonError::into_inner) = parts;
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        f.debug_list().entries(parts.providers.keys()).finish()
    }
}

/// That the merchant and the way to work of this adapter are in force.
fn required(name: &str, provider: &dyn PaymentProvider) -> Change {
    Change::RequireMerchant {
        provider: name.to_owned(),
        merchant: provider.merchant().to_owned(),
        mode: provider.mode().to_owned(),
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
