//! Sealed messages: which are taken, what they ask for, and how they are answered; the service's
//! own keys for them.
//!
//! A key pair is derived from the key file and a generation's id, so no private key is kept. A
//! generation is made when the first message or reader of the key set comes, and again after
//! [`ROTATE_AFTER`]. Its keys are published at once; it signs a day later, when whoever keeps the
//! set has fetched it anew, and messages to the one before are taken for [`OVERLAP`] more. One that was
//! made by a clock that was behind waits until the one before it would have been replaced anyway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cardless_contract::Timestamp;
use serde_json::{Value, json};

use super::clients::role_of;
use super::{Gateway, Inner, MAX_SKEW, Role, stored};
use crate::account::{AccountId, Handle, HandleKind};
use crate::error::{Code, Error};
use crate::exchange::replay::Window;
use crate::exchange::{Answer, PublicKey, Received, Request, SecretKey, Usage};
use crate::exchange::{request_hash, seal};
use crate::store::{Change, StoreError, Subject};
use crate::vault::HashPurpose;

/// How old a generation of the service's keys gets before the next is made.
pub const ROTATE_AFTER: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long messages to the generation before are still taken.
pub const OVERLAP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a generation is published before it signs.
const PUBLISHED_BEFORE: Duration = Duration::from_secs(24 * 60 * 60);

/// How many generations are looked at. More are never live at once.
const MAX_GENERATIONS: u32 = 4;

/// To how many of the service's generations, the newest and those before it, a file of tokens may be
/// sealed: for 270 days at least.
pub const FILE_GENERATIONS: u32 = 4;

/// Random bytes in a generation's id, and in the `jti` of an answer.
const ID_BYTES: usize = 10;

/// How often a private number is derived again; one in 2^32 is none.
const MAX_DERIVATIONS: u8 = 16;

/// Keys that have been derived, by their generation.
#[derive(Debug, Default)]
pub(super) struct ServiceKeys(Mutex<BTreeMap<String, Arc<KeyPairs>>>);

/// The key pairs of one generation: one that signs, one that messages are sealed to.
#[derive(Debug)]
struct KeyPairs {
    signing: SecretKey,
    sealing: SecretKey,
}

/// A generation that counts now.
struct Generation {
    published_at: Timestamp,
    keys: Arc<KeyPairs>,
}

/// A sealed message that was taken, and will not be taken again.
#[derive(Debug)]
pub struct SealedRequest {
    /// The client's name.
    pub client: String,
    /// What it may do.
    pub role: Role,
    /// What it asks for.
    pub request: Request,
    reply_to: PublicKey,
    hash: String,
}

/// How old a generation of the service's own keys of the sealed exchange is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeKeyAge {
    /// What the ids of its keys end with.
    pub id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// After how long another one is made, at the next message or look at the published set.
    pub renewed_after: Duration,
}

impl Gateway {
    /// The generations of the service's own keys that count now, the newest first. None is made.
    pub(crate) async fn exchange_key_ages(&self) -> Result<Vec<ExchangeKeyAge>, Error> {
        let now = self.inner.journal.now();
        let store = self.inner.journal.store();
        let rows = store.exchange_generations(MAX_GENERATIONS).await;
        let rows = rows.map_err(stored)?;
        let ages = live(rows, now).map(|row| ExchangeKeyAge {
            id: row.id,
            created_at: row.created_at,
            renewed_after: ROTATE_AFTER,
        });
        Ok(ages.collect())
    }

    /// Takes a sealed message: opened, verified, in time, by a live key, and for the first time.
    ///
    /// # Errors
    ///
    /// [`Code::ExchangeRefused`], the same for every reason; [`Code::StoreUnavailable`].
    pub async fn open_exchange(&self, body: &[u8]) -> Result<SealedRequest, Error> {
        let inner = &self.inner;
        let message = std::str::from_utf8(body).map_err(|_| refused("not UTF-8"))?;
        let received = Received::parse(message).map_err(|_| refused("not of the profile"))?;
        let ours = inner.generations().await?;
        let ours = ours
            .iter()
            .find(|generation| generation.keys.sealing.public().kid() == received.kid())
            .ok_or_else(|| refused("sealed to no key of ours"))?;
        let opened = received.open(&ours.keys.sealing);
        let opened = opened.map_err(|_| refused("does not open, or not signed by the profile"))?;
        let store = inner.journal.store();
        let client = store.client_with_key(opened.kid()).await.map_err(stored)?;
        let (client, keys) = client
            .filter(|(client, _)| client.sealed && client.revoked_at.is_none())
            .ok_or_else(|| refused("signed by no client"))?;
        let keys = inner.live_keys(&client, &keys)?;
        let signer = keys.iter().find(|key| key.kid() == opened.kid());
        let signer = signer.ok_or_else(|| refused("signed by a revoked key"))?;
        let claims = opened
            .verify(signer)
            .map_err(|_| refused("bad signature"))?;
        let request = Request::parse(&claims).map_err(|_| refused("claims not of the profile"))?;
        if request.client != client.name || request.service != inner.public_url {
            return Err(refused("from or to somebody else"));
        }
        let now = inner.journal.now();
        let in_time = request.window.check(now);
        in_time.map_err(|_| refused("stale, or lives too long"))?;
        let reply_to = reply_key(signer, &keys).ok_or_else(|| refused("nowhere to answer to"))?;
        let taken = SealedRequest {
            role: role_of(&client)?,
            client: client.name,
            reply_to: reply_to.clone(),
            hash: request_hash(message),
            request,
        };
        inner.take_once(&taken, now).await?;
        Ok(taken)
    }

    /// Signs an answer and seals it to the client that asked.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`], [`Code::StoreUnavailable`].
    pub async fn seal_answer(
        &self,
        to: &SealedRequest,
        status: u16,
        body: Option<Value>,
    ) -> Result<String, Error> {
        let inner = &self.inner;
        let now = inner.journal.now();
        let answer = Answer {
            service: inner.public_url.clone(),
            client: to.client.clone(),
            window: Window::from(now),
            jti: inner.letters(ID_BYTES)?,
            status,
            body,
            request_hash: to.hash.clone(),
        };
        let generations = inner.generations().await?;
        let signing = signing(&generations, now).ok_or_else(no_keys)?;
        let entropy = inner.entropy.as_ref();
        seal(&answer.to_bytes(), signing, &to.reply_to, entropy).map_err(|error| {
            let message = "The answer can't be sealed; ask for the object in smaller parts.";
            Error::new(Code::Internal, message).with_source(error)
        })
    }

    /// The service's public keys as a JWK set, the newest first.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn exchange_keys(&self) -> Result<Value, Error> {
        let generations = self.inner.generations().await?;
        let keys: Vec<Value> = generations
            .iter()
            .flat_map(|generation| [&generation.keys.sealing, &generation.keys.signing])
            .map(|key| key.public().to_jwk())
            .collect();
        Ok(json!({ "keys": keys }))
    }

    /// Whether an object of ours belongs to an account.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn belongs(&self, handle: &Handle, account: &str) -> Result<bool, Error> {
        let Ok(account) = AccountId::new(account) else {
            return Ok(false);
        };
        let store = self.inner.journal.store();
        let id = handle.to_string();
        let owner = match handle.kind() {
            HandleKind::Payment => store
                .payment(&id)
                .await
                .map(|row| row.map(|row| row.account)),
            HandleKind::Setup => store.setup(&id).await.map(|row| row.map(|row| row.account)),
            HandleKind::PaymentMethod => store
                .method_by_handle(&id, self.inner.journal.now())
                .await
                .map(|row| row.map(|row| row.account)),
            HandleKind::Capture | HandleKind::Void | HandleKind::Refund => store
                .operation(&id)
                .await
                .map(|row| row.map(|row| row.account)),
        };
        Ok(owner.map_err(stored)? == Some(self.inner.pseudonym(&account)))
    }
}

impl Inner {
    /// Remembers a message, so that it counts once.
    async fn take_once(&self, taken: &SealedRequest, now: Timestamp) -> Result<(), Error> {
        let name = [b"jti\0", taken.request.jti.as_bytes()].concat();
        let change = Change::InsertExchangeMessage {
            client: taken.client.clone(),
            jti: self.vault.keyed_hash(HashPurpose::Exchange, &name).to_vec(),
            forget_at: taken.request.window.remember_until(),
            now,
        };
        match self.journal.write(vec![change]).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict(Subject::ExchangeMessage)) => Err(refused("a replay")),
            Err(error) => Err(stored(error)),
        }
    }

    /// The generations that count now, the newest first. One that is due is made.
    async fn generations(&self) -> Result<Vec<Generation>, Error> {
        let now = self.journal.now();
        let store = self.journal.store();
        let limit = MAX_GENERATIONS;
        let mut rows = store.exchange_generations(limit).await.map_err(stored)?;
        // One of a clock that was ahead is of an age that nobody knows.
        let (unless_after, unless_by) = (now.minus(ROTATE_AFTER), now.plus(MAX_SKEW));
        let serves = |&(_, at): &(String, Timestamp)| at > unless_after && at <= unless_by;
        if !rows.iter().any(serves) {
            let change = Change::InsertExchangeGeneration {
                id: self.letters(ID_BYTES)?,
                created_at: now,
                unless_after,
                unless_by,
            };
            self.journal.write(vec![change]).await.map_err(stored)?;
            rows = store.exchange_generations(limit).await.map_err(stored)?;
        }
        live(rows, now)
            .map(|row| {
                Ok(Generation {
                    published_at: row.published_at,
                    keys: self.key_pairs(&row.id)?,
                })
            })
            .collect()
    }

    /// The key that signs now.
    pub(super) async fn signing_key(&self) -> Result<SecretKey, Error> {
        let generations = self.generations().await?;
        let key = signing(&generations, self.journal.now());
        key.cloned().ok_or_else(no_keys)
    }

    /// The keys that a file of tokens may be sealed to: those of the last [`FILE_GENERATIONS`],
    /// whether messages to them are still taken or not. A file lies for longer than a message.
    pub(super) async fn file_keys(&self) -> Result<Vec<SecretKey>, Error> {
        let store = self.journal.store();
        let rows = store.exchange_generations(FILE_GENERATIONS).await;
        let keys = rows.map_err(stored)?.into_iter();
        keys.map(|(id, _)| Ok(self.key_pairs(&id)?.sealing.clone()))
            .collect()
    }

    fn key_pairs(&self, generation: &str) -> Result<Arc<KeyPairs>, Error> {
        let mut held = self
            .service_keys
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = held.get(generation) {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(KeyPairs {
            signing: self.derived(generation, Usage::Sign).ok_or_else(no_keys)?,
            sealing: self.derived(generation, Usage::Seal).ok_or_else(no_keys)?,
        });
        held.insert(generation.to_owned(), Arc::clone(&keys));
        Ok(keys)
    }

    /// `HMAC-SHA-256(exchange key, "key" ‖ 0 ‖ generation ‖ 0 ‖ use ‖ 0 ‖ n)` for the first `n` from
    /// 1 that gives a private number of the curve: HKDF-Expand with one block.
    fn derived(&self, generation: &str, usage: Usage) -> Option<SecretKey> {
        let kid = format!("{}_{generation}", usage.as_str());
        (1..=MAX_DERIVATIONS).find_map(|n| {
            let label = ["key", generation, usage.as_str(), ""].join("\0");
            let bytes = [label.as_bytes(), &[n]].concat();
            let number = self.vault.keyed_hash(HashPurpose::Exchange, &bytes);
            let number = zeroize::Zeroizing::new(number);
            SecretKey::from_number(&kid, usage, number.as_slice())
        })
    }

    pub(super) fn letters(&self, bytes: usize) -> Result<String, Error> {
        let mut drawn = vec![0; bytes];
        self.entropy.fill(&mut drawn).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })?;
        Ok(crate::letters::letters(&drawn))
    }
}

/// A generation by its row, and from when on its publication is reckoned.
struct Dated {
    id: String,
    created_at: Timestamp,
    published_at: Timestamp,
}

/// The newest generation, and each older one until [`OVERLAP`] after a successor was published.
fn live(rows: Vec<(String, Timestamp)>, now: Timestamp) -> impl Iterator<Item = Dated> {
    let mut successor = None;
    dated(rows, now).into_iter().filter(move |row| {
        let replaced: Option<Timestamp> = successor;
        successor = Some(replaced.map_or(row.published_at, |at| at.min(row.published_at)));
        replaced.is_none_or(|at| now.since(at) < OVERLAP)
    })
}

/// The rows, the newest first, each published when it was made. One that is dated before one that was
/// made before it is of a clock that was behind, unless that other one is dated in the future: nobody
/// knows since when it has been published, only that the other one does its work until it is due.
fn dated(rows: Vec<(String, Timestamp)>, now: Timestamp) -> Vec<Dated> {
    let mut dated = Vec::with_capacity(rows.len());
    let mut latest: Option<Timestamp> = None;
    for (id, created_at) in rows.into_iter().rev() {
        let behind = latest.filter(|latest| *latest > created_at);
        if created_at <= now.plus(MAX_SKEW) {
            latest = latest.max(Some(created_at));
        }
        dated.push(Dated {
            id,
            created_at,
            published_at: behind.map_or(created_at, |latest| latest.plus(ROTATE_AFTER)),
        });
    }
    dated.reverse();
    dated
}

/// The key that signs: the newest that has been published for a day, or the oldest there is.
fn signing(generations: &[Generation], now: Timestamp) -> Option<&SecretKey> {
    let published =
        |generation: &&Generation| now.since(generation.published_at) >= PUBLISHED_BEFORE;
    generations
        .iter()
        .find(published)
        .or_else(|| generations.last())
        .map(|generation| &generation.keys.signing)
}

/// The key that the answer is sealed to: the signer's own if it does both, else the newest.
fn reply_key<'a>(signer: &'a PublicKey, keys: &'a [PublicKey]) -> Option<&'a PublicKey> {
    if signer.usage().seals() {
        return Some(signer);
    }
    keys.iter().find(|key| key.usage().seals())
}

/// The one answer to a message that is not taken. The reason goes to the log only.
fn refused(reason: &'static str) -> Error {
    let message = "The sealed message is refused.";
    Error::new(Code::ExchangeRefused, message).with_source(reason)
}

fn no_keys() -> Error {
    let message = "The keys of the sealed exchange can't be made from the key file.";
    Error::new(Code::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_generation_counts_and_older_ones_until_the_overlap_ends() {
        let day = |days: u64| Timestamp::from_seconds(0).plus(Duration::from_secs(days * 86_400));
        let rows = || {
            vec![
                ("c".to_owned(), day(180)),
                ("b".to_owned(), day(90)),
                ("a".to_owned(), day(0)),
            ]
        };
        let ids = |now| live(rows(), now).map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(day(181)), ["c", "b"]);
        assert_eq!(ids(day(209)), ["c", "b"]);
        assert_eq!(ids(day(210)), ["c"]);
        // One that was made by a clock which was ahead keeps none before it beyond the overlap.
        let rows = || {
            let ahead = ("ahead".to_owned(), day(400));
            vec![("b".to_owned(), day(90)), ahead, ("a".to_owned(), day(0))]
        };
        let ids = |now| live(rows(), now).map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(day(119)), ["b", "ahead", "a"]);
        assert_eq!(ids(day(120)), ["b"]);
    }
}
