//! Draft.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "test code stops at the first surprise"
)]

mod bounds;
mod charge;
mod operation;

use bounds::{Bounds, breaks, holds};
use charge::{Charge, Shape};
use operation::{Operations, Repeat, Shows};

const SHAPES: [Shape; 4] = [
    Shape::Order { remembers_declines: true },
    Shape::Order { remembers_declines: false },
    Shape::Transaction,
    Shape::Hold,
];

#[test]
fn payments() {
    for shape in SHAPES {
        holds(&format!("{shape:?}"), Charge { shape, flaw: charge::Flaw::None, bounds: Bounds::new(1, 5) });
    }
}

#[test]
fn one_operation() {
    for repeat in [Repeat::Keyed, Repeat::KeyedForever, Repeat::AfterQuestion] {
        for shows in [Shows::Itself, Shows::CannotTell] {
            for remembers_declines in [true, false] {
 if remembers_declines && repeat==Repeat::AfterQuestion {continue}
                let model = Operations { repeat, shows, remembers_declines, asked: 1, ceiling: 1, flaw: operation::Flaw::None, bounds: Bounds::new(1, if repeat==Repeat::Keyed {6} else {4}) };
                holds(&format!("{repeat:?} {shows:?} {remembers_declines}"), model);
            }
        }
    }
}

#[test]
fn wrong_payments() {
    use charge::Flaw as F;
    let order = Shape::Order { remembers_declines: true };
    for (shape, flaw, expected) in [
        (Shape::Hold, F::KeyPerAttempt, charge::ONE_HOLD),
        (Shape::Hold, F::KeyPerWorker, charge::ONE_HOLD),
        (Shape::Transaction, F::QueryThenResend, charge::ONE_RESERVATION),
        (Shape::Transaction, F::ResendIncomplete, charge::ONE_RESERVATION),
        (order, F::ReservationWithoutCas, charge::NO_MONEY_IS_NONE),
        (order, F::LeaseOnly, charge::FINAL_IS_FINAL),
        (order, F::NoSendDeadline, charge::NO_MONEY_IS_NONE),
        (Shape::Transaction, F::NoSendDeadline, charge::NO_MONEY_IS_NONE),
        (order, F::GiveUpWithoutReading, charge::NO_MONEY_IS_NONE),
        (order, F::GiveUpWithoutWaiting, charge::NO_MONEY_IS_NONE),
        (order, F::TimeoutIsFailure, charge::NO_MONEY_IS_NONE),
        (order, F::SendBeforeIntent, charge::INTENT_FIRST),
        (charge::FORGETFUL, F::DeclineOfARepeatIsFinal, charge::NO_MONEY_IS_NONE),
        (Shape::Hold, F::NoRelease, charge::NO_HOLD_IS_LEFT),
    ] {
        breaks(&format!("{shape:?} {flaw:?}"), Charge { shape, flaw, bounds: Bounds::new(1, 5) }, expected);
    }
}

#[test]
fn wrong_operations() {
    use operation::Flaw as F;
    let one = |repeat, shows, flaw| Operations { repeat, shows, remembers_declines: true, asked: 1, ceiling: 1, flaw, bounds: Bounds::new(1, 8) };
    let two = |flaw, shows, ceiling| Operations { repeat: Repeat::KeyedForever, shows, remembers_declines: true, asked: 2, ceiling, flaw, bounds: Bounds::new(1, 3) };
    for (model, expected) in [
        (one(Repeat::Keyed, Shows::CannotTell, F::KeyPerAttempt), operation::ONE_MOVEMENT),
        (one(Repeat::Keyed, Shows::CannotTell, F::SameKeyForEver), operation::ONE_MOVEMENT),
        (one(Repeat::Keyed, Shows::CannotTell, F::WindowWithoutMargin), operation::ONE_MOVEMENT),
        (one(Repeat::AfterQuestion, Shows::Itself, F::QueryThenResend), operation::ONE_MOVEMENT),
        (one(Repeat::AfterQuestion, Shows::Itself, F::JudgedByAnswer), operation::ONE_MOVEMENT),
        (one(Repeat::Keyed, Shows::Itself, F::JudgedByAnswer), operation::FAILED_IS_NONE),
        (one(Repeat::AfterQuestion, Shows::CannotTell, F::ResendIncomplete), operation::ONE_MOVEMENT),
        (one(Repeat::Keyed, Shows::CannotTell, F::NoSendDeadline), operation::ONE_MOVEMENT),
        (one(Repeat::AfterQuestion, Shows::Itself, F::LeaseOnly), operation::FINAL_IS_FINAL),
        (one(Repeat::Keyed, Shows::Itself, F::TimeoutIsFailure), operation::FAILED_IS_NONE),
        (Operations { remembers_declines: false, ..one(Repeat::Keyed, Shows::Itself, F::DeclineOfARepeatIsFinal) }, operation::FAILED_IS_NONE),
        (two(F::CheckThenInsert, Shows::Itself, 1), operation::CEILING),
        (two(F::SumProves, Shows::Sum, 2), operation::SUCCEEDED_IS_MOVED),
    ] {
        breaks(&format!("{model:?}"), model, expected);
    }
}

#[test]
fn two_operations() {
    for (shows, ceiling) in [(Shows::Itself, 1), (Shows::Sum, 2)] {
        let model = Operations { repeat: Repeat::KeyedForever, shows, remembers_declines: true, asked: 2, ceiling, flaw: operation::Flaw::None, bounds: Bounds::new(1, 3) };
        holds(&format!("{model:?}"), model);
    }
}
