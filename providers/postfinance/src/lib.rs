//! PostFinance Checkout (Web Service API 2.0) behind the contract.
//!
//! PostFinance's word for each of ours:
//!
//! | ours | PostFinance's |
//! | --- | --- |
//! | setup | transaction with `tokenizationMode` `FORCE_CREATION`, and its payment page |
//! | provider token | id of a token; its credentials are the token's active version |
//! | reservation | transaction with `token`, in state `PENDING` or `CONFIRMED` |
//! | commit | `process-with-token`, then a read of the transaction |
//! | authorized | `AUTHORIZED` |
//! | captured | `FULFILL`, and nothing else (`providers/postfinance.md` §2.6) |
//! | capture | completion, under an `externalId` |
//! | void, refund | void; refund, under an `externalId` |
//! | our reference | `merchantReference` |
//!
//! What is absent:
//!
//! - No operation that takes a card number (`process-card-details…`) is here.
//! - No amount is ever a float: amounts are read and written as the digits of a JSON number.
//! - Nothing but `mapping.rs` knows both vocabularies, and it sends nothing.
//! - Making a transaction has no idempotency key at PostFinance (§3.8), so this crate never
//!   repeats one; [`PaymentProvider::find`](cardless_contract::PaymentProvider::find) tells
//!   whether it is there.
//!
//! No chargeback is found: nothing in the documents says how a transaction would show one.

mod auth;
mod client;
mod config;
mod error;
mod mapping;
mod notification;
mod provider;
mod wire;

pub use config::{Config, ConfigError, CustomersPresence, Environment};
pub use provider::PostFinance;

/// What the body of a webhook is about, without its signature: for `fuzz/` alone.
///
/// # Errors
///
/// What is wrong with it.
#[cfg(fuzzing)]
pub fn decode_notification(
    body: &[u8],
) -> Result<cardless_contract::Notification, cardless_contract::NotificationError> {
    notification::decode(&bytes::Bytes::copy_from_slice(body), 405)
}
