//! What a worker does with an operation.

use super::{Action, Flaw, Operations, Packet, Repeat, Reply, Row, State, Status, Worker};
use crate::bounds::{LEASE, LONGEST_DELAY, NET, WINDOW};

impl Operations {
    pub(super) fn apply(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick => {
                state.now += 1;
                state.turns = 0;
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
    pub(super) fn check(&self, state: &mut State, worker: u8) {
        if state.taken < self.ceiling {
            state.workers[usize::from(worker)] = Worker::HasChecked;
        } else {
            state.rows[usize::from(worker)].status = Status::Refused;
        }
    }

    /// The amount is reserved and the intent is durable, and marked as sent.
    pub(super) fn insert(&self, state: &mut State, worker: u8) {
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

    pub(super) fn leave(&self, state: &mut State, worker: u8) {
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
    pub(super) fn not_sent(&self, state: &mut State, worker: u8) {
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
    pub(super) fn times_out(&self, state: &mut State, worker: u8) {
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

    // What a worker makes of an answer.

    pub(super) fn learn(&self, state: &mut State, worker: u8) {
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
    pub(super) fn first_may_land(&self) -> bool {
        // Without a key nothing was under way any more when the repeat was sent.
        let keyed = self.repeat != Repeat::AfterQuestion;
        keyed && !self.remembers_declines && self.flaw != Flaw::DeclineOfARepeatIsFinal
    }

    /// Sent again where that is safe; otherwise failed if that is proven; otherwise parked.
    pub(super) fn not_found(
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

    pub(super) fn send_again(&self, state: &mut State, worker: u8, of: u8, lease: u8) {
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
}
