//! The evidence for the PCI review, read from where the facts are. Nothing but the service and the
//! command line reads this.
//!
//! So far: what each column of the store holds. A test compares the list with the live schema, and
//! `tests/secrecy` with what stands in a real database file.

pub mod columns;
