//! The gateway: every verb of the API, in the order in which things may happen.
//!
//! ```text
//! request → gateway → vault → provider → provider's HTTP → outcome → journal → event
//! ```
//!
//! The request is checked and refused before anything is stored. Then the intent is written; only
//! then is the provider asked. What comes back moves the row by the table in `journal::state`. What
//! does not come back leaves a row that says so, and the resolver asks until it knows.

mod accounts;
mod audit;
mod check;
mod client_keys;
mod clients;
mod clock;
mod deliver;
mod destroy;
mod drive;
mod events;
mod exchange;
mod export;
mod handles;
mod heard;
mod keys;
mod link;
mod methods;
mod metrics;
mod notify;
mod operate;
mod pay;
mod people;
mod refund;
mod refusals;
mod reload;
mod reseal;
mod resolve;
mod returns;
mod rights;
mod rotate;
mod running;
mod seal;
mod token_export;
mod token_import;
mod verify;
mod view;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cardless_contract::{
    Capabilities, Clock, Delivery, Entropy, ErrorKind, PaymentProvider, ProviderCall,
    ProviderError, ProviderName, ProviderPlace, SystemClock, SystemEntropy, Timestamp,
};
use cardless_transport::leaving_by;
use tokio::sync::Notify;

pub use accounts::AccountSummary;
pub(crate) use audit::MAX_WORD_CHARS;
pub use audit::{
    Actor, AuditAction, AuditDraft, AuditLine, AuditObject, AuditOutcome, AuditQuery,
    MAX_AUDIT_LINES, Origin,
};
pub use client_keys::{ClientKeyInfo, MAX_LIVE_KEYS};
pub(crate) use client_keys::{KID_DETAIL, KID_DETAILS, SEALED_DETAIL};
pub use clients::{ApiKeyInfo, ClientInfo, Renewed, Role};
pub(crate) use clients::{KEY_DETAIL, KeyNames, OVERLAP_DETAIL};
pub use deliver::DeadEvent;
pub use destroy::KeysDestroyed;
pub use events::{KEEP_EVENTS, MAX_EVENTS};
pub use exchange::{ExchangeKeyAge, FILE_GENERATIONS, OVERLAP, ROTATE_AFTER, SealedRequest};
pub use export::AccountExport;
pub use handles::{DEFAULT_OVERLAP, HandleRotation, MAX_OVERLAP, MAX_REISSUED_AT_ONCE, OldHandles};
pub use heard::LastAnswer;
pub use keys::{KeyGeneration, KeysReport, MAX_USES, WARN_AGE, WARN_USES};
pub use link::ReturnTo;
pub use metrics::COUNTED_FOR;
pub use people::{
    Case, CaseQuery, MAX_CASES, ProviderObject, Resolution, ResolveAs, ResolveRequest, Resolved,
};
pub use reload::Reload;
pub use reseal::{KeyRotation, KeysRotated, RESEAL_BATCH};
pub(crate) use resolve::KEPT;
pub use resolve::ReconcileReport;
pub use rotate::RotationInfo;
pub use token_export::{ExportPart, ExportReport, LeftOut, RESUMED_WITHIN, TokenExport};
pub use token_import::{ImportCheck, ImportReport, Refusal, Rule, TokenImport};
pub use verify::{Difference, Unread, VerifyPage, VerifyReport, WithoutObject};

use crate::account::{AccountId, Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::Journal;
use crate::journal::audit::Chain;
pub use crate::journal::audit::{AuditAnchor, AuditAnchorError, AuditFault, AuditReport};
use crate::store::{KeyRow, Store, StoreError, StoredColumn, StoredValue, Subject};
use crate::vault::{HashPurpose, KeyRing, Vault};

/// How long after its acceptance a payment may still be reserved or committed (`DESIGN`, rule 8).
pub const COMMIT_WITHIN: Duration = Duration::from_secs(15 * 60);

/// How long after it was marked as sent a request that never left may be sent again.
const RESEND_WITHIN: Duration = Duration::from_secs(10);

/// How far apart the clocks of two processes may be. What lies further ahead than that was written by
/// a clock that was wrong, and so is of an age that nobody knows.
pub(crate) const MAX_SKEW: Duration = Duration::from_secs(15);

/// Pauses between tries of a request that never left, [`RESEND_WITHIN`] in all.
const NOT_SENT_PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(4),
];

/// The longest `Idempotency-Key`, in characters.
const MAX_KEY_CHARS: usize = 255;

/// Charges accounts at providers, and remembers what became of it. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    /// Who acts, for the audit log.
    actor: Arc<Actor>,
}

struct Inner {
    live: reload::Live,
    vault: Vault,
    uses: Mutex<keys::Uses>,
    journal: Journal,
    entropy: Arc<dyn Entropy>,
    public_url: String,
    refusals: refusals::Refusals,
    returns: returns::Returns,
    counted: metrics::Counted,
    service_keys: exchange::ServiceKeys,
    wake: Notify,
    clock: clock::ClockWatch,
}

/// Who asks, and under which `Idempotency-Key`. Its `Debug` does not show the key, which callers make
/// from what they like: the store keeps a keyed hash of it only.
#[derive(Clone)]
pub struct RequestKey {
    client: String,
    key: String,
}

/// How one provider answered [`Gateway::check`].
#[derive(Debug)]
pub struct Probe {
    /// Who was asked.
    pub provider: ProviderName,
    /// What it said.
    pub result: Result<(), ProviderError>,
}

/// Parts of a gateway. What is not given is the system's clock, the system's randomness, and no
/// provider.
#[derive(Debug)]
pub struct GatewayBuilder {
    providers: Vec<Arc<dyn PaymentProvider>>,
    store: Option<Arc<dyn Store>>,
    keys: Option<KeyRing>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    public_url: String,
    delivery: Option<deliver::Delivery>,
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestKey")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl RequestKey {
    /// A caller's key. `client` names who asks; a key is unique within it.
    ///
    /// # Errors
    ///
    /// [`Code::IdempotencyKey`] unless the key is 1 to 255 visible ASCII characters;
    /// [`Code::CardNumber`] if it passes for a card number.
    pub fn new(client: impl Into<String>, key: impl Into<String>) -> Result<Self, Error> {
        let key = key.into();
        let fits = (1..=MAX_KEY_CHARS).contains(&key.len());
        if !fits || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::field(
                Code::IdempotencyKey,
                "Idempotency-Key",
                "An Idempotency-Key is 1 to 255 visible ASCII characters.",
            ));
        }
        check::no_card_number("Idempotency-Key", &key)?;
        Ok(Self {
            client: client.into(),
            key,
        })
    }
}

/// How many values of a column are read at a time.
const VALUES_AT_ONCE: u32 = 2_000;

/// What a provider in force says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// Its name.
    pub(crate) provider: String,
    /// Every call that it can make.
    pub(crate) calls: &'static [ProviderCall],
    /// Every place that it can reach or send a customer to.
    pub(crate) places: Vec<ProviderPlace>,
}

impl Declared {
    pub(crate) fn of(provider: &dyn PaymentProvider) -> Self {
        Self {
            provider: provider.name().as_str().to_owned(),
            calls: provider.calls(),
            places: provider.places(),
        }
    }
}

impl Gateway {
    /// Begins to put a gateway together.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder {
            providers: Vec::new(),
            store: None,
            keys: None,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(SystemEntropy),
            public_url: "http://127.0.0.1:8080".to_owned(),
            delivery: None,
        }
    }

    /// Asks each provider one harmless question with the given credentials.
    pub async fn check(&self) -> Vec<Probe> {
        let parts = self.inner.live.parts();
        let providers: Vec<_> = parts.providers.values().cloned().collect();
        probe_all(&providers).await
    }

    /// What the providers in force say of themselves, by name.
    pub(crate) fn declared(&self) -> Vec<Declared> {
        let parts = self.inner.live.parts();
        let providers = parts.providers.values();
        providers
            .map(|provider| Declared::of(provider.as_ref()))
            .collect()
    }

    /// The columns of the store as it is.
    pub(crate) async fn columns(&self) -> Result<Vec<StoredColumn>, Error> {
        let store = self.inner.journal.store();
        store.columns().await.map_err(stored)
    }

    /// The columns that the database keeps for itself.
    pub(crate) async fn own_columns(&self) -> Result<Vec<StoredColumn>, Error> {
        let store = self.inner.journal.store();
        store.own_columns().await.map_err(stored)
    }

    /// How much is sealed, by the key generation that each row says.
    pub(crate) async fn sealed_by_generation(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut counts = BTreeMap::new();
        for (_, id, count) in self.inner.count_sealed().await? {
            let sum: &mut u64 = counts.entry(id).or_default();
            *sum = sum.saturating_add(count);
        }
        Ok(counts)
    }

    /// Shows everything that stands in one of them, a batch after the other, until `look` breaks off.
    pub(crate) async fn walk_values(
        &self,
        column: &StoredColumn,
        mut look: impl FnMut(&[StoredValue]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let store = self.inner.journal.store();
        let mut after = i64::MIN;
        loop {
            let batch = store.values(column, after, VALUES_AT_ONCE).await;
            let batch = batch.map_err(stored)?;
            let Some(last) = batch.last() else {
                return Ok(());
            };
            after = last.place;
            if look(&batch).is_break() {
                return Ok(());
            }
        }
    }

    /// What each provider that is set up calls the tokens that it links now.
    pub(crate) fn token_kinds(&self) -> Vec<(String, &'static str)> {
        let parts = self.inner.live.parts();
        let providers = parts.providers.values();
        providers
            .map(|provider| (provider.name().to_string(), provider.token_kind()))
            .collect()
    }

    /// Where its random bytes come from.
    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.inner.entropy.as_ref()
    }

    /// The time, by the gateway's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.journal.now()
    }

    /// Whether the store answers and takes what is written, and whether the generation that seals by
    /// its word is among the keys.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`]; [`Code::Internal`] if that generation is not there.
    pub async fn ready(&self) -> Result<(), Error> {
        let store = self.inner.journal.store();
        // Small, however much there is.
        store.count_parked().await.map_err(stored)?;
        self.inner.follow_generations().await?;
        // Nothing to write; but after a write that failed, this is refused as the next one would be.
        store.apply(Vec::new()).await.map_err(stored)
    }
}

impl GatewayBuilder {
    /// What providers and browsers come back to, as `https://pay.example`; no slash at the end.
    #[must_use]
    pub fn public_url(mut self, url: &str) -> Self {
        url.trim_end_matches('/').clone_into(&mut self.public_url);
        self
    }

    /// Adds a provider; its own name is what callers use.
    #[must_use]
    pub fn provider(mut self, provider: Arc<dyn PaymentProvider>) -> Self {
        self.providers.push(provider);
        self
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where random bytes come from.
    #[must_use]
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Where everything is kept.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// The keys that seal.
    #[must_use]
    pub fn keys(mut self, keys: KeyRing) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Puts it together.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] if the store or the keys are missing, or two providers have one name.
    pub fn build(self) -> Result<Gateway, Error> {
        let store = self
            .store
            .ok_or_else(|| Error::new(Code::Internal, "A gateway needs a store."))?;
        let keys = self
            .keys
            .ok_or_else(|| Error::new(Code::Internal, "A gateway needs keys."))?;
        let live = reload::Parts {
            providers: reload::by_name(self.providers)?,
            delivery: self.delivery,
        };
        let vault = Vault::new(keys, Arc::clone(&self.entropy));
        let chain = Chain::new(vault.hasher(HashPurpose::Audit));
        Ok(Gateway {
            actor: Arc::new(Actor::program()),
            inner: Arc::new(Inner {
                live: reload::Live::new(live),
                vault,
                journal: Journal::new(store, self.clock, Arc::clone(&self.entropy), chain),
                uses: Mutex::default(),
                entropy: self.entropy,
                public_url: self.public_url,
                refusals: refusals::Refusals::default(),
                returns: returns::Returns::default(),
                counted: metrics::Counted::default(),
                service_keys: exchange::ServiceKeys::default(),
                wake: Notify::new(),
                clock: clock::ClockWatch::default(),
            }),
        })
    }
}

impl Inner {
    /// The adapter that is in force now. Whoever makes several calls that belong together keeps it.
    fn provider(&self, name: &str) -> Result<Arc<dyn PaymentProvider>, Error> {
        self.live
            .parts()
            .providers
            .get(name)
            .cloned()
            .ok_or_else(|| {
                Error::new(
                    Code::Internal,
                    format!("The provider {name} is not set up here; add [providers.{name}]."),
                )
            })
    }

    fn new_handle(&self, kind: HandleKind) -> Result<Handle, Error> {
        Handle::generate(kind, self.entropy.as_ref()).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })
    }

    fn webhook_url(&self, provider: &str) -> String {
        format!("{}/webhooks/{provider}", self.public_url)
    }

    /// Where a provider sends the browser back to: the object and a proof that we made the address.
    fn return_url(&self, object: &str) -> String {
        format!("{}/return/{}", self.public_url, self.return_state(object))
    }

    fn return_state(&self, object: &str) -> String {
        let mac = self
            .vault
            .keyed_hash(HashPurpose::RequestDigest, &return_bytes(object));
        let mut proof = crate::letters::letters(&mac);
        proof.truncate(32);
        format!("{object}.{proof}")
    }

    /// The object that a return address is for.
    fn returned_object<'a>(&self, state: &'a str) -> Option<&'a str> {
        use subtle::ConstantTimeEq as _;
        let (object, _) = state.split_once('.')?;
        let expected = self.return_state(object);
        bool::from(expected.as_bytes().ct_eq(state.as_bytes())).then_some(object)
    }

    fn key_hash(&self, key: &RequestKey) -> Vec<u8> {
        let bytes = [b"key\0".as_slice(), key.key.as_bytes()].concat();
        self.vault
            .keyed_hash(HashPurpose::RequestDigest, &bytes)
            .to_vec()
    }

    /// What was asked, as a digest: the verb, its target and the canonical body.
    fn digest(
        &self,
        verb: &str,
        target: &str,
        body: &(impl serde::Serialize + ?Sized),
    ) -> Result<Vec<u8>, Error> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(Code::Internal, "A request can't be written.").with_source(error)
        })?;
        let bytes = [
            verb.as_bytes(),
            &[0],
            target.as_bytes(),
            &[0],
            body.as_slice(),
        ]
        .concat();
        Ok(self
            .vault
            .keyed_hash(HashPurpose::RequestDigest, &bytes)
            .to_vec())
    }

    /// The key's row if it was used before, for the same request.
    async fn seen_key(&self, key: &RequestKey, digest: &[u8]) -> Result<Option<KeyRow>, Error> {
        let row = self
            .journal
            .store()
            .key(&key.client, &self.key_hash(key))
            .await
            .map_err(stored)?;
        match row {
            Some(row) if row.erased => Err(Error::field(
                Code::AccountErased,
                "Idempotency-Key",
                "The account that this Idempotency-Key was used for is erased, and with it the \
                 answer. This repeat did nothing; what the first call did stands in its events. Use \
                 a new key for a new request.",
            )),
            Some(row) if row.digest != digest => Err(Error::field(
                Code::IdempotencyMismatch,
                "Idempotency-Key",
                "This Idempotency-Key was used with another request. Use a new key for a new request.",
            )),
            other => Ok(other),
        }
    }

    /// The key of a call that has just been carried out, with its stored answer. `None` if the
    /// account was erased meanwhile, and the answer with it: then what is at hand is answered, since
    /// this is no repeat.
    async fn own_key(&self, key: &RequestKey, digest: &[u8]) -> Result<Option<KeyRow>, Error> {
        match self.seen_key(key, digest).await {
            Err(error) if error.code() == Code::AccountErased => Ok(None),
            other => other,
        }
    }

    fn key_row(&self, key: &RequestKey, digest: Vec<u8>, object: &str) -> KeyRow {
        KeyRow {
            client: key.client.clone(),
            key: self.key_hash(key),
            digest,
            object: object.to_owned(),
            answer: None,
            erased: false,
            created_at: self.journal.now(),
        }
    }

    fn pseudonym(&self, account: &AccountId) -> String {
        account.pseudonym(&self.vault).as_str().to_owned()
    }
}

/// Asks each provider one harmless question, all of them at once.
async fn probe_all(providers: &[Arc<dyn PaymentProvider>]) -> Vec<Probe> {
    let mut asked = Vec::new();
    for provider in providers {
        let asking = Arc::clone(provider);
        let answer = tokio::spawn(async move { asking.probe().await });
        asked.push((provider.name().clone(), answer));
    }
    let mut probes = Vec::new();
    for (provider, answer) in asked {
        let result = answer.await.unwrap_or_else(|error| {
            let (kind, delivery) = (ErrorKind::Internal, Delivery::NotSent);
            Err(ProviderError::new(provider.clone(), kind, delivery).with_source(error))
        });
        probes.push(Probe { provider, result });
    }
    probes
}

/// Bytes that no other digest is made from.
fn return_bytes(object: &str) -> Vec<u8> {
    [b"return\0".as_slice(), object.as_bytes()].concat()
}

/// Runs a call that is marked as sent, and runs it again while it never left, for at most 10 s
/// (`DESIGN`, rule 8). Nothing of it leaves later than that: whoever slept in between may find that
/// another worker has asked, seen nothing, and ended it.
async fn send<T, F>(
    clock: Arc<dyn Clock>,
    marked: Timestamp,
    mut call: impl FnMut() -> F,
) -> cardless_contract::Result<T>
where
    F: Future<Output = cardless_contract::Result<T>>,
{
    // By a clock that was put back since, no more time than there is.
    let by = marked.min(clock.now()).plus(RESEND_WITHIN);
    leaving_by(clock, by, async {
        let until = tokio::time::Instant::now() + RESEND_WITHIN;
        for pause in NOT_SENT_PAUSES {
            match call().await {
                // A try that takes long to find no connection costs the tries after it.
                Err(error)
                    if never_left(&error) && tokio::time::Instant::now() + pause <= until =>
                {
                    tokio::time::sleep(pause).await;
                }
                result => return result,
            }
        }
        call().await
    })
    .await
}

/// From when a question proves something: what is marked as sent may have left only at the last
/// try, and arrives within the longest delay (`DESIGN`, rule 6).
fn quiet_at(marked: Timestamp, capabilities: &Capabilities) -> Timestamp {
    marked.plus(RESEND_WITHIN).plus(capabilities.longest_delay)
}

/// Whether a request whose key the provider keeps for `window` may be sent again: it must be carried
/// out before the window ends (`DESIGN`, rule 5). Not if it was first sent at a time that is still to
/// come.
fn is_within(
    window: Duration,
    first: Timestamp,
    now: Timestamp,
    capabilities: &Capabilities,
) -> bool {
    let left = window
        .checked_sub(RESEND_WITHIN + capabilities.longest_delay)
        .filter(|&left| !is_older(first, now, left));
    left.is_some()
}

/// Whether something is older than so long, or of a time that is still to come.
fn is_older(at: Timestamp, now: Timestamp, than: Duration) -> bool {
    now.since(at) > than || at.since(now) > MAX_SKEW
}

fn never_left(error: &ProviderError) -> bool {
    error.delivery() == Delivery::NotSent && error.kind() == ErrorKind::Unreachable
}

/// A store's error for the caller.
fn stored(error: StoreError) -> Error {
    match &error {
        StoreError::Conflict(Subject::Merchant) => Error::new(
            Code::ProviderUnavailable,
            "This process works with settings of the provider that are not in force: others were \
             put in force meanwhile. Nothing was begun. Try again in a moment; if it stays so, the \
             settings of this process are to be reloaded.",
        ),
        StoreError::Conflict(_) => Error::new(
            Code::InvalidState,
            "The object is being changed by another request. Read it and try again.",
        ),
        StoreError::Limit => Error::new(
            Code::AmountExceedsRemaining,
            "The amount is more than what is left.",
        ),
        StoreError::Unavailable(_) | StoreError::Unreadable(_) => Error::new(
            Code::StoreUnavailable,
            "The store does not answer. Nothing was sent for this request unless a repeat with \
             the same Idempotency-Key says otherwise.",
        ),
    }
    .with_source(error)
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("providers", &self.inner.live)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
