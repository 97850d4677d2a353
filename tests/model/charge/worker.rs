//! What a worker does with a payment.

use super::{
    Action, Call, Charge, FORGETFUL, Flaw, Object, PERSON, Packet, Reply, Row, Shape, State,
    Status, Step, Word, Worker,
};
use crate::bounds::{LEASE, LONGEST_DELAY, NET, WINDOW};

impl Charge {
    pub(super) fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                state.turns = 0;
            }
            Action::Accept => self.accept(state),
            Action::VoidAsked(worker) => self.void_asked(state, worker),
            Action::Webhook => {
                state.faults -= 1;
                if let Some(row) = &mut state.row {
                    row.next = state.now;
                }
            }
            Action::Reviewed { object, captured } => {
                state.objects[usize::from(object)] = if captured {
                    Object::Captured
                } else {
                    Object::Released
                };
            }
            Action::Resolve(word) => self.resolve(state, word),
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
            Action::AnsweredUnmapped(worker) => {
                state.faults -= 1;
                state.tell(worker, Reply::Unmapped);
            }
            Action::Learns(worker) => self.learn(state, worker),
            Action::TimesOut(worker) => {
                if matches!(
                    state.workers[usize::from(worker)],
                    Worker::Asking { .. } | Worker::Resolving { .. }
                ) {
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
    pub(super) fn accept(&self, state: &mut State) {
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
    pub(super) fn void_asked(&self, state: &mut State, worker: u8) {
        state.may_void = false;
        let lease = state.lease(worker);
        self.write(state, worker, lease, |row| row.close(Status::Voided));
        self.go_on(state, worker, lease);
    }

    /// The next step of whoever holds the lease.
    pub(super) fn go_on(&self, state: &mut State, worker: u8, lease: u8) {
        let Some(row) = state.row else { return };
        match row.step {
            Step::Reserving => self.reserve_again(state, worker, lease, row),
            Step::Reserved => self.commit(state, worker, lease, row),
            Step::Committing => state.ask(worker, lease),
            Step::Closing => self.close(state, worker, lease, row),
            Step::Settled => state.rest(worker),
        }
    }

    pub(super) fn reserve_again(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        let now = state.clock(worker);
        if self.too_old(row, now) {
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

    pub(super) fn mark_reserve(&self, state: &mut State, worker: u8, lease: u8) {
        let key = self.key(state, worker);
        self.mark(state, worker, lease, Call::Reserve { key }, false);
    }

    pub(super) fn commit(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        if self.too_old(row, state.clock(worker)) {
            return self.give_up(state, worker, lease);
        }
        let Some(object) = row.object else { return };
        let fresh = row.first_sent.is_none();
        self.mark(state, worker, lease, Call::Commit { object }, fresh);
    }

    /// A closed payment ends once nothing of ours can be under way.
    pub(super) fn close(&self, state: &mut State, worker: u8, lease: u8, row: Row) {
        if row.object.is_none() || self.flaw == Flaw::GiveUpWithoutReading {
            return self.settle(state, worker, lease, row.closing_as);
        }
        let quiet = row.last_sent + LONGEST_DELAY;
        if quiet > state.clock(worker) && self.flaw != Flaw::GiveUpWithoutWaiting {
            return self.ask_at(state, worker, lease, row.status, quiet);
        }
        state.ask(worker, lease);
    }

    fn too_old(&self, row: Row, now: u8) -> bool {
        row.is_too_old(now) && self.flaw != Flaw::NoCommitWithin
    }

    fn give_up(&self, state: &mut State, worker: u8, lease: u8) {
        if self.write(state, worker, lease, |row| row.close(Status::Failed)) {
            self.go_on(state, worker, lease);
        }
    }

    pub(super) fn leave(&self, state: &mut State, worker: u8) {
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
    pub(super) fn not_sent(&self, state: &mut State, worker: u8) {
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
    pub(super) fn times_out(&self, state: &mut State, worker: u8) {
        match state.workers[usize::from(worker)] {
            Worker::Calling { lease, call, .. } => {
                let commits = matches!(call, Call::Commit { .. });
                if commits && self.flaw == Flaw::TimeoutIsFailure {
                    return self.settle(state, worker, lease, Status::Failed);
                }
                if commits && self.flaw == Flaw::TimeoutIsCapture {
                    return self.settle(state, worker, lease, Status::Captured);
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
            Worker::Resolving { lease, word, .. } => self.undecided(state, worker, lease, word),
            Worker::Idle | Worker::Marked { .. } => {}
        }
    }

    // What a worker makes of an answer.

    pub(super) fn learn(&self, state: &mut State, worker: u8) {
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
                // The code asks some more times before; that takes less than the longest delay.
                Reply::Unmapped => self.park(state, worker, lease),
                Reply::Declined | Reply::Seen(_) => self.seen(state, worker, lease, reply),
            },
            Worker::Resolving {
                lease,
                word,
                reply: Some(reply),
            } => self.decide(state, worker, lease, word, reply),
            Worker::Idle
            | Worker::Marked { .. }
            | Worker::Calling { .. }
            | Worker::Asking { .. }
            | Worker::Resolving { .. } => {}
        }
    }

    /// The id is durable, and the commit is marked as sent, in one write.
    pub(super) fn reserved(&self, state: &mut State, worker: u8, lease: u8, object: u8) {
        let now = state.clock(worker);
        let old = state.row.is_some_and(|row| self.too_old(row, now));
        let without_cas = matches!(
            self.flaw,
            Flaw::ReservationWithoutCas | Flaw::CommitByAnswer
        );
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
    pub(super) fn not_found(&self, state: &mut State, worker: u8, lease: u8, asked: u8) {
        let Some(row) = state.row else { return };
        let earliest = row.last_sent + LONGEST_DELAY;
        if asked >= earliest || self.flaw == Flaw::QueryThenResend {
            self.mark_reserve(state, worker, lease);
        } else {
            self.ask_at(state, worker, lease, Status::Unknown, earliest);
        }
    }

    pub(super) fn declined(&self, state: &mut State, worker: u8, lease: u8, fresh: bool) {
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
    pub(super) fn seen(&self, state: &mut State, worker: u8, lease: u8, reply: Reply) {
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
            Reply::Seen(Object::Created) if closing && self.flaw == Flaw::ClosedAsksForEver => {
                self.ask_soon(state, worker, lease);
            }
            Reply::Seen(Object::Created | Object::Held) if closing => {
                self.settle(state, worker, lease, row.closing_as);
            }
            Reply::Seen(Object::Created | Object::Held) => {
                if self.too_old(row, state.clock(worker)) {
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
            Reply::Seen(Object::UnderReview) => self.park(state, worker, lease),
            Reply::Reserved(_) | Reply::Nothing | Reply::Many | Reply::Unmapped => {}
        }
    }

    // What a person makes of what is parked.

    /// A person's word, which may be wrong: the provider is asked first.
    pub(super) fn resolve(&self, state: &mut State, word: Word) {
        state.may_resolve = false;
        let lease = state.lease(PERSON);
        if self.flaw == Flaw::ResolveWithoutAsking {
            return self.believe(state, PERSON, lease, word);
        }
        state.workers[usize::from(PERSON)] = Worker::Resolving {
            lease,
            word,
            reply: None,
        };
    }

    /// What the provider's answer concludes stands, and what it contradicts is refused.
    pub(super) fn decide(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        word: Word,
        reply: Reply,
    ) {
        match (reply, word) {
            (Reply::Seen(Object::Created), Word::Failed) => {
                self.believe(state, worker, lease, word);
            }
            (Reply::Seen(Object::Created | Object::Held), _) => self.park(state, worker, lease),
            (Reply::Seen(Object::UnderReview) | Reply::Unmapped, _) => {
                self.undecided(state, worker, lease, word);
            }
            (reply, _) => self.seen(state, worker, lease, reply),
        }
    }

    /// Where no answer decides it, the word counts of a person who has seen at the provider itself
    /// how it has ended. Who has not seen that leaves it parked.
    pub(super) fn undecided(&self, state: &mut State, worker: u8, lease: u8, word: Word) {
        let can_be_seen = match word {
            Word::Captured => state.moved() == 1,
            Word::Failed => state.holds() == 0,
        };
        if can_be_seen {
            self.believe(state, worker, lease, word);
        } else {
            self.park(state, worker, lease);
        }
    }

    fn believe(&self, state: &mut State, worker: u8, lease: u8, word: Word) {
        let status = match word {
            Word::Captured => Status::Captured,
            Word::Failed => Status::Failed,
        };
        self.settle(state, worker, lease, status);
    }
}
