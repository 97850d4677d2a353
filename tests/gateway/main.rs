//! The gateway over a provider that a test can break at any point: what is charged, what is
//! remembered, and what is said about it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "helpers of tests fail by panicking"
)]

mod audit;
mod ceilings;
mod clients;
mod clock;
mod events;
mod fake;
mod flows;
mod handles;
mod keys;
mod operations;
mod people;
mod reload;
mod restriction;
mod rights;
mod schedules;
mod schema;
mod scope;
mod setups;
mod stalls;
mod stores;
mod transfer;
mod verify;
mod world;
