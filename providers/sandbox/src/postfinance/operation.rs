//! Completions, voids and refunds: their keys, their ceilings, and how they conclude.

use std::time::Duration;

use cardless_contract::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::minor;
use super::model::{Completion, Refund, Void};
use super::payment::record;
use super::webhook::{Entity, Event};
use super::{Answer, Fault, PostFinance, Reply, body, next_id, one_of};
use crate::dialect::{Call, Mode, PENDING_SECONDS, World};
use crate::ledger::EntryKind;

/// The longest `externalId`, in bytes (§3.4).
const MAX_EXTERNAL_ID_BYTES: usize = 100;

/// Quantities are reckoned in millionths.
const QUANTITY_DECIMALS: u32 = 6;

const REFUND_TYPE: &[&str] = &[
    "MERCHANT_INITIATED_ONLINE",
    "MERCHANT_INITIATED_OFFLINE",
    "CUSTOMER_INITIATED_AUTOMATIC",
    "CUSTOMER_INITIATED_MANUAL",
];

/// `TransactionCompletionDetails`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompletionBody {
    external_id: Option<String>,
    line_items: Option<Vec<CompletionItem>>,
    last_completion: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CompletionItem {
    unique_id: String,
    amount: Box<RawValue>,
    #[serde(rename = "quantity")]
    _quantity: Box<RawValue>,
}

/// `RefundCreate`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefundBody {
    external_id: String,
    r#type: String,
    transaction: Option<i64>,
    completion: Option<i64>,
    amount: Option<Box<RawValue>>,
    merchant_reference: Option<String>,
    #[serde(default)]
    reductions: Vec<Reduction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reduction {
    line_item_unique_id: String,
    quantity_reduction: Box<RawValue>,
    unit_price_reduction: Box<RawValue>,
}

impl PostFinance {
    /// The verbs of a transaction that move money.
    pub(super) fn operate(
        &mut self,
        id: i64,
        verb: &str,
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        match verb {
            "complete-online" => self.complete_all(id, "ONLINE", call.mode, world),
            "complete-offline" => self.complete_all(id, "OFFLINE", call.mode, world),
            "complete-partially-online" => self.complete_part(id, "ONLINE", call, world),
            "complete-partially-offline" => self.complete_part(id, "OFFLINE", call, world),
            "void-online" => self.void(id, "ONLINE", call.mode, world),
            "void-offline" => self.void(id, "OFFLINE", call.mode, world),
            _ => Err(Fault::not_found()),
        }
    }

    pub(super) fn create_refund(&mut self, call: &Call, world: &mut World<'_>) -> Answer {
        let body: RefundBody = body(call)?;
        check_external_id(&body.external_id)?;
        let kind = one_of(Some(body.r#type.clone()), REFUND_TYPE)?.unwrap_or_default();
        let transaction = self.refunded_transaction(&body)?;
        // A repeat under the same key answers with the first result (§3.6).
        let repeated = self.refunds.values().find(|refund| {
            refund.transaction == transaction && refund.external_id == body.external_id
        });
        if let Some(first) = repeated {
            return Ok(Reply::Json(201, self.show_refund(first)));
        }
        let minor = self.refund_amount(transaction, &body)?;
        let (state, due) = begin(call.mode, world.now);
        let refund = Refund {
            id: next_id(world),
            transaction,
            completion: body.completion,
            state: "CREATE",
            kind,
            external_id: body.external_id,
            merchant_reference: body.merchant_reference,
            currency: self.transaction(transaction)?.currency,
            minor,
            created: world.now,
            due,
        };
        let id = refund.id;
        self.refunds.insert(id, refund);
        self.conclude_refund(id, state, world);
        self.shown_refund(id, 201)
    }

    /// For refunds that somebody does by hand.
    pub(super) fn mark_refund(&mut self, id: i64, verb: &str, world: &mut World<'_>) -> Answer {
        let state = match verb {
            "mark-succeeded" => "SUCCESSFUL",
            "mark-failed" => "FAILED",
            _ => return Err(Fault::not_found()),
        };
        let refund = self.refunds.get(&id).ok_or(Fault::not_found())?;
        if matches!(refund.state, "SUCCESSFUL" | "FAILED") {
            return Err(Fault::unprocessable("The refund has concluded."));
        }
        self.conclude_refund(id, state, world);
        self.shown_refund(id, 200)
    }

    /// Concludes what is due.
    pub(super) fn conclude_operations(&mut self, world: &mut World<'_>) {
        let now = world.now;
        let is_due = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let due = self
            .completions
            .values()
            .filter(|it| is_due(it.due))
            .map(|it| it.id);
        for id in due.collect::<Vec<_>>() {
            self.conclude_completion(id, "SUCCESSFUL", world);
        }
        let due = self
            .voids
            .values()
            .filter(|it| is_due(it.due))
            .map(|it| it.id);
        for id in due.collect::<Vec<_>>() {
            self.conclude_void(id, "SUCCESSFUL", world);
        }
        let due = self
            .refunds
            .values()
            .filter(|it| is_due(it.due))
            .map(|it| it.id);
        for id in due.collect::<Vec<_>>() {
            self.conclude_refund(id, "SUCCESSFUL", world);
        }
    }

    /// Takes all that is left. On a transaction that is complete, the vendor's tests see its last
    /// completion again (§3.4).
    fn complete_all(
        &mut self,
        id: i64,
        mode: &'static str,
        how: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        if matches!(self.transaction(id)?.state, "COMPLETED" | "FULFILL") {
            let last = self.completions.values().rfind(|it| it.transaction == id);
            return super::found(last.map(Completion::show));
        }
        self.complete(id, mode, CompletionBody::default(), how, world)
    }

    fn complete_part(
        &mut self,
        id: i64,
        mode: &'static str,
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        let body: CompletionBody = body(call)?;
        if let Some(key) = &body.external_id {
            check_external_id(key)?;
            let repeated = self.completions.values().find(|completion| {
                completion.transaction == id && completion.external_id.as_ref() == Some(key)
            });
            if let Some(first) = repeated {
                return Ok(Reply::Json(200, first.show()));
            }
        }
        self.complete(id, mode, body, call.mode, world)
    }

    fn complete(
        &mut self,
        id: i64,
        mode: &'static str,
        body: CompletionBody,
        how: Mode,
        world: &mut World<'_>,
    ) -> Answer {
        let transaction = self.transaction(id)?;
        if transaction.state != "AUTHORIZED" || self.has_open_void(id) {
            return Err(Fault::unprocessable(
                "Only an authorized transaction can be completed.",
            ));
        }
        let currency = transaction.currency;
        let left = transaction.total().saturating_sub(self.completing(id));
        let minor = match &body.line_items {
            Some(items) if !items.is_empty() => self.completed_amount(id, items)?,
            Some(_) | None => left,
        };
        if minor > left || minor < 0 || (minor == 0 && transaction.total() > 0) {
            return Err(Fault::unprocessable(
                "The amount exceeds what is left to complete.",
            ));
        }
        let (state, due) = begin(how, world.now);
        let completion = Completion {
            id: next_id(world),
            transaction: id,
            state: "CREATE",
            mode,
            external_id: body.external_id,
            currency,
            minor,
            last: body.last_completion.unwrap_or(minor == left),
            created: world.now,
            due,
        };
        let number = completion.id;
        self.completions.insert(number, completion);
        self.conclude_completion(number, state, world);
        super::found(self.completions.get(&number).map(Completion::show))
    }

    fn void(&mut self, id: i64, mode: &'static str, how: Mode, world: &mut World<'_>) -> Answer {
        let authorized = self.transaction(id)?.state == "AUTHORIZED";
        if !authorized || self.completing(id) > 0 || self.has_open_void(id) {
            return Err(Fault::unprocessable(
                "Only an authorized transaction can be voided.",
            ));
        }
        let (state, due) = begin(how, world.now);
        let created = world.now;
        let void = Void {
            id: next_id(world),
            transaction: id,
            state: "CREATE",
            mode,
            created,
            due,
        };
        let number = void.id;
        self.voids.insert(number, void);
        self.conclude_void(number, state, world);
        super::found(self.voids.get(&number).map(|void| self.show_void(void)))
    }

    fn conclude_completion(&mut self, id: i64, state: &'static str, world: &mut World<'_>) {
        let Some(completion) = self.completions.get_mut(&id) else {
            return;
        };
        completion.state = state;
        if state != "PENDING" {
            completion.due = None;
        }
        self.events.push(Event {
            entity: Entity::Completion,
            id,
            state,
        });
        if state != "SUCCESSFUL" {
            return;
        }
        let (of, minor, last) = (completion.transaction, completion.minor, completion.last);
        let Some(transaction) = self.transactions.get_mut(&of) else {
            return;
        };
        transaction.completed = transaction.completed.saturating_add(minor);
        transaction.completed_on = Some(world.now);
        transaction.version += 1;
        record(world, EntryKind::Capture, transaction.currency, minor, of);
        if last || transaction.completed >= transaction.total() {
            self.enter(of, "FULFILL");
        }
    }

    fn conclude_void(&mut self, id: i64, state: &'static str, world: &mut World<'_>) {
        let Some(void) = self.voids.get_mut(&id) else {
            return;
        };
        void.state = state;
        if state != "PENDING" {
            void.due = None;
        }
        let of = void.transaction;
        self.events.push(Event {
            entity: Entity::Void,
            id,
            state,
        });
        if state != "SUCCESSFUL" {
            return;
        }
        let Some(transaction) = self.transactions.get(&of) else {
            return;
        };
        record(
            world,
            EntryKind::Void,
            transaction.currency,
            transaction.total(),
            of,
        );
        self.enter(of, "VOIDED");
    }

    fn conclude_refund(&mut self, id: i64, state: &'static str, world: &mut World<'_>) {
        let Some(refund) = self.refunds.get_mut(&id) else {
            return;
        };
        refund.state = state;
        if state != "PENDING" {
            refund.due = None;
        }
        let (of, minor) = (refund.transaction, refund.minor);
        self.events.push(Event {
            entity: Entity::Refund,
            id,
            state,
        });
        if state != "SUCCESSFUL" {
            return;
        }
        let Some(transaction) = self.transactions.get_mut(&of) else {
            return;
        };
        transaction.refunded = transaction.refunded.saturating_add(minor);
        transaction.version += 1;
        record(world, EntryKind::Refund, transaction.currency, minor, of);
    }

    fn shown_refund(&self, id: i64, status: u16) -> Answer {
        let refund = self.refunds.get(&id).ok_or(Fault::not_found())?;
        Ok(Reply::Json(status, self.show_refund(refund)))
    }

    /// What is captured, or may still be.
    fn completing(&self, transaction: i64) -> i64 {
        self.completions
            .values()
            .filter(|it| it.transaction == transaction && it.state != "FAILED")
            .fold(0, |sum, it| sum.saturating_add(it.minor))
    }

    /// What is refunded, or may still be.
    fn refunding(&self, transaction: i64) -> i64 {
        self.refunds
            .values()
            .filter(|it| it.transaction == transaction && it.state != "FAILED")
            .fold(0, |sum, it| sum.saturating_add(it.minor))
    }

    fn has_open_void(&self, transaction: i64) -> bool {
        self.voids
            .values()
            .any(|it| it.transaction == transaction && it.state == "PENDING")
    }

    fn completed_amount(&self, id: i64, items: &[CompletionItem]) -> Result<i64, Fault> {
        let transaction = self.transaction(id)?;
        let mut sum: i64 = 0;
        for item in items {
            if !transaction
                .line_items
                .iter()
                .any(|it| it.unique_id == item.unique_id)
            {
                return Err(Fault::unprocessable("There is no such line item."));
            }
            let minor = minor(transaction.currency, &item.amount).ok_or(Fault::unprocessable(
                "The amount does not fit the currency.",
            ))?;
            sum = sum.saturating_add(minor);
        }
        Ok(sum)
    }

    fn refunded_transaction(&self, body: &RefundBody) -> Result<i64, Fault> {
        let by_completion = match body.completion {
            Some(id) => {
                let completion = self.completions.get(&id);
                Some(
                    completion
                        .ok_or(Fault::unprocessable("No such completion."))?
                        .transaction,
                )
            }
            None => None,
        };
        let id = body
            .transaction
            .or(by_completion)
            .ok_or(Fault::invalid("transaction or completion is required."))?;
        if self.transactions.contains_key(&id) {
            Ok(id)
        } else {
            Err(Fault::unprocessable("There is no such transaction."))
        }
    }

    /// The amount of a refund, within what is left to give back.
    fn refund_amount(&self, id: i64, body: &RefundBody) -> Result<i64, Fault> {
        let transaction = self.transaction(id)?;
        let left = transaction.completed.saturating_sub(self.refunding(id));
        let does_not_fit = Fault::unprocessable("The amount does not fit the currency.");
        let named = match body.amount.as_deref() {
            Some(raw) => Some(minor(transaction.currency, raw).ok_or(does_not_fit)?),
            None => None,
        };
        let reduced = if body.reductions.is_empty() {
            None
        } else {
            Some(self.reduced_amount(id, &body.reductions)?)
        };
        let minor = match (named, reduced) {
            (Some(named), Some(reduced)) if named != reduced => {
                return Err(Fault::unprocessable("amount and reductions do not agree."));
            }
            (Some(minor), _) | (None, Some(minor)) => minor,
            (None, None) => return Err(Fault::unprocessable("amount or reductions is required.")),
        };
        if minor < 1 || minor > left {
            return Err(Fault::unprocessable(
                "The amount exceeds what is left to refund.",
            ));
        }
        Ok(minor)
    }

    /// `quantityReduction × unitPrice + (quantity − quantityReduction) × unitPriceReduction` per
    /// line (§3.6), rounded down to the smallest unit.
    fn reduced_amount(&self, id: i64, reductions: &[Reduction]) -> Result<i64, Fault> {
        let transaction = self.transaction(id)?;
        let bad = Fault::unprocessable("A reduction does not fit its line item.");
        let mut sum: i64 = 0;
        for reduction in reductions {
            let named = &reduction.line_item_unique_id;
            let item = transaction
                .line_items
                .iter()
                .find(|it| it.unique_id == *named)
                .ok_or(bad)?;
            let quantity = millionths(&item.quantity).filter(|it| *it > 0).ok_or(bad)?;
            let fewer = millionths(reduction.quantity_reduction.get()).ok_or(bad)?;
            let cheaper =
                minor(transaction.currency, &reduction.unit_price_reduction).ok_or(bad)?;
            let kept = quantity
                .checked_sub(fewer)
                .filter(|kept| *kept >= 0)
                .ok_or(bad)?;
            let whole = i128::from(item.minor).saturating_mul(fewer);
            let part = kept
                .saturating_mul(i128::from(cheaper))
                .checked_div(ONE)
                .ok_or(bad)?;
            let line = whole.checked_div(quantity).ok_or(bad)?.saturating_add(part);
            sum = sum.saturating_add(i64::try_from(line).map_err(|_| bad)?);
        }
        Ok(sum)
    }
}

/// One, in millionths.
const ONE: i128 = 1_000_000;

/// How an operation begins: concluded, refused, or open until the clock has moved.
fn begin(mode: Mode, now: Timestamp) -> (&'static str, Option<Timestamp>) {
    match mode {
        Mode::Normal => ("SUCCESSFUL", None),
        Mode::Decline => ("FAILED", None),
        Mode::Pending => (
            "PENDING",
            Some(now.plus(Duration::from_secs(PENDING_SECONDS))),
        ),
    }
}

fn check_external_id(text: &str) -> Result<(), Fault> {
    let printable = text
        .bytes()
        .all(|byte| byte == b'\t' || (0x20..=0x7e).contains(&byte));
    if printable && (1..=MAX_EXTERNAL_ID_BYTES).contains(&text.len()) {
        Ok(())
    } else {
        Err(Fault::invalid(
            "externalId must have 1 to 100 printable characters.",
        ))
    }
}

/// A quantity of at most six decimals, in millionths.
fn millionths(text: &str) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let places = usize::try_from(QUANTITY_DECIMALS).ok()?;
    if fraction.len() > places || whole.is_empty() {
        return None;
    }
    let digits = format!("{whole}{fraction:0<places$}");
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}
