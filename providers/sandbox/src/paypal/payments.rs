//! Payments v2: authorizations, captures, refunds.

use std::time::Duration;

use cardless_contract::{Money, Timestamp};
use http::Method;
use serde_json::{Value, json};

use super::orders::{Order, put, set};
use super::reply::{self, Problem, Reply, link, read_money, show_money};
use super::{Ask, PayPal, Target};
use crate::dialect::{Mode, PENDING_SECONDS, World};
use crate::ledger::EntryKind;

/// An authorization can be renewed from this age on (3 days).
const HONOR_PERIOD: Duration = Duration::from_secs(3 * 24 * 3600);

type Routed = Result<(Reply, Option<Target>), Problem>;

/// A hold.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) id: String,
    pub(crate) status: &'static str,
    pub(crate) amount: Money,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) due: Option<Timestamp>,
}

/// Money that was taken, or will be.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) amount: Money,
    pub(crate) invoice_id: Option<String>,
    pub(crate) last: bool,
    /// The customer's bank has taken it back.
    pub(crate) reversed: bool,
    pub(crate) created: Timestamp,
    pub(crate) due: Option<Timestamp>,
}

/// Money that was given back, or will be.
#[derive(Debug)]
pub(crate) struct Refund {
    pub(crate) id: String,
    capture: String,
    state: State,
    amount: Money,
    invoice_id: Option<String>,
    custom_id: Option<String>,
    created: Timestamp,
    pub(crate) due: Option<Timestamp>,
}

/// How far a movement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Done,
}

impl Authorization {
    pub(crate) fn show(&self, order: &Order, base: &str) -> Value {
        let own = format!("{base}/v2/payments/authorizations/{}", self.id);
        let mut shown = json!({
            "id": self.id, "status": self.status, "amount": show_money(self.amount),
            "seller_protection": {"status": "NOT_ELIGIBLE"},
            "expiration_time": reply::time(self.expires),
            "create_time": reply::time(self.created),
            "supplementary_data": {"related_ids": {"order_id": order.id}},
            "links": [
                link("self", &own, "GET"),
                link("capture", &format!("{own}/capture"), "POST"),
                link("void", &format!("{own}/void"), "POST"),
                link("up", &format!("{base}/v2/checkout/orders/{}", order.id), "GET"),
            ],
        });
        set(&mut shown, "custom_id", order.custom_id.as_deref());
        set(&mut shown, "invoice_id", order.invoice_id.as_deref());
        if self.status == "PENDING" {
            put(
                &mut shown,
                "status_details",
                json!({"reason": "PENDING_REVIEW"}),
            );
        }
        shown
    }
}

impl Capture {
    pub(crate) fn show(&self, order: &Order, base: &str) -> Value {
        let own = format!("{base}/v2/payments/captures/{}", self.id);
        let status = match self.state {
            State::Pending => "PENDING",
            State::Done => order.status_of(self),
        };
        let mut shown = json!({
            "id": self.id, "status": status, "amount": show_money(self.amount),
            "final_capture": self.last,
            "seller_protection": {"status": "NOT_ELIGIBLE"},
            "create_time": reply::time(self.created),
            "supplementary_data": {"related_ids": {"order_id": order.id}},
            "links": [
                link("self", &own, "GET"),
                link("refund", &format!("{own}/refund"), "POST"),
                link("up", &format!("{base}/v2/checkout/orders/{}", order.id), "GET"),
            ],
        });
        set(&mut shown, "custom_id", order.custom_id.as_deref());
        set(&mut shown, "invoice_id", self.invoice_id.as_deref());
        if self.state == State::Pending {
            put(
                &mut shown,
                "status_details",
                json!({"reason": "PENDING_REVIEW"}),
            );
        }
        shown
    }
}

impl Refund {
    pub(crate) fn show(&self, order: &Order, base: &str) -> Value {
        let capture = format!("{base}/v2/payments/captures/{}", self.capture);
        let own = format!("{base}/v2/payments/refunds/{}", self.id);
        let total = order.refunded_of(&self.capture, |refund| refund.state == State::Done);
        let mut shown = json!({
            "id": self.id, "amount": show_money(self.amount),
            "status": if self.state == State::Done { "COMPLETED" } else { "PENDING" },
            "seller_payable_breakdown": {"total_refunded_amount": show_money(total)},
            "create_time": reply::time(self.created),
            "links": [link("self", &own, "GET"), link("up", &capture, "GET")],
        });
        set(&mut shown, "custom_id", self.custom_id.as_deref());
        set(&mut shown, "invoice_id", self.invoice_id.as_deref());
        if self.state == State::Pending {
            put(&mut shown, "status_details", json!({"reason": "ECHECK"}));
        }
        shown
    }
}

impl Order {
    fn status_of(&self, capture: &Capture) -> &'static str {
        let back = self.refunded_of(&capture.id, |refund| refund.state == State::Done);
        if capture.reversed {
            "REFUNDED"
        } else if back.is_zero() {
            "COMPLETED"
        } else if back == capture.amount {
            "REFUNDED"
        } else {
            "PARTIALLY_REFUNDED"
        }
    }

    fn refunded_of(&self, capture: &str, counts: impl Fn(&Refund) -> bool) -> Money {
        let all = self
            .refunds
            .iter()
            .filter(|refund| refund.capture == capture && counts(refund));
        sum(self.amount, all.map(|refund| refund.amount))
    }

    fn captured(&self) -> Money {
        sum(
            self.amount,
            self.captures.iter().map(|capture| capture.amount),
        )
    }
}

impl PayPal {
    pub(super) fn route_payments(
        &mut self,
        rest: &[&str],
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Routed {
        let base = world.base;
        let found = |value: Option<Value>| {
            let value = value.ok_or(Problem::not_found())?;
            Ok((Reply::json(200, value), None))
        };
        match (&ask.call.method, rest) {
            (&Method::GET, ["authorizations", id]) => found(self.show_authorization(id, base)),
            (&Method::POST, ["authorizations", id, "capture"]) => self.capture_hold(id, ask, world),
            (&Method::POST, ["authorizations", id, "void"]) => self.void_hold(id, ask, world),
            (&Method::POST, ["authorizations", id, "reauthorize"]) => {
                self.renew_hold(id, ask, world)
            }
            (&Method::GET, ["captures", id]) => found(self.show_capture(id, base)),
            (&Method::POST, ["captures", id, "refund"]) => self.give_back(id, ask, world),
            (&Method::GET, ["refunds", id]) => found(self.show_refund(id, base)),
            _ => Err(Problem::not_found()),
        }
    }

    fn capture_hold(&mut self, id: &str, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let order = self.owner(id)?;
        let own = order.id.clone();
        let held = order.authorization.as_ref().ok_or(Problem::not_found())?;
        check_hold(held, world.now)?;
        let left = held.amount.minus(order.captured());
        let left = left.map_err(|_| Problem::issue(422, "AUTHORIZATION_ALREADY_CAPTURED"))?;
        let amount = match ask.body.get("amount") {
            Some(amount) => read_money(Some(amount))?,
            None => left,
        };
        if amount.currency() != left.currency() {
            return Err(Problem::issue(422, "AUTH_CAPTURE_CURRENCY_MISMATCH"));
        }
        let rest = left.minus(amount);
        let rest = rest.map_err(|_| Problem::issue(422, "MAX_CAPTURE_AMOUNT_EXCEEDED"))?;
        let invoice = ask
            .text("/invoice_id")
            .map(str::to_owned)
            .or_else(|| order.invoice_id.clone());
        if invoice
            .as_ref()
            .is_some_and(|invoice| self.is_invoice_taken(invoice, &own))
        {
            return Err(Problem::issue(422, "DUPLICATE_INVOICE_ID"));
        }
        if ask.call.mode == Mode::Decline {
            return Err(Problem::issue(422, "TRANSACTION_REFUSED"));
        }
        let last = ask
            .body
            .get("final_capture")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        let due = due(ask, world);
        let capture = Capture {
            id: reply::id("CAP", world.next_id()),
            state: if due.is_some() {
                State::Pending
            } else {
                State::Done
            },
            amount,
            invoice_id: invoice,
            last,
            reversed: false,
            created: world.now,
            due,
        };
        let capture_id = capture.id.clone();
        let order = self.order_mut(&own)?;
        order.captures.push(capture);
        if let Some(held) = &mut order.authorization {
            held.status = if last || rest.is_zero() {
                "CAPTURED"
            } else {
                "PARTIALLY_CAPTURED"
            };
        }
        self.owners.insert(capture_id.clone(), own.clone());
        self.capture_moved(&own, &capture_id, world);
        let shown = self
            .show_capture(&capture_id, world.base)
            .unwrap_or_default();
        Ok((
            Reply::json(201, brief(shown, ask.full)),
            Some(Target::Capture(capture_id)),
        ))
    }

    fn void_hold(&mut self, id: &str, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let order = self.owner(id)?;
        let own = order.id.clone();
        let held = order.authorization.as_ref().ok_or(Problem::not_found())?;
        match held.status {
            "VOIDED" => return Err(Problem::issue(422, "PREVIOUSLY_VOIDED")),
            "CAPTURED" => return Err(Problem::issue(422, "PREVIOUSLY_CAPTURED")),
            "PENDING" => return Err(Problem::issue(422, "CANNOT_BE_VOIDED")),
            _ => {}
        }
        if ask.call.mode == Mode::Decline {
            return Err(Problem::issue(422, "CANNOT_BE_VOIDED"));
        }
        let left = held.amount.minus(order.captured()).unwrap_or(held.amount);
        let id = held.id.clone();
        if let Some(held) = &mut self.order_mut(&own)?.authorization {
            held.status = "VOIDED";
        }
        world.record(EntryKind::Void, left, &own);
        let shown = self.show_authorization(&id, world.base).unwrap_or_default();
        self.emit(
            "PAYMENT.AUTHORIZATION.VOIDED",
            "authorization",
            shown.clone(),
            world,
        );
        let reply = if ask.full {
            Reply::json(200, shown)
        } else {
            Reply::Empty(204)
        };
        Ok((reply, Some(Target::Authorization(id))))
    }

    /// A new id and new days for the same hold.
    fn renew_hold(&mut self, id: &str, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let own = self.owner(id)?.id.clone();
        let new = reply::id("AUT", world.next_id());
        let now = world.now;
        let held = self
            .order_mut(&own)?
            .authorization
            .as_mut()
            .ok_or(Problem::not_found())?;
        check_hold(held, now)?;
        if held.id != id {
            return Err(Problem::issue(422, "REAUTHORIZATION_NOT_SUPPORTED"));
        }
        if now < held.created.plus(HONOR_PERIOD) {
            return Err(Problem::issue(422, "REAUTHORIZATION_TOO_SOON"));
        }
        held.id.clone_from(&new);
        held.created = now;
        self.owners.insert(new.clone(), own);
        let shown = self
            .show_authorization(&new, world.base)
            .unwrap_or_default();
        Ok((
            Reply::json(201, brief(shown, ask.full)),
            Some(Target::Authorization(new)),
        ))
    }

    fn give_back(&mut self, id: &str, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let order = self.owner(id)?;
        let own = order.id.clone();
        let capture = order.captures.iter().find(|capture| capture.id == id);
        let capture = capture.ok_or(Problem::not_found())?;
        if capture.state == State::Pending {
            return Err(Problem::issue(422, "PENDING_CAPTURE"));
        }
        if capture.reversed {
            return Err(Problem::issue(
                422,
                "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK",
            ));
        }
        let left = capture
            .amount
            .minus(order.refunded_of(id, |_| true))
            .unwrap_or(capture.amount);
        if left.is_zero() {
            return Err(Problem::issue(422, "CAPTURE_FULLY_REFUNDED"));
        }
        let amount = match ask.body.get("amount") {
            Some(amount) => read_money(Some(amount))?,
            None => left,
        };
        if amount.currency() != left.currency() {
            return Err(Problem::issue(422, "REFUND_CAPTURE_CURRENCY_MISMATCH"));
        }
        if left.minus(amount).is_err() {
            return Err(Problem::issue(422, "REFUND_AMOUNT_EXCEEDED"));
        }
        if ask.call.mode == Mode::Decline {
            return Err(Problem::issue(422, "REFUND_NOT_ALLOWED"));
        }
        let due = due(ask, world);
        let refund = Refund {
            id: reply::id("REF", world.next_id()),
            capture: id.to_owned(),
            state: if due.is_some() {
                State::Pending
            } else {
                State::Done
            },
            amount,
            invoice_id: ask.text("/invoice_id").map(str::to_owned),
            custom_id: ask.text("/custom_id").map(str::to_owned),
            created: world.now,
            due,
        };
        let refund_id = refund.id.clone();
        self.order_mut(&own)?.refunds.push(refund);
        self.owners.insert(refund_id.clone(), own.clone());
        self.refund_moved(&own, &refund_id, world);
        let shown = self.show_refund(&refund_id, world.base).unwrap_or_default();
        Ok((
            Reply::json(201, brief(shown, ask.full)),
            Some(Target::Refund(refund_id)),
        ))
    }

    /// Writes a capture into the ledger once it is done, and tells of it.
    pub(super) fn capture_moved(&mut self, own: &str, id: &str, world: &mut World<'_>) {
        let Some(order) = self.orders.get(own) else {
            return;
        };
        let Some(capture) = order.captures.iter().find(|capture| capture.id == id) else {
            return;
        };
        if let Some(invoice) = capture.invoice_id.clone() {
            self.invoices
                .entry(invoice)
                .or_insert_with(|| own.to_owned());
        }
        let resource = capture.show(order, world.base);
        let name = match capture.state {
            State::Pending => "PAYMENT.CAPTURE.PENDING",
            State::Done => {
                world.record(EntryKind::Capture, capture.amount, own);
                "PAYMENT.CAPTURE.COMPLETED"
            }
        };
        self.emit(name, "capture", resource, world);
    }

    /// The bank takes back all that an order took: no refund is made, and no movement of ours.
    pub(super) fn reverse_order(&mut self, id: &str, world: &mut World<'_>) -> bool {
        let Some(order) = self.orders.get_mut(id) else {
            return false;
        };
        let mut taken = Vec::new();
        for capture in &mut order.captures {
            if capture.state == State::Done && !capture.reversed {
                capture.reversed = true;
                taken.push(capture.id.clone());
            }
        }
        for id in &taken {
            let shown = self.show_capture(id, world.base).unwrap_or_default();
            self.emit("PAYMENT.CAPTURE.REVERSED", "capture", shown, world);
        }
        !taken.is_empty()
    }

    fn refund_moved(&mut self, own: &str, id: &str, world: &mut World<'_>) {
        let Some(order) = self.orders.get(own) else {
            return;
        };
        let Some(refund) = order.refunds.iter().find(|refund| refund.id == id) else {
            return;
        };
        let resource = refund.show(order, world.base);
        let name = match refund.state {
            State::Pending => "PAYMENT.REFUND.PENDING",
            State::Done => {
                world.record(EntryKind::Refund, refund.amount, own);
                "PAYMENT.CAPTURE.REFUNDED"
            }
        };
        self.emit(name, "refund", resource, world);
    }

    /// Concludes what is due in one order, and lets its hold lapse.
    pub(super) fn tick_payments(&mut self, own: &str, world: &mut World<'_>) {
        let now = world.now;
        let is_due = |due: &mut Option<Timestamp>| due.take_if(|at| *at <= now).is_some();
        let Some(order) = self.orders.get_mut(own) else {
            return;
        };
        let mut captures = Vec::new();
        for capture in &mut order.captures {
            if is_due(&mut capture.due) {
                capture.state = State::Done;
                captures.push(capture.id.clone());
            }
        }
        let mut refunds = Vec::new();
        for refund in &mut order.refunds {
            if is_due(&mut refund.due) {
                refund.state = State::Done;
                refunds.push(refund.id.clone());
            }
        }
        let mut held_now = false;
        let mut lapsed = None;
        if let Some(held) = &mut order.authorization {
            held_now = is_due(&mut held.due);
            if held_now {
                held.status = "CREATED";
            }
            let open = matches!(held.status, "CREATED" | "PARTIALLY_CAPTURED");
            if open && held.expires <= now {
                held.status = "VOIDED";
                lapsed = Some(held.id.clone());
            }
        }
        if held_now {
            self.authorization_moved(own, world);
        }
        for id in captures {
            self.capture_moved(own, &id, world);
        }
        for id in refunds {
            self.refund_moved(own, &id, world);
        }
        if let Some(shown) = lapsed.and_then(|id| self.show_authorization(&id, world.base)) {
            self.emit(
                "PAYMENT.AUTHORIZATION.VOIDED",
                "authorization",
                shown,
                world,
            );
        }
    }

    pub(super) fn show_authorization(&self, id: &str, base: &str) -> Option<Value> {
        let order = self.owner(id).ok()?;
        order
            .authorization
            .as_ref()
            .map(|held| held.show(order, base))
    }

    pub(super) fn show_capture(&self, id: &str, base: &str) -> Option<Value> {
        let order = self.owner(id).ok()?;
        let capture = order.captures.iter().find(|capture| capture.id == id)?;
        Some(capture.show(order, base))
    }

    pub(super) fn show_refund(&self, id: &str, base: &str) -> Option<Value> {
        let order = self.owner(id).ok()?;
        let refund = order.refunds.iter().find(|refund| refund.id == id)?;
        Some(refund.show(order, base))
    }

    /// The order that an authorization, capture or refund belongs to.
    fn owner(&self, id: &str) -> Result<&Order, Problem> {
        let own = self.owners.get(id).ok_or(Problem::not_found())?;
        self.orders.get(own).ok_or(Problem::not_found())
    }
}

fn check_hold(held: &Authorization, now: Timestamp) -> Result<(), Problem> {
    if held.expires <= now {
        return Err(Problem::issue(422, "AUTHORIZATION_EXPIRED"));
    }
    match held.status {
        "VOIDED" => Err(Problem::issue(422, "AUTHORIZATION_VOIDED")),
        "CAPTURED" => Err(Problem::issue(422, "AUTHORIZATION_ALREADY_CAPTURED")),
        "PENDING" => Err(Problem::issue(422, "AUTHORIZATION_PENDING")),
        _ => Ok(()),
    }
}

fn due(ask: &Ask<'_>, world: &World<'_>) -> Option<Timestamp> {
    let pending = ask.call.mode == Mode::Pending;
    pending.then(|| world.now.plus(Duration::from_secs(PENDING_SECONDS)))
}

/// `return=minimal`: id, status, links.
fn brief(mut shown: Value, full: bool) -> Value {
    if let Some(object) = shown.as_object_mut()
        && !full
    {
        object.retain(|name, _| matches!(name.as_str(), "id" | "status" | "links"));
    }
    shown
}

fn sum(like: Money, amounts: impl Iterator<Item = Money>) -> Money {
    let zero = Money::zero(like.currency());
    amounts.fold(zero, |sum, money| sum.plus(money).unwrap_or(sum))
}
