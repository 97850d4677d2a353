//! How an operation's row is written, and what a state tells.

use super::{Flaw, Operations, Row, State, Status, Worker};
use crate::bounds::NEVER;

impl Operations {
    pub(super) fn end(&self, state: &mut State, worker: u8, of: u8, lease: u8, status: Status) {
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

    pub(super) fn ask_soon(&self, state: &mut State, worker: u8, of: u8, lease: u8) {
        let at = state.clock(worker) + 1;
        self.ask_at(state, worker, of, lease, at);
    }

    pub(super) fn ask_at(&self, state: &mut State, worker: u8, of: u8, lease: u8, at: u8) {
        self.write(state, worker, of, lease, |row| {
            row.status = Status::Open;
            row.lease = 0;
            row.next = at;
        });
        state.rest(worker);
    }

    /// Writes by compare-and-set. A row that is another's now is left alone, and so is its driver.
    pub(super) fn write(
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
    pub(super) fn new(skew: [u8; 2], faults: u8) -> Self {
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
            turns: 0,
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

    pub(super) fn row(&self, of: u8) -> &Row {
        &self.rows[usize::from(of)]
    }

    pub(super) fn clock(&self, worker: u8) -> u8 {
        self.now + self.skew[usize::from(worker)]
    }

    pub(super) fn is_due(&self, worker: u8, of: u8) -> bool {
        let now = self.clock(worker);
        let row = self.row(of);
        row.status == Status::Open && row.lease <= now && row.next <= now
    }

    /// Whether each operation's status fits with what the provider did.
    pub(super) fn all(&self, fits: impl Fn(Status, u8) -> bool) -> bool {
        let mut pairs = self.rows.iter().zip(self.moved);
        pairs.all(|(row, moved)| fits(row.status, moved))
    }

    pub(super) fn ask(&mut self, worker: u8, of: u8, lease: u8) {
        self.silence(worker);
        self.workers[usize::from(worker)] = Worker::Asking {
            of,
            lease,
            at: self.clock(worker),
            reply: None,
        };
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
