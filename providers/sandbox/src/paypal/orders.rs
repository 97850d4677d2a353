//! Orders v2.

use std::time::Duration;

use cardless_contract::{Money, Timestamp};
use http::Method;
use serde_json::{Value, json};

use super::payments::{Authorization, Capture, Refund, State};
use super::reply::{self, Problem, Reply, link, read_money, show_money};
use super::{Ask, PayPal, Target, parameter};
use crate::dialect::{Call, Mode, PENDING_SECONDS, World};
use crate::ledger::EntryKind;
use crate::page::{self, Decision};

/// How long an order stays open without a payment (6 h).
const OPEN_FOR: Duration = Duration::from_secs(6 * 3600);
/// How long an authorization holds (29 days).
const HOLD_FOR: Duration = Duration::from_secs(29 * 24 * 3600);

type Routed = Result<(Reply, Option<Target>), Problem>;

/// An order.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    intent: Intent,
    status: &'static str,
    pub(crate) amount: Money,
    reference_id: String,
    pub(crate) custom_id: Option<String>,
    pub(crate) invoice_id: Option<String>,
    description: Option<String>,
    /// Whether a payment source is known, so that an approved order can be paid without one.
    has_source: bool,
    return_url: Option<String>,
    cancel_url: Option<String>,
    created: Timestamp,
    /// A fault that met the creation and shall befall the payment.
    mode: Mode,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) captures: Vec<Capture>,
    pub(crate) refunds: Vec<Refund>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Capture,
    Authorize,
}

/// Whom a payment source lets be charged.
enum Source {
    /// A saved method, charged without the customer.
    Merchant,
    /// The customer must approve first.
    Customer,
}

impl Order {
    pub(crate) fn show(&self, full: bool, base: &str) -> Value {
        let mut order = json!({"id": self.id, "status": self.status, "links": self.links(base)});
        if !full {
            return order;
        }
        let mut unit =
            json!({"reference_id": self.reference_id, "amount": show_money(self.amount)});
        set(&mut unit, "custom_id", self.custom_id.as_deref());
        set(&mut unit, "invoice_id", self.invoice_id.as_deref());
        set(&mut unit, "description", self.description.as_deref());
        if let Some(payments) = self.show_payments(base) {
            put(&mut unit, "payments", payments);
        }
        put(&mut order, "intent", self.intent.word().into());
        put(&mut order, "create_time", reply::time(self.created).into());
        put(&mut order, "purchase_units", json!([unit]));
        if self.has_source {
            put(
                &mut order,
                "payment_source",
                json!({"paypal": {
                "email_address": "buyer@sandbox.example", "account_id": "QYR5Z8XDVJNXQ",
                "account_status": "VERIFIED"}}),
            );
        }
        order
    }

    fn show_payments(&self, base: &str) -> Option<Value> {
        if self.authorization.is_none() && self.captures.is_empty() {
            return None;
        }
        let mut payments = json!({});
        if let Some(held) = &self.authorization {
            put(
                &mut payments,
                "authorizations",
                json!([held.show(self, base)]),
            );
        }
        if !self.captures.is_empty() {
            let all: Vec<Value> = self.captures.iter().map(|c| c.show(self, base)).collect();
            put(&mut payments, "captures", all.into());
        }
        if !self.refunds.is_empty() {
            let all: Vec<Value> = self.refunds.iter().map(|r| r.show(self, base)).collect();
            put(&mut payments, "refunds", all.into());
        }
        Some(payments)
    }

    fn links(&self, base: &str) -> Value {
        let own = format!("{base}/v2/checkout/orders/{}", self.id);
        let mut links = vec![link("self", &own, "GET")];
        let page = self.page(base);
        match self.status {
            "CREATED" => links.push(link("approve", &page, "GET")),
            "PAYER_ACTION_REQUIRED" => links.push(link("payer-action", &page, "GET")),
            _ => {}
        }
        if matches!(self.status, "CREATED" | "APPROVED") {
            let verb = self.intent.verb();
            links.push(link(verb, &format!("{own}/{verb}"), "POST"));
        }
        links.into()
    }

    /// Whether time alone changes nothing in it any more.
    fn is_settled(&self) -> bool {
        let held = self.authorization.as_ref();
        matches!(self.status, "COMPLETED" | "VOIDED")
            && held.is_none_or(|held| matches!(held.status, "VOIDED" | "CAPTURED"))
            && self.captures.iter().all(|capture| capture.due.is_none())
            && self.refunds.iter().all(|refund| refund.due.is_none())
    }

    fn page(&self, base: &str) -> String {
        format!("{base}/checkoutnow?token={}", self.id)
    }
}

impl Intent {
    const fn word(self) -> &'static str {
        match self {
            Self::Capture => "CAPTURE",
            Self::Authorize => "AUTHORIZE",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Authorize => "authorize",
        }
    }
}

impl PayPal {
    pub(super) fn route_orders(
        &mut self,
        rest: &[&str],
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Routed {
        match (&ask.call.method, rest) {
            (&Method::POST, []) => self.create_order(ask, world),
            (&Method::GET, [id]) => {
                let order = self.orders.get(*id).ok_or(Problem::not_found())?;
                Ok((Reply::json(200, order.show(true, world.base)), None))
            }
            (&Method::POST, [id, "confirm-payment-source"]) => self.confirm_source(id, ask, world),
            (&Method::POST, [id, "capture"]) => self.pay_order(id, Intent::Capture, ask, world),
            (&Method::POST, [id, "authorize"]) => self.pay_order(id, Intent::Authorize, ask, world),
            _ => Err(Problem::not_found()),
        }
    }

    fn create_order(&mut self, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let source = ask
            .body
            .get("payment_source")
            .filter(|source| !source.is_null());
        if source.is_some() && !ask.call.headers.contains_key("paypal-request-id") {
            return Err(Problem::issue(400, "PAYPAL_REQUEST_ID_REQUIRED"));
        }
        let mut order = read_order(ask, world)?;
        let id = order.id.clone();
        let Some(source) = source else {
            order.mode = ask.call.mode;
            self.orders.insert(id.clone(), order);
            self.restless.insert(id.clone());
            return Ok((
                self.order_reply(201, &id, ask.full, world),
                Some(Target::Order(id)),
            ));
        };
        // A refused source leaves no order behind. The published document lists another issue for
        // a token that is gone here than for the calls on an order.
        let source = self.check_source(source, "TOKEN_EXPIRED")?;
        order.has_source = true;
        let intent = order.intent;
        if matches!(source, Source::Merchant) && ask.call.mode == Mode::Decline {
            return Err(Problem::issue(422, "INSTRUMENT_DECLINED"));
        }
        self.orders.insert(id.clone(), order);
        self.restless.insert(id.clone());
        match source {
            Source::Merchant => self.execute(&id, intent, ask.call.mode, world)?,
            Source::Customer => self.set_status(&id, "PAYER_ACTION_REQUIRED"),
        }
        let status = if matches!(source, Source::Merchant) {
            201
        } else {
            200
        };
        Ok((
            self.order_reply(status, &id, ask.full, world),
            Some(Target::Order(id)),
        ))
    }

    fn confirm_source(&mut self, id: &str, ask: &Ask<'_>, world: &mut World<'_>) -> Routed {
        let source = ask.body.get("payment_source").ok_or(Problem::missing())?;
        let source = self.check_source(source, "TOKEN_ID_NOT_FOUND")?;
        take_addresses(self.order_mut(id)?, ask);
        let order = self.order_mut(id)?;
        if order.status == "COMPLETED" || order.status == "VOIDED" {
            return Err(Problem::issue(422, "ORDER_COMPLETED_OR_VOIDED"));
        }
        order.has_source = true;
        order.status = match source {
            Source::Merchant => "APPROVED",
            Source::Customer => "PAYER_ACTION_REQUIRED",
        };
        Ok((self.order_reply(200, id, ask.full, world), None))
    }

    /// Capture order, authorize order.
    fn pay_order(
        &mut self,
        id: &str,
        verb: Intent,
        ask: &Ask<'_>,
        world: &mut World<'_>,
    ) -> Routed {
        let order = self.orders.get(id).ok_or(Problem::not_found())?;
        check_payable(order, verb)?;
        let source = ask
            .body
            .get("payment_source")
            .filter(|source| !source.is_null());
        let check = |source| self.check_source(source, "TOKEN_ID_NOT_FOUND");
        let source = source.map(check).transpose()?;
        let page = order.page(world.base);
        let approved = order.status == "APPROVED";
        let own_mode = order.mode;
        match source {
            Some(Source::Customer) if !approved => {
                take_addresses(self.order_mut(id)?, ask);
                let order = self.order_mut(id)?;
                order.has_source = true;
                order.status = "PAYER_ACTION_REQUIRED";
                let problem = Problem::issue(422, "PAYER_ACTION_REQUIRED");
                return Err(problem.with_link("payer-action", &page));
            }
            None if !approved => {
                return Err(Problem::issue(422, "ORDER_NOT_APPROVED").with_link("approve", &page));
            }
            Some(_) | None => {}
        }
        let mode = if ask.call.mode == Mode::Normal {
            own_mode
        } else {
            ask.call.mode
        };
        if mode == Mode::Decline {
            self.order_mut(id)?.mode = Mode::Normal;
            return Err(Problem::issue(422, "INSTRUMENT_DECLINED"));
        }
        self.execute(id, verb, mode, world)?;
        Ok((
            self.order_reply(201, id, ask.full, world),
            Some(Target::Order(id.to_owned())),
        ))
    }

    /// Money moves, or will.
    fn execute(
        &mut self,
        id: &str,
        verb: Intent,
        mode: Mode,
        world: &mut World<'_>,
    ) -> Result<(), Problem> {
        let order = self.orders.get(id).ok_or(Problem::not_found())?;
        let invoice = order.invoice_id.clone();
        if let Some(invoice) = &invoice
            && self.is_invoice_taken(invoice, id)
        {
            return Err(Problem::issue(422, "DUPLICATE_INVOICE_ID"));
        }
        let due =
            (mode == Mode::Pending).then(|| world.now.plus(Duration::from_secs(PENDING_SECONDS)));
        let state = if due.is_some() {
            State::Pending
        } else {
            State::Done
        };
        let order = self.order_mut(id)?;
        let amount = order.amount;
        order.status = "COMPLETED";
        order.mode = Mode::Normal;
        order.has_source = true;
        match verb {
            Intent::Capture => {
                let own = reply::id("CAP", world.next_id());
                order.captures.push(Capture {
                    id: own.clone(),
                    state,
                    amount,
                    invoice_id: invoice,
                    last: true,
                    reversed: false,
                    created: world.now,
                    due,
                });
                self.owners.insert(own.clone(), id.to_owned());
                self.capture_moved(id, &own, world);
            }
            Intent::Authorize => {
                let own = reply::id("AUT", world.next_id());
                order.authorization = Some(Authorization {
                    id: own.clone(),
                    status: if due.is_some() { "PENDING" } else { "CREATED" },
                    amount,
                    created: world.now,
                    expires: world.now.plus(HOLD_FOR),
                    due,
                });
                self.owners.insert(own, id.to_owned());
                self.authorization_moved(id, world);
            }
        }
        Ok(())
    }

    /// Whether another order was captured under this invoice id.
    pub(super) fn is_invoice_taken(&self, invoice: &str, own: &str) -> bool {
        self.invoices.get(invoice).is_some_and(|order| order != own)
    }

    /// Writes an authorization that holds into the ledger, and tells of it.
    pub(super) fn authorization_moved(&mut self, id: &str, world: &mut World<'_>) {
        let Some(order) = self.orders.get(id) else {
            return;
        };
        let Some(held) = &order.authorization else {
            return;
        };
        let resource = held.show(order, world.base);
        if held.status == "CREATED" {
            world.record(EntryKind::Authorize, held.amount, id);
        }
        self.emit(
            "PAYMENT.AUTHORIZATION.CREATED",
            "authorization",
            resource,
            world,
        );
    }

    /// Checks a payment source, and says who must be there. `gone` is the issue of the call for a
    /// token that is not there.
    fn check_source(&self, source: &Value, gone: &'static str) -> Result<Source, Problem> {
        let text = |pointer: &str| source.pointer(pointer).and_then(Value::as_str);
        if source.get("card").is_some() {
            // The sandbox takes no card data either.
            return Err(Problem::issue(422, "NOT_ENABLED_FOR_CARD_PROCESSING"));
        }
        let agreement = text("/token/id").or_else(|| text("/paypal/billing_agreement_id"));
        if let Some(id) = agreement {
            let known = self.agreements.get(id);
            let known = known.ok_or(Problem::issue(422, "BILLING_AGREEMENT_NOT_FOUND"))?;
            if !known.active {
                return Err(Problem::issue(422, "AGREEMENT_ALREADY_CANCELLED"));
            }
            return Ok(Source::Merchant);
        }
        if source.get("paypal").is_none() {
            return Err(Problem::issue(400, "INVALID_PARAMETER_VALUE"));
        }
        let Some(id) = text("/paypal/vault_id") else {
            return Ok(Source::Customer);
        };
        if !self.vault.contains_key(id) {
            return Err(Problem::issue(422, gone));
        }
        match text("/paypal/stored_credential/payment_initiator") {
            Some("CUSTOMER") => Ok(Source::Customer),
            Some("MERCHANT") | None => Ok(Source::Merchant),
            Some(_) => Err(Problem::issue(400, "INVALID_PARAMETER_VALUE")),
        }
    }

    /// The page where a customer approves an order.
    pub(super) fn approve_order(&mut self, call: &Call, world: &mut World<'_>) -> Reply {
        let id = parameter(&call.query, "token").unwrap_or_default();
        let Some(order) = self.orders.get_mut(&id) else {
            return Reply::whole(page::html(404, "This order is not known.".to_owned()));
        };
        if call.method == Method::GET {
            let amount = order.amount.to_string();
            let lines = [("Order", order.id.as_str()), ("Amount", amount.as_str())];
            return Reply::whole(page::decision_page("PayPal sandbox: pay", &lines));
        }
        let Some(decision) = Decision::from_form(&call.body) else {
            return Reply::whole(page::html(400, "A decision is missing.".to_owned()));
        };
        let open = matches!(order.status, "CREATED" | "PAYER_ACTION_REQUIRED");
        let approved = decision == Decision::Approve;
        let to = if approved {
            order.return_url.clone()
        } else {
            order.cancel_url.clone()
        };
        if approved && open {
            order.status = "APPROVED";
            order.has_source = true;
            let resource = order.show(true, world.base);
            self.emit("CHECKOUT.ORDER.APPROVED", "checkout-order", resource, world);
        }
        Reply::whole(go_on(to.as_deref(), "token", &id))
    }

    /// Concludes what is pending, ends what has lapsed.
    pub(super) fn tick_orders(&mut self, world: &mut World<'_>) {
        for id in self.restless.clone() {
            self.tick_order(&id, world);
            self.tick_payments(&id, world);
            if self.orders.get(&id).is_none_or(Order::is_settled) {
                self.restless.remove(&id);
            }
        }
    }

    fn tick_order(&mut self, id: &str, world: &mut World<'_>) {
        let Some(order) = self.orders.get_mut(id) else {
            return;
        };
        let open = matches!(
            order.status,
            "CREATED" | "APPROVED" | "PAYER_ACTION_REQUIRED"
        );
        if !open || world.now < order.created.plus(OPEN_FOR) {
            return;
        }
        let was_approved = order.status == "APPROVED";
        order.status = "VOIDED";
        if was_approved {
            let resource = json!({"order_id": id});
            self.emit(
                "CHECKOUT.PAYMENT-APPROVAL.REVERSED",
                "checkout-order",
                resource,
                world,
            );
        }
    }

    /// Whoever takes an order this way may leave something to time.
    pub(super) fn order_mut(&mut self, id: &str) -> Result<&mut Order, Problem> {
        self.restless.insert(id.to_owned());
        self.orders.get_mut(id).ok_or(Problem::not_found())
    }

    fn set_status(&mut self, id: &str, status: &'static str) {
        if let Some(order) = self.orders.get_mut(id) {
            order.status = status;
        }
    }

    fn order_reply(&self, status: u16, id: &str, full: bool, world: &World<'_>) -> Reply {
        let body = self
            .orders
            .get(id)
            .map(|order| order.show(full, world.base));
        Reply::json(status, body.unwrap_or_default())
    }
}

fn check_payable(order: &Order, verb: Intent) -> Result<(), Problem> {
    if order.intent != verb {
        return Err(Problem::issue(422, "ACTION_DOES_NOT_MATCH_INTENT"));
    }
    match (order.status, verb) {
        ("COMPLETED", Intent::Capture) => Err(Problem::issue(422, "ORDER_ALREADY_CAPTURED")),
        ("COMPLETED", Intent::Authorize) => Err(Problem::issue(422, "ORDER_ALREADY_AUTHORIZED")),
        ("VOIDED", _) => Err(Problem::issue(422, "ORDER_COMPLETED_OR_VOIDED")),
        _ => Ok(()),
    }
}

fn read_order(ask: &Ask<'_>, world: &mut World<'_>) -> Result<Order, Problem> {
    let intent = match ask.text("/intent") {
        Some("CAPTURE") => Intent::Capture,
        Some("AUTHORIZE") => Intent::Authorize,
        Some(_) => return Err(Problem::issue(400, "INVALID_PARAMETER_VALUE")),
        None => return Err(Problem::missing()),
    };
    let units = ask.body.get("purchase_units").and_then(Value::as_array);
    let [unit] = units.map(Vec::as_slice).ok_or(Problem::missing())? else {
        return Err(Problem::issue(422, "UNSUPPORTED_INTENT"));
    };
    let text = |name: &str| unit.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut order = Order {
        id: reply::id("ORD", world.next_id()),
        intent,
        status: "CREATED",
        amount: read_money(unit.get("amount"))?,
        reference_id: text("reference_id").unwrap_or_else(|| "default".to_owned()),
        custom_id: text("custom_id"),
        invoice_id: text("invoice_id"),
        description: text("description"),
        has_source: false,
        return_url: None,
        cancel_url: None,
        created: world.now,
        mode: Mode::Normal,
        authorization: None,
        captures: Vec::new(),
        refunds: Vec::new(),
    };
    take_addresses(&mut order, ask);
    Ok(order)
}

/// Where the customer goes on, by either of the two contexts.
fn take_addresses(order: &mut Order, ask: &Ask<'_>) {
    let find = |name: &str| {
        let new = ask.text(&format!("/payment_source/paypal/experience_context/{name}"));
        new.or_else(|| ask.text(&format!("/application_context/{name}")))
            .map(str::to_owned)
    };
    order.return_url = find("return_url").or_else(|| order.return_url.take());
    order.cancel_url = find("cancel_url").or_else(|| order.cancel_url.take());
}

/// Back to the merchant, with a parameter that proves nothing.
pub(super) fn go_on(to: Option<&str>, name: &str, value: &str) -> cardless_transport::Response {
    match to.and_then(|to| url::Url::parse(to).ok()) {
        Some(mut url) => {
            url.query_pairs_mut().append_pair(name, value);
            page::see_other(url.as_str())
        }
        None => page::html(200, "Done. There is no address to return to.".to_owned()),
    }
}

pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

pub(super) fn set(object: &mut Value, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        put(object, name, value.into());
    }
}
