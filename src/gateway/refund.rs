//! Refund: give back, never more than was captured, whoever races.

use std::collections::BTreeMap;
use std::sync::Arc;

use cardless_contract::{MovementState, Outcome, Payment as Seen};

use super::link::on_a_task;
use super::operate::{Begun, Earlier, exceeds, must_be};
use super::pay::{in_progress, stored_answer};
use super::people::lookup_request;
use super::{Gateway, Inner, RequestKey, check, stored, view};
use crate::account::{Handle, HandleKind};
use crate::error::{Code, Error};
use crate::journal::Leased as _;
use crate::message::{Answer, Refund, RefundRequest};
use crate::store::{
    CaptureText, Change, KeyRow, OperationRow, OperationState, OperationType, PaymentRow,
    PaymentState,
};

/// Captures by their provider's ids, and what each took.
type Captures = BTreeMap<String, i64>;

impl Gateway {
    /// Gives back a captured amount, or a part of it: `POST /v1/payments/{id}/refunds`.
    ///
    /// # Errors
    ///
    /// [`Code::NotFound`], [`Code::InvalidState`], [`Code::AmountExceedsRemaining`],
    /// [`Code::NotSupported`], [`Code::ProviderUnavailable`] if only the provider knows which
    /// capture to give back from and does not say, and what [`Gateway::pay`] lists.
    pub async fn refund(
        &self,
        key: &RequestKey,
        payment: &str,
        request: &RefundRequest,
    ) -> Result<Answer<Refund>, Error> {
        let inner = &self.inner;
        let digest = inner.digest("refund", payment, request)?;
        let row = inner.own_payment(payment, &request.account).await?;
        if let Some(row) = inner.seen_key(key, &digest).await? {
            return inner.replay_refund(&row).await;
        }
        if row.captured > 0 && row.reservation.is_none() {
            return Err(Error::new(
                Code::InvalidState,
                "A person has called this payment captured, and nobody knows its id at the provider. \
                 Give back in the provider's back office.",
            ));
        }
        let read = async {
            let there = inner.captures_there(&row).await?;
            inner.sums_fit(&row).await.map(|()| there)
        };
        let there = match read.await {
            Ok(there) => there,
            // A twin may have begun it meanwhile.
            Err(error) => {
                return match inner.seen_key(key, &digest).await? {
                    Some(row) => inner.replay_refund(&row).await,
                    None => Err(error),
                };
            }
        };
        let begun = inner
            .begin_operation(
                key,
                digest,
                payment,
                &request.account,
                |inner, row, operations| inner.new_refund(row, operations, &there, request),
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

    /// What each capture took by the provider's word, where a refund names one and our own books do
    /// not have them all: somebody has captured in the back office, or a person has called a payment
    /// captured that nobody could read.
    async fn captures_there(&self, row: &PaymentRow) -> Result<Captures, Error> {
        let provider = self.provider(&row.provider)?;
        if row.captured == 0 || !provider.capabilities().refund_per_capture {
            return Ok(Captures::new());
        }
        let operations = self.journal.store().operations(&row.id).await;
        let ours = own_captures(row, &operations.map_err(stored)?);
        if ours.values().sum::<i64>() == row.captured {
            return Ok(Captures::new());
        }
        let seen = self.read_before(row).await?;
        let done = seen
            .captures
            .into_iter()
            .filter(|capture| capture.state == MovementState::Done);
        let named = done.filter_map(|capture| {
            let id = capture.id?;
            Some((id.as_str().to_owned(), capture.amount.minor()))
        });
        Ok(named.collect())
    }

    /// Where a refund is found by its sum only, what somebody has given back in the back office is booked
    /// before ours begins: ours would be taken for done by it.
    async fn sums_fit(&self, row: &PaymentRow) -> Result<(), Error> {
        let provider = self.provider(&row.provider)?;
        if row.captured == 0 || !provider.capabilities().finds_by_sum {
            return Ok(());
        }
        let seen = self.read_before(row).await?;
        let there = seen.refunded.map_or(0, |sum| sum.minor());
        // Read after the answer: what of ours is in it stands here, done or reserved.
        let row = self.payment_row(&row.id).await?;
        if there <= row.refunded + row.reserved_refund {
            return Ok(());
        }
        let wake = Change::WakePayment {
            id: row.id.clone(),
            at: self.journal.now(),
        };
        self.journal.write(vec![wake]).await.map_err(stored)?;
        self.wake.notify_one();
        Err(Error::new(
            Code::InvalidState,
            "More was given back at the provider than our books have; they are being brought up to it. \
             Nothing was given back for this request; read the payment and try again.",
        ))
    }

    /// What the provider says of a payment of which a part is to be given back.
    async fn read_before(&self, row: &PaymentRow) -> Result<Seen, Error> {
        let provider = self.provider(&row.provider)?;
        let unread = Error::new(
            Code::ProviderUnavailable,
            "Only the provider knows what was captured or given back elsewhere, and it does not say. \
             Nothing was given back; try again.",
        );
        match provider.lookup(&lookup_request(row)?).await {
            Ok(Outcome::Done(seen) | Outcome::Pending(seen) | Outcome::Review(seen)) => Ok(seen),
            Ok(Outcome::ActionRequired(..) | Outcome::Declined(_) | Outcome::Unmapped(_)) => {
                Err(unread)
            }
            Err(error) => {
                self.heard(&row.account, &row.id, &error).await;
                Err(unread.with_source(error))
            }
        }
    }

    fn new_refund(
        &self,
        row: &mut PaymentRow,
        operations: &[OperationRow],
        there: &Captures,
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
            Some(capture_to_refund(row, operations, there, amount.minor())?)
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

/// What our own books know of captures: the one of a commit that took all of it, and those of
/// operations.
fn own_captures(payment: &PaymentRow, operations: &[OperationRow]) -> Captures {
    let at_once =
        payment.capture == CaptureText::Automatic && payment.captured == payment.amount.minor();
    let commit = payment.capture_object.as_ref().filter(|_| at_once);
    let commit = commit.map(|object| (object.clone(), payment.captured));
    let done = |row: &OperationRow| {
        let captured = row.kind == OperationType::Capture && row.state == OperationState::Succeeded;
        let object = row.object.as_ref().filter(|_| captured)?;
        Some((object.clone(), row.amount.minor()))
    };
    commit
        .into_iter()
        .chain(operations.iter().filter_map(done))
        .collect()
}

/// The capture that has enough left, where a refund names one; `there` is what the provider says
/// of those that our own books do not have.
fn capture_to_refund(
    payment: &PaymentRow,
    operations: &[OperationRow],
    there: &Captures,
    minor: i64,
) -> Result<String, Error> {
    let mut left = there.clone();
    left.extend(own_captures(payment, operations));
    for row in operations {
        if row.kind == OperationType::Refund
            && row.state != OperationState::Failed
            && let Some(capture) = &row.capture_object
        {
            *left.entry(capture.clone()).or_insert(0) -= row.amount.minor();
        }
    }
    let most = left.values().copied().max().unwrap_or(0);
    left.into_iter()
        .filter(|&(_, left)| left >= minor)
        .min_by_key(|&(_, left)| left)
        .map(|(object, _)| object)
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
