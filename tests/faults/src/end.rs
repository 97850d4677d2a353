//! How a schedule ends: faults off, everything driven to its end, a person for what is parked, and
//! then whatever can still come late.

use std::time::Duration;

use cardless::gateway::{CaseQuery, ResolveAs, ResolveRequest};
use cardless::message::{OperationKind, OperationStatus, Payment, PaymentStatus};
use cardless_contract::Money;
use cardless_sandbox::{EntryKind, OutgoingWebhook};

use crate::plan::{Decision, Seen};
use crate::run::{Arrival, Run};
use crate::world::Broken;

/// How often everything is looked at until nothing is open.
const MAX_ROUNDS: u32 = 120;

/// How far the clock moves between the first looks, between the later ones, and between the last.
const FIRST_ROUND: Duration = Duration::from_secs(400);
const ROUND: Duration = Duration::from_secs(3600);
const LAST_ROUND: Duration = Duration::from_secs(24 * 3600);

/// How many rounds are short, and from which on they are long: together they are longer than the
/// month after which a person must look at a page that is still open.
const FIRST_ROUNDS: u32 = 5;
const LAST_ROUNDS_FROM: u32 = 60;

/// How long a person takes at the end.
const HOURS_AT_THE_END: u64 = 3;

/// How long the resolver works then: what has fallen due meanwhile is looked at.
const WORK: Duration = Duration::from_secs(5);

/// How long the world goes on after everything has ended.
const AFTERWARDS: Duration = Duration::from_secs(60 * 24 * 3600);

impl Run {
    pub(crate) async fn end(&mut self, order: Arrival) -> Result<(), Broken> {
        for index in 0..2 {
            self.world.restart(index).await?;
        }
        self.world.sandbox.clear_faults();
        self.world.seam.clear_late();
        // Providers refuse whoever is off by much.
        if self.world.machine.is_off() {
            self.set_clock(0, Seen::AtWork).await?;
        }
        if order != Arrival::AsPlanned {
            self.in_order(order).await?;
        }
        self.rounds().await?;
        self.resolve_all().await?;
        if order == Arrival::AsPlanned {
            self.late_hands().await?;
        }
        // What a hold has come to without any webhook shows when it is looked at.
        let before = self.world.sandbox.ledger().len();
        self.advance(AFTERWARDS).await;
        self.work(0, WORK).await?;
        self.rounds().await?;
        self.figures.moved_late += u64::from(self.world.sandbox.ledger().len() > before);
        Ok(())
    }

    /// The webhooks of the whole schedule, in an order. A look at everything open stands for those
    /// that never come.
    async fn in_order(&mut self, order: Arrival) -> Result<(), Broken> {
        self.advance(FIRST_ROUND).await;
        let all = self.world.sandbox.take_webhooks();
        for webhook in arranged(all, order) {
            self.deliver(0, webhook).await?;
        }
        self.reconcile(0).await
    }

    async fn rounds(&mut self) -> Result<(), Broken> {
        self.found.open = None;
        for round in 0..MAX_ROUNDS {
            let time = match round {
                0..FIRST_ROUNDS => FIRST_ROUND,
                FIRST_ROUNDS..LAST_ROUNDS_FROM => ROUND,
                _ => LAST_ROUND,
            };
            self.advance(time).await;
            let report = self.world.process(0).gateway.reconcile().await?;
            // What a look has concluded may have opened something else: a last look finds nothing.
            let open = report.looked_at > report.parked;
            self.found.open = open.then(|| format!("{report:?}"));
            if !open {
                break;
            }
        }
        Ok(())
    }

    /// Customers press what they have open, webhooks come that nobody expects, and months go by:
    /// nothing of it may move what has ended.
    async fn late_hands(&mut self) -> Result<(), Broken> {
        let before = self.world.sandbox.ledger().len();
        for (provider, page) in std::mem::take(&mut self.pages) {
            self.world
                .decide(&provider, &page, Decision::Approve)
                .await?;
        }
        self.advance(FIRST_ROUND).await;
        let mut late = std::mem::take(&mut self.lost);
        late.append(&mut self.waiting);
        late.extend(self.world.sandbox.take_webhooks());
        for webhook in arranged(late, Arrival::Shuffled) {
            self.deliver(1, webhook).await?;
        }
        self.figures.moved_late += u64::from(self.world.sandbox.ledger().len() > before);
        Ok(())
    }

    /// A person takes some hours, looks into the provider's back office, and says what is there.
    pub(crate) async fn resolve(&mut self, which: usize, hours: u64) -> Result<(), Broken> {
        let parked = self.parked().await?;
        let picked = which
            .checked_rem(parked.len())
            .and_then(|index| parked.get(index));
        let Some((payment, operation)) = picked.cloned() else {
            return Ok(());
        };
        self.all_look().await?;
        self.advance(Duration::from_secs(hours * 3600)).await;
        self.say(&payment, operation).await
    }

    /// At the end everything that is parked is looked at by a person.
    async fn resolve_all(&mut self) -> Result<(), Broken> {
        let parked = self.parked().await?;
        if parked.is_empty() {
            return Ok(());
        }
        self.advance(Duration::from_secs(HOURS_AT_THE_END * 3600))
            .await;
        for (payment, operation) in parked {
            self.say(&payment, operation).await?;
        }
        self.rounds().await
    }

    /// What is parked: payments, and their operations.
    async fn parked(&mut self) -> Result<Vec<(String, Option<String>)>, Broken> {
        let query = CaseQuery {
            status: Some(PaymentStatus::Parked),
            limit: 100,
            ..CaseQuery::default()
        };
        let gateway = self.world.process(0).gateway.clone();
        let task = tokio::spawn(async move { gateway.cases(&query).await });
        let Some(Ok(page)) = self.answer(0, task).await? else {
            return Ok(Vec::new());
        };
        let mut parked = Vec::new();
        for case in page.data {
            if case.payment.status == PaymentStatus::Parked {
                parked.push((case.payment.id.clone(), None));
            }
            for operation in &case.payment.operations {
                if operation.status == OperationStatus::Parked {
                    parked.push((case.payment.id.clone(), Some(operation.id.clone())));
                }
            }
        }
        Ok(parked)
    }

    /// Ends something parked as the ledger says.
    async fn say(&mut self, payment: &str, operation: Option<String>) -> Result<(), Broken> {
        let Some(row) = self.world.store.payment(payment).await? else {
            return Ok(());
        };
        let (gateway, id) = (self.world.process(0).gateway.clone(), payment.to_owned());
        let task = tokio::spawn(async move { gateway.payment(&id).await });
        let Some(Ok(shown)) = self.answer(0, task).await? else {
            return Ok(());
        };
        let object = row.reservation.unwrap_or_default();
        let end = match &operation {
            None => self.truth(&object, EntryKind::Capture, row.amount, 0),
            Some(id) => self.truth_of(&object, &shown, id),
        };
        let request = ResolveRequest {
            payment: payment.to_owned(),
            operation: operation.clone(),
            end,
            note: "seen in the back office".to_owned(),
            person: "somebody".to_owned(),
        };
        let gateway = self.world.process(0).gateway.clone();
        let task = tokio::spawn(async move { gateway.resolve(&request).await });
        let said = match self.answer(0, task).await? {
            None => "no answer".to_owned(),
            Some(Ok(resolved)) => format!("{:?}", resolved.resolution),
            Some(Err(error)) => format!("{error}"),
        };
        let of = match operation {
            None => &mut self.figures.payments_for_people,
            Some(_) => &mut self.figures.operations_for_people,
        };
        of.asked += 1;
        let what = operation.as_deref().unwrap_or(payment);
        self.note(format!("a person ends {what} as {}: {said}", end.as_str()));
        Ok(())
    }

    /// Whether the ledger has more movements of this kind and amount than `others` account for.
    fn truth(&self, object: &str, kind: EntryKind, amount: Money, others: usize) -> ResolveAs {
        let moved = self
            .world
            .sandbox
            .ledger()
            .iter()
            .filter(|entry| entry.object == object && entry.kind == kind)
            .filter(|entry| kind == EntryKind::Void || entry.amount == amount)
            .count();
        match kind {
            _ if moved <= others => ResolveAs::Failed,
            EntryKind::Refund => ResolveAs::Refunded,
            EntryKind::Void => ResolveAs::Voided,
            EntryKind::Capture | EntryKind::Authorize => ResolveAs::Captured,
        }
    }

    fn truth_of(&self, object: &str, payment: &Payment, id: &str) -> ResolveAs {
        let Some(operation) = payment.operations.iter().find(|one| one.id == id) else {
            return ResolveAs::Failed;
        };
        let others = payment
            .operations
            .iter()
            .filter(|one| one.kind == operation.kind && one.amount == operation.amount)
            .filter(|one| one.status == OperationStatus::Succeeded)
            .count();
        let kind = match operation.kind {
            OperationKind::Capture => EntryKind::Capture,
            OperationKind::Void => EntryKind::Void,
            OperationKind::Refund => EntryKind::Refund,
        };
        self.truth(object, kind, operation.amount, others)
    }
}

fn arranged(mut webhooks: Vec<OutgoingWebhook>, order: Arrival) -> Vec<OutgoingWebhook> {
    match order {
        Arrival::AsPlanned | Arrival::InOrder => webhooks,
        Arrival::Never => Vec::new(),
        Arrival::Reversed => {
            webhooks.reverse();
            webhooks
        }
        Arrival::TwiceEach => webhooks
            .into_iter()
            .flat_map(|one| [one.clone(), one])
            .collect(),
        Arrival::Shuffled => {
            let mut rest = webhooks.split_off(webhooks.len() / 2);
            let mut mixed = Vec::new();
            while let Some(last) = rest.pop() {
                mixed.push(last);
                mixed.extend(webhooks.pop());
            }
            mixed.extend(webhooks);
            mixed
        }
    }
}
