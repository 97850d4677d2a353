//! Charges accounts at PostFinance, PayPal and Aduno behind one trait, and never holds a card.

pub mod account;
pub mod client;
pub mod config;
/// What the gateway answers when it does not do what was asked.
pub mod error;
pub mod gateway;
mod journal;
mod letters;
pub mod message;
pub mod pan;
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
pub mod store;
pub mod vault;
