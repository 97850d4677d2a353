//! A schedule: what happens, in order, as data that a seed gives and a shrinker can cut.

use std::time::Duration;

use crate::random::Random;
use crate::traits::Traits;

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
        "GET /api/v2.0/webhooks",
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
        "GET /v1/notifications/certs",
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

/// Those of them whose every call has a name of its own, too: no call is struck by these names.
pub(crate) const STAND_FOR_OTHERS: [&str; 2] = ["POST /api/v2.0/payment", "POST /v2"];

/// Places in [`FAULTS`].
const DROP_BEFORE: usize = 1;
const EXECUTE_THEN_DROP: usize = 3;

/// How many schedules in 100 have a scene in them.
const SCENES_PERCENT: u64 = 25;

/// One schedule in so many begins with a call of which a request is struck, whatever else happens then.
const BEGINNINGS_EVERY: u64 = 3;

/// What a schedule begins with, up to the call of which a request is struck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beginning {
    /// A payment.
    Pay,
    /// A capture of a held one.
    Capture,
    /// A void of a held one.
    Void,
    /// A refund of one that is taken.
    Refund,
    /// A customer who approves a first payment, and comes back.
    Link,
    /// A customer who registers a method, and comes back.
    Register,
    /// A method that is revoked.
    Revoke,
    /// A webhook that tells of a payment.
    Webhook,
}

/// Every request that a fault is to strike, by provider, and what it takes to come to it. Rare ones wait
/// in vain if they are left to single steps.
const BEGINNINGS: [(usize, Beginning, &[&str]); 22] = [
    (
        0,
        Beginning::Pay,
        &[
            "POST /api/v2.0/payment/transactions",
            "POST /api/v2.0/payment/transactions/*/process-with-token",
        ],
    ),
    (
        0,
        Beginning::Capture,
        &["POST /api/v2.0/payment/transactions/*/complete-partially-online"],
    ),
    (
        0,
        Beginning::Void,
        &["POST /api/v2.0/payment/transactions/*/void-online"],
    ),
    (0, Beginning::Refund, &["POST /api/v2.0/payment/refunds"]),
    (0, Beginning::Link, &["GET /api/v2.0/payment"]),
    (0, Beginning::Revoke, &["DELETE /api/v2.0/payment/tokens"]),
    (0, Beginning::Webhook, &["GET /api/v2.0/webhooks"]),
    (
        1,
        Beginning::Pay,
        &[
            "POST /v2/checkout/orders",
            "POST /v2/checkout/orders/*",
            "POST /v1/oauth2/token",
        ],
    ),
    (
        1,
        Beginning::Capture,
        &["POST /v2/payments/authorizations/*/capture"],
    ),
    (
        1,
        Beginning::Void,
        &["POST /v2/payments/authorizations/*/void"],
    ),
    (
        1,
        Beginning::Refund,
        &["POST /v2/payments/captures/*/refund"],
    ),
    (1, Beginning::Link, &["GET /v2"]),
    (
        1,
        Beginning::Register,
        &[
            "POST /v3/vault/setup-tokens",
            "POST /v3/vault/payment-tokens",
            "GET /v3/vault",
            "POST /v1/billing-agreements/agreement-tokens",
            "POST /v1/billing-agreements/agreements",
        ],
    ),
    (
        1,
        Beginning::Revoke,
        &[
            "DELETE /v3/vault/payment-tokens",
            "POST /v1/billing-agreements/agreements/*/cancel",
        ],
    ),
    (1, Beginning::Webhook, &["GET /v1/notifications/certs"]),
    (2, Beginning::Pay, &["POST /v1/transactions/authorize"]),
    (2, Beginning::Capture, &["POST /v1/transactions/*/settle"]),
    (2, Beginning::Void, &["POST /v1/transactions/*/cancel"]),
    (2, Beginning::Refund, &["POST /v1/transactions/*/credit"]),
    (2, Beginning::Link, &["GET /v1"]),
    (
        2,
        Beginning::Register,
        &["POST /v1/transactions", "PATCH /v1/aliases"],
    ),
    (2, Beginning::Revoke, &["DELETE /v1/aliases"]),
];

/// Kinds of faults that strike the request that they name: those that lose the answer of what is
/// carried out, and those that keep it from being carried out.
const LOSE_AND_KEEP: [&[&str]; 2] = [
    &["execute_then_drop", "execute_then_500", "half_body"],
    &["drop_before", "stall"],
];

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
    if seed.is_multiple_of(BEGINNINGS_EVERY) {
        let beginning = beginning(seed, &mut random);
        steps.splice(0..0, beginning);
    }
    steps
}

/// One of the [`BEGINNINGS`], each in its turn: nothing has happened yet, so that the call is made and
/// its objects are known. Of PayPal's two kinds of tokens the seed's world has one; the rarer one is all
/// that its worlds begin with. Where PayPal is given the token with the order, that order is not touched
/// again.
fn beginning(seed: u64, random: &mut Random) -> Vec<Step> {
    let traits = Traits::of(seed);
    let is_there = |name: &str| {
        let again = ["POST /v2/checkout/orders/*", "GET /v2"].contains(&name);
        name.contains("/billing-agreements/") == traits.agreements && !(traits.one_call && again)
    };
    let all = BEGINNINGS.iter().flat_map(|(provider, what, names)| {
        let names = names.iter().copied();
        names.map(|name| (*provider, *what, name))
    });
    let all: Vec<_> = all
        .filter(|(_, _, name)| is_there(name))
        .flat_map(|one| LOSE_AND_KEEP.map(|kinds| (one, kinds)))
        .collect();
    let turn = usize::try_from(seed / BEGINNINGS_EVERY).unwrap_or(0);
    let struck = turn.checked_rem(all.len()).and_then(|index| all.get(index));
    let Some(((provider, what, name), kinds)) = struck.copied() else {
        return Vec::new();
    };
    let fault = Step::Fault {
        provider,
        operation: operation_named(provider, name),
        kind: place(&FAULTS, pick(random, kinds)),
        times: 1,
    };
    up_to(what, provider, fault)
}

/// The steps up to a call at a provider, with a fault before it. The second process makes them, which
/// has no access token yet: the first one has linked the methods.
fn up_to(what: Beginning, provider: usize, fault: Step) -> Vec<Step> {
    let pay = |manual| Call::Pay {
        account: 0,
        method: provider,
        minor: 2000,
        currency: 0,
        manual,
        customer: false,
        reference: 0,
    };
    let (payment, setup) = (0, 0);
    let (before, after) = match what {
        Beginning::Pay => (vec![], vec![pay(false)]),
        Beginning::Capture => {
            let capture = Call::Capture {
                payment,
                percent: 100,
                last: true,
            };
            (vec![pay(true)], vec![capture])
        }
        Beginning::Void => (vec![pay(true)], vec![Call::Void { payment }]),
        Beginning::Refund => {
            let refund = Call::Refund {
                payment,
                percent: 50,
            };
            (vec![pay(false)], vec![refund])
        }
        Beginning::Link => {
            let link = Call::Link {
                account: 0,
                provider,
                minor: 2000,
                currency: 0,
                manual: false,
                reference: 0,
            };
            (vec![link], vec![])
        }
        Beginning::Register => {
            let register = Call::Register {
                account: 0,
                provider,
            };
            (vec![], vec![register, Call::Complete { setup }])
        }
        Beginning::Revoke => (vec![], vec![Call::Revoke { method: provider }]),
        Beginning::Webhook => (vec![pay(false)], vec![]),
    };
    let made = |calls: Vec<Call>| calls.into_iter().map(|call| Step::Call(1, call));
    let rest = match what {
        Beginning::Link | Beginning::Register => vec![Step::Decide(0, Decision::Approve)],
        Beginning::Webhook => vec![Step::Webhooks(1, Delivery::InOrder)],
        Beginning::Pay
        | Beginning::Capture
        | Beginning::Void
        | Beginning::Refund
        | Beginning::Revoke => vec![],
    };
    made(before)
        .chain([fault])
        .chain(made(after))
        .chain(rest)
        .collect()
}

/// The place of a provider's operation in [`OPERATIONS`], whatever is put in front of it.
pub(crate) fn operation_named(provider: usize, name: &str) -> usize {
    place(OPERATIONS.get(provider).copied().unwrap_or_default(), name)
}

/// The place of a name in a table that has it.
fn place(of: &[&str], name: &str) -> usize {
    let place = of.iter().position(|one| *one == name);
    place.unwrap_or_else(|| unreachable!("no {name}"))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::run::run;
    use crate::strike::Effect;

    #[test]
    fn the_beginnings_have_every_name_once() {
        let named: Vec<(usize, &str)> = BEGINNINGS
            .iter()
            .flat_map(|(provider, _, names)| names.iter().map(|name| (*provider, *name)))
            .collect();
        let all = OPERATIONS.iter().enumerate().flat_map(|(provider, names)| {
            let own = names.iter().filter(|one| !STAND_FOR_OTHERS.contains(one));
            own.map(move |name| (provider, *name))
        });
        assert_eq!(BTreeSet::from_iter(named.clone()), all.collect());
        assert_eq!(BTreeSet::from_iter(named.clone()).len(), named.len());
    }

    /// In worlds of both kinds, each of them strikes the call that it names.
    #[test]
    fn a_beginning_strikes_what_it_names() {
        let agreements = |wanted| {
            let mut seeds = 0..;
            let fits = |traits: Traits| traits.agreements == wanted && !traits.one_call;
            seeds.find(|seed| fits(Traits::of(*seed))).unwrap()
        };
        let worlds = [false, true].map(agreements);
        let mut vain = Vec::new();
        for (provider, what, names) in BEGINNINGS {
            for name in names {
                let seed = worlds[usize::from(name.contains("/billing-agreements/"))];
                for (kinds, effect) in LOSE_AND_KEEP
                    .into_iter()
                    .zip([Effect::AnswerLost, Effect::NotCarriedOut])
                {
                    let fault = Step::Fault {
                        provider,
                        operation: operation_named(provider, name),
                        kind: place(&FAULTS, kinds[0]),
                        times: 1,
                    };
                    let outcome = run(seed, &up_to(what, provider, fault)).unwrap();
                    assert_eq!(outcome.violations, [], "{name}");
                    let place = format!("{}: {name}", PROVIDERS[provider]);
                    if outcome.figures.struck.get(&(place, effect)) != Some(&1) {
                        vain.push((name, effect, outcome.figures.struck));
                    }
                }
            }
        }
        assert!(vain.is_empty(), "{vain:#?}");
    }
}
