//! SKELETON.
pub mod account;
pub mod client;
pub mod config;
/// What the gateway answers when it does not do what was asked.
pub mod error;
pub mod gateway;
mod letters;
pub mod message;
pub mod pan;
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
pub mod vault;
