//! The charging protocol, explored: every schedule within bounds, by the checker `stateright`.
//!
//! A test shows that one schedule ends well. This one lets a checker try them all, on a model that
//! is small enough for it: what the gateway writes, sends and concludes (`src/gateway/drive.rs`,
//! `src/gateway/operate.rs`, `src/journal/`), what three kinds of providers do with it, and
//! everything that may go wrong in between. What the model leaves out is below; what the code does
//! differently from the model, the model does not see.
//!
//! # What is modelled
//!
//! [`charge`] is one payment: accepted, reserved, remembered, committed; given up, closed, looked
//! at, released; parked, and ended by a person. [`operation`] is a one-shot operation, or two of
//! them that race for what is left. Both have
//!
//! - a **row** that is changed by compare-and-set, with a lease that names its driver. What is
//!   written is never lost;
//! - two **workers**, each with a clock of its own. A worker can pause between any two steps for
//!   as long as it likes, so that its lease ends while it still believes in it. A crash takes its
//!   memory and nothing else;
//! - a **network** that keeps no order. A request can be under way for a while, be lost, arrive
//!   twice, or be carried out with its answer lost. A worker may stop waiting at any time. A
//!   refused connection is the one failure that proves that nothing left;
//! - a **provider**: with a key that it forgets after a window, with one that it never forgets, or
//!   with none; that holds, or does not hold, what is reserved; that shows an operation, only a
//!   sum, or nothing; that remembers its declines, or tries again when asked again.
//!
//! A payment has besides
//!
//! - a **caller** who voids at any moment, and **webhooks** that ask for a look at any moment, also
//!   at what is parked;
//! - a **review**: the provider takes a commit, and lets somebody decide at any later moment
//!   whether it takes the money. The worker that sees that parks the payment, and so does one that
//!   hears a word that nobody knows (`Shape::Transaction`; the other shapes would park the same way);
//! - a **person** who ends what is parked. Their word may be wrong: the provider is asked first, what
//!   its answer concludes stands, and what it contradicts is refused.
//!
//! | model | stands for |
//! | --- | --- |
//! | `Shape::Order` | PayPal: keyed order, guarded capture |
//! | `Shape::Transaction` | PostFinance: found by reference, guarded processing |
//! | `Shape::Hold` | Aduno, and PayPal with `order_flow = "one_call"`: keyed hold, guarded settle and cancel |
//! | `Repeat::Keyed` | refunds, captures and voids at PayPal and Aduno |
//! | `Repeat::KeyedForever` | refunds and completions at PostFinance |
//! | `Repeat::AfterQuestion` | what has no key |
//!
//! # Bounds
//!
//! Time is a small integer; the constants of [`bounds`] keep the proportions that matter: a window
//! is longer than the longest delay, a lease ends before a request is certain to have landed, and
//! clocks differ by a tick. The time to commit is cut short, so that the give-up lies within the
//! bounds. Three initial states: equal clocks, and either ahead. In the ordinary tests one thing
//! goes wrong (a crash, a lost request, a lost answer, a copy, a refused connection, a question
//! without an answer or with an unknown word, or a webhook), besides any number of pauses, delays
//! and timeouts, one decline or review, one void and one word of a person. Faults and pauses end
//! at a tick that lies behind the give-up, and behind the window where there is one. From there on
//! time passes only when all that was begun is done, in every order, and the row must be final or
//! parked at the horizon, ten ticks later. A provider may still decline then, the caller void, a
//! webhook come, and a person end what is parked.
//!
//! Windows are exercised by operations. In a payment none can end: its reserve is not sent again
//! after the time to commit, which is shorter than every window, here as in the code; and its
//! commits rest on the guard of the object, not on a key.
//!
//! That is 3.3 million states. `CARDLESS_MODEL_DEPTH=1` lets two things go wrong and the faults
//! last a tick longer, which makes 30 million and wants `--release`; higher numbers go on like
//! that. Each run prints its states:
//!
//! ```text
//! CARDLESS_MODEL_DEPTH=1 cargo test --release --test model -- --nocapture
//! ```
//!
//! # Properties, and what breaks them
//!
//! Each wrong protocol differs from the right one in one habit, and the checker must find a
//! schedule that breaks the property. `cargo test --test model -- --nocapture` prints it.
//!
//! | property | wrong protocols that break it |
//! | --- | --- |
//! | at most one movement | `KeyPerAttempt`, `SameKeyForEver`, `WindowWithoutMargin`, `QueryThenResend`, `ResendIncomplete`, `JudgedByAnswer`, `NoSendDeadline`, `CommitByAnswer` |
//! | at most one live hold | `KeyPerAttempt`, `KeyPerWorker` |
//! | at most one reservation | `QueryThenResend`, `ResendIncomplete` |
//! | captured, or succeeded, in the books is one movement | `SumProves`, `TimeoutIsCapture` |
//! | declined, failed and voided have moved nothing, ever | `NoSendDeadline`, `ReservationWithoutCas`, `GiveUpWithoutReading`, `GiveUpWithoutWaiting`, `TimeoutIsFailure`, `DeclineOfARepeatIsFinal`, `JudgedByAnswer`, `ResolveWithoutAsking`, `ResolveBeforeQuiet` |
//! | a payment ends unpaid without a hold, or says so | `NoRelease`, `SilentVoid` |
//! | refunds never exceed captures | `CheckThenInsert` |
//! | final states are final | `LeaseOnly` |
//! | no commit leaves after its time | `NoCommitWithin` |
//! | nothing is sent before the intent is durable | `SendBeforeIntent` |
//! | faults off, everything ends or is parked | `AsksForEver`, `ClosedAsksForEver` |
//!
//! # What the right protocol needs
//!
//! The exploration shows on what the promises rest:
//!
//! - **A request leaves soon after its mark, or not at all.** The longest delay counts from the
//!   mark; a worker that sleeps between mark and send must look at its clock when it wakes up
//!   (`cardless_transport::leaving_by`). What the model can't rule out is a sleep between that look
//!   and the socket.
//! - **"Not found" is judged by when it was asked**, not by when the answer came.
//! - **A decline that answers a repeat is final only where the provider remembers declines.** If
//!   it tries again instead, the first request may still land and succeed.
//! - **A sum proves whose doing it is only if nothing else was open.**
//! - **A person's word decides only where an answer does not.** Then it must be true: the model's
//!   person has seen at the provider itself how it ended, at the moment of the word, and says nothing
//!   of what is still under review. That nothing was taken, nobody has seen who looked while a commit
//!   could be on its way.
//! - **A look at what is parked may come to nothing**: no answer comes, or the payment is closed and
//!   not quiet yet. Then it stays with the person, and nothing looks again by itself.
//! - **A copy that the network makes** of a request without a key, or of one whose decline is
//!   forgotten, can't be made harmless by anybody. It is left out in the second case; in the first
//!   it makes a second reservation, which is never committed.
//!
//! # What is left out
//!
//! Customers who are present (the provider's page commits) and clocks that jump: those are in the
//! simulation (`tests/faults`), not here. Manual captures as part of a payment (they are
//! operations), what follows when an operation is parked, the lapse of holds, what happens elsewhere
//! after a final state, and the store: that a batch is atomic is its own promise.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "test code stops at the first surprise, and says what it has explored"
)]

mod bounds;
mod charge;
mod operation;

use bounds::{Bounds, breaks, holds};
use charge::{Charge, FORGETFUL, Flaw as Wrong, Shape};
use operation::{Flaw, Operations, Repeat, Shows};

const ORDER: Shape = Shape::Order {
    remembers_declines: true,
};

/// Until behind the give-up of a payment, which is closed in the second tick and quiet in the
/// fourth.
const BEHIND_THE_GIVE_UP: u8 = 5;

/// Until behind the provider's window.
const BEHIND_THE_WINDOW: u8 = bounds::WINDOW + 1;

/// Long enough for a lease to end under a paused worker.
const BEHIND_A_LEASE: u8 = bounds::LEASE + 1;

#[test]
fn an_order_is_charged_once() {
    holds("PayPal", payment(ORDER, Wrong::None));
}

#[test]
fn an_order_with_forgotten_declines_is_charged_once() {
    holds("PayPal that forgets", payment(FORGETFUL, Wrong::None));
}

#[test]
fn a_transaction_is_charged_once() {
    holds("PostFinance", payment(Shape::Transaction, Wrong::None));
}

#[test]
fn a_hold_is_charged_once() {
    holds("Aduno", payment(Shape::Hold, Wrong::None));
}

#[test]
fn an_operation_is_carried_out_once() {
    for repeat in [Repeat::Keyed, Repeat::KeyedForever, Repeat::AfterQuestion] {
        for shows in [Shows::Itself, Shows::CannotTell] {
            let model = operation(repeat, shows, Flaw::None);
            holds(&format!("{repeat:?}, {shows:?}"), model);
        }
        if repeat != Repeat::AfterQuestion {
            let model = operation(repeat, Shows::Itself, Flaw::None);
            holds(&format!("{repeat:?}, declines forgotten"), forgetful(model));
        }
    }
}

#[test]
fn racing_operations_stay_within_the_ceiling() {
    holds("two for one", two_for_one(Flaw::None));
    holds("two by sum", two_by_sum(Flaw::None));
}

#[test]
fn wrong_payments_are_caught() {
    use charge::{
        CAPTURED_IS_MOVED, ENDS, FINAL_IS_FINAL, IN_TIME, INTENT_FIRST, NO_HOLD_IS_LEFT,
        NO_MONEY_IS_NONE, ONE_HOLD, ONE_MOVEMENT, ONE_RESERVATION,
    };
    for (shape, wrong, broken) in [
        (Shape::Hold, Wrong::KeyPerAttempt, ONE_HOLD),
        (Shape::Hold, Wrong::KeyPerWorker, ONE_HOLD),
        (ORDER, Wrong::CommitByAnswer, ONE_MOVEMENT),
        (Shape::Transaction, Wrong::QueryThenResend, ONE_RESERVATION),
        (Shape::Transaction, Wrong::ResendIncomplete, ONE_RESERVATION),
        (ORDER, Wrong::ReservationWithoutCas, NO_MONEY_IS_NONE),
        (ORDER, Wrong::LeaseOnly, FINAL_IS_FINAL),
        (ORDER, Wrong::NoSendDeadline, NO_MONEY_IS_NONE),
        (Shape::Transaction, Wrong::NoSendDeadline, NO_MONEY_IS_NONE),
        (ORDER, Wrong::NoCommitWithin, IN_TIME),
        (ORDER, Wrong::GiveUpWithoutReading, NO_MONEY_IS_NONE),
        (ORDER, Wrong::GiveUpWithoutWaiting, NO_MONEY_IS_NONE),
        (ORDER, Wrong::TimeoutIsFailure, NO_MONEY_IS_NONE),
        (ORDER, Wrong::TimeoutIsCapture, CAPTURED_IS_MOVED),
        (ORDER, Wrong::SendBeforeIntent, INTENT_FIRST),
        (FORGETFUL, Wrong::DeclineOfARepeatIsFinal, NO_MONEY_IS_NONE),
        (ORDER, Wrong::ClosedAsksForEver, ENDS),
        (Shape::Hold, Wrong::NoRelease, NO_HOLD_IS_LEFT),
        (Shape::Hold, Wrong::SilentVoid, NO_HOLD_IS_LEFT),
        (
            Shape::Transaction,
            Wrong::ResolveWithoutAsking,
            NO_MONEY_IS_NONE,
        ),
        (
            Shape::Transaction,
            Wrong::ResolveBeforeQuiet,
            NO_MONEY_IS_NONE,
        ),
    ] {
        breaks(
            &format!("{shape:?}, {wrong:?}"),
            payment(shape, wrong),
            broken,
        );
    }
}

#[test]
fn wrong_operations_are_caught() {
    use operation::{ENDS, FAILED_IS_NONE, FINAL_IS_FINAL, ONE_MOVEMENT};
    let (itself, cannot_tell) = (Shows::Itself, Shows::CannotTell);
    for (repeat, shows, flaw, broken) in [
        (
            Repeat::Keyed,
            cannot_tell,
            Flaw::KeyPerAttempt,
            ONE_MOVEMENT,
        ),
        (
            Repeat::Keyed,
            cannot_tell,
            Flaw::SameKeyForEver,
            ONE_MOVEMENT,
        ),
        (
            Repeat::Keyed,
            cannot_tell,
            Flaw::WindowWithoutMargin,
            ONE_MOVEMENT,
        ),
        (
            Repeat::Keyed,
            cannot_tell,
            Flaw::NoSendDeadline,
            ONE_MOVEMENT,
        ),
        (
            Repeat::AfterQuestion,
            itself,
            Flaw::QueryThenResend,
            ONE_MOVEMENT,
        ),
        (
            Repeat::AfterQuestion,
            itself,
            Flaw::JudgedByAnswer,
            ONE_MOVEMENT,
        ),
        (
            Repeat::AfterQuestion,
            cannot_tell,
            Flaw::ResendIncomplete,
            ONE_MOVEMENT,
        ),
        (Repeat::Keyed, itself, Flaw::JudgedByAnswer, FAILED_IS_NONE),
        (
            Repeat::Keyed,
            itself,
            Flaw::TimeoutIsFailure,
            FAILED_IS_NONE,
        ),
        (Repeat::Keyed, itself, Flaw::LeaseOnly, FINAL_IS_FINAL),
        (Repeat::AfterQuestion, cannot_tell, Flaw::AsksForEver, ENDS),
    ] {
        breaks(
            &format!("{repeat:?}, {flaw:?}"),
            operation(repeat, shows, flaw),
            broken,
        );
    }
    let forgets = operation(Repeat::Keyed, itself, Flaw::DeclineOfARepeatIsFinal);
    breaks(
        "DeclineOfARepeatIsFinal",
        forgetful(forgets),
        FAILED_IS_NONE,
    );
}

#[test]
fn wrong_races_are_caught() {
    use operation::{CEILING, SUCCEEDED_IS_MOVED};
    breaks(
        "CheckThenInsert",
        two_for_one(Flaw::CheckThenInsert),
        CEILING,
    );
    breaks("SumProves", two_by_sum(Flaw::SumProves), SUCCEEDED_IS_MOVED);
}

fn payment(shape: Shape, flaw: Wrong) -> Charge {
    Charge {
        shape,
        flaw,
        bounds: Bounds::new(1, BEHIND_THE_GIVE_UP),
    }
}

fn operation(repeat: Repeat, shows: Shows, flaw: Flaw) -> Operations {
    let until = match repeat {
        Repeat::Keyed => BEHIND_THE_WINDOW,
        Repeat::KeyedForever | Repeat::AfterQuestion => BEHIND_THE_GIVE_UP,
    };
    Operations {
        repeat,
        shows,
        remembers_declines: true,
        asked: 1,
        ceiling: 1,
        flaw,
        bounds: Bounds::new(1, until),
    }
}

fn forgetful(model: Operations) -> Operations {
    Operations {
        remembers_declines: false,
        ..model
    }
}

/// Two operations, and an amount that is enough for one.
fn two_for_one(flaw: Flaw) -> Operations {
    Operations {
        asked: 2,
        bounds: Bounds::new(1, BEHIND_A_LEASE),
        ..operation(Repeat::KeyedForever, Shows::Itself, flaw)
    }
}

/// Two operations, an amount that is enough for both, and a provider that shows only a sum.
fn two_by_sum(flaw: Flaw) -> Operations {
    Operations {
        ceiling: 2,
        shows: Shows::Sum,
        bounds: Bounds::new(1, bounds::LEASE),
        ..two_for_one(flaw)
    }
}
