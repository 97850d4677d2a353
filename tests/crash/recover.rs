//! What is done once everything runs again: by the caller, the customer and the operator.

use std::time::Duration;

use serde_json::Value;

use crate::judge::Evidence;
use crate::operation::{Operation, methods, payments, setup, setup_of};
use crate::world::{Answer, Call, Service, World};

/// What passes between two runs of `reconcile`, in seconds: nothing while another process has the
/// lease, then what a question waits for, then what a person would wait.
#[rustfmt::skip]
const ROUNDS: [u64; 21] =
    [0, 0, 0, 0, 0, 0, 0, 0, 10, 60, 60, 60, 60, 60, 60, 3600, 3600, 6 * 3600, 24 * 3600, 24 * 3600, 0];

/// How many of these pass at first, while a customer's page waits: until what was sent before a start
/// can't be on its way.
const AT_FIRST: usize = 15;

/// What the caller, the customer and the operator do once the service runs again.
pub(crate) async fn recover(
    world: &World,
    service: &Service,
    operation: Operation,
    call: &Call,
    first: Option<Answer>,
) -> Evidence {
    let mut answers: Vec<Answer> = first.into_iter().collect();
    answers.push(world.must(&service.base, call).await);
    // A page waits for a few hours only.
    let rounds = if operation.leads_to_a_page() {
        &ROUNDS[..AT_FIRST]
    } else {
        &ROUNDS[..]
    };
    reconcile(world, rounds).await;
    answers.push(world.must(&service.base, call).await);
    let last = answers.last().unwrap();
    let unasked = operation.finish(world, service, call, last).await;
    if operation.leads_to_a_page() {
        reconcile(world, &ROUNDS).await;
        answers.push(world.must(&service.base, call).await);
    }
    Evidence {
        unasked,
        ..evidence(world, service, operation, answers).await
    }
}

/// Everything that the judge looks at, as it stands now.
pub(crate) async fn evidence(
    world: &World,
    service: &Service,
    operation: Operation,
    answers: Vec<Answer>,
) -> Evidence {
    let reconcile = reconcile(world, &ROUNDS).await;
    let verified = world.verb(&["reconcile", "--verify"]).await;
    let setup = match setup_of(&answers).filter(|_| operation.is_of_a_paid_link()) {
        Some(id) => Some(setup(world, &service.base, &id).await),
        None => None,
    };
    Evidence {
        operation,
        answers,
        setup,
        unasked: Vec::new(),
        methods: methods(world, &service.base)
            .await
            .iter()
            .filter_map(|method| method["status"].as_str().map(str::to_owned))
            .collect(),
        payments: payments(world, &service.base).await,
        ledger: world.ledger(),
        reconcile,
        verify: (!verified.status.success()).then(|| format!("{verified:?}")),
    }
}

/// Runs `reconcile` until nothing is open.
pub(crate) async fn reconcile_fully(world: &World) {
    let report = reconcile(world, &ROUNDS).await;
    assert_eq!(report["still_open"], 0, "{report}");
}

/// Runs `reconcile` until nothing is open, with time passing in between; gives its last report.
async fn reconcile(world: &World, rounds: &[u64]) -> Value {
    let mut report = Value::Null;
    for pause in rounds {
        let output = world.verb(&["reconcile", "--json"]).await;
        assert!(output.status.success(), "{output:?}");
        report = serde_json::from_slice(&output.stdout).unwrap();
        if report["still_open"] == 0 && report["leased"] == 0 && report["errors"] == 0 {
            break;
        }
        world.advance(Duration::from_secs(*pause));
    }
    report
}

/// How the operation ended, in the words of the API.
pub(crate) fn end_of(evidence: &Evidence) -> String {
    let last = evidence.answers.last();
    let text = last.map_or("", |answer| answer.text.as_str());
    match evidence.operation {
        Operation::Begin | Operation::Revoke => evidence.methods.concat(),
        Operation::Complete => {
            let status = text.rsplit_once("status=");
            status.map_or("", |(_, status)| status).to_owned()
        }
        Operation::BeginPaid | Operation::CompletePaid | Operation::ConfirmPaid => {
            let setup = evidence.setup.as_ref().map(|setup| &setup["status"]);
            let setup = setup.and_then(Value::as_str).unwrap_or_default();
            format!("{setup}, {}", payment_end(evidence))
        }
        Operation::Charge
        | Operation::Present
        | Operation::Approved
        | Operation::Authorize
        | Operation::Capture
        | Operation::Void
        | Operation::Refund => payment_end(evidence),
    }
}

fn payment_end(evidence: &Evidence) -> String {
    let payment = evidence.payments.first().cloned().unwrap_or_default();
    let mut end = payment["status"].to_string();
    if let Some(code) = payment["failure"]["code"].as_str() {
        end.push_str(&format!(" ({code})"));
    }
    for one in payment["operations"].as_array().into_iter().flatten() {
        end.push_str(&format!(", {} {}", one["kind"], one["status"]));
    }
    end.replace('"', "")
}
