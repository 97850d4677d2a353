//! The three providers on loopback: stateful, wire-level, for development and tests.
//!
//! It speaks the protocols themselves: OAuth, JWT and Basic authentication are checked, states,
//! idempotency windows and ceilings are kept, hosted pages have buttons, webhooks are signed. A
//! client that we did not write works on it. It is a dev tool: its keys are published test
//! material, so it listens on loopback only, and a release build of the service lacks it.
//!
//! # Running it
//!
//! `cardless sandbox` starts one port for each provider and one for control;
//! `cardless sandbox --print-settings` prints the settings that fit. In Rust:
//!
//! - [`Servers::start`] does the same on any loopback ports (port 0 picks a free one);
//! - [`Sandbox::provider`] gives a handle that an
//!   [`InProcessClient`](cardless_transport::InProcessClient) calls without a socket, on one
//!   thread, with the same answers in the same order each time.
//!
//! Both go through [`Sandbox::serve_call`], so they behave alike. Use one of them at a time on one
//! sandbox.
//!
//! # Time
//!
//! All three share a [`SandboxClock`]. `POST /clock` (or [`Sandbox::advance`]) moves it forward:
//! pending calls succeed, holds lapse, idempotency windows close.
//!
//! # Faults
//!
//! A [`Fault`] befalls the next calls of one provider whose method and path match.
//!
//! | fault | executed? | what the client sees |
//! | --- | --- | --- |
//! | `refuse` | no | the port is closed |
//! | `drop_before` | no | the connection breaks without an answer |
//! | `stall` | no | no answer, until it gives up |
//! | `execute_then_drop` | yes | the connection breaks without an answer |
//! | `execute_then_500` | yes | a 500 |
//! | `half_body` | yes | the connection breaks in the middle of the body (at once, if it is empty) |
//! | `decline` | yes | the decline that the provider's fact sheet gives for the call |
//! | `pending` | yes | pending; it succeeds once the clock has moved by 60 s |
//!
//! In process, `refuse` is counted exactly. A closed port can't count who knocks, so over sockets
//! each attempt stands for [`REFUSED_ATTEMPT_SECONDS`] of real time: the port is closed for
//! `times` of that, kept connections are cut, and it opens again by itself, or with `POST /reset`.
//! The port is closed before `POST /faults` answers.
//!
//! # Webhooks
//!
//! `POST /webhooks` (or [`Sandbox::route_webhooks`]) says where a provider's webhooks go and how:
//! at once, twice, in reverse order, or never. Over sockets they are posted, and again a few times
//! until one is answered with 2xx; in process they wait for [`Sandbox::take_webhooks`].

pub mod aduno;
mod client;
mod clock;
mod control;
mod dialect;
mod fault;
mod ledger;
mod page;
pub mod paypal;
pub mod postfinance;
mod requests;
mod sandbox;
mod server;
mod settings;
#[cfg(test)]
mod testing;
mod webhooks;

pub use client::ProviderHandle;
pub use clock::SandboxClock;
pub use dialect::OutgoingWebhook;
pub use fault::{Fault, FaultError, FaultKind, Operation};
pub use ledger::{Entry, EntryKind, Ledger};
pub use requests::RecordedRequest;
pub use sandbox::{Provider, Sandbox};
pub use server::{Addresses, REFUSED_ATTEMPT_SECONDS, Running, Servers};
pub use settings::print_settings;
pub use webhooks::{Deliver, WebhookRoute};
