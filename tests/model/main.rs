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
        holds(&format!("{shape:?}"), Charge { shape, flaw: charge::Flaw::None, bounds: Bounds::new(1, 4) });
    }
}

#[test]
fn one_operation() {
    for repeat in [Repeat::Keyed, Repeat::KeyedForever, Repeat::AfterQuestion] {
        for shows in [Shows::Itself, Shows::CannotTell] {
            for remembers_declines in [true, false] {
 if remembers_declines && repeat==Repeat::AfterQuestion {continue}
                let model = Operations { repeat, shows, remembers_declines, asked: 1, ceiling: 1, flaw: operation::Flaw::None, bounds: Bounds::new(1, 6) };
                holds(&format!("{repeat:?} {shows:?} {remembers_declines}"), model);
            }
        }
    }
}
