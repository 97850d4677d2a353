//! A schedule: what happens, in order, as data that a seed gives and a shrinker can cut.

use std::time::Duration;

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
    /// A process's resolver works for so many seconds.
    Work(usize, u64),
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
    /// The next matching call gets no answer, and arrives after so many seconds.
    Late {
        /// Which provider.
        provider: usize,
        /// Which of its operations.
        operation: usize,
        /// When it arrives, in seconds.
        seconds: u64,
    },
    /// So many seconds pass.
    Advance(u64),
    /// A process's clock is off by so many seconds from now on.
    Skew(usize, i64),
    /// The machine's clock is off by so many seconds from now on.
    SetClock {
        /// By how many.
        seconds: i64,
        /// Who sees it.
        seen: Seen,
    },
    /// A process dies after so many more boundaries, and is started again afterwards. Those that
    /// take its place look at everything open first, and so many of them die at that too.
    Crash(usize, u32, u32),
    /// A process stands still for so many seconds after so many more boundaries of the store.
    Pause(usize, u32, u64),
    /// So many of a process's next writes fail.
    FailWrites(usize, u32),
    /// So many of a process's next reads fail.
    FailReads(usize, u32),
    /// The webhooks that wait are handled so, by one of the two processes.
    Webhooks(usize, Delivery),
    /// A customer decides on an open page and comes back.
    Decide(usize, Decision),
    /// A browser opens an earlier way back once more.
    Return(usize),
    /// A person takes so many hours and ends something parked, as the ledger says.
    Resolve(usize, u64),
}

/// A caller's call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Call {
    Pay {
        account: usize,
        method: usize,
        minor: i64,
        currency: usize,
        manual: bool,
        customer: bool,
        reference: u64,
    },
    /// Part of what was asked for, in percent; with 0 all that is left. Of a payment that is held, if
    /// there is one.
    Capture {
        payment: usize,
        percent: i64,
        last: bool,
    },
    Void {
        payment: usize,
    },
    /// Part of what was asked for, in percent; with 0 all that is left. Of a payment that is taken,
    /// if there is one.
    Refund {
        payment: usize,
        percent: i64,
    },
    /// A first payment that links a method in the same visit.
    Link {
        account: usize,
        provider: usize,
        minor: i64,
        currency: usize,
        manual: bool,
        reference: u64,
    },
    /// A setup without a payment.
    Register {
        account: usize,
        provider: usize,
    },
    /// Asks how far a setup is.
    Complete {
        setup: usize,
    },
    Revoke {
        method: usize,
    },
    Default {
        method: usize,
    },
    /// The account may not be charged any more, or again.
    Restrict {
        account: usize,
        restricted: bool,
    },
    /// One account names what is another's.
    Stranger {
        object: usize,
        verb: usize,
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
    /// Every other one; the rest goes on waiting.
    EveryOther,
    /// Not before the very end.
    Lost,
}

/// Who sees that the machine's clock is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The resolvers of both processes, which are at work.
    AtWork,
    /// Nobody, until something is driven or time passes.
    Later,
    /// Nobody: no process is at work, and others begin anew.
    Never,
}

/// What a customer decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the meaning")]
pub enum Decision {
    Approve,
    Decline,
    Abandon,
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

/// Each provider's operations, in the order of [`PROVIDERS`]: most that may change something, most
/// reads, and then one by one.
pub(crate) const OPERATIONS: [&[&str]; 3] = [
    &[
        "POST /api/v2.0/payment",
        "GET /api/v2.0/payment",
        "POST /api/v2.0/payment/transactions",
        "POST /api/v2.0/payment/transactions/*/process-with-token",
        "POST /api/v2.0/payment/transactions/*/complete-partially-online",
        "POST /api/v2.0/payment/transactions/*/void-online",
        "POST /api/v2.0/payment/refunds",
        "DELETE /api/v2.0/payment/tokens",
    ],
    &[
        "POST /v2",
        "GET /v2",
        "POST /v2/checkout/orders",
        "POST /v2/checkout/orders/*",
        "POST /v2/payments/authorizations/*/capture",
        "POST /v2/payments/authorizations/*/void",
        "POST /v2/payments/captures/*/refund",
        "POST /v1/oauth2/token",
        "POST /v3/vault/setup-tokens",
        "POST /v3/vault/payment-tokens",
        "GET /v3/vault",
        "DELETE /v3/vault/payment-tokens",
        "POST /v1/billing-agreements/agreement-tokens",
        "POST /v1/billing-agreements/agreements",
        "POST /v1/billing-agreements/agreements/*/cancel",
    ],
    &[
        "POST /v1/transactions",
        "GET /v1",
        "POST /v1/transactions/authorize",
        "POST /v1/transactions/*/settle",
        "POST /v1/transactions/*/cancel",
        "POST /v1/transactions/*/credit",
        "PATCH /v1/aliases",
        "DELETE /v1/aliases",
    ],
];

/// The operations that stand for most that may change something, and for most that read.
const ANY_CHANGE: usize = 0;
const ANY_READ: usize = 1;

/// Places in [`FAULTS`].
const DROP_BEFORE: usize = 1;
const EXECUTE_THEN_DROP: usize = 3;

/// How many schedules in 100 have a scene in them.
const SCENES_PERCENT: u64 = 25;

/// How far the clock goes ahead in a scene, in seconds.
const AHEAD: [i64; 4] = [3_000, 4_000, 20_000, 90_000];

/// Currencies with 2, 2, 0 and 3 decimals. PayPal lacks the last.
pub(crate) const CURRENCIES: [&str; 4] = ["CHF", "EUR", "JPY", "KWD"];

/// The most by which a process's clock is off, in seconds. Two of them differ by twice that, which
/// the providers' longest delays have room for.
pub(crate) const MAX_SKEW: i64 = 5;

/// By how much the machine's clock is off, in seconds: not at all any more, beyond the shortest window
/// of a provider, a day, and beyond the longest. A clock that shows too little while nobody is at work
/// is known by what it showed before; so they differ by more than [`AWAY`].
const CLOCKS: [i64; 12] = [
    0, 0, 0, 0, 3_000, 20_000, 90_000, 4_500_000, -3_000, -20_000, -90_000, -4_500_000,
];

/// The most of these.
pub(crate) const FAR: Duration = Duration::from_secs(4_500_000);

/// For how long nobody is at work when the machine's clock is set unseen: longer than the longest delay
/// of a provider, as a machine takes to start.
pub(crate) const AWAY: Duration = Duration::from_secs(400);

/// Jumps of time in seconds: within a window, past `commit_within` (15 min), past Aduno's
/// 60 minutes, past PayPal's 3 and 6 hours, past a day, PayPal's 45 days, and the 400 days of a key.
const JUMPS: [u64; 11] = [
    1, 20, 70, 300, 1000, 4000, 11_000, 23_000, 90_000, 4_000_000, 35_000_000,
];

/// When a request arrives that got no answer, in seconds: before and after its sender gave up, and
/// as late as the shortest of the providers' longest delays allows with the clocks' skew.
const DELAYS: [u64; 5] = [5, 22, 45, 90, 108];

/// How long a process stands still, in seconds: longer than a send may take, than a lease, than
/// `commit_within`.
const PAUSES: [u64; 3] = [15, 200, 1000];

/// How long a resolver works, in seconds.
const WORKS: [u64; 3] = [3, 30, 120];

/// How many calls a fault befalls: a few, or what looks like an outage.
const TIMES: [u32; 7] = [1, 1, 1, 2, 2, 3, 40];

/// How many hours a person takes.
const HOURS: [u64; 3] = [1, 30, 800];

/// How many steps a schedule has at most.
const MAX_STEPS: u64 = 24;

/// The schedule of a seed.
pub fn plan(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let length = 4 + random.below(MAX_STEPS - 3);
    let mut steps: Vec<Step> = (0..length).map(|_| step(&mut random)).collect();
    if random.chance(SCENES_PERCENT) {
        let at = random.index(steps.len() + 1);
        let scene = scene(&mut random);
        steps.splice(at..at, scene);
    }
    steps
}

/// What single steps seldom come to by themselves: a request whose fate is unknown, and a clock that is
/// wrong just then.
fn scene(random: &mut Random) -> Vec<Step> {
    let provider = random.index(PROVIDERS.len());
    let process = random.index(2);
    let ahead = Step::SetClock {
        seconds: pick(random, &AHEAD),
        seen: pick(random, &[Seen::AtWork, Seen::Later]),
    };
    let right = Step::SetClock {
        seconds: 0,
        seen: pick(random, &[Seen::AtWork, Seen::Later, Seen::Never]),
    };
    let call = Step::Call(process, moves(random));
    let fault = |operation, kind, times| Step::Fault {
        provider,
        operation,
        kind,
        times,
    };
    if random.chance(50) {
        // It is still on its way when the clock goes ahead and somebody asks.
        let late = Step::Late {
            provider,
            operation: ANY_CHANGE,
            seconds: pick(random, &[90, 108]),
        };
        let asks = Step::Reconcile(random.index(2));
        vec![late, call, ahead, asks.clone(), asks, right]
    } else {
        // It was carried out, nobody hears of it until the clock is right, and its window is over then.
        let executed = fault(ANY_CHANGE, EXECUTE_THEN_DROP, 1);
        let nothing_told = fault(ANY_READ, DROP_BEFORE, 40);
        let passes = Step::Advance(pick(random, &[4000, 11_000]));
        vec![
            ahead,
            executed,
            nothing_told,
            call,
            right,
            passes,
            Step::Reconcile(process),
        ]
    }
}

/// A call that moves money.
fn moves(random: &mut Random) -> Call {
    loop {
        let call = call(random);
        if matches!(
            call,
            Call::Pay { .. } | Call::Capture { .. } | Call::Void { .. } | Call::Refund { .. }
        ) {
            return call;
        }
    }
}

fn step(random: &mut Random) -> Step {
    match random.below(100) {
        0..34 => Step::Call(random.index(2), call(random)),
        34..42 => {
            let calls = 2 + random.index(3);
            Step::Together(
                (0..calls)
                    .map(|_| (random.index(2), call(random)))
                    .collect(),
            )
        }
        42..46 => Step::Reconcile(random.index(2)),
        46..48 => Step::Work(random.index(2), pick(random, &WORKS)),
        48..67 => {
            let provider = random.index(PROVIDERS.len());
            Step::Fault {
                provider,
                operation: operation(random, provider),
                kind: random.index(FAULTS.len()),
                times: pick(random, &TIMES),
            }
        }
        67..71 => {
            let provider = random.index(PROVIDERS.len());
            Step::Late {
                provider,
                operation: operation(random, provider),
                seconds: pick(random, &DELAYS),
            }
        }
        71..77 => Step::Advance(pick(random, &JUMPS)),
        77..78 => Step::Skew(random.index(2), pick(random, &[-MAX_SKEW, -2, 2, MAX_SKEW])),
        78..80 => Step::SetClock {
            seconds: pick(random, &CLOCKS),
            seen: pick(random, &[Seen::AtWork, Seen::Later, Seen::Never]),
        },
        80..84 => Step::Crash(
            random.index(2),
            random.below_u32(24),
            crashes_at_start(random),
        ),
        84..86 => Step::Pause(random.index(2), random.below_u32(12), pick(random, &PAUSES)),
        86..87 => Step::FailWrites(random.index(2), 1 + random.below_u32(3)),
        87..88 => Step::FailReads(random.index(2), 1 + random.below_u32(3)),
        88..92 => Step::Webhooks(random.index(2), delivery(random)),
        92..97 => Step::Decide(random.index(8), decision(random)),
        97..98 => Step::Return(random.index(8)),
        _ => Step::Resolve(random.index(4), pick(random, &HOURS)),
    }
}

fn call(random: &mut Random) -> Call {
    let payment = random.index(8);
    match random.below(120) {
        0..44 => Call::Pay {
            account: account(random),
            method: random.index(6),
            minor: minor(random),
            currency: currency(random),
            manual: random.chance(50),
            customer: random.chance(15),
            reference: random.below(4),
        },
        44..64 => Call::Capture {
            payment,
            percent: pick(random, &[100, 50, 30, 120, 0]),
            last: random.chance(70),
        },
        64..72 => Call::Void { payment },
        72..90 => Call::Refund {
            payment,
            percent: pick(random, &[100, 50, 30, 60, 0]),
        },
        90..97 => Call::Link {
            account: account(random),
            provider: random.index(PROVIDERS.len()),
            minor: minor(random),
            currency: currency(random),
            manual: random.chance(40),
            reference: random.below(4),
        },
        97..101 => Call::Register {
            account: account(random),
            provider: random.index(PROVIDERS.len()),
        },
        101..104 => Call::Complete {
            setup: random.index(8),
        },
        104..106 => Call::Revoke {
            method: random.index(8),
        },
        106..108 => Call::Default {
            method: random.index(8),
        },
        108..110 => Call::Restrict {
            account: account(random),
            restricted: random.chance(50),
        },
        110..112 => Call::Stranger {
            object: random.index(8),
            verb: random.index(5),
        },
        _ => Call::Again {
            call: random.index(16),
        },
    }
}

/// One of a provider's operations; often the one that stands for most that change something, since a
/// fault of a single one may wait in vain.
fn operation(random: &mut Random, provider: usize) -> usize {
    let operations = OPERATIONS.get(provider).map_or(1, |all| all.len());
    if random.chance(30) {
        ANY_CHANGE
    } else {
        random.index(operations)
    }
}

/// The first account has most of the business.
fn account(random: &mut Random) -> usize {
    usize::from(random.chance(25))
}

fn minor(random: &mut Random) -> i64 {
    100 + i64::try_from(random.below(9900)).unwrap_or(0)
}

fn currency(random: &mut Random) -> usize {
    if random.chance(60) {
        0
    } else {
        random.index(4)
    }
}

fn crashes_at_start(random: &mut Random) -> u32 {
    if random.chance(70) {
        0
    } else {
        1 + random.below_u32(2)
    }
}

fn delivery(random: &mut Random) -> Delivery {
    let all = [
        Delivery::InOrder,
        Delivery::Twice,
        Delivery::Reversed,
        Delivery::EveryOther,
        Delivery::Lost,
    ];
    pick(random, &all)
}

fn decision(random: &mut Random) -> Decision {
    match random.below(10) {
        0..7 => Decision::Approve,
        7..9 => Decision::Decline,
        _ => Decision::Abandon,
    }
}

/// One of several; there is at least one.
fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    let index = random.index(of.len());
    // `index` is below the length, and no list here is empty.
    of.get(index)
        .copied()
        .unwrap_or_else(|| unreachable!("an empty list"))
}
