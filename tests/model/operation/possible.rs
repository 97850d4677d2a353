//! What can happen next to an operation.

use super::{Action, Arrival, Flaw, Operations, Packet, Repeat, Row, Shows, State, Status, Worker};
use crate::bounds::{SEND_WITHIN, WINDOW};

impl Operations {
    /// Things go wrong still.
    pub(super) fn stormy(&self, state: &State) -> bool {
        state.now < self.bounds.faults_until
    }

    pub(super) fn may_fail(&self, state: &State) -> bool {
        self.stormy(state) && state.faults > 0
    }

    /// Nothing more will happen.
    pub(super) fn has_ended(&self, state: &State) -> bool {
        let ended = |row: &Row| !matches!(row.status, Status::Open | Status::NotAsked);
        let asked = usize::from(self.asked);
        state.rows.iter().take(asked).all(ended)
            && state.flight.is_empty()
            && state.workers == [Worker::Idle; 2]
    }

    /// What cannot be told is parked, unless it can be sent again for ever.
    pub(super) fn can_park(&self) -> bool {
        self.shows != Shows::Itself && self.repeat != Repeat::KeyedForever
    }

    pub(super) fn worker(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
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

    pub(super) fn network(&self, state: &State, actions: &mut Vec<Action>) {
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
    pub(super) fn known(&self, state: &State, packet: &Packet) -> Option<bool> {
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
