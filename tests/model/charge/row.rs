//! How a payment's row is written, and what a state tells.

use super::{Call, Charge, Flaw, Object, Packet, Reply, Row, Shape, State, Status, Step, Worker};
use crate::bounds::{COMMIT_WITHIN, LEASE, LONGEST_DELAY, NEVER, WINDOW};

impl Charge {
    pub(super) fn mark(&self, state: &mut State, worker: u8, lease: u8, call: Call, fresh: bool) {
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

    pub(super) fn settle(&self, state: &mut State, worker: u8, lease: u8, status: Status) {
        let silent = status == Status::Voided && self.flaw == Flaw::SilentVoid;
        let sent = self.shape == Shape::Hold && !silent;
        self.settle_with(state, worker, lease, status, sent);
    }

    /// Ends a payment of which no reserve was ever carried out.
    pub(super) fn settle_unreserved(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        status: Status,
    ) {
        self.settle_with(state, worker, lease, status, false);
    }

    pub(super) fn settle_with(
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

    pub(super) fn ask_soon(&self, state: &mut State, worker: u8, lease: u8) {
        let at = state.clock(worker) + 1;
        self.ask_at(state, worker, lease, Status::Unknown, at);
    }

    pub(super) fn ask_at(&self, state: &mut State, worker: u8, lease: u8, status: Status, at: u8) {
        self.write(state, worker, lease, |row| {
            if row.status == Status::Parked {
                // It stays with the person until an answer moves it.
                row.release(Status::Parked, NEVER);
            } else {
                row.release(status, at);
            }
        });
        state.rest(worker);
    }

    /// Leaves it to a person, or back to one.
    pub(super) fn park(&self, state: &mut State, worker: u8, lease: u8) {
        let parked = |row: &mut Row| row.release(Status::Parked, NEVER);
        state.was_parked |= self.write(state, worker, lease, parked);
        state.rest(worker);
    }

    /// Writes by compare-and-set. A row that is another's now is left alone, and so is its driver.
    pub(super) fn write(
        &self,
        state: &mut State,
        worker: u8,
        lease: u8,
        change: impl FnOnce(&mut Row),
    ) -> bool {
        self.write_if(state, worker, lease, false, change)
    }

    pub(super) fn write_if(
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
            let woken = row.next;
            change(row);
            if woken < lease && row.step != Step::Settled {
                // Somebody has asked for a look meanwhile; the wish is kept.
                row.next = row.next.min(woken);
            }
        } else {
            state.rest(worker);
        }
        mine
    }

    /// The provider's key of a reserve, from intent and step.
    pub(super) fn key(&self, state: &mut State, worker: u8) -> u8 {
        if self.flaw == Flaw::KeyPerAttempt {
            state.attempts += 1;
            return state.attempts;
        }
        if matches!(self.flaw, Flaw::KeyPerWorker | Flaw::CommitByAnswer) {
            worker
        } else {
            0
        }
    }
}

impl State {
    pub(super) fn new(skew: [u8; 2], faults: u8) -> Self {
        Self {
            now: 0,
            skew,
            turns: 0,
            row: None,
            settled_as: None,
            workers: [Worker::Idle; 2],
            flight: Vec::new(),
            objects: Vec::new(),
            keys: Vec::new(),
            faults,
            copies: 0,
            may_void: true,
            may_resolve: true,
            may_decline: true,
            was_parked: false,
            attempts: 0,
        }
    }

    pub(super) fn clock(&self, worker: u8) -> u8 {
        self.now + self.skew[usize::from(worker)]
    }

    pub(super) fn is_due(&self, worker: u8) -> bool {
        let now = self.clock(worker);
        self.row
            .is_some_and(|row| row.step != Step::Settled && row.lease <= now && row.next <= now)
    }

    /// Nothing more will happen, unless somebody looks at what is parked.
    pub(super) fn has_ended(&self) -> bool {
        let rests = self.is_parked() || self.row.is_some_and(|row| row.step == Step::Settled);
        rests && self.flight.is_empty() && self.workers == [Worker::Idle; 2]
    }

    /// Nothing more will happen.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() && !self.is_parked()
    }

    /// It waits for a person, and no worker is to look at it.
    pub(super) fn is_parked(&self) -> bool {
        self.row
            .is_some_and(|row| row.status == Status::Parked && row.next == NEVER)
    }

    /// It waits for a person, and time changes nothing any more.
    pub(super) fn waits_for_ever(&self) -> bool {
        let quiet = |worker| self.is_quiet(self.clock(worker));
        self.has_ended() && (0..2).all(quiet)
    }

    /// Nothing that was sent can be on its way at that time.
    pub(super) fn is_quiet(&self, at: u8) -> bool {
        self.row
            .is_none_or(|row| row.last_sent + LONGEST_DELAY <= at)
    }

    pub(super) fn is_settled_as(&self, statuses: &[Status]) -> bool {
        self.row
            .is_some_and(|row| row.step == Step::Settled && statuses.contains(&row.status))
    }

    pub(super) fn holds(&self) -> usize {
        let live = |object: &&Object| {
            matches!(
                object,
                Object::Held | Object::UnderReview | Object::Captured
            )
        };
        self.objects.iter().filter(live).count()
    }

    pub(super) fn moved(&self) -> usize {
        let captured = |object: &&Object| **object == Object::Captured;
        self.objects.iter().filter(captured).count()
    }

    /// A reserve that was never answered may leave a hold; one whose id is in the books may not.
    pub(super) fn tells_of_holds(&self) -> bool {
        let settled = self.row.filter(|row| row.step == Step::Settled);
        let held = [Object::Held, Object::UnderReview];
        let held = held.iter().any(|object| self.objects.contains(object));
        settled.is_none_or(|row| !held || (row.hold_may_remain && row.object.is_none()))
    }

    /// The object that the provider still knows by this key.
    pub(super) fn known(&self, key: u8) -> Option<u8> {
        let fits = |&&(known, _, since): &&(u8, u8, u8)| {
            known == key && self.now.saturating_sub(since) <= WINDOW
        };
        self.keys.iter().find(fits).map(|&(_, object, _)| object)
    }

    pub(super) fn lease(&mut self, worker: u8) -> u8 {
        let until = self.clock(worker) + LEASE;
        if let Some(row) = &mut self.row {
            row.lease = until;
            row.next = until;
        }
        until
    }

    pub(super) fn ask(&mut self, worker: u8, lease: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Asking {
            lease,
            at: self.clock(worker),
            reply: None,
        };
    }

    /// The answer to a worker's question.
    pub(super) fn tell(&mut self, worker: u8, answer: Reply) {
        if let Worker::Asking { reply, .. } | Worker::Resolving { reply, .. } =
            &mut self.workers[usize::from(worker)]
        {
            *reply = Some(answer);
        }
    }

    pub(super) fn rest(&mut self, worker: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Idle;
    }

    /// Nobody waits for the worker's answers any more.
    pub(super) fn silence(&mut self, worker: u8) {
        for packet in &mut self.flight {
            if packet.from == Some(worker) {
                packet.from = None;
            }
        }
    }
}

impl Row {
    pub(super) fn is_too_old(&self, now: u8) -> bool {
        now.saturating_sub(self.created) > COMMIT_WITHIN
    }

    pub(super) fn close(&mut self, status: Status) {
        if self.step != Step::Closing {
            self.step = Step::Closing;
            self.closing_as = status;
        }
    }

    pub(super) fn release(&mut self, status: Status, next: u8) {
        self.status = status;
        self.lease = 0;
        self.next = next;
    }
}

impl Packet {
    pub(super) fn moves_money(&self) -> bool {
        matches!(self.call, Call::Commit { .. })
    }
}
