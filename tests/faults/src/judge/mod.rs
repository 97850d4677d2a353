//! The judges: what a schedule leaves behind, and what each invariant makes of it. They are
//! functions of the evidence alone, so that each can be shown evidence that is known to be wrong.

mod answers;
mod books;
mod events;
mod output;
mod sent;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, BTreeSet};

use cardless::message::{OperationStatus, PaymentStatus};
use cardless::store::{EventRow, MethodRow, OperationRow, PaymentFilter, PaymentRow, SetupRow};
use cardless_sandbox::Entry;

use crate::call::{Made, Reply, Request, perform};
use crate::figures::Figures;
use crate::invariant::{Invariant, Violation};
use crate::run::{KEYS_ARE_KEPT, Run};
use crate::seam::{Glimpse, Sent};
use crate::world::Broken;

/// The most payments that one schedule can make, with room.
const ALL: u32 = 1000;

/// What a schedule leaves behind.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The payments, with their operations.
    pub payments: Vec<(PaymentRow, Vec<OperationRow>)>,
    /// The setups.
    pub setups: Vec<SetupRow>,
    /// The methods.
    pub methods: Vec<MethodRow>,
    /// Everything that moved at the providers.
    pub ledger: Vec<Entry>,
    /// Every state in which an object was ever durable, in order.
    pub history: BTreeMap<String, Vec<Glimpse>>,
    /// PayPal is given the token with the order, so that a reserve holds there.
    pub one_call: bool,
    /// What left.
    pub sent: Vec<Sent>,
    /// Every token that was sealed, with the accounts that it was sealed for.
    pub tokens: BTreeMap<String, BTreeSet<String>>,
    /// The outbox.
    pub events: Vec<EventRow>,
    /// What was found on the way.
    pub found: Found,
    /// Differences that our own comparison with the providers shows.
    pub differences: Vec<String>,
    /// Everything that came out: log lines, errors, events, rows, stored answers.
    pub output: String,
    /// What must not stand in it.
    pub secrets: BTreeSet<(&'static str, String)>,
}

/// What is found while a schedule runs.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Repeats of settled calls.
    pub repeats: Vec<Repeat>,
    /// Calls under a used key with another body, and what they were told.
    pub misused: Vec<(String, String)>,
    /// What a stranger was told of what is another's, and of what never existed.
    pub strangers: Vec<[String; 2]>,
    /// What is still open at the end, if anything is.
    pub open: Option<String>,
    /// A repeat of settled calls has moved money.
    pub repeats_moved: bool,
}

/// A settled call that was made again.
#[derive(Debug, Clone)]
pub struct Repeat {
    /// Its key.
    pub key: String,
    /// The first settled answer, as bytes.
    pub first: String,
    /// The later answer.
    pub again: String,
}

impl Found {
    pub(crate) fn repeat(&mut self, key: &str, first: &str, again: &str) {
        self.repeats.push(Repeat {
            key: key.to_owned(),
            first: first.to_owned(),
            again: again.to_owned(),
        });
    }
}

/// An answer as bytes, and whether it is settled: then every repeat must be equal to it.
pub(crate) fn bytes(reply: &Reply) -> (String, bool) {
    match reply {
        Reply::Payment(answer) => (
            serde_json::to_string(&answer.body).unwrap_or_default(),
            !answer.open && answer.body.status != PaymentStatus::Parked,
        ),
        Reply::Refund(answer) => (
            serde_json::to_string(&answer.body).unwrap_or_default(),
            !answer.open && answer.body.status != OperationStatus::Parked,
        ),
        // A setup's repeat shows how it stands now; the others have no key.
        Reply::Setup(_) | Reply::Done(_) | Reply::Strangers(_) => (String::new(), false),
    }
}

/// What the invariants say of the evidence; counts what they have judged.
pub(crate) fn judge(evidence: &Evidence, figures: &mut Figures) -> Vec<Violation> {
    let mut bench = Bench {
        figures,
        violations: Vec::new(),
    };
    books::judge(evidence, &mut bench);
    sent::judge(evidence, &mut bench);
    answers::judge(evidence, &mut bench);
    watch::judge(evidence, &mut bench);
    events::judge(evidence, &mut bench);
    output::judge(evidence, &mut bench);
    bench.violations
}

/// Where judges say what they find.
struct Bench<'a> {
    figures: &'a mut Figures,
    violations: Vec<Violation>,
}

impl Bench<'_> {
    /// One case of an invariant: `broken` says how it is broken, if it is.
    fn case(&mut self, invariant: Invariant, broken: Option<String>) {
        self.figures.judged(invariant);
        self.violations
            .extend(broken.map(|found| Violation::new(invariant, found)));
    }
}

/// Gathers the evidence, and makes every settled call once more.
pub(crate) async fn gather(run: &mut Run) -> Result<Evidence, Broken> {
    let moved = run.world.sandbox.ledger().len();
    repeat_all(run).await?;
    run.found.repeats_moved = run.world.sandbox.ledger().len() != moved;
    let world = &run.world;
    let filter = PaymentFilter {
        account: None,
        state: None,
        reference: None,
        before: None,
        limit: ALL,
    };
    let mut payments = Vec::new();
    for row in world.store.payments(&filter).await? {
        let operations = world.store.operations(&row.id).await?;
        payments.push((row, operations));
    }
    let history = world.seam.history();
    let (mut setups, mut methods) = (Vec::new(), Vec::new());
    for id in history.keys() {
        setups.extend(world.store.setup(id).await?);
        methods.extend(world.store.method(id).await?);
    }
    let differences = differences(run, &payments).await?;
    let world = &run.world;
    let mut secrets = world.output.secrets();
    let tokens = world.seam.tokens();
    secrets.extend(
        tokens
            .keys()
            .map(|token| ("a provider token", token.clone())),
    );
    let events = world.seam.events();
    let rows = format!(
        "{payments:?}\n{setups:?}\n{methods:?}\n{events:?}\n{}",
        world.seam.answers().join("\n")
    );
    Ok(Evidence {
        ledger: world.sandbox.ledger(),
        one_call: world.one_call,
        sent: world.seam.sent(),
        output: world.output.text() + &rows,
        found: run.found.clone(),
        payments,
        setups,
        methods,
        history,
        tokens,
        events,
        differences,
        secrets,
    })
}

/// Every key once more: the first settled answer comes again. And the same key with another body.
async fn repeat_all(run: &mut Run) -> Result<(), Broken> {
    for made in run.made.clone() {
        let Some(first) = made.settled.clone() else {
            continue;
        };
        if run.world.now().since(made.at) >= KEYS_ARE_KEPT {
            continue;
        }
        let gateway = run.world.process(1).gateway.clone();
        let again = match perform(gateway, made.clone()).await {
            Ok(reply) => bytes(&reply).0,
            Err(error) => format!("{}: {error}", error.code().as_str()),
        };
        run.found.repeat(&made.key, &first, &again);
        if let Request::Pay(mut request) = made.request {
            request.amount.minor += 1;
            let changed = Made {
                request: Request::Pay(request),
                ..made
            };
            let gateway = run.world.process(1).gateway.clone();
            let told = match perform(gateway, changed.clone()).await {
                Ok(reply) => reply.describe(),
                Err(error) => error.code().as_str().to_owned(),
            };
            run.found.misused.push((changed.key, told));
        }
    }
    Ok(())
}

/// What our own comparison shows, of payments that wait for nobody.
async fn differences(
    run: &Run,
    payments: &[(PaymentRow, Vec<OperationRow>)],
) -> Result<Vec<String>, Broken> {
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let gateway = &run.world.process(0).gateway;
        let page = gateway.verify_page(after.as_deref()).await?;
        let waits = |id: &str| {
            payments
                .iter()
                .any(|(row, operations)| row.id == id && books::waits(row, operations))
        };
        let differs = page.report.differences.iter();
        found.extend(
            differs
                .filter(|one| !waits(&one.payment))
                .map(|one| format!("{one:?}")),
        );
        let unread = page.report.unread.iter();
        found.extend(
            unread
                .filter(|one| !waits(&one.payment))
                .map(|one| format!("{one:?}")),
        );
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}
