//! Cases on the sandbox: whole flows against a stateful provider, whose ledger says what really
//! moved. Every exchange is judged by the published document, both ways.

mod flow;
mod linking;
mod notifying;
mod paying;
mod repeating;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cardless_contract::{Money, PaymentProvider, RedirectUrl};
use cardless_transport::Request;
use http::HeaderMap;

use crate::judge::Fault as JudgedFault;

pub use linking::*;
pub use notifying::*;
pub use paying::*;
pub use repeating::*;

/// An adapter before the sandbox.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The adapter.
    fn provider(&self) -> &dyn PaymentProvider;

    /// The same adapter with credentials that the sandbox does not know.
    fn stranger(&self) -> Box<dyn PaymentProvider>;

    /// What the customer does at a hosted page. Follows the page's form; the redirect back is not
    /// followed.
    async fn decide(&self, page: &RedirectUrl, decision: Decision);

    /// Injects a fault into the next request of a step.
    fn inject(&self, step: Step, fault: Fault);

    /// Moves the sandbox's clock, which is the adapter's too.
    fn advance(&self, by: Duration);

    /// Every movement that really took place, in order.
    fn movements(&self) -> Vec<Movement>;

    /// The webhooks that were sent since the last question.
    fn deliveries(&self) -> Vec<Delivered>;

    /// Every request that the adapter has sent, in order.
    fn sent(&self) -> Vec<Request>;

    /// What was not documented so far.
    fn faults(&self) -> Vec<JudgedFault>;
}

/// What a customer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Decision {
    Approve,
    Decline,
    Abandon,
}

/// The step that a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the trait's methods")]
pub enum Step {
    BeginSetup,
    CompleteSetup,
    Reserve,
    Commit,
    Capture,
    Void,
    Refund,
    Revoke,
}

/// What goes wrong, in the words of the sandbox's control.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the sandbox's control")]
pub enum Fault {
    Refuse,
    DropBefore,
    Stall,
    ExecuteThenDrop,
    ExecuteThen500,
    HalfBody,
    Decline,
    Pending,
}

/// One movement that took place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// `authorize`, `capture`, `void` or `refund`.
    pub kind: Kind,
    /// How much.
    pub amount: Money,
}

/// What kind of movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Kind {
    Authorize,
    Capture,
    Void,
    Refund,
}

/// A webhook as it was sent.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Step {
    /// The request of the step at a provider, as method and path prefix.
    pub fn operation(self, provider: &str, agreements: bool) -> &'static str {
        match provider {
            "paypal" => self.at_paypal(agreements),
            "postfinance" => self.at_postfinance(),
            _ => self.at_aduno(),
        }
    }

    const fn at_paypal(self, agreements: bool) -> &'static str {
        match self {
            Self::BeginSetup if agreements => "POST /v1/billing-agreements/agreement-tokens",
            Self::CompleteSetup if agreements => "POST /v1/billing-agreements/agreements",
            Self::Revoke if agreements => "POST /v1/billing-agreements/agreements/",
            Self::BeginSetup => "POST /v3/vault/setup-tokens",
            Self::CompleteSetup => "POST /v3/vault/payment-tokens",
            Self::Revoke => "DELETE /v3/vault/payment-tokens/",
            Self::Reserve => "POST /v2/checkout/orders",
            Self::Commit => "POST /v2/checkout/orders/",
            Self::Capture | Self::Void => "POST /v2/payments/authorizations/",
            Self::Refund => "POST /v2/payments/captures/",
        }
    }

    const fn at_postfinance(self) -> &'static str {
        match self {
            Self::BeginSetup | Self::Reserve => "POST /api/v2.0/payment/transactions",
            Self::CompleteSetup => "GET /api/v2.0/payment/transactions/",
            Self::Commit | Self::Capture | Self::Void => "POST /api/v2.0/payment/transactions/",
            Self::Refund => "POST /api/v2.0/payment/refunds",
            Self::Revoke => "DELETE /api/v2.0/payment/tokens/",
        }
    }

    const fn at_aduno(self) -> &'static str {
        match self {
            Self::BeginSetup => "POST /v1/transactions",
            Self::CompleteSetup => "GET /v1/transactions/",
            Self::Reserve => "POST /v1/transactions/authorize",
            Self::Commit | Self::Capture | Self::Void | Self::Refund => "POST /v1/transactions/",
            Self::Revoke => "DELETE /v1/aliases/",
        }
    }
}
