//! The shortest failing schedule that can be found: fewer steps first, then simpler ones.

use crate::plan::{Call, Decision, Delivery, Seen, Step};

/// How many schedules are tried at most.
const MAX_TRIES: u32 = 400;

/// Cuts steps while the schedule still fails, then makes those that are left simpler. `fails` says
/// whether a schedule still fails; the same schedule always gives the same result.
pub fn shrink(steps: Vec<Step>, mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut tries = 0;
    let mut fails = |steps: &[Step]| {
        tries += 1;
        tries <= MAX_TRIES && fails(steps)
    };
    let steps = cut(steps, &mut fails);
    let steps = simplify(steps, &mut fails);
    cut(steps, &mut fails)
}

fn cut(mut steps: Vec<Step>, fails: &mut impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut chunk = steps.len().div_ceil(2);
    while chunk > 0 {
        let mut from = 0;
        let mut cut_any = false;
        while from < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + chunk).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
                cut_any = true;
            } else {
                from += chunk;
            }
        }
        if !cut_any || chunk > 1 {
            chunk /= 2;
        }
    }
    steps
}

fn simplify(mut steps: Vec<Step>, fails: &mut impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    for index in 0..steps.len() {
        let Some(step) = steps.get(index).cloned() else {
            continue;
        };
        for simple in simpler(&step) {
            let mut changed = steps.clone();
            if let Some(place) = changed.get_mut(index) {
                *place = simple;
            }
            if changed != steps && fails(&changed) {
                steps = changed;
                break;
            }
        }
    }
    steps
}

/// Simpler steps that may do the same, the simplest first.
fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Call(process, call) => calls(call)
            .into_iter()
            .flat_map(|call| [Step::Call(0, call.clone()), Step::Call(*process, call)])
            .collect(),
        Step::Together(calls) => calls
            .iter()
            .map(|(process, call)| Step::Call(*process, call.clone()))
            .chain((0..calls.len()).map(|without| {
                let mut fewer = calls.clone();
                fewer.remove(without);
                Step::Together(fewer)
            }))
            .collect(),
        Step::Reconcile(_) => vec![Step::Reconcile(0)],
        Step::Work(_, seconds) => vec![Step::Reconcile(0), Step::Work(0, *seconds)],
        Step::Fault {
            provider,
            operation,
            kind,
            ..
        } => vec![Step::Fault {
            provider: *provider,
            operation: *operation,
            kind: *kind,
            times: 1,
        }],
        Step::Advance(_) => [20, 1000, 4000, 90_000].map(Step::Advance).to_vec(),
        Step::Skew(process, _) => vec![Step::Skew(*process, 0)],
        Step::SetClock { seconds, .. } => vec![Step::SetClock {
            seconds: *seconds,
            seen: Seen::AtWork,
        }],
        Step::Crash(process, boundaries, _) => (0..*boundaries)
            .take(3)
            .chain([*boundaries])
            .map(|boundaries| Step::Crash(*process, boundaries, 0))
            .collect(),
        Step::Pause(process, _, seconds) => (0..2)
            .map(|at| Step::Pause(*process, at, *seconds))
            .collect(),
        Step::FailWrites(process, _) => vec![Step::FailWrites(*process, 1)],
        Step::FailReads(process, _) => vec![Step::FailReads(*process, 1)],
        Step::Webhooks(_, delivery) => vec![
            Step::Webhooks(0, Delivery::InOrder),
            Step::Webhooks(0, *delivery),
        ],
        Step::Decide(_, decision) => vec![
            Step::Decide(0, Decision::Approve),
            Step::Decide(0, *decision),
        ],
        Step::Return(_) => vec![Step::Return(0)],
        Step::Resolve(_, hours) => vec![Step::Resolve(0, 1), Step::Resolve(0, *hours)],
        Step::Late { .. } => Vec::new(),
    }
}

fn calls(call: &Call) -> Vec<Call> {
    match call {
        Call::Pay {
            account,
            method,
            manual,
            customer,
            reference,
            ..
        } => {
            let plain = |account, manual, customer| Call::Pay {
                account,
                method: *method,
                minor: 1000,
                currency: 0,
                manual,
                customer,
                reference: *reference,
            };
            vec![
                plain(0, false, false),
                plain(0, *manual, false),
                plain(0, *manual, *customer),
                plain(*account, *manual, *customer),
            ]
        }
        Call::Capture { payment, last, .. } => [(0, true), (*payment, *last)]
            .map(|(payment, last)| Call::Capture {
                payment,
                percent: 100,
                last,
            })
            .to_vec(),
        Call::Refund { payment, .. } => [0, *payment]
            .map(|payment| Call::Refund {
                payment,
                percent: 100,
            })
            .to_vec(),
        Call::Void { .. } => vec![Call::Void { payment: 0 }],
        Call::Link {
            provider,
            manual,
            reference,
            ..
        } => [false, *manual]
            .map(|manual| Call::Link {
                account: 0,
                provider: *provider,
                minor: 1000,
                currency: 0,
                manual,
                reference: *reference,
            })
            .to_vec(),
        Call::Register { .. }
        | Call::Complete { .. }
        | Call::Revoke { .. }
        | Call::Default { .. }
        | Call::Restrict { .. }
        | Call::Stranger { .. }
        | Call::Again { .. } => vec![call.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_cut_to_what_it_needs_and_made_simple() {
        let steps = crate::plan(5);
        let needle = Step::Advance(35_000_000);
        let noise = Step::Crash(1, 20, 2);
        let mut steps: Vec<Step> = steps
            .into_iter()
            .filter(|step| !matches!(step, Step::Advance(_)))
            .collect();
        steps.insert(3, needle);
        steps.insert(1, noise);
        let fails = |steps: &[Step]| {
            let long = |step: &Step| matches!(step, Step::Advance(seconds) if *seconds > 500);
            let dies = |step: &Step| matches!(step, Step::Crash(1, ..));
            steps.iter().any(long) && steps.iter().any(dies)
        };
        let found = shrink(steps, fails);
        assert_eq!(found, [Step::Crash(1, 0, 0), Step::Advance(1000)]);
    }
}
