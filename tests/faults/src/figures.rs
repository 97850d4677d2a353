//! How much was done and judged, for the closing line.

use std::collections::BTreeMap;

use cardless_sandbox::EntryKind;
use serde_json::{Value, json};

use crate::SCHEDULES;
use crate::invariant::{INVARIANTS, Invariant};
use crate::judge::Evidence;
use crate::plan::{FAULTS, OPERATIONS, PROVIDERS, STAND_FOR_OTHERS};
use crate::seam::{Glimpse, times_into};
use crate::strike::{Effect, NAMELESS};
use crate::world::World;

/// What the simulation itself does to a process, beside what the sandbox does.
const OF_OURS: [&str; 4] = ["late", "write_failed", "read_failed", "stood_still"];

/// One of so many payments may be left to a person, of all that faults have befallen.
const MOST_FOR_PEOPLE: u64 = 20;

/// What people had to look at, of the payments or of their operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForPeople {
    /// How many were ever parked.
    pub parked: u64,
    /// How many of those did not stay it, by an answer or by a person.
    pub left: u64,
    /// How many still are at the end.
    pub remain: u64,
    /// How often a person has ended one, or tried to.
    pub asked: u64,
}

/// Counts of one schedule, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Schedules.
    pub schedules: u64,
    /// Callers' calls.
    pub calls: u64,
    /// Requests that could change something at a provider.
    pub sent: u64,
    /// Faults that have befallen a call of a process, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Those of them that the sandbox made, by provider and operation, and by what became of the call.
    pub struck: BTreeMap<(String, Effect), u64>,
    /// Processes that died and were started again.
    pub crashes: u64,
    /// Clocks that were set.
    pub clock_steps: u64,
    /// Webhooks that were delivered.
    pub webhooks: u64,
    /// Schedules in which customers or webhooks moved something after the end: that none did is
    /// judged by the invariants.
    pub moved_late: u64,
    /// Payments.
    pub payments: u64,
    /// Captures and refunds in the ledger, and how much of each kind.
    pub captures: u64,
    /// See [`Figures::captures`].
    pub refunds: u64,
    /// Holds and their releases.
    pub holds: u64,
    /// Payments that waited for a person.
    pub payments_for_people: ForPeople,
    /// Captures, voids and refunds that did.
    pub operations_for_people: ForPeople,
    /// Methods that were revoked.
    pub revoked: u64,
    /// How many cases of each invariant were judged.
    pub judged: BTreeMap<Invariant, u64>,
}

impl Figures {
    pub(crate) fn fault(&mut self, kind: &str, times: u64) {
        *self.faults.entry(kind.to_owned()).or_default() += times;
    }

    pub(crate) fn judged(&mut self, invariant: Invariant) {
        *self.judged.entry(invariant).or_default() += 1;
    }

    /// What a schedule has come to at its end.
    pub(crate) fn count(&mut self, world: &World, evidence: &Evidence) {
        self.schedules += 1;
        self.sent += length(evidence.sent.len());
        let befallen = world.befallen();
        for strike in world.seam.strikes() {
            let kind = serde_json::to_value(strike.kind).unwrap_or_default();
            self.fault(kind.as_str().unwrap_or_default(), 1);
            let place = place(strike.provider.name(), strike.operation);
            *self
                .struck
                .entry((place, Effect::of(strike.kind)))
                .or_default() += 1;
        }
        self.fault("late", world.seam.late_befallen());
        self.fault("write_failed", befallen.writes_failed);
        self.fault("read_failed", befallen.reads_failed);
        self.fault("stood_still", befallen.pauses);
        self.payments += length(evidence.payments.len());
        for entry in &evidence.ledger {
            match entry.kind {
                EntryKind::Capture => self.captures += 1,
                EntryKind::Refund => self.refunds += 1,
                EntryKind::Authorize | EntryKind::Void => self.holds += 1,
            }
        }
        let glimpses = |id: &str| evidence.history.get(id).map_or(&[][..], Vec::as_slice);
        for (row, operations) in &evidence.payments {
            self.payments_for_people.count(glimpses(&row.id));
            for operation in operations {
                self.operations_for_people.count(glimpses(&operation.id));
            }
        }
        for method in &evidence.methods {
            self.revoked += length(times_into(glimpses(&method.id), "revoked"));
        }
    }

    /// Adds another schedule's.
    pub fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.calls += other.calls;
        self.sent += other.sent;
        self.crashes += other.crashes;
        self.clock_steps += other.clock_steps;
        self.webhooks += other.webhooks;
        self.moved_late += other.moved_late;
        self.payments += other.payments;
        self.captures += other.captures;
        self.refunds += other.refunds;
        self.holds += other.holds;
        self.payments_for_people.add(other.payments_for_people);
        self.operations_for_people.add(other.operations_for_people);
        self.revoked += other.revoked;
        for (kind, count) in &other.faults {
            self.fault(kind, *count);
        }
        for (place, count) in &other.struck {
            *self.struck.entry(place.clone()).or_default() += count;
        }
        for (invariant, count) in &other.judged {
            *self.judged.entry(*invariant).or_default() += count;
        }
    }

    /// Where these figures fall short of what is promised of so many schedules as the ordinary tests
    /// run: what was not reached, or too much that was left to people. Nothing is promised of fewer.
    pub fn falls_short(&self) -> Vec<String> {
        if self.schedules < SCHEDULES {
            return Vec::new();
        }
        let mut short = self.unreached();
        let for_people = self.for_people();
        if for_people * MOST_FOR_PEOPLE >= self.payments {
            let payments = self.payments;
            short.push(format!(
                "too much for people: {for_people} of {payments} payments"
            ));
        }
        short
    }

    /// What nothing has reached: operations of which no call was struck, by a fault that loses its
    /// answer and by one that keeps it from being carried out; kinds of faults; invariants of which no
    /// case was judged; and the rest.
    pub fn unreached(&self) -> Vec<String> {
        let kinds = FAULTS.into_iter().chain(OF_OURS).map(str::to_owned);
        let kinds = kinds.filter(|kind| self.faults.get(kind).copied().unwrap_or(0) == 0);
        let invariants = INVARIANTS.into_iter().map(|line| line.invariant);
        let invariants = invariants
            .filter(|one| self.judged.get(one).copied().unwrap_or(0) == 0)
            .map(|one| format!("{one:?}"));
        let rest = [
            ("crashes", self.crashes),
            ("clocks that are set", self.clock_steps),
            ("webhooks", self.webhooks),
            ("payments that are parked", self.payments_for_people.parked),
            ("parked payments that go on", self.payments_for_people.left),
            ("payments for a person", self.payments_for_people.asked),
            (
                "operations that are parked",
                self.operations_for_people.parked,
            ),
            (
                "parked operations that go on",
                self.operations_for_people.left,
            ),
            ("operations for a person", self.operations_for_people.asked),
            ("methods that are revoked", self.revoked),
            ("what moves late", self.moved_late),
            ("captures", self.captures),
            ("refunds", self.refunds),
            ("holds", self.holds),
        ];
        let rest = rest.into_iter().filter(|(_, count)| *count == 0);
        let rest = rest.map(|(what, _)| what.to_owned());
        self.not_struck()
            .chain(self.without_a_name())
            .chain(kinds)
            .chain(invariants)
            .chain(rest)
            .collect()
    }

    /// Operations of the plan that no fault of either kind has struck.
    fn not_struck(&self) -> impl Iterator<Item = String> {
        let wanted = [Effect::AnswerLost, Effect::NotCarriedOut];
        let operations = PROVIDERS.into_iter().zip(OPERATIONS);
        operations
            .flat_map(|(provider, all)| all.iter().map(move |one| (provider, *one)))
            .filter(|(_, operation)| !STAND_FOR_OTHERS.contains(operation))
            .flat_map(move |(provider, operation)| {
                wanted.map(|effect| (place(provider, operation), effect))
            })
            .filter(|struck| self.struck.get(struck).copied().unwrap_or(0) == 0)
            .map(|(place, effect)| format!("{place}: {}", effect.name()))
    }

    /// Calls that were struck and that the plan has no name of their own for, so that it can set no
    /// fault at them alone.
    fn without_a_name(&self) -> impl Iterator<Item = String> {
        let nameless = |place: &str| {
            let named = place.split_once(": ").map(|(_, operation)| operation);
            named.is_some_and(|one| one == NAMELESS || STAND_FOR_OTHERS.contains(&one))
        };
        let places = self.struck.keys().map(|(place, _)| place);
        places
            .filter(move |place| nameless(place))
            .map(|place| format!("no name of its own: {place}"))
    }

    /// What a person had to look at, be it at the end or before.
    const fn for_people(&self) -> u64 {
        let (payments, operations) = (self.payments_for_people, self.operations_for_people);
        payments.asked + payments.remain + operations.asked + operations.remain
    }

    /// As lines.
    pub fn lines(&self) -> Vec<String> {
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let mut lines = vec![
            format!(
                "{} schedules, {} calls, {} requests that may change something, {} webhooks",
                self.schedules, self.calls, self.sent, self.webhooks
            ),
            format!("faults: {}", faults.join(", ")),
            self.struck_line(),
            format!(
                "{} crashes, {} clocks set, {} schedules in which something moves late",
                self.crashes, self.clock_steps, self.moved_late
            ),
            format!(
                "{} payments; movements judged: {} captures, {} refunds, {} holds and releases",
                self.payments, self.captures, self.refunds, self.holds
            ),
            format!("payments {}", self.payments_for_people.line()),
            format!("operations {}", self.operations_for_people.line()),
            self.share_line(),
            format!("{} methods revoked", self.revoked),
        ];
        for line in INVARIANTS {
            let cases = self.judged.get(&line.invariant).copied().unwrap_or(0);
            let number = format!("{:?}", line.invariant);
            lines.push(format!("{number:<4}{cases:>12} cases  {}", line.sentence));
        }
        lines
    }

    /// How many calls were struck, and which of the plan's names least often.
    fn struck_line(&self) -> String {
        let sum = |effect| -> u64 {
            let struck = self.struck.iter();
            let struck = struck.filter(|((_, of), _)| *of == effect);
            struck.map(|(_, count)| count).sum()
        };
        let sums = Effect::ALL.map(|effect| format!("{} {}", sum(effect), effect.name()));
        let least = self
            .struck
            .iter()
            .filter(|((_, effect), _)| *effect != Effect::Answered)
            .min_by_key(|(_, count)| **count);
        let least = least.map(|((place, effect), count)| {
            format!("; least often {count} {} of {place}", effect.name())
        });
        format!(
            "calls struck: {}{}",
            sums.join(", "),
            least.unwrap_or_default()
        )
    }

    /// What part of the payments was left to people, in tenths of a percent.
    fn share_line(&self) -> String {
        let (for_people, payments) = (self.for_people(), self.payments);
        let share = for_people.saturating_mul(1000) / payments.max(1);
        let (percent, tenth) = (share / 10, share % 10);
        format!("left to people: {for_people} of {payments} payments, {percent}.{tenth} %")
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let judged: BTreeMap<String, u64> = self
            .judged
            .iter()
            .map(|(invariant, count)| (format!("{invariant:?}"), *count))
            .collect();
        let mut struck: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        for ((place, effect), count) in &self.struck {
            let of = struck.entry(place).or_default();
            of.insert(effect.name(), *count);
        }
        json!({
            "schedules": self.schedules,
            "calls": self.calls,
            "sent": self.sent,
            "faults": self.faults,
            "struck": struck,
            "crashes": self.crashes,
            "clock_steps": self.clock_steps,
            "webhooks": self.webhooks,
            "moved_late": self.moved_late,
            "payments": self.payments,
            "captures": self.captures,
            "refunds": self.refunds,
            "holds": self.holds,
            "payments_for_people": self.payments_for_people.to_json(),
            "operations_for_people": self.operations_for_people.to_json(),
            "left_to_people": self.for_people(),
            "revoked": self.revoked,
            "falls_short": self.falls_short(),
            "judged": judged,
        })
    }
}

impl ForPeople {
    /// One more, by its states.
    fn count(&mut self, glimpses: &[Glimpse]) {
        let parked = |glimpse: &Glimpse| glimpse.state == "parked";
        let was = glimpses.iter().position(parked);
        let Some(was) = was else { return };
        self.parked += 1;
        let goes_on = glimpses.iter().skip(was).any(|glimpse| !parked(glimpse));
        self.left += u64::from(goes_on);
        self.remain += u64::from(glimpses.last().is_some_and(parked));
    }

    const fn add(&mut self, other: Self) {
        self.parked += other.parked;
        self.left += other.left;
        self.remain += other.remain;
        self.asked += other.asked;
    }

    fn line(self) -> String {
        format!(
            "that were parked: {}, of which {} went on and {} remain; a person has ended or tried to end {}",
            self.parked, self.left, self.remain, self.asked
        )
    }

    fn to_json(self) -> Value {
        json!({
            "parked": self.parked, "left": self.left, "remain": self.remain, "asked": self.asked,
        })
    }
}

fn place(provider: &str, operation: &str) -> String {
    format!("{provider}: {operation}")
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use cardless_contract::Timestamp;

    use super::*;

    /// As if everything had been reached.
    fn full() -> Figures {
        let people = ForPeople {
            parked: 2,
            left: 1,
            remain: 1,
            asked: 1,
        };
        let mut figures = Figures {
            schedules: SCHEDULES,
            payments: 1000,
            crashes: 1,
            clock_steps: 1,
            webhooks: 1,
            moved_late: 1,
            captures: 1,
            refunds: 1,
            holds: 1,
            revoked: 1,
            payments_for_people: people,
            operations_for_people: people,
            ..Figures::default()
        };
        for kind in FAULTS.into_iter().chain(OF_OURS) {
            figures.fault(kind, 1);
        }
        for line in INVARIANTS {
            figures.judged(line.invariant);
        }
        for (provider, operations) in PROVIDERS.into_iter().zip(OPERATIONS) {
            let own = operations
                .iter()
                .filter(|one| !STAND_FOR_OTHERS.contains(one));
            for operation in own {
                for effect in [Effect::AnswerLost, Effect::NotCarriedOut] {
                    figures
                        .struck
                        .insert((place(provider, operation), effect), 1);
                }
            }
        }
        figures
    }

    /// What falls short once the figures are changed.
    fn short(change: impl FnOnce(&mut Figures)) -> Vec<String> {
        let mut figures = full();
        change(&mut figures);
        figures.falls_short()
    }

    #[test]
    fn a_full_run_falls_short_of_nothing_and_little_is_promised_of_a_short_one() {
        assert_eq!(short(|_| {}), Vec::<String>::new());
        let none = |schedules| Figures {
            schedules,
            ..Figures::default()
        };
        assert_eq!(none(SCHEDULES - 1).falls_short(), Vec::<String>::new());
        assert!(none(SCHEDULES - 1).unreached().len() > 50);
        assert!(none(SCHEDULES).falls_short().len() > 50);
    }

    #[test]
    fn an_operation_that_no_fault_of_either_kind_strikes_is_missed() {
        let refund = place("paypal", "POST /v2/payments/captures/*/refund");
        for effect in [Effect::AnswerLost, Effect::NotCarriedOut] {
            let missed = short(|figures| {
                figures.struck.remove(&(refund.clone(), effect));
                // That it was answered otherwise is neither.
                let answered = (refund.clone(), Effect::Answered);
                figures.struck.insert(answered, 9);
            });
            assert_eq!(missed, [format!("{refund}: {}", effect.name())]);
        }
    }

    #[test]
    fn a_call_without_a_name_of_its_own_is_told() {
        for name in ["POST /v2", NAMELESS] {
            let place = place("paypal", name);
            let told = short(|figures| {
                let struck = (place.clone(), Effect::NotCarriedOut);
                figures.struck.insert(struck, 1);
            });
            assert_eq!(told, [format!("no name of its own: {place}")]);
        }
    }

    #[test]
    fn an_operation_that_waits_for_people_is_no_payment_that_does() {
        let missed = short(|figures| figures.payments_for_people = ForPeople::default());
        let expected = [
            "payments that are parked",
            "parked payments that go on",
            "payments for a person",
        ];
        assert_eq!(missed, expected);
        let missed = short(|figures| figures.payments_for_people.left = 0);
        assert_eq!(missed, ["parked payments that go on"]);
        let missed = short(|figures| figures.operations_for_people = ForPeople::default());
        assert_eq!(missed.len(), 3);
    }

    #[test]
    fn too_much_for_people_is_told() {
        let told = short(|figures| figures.payments = 4 * MOST_FOR_PEOPLE);
        assert_eq!(told, ["too much for people: 4 of 80 payments"]);
    }

    #[test]
    fn what_is_parked_is_counted_by_what_becomes_of_it() {
        let glimpses = |states: &[&'static str]| -> Vec<Glimpse> {
            let glimpse = |state: &&'static str| Glimpse {
                at: Timestamp::from_seconds(0),
                state,
                captured: 0,
                refunded: 0,
            };
            states.iter().map(glimpse).collect()
        };
        for (states, [parked, left, remain]) in [
            (&["unknown", "captured"][..], [0, 0, 0]),
            (&["unknown", "parked"], [1, 0, 1]),
            (&["parked", "captured"], [1, 1, 0]),
            (&["parked", "unknown", "parked"], [1, 1, 1]),
        ] {
            let mut people = ForPeople::default();
            people.count(&glimpses(states));
            let counted = [people.parked, people.left, people.remain];
            assert_eq!(counted, [parked, left, remain], "{states:?}");
        }
    }
}
