//! `/openapi.json`: the routes' own declarations, and the schemas of what they take and give.

use axum::http::Method;
use serde_json::{Map, Value, json};

use super::auth::Access;
use super::problem::MEDIA_TYPE;
use super::routes::{Content, Doc, KEYS_MEDIA_TYPE, Route};
use crate::exchange;

/// The OpenAPI 3.1 document of these routes.
pub fn document(routes: &[Route]) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.as_str().to_lowercase(), operation(route));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "cardless",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Charges accounts at PostFinance, PayPal and Aduno, and never holds a card.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "api_key": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route) -> Value {
    let doc = &route.doc;
    let mut operation = json!({
        "operationId": doc.id,
        "summary": doc.summary,
        "parameters": parameters(route),
        "responses": responses(route),
        "security": if route.access == Access::Open { json!([]) } else { json!([{ "api_key": [] }]) },
    });
    if let (Some(body), Some(members)) = (content(doc.body), operation.as_object_mut()) {
        members.insert(
            "requestBody".into(),
            json!({ "required": true, "content": body }),
        );
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let names = route.path.split(['{', '}']).skip(1).step_by(2);
    let path = names.map(|name| parameter(name, "path", true));
    let query = route
        .doc
        .query
        .iter()
        .map(|(name, required)| parameter(name, "query", *required));
    let key = route.doc.keyed.then(|| {
        let mut key = parameter("Idempotency-Key", "header", true);
        if let Some(members) = key.as_object_mut() {
            members.insert("schema".into(), text(1, 255, Some("^[\\x21-\\x7e]+$")));
        }
        key
    });
    path.chain(query).chain(key).collect()
}

fn parameter(name: &str, place: &str, required: bool) -> Value {
    json!({ "name": name, "in": place, "required": required, "schema": { "type": "string" } })
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    for (status, description, body) in route.doc.answers {
        let mut response = json!({ "description": description });
        if let (Some(content), Some(members)) = (content(*body), response.as_object_mut()) {
            members.insert("content".into(), content);
        }
        responses.insert(status.to_string(), response);
    }
    for (status, description) in problems(route.access, &route.method, &route.doc) {
        responses.insert(status.to_owned(), problem(description));
    }
    responses.insert("default".into(), problem("Any other error."));
    Value::Object(responses)
}

/// The errors that a route of this kind can answer.
fn problems(access: Access, method: &Method, doc: &Doc) -> Vec<(&'static str, &'static str)> {
    let mut problems = vec![("422", "Something in the request is not valid.")];
    if access != Access::Open {
        problems.push(("401", "There is no live API key."));
        problems.push(("403", "The client's role does not allow this."));
        problems.push(("404", "There is no such thing for this caller."));
    }
    if doc.keyed {
        problems.push(("409", "The present state does not allow this."));
    }
    if [Method::POST, Method::PATCH, Method::PUT].contains(method) {
        problems.push(("413", "The body is too large."));
        problems.push(("415", "The body is no JSON."));
    }
    problems
}

fn problem(description: &str) -> Value {
    json!({
        "description": description,
        "content": { MEDIA_TYPE: { "schema": reference("Problem") } },
    })
}

fn content(content: Content) -> Option<Value> {
    match content {
        Content::None => None,
        Content::Json(schema) => {
            Some(json!({ "application/json": { "schema": reference(schema) } }))
        }
        Content::AnyJson => Some(json!({ "application/json": { "schema": {} } })),
        Content::Text => Some(json!({ "text/plain": { "schema": { "type": "string" } } })),
        Content::Sealed => {
            Some(json!({ exchange::MEDIA_TYPE: { "schema": { "type": "string" } } }))
        }
        Content::Keys => Some(json!({ KEYS_MEDIA_TYPE: { "schema": {} } })),
        Content::Report => Some(json!({
            "application/json": { "schema": { "type": "object" } },
            "text/html": { "schema": { "type": "string" } },
            "text/markdown": { "schema": { "type": "string" } },
        })),
    }
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in request_schemas().into_iter().chain(answer_schemas()) {
        all.insert(name.to_owned(), schema);
    }
    Value::Object(all)
}

fn request_schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Amount", amount()),
        ("LinkRequest", link_request()),
        ("PayRequest", pay_request()),
        (
            "MethodUpdate",
            object(
                &[
                    ("account", account()),
                    ("default", json!({ "const": true })),
                ],
                &[],
            ),
        ),
        (
            "CaptureRequest",
            object(
                &[("account", account())],
                &[
                    ("amount", reference("Amount")),
                    ("final", json!({ "type": "boolean" })),
                ],
            ),
        ),
        ("ErasureRequest", object(&[], &[])),
        ("RestrictionUpdate", restriction_update()),
        ("VoidRequest", object(&[("account", account())], &[])),
        (
            "RefundRequest",
            object(
                &[("account", account())],
                &[("amount", reference("Amount"))],
            ),
        ),
    ]
}

fn amount() -> Value {
    let minor = json!({ "type": "integer", "format": "int64", "minimum": 0 });
    object(
        &[
            ("currency", text(3, 3, Some("^[A-Z]{3}$"))),
            ("minor", minor),
        ],
        &[],
    )
}

fn link_request() -> Value {
    object(
        &[
            ("account", account()),
            ("provider", any_text()),
            ("return_url", uri()),
        ],
        &[
            ("language", any_text()),
            ("amount", reference("Amount")),
            ("reference", text(1, 255, None)),
            ("capture", capture()),
        ],
    )
}

fn pay_request() -> Value {
    object(
        &[
            ("account", account()),
            ("amount", reference("Amount")),
            ("reference", text(1, 255, None)),
            ("capture", capture()),
            ("initiator", one_of(&["merchant", "customer"])),
        ],
        &[
            ("payment_method", any_text()),
            ("return_url", uri()),
            ("description", text(1, 100, None)),
        ],
    )
}

fn answer_schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Setup", setup()),
        ("PaymentMethod", payment_method()),
        ("PaymentMethodPage", page("PaymentMethod")),
        ("Payment", payment()),
        ("PaymentPage", page("Payment")),
        ("Operation", operation_schema()),
        ("Refund", refund()),
        ("Event", event()),
        ("EventData", event_data()),
        ("EventPage", page("Event")),
        ("AccountExport", account_export()),
        ("Erasure", erasure()),
        ("WaitingFor", waiting_for()),
        ("Restriction", restriction()),
        ("Decline", decline()),
        (
            "Failure",
            object(&[("code", any_text()), ("message", any_text())], &[]),
        ),
        ("Problem", problem_schema()),
    ]
}

fn setup() -> Value {
    let status = [
        "awaiting_customer",
        "completed",
        "declined",
        "expired",
        "unknown",
        "paid_not_linked",
    ];
    object(
        &[
            ("id", any_text()),
            ("account", account()),
            ("provider", any_text()),
            ("status", one_of(&status)),
            ("expires_at", moment()),
        ],
        &[
            ("redirect_url", uri()),
            ("payment", any_text()),
            ("payment_method", any_text()),
            ("decline", reference("Decline")),
        ],
    )
}

fn payment_method() -> Value {
    object(
        &[
            ("id", any_text()),
            ("provider", any_text()),
            ("status", one_of(&["active", "suspended", "revoked"])),
            ("default", json!({ "type": "boolean" })),
            ("created_at", moment()),
        ],
        &[],
    )
}

fn restriction_update() -> Value {
    object(&[("restricted", json!({ "type": "boolean" }))], &[])
}

fn restriction() -> Value {
    let restricted = json!({ "type": "boolean" });
    object(&[("account", account()), ("restricted", restricted)], &[])
}

fn erasure() -> Value {
    let revoked = object(
        &[("provider", any_text()), ("payment_methods", count())],
        &[],
    );
    let counts = |names: &[&str]| {
        let members: Vec<_> = names.iter().map(|name| (*name, count())).collect();
        object(&members, &[])
    };
    let deleted = counts(&[
        "accounts",
        "payment_methods",
        "setups",
        "texts_of_payments",
        "notes",
        "answers_of_idempotency_keys",
    ]);
    object(
        &[
            ("id", any_text()),
            ("status", one_of(&["open", "erased"])),
            ("requested_at", moment()),
            (
                "revoked",
                json!({ "type": "array", "items": revoked.clone() }),
            ),
        ],
        &[
            ("unconfirmed", json!({ "type": "array", "items": revoked })),
            ("erased_at", moment()),
            ("waiting_for", list_of("WaitingFor")),
            ("deleted", deleted),
            ("kept", counts(&["payments", "operations", "events"])),
        ],
    )
}

fn waiting_for() -> Value {
    let kind = one_of(&["payment", "operation", "setup", "payment_method"]);
    object(
        &[("kind", kind), ("id", any_text()), ("status", any_text())],
        &[("next_look_at", moment())],
    )
}

/// What is in the lists grows with what is kept; their items are described by what they are made of.
fn account_export() -> Value {
    let items = json!({ "type": "array", "items": { "type": "object" } });
    object(
        &[
            ("account", account()),
            ("exported_at", moment()),
            ("created_at", moment()),
            ("restricted", json!({ "type": "boolean" })),
            (
                "counts",
                json!({ "type": "object", "additionalProperties": count() }),
            ),
            ("payment_methods", items.clone()),
            ("erasures", list_of("Erasure")),
            ("setups", items.clone()),
            ("payments", items),
            ("events", list_of("Event")),
        ],
        &[],
    )
}

fn list_of(item: &str) -> Value {
    json!({ "type": "array", "items": reference(item) })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn payment() -> Value {
    let status = [
        "action_required",
        "pending",
        "unknown",
        "authorized",
        "captured",
        "declined",
        "failed",
        "voided",
        "parked",
    ];
    let operations = json!({ "type": "array", "items": reference("Operation") });
    object(
        &[
            ("id", any_text()),
            ("account", any_account()),
            ("provider", any_text()),
            ("reference", any_text()),
            ("amount", reference("Amount")),
            ("captured", reference("Amount")),
            ("refunded", reference("Amount")),
            ("reversed", reference("Amount")),
            ("status", one_of(&status)),
            ("operations", operations),
            ("created_at", moment()),
            ("updated_at", moment()),
        ],
        &[
            ("payment_method", any_text()),
            ("decline", reference("Decline")),
            ("failure", reference("Failure")),
            ("reason", any_text()),
            ("redirect_url", uri()),
            ("expires_at", moment()),
        ],
    )
}

fn operation_schema() -> Value {
    object(
        &[
            ("id", any_text()),
            ("kind", one_of(&["capture", "void", "refund"])),
            ("amount", reference("Amount")),
            ("status", operation_status()),
        ],
        &[("failure", reference("Failure"))],
    )
}

fn refund() -> Value {
    object(
        &[
            ("id", any_text()),
            ("payment", any_text()),
            ("status", operation_status()),
            ("amount", reference("Amount")),
        ],
        &[("failure", reference("Failure"))],
    )
}

fn event() -> Value {
    object(
        &[
            ("id", any_text()),
            ("type", any_text()),
            ("timestamp", moment()),
            ("data", reference("EventData")),
        ],
        &[],
    )
}

fn event_data() -> Value {
    object(
        &[("status", any_text())],
        &[
            ("account", account()),
            ("payment", any_text()),
            ("capture", any_text()),
            ("void", any_text()),
            ("refund", any_text()),
            ("setup", any_text()),
            ("payment_method", any_text()),
            ("replaces", any_text()),
        ],
    )
}

fn operation_status() -> Value {
    one_of(&["pending", "unknown", "succeeded", "failed", "parked"])
}

fn decline() -> Value {
    let category = [
        "insufficient_funds",
        "expired",
        "invalid_method",
        "authentication_required",
        "suspected_fraud",
        "limit_exceeded",
        "provider_refused",
        "other",
    ];
    object(
        &[
            ("category", one_of(&category)),
            ("retry", one_of(&["never", "later", "new_method"])),
            ("provider_code", any_text()),
        ],
        &[],
    )
}

fn problem_schema() -> Value {
    object(
        &[
            ("type", any_text()),
            ("title", any_text()),
            ("status", json!({ "type": "integer" })),
            ("code", any_text()),
            ("detail", any_text()),
        ],
        &[("field", any_text())],
    )
}

fn page(item: &str) -> Value {
    object(
        &[("data", json!({ "type": "array", "items": reference(item) }))],
        &[("next", any_text())],
    )
}

fn object(required: &[(&str, Value)], optional: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> = required
        .iter()
        .chain(optional)
        .map(|(name, schema)| ((*name).to_owned(), schema.clone()))
        .collect();
    let required: Vec<&str> = required.iter().map(|(name, _)| *name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn account() -> Value {
    text(1, 64, Some("^[A-Za-z0-9._:-]+$"))
}

/// What an account is called in an answer that may be about one that is erased.
fn any_account() -> Value {
    text(1, 64, Some("^([A-Za-z0-9._:-]+|\\(erased\\))$"))
}

fn text(min: u32, max: u32, pattern: Option<&str>) -> Value {
    let mut schema = json!({ "type": "string", "minLength": min, "maxLength": max });
    if let (Some(pattern), Some(members)) = (pattern, schema.as_object_mut()) {
        members.insert("pattern".into(), json!(pattern));
    }
    schema
}

fn any_text() -> Value {
    json!({ "type": "string" })
}

fn uri() -> Value {
    json!({ "type": "string", "format": "uri" })
}

fn moment() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn capture() -> Value {
    one_of(&["automatic", "manual"])
}

fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}
