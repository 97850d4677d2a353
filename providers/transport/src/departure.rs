use std::sync::Arc;

use cardless_contract::{Clock, Timestamp};
use http::Method;
use tokio::time::Instant;

/// Runs a call whose requests must leave by `by`, on `clock`. A request that may change something
/// and would leave later is `NotSent`: whoever slept in between, and does not know it, can't do
/// what nobody expects any more. A clock that is put back meanwhile gives no more time than there was.
///
/// Holds for what the call itself sends, not for tasks that it spawns.
pub async fn leaving_by<F: Future>(clock: Arc<dyn Clock>, by: Timestamp, call: F) -> F::Output {
    let until = Instant::now() + by.since(clock.now());
    let departure = Departure { clock, by, until };
    DEPARTURE.scope(departure, call).await
}

#[derive(Debug)]
struct Departure {
    clock: Arc<dyn Clock>,
    by: Timestamp,
    /// The same, on a clock that only goes on.
    until: Instant,
}

tokio::task_local! {
    static DEPARTURE: Departure;
}

/// Whether a request with this method would leave too late.
pub(crate) fn is_missed(method: &Method) -> bool {
    let late = DEPARTURE.try_with(|departure| {
        departure.clock.now() > departure.by || Instant::now() > departure.until
    });
    !method.is_safe() && late.unwrap_or(false)
}
