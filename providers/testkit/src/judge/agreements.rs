use serde_json::{Value, json};

/// PayPal's billing agreements v1. No published document describes them; this is
/// `providers/paypal.md` §5.7 as OpenAPI paths.
pub(super) fn paths() -> Value {
    json!({
        "/v1/billing-agreements/agreement-tokens": { "post": {
            "requestBody": { "required": true, "content": { "application/json": { "schema": begin() } } },
            "responses": { "201": { "content": { "application/json": { "schema": token() } } } }
        } },
        "/v1/billing-agreements/agreements": { "post": {
            "requestBody": { "required": true, "content": { "application/json": { "schema": complete() } } },
            "responses": { "201": { "content": { "application/json": { "schema": agreement() } } } }
        } },
        "/v1/billing-agreements/agreements/{id}": { "get": {
            "parameters": [agreement_id()],
            "responses": { "200": { "content": { "application/json": { "schema": agreement() } } } }
        } },
        "/v1/billing-agreements/agreements/{id}/cancel": { "post": {
            "parameters": [agreement_id()],
            "requestBody": { "required": false, "content": { "application/json": { "schema": {
                "type": "object", "properties": { "note": { "type": "string", "maxLength": 128 } }
            } } } },
            "responses": { "204": {} }
        } }
    })
}

fn begin() -> Value {
    let text = |max: u32| json!({ "type": "string", "minLength": 1, "maxLength": max });
    json!({
        "type": "object",
        "required": ["payer", "plan"],
        "properties": {
            "description": text(128),
            "payer": {
                "type": "object",
                "required": ["payment_method"],
                "properties": { "payment_method": { "type": "string", "enum": ["PAYPAL"] } }
            },
            "plan": {
                "type": "object",
                "required": ["type", "merchant_preferences"],
                "properties": {
                    "type": { "type": "string", "enum": ["MERCHANT_INITIATED_BILLING"] },
                    "merchant_preferences": {
                        "type": "object",
                        "required": ["return_url", "cancel_url"],
                        "properties": {
                            "return_url": text(1000),
                            "cancel_url": text(1000),
                            "skip_shipping_address": { "type": "boolean" },
                            "accepted_pymt_type": { "type": "string", "enum": ["INSTANT"] }
                        }
                    }
                }
            }
        }
    })
}

fn token() -> Value {
    json!({
        "type": "object",
        "required": ["token_id", "links"],
        "properties": {
            "token_id": { "type": "string", "pattern": "^BA-[A-Z0-9]+$" },
            "links": { "type": "array", "items": {
                "type": "object",
                "required": ["rel", "href"],
                "properties": {
                    "rel": { "type": "string" },
                    "href": { "type": "string" },
                    "method": { "type": "string" }
                }
            } }
        }
    })
}

fn complete() -> Value {
    json!({
        "type": "object",
        "required": ["token_id"],
        "properties": { "token_id": { "type": "string", "pattern": "^BA-[A-Z0-9]+$" } }
    })
}

fn agreement() -> Value {
    json!({
        "type": "object",
        "required": ["id", "state"],
        "properties": {
            "id": { "type": "string", "pattern": "^B-[A-Z0-9]+$" },
            "state": { "type": "string", "pattern": "^[A-Z_]+$" }
        }
    })
}

fn agreement_id() -> Value {
    json!({
        "name": "id", "in": "path", "required": true,
        "schema": { "type": "string", "pattern": "^B-[A-Z0-9]+$" }
    })
}
