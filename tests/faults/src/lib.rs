//! The fault simulation: two processes of the gateway on one store, the three adapters and the
//! sandbox, on one thread with paused time. A seed gives a schedule of calls, faults, crashes,
//! clock jumps and webhooks; after each, the fourteen [`INVARIANTS`] are judged, against the
//! sandbox's ledger where money is concerned.
//!
//! `cargo test -p cardless-faults` runs [`SCHEDULES`] seeds. More of them, or one again:
//!
//! ```text
//! cargo run --release -p cardless-faults -- --schedules 100000
//! cargo run --release -p cardless-faults -- --seed 4711
//! cargo run --release -p cardless-faults -- --seed 4711 --shrink
//! ```
//!
//! A run of so many fails, too, if a fault of the list or an invariant was not reached, or a request of
//! a provider was not struck both by a fault that loses its answer and by one that keeps it from being
//! carried out.
//!
//! What happens:
//!
//! - **Calls**: pay, capture, void, refund, link with and without a first payment, complete, revoke,
//!   choose a default, restrict, repeat, and ask for what is another's; by two accounts in four
//!   currencies with 0, 2 and 3 decimals, one at a time or several at once, at either process.
//! - **Faults at a provider**: those of the sandbox, and a request that gets no answer and arrives
//!   later, within the longest delay that the provider's capabilities name.
//!   Every third schedule begins with a call of which one named request is struck.
//! - **Crashes**. A process dies at a boundary: the moment before or after it asks the store or the
//!   network for something. Nothing that it was about to do happens after that, and another process
//!   starts on the same store; that one may die at its first look. Between two boundaries nothing
//!   durable happens, so this is a crash at any await.
//! - **Stores** that fail to write or to read, and processes that stand still for longer than a
//!   lease or any deadline.
//! - **Time**: tokio's paused time is everybody's, so whoever waits grows older; it jumps past each
//!   window of a provider and past the 400 days of a key. A process's clock is off by seconds; the
//!   machine's is set ahead and back by up to weeks, seen at work, or only when something is driven
//!   next, or while nobody is at work.
//! - **Webhooks** in order, twice, reversed, in part, or months late; and every tenth seed once in
//!   each order, to the same end.
//! - **Worlds**: PayPal's flow in two calls or in one, with tokens of its vault or agreements;
//!   PostFinance's page can be paid for as long as the gateway expects a customer to take, or for hours,
//!   a day or weeks longer.
//! - **People**: customers who approve, decline, leave, and come back; operators who end what is
//!   parked, as the ledger says.
//!
//! At the end faults stop, everything is driven to its end, and then customers press what they still
//! have open, old webhooks come, and two months pass: what has ended must stay so.
//!
//! Apart from that, every order of up to six webhooks, each once to three times, racing the calls
//! that cause them, ends in one state: `-- --webhooks`; the ordinary tests take a share. One order again,
//! as a difference prints it: `-- --webhooks --provider paypal --seed 3 --case 7 --every 13`.

mod arrival;
mod call;
mod caught;
mod clock;
mod end;
mod ended;
mod figures;
#[cfg(test)]
mod found;
mod history;
mod invariant;
mod judge;
mod many;
mod network;
mod orders;
mod output;
mod plan;
mod random;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod rotation;
mod run;
mod seam;
mod shrink;
mod strike;
mod switch;
mod traits;
mod world;

pub use arrival::arrivals;
pub use figures::{Figures, ForPeople};
pub use history::Movement;
pub use invariant::{INVARIANTS, Invariant, Line, Violation};
pub use judge::{Evidence, Found, Repeat};
pub use many::{ARRIVALS_EVERY, Examined, Failure, examine, examine_all, is_in_orders, shorten};
pub use orders::{Order, Orders, SLOTS, Selection, all_orders, choices, run_orders, some_orders};
pub use plan::{Call, Decision, Delivery, Seen, Step, plan};
pub use run::{Arrival, Outcome, run, run_arriving};
pub use seam::{Glimpse, Intent, Mark, Sent};
pub use shrink::shrink;
pub use strike::Effect;

/// How many seeds the ordinary tests run.
pub const SCHEDULES: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_schedule_breaks_an_invariant() {
        let failures = std::sync::Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let keep = |failure: Failure| failures.lock().unwrap().push(failure);
        let figures = examine_all(0..SCHEDULES, threads, &keep, &|| {}).unwrap();
        assert_eq!(figures.schedules, SCHEDULES);
        let failures = failures.into_inner().unwrap();
        for failure in &failures {
            println!("{failure}");
        }
        assert!(failures.is_empty(), "{} seeds have failed", failures.len());
        println!("{}", figures.lines().join("\n"));
        // What the schedules do not reach, they say nothing of.
        assert_eq!(figures.falls_short(), Vec::<String>::new());
    }

    #[test]
    fn what_was_found_once_stays_mended() {
        for (seed, steps) in found::all() {
            let examined = examine(seed, &steps, true);
            assert_eq!(examined.violations, [], "seed {seed}");
            assert_eq!(examined.stopped, None, "seed {seed}");
        }
    }

    /// Trace, ledger, rows, events, and what left: everything but the log, which has real
    /// milliseconds in it.
    fn all_of(outcome: &Outcome) -> String {
        let evidence = &outcome.evidence;
        format!(
            "{}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:?}",
            outcome.trace.join("\n"),
            evidence.payments,
            evidence.ledger,
            evidence.events,
            evidence.history,
            evidence.sent,
            outcome.figures,
        )
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_ledger_and_rows() {
        for seed in 0..40 {
            let steps = plan(seed);
            let first = run(seed, &steps).unwrap();
            let second = run(seed, &steps).unwrap();
            let (first, second) = (all_of(&first), all_of(&second));
            let mut lines = first.lines().zip(second.lines());
            assert_eq!(lines.find(|(a, b)| a != b), None, "seed {seed}");
            assert_eq!(first.len(), second.len(), "seed {seed}");
        }
    }
}
