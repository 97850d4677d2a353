//! PayPal behind the contract.
//!
//! PayPal's word for each of ours:
//!
//! | ours | PayPal's |
//! | --- | --- |
//! | setup | setup token (Payment Method Tokens v3), or billing agreement token (v1) |
//! | provider token | payment token (`vault_id`), or billing agreement (`B-…`) |
//! | reserve | create order, without a payment source |
//! | commit | capture order, or authorize order, with the payment source |
//! | authorize, capture, void, refund | the same words, in Payments v2 |
//! | our reference | `custom_id`; for captures of an authorization `invoice_id` |
//! | idempotency key | `PayPal-Request-Id` |
//! | notification | webhook event |
//!
//! What is odd about it, and where the facts stand (`providers/paypal.md`):
//!
//! - An order is found by its id only (§7). So it is made without a payment source first, and its
//!   id is stored before money can move.
//! - HTTP 201 and an order that reads `COMPLETED` may hold a capture that is declined or pending;
//!   the inner status decides (§6.4).
//! - A decline comes in two shapes: 422 with an issue, or 201 with an inner status (§9).
//! - HUF, JPY and TWD have no decimals at PayPal, whatever ISO 4217 says (§4).
//! - A webhook's signature covers a CRC-32 of the body, so the body is never believed (§8.4).
//!
//! With `order_flow = "one_call"` the token goes with the order's creation, since some accounts
//! may refuse it later (§6.2). The order then always has intent `AUTHORIZE`: the reserve holds and
//! never takes, [`Capabilities::reserve_holds`](cardless_contract::Capabilities::reserve_holds) is
//! true, and the commit captures the authorization. Such a reserve is a one-shot call: it may be
//! repeated only while PayPal keeps its request id.
//!
//! A chargeback has no status and no object of its own (`providers/paypal.md` §6.4). Where a capture
//! reads as refunded and the refunds that are shown do not come to it, the payment says so
//! (`Payment::returned`); that PayPal shows a chargeback in this way is not documented.

mod auth;
mod client;
mod config;
mod error;
mod mapping;
mod notification;
mod provider;
mod wire;

pub use config::{Config, ConfigError, Environment, OrderFlow, TokenKind, UsagePattern};
pub use provider::PayPal;

/// What the body of a webhook is about, without its signature: for `fuzz/` alone.
///
/// # Errors
///
/// What is wrong with it.
#[cfg(fuzzing)]
pub fn decode_notification(
    body: &[u8],
) -> Result<cardless_contract::Notification, cardless_contract::NotificationError> {
    notification::decode(body, "a-transmission")
}
