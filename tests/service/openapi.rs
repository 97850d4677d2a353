use std::collections::BTreeSet;

use cardless::serve::{document, routes};
use serde_json::Value;

#[test]
fn the_document_and_the_router_have_the_same_routes() {
    let routes = routes::all();
    let document = document(&routes);
    let declared: BTreeSet<(String, String)> = routes
        .iter()
        .map(|route| (route.path.to_owned(), route.method.as_str().to_lowercase()))
        .collect();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((path.clone(), method.clone()));
        }
    }
    assert_eq!(declared, described);
    assert_eq!(declared.len(), routes.len(), "a route is declared twice");
}

#[tokio::test]
async fn every_described_route_exists() {
    let desk = crate::support::Desk::new().await;
    for route in routes::all() {
        let path = route.path.replace("{id}", "x").replace("{account}", "x");
        let path = path.replace("{state}", "x").replace("{provider}", "x");
        let request = axum::http::Request::builder()
            .method(route.method.clone())
            .uri(&path);
        let answer = desk
            .send(request.body(axum::body::Body::empty()).unwrap())
            .await;
        // A route that does not exist has its own 404; a known one asks for a key or for a thing.
        assert!(
            !answer.text.contains("/openapi.json."),
            "{} {path}",
            route.method
        );
        assert_ne!(answer.status, 405, "{} {path}", route.method);
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = document(&routes::all());
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let defined: BTreeSet<String> = schemas.keys().cloned().collect();
    assert_eq!(references, defined);
}

fn collect(value: &Value, references: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                references.insert(reference.rsplit('/').next().unwrap().to_owned());
            }
            members
                .values()
                .for_each(|member| collect(member, references));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn operation_ids_are_unique() {
    let routes = routes::all();
    let ids: BTreeSet<&str> = routes.iter().map(|route| route.doc.id).collect();
    assert_eq!(ids.len(), routes.len());
}

/// What the types of the messages write is what their schemas describe, member for member.
#[test]
fn schemas_have_the_members_of_the_messages() {
    let document = document(&routes::all());
    for (schema, sample) in samples() {
        let schema_value = &document["components"]["schemas"][schema];
        let described: BTreeSet<&String> = schema_value["properties"]
            .as_object()
            .unwrap()
            .keys()
            .collect();
        let written: BTreeSet<&String> = sample.as_object().unwrap().keys().collect();
        assert_eq!(described, written, "{schema}");
    }
}

fn samples() -> Vec<(&'static str, Value)> {
    let mut samples = requests();
    samples.extend(answers());
    samples
}

fn requests() -> Vec<(&'static str, Value)> {
    use cardless::message::{
        Amount, Capture, CaptureRequest, Initiator, LinkRequest, MethodUpdate, PayRequest,
        RefundRequest, VoidRequest,
    };
    let text = || "a".to_owned();
    let amount = || Amount::new("CHF", 1);
    let link = LinkRequest {
        account: text(),
        provider: text(),
        return_url: text(),
        language: Some(text()),
        amount: Some(amount()),
        reference: Some(text()),
        capture: Some(Capture::Automatic),
    };
    let pay = PayRequest {
        account: text(),
        payment_method: Some(text()),
        amount: amount(),
        reference: text(),
        capture: Capture::Manual,
        initiator: Initiator::Merchant,
        return_url: Some(text()),
        description: Some(text()),
    };
    let capture = CaptureRequest {
        account: text(),
        amount: Some(amount()),
        last: Some(true),
    };
    vec![
        ("Amount", serde_json::to_value(amount()).unwrap()),
        ("LinkRequest", serde_json::to_value(link).unwrap()),
        ("PayRequest", serde_json::to_value(pay).unwrap()),
        ("CaptureRequest", serde_json::to_value(capture).unwrap()),
        (
            "VoidRequest",
            serde_json::to_value(VoidRequest { account: text() }).unwrap(),
        ),
        (
            "RefundRequest",
            serde_json::to_value(RefundRequest {
                account: text(),
                amount: Some(amount()),
            })
            .unwrap(),
        ),
        (
            "MethodUpdate",
            serde_json::to_value(MethodUpdate {
                account: text(),
                default: true,
            })
            .unwrap(),
        ),
    ]
}

fn answers() -> Vec<(&'static str, Value)> {
    use cardless::message::{
        Decline, Event, EventData, Failure, MethodStatus, Operation, OperationKind,
        OperationStatus, Page, Payment, PaymentMethod, PaymentStatus, Refund, Setup, SetupStatus,
    };
    use cardless_contract::{Currency, Money, ProviderName, Timestamp};
    let text = || "a".to_owned();
    let provider = || ProviderName::new("paypal").unwrap();
    let now = Timestamp::from_seconds(0);
    let money = Money::new(Currency::from_code("CHF").unwrap(), 1).unwrap();
    let decline = || Decline {
        category: text(),
        retry: text(),
        provider_code: text(),
    };
    let failure = || Failure {
        code: text(),
        message: text(),
    };
    let operation = || Operation {
        id: text(),
        kind: OperationKind::Void,
        amount: money,
        status: OperationStatus::Pending,
        failure: Some(failure()),
    };
    let method = PaymentMethod {
        id: text(),
        provider: provider(),
        status: MethodStatus::Active,
        default: true,
        created_at: now,
    };
    let setup = Setup {
        id: text(),
        account: text(),
        provider: provider(),
        status: SetupStatus::Completed,
        redirect_url: Some(text()),
        expires_at: now,
        payment: Some(text()),
        payment_method: Some(text()),
        decline: Some(decline()),
    };
    let payment = Payment {
        id: text(),
        account: text(),
        payment_method: Some(text()),
        provider: provider(),
        reference: text(),
        amount: money,
        captured: money,
        refunded: money,
        reversed: money,
        status: PaymentStatus::Parked,
        decline: Some(decline()),
        failure: Some(failure()),
        reason: Some(text()),
        redirect_url: Some(text()),
        expires_at: Some(now),
        operations: vec![operation()],
        created_at: now,
        updated_at: now,
    };
    let refund = Refund {
        id: text(),
        payment: text(),
        status: OperationStatus::Failed,
        amount: money,
        failure: Some(failure()),
    };
    let data = || EventData {
        account: Some(text()),
        status: text(),
        payment: Some(text()),
        capture: Some(text()),
        void: Some(text()),
        refund: Some(text()),
        setup: Some(text()),
        payment_method: Some(text()),
        replaces: Some(text()),
    };
    let event = Event {
        id: text(),
        kind: text(),
        timestamp: now,
        data: data(),
    };
    let page = Page {
        data: vec![method.clone()],
        next: Some(text()),
    };
    vec![
        ("Decline", serde_json::to_value(decline()).unwrap()),
        ("Failure", serde_json::to_value(failure()).unwrap()),
        ("Operation", serde_json::to_value(operation()).unwrap()),
        ("PaymentMethod", serde_json::to_value(method).unwrap()),
        ("PaymentMethodPage", serde_json::to_value(page).unwrap()),
        ("Setup", serde_json::to_value(setup).unwrap()),
        ("Payment", serde_json::to_value(payment).unwrap()),
        ("Refund", serde_json::to_value(refund).unwrap()),
        ("Event", serde_json::to_value(event).unwrap()),
        ("EventData", serde_json::to_value(data()).unwrap()),
    ]
}
