//! What `/metrics` shows. Everybody may ask, and some of it is counted over the whole store: so it is
//! counted for one at a time, and what is long to count is kept for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::link::on_a_task;
use super::{Gateway, Inner, stored};
use crate::error::Error;
use crate::store::PaymentState;

/// How long the payments' states are shown as they were counted.
pub const COUNTED_FOR: Duration = Duration::from_secs(5);

/// How many payments stood in each state, and when.
#[derive(Debug, Default)]
pub(super) struct Counted(Mutex<Option<(Instant, States)>>);

type States = Vec<(PaymentState, u64)>;

impl Gateway {
    /// How many payments stand in each state (as counted within the last [`COUNTED_FOR`]), how much
    /// waits for a person, how many events wait to be delivered or were given up, how often and how
    /// long the active key generation has sealed, and how many card numbers were refused, as
    /// Prometheus text. `cardless_parked` above zero is an alarm, and so is
    /// `cardless_card_numbers_refused_total` when it grows.
    ///
    /// # Errors
    ///
    /// [`Code::StoreUnavailable`](crate::error::Code::StoreUnavailable).
    pub async fn metrics(&self) -> Result<String, Error> {
        let inner = Arc::clone(&self.inner);
        // Whoever goes away does not let the next one begin beside a count that goes on.
        on_a_task(async move { inner.metrics().await }).await
    }
}

impl Inner {
    async fn metrics(&self) -> Result<String, Error> {
        let store = self.journal.store();
        let mut counted = self.counted.0.lock().await;
        let kept = counted.take();
        let kept = kept.filter(|(at, _)| at.elapsed() < COUNTED_FOR);
        let (at, states) = match kept {
            Some(kept) => kept,
            None => (Instant::now(), store.count_states().await.map_err(stored)?),
        };
        let mut text = of_states(&states);
        *counted = Some((at, states));
        let (payments, operations) = store.count_parked().await.map_err(stored)?;
        if self.live.parts().delivery.is_some() {
            text.push_str(&self.event_metrics().await?);
        }
        text.push_str(&self.key_metrics().await?);
        text.push_str(&format!(
            "# HELP cardless_parked What a person must look at.\n# TYPE cardless_parked gauge\n\
             cardless_parked{{kind=\"payment\"}} {payments}\n\
             cardless_parked{{kind=\"operation\"}} {operations}\n"
        ));
        text.push_str(&format!(
            "# HELP cardless_card_numbers_refused_total What passes for a card number and was refused, \
             since this process began.\n\
             # TYPE cardless_card_numbers_refused_total counter\n\
             cardless_card_numbers_refused_total {}\n",
            crate::pan::refused()
        ));
        Ok(text)
    }
}

fn of_states(states: &States) -> String {
    let mut text = String::from(
        "# HELP cardless_payments Payments by status.\n# TYPE cardless_payments gauge\n",
    );
    for (state, count) in states {
        text.push_str(&format!(
            "cardless_payments{{status=\"{}\"}} {count}\n",
            state.as_str()
        ));
    }
    text
}
