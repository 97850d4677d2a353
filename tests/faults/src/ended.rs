//! Where a history has ended: its rows without times, versions and names, its events, its ledger.

use std::collections::BTreeMap;

use cardless::store::{OperationRow, PaymentRow, SetupRow};

use crate::world::{Broken, World};

/// What a history has made, in the order of its calls.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) payments: Vec<String>,
    pub(crate) setups: Vec<String>,
    /// Every call's settled answer, once for each process that made it.
    pub(crate) answers: Vec<[String; 2]>,
}

/// An end state; two of one history are to be equal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    rows: Vec<String>,
    /// Kinds and objects, in alphabetical order: one twice would stand here twice.
    events: Vec<String>,
    ledger: Vec<String>,
    /// Calls whose two callers were told different things.
    told_otherwise: usize,
}

#[cfg(test)]
impl End {
    pub(crate) fn differs_everywhere_from(&self, other: &Self) -> bool {
        self.rows != other.rows && self.events != other.events && self.ledger != other.ledger
    }
}

/// Reads where a history has ended; events and ledger from where they stood before it.
pub(crate) async fn end_state(
    world: &World,
    made: &Made,
    event: i64,
    entry: usize,
) -> Result<End, Broken> {
    let mut rows = Vec::new();
    let mut names = BTreeMap::new();
    for (number, id) in made.setups.iter().enumerate() {
        let row = world.store.setup(id).await?.ok_or("no such setup")?;
        names.insert(id.clone(), format!("setup {number}"));
        if let Some(method) = &row.method {
            names.insert(method.clone(), format!("method {number}"));
        }
        rows.push(setup(&row));
    }
    for (number, id) in made.payments.iter().enumerate() {
        let row = world.store.payment(id).await?.ok_or("no such payment")?;
        names.insert(id.clone(), format!("payment {number}"));
        rows.push(payment(&row));
        for (nth, row) in world.store.operations(id).await?.iter().enumerate() {
            names.insert(row.id.clone(), format!("operation {number}.{nth}"));
            rows.push(operation(row));
        }
    }
    let told_otherwise = made.answers.iter().filter(|[one, other]| one != other);
    Ok(End {
        rows,
        events: events(world, event, &names).await?,
        ledger: ledger(world, entry),
        told_otherwise: told_otherwise.count(),
    })
}

fn setup(row: &SetupRow) -> String {
    format!(
        "{:?}, payment {}, method {}, {:?}",
        row.state,
        row.payment.is_some(),
        row.method.is_some(),
        row.decline
    )
}

fn payment(row: &PaymentRow) -> String {
    format!(
        "{:?} {:?} {:?}, method {}, authorized {}, captured {}+{}, refunded {}+{}, reversed {}, \
         objects {} {} {}, {:?} {:?} {:?}, lapses {}",
        row.state,
        row.step,
        row.closing_as,
        row.method.is_some(),
        row.authorized,
        row.captured,
        row.reserved_capture,
        row.refunded,
        row.reserved_refund,
        row.reversed,
        row.reservation.is_some(),
        row.authorization.is_some(),
        row.capture_object.is_some(),
        row.decline,
        row.failure,
        row.reason,
        row.expires_at.is_some(),
    )
}

/// Not whether the provider's own id of it is known: an answer that was lost can take that along
/// (Aduno shows sums, no refunds).
fn operation(row: &OperationRow) -> String {
    format!(
        "{:?} {} {} {:?}, of {}, before {}, {:?}",
        row.kind,
        row.amount,
        row.last,
        row.state,
        row.capture_object.is_some(),
        row.settled_before,
        row.failure,
    )
}

async fn events(
    world: &World,
    after: i64,
    names: &BTreeMap<String, String>,
) -> Result<Vec<String>, Broken> {
    let mut after = after;
    let mut events = Vec::new();
    loop {
        let page = world.store.events(after, 500).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        for (_, event) in page {
            let object = names
                .get(&event.object)
                .map_or("something else", String::as_str);
            events.push(format!("{} of {object}", event.kind));
        }
    }
    events.sort();
    Ok(events)
}

/// What has moved, by objects in the order of their first entry.
fn ledger(world: &World, from: usize) -> Vec<String> {
    let mut objects = Vec::new();
    let mut lines: Vec<String> = world
        .sandbox
        .ledger()
        .into_iter()
        .skip(from)
        .map(|entry| {
            let known = objects.iter().position(|object| *object == entry.object);
            let number = known.unwrap_or_else(|| {
                objects.push(entry.object.clone());
                objects.len() - 1
            });
            format!("object {number}: {:?} {}", entry.kind, entry.amount)
        })
        .collect();
    lines.sort();
    lines
}
