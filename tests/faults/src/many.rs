//! Many seeds: each on one thread, several at a time.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::arrival::arrivals;
use crate::figures::Figures;
use crate::invariant::Violation;
use crate::plan::{Step, plan};
use crate::run::run;
use crate::shrink::shrink;
use crate::world::Broken;

/// One seed of so many is run with its webhooks in every order too.
pub const ARRIVALS_EVERY: u64 = 10;

/// A schedule that has broken an invariant.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What it has broken.
    pub violations: Vec<Violation>,
    /// The shortest schedule of it that was found.
    pub steps: Vec<Step>,
    /// What that does.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seed = self.seed;
        writeln!(f, "seed {seed}, the shortest schedule that still fails:")?;
        for step in &self.steps {
            writeln!(f, "  {step:?}")?;
        }
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        for violation in &self.violations {
            writeln!(f, "{violation}")?;
        }
        let again = "cargo run --release -p cardless-faults -- --seed";
        writeln!(f, "again: {again} {seed}")?;
        writeln!(f, "shortened: {again} {seed} --shrink")
    }
}

/// What a seed comes to.
#[derive(Debug)]
pub struct Examined {
    /// What it has broken.
    pub violations: Vec<Violation>,
    /// What was done and judged.
    pub figures: Figures,
    /// What happened.
    pub trace: Vec<String>,
}

/// Runs a schedule and judges it; with `in_orders` also with its webhooks in every order.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn examine(seed: u64, steps: &[Step], in_orders: bool) -> Result<Examined, Broken> {
    let outcome = run(seed, steps)?;
    let (mut violations, mut figures) = (outcome.violations, outcome.figures);
    if in_orders {
        violations.extend(arrivals(seed, steps, &mut figures)?);
    }
    Ok(Examined {
        violations,
        figures,
        trace: outcome.trace,
    })
}

/// Whether a seed is run with its webhooks in every order.
pub const fn is_in_orders(seed: u64) -> bool {
    seed.is_multiple_of(ARRIVALS_EVERY)
}

/// The shortest schedule of a seed that still breaks the first invariant that it has broken.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn shorten(seed: u64, examined: &Examined) -> Result<Failure, Broken> {
    let in_orders = is_in_orders(seed);
    let first = examined.violations.first().map(|one| one.invariant);
    let breaks = |steps: &[Step]| -> Result<bool, Broken> {
        let found = examine(seed, steps, in_orders)?;
        Ok(found
            .violations
            .iter()
            .any(|one| Some(one.invariant) == first))
    };
    let steps = shrink(plan(seed), breaks)?;
    let found = examine(seed, &steps, in_orders)?;
    Ok(Failure {
        seed,
        violations: found.violations,
        steps,
        trace: found.trace,
    })
}

/// Runs the schedules of these seeds, `threads` of them at a time. `tell` hears of every failure,
/// shortened, and `done` of every seed; both from any thread.
///
/// # Errors
///
/// A bug of the simulation itself; it names the seed.
pub fn examine_all(
    seeds: Range<u64>,
    threads: usize,
    tell: &(dyn Fn(Failure) + Sync),
    done: &(dyn Fn() + Sync),
) -> Result<Figures, Broken> {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Figures::default());
    let work = || -> Result<(), Broken> {
        let mut own = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let broken = |error: Broken| -> Broken { format!("seed {seed}: {error}").into() };
            let examined = examine(seed, &plan(seed), is_in_orders(seed)).map_err(broken)?;
            own.add(&examined.figures);
            if !examined.violations.is_empty() {
                tell(shorten(seed, &examined).map_err(broken)?);
            }
            done();
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")??;
        }
        Ok::<(), Broken>(())
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}
