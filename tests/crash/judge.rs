//! What must be true once everything runs again: the service's books beside the providers' ledger.

use cardless_sandbox::{Entry, EntryKind};
use serde_json::Value;

use crate::operation::Operation;
use crate::world::Answer;

/// All that is left of one payment, and of the call in whose midst the blow fell.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) operation: Operation,
    /// What was answered to the same call under the same key, in order.
    pub(crate) answers: Vec<Answer>,
    /// The link, as the service tells it, if it takes the first payment.
    pub(crate) setup: Option<Value>,
    /// What had moved when the customer had not yet agreed.
    pub(crate) unasked: Vec<Entry>,
    /// How the account's methods stand, in the words of the API.
    pub(crate) methods: Vec<String>,
    /// The account's payments: one at most.
    pub(crate) payments: Vec<Value>,
    pub(crate) ledger: Vec<Entry>,
    /// The last report of `reconcile`.
    pub(crate) reconcile: Value,
    /// What `reconcile --verify` said, if its exit code was not 0.
    pub(crate) verify: Option<String>,
}

/// What moved at the provider.
#[derive(Debug, Default, PartialEq, Eq)]
struct Moved {
    holds: usize,
    releases: usize,
    captures: Vec<i64>,
    refunds: Vec<i64>,
    foreign: bool,
}

/// Every rule that is broken, each as a sentence.
pub(crate) fn judge(evidence: &Evidence) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, sentence: &str| {
        if !holds {
            broken.push(sentence.to_owned());
        }
    };
    let moved = moved(&evidence.ledger);
    rule(moved.captures.len() <= 1, "at most one capture");
    rule(moved.refunds.len() <= 1, "at most one refund");
    rule(moved.holds <= 1, "at most one hold");
    rule(!moved.foreign, "money moves in the currency of the charge");
    rule(evidence.payments.len() <= 1, "at most one payment");
    let nothing = moved.captures.is_empty() && moved.refunds.is_empty() && moved.holds == 0;
    match evidence.payments.first() {
        None => rule(nothing, "nothing moves without a payment"),
        Some(payment) => judge_payment(payment, &moved, &mut rule),
    }
    if evidence.operation == Operation::Revoke {
        let revoked = evidence.methods.iter().all(|status| status == "revoked");
        rule(revoked, "what is to be revoked ends revoked");
    } else {
        let active = evidence.methods.iter().filter(|status| *status == "active");
        rule(active.count() <= 1, "one link makes one method");
    }
    let asked = evidence.unasked.is_empty();
    rule(asked, "nothing moves before the customer agrees");
    if evidence.operation.is_of_a_paid_link() {
        judge_paid_link(evidence, &moved, &mut rule);
    }
    rule(evidence.reconcile["still_open"] == 0, "nothing stays open");
    rule(evidence.reconcile["leased"] == 0, "nothing stays leased");
    rule(
        evidence.reconcile["errors"] == 0,
        "everything can be asked for",
    );
    rule(
        evidence.verify.is_none(),
        "the books and the provider's agree",
    );
    judge_answers(evidence, &mut rule);
    broken
}

fn judge_payment(payment: &Value, moved: &Moved, rule: &mut impl FnMut(bool, &str)) {
    let minor = |name: &str| payment[name]["minor"].as_i64().unwrap_or(-1);
    let captured: i64 = moved.captures.iter().sum();
    let refunded: i64 = moved.refunds.iter().sum();
    rule(
        captured <= minor("amount"),
        "no more is taken than was asked for",
    );
    rule(refunded <= captured, "no more is given back than was taken");
    let operations = payment["operations"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let parked = |one: &Value| one["status"] == "parked";
    if !parked(payment) && !operations.iter().any(parked) {
        rule(
            captured == minor("captured"),
            "captured is what the ledger says",
        );
        rule(
            refunded == minor("refunded"),
            "refunded is what the ledger says",
        );
    }
    let status = payment["status"].as_str().unwrap_or_default();
    match status {
        "captured" => rule(moved.captures.len() == 1, "captured means one capture"),
        "authorized" => {
            let held = moved.holds == 1 && moved.releases == 0;
            rule(held && captured == 0, "authorized means a hold");
        }
        "voided" if payment["reason"] != "expired" => {
            rule(moved.releases == moved.holds, "voided means released");
        }
        _ => {}
    }
    let ended = matches!(status, "declined" | "failed" | "voided");
    rule(
        !ended || captured == 0,
        "declined, failed and voided move nothing",
    );
    let open = matches!(status, "unknown" | "pending" | "action_required");
    rule(!open, "no payment stays open");
    for one in &operations {
        let moved = match one["kind"].as_str() {
            Some("capture") => captured,
            Some("refund") => refunded,
            _ => continue,
        };
        let amount = one["amount"]["minor"].as_i64().unwrap_or(-1);
        match one["status"].as_str() {
            Some("succeeded") => rule(moved == amount, "a success is in the ledger"),
            Some("failed") => rule(moved == 0, "a failure has moved nothing"),
            Some("parked") => {}
            _ => rule(false, "no operation stays open"),
        }
    }
}

/// What the customer paid in the visit that links is paid by the method that it linked; and a link
/// that has failed took nothing.
fn judge_paid_link(evidence: &Evidence, moved: &Moved, rule: &mut impl FnMut(bool, &str)) {
    let Some(setup) = &evidence.setup else {
        rule(false, "the link is known");
        return;
    };
    let payment = evidence.payments.first().cloned().unwrap_or_default();
    let has_method = evidence.methods.iter().any(|status| status == "active");
    let paid = moved.captures.len() == 1;
    match setup["status"].as_str().unwrap_or_default() {
        "completed" => {
            rule(has_method, "a completed link has made a method");
            let same = payment["payment_method"] == setup["payment_method"];
            rule(
                same || !paid,
                "what was paid is of the method that it linked",
            );
        }
        "paid_not_linked" => rule(paid && !has_method, "paid and not linked means both"),
        "declined" | "expired" => {
            let released = moved.holds == moved.releases;
            rule(
                !paid && released && !has_method,
                "a link that failed takes nothing and makes no method",
            );
        }
        _ => rule(false, "no link stays open"),
    }
}

/// What was answered stands: a settled answer comes again byte for byte, and a link keeps its id.
fn judge_answers(evidence: &Evidence, rule: &mut impl FnMut(bool, &str)) {
    for answer in &evidence.answers {
        let busy = answer.status == 409 && answer.json()["code"] == "in_progress";
        // A handle that is revoked is as if it had never been.
        let gone = answer.status == 404 && evidence.operation == Operation::Revoke;
        let fits = answer.status < 400 || busy || gone;
        rule(fits, &format!("a repeat is answered: {answer:?}"));
    }
    if evidence.operation.begins_a_link() {
        let mut ids = evidence.answers.iter().filter(|one| one.is_settled());
        let first = ids.next().map(|one| one.json()["id"].clone());
        let same = ids.all(|one| Some(&one.json()["id"]) == first.as_ref());
        rule(same, "one key begins one link");
        return;
    }
    let settled = evidence.answers.iter().position(Answer::is_settled);
    let later = settled.map_or(&[][..], |at| evidence.answers.get(at..).unwrap_or_default());
    let first = later.first();
    let same = later.iter().all(|one| Some(one) == first);
    rule(same, "the first settled answer comes again byte for byte");
}

fn moved(ledger: &[Entry]) -> Moved {
    let mut moved = Moved::default();
    for entry in ledger {
        moved.foreign |= entry.amount.currency().code() != "CHF";
        let minor = entry.amount.minor();
        match entry.kind {
            EntryKind::Authorize => moved.holds += 1,
            EntryKind::Void => moved.releases += 1,
            EntryKind::Capture => moved.captures.push(minor),
            EntryKind::Refund => moved.refunds.push(minor),
        }
    }
    moved
}

/// The judge is given what must never be before it is believed.
#[cfg(test)]
mod tests {
    use cardless_contract::{Currency, Money, Timestamp};
    use serde_json::json;

    use super::*;

    fn entry(kind: EntryKind, minor: i64) -> Entry {
        Entry {
            provider: "paypal",
            kind,
            amount: Money::new(Currency::from_code("CHF").unwrap(), minor).unwrap(),
            object: "ORDER".to_owned(),
            at: Timestamp::from_seconds(0),
        }
    }

    fn payment(status: &str, captured: i64, refunded: i64, operations: &Value) -> Value {
        json!({
            "amount": { "currency": "CHF", "minor": 4990 },
            "captured": { "currency": "CHF", "minor": captured },
            "refunded": { "currency": "CHF", "minor": refunded },
            "status": status,
            "operations": operations,
        })
    }

    fn good() -> Evidence {
        let answer = Answer {
            status: 201,
            text: "{}".to_owned(),
        };
        Evidence {
            operation: Operation::Charge,
            answers: vec![answer.clone(), answer],
            setup: None,
            unasked: Vec::new(),
            methods: vec!["active".to_owned()],
            payments: vec![payment("captured", 4990, 0, &json!([]))],
            ledger: vec![entry(EntryKind::Capture, 4990)],
            reconcile: json!({ "still_open": 0, "leased": 0, "errors": 0 }),
            verify: None,
        }
    }

    fn good_paid_link() -> Evidence {
        let mut payment = payment("captured", 4990, 0, &json!([]));
        payment["payment_method"] = json!("pm_a");
        Evidence {
            operation: Operation::CompletePaid,
            setup: Some(json!({ "status": "completed", "payment_method": "pm_a" })),
            payments: vec![payment],
            ..good()
        }
    }

    fn paid_link(change: impl FnOnce(&mut Evidence)) -> impl FnOnce(&mut Evidence) {
        |all| {
            *all = good_paid_link();
            change(all);
        }
    }

    fn found(change: impl FnOnce(&mut Evidence)) -> Vec<String> {
        let mut evidence = good();
        change(&mut evidence);
        judge(&evidence)
    }

    #[test]
    fn what_is_right_is_let_through() {
        assert_eq!(judge(&good()), Vec::<String>::new());
        assert_eq!(judge(&good_paid_link()), Vec::<String>::new());
        let not_linked = found(paid_link(|all| {
            all.setup = Some(json!({ "status": "paid_not_linked" }));
            all.methods.clear();
        }));
        assert_eq!(not_linked, Vec::<String>::new());
    }

    #[test]
    fn each_wrong_is_named() {
        type Change = Box<dyn FnOnce(&mut Evidence)>;
        let wrongs: Vec<(&str, Change)> = vec![
            (
                "at most one capture",
                Box::new(|all| {
                    all.ledger.push(entry(EntryKind::Capture, 4990));
                }),
            ),
            (
                "captured is what the ledger says",
                Box::new(|all| {
                    all.ledger = vec![entry(EntryKind::Capture, 4989)];
                }),
            ),
            (
                "captured means one capture",
                Box::new(|all| all.ledger.clear()),
            ),
            (
                "declined, failed and voided move nothing",
                Box::new(|all| {
                    all.payments = vec![payment("failed", 0, 0, &json!([]))];
                }),
            ),
            (
                "voided means released",
                Box::new(|all| {
                    all.ledger = vec![entry(EntryKind::Authorize, 4990)];
                    all.payments = vec![payment("voided", 0, 0, &json!([]))];
                }),
            ),
            (
                "authorized means a hold",
                Box::new(|all| {
                    all.payments = vec![payment("authorized", 0, 0, &json!([]))];
                }),
            ),
            (
                "at most one hold",
                Box::new(|all| {
                    let hold = entry(EntryKind::Authorize, 4990);
                    all.ledger = vec![hold.clone(), hold, entry(EntryKind::Capture, 4990)];
                }),
            ),
            (
                "no more is taken than was asked for",
                Box::new(|all| {
                    all.ledger = vec![entry(EntryKind::Capture, 5000)];
                }),
            ),
            (
                "at most one refund",
                Box::new(|all| {
                    all.ledger.push(entry(EntryKind::Refund, 1000));
                    all.ledger.push(entry(EntryKind::Refund, 1000));
                }),
            ),
            (
                "no more is given back than was taken",
                Box::new(|all| {
                    all.ledger.push(entry(EntryKind::Refund, 5000));
                }),
            ),
            (
                "refunded is what the ledger says",
                Box::new(|all| {
                    all.ledger.push(entry(EntryKind::Refund, 1000));
                }),
            ),
            (
                "a failure has moved nothing",
                Box::new(|all| {
                    all.ledger.push(entry(EntryKind::Refund, 1000));
                    let refund = json!({ "kind": "refund", "status": "failed",
                    "amount": { "currency": "CHF", "minor": 1000 } });
                    all.payments = vec![payment("captured", 4990, 1000, &json!([refund]))];
                }),
            ),
            (
                "a success is in the ledger",
                Box::new(|all| {
                    let refund = json!({ "kind": "refund", "status": "succeeded",
                    "amount": { "currency": "CHF", "minor": 1000 } });
                    all.payments = vec![payment("captured", 4990, 0, &json!([refund]))];
                }),
            ),
            (
                "no operation stays open",
                Box::new(|all| {
                    let refund = json!({ "kind": "refund", "status": "unknown",
                    "amount": { "currency": "CHF", "minor": 1000 } });
                    all.payments = vec![payment("captured", 4990, 0, &json!([refund]))];
                }),
            ),
            (
                "no payment stays open",
                Box::new(|all| {
                    all.payments = vec![payment("unknown", 4990, 0, &json!([]))];
                }),
            ),
            (
                "nothing moves without a payment",
                Box::new(|all| all.payments.clear()),
            ),
            (
                "at most one payment",
                Box::new(|all| {
                    let twin = all.payments[0].clone();
                    all.payments.push(twin);
                }),
            ),
            (
                "nothing stays open",
                Box::new(|all| all.reconcile["still_open"] = json!(1)),
            ),
            (
                "nothing stays leased",
                Box::new(|all| all.reconcile["leased"] = json!(1)),
            ),
            (
                "everything can be asked for",
                Box::new(|all| all.reconcile["errors"] = json!(1)),
            ),
            (
                "the books and the provider's agree",
                Box::new(|all| {
                    all.verify = Some("differ".to_owned());
                }),
            ),
            (
                "the first settled answer comes again byte for byte",
                Box::new(|all| {
                    all.answers[1].text = "{\"status\":\"failed\"}".to_owned();
                }),
            ),
            (
                "one key begins one link",
                Box::new(|all| {
                    all.operation = Operation::Begin;
                    all.answers[0].text = "{\"id\":\"set_a\"}".to_owned();
                    all.answers[1].text = "{\"id\":\"set_b\"}".to_owned();
                }),
            ),
            (
                "what is to be revoked ends revoked",
                Box::new(|all| {
                    all.operation = Operation::Revoke;
                }),
            ),
            (
                "one link makes one method",
                Box::new(|all| {
                    all.methods.push("active".to_owned());
                }),
            ),
            (
                "one key begins one link",
                Box::new(paid_link(|all| {
                    all.operation = Operation::BeginPaid;
                    all.answers[0].text = "{\"id\":\"set_a\"}".to_owned();
                    all.answers[1].text = "{\"id\":\"set_b\"}".to_owned();
                })),
            ),
            (
                "nothing moves before the customer agrees",
                Box::new(|all| {
                    all.operation = Operation::Present;
                    all.unasked = vec![entry(EntryKind::Authorize, 4990)];
                }),
            ),
            (
                "the link is known",
                Box::new(paid_link(|all| all.setup = None)),
            ),
            (
                "no link stays open",
                Box::new(paid_link(|all| {
                    all.setup = Some(json!({ "status": "awaiting_customer" }));
                })),
            ),
            (
                "a completed link has made a method",
                Box::new(paid_link(|all| all.methods.clear())),
            ),
            (
                "what was paid is of the method that it linked",
                Box::new(paid_link(|all| {
                    all.payments[0]["payment_method"] = Value::Null;
                })),
            ),
            (
                "paid and not linked means both",
                Box::new(paid_link(|all| {
                    all.setup = Some(json!({ "status": "paid_not_linked" }));
                })),
            ),
            (
                "a link that failed takes nothing and makes no method",
                Box::new(paid_link(|all| {
                    all.setup = Some(json!({ "status": "expired" }));
                    all.methods.clear();
                })),
            ),
            (
                "a link that failed takes nothing and makes no method",
                Box::new(paid_link(|all| {
                    all.setup = Some(json!({ "status": "declined" }));
                    all.payments = vec![payment("failed", 0, 0, &json!([]))];
                    all.ledger.clear();
                })),
            ),
            (
                "a repeat is answered",
                Box::new(|all| all.answers[1].status = 500),
            ),
        ];
        for (sentence, change) in wrongs {
            let found = found(change);
            assert!(
                found.iter().any(|one| one.starts_with(sentence)),
                "{sentence}: {found:?}"
            );
        }
    }
}
