//! PayPal's JSON, by allow-list: what is not named here is dropped unread. That holds for masked
//! numbers, expiry, brand, names, addresses and e-mail addresses (`providers/paypal.md` §5.6).
//!
//! Statuses stay text: PayPal adds words, and each one gets its meaning in `mapping.rs`.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// `money`: the value is text, with two decimals or none.
#[derive(Serialize, Deserialize)]
pub(crate) struct Amount {
    pub(crate) currency_code: String,
    pub(crate) value: String,
}

/// A link of an answer. Only ids and checked addresses are taken from it.
#[derive(Deserialize)]
pub(crate) struct Link {
    pub(crate) href: String,
    pub(crate) rel: String,
}

#[derive(Deserialize)]
pub(crate) struct AccessTokenAnswer {
    pub(crate) access_token: SecretString,
    pub(crate) token_type: String,
    /// In seconds.
    pub(crate) expires_in: u64,
}

/// `{"error":"invalid_client"}`, the shape of RFC 6749.
#[derive(Deserialize)]
pub(crate) struct AccessTokenError {
    pub(crate) error: String,
}

#[derive(Serialize)]
pub(crate) struct OrderRequest<'a> {
    pub(crate) intent: &'static str,
    pub(crate) purchase_units: [PurchaseUnitRequest<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_source: Option<PaymentSource<'a>>,
}

#[derive(Serialize)]
pub(crate) struct PurchaseUnitRequest<'a> {
    pub(crate) custom_id: &'a str,
    pub(crate) invoice_id: &'a str,
    pub(crate) amount: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
}

/// The body of capture order and of authorize order.
#[derive(Serialize)]
pub(crate) struct PayOrderRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payment_source: Option<PaymentSource<'a>>,
}

/// How an order is paid. There is no card in it, on purpose.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PaymentSource<'a> {
    Paypal(WalletSource<'a>),
    Token(TokenId<'a>),
}

#[derive(Serialize)]
pub(crate) struct WalletSource<'a> {
    pub(crate) vault_id: &'a str,
    pub(crate) stored_credential: StoredCredential,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) experience_context: Option<ExperienceContext<'a>>,
}

#[derive(Serialize)]
pub(crate) struct StoredCredential {
    pub(crate) payment_initiator: &'static str,
    pub(crate) usage: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage_pattern: Option<&'static str>,
}

#[derive(Serialize)]
pub(crate) struct ExperienceContext<'a> {
    pub(crate) return_url: &'a str,
    pub(crate) cancel_url: String,
    pub(crate) shipping_preference: &'static str,
    pub(crate) user_action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vault_instruction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brand_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) locale: Option<&'a str>,
}

#[derive(Serialize)]
pub(crate) struct TokenId<'a> {
    pub(crate) id: &'a str,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

#[derive(Deserialize)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) purchase_units: Vec<PurchaseUnit>,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

#[derive(Deserialize)]
pub(crate) struct PurchaseUnit {
    pub(crate) custom_id: Option<String>,
    pub(crate) amount: Option<Amount>,
    #[serde(default)]
    pub(crate) payments: Payments,
}

#[derive(Deserialize, Default)]
pub(crate) struct Payments {
    #[serde(default)]
    pub(crate) authorizations: Vec<Authorization>,
    #[serde(default)]
    pub(crate) captures: Vec<Capture>,
    #[serde(default)]
    pub(crate) refunds: Vec<Refund>,
}

#[derive(Deserialize)]
pub(crate) struct Authorization {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: Option<Amount>,
    pub(crate) custom_id: Option<String>,
    pub(crate) expiration_time: Option<String>,
    pub(crate) status_details: Option<StatusDetails>,
    pub(crate) processor_response: Option<ProcessorResponse>,
}

#[derive(Deserialize)]
pub(crate) struct Capture {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: Option<Amount>,
    pub(crate) custom_id: Option<String>,
    pub(crate) invoice_id: Option<String>,
    pub(crate) status_details: Option<StatusDetails>,
    pub(crate) processor_response: Option<ProcessorResponse>,
}

#[derive(Deserialize)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) amount: Option<Amount>,
    pub(crate) custom_id: Option<String>,
    pub(crate) status_details: Option<StatusDetails>,
}

#[derive(Deserialize)]
pub(crate) struct StatusDetails {
    pub(crate) reason: Option<String>,
}

/// Only the two codes: the check results of address and security code are card data.
#[derive(Deserialize)]
pub(crate) struct ProcessorResponse {
    pub(crate) response_code: Option<String>,
    pub(crate) payment_advice_code: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct CaptureRequest<'a> {
    pub(crate) amount: Amount,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) invoice_id: Option<&'a str>,
    pub(crate) final_capture: bool,
}

#[derive(Serialize)]
pub(crate) struct RefundRequest<'a> {
    pub(crate) amount: Amount,
    pub(crate) custom_id: &'a str,
}

#[derive(Serialize)]
pub(crate) struct SetupTokenRequest<'a> {
    pub(crate) customer: Customer<'a>,
    pub(crate) payment_source: SetupSource<'a>,
}

#[derive(Serialize)]
pub(crate) struct Customer<'a> {
    pub(crate) merchant_customer_id: &'a str,
}

#[derive(Serialize)]
pub(crate) struct SetupSource<'a> {
    pub(crate) paypal: SetupWallet<'a>,
}

#[derive(Serialize)]
pub(crate) struct SetupWallet<'a> {
    pub(crate) usage_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage_pattern: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<&'a str>,
    pub(crate) permit_multiple_payment_tokens: bool,
    pub(crate) experience_context: ExperienceContext<'a>,
}

#[derive(Deserialize)]
pub(crate) struct SetupToken {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) customer: Option<CustomerAnswer>,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

#[derive(Deserialize)]
pub(crate) struct CustomerAnswer {
    pub(crate) id: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct PaymentTokenRequest<'a> {
    pub(crate) payment_source: PaymentTokenSource<'a>,
}

#[derive(Serialize)]
pub(crate) struct PaymentTokenSource<'a> {
    pub(crate) token: TokenId<'a>,
}

#[derive(Deserialize)]
pub(crate) struct PaymentToken {
    pub(crate) id: String,
}

#[derive(Deserialize)]
pub(crate) struct PaymentTokens {
    #[serde(default)]
    pub(crate) payment_tokens: Vec<PaymentToken>,
}

/// Begin a billing agreement (`providers/paypal.md` §5.7).
#[derive(Serialize)]
pub(crate) struct AgreementTokenRequest<'a> {
    pub(crate) description: &'a str,
    pub(crate) payer: AgreementPayer,
    pub(crate) plan: AgreementPlan<'a>,
}

#[derive(Serialize)]
pub(crate) struct AgreementPayer {
    pub(crate) payment_method: &'static str,
}

#[derive(Serialize)]
pub(crate) struct AgreementPlan<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) merchant_preferences: MerchantPreferences<'a>,
}

#[derive(Serialize)]
pub(crate) struct MerchantPreferences<'a> {
    pub(crate) return_url: &'a str,
    pub(crate) cancel_url: String,
    pub(crate) skip_shipping_address: bool,
    pub(crate) accepted_pymt_type: &'static str,
}

#[derive(Deserialize)]
pub(crate) struct AgreementToken {
    pub(crate) token_id: String,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

#[derive(Serialize)]
pub(crate) struct AgreementRequest<'a> {
    pub(crate) token_id: &'a str,
}

#[derive(Deserialize)]
pub(crate) struct Agreement {
    pub(crate) id: String,
    pub(crate) state: String,
}

/// A success that needs no body: nothing is read of one that is there, but it is an object.
#[derive(Deserialize)]
pub(crate) struct Accepted {
    // Without `default`, so that `[]` is not one.
    pub(crate) error: Option<serde::de::IgnoredAny>,
}

/// `error` of all APIs. `message`, `description` and `value` are left out: they may quote input.
#[derive(Deserialize)]
pub(crate) struct ErrorBody {
    pub(crate) name: Option<String>,
    pub(crate) debug_id: Option<String>,
    #[serde(default)]
    pub(crate) details: Vec<ErrorDetail>,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
}

#[derive(Deserialize)]
pub(crate) struct ErrorDetail {
    pub(crate) issue: Option<String>,
}

/// A webhook event, as far as it says what to look at.
#[derive(Deserialize)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) resource_version: Option<String>,
    pub(crate) resource: EventResource,
}

#[derive(Deserialize)]
pub(crate) struct EventResource {
    pub(crate) id: Option<String>,
    pub(crate) order_id: Option<String>,
    pub(crate) custom_id: Option<String>,
    pub(crate) supplementary_data: Option<SupplementaryData>,
    #[serde(default)]
    pub(crate) links: Vec<Link>,
    #[serde(default)]
    pub(crate) disputed_transactions: Vec<DisputedTransaction>,
}

#[derive(Deserialize)]
pub(crate) struct SupplementaryData {
    pub(crate) related_ids: Option<RelatedIds>,
}

#[derive(Deserialize)]
pub(crate) struct RelatedIds {
    pub(crate) order_id: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct DisputedTransaction {
    pub(crate) seller_transaction_id: Option<String>,
}
