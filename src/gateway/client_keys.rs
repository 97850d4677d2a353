//! Sealed clients and their public keys: added, listed, revoked. Several are live at once, so that
//! a client can change its keys without a pause.

use cardless_contract::Timestamp;
use serde::Serialize;

use super::audit::{AuditAction, AuditDraft, AuditObject};
use super::clients::{ClientInfo, Role, check_name, client_taken};
use super::{Gateway, Inner, check, stored};
use crate::error::{Code, Error};
use crate::exchange::{PublicKey, Usage};
use crate::store::{Change, ClientKeyRow, ClientRow, StoreError, Subject};
use crate::vault::HashPurpose;

/// How many keys of a client may be live at once.
pub const MAX_LIVE_KEYS: usize = 8;

/// The details of a line of the audit log that name the public keys which a client got.
pub(crate) const KID_DETAILS: [&str; MAX_LIVE_KEYS] = [
    "kid_1", "kid_2", "kid_3", "kid_4", "kid_5", "kid_6", "kid_7", "kid_8",
];

/// The detail that names the public key which was revoked.
pub(crate) const KID_DETAIL: &str = "kid";

/// The detail that says that a client speaks by sealed messages only.
pub(crate) const SEALED_DETAIL: &str = "sealed";

/// How many random bytes stand where a sealed client's API key would.
const NO_KEY_BYTES: usize = 32;

/// A client's public key, as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientKeyInfo {
    /// Its name.
    pub kid: String,
    /// `sig`, `enc` or `both`.
    pub r#use: String,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
}

impl Gateway {
    /// Adds a client that speaks by sealed messages only, with its public keys: a JWK, a JWK set or
    /// PEM. It gets no API key.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] as for any client; for keys that can't be used, are registered or
    /// were, and if none of them may sign or none may be sealed to; [`Code::StoreUnavailable`].
    pub async fn add_sealed_client(
        &self,
        name: &str,
        role: Role,
        public_keys: &str,
    ) -> Result<Vec<ClientKeyInfo>, Error> {
        let line = || self.audit(AuditAction::ClientAdd, AuditObject::client(name));
        match self
            .new_sealed_client(name, role, public_keys, line())
            .await
        {
            Ok(keys) => Ok(keys),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn new_sealed_client(
        &self,
        name: &str,
        role: Role,
        public_keys: &str,
        line: AuditDraft<'_>,
    ) -> Result<Vec<ClientKeyInfo>, Error> {
        check_name(name)?;
        let keys = read(public_keys)?;
        let serves = |wanted: fn(Usage) -> bool| keys.iter().any(|key| wanted(key.usage()));
        if !serves(Usage::signs) || !serves(Usage::seals) {
            return Err(bad_key(
                "A sealed client needs a key that signs and one that answers are sealed to: two \
                 with `use` sig and enc, or one without `use`.",
            ));
        }
        check_count(keys.len())?;
        let mut nobody = [0; NO_KEY_BYTES];
        self.inner.entropy.fill(&mut nobody).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })?;
        let now = self.inner.journal.now();
        let client = ClientRow {
            name: name.to_owned(),
            role: role.as_str().to_owned(),
            // Random, and not the hash of any key.
            key_hash: nobody.to_vec(),
            key_since: now,
            old_key: None,
            sealed: true,
            created_at: now,
            revoked_at: None,
        };
        let row = |key| self.inner.public_key_row(name, role.as_str(), key, now);
        let rows: Vec<_> = keys.iter().map(row).collect();
        let mut batch = vec![Change::InsertClient(client)];
        batch.extend(rows.iter().cloned().map(Change::InsertClientKey));
        let line = line.detail("role", role).detail(SEALED_DETAIL, true);
        batch.push(self.inner.naming(&rows, line).change());
        self.write_keys(name, batch).await?;
        Ok(rows.into_iter().map(info).collect())
    }

    /// Adds public keys to a sealed client.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if there is no such sealed client, or it is revoked;
    /// [`Code::InvalidField`] as for a new one, and beyond [`MAX_LIVE_KEYS`];
    /// [`Code::StoreUnavailable`].
    pub async fn add_client_keys(
        &self,
        name: &str,
        public_keys: &str,
    ) -> Result<Vec<ClientKeyInfo>, Error> {
        let line = || self.audit(AuditAction::ClientKeyAdd, AuditObject::client(name));
        match self.new_client_keys(name, public_keys, line()).await {
            Ok(keys) => Ok(keys),
            Err(error) => Err(line().refused(error).await),
        }
    }

    async fn new_client_keys(
        &self,
        name: &str,
        public_keys: &str,
        line: AuditDraft<'_>,
    ) -> Result<Vec<ClientKeyInfo>, Error> {
        let keys = read(public_keys)?;
        let client = self.sealed_client(name).await?;
        let live = client.keys.iter().filter(|key| key.revoked_at.is_none());
        check_count(live.count() + keys.len())?;
        let now = self.inner.journal.now();
        let row = |key| {
            self.inner
                .public_key_row(name, client.role.as_str(), key, now)
        };
        let rows: Vec<_> = keys.iter().map(row).collect();
        let keys = rows.iter().cloned().map(Change::InsertClientKey);
        let mut batch: Vec<_> = keys.collect();
        let line = line.detail("keys", rows.len());
        batch.push(self.inner.naming(&rows, line).change());
        self.write_keys(name, batch).await?;
        Ok(rows.into_iter().map(info).collect())
    }

    /// Revokes one of a client's public keys. It never comes back, not under another name either.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] if the client has no such live key; [`Code::StoreUnavailable`].
    pub async fn revoke_client_key(&self, name: &str, kid: &str) -> Result<(), Error> {
        let change = Change::RevokeClientKey {
            client: name.to_owned(),
            kid: kid.to_owned(),
            at: self.inner.journal.now(),
        };
        let line = || self.audit(AuditAction::ClientKeyRevoke, AuditObject::client(name));
        let told = line().detail(KID_DETAIL, self.inner.kid_word(kid));
        let batch = vec![change, told.change()];
        let error = match self.inner.journal.write(batch).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict(Subject::ClientKey)) => {
                Error::not_found("live key of that client")
            }
            Err(error) => stored(error),
        };
        Err(line().refused(error).await)
    }

    async fn sealed_client(&self, name: &str) -> Result<ClientInfo, Error> {
        let clients = self.clients().await?;
        clients
            .into_iter()
            .find(|client| client.name == name && client.sealed && client.revoked_at.is_none())
            .ok_or_else(|| Error::not_found("sealed client"))
    }

    async fn write_keys(&self, name: &str, batch: Vec<Change>) -> Result<(), Error> {
        match self.inner.journal.write(batch).await {
            Ok(()) => Ok(()),
            Err(StoreError::Conflict(Subject::ClientKey)) => Err(bad_key(
                "One of these keys, or its `kid`, is registered already or was revoked; make a new \
                 pair.",
            )),
            Err(StoreError::Conflict(Subject::Client)) => Err(client_taken(name)),
            Err(error) => Err(stored(error)),
        }
    }
}

impl Inner {
    /// The keys that are not revoked, the newest first. One that this installation has not
    /// registered for this client in this role is passed over.
    pub(super) fn live_keys(
        &self,
        client: &ClientRow,
        rows: &[ClientKeyRow],
    ) -> Result<Vec<PublicKey>, Error> {
        rows.iter()
            .filter(|row| row.revoked_at.is_none() && self.is_registered(client, row))
            .map(|row| {
                let usage = Usage::parse(&row.usage);
                usage
                    .and_then(|usage| PublicKey::from_point(&row.kid, usage, &row.point).ok())
                    .ok_or_else(|| Error::new(Code::Internal, "A stored public key can't be read."))
            })
            .collect()
    }

    fn is_registered(&self, client: &ClientRow, row: &ClientKeyRow) -> bool {
        let bytes = bound(&client.name, &client.role, row);
        let registered = self
            .vault
            .verify_hash(HashPurpose::ClientKey, &bytes, &row.mac);
        if !registered {
            tracing::warn!(
                client = %client.name,
                kid = %row.kid,
                "a public key stands in the store that was not registered there as it is"
            );
        }
        registered
    }

    /// The line, naming each of these keys.
    fn naming<'a>(&self, rows: &[ClientKeyRow], line: AuditDraft<'a>) -> AuditDraft<'a> {
        let names = KID_DETAILS.into_iter().zip(rows);
        names.fold(line, |line, (name, row)| {
            line.detail(name, self.kid_word(&row.kid))
        })
    }

    fn public_key_row(
        &self,
        client: &str,
        role: &str,
        key: &PublicKey,
        now: Timestamp,
    ) -> ClientKeyRow {
        let mut row = ClientKeyRow {
            kid: key.kid().to_owned(),
            client: client.to_owned(),
            thumbprint: key.thumbprint(),
            usage: key.usage().as_str().to_owned(),
            point: key.to_point(),
            mac: Vec::new(),
            created_at: now,
            revoked_at: None,
        };
        let bytes = bound(client, role, &row);
        row.mac = self
            .vault
            .keyed_hash(HashPurpose::ClientKey, &bytes)
            .to_vec();
        row
    }
}

/// What a key's MAC is over. No part holds a zero byte but the last.
fn bound(client: &str, role: &str, row: &ClientKeyRow) -> Vec<u8> {
    let parts = [client, role, &row.kid, &row.usage, ""].join("\0");
    [parts.as_bytes(), &row.point].concat()
}

pub(super) fn info(row: ClientKeyRow) -> ClientKeyInfo {
    ClientKeyInfo {
        kid: row.kid,
        r#use: row.usage,
        created_at: row.created_at,
        revoked_at: row.revoked_at,
    }
}

fn read(public_keys: &str) -> Result<Vec<PublicKey>, Error> {
    let keys = PublicKey::read_all(public_keys)
        .map_err(|error| bad_key(&format!("The public key can't be used: {error}.")))?;
    for key in &keys {
        check::no_card_number("kid", key.kid())?;
    }
    Ok(keys)
}

fn check_count(keys: usize) -> Result<(), Error> {
    if keys <= MAX_LIVE_KEYS {
        return Ok(());
    }
    Err(bad_key(
        "A client has at most 8 live keys; revoke what it no longer uses.",
    ))
}

fn bad_key(message: &str) -> Error {
    Error::field(Code::InvalidField, "public_key", message)
}
