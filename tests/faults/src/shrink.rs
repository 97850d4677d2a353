//! The shortest failing schedule that cutting steps can find.

use crate::plan::Step;
use crate::run::{Outcome, run};
use crate::world::Broken;

/// Cuts steps while the schedule still fails; answers the rest and what it comes to.
///
/// # Errors
///
/// A bug of the simulation itself.
pub fn shrink(
    seed: u64,
    mut steps: Vec<Step>,
    mut outcome: Outcome,
) -> Result<(Vec<Step>, Outcome), Broken> {
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        let mut from = 0;
        let mut cut_any = false;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + chunk).min(steps.len()));
            let result = run(seed, &fewer)?;
            if result.violations.is_empty() {
                from += chunk;
            } else {
                steps = fewer;
                outcome = result;
                cut_any = true;
            }
        }
        if !cut_any || chunk > 1 {
            chunk /= 2;
        }
    }
    Ok((steps, outcome))
}
