//! Aduno behind [`PaymentProvider`](cardless_contract::PaymentProvider).
//!
//! "aduno" means **card acceptance of the former Aduno book, reached through the Datatrans
//! gateway**. Aduno never was an API: it was a Swiss acquirer, whose business was sold to SIX
//! Payment Services in 2017 and became Worldline's in 2018. A merchant with a contract from that
//! book takes cards online through a gateway, and this adapter speaks the JSON API of one,
//! Datatrans (`providers/aduno.md` §1). Nothing but `wire` and `client` knows that API, so
//! another gateway could take its place without a change to the trait.
//!
//! | ours | Datatrans |
//! | --- | --- |
//! | setup | transaction without amount (`card_check`) on the hosted page, with `createAlias` |
//! | provider token | alias, exactly 32 of `A-Za-z0-9_-` |
//! | reserve, merchant | `POST /v1/transactions/authorize`, `autoSettle: false`: a hold |
//! | reserve, customer | `POST /v1/transactions` with the alias: a page, then the hold or capture |
//! | commit, automatic | settle of the whole amount; manual: nothing, the hold is the result |
//! | capture, void, refund | settle, cancel, credit |
//!
//! What is odd there, and what follows from it here:
//!
//! - A card alias is charged with its expiry date. The date is written onto the alias once the
//!   customer has registered, and read back in memory at each charge (§6.3, option B); it is
//!   stored nowhere.
//! - Nothing finds a payment by our reference, and no webhook tells of a charge without a
//!   customer. An unknown charge is found out only by sending the same bytes under the same key
//!   within 60 minutes (§8), which is why a charge passes
//!   [`BodySeal`](cardless_contract::BodySeal).
//! - A cancel takes back a capture too, until it is handed to the acquirer (§5.6). A void reads
//!   first, so that it releases holds only.
//! - Twenty aliases that do not exist, asked for within 15 minutes, block the caller's address
//!   (§10.3). An alias of another shape is refused before anything is sent.
//! - Answers carry masked numbers, expiry dates, fingerprints and scheme tokens (§9.4). The types
//!   of `wire` lack members for them, so they are dropped unread.
//!
//! No operation that takes or gives a card number is implemented.
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

pub use config::{Config, ConfigError, Environment};
pub use provider::Aduno;

/// What the body of a webhook is about, without its signature: for `fuzz/` alone.
///
/// # Errors
///
/// What is wrong with it.
#[cfg(fuzzing)]
pub fn decode_notification(
    body: &[u8],
) -> Result<cardless_contract::Notification, cardless_contract::NotificationError> {
    notification::decode(body, "1100000000")
}
