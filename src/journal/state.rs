//! The payment's states and moves: pure, from a row and what was seen to the next row.
//!
//! | seen at the provider | open payment | settled payment |
//! | --- | --- | --- |
//! | reserved | a commit is missing | nothing |
//! | authorized | `authorized` if manual, else a commit is missing | nothing |
//! | captured | `captured` | amounts grow; `authorized` becomes `captured`, once nothing is held any more |
//! | voided, expired | `voided`, or what it was closed as | `authorized` becomes `voided` |
//!
//! A status that is final never goes back. Amounts grow only.

use std::time::Duration;

use cardless_contract::{
    Decline, HoldState, MovementState, ObjectId, Payment, PaymentPhase, Timestamp,
};

use super::release_row;
use crate::store::{CaptureText, PaymentRow, PaymentState, Step};

/// The failure of a payment of which something may be held that nobody can name: only its lapse ends
/// it.
pub(crate) const HOLD_MAY_REMAIN: &str = "hold_may_remain";

/// What follows from an authoritative read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is concluded.
    Settled,
    /// Nothing has moved and nothing is held beyond the reservation: a commit is missing.
    NotCommitted,
    /// The amount is held, and a closed payment must release it.
    Release,
    /// The provider is still at it.
    AskAgain,
}

/// The longest a question without an answer waits until it is asked again.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// How often a hold is looked at whose end its provider does not tell. Aduno's lasts for 30 days or
/// less (`providers/aduno.md` §4).
pub(crate) const BETWEEN_LOOKS_AT_A_HOLD: Duration = Duration::from_secs(7 * 24 * 3600);

/// Pauses between questions, in seconds; the last ones grow to [`LONGEST_PAUSE`].
const PAUSES_SECONDS: [u64; 10] = [1, 2, 4, 8, 15, 30, 60, 300, 900, 1800];

/// When to ask again after `attempts` questions.
pub(crate) fn pause(attempts: u32) -> Duration {
    usize::try_from(attempts)
        .ok()
        .and_then(|index| PAUSES_SECONDS.get(index))
        .map_or(LONGEST_PAUSE, |&seconds| Duration::from_secs(seconds))
}

/// Takes what a read of an open payment shows.
pub(crate) fn conclude(
    row: &mut PaymentRow,
    seen: &Payment,
    reserve_holds: bool,
    now: Timestamp,
) -> Next {
    remember_objects(row, seen);
    let closing = row.step == Step::Closing;
    match seen.phase {
        PaymentPhase::Reserved => Next::NotCommitted,
        PaymentPhase::Authorized if closing => Next::Release,
        PaymentPhase::Authorized => match row.capture {
            CaptureText::Manual => {
                row.authorized = row.amount.minor();
                settle(row, PaymentState::Authorized, now);
                Next::Settled
            }
            CaptureText::Automatic if reserve_holds => Next::NotCommitted,
            CaptureText::Automatic => Next::AskAgain,
        },
        PaymentPhase::Captured => {
            row.captured = row.captured.max(seen.captured.minor());
            row.authorized = row.authorized.max(row.captured);
            grow(row, seen);
            settle(row, PaymentState::Captured, now);
            Next::Settled
        }
        PaymentPhase::Voided | PaymentPhase::Expired => {
            end_without_money(row, seen.phase, now);
            Next::Settled
        }
    }
}

/// Takes what a read of a settled payment shows: what happened elsewhere. Answers whether anything
/// has changed. With `several_captures` a part that was taken says nothing about the rest, unless
/// the read tells that its hold has ended.
pub(crate) fn follow(
    row: &mut PaymentRow,
    seen: &Payment,
    several_captures: bool,
    now: Timestamp,
) -> bool {
    learn_objects(row, seen);
    let before = row.clone();
    if row.reserved_capture == 0 {
        row.captured = row.captured.max(seen.captured.minor());
        row.authorized = row.authorized.max(row.captured);
    }
    grow(row, seen);
    if row.expires_at.is_none() {
        row.expires_at = seen.expires_at;
    }
    if row.state == PaymentState::Authorized && row.reserved_capture == 0 {
        match seen.phase {
            PaymentPhase::Captured if may_take_more(row, seen.hold, several_captures) => {}
            PaymentPhase::Captured => row.state = PaymentState::Captured,
            PaymentPhase::Voided | PaymentPhase::Expired if row.captured > 0 => {
                row.state = PaymentState::Captured;
            }
            PaymentPhase::Voided => row.state = PaymentState::Voided,
            PaymentPhase::Expired => {
                row.state = PaymentState::Voided;
                row.reason = Some("expired".to_owned());
            }
            PaymentPhase::Reserved | PaymentPhase::Authorized => {}
        }
    }
    if row.state != PaymentState::Authorized {
        row.expires_at = None;
    }
    let changed = *row != before;
    if changed {
        row.updated_at = now;
    }
    changed
}

/// Whether more can be taken of what is captured in part and reads as captured.
pub(crate) const fn may_take_more(
    row: &PaymentRow,
    hold: HoldState,
    several_captures: bool,
) -> bool {
    let may = match hold {
        HoldState::Alive => true,
        HoldState::Ended => false,
        HoldState::NotTold => several_captures,
    };
    may && row.captured < row.authorized
}

/// When to look whether a hold has lapsed: not every provider says so by itself, and not every one
/// says beforehand when it will.
pub(crate) fn look_at_hold(row: &PaymentRow, now: Timestamp) -> Option<Timestamp> {
    if row.state != PaymentState::Authorized {
        return None;
    }
    // A provider may be late with it.
    let soonest = now.plus(LONGEST_PAUSE);
    Some(match row.expires_at {
        Some(lapses_at) => lapses_at.max(soonest),
        None => now.plus(BETWEEN_LOOKS_AT_A_HOLD),
    })
}

/// Whether a payment that ended without money has money moved at its provider: its status stays,
/// and a person must look.
pub(crate) const fn is_contradicted(row: &PaymentRow) -> bool {
    let without = matches!(
        row.state,
        PaymentState::Declined | PaymentState::Failed | PaymentState::Voided
    );
    without && row.captured > 0
}

/// Whether money went back at the provider that our books do not hold, and no open refund of ours
/// explains it: a chargeback that the read does not tell apart, or a payment that was cancelled in
/// the back office after it was taken. Nothing is booked; a person must look.
pub(crate) fn is_short(row: &PaymentRow, seen: &Payment) -> bool {
    row.reserved_refund == 0 && gone_back(row, seen) > row.refunded + row.reversed
}

/// Whether that is news, or has grown since it was told last; it is remembered as told.
pub(crate) fn tell_short(row: &mut PaymentRow, seen: &Payment) -> bool {
    let gone_back = gone_back(row, seen);
    let news = is_short(row, seen) && gone_back > row.returned_told;
    if news {
        row.returned_told = gone_back;
    }
    news
}

/// How much has gone back at the provider in all, at the least.
fn gone_back(row: &PaymentRow, seen: &Payment) -> i64 {
    let told = seen.returned.map_or(0, |least| least.minor());
    let undone = matches!(seen.phase, PaymentPhase::Voided | PaymentPhase::Expired)
        && seen.captured.is_zero();
    if undone { told.max(row.captured) } else { told }
}

/// Concludes as declined.
pub(crate) fn decline(row: &mut PaymentRow, decline: &Decline, now: Timestamp) {
    row.decline = Some((
        decline.category.as_str().to_owned(),
        decline.retry.as_str().to_owned(),
        decline.provider_code.as_str().to_owned(),
    ));
    settle(row, PaymentState::Declined, now);
}

/// Concludes as failed: no money moved and none will.
pub(crate) fn fail(row: &mut PaymentRow, failure: &str, now: Timestamp) {
    row.failure = Some(failure.to_owned());
    settle(row, PaymentState::Failed, now);
}

/// Ends a parked payment by a person's word: all of it was taken, or nothing.
pub(crate) fn resolve(row: &mut PaymentRow, state: PaymentState, failure: &str, now: Timestamp) {
    if state == PaymentState::Captured {
        row.captured = row.amount.minor();
        row.authorized = row.authorized.max(row.captured);
    }
    if state == PaymentState::Failed {
        row.failure = Some(failure.to_owned());
    }
    settle(row, state, now);
}

/// Closes against further commits; `as_state` is how it ends if nothing moved.
pub(crate) fn close(row: &mut PaymentRow, as_state: PaymentState, failure: Option<&str>) {
    if row.step != Step::Closing {
        row.step = Step::Closing;
        row.closing_as = Some(as_state);
        row.failure = failure.map(str::to_owned);
        row.attempts = 0;
        if row.state == PaymentState::ActionRequired {
            row.state = PaymentState::Pending;
        }
    }
}

/// Ends a payment that moved nothing.
pub(crate) fn end_without_money(row: &mut PaymentRow, phase: PaymentPhase, now: Timestamp) {
    match (row.closing_as, phase) {
        (Some(state), _) => settle(row, state, now),
        (None, PaymentPhase::Expired) if row.authorized == 0 => {
            fail(row, "expired_at_provider", now);
        }
        (None, PaymentPhase::Expired) => {
            row.reason = Some("expired".to_owned());
            settle(row, PaymentState::Voided, now);
        }
        (None, _) => settle(row, PaymentState::Voided, now),
    }
}

/// Leaves it to a person.
pub(crate) fn park(row: &mut PaymentRow, now: Timestamp) {
    row.state = PaymentState::Parked;
    if row.step != Step::Closing && row.reservation.is_some() {
        row.step = Step::Waiting;
    }
    row.updated_at = now;
    release_row(row, None);
}

/// Nobody knows yet: ask again later.
pub(crate) fn ask_again(row: &mut PaymentRow, state: PaymentState, at: Timestamp, now: Timestamp) {
    if row.state != state {
        if state == PaymentState::Unknown {
            // How often it was asked while it was understood says nothing of now.
            row.attempts = 0;
        }
        row.state = state;
        row.updated_at = now;
    }
    row.attempts = row.attempts.saturating_add(1);
    release_row(row, Some(at));
}

fn settle(row: &mut PaymentRow, state: PaymentState, now: Timestamp) {
    row.state = state;
    row.step = Step::Settled;
    row.closing_as = None;
    row.redirect = None;
    row.attempts = 0;
    row.updated_at = now;
    if state != PaymentState::Failed {
        row.failure = None;
    }
    if state != PaymentState::Declined {
        row.decline = None;
    }
    if state != PaymentState::Authorized {
        row.expires_at = None;
    }
    release_row(row, look_at_hold(row, now));
}

fn remember_objects(row: &mut PaymentRow, seen: &Payment) {
    if let Some(id) = &seen.authorization {
        row.authorization = Some(id.as_str().to_owned());
    }
    // One that was refused gives nothing back.
    if let Some(id) = first_capture(seen, |state| state == MovementState::Done) {
        row.capture_object = Some(id.to_owned());
    } else if let Some(id) = first_capture(seen, |_| true) {
        row.capture_object.get_or_insert_with(|| id.to_owned());
    }
    row.expires_at = seen.expires_at.or(row.expires_at);
}

/// The ids of what somebody else has made, or of what nobody could read when the payment ended.
/// Those that are known stay. Captures of ours are operations, which have their own.
fn learn_objects(row: &mut PaymentRow, seen: &Payment) {
    if row.authorization.is_none() {
        row.authorization = seen.authorization.as_ref().map(|id| id.as_str().to_owned());
    }
    let by_operations =
        row.capture == CaptureText::Manual && (row.captured > 0 || row.reserved_capture > 0);
    if row.capture_object.is_none() && !by_operations {
        let done = first_capture(seen, |state| state == MovementState::Done);
        row.capture_object = done.map(str::to_owned);
    }
}

fn first_capture(seen: &Payment, wanted: impl Fn(MovementState) -> bool) -> Option<&str> {
    let mut captures = seen.captures.iter();
    let found = captures.find(|capture| wanted(capture.state))?;
    found.id.as_ref().map(ObjectId::as_str)
}

fn grow(row: &mut PaymentRow, seen: &Payment) {
    if row.reserved_refund == 0
        && let Some(refunded) = seen.refunded
    {
        row.refunded = row.refunded.max(refunded.minor());
    }
    if let Some(reversed) = seen.reversed {
        row.reversed = row.reversed.max(reversed.minor());
    }
}

#[cfg(test)]
pub(super) mod tests;
