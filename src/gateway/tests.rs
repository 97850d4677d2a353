//! When a request may be sent again, and from when a question proves something.

use std::cell::Cell;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

/// Tokio's time.
#[derive(Debug)]
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        NOW.plus(self.0.elapsed())
    }
}

/// How often a call is made that ends so each time, and how long that takes in all.
async fn tries(kind: ErrorKind, delivery: Delivery, takes: Duration) -> (u32, Duration) {
    let begun = tokio::time::Instant::now();
    let calls = Cell::new(0);
    let clock = Arc::new(TestClock(begun));
    let result: cardless_contract::Result<()> = send(clock, NOW, || async {
        calls.set(calls.get() + 1);
        tokio::time::sleep(takes).await;
        let provider = ProviderName::new("fake").unwrap();
        Err(ProviderError::new(provider, kind, delivery))
    })
    .await;
    assert_eq!(result.unwrap_err().kind(), kind);
    (calls.get(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn only_what_never_left_is_sent_again_within_ten_seconds() {
    let (unreachable, not_sent) = (ErrorKind::Unreachable, Delivery::NotSent);
    let at_once = Duration::ZERO;
    assert_eq!(
        tries(unreachable, not_sent, at_once).await,
        (6, 10 * SECOND)
    );
    // Slow tries cost the later ones: none begins after the ten seconds.
    assert_eq!(
        tries(unreachable, not_sent, 3 * SECOND).await,
        (3, 10 * SECOND)
    );
    assert_eq!(
        tries(unreachable, not_sent, 12 * SECOND).await,
        (1, 12 * SECOND)
    );
    for (kind, delivery) in [
        (ErrorKind::RepeatRefused, Delivery::NotSent),
        (ErrorKind::Unreachable, Delivery::Unknown),
        (ErrorKind::Interrupted, Delivery::Unknown),
        (ErrorKind::InvalidRequest, Delivery::Refused),
    ] {
        assert_eq!(tries(kind, delivery, at_once).await, (1, at_once));
    }
}

#[test]
fn a_repeat_must_be_carried_out_within_the_window() {
    let capabilities = capabilities();
    let window = Duration::from_hours(1);
    // The last try leaves 10 s after the mark and is under way for two minutes.
    let last = NOW.plus(window - 130 * SECOND);
    assert!(is_within(window, NOW, NOW, &capabilities));
    assert!(is_within(window, NOW, last, &capabilities));
    let late = last.plus(Duration::from_millis(1));
    assert!(!is_within(window, NOW, late, &capabilities));
    assert!(!is_within(129 * SECOND, NOW, NOW, &capabilities));
}

#[test]
fn what_was_sent_in_the_future_is_outside_of_every_window() {
    let capabilities = capabilities();
    let window = Duration::from_hours(1);
    let ahead = |by| NOW.plus(by);
    assert!(is_within(window, ahead(MAX_SKEW), NOW, &capabilities));
    let wrong = ahead(MAX_SKEW + Duration::from_millis(1));
    assert!(!is_within(window, wrong, NOW, &capabilities));
    assert!(!is_older(NOW, NOW, window) && !is_older(ahead(MAX_SKEW), NOW, window));
    assert!(is_older(NOW, NOW.plus(window + SECOND), window));
    assert!(is_older(wrong, NOW, window));
}

#[test]
fn a_question_proves_nothing_before_the_last_try_has_arrived() {
    assert_eq!(quiet_at(NOW, &capabilities()), NOW.plus(130 * SECOND));
}

fn capabilities() -> Capabilities {
    let repeat = cardless_contract::Repeat::AfterQuestion;
    Capabilities {
        currencies: None,
        partial_capture: true,
        several_captures: true,
        partial_refund: true,
        refund_per_capture: true,
        finds_by_sum: false,
        setup_takes_payment: false,
        reserve_holds: false,
        find_by_reference: false,
        repeat_setup: repeat,
        repeat_reserve: repeat,
        repeat_capture: repeat,
        repeat_void: repeat,
        repeat_refund: repeat,
        longest_delay: 120 * SECOND,
        customer_window: Duration::from_hours(1),
        page_moves_money: false,
    }
}
