//! The fault simulation: two processes of the gateway on one store, the three adapters and the
//! sandbox, on one thread with paused time. A seed gives a schedule of calls, faults, crashes,
//! clock jumps and webhooks; after each, the invariants are judged against the sandbox's ledger.
//!
//! `cargo test -p cardless-faults` runs [`SCHEDULES`] seeds. More of them, or one again:
//!
//! ```text
//! cargo run --release -p cardless-faults -- --schedules 100000
//! cargo run --release -p cardless-faults -- --seed 4711
//! ```
//!
//! Apart from that, every order of up to six webhooks, each once to three times, racing the calls
//! that cause them, ends in one state: `-- --webhooks`; the ordinary tests take a share.
//!
//! A process dies at a boundary: the moment before or after it asks the store or the network for
//! something. Nothing that it was about to do happens after that, and another process starts on the
//! same store. Between two boundaries nothing durable happens, so this is a crash at any await.

mod ended;
mod history;
mod judge;
mod orders;
mod plan;
mod random;
mod run;
mod shrink;
mod switch;
mod world;

pub use judge::Violation;
pub use orders::{Order, Orders, SLOTS, all_orders, choices, run_orders, some_orders};
pub use plan::{Call, Delivery, Step, plan};
pub use run::{Outcome, run};
pub use shrink::shrink;

/// How many seeds the ordinary tests run.
pub const SCHEDULES: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_schedule_breaks_an_invariant() {
        for seed in 0..SCHEDULES {
            let steps = plan(seed);
            let outcome = run(seed, &steps).unwrap();
            if !outcome.violations.is_empty() {
                let (steps, outcome) = shrink(seed, steps, outcome).unwrap();
                panic!(
                    "seed {seed}: {:#?}\nafter {} steps:\n{}\nagain: cargo run -p cardless-faults -- --seed {seed}",
                    outcome.violations,
                    steps.len(),
                    outcome.trace.join("\n"),
                );
            }
        }
    }

    /// Seeds that have found something, beyond those that every run takes.
    const FOUND: [u64; 7] = [2062, 4240, 8199, 12_321, 18_003, 25_653, 29_854];

    #[test]
    fn what_was_found_once_stays_mended() {
        for seed in FOUND {
            let outcome = run(seed, &plan(seed)).unwrap();
            assert_eq!(outcome.violations, [], "seed {seed}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_trace() {
        for seed in [3, 14, 159] {
            let first = run(seed, &plan(seed)).unwrap();
            let second = run(seed, &plan(seed)).unwrap();
            assert_eq!(first.trace, second.trace, "seed {seed}");
        }
    }
}
