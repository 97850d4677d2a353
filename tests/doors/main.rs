//! The webhook doors, and what races at them: nothing forged changes anything, nothing leaves the
//! list of addresses, and no order of webhooks and calls ends in another state.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "test code stops at the first surprise"
)]

mod addresses;
mod aduno;
mod certificates;
mod collision;
mod forge;
mod judge;
mod paypal;
mod postfinance;
mod races;
mod webhook;
mod world;
