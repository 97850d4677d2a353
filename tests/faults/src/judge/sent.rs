//! What left: I5 and I12.

use std::time::Duration;

use super::{Bench, Evidence};
use crate::invariant::Invariant;
use crate::plan::MAX_SKEW;
use crate::seam::{Mark, Sent};

/// How long after its mark a request may leave, by the clock of its process, in seconds.
const LEAVES_WITHIN: u64 = 10;

pub(super) fn judge(evidence: &Evidence, bench: &mut Bench<'_>) {
    for sent in &evidence.sent {
        intent(sent, bench);
        owner(sent, bench);
    }
    for owners in evidence.tokens.values() {
        let several = owners.len() > 1;
        let found = format!("one token is sealed for {owners:?}");
        bench.case(Invariant::I12, several.then_some(found));
    }
}

/// The intent is durable, and the mark that it is sent is there and fresh.
fn intent(sent: &Sent, bench: &mut Bench<'_>) {
    let slack = Duration::from_secs(LEAVES_WITHIN + MAX_SKEW.unsigned_abs());
    let fits = sent
        .intent
        .as_ref()
        .is_some_and(|intent| match intent.mark {
            Mark::Standing => true,
            Mark::SentAt(at) => sent.at <= at.plus(slack),
            Mark::None => false,
        });
    bench.case(Invariant::I5, (!fits).then(|| format!("{sent:?}")));
}

/// A token goes out for its own account only.
fn owner(sent: &Sent, bench: &mut Bench<'_>) {
    if sent.owners.is_empty() {
        return;
    }
    let own = sent
        .intent
        .as_ref()
        .is_some_and(|intent| sent.owners.iter().all(|owner| *owner == intent.account));
    bench.case(Invariant::I12, (!own).then(|| format!("{sent:?}")));
}
