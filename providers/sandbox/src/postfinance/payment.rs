//! Transactions: made, changed, paid at the page or by token, lapsed.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless_contract::{Currency, Timestamp};
use cardless_transport::Response;
use ring::hmac;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Json, Object, minor, money};
use super::model::{Charge, Completion, DECLINED, Failure, HOLD, LineItem, Transaction};
use super::webhook::{Entity, Event};
use super::{
    AUTHENTICATION_KEY_RAW, Answer, Fault, PAGE_PATH, PostFinance, Reply, SPACE_ID, body, next_id,
    one_of,
};
use crate::dialect::{Call, Mode, PENDING_SECONDS, World};
use crate::ledger::EntryKind;
use crate::page::{self, Decision};

/// The longest reference, in bytes (§3.1).
const MAX_REFERENCE_BYTES: usize = 100;

/// The longest name of a line item, in characters (§3.2).
const MAX_NAME_CHARS: usize = 150;

/// The one payment method configuration.
const CONFIGURATION: i64 = 501;

const TOKENIZATION: &[&str] = &[
    "FORCE_UPDATE",
    "FORCE_CREATION",
    "FORCE_CREATION_WITH_ONE_CLICK_PAYMENT",
    "ALLOW_ONE_CLICK_PAYMENT",
];
const BEHAVIOR: &[&str] = &[
    "COMPLETE_IMMEDIATELY",
    "COMPLETE_DEFERRED",
    "USE_CONFIGURATION",
];
const PRESENCE: &[&str] = &["NOT_PRESENT", "VIRTUAL_PRESENT", "PHYSICAL_PRESENT"];
const ITEM_TYPE: &[&str] = &["SHIPPING", "DISCOUNT", "FEE", "PRODUCT", "TIP"];

/// `TransactionCreate` and `TransactionPending`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransactionBody {
    version: Option<i64>,
    currency: Option<String>,
    merchant_reference: Option<String>,
    customer_id: Option<String>,
    language: Option<String>,
    line_items: Option<Vec<LineItemBody>>,
    token: Option<i64>,
    tokenization_mode: Option<String>,
    completion_behavior: Option<String>,
    customers_presence: Option<String>,
    success_url: Option<String>,
    failed_url: Option<String>,
    allowed_payment_method_configurations: Option<Vec<i64>>,
    meta_data: Option<BTreeMap<String, String>>,
    charge_retry_enabled: Option<bool>,
    auto_confirmation_enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LineItemBody {
    unique_id: String,
    name: String,
    r#type: String,
    sku: Option<String>,
    quantity: Box<RawValue>,
    amount_including_tax: Box<RawValue>,
}

impl PostFinance {
    pub(super) fn create_transaction(&mut self, call: &Call, world: &mut World<'_>) -> Answer {
        let body: TransactionBody = body(call)?;
        if body.line_items.is_none() {
            return Err(Fault::invalid("lineItems is required."));
        }
        let mut transaction = blank(next_id(world), world.now, self.open_for)?;
        self.change(&mut transaction, body)?;
        // Making a transaction declines nothing (§5.3): the fault meets it when it is paid.
        transaction.fate = call.mode;
        Ok(Reply::Json(201, self.add(transaction)))
    }

    /// A transaction that renews a token's credentials; it has no items yet (§2.3).
    pub(super) fn transaction_for_token(&mut self, token: i64, world: &mut World<'_>) -> Answer {
        let mut transaction = blank(next_id(world), world.now, self.open_for)?;
        transaction.token = Some(token);
        transaction.tokenization = Some("FORCE_UPDATE".to_owned());
        Ok(Reply::Json(200, self.add(transaction)))
    }

    pub(super) fn one_transaction(
        &mut self,
        method: &str,
        id: i64,
        rest: &[&str],
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        if !self.transactions.contains_key(&id) {
            return Err(Fault::not_found());
        }
        match (method, rest) {
            ("GET", []) => self.read(id),
            ("PATCH", []) => self.update(id, call, false),
            ("POST", ["confirm"]) => self.update(id, call, true),
            ("GET", ["payment-page-url"]) => self.page_url(id, world, ""),
            ("GET", ["iframe-javascript-url"]) => self.page_url(id, world, "/iframe.js"),
            ("GET", ["lightbox-javascript-url"]) => self.page_url(id, world, "/lightbox.js"),
            ("GET", ["check-token-creation-possible"]) => Ok(Reply::Json(200, Json::Bool(true))),
            ("GET", ["payment-method-configurations"]) => Ok(configurations()),
            ("POST", ["process-with-token"]) => self.process_with_token(id, call, world),
            ("POST", ["process-without-interaction"]) => {
                self.process_without_interaction(id, call, world)
            }
            ("POST", ["charge-flow", "apply"]) => self.apply_flow(id),
            ("POST", ["charge-flow", "cancel"]) => self.cancel_flow(id, world),
            ("GET", ["charge-flow", "payment-page-url"]) => self.page_url(id, world, ""),
            ("POST", [verb]) => self.operate(id, verb, call, world),
            _ => Err(Fault::not_found()),
        }
    }

    /// The page of a transaction, outside of the API: `GET` shows it, `POST` decides.
    pub(super) fn page(&mut self, id: &str, call: &Call, world: &mut World<'_>) -> Response {
        let given = url::form_urlencoded::parse(call.query.as_bytes())
            .find(|(name, _)| name == "securityToken")
            .map(|(_, value)| value.into_owned());
        let Some(transaction) = id.parse().ok().and_then(|id| self.transactions.get(&id)) else {
            return page::html(404, String::new());
        };
        let id = transaction.id;
        if given != Some(security_token(id)) {
            return page::html(403, String::new());
        }
        if !transaction.is_open() {
            return self.send_back(id);
        }
        if call.method == http::Method::GET {
            return decision_page(transaction);
        }
        match Decision::from_form(&call.body) {
            None => page::html(400, String::new()),
            Some(Decision::Abandon) => self.send_back(id),
            Some(Decision::Approve) => self.decide(id, call.mode, world),
            Some(Decision::Decline) => self.decide(id, Mode::Decline, world),
        }
    }

    /// Concludes what is due, and lets lapse what was left alone.
    pub(super) fn conclude_payments(&mut self, world: &mut World<'_>) {
        let now = world.now;
        let ids: Vec<i64> = self.transactions.keys().copied().collect();
        for id in ids {
            let Some(transaction) = self.transactions.get(&id) else {
                continue;
            };
            let held_since = transaction
                .authorized
                .filter(|_| transaction.state == "AUTHORIZED");
            if transaction.due.is_some_and(|due| due <= now) {
                self.succeed(id, world);
            } else if transaction.is_open() && now >= transaction.open_until {
                self.fail(id, DECLINED, now);
            } else if held_since.is_some_and(|since| now.since(since) >= HOLD) {
                self.lapse(id, world);
            }
        }
    }

    /// Puts a transaction into a state and tells it to the listeners.
    pub(super) fn enter(&mut self, id: i64, state: &'static str) {
        if let Some(transaction) = self.transactions.get_mut(&id) {
            transaction.enter(state);
            self.events.push(Event {
                entity: Entity::Transaction,
                id,
                state,
            });
        }
    }

    pub(super) fn transaction(&self, id: i64) -> Result<&Transaction, Fault> {
        self.transactions.get(&id).ok_or(Fault::not_found())
    }

    fn add(&mut self, transaction: Transaction) -> Json {
        let shown = self.show(&transaction);
        self.transactions.insert(transaction.id, transaction);
        shown
    }

    fn read(&self, id: i64) -> Answer {
        Ok(Reply::Json(200, self.show(self.transaction(id)?)))
    }

    fn update(&mut self, id: i64, call: &Call, confirm: bool) -> Answer {
        let body: TransactionBody = body(call)?;
        let mut transaction = self.transaction(id)?.clone();
        let version = body.version.ok_or(Fault::invalid("version is required."))?;
        if version != transaction.version {
            return Err(Fault::conflict());
        }
        if transaction.state != "PENDING" {
            return Err(Fault::unprocessable(
                "Only a pending transaction can be changed.",
            ));
        }
        self.change(&mut transaction, body)?;
        transaction.version += 1;
        self.transactions.insert(id, transaction);
        if confirm {
            self.enter(id, "CONFIRMED");
        }
        self.read(id)
    }

    /// Writes the members that a body has.
    fn change(&self, transaction: &mut Transaction, body: TransactionBody) -> Result<(), Fault> {
        if let Some(code) = &body.currency {
            transaction.currency = Currency::from_code(code)
                .map_err(|_| Fault::unprocessable("The currency is unknown."))?;
        }
        if let Some(items) = body.line_items {
            transaction.line_items = line_items(transaction.currency, items)?;
        }
        if let Some(id) = body.token {
            self.chargeable(id)?;
            transaction.token = Some(id);
        }
        if body
            .merchant_reference
            .as_ref()
            .is_some_and(|text| !is_reference(text))
        {
            return Err(Fault::invalid(
                "merchantReference must be printable and short.",
            ));
        }
        let tokenization = one_of(body.tokenization_mode, TOKENIZATION)?;
        let behavior = one_of(body.completion_behavior, BEHAVIOR)?;
        let presence = one_of(body.customers_presence, PRESENCE)?;
        replace(&mut transaction.tokenization, tokenization);
        replace(&mut transaction.behavior, behavior);
        replace(&mut transaction.presence, presence);
        replace(&mut transaction.merchant_reference, body.merchant_reference);
        replace(&mut transaction.customer_id, body.customer_id);
        replace(&mut transaction.language, body.language);
        replace(&mut transaction.success_url, body.success_url);
        replace(&mut transaction.failed_url, body.failed_url);
        if let Some(configurations) = body.allowed_payment_method_configurations {
            transaction.configurations = configurations;
        }
        if let Some(meta) = body.meta_data {
            transaction.meta = meta;
        }
        transaction.retry = body.charge_retry_enabled.unwrap_or(transaction.retry);
        let confirm = body.auto_confirmation_enabled;
        transaction.auto_confirm = confirm.unwrap_or(transaction.auto_confirm);
        Ok(())
    }

    fn page_url(&self, id: i64, world: &World<'_>, suffix: &str) -> Answer {
        if !self.transaction(id)?.is_open() {
            return Err(Fault::unprocessable(
                "The transaction is not open for payment.",
            ));
        }
        let (base, token) = (world.base, security_token(id));
        Ok(Reply::Text(format!(
            "{base}{PAGE_PATH}{id}{suffix}?securityToken={token}"
        )))
    }

    /// Answers with the charge; a decline is a 200 (§5.3).
    fn process_with_token(&mut self, id: i64, call: &Call, world: &mut World<'_>) -> Answer {
        let token = self.transaction(id)?.token;
        self.chargeable(token.ok_or(Fault::unprocessable("The transaction has no token."))?)?;
        let charge = self.process(id, call.mode, "TOKEN", world)?;
        let charge = self
            .charges
            .get(&charge)
            .map(|charge| self.show_charge(charge));
        charge
            .map(|charge| Reply::Json(200, charge))
            .ok_or(Fault::not_found())
    }

    /// Answers with the transaction. Without a token it only enters PROCESSING (§2.4).
    fn process_without_interaction(
        &mut self,
        id: i64,
        call: &Call,
        world: &mut World<'_>,
    ) -> Answer {
        match self.transaction(id)?.token {
            Some(token) => {
                self.chargeable(token)?;
                self.process(id, call.mode, "TOKEN", world)?;
            }
            None => self.start(id)?,
        }
        self.read(id)
    }

    fn apply_flow(&mut self, id: i64) -> Answer {
        self.start(id)?;
        self.read(id)
    }

    fn cancel_flow(&mut self, id: i64, world: &World<'_>) -> Answer {
        if self.transaction(id)?.state != "PROCESSING" {
            return Err(Fault::unprocessable("There is no flow to cancel."));
        }
        self.fail(id, DECLINED, world.now);
        self.read(id)
    }

    /// Confirms, if nobody has, and enters PROCESSING.
    fn start(&mut self, id: i64) -> Result<(), Fault> {
        let transaction = self.transaction(id)?;
        if !transaction.is_open() || (transaction.state == "PENDING" && !transaction.auto_confirm) {
            return Err(Fault::unprocessable(
                "The transaction's state does not allow this.",
            ));
        }
        if transaction.line_items.is_empty() {
            return Err(Fault::unprocessable("The transaction has no line items."));
        }
        if transaction.state == "PENDING" {
            self.enter(id, "CONFIRMED");
        }
        self.enter(id, "PROCESSING");
        Ok(())
    }

    /// Processes an open transaction; the id of the charge.
    fn process(
        &mut self,
        id: i64,
        mode: Mode,
        kind: &'static str,
        world: &mut World<'_>,
    ) -> Result<i64, Fault> {
        let fate = self.transaction(id)?.fate;
        let mode = if mode == Mode::Normal { fate } else { mode };
        self.start(id)?;
        let charge = next_id(world);
        let attempt = next_id(world);
        let created = world.now;
        let state = "PENDING";
        let new = Charge {
            id: charge,
            attempt,
            transaction: id,
            kind,
            state,
            created,
        };
        self.charges.insert(charge, new);
        match mode {
            Mode::Normal => self.succeed(id, world),
            Mode::Decline => self.fail(id, DECLINED, world.now),
            Mode::Pending => {
                let due = world.now.plus(Duration::from_secs(PENDING_SECONDS));
                if let Some(transaction) = self.transactions.get_mut(&id) {
                    transaction.due = Some(due);
                }
            }
        }
        Ok(charge)
    }

    /// The bank said yes: the amount is held, or taken at once; the token is made.
    fn succeed(&mut self, id: i64, world: &mut World<'_>) {
        self.conclude_charge(id, "SUCCESSFUL");
        self.tokenize(id, world);
        let now = world.now;
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return;
        };
        transaction.due = None;
        transaction.authorized = Some(now);
        let (currency, total) = (transaction.currency, transaction.total());
        let at_once = transaction.completes_at_once();
        if !at_once {
            record(world, EntryKind::Authorize, currency, total, id);
            self.enter(id, "AUTHORIZED");
            return;
        }
        transaction.completed = total;
        transaction.completed_on = Some(now);
        let completion = Completion {
            id: next_id(world),
            transaction: id,
            state: "SUCCESSFUL",
            mode: "DIRECT",
            external_id: None,
            currency,
            minor: total,
            last: true,
            created: now,
            due: None,
        };
        self.completions.insert(completion.id, completion);
        record(world, EntryKind::Capture, currency, total, id);
        self.enter(id, "FULFILL");
    }

    fn fail(&mut self, id: i64, failure: Failure, now: Timestamp) {
        self.conclude_charge(id, "FAILED");
        if let Some(transaction) = self.transactions.get_mut(&id) {
            transaction.due = None;
            transaction.failure = Some(failure);
            transaction.failed_on = Some(now);
        }
        self.enter(id, "FAILED");
    }

    /// The hold lapses: what was captured stays captured, the rest is released.
    fn lapse(&mut self, id: i64, world: &mut World<'_>) {
        let Some(transaction) = self.transactions.get(&id) else {
            return;
        };
        if transaction.completed > 0 {
            self.enter(id, "FULFILL");
            return;
        }
        record(
            world,
            EntryKind::Void,
            transaction.currency,
            transaction.total(),
            id,
        );
        self.enter(id, "VOIDED");
    }

    fn conclude_charge(&mut self, transaction: i64, state: &'static str) {
        let of =
            |charge: &&mut Charge| charge.transaction == transaction && charge.state == "PENDING";
        if let Some(charge) = self.charges.values_mut().find(of) {
            charge.state = state;
        }
    }

    fn decide(&mut self, id: i64, mode: Mode, world: &mut World<'_>) -> Response {
        match self.process(id, mode, "SYNCHRONOUS", world) {
            Ok(_) => self.send_back(id),
            Err(_) => page::html(409, String::new()),
        }
    }

    /// Back to the merchant: to where things went well, or to where they did not.
    fn send_back(&self, id: i64) -> Response {
        let Some(transaction) = self.transactions.get(&id) else {
            return page::html(404, String::new());
        };
        let well = !transaction.is_open() && !matches!(transaction.state, "FAILED" | "VOIDED");
        let url = if well {
            &transaction.success_url
        } else {
            &transaction.failed_url
        };
        match url {
            Some(url) => page::see_other(url),
            None => page::html(200, transaction.state.to_owned()),
        }
    }
}

/// Writes a movement into the ledger. A registration moves nothing and is not in it.
pub(super) fn record(
    world: &mut World<'_>,
    kind: EntryKind,
    currency: Currency,
    minor: i64,
    transaction: i64,
) {
    if minor > 0 {
        world.record(kind, money(currency, minor), &transaction.to_string());
    }
}

fn blank(id: i64, now: Timestamp, open_for: Duration) -> Result<Transaction, Fault> {
    let francs = Currency::from_code("CHF");
    Ok(Transaction {
        id,
        // A fresh transaction already stands at 2 in the vendor's tests (§3.3).
        version: 2,
        state: "PENDING",
        currency: francs.map_err(|_| Fault::new(500, "internal", "No francs."))?,
        merchant_reference: None,
        customer_id: None,
        language: None,
        line_items: Vec::new(),
        token: None,
        tokenization: None,
        behavior: None,
        presence: None,
        success_url: None,
        failed_url: None,
        configurations: Vec::new(),
        meta: BTreeMap::new(),
        retry: true,
        auto_confirm: true,
        created: now,
        open_until: now.plus(open_for),
        authorized: None,
        completed_on: None,
        failed_on: None,
        completed: 0,
        refunded: 0,
        failure: None,
        due: None,
        fate: Mode::Normal,
    })
}

fn replace(member: &mut Option<String>, value: Option<String>) {
    if value.is_some() {
        *member = value;
    }
}

fn line_items(currency: Currency, items: Vec<LineItemBody>) -> Result<Vec<LineItem>, Fault> {
    let mut read: Vec<LineItem> = Vec::new();
    for item in items {
        let item = line_item(currency, item)?;
        if read.iter().any(|other| other.unique_id == item.unique_id) {
            return Err(Fault::unprocessable("uniqueId must be unique."));
        }
        read.push(item);
    }
    let total = read
        .iter()
        .try_fold(0_i64, |sum, item| sum.checked_add(item.minor));
    match total {
        Some(total) if total >= 0 && !read.is_empty() => Ok(read),
        Some(_) | None => Err(Fault::unprocessable("The line items do not add up.")),
    }
}

fn line_item(currency: Currency, item: LineItemBody) -> Result<LineItem, Fault> {
    let kind = one_of(Some(item.r#type), ITEM_TYPE)?.unwrap_or_default();
    if !(1..=MAX_NAME_CHARS).contains(&item.name.chars().count()) || item.unique_id.is_empty() {
        return Err(Fault::invalid(
            "A line item's name or uniqueId does not fit.",
        ));
    }
    let minor = minor(currency, &item.amount_including_tax).ok_or(Fault::unprocessable(
        "The amount does not fit the currency.",
    ))?;
    let quantity = item.quantity.get();
    if !is_decimal(quantity) {
        return Err(Fault::invalid("quantity must be a number."));
    }
    Ok(LineItem {
        unique_id: item.unique_id,
        name: item.name,
        kind,
        sku: item.sku,
        quantity: quantity.to_owned(),
        minor,
    })
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn is_reference(text: &str) -> bool {
    text.len() <= MAX_REFERENCE_BYTES
        && text
            .bytes()
            .all(|byte| byte == b'\t' || (0x20..=0x7e).contains(&byte))
}

fn configurations() -> Reply {
    let configuration: Json = Object::new()
        .put("id", CONFIGURATION)
        .put("name", "Card")
        .put("state", "ACTIVE")
        .put("linkedSpaceId", SPACE_ID)
        .put("spaceId", SPACE_ID)
        .put("oneClickPaymentMode", "ALLOW")
        .put("dataCollectionType", "OFFSITE")
        .into();
    let page = Object::new()
        .put("data", vec![configuration])
        .put("hasMore", false)
        .put("limit", 100_i64);
    Reply::Json(200, page.into())
}

fn decision_page(transaction: &Transaction) -> Response {
    let amount = money(transaction.currency, transaction.total()).to_string();
    let id = transaction.id.to_string();
    page::decision_page(
        "PostFinance Checkout",
        &[("Transaction", &id), ("Amount", &amount)],
    )
}

/// What a payer's address carries: `HMAC-SHA256(authentication key, transaction id)`, in hex.
fn security_token(id: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, AUTHENTICATION_KEY_RAW);
    let tag = hmac::sign(&key, id.to_string().as_bytes());
    tag.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
