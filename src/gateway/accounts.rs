//! What is known of an account, and the listing of its payments.

use cardless_contract::Timestamp;
use serde::Serialize;

use super::audit::AuditAction;
use super::{Gateway, check, stored};
use crate::account::AccountId;
use crate::error::{Code, Error};
use crate::message::{Erasure, Page, Payment, PaymentMethod, PaymentQuery};
use crate::store::PaymentFilter;

/// How many payments a page has.
const PAGE: u32 = 50;

/// What `account show` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountSummary {
    /// The caller's id.
    pub account: String,
    /// Whether it may not be charged.
    pub restricted: bool,
    /// Its methods, revoked ones too.
    pub payment_methods: Vec<PaymentMethod>,
    /// How many payments it has.
    pub payments: u64,
    /// How many of them are not concluded.
    pub open_payments: u64,
    /// When it was first seen; absent if nothing is kept of it but the receipt of an erasure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Its erasures, oldest first: the open one, and the receipts of those that are done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub erasures: Vec<Erasure>,
}

impl Gateway {
    /// What is known of an account. That somebody saw it is in the audit log.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn account(&self, account: &str) -> Result<AccountSummary, Error> {
        let id = check::account("account", account)?;
        let line = self.audit(AuditAction::AccountShow, self.inner.audit_name(&id));
        match self.account_summary(account, &id).await {
            Ok(summary) => line.write().await.map(|()| summary),
            Err(error) => Err(line.refused(error).await),
        }
    }

    async fn account_summary(
        &self,
        account: &str,
        id: &AccountId,
    ) -> Result<AccountSummary, Error> {
        let pseudonym = self.inner.pseudonym(id);
        let store = self.inner.journal.store();
        let row = store.account(&pseudonym).await.map_err(stored)?;
        let erasures = self.inner.erasures_of(id).await?;
        if row.is_none() && erasures.is_empty() {
            return Err(Error::not_found("account"));
        }
        let (payments, open_payments) = store.count_payments(&pseudonym).await.map_err(stored)?;
        Ok(AccountSummary {
            account: account.to_owned(),
            restricted: row.as_ref().is_some_and(|row| row.restricted),
            payment_methods: self.payment_methods(account).await?.data,
            payments,
            open_payments,
            created_at: row.map(|row| row.created_at),
            erasures,
        })
    }

    /// An account's payments, newest first: `GET /v1/payments`.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidField`] for an `after` that is no payment of the account;
    /// [`Code::StoreUnavailable`].
    pub async fn payments(&self, query: &PaymentQuery) -> Result<Page<Payment>, Error> {
        let id = check::account("account", &query.account)?;
        query
            .reference
            .as_deref()
            .map_or(Ok(()), check::reference)?;
        let pseudonym = self.inner.pseudonym(&id);
        let before = match &query.after {
            None => None,
            Some(after) => {
                let row = self.inner.payment_row(after).await.ok();
                let row = row.filter(|row| row.account == pseudonym).ok_or_else(|| {
                    Error::field(
                        Code::InvalidField,
                        "after",
                        "after is the `next` of the page before.",
                    )
                })?;
                Some((row.created_at, row.id))
            }
        };
        let filter = PaymentFilter {
            account: Some(pseudonym),
            state: None,
            reference: query.reference.clone(),
            before,
            limit: PAGE + 1,
        };
        let mut rows = self
            .inner
            .journal
            .store()
            .payments(&filter)
            .await
            .map_err(stored)?;
        let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let more = rows.len() > page;
        rows.truncate(page);
        let mut data = Vec::with_capacity(rows.len());
        for row in &rows {
            data.push(self.inner.payment_view(row, query.account.clone()).await?);
        }
        let next = rows.last().filter(|_| more).map(|row| row.id.clone());
        Ok(Page { data, next })
    }
}
