//! What a person may ask: that nothing more is charged, that everything is erased, and what is kept.
//!
//! An erasure is a job of its own. It begins with a restriction, so that nothing new starts, and
//! revokes every method at its provider. What is open of the account comes to its end as ever: money
//! is never lost sight of. Then, in one transaction, tokens, account id, setups and texts are
//! deleted, and what the books keep goes to a substitute with a random name, which nothing leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cardless_contract::Timestamp;
use serde::{Deserialize, Serialize};

use super::audit::{Actor, AuditAction, AuditDraft, AuditObject, AuditOutcome};
use super::link::on_a_task;
use super::{Gateway, Inner, RequestKey, check, stored, view};
use crate::account::{AccountId, HandleKind};
use crate::error::{Causes, Code, Error};
use crate::journal::state::pause;
use crate::journal::{Written, lease_row, release_row};
use crate::message::{
    Answer, Deleted, Erasure, ErasureStatus, Kept, Restriction, RevokedThere, WaitingFor,
};
use crate::store::{
    AccountCounts, AccountRow, BlockerKind, BlockerRow, Change, Due, EraseAccount, ErasureRow,
    MethodRow, StoreError, Subject,
};
use crate::vault::HashPurpose;

/// What stands for the account's id in what the books keep. No account can be called so.
pub(super) const ERASED: &str = "(erased)";

/// The longest pause until an open erasure is looked at again.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How much of what holds up an erasure is looked at in one go.
const MAX_BLOCKERS: u32 = 100;

/// How long an erasure lets something wait for its turn, at most, before it looks again.
const FOR_ITS_TURN: Duration = Duration::from_secs(30);

/// Who asks the providers about what holds up an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    /// Whoever drives the erasure.
    Here,
    /// The resolver, which gives each provider places of its own: an erasure has none, and one that
    /// stalls would hold up the others.
    InItsPlace,
}

/// How many revocations a person ends at once.
const MAX_ENDED: usize = 1000;

/// How much of it an answer shows.
const MAX_SHOWN: usize = 20;

/// How often an erasure is decided again because the account has changed meanwhile.
const MAX_RACES: u32 = 16;

/// Random bytes in a substitute's name.
const SUBSTITUTE_BYTES: usize = 16;

/// What is kept of an erasure as its receipt.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    counts: AccountCounts,
    revoked: Vec<(String, u64)>,
}

impl Gateway {
    /// Lets an account be charged no more, or again: `PUT /v1/accounts/{account}/restriction`. A
    /// restricted account has no new payment, setup or capture, and a charge that has not left is not
    /// sent any more; what may have left is asked about, and voids and refunds go on.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`]; [`Code::InvalidState`] if the account is being erased;
    /// [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn set_restricted(
        &self,
        account: &str,
        restricted: bool,
    ) -> Result<Restriction, Error> {
        let id = check::account("account", account)?;
        let action = if restricted {
            AuditAction::AccountRestrict
        } else {
            AuditAction::AccountUnrestrict
        };
        let line = || self.audit(action, self.inner.audit_name(&id));
        let pseudonym = self.inner.pseudonym(&id);
        let change = Change::SetRestricted {
            account: pseudonym.clone(),
            restricted,
        };
        let batch = vec![change, line().change()];
        let error = match self.inner.journal.write(batch).await {
            Ok(()) => {
                return Ok(Restriction {
                    account: account.to_owned(),
                    restricted,
                });
            }
            Err(StoreError::Conflict(Subject::Account)) => {
                self.inner.not_unrestricted(&pseudonym).await
            }
            Err(error) => stored(error),
        };
        Err(line().refused(error).await)
    }

    /// Erases an account: `POST /v1/accounts/{account}/erasure`. The account can't be charged from
    /// this moment. `open` while something must come to its end first; [`Gateway::run`] or
    /// [`Gateway::reconcile`] go on with it. An account that was erased and never came back gives
    /// the receipt again.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] for an account that was never there; [`Code::InvalidField`],
    /// [`Code::IdempotencyMismatch`], [`Code::StoreUnavailable`].
    pub async fn erase(&self, key: &RequestKey, account: &str) -> Result<Answer<Erasure>, Error> {
        let id = check::account("account", account)?;
        match self.begin_erasure(key, &id).await {
            Ok(row) => {
                let inner = Arc::clone(&self.inner);
                let row = on_a_task(async move { inner.erase_now(row).await }).await?;
                self.inner.erasure_answer(&row).await
            }
            Err(error) => {
                let line = self.audit(AuditAction::AccountErase, self.inner.audit_name(&id));
                Err(line.refused(error).await)
            }
        }
    }

    /// The latest erasure of an account: `GET /v1/accounts/{account}/erasure`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn erasure(&self, account: &str) -> Result<Answer<Erasure>, Error> {
        let id = check::account("account", account)?;
        let row = self.inner.latest_erasure(&id).await?;
        let line = self
            .audit(AuditAction::AccountShow, self.inner.audit_name(&id))
            .detail("what", "erasure");
        let Some(row) = row else {
            return Err(line.refused(Error::not_found("erasure")).await);
        };
        line.write().await?;
        self.inner.erasure_answer(&row).await
    }

    /// Goes on with an open erasure now, unless another worker does.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn continue_erasure(&self, account: &str) -> Result<Answer<Erasure>, Error> {
        let id = check::account("account", account)?;
        let row = self.inner.latest_erasure(&id).await?;
        let row = row.ok_or_else(|| Error::not_found("erasure"))?;
        let inner = Arc::clone(&self.inner);
        let row = on_a_task(async move { inner.erase_now(row).await }).await?;
        self.inner.erasure_answer(&row).await
    }

    /// Waits no longer for one provider to confirm what is being revoked for an open erasure, and goes
    /// on with it: for a person who knows that it never will, since its contract has ended, say, or the
    /// tokens do not open any more. Only what was tried at least once is ended; the receipt counts it
    /// apart ([`Erasure::unconfirmed`]), and the audit log says who did it.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] without an open erasure; [`Code::InvalidState`] if nothing of the account
    /// waits for that provider, or was not tried yet; [`Code::InvalidField`],
    /// [`Code::StoreUnavailable`].
    pub async fn erase_unconfirmed(
        &self,
        account: &str,
        provider: &str,
    ) -> Result<Answer<Erasure>, Error> {
        let id = check::account("account", account)?;
        view::provider_name(provider).map_err(|_| {
            Error::field(Code::InvalidField, "provider", "No provider is called so.")
        })?;
        match self.end_unconfirmed(&id, provider).await {
            Ok(()) => self.continue_erasure(account).await,
            Err(error) => {
                let line = self.audit(AuditAction::AccountUnconfirmed, self.inner.audit_name(&id));
                Err(line.refused(error).await)
            }
        }
    }

    async fn end_unconfirmed(&self, id: &AccountId, provider: &str) -> Result<(), Error> {
        let inner = &self.inner;
        for _ in 0..MAX_RACES {
            let open = inner.latest_erasure(id).await?;
            let open = open.filter(|row| row.account.is_some());
            let mut erasure = open.ok_or_else(|| Error::not_found("open erasure"))?;
            let methods = inner.tried_in_vain(&inner.pseudonym(id), provider).await?;
            if methods.is_empty() {
                return Err(Error::new(
                    Code::InvalidState,
                    "Nothing of the account waits for that provider, or it was not tried yet. `account \
                     show` says what the erasure waits for.",
                ));
            }
            let count = u64::try_from(methods.len()).unwrap_or(u64::MAX);
            let mut batch = Vec::new();
            for method in methods {
                batch.extend(inner.revoked(method));
            }
            let line = self
                .audit(AuditAction::AccountUnconfirmed, inner.audit_name(id))
                .detail("receipt", &erasure.id)
                .detail("provider", provider)
                .detail("payment_methods", count);
            batch.push(line.change());
            let mut unconfirmed = unconfirmed(&erasure)?;
            *unconfirmed.entry(provider.to_owned()).or_default() += count;
            let text = serde_json::to_string(&unconfirmed).map_err(|error| {
                Error::new(Code::Internal, "A receipt can't be written.").with_source(error)
            })?;
            erasure.unconfirmed = Some(text);
            batch.push(Change::UpdateErasure(erasure));
            match inner.journal.write(batch).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Account)))
    }

    /// Somebody asked for an erasure that there is already.
    fn asked_again(
        &self,
        id: &AccountId,
        row: &ErasureRow,
        outcome: AuditOutcome,
    ) -> AuditDraft<'_> {
        self.audit(AuditAction::AccountErase, self.inner.audit_name(id))
            .outcome(outcome)
            .detail("receipt", &row.id)
            .detail("again", "yes")
    }

    /// The erasure that this call is about: a new one, the one that is open, or a receipt.
    async fn begin_erasure(&self, key: &RequestKey, id: &AccountId) -> Result<ErasureRow, Error> {
        let inner = &self.inner;
        let digest = inner.digest("erase", id.as_str(), &())?;
        if let Some(seen) = inner.seen_key(key, &digest).await? {
            return inner.erasure_row(&seen.object).await;
        }
        for _ in 0..MAX_RACES {
            let pseudonym = inner.pseudonym(id);
            let latest = inner.latest_erasure(id).await?;
            let open = latest.clone().filter(|row| row.account.is_some());
            let account = inner.journal.store().account(&pseudonym).await;
            let batch = match (account.map_err(stored)?, open) {
                (None, _) => {
                    let row = latest.ok_or_else(|| Error::not_found("account"))?;
                    self.asked_again(id, &row, AuditOutcome::Done)
                        .write()
                        .await?;
                    return Ok(row);
                }
                (Some(_), Some(open)) => {
                    let key = inner.key_row(key, digest.clone(), &open.id);
                    let line = self.asked_again(id, &open, AuditOutcome::Accepted);
                    (vec![Change::InsertKey(key), line.change()], open)
                }
                (Some(_), None) => {
                    let row = inner.new_erasure(id)?;
                    let line = self
                        .audit(AuditAction::AccountErase, inner.audit_name(id))
                        .outcome(AuditOutcome::Accepted)
                        .detail("receipt", &row.id);
                    let batch = vec![
                        Change::InsertKey(inner.key_row(key, digest.clone(), &row.id)),
                        Change::SetRestricted {
                            account: pseudonym,
                            restricted: true,
                        },
                        Change::InsertErasure(row.clone()),
                        line.change(),
                    ];
                    (batch, row)
                }
            };
            let (batch, row) = batch;
            match inner.journal.write(batch).await {
                Ok(()) => return Ok(row),
                Err(StoreError::Conflict(Subject::Key)) => {
                    if let Some(seen) = inner.seen_key(key, &digest).await? {
                        return inner.erasure_row(&seen.object).await;
                    }
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(stored(error)),
            }
        }
        Err(stored(StoreError::Conflict(Subject::Account)))
    }
}

impl Inner {
    /// Why an account's restriction could not be changed.
    async fn not_unrestricted(&self, account: &str) -> Error {
        match self.journal.store().account(account).await {
            Ok(Some(_)) => Error::new(
                Code::InvalidState,
                "The account is being erased and stays restricted until it is gone.",
            ),
            Ok(None) => Error::not_found("account"),
            Err(error) => stored(error),
        }
    }

    /// The one answer for an account that may not be charged.
    pub(super) fn restricted() -> Error {
        Error::field(
            Code::AccountRestricted,
            "account",
            "The account is restricted and can't be charged.",
        )
    }

    /// Whether an account that is there may not be charged.
    pub(super) async fn is_restricted(&self, account: &str) -> Result<bool, Error> {
        let row = self.journal.store().account(account).await;
        Ok(row.map_err(stored)?.is_some_and(|row| row.restricted))
    }

    fn subject(&self, id: &AccountId) -> Vec<u8> {
        let hash = HashPurpose::ErasedAccount;
        self.vault.keyed_hash(hash, id.as_str().as_bytes()).to_vec()
    }

    pub(super) async fn latest_erasure(&self, id: &AccountId) -> Result<Option<ErasureRow>, Error> {
        let rows = self.journal.store().erasures(&self.subject(id)).await;
        Ok(rows.map_err(stored)?.pop())
    }

    /// The latest time at which an account was erased.
    pub(super) async fn erased_last(&self, id: &AccountId) -> Result<Option<Timestamp>, Error> {
        let rows = self.journal.store().erasures(&self.subject(id)).await;
        let rows = rows.map_err(stored)?;
        Ok(rows.into_iter().filter_map(|row| row.erased_at).max())
    }

    /// Every erasure of an account, oldest first.
    pub(super) async fn erasures_of(&self, id: &AccountId) -> Result<Vec<Erasure>, Error> {
        let rows = self.journal.store().erasures(&self.subject(id)).await;
        let mut views = Vec::new();
        for row in rows.map_err(stored)? {
            views.push(self.erasure_answer(&row).await?.body);
        }
        Ok(views)
    }

    async fn erasure_row(&self, id: &str) -> Result<ErasureRow, Error> {
        let row = self.journal.store().erasure(id).await.map_err(stored)?;
        row.ok_or_else(|| Error::not_found("erasure"))
    }

    fn new_erasure(&self, id: &AccountId) -> Result<ErasureRow, Error> {
        let now = self.journal.now();
        let handle = self.new_handle(HandleKind::Setup)?;
        Ok(ErasureRow {
            id: format!("era_{}", handle.reference()),
            subject: self.subject(id),
            account: Some(self.pseudonym(id)),
            report: None,
            unconfirmed: None,
            requested_at: now,
            erased_at: None,
            next_at: Some(now),
            attempts: 0,
            lease_until: Timestamp::from_millis(0),
            version: 0,
        })
    }

    /// Drives an erasure for its caller, unless another worker does.
    async fn erase_now(self: Arc<Self>, row: ErasureRow) -> Result<ErasureRow, Error> {
        if row.next_at.is_none() {
            return Ok(row);
        }
        self.look_at_clock().await?;
        match self.lease_in_a_moment(row).await? {
            Ok(leased) => self.drive_erasure(leased, Asks::Here).await,
            Err(row) => Ok(row),
        }
    }

    /// Brings a leased erasure as far as it goes now.
    pub(super) async fn drive_erasure(
        self: Arc<Self>,
        row: ErasureRow,
        asks: Asks,
    ) -> Result<ErasureRow, Error> {
        let mut row = row;
        for _ in 0..MAX_RACES {
            let Some(account) = row.account.clone() else {
                return self.scrub(row).await;
            };
            self.revoke_all(&account).await?;
            if asks == Asks::Here {
                self.end_what_is_due(&account, row.lease_until).await?;
            }
            let blockers = self.journal.store().blockers(&account, MAX_BLOCKERS).await;
            let blockers = blockers.map_err(stored)?;
            if !blockers.is_empty() {
                return self.erasure_later(row, &blockers).await;
            }
            match self.erase_account(&row, &account).await? {
                Some(Written::Yes(erased)) => row = erased,
                Some(Written::Lost(row)) => return Ok(row),
                // Something of the account has changed since it was counted.
                None => {}
            }
        }
        self.erasure_later(row, &[]).await
    }

    /// The account's methods whose revocation at this provider was tried and is not confirmed.
    async fn tried_in_vain(&self, account: &str, provider: &str) -> Result<Vec<MethodRow>, Error> {
        let store = self.journal.store();
        let blockers = store.blockers(account, u32::MAX).await;
        let mut tried = Vec::new();
        for blocker in blockers.map_err(stored)? {
            if blocker.kind == BlockerKind::Method && tried.len() < MAX_ENDED {
                let method = store.method(&blocker.id).await.map_err(stored)?;
                tried.extend(method.filter(|row| row.attempts > 0 && row.provider == provider));
            }
        }
        Ok(tried)
    }

    async fn revoke_all(&self, account: &str) -> Result<(), Error> {
        let change = Change::RevokeMethods {
            account: account.to_owned(),
            at: self.journal.now(),
        };
        self.begin_anywhere(vec![change]).await.map_err(stored)
    }

    /// Drives what is due of an account, one after the other, and begins no more of it once the
    /// erasure's lease is over.
    async fn end_what_is_due(
        self: &Arc<Self>,
        account: &str,
        lease_until: Timestamp,
    ) -> Result<(), Error> {
        let store = self.journal.store();
        let found = store.blockers(account, MAX_BLOCKERS).await;
        let now = self.journal.now();
        let due = |row: &BlockerRow| row.next_at.is_some_and(|at| at <= now);
        for row in found.map_err(stored)?.into_iter().filter(due) {
            if self.journal.now() >= lease_until {
                break;
            }
            let object = match row.kind {
                BlockerKind::Payment => Due::Payment(row.id.clone()),
                BlockerKind::Operation => Due::Operation(row.id.clone()),
                BlockerKind::Setup => Due::Setup(row.id.clone()),
                BlockerKind::Method => Due::Revocation(row.id.clone()),
            };
            if let Err(error) = Box::pin(Arc::clone(self).drive(object)).await {
                tracing::error!(object = %row.id, error = %Causes(&error), "erasure");
            }
        }
        Ok(())
    }

    async fn erasure_later(
        &self,
        row: ErasureRow,
        blockers: &[BlockerRow],
    ) -> Result<ErasureRow, Error> {
        let now = self.journal.now();
        let soonest = blockers.iter().filter_map(|row| row.next_at).min();
        self.change_erasure(&row, |row| {
            let by_itself = now.plus(pause(row.attempts).min(LONGEST_PAUSE));
            // What is due already waits for its turn; else it is looked at soon after.
            let pause = match soonest {
                Some(at) if at <= now => pause(row.attempts).min(FOR_ITS_TURN),
                Some(_) | None => pause(0),
            };
            let at = soonest.map_or(by_itself, |at| at.max(now.plus(pause)).min(by_itself));
            row.attempts = row.attempts.saturating_add(1);
            release_row(row, Some(at));
            Vec::new()
        })
        .await
    }

    /// Deletes and hands over in one transaction. `None` if the account has changed since it was
    /// looked at.
    async fn erase_account(
        &self,
        row: &ErasureRow,
        account: &str,
    ) -> Result<Option<Written<ErasureRow>>, Error> {
        let store = self.journal.store();
        let report = Report {
            counts: store.account_counts(account).await.map_err(stored)?,
            revoked: store.revoked_by_provider(account).await.map_err(stored)?,
        };
        let text = serde_json::to_string(&report).map_err(|error| {
            Error::new(Code::Internal, "A receipt can't be written.").with_source(error)
        })?;
        let erase = EraseAccount {
            account: account.to_owned(),
            substitute: self.substitute().await?,
            counts: report.counts,
        };
        let now = self.journal.now();
        let written = self.journal.change(row, |row| {
            row.account = None;
            row.report = Some(text.clone());
            row.erased_at = Some(now);
            row.attempts = 0;
            // The lease stays: the files are looked after next.
            lease_row(row, now);
            let line = self
                .audit(
                    Actor::system(),
                    AuditAction::AccountErased,
                    AuditObject::receipt(&row.id),
                )
                .detail("payment_methods", report.counts.payment_methods)
                .detail("payments_kept", report.counts.payments);
            vec![Change::EraseAccount(erase.clone()), line.change()]
        });
        match written.await {
            Ok(written) => Ok(Some(written)),
            Err(StoreError::Conflict(Subject::Generation)) => {
                // The substitute was sealed under a generation that has retired since.
                self.follow_generations().await?;
                Ok(None)
            }
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(stored(error)),
        }
    }

    /// An account of nobody: a random name, and no id.
    async fn substitute(&self) -> Result<AccountRow, Error> {
        let mut bytes = [0; SUBSTITUTE_BYTES];
        self.entropy.fill(&mut bytes).map_err(|error| {
            Error::new(Code::Internal, "The source of randomness failed.").with_source(error)
        })?;
        let account = crate::letters::letters(&bytes);
        let context = view::account_context(&account);
        let sealed = self.seal(&context, ERASED.as_bytes()).await?;
        Ok(AccountRow {
            account,
            sealed_id: sealed.bytes,
            generation: sealed.generation,
            restricted: true,
            // Not the moment of the erasure, which its receipt has too.
            created_at: Timestamp::from_millis(0),
        })
    }

    /// Leaves nothing of what was deleted in the store's files; tried again until it is so.
    async fn scrub(&self, row: ErasureRow) -> Result<ErasureRow, Error> {
        let clean = match self.journal.store().scrub().await {
            Ok(clean) => clean,
            Err(error) => {
                tracing::warn!(erasure = %row.id, error = %Causes(&error), "the store's log was not emptied");
                false
            }
        };
        if !clean {
            return self.erasure_later(row, &[]).await;
        }
        self.change_erasure(&row, |row| {
            release_row(row, None);
            Vec::new()
        })
        .await
    }

    async fn change_erasure(
        &self,
        row: &ErasureRow,
        change: impl FnMut(&mut ErasureRow) -> Vec<Change> + Send,
    ) -> Result<ErasureRow, Error> {
        match self.journal.change(row, change).await.map_err(stored)? {
            Written::Yes(row) | Written::Lost(row) => Ok(row),
        }
    }

    async fn erasure_answer(&self, row: &ErasureRow) -> Result<Answer<Erasure>, Error> {
        let body = match &row.account {
            Some(account) => self.open_erasure(row, account).await?,
            None => receipt(row)?,
        };
        Ok(Answer {
            open: body.status == ErasureStatus::Open,
            body,
        })
    }

    async fn open_erasure(&self, row: &ErasureRow, account: &str) -> Result<Erasure, Error> {
        let store = self.journal.store();
        let blockers = store.blockers(account, MAX_BLOCKERS).await;
        let revoked = store.revoked_by_provider(account).await.map_err(stored)?;
        let shown = blockers.map_err(stored)?.into_iter().take(MAX_SHOWN);
        Ok(Erasure {
            id: row.id.clone(),
            status: ErasureStatus::Open,
            requested_at: row.requested_at,
            erased_at: None,
            waiting_for: shown.map(waiting_for).collect(),
            revoked: revoked_there(confirmed(revoked, row)?)?,
            unconfirmed: revoked_there(unconfirmed(row)?)?,
            deleted: None,
            kept: None,
        })
    }
}

/// What is told of an erasure that is done: the same for good.
fn receipt(row: &ErasureRow) -> Result<Erasure, Error> {
    let report: Report =
        serde_json::from_str(row.report.as_deref().unwrap_or_default()).map_err(|error| {
            Error::new(Code::Internal, "A stored receipt can't be read.").with_source(error)
        })?;
    let counts = report.counts;
    Ok(Erasure {
        id: row.id.clone(),
        status: ErasureStatus::Erased,
        requested_at: row.requested_at,
        erased_at: row.erased_at,
        waiting_for: Vec::new(),
        revoked: revoked_there(confirmed(report.revoked, row)?)?,
        unconfirmed: revoked_there(unconfirmed(row)?)?,
        deleted: Some(Deleted {
            accounts: 1,
            payment_methods: counts.payment_methods,
            setups: counts.setups,
            texts_of_payments: counts.payments,
            notes: counts.resolutions,
            answers_of_idempotency_keys: counts.idempotency_keys,
        }),
        kept: Some(Kept {
            payments: counts.payments,
            operations: counts.operations,
            events: counts.events,
        }),
    })
}

/// What a person has ended without the provider's word, by provider.
fn unconfirmed(row: &ErasureRow) -> Result<BTreeMap<String, u64>, Error> {
    let text = row.unconfirmed.as_deref().unwrap_or("{}");
    serde_json::from_str(text).map_err(|error| {
        Error::new(Code::Internal, "A stored receipt can't be read.").with_source(error)
    })
}

/// What each provider has confirmed, of all that is revoked.
fn confirmed(revoked: Vec<(String, u64)>, row: &ErasureRow) -> Result<Vec<(String, u64)>, Error> {
    let unconfirmed = unconfirmed(row)?;
    let of = |provider: &str| unconfirmed.get(provider).copied().unwrap_or(0);
    let confirmed = revoked.into_iter().map(|(provider, count)| {
        let without_word = of(&provider);
        (provider, count.saturating_sub(without_word))
    });
    Ok(confirmed.filter(|&(_, count)| count > 0).collect())
}

fn revoked_there(
    revoked: impl IntoIterator<Item = (String, u64)>,
) -> Result<Vec<RevokedThere>, Error> {
    let there = revoked.into_iter().map(|(provider, payment_methods)| {
        Ok(RevokedThere {
            provider: view::provider_name(&provider)?,
            payment_methods,
        })
    });
    there.collect()
}

fn waiting_for(row: BlockerRow) -> WaitingFor {
    let kind = match row.kind {
        BlockerKind::Payment => "payment",
        BlockerKind::Operation => "operation",
        BlockerKind::Setup => "setup",
        BlockerKind::Method => "payment_method",
    };
    WaitingFor {
        kind: kind.to_owned(),
        id: row.id,
        status: row.state,
        next_look_at: row.next_at,
    }
}
