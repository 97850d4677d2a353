//! One-shot operations: a refund, a capture, a void. There is nothing to reserve, so the send
//! itself is written down, and the amount is reserved from what is left in the same transaction.

mod possible;
mod provider;
mod row;
mod worker;

use stateright::{Model, Property};

use crate::bounds::{Bounds, MAX_TURNS_IN_A_TICK, SKEWS};

/// When a provider takes a repeat for a repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It keeps the key for [`WINDOW`] ticks.
    Keyed,
    /// It keeps the key for good.
    KeyedForever,
    /// It keeps none.
    AfterQuestion,
}

/// What a question about an operation shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// The operation itself, by our reference.
    Itself,
    /// Nothing that tells one operation from another.
    CannotTell,
    /// The sum of all operations. It tells which were done only if none but one was open.
    Sum,
}

/// One way of being wrong. Everything else stays as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The protocol of `DESIGN`.
    None,
    /// Each send has a key of its own.
    KeyPerAttempt,
    /// The same key is sent again however old it is.
    SameKeyForEver,
    /// The same key is sent again to the window's very end.
    WindowWithoutMargin,
    /// "Not found" is believed at once.
    QueryThenResend,
    /// "Not found" is judged by when it was answered, not by when it was asked.
    JudgedByAnswer,
    /// An incomplete answer makes the client send again, within the same call.
    ResendIncomplete,
    /// A request leaves however long ago it was marked.
    NoSendDeadline,
    /// A worker writes whatever the row has become while its own clock says that its lease holds.
    LeaseOnly,
    /// No answer is a failure.
    TimeoutIsFailure,
    /// What is left is read, and taken later.
    CheckThenInsert,
    /// A decline that answers a repeat is final at once.
    DeclineOfARepeatIsFinal,
    /// What can be neither told nor repeated is asked about for ever, instead of parked.
    AsksForEver,
    /// A sum that fits is taken as the operation's own doing, whatever else is open.
    SumProves,
}

/// Operations of one payment, two workers and a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operations {
    /// The provider's memory.
    pub(crate) repeat: Repeat,
    /// The provider's answers.
    pub(crate) shows: Shows,
    /// The provider answers a repeat of a declined request with the same decline.
    pub(crate) remembers_declines: bool,
    /// How many operations of one unit each are asked for: one or two, each by its own worker.
    pub(crate) asked: u8,
    /// How many units there are to give back.
    pub(crate) ceiling: u8,
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
    /// Of the ceiling: reserved or done, by our books.
    taken: u8,
    rows: [Row; 2],
    /// The status that a row had when it first was final.
    ended_as: [Option<Status>; 2],
    workers: [Worker; 2],
    /// What is under way, sorted: the network keeps no order.
    flight: Vec<Packet>,
    /// How often the provider has carried each out.
    moved: [u8; 2],
    /// Keys that the provider knows: of which operation, which key, since when, declined or not.
    keys: Vec<(u8, u8, u8, bool)>,
    faults: u8,
    /// The provider may still decline.
    may_decline: bool,
    /// How many times a request was sent again, for the flaws that need it.
    attempts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    status: Status,
    first_sent: u8,
    last_sent: u8,
    lease: u8,
    next: u8,
    /// A repeat was declined, which says nothing of the first send: it is not sent again.
    refused: bool,
    /// Another operation was open at some time while this one was.
    overlaps: bool,
    /// How much was done, by our books, when it was begun.
    done_before: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    NotAsked,
    Refused,
    Open,
    Succeeded,
    Failed,
    Parked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Worker {
    Idle,
    /// Has read that there is enough left; for the flaw that needs it.
    HasChecked,
    /// The request is marked as sent; it has not left.
    Marked {
        of: u8,
        lease: u8,
        key: u8,
        fresh: bool,
        at: u8,
    },
    /// The request has left.
    Calling {
        of: u8,
        lease: u8,
        key: u8,
        fresh: bool,
        reply: Option<Reply>,
    },
    /// A question is asked; `at` is when, by the worker's clock.
    Asking {
        of: u8,
        lease: u8,
        at: u8,
        reply: Option<Reply>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Packet {
    of: u8,
    key: u8,
    /// It arrives by then or never.
    by: u8,
    /// Who waits for the answer.
    from: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reply {
    Done,
    Declined,
    NotFound,
    CannotTell,
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Tick,
    Asked(u8),
    Inserts(u8),
    Take { worker: u8, of: u8 },
    Leave(u8),
    TooLateToLeave(u8),
    ConnectionRefused(u8),
    Arrives { packet: u8, how: Arrival },
    Lost { packet: u8 },
    Answered(u8),
    Learns(u8),
    TimesOut(u8),
    Crashes(u8),
}

impl Action {
    /// Who does nothing of this does nothing for long.
    const fn is_a_turn(self) -> bool {
        matches!(self, Self::Take { .. } | Self::Learns(_))
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
}

pub(crate) const ONE_MOVEMENT: &str = "at most one movement";
pub(crate) const CEILING: &str = "refunds never exceed captures";
pub(crate) const SUCCEEDED_IS_MOVED: &str = "succeeded in the books is one movement";
pub(crate) const FAILED_IS_NONE: &str = "failed has moved nothing, ever";
pub(crate) const FINAL_IS_FINAL: &str = "final states are final";
pub(crate) const INTENT_FIRST: &str = "nothing is sent before the intent is durable";
pub(crate) const ENDS: &str = "faults off, everything ends or is parked";

impl Model for Operations {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let skews = SKEWS.iter();
        skews
            .map(|&skew| State::new(skew, self.bounds.faults))
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if self.has_ended(state) || state.now == self.bounds.horizon {
            return;
        }
        if state.rows[0].status == Status::NotAsked && state.workers[0] == Worker::Idle {
            // The first request is the first by name, and nothing comes before it.
            actions.push(Action::Asked(0));
            return;
        }
        self.network(state, actions);
        for worker in 0..2 {
            self.worker(state, worker, actions);
        }
        // Once it is calm nobody pauses: time passes when all that was begun is done.
        let overdue = state.flight.iter().any(|packet| packet.by == state.now);
        if actions.is_empty() || (self.stormy(state) && !overdue) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if !self.stormy(last) && action.is_a_turn() {
            state.turns = state.turns.saturating_add(1);
        }
        self.apply(&mut state, action);
        if self.has_ended(&state) {
            // How it got there is of no interest any more.
            state.turns = 0;
        }
        state.flight.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            always(ONE_MOVEMENT, |_, state| {
                state.moved.iter().all(|&moved| moved <= 1)
            }),
            always(CEILING, |model, state| {
                let moved: u8 = state.moved.iter().sum();
                moved <= model.ceiling && state.taken <= model.ceiling
            }),
            always(SUCCEEDED_IS_MOVED, |_, state| {
                state.all(|status, moved| status != Status::Succeeded || moved == 1)
            }),
            always(FAILED_IS_NONE, |_, state| {
                state.all(|status, moved| status != Status::Failed || moved == 0)
            }),
            always(FINAL_IS_FINAL, |_, state| {
                let mut pairs = state.rows.iter().zip(state.ended_as);
                pairs.all(|(row, ended)| ended.is_none_or(|status| status == row.status))
            }),
            always(INTENT_FIRST, |_, state| {
                state.all(|status, moved| {
                    !matches!(status, Status::NotAsked | Status::Refused) || moved == 0
                })
            }),
            always(ENDS, |model, state| {
                let in_time = state.now < model.bounds.horizon || model.has_ended(state);
                in_time && state.turns <= MAX_TURNS_IN_A_TICK
            }),
            sometimes("succeeded", |_, state| {
                state.ended_as.contains(&Some(Status::Succeeded))
            }),
            sometimes("failed", |_, state| {
                state.ended_as.contains(&Some(Status::Failed))
            }),
        ];
        if self.can_park() {
            properties.push(sometimes("parked", |_, state| {
                state.rows.iter().any(|row| row.status == Status::Parked)
            }));
        }
        properties
    }
}

fn always(name: &'static str, holds: fn(&Operations, &State) -> bool) -> Property<Operations> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, happens: fn(&Operations, &State) -> bool) -> Property<Operations> {
    Property::sometimes(name, happens)
}
