//! The three providers on loopback: stateful, wire-level, for development and tests.
#![allow(dead_code, unused_imports)]

mod aduno;
mod dialect;
mod ledger;
mod page;
mod paypal;
mod postfinance;

pub use dialect::OutgoingWebhook;
pub use ledger::{Entry, EntryKind, Ledger};
pub use paypal::{
    CERTIFICATE_ID as PAYPAL_CERTIFICATE_ID, CLIENT_ID as PAYPAL_CLIENT_ID,
    CLIENT_SECRET as PAYPAL_CLIENT_SECRET, ROOT_PEM as PAYPAL_ROOT_PEM,
    WEBHOOK_ID as PAYPAL_WEBHOOK_ID,
};
