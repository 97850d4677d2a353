//! Everything that is kept of an account, for the person whom it is about: one JSON document, in
//! pieces, so that an account with very many payments needs no memory for all of them.
//!
//! A provider's token is not in it: it says that there is one. What it holds is read piece by piece
//! while payments go on, so a payment that moves meanwhile stands there as it was when it was read.

use std::fmt;

use cardless_contract::{ProviderName, Timestamp};
use serde::Serialize;

use super::audit::AuditAction;
use super::people::{ProviderObject, Resolution, provider_objects, resolution_view};
use super::{Gateway, check, stored, view};
use crate::error::{Code, Error};
use crate::message::{Erasure, Event, Payment, PaymentMethod, SetupStatus};
use crate::store::{AccountCounts, MethodRow, PaymentFilter, PaymentRow, SetupRow};

use super::pay::reference_of;

/// How many payments, setups or events one piece has.
const PAGE: u32 = 100;

/// An export on its way: [`AccountExport::next`] gives the document's pieces in order.
pub struct AccountExport {
    gateway: Gateway,
    account: String,
    pseudonym: String,
    /// Since when the account is here: one that is linked anew after an erasure is another.
    since: Timestamp,
    part: Part,
    first: bool,
}

/// What comes next.
enum Part {
    Head,
    Setups(String),
    Payments(Option<(Timestamp, String)>),
    Events(i64),
    End,
}

/// What the document begins with.
#[derive(Serialize)]
struct Head<'a> {
    account: &'a str,
    exported_at: Timestamp,
    created_at: Timestamp,
    restricted: bool,
    /// What is kept, in numbers.
    counts: AccountCounts,
    payment_methods: Vec<ExportedMethod>,
    erasures: Vec<Erasure>,
}

#[derive(Serialize)]
struct ExportedMethod {
    #[serde(flatten)]
    method: PaymentMethod,
    /// A token of the provider is kept, sealed. It is a secret and not shown.
    token_kept: bool,
}

#[derive(Serialize)]
struct ExportedSetup {
    id: String,
    provider: ProviderName,
    status: SetupStatus,
    return_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_method: Option<String>,
    created_at: Timestamp,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct ExportedPayment {
    #[serde(flatten)]
    payment: Payment,
    initiator: &'static str,
    capture: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    return_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setup: Option<String>,
    provider_reference: String,
    provider_objects: Vec<ProviderObject>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resolutions: Vec<Resolution>,
}

impl Gateway {
    /// Everything that is kept of an account: `GET /v1/accounts/{account}/export`. That somebody
    /// asked for it is in the audit log.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidField`], [`Code::StoreUnavailable`].
    pub async fn export_account(&self, account: &str) -> Result<AccountExport, Error> {
        let id = check::account("account", account)?;
        let line = self.audit(AuditAction::AccountExport, self.inner.audit_name(&id));
        let pseudonym = self.inner.pseudonym(&id);
        let row = match self.inner.journal.store().account(&pseudonym).await {
            Ok(Some(row)) => row,
            Ok(None) => return Err(line.refused(Error::not_found("account")).await),
            Err(error) => return Err(line.refused(stored(error)).await),
        };
        line.write().await?;
        Ok(AccountExport {
            gateway: self.clone(),
            account: account.to_owned(),
            pseudonym,
            since: row.created_at,
            part: Part::Head,
            first: true,
        })
    }
}

impl AccountExport {
    /// The document's next piece; `None` after the last.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`], and [`Code::NotFound`] if the account is erased meanwhile: what
    /// was given until then is no whole document.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        let piece = match std::mem::replace(&mut self.part, Part::End) {
            Part::Head => self.head().await?,
            Part::Setups(after) => self.setups(&after).await?,
            Part::Payments(before) => self.payments(before).await?,
            Part::Events(after) => self.events(after).await?,
            Part::End => return Ok(None),
        };
        if let Err(error) = self.is_still_there().await {
            self.part = Part::End;
            return Err(error);
        }
        Ok(Some(piece))
    }

    async fn head(&mut self) -> Result<String, Error> {
        let inner = &self.gateway.inner;
        let store = inner.journal.store();
        let row = store.account(&self.pseudonym).await.map_err(stored)?;
        let row = row.ok_or_else(|| Error::not_found("account"))?;
        let methods = store.methods(&self.pseudonym).await.map_err(stored)?;
        let id = check::account("account", &self.account)?;
        let head = Head {
            account: &self.account,
            exported_at: inner.journal.now(),
            created_at: row.created_at,
            restricted: row.restricted,
            counts: store
                .account_counts(&self.pseudonym)
                .await
                .map_err(stored)?,
            payment_methods: methods.iter().map(method).collect::<Result<_, _>>()?,
            erasures: inner.erasures_of(&id).await?,
        };
        let mut text = json(&head)?;
        // The object goes on with the lists.
        text.pop();
        text.push_str(",\"setups\":[");
        self.part = Part::Setups(String::new());
        Ok(text)
    }

    async fn setups(&mut self, after: &str) -> Result<String, Error> {
        let store = self.gateway.inner.journal.store();
        let rows = store.setups(&self.pseudonym, after, PAGE).await;
        let rows = rows.map_err(stored)?;
        let mut text = String::new();
        for row in &rows {
            let setup = setup(row)?;
            self.item(&mut text, &setup)?;
        }
        self.part = match rows.last() {
            Some(last) => Part::Setups(last.id.clone()),
            None => self.list(&mut text, "payments", Part::Payments(None)),
        };
        Ok(text)
    }

    async fn payments(&mut self, before: Option<(Timestamp, String)>) -> Result<String, Error> {
        let filter = PaymentFilter {
            account: Some(self.pseudonym.clone()),
            state: None,
            reference: None,
            before,
            limit: PAGE,
        };
        let store = self.gateway.inner.journal.store();
        let rows = store.payments(&filter).await.map_err(stored)?;
        let mut text = String::new();
        for row in &rows {
            let payment = self.payment(row).await?;
            self.item(&mut text, &payment)?;
        }
        self.part = match rows.last() {
            Some(last) => Part::Payments(Some((last.created_at, last.id.clone()))),
            None => self.list(&mut text, "events", Part::Events(0)),
        };
        Ok(text)
    }

    async fn payment(&self, row: &PaymentRow) -> Result<ExportedPayment, Error> {
        let store = self.gateway.inner.journal.store();
        let operations = store.operations(&row.id).await.map_err(stored)?;
        let resolutions = store.resolutions(&row.id).await.map_err(stored)?;
        Ok(ExportedPayment {
            payment: view::payment_view(row, self.account.clone(), &operations)?,
            initiator: row.initiator.as_str(),
            capture: row.capture.as_str(),
            description: row.description.clone(),
            return_url: row.return_url.clone(),
            setup: row.setup.clone(),
            provider_reference: reference_of(&row.id)?.to_string(),
            provider_objects: provider_objects(row, &operations),
            resolutions: resolutions.into_iter().map(resolution_view).collect(),
        })
    }

    async fn events(&mut self, after: i64) -> Result<String, Error> {
        let inner = &self.gateway.inner;
        let store = inner.journal.store();
        let rows = store.events_of(&self.pseudonym, after, PAGE).await;
        let rows = rows.map_err(stored)?;
        let last = rows.last().map(|(number, _)| *number);
        let mut events: Vec<Event> = Vec::with_capacity(rows.len());
        for (_, row) in rows {
            events.push(inner.event_view(row).await?);
        }
        let mut text = String::new();
        for event in &events {
            self.item(&mut text, event)?;
        }
        self.part = match last {
            Some(last) => Part::Events(last),
            None => {
                text.push_str("]}\n");
                Part::End
            }
        };
        Ok(text)
    }

    /// Refuses to go on with, or to end, the document of an account whose rows an erasure has taken
    /// meanwhile, also if it is here again: it would read as if it were whole.
    async fn is_still_there(&self) -> Result<(), Error> {
        let store = self.gateway.inner.journal.store();
        let row = store.account(&self.pseudonym).await.map_err(stored)?;
        let same = row.filter(|row| row.created_at == self.since);
        same.map(drop).ok_or_else(|| Error::not_found("account"))
    }

    /// One element of the present list.
    fn item(&mut self, text: &mut String, item: &impl Serialize) -> Result<(), Error> {
        if !std::mem::take(&mut self.first) {
            text.push(',');
        }
        text.push_str(&json(item)?);
        Ok(())
    }

    /// Ends the present list and begins another.
    fn list(&mut self, text: &mut String, name: &str, next: Part) -> Part {
        text.push_str("],\"");
        text.push_str(name);
        text.push_str("\":[");
        self.first = true;
        next
    }
}

impl fmt::Debug for AccountExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountExport(…)")
    }
}

fn method(row: &MethodRow) -> Result<ExportedMethod, Error> {
    Ok(ExportedMethod {
        method: view::method_view(row)?,
        token_kept: row.record.is_some(),
    })
}

fn setup(row: &SetupRow) -> Result<ExportedSetup, Error> {
    Ok(ExportedSetup {
        id: row.id.clone(),
        provider: view::provider_name(&row.provider)?,
        status: view::setup_status(row.state),
        return_url: row.return_url.clone(),
        language: row.language.clone(),
        payment: row.payment.clone(),
        payment_method: row.method.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    })
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| {
        Error::new(Code::Internal, "An export can't be written.").with_source(error)
    })
}
