//! How much was done and judged, for the closing line.

use std::collections::BTreeMap;

use cardless_sandbox::{EntryKind, Fault};
use serde_json::{Value, json};

use crate::invariant::{INVARIANTS, Invariant};
use crate::judge::Evidence;
use crate::plan::{FAULTS, OPERATIONS, PROVIDERS};
use crate::world::World;

/// What the simulation itself does to a process, beside what the sandbox does.
const OF_OURS: [&str; 4] = ["late", "write_failed", "read_failed", "stood_still"];

/// Counts of one schedule, or of many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Schedules.
    pub schedules: u64,
    /// Callers' calls.
    pub calls: u64,
    /// Requests that could change something at a provider.
    pub sent: u64,
    /// Faults that have befallen a call, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Those of them that the sandbox made, by provider and operation.
    pub operations: BTreeMap<String, u64>,
    /// Processes that died and were started again.
    pub crashes: u64,
    /// Clocks that were set.
    pub clock_steps: u64,
    /// Webhooks that were delivered.
    pub webhooks: u64,
    /// What a person has ended, or tried to.
    pub resolved: u64,
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
    /// Payments and operations that still wait for a person at the end.
    pub parked: u64,
    /// How many cases of each invariant were judged.
    pub judged: BTreeMap<Invariant, u64>,
}

impl Figures {
    pub(crate) fn fault(&mut self, kind: &str, times: u64) {
        *self.faults.entry(kind.to_owned()).or_default() += times;
    }

    /// Where the sandbox's faults are.
    pub(crate) fn at(&mut self, provider: &str, operation: &str, times: u64) {
        let place = place(provider, operation);
        *self.operations.entry(place).or_default() += times;
    }

    /// A fault that is called off before it has befallen all its calls.
    pub(crate) fn fault_waits(&mut self, fault: &Fault) {
        let waits = u64::from(fault.times);
        let operation = fault.operation.as_ref().map(ToString::to_string);
        let place = place(fault.provider.name(), &operation.unwrap_or_default());
        if let Some(count) = self.operations.get_mut(&place) {
            *count = count.saturating_sub(waits);
        }
        let kind = serde_json::to_value(fault.fault).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        if let Some(count) = self.faults.get_mut(kind) {
            *count = count.saturating_sub(waits);
        }
    }

    pub(crate) fn judged(&mut self, invariant: Invariant) {
        *self.judged.entry(invariant).or_default() += 1;
    }

    /// What a schedule has come to at its end.
    pub(crate) fn count(&mut self, world: &World, evidence: &Evidence) {
        self.schedules += 1;
        self.sent += length(evidence.sent.len());
        let befallen = world.befallen();
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
        for (row, operations) in &evidence.payments {
            let parked = operations
                .iter()
                .filter(|one| one.state.as_str() == "parked");
            self.parked += length(parked.count()) + u64::from(row.state.as_str() == "parked");
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
        self.resolved += other.resolved;
        self.moved_late += other.moved_late;
        self.payments += other.payments;
        self.captures += other.captures;
        self.refunds += other.refunds;
        self.holds += other.holds;
        self.parked += other.parked;
        for (kind, count) in &other.faults {
            self.fault(kind, *count);
        }
        for (place, count) in &other.operations {
            *self.operations.entry(place.clone()).or_default() += count;
        }
        for (invariant, count) in &other.judged {
            *self.judged.entry(*invariant).or_default() += count;
        }
    }

    /// What nothing has reached: operations at which no fault has befallen a call, kinds of faults, and
    /// invariants of which no case was judged.
    pub fn unreached(&self) -> Vec<String> {
        let operations = PROVIDERS.into_iter().zip(OPERATIONS);
        let operations = operations
            .flat_map(|(provider, all)| all.iter().map(move |one| place(provider, one)))
            .filter(|place| self.operations.get(place).copied().unwrap_or(0) == 0);
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
            ("cases for a person", self.resolved),
            ("what moves late", self.moved_late),
            ("captures", self.captures),
            ("refunds", self.refunds),
            ("holds", self.holds),
        ];
        let rest = rest.into_iter().filter(|(_, count)| *count == 0);
        let rest = rest.map(|(what, _)| what.to_owned());
        operations
            .chain(kinds)
            .chain(invariants)
            .chain(rest)
            .collect()
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
            format!(
                "{} crashes, {} clocks set, {} cases for a person",
                self.crashes, self.clock_steps, self.resolved
            ),
            format!(
                "{} payments; movements judged: {} captures, {} refunds, {} holds and releases; {} still parked at the end",
                self.payments, self.captures, self.refunds, self.holds, self.parked
            ),
        ];
        for line in INVARIANTS {
            let cases = self.judged.get(&line.invariant).copied().unwrap_or(0);
            let number = format!("{:?}", line.invariant);
            lines.push(format!("{number:<4}{cases:>12} cases  {}", line.sentence));
        }
        lines
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let judged: BTreeMap<String, u64> = self
            .judged
            .iter()
            .map(|(invariant, count)| (format!("{invariant:?}"), *count))
            .collect();
        json!({
            "schedules": self.schedules,
            "calls": self.calls,
            "sent": self.sent,
            "faults": self.faults,
            "operations": self.operations,
            "crashes": self.crashes,
            "clock_steps": self.clock_steps,
            "webhooks": self.webhooks,
            "resolved": self.resolved,
            "payments": self.payments,
            "captures": self.captures,
            "refunds": self.refunds,
            "holds": self.holds,
            "parked": self.parked,
            "judged": judged,
        })
    }
}

fn place(provider: &str, operation: &str) -> String {
    format!("{provider}: {operation}")
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
