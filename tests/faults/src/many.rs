//! Many seeds: each on one thread, several at a time.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::arrival::arrivals;
use crate::caught::caught;
use crate::figures::Figures;
use crate::invariant::Violation;
use crate::plan::{Step, plan};
use crate::run::run;
use crate::shrink::shrink;
use crate::world::Broken;

/// One seed of so many is run with its webhooks in every order too.
pub const ARRIVALS_EVERY: u64 = 10;

/// A schedule that has broken an invariant, or could not be run to its end.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What it has broken.
    pub violations: Vec<Violation>,
    /// What has stopped it, if it has not come to its end.
    pub stopped: Option<String>,
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
        if let Some(why) = &self.stopped {
            writeln!(f, "it does not come to its end: {why}")?;
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
    /// What has stopped it, if it has not come to its end: a panic, or a bug of the simulation itself.
    pub stopped: Option<String>,
    /// What was done and judged.
    pub figures: Figures,
    /// What happened.
    pub trace: Vec<String>,
}

impl Examined {
    /// Whether nothing is wrong.
    pub const fn holds(&self) -> bool {
        self.violations.is_empty() && self.stopped.is_none()
    }

    /// Whether another schedule fails as this one does: it is stopped too, or it breaks the first
    /// invariant that this one has broken.
    fn fails_as(&self, other: &Self) -> bool {
        let first = self.violations.first().map(|one| one.invariant);
        match &self.stopped {
            Some(_) => other.stopped.is_some(),
            None => other
                .violations
                .iter()
                .any(|one| Some(one.invariant) == first),
        }
    }
}

/// Runs a schedule and judges it; with `in_orders` also with its webhooks in every order. What stops it
/// is its failure, and no other schedule's.
pub fn examine(seed: u64, steps: &[Step], in_orders: bool) -> Examined {
    to_its_end(|| {
        let outcome = run(seed, steps)?;
        let (mut violations, mut figures) = (outcome.violations, outcome.figures);
        if in_orders {
            violations.extend(arrivals(seed, steps, &mut figures)?);
        }
        Ok(Examined {
            violations,
            stopped: None,
            figures,
            trace: outcome.trace,
        })
    })
}

fn to_its_end(work: impl FnOnce() -> Result<Examined, Broken>) -> Examined {
    caught(work).unwrap_or_else(|error| Examined {
        violations: Vec::new(),
        stopped: Some(error.to_string()),
        figures: Figures {
            schedules: 1,
            ..Figures::default()
        },
        trace: Vec::new(),
    })
}

/// Whether a seed is run with its webhooks in every order.
pub const fn is_in_orders(seed: u64) -> bool {
    seed.is_multiple_of(ARRIVALS_EVERY)
}

/// The shortest schedule of a seed that still fails as it did.
pub fn shorten(seed: u64, examined: &Examined) -> Failure {
    let in_orders = is_in_orders(seed);
    shorten_by(seed, examined, |steps| examine(seed, steps, in_orders))
}

fn shorten_by(
    seed: u64,
    examined: &Examined,
    mut examine: impl FnMut(&[Step]) -> Examined,
) -> Failure {
    let steps = shrink(plan(seed), |steps| examined.fails_as(&examine(steps)));
    let found = examine(&steps);
    Failure {
        seed,
        violations: found.violations,
        stopped: found.stopped,
        steps,
        trace: found.trace,
    }
}

/// Runs the schedules of these seeds, `threads` of them at a time. `tell` hears of every failure,
/// shortened, and `done` of every seed; both from any thread.
///
/// # Errors
///
/// A panic outside of every schedule.
pub fn examine_all(
    seeds: Range<u64>,
    threads: usize,
    tell: &(dyn Fn(Failure) + Sync),
    done: &(dyn Fn() + Sync),
) -> Result<Figures, Broken> {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Figures::default());
    let work = || {
        let mut own = Figures::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let examined = examine(seed, &plan(seed), is_in_orders(seed));
            own.add(&examined.figures);
            if !examined.holds() {
                tell(shorten(seed, &examined));
            }
            done();
        }
        all.lock().unwrap_or_else(PoisonError::into_inner).add(&own);
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().map_err(|_| "a worker panicked")?;
        }
        Ok::<(), Broken>(())
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::Invariant;

    /// A seed whose schedule has crashes in it.
    fn with_crashes() -> u64 {
        let crashes = |step: &Step| matches!(step, Step::Crash(..));
        let mut seeds =
            (0..).filter(|seed| plan(*seed).iter().filter(|one| crashes(one)).count() > 1);
        seeds.next().unwrap()
    }

    /// A simulation that panics if the schedule has a crash in it.
    fn planted(steps: &[Step]) -> Examined {
        to_its_end(|| {
            for step in steps {
                assert!(!matches!(step, Step::Crash(..)), "planted");
            }
            Ok(Examined {
                violations: Vec::new(),
                stopped: None,
                figures: Figures::default(),
                trace: Vec::new(),
            })
        })
    }

    #[test]
    fn a_panic_is_the_failure_of_its_schedule_shortened_and_with_its_seed() {
        let seed = with_crashes();
        let examined = planted(&plan(seed));
        assert!(!examined.holds());
        assert_eq!(examined.figures.schedules, 1);
        let failure = shorten_by(seed, &examined, planted);
        assert!(matches!(failure.steps.as_slice(), [Step::Crash(..)]));
        assert_eq!(failure.stopped.as_deref(), Some("panicked: planted"));
        let text = failure.to_string();
        assert!(text.contains("it does not come to its end: panicked: planted"));
        assert!(text.contains(&format!("--seed {seed} --shrink")), "{text}");
    }

    #[test]
    fn what_is_stopped_does_not_fail_as_what_breaks_an_invariant() {
        let stopped = planted(&[Step::Crash(0, 0, 0)]);
        let broken = |invariant| Examined {
            violations: vec![Violation::new(invariant, "planted")],
            ..planted(&[])
        };
        let (first, second) = (broken(Invariant::I1), broken(Invariant::I2));
        assert!(first.fails_as(&broken(Invariant::I1)) && stopped.fails_as(&stopped));
        for (one, other) in [(&first, &second), (&first, &stopped), (&stopped, &first)] {
            assert!(!one.fails_as(other));
        }
    }
}
