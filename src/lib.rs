//! SKELETON.
pub mod config;
pub mod error;
pub mod gateway;
pub mod message;
pub mod vault;
