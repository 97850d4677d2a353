//! Schedules that have found something, as they were: a seed means another one once the plan changes.

use crate::plan::{Call, Decision, Delivery, Step, operation_named};

/// Each with the seed of its world.
pub(crate) fn all() -> [(u64, Vec<Step>); 2] {
    [(1812, two_refunds()), (2101, many_holds())]
}

const fn pay(
    account: usize,
    method: usize,
    minor: i64,
    currency: usize,
    (manual, customer): (bool, bool),
    reference: u64,
) -> Call {
    Call::Pay {
        account,
        method,
        minor,
        currency,
        manual,
        customer,
        reference,
    }
}

const HELD: (bool, bool) = (true, false);
const TAKEN: (bool, bool) = (false, false);
const PRESENT: (bool, bool) = (true, true);

const fn link(provider: usize, minor: i64, reference: u64) -> Call {
    Call::Link {
        account: 0,
        provider,
        minor,
        currency: 0,
        manual: false,
        reference,
    }
}

const fn refund(payment: usize, percent: i64) -> Call {
    Call::Refund { payment, percent }
}

fn two_refunds() -> Vec<Step> {
    vec![
        Step::Webhooks(1, Delivery::InOrder),
        Step::Call(1, refund(3, 30)),
        Step::Late {
            provider: 0,
            operation: operation_named(
                0,
                "POST /api/v2.0/payment/transactions/*/complete-partially-online",
            ),
            seconds: 22,
        },
        Step::Resolve(3, 800),
        Step::Call(1, refund(2, 0)),
        Step::Together(vec![
            (0, link(1, 3490, 1)),
            (1, pay(1, 2, 4419, 0, HELD, 3)),
            (0, pay(0, 2, 6879, 0, HELD, 0)),
        ]),
        Step::Webhooks(1, Delivery::InOrder),
        Step::Fault {
            provider: 0,
            operation: operation_named(0, "POST /api/v2.0/payment"),
            kind: 1,
            times: 2,
        },
        Step::Call(0, pay(0, 2, 4948, 0, HELD, 1)),
        Step::Work(0, 30),
        Step::Pause(1, 6, 15),
        Step::Decide(0, Decision::Decline),
        Step::Call(1, Call::Stranger { object: 3, verb: 2 }),
        Step::Call(0, refund(1, 60)),
        Step::Call(0, refund(2, 0)),
        Step::Pause(1, 8, 15),
        Step::Call(1, pay(0, 1, 1854, 0, TAKEN, 3)),
        Step::Call(0, refund(3, 0)),
        Step::Pause(1, 2, 1000),
        Step::Call(1, link(2, 5455, 1)),
    ]
}

fn many_holds() -> Vec<Step> {
    let restrict = Call::Restrict {
        account: 1,
        restricted: true,
    };
    let capture = |payment, percent, last| Call::Capture {
        payment,
        percent,
        last,
    };
    let register = Call::Register {
        account: 0,
        provider: 2,
    };
    vec![
        Step::Webhooks(1, Delivery::EveryOther),
        Step::Call(1, Call::Void { payment: 0 }),
        Step::Fault {
            provider: 0,
            operation: operation_named(0, "POST /api/v2.0/payment/transactions"),
            kind: 1,
            times: 2,
        },
        Step::Pause(0, 10, 15),
        Step::Call(1, pay(0, 2, 4336, 0, PRESENT, 2)),
        Step::Fault {
            provider: 0,
            operation: operation_named(
                0,
                "POST /api/v2.0/payment/transactions/*/complete-partially-online",
            ),
            kind: 4,
            times: 3,
        },
        Step::Webhooks(0, Delivery::Twice),
        Step::Together(vec![
            (1, restrict),
            (0, pay(0, 4, 2574, 0, TAKEN, 0)),
            (1, capture(3, 30, false)),
            (1, pay(1, 1, 600, 0, HELD, 2)),
        ]),
        Step::Together(vec![(0, register), (0, Call::Void { payment: 3 })]),
        Step::Call(0, pay(0, 1, 8129, 0, TAKEN, 1)),
        Step::Decide(4, Decision::Approve),
        Step::Pause(0, 5, 1000),
        Step::Webhooks(1, Delivery::Reversed),
        Step::Call(1, pay(1, 4, 6738, 1, TAKEN, 1)),
        Step::Call(0, link(2, 8223, 0)),
        Step::Together(vec![
            (1, capture(7, 50, true)),
            (0, refund(6, 100)),
            (0, pay(0, 3, 3509, 0, HELD, 1)),
        ]),
    ]
}
