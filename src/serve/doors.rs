//! The doors of the service as data: what comes in and what goes out at each, from the routes' own
//! declarations and the schemas of `/openapi.json`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::openapi;
use super::routes::{self, Content, Route};
use crate::gateway::Role;
use crate::scope::Door;

/// How deep members within members are followed.
const MAX_DEPTH: u32 = 6;

/// Every door of the service.
pub fn doors() -> Vec<Door> {
    let routes = routes::all();
    let document = openapi::document(&routes);
    routes.iter().map(|route| door(route, &document)).collect()
}

fn door(route: &Route, document: &Value) -> Door {
    let doc = &route.doc;
    let open = route.access == super::Access::Open;
    let path = route.path.split(['{', '}']).skip(1).step_by(2);
    let mut takes: BTreeSet<String> = path.map(str::to_owned).collect();
    takes.extend(doc.query.iter().map(|(name, _)| (*name).to_owned()));
    if doc.keyed {
        takes.insert("Idempotency-Key".to_owned());
    }
    takes.extend(members(doc.body, document));
    let mut gives = BTreeSet::new();
    for (_, _, content) in doc.answers {
        gives.extend(members(*content, document));
    }
    let lets_in = |role: &Role| !open && route.access.allows(*role);
    Door {
        method: route.method.to_string(),
        path: route.path.to_owned(),
        id: doc.id.to_owned(),
        summary: doc.summary.to_owned(),
        open,
        roles: Role::ALL.into_iter().filter(lets_in).collect(),
        takes: takes.into_iter().collect(),
        gives: gives.into_iter().collect(),
    }
}

/// The members of what a body holds.
fn members(content: Content, document: &Value) -> Vec<String> {
    let mut names = Vec::new();
    match content {
        Content::None => {}
        Content::Json(schema) => {
            let schema = document.pointer(&format!("/components/schemas/{schema}"));
            walk(schema, document, "", MAX_DEPTH, &mut names);
        }
        Content::AnyJson => names.push(Door::WHOLE_BODY.to_owned()),
        Content::Text => names.push(Door::TEXT.to_owned()),
        Content::Sealed => names.push(Door::SEALED.to_owned()),
        Content::Keys => names.push(Door::KEYS.to_owned()),
        Content::Report => names.push(Door::REPORT.to_owned()),
    }
    names
}

fn walk(schema: Option<&Value>, document: &Value, at: &str, depth: u32, names: &mut Vec<String>) {
    let Some(schema) = schema.filter(|_| depth > 0) else {
        return;
    };
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = reference.trim_start_matches('#');
        return walk(document.pointer(pointer), document, at, depth, names);
    }
    for kind in ["anyOf", "oneOf", "allOf"] {
        for inner in schema
            .get(kind)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            walk(Some(inner), document, at, depth - 1, names);
        }
    }
    if let Some(items) = schema.get("items") {
        return walk(Some(items), document, &format!("{at}[]"), depth - 1, names);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        if !at.is_empty() {
            names.push(at.to_owned());
        }
        return;
    };
    for (name, inner) in properties {
        let place = if at.is_empty() {
            name.clone()
        } else {
            format!("{at}.{name}")
        };
        walk(Some(inner), document, &place, depth - 1, names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_says_what_comes_in_and_who_may_come() {
        let doors = doors();
        let door = |id: &str| doors.iter().find(|door| door.id == id).unwrap();
        let pay = door("createPayment");
        assert_eq!(
            (pay.method.as_str(), pay.path.as_str()),
            ("POST", "/v1/payments")
        );
        for name in ["Idempotency-Key", "account", "amount.minor", "reference"] {
            assert!(
                pay.takes.iter().any(|taken| taken == name),
                "{name}: {pay:?}"
            );
        }
        assert!(
            pay.gives
                .iter()
                .any(|given| given == "operations[].amount.currency"),
            "{pay:?}"
        );
        assert_eq!(pay.roles, [Role::Billing]);
        assert_eq!(door("readScope").roles, [Role::Auditor]);
        assert!(door("health").open && door("health").roles.is_empty());
        assert_eq!(doors.len(), routes::all().len());
    }
}
