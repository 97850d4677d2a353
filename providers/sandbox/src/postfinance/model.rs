//! The objects that a space holds, and how the API shows them.

use std::collections::BTreeMap;
use std::time::Duration;

use cardless_contract::{Currency, Timestamp};

use super::SPACE_ID;
use super::json::{Json, Object, amount};
use crate::dialect::Mode;

/// How long an authorization is held before it lapses.
pub(super) const HOLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long a transaction waits for its payer or for being processed, unless a sandbox is told
/// otherwise. PostFinance gives each transaction a time of its own and names no number, so this is
/// longer than anybody should guess.
pub(super) const OPEN: Duration = Duration::from_secs(3 * 60 * 60);

/// The opaque id of the failure reason that the sandbox gives.
const FAILURE_REASON: i64 = 17;

/// Why something failed, by category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure(pub(super) &'static str);

/// The payer's bank or the payer said no.
pub(super) const DECLINED: Failure = Failure("END_USER");

#[derive(Debug, Clone)]
pub(super) struct LineItem {
    pub(super) unique_id: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) sku: Option<String>,
    /// The digits as they came.
    pub(super) quantity: String,
    pub(super) minor: i64,
}

#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) state: &'static str,
    pub(super) currency: Currency,
    pub(super) merchant_reference: Option<String>,
    pub(super) customer_id: Option<String>,
    pub(super) language: Option<String>,
    pub(super) line_items: Vec<LineItem>,
    pub(super) token: Option<i64>,
    pub(super) tokenization: Option<String>,
    pub(super) behavior: Option<String>,
    pub(super) presence: Option<String>,
    pub(super) success_url: Option<String>,
    pub(super) failed_url: Option<String>,
    pub(super) configurations: Vec<i64>,
    pub(super) meta: BTreeMap<String, String>,
    pub(super) retry: bool,
    pub(super) auto_confirm: bool,
    pub(super) created: Timestamp,
    /// Until when it waits.
    pub(super) open_until: Timestamp,
    pub(super) authorized: Option<Timestamp>,
    pub(super) completed_on: Option<Timestamp>,
    pub(super) failed_on: Option<Timestamp>,
    pub(super) completed: i64,
    pub(super) refunded: i64,
    pub(super) failure: Option<Failure>,
    /// When an open processing concludes.
    pub(super) due: Option<Timestamp>,
    /// What a fault that was injected when it was made wants of its payment.
    pub(super) fate: Mode,
}

#[derive(Debug, Clone)]
pub(super) struct Completion {
    pub(super) id: i64,
    pub(super) transaction: i64,
    pub(super) state: &'static str,
    pub(super) mode: &'static str,
    pub(super) external_id: Option<String>,
    pub(super) currency: Currency,
    pub(super) minor: i64,
    pub(super) last: bool,
    pub(super) created: Timestamp,
    pub(super) due: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct Void {
    pub(super) id: i64,
    pub(super) transaction: i64,
    pub(super) state: &'static str,
    pub(super) mode: &'static str,
    pub(super) created: Timestamp,
    pub(super) due: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct Refund {
    pub(super) id: i64,
    pub(super) transaction: i64,
    pub(super) completion: Option<i64>,
    pub(super) state: &'static str,
    pub(super) kind: String,
    pub(super) external_id: String,
    pub(super) merchant_reference: Option<String>,
    pub(super) currency: Currency,
    pub(super) minor: i64,
    pub(super) created: Timestamp,
    pub(super) due: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) state: &'static str,
    pub(super) external_id: String,
    pub(super) customer_id: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) one_click: bool,
    pub(super) created: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct TokenVersion {
    pub(super) id: i64,
    pub(super) token: i64,
    pub(super) state: &'static str,
    pub(super) created: Timestamp,
    pub(super) obsoleted: Option<Timestamp>,
}

/// One processing of a transaction: the charge and its only attempt.
#[derive(Debug, Clone)]
pub(super) struct Charge {
    pub(super) id: i64,
    pub(super) attempt: i64,
    pub(super) transaction: i64,
    pub(super) kind: &'static str,
    pub(super) state: &'static str,
    pub(super) created: Timestamp,
}

#[derive(Debug, Clone)]
pub(super) struct WebhookUrl {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) state: String,
}

#[derive(Debug, Clone)]
pub(super) struct Listener {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) name: String,
    pub(super) url: i64,
    pub(super) entity: i64,
    pub(super) states: Vec<String>,
    pub(super) every_change: bool,
    pub(super) state: String,
}

impl Transaction {
    /// The sum of the line items.
    pub(super) fn total(&self) -> i64 {
        self.line_items
            .iter()
            .fold(0, |sum, item| sum.saturating_add(item.minor))
    }

    /// Nobody has processed it yet.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, "PENDING" | "CONFIRMED")
    }

    /// Moves on, with a new version.
    pub(super) fn enter(&mut self, state: &'static str) {
        self.state = state;
        self.version += 1;
    }

    /// Whether it takes the money at once.
    pub(super) fn completes_at_once(&self) -> bool {
        self.behavior.as_deref() != Some("COMPLETE_DEFERRED")
    }

    pub(super) fn show(&self, token: Option<&Token>) -> Json {
        let open_until = self.is_open().then_some(self.open_until);
        let held_until = self.authorized.filter(|_| self.state == "AUTHORIZED");
        Object::new()
            .put("id", self.id)
            .put("version", self.version)
            .put("state", self.state)
            .put("linkedSpaceId", SPACE_ID)
            .put("currency", self.currency.code())
            .maybe("merchantReference", self.merchant_reference.clone())
            .maybe("customerId", self.customer_id.clone())
            .maybe("language", self.language.clone())
            .put("lineItems", self.items())
            .put("authorizationAmount", amount(self.currency, self.total()))
            .put("completedAmount", amount(self.currency, self.completed))
            .put("refundedAmount", amount(self.currency, self.refunded))
            .maybe("token", token.map(Token::show))
            .maybe("tokenizationMode", self.tokenization.clone())
            .maybe("completionBehavior", self.behavior.clone())
            .maybe("customersPresence", self.presence.clone())
            .maybe("successUrl", self.success_url.clone())
            .maybe("failedUrl", self.failed_url.clone())
            .put(
                "allowedPaymentMethodConfigurations",
                self.configurations.clone(),
            )
            .put("metaData", texts(&self.meta))
            .put("chargeRetryEnabled", self.retry)
            .put("autoConfirmationEnabled", self.auto_confirm)
            .put("environment", "LIVE")
            .maybe("authorizationEnvironment", self.authorized.map(|_| "TEST"))
            .put("createdOn", self.created)
            .maybe("authorizedOn", self.authorized)
            .maybe("completedOn", self.completed_on)
            .maybe("failedOn", self.failed_on)
            .maybe("authorizationTimeoutOn", open_until)
            .maybe(
                "completionTimeoutOn",
                held_until.map(|since| since.plus(HOLD)),
            )
            .maybe("failureReason", self.failure.map(Failure::show))
            .maybe(
                "userFailureMessage",
                self.failure.map(|_| "The payment was declined."),
            )
            .into()
    }

    fn items(&self) -> Vec<Json> {
        self.line_items
            .iter()
            .map(|item| item.show(self.currency))
            .collect()
    }
}

impl LineItem {
    fn show(&self, currency: Currency) -> Json {
        Object::new()
            .put("uniqueId", self.unique_id.as_str())
            .put("name", self.name.as_str())
            .put("type", self.kind.as_str())
            .maybe("sku", self.sku.clone())
            .put("quantity", Json::Number(self.quantity.clone()))
            .put("amountIncludingTax", amount(currency, self.minor))
            .into()
    }
}

impl Failure {
    pub(super) fn show(self) -> Json {
        let text = || Object::new().put("en-US", "The sandbox was told to refuse.");
        Object::new()
            .put("id", FAILURE_REASON)
            .put("category", self.0)
            .put("name", text())
            .put("description", text())
            .into()
    }
}

impl Completion {
    pub(super) fn show(&self) -> Json {
        operation(self.id, self.state, self.created)
            .put("linkedTransaction", self.transaction)
            .put("mode", self.mode)
            .maybe("externalId", self.external_id.clone())
            .put("amount", amount(self.currency, self.minor))
            .put("lastCompletion", self.last)
            .into()
    }
}

impl Void {
    pub(super) fn show(&self, transaction: Option<Json>) -> Json {
        operation(self.id, self.state, self.created)
            .put("linkedTransaction", self.transaction)
            .put("mode", self.mode)
            .maybe("transaction", transaction)
            .into()
    }
}

impl Refund {
    pub(super) fn show(&self, transaction: Option<Json>) -> Json {
        operation(self.id, self.state, self.created)
            .maybe("transaction", transaction)
            .maybe("completion", self.completion)
            .put("type", self.kind.as_str())
            .put("externalId", self.external_id.as_str())
            .maybe("merchantReference", self.merchant_reference.clone())
            .put("amount", amount(self.currency, self.minor))
            .into()
    }
}

impl Token {
    pub(super) fn show(&self) -> Json {
        Object::new()
            .put("id", self.id)
            .put("version", self.version)
            .put("state", self.state)
            .put("linkedSpaceId", SPACE_ID)
            .put("externalId", self.external_id.as_str())
            .maybe("customerId", self.customer_id.clone())
            .maybe("tokenReference", self.reference.clone())
            .put("enabledForOneClickPayment", self.one_click)
            .put("createdOn", self.created)
            .into()
    }
}

impl TokenVersion {
    pub(super) fn show(&self, token: Option<&Token>) -> Json {
        Object::new()
            .put("id", self.id)
            .put("version", 1_i64)
            .put("state", self.state)
            .put("linkedSpaceId", SPACE_ID)
            .put("environment", "TEST")
            .maybe("token", token.map(Token::show))
            .put("createdOn", self.created)
            .put("activatedOn", self.created)
            .maybe("obsoletedOn", self.obsoleted)
            .put("retryStrategy", "RETRY_LATER")
            .into()
    }
}

impl Charge {
    pub(super) fn show(&self, transaction: Option<Json>) -> Json {
        let failed = self.state == "FAILED";
        Object::new()
            .put("id", self.id)
            .put("version", 1_i64)
            .put("state", self.state)
            .put("type", self.kind)
            .put("linkedSpaceId", SPACE_ID)
            .maybe("transaction", transaction)
            .put("createdOn", self.created)
            .maybe("failureReason", failed.then(|| DECLINED.show()))
            .maybe(
                "userFailureMessage",
                failed.then_some("The payment was declined."),
            )
            .into()
    }

    /// The charge's only attempt.
    pub(super) fn show_attempt(&self, charge: Json) -> Json {
        let state = if self.state == "PENDING" {
            "PROCESSING"
        } else {
            self.state
        };
        Object::new()
            .put("id", self.attempt)
            .put("version", 1_i64)
            .put("state", state)
            .put("environment", "TEST")
            .put("linkedSpaceId", SPACE_ID)
            .put("linkedTransaction", self.transaction)
            .put("charge", charge)
            .put("createdOn", self.created)
            .maybe(
                "failureReason",
                (state == "FAILED").then(|| DECLINED.show()),
            )
            .into()
    }
}

impl WebhookUrl {
    pub(super) fn show(&self) -> Json {
        Object::new()
            .put("id", self.id)
            .put("version", self.version)
            .put("name", self.name.as_str())
            .put("url", self.url.as_str())
            .put("state", self.state.as_str())
            .put("linkedSpaceId", SPACE_ID)
            .put("applicationManaged", false)
            .into()
    }
}

impl Listener {
    pub(super) fn show(&self, url: Option<&WebhookUrl>) -> Json {
        Object::new()
            .put("id", self.id)
            .put("version", self.version)
            .put("name", self.name.as_str())
            .maybe("url", url.map(WebhookUrl::show))
            .put("entity", self.entity)
            .put(
                "entityStates",
                self.states.iter().map(String::as_str).collect::<Vec<_>>(),
            )
            .put("notifyEveryChange", self.every_change)
            .put("enablePayloadSignatureAndState", true)
            .put("state", self.state.as_str())
            .put("linkedSpaceId", SPACE_ID)
            .into()
    }
}

fn operation(id: i64, state: &'static str, created: Timestamp) -> Object {
    Object::new()
        .put("id", id)
        .put("version", 1_i64)
        .put("state", state)
        .put("linkedSpaceId", SPACE_ID)
        .put("createdOn", created)
        .maybe(
            "failureReason",
            (state == "FAILED").then(|| DECLINED.show()),
        )
}

fn texts(map: &BTreeMap<String, String>) -> Json {
    Json::Object(
        map.iter()
            .map(|(name, text)| (name.clone(), text.as_str().into()))
            .collect(),
    )
}
