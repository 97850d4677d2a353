//! Payments: reserve, remember, commit; give up, close, void.

use stateright::{Model, Property};

use crate::bounds::{
    Bounds, COMMIT_WITHIN, LEASE, LONGEST_DELAY, MAX_STEPS_IN_A_TICK, NET, NEVER, SEND_WITHIN,
    SKEWS, WINDOW,
};

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
    /// A closed payment ends without a look.
    GiveUpWithoutReading,
    /// A closed payment is looked at before the last commit has landed.
    GiveUpWithoutWaiting,
    /// A commit without an answer has failed.
    TimeoutIsFailure,
    /// The reserve leaves before the intent is durable.
    SendBeforeIntent,
    /// A decline that answers a repeat is final at once.
    DeclineOfARepeatIsFinal,
    /// A closed payment's hold is left where it is.
    NoRelease,
    /// A void of a payment whose reserve is unknown ends as if there were no hold.
    SilentVoid,
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
    /// Steps within this tick, counted once the faults are off.
    steps: u8,
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
    /// The provider may still decline.
    may_decline: bool,
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
}

/// One step of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Tick,
    Accept,
    VoidAsked(u8),
    Webhook,
    Take(u8),
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
pub(crate) const ONE_HOLD: &str = "at most one live hold";
pub(crate) const ONE_RESERVATION: &str = "at most one reservation";
pub(crate) const CAPTURED_IS_MOVED: &str = "captured in the books is one movement";
pub(crate) const NO_MONEY_IS_NONE: &str = "declined, failed and voided have moved nothing, ever";
pub(crate) const FINAL_IS_FINAL: &str = "final states are final";
pub(crate) const INTENT_FIRST: &str = "nothing is sent before the intent is durable";
pub(crate) const NO_HOLD_IS_LEFT: &str = "a payment ends unpaid without a hold, or says so";
pub(crate) const ENDS: &str = "faults off, everything ends";

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
        if state.has_ended() || state.now == self.bounds.horizon {
            return;
        }
        self.network(state, actions);
        self.caller_and_webhooks(state, actions);
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
            always(ENDS, |model, state| {
                let in_time = state.now < model.bounds.horizon || state.has_ended();
                in_time && state.steps <= MAX_STEPS_IN_A_TICK
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
        ]
    }
}

fn always(name: &'static str, holds: fn(&Charge, &State) -> bool) -> Property<Charge> {
    Property::always(name, holds)
}

fn sometimes(name: &'static str, happens: fn(&Charge, &State) -> bool) -> Property<Charge> {
    Property::sometimes(name, happens)
}

// What can happen.

impl Charge {
    /// Things go wrong still.
    fn stormy(&self, state: &State) -> bool {
        state.now < self.bounds.faults_until
    }

    fn may_fail(&self, state: &State) -> bool {
        self.stormy(state) && state.faults > 0
    }

    fn caller_and_webhooks(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(row) = state.row else {
            if state.workers[0] == Worker::Idle {
                actions.push(Action::Accept);
            }
            return;
        };
        if !self.stormy(state) {
            return;
        }
        for worker in 0..2 {
            let free = state.workers[usize::from(worker)] == Worker::Idle;
            let open = row.step != Step::Settled && row.step != Step::Closing;
            if state.may_void && free && open && row.lease <= state.clock(worker) {
                actions.push(Action::VoidAsked(worker));
            }
        }
        if self.may_fail(state) && row.step != Step::Settled && row.next > state.now {
            actions.push(Action::Webhook);
        }
    }

    fn worker(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
        let doing = state.workers[usize::from(worker)];
        match doing {
            Worker::Idle => {
                if state.is_due(worker) {
                    actions.push(Action::Take(worker));
                }
                return;
            }
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
            let declines = state.may_decline && self.can_decline(state, content.call);
            if declines {
                arrives(Arrival::Declined);
            }
            if self.may_fail(state) {
                arrives(Arrival::DoneAndReplyLost);
                if declines {
                    arrives(Arrival::DeclinedAndReplyLost);
                }
                // Where declines are forgotten, no copy can be harmless (see the crate's docs).
                if self.shape != FORGETFUL {
                    arrives(Arrival::DoneAndComesAgain);
                }
                actions.push(Action::Lost { packet });
            }
        }
    }

    fn can_decline(&self, state: &State, call: Call) -> bool {
        match call {
            Call::Reserve { key } => self.shape == Shape::Hold && state.known(key).is_none(),
            Call::Commit { object } => matches!(
                state.objects[usize::from(object)],
                Object::Created | Object::Held
            ),
            Call::Void { .. } => false,
        }
    }
}

// What it does.

impl Charge {
    fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                state.steps = 0;
            }
            Action::Accept => self.accept(state),
            Action::VoidAsked(worker) => self.void_asked(state, worker),
            Action::Webhook => {
                state.faults -= 1;
                if let Some(row) = &mut state.row {
                    row.next = state.now;
                }
            }
            Action::Take(worker) => {
                let lease = state.lease(worker);
                self.go_on(state, worker, lease);
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
                state.rest(worker);
            }
        }
    }

    /// The caller's request: the intent is durable, and marked as sent.
    fn accept(&self, state: &mut State) {
        let now = state.clock(0);
        let lease = now + LEASE;
        let key = self.key(state, 0);
        if self.flaw == Flaw::SendBeforeIntent && state.flight.is_empty() {
            let packet = Packet {
                call: Call::Reserve { key },
                by: state.now + NET,
                from: None,
            };
            state.flight.push(packet);
            return;
        }
        state.row = Some(Row {
            step: Step::Reserving,
            status: Status::Unknown,
            closing_as: Status::Unknown,
            object: None,
            hold_may_remain: false,
            created: now,
            first_sent: Some(now),
            last_sent: now,
            lease,
            next: lease,
        });
        state.workers[0] = Worker::Marked {
            lease,
            call: Call::Reserve { key },
            fresh: true,
            at: now,
        };
    }

    /// The caller's void of an open payment: close it, then drive it.
    fn void_asked(&self, state: &mut State, worker: u8) {
        state.may_void = false;
        let lease = state.lease(worker);
        self.write(state, worker, lease, |row| row.close(Status::Voided));
        self.go_on(state, worker, lease);
    }

    /// The next step of whoever holds the lease.
    fn go_on(&self, state: &mut State, worker: u8, lease: u8) {
        let Some(row) = state.row else { return };
        match row.step {
            Step::Reserving => self.reserve_again(state, worker, lease, row),
            Step::Reserved => self.commit(state, worker, lease, row),
            Step::Committing => state.ask(worker, lease),
            Step::Closing => self.close(state, worker, lease, row),
            Step::Settled => state.rest(worker),
        }
    }

    fn reserve_again(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        let now = state.clock(worker);
        if row.is_too_old(now) {
            return self.settle(state, worker, lease, Status::Failed);
        }
        let first = row.first_sent.unwrap_or(row.created);
        match self.shape {
            Shape::Transaction => state.ask(worker, lease),
            Shape::Order { .. } | Shape::Hold
                if now.saturating_sub(first) + LONGEST_DELAY <= WINDOW =>
            {
                self.mark_reserve(state, worker, lease);
            }
            Shape::Order { .. } | Shape::Hold => {
                self.settle(state, worker, lease, Status::Failed);
            }
        }
    }

    fn mark_reserve(&self, state: &mut State, worker: u8, lease: u8) {
        let key = self.key(state, worker);
        self.mark(state, worker, lease, Call::Reserve { key }, false);
    }

    fn commit(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        if row.is_too_old(state.clock(worker)) {
            return self.give_up(state, worker, lease);
        }
        let Some(object) = row.object else { return };
        let fresh = row.first_sent.is_none();
        self.mark(state, worker, lease, Call::Commit { object }, fresh);
    }

    /// A closed payment ends once nothing of ours can be under way.
    fn close(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        if row.object.is_none() || self.flaw == Flaw::GiveUpWithoutReading {
            return self.settle(state, worker, lease, row.closing_as);
        }
        let quiet = row.last_sent + LONGEST_DELAY;
        if quiet > state.clock(worker) && self.flaw != Flaw::GiveUpWithoutWaiting {
            return self.ask_at(state, worker, lease, row.status, quiet);
        }
        state.ask(worker, lease);
    }

    fn give_up(&self, state: &mut State, worker: u8, lease: u8) {
        if self.write(state, worker, lease, |row| row.close(Status::Failed)) {
            self.go_on(state, worker, lease);
        }
    }

    fn leave(&self, state: &mut State, worker: u8) {
        let Worker::Marked {
            lease, call, fresh, ..
        } = state.workers[usize::from(worker)]
        else {
            return;
        };
        state.flight.push(Packet {
            call,
            by: state.now + NET,
            from: Some(worker),
        });
        state.workers[usize::from(worker)] = Worker::Calling {
            lease,
            call,
            fresh,
            reply: None,
        };
    }

    /// The connection was refused: nothing has left.
    fn not_sent(&self, state: &mut State, worker: u8) {
        let Worker::Marked {
            lease, call, fresh, ..
        } = state.workers[usize::from(worker)]
        else {
            return;
        };
        match call {
            Call::Reserve { .. } if fresh => {
                self.settle_unreserved(state, worker, lease, Status::Failed);
            }
            Call::Commit { .. } if fresh => {
                let at = state.clock(worker) + 1;
                self.write(state, worker, lease, |row| {
                    row.step = Step::Reserved;
                    row.first_sent = None;
                    row.release(Status::Pending, at);
                });
                state.rest(worker);
            }
            Call::Reserve { .. } | Call::Commit { .. } | Call::Void { .. } => {
                self.ask_soon(state, worker, lease);
            }
        }
    }

    /// No answer: nobody knows, and the row says so.
    fn times_out(&self, state: &mut State, worker: u8) {
        match state.workers[usize::from(worker)] {
            Worker::Calling { lease, call, .. } => {
                let commits = matches!(call, Call::Commit { .. });
                if commits && self.flaw == Flaw::TimeoutIsFailure {
                    return self.settle(state, worker, lease, Status::Failed);
                }
                let reserves = matches!(call, Call::Reserve { .. });
                if reserves && self.flaw == Flaw::ResendIncomplete && state.attempts == 0 {
                    state.attempts = 1;
                    state.silence(worker);
                    state.workers[usize::from(worker)] = Worker::Marked {
                        lease,
                        call,
                        fresh: true,
                        at: state.clock(worker),
                    };
                    return;
                }
                self.ask_soon(state, worker, lease);
            }
            Worker::Asking { lease, .. } => self.ask_soon(state, worker, lease),
            Worker::Idle | Worker::Marked { .. } => {}
        }
    }

    // The provider.

    fn arrives(&self, state: &mut State, packet: u8, how: Arrival) {
        let packet = if how == Arrival::DoneAndComesAgain {
            let again = &mut state.flight[usize::from(packet)];
            let packet = *again;
            again.from = None;
            let keyless = self.shape == Shape::Transaction;
            if keyless && matches!(packet.call, Call::Reserve { .. }) {
                state.copies += 1;
            }
            packet
        } else {
            state.flight.remove(usize::from(packet))
        };
        let declined = matches!(how, Arrival::Declined | Arrival::DeclinedAndReplyLost);
        let reply = match packet.call {
            Call::Reserve { .. } if declined => Reply::Declined,
            Call::Commit { object } if declined => self.decline(state, object),
            Call::Reserve { key } => self.carry_out_reserve(state, key),
            Call::Commit { object } => carry_out_commit(state, object),
            Call::Void { object } => carry_out_void(state, object),
        };
        if declined {
            state.may_decline = false;
        }
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

    fn carry_out_reserve(&self, state: &mut State, key: u8) -> Reply {
        if self.shape != Shape::Transaction
            && let Some(object) = state.known(key)
        {
            return Reply::Reserved(object);
        }
        let object = u8::try_from(state.objects.len()).unwrap();
        state.objects.push(match self.shape {
            Shape::Hold => Object::Held,
            Shape::Order { .. } | Shape::Transaction => Object::Created,
        });
        state.keys.retain(|&(known, ..)| known != key);
        state.keys.push((key, object, state.now));
        Reply::Reserved(object)
    }

    /// The provider refuses to take the money.
    fn decline(&self, state: &mut State, object: u8) -> Reply {
        let remembers = match self.shape {
            Shape::Order { remembers_declines } => remembers_declines,
            Shape::Transaction => true,
            Shape::Hold => false,
        };
        if remembers {
            state.objects[usize::from(object)] = Object::Declined;
        }
        Reply::Declined
    }

    /// The provider answers a question.
    fn answer(&self, state: &mut State, worker: u8) {
        let object = state.row.and_then(|row| row.object);
        let answer = match object {
            None => match state.objects.len() {
                0 => Reply::Nothing,
                1 => Reply::Reserved(0),
                _ => Reply::Many,
            },
            Some(object) => match (state.objects[usize::from(object)], self.shape) {
                (Object::Declined, Shape::Transaction) => Reply::Declined,
                // An order that was declined looks as if nobody had tried.
                (Object::Declined, _) => Reply::Seen(Object::Created),
                (seen, _) => Reply::Seen(seen),
            },
        };
        if let Worker::Asking { reply, .. } = &mut state.workers[usize::from(worker)] {
            *reply = Some(answer);
        }
    }

    // What a worker makes of an answer.

    fn learn(&self, state: &mut State, worker: u8) {
        match state.workers[usize::from(worker)] {
            Worker::Calling {
                lease,
                call,
                fresh,
                reply: Some(reply),
            } => match (call, reply) {
                (Call::Reserve { .. }, Reply::Reserved(object)) => {
                    self.reserved(state, worker, lease, object);
                }
                (Call::Reserve { .. }, _) if fresh => {
                    self.settle_unreserved(state, worker, lease, Status::Declined);
                }
                // This refusal says nothing of the first send.
                (Call::Reserve { .. }, _) => self.settle(state, worker, lease, Status::Failed),
                (Call::Commit { .. }, Reply::Declined) => {
                    self.declined(state, worker, lease, fresh);
                }
                (Call::Commit { .. } | Call::Void { .. }, reply) => {
                    self.seen(state, worker, lease, reply);
                }
            },
            Worker::Asking {
                lease,
                at,
                reply: Some(reply),
            } => match reply {
                Reply::Reserved(object) => self.reserved(state, worker, lease, object),
                Reply::Nothing => self.not_found(state, worker, lease, at),
                Reply::Many => self.ask_soon(state, worker, lease),
                Reply::Declined | Reply::Seen(_) => self.seen(state, worker, lease, reply),
            },
            Worker::Idle
            | Worker::Marked { .. }
            | Worker::Calling { .. }
            | Worker::Asking { .. } => {}
        }
    }

    /// The id is durable, and the commit is marked as sent, in one write.
    fn reserved(&self, state: &mut State, worker: u8, lease: u8, object: u8) {
        let now = state.clock(worker);
        let old = state.row.is_some_and(|row| row.is_too_old(now));
        let without_cas = self.flaw == Flaw::ReservationWithoutCas;
        let written = self.write_if(state, worker, lease, without_cas, |row| {
            row.object = Some(object);
            if old {
                row.close(Status::Failed);
            } else {
                row.step = Step::Committing;
                // Only whether it was sent matters from here on.
                row.first_sent = Some(0);
                row.last_sent = now;
            }
        });
        if !written {
            return;
        }
        if old {
            return self.go_on(state, worker, lease);
        }
        state.workers[usize::from(worker)] = Worker::Marked {
            lease,
            call: Call::Commit { object },
            fresh: true,
            at: now,
        };
    }

    /// "Not found" proves something only if the question came late enough.
    fn not_found(&self, state: &mut State, worker: u8, lease: u8, asked: u8) {
        let Some(row) = state.row else { return };
        let earliest = row.last_sent + LONGEST_DELAY;
        if asked >= earliest || self.flaw == Flaw::QueryThenResend {
            self.mark_reserve(state, worker, lease);
        } else {
            self.ask_at(state, worker, lease, Status::Unknown, earliest);
        }
    }

    fn declined(&self, state: &mut State, worker: u8, lease: u8, fresh: bool) {
        let closing = state.row.is_some_and(|row| row.step == Step::Closing);
        let holds = self.shape == Shape::Hold;
        let forgets = self.shape == FORGETFUL;
        let first_may_land = !fresh && forgets && self.flaw != Flaw::DeclineOfARepeatIsFinal;
        if !closing && (holds || first_may_land) {
            if self.write(state, worker, lease, |row| row.close(Status::Declined)) {
                self.go_on(state, worker, lease);
            }
            return;
        }
        self.settle(state, worker, lease, Status::Declined);
    }

    /// What an answer or a look shows of the object.
    fn seen(&self, state: &mut State, worker: u8, lease: u8, reply: Reply) {
        let Some(row) = state.row else { return };
        let closing = row.step == Step::Closing;
        match reply {
            Reply::Seen(Object::Captured) => self.settle(state, worker, lease, Status::Captured),
            Reply::Seen(Object::Released) => {
                let status = if closing {
                    row.closing_as
                } else {
                    Status::Voided
                };
                self.settle(state, worker, lease, status);
            }
            Reply::Seen(Object::Held) if closing && self.flaw != Flaw::NoRelease => {
                let Some(object) = row.object else { return };
                state.workers[usize::from(worker)] = Worker::Marked {
                    lease,
                    call: Call::Void { object },
                    fresh: false,
                    at: state.clock(worker),
                };
            }
            Reply::Seen(Object::Created | Object::Held) if closing => {
                self.settle(state, worker, lease, row.closing_as);
            }
            Reply::Seen(Object::Created | Object::Held) => {
                if row.is_too_old(state.clock(worker)) {
                    self.give_up(state, worker, lease);
                } else if self.write(state, worker, lease, |row| row.step = Step::Reserved) {
                    self.go_on(state, worker, lease);
                }
            }
            Reply::Declined | Reply::Seen(Object::Declined) => {
                let status = if closing {
                    row.closing_as
                } else {
                    Status::Declined
                };
                self.settle(state, worker, lease, status);
            }
            Reply::Reserved(_) | Reply::Nothing | Reply::Many => {}
        }
    }

    // Writing.

    fn mark(&self, state: &mut State, worker: u8, lease: u8, call: Call, fresh: bool) {
        let now = state.clock(worker);
        let written = self.write(state, worker, lease, |row| {
            if matches!(call, Call::Commit { .. }) {
                row.step = Step::Committing;
            }
            row.first_sent
                .get_or_insert(if row.object.is_some() { 0 } else { now });
            row.last_sent = now;
        });
        if written {
            state.workers[usize::from(worker)] = Worker::Marked {
                lease,
                call,
                fresh,
                at: now,
            };
        }
    }

    fn settle(&self, state: &mut State, worker: u8, lease: u8, status: Status) {
        let silent = status == Status::Voided && self.flaw == Flaw::SilentVoid;
        let sent = self.shape == Shape::Hold && !silent;
        self.settle_with(state, worker, lease, status, sent);
    }

    /// Ends a payment of which no reserve was ever carried out.
    fn settle_unreserved(&self, state: &mut State, worker: u8, lease: u8, status: Status) {
        self.settle_with(state, worker, lease, status, false);
    }

    fn settle_with(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        status: Status,
        may_hold: bool,
    ) {
        let written = self.write(state, worker, lease, |row| {
            *row = Row {
                hold_may_remain: may_hold && row.object.is_none(),
                step: Step::Settled,
                closing_as: status,
                created: 0,
                first_sent: None,
                last_sent: 0,
                ..*row
            };
            row.release(status, NEVER);
        });
        if written {
            state.settled_as.get_or_insert(status);
        }
        state.rest(worker);
    }

    fn ask_soon(&self, state: &mut State, worker: u8, lease: u8) {
        let at = state.clock(worker) + 1;
        self.ask_at(state, worker, lease, Status::Unknown, at);
    }

    fn ask_at(&self, state: &mut State, worker: u8, lease: u8, status: Status, at: u8) {
        self.write(state, worker, lease, |row| row.release(status, at));
        state.rest(worker);
    }

    /// Writes by compare-and-set. A row that is another's now is left alone, and so is its driver.
    fn write(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        change: impl FnOnce(&mut Row),
    ) -> bool {
        self.write_if(state, worker, lease, false, change)
    }

    fn write_if(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        without_cas: bool,
        change: impl FnOnce(&mut Row),
    ) -> bool {
        let by_its_own_clock = state.clock(worker) < lease;
        let Some(row) = &mut state.row else {
            return false;
        };
        let mine = if self.flaw == Flaw::LeaseOnly {
            by_its_own_clock
        } else {
            without_cas || row.lease == lease
        };
        if mine {
            change(row);
        } else {
            state.rest(worker);
        }
        mine
    }

    /// The provider's key of a reserve, from intent and step.
    fn key(&self, state: &mut State, worker: u8) -> u8 {
        if self.flaw == Flaw::KeyPerAttempt {
            state.attempts += 1;
            return state.attempts;
        }
        if self.flaw == Flaw::KeyPerWorker {
            worker
        } else {
            0
        }
    }
}

fn carry_out_commit(state: &mut State, object: u8) -> Reply {
    let object = &mut state.objects[usize::from(object)];
    match object {
        Object::Created | Object::Held => *object = Object::Captured,
        Object::Declined => return Reply::Declined,
        Object::Captured | Object::Released => {}
    }
    Reply::Seen(*object)
}

fn carry_out_void(state: &mut State, object: u8) -> Reply {
    let object = &mut state.objects[usize::from(object)];
    if *object == Object::Held {
        *object = Object::Released;
    }
    Reply::Seen(*object)
}

impl State {
    fn new(skew: [u8; 2], faults: u8) -> Self {
        Self {
            now: 0,
            skew,
            steps: 0,
            row: None,
            settled_as: None,
            workers: [Worker::Idle; 2],
            flight: Vec::new(),
            objects: Vec::new(),
            keys: Vec::new(),
            faults,
            copies: 0,
            may_void: true,
            may_decline: true,
            attempts: 0,
        }
    }

    fn clock(&self, worker: u8) -> u8 {
        self.now + self.skew[usize::from(worker)]
    }

    fn is_due(&self, worker: u8) -> bool {
        let now = self.clock(worker);
        self.row
            .is_some_and(|row| row.step != Step::Settled && row.lease <= now && row.next <= now)
    }

    /// Nothing more will happen.
    fn has_ended(&self) -> bool {
        let settled = self.row.is_some_and(|row| row.step == Step::Settled);
        settled && self.flight.is_empty() && self.workers == [Worker::Idle; 2]
    }

    fn is_settled_as(&self, statuses: &[Status]) -> bool {
        self.row
            .is_some_and(|row| row.step == Step::Settled && statuses.contains(&row.status))
    }

    fn holds(&self) -> usize {
        let live = |object: &&Object| matches!(object, Object::Held | Object::Captured);
        self.objects.iter().filter(live).count()
    }

    fn moved(&self) -> usize {
        let captured = |object: &&Object| **object == Object::Captured;
        self.objects.iter().filter(captured).count()
    }

    /// A reserve that was never answered may leave a hold; one whose id is in the books may not.
    fn tells_of_holds(&self) -> bool {
        let settled = self.row.filter(|row| row.step == Step::Settled);
        let held = self.objects.contains(&Object::Held);
        settled.is_none_or(|row| !held || (row.hold_may_remain && row.object.is_none()))
    }

    /// The object that the provider still knows by this key.
    fn known(&self, key: u8) -> Option<u8> {
        let fits = |&&(known, _, since): &&(u8, u8, u8)| {
            known == key && self.now.saturating_sub(since) <= WINDOW
        };
        self.keys.iter().find(fits).map(|&(_, object, _)| object)
    }

    fn lease(&mut self, worker: u8) -> u8 {
        let until = self.clock(worker) + LEASE;
        if let Some(row) = &mut self.row {
            row.lease = until;
            row.next = until;
        }
        until
    }

    fn ask(&mut self, worker: u8, lease: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Asking {
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

impl Row {
    fn is_too_old(&self, now: u8) -> bool {
        now.saturating_sub(self.created) > COMMIT_WITHIN
    }

    fn close(&mut self, status: Status) {
        if self.step != Step::Closing {
            self.step = Step::Closing;
            self.closing_as = status;
        }
    }

    fn release(&mut self, status: Status, next: u8) {
        self.status = status;
        self.lease = 0;
        self.next = next;
    }
}

impl Packet {
    fn moves_money(&self) -> bool {
        matches!(self.call, Call::Commit { .. })
    }
}
