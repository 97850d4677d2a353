//! Payments: reserve, remember, commit; give up, close, void; park, and end by a person's word.

mod possible;
mod provider;
mod row;
mod worker;

use stateright::{Model, Property};

use crate::bounds::{Bounds, COMMIT_WITHIN, MAX_TURNS_IN_A_TICK, NET, SKEW, SKEWS};

/// How a provider takes a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// PayPal: a keyed order that holds nothing, and a commit that the order guards. Whether a
    /// repeat of a declined commit is declined again, or tried again, is the provider's secret.
    Order {
        /// The provider answers a repeat of a declined commit with the same decline.
        remembers_declines: bool,
    },
    /// PostFinance: a transaction without a key, found by reference; a commit that it guards.
    Transaction,
    /// Aduno: a keyed hold within a window; a settle and a cancel that its state guards.
    Hold,
}

/// Beside which worker a person ends what is parked: not the one that has accepted the payment,
/// which may come late with an answer.
const PERSON: u8 = 1;

/// The provider of which a declined repeat says least.
pub(crate) const FORGETFUL: Shape = Shape::Order {
    remembers_declines: false,
};

/// One way of being wrong. Everything else stays as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The protocol of `DESIGN`.
    None,
    /// Each reserve has a key of its own.
    KeyPerAttempt,
    /// Keys come from the worker.
    KeyPerWorker,
    /// Keys come from the worker, and what was answered is committed, whatever the row holds.
    CommitByAnswer,
    /// "Not found" is believed at once.
    QueryThenResend,
    /// An incomplete answer makes the client send the reserve again, within the same call.
    ResendIncomplete,
    /// The reservation is written whatever the row has become.
    ReservationWithoutCas,
    /// A worker writes whatever the row has become while its own clock says that its lease holds.
    LeaseOnly,
    /// A request leaves however long ago it was marked.
    NoSendDeadline,
    /// Commits leave however old the payment is.
    NoCommitWithin,
    /// A closed payment ends without a look.
    GiveUpWithoutReading,
    /// A closed payment is looked at before the last commit has landed.
    GiveUpWithoutWaiting,
    /// A commit without an answer has failed.
    TimeoutIsFailure,
    /// A commit without an answer has taken the money.
    TimeoutIsCapture,
    /// The reserve leaves before the intent is durable.
    SendBeforeIntent,
    /// A decline that answers a repeat is final at once.
    DeclineOfARepeatIsFinal,
    /// A closed payment of which nothing was taken is asked about for ever, instead of ended.
    ClosedAsksForEver,
    /// A closed payment's hold is left where it is.
    NoRelease,
    /// A void of a payment whose reserve is unknown ends as if there were no hold.
    SilentVoid,
    /// A person's word ends a parked payment, and nobody asks the provider.
    ResolveWithoutAsking,
    /// A person's word ends a parked payment while a commit may still be on its way.
    ResolveBeforeQuiet,
}

/// One intent, two workers and a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charge {
    /// The provider.
    pub(crate) shape: Shape,
    /// What is wrong.
    pub(crate) flaw: Flaw,
    /// What may happen.
    pub(crate) bounds: Bounds,
}

/// Everything there is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    now: u8,
    skew: [u8; 2],
    /// How often a row was taken, or something learnt, within this tick, once the faults are off.
    turns: u8,
    row: Option<Row>,
    /// The status that the row had when it was first settled.
    settled_as: Option<Status>,
    workers: [Worker; 2],
    /// What is under way, sorted: the network keeps no order.
    flight: Vec<Packet>,
    /// What stands at the provider; ids are places in this list.
    objects: Vec<Object>,
    /// Keys that the provider knows: which key, which object, since when.
    keys: Vec<(u8, u8, u8)>,
    faults: u8,
    /// Copies that the network made of requests without a key.
    copies: u8,
    /// The caller may still void.
    may_void: bool,
    /// A person may still end what is parked.
    may_resolve: bool,
    /// The provider may still decline a commit, or take it under review.
    may_decline: bool,
    /// It was parked at some time.
    was_parked: bool,
    /// How many times a reserve was tried, for the flaw that needs it.
    attempts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    step: Step,
    status: Status,
    closing_as: Status,
    object: Option<u8>,
    /// The caller is told that the provider may hold an amount that nobody can release.
    hold_may_remain: bool,
    created: u8,
    first_sent: Option<u8>,
    last_sent: u8,
    lease: u8,
    next: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    Reserving,
    Reserved,
    Committing,
    Closing,
    Settled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Unknown,
    Pending,
    Captured,
    Declined,
    Failed,
    Voided,
    Parked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// The request is marked as sent; it has not left.
    Marked {
        lease: u8,
        call: Call,
        fresh: bool,
        at: u8,
    },
    /// A request has left.
    Calling {
        lease: u8,
        call: Call,
        fresh: bool,
        reply: Option<Reply>,
    },
    /// A question is asked; `at` is when, by the worker's clock.
    Asking {
        lease: u8,
        at: u8,
        reply: Option<Reply>,
    },
    /// The same, for a person who wants to end what is parked.
    Resolving {
        lease: u8,
        word: Word,
        reply: Option<Reply>,
    },
}

/// How a person says that a parked payment has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Captured,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Call {
    Reserve { key: u8 },
    Commit { object: u8 },
    Void { object: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Packet {
    call: Call,
    /// It arrives by then or never.
    by: u8,
    /// Who waits for the answer.
    from: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Object {
    Created,
    Held,
    UnderReview,
    Captured,
    Declined,
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reply {
    Reserved(u8),
    Declined,
    Seen(Object),
    Nothing,
    Many,
    /// A word that we do not know.
    Unmapped,
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Tick,
    Accept,
    VoidAsked(u8),
    Webhook,
    Reviewed { object: u8, captured: bool },
    Resolve(Word),
    Take(u8),
    Leave(u8),
    TooLateToLeave(u8),
    ConnectionRefused(u8),
    Arrives { packet: u8, how: Arrival },
    Lost { packet: u8 },
    Answered(u8),
    AnsweredUnmapped(u8),
    Learns(u8),
    TimesOut(u8),
    Crashes(u8),
}

impl Action {
    /// Who does nothing of this does nothing for long.
    const fn is_a_turn(self) -> bool {
        matches!(self, Self::Take(_) | Self::Learns(_))
    }
}

/// What becomes of a request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Done,
    DoneAndReplyLost,
    DoneAndComesAgain,
    Declined,
    DeclinedAndReplyLost,
    UnderReview,
    UnderReviewAndReplyLost,
}

pub(crate) const ONE_MOVEMENT: &str = "at most one movement";
pub(crate) const ONE_HOLD: &str = "at most one live hold";
pub(crate) const ONE_RESERVATION: &str = "at most one reservation";
pub(crate) const CAPTURED_IS_MOVED: &str = "captured in the books is one movement";
pub(crate) const NO_MONEY_IS_NONE: &str = "declined, failed and voided have moved nothing, ever";
pub(crate) const FINAL_IS_FINAL: &str = "final states are final";
pub(crate) const INTENT_FIRST: &str = "nothing is sent before the intent is durable";
pub(crate) const NO_HOLD_IS_LEFT: &str = "a payment ends unpaid without a hold, or says so";
pub(crate) const IN_TIME: &str = "no commit leaves after its time";
pub(crate) const ENDS: &str = "faults off, everything ends or is parked";

impl Model for Charge {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let skews = SKEWS.iter();
        skews
            .map(|&skew| State::new(skew, self.bounds.faults))
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.is_over() || state.now == self.bounds.horizon {
            return;
        }
        if state.row.is_none() && state.workers[0] == Worker::Idle {
            // Nothing comes before the caller's request.
            actions.push(Action::Accept);
            return;
        }
        self.network(state, actions);
        for worker in 0..2 {
            self.worker(state, worker, actions);
        }
        // Once it is calm nobody pauses: time passes when all that was begun is done. Only a caller and
        // a webhook come when they like.
        let overdue = state.flight.iter().any(|packet| packet.by == state.now);
        let may_pass = actions.is_empty() || (self.stormy(state) && !overdue);
        if may_pass && !state.waits_for_ever() {
            actions.push(Action::Tick);
        }
        self.caller_and_webhooks(state, actions);
        self.reviewer_and_person(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if !self.stormy(last) && action.is_a_turn() {
            state.turns = state.turns.saturating_add(1);
        }
        self.apply(&mut state, action);
        if state.has_ended() {
            // How it got there is of no interest any more.
            state.turns = 0;
        }
        state.flight.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            always(ONE_MOVEMENT, |_, state| state.moved() <= 1),
            always(ONE_HOLD, |_, state| state.holds() <= 1),
            // A copy of a request without a key is the one thing that nobody can prevent.
            always(ONE_RESERVATION, |_, state| {
                state.objects.len() <= usize::from(1 + state.copies)
            }),
            always(CAPTURED_IS_MOVED, |_, state| {
                !state.is_settled_as(&[Status::Captured]) || state.moved() == 1
            }),
            always(NO_MONEY_IS_NONE, |_, state| {
                let unpaid = [Status::Declined, Status::Failed, Status::Voided];
                !state.is_settled_as(&unpaid) || state.moved() == 0
            }),
            always(FINAL_IS_FINAL, |_, state| {
                let status = state.row.filter(|row| row.step == Step::Settled);
                state.settled_as == status.map(|row| row.status)
            }),
            always(INTENT_FIRST, |_, state| {
                state.row.is_some() || (state.flight.is_empty() && state.objects.is_empty())
            }),
            always(NO_HOLD_IS_LEFT, |_, state| state.tells_of_holds()),
            always(IN_TIME, |_, state| {
                let latest = COMMIT_WITHIN + SKEW + NET;
                let mut packets = state.flight.iter();
                packets.all(|packet| packet.by <= latest || !packet.moves_money())
            }),
            always(ENDS, |model, state| {
                let in_time = state.now < model.bounds.horizon || state.has_ended();
                in_time && state.turns <= MAX_TURNS_IN_A_TICK
            }),
            sometimes("captured", |_, state| {
                state.is_settled_as(&[Status::Captured])
            }),
            sometimes("declined", |_, state| {
                state.is_settled_as(&[Status::Declined])
            }),
            sometimes("failed", |_, state| state.is_settled_as(&[Status::Failed])),
            sometimes("voided", |_, state| state.is_settled_as(&[Status::Voided])),
            sometimes("given up with a commit under way", |_, state| {
                let closing = state.row.is_some_and(|row| row.step == Step::Closing);
                closing && state.flight.iter().any(Packet::moves_money)
            }),
        ];
        if self.shape == Shape::Transaction {
            properties.extend([
                sometimes("parked", |_, state| state.is_parked()),
                sometimes("parked, then captured", |_, state| {
                    state.was_parked && state.is_settled_as(&[Status::Captured])
                }),
            ]);
        }
        properties
    }
}

fn always(name: &'static str, holds: fn(&Charge, &State) -> bool) -> Property<Charge> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, happens: fn(&Charge, &State) -> bool) -> Property<Charge> {
    Property::sometimes(name, happens)
}
