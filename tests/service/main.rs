//! The service from outside: its router without a socket, and the command line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod answers;
mod audit;
mod beside;
mod client;
mod command_line;
mod drill;
mod events;
mod keys;
mod listener;
mod log;
mod openapi;
mod people;
mod readme;
mod reload;
mod rights;
mod rotate;
mod rotation;
mod round;
mod scan;
mod scope;
mod support;
mod transfer;
mod world;
