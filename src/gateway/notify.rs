//! Webhook → verified notification → a look at the object. A body is never believed.

use bytes::Bytes;
use cardless_contract::{
    ErrorKind, Notification, NotificationError, ObjectId, OperationKind, PaymentProvider,
    ProviderError, RawNotification, Subject,
};
use http::HeaderMap;

use super::{Gateway, Inner, stored};
use crate::error::{Causes, Code, Error};
use crate::store::{
    Change, OperationRow, OperationType, StoreError, Subject as Conflict, WebhookRow,
};
use crate::vault::HashPurpose;

impl Gateway {
    /// Takes a webhook: `POST /webhooks/{provider}`. `Ok` once the event is durable; the look that
    /// it asks for follows.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`] for a provider that is not set up; [`Code::NotificationRefused`] if it
    /// does not verify; [`Code::ProviderUnavailable`] if the signer's key could not be fetched, or what
    /// it names not be read now; [`Code::StoreUnavailable`].
    pub async fn notification(
        &self,
        provider: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(), Error> {
        let inner = &self.inner;
        let parts = inner.live.parts();
        let adapter = parts
            .providers
            .get(provider)
            .ok_or_else(|| Error::not_found("provider"))?;
        let delivery = RawNotification { headers, body };
        let notification = adapter
            .verify_notification(&delivery)
            .await
            .map_err(refused)?;
        let event = inner.event_name(&notification.event_id);
        let store = inner.journal.store();
        if store.has_webhook(provider, &event).await.map_err(stored)? {
            // The look that it asks for was asked for then, and so was whose it is.
            return Ok(());
        }
        let mut batch = vec![Change::InsertWebhook(WebhookRow {
            provider: provider.to_owned(),
            event,
            received_at: inner.journal.now(),
        })];
        let found = inner.wake_subject(adapter.as_ref(), &notification).await?;
        batch.extend(found);
        match inner.journal.write(batch).await {
            Ok(()) => {
                inner.wake.notify_one();
                Ok(())
            }
            // It came at the same time.
            Err(StoreError::Conflict(Conflict::Webhook)) => Ok(()),
            Err(error) => Err(stored(error)),
        }
    }
}

impl Inner {
    /// What an event is called in the store. A provider's own id of it can hold a token's
    /// (PostFinance names the entity that has changed), so only a keyed hash is kept.
    fn event_name(&self, event_id: &str) -> String {
        let bytes = [b"event\0".as_slice(), event_id.as_bytes()].concat();
        crate::letters::letters(&self.vault.keyed_hash(HashPurpose::RequestDigest, &bytes))
    }

    /// The look that a notification asks for. Any of a payment's names finds it.
    async fn wake_subject(
        &self,
        adapter: &dyn PaymentProvider,
        notification: &Notification,
    ) -> Result<Vec<Change>, Error> {
        let provider = adapter.name().as_str();
        match &notification.subject {
            Subject::Other => Ok(Vec::new()),
            Subject::Operation { kind, object } => {
                self.wake_operation(adapter, *kind, object).await
            }
            Subject::Setup(reference) => self.wake_reference(provider, reference.as_str()).await,
            Subject::Payment {
                reservation,
                reference,
                object,
            } => {
                let mut changes = Vec::new();
                if let Some(id) = reservation {
                    changes.extend(self.wake_reference(provider, id.as_str()).await?);
                }
                let store = self.journal.store();
                if let Some(reference) = reference {
                    let row = store
                        .payment(&format!("pay_{reference}"))
                        .await
                        .map_err(stored)?;
                    if let Some(row) = row.filter(|row| row.provider == provider) {
                        changes.extend(self.wake_payment(&row.id).await?);
                    }
                }
                if let Some(object) = object {
                    changes.extend(self.wake_object(provider, object, None).await?);
                }
                Ok(changes)
            }
        }
    }

    /// Whose operation is not known here was made elsewhere, in a back office: the provider says of
    /// which payment it is. What it refuses it would refuse the next time too: that is logged, and the
    /// notification is taken, since a provider that is answered with errors stops sending any.
    async fn wake_operation(
        &self,
        adapter: &dyn PaymentProvider,
        kind: OperationKind,
        object: &ObjectId,
    ) -> Result<Vec<Change>, Error> {
        let provider = adapter.name().as_str();
        let made = match kind {
            OperationKind::Capture => OperationType::Capture,
            OperationKind::Void => OperationType::Void,
            OperationKind::Refund => OperationType::Refund,
        };
        let known = self.wake_object(provider, object, Some(made)).await?;
        if !known.is_empty() {
            return Ok(known);
        }
        match adapter.payment_of(kind, object).await {
            Ok(Some(id)) => self.wake_reference(provider, id.as_str()).await,
            Ok(None) => Ok(Vec::new()),
            Err(error) if can_pass(error.kind()) => Err(unread(error)),
            Err(error) => {
                tracing::error!(
                    provider,
                    error = %Causes(&error),
                    "a notification names something that can't be read: nothing is looked at for it"
                );
                Ok(Vec::new())
            }
        }
    }

    /// A provider may count its captures, voids and refunds each for itself, so that the kind belongs to
    /// the name of what is known by it.
    async fn wake_object(
        &self,
        provider: &str,
        object: &ObjectId,
        kind: Option<OperationType>,
    ) -> Result<Vec<Change>, Error> {
        let store = self.journal.store();
        let row = store
            .payment_by_object(provider, object.as_str(), kind)
            .await;
        match row.map_err(stored)? {
            Some(row) => self.wake_payment(&row.id).await,
            None => Ok(Vec::new()),
        }
    }

    async fn wake_reference(&self, provider: &str, id: &str) -> Result<Vec<Change>, Error> {
        let at = self.journal.now();
        let store = self.journal.store();
        let payment = store
            .payment_by_reservation(provider, id)
            .await
            .map_err(stored)?;
        let setup = store
            .setup_by_reference(provider, id)
            .await
            .map_err(stored)?;
        let mut changes: Vec<Change> = setup
            .map(|row| Change::WakeSetup { id: row.id, at })
            .into_iter()
            .collect();
        if let Some(row) = payment {
            changes.extend(self.wake_payment(&row.id).await?);
        }
        Ok(changes)
    }

    /// A payment and its operations are looked at together, also those that wait for a person.
    async fn wake_payment(&self, id: &str) -> Result<Vec<Change>, Error> {
        let at = self.journal.now();
        let operations = self.journal.store().operations(id).await.map_err(stored)?;
        let mut changes = vec![Change::WakePayment {
            id: id.to_owned(),
            at,
        }];
        changes.extend(
            operations
                .into_iter()
                .filter(OperationRow::may_end)
                .map(|row| Change::WakeOperation { id: row.id, at }),
        );
        Ok(changes)
    }
}

/// Whether what was not read now may be read later.
const fn can_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unreachable
            | ErrorKind::Interrupted
            | ErrorKind::RateLimited
            | ErrorKind::ProviderFailed
            | ErrorKind::Authentication
    )
}

fn unread(error: ProviderError) -> Error {
    Error::new(
        Code::ProviderUnavailable,
        "What the notification names could not be read. Send it again later.",
    )
    .with_source(error)
}

fn refused(error: NotificationError) -> Error {
    let (code, message) = if error.is_temporary() {
        (
            Code::ProviderUnavailable,
            "The signer's key could not be fetched. Send it again later.",
        )
    } else {
        (
            Code::NotificationRefused,
            "The notification does not verify.",
        )
    };
    Error::new(code, message).with_source(error)
}
