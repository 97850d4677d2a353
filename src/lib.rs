//! SKELETON.
pub mod client;
pub mod config;
pub mod error;
pub mod gateway;
pub mod message;
mod pan;
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
pub mod vault;
