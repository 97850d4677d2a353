//! What the provider does with an operation's requests. It does not look at the ceiling.

use super::{Arrival, Flaw, Operations, Packet, Reply, Shows, State, Worker};

impl Operations {
    pub(super) fn arrives(&self, state: &mut State, packet: u8, how: Arrival) {
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

    pub(super) fn carry_out(&self, state: &mut State, packet: Packet, declines: bool) -> Reply {
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
    pub(super) fn answer(&self, state: &mut State, worker: u8) {
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
}
