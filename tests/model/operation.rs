//! One-shot operations: a refund, a capture, a void. There is nothing to reserve, so the send
//! itself is written down, and the amount is reserved from what is left in the same transaction.

use stateright::{Model, Property};

use crate::bounds::{
    Bounds, LEASE, LONGEST_DELAY, MAX_STEPS_IN_A_TICK, NET, NEVER, SEND_WITHIN, SKEWS, WINDOW,
};

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
    /// Steps within this tick, counted once the faults are off.
    steps: u8,
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
        self.network(state, actions);
        for worker in 0..2 {
            self.worker(state, worker, actions);
        }
        if !self.stormy(state) {
            // Nobody pauses and nothing is lost: everything is done in turn, then time passes.
            actions.truncate(1);
        }
        let overdue = state.flight.iter().any(|packet| packet.by == state.now);
        if actions.is_empty() || (self.stormy(state) && !overdue) {
            actions.push(Action::Tick);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if !self.stormy(last) {
            state.steps = state.steps.saturating_add(1);
        }
        self.apply(&mut state, action);
        state.flight.sort_unstable();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
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
                in_time && state.steps <= MAX_STEPS_IN_A_TICK
            }),
            sometimes("succeeded", |_, state| {
                state.ended_as.contains(&Some(Status::Succeeded))
            }),
            sometimes("failed", |_, state| {
                state.ended_as.contains(&Some(Status::Failed))
            }),
        ]
    }
}

fn always(name: &'static str, holds: fn(&Operations, &State) -> bool) -> Property<Operations> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, happens: fn(&Operations, &State) -> bool) -> Property<Operations> {
    Property::sometimes(name, happens)
}

// What can happen.

impl Operations {
    /// Things go wrong still.
    fn stormy(&self, state: &State) -> bool {
        state.now < self.bounds.faults_until
    }

    fn may_fail(&self, state: &State) -> bool {
        self.stormy(state) && state.faults > 0
    }

    /// Nothing more will happen.
    fn has_ended(&self, state: &State) -> bool {
        let ended = |row: &Row| !matches!(row.status, Status::Open | Status::NotAsked);
        let asked = usize::from(self.asked);
        state.rows.iter().take(asked).all(ended)
            && state.flight.is_empty()
            && state.workers == [Worker::Idle; 2]
    }

    fn worker(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
        match state.workers[usize::from(worker)] {
            Worker::Idle => {
                if worker < self.asked && state.row(worker).status == Status::NotAsked {
                    actions.push(Action::Asked(worker));
                }
                for of in 0..self.asked {
                    if state.is_due(worker, of) {
                        actions.push(Action::Take { worker, of });
                    }
                }
                return;
            }
            Worker::HasChecked => actions.push(Action::Inserts(worker)),
            Worker::Marked { at, .. } => {
                let late = state.clock(worker) > at + SEND_WITHIN;
                if late && self.flaw != Flaw::NoSendDeadline {
                    actions.push(Action::TooLateToLeave(worker));
                } else {
                    actions.push(Action::Leave(worker));
                    if self.may_fail(state) {
                        actions.push(Action::ConnectionRefused(worker));
                    }
                }
            }
            Worker::Calling { reply: Some(_), .. } | Worker::Asking { reply: Some(_), .. } => {
                actions.push(Action::Learns(worker));
            }
            Worker::Calling { reply: None, .. } => {
                let under_way = state
                    .flight
                    .iter()
                    .any(|packet| packet.from == Some(worker));
                if self.stormy(state) || !under_way {
                    actions.push(Action::TimesOut(worker));
                }
            }
            Worker::Asking { reply: None, .. } => {
                actions.push(Action::Answered(worker));
                if self.may_fail(state) {
                    actions.push(Action::TimesOut(worker));
                }
            }
        }
        if self.may_fail(state) {
            actions.push(Action::Crashes(worker));
        }
    }

    fn network(&self, state: &State, actions: &mut Vec<Action>) {
        let mut before = None;
        for (packet, content) in (0..).zip(&state.flight) {
            // Equal packets are one.
            if before.replace(content) == Some(content) {
                continue;
            }
            let mut arrives = |how| actions.push(Action::Arrives { packet, how });
            arrives(Arrival::Done);
            let declines = state.may_decline && self.known(state, content).is_none();
            if declines {
                arrives(Arrival::Declined);
            }
            if self.may_fail(state) {
                arrives(Arrival::DoneAndReplyLost);
                if declines {
                    arrives(Arrival::DeclinedAndReplyLost);
                }
                // Without a memory no copy can be harmless (see the crate's docs).
                if self.remembers_declines && self.repeat != Repeat::AfterQuestion {
                    arrives(Arrival::DoneAndComesAgain);
                }
                actions.push(Action::Lost { packet });
            }
        }
    }

    /// What the provider remembers of a request: that it declined, or not.
    fn known(&self, state: &State, packet: &Packet) -> Option<bool> {
        let fits = |&&(of, key, since, _): &&(u8, u8, u8, bool)| {
            let lives = match self.repeat {
                Repeat::Keyed => state.now.saturating_sub(since) <= WINDOW,
                Repeat::KeyedForever => true,
                Repeat::AfterQuestion => false,
            };
            (of, key) == (packet.of, packet.key) && lives
        };
        state.keys.iter().find(fits).map(|known| known.3)
    }
}

// What it does.

impl Operations {
    fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                state.steps = 0;
            }
            Action::Asked(worker) if self.flaw == Flaw::CheckThenInsert => {
                self.check(state, worker);
            }
            Action::Asked(worker) => {
                self.check(state, worker);
                if state.workers[usize::from(worker)] == Worker::HasChecked {
                    self.insert(state, worker);
                }
            }
            Action::Inserts(worker) => self.insert(state, worker),
            Action::Take { worker, of } => {
                let lease = state.clock(worker) + LEASE;
                let row = &mut state.rows[usize::from(of)];
                row.lease = lease;
                row.next = lease;
                state.ask(worker, of, lease);
            }
            Action::Leave(worker) => self.leave(state, worker),
            Action::TooLateToLeave(worker) => state.rest(worker),
            Action::ConnectionRefused(worker) => {
                state.faults -= 1;
                self.not_sent(state, worker);
            }
            Action::Arrives { packet, how } => self.arrives(state, packet, how),
            Action::Lost { packet } => {
                state.faults -= 1;
                state.flight.remove(usize::from(packet));
            }
            Action::Answered(worker) => self.answer(state, worker),
            Action::Learns(worker) => self.learn(state, worker),
            Action::TimesOut(worker) => {
                if matches!(state.workers[usize::from(worker)], Worker::Asking { .. }) {
                    state.faults -= 1;
                }
                self.times_out(state, worker);
            }
            Action::Crashes(worker) => {
                state.faults -= 1;
                if state.workers[usize::from(worker)] == Worker::HasChecked {
                    // The caller got no answer, and nothing was written.
                    state.rows[usize::from(worker)].status = Status::Refused;
                }
                state.rest(worker);
            }
        }
    }

    /// Is there enough left?
    fn check(&self, state: &mut State, worker: u8) {
        if state.taken < self.ceiling {
            state.workers[usize::from(worker)] = Worker::HasChecked;
        } else {
            state.rows[usize::from(worker)].status = Status::Refused;
        }
    }

    /// The amount is reserved and the intent is durable, and marked as sent.
    fn insert(&self, state: &mut State, worker: u8) {
        let now = state.clock(worker);
        let lease = now + LEASE;
        state.taken += 1;
        let done = |row: &&Row| row.status == Status::Succeeded;
        let done_before = u8::try_from(state.rows.iter().filter(done).count()).unwrap();
        let open = state.rows.iter().any(|row| row.status == Status::Open);
        for row in &mut state.rows {
            row.overlaps |= row.status == Status::Open;
        }
        state.rows[usize::from(worker)] = Row {
            status: Status::Open,
            first_sent: now,
            last_sent: now,
            lease,
            next: lease,
            refused: false,
            overlaps: open,
            done_before,
        };
        state.workers[usize::from(worker)] = Worker::Marked {
            of: worker,
            lease,
            key: 0,
            fresh: true,
            at: now,
        };
    }

    fn leave(&self, state: &mut State, worker: u8) {
        let doing = &mut state.workers[usize::from(worker)];
        let Worker::Marked {
            of,
            lease,
            key,
            fresh,
            ..
        } = *doing
        else {
            return;
        };
        *doing = Worker::Calling {
            of,
            lease,
            key,
            fresh,
            reply: None,
        };
        state.flight.push(Packet {
            of,
            key,
            by: state.now + NET,
            from: Some(worker),
        });
    }

    /// The connection was refused: nothing has left.
    fn not_sent(&self, state: &mut State, worker: u8) {
        let Worker::Marked {
            of, lease, fresh, ..
        } = state.workers[usize::from(worker)]
        else {
            return;
        };
        if fresh {
            self.end(state, worker, of, lease, Status::Failed);
        } else {
            self.ask_soon(state, worker, of, lease);
        }
    }

    /// No answer: nobody knows, and the row says so.
    fn times_out(&self, state: &mut State, worker: u8) {
        match state.workers[usize::from(worker)] {
            Worker::Calling { of, lease, key, .. } => {
                if self.flaw == Flaw::TimeoutIsFailure {
                    return self.end(state, worker, of, lease, Status::Failed);
                }
                if self.flaw == Flaw::ResendIncomplete && state.attempts == 0 {
                    state.attempts = 1;
                    state.silence(worker);
                    state.workers[usize::from(worker)] = Worker::Marked {
                        of,
                        lease,
                        key,
                        fresh: true,
                        at: state.clock(worker),
                    };
                    return;
                }
                self.ask_soon(state, worker, of, lease);
            }
            Worker::Asking { of, lease, .. } => self.ask_soon(state, worker, of, lease),
            Worker::Idle | Worker::HasChecked | Worker::Marked { .. } => {}
        }
    }

    // The provider. It does not look at the ceiling.

    fn arrives(&self, state: &mut State, packet: u8, how: Arrival) {
        let packet = if how == Arrival::DoneAndComesAgain {
            let again = &mut state.flight[usize::from(packet)];
            let packet = *again;
            again.from = None;
            packet
        } else {
            state.flight.remove(usize::from(packet))
        };
        let declines = matches!(how, Arrival::Declined | Arrival::DeclinedAndReplyLost);
        let reply = self.carry_out(state, packet, declines);
        let lost = matches!(
            how,
            Arrival::DoneAndReplyLost | Arrival::DeclinedAndReplyLost
        );
        if lost || how == Arrival::DoneAndComesAgain {
            state.faults -= 1;
        }
        if let Some(worker) = packet.from.filter(|_| !lost)
            && let Worker::Calling { reply: slot, .. } = &mut state.workers[usize::from(worker)]
        {
            *slot = Some(reply);
        }
    }

    fn carry_out(&self, state: &mut State, packet: Packet, declines: bool) -> Reply {
        match self.known(state, &packet) {
            Some(true) => return Reply::Declined,
            Some(false) => return Reply::Done,
            None => {}
        }
        if declines {
            state.may_decline = false;
        } else {
            state.moved[usize::from(packet.of)] += 1;
        }
        if !declines || self.remembers_declines {
            let (of, key) = (packet.of, packet.key);
            state.keys.retain(|known| (known.0, known.1) != (of, key));
            state.keys.push((of, key, state.now, declines));
            state.keys.sort_unstable();
        }
        if declines {
            Reply::Declined
        } else {
            Reply::Done
        }
    }

    /// The provider answers a question.
    fn answer(&self, state: &mut State, worker: u8) {
        let Worker::Asking { of, .. } = state.workers[usize::from(worker)] else {
            return;
        };
        let row = *state.row(of);
        let sum: u8 = state.moved.iter().sum();
        let answer = match self.shows {
            Shows::Itself if state.moved[usize::from(of)] > 0 => Reply::Done,
            Shows::Itself => Reply::NotFound,
            Shows::CannotTell => Reply::CannotTell,
            // A sum says whose doing it is only if nothing else was open meanwhile.
            Shows::Sum if row.overlaps && self.flaw != Flaw::SumProves => Reply::CannotTell,
            Shows::Sum if sum == row.done_before + 1 => Reply::Done,
            Shows::Sum if sum == row.done_before => Reply::NotFound,
            Shows::Sum => Reply::CannotTell,
        };
        if let Worker::Asking { reply, .. } = &mut state.workers[usize::from(worker)] {
            *reply = Some(answer);
        }
    }

    // What a worker makes of an answer.

    fn learn(&self, state: &mut State, worker: u8) {
        match state.workers[usize::from(worker)] {
            Worker::Calling {
                of,
                lease,
                fresh,
                reply: Some(reply),
                ..
            } => match reply {
                Reply::Done => self.end(state, worker, of, lease, Status::Succeeded),
                // This refusal says nothing of the first send.
                Reply::Declined if !fresh && self.first_may_land() => {
                    self.write(state, worker, of, lease, |row| row.refused = true);
                    self.ask_soon(state, worker, of, lease);
                }
                Reply::Declined | Reply::NotFound | Reply::CannotTell => {
                    self.end(state, worker, of, lease, Status::Failed);
                }
            },
            Worker::Asking {
                of,
                lease,
                at,
                reply: Some(reply),
            } => match reply {
                Reply::Done => self.end(state, worker, of, lease, Status::Succeeded),
                Reply::Declined | Reply::NotFound => {
                    self.not_found(state, worker, (of, lease), at, true);
                }
                Reply::CannotTell => self.not_found(state, worker, (of, lease), at, false),
            },
            Worker::Idle
            | Worker::HasChecked
            | Worker::Marked { .. }
            | Worker::Calling { .. }
            | Worker::Asking { .. } => {}
        }
    }

    /// A repeat was declined, and what was sent before may still be carried out.
    fn first_may_land(&self) -> bool {
        // Without a key nothing was under way any more when the repeat was sent.
        let keyed = self.repeat != Repeat::AfterQuestion;
        keyed && !self.remembers_declines && self.flaw != Flaw::DeclineOfARepeatIsFinal
    }

    /// Sent again where that is safe; otherwise failed if that is proven; otherwise parked.
    fn not_found(
        &self,
        state: &mut State,
        worker: u8,
        (of, lease): (u8, u8),
        asked: u8,
        shown_if_there: bool,
    ) {
        let now = state.clock(worker);
        let row = *state.row(of);
        let quiet = row.last_sent + LONGEST_DELAY;
        let judged = if self.flaw == Flaw::JudgedByAnswer {
            now
        } else {
            asked
        };
        let believed = self.flaw == Flaw::QueryThenResend || judged >= quiet;
        let proven = shown_if_there && believed;
        let age = now.saturating_sub(row.first_sent);
        let again = match (self.repeat, self.flaw) {
            (_, Flaw::SameKeyForEver) | (Repeat::KeyedForever, _) => true,
            (Repeat::Keyed, Flaw::WindowWithoutMargin) => age <= WINDOW,
            (Repeat::Keyed, _) => age + LONGEST_DELAY <= WINDOW,
            (Repeat::AfterQuestion, _) => proven,
        };
        if again && !row.refused {
            self.send_again(state, worker, of, lease);
        } else if proven {
            self.end(state, worker, of, lease, Status::Failed);
        } else if shown_if_there {
            self.ask_at(state, worker, of, lease, quiet);
        } else if self.flaw == Flaw::AsksForEver {
            self.ask_soon(state, worker, of, lease);
        } else {
            self.end(state, worker, of, lease, Status::Parked);
        }
    }

    fn send_again(&self, state: &mut State, worker: u8, of: u8, lease: u8) {
        let now = state.clock(worker);
        if !self.write(state, worker, of, lease, |row| row.last_sent = now) {
            return;
        }
        let key = if self.flaw == Flaw::KeyPerAttempt {
            state.attempts += 1;
            state.attempts
        } else {
            0
        };
        state.workers[usize::from(worker)] = Worker::Marked {
            of,
            lease,
            key,
            fresh: false,
            at: now,
        };
    }

    // Writing.

    fn end(&self, state: &mut State, worker: u8, of: u8, lease: u8, status: Status) {
        let written = self.write(state, worker, of, lease, |row| {
            row.status = status;
            row.lease = 0;
            row.next = NEVER;
        });
        if written && status != Status::Parked {
            let first = state.ended_as[usize::from(of)].is_none();
            state.ended_as[usize::from(of)].get_or_insert(status);
            if first && status == Status::Failed {
                state.taken -= 1;
            }
        }
        state.rest(worker);
    }

    fn ask_soon(&self, state: &mut State, worker: u8, of: u8, lease: u8) {
        let at = state.clock(worker) + 1;
        self.ask_at(state, worker, of, lease, at);
    }

    fn ask_at(&self, state: &mut State, worker: u8, of: u8, lease: u8, at: u8) {
        self.write(state, worker, of, lease, |row| {
            row.status = Status::Open;
            row.lease = 0;
            row.next = at;
        });
        state.rest(worker);
    }

    /// Writes by compare-and-set. A row that is another's now is left alone, and so is its driver.
    fn write(
        &self,
        state: &mut State,
        worker: u8,
        of: u8,
        lease: u8,
        change: impl FnOnce(&mut Row),
    ) -> bool {
        let by_its_own_clock = state.clock(worker) < lease;
        let row = &mut state.rows[usize::from(of)];
        let mine = if self.flaw == Flaw::LeaseOnly {
            by_its_own_clock
        } else {
            row.lease == lease
        };
        if mine {
            change(row);
        } else {
            state.rest(worker);
        }
        mine
    }
}

impl State {
    fn new(skew: [u8; 2], faults: u8) -> Self {
        let row = Row {
            status: Status::NotAsked,
            first_sent: 0,
            last_sent: 0,
            lease: 0,
            next: 0,
            refused: false,
            overlaps: false,
            done_before: 0,
        };
        Self {
            now: 0,
            skew,
            steps: 0,
            taken: 0,
            rows: [row; 2],
            ended_as: [None; 2],
            workers: [Worker::Idle; 2],
            flight: Vec::new(),
            moved: [0; 2],
            keys: Vec::new(),
            faults,
            may_decline: true,
            attempts: 0,
        }
    }

    fn row(&self, of: u8) -> &Row {
        &self.rows[usize::from(of)]
    }

    fn clock(&self, worker: u8) -> u8 {
        self.now + self.skew[usize::from(worker)]
    }

    fn is_due(&self, worker: u8, of: u8) -> bool {
        let now = self.clock(worker);
        let row = self.row(of);
        row.status == Status::Open && row.lease <= now && row.next <= now
    }

    /// Whether each operation's status fits with what the provider did.
    fn all(&self, fits: impl Fn(Status, u8) -> bool) -> bool {
        let mut pairs = self.rows.iter().zip(self.moved);
        pairs.all(|(row, moved)| fits(row.status, moved))
    }

    fn ask(&mut self, worker: u8, of: u8, lease: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Asking {
            of,
            lease,
            at: self.clock(worker),
            reply: None,
        };
    }

    fn rest(&mut self, worker: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Idle;
    }

    /// Nobody waits for the worker's answers any more.
    fn silence(&mut self, worker: u8) {
        for packet in &mut self.flight {
            if packet.from == Some(worker) {
                packet.from = None;
            }
        }
    }
}
