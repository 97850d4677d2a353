//! What can happen next to a payment.

use super::{
    Action, Arrival, Call, Charge, FORGETFUL, Flaw, Object, PERSON, Shape, State, Status, Step,
    Word, Worker,
};
use crate::bounds::SEND_WITHIN;

impl Charge {
    /// Things go wrong still.
    pub(super) fn stormy(&self, state: &State) -> bool {
        state.now < self.bounds.faults_until
    }

    pub(super) fn may_fail(&self, state: &State) -> bool {
        self.stormy(state) && state.faults > 0
    }

    pub(super) fn caller_and_webhooks(&self, state: &State, actions: &mut Vec<Action>) {
        let Some(row) = state.row else { return };
        for worker in 0..2 {
            let free = state.workers[usize::from(worker)] == Worker::Idle;
            let open =
                !matches!(row.step, Step::Settled | Step::Closing) && row.status != Status::Parked;
            if state.may_void && free && open && row.lease <= state.clock(worker) {
                actions.push(Action::VoidAsked(worker));
            }
        }
        if state.faults > 0 && row.step != Step::Settled && row.next > state.now {
            actions.push(Action::Webhook);
        }
    }

    /// The provider's people end a review; ours end what is parked.
    pub(super) fn reviewer_and_person(&self, state: &State, actions: &mut Vec<Action>) {
        for (object, standing) in (0..).zip(&state.objects) {
            if *standing == Object::UnderReview {
                actions.extend([true, false].map(|captured| Action::Reviewed { object, captured }));
            }
        }
        let Some(row) = state.row else { return };
        let free = state.workers[usize::from(PERSON)] == Worker::Idle;
        let leased = row.lease > state.clock(PERSON);
        if !state.may_resolve || row.status != Status::Parked || !free || leased {
            return;
        }
        actions.push(Action::Resolve(Word::Captured));
        // Earlier it is refused, since a commit may still be on its way.
        if state.is_quiet(state.clock(PERSON)) || self.flaw == Flaw::ResolveBeforeQuiet {
            actions.push(Action::Resolve(Word::Failed));
        }
    }

    pub(super) fn worker(&self, state: &State, worker: u8, actions: &mut Vec<Action>) {
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
            Worker::Calling { reply: Some(_), .. }
            | Worker::Asking { reply: Some(_), .. }
            | Worker::Resolving { reply: Some(_), .. } => {
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
            Worker::Asking { reply: None, .. } | Worker::Resolving { reply: None, .. } => {
                actions.push(Action::Answered(worker));
                if self.may_fail(state) {
                    actions.push(Action::TimesOut(worker));
                    if self.can_park(state) {
                        actions.push(Action::AnsweredUnmapped(worker));
                    }
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
            let declines = state.may_decline && self.can_decline(state, content.call);
            if declines {
                arrives(Arrival::Declined);
            }
            let reviews = declines && self.can_park(state);
            if reviews {
                arrives(Arrival::UnderReview);
            }
            if self.may_fail(state) {
                arrives(Arrival::DoneAndReplyLost);
                if declines {
                    arrives(Arrival::DeclinedAndReplyLost);
                }
                if reviews {
                    arrives(Arrival::UnderReviewAndReplyLost);
                }
                // Where declines are forgotten, no copy can be harmless (see the crate's docs).
                if self.shape != FORGETFUL {
                    arrives(Arrival::DoneAndComesAgain);
                }
                actions.push(Action::Lost { packet });
            }
        }
    }

    /// Only of an object that is known; the other shapes would park the same way.
    fn can_park(&self, state: &State) -> bool {
        self.shape == Shape::Transaction && state.row.is_some_and(|row| row.object.is_some())
    }

    pub(super) fn can_decline(&self, state: &State, call: Call) -> bool {
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
