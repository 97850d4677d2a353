//! Payment methods: list, choose, revoke.

use std::sync::Arc;
use std::time::Duration;

use cardless_contract::{ErrorKind, PaymentProvider};

use super::{Gateway, Inner, check, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Causes, Code, Error};
use crate::journal::state::pause;
use crate::message::{Answer, MethodUpdate, Page, PaymentMethod};
use crate::store::{
    BlockerKind, Change, MethodRow, MethodState, PaymentState, Step, StoreError, Subject,
};

/// How often a change of a method is decided again because it has changed meanwhile.
const MAX_RACES: u32 = 16;

/// How long a revocation waits for a reservation with its token before it looks again.
const RESERVING: Duration = Duration::from_secs(3);

impl Gateway {
    /// An account's methods, oldest first: `GET /v1/accounts/{account}/payment-methods`. An
    /// account that we do not know has none.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn payment_methods(&self, account: &str) -> Result<Page<PaymentMethod>, Error> {
        let account = check::account("account", account)?;
        let pseudonym = self.inner.pseudonym(&account);
        let rows = self
            .inner
            .journal
            .store()
            .methods(&pseudonym)
            .await
            .map_err(stored)?;
        let data = rows
            .iter()
            .map(view::method_view)
            .collect::<Result<_, _>>()?;
        Ok(Page { data, next: None })
    }

    /// Makes a method its account's default: `PATCH /v1/payment-methods/{id}`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidState`] if the method can't be charged,
    /// [`Code::InvalidField`] for `default: false`.
    pub async fn set_default(
        &self,
        id: &str,
        update: &MethodUpdate,
    ) -> Result<PaymentMethod, Error> {
        let row = self.inner.own_method(id, &update.account).await?;
        if !update.default {
            return Err(Error::field(
                Code::InvalidField,
                "default",
                "An account has one default: make another method the default instead.",
            ));
        }
        let change = Change::SetDefault {
            account: row.account,
            method: row.id,
        };
        match self.inner.journal.write(vec![change]).await {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => {
                return Err(Error::new(
                    Code::InvalidState,
                    "Only an active method can be the account's default.",
                ));
            }
            Err(error) => return Err(stored(error)),
        }
        view::method_view(&self.inner.own_method(id, &update.account).await?)
    }

    /// Revokes a method here and at the provider: `DELETE /v1/payment-methods/{id}`. It can't be
    /// charged from this moment; `open` while the provider has not confirmed.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], also for a method that is revoked already; [`Code::StoreUnavailable`].
    pub async fn revoke(&self, id: &str, account: &str) -> Result<Answer<()>, Error> {
        let inner = &self.inner;
        for _ in 0..MAX_RACES {
            let row = inner.own_method(id, account).await?;
            let method = row.id.clone();
            if row.state != MethodState::Revoking {
                let mut revoking = row;
                revoking.state = MethodState::Revoking;
                revoking.default = false;
                revoking.next_at = Some(inner.journal.now());
                match inner.begin_revocation(revoking).await {
                    Ok(()) => {}
                    Err(error @ StoreError::Conflict(Subject::Merchant)) => {
                        return Err(stored(error));
                    }
                    Err(StoreError::Conflict(_)) => continue,
                    Err(error) => return Err(stored(error)),
                }
            }
            let confirmed = Arc::clone(inner).drive_revocation(&method).await?;
            return Ok(Answer {
                body: (),
                open: !confirmed,
            });
        }
        Err(stored(StoreError::Conflict(Subject::Method)))
    }
}

impl Inner {
    /// The method that a handle names, its present one or one that was replaced and has not ended,
    /// if it belongs to the account that the caller names and is not revoked.
    async fn own_method(&self, handle: &str, account: &str) -> Result<MethodRow, Error> {
        let account = check::account("account", account)?;
        let row = match Handle::parse_as(HandleKind::PaymentMethod, handle) {
            Some(_) => {
                let now = self.journal.now();
                let found = self.journal.store().method_by_handle(handle, now).await;
                found.map_err(stored)?
            }
            None => None,
        };
        row.filter(|row| row.account == self.pseudonym(&account))
            .filter(|row| row.state != MethodState::Revoked)
            .ok_or_else(|| Error::not_found("payment method of this account"))
    }

    /// Without its provider in the settings a revocation waits for it.
    async fn begin_revocation(&self, row: MethodRow) -> Result<(), StoreError> {
        let provider = self.provider(&row.provider);
        let batch = vec![Change::UpdateMethod(row)];
        match provider {
            Ok(provider) => self.begin(provider.as_ref(), batch).await,
            Err(_) => self.journal.write(batch).await,
        }
    }

    /// Asks the provider to forget a token, once no reservation needs it; answers whether it has
    /// confirmed. Repeating it is harmless, so no lease is needed.
    pub(super) async fn drive_revocation(self: Arc<Self>, id: &str) -> Result<bool, Error> {
        let Some(row) = self.journal.store().method(id).await.map_err(stored)? else {
            return Ok(true);
        };
        if row.state != MethodState::Revoking {
            return Ok(true);
        }
        if self.is_reserving(&row).await? {
            let mut later = row;
            later.next_at = Some(self.journal.now().plus(RESERVING));
            return match self.journal.write(vec![Change::UpdateMethod(later)]).await {
                Ok(()) | Err(StoreError::Conflict(_)) => Ok(false),
                Err(error) => Err(stored(error)),
            };
        }
        let gone = match self.revoke_there(&row).await {
            Ok(gone) => gone,
            // Somebody else was faster, and the record is gone.
            Err(_) if self.is_revoked(id).await? => return Ok(true),
            Err(error) => {
                // It is tried again later, and does not stand before what else is due.
                tracing::error!(method = %row.id, error = %Causes(&error), "revoke");
                false
            }
        };
        let batch = if gone {
            self.revoked(row)
        } else {
            let mut changed = row;
            changed.next_at = Some(self.journal.now().plus(pause(changed.attempts)));
            changed.attempts = changed.attempts.saturating_add(1);
            vec![Change::UpdateMethod(changed)]
        };
        match self.journal.write(batch).await {
            Ok(()) | Err(StoreError::Conflict(_)) => Ok(gone),
            Err(error) => Err(stored(error)),
        }
    }

    /// What makes a method revoked for good: its token is deleted, and an event tells it.
    pub(super) fn revoked(&self, row: MethodRow) -> Vec<Change> {
        let kind = "payment_method.revoked".to_owned();
        let event = self.journal.event(&row.account, kind, &row.handle);
        let record = row.record.clone().map(Change::DeleteRecord);
        let mut revoked = row;
        revoked.state = MethodState::Revoked;
        revoked.record = None;
        revoked.next_at = None;
        let mut batch = vec![Change::UpdateMethod(revoked)];
        batch.extend(record);
        batch.push(event);
        batch
    }

    /// Whether a reservation of a payment with this method is not known yet, so that its token is needed:
    /// where a reservation holds, only its repeat finds it, and so it is released. It is given up at the
    /// first look after [`COMMIT_WITHIN`](super::COMMIT_WITHIN).
    async fn is_reserving(&self, row: &MethodRow) -> Result<bool, Error> {
        let holds = |provider: Arc<dyn PaymentProvider>| provider.capabilities().reserve_holds;
        if !self.provider(&row.provider).is_ok_and(holds) {
            return Ok(false);
        }
        let store = self.journal.store();
        let open = store.blockers(&row.account, u32::MAX).await;
        for open in open.map_err(stored)? {
            if open.kind != BlockerKind::Payment {
                continue;
            }
            let payment = store.payment(&open.id).await.map_err(stored)?;
            let is_reserving = payment.is_some_and(|payment| {
                payment.method.as_deref() == Some(row.id.as_str())
                    && payment.step == Step::Reserving
                    && payment.state != PaymentState::Parked
            });
            if is_reserving {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_revoked(&self, id: &str) -> Result<bool, Error> {
        let row = self.journal.store().method(id).await.map_err(stored)?;
        Ok(row.is_none_or(|row| row.state != MethodState::Revoking))
    }

    async fn revoke_there(&self, row: &MethodRow) -> Result<bool, Error> {
        let provider = self.provider(&row.provider)?;
        let token = self.open_token(row).await?;
        match provider.revoke(&token).await {
            Ok(()) => Ok(true),
            Err(error) => {
                tracing::warn!(method = %row.id, %error, "revoke");
                self.heard(&row.account, &row.id, &error).await;
                Ok(error.kind() == ErrorKind::NotFound)
            }
        }
    }

    /// The provider says that the token is unusable: the method can't be charged until it is
    /// linked anew. A failure here is logged; the next charge finds out again.
    pub(super) async fn suspend_method(&self, id: Option<&str>) {
        let Some(id) = id else { return };
        let result = match self.journal.store().method(id).await {
            Ok(Some(mut row)) if row.state == MethodState::Active => {
                row.state = MethodState::Suspended;
                let kind = "payment_method.suspended".to_owned();
                let mut batch = vec![Change::UpdateMethod(row.clone())];
                batch.push(self.journal.event(&row.account, kind, &row.handle));
                self.journal.write(batch).await
            }
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::warn!(
                method = id,
                error = %Causes(&error),
                "not suspended"
            );
        }
    }
}
