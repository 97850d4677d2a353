//! Clients of the service: names, roles and API keys. A key is shown once and kept as a keyed hash.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Serialize;

use super::audit::{AuditAction, AuditDraft, AuditObject};
use super::client_keys::{ClientKeyInfo, info};
use super::handles::check_overlap;
use super::{Gateway, check, stored};
use crate::error::{Code, Error};
use crate::store::{Change, ClientRow, StoreError, Subject};
use crate::vault::HashPurpose;

/// What an API key begins with.
const KEY_PREFIX: &str = "ck_";

/// How many random bytes an API key has.
const KEY_BYTES: usize = 32;

/// The longest client name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// The detail of a line of the audit log that names the API key which a client got.
pub(crate) const KEY_DETAIL: &str = "key";

/// The detail that says how long the key before stays good.
pub(crate) const OVERLAP_DETAIL: &str = "overlap_seconds";

/// What the keys of a client are called in the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyNames {
    /// The API key that stands in the store; of a sealed client, what stands there instead.
    pub(crate) api_key: String,
    /// The API key before, and until when it is good.
    pub(crate) old: Option<(String, Timestamp)>,
    /// The public keys, and which are live.
    pub(crate) public_keys: BTreeMap<String, bool>,
}

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Links, charges, gives back, reads.
    Billing,
    /// Reads; the operator's changes are verbs of the command line.
    Operator,
    /// Reads the evidence.
    Auditor,
}

/// A client, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientInfo {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Its API keys that are good, the one in use first.
    pub api_keys: Vec<ApiKeyInfo>,
    /// Whether it speaks by sealed messages only.
    pub sealed: bool,
    /// Its public keys, revoked ones too.
    pub keys: Vec<ClientKeyInfo>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

/// An API key, as listed: nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiKeyInfo {
    /// Since when the client has had it.
    pub since: Timestamp,
    /// Until when it is good, if it was replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
}

/// What [`Gateway::renew_client`] gives. Its `Debug` does not show the key.
pub struct Renewed {
    /// What the client may do, as before.
    pub role: Role,
    /// The new API key, which is not kept and can't be shown again.
    pub api_key: String,
    /// Until when the old one is good.
    pub old_ends_at: Timestamp,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed")
            .field("role", &self.role)
            .field("old_ends_at", &self.old_ends_at)
            .finish_non_exhaustive()
    }
}

/// A word is no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is `billing`, `operator` or `auditor`")]
pub struct RoleError;

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Billing, Self::Operator, Self::Auditor];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Billing => "billing",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(word: &str) -> Result<Self, RoleError> {
        match word {
            "billing" => Ok(Self::Billing),
            "operator" => Ok(Self::Operator),
            "auditor" => Ok(Self::Auditor),
            _ => Err(RoleError),
        }
    }
}

impl Gateway {
    /// Adds a client and answers its API key, which is not kept and can't be shown again.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] for a name that is not 1 to 64 of `A-Za-z0-9._-`, or that is taken
    /// (a revoked client keeps its name); [`Code::CardNumber`]; [`Code::StoreUnavailable`].
    pub async fn add_client(&self, name: &str, role: Role) -> Result<String, Error> {
        let object = AuditObject::client(name);
        let line = || self.audit(AuditAction::ClientAdd, object.clone());
        match self.new_client(name, role, line()).await {
            Ok(key) => Ok(key),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn new_client(
        &self,
        name: &str,
        role: Role,
        line: AuditDraft<'_>,
    ) -> Result<String, Error> {
        check_name(name)?;
        let key = self.new_api_key()?;
        let now = self.inner.journal.now();
        let key_hash = self.key_of_client(&key);
        let line = line
            .detail("role", role)
            .detail(KEY_DETAIL, self.inner.api_key_tag(&key_hash))
            .change();
        let row = ClientRow {
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            key_hash,
            key_since: now,
            old_key: None,
            sealed: false,
            created_at: now,
            revoked_at: None,
        };
        match self
            .inner
            .journal
            .write(vec![Change::InsertClient(row), line])
            .await
        {
            Ok(()) => Ok(key),
            Err(StoreError::Conflict(Subject::Client)) => Err(client_taken(name)),
            Err(error) => Err(stored(error)),
        }
    }

    /// Another API key for a client. The one before stays good for `overlap`; with none, every
    /// older one ends now.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if there is no such client, or it is revoked; [`Code::InvalidState`] if
    /// two keys are live already and are to stay so; [`Code::InvalidField`] for an overlap beyond
    /// [`MAX_OVERLAP`](super::MAX_OVERLAP); [`Code::StoreUnavailable`].
    pub async fn renew_client(&self, name: &str, overlap: Duration) -> Result<Renewed, Error> {
        let line = || self.audit(AuditAction::ClientRenew, AuditObject::client(name));
        match self.another_key(name, overlap, line()).await {
            Ok(renewed) => Ok(renewed),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn another_key(
        &self,
        name: &str,
        overlap: Duration,
        line: AuditDraft<'_>,
    ) -> Result<Renewed, Error> {
        check_overlap(overlap)?;
        let now = self.inner.journal.now();
        let rows = self.inner.journal.store().clients().await.map_err(stored)?;
        let live = |row: &ClientRow| row.name == name && row.revoked_at.is_none() && !row.sealed;
        let client = rows.into_iter().find(live);
        let client = client.ok_or_else(|| Error::not_found("client"))?;
        if let Some(old) = client.old_key.as_ref().filter(|old| old.ends_at > now)
            && !overlap.is_zero()
        {
            return Err(two_live(name, old.ends_at));
        }
        let role = role_of(&client)?;
        let api_key = self.new_api_key()?;
        let old_ends_at = now.plus(overlap);
        let key_hash = self.key_of_client(&api_key);
        let line = line
            .detail(OVERLAP_DETAIL, overlap.as_secs())
            .detail(KEY_DETAIL, self.inner.api_key_tag(&key_hash))
            .change();
        let change = Change::RenewClient {
            client,
            key_hash,
            at: now,
            old_ends_at,
        };
        self.inner
            .journal
            .write(vec![change, line])
            .await
            .map_err(stored)?;
        Ok(Renewed {
            role,
            api_key,
            old_ends_at,
        })
    }

    /// All clients, by name.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn clients(&self) -> Result<Vec<ClientInfo>, Error> {
        let store = self.inner.journal.store();
        let rows = store.clients().await.map_err(stored)?;
        let keys = store.client_keys().await.map_err(stored)?;
        let now = self.inner.journal.now();
        rows.into_iter()
            .map(|row| {
                let its = keys.iter().filter(|key| key.client == row.name);
                Ok(ClientInfo {
                    role: role_of(&row)?,
                    api_keys: api_keys(&row, now),
                    sealed: row.sealed,
                    keys: its.cloned().map(info).collect(),
                    name: row.name,
                    created_at: row.created_at,
                    revoked_at: row.revoked_at,
                })
            })
            .collect()
    }

    /// What the keys of all clients are called in the audit log, by the client's name.
    pub(crate) async fn key_names(&self) -> Result<BTreeMap<String, KeyNames>, Error> {
        let store = self.inner.journal.store();
        let rows = store.clients().await.map_err(stored)?;
        let keys = store.client_keys().await.map_err(stored)?;
        let named = |row: ClientRow| {
            let its = keys.iter().filter(|key| key.client == row.name);
            let names = KeyNames {
                api_key: self.inner.api_key_tag(&row.key_hash),
                old: row
                    .old_key
                    .map(|old| (self.inner.api_key_tag(&old.key_hash), old.ends_at)),
                public_keys: its
                    .map(|key| (self.inner.kid_word(&key.kid), key.revoked_at.is_none()))
                    .collect(),
            };
            (row.name, names)
        };
        Ok(rows.into_iter().map(named).collect())
    }

    /// Lets a client in no longer.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if there is none by that name, or it is revoked already.
    pub async fn revoke_client(&self, name: &str) -> Result<(), Error> {
        let at = self.inner.journal.now();
        let change = Change::RevokeClient {
            name: name.to_owned(),
            at,
        };
        let line = || self.audit(AuditAction::ClientRevoke, AuditObject::client(name));
        let batch = vec![change, line().change()];
        let error = match self.inner.journal.write(batch).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict(Subject::Client)) => Error::not_found("client"),
            Err(error) => stored(error),
        };
        Err(line().refused(error).await)
    }

    /// Who holds this API key; `None` for one that is unknown or revoked.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`].
    pub async fn authenticate(&self, api_key: &str) -> Result<Option<(String, Role)>, Error> {
        if !api_key.starts_with(KEY_PREFIX) || api_key.len() != KEY_PREFIX.len() + 2 * KEY_BYTES {
            return Ok(None);
        }
        // The look-up is by a keyed hash, so its timing tells nothing about a key.
        let hash = self.key_of_client(api_key);
        let row = self
            .inner
            .journal
            .store()
            .client_by_hash(&hash, self.inner.journal.now())
            .await
            .map_err(stored)?;
        match row.filter(|row| row.revoked_at.is_none() && !row.sealed) {
            None => Ok(None),
            Some(row) => Ok(Some((row.name.clone(), role_of(&row)?))),
        }
    }

    /// The client that holds or held this key, however long ago it ended.
    pub(super) async fn holder_of(&self, api_key: &str) -> Option<String> {
        let hash = self.key_of_client(api_key);
        let ever = Timestamp::from_millis(0);
        let row = self.inner.journal.store().client_by_hash(&hash, ever).await;
        row.ok().flatten().map(|row| row.name)
    }

    fn new_api_key(&self) -> Result<String, Error> {
        let mut bytes = [0; KEY_BYTES];
        self.inner.entropy.fill(&mut bytes).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })?;
        Ok(format!("{KEY_PREFIX}{}", crate::letters::letters(&bytes)))
    }

    fn key_of_client(&self, api_key: &str) -> Vec<u8> {
        self.inner
            .vault
            .keyed_hash(HashPurpose::ApiKey, api_key.as_bytes())
            .to_vec()
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    check::no_card_number("name", name)?;
    let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(in_alphabet) {
        return Ok(());
    }
    Err(Error::field(
        Code::InvalidField,
        "name",
        "A client's name is 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`.",
    ))
}

fn api_keys(row: &ClientRow, now: Timestamp) -> Vec<ApiKeyInfo> {
    if row.revoked_at.is_some() || row.sealed {
        return Vec::new();
    }
    let in_use = ApiKeyInfo {
        since: row.key_since,
        ends_at: None,
    };
    let old = row.old_key.as_ref().filter(|old| old.ends_at > now);
    let old = old.map(|old| ApiKeyInfo {
        since: old.since,
        ends_at: Some(old.ends_at),
    });
    [Some(in_use), old].into_iter().flatten().collect()
}

fn two_live(name: &str, until: Timestamp) -> Error {
    Error::new(
        Code::InvalidState,
        format!(
            "The client {name} has two live API keys already, and the older one is good until \
             {until}. Wait until then, or renew with an overlap of 0, which ends both."
        ),
    )
}

/// What is said of a name that another client has.
pub(super) fn client_taken(name: &str) -> Error {
    Error::field(
        Code::InvalidField,
        "name",
        format!("There is a client {name} already; choose another name."),
    )
}

pub(super) fn role_of(row: &ClientRow) -> Result<Role, Error> {
    row.role.parse().map_err(|error: RoleError| {
        Error::new(Code::Internal, "A stored role can't be read.").with_source(error)
    })
}
