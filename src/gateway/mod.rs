//! SKELETON: signatures are final, bodies come.
#![allow(missing_docs, clippy::todo, unused_variables)]
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use cardless_contract::{Clock, Entropy, PaymentProvider, ProviderName};
use http::HeaderMap;

use crate::error::Error;
use crate::message::*;

/// Who asks, and under which `Idempotency-Key`.
#[derive(Debug, Clone)]
pub struct RequestKey {
    pub client: String,
    pub key: String,
}

impl RequestKey {
    /// Checks the key: 1–255 visible ASCII characters, no card number.
    pub fn new(client: impl Into<String>, key: impl Into<String>) -> Result<Self, Error> { todo!() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role { Billing, Operator, Auditor }

/// A client of the service, as listed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ClientInfo {
    pub name: String,
    pub role: Role_,
    pub created_at: cardless_contract::Timestamp,
    pub revoked_at: Option<cardless_contract::Timestamp>,
}
pub type Role_ = String;

/// How one provider answered `check`.
#[derive(Debug)]
pub struct Probe { pub provider: ProviderName, pub result: Result<(), cardless_contract::ProviderError> }

/// What a reconcile did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ReconcileReport { pub looked_at: u64, pub concluded: u64, pub still_open: u64, pub parked: u64 }

/// What `account show` prints.
#[derive(Debug, Clone, serde::Serialize)]
pub struct AccountSummary {
    pub account: String,
    pub restricted: bool,
    pub payment_methods: Vec<PaymentMethod>,
    pub payments: u64,
    pub open_payments: u64,
    pub created_at: cardless_contract::Timestamp,
}

/// Where a browser goes after the provider sent it back.
#[derive(Debug, Clone)]
pub struct ReturnTo { pub location: String }

#[derive(Debug, Clone)]
pub struct Gateway {}

impl Gateway {
    pub async fn link(&self, key: &RequestKey, request: &LinkRequest) -> Result<Answer<Setup>, Error> { todo!() }
    pub async fn complete_link(&self, setup: &str) -> Result<Setup, Error> { todo!() }
    pub async fn setup(&self, id: &str) -> Result<Setup, Error> { todo!() }
    /// `GET /return/{state}`: completes the setup or asks about the payment; where to send the browser on.
    pub async fn returned(&self, state: &str) -> Result<ReturnTo, Error> { todo!() }
    pub async fn pay(&self, key: &RequestKey, request: &PayRequest) -> Result<Answer<Payment>, Error> { todo!() }
    pub async fn capture(&self, key: &RequestKey, payment: &str, request: &CaptureRequest) -> Result<Answer<Payment>, Error> { todo!() }
    pub async fn void(&self, key: &RequestKey, payment: &str, request: &VoidRequest) -> Result<Answer<Payment>, Error> { todo!() }
    pub async fn refund(&self, key: &RequestKey, payment: &str, request: &RefundRequest) -> Result<Answer<Refund>, Error> { todo!() }
    pub async fn payment(&self, id: &str) -> Result<Payment, Error> { todo!() }
    pub async fn payments(&self, query: &PaymentQuery) -> Result<Page<Payment>, Error> { todo!() }
    pub async fn refund_by_id(&self, id: &str) -> Result<Refund, Error> { todo!() }
    pub async fn payment_methods(&self, account: &str) -> Result<Page<PaymentMethod>, Error> { todo!() }
    pub async fn set_default(&self, id: &str, update: &MethodUpdate) -> Result<PaymentMethod, Error> { todo!() }
    /// `open` while the provider has not confirmed.
    pub async fn revoke(&self, id: &str, account: &str) -> Result<Answer<()>, Error> { todo!() }
    pub async fn notification(&self, provider: &str, headers: &HeaderMap, body: &Bytes) -> Result<(), Error> { todo!() }
    pub async fn reconcile(&self) -> Result<ReconcileReport, Error> { todo!() }
    pub async fn check(&self) -> Vec<Probe> { todo!() }
    pub async fn account(&self, account: &str) -> Result<AccountSummary, Error> { todo!() }
    /// Drives the resolver until `shutdown` ends. Must be spawned.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) { todo!() }
    /// Store and keys answer: for `/readyz`.
    pub async fn ready(&self) -> Result<(), Error> { todo!() }
    /// Prometheus text for `/metrics`.
    pub async fn metrics(&self) -> String { todo!() }

    // Clients (API keys) of the service.
    pub async fn add_client(&self, name: &str, role: Role) -> Result<String, Error> { todo!() } // the API key, ck_…
    pub async fn clients(&self) -> Result<Vec<ClientInfo>, Error> { todo!() }
    pub async fn revoke_client(&self, name: &str) -> Result<(), Error> { todo!() }
    /// Who holds this API key.
    pub async fn authenticate(&self, api_key: &str) -> Result<Option<(String, Role)>, Error> { todo!() }
}

/// Parts of a gateway.
#[derive(Debug, Default)]
pub struct GatewayBuilder {}

impl Gateway {
    pub fn builder() -> GatewayBuilder { GatewayBuilder::default() }
}

impl GatewayBuilder {
    /// `http://127.0.0.1:8080`; providers and browsers come back to it.
    pub fn public_url(self, url: &str) -> Self { todo!() }
    pub fn provider(self, provider: Arc<dyn PaymentProvider>) -> Self { todo!() }
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self { todo!() }
    pub fn entropy(self, entropy: Arc<dyn Entropy>) -> Self { todo!() }
    /// `sqlite:cardless.db`, `sqlite::memory:`; migrates it.
    pub fn store_url(self, url: &str) -> Self { todo!() }
    /// Keys as read from the key file.
    pub fn keys(self, keys: crate::vault::KeyRing) -> Self { todo!() }
    pub fn build(self) -> Result<Gateway, Error> { todo!() }
}
