//! A schedule: what happens, in order, as data that a seed gives and a shrinker can cut.

use crate::random::Random;

/// The providers, by the names that callers use.
pub(crate) const PROVIDERS: [&str; 3] = ["postfinance", "paypal", "aduno"];

/// One thing that happens. Numbers that pick an object are taken modulo what is there, so that a
/// plan from which steps were cut still runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A caller's call, by one of the two processes.
    Call(usize, Call),
    /// Several calls at once.
    Together(Vec<(usize, Call)>),
    /// A process looks at everything open.
    Reconcile(usize),
    /// A fault befalls the next matching call at a provider.
    Fault {
        /// Which provider.
        provider: usize,
        /// Which of its operations.
        operation: usize,
        /// What befalls it.
        kind: usize,
        /// How often.
        times: u32,
    },
    /// Time passes.
    Advance(u64),
    /// A process dies after so many more boundaries, and is started again afterwards.
    Crash(usize, u32),
    /// So many of a process's next writes fail.
    FullDisk(usize, u32),
    /// The webhooks that wait are handled so.
    Webhooks(Delivery),
    /// A customer decides on an open page.
    Decide(usize, bool),
}

/// A caller's call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Call {
    Pay {
        method: usize,
        minor: i64,
        manual: bool,
        customer: bool,
        reference: u64,
    },
    Capture {
        payment: usize,
        percent: i64,
        last: bool,
    },
    Void {
        payment: usize,
    },
    Refund {
        payment: usize,
        percent: i64,
    },
    /// A first payment that links a method in the same visit.
    Link {
        provider: usize,
        minor: i64,
        manual: bool,
        reference: u64,
    },
    /// The same call under the same key as an earlier one.
    Again {
        call: usize,
    },
}

/// What becomes of the webhooks that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Delivery {
    InOrder,
    Twice,
    Reversed,
    Lost,
}

/// What can befall a call, in the sandbox's words.
pub(crate) const FAULTS: [&str; 8] = [
    "refuse",
    "drop_before",
    "stall",
    "execute_then_drop",
    "execute_then_500",
    "half_body",
    "decline",
    "pending",
];

/// Each provider's mutating operations, in the order of [`PROVIDERS`], and one entry for reads.
pub(crate) const OPERATIONS: [[&str; 6]; 3] = [
    [
        "POST /api/v2.0/payment/transactions",
        "POST /api/v2.0/payment/transactions/*/process-with-token",
        "POST /api/v2.0/payment/transactions/*/complete-partially-online",
        "POST /api/v2.0/payment/transactions/*/void-online",
        "POST /api/v2.0/payment/refunds",
        "GET /api/v2.0/payment",
    ],
    [
        "POST /v2/checkout/orders",
        "POST /v2/checkout/orders/*",
        "POST /v2/payments/authorizations/*/capture",
        "POST /v2/payments/authorizations/*/void",
        "POST /v2/payments/captures/*/refund",
        "GET /v2",
    ],
    [
        "POST /v1/transactions/authorize",
        "POST /v1/transactions/*/settle",
        "POST /v1/transactions/*/cancel",
        "POST /v1/transactions/*/credit",
        "POST /v1/transactions",
        "GET /v1",
    ],
];

/// Jumps of the clock in seconds: within a window, past `commit_within`, past Aduno's 60 minutes,
/// past PayPal's 3 and 6 hours, past its 45 days.
const JUMPS: [u64; 9] = [1, 20, 70, 300, 1000, 4000, 11_000, 23_000, 4_000_000];

/// How many steps a schedule has at most.
const MAX_STEPS: u64 = 24;

/// The schedule of a seed.
pub fn plan(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let length = 4 + random.below(MAX_STEPS - 3);
    (0..length).map(|_| step(&mut random)).collect()
}

fn step(random: &mut Random) -> Step {
    match random.below(100) {
        0..40 => Step::Call(random.index(2), call(random)),
        40..48 => {
            let calls = 2 + random.index(3);
            Step::Together(
                (0..calls)
                    .map(|_| (random.index(2), call(random)))
                    .collect(),
            )
        }
        48..58 => Step::Reconcile(random.index(2)),
        58..76 => Step::Fault {
            provider: random.index(PROVIDERS.len()),
            operation: random.index(6),
            kind: random.index(FAULTS.len()),
            times: 1 + random.below_u32(3),
        },
        76..84 => Step::Advance(JUMPS.get(random.index(JUMPS.len())).copied().unwrap_or(1)),
        84..90 => Step::Crash(random.index(2), random.below_u32(24)),
        90..92 => Step::FullDisk(random.index(2), 1 + random.below_u32(3)),
        92..97 => Step::Webhooks(match random.below(4) {
            0 => Delivery::InOrder,
            1 => Delivery::Twice,
            2 => Delivery::Reversed,
            _ => Delivery::Lost,
        }),
        _ => Step::Decide(random.index(8), random.chance(70)),
    }
}

fn call(random: &mut Random) -> Call {
    let payment = random.index(8);
    match random.below(11) {
        10 => Call::Link {
            provider: random.index(PROVIDERS.len()),
            minor: 100 + i64::try_from(random.below(9900)).unwrap_or(0),
            manual: random.chance(40),
            reference: random.below(4),
        },
        0..4 => Call::Pay {
            method: random.index(6),
            minor: 100 + i64::try_from(random.below(9900)).unwrap_or(0),
            manual: random.chance(50),
            customer: random.chance(15),
            reference: random.below(4),
        },
        4 | 5 => Call::Capture {
            payment,
            percent: [100, 50, 30, 120]
                .get(random.index(4))
                .copied()
                .unwrap_or(100),
            last: random.chance(70),
        },
        6 => Call::Void { payment },
        7 | 8 => Call::Refund {
            payment,
            percent: [100, 50, 30, 60]
                .get(random.index(4))
                .copied()
                .unwrap_or(100),
        },
        _ => Call::Again {
            call: random.index(16),
        },
    }
}
