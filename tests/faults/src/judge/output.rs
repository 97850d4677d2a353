//! What came out: I13.

use super::{Bench, Evidence};
use crate::invariant::Invariant;

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    for (what, secret) in &evidence.secrets {
        let broken = evidence.output.find(secret.as_str()).map(|at| {
            let line = evidence
                .output
                .get(..at)
                .unwrap_or_default()
                .lines()
                .count();
            format!("{what} is in line {line} of the output: {secret}")
        });
        bench.case(Invariant::I13, broken);
    }
}
