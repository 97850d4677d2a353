//! What the provider does with a payment's requests.

use super::{Arrival, Call, Charge, Object, Reply, Shape, State, Worker};

impl Charge {
    pub(super) fn arrives(&self, state: &mut State, packet: u8, how: Arrival) {
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
        let reviewed = matches!(how, Arrival::UnderReview | Arrival::UnderReviewAndReplyLost);
        let reply = match packet.call {
            Call::Reserve { .. } if declined => Reply::Declined,
            Call::Commit { object } if declined => self.decline(state, object),
            Call::Commit { object } if reviewed => take_under_review(state, object),
            Call::Reserve { key } => self.carry_out_reserve(state, key),
            Call::Commit { object } => carry_out_commit(state, object),
            Call::Void { object } => carry_out_void(state, object),
        };
        if declined || reviewed {
            state.may_decline = false;
        }
        let lost = matches!(
            how,
            Arrival::DoneAndReplyLost
                | Arrival::DeclinedAndReplyLost
                | Arrival::UnderReviewAndReplyLost
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

    pub(super) fn carry_out_reserve(&self, state: &mut State, key: u8) -> Reply {
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
    pub(super) fn decline(&self, state: &mut State, object: u8) -> Reply {
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
    pub(super) fn answer(&self, state: &mut State, worker: u8) {
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
        state.tell(worker, answer);
    }
}

fn carry_out_commit(state: &mut State, object: u8) -> Reply {
    let object = &mut state.objects[usize::from(object)];
    match object {
        Object::Created | Object::Held => *object = Object::Captured,
        Object::Declined => return Reply::Declined,
        Object::UnderReview | Object::Captured | Object::Released => {}
    }
    Reply::Seen(*object)
}

/// The provider takes the commit, and lets somebody look before it takes the money.
fn take_under_review(state: &mut State, object: u8) -> Reply {
    let object = &mut state.objects[usize::from(object)];
    *object = Object::UnderReview;
    Reply::Seen(*object)
}

fn carry_out_void(state: &mut State, object: u8) -> Reply {
    let object = &mut state.objects[usize::from(object)];
    if *object == Object::Held {
        *object = Object::Released;
    }
    Reply::Seen(*object)
}
