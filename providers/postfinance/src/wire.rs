//! PostFinance's JSON as serde types. A member that is not here is never read: names, e-mail and
//! postal addresses, labels, hashes of the payer's input, masked numbers and expiry dates
//! (`providers/postfinance.md` §2.1) have no place to go.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An amount in major units, as the digits of a JSON number.
pub(crate) type Amount = Box<RawValue>;

/// `TransactionCreate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransactionCreate<'a> {
    pub(crate) currency: &'static str,
    pub(crate) merchant_reference: &'a str,
    pub(crate) customer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokenization_mode: Option<&'static str>,
    pub(crate) completion_behavior: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) customers_presence: Option<&'static str>,
    pub(crate) charge_retry_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) success_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) failed_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allowed_payment_method_configurations: Option<&'a [i64]>,
    pub(crate) line_items: [LineItemCreate<'a>; 1],
}

/// `LineItemCreate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineItemCreate<'a> {
    pub(crate) unique_id: &'static str,
    pub(crate) r#type: &'static str,
    pub(crate) name: &'a str,
    pub(crate) quantity: u8,
    pub(crate) amount_including_tax: Amount,
}

/// `TransactionCompletionDetails`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompletionDetails<'a> {
    pub(crate) external_id: &'a str,
    pub(crate) last_completion: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line_items: Option<[CompletionLineItem; 1]>,
}

/// `CompletionLineItemCreate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompletionLineItem {
    pub(crate) unique_id: &'static str,
    pub(crate) quantity: u8,
    pub(crate) amount: Amount,
}

/// `RefundCreate`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefundCreate<'a> {
    pub(crate) external_id: &'a str,
    pub(crate) r#type: &'static str,
    pub(crate) transaction: i64,
    pub(crate) amount: Amount,
    pub(crate) merchant_reference: &'a str,
}

/// `Transaction`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Transaction {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) merchant_reference: Option<String>,
    pub(crate) currency: Option<String>,
    pub(crate) authorization_amount: Option<Amount>,
    pub(crate) completed_amount: Option<Amount>,
    pub(crate) refunded_amount: Option<Amount>,
    pub(crate) line_items: Option<Vec<LineItem>>,
    pub(crate) authorization_environment: Option<String>,
    pub(crate) completion_timeout_on: Option<String>,
    pub(crate) failure_reason: Option<FailureReason>,
    pub(crate) token: Option<Token>,
}

/// `LineItem`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineItem {
    pub(crate) amount_including_tax: Option<Amount>,
}

/// `FailureReason`.
#[derive(Deserialize)]
pub(crate) struct FailureReason {
    pub(crate) id: Option<i64>,
    pub(crate) category: Option<String>,
}

/// `Token`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) id: i64,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) state: Option<String>,
}

/// `TokenVersion`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenVersion {
    pub(crate) state: String,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) environment: Option<String>,
    pub(crate) token: Option<ObjectRef>,
}

/// Any object, of which only the id is read.
#[derive(Deserialize)]
pub(crate) struct ObjectRef {
    pub(crate) id: Option<i64>,
}

/// `Charge`. Its state is not read: the transaction's decides.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Charge {
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) transaction: Option<ObjectRef>,
}

/// `TransactionCompletion`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Completion {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) linked_transaction: Option<i64>,
    pub(crate) external_id: Option<String>,
    pub(crate) amount: Option<Amount>,
    pub(crate) failure_reason: Option<FailureReason>,
}

/// `TransactionVoid`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Void {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) linked_transaction: Option<i64>,
    pub(crate) transaction: Option<ObjectRef>,
    pub(crate) failure_reason: Option<FailureReason>,
}

/// `Refund`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refund {
    pub(crate) id: i64,
    pub(crate) state: String,
    pub(crate) linked_space_id: Option<i64>,
    pub(crate) transaction: Option<RefundedTransaction>,
    pub(crate) external_id: Option<String>,
    pub(crate) amount: Option<Amount>,
    pub(crate) failure_reason: Option<FailureReason>,
}

/// The transaction within a refund.
#[derive(Deserialize)]
pub(crate) struct RefundedTransaction {
    pub(crate) id: Option<i64>,
    pub(crate) currency: Option<String>,
}

/// A page of search results. An object without `data` is no page: read as an empty one it would
/// say that a payment was never made, and a second would be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    pub(crate) has_more: Option<bool>,
}

/// `WebhookListener`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listener {
    pub(crate) enable_payload_signature_and_state: Option<bool>,
}

/// `RestApiErrorResponse`. Its texts are not read.
#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) id: Option<String>,
    pub(crate) code: Option<String>,
}

/// The body of a webhook (`providers/postfinance.md` §4.2).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WebhookPayload {
    pub(crate) event_id: i64,
    pub(crate) entity_id: i64,
    pub(crate) listener_entity_id: i64,
    pub(crate) space_id: i64,
}
