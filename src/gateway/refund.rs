//! Refund: give back, never more than was captured, whoever races.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::link::on_a_task;
use super::operate::{Begun, Earlier, exceeds, must_be};
use super::pay::{in_progress, stored_answer};
use super::{Gateway, Inner, RequestKey, check, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::Leased as _;
use crate::message::{Answer, Refund, RefundRequest};
use crate::store::{KeyRow, OperationRow, OperationState, OperationType, PaymentRow, PaymentState};

impl Gateway {
    /// Gives back a captured amount, or a part of it: `POST /v1/payments/{id}/refunds`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidState`], [`Code::AmountExceedsRemaining`],
    /// [`Code::NotSupported`] and what [`Gateway::pay`] lists.
    pub async fn refund(
        &self,
        key: &RequestKey,
        payment: &str,
        request: &RefundRequest,
    ) -> Result<Answer<Refund>, Error> {
        let inner = &self.inner;
        let digest = inner.digest("refund", payment, request)?;
        inner.own_payment(payment, &request.account).await?;
        if let Some(row) = inner.seen_key(key, &digest).await? {
            return inner.replay_refund(&row).await;
        }
        let begun = inner
            .begin_operation(
                key,
                digest,
                payment,
                &request.account,
                |inner, row, operations| inner.new_refund(row, operations, request),
            )
            .await?;
        match begun {
            Begun::Replay(key) => inner.replay_refund(&key).await,
            Begun::New(row) => {
                let row = on_a_task(Arc::clone(inner).send_operation(row, Earlier::None)).await?;
                Ok(Answer {
                    open: row.is_open(),
                    body: view::refund_view(&row),
                })
            }
        }
    }

    /// A refund by id: `GET /v1/refunds/{id}`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::StoreUnavailable`].
    pub async fn refund_by_id(&self, id: &str) -> Result<Refund, Error> {
        let row = match Handle::parse_as(HandleKind::Refund, id) {
            Some(_) => self
                .inner
                .journal
                .store()
                .operation(id)
                .await
                .map_err(stored)?,
            None => None,
        };
        row.map(|row| view::refund_view(&row))
            .ok_or_else(|| Error::not_found("refund"))
    }
}

impl Inner {
    async fn replay_refund(&self, key: &KeyRow) -> Result<Answer<Refund>, Error> {
        if let Some(answer) = &key.answer {
            return Ok(Answer {
                body: stored_answer(answer)?,
                open: false,
            });
        }
        let row = self
            .journal
            .store()
            .operation(&key.object)
            .await
            .map_err(stored)?;
        let row = row.ok_or_else(in_progress)?;
        if row.lease_until() > self.journal.now() {
            return Err(in_progress());
        }
        Ok(Answer {
            open: row.is_open(),
            body: view::refund_view(&row),
        })
    }

    fn new_refund(
        &self,
        row: &mut PaymentRow,
        operations: &[OperationRow],
        request: &RefundRequest,
    ) -> Result<OperationRow, Error> {
        let provider = self.provider(&row.provider)?;
        let capabilities = provider.capabilities();
        if row.captured == 0 {
            must_be(row, &[PaymentState::Captured], "refunded")?;
        }
        let left = row.captured - row.refunded - row.reserved_refund;
        let asked = match &request.amount {
            None => None,
            Some(amount) => Some(check::part(amount, row.amount.currency())?),
        };
        let amount = asked.unwrap_or_else(|| row.money(left));
        check::expressible(amount, capabilities)?;
        if amount.minor() > left || amount.is_zero() {
            return Err(exceeds(row.money(left.max(0))));
        }
        if amount.minor() < row.captured && !capabilities.partial_refund {
            return Err(Error::field(
                Code::NotSupported,
                "amount",
                "This provider gives back the whole amount only.",
            ));
        }
        let capture = if capabilities.refund_per_capture {
            Some(capture_to_refund(row, operations, amount.minor())?)
        } else {
            None
        };
        row.reserved_refund += amount.minor();
        row.updated_at = self.journal.now();
        let settled = row.refunded;
        let mut refund = self.new_operation(
            row,
            HandleKind::Refund,
            OperationType::Refund,
            amount,
            false,
            settled,
        )?;
        refund.capture_object = capture;
        Ok(refund)
    }
}

/// The capture that has enough left, where a refund names one.
fn capture_to_refund(
    payment: &PaymentRow,
    operations: &[OperationRow],
    minor: i64,
) -> Result<String, Error> {
    let mut left: BTreeMap<&str, i64> = BTreeMap::new();
    if let Some(object) = &payment.capture_object {
        left.insert(object, payment.captured);
    }
    for row in operations {
        match (row.kind, row.state, &row.object, &row.capture_object) {
            (OperationType::Capture, OperationState::Succeeded, Some(object), _) => {
                left.insert(object, row.amount.minor());
            }
            (OperationType::Refund, state, _, Some(capture)) if state != OperationState::Failed => {
                *left.entry(capture).or_insert(0) -= row.amount.minor();
            }
            _ => {}
        }
    }
    let most = left.values().copied().max().unwrap_or(0);
    left.iter()
        .filter(|&(_, &left)| left >= minor)
        .min_by_key(|&(_, &left)| left)
        .map(|(object, _)| (*object).to_owned())
        .ok_or_else(|| {
            Error::field(
                Code::AmountExceedsRemaining,
                "amount.minor",
                format!(
                    "This provider gives back from one capture at a time; the largest that is left is {}. \
                     Ask for it in parts.",
                    payment.money(most.max(0))
                ),
            )
        })
}
