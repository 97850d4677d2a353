//! What a refused number sets off: a line in the log, and a count that `/metrics` shows.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Hit;

/// How many were refused. In memory: it begins anew with every process, as counters of Prometheus
/// may.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// The longest name of a field that the log repeats, in characters.
const MAX_FIELD_CHARS: usize = 64;

/// Tells that a number was refused at this field, and by which rule; never the number. Whoever
/// refuses one calls this once.
pub(crate) fn alarm(hit: Hit, field: &str) {
    REFUSED.fetch_add(1, Ordering::Relaxed);
    let field: String = field.chars().take(MAX_FIELD_CHARS).collect();
    tracing::warn!(
        rule = hit.rule,
        ?field,
        "what passes for a card number was refused; find out who sends card data here"
    );
}

/// How many numbers this process has refused since it began.
pub fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}
