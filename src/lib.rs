//! SKELETON.
pub mod account;
pub mod error;
pub mod gateway;
mod letters;
pub mod message;
pub mod pan;
pub mod vault;
